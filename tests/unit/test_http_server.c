/* http/ server: raw bytes in, raw bytes out, over a real socket on one loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/limits.h"
#include "http/server.h"
#include "http_raw.h"

#include <sys/mman.h>
#include <unistd.h>

enum { WATCHDOG_MS = 30000, SHORT_MS = 30, BODY_MAX = 1000 };

static struct loop *loop;
static struct loop_timer watchdog;
static struct http_server *server;
static int port;

/* What the handler saw last, and requests left to the test. */
static struct http_req *pending;
static int handled, closed, gone, drains, pieces, sizes;
static bool ended;
static char seen_text[256];

static void on_closed(struct http_req *r, bool was_gone)
{
    closed++;
    gone += was_gone;
    if (pending == r)
        pending = NULL;
}

static void on_drain(struct http_req *r)
{
    assert_int_equal(http_stream_queued(r), 0);
    drains++;
}

static void reply_text(struct http_req *r, int status, struct str body)
{
    struct http_header h = {STR("Content-Type"), STR("text/plain")};
    http_reply(r, status, &h, 1, body);
}

static void on_body(struct http_req *r, struct str body)
{
    assert_int_equal(body.ptr[body.len], 0);
    reply_text(r, 200, body);
}

static void on_piece(struct http_req *r, struct str piece)
{
    pieces++;
    sizes += (int)piece.len;
    if (http_req_header(r, "X-Pause").ptr)
        http_req_pause(r);
}

static void on_end(struct http_req *r)
{
    ended = true;
    reply_text(r, 200, STR("end"));
}

static void keep(struct http_req *r)
{
    pending = r;
}

static void stream(struct http_req *r)
{
    struct http_header h = {STR("Content-Type"), STR("text/event-stream")};
    http_stream(r, 200, &h, 1);
    http_stream_on_drain(r, on_drain);
    pending = r;
}

static void file(struct http_req *r)
{
    int fd = memfd_create("body", MFD_CLOEXEC);
    size_t len = 300000;
    assert_int_equal(ftruncate(fd, (off_t)len), 0);
    bool cut = str_some(http_req_header(r, "X-Short"));
    http_reply_file(r, 200, NULL, 0, fd, cut ? len + 1 : len);
}

static void handler(struct http_req *r, void *arg)
{
    (void)arg;
    handled++;
    http_req_on_closed(r, on_closed);
    struct str path = http_req_path(r);
    snprintf(seen_text, sizeof seen_text, STR_FMT "|" STR_FMT "|" STR_FMT,
             STR_ARG(http_req_method(r)), STR_ARG(path), STR_ARG(http_req_query(r)));
    if (str_eqz(path, "/echo"))
        http_req_body(r, BODY_MAX, on_body);
    else if (str_eqz(path, "/pieces"))
        http_req_body_stream(r, BODY_MAX, on_piece, on_end), pending = r;
    else if (str_eqz(path, "/later"))
        keep(r);
    else if (str_eqz(path, "/stream"))
        stream(r);
    else if (str_eqz(path, "/file"))
        file(r);
    else if (str_eqz(path, "/empty"))
        http_reply(r, 204, NULL, 0, STR_NONE);
    else if (str_eqz(path, "/inject"))
        http_reply(r, 200, &(struct http_header){STR("X-A"), STR("a\r\nX-B: b")}, 1, STR_NONE);
    else
        reply_text(r, 200, STR("hello"));
}

static void error_body(struct buf *out, const struct err *err, void *arg)
{
    (void)arg;
    buf_printf(out, "{\"error\":\"%s\"}", err_name(err->code));
}

static void too_late(struct loop_timer *t)
{
    (void)t;
    fprintf(stderr, "the test hangs\n");
    abort();
}

static void open_server(const struct http_server_config *with)
{
    struct http_server_config cfg = with ? *with : (struct http_server_config){.head_ms = 0};
    cfg.host = "127.0.0.1";
    cfg.handler = handler;
    cfg.error_body = error_body;
    struct err err;
    assert_int_equal(http_server_open(loop, &cfg, &server, &err), 0);
    port = http_server_port(server);
}

static int setup(void **state)
{
    (void)state;
    loop = loop_new();
    loop_timer_init(loop, &watchdog);
    loop_timer_start(&watchdog, WATCHDOG_MS, too_late);
    server = NULL;
    pending = NULL;
    handled = closed = gone = drains = pieces = sizes = 0;
    ended = false;
    return 0;
}

static void on_server_closed(void *arg)
{
    *(bool *)arg = true;
}

static int teardown(void **state)
{
    (void)state;
    bool done = !server;
    if (server)
        http_server_close(server, 0, on_server_closed, &done);
    WAIT(loop, done);
    loop_timer_close(&watchdog, NULL);
    loop_free(loop);
    return 0;
}

/* ---- strictness ---- */

#define OK_HEAD "Host: localhost\r\n"

