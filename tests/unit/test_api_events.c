#include "api/outcome_decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static int decode(const char *text, bool initial, struct sent_event **out, struct err *err)
{
    const struct json *doc;
    struct str kept = arena_str(&arena, str_z(text));
    assert_int_equal(json_parse(&arena, kept, 0, &doc, err), 0);
    return events_decode(&arena, doc, initial, "/events", out, err);
}

static void a_message_is_stored_as_it_will_be_served(void **state)
{
    (void)state;
    struct sent_event *events;
    struct err err;
    assert_int_equal(decode("[{\"content\" : [\n {\"type\":\"text\", \"text\":\"a \\n\\u00e9 "
                            "b\"}\r\n], \"type\":\"user.message\"}]",
                            false, &events, &err),
                     0);
    struct str want = arena_printf(
        &arena,
        "{\"id\":\"%s\",\"type\":\"user.message\",\"processed_at\":null,\"content\":[{\"type\":"
        "\"text\",\"text\":\"a \\n\\u00e9 b\"}]}",
        events[0].event.id.z);
    assert_true(str_eq(events[0].event.body, want));
    assert_true(id_valid(id_str(&events[0].event.id), "sevt"));
    assert_int_equal(events[0].event.type, EVENT_USER_MESSAGE);
}

static void an_interrupt_may_name_a_thread(void **state)
{
    (void)state;
    struct sent_event *events;
    struct err err;
    assert_int_equal(decode("[{\"type\":\"user.interrupt\"},{\"type\":\"user.interrupt\","
                            "\"session_thread_id\":null},{\"type\":\"user.interrupt\","
                            "\"session_thread_id\":\"sthr_1\"}]",
                            false, &events, &err),
                     0);
    assert_false(str_some(events[0].thread_id));
    assert_false(str_some(events[1].thread_id));
    assert_true(str_eqz(events[2].thread_id, "sthr_1"));
    assert_true(str_find(events[2].event.body, STR("\"session_thread_id\":\"sthr_1\"")) > 0);
}

#define MESSAGE(x) "[{\"type\":\"user.message\",\"content\":[" x "]}]"
#define SYSTEM "{\"type\":\"system.message\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}"
#define INTERRUPT "{\"type\":\"user.interrupt\"}"
#define IMAGE(x) MESSAGE("{\"type\":\"image\",\"source\":" x "}")
#define DOCUMENT(x) MESSAGE("{\"type\":\"document\",\"source\":" x "}")

#define RESULT(x)                                                                                  \
    "[{\"type\":\"user.custom_tool_result\",\"custom_tool_use_id\":\"sevt_1\",\"content\":[" x "]" \
    "}"                                                                                            \
    "]"
#define FOUND(citations, content)                                                                  \
    "{\"type\":\"search_result\",\"source\":\"s\",\"title\":\"t\",\"citations\":" citations        \
    ",\"content\":[" content "]}"

#define DEFINE(rubric)                                                                             \
    "{\"type\":\"user.define_outcome\",\"description\":\"d\",\"rubric\":{" rubric "}}"
#define OUTCOME(rubric) "[" DEFINE(rubric) "]"
#define TEXT "\"type\":\"text\",\"content\":\"c\""
#define CHECKS(list) TEXT ",\"checks\":[" list "]"

static void an_outcome_is_stored_as_it_counts(void **state)
{
    (void)state;
    struct sent_event *events;
    struct err err;
    assert_int_equal(decode(OUTCOME(CHECKS("{\"name\":\"n\",\"run\":\"r\",\"expect_exit\":null,"
                                           "\"timeout_seconds\":9}") ",\"closing\":true"),
                            true, &events, &err),
                     0);
    const struct sent_event *e = &events[0];
    assert_true(id_valid(id_str(&e->outcome.id), "outc"));
    assert_true(str_find(e->event.body, id_str(&e->outcome.id)) > 0);
    assert_true(str_find(e->event.body, STR("\"processed_at\":\"20")) > 0);
    assert_true(str_find(e->event.body,
                         STR("\"description\":\"d\",\"rubric\":{\"type\":\"text\",\"content\":"
                             "\"c\",\"checks\":[{\"name\":\"n\",\"run\":\"r\",\"timeout_seconds\":"
                             "9}],\"closing\":true},\"max_iterations\":3}")) > 0);
}

