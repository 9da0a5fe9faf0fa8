#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

void fd_close(int fd)
{
    if (fd < 0)
        return;
    int keep = errno;
    close(fd);
    errno = keep;
}

int fd_write_all(int fd, struct str data, struct err *err)
{
    while (data.len) {
        ssize_t n = write(fd, data.ptr, data.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "write");
        data = str_skip(data, (size_t)n);
    }
    return 0;
}

int fd_read_all(int fd, struct buf *out, struct err *err)
{
    for (;;) {
        char chunk[16384];
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "read");
        if (n == 0)
            return 0;
        buf_put(out, chunk, (size_t)n);
        if (!buf_ok(out))
            return err_set(err, ERR_TOO_LARGE, "more than %zu bytes", out->max);
    }
}

int fd_read_file(const char *path, struct buf *out, struct err *err)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "%s", path);
    int rc = fd_read_all(fd, out, err);
    return rc ? err_wrap(err, "%s", path) : 0;
}

static int sync_parent(const char *path, struct err *err)
{
    char copy[PATH_MAX];
    if (!str_copyz(copy, sizeof copy, str_z(path)))
        return err_set(err, ERR_INVALID, "path too long");
    AUTO_FD int dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fsync(dir) < 0)
        return err_sys(err, errno, "fsync directory of %s", path);
    return 0;
}

int fd_write_file_atomic(const char *path, struct str data, unsigned mode, struct err *err)
{
    char tmp[PATH_MAX];
    if (snprintf(tmp, sizeof tmp, "%s.tmp.%d", path, (int)getpid()) >= (int)sizeof tmp)
        return err_set(err, ERR_INVALID, "path too long: %s", path);
    AUTO_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return err_sys(err, errno, "%s", tmp);
    int rc = fd_write_all(fd, data, err);
    if (rc == 0 && fsync(fd) < 0)
        rc = err_sys(err, errno, "fsync %s", tmp);
    if (rc == 0 && rename(tmp, path) < 0)
        rc = err_sys(err, errno, "rename to %s", path);
    if (rc) {
        unlink(tmp);
        return rc;
    }
    return sync_parent(path, err);
}

int fd_mkdirs(const char *path, unsigned mode, struct err *err)
{
    char copy[PATH_MAX];
    if (path[0] == '\0' || !str_copyz(copy, sizeof copy, str_z(path)))
        return err_set(err, ERR_INVALID, "bad path: '%s'", path);
    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char c = *p;
        *p = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
            return err_sys(err, errno, "mkdir %s", copy);
        *p = c;
        if (c == '\0')
            return 0;
    }
}
