/* What bounds a turn: budgets, limits, reservations, counts, and a context that gets too large. */
#include "core_rig.h"

/* A dollar for a thousand tokens, in and out. */
static const struct model_facts dear = {.context_tokens = 200000,
                                        .max_output_tokens = 4000,
                                        .input_price = INT64_C(1000) * 1000000,
                                        .output_price = INT64_C(1000) * 1000000,
                                        .priced = true};

enum { DOLLAR = 1000000 };

static void cap(struct rig *r, struct caps caps)
{
    r->turn.facts = dear;
    r->turn.caps = caps;
}

static void update(struct rig *r, const char *budget, const char *limits)
{
    struct turn_update u = {.budget = budget ? str_z(budget) : STR_NONE,
                            .limits = limits ? str_z(limits) : STR_NONE};
    turn_session_updated(&r->turn, begin(r), &u);
    commit(r);
}

/* An answer whose request was so many tokens. */
static void answer_of(struct rig *r, const char *text, int64_t tokens)
{
    struct model_block b = {.type = MODEL_TEXT, .text = str_z(text)};
    struct model_result res = {.blocks = &b,
                               .nblocks = 1,
                               .stop = MODEL_STOP_END,
                               .usage = {.input_tokens = tokens, .output_tokens = 5}};
    turn_model_done(&r->turn, begin(r), &res, NULL, NULL);
    commit(r);
}

static void answer_for(struct rig *r, const char *text, int64_t cost_microusd)
{
    struct model_block b = {.type = MODEL_TEXT, .text = str_z(text)};
    struct model_result res = {
        .blocks = &b,
        .nblocks = 1,
        .stop = MODEL_STOP_END,
        .usage = {.input_tokens = 10, .output_tokens = 5, .cost_microusd = cost_microusd}};
    turn_model_done(&r->turn, begin(r), &res, NULL, NULL);
    commit(r);
}

static int64_t left(const struct rig *r)
{
    const struct turn *t = &r->turn;
    return t->caps.budget_microusd - t->usage.cost_microusd - t->usage.held_microusd;
}

static void a_request_is_bounded_to_what_is_left(void **state)
{
    struct rig *r = *state;
    int64_t bytes = (int64_t)(r->turn.system.len + r->turn.tools.len);
    cap(r, (struct caps){.budget_microusd = (bytes + 2000) * 1000});
    say(r, "hello");
    take_inbox(r);
    expect(r, RUN " user.message " START);
    struct model_request request;
    struct err err;
    assert_int_equal(turn_request(&r->turn, &request, &err), 0);
    assert_true(request.max_tokens >= BUDGET_MIN_ANSWER_TOKENS);
    assert_true(request.max_tokens < 4000);
    assert_true(r->turn.request.reserved_microusd > 0);
    assert_true(r->turn.request.reserved_microusd <= left(r));
}

static void
a_turn_that_cannot_pay_for_its_request_stops_and_goes_on_when_the_budget_is_raised(void **state)
{
    struct rig *r = *state;
    cap(r, (struct caps){.budget_microusd = DOLLAR});
    say(r, "hello");
    take_inbox(r);
    expect(r, RUN " user.message " IDLE);
    assert_false(r->step.start_model);
    assert_non_null(strstr(last_body(r), "\"stop_reason\":{\"type\":\"budget_reached\"}"));
    assert_non_null(strstr(r->log[r->nlog - 2].body.ptr,
                           "\"budget\":{\"type\":\"limit\",\"max_list_cost\":{\"amount\":\"100\","
                           "\"currency\":\"USD\"}}"));
    update(r, "{\"type\":\"limit\",\"max_list_cost\":{\"amount\":\"1500\",\"currency\":\"USD\"}}",
           NULL);
    expect(r, "session.updated " RUN " " START);
    assert_int_equal(r->turn.caps.budget_microusd, 15 * DOLLAR);
    answer_text(r, "hi");
    expect(r, "agent.message " END " " IDLE);
    assert_non_null(strstr(last_body(r), "end_turn"));
}

