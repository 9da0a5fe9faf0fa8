/* Copies of a log that end anywhere in it: each comes to rest, and can go on. */
#include "core_rig.h"

#include "core/turn_fork.h"

/* The rig `to` has the first `n` events of `from`, and what brings them to rest. */
static void fork_at(struct rig *from, size_t n, struct rig *to)
{
    struct err err;
    to->now_us = from->now_us;
    to->turn.facts = from->turn.facts;
    to->turn.caps = from->turn.caps;
    for (size_t i = 0; i < n; i++) {
        to->log[to->nlog++] = from->log[i];
        if (turn_fold(&to->turn, &from->log[i], &err))
            fail_msg("event %zu: %s", i, err.msg);
    }
    to->shown = to->nlog;
    turn_cut(&to->turn, begin(to));
    commit(to);
    assert_true(turn_rests(&to->turn));
}

static size_t after(const struct rig *r, const char *type, size_t nth)
{
    for (size_t i = 0; i < r->nlog; i++)
        if (strcmp(event_name(r->log[i].type), type) == 0 && nth-- == 0)
            return i + 1;
    fail_msg("no %s", type);
    return 0;
}

static void three_calls(struct rig *r)
{
    struct model_block b[] = {
        {.type = MODEL_TEXT, .text = STR("let me see")},
        {.type = MODEL_TOOL_USE, .name = STR("bash"), .input = STR("{\"n\":1}")},
        {.type = MODEL_TOOL_USE, .name = STR("read"), .input = STR("{\"n\":2}")},
        {.type = MODEL_TOOL_USE, .name = STR("bash"), .input = STR("{\"n\":3}")},
    };
    say(r, "go");
    take_inbox(r);
    answer(r, b, COUNT_OF(b));
    for (size_t i = 0; i < 3; i++) {
        struct tool_outcome o = {.content = STR("done")};
        struct id id = r->turn.calls[i].id;
        turn_tool_done(&r->turn, begin(r), id_str(&id), &o);
        commit(r);
    }
    answer_text(r, "all three");
}

