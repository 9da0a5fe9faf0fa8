/* Processes of the sandbox: what a child starts with, killing, and counting where no cgroup does.
 */
#include "hand/hand.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <unistd.h>

enum { KILL_ROUNDS = 32, SHARED_SMALL_KB = 32 << 10 };

static const int defaults[] = {SIGPIPE, SIGXFSZ, SIGTERM, SIGINT, SIGHUP};

void proc_default_signals(sigset_t *out)
{
    sigemptyset(out);
    for (size_t i = 0; i < COUNT_OF(defaults); i++)
        sigaddset(out, defaults[i]);
}

void proc_child(int keep)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (size_t i = 0; i < COUNT_OF(defaults); i++)
        signal(defaults[i], SIG_DFL);
    close_range((unsigned)keep, ~0U, 0);
    setsid();
}

bool proc_oom_first(pid_t pid)
{
    char path[64];
    struct err err;
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)pid);
    AUTO_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && fd_write_all(fd, STR("500"), &err) == 0;
}

/* ---- /proc ---- */

struct stat_line {
    pid_t pid, ppid, session;
    char state;
};

static bool read_small(const char *path, char *text, size_t cap)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, cap - 1);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return true;
}

static bool read_stat(const char *pid, struct stat_line *s)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    if (!read_small(path, text, sizeof text))
        return false;
    const char *behind_name = strrchr(text, ')');
    int pgrp, ppid, session;
    if (!behind_name ||
        sscanf(behind_name + 1, " %c %d %d %d", &s->state, &ppid, &pgrp, &session) != 4)
        return false;
    s->pid = (pid_t)strtol(pid, NULL, 10);
    s->ppid = ppid;
    s->session = session;
    return true;
}

static bool is_spared(const struct hand *h, const struct stat_line *s)
{
    if (s->pid == getpid() || s->state == 'Z')
        return true;
    if (getpid() != 1) /* outside a sandbox there are others that are not ours */
        return h->shell.pid == 0 || s->session != h->shell.pid;
    list_for_each (it, &h->calls) {
        struct call *c = LIST_ENTRY(it, struct call, node);
        /* A child that has not made its session yet is still known by its pid. */
        if (c->state == CALL_RUNNING && c->pid > 0 && (s->session == c->pid || s->pid == c->pid))
            return true;
    }
    return false;
}

/* One look at every process; how many were killed. */
static unsigned kill_round(const struct hand *h)
{
    DIR *d = opendir("/proc");
    unsigned killed = 0;
    struct dirent *e;
    while (d && (e = readdir(d))) {
        struct stat_line s;
        if (e->d_name[0] < '1' || e->d_name[0] > '9' || !read_stat(e->d_name, &s))
            continue;
        if (!is_spared(h, &s) && kill(s.pid, SIGKILL) == 0)
            killed++;
    }
    if (d)
        closedir(d);
    return killed;
}

void proc_kill_shell(struct hand *h)
{
    if (h->shell.pid > 0)
        kill(-h->shell.pid, SIGKILL);
    for (int i = 0; i < KILL_ROUNDS; i++)
        if (kill_round(h) == 0)
            return;
    /* They multiply faster than one look takes. At once, then, and the file tools with them: pid 1
     * itself is spared by the kernel. */
    if (getpid() == 1)
        kill(-1, SIGKILL);
}

