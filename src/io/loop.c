#include "io/loop_impl.h"

#include "base/fd.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct on_signal {
    struct list node;
    uv_signal_t uv;
    void (*fn)(void *arg, int signum);
    void *arg;
};

/* ---- posting ---- */

/* The stack holds the newest first; posting order is its reverse. */
static void run_posted(struct loop *l)
{
    struct loop_post *newest = atomic_exchange_explicit(&l->posted, NULL, memory_order_acquire);
    struct loop_post *oldest = NULL;
    while (newest) {
        struct loop_post *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        struct loop_post *next = oldest->next; /* fn may free the node */
        oldest->fn(oldest);
        oldest = next;
    }
}

/* The count is reset before the stack is taken: what is pushed later finds it empty and counts
 * anew.
 */
static void on_wake(uv_poll_t *poll, int status, int events)
{
    struct loop *l = CONTAINER_OF(poll, struct loop, wake);
    uint64_t count;
    (void)status;
    (void)events;
    while (read(l->wake_fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
    run_posted(l);
}

void loop_post(struct loop *l, struct loop_post *post, void (*fn)(struct loop_post *))
{
    post->fn = fn;
    struct loop_post *head = atomic_load_explicit(&l->posted, memory_order_relaxed);
    do
        post->next = head;
    while (!atomic_compare_exchange_weak_explicit(&l->posted, &head, post, memory_order_release,
                                                  memory_order_relaxed));
    /* A non-empty stack has its wake-up under way already. Not uv_async_send(): the loop that it
     * wakes spins until the sender is back from the call, which on the same processor it is not. */
    static const uint64_t one = 1;
    while (!head && write(l->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

/* ---- the loop ---- */

static void must(int rc, const char *what)
{
    if (rc == 0)
        return;
    fprintf(stderr, "ostler: %s failed: %s\n", what, uv_strerror(rc));
    abort();
}

struct loop *loop_new(void)
{
    struct loop *l = mem_zalloc(sizeof *l);
    must(uv_loop_init(&l->uv), "uv_loop_init");
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    must(l->wake_fd < 0 ? -errno : 0, "eventfd");
    must(uv_poll_init(&l->uv, &l->wake, l->wake_fd), "uv_poll_init");
    must(uv_poll_start(&l->wake, UV_READABLE, on_wake), "uv_poll_start");
    /* Waiting for posts alone does not keep a loop running. */
    uv_unref((uv_handle_t *)&l->wake);
    atomic_init(&l->posted, NULL);
    atomic_init(&l->thread, pthread_self());
    list_init(&l->signals);
    list_init(&l->orphans);
    signal(SIGPIPE, SIG_IGN); /* a broken peer is an EPIPE, not our death */
    return l;
}

static void free_signal(uv_handle_t *h)
{
    mem_free(CONTAINER_OF(h, struct on_signal, uv));
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    run_posted(l);
    uv_close((uv_handle_t *)&l->wake, NULL);
    for (struct list *n; (n = list_pop(&l->signals)) != NULL;)
        uv_close((uv_handle_t *)&LIST_ENTRY(n, struct on_signal, node)->uv, free_signal);
    child_close_orphans(l);
    uv_run(&l->uv, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&l->uv);
    if (rc == UV_EBUSY)
        uv_print_all_handles(&l->uv, stderr);
    must(rc, "uv_loop_close (a handle was left open)");
    fd_close(l->wake_fd);
    mem_free(l);
}

void loop_run(struct loop *l)
{
    atomic_store_explicit(&l->thread, pthread_self(), memory_order_relaxed);
    uv_run(&l->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *l)
{
    uv_stop(&l->uv);
}

uv_loop_t *loop_uv(struct loop *l)
{
    return &l->uv;
}

bool loop_is_thread(const struct loop *l)
{
    pthread_t t =
        atomic_load_explicit(&((struct loop *)(uintptr_t)l)->thread, memory_order_relaxed);
    return pthread_equal(t, pthread_self()) != 0;
}

int64_t loop_now_ms(const struct loop *l)
{
    return (int64_t)uv_now(&l->uv);
}

/* ---- timers ---- */

static void on_timer(uv_timer_t *uv)
{
    struct loop_timer *t = CONTAINER_OF(uv, struct loop_timer, uv);
    t->fn(t);
}

void loop_timer_init(struct loop *l, struct loop_timer *t)
{
    *t = (struct loop_timer){.fn = NULL};
    uv_timer_init(&l->uv, &t->uv);
}

void loop_timer_start(struct loop_timer *t, int64_t delay_ms, void (*fn)(struct loop_timer *))
{
    t->fn = fn;
    /* The cached time is that of the turn's begin: a long call-back would cut the delay short. */
    uv_update_time(t->uv.loop);
    uv_timer_start(&t->uv, on_timer, delay_ms > 0 ? (uint64_t)delay_ms : 0, 0);
}

void loop_timer_stop(struct loop_timer *t)
{
    uv_timer_stop(&t->uv);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct loop_timer *t = CONTAINER_OF(h, struct loop_timer, uv);
    if (t->closed)
        t->closed(t);
}

void loop_timer_close(struct loop_timer *t, void (*closed)(struct loop_timer *))
{
    t->closed = closed;
    uv_close((uv_handle_t *)&t->uv, on_timer_closed);
}

/* ---- blocking work ---- */

static void on_work(uv_work_t *uv)
{
    struct loop_work *w = CONTAINER_OF(uv, struct loop_work, uv);
    w->work(w);
}

static void on_work_done(uv_work_t *uv, int status)
{
    (void)status; /* never cancelled */
    struct loop_work *w = CONTAINER_OF(uv, struct loop_work, uv);
    w->done(w);
}

void loop_work(struct loop *l, struct loop_work *w, void (*work)(struct loop_work *),
               void (*done)(struct loop_work *))
{
    w->work = work;
    w->done = done;
    must(uv_queue_work(&l->uv, &w->uv, on_work, on_work_done), "uv_queue_work");
}

/* ---- signals ---- */

static void on_signal(uv_signal_t *uv, int signum)
{
    struct on_signal *s = CONTAINER_OF(uv, struct on_signal, uv);
    s->fn(s->arg, signum);
}

int loop_on_signal(struct loop *l, int signum, void (*fn)(void *arg, int signum), void *arg)
{
    struct on_signal *s = mem_zalloc(sizeof *s);
    s->fn = fn;
    s->arg = arg;
    must(uv_signal_init(&l->uv, &s->uv), "uv_signal_init");
    list_push(&l->signals, &s->node);
    uv_unref((uv_handle_t *)&s->uv);
    int rc = uv_signal_start(&s->uv, on_signal, signum);
    if (rc == 0)
        return 0;
    list_remove(&s->node);
    uv_close((uv_handle_t *)&s->uv, free_signal);
    return ERR_INVALID;
}
