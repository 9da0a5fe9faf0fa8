/* The agent loop as a pure function: what each input makes of a session. */
#include "core_rig.h"

static void a_plain_turn_comes_out_in_the_published_order(void **state)
{
    struct rig *r = *state;
    say(r, "hello");
    take_inbox(r);
    expect(r, RUN " user.message " START);
    assert_true(r->step.start_model);
    assert_string_equal(
        messages_of(&r->turn).ptr,
        "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hello\"}]}]");
    struct model_block blocks[] = {
        {.type = MODEL_THINKING,
         .raw = STR("{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"s\"}")},
        {.type = MODEL_TEXT, .text = STR("hi")},
        {.type = MODEL_TEXT, .text = STR(" there")},
    };
    answer(r, blocks, 3);
    expect(r, "agent.thinking agent.message " END " " IDLE);
    assert_non_null(
        strstr(last_body(r), "\"stop_reason\":{\"type\":\"end_turn\"},\"stop_details\":null"));
    assert_string_equal(r->turn.stop_reason, "{\"type\":\"end_turn\"}");
    assert_int_equal(r->turn.usage.input_tokens, 10);
    assert_int_equal(r->turn.usage.running_since_us, 0);
    assert_non_null(
        strstr(messages_of(&r->turn).ptr,
               "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\","
               "\"signature\":\"s\"},{\"type\":\"text\",\"text\":\"hi\"}"));
}

static void a_tool_turn_comes_out_in_the_published_order(void **state)
{
    struct rig *r = *state;
    say(r, "go");
    take_inbox(r);
    call_tool(r, "bash", "{\"command\": \"echo 1.0e+2\", \"n\": 1.0e+2}");
    expect(r, RUN " user.message " START " agent.tool_use " END);
    assert_false(r->step.start_model);
    assert_int_equal(r->turn.calls[0].state, CALL_READY);
    assert_string_equal(r->turn.calls[0].input.ptr,
                        "{\"command\": \"echo 1.0e+2\", \"n\": 1.0e+2}");
    result(r, "");
    expect(r, "agent.tool_result " START);
    assert_true(r->step.start_model);
    /* An empty result is a result without content, never an empty text block. */
    assert_null(strstr(messages_of(&r->turn).ptr, "\"text\":\"\""));
    answer_text(r, "done");
    expect(r, "agent.message " END " " IDLE);
}

static void results_of_parallel_calls_wait_for_each_other(void **state)
{
    struct rig *r = *state;
    say(r, "go");
    take_inbox(r);
    struct model_block b[] = {{.type = MODEL_TOOL_USE, .name = STR("bash"), .input = STR("{}")},
                              {.type = MODEL_TOOL_USE, .name = STR("read"), .input = STR("{}")}};
    answer(r, b, 2);
    struct id second = r->turn.calls[1].id;
    struct tool_outcome o = {.content = STR("x")};
    turn_tool_done(&r->turn, begin(r), id_str(&second), &o);
    commit(r);
    assert_false(r->step.start_model);
    turn_tool_done(&r->turn, begin(r), id_str(&second), &o); /* delivered twice */
    commit(r);
    assert_int_equal(r->step.nevents, 0);
    result(r, "y");
    assert_true(r->step.start_model);
    expect(r, RUN " user.message " START " agent.tool_use agent.tool_use " END
                  " agent.tool_result agent.tool_result " START);
}

static void a_request_that_died_with_the_process_goes_out_again_unchanged(void **state)
{
    struct rig *r = *state;
    say(r, "hello");
    take_inbox(r);
    AUTO_BUF struct buf before = BUF_INIT(4096);
    buf_str(&before, messages_of(&r->turn));
    turn_recover(&r->turn, begin(r));
    commit(r);
    expect(r, RUN " user.message " START " " END " " START);
    assert_true(r->step.start_model);
    assert_string_equal(messages_of(&r->turn).ptr, before.data);
    assert_int_equal(r->turn.requests, 0);
}

