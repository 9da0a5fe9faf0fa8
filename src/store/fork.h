/* fork: a session that begins with a copy of another one's log.
 *
 * Functions of a transaction, on store threads. Rows are copied inside the database: their bytes
 * never leave it.
 */
#ifndef OSTLER_STORE_FORK_H
#define OSTLER_STORE_FORK_H

#include "store/store.h"

struct fork_copy {
    int64_t from_key, to_key;
    int64_t seq; /* the last event to copy; 0: none */
    struct id from_thread, to_thread;
};

/* The events and transcripts up to `seq`, as they are, but that they name the new thread where they
 * named the old one as theirs. NOT_FOUND when the other session is gone. */
int tx_fork_log(struct store_tx *tx, const struct fork_copy *f, struct err *err) MUST_USE;
/* What the session says of its origin (session_row.forked_from). */
int tx_fork_origin(struct store_tx *tx, int64_t key, struct str origin, struct err *err) MUST_USE;
/* The id of the event with that seq; empty: there is none. */
int tx_fork_event(struct store_tx *tx, int64_t key, int64_t seq, struct id *out,
                  struct err *err) MUST_USE;

#endif