static void a_budget_that_is_removed_lets_the_turn_go_on(void **state)
{
    struct rig *r = *state;
    cap(r, (struct caps){.budget_microusd = DOLLAR});
    say(r, "hello");
    take_inbox(r);
    update(r, "null", NULL);
    expect(r, RUN " user.message " IDLE " session.updated " RUN " " START);
    assert_int_equal(r->turn.caps.budget_microusd, 0);
}

static void an_update_of_the_title_does_not_wake_a_turn_without_money(void **state)
{
    struct rig *r = *state;
    cap(r, (struct caps){.budget_microusd = DOLLAR});
    say(r, "hello");
    take_inbox(r);
    struct turn_update u = {.title = STR("\"new\"")};
    turn_session_updated(&r->turn, begin(r), &u);
    commit(r);
    expect(r, RUN " user.message " IDLE " session.updated");
}

static void where_the_bytes_do_not_fit_the_provider_is_asked_for_the_count(void **state)
{
    struct rig *r = *state;
    cap(r, (struct caps){.budget_microusd = 3 * DOLLAR});
    r->turn.facts.counts_tokens = true;
    say(r, "hello");
    take_inbox(r);
    expect(r, RUN " user.message");
    assert_true(r->step.count_tokens);
    assert_true(r->turn.counting);
    struct model_request request;
    struct err err;
    assert_int_equal(turn_request(&r->turn, &request, &err), 0);
    /* What is said meanwhile waits: the count does not know it. */
    say(r, "more");
    take_inbox(r);
    expect(r, "");
    turn_counted(&r->turn, begin(r), 1000);
    commit(r);
    expect(r, START);
    assert_true(r->step.start_model);
    assert_int_equal(r->turn.request.max_tokens, 2000);
    answer_text(r, "hi");
    assert_true(r->turn.counting); /* for the request with the second message */
}

static void an_interrupt_ends_a_count(void **state)
{
    struct rig *r = *state;
    cap(r, (struct caps){.budget_microusd = 3 * DOLLAR});
    r->turn.facts.counts_tokens = true;
    say(r, "hello");
    take_inbox(r);
    queue(r, EVENT_USER_INTERRUPT, "");
    take_inbox(r);
    expect(r, RUN " user.message user.interrupt " IDLE);
    assert_false(r->turn.counting);
    turn_counted(&r->turn, begin(r), 1000); /* it was on its way */
    commit(r);
    expect(r, "");
}

static void a_request_that_died_with_its_process_keeps_its_reservation(void **state)
{
    struct rig *r = *state;
    cap(r, (struct caps){.budget_microusd = 20 * DOLLAR});
    say(r, "hello");
    take_inbox(r);
    int64_t reserved = r->turn.request.reserved_microusd;
    assert_true(reserved > 0);
    turn_recover(&r->turn, begin(r));
    commit(r);
    expect(r, RUN " user.message " START " " END " " START);
    assert_int_equal(r->turn.usage.held_microusd, reserved);
    assert_int_equal(r->turn.usage.cost_microusd, 0);
    assert_true(r->turn.request.reserved_microusd <= left(r));
}

static void an_interrupted_request_costs_what_it_used_so_far(void **state)
{
    struct rig *r = *state;
    cap(r, (struct caps){.budget_microusd = 20 * DOLLAR});
    say(r, "hello");
    take_inbox(r);
    queue(r, EVENT_USER_INTERRUPT, "");
    struct turn_step *s = begin(r);
    s->partial = (struct model_usage){.input_tokens = 7, .cost_microusd = 123};
    turn_inbox(&r->turn, s);
    commit(r);
    assert_true(r->step.cancel_model);
    assert_int_equal(r->turn.usage.cost_microusd, 123);
    assert_int_equal(r->turn.usage.input_tokens, 7);
}

