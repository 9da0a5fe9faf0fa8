/* http/ client: against our own server and against canned bytes, all on one loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "http/client.h"
#include "http/server.h"
#include "http/sse.h"
#include "http_raw.h"

#include <unistd.h>

enum {
    WATCHDOG_MS = 60000,
    SHORT_MS = 40,
    SILENCE_MS = 300, /* long enough that a busy machine does not make one of its own */
};

static struct loop *loop;
static struct loop_timer watchdog;
static struct http_server *server;
static struct http_client *client;
static char base[64];

/* ---- the server's side ---- */

static struct http_req *pending;
static int requests, gone;

static void on_closed(struct http_req *r, bool was_gone)
{
    gone += was_gone;
    if (pending == r)
        pending = NULL;
}

static void on_body(struct http_req *r, struct str body)
{
    struct http_header h[] = {{STR("X-Method"), http_req_method(r)},
                              {STR("X-Custom"), http_req_header(r, "X-Custom")},
                              {STR("X-Type"), http_req_header(r, "Content-Type")}};
    http_reply(r, 200, h, 3, body);
}

static void handler(struct http_req *r, void *arg)
{
    (void)arg;
    requests++;
    http_req_on_closed(r, on_closed);
    struct str path = http_req_path(r);
    if (str_eqz(path, "/stream")) {
        struct http_header h = {STR("Content-Type"), STR("text/event-stream")};
        http_stream(r, 200, &h, 1);
        pending = r;
    } else if (str_eqz(path, "/never")) {
        pending = r;
    } else if (str_eqz(path, "/error")) {
        http_reply(r, 529, NULL, 0, STR("busy"));
    } else {
        http_req_body(r, 16 << 20, on_body);
    }
}

static void serve(struct str text)
{
    struct bytes *b = bytes_new(text);
    http_stream_write(pending, b);
    bytes_unref(b);
}

/* ---- canned servers ---- */

/* Answers whatever comes with fixed bytes, then closes. */
struct canned {
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } listener;
    bool is_pipe, closed;
    const char *answer;
};

struct canned_conn {
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } s;
    const char *answer;
    char in[65536];
};

static void free_conn(uv_handle_t *h)
{
    mem_free(h);
}

static void canned_alloc(uv_handle_t *h, size_t hint, uv_buf_t *buf)
{
    (void)hint;
    struct canned_conn *c = (struct canned_conn *)(void *)h;
    *buf = uv_buf_init(c->in, sizeof c->in);
}

static void canned_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    (void)buf;
    struct canned_conn *c = (struct canned_conn *)(void *)s;
    if (n == 0)
        return;
    uv_buf_t out = uv_buf_init((char *)(uintptr_t)c->answer, (unsigned)strlen(c->answer));
    if (n > 0 && out.len)
        assert_int_equal(uv_try_write(s, &out, 1), out.len);
    uv_close((uv_handle_t *)s, free_conn);
}

static void canned_connection(uv_stream_t *listener, int status)
{
    struct canned *l = (struct canned *)(void *)listener;
    assert_int_equal(status, 0);
    struct canned_conn *c = mem_zalloc(sizeof *c);
    c->answer = l->answer;
    if (l->is_pipe)
        uv_pipe_init(loop_uv(loop), &c->s.pipe, 0);
    else
        uv_tcp_init(loop_uv(loop), &c->s.tcp);
    uv_accept(listener, &c->s.stream);
    uv_read_start(&c->s.stream, canned_alloc, canned_read);
}

static void canned_open(struct canned *c, const char *answer, char url[64])
{
    *c = (struct canned){.answer = answer};
    struct sockaddr_in sa;
    int len = sizeof sa;
    uv_ip4_addr("127.0.0.1", 0, &sa);
    uv_tcp_init(loop_uv(loop), &c->listener.tcp);
    uv_tcp_bind(&c->listener.tcp, (struct sockaddr *)&sa, 0);
    assert_int_equal(uv_listen(&c->listener.stream, 8, canned_connection), 0);
    uv_tcp_getsockname(&c->listener.tcp, (struct sockaddr *)&sa, &len);
    snprintf(url, 64, "http://127.0.0.1:%d/x", ntohs(sa.sin_port));
}

