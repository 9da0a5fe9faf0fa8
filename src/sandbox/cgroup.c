#include "sandbox/cgroup.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { V1_MEMORY, V1_PIDS, V1_CPU };
enum { MAKE_TRIES = 3, REMOVE_TRIES = 200, REMOVE_PAUSE_MS = 10, CPU_PERIOD_US = 100000 };

/* ---- small files ---- */

static bool read_text(const char *path, struct buf *out)
{
    buf_clear(out);
    return fd_read_file(path, out, NULL) == 0 && out->len > 0;
}

static int write_text(const char *dir, const char *file, const char *text)
{
    char path[CGROUP_PATH + 192];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    AUTO_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    ssize_t n = write(fd, text, strlen(text));
    return n < 0 ? errno : 0;
}

static int write_number(const char *dir, const char *file, int64_t n)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, n);
    return write_text(dir, file, text);
}

static void group_dir(const struct cgroups *cg, size_t i, const char *name,
                      char out[CGROUP_PATH + 128])
{
    snprintf(out, CGROUP_PATH + 128, "%s/%s", cg->base[i], name);
}

/* ---- finding out ---- */

struct found {
    char v1[CGROUP_DIRS][CGROUP_PATH]; /* mount points */
    char v2[CGROUP_PATH];
};

static bool has_word(struct str list, const char *word, char sep)
{
    while (str_some(list))
        if (str_eqz(str_split(&list, sep), word))
            return true;
    return false;
}

/* "31 23 0:28 /root /mount opts - type source superopts" */
static void look_at_mount(struct str line, struct found *f)
{
    struct str field[6], rest = line;
    for (size_t i = 0; i < COUNT_OF(field); i++)
        field[i] = str_split(&rest, ' ');
    ptrdiff_t dash = str_find(line, STR(" - "));
    if (dash < 0 || !str_eqz(field[3], "/")) /* a part of the tree: paths would not fit */
        return;
    rest = str_skip(line, (size_t)dash + 3);
    struct str type = str_split(&rest, ' ');
    str_split(&rest, ' ');
    static const char *const controllers[] = {"memory", "pids", "cpu"};
    if (str_eqz(type, "cgroup2") && !f->v2[0])
        str_copyz(f->v2, sizeof f->v2, field[4]);
    for (size_t i = 0; i < CGROUP_DIRS && str_eqz(type, "cgroup"); i++)
        if (has_word(rest, controllers[i], ','))
            str_copyz(f->v1[i], sizeof f->v1[i], field[4]);
}

static void find_mounts(struct found *f)
{
    *f = (struct found){.v2 = ""};
    AUTO_BUF struct buf text = BUF_INIT(4 << 20);
    if (!read_text("/proc/self/mountinfo", &text))
        return;
    struct str rest = buf_view(&text);
    while (str_some(rest))
        look_at_mount(str_split(&rest, '\n'), f);
}

/* The path of this process's group for a controller (v2: ""). */
static void own_path(const char *controller, char out[CGROUP_PATH])
{
    out[0] = '\0';
    AUTO_BUF struct buf text = BUF_INIT(1 << 20);
    if (!read_text("/proc/self/cgroup", &text))
        return;
    struct str rest = buf_view(&text);
    while (str_some(rest)) {
        struct str line = str_split(&rest, '\n');
        str_split(&line, ':');
        struct str names = str_split(&line, ':');
        bool ours = controller[0] ? has_word(names, controller, ',') : names.len == 0;
        if (ours && !str_eqz(line, "/"))
            str_copyz(out, CGROUP_PATH, line);
    }
}

static int make_dir(const char *path)
{
    return mkdir(path, 0755) < 0 && errno != EEXIST ? errno : 0;
}

static bool set_base(struct cgroups *cg, size_t i, const char *mount, const char *own)
{
    if (mount != cg->mount[i])
        snprintf(cg->mount[i], CGROUP_PATH, "%s", mount);
    return snprintf(cg->base[i], CGROUP_PATH, "%s%s/ostler", mount, own) < CGROUP_PATH - 128;
}

