/* Children by posix_spawn and pidfd. The parent prepares every descriptor; glibc's vfork-like child
 * only runs the file actions, so no code of ours runs between fork and exec. */
#include "io/loop_impl.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { STDIO_FDS = 3, SPAWN_FDS_MAX = 64 };

/* A child that was closed before it exited: kept only to be reaped. */
struct orphan {
    struct list node;
    uv_poll_t poll;
    int pidfd;
};

/* ---- what the child gets ---- */

struct plan {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    int dups[SPAWN_FDS_MAX]; /* sources moved out of the way of the targets */
    size_t ndups;
};

static void plan_fini(struct plan *p)
{
    for (size_t i = 0; i < p->ndups; i++)
        fd_close(p->dups[i]);
    posix_spawn_file_actions_destroy(&p->files);
    posix_spawnattr_destroy(&p->attr);
}

/* dup2 from a number below the target range could read a descriptor that an earlier dup2 has
 * replaced already: such a source is first moved above the range. */
static int plan_fd(struct plan *p, int src, int target, int range)
{
    if (src < 0)
        return posix_spawn_file_actions_addopen(&p->files, target, "/dev/null", O_RDWR, 0);
    if (src < range && src != target) {
        int moved = fcntl(src, F_DUPFD_CLOEXEC, range);
        if (moved < 0)
            return errno;
        p->dups[p->ndups++] = moved;
        src = moved;
    }
    return posix_spawn_file_actions_adddup2(&p->files, src, target);
}

static int plan_files(struct plan *p, const struct loop_spawn *how)
{
    size_t n = how->nfds < STDIO_FDS ? STDIO_FDS : how->nfds;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = plan_fd(p, i < how->nfds ? how->fds[i] : -1, (int)i, (int)n);
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(&p->files, (int)n);
    if (rc == 0 && how->cwd)
        rc = posix_spawn_file_actions_addchdir_np(&p->files, how->cwd);
    return rc;
}

static int plan_attr(struct plan *p, const struct loop_spawn *how)
{
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    int flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
    if (how->new_session)
        flags |= POSIX_SPAWN_SETSID;
    int rc = posix_spawnattr_setsigdefault(&p->attr, &all);
    if (rc == 0)
        rc = posix_spawnattr_setsigmask(&p->attr, &none);
    return rc ? rc : posix_spawnattr_setflags(&p->attr, (short)flags);
}

static int spawn(const struct loop_spawn *how, pid_t *pid)
{
    struct plan p = {.ndups = 0};
    posix_spawn_file_actions_init(&p.files);
    posix_spawnattr_init(&p.attr);
    int rc = plan_files(&p, how);
    if (rc == 0)
        rc = plan_attr(&p, how);
    /* The strings are not written to; the prototypes only predate const. */
    char *const *argv = (char *const *)(uintptr_t)how->argv;
    char *const *envp = how->envp ? (char *const *)(uintptr_t)how->envp : environ;
    if (rc == 0)
        rc = posix_spawnp(pid, how->file, &p.files, &p.attr, argv, envp);
    plan_fini(&p);
    return rc;
}

/* ---- exit ----
 *
 * A uv_poll_t forgets its descriptor's number only when it is closed: stopping or closing it takes
 * that number off the loop, whoever has it by then. So a pidfd is closed after its handle, never
 * before: else a connection or another child that was given its number is never heard of again.
 */

/* True when the child has exited and is reaped now. */
static bool reap(int pidfd, int *wait_status)
{
    siginfo_t si = {.si_pid = 0};
    int rc;
    do
        rc = waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG);
    while (rc < 0 && errno == EINTR);
    *wait_status = 0;
    if (rc < 0)
        return errno == ECHILD; /* somebody else reaped it: there is nothing to wait for */
    if (si.si_pid == 0)
        return false;
    if (si.si_code == CLD_EXITED)
        *wait_status = (si.si_status & 0xff) << 8;
    else
        *wait_status = si.si_status | (si.si_code == CLD_DUMPED ? WCOREFLAG : 0);
    return true;
}

static void on_exit_event(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct loop_child *c = CONTAINER_OF(poll, struct loop_child, poll);
    int wait_status;
    if (!reap(c->pidfd, &wait_status))
        return;
    uv_poll_stop(&c->poll);
    c->running = false;
    c->exited(c, wait_status);
}