static void canned_open_unix(struct canned *c, const char *answer, const char *path)
{
    *c = (struct canned){.answer = answer, .is_pipe = true};
    uv_pipe_init(loop_uv(loop), &c->listener.pipe, 0);
    assert_int_equal(uv_pipe_bind(&c->listener.pipe, path), 0);
    assert_int_equal(uv_listen(&c->listener.stream, 8, canned_connection), 0);
}

static void canned_on_closed(uv_handle_t *h)
{
    ((struct canned *)(void *)h)->closed = true;
}

static void canned_close(struct canned *c)
{
    uv_close((uv_handle_t *)&c->listener.stream, canned_on_closed);
    WAIT(loop, c->closed);
}

/* ---- the client's side ---- */

enum act { ACT_NONE, ACT_CANCEL, ACT_PAUSE, ACT_CANCEL_OTHER, ACT_START };

struct seen {
    struct http_call *call, *other;
    struct seen *next; /* what ACT_START starts */
    int status, heads, dones;
    size_t pieces;
    struct buf body;
    char header[3][64]; /* x-method, x-custom, x-type */
    struct err err;
    enum act on_head, on_data, on_done;
};

static struct http_call *start(struct seen *s, const struct http_call_params *with);

static void act(struct seen *s, enum act what)
{
    struct http_call_params p = {.url = base};
    switch (what) {
    case ACT_NONE: break;
    case ACT_CANCEL: http_call_cancel(s->call); break;
    case ACT_PAUSE: http_call_pause(s->call, true); break;
    case ACT_CANCEL_OTHER: http_call_cancel(s->other); break;
    case ACT_START: start(s->next, &p); break;
    }
}

static void on_head(void *arg, int status, const struct http_header *h, size_t n)
{
    struct seen *s = arg;
    s->heads++;
    s->status = status;
    static const char *const names[] = {"x-method", "x-custom", "x-type"};
    for (size_t i = 0; i < 3; i++)
        str_copyz(s->header[i], sizeof s->header[i], http_header_get(h, n, names[i]));
    act(s, s->on_head);
}

static void on_data(void *arg, struct str piece)
{
    struct seen *s = arg;
    s->pieces++;
    buf_str(&s->body, piece);
    act(s, s->on_data);
}

static void on_done(void *arg, const struct err *err)
{
    struct seen *s = arg;
    s->dones++;
    s->err = *err;
    act(s, s->on_done);
    s->call = NULL;
}

static struct http_call *start(struct seen *s, const struct http_call_params *with)
{
    struct http_call_params p = *with;
    if (!p.method)
        p.method = "GET";
    p.on_head = on_head;
    p.on_data = on_data;
    p.on_done = on_done;
    p.arg = s;
    s->body.max = 256u << 20;
    s->call = http_call_start(client, &p, &s->err);
    return s->call;
}

static void run(struct seen *s, const struct http_call_params *with)
{
    assert_non_null(start(s, with));
    WAIT(loop, s->dones == 1);
}

static const char *url(const char *path)
{
    static char text[128];
    snprintf(text, sizeof text, "%s%s", base, path);
    return text;
}

static void turn(int times)
{
    for (int i = 0; i < times; i++)
        uv_run(loop_uv(loop), UV_RUN_NOWAIT);
}

static void too_late(struct loop_timer *t)
{
    (void)t;
    fprintf(stderr, "the test hangs\n");
    abort();
}

static int setup(void **state)
{
    (void)state;
    loop = loop_new();
    loop_timer_init(loop, &watchdog);
    loop_timer_start(&watchdog, WATCHDOG_MS, too_late);
    struct http_server_config cfg = {
        .host = "127.0.0.1", .handler = handler, .half_close_ms = SHORT_MS};
    struct err err;
    assert_int_equal(http_server_open(loop, &cfg, &server, &err), 0);
    snprintf(base, sizeof base, "http://127.0.0.1:%d", http_server_port(server));
    client = http_client_new(loop);
    pending = NULL;
    requests = gone = 0;
    return 0;
}

static void set_true(void *arg)
{
    *(bool *)arg = true;
}

static int teardown(void **state)
{
    (void)state;
    bool server_closed = false, client_closed = !client;
    if (client)
        http_client_close(client, set_true, &client_closed);
    http_server_close(server, 0, set_true, &server_closed);
    WAIT(loop, server_closed && client_closed);
    loop_timer_close(&watchdog, NULL);
    loop_free(loop);
    return 0;
}

