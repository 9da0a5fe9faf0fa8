/* The store behind its port: threads, group commit, order, refusal, closing. */
#include "store_fixture.h"

#include "base/limits.h"

#include <pthread.h>
#include <sys/stat.h>

static char dir[64];
static struct fixture fx;

static int setup(void **state)
{
    (void)state;
    fixture_mkdtemp(dir);
    fixture_open(&fx, dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (fx.loop)
        fixture_close(&fx);
    fixture_rmtree(dir);
    return 0;
}

static struct meta_job meta(int i)
{
    struct meta_job m = {.found = false};
    snprintf(m.key, sizeof m.key, "k%d", i);
    snprintf(m.value, sizeof m.value, "v%d", i);
    return m;
}

static void assert_meta(int i, bool there)
{
    struct meta_job m = meta(i);
    struct err err = fixture_read(&fx, meta_get, &m);
    assert_int_equal(err.code, 0);
    assert_int_equal(m.found, there);
}

/* ---- jobs that tests put between others ---- */

/* Holds the writer inside a transaction until the test lets it go on, so that what is queued
 * meanwhile is known to form the next batch. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool entered, open;
};

static int pass_gate(struct store_tx *tx, void *arg, struct err *err)
{
    (void)tx;
    (void)err;
    struct gate *g = arg;
    pthread_mutex_lock(&g->lock);
    g->entered = true;
    pthread_cond_broadcast(&g->changed);
    while (!g->open)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return 0;
}

static void gate_wait(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    while (!g->entered)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void gate_open(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

#define GATE_INIT                                                                                  \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER                     \
    }

static int put_then_fail(struct store_tx *tx, void *arg, struct err *err)
{
    int rc = meta_put(tx, arg, err);
    return rc ? rc : err_set(err, ERR_CONFLICT, "changed its mind");
}

static int fail_silently(struct store_tx *tx, void *arg, struct err *err)
{
    (void)tx;
    (void)arg;
    (void)err;
    return ERR_CONFLICT;
}

/* ---- tests ---- */

static void what_was_written_is_there_after_opening_again(void **state)
{
    (void)state;
    struct meta_job m = meta(1);
    assert_int_equal(fixture_write(&fx, meta_put, &m).code, 0);
    assert_meta(1, true);
    fixture_close(&fx);
    fixture_open(&fx, dir);
    assert_meta(1, true);
    assert_meta(2, false);
}

static void the_database_is_nobody_elses_to_read(void **state)
{
    (void)state;
    static const char *const names[] = {"ostler.db", "ostler.db-wal", "ostler.db-shm"};
    struct meta_job m = meta(1);
    assert_int_equal(fixture_write(&fx, meta_put, &m).code, 0);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char path[128];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
}

static void done_never_comes_before_the_submission_returned(void **state)
{
    (void)state;
    struct meta_job m = meta(1);
    struct call w, r;
    call_init(&w, &fx, meta_put, &m);
    call_init(&r, &fx, meta_get, &m);
    call_write(&w);
    assert_int_equal(w.calls, 0);
    call_read(&r);
    assert_int_equal(r.calls, 0);
    fixture_wait(&fx);
    assert_int_equal(w.calls, 1);
    assert_int_equal(r.calls, 1);
}

static void a_failed_job_leaves_nothing_alone_or_among_others(void **state)
{
    (void)state;
    struct meta_job alone = meta(1);
    struct err err = fixture_write(&fx, put_then_fail, &alone);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_string_equal(err.msg, "changed its mind");
    assert_meta(1, false);

    enum { N = 30 };
    struct gate gate = GATE_INIT;
    struct call hold, calls[N];
    struct meta_job jobs[N];
    call_init(&hold, &fx, pass_gate, &gate);
    call_write(&hold);
    gate_wait(&gate);
    for (int i = 0; i < N; i++) {
        jobs[i] = meta(100 + i);
        call_init(&calls[i], &fx, i % 3 == 1 ? put_then_fail : meta_put, &jobs[i]);
        call_write(&calls[i]);
    }
    gate_open(&gate);
    fixture_wait(&fx);
    for (int i = 0; i < N; i++) {
        assert_int_equal(calls[i].calls, 1);
        assert_int_equal(calls[i].err.code, i % 3 == 1 ? ERR_CONFLICT : 0);
        assert_meta(100 + i, i % 3 != 1);
    }
}

static void a_job_that_fails_without_a_message_still_reports_its_code(void **state)
{
    (void)state;
    struct err err = fixture_write(&fx, fail_silently, NULL);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_true(err.msg[0] != '\0');
}

/* done calls record their order here */
static struct call *finished[LIMIT_STORE_BATCH];
static int nfinished;

static void record_done(struct store_job *job, const struct err *err)
{
    finished[nfinished++] = CONTAINER_OF(job, struct call, job);
    fixture_done(job, err);
}

static void queued_writes_share_one_commit_and_report_in_order(void **state)
{
    (void)state;
    enum { N = 200 };
    struct gate gate = GATE_INIT;
    struct call hold, calls[N];
    struct meta_job jobs[N];
    int64_t commits, writes, queued, commits2, writes2;
    call_init(&hold, &fx, pass_gate, &gate);
    call_write(&hold);
    gate_wait(&gate);
    store_stats(fx.store, &commits, &writes, &queued);
    nfinished = 0;
    for (int i = 0; i < N; i++) {
        jobs[i] = meta(i);
        call_init(&calls[i], &fx, meta_put, &jobs[i]);
        calls[i].job.done = record_done;
        call_write(&calls[i]);
    }
    store_stats(fx.store, &commits2, &writes2, &queued);
    assert_int_equal(queued, N);
    gate_open(&gate);
    fixture_wait(&fx);
    store_stats(fx.store, &commits2, &writes2, &queued);
    assert_int_equal(commits2 - commits, 2); /* the gate's and one for all */
    assert_int_equal(writes2 - writes, N + 1);
    assert_int_equal(queued, 0);
    assert_int_equal(nfinished, N);
    for (int i = 0; i < N; i++)
        assert_ptr_equal(finished[i], &calls[i]);
}

static void a_full_queue_refuses_and_the_store_goes_on(void **state)
{
    (void)state;
    enum { EXTRA = 3 };
    const int n = LIMIT_STORE_QUEUE + EXTRA;
    struct gate gate = GATE_INIT;
    struct meta_job m = meta(1);
    struct call hold;
    AUTO_FREE struct call *calls = mem_zalloc(sizeof *calls * (size_t)n);
    call_init(&hold, &fx, pass_gate, &gate);
    call_write(&hold);
    gate_wait(&gate);
    for (int i = 0; i < n; i++) {
        call_init(&calls[i], &fx, meta_put, &m);
        call_write(&calls[i]);
        assert_int_equal(calls[i].calls, 0);
    }
    gate_open(&gate);
    fixture_wait(&fx);
    for (int i = 0; i < n; i++) {
        assert_int_equal(calls[i].calls, 1);
        assert_int_equal(calls[i].err.code, i < LIMIT_STORE_QUEUE ? 0 : ERR_OVERLOADED);
    }
    assert_int_equal(fixture_write(&fx, meta_put, &m).code, 0);
}

static void readers_run_beside_a_write_and_see_the_last_commit(void **state)
{
    (void)state;
    enum { N = 20 };
    struct gate gate = GATE_INIT;
    struct call hold, calls[N];
    struct meta_job first = meta(1), jobs[N];
    assert_int_equal(fixture_write(&fx, meta_put, &first).code, 0);
    call_init(&hold, &fx, pass_gate, &gate);
    call_write(&hold);
    gate_wait(&gate);
    fx.pending--; /* wait for the reads alone */
    for (int i = 0; i < N; i++) {
        jobs[i] = meta(1);
        call_init(&calls[i], &fx, meta_get, &jobs[i]);
        call_read(&calls[i]);
    }
    fixture_wait(&fx);
    for (int i = 0; i < N; i++) {
        assert_int_equal(calls[i].err.code, 0);
        assert_true(jobs[i].found);
    }
    fx.pending++;
    gate_open(&gate);
    fixture_wait(&fx);
    assert_int_equal(hold.calls, 1);
}

static void a_reader_cannot_write(void **state)
{
    (void)state;
    struct meta_job m = meta(1);
    assert_int_equal(fixture_read(&fx, meta_put, &m).code, ERR_READ_ONLY);
    assert_meta(1, false);
}

static void resubmit(struct store_job *job, const struct err *err)
{
    struct call *c = CONTAINER_OF(job, struct call, job);
    c->err = *err;
    if (++c->calls == 1)
        c->fx->port.write(c->fx->port.self, job);
    else
        c->fx->pending--;
}

static void closing_finishes_what_is_queued_and_cancels_what_comes_later(void **state)
{
    (void)state;
    enum { N = 50 };
    struct call calls[N], again;
    struct meta_job jobs[N], m = meta(999);
    for (int i = 0; i < N; i++) {
        jobs[i] = meta(i);
        call_init(&calls[i], &fx, meta_put, &jobs[i]);
        call_write(&calls[i]);
    }
    call_init(&again, &fx, meta_put, &m);
    again.job.done = resubmit;
    call_write(&again);
    store_close(fx.store);
    fx.store = NULL;
    for (int i = 0; i < N; i++) {
        assert_int_equal(calls[i].calls, 1);
        assert_int_equal(calls[i].err.code, 0);
    }
    assert_int_equal(again.calls, 2);
    assert_int_equal(again.err.code, ERR_CANCELED);
    assert_int_equal(fx.pending, 0);
    fixture_close(&fx);
    fixture_open(&fx, dir);
    assert_meta(N - 1, true);
    assert_meta(999, true);
}

static void close_store(struct store_job *job, const struct err *err)
{
    struct call *c = CONTAINER_OF(job, struct call, job);
    struct fixture *f = c->fx;
    store_close(f->store);
    f->store = NULL;
    fixture_done(job, err);
}

static void the_store_may_be_closed_from_a_done(void **state)
{
    (void)state;
    enum { N = 10 };
    struct gate gate = GATE_INIT;
    struct call hold, calls[N];
    struct meta_job jobs[N];
    call_init(&hold, &fx, pass_gate, &gate);
    call_write(&hold);
    gate_wait(&gate);
    for (int i = 0; i < N; i++) {
        jobs[i] = meta(i);
        call_init(&calls[i], &fx, meta_put, &jobs[i]);
        if (i == 3)
            calls[i].job.done = close_store;
        call_write(&calls[i]);
    }
    gate_open(&gate);
    fixture_wait(&fx);
    assert_null(fx.store);
    for (int i = 0; i < N; i++)
        assert_int_equal(calls[i].calls, 1);
}

static int add_sessions(struct store_tx *tx, void *arg, struct err *err)
{
    struct id ws;
    int rc = tx_workspace_ensure(tx, STR("default"), 1, &ws, err);
    for (int i = 0; rc == 0 && i < *(int *)arg; i++) {
        struct session_row s = {.id = id_new("sesn"),
                                .workspace_id = ws,
                                .thread_id = id_new("sthr"),
                                .status = SESSION_IDLE,
                                .created_us = 1 + i};
        rc = tx_session_insert(tx, &s, err);
    }
    return rc;
}

static int list_active(struct store_tx *tx, void *arg, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 4096);
    struct id *ids;
    size_t *n = arg;
    return tx_session_active(tx, &a, &ids, n, err);
}