/* v1: below our own groups, so that limits above us hold for the sandboxes as well. */
static int try_v1(struct cgroups *cg, const struct found *f)
{
    static const char *const controllers[] = {"memory", "pids", "cpu"};
    char own[CGROUP_PATH];
    for (size_t i = 0; i < CGROUP_DIRS; i++) {
        cg->base[i][0] = '\0';
        if (!f->v1[i][0] && i == V1_CPU)
            continue;
        if (!f->v1[i][0])
            return ENOENT;
        own_path(controllers[i], own);
        if (!set_base(cg, i, f->v1[i], own))
            return ENAMETOOLONG;
        int sys = make_dir(cg->base[i]);
        if (sys && i != V1_CPU)
            return sys;
        if (sys)
            cg->base[i][0] = '\0';
    }
    cg->kind = CGROUP_V1;
    return 0;
}

static int share_v2(const char *base)
{
    int sys = write_text(base, "cgroup.subtree_control", "+memory +pids");
    if (sys == 0)
        (void)write_text(base, "cgroup.subtree_control", "+cpu");
    return sys;
}

/* The controllers must be switched on for the children of the parent and of our own directory. */
static int enable_v2(const char *parent, const char *base)
{
    int sys = write_text(parent, "cgroup.subtree_control", "+memory +pids");
    if (sys)
        return sys;
    (void)write_text(parent, "cgroup.subtree_control", "+cpu");
    sys = make_dir(base);
    if (sys == 0)
        sys = share_v2(base);
    if (sys)
        (void)rmdir(base);
    return sys;
}

static int try_v2(struct cgroups *cg, const struct found *f)
{
    if (!f->v2[0])
        return ENOENT;
    char own[CGROUP_PATH], parent[CGROUP_PATH * 2];
    own_path("", own);
    int sys = EINVAL;
    /* A group with processes of its own cannot have limited children, so often only the root can.
     */
    for (int i = 0; i < 2 && sys; i++) {
        snprintf(parent, sizeof parent, "%s%s", f->v2, i ? "" : own);
        if (set_base(cg, 0, f->v2, i ? "" : own))
            sys = enable_v2(parent, cg->base[0]);
    }
    if (sys == 0)
        cg->kind = CGROUP_V2;
    return sys;
}

static int try_group(const struct cgroups *cg)
{
    char name[64];
    struct err err = {.code = 0};
    snprintf(name, sizeof name, "probe-%d", (int)getpid());
    int rc = cgroup_make(cg, name, &(struct cgroup_limits){64, 16, 1}, &err);
    cgroup_remove(cg, name);
    return rc ? (err.sys ? err.sys : EINVAL) : 0;
}

void cgroups_close(const struct cgroups *cg)
{
    for (size_t i = 0; cg->kind != CGROUP_NONE && i < CGROUP_DIRS; i++)
        if (cg->base[i][0] && !(cg->kind == CGROUP_V2 && i))
            (void)rmdir(cg->base[i]); /* a group in it keeps it */
}

void cgroups_detect(struct cgroups *cg, bool none)
{
    *cg = (struct cgroups){.kind = CGROUP_NONE};
    struct found f;
    if (none) {
        snprintf(cg->reason, sizeof cg->reason, "cgroups are switched off");
        return;
    }
    find_mounts(&f);
    int v2 = try_v2(cg, &f);
    if (v2 == 0)
        v2 = try_group(cg);
    if (v2 == 0)
        return;
    cgroups_close(cg);
    cg->kind = CGROUP_NONE;
    int v1 = try_v1(cg, &f);
    if (v1 == 0)
        v1 = try_group(cg);
    if (v1 == 0)
        return;
    cgroups_close(cg);
    cg->kind = CGROUP_NONE;
    int sys = v2 == ENOENT ? v1 : v2;
    snprintf(cg->reason, sizeof cg->reason,
             "no cgroup can be made (%s); run as root, or under systemd with Delegate=yes",
             sys == ENOENT ? "no memory and pids controllers are mounted" : strerror(sys));
}

/* How much of both paths is the same, in whole components. */
static size_t same_path(const char *a, const char *b, size_t max)
{
    size_t same = 0;
    for (size_t i = 0; i <= max; i++) {
        bool ends_a = a[i] == '/' || !a[i], ends_b = b[i] == '/' || !b[i];
        if (ends_a && ends_b)
            same = i;
        if (a[i] != b[i] || !a[i])
            break;
    }
    return same;
}

