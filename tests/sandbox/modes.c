/* The modes of a server: this program again, as another user or in a container that is made of the
 * host's own root. Plain system calls, in children: the process that asks stays as it is. */
#include "probes.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77, MADE_UP_UID = 611111 };

const char *const mode_names[MODES] = {
    [MODE_ROOT] = "root",
    [MODE_ROOTLESS] = "rootless",
    [MODE_OCI] = "oci",
    [MODE_CONTAINER_ROOT] = "container-root",
    [MODE_CONTAINER] = "container",
    [MODE_CONTAINER_LOCKED] = "container-locked",
    [MODE_CONTAINER_MASKED] = "container-masked",
};

int mode_find(const char *name)
{
    for (int i = 0; i < MODES; i++)
        if (strcmp(name, mode_names[i]) == 0)
            return i;
    return -1;
}

static bool needs_root(enum mode m)
{
    return m == MODE_ROOT || m == MODE_OCI || m == MODE_CONTAINER_ROOT;
}

static bool is_container(enum mode m)
{
    return m >= MODE_CONTAINER_ROOT;
}

static _Noreturn void cannot(const char *what)
{
    fprintf(stderr, "modes: %s: %s\n", what, strerror(errno));
    _exit(126);
}

static void must(int rc, const char *what)
{
    if (rc < 0)
        cannot(what);
}

static int run(char *const argv[])
{
    pid_t pid = fork();
    if (pid == 0) {
        execv(argv[0], argv);
        _exit(127);
    }
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void put_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        cannot(path);
    close(fd);
}

static void become_somebody(void)
{
    must(setgroups(0, NULL), "setgroups");
    must(setresgid(MADE_UP_UID, MADE_UP_UID, MADE_UP_UID), "setresgid");
    must(setresuid(MADE_UP_UID, MADE_UP_UID, MADE_UP_UID), "setresuid");
    prctl(PR_SET_DUMPABLE, 1); /* /proc/self is ours again */
}

/* ---- a container ---- */

static void bind_at(const char *root, const char *path, bool writable)
{
    char to[PATH_MAX];
    struct stat st;
    snprintf(to, sizeof to, "%s%s", root, path);
    if (stat(path, &st) < 0)
        return;
    if (S_ISDIR(st.st_mode)) {
        (void)mkdir(to, 0755);
    } else {
        int fd = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        must(fd, to);
        close(fd);
    }
    must(mount(path, to, NULL, MS_BIND, NULL), to);
    if (!writable) /* what is locked stays so */
        (void)mount(NULL, to, NULL,
                    MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_RELATIME, NULL);
}

static void fresh_at(const char *root, const char *path, const char *type, const char *options)
{
    char to[PATH_MAX];
    snprintf(to, sizeof to, "%s%s", root, path);
    (void)mkdir(to, 0755);
    must(mount(type, to, type, MS_NOSUID, options), to);
}

static void link_at(const char *root, const char *path)
{
    char to[PATH_MAX], target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof target - 1);
    snprintf(to, sizeof to, "%s%s", root, path);
    if (n < 0) {
        bind_at(root, path, false);
        return;
    }
    target[n] = '\0';
    must(symlink(target, to), to);
}

/* The host's programs, everything else of its own; `dir` is where the copies are. */
static void build_root(const char *dir, char root[PATH_MAX])
{
    static const char *const links[] = {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"};
    static const char *const devices[] = {"/dev/null", "/dev/zero",    "/dev/full",
                                          "/dev/tty",  "/dev/urandom", "/dev/random"};
    must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "make mounts private");
    snprintf(root, PATH_MAX, "%s/root", dir);
    (void)mkdir(root, 0755);
    must(mount("tmpfs", root, "tmpfs", 0, "mode=0755"), root);
    bind_at(root, "/usr", false);
    for (size_t i = 0; i < COUNT_OF(links); i++)
        if (access(links[i], F_OK) == 0)
            link_at(root, links[i]);
    bind_at(root, "/etc", false);
    fresh_at(root, "/tmp", "tmpfs", "mode=1777");
    fresh_at(root, "/run", "tmpfs", "mode=0755");
    fresh_at(root, "/dev", "tmpfs", "mode=0755");
    for (size_t i = 0; i < COUNT_OF(devices); i++)
        bind_at(root, devices[i], true);
    fresh_at(root, "/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620");
    fresh_at(root, "/dev/shm", "tmpfs", "mode=1777");
    fresh_at(root, "/proc", "proc", NULL);
    static const char *const empty[] = {"/mnt", "/home", "/root", "/var", "/programs", "/old"};
    for (size_t i = 0; i < COUNT_OF(empty); i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s%s", root, empty[i]);
        must(mkdir(path, 0755), path);
    }
    char programs[PATH_MAX + 16];
    snprintf(programs, sizeof programs, "%s/programs", root);
    must(mount(dir, programs, NULL, MS_BIND, NULL), "bind the programs");
}

