/* sim: a whole world for the engine on virtual time: processes, store, model, hands, clients.
 *
 * One thread; everything is a function of a 64-bit seed. The engine and the core are the real ones;
 * what they reach through core/ports.h is played here. A world lives for one run; its memory is one
 * arena. The first broken rule is kept in `failure`; the run then stops at its next task.
 */
#ifndef OSTLER_TESTS_SIM_H
#define OSTLER_TESTS_SIM_H

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "core/turn.h"
#include "engine/engine.h"
#include "simdb.h"

enum {
    SIM_SESSIONS = 8,
    SIM_SUBS = 24,
    SIM_MS = 1000, /* virtual time is in microseconds */
    SIM_SECOND = 1000 * 1000,
};

/* ---- chance ---- */

struct rng {
    uint64_t state;
};

uint64_t rng_next(struct rng *r);
struct rng rng_of(uint64_t a, uint64_t b); /* a stream of its own for each pair */
int64_t rng_below(struct rng *r, int64_t n);
int64_t rng_between(struct rng *r, int64_t lo, int64_t hi); /* both included */
bool rng_chance(struct rng *r, int64_t num, int64_t den);
/* Mostly small, sometimes large: delays. */
int64_t rng_delay(struct rng *r, int64_t typical_us, int64_t most_us);

/* ---- planted bugs: switched on one at a time, in the simulator's doubles only ---- */

/* X(NAME, what is wrong, seeds within which it must be found) */
#define SIM_BUG_MAP(X)                                                                             \
    X(EARLY_ACK, "the store acknowledges a write before it is durable", 50)                        \
    X(NO_FENCE, "an append checks neither epoch nor sequence", 50)                                 \
    X(RERUN, "a call found in the log after a crash is run, not asked for", 50)                    \
    X(EARLY_HAND_ACK, "the hand may forget a result before its commit", 50)                        \
    X(INBOX_TWICE, "an inbox row stays when the acknowledgement of its commit is lost", 100)       \
    X(FORGOTTEN_CALL, "an interrupt leaves its last call open", 50)                                \
    X(FREE_RETRY, "a failed attempt at the model is not counted", 100)                             \
    X(NO_USAGE, "session.usage is left out before session.status_idle", 10)                        \
    X(LATE_TIMER, "a timer goes off after the interrupt that ended its wait", 1000)                \
    X(NO_SANDBOX_MARK, "the mark that a sandbox may exist is not durable", 200)                    \
    X(HELD_LOST, "the reservation of a lost request is given back", 200)                           \
    X(LATE_ANSWER, "a model's answer comes after its request was cancelled", 200)                  \
    X(EARLY_CALL, "a call runs while the files of the turn before are being kept", 200)            \
    X(NO_DUE, "the mark that files are still to be kept is not durable", 200)                      \
    X(EASY_GRADER, "a grader that hands in nonsense is taken for satisfied", 200)                  \
    X(FREE_GRADER, "a grader sends requests before their money is set aside", 4000)

enum sim_bug {
    BUG_NONE,
#define X(name, what, seeds) BUG_##name,
    SIM_BUG_MAP(X)
#undef X
        BUG_COUNT
};

extern enum sim_bug sim_bug; /* the one that is switched on */
const char *bug_name(enum sim_bug b);
const char *bug_text(enum sim_bug b);
int bug_seeds(enum sim_bug b);

/* ---- the world ---- */

struct sim;

struct task {
    int64_t at_us;
    uint64_t order;
    void (*fn)(struct sim *s, void *arg); /* NULL: taken back */
    void *arg;
};

/* What a request, a call or a commit is about to do; a process may die before or after it. */
enum boundary {
    AT_COMMIT,
    AT_ACK,
    AT_READ,
    AT_MODEL_START,
    AT_MODEL_DONE,
    AT_MODEL_CANCEL,
    AT_TOOL_RUN,
    AT_TOOL_DONE,
    AT_TOOL_ACK,
    AT_TOOL_CANCEL,
    AT_TIMER,
    AT_FRAME,
    AT_CHECKPOINT,
    AT_COPY,
    BOUNDARIES
};

