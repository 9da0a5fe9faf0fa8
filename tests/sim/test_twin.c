/* The simulator's store and the real one under the same random operations: same answers, same
 * errors, same state. The real one runs behind names of its own (see meson.build). */
#include "../unit/store_fixture.h"
#include "sim_twin.h"

#include "base/rand.h"

enum { STEPS = 1500, SESSIONS = 4 };

struct twin_rng {
    uint64_t state;
};

static int64_t below(struct twin_rng *r, int64_t n)
{
    r->state = r->state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (int64_t)((r->state >> 33) % (uint64_t)n);
}

struct world {
    struct twin_rng rng;
    const struct twin *store; /* whose functions this run uses */
    struct id ws, ids[SESSIONS];
    int64_t inbox[64];
    size_t ninbox;
    int step;
    struct buf out; /* what was answered, as text */
};

static void say(struct world *w, const char *what, int rc)
{
    buf_printf(&w->out, "%d %s %s\n", w->step, what, rc ? err_name(rc) : "ok");
}

static void say_row(struct world *w, const struct session_row *r)
{
    const struct session_usage *u = &r->usage;
    buf_printf(&w->out,
               "key %lld status %d epoch %lld seq %lld us %lld sandbox %d inbox %d owner %s title "
               "%.*s meta %.*s stop %.*s limits %.*s budget %lld archived %lld updated %lld cost "
               "%lld held %lld turns %lld since %lld\n",
               (long long)r->key, (int)r->status, (long long)r->epoch, (long long)r->last_seq,
               (long long)r->last_processed_us, r->has_sandbox, r->inbox, r->owner.z,
               STR_ARG(r->title), STR_ARG(r->metadata), STR_ARG(r->stop_reason), STR_ARG(r->limits),
               (long long)r->budget_microusd, (long long)r->archived_us, (long long)r->updated_us,
               (long long)u->cost_microusd, (long long)u->held_microusd, (long long)u->turns,
               (long long)u->running_since_us);
    buf_printf(&w->out, "absent %d%d%d\n", !str_some(r->title), !str_some(r->stop_reason),
               !str_some(r->limits));
}

static struct str text(struct arena *a, struct world *w, int64_t kinds)
{
    int64_t k = below(&w->rng, kinds);
    return k == 0 ? STR_NONE : arena_printf(a, "{\"n\":%lld}", (long long)k);
}

static int op_insert(struct store_tx *tx, struct world *w, struct arena *a, struct err *err)
{
    size_t i = (size_t)below(&w->rng, SESSIONS);
    struct session_row row = {.id = w->ids[i],
                              .workspace_id = w->ws,
                              .agent_version = 1,
                              .agent = STR("{}"),
                              .environment = STR("{}"),
                              .title = text(a, w, 3),
                              .metadata = text(a, w, 3),
                              .limits = text(a, w, 3),
                              .budget_microusd = below(&w->rng, 2) * 10000,
                              .created_us = w->step + 1,
                              .updated_us = w->step + 1};
    snprintf(row.thread_id.z, sizeof row.thread_id.z, "sthr_%d", w->step);
    row.agent_id = id_from(STR("agent_x"));
    row.environment_id = id_from(STR("env_x"));
    return w->store->session_insert(tx, &row, err);
}

static int op_append(struct store_tx *tx, struct world *w, struct arena *a,
                     const struct session_row *row, struct err *err)
{
    struct event events[4];
    int64_t done[3];
    size_t n = (size_t)below(&w->rng, 5), ndone = 0;
    int64_t base = row->last_seq + (below(&w->rng, 12) == 0);
    for (size_t i = 0; i < n; i++) {
        events[i] = (struct event){.seq = base + 1 + (int64_t)i,
                                   .type = EVENT_AGENT_MESSAGE,
                                   .processed_us = w->step * 10 + 1 + (int64_t)i,
                                   .body = arena_printf(a, "{\"e\":%d}", w->step),
                                   .transcript = text(a, w, 3)};
        snprintf(events[i].id.z, sizeof events[i].id.z, "sevt_%d_%zu", w->step, i);
        if (below(&w->rng, 40) == 0)
            events[i].seq++;
    }
    while (ndone < COUNT_OF(done) && w->ninbox && below(&w->rng, 2))
        done[ndone++] = w->inbox[below(&w->rng, (int64_t)w->ninbox)];
    struct ledger_row ledger = {.workspace_id = w->ws,
                                .session_id = row->id,
                                .seq = base,
                                .model = STR("m"),
                                .usage.cost_microusd = w->step,
                                .held_microusd = below(&w->rng, 5),
                                .at_us = w->step};
    struct session_append ap = {.key = row->key,
                                .epoch = row->epoch + (below(&w->rng, 10) == 0),
                                .base_seq = base,
                                .events = events,
                                .nevents = n,
                                .inbox_done = done,
                                .ninbox_done = ndone,
                                .set_status = below(&w->rng, 3) > 0,
                                .status = (enum session_status)below(&w->rng, 4),
                                .stop_reason = text(a, w, 3),
                                .usage = {.cost_microusd = w->step, .turns = 2, .held_microusd = 3},
                                .updated_us = w->step,
                                .set_sandbox = below(&w->rng, 6) == 0,
                                .ledger = &ledger,
                                .nledger = (size_t)below(&w->rng, 2)};
    return w->store->session_append(tx, &ap, err);
}

