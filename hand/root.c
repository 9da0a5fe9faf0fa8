/* The writable root of a container: overlays that the launcher mounts where only what it starts
 * sees them. Lower directories belong to the host's users from 0 on; the container's are others, so
 * each lower one is shown with its owners shifted (an idmapped mount). What is written goes to the
 * upper directory, as the container's users. */
#include "hand/hand.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int open_dir(const char *path)
{
    int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        launch_die("cannot open", path);
    return fd;
}

int root_option(struct root *r, int left, char **argv)
{
    struct str o = str_z(argv[0]);
    int64_t n;
    if (left > 1 && str_eqz(o, "--ids") && str_i64(str_z(argv[1]), &n) && n > 0 &&
        n < INT32_MAX - ROOT_IDS) {
        r->first_id = n;
        return 2;
    }
    if (left > 1 && str_eqz(o, "--lower") && r->nlowers < ROOT_LOWERS) {
        r->lowers[r->nlowers++] = (struct root_dir){argv[1], -1};
        return 2;
    }
    if (left > 3 && str_eqz(o, "--writable") && r->noverlays < ROOT_OVERLAYS) {
        r->overlays[r->noverlays++] = (struct root_overlay){
            .name = argv[1], .upper = {argv[2], -1}, .work = {argv[3], -1}, .end = r->nlowers};
        return 4;
    }
    return 0;
}

void root_open(struct root *r)
{
    for (size_t i = 0; i < r->nlowers; i++)
        r->lowers[i].fd = open_dir(r->lowers[i].path);
    for (size_t i = 0; i < r->noverlays; i++) {
        r->overlays[i].upper.fd = open_dir(r->overlays[i].upper.path);
        r->overlays[i].work.fd = open_dir(r->overlays[i].work.path);
    }
}

/* A user namespace with the container's ids, held by a child for as long as it takes to open it. */
static int open_ids(int64_t first)
{
    char map[128], path[64], byte;
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) < 0)
        launch_die("cannot make", "a pipe");
    pid_t pid = fork();
    if (pid == 0) {
        ssize_t n = unshare(CLONE_NEWUSER) == 0 ? write(ready[1], "", 1) : -1;
        while (n == 1)
            pause();
        _exit(1);
    }
    close(ready[1]);
    if (pid < 0 || read(ready[0], &byte, 1) != 1)
        launch_die("cannot make", "a user namespace");
    close(ready[0]);
    snprintf(map, sizeof map, "0 %lld %d\n65534 %lld 1\n", (long long)first, ROOT_IDS - 1,
             (long long)first + ROOT_IDS - 1);
    static const char *const files[] = {"uid_map", "gid_map"};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, files[i]);
        launch_write(path, map);
    }
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        launch_die("cannot open", path);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return fd;
}

static void shift(const struct root_dir *d, int ids, const char *to)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY,
                              .userns_fd = (unsigned)ids};
    int tree = open_tree(d->fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
        launch_die("cannot shift the owners (idmapped mount) of", d->path);
    if (mkdir(to, 0755) < 0 || move_mount(tree, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        launch_die("cannot mount", to);
    close(tree);
}

void root_mount(const struct root *r, const char *stage)
{
    char at[512], options[2048], lower[512];
    if (!r->noverlays)
        return;
    int ids = open_ids(r->first_id);
    for (size_t i = 0, k = 0; i < r->noverlays; i++) {
        const struct root_overlay *o = &r->overlays[i];
        size_t n = (size_t)snprintf(options, sizeof options, "lowerdir=");
        for (bool first = true; k < o->end; k++, first = false) {
            snprintf(lower, sizeof lower, "%s/lower-%zu", stage, k);
            shift(&r->lowers[k], ids, lower);
            n += (size_t)snprintf(options + n, sizeof options - n, "%s%s", first ? "" : ":", lower);
        }
        /* By descriptor: a path may hold the characters that separate options. */
        snprintf(options + n, sizeof options - n,
                 ",upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d", o->upper.fd, o->work.fd);
        snprintf(at, sizeof at, "%s/%s", stage, o->name);
        if (mkdir(at, 0755) < 0 && errno != EEXIST)
            launch_die("cannot make", at);
        if (mount("overlay", at, "overlay", MS_NOSUID | MS_NODEV, options) < 0)
            launch_die("cannot make a writable root (overlay) with", o->upper.path);
    }
    close(ids);
}
