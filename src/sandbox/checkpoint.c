/* A checkpoint:
 *
 *   find the one before (store) --> snapshot (worker) --> refer to it (store) --> let go (worker)
 *                       \                  \
 *                        failed, nothing there --> give up (store)
 *
 * Calls wait until the row is durable, not only until the snapshot is taken: a server that dies
 * between both takes it again at its next start, and must find the same files. */
#include "sandbox/checkpoint.h"

#include "base/clock.h"
#include "base/log.h"
#include "sandbox/box.h"
#include "sandbox/restore.h"
#include "sandbox/snapshot.h"
#include "store/checkpoints.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum { CHECKPOINT_ARENA = 64 << 20 };
/* Looks at a tree that moves: at most, with the same seen, and that after it became smaller. */
enum { LOOKS = 4, LOOKS_SAME = 2, LOOKS_FELL = 4, LOOK_US = 5 * 1000 * 1000 };

struct wish {
    struct list node;
    int64_t seq;
    bool turn_end;
    void (*done)(void *arg);
    void *arg;
};

struct checkpoint {
    struct sandboxes *s;
    struct box *box; /* NULL: gone */
    struct id id;
    struct list wishes;               /* in the order of their events */
    struct list more;                 /* of a box that is gone: to be kept behind these */
    char previous[BLOB_NAME_LEN + 1]; /* empty: there is none */
    bool empty;                       /* the session has no files */
    bool taken, kept;
    struct snapshot snap;
    struct store_job job;
    struct loop_work work;
    struct err err;
};

/* ---- what is wanted ---- */

void checkpoint_init(struct box *b)
{
    list_init(&b->files.wanted);
    b->files.note = BUF_INIT(LIMIT_TOOL_NOTE);
}

void checkpoint_fini(struct box *b)
{
    buf_fini(&b->files.note);
}

/* Calls that have been given and not answered may change files while they are looked at. So may
 * those that an earlier server gave to a hand that lives on. */
static bool calls_run(const struct box *b)
{
    list_for_each (it, &b->calls) {
        const struct box_call *c = LIST_ENTRY(it, struct box_call, node);
        if (c->sent || (!c->first && c->existed))
            return true;
    }
    return false;
}

static bool has_wish(const struct list *wishes, int64_t seq)
{
    list_for_each (it, wishes)
        if (LIST_ENTRY(it, struct wish, node)->seq == seq)
            return true;
    return false;
}

void checkpoint_ask(struct box *b, int64_t seq, bool turn_end, void (*done)(void *arg), void *arg)
{
    /* Whoever takes the session up again asks for what is due, perhaps a second time. */
    const struct checkpoint *k = b->files.taking;
    if (!done && (has_wish(&b->files.wanted, seq) || (k && has_wish(&k->wishes, seq))))
        return;
    struct wish *w = mem_zalloc(sizeof *w);
    w->seq = seq;
    w->turn_end = turn_end && !calls_run(b);
    w->done = done;
    w->arg = arg;
    list_push(&b->files.wanted, &w->node);
    box_kick(b);
}

bool checkpoint_busy(const struct box *b)
{
    return b->files.taking || !list_empty(&b->files.wanted);
}

static void drop_wishes(struct list *all)
{
    struct list *n;
    while ((n = list_pop(all))) {
        struct wish *w = LIST_ENTRY(n, struct wish, node);
        if (w->done)
            w->done(w->arg);
        mem_free(w);
    }
}

void checkpoint_drop(struct box *b)
{
    drop_wishes(&b->files.wanted);
}

bool files_are_gone(const struct box *b)
{
    struct session_paths p;
    struct stat st;
    session_paths(&b->s->host, b->id.z, &p);
    if (lstat(p.workspace, &st) < 0)
        return errno == ENOENT || errno == ENOTDIR;
    return b->record.inode && sm_state(&b->sm) == BOX_UP && (int64_t)st.st_ino != b->record.inode;
}

/* ---- the end ---- */

static void begin(struct checkpoint *k);

static void let_go(struct loop_work *w)
{
    struct checkpoint *k = CONTAINER_OF(w, struct checkpoint, work);
    struct session_paths p;
    if (k->taken)
        snapshot_fini(&k->snap);
    session_paths(&k->s->host, k->id.z, &p);
    if (k->kept)
        restore_forget_earlier(&p);
}

static void let_gone(struct loop_work *w)
{
    struct checkpoint *k = CONTAINER_OF(w, struct checkpoint, work);
    struct sandboxes *s = k->s;
    if (!list_empty(&k->more)) {
        begin(k);
        return;
    }
    mem_free(k);
    sandboxes_job_ended(s);
}

static void finished(struct checkpoint *k)
{
    struct box *b = k->box;
    k->box = NULL;
    if (b)
        b->files.taking = NULL;
    loop_work(k->s->loop, &k->work, let_go, let_gone);
    drop_wishes(&k->wishes);
    if (b)
        box_kick(b);
}

