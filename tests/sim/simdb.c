#include "simdb.h"

#include "base/map.h"

#include <inttypes.h>

enum { DB_BYTES = 256 << 20 };

enum change_kind {
    CHANGE_INSERT,
    CHANGE_RECEIVE,
    CHANGE_APPEND,
    CHANGE_UPDATE,
    CHANGE_KEEP,
    CHANGE_DELETE
};

struct change {
    enum change_kind kind;
    struct db_session *session, before;
    const struct session_append *append;
    struct inbox_row inbox;
    struct checkpoint_row checkpoint;
};

struct meta {
    const char *key;
    struct str value;
};

struct simdb {
    struct arena arena;
    struct db_session **sessions;
    size_t nsessions, cap;
    struct map by_id;
    int64_t last_key, last_inbox;
    struct ledger_row *ledger;
    size_t nledger, ledger_cap;
    struct meta meta[16];
    size_t nmeta;
    struct id workspace;
    const struct simdb_hooks *hooks;
    void *arg;
    struct simdb_rules rules;
    struct change *last; /* of the last write transaction */
    size_t nlast;
};

struct store_tx {
    struct simdb *db;
    bool write;
    /* to take everything back */
    int64_t last_key, last_inbox;
    size_t nsessions, nledger, nmeta;
    struct id workspace;
    struct change *changes;
    size_t nchanges, cap;
};

struct simdb *simdb_new(const struct simdb_hooks *hooks, void *arg)
{
    struct simdb *db = mem_zalloc(sizeof *db);
    arena_init(&db->arena, DB_BYTES);
    db->hooks = hooks;
    db->arg = arg;
    return db;
}

void simdb_free(struct simdb *db)
{
    if (!db)
        return;
    map_fini(&db->by_id);
    mem_free(db->sessions);
    mem_free(db->ledger);
    mem_free(db->last);
    arena_fini(&db->arena);
    mem_free(db);
}

void simdb_workspace(struct simdb *db, struct id ws)
{
    db->workspace = ws;
}

struct simdb_rules *simdb_rules(struct simdb *db)
{
    return &db->rules;
}

struct db_session *simdb_find(struct simdb *db, struct str id)
{
    struct db_session *s = map_get(&db->by_id, id);
    return s && !s->gone ? s : NULL;
}

/* ---- transactions ---- */

static struct change *note(struct store_tx *tx, enum change_kind kind, struct db_session *s)
{
    if (tx->nchanges == tx->cap) {
        tx->cap = tx->cap ? tx->cap * 2 : 8;
        tx->changes = mem_realloc(tx->changes, tx->cap * sizeof *tx->changes);
    }
    struct change *c = &tx->changes[tx->nchanges++];
    *c = (struct change){.kind = kind, .session = s, .before = *s};
    return c;
}

static void begin(struct store_tx *tx, struct simdb *db, bool write)
{
    *tx = (struct store_tx){.db = db,
                            .write = write,
                            .last_key = db->last_key,
                            .last_inbox = db->last_inbox,
                            .nsessions = db->nsessions,
                            .nledger = db->nledger,
                            .nmeta = db->nmeta,
                            .workspace = db->workspace};
}

static void rollback(struct store_tx *tx)
{
    struct simdb *db = tx->db;
    while (tx->nchanges) {
        struct change *c = &tx->changes[--tx->nchanges];
        void *watch = c->session->watch;
        *c->session = c->before;
        c->session->watch = watch;
    }
    while (db->nsessions > tx->nsessions)
        map_remove(&db->by_id, id_str(&db->sessions[--db->nsessions]->row.id));
    db->last_key = tx->last_key;
    db->last_inbox = tx->last_inbox;
    db->nledger = tx->nledger;
    db->nmeta = tx->nmeta;
    db->workspace = tx->workspace;
}

static void tell(struct store_tx *tx)
{
    const struct simdb_hooks *h = tx->db->hooks;
    void *arg = tx->db->arg;
    for (size_t i = 0; h && i < tx->nchanges; i++) {
        const struct change *c = &tx->changes[i];
        switch (c->kind) {
        case CHANGE_INSERT: h->inserted(arg, c->session); break;
        case CHANGE_RECEIVE: h->received(arg, c->session, &c->inbox); break;
        case CHANGE_APPEND: h->appended(arg, c->session, c->append, &c->before); break;
        case CHANGE_UPDATE: h->updated(arg, c->session); break;
        case CHANGE_KEEP: h->kept(arg, c->session, &c->checkpoint); break;
        case CHANGE_DELETE: h->deleted(arg, c->session); break;
        }
    }
}

