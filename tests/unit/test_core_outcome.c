/* Outcomes: the loop of work and evaluation, as events; rubrics and verdicts. */
#include "core_rig.h"

#include "core/grader.h"
#include "core/rubric.h"

#define BEGIN "span.outcome_evaluation_start"
#define ONGOING "span.outcome_evaluation_ongoing"
#define VERDICT "span.outcome_evaluation_end"

static void define_with(struct rig *r, int max, const char *more)
{
    char rest[512];
    snprintf(rest, sizeof rest,
             ",\"outcome_id\":\"outc_1\",\"description\":\"Write a poem\",\"rubric\":{\"type\":"
             "\"text\",\"content\":\"- it rhymes\\n- it is short\"%s},\"max_iterations\":%d",
             more, max);
    queue(r, EVENT_USER_DEFINE_OUTCOME, rest);
}

static void define(struct rig *r, int max)
{
    define_with(r, max, "");
}

static void graded(struct rig *r, enum outcome_result result)
{
    const struct criterion list[] = {
        {.name = STR("it rhymes"),
         .verdict = result == OUTCOME_SATISFIED ? CRITERION_MET : CRITERION_NOT_MET,
         .comment = STR("it does not"),
         .evidence = STR("poem.txt:1")},
        {.name = STR("it is short"), .verdict = CRITERION_MET, .comment = STR("yes")}};
    const struct grade g = {.result = result,
                            .criteria = list,
                            .ncriteria = 2,
                            .why = STR("another kind of work"),
                            .usage = {.input_tokens = 7, .cost_microusd = 70}};
    turn_graded(&r->turn, begin(r), &g);
    commit(r);
}

static bool asked(struct rig *r, const char *text)
{
    struct str messages;
    struct err err;
    assert_int_equal(prompt_messages(&r->turn.prompt, &messages, &err), 0);
    return str_find(messages, str_z(text)) >= 0;
}

static void work_is_graded_at_the_end_of_its_turn_and_satisfied_ends_it(void **state)
{
    struct rig *r = *state;
    define(r, 3);
    take_inbox(r);
    expect(r, RUN " user.define_outcome " START);
    assert_true(asked(r, "Write a poem"));
    assert_true(asked(r, "it rhymes"));
    answer_text(r, "done");
    expect(r, "agent.message " END " " BEGIN);
    assert_true(r->step.grade);
    assert_int_equal(turn_phase(&r->turn), TURN_GRADING);
    graded(r, OUTCOME_SATISFIED);
    expect(r, VERDICT " " IDLE);
    const char *body = r->log[r->nlog - 4].body.ptr;
    assert_non_null(strstr(body, "\"result\":\"satisfied\""));
    assert_non_null(strstr(body, "An independent grader found that all criteria are met:\\n- it "
                                 "rhymes (met): it does not [poem.txt:1]"));
    assert_non_null(strstr(body, "\"input_tokens\":7"));
    assert_int_equal(r->turn.usage.cost_microusd, 70);
    assert_int_equal(r->turn.outcome.state, OUTCOME_NONE);
}

static void a_revision_is_told_and_graded_again(void **state)
{
    struct rig *r = *state;
    define(r, 3);
    take_inbox(r);
    answer_text(r, "done");
    r->shown = r->nlog;
    graded(r, OUTCOME_NEEDS_REVISION);
    expect(r, VERDICT " " START);
    assert_true(asked(r, "the following criteria are not fully met:\\n- it rhymes (not met)"));
    assert_false(asked(r, "it is short (met)"));
    answer_text(r, "better");
    expect(r, "agent.message " END " " BEGIN);
    assert_non_null(strstr(last_body(r), "\"iteration\":1"));
    graded(r, OUTCOME_SATISFIED);
    expect(r, VERDICT " " IDLE);
    assert_int_equal(r->turn.usage.turns, 1);
}

