/* The tools read, write and edit. */
#include "hand/tools.h"

#include "base/fd.h"
#include "base/limits.h"
#include "base/rand.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define EDIT_MAX ((size_t)16 << 20)

/* ---- opening ---- */

/* A regular file, opened for reading; anything else could block or never end. */
static int open_regular(const char *tool, const char *abs, struct str shown, struct stat *st,
                        struct buf *out)
{
    if (stat(abs, st) < 0) {
        tool_fail_sys(out, tool, shown, errno);
        return -1;
    }
    if (!S_ISREG(st->st_mode)) {
        tool_fail(out, "%s: " STR_FMT " is not a regular file", tool, STR_ARG(shown));
        return -1;
    }
    /* It may have been replaced since: not blocking, and looked at again. */
    int fd = open(abs, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        tool_fail_sys(out, tool, shown, errno);
        return -1;
    }
    if (fstat(fd, st) < 0 || !S_ISREG(st->st_mode)) {
        fd_close(fd);
        tool_fail(out, "%s: " STR_FMT " is not a regular file", tool, STR_ARG(shown));
        return -1;
    }
    return fd;
}

/* ---- read ---- */

struct range {
    int64_t start, end; /* lines [start, end), from 0; end INT64_MAX: to the end of the file */
    int64_t line;
    struct buf *out;
    size_t taken;
    bool ranged;
    int64_t said_start, said_end;
    struct str shown;
};

static bool parse_range(const struct json *input, struct range *r)
{
    const struct json *v = json_get(input, "view_range");
    r->start = 0;
    r->end = INT64_MAX;
    if (!v || v->type == JSON_NULL || (v->type == JSON_ARRAY && v->count == 0))
        return true;
    if (v->type != JSON_ARRAY || v->count != 2 || !json_i64(json_at(v, 0), &r->said_start) ||
        !json_i64(json_at(v, 1), &r->said_end))
        return tool_fail(r->out, "read: view_range must be [start_line, end_line]");
    r->ranged = true;
    r->start = r->said_start > 0 ? r->said_start - 1 : 0;
    r->end = r->said_end > 0 ? r->said_end : INT64_MAX;
    return true;
}

static bool over_limit(struct range *r)
{
    r->out->len = 0;
    if (!r->ranged)
        return tool_fail(r->out,
                         "read: " STR_FMT " exceeds %d-byte limit. Use the view_range parameter to "
                         "read specific line ranges, e.g. view_range: [1, 500].",
                         STR_ARG(r->shown), LIMIT_READ_OUTPUT);
    if (r->end - r->start == 1)
        return tool_fail(r->out,
                         "read: line %" PRId64 " of " STR_FMT " alone exceeds %d-byte limit. The "
                         "read tool cannot return part of a line, so view_range cannot narrow this "
                         "further.",
                         r->start + 1, STR_ARG(r->shown), LIMIT_READ_OUTPUT);
    return tool_fail(r->out,
                     "read: view_range [%" PRId64 ", %" PRId64 "] of " STR_FMT
                     " exceeds %d-byte limit. Narrow the view_range to read a smaller portion.",
                     r->said_start, r->said_end, STR_ARG(r->shown), LIMIT_READ_OUTPUT);
}

static bool take_chunk(struct range *r, struct str chunk)
{
    while (chunk.len && r->line < r->end) {
        ptrdiff_t nl = str_find_ch(chunk, '\n');
        size_t n = nl < 0 ? chunk.len : (size_t)nl;
        if (r->line >= r->start) {
            bool newline = nl >= 0 && r->line + 1 < r->end;
            buf_put(r->out, chunk.ptr, n);
            if (newline)
                buf_ch(r->out, '\n');
            r->taken += n + newline;
            if (r->taken > LIMIT_READ_OUTPUT)
                return over_limit(r);
        }
        if (nl < 0)
            return true;
        r->line++;
        chunk = str_skip(chunk, n + 1);
    }
    return true;
}

