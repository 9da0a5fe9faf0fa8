/* egress_log: writes what the egress proxy decided into the store, many to a transaction.
 *
 * Loop thread. Made by serve after the store, embedded; what waits when the server ends is lost
 * with it, as after a crash: a record, not a promise.
 */
#ifndef OSTLER_CLI_EGRESS_LOG_H
#define OSTLER_CLI_EGRESS_LOG_H

#include "sandbox/sandbox.h"

struct egress_log_row;

struct egress_log {
    struct store_job job;
    struct store_port store;
    struct egress_log_row *waiting, *writing; /* arrays */
    size_t nwaiting, cap, nwriting, dropped;
    bool busy;
};

void egress_log_init(struct egress_log *l, struct store_port store);
/* For sandbox_config.on_egress; `arg` is the log. */
void egress_log_add(void *arg, const struct sandbox_egress *e);
/* After the store is closed. */
void egress_log_fini(struct egress_log *l);

#endif
