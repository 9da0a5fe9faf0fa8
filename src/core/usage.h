/* usage: what a session has consumed so far: tokens, money, time. A value; pure. */
#ifndef OSTLER_CORE_USAGE_H
#define OSTLER_CORE_USAGE_H

#include "core/ports.h"
#include "json/writer.h"

struct session_usage {
    int64_t input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens,
        cache_write_1h_tokens;
    int64_t cost_microusd;
    int64_t active_us;        /* finished stretches of running */
    int64_t running_since_us; /* 0: not running */
    int64_t model_requests;
    int64_t turns; /* that ran to their end */
    /* Reservations of requests whose end nobody saw (the process died): they may have been billed,
     * so they count against a budget, but they are no known cost. */
    int64_t held_microusd;
    int64_t web_searches; /* that were answered */
};

/* Of several requests together. */
void model_usage_add(struct model_usage *to, const struct model_usage *m);
void usage_add(struct session_usage *u, const struct model_usage *m);
/* Of one request: prompt and answer, from a cache or not. */
int64_t usage_tokens(const struct model_usage *m);
/* Something was used: it is worth a line in the books. */
bool usage_some(const struct model_usage *m);
/* A stretch of running begins and ends; calling either twice is harmless. */
void usage_run(struct session_usage *u, int64_t now_us);
void usage_rest(struct session_usage *u, int64_t now_us);
/* Seconds of running, the open stretch included. */
double usage_active_seconds(const struct session_usage *u, int64_t now_us);

/* The wire's usage object (BetaManagedAgentsSessionUsage). list_cost is rounded to whole cents. */
void usage_write(struct jw *w, const struct session_usage *u, int64_t now_us);
/* {"amount":"3","currency":"USD"} */
void usage_money_write(struct jw *w, int64_t cost_microusd);
/* A budget as sessions and session.usage show it (BetaManagedAgentsBudgetLimit); 0: null. */
void usage_budget_write(struct jw *w, int64_t budget_microusd);
/* A span's model_usage object (BetaManagedAgentsSpanModelUsage); `speed` absent: left out;
 * `estimated` only where it is true. */
void usage_span_write(struct jw *w, const struct model_usage *m, struct str speed);

/* Seconds with millisecond precision as a JSON number: 1.25 */
void usage_seconds_write(struct jw *w, double seconds);

#endif
