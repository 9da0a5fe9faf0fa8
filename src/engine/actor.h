/* actor: one session that has work, in memory. Private to engine/.
 *
 * Loop thread. Made by engine_wake(), an operation or recovery; freed when the session rests and
 * nothing is left to do. Inputs arrive as mail and wait while a commit is in flight:
 *
 *     LOADING --> READY <--> COMMITTING
 *        |          |
 *        +--> READING (inbox) --> READY
 */
#ifndef OSTLER_ENGINE_ACTOR_H
#define OSTLER_ENGINE_ACTOR_H

#include "base/map.h"
#include "core/turn.h"
#include "engine/engine.h"

enum actor_state { ACTOR_LOADING, ACTOR_READY, ACTOR_READING, ACTOR_COMMITTING };

enum mail_kind {
    MAIL_MODEL_DONE,
    MAIL_MODEL_FAILED,
    MAIL_COUNTED,
    MAIL_TOOL_DONE,
    MAIL_TIMER,
    MAIL_NOTICE,
    MAIL_GRADER_ASKS, /* it wants to send a request */
    MAIL_GRADER_BEAT, /* it is still at work */
    MAIL_GRADED,
    MAIL_OP
};

enum op_kind { OP_UPDATE, OP_ARCHIVE, OP_DELETE, OP_NOTICE };

struct mail {
    struct list link;
    enum mail_kind kind;
    struct arena arena; /* owns what the views below point at */
    struct model_result result;
    struct judgement *judged; /* with an answer: what the policy `auto` says to its calls */
    struct model_usage judge; /* what asking the judge cost */
    struct model_failure failure;
    int64_t tokens; /* counted */
    struct id tool_use_id;
    struct tool_outcome outcome;
    struct sandbox_notice notice;
    struct model_usage spent; /* by the grader so far, and what its request may cost */
    int64_t reserved_microusd;
    struct grade grade;
    enum op_kind op_kind;
    struct engine_op *op;
    struct id workspace_id;
    const struct engine_change *change;
};

/* Reading from the store: the whole session, or just its inbox. */
struct load {
    struct store_job job;
    struct actor *actor;
    struct arena arena;
    bool take, whole;
    bool foreign;   /* out: it is another process's, and nothing more was read */
    struct id dead; /* of `take`: whose it may be, because that one is dead */
    struct session_row row;
    struct event *events;
    size_t nevents;
    int64_t inbox_after; /* the newest that the actor has */
    struct inbox_row *inbox;
    size_t ninbox;
};

struct commit {
    struct store_job job;
    struct actor *actor;
    struct arena arena;
    struct turn_step step;
    struct list taken;
    struct session_append append;
    struct ledger_row *ledger;  /* of append */
    enum model_purpose purpose; /* of the request that was open when the step began */
    struct session_row row;     /* written too when update_row */
    bool update_row, delete_row, mark_sandbox;
    struct str closing; /* outcomes.c: the grade of what the last turn left; absent: none */
    struct id closed;   /* ... of this outcome */
    struct mail *op;    /* answered after the commit */
    struct id acks[LIMIT_TOOL_CALLS_PER_RESPONSE]; /* results that this commit makes durable */
    size_t nacks;
};

struct actor {
    struct engine *engine;
    struct id session_id; /* the map's key */
    enum actor_state state;
    bool turn_live, fresh, woken;
    bool sandbox_at_load; /* what the log's head said when it was read */
    struct arena row_arena;
    struct session_row row;
    char *provision; /* newer than the row's; NULL: it has not changed */
    struct agent agent;
    struct turn turn;
    struct list inbox; /* struct turn_input */
    int64_t inbox_seen;
    struct list mail; /* struct mail */
    struct load load;
    struct commit commit;
    struct model_request request; /* of the call in flight: the model layer reads it */
    struct model_call *call;      /* the turn's request, or the judge about its answer */
    struct model_call *count;     /* of the next request's tokens */
    struct mail *judging;         /* the answer that waits for its judge */
    struct grader *grader;        /* looks at what the turn has left; NULL: none */
    bool grader_asked;            /* and waits for the commit that sets its money aside */
    struct port_timer *timer;     /* of the turn: the next attempt at the model */
    struct port_timer *again;     /* the store job that failed goes out once more */
    int64_t checkpoint_us;        /* when its files were last kept, or it was loaded */
    unsigned store_failures;      /* in a row */
};

