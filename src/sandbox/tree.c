#include "sandbox/tree.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TREE_DEPTH = 512,      /* descriptors: one per level */
    TREE_ENTRY_MIN = 4096, /* what an empty file counts: its name and inode are not free either */
};

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

/* The same for a directory that is in use, which may be exchanged for a link at any time; it keeps
 * its mode. What its owner cannot enter would otherwise not be counted where we are the owner. */
static int peek_dir(int at, const char *name)
{
    int flags = O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(at, name, O_RDONLY | flags);
    if (fd >= 0 || errno != EACCES)
        return fd;
    char self[64];
    struct stat st;
    AUTO_FD int path = openat(at, name, O_PATH | flags);
    snprintf(self, sizeof self, "/proc/self/fd/%d", path);
    if (path < 0 || fstat(path, &st) < 0 || chmod(self, (st.st_mode & 07777) | 0500) < 0)
        return -1;
    fd = open(self, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)!chmod(self, st.st_mode & 07777); /* else it stays as it became */
    return fd;
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
        uint64_t bytes = (uint64_t)st.st_blocks * 512;
        sum += bytes > TREE_ENTRY_MIN ? bytes : TREE_ENTRY_MIN;
        int sub = S_ISDIR(st.st_mode) && depth < TREE_DEPTH ? peek_dir(dirfd(d), e->d_name) : -1;
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
        /* Its owner, who may be we, took away the right to change it. */
        if (errno == EACCES && fchmod(dirfd(d), 0700) == 0 && unlinkat(dirfd(d), e->d_name, 0) == 0)
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

/* ---- copying ---- */

enum { COPY_DEPTH = 16, COPY_FILE_MAX = 4 << 20 };

static int copy_link(const char *from, const char *to, struct err *err)
{
    char want[PATH_MAX], have[PATH_MAX], tmp[PATH_MAX];
    ssize_t n = readlink(from, want, sizeof want - 1);
    ssize_t m = readlink(to, have, sizeof have);
    if (n < 0 || (n == m && memcmp(want, have, (size_t)n) == 0))
        return 0;
    want[n] = '\0';
    if (snprintf(tmp, sizeof tmp, "%s.new", to) >= (int)sizeof tmp)
        return 0;
    unlink(tmp);
    if (symlink(want, tmp) < 0 || rename(tmp, to) < 0)
        return err_sys(err, errno, "%s", to);
    return 0;
}

static bool same_file(const struct stat *a, const char *path)
{
    struct stat b;
    return lstat(path, &b) == 0 && S_ISREG(b.st_mode) && a->st_size == b.st_size &&
           a->st_mtim.tv_sec == b.st_mtim.tv_sec && a->st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

static int copy_file(const char *from, const char *to, const struct stat *st, struct err *err)
{
    char tmp[PATH_MAX];
    if (!(st->st_mode & S_IROTH) || st->st_size > COPY_FILE_MAX || same_file(st, to) ||
        snprintf(tmp, sizeof tmp, "%s.new", to) >= (int)sizeof tmp)
        return 0;
    AUTO_BUF struct buf data = BUF_INIT(COPY_FILE_MAX);
    if (fd_read_file(from, &data, NULL) != 0)
        return 0;
    AUTO_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_sys(err, errno, "%s", tmp);
    int rc = fd_write_all(fd, buf_view(&data), err);
    if (rc)
        return rc;
    const struct timespec times[2] = {st->st_mtim, st->st_mtim};
    if (fchmod(fd, 0644 | (st->st_mode & 0111)) < 0 || futimens(fd, times) < 0 ||
        rename(tmp, to) < 0)
        return err_sys(err, errno, "%s", to);
    return 0;
}

static int copy_any(const char *from, const char *to, unsigned depth, struct err *err);

static int copy_dir(const char *from, const char *to, unsigned depth, struct err *err)
{
    if (mkdir(to, 0755) < 0 && errno != EEXIST)
        return err_sys(err, errno, "%s", to);
    if (chmod(to, 0755) < 0)
        return err_sys(err, errno, "%s", to);
    DIR *d = depth < COPY_DEPTH ? opendir(from) : NULL;
    int rc = 0;
    struct dirent *e;
    while (d && rc == 0 && (e = readdir(d))) {
        char a[PATH_MAX], b[PATH_MAX];
        if (is_dots(e->d_name) ||
            snprintf(a, sizeof a, "%s/%s", from, e->d_name) >= (int)sizeof a ||
            snprintf(b, sizeof b, "%s/%s", to, e->d_name) >= (int)sizeof b)
            continue;
        rc = copy_any(a, b, depth + 1, err);
    }
    if (d)
        closedir(d);
    return rc;
}

static int copy_any(const char *from, const char *to, unsigned depth, struct err *err)
{
    struct stat st;
    if (lstat(from, &st) < 0)
        return 0;
    if (S_ISLNK(st.st_mode))
        return copy_link(from, to, err);
    if (S_ISREG(st.st_mode))
        return copy_file(from, to, &st, err);
    bool open = (st.st_mode & (S_IROTH | S_IXOTH)) == (S_IROTH | S_IXOTH);
    return S_ISDIR(st.st_mode) && open ? copy_dir(from, to, depth, err) : 0;
}

int tree_copy(const char *from, const char *to, struct err *err)
{
    return copy_any(from, to, 0, err);
}
