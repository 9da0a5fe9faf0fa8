/* child: a server of one's own: `ostler serve` as a detached child process, watched and, if it dies
 * without being asked to, started again on the same data and port.
 *
 * Loop thread. Embedded by the caller. The child is a session leader of its own: Ctrl-C on the
 * terminal does not reach it, and it outlives a command that leaves it alone.
 */
#ifndef OSTLER_CLI_CHILD_H
#define OSTLER_CLI_CHILD_H

#include "io/loop.h"

struct child {
    struct loop *loop;
    struct loop_child process;
    char data[3072];
    char url[64]; /* "http://127.0.0.1:PORT" */
    int port;     /* 0 before the first start */
    int pid;
    bool running, spawned;
    /* It ended; `wait_status` as from waitpid. Called once per start. */
    void (*died)(struct child *c, int wait_status);
    void *arg;
};

void child_init(struct child *c, struct loop *l, const char *data);
/* Starts and waits (blocking) until it listens. CONNECT with the server's own last words when it
 * does not. May be called again after `died` and child_reap(). */
int child_start(struct child *c, struct err *err) MUST_USE;
/* Runs the loop until the remains of an ended child are cleared away. Not from a call-back. */
void child_reap(struct child *c);
int child_kill(struct child *c, int sig);
/* SIGTERM, then waits up to 10 s, then SIGKILL. Runs the loop: not from a call-back. */
void child_stop(struct child *c);

#endif