/* ---- exchanges ---- */

static void method_headers_and_body_arrive_and_come_back(void **state)
{
    (void)state;
    struct http_header h[] = {{STR("X-Custom"), STR("blue")}};
    static const struct {
        const char *method, *body, *answer;
    } rows[] = {
        {"GET", NULL, ""},     {"POST", "hello", "hello"}, {"POST", "", ""},    {"POST", NULL, ""},
        {"PUT", "abc", "abc"}, {"DELETE", NULL, ""},       {"PATCH", "p", "p"}, {"HEAD", NULL, ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct seen s = {.status = 0};
        run(&s, &(struct http_call_params){.method = rows[i].method,
                                           .url = url("/echo?a=b"),
                                           .headers = h,
                                           .nheaders = 1,
                                           .body = str_z(rows[i].body)});
        assert_int_equal(s.err.code, 0);
        assert_int_equal(s.status, 200);
        assert_int_equal(s.heads, 1);
        assert_string_equal(s.header[0], rows[i].method);
        assert_string_equal(s.header[1], "blue");
        assert_string_equal(s.header[2], ""); /* curl's form type is not sent */
        assert_true(str_eqz(buf_view(&s.body), rows[i].answer));
        buf_fini(&s.body);
    }
    assert_int_equal(http_server_connections(server), 1); /* pooled */
}

static void nothing_is_called_inside_start(void **state)
{
    (void)state;
    struct seen refused = {.status = 0}, fine = {.status = 0};
    assert_non_null(start(&refused, &(struct http_call_params){.url = "http://127.0.0.1:1/"}));
    assert_non_null(start(&fine, &(struct http_call_params){.url = base}));
    assert_int_equal(refused.dones + fine.dones + fine.heads, 0);
    WAIT(loop, refused.dones && fine.dones);
    assert_int_equal(refused.err.code, ERR_CONNECT);
    assert_int_equal(refused.heads, 0);
    assert_non_null(strstr(refused.err.msg, "127.0.0.1"));
    assert_int_equal(fine.err.code, 0);
}

static void large_bodies_go_both_ways(void **state)
{
    (void)state;
    size_t len = 8 << 20;
    AUTO_FREE char *text = mem_alloc(len);
    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + i % 23);
    struct seen s = {.status = 0};
    run(&s, &(struct http_call_params){.method = "POST", .url = base, .body = str_n(text, len)});
    assert_int_equal(s.err.code, 0);
    assert_int_equal(s.body.len, len);
    assert_memory_equal(s.body.data, text, len);
    buf_fini(&s.body);
}

static void an_error_status_is_a_complete_response(void **state)
{
    (void)state;
    struct seen s = {.status = 0};
    run(&s, &(struct http_call_params){.url = url("/error")});
    assert_int_equal(s.err.code, 0);
    assert_int_equal(s.status, 529);
    assert_string_equal(s.body.data, "busy");
    buf_fini(&s.body);
}

static void many_calls_run_at_once(void **state)
{
    (void)state;
    enum { MANY = 100 };
    static struct seen s[MANY];
    memset(s, 0, sizeof s);
    for (int i = 0; i < MANY; i++)
        assert_non_null(start(&s[i], &(struct http_call_params){.url = base}));
    for (int i = 0; i < MANY; i++) {
        WAIT(loop, s[i].dones == 1);
        assert_int_equal(s[i].err.code, 0);
    }
    assert_int_equal(requests, MANY);
}

/* ---- canned answers ---- */

static void odd_answers_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        int code, status;
        const char *body;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", 0, 200, "ab"},
        {"HTTP/1.1 200 OK\r\n\r\nuntil the end", 0, 200, "until the end"},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n"
         "HTTP/1.1 201 Created\r\nX-Custom: z\r\nContent-Length: 0\r\n\r\n",
         0, 201, ""},
        {"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n", 0, 302, ""},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Trailer: t\r\n\r\n",
         0, 200, "a"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", ERR_PROTOCOL, 200, "ab"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", ERR_PROTOCOL, 200, "ab"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ERR_PROTOCOL, 200, ""},
        {"garbage\r\n\r\n", ERR_PROTOCOL, 0, ""},
        {"", ERR_PROTOCOL, 0, ""},
        {"HTTP/1.1 200", ERR_PROTOCOL, 0, ""},
        {"HTTP/1.1 100 Continue\r\n\r\n", ERR_PROTOCOL, 0, ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct canned c;
        char where[64];
        canned_open(&c, rows[i].answer, where);
        struct seen s = {.status = 0};
        run(&s, &(struct http_call_params){.url = where});
        if (s.err.code != rows[i].code)
            print_error("row %zu: %s %s\n", i, err_name(s.err.code), s.err.msg);
        assert_int_equal(s.err.code, rows[i].code);
        assert_int_equal(s.status, rows[i].status);
        assert_int_equal(s.heads, rows[i].status != 0);
        assert_true(str_eqz(buf_view(&s.body), rows[i].body));
        buf_fini(&s.body);
        canned_close(&c);
    }
}

