/* Responses: their heads, whole bodies, chunked streams. */
#include "http/conn.h"

#include "base/clock.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

enum { HEAD_MAX = 64 * 1024, CHUNK_LINE = 20, STREAM_UNSENT = 32 * 1024 };

/* ---- head ---- */

/* Formatted once a second: strftime would ask the locale. */
static void put_date(struct http_server *s, struct buf *b)
{
    static const char days[] = "SunMonTueWedThuFriSat",
                      months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int64_t now_s = clock_unix_us() / 1000000;
    if (now_s != s->date_s) {
        s->date_s = now_s;
        time_t t = (time_t)now_s;
        struct tm tm;
        gmtime_r(&t, &tm);
        snprintf(s->date, sizeof s->date, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
                 days + tm.tm_wday * 3, tm.tm_mday % 100, months + tm.tm_mon * 3,
                 (tm.tm_year + 1900) % 10000, tm.tm_hour % 100, tm.tm_min % 100, tm.tm_sec % 100);
    }
    buf_put(b, "Date: ", 6);
    buf_z(b, s->date);
}

/* No value may end its line: what a caller passes on could come from outside. */
static void put_value(struct buf *b, struct str v)
{
    char *to = v.len ? buf_reserve(b, v.len) : NULL;
    if (!to)
        return;
    for (size_t i = 0; i < v.len; i++) {
        unsigned char c = (unsigned char)v.ptr[i];
        to[i] = (c < 0x20 && c != '\t') || c == 0x7f ? ' ' : v.ptr[i];
    }
    buf_commit(b, v.len);
}

static void put_number(struct buf *b, uint64_t v)
{
    char t[CHUNK_LINE + 1], *p = t + sizeof t;
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    buf_put(b, p, (size_t)(t + sizeof t - p));
}

static void put_status(struct buf *b, int status)
{
    if (status == 200) {
        buf_put(b, "HTTP/1.1 200 OK\r\n", 17);
        return;
    }
    buf_put(b, "HTTP/1.1 ", 9);
    buf_i64(b, status);
    buf_ch(b, ' ');
    buf_z(b, http_status_text(status));
    buf_put(b, "\r\n", 2);
}

/* A body that nobody read must be skipped before the next request can be found: a small one. */
static bool can_skip_body(const struct http_req *r)
{
    if (r->p.complete)
        return true;
    return !r->p.chunked && !r->p.expect_continue && !r->too_large &&
           r->p.content_length - r->body_got <= CONN_DRAIN;
}

void resp_begin(struct http_req *r, int status, const struct http_header *h, size_t n,
                enum resp_framing framing, uint64_t len)
{
    struct http_server *s = r->conn->server;
    struct buf *b = &s->head;
    r->responded = true;
    bool none = status == 204 || status == 304 || status < 200;
    r->bare = none || str_eq(r->p.method, STR("HEAD"));
    if (framing == RESP_CHUNKED && r->p.minor == 0)
        r->keep = false; /* only the end of the connection can end it */
    r->keep = r->keep && can_skip_body(r) && !s->closing;

    if (!b->max)
        *b = BUF_INIT(HEAD_MAX);
    buf_clear(b);
    put_status(b, status);
    put_date(s, b);
    for (size_t i = 0; i < n; i++) {
        buf_put(b, "\r\n", 2);
        put_value(b, h[i].name);
        buf_put(b, ": ", 2);
        put_value(b, h[i].value);
    }
    if (framing == RESP_LENGTH && !none) {
        buf_put(b, "\r\nContent-Length: ", 18);
        put_number(b, len);
    } else if (framing == RESP_CHUNKED && !none && r->p.minor == 1) {
        buf_z(b, "\r\nTransfer-Encoding: chunked");
    }
    if (!r->keep)
        buf_z(b, "\r\nConnection: close");
    buf_put(b, "\r\n\r\n", 4);
    if (!buf_ok(b))
        conn_break(r->conn); /* 64 KiB of headers: a defect, but nothing to crash for */
}

static uv_buf_t uv_view(struct str s)
{
    return uv_buf_init((char *)(uintptr_t)s.ptr, (unsigned)s.len);
}

static void end(struct http_req *r)
{
    r->ended = true;
    conn_kick(r->conn);
}

/* ---- whole ---- */

void http_reply(struct http_req *r, int status, const struct http_header *headers, size_t nheaders,
                struct str body)
{
    if (r->responded)
        return; /* the server had to answer itself, or the handler did already */
    resp_begin(r, status, headers, nheaders, RESP_LENGTH, body.len);
    uv_buf_t bufs[2] = {uv_view(buf_view(&r->conn->server->head)), uv_view(body)};
    conn_write(r->conn, bufs, r->bare || body.len == 0 ? 1 : 2, NULL);
    end(r);
}

/* ---- streams ---- */

/* The kernel would let megabytes wait for a client that does not read. Beyond what is on its way to
 * it, a stream needs only enough there to bridge our next turn; the rest is bounded on our side. */
static void bound_unsent(struct conn *c)
{
    int fd, bytes = STREAM_UNSENT;
    if (uv_fileno((uv_handle_t *)&c->tcp, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}

void http_stream(struct http_req *r, int status, const struct http_header *headers, size_t nheaders)
{
    if (r->responded)
        return;
    resp_begin(r, status, headers, nheaders, RESP_CHUNKED, 0);
    r->stream = true;
    bound_unsent(r->conn);
    uv_buf_t head = uv_view(buf_view(&r->conn->server->head));
    conn_write(r->conn, &head, 1, NULL);
    conn_kick(r->conn);
}

static bool writable(const struct http_req *r)
{
    return r->stream && !r->ended && !r->conn->broken;
}

void http_stream_write(struct http_req *r, struct bytes *b)
{
    if (!writable(r) || r->bare || b->len == 0)
        return;
    uv_buf_t body = uv_view(bytes_view(b));
    if (r->p.minor == 0) {
        conn_write(r->conn, &body, 1, b);
        return;
    }
    char line[CHUNK_LINE], crlf[] = "\r\n";
    int n = snprintf(line, sizeof line, "%zx\r\n", b->len);
    uv_buf_t bufs[3] = {uv_buf_init(line, (unsigned)n), body, uv_buf_init(crlf, 2)};
    conn_write(r->conn, bufs, 3, b);
}

size_t http_stream_queued(const struct http_req *r)
{
    return conn_queued(r->conn);
}

void http_stream_on_drain(struct http_req *r, void (*fn)(struct http_req *))
{
    r->on_drain = fn;
}

void http_stream_end(struct http_req *r)
{
    static char last[] = "0\r\n\r\n";
    if (!writable(r))
        return;
    uv_buf_t buf = uv_buf_init(last, sizeof last - 1);
    if (!r->bare && r->p.minor == 1)
        conn_write(r->conn, &buf, 1, NULL);
    end(r);
}

void http_stream_abort(struct http_req *r)
{
    conn_break(r->conn);
}