/* What a process has of its own and of what is shared with others (which then counts for each). */
static int64_t memory_kb(const char *pid)
{
    char path[64], text[128];
    long long size, resident, shared;
    snprintf(path, sizeof path, "/proc/%.20s/statm", pid);
    if (!read_small(path, text, sizeof text) ||
        sscanf(text, "%lld %lld %lld", &size, &resident, &shared) != 3)
        return 0;
    int64_t page_kb = sysconf(_SC_PAGESIZE) / 1024, own = (resident - shared) * page_kb;
    if (shared * page_kb < SHARED_SMALL_KB) /* its program and libraries */
        return own;
    /* Only the proportional set says which of it is memory and which is a file's, and how many
     * others have it; the kernel has to walk the page tables for that. */
    char rollup[2048];
    snprintf(path, sizeof path, "/proc/%.20s/smaps_rollup", pid);
    const char *anon = NULL, *shmem = NULL;
    if (read_small(path, rollup, sizeof rollup)) {
        anon = strstr(rollup, "Pss_Anon:");
        shmem = strstr(rollup, "Pss_Shmem:");
    }
    if (!anon || !shmem) /* it hides: all of it, then */
        return resident * page_kb;
    return strtoll(anon + strlen("Pss_Anon:"), NULL, 10) +
           strtoll(shmem + strlen("Pss_Shmem:"), NULL, 10);
}

/* Segments outlive whoever attached them. Columns: key shmid perms size cpid lpid nattch uid gid
 * cuid cgid atime dtime ctime rss swap. */
static int64_t detached_kb(void)
{
    AUTO_BUF struct buf text = BUF_INIT(1 << 20);
    int64_t sum = 0;
    if (fd_read_file("/proc/sysvipc/shm", &text, NULL) != 0)
        return 0;
    struct str rest = buf_view(&text);
    str_split(&rest, '\n');
    while (str_some(rest)) {
        char line[256];
        long long attached, bytes;
        struct str s = str_split(&rest, '\n');
        if (str_copyz(line, sizeof line, s) &&
            sscanf(line, "%*s %*s %*s %*s %*s %*s %lld %*s %*s %*s %*s %*s %*s %*s %lld", &attached,
                   &bytes) == 2 &&
            attached == 0)
            sum += bytes / 1024;
    }
    return sum;
}

/* Removes what a kind of System V object has; its id is in the second column. */
static void drop_objects(const char *path, int (*drop)(int id))
{
    AUTO_BUF struct buf text = BUF_INIT(1 << 20);
    if (fd_read_file(path, &text, NULL) != 0)
        return;
    struct str rest = buf_view(&text);
    str_split(&rest, '\n');
    while (str_some(rest)) {
        char line[64];
        int id;
        struct str s = str_split(&rest, '\n');
        (void)str_copyz(line, sizeof line, str_take(s, sizeof line - 1));
        if (sscanf(line, "%*s %d", &id) == 1)
            (void)drop(id);
    }
}

static int drop_segment(int id)
{
    return shmctl(id, IPC_RMID, NULL);
}

static int drop_queue(int id)
{
    return msgctl(id, IPC_RMID, NULL);
}

void proc_free_memory(void)
{
    if (getpid() != 1) /* outside a sandbox there are others that are not ours */
        return;
    drop_objects("/proc/sysvipc/shm", drop_segment);
    drop_objects("/proc/sysvipc/msg", drop_queue);
    DIR *d = opendir("/dev/shm");
    struct dirent *e;
    while (d && (e = readdir(d)))
        (void)unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
}

bool proc_over_limit(const struct hand *h, const char **reason, char message[160])
{
    int64_t n = 0, sum_kb = detached_kb();
    DIR *d = opendir("/proc");
    struct dirent *e;
    while (d && (e = readdir(d))) {
        if (e->d_name[0] < '1' || e->d_name[0] > '9')
            continue;
        n++;
        sum_kb += memory_kb(e->d_name);
    }
    if (d)
        closedir(d);
    int64_t memory_mb = sum_kb >> 10;
    if (h->cfg.watch_pids && n >= h->cfg.watch_pids) {
        *reason = "pids";
        snprintf(message, 160, "the sandbox reached its limit of %" PRId64 " processes",
                 h->cfg.watch_pids);
        return true;
    }
    if (h->cfg.watch_memory_mb && memory_mb > h->cfg.watch_memory_mb) {
        *reason = "out_of_memory";
        snprintf(message, 160, "the sandbox used more than its %" PRId64 " MB of memory",
                 h->cfg.watch_memory_mb);
        return true;
    }
    return false;
}