static void a_unix_socket_is_called(void **state)
{
    (void)state;
    char dir[] = "/tmp/test-client-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    struct canned c;
    canned_open_unix(&c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", path);
    struct seen s = {.status = 0};
    run(&s, &(struct http_call_params){.url = "http://local/", .unix_socket = path});
    assert_int_equal(s.err.code, 0);
    assert_string_equal(s.body.data, "ab");
    buf_fini(&s.body);
    canned_close(&c);
    struct seen none = {.status = 0};
    run(&none, &(struct http_call_params){.url = "http://local/", .unix_socket = path});
    assert_int_equal(none.err.code, ERR_CONNECT);
    rmdir(dir);
}

static void malformed_parameters_are_refused_at_once(void **state)
{
    (void)state;
    struct http_header bad = {STR("X"), STR("a\r\nY: b")};
    const struct http_call_params rows[] = {
        {.url = ""},
        {.url = "not a url"},
        {.url = "/path"},
        {.url = "ftp://x/"},
        {.url = "file:///etc/passwd"},
        {.url = "http://"},
        {.url = "http://x:99999/"},
        {.url = base, .headers = &bad, .nheaders = 1},
        {.url = base, .method = "GET /x HTTP/1.1\r\n"},
        {.url = base, .method = ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct seen s = {.status = 0};
        if (start(&s, &rows[i]))
            print_error("row %zu was taken\n", i);
        assert_null(s.call);
        assert_int_equal(s.err.code, ERR_INVALID);
    }
    turn(5);
    assert_int_equal(requests, 0);
}

/* ---- streams ---- */

static void on_event(void *arg, const struct sse_event *ev)
{
    struct buf *b = arg;
    buf_str(b, ev->type);
    buf_ch(b, '=');
    buf_str(b, ev->data);
    buf_ch(b, ';');
}

static void events_stream_as_they_are_written(void **state)
{
    (void)state;
    struct seen s = {.status = 0};
    start(&s, &(struct http_call_params){.url = url("/stream")});
    WAIT(loop, s.heads == 1);
    AUTO_BUF struct buf frame = BUF_INIT(1000), got = BUF_INIT(1000);
    struct sse_reader r;
    sse_reader_init(&r, 1000, on_event, &got);
    for (int i = 0; i < 3; i++) {
        char data[8];
        snprintf(data, sizeof data, "{%d}", i);
        buf_clear(&frame);
        sse_write(&frame, STR("tick"), STR_NONE, str_z(data));
        serve(buf_view(&frame));
        WAIT(loop, s.body.len == frame.len); /* each arrives without the next */
        assert_int_equal(sse_reader_feed(&r, buf_view(&s.body), NULL), 0);
        buf_clear(&s.body);
    }
    assert_string_equal(got.data, "tick={0};tick={1};tick={2};");
    sse_reader_fini(&r);
    http_stream_end(pending);
    WAIT(loop, s.dones == 1);
    assert_int_equal(s.err.code, 0);
    buf_fini(&s.body);
}

static void a_cut_stream_is_an_error(void **state)
{
    (void)state;
    struct seen s = {.status = 0};
    start(&s, &(struct http_call_params){.url = url("/stream")});
    WAIT(loop, s.heads == 1);
    http_stream_abort(pending);
    WAIT(loop, s.dones == 1);
    assert_int_equal(s.err.code, ERR_PROTOCOL);
}

static void a_paused_call_holds_the_server_back_and_resumes(void **state)
{
    (void)state;
    struct seen s = {.on_data = ACT_PAUSE};
    start(&s, &(struct http_call_params){.url = url("/stream"), .silence_ms = SILENCE_MS});
    WAIT(loop, s.heads == 1);
    AUTO_FREE char *text = mem_zalloc(1 << 20);
    enum { PIECES = 16 };
    for (int i = 0; i < PIECES; i++)
        serve(str_n(text, 1 << 20));
    WAIT(loop, s.pieces == 1);
    /* Longer than the silence bound, which must not count while paused. */
    struct loop_timer t;
    loop_timer_init(loop, &t);
    bool waited = false;
    int64_t until = loop_now_ms(loop) + SILENCE_MS + 100;
    loop_timer_start(&t, SILENCE_MS + 100, loop_timer_stop);
    while (!waited) {
        uv_run(loop_uv(loop), UV_RUN_ONCE);
        waited = loop_now_ms(loop) >= until;
    }
    loop_timer_close(&t, NULL);
    assert_int_equal(s.pieces, 1);
    assert_int_equal(s.dones, 0);
    assert_true(http_stream_queued(pending) > 0);
    s.on_data = ACT_NONE;
    http_call_pause(s.call, false);
    assert_int_equal(s.pieces, 1); /* not inside this call */
    WAIT(loop, s.body.len == (size_t)PIECES << 20);
    http_stream_end(pending);
    WAIT(loop, s.dones == 1);
    assert_int_equal(s.err.code, 0);
    buf_fini(&s.body);
}

static void a_response_over_its_bound_is_cut(void **state)
{
    (void)state;
    struct seen s = {.status = 0};
    AUTO_FREE char *text = mem_zalloc(100000);
    run(&s, &(struct http_call_params){
                .method = "POST", .url = base, .body = str_n(text, 100000), .max_response = 99999});
    assert_int_equal(s.err.code, ERR_TOO_LARGE);
    assert_true(s.body.len <= 99999);
    buf_fini(&s.body);
    struct seen fits = {.status = 0};
    run(&fits,
        &(struct http_call_params){
            .method = "POST", .url = base, .body = str_n(text, 100000), .max_response = 100000});
    assert_int_equal(fits.err.code, 0);
    buf_fini(&fits.body);
}

/* ---- timeouts ---- */

static void no_head_in_time_is_a_timeout(void **state)
{
    (void)state;
    struct seen s = {.status = 0};
    run(&s, &(struct http_call_params){.url = url("/never"), .first_byte_ms = SHORT_MS});
    assert_int_equal(s.err.code, ERR_TIMEOUT);
    assert_int_equal(s.heads, 0);
    WAIT(loop, gone == 1 || pending == NULL);
}

static void silence_inside_a_response_is_a_timeout(void **state)
{
    (void)state;
    struct seen s = {.status = 0};
    start(&s, &(struct http_call_params){.url = url("/stream"), .silence_ms = SILENCE_MS});
    WAIT(loop, s.heads == 1);
    serve(STR("abc"));
    WAIT(loop, s.dones == 1);
    assert_int_equal(s.err.code, ERR_TIMEOUT);
    assert_string_equal(s.body.data, "abc");
    buf_fini(&s.body);
}

/* ---- cancelling ---- */

static void a_call_may_be_cancelled_anywhere(void **state)
{
    (void)state;
    struct seen at_once = {.status = 0}, in_head = {.on_head = ACT_CANCEL},
                in_data = {.on_data = ACT_CANCEL}, in_done = {.on_done = ACT_CANCEL};
    start(&at_once, &(struct http_call_params){.url = base});
    http_call_cancel(at_once.call);
    start(&in_head, &(struct http_call_params){.url = url("/error")});
    start(&in_data, &(struct http_call_params){.url = url("/error")});
    run(&in_done, &(struct http_call_params){.url = url("/error")});
    WAIT(loop, in_head.heads == 1 && in_data.pieces == 1);
    turn(20);
    assert_int_equal(at_once.dones + at_once.heads, 0);
    assert_int_equal(in_head.dones + (int)in_head.pieces, 0);
    assert_int_equal(in_data.dones, 0);
    assert_int_equal(in_done.dones, 1);
    buf_fini(&in_data.body);
    buf_fini(&in_done.body);
}

static void a_running_call_is_cancelled_from_outside_and_from_another(void **state)
{
    (void)state;
    struct seen stream = {.status = 0};
    start(&stream, &(struct http_call_params){.url = url("/stream")});
    WAIT(loop, stream.heads == 1);
    http_call_cancel(stream.call);
    WAIT(loop, gone == 1); /* the server sees it leave */
    static const enum act when[] = {0, 1, 2};
    for (size_t i = 0; i < COUNT_OF(when); i++) {
        struct seen victim = {.status = 0}, killer = {.status = 0};
        start(&victim, &(struct http_call_params){.url = url("/never")});
        WAIT(loop, pending);
        killer.other = victim.call;
        killer.on_head = i == 0 ? ACT_CANCEL_OTHER : ACT_NONE;
        killer.on_data = i == 1 ? ACT_CANCEL_OTHER : ACT_NONE;
        killer.on_done = i == 2 ? ACT_CANCEL_OTHER : ACT_NONE;
        run(&killer, &(struct http_call_params){.url = url("/error")});
        assert_int_equal(killer.err.code, 0);
        WAIT(loop, !pending);
        assert_int_equal(victim.dones, 0);
        buf_fini(&killer.body);
    }
    assert_int_equal(stream.dones, 0);
}

static void calls_start_from_inside_any_call_back(void **state)
{
    (void)state;
    struct seen inner[3], outer = {.on_head = ACT_START};
    for (int i = 0; i < 3; i++) {
        inner[i] = (struct seen){.status = 0};
        outer = (struct seen){.next = &inner[i],
                              .on_head = i == 0 ? ACT_START : ACT_NONE,
                              .on_data = i == 1 ? ACT_START : ACT_NONE,
                              .on_done = i == 2 ? ACT_START : ACT_NONE};
        run(&outer, &(struct http_call_params){.url = url("/error")});
        WAIT(loop, inner[i].dones == 1);
        assert_int_equal(inner[i].err.code, 0);
        buf_fini(&outer.body);
    }
}

static void closing_the_client_drops_what_runs(void **state)
{
    (void)state;
    struct seen a = {.status = 0}, b = {.status = 0}, fresh = {.status = 0};
    start(&a, &(struct http_call_params){.url = url("/stream")});
    WAIT(loop, a.heads == 1);
    start(&b, &(struct http_call_params){.url = url("/never"), .first_byte_ms = 10000});
    WAIT(loop, requests == 2);
    start(&fresh, &(struct http_call_params){.url = base});
    bool closed = false;
    http_client_close(client, set_true, &closed);
    client = NULL;
    assert_false(closed);
    WAIT(loop, closed);
    assert_int_equal(a.dones + b.dones + fresh.dones, 0);
    WAIT(loop, http_server_connections(server) == 0);
}

static void close_inside(void *arg, const struct err *err)
{
    (void)err;
    http_client_close(client, set_true, arg);
    client = NULL;
}

static void the_client_may_be_closed_inside_a_call_back(void **state)
{
    (void)state;
    bool closed = false;
    struct http_call_params p = {
        .method = "GET", .url = base, .on_done = close_inside, .arg = &closed};
    assert_non_null(http_call_start(client, &p, NULL));
    WAIT(loop, closed);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    static const char *const proxies[] = {"http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY",
                                          "ALL_PROXY"};
    for (size_t i = 0; i < COUNT_OF(proxies); i++)
        unsetenv(proxies[i]); /* the tests stay on this machine */
    const struct CMUnitTest tests[] = {
        T(method_headers_and_body_arrive_and_come_back),
        T(nothing_is_called_inside_start),
        T(large_bodies_go_both_ways),
        T(an_error_status_is_a_complete_response),
        T(many_calls_run_at_once),
        T(odd_answers_are_told_apart),
        T(a_unix_socket_is_called),
        T(malformed_parameters_are_refused_at_once),
        T(events_stream_as_they_are_written),
        T(a_cut_stream_is_an_error),
        T(a_paused_call_holds_the_server_back_and_resumes),
        T(a_response_over_its_bound_is_cut),
        T(no_head_in_time_is_a_timeout),
        T(silence_inside_a_response_is_a_timeout),
        T(a_call_may_be_cancelled_anywhere),
        T(a_running_call_is_cancelled_from_outside_and_from_another),
        T(calls_start_from_inside_any_call_back),
        T(closing_the_client_drops_what_runs),
        T(the_client_may_be_closed_inside_a_call_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
