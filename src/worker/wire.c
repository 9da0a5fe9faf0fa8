#include "worker/wire.h"

#include "base/rand.h"

enum { BODY_MAX = 16 * 1024 * 1024, ERROR_ARENA = 4 * 1024 * 1024, MESSAGE_MAX = 200 };

void wire_call_init(struct wire_call *c, struct wire *w, const char *bearer)
{
    *c = (struct wire_call){.wire = w, .bearer = bearer};
    buf_init(&c->body, 0);
}

void wire_cancel(struct wire_call *c)
{
    if (c->http)
        http_call_cancel(TAKE_PTR(c->http));
}

void wire_call_fini(struct wire_call *c)
{
    wire_cancel(c);
    buf_fini(&c->body);
}

static int code_of(int status)
{
    switch (status) {
    case 401: return ERR_AUTH;
    case 403: return ERR_PERMISSION;
    case 404: return ERR_NOT_FOUND;
    case 409: return ERR_CONFLICT;
    case 412: return ERR_FENCED;
    case 413: return ERR_TOO_LARGE;
    case 429: return ERR_RATE_LIMIT;
    case 503: return ERR_UNAVAILABLE;
    default: return status / 100 == 4 ? ERR_INVALID : ERR_INTERNAL;
    }
}

int wire_error(int status, struct str body, struct err *err)
{
    AUTO_ARENA struct arena a;
    const struct json *doc = NULL;
    arena_init(&a, ERROR_ARENA);
    if (json_parse(&a, body, JSON_ALLOW_DUPLICATES, &doc, NULL) != 0)
        doc = NULL;
    struct str says = str_utf8_take(json_get_str(json_get(doc, "error"), "message"), MESSAGE_MAX);
    return err_set(err, code_of(status), "the server answered %d%s" STR_FMT, status,
                   says.len ? ": " : "", STR_ARG(says));
}

static void on_head(void *arg, int status, const struct http_header *headers, size_t n)
{
    struct wire_call *c = arg;
    (void)headers;
    (void)n;
    c->status = status;
}

static void on_data(void *arg, struct str piece)
{
    struct wire_call *c = arg;
    buf_str(&c->body, piece);
}

static void on_done(void *arg, const struct err *err)
{
    struct wire_call *c = arg;
    struct err why = *err;
    c->http = NULL;
    if (why.code)
        c->status = 0; /* half an answer is none */
    else if (c->status / 100 != 2)
        wire_error(c->status, buf_view(&c->body), &why);
    c->done(c, &why);
}

size_t wire_headers(const struct wire *w, const char *bearer, struct buf *authorization,
                    struct http_header h[WIRE_HEADERS])
{
    size_t n = 0;
    buf_printf(authorization, "Bearer %s", bearer ? bearer : w->key);
    h[n++] = (struct http_header){STR("authorization"), buf_view(authorization)};
    h[n++] = (struct http_header){STR("anthropic-version"), STR("2023-06-01")};
    h[n++] = (struct http_header){STR("anthropic-worker-id"), str_z(w->name)};
    h[n++] = (struct http_header){STR("user-agent"), STR("ostler-worker/" OSTLER_VERSION)};
    return n;
}

void wire_send(struct wire_call *c, const struct wire_request *r,
               void (*done)(struct wire_call *c, const struct err *err))
{
    AUTO_BUF struct buf url = BUF_INIT(8192);
    AUTO_BUF struct buf authorization = BUF_INIT(4096);
    struct http_header headers[WIRE_HEADERS];
    buf_z(&url, c->wire->base);
    buf_str(&url, r->path);
    size_t n = wire_headers(c->wire, c->bearer, &authorization, headers);
    headers[n++] =
        (struct http_header){STR("anthropic-beta"), str_starts(r->path, STR("/v1/skills"))
                                                        ? STR("skills-2025-10-02")
                                                        : STR("managed-agents-2026-04-01")};
    if (str_some(r->body))
        headers[n++] = (struct http_header){STR("content-type"), STR("application/json")};
    if (r->idempotency_key)
        headers[n++] = (struct http_header){STR("idempotency-key"), str_z(r->idempotency_key)};
    uint64_t max = r->max_response ? r->max_response : BODY_MAX;
    struct http_call_params p = {
        .method = r->method,
        .url = url.data,
        .headers = headers,
        .nheaders = n,
        .body = r->body,
        .connect_ms = WIRE_CONNECT_MS,
        .first_byte_ms = r->first_byte_ms ? r->first_byte_ms : WIRE_SILENCE_MS,
        .silence_ms = WIRE_SILENCE_MS,
        .max_response = max,
        .on_head = on_head,
        .on_data = on_data,
        .on_done = on_done,
        .arg = c,
    };
    buf_fini(&c->body);
    buf_init(&c->body, (size_t)max + 1);
    c->status = 0;
    c->done = done;
    struct err err = {0};
    c->http =
        buf_ok(&url) && buf_ok(&authorization) ? http_call_start(c->wire->http, &p, &err) : NULL;
    if (!c->http)
        c->done(c,
                err.code ? &err : &(struct err){.code = ERR_LIMIT, .msg = "the URL is too long"});
}

void wire_work_path(struct buf *b, const struct wire *w, const char *work_id, const char *verb)
{
    buf_z(b, "/v1/environments/");
    http_encode(b, str_z(w->environment));
    buf_z(b, "/work/");
    http_encode(b, str_z(work_id));
    buf_printf(b, "/%s", verb);
}

int64_t wire_backoff(unsigned attempt, int64_t min_ms, int64_t max_ms)
{
    int64_t ms = min_ms;
    while (attempt-- && ms < max_ms)
        ms *= 2;
    if (ms > max_ms)
        ms = max_ms;
    return ms - (int64_t)(rand_u64() % ((uint64_t)ms / 2 + 1));
}
