#include "sandbox/tree.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TREE_DEPTH = 512 }; /* descriptors: one per level */

static bool is_dots(const char *name)
{
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* Opens a directory, giving ourselves the right to where its owner took it away. */
static int open_dir(int at, const char *name)
{
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(at, name, flags);
    if (fd >= 0 || errno != EACCES)
        return fd;
    struct stat st;
    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) ||
        fchmodat(at, name, 0700, 0) < 0)
        return -1;
    return openat(at, name, flags);
}

static uint64_t usage_of(int fd, unsigned depth)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        fd_close(fd);
        return 0;
    }
    uint64_t sum = 0;
    struct dirent *e;
    while ((e = readdir(d))) {
        struct stat st;
        if (is_dots(e->d_name) || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        sum += (uint64_t)st.st_blocks * 512;
        int sub = S_ISDIR(st.st_mode) && depth < TREE_DEPTH
                      ? openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                      : -1;
        if (sub >= 0)
            sum += usage_of(sub, depth + 1);
    }
    closedir(d);
    return sum;
}

uint64_t tree_usage(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? 0 : usage_of(fd, 0);
}

/* Empties the directory behind `fd`, which it takes; the errno of the first failure. */
static int empty(int fd, unsigned depth)
{
    DIR *d = depth > TREE_DEPTH ? NULL : fdopendir(fd);
    if (!d) {
        fd_close(fd);
        return ELOOP;
    }
    int sys = 0;
    struct dirent *e;
    while ((e = readdir(d))) {
        if (is_dots(e->d_name) || unlinkat(dirfd(d), e->d_name, 0) == 0)
            continue;
        int sub = errno == EISDIR || errno == EPERM || errno == EACCES
                      ? open_dir(dirfd(d), e->d_name)
                      : -1;
        int rc = sub < 0 ? errno : empty(sub, depth + 1);
        if (sub >= 0 && unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) == 0)
            rc = 0;
        if (rc && !sys)
            sys = rc;
    }
    closedir(d);
    return sys;
}

int tree_remove(const char *path, struct err *err)
{
    int fd = open_dir(AT_FDCWD, path);
    if (fd < 0 && errno == ENOENT)
        return 0;
    int sys = fd < 0 ? errno : empty(fd, 0);
    if (sys == 0 && rmdir(path) < 0 && errno != ENOENT)
        sys = errno;
    return sys ? err_sys(err, sys, "cannot remove %s", path) : 0;
}
