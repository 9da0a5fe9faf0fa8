/* hand: what the parts of the executor share. One process, one thread, one poll() loop; pid 1 of
 * the sandbox. struct hand lives as long as the process.
 *
 * A call runs at most once per id: its result is kept until it is acknowledged, whatever happens to
 * the connection that asked for it.
 */
#ifndef OSTLER_HAND_HAND_H
#define OSTLER_HAND_HAND_H

#include "base/list.h"
#include "hand/proto.h"
#include "hand/text.h"
#include "hand/tools.h"

#include <poll.h>
#include <signal.h>
#include <sys/types.h>

enum {
    HAND_CALLS = 256, /* not acknowledged; more are refused */
    HAND_CONNS = 4,
    HAND_CHILDREN = 8,     /* file tools at the same time */
    HAND_FORGOTTEN = 4096, /* acknowledged ids that are remembered */
    HAND_RESULT_MAX = 4 * 1024 * 1024,
    HAND_WATCH_MS = 250,
    HAND_POLLS = 4 + HAND_CONNS + 2 + HAND_CHILDREN,
};
#define HAND_BYTES ((size_t)128 << 20) /* of inputs and results that are kept */

struct hand_config {
    int listen_fd;
    const char *workdir, *spill_dir;
    int64_t grace_ms;
    bool no_rg;
    /* Where no cgroup does it the hand itself counts; 0: it does not. */
    int64_t watch_pids, watch_memory_mb;
    int64_t proxy_port; /* on loopback, for the egress proxy; 0: none */
    int64_t wall_ms;    /* no call may take longer; 0: as long as it asks for */
};

enum call_state { CALL_QUEUED, CALL_RUNNING, CALL_DONE };

struct call {
    struct list node; /* in hand.calls, in the order of arrival */
    char id[PROTO_ID_MAX];
    enum call_state state;
    const struct tool *tool; /* NULL: bash */
    char *input;             /* JSON; gone once it runs */
    size_t input_len;
    int64_t timeout_ms;
    int64_t deadline_us; /* CALL_RUNNING */
    /* a file tool's child */
    pid_t pid;
    int pipe; /* -1: none */
    struct buf raw;
    /* CALL_DONE */
    char *content;
    size_t content_len;
    bool is_error;
    char reason[PROTO_REASON_MAX]; /* "" none */
};

struct shell {
    pid_t pid; /* 0: none runs */
    bool oom_first;
    int in, out, status;
    struct buf script; /* not written yet */
    struct buf output; /* of the current call, at most twice what is kept */
    uint64_t dropped;  /* bytes of it that went (only) to the spill file */
    struct spill spill;
    uint64_t seq; /* of the current call: an older one's report means nothing */
    char report[64];
    size_t report_len;
    struct call *call; /* NULL: idle */
};

struct conn {
    int fd; /* -1: free */
    bool wants_network;
    struct buf in, out;
};

struct hand {
    struct hand_config cfg;
    struct tool_env env;
    int signal_fd, proxy_fd; /* proxy_fd -1: none */
    struct list calls;
    size_t ncalls, bytes;
    struct conn conns[HAND_CONNS];
    struct shell shell;
    char (*forgotten)[PROTO_ID_MAX]; /* a ring */
    size_t forgotten_at;
    int64_t alone_since_us; /* 0: a server is connected */
    bool quit;
};

/* ---- calls.c: the table of calls ---- */

struct call *call_find(struct hand *h, struct str id);
bool call_forgotten(const struct hand *h, struct str id);
/* Accepts a run request: a new call, or NULL with a message when it is refused. */
struct call *call_add(struct hand *h, const struct proto_request *r, char why[128]);
void call_forget(struct hand *h, struct call *c); /* an acknowledged one */
/* Stores the result and tells every connection. Text is cleaned already. */
void call_done(struct hand *h, struct call *c, struct str text, bool is_error, const char *reason);
/* Starts whatever may run now. */
void calls_schedule(struct hand *h);
void calls_timers(struct hand *h, int64_t now_us);
int64_t calls_next_deadline_us(const struct hand *h); /* INT64_MAX: none */
void call_cancel(struct hand *h, struct call *c);
/* Ends everything that runs: a limit was hit. */
void calls_limit(struct hand *h, const char *reason, struct str message);

