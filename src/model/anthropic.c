#include "model/provider.h"

#include "base/clock.h"
#include "json/writer.h"
#include "model/anthropic_stream.h"

#include <stdio.h>

enum {
    /* The answer is complete with message_stop. If the provider then keeps the response open, the
     * turn does not wait for it longer than this. */
    LINGER_MS = 100,
    ERROR_BODY_MAX = 256 * 1024,
    BUDGET_MIN_TOKENS = 1024, /* the least the API takes */
};

struct anthropic_call {
    struct model_call base;
    struct anthropic *anthropic;
    const struct model_info *info;
    const struct model_callbacks *cb;
    void *arg;
    struct http_call *http;
    struct loop_timer timer;
    struct anthropic_stream stream;
    bool fast, over, sniffed, json;
    int status;
    int64_t retry_after_ms;
    struct buf body; /* of an error, or of an answer that is not a stream */
};

/* ---- life ---- */

void anthropic_init(struct anthropic *a, const struct model_config *cfg)
{
    struct str base =
        str_z(cfg->anthropic_base_url && cfg->anthropic_base_url[0] ? cfg->anthropic_base_url
                                                                    : "https://api.anthropic.com");
    while (base.len && base.ptr[base.len - 1] == '/')
        base.len--;
    struct buf url = BUF_INIT(64 * 1024);
    buf_str(&url, base);
    buf_z(&url, "/v1/messages");
    a->url = mem_dupz(url.data, url.len);
    buf_fini(&url);
    /* Keys are pasted: a line end at its end would break the header. */
    struct str key = str_trim(str_z(cfg->anthropic_api_key));
    a->key = key.len ? mem_dupz(key.ptr, key.len) : NULL;
    a->connect_ms = cfg->connect_ms ? cfg->connect_ms : LIMIT_MODEL_CONNECT_MS;
    a->first_byte_ms = cfg->first_byte_ms ? cfg->first_byte_ms : LIMIT_MODEL_FIRST_BYTE_MS;
    a->silence_ms = cfg->silence_ms ? cfg->silence_ms : LIMIT_MODEL_SILENCE_MS;
}

void anthropic_fini(struct anthropic *a)
{
    mem_free(a->url);
    if (a->key)
        explicit_bzero(a->key, strlen(a->key));
    mem_free(a->key);
}

static void call_closed(struct loop_timer *timer)
{
    struct anthropic_call *c = CONTAINER_OF(timer, struct anthropic_call, timer);
    anthropic_stream_fini(&c->stream);
    buf_fini(&c->body);
    mem_free(c);
}

/* Nothing is called back from here on. The memory goes when the timer has closed, so that a
 * call-back on the stack below may still look at it. */
static void call_end(struct anthropic_call *c)
{
    if (c->over)
        return;
    c->over = true;
    anthropic_stream_stop(&c->stream);
    if (c->http)
        http_call_cancel(TAKE_PTR(c->http));
    loop_timer_close(&c->timer, call_closed);
}

static void call_cancel(struct model_call *base)
{
    call_end(CONTAINER_OF(base, struct anthropic_call, base));
}

/* ---- outcome ---- */

/* A gateway may quote the credential it refused. */
static void redact(struct model_failure *f, const char *key)
{
    size_t len = key ? strlen(key) : 0;
    for (char *at = f->message; len >= 4 && (at = strstr(at, key)); at++)
        memset(at, '*', len);
}

static void price(const struct anthropic_call *c, struct model_usage *usage)
{
    model_price_of(c->info, usage);
    if (c->fast || c->stream.fast) { /* fast mode has a list of its own that nobody has stated */
        usage->cost_microusd = 0;
        usage->unpriced = true;
    }
}

static void report_failure(struct anthropic_call *c)
{
    struct model_failure f = c->stream.failure;
    f.http_status = c->status >= 300 ? c->status : 0;
    f.usage = c->stream.usage;
    f.retry_after_ms = c->retry_after_ms;
    price(c, &f.usage);
    redact(&f, c->anthropic->key);
    const struct model_callbacks *cb = c->cb;
    void *arg = c->arg;
    call_end(c);
    cb->failed(arg, &f);
}

static void report(struct anthropic_call *c)
{
    if (c->over)
        return;
    if (c->stream.state != ANTHROPIC_DONE) {
        report_failure(c);
        return;
    }
    struct model_result r = c->stream.result;
    price(c, &r.usage);
    const struct model_callbacks *cb = c->cb;
    void *arg = c->arg;
    call_end(c); /* the views live until the timer's close call-back */
    cb->done(arg, &r);
}

static void on_timer(struct loop_timer *timer)
{
    report(CONTAINER_OF(timer, struct anthropic_call, timer));
}

static void fail(struct anthropic_call *c, enum model_error_kind kind, const char *message)
{
    if (anthropic_stream_over(&c->stream))
        return;
    c->stream.state = ANTHROPIC_FAILED;
    c->stream.failure.kind = kind;
    anthropic_error_text(&c->stream.failure, "%s", message);
}

/* ---- http ---- */