static int give_up_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct checkpoint *k = CONTAINER_OF(job, struct checkpoint, job);
    int rc = 0;
    list_for_each (it, &k->wishes) {
        const struct wish *w = LIST_ENTRY(it, struct wish, node);
        if (w->seq > 0 && rc == 0)
            rc = tx_checkpoint_give_up(tx, id_str(&k->id), w->seq, err);
    }
    return rc;
}

static void given_up(struct store_job *job, const struct err *err)
{
    struct checkpoint *k = CONTAINER_OF(job, struct checkpoint, job);
    if (err->code)
        log_line(LOG_WARN, "that a session's files were not kept could not be noted", "session",
                 k->id.z, "error", err->msg, NULL);
    finished(k);
}

/* It is not tried again for the same events: whoever asks for the files of one of them gets the
 * checkpoint before. */
static void give_up(struct checkpoint *k)
{
    k->job = (struct store_job){.fn = give_up_fn, .done = given_up};
    k->s->store.write(k->s->store.self, &k->job);
}

static void failed(struct checkpoint *k, const struct err *err)
{
    k->s->stats.checkpoint_failures++;
    log_line(LOG_WARN, "a session's files could not be kept", "session", k->id.z, "error", err->msg,
             NULL);
    give_up(k);
}

/* ---- the row ---- */

/* Another process, which has taken the session over, was asked for the same and did it, and may
 * have run calls since. */
static bool is_done(struct store_tx *tx, const struct checkpoint *k, int64_t seq,
                    const struct session_row *session)
{
    AUTO_ARENA struct arena a;
    struct checkpoint_row row;
    arena_init(&a, CHECKPOINT_ARENA);
    return session->checkpoint_due != seq &&
           tx_checkpoint_at(tx, id_str(&k->id), seq, &a, &row, NULL) == 0 && row.seq == seq;
}

static int put_wish(struct store_tx *tx, struct checkpoint *k, const struct wish *w, bool first,
                    const struct checkpoint_blob *blobs, struct err *err)
{
    AUTO_ARENA struct arena a;
    struct session_row session;
    arena_init(&a, CHECKPOINT_ARENA);
    int rc = tx_session_get(tx, STR_NONE, id_str(&k->id), &a, &session, err);
    if (rc)
        return rc;
    if (w->seq > 0 && is_done(tx, k, w->seq, &session))
        return 0;
    struct checkpoint_row row = {.seq = w->seq,
                                 .turn_end = w->turn_end,
                                 .manifest = str_z(k->snap.manifest.z),
                                 .at_us = clock_unix_us(),
                                 .files = k->snap.files,
                                 .size_bytes = k->snap.size_bytes,
                                 .stored_bytes = first ? k->snap.stored_bytes : 0};
    if (w->seq < 0) {
        row.seq = session.last_seq;
        row.turn_end = w->turn_end && session.status == SESSION_IDLE;
    }
    return tx_checkpoint_put(tx, id_str(&k->id), &row, blobs, k->snap.nblobs, err);
}

static int put_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct checkpoint *k = CONTAINER_OF(job, struct checkpoint, job);
    struct checkpoint_blob blobs[COUNT_OF(k->snap.blobs)];
    int rc = 0;
    for (size_t i = 0; i < k->snap.nblobs && rc == 0; i++) {
        blobs[i] =
            (struct checkpoint_blob){str_z(k->snap.blobs[i].id.z), k->snap.blobs[i].size_bytes};
        rc = blob_upload_settle(k->snap.blobs[i].upload, err);
    }
    bool first = true;
    list_for_each (it, &k->wishes) {
        if (rc == 0)
            rc = put_wish(tx, k, LIST_ENTRY(it, struct wish, node), first, blobs, err);
        first = false;
    }
    return rc;
}

static void put_done(struct store_job *job, const struct err *err)
{
    struct checkpoint *k = CONTAINER_OF(job, struct checkpoint, job);
    if (err->code == ERR_NOT_FOUND) { /* deleted meanwhile */
        finished(k);
    } else if (err->code) {
        failed(k, err);
    } else {
        k->kept = true;
        k->s->stats.checkpoints++;
        k->s->stats.checkpoint_bytes += k->snap.stored_bytes;
        finished(k);
    }
}

/* ---- the snapshot ---- */

static bool all_there(const struct session_paths *p)
{
    const char *const dirs[] = {p->workspace, p->outputs, p->home};
    struct stat st;
    for (size_t i = 0; i < COUNT_OF(dirs); i++)
        if (lstat(dirs[i], &st) < 0)
            return false;
    return true;
}

/* What was seen of a tree, look by look. */
struct looks {
    unsigned n, same; /* how many; how many of them in a row, with nothing moving */
    int64_t files;
    bool fell, rose; /* from one to the next */
    struct blob_id manifest;
};

static bool shrinks(const struct looks *l)
{
    return l->fell && !l->rose;
}

