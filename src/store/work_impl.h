/* work_impl: what the files about work share. Internal to store/. */
#ifndef OSTLER_STORE_WORK_IMPL_H
#define OSTLER_STORE_WORK_IMPL_H

#include "store/tx.h"
#include "store/work.h"

/* What a session wants of its hands. */
enum work_need {
    WORK_REST,       /* nothing, or it is over: the next event of a client asks for them again */
    WORK_TURN,       /* the loop is at work: its next commit asks for them if it has calls */
    WORK_CALLS_WAIT, /* nothing goes on without an answer */
};

/* session_key 0: it was deleted. */
int work_need(struct store_tx *tx, int64_t session_key, enum work_need *out,
              struct err *err) MUST_USE;
/* A queued item, unless the session has one that is not stopped. NULL is fine for `added`. */
int work_insert(struct store_tx *tx, int64_t session_key, int64_t now_us, int64_t failures,
                bool *added, struct err *err) MUST_USE;
/* Stopped for good; *queued: its session has a new item, because calls wait. */
int work_finish(struct store_tx *tx, struct work_row *row, int64_t now_us, bool *queued,
                struct err *err) MUST_USE;

#endif