static void a_turn_that_ends_with_the_money_says_so_of_itself_and_the_session_has_none(void **state)
{
    struct rig *r = *state;
    cap(r, (struct caps){.budget_microusd = 20 * DOLLAR});
    say(r, "hello");
    take_inbox(r);
    answer_for(r, "hi", 20 * DOLLAR);
    expect(r, RUN " user.message " START " agent.message " END " " IDLE);
    assert_non_null(
        strstr(r->log[r->nlog - 3].body.ptr, "\"stop_reason\":{\"type\":\"end_turn\"}"));
    assert_non_null(strstr(last_body(r), "\"stop_reason\":{\"type\":\"budget_reached\"}"));
    /* Nothing waits: more money starts nothing, but the session says that it can be used again. */
    update(r, "{\"type\":\"limit\",\"max_list_cost\":{\"amount\":\"9900\",\"currency\":\"USD\"}}",
           NULL);
    expect(r, "session.updated " IDLE);
    assert_non_null(strstr(last_body(r), "\"stop_reason\":{\"type\":\"end_turn\"}"));
}

static void what_waits_for_a_client_outranks_the_budget(void **state)
{
    struct rig *r = *state;
    cap(r, (struct caps){.budget_microusd = 20 * DOLLAR});
    say(r, "hello");
    take_inbox(r);
    struct model_block b = {.type = MODEL_TOOL_USE, .name = STR("lookup"), .input = STR("{}")};
    struct model_result res = {.blocks = &b,
                               .nblocks = 1,
                               .stop = MODEL_STOP_TOOL_USE,
                               .usage = {.output_tokens = 5, .cost_microusd = 20 * DOLLAR}};
    turn_model_done(&r->turn, begin(r), &res, NULL, NULL);
    commit(r);
    assert_non_null(strstr(last_body(r), "requires_action"));
    char answer[200];
    snprintf(answer, sizeof answer, ",\"custom_tool_use_id\":\"%s\",\"content\":[]",
             r->turn.calls[0].id.z);
    queue(r, EVENT_USER_CUSTOM_TOOL_RESULT, answer);
    take_inbox(r);
    assert_non_null(strstr(last_body(r), "\"stop_reason\":{\"type\":\"budget_reached\"}"));
    assert_true(r->turn.paused);
}

static void a_limit_of_turns_stops_the_next_one_and_names_itself(void **state)
{
    struct rig *r = *state;
    cap(r, (struct caps){.max_turns = 1});
    say(r, "one");
    take_inbox(r);
    answer_text(r, "first");
    assert_int_equal(r->turn.usage.turns, 1);
    say(r, "two");
    take_inbox(r);
    expect(r,
           RUN " user.message " START " agent.message " END " " IDLE " " RUN " user.message " IDLE);
    assert_non_null(strstr(
        last_body(r), "\"stop_reason\":{\"type\":\"budget_reached\",\"limit\":\"max_turns\"}"));
    update(r, NULL, "{\"max_turns\":2}");
    expect(r, "session.updated " RUN " " START);
    answer_text(r, "second");
    assert_int_equal(r->turn.usage.turns, 2);
}

static void limits_that_are_removed_are_gone(void **state)
{
    struct rig *r = *state;
    cap(r, (struct caps){.max_turns = 1, .max_tokens = 5});
    update(r, NULL, "null");
    assert_int_equal(r->turn.caps.max_turns, 0);
    assert_int_equal(r->turn.caps.max_tokens, 0);
}

static void a_turn_that_waited_for_its_client_is_one_turn(void **state)
{
    struct rig *r = *state;
    say(r, "go");
    take_inbox(r);
    call_tool(r, "lookup", "{}");
    assert_int_equal(r->turn.usage.turns, 0);
    char answer[200];
    snprintf(answer, sizeof answer, ",\"custom_tool_use_id\":\"%s\",\"content\":[]",
             r->turn.calls[0].id.z);
    queue(r, EVENT_USER_CUSTOM_TOOL_RESULT, answer);
    take_inbox(r);
    answer_text(r, "done");
    assert_int_equal(r->turn.usage.turns, 1);
}

