/* work_impl: the work of self-hosted environments as the API sees it: pollers that wait, workers
 * that were seen, the sweep of leases. Internal to api/.
 *
 * Loop thread. One service for each server process, made with the api and closed with it.
 */
#ifndef OSTLER_API_WORK_IMPL_H
#define OSTLER_API_WORK_IMPL_H

#include "api/api_impl.h"
#include "json/writer.h"
#include "store/work.h"

enum {
    WORK_TTL_MIN_S = 2,
    WORK_TTL_MAX_S = 3600,
    WORK_SWEEP_MS = 1000,
    WORK_KEPT_DAYS = 30, /* how long a stopped item can be looked at */
    WORK_SEEN_MAX = 4096,
    WORK_SEEN_MS = 30 * 1000, /* who polled so long ago counts as polling (API) */
    WORK_BLOCK_MAX_MS = 999,  /* (API) */
    WORK_RECLAIM_MS = 5000,   /* (API) */
};

/* A worker that polled. */
struct work_seen {
    struct id environment;
    unsigned char worker[16]; /* of the hash of its name */
    int64_t at_ms;
};

struct work_service {
    struct api *api;
    struct list pollers; /* struct poll, work_poll.c: those that wait */
    int64_t wakes;       /* grows with each: who looks meanwhile looks again */
    struct work_seen seen[WORK_SEEN_MAX];
    size_t nseen; /* a ring of the latest */
    struct loop_timer timer;
    bool closing, timer_closed;
    struct work_sweep *sweep; /* under way, or NULL */
    void (*closed)(struct api *api);
    /* counters for /metrics */
    int64_t lost, dropped, given_up;
};

/* ---- work_sweep.c ---- */
void work_open(struct api *api);
/* Answers whoever waits; `closed` when nothing is under way any more. */
void work_close(struct api *api, void (*closed)(struct api *api));

/* ---- work_poll.c ---- */
/* There may be work in this environment. */
void work_wake(struct api *api, struct str environment);
void work_poll_end_all(struct work_service *w);
int64_t work_pollers(const struct work_service *w, struct str environment); /* "": of all */

/* ---- work.c ---- */
void work_write(struct jw *w, const struct work_row *row, struct str secret);
/* The environment that the path names, if the caller may ask for its work. Store thread. */
int work_environment(struct store_tx *tx, struct call *c, struct err *err) MUST_USE;

#endif
