/* The files of the sessions: what the calls leave, what is kept of them, what is lost. */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>

/* One that the engine has asked for; dies with its process. */
struct keep {
    struct list link;
    struct node *node;
    struct session *session;
    int64_t seq;
    bool turn_end;
    struct store_job job;
    struct checkpoint_row row;
};

/* ---- what is on the disk ---- */

void disk_write(struct session *ss, const struct tool *t)
{
    struct disk *d = &ss->disk;
    const char *id = t->id.z;
    d->there = true;
    for (size_t i = 0; id[i]; i++)
        d->files = (d->files ^ (unsigned char)id[i]) * UINT64_C(0x100000001b3);
}

static uint64_t files_of(const struct checkpoint_row *row)
{
    uint64_t n = 0;
    for (size_t i = 0; i < row->manifest.len; i++)
        n = n << 4 | (uint64_t)(row->manifest.ptr[i] - 'a');
    return n;
}

static struct str name_of(struct sim *s, uint64_t files)
{
    char text[16];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + (files >> (60 - 4 * i) & 15));
    return arena_str(&s->arena, str_n(text, sizeof text));
}

/* Before the next hand starts: what was lost comes back as it was last kept. */
void disk_restore(struct session *ss)
{
    struct disk *d = &ss->disk;
    const struct db_session *row = ss->row;
    if (d->there)
        return;
    d->there = true;
    d->files = row->ncheckpoints ? files_of(&row->checkpoints[row->ncheckpoints - 1]) : 0;
    SIM_TRACE(ss->sim, "   s%d files %016" PRIx64 " are back", ss->index, d->files);
}

void disk_lose(struct session *ss)
{
    if (!ss->disk.there || !ss->row)
        return;
    SIM_TRACE(ss->sim, "   s%d files %016" PRIx64 " are lost", ss->index, ss->disk.files);
    const struct db_session *row = ss->row;
    bool kept =
        row->ncheckpoints && row->checkpoints[row->ncheckpoints - 1].seq >= ss->disk.truth.seq;
    ss->disk.there = false;
    ss->disk.truth.known = ss->disk.truth.known && kept; /* what nobody had kept yet is gone */
    ss->sim->losses++;
    hand_crash(ss, "its files are gone");
}

/* ---- the truth ---- */

/* A call that may still change files: it runs, or is on its way to a hand. */
static bool may_write(const struct session *ss)
{
    list_for_each (it, &ss->tools) {
        const struct tool *t = LIST_ENTRY(it, struct tool, link);
        bool runs = t->state == TOOL_RUNNING && t->generation == ss->generation && ss->hand_alive;
        if (runs || (t->executions == 0 && !t->cancelled && !list_empty(&t->waiters)))
            return true;
    }
    return false;
}

/* A turn ended with this event: from now on the files as of it are what they are. */
void disk_turn_ended(struct session *ss, int64_t seq)
{
    struct disk *d = &ss->disk;
    d->truth =
        (struct disk_truth){.seq = seq, .files = d->files, .known = d->there && !may_write(ss)};
}

void disk_kept(struct session *ss, const struct checkpoint_row *row)
{
    const struct disk_truth *truth = &ss->disk.truth;
    SIM_TRACE(ss->sim, "   s%d files %016" PRIx64 " are kept as of #%" PRId64 "%s", ss->index,
              files_of(row), row->seq, row->turn_end ? ", the end of a turn" : "");
    if (row->turn_end && truth->seq == row->seq && truth->known && files_of(row) != truth->files)
        sim_fail(ss->sim,
                 "session %d: the files kept as of event %" PRId64 " are %016" PRIx64
                 ", they were %016" PRIx64,
                 ss->index, row->seq, files_of(row), truth->files);
}

/* At the very end, when everything rests. */
void disk_check(struct session *ss)
{
    const struct session_row *row = &ss->row->row;
    const struct disk_truth *truth = &ss->disk.truth;
    const struct db_session *db = ss->row;
    if (row->checkpoint_due)
        sim_fail(ss->sim, "session %d: the files as of event %" PRId64 " were never kept",
                 ss->index, row->checkpoint_due);
    bool kept = db->ncheckpoints && db->checkpoints[db->ncheckpoints - 1].seq >= truth->seq;
    if (ss->disk.there && truth->known && !kept)
        sim_fail(ss->sim, "session %d: nothing is kept of its last turn, which ended at %" PRId64,
                 ss->index, truth->seq);
}

/* ---- keeping ---- */

static void begin(struct session *ss);

static void next(struct session *ss, struct keep *k)
{
    list_remove(&k->link);
    if (!list_empty(&ss->disk.wanted))
        begin(ss);
}

static int put(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct keep *k = CONTAINER_OF(job, struct keep, job);
    struct str id = id_str(&k->session->id);
    if (!str_some(k->row.manifest))
        return tx_checkpoint_give_up(tx, id, k->seq, err);
    return tx_checkpoint_put(tx, id, &k->row, NULL, 0, err);
}

static void put_again(struct sim *s, void *arg)
{
    struct keep *k = arg;
    (void)s;
    if (!k->node->dead)
        k->node->store.write(k->node->store.self, &k->job);
}

static void put_done(struct store_job *job, const struct err *err)
{
    struct keep *k = CONTAINER_OF(job, struct keep, job);
    if (k->node->dead)
        return;
    if (err->code == ERR_NO_SPACE)
        sim_after(k->session->sim, SIM_SECOND, put_again, k);
    else
        next(k->session, k);
}

/* Calls wait until it is written down as well: whoever finds the mark after a crash takes the files
 * as they are then for those of that event. */
static void taken(struct sim *s, void *arg)
{
    struct keep *k = arg;
    struct session *ss = k->session;
    if (k->node->dead)
        return;
    k->row = (struct checkpoint_row){.seq = k->seq, .turn_end = k->turn_end && !may_write(ss)};
    if (ss->disk.there)
        k->row.manifest = name_of(s, ss->disk.files);
    k->job.fn = put;
    k->job.done = put_done;
    k->node->store.write(k->node->store.self, &k->job);
}

static void begin(struct session *ss)
{
    struct keep *k = LIST_ENTRY(ss->disk.wanted.next, struct keep, link);
    sim_after(ss->sim, rng_delay(&ss->sim->rng, ss->sim->knobs.keep_us, 9 * SIM_SECOND), taken, k);
}

void disk_keep(struct node *n, struct session *ss, int64_t seq, bool turn_end)
{
    struct keep *k = sim_alloc(n->sim, sizeof *k);
    *k = (struct keep){.node = n, .session = ss, .seq = seq, .turn_end = turn_end};
    bool first = list_empty(&ss->disk.wanted);
    list_push(&ss->disk.wanted, &k->link);
    SIM_TRACE(n->sim, "n%d s%d files are to be kept as of #%" PRId64, n->index, ss->index, seq);
    if (first)
        begin(ss);
}

/* Calls wait for it. */
bool disk_busy(const struct session *ss)
{
    return !list_empty(&ss->disk.wanted) && sim_bug != BUG_EARLY_CALL;
}

void disks_forget_node(struct node *n)
{
    for (int i = 0; i < n->sim->knobs.sessions; i++) {
        struct session *ss = &n->sim->sessions[i];
        bool first = !list_empty(&ss->disk.wanted) &&
                     LIST_ENTRY(ss->disk.wanted.next, struct keep, link)->node == n;
        list_for_each_safe (it, &ss->disk.wanted)
            if (LIST_ENTRY(it, struct keep, link)->node == n)
                list_remove(it);
        if (first && !list_empty(&ss->disk.wanted))
            begin(ss);
    }
}