int simdb_run(struct simdb *db, struct store_job *job, bool write, bool again, int fail,
              struct err *err)
{
    struct store_tx tx;
    int rc = 0;
    *err = (struct err){0};
    for (int turn = again ? 0 : 1; turn < 2; turn++) {
        begin(&tx, db, write);
        rc = job->fn(&tx, job, err);
        if (rc == 0 && fail && turn == 1)
            rc = err_set(err, fail, "the disk is full");
        if (rc == 0)
            *err = (struct err){0};
        if (rc || turn == 0)
            rollback(&tx);
        else
            tell(&tx);
        if (rc == 0 && turn == 1 && write) {
            mem_free(db->last);
            db->last = TAKE_PTR(tx.changes);
            db->nlast = tx.nchanges;
        }
        mem_free(tx.changes);
    }
    return rc;
}

void simdb_lose_last(struct simdb *db)
{
    while (db->nlast) {
        const struct change *c = &db->last[--db->nlast];
        if (c->kind == CHANGE_APPEND || c->kind == CHANGE_RECEIVE)
            *c->session = c->before;
    }
}

static int writable(const struct store_tx *tx, struct err *err)
{
    return tx->write ? 0 : err_set(err, ERR_READ_ONLY, "a write inside a read");
}

/* ---- helpers ---- */

static struct str keep(struct store_tx *tx, struct str s)
{
    return str_some(s) ? arena_str(&tx->db->arena, s) : STR_NONE;
}

static struct str copy(struct arena *a, struct str s)
{
    return str_some(s) ? arena_str(a, s) : STR_NONE;
}

static struct str keep_or(struct store_tx *tx, struct str s, struct str fallback)
{
    return keep(tx, str_some(s) ? s : fallback);
}

static struct db_session *by_key(const struct simdb *db, int64_t key)
{
    for (size_t i = 0; i < db->nsessions; i++)
        if (db->sessions[i]->row.key == key && !db->sessions[i]->gone)
            return db->sessions[i];
    return NULL;
}

static int not_there(struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "the session does not exist any more");
}

static int arena_ok(const struct arena *a, struct err *err)
{
    return a->failed ? err_set(err, ERR_LIMIT, "the result is too large") : 0;
}

/* ---- small things ---- */

int tx_workspace_ensure(struct store_tx *tx, struct str name, int64_t now_us, struct id *out,
                        struct err *err)
{
    (void)name;
    (void)now_us;
    if (!tx->db->workspace.z[0] && writable(tx, err))
        return err->code;
    if (!tx->db->workspace.z[0])
        tx->db->workspace = id_from(STR("wrkspc_sim"));
    *out = tx->db->workspace;
    return 0;
}

int tx_meta_get(struct store_tx *tx, const char *key, struct arena *a, struct str *out,
                struct err *err)
{
    *out = STR_NONE;
    for (size_t i = 0; i < tx->db->nmeta; i++)
        if (strcmp(tx->db->meta[i].key, key) == 0)
            *out = copy(a, tx->db->meta[i].value);
    return arena_ok(a, err);
}

int tx_meta_put(struct store_tx *tx, const char *key, struct str value, struct err *err)
{
    if (writable(tx, err))
        return err->code;
    if (tx->db->nmeta == COUNT_OF(tx->db->meta))
        return err_set(err, ERR_LIMIT, "too many values");
    tx->db->meta[tx->db->nmeta++] =
        (struct meta){arena_str(&tx->db->arena, str_z(key)).ptr, keep(tx, value)};
    return 0;
}

int tx_ledger_add(struct store_tx *tx, const struct ledger_row *row, struct err *err)
{
    struct simdb *db = tx->db;
    if (writable(tx, err))
        return err->code;
    if (db->nledger == db->ledger_cap) {
        db->ledger_cap = db->ledger_cap ? db->ledger_cap * 2 : 64;
        db->ledger = mem_realloc(db->ledger, db->ledger_cap * sizeof *db->ledger);
    }
    struct ledger_row *r = &db->ledger[db->nledger++];
    *r = *row;
    r->model = keep(tx, row->model);
    return 0;
}