static void open_calls_are_left_for_the_engine_to_ask_about(void **state)
{
    struct rig *r = *state;
    say(r, "go");
    take_inbox(r);
    call_tool(r, "bash", "{}");
    turn_recover(&r->turn, begin(r));
    commit(r);
    assert_int_equal(r->step.nevents, 0);
    assert_int_equal(turn_phase(&r->turn), TURN_TOOLS);
}

static void failures_are_retried_and_then_exhausted(void **state)
{
    struct rig *r = *state;
    say(r, "hello");
    take_inbox(r);
    expect(r, RUN " user.message " START);
    for (int i = 0; i < LIMIT_MODEL_ATTEMPTS - 1; i++) {
        model_fails(r, MODEL_ERR_OVERLOADED);
        expect(r,
               END " session.error session.thread_status_rescheduled session.status_rescheduled");
        assert_true(r->step.sleep_ms >= LIMIT_MODEL_BACKOFF_MIN_MS / 2);
        assert_true(r->step.sleep_ms <= LIMIT_MODEL_BACKOFF_MAX_MS);
        assert_int_equal(turn_phase(&r->turn), TURN_BACKOFF);
        turn_timer(&r->turn, begin(r));
        commit(r);
        expect(r, RUN " " START);
    }
    say(r, "still there?");
    model_fails(r, MODEL_ERR_OVERLOADED);
    expect(r, END " session.error user.message " IDLE);
    assert_string_equal(r->turn.stop_reason, "{\"type\":\"retries_exhausted\"}");
    assert_non_null(strstr(messages_of(&r->turn).ptr, "still there?"));
}

static void a_request_that_cannot_succeed_is_not_repeated(void **state)
{
    static const enum model_error_kind kinds[] = {MODEL_ERR_REQUEST, MODEL_ERR_AUTH,
                                                  MODEL_ERR_BILLING, MODEL_ERR_CONTEXT};
    struct rig *r = *state;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        say(r, "hello");
        take_inbox(r);
        model_fails(r, kinds[i]);
        expect(r, RUN " user.message " START " " END " session.error " IDLE);
        assert_int_equal(turn_phase(&r->turn), TURN_IDLE);
    }
}

static void what_was_said_meanwhile_belongs_to_the_running_turn(void **state)
{
    struct rig *r = *state;
    say(r, "one");
    take_inbox(r);
    say(r, "two");
    say(r, "three");
    take_inbox(r);
    assert_int_equal(r->step.nevents, 0);
    answer_text(r, "ok");
    expect(r, RUN " user.message " START " agent.message " END " user.message user.message " START);
    answer_text(r, "all");
    expect(r, "agent.message " END " " IDLE);
}

static void an_interrupt_ends_the_request_and_the_next_message_starts_a_turn(void **state)
{
    struct rig *r = *state;
    say(r, "one");
    take_inbox(r);
    queue(r, EVENT_USER_INTERRUPT, "");
    say(r, "two");
    take_inbox(r);
    expect(r, RUN " user.message " START " " END " user.interrupt " IDLE " " RUN
                  " user.message " START);
    assert_true(r->step.cancel_model);
    assert_true(r->step.start_model);
}

static void an_interrupt_closes_running_calls_with_the_published_text(void **state)
{
    struct rig *r = *state;
    say(r, "one");
    take_inbox(r);
    call_tool(r, "bash", "{}");
    r->turn.calls[0].sent = true;
    queue(r, EVENT_USER_INTERRUPT, "");
    take_inbox(r);
    assert_int_equal(r->step.ncancel_calls, 1);
    expect(r, RUN " user.message " START " agent.tool_use " END
                  " agent.tool_result user.interrupt " IDLE);
    assert_non_null(strstr(r->log[r->nlog - 5].body.ptr,
                           "Tool execution was interrupted before completion. Please retry."));
    result(r, "too late");
    assert_int_equal(r->step.nevents, 0);
}

