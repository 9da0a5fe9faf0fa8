/* One server process: its engine, its way to the store, its death at any point. */
#include "sim.h"

#include "engine/actor.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- dying ---- */

static const char *const boundary_names[BOUNDARIES] = {
    "commit",
    "acknowledgement",
    "read",
    "model start",
    "model answer",
    "model cancel",
    "tool run",
    "tool result",
    "tool acknowledgement",
    "tool cancel",
    "timer",
    "frame",
    "checkpoint",
    "copy",
};

bool boundary(struct node *n, enum boundary at)
{
    struct sim *s = n->sim;
    if (n->dead)
        return false;
    if (s->chaos && rng_chance(&s->rng, 1, s->knobs.loss_den))
        disk_lose(&s->sessions[rng_below(&s->rng, s->knobs.sessions)]);
    if (!s->chaos || !rng_chance(&s->rng, 1, s->knobs.crash_den[at]))
        return true;
    char why[64];
    bool first = rng_chance(&s->rng, 1, 2);
    snprintf(why, sizeof why, "%s a %s", first ? "before" : "after", boundary_names[at]);
    if (first)
        node_crash(n, why);
    else
        n->dying_after = true;
    return first ? false : true;
}

void boundary_after(struct node *n, enum boundary at)
{
    if (!n->dying_after || n->dead)
        return;
    char why[64];
    snprintf(why, sizeof why, "after a %s", boundary_names[at]);
    node_crash(n, why);
}

struct job {
    struct list link;
    struct node *node;
    struct store_job *job;
    bool write, ran;
    struct err err;
};

static void run_job(struct sim *s, struct job *j)
{
    int fail = s->now_us < s->disk_full_until_us ? ERR_NO_SPACE : 0;
    bool again = rng_chance(&s->rng, 1, 20);
    (void)simdb_run(s->db, j->job, j->write, again, j->write ? fail : 0, &j->err);
    j->ran = true;
    s->commits += j->write;
    SIM_TRACE(s, "n%d %s: %s", j->node->index, j->write ? "commit" : "read",
              j->err.code ? j->err.msg : "ok");
}

static void restart(struct sim *s, void *arg)
{
    struct node *n = arg;
    if (s->nodes[n->index] == n)
        node_start(s, n->index);
}

void node_crash(struct node *n, const char *why)
{
    struct sim *s = n->sim;
    if (n->dead)
        return;
    SIM_TRACE(s, "n%d CRASH %s", n->index, why);
    if (sim_bug == BUG_EARLY_ACK && rng_chance(&s->rng, 1, 2))
        simdb_lose_last(s->db);
    n->dead = true;
    peers_died(n);
    s->crashes++;
    /* Some of what waited reached the disk; nobody will hear of it. */
    int64_t lucky = rng_chance(&s->rng, 1, 2) ? rng_below(&s->rng, 4) : 0;
    simdb_rules(s->db)->keep_inbox = sim_bug == BUG_INBOX_TWICE;
    list_for_each (it, &n->jobs) {
        struct job *j = LIST_ENTRY(it, struct job, link);
        if (j->write && !j->ran && lucky-- > 0)
            run_job(s, j);
    }
    simdb_rules(s->db)->keep_inbox = false;
    sim_after(s, rng_delay(&s->rng, 300 * SIM_MS, 30 * SIM_SECOND), restart, n);
}

static void closed(void *arg)
{
    *(bool *)arg = true;
}

void node_reap(struct node *n)
{
    bool done = false;
    hands_forget_node(n);
    disks_forget_node(n);
    models_die(n);
    timers_die(n);
    subs_die(n);
    engine_close(n->engine, closed, &done);
    struct list *it;
    while ((it = list_pop(&n->jobs))) {
        struct job *j = LIST_ENTRY(it, struct job, link);
        struct err gone = {.code = ERR_CANCELED, .msg = "the process is gone"};
        j->job->done(j->job, &gone);
    }
    if (!done)
        sim_fail(n->sim, "the engine did not close");
    engine_free(TAKE_PTR(n->engine));
}

bool node_has_actor(const struct node *n, const void *actor)
{
    size_t at = 0;
    const struct actor *a;
    while ((a = map_next(&n->engine->actors, &at, NULL)))
        if (a == actor)
            return true;
    return false;
}

bool node_actor_waits(const struct node *n, const void *actor)
{
    const struct actor *a = actor;
    return node_has_actor(n, actor) && a->state == ACTOR_READY && a->turn_live;
}

/* ---- the store's port ---- */

static void acknowledge(struct sim *s, void *arg);

