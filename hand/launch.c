/* The step between the server and bubblewrap: joins the cgroups, sets the limits, gives up root. A
 * program of its own, so that the server runs no code between fork and exec.
 *
 * As root the sandbox's directories may lie below ones that its user cannot pass (a data directory
 * of mode 0700). They are therefore bound to a place that it can reach, in a mount namespace that
 * only this process and what it starts will see.
 */
#include "hand/hand.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum {
    LAUNCH_FAILED = 125,
    LAUNCH_STAGED = 32,
    LAUNCH_MERGED = 2,
    LAUNCH_LINKS = 16,
    LAUNCH_DIRS = 16,
    LAUNCH_ARGS = 1024,
    LAUNCH_ARGS_BYTES = 4 << 20
};

static _Noreturn void die(const char *what, const char *which)
{
    fprintf(stderr, "launch: %s %s: %s\n", what, which, strerror(errno));
    exit(LAUNCH_FAILED);
}

void launch_die(const char *what, const char *which)
{
    die(what, which);
}

static void join_cgroup(const char *procs)
{
    AUTO_FD int fd = open(procs, O_WRONLY | O_CLOEXEC);
    struct err err;
    if (fd < 0 || fd_write_all(fd, STR("0"), &err) != 0)
        die("cannot join the cgroup", procs);
}

struct staged {
    const char *name, *path;
    int fd;
    bool shown; /* read-only, with what is mounted in it */
};

/* Two directories shown as one, read-only: what is in `top` hides what `bottom` has. */
struct merged {
    const char *name, *top, *bottom;
    int fds[2];
};

static void write_proc(const char *path, const char *text)
{
    AUTO_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
    struct err err;
    if (fd < 0 || fd_write_all(fd, str_z(text), &err) != 0)
        die("cannot write", path);
}

void launch_write(const char *path, const char *text)
{
    write_proc(path, text);
}

/* Without root mounts need a user namespace. Its rights end with the execution of bubblewrap, which
 * makes its own below this one. */
