/* checkpoints: the files of sessions over time: which snapshot holds them as of which event.
 *
 * Functions of a transaction, on store threads. A checkpoint goes with its session.
 */
#ifndef OSTLER_STORE_CHECKPOINTS_H
#define OSTLER_STORE_CHECKPOINTS_H

#include "store/store.h"

struct checkpoint_row {
    int64_t seq;         /* the files are as of this event of the log */
    bool turn_end;       /* nothing of a turn was under way: exact */
    struct str manifest; /* a blob (sandbox/snapshot.h) */
    int64_t at_us;
    int64_t files, size_bytes, stored_bytes;
};

/* A content that the row needs and the checkpoint before it did not; durable. */
struct checkpoint_blob {
    struct str name;
    int64_t size_bytes;
};

/* Adds the row, or replaces that of the same seq; counts the blobs as the session's; nothing is due
 * any more up to this event. NOT_FOUND when the session is gone. */
int tx_checkpoint_put(struct store_tx *tx, struct str session_id, const struct checkpoint_row *row,
                      const struct checkpoint_blob *blobs, size_t nblobs, struct err *err) MUST_USE;
/* None could be taken for it: it is not tried again. */
int tx_checkpoint_give_up(struct store_tx *tx, struct str session_id, int64_t seq,
                          struct err *err) MUST_USE;
/* The newest that is not after `seq` (0: the newest). NOT_FOUND. `session_id`: of any workspace. */
int tx_checkpoint_at(struct store_tx *tx, struct str session_id, int64_t seq, struct arena *a,
                     struct checkpoint_row *out, struct err *err) MUST_USE;
/* Newest first: those before `before` (0: all), at most `limit`; `events` as long as the rows: the
 * ids of their events, empty for what was kept before the first one. */
int tx_checkpoint_list(struct store_tx *tx, int64_t session_key, int64_t before, int64_t limit,
                       struct arena *a, struct checkpoint_row **out, struct id **events, size_t *n,
                       bool *more, struct err *err) MUST_USE;
/* Those of one session become another's: up to and with `seq`, with the contents they need. */
int tx_checkpoint_copy(struct store_tx *tx, int64_t from_key, int64_t to_key, int64_t seq,
                       struct err *err) MUST_USE;

#endif
