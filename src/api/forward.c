#include "api/forward.h"

#include "base/limits.h"

#include <assert.h>
#include <stdio.h>

/* FORWARD_BODY: an import larger than this must be sent to the owner itself. */
enum {
    FORWARD_BODY = 64 << 20,
    FORWARD_CONNECT_MS = 1000,
    FORWARD_ANSWER_MS = 120 * 1000,
    FORWARD_HEADERS = 8
};
#define FORWARDED "x-ostler-forwarded" /* the guard against loops */

struct forward {
    struct call *call;
    struct id owner;
    struct buf body;
    struct http_call *http;
    bool paused;
};

static void unavailable(struct call *c, const char *why)
{
    struct err err;
    err_set(&err, ERR_UNAVAILABLE,
            "The session belongs to another server process, which %s; try again", why);
    call_fail(c, &err);
}

/* ---- the answer ---- */

static void drained(struct http_req *req)
{
    struct call *c = http_req_data(req);
    struct forward *f = c->state;
    if (f->http && f->paused)
        http_call_pause(f->http, false);
    f->paused = false;
}

static void on_head(void *arg, int status, const struct http_header *headers, size_t n)
{
    static const char *const kept[] = {"content-type", "request-id", "anthropic-workspace-id",
                                       "retry-after", "x-should-retry"};
    struct forward *f = arg;
    struct call *c = f->call;
    struct http_header h[COUNT_OF(kept)];
    size_t nh = 0;
    if (!c->req)
        return;
    for (size_t i = 0; i < COUNT_OF(kept); i++) {
        struct str value = http_header_get(headers, n, kept[i]);
        if (str_some(value))
            h[nh++] = (struct http_header){str_z(kept[i]), value};
    }
    call_answered(c, status);
    c->streaming = true;
    http_stream_on_drain(c->req, drained);
    http_stream(c->req, status, h, nh);
}

static void on_data(void *arg, struct str piece)
{
    struct forward *f = arg;
    struct call *c = f->call;
    if (!c->req || piece.len == 0)
        return;
    struct bytes *b = bytes_new(piece);
    http_stream_write(c->req, b);
    bytes_unref(b);
    if (c->req && f->http && http_stream_queued(c->req) > LIMIT_STREAM_QUEUE) {
        f->paused = true;
        http_call_pause(f->http, true);
    }
}

static void on_done(void *arg, const struct err *err)
{
    struct forward *f = arg;
    struct call *c = f->call;
    f->http = NULL;
    if (c->req && err->code && !c->streaming)
        unavailable(c, "does not answer");
    else if (c->req && err->code)
        http_stream_abort(c->req);
    else if (c->req)
        http_stream_end(c->req);
    call_unref(c);
}

static void forward_gone(struct call *c)
{
    struct forward *f = c->state;
    if (!f->http)
        return;
    http_call_cancel(TAKE_PTR(f->http));
    call_unref(c);
}

static void forward_fini(struct call *c)
{
    struct forward *f = c->state;
    buf_fini(&f->body);
}

/* ---- the request ---- */

static size_t copy_headers(struct call *c, struct http_header out[FORWARD_HEADERS])
{
    static const char *const names[] = {
        "x-api-key",         "authorization",          "anthropic-beta",
        "anthropic-version", "anthropic-workspace-id", "content-type",
        "idempotency-key"};
    static_assert(COUNT_OF(names) < FORWARD_HEADERS, "and the guard");
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct str value = http_req_header(c->req, names[i]);
        if (value.len)
            out[n++] = (struct http_header){str_z(names[i]), value};
    }
    out[n++] = (struct http_header){STR(FORWARDED), STR("1")};
    return n;
}

static void start(struct call *c, struct str body)
{
    struct forward *f = c->state;
    struct http_header h[FORWARD_HEADERS];
    char path[64 + ID_MAX];
    struct err err;
    AUTO_BUF struct buf url = BUF_INIT(64 * 1024);
    if (!c->req)
        return;
    if (!c->api->cfg.http || c->api->owners_dir < 0) {
        unavailable(c, "cannot be asked from here");
        return;
    }
    /* Short enough for an address, wherever the data directory is. */
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s.http", c->api->owners_dir, f->owner.z);
    struct str query = http_req_query(c->req);
    buf_z(&url, "http://owner");
    buf_str(&url, http_req_path(c->req));
    if (query.len)
        buf_printf(&url, "?" STR_FMT, STR_ARG(query));
    buf_put(&url, "", 1);
    struct str method = arena_str(&c->arena, http_req_method(c->req));
    const struct http_call_params p = {
        .method = method.ptr,
        .url = (const char *)url.data,
        .unix_socket = path,
        .headers = h,
        .nheaders = copy_headers(c, h),
        .body = body,
        .connect_ms = FORWARD_CONNECT_MS,
        .first_byte_ms = FORWARD_ANSWER_MS,
        .on_head = on_head,
        .on_data = on_data,
        .on_done = on_done,
        .arg = f,
    };
    f->http = http_call_start(c->api->cfg.http, &p, &err);
    if (!f->http) {
        call_fail(c, &err);
        return;
    }
    call_ref(c);
    c->gone = forward_gone;
}

static void body_piece(struct http_req *req, struct str piece)
{
    struct call *c = http_req_data(req);
    struct forward *f = c->state;
    buf_put(&f->body, piece.ptr, piece.len);
}

static void body_end(struct http_req *req)
{
    struct call *c = call_ref(http_req_data(req));
    struct forward *f = c->state;
    start(c, buf_view(&f->body));
    call_unref(c);
}

/* ---- whose is it? ---- */

static int owner_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct forward *f = c->state;
    int rc = tx_session_owner(tx, call_workspace(c), c->id[0], &f->owner, err);
    return rc == ERR_NOT_FOUND ? 0 : rc; /* the handler says so in its own words */
}

static void owner_known(struct call *c)
{
    struct forward *f = c->state;
    const struct peer_port *p = engine_peers(c->api->cfg.engine);
    struct str owner = id_str(&f->owner);
    if (!c->req)
        return;
    if (owner.len == 0 || str_eq(owner, id_str(&p->me)) || !p->alive(p->self, owner)) {
        c->state = NULL;
        c->fini = NULL;
        c->route->handle(c);
    } else if (http_req_header(c->req, FORWARDED).len) {
        unavailable(c, "has just taken it");
    } else if (c->route->body == BODY_STREAM) {
        http_req_body_stream(c->req, FORWARD_BODY, body_piece, body_end);
    } else {
        start(c, c->route->body == BODY_NONE ? STR_NONE : buf_view(&c->body));
    }
}

void forward_or_handle(struct call *c)
{
    const struct peer_port *p = engine_peers(c->api->cfg.engine);
    if (!c->route->at_owner || !p->me.z[0] || p->others(p->self) == 0) {
        c->route->handle(c);
        return;
    }
    struct forward *f = call_state(c, sizeof *f);
    if (!f)
        return;
    f->call = c;
    f->body = BUF_INIT(FORWARD_BODY);
    c->fini = forward_fini;
    call_read(c, owner_step, owner_known);
}
