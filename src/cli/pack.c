#include "cli/pack.h"

#include "base/fd.h"
#include "cli/proc.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LIST_MAX = 512 * 1024 * 1024, CONFIG_MAX = 1024 * 1024, DEPTH_MAX = 128 };

struct packer {
    struct archive *tar;
    int root;
    struct pack_stats *stats;
    struct err *err;
    unsigned depth;
};

static int tar_fail(struct packer *p, const char *path)
{
    const char *why = archive_error_string(p->tar);
    int sys = archive_errno(p->tar);
    if (sys == ENOSPC)
        return err_sys(p->err, sys, "cannot pack %s", path);
    return err_set(p->err, ERR_IO, "cannot pack %s: %s", path, why ? why : "unknown reason");
}

static struct archive_entry *entry_of(const char *path, const struct stat *st)
{
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, path);
    archive_entry_set_filetype(e, st->st_mode & S_IFMT);
    archive_entry_set_perm(e, st->st_mode & 0777);
    archive_entry_set_mtime(e, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    return e;
}

/* A file that changes its length while it is read: what is missing is filled with zeros, what is
 * too much is left out. The header has promised a length. */
static int put_content(struct packer *p, int fd, const char *path, int64_t size)
{
    static const char zeros[4096];
    char chunk[64 * 1024];
    bool ended = false;
    for (int64_t left = size; left > 0;) {
        size_t want = left < (int64_t)sizeof chunk ? (size_t)left : sizeof chunk;
        ssize_t n = ended ? 0 : read(fd, chunk, want);
        if (n < 0)
            return err_sys(p->err, errno, "cannot read %s", path);
        ended = ended || n == 0;
        if (ended)
            n = (ssize_t)(want < sizeof zeros ? want : sizeof zeros);
        if (archive_write_data(p->tar, ended ? zeros : chunk, (size_t)n) < 0)
            return tar_fail(p, path);
        left -= n;
    }
    p->stats->bytes += size;
    return 0;
}

static int put_file(struct packer *p, const char *path)
{
    AUTO_FD int fd = openat(p->root, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 && errno == ENOENT) {
        p->stats->skipped++;
        return 0;
    }
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(p->err, errno, "cannot read %s", path);
    struct archive_entry *e = entry_of(path, &st);
    archive_entry_set_size(e, st.st_size);
    int rc = archive_write_header(p->tar, e) < ARCHIVE_OK ? tar_fail(p, path) : 0;
    archive_entry_free(e);
    p->stats->files++;
    return rc ? rc : put_content(p, fd, path, st.st_size);
}

static int put_link(struct packer *p, const char *path, const struct stat *st)
{
    char target[4096];
    ssize_t n = readlinkat(p->root, path, target, sizeof target - 1);
    if (n < 0)
        return err_sys(p->err, errno, "cannot read the link %s", path);
    target[n] = '\0';
    struct archive_entry *e = entry_of(path, st);
    archive_entry_set_symlink(e, target);
    int rc = archive_write_header(p->tar, e) < ARCHIVE_OK ? tar_fail(p, path) : 0;
    archive_entry_free(e);
    p->stats->files++;
    return rc;
}

static int put_bytes(struct packer *p, const char *path, struct str bytes)
{
    struct stat st = {.st_mode = S_IFREG | 0644};
    st.st_mtim.tv_sec = time(NULL);
    struct archive_entry *e = entry_of(path, &st);
    archive_entry_set_size(e, (la_int64_t)bytes.len);
    bool ok = archive_write_header(p->tar, e) >= ARCHIVE_OK &&
              archive_write_data(p->tar, bytes.ptr ? bytes.ptr : "", bytes.len) >= 0;
    archive_entry_free(e);
    p->stats->files++;
    return ok ? 0 : tar_fail(p, path);
}

/* Parts of any .git that stay behind: they hold credentials, run by themselves, or mean nothing
 * there. */
