/* work: the queues of self-hosted environments: which session needs hands that run elsewhere, and
 * who has taken it.
 *
 * Functions of a transaction, on store threads. An item is a session's place in the queue; at most
 * one of a session is not stopped. Times are unix microseconds; 0 means null.
 *
 *     QUEUED --> STARTING --> ACTIVE --> STOPPING --> STOPPED
 *        ^  poll    |  ack      |  beat     ^  stop      ^
 *        |          |           |           |            |
 *        +----------+-----------+  lapsed   +-- any -----+
 *
 * An item that is offered is still queued; every offer, and every return to the queue, begins a new
 * generation, and the token of an older one is stale.
 */
#ifndef OSTLER_STORE_WORK_H
#define OSTLER_STORE_WORK_H

#include "store/store.h"

enum work_state { WORK_QUEUED, WORK_STARTING, WORK_ACTIVE, WORK_STOPPING, WORK_STOPPED };
const char *work_state_name(enum work_state state);

/* What the session's clients still have to be told. Stored: append only. */
enum work_trouble {
    WORK_FINE,
    WORK_LOST,     /* the lease ran out: queued again */
    WORK_DROPPED,  /* stopped with calls unanswered: queued again */
    WORK_GIVEN_UP, /* the same, WORK_FAILURES_MAX times without an answer in between: not queued */
};

enum { WORK_FAILURES_MAX = 3 };

struct work_row {
    int64_t key;
    struct id id, environment_id, session_id;
    int64_t session_key; /* 0: the session was deleted */
    enum work_state state;
    struct str metadata;                 /* JSON object */
    int64_t generation, failures;        /* failures: in a row, without an answered call */
    int64_t offered_us;                  /* of a queued item: not acknowledged yet */
    int64_t ttl_us;                      /* of the lease */
    int64_t created_us, queued_us;       /* queued_us: the last time it went to the queue */
    int64_t acknowledged_us, started_us; /* started_us: the first heartbeat */
    int64_t heartbeat_us;                /* the newest; the one before is */
    int64_t heartbeat_before_us;         /* accepted from a repeated request */
    int64_t lease_until_us;              /* of the states between queued and stopped */
    int64_t stop_requested_us, stopped_us;
};

/* ---- sessions ---- */

/* A client has sent something to the session of a self-hosted environment, or made it: it has an
 * item that is not stopped, or gets one, and its failures are forgotten. NULL is fine for `added`.
 */
int tx_work_ensure(struct store_tx *tx, int64_t session_key, int64_t now_us, bool *added,
                   struct err *err) MUST_USE;
/* The same for the loop, whose calls wait; an item that was given up stays so. */
int tx_work_want(struct store_tx *tx, int64_t session_key, int64_t now_us,
                 struct err *err) MUST_USE;
/* The session takes no more answers: the item is stopped, or its worker told to. */
int tx_work_end(struct store_tx *tx, int64_t session_key, int64_t now_us, struct err *err) MUST_USE;

/* ---- workers ---- */

/* Something can be offered. Those offered before `reclaim_us` and not acknowledged count. */
int tx_work_waits(struct store_tx *tx, struct str environment, int64_t reclaim_us, bool *out,
                  struct err *err) MUST_USE;
/* Offers the item that waits longest, with the token of this hash. NOT_FOUND: there is none. */
struct work_offer {
    struct str environment;
    int64_t now_us, reclaim_us;
    struct str worker; /* as it calls itself; absent: it does not */
    unsigned char hash[32];
};
int tx_work_offer(struct store_tx *tx, const struct work_offer *how, struct arena *a,
                  struct work_row *out, struct err *err) MUST_USE;
/* The offer reached nobody. Nothing if it is another one's by now. */
int tx_work_withdraw(struct store_tx *tx, const struct work_row *row, struct err *err) MUST_USE;
/* These write the row as it becomes, too. The caller has seen that the state allows it. */
int tx_work_ack(struct store_tx *tx, struct work_row *row, int64_t now_us, int64_t ttl_us,
                struct err *err) MUST_USE;
