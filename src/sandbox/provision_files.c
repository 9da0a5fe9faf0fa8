/* Files and skills on the host, as sandboxes see them: read-only mounts of directories that belong
 * to the server. Workers only; nothing of an agent's lies here, but for the workspace that skills
 * are mounted into. */
#include "sandbox/provision.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/rand.h"
#include "json/json.h"
#include "sandbox/tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    DIR_FLAGS = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
    DEPTH = 64,
    SKILL_BYTES = 256 << 20,
    SKILL_FILES = 20000,
    HALF_SECONDS = 3600,
};
static const char uploads_lead[] = "/mnt/session/uploads/";

/* ---- one file, from a blob ---- */

/* The directory that holds `path` below `root`, made where it is missing; the last part is left in
 * *name. Every part was checked by whoever wrote the path; here again, because it is cheap. */
static int open_parent(int root, struct str path, char name[NAME_MAX + 1], int *out,
                       struct err *err)
{
    int at = fcntl(root, F_DUPFD_CLOEXEC, 0);
    struct str rest = path;
    while (at >= 0) {
        struct str part = str_split(&rest, '/');
        if (part.len == 0 || str_eqz(part, ".") || str_eqz(part, "..") ||
            !str_copyz(name, NAME_MAX + 1, part)) {
            fd_close(at);
            return err_set(err, ERR_INVALID, "bad path '" STR_FMT "'", STR_ARG(path));
        }
        if (!str_some(rest))
            break;
        int next = openat(at, name, DIR_FLAGS);
        if (next < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) {
            (void)unlinkat(at, name, 0); /* a file of a resource that was taken away */
            if (mkdirat(at, name, 0755) == 0 || errno == EEXIST)
                next = openat(at, name, DIR_FLAGS);
            if (next >= 0)
                (void)fchmod(next, 0755); /* whatever our umask is */
        }
        fd_close(at);
        at = next;
    }
    if (at < 0)
        return err_sys(err, errno, "'" STR_FMT "'", STR_ARG(path));
    *out = at;
    return 0;
}

static int copy_bytes(int from, int at, const char *name, mode_t mode, struct err *err)
{
    char chunk[65536];
    AUTO_FD int to = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;
    int rc = to < 0 || lseek(from, 0, SEEK_SET) < 0 || fstat(from, &st) < 0
                 ? err_sys(err, errno, "%s", name)
                 : 0;
    for (ssize_t n = 1; rc == 0 && n > 0;) {
        n = read(from, chunk, sizeof chunk);
        if (n < 0 && errno != EINTR)
            rc = err_sys(err, errno, "%s", name);
        else if (n > 0)
            rc = fd_write_all(to, str_n(chunk, (size_t)n), err);
        n = n < 0 ? 1 : n;
    }
    if (rc)
        return rc;
    const struct timespec times[2] = {st.st_mtim, st.st_mtim};
    if (fchmod(to, mode) < 0 || futimens(to, times) < 0)
        return err_sys(err, errno, "%s", name);
    return 0;
}

static bool same_content(int blob, int at, const char *name)
{
    struct stat b, f;
    if (fstat(blob, &b) < 0 || fstatat(at, name, &f, AT_SYMLINK_NOFOLLOW) < 0 ||
        !S_ISREG(f.st_mode))
        return false;
    return (b.st_ino == f.st_ino && b.st_dev == f.st_dev) ||
           (b.st_size == f.st_size && b.st_mtim.tv_sec == f.st_mtim.tv_sec &&
            b.st_mtim.tv_nsec == f.st_mtim.tv_nsec);
}

/* A second name of the blob, which nobody in a sandbox can write to; a copy where links cannot be
 * had. */
static int put_upload(const struct host *h, int root, struct str path, struct str blob,
                      struct err *err)
{
    char name[NAME_MAX + 1], source[64];
    AUTO_FD int from = -1;
    AUTO_FD int at = -1;
    int64_t size = 0;
    int rc = blob_open(&h->blobs, blob, &from, &size, err);
    rc = rc ? rc : open_parent(root, path, name, &at, err);
    if (rc || same_content(from, at, name))
        return rc;
    if (unlinkat(at, name, 0) < 0 && errno == EISDIR)
        return err_set(err, ERR_INVALID, "'" STR_FMT "' is a directory", STR_ARG(path));
    snprintf(source, sizeof source, "/proc/self/fd/%d", from);
    if (fchmod(from, 0444) == 0 && linkat(AT_FDCWD, source, at, name, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    return copy_bytes(from, at, name, 0444, err);
}

/* ---- all of them ---- */

static bool is_wanted(const struct json *files, const char *path, size_t lead)
{
    if (json_is(files, JSON_ARRAY))
        json_for_each (f, files)
            if (str_eq(str_skip(json_get_str(f, "path"), lead), str_z(path)))
                return true;
    return false;
}

static void remove_unwanted(int fd, const char *below, const struct json *files, unsigned depth)
{
    DIR *d = depth < DEPTH ? fdopendir(fd) : NULL;
    if (!d) {
        fd_close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(d));) {
        char path[PATH_MAX];
        if (str_eqz(str_z(e->d_name), ".") || str_eqz(str_z(e->d_name), "..") ||
            snprintf(path, sizeof path, "%s%s%s", below, below[0] ? "/" : "", e->d_name) >=
                (int)sizeof path)
            continue;
        int sub = openat(dirfd(d), e->d_name, DIR_FLAGS);
        if (sub >= 0) {
            remove_unwanted(sub, path, files, depth + 1);
            (void)unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR); /* when it is empty */
        } else if (!is_wanted(files, path, strlen(uploads_lead))) {
            (void)unlinkat(dirfd(d), e->d_name, 0);
        }
    }
    closedir(d);
}

