/* Copying a directory: by descriptors, two for each level. Where the file system can share the
 * blocks of files it does, else the kernel copies them; holes stay holes. */
#include "sandbox/copy.h"

#include "base/fd.h"
#include "sandbox/snapshot_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, DIR_FLAGS = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC };

struct walk {
    struct copy_how *how;
    bool no_clone, no_range; /* this file system cannot */
    char *chunk;
};

static int go_on(const struct walk *w, struct err *err)
{
    const struct copy_how *how = w->how;
    if (atomic_load_explicit(how->stop, memory_order_relaxed))
        return err_set(err, ERR_CANCELED, "the copy was cancelled");
    if (how->files > how->max_files)
        return err_set(err, ERR_LIMIT, "there are more than %" PRId64 " files and directories",
                       how->max_files);
    if (how->bytes > how->max_bytes)
        return err_set(err, ERR_LIMIT, "the files have more than %" PRId64 " MB",
                       how->max_bytes >> 20);
    return 0;
}

static int failed(const char *name, struct err *err)
{
    return err_sys(err, errno, "copy '%.200s'", name);
}

/* ---- contents ---- */

/* Up to `n` bytes at `offset`; 0: the file has become shorter. */
static ssize_t copy_some(struct walk *w, int from, int to, int64_t offset, size_t n)
{
    if (!w->no_range) {
        off_t in = offset, out = offset;
        ssize_t k = copy_file_range(from, &in, to, &out, n, 0);
        if (k >= 0 || errno == ENOSPC || errno == EFBIG || errno == EDQUOT || errno == EINTR)
            return k;
        w->no_range = true;
    }
    if (!w->chunk)
        w->chunk = mem_alloc(CHUNK);
    ssize_t k = pread(from, w->chunk, n, offset);
    for (ssize_t done = 0; done < k;) {
        ssize_t m = pwrite(to, w->chunk + done, (size_t)(k - done), offset + done);
        if (m < 0 && errno != EINTR)
            return -1;
        done += m > 0 ? m : 0;
    }
    return k;
}

