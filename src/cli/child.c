#include "cli/child.h"

#include "base/fd.h"
#include "cli/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READY_MS = 20 * 1000, STOP_MS = 10 * 1000 };

void child_init(struct child *c, struct loop *l, const char *data)
{
    *c = (struct child){.loop = l};
    str_copyz(c->data, sizeof c->data, str_z(data));
}

static void exited(struct loop_child *p, int wait_status)
{
    struct child *c = CONTAINER_OF(p, struct child, process);
    c->running = false;
    if (c->died)
        c->died(c, wait_status);
    loop_stop(c->loop);
}

static int open_log(const char *data, off_t *end, struct err *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/server.log", data);
    int rc = fd_mkdirs(data, 0700, err);
    if (rc)
        return rc;
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, errno, "%s", path);
    *end = lseek(fd, 0, SEEK_END);
    return fd;
}

/* The server writes its port there once it listens; the end of the pipe means that it gave up. */
static int wait_ready(int fd, int *port)
{
    char text[32];
    size_t len = 0;
    for (;;) {
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        int n = poll(&pfd, 1, READY_MS);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ERR_TIMEOUT;
        ssize_t got = read(fd, text + len, sizeof text - len);
        if (got <= 0)
            return ERR_CONNECT;
        len += (size_t)got;
        int64_t number;
        if (text[len - 1] == '\n' || len == sizeof text)
            return str_i64(str_trim(str_n(text, len)), &number) && number > 0 && number < 65536
                       ? (*port = (int)number, 0)
                       : ERR_PROTOCOL;
    }
}

static int fail_start(const struct child *c, int rc, int log_fd, off_t from, struct err *err)
{
    char text[2048];
    ssize_t n = pread(log_fd, text, sizeof text, from);
    struct str said = str_trim(str_n(text, n > 0 ? (size_t)n : 0)), last = said;
    while (str_some(said))
        last = str_split(&said, '\n');
    if (rc == ERR_TIMEOUT)
        return err_set(err, ERR_CONNECT, "the server did not start within %d s; see %s/server.log",
                       READY_MS / 1000, c->data);
    if (last.len)
        return err_set(err, ERR_CONNECT, "cannot start a server: " STR_FMT, STR_ARG(last));
    return err_set(err, ERR_CONNECT, "cannot start a server; see %s/server.log", c->data);
}

static int spawn(struct child *c, int log_fd, int ready_fd, struct err *err)
{
    char self[4096], listen[64];
    int rc = proc_self(self, err);
    if (rc)
        return rc;
    snprintf(listen, sizeof listen, "127.0.0.1:%d", c->port);
    const char *argv[] = {self,   "serve",      "--data", c->data, "--listen",
                          listen, "--ready-fd", "3",      NULL};
    const int fds[] = {-1, -1, log_fd, ready_fd};
    struct loop_spawn how = {
        .file = self, .argv = argv, .fds = fds, .nfds = COUNT_OF(fds), .new_session = true};
    return loop_spawn(c->loop, &c->process, &how, exited, err);
}

int child_start(struct child *c, struct err *err)
{
    off_t end = 0;
    AUTO_FD int log_fd = open_log(c->data, &end, err);
    if (log_fd < 0)
        return log_fd;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(err, errno, "pipe");
    AUTO_FD int read_end = ends[0];
    int rc = spawn(c, log_fd, ends[1], err);
    fd_close(ends[1]);
    if (rc)
        return err_wrap(err, "cannot start a server");
    c->spawned = c->running = true;
    c->pid = c->process.pid;
    rc = wait_ready(read_end, &c->port);
    if (rc) {
        child_kill(c, SIGKILL);
        return fail_start(c, rc, log_fd, end, err);
    }
    snprintf(c->url, sizeof c->url, "http://127.0.0.1:%d", c->port);
    return 0;
}

static void closed(struct loop_child *p)
{
    struct child *c = CONTAINER_OF(p, struct child, process);
    c->spawned = false;
    loop_stop(c->loop);
}

void child_reap(struct child *c)
{
    while (c->running)
        loop_run(c->loop);
    if (!c->spawned)
        return;
    loop_child_close(&c->process, closed);
    while (c->spawned)
        loop_run(c->loop);
}

int child_kill(struct child *c, int sig)
{
    return c->running ? loop_child_kill(&c->process, sig) : 0;
}

struct patience {
    struct loop_timer timer;
    struct child *child;
    bool closed;
};

static void too_slow(struct loop_timer *t)
{
    struct patience *p = CONTAINER_OF(t, struct patience, timer);
    child_kill(p->child, SIGKILL);
}

static void patience_closed(struct loop_timer *t)
{
    struct patience *p = CONTAINER_OF(t, struct patience, timer);
    p->closed = true;
    loop_stop(p->child->loop);
}

void child_stop(struct child *c)
{
    struct patience p = {.child = c};
    c->died = NULL; /* asked for */
    loop_timer_init(c->loop, &p.timer);
    loop_timer_start(&p.timer, STOP_MS, too_slow);
    child_kill(c, SIGTERM);
    child_reap(c);
    loop_timer_close(&p.timer, patience_closed);
    while (!p.closed)
        loop_run(c->loop);
}
