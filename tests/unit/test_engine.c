/* The engine over the real store, with a model, a sandbox and timers that the test plays itself. */
#include "engine_rig.h"

static void a_text_turn_takes_two_commits_after_its_acknowledgement(void **state)
{
    struct rig *r = *state;
    in_store(r, add_message);
    int64_t before, after, w, q;
    store_stats(r->store, &before, &w, &q);
    engine_wake(r->engine, id_str(&r->session));
    until(r, has_request);
    answer_text(r, "hi");
    until(r, at_rest);
    store_stats(r->store, &after, &w, &q);
    assert_int_equal(after - before, 2);
    expect_log(r, TURN);
    assert_int_equal(head.status, SESSION_IDLE);
    assert_int_equal(head.usage.input_tokens, 3);
    assert_false(head.inbox);
    assert_int_equal(r->idles, 0); /* it never had a sandbox */
}

static void the_request_is_durable_before_the_model_is_called(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    expect_log(r, RUN " user.message span.model_request_start");
    assert_int_equal(head.status, SESSION_RUNNING);
    assert_string_equal(
        r->messages, "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hello\"}]}]");
}

static void
a_call_is_durable_before_it_is_dispatched_and_acknowledged_after_its_result(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    answer_bash(r);
    until(r, has_run);
    expect_log(r,
               RUN " user.message span.model_request_start agent.tool_use span.model_request_end");
    assert_true(head.has_sandbox);
    assert_true(r->runs[0].first);
    assert_int_equal(r->acks, 0);
    finish_run(r, "ok");
    until(r, has_request);
    assert_int_equal(r->acks, 1);
    answer_text(r, "done");
    until(r, at_rest);
    assert_int_equal(r->idles, 1);
}

static void a_turn_cut_in_the_model_call_goes_on_by_itself(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    char first[8192];
    snprintf(first, sizeof first, "%s", r->messages);
    stop_engine(r);
    assert_null(r->cb_arg);
    start_engine(r);
    until(r, has_request);
    assert_string_equal(r->messages, first);
    answer_text(r, "hi");
    until(r, at_rest);
    expect_log(r, RUN " user.message span.model_request_start span.model_request_end "
                      "span.model_request_start agent.message span.model_request_end " IDLE);
    assert_int_equal(engine_stats(r->engine).resumed, 1);
}

static void a_turn_cut_in_a_tool_call_asks_for_the_result_and_does_not_run_it_again(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    answer_bash(r);
    until(r, has_run);
    stop_engine(r);
    r->runs[0].done = NULL;
    start_engine(r);
    until(r, has_run);
    assert_int_equal(r->nruns, 2);
    assert_string_equal(r->runs[1].tool_use_id.z, r->runs[0].tool_use_id.z);
    assert_false(r->runs[1].first);
    assert_true(r->runs[1].existed);
    finish_run(r, "the result of the first run");
    until(r, has_request);
    assert_non_null(strstr(r->messages, "the result of the first run"));
}

/* The hand outlived the crash and may be running it still. */
static void an_interrupt_that_waited_for_a_new_server_cancels_the_call_of_the_old_one(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    answer_bash(r);
    until(r, has_run);
    stop_engine(r);
    r->runs[0].done = NULL;
    in_store(r, add_interrupt);
    start_engine(r);
    until(r, at_rest);
    assert_int_equal(r->nruns, 2);
    assert_false(r->runs[1].first);
    assert_string_equal(r->runs[1].tool_use_id.z, r->runs[0].tool_use_id.z);
    assert_int_equal(r->tool_cancels, 1);
    finish_run(r, "late");
    assert_int_equal(r->acks, 1);
}

static void a_message_acknowledged_before_a_crash_is_processed_after_it(void **state)
{
    struct rig *r = *state;
    in_store(r, add_message); /* and no wake: the process died */
    stop_engine(r);
    start_engine(r);
    until(r, has_request);
    answer_text(r, "hi");
    until(r, at_rest);
    expect_log(r, TURN);
}

static void a_full_disk_delays_a_commit_and_loses_nothing(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    r->fail_writes = 1;
    answer_text(r, "hi");
    until(r, has_timer);
    expect_log(r, RUN " user.message span.model_request_start");
    fire(r);
    until(r, at_rest);
    expect_log(r, TURN);
}

static void a_session_taken_over_by_another_owner_refuses_the_old_one(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    in_store(r, steal);
    answer_text(r, "hi");
    until(r, at_rest);
    expect_log(r, RUN " user.message span.model_request_start");
}

static void an_interrupt_cancels_the_running_call(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    answer_bash(r);
    until(r, has_run);
    in_store(r, add_interrupt);
    engine_wake(r->engine, id_str(&r->session));
    until(r, at_rest);
    assert_int_equal(r->tool_cancels, 1);
    expect_log(r,
               RUN " user.message span.model_request_start agent.tool_use span.model_request_end "
                   "agent.tool_result user.interrupt " IDLE);
    finish_run(r, "late");
    assert_int_equal(r->acks, 1);
}

