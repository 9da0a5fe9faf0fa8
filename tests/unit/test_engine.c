/* The engine over the real store, with a model, a sandbox and timers that the test plays itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "engine/engine.h"
#include "io/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char agent_json[] =
    "{\"name\":\"tester\",\"model\":{\"id\":\"script/x\",\"speed\":\"standard\"},\"system\":null,"
    "\"tools\":[{\"type\":\"agent_toolset_20260401\",\"configs\":[],\"default_config\":{"
    "\"enabled\":"
    "true,\"permission_policy\":{\"type\":\"always_allow\"}}}]}";

struct fake_run {
    struct id tool_use_id;
    bool first, existed;
    void (*done)(void *arg, const struct tool_outcome *o);
    void *arg;
};

struct rig {
    char dir[64];
    struct loop *loop;
    struct loop_timer keep; /* posts alone do not keep a loop polling */
    struct store *store;
    struct engine *engine;
    struct id ws, session;
    int64_t key;
    /* the fakes */
    const struct model_callbacks *cb;
    void *cb_arg; /* non-NULL: a request is in flight */
    char messages[8192];
    int requests, model_cancels;
    bool dear; /* a token of a prompt costs a cent */
    void (*counted)(void *arg, int64_t tokens);
    void *counted_arg; /* non-NULL: a count is in flight */
    int counts;
    struct fake_run runs[16];
    int nruns, acks, tool_cancels, idles, destroys;
    bool has_web; /* the engine gets a port for the web tools */
    int web_runs, web_cancels;
    struct fake_timer {
        void (*fn)(void *arg);
        void *arg;
    } timers[8];     /* fn NULL: free */
    int fail_writes; /* the next writes end with NO_SPACE */
    int fail_reads;  /* the next reads of the engine end with OVERLOADED */
    int writes;      /* of the engine */
    bool closed, started;
};

/* ---- fakes ---- */

static struct model_call *fake_start(void *self, const struct model_request *req,
                                     const struct model_callbacks *cb, void *arg)
{
    struct rig *r = self;
    r->cb = cb;
    r->cb_arg = arg;
    r->requests++;
    assert_true(str_copyz(r->messages, sizeof r->messages, req->messages));
    return (struct model_call *)r;
}

static struct model_facts fake_facts(void *self, struct str model, struct str speed)
{
    const struct rig *r = self;
    (void)model;
    (void)speed;
    if (!r->dear)
        return (struct model_facts){0};
    return (struct model_facts){.max_output_tokens = 300,
                                .input_price = INT64_C(10000000000),
                                .priced = true,
                                .counts_tokens = true};
}

static struct model_call *fake_count(void *self, const struct model_request *req,
                                     void (*done)(void *arg, int64_t tokens), void *arg)
{
    struct rig *r = self;
    (void)req;
    r->counted = done;
    r->counted_arg = arg;
    r->counts++;
    return (struct model_call *)&r->counted;
}

static void fake_cancel(void *self, struct model_call *call)
{
    struct rig *r = self;
    if (call == (struct model_call *)&r->counted) {
        r->counted_arg = NULL;
        return;
    }
    r->cb_arg = NULL;
    r->model_cancels++;
}

static void fake_run(void *self, const struct tool_call *call,
                     void (*done)(void *arg, const struct tool_outcome *o), void *arg)
{
    struct rig *r = self;
    r->runs[r->nruns++] = (struct fake_run){.tool_use_id = id_from(call->tool_use_id),
                                            .first = call->first_dispatch,
                                            .existed = call->sandbox_existed,
                                            .done = done,
                                            .arg = arg};
}

static void fake_web_run(void *self, const struct web_call *call,
                         void (*done)(void *arg, const struct tool_outcome *o), void *arg)
{
    struct rig *r = self;
    assert_true(str_eqz(call->name, "web_fetch"));
    assert_true(str_eqz(call->input, "{\"url\":\"https://a.example/\"}"));
    assert_true(call->url_known(call->arg, STR("https://a.example/"), STR("a.example")));
    r->runs[r->nruns++] =
        (struct fake_run){.tool_use_id = id_from(call->tool_use_id), .done = done, .arg = arg};
    r->web_runs++;
}