static bool left_out(const char *path)
{
    for (const char *nested; (nested = strstr(path, "/.git/"));)
        path = nested + 1;
    static const char *const exact[] = {".git/config", ".git/config.worktree", ".git/index.lock",
                                        ".git/FETCH_HEAD", ".git/credentials"};
    static const char *const below[] = {".git/hooks/", ".git/modules/", ".git/worktrees/",
                                        ".git/lfs/"};
    for (size_t i = 0; i < COUNT_OF(exact); i++)
        if (strcmp(path, exact[i]) == 0)
            return true;
    for (size_t i = 0; i < COUNT_OF(below); i++) {
        size_t n = strlen(below[i]);
        if (strncmp(path, below[i], n) == 0 || strncmp(path, below[i], n - 1) == 0)
            if (path[n - 1] == '\0' || path[n - 1] == '/')
                return true;
    }
    return false;
}

static int put_tree(struct packer *p, const char *path);

static int put_path(struct packer *p, const char *path, bool recurse)
{
    struct stat st;
    if (fstatat(p->root, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno != ENOENT)
            return err_sys(p->err, errno, "cannot look at %s", path);
        p->stats->skipped++;
        return 0;
    }
    if (S_ISREG(st.st_mode))
        return put_file(p, path);
    if (S_ISLNK(st.st_mode))
        return put_link(p, path, &st);
    if (!S_ISDIR(st.st_mode) || !recurse) {
        p->stats->skipped++; /* a socket, a device, or a submodule's directory */
        return 0;
    }
    struct archive_entry *e = entry_of(path, &st);
    int rc = archive_write_header(p->tar, e) < ARCHIVE_OK ? tar_fail(p, path) : 0;
    archive_entry_free(e);
    return rc ? rc : put_tree(p, path);
}

static int put_children(struct packer *p, DIR *d, const char *path)
{
    for (struct dirent *e; (e = readdir(d));) {
        char child[4096];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        bool top = strcmp(path, ".") == 0;
        if (snprintf(child, sizeof child, "%s%s%s", top ? "" : path, top ? "" : "/", e->d_name) >=
            (int)sizeof child)
            return err_set(p->err, ERR_INVALID, "the path %s/%s is too long", path, e->d_name);
        int rc = left_out(child) ? 0 : put_path(p, child, true);
        if (rc)
            return rc;
    }
    return 0;
}

static int put_tree(struct packer *p, const char *path)
{
    if (p->depth >= DEPTH_MAX)
        return err_set(p->err, ERR_LIMIT, "%s is nested too deeply", path);
    int fd = openat(p->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int sys = errno;
        fd_close(fd);
        return err_sys(p->err, sys, "cannot read the directory %s", path);
    }
    p->depth++;
    int rc = put_children(p, d, path);
    p->depth--;
    closedir(d);
    return rc;
}

/* ---- git ---- */

/* Only these keys of the repository's configuration travel: a remote's URL or an http.extraheader
 * may hold a token. */
static bool config_key_travels(struct str key)
{
    static const char *const keys[] = {"core.repositoryformatversion",
                                       "core.filemode",
                                       "core.symlinks",
                                       "core.ignorecase",
                                       "core.precomposeunicode",
                                       "core.autocrlf",
                                       "core.eol",
                                       "user.name",
                                       "user.email",
                                       "extensions.objectformat"};
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (str_eqz(key, keys[i]))
            return true;
    return false;
}

static void config_line(struct buf *out, struct str key, struct str value)
{
    ptrdiff_t dot = str_find_ch(key, '.');
    buf_printf(out, "[" STR_FMT "]\n\t" STR_FMT " = \"", STR_ARG(str_take(key, (size_t)dot)),
               STR_ARG(str_skip(key, (size_t)dot + 1)));
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] == '"' || value.ptr[i] == '\\')
            buf_ch(out, '\\');
        buf_ch(out, value.ptr[i] == '\n' ? ' ' : value.ptr[i]);
    }
    buf_z(out, "\"\n");
}

