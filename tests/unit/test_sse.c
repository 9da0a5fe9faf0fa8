/* http/: server-sent events, read in any cut and written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "http/sse_json.h"

#include <stdio.h>

/* Events as text: "type|id|data;" */
static void on_event(void *arg, const struct sse_event *ev)
{
    struct buf *b = arg;
    buf_str(b, ev->type);
    buf_ch(b, '|');
    buf_str(b, ev->id);
    buf_ch(b, '|');
    buf_str(b, ev->data);
    buf_ch(b, ';');
}

static const struct {
    const char *in;
    size_t len; /* 0: strlen */
    const char *out;
} rows[] = {
    {"data: hello\n\n", 0, "message||hello;"},
    {"data:hello\n\n", 0, "message||hello;"},
    {"data:  hello\n\n", 0, "message|| hello;"},
    {"event: ping\ndata: {}\n\n", 0, "ping||{};"},
    {"id: 7\nevent: a\ndata: 1\n\ndata: 2\n\n", 0, "a|7|1;message|7|2;"},
    {"data: a\ndata: b\n\n", 0, "message||a\nb;"},
    {"data\n\n", 0, "message||;"},
    {"data\ndata\n\n", 0, "message||\n;"},
    {"event: x\n\ndata: y\n\n", 0,
     "message||y;"}, /* no data: no event, and the type is forgotten */
    {": comment\n\ndata: a\n\n", 0, "message||a;"},
    {"retry: 10\nunknown: b\ndata: a\n\n", 0, "message||a;"},
    {"data: a\r\n\r\ndata: b\r\rdata: c\n\n", 0, "message||a;message||b;message||c;"},
    {"data: a\r\ndata: b\r\n\r\n", 0, "message||a\nb;"},
    {"\xEF\xBB\xBF"
     "data: a\n\n",
     0, "message||a;"},
    {"data: \xEF\xBB\xBF"
     "a\n\n",
     0,
     "message||\xEF\xBB\xBF"
     "a;"},
    {"id: 1\nid:\ndata: a\n\n", 0, "message||a;"},
    {"id: a\0b\ndata: x\n\n", 17, "message||x;"},
    {"data: a: b\n\n", 0, "message||a: b;"},
    {"data: unfinished\n", 0, ""},
    {"data: unfinished", 0, ""},
    {"\n\n\n", 0, ""},
};

static void streams_give_the_same_events_in_any_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        size_t len = rows[i].len ? rows[i].len : strlen(rows[i].in);
        for (size_t cut = 1; cut <= len; cut++) {
            AUTO_BUF struct buf got = BUF_INIT(1000);
            buf_z(&got, "");
            struct sse_reader r;
            sse_reader_init(&r, 1000, on_event, &got);
            for (size_t at = 0; at < len; at += cut) {
                struct str piece = str_take(str_n(rows[i].in + at, len - at), cut);
                assert_int_equal(sse_reader_feed(&r, piece, NULL), 0);
            }
            assert_true(str_eqz(buf_view(&got), rows[i].out));
            sse_reader_fini(&r);
        }
    }
}

static void an_event_over_the_bound_ends_the_stream(void **state)
{
    (void)state;
    static const char *const long_ones[] = {
        "data: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",      /* a line without an end */
        "data: aaaaaaaaaaaaaaaaaaaaa\ndata: bbbbbbbbbbbbbbbbbbbbbbb\n", /* many lines */
        "id: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
    };
    for (size_t i = 0; i < COUNT_OF(long_ones); i++) {
        AUTO_BUF struct buf got = BUF_INIT(1000);
        struct sse_reader r;
        struct err err;
        sse_reader_init(&r, 40, on_event, &got);
        assert_int_equal(sse_reader_feed(&r, str_z(long_ones[i]), &err), ERR_TOO_LARGE);
        assert_int_equal(sse_reader_feed(&r, STR("\n\ndata: x\n\n"), &err), ERR_TOO_LARGE);
        assert_int_equal(got.len, 0);
        sse_reader_fini(&r);
    }
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    AUTO_BUF struct buf wire = BUF_INIT(1000), got = BUF_INIT(1000);
    sse_write(&wire, STR("agent.message"), STR("sevt_1"), STR("{\"a\":1}"));
    sse_write(&wire, STR("ping"), STR_NONE, STR("{}"));
    assert_string_equal(wire.data, "event: agent.message\nid: sevt_1\ndata: {\"a\":1}\n\n"
                                   "event: ping\ndata: {}\n\n");
    struct sse_reader r;
    sse_reader_init(&r, 1000, on_event, &got);
    assert_int_equal(sse_reader_feed(&r, buf_view(&wire), NULL), 0);
    sse_reader_fini(&r);
    assert_string_equal(got.data, "agent.message|sevt_1|{\"a\":1};ping|sevt_1|{};");
}

/* ---- events that are JSON objects ---- */

static void on_json(void *arg, const struct json *ev)
{
    struct buf *b = arg;
    buf_str(b, json_get_str(ev, "id"));
    buf_ch(b, ';');
}

static void a_stream_of_objects_passes_over_pings(void **state)
{
    (void)state;
    AUTO_BUF struct buf got = BUF_INIT(1000);
    struct sse_json s;
    sse_json_init(&s, on_json, &got);
    assert_true(
        sse_json_feed(&s, STR("data: {\"id\":\"a\"}\n\nevent: ping\ndata: {\"id\":\"p\"}\n\n")));
    assert_true(sse_json_feed(&s, STR("data: {\"id\":\"b\"}\n\ndata\n\n")));
    assert_string_equal(got.data, "a;b;");
    sse_json_fini(&s);
}

static void what_cannot_be_read_breaks_a_stream_until_it_is_restarted(void **state)
{
    (void)state;
    static const struct {
        struct str in;
        const char *why;
    } bad[] = {
        {STR("event: error\ndata: {\"error\":{\"message\":\"full\"}}\n\n"), "full"},
        {STR("data: {\n\n"), NULL},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        AUTO_BUF struct buf got = BUF_INIT(1000), in = BUF_INIT(1000);
        struct sse_json s;
        sse_json_init(&s, on_json, &got);
        buf_str(&in, bad[i].in);
        buf_z(&in, "data: {\"id\":\"late\"}\n\n");
        assert_false(sse_json_feed(&s, buf_view(&in)));
        if (bad[i].why)
            assert_string_equal(s.broken.msg, bad[i].why);
        assert_false(sse_json_feed(&s, STR("data: {\"id\":\"later\"}\n\n")));
        assert_int_equal(got.len, 0);
        sse_json_restart(&s);
        assert_true(sse_json_feed(&s, STR("data: {\"id\":\"new\"}\n\n")));
        assert_string_equal(got.data, "new;");
        sse_json_fini(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_give_the_same_events_in_any_cut),
        cmocka_unit_test(an_event_over_the_bound_ends_the_stream),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(a_stream_of_objects_passes_over_pings),
        cmocka_unit_test(what_cannot_be_read_breaks_a_stream_until_it_is_restarted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