int tx_work_beat(struct store_tx *tx, struct work_row *row, int64_t now_us, int64_t ttl_us,
                 struct err *err) MUST_USE;
/* `force`, or nobody has it: it is stopped, and if calls of its session wait for an answer, there
 * is a new item (*queued) or trouble. Otherwise the worker is to stop. */
int tx_work_stop(struct store_tx *tx, struct work_row *row, bool force, int64_t now_us,
                 bool *queued, struct err *err) MUST_USE;

/* ---- looking ---- */

/* NOT_FOUND. */
int tx_work_get(struct store_tx *tx, struct str environment, struct str id, struct arena *a,
                struct work_row *out, struct err *err) MUST_USE;
int tx_work_list(struct store_tx *tx, struct str environment, const struct page *page,
                 struct arena *a, struct work_row **out, size_t *n, bool *more,
                 struct err *err) MUST_USE;
int tx_work_metadata(struct store_tx *tx, int64_t key, struct str metadata,
                     struct err *err) MUST_USE;
struct work_stats {
    int64_t depth;     /* wait to be offered */
    int64_t pending;   /* offered, not acknowledged */
    int64_t oldest_us; /* of both; 0: there is none */
};
int tx_work_stats(struct store_tx *tx, struct str environment, struct work_stats *out,
                  struct err *err) MUST_USE;
/* By state but stopped, of all environments. */
int tx_work_counts(struct store_tx *tx, int64_t counts[WORK_STOPPED], struct err *err) MUST_USE;

/* ---- the sweep ---- */

/* Whether tx_work_sweep() or tx_work_troubles() would find something. */
int tx_work_due(struct store_tx *tx, int64_t now_us, bool *due, struct err *err) MUST_USE;
/* Takes back what lapsed; forgets what stopped before `forget_us`. *n: how many went back to a
 * queue; their environments, at most `max`, in `environments`. */
int tx_work_sweep(struct store_tx *tx, int64_t now_us, int64_t forget_us, struct id *environments,
                  size_t max, size_t *n, struct err *err) MUST_USE;
struct work_trouble_row {
    int64_t key;
    struct id id, session_id;
    enum work_trouble trouble;
};
int tx_work_troubles(struct store_tx *tx, int64_t limit, struct arena *a,
                     struct work_trouble_row **out, size_t *n, struct err *err) MUST_USE;
/* The session's log says so now, or there is none. */
int tx_work_told(struct store_tx *tx, const struct work_trouble_row *row, struct err *err) MUST_USE;

/* ---- credentials ---- */

struct work_token {
    struct id workspace_id, environment_id, work_id, session_id;
    bool current; /* of the item's present generation */
    bool live;    /* and the item is not stopped, its session not deleted */
};
/* By its hash. NOT_FOUND. */
int tx_work_token(struct store_tx *tx, const unsigned char hash[32], struct work_token *out,
                  struct err *err) MUST_USE;
/* A session of this environment that is not archived, or (session not absent) this one, was given
 * some version of the skill. */
int tx_work_skill(struct store_tx *tx, struct str environment, struct str session, struct str skill,
                  bool *out, struct err *err) MUST_USE;

struct environment_key_row {
    struct id id, workspace_id, environment_id;
    struct str name;
    int64_t created_us;
};
/* `hash` is the SHA-256 of the key. */
int tx_environment_key_add(struct store_tx *tx, const struct environment_key_row *row,
                           const unsigned char hash[32], struct err *err) MUST_USE;
int tx_environment_key_find(struct store_tx *tx, const unsigned char hash[32], struct arena *a,
                            struct environment_key_row *out, struct err *err) MUST_USE;
int tx_environment_key_list(struct store_tx *tx, struct str environment, const struct page *page,
                            struct arena *a, struct environment_key_row **out, size_t *n,
                            bool *more, struct err *err) MUST_USE;
/* NOT_FOUND. */
int tx_environment_key_delete(struct store_tx *tx, struct str environment, struct str id,
                              struct err *err) MUST_USE;

#endif
