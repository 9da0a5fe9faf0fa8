#include "http/conn.h"

#include "base/limits.h"

#include <assert.h>
#include <sys/socket.h>

static const struct sm_state states[] = {
    [CONN_HEAD] = {"head", SM_BIT(CONN_BUSY) | SM_BIT(CONN_CLOSED), SM_INITIAL},
    [CONN_BUSY] = {"busy", SM_BIT(CONN_HEAD) | SM_BIT(CONN_LINGER) | SM_BIT(CONN_CLOSED), 0},
    [CONN_LINGER] = {"linger", SM_BIT(CONN_CLOSED), 0},
    [CONN_CLOSED] = {"closed", 0, SM_FINAL},
};

static bool invariant(const struct sm *m, int prev)
{
    (void)prev;
    const struct conn *c = CONTAINER_OF(m, struct conn, sm);
    return (m->state == CONN_BUSY) == (c->req != NULL);
}

/* ---- closing ---- */

static void on_handle_closed(struct conn *c)
{
    if (--c->nhandles)
        return;
    struct http_server *s = c->server;
    list_remove(&c->node);
    buf_fini(&c->ahead);
    mem_free(c);
    s->nconns--;
    server_conn_closed(s);
}

static void on_tcp_closed(uv_handle_t *h)
{
    on_handle_closed(CONTAINER_OF(h, struct conn, tcp));
}

static void on_timer_closed(struct loop_timer *t)
{
    on_handle_closed(CONTAINER_OF(t, struct conn, timer));
}

/* The response is with the kernel, all of it. */
static bool answered(const struct conn *c)
{
    return c->req->ended && conn_queued(c) == 0 && !c->broken;
}

static void end_request(struct conn *c, bool gone, enum conn_state next)
{
    struct http_req *r = TAKE_PTR(c->req);
    sm_move(&c->sm, (int)next);
    req_free(r, gone);
}

static void close_now(struct conn *c)
{
    if (c->req)
        end_request(c, !answered(c), CONN_CLOSED);
    else
        sm_move(&c->sm, CONN_CLOSED);
    list_remove(&c->kick);
    uv_close((uv_handle_t *)&c->tcp, on_tcp_closed);
    loop_timer_close(&c->timer, on_timer_closed);
}

void conn_break(struct conn *c)
{
    c->broken = true;
    conn_kick(c);
}

/* ---- deadlines ---- */

static void on_timer(struct loop_timer *t);

void conn_mark(struct conn *c)
{
    c->mark_ms = loop_now_ms(c->server->loop);
}

/* How long after the mark something must happen; 0: no deadline. */
static int64_t patience(const struct conn *c)
{
    const struct http_server_config *cfg = &c->server->cfg;
    switch ((enum conn_state)sm_state(&c->sm)) {
    case CONN_HEAD: return c->ahead.len ? cfg->head_ms : cfg->keepalive_ms;
    case CONN_BUSY:
        if (conn_queued(c) || req_awaits_body(c->req))
            return cfg->body_idle_ms;
        return c->eof ? cfg->half_close_ms : 0;
    case CONN_LINGER: return CONN_LINGER_MS;
    case CONN_CLOSED: break;
    }
    return 0;
}

/* The timer is only touched when a deadline comes nearer; a later one is noticed when it fires. So
 * a busy connection costs no timer call per request. */
static void set_deadline(struct conn *c)
{
    int64_t ms = patience(c), due = c->mark_ms + ms;
    if (ms == 0 || due >= c->armed_ms)
        return;
    c->armed_ms = due;
    loop_timer_start(&c->timer, due - loop_now_ms(c->server->loop), on_timer);
}

static void time_out_busy(struct conn *c)
{
    if (conn_queued(c)) { /* a large response that moves is no stall */
        if (conn_queued(c) == c->queued_then)
            c->broken = true;
        c->queued_then = conn_queued(c);
        conn_mark(c);
    } else if (req_awaits_body(c->req)) {
        struct err err;
        err_set(&err, ERR_TIMEOUT_REQUEST, "the request body did not come in time");
        req_refuse(c->req, 408, &err);
    } else {
        c->broken = true; /* half-closed, and no answer in time */
    }
}

static void on_timer(struct loop_timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, timer);
    c->armed_ms = INT64_MAX;
    int64_t ms = patience(c);
    if (ms == 0 || loop_now_ms(c->server->loop) < c->mark_ms + ms) {
        set_deadline(c);
        return;
    }
    if (sm_state(&c->sm) == CONN_BUSY) {
        time_out_busy(c);
    } else if (sm_state(&c->sm) == CONN_HEAD && c->ahead.len) {
        struct err err;
        err_set(&err, ERR_TIMEOUT_REQUEST, "the request head did not come in time");
        c->req = req_new(c);
        sm_move(&c->sm, CONN_BUSY);
        req_refuse(c->req, 408, &err);
    } else {
        c->broken = true;
    }
    conn_tick(c);
}

/* ---- writing ---- */

/* What the kernel did not take at once. */
struct out {
    uv_write_t uv;
    struct bytes *ref;
    char copy[];
};