static int op_inbox(struct store_tx *tx, struct world *w, struct arena *a, int64_t key,
                    struct err *err)
{
    struct inbox_row row = {.event = {.type = EVENT_USER_MESSAGE,
                                      .body = arena_printf(a, "{\"i\":%d}", w->step),
                                      .transcript = text(a, w, 2)}};
    snprintf(row.event.id.z, sizeof row.event.id.z, "sevt_in%d", w->step);
    int rc = w->store->inbox_add(tx, key, &row, err);
    if (rc == 0)
        w->inbox[w->ninbox++ % COUNT_OF(w->inbox)] = row.number;
    if (w->ninbox > COUNT_OF(w->inbox))
        w->ninbox = COUNT_OF(w->inbox);
    buf_printf(&w->out, "number %lld\n", (long long)row.number);
    return rc;
}

static int op_own(struct store_tx *tx, struct world *w, int64_t key, struct err *err)
{
    static const char *const owners[] = {"own_a", "own_b", "own_c"};
    int64_t epoch = 0;
    struct str dead = below(&w->rng, 2) ? STR_NONE : str_z(owners[below(&w->rng, 3)]);
    int rc =
        below(&w->rng, 3) == 0
            ? w->store->session_take(tx, key, &epoch, err)
            : w->store->session_own(tx, key, str_z(owners[below(&w->rng, 3)]), dead, &epoch, err);
    buf_printf(&w->out, "epoch %lld\n", (long long)epoch);
    return rc;
}

static int op_update(struct store_tx *tx, struct world *w, struct arena *a,
                     const struct session_row *row, struct err *err)
{
    struct session_row next = *row;
    next.title = text(a, w, 3);
    next.metadata = text(a, w, 3);
    next.limits = text(a, w, 3);
    next.budget_microusd = below(&w->rng, 3) * 10000;
    next.updated_us = w->step;
    next.archived_us = below(&w->rng, 10) == 0 ? w->step : 0;
    return w->store->session_update(tx, &next, err);
}

static int write_step(struct store_tx *tx, void *arg, struct err *err)
{
    struct world *w = arg;
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    struct session_row row = {0};
    int64_t dice = below(&w->rng, 100);
    const struct id *id = &w->ids[below(&w->rng, SESSIONS)];
    int rc = w->store->session_get(tx, STR_NONE, id_str(id), &a, &row, err);
    say(w, "get", rc);
    if (rc)
        row.key = 100000;
    if (dice < 8)
        rc = op_insert(tx, w, &a, err);
    else if (dice < 50)
        rc = op_append(tx, w, &a, &row, err);
    else if (dice < 75)
        rc = op_inbox(tx, w, &a, row.key, err);
    else if (dice < 85)
        rc = op_own(tx, w, row.key, err);
    else if (dice < 98)
        rc = op_update(tx, w, &a, &row, err);
    else
        rc = w->store->session_delete(tx, row.key, err);
    buf_printf(&w->out, "%lld on %s\n", (long long)dice, id->z);
    say(w, "write", rc);
    if (rc == 0 && below(&w->rng, 8) == 0)
        rc = err_set(err, ERR_CANCELED, "the job fails after its writes");
    return rc;
}

static int say_log(struct store_tx *tx, struct world *w, struct arena *a, int64_t key,
                   struct err *err)
{
    struct event_filter f = {.after_seq = below(&w->rng, 2) * below(&w->rng, 30),
                             .desc = below(&w->rng, 2),
                             .limit = below(&w->rng, 2) * 5,
                             .gt_us = below(&w->rng, 3) == 0 ? below(&w->rng, 9000) : 0,
                             .lte_us = below(&w->rng, 3) == 0 ? below(&w->rng, 15000) : 0,
                             .transcript = below(&w->rng, 2)};
    struct event *e;
    size_t n;
    bool more;
    int rc = w->store->event_list(tx, key, &f, a, &e, &n, &more, err);
    for (size_t i = 0; rc == 0 && i < n; i++)
        buf_printf(&w->out, "%lld %d %s %lld %.*s %d%.*s\n", (long long)e[i].seq, (int)e[i].type,
                   e[i].id.z, (long long)e[i].processed_us, STR_ARG(e[i].body),
                   str_some(e[i].transcript), STR_ARG(e[i].transcript));
    if (rc == 0)
        buf_printf(&w->out, "%zu events, more %d\n", n, more);
    return rc;
}