/* ---- the context ---- */

/* Enough talk that a compaction makes it smaller. */
static void talk(struct rig *r, int turns)
{
    static const char pad[] = "All work and no play makes Jack a dull boy. ";
    char text[900] = "";
    for (size_t i = 0; i + sizeof pad < sizeof text; i += sizeof pad - 1)
        memcpy(text + i, pad, sizeof pad - 1);
    for (int i = 0; i < turns; i++) {
        say(r, "go on");
        take_inbox(r);
        answer_of(r, text, (int64_t)messages_of(&r->turn).len / 3);
    }
    r->shown = r->nlog;
}

static bool compacting(const struct rig *r)
{
    return turn_phase(&r->turn) == TURN_MODEL && r->turn.request.purpose == MODEL_FOR_COMPACTION;
}

static void overflow(struct rig *r)
{
    model_fails(r, MODEL_ERR_CONTEXT);
}

static void a_context_that_is_full_is_compacted_and_the_turn_goes_on(void **state)
{
    struct rig *r = *state;
    talk(r, 10);
    say(r, "the question");
    take_inbox(r);
    size_t before = messages_of(&r->turn).len;
    overflow(r);
    expect(r, RUN " user.message " START " " END " " START);
    assert_true(compacting(r));
    struct model_request request;
    struct err err;
    assert_int_equal(turn_request(&r->turn, &request, &err), 0);
    assert_int_equal(request.purpose, MODEL_FOR_COMPACTION);
    assert_true(request.max_tokens > 0);
    answer_text(r, "Jack is dull.");
    expect(r, END " agent.thread_context_compacted " START);
    assert_false(compacting(r));
    struct str now = messages_of(&r->turn);
    assert_true(now.len < before);
    assert_true(str_find(now, STR("Jack is dull.")) >= 0);
    assert_true(str_find(now, STR("the question")) >= 0);
    answer_text(r, "the answer");
    expect(r, "agent.message " END " " IDLE);
    assert_int_equal(r->turn.compactions, 0);
}

/* Whatever came first, a session must not be lost to it. */
static void a_first_turn_that_is_too_long_is_cut_and_goes_on(void **state)
{
    struct rig *r = *state;
    for (int i = 0; i < 100; i++)
        say(r, "All that a user said before anything was answered, and all of it at once; too much "
               "of it for the model of this agent, which says so, again and again and again.");
    take_inbox(r);
    size_t before = messages_of(&r->turn).len;
    r->shown = r->nlog;
    overflow(r);
    expect(r, END " " START);
    assert_true(compacting(r));
    answer_text(r, "A long text.");
    expect(r, END " agent.thread_context_compacted " START);
    assert_true(messages_of(&r->turn).len < before * 3 / 4);
    answer_text(r, "the answer");
    expect(r, "agent.message " END " " IDLE);
}

static void a_conversation_near_the_context_is_compacted_before_it_overflows(void **state)
{
    struct rig *r = *state;
    talk(r, 10);
    r->turn.facts.context_tokens = 3000;
    say(r, "the question");
    take_inbox(r);
    expect(r, RUN " user.message " START);
    assert_true(compacting(r));
}

static void a_summary_that_cannot_be_had_is_done_without(void **state)
{
    struct rig *r = *state;
    static const enum model_error_kind kinds[] = {MODEL_ERR_REQUEST, MODEL_ERR_CONTEXT};
    talk(r, 10);
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        say(r, "the question");
        take_inbox(r);
        overflow(r);
        assert_true(compacting(r));
        int64_t fit = r->turn.request.fit;
        for (int n = 0; n < 20 && compacting(r); n++) {
            model_fails(r, kinds[i]);
            assert_true(!compacting(r) || r->turn.request.fit == fit / 2);
            fit = r->turn.request.fit;
        }
        assert_int_equal(turn_phase(&r->turn), TURN_MODEL);
        assert_false(compacting(r));
        answer_text(r, "the answer");
        talk(r, 10);
    }
}

