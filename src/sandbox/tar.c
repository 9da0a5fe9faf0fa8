/* Tar streams from clients, checked before anything is unpacked. Unpacking itself happens inside a
 * sandbox (files.c), so that even a hole in this check reaches nothing but the session's own files.
 */
#include "sandbox/impl.h"

#include "base/buf.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <sys/stat.h>

enum { TAR_BLOCK = 65536, TAR_ENTRIES = 2000000 };

struct copy {
    struct archive *in, *out;
    uint64_t bytes, max;
    size_t entries;
    struct err *err;
};

static int in_failed(struct copy *c)
{
    const char *text = archive_error_string(c->in);
    return err_set(c->err, ERR_INVALID, "the body is not a readable tar stream: %s",
                   text ? text : "unknown error");
}

static int out_failed(struct copy *c)
{
    int sys = archive_errno(c->out);
    return err_sys(c->err, sys > 0 ? sys : EIO, "cannot keep the archive");
}

/* The path below the root, without "./" and double slashes; false when it leads elsewhere. */
static bool plain_path(const char *path, struct buf *out)
{
    struct str rest = str_z(path);
    buf_clear(out);
    if (!path || path[0] == '/' || path[0] == '\0')
        return false;
    while (str_some(rest)) {
        struct str part = str_split(&rest, '/');
        if (str_eqz(part, ".."))
            return false;
        if (part.len == 0 || str_eqz(part, "."))
            continue;
        if (out->len)
            buf_ch(out, '/');
        buf_str(out, part);
    }
    if (!out->len)
        buf_ch(out, '.');
    return buf_ok(out);
}

static int refuse(struct copy *c, const char *path, const char *why)
{
    return err_set(c->err, ERR_INVALID, "the archive's entry '%.150s' %s", path ? path : "", why);
}

static int check_entry(struct copy *c, struct archive_entry *e)
{
    AUTO_BUF struct buf plain = BUF_INIT(PATH_MAX);
    const char *path = archive_entry_pathname(e), *link = archive_entry_hardlink(e);
    if (!plain_path(path, &plain))
        return refuse(c, path,
                      "does not lie below the workspace: absolute paths and '..' are refused");
    archive_entry_copy_pathname(e, plain.data);
    if (link && !plain_path(link, &plain))
        return refuse(c, path, "links to a file outside of the archive");
    if (link)
        archive_entry_copy_hardlink(e, plain.data);
    mode_t type = archive_entry_filetype(e), mode = archive_entry_perm(e) & 0777;
    if (!link && type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
        return refuse(c, path, "is neither a file, a directory nor a link");
    archive_entry_set_perm(e, mode | (type == AE_IFDIR ? 0700 : 0600));
    archive_entry_set_uid(e, 0);
    archive_entry_set_gid(e, 0);
    archive_entry_copy_uname(e, "");
    archive_entry_copy_gname(e, "");
    uint64_t size = archive_entry_size(e) > 0 ? (uint64_t)archive_entry_size(e) : 0;
    if (size > c->max - c->bytes || ++c->entries > TAR_ENTRIES)
        return err_set(c->err, ERR_TOO_LARGE,
                       "the archive holds more than %" PRIu64 " MB or %d entries", c->max >> 20,
                       TAR_ENTRIES);
    return 0;
}

static int copy_data(struct copy *c)
{
    char block[TAR_BLOCK];
    la_ssize_t n;
    while ((n = archive_read_data(c->in, block, sizeof block)) > 0) {
        c->bytes += (uint64_t)n;
        if (c->bytes > c->max)
            return err_set(c->err, ERR_TOO_LARGE, "the archive holds more than %" PRIu64 " MB",
                           c->max >> 20);
        if (archive_write_data(c->out, block, (size_t)n) != n)
            return out_failed(c);
    }
    return n < 0 ? in_failed(c) : 0;
}

static int copy_entries(struct copy *c)
{
    struct archive_entry *e;
    int r;
    while ((r = archive_read_next_header(c->in, &e)) != ARCHIVE_EOF) {
        if (r == ARCHIVE_RETRY)
            continue;
        if (r < ARCHIVE_WARN)
            return in_failed(c);
        int rc = check_entry(c, e);
        if (rc)
            return rc;
        if (archive_write_header(c->out, e) < ARCHIVE_WARN)
            return out_failed(c);
        rc = copy_data(c);
        if (rc)
            return rc;
    }
    return 0;
}

static int sanitize(int in, int out, uint64_t max_bytes, struct err *err)
{
    struct copy c = {
        .in = archive_read_new(), .out = archive_write_new(), .max = max_bytes, .err = err};
    if (!c.in || !c.out)
        return err_set(err, ERR_INTERNAL, "libarchive");
    archive_read_support_format_tar(c.in);
    archive_read_support_filter_gzip(c.in);
    archive_read_support_filter_zstd(c.in);
    archive_write_set_format_gnutar(c.out); /* names stay bytes */
    int rc = 0;
    if (archive_write_open_fd(c.out, out) != ARCHIVE_OK)
        rc = out_failed(&c);
    if (rc == 0 && archive_read_open_fd(c.in, in, TAR_BLOCK) != ARCHIVE_OK)
        rc = in_failed(&c);
    if (rc == 0)
        rc = copy_entries(&c);
    if (rc == 0 && archive_write_close(c.out) != ARCHIVE_OK)
        rc = out_failed(&c);
    archive_read_free(c.in);
    archive_write_free(c.out);
    return rc;
}

int tar_sanitize(int in, int out, uint64_t max_bytes, struct err *err)
{
    /* libarchive converts names by the locale; in the C locale it would lose them. */
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = utf8 ? uselocale(utf8) : (locale_t)0;
    int rc = sanitize(in, out, max_bytes, err);
    if (utf8) {
        uselocale(before);
        freelocale(utf8);
    }
    return rc;
}
