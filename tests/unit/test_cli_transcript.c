/* cli/: events as text: previews are completed, never repeated; nothing drives the terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/transcript.h"

static struct transcript t;

static int open_one(void **state)
{
    (void)state;
    transcript_init(&t, (struct term){.colour = false});
    return 0;
}

static int close_one(void **state)
{
    (void)state;
    transcript_fini(&t);
    return 0;
}

static void event(const char *text)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    const struct json *doc;
    struct err err;
    if (json_parse(&a, str_z(text), 0, &doc, &err))
        fail_msg("%s: %s", text, err.msg);
    struct follow_event ev = {.type = json_get_str(doc, "type"),
                              .id = json_get_str(doc, "id"),
                              .text = doc->raw,
                              .doc = doc};
    transcript_event(&t, &ev);
}

#define START(id)                                                                                  \
    event("{\"type\":\"event_start\",\"event\":{\"type\":\"agent.message\",\"id\":\"" id "\"}}")
#define DELTA(id, text)                                                                            \
    event("{\"type\":\"event_delta\",\"event_id\":\"" id                                           \
          "\",\"delta\":{\"type\":\"content_delta\","                                              \
          "\"index\":0,\"content\":{\"type\":\"text\",\"text\":\"" text "\"}}}")
#define MESSAGE(id, text)                                                                          \
    event("{\"type\":\"agent.message\",\"id\":\"" id "\",\"processed_at\":"                        \
          "\"2026-11-20T10:00:00Z\",\"content\":[{\"type\":\"text\",\"text\":\"" text "\"}]}")

static void a_previewed_message_is_shown_once(void **state)
{
    (void)state;
    START("sevt_1");
    DELTA("sevt_1", "Hello, ");
    DELTA("sevt_1", "wor");
    MESSAGE("sevt_1", "Hello, world");
    assert_string_equal(t.out.data, "Hello, world\n");
}

static void a_message_without_preview_is_shown_whole(void **state)
{
    (void)state;
    MESSAGE("sevt_1", "First");
    MESSAGE("sevt_2", "Second\\n");
    assert_string_equal(t.out.data, "First\nSecond\n");
}

static void a_preview_that_was_cut_off_starts_again_on_a_new_line(void **state)
{
    (void)state;
    START("sevt_1");
    DELTA("sevt_1", "Half a sen");
    transcript_break(&t);
    DELTA("sevt_9", "not announced");
    START("sevt_2");
    DELTA("sevt_2", "A whole ");
    MESSAGE("sevt_2", "A whole sentence");
    assert_string_equal(t.out.data, "Half a sen\nA whole sentence\n");
}

static void a_tool_call_shows_its_input_and_the_first_lines_of_its_result(void **state)
{
    (void)state;
    event("{\"type\":\"agent.tool_use\",\"id\":\"sevt_1\",\"name\":\"bash\",\"processed_at\":"
          "\"2026-11-20T10:00:00Z\",\"input\":{\"command\":\"make\\ntest\"}}");
    event("{\"type\":\"agent.tool_result\",\"id\":\"sevt_2\",\"tool_use_id\":\"sevt_1\","
          "\"processed_at\":\"2026-11-20T10:00:02.5Z\",\"is_error\":false,\"content\":["
          "{\"type\":\"text\",\"text\":\"1\\n2\\n3\\n4\\n5\\n6\\n7\\n8\\n9\\n\"}]}");
    assert_string_equal(t.out.data, "* bash  make (and 1 more line)\n"
                                    "    1\n    2\n    3\n    4\n    5\n    6\n    (3 more lines)\n"
                                    "    ok in 2.5 s, so far 0 tokens\n");
    assert_int_equal(t.tool_calls, 1);
}

static void an_edit_shows_what_it_replaces(void **state)
{
    (void)state;
    event("{\"type\":\"agent.tool_use\",\"id\":\"sevt_1\",\"name\":\"edit\",\"processed_at\":"
          "\"2026-11-20T10:00:00Z\",\"input\":{\"file_path\":\"a.c\",\"old_string\":\"x\","
          "\"new_string\":\"y\\nz\"}}");
    assert_string_equal(t.out.data, "* edit  a.c\n    - x\n    + y\n    + z\n");
}

static void a_failed_call_says_so(void **state)
{
    (void)state;
    event("{\"type\":\"agent.tool_result\",\"id\":\"sevt_2\",\"tool_use_id\":\"unknown\","
          "\"processed_at\":\"2026-11-20T10:00:02Z\",\"is_error\":true,\"content\":["
          "{\"type\":\"text\",\"text\":\"exit 1\"}]}");
    assert_string_equal(t.out.data, "    exit 1\n    failed, so far 0 tokens\n");
}

#define CRITERION(name, verdict)                                                                   \
    "{\"name\":\"" name "\",\"verdict\":\"" verdict "\",\"comment\":\"seen\",\"evidence\":\"a.c:1" \
    "\\n2\\n3\\n4\\n5\"}"

static void an_evaluation_shows_result_and_verdicts_with_their_evidence(void **state)
{
    (void)state;
    event("{\"type\":\"span.outcome_evaluation_start\",\"id\":\"sevt_1\",\"iteration\":1,"
          "\"processed_at\":\"2026-11-20T10:00:00Z\"}");
    event("{\"type\":\"span.outcome_evaluation_end\",\"id\":\"sevt_2\",\"result\":"
          "\"needs_revision\",\"outcome_evaluation_start_id\":\"sevt_1\",\"explanation\":\"x\","
          "\"processed_at\":\"2026-11-20T10:00:02.5Z\",\"usage\":{\"input_tokens\":70,"
          "\"output_tokens\":5},\"cost_microusd\":1200,\"criteria\":[" CRITERION(
              "One", "met") "," CRITERION("T\\u001bwo",
                                          "partially_met") "," CRITERION("Three", "not_met") "]"
                                                                                             "}");
#define BELOW "                   "
#define EVIDENCE BELOW "seen\n" BELOW "a.c:1\n" BELOW "2\n" BELOW "3\n" BELOW "(2 more lines)\n"
    assert_string_equal(t.out.data,
                        "* grader  iteration 1\n"
                        "    met            One\n" EVIDENCE "    partially met  T\xef\xbf\xbd"
                        "o\n" EVIDENCE "    not met        Three\n" EVIDENCE
                        "    needs revision (2.5 s, 75 tokens, $0.0012)\n");
    assert_int_equal(t.input_tokens, 70);
}

static void an_evaluation_without_criteria_shows_its_explanation(void **state)
{
    (void)state;
    event("{\"type\":\"span.outcome_evaluation_end\",\"id\":\"sevt_2\",\"result\":\"interrupted\","
          "\"outcome_evaluation_start_id\":\"\",\"explanation\":\"Interrupted by the user.\"}");
    assert_string_equal(t.out.data, "    Interrupted by the user.\n    interrupted (0 tokens)\n");
}

static void control_characters_in_events_are_harmless(void **state)
{
    (void)state;
    MESSAGE("sevt_1", "a\\u001b[2Jb");
    event(
        "{\"type\":\"agent.tool_use\",\"id\":\"sevt_2\",\"name\":\"b\\u001bash\","
        "\"processed_at\":\"2026-11-20T10:00:00Z\",\"input\":{\"command\":\"\\u009b5m\\u202e\"}}");
    event("{\"type\":\"session.error\",\"id\":\"sevt_3\",\"error\":{\"type\":\"x\\r\","
          "\"message\":\"\\u001b]0;t\\u0007\",\"retry_status\":{\"type\":\"retrying\"}}}");
    for (size_t i = 0; i < t.out.len; i++)
        assert_true((unsigned char)t.out.data[i] >= 0x20 || t.out.data[i] == '\n');
    assert_null(strstr(t.out.data, "\xc2\x9b"));
    assert_null(strstr(t.out.data, "\xe2\x80\xae"));
}

static void spend_is_added_up(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        event("{\"type\":\"span.model_request_end\",\"id\":\"x\",\"model_usage\":{\"input_tokens\":"
              "100,"
              "\"output_tokens\":10,\"cache_creation_input_tokens\":3,\"cache_read_input_tokens\":"
              "4}}");
    assert_int_equal(t.cost_microusd, -1);
    event("{\"type\":\"session.usage\",\"id\":\"y\",\"usage\":{\"list_cost\":{\"amount\":\"25\","
          "\"currency\":\"USD\"}}}");
    assert_int_equal(t.input_tokens, 200);
    assert_int_equal(t.output_tokens, 20);
    assert_int_equal(t.cache_tokens, 14);
    assert_int_equal(t.model_requests, 2);
    assert_int_equal(t.cost_microusd, 250000);
}

static void events_of_odd_shape_are_survived(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"type\":\"agent.message\",\"id\":\"a\"}",
        "{\"type\":\"agent.message\",\"id\":\"a\",\"content\":5}",
        "{\"type\":\"agent.tool_use\",\"id\":\"a\"}",
        "{\"type\":\"agent.tool_use\",\"id\":\"a\",\"input\":[],\"name\":7}",
        "{\"type\":\"agent.tool_result\",\"id\":\"a\"}",
        "{\"type\":\"session.error\",\"id\":\"a\"}",
        "{\"type\":\"session.usage\",\"id\":\"a\",\"usage\":{\"list_cost\":{\"amount\":\"\"}}}",
        "{\"type\":\"event_start\"}",
        "{\"type\":\"event_delta\",\"delta\":null}",
        "{\"type\":\"span.model_request_end\",\"id\":\"a\",\"model_usage\":null}",
        "{\"type\":\"something.new\",\"id\":\"a\"}",
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        event(texts[i]);
    assert_true(buf_ok(&t.out));
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, open_one, close_one)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_previewed_message_is_shown_once),
        CASE(a_message_without_preview_is_shown_whole),
        CASE(a_preview_that_was_cut_off_starts_again_on_a_new_line),
        CASE(a_tool_call_shows_its_input_and_the_first_lines_of_its_result),
        CASE(an_edit_shows_what_it_replaces),
        CASE(a_failed_call_says_so),
        CASE(an_evaluation_shows_result_and_verdicts_with_their_evidence),
        CASE(an_evaluation_without_criteria_shows_its_explanation),
        CASE(control_characters_in_events_are_harmless),
        CASE(spend_is_added_up),
        CASE(events_of_odd_shape_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