static void change_root(const char *root)
{
    must(chdir(root), root);
    must((int)syscall(SYS_pivot_root, ".", "old"), "pivot_root");
    must(umount2("/old", MNT_DETACH), "leave the old root");
    must(chdir("/"), "/");
}

static void map_root(uid_t uid, gid_t gid)
{
    char text[64];
    put_text("/proc/self/setgroups", "deny");
    snprintf(text, sizeof text, "0 %u 1", (unsigned)uid);
    put_text("/proc/self/uid_map", text);
    snprintf(text, sizeof text, "0 %u 1", (unsigned)gid);
    put_text("/proc/self/gid_map", text);
}

/* What makes the container worse than others. */
static void cripple(enum mode m)
{
    if (m == MODE_CONTAINER_LOCKED)
        put_text("/proc/sys/user/max_user_namespaces", "0");
    /* As container engines do; a kernel has not all of these. */
    static const char *const hidden[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list",
                                         "/proc/interrupts"};
    bool masked = false;
    for (size_t i = 0; m == MODE_CONTAINER_MASKED && i < COUNT_OF(hidden); i++)
        masked = mount("/dev/null", hidden[i], NULL, MS_BIND, NULL) == 0 || masked;
    if (m == MODE_CONTAINER_MASKED && !masked)
        cannot("hide a part of /proc");
}

/* In a child: never returns. */
static _Noreturn void enter_container(enum mode m, const char *dir)
{
    char root[PATH_MAX];
    uid_t uid = geteuid();
    gid_t gid = getegid();
    int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
    if (unshare(flags | (m == MODE_CONTAINER_ROOT ? 0 : CLONE_NEWUSER)) < 0)
        _exit(errno == EPERM || errno == ENOSPC ? SKIPPED : 126);
    if (m != MODE_CONTAINER_ROOT)
        map_root(uid, gid);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        build_root(dir, root);
        change_root(root);
        cripple(m);
        char *const argv[] = {(char[]){"/programs/test"}, (char[]){"/programs/hand"},
                              (char[]){"--in"}, (char *)(uintptr_t)mode_names[m], NULL};
        /* As its first process we also wait for whoever has lost a parent. */
        pid_t child = fork();
        if (child == 0) {
            execv(argv[0], argv);
            _exit(127);
        }
        int status = -1;
        for (pid_t got; (got = wait(&status)) != child;)
            if (got < 0 && errno != EINTR)
                break;
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128);
}

/* ---- all of them ---- */

/* Copies that anybody may execute: the build directory may be closed to others. */
static bool copy_programs(const char *dir, const char *hand)
{
    char to[PATH_MAX], self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return false;
    self[n] = '\0';
    snprintf(to, sizeof to, "%s/test", dir);
    char cp[] = "/bin/cp", one[PATH_MAX];
    int rc = run((char *const[]){cp, self, to, NULL});
    snprintf(one, sizeof one, "%s", hand);
    snprintf(to, sizeof to, "%s/hand", dir);
    return rc == 0 && run((char *const[]){cp, one, to, NULL}) == 0;
}

static int run_in(enum mode m, const char *dir)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && !needs_root(m)) {
            must(chdir("/"), "/");
            become_somebody();
        }
        if (is_container(m))
            enter_container(m, dir);
        char test[PATH_MAX], hand[PATH_MAX];
        snprintf(test, sizeof test, "%s/test", dir);
        snprintf(hand, sizeof hand, "%s/hand", dir);
        execl(test, test, hand, "--in", mode_names[m], (char *)NULL);
        _exit(127);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int mode_run(enum mode m, const char *hand)
{
    char dir[] = "/tmp/ostler-modes-XXXXXX", rm[] = "/bin/rm", how[] = "-rf";
    if (needs_root(m) && geteuid() != 0) {
        printf("1..0 # SKIP %s: not started as root\n", mode_names[m]);
        return SKIPPED;
    }
    if (m == MODE_OCI && access("/usr/sbin/runc", X_OK) != 0 &&
        access("/usr/bin/runc", X_OK) != 0) {
        printf("1..0 # SKIP %s: runc is not installed\n", mode_names[m]);
        return SKIPPED;
    }
    if (!mkdtemp(dir) || chmod(dir, 0755) < 0)
        cannot(dir);
    int code = copy_programs(dir, hand) ? 0 : 126;
    if (code == 0 && geteuid() == 0 && !needs_root(m) && chown(dir, MADE_UP_UID, MADE_UP_UID) < 0)
        code = 126;
    if (code == 0)
        code = run_in(m, dir);
    if (code == SKIPPED)
        printf("1..0 # SKIP %s: an ordinary user may not make user namespaces here\n",
               mode_names[m]);
    run((char *const[]){rm, how, dir, NULL});
    return code;
}
