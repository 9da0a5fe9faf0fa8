/* engine_rig: the engine over the real store, with a model, sandboxes, web tools and a clock that
 * the test plays. One thread; for test programs of engine/ only. */
#ifndef OSTLER_TESTS_ENGINE_RIG_H
#define OSTLER_TESTS_ENGINE_RIG_H

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
    struct id tool_use_id, session_id;
    char input[1024];
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
    struct fake_checkpoint {
        int64_t seq;
        bool turn_end;
    } checkpoints[16];
    int ncheckpoints;
    struct fake_copy {
        struct id id;
        bool read_only, destroyed;
        void (*done)(void *arg, const struct err *err);
        void *arg;
    } copies[8];
    int ncopies;
    enum model_purpose purpose; /* of the last request */
    int64_t ahead_us;           /* of the real time */
    int works;                  /* how often hands elsewhere were called for */
    struct id work_for;         /* the last environment */
    bool has_web;               /* the engine gets a port for the web tools */
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

static inline struct model_call *fake_start(void *self, const struct model_request *req,
                                            const struct model_callbacks *cb, void *arg)
{
    struct rig *r = self;
    r->cb = cb;
    r->cb_arg = arg;
    r->requests++;
    r->purpose = req->purpose;
    assert_true(str_copyz(r->messages, sizeof r->messages, req->messages));
    return (struct model_call *)r;
}

static inline struct model_facts fake_facts(void *self, struct str model, struct str speed)
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

static inline struct model_call *fake_count(void *self, const struct model_request *req,
                                            void (*done)(void *arg, int64_t tokens), void *arg)
{
    struct rig *r = self;
    (void)req;
    r->counted = done;
    r->counted_arg = arg;
    r->counts++;
    return (struct model_call *)&r->counted;
}

static inline void fake_cancel(void *self, struct model_call *call)
{
    struct rig *r = self;
    if (call == (struct model_call *)&r->counted) {
        r->counted_arg = NULL;
        return;
    }
    r->cb_arg = NULL;
    r->model_cancels++;
}

static inline void fake_run(void *self, const struct tool_call *call,
                            void (*done)(void *arg, const struct tool_outcome *o), void *arg)
{
    struct rig *r = self;
    r->runs[r->nruns] = (struct fake_run){.tool_use_id = id_from(call->tool_use_id),
                                          .session_id = id_from(call->session_id),
                                          .first = call->first_dispatch,
                                          .existed = call->sandbox_existed,
                                          .done = done,
                                          .arg = arg};
    (void)str_copyz(r->runs[r->nruns].input, sizeof r->runs[0].input, call->input);
    r->nruns++;
}