static int copy_range(struct walk *w, int from, int to, int64_t at, int64_t end, const char *name,
                      struct err *err)
{
    while (at < end) {
        size_t n = end - at < CHUNK ? (size_t)(end - at) : CHUNK;
        ssize_t k = copy_some(w, from, to, at, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return failed(name, err);
        if (k == 0)
            break;
        at += k;
        w->how->bytes += k;
        int rc = go_on(w, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* The parts of it that are no holes. */
static int copy_data(struct walk *w, int from, int to, int64_t size, const char *name,
                     struct err *err)
{
    int64_t at = 0;
    while (at < size) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        off_t hole = data < 0 ? size : lseek(from, data, SEEK_HOLE);
        data = data < 0 ? at : data;
        hole = hole < 0 || hole > size ? size : hole;
        int rc = copy_range(w, from, to, data, hole, name, err);
        if (rc || hole <= at)
            return rc;
        at = hole;
        rc = go_on(w, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int copy_content(struct walk *w, int from, int to, const struct stat *st, const char *name,
                        struct err *err)
{
    int64_t used = (int64_t)st->st_blocks * 512;
    if (st->st_size == 0)
        return 0;
    if (!w->no_clone) {
        if (ioctl(to, FICLONE, from) == 0) {
            w->how->bytes += used;
            return go_on(w, err);
        }
        w->no_clone = true;
    }
    if (used >= st->st_size)
        return copy_range(w, from, to, 0, st->st_size, name, err);
    int rc = copy_data(w, from, to, st->st_size, name, err);
    return rc == 0 && ftruncate(to, st->st_size) < 0 ? failed(name, err) : rc;
}

static int settle(struct walk *w, int fd, const struct stat *st, const char *name, struct err *err)
{
    const struct timespec times[2] = {st->st_mtim, st->st_mtim};
    uid_t uid = w->how->uid;
    if ((uid && fchown(fd, uid, uid) < 0) || fchmod(fd, st->st_mode & 0777) < 0 ||
        futimens(fd, times) < 0)
        return failed(name, err);
    return 0;
}

static int copy_file(struct walk *w, int at, const char *name, int into, struct err *err)
{
    struct stat st;
    AUTO_FD int from = snap_open_entry(at, name, 0, S_IRUSR);
    if (from < 0 || fstat(from, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    AUTO_FD int to = openat(into, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return failed(name, err);
    int rc = copy_content(w, from, to, &st, name, err);
    return rc ? rc : settle(w, to, &st, name, err);
}

static int copy_link(struct walk *w, int at, const char *name, const struct stat *st, int into,
                     struct err *err)
{
    char target[SNAP_LINK + 2];
    const struct timespec times[2] = {st->st_mtim, st->st_mtim};
    uid_t uid = w->how->uid;
    ssize_t n = readlinkat(at, name, target, sizeof target - 1);
    if (n <= 0 || n > SNAP_LINK)
        return 0;
    target[n] = '\0';
    if (symlinkat(target, into, name) < 0 ||
        (uid && fchownat(into, name, uid, uid, AT_SYMLINK_NOFOLLOW) < 0) ||
        utimensat(into, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return failed(name, err);
    return 0;
}

/* ---- directories ---- */

static int copy_dir(struct walk *w, int from, int to, unsigned depth, struct err *err);

static int copy_sub(struct walk *w, int at, const char *name, int into, unsigned depth,
                    struct err *err)
{
    struct stat st;
    if (depth >= SNAP_DEPTH)
        return err_set(err, ERR_LIMIT, "'%.80s' lies deeper than %d directories", name, SNAP_DEPTH);
    AUTO_FD int from = snap_open_entry(at, name, O_DIRECTORY, S_IRUSR | S_IXUSR);
    if (from < 0 || fstat(from, &st) < 0)
        return 0;
    if (mkdirat(into, name, 0700) < 0)
        return failed(name, err);
    AUTO_FD int to = openat(into, name, DIR_FLAGS);
    if (to < 0)
        return failed(name, err);
    int rc = copy_dir(w, TAKE_FD(from), to, depth + 1, err);
    return rc ? rc : settle(w, to, &st, name, err);
}

static int copy_entry(struct walk *w, int at, const char *name, int into, unsigned depth,
                      struct err *err)
{
    struct stat st;
    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode))
        return 0;
    w->how->files++;
    int rc = go_on(w, err);
    if (rc)
        return rc;
    if (S_ISDIR(st.st_mode))
        return copy_sub(w, at, name, into, depth, err);
    return S_ISLNK(st.st_mode) ? copy_link(w, at, name, &st, into, err)
                               : copy_file(w, at, name, into, err);
}

/* Takes `from`. */
static int copy_dir(struct walk *w, int from, int to, unsigned depth, struct err *err)
{
    DIR *d = fdopendir(from);
    if (!d) {
        int rc = err_sys(err, errno, "copy a directory");
        fd_close(from);
        return rc;
    }
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(d)) != NULL;)
        if (!str_eqz(str_z(e->d_name), ".") && !str_eqz(str_z(e->d_name), ".."))
            rc = copy_entry(w, dirfd(d), e->d_name, to, depth, err);
    closedir(d);
    return rc;
}

int copy_tree(const char *from, const char *to, struct copy_how *how, struct err *err)
{
    struct walk w = {.how = how};
    struct stat st;
    AUTO_FD int in = open(from, DIR_FLAGS);
    if (in < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (in < 0 && errno == EACCES) /* we are its owner */
        in = snap_open_entry(AT_FDCWD, from, O_DIRECTORY, S_IRUSR | S_IXUSR);
    AUTO_FD int out = open(to, DIR_FLAGS);
    if (in < 0 || out < 0 || fstat(in, &st) < 0)
        return err_sys(err, errno, "%s", in < 0 ? from : to);
    st.st_mode |= S_IRWXU; /* whoever looks must get in */
    int rc = copy_dir(&w, TAKE_FD(in), out, 1, err);
    rc = rc ? rc : settle(&w, out, &st, to, err);
    mem_free(w.chunk);
    return rc;
}