bool tool_read(const struct tool_env *env, const struct json *input, struct buf *out)
{
    struct str shown;
    char abs[PATH_MAX];
    struct range r = {.out = out};
    if (!tool_arg(input, "read", "file_path", false, &shown, out) || !parse_range(input, &r) ||
        !tool_path(env, "read", shown, abs, out))
        return false;
    r.shown = shown;
    struct stat st;
    AUTO_FD int fd = open_regular("read", abs, shown, &st, out);
    if (fd < 0)
        return false;
    if (!r.ranged && st.st_size > LIMIT_READ_OUTPUT)
        return tool_fail(out,
                         "read: " STR_FMT " is %lld bytes, exceeds %d-byte limit. Use the "
                         "view_range parameter to read specific line ranges, e.g. view_range: "
                         "[1, 500].",
                         STR_ARG(shown), (long long)st.st_size, LIMIT_READ_OUTPUT);
    char chunk[65536];
    ssize_t n;
    while (r.line < r.end && (n = read(fd, chunk, sizeof chunk)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            out->len = 0;
            return tool_fail_sys(out, "read", shown, errno);
        }
        if (!take_chunk(&r, str_n(chunk, (size_t)n)))
            return false;
    }
    return true;
}

/* ---- write and edit ---- */

/* Follows a symbolic link at the end of the path: what it points to is replaced, not the link. */
static bool resolve_target(const char *tool, char abs[], struct str shown, struct stat *st,
                           bool *exists, struct buf *out)
{
    *exists = stat(abs, st) == 0;
    if (*exists && !S_ISREG(st->st_mode))
        return S_ISDIR(st->st_mode)
                   ? tool_fail_sys(out, tool, shown, EISDIR)
                   : tool_fail(out, "%s: " STR_FMT " is not a regular file", tool, STR_ARG(shown));
    if (*exists) {
        char real[PATH_MAX];
        if (!realpath(abs, real))
            return tool_fail_sys(out, tool, shown, errno);
        memcpy(abs, real, sizeof real);
        return true;
    }
    struct stat link;
    if (lstat(abs, &link) == 0 && S_ISLNK(link.st_mode))
        return tool_fail(out, "%s: " STR_FMT " is a symbolic link that leads nowhere", tool,
                         STR_ARG(shown));
    size_t n = strlen(abs);
    if (n && abs[n - 1] == '/')
        return tool_fail_sys(out, tool, shown, EISDIR);
    return true;
}

static int write_temporary(const char *tmp, struct str data, mode_t mode)
{
    AUTO_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    struct err err = {.code = 0};
    if (fd_write_all(fd, data, &err) != 0)
        return err.sys;
    return fchmod(fd, mode) < 0 ? errno : 0;
}

/* The file is seen either as it was or as it will be. With `before`, fails with EAGAIN when it is
 * no longer what was read then. */
static int replace_file(const char *abs, struct str data, mode_t mode, const struct stat *before)
{
    char tmp[PATH_MAX];
    if (snprintf(tmp, sizeof tmp, "%.*s.%08x.tmp", PATH_MAX - 16, abs, (unsigned)rand_u64()) >=
        (int)sizeof tmp)
        return ENAMETOOLONG;
    int rc = write_temporary(tmp, data, mode);
    struct stat now;
    if (rc == 0 && before &&
        (stat(abs, &now) < 0 || now.st_ino != before->st_ino || now.st_size != before->st_size ||
         now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
         now.st_mtim.tv_nsec != before->st_mtim.tv_nsec))
        rc = EAGAIN;
    if (rc == 0 && rename(tmp, abs) < 0)
        rc = errno;
    if (rc)
        unlink(tmp);
    return rc;
}

static int make_parents(const char *abs)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(abs, '/');
    struct err err = {.code = 0};
    if (slash == abs || !str_copyz(dir, sizeof dir, str_n(abs, (size_t)(slash - abs))))
        return 0;
    if (access(dir, F_OK) == 0)
        return 0;
    return fd_mkdirs(dir, 0755, &err) ? err.sys : 0;
}