enum { OUT_BUFS = 3 };

size_t conn_queued(const struct conn *c)
{
    return c->tcp.write_queue_size;
}

static void on_written(uv_write_t *uv, int status)
{
    struct conn *c = CONTAINER_OF(uv->handle, struct conn, tcp);
    struct out *o = CONTAINER_OF(uv, struct out, uv);
    bytes_unref(o->ref);
    mem_free(o);
    if (sm_state(&c->sm) == CONN_CLOSED)
        return;
    if (status < 0)
        c->broken = true;
    if (conn_queued(c) && !c->broken)
        return;
    c->drained = true;
    conn_mark(c);
    conn_tick(c);
}

static bool inside(const struct bytes *b, const uv_buf_t *buf)
{
    return b && buf->base >= b->data && buf->base <= b->data + b->len;
}

static void queue(struct conn *c, uv_buf_t *bufs, unsigned n, struct bytes *ref)
{
    size_t copied = 0;
    for (unsigned i = 0; i < n; i++)
        copied += inside(ref, &bufs[i]) ? 0 : bufs[i].len;
    struct out *o = mem_alloc(sizeof *o + copied);
    o->ref = ref ? bytes_ref(ref) : NULL;
    char *to = o->copy;
    for (unsigned i = 0; i < n; i++) {
        if (inside(ref, &bufs[i]) || bufs[i].len == 0)
            continue;
        memcpy(to, bufs[i].base, bufs[i].len);
        bufs[i].base = to;
        to += bufs[i].len;
    }
    bool first = conn_queued(c) == 0;
    uv_write(&o->uv, (uv_stream_t *)&c->tcp, bufs, n, on_written);
    if (first) { /* from here on a reader that takes nothing is a stall */
        conn_mark(c);
        c->queued_then = conn_queued(c);
    }
    conn_kick(c);
}

void conn_write(struct conn *c, uv_buf_t *bufs, unsigned n, struct bytes *ref)
{
    assert(n <= OUT_BUFS);
    if (c->broken || sm_state(&c->sm) == CONN_CLOSED)
        return;
    int took = conn_queued(c) ? 0 : uv_try_write((uv_stream_t *)&c->tcp, bufs, n);
    if (took < 0 && took != UV_EAGAIN) {
        conn_break(c);
        return;
    }
    size_t left = took > 0 ? (size_t)took : 0;
    while (n && left >= bufs->len) {
        left -= bufs->len;
        bufs++;
        n--;
    }
    if (n == 0)
        return;
    bufs->base += left;
    bufs->len -= left;
    queue(c, bufs, n, ref);
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *buf)
{
    (void)hint;
    struct conn *c = CONTAINER_OF(h, struct conn, tcp);
    *buf = uv_buf_init(c->server->in, CONN_READ);
}

static void tick_with(struct conn *c, struct str fresh);

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = CONTAINER_OF(s, struct conn, tcp);
    if (n == 0)
        return;
    if (n < 0) {
        uv_read_stop(s);
        c->reading = false;
        c->eof = n == UV_EOF;
        c->broken = c->broken || n != UV_EOF;
        conn_mark(c);
        conn_tick(c);
        return;
    }
    /* A head's deadline counts from its first byte, so that dripping does not move it. */
    if (sm_state(&c->sm) != CONN_LINGER && !(sm_state(&c->sm) == CONN_HEAD && c->ahead.len) &&
        conn_queued(c) == 0)
        conn_mark(c);
    tick_with(c, str_n(buf->base, (size_t)n));
}

/* Reading goes on while a response is under way: that is how a client that left is noticed. What
 * comes early is kept, up to a bound. */
static void set_reading(struct conn *c)
{
    bool want = !c->eof && c->ahead.len < CONN_AHEAD;
    if (want == c->reading)
        return;
    c->reading = want;
    if (want)
        uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
    else
        uv_read_stop((uv_stream_t *)&c->tcp);
}

size_t conn_input(const struct conn *c)
{
    return c->ticking ? c->in.len : c->ahead.len;
}

/* ---- the machine ---- */

static void refuse_head(struct conn *c, int status, int code, const char *why)
{
    struct err err;
    err_set(&err, code, "%s", why);
    req_refuse(c->req, status, &err);
}

/* Makes a request of the head at the front of the input, sound or not. */
static void start_request(struct conn *c, enum http_head_state state, size_t len)
{
    struct http_req *r = req_new(c);
    c->req = r;
    c->head_at = 0;
    sm_move(&c->sm, CONN_BUSY);
    if (state == HTTP_HEAD_BAD) {
        refuse_head(c, 400, ERR_INVALID, "the request is malformed: lines must end in CR LF");
        return;
    }
    if (state == HTTP_HEAD_MORE || len > LIMIT_HTTP_HEAD) {
        refuse_head(c, 431, ERR_HEADERS_TOO_LARGE, "the request head is too large");
        return;
    }
    struct str head = arena_str(&r->arena, str_take(c->in, len));
    c->in = str_skip(c->in, len);
    struct err err;
    if (http_parse_head(&r->p, &r->arena, head, &err) != 0) {
        req_refuse(r, r->p.status, &err);
        return;
    }
    r->keep = r->p.keep_alive;
    c->server->cfg.handler(r, c->server->cfg.arg);
}