/* One server process from its start to its death. */
struct node {
    struct sim *sim;
    int index;
    int life; /* which one at this index */
    struct engine *engine;
    struct store_port store;
    struct engine_config config;
    bool started;
    bool dead; /* calls from its engine go nowhere any more; reaped after the present task */
    struct list jobs;
    bool writing;
    struct list timers, calls, subs;
    bool dying_after; /* what it does now is the last thing it does */
    int64_t skew_us;  /* of its clock */
    struct id owner;
    int64_t mail_us; /* when the last news for it arrives */
    struct rng rng;
};

/* A tool call as the world sees it, whatever happens to processes and hands. */
enum tool_state { TOOL_NEW, TOOL_RUNNING, TOOL_FINISHED };

struct tool {
    struct list link;
    struct id id;
    int executions; /* the rule: never more than one */
    int first_dispatches;
    enum tool_state state;
    int generation; /* of the hand that knows it */
    bool forgotten; /* acknowledged: the hand has no result any more */
    bool cancelled;
    struct str result; /* what the hand made of it */
    bool is_error;
    struct task *ends;
    struct list waiters; /* struct tool_wait */
};

/* What the checker knows of one session; grown with each commit. */
struct pending_call {
    struct id id;
    enum call_state state;
    enum event_type type;
    bool fails; /* malformed, unknown, denied: never reaches a hand */
};

struct watch {
    struct arena agent_arena;
    struct agent agent;
    struct turn shadow; /* folds what was committed, and nothing else */
    bool live;
    enum { LOG_IDLE, LOG_RUNNING, LOG_SPAN, LOG_WAITING, LOG_GRADING, LOG_DEAD } phase;
    enum event_type expect;
    struct id span;
    struct {
        struct id id, start;
        bool open;
        int64_t iteration, evaluations;
    } outcome;
    struct pending_call calls[LIMIT_TOOL_CALLS_PER_RESPONSE];
    size_t ncalls;
    int64_t last_us, cost_microusd;
    unsigned attempts;
    char reason[8192];
    int64_t requests, idles, compared_seq;
};

/* The files of a session's sandbox, as one number; they outlive processes and hands. */
struct disk {
    bool there;
    uint64_t files;
    struct list wanted; /* struct keep: snapshots that were asked for, in order */
    struct disk_truth {
        int64_t seq;
        uint64_t files;
        bool known; /* and nothing could change them */
    } truth;        /* of the end of the last turn */
};

struct session {
    struct sim *sim;
    int index;
    struct id id;
    const char *model;
    struct db_session *row; /* NULL until its insert committed */
    struct watch watch;
    bool acked;
    int generation; /* of hands; 0: never had one */
    bool hand_alive, hand_starting;
    struct list tools; /* struct tool, all that ever were */
    struct disk disk;
    int64_t billed_microusd;
    int64_t budget_microusd;
    uint64_t requests; /* that reached the provider */
    int messages, outcomes;
    struct list copies; /* struct copy: what graders look at */
};

struct sub {
    struct hub_sub hub;
    struct list link;
    struct node *node;
    struct session *session;
    int64_t next, floor; /* floor: what was durable when it subscribed */
    int frames_left;     /* then it vanishes */
    bool ended;
};

/* An event that a client sent. */
struct sent {
    struct list link;
    struct id id;
    struct session *session;
    bool acked, durable, done;
};

struct knobs {                     /* how rough the world is; chosen by the seed */
    int64_t crash_den[BOUNDARIES]; /* a crash at one in so many; 0: none */
    int64_t loss_den; /* at each boundary, files of some session are lost at one in so many */
    int64_t commit_us, tool_us, model_us, keep_us;
    int fail_pct, hand_pct, disk_pct;
    int sessions, actions, nodes;
};

struct sim {
    uint64_t seed;
    bool verbose;
    int max_actions; /* -1: as the seed says */
    struct arena arena;
    struct rng rng;
    int64_t now_us;
    uint64_t order;
    struct task **heap;
    size_t ntasks, heap_cap;
    struct knobs knobs;
    bool chaos;
    struct simdb *db;
    struct id workspace;
    struct node *nodes[2];
    struct session sessions[SIM_SESSIONS];
    struct list sent;
    struct map sent_by_id, event_ids;
    int64_t disk_full_until_us, outage_until_us, changed_us;
    char failure[1024];
    int64_t steps, commits, crashes, requests, tool_runs, losses, evaluations, actions_done;
};