static void an_interrupt_on_idle_is_only_recorded(void **state)
{
    struct rig *r = *state;
    queue(r, EVENT_USER_INTERRUPT, "");
    take_inbox(r);
    expect(r, "user.interrupt");
    assert_int_equal(turn_phase(&r->turn), TURN_IDLE);
}

static void an_interrupt_in_backoff_ends_the_turn(void **state)
{
    struct rig *r = *state;
    say(r, "hello");
    take_inbox(r);
    model_fails(r, MODEL_ERR_RATE_LIMITED);
    queue(r, EVENT_USER_INTERRUPT, "");
    take_inbox(r);
    assert_int_equal(turn_phase(&r->turn), TURN_IDLE);
    turn_timer(&r->turn, begin(r)); /* fires late */
    commit(r);
    assert_int_equal(r->step.nevents, 0);
}

static void a_call_that_cannot_run_is_answered_and_the_turn_goes_on(void **state)
{
    static const struct {
        const char *name, *input;
        bool malformed;
        const char *permission, *text;
    } cases[] = {
        {"nonsense", "{}", false, "\"evaluated_permission\":\"deny\"}", "no tool of this name"},
        {"glob", "{}", false, "\"evaluated_permission\":\"deny\"}", "not enabled"},
        {"web_fetch", "{}", false, "\"evaluated_permission\":\"deny\"}", "not enabled"},
        {"bash", "{\"command\":", true, "\"evaluated_permission\":\"allow\"", "not a JSON object"},
    };
    struct rig *r = *state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        say(r, "go");
        take_inbox(r);
        struct model_block b = {.type = MODEL_TOOL_USE,
                                .name = str_z(cases[i].name),
                                .input = str_z(cases[i].input),
                                .input_malformed = cases[i].malformed};
        answer(r, &b, 1);
        expect(r, RUN " user.message " START " agent.tool_use " END " agent.tool_result " START);
        assert_non_null(strstr(r->log[r->nlog - 4].body.ptr, cases[i].permission));
        assert_non_null(strstr(r->log[r->nlog - 2].body.ptr, cases[i].text));
        answer_text(r, "sorry");
        r->shown = r->nlog;
    }
}

static void a_custom_tool_waits_for_the_client(void **state)
{
    struct rig *r = *state;
    say(r, "go");
    take_inbox(r);
    struct model_block b[] = {{.type = MODEL_TOOL_USE, .name = STR("lookup"), .input = STR("{}")},
                              {.type = MODEL_TOOL_USE, .name = STR("lookup"), .input = STR("{}")}};
    answer(r, b, 2);
    expect(r,
           RUN " user.message " START " agent.custom_tool_use agent.custom_tool_use " END " " IDLE);
    struct id first = r->turn.calls[0].id, second = r->turn.calls[1].id;
    assert_non_null(strstr(r->turn.stop_reason, first.z));
    char rest[256];
    snprintf(rest, sizeof rest, ",\"custom_tool_use_id\":\"%s\",\"content\":[]", first.z);
    queue(r, EVENT_USER_CUSTOM_TOOL_RESULT, rest);
    take_inbox(r);
    expect(r, "user.custom_tool_result " IDLE);
    assert_null(strstr(r->turn.stop_reason, first.z));
    assert_non_null(strstr(r->turn.stop_reason, second.z));
    queue(r, EVENT_USER_CUSTOM_TOOL_RESULT, rest); /* answered twice: no effect */
    take_inbox(r);
    expect(r, "user.custom_tool_result");
    snprintf(rest, sizeof rest,
             ",\"custom_tool_use_id\":\"%s\",\"content\":[{\"type\":\"text\",\"text\":\"42\"}]",
             second.z);
    queue(r, EVENT_USER_CUSTOM_TOOL_RESULT, rest);
    take_inbox(r);
    expect(r, "user.custom_tool_result " RUN " " START);
}

