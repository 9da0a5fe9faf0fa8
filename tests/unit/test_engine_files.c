/* When the engine has the files of a session kept, and when it calls for hands elsewhere. */
#include "engine_rig.h"

#include "store/work.h"

static bool has_checkpoint(struct rig *r)
{
    return r->ncheckpoints > 0;
}

static void finish_turn_with_a_tool(struct rig *r)
{
    say(r);
    until(r, has_request);
    answer_bash(r);
    until(r, has_run);
    finish_run(r, "done");
    until(r, has_request);
    answer_text(r, "bye");
    until(r, at_rest);
}

static void the_end_of_a_turn_keeps_the_files_as_of_its_last_event(void **state)
{
    struct rig *r = *state;
    finish_turn_with_a_tool(r);
    assert_int_equal(r->ncheckpoints, 1);
    assert_true(r->checkpoints[0].turn_end);
    in_store(r, read_log);
    assert_int_equal(r->checkpoints[0].seq, head.checkpoint_due);
    assert_int_equal(head.checkpoint_due, head.last_seq); /* session.status_idle is the last one */
}

static void a_turn_without_tools_keeps_nothing(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    answer_text(r, "bye");
    until(r, at_rest);
    assert_int_equal(r->ncheckpoints, 0);
    in_store(r, read_log);
    assert_int_equal(head.checkpoint_due, 0);
}

static void after_a_crash_the_files_of_the_last_turn_are_kept_before_the_next_call(void **state)
{
    struct rig *r = *state;
    finish_turn_with_a_tool(r);
    int64_t seq = r->checkpoints[0].seq;
    stop_engine(r);
    r->ncheckpoints = r->nruns = 0;
    start_engine(r); /* nobody says anything */
    until(r, has_checkpoint);
    assert_int_equal(r->checkpoints[0].seq, seq);
    assert_true(r->checkpoints[0].turn_end);
    assert_int_equal(r->nruns, 0);
}

static void a_long_turn_keeps_files_between_its_rounds(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    answer_bash(r);
    until(r, has_run);
    r->ahead_us = LIMIT_CHECKPOINT_INTERVAL_MS * INT64_C(1000) + 1;
    finish_run(r, "done");
    until(r, has_request);
    assert_int_equal(r->ncheckpoints, 1);
    assert_false(r->checkpoints[0].turn_end);
}

static struct id environment;

static int add_hosted_session(struct store_tx *tx, struct rig *r, struct err *err)
{
    struct environment_row env = {.id = id_new("env"),
                                  .name = STR("hosted"),
                                  .body = STR("{\"config\":{\"type\":\"self_hosted\"}}"),
                                  .created_us = 1,
                                  .updated_us = 1};
    struct session_row row = {.id = id_new("sesn"),
                              .workspace_id = r->ws,
                              .thread_id = id_new("sthr"),
                              .agent_id = id_new("agent"),
                              .agent_version = 1,
                              .environment_id = env.id,
                              .agent = str_z(agent_json),
                              .environment = STR("{\"type\":\"self_hosted\"}"),
                              .created_us = 2};
    int rc = tx_environment_insert(tx, id_str(&r->ws), &env, err);
    if (rc == 0)
        rc = tx_session_insert(tx, &row, err);
    r->session = row.id;
    r->key = row.key;
    environment = env.id;
    return rc;
}

static bool added;

static int ensure_work(struct store_tx *tx, struct rig *r, struct err *err)
{
    return tx_work_ensure(tx, r->key, 3, &added, err);
}

static void calls_for_hands_elsewhere_are_on_their_queue_when_the_log_shows_them(void **state)
{
    struct rig *r = *state;
    in_store(r, add_hosted_session);
    say(r);
    until(r, has_request);
    answer_bash(r);
    until(r, at_rest);
    assert_int_equal(r->nruns, 0);
    assert_int_equal(r->works, 1);
    assert_string_equal(r->work_for.z, environment.z);
    in_store(r, ensure_work);
    assert_false(added); /* it was there already */
    assert_int_equal(r->ncheckpoints, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_end_of_a_turn_keeps_the_files_as_of_its_last_event),
        T(a_turn_without_tools_keeps_nothing),
        T(after_a_crash_the_files_of_the_last_turn_are_kept_before_the_next_call),
        T(a_long_turn_keeps_files_between_its_rounds),
        T(calls_for_hands_elsewhere_are_on_their_queue_when_the_log_shows_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
