/* Plain HTTP: one exchange on an upstream connection of its own. Both messages are taken apart and
 * written anew, so that what we checked is what the other side reads. */
#include "base/limits.h"
#include "egress/conn.h"

#include <stdio.h>

enum { HEAD_OUT_MAX = 4 * LIMIT_HTTP_HEAD, ARENA_MAX = 16 * LIMIT_HTTP_HEAD, INTERIM_MAX = 8 };

void relay_init(struct conn *c)
{
    c->relay = (struct relay){.head_sent = false};
    arena_init(&c->relay.arena, ARENA_MAX);
}

void relay_fini(struct conn *c)
{
    arena_fini(&c->relay.arena);
}

/* ---- heads ---- */

/* Whether a comma-separated Connection header names this header. */
static bool named_in(struct str connection, struct str name)
{
    while (str_some(connection))
        if (str_eq_nocase(str_trim(str_split(&connection, ',')), name))
            return true;
    return false;
}

static bool hop_by_hop(const struct http_parser *m, struct str name)
{
    static const char *const always[] = {"Connection",
                                         "Keep-Alive",
                                         "Proxy-Connection",
                                         "Proxy-Authenticate",
                                         "Proxy-Authorization",
                                         "TE",
                                         "Trailer",
                                         "Transfer-Encoding",
                                         "Upgrade"};
    for (size_t i = 0; i < COUNT_OF(always); i++)
        if (str_eq_nocase(name, str_z(always[i])))
            return true;
    /* A Connection header that names the framing would leave the message without it. */
    if (str_eq_nocase(name, STR("Content-Length")))
        return m->chunked;
    for (size_t i = 0; i < m->nheaders; i++)
        if (str_eq_nocase(m->headers[i].name, STR("Connection")) &&
            named_in(m->headers[i].value, name))
            return true;
    return false;
}

static void put_headers(struct buf *out, const struct http_parser *m)
{
    for (size_t i = 0; i < m->nheaders; i++) {
        const struct http_header *h = &m->headers[i];
        if (hop_by_hop(m, h->name) || (!m->response && str_eq_nocase(h->name, STR("Host"))))
            continue;
        buf_str(out, h->name);
        buf_z(out, ": ");
        buf_str(out, h->value);
        buf_z(out, "\r\n");
    }
}

static void put_request(struct buf *out, struct conn *c)
{
    const struct http_parser *r = &c->relay.request;
    bool v6 = c->to.literal && c->to.ip.v6;
    buf_str(out, r->method);
    buf_ch(out, ' ');
    buf_str(out, r->path);
    if (r->query.len) {
        buf_ch(out, '?');
        buf_str(out, r->query);
    }
    buf_printf(out, " HTTP/1.1\r\nHost: %s%s%s", v6 ? "[" : "", c->to.host, v6 ? "]" : "");
    if (c->to.port != 80)
        buf_printf(out, ":%u", c->to.port);
    buf_z(out, "\r\n");
    put_headers(out, r);
    if (r->chunked)
        buf_z(out, "Transfer-Encoding: chunked\r\n");
    buf_z(out, "Connection: close\r\n\r\n");
}

static void put_response(struct buf *out, const struct relay *x)
{
    const struct http_parser *r = &x->response;
    buf_printf(out, "HTTP/1.1 %d %s\r\n", r->code, http_status_text(r->code));
    put_headers(out, r);
    if (r->chunked && !r->empty && x->request.minor == 1)
        buf_z(out, "Transfer-Encoding: chunked\r\n");
    if (r->code >= 200 && !x->keep)
        buf_z(out, "Connection: close\r\n");
    buf_z(out, "\r\n");
}

/* ---- bodies ---- */

static void send_piece(struct stream *to, bool chunked, struct str piece)
{
    char size[24];
    if (chunked) {
        int n = snprintf(size, sizeof size, "%zx\r\n", piece.len);
        stream_send(to, str_n(size, (size_t)n));
    }
    stream_send(to, piece);
    if (chunked)
        stream_send(to, STR("\r\n"));
}

static bool on_request_body(void *arg, struct str piece)
{
    struct conn *c = arg;
    c->up += piece.len;
    send_piece(c->upstream, c->relay.request.chunked, piece);
    return true;
}

static bool on_response_body(void *arg, struct str piece)
{
    struct conn *c = arg;
    const struct relay *x = &c->relay;
    c->down += piece.len;
    send_piece(c->client, x->response.chunked && x->request.minor == 1, piece);
    return true;
}

