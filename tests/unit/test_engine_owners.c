/* Whose a session is: the engine with a fake peer port over the real store; the lock files; two
 * real peers on one loop. */
#include "base/clock.h"
#include "base/rand.h"
#include "engine/peers.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ME "own_01me"
#define OTHER "own_01other"

static const char agent_json[] =
    "{\"type\":\"agent\",\"id\":\"agent_01\",\"name\":\"a\",\"version\":1,\"model\":{\"id\":\"m\","
    "\"effort\":\"high\",\"speed\":\"standard\"},\"system\":null,\"tools\":[]}";

struct rig {
    char dir[64];
    struct loop *loop;
    struct loop_timer keep;
    struct store *store;
    struct engine *engine;
    struct id ws, session;
    int64_t key;
    const char *owner; /* of the session when it is added */
    struct session_row row;
    struct arena arena;
    const struct model_callbacks *cb;
    void *cb_arg;
    int requests, writes;
    /* the other process */
    bool other_lives;
    int wakes, commits, deletions;
    int64_t told_seq;
    /* streams */
    int frames, pokes;
    bool closed, started, timer;
    int code; /* of the operation; 1: not answered */
    struct engine_op op;
};

/* ---- fakes ---- */

static struct model_call *fake_start(void *self, const struct model_request *req,
                                     const struct model_callbacks *cb, void *arg)
{
    struct rig *r = self;
    (void)req;
    r->cb = cb;
    r->cb_arg = arg;
    r->requests++;
    return (struct model_call *)r;
}

static void fake_cancel(void *self, struct model_call *call)
{
    (void)call;
    ((struct rig *)self)->cb_arg = NULL;
}

static void fake_run(void *self, const struct tool_call *call,
                     void (*done)(void *arg, const struct tool_outcome *o), void *arg)
{
    (void)self;
    (void)call;
    (void)done;
    (void)arg;
    fail();
}

static void fake_ack(void *self, struct str session_id, struct str tool_use_id)
{
    (void)self;
    (void)session_id;
    (void)tool_use_id;
}

static void fake_idle(void *self, struct str session_id)
{
    (void)self;
    (void)session_id;
}

static void fake_destroy(void *self, struct str session_id, bool wipe)
{
    (void)self;
    (void)session_id;
    (void)wipe;
}

static int64_t real_time(void *self)
{
    (void)self;
    return clock_unix_us();
}

static struct port_timer *fake_timer(void *self, int64_t delay_ms, void (*fn)(void *arg), void *arg)
{
    (void)delay_ms;
    (void)fn;
    (void)arg;
    ((struct rig *)self)->timer = true;
    return self;
}

static void fake_timer_cancel(void *self, struct port_timer *t)
{
    (void)self;
    (void)t;
}

static void real_fill(void *self, void *p, size_t n)
{
    (void)self;
    rand_fill(p, n);
}

static void counting_write(void *self, struct store_job *job)
{
    struct rig *r = self;
    struct store_port p = store_port(r->store);
    r->writes++;
    p.write(p.self, job);
}

static void plain_read(void *self, struct store_job *job)
{
    struct store_port p = store_port(((struct rig *)self)->store);
    p.read(p.self, job);
}

static size_t fake_others(void *self)
{
    return ((struct rig *)self)->other_lives;
}

static bool fake_alive(void *self, struct str owner)
{
    return str_eqz(owner, ME) || (str_eqz(owner, OTHER) && ((struct rig *)self)->other_lives);
}

static void fake_tell(void *self, struct str owner, const struct peer_news *news)
{
    struct rig *r = self;
    assert_true(str_eq(news->session_id, id_str(&r->session)));
    if (news->kind == PEER_WAKE)
        assert_true(str_eqz(owner, OTHER));
    else
        assert_false(str_some(owner));
    r->wakes += news->kind == PEER_WAKE;
    r->commits += news->kind == PEER_COMMITTED;
    r->deletions += news->kind == PEER_DELETED;
    r->told_seq = news->seq;
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
                              .metadata = STR("{}"),
                              .owner = id_from(str_z(r->owner)),
                              .created_us = clock_unix_us()};
    rc = tx_session_insert(tx, &row, err);
    r->session = row.id;
    r->key = row.key;
    return rc;
}