struct row {
    const char *request;
    int status; /* of the answer; 200 comes from the handler */
};

static const struct row rows[] = {
    /* what must work */
    {"GET / HTTP/1.1\r\n" OK_HEAD "\r\n", 200},
    {"\r\nGET / HTTP/1.1\r\n" OK_HEAD "\r\n", 200},
    {"GET /a?b=c HTTP/1.1\r\nhOsT:x\r\n\r\n", 200},
    {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 200},
    {"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200},
    {"GET http://x.example:80/a HTTP/1.1\r\nHost: x.example\r\n\r\n", 200},
    {"OPTIONS * HTTP/1.1\r\n" OK_HEAD "\r\n", 200},
    {"GET / HTTP/1.0\r\n\r\n", 200},
    {"GET / HTTP/1.1\r\n" OK_HEAD "X: a\tb\xc3\xa4\r\nEmpty:\r\n\r\n", 200},
    {"GET / HTTP/1.1\r\n" OK_HEAD "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 200},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Content-Length: 5\r\n\r\nhello", 200},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Content-Length: 0\r\n\r\n", 200},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "\r\n", 200},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
     200},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD
     "Transfer-Encoding: chunked\r\n\r\n2;x=\"y\"\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: a\r\n\r\n",
     200},
    /* request line */
    {"GET / HTTP/1.1 \r\n" OK_HEAD "\r\n", 400},
    {"GET  / HTTP/1.1\r\n" OK_HEAD "\r\n", 400},
    {" GET / HTTP/1.1\r\n" OK_HEAD "\r\n", 400},
    {"GET /\r\n" OK_HEAD "\r\n", 400},
    {"GET\r\n" OK_HEAD "\r\n", 400},
    {"GET a HTTP/1.1\r\n" OK_HEAD "\r\n", 400},
    {"GET * HTTP/1.1\r\n" OK_HEAD "\r\n", 400},
    {"GET ftp://x/ HTTP/1.1\r\n" OK_HEAD "\r\n", 400},
    {"GET /a#b HTTP/1.1\r\n" OK_HEAD "\r\n", 400},
    {"GET /\x01 HTTP/1.1\r\n" OK_HEAD "\r\n", 400},
    {"GET /\xc3\xa4 HTTP/1.1\r\n" OK_HEAD "\r\n", 400},
    {"G(T / HTTP/1.1\r\n" OK_HEAD "\r\n", 400},
    {"GET / http/1.1\r\n" OK_HEAD "\r\n", 400},
    {"GET / RTSP/1.0\r\n" OK_HEAD "\r\n", 400},
    {"GET / HTTP/1.1\r\n\r\nGET", 400},
    {"GET / HTTP/2.0\r\n" OK_HEAD "\r\n", 505},
    {"GET / HTTP/1.2\r\n" OK_HEAD "\r\n", 505},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
    {"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501},
    {"BREW / HTTP/1.1\r\n" OK_HEAD "\r\n", 501},
    {"get / HTTP/1.1\r\n" OK_HEAD "\r\n", 501},
    {"\x16\x03\x01\x02", 400}, /* TLS on a plain port: told at once, not after a timeout */
    /* line ends and folding */
    {"GET / HTTP/1.1\nHost: a\n\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" OK_HEAD "X: a\r\n b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" OK_HEAD "X: a\r\n\tb\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
    /* header lines */
    {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" OK_HEAD "X\t: a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" OK_HEAD ": a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" OK_HEAD "X\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" OK_HEAD "X Y: a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" OK_HEAD "X: a\x01\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" OK_HEAD "X: a\x7f\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" OK_HEAD "X:\rY: b\r\n\r\n", 400},
    /* host */
    {"GET / HTTP/1.1\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" OK_HEAD OK_HEAD "\r\n", 400},
    {"GET / HTTP/1.0\r\n" OK_HEAD OK_HEAD "\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: u@b\r\n\r\n", 400},
    /* framing */
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Content-Length: +5\r\n\r\nhello", 400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Content-Length: -5\r\n\r\nhello", 400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Content-Length: 5a\r\n\r\nhello", 400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Content-Length: 0x5\r\n\r\nhello", 400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Content-Length: 5, 5\r\n\r\nhello", 400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Content-Length:\r\n\r\nhello", 400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Content-Length: 99999999999999999999\r\n\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD
     "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD
     "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
     400},
    {"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: gzip\r\n\r\n", 501},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding:\r\n\r\n0\r\n\r\n", 501},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD
     "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
     400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
     400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
     400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
     400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
     400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: chunked\r\n\r\nx\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\n",
     400},
    /* bounds */
    {"POST /echo HTTP/1.1\r\n" OK_HEAD "Content-Length: 1001\r\n\r\n", 413},
    {"POST /pieces HTTP/1.1\r\n" OK_HEAD "Content-Length: 1001\r\n\r\n", 413},
    {"GET / HTTP/1.1\r\n" OK_HEAD "Expect: a-pony\r\n\r\n", 417},
};