static void after_the_last_evaluation_one_turn_follows_that_is_not_graded(void **state)
{
    struct rig *r = *state;
    define(r, 1);
    take_inbox(r);
    answer_text(r, "done");
    r->shown = r->nlog;
    graded(r, OUTCOME_NEEDS_REVISION);
    expect(r, VERDICT " " START);
    assert_non_null(strstr(r->log[r->nlog - 2].body.ptr, "\"max_iterations_reached\""));
    assert_true(asked(r, "Reached 1 revision cycles without satisfying the rubric"));
    answer_text(r, "I see");
    expect(r, "agent.message " END " " IDLE);
    assert_int_equal(r->turn.outcome.state, OUTCOME_NONE);
}

static void with_closing_the_last_turn_is_graded_without_events(void **state)
{
    struct rig *r = *state;
    define_with(r, 1, ",\"closing\":true");
    take_inbox(r);
    answer_text(r, "done");
    graded(r, OUTCOME_NEEDS_REVISION);
    r->shown = r->nlog;
    answer_text(r, "I see");
    expect(r, "agent.message " END);
    assert_true(r->step.grade);
    graded(r, OUTCOME_SATISFIED);
    assert_true(r->step.closed);
    expect(r, IDLE);
    assert_int_equal(r->turn.usage.cost_microusd, 140);
}

static void the_closing_grade_is_paid_once_though_another_turn_ends_with_it(void **state)
{
    struct rig *r = *state;
    const struct grade g = {.result = OUTCOME_FAILED, .usage = {.cost_microusd = 70}};
    define_with(r, 1, ",\"closing\":true");
    take_inbox(r);
    answer_text(r, "done");
    graded(r, OUTCOME_NEEDS_REVISION);
    answer_text(r, "I see");
    caps_read(&r->turn.caps, 0, STR("{\"max_turns\":1}"));
    say(r, "more");
    turn_graded(&r->turn, begin(r), &g);
    turn_inbox(&r->turn, &r->step);
    commit(r);
    r->shown = r->nlog - 9;
    expect(r, IDLE " " RUN " user.message " IDLE);
    assert_int_equal(r->turn.usage.cost_microusd, 140);
}

static void a_rubric_that_does_not_apply_ends_the_outcome(void **state)
{
    struct rig *r = *state;
    define(r, 3);
    take_inbox(r);
    answer_text(r, "done");
    r->shown = r->nlog;
    graded(r, OUTCOME_FAILED);
    expect(r, VERDICT " " IDLE);
    assert_non_null(strstr(r->log[r->nlog - 4].body.ptr, "another kind of work"));
}

static void an_interrupt_ends_the_outcome_wherever_it_is(void **state)
{
    struct rig *r = *state;
    define(r, 3);
    take_inbox(r);
    r->shown = r->nlog;
    queue(r, EVENT_USER_INTERRUPT, "");
    take_inbox(r);
    expect(r, END " " VERDICT " user.interrupt " IDLE);
    assert_non_null(strstr(r->log[r->nlog - 5].body.ptr, "\"outcome_evaluation_start_id\":\"\""));
    define(r, 3);
    take_inbox(r);
    answer_text(r, "done");
    r->shown = r->nlog;
    queue(r, EVENT_USER_INTERRUPT, "");
    take_inbox(r);
    expect(r, VERDICT " user.interrupt " IDLE);
    assert_true(r->step.cancel_grade);
    assert_non_null(strstr(r->log[r->nlog - 5].body.ptr, "\"result\":\"interrupted\""));
    graded(r, OUTCOME_SATISFIED); /* it was on its way */
    expect(r, "");
}

static void messages_wait_while_the_grader_looks(void **state)
{
    struct rig *r = *state;
    define(r, 3);
    take_inbox(r);
    answer_text(r, "done");
    r->shown = r->nlog;
    say(r, "and a title");
    take_inbox(r);
    expect(r, "");
    graded(r, OUTCOME_NEEDS_REVISION);
    expect(r, VERDICT " user.message " START);
}

