/* http/ server: raw bytes in, raw bytes out, over a real socket on one loop. */
#include "http_fixture.h"

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
    int before = drains;      /* while the client's kernel still took all */
    raw_pause(&r, false);
    WAIT(loop, drains == before + 1);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
