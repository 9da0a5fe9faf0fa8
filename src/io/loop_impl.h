/* loop_impl: what the files of io/ share of a loop. Internal to io/; loop thread, but for `posted`.
 */
#ifndef OSTLER_IO_LOOP_IMPL_H
#define OSTLER_IO_LOOP_IMPL_H

#include "io/loop.h"

#include <pthread.h>
#include <stdatomic.h>

struct loop {
    uv_loop_t uv;
    uv_poll_t wake;
    int wake_fd;                        /* counts wake-ups by loop_post() */
    _Atomic(struct loop_post *) posted; /* newest first; any thread pushes */
    _Atomic(pthread_t) thread;          /* the one inside loop_run(), or that made the loop */
    struct list signals;                /* struct on_signal */
    struct list orphans;                /* struct orphan: children closed before they exited */
};

/* Closes the handles of children that nobody waits for any more. */
void child_close_orphans(struct loop *l);

#endif