static void on_head(void *arg, int status, const struct http_header *headers, size_t n)
{
    struct anthropic_call *c = arg;
    c->status = status;
    struct str type = http_header_get(headers, n, "content-type");
    if (str_find(type, STR("json")) >= 0) {
        c->sniffed = c->json = true;
    } else if (str_find(type, STR("event-stream")) >= 0) {
        c->sniffed = true;
    }
    if (status >= 400)
        c->retry_after_ms =
            anthropic_retry_after(http_header_get(headers, n, "retry-after-ms"),
                                  http_header_get(headers, n, "retry-after"), clock_unix_us());
}

static void on_data(void *arg, struct str piece)
{
    struct anthropic_call *c = arg;
    if (c->status < 200 || c->status >= 300) {
        /* What is over the bound is dropped: an error needs no more. */
        buf_str(&c->body, str_take(piece, ERROR_BODY_MAX - c->body.len));
        return;
    }
    if (!c->sniffed) { /* a gateway that names no content type */
        struct str seen = str_trim(piece);
        if (seen.len == 0)
            return;
        c->json = seen.ptr[0] == '{';
        c->sniffed = true;
    }
    if (c->json) {
        buf_str(&c->body, piece);
        return;
    }
    anthropic_stream_feed(&c->stream, piece);
    if (!c->over && anthropic_stream_over(&c->stream))
        loop_timer_start(&c->timer, LINGER_MS, on_timer);
}

static void on_done(void *arg, const struct err *err)
{
    struct anthropic_call *c = arg;
    c->http = NULL;
    if (anthropic_stream_over(&c->stream)) {
        /* The outcome is known; how the connection ended does not matter. */
    } else if (c->status == 0) {
        char text[ERR_MSG_MAX + 96];
        snprintf(text, sizeof text,
                 "the model provider cannot be reached: %.150s; check the network and "
                 "ANTHROPIC_BASE_URL",
                 err->code ? err->msg : "it sent no response");
        fail(c, MODEL_ERR_FAILED, text);
    } else if (c->status < 200 || c->status >= 300) {
        c->stream.state = ANTHROPIC_FAILED;
        anthropic_error_body(&c->stream.failure, c->status, buf_view(&c->body));
    } else if (c->json && err->code == 0) {
        anthropic_stream_message(&c->stream, buf_view(&c->body));
    } else {
        anthropic_stream_end(&c->stream, err->code ? err->msg : NULL);
    }
    report(c);
}

/* ---- request ---- */

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

void anthropic_body(const struct model_info *info, const struct model_request *req, struct buf *out)
{
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
    jw_kstr(&w, "model", req->model);
    jw_ki64(&w, "max_tokens", max_tokens);
    jw_kbool(&w, "stream", true);
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
}

static void call_send(struct anthropic_call *c, const struct model_request *req)
{
    struct anthropic *a = c->anthropic;
    AUTO_BUF struct buf body = BUF_INIT(LIMIT_PROMPT);
    anthropic_body(c->info, req, &body);
    if (!buf_ok(&body)) {
        fail(c, MODEL_ERR_CONTEXT, "the request is too long; the conversation must become shorter");
        return;
    }
    struct http_header headers[7] = {
        {STR("x-api-key"), str_z(a->key)},
        {STR("anthropic-version"), STR("2023-06-01")},
        {STR("content-type"), STR("application/json")},
        {STR("accept"), STR("text/event-stream")},
        {STR("user-agent"), STR("ostler/" OSTLER_VERSION)},
    };
    size_t n = 5;
    if (c->fast)
        headers[n++] = (struct http_header){STR("anthropic-beta"), STR("fast-mode-2026-02-01")};
    const struct http_call_params params = {.method = "POST",
                                            .url = a->url,
                                            .headers = headers,
                                            .nheaders = n,
                                            .body = buf_view(&body),
                                            .connect_ms = a->connect_ms,
                                            .first_byte_ms = a->first_byte_ms,
                                            .silence_ms = a->silence_ms,
                                            .max_response = LIMIT_MODEL_RESPONSE,
                                            .on_head = on_head,
                                            .on_data = on_data,
                                            .on_done = on_done,
                                            .arg = c};
    struct err err;
    c->http = http_call_start(a->http, &params, &err);
    if (!c->http) {
        char text[ERR_MSG_MAX + 64];
        snprintf(text, sizeof text,
                 "the request cannot be sent: %.130s; check ANTHROPIC_BASE_URL and "
                 "ANTHROPIC_API_KEY",
                 err.msg);
        fail(c, MODEL_ERR_REQUEST, text);
    }
}

struct model_call *anthropic_start(struct anthropic *a, const struct model_request *req,
                                   const struct model_callbacks *cb, void *arg)
{
    struct anthropic_call *c = mem_zalloc(sizeof *c);
    c->base.cancel = call_cancel;
    c->anthropic = a;
    c->info = model_table_find(a->table, req->model);
    c->cb = cb;
    c->arg = arg;
    c->fast = str_eqz(req->speed, "fast");
    buf_init(&c->body, LIMIT_MODEL_RESPONSE);
    anthropic_stream_init(&c->stream, cb, arg);
    loop_timer_init(a->loop, &c->timer);
    if (a->key)
        call_send(c, req);
    else
        fail(c, MODEL_ERR_AUTH,
             "no key for the Anthropic API is configured; set ANTHROPIC_API_KEY and restart the "
             "server, or use a scripted model such as script/demo");
    if (anthropic_stream_over(&c->stream)) /* never from inside start */
        loop_timer_start(&c->timer, 0, on_timer);
    return &c->base;
}
