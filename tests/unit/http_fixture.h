/* http_fixture: a server on a loop with a route for each behaviour, for the tests of http/. One
 * thread, test only; included once per test program. */
#ifndef OSTLER_TESTS_HTTP_FIXTURE_H
#define OSTLER_TESTS_HTTP_FIXTURE_H

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

enum { WATCHDOG_MS = 60000, SHORT_MS = 30, BODY_MAX = 1000 };

static struct loop *loop;
static struct loop_timer watchdog;
static struct http_server *server;
static int port;

/* What the handler saw last, and requests left to the test. */
static struct http_req *pending;
static int handled, closed, gone, drains, pieces, sizes;
static bool ended;
static char seen_text[256];

static inline void on_closed(struct http_req *r, bool was_gone)
{
    closed++;
    gone += was_gone;
    if (pending == r)
        pending = NULL;
}

static inline void on_drain(struct http_req *r)
{
    assert_int_equal(http_stream_queued(r), 0);
    drains++;
}

static inline void reply_text(struct http_req *r, int status, struct str body)
{
    struct http_header h = {STR("Content-Type"), STR("text/plain")};
    http_reply(r, status, &h, 1, body);
}

static inline void on_body(struct http_req *r, struct str body)
{
    assert_int_equal(body.ptr[body.len], 0);
    reply_text(r, 200, body);
}

static inline void on_piece(struct http_req *r, struct str piece)
{
    pieces++;
    sizes += (int)piece.len;
    if (http_req_header(r, "X-Pause").ptr)
        http_req_pause(r);
}

static inline void on_end(struct http_req *r)
{
    ended = true;
    reply_text(r, 200, STR("end"));
}

static inline void keep(struct http_req *r)
{
    pending = r;
}

static inline void stream(struct http_req *r)
{
    struct http_header h = {STR("Content-Type"), STR("text/event-stream")};
    http_stream(r, 200, &h, 1);
    http_stream_on_drain(r, on_drain);
    pending = r;
}

static inline void file(struct http_req *r)
{
    int fd = memfd_create("body", MFD_CLOEXEC);
    size_t len = 300000;
    assert_int_equal(ftruncate(fd, (off_t)len), 0);
    bool cut = str_some(http_req_header(r, "X-Short"));
    http_reply_file(r, 200, NULL, 0, fd, cut ? len + 1 : len);
}

static inline void handler(struct http_req *r, void *arg)
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

static inline void error_body(struct buf *out, const struct err *err, void *arg)
{
    (void)arg;
    buf_printf(out, "{\"error\":\"%s\"}", err_name(err->code));
}

static inline void too_late(struct loop_timer *t)
{
    (void)t;
    fprintf(stderr, "the test hangs\n");
    abort();
}

static inline void open_server(const struct http_server_config *with)
{
    struct http_server_config cfg = with ? *with : (struct http_server_config){.head_ms = 0};
    cfg.host = "127.0.0.1";
    cfg.handler = handler;
    cfg.error_body = error_body;
    struct err err;
    assert_int_equal(http_server_open(loop, &cfg, &server, &err), 0);
    port = http_server_port(server);
}

static inline int setup(void **state)
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

static inline void on_server_closed(void *arg)
{
    *(bool *)arg = true;
}

static inline int teardown(void **state)
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

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