static void many_idle_sessions_are_not_looked_at_on_start(void **state)
{
    (void)state;
    int many = 3000;
    size_t n = 7;
    assert_int_equal(fixture_write(&fx, add_sessions, &many).code, 0);
    fixture_close(&fx);
    fixture_open(&fx, dir);
    /* The arena of the job holds less than the sessions would take. */
    assert_int_equal(fixture_read(&fx, list_active, &n).code, 0);
    assert_int_equal(n, 0);
}

static void the_data_directory_is_private_and_made_when_missing(void **state)
{
    (void)state;
    char deep[96];
    struct stat st;
    struct err err = {0};
    fixture_close(&fx);
    snprintf(deep, sizeof deep, "%s/a/b", dir);
    fixture_loop(&fx);
    assert_int_equal(fixture_try_open(&fx, deep, &err), 0);
    assert_int_equal(stat(deep, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(what_was_written_is_there_after_opening_again),
        T(the_database_is_nobody_elses_to_read),
        T(done_never_comes_before_the_submission_returned),
        T(a_failed_job_leaves_nothing_alone_or_among_others),
        T(a_job_that_fails_without_a_message_still_reports_its_code),
        T(queued_writes_share_one_commit_and_report_in_order),
        T(a_full_queue_refuses_and_the_store_goes_on),
        T(readers_run_beside_a_write_and_see_the_last_commit),
        T(a_reader_cannot_write),
        T(closing_finishes_what_is_queued_and_cancels_what_comes_later),
        T(the_store_may_be_closed_from_a_done),
        T(many_idle_sessions_are_not_looked_at_on_start),
        T(the_data_directory_is_private_and_made_when_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
