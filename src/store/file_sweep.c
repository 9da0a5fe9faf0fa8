#include "store/file_sweep.h"

#include "base/clock.h"
#include "io/loop.h"
#include "store/store.h"

enum { EXPIRE_ROWS = 256, UNUSED_ROWS = 64, ARENA = 64 * 1024 * 1024 };

enum phase {
    SWEEP_IDLE,
    SWEEP_LOOK,
    SWEEP_EXPIRE,
    SWEEP_UNUSED,
    SWEEP_FORGET,
    SWEEP_WALK,
    SWEEP_STRAY,
    SWEEP_DISCARD,
};

struct file_sweep {
    struct file_sweep_config cfg;
    struct loop_timer timer;
    struct store_job job;
    struct loop_work work;
    enum phase phase, after_discard;
    bool again, closing;
    void (*closed)(void *arg);
    void *closed_arg;
    unsigned shard;        /* the next one to look through; BLOB_SHARDS: the walk is over */
    int64_t next_walk_ms;  /* on the loop's clock */
    struct arena arena;    /* of a step and the ones that act on what it found */
    struct blob_row *rows; /* unused ones */
    struct blob_id *names; /* unknown ones */
    struct blob_id *gone;  /* retired: their bytes are to be freed */
    size_t nrows, nnames, ngone;
    int64_t nexpired;
    bool due;
};

static void enter(struct file_sweep *s, enum phase phase);

/* ---- the steps, on store threads: each starts from its inputs ---- */

static int look(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct file_sweep *s = CONTAINER_OF(job, struct file_sweep, job);
    return tx_file_due(tx, clock_unix_us(), &s->due, err);
}

static int expire(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct file_sweep *s = CONTAINER_OF(job, struct file_sweep, job);
    return tx_file_expire(tx, clock_unix_us(), EXPIRE_ROWS, &s->nexpired, err);
}

static int unused(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct file_sweep *s = CONTAINER_OF(job, struct file_sweep, job);
    return tx_blob_unused(tx, UNUSED_ROWS, &s->arena, &s->rows, &s->nrows, err);
}

static int retire(struct file_sweep *s, const char *name, struct err *err)
{
    int rc = blob_retire(s->cfg.blobs, str_z(name), err);
    if (rc && rc != ERR_NOT_FOUND)
        return rc;
    str_copyz(s->gone[s->ngone++].z, sizeof s->gone[0].z, str_z(name));
    return 0;
}

static int forget(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct file_sweep *s = CONTAINER_OF(job, struct file_sweep, job);
    int rc = 0;
    s->ngone = 0;
    for (size_t i = 0; rc == 0 && i < s->nrows; i++) {
        bool gone;
        rc = tx_blob_forget(tx, &s->rows[i], &gone, err);
        if (rc == 0 && gone)
            rc = retire(s, s->rows[i].name, err);
    }
    return rc;
}

/* A blob of which the tables know nothing was left by a crash, or is about to be known: which of
 * both is seen by the write transaction that follows. */
static int walk(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct file_sweep *s = CONTAINER_OF(job, struct file_sweep, job);
    size_t n = 0;
    int rc = blob_list(s->cfg.blobs, s->shard, &s->arena, &s->names, &n, err);
    s->nnames = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        bool known = true;
        rc = tx_blob_known(tx, str_z(s->names[i].z), &known, err);
        if (!known)
            s->names[s->nnames++] = s->names[i];
    }
    return rc;
}

static int stray(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct file_sweep *s = CONTAINER_OF(job, struct file_sweep, job);
    int rc = 0;
    s->ngone = 0;
    for (size_t i = 0; rc == 0 && i < s->nnames; i++) {
        bool known = true;
        rc = tx_blob_known(tx, str_z(s->names[i].z), &known, err);
        if (rc == 0 && !known)
            rc = retire(s, s->names[i].z, err);
    }
    return rc;
}

/* ---- the loop's side ---- */

static void freed(struct loop_timer *t)
{
    struct file_sweep *s = CONTAINER_OF(t, struct file_sweep, timer);
    void (*closed)(void *) = s->closed;
    void *arg = s->closed_arg;
    arena_fini(&s->arena);
    mem_free(s);
    closed(arg);
}

static void on_timer(struct loop_timer *t)
{
    enter(CONTAINER_OF(t, struct file_sweep, timer), SWEEP_LOOK);
}

static void rest(struct file_sweep *s)
{
    s->phase = SWEEP_IDLE;
    arena_reset(&s->arena);
    loop_timer_start(&s->timer, s->again ? 0 : s->cfg.interval_ms, on_timer);
    s->again = false;
    if (s->cfg.rested)
        s->cfg.rested(s->cfg.arg);
}