/* One request, whole or byte by byte; returns the status and whether the server closed. */
static int exchange(struct str request, bool bytewise, bool *server_closes)
{
    struct raw r;
    struct raw_response resp;
    raw_open(loop, &r, port);
    for (size_t i = 0; bytewise && i < request.len; i++) {
        raw_send(&r, str_n(request.ptr + i, 1));
        uv_run(loop_uv(loop), UV_RUN_NOWAIT);
    }
    if (!bytewise)
        raw_send(&r, request);
    WAIT(loop, raw_response(&r, 0, false, &resp));
    int status = resp.status;
    *server_closes = str_find(resp.head, STR("Connection: close\r\n")) >= 0;
    if (*server_closes)
        WAIT(loop, r.eof);
    raw_close(loop, &r);
    return status;
}

static void malformed_requests_get_their_status_and_lose_the_connection(void **state)
{
    (void)state;
    open_server(NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (int bytewise = 0; bytewise < 2; bytewise++) {
            bool closes;
            int status = exchange(str_z(rows[i].request), bytewise, &closes);
            if (status != rows[i].status)
                print_error("row %zu: %s\n", i, rows[i].request);
            assert_int_equal(status, rows[i].status);
            bool http10 = strstr(rows[i].request, "HTTP/1.0") != NULL;
            assert_int_equal(closes, rows[i].status != 200 || http10);
        }
    }
}

static void a_nul_byte_in_a_head_is_refused(void **state)
{
    (void)state;
    open_server(NULL);
    static const char in_value[] = "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n";
    static const char in_name[] = "GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n";
    static const char in_host[] = "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n";
    bool closes;
    assert_int_equal(exchange(str_n(in_value, sizeof in_value - 1), false, &closes), 400);
    assert_int_equal(exchange(str_n(in_name, sizeof in_name - 1), false, &closes), 400);
    assert_int_equal(exchange(str_n(in_host, sizeof in_host - 1), false, &closes), 400);
}

static void heads_over_a_bound_are_431(void **state)
{
    (void)state;
    open_server(NULL);
    bool closes;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    /* one line too many */
    for (int lines = LIMIT_HTTP_HEADERS; lines <= LIMIT_HTTP_HEADERS + 1; lines++) {
        buf_clear(&b);
        buf_z(&b, "GET / HTTP/1.1\r\nHost: a\r\n");
        for (int i = 1; i < lines; i++)
            buf_z(&b, "X: y\r\n");
        buf_z(&b, "\r\n");
        assert_int_equal(exchange(buf_view(&b), false, &closes),
                         lines > LIMIT_HTTP_HEADERS ? 431 : 200);
    }
    /* too many bytes, with an end, without one, and in the request line */
    for (int kind = 0; kind < 3; kind++) {
        buf_clear(&b);
        buf_z(&b, kind == 2 ? "GET /" : "GET / HTTP/1.1\r\nHost: a\r\nX: ");
        for (int i = 0; i < LIMIT_HTTP_HEAD; i++)
            buf_ch(&b, 'x');
        if (kind == 0)
            buf_z(&b, "\r\n\r\n");
        assert_int_equal(exchange(buf_view(&b), false, &closes), 431);
        assert_true(closes);
    }
}