/* The part that all have in common is there in each hierarchy. */
void cgroups_align(struct cgroups *cg)
{
    char path[CGROUP_PATH] = "";
    size_t n = 0;
    if (cg->kind != CGROUP_V1)
        return;
    (void)str_copyz(path, sizeof path, str_z(cg->base[V1_MEMORY] + strlen(cg->mount[V1_MEMORY])));
    n = strlen(path) - strlen("/ostler");
    for (size_t i = 0; i < CGROUP_DIRS; i++)
        if (cg->base[i][0])
            n = same_path(path, cg->base[i] + strlen(cg->mount[i]), n);
    path[n] = '\0';
    for (size_t i = 0; i < CGROUP_DIRS; i++)
        if (cg->base[i][0] && !set_base(cg, i, cg->mount[i], path))
            cg->kind = CGROUP_NONE; /* it is no longer than before: does not happen */
}

bool cgroup_path(const struct cgroups *cg, const char *name, char out[CGROUP_PATH + 128])
{
    if (cg->kind != CGROUP_NONE)
        snprintf(out, CGROUP_PATH + 128, "%s/%s", cg->base[0] + strlen(cg->mount[0]), name);
    return cg->kind != CGROUP_NONE;
}

/* ---- one group ---- */

static int limit_v2(const char *dir, const struct cgroup_limits *l)
{
    char cpu[64];
    int sys = write_number(dir, "memory.max", l->memory_mb << 20);
    (void)write_text(dir, "memory.swap.max", "0");
    if (sys == 0)
        sys = write_number(dir, "pids.max", l->pids);
    snprintf(cpu, sizeof cpu, "%" PRId64 " %d", l->cpus * CPU_PERIOD_US, CPU_PERIOD_US);
    (void)write_text(dir, "cpu.max", cpu);
    return sys;
}

static int limit_v1(size_t i, const char *dir, const struct cgroup_limits *l)
{
    if (i == V1_PIDS)
        return write_number(dir, "pids.max", l->pids);
    if (i == V1_CPU) {
        (void)write_number(dir, "cpu.cfs_period_us", CPU_PERIOD_US);
        (void)write_number(dir, "cpu.cfs_quota_us", l->cpus * CPU_PERIOD_US);
        return 0;
    }
    int sys = write_number(dir, "memory.limit_in_bytes", l->memory_mb << 20);
    (void)write_number(dir, "memory.memsw.limit_in_bytes", l->memory_mb << 20);
    return sys;
}

/* Another server may have removed the directory above when it ended, at any moment. */
static int make_group(const struct cgroups *cg, size_t i, const char *dir)
{
    int sys = make_dir(dir);
    for (int n = 0; n < MAKE_TRIES && sys == ENOENT; n++) {
        bool made = mkdir(cg->base[i], 0755) == 0;
        if (!made && errno != EEXIST)
            return errno;
        if (made && cg->kind == CGROUP_V2)
            (void)share_v2(cg->base[i]); /* limits that cannot be set say so */
        sys = make_dir(dir);
    }
    return sys;
}

static int each_dir(const struct cgroups *cg, const char *name, const struct cgroup_limits *limits,
                    struct err *err)
{
    for (size_t i = 0; cg->kind != CGROUP_NONE && i < CGROUP_DIRS; i++) {
        if (!cg->base[i][0] || (cg->kind == CGROUP_V2 && i))
            continue;
        char dir[CGROUP_PATH + 128];
        group_dir(cg, i, name, dir);
        int sys = 0;
        if (!limits)
            sys = make_group(cg, i, dir);
        else
            sys = cg->kind == CGROUP_V2 ? limit_v2(dir, limits) : limit_v1(i, dir, limits);
        if (sys) {
            err_sys(err, sys, "cgroup %s", dir);
            return ERR_IO;
        }
    }
    return 0;
}

int cgroup_begin(const struct cgroups *cg, const char *name, struct err *err)
{
    return each_dir(cg, name, NULL, err);
}