/* ---- children.c: file tools ---- */

bool child_start(struct hand *h, struct call *c, char why[128]);
void child_readable(struct hand *h, struct call *c);
void child_end(struct hand *h, struct call *c, const char *text, const char *reason);
size_t children_running(const struct hand *h, bool writers);

/* ---- shell.c: bash ---- */

void shell_init(struct shell *sh);
/* So that the first command need not wait for one; what fails is tried again then. */
void shell_prepare(struct hand *h);
void shell_start_call(struct hand *h, struct call *c);
void shell_readable(struct hand *h);
void shell_reported(struct hand *h);
void shell_writable(struct hand *h);
void shell_exited(struct hand *h, int wait_status);
/* Kills the shell and everything it left; `text` is what its call gets, followed by the output so
 * far where `with_output`. */
void shell_end(struct hand *h, const char *text, const char *reason, bool with_output);

/* ---- proc.c: processes ---- */

/* In a child of the hand, before exec or a tool: default signals, no descriptors but the first
 * `keep`, a session of its own. */
void proc_child(int keep);
/* The signals that the hand ignores or blocks and its children do not. */
void proc_default_signals(sigset_t *out);
/* Makes the kernel prefer this process, and what it starts, when memory runs out. False where it
 * has not executed its program yet: the file is nobody's while the hand's memory is in it. */
bool proc_oom_first(pid_t pid);
/* Kills everything but the hand and the file tools' sessions. */
void proc_kill_shell(struct hand *h);
/* Memory outlives its processes as files in /dev/shm and as System V objects: these go too. */
void proc_free_memory(void);
/* True when processes or memory are over the configured bounds; says which. */
bool proc_over_limit(const struct hand *h, const char **reason, char message[160]);

/* ---- serve.c ---- */

int hand_serve(const struct hand_config *cfg);
/* Sends to all connections, or to one. */
void hand_send_state(struct conn *to, const char *op, struct str id, const char *state);
void hand_broadcast_result(struct hand *h, const struct call *c);
void hand_broadcast_started(struct hand *h, const struct call *c);

/* ---- confine.c ---- */

/* Gives up what is left to give up: dumpability, privileges to gain, files outside the sandbox's
 * directories. Returns the Landlock ABI in use, 0 for none. */
int confine(bool landlock);

/* ---- network.c ---- */

/* A listening socket on loopback, or -1, said on stderr. */
int network_listen(int64_t port);
/* Sends it (-1: that there is none) over a connection with nothing queued; false: it did not fit.
 */
bool network_send(int to, int fd);
/* The first program of a build's sandbox. */
int build_main(int argc, char **argv);

/* ---- launch.c ---- */

int launch_main(int argc, char **argv);
int selftest_main(void);
_Noreturn void launch_die(const char *what, const char *which);
void launch_write(const char *path, const char *text);

/* ---- root.c: the launcher's part of a container with a writable root ---- */

enum { ROOT_LOWERS = 8, ROOT_OVERLAYS = 2, ROOT_IDS = 2048 };

struct root_dir {
    const char *path;
    int fd;
};

/* The lower directories between the last one's end and its own lie below it, the topmost first. */
struct root_overlay {
    const char *name;
    struct root_dir upper, work;
    size_t end;
};

struct root {
    int64_t first_id; /* the host's number of the container's root; ROOT_IDS belong to it */
    struct root_dir lowers[ROOT_LOWERS];
    struct root_overlay overlays[ROOT_OVERLAYS];
    size_t nlowers, noverlays;
};

/* How many arguments it took; 0: it is none of ours. */
int root_option(struct root *r, int left, char **argv);
/* Before the stage hides what lies below it, but in its mount namespace. */
void root_open(struct root *r);
void root_mount(const struct root *r, const char *stage);

#endif