int tx_ledger_session(struct store_tx *tx, struct str session_id, int64_t *cost_microusd,
                      int64_t *held_microusd, int64_t *requests, struct err *err)
{
    (void)err;
    *cost_microusd = *held_microusd = *requests = 0;
    for (size_t i = 0; i < tx->db->nledger; i++) {
        const struct ledger_row *r = &tx->db->ledger[i];
        if (!str_eq(id_str(&r->session_id), session_id))
            continue;
        *cost_microusd += r->usage.cost_microusd;
        *held_microusd += r->held_microusd;
        ++*requests;
    }
    return 0;
}

/* ---- sessions ---- */

int tx_session_insert(struct store_tx *tx, struct session_row *row, struct err *err)
{
    struct simdb *db = tx->db;
    if (writable(tx, err))
        return err->code;
    if (map_get(&db->by_id, id_str(&row->id)) && simdb_find(db, id_str(&row->id)))
        return err_set(err, ERR_EXISTS, "session '%s' exists already", row->id.z);
    if (!str_eq(id_str(&row->workspace_id), id_str(&db->workspace)))
        return err_set(err, ERR_NOT_FOUND, "no workspace '%s'", row->workspace_id.z);
    struct db_session *s = ARENA_NEW(&db->arena, struct db_session);
    s->row = *row;
    s->row.key = ++db->last_key;
    s->row.stop_reason = keep(tx, row->stop_reason);
    s->row.title = keep(tx, row->title);
    s->row.metadata = keep_or(tx, row->metadata, STR("{}"));
    s->row.agent = keep_or(tx, row->agent, STR("{}"));
    s->row.environment = keep_or(tx, row->environment, STR("{}"));
    s->row.limits = keep(tx, row->limits);
    if (db->nsessions == db->cap) {
        db->cap = db->cap ? db->cap * 2 : 16;
        db->sessions = mem_realloc(db->sessions, db->cap * sizeof *db->sessions);
    }
    db->sessions[db->nsessions++] = s;
    map_put(&db->by_id, id_str(&s->row.id), s);
    note(tx, CHANGE_INSERT, s);
    row->key = s->row.key;
    return 0;
}

int tx_session_get(struct store_tx *tx, struct str ws, struct str id, struct arena *a,
                   struct session_row *out, struct err *err)
{
    const struct db_session *s = simdb_find(tx->db, id);
    if (!s || (str_some(ws) && !str_eq(ws, id_str(&s->row.workspace_id))))
        return err_set(err, ERR_NOT_FOUND, "no session '" STR_FMT "'",
                       STR_ARG(str_take(id, ID_MAX)));
    *out = s->row;
    out->inbox = s->waiting > 0;
    out->stop_reason = copy(a, s->row.stop_reason);
    out->title = copy(a, s->row.title);
    out->metadata = copy(a, s->row.metadata);
    out->agent = copy(a, s->row.agent);
    out->environment = copy(a, s->row.environment);
    out->limits = copy(a, s->row.limits);
    out->outcomes = copy(a, s->row.outcomes);
    return arena_ok(a, err);
}

static bool active(const struct db_session *s)
{
    return !s->gone && (s->row.status == SESSION_RUNNING || s->row.status == SESSION_RESCHEDULING ||
                        s->waiting > 0 || s->row.checkpoint_due > 0);
}

int tx_session_active(struct store_tx *tx, struct arena *a, struct id **out, size_t *n,
                      struct err *err)
{
    struct id *ids = ARENA_ARRAY(a, struct id, tx->db->nsessions + 1);
    size_t found = 0;
    for (size_t i = 0; ids && i < tx->db->nsessions; i++) {
        const struct db_session *s = tx->db->sessions[i];
        if (active(s))
            ids[found++] = s->row.id;
    }
    *out = ids;
    *n = found;
    return arena_ok(a, err);
}

int tx_session_take(struct store_tx *tx, int64_t key, int64_t *epoch, struct err *err)
{
    if (writable(tx, err))
        return err->code;
    struct db_session *s = by_key(tx->db, key);
    if (!s)
        return not_there(err);
    note(tx, CHANGE_UPDATE, s);
    *epoch = ++s->row.epoch;
    return 0;
}

