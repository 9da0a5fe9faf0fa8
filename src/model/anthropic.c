/* The Messages API: what a request looks like. */
#include "model/anthropic_stream.h"
#include "model/provider.h"

#include "json/writer.h"

enum { BUDGET_MIN_TOKENS = 1024 }; /* the least the API takes */

static int64_t budget_tokens(struct str effort, int64_t max_tokens)
{
    static const struct {
        const char *effort;
        int64_t tokens;
    } budgets[] = {
        {"low", 2048}, {"medium", 8192}, {"high", 16384}, {"xhigh", 32000}, {"max", 48000}};
    int64_t tokens = 0;
    for (size_t i = 0; i < COUNT_OF(budgets); i++) {
        if (str_eqz(effort, budgets[i].effort))
            tokens = budgets[i].tokens;
    }
    /* At least half of the output stays for the answer itself. */
    if (tokens > max_tokens / 2)
        tokens = max_tokens / 2;
    return tokens;
}

static int body(const struct wire_request *r, struct buf *out, struct err *err)
{
    (void)err;
    const struct model_info *info = r->info;
    const struct model_request *req = r->req;
    int64_t max_tokens = req->max_tokens;
    if (max_tokens <= 0)
        max_tokens = info ? info->max_output_tokens : MODEL_UNKNOWN_MAX_OUTPUT;
    else if (info && max_tokens > info->max_output_tokens)
        max_tokens = info->max_output_tokens;
    struct str effort = req->effort;
    if (effort.len == 0)
        effort = str_z(info ? info->default_effort : "high");
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kstr(&w, "model", r->model);
    if (!r->counting) {
        jw_ki64(&w, "max_tokens", max_tokens);
        jw_kbool(&w, "stream", true);
    }
    jw_kraw(&w, "cache_control", STR("{\"type\":\"ephemeral\"}"));
    if (info && strcmp(info->thinking, "adaptive") == 0) {
        jw_kraw(&w, "thinking", STR("{\"type\":\"adaptive\"}"));
        jw_key(&w, "output_config");
        jw_obj(&w);
        jw_kstr(&w, "effort", effort);
        jw_obj_end(&w);
    } else if (info && strcmp(info->thinking, "budget") == 0) {
        int64_t tokens = budget_tokens(effort, max_tokens);
        if (tokens >= BUDGET_MIN_TOKENS) {
            jw_key(&w, "thinking");
            jw_obj(&w);
            jw_kz(&w, "type", "enabled");
            jw_ki64(&w, "budget_tokens", tokens);
            jw_obj_end(&w);
        }
    }
    if (str_eqz(req->speed, "fast"))
        jw_kz(&w, "speed", "fast");
    /* Copied byte for byte: the provider's prompt cache and promise P9 depend on it. */
    if (str_some(req->system))
        jw_kraw(&w, "system", req->system);
    if (str_some(req->tools))
        jw_kraw(&w, "tools", req->tools);
    jw_kraw(&w, "messages", req->messages);
    jw_obj_end(&w);
    return 0;
}

static size_t headers(const char *credential, bool fast, struct http_header *out)
{
    size_t n = 0;
    if (credential)
        out[n++] = (struct http_header){STR("x-api-key"), str_z(credential)};
    out[n++] = (struct http_header){STR("anthropic-version"), STR("2023-06-01")};
    if (fast)
        out[n++] = (struct http_header){STR("anthropic-beta"), STR("fast-mode-2026-02-01")};
    return n;
}

const struct wire anthropic_wire = {
    .type = "anthropic",
    .base_url = "https://api.anthropic.com",
    .version = "",
    .path = "/v1/messages",
    .count_path = "/count_tokens",
    .key_env = "ANTHROPIC_API_KEY",
    .url_env = "ANTHROPIC_BASE_URL",
    .credential = "%s",
    .knows_fast = true,
    .decoder = &anthropic_decoder,
    .body = body,
    .headers = headers,
};
