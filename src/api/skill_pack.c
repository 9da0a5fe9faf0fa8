#include "api/skill_pack.h"

#include "base/limits.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>

enum {
    BLOCK = 64 * 1024,
    FREE_RATIO = 1024 * 1024,              /* bytes that may come of any archive, however small */
    ZIP_HEADERS = 5 * LIMIT_SKILL_ENTRIES, /* nested zips have some of their own */
};

static int bad(struct err *err, const char *what)
{
    return err_at(err, ERR_INVALID, "files", "files: %s", what);
}

static int bad_path(struct err *err, struct str path, const char *what)
{
    return err_at(err, ERR_INVALID, "files", "files: '" STR_FMT "' %s",
                  STR_ARG(str_utf8_take(path, 120)), what);
}

static int too_large(struct err *err)
{
    return err_at(err, ERR_TOO_LARGE, "files", "files: A skill's files have at most %d MB",
                  LIMIT_SKILL >> 20);
}

/* libarchive converts names by the locale; in the C locale it would lose them. */
static locale_t enter_utf8(locale_t *before)
{
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    *before = utf8 ? uselocale(utf8) : (locale_t)0;
    return utf8;
}

static void leave_utf8(locale_t utf8, locale_t before)
{
    if (!utf8)
        return;
    uselocale(before);
    freelocale(utf8);
}

/* ---- paths ---- */

static bool has_control(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
            return true;
    return false;
}

/* Cuts "./" in front and slashes at the end; what remains are plain names. */
static int clean_path(struct str *path, struct err *err)
{
    struct str p = *path, shown = *path;
    if (!str_utf8(p) || has_control(p))
        return bad(err, "A path must be UTF-8 without control characters");
    while (str_starts(p, STR("./")))
        p = str_skip(p, 2);
    while (p.len > 1 && p.ptr[p.len - 1] == '/')
        p.len--;
    if (p.len == 0)
        return bad(err, "Every file needs a path, such as 'my-skill/SKILL.md'");
    if (p.ptr[0] == '/')
        return bad_path(err, shown,
                        "is an absolute path; send it below one folder, such as "
                        "'my-skill/SKILL.md'");
    if (str_find_ch(p, '\\') >= 0)
        return bad_path(err, shown, "holds a backslash; folders are separated by '/'");
    if (p.len > LIMIT_SKILL_PATH)
        return err_at(err, ERR_INVALID, "files", "files: A path has at most %d bytes",
                      LIMIT_SKILL_PATH);
    size_t depth = 0;
    for (struct str rest = p; str_some(rest);) {
        struct str name = str_split(&rest, '/');
        if (name.len == 0 || name.len > 255 || str_eqz(name, ".") || str_eqz(name, ".."))
            return bad_path(err, shown, "has an empty, overlong, '.' or '..' part");
        if (++depth > LIMIT_SKILL_DEPTH)
            return bad_path(err, shown, "lies too deep");
    }
    *path = p;
    return 0;
}

/* What a Macintosh leaves in archives and folders. */
static bool is_litter(struct str path)
{
    struct str rest = path, name = STR_NONE;
    if (str_starts(path, STR("__MACOSX/")) || str_eqz(path, "__MACOSX"))
        return true;
    while (str_some(rest))
        name = str_split(&rest, '/');
    return str_eqz(name, ".DS_Store") || str_starts(name, STR("._"));
}

/* ---- archives ---- */

enum kind { KIND_NONE, KIND_ZIP, KIND_TAR, KIND_GZIP };

static enum kind kind_of(struct str bytes)
{
    if (str_starts(bytes, STR("PK\x03\x04")) || str_starts(bytes, STR("PK\x05\x06")))
        return KIND_ZIP;
    if (str_starts(bytes, STR("\x1f\x8b")))
        return KIND_GZIP;
    if (bytes.len > 262 && memcmp(bytes.ptr + 257, "ustar", 5) == 0)
        return KIND_TAR;
    return KIND_NONE;
}

struct reading {
    struct arena *arena;
    struct archive *in;
    size_t packed; /* bytes of the archive */
    struct buf *unpacked;
    struct skill_file *files;
    size_t *at; /* where a file's bytes begin in `unpacked`, which moves while it grows */
    size_t n, entries;
    struct err *err;
};

