/* One call over HTTP, whatever the protocol: waits at the gate, sends, reads, reports once. */
#include "model/provider.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    /* The answer is complete with its last event. If the provider then keeps the response open,
     * the turn does not wait for it longer than this. */
    LINGER_MS = 100,
    /* It is complete, but for a count of tokens and a closing mark that may or may not come. */
    TRAILER_MS = 2000,
    ERROR_BODY_MAX = 256 * 1024,
    URL_MAX = 64 * 1024,
    BYTES_PER_TOKEN = 4,
    MEDIA_TOKENS = 1000, /* an image or a file: by far not what its base64 text would be */
    MEDIA_BYTES = 1024,  /* a run of base64 longer than this is one */
};

struct wire_call {
    struct model_call base;
    struct provider *provider;
    const struct model_info *info;
    const struct model_callbacks *cb;
    void *arg;
    struct http_call *http;
    struct loop_timer timer;
    struct gate_wait wait;
    struct answer answer;
    bool fast, over, sniffed, json;
    int status;
    int64_t retry_after_ms;
    int64_t prompt_tokens; /* estimated */
    struct buf request;    /* until it is sent */
    struct buf body;       /* of an error, or of an answer that is not a stream */
};

/* ---- providers ---- */

const struct wire *wire_by_type(const char *type)
{
    static const struct wire *const wires[] = {&anthropic_wire, &openai_wire};
    for (size_t i = 0; i < COUNT_OF(wires); i++) {
        if (strcmp(type, wires[i]->type) == 0)
            return wires[i];
    }
    return NULL;
}

static char *dup_or(const char *text, const char *otherwise)
{
    const char *z = text && text[0] ? text : otherwise;
    return z ? mem_dupz(z, strlen(z)) : NULL;
}

static char *make_url(const struct wire *wire, struct str base, const char *behind_path)
{
    while (base.len && base.ptr[base.len - 1] == '/')
        base.len--;
    ptrdiff_t host = str_find(base, STR("://"));
    struct str behind = host < 0 ? base : str_skip(base, (size_t)host + 3);
    AUTO_BUF struct buf url = BUF_INIT(URL_MAX);
    buf_str(&url, base);
    if (str_find_ch(behind, '/') < 0)
        buf_z(&url, wire->version);
    buf_z(&url, wire->path);
    buf_z(&url, behind_path);
    return buf_ok(&url) ? mem_dupz(url.data, url.len) : mem_dupz("", 0);
}

void provider_init(struct provider *p, struct loop *l, struct http_client *http,
                   const struct wire *wire, const struct model_provider_config *cfg)
{
    bool own = cfg->base_url && cfg->base_url[0];
    char setting[128];
    *p = (struct provider){.wire = wire, .loop = l, .http = http, .published = !own};
    p->name = dup_or(cfg->name, wire->type);
    struct str base = str_z(own ? cfg->base_url : wire->base_url);
    p->url = make_url(wire, base, "");
    p->count_url = wire->count_path ? make_url(wire, base, wire->count_path) : NULL;
    bool usual = strcmp(p->name, wire->type) == 0;
    snprintf(setting, sizeof setting, "providers.%.60s.api_key_env", p->name);
    p->key_name = dup_or(cfg->key_name, usual ? wire->key_env : setting);
    snprintf(setting, sizeof setting, "providers.%.60s.base_url", p->name);
    p->url_name = dup_or(NULL, usual ? wire->url_env : setting);
    /* Keys are pasted: a line end at its end would break the header. */
    struct str key = str_trim(str_z(cfg->api_key));
    if (key.len) {
        size_t room = key.len + strlen(wire->credential) + 1;
        p->key = mem_dupz(key.ptr, key.len);
        p->credential = mem_alloc(room);
        const char *slot = strstr(wire->credential, "%s");
        snprintf(p->credential, room, "%.*s%s", (int)(slot - wire->credential), wire->credential,
                 p->key);
    }
    p->names = (struct failure_names){p->key_name, p->url_name, p->key};
    p->default_model = dup_or(cfg->default_model, NULL);
    p->connect_ms = cfg->connect_ms ? cfg->connect_ms : LIMIT_MODEL_CONNECT_MS;
    p->first_byte_ms = cfg->first_byte_ms ? cfg->first_byte_ms : LIMIT_MODEL_FIRST_BYTE_MS;
    p->silence_ms = cfg->silence_ms ? cfg->silence_ms : LIMIT_MODEL_SILENCE_MS;
    p->gate = gate_new(l, &(struct gate_limits){cfg->max_concurrent, cfg->requests_per_minute,
                                                cfg->tokens_per_minute});
}