static void write_batch(struct sim *s, void *arg)
{
    struct node *n = arg;
    if (n->dead || !boundary(n, AT_COMMIT))
        return;
    simdb_rules(s->db)->keep_inbox = sim_bug == BUG_INBOX_TWICE && n->dying_after;
    list_for_each (it, &n->jobs) {
        struct job *j = LIST_ENTRY(it, struct job, link);
        if (j->write && !j->ran)
            run_job(s, j);
    }
    simdb_rules(s->db)->keep_inbox = false;
    boundary_after(n, AT_COMMIT);
    if (!n->dead)
        sim_after(s, rng_delay(&s->rng, 200, 50 * SIM_MS), acknowledge, n);
}

static void begin_batch(struct node *n)
{
    struct sim *s = n->sim;
    n->writing = true;
    sim_after(s, rng_delay(&s->rng, s->knobs.commit_us, 2 * SIM_SECOND), write_batch, n);
}

static struct job *next_written(struct node *n)
{
    list_for_each (it, &n->jobs) {
        struct job *j = LIST_ENTRY(it, struct job, link);
        if (j->write)
            return j->ran ? j : NULL;
    }
    return NULL;
}

static bool writes_wait(struct node *n)
{
    list_for_each (it, &n->jobs)
        if (LIST_ENTRY(it, struct job, link)->write)
            return true;
    return false;
}

static void acknowledge(struct sim *s, void *arg)
{
    struct node *n = arg;
    struct job *j;
    (void)s;
    while (!n->dead && (j = next_written(n))) {
        if (!boundary(n, AT_ACK))
            return;
        list_remove(&j->link);
        j->job->done(j->job, &j->err);
        boundary_after(n, AT_ACK);
    }
    if (n->dead)
        return;
    n->writing = false;
    if (writes_wait(n))
        begin_batch(n);
}

static void deliver_read(struct sim *s, void *arg)
{
    struct job *j = arg;
    (void)s;
    if (j->node->dead)
        return;
    list_remove(&j->link);
    j->job->done(j->job, &j->err);
}

static void read_now(struct sim *s, void *arg)
{
    struct job *j = arg;
    if (j->node->dead || !boundary(j->node, AT_READ))
        return;
    run_job(s, j);
    if (s->chaos && rng_chance(&s->rng, s->knobs.disk_pct, 200))
        err_set(&j->err, ERR_OVERLOADED, "too many jobs are waiting");
    sim_after(s, rng_delay(&s->rng, 200, 20 * SIM_MS), deliver_read, j);
}

static void submit(struct node *n, struct store_job *job, bool write)
{
    struct sim *s = n->sim;
    struct job *j = sim_alloc(s, sizeof *j);
    *j = (struct job){.node = n, .job = job, .write = write};
    list_push(&n->jobs, &j->link);
    if (n->dead)
        return; /* reaping ends it */
    if (!write)
        sim_after(s, rng_delay(&s->rng, 300, 50 * SIM_MS), read_now, j);
    else if (!n->writing)
        begin_batch(n);
}

static void port_read(void *self, struct store_job *job)
{
    submit(self, job, false);
}

static void port_write(void *self, struct store_job *job)
{
    submit(self, job, true);
}

/* ---- starting ---- */

static void started(void *arg, const struct err *err)
{
    struct node *n = arg;
    n->started = err->code == 0;
    if (err->code && !n->dead) /* the server would end with an error; its supervisor starts it */
        node_crash(n, "because its start failed");
}

struct node *node_start(struct sim *s, int index)
{
    struct node *n = sim_alloc(s, sizeof *n), *old = s->nodes[index];
    *n = (struct node){.sim = s, .index = index, .life = old ? old->life + 1 : 0};
    list_init(&n->jobs);
    list_init(&n->timers);
    list_init(&n->calls);
    list_init(&n->subs);
    n->rng = rng_of(s->seed, UINT64_C(0x10000) + (uint64_t)n->life * 8 + (uint64_t)index);
    n->skew_us = rng_chance(&n->rng, 1, 4) ? rng_between(&n->rng, -3, 3) * SIM_SECOND : 0;
    snprintf(n->owner.z, sizeof n->owner.z, "own_%d_%d", index, n->life);
    n->store = (struct store_port){n, port_read, port_write};
    n->config = (struct engine_config){.store = n->store,
                                       .clock = clock_of(n),
                                       .rand = rand_of(n),
                                       .model = model_of(n),
                                       .sandbox = sandbox_of(n),
                                       .peers = peers_of(n)};
    if (rng_of(s->seed, 9).state % 2)
        n->config.judge_model = STR("sim-judge");
    n->engine = engine_new(&n->config);
    s->nodes[index] = n;
    SIM_TRACE(s, "n%d starts (life %d)", index, n->life);
    engine_start(n->engine, started, n);
    peers_born(n);
    return n;
}

struct node *some_node(struct sim *s)
{
    size_t first = (size_t)rng_below(&s->rng, s->knobs.nodes);
    for (size_t i = 0; i < COUNT_OF(s->nodes); i++) {
        struct node *n = s->nodes[(first + i) % COUNT_OF(s->nodes)];
        if (n && !n->dead)
            return n;
    }
    return NULL;
}
