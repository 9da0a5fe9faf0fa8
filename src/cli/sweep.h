/* sweep: at start, sandboxes whose session is gone are cleared away.
 *
 * Loop thread; embedded by the caller, who keeps it until the store is closed. Looks only at
 * sessions that left a directory behind, not at all of them.
 */
#ifndef OSTLER_CLI_SWEEP_H
#define OSTLER_CLI_SWEEP_H

#include "sandbox/sandbox.h"
#include "store/store.h"

struct sweep {
    struct store_job job;
    struct sandboxes *sandboxes; /* NULL: too late */
    const char *dir;
    struct id *keep;
    size_t n, cap;
};

/* `dir` (DATA/sandboxes) must outlive it. */
void sweep_start(struct sweep *s, struct store_port store, struct sandboxes *sandboxes,
                 const char *dir);
/* Before the sandboxes are closed: whatever is still looked for is let be. */
void sweep_cancel(struct sweep *s);

#endif