static int read_step(struct store_tx *tx, void *arg, struct err *err)
{
    struct world *w = arg;
    AUTO_ARENA struct arena a;
    arena_init(&a, 8 << 20);
    struct session_row row = {0};
    struct inbox_row *in;
    struct session_work *work;
    size_t n;
    int64_t cost, held, requests;
    const struct id *id = &w->ids[below(&w->rng, SESSIONS)];
    int rc = w->store->session_work(tx, &a, &work, &n, err);
    for (int i = 0; rc == 0 && i < SESSIONS; i++) /* they come in no promised order */
        for (size_t k = 0; k < n; k++)
            if (str_eq(id_str(&work[k].id), id_str(&w->ids[i])))
                buf_printf(&w->out, "%s has work, inbox %d, owner %s\n", work[k].id.z,
                           work[k].inbox, work[k].owner.z);
    if (rc == 0)
        rc = w->store->session_get(tx, STR_NONE, id_str(id), &a, &row, err);
    if (rc)
        return rc == ERR_NOT_FOUND ? 0 : rc;
    say_row(w, &row);
    rc = say_log(tx, w, &a, row.key, err);
    if (rc == 0)
        rc = w->store->inbox_list(tx, row.key, below(&w->rng, 2) * below(&w->rng, 200), &a, &in, &n,
                                  err);
    for (size_t i = 0; rc == 0 && i < n; i++)
        buf_printf(&w->out, "%lld %s %.*s\n", (long long)in[i].number, in[i].event.id.z,
                   STR_ARG(in[i].event.body));
    if (rc == 0)
        rc = w->store->ledger_session(tx, id_str(id), &cost, &held, &requests, err);
    if (rc == 0)
        buf_printf(&w->out, "ledger %lld %lld %lld\n", (long long)cost, (long long)held,
                   (long long)requests);
    return rc;
}

static int ensure(struct store_tx *tx, void *arg, struct err *err)
{
    struct world *w = arg;
    return w->store->workspace_ensure(tx, STR("default"), 1, &w->ws, err);
}

static void world_init(struct world *w, const struct twin *store, uint64_t seed)
{
    *w = (struct world){.rng = {seed}, .store = store, .out = BUF_INIT(256 << 20)};
    for (int i = 0; i < SESSIONS; i++)
        snprintf(w->ids[i].z, sizeof w->ids[i].z, "sesn_%d", i);
}

typedef struct err run_fn(void *host, bool write,
                          int (*fn)(struct store_tx *, void *, struct err *), void *arg);

static void play(struct world *w, run_fn *run, void *host)
{
    struct err err = run(host, true, ensure, w);
    assert_int_equal(err.code, 0);
    for (w->step = 0; w->step < STEPS; w->step++) {
        err = run(host, true, write_step, w);
        say(w, "commit", err.code);
        err = run(host, false, read_step, w);
        say(w, "read", err.code);
    }
}

static struct err run_real(void *host, bool write,
                           int (*fn)(struct store_tx *, void *, struct err *), void *arg)
{
    return write ? fixture_write(host, fn, arg) : fixture_read(host, fn, arg);
}

struct double_job {
    struct store_job job;
    int (*fn)(struct store_tx *, void *, struct err *);
    void *arg;
};

static int run_fn_of(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct double_job *d = CONTAINER_OF(job, struct double_job, job);
    return d->fn(tx, d->arg, err);
}

static struct err run_double(void *host, bool write,
                             int (*fn)(struct store_tx *, void *, struct err *), void *arg)
{
    struct double_job d = {.job.fn = run_fn_of, .fn = fn, .arg = arg};
    struct err err;
    (void)simdb_run(host, &d.job, write, false, 0, &err);
    return err;
}

static void both_stores_answer_alike(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct fixture fx;
        struct world real, twin;
        char dir[64];
        fixture_mkdtemp(dir);
        fixture_open(&fx, dir);
        world_init(&real, &twin_real, seed);
        play(&real, run_real, &fx);
        fixture_close(&fx);
        fixture_rmtree(dir);
        struct simdb *db = simdb_new(NULL, NULL);
        world_init(&twin, &twin_double, seed);
        twin.ws = real.ws;
        simdb_workspace(db, real.ws);
        play(&twin, run_double, db);
        simdb_free(db);
        assert_true(real.out.len > 100000 && buf_ok(&real.out));
        size_t at = 0;
        while (at < real.out.len && at < twin.out.len && real.out.data[at] == twin.out.data[at])
            at++;
        if (at != real.out.len || at != twin.out.len)
            fail_msg("seed %d differs at byte %zu: real '%.200s', double '%.200s'", (int)seed, at,
                     real.out.data + (at > 60 ? at - 60 : 0),
                     twin.out.data + (at > 60 ? at - 60 : 0));
        buf_fini(&real.out);
        buf_fini(&twin.out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(both_stores_answer_alike)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