static size_t occurrences(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

static const char interrupted[] = "Tool execution was interrupted before completion.";

static void a_copy_that_ends_anywhere_in_a_turn_rests_and_goes_on(void **state)
{
    struct rig *r = *state;
    three_calls(r);
    for (size_t n = 0; n <= r->nlog; n++) {
        void *other = NULL;
        assert_int_equal(setup(&other), 0);
        struct rig *f = other;
        fork_at(r, n, f);
        const char *conversation = messages_of(&f->turn).ptr;
        assert_int_equal(occurrences(conversation, "\"tool_use\""),
                         occurrences(conversation, "\"tool_result\""));
        say(f, "and now?");
        take_inbox(f);
        assert_true(f->step.start_model);
        assert_non_null(strstr(messages_of(&f->turn).ptr, "and now?"));
        answer_text(f, "fine");
        assert_int_equal(turn_phase(&f->turn), TURN_IDLE);
        teardown(&other);
    }
}

static void the_end_of_a_turn_is_copied_as_it_is(void **state)
{
    struct rig *r = *state;
    three_calls(r);
    void *other = NULL;
    assert_int_equal(setup(&other), 0);
    struct rig *f = other;
    fork_at(r, r->nlog, f);
    expect(f, "");
    assert_true(str_eq(messages_of(&f->turn), messages_of(&r->turn)));
    assert_memory_equal(&f->turn.usage, &r->turn.usage, sizeof r->turn.usage);
    teardown(&other);
}

static void a_request_in_flight_ends_without_cost(void **state)
{
    struct rig *r = *state;
    three_calls(r);
    const struct {
        size_t n, results;
        const char *closing;
    } rows[] = {
        {after(r, "span.model_request_start", 0), 0, END " " IDLE},
        {after(r, "agent.message", 0), 0, END " " IDLE},
        {after(r, "agent.tool_use", 0), 1, END " agent.tool_result " IDLE},
        {after(r, "agent.tool_use", 2), 3,
         END " agent.tool_result agent.tool_result agent.tool_result " IDLE},
        {after(r, "span.model_request_end", 0), 3,
         "agent.tool_result agent.tool_result agent.tool_result " IDLE},
        {after(r, "agent.tool_result", 0), 2, "agent.tool_result agent.tool_result " IDLE},
        {after(r, "agent.tool_result", 2), 0, IDLE},
        {after(r, "session.status_running", 0), 0, IDLE},
        {after(r, "session.thread_status_idle", 0), 0, IDLE},
        {after(r, "session.usage", 0), 0, IDLE},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        void *other = NULL;
        assert_int_equal(setup(&other), 0);
        struct rig *f = other;
        fork_at(r, rows[i].n, f);
        expect(f, rows[i].closing);
        assert_int_equal(occurrences(messages_of(&f->turn).ptr, interrupted), rows[i].results);
        assert_string_equal(f->turn.stop_reason, "{\"type\":\"end_turn\"}");
        assert_int_equal(f->turn.usage.held_microusd, 0);
        assert_int_equal(f->turn.usage.running_since_us, 0);
        if (f->log[rows[i].n].type == EVENT_SPAN_MODEL_REQUEST_END) {
            assert_int_equal(f->turn.usage.input_tokens, 0);
            assert_int_equal(f->turn.usage.model_requests, 0);
            assert_non_null(strstr(f->log[rows[i].n].body.ptr, "\"is_error\":true"));
        }
        teardown(&other);
    }
}

/* What was reserved for the request under a budget is the original's to pay. */
static void nothing_stays_held_for_a_request_that_the_copy_never_sent(void **state)
{
    struct rig *r = *state;
    r->turn.facts = (struct model_facts){.context_tokens = 100000,
                                         .max_output_tokens = 1000,
                                         .input_price = 1000000,
                                         .output_price = 1000000,
                                         .priced = true};
    r->turn.caps.budget_microusd = 10000000;
    say(r, "go");
    take_inbox(r);
    assert_true(r->turn.request.reserved_microusd > 0);
    void *other = NULL;
    assert_int_equal(setup(&other), 0);
    struct rig *f = other;
    fork_at(r, r->nlog, f);
    expect(f, END " " IDLE);
    assert_int_equal(f->turn.usage.held_microusd, 0);
    assert_non_null(strstr(last_body(f), "\"stop_reason\":{\"type\":\"end_turn\"}"));
    teardown(&other);
}

static void a_copy_of_a_session_that_waits_can_be_answered_itself(void **state)
{
    struct rig *r = *state;
    say(r, "go");
    take_inbox(r);
    struct model_block b[] = {{.type = MODEL_TOOL_USE, .name = STR("lookup"), .input = STR("{}")},
                              {.type = MODEL_TOOL_USE, .name = STR("write"), .input = STR("{}")}};
    answer(r, b, 2);
    size_t waiting = r->nlog;
    char rest[200];
    snprintf(rest, sizeof rest, ",\"tool_use_id\":\"%s\",\"result\":\"deny\"",
             r->turn.calls[1].id.z);
    queue(r, EVENT_USER_TOOL_CONFIRMATION, rest);
    take_inbox(r);
    size_t denied = after(r, "user.tool_confirmation", 0), half = r->nlog;

    void *other = NULL;
    assert_int_equal(setup(&other), 0);
    struct rig *f = other;
    fork_at(r, waiting, f);
    expect(f, "");
    assert_int_equal(f->turn.calls[0].state, CALL_CLIENT);
    assert_int_equal(f->turn.calls[1].state, CALL_ASK);
    snprintf(rest, sizeof rest, ",\"custom_tool_use_id\":\"%s\",\"content\":[]",
             f->turn.calls[0].id.z);
    queue(f, EVENT_USER_CUSTOM_TOOL_RESULT, rest);
    take_inbox(f);
    expect(f, "user.custom_tool_result " IDLE);
    teardown(&other);

    /* Between the answer and what it leads to, nobody would ever go on. */
    assert_int_equal(setup(&other), 0);
    f = other;
    fork_at(r, denied, f);
    expect(f, "agent.tool_result agent.tool_result " IDLE);
    teardown(&other);

    /* The session waits again, for the other one. */
    assert_int_equal(setup(&other), 0);
    f = other;
    fork_at(r, half, f);
    expect(f, "");
    assert_int_equal(f->turn.calls[0].state, CALL_CLIENT);
    assert_int_equal(f->turn.calls[1].state, CALL_DONE);
    teardown(&other);
}

static void a_turn_that_waits_to_try_again_is_over(void **state)
{
    struct rig *r = *state;
    say(r, "go");
    take_inbox(r);
    model_fails(r, MODEL_ERR_OVERLOADED);
    void *other = NULL;
    assert_int_equal(setup(&other), 0);
    struct rig *f = other;
    fork_at(r, r->nlog, f);
    expect(f, IDLE);
    assert_int_equal(f->turn.attempts, 0);
    teardown(&other);
}

static void work_towards_an_outcome_ends_with_the_turn(void **state)
{
    struct rig *r = *state;
    queue(r, EVENT_USER_DEFINE_OUTCOME,
          ",\"outcome_id\":\"outc_1\",\"description\":\"Write\",\"rubric\":{\"type\":\"text\","
          "\"content\":\"- short\"},\"max_iterations\":3");
    take_inbox(r);
    answer_text(r, "written");
    const struct {
        size_t n;
        const char *closing;
    } rows[] = {
        {after(r, "span.model_request_start", 0), END " span.outcome_evaluation_end " IDLE},
        {after(r, "span.model_request_end", 0), "span.outcome_evaluation_end " IDLE},
        {after(r, "span.outcome_evaluation_start", 0), "span.outcome_evaluation_end " IDLE},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        void *other = NULL;
        assert_int_equal(setup(&other), 0);
        struct rig *f = other;
        fork_at(r, rows[i].n, f);
        expect(f, rows[i].closing);
        assert_int_equal(f->turn.outcome.state, OUTCOME_NONE);
        say(f, "something else");
        take_inbox(f);
        answer_text(f, "fine");
        expect(f, RUN " user.message " START " agent.message " END " " IDLE);
        teardown(&other);
    }
}

static void a_log_without_events_rests(void **state)
{
    struct rig *r = *state;
    turn_cut(&r->turn, begin(r));
    assert_int_equal(r->step.nevents, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(a_copy_that_ends_anywhere_in_a_turn_rests_and_goes_on),
        T(the_end_of_a_turn_is_copied_as_it_is),
        T(a_request_in_flight_ends_without_cost),
        T(nothing_stays_held_for_a_request_that_the_copy_never_sent),
        T(a_copy_of_a_session_that_waits_can_be_answered_itself),
        T(a_turn_that_waits_to_try_again_is_over),
        T(work_towards_an_outcome_ends_with_the_turn),
        T(a_log_without_events_rests),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