static void a_summary_that_keeps_failing_is_retried_then_done_without(void **state)
{
    struct rig *r = *state;
    talk(r, 10);
    r->turn.facts.context_tokens = 3000;
    say(r, "the question");
    take_inbox(r);
    for (int n = 0; n < LIMIT_MODEL_ATTEMPTS && compacting(r); n++) {
        model_fails(r, MODEL_ERR_OVERLOADED);
        if (turn_phase(&r->turn) != TURN_BACKOFF)
            break;
        turn_timer(&r->turn, begin(r));
        commit(r);
    }
    assert_int_equal(turn_phase(&r->turn), TURN_MODEL);
    assert_false(compacting(r));
}

static void an_answer_without_words_is_no_summary(void **state)
{
    struct rig *r = *state;
    talk(r, 10);
    say(r, "the question");
    take_inbox(r);
    overflow(r);
    call_tool(r, "bash", "{\"command\":\"true\"}");
    expect(r, RUN " user.message " START " " END " " START " " END
                  " agent.thread_context_compacted " START);
    assert_int_equal(r->turn.ncalls, 0);
}

static void a_context_that_stays_too_large_ends_the_turn_with_its_own_error(void **state)
{
    struct rig *r = *state;
    for (int n = 0; n < LIMIT_COMPACTIONS + 1; n++) {
        talk(r, n == 0 ? 10 : 0);
        if (n == 0) {
            say(r, "the question");
            take_inbox(r);
        }
        overflow(r);
        if (compacting(r))
            answer_text(r, "Jack is dull, and dull, and dull.");
        if (turn_phase(&r->turn) == TURN_IDLE)
            break;
    }
    assert_int_equal(turn_phase(&r->turn), TURN_IDLE);
    assert_non_null(strstr(last_body(r), "retries_exhausted"));
    bool named = false;
    for (size_t i = 0; i < r->nlog; i++)
        named = named || (r->log[i].type == EVENT_SESSION_ERROR &&
                          strstr(r->log[i].body.ptr, "\"exhausted\""));
    assert_true(named);
    /* The session is not lost: the next message is a new turn. */
    say(r, "again");
    take_inbox(r);
    assert_int_equal(turn_phase(&r->turn), TURN_MODEL);
}

static void a_long_conversation_that_times_out_twice_is_compacted(void **state)
{
    struct rig *r = *state;
    talk(r, 10);
    r->turn.facts.context_tokens = 8000;
    say(r, "the question");
    take_inbox(r);
    struct model_failure f = {.kind = MODEL_ERR_FAILED, .timed_out = true, .message = "silence"};
    turn_model_failed(&r->turn, begin(r), &f);
    commit(r);
    assert_int_equal(turn_phase(&r->turn), TURN_BACKOFF);
    turn_timer(&r->turn, begin(r));
    commit(r);
    turn_model_failed(&r->turn, begin(r), &f);
    commit(r);
    assert_true(compacting(r));
}

static void the_request_for_a_summary_is_counted_too(void **state)
{
    struct rig *r = *state;
    talk(r, 10);
    r->turn.facts = dear;
    r->turn.facts.counts_tokens = true;
    say(r, "the question");
    take_inbox(r);
    /* Less than its bytes would cost, more than its tokens do. */
    r->turn.caps.budget_microusd = r->turn.usage.cost_microusd + 8 * DOLLAR;
    overflow(r);
    assert_true(r->turn.counting);
    struct model_request request;
    struct err err;
    assert_int_equal(turn_request(&r->turn, &request, &err), 0);
    assert_int_equal(request.purpose, MODEL_FOR_COMPACTION);
    turn_counted(&r->turn, begin(r), 1000);
    commit(r);
    assert_true(compacting(r));
    assert_true(r->turn.request.reserved_microusd <= 8 * DOLLAR);
}