bool tool_write(const struct tool_env *env, const struct json *input, struct buf *out)
{
    struct str shown, content;
    char abs[PATH_MAX];
    struct stat st;
    bool exists;
    if (!tool_arg(input, "write", "file_path", false, &shown, out) ||
        !tool_arg(input, "write", "content", true, &content, out) ||
        !tool_path(env, "write", shown, abs, out) ||
        !resolve_target("write", abs, shown, &st, &exists, out))
        return false;
    int rc = exists ? 0 : make_parents(abs);
    if (rc == 0)
        rc = replace_file(abs, content, exists ? st.st_mode & 07777 : 0644, NULL);
    if (rc)
        return tool_fail_sys(out, "write", shown, rc);
    buf_printf(out, "wrote %zu bytes to " STR_FMT, content.len, STR_ARG(shown));
    return true;
}

static size_t count_of(struct str data, struct str old)
{
    size_t n = 0;
    ptrdiff_t at;
    while ((at = str_find(data, old)) >= 0) {
        n++;
        data = str_skip(data, (size_t)at + old.len);
    }
    return n;
}

static void replace_all(struct buf *to, struct str data, struct str old, struct str with)
{
    ptrdiff_t at;
    while ((at = str_find(data, old)) >= 0) {
        buf_put(to, data.ptr, (size_t)at);
        buf_str(to, with);
        data = str_skip(data, (size_t)at + old.len);
    }
    buf_str(to, data);
}

static bool apply_edit(const char *abs, struct str shown, struct str old, struct str with, bool all,
                       struct buf *out)
{
    struct stat st;
    AUTO_FD int fd = open_regular("edit", abs, shown, &st, out);
    if (fd < 0)
        return false;
    AUTO_BUF struct buf data = BUF_INIT(EDIT_MAX);
    struct err err = {.code = 0};
    int rc = fd_read_all(fd, &data, &err);
    if (rc == ERR_TOO_LARGE)
        return tool_fail(out,
                         "edit: " STR_FMT " is %lld bytes, exceeds %zu-byte limit. The edit tool "
                         "loads the whole file and cannot modify a file this large.",
                         STR_ARG(shown), (long long)st.st_size, EDIT_MAX);
    if (rc)
        return tool_fail_sys(out, "edit", shown, err.sys);
    size_t n = count_of(buf_view(&data), old);
    if (n == 0)
        return tool_fail(out, "edit: old_string not found in " STR_FMT, STR_ARG(shown));
    if (n > 1 && !all)
        return tool_fail(out, "edit: old_string appears %zu times in " STR_FMT " (must be unique)",
                         n, STR_ARG(shown));
    AUTO_BUF struct buf edited = BUF_INIT(EDIT_MAX * 4);
    replace_all(&edited, buf_view(&data), old, with);
    if (!buf_ok(&edited))
        return tool_fail_sys(out, "edit", shown, EFBIG);
    rc = replace_file(abs, buf_view(&edited), st.st_mode & 07777, &st);
    if (rc == EAGAIN)
        return tool_fail(out,
                         "edit: " STR_FMT " was changed by something else at the same time; "
                         "nothing was edited. Read it again.",
                         STR_ARG(shown));
    if (rc)
        return tool_fail_sys(out, "edit", shown, rc);
    buf_printf(out, "edited " STR_FMT " (%zu replacement(s))", STR_ARG(shown), n);
    return true;
}

bool tool_edit(const struct tool_env *env, const struct json *input, struct buf *out)
{
    struct str shown, old, with;
    char abs[PATH_MAX];
    struct stat st;
    bool exists;
    if (!tool_arg(input, "edit", "file_path", false, &shown, out) ||
        !tool_arg(input, "edit", "old_string", false, &old, out) ||
        !tool_arg(input, "edit", "new_string", true, &with, out) ||
        !tool_path(env, "edit", shown, abs, out))
        return false;
    const struct json *all = json_get(input, "replace_all");
    if (all && all->type != JSON_NULL && all->type != JSON_BOOL)
        return tool_fail(out, "edit: replace_all must be true or false, not %s",
                         json_type_name(all->type));
    if (stat(abs, &st) < 0)
        return tool_fail_sys(out, "edit", shown, errno);
    if (!S_ISREG(st.st_mode))
        return tool_fail(out, "edit: " STR_FMT " is not a regular file", STR_ARG(shown));
    return resolve_target("edit", abs, shown, &st, &exists, out) &&
           apply_edit(abs, shown, old, with, json_is_true(all), out);
}
