/* A snapshot's directory as a tar, without making it first. */
#include "sandbox/snapshot_impl.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <sys/stat.h>

struct tarring {
    struct archive *out;
    struct snap_unpacker *u;
    char *data; /* SNAP_WHOLE bytes */
    int64_t bytes, max_bytes;
    struct err *err;
};

static int failed(struct tarring *t)
{
    int sys = archive_errno(t->out);
    return err_sys(t->err, sys > 0 ? sys : EIO, "cannot write the archive");
}

static int put_data(struct tarring *t, const char *data, size_t n)
{
    return archive_write_data(t->out, data, n) == (la_ssize_t)n ? 0 : failed(t);
}

static int put_contents(struct tarring *t, const struct snap_entry *e)
{
    int64_t at = 0;
    for (size_t i = 0; i < e->nruns; i++) {
        const struct snap_run *run = &e->runs[i];
        for (uint64_t k = 0; k < run->count; k++) {
            uint32_t n = snap_piece_len(e, (uint64_t)at);
            int rc = 0;
            if (!run->content)
                memset(t->data, 0, n);
            else if (k == 0)
                rc = snap_unpack(t->u, run->content, t->data, t->err);
            if (rc == 0)
                rc = put_data(t, t->data, n);
            if (rc)
                return rc;
            at += n;
        }
    }
    return 0;
}

static void fill_header(struct archive_entry *h, const struct snap_entry *e, const char *path)
{
    int64_t s = e->mtime_ns / 1000000000, ns = e->mtime_ns % 1000000000;
    s -= ns < 0;
    ns += ns < 0 ? 1000000000 : 0;
    archive_entry_copy_pathname(h, path);
    archive_entry_set_filetype(h, e->kind == SNAP_DIR       ? AE_IFDIR
                                  : e->kind == SNAP_SYMLINK ? AE_IFLNK
                                                            : AE_IFREG);
    archive_entry_set_perm(h, e->mode);
    archive_entry_set_mtime(h, (time_t)s, (long)ns);
    archive_entry_set_size(h, snap_is_file(e) ? e->size : 0);
    if (e->kind == SNAP_SYMLINK)
        archive_entry_copy_symlink(h, e->target.ptr);
}

static int put_entry(struct tarring *t, const struct snap_entry *e, struct str below)
{
    AUTO_BUF struct buf path = BUF_INIT(1 << 20);
    buf_z(&path, "./");
    buf_str(&path, below);
    t->bytes += e->size;
    if (t->bytes > t->max_bytes)
        return err_set(t->err, ERR_TOO_LARGE, "the files come out larger than %" PRId64 " MB",
                       t->max_bytes >> 20);
    struct archive_entry *h = archive_entry_new();
    fill_header(h, e, path.data);
    int rc = archive_write_header(t->out, h) < ARCHIVE_WARN ? failed(t) : 0;
    archive_entry_free(h);
    return rc || !snap_is_file(e) ? rc : put_contents(t, e);
}

static int put_tree(struct tarring *t, const struct snap_tree *tree, const char *root)
{
    const struct snap_entry *end = tree->entries.v + tree->entries.n;
    const struct snap_entry *e = snap_find(&tree->entries, str_z(root));
    size_t skip = strlen(root) + 1;
    int rc = e ? put_entry(t, e, STR("")) : 0;
    for (e = e ? e + 1 : end; rc == 0 && e < end; e++) {
        if (e->path.len < skip || e->path.ptr[skip - 1] != '/' || !str_starts(e->path, str_z(root)))
            break;
        rc = put_entry(t, e, str_skip(e->path, skip));
    }
    return rc;
}

static int write_tar(const struct snap_tree *tree, struct snap_unpacker *u, const char *root,
                     int out, int64_t max_bytes, struct err *err)
{
    struct tarring t = {.out = archive_write_new(), .u = u, .max_bytes = max_bytes, .err = err};
    if (!t.out)
        return err_set(err, ERR_INTERNAL, "libarchive");
    t.data = mem_alloc(SNAP_WHOLE);
    archive_write_set_format_pax(t.out);
    int rc = archive_write_open_fd(t.out, out) == ARCHIVE_OK ? 0 : failed(&t);
    if (rc == 0)
        rc = put_tree(&t, tree, root);
    if (rc == 0 && archive_write_close(t.out) != ARCHIVE_OK)
        rc = failed(&t);
    archive_write_free(t.out);
    mem_free(t.data);
    return rc;
}

int snapshot_tar(const struct blobs *b, struct str manifest, const char *root, int out,
                 int64_t max_bytes, struct err *err)
{
    struct snap_tree t;
    struct snap_unpacker u;
    /* libarchive converts names by the locale; in the C locale it would lose them. */
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = utf8 ? uselocale(utf8) : (locale_t)0;
    snap_tree_init(&t);
    snap_unpacker_init(&u, b, &t);
    int rc = snap_manifest_load(b, manifest, &t, err);
    if (rc == 0)
        rc = write_tar(&t, &u, root, out, max_bytes, err);
    snap_unpacker_fini(&u);
    snap_tree_fini(&t);
    if (utf8) {
        uselocale(before);
        freelocale(utf8);
    }
    return rc;
}