static void an_asked_call_runs_when_allowed_and_is_answered_when_denied(void **state)
{
    struct rig *r = *state;
    for (int deny = 0; deny < 2; deny++) {
        say(r, "go");
        take_inbox(r);
        call_tool(r, "write", "{}");
        expect(r, RUN " user.message " START " agent.tool_use " END " " IDLE);
        char rest[256];
        snprintf(rest, sizeof rest, ",\"tool_use_id\":\"%s\",\"result\":\"%s\"",
                 r->turn.calls[0].id.z, deny ? "deny" : "allow");
        queue(r, EVENT_USER_TOOL_CONFIRMATION, rest);
        take_inbox(r);
        expect(r, deny ? "user.tool_confirmation agent.tool_result " RUN " " START
                       : "user.tool_confirmation " RUN);
        if (!deny) {
            assert_int_equal(r->turn.calls[0].state, CALL_READY);
            result(r, "wrote");
            expect(r, "agent.tool_result " START);
        }
        answer_text(r, "ok");
        expect(r, "agent.message " END " " IDLE);
    }
}

static void a_message_waits_while_a_call_waits_for_the_client(void **state)
{
    struct rig *r = *state;
    say(r, "go");
    take_inbox(r);
    call_tool(r, "lookup", "{}");
    r->shown = r->nlog;
    say(r, "hurry");
    take_inbox(r);
    expect(r, "");
    queue(r, EVENT_USER_INTERRUPT, "");
    take_inbox(r);
    expect(r, "agent.tool_result user.interrupt " IDLE " " RUN " user.message " START);
}

static void a_refusal_carries_its_details(void **state)
{
    struct rig *r = *state;
    say(r, "hello");
    take_inbox(r);
    /* A call that comes with it is not run. */
    struct model_block b = {.type = MODEL_TOOL_USE, .name = STR("bash"), .input = STR("{}")};
    struct model_result res = {
        .blocks = &b, .nblocks = 1, .stop = MODEL_STOP_REFUSAL, .refusal_category = STR("cyber")};
    turn_model_done(&r->turn, begin(r), &res, NULL, NULL);
    commit(r);
    assert_int_equal(r->turn.ncalls, 0);
    assert_non_null(strstr(last_body(r),
                           "\"stop_reason\":{\"type\":\"refusal\"},\"stop_details\":{\"type\":"
                           "\"refusal\",\"category\":\"cyber\",\"explanation\":null}"));
}

static void a_provider_that_pauses_for_ever_ends_the_turn_at_the_limit(void **state)
{
    struct rig *r = *state;
    say(r, "go");
    take_inbox(r);
    struct model_result res = {.stop = MODEL_STOP_PAUSE};
    int requests = 1;
    for (; r->step.start_model && requests < 2 * LIMIT_TOOL_ROUNDS; requests++) {
        turn_model_done(&r->turn, begin(r), &res, NULL, NULL);
        assert_int_equal(r->step.err_code, 0);
    }
    assert_int_equal(requests, LIMIT_TOOL_ROUNDS + 1);
    assert_int_equal(turn_phase(&r->turn), TURN_IDLE);
    assert_string_equal(r->turn.stop_reason, "{\"type\":\"retries_exhausted\"}");
}

/* Inside an event, and again inside a request, the input lies deeper than it came. */
static void an_input_nested_to_the_limit_of_the_reader_does_not_wedge_the_session(void **state)
{
    struct rig *r = *state;
    char input[2 * LIMIT_JSON_DEPTH + 16];
    size_t n = LIMIT_JSON_DEPTH - 1;
    int at = snprintf(input, sizeof input, "{\"[\\\"{\":");
    memset(input + at, '[', n);
    memset(input + at + n, ']', n);
    memcpy(input + at + 2 * n, "}", 2);
    say(r, "go");
    take_inbox(r);
    call_tool(r, "bash", input);
    expect(r, RUN " user.message " START " agent.tool_use " END " agent.tool_result " START);
    assert_non_null(strstr(messages_of(&r->turn).ptr, "nested"));
    call_tool(r, "bash", "{\"command\":\"[[[[{{{\"}");
    expect(r, "agent.tool_use " END);
}

