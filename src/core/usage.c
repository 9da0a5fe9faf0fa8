#include "core/usage.h"

#include <stdio.h>

void model_usage_add(struct model_usage *to, const struct model_usage *m)
{
    to->input_tokens += m->input_tokens;
    to->output_tokens += m->output_tokens;
    to->cache_read_tokens += m->cache_read_tokens;
    to->cache_write_5m_tokens += m->cache_write_5m_tokens;
    to->cache_write_1h_tokens += m->cache_write_1h_tokens;
    to->cost_microusd += m->cost_microusd;
    to->unpriced = to->unpriced || m->unpriced;
    to->estimated = to->estimated || m->estimated;
}

void usage_add(struct session_usage *u, const struct model_usage *m)
{
    u->input_tokens += m->input_tokens;
    u->output_tokens += m->output_tokens;
    u->cache_read_tokens += m->cache_read_tokens;
    u->cache_write_5m_tokens += m->cache_write_5m_tokens;
    u->cache_write_1h_tokens += m->cache_write_1h_tokens;
    u->cost_microusd += m->cost_microusd;
}

int64_t usage_tokens(const struct model_usage *m)
{
    return m->input_tokens + m->output_tokens + m->cache_read_tokens + m->cache_write_5m_tokens +
           m->cache_write_1h_tokens;
}

bool usage_some(const struct model_usage *m)
{
    return usage_tokens(m) || m->cost_microusd;
}

void usage_run(struct session_usage *u, int64_t now_us)
{
    if (u->running_since_us == 0)
        u->running_since_us = now_us;
}

void usage_rest(struct session_usage *u, int64_t now_us)
{
    if (u->running_since_us && now_us > u->running_since_us)
        u->active_us += now_us - u->running_since_us;
    u->running_since_us = 0;
}

double usage_active_seconds(const struct session_usage *u, int64_t now_us)
{
    int64_t us = u->active_us;
    if (u->running_since_us && now_us > u->running_since_us)
        us += now_us - u->running_since_us;
    return (double)us / 1e6;
}

void usage_seconds_write(struct jw *w, double seconds)
{
    char t[40];
    int n = snprintf(t, sizeof t, "%.3f", seconds);
    jw_raw(w, str_n(t, (size_t)n));
}

void usage_money_write(struct jw *w, int64_t cost_microusd)
{
    char cents[24];
    snprintf(cents, sizeof cents, "%lld", (long long)((cost_microusd + 5000) / 10000));
    jw_obj(w);
    jw_kz(w, "amount", cents);
    jw_kz(w, "currency", "USD");
    jw_obj_end(w);
}

void usage_budget_write(struct jw *w, int64_t budget_microusd)
{
    if (budget_microusd <= 0) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    jw_kz(w, "type", "limit");
    jw_key(w, "max_list_cost");
    usage_money_write(w, budget_microusd);
    jw_obj_end(w);
}

void usage_write(struct jw *w, const struct session_usage *u, int64_t now_us)
{
    jw_obj(w);
    jw_ki64(w, "input_tokens", u->input_tokens);
    jw_ki64(w, "output_tokens", u->output_tokens);
    jw_ki64(w, "cache_read_input_tokens", u->cache_read_tokens);
    jw_key(w, "cache_creation");
    jw_obj(w);
    jw_ki64(w, "ephemeral_5m_input_tokens", u->cache_write_5m_tokens);
    jw_ki64(w, "ephemeral_1h_input_tokens", u->cache_write_1h_tokens);
    jw_obj_end(w);
    jw_key(w, "list_cost");
    usage_money_write(w, u->cost_microusd);
    jw_key(w, "active_seconds");
    usage_seconds_write(w, usage_active_seconds(u, now_us));
    jw_key(w, "server_tool_use");
    jw_obj(w);
    jw_ki64(w, "web_search_requests", u->web_searches);
    jw_ki64(w, "web_fetch_requests", 0); /* always, in the published API too */
    jw_obj_end(w);
    jw_obj_end(w);
}

void usage_span_write(struct jw *w, const struct model_usage *m, struct str speed)
{
    jw_obj(w);
    jw_ki64(w, "input_tokens", m->input_tokens);
    jw_ki64(w, "output_tokens", m->output_tokens);
    jw_ki64(w, "cache_creation_input_tokens", m->cache_write_5m_tokens + m->cache_write_1h_tokens);
    jw_ki64(w, "cache_read_input_tokens", m->cache_read_tokens);
    if (str_some(speed))
        jw_kstr(w, "speed", speed);
    if (m->estimated)
        jw_kbool(w, "estimated", true);
    jw_obj_end(w);
}