static int unreadable(struct reading *r)
{
    const char *why = archive_error_string(r->in);
    char shown[160];
    str_copyz(shown, sizeof shown, str_utf8_take(str_z(why ? why : "it is damaged"), 150));
    return err_at(r->err, ERR_INVALID, "files", "files: The archive cannot be read: %s", shown);
}

static int check_size(const struct reading *r, size_t more)
{
    size_t total = r->unpacked->len + more;
    if (more > LIMIT_SKILL || total > LIMIT_SKILL)
        return too_large(r->err);
    if (total > FREE_RATIO && total / LIMIT_SKILL_RATIO > r->packed)
        return err_at(r->err, ERR_TOO_LARGE, "files",
                      "files: The archive holds more than %d times its size", LIMIT_SKILL_RATIO);
    return 0;
}

/* What is left out is read as well: skipping would unpack it uncounted. */
static int read_data(struct reading *r)
{
    for (;;) {
        char *room = buf_reserve(r->unpacked, BLOCK);
        if (!room)
            return too_large(r->err);
        la_ssize_t got = archive_read_data(r->in, room, BLOCK);
        if (got == ARCHIVE_RETRY)
            continue;
        if (got < 0)
            return unreadable(r);
        if (got == 0)
            return 0;
        int rc = check_size(r, (size_t)got);
        if (rc)
            return rc;
        buf_commit(r->unpacked, (size_t)got);
    }
}

static int read_entry(struct reading *r, struct archive_entry *e)
{
    const char *name = archive_entry_pathname(e);
    struct str path = str_z(name);
    if (!name)
        return bad(r->err, "The archive has a name that is not UTF-8");
    if (++r->entries > LIMIT_SKILL_ENTRIES)
        return err_at(r->err, ERR_INVALID, "files", "files: An archive has at most %d entries",
                      LIMIT_SKILL_ENTRIES);
    mode_t type = archive_entry_filetype(e);
    bool linked = archive_entry_hardlink(e) || archive_entry_symlink(e) || type == AE_IFLNK;
    if (linked)
        return bad_path(r->err, str_utf8(path) ? path : STR("?"),
                        "is a link; a skill has plain files and folders only");
    if (type != AE_IFREG && type != AE_IFDIR)
        return bad_path(r->err, str_utf8(path) ? path : STR("?"), "is neither a file nor a folder");
    if (type == AE_IFDIR && (str_eqz(path, ".") || str_eqz(path, "./")))
        return 0; /* of `tar c .`: says nothing */
    size_t begin = r->unpacked->len;
    int rc = archive_entry_size_is_set(e) && archive_entry_size(e) > 0
                 ? check_size(r, (size_t)archive_entry_size(e))
                 : 0;
    if (rc == 0)
        rc = read_data(r);
    if (rc)
        return rc;
    struct skill_file *f = &r->files[r->n];
    f->path = arena_str(r->arena, path);
    f->bytes = str_n(NULL, r->unpacked->len - begin);
    f->folder = type == AE_IFDIR;
    f->executable = !f->folder && (archive_entry_perm(e) & 0111) != 0;
    r->at[r->n++] = begin;
    return str_some(f->path) ? 0 : too_large(r->err);
}

static int read_entries(struct reading *r)
{
    for (;;) {
        struct archive_entry *e;
        int got = archive_read_next_header(r->in, &e);
        if (got == ARCHIVE_EOF)
            return 0;
        /* A warning is about a name that could not be converted: not what was packed. */
        if (got != ARCHIVE_OK)
            return unreadable(r);
        int rc = read_entry(r, e);
        if (rc)
            return rc;
    }
}

/* libarchive remembers each header of a zip's directory before it gives the first one. */
static bool zip_is_huge(struct str bytes)
{
    size_t n = 0;
    for (ptrdiff_t at; n <= ZIP_HEADERS && (at = str_find(bytes, STR("PK\x01\x02"))) >= 0; n++)
        bytes = str_skip(bytes, (size_t)at + 4);
    return n > ZIP_HEADERS;
}