static bool step_head(struct conn *c)
{
    if (c->server->closing || c->broken) {
        close_now(c);
        return false;
    }
    /* One empty line before a request is skipped, as RFC 9112 asks. */
    if (c->head_at == 0 && str_starts(c->in, STR("\r\n")))
        c->in = str_skip(c->in, 2);
    enum http_head_state state = HTTP_HEAD_MORE;
    if (c->in.len && !(c->in.len == 1 && c->in.ptr[0] == '\r'))
        state = http_head_end(c->in, &c->head_at);
    if (state == HTTP_HEAD_MORE && c->in.len <= LIMIT_HTTP_HEAD) {
        if (!c->eof)
            return false;
        close_now(c);
        return false;
    }
    start_request(c, state, c->head_at);
    return true;
}

static void linger(struct conn *c)
{
    if (c->eof || c->server->forced) {
        close_now(c);
        return;
    }
    int fd;
    if (uv_fileno((uv_handle_t *)&c->tcp, &fd) == 0)
        shutdown(fd, SHUT_WR); /* the queue is empty: nothing is cut */
    conn_mark(c);
}

/* True when the client is not there for the rest of this request. */
static bool lost(const struct conn *c)
{
    const struct http_req *r = c->req;
    if (c->broken || c->server->forced)
        return true;
    if (r->stream && !r->ended && (c->eof || c->server->closing))
        return true;
    return c->eof && req_awaits_body(r) && c->in.len == 0 && !answered(c);
}

static bool step_busy(struct conn *c)
{
    if (lost(c)) {
        close_now(c);
        return false;
    }
    struct http_req *r = c->req;
    if (c->drained && conn_queued(c) == 0) {
        c->drained = false;
        if (r->on_drain && r->stream && !r->ended) {
            r->on_drain(r);
            return true;
        }
    }
    if (req_step(r))
        return true;
    if (!answered(c) || (r->keep && !r->p.complete && !c->eof))
        return false; /* under way, or skipping the rest of the body */
    bool keep = r->keep && r->p.complete && !c->server->closing;
    conn_mark(c);
    end_request(c, false, keep ? CONN_HEAD : CONN_LINGER);
    if (!keep)
        linger(c);
    return true;
}

static bool step(struct conn *c)
{
    switch ((enum conn_state)sm_state(&c->sm)) {
    case CONN_HEAD: return step_head(c);
    case CONN_BUSY: return step_busy(c);
    case CONN_LINGER:
        c->in = STR_NONE;
        if (c->eof || c->broken || c->server->forced)
            close_now(c);
        return false;
    case CONN_CLOSED: break;
    }
    return false;
}

/* `fresh` was just read; it is kept only as far as it could not be used. */
static void tick_with(struct conn *c, struct str fresh)
{
    if (c->ticking || sm_state(&c->sm) == CONN_CLOSED)
        return;
    bool kept = c->ahead.len > 0;
    if (kept && fresh.len)
        buf_str(&c->ahead, fresh);
    c->in = kept ? buf_view(&c->ahead) : fresh;
    c->ticking = true;
    while (step(c)) {
    }
    c->ticking = false;
    if (kept)
        buf_consume(&c->ahead, c->ahead.len - c->in.len);
    else if (c->in.len)
        buf_str(&c->ahead, c->in);
    if (c->ahead.len == 0 && c->ahead.cap)
        buf_fini(&c->ahead); /* idle connections hold no buffer */
    c->in = STR_NONE;
    if (sm_state(&c->sm) == CONN_CLOSED)
        return;
    set_reading(c);
    set_deadline(c);
}

void conn_tick(struct conn *c)
{
    tick_with(c, STR_NONE);
}

void conn_kick(struct conn *c)
{
    if (c->ticking || sm_state(&c->sm) == CONN_CLOSED || !list_empty(&c->kick))
        return;
    struct http_server *s = c->server;
    if (list_empty(&s->kicked))
        uv_idle_start(&s->idle, server_on_idle);
    list_push(&s->kicked, &c->kick);
}

/* ---- opening ---- */

void conn_open(struct http_server *s)
{
    struct conn *c = mem_zalloc(sizeof *c);
    c->server = s;
    c->ahead = BUF_INIT(CONN_AHEAD + CONN_READ);
    c->armed_ms = INT64_MAX;
    c->nhandles = 2;
    sm_init(&c->sm, "connection", states, invariant, CONN_HEAD);
    list_init(&c->kick);
    list_push(&s->conns, &c->node);
    s->nconns++;
    uv_tcp_init(loop_uv(s->loop), &c->tcp);
    loop_timer_init(s->loop, &c->timer);
    if (uv_accept((uv_stream_t *)&s->listener, (uv_stream_t *)&c->tcp) != 0 || s->closing ||
        s->nconns > s->cfg.max_connections) {
        close_now(c);
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    conn_mark(c);
    conn_tick(c);
}