static int spawn_failed(const struct loop_spawn *how, int rc, struct err *err)
{
    if (rc == ENOENT && how->cwd && access(how->cwd, X_OK) != 0)
        return err_sys(err, errno, "cannot start %s in the directory %s", how->file, how->cwd);
    return err_sys(err, rc, "cannot start %s", how->file);
}

int loop_spawn(struct loop *l, struct loop_child *c, const struct loop_spawn *how,
               void (*exited)(struct loop_child *, int wait_status), struct err *err)
{
    *c = (struct loop_child){.loop = l, .pidfd = -1, .exited = exited};
    if (how->nfds > SPAWN_FDS_MAX)
        return err_set(err, ERR_LIMIT, "a child takes at most %d descriptors", SPAWN_FDS_MAX);
    pid_t pid = -1;
    int rc = spawn(how, &pid);
    if (rc)
        return spawn_failed(how, rc, err);
    int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0 || uv_poll_init(&l->uv, &c->poll, pidfd) != 0) {
        int sys = pidfd < 0 ? errno : EMFILE;
        fd_close(pidfd);
        kill(pid, SIGKILL); /* not reaped yet: the number is still its own */
        waitpid(pid, NULL, 0);
        return err_sys(err, sys, "cannot watch %s", how->file);
    }
    c->pidfd = pidfd;
    c->pid = (int)pid;
    c->running = true;
    uv_poll_start(&c->poll, UV_READABLE, on_exit_event);
    return 0;
}

int loop_child_kill(struct loop_child *c, int sig)
{
    if (!c->running)
        return ERR_NOT_FOUND;
    return pidfd_send_signal(c->pidfd, sig, NULL, 0) == 0 ? 0 : ERR_NOT_FOUND;
}

int loop_child_kill_group(struct loop_child *c, int sig)
{
    /* An unreaped child keeps its number, so the group cannot be anybody else's. */
    if (!c->running || c->pid <= 1)
        return ERR_NOT_FOUND;
    return kill(-c->pid, sig) == 0 ? 0 : ERR_NOT_FOUND;
}

/* ---- closing ---- */

static void orphan_closed(uv_handle_t *h)
{
    struct orphan *o = CONTAINER_OF(h, struct orphan, poll);
    fd_close(o->pidfd);
    mem_free(o);
}

static void orphan_close(struct orphan *o)
{
    list_remove(&o->node);
    uv_close((uv_handle_t *)&o->poll, orphan_closed);
}

static void on_orphan_exit(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct orphan *o = CONTAINER_OF(poll, struct orphan, poll);
    int wait_status;
    if (reap(o->pidfd, &wait_status))
        orphan_close(o);
}

/* By a descriptor of its own: closing the old handle takes the old number off the loop. Without one
 * the child stays a zombie until this process ends. */
static void adopt(struct loop *l, int of)
{
    int pidfd = fcntl(of, F_DUPFD_CLOEXEC, 0);
    if (pidfd < 0)
        return;
    struct orphan *o = mem_zalloc(sizeof *o);
    o->pidfd = pidfd;
    if (uv_poll_init(&l->uv, &o->poll, pidfd) != 0) {
        fd_close(pidfd);
        mem_free(o);
        return;
    }
    uv_unref((uv_handle_t *)&o->poll);
    list_push(&l->orphans, &o->node);
    uv_poll_start(&o->poll, UV_READABLE, on_orphan_exit);
}

void child_close_orphans(struct loop *l)
{
    while (!list_empty(&l->orphans))
        orphan_close(LIST_ENTRY(l->orphans.next, struct orphan, node));
}

static void on_child_closed(uv_handle_t *h)
{
    struct loop_child *c = CONTAINER_OF(h, struct loop_child, poll);
    fd_close(TAKE_FD(c->pidfd));
    if (c->closed)
        c->closed(c);
}

void loop_child_close(struct loop_child *c, void (*closed)(struct loop_child *))
{
    c->closed = closed;
    uv_poll_stop(&c->poll);
    if (c->running)
        adopt(c->loop, c->pidfd);
    c->running = false;
    uv_close((uv_handle_t *)&c->poll, on_child_closed);
}