static void fake_web_cancel(void *self, struct str tool_use_id)
{
    (void)tool_use_id;
    ((struct rig *)self)->web_cancels++;
}

static bool fake_same_url(void *self, struct str url, struct str found)
{
    (void)self;
    return str_eq(url, found);
}

static void fake_ack(void *self, struct str session_id, struct str tool_use_id)
{
    (void)session_id;
    (void)tool_use_id;
    ((struct rig *)self)->acks++;
}

static void fake_tool_cancel(void *self, struct str session_id, struct str tool_use_id)
{
    (void)session_id;
    (void)tool_use_id;
    ((struct rig *)self)->tool_cancels++;
}

static void fake_idle(void *self, struct str session_id)
{
    (void)session_id;
    ((struct rig *)self)->idles++;
}

static void fake_destroy(void *self, struct str session_id, bool wipe)
{
    (void)session_id;
    (void)wipe;
    ((struct rig *)self)->destroys++;
}

static int64_t real_time(void *self)
{
    (void)self;
    return clock_unix_us();
}

static struct port_timer *fake_timer(void *self, int64_t delay_ms, void (*fn)(void *arg), void *arg)
{
    struct rig *r = self;
    assert_true(delay_ms > 0);
    struct fake_timer *t = r->timers;
    while (t->fn)
        t++;
    assert_true(t < r->timers + COUNT_OF(r->timers));
    *t = (struct fake_timer){fn, arg};
    return (struct port_timer *)t;
}

static void fake_timer_cancel(void *self, struct port_timer *t)
{
    (void)self;
    ((struct fake_timer *)t)->fn = NULL;
}

static int timers(const struct rig *r)
{
    int n = 0;
    for (size_t i = 0; i < COUNT_OF(r->timers); i++)
        n += r->timers[i].fn != NULL;
    return n;
}

static bool has_timer(struct rig *r)
{
    return timers(r) > 0;
}

/* The newest of `timers` goes off. */
static void fire(struct rig *r)
{
    size_t i = COUNT_OF(r->timers);
    while (!r->timers[--i].fn)
        assert_true(i > 0);
    void (*fn)(void *) = TAKE_PTR(r->timers[i].fn);
    fn(r->timers[i].arg);
}

static void real_fill(void *self, void *p, size_t n)
{
    (void)self;
    rand_fill(p, n);
}

static int (*failed_fn)(struct store_tx *tx, struct store_job *job, struct err *err);

static int no_space(struct store_tx *tx, struct store_job *job, struct err *err)
{
    (void)tx;
    job->fn = failed_fn; /* the engine sends the same job again */
    return err_set(err, ERR_NO_SPACE, "the disk is full");
}

static void failing_write(void *self, struct store_job *job)
{
    struct rig *r = self;
    struct store_port p = store_port(r->store);
    r->writes++;
    if (r->fail_writes > 0) {
        r->fail_writes--;
        failed_fn = job->fn;
        job->fn = no_space;
    }
    p.write(p.self, job);
}

static int overloaded(struct store_tx *tx, struct store_job *job, struct err *err)
{
    (void)tx;
    job->fn = failed_fn;
    return err_set(err, ERR_OVERLOADED, "too many jobs are waiting");
}

static void failing_read(void *self, struct store_job *job)
{
    struct rig *r = self;
    struct store_port p = store_port(r->store);
    if (r->fail_reads > 0) {
        r->fail_reads--;
        failed_fn = job->fn;
        job->fn = overloaded;
    }
    p.read(p.self, job);
}

/* ---- rig ---- */

static void until(struct rig *r, bool (*cond)(struct rig *))
{
    while (!cond(r))
        uv_run(loop_uv(r->loop), UV_RUN_ONCE);
}

struct sync_job {
    struct store_job job;
    int (*fn)(struct store_tx *tx, struct rig *r, struct err *err);
    struct rig *r;
    bool done;
    struct err err;
};

static int sync_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct sync_job *s = CONTAINER_OF(job, struct sync_job, job);
    return s->fn(tx, s->r, err);
}

static void sync_done(struct store_job *job, const struct err *err)
{
    struct sync_job *s = CONTAINER_OF(job, struct sync_job, job);
    s->err = *err;
    s->done = true;
}

