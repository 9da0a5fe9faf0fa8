/* The engine in trouble: a store that fails, inputs that cross commits, sessions that are lost. */
#include "engine_rig.h"

/* ---- troubles of the store ---- */

static bool has_written(struct rig *r)
{
    return r->writes > 0;
}

static void an_answer_that_comes_while_its_interrupt_is_committed_is_not_taken(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    in_store(r, add_interrupt);
    in_store(r, add_message);
    r->writes = 0;
    engine_wake(r->engine, id_str(&r->session));
    until(r, has_written);
    if (r->cb_arg)
        answer_text(r, "too late");
    until(r, has_request);
    assert_int_equal(r->model_cancels, 1);
    assert_int_equal(r->requests, 2);
    answer_text(r, "hi");
    until(r, at_rest);
    expect_log(r, RUN " user.message span.model_request_start span.model_request_end"
                      " user.interrupt " IDLE " " TURN);
}

static int add_budget(struct store_tx *tx, struct rig *r, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    struct session_row row;
    int rc = tx_session_get(tx, STR_NONE, id_str(&r->session), &a, &row, err);
    row.budget_microusd = 1000000;
    return rc ? rc : tx_session_update(tx, &row, err);
}

static bool has_count(struct rig *r)
{
    return r->counted_arg != NULL;
}

static void report_count(struct rig *r, int64_t tokens)
{
    r->counted(TAKE_PTR(r->counted_arg), tokens);
}

static void a_count_that_comes_while_its_interrupt_is_committed_is_not_the_next_ones(void **state)
{
    struct rig *r = *state;
    r->dear = true;
    in_store(r, add_budget);
    say(r);
    until(r, has_count);
    in_store(r, add_interrupt);
    in_store(r, add_message);
    r->writes = 0;
    engine_wake(r->engine, id_str(&r->session));
    until(r, has_written);
    assert_false(has_count(r)); /* cancelled: it cannot come any more */
    until(r, has_count);
    assert_int_equal(r->counts, 2);
    assert_int_equal(r->requests, 0);
    report_count(r, 90);
    until(r, has_request);
    answer_text(r, "hi");
    until(r, at_rest);
    assert_int_equal(r->requests, 1);
}

static void a_session_that_cannot_be_read_for_a_while_is_read_later(void **state)
{
    struct rig *r = *state;
    in_store(r, add_message);
    r->fail_reads = 1;
    engine_wake(r->engine, id_str(&r->session));
    struct waiting_op w = {.op.done = op_done, .code = 1};
    engine_session_archive(r->engine, id_str(&r->ws), id_str(&r->session), &w.op);
    until(r, has_timer);
    assert_int_equal(w.code, ERR_OVERLOADED); /* a client is told at once */
    fire(r);
    until(r, has_request);
    answer_text(r, "hi");
    until(r, at_rest);
    expect_log(r, TURN);
}

static void an_inbox_that_cannot_be_read_for_a_while_disturbs_no_running_call(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    answer_bash(r);
    until(r, has_run);
    r->fail_reads = 1;
    say(r);
    until(r, has_timer);
    finish_run(r, "ok");
    assert_int_equal(r->acks, 0);
    fire(r);
    until(r, has_request);
    assert_int_equal(r->acks, 1);
    assert_int_equal(r->nruns, 1);
    answer_text(r, "done");
    until(r, at_rest);
    assert_non_null(strstr(r->messages, "\"ok\""));
}

/* The title's update meets the fence: this process lets go of the session. */
static void lose_session(struct rig *r)
{
    struct waiting_op w = {.op.done = op_done, .code = 1};
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 16);
    const struct json *title;
    struct err err;
    assert_int_equal(json_parse(&a, STR("\"t\""), 0, &title, &err), 0);
    in_store(r, steal);
    engine_session_update(r->engine, id_str(&r->ws), id_str(&r->session),
                          &(struct engine_change){.title = title, .metadata = NULL}, &w.op);
    wait_op(r, &w);
    assert_int_equal(w.code, ERR_FENCED);
    assert_true(at_rest(r));
}