void sim_fail(struct sim *s, const char *fmt, ...) PRINTF(2, 3);
void sim_trace(struct sim *s, const char *fmt, ...) PRINTF(2, 3);
#define SIM_TRACE(s, ...)                                                                          \
    do {                                                                                           \
        if ((s)->verbose)                                                                          \
            sim_trace((s), __VA_ARGS__);                                                           \
    } while (0)
void *sim_alloc(struct sim *s, size_t len);
struct task *sim_after(struct sim *s, int64_t delay_us, void (*fn)(struct sim *s, void *arg),
                       void *arg);
void task_cancel(struct task **t);
struct session *sim_session(struct sim *s, struct str id);

/* Runs one seed to its end. True: no rule was broken. */
bool sim_run(struct sim *s, uint64_t seed, int max_actions, bool verbose);
void sim_free(struct sim *s);

/* ---- node.c ---- */
struct node *node_start(struct sim *s, int index);
void node_crash(struct node *n, const char *why);
void node_reap(struct node *n);
/* False: the process dies here and what it was about to do does not happen. */
bool boundary(struct node *n, enum boundary at);
/* The other half: the effect happened, and then it died. */
void boundary_after(struct node *n, enum boundary at);
/* Whether its engine still knows this actor: for late call-backs that a planted bug lets through.
 */
bool node_has_actor(const struct node *n, const void *actor);
/* The same for one between two commits. */
bool node_actor_waits(const struct node *n, const void *actor);
struct node *some_node(struct sim *s);

/* ---- ports ---- */
struct clock_port clock_of(struct node *n);
struct rand_port rand_of(struct node *n);
struct model_port model_of(struct node *n);
struct sandbox_port sandbox_of(struct node *n);
struct model_facts model_facts_of(struct str model);
void models_die(struct node *n);
/* A request whose money is accounted for: what was billed never passes the budget. */
void check_bill(struct session *ss);
void timers_die(struct node *n);
void hands_forget_node(struct node *n);
/* ---- copies.c: the sandboxes of graders ---- */
void copy_start(void *self, struct str session_id, struct str copy_id, bool read_only,
                void (*done)(void *arg, const struct err *err), void *arg);
/* False: it is no copy's call, or id. */
bool copy_run(struct node *n, const struct tool_call *call,
              void (*done)(void *arg, const struct tool_outcome *o), void *arg);
bool copy_end(struct node *n, struct str copy_id);
void hand_crash(struct session *ss, const char *why);
struct tool *find_tool(struct session *ss, struct str id);

/* ---- disks.c ---- */
void disk_write(struct session *ss, const struct tool *t);
void disk_restore(struct session *ss);
void disk_lose(struct session *ss);
void disk_turn_ended(struct session *ss, int64_t seq);
void disk_kept(struct session *ss, const struct checkpoint_row *row);
void disk_check(struct session *ss);
void disk_keep(struct node *n, struct session *ss, int64_t seq, bool turn_end);
bool disk_busy(const struct session *ss);
void disks_forget_node(struct node *n);

/* ---- peers.c ---- */
struct peer_port peers_of(struct node *n);
void peers_born(struct node *n);
void peers_died(struct node *n);
struct node *owner_of(struct session *ss);

/* ---- clients.c ---- */
void client_act(struct sim *s, int number);
void client_create(struct sim *s, struct session *ss, struct rng *r);
/* Everything that waits for a client is answered; sessions that nobody works on are woken, as the
 * next request would. False: there was nothing to do. */
bool client_answer_all(struct sim *s);
void subs_die(struct node *n);

/* ---- check.c ---- */
extern const struct simdb_hooks check_hooks;
void check_request(struct node *n, struct session *ss, const struct model_request *req);
/* The live state of every engine against a fold of the log. */
void check_live(struct sim *s, struct node *n, bool deep);
bool check_quiet(struct sim *s);
void check_end(struct sim *s);
void watch_fini(struct watch *w);
struct pending_call *watch_call(struct watch *w, struct str id);

#endif
