#include "cli/client.h"

#include "base/fd.h"
#include "base/rand.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    RESPONSE_MAX = 256 * 1024 * 1024,
    RETRY_MIN_MS = 50,
    RETRY_MAX_MS = 1000,
    CONNECT_MS = 5000,
};

int client_open(struct client *c, struct loop *l, const char *base, const struct apikey *key,
                struct err *err)
{
    *c = (struct client){.loop = l, .key = *key, .patience_ms = 2000};
    struct str s = str_z(base);
    while (s.len && s.ptr[s.len - 1] == '/')
        s.len--;
    bool scheme = str_starts(s, STR("http://")) || str_starts(s, STR("https://"));
    if (!scheme || !str_copyz(c->base, sizeof c->base, s))
        return err_at(err, ERR_INVALID, "--server",
                      "'%s' is not a server's URL; write http://HOST:PORT", base);
    c->http = http_client_new(l);
    return 0;
}

int client_open_found(struct client *c, struct loop *l, const char *base, const char *data,
                      struct err *err)
{
    struct apikey key = {""};
    struct err no_key;
    int missing = apikey_find(data, &key, &no_key);
    int rc = client_open(c, l, base, &key, err);
    if (rc || !missing)
        return rc;
    AUTO_BUF struct buf answer = BUF_INIT(64 * 1024);
    struct client_request probe = {.method = "GET", .path = "/healthz"};
    rc = client_send(c, &probe, &answer, err);
    if (rc == ERR_CONNECT)
        return rc;
    *err = no_key;
    return missing;
}

static void http_closed(void *arg)
{
    struct client *c = arg;
    c->http = NULL;
    loop_stop(c->loop);
}

void client_close(struct client *c)
{
    if (!c->http)
        return;
    http_client_close(c->http, http_closed, c);
    while (c->http)
        loop_run(c->loop);
}

size_t client_headers(const struct client *c, struct http_header h[CLIENT_HEADERS])
{
    h[0] = (struct http_header){STR("x-api-key"), str_z(c->key.z)};
    h[1] = (struct http_header){STR("anthropic-version"), STR("2023-06-01")};
    h[2] = (struct http_header){STR("anthropic-beta"), STR("managed-agents-2026-04-01")};
    h[3] = (struct http_header){STR("user-agent"), STR("ostler-cli/" OSTLER_VERSION)};
    return CLIENT_HEADERS;
}

static int code_of_status(int status)
{
    switch (status) {
    case 401: return ERR_AUTH;
    case 403: return ERR_PERMISSION;
    case 404: return ERR_NOT_FOUND;
    case 409: return ERR_CONFLICT;
    case 413: return ERR_TOO_LARGE;
    case 429: return ERR_RATE_LIMIT;
    case 503: return ERR_UNAVAILABLE;
    case 507: return ERR_NO_SPACE;
    case 529: return ERR_OVERLOADED;
    default: return status >= 500 ? ERR_INTERNAL : ERR_INVALID;
    }
}

int client_error(int status, struct str body, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 1024 * 1024);
    const struct json *doc = NULL;
    struct err ignored;
    if (body.len > 64 * 1024 || json_parse(&a, body, JSON_ALLOW_DUPLICATES, &doc, &ignored))
        doc = NULL;
    struct str msg = json_get_str(json_get(doc, "error"), "message");
    int code = code_of_status(status);
    const char *remedy = status == 401 ? " (set OSTLER_API_KEY to a key of this server; "
                                         "`ostler keys create` makes one)"
                                       : "";
    if (str_some(msg))
        return err_set(err, code, "the server answered %d: " STR_FMT "%s", status, STR_ARG(msg),
                       remedy);
    return err_set(err, code, "the server answered %d without saying why%s", status, remedy);
}

/* ---- one exchange ---- */

struct exchange {
    struct client *client;
    const struct client_request *request;
    struct buf *out;
    struct buf error_body;
    struct loop_timer retry;
    int status;
    bool done;
    struct err err;
};

static void on_head(void *arg, int status, const struct http_header *headers, size_t n)
{
    struct exchange *x = arg;
    (void)headers;
    (void)n;
    x->status = status;
}

static void on_data(void *arg, struct str piece)
{
    struct exchange *x = arg;
    if (x->status / 100 != 2)
        buf_str(&x->error_body, piece);
    else if (!x->request->to_file)
        buf_str(x->out, piece);
    else if (!x->err.code && fd_write_all(x->request->out_fd, piece, &x->err))
        return; /* kept in x->err; the rest of the body is read and dropped */
}

static void on_done(void *arg, const struct err *err)
{
    struct exchange *x = arg;
    x->done = true;
    if (err->code)
        x->err = *err;
    loop_stop(x->client->loop);
}

