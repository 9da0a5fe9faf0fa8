/* worker: serves the sessions of a self-hosted environment: takes them from its queue, runs their
 * tools in local sandboxes and sends the results.
 *
 * Loop thread. Speaks the published worker protocol to any server (docs/internals/worker.md). One
 * worker has a directory of its own, with the files of its sessions; what ran when it was killed is
 * found again there.
 */
#ifndef OSTLER_WORKER_WORKER_H
#define OSTLER_WORKER_WORKER_H

#include "sandbox/sandbox.h"

struct worker;

enum { WORKER_DRAIN_MS = 30 * 1000 };

struct worker_config {
    const char *url;         /* of the server, as a person types it */
    const char *environment; /* id */
    const char *key;         /* of the environment */
    const char *name;        /* of this worker; NULL: the host's and a number */
    const char *dir;
    int64_t sessions;              /* at most so many run tools at the same time */
    int64_t idle_ms;               /* a session is given back so long after its turn */
    int64_t keep_days;             /* files of sessions that were not seen for so long go */
    int64_t lease_seconds;         /* asked for; 0: the server's choice */
    bool once;                     /* ends when the queue is empty and everything taken is done */
    struct str environment_config; /* limits, networking, variables of the sandboxes, as JSON */
    struct sandbox_limits limits;
    const struct egress_settings *egress; /* must outlive the worker */
};

/* INVALID naming what is wrong; CONFLICT when another worker has the directory. Copies all texts.
 */
int worker_open(struct loop *l, const struct worker_config *cfg, struct worker **out,
                struct err *err) MUST_USE;
/* Begins to take work once a sandbox is known to work. `ended` once: with code 0 after a drain, or
 * when there was nothing more to do; else why it cannot go on: UNAVAILABLE when no sandbox works
 * here, or what the server refused. */
void worker_start(struct worker *w, void (*ended)(void *arg, const struct err *err), void *arg);
/* Takes nothing more, lets running calls end for up to WORKER_DRAIN_MS, sends what is there, gives
 * the sessions back; then `ended`. The second time: does not wait for calls. */
void worker_drain(struct worker *w);
/* At once, as safe as a crash. Sandboxes and what runs in them stay. */
void worker_close(struct worker *w, void (*closed)(void *arg), void *arg);

#endif
