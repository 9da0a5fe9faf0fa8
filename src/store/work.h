/* work: the queues of self-hosted environments: which session needs hands that run elsewhere, and
 * who has taken it.
 *
 * Functions of a transaction, on store threads. An item is a session's place in the queue; at most
 * one of a session is not stopped. Times are unix microseconds; 0 means null.
 */
#ifndef OSTLER_STORE_WORK_H
#define OSTLER_STORE_WORK_H

#include "store/store.h"

enum work_state { WORK_QUEUED, WORK_STARTING, WORK_ACTIVE, WORK_STOPPING, WORK_STOPPED };

/* The session of a self-hosted environment has an item that is not stopped, or gets one. NULL is
 * fine for `added`. */
int tx_work_ensure(struct store_tx *tx, int64_t session_key, int64_t now_us, bool *added,
                   struct err *err) MUST_USE;

#endif
