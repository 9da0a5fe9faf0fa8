/* loop: the one event loop of a process: timers, posting from other threads, blocking work off the
 * loop, child processes, signals. The only glue over libuv besides http/.
 *
 * Everything here is called on the loop thread, except loop_post(). Handles are embedded by their
 * owner; memory may be reused only after the close callback.
 */
#ifndef OSTLER_IO_LOOP_H
#define OSTLER_IO_LOOP_H

#include "base/err.h"
#include "base/list.h"

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct loop;

struct loop *loop_new(void);
void loop_free(struct loop *l); /* every handle must be closed by then; runs what was posted */
/* Until loop_stop() or nothing is left; signals and posts to come do not keep it running. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
uv_loop_t *loop_uv(struct loop *l);
bool loop_is_thread(const struct loop *l); /* true on the loop's thread: for assertions */
int64_t loop_now_ms(const struct loop *l); /* monotonic; cached once per loop turn */

/* Runs fn(arg) on the loop thread, in posting order. Any thread. `post` is embedded by the caller
 * and must stay alive until fn is called. */
struct loop_post {
    struct loop_post *next;
    void (*fn)(struct loop_post *);
};
void loop_post(struct loop *l, struct loop_post *post, void (*fn)(struct loop_post *));

/* One-shot timer. `fn` may free its owner only after loop_timer_close's callback. */
struct loop_timer {
    uv_timer_t uv;
    void (*fn)(struct loop_timer *);
    void (*closed)(struct loop_timer *);
};
void loop_timer_init(struct loop *l, struct loop_timer *t);
void loop_timer_start(struct loop_timer *t, int64_t delay_ms, void (*fn)(struct loop_timer *));
void loop_timer_stop(struct loop_timer *t);
void loop_timer_close(struct loop_timer *t, void (*closed)(struct loop_timer *)); /* NULL is fine */

/* Blocking work on the worker pool; `done` on the loop thread. */
struct loop_work {
    uv_work_t uv;
    void (*work)(struct loop_work *);
    void (*done)(struct loop_work *);
};
void loop_work(struct loop *l, struct loop_work *w, void (*work)(struct loop_work *),
               void (*done)(struct loop_work *));

/* A child process, held by pidfd, started by posix_spawn: no code of ours between fork and exec.
 * `fds[i]` becomes descriptor i of the child (-1: /dev/null); everything else is closed, but 0 to 2
 * are always open. Its signal mask is empty and every disposition the default. The descriptors stay
 * the caller's. */
struct loop_child {
    struct loop *loop;
    uv_poll_t poll;
    int pidfd; /* open until the handle has closed: see child.c */
    int pid;
    bool running;                                         /* not reaped yet */
    void (*exited)(struct loop_child *, int wait_status); /* once, after the child was reaped */
    void (*closed)(struct loop_child *);
};
struct loop_spawn {
    const char *file; /* absolute, or searched on PATH */
    const char *const *argv;
    const char *const *envp; /* NULL: inherit */
    const int *fds;
    size_t nfds;
    const char *cwd; /* NULL: inherit */
    bool new_session;
};
int loop_spawn(struct loop *l, struct loop_child *c, const struct loop_spawn *how,
               void (*exited)(struct loop_child *, int wait_status), struct err *err) MUST_USE;
/* 0, or NOT_FOUND when it has exited. */
int loop_child_kill(struct loop_child *c, int sig);
/* The same to its whole process group; only for a child started with new_session. */
int loop_child_kill_group(struct loop_child *c, int sig);
/* Only after a successful loop_spawn(). A child still running goes on (kill it first if it should
 * not) and is reaped by the loop; `exited` is not called any more. */
void loop_child_close(struct loop_child *c, void (*closed)(struct loop_child *));

/* SIGINT, SIGTERM, SIGHUP... on the loop, until loop_free(); SIGPIPE is ignored from loop_new() on.
 * INVALID for a signal that cannot be caught. */
int loop_on_signal(struct loop *l, int signum, void (*fn)(void *arg, int signum), void *arg);

#endif