enum { ENGINE_GIVEN_UP = 16 };

struct engine {
    struct engine_config cfg;
    struct hub *hub;
    struct map actors;
    struct engine_stats stats;
    struct list runs; /* tool calls in flight: struct tool_run */
    size_t jobs;      /* store jobs in flight */
    bool closing;
    bool scanning, scan_again;           /* recovery.c */
    struct id given_up[ENGINE_GIVEN_UP]; /* the latest sessions that could not be worked on */
    size_t ngiven_up;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* Finds or makes the actor; a new one starts loading. `take`: bump the epoch first. */
struct actor *actor_get(struct engine *e, struct str session_id, bool take);
/* The same for a session whose owner is dead: it becomes ours, unless another is faster. */
struct actor *actor_take(struct engine *e, struct str session_id, struct str dead);
void actor_tick(struct actor *a);
void actor_free(struct actor *a);
struct mail *mail_new(enum mail_kind kind);
void mail_free(struct mail *m);
void actor_post(struct actor *a, struct mail *m);
/* For trouble of the machine, which passes: `again` runs after a while, longer each time. False for
 * anything else (fenced, deleted, a defect): that would fail for ever. */
bool actor_retry(struct actor *a, const struct err *err, void (*again)(void *arg));
/* The session cannot be worked on: answers its operations with `err` and lets go of it. */
void actor_give_up(struct actor *a, const struct err *err);

/* A snapshot that lives in the row's arena, with the tools that this server can run. */
int actor_read_agent(struct actor *a, struct str snapshot, struct agent *out,
                     struct err *err) MUST_USE;
/* What is known of the agent's model: after loading, and when the agent changes. */
void actor_learn_facts(struct actor *a);

/* commit.c */
void commit_begin(struct actor *a); /* a fresh step in a->commit */
void commit_submit(struct actor *a);
void commit_drop(struct actor *a); /* nothing to write: frees the step */
/* A call is due that needs a sandbox, and none was marked yet. */
bool commit_wants_sandbox(const struct actor *a);
void commit_mark_sandbox(struct actor *a);
void engine_job_done(struct engine *e);

/* recovery.c */
bool engine_has_peers(const struct engine *e); /* or may get some: sessions have owners */
void engine_tell_committed(struct actor *a);   /* what commit.c has published here */
void engine_gave_up(struct engine *e, const struct id *session_id, int code);

/* effects.c: what happens after a commit */
void effects_start(struct actor *a);
void effects_stop(struct actor *a); /* cancels the model calls and the timers */
void effects_cancel_model(struct actor *a);
void effects_stop_count(struct actor *a);
void effects_copy_result(struct mail *m, const struct model_result *r);
/* For models whose answer nobody watches. */
void effects_ignore_block(void *arg, size_t index, enum model_block_type type);
void effects_ignore_text(void *arg, size_t index, struct str text);
void effects_count_usage(struct engine *e, const struct model_usage *u);
void effects_free_runs(struct engine *e);

/* judge.c */
/* An answer of the turn: true when it waits for its judge, who has been asked; it is posted again
 * then. */
bool judge_start(struct actor *a, struct mail *m);
/* What asking it once may cost: set aside with each request of an agent that has a use for it. */
int64_t judge_reserve(const struct actor *a);
/* The answer's usage is not logged yet: the turn must know in case it is interrupted. */
void judge_stop(struct actor *a);

/* ops.c */
/* Turns an operation into events in the step, or answers it at once (returns false). */
bool op_apply(struct actor *a, struct mail *m);
void op_answer(struct mail *m, const struct session_row *row, const struct err *err);

#endif
