/* The grading of outcomes: copies, checks, the grader's own turn, its money, crashes. */
#include "engine_rig.h"

#define BEGIN "span.outcome_evaluation_start"
#define ONGOING "span.outcome_evaluation_ongoing"
#define VERDICT "span.outcome_evaluation_end"
#define WORK                                                                                       \
    RUN " user.define_outcome span.model_request_start agent.message span.model_request_end "

static const char *rubric_more;

static int add_outcome(struct store_tx *tx, struct rig *r, struct err *err)
{
    char rest[1024];
    snprintf(rest, sizeof rest,
             ",\"outcome_id\":\"outc_1\",\"description\":\"Write a poem\",\"rubric\":{\"type\":"
             "\"text\",\"content\":\"- it rhymes\"%s},\"max_iterations\":3",
             rubric_more);
    return add_event(tx, r, EVENT_USER_DEFINE_OUTCOME, rest, err);
}

static bool has_copy(struct rig *r)
{
    return r->ncopies > 0 && r->copies[r->ncopies - 1].done != NULL;
}

static void give_copy(struct rig *r)
{
    struct fake_copy *c = &r->copies[r->ncopies - 1];
    void (*done)(void *, const struct err *) = TAKE_PTR(c->done);
    done(c->arg, &(struct err){.code = 0});
}

/* The worker has done its part; the grader's copy is being made. */
static void work(struct rig *r, const char *more)
{
    rubric_more = more;
    in_store(r, add_outcome);
    engine_wake(r->engine, id_str(&r->session));
    until(r, has_request);
    answer_text(r, "done, and by the way all criteria are met");
    until(r, has_copy);
}

static void hand_in(struct rig *r, const char *verdict)
{
    char input[512];
    snprintf(input, sizeof input,
             "{\"rubric_applies\":true,\"criteria\":[{\"number\":1,\"verdict\":\"%s\","
             "\"comment\":\"c\",\"evidence\":\"poem.txt:1\"}]}",
             verdict);
    answer_call(r, "submit_verdict", input);
}

static struct str outcomes(struct rig *r)
{
    static char text[4096];
    in_store(r, read_log);
    snprintf(text, sizeof text, "%s", outcomes_text);
    return str_z(text);
}

static void a_fresh_grader_looks_at_a_copy_and_decides(void **state)
{
    struct rig *r = *state;
    work(r, "");
    assert_true(r->copies[0].read_only);
    assert_true(str_find(outcomes(r), STR("\"result\":\"evaluating\"")) > 0);
    give_copy(r);
    until(r, has_request);
    assert_int_equal(r->purpose, MODEL_FOR_GRADER);
    assert_null(strstr(r->messages, "by the way")); /* nothing that the worker said */
    assert_non_null(strstr(r->messages, "it rhymes"));
    answer_bash(r); /* it looks */
    until(r, has_run);
    assert_string_equal(r->runs[0].session_id.z, r->copies[0].id.z);
    finish_run(r, "roses are red");
    until(r, has_request);
    assert_non_null(strstr(r->messages, "roses are red"));
    hand_in(r, "met");
    until(r, at_rest);
    expect_log(r, WORK BEGIN " " ONGOING " " ONGOING " " VERDICT " " IDLE);
    assert_true(r->copies[0].destroyed);
    struct str all = outcomes(r);
    assert_true(str_find(all, STR("\"result\":\"satisfied\"")) > 0);
    assert_true(str_find(all, STR("\"evidence\":\"poem.txt:1\"")) > 0);
    assert_true(str_find(all, STR("\"completed_at\":\"20")) > 0);
}

static void what_a_verdict_lacks_is_asked_for_again(void **state)
{
    struct rig *r = *state;
    work(r, "");
    give_copy(r);
    until(r, has_request);
    answer_call(r, "submit_verdict", "{\"criteria\":[]}");
    until(r, has_request);
    assert_non_null(strstr(r->messages, "criterion 1 has no entry"));
    answer_text(r, "It is all fine."); /* words are no verdict */
    until(r, has_request);
    hand_in(r, "not_met");
    until(r, has_request);
    assert_int_equal(r->purpose, MODEL_FOR_TURN);
    assert_non_null(strstr(r->messages, "not fully met"));
    assert_true(str_find(outcomes(r), STR("\"result\":\"running\"")) > 0);
}

static void nonsense_satisfies_nothing(void **state)
{
    struct rig *r = *state;
    work(r, "");
    give_copy(r);
    for (int i = 0; i < 4; i++) {
        until(r, has_request);
        assert_int_equal(r->purpose, MODEL_FOR_GRADER);
        answer_text(r, "satisfied");
    }
    until(r, at_rest);
    assert_true(str_find(outcomes(r), STR("\"result\":\"failed\"")) > 0);
    assert_true(str_find(outcomes(r), STR("handed no verdict in")) > 0);
}

static const char check[] =
    ",\"checks\":[{\"name\":\"it compiles\",\"run\":\"make it's\",\"expect_exit\":0,"
    "\"expect_stdout_matches\":\"^ok$\"}]";