static int open_archive(struct reading *r, struct str bytes)
{
    enum kind kind = kind_of(bytes);
    if (kind == KIND_NONE)
        return bad(r->err, "SKILL.md file must be exactly in the top-level folder: send the files "
                           "as 'my-skill/SKILL.md' and so on, or one zip, tar or tar.gz that holds "
                           "the folder");
    if (kind == KIND_ZIP && zip_is_huge(bytes))
        return err_at(r->err, ERR_INVALID, "files", "files: An archive has at most %d entries",
                      LIMIT_SKILL_ENTRIES);
    r->in = archive_read_new();
    if (!r->in)
        return err_set(r->err, ERR_INTERNAL, "libarchive");
    if (kind == KIND_ZIP)
        archive_read_support_format_zip_seekable(r->in);
    else
        archive_read_support_format_tar(r->in);
    if (kind == KIND_GZIP)
        archive_read_support_filter_gzip(r->in);
    return archive_read_open_memory(r->in, bytes.ptr, bytes.len) == ARCHIVE_OK ? 0 : unreadable(r);
}

static int read_archive(struct arena *a, struct str bytes, struct buf *unpacked,
                        struct skill_file **files, size_t *n, struct err *err)
{
    struct reading r = {.arena = a,
                        .packed = bytes.len,
                        .unpacked = unpacked,
                        .files = ARENA_ARRAY(a, struct skill_file, LIMIT_SKILL_ENTRIES),
                        .at = ARENA_ARRAY(a, size_t, LIMIT_SKILL_ENTRIES),
                        .err = err};
    locale_t before, utf8 = enter_utf8(&before);
    int rc = r.files && r.at ? open_archive(&r, bytes) : too_large(err);
    if (rc == 0)
        rc = read_entries(&r);
    archive_read_free(r.in);
    leave_utf8(utf8, before);
    if (rc)
        return rc;
    for (size_t i = 0; i < r.n; i++)
        r.files[i].bytes =
            str_n(r.files[i].bytes.len ? unpacked->data + r.at[i] : "", r.files[i].bytes.len);
    *files = r.files;
    *n = r.n;
    return 0;
}

/* ---- from files to a skill ---- */

static struct str top_of(struct str path)
{
    ptrdiff_t at = str_find_ch(path, '/');
    return at < 0 ? path : str_take(path, (size_t)at);
}

static bool same_entry(const struct skill_file *x, const struct skill_file *y)
{
    return str_eq(x->path, y->path);
}

static int by_path(const void *x, const void *y)
{
    const struct skill_file *a = x, *b = y;
    int order = str_cmp(a->path, b->path);
    return order ? order : (int)b->folder - (int)a->folder;
}

/* The files with clean paths, and every folder above them. */
static int collect(struct arena *a, const struct skill_file *files, size_t n,
                   struct skill_pack *out, struct err *err)
{
    size_t total = 0, kept = 0;
    out->entries = ARENA_ARRAY(a, struct skill_file, n * (LIMIT_SKILL_DEPTH + 1) + 1);
    if (!out->entries)
        return too_large(err);
    for (size_t i = 0; i < n; i++) {
        struct skill_file f = files[i];
        int rc = clean_path(&f.path, err);
        if (rc)
            return rc;
        if (is_litter(f.path))
            continue;
        total += f.bytes.len;
        kept += !f.folder;
        if (f.bytes.len > LIMIT_SKILL || total > LIMIT_SKILL)
            return too_large(err);
        if (kept > LIMIT_SKILL_FILES)
            return err_at(err, ERR_INVALID, "files", "files: A skill has at most %d files",
                          LIMIT_SKILL_FILES);
        out->entries[out->n++] = f;
        for (size_t len = 1; len < f.path.len; len++)
            if (f.path.ptr[len] == '/')
                out->entries[out->n++] =
                    (struct skill_file){.path = str_take(f.path, len), .folder = true};
    }
    return kept ? 0 : bad(err, "There is no file in it; a skill has at least a SKILL.md");
}

/* Sorted, each folder once. */
static int arrange(struct skill_pack *p, struct err *err)
{
    size_t n = 0;
    qsort(p->entries, p->n, sizeof *p->entries, by_path);
    for (size_t i = 0; i < p->n; i++) {
        const struct skill_file *e = &p->entries[i], *last = n ? &p->entries[n - 1] : NULL;
        if (last && same_entry(last, e)) {
            if (last->folder && e->folder)
                continue;
            return bad_path(err, e->path,
                            last->folder ? "is both a file and a folder" : "is there twice");
        }
        p->entries[n++] = *e;
    }
    p->n = n;
    return 0;
}