static void in_store(struct rig *r, int (*fn)(struct store_tx *tx, struct rig *r, struct err *err))
{
    struct sync_job s = {.job = {.fn = sync_fn, .done = sync_done}, .fn = fn, .r = r};
    struct store_port p = store_port(r->store);
    p.write(p.self, &s.job);
    while (!s.done)
        uv_run(loop_uv(r->loop), UV_RUN_ONCE);
    if (s.err.code)
        fail_msg("store: %s", s.err.msg);
}

static int add_session(struct store_tx *tx, struct rig *r, struct err *err)
{
    int rc = tx_workspace_ensure(tx, STR("default"), 1, &r->ws, err);
    if (rc)
        return rc;
    struct session_row row = {.id = id_new("sesn"),
                              .workspace_id = r->ws,
                              .thread_id = id_new("sthr"),
                              .agent_id = id_new("agent"),
                              .agent_version = 1,
                              .environment_id = id_new("env"),
                              .agent = str_z(agent_json),
                              .environment = STR("{}"),
                              .metadata = STR("{\"a\":\"1\"}"),
                              .created_us = clock_unix_us()};
    rc = tx_session_insert(tx, &row, err);
    r->session = row.id;
    r->key = row.key;
    return rc;
}

static int add_event(struct store_tx *tx, struct rig *r, enum event_type type, const char *rest,
                     struct err *err)
{
    struct id id = id_new("sevt");
    char body[512];
    int n = snprintf(body, sizeof body, "{\"id\":\"%s\",\"type\":\"%s\",\"processed_at\":null%s}",
                     id.z, event_name(type), rest);
    struct inbox_row row = {.event = {.type = type, .id = id, .body = str_n(body, (size_t)n)}};
    return tx_inbox_add(tx, r->key, &row, err);
}

static int add_message(struct store_tx *tx, struct rig *r, struct err *err)
{
    return add_event(tx, r, EVENT_USER_MESSAGE,
                     ",\"content\":[{\"type\":\"text\",\"text\":\"hello\"}]", err);
}

static int add_interrupt(struct store_tx *tx, struct rig *r, struct err *err)
{
    return add_event(tx, r, EVENT_USER_INTERRUPT, "", err);
}

static void on_started(void *arg, const struct err *err)
{
    assert_int_equal(err->code, 0);
    ((struct rig *)arg)->started = true;
}

static bool is_started(struct rig *r)
{
    return r->started;
}

static void start_engine(struct rig *r)
{
    struct engine_config cfg = {
        .store = {r, failing_read, failing_write},
        .clock = {r, real_time, fake_timer, fake_timer_cancel},
        .rand = {r, real_fill},
        .model = {.self = r,
                  .start = fake_start,
                  .cancel = fake_cancel,
                  .facts = fake_facts,
                  .count = fake_count},
        .sandbox = {r, fake_run, fake_ack, fake_tool_cancel, fake_idle, fake_destroy},
    };
    if (r->has_web)
        cfg.web = (struct web_port){r, fake_web_run, fake_web_cancel, fake_same_url};
    r->engine = engine_new(&cfg);
    r->started = false;
    engine_start(r->engine, on_started, r);
    until(r, is_started);
}

static void on_closed(void *arg)
{
    ((struct rig *)arg)->closed = true;
}

static bool is_closed(struct rig *r)
{
    return r->closed;
}

/* What a kill leaves behind: whatever is committed. */
static void stop_engine(struct rig *r)
{
    r->closed = false;
    engine_close(r->engine, on_closed, r);
    until(r, is_closed);
    engine_free(r->engine);
    r->engine = NULL;
}

static void never(struct loop_timer *t)
{
    (void)t;
}

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    snprintf(r->dir, sizeof r->dir, "/tmp/ostler-engine-XXXXXX");
    if (!mkdtemp(r->dir))
        return -1;
    r->loop = loop_new();
    loop_timer_init(r->loop, &r->keep);
    loop_timer_start(&r->keep, 3600 * 1000, never);
    struct err err;
    struct store_config cfg = {.dir = r->dir, .no_fsync = true};
    if (store_open(r->loop, &cfg, &r->store, &err))
        return -1;
    in_store(r, add_session);
    start_engine(r);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    if (r->engine)
        stop_engine(r);
    store_close(r->store);
    loop_timer_close(&r->keep, NULL);
    loop_run(r->loop);
    loop_free(r->loop);
    free(r);
    return 0;
}

