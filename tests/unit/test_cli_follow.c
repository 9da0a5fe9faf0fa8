/* cli/: following a session: every event exactly once over broken connections and restarts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/follow.h"
#include "http/server.h"

#include <stdio.h>

/* A server that plays a script: what each connection to the stream gets. */
struct scene {
    const char *frames;  /* event numbers: "34" */
    const char *expects; /* the Last-Event-ID, or "" */
    int status;          /* 0: 200 */
    enum { STAY, END, ABORT, GARBAGE } then;
};

struct stage {
    struct loop *loop;
    struct http_server *server;
    struct client client;
    struct follow follow;
    const struct scene *scenes;
    size_t nscenes, at;
    char last; /* the newest event in the log */
    struct http_req *stream;
    struct buf seen; /* what the follower passed on */
    char until;      /* the event that ends the test */
    size_t lost, opened;
    bool mismatch, dead, closed;
    struct err err;
};

static void put_event(struct buf *b, char n)
{
    buf_printf(b,
               "{\"type\":\"agent.message\",\"id\":\"sevt_%c\",\"processed_at\":"
               "\"2026-11-20T10:00:00Z\",\"content\":[]}",
               n);
}

static void put_frame(struct buf *b, char n)
{
    buf_printf(b, "event: agent.message\nid: sevt_%c\ndata: ", n);
    put_event(b, n);
    buf_z(b, "\n\n");
}

/* As the scene says: in good order, or in the middle of a frame. */
static void end_stream(struct stage *s)
{
    const struct scene *scene = &s->scenes[s->at - 1];
    if (scene->then == STAY || !s->stream)
        return;
    struct bytes *half = bytes_new(STR("event: agent.message\ndata: {\"type\":\"agent.mess"));
    if (scene->then == ABORT)
        http_stream_write(s->stream, half);
    bytes_unref(half);
    http_stream_end(TAKE_PTR(s->stream));
}