int provision_uploads(const struct host *h, const struct session_paths *p, const struct json *files,
                      struct err *err)
{
    int failed = 0;
    AUTO_FD int root = open(p->uploads, DIR_FLAGS);
    if (root < 0)
        return err_sys(err, errno, "%s", p->uploads);
    int copy = open(p->uploads, DIR_FLAGS);
    if (copy >= 0)
        remove_unwanted(copy, "", files, 0);
    if (!json_is(files, JSON_ARRAY))
        return 0;
    json_for_each (f, files) {
        struct str path = json_get_str(f, "path");
        struct err why;
        if (!str_starts(path, str_z(uploads_lead)))
            continue;
        int rc = put_upload(h, root, str_skip(path, strlen(uploads_lead)), json_get_str(f, "blob"),
                            &why);
        if (rc && !failed) {
            failed = rc;
            *err = why;
        }
    }
    return failed;
}

/* ---- skills: unpacked once, then linked into each session ---- */

static int write_entry(struct archive *in, int root, struct str path, bool executable,
                       struct err *err)
{
    char name[NAME_MAX + 1], chunk[65536];
    AUTO_FD int at = -1;
    int rc = open_parent(root, path, name, &at, err);
    AUTO_FD int fd =
        rc ? -1 : openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (rc == 0 && fd < 0)
        rc = err_sys(err, errno, "'" STR_FMT "'", STR_ARG(path));
    for (la_ssize_t n = 1; rc == 0 && n > 0;) {
        n = archive_read_data(in, chunk, sizeof chunk);
        if (n < 0)
            rc = err_set(err, ERR_CORRUPT, "%s", archive_error_string(in));
        else if (n > 0)
            rc = fd_write_all(fd, str_n(chunk, (size_t)n), err);
    }
    if (rc == 0 && fchmod(fd, executable ? 0555 : 0444) < 0)
        rc = err_sys(err, errno, "'" STR_FMT "'", STR_ARG(path));
    return rc;
}

/* Plain files only, as they were checked when the skill was uploaded. */
static int unpack(struct archive *in, int root, struct err *err)
{
    struct archive_entry *e;
    int64_t bytes = 0, n = 0;
    int rc = 0, got;
    while (rc == 0 && (got = archive_read_next_header(in, &e)) == ARCHIVE_OK) {
        struct str path = str_z(archive_entry_pathname(e));
        if (archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e))
            continue;
        bytes += archive_entry_size(e);
        if (++n > SKILL_FILES || bytes > SKILL_BYTES)
            return err_set(err, ERR_TOO_LARGE, "the skill is too large");
        rc = write_entry(in, root, path, archive_entry_perm(e) & 0100, err);
    }
    if (rc == 0 && got != ARCHIVE_EOF)
        rc = err_set(err, ERR_CORRUPT, "%s", archive_error_string(in));
    return rc;
}

static int unpack_blob(const struct host *h, struct str blob, const char *to, struct err *err)
{
    AUTO_FD int fd = -1;
    int64_t size = 0;
    int rc = blob_open(&h->blobs, blob, &fd, &size, err);
    if (rc == 0 && mkdir(to, 0755) < 0)
        rc = err_sys(err, errno, "%s", to);
    AUTO_FD int root = rc ? -1 : open(to, DIR_FLAGS);
    struct archive *in = archive_read_new();
    if (rc == 0 && (root < 0 || !in))
        rc = err_sys(err, root < 0 ? errno : ENOMEM, "%s", to);
    if (rc == 0) {
        archive_read_support_format_tar(in);
        if (archive_read_open_fd(in, fd, 65536) != ARCHIVE_OK)
            rc = err_set(err, ERR_CORRUPT, "%s", archive_error_string(in));
    }
    if (rc == 0)
        rc = unpack(in, root, err);
    if (in)
        archive_read_free(in);
    return rc;
}

/* Half a skill that a server which was killed has left. */
static void prune_half(const char *dir, const char *name, const struct stat *st)
{
    char path[PATH_MAX];
    if (str_eqz(str_z(name), ".") || str_eqz(str_z(name), "..") ||
        clock_unix_us() / 1000000 - st->st_mtim.tv_sec < HALF_SECONDS)
        return;
    if (snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path)
        (void)tree_remove(path, NULL);
}