static void the_text_of_a_rubric_takes_the_place_of_its_file(void **state)
{
    (void)state;
    struct sent_event *events;
    struct err err;
    assert_int_equal(
        decode(OUTCOME("\"type\":\"file\",\"file_id\":\"file_1\""), false, &events, &err), 0);
    struct sent_event *e = &events[0];
    assert_true(str_eqz(e->outcome.rubric_file, "file_1"));
    struct id id = e->event.id;
    assert_int_equal(outcome_put_rubric(&arena, e, STR("- it rhymes"), "/events/0", &err), 0);
    assert_true(str_find(e->event.body, STR("{\"type\":\"text\",\"content\":\"- it rhymes\"}")) >
                0);
    assert_true(str_find(e->event.body, id_str(&id)) > 0);
    static const char *const bad[] = {"\xff", " \n", ""};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(outcome_put_rubric(&arena, e, str_z(bad[i]), "/events/0", &err),
                         ERR_INVALID);
        assert_string_equal(err.at, "/events/0/rubric/file_id");
    }
}

static void sources_that_are_files_are_counted(void **state)
{
    (void)state;
    struct sent_event *events;
    struct err err;
    assert_int_equal(
        decode("[{\"type\":\"user.message\",\"content\":[{\"type\":\"text\",\"text\":\"x\"},"
               "{\"type\":\"image\",\"source\":{\"type\":\"file\",\"file_id\":\"file_1\"}},"
               "{\"type\":\"document\",\"source\":{\"type\":\"file\",\"file_id\":\"file_2\"}}]},"
               "{\"type\":\"user.message\",\"content\":[{\"type\":\"text\",\"text\":\"y\"}]}]",
               false, &events, &err),
        0);
    assert_int_equal(events[0].nfiles, 2);
    assert_int_equal(events[0].ndocuments, 1);
    assert_int_equal(events[0].content->count, 3);
    assert_int_equal(events[1].nfiles, 0);
    assert_true(str_find(events[0].event.body, STR("\"file_id\":\"file_2\"")) > 0);
}

static void every_kind_of_content_is_taken(void **state)
{
    (void)state;
    static const char *const fine[] = {
        MESSAGE("{\"type\":\"text\",\"text\":\"x\"},{\"type\":\"text\",\"text\":\"y\"}"),
        IMAGE("{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"aGk=\"}"),
        IMAGE("{\"type\":\"base64\",\"media_type\":\"image/webp\",\"data\":\"aGkhIQ==\"}"),
        IMAGE("{\"type\":\"url\",\"url\":\"https://example.com/a.png\"}"),
        DOCUMENT("{\"type\":\"base64\",\"media_type\":\"application/pdf\",\"data\":\"aGkh\"}"),
        DOCUMENT("{\"type\":\"text\",\"media_type\":\"text/plain\",\"data\":\"hi\"}"),
        MESSAGE("{\"type\":\"document\",\"title\":null,\"context\":\"c\",\"source\":{\"type\":"
                "\"url\",\"url\":\"http://x/\"}}"),
        IMAGE("{\"type\":\"file\",\"file_id\":\"file_1\"}"),
    };
    for (size_t i = 0; i < COUNT_OF(fine); i++) {
        struct sent_event *events;
        struct err err;
        if (decode(fine[i], true, &events, &err))
            fail_msg("%s: %s", fine[i], err.msg);
    }
}