static void enter_user_namespace(void)
{
    char map[64];
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (unshare(CLONE_NEWUSER) < 0)
        die("cannot make", "a user namespace");
    write_proc("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "%u %u 1", (unsigned)uid, (unsigned)uid);
    write_proc("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "%u %u 1", (unsigned)gid, (unsigned)gid);
    write_proc("/proc/self/gid_map", map);
}

static int open_dir(const char *path)
{
    int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        die("cannot open", path);
    return fd;
}

/* An empty tmpfs over `at`, seen by nobody else. What will be put on it is opened before it can
 * hide anything, but in the new namespace: a mount cannot be bound out of another one. */
static void open_stage(const char *at, struct staged *staged, size_t n, struct merged *merged,
                       size_t nmerged, struct root *root)
{
    if (unshare(CLONE_NEWNS) < 0)
        die("cannot make", "a mount namespace");
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        die("cannot make private", "/");
    for (size_t i = 0; i < n; i++) {
        staged[i].fd = open(staged[i].path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (staged[i].fd < 0)
            die("cannot open", staged[i].path);
    }
    for (size_t i = 0; i < nmerged; i++) {
        merged[i].fds[0] = open_dir(merged[i].top);
        merged[i].fds[1] = open_dir(merged[i].bottom);
    }
    root_open(root);
    if (mount("tmpfs", at, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64k") < 0)
        die("cannot mount a tmpfs on", at);
}

/* The directories above a name on the stage, and where `whole` itself as well. */
static void make_dirs(const char *at, const char *name, bool whole)
{
    char path[512];
    for (const char *p = name; p; p = strchr(p + 1, '/')) {
        const char *end = strchr(p + 1, '/');
        if (!end && !whole)
            return;
        size_t len = end ? (size_t)(end - name) : strlen(name);
        snprintf(path, sizeof path, "%s/%.*s", at, (int)len, name);
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            die("cannot make", path);
    }
}

/* Adds to what holds already, so that nothing the host forbids is allowed. */
static void restrict_mount(const char *at, uint64_t attributes, unsigned flags)
{
    struct mount_attr a = {.attr_set = attributes | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
    if (syscall(SYS_mount_setattr, AT_FDCWD, at, flags | AT_SYMLINK_NOFOLLOW, &a, sizeof a) < 0)
        die("cannot restrict the mount", at);
}

static void put_on_stage(const char *at, const struct staged *s)
{
    char to[512], source[64];
    struct stat st;
    snprintf(to, sizeof to, "%s/%s", at, s->name);
    snprintf(source, sizeof source, "/proc/self/fd/%d", s->fd);
    if (fstat(s->fd, &st) < 0)
        die("cannot look at", s->path);
    make_dirs(at, s->name, false);
    int rc = S_ISDIR(st.st_mode) ? mkdir(to, 0755) : mknod(to, S_IFREG | 0644, 0);
    if (rc < 0)
        die("cannot make", to);
    if (mount(source, to, NULL, MS_BIND | (s->shown ? MS_REC : 0), NULL) < 0)
        die("cannot bind", s->path);
}

/* By descriptor: a path may hold the characters that separate options. */
static void merge_on_stage(const char *at, const struct merged *m)
{
    char to[512], options[128];
    snprintf(to, sizeof to, "%s/%s", at, m->name);
    snprintf(options, sizeof options, "lowerdir=/proc/self/fd/%d:/proc/self/fd/%d", m->fds[0],
             m->fds[1]);
    if (mkdir(to, 0755) < 0)
        die("cannot make", to);
    if (mount("overlay", to, "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV, options) < 0)
        die("cannot merge (overlay)", m->top);
}

static void set_limit(const char *name, const char *value)
{
    static const struct {
        const char *name;
        __rlimit_resource_t what;
    } known[] = {{"nofile", RLIMIT_NOFILE},
                 {"fsize", RLIMIT_FSIZE},
                 {"core", RLIMIT_CORE},
                 {"cpu", RLIMIT_CPU},
                 {"as", RLIMIT_AS}};
    int64_t n;
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (!str_eqz(str_z(name), known[i].name) || !str_i64(str_z(value), &n))
            continue;
        struct rlimit now, want = {(rlim_t)n, (rlim_t)n};
        if (getrlimit(known[i].what, &now) == 0 && now.rlim_max < want.rlim_max)
            want.rlim_cur = want.rlim_max = now.rlim_max; /* tighter already */
        if (setrlimit(known[i].what, &want) < 0)
            die("cannot set the limit", name);
        return;
    }
    errno = EINVAL;
    die("unknown limit", name);
}

static void become(const char *id)
{
    int64_t n;
    if (!str_i64(str_z(id), &n) || n < 1 || n > INT32_MAX) {
        errno = EINVAL;
        die("bad user id", id);
    }
    uid_t uid = (uid_t)n;
    gid_t gid = (gid_t)n;
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        die("cannot become user", id);
}

/* bubblewrap stays in the sandbox as its first process where the program is not that itself, and
 * /proc shows what a process was started with: the server's keys must not be among it. */
static void keep_only_path(void)
{
    static char *only[2];
    for (char **e = environ; *e; e++)
        if (str_starts(str_z(*e), STR("PATH=")))
            only[0] = *e;
    environ = only;
}

struct launch {
    struct staged staged[LAUNCH_STAGED];
    struct merged merged[LAUNCH_MERGED];
    struct {
        const char *target, *name;
    } links[LAUNCH_LINKS];
    const char *dirs[LAUNCH_DIRS];
    size_t nstaged, nmerged, nlinks, ndirs;
    struct root root;
    const char *uid, *stage;
    int64_t inherit; /* descriptors above it stay here; 0: all are passed on */
    bool userns;
    bool whole; /* the stage is all that the sandbox sees */
};

/* Of a stage that is the whole root. */
static int take_root_option(struct launch *l, int left, char **argv)
{
    struct str o = str_z(argv[0]);
    if (str_eqz(o, "--whole")) {
        l->whole = true;
        return 1;
    }
    if (left > 2 && str_eqz(o, "--show") && l->nstaged < LAUNCH_STAGED) {
        l->staged[l->nstaged++] = (struct staged){argv[1], argv[2], -1, true};
        return 3;
    }
    if (left > 2 && str_eqz(o, "--link") && l->nlinks < LAUNCH_LINKS) {
        l->links[l->nlinks].target = argv[1];
        l->links[l->nlinks++].name = argv[2];
        return 3;
    }
    if (left > 1 && str_eqz(o, "--dir") && l->ndirs < LAUNCH_DIRS) {
        l->dirs[l->ndirs++] = argv[1];
        return 2;
    }
    return root_option(&l->root, left, argv);
}

/* Kernel interfaces and images of the host have no business here, and bubblewrap reads the list of
 * mounts for each one that it makes: half of them on many hosts are below /sys. Where one is not
 * mounted, or may not be taken away, nothing is lost. */
static void drop_mounts(void)
{
    static const char *const places[] = {"/sys", "/boot", "/snap"};
    for (size_t i = 0; i < COUNT_OF(places); i++)
        (void)!umount2(places[i], MNT_DETACH | UMOUNT_NOFOLLOW);
}

/* What is on it gets the restrictions that bubblewrap would give it one by one, reading the list of
 * mounts each time. It hands them on: in a user namespace below this one they cannot be lifted. */
static void finish_stage(const struct launch *l)
{
    char path[512];
    drop_mounts();
    for (size_t i = 0; i < l->ndirs; i++)
        make_dirs(l->stage, l->dirs[i], true);
    for (size_t i = 0; i < l->nlinks; i++) {
        snprintf(path, sizeof path, "%s/%s", l->stage, l->links[i].name);
        if (symlink(l->links[i].target, path) < 0)
            die("cannot make", path);
    }
    restrict_mount(l->stage, 0, AT_RECURSIVE);
    for (size_t i = 0; i < l->nstaged; i++) {
        snprintf(path, sizeof path, "%s/%s", l->stage, l->staged[i].name);
        if (l->staged[i].shown)
            restrict_mount(path, MOUNT_ATTR_RDONLY, AT_RECURSIVE);
    }
    restrict_mount(l->stage, MOUNT_ATTR_RDONLY, 0);
}

/* How many arguments it took; 0: it is none. */
static int take_option(struct launch *l, int left, char **argv)
{
    struct str o = str_z(argv[0]);
    if (left > 1 && str_eqz(o, "--cgroup")) {
        join_cgroup(argv[1]);
        return 2;
    }
    if (left > 1 && str_eqz(o, "--uid")) {
        l->uid = argv[1];
        return 2;
    }
    if (left > 1 && str_eqz(o, "--stage")) {
        l->stage = argv[1];
        return 2;
    }
    if (str_eqz(o, "--userns")) {
        l->userns = true;
        return 1;
    }
    if (left > 2 && str_eqz(o, "--put") && l->nstaged < LAUNCH_STAGED) {
        l->staged[l->nstaged++] = (struct staged){argv[1], argv[2], -1, false};
        return 3;
    }
    if (left > 3 && str_eqz(o, "--merge") && l->nmerged < LAUNCH_MERGED) {
        l->merged[l->nmerged++] = (struct merged){argv[1], argv[2], argv[3], {-1, -1}};
        return 4;
    }
    if (left > 2 && str_eqz(o, "--rlimit")) {
        set_limit(argv[1], argv[2]);
        return 3;
    }
    if (left > 1 && str_eqz(o, "--inherit") && str_i64(str_z(argv[1]), &l->inherit))
        return 2;
    return take_root_option(l, left, argv);
}

/* FD: the arguments come on a pipe, as strings that end with a zero, after the last one an empty
 * one. The server starts this program before it knows them all, so that its start and the server's
 * preparations take the same time. A pipe that ends sooner is the word that the server is gone. */
static char **read_arguments(const char *fd_text, int *argc)
{
    static char *list[LAUNCH_ARGS + 1];
    struct buf text = BUF_INIT(LAUNCH_ARGS_BYTES); /* until the program is executed */
    struct err err;
    int64_t fd;
    if (!str_i64(str_z(fd_text), &fd) || fd < 3 || fd > 1023 || fd_read_all((int)fd, &text, &err)) {
        errno = EINVAL;
        die("cannot read arguments from", fd_text);
    }
    fd_close((int)fd);
    if (text.len < 2 || text.data[text.len - 1] || text.data[text.len - 2]) {
        fprintf(stderr, "launch: the server ended before it had said what to start\n");
        exit(LAUNCH_FAILED);
    }
    int n = 0;
    for (char *at = text.data; at < text.data + text.len - 1; at += strlen(at) + 1) {
        if (n == LAUNCH_ARGS) {
            errno = E2BIG;
            die("cannot take", "so many arguments");
        }
        list[n++] = at;
    }
    *argc = n;
    return list;
}

int launch_main(int argc, char **argv)
{
    struct launch l = {.nstaged = 0};
    int i = 0;
    if (argc == 2 && str_eqz(str_z(argv[0]), "--args"))
        argv = read_arguments(argv[1], &argc);
    while (i < argc && !str_eqz(str_z(argv[i]), "--")) {
        int took = take_option(&l, argc - i, argv + i);
        if (took == 0) {
            fprintf(stderr, "launch: bad argument '%s'\n", argv[i]);
            return LAUNCH_FAILED;
        }
        i += took;
    }
    if (i + 1 >= argc) {
        fprintf(stderr, "launch: no program\n");
        return LAUNCH_FAILED;
    }
    if (l.userns)
        enter_user_namespace();
    if (l.stage)
        open_stage(l.stage, l.staged, l.nstaged, l.merged, l.nmerged, &l.root);
    for (size_t k = 0; l.stage && k < l.nstaged; k++)
        put_on_stage(l.stage, &l.staged[k]);
    for (size_t k = 0; l.stage && k < l.nmerged; k++)
        merge_on_stage(l.stage, &l.merged[k]);
    if (l.stage)
        root_mount(&l.root, l.stage);
    if (l.stage && l.whole)
        finish_stage(&l);
    if (l.uid)
        become(l.uid);
    if (l.inherit > 2 && close_range((unsigned)l.inherit + 1, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        die("cannot keep", "descriptors");
    keep_only_path();
    execvp(argv[i + 1], argv + i + 1);
    die("cannot execute", argv[i + 1]);
}

/* ---- selftest ---- */

static int64_t status_field(const struct buf *status, const char *name, int base)
{
    const char *at = strstr(status->data, name);
    return at ? (int64_t)strtoull(at + strlen(name), NULL, base) : -1;
}

/* A process more, under the same limits as the agent's. */
static bool runs_bash(void)
{
    static const char *const argv[] = {"/bin/bash", "-c", ":", NULL};
    pid_t pid;
    int status = -1;
    if (posix_spawn(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ) != 0)
        return false;
    return waitpid(pid, &status, 0) == pid && status == 0;
}

/* Its user 0 is not the host's: "         0 1073741824       2047". */
static bool has_own_ids(void)
{
    AUTO_BUF struct buf map = BUF_INIT(65536);
    struct err err;
    if (fd_read_file("/proc/self/uid_map", &map, &err) != 0)
        return false;
    struct str rest = buf_view(&map), line = str_split(&rest, '\n');
    int64_t inside = -1, outside = 0;
    for (int i = 0; str_some(line) && i < 2;) {
        struct str word = str_split(&line, ' ');
        if (word.len && str_i64(word, i++ ? &outside : &inside) && i == 2)
            return outside > 0;
    }
    return false;
}

/* Run in a sandbox by the server's probe: one JSON object that says what holds. */
int selftest_main(void)
{
    int abi = confine(true);
    AUTO_BUF struct buf status = BUF_INIT(1 << 20);
    struct err err;
    if (fd_read_file("/proc/self/status", &status, &err) != 0) {
        fprintf(stderr, "selftest: %s\n", err.msg);
        return 1;
    }
    bool bash = runs_bash();
    bool own_ids = has_own_ids();
    bool userns = syscall(SYS_unshare, CLONE_NEWUSER) == 0;
    bool writes = access("/usr", W_OK) == 0 || access("/etc", W_OK) == 0 || mkdir("/x", 0755) == 0;
    struct buf out = BUF_INIT(4096);
    struct jw w = jw_to(&out);
    jw_obj(&w);
    jw_ki64(&w, "pid", getpid());
    jw_ki64(&w, "uid", getuid());
    jw_ki64(&w, "landlock_abi", abi);
    jw_ki64(&w, "seccomp", status_field(&status, "\nSeccomp:", 10));
    jw_ki64(&w, "no_new_privs", status_field(&status, "\nNoNewPrivs:", 10));
    jw_ki64(&w, "capabilities", status_field(&status, "\nCapBnd:", 16));
    jw_kbool(&w, "own_ids", own_ids);
    jw_kbool(&w, "can_unshare", userns);
    jw_kbool(&w, "can_write_system", writes);
    jw_kbool(&w, "runs_bash", bash);
    jw_obj_end(&w);
    jw_done(&w);
    buf_ch(&out, '\n');
    int rc = fd_write_all(1, buf_view(&out), &err);
    buf_fini(&out);
    return rc ? 1 : 0;
}