static void endless_chunk_extensions_and_trailers_are_431(void **state)
{
    (void)state;
    open_server(NULL);
    bool closes;
    for (int trailers = 0; trailers < 2; trailers++) {
        AUTO_BUF struct buf b = BUF_INIT(1 << 20);
        buf_z(&b, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        buf_z(&b, trailers ? "0\r\n" : "1;");
        for (int i = 0; i < 2000; i++)
            buf_z(&b, trailers ? "X: yyyyyyyyyyyyyy\r\n" : "xxxxxxxxxxxxxxxx");
        assert_int_equal(exchange(buf_view(&b), false, &closes), 431);
    }
}

static void a_chunked_body_over_its_bound_is_413(void **state)
{
    (void)state;
    open_server(NULL);
    bool closes;
    static const char *const paths[] = {"/echo", "/pieces"};
    for (size_t p = 0; p < COUNT_OF(paths); p++) {
        AUTO_BUF struct buf b = BUF_INIT(1 << 20);
        buf_printf(&b, "POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                   paths[p]);
        for (int i = 0; i <= BODY_MAX / 10; i++)
            buf_z(&b, "A\r\n0123456789\r\n");
        buf_z(&b, "0\r\n\r\n");
        assert_int_equal(exchange(buf_view(&b), false, &closes), 413);
        assert_true(closes);
    }
    WAIT(loop, closed == 2);
    assert_int_equal(gone, 0);
    assert_false(ended);
}

static void the_error_body_is_the_callers(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    struct raw_response resp;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET / HTTP/1.1\r\n\r\n"));
    WAIT(loop, raw_response(&r, 0, false, &resp));
    assert_true(str_eqz(resp.body, "{\"error\":\"INVALID\"}"));
    assert_true(str_find(resp.head, STR("Content-Type: application/json\r\n")) > 0);
    assert_true(str_find(resp.head, STR("\r\nDate: ")) > 0);
    raw_close(loop, &r);
}

static void method_path_and_query_reach_the_handler(void **state)
{
    (void)state;
    open_server(NULL);
    static const char *const table[][2] = {
        {"GET /a/b?c=d&e HTTP/1.1\r\nHost: a\r\n\r\n", "GET|/a/b|c=d&e"},
        {"DELETE /a%20b HTTP/1.1\r\nHost: a\r\n\r\n", "DELETE|/a%20b|"},
        {"GET http://h:1/p?q?r HTTP/1.1\r\nHost: a\r\n\r\n", "GET|/p|q?r"},
        {"GET http://h HTTP/1.1\r\nHost: a\r\n\r\n", "GET|/|"},
        {"GET https://h?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET|/|q"},
        {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS|*|"},
        {"GET /? HTTP/1.1\r\nHost: a\r\n\r\n", "GET|/|"},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        bool closes;
        assert_int_equal(exchange(str_z(table[i][0]), false, &closes), 200);
        assert_string_equal(seen_text, table[i][1]);
    }
}

/* ---- keep-alive and pipelining ---- */

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    raw_open(loop, &r, port);
    raw_send(&r, STR("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1"
                     "GET /later HTTP/1.1\r\nHost: a\r\n\r\n"
                     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
                     "chunked\r\n\r\n1\r\n3\r\n0\r\n\r\n"
                     "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                     "GET /never HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, pending);
    assert_int_equal(handled, 2); /* the third waits for the second's answer */
    reply_text(pending, 200, STR("2"));
    assert_int_equal(handled, 2); /* and not inside this call */
    WAIT(loop, r.eof);
    static const char *const bodies[] = {"1", "2", "3", "hello"};
    size_t at = 0;
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        struct raw_response resp;
        assert_true(raw_response(&r, at, false, &resp));
        assert_true(str_eqz(resp.body, bodies[i]));
        at = resp.end;
    }
    assert_int_equal(at, r.got.len);
    assert_int_equal(handled, 4);
    assert_int_equal(closed, 4);
    assert_int_equal(gone, 0);
    raw_close(loop, &r);
}

static void many_pipelined_requests_all_get_answers(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    raw_open(loop, &r, port);
    enum { MANY = 5000 };
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    for (int i = 0; i < MANY; i++)
        buf_z(&b, "GET /abc HTTP/1.1\r\nHost: a\r\n\r\n");
    raw_send(&r, buf_view(&b));
    WAIT(loop, closed == MANY);
    raw_end(&r);
    WAIT(loop, r.eof);
    int answers = 0;
    struct raw_response resp;
    for (size_t at = 0; raw_response(&r, at, false, &resp); at = resp.end)
        answers++;
    assert_int_equal(answers, MANY);
    raw_close(loop, &r);
}

static void
a_connection_serves_again_after_a_small_unread_body_and_closes_after_a_large_one(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    struct raw_response resp;
    raw_open(loop, &r, port);
    raw_send(&r, STR("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"));
    WAIT(loop, raw_response(&r, 0, false, &resp)); /* before the body came */
    raw_send(&r, STR("12345GET /x HTTP/1.1\r\nHost: a\r\n\r\n"));
    size_t second = resp.end;
    WAIT(loop, raw_response(&r, second, false, &resp));
    assert_string_equal(seen_text, "GET|/x|");
    raw_send(&r, STR("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\nabc"));
    size_t third = resp.end;
    WAIT(loop, raw_response(&r, third, false, &resp));
    assert_true(str_find(resp.head, STR("Connection: close")) > 0);
    WAIT(loop, r.eof);
    raw_close(loop, &r);
    WAIT(loop, http_server_connections(server) == 0);
}

static void a_client_that_goes_on_sending_still_reads_the_refusal(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    struct raw_response resp;
    raw_open(loop, &r, port);
    AUTO_BUF struct buf b = BUF_INIT(8 << 20);
    buf_z(&b, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n");
    for (int i = 0; i < 100000; i++)
        buf_z(&b, "0123456789012345678901234567890123456789");
    raw_send(&r, buf_view(&b));
    WAIT(loop, raw_response(&r, 0, false, &resp));
    assert_int_equal(resp.status, 413);
    WAIT(loop, r.eof);
    assert_int_equal(r.failed, 0); /* an end, not a reset */
    raw_close(loop, &r);
}

static void http_1_0_is_closed_and_gets_no_chunks(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    WAIT(loop, pending);
    struct bytes *b = bytes_new(STR("abc"));
    http_stream_write(pending, b);
    http_stream_write(pending, b);
    bytes_unref(b);
    http_stream_end(pending);
    WAIT(loop, r.eof);
    ptrdiff_t head = str_find(buf_view(&r.got), STR("\r\n\r\n"));
    assert_string_equal(r.got.data + head + 4, "abcabc");
    assert_true(str_find(buf_view(&r.got), STR("Transfer-Encoding")) < 0);
    assert_true(str_find(buf_view(&r.got), STR("Connection: close")) > 0);
    raw_close(loop, &r);
}

static void head_and_204_have_no_body(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    raw_open(loop, &r, port);
    raw_send(&r,
             STR("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /empty HTTP/1.1\r\nHost: a\r\n\r\n"
                 "HEAD /file HTTP/1.1\r\nHost: a\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n"));
    struct raw_response a, b, c, d;
    WAIT(loop, raw_response(&r, 0, true, &a) && raw_response(&r, a.end, true, &b) &&
                   raw_response(&r, b.end, true, &c) && raw_response(&r, c.end, false, &d));
    assert_true(str_find(a.head, STR("Content-Length: 5\r\n")) > 0);
    assert_int_equal(b.status, 204);
    assert_true(str_find(b.head, STR("Content-Length")) < 0);
    assert_true(str_find(c.head, STR("Content-Length: 300000\r\n")) > 0);
    assert_true(str_eqz(d.body, "hello"));
    raw_close(loop, &r);
}

static void a_header_value_cannot_end_its_line(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    struct raw_response resp;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET /inject HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, raw_response(&r, 0, false, &resp));
    assert_true(str_find(resp.head, STR("\r\nX-A: a  X-B: b\r\n")) > 0);
    raw_close(loop, &r);
}

static void expect_100_continue_is_answered_when_the_body_is_wanted(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    struct raw_response resp;
    raw_open(loop, &r, port);
    raw_send(&r, STR("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n"
                     "Content-Length: 3\r\n\r\n"));
    WAIT(loop, r.got.len >= 25);
    assert_string_equal(r.got.data, "HTTP/1.1 100 Continue\r\n\r\n");
    raw_send(&r, STR("abc"));
    WAIT(loop, raw_response(&r, 25, false, &resp));
    assert_true(str_eqz(resp.body, "abc"));
    /* Not wanted: the final answer comes at once, and the connection closes. */
    raw_send(&r, STR("POST /hello HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                     "Content-Length: 3\r\n\r\n"));
    size_t at = resp.end;
    WAIT(loop, raw_response(&r, at, false, &resp));
    assert_int_equal(resp.status, 200);
    assert_true(str_find(resp.head, STR("Connection: close")) > 0);
    raw_close(loop, &r);
}

/* ---- bodies in pieces ---- */

static void a_paused_body_waits_and_goes_on(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    struct raw_response resp;
    raw_open(loop, &r, port);
    raw_send(&r, STR("POST /pieces HTTP/1.1\r\nHost: a\r\nX-Pause: 1\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"));
    WAIT(loop, pieces == 1);
    for (int i = 0; i < 10; i++)
        uv_run(loop_uv(loop), UV_RUN_NOWAIT);
    assert_int_equal(pieces, 1);
    http_req_resume(pending);
    assert_int_equal(pieces, 1); /* not inside this call */
    WAIT(loop, pieces == 2);
    for (int i = 0; i < 10; i++)
        uv_run(loop_uv(loop), UV_RUN_NOWAIT);
    assert_false(ended);
    http_req_resume(pending);
    WAIT(loop, raw_response(&r, 0, false, &resp));
    assert_true(ended);
    assert_int_equal(sizes, 7);
    raw_close(loop, &r);
}

static void a_client_that_leaves_inside_its_body_is_gone(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    raw_open(loop, &r, port);
    raw_send(&r, STR("POST /pieces HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"));
    WAIT(loop, pieces == 1);
    raw_close(loop, &r);
    WAIT(loop, closed == 1);
    assert_int_equal(gone, 1);
    assert_false(ended);
}

/* ---- streams ---- */

static void a_stream_is_chunked_and_its_head_comes_at_once(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET /stream HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"));
    struct raw_response resp;
    WAIT(loop, raw_response(&r, 0, false, &resp));
    assert_true(str_find(resp.head, STR("Transfer-Encoding: chunked\r\n")) > 0);
    struct bytes *b = bytes_new(STR("0123456789abcdef")), *none = bytes_new(STR(""));
    size_t at = resp.end;
    http_stream_write(pending, b);
    http_stream_write(pending, none); /* must not look like the end */
    bytes_unref(none);
    static const char chunk[] = "10\r\n0123456789abcdef\r\n";
    WAIT(loop, r.got.len == at + sizeof chunk - 1);
    assert_string_equal(r.got.data + at, chunk);
    assert_int_equal(handled, 1);
    http_stream_end(pending);
    at = r.got.len + 5;
    WAIT(loop, raw_response(&r, at, false, &resp));
    assert_memory_equal(r.got.data + at - 5, "0\r\n\r\n", 5);
    assert_int_equal(b->refs, 1);
    bytes_unref(b);
    raw_close(loop, &r);
}

static void a_slow_reader_fills_the_queue_and_the_drain_is_told(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    raw_open(loop, &r, port);
    raw_pause(&r, true);
    raw_send(&r, STR("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, pending);
    AUTO_FREE char *text = mem_alloc(100000);
    for (int i = 0; i < 100000; i++)
        text[i] = (char)('a' + i % 26);
    struct bytes *b = bytes_new(str_n(text, 100000));
    size_t chunks = 0;
    while (http_stream_queued(pending) < 1000000) {
        http_stream_write(pending, b);
        chunks++;
        uv_run(loop_uv(loop), UV_RUN_NOWAIT);
    }
    assert_true(b->refs > 5); /* by reference, not copied */
    assert_int_equal(drains, 0);
    raw_pause(&r, false);
    WAIT(loop, drains == 1);
    assert_int_equal(b->refs, 1);
    http_stream_end(pending);
    WAIT(loop, closed == 1);
    assert_int_equal(gone, 0);
    WAIT(loop, str_ends(buf_view(&r.got), STR("\r\n0\r\n\r\n")));
    /* Every chunk whole and in order. */
    struct str s = buf_view(&r.got);
    s = str_skip(s, (size_t)str_find(s, STR("\r\n\r\n")) + 4);
    for (size_t i = 0; i < chunks; i++) {
        assert_true(str_starts(s, STR("186a0\r\n")));
        assert_memory_equal(s.ptr + 7, text, 100000);
        s = str_skip(s, 7 + 100000 + 2);
    }
    assert_true(str_eqz(s, "0\r\n\r\n"));
    bytes_unref(b);
    raw_close(loop, &r);
}

static void a_client_that_leaves_a_stream_is_noticed_without_a_write(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, pending);
    raw_close(loop, &r);
    WAIT(loop, closed == 1);
    assert_int_equal(gone, 1);
    assert_null(pending);
    WAIT(loop, http_server_connections(server) == 0);
}

static void an_aborted_stream_has_no_proper_end(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, pending);
    struct http_req *req = pending;
    http_stream_abort(req);
    assert_int_equal(closed, 0); /* never inside a call */
    http_stream_end(req);        /* too late, and harmless */
    WAIT(loop, r.eof);
    assert_int_equal(closed, 1);
    assert_int_equal(gone, 1);
    assert_false(str_ends(buf_view(&r.got), STR("0\r\n\r\n0\r\n\r\n")));
    raw_close(loop, &r);
}

static void a_file_is_sent_whole_and_a_short_one_breaks_off(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    struct raw_response resp;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET /file HTTP/1.1\r\nHost: a\r\n\r\nGET /file HTTP/1.1\r\nHost: a\r\n"
                     "X-Short: 1\r\n\r\n"));
    WAIT(loop, raw_response(&r, 0, false, &resp));
    assert_int_equal(resp.body.len, 300000);
    size_t at = resp.end;
    WAIT(loop, r.eof);
    assert_false(raw_response(&r, at, false, &resp));
    assert_int_equal(closed, 2);
    assert_int_equal(gone, 1);
    raw_close(loop, &r);
}

static void a_client_that_leaves_inside_a_file_leaves_nothing_open(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    raw_open(loop, &r, port);
    raw_pause(&r, true);
    for (int i = 0; i < 40; i++)
        raw_send(&r, STR("GET /file HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, handled > 1);
    raw_close(loop, &r);
    WAIT(loop, http_server_connections(server) == 0);
    assert_int_equal(closed, handled);
}

/* ---- clients that leave, half-close or stall ---- */

static void a_client_that_leaves_while_the_handler_works_is_gone(void **state)
{
    (void)state;
    open_server(&(struct http_server_config){.half_close_ms = SHORT_MS});
    struct raw r;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET /later HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, pending);
    raw_close(loop, &r);
    WAIT(loop, closed == 1);
    assert_int_equal(gone, 1);
}

static void a_half_closed_client_still_gets_its_answers(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    struct raw_response a, b;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET /later HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"));
    raw_end(&r);
    WAIT(loop, pending);
    for (int i = 0; i < 20; i++)
        uv_run(loop_uv(loop), UV_RUN_NOWAIT); /* its end arrives meanwhile */
    reply_text(pending, 200, STR("1"));
    WAIT(loop, r.eof);
    assert_true(raw_response(&r, 0, false, &a));
    assert_true(raw_response(&r, a.end, false, &b));
    assert_true(str_eqz(a.body, "1"));
    assert_true(str_eqz(b.body, "hello"));
    assert_int_equal(gone, 0);
    raw_close(loop, &r);
}

static void a_reset_while_the_handler_works_is_noticed_at_once(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET /later HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, pending);
    uv_tcp_close_reset(&r.tcp, raw_on_closed);
    WAIT(loop, r.closed && closed == 1);
    assert_int_equal(gone, 1);
    buf_fini(&r.got);
}

static void slow_heads_and_bodies_get_408(void **state)
{
    (void)state;
    open_server(&(struct http_server_config){.head_ms = SHORT_MS, .body_idle_ms = SHORT_MS});
    static const char *const parts[] = {
        "G",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc",
        "POST /pieces HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    };
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        struct raw r;
        struct raw_response resp;
        raw_open(loop, &r, port);
        raw_send(&r, str_z(parts[i]));
        WAIT(loop, raw_response(&r, 0, false, &resp));
        assert_int_equal(resp.status, 408);
        WAIT(loop, r.eof);
        raw_close(loop, &r);
    }
    assert_false(ended);
}

static void a_dripping_head_does_not_move_its_deadline(void **state)
{
    (void)state;
    open_server(&(struct http_server_config){.head_ms = SHORT_MS});
    struct raw r;
    struct raw_response resp;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET / HTTP/1.1\r\nX: "));
    while (!raw_response(&r, 0, false, &resp)) { /* a byte each turn, for ever */
        raw_send(&r, STR("x"));
        uv_run(loop_uv(loop), UV_RUN_NOWAIT);
        uv_sleep(1); /* paces the drip only: nothing is waited for */
    }
    assert_int_equal(resp.status, 408);
    raw_close(loop, &r);
}

static void an_idle_connection_is_closed_without_a_word(void **state)
{
    (void)state;
    open_server(&(struct http_server_config){.keepalive_ms = SHORT_MS});
    struct raw r, never;
    struct raw_response resp;
    raw_open(loop, &r, port);
    raw_open(loop, &never, port);
    raw_send(&r, STR("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, r.eof && never.eof);
    assert_true(raw_response(&r, 0, false, &resp));
    assert_int_equal(resp.end, r.got.len);
    assert_int_equal(never.got.len, 0);
    raw_close(loop, &r);
    raw_close(loop, &never);
}

static void a_working_handler_has_no_deadline(void **state)
{
    (void)state;
    open_server(&(struct http_server_config){
        .keepalive_ms = SHORT_MS, .head_ms = SHORT_MS, .body_idle_ms = SHORT_MS});
    struct raw r, idle;
    struct raw_response resp;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET /later HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, pending);
    for (int i = 0; i < 3; i++) { /* each of these lives for one timeout */
        raw_open(loop, &idle, port);
        WAIT(loop, idle.eof);
        raw_close(loop, &idle);
    }
    assert_int_equal(closed, 0);
    reply_text(pending, 200, STR("x"));
    WAIT(loop, raw_response(&r, 0, false, &resp));
    raw_close(loop, &r);
}

static void a_reader_that_takes_nothing_is_dropped(void **state)
{
    (void)state;
    open_server(&(struct http_server_config){.body_idle_ms = SHORT_MS});
    struct raw r;
    raw_open(loop, &r, port);
    raw_pause(&r, true);
    raw_send(&r, STR("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, pending);
    AUTO_FREE char *text = mem_zalloc(1 << 20);
    struct bytes *b = bytes_new(str_n(text, 1 << 20));
    for (int i = 0; i < 16; i++)
        http_stream_write(pending, b);
    WAIT(loop, closed == 1);
    assert_int_equal(gone, 1);
    WAIT(loop, b->refs == 1);
    bytes_unref(b);
    raw_close(loop, &r);
}

static void a_client_that_pipelines_without_end_is_read_only_so_far(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET /later HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, pending);
    AUTO_FREE char *flood = mem_alloc(16 << 20);
    for (size_t i = 0; i < 16 << 20; i++)
        flood[i] = 'A';
    raw_send(&r, str_n(flood, 16 << 20));
    for (int i = 0; i < 200; i++)
        uv_run(loop_uv(loop), UV_RUN_NOWAIT);
    assert_true(r.tcp.write_queue_size > 0); /* most of it is still ours */
    reply_text(pending, 200, STR("x"));
    WAIT(loop, r.eof); /* then the flood is seen to be no request */
    assert_true(str_find(buf_view(&r.got), STR("HTTP/1.1 431 ")) > 0);
    raw_close(loop, &r);
}

/* ---- opening and closing ---- */

static void a_port_in_use_is_said_so(void **state)
{
    (void)state;
    open_server(NULL);
    struct http_server *other;
    struct err err;
    struct http_server_config cfg = {.host = "127.0.0.1", .port = port, .handler = handler};
    assert_int_equal(http_server_open(loop, &cfg, &other, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "in use"));
    cfg = (struct http_server_config){.host = "no.such.host.invalid", .handler = handler};
    assert_int_equal(http_server_open(loop, &cfg, &other, &err), ERR_CONNECT);
    assert_non_null(strstr(err.msg, "no.such.host.invalid"));
    cfg = (struct http_server_config){.host = "127.0.0.1", .port = 70000, .handler = handler};
    assert_int_equal(http_server_open(loop, &cfg, &other, &err), ERR_INVALID);
}

static void connections_over_the_bound_are_closed(void **state)
{
    (void)state;
    open_server(&(struct http_server_config){.max_connections = 1});
    struct raw a, b;
    struct raw_response resp;
    raw_open(loop, &a, port);
    WAIT(loop, http_server_connections(server) == 1);
    raw_open(loop, &b, port);
    WAIT(loop, b.eof);
    raw_send(&a, STR("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, raw_response(&a, 0, false, &resp));
    raw_close(loop, &a);
    raw_close(loop, &b);
}

static void closing_ends_idle_ones_and_streams_and_waits_for_answers(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw idle, streaming, busy;
    struct raw_response resp;
    raw_open(loop, &idle, port);
    raw_open(loop, &streaming, port);
    raw_open(loop, &busy, port);
    raw_send(&streaming, STR("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, pending);
    raw_send(&busy, STR("GET /later HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, handled == 2);
    bool done = false;
    http_server_close(server, 20000, on_server_closed, &done);
    server = NULL;
    assert_int_equal(closed, 0); /* not inside the call */
    WAIT(loop, idle.eof && streaming.eof);
    assert_int_equal(gone, 1);
    assert_false(busy.eof);
    assert_false(done);
    assert_false(str_ends(buf_view(&streaming.got), STR("\r\n0\r\n\r\n")));
    reply_text(pending, 200, STR("late"));
    WAIT(loop, busy.eof);
    assert_true(raw_response(&busy, 0, false, &resp));
    assert_true(str_find(resp.head, STR("Connection: close")) > 0);
    raw_close(loop, &busy);
    WAIT(loop, done);
    raw_close(loop, &idle);
    raw_close(loop, &streaming);
}

static void the_grace_of_a_close_ends(void **state)
{
    (void)state;
    open_server(NULL);
    struct raw r;
    raw_open(loop, &r, port);
    raw_send(&r, STR("GET /later HTTP/1.1\r\nHost: a\r\n\r\n"));
    WAIT(loop, pending);
    bool done = false;
    http_server_close(server, SHORT_MS, on_server_closed, &done);
    server = NULL;
    WAIT(loop, done);
    assert_int_equal(gone, 1);
    raw_close(loop, &r);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(malformed_requests_get_their_status_and_lose_the_connection),
        T(a_nul_byte_in_a_head_is_refused),
        T(heads_over_a_bound_are_431),
        T(endless_chunk_extensions_and_trailers_are_431),
        T(a_chunked_body_over_its_bound_is_413),
        T(the_error_body_is_the_callers),
        T(method_path_and_query_reach_the_handler),
        T(pipelined_requests_are_answered_in_order),
        T(many_pipelined_requests_all_get_answers),
        T(a_connection_serves_again_after_a_small_unread_body_and_closes_after_a_large_one),
        T(a_client_that_goes_on_sending_still_reads_the_refusal),
        T(http_1_0_is_closed_and_gets_no_chunks),
        T(head_and_204_have_no_body),
        T(a_header_value_cannot_end_its_line),
        T(expect_100_continue_is_answered_when_the_body_is_wanted),
        T(a_paused_body_waits_and_goes_on),
        T(a_client_that_leaves_inside_its_body_is_gone),
        T(a_stream_is_chunked_and_its_head_comes_at_once),
        T(a_slow_reader_fills_the_queue_and_the_drain_is_told),
        T(a_client_that_leaves_a_stream_is_noticed_without_a_write),
        T(an_aborted_stream_has_no_proper_end),
        T(a_file_is_sent_whole_and_a_short_one_breaks_off),
        T(a_client_that_leaves_inside_a_file_leaves_nothing_open),
        T(a_client_that_leaves_while_the_handler_works_is_gone),
        T(a_half_closed_client_still_gets_its_answers),
        T(a_reset_while_the_handler_works_is_noticed_at_once),
        T(slow_heads_and_bodies_get_408),
        T(a_dripping_head_does_not_move_its_deadline),
        T(an_idle_connection_is_closed_without_a_word),
        T(a_working_handler_has_no_deadline),
        T(a_reader_that_takes_nothing_is_dropped),
        T(a_client_that_pipelines_without_end_is_read_only_so_far),
        T(a_port_in_use_is_said_so),
        T(connections_over_the_bound_are_closed),
        T(closing_ends_idle_ones_and_streams_and_waits_for_answers),
        T(the_grace_of_a_close_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
