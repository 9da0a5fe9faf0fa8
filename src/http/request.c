/* What a handler sees of a request, and the way its body takes. */
#include "http/conn.h"

#include "base/limits.h"

#include <netdb.h>

/* A decoded body and what a handler makes of it share the arena. */
#define REQ_ARENA_MAX ((size_t)LIMIT_JSON_ARENA + LIMIT_HTTP_BODY)
enum { BODY_FIRST = 1024 * 1024 };

static bool on_body(void *arg, struct str piece);

struct http_req *req_new(struct conn *c)
{
    struct arena a;
    arena_init(&a, REQ_ARENA_MAX);
    struct http_req *r = ARENA_NEW(&a, struct http_req);
    r->arena = a;
    r->conn = c;
    r->p.on_body = on_body;
    r->p.arg = r;
    return r;
}

void req_free(struct http_req *r, bool gone)
{
    file_drop(r);
    if (r->closed)
        r->closed(r, gone);
    buf_fini(&r->body);
    struct arena a = r->arena; /* which holds r */
    arena_fini(&a);
}

/* ---- accessors ---- */

struct arena *http_req_arena(struct http_req *r)
{
    return &r->arena;
}

struct str http_req_method(const struct http_req *r)
{
    return r->p.method;
}

struct str http_req_path(const struct http_req *r)
{
    return r->p.path;
}

struct str http_req_query(const struct http_req *r)
{
    return r->p.query;
}

struct str http_req_header(const struct http_req *r, const char *name)
{
    return http_header_get(r->p.headers, r->p.nheaders, name);
}

uint64_t http_req_content_length(const struct http_req *r)
{
    return r->p.content_length;
}

void http_req_set_data(struct http_req *r, void *data)
{
    r->data = data;
}

void *http_req_data(const struct http_req *r)
{
    return r->data;
}

void http_req_on_closed(struct http_req *r, void (*closed)(struct http_req *, bool gone))
{
    r->closed = closed;
}

struct str http_req_peer(const struct http_req *r)
{
    struct sockaddr_storage sa;
    int len = sizeof sa;
    char host[NI_MAXHOST];
    if (uv_tcp_getpeername(&r->conn->tcp, (struct sockaddr *)&sa, &len) != 0 ||
        getnameinfo((struct sockaddr *)&sa, (socklen_t)len, host, sizeof host, NULL, 0,
                    NI_NUMERICHOST) != 0)
        return STR("");
    struct arena *a = &((struct http_req *)(uintptr_t)r)->arena; /* a lazy field of a const view */
    return arena_str(a, str_z(host));
}

/* ---- errors ---- */

void req_refuse(struct http_req *r, int status, const struct err *err)
{
    if (r->responded) {
        conn_break(r->conn);
        return;
    }
    const struct http_server_config *cfg = &r->conn->server->cfg;
    r->keep = false;
    if (cfg->refuse) {
        cfg->refuse(r, status, err, cfg->arg);
        return;
    }
    AUTO_BUF struct buf body = BUF_INIT(64 * 1024);
    if (cfg->error_body)
        cfg->error_body(&body, err, cfg->arg);
    struct http_header type = {STR("Content-Type"), STR("application/json")};
    http_reply(r, status, &type, cfg->error_body ? 1 : 0, buf_view(&body));
}

static void refuse_too_large(struct http_req *r)
{
    struct err err;
    err_set(&err, ERR_TOO_LARGE, "the request body is larger than %llu bytes",
            (unsigned long long)r->body_max);
    req_refuse(r, 413, &err);
}

/* ---- body ---- */

static bool on_body(void *arg, struct str piece)
{
    struct http_req *r = arg;
    if (r->ended)
        return true; /* skipped */
    r->body_got += piece.len;
    if (r->body_got > r->body_max) {
        r->too_large = true;
        return false;
    }
    if (!r->body_data) {
        buf_str(&r->body, piece);
        return true;
    }
    r->body_data(r, piece);
    return !r->paused && !r->conn->broken;
}

bool req_awaits_body(const struct http_req *r)
{
    if (r->p.complete)
        return false;
    return r->ended ? r->keep : r->body_wanted && !r->paused;
}

static void feed(struct http_req *r)
{
    struct conn *c = r->conn;
    size_t used;
    struct err err;
    int rc = http_parse_body(&r->p, c->in, &used, &err);
    c->in = str_skip(c->in, used);
    if (r->too_large) {
        refuse_too_large(r);
    } else if (rc) {
        r->keep = false;
        req_refuse(r, r->p.status, &err);
    }
}

static void tell_end(struct http_req *r)
{
    r->body_told = true;
    if (r->body_done)
        r->body_done(r, r->body.data ? buf_view(&r->body) : STR(""));
    else if (r->body_end)
        r->body_end(r);
}

bool req_step(struct http_req *r)
{
    if (req_awaits_body(r) && r->conn->in.len && !r->too_large) {
        feed(r);
        return true;
    }
    /* A handler that has answered already does not care for the body's end. */
    if (r->p.complete && r->body_wanted && !r->body_told && !r->paused && !r->ended) {
        tell_end(r);
        return true;
    }
    return file_step(r);
}

/* The client of an Expect waits for a word before it sends its body. */
static void send_continue(struct http_req *r)
{
    static char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (!r->p.expect_continue || r->p.complete || conn_input(r->conn))
        return;
    r->p.expect_continue = false;
    uv_buf_t buf = uv_buf_init(text, sizeof text - 1);
    conn_write(r->conn, &buf, 1, NULL);
}

static bool want_body(struct http_req *r, uint64_t max)
{
    if (r->responded || r->body_wanted)
        return false;
    r->body_wanted = true;
    r->body_max = max;
    if (!r->p.chunked && r->p.content_length > max) {
        refuse_too_large(r);
        return false;
    }
    send_continue(r);
    conn_mark(r->conn);
    conn_kick(r->conn);
    return true;
}

void http_req_body(struct http_req *r, size_t max, void (*done)(struct http_req *, struct str body))
{
    if (!want_body(r, max))
        return;
    r->body_done = done;
    r->body = BUF_INIT(r->p.chunked ? max : (size_t)r->p.content_length);
    if (!r->p.chunked && r->body.max) {
        /* A stated length is reserved at once, but for a bound: it is only a claim yet. */
        size_t first = r->body.max < BODY_FIRST ? r->body.max : BODY_FIRST;
        (void)buf_reserve(&r->body, first);
    }
}

void http_req_body_stream(struct http_req *r, uint64_t max,
                          void (*data)(struct http_req *, struct str piece),
                          void (*end)(struct http_req *))
{
    if (!want_body(r, max))
        return;
    r->body_data = data;
    r->body_end = end;
}

void http_req_pause(struct http_req *r)
{
    r->paused = true;
    conn_kick(r->conn);
}

void http_req_resume(struct http_req *r)
{
    r->paused = false;
    conn_mark(r->conn);
    conn_kick(r->conn);
}