static bool look_again(struct looks *l, const struct snapshot *s)
{
    bool first = l->n++ == 0, equal = str_eqz(str_z(l->manifest.z), s->manifest.z);
    l->fell = l->fell || (!first && s->files < l->files);
    l->rose = l->rose || (!first && s->files > l->files);
    l->same = s->moved ? 0 : equal ? l->same + 1 : 1;
    l->files = s->files;
    l->manifest = s->manifest;
    if (first)
        return s->moved;
    return shrinks(l) ? l->same < LOOKS_FELL : l->same < LOOKS_SAME && l->n < LOOKS;
}

/* Somebody may be removing the directory: what is half gone would be kept as if the agent had
 * removed the rest, and be what a restore begins with. So a tree in which names come and go is
 * looked at again: what the agent left running may do that for ever, but a tree that becomes ever
 * smaller is not kept. */
static bool take(struct checkpoint *k, const struct session_paths *p, const struct snapshot_how *h)
{
    struct looks looks = {0};
    int64_t until = clock_mono_us() + LOOK_US;
    for (;;) {
        bool gone = !all_there(p);
        bool took = !gone && snapshot_take(h, &k->snap, &k->err) == 0;
        k->empty = gone || !all_there(p);
        if (!took)
            return false;
        bool again = look_again(&looks, &k->snap), late = clock_mono_us() > until;
        if (!k->empty && (!again || (late && !shrinks(&looks))))
            return true;
        snapshot_fini(&k->snap);
        if (k->empty)
            return false;
        if (late) {
            err_set(&k->err, ERR_UNAVAILABLE, "they are being removed");
            return false;
        }
    }
}

static void take_work(struct loop_work *w)
{
    struct checkpoint *k = CONTAINER_OF(w, struct checkpoint, work);
    const struct host *h = &k->s->host;
    struct session_paths p;
    char index[PATH_MAX];
    session_paths(h, k->id.z, &p);
    snprintf(index, sizeof index, "%s/checkpoint.index", p.dir);
    if (restore_from_earlier(&p))
        k->previous[0] = '\0';
    const struct snapshot_how how = {.blobs = &h->blobs,
                                     .dir = p.dir,
                                     .index = index,
                                     .previous = k->previous[0] ? k->previous : NULL,
                                     .max_files = k->s->keep.max_files,
                                     .max_bytes = k->s->keep.max_mb << 20};
    k->taken = take(k, &p, &how);
}

static void take_done(struct loop_work *w)
{
    struct checkpoint *k = CONTAINER_OF(w, struct checkpoint, work);
    if (k->empty) {
        give_up(k);
    } else if (!k->taken) {
        failed(k, &k->err);
    } else {
        k->job = (struct store_job){.fn = put_fn, .done = put_done};
        k->s->store.write(k->s->store.self, &k->job);
    }
}

static int find_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct checkpoint *k = CONTAINER_OF(job, struct checkpoint, job);
    AUTO_ARENA struct arena a;
    struct checkpoint_row row;
    arena_init(&a, CHECKPOINT_ARENA);
    int rc = tx_checkpoint_at(tx, id_str(&k->id), 0, &a, &row, err);
    k->previous[0] = '\0';
    if (rc == 0)
        (void)str_copyz(k->previous, sizeof k->previous, row.manifest);
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

static void found(struct store_job *job, const struct err *err)
{
    struct checkpoint *k = CONTAINER_OF(job, struct checkpoint, job);
    if (err->code)
        failed(k, err);
    else
        loop_work(k->s->loop, &k->work, take_work, take_done);
}

static void take_over(struct list *to, struct list *from)
{
    struct list *n;
    while ((n = list_pop(from)))
        list_push(to, n);
}

static void begin(struct checkpoint *k)
{
    take_over(&k->wishes, &k->more);
    k->taken = k->kept = false;
    /* Under a sandbox whose directory is gone there is nothing to keep: what it wrote since is in
     * no directory. */
    if (k->s->keep.off || (k->box && files_are_gone(k->box))) {
        give_up(k);
        return;
    }
    k->job = (struct store_job){.fn = find_fn, .done = found};
    k->s->store.read(k->s->store.self, &k->job);
}

void checkpoint_begin(struct box *b)
{
    if (b->files.taking || list_empty(&b->files.wanted))
        return;
    if (!restore_possible(b->s)) { /* nothing can be due where there is no store */
        checkpoint_drop(b);
        return;
    }
    struct checkpoint *k = mem_zalloc(sizeof *k);
    k->s = b->s;
    k->box = b;
    k->id = b->id;
    list_init(&k->wishes);
    list_init(&k->more);
    take_over(&k->more, &b->files.wanted);
    b->files.taking = k;
    sandboxes_job_began(b->s);
    begin(k);
}

void checkpoint_orphan(struct box *b)
{
    struct checkpoint *k = b->files.taking;
    if (k) {
        k->box = NULL;
        take_over(&k->more, &b->files.wanted);
    }
    b->files.taking = NULL;
    checkpoint_drop(b);
}
