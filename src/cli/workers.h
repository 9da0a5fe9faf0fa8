/* workers: `serve --workers N`: N server processes that share one listening socket, and the one
 * that keeps them running.
 *
 * Main thread, before anything of a server is opened.
 */
#ifndef OSTLER_CLI_WORKERS_H
#define OSTLER_CLI_WORKERS_H

#include "base/err.h"

enum { WORKERS_MAX = 64, WORKERS_LISTEN_FD = 3, WORKERS_READY_FD = 4 };

struct workers_config {
    int n;
    const char *host;
    int port;
    int ready_fd; /* -1, or where the first one says that it serves */
    char **argv;  /* of `serve`: the flags that each gets, too */
    int argc;
};

/* Until SIGTERM or SIGINT, which each worker gets. Returns the exit code. */
int workers_run(const struct workers_config *cfg);
/* For a worker: it ends politely with the one that keeps it. */
void workers_follow(void);

#endif
