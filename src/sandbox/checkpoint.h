/* checkpoint: the files of a session are kept as of events of its log (snapshot.h). Internal to
 * sandbox/.
 *
 * Loop thread; blocking steps run on the worker pool and on store threads. A box has one snapshot
 * under way at a time, and gives no call to its hand from the request until the row is durable:
 * what is kept is what was there at the event. Requests that come before a snapshot begins share
 * it.
 */
#ifndef OSTLER_SANDBOX_CHECKPOINT_H
#define OSTLER_SANDBOX_CHECKPOINT_H

#include "sandbox/impl.h"

struct checkpoint;

/* In struct box. */
struct box_files {
    struct list wanted;        /* struct wish: no snapshot has begun for them */
    struct checkpoint *taking; /* not durable yet */
    bool restoring;
    bool tried;          /* to restore: what can be had is there */
    bool used;           /* a sandbox had them, since this server began */
    struct buf note;     /* for the model, before the next result: what was restored */
    int64_t noted, told; /* which one it is, and which was delivered last (restore_note()) */
};

void checkpoint_init(struct box *b);
void checkpoint_fini(struct box *b);
/* `seq` CHECKPOINT_LAST: the last event of the log when the row is written, and a turn's end if the
 * session is idle then. `done` once, never inside this call, whether it could be kept or not; NULL
 * is fine. Also while the module closes, when it has to be dropped. */
#define CHECKPOINT_LAST INT64_C(-1)
void checkpoint_ask(struct box *b, int64_t seq, bool turn_end, void (*done)(void *arg), void *arg);
/* Calls wait. */
bool checkpoint_busy(const struct box *b);
/* Begins with what is wanted, if nothing is under way; the box is at rest or up. */
void checkpoint_begin(struct box *b);
/* What no snapshot has begun for is not kept: the session goes. */
void checkpoint_drop(struct box *b);
/* The box goes. While a snapshot is under way it is finished all the same, and what is wanted
 * behind it is kept then; else what is wanted is dropped. */
void checkpoint_orphan(struct box *b);

/* The directory that is mounted as /workspace, or is to be, is not in its place any more. */
bool files_are_gone(const struct box *b);

#endif
