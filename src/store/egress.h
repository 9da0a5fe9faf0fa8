/* egress: the record of what sandboxes reached and were refused (egress/). Functions of a
 * transaction, on store threads.
 *
 * A record is a trace of what happened, not part of a session's log: it is written after the fact,
 * and only the newest LIMIT_EGRESS_RECORDS of a session are kept.
 */
#ifndef OSTLER_STORE_EGRESS_H
#define OSTLER_STORE_EGRESS_H

#include "store/store.h"

enum egress_outcome { EGRESS_OUT_ALLOWED, EGRESS_OUT_DENIED, EGRESS_OUT_FAILED };
extern const char *const egress_outcome_names[]; /* closed by NULL */

struct egress_row {
    int64_t number;      /* grows; the position in the list */
    struct str tool_use; /* absent: no call ran then */
    int64_t at_us, duration_us;
    bool connect; /* a tunnel; else a plain HTTP request */
    struct str host;
    int64_t port;
    struct str address; /* absent: none was connected to */
    enum egress_outcome outcome;
    struct str reason; /* absent: it was allowed */
    int64_t bytes_up, bytes_down;
};

/* Harmless when the session does not exist any more. */
int tx_egress_insert(struct store_tx *tx, struct str session_id, const struct egress_row *row,
                     struct err *err) MUST_USE;
/* Oldest first, behind `after` (0: from the first); `outcome` -1: all. */
int tx_egress_list(struct store_tx *tx, int64_t session_key, int outcome, int64_t after,
                   int64_t limit, struct arena *a, struct egress_row **out, size_t *n, bool *more,
                   struct err *err) MUST_USE;

#endif