static void answer_stream(struct stage *s, struct http_req *req)
{
    const struct scene *scene = &s->scenes[s->at < s->nscenes ? s->at : s->nscenes - 1];
    s->at++;
    struct str from = http_req_header(req, "last-event-id");
    if (!str_eqz(from, scene->expects))
        s->mismatch = true;
    if (scene->status) {
        http_reply(req, scene->status, NULL, 0, STR("{}"));
        return;
    }
    const struct http_header type = {STR("content-type"), STR("text/event-stream")};
    http_stream(req, 200, &type, 1);
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    buf_z(&b, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
    for (const char *f = scene->frames; *f; f++) {
        put_frame(&b, *f);
        s->last = *f > s->last ? *f : s->last;
    }
    if (scene->then == GARBAGE)
        buf_z(&b, "event: agent.message\ndata: {not json\n\n");
    struct bytes *bytes = bytes_new(buf_view(&b));
    http_stream_write(req, bytes);
    bytes_unref(bytes);
    s->stream = req;
    if (!*scene->frames)
        end_stream(s);
}

/* Pages of two. */
static void answer_list(struct stage *s, struct http_req *req)
{
    ptrdiff_t page = str_find(http_req_query(req), STR("page=p"));
    char first = page < 0 ? '1' : http_req_query(req).ptr[page + 6];
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    buf_z(&b, "{\"data\":[");
    for (char n = first; n <= s->last && n < first + 2; n++) {
        buf_z(&b, n == first ? "" : ",");
        put_event(&b, n);
    }
    if (first + 2 <= s->last)
        buf_printf(&b, "],\"next_page\":\"p%c\"}", first + 2);
    else
        buf_z(&b, "],\"next_page\":null}");
    http_reply(req, 200, NULL, 0, buf_view(&b));
}

static void handle(struct http_req *req, void *arg)
{
    struct stage *s = arg;
    if (!str_eqz(http_req_header(req, "x-api-key"), "the-key"))
        s->mismatch = true;
    if (str_ends(http_req_path(req), STR("/stream")))
        answer_stream(s, req);
    else
        answer_list(s, req);
}

static void on_event(struct follow *f, const struct follow_event *ev)
{
    struct stage *s = f->arg;
    char n = ev->id.ptr[ev->id.len - 1];
    buf_ch(&s->seen, n);
    /* The connection breaks when all it carried has come through. */
    const char *frames = s->scenes[s->at - 1].frames;
    if (*frames && frames[strlen(frames) - 1] == n)
        end_stream(s);
    if (n != s->until)
        return;
    follow_end(f);
    loop_stop(s->loop);
}

static void on_state(struct follow *f, enum follow_state state, const struct err *err)
{
    struct stage *s = f->arg;
    s->opened += state == FOLLOW_OPEN;
    s->lost += state == FOLLOW_LOST;
    if (state != FOLLOW_DEAD)
        return;
    s->dead = true;
    s->err = *err;
    loop_stop(s->loop);
}

static void server_closed(void *arg)
{
    struct stage *s = arg;
    s->closed = true;
    loop_stop(s->loop);
}

static void play(struct stage *s)
{
    struct err err;
    char url[64];
    s->loop = loop_new();
    buf_init(&s->seen, 4096);
    const struct http_server_config cfg = {.host = "127.0.0.1", .handler = handle, .arg = s};
    assert_int_equal(http_server_open(s->loop, &cfg, &s->server, &err), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", http_server_port(s->server));
    assert_int_equal(client_open(&s->client, s->loop, url, &(struct apikey){"the-key"}, &err), 0);
    follow_init(&s->follow, &s->client, "sesn_1");
    s->follow.on_event = on_event;
    s->follow.on_state = on_state;
    s->follow.arg = s;
    follow_start(&s->follow);
    while (!s->follow.ended)
        loop_run(s->loop);
    follow_fini(&s->follow);
    client_close(&s->client);
    http_server_close(s->server, 0, server_closed, s);
    while (!s->closed)
        loop_run(s->loop);
    loop_free(s->loop);
}

#define PLAY(stage, ...)                                                                           \
    const struct scene scenes_[] = {__VA_ARGS__};                                                  \
    (stage)->scenes = scenes_;                                                                     \
    (stage)->nscenes = COUNT_OF(scenes_);                                                          \
    play(stage)

static void history_comes_first_and_nothing_twice(void **state)
{
    (void)state;
    struct stage s = {.last = '3', .until = '4'};
    PLAY(&s, {"34", "", 0, STAY});
    assert_string_equal(s.seen.data, "1234");
    assert_int_equal(s.at, 1);
    assert_false(s.mismatch);
    buf_fini(&s.seen);
}

static void a_broken_stream_goes_on_behind_the_last_event(void **state)
{
    (void)state;
    struct stage s = {.last = '1', .until = '6'};
    PLAY(&s, {"12", "", 0, ABORT}, {"3", "sevt_2", 0, END}, {"", "sevt_3", 503, END},
         {"345", "sevt_3", 0, ABORT}, {"6", "sevt_5", 0, STAY});
    assert_string_equal(s.seen.data, "123456");
    assert_false(s.mismatch);
    assert_int_equal(s.opened, 4);
    assert_int_equal(s.lost, 3); /* the 503 belongs to the same loss */
    buf_fini(&s.seen);
}

static void a_stream_that_broke_before_any_event_lists_again(void **state)
{
    (void)state;
    struct stage s = {.last = '2', .until = '3'};
    PLAY(&s, {"", "", 500, END}, {"23", "", 0, STAY});
    assert_string_equal(s.seen.data, "123");
    assert_false(s.mismatch);
    buf_fini(&s.seen);
}

static void garbage_in_the_stream_means_a_new_connection(void **state)
{
    (void)state;
    struct stage s = {.last = '1', .until = '3'};
    PLAY(&s, {"2", "", 0, GARBAGE}, {"3", "sevt_2", 0, STAY});
    assert_string_equal(s.seen.data, "123");
    assert_false(s.mismatch);
    buf_fini(&s.seen);
}

static void a_session_that_does_not_exist_is_given_up_at_once(void **state)
{
    (void)state;
    struct stage s = {.until = '1'};
    PLAY(&s, {"", "", 404, END});
    assert_true(s.dead);
    assert_int_equal(s.err.code, ERR_NOT_FOUND);
    assert_int_equal(s.at, 1);
    buf_fini(&s.seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(history_comes_first_and_nothing_twice),
        cmocka_unit_test(a_broken_stream_goes_on_behind_the_last_event),
        cmocka_unit_test(a_stream_that_broke_before_any_event_lists_again),
        cmocka_unit_test(garbage_in_the_stream_means_a_new_connection),
        cmocka_unit_test(a_session_that_does_not_exist_is_given_up_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
