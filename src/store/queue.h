/* queue: jobs waiting for a store thread, and finished jobs on their way to the loop.
 *
 * Internal to store/. Every function may be called on any thread; a queue's lock is held for a few
 * instructions only. A job is in one list at a time, linked by its own `next`.
 */
#ifndef OSTLER_STORE_QUEUE_H
#define OSTLER_STORE_QUEUE_H

#include "core/ports.h"
#include "io/loop.h"

#include <pthread.h>

struct job_list {
    struct store_job *head, *tail;
    size_t n;
};

void job_list_push(struct job_list *l, struct store_job *job);
struct store_job *job_list_pop(struct job_list *l); /* the first, or NULL */
void job_list_move(struct job_list *to, struct job_list *from);

/* ---- jobs that wait ---- */

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job_list jobs;
    size_t waiting; /* threads inside queue_take() */
    bool stopping;
};

void queue_init(struct queue *q);
void queue_fini(struct queue *q);
enum queue_push { QUEUE_TAKEN, QUEUE_FULL, QUEUE_STOPPED };
/* *busy: no thread was waiting for this job. */
enum queue_push queue_push(struct queue *q, struct store_job *job, size_t limit, bool *busy);
/* Blocks for at least one job, takes up to `max`; false when the queue stopped and is empty. */
bool queue_take(struct queue *q, size_t max, struct job_list *out);
/* What is left stays to be taken; nothing more can be pushed. */
void queue_stop(struct queue *q);
size_t queue_len(struct queue *q);

/* ---- jobs that are done ---- */

/* One post to the loop for everything that finished since the last one. It outlives the store when
 * a post is still under way at store_close(), and is then freed by that post. */
struct outbox {
    struct loop_post post;
    struct loop *loop;
    pthread_mutex_t lock;
    struct job_list done; /* under the lock, like the two flags */
    bool posted, closed;
    struct job_list due; /* loop thread: being delivered */
    int delivering;      /* loop thread: calls of outbox_deliver() on the stack */
};

struct outbox *outbox_new(struct loop *l);
void outbox_push(struct outbox *o, struct job_list *done); /* empties `done` */
/* Loop thread: calls every `done` that is due; false when there was none. A `done` may come back
 * here by closing the store. */
bool outbox_deliver(struct outbox *o);
void outbox_close(struct outbox *o); /* loop thread, after the last push; frees now or later */

#endif