static void an_archived_session_ignores_what_was_sent_too_late(void **state)
{
    struct rig *r = *state;
    turn_terminate(&r->turn, begin(r));
    commit(r);
    queue(r, EVENT_USER_INTERRUPT, "");
    say(r, "late");
    take_inbox(r);
    assert_int_equal(r->step.nevents, 0);
    turn_recover(&r->turn, begin(r));
    commit(r);
    assert_int_equal(r->step.nevents, 0);
}

static void a_conversation_past_the_bound_fails_the_request_and_not_the_log(void **state)
{
    struct rig *r = *state;
    struct prompt *p = &r->turn.prompt;
    struct str out;
    struct err err;
    prompt_fini(p);
    prompt_init(p, 90);
    say(r, "as long as it may be, and then some more of it, and more");
    turn_inbox(&r->turn, begin(r));
    assert_int_equal(r->step.err_code, 0);
    assert_int_equal(prompt_messages(p, &out, &err), ERR_TOO_LARGE);
    struct model_failure f = {.kind = MODEL_ERR_CONTEXT, .message = "too long"};
    turn_model_failed(&r->turn, begin(r), &f);
    assert_int_equal(r->step.err_code, 0);
    assert_int_equal(turn_phase(&r->turn), TURN_IDLE);
}

static void previews_carry_the_ids_of_the_final_events(void **state)
{
    struct rig *r = *state;
    say(r, "hello");
    take_inbox(r);
    bool fresh;
    const struct turn_block *t =
        turn_preview(&r->turn, 0, MODEL_THINKING, r->now_us, &counting, &fresh);
    assert_true(fresh);
    struct id thinking = t->event_id;
    t = turn_preview(&r->turn, 1, MODEL_TEXT, r->now_us, &counting, &fresh);
    struct id message = t->event_id;
    t = turn_preview(&r->turn, 2, MODEL_TEXT, r->now_us, &counting, &fresh);
    assert_false(fresh);
    assert_int_equal(t->content_index, 1);
    assert_string_equal(t->event_id.z, message.z);
    struct model_block blocks[] = {{.type = MODEL_THINKING, .raw = STR("{\"type\":\"thinking\"}")},
                                   {.type = MODEL_TEXT, .text = STR("a")},
                                   {.type = MODEL_TEXT, .text = STR("b")}};
    answer(r, blocks, 3);
    assert_string_equal(r->log[4].id.z, thinking.z);
    assert_string_equal(r->log[5].id.z, message.z);
}

static void a_damaged_log_is_an_error_not_an_abort(void **state)
{
    struct rig *r = *state;
    struct err err;
    struct event jump = {.seq = 5, .type = EVENT_USER_MESSAGE, .body = STR("{}")};
    assert_int_equal(turn_fold(&r->turn, &jump, &err), ERR_CORRUPT);
    struct event odd = {.seq = 1, .type = EVENT_SPAN_MODEL_REQUEST_START, .body = STR("{}")};
    assert_int_equal(turn_fold(&r->turn, &odd, &err), ERR_CORRUPT);
    struct event bad = {.seq = 2, .type = EVENT_USER_MESSAGE, .body = STR("{")};
    assert_int_equal(turn_fold(&r->turn, &bad, &err), ERR_PARSE);
}

static void the_tools_offered_are_the_enabled_ones(void **state)
{
    struct rig *r = *state;
    AUTO_BUF struct buf b = BUF_INIT(65536);
    agent_write_tools(&r->agent, &b);
    assert_non_null(strstr(b.data, "\"name\":\"bash\""));
    assert_non_null(strstr(b.data, "\"name\":\"lookup\""));
    assert_null(strstr(b.data, "\"name\":\"glob\""));
    assert_null(strstr(b.data, "web_fetch"));
    const struct json *doc;
    struct err err;
    assert_int_equal(json_parse(&r->arena, buf_view(&b), 0, &doc, &err), 0);
    buf_clear(&b);
    agent_write_system(&r->agent, &b);
    assert_non_null(strstr(b.data, "Be brief.\",\"cache_control\":{\"type\":\"ephemeral\"}}]"));
}