static void exchange_once(struct exchange *x, const char *idempotency_key)
{
    struct client *c = x->client;
    const struct client_request *r = x->request;
    char url[2048];
    struct http_header headers[CLIENT_HEADERS + 2];
    size_t n = client_headers(c, headers);
    x->done = false;
    x->status = 0;
    x->err = (struct err){0};
    buf_clear(&x->error_body);
    if (snprintf(url, sizeof url, "%s%s", c->base, r->path) >= (int)sizeof url) {
        err_set(&x->err, ERR_INVALID, "the request's path is too long");
        return;
    }
    if (str_some(r->body))
        headers[n++] = (struct http_header){
            STR("content-type"), str_z(r->content_type ? r->content_type : "application/json")};
    if (strcmp(r->method, "POST") == 0)
        headers[n++] = (struct http_header){STR("idempotency-key"), str_z(idempotency_key)};
    struct http_call_params p = {
        .method = r->method,
        .url = url,
        .headers = headers,
        .nheaders = n,
        .body = r->body,
        .connect_ms = CONNECT_MS,
        .max_response = r->to_file ? 0 : RESPONSE_MAX,
        .on_head = on_head,
        .on_data = on_data,
        .on_done = on_done,
        .arg = x,
    };
    struct http_call *call = http_call_start(c->http, &p, &x->err);
    if (!call)
        return;
    while (!x->done && !c->interrupted)
        loop_run(c->loop);
    if (x->done)
        return;
    http_call_cancel(call);
    err_set(&x->err, ERR_CANCELED, "interrupted");
}

/* A server that is starting or being replaced: refused, cut off, or not ready. A file that was
 * written in part cannot be taken back. */
static bool worth_retrying(const struct exchange *x)
{
    int code = x->err.code;
    if (x->request->to_file && x->status)
        return false;
    return code == ERR_CONNECT || code == ERR_PROTOCOL || (code == 0 && x->status == 503);
}

static void retry_fired(struct loop_timer *t)
{
    struct exchange *x = CONTAINER_OF(t, struct exchange, retry);
    x->done = true;
    loop_stop(x->client->loop);
}

static void wait_ms(struct exchange *x, int64_t ms)
{
    x->done = false;
    loop_timer_start(&x->retry, ms, retry_fired);
    while (!x->done && !x->client->interrupted)
        loop_run(x->client->loop);
    loop_timer_stop(&x->retry);
}

static void retry_closed(struct loop_timer *t)
{
    struct exchange *x = CONTAINER_OF(t, struct exchange, retry);
    x->done = true;
    loop_stop(x->client->loop);
}

static void exchange_end(struct exchange *x)
{
    x->done = false;
    loop_timer_close(&x->retry, retry_closed);
    while (!x->done)
        loop_run(x->client->loop);
    buf_fini(&x->error_body);
}

static int outcome(struct exchange *x, struct err *err)
{
    if (x->err.code == ERR_CONNECT || x->err.code == ERR_PROTOCOL) {
        return err_set(err, ERR_CONNECT, "cannot reach the server at %s: %s", x->client->base,
                       x->err.msg);
    }
    if (x->err.code) {
        *err = x->err;
        return err->code;
    }
    if (x->status / 100 != 2)
        return client_error(x->status, buf_view(&x->error_body), err);
    if (!x->request->to_file && !buf_ok(x->out))
        return err_set(err, ERR_TOO_LARGE, "the server's answer is too long");
    return 0;
}

int client_send(struct client *c, const struct client_request *r, struct buf *out, struct err *err)
{
    struct exchange x = {.client = c, .request = r, .out = out};
    buf_init(&x.error_body, 64 * 1024);
    loop_timer_init(c->loop, &x.retry);
    char key[40];
    snprintf(key, sizeof key, "cli-%016" PRIx64 "%016" PRIx64, rand_u64(), rand_u64());
    int64_t waited_ms = 0, pause_ms = RETRY_MIN_MS;
    for (;;) {
        if (out)
            buf_clear(out);
        exchange_once(&x, r->idempotency_key ? r->idempotency_key : key);
        if (!worth_retrying(&x) || waited_ms >= c->patience_ms || c->interrupted)
            break;
        wait_ms(&x, pause_ms);
        waited_ms += pause_ms;
        pause_ms = pause_ms * 2 < RETRY_MAX_MS ? pause_ms * 2 : RETRY_MAX_MS;
    }
    int rc = outcome(&x, err);
    exchange_end(&x);
    return rc;
}

int client_json(struct client *c, const char *method, const char *path, struct str body,
                struct arena *a, const struct json **out, struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(RESPONSE_MAX);
    struct client_request r = {.method = method, .path = path, .body = body, .out_fd = -1};
    int rc = client_send(c, &r, &text, err);
    if (rc)
        return rc;
    struct str kept = arena_str(a, buf_view(&text));
    if (!str_some(kept))
        return err_set(err, ERR_TOO_LARGE, "the server's answer is too long");
    rc = json_parse(a, kept, JSON_ALLOW_DUPLICATES, out, err);
    return rc ? err_wrap(err, "%s is not an ostler server", c->base) : 0;
}