static int add_message(struct store_tx *tx, struct rig *r, struct err *err)
{
    struct id id = id_new("sevt");
    char body[256];
    int n = snprintf(body, sizeof body,
                     "{\"id\":\"%s\",\"type\":\"user.message\",\"processed_at\":null,"
                     "\"content\":[{\"type\":\"text\",\"text\":\"hello\"}]}",
                     id.z);
    struct inbox_row row = {
        .event = {.type = EVENT_USER_MESSAGE, .id = id, .body = str_n(body, (size_t)n)}};
    return tx_inbox_add(tx, r->key, &row, err);
}

static int read_row(struct store_tx *tx, struct rig *r, struct err *err)
{
    arena_reset(&r->arena);
    return tx_session_get(tx, STR_NONE, id_str(&r->session), &r->arena, &r->row, err);
}

static int bump_epoch(struct store_tx *tx, struct rig *r, struct err *err)
{
    int64_t epoch;
    return tx_session_take(tx, r->key, &epoch, err);
}

static int steal(struct store_tx *tx, struct rig *r, struct err *err)
{
    int64_t epoch;
    return tx_session_own(tx, r->key, STR(OTHER), STR(ME), &epoch, err);
}

static void on_started(void *arg, const struct err *err)
{
    assert_int_equal(err->code, 0);
    ((struct rig *)arg)->started = true;
}

static void on_closed(void *arg)
{
    ((struct rig *)arg)->closed = true;
}

static bool is_started(struct rig *r)
{
    return r->started;
}

static bool is_closed(struct rig *r)
{
    return r->closed;
}

static bool has_request(struct rig *r)
{
    return r->cb_arg != NULL;
}

static bool was_woken(struct rig *r)
{
    return r->wakes > 0;
}

static bool at_rest(struct rig *r)
{
    return engine_stats(r->engine).actors == 0;
}

static bool is_answered(struct rig *r)
{
    return r->code != 1;
}

static void keep_alive(struct loop_timer *t)
{
    loop_timer_start(t, 1, keep_alive);
}

static void answer(struct rig *r)
{
    const struct model_block b = {.type = MODEL_TEXT, .text = STR("hi")};
    const struct model_result result = {.blocks = &b, .nblocks = 1};
    r->cb->done(TAKE_PTR(r->cb_arg), &result);
}

