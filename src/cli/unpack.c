#include "cli/pack.h"

#include "base/fd.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A path of plain names: relative, no "..", no empty middle. "./" in front is cut. */
static bool plain_path(struct str *path)
{
    while (str_starts(*path, STR("./")))
        *path = str_skip(*path, 2);
    while (path->len && path->ptr[path->len - 1] == '/')
        path->len--;
    if (!path->len || path->ptr[0] == '/' || path->len >= 4096 || str_eqz(*path, "."))
        return false;
    for (struct str rest = *path; str_some(rest);) {
        struct str name = str_split(&rest, '/');
        if (!name.len || str_eqz(name, "..") || str_eqz(name, "."))
            return false;
    }
    return true;
}

/* Opens the directory `path` below `root`, name by name, following no link; creates what lacks. */
static int open_below(int root, struct str path)
{
    int at = fcntl(root, F_DUPFD_CLOEXEC, 0);
    for (struct str rest = path; at >= 0 && str_some(rest) && rest.len;) {
        char name[256];
        int next = -1;
        if (str_copyz(name, sizeof name, str_split(&rest, '/'))) {
            mkdirat(at, name, 0755);
            next = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        } else {
            errno = ENAMETOOLONG;
        }
        fd_close(at);
        at = next;
    }
    return at;
}

static int copy_out(struct archive *tar, int fd, struct unpack_stats *stats, struct err *err)
{
    char chunk[64 * 1024];
    for (;;) {
        la_ssize_t n = archive_read_data(tar, chunk, sizeof chunk);
        if (n < 0)
            return err_set(err, ERR_PARSE, "the archive is damaged: %s", archive_error_string(tar));
        if (n == 0)
            return 0;
        int rc = fd_write_all(fd, str_n(chunk, (size_t)n), err);
        if (rc)
            return rc;
        stats->bytes += n;
    }
}

static int put_entry(struct archive *tar, struct archive_entry *e, int root,
                     struct unpack_stats *stats, struct err *err)
{
    struct str path = str_z(archive_entry_pathname(e));
    bool dir = archive_entry_filetype(e) == AE_IFDIR, file = archive_entry_filetype(e) == AE_IFREG;
    if (!plain_path(&path) || archive_entry_hardlink(e) || (!dir && !file)) {
        stats->skipped += dir ? 0 : 1;
        return 0;
    }
    size_t cut = path.len;
    while (cut && path.ptr[cut - 1] != '/')
        cut--;
    struct str parent = dir ? path : str_take(path, cut ? cut - 1 : 0);
    AUTO_FD int at = open_below(root, parent);
    char name[256];
    if (at < 0 || (!dir && !str_copyz(name, sizeof name, str_skip(path, cut))))
        return err_sys(err, at < 0 ? errno : ENAMETOOLONG, "cannot create " STR_FMT, STR_ARG(path));
    if (dir)
        return 0;
    mode_t mode = archive_entry_perm(e) & 0111 ? 0755 : 0644;
    AUTO_FD int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return err_sys(err, errno, "cannot create " STR_FMT, STR_ARG(path));
    stats->files++;
    return copy_out(tar, fd, stats, err);
}

static int unpack_all(struct archive *tar, const char *dir, struct unpack_stats *stats,
                      struct err *err)
{
    AUTO_FD int root = -1;
    for (;;) {
        struct archive_entry *e;
        int got = archive_read_next_header(tar, &e);
        if (got == ARCHIVE_EOF)
            return 0;
        if (got < ARCHIVE_WARN)
            return err_set(err, ERR_PARSE, "the archive is damaged: %s", archive_error_string(tar));
        struct str path = str_z(archive_entry_pathname(e));
        if (!plain_path(&path) && archive_entry_filetype(e) == AE_IFDIR)
            continue; /* the root's own entry makes no directory */
        if (root < 0) {
            if (mkdir(dir, 0755) < 0 && errno != EEXIST)
                return err_sys(err, errno, "cannot create %s", dir);
            root = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (root < 0)
                return err_sys(err, errno, "%s", dir);
        }
        int rc = put_entry(tar, e, root, stats, err);
        if (rc)
            return rc;
    }
}

int unpack_tar(int fd, const char *dir, struct unpack_stats *stats, struct err *err)
{
    *stats = (struct unpack_stats){0};
    struct stat st;
    if (lseek(fd, 0, SEEK_SET) < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "the archive");
    if (st.st_size == 0)
        return 0;
    struct archive *tar = archive_read_new();
    archive_read_support_format_tar(tar);
    archive_read_support_filter_gzip(tar);
    archive_read_support_filter_zstd(tar);
    int rc = archive_read_open_fd(tar, fd, 64 * 1024) == ARCHIVE_OK
                 ? unpack_all(tar, dir, stats, err)
                 : err_set(err, ERR_PARSE, "not a tar archive: %s", archive_error_string(tar));
    archive_read_free(tar);
    return rc;
}
