/* turn: the agent loop of one session thread as a pure function of its log.
 *
 * Pure: no clock, no randomness, no I/O of its own; both reach it in a step. Owned by the session's
 * actor in engine/. The state is what turn_fold() makes of the events; an input (a message, a
 * model's answer, a tool's result, a timer) becomes events, which are folded like any others, and
 * effects to start once the events are durable. First run, resume after a crash, and replay are one
 * code path:
 *
 *     events <- react(state, input);  state <- fold(state, events);  effects <- what the state
 * wants
 *
 * If the commit of a step fails, throw the turn away and fold the log again.
 *
 *           +--------------------------- interrupt, end of turn -----------------------+
 *           v                                                                          |
 *        [IDLE] --status_running--> [TOOLS] --span start--> [MODEL] --span end--> [TOOLS] ...
 *                                   [TOOLS] --evaluation start--> [GRADING] --its end--> [TOOLS]
 *           ^                          ^                       |
 *           |                          |               session.error retrying
 *           +---- retries exhausted    +--- timer --- [BACKOFF] <
 */
#ifndef OSTLER_CORE_TURN_H
#define OSTLER_CORE_TURN_H

#include "base/limits.h"
#include "base/list.h"
#include "base/sm.h"
#include "base/digest.h"
#include "core/agent.h"
#include "core/budget.h"
#include "core/event.h"
#include "core/outcome.h"
#include "core/permission.h"
#include "core/ports.h"
#include "core/prompt.h"
#include "core/record.h"
#include "core/usage.h"

enum turn_phase {
    TURN_IDLE,    /* nothing runs; calls may wait for a client (requires_action) */
    TURN_MODEL,   /* a model request is in flight */
    TURN_TOOLS,   /* running, no request in flight: tools run or the next request is due */
    TURN_BACKOFF, /* waiting before the next attempt at the model */
    TURN_GRADING, /* the grader looks at what the turn has left */
    TURN_DEAD,    /* terminated */
};

enum call_state {
    CALL_READY,  /* to be run, or running */
    CALL_ASK,    /* waits for user.tool_confirmation */
    CALL_CLIENT, /* a custom tool, or hands elsewhere: waits for the result from a client */
    CALL_DONE,
};

struct turn_call {
    struct id id; /* of the tool_use event: the idempotency key */
    enum call_state state;
    bool sent;      /* dispatched by this process, not reported yet (kept by the engine) */
    bool recovered; /* came out of the log at load: may have been dispatched before (engine) */
    struct str name, input;
};

/* Ids promised to subscribers for blocks that are still streaming. */
struct turn_block {
    struct id event_id;   /* empty: not promised yet */
    size_t content_index; /* of a text block within its message */
    bool text;
};

/* An accepted client event that waits to be processed. */
struct turn_input {
    struct list link;
    int64_t number; /* the store's */
    struct event event;
};

struct turn {
    struct sm sm; /* enum turn_phase */
    struct id session_id, thread_id;
    const struct agent *agent;
    struct buf system, tools; /* of every request, made of the agent */
    struct model_facts facts; /* of the agent's model */
    struct caps caps;         /* budget and limits in force */
    int64_t judge_microusd;   /* set aside with each request for the judge of its calls */
    struct prompt prompt;
    struct arena calls_arena; /* names and inputs of the calls of this round */
    struct turn_call calls[LIMIT_TOOL_CALLS_PER_RESPONSE];
    size_t ncalls;
    struct turn_block *blocks; /* of the response that is streaming */
    size_t nblocks, blocks_cap;
    struct id request_start;       /* the open span */
    struct request_record request; /* what it is for, how it is bounded */
    struct buf summary;            /* the messages of a request for a compaction */
    struct digest messages_digest; /* of the first `digested` bytes of the prompt */
    size_t digested;
    unsigned attempts;    /* failed attempts at the present request */
    unsigned rounds;      /* answered requests of the present turn */
    unsigned compactions; /* in a row, without a word of the model in between */
    struct outcome outcome;
    bool closing; /* not of the log: what the last turn left is graded, without events */
    bool paused;  /* the turn stopped at a cap: it goes on when there is room again */
    bool stirred; /* at rest, and a call was answered since: what follows is due */
    /* Not of the log: a count of the next request's tokens is on its way. */
    bool counting;
    /* Not of the log: an answer that came and is not logged yet, because its judge is asked. */
    bool answered;
    struct model_usage unlogged;
    int64_t last_seq, last_us;
    int64_t requests; /* finished model requests in the log */
    struct session_usage usage;
    char stop_reason[8192]; /* JSON of the last idle, or "" while running or never idle */
};