int tx_session_own(struct store_tx *tx, int64_t key, struct str me, struct str dead, int64_t *epoch,
                   struct err *err)
{
    if (writable(tx, err))
        return err->code;
    struct db_session *s = by_key(tx->db, key);
    struct str owner = s ? id_str(&s->row.owner) : STR_NONE;
    if (!s || (owner.len && !str_eq(owner, me) && !str_eq(owner, dead)))
        return err_set(err, ERR_CONFLICT, "another server process has the session, or it is gone");
    note(tx, CHANGE_UPDATE, s);
    s->row.owner = id_from(me);
    *epoch = ++s->row.epoch;
    return 0;
}

int tx_session_owner(struct store_tx *tx, struct str ws, struct str id, struct id *owner,
                     struct err *err)
{
    const struct db_session *s = simdb_find(tx->db, id);
    if (!s || (str_some(ws) && !str_eq(ws, id_str(&s->row.workspace_id))))
        return err_set(err, ERR_NOT_FOUND, "no session '" STR_FMT "'",
                       STR_ARG(str_take(id, ID_MAX)));
    *owner = s->row.owner;
    return 0;
}

int tx_session_work(struct store_tx *tx, struct arena *a, struct session_work **out, size_t *n,
                    struct err *err)
{
    struct session_work *work = ARENA_ARRAY(a, struct session_work, tx->db->nsessions + 1);
    size_t found = 0;
    for (size_t i = 0; work && i < tx->db->nsessions; i++) {
        const struct db_session *s = tx->db->sessions[i];
        if (active(s) && (s->row.status != SESSION_TERMINATED || s->row.checkpoint_due > 0))
            work[found++] = (struct session_work){s->row.id, s->row.owner, s->waiting > 0};
    }
    *out = work;
    *n = found;
    return arena_ok(a, err);
}

int tx_session_update(struct store_tx *tx, const struct session_row *row, struct err *err)
{
    if (writable(tx, err))
        return err->code;
    struct db_session *s = by_key(tx->db, row->key);
    if (!s)
        return err_set(err, ERR_NOT_FOUND, "no session '%s'", row->id.z);
    note(tx, CHANGE_UPDATE, s);
    s->row.archived_us = row->archived_us;
    s->row.updated_us = row->updated_us;
    s->row.budget_microusd = row->budget_microusd;
    s->row.title = keep(tx, row->title);
    s->row.metadata = keep_or(tx, row->metadata, STR("{}"));
    s->row.agent = keep_or(tx, row->agent, STR("{}"));
    s->row.limits = keep(tx, row->limits);
    return 0;
}

int tx_session_delete(struct store_tx *tx, int64_t key, struct err *err)
{
    if (writable(tx, err))
        return err->code;
    struct db_session *s = by_key(tx->db, key);
    if (!s)
        return not_there(err);
    note(tx, CHANGE_DELETE, s);
    s->gone = true;
    s->ninbox = 0;
    s->waiting = 0;
    return 0;
}

/* ---- the inbox ---- */

int tx_inbox_add(struct store_tx *tx, int64_t session_key, struct inbox_row *row, struct err *err)
{
    if (writable(tx, err))
        return err->code;
    struct db_session *s = by_key(tx->db, session_key);
    if (!s)
        return not_there(err);
    struct change *c = note(tx, CHANGE_RECEIVE, s);
    struct inbox_row *rows = ARENA_ARRAY(&tx->db->arena, struct inbox_row, s->ninbox + 1);
    if (s->ninbox)
        memcpy(rows, s->inbox, s->ninbox * sizeof *rows);
    struct inbox_row *in = &rows[s->ninbox];
    in->number = ++tx->db->last_inbox;
    in->event = (struct event){.type = row->event.type,
                               .id = row->event.id,
                               .body = keep(tx, row->event.body),
                               .transcript = keep(tx, row->event.transcript)};
    s->inbox = rows;
    s->ninbox++;
    s->waiting++;
    row->number = in->number;
    c->inbox = *in;
    return 0;
}

int tx_inbox_list(struct store_tx *tx, int64_t session_key, int64_t after, struct arena *a,
                  struct inbox_row **out, size_t *n, struct err *err)
{
    const struct db_session *s = by_key(tx->db, session_key);
    struct inbox_row *rows = ARENA_ARRAY(a, struct inbox_row, (s ? s->ninbox : 0) + 1);
    size_t found = 0;
    for (size_t i = 0; s && rows && i < s->ninbox; i++) {
        if (s->inbox[i].number <= after)
            continue;
        struct inbox_row *r = &rows[found++];
        *r = s->inbox[i];
        r->event.body = copy(a, r->event.body);
        r->event.transcript = copy(a, r->event.transcript);
    }
    *out = rows;
    *n = found;
    return arena_ok(a, err);
}