static void free_secret(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    mem_free(secret);
}

void provider_fini(struct provider *p)
{
    gate_free(p->gate);
    mem_free(p->name);
    mem_free(p->url);
    mem_free(p->count_url);
    mem_free(p->key_name);
    mem_free(p->url_name);
    mem_free(p->default_model);
    free_secret(p->key);
    free_secret(p->credential);
}

bool provider_usable(const struct provider *p)
{
    return p->key || !p->published;
}

static bool is_base64(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/' || c == '=';
}

int64_t wire_estimate(struct str json)
{
    int64_t text = 0, media = 0;
    for (size_t i = 0, run = 0; i <= json.len; i++) {
        if (i < json.len && is_base64(json.ptr[i])) {
            run++;
            continue;
        }
        if (run > MEDIA_BYTES)
            media += MEDIA_TOKENS;
        else
            text += (int64_t)run;
        text += i < json.len;
        run = 0;
    }
    return (text + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN + media;
}

/* ---- life of a call ---- */

static int64_t tokens_used(const struct wire_call *c)
{
    const struct model_usage *u = &c->answer.usage;
    if (!c->answer.usage_known)
        return c->status >= 300 ? 0 : -1; /* refused, or the estimate stands */
    return u->input_tokens + u->output_tokens + u->cache_write_5m_tokens +
           u->cache_write_1h_tokens + (c->provider->wire->reads_count ? u->cache_read_tokens : 0);
}

static void call_closed(struct loop_timer *timer)
{
    struct wire_call *c = CONTAINER_OF(timer, struct wire_call, timer);
    answer_fini(&c->answer);
    buf_fini(&c->request);
    buf_fini(&c->body);
    mem_free(c);
}

/* Nothing is called back from here on. The memory goes when the timer has closed, so that a
 * call-back on the stack below may still look at it. */
static void call_end(struct wire_call *c)
{
    if (c->over)
        return;
    c->over = true;
    answer_stop(&c->answer);
    if (c->http)
        http_call_cancel(TAKE_PTR(c->http));
    loop_timer_close(&c->timer, call_closed);
    gate_leave(c->provider->gate, &c->wait, tokens_used(c));
}

static void call_cancel(struct model_call *base)
{
    call_end(CONTAINER_OF(base, struct wire_call, base));
}

/* ---- outcome ---- */

/* A provider may quote the credential it refused. */
static void redact(struct model_failure *f, const char *key)
{
    size_t len = key ? strlen(key) : 0;
    for (char *at = f->message; len >= 4 && (at = strstr(at, key)); at++)
        memset(at, '*', len);
}

static void price(const struct wire_call *c, struct model_usage *u)
{
    model_price_of(c->info, u);
    if (c->fast || c->answer.fast) { /* it has a list of its own that nobody has stated */
        u->cost_microusd = 0;
        u->unpriced = true;
    }
}

/* The count may be missing. An answer that never began has cost nothing. */
static struct model_usage usage_of(const struct wire_call *c)
{
    const struct answer *s = &c->answer;
    struct model_usage u = s->usage;
    if (!s->usage_known && (s->state == ANSWER_DONE || s->said_bytes)) {
        u.input_tokens = c->prompt_tokens;
        u.output_tokens = (int64_t)(s->said_bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
        u.estimated = true;
    }
    price(c, &u);
    return u;
}

/* Of a call that is about to be cancelled: the provider bills the prompt once it has it, and what
 * it said; its counts may not have come yet. */
static void call_partial(const struct model_call *base, struct model_usage *out)
{
    const struct wire_call *c = CONTAINER_OF(base, struct wire_call, base);
    const struct answer *s = &c->answer;
    int64_t said = (int64_t)(s->said_bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
    struct model_usage u = s->usage;
    if (!s->usage_known && c->http)
        u.input_tokens = c->prompt_tokens;
    if (u.output_tokens < said)
        u.output_tokens = said;
    u.estimated = u.input_tokens > 0 || u.output_tokens > 0;
    price(c, &u);
    *out = u;
}

static void report(struct wire_call *c)
{
    if (c->over)
        return;
    const struct model_callbacks *cb = c->cb;
    void *arg = c->arg;
    struct model_usage usage = usage_of(c);
    if (c->answer.state == ANSWER_DONE) {
        struct model_result r = c->answer.result;
        r.usage = usage;
        call_end(c); /* the views live until the timer's close call-back */
        cb->done(arg, &r);
        return;
    }
    struct model_failure f = c->answer.failure;
    f.http_status = c->status >= 300 ? c->status : 0;
    f.usage = usage;
    f.retry_after_ms = c->retry_after_ms;
    redact(&f, c->provider->key);
    call_end(c);
    cb->failed(arg, &f);
}

static void on_timer(struct loop_timer *timer)
{
    struct wire_call *c = CONTAINER_OF(timer, struct wire_call, timer);
    answer_end(&c->answer, NULL);
    report(c);
}

static void fail(struct wire_call *c, enum model_error_kind kind, const char *fmt, ...)
    PRINTF(3, 4);

static void fail(struct wire_call *c, enum model_error_kind kind, const char *fmt, ...)
{
    if (answer_over(&c->answer))
        return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->answer.state = ANSWER_FAILED;
    c->answer.failure.kind = kind;
    failure_text(&c->answer.failure, "%s", text);
}

/* ---- http ---- */

static void on_head(void *arg, int status, const struct http_header *headers, size_t n)
{
    struct wire_call *c = arg;
    c->status = status;
    struct str type = http_header_get(headers, n, "content-type");
    c->json = str_find(type, STR("json")) >= 0;
    c->sniffed = str_find(type, STR("event-stream")) >= 0;
    if (status >= 400)
        c->retry_after_ms =
            failure_retry_after(http_header_get(headers, n, "retry-after-ms"),
                                http_header_get(headers, n, "retry-after"), clock_unix_us());
}

static void on_data(void *arg, struct str piece)
{
    struct wire_call *c = arg;
    if (c->status < 200 || c->status >= 300) {
        /* What is over the bound is dropped: an error needs no more. */
        buf_str(&c->body, str_take(piece, ERROR_BODY_MAX - c->body.len));
        return;
    }
    if (!c->sniffed) { /* a gateway may name no content type, or the wrong one */
        struct str seen = str_trim(piece);
        if (seen.len == 0)
            return;
        bool event = str_find_ch(STR("de:"), seen.ptr[0]) >= 0; /* data, event, a comment */
        c->json = seen.ptr[0] == '{' || (c->json && !event);
        c->sniffed = true;
    }
    if (c->json) {
        buf_str(&c->body, piece);
        return;
    }
    answer_feed(&c->answer, piece);
    if (c->over)
        return;
    if (answer_over(&c->answer))
        loop_timer_start(&c->timer, LINGER_MS, on_timer);
    else if (answer_settled(&c->answer))
        loop_timer_start(&c->timer, TRAILER_MS, on_timer);
}

static void on_done(void *arg, const struct err *err)
{
    struct wire_call *c = arg;
    c->http = NULL;
    /* Silence, not a broken connection. */
    bool silent = err->code == ERR_TIMEOUT && !answer_over(&c->answer);
    if (answer_over(&c->answer)) {
        /* The outcome is known; how the connection ended does not matter. */
    } else if (c->status == 0) {
        fail(c, MODEL_ERR_FAILED,
             "the model provider cannot be reached: %.140s; check the network and %.80s",
             err->code ? err->msg : "it sent no response", c->provider->url_name);
    } else if (c->status < 200 || c->status >= 300) {
        c->answer.state = ANSWER_FAILED;
        failure_body(&c->answer.failure, c->answer.names, c->status, buf_view(&c->body));
    } else if (c->json && err->code == 0) {
        answer_message(&c->answer, buf_view(&c->body));
    } else {
        answer_end(&c->answer, err->code ? err->msg : NULL);
    }
    c->answer.failure.timed_out = silent && c->answer.failure.kind == MODEL_ERR_FAILED;
    report(c);
}

/* ---- sending ---- */

static void transmit(struct wire_call *c)
{
    struct provider *p = c->provider;
    struct http_header headers[WIRE_HEADERS_MAX] = {
        {STR("content-type"), STR("application/json")},
        {STR("accept"), STR("text/event-stream")},
        {STR("user-agent"), STR("ostler/" OSTLER_VERSION)},
    };
    const struct http_call_params params = {
        .method = "POST",
        .url = p->url,
        .headers = headers,
        .nheaders = 3 + p->wire->headers(p->credential, c->fast, headers + 3),
        .body = buf_view(&c->request),
        .connect_ms = p->connect_ms,
        .first_byte_ms = p->first_byte_ms,
        .silence_ms = p->silence_ms,
        .max_response = LIMIT_MODEL_RESPONSE,
        .on_head = on_head,
        .on_data = on_data,
        .on_done = on_done,
        .arg = c};
    struct err err;
    c->http = http_call_start(p->http, &params, &err);
    buf_fini(&c->request);
    if (!c->http) {
        fail(c, MODEL_ERR_REQUEST, "the request cannot be sent: %.100s; check %.60s and %.60s",
             err.msg, p->url_name, p->key_name);
        loop_timer_start(&c->timer, 0, on_timer); /* never from inside start */
    }
}

static void on_go(struct gate_wait *wait)
{
    transmit(CONTAINER_OF(wait, struct wire_call, wait));
}

/* The body is made now, not when the gate opens: the request may not outlive a change of heart of
 * its owner, and a copy of the conversation is what it would take to keep it. */
static bool make_body(struct wire_call *c, const struct wire_request *r)
{
    const struct provider *p = c->provider;
    struct err err;
    if (!p->key && p->published) {
        fail(c, MODEL_ERR_AUTH,
             "no key for the provider %.60s is configured; set %.60s and restart the server, or "
             "use a scripted model such as script/demo",
             p->name, p->key_name);
        return false;
    }
    int rc = p->wire->body(r, &c->request, &err);
    if ((rc == 0 && !buf_ok(&c->request)) || rc == ERR_LIMIT)
        fail(c, MODEL_ERR_CONTEXT, "the request is too long; the conversation must become shorter");
    else if (rc)
        fail(c, MODEL_ERR_REQUEST, "the conversation is damaged: %.200s", err.msg);
    else
        c->prompt_tokens = wire_estimate(buf_view(&c->request));
    return !answer_over(&c->answer);
}

struct model_call *wire_start(struct provider *p, const struct wire_request *r,
                              const struct model_callbacks *cb, void *arg)
{
    struct wire_call *c = mem_zalloc(sizeof *c);
    c->base.cancel = call_cancel;
    c->base.partial = call_partial;
    c->provider = p;
    c->info = r->info;
    c->cb = cb;
    c->arg = arg;
    c->fast = p->wire->knows_fast && str_eqz(r->req->speed, "fast");
    buf_init(&c->request, LIMIT_PROMPT);
    buf_init(&c->body, LIMIT_MODEL_RESPONSE);
    answer_init(&c->answer, p->wire->decoder, cb, arg);
    c->answer.names = &p->names;
    loop_timer_init(p->loop, &c->timer);
    if (!make_body(c, r))
        loop_timer_start(&c->timer, 0, on_timer); /* never from inside start */
    else if (gate_enter(p->gate, &c->wait, r->req->session_id, c->prompt_tokens, on_go))
        transmit(c);
    return &c->base;
}