/* One input's worth of work. The caller sets the first part; turn_* fill the rest. */
struct turn_step {
    struct arena *arena; /* bodies and arrays live here until the commit */
    int64_t now_us;
    const struct rand_port *rand;
    struct list *inbox; /* of struct turn_input, in order; processed ones move to `taken` */
    struct list *taken;

    struct event *events; /* to append, in order */
    size_t nevents, events_cap;
    /* What the request that is in flight has used so far, should it be cancelled. */
    struct model_usage partial;
    /* effects, after the commit */
    bool start_model;
    bool count_tokens; /* of the request as turn_request() has it; answer with turn_counted() */
    bool cancel_model;
    bool grade; /* answer with turn_graded(); before, turn_grading() for each of its requests */
    bool cancel_grade;
    struct model_usage graded;           /* in: what the grader that runs has used so far */
    bool grader_may_ask, grader_refused; /* what turn_grading() asked for is set aside, or not */
    struct grade closing; /* out, with `closed`: the grade of what the last turn left */
    bool closed;
    struct id *cancel_calls; /* calls that were dispatched and are wanted no more */
    size_t ncancel_calls;
    int64_t sleep_ms; /* > 0: call turn_timer() then */
    int err_code;     /* sticky; `err` says why: the turn must be thrown away */
    struct err err;
};

void turn_init(struct turn *t, const struct agent *agent, struct id session_id,
               struct id thread_id);
void turn_fini(struct turn *t);
/* The agent changed (or its fields did): system prompt and tools of the next request. */
void turn_set_agent(struct turn *t, const struct agent *agent);

/* Before the first event, where that is an agent.thread_context_compacted: its private transcript
 * says how the turn stood when it was written. What it does not say (usage, caps) is the caller's.
 */
int turn_resume(struct turn *t, const struct event *compacted, struct err *err) MUST_USE;
/* Applies one event of the log. */
int turn_fold(struct turn *t, const struct event *e, struct err *err) MUST_USE;

enum turn_phase turn_phase(const struct turn *t);
struct turn_call *turn_find_call(struct turn *t, struct str id);

/* ---- inputs; each leaves its events and effects in the step ---- */
/* After loading: what was in flight when the log ends goes on. */
void turn_recover(struct turn *t, struct turn_step *s);
/* The inbox has grown. */
void turn_inbox(struct turn *t, struct turn_step *s);
/* `judged`: one for each block, from permission_rules(), or NULL when no policy asks for it;
 * `judge`: what the judge cost, or NULL. */
void turn_model_done(struct turn *t, struct turn_step *s, const struct model_result *r,
                     const struct judgement *judged, const struct model_usage *judge);
/* The count that was asked for; -1: the provider cannot say. */
void turn_counted(struct turn *t, struct turn_step *s, int64_t tokens);
void turn_model_failed(struct turn *t, struct turn_step *s, const struct model_failure *f);
void turn_tool_done(struct turn *t, struct turn_step *s, struct str tool_use_id,
                    const struct tool_outcome *o);
void turn_timer(struct turn *t, struct turn_step *s);
/* The grader wants to send a request that may cost so much, having `spent` what it says. */
void turn_grading(struct turn *t, struct turn_step *s, const struct model_usage *spent,
                  int64_t reserved_microusd);
void turn_graded(struct turn *t, struct turn_step *s, const struct grade *g);
/* A session.error that ends nothing: the session goes on without what is missing. */
void turn_notice(struct turn *t, struct turn_step *s, const struct sandbox_notice *n);
/* What changed, as JSON values; absent: unchanged. */
struct turn_update {
    struct str title, metadata, budget, limits;
    struct str agent, agent_before; /* snapshots */
};
/* The caps are taken from the event; the agent must have been set before. */
void turn_session_updated(struct turn *t, struct turn_step *s, const struct turn_update *u);
/* Archive; only in TURN_IDLE. */
void turn_terminate(struct turn *t, struct turn_step *s);
void turn_deleted(struct turn *t, struct turn_step *s);

/* While a response streams: the event that will carry block `index`, promised now. NULL for blocks
 * that get no preview. *fresh: first promise of that event's id. */
const struct turn_block *turn_preview(struct turn *t, size_t index, enum model_block_type type,
                                      int64_t now_us, const struct rand_port *rand, bool *fresh);

/* The request for the model that is in flight or to be counted, borrowing the turn's memory until
 * the next input. */
int turn_request(struct turn *t, struct model_request *out, struct err *err) MUST_USE;
/* Recognises the request again: four digests for head (model, effort, speed, max_tokens), system,
 * tools and messages, joined by '-'. Grows with the conversation, not with its square. */
void turn_request_digest(struct turn *t, const struct model_request *r,
                         char out[RECORD_DIGEST_MAX]);

/* An event id from the step's time and randomness. */
struct id turn_new_id(const char *prefix, int64_t now_us, const struct rand_port *rand);

#endif