/* ---- the log ---- */

static int check_order(const struct session_append *ap, int64_t *last_us, struct err *err)
{
    *last_us = 0;
    for (size_t i = 0; i < ap->nevents; i++) {
        const struct event *e = &ap->events[i];
        if (e->seq != ap->base_seq + 1 + (int64_t)i || e->processed_us < *last_us ||
            e->processed_us <= 0)
            return err_set(err, ERR_INTERNAL, "events to append are out of order at seq %" PRId64,
                           e->seq);
        *last_us = e->processed_us;
    }
    return 0;
}

static void push_event(struct store_tx *tx, struct db_session *s, const struct event *e)
{
    if (s->nevents == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 32;
        struct event *more = ARENA_ARRAY(&tx->db->arena, struct event, cap);
        if (s->nevents)
            memcpy(more, s->events, s->nevents * sizeof *more);
        s->events = more;
        s->cap = cap;
    }
    struct event *slot = &s->events[s->nevents++];
    *slot = *e;
    slot->body = keep(tx, e->body);
    slot->transcript = keep(tx, e->transcript);
}

static int drop_inbox(struct store_tx *tx, struct db_session *s, const struct session_append *ap,
                      struct err *err)
{
    struct inbox_row *rows = ARENA_ARRAY(&tx->db->arena, struct inbox_row, s->ninbox + 1);
    size_t n = s->ninbox;
    if (n)
        memcpy(rows, s->inbox, n * sizeof *rows);
    for (size_t i = 0; i < ap->ninbox_done; i++) {
        size_t at = 0;
        while (at < n && rows[at].number != ap->inbox_done[i])
            at++;
        if (at == n)
            return err_set(err, ERR_CONFLICT,
                           "inbox entry %" PRId64 " does not wait in this session any more",
                           ap->inbox_done[i]);
        if (tx->db->rules.keep_inbox)
            continue;
        memmove(&rows[at], &rows[at + 1], (n - at - 1) * sizeof *rows);
        n--;
    }
    s->inbox = rows;
    s->ninbox = n;
    return 0;
}

static void move_head(struct store_tx *tx, struct db_session *s, const struct session_append *ap,
                      int64_t last_us)
{
    struct session_row *r = &s->row;
    r->last_seq = ap->base_seq + (int64_t)ap->nevents;
    s->waiting -= tx->db->rules.keep_inbox ? 0 : (int64_t)ap->ninbox_done;
    if (last_us > r->last_processed_us)
        r->last_processed_us = last_us;
    r->has_sandbox = r->has_sandbox || (ap->set_sandbox && !tx->db->rules.no_mark);
    if (ap->checkpoint_due && !tx->db->rules.no_due)
        r->checkpoint_due = ap->checkpoint_due;
    if (str_some(ap->outcomes))
        r->outcomes = keep(tx, ap->outcomes);
    if (!ap->set_status)
        return;
    r->status = ap->status;
    r->stop_reason = keep(tx, ap->stop_reason);
    r->updated_us = ap->updated_us;
    r->usage = ap->usage;
}

int tx_session_outcomes_read(struct store_tx *tx, int64_t key, struct buf *out, struct err *err)
{
    const struct db_session *s = by_key(tx->db, key);
    (void)err;
    if (s)
        buf_str(out, s->row.outcomes);
    return 0;
}

int tx_session_append(struct store_tx *tx, const struct session_append *ap, struct err *err)
{
    int64_t last_us;
    if (writable(tx, err))
        return err->code;
    int rc = check_order(ap, &last_us, err);
    if (rc)
        return rc;
    struct db_session *s = by_key(tx->db, ap->key);
    if (!s)
        return not_there(err);
    if (!tx->db->rules.no_fence && (s->row.epoch != ap->epoch || s->row.last_seq != ap->base_seq))
        return err_set(err, ERR_FENCED, "the session is at epoch %" PRId64 ", event %" PRId64,
                       s->row.epoch, s->row.last_seq);
    note(tx, CHANGE_APPEND, s)->append = ap;
    move_head(tx, s, ap, last_us);
    for (size_t i = 0; i < ap->nevents; i++)
        push_event(tx, s, &ap->events[i]);
    for (size_t i = 0; rc == 0 && i < ap->nledger; i++)
        rc = tx_ledger_add(tx, &ap->ledger[i], err);
    return rc ? rc : drop_inbox(tx, s, ap, err);
}