static inline void fake_web_run(void *self, const struct web_call *call,
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

static inline void fake_web_cancel(void *self, struct str tool_use_id)
{
    (void)tool_use_id;
    ((struct rig *)self)->web_cancels++;
}

static inline bool fake_same_url(void *self, struct str url, struct str found)
{
    (void)self;
    return str_eq(url, found);
}

static inline void fake_ack(void *self, struct str session_id, struct str tool_use_id)
{
    (void)session_id;
    (void)tool_use_id;
    ((struct rig *)self)->acks++;
}

static inline void fake_tool_cancel(void *self, struct str session_id, struct str tool_use_id)
{
    (void)session_id;
    (void)tool_use_id;
    ((struct rig *)self)->tool_cancels++;
}

static inline void fake_checkpoint(void *self, struct str session_id, int64_t seq, bool turn_end)
{
    struct rig *r = self;
    assert_true(str_eq(session_id, id_str(&r->session)));
    r->checkpoints[r->ncheckpoints++] = (struct fake_checkpoint){seq, turn_end};
}

static inline void fake_copy(void *self, struct str session_id, struct str copy_id, bool read_only,
                             void (*done)(void *arg, const struct err *err), void *arg)
{
    struct rig *r = self;
    assert_true(str_eq(session_id, id_str(&r->session)));
    r->copies[r->ncopies++] = (struct fake_copy){
        .id = id_from(copy_id), .read_only = read_only, .done = done, .arg = arg};
}

static inline void fake_work(void *self, struct str environment_id)
{
    struct rig *r = self;
    r->works++;
    r->work_for = id_from(environment_id);
}

static inline void fake_idle(void *self, struct str session_id)
{
    (void)session_id;
    ((struct rig *)self)->idles++;
}

static inline void fake_destroy(void *self, struct str session_id, bool wipe)
{
    struct rig *r = self;
    for (int i = 0; i < r->ncopies; i++) {
        if (!str_eq(id_str(&r->copies[i].id), session_id))
            continue;
        assert_true(wipe);
        r->copies[i].destroyed = true;
        return;
    }
    r->destroys++;
}

static inline int64_t real_time(void *self)
{
    const struct rig *r = self;
    return clock_unix_us() + r->ahead_us;
}

static inline struct port_timer *fake_timer(void *self, int64_t delay_ms, void (*fn)(void *arg),
                                            void *arg)
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

static inline void fake_timer_cancel(void *self, struct port_timer *t)
{
    (void)self;
    ((struct fake_timer *)t)->fn = NULL;
}

static inline int timers(const struct rig *r)
{
    int n = 0;
    for (size_t i = 0; i < COUNT_OF(r->timers); i++)
        n += r->timers[i].fn != NULL;
    return n;
}

static inline bool has_timer(struct rig *r)
{
    return timers(r) > 0;
}

/* The newest of `timers` goes off. */
static inline void fire(struct rig *r)
{
    size_t i = COUNT_OF(r->timers);
    while (!r->timers[--i].fn)
        assert_true(i > 0);
    void (*fn)(void *) = TAKE_PTR(r->timers[i].fn);
    fn(r->timers[i].arg);
}

static inline void real_fill(void *self, void *p, size_t n)
{
    (void)self;
    rand_fill(p, n);
}

static int (*failed_fn)(struct store_tx *tx, struct store_job *job, struct err *err);

static inline int no_space(struct store_tx *tx, struct store_job *job, struct err *err)
{
    (void)tx;
    job->fn = failed_fn; /* the engine sends the same job again */
    return err_set(err, ERR_NO_SPACE, "the disk is full");
}

static inline void failing_write(void *self, struct store_job *job)
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

static inline int overloaded(struct store_tx *tx, struct store_job *job, struct err *err)
{
    (void)tx;
    job->fn = failed_fn;
    return err_set(err, ERR_OVERLOADED, "too many jobs are waiting");
}

static inline void failing_read(void *self, struct store_job *job)
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

static inline void until(struct rig *r, bool (*cond)(struct rig *))
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

static inline int sync_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct sync_job *s = CONTAINER_OF(job, struct sync_job, job);
    return s->fn(tx, s->r, err);
}

static inline void sync_done(struct store_job *job, const struct err *err)
{
    struct sync_job *s = CONTAINER_OF(job, struct sync_job, job);
    s->err = *err;
    s->done = true;
}

static inline void in_store(struct rig *r,
                            int (*fn)(struct store_tx *tx, struct rig *r, struct err *err))
{
    struct sync_job s = {.job = {.fn = sync_fn, .done = sync_done}, .fn = fn, .r = r};
    struct store_port p = store_port(r->store);
    p.write(p.self, &s.job);
    while (!s.done)
        uv_run(loop_uv(r->loop), UV_RUN_ONCE);
    if (s.err.code)
        fail_msg("store: %s", s.err.msg);
}

static inline int add_session(struct store_tx *tx, struct rig *r, struct err *err)
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

static inline int add_event(struct store_tx *tx, struct rig *r, enum event_type type,
                            const char *rest, struct err *err)
{
    struct id id = id_new("sevt");
    char body[512];
    int n = snprintf(body, sizeof body, "{\"id\":\"%s\",\"type\":\"%s\",\"processed_at\":null%s}",
                     id.z, event_name(type), rest);
    struct inbox_row row = {.event = {.type = type, .id = id, .body = str_n(body, (size_t)n)}};
    return tx_inbox_add(tx, r->key, &row, err);
}

static inline int add_message(struct store_tx *tx, struct rig *r, struct err *err)
{
    return add_event(tx, r, EVENT_USER_MESSAGE,
                     ",\"content\":[{\"type\":\"text\",\"text\":\"hello\"}]", err);
}

static inline int add_interrupt(struct store_tx *tx, struct rig *r, struct err *err)
{
    return add_event(tx, r, EVENT_USER_INTERRUPT, "", err);
}

static inline void on_started(void *arg, const struct err *err)
{
    assert_int_equal(err->code, 0);
    ((struct rig *)arg)->started = true;
}

static inline bool is_started(struct rig *r)
{
    return r->started;
}