static void start_with_web(struct rig *r)
{
    stop_engine(r);
    r->has_web = true;
    start_engine(r);
    say(r);
    until(r, has_request);
    answer_fetch(r);
    until(r, has_run);
}

static void a_web_call_needs_no_sandbox_and_is_simply_run_again_after_a_crash(void **state)
{
    struct rig *r = *state;
    start_with_web(r);
    expect_log(r,
               RUN " user.message span.model_request_start agent.tool_use span.model_request_end");
    assert_false(head.has_sandbox);
    stop_engine(r);
    r->runs[0].done = NULL;
    start_engine(r);
    until(r, has_run);
    assert_int_equal(r->web_runs, 2);
    assert_string_equal(r->runs[1].tool_use_id.z, r->runs[0].tool_use_id.z);
    finish_run(r, "the page");
    until(r, has_request);
    assert_non_null(strstr(r->messages, "the page"));
    answer_text(r, "done");
    until(r, at_rest);
    expect_log(r,
               RUN " user.message span.model_request_start agent.tool_use span.model_request_end "
                   "agent.tool_result span.model_request_start agent.message "
                   "span.model_request_end " IDLE);
    assert_false(head.has_sandbox);
    assert_int_equal(r->idles, 0);
}

static void an_interrupt_cancels_a_web_call_where_it_runs(void **state)
{
    struct rig *r = *state;
    start_with_web(r);
    in_store(r, add_interrupt);
    engine_wake(r->engine, id_str(&r->session));
    until(r, at_rest);
    assert_int_equal(r->web_cancels, 1);
    assert_int_equal(r->tool_cancels, 0);
    finish_run(r, "late");
    assert_int_equal(r->acks, 0);
}

static void without_a_port_for_them_web_calls_are_denied(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    answer_fetch(r);
    until(r, has_request);
    assert_int_equal(r->nruns, 0);
    assert_non_null(strstr(r->messages, "not enabled"));
}

static void a_failed_request_is_tried_again_after_its_timer(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    struct model_failure f = {.kind = MODEL_ERR_OVERLOADED, .message = "busy"};
    r->cb->failed(TAKE_PTR(r->cb_arg), &f);
    until(r, has_timer);
    in_store(r, read_log);
    assert_int_equal(head.status, SESSION_RESCHEDULING);
    fire(r);
    until(r, has_request);
    answer_text(r, "hi");
    until(r, at_rest);
    assert_int_equal(r->requests, 2);
}

/* ---- operations ---- */

static void metadata_merges_and_an_update_without_change_is_silent(void **state)
{
    struct rig *r = *state;
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    const struct json *title, *patch, *same;
    struct err err;
    assert_int_equal(json_parse(&a, STR("\"T\""), 0, &title, &err), 0);
    assert_int_equal(json_parse(&a, STR("{\"a\":null,\"b\":\"2\"}"), 0, &patch, &err), 0);
    assert_int_equal(json_parse(&a, STR("{\"b\":\"2\"}"), 0, &same, &err), 0);
    struct waiting_op w = {.op.done = op_done, .code = 1};
    engine_session_update(r->engine, id_str(&r->ws), id_str(&r->session),
                          &(struct engine_change){.title = title, .metadata = patch}, &w.op);
    wait_op(r, &w);
    assert_int_equal(w.code, 0);
    assert_string_equal(w.metadata, "{\"b\":\"2\"}");
    expect_log(r, "session.updated");
    w.code = 1;
    engine_session_update(r->engine, id_str(&r->ws), id_str(&r->session),
                          &(struct engine_change){.title = title, .metadata = same}, &w.op);
    wait_op(r, &w);
    assert_int_equal(w.code, 0);
    expect_log(r, "session.updated");
}

static void a_foreign_workspace_sees_no_session(void **state)
{
    struct rig *r = *state;
    struct waiting_op w = {.op.done = op_done, .code = 1};
    engine_session_archive(r->engine, STR("wrkspc_other"), id_str(&r->session), &w.op);
    wait_op(r, &w);
    assert_int_equal(w.code, ERR_NOT_FOUND);
    w.code = 1;
    engine_session_delete(r->engine, id_str(&r->ws), STR("sesn_unknown"), &w.op);
    wait_op(r, &w);
    assert_int_equal(w.code, ERR_NOT_FOUND);
}

static void a_running_session_is_neither_archived_nor_deleted(void **state)
{
    struct rig *r = *state;
    say(r);
    until(r, has_request);
    struct waiting_op w = {.op.done = op_done, .code = 1};
    engine_session_archive(r->engine, id_str(&r->ws), id_str(&r->session), &w.op);
    wait_op(r, &w);
    assert_int_equal(w.code, ERR_INVALID);
    w.code = 1;
    engine_session_delete(r->engine, id_str(&r->ws), id_str(&r->session), &w.op);
    wait_op(r, &w);
    assert_int_equal(w.code, ERR_INVALID);
}

