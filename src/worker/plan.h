/* plan: what a worker is to do for a session, decided from the session's events.
 *
 * Pure: events in, decisions out; no I/O, no clock. Loop thread; embedded by the item that serves
 * the session. Events may come in any number of readings of the history and live, some of them
 * twice: what an event says is taken once.
 */
#ifndef OSTLER_WORKER_PLAN_H
#define OSTLER_WORKER_PLAN_H

#include "base/id.h"
#include "base/list.h"
#include "base/map.h"
#include "json/json.h"

enum plan_verdict { PLAN_NONE, PLAN_ALLOW, PLAN_DENY };

/* One call of a tool that a sandbox runs; or what is known of an id before its call is. */
struct plan_call {
    struct list node; /* in `open`, while it has no answer */
    struct id id;
    struct id thread;   /* of a session thread of its own; else empty */
    char *name, *input; /* NULL: its agent.tool_use was not seen, or it is answered */
    size_t input_len;
    enum plan_verdict verdict;
    bool asks;        /* somebody must allow it first */
    bool answered;    /* or refused: nothing is to be done for it any more */
    bool started;     /* plan_next() gave it out */
    bool stopped;     /* plan_cancel() gave it out */
    bool interrupted; /* by an event after it: not to be started */
};

struct plan {
    struct map ids;     /* of events -> struct plan_call */
    struct list open;   /* in the order of the events */
    struct map threads; /* that have terminated: the keys are the values */
    bool listing;       /* the history is being read: nothing is decided yet */
    bool ended;         /* the last event says that the turn is over */
    bool resting;       /* the last status is idle, for whatever reason */
    bool over;          /* the session has terminated or is deleted */
    bool deleted;
    uint64_t moves; /* grows with every event that starts an idle time anew, or ends it */
};

/* Fit to name a directory, a line of a file and a piece of a URL; what else the server calls
 * something is nothing to us. */
bool plan_names(struct str s, size_t max);

void plan_init(struct plan *p);
void plan_fini(struct plan *p);

/* Reading the history from its beginning; what comes live meanwhile follows behind it. */
void plan_list_begins(struct plan *p);
void plan_list_ends(struct plan *p);
void plan_event(struct plan *p, const struct json *ev);

/* The next call to start, or NULL: it counts as started. */
struct plan_call *plan_next(struct plan *p);
/* The next started call that is to be stopped, or NULL; each once. An answered one needs no result.
 */
struct plan_call *plan_cancel(struct plan *p);
/* It needs no result any more: somebody has one. */
void plan_answered(struct plan *p, struct str id);

/* Something waits for a decision of people. */
bool plan_holds(const struct plan *p);
/* There are calls of ours without an answer: started, or to be started. */
bool plan_works(const struct plan *p);
/* The turn is over and nothing is left to do or to wait for. */
bool plan_idle(const struct plan *p);

#endif