static int put_git_config(struct packer *p, const char *dir)
{
    AUTO_BUF struct buf list = BUF_INIT(CONFIG_MAX), out = BUF_INIT(CONFIG_MAX);
    const char *args[] = {"config", "--local", "--list", "-z", NULL};
    int rc = git_run(dir, args, &list, p->err);
    if (rc)
        return rc;
    buf_z(&out, "[core]\n\tbare = false\n");
    /* "key\nvalue\0", or "key\0" for a bare one, which means true */
    for (struct str rest = buf_view(&list); str_some(rest) && rest.len;) {
        struct str value = str_split(&rest, '\0'), key = str_split(&value, '\n');
        if (config_key_travels(key))
            config_line(&out, key, str_some(value) ? value : STR("true"));
    }
    return put_bytes(p, ".git/config", buf_view(&out));
}

static int put_git_listed(struct packer *p, const char *dir)
{
    AUTO_BUF struct buf list = BUF_INIT(LIST_MAX);
    const char *args[] = {"ls-files",      "-z", "--cached", "--others", "--exclude-standard",
                          "--deduplicate", NULL};
    int rc = git_run(dir, args, &list, p->err);
    for (struct str rest = buf_view(&list); rc == 0 && str_some(rest) && rest.len;) {
        struct str path = str_split(&rest, '\0');
        if (path.len && path.len < 4096)
            rc = put_path(p, path.ptr, false); /* the list's NUL ends it */
    }
    return rc;
}

static int put_repository(struct packer *p, const char *dir)
{
    int rc = put_path(p, ".git", true);
    return rc ? rc : put_git_config(p, dir);
}

/* Fills stats->git, inside_git and prefix; all false when there is no repository (or no git). */
static void look_for_git(const char *dir, int root, struct pack_stats *stats)
{
    AUTO_BUF struct buf out = BUF_INIT(64 * 1024);
    const char *args[] = {"rev-parse", "--show-prefix", NULL};
    struct err err;
    if (git_run(dir, args, &out, &err))
        return;
    struct str prefix = str_trim(buf_view(&out));
    stats->inside_git = prefix.len > 0;
    if (!str_copyz(stats->prefix, sizeof stats->prefix, prefix))
        stats->inside_git = false;
    struct stat st;
    /* A .git file (a worktree, a submodule) points outside of the directory: only the files go. */
    stats->git =
        !prefix.len && fstatat(root, ".git", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int put_all(struct packer *p, const char *dir, bool include_ignored)
{
    int rc = 0;
    bool listed = p->stats->git || p->stats->inside_git;
    if (listed && !include_ignored) {
        rc = p->stats->git ? put_repository(p, dir) : 0;
        return rc ? rc : put_git_listed(p, dir);
    }
    rc = put_tree(p, ".");
    if (rc == 0 && p->stats->git)
        rc = put_git_config(p, dir);
    return rc;
}

int pack_directory(const char *dir, bool include_ignored, int fd, struct pack_stats *stats,
                   struct err *err)
{
    *stats = (struct pack_stats){0};
    AUTO_FD int root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_at(err, ERR_INVALID, "--dir", "--dir %s: %s", dir, strerror(errno));
    look_for_git(dir, root, stats);
    struct packer p = {.tar = archive_write_new(), .root = root, .stats = stats, .err = err};
    int rc = 0;
    /* Fast compression: the bytes only cross to a server that is mostly on the same host. */
    if (archive_write_set_format_pax_restricted(p.tar) != ARCHIVE_OK ||
        archive_write_add_filter_zstd(p.tar) != ARCHIVE_OK ||
        archive_write_set_options(p.tar, "zstd:compression-level=1") != ARCHIVE_OK ||
        archive_write_open_fd(p.tar, fd) != ARCHIVE_OK)
        rc = tar_fail(&p, dir);
    rc = rc ? rc : put_all(&p, dir, include_ignored);
    if (archive_write_close(p.tar) != ARCHIVE_OK && rc == 0)
        rc = tar_fail(&p, dir);
    archive_write_free(p.tar);
    return rc;
}
