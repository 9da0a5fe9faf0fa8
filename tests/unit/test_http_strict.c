/* http/ server: what it refuses and what it takes, byte for byte. */
#include "http_fixture.h"

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