static void say(struct rig *r)
{
    in_store(r, add_message);
    engine_wake(r->engine, id_str(&r->session));
}

static bool has_request(struct rig *r)
{
    return r->cb_arg != NULL;
}

static bool has_run(struct rig *r)
{
    return r->nruns > 0 && r->runs[r->nruns - 1].done != NULL;
}

static void answer_text(struct rig *r, const char *text)
{
    struct model_block b = {.type = MODEL_TEXT, .text = str_z(text)};
    struct model_result res = {
        .blocks = &b, .nblocks = 1, .stop = MODEL_STOP_END, .usage = {.input_tokens = 3}};
    void *arg = TAKE_PTR(r->cb_arg);
    r->cb->done(arg, &res);
}

static void answer_call(struct rig *r, const char *name, const char *input)
{
    struct model_block b = {.type = MODEL_TOOL_USE, .name = str_z(name), .input = str_z(input)};
    struct model_result res = {.blocks = &b, .nblocks = 1, .stop = MODEL_STOP_TOOL_USE};
    void *arg = TAKE_PTR(r->cb_arg);
    r->cb->done(arg, &res);
}

static void answer_bash(struct rig *r)
{
    answer_call(r, "bash", "{\"command\":\"true\"}");
}

static void answer_fetch(struct rig *r)
{
    answer_call(r, "web_fetch", "{\"url\":\"https://a.example/\"}");
}

static void finish_run(struct rig *r, const char *text)
{
    struct fake_run *run = &r->runs[r->nruns - 1];
    struct tool_outcome o = {.content = str_z(text)};
    void (*done)(void *, const struct tool_outcome *) = TAKE_PTR(run->done);
    done(run->arg, &o);
}

static bool at_rest(struct rig *r)
{
    return engine_stats(r->engine).actors == 0;
}

static char types[8192];
static struct session_row head;

static int read_log(struct store_tx *tx, struct rig *r, struct err *err)
{
    static struct arena a;
    arena_fini(&a);
    arena_init(&a, 1 << 24);
    int rc = tx_session_get(tx, STR_NONE, id_str(&r->session), &a, &head, err);
    struct event *events;
    size_t n;
    bool more;
    struct event_filter all = {.after_seq = 0};
    rc = rc ? rc : tx_event_list(tx, r->key, &all, &a, &events, &n, &more, err);
    types[0] = '\0';
    for (size_t i = 0, at = 0; rc == 0 && i < n; i++)
        at += (size_t)snprintf(types + at, sizeof types - at, "%s%s", i ? " " : "",
                               event_name(events[i].type));
    head.title = STR_NONE;
    arena_fini(&a);
    return rc;
}

static void expect_log(struct rig *r, const char *want)
{
    in_store(r, read_log);
    assert_string_equal(types, want);
}

#define IDLE "session.thread_status_idle session.usage session.status_idle"
#define RUN "session.status_running session.thread_status_running"
#define TURN RUN " user.message span.model_request_start agent.message span.model_request_end " IDLE

/* ---- tests ---- */

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

static int steal(struct store_tx *tx, struct rig *r, struct err *err)
{
    int64_t epoch;
    return tx_session_take(tx, r->key, &epoch, err);
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

struct waiting_op {
    struct engine_op op;
    int code; /* 1: not answered yet */
    bool row;
    char metadata[256];
    enum session_status status;
};

static void op_done(struct engine_op *op, const struct session_row *row, const struct err *err)
{
    struct waiting_op *w = CONTAINER_OF(op, struct waiting_op, op);
    w->code = err->code;
    w->row = row != NULL;
    if (row) {
        snprintf(w->metadata, sizeof w->metadata, "%.*s", STR_ARG(row->metadata));
        w->status = row->status;
    }
}

static void wait_op(struct rig *r, struct waiting_op *w)
{
    while (w->code == 1)
        uv_run(loop_uv(r->loop), UV_RUN_ONCE);
}

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

int main(void)
{
    alarm(120); /* a lost wake-up must not hang the suite */
    log_setup(LOG_ERROR, false);
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
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
