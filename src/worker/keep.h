/* keep: what a worker keeps in its directory about sessions: a file SEEN/SESSION for each, whose
 * lines are the calls that were given to its sandbox, and whose time says when it was last served.
 *
 * A call is noted, durably, before it is given: after a kill the worker knows which calls may have
 * run. Files are written on the worker pool.
 */
#ifndef OSTLER_WORKER_KEEP_H
#define OSTLER_WORKER_KEEP_H

#include "base/buf.h"
#include "base/id.h"
#include "base/map.h"
#include "io/loop.h"

/* Of one session that is served; embedded by the item. */
struct keep_notes {
    struct loop *loop;
    char path[3200];
    struct map ids; /* noted before this item: the keys are the values */
    struct loop_work work;
    struct buf text, adding; /* to be written; being written */
    bool busy, reading, clearing, clear;
    uint64_t added, submitted; /* calls; of them those that are written, or not with an error */
    struct err err;
    void (*ready)(struct keep_notes *n, const struct err *err);   /* after keep_open() */
    void (*written)(struct keep_notes *n, const struct err *err); /* up to `submitted` */
    void (*idle)(struct keep_notes *n); /* nothing runs any more, after keep_end() */
};

void keep_open(struct keep_notes *n, struct loop *l, const char *dir, const char *session);
bool keep_knows(const struct keep_notes *n, struct str id);
uint64_t keep_add(struct keep_notes *n, struct str id); /* its number in `added` */
/* `clear`: every call has its answer. idle() is called once, maybe at once. */
void keep_end(struct keep_notes *n, bool clear);
void keep_fini(struct keep_notes *n);

/* One file for the directory: CONFLICT when another process holds it. */
int keep_lock(const char *dir, int *fd, struct err *err) MUST_USE;
/* Worker pool: the sessions and their age in seconds. */
struct keep_session {
    struct id id;
    int64_t age_s;
};
int keep_list(const char *dir, struct keep_session **out, size_t *n, struct err *err) MUST_USE;
void keep_forget(const char *dir, const char *session);

#endif