static inline void start_engine(struct rig *r)
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
        .sandbox = {.self = r,
                    .run = fake_run,
                    .ack = fake_ack,
                    .cancel = fake_tool_cancel,
                    .checkpoint = fake_checkpoint,
                    .copy = fake_copy,
                    .idle = fake_idle,
                    .destroy = fake_destroy},
    };
    cfg.on_work = fake_work;
    cfg.on_work_arg = r;
    if (r->has_web)
        cfg.web = (struct web_port){r, fake_web_run, fake_web_cancel, fake_same_url};
    r->engine = engine_new(&cfg);
    r->started = false;
    engine_start(r->engine, on_started, r);
    until(r, is_started);
}

static inline void on_closed(void *arg)
{
    ((struct rig *)arg)->closed = true;
}

static inline bool is_closed(struct rig *r)
{
    return r->closed;
}

/* What a kill leaves behind: whatever is committed. */
static inline void stop_engine(struct rig *r)
{
    r->closed = false;
    engine_close(r->engine, on_closed, r);
    until(r, is_closed);
    engine_free(r->engine);
    r->engine = NULL;
}

static inline void never(struct loop_timer *t)
{
    (void)t;
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
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

static inline void say(struct rig *r)
{
    in_store(r, add_message);
    engine_wake(r->engine, id_str(&r->session));
}

static inline bool has_request(struct rig *r)
{
    return r->cb_arg != NULL;
}

static inline bool has_run(struct rig *r)
{
    return r->nruns > 0 && r->runs[r->nruns - 1].done != NULL;
}

static inline void answer_text(struct rig *r, const char *text)
{
    struct model_block b = {.type = MODEL_TEXT, .text = str_z(text)};
    struct model_result res = {
        .blocks = &b, .nblocks = 1, .stop = MODEL_STOP_END, .usage = {.input_tokens = 3}};
    void *arg = TAKE_PTR(r->cb_arg);
    r->cb->done(arg, &res);
}

static inline void answer_call(struct rig *r, const char *name, const char *input)
{
    struct model_block b = {.type = MODEL_TOOL_USE, .name = str_z(name), .input = str_z(input)};
    struct model_result res = {.blocks = &b, .nblocks = 1, .stop = MODEL_STOP_TOOL_USE};
    void *arg = TAKE_PTR(r->cb_arg);
    r->cb->done(arg, &res);
}

static inline void answer_bash(struct rig *r)
{
    answer_call(r, "bash", "{\"command\":\"true\"}");
}

static inline void answer_fetch(struct rig *r)
{
    answer_call(r, "web_fetch", "{\"url\":\"https://a.example/\"}");
}

static inline void finish_run(struct rig *r, const char *text)
{
    struct fake_run *run = &r->runs[r->nruns - 1];
    struct tool_outcome o = {.content = str_z(text)};
    void (*done)(void *, const struct tool_outcome *) = TAKE_PTR(run->done);
    done(run->arg, &o);
}

static inline bool at_rest(struct rig *r)
{
    return engine_stats(r->engine).actors == 0;
}

static char types[8192];
static struct session_row head;
static char outcomes_text[4096];

static inline int read_log(struct store_tx *tx, struct rig *r, struct err *err)
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
    snprintf(outcomes_text, sizeof outcomes_text, "%.*s", STR_ARG(head.outcomes));
    head.title = head.outcomes = STR_NONE;
    arena_fini(&a);
    return rc;
}

static inline void expect_log(struct rig *r, const char *want)
{
    in_store(r, read_log);
    assert_string_equal(types, want);
}

#define IDLE "session.thread_status_idle session.usage session.status_idle"
#define RUN "session.status_running session.thread_status_running"
#define TURN RUN " user.message span.model_request_start agent.message span.model_request_end " IDLE

/* ---- tests ---- */

struct waiting_op {
    struct engine_op op;
    int code; /* 1: not answered yet */
    bool row;
    char metadata[256];
    enum session_status status;
};

static inline void op_done(struct engine_op *op, const struct session_row *row,
                           const struct err *err)
{
    struct waiting_op *w = CONTAINER_OF(op, struct waiting_op, op);
    w->code = err->code;
    w->row = row != NULL;
    if (row) {
        snprintf(w->metadata, sizeof w->metadata, "%.*s", STR_ARG(row->metadata));
        w->status = row->status;
    }
}

static inline void wait_op(struct rig *r, struct waiting_op *w)
{
    while (w->code == 1)
        uv_run(loop_uv(r->loop), UV_RUN_ONCE);
}

static inline int steal(struct store_tx *tx, struct rig *r, struct err *err)
{
    int64_t epoch;
    return tx_session_take(tx, r->key, &epoch, err);
}

#endif