/* ---- the request ---- */

void relay_open(struct conn *c)
{
    struct relay *x = &c->relay;
    AUTO_BUF struct buf head = BUF_INIT(HEAD_OUT_MAX);
    sm_move(&c->sm, CONN_RELAY);
    conn_arm(c, c->box->proxy->settings.idle_ms);
    x->request.on_body = on_request_body;
    x->request.arg = c;
    put_request(&head, c);
    stream_send(c->upstream, buf_view(&head));
    relay_up(c);
}

void relay_up(struct conn *c)
{
    struct relay *x = &c->relay;
    while (!x->request.complete && c->in.len) {
        size_t used;
        struct err err = {.code = 0};
        if (http_parse_body(&x->request, buf_view(&c->in), &used, &err)) {
            if (x->head_sent)
                conn_linger(c);
            else
                conn_refuse(c, x->request.status, EGRESS_NOT_HTTP, err.msg);
            return;
        }
        buf_consume(&c->in, used);
    }
    if (x->request.complete && !x->request_sent) {
        x->request_sent = true;
        if (x->request.chunked)
            stream_send(c->upstream, STR("0\r\n\r\n"));
    }
    if (stream_queued(c->upstream) > STREAM_HIGH)
        stream_pause(c->client, true);
}

/* ---- the response ---- */

static void fail(struct conn *c, const char *why)
{
    if (c->relay.head_sent)
        conn_linger(c); /* the client sees that it is cut: by its length, or the last chunk */
    else
        conn_refuse(c, 502, EGRESS_CONNECT_FAILED, why);
}

static void finish(struct conn *c)
{
    const struct relay *x = &c->relay;
    conn_decide(c, EGRESS_ALLOWED, "");
    if (x->keep && x->request.complete && !c->client_ended)
        conn_again(c);
    else
        conn_linger(c);
}

/* One head, interim or final. False when there is no more to do now. */
static bool take_head(struct conn *c)
{
    struct relay *x = &c->relay;
    struct http_parser *r = &x->response;
    struct err err = {.code = 0};
    enum http_head_state s = http_head_end(buf_view(&c->from), &x->scanned);
    if (s == HTTP_HEAD_MORE && c->from.len <= LIMIT_HTTP_HEAD)
        return false;
    struct str head = s == HTTP_HEAD_WHOLE && x->scanned <= LIMIT_HTTP_HEAD
                          ? arena_str(&x->arena, str_take(buf_view(&c->from), x->scanned))
                          : STR_NONE;
    bool to_head = str_eq(x->request.method, STR("HEAD"));
    if (!head.len || http_parse_response(r, &x->arena, head, to_head, &err) || r->code == 101 ||
        (r->code < 200 && ++x->interim > INTERIM_MAX)) {
        fail(c, "The server's answer is not HTTP as it should be.");
        return false;
    }
    buf_consume(&c->from, x->scanned);
    x->scanned = 0;
    x->head_sent = r->code >= 200;
    x->keep = x->request.minor == 1 && x->request.keep_alive && !r->until_close;
    r->on_body = on_response_body;
    r->arg = c;
    AUTO_BUF struct buf out = BUF_INIT(HEAD_OUT_MAX);
    if (x->head_sent || x->request.minor == 1) {
        put_response(&out, x);
        stream_send(c->client, buf_view(&out));
    }
    return true;
}

void relay_down(struct conn *c, struct str bytes)
{
    struct relay *x = &c->relay;
    buf_put(&c->from, bytes.ptr, bytes.len);
    while (!x->head_sent && c->from.len)
        if (!take_head(c))
            return;
    while (x->head_sent && !x->response.complete && c->from.len) {
        size_t used;
        struct err err = {.code = 0};
        if (http_parse_body(&x->response, buf_view(&c->from), &used, &err)) {
            fail(c, err.msg);
            return;
        }
        buf_consume(&c->from, used);
    }
    if (x->head_sent && x->response.complete) {
        if (x->response.chunked && !x->response.empty && x->request.minor == 1)
            stream_send(c->client, STR("0\r\n\r\n"));
        finish(c);
    } else if (stream_queued(c->client) > STREAM_HIGH) {
        stream_pause(c->upstream, true);
    }
}

void relay_upstream_ended(struct conn *c)
{
    if (c->relay.head_sent && c->relay.response.until_close)
        finish(c);
    else
        fail(c, "The server closed the connection without an answer.");
}