static const struct skill_file *find_md(const struct skill_pack *p)
{
    for (size_t i = 0; i < p->n; i++) {
        struct str path = p->entries[i].path;
        if (!p->entries[i].folder && path.len == p->directory.len + 9 &&
            str_ends(path, STR("/SKILL.md")))
            return &p->entries[i];
    }
    return NULL;
}

static int read_md(struct arena *a, struct skill_pack *p, struct err *err)
{
    const struct skill_file *md = find_md(p);
    if (!md)
        return bad(err, "SKILL.md file must be exactly in the top-level folder: there is no "
                        "'FOLDER/SKILL.md'");
    if (md->bytes.len > LIMIT_SKILL_MD)
        return err_at(err, ERR_INVALID, "files", "files: SKILL.md has at most %d KB",
                      LIMIT_SKILL_MD >> 10);
    if (skill_md_read(a, md->bytes, &p->md, err)) {
        str_copyz(err->at, sizeof err->at, STR("files"));
        return err_wrap(err, "files");
    }
    if (!str_eq(p->md.name, p->directory))
        return err_at(err, ERR_INVALID, "files",
                      "The folder name '" STR_FMT "' must match the skill name '" STR_FMT
                      "' in SKILL.md.",
                      STR_ARG(str_utf8_take(p->directory, 100)), STR_ARG(p->md.name));
    return 0;
}

static int check_top(struct skill_pack *p, struct err *err)
{
    p->directory = top_of(p->entries[0].path);
    for (size_t i = 0; i < p->n; i++) {
        const struct skill_file *e = &p->entries[i];
        struct str top = top_of(e->path);
        if (top.len == e->path.len && !e->folder)
            return str_eqz(top, "SKILL.md")
                       ? bad(err, "SKILL.md file must be exactly in the top-level folder: put it "
                                  "and the other files into a folder with the skill's name")
                       : bad_path(err, top, "lies outside of the top-level folder");
        if (!str_eq(top, p->directory))
            return err_at(err, ERR_INVALID, "files",
                          "files: All files must lie in one top-level folder; there are '" STR_FMT
                          "' and '" STR_FMT "'",
                          STR_ARG(str_utf8_take(p->directory, 64)),
                          STR_ARG(str_utf8_take(top, 64)));
    }
    return 0;
}

/* A form with one file that has no folder: an archive, whatever it is called. */
static bool is_archive(const struct skill_file *files, size_t n)
{
    return n == 1 && (str_find_ch(files[0].path, '/') < 0 || kind_of(files[0].bytes) != KIND_NONE);
}

int skill_pack_read(struct arena *a, const struct skill_file *files, size_t n,
                    struct skill_pack *out, struct err *err)
{
    struct skill_file *unpacked;
    int rc = 0;
    *out = (struct skill_pack){.unpacked = BUF_INIT(LIMIT_SKILL + 2 * BLOCK)};
    if (n == 0)
        return bad(err, "Field required");
    if (is_archive(files, n)) {
        rc = read_archive(a, files[0].bytes, &out->unpacked, &unpacked, &n, err);
        files = unpacked;
    }
    if (rc == 0)
        rc = collect(a, files, n, out, err);
    if (rc == 0)
        rc = arrange(out, err);
    if (rc == 0)
        rc = check_top(out, err);
    return rc ? rc : read_md(a, out, err);
}

void skill_pack_fini(struct skill_pack *p)
{
    buf_fini(&p->unpacked);
}

/* ---- writing ---- */

struct writing {
    int (*sink)(void *arg, struct str piece, struct err *err);
    void *arg;
    struct err *err;
    int rc; /* of the sink */
};

static la_ssize_t to_sink(struct archive *out, void *arg, const void *bytes, size_t len)
{
    struct writing *w = arg;
    w->rc = w->sink(w->arg, str_n(bytes, len), w->err);
    if (w->rc == 0)
        return (la_ssize_t)len;
    archive_set_error(out, EIO, "the sink takes no more");
    return -1;
}

static int out_failed(struct archive *out, struct err *err)
{
    int sys = archive_errno(out);
    return err_sys(err, sys > 0 ? sys : EIO, "cannot pack the skill");
}