static enum phase next_walk(struct file_sweep *s)
{
    int64_t now = loop_now_ms(s->cfg.loop);
    if (s->shard == BLOB_SHARDS && now >= s->next_walk_ms) {
        s->shard = 0;
        s->next_walk_ms = now + SWEEP_WALK_MS;
    }
    return s->shard < BLOB_SHARDS ? SWEEP_WALK : SWEEP_IDLE;
}

static enum phase after(struct file_sweep *s)
{
    switch (s->phase) {
    case SWEEP_LOOK: return s->due ? SWEEP_EXPIRE : SWEEP_UNUSED;
    case SWEEP_EXPIRE: return s->nexpired >= EXPIRE_ROWS ? SWEEP_EXPIRE : SWEEP_UNUSED;
    case SWEEP_UNUSED: return s->nrows ? SWEEP_FORGET : next_walk(s);
    case SWEEP_WALK: s->shard++; return s->nnames ? SWEEP_STRAY : next_walk(s);
    case SWEEP_FORGET: s->after_discard = SWEEP_UNUSED; return SWEEP_DISCARD;
    case SWEEP_STRAY: s->after_discard = next_walk(s); return SWEEP_DISCARD;
    case SWEEP_DISCARD: return s->after_discard;
    case SWEEP_IDLE: break;
    }
    return SWEEP_IDLE;
}

static void stepped(struct store_job *job, const struct err *err)
{
    struct file_sweep *s = CONTAINER_OF(job, struct file_sweep, job);
    if (err->code && s->cfg.trouble && !s->closing)
        s->cfg.trouble(s->cfg.arg, err);
    enter(s, err->code ? SWEEP_IDLE : after(s));
}

static void discard(struct loop_work *w)
{
    struct file_sweep *s = CONTAINER_OF(w, struct file_sweep, work);
    for (size_t i = 0; i < s->ngone; i++)
        blob_discard(s->cfg.blobs, str_z(s->gone[i].z));
}

static void discarded(struct loop_work *w)
{
    struct file_sweep *s = CONTAINER_OF(w, struct file_sweep, work);
    enter(s, after(s));
}

static void submit(struct file_sweep *s, void (*port)(void *, struct store_job *),
                   int (*fn)(struct store_tx *, struct store_job *, struct err *))
{
    s->job = (struct store_job){.fn = fn, .done = stepped};
    port(s->cfg.store.self, &s->job);
}

/* A write that acts on `n` names found before it. */
static void act(struct file_sweep *s, size_t n,
                int (*fn)(struct store_tx *, struct store_job *, struct err *))
{
    s->gone = ARENA_ARRAY(&s->arena, struct blob_id, n);
    if (s->gone) {
        submit(s, s->cfg.store.write, fn);
        return;
    }
    rest(s); /* a directory beyond all measure: what it holds must wait for a person */
}

static void enter(struct file_sweep *s, enum phase phase)
{
    const struct store_port *port = &s->cfg.store;
    if (s->closing) {
        loop_timer_close(&s->timer, freed);
        return;
    }
    s->phase = phase;
    switch (phase) {
    case SWEEP_IDLE: rest(s); break;
    case SWEEP_LOOK: submit(s, port->read, look); break;
    case SWEEP_EXPIRE: submit(s, port->write, expire); break;
    case SWEEP_UNUSED:
        arena_reset(&s->arena);
        submit(s, port->read, unused);
        break;
    case SWEEP_FORGET: act(s, s->nrows, forget); break;
    case SWEEP_WALK:
        arena_reset(&s->arena);
        submit(s, port->read, walk);
        break;
    case SWEEP_STRAY: act(s, s->nnames, stray); break;
    case SWEEP_DISCARD: loop_work(s->cfg.loop, &s->work, discard, discarded); break;
    }
}

struct file_sweep *file_sweep_start(const struct file_sweep_config *cfg)
{
    struct file_sweep *s = mem_zalloc(sizeof *s);
    s->cfg = *cfg;
    if (s->cfg.interval_ms == 0)
        s->cfg.interval_ms = SWEEP_MS;
    s->next_walk_ms = loop_now_ms(cfg->loop) + SWEEP_WALK_MS;
    arena_init(&s->arena, ARENA);
    loop_timer_init(cfg->loop, &s->timer);
    loop_timer_start(&s->timer, 0, on_timer);
    return s;
}

void file_sweep_kick(struct file_sweep *s)
{
    if (s->phase == SWEEP_IDLE)
        loop_timer_start(&s->timer, 0, on_timer);
    else
        s->again = true;
}

void file_sweep_close(struct file_sweep *s, void (*closed)(void *arg), void *arg)
{
    s->closing = true;
    s->closed = closed;
    s->closed_arg = arg;
    if (s->phase == SWEEP_IDLE)
        loop_timer_close(&s->timer, freed);
}
