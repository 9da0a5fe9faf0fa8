/* impl: what the parts of the worker share; internal to worker/. Loop thread, but for functions
 * marked "worker pool". */
#ifndef OSTLER_WORKER_IMPL_H
#define OSTLER_WORKER_IMPL_H

#include "store/blob.h"
#include "worker/feed.h"
#include "worker/keep.h"
#include "worker/lease.h"
#include "worker/plan.h"
#include "worker/skills.h"
#include "worker/worker.h"

#include "base/list.h"
#include "base/sm.h"

enum {
    ITEMS_PER_SESSION = 16, /* sessions that only wait do not count, up to so many for each place */
    TRY_MIN_MS = 1000,
    TRY_MAX_MS = 30 * 1000,
    STOP_TRIES = 5,
    CONFLICT_TRIES = 5, /* of sending a result */
};

struct worker {
    struct loop *loop;
    struct wire wire;
    char dir[3072];
    int lock; /* descriptor */
    int64_t sessions, idle_ms, keep_days, lease_seconds;
    bool once;
    char *environment_config;
    struct blobs blobs;
    struct sandboxes *sandboxes;
    struct sandbox_port port;
    struct list items;   /* struct item */
    struct list orphans; /* struct run: their item is gone, the sandbox still answers */
    /* polling */
    struct wire_call poll;
    struct loop_timer timer, sweep_timer;
    int64_t polled_ms, idle_said_ms;
    unsigned failures; /* of polls, in a row */
    bool polling, idle_said;
    /* the end */
    struct err why;
    unsigned drains;
    bool started, ending, told, closing;
    void (*ended)(void *arg, const struct err *err);
    void *ended_arg;
    void (*closed)(void *arg);
    void *closed_arg;
    unsigned open; /* what has not closed yet */
    struct loop_post post;
    struct sweeping *sweeping; /* while it runs */
};

/* One item of the queue, which is a session to be served.
 *
 *   ACKING --ok--> OPENING --session, skills--> SERVING
 *     |               | refused        idle, over, | to end
 *     |               v                            v
 *     |            STOPPING <----------------------+
 *     | not ours      | answered                   | lost, or calls are left for others
 *     +------------> GONE <------------------------+
 */
enum item_state { ITEM_ACKING, ITEM_OPENING, ITEM_SERVING, ITEM_STOPPING, ITEM_GONE };

struct item {
    struct list node;
    struct worker *w;
    struct sm sm;
    char work_id[128];
    struct id session;
    char *token; /* of the session; NULL: the environment's key serves */
    struct wire_call call;
    struct loop_timer timer; /* the next try; the idle time; the end of the drain */
    struct lease lease;
    struct feed feed;
    struct plan plan;
    struct list runs;
    struct keep_notes notes;
    struct worker_skills skills;
    unsigned tries;
    uint64_t moves;                   /* of the plan, when the idle time began */
    bool counting;                    /* the idle time */
    bool leased, fed, skilled, noted; /* what is to be closed */
    bool draining;
    bool refused; /* it is no session that can be served: only to be stopped */
    bool kept;    /* calls wait in it that somebody is to run: their notes stay */
    bool looking; /* inside item_look() */
    unsigned open;
};

/* A call of a tool. */
struct run {
    struct list node; /* of the item's runs, or the orphans */
    struct worker *w;
    struct item *item; /* NULL: an orphan */
    struct id session, id;
    char *name, *input;
    size_t input_len;
    bool again; /* it was given to a sandbox before: its result is asked for */
    bool noted; /* that it is given to one is on disk */
    uint64_t note;
    bool given;   /* to the sandbox, which has not answered */
    bool unasked; /* the result is not wanted */
    int64_t began_ms;
    struct buf body; /* of the result */
    char nonce[48];
    struct wire_call post;
    struct loop_timer timer;
    bool timer_open;
    unsigned tries, conflicts;
};

/* ---- item.c ---- */
/* Takes an item that was polled. `token` may be absent. */
void item_new(struct worker *w, struct str work_id, struct str session, struct str token,
              bool refused);
/* Starts nothing more and goes when the last call has its result; `late`: now. */
void item_drain(struct item *it, bool late);
void item_close(struct item *it); /* without a word to the server */
void item_look(struct item *it);  /* something changed */
/* The server does not take our credential for it: its calls end here, results stay in the sandbox.
 */
void item_disowned(struct item *it, const char *why);
bool item_waits(const struct item *it); /* for others: it takes no place */

/* ---- run.c ---- */
void run_new(struct item *it, const struct plan_call *call);
void run_noted(struct run *r, const struct err *err); /* what is on disk, or why it is not */
void run_unask(struct run *r);                        /* stops it; whatever it says is not sent */
void run_cancel(struct run *r);                       /* stops it; what it says is sent */
/* The item is not ours any more, or ends. `stop`: ends the call in the sandbox, too. */
void run_orphan(struct run *r, bool stop);
void run_free(struct run *r);
struct run *run_find(struct item *it, struct str id);

/* ---- worker.c ---- */
void worker_item_gone(struct worker *w);
void worker_handle_closed(struct worker *w); /* one of `open` */
void worker_poll_soon(struct worker *w);

#endif