static int put_entry(struct archive *out, struct archive_entry *e, const struct skill_file *f)
{
    char path[LIMIT_SKILL_PATH + 2];
    if (!str_copyz(path, sizeof path, f->path))
        return -1;
    archive_entry_clear(e);
    archive_entry_set_pathname(e, path);
    archive_entry_set_filetype(e, f->folder ? AE_IFDIR : AE_IFREG);
    archive_entry_set_perm(e, f->folder || f->executable ? 0755 : 0644);
    archive_entry_set_mtime(e, 0, 0);
    archive_entry_set_size(e, f->folder ? 0 : (la_int64_t)f->bytes.len);
    if (archive_write_header(out, e) != ARCHIVE_OK)
        return -1;
    struct str rest = f->folder ? STR("") : f->bytes;
    while (rest.len) {
        la_ssize_t put = archive_write_data(out, rest.ptr, rest.len);
        if (put <= 0)
            return -1;
        rest = str_skip(rest, (size_t)put);
    }
    return archive_write_finish_entry(out) == ARCHIVE_OK ? 0 : -1;
}

static int write_tar(const struct skill_pack *p, struct archive *out, struct archive_entry *e,
                     struct writing *w)
{
    archive_write_set_format_gnutar(out); /* names stay bytes */
    int rc = archive_write_open(out, w, NULL, to_sink, NULL) == ARCHIVE_OK ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < p->n; i++)
        rc = put_entry(out, e, &p->entries[i]);
    if (rc == 0 && archive_write_close(out) == ARCHIVE_OK)
        return 0;
    return w->rc ? w->rc : out_failed(out, w->err);
}

int skill_pack_tar(const struct skill_pack *p,
                   int (*sink)(void *arg, struct str piece, struct err *err), void *arg,
                   struct err *err)
{
    struct writing w = {sink, arg, err, 0};
    struct archive *out = archive_write_new();
    struct archive_entry *e = archive_entry_new();
    locale_t before, utf8 = enter_utf8(&before);
    int rc = out && e ? write_tar(p, out, e, &w) : err_set(err, ERR_INTERNAL, "libarchive");
    archive_write_free(out);
    archive_entry_free(e);
    leave_utf8(utf8, before);
    return rc;
}

/* ---- as a zip ---- */

static int copy_entry(struct archive *in, struct archive_entry *e, struct archive *out,
                      struct err *err)
{
    char block[BLOCK];
    if (archive_write_header(out, e) != ARCHIVE_OK)
        return out_failed(out, err);
    for (;;) {
        la_ssize_t got = archive_read_data(in, block, sizeof block);
        if (got < 0)
            return err_set(err, ERR_CORRUPT, "a stored skill cannot be read");
        if (got == 0)
            return 0;
        if (archive_write_data(out, block, (size_t)got) != got)
            return out_failed(out, err);
    }
}

static int convert(struct archive *in, int in_fd, struct archive *out, int out_fd, struct err *err)
{
    archive_read_support_format_tar(in);
    archive_write_set_format_zip(out);
    archive_write_set_options(out, "zip:hdrcharset=UTF-8");
    archive_write_set_bytes_in_last_block(out, 1);
    if (archive_write_open_fd(out, out_fd) != ARCHIVE_OK)
        return out_failed(out, err);
    int got = archive_read_open_fd(in, in_fd, BLOCK);
    for (;;) {
        struct archive_entry *e;
        if (got == ARCHIVE_OK)
            got = archive_read_next_header(in, &e);
        if (got == ARCHIVE_EOF)
            return archive_write_close(out) == ARCHIVE_OK ? 0 : out_failed(out, err);
        if (got != ARCHIVE_OK)
            return err_set(err, ERR_CORRUPT, "a stored skill cannot be read");
        int rc = copy_entry(in, e, out, err);
        if (rc)
            return rc;
    }
}

int skill_pack_zip(int in_fd, int out_fd, struct err *err)
{
    struct archive *in = archive_read_new(), *out = archive_write_new();
    locale_t before, utf8 = enter_utf8(&before);
    int rc =
        in && out ? convert(in, in_fd, out, out_fd, err) : err_set(err, ERR_INTERNAL, "libarchive");
    archive_read_free(in);
    archive_write_free(out);
    leave_utf8(utf8, before);
    return rc;
}