static void an_interrupt_ends_a_compaction(void **state)
{
    struct rig *r = *state;
    talk(r, 10);
    say(r, "the question");
    take_inbox(r);
    overflow(r);
    r->shown = r->nlog;
    queue(r, EVENT_USER_INTERRUPT, "");
    take_inbox(r);
    expect(r, END " user.interrupt " IDLE);
    assert_true(r->step.cancel_model);
}

static void a_compaction_that_died_with_its_process_is_asked_for_again(void **state)
{
    struct rig *r = *state;
    talk(r, 10);
    r->turn.facts.context_tokens = 3000;
    say(r, "the question");
    take_inbox(r);
    assert_true(compacting(r));
    char first[RECORD_DIGEST_MAX];
    memcpy(first, r->turn.request.digest, sizeof first);
    assert_true(first[0] != '\0');
    turn_recover(&r->turn, begin(r));
    commit(r);
    assert_true(compacting(r));
    assert_string_equal(r->turn.request.digest, first);
}

/* ---- requests are recognised again ---- */

static void a_request_has_the_same_digest_after_its_log_was_read_again(void **state)
{
    struct rig *r = *state;
    struct err err;
    talk(r, 3);
    say(r, "once more");
    take_inbox(r);
    struct turn again;
    turn_init(&again, &r->agent, r->turn.session_id, r->turn.thread_id);
    for (size_t i = 0; i < r->nlog; i++) {
        assert_int_equal(turn_fold(&again, &r->log[i], &err), 0);
        if (r->log[i].type != EVENT_SPAN_MODEL_REQUEST_START)
            continue;
        struct model_request request;
        char digest[RECORD_DIGEST_MAX];
        assert_int_equal(turn_request(&again, &request, &err), 0);
        turn_request_digest(&again, &request, digest);
        assert_string_equal(digest, again.request.digest);
    }
    turn_fini(&again);
}

/* ---- the operator's words ---- */

static void a_system_message_goes_with_its_message_and_alone_starts_nothing(void **state)
{
    struct rig *r = *state;
    queue(r, EVENT_SYSTEM_MESSAGE, ",\"content\":[{\"type\":\"text\",\"text\":\"be kind\"}]");
    take_inbox(r);
    expect(r, "system.message");
    say(r, "hello");
    queue(r, EVENT_SYSTEM_MESSAGE, ",\"content\":[{\"type\":\"text\",\"text\":\"be brief\"}]");
    take_inbox(r);
    expect(r, RUN " user.message system.message " START);
}

static void a_conversation_begins_with_the_user_whoever_spoke_first(void **state)
{
    struct rig *r = *state;
    queue(r, EVENT_SYSTEM_MESSAGE, ",\"content\":[{\"type\":\"text\",\"text\":\"be kind\"}]");
    take_inbox(r);
    queue(r, EVENT_SYSTEM_MESSAGE, ",\"content\":[{\"type\":\"text\",\"text\":\"always\"}]");
    take_inbox(r);
    say(r, "hello");
    take_inbox(r);
    assert_true(
        str_eqz(messages_of(&r->turn),
                "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hello\"}]},"
                "{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"be kind\"},"
                "{\"type\":\"text\",\"text\":\"always\"}]}]"));
}

/* ---- the policy auto ---- */

