#include "cli/proc.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { GIT_ARGS_MAX = 16 };

static int output_file(const struct buf *wanted, const char *name, struct err *err)
{
    int fd = wanted ? memfd_create(name, MFD_CLOEXEC) : open("/dev/null", O_WRONLY | O_CLOEXEC);
    return fd >= 0 ? fd : err_sys(err, errno, "cannot keep the output of a program");
}

static int spawn(const struct proc *p, int out_fd, int log_fd, pid_t *pid)
{
    posix_spawn_file_actions_t fa;
    int rc = posix_spawn_file_actions_init(&fa);
    if (rc)
        return rc;
    rc = posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    rc = rc ? rc : posix_spawn_file_actions_adddup2(&fa, out_fd, 1);
    rc = rc ? rc : posix_spawn_file_actions_adddup2(&fa, log_fd, 2);
    if (rc == 0 && p->cwd)
        rc = posix_spawn_file_actions_addchdir_np(&fa, p->cwd);
    rc = rc ? rc : posix_spawnp(pid, p->argv[0], &fa, NULL, (char *const *)p->argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    return rc;
}

static int collect(int fd, struct buf *into, struct err *err)
{
    if (!into)
        return 0;
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(err, errno, "output of a program");
    return fd_read_all(fd, into, err);
}

int proc_run(const struct proc *p, struct err *err)
{
    AUTO_FD int out_fd = output_file(p->out, "out", err);
    AUTO_FD int log_fd = out_fd < 0 ? -1 : output_file(p->log, "log", err);
    if (out_fd < 0 || log_fd < 0)
        return ERR_IO;
    pid_t pid = -1;
    int sys = spawn(p, out_fd, log_fd, &pid);
    if (sys == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "%s is not installed", p->argv[0]);
    if (sys)
        return err_sys(err, sys, "cannot run %s", p->argv[0]);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_sys(err, errno, "cannot wait for %s", p->argv[0]);
    int rc = collect(out_fd, p->out, err);
    rc = rc ? rc : collect(log_fd, p->log, err);
    if (rc)
        return rc;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int git_run(const char *dir, const char *const *args, struct buf *out, struct err *err)
{
    const char *argv[GIT_ARGS_MAX + 4] = {"git", "-C", dir};
    size_t n = 3;
    for (size_t i = 0; args[i] && i < GIT_ARGS_MAX; i++)
        argv[n++] = args[i];
    AUTO_BUF struct buf log = BUF_INIT(1024 * 1024);
    struct proc p = {.argv = argv, .out = out, .log = &log};
    int rc = proc_run(&p, err);
    if (rc <= 0)
        return rc;
    struct str said = buf_view(&log), line = str_split(&said, '\n');
    return err_set(err, ERR_INVALID, "git %s: " STR_FMT, args[0], STR_ARG(line));
}

int proc_self(char out[4096], struct err *err)
{
    ssize_t n = readlink("/proc/self/exe", out, 4095);
    if (n < 0)
        return err_sys(err, errno, "/proc/self/exe");
    out[n] = '\0';
    return 0;
}
