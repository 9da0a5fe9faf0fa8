/* The tools of a self-hosted environment, as the loop sees them: a client runs them. */
#include "core_rig.h"

static int hands_setup(void **state)
{
    int rc = setup(state);
    struct rig *r = *state;
    r->agent.self_hosted = true;
    return rc;
}

static void send_result(struct rig *r, const char *id, const char *text)
{
    char rest[256];
    snprintf(rest, sizeof rest,
             ",\"tool_use_id\":\"%s\",\"content\":[{\"type\":\"text\",\"text\":\"%s\"}]", id, text);
    queue(r, EVENT_USER_TOOL_RESULT, rest);
    take_inbox(r);
}

static void begin_call(struct rig *r, const char *tool)
{
    say(r, "go");
    take_inbox(r);
    call_tool(r, tool, "{\"command\":\"true\"}");
    expect(r, RUN " user.message " START " agent.tool_use " END " " IDLE);
}

static void the_session_rests_until_the_worker_has_answered(void **state)
{
    struct rig *r = *state;
    struct str messages;
    struct err err;
    begin_call(r, "bash");
    struct id id = r->turn.calls[0].id;
    assert_int_equal(r->turn.calls[0].state, CALL_CLIENT);
    assert_non_null(strstr(r->turn.stop_reason, "requires_action"));
    assert_non_null(strstr(r->turn.stop_reason, id.z));
    send_result(r, id.z, "done by the worker");
    expect(r, "user.tool_result " RUN " " START);
    assert_int_equal(prompt_messages(&r->turn.prompt, &messages, &err), 0);
    assert_true(str_find(messages, STR("done by the worker")) > 0);
    /* A worker that starts again repeats its answers. */
    send_result(r, id.z, "twice");
    expect(r, "user.tool_result");
    assert_int_equal(prompt_messages(&r->turn.prompt, &messages, &err), 0);
    assert_true(str_find(messages, STR("twice")) < 0);
    answer_text(r, "ok");
    expect(r, "agent.message " END " " IDLE);
}

static void an_answer_before_the_confirmation_does_not_count(void **state)
{
    struct rig *r = *state;
    begin_call(r, "write");
    struct id id = r->turn.calls[0].id;
    assert_int_equal(r->turn.calls[0].state, CALL_ASK);
    send_result(r, id.z, "too early");
    expect(r, "user.tool_result");
    assert_int_equal(r->turn.calls[0].state, CALL_ASK);
    char rest[256];
    snprintf(rest, sizeof rest, ",\"tool_use_id\":\"%s\",\"result\":\"allow\"", id.z);
    queue(r, EVENT_USER_TOOL_CONFIRMATION, rest);
    take_inbox(r);
    expect(r, "user.tool_confirmation");
    assert_int_equal(r->turn.calls[0].state, CALL_CLIENT);
    send_result(r, id.z, "wrote");
    expect(r, "user.tool_result " RUN " " START);
}

static void a_denied_call_is_answered_by_the_server(void **state)
{
    struct rig *r = *state;
    begin_call(r, "write");
    char rest[256];
    snprintf(rest, sizeof rest, ",\"tool_use_id\":\"%s\",\"result\":\"deny\"",
             r->turn.calls[0].id.z);
    queue(r, EVENT_USER_TOOL_CONFIRMATION, rest);
    take_inbox(r);
    expect(r, "user.tool_confirmation agent.tool_result " RUN " " START);
}

static void what_cannot_run_is_no_work_for_the_worker(void **state)
{
    struct rig *r = *state;
    say(r, "go");
    take_inbox(r);
    call_tool(r, "glob", "{}"); /* not enabled */
    expect(r, RUN " user.message " START " agent.tool_use " END " agent.tool_result " START);
}

static void an_interrupt_closes_what_no_worker_has_answered(void **state)
{
    struct rig *r = *state;
    begin_call(r, "bash");
    struct id id = r->turn.calls[0].id;
    queue(r, EVENT_USER_INTERRUPT, "");
    take_inbox(r);
    expect(r, "agent.tool_result user.interrupt " IDLE);
    send_result(r, id.z, "late");
    expect(r, "user.tool_result");
}

static void the_result_of_a_call_that_the_server_runs_is_not_taken_from_a_client(void **state)
{
    struct rig *r = *state;
    r->agent.self_hosted = false;
    say(r, "go");
    take_inbox(r);
    call_tool(r, "bash", "{}");
    send_result(r, r->turn.calls[0].id.z, "forged");
    assert_int_equal(r->turn.calls[0].state, CALL_READY);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, hands_setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_session_rests_until_the_worker_has_answered),
        T(an_answer_before_the_confirmation_does_not_count),
        T(a_denied_call_is_answered_by_the_server),
        T(what_cannot_run_is_no_work_for_the_worker),
        T(an_interrupt_closes_what_no_worker_has_answered),
        T(the_result_of_a_call_that_the_server_runs_is_not_taken_from_a_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
