/* lease: keeps a work item ours by heartbeats, and knows when it is ours no more.
 *
 * Loop thread; embedded by the item. Each heartbeat names the one before it, so that of two workers
 * who believe that they hold an item one is told that it does not.
 */
#ifndef OSTLER_WORKER_LEASE_H
#define OSTLER_WORKER_LEASE_H

#include "worker/wire.h"

enum lease_state {
    LEASE_HELD,
    LEASE_ENDING,   /* the server wants the item to end */
    LEASE_LOST,     /* it is somebody else's, or may be by now */
    LEASE_REJECTED, /* heartbeats are refused for good */
};

struct lease {
    struct wire_call call;
    struct loop_timer timer;
    const char *work_id;
    char last[128];        /* heartbeat */
    int64_t desired_ttl_s; /* 0: the server's */
    int64_t ttl_ms, interval_ms;
    int64_t sent_ms, ok_ms; /* the newest beat; the newest that was answered */
    unsigned failures;      /* in a row */
    enum lease_state state;
    bool stopped;
    void (*changed)(struct lease *l); /* it is not LEASE_HELD any more; once */
    void (*closed)(struct lease *l);
};

/* `work_id` and `bearer` live as long as the lease. */
void lease_start(struct lease *l, struct wire *w, const char *work_id, const char *bearer,
                 int64_t desired_ttl_s, void (*changed)(struct lease *l));
/* Held, and confirmed recently enough that nobody else can have it. */
bool lease_holds(const struct lease *l);
void lease_close(struct lease *l, void (*closed)(struct lease *l));
const char *lease_state_name(enum lease_state s);

#endif
