/* worker/plan: what a worker does about the events of a session, as they are on the wire. */
#include "worker/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define CALL(id, more)                                                                             \
    "{\"type\":\"agent.tool_use\",\"id\":\"" id "\",\"name\":\"bash\",\"input\":{\"command\":\""   \
    "echo 1.0\"}" more ",\"processed_at\":\"2026-11-20T21:20:21.123456Z\"}"
#define RESULT(id)                                                                                 \
    "{\"type\":\"user.tool_result\",\"id\":\"sevt_r" id "\",\"tool_use_id\":\"" id "\"}"
#define CONFIRM(id, how)                                                                           \
    "{\"type\":\"user.tool_confirmation\",\"id\":\"sevt_c" id "\",\"tool_use_id\":\"" id           \
    "\",\"result\":\"" how "\"}"
#define WAITS(id)                                                                                  \
    "{\"type\":\"session.status_idle\",\"id\":\"sevt_i\",\"stop_reason\":{\"type\":"               \
    "\"requires_action\",\"event_ids\":[\"" id "\"]}}"
#define ENDS                                                                                       \
    "{\"type\":\"session.status_idle\",\"id\":\"sevt_e\",\"stop_reason\":{\"type\":\"end_turn\"}}"
#define INTERRUPT "{\"type\":\"user.interrupt\",\"id\":\"sevt_int\"}"

static void feed(struct plan *p, const char *text)
{
    struct arena a;
    const struct json *doc;
    struct err err;
    arena_init(&a, 1 << 20);
    assert_int_equal(json_parse(&a, str_z(text), JSON_ALLOW_DUPLICATES, &doc, &err), 0);
    plan_event(p, doc);
    arena_fini(&a);
}

struct scenario {
    const char *name;
    const char *events[8];
    const char *starts; /* ids, in order, once the history is read */
    bool idle, holds;
};

static const struct scenario scenarios[] = {
    {"what nobody has answered runs", {CALL("a", ""), CALL("b", "")}, "a b ", false, false},
    {"what has an answer does not",
     {CALL("a", ""), RESULT("a"), CALL("b", "")},
     "b ",
     false,
     false},
    {"an answer of the server's is one",
     {CALL("a", ""), "{\"type\":\"agent.tool_result\",\"id\":\"r\",\"tool_use_id\":\"a\"}", ENDS},
     "",
     true,
     false},
    {"an event that comes twice is taken once", {CALL("a", ""), CALL("a", "")}, "a ", false, false},
    {"an allowed call runs",
     {CALL("a", ",\"evaluated_permission\":\"allow\"")},
     "a ",
     false,
     false},
    {"one that asks waits",
     {CALL("a", ",\"evaluated_permission\":\"ask\""), ENDS},
     "",
     false,
     true},
    {"a permission nobody knows asks",
     {CALL("a", ",\"evaluated_permission\":\"x\"")},
     "",
     false,
     true},
    {"and runs when it is allowed",
     {CALL("a", ",\"evaluated_permission\":\"ask\""), CONFIRM("a", "allow")},
     "a ",
     false,
     false},
    {"in whatever order that is read",
     {CONFIRM("a", "allow"), CALL("a", ",\"evaluated_permission\":\"ask\"")},
     "a ",
     false,
     false},
    {"never when it is denied",
     {CALL("a", ",\"evaluated_permission\":\"ask\""), CONFIRM("a", "deny"), ENDS},
     "",
     true,
     false},
    {"a word that is not allow denies",
     {CALL("a", ",\"evaluated_permission\":\"ask\""), CONFIRM("a", "maybe"), ENDS},
     "",
     true,
     false},
    {"what the server denies stays denied",
     {CALL("a", ",\"evaluated_permission\":\"deny\""), CONFIRM("a", "allow")},
     "",
     false,
     false},
    {"a call before an interrupt is not begun",
     {CALL("a", ""), INTERRUPT, CALL("b", "")},
     "b ",
     false,
     false},
    {"but when the server waits for it after all",
     {CALL("a", ""), INTERRUPT, WAITS("a")},
     "a ",
     false,
     false},
    {"tools of others are left alone",
     {"{\"type\":\"agent.tool_use\",\"id\":\"w\",\"name\":\"web_fetch\",\"input\":{}}",
      "{\"type\":\"agent.custom_tool_use\",\"id\":\"c\",\"name\":\"bash\",\"input\":{}}",
      "{\"type\":\"agent.mcp_tool_use\",\"id\":\"m\",\"name\":\"bash\",\"input\":{}}"},
     "",
     false,
     false},
    {"a thread that has ended takes no answer",
     {CALL("a", ",\"session_thread_id\":\"t\""),
      "{\"type\":\"session.thread_status_terminated\",\"id\":\"x\",\"session_thread_id\":\"t\"}"},
     "",
     false,
     false},
    {"nor does a session",
     {CALL("a", ""), "{\"type\":\"session.status_terminated\",\"id\":\"x\"}"},
     "",
     false,
     false},
    {"an id that is too long, or none, is nothing to act on",
     {CALL("0123456789012345678901234567890123456789", ""), CALL("", "")},
     "",
     false,
     false},
    {"nor is one that would name something else on this host",
     {CALL("../../x", ""), CALL("a\\nb", ""), CALL("-f", ""), CALL("a b", "")},
     "",
     false,
     false},
    {"a session at the end of its turn is idle",
     {"{\"type\":\"user.message\",\"id\":\"u\"}", ENDS},
     "",
     true,
     false},
    {"and not once something was said",
     {ENDS, "{\"type\":\"user.message\",\"id\":\"u\"}"},
     "",
     false,
     false},
    {"events that make no sense change nothing",
     {"{}", "{\"type\":7}", "{\"type\":\"user.tool_result\"}", "{\"type\":\"session.status_idle\"}",
      "[]"},
     "",
     true,
     false},
};

