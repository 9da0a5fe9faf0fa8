#include "store/queue.h"

#include "base/mem.h"

/* ---- lists ---- */

void job_list_push(struct job_list *l, struct store_job *job)
{
    job->next = NULL;
    if (l->tail)
        l->tail->next = job;
    else
        l->head = job;
    l->tail = job;
    l->n++;
}

struct store_job *job_list_pop(struct job_list *l)
{
    struct store_job *job = l->head;
    if (!job)
        return NULL;
    l->head = job->next;
    if (!l->head)
        l->tail = NULL;
    l->n--;
    job->next = NULL;
    return job;
}

void job_list_move(struct job_list *to, struct job_list *from)
{
    if (!from->head)
        return;
    if (to->tail)
        to->tail->next = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    to->n += from->n;
    *from = (struct job_list){0};
}

/* ---- waiting ---- */

void queue_init(struct queue *q)
{
    *q = (struct queue){0};
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->wake, NULL);
}

void queue_fini(struct queue *q)
{
    pthread_cond_destroy(&q->wake);
    pthread_mutex_destroy(&q->lock);
}

enum queue_push queue_push(struct queue *q, struct store_job *job, size_t limit, bool *busy)
{
    bool wake = false;
    pthread_mutex_lock(&q->lock);
    enum queue_push rc = q->stopping          ? QUEUE_STOPPED
                         : q->jobs.n >= limit ? QUEUE_FULL
                                              : QUEUE_TAKEN;
    if (rc == QUEUE_TAKEN) {
        job_list_push(&q->jobs, job);
        *busy = q->jobs.n > q->waiting;
        wake = q->waiting > 0;
    }
    pthread_mutex_unlock(&q->lock);
    /* Outside of the lock, which the woken thread would otherwise run into. */
    if (wake)
        pthread_cond_signal(&q->wake);
    return rc;
}

bool queue_take(struct queue *q, size_t max, struct job_list *out)
{
    pthread_mutex_lock(&q->lock);
    q->waiting++;
    while (q->jobs.n == 0 && !q->stopping)
        pthread_cond_wait(&q->wake, &q->lock);
    q->waiting--;
    while (q->jobs.n && out->n < max)
        job_list_push(out, job_list_pop(&q->jobs));
    pthread_mutex_unlock(&q->lock);
    return out->n > 0;
}

void queue_stop(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->stopping = true;
    pthread_cond_broadcast(&q->wake);
    pthread_mutex_unlock(&q->lock);
}

size_t queue_len(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    size_t n = q->jobs.n;
    pthread_mutex_unlock(&q->lock);
    return n;
}

/* ---- done ---- */

struct outbox *outbox_new(struct loop *l)
{
    struct outbox *o = mem_zalloc(sizeof *o);
    o->loop = l;
    pthread_mutex_init(&o->lock, NULL);
    return o;
}

/* Once it is closed, and neither a post nor a delivery still knows it. */
static void free_if_unused(struct outbox *o)
{
    pthread_mutex_lock(&o->lock);
    bool unused = o->closed && !o->posted && o->delivering == 0;
    pthread_mutex_unlock(&o->lock);
    if (!unused)
        return;
    pthread_mutex_destroy(&o->lock);
    mem_free(o);
}

bool outbox_deliver(struct outbox *o)
{
    pthread_mutex_lock(&o->lock);
    job_list_move(&o->due, &o->done);
    pthread_mutex_unlock(&o->lock);
    bool any = o->due.n > 0;
    o->delivering++;
    for (struct store_job *job; (job = job_list_pop(&o->due)) != NULL;)
        job->done(job, &job->err); /* may free the job, may close the store */
    o->delivering--;
    free_if_unused(o);
    return any;
}

static void on_post(struct loop_post *post)
{
    struct outbox *o = CONTAINER_OF(post, struct outbox, post);
    pthread_mutex_lock(&o->lock);
    o->posted = false; /* from here on the node may be posted again */
    pthread_mutex_unlock(&o->lock);
    outbox_deliver(o);
}

void outbox_push(struct outbox *o, struct job_list *done)
{
    pthread_mutex_lock(&o->lock);
    job_list_move(&o->done, done);
    bool post = !o->posted && o->done.n > 0;
    if (post)
        o->posted = true;
    pthread_mutex_unlock(&o->lock);
    if (post)
        loop_post(o->loop, &o->post, on_post);
}

void outbox_close(struct outbox *o)
{
    pthread_mutex_lock(&o->lock);
    o->closed = true;
    pthread_mutex_unlock(&o->lock);
    free_if_unused(o);
}