static void what_a_sandbox_lacks_is_told_and_ends_nothing(void **state)
{
    static const struct sandbox_notice lack = {.type = "repository_not_found_error",
                                               .message = STR("no \"r\" there"),
                                               .repository_url = STR("https://git.test/o/r")};
    struct rig *r = *state;
    say(r, "go");
    take_inbox(r);
    call_tool(r, "bash", "{}");
    turn_notice(&r->turn, begin(r), &lack);
    commit(r);
    expect(r, RUN " user.message " START " agent.tool_use " END " session.error");
    assert_non_null(strstr(last_body(r),
                           "\"error\":{\"type\":\"repository_not_found_error\",\"message\":"
                           "\"no \\\"r\\\" there\",\"repository_url\":"
                           "\"https://git.test/o/r\",\"retry_status\":{\"type\":"
                           "\"retrying\"}}"));
    assert_int_equal(r->turn.attempts, 0); /* it was no attempt at the model */
    result(r, "done");
    expect(r, "agent.tool_result " START);
    assert_null(strstr(messages_of(&r->turn).ptr, "git.test")); /* and the model does not see it */
    turn_notice(&r->turn, begin(r), &lack);
    commit(r);
    expect(r, "session.error");
    answer_text(r, "done");
    expect(r, "agent.message " END " " IDLE);
}

static void event_names_map_both_ways(void **state)
{
    (void)state;
    for (int t = EVENT_NONE + 1; t < EVENT_TYPE_COUNT; t++)
        assert_int_equal(event_type_of(str_z(event_name((enum event_type)t))), t);
    assert_int_equal(event_type_of(STR("no.such")), EVENT_NONE);
    /* Types are a bit each in the store's filters. */
    assert_true(EVENT_TYPE_COUNT <= 64);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_plain_turn_comes_out_in_the_published_order),
        T(a_tool_turn_comes_out_in_the_published_order),
        T(results_of_parallel_calls_wait_for_each_other),
        T(a_request_that_died_with_the_process_goes_out_again_unchanged),
        T(open_calls_are_left_for_the_engine_to_ask_about),
        T(failures_are_retried_and_then_exhausted),
        T(a_request_that_cannot_succeed_is_not_repeated),
        T(what_was_said_meanwhile_belongs_to_the_running_turn),
        T(an_interrupt_ends_the_request_and_the_next_message_starts_a_turn),
        T(an_interrupt_closes_running_calls_with_the_published_text),
        T(an_interrupt_on_idle_is_only_recorded),
        T(an_interrupt_in_backoff_ends_the_turn),
        T(a_call_that_cannot_run_is_answered_and_the_turn_goes_on),
        T(a_custom_tool_waits_for_the_client),
        T(an_asked_call_runs_when_allowed_and_is_answered_when_denied),
        T(a_message_waits_while_a_call_waits_for_the_client),
        T(a_refusal_carries_its_details),
        T(a_provider_that_pauses_for_ever_ends_the_turn_at_the_limit),
        T(an_input_nested_to_the_limit_of_the_reader_does_not_wedge_the_session),
        T(an_archived_session_ignores_what_was_sent_too_late),
        T(a_conversation_past_the_bound_fails_the_request_and_not_the_log),
        T(previews_carry_the_ids_of_the_final_events),
        T(a_damaged_log_is_an_error_not_an_abort),
        T(the_tools_offered_are_the_enabled_ones),
        T(what_a_sandbox_lacks_is_told_and_ends_nothing),
        T(event_names_map_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