static void what_is_wrong_is_refused_with_its_pointer(void **state)
{
    (void)state;
    static const struct {
        const char *body, *at;
        bool initial;
    } cases[] = {
        {"[5]", "/events/0", false},
        {"[{}]", "/events/0/type", false},
        {"[{\"type\":\"user.shout\"}]", "/events/0/type", false},
        {"[{\"type\":\"agent.message\"}]", "/events/0/type", false},
        {"[{\"type\":\"user.tool_confirmation\"}]", "/events/0/tool_use_id", false},
        {"[{\"type\":\"user.tool_confirmation\",\"tool_use_id\":\"sevt_1\",\"result\":\"perhaps\"}"
         "]",
         "/events/0/result", false},
        {"[{\"type\":\"user.tool_confirmation\",\"tool_use_id\":\"sevt_1\",\"result\":\"allow\","
         "\"deny_message\":\"m\"}]",
         "/events/0/deny_message", false},
        {"[{\"type\":\"user.custom_tool_result\",\"custom_tool_use_id\":\"sevt_1\",\"content\":"
         "[{\"type\":\"audio\"}]}]",
         "/events/0/content/0/type", false},
        {"[{\"type\":\"system.message\"}]", "/events/0/content", false},
        {"[{\"type\":\"system.message\",\"content\":[{\"type\":\"image\"}]}]",
         "/events/0/content/0/type", false},
        {"[{\"type\":\"system.message\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}]",
         "/events/0/type", true},
        {"[" SYSTEM "," INTERRUPT "]", "/events/0", false},
        {"[" SYSTEM "," SYSTEM "]", "/events/0", false},
        {"[" INTERRUPT "," SYSTEM "]", "/events/1", false},
        {"[{\"type\":\"user.define_outcome\",\"description\":\"d\"}]", "/events/0/rubric", true},
        {OUTCOME(""), "/events/0/rubric/type", false},
        {OUTCOME("\"type\":\"link\""), "/events/0/rubric/type", false},
        {OUTCOME("\"type\":\"text\""), "/events/0/rubric/content", false},
        {OUTCOME("\"type\":\"text\",\"content\":\" \\n\""), "/events/0/rubric/content", false},
        {OUTCOME("\"type\":\"file\""), "/events/0/rubric/file_id", false},
        {OUTCOME(TEXT ",\"closing\":1"), "/events/0/rubric/closing", false},
        {OUTCOME(TEXT ",\"checks\":{}"), "/events/0/rubric/checks", false},
        {OUTCOME(CHECKS("{\"run\":\"r\"}")), "/events/0/rubric/checks/0/name", false},
        {OUTCOME(CHECKS("{\"name\":\" \",\"run\":\"r\"}")), "/events/0/rubric/checks/0/name",
         false},
        {OUTCOME(CHECKS("{\"name\":\"n\"}")), "/events/0/rubric/checks/0/run", false},
        {OUTCOME(CHECKS("{\"name\":\"n\",\"run\":\"a\\u0000\"}")), "/events/0/rubric/checks/0/run",
         false},
        {OUTCOME(CHECKS("{\"name\":\"n\",\"run\":\"r\"},{\"name\":\"n\",\"run\":\"s\"}")),
         "/events/0/rubric/checks/1/name", false},
        {OUTCOME(CHECKS("{\"name\":\"n\",\"run\":\"r\",\"expect_exit\":256}")),
         "/events/0/rubric/checks/0/expect_exit", false},
        {OUTCOME(CHECKS("{\"name\":\"n\",\"run\":\"r\",\"timeout_seconds\":0}")),
         "/events/0/rubric/checks/0/timeout_seconds", false},
        {OUTCOME(CHECKS("{\"name\":\"n\",\"run\":\"r\",\"expect_stdout_matches\":\"(\"}")),
         "/events/0/rubric/checks/0/expect_stdout_matches", false},
        {"[{\"type\":\"user.define_outcome\",\"description\":\"d\",\"rubric\":{" TEXT "},"
         "\"max_iterations\":21}]",
         "/events/0/max_iterations", false},
        {"[{\"type\":\"user.define_outcome\",\"description\":\"d\",\"rubric\":{" TEXT "},"
         "\"session_thread_id\":\"sthr_1\"}]",
         "/events/0/session_thread_id", false},
        {"[" DEFINE(TEXT) "," DEFINE(TEXT) "]", "/events/1/type", false},
        {"[{\"type\":\"user.interrupt\"}]", "/events/0/type", true},
        {"[{\"type\":\"user.interrupt\"},{\"type\":\"user.interrupt\",\"x\":1}]", "/events/1/x",
         false},
        {"[{\"type\":\"user.message\"}]", "/events/0/content", false},
        {"[{\"type\":\"user.message\",\"content\":\"hi\"}]", "/events/0/content", false},
        {MESSAGE(""), "/events/0/content", false},
        {MESSAGE("5"), "/events/0/content/0", false},
        {MESSAGE("{}"), "/events/0/content/0/type", false},
        {MESSAGE("{\"type\":\"redacted\"}"), "/events/0/content/0/type", false},
        {MESSAGE("{\"type\":\"text\"}"), "/events/0/content/0/text", false},
        {MESSAGE("{\"type\":\"text\",\"text\":\"\"}"), "/events/0/content/0/text", false},
        {MESSAGE("{\"type\":\"text\",\"text\":\"x\",\"cache_control\":{}}"),
         "/events/0/content/0/cache_control", false},
        {MESSAGE("{\"type\":\"image\"}"), "/events/0/content/0/source", false},
        {IMAGE("{}"), "/events/0/content/0/source/type", false},
        {IMAGE("{\"type\":\"file\"}"), "/events/0/content/0/source/file_id", false},
        {IMAGE("{\"type\":\"text\",\"media_type\":\"text/plain\",\"data\":\"x\"}"),
         "/events/0/content/0/source/type", false},
        {RESULT(FOUND("{\"enabled\":1}", "{\"type\":\"text\",\"text\":\"x\"}")),
         "/events/0/content/0/citations/enabled", false},
        {RESULT(FOUND("{}", "{\"type\":\"image\",\"text\":\"x\"}")),
         "/events/0/content/0/content/0/type", false},
        {MESSAGE(FOUND("{}", "")), "/events/0/content/0/type", false},
        {IMAGE("{\"type\":\"base64\",\"media_type\":\"image/bmp\",\"data\":\"aGk=\"}"),
         "/events/0/content/0/source/media_type", false},
        {IMAGE("{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"a*==\"}"),
         "/events/0/content/0/source/data", false},
        {IMAGE("{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"aGk\"}"),
         "/events/0/content/0/source/data", false},
        {IMAGE("{\"type\":\"url\",\"url\":\"file:///etc/passwd\"}"),
         "/events/0/content/0/source/url", false},
        {IMAGE("{\"type\":\"url\",\"url\":\"https://a b\"}"), "/events/0/content/0/source/url",
         false},
        {DOCUMENT("{\"type\":\"text\",\"media_type\":\"text/html\",\"data\":\"x\"}"),
         "/events/0/content/0/source/media_type", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct sent_event *events;
        struct err err = {0};
        if (decode(cases[i].body, cases[i].initial, &events, &err) != ERR_INVALID)
            fail_msg("accepted: %s", cases[i].body);
        assert_string_equal(err.at, cases[i].at);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_stored_as_it_will_be_served),
        cmocka_unit_test(an_interrupt_may_name_a_thread),
        cmocka_unit_test(an_outcome_is_stored_as_it_counts),
        cmocka_unit_test(the_text_of_a_rubric_takes_the_place_of_its_file),
        cmocka_unit_test(sources_that_are_files_are_counted),
        cmocka_unit_test(every_kind_of_content_is_taken),
        cmocka_unit_test(what_is_wrong_is_refused_with_its_pointer),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