static void what_a_message_adds_is_done_before_the_grading(void **state)
{
    struct rig *r = *state;
    define(r, 3);
    take_inbox(r);
    say(r, "and a title");
    answer_text(r, "done");
    r->shown = r->nlog - 2;
    expect(r, "user.message " START);
    answer_text(r, "done too");
    expect(r, "agent.message " END " " BEGIN);
}

static void the_money_of_an_attempt_that_died_is_known_or_held(void **state)
{
    struct rig *r = *state;
    define(r, 3);
    take_inbox(r);
    answer_text(r, "done");
    r->shown = r->nlog;
    turn_grading(&r->turn, begin(r), &(struct model_usage){.cost_microusd = 5}, 40);
    commit(r);
    expect(r, ONGOING);
    assert_true(r->step.grader_may_ask);
    turn_recover(&r->turn, begin(r)); /* as after a crash */
    commit(r);
    expect(r, ONGOING);
    assert_true(r->step.grade);
    assert_int_equal(r->turn.usage.cost_microusd, 5);
    assert_int_equal(r->turn.usage.held_microusd, 40);
    graded(r, OUTCOME_SATISFIED);
    assert_int_equal(r->turn.usage.cost_microusd, 75);
}

static void the_grader_stops_where_the_budget_ends(void **state)
{
    struct rig *r = *state;
    caps_read(&r->turn.caps, 100, STR_NONE);
    r->turn.facts = (struct model_facts){.priced = true};
    define(r, 3);
    take_inbox(r);
    answer_text(r, "done");
    turn_grading(&r->turn, begin(r), &(struct model_usage){.cost_microusd = 50}, 60);
    assert_false(r->step.grader_may_ask);
    assert_int_equal(r->step.nevents, 0);
    turn_grading(&r->turn, begin(r), &(struct model_usage){.cost_microusd = 50}, 50);
    assert_true(r->step.grader_may_ask);
    commit(r);
}

static void a_compaction_keeps_the_rubric(void **state)
{
    struct rig *r = *state;
    struct outcome o;
    AUTO_BUF struct buf b = BUF_INIT(1 << 16);
    const struct json *v;
    struct err err;
    define(r, 5);
    take_inbox(r);
    answer_text(r, "done");
    graded(r, OUTCOME_NEEDS_REVISION);
    struct jw w = jw_to(&b);
    outcome_write(&w, &r->turn.outcome);
    assert_int_equal(json_parse(&r->arena, buf_view(&b), 0, &v, &err), 0);
    outcome_init(&o, 1 << 20);
    outcome_read(&o, v);
    assert_int_equal(o.state, OUTCOME_WORKING);
    assert_int_equal(o.iteration, 1);
    assert_int_equal(o.max_iterations, 5);
    assert_string_equal(o.id.z, "outc_1");
    assert_non_null(strstr(o.definition.data, "it rhymes"));
    outcome_fini(&o);
}

/* ---- rubrics ---- */

static void criteria_are_list_items_or_paragraphs(void **state)
{
    struct rig *r = *state;
    static const struct {
        const char *text;
        size_t n;
        const char *want[4];
    } cases[] = {
        {"- a\n- b", 2, {"a", "b"}},
        {"1. a\n2) b\n10. c", 3, {"a", "b", "c"}},
        {"# Rubric\nAn introduction.\n\n* a\n  goes on\n* b", 2, {"a\n  goes on", "b"}},
        {"- Tests:\n  - one\n  - two\n- last", 3, {"one", "two", "last"}},
        {"- [ ] a\n- [x] b", 2, {"a", "b"}},
        {"It rhymes.\n\nIt is short\nand sweet.", 2, {"It rhymes.", "It is short\nand sweet."}},
        {"just one", 1, {"just one"}},
        {"   ", 1, {""}},
        {"- a\r\n- b\r\n", 2, {"a", "b"}},
        {"-not a list", 1, {"-not a list"}},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct str *list;
        size_t n;
        struct err err;
        assert_int_equal(rubric_criteria(&r->arena, str_z(cases[i].text), &list, &n, &err), 0);
        if (n != cases[i].n)
            fail_msg("case %zu: %zu criteria", i, n);
        for (size_t k = 0; k < n; k++)
            if (!str_eqz(list[k], cases[i].want[k]))
                fail_msg("case %zu: '%.*s'", i, STR_ARG(list[k]));
    }
}