static void a_judged_call_is_allowed_asked_about_or_denied(void **state)
{
    static const char auto_agent[] =
        "{\"name\":\"t\",\"model\":{\"id\":\"m\"},\"tools\":[{\"type\":\"agent_toolset_20260401\","
        "\"default_config\":{\"permission_policy\":{\"type\":\"auto\"}}}]}";
    struct rig *r = *state;
    struct err err;
    assert_int_equal(agent_read(&r->arena, str_z(auto_agent), &r->agent, &err), 0);
    turn_set_agent(&r->turn, &r->agent);
    say(r, "go");
    take_inbox(r);
    struct model_block b = {.type = MODEL_TOOL_USE, .name = STR("bash"), .input = STR("{}")};
    struct model_block blocks[] = {b, b, b, b};
    struct judgement judged[] = {{VERDICT_ALLOW, NULL},
                                 {VERDICT_ASK, "indeterminate"},
                                 {VERDICT_DENY, "high_risk"},
                                 {VERDICT_NONE, NULL}};
    struct model_result res = {.blocks = blocks, .nblocks = 4, .stop = MODEL_STOP_TOOL_USE};
    struct model_usage judge = {.input_tokens = 3, .cost_microusd = 11};
    turn_model_done(&r->turn, begin(r), &res, judged, &judge);
    commit(r);
    expect(r, RUN " user.message " START
                  " agent.tool_use agent.tool_use agent.tool_use agent.tool_use " END
                  " agent.tool_result");
    static const enum call_state states[] = {CALL_READY, CALL_ASK, CALL_DONE, CALL_ASK};
    for (size_t i = 0; i < COUNT_OF(states); i++)
        assert_int_equal(r->turn.calls[i].state, states[i]);
    assert_int_equal(r->turn.usage.cost_microusd, 11);
    bool high_risk = false;
    for (size_t i = 0; i < r->nlog; i++)
        high_risk = high_risk ||
                    strstr(r->log[i].body.ptr,
                           "\"evaluated_permission\":\"deny\",\"evaluation\":{\"type\":\"auto\","
                           "\"evaluated_permission\":{\"type\":\"deny\",\"reason_code\":"
                           "\"high_risk\"}}");
    assert_true(high_risk);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_request_is_bounded_to_what_is_left),
        T(a_turn_that_cannot_pay_for_its_request_stops_and_goes_on_when_the_budget_is_raised),
        T(a_budget_that_is_removed_lets_the_turn_go_on),
        T(an_update_of_the_title_does_not_wake_a_turn_without_money),
        T(where_the_bytes_do_not_fit_the_provider_is_asked_for_the_count),
        T(an_interrupt_ends_a_count),
        T(a_request_that_died_with_its_process_keeps_its_reservation),
        T(an_interrupted_request_costs_what_it_used_so_far),
        T(a_turn_that_ends_with_the_money_says_so_of_itself_and_the_session_has_none),
        T(what_waits_for_a_client_outranks_the_budget),
        T(a_limit_of_turns_stops_the_next_one_and_names_itself),
        T(limits_that_are_removed_are_gone),
        T(a_turn_that_waited_for_its_client_is_one_turn),
        T(a_context_that_is_full_is_compacted_and_the_turn_goes_on),
        T(a_first_turn_that_is_too_long_is_cut_and_goes_on),
        T(a_conversation_near_the_context_is_compacted_before_it_overflows),
        T(a_summary_that_cannot_be_had_is_done_without),
        T(a_summary_that_keeps_failing_is_retried_then_done_without),
        T(an_answer_without_words_is_no_summary),
        T(a_context_that_stays_too_large_ends_the_turn_with_its_own_error),
        T(a_long_conversation_that_times_out_twice_is_compacted),
        T(the_request_for_a_summary_is_counted_too),
        T(an_interrupt_ends_a_compaction),
        T(a_compaction_that_died_with_its_process_is_asked_for_again),
        T(a_request_has_the_same_digest_after_its_log_was_read_again),
        T(a_system_message_goes_with_its_message_and_alone_starts_nothing),
        T(a_conversation_begins_with_the_user_whoever_spoke_first),
        T(a_judged_call_is_allowed_asked_about_or_denied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
