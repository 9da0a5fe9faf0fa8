/* engine: makes sessions happen: owns running threads, their effects, timers and recovery.
 *
 * Loop thread. One per process. An actor exists in memory only while its session has work; an idle
 * session costs nothing. Every transition commits before its effects start; every append carries
 * the session's epoch, so that a taken-over or archived session refuses it.
 */
#ifndef OSTLER_ENGINE_ENGINE_H
#define OSTLER_ENGINE_ENGINE_H

#include "core/outcome.h"
#include "core/ports.h"
#include "engine/hub.h"
#include "json/json.h"
#include "store/store.h"

struct engine;

struct engine_config {
    /* Between two rounds of tools the session's files are kept when the last time is so long ago;
     * 0: LIMIT_CHECKPOINT_INTERVAL_MS. At the end of a turn they always are. */
    int64_t checkpoint_interval_ms;
    struct str judge_model;  /* of the policy `auto`; absent: none, such calls ask */
    struct str grader_model; /* of outcomes; absent: the agent's own */
    struct store_port store;
    struct clock_port clock;
    struct rand_port rand;
    struct model_port model;
    struct sandbox_port sandbox;
    struct web_port web;    /* all zero: the web tools are not offered */
    struct peer_port peers; /* all zero: this is the only process */
    /* A session of this self-hosted environment waits for its hands, and the store says so. May be
     * NULL. */
    void (*on_work)(void *arg, struct str environment_id);
    void *on_work_arg;
};

/* Why a call was not run to its end, by what struct tool_outcome calls the reason. */
enum { ENGINE_TOOL_REASONS = 9 };
extern const char *const engine_tool_reasons[ENGINE_TOOL_REASONS]; /* the last one: any other */

struct engine_stats {
    int64_t actors, turns, model_requests, model_failures, tool_calls, resumed;
    int64_t tool_failures[ENGINE_TOOL_REASONS];
    int64_t evaluations[COUNT_OF(outcome_results)]; /* of outcomes that have ended, by result */
    struct model_usage usage;                       /* sums; of requests that failed, too */
};

struct engine *engine_new(const struct engine_config *cfg);
/* Takes over every session that has work (after a crash or a restart); `done` when all were queued.
 */
void engine_start(struct engine *e, void (*done)(void *arg, const struct err *err), void *arg);
/* Stops: cancels model calls, leaves hands and their calls alone, commits nothing half-way. What
 * was in flight goes on at the next start. `done` when no job of the engine is left in the store.
 */
void engine_close(struct engine *e, void (*done)(void *arg), void *arg);
void engine_free(struct engine *e);

struct hub *engine_hub(struct engine *e);
struct engine_stats engine_stats(const struct engine *e);

/* The session has something in its inbox (committed): look at it soon. */
void engine_wake(struct engine *e, struct str session_id);

/* ---- other processes on the same database ---- */
const struct peer_port *engine_peers(const struct engine *e);
/* Another process says so. */
void engine_peer_told(struct engine *e, const struct peer_news *news);
/* A process came or went, or (not `lost`) a second has passed while there are others: takes over
 * what nobody works on, wakes what is ours. `lost`: news may have been; the streams look, too. */
void engine_peers_changed(struct engine *e, bool lost);

/* ---- operations on a session that append to its log ----
 * Each runs as one commit; `done` on the loop, with the row as it is afterwards (err->code 0) or
 * the reason; it may come from inside the call that asks. The row's views are valid during `done`.
 */
struct engine_op {
    void (*done)(struct engine_op *op, const struct session_row *row, const struct err *err);
};
/* What changes; everything was validated by itself and lives until done. */
struct engine_change {
    const struct json *title;    /* NULL: leave; JSON null clears */
    const struct json *metadata; /* NULL: leave; merges, null values delete */
    /* NULL: leave. Makes the new snapshot of the agent out of the present one; INVALID when they do
     * not go together. Only for an idle session. */
    int (*agent)(const struct engine_change *ch, struct arena *a, struct str now, struct str *out,
                 struct err *err);
    bool set_budget, set_limits;
    int64_t budget_microusd; /* 0: remove it */
    struct str limits;       /* the whole new object, or absent: none */
};
/* Emits session.updated with what changed, nothing when nothing did. INVALID with detail
 * budget_create_only, budget_not_raised or model_not_budgetable as published. A budget or limit
 * that leaves room again lets a session that rests on it go on. */
void engine_session_update(struct engine *e, struct str ws, struct str id,
                           const struct engine_change *change, struct engine_op *op);
/* What the session's sandbox is made with has changed, and is stored: the next tool call has it. */
void engine_session_provisioned(struct engine *e, struct str id, struct str provision);
/* The session's sandbox lacks something: its log says so. */
void engine_sandbox_notice(struct engine *e, struct str id, const struct sandbox_notice *notice);
/* The same, with an answer when that is durable; `row` is what there is then. NOT_FOUND. */
void engine_session_notice(struct engine *e, struct str id, const struct sandbox_notice *notice,
                           struct engine_op *op);
/* INVALID while running. Emits thread_status_terminated, status_terminated. Idempotent. */
void engine_session_archive(struct engine *e, struct str ws, struct str id, struct engine_op *op);
/* INVALID while running. Emits session.deleted to the streams, removes everything. row is NULL. */
void engine_session_delete(struct engine *e, struct str ws, struct str id, struct engine_op *op);

#endif