/* What the sandbox would answer: the mark is in the command. */
static void finish_check(struct rig *r, int code, const char *out)
{
    struct fake_run *run = &r->runs[r->nruns - 1];
    char text[512], mark[33] = "";
    const char *at = strstr(run->input, ">/tmp/");
    assert_non_null(at);
    memcpy(mark, at + 6, 32);
    assert_non_null(strstr(run->input, "bash -c 'make it'\\\\''s'"));
    snprintf(text, sizeof text, "%s:%d\n%s\n%s%s", mark, code, out, mark,
             code ? "\nwarnings" : ""); /* bash's output ends without line ends */
    finish_run(r, text);
}

static void a_check_that_fails_spares_the_model(void **state)
{
    struct rig *r = *state;
    work(r, check);
    assert_false(r->copies[0].read_only); /* it may build there */
    give_copy(r);
    until(r, has_run);
    int requests = r->requests;
    finish_check(r, 2, "ok");
    until(r, has_request);
    assert_int_equal(r->requests, requests + 1);
    assert_int_equal(r->purpose, MODEL_FOR_TURN);
    assert_non_null(strstr(r->messages, "it compiles (not met): exit code 2, expected 0"));
    assert_true(r->copies[0].destroyed);
}

static void an_output_that_does_not_match_fails_its_check(void **state)
{
    struct rig *r = *state;
    work(r, check);
    give_copy(r);
    until(r, has_run);
    finish_check(r, 0, "not ok");
    until(r, has_request);
    assert_non_null(strstr(r->messages, "does not match"));
}

static void a_check_whose_shell_died_fails(void **state)
{
    struct rig *r = *state;
    work(r, check);
    give_copy(r);
    until(r, has_run);
    finish_run(r, "0\nok\n"); /* without the mark nobody knows */
    until(r, has_request);
    assert_non_null(strstr(r->messages, "did not come to its end"));
}

static void checks_that_pass_are_followed_by_the_model_on_a_fresh_copy(void **state)
{
    struct rig *r = *state;
    work(r, check);
    give_copy(r);
    until(r, has_run);
    finish_check(r, 0, "ok");
    until(r, has_copy);
    assert_int_equal(r->ncopies, 2);
    assert_true(r->copies[1].read_only);
    give_copy(r);
    until(r, has_request);
    hand_in(r, "met");
    until(r, at_rest);
    struct str all = outcomes(r);
    assert_true(str_find(all, STR("\"name\":\"it compiles\"")) > 0);
    assert_true(str_find(all, STR("\\nok\\nexit code 0\"")) > 0); /* and nothing of the mark */
    assert_true(str_find(all, STR("\"name\":\"it rhymes\"")) > 0);
}

static void a_crash_begins_the_evaluation_again_and_ends_it_once(void **state)
{
    struct rig *r = *state;
    work(r, "");
    give_copy(r);
    until(r, has_request);
    stop_engine(r);
    r->cb_arg = NULL;
    start_engine(r);
    until(r, has_copy);
    assert_int_equal(r->ncopies, 2);
    give_copy(r);
    until(r, has_request);
    hand_in(r, "met");
    until(r, at_rest);
    expect_log(r, WORK BEGIN " " ONGOING " " ONGOING " " ONGOING " " VERDICT " " IDLE);
}

static void an_interrupt_stops_the_grader(void **state)
{
    struct rig *r = *state;
    work(r, "");
    give_copy(r);
    until(r, has_request);
    in_store(r, add_interrupt);
    engine_wake(r->engine, id_str(&r->session));
    until(r, at_rest);
    assert_int_equal(r->model_cancels, 1);
    assert_true(r->copies[0].destroyed);
    assert_true(str_find(outcomes(r), STR("\"result\":\"interrupted\"")) > 0);
}

static int read_ledger(struct store_tx *tx, struct rig *r, struct err *err)
{
    int64_t cost, held, requests;
    int rc = tx_ledger_session(tx, id_str(&r->session), &cost, &held, &requests, err);
    assert_int_equal(requests, 2); /* the worker's and the grader's */
    return rc;
}

static void what_the_grader_used_is_in_the_books(void **state)
{
    struct rig *r = *state;
    work(r, "");
    give_copy(r);
    until(r, has_request);
    answer_text(r, "hm"); /* three tokens */
    until(r, has_request);
    hand_in(r, "met");
    until(r, at_rest);
    in_store(r, read_ledger);
    in_store(r, read_log);
    assert_int_equal(head.usage.input_tokens, 6);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_fresh_grader_looks_at_a_copy_and_decides),
        T(what_a_verdict_lacks_is_asked_for_again),
        T(nonsense_satisfies_nothing),
        T(a_check_that_fails_spares_the_model),
        T(an_output_that_does_not_match_fails_its_check),
        T(a_check_whose_shell_died_fails),
        T(checks_that_pass_are_followed_by_the_model_on_a_fresh_copy),
        T(a_crash_begins_the_evaluation_again_and_ends_it_once),
        T(an_interrupt_stops_the_grader),
        T(what_the_grader_used_is_in_the_books),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
