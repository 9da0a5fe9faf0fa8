/* file_sweep: what keeps DATA/blobs and the file tables in step with time and with each other.
 *
 *     IDLE ─timer, kick─▶ LOOK ─something is over─▶ EXPIRE ─▶ (again while there is more)
 *                          │                          │
 *                          ▼                          ▼
 *       DISCARD ◀─ FORGET ◀─────────────────────── UNUSED      contents that no file has any more
 *          │                                          │ none
 *          └──────────────▶ UNUSED                    ▼
 *       DISCARD ◀─ STRAY ◀── something unknown ──── WALK       one directory after the other, at
 * the │                                          │        start and every SWEEP_WALK_MS
 *          └──────────────▶ WALK                      └─ last one ─▶ IDLE
 *
 * Loop thread; reads and writes are store jobs, bytes are freed on the worker pool, so nobody waits
 * for it. A blob loses its name inside the write transaction that has found it unused; were that
 * transaction lost, a row without uses is left, which the next round forgets. Steps are small, so
 * other writes come between.
 */
#ifndef OSTLER_STORE_FILE_SWEEP_H
#define OSTLER_STORE_FILE_SWEEP_H

#include "core/ports.h"
#include "store/blob.h"

struct loop;
struct file_sweep;

struct file_sweep_config {
    struct loop *loop;
    struct store_port store;
    const struct blobs *blobs;
    /* Something failed; the next round tries again. May be NULL. */
    void (*trouble)(void *arg, const struct err *err);
    void (*rested)(void *arg); /* a round is over; may be NULL */
    void *arg;
    int64_t interval_ms; /* 0: SWEEP_MS */
};

enum { SWEEP_MS = 60 * 1000, SWEEP_WALK_MS = 6 * 3600 * 1000 };

/* Begins with a round. The config's pointers must outlive it. */
struct file_sweep *file_sweep_start(const struct file_sweep_config *cfg);
/* A round now, or after the one under way: something was deleted. */
void file_sweep_kick(struct file_sweep *s);
/* Ends after the step under way, then frees it. Before the store is closed. */
void file_sweep_close(struct file_sweep *s, void (*closed)(void *arg), void *arg);

#endif
