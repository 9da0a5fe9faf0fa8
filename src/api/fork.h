/* fork: POST /v1/sessions/{id}/fork: what its parts share. Internal to api/. */
#ifndef OSTLER_API_FORK_H
#define OSTLER_API_FORK_H

#include "api/resources.h"
#include "api/session_agent.h"

/* The other session at the point, and what brings a copy of it to rest. The part of a log that is
 * there never changes: it is read, and folded, outside of the transaction that copies it. */
struct fork_plan {
    struct session_row from;
    int64_t point; /* of the log: where the copy branches off; 0: before the first event */
    struct id point_id;
    int64_t cut; /* the last event that is copied: not the end of the other session */
    int64_t cut_us;
    bool tools_used; /* a call up to there may have needed a sandbox */
    /* as of the point */
    struct str agent, limits;
    int64_t budget_microusd;
    /* after the closing events */
    struct event *closing;
    size_t nclosing;
    int64_t last_us;
    struct session_usage usage;
    struct str stop_reason; /* absent: it never was idle */
    struct str outcomes;    /* as session_row.outcomes; absent: none */
};

/* Store thread, of a plan whose `from`, `point` and `point_id` are set. `fork` has the new ids. */
int fork_plan_make(struct store_tx *tx, struct call *c, struct fork_plan *p,
                   const struct session_row *fork, struct err *err) MUST_USE;

/* What is attached to `from`, for the new session, which has `*provision` then: the same contents
 * under the same paths, with ids of their own. `agent` not NULL: its skills take the place of the
 * other's. */
int fork_resources(struct store_tx *tx, struct call *c, const struct session_row *from,
                   const struct session_agent *agent, struct session_row *fork,
                   struct resource_made **out, size_t *n, struct err *err) MUST_USE;

#endif