/* Any of them may go at any time: sessions have links of their own. */
static void prune_cache(const char *dir)
{
    size_t n = 0;
    char oldest[NAME_MAX + 1] = "", path[PATH_MAX];
    struct timespec age = {0};
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        struct stat st;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (e->d_name[0] == '.') {
            prune_half(dir, e->d_name, &st);
            continue;
        }
        n++;
        if (!oldest[0] || st.st_ctim.tv_sec < age.tv_sec) {
            age = st.st_ctim;
            snprintf(oldest, sizeof oldest, "%s", e->d_name);
        }
    }
    if (d)
        closedir(d);
    if (n > LIMIT_SKILL_CACHE &&
        snprintf(path, sizeof path, "%s/%s", dir, oldest) < (int)sizeof path)
        (void)tree_remove(path, NULL);
}

static int cached_skill(const struct host *h, struct str blob, char out[PATH_MAX], struct err *err)
{
    char dir[PATH_MAX], tmp[PATH_MAX];
    snprintf(dir, sizeof dir, "%s/.skills", h->dir);
    if (blob.len != BLOB_NAME_LEN ||
        snprintf(out, PATH_MAX, "%s/" STR_FMT, dir, STR_ARG(blob)) >= PATH_MAX ||
        snprintf(tmp, sizeof tmp, "%s/.%016" PRIx64, dir, rand_u64()) >= (int)sizeof tmp)
        return err_set(err, ERR_INVALID, "bad name of a skill's content");
    if (access(out, F_OK) == 0)
        return 0;
    int rc = fd_mkdirs(dir, 0700, err);
    if (rc == 0)
        prune_cache(dir);
    if (rc == 0)
        rc = unpack_blob(h, blob, tmp, err);
    if (rc == 0 && rename(tmp, out) < 0 && errno != ENOTEMPTY && errno != EEXIST)
        rc = err_sys(err, errno, "%s", out);
    (void)tree_remove(tmp, NULL); /* nothing, if it has its name */
    return rc;
}

static int link_tree(int from, int to, unsigned depth, struct err *err)
{
    DIR *d = depth < DEPTH ? fdopendir(from) : NULL;
    if (!d) {
        fd_close(from);
        return err_set(err, ERR_LIMIT, "a skill's folders lie too deep");
    }
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        if (str_eqz(str_z(e->d_name), ".") || str_eqz(str_z(e->d_name), ".."))
            continue;
        int sub = openat(dirfd(d), e->d_name, DIR_FLAGS);
        if (sub < 0) {
            if (linkat(dirfd(d), e->d_name, to, e->d_name, 0) == 0)
                continue;
            AUTO_FD int file = openat(dirfd(d), e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
            struct stat st;
            rc = file < 0 || fstat(file, &st) < 0
                     ? err_sys(err, errno, "%s", e->d_name)
                     : copy_bytes(file, to, e->d_name, st.st_mode & 0555, err);
            continue;
        }
        if (mkdirat(to, e->d_name, 0755) < 0)
            rc = err_sys(err, errno, "%s", e->d_name);
        AUTO_FD int dir = rc ? -1 : openat(to, e->d_name, DIR_FLAGS);
        if (dir >= 0)
            (void)fchmod(dir, 0755);
        if (rc == 0 && dir < 0)
            rc = err_sys(err, errno, "%s", e->d_name);
        if (rc == 0)
            rc = link_tree(sub, dir, depth + 1, err);
        else
            fd_close(sub);
    }
    closedir(d);
    return rc;
}

/* The tar has one folder on top, of the skill's name. */
static int put_skill(const struct host *h, int root, const struct json *skill, struct err *err)
{
    char cache[PATH_MAX];
    int rc = cached_skill(h, json_get_str(skill, "blob"), cache, err);
    if (rc)
        return rc;
    int from = open(cache, DIR_FLAGS);
    return from < 0 ? err_sys(err, errno, "%s", cache) : link_tree(from, root, 0, err);
}

/* A mount point needs a directory: what else an import put there gives way. */
static void clear_mount_point(const struct session_paths *p)
{
    struct stat st;
    AUTO_FD int at = open(p->workspace, DIR_FLAGS);
    if (at >= 0 && fstatat(at, "skills", &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode))
        (void)unlinkat(at, "skills", 0);
}

int provision_skills(const struct host *h, const struct session_paths *p, const struct json *skills,
                     struct err *err)
{
    int failed = 0;
    int rc = tree_remove(p->skills, err);
    if (rc || !json_is(skills, JSON_ARRAY) || skills->count == 0)
        return rc;
    if (mkdir(p->skills, 0755) < 0 || chmod(p->skills, 0755) < 0)
        return err_sys(err, errno, "%s", p->skills);
    AUTO_FD int root = open(p->skills, DIR_FLAGS);
    if (root < 0)
        return err_sys(err, errno, "%s", p->skills);
    json_for_each (s, skills) {
        struct err why;
        rc = put_skill(h, root, s, &why);
        if (rc && !failed) {
            failed = rc;
            *err = why;
        }
    }
    clear_mount_point(p);
    return failed;
}