static int setup(void **state)
{
    struct rig *r = mem_zalloc(sizeof *r);
    struct err err;
    snprintf(r->dir, sizeof r->dir, "/tmp/ostler-owners-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    r->loop = loop_new();
    loop_timer_init(r->loop, &r->keep);
    keep_alive(&r->keep);
    arena_init(&r->arena, 1 << 20);
    r->other_lives = true;
    r->code = 1;
    const struct store_config cfg = {.dir = r->dir, .no_fsync = true};
    assert_int_equal(store_open(r->loop, &cfg, &r->store, &err), 0);
    *state = r;
    return 0;
}

static void start_engine(struct rig *r)
{
    const struct engine_config cfg = {
        .store = {r, plain_read, counting_write},
        .clock = {r, real_time, fake_timer, fake_timer_cancel},
        .rand = {r, real_fill},
        .model = {.self = r, .start = fake_start, .cancel = fake_cancel},
        .sandbox = {.self = r,
                    .run = fake_run,
                    .ack = fake_ack,
                    .cancel = fake_ack,
                    .idle = fake_idle,
                    .destroy = fake_destroy},
        .peers = {r, id_from(STR(ME)), fake_others, fake_alive, fake_tell},
    };
    r->engine = engine_new(&cfg);
    engine_start(r->engine, on_started, r);
    until(r, is_started);
}

/* A session of `owner` with a message, that the engine is told of. */
static void begin(struct rig *r, const char *owner)
{
    r->owner = owner;
    in_store(r, add_session);
    start_engine(r);
    in_store(r, add_message);
    engine_wake(r->engine, id_str(&r->session));
}

static int teardown(void **state)
{
    struct rig *r = *state;
    char command[128];
    if (r->engine) {
        engine_close(r->engine, on_closed, r);
        until(r, is_closed);
        engine_free(r->engine);
    }
    store_close(r->store);
    loop_timer_close(&r->keep, NULL);
    uv_run(loop_uv(r->loop), UV_RUN_NOWAIT);
    loop_free(r->loop);
    arena_fini(&r->arena);
    for (const char *const *name =
             (const char *const[]){"ostler.db", "ostler.db-wal", "ostler.db-shm", "owners", NULL};
         *name; name++) {
        snprintf(command, sizeof command, "%s/%s", r->dir, *name);
        (void)remove(command);
    }
    rmdir(r->dir);
    mem_free(r);
    return 0;
}

static void assert_owner(struct rig *r, const char *owner, int64_t epoch)
{
    in_store(r, read_row);
    assert_string_equal(r->row.owner.z, owner);
    assert_int_equal(r->row.epoch, epoch);
}

/* ---- taking ---- */

static void our_own_session_is_worked_on_without_a_take(void **state)
{
    struct rig *r = *state;
    begin(r, ME);
    until(r, has_request);
    assert_int_equal(r->writes, 1);
    answer(r);
    until(r, at_rest);
    assert_int_equal(r->writes, 2);
    assert_owner(r, ME, 0);
    assert_int_equal(r->row.status, SESSION_IDLE);
}

static void a_session_of_nobody_is_taken_once(void **state)
{
    struct rig *r = *state;
    begin(r, "");
    until(r, has_request);
    assert_owner(r, ME, 1);
}

static void a_dead_process_s_session_is_taken(void **state)
{
    struct rig *r = *state;
    r->other_lives = false;
    begin(r, OTHER);
    until(r, has_request);
    assert_owner(r, ME, 1);
}

static void a_live_process_is_told_of_work_in_its_session(void **state)
{
    struct rig *r = *state;
    begin(r, OTHER);
    until(r, was_woken);
    assert_int_equal(r->requests, 0);
    assert_int_equal(r->writes, 0);
    until(r, at_rest);
    assert_owner(r, OTHER, 0);
}

static void at_a_death_its_work_goes_on_here(void **state)
{
    struct rig *r = *state;
    begin(r, OTHER);
    until(r, was_woken);
    engine_peers_changed(r->engine, false);
    r->other_lives = false;
    engine_peers_changed(r->engine, true);
    until(r, has_request);
    assert_owner(r, ME, 1);
    assert_int_equal(engine_stats(r->engine).resumed, 1);
}

static void a_wake_that_was_lost_is_made_up_for(void **state)
{
    struct rig *r = *state;
    r->owner = ME;
    in_store(r, add_session);
    start_engine(r);
    in_store(r, add_message);
    engine_peers_changed(r->engine, false);
    until(r, has_request);
    assert_owner(r, ME, 0);
}

static int own_three_ways(struct store_tx *tx, struct rig *r, struct err *err)
{
    int64_t epoch = 0;
    struct str me = STR(ME), other = STR(OTHER);
    assert_int_equal(tx_session_own(tx, r->key, other, STR_NONE, &epoch, err), 0);
    assert_int_equal(epoch, 1);
    assert_int_equal(tx_session_own(tx, r->key, me, STR_NONE, &epoch, err), ERR_CONFLICT);
    assert_int_equal(tx_session_own(tx, r->key, me, STR("own_01third"), &epoch, err), ERR_CONFLICT);
    assert_int_equal(tx_session_own(tx, r->key, other, STR_NONE, &epoch, err), 0);
    assert_int_equal(tx_session_own(tx, r->key, me, other, &epoch, err), 0);
    assert_int_equal(epoch, 3);
    assert_int_equal(tx_session_own(tx, r->key, other, other, &epoch, err), ERR_CONFLICT);
    assert_int_equal(tx_session_own(tx, 4242, me, other, &epoch, err), ERR_CONFLICT);
    *err = (struct err){0};
    return 0;
}

static void only_one_of_two_takes_a_dead_one_s_session(void **state)
{
    struct rig *r = *state;
    r->owner = "";
    in_store(r, add_session);
    in_store(r, own_three_ways);
    assert_owner(r, ME, 3);
}

/* ---- losing ---- */

static void a_stale_epoch_is_refused_and_the_session_loaded_anew(void **state)
{
    struct rig *r = *state;
    begin(r, ME);
    until(r, has_request);
    in_store(r, bump_epoch);
    answer(r);
    until(r, has_request);
    assert_int_equal(r->requests, 2);
    answer(r);
    until(r, at_rest);
    assert_owner(r, ME, 1);
    assert_int_equal(r->row.status, SESSION_IDLE);
}

static void a_session_that_another_took_is_left_to_it(void **state)
{
    struct rig *r = *state;
    begin(r, ME);
    until(r, has_request);
    in_store(r, steal);
    answer(r);
    until(r, at_rest);
    assert_int_equal(r->requests, 1);
    assert_owner(r, OTHER, 1);
    assert_int_equal(r->row.status, SESSION_RUNNING);
}

static void op_done(struct engine_op *op, const struct session_row *row, const struct err *err)
{
    struct rig *r = CONTAINER_OF(op, struct rig, op);
    assert_null(row);
    r->code = err->code;
}

static void an_operation_on_another_s_session_is_to_be_asked_there(void **state)
{
    struct rig *r = *state;
    r->owner = OTHER;
    in_store(r, add_session);
    start_engine(r);
    r->op.done = op_done;
    engine_session_archive(r->engine, id_str(&r->ws), id_str(&r->session), &r->op);
    until(r, is_answered);
    assert_int_equal(r->code, ERR_UNAVAILABLE);
    assert_int_equal(r->wakes, 0);
}

/* ---- news ---- */

static void commits_are_told_while_there_are_others(void **state)
{
    struct rig *r = *state;
    begin(r, ME);
    until(r, has_request);
    assert_int_equal(r->commits, 1);
    r->other_lives = false;
    answer(r);
    until(r, at_rest);
    assert_int_equal(r->commits, 1);
    in_store(r, read_row);
    assert_in_range(r->told_seq, 1, r->row.last_seq - 1);
}

struct watcher {
    struct hub_sub sub;
    int64_t seq;
    int pokes;
    bool last;
    char text[256];
};

static void on_frame(struct hub_sub *sub, int64_t seq, struct bytes *frame, bool last)
{
    struct watcher *w = CONTAINER_OF(sub, struct watcher, sub);
    w->seq = seq;
    w->pokes += frame == NULL;
    w->last = last;
    if (frame)
        str_copyz(w->text, sizeof w->text, bytes_view(frame));
}

static void streams_hear_of_another_s_commits_and_see_its_last_event(void **state)
{
    struct rig *r = *state;
    struct watcher w = {.sub.frame = on_frame};
    struct hub *hub;
    r->owner = OTHER;
    in_store(r, add_session);
    start_engine(r);
    hub = engine_hub(r->engine);
    list_init(&w.sub.link);
    hub_subscribe(hub, id_str(&r->session), &w.sub);
    engine_peer_told(
        r->engine,
        &(struct peer_news){.kind = PEER_COMMITTED, .session_id = id_str(&r->session), .seq = 7});
    assert_int_equal(w.pokes, 1);
    assert_int_equal(w.seq, 7);
    engine_peers_changed(r->engine, true);
    assert_int_equal(w.pokes, 2);
    assert_int_equal(w.seq, 0);
    engine_peers_changed(r->engine, false);
    assert_int_equal(w.pokes, 2);
    engine_peer_told(r->engine, &(struct peer_news){.kind = PEER_DELETED,
                                                    .session_id = id_str(&r->session),
                                                    .seq = 8,
                                                    .event_id = STR("sevt_01last"),
                                                    .event_body = STR("{\"type\":\"x\"}")});
    assert_true(w.last);
    assert_non_null(strstr(w.text, "id: sevt_01last"));
    hub_unsubscribe(hub, &w.sub);
}

/* ---- lock files and connections ---- */

static void count_owner(void *arg, const char *id, int fd)
{
    struct owner_facts facts;
    (void)id;
    owner_facts(fd, &facts);
    assert_int_equal(facts.pid, getpid());
    ++*(int *)arg;
}

static void an_owner_lives_as_long_as_its_lock(void **state)
{
    struct rig *r = *state;
    struct owner one, two;
    struct err err;
    int n = 0, fd;
    assert_int_equal(owner_open(&one, r->dir, &err), 0);
    assert_int_equal(owner_open(&two, r->dir, &err), 0);
    owner_each(r->dir, count_owner, &n);
    assert_int_equal(n, 2);
    assert_true(owner_watch(r->dir, one.id.z, &fd));
    assert_true(owner_locked(fd));
    close(one.fd); /* what the kernel does to one that was killed */
    one.fd = -1;
    assert_false(owner_locked(fd));
    close(fd);
    assert_false(owner_watch(r->dir, one.id.z, &fd));
    n = 0;
    owner_each(r->dir, count_owner, &n);
    assert_int_equal(n, 1);
    assert_int_not_equal(access(one.path, F_OK), 0);
    owner_close(&two);
}

struct pair {
    struct rig *r;
    struct peers *peers[2];
    struct owner owners[2];
    bool closed;
};

static void pair_closed(void *arg)
{
    ((struct pair *)arg)->closed = true;
}

static void close_peers(struct pair *p, int i)
{
    p->closed = false;
    peers_close(p->peers[i], pair_closed, p);
    while (!p->closed)
        uv_run(loop_uv(p->r->loop), UV_RUN_ONCE);
}

static void processes_find_each_other_and_notice_a_death(void **state)
{
    struct rig *r = *state;
    struct pair p = {.r = r};
    struct peer_port port[2];
    struct err err;
    r->owner = ME;
    in_store(r, add_session);
    start_engine(r);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(owner_open(&p.owners[i], r->dir, &err), 0);
        p.peers[i] = peers_new(r->loop, r->dir, &p.owners[i]);
        port[i] = peers_port(p.peers[i]);
        assert_int_equal(peers_start(p.peers[i], r->engine, &err), 0);
    }
    while (port[0].others(port[0].self) != 1 || port[1].others(port[1].self) != 1)
        uv_run(loop_uv(r->loop), UV_RUN_ONCE);
    assert_true(port[0].alive(port[0].self, id_str(&port[1].me)));
    assert_false(port[0].alive(port[0].self, STR("own_01nobody")));
    /* News arrive: the first tells the second, whose engine works on it. */
    in_store(r, add_message);
    port[0].tell(port[0].self, id_str(&port[1].me),
                 &(struct peer_news){.kind = PEER_WAKE, .session_id = id_str(&r->session)});
    until(r, has_request);
    close_peers(&p, 1);
    owner_close(&p.owners[1]);
    while (port[0].others(port[0].self) != 0)
        uv_run(loop_uv(r->loop), UV_RUN_ONCE);
    assert_false(port[0].alive(port[0].self, id_str(&port[1].me)));
    close_peers(&p, 0);
    owner_close(&p.owners[0]);
}

int main(void)
{
    alarm(120); /* a lost wake-up must not hang the suite */
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(our_own_session_is_worked_on_without_a_take),
        T(a_session_of_nobody_is_taken_once),
        T(a_dead_process_s_session_is_taken),
        T(a_live_process_is_told_of_work_in_its_session),
        T(at_a_death_its_work_goes_on_here),
        T(a_wake_that_was_lost_is_made_up_for),
        T(only_one_of_two_takes_a_dead_one_s_session),
        T(a_stale_epoch_is_refused_and_the_session_loaded_anew),
        T(a_session_that_another_took_is_left_to_it),
        T(an_operation_on_another_s_session_is_to_be_asked_there),
        T(commits_are_told_while_there_are_others),
        T(streams_hear_of_another_s_commits_and_see_its_last_event),
        T(an_owner_lives_as_long_as_its_lock),
        T(processes_find_each_other_and_notice_a_death),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