int cgroup_limit(const struct cgroups *cg, const char *name, const struct cgroup_limits *limits,
                 struct err *err)
{
    return each_dir(cg, name, limits, err);
}

int cgroup_make(const struct cgroups *cg, const char *name, const struct cgroup_limits *limits,
                struct err *err)
{
    int rc = cgroup_begin(cg, name, err);
    return rc ? rc : cgroup_limit(cg, name, limits, err);
}

size_t cgroup_procs(const struct cgroups *cg, const char *name,
                    char paths[CGROUP_DIRS][CGROUP_PATH + 128])
{
    size_t n = 0;
    /* A process of one thread that moves just that thread waits for nobody; with cgroup.procs the
     * kernel stops every fork on the host first, which takes it 10 to 20 ms. */
    const char *file = cg->kind == CGROUP_V2 ? "cgroup.procs" : "tasks";
    for (size_t i = 0; cg->kind != CGROUP_NONE && i < CGROUP_DIRS; i++)
        if (cg->base[i][0] && !(cg->kind == CGROUP_V2 && i))
            snprintf(paths[n++], CGROUP_PATH + 128, "%s/%s/%s", cg->base[i], name, file);
    return n;
}

/* The number behind `key ` in a file of such lines. */
static int64_t keyed(const char *dir, const char *file, const char *key)
{
    char path[CGROUP_PATH + 192];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    AUTO_BUF struct buf text = BUF_INIT(65536);
    if (!read_text(path, &text))
        return 0;
    struct str rest = buf_view(&text);
    while (str_some(rest)) {
        struct str line = str_split(&rest, '\n');
        int64_t n;
        if (str_eqz(str_split(&line, ' '), key) && str_i64(line, &n))
            return n;
    }
    return 0;
}

void cgroup_read(const struct cgroups *cg, const char *name, struct cgroup_counters *out)
{
    char dir[CGROUP_PATH + 128];
    *out = (struct cgroup_counters){.oom_kills = 0};
    if (cg->kind == CGROUP_NONE)
        return;
    group_dir(cg, V1_MEMORY, name, dir);
    out->oom_kills = cg->kind == CGROUP_V2 ? keyed(dir, "memory.events", "oom_kill")
                                           : keyed(dir, "memory.oom_control", "oom_kill");
    if (cg->kind == CGROUP_V1)
        group_dir(cg, V1_PIDS, name, dir);
    out->pids_hits = keyed(dir, "pids.events", "max");
}

/* False when it has no processes. */
static bool kill_listed(const char *dir)
{
    char path[CGROUP_PATH + 192];
    snprintf(path, sizeof path, "%s/cgroup.procs", dir);
    AUTO_BUF struct buf text = BUF_INIT(1 << 20);
    if (!read_text(path, &text))
        return false;
    struct str rest = buf_view(&text);
    bool any = false;
    while (str_some(rest)) {
        int64_t pid;
        if (!str_i64(str_split(&rest, '\n'), &pid) || pid < 1)
            continue;
        any = true;
        kill((pid_t)pid, SIGKILL);
    }
    return any;
}

void cgroup_kill(const struct cgroups *cg, const char *name)
{
    if (cg->kind == CGROUP_NONE)
        return;
    char dir[CGROUP_PATH + 128];
    group_dir(cg, cg->kind == CGROUP_V1 ? V1_PIDS : 0, name, dir);
    if (cg->kind == CGROUP_V2 && write_text(dir, "cgroup.kill", "1") == 0)
        return;
    (void)kill_listed(dir);
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

void cgroup_remove(const struct cgroups *cg, const char *name)
{
    char dir[CGROUP_PATH + 128];
    for (size_t i = 0; cg->kind != CGROUP_NONE && i < CGROUP_DIRS; i++) {
        if (!cg->base[i][0] || (cg->kind == CGROUP_V2 && i))
            continue;
        group_dir(cg, i, name, dir);
        for (int n = 0; n < REMOVE_TRIES && rmdir(dir) < 0 && errno == EBUSY; n++) {
            cgroup_kill(cg, name);
            pause_ms(REMOVE_PAUSE_MS);
        }
    }
}