/* ---- checkpoints ---- */

int tx_checkpoint_give_up(struct store_tx *tx, struct str session_id, int64_t seq, struct err *err)
{
    struct db_session *s = simdb_find(tx->db, session_id);
    if (writable(tx, err))
        return err->code;
    if (!s || s->row.checkpoint_due > seq)
        return 0;
    note(tx, CHANGE_UPDATE, s);
    s->row.checkpoint_due = 0;
    return 0;
}

int tx_checkpoint_put(struct store_tx *tx, struct str session_id, const struct checkpoint_row *row,
                      const struct checkpoint_blob *blobs, size_t nblobs, struct err *err)
{
    struct db_session *s = simdb_find(tx->db, session_id);
    (void)blobs;
    (void)nblobs;
    if (writable(tx, err))
        return err->code;
    if (!s)
        return not_there(err);
    note(tx, CHANGE_KEEP, s)->checkpoint = *row;
    struct checkpoint_row *rows =
        ARENA_ARRAY(&tx->db->arena, struct checkpoint_row, s->ncheckpoints + 1);
    size_t n = 0;
    while (n < s->ncheckpoints && s->checkpoints[n].seq < row->seq) {
        rows[n] = s->checkpoints[n];
        n++;
    }
    size_t rest = n + (n < s->ncheckpoints && s->checkpoints[n].seq == row->seq);
    rows[n] = *row;
    rows[n++].manifest = keep(tx, row->manifest);
    for (; rest < s->ncheckpoints; rest++)
        rows[n++] = s->checkpoints[rest];
    s->checkpoints = rows;
    s->ncheckpoints = n;
    if (s->row.checkpoint_due <= row->seq)
        s->row.checkpoint_due = 0;
    return 0;
}

/* ---- events ---- */

static bool passes(const struct event *e, const struct event_filter *f)
{
    return e->seq > f->after_seq && (f->before_seq == 0 || e->seq < f->before_seq) &&
           (f->types == 0 || (f->types >> e->type & 1)) &&
           (f->gt_us == 0 || e->processed_us > f->gt_us) &&
           (f->gte_us == 0 || e->processed_us >= f->gte_us) &&
           (f->lt_us == 0 || e->processed_us < f->lt_us) &&
           (f->lte_us == 0 || e->processed_us <= f->lte_us);
}

int tx_event_last_compaction(struct store_tx *tx, int64_t session_key, int64_t *seq,
                             struct err *err)
{
    const struct db_session *s = by_key(tx->db, session_key);
    (void)err;
    *seq = 0;
    for (size_t i = 0; s && i < s->nevents; i++)
        if (s->events[i].type == EVENT_AGENT_THREAD_CONTEXT_COMPACTED)
            *seq = s->events[i].seq;
    return 0;
}

int tx_event_list(struct store_tx *tx, int64_t session_key, const struct event_filter *f,
                  struct arena *a, struct event **out, size_t *n, bool *more, struct err *err)
{
    const struct db_session *s = by_key(tx->db, session_key);
    size_t total = s ? s->nevents : 0, found = 0;
    struct event *events = ARENA_ARRAY(a, struct event, total + 1);
    bool rest = false;
    for (size_t i = 0; events && i < total && !rest; i++) {
        const struct event *e = &s->events[f->desc ? total - 1 - i : i];
        if (!passes(e, f))
            continue;
        rest = f->limit > 0 && found == (size_t)f->limit;
        if (rest)
            break;
        struct event *to = &events[found++];
        *to = *e;
        to->body = copy(a, e->body);
        to->transcript = f->transcript ? copy(a, e->transcript) : STR_NONE;
    }
    int rc = arena_ok(a, err);
    if (rc)
        return rc;
    *out = events;
    *n = found;
    *more = rest;
    return 0;
}

int tx_event_seq(struct store_tx *tx, int64_t session_key, struct str event_id, int64_t *seq,
                 struct err *err)
{
    const struct db_session *s = by_key(tx->db, session_key);
    for (size_t i = s ? s->nevents : 0; i > 0; i--)
        if (str_eq(id_str(&s->events[i - 1].id), event_id)) {
            *seq = s->events[i - 1].seq;
            return 0;
        }
    return err_set(err, ERR_NOT_FOUND, "no event '" STR_FMT "' in this session",
                   STR_ARG(str_take(event_id, ID_MAX)));
}