static void archiving_terminates_once_and_stays(void **state)
{
    struct rig *r = *state;
    for (int i = 0; i < 2; i++) {
        struct waiting_op w = {.op.done = op_done, .code = 1};
        engine_session_archive(r->engine, id_str(&r->ws), id_str(&r->session), &w.op);
        wait_op(r, &w);
        assert_int_equal(w.code, 0);
        assert_int_equal(w.status, SESSION_TERMINATED);
        until(r, at_rest);
    }
    expect_log(r, "session.thread_status_terminated session.status_terminated");
    assert_int_equal(r->destroys, 1);
}

struct counting_sub {
    struct hub_sub sub;
    struct hub *hub;
    int frames, previews;
    int64_t last_seq;
    bool last, leave_at_once;
    char text[4096];
};

static void on_frame(struct hub_sub *sub, int64_t seq, struct bytes *frame, bool last)
{
    struct counting_sub *c = CONTAINER_OF(sub, struct counting_sub, sub);
    if (seq) {
        assert_true(seq > c->last_seq);
        c->last_seq = seq;
        c->frames++;
    } else {
        c->previews++;
    }
    c->last = last;
    snprintf(c->text, sizeof c->text, "%s", frame->data);
    if (c->leave_at_once)
        hub_unsubscribe(c->hub, sub);
}

static void deleting_tells_the_streams_and_leaves_nothing(void **state)
{
    struct rig *r = *state;
    struct counting_sub c = {.sub.frame = on_frame, .hub = engine_hub(r->engine)};
    hub_subscribe(c.hub, id_str(&r->session), &c.sub);
    struct waiting_op w = {.op.done = op_done, .code = 1};
    engine_session_delete(r->engine, id_str(&r->ws), id_str(&r->session), &w.op);
    wait_op(r, &w);
    assert_int_equal(w.code, 0);
    assert_true(c.last);
    assert_non_null(strstr(c.text, "event: session.deleted\nid: sevt_"));
    hub_unsubscribe(c.hub, &c.sub);
    until(r, at_rest);
    w.code = 1;
    engine_session_delete(r->engine, id_str(&r->ws), id_str(&r->session), &w.op);
    wait_op(r, &w);
    assert_int_equal(w.code, ERR_NOT_FOUND);
}

static void subscribers_get_events_in_order_and_previews_on_request(void **state)
{
    struct rig *r = *state;
    struct hub *hub = engine_hub(r->engine);
    struct counting_sub all = {.sub = {.frame = on_frame, .deltas = HUB_DELTA_MESSAGE}, .hub = hub};
    struct counting_sub plain = {.sub.frame = on_frame, .hub = hub};
    struct counting_sub brief = {.sub.frame = on_frame, .hub = hub, .leave_at_once = true};
    hub_subscribe(hub, id_str(&r->session), &brief.sub);
    hub_subscribe(hub, id_str(&r->session), &all.sub);
    hub_subscribe(hub, id_str(&r->session), &plain.sub);
    say(r);
    until(r, has_request);
    r->cb->text_delta(r->cb_arg, 0, STR("h"));
    assert_non_null(strstr(all.text, "event: event_delta\ndata: {"));
    answer_text(r, "hi");
    until(r, at_rest);
    assert_int_equal(all.frames, 9);
    assert_int_equal(all.previews, 2);
    assert_int_equal(plain.frames, 9);
    assert_int_equal(plain.previews, 0);
    assert_int_equal(brief.frames, 1);
    hub_unsubscribe(hub, &all.sub);
    hub_unsubscribe(hub, &plain.sub);
    assert_int_equal(hub_subscribers(hub), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_text_turn_takes_two_commits_after_its_acknowledgement),
        T(the_request_is_durable_before_the_model_is_called),
        T(a_call_is_durable_before_it_is_dispatched_and_acknowledged_after_its_result),
        T(a_turn_cut_in_the_model_call_goes_on_by_itself),
        T(a_turn_cut_in_a_tool_call_asks_for_the_result_and_does_not_run_it_again),
        T(an_interrupt_that_waited_for_a_new_server_cancels_the_call_of_the_old_one),
        T(a_message_acknowledged_before_a_crash_is_processed_after_it),
        T(a_full_disk_delays_a_commit_and_loses_nothing),
        T(a_session_taken_over_by_another_owner_refuses_the_old_one),
        T(an_interrupt_cancels_the_running_call),
        T(a_web_call_needs_no_sandbox_and_is_simply_run_again_after_a_crash),
        T(an_interrupt_cancels_a_web_call_where_it_runs),
        T(without_a_port_for_them_web_calls_are_denied),
        T(a_failed_request_is_tried_again_after_its_timer),
        T(metadata_merges_and_an_update_without_change_is_silent),
        T(a_foreign_workspace_sees_no_session),
        T(a_running_session_is_neither_archived_nor_deleted),
        T(archiving_terminates_once_and_stays),
        T(deleting_tells_the_streams_and_leaves_nothing),
        T(subscribers_get_events_in_order_and_previews_on_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