static void the_history_decides_what_is_run(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(scenarios); i++) {
        const struct scenario *s = &scenarios[i];
        struct plan p;
        char got[256] = "";
        plan_init(&p);
        plan_list_begins(&p);
        for (size_t k = 0; k < COUNT_OF(s->events) && s->events[k]; k++) {
            feed(&p, s->events[k]);
            assert_null(plan_next(&p)); /* an answer may stand behind it */
        }
        plan_list_ends(&p);
        for (struct plan_call *c; (c = plan_next(&p));)
            snprintf(got + strlen(got), sizeof got - strlen(got), "%s ", c->id.z);
        if (strcmp(got, s->starts) != 0 || plan_idle(&p) != s->idle || plan_holds(&p) != s->holds)
            fail_msg("%s: starts '%s', idle %d, holds %d", s->name, got, plan_idle(&p),
                     plan_holds(&p));
        plan_fini(&p);
    }
}

static void a_call_keeps_its_input_as_it_came(void **state)
{
    struct plan p;
    (void)state;
    plan_init(&p);
    feed(&p, CALL("a", ""));
    struct plan_call *c = plan_next(&p);
    assert_string_equal(c->input, "{\"command\":\"echo 1.0\"}");
    assert_true(plan_works(&p));
    plan_answered(&p, STR("a"));
    assert_false(plan_works(&p));
    assert_null(plan_next(&p));
    plan_fini(&p);
}

static void a_running_call_is_stopped_once_for_each_reason(void **state)
{
    static const char *const reasons[] = {
        INTERRUPT, RESULT("a"), "{\"type\":\"session.deleted\",\"id\":\"x\"}",
        "{\"type\":\"session.thread_status_terminated\",\"id\":\"x\",\"session_thread_id\":\"t\"}"};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(reasons); i++) {
        struct plan p;
        plan_init(&p);
        feed(&p, CALL("a", ",\"session_thread_id\":\"t\""));
        assert_non_null(plan_next(&p));
        assert_null(plan_cancel(&p));
        feed(&p, reasons[i]);
        assert_non_null(plan_cancel(&p));
        assert_null(plan_cancel(&p));
        plan_fini(&p);
    }
}

static void an_interrupt_that_is_read_again_does_not_stop_what_came_after_it(void **state)
{
    struct plan p;
    (void)state;
    plan_init(&p);
    feed(&p, INTERRUPT);
    feed(&p, CALL("a", ""));
    assert_non_null(plan_next(&p));
    plan_list_begins(&p);
    feed(&p, INTERRUPT);
    feed(&p, CALL("a", ""));
    plan_list_ends(&p);
    assert_null(plan_cancel(&p));
    assert_null(plan_next(&p));
    plan_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_history_decides_what_is_run),
        cmocka_unit_test(a_call_keeps_its_input_as_it_came),
        cmocka_unit_test(a_running_call_is_stopped_once_for_each_reason),
        cmocka_unit_test(an_interrupt_that_is_read_again_does_not_stop_what_came_after_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