static void a_result_of_a_session_that_was_lost_is_not_acknowledged(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    answer_bash(r);
    until(r, has_run);
    lose_session(r);
    finish_run(r, "the new owner asks for it");
    assert_int_equal(r->acks, 0);
}

static void a_call_in_flight_is_not_dispatched_again_when_its_session_is_taken_up(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    answer_bash(r);
    until(r, has_run);
    lose_session(r);
    struct waiting_op w = {.op.done = op_done, .code = 1};
    engine_session_update(r->engine, id_str(&r->ws), id_str(&r->session),
                          &(struct engine_change){.title = NULL, .metadata = NULL}, &w.op);
    wait_op(r, &w); /* loaded again */
    assert_int_equal(w.code, 0);
    assert_int_equal(r->nruns, 1);
    finish_run(r, "ok");
    until(r, has_request);
    assert_int_equal(r->acks, 1);
    assert_non_null(strstr(r->messages, "\"ok\""));
}

static void a_commit_that_fails_does_not_forget_the_next_attempt_at_the_model(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    struct model_failure f = {.kind = MODEL_ERR_OVERLOADED, .message = "busy"};
    r->cb->failed(TAKE_PTR(r->cb_arg), &f);
    until(r, has_timer);
    struct waiting_op w = {.op.done = op_done, .code = 1};
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 16);
    const struct json *title;
    struct err err;
    assert_int_equal(json_parse(&a, STR("\"t\""), 0, &title, &err), 0);
    r->fail_writes = 1;
    engine_session_update(r->engine, id_str(&r->ws), id_str(&r->session),
                          &(struct engine_change){.title = title, .metadata = NULL}, &w.op);
    while (r->fail_writes || timers(r) != 2)
        uv_run(loop_uv(r->loop), UV_RUN_ONCE);
    fire(r);
    wait_op(r, &w);
    assert_int_equal(w.code, 0);
    assert_int_equal(timers(r), 1);
    fire(r);
    until(r, has_request);
    answer_text(r, "hi");
    until(r, at_rest);
}

static void closing_answers_an_operation_whose_commit_waits_for_its_next_attempt(void **state)
{
    struct rig *r = *state;
    struct waiting_op w = {.op.done = op_done, .code = 1};
    r->fail_writes = 1;
    engine_session_archive(r->engine, id_str(&r->ws), id_str(&r->session), &w.op);
    until(r, has_timer);
    stop_engine(r);
    assert_int_equal(w.code, ERR_UNAVAILABLE);
}

static void an_operation_after_closing_is_refused(void **state)
{
    struct rig *r = *state;
    engine_close(r->engine, on_closed, r);
    until(r, is_closed);
    struct waiting_op w = {.op.done = op_done, .code = 1};
    engine_session_archive(r->engine, id_str(&r->ws), id_str(&r->session), &w.op);
    assert_int_equal(w.code, ERR_UNAVAILABLE);
    engine_free(TAKE_PTR(r->engine));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(an_answer_that_comes_while_its_interrupt_is_committed_is_not_taken),
        T(a_count_that_comes_while_its_interrupt_is_committed_is_not_the_next_ones),
        T(a_session_that_cannot_be_read_for_a_while_is_read_later),
        T(an_inbox_that_cannot_be_read_for_a_while_disturbs_no_running_call),
        T(a_result_of_a_session_that_was_lost_is_not_acknowledged),
        T(a_call_in_flight_is_not_dispatched_again_when_its_session_is_taken_up),
        T(a_commit_that_fails_does_not_forget_the_next_attempt_at_the_model),
        T(closing_answers_an_operation_whose_commit_waits_for_its_next_attempt),
        T(an_operation_after_closing_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