static void a_verdict_must_name_every_criterion_with_evidence(void **state)
{
    struct rig *r = *state;
    const struct str criteria[] = {STR("a"), STR("b")};
    static const struct {
        const char *input, *wrong;
    } cases[] = {
        {"{\"rubric_applies\":true}", "array"},
        {"{\"criteria\":[]}", "criterion 1 has no entry"},
        {"{\"criteria\":[{\"number\":3,\"verdict\":\"met\",\"evidence\":\"x\"}]}", "1 to 2"},
        {"{\"criteria\":[{\"number\":1,\"verdict\":\"fine\"}]}", "verdict must be"},
        {"{\"criteria\":[{\"number\":1,\"verdict\":\"met\",\"evidence\":\" \"}]}", "evidence"},
        {"{\"criteria\":[{\"number\":1,\"verdict\":\"not_met\"},{\"number\":1,\"verdict\":\"not_"
         "met\"}]}",
         "two entries"},
        {"{\"criteria\":[{\"number\":2,\"verdict\":\"not_met\"},{\"number\":1,\"verdict\":\"met\","
         "\"evidence\":\"f:1\"}]}",
         NULL},
        {"{\"rubric_applies\":false,\"criteria\":[],\"reason\":\"no\"}", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct json *input;
        struct grade g;
        struct err err;
        assert_int_equal(json_parse(&r->arena, str_z(cases[i].input), 0, &input, &err), 0);
        int rc = grader_verdict(&r->arena, input, criteria, 2, &g, &err);
        if ((rc == 0) != (cases[i].wrong == NULL) || (rc && !strstr(err.msg, cases[i].wrong)))
            fail_msg("case %zu: %d %s", i, rc, rc ? err.msg : "");
        if (rc == 0)
            assert_int_not_equal(g.result, OUTCOME_SATISFIED);
    }
}

static void the_grader_is_an_agent_that_can_look_and_hand_in(void **state)
{
    struct rig *r = *state;
    struct agent ag;
    struct err err;
    struct str snapshot = grader_agent(&r->arena, STR("script/x"));
    assert_int_equal(agent_read(&r->arena, snapshot, &ag, &err), 0);
    assert_true(ag.tools[TOOL_BASH].offered);
    assert_true(ag.tools[TOOL_READ].offered);
    assert_false(ag.tools[TOOL_WRITE].offered);
    assert_false(ag.tools[TOOL_WEB_FETCH].offered);
    assert_non_null(agent_custom_tool(&ag, STR(GRADER_VERDICT_TOOL)));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(work_is_graded_at_the_end_of_its_turn_and_satisfied_ends_it),
        T(a_revision_is_told_and_graded_again),
        T(after_the_last_evaluation_one_turn_follows_that_is_not_graded),
        T(with_closing_the_last_turn_is_graded_without_events),
        T(the_closing_grade_is_paid_once_though_another_turn_ends_with_it),
        T(a_rubric_that_does_not_apply_ends_the_outcome),
        T(an_interrupt_ends_the_outcome_wherever_it_is),
        T(messages_wait_while_the_grader_looks),
        T(what_a_message_adds_is_done_before_the_grading),
        T(the_money_of_an_attempt_that_died_is_known_or_held),
        T(the_grader_stops_where_the_budget_ends),
        T(a_compaction_keeps_the_rubric),
        T(criteria_are_list_items_or_paragraphs),
        T(a_verdict_must_name_every_criterion_with_evidence),
        T(the_grader_is_an_agent_that_can_look_and_hand_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
