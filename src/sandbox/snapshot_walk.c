/* The walk over what a sandbox wrote and may be writing: by descriptors, one for each level, no
 * link followed, nothing opened that could block. What vanishes or becomes something else between
 * two looks is left out; a file that changes while it is read is read again, and then taken as it
 * came. */
#include "sandbox/snapshot_impl.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { WALK_TRIES = 3, WALK_PATHS = 128 * 1024 };

static int walk_dir(struct snap_walk *w, int fd, unsigned depth, struct err *err);

/* ---- opening ---- */

/* Where we are the owner without rights of root, what its mode closes is opened for a moment. */
static int open_closed(int at, const char *name, int flags, mode_t need)
{
    char self[64];
    struct stat st;
    AUTO_FD int path = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    snprintf(self, sizeof self, "/proc/self/fd/%d", path);
    if (path < 0 || fstat(path, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) ||
        chmod(self, (st.st_mode & 07777) | need) < 0)
        return -1;
    int fd = open(self, (flags & ~O_NOFOLLOW) | O_CLOEXEC);
    (void)!chmod(self, st.st_mode & 07777); /* else it stays as it became */
    return fd;
}

int snap_open_entry(int at, const char *name, int flags, mode_t need)
{
    int fd = openat(at, name, flags | O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd < 0 && errno == EACCES ? open_closed(at, name, flags | O_NONBLOCK | O_NOCTTY, need)
                                     : fd;
}

/* ---- contents ---- */

struct reading {
    struct snap_walk *w;
    int fd;
    struct snap_entry *e;
    struct buf runs;  /* struct snap_run */
    int64_t hole_end; /* what lies in front of it is zeros */
    int64_t zeros;
};

static void add_run(struct reading *r, const struct snap_content *c, uint64_t count)
{
    struct snap_run *last =
        r->runs.len ? (struct snap_run *)(void *)(r->runs.data + r->runs.len) - 1 : NULL;
    if (last && last->content == c)
        last->count += count;
    else
        buf_put(&r->runs, &(struct snap_run){c, count}, sizeof(struct snap_run));
}

static ssize_t read_at(int fd, char *to, size_t n, int64_t offset)
{
    size_t got = 0;
    while (got < n) {
        ssize_t k = pread(fd, to + got, n - got, offset + (int64_t)got);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -1;
        if (k == 0)
            break;
        got += (size_t)k;
    }
    return (ssize_t)got;
}

static bool is_zero(const char *p, size_t n)
{
    return n && p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* Whole pieces of a hole at `offset`, with no byte read. */
static uint64_t skip_hole(struct reading *r, int64_t offset, int64_t size)
{
    if (offset >= r->hole_end) {
        off_t data = lseek(r->fd, offset, SEEK_DATA);
        r->hole_end = data >= 0 ? data : errno == ENXIO ? size : offset;
    }
    if (r->hole_end >= size)
        return (uint64_t)(size - offset + SNAP_PIECE - 1) / SNAP_PIECE;
    return r->hole_end > offset ? (uint64_t)(r->hole_end - offset) / SNAP_PIECE : 0;
}

static int too_large(const struct snap_walk *w, int64_t bytes, struct err *err)
{
    int64_t max = w->how->max_bytes;
    return max && bytes > max
               ? err_set(err, ERR_LIMIT, "the files have more than %" PRId64 " MB", max >> 20)
               : 0;
}

/* In pieces, up to the size that it had when it was opened. A few bytes in each piece take hardly
 * any room, but as long to read as all of it: the bound is looked at on the way. */
static int read_pieces(struct reading *r, int64_t size, struct err *err)
{
    char *data = r->w->data;
    int64_t at = 0;
    while (at < size) {
        if (too_large(r->w, r->w->size_bytes + at - r->zeros, err))
            return ERR_LIMIT;
        uint64_t holes = skip_hole(r, at, size);
        if (holes) {
            int64_t end = at + (int64_t)holes * SNAP_PIECE;
            add_run(r, NULL, holes);
            r->zeros += (end < size ? end : size) - at;
            at = end < size ? end : size;
            continue;
        }
        size_t want = size - at < SNAP_PIECE ? (size_t)(size - at) : SNAP_PIECE;
        ssize_t n = read_at(r->fd, data, want, at);
        if (n < 0)
            return err_sys(err, errno, "read " STR_FMT, STR_ARG(r->e->path));
        const struct snap_content *c = NULL;
        int rc = n == 0 || is_zero(data, (size_t)n)
                     ? 0
                     : snap_packer_put(r->w->packer, str_n(data, (size_t)n), &c, err);
        if (rc)
            return rc;
        if (n)
            add_run(r, c, 1);
        r->zeros += c ? 0 : n;
        at += n;
        if ((size_t)n < want)
            break; /* it became shorter */
    }
    r->e->kind = SNAP_CUT_FILE;
    r->e->size = at;
    return 0;
}

static int read_whole(struct reading *r, struct err *err)
{
    const struct snap_content *c = NULL;
    ssize_t n = read_at(r->fd, r->w->data, SNAP_WHOLE, 0);
    if (n < 0)
        return err_sys(err, errno, "read " STR_FMT, STR_ARG(r->e->path));
    int rc = n ? snap_packer_put(r->w->packer, str_n(r->w->data, (size_t)n), &c, err) : 0;
    if (rc == 0 && n)
        add_run(r, c, 1);
    r->e->kind = SNAP_FILE;
    r->e->size = n;
    return rc;
}

static int keep_runs(struct reading *r, struct err *err)
{
    size_t n = r->runs.len / sizeof(struct snap_run);
    struct snap_run *runs = n ? ARENA_ARRAY(&r->w->tree->arena, struct snap_run, n) : NULL;
    if (!buf_ok(&r->runs) || (n && !runs))
        return err_set(err, ERR_LIMIT, "there are too many files to keep");
    if (n)
        memcpy(runs, r->runs.data, r->runs.len);
    r->e->runs = runs;
    r->e->nruns = n;
    return 0;
}

static bool same_stat(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && snap_time_ns(a->st_mtim) == snap_time_ns(b->st_mtim) &&
           snap_time_ns(a->st_ctim) == snap_time_ns(b->st_ctim);
}

/* Reads until it stays the same meanwhile, or a few times. `*steady`: what is in the index holds
 * until a time changes. */
static int read_file(struct reading *r, struct stat *st, bool *steady, struct err *err)
{
    for (int i = 0; i < WALK_TRIES; i++) {
        struct stat after;
        bool racy = snap_index_racy(st);
        buf_clear(&r->runs);
        r->hole_end = r->zeros = 0;
        int rc = st->st_size > SNAP_WHOLE ? read_pieces(r, st->st_size, err) : read_whole(r, err);
        if (rc || fstat(r->fd, &after) < 0)
            return rc;
        *steady = !racy && same_stat(st, &after) && r->e->size == after.st_size;
        if (same_stat(st, &after))
            break;
        *st = after;
    }
    r->e->mtime_ns = snap_time_ns(st->st_mtim);
    return keep_runs(r, err);
}

/* Its contents are all known: it need not be read. */
static bool take_seen(struct snap_walk *w, const struct snap_seen *s, struct snap_entry *e)
{
    struct snap_run *runs =
        s->nruns ? ARENA_ARRAY(&w->tree->arena, struct snap_run, s->nruns) : NULL;
    if (s->nruns && !runs)
        return false;
    for (size_t i = 0; i < s->nruns; i++) {
        const struct snap_seen_run *from = &w->seen.runs[s->first + i];
        runs[i].count = from->count;
        if (from->hash && !(runs[i].content = snap_content_get(w->tree, from->hash)))
            return false;
    }
    e->kind = s->cut ? SNAP_CUT_FILE : SNAP_FILE;
    e->size = s->size;
    e->runs = runs;
    e->nruns = s->nruns;
    return true;
}

static int64_t zeros_of(const struct snap_entry *e)
{
    uint64_t at = 0, zeros = 0, size = (uint64_t)e->size;
    for (size_t i = 0; e->kind == SNAP_CUT_FILE && i < e->nruns; i++) {
        uint64_t end = at + e->runs[i].count * SNAP_PIECE;
        end = end < size ? end : size;
        zeros += e->runs[i].content ? 0 : end - at;
        at = end;
    }
    return (int64_t)zeros;
}

/* ---- entries ---- */

/* `*gone`: it is left out. */
static int take_file(struct snap_walk *w, int at, const char *name, struct stat *st,
                     struct snap_entry *e, bool *gone, struct err *err)
{
    bool steady = true;
    const struct snap_seen *s = snap_index_next(&w->seen, e->path);
    if (!s || !snap_index_same(s, st) || !take_seen(w, s, e)) {
        AUTO_FD int fd = snap_open_entry(at, name, 0, S_IRUSR);
        if (fd < 0 || fstat(fd, st) < 0 || !S_ISREG(st->st_mode)) {
            *gone = true;
            return 0;
        }
        struct reading r = {.w = w, .fd = fd, .e = e, .runs = BUF_INIT(256 << 20)};
        int rc = read_file(&r, st, &steady, err);
        buf_fini(&r.runs);
        if (rc)
            return rc;
        e->mode = st->st_mode & 0777;
    }
    w->files++;
    w->size_bytes += e->size - zeros_of(e);
    if (steady)
        snap_index_add(&w->index, e, st);
    return 0;
}

static void take_symlink(struct snap_walk *w, int at, const char *name, struct snap_entry *e,
                         bool *gone)
{
    ssize_t n = readlinkat(at, name, w->data, SNAP_LINK + 1);
    if (n <= 0 || n > SNAP_LINK) {
        *gone = true;
        return;
    }
    e->kind = SNAP_SYMLINK;
    e->target = arena_str(&w->tree->arena, str_n(w->data, (size_t)n));
    e->size = n;
    e->mode = 0777;
    w->files++;
}

static int too_deep(struct snap_walk *w, struct err *err)
{
    return err_set(err, ERR_LIMIT, "'%.80s...' lies deeper than %d directories", w->path.data,
                   SNAP_DEPTH);
}

static int check_bounds(const struct snap_walk *w, struct err *err)
{
    const struct snapshot_how *how = w->how;
    if (how->max_files && ((int64_t)w->now.n > how->max_files || w->looked > how->max_files))
        return err_set(err, ERR_LIMIT, "there are more than %" PRId64 " files and directories",
                       how->max_files);
    if (too_large(w, w->size_bytes, err))
        return ERR_LIMIT;
    if (w->tree->arena.failed || w->path.failed)
        return err_set(err, ERR_LIMIT, "there are too many files to keep");
    return 0;
}

static bool is_cache(struct str path)
{
    return str_eq(path, STR("home/.cache"));
}

/* The entry that w->path names, `name` in the directory `at`. */
static int take_entry(struct snap_walk *w, int at, const char *name, unsigned depth,
                      struct err *err)
{
    struct stat st;
    bool gone = false;
    int rc = 0;
    AUTO_FD int dir = -1;
    if (is_cache(buf_view(&w->path)) || fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    /* Filled in before it is added: below, more entries may move it. */
    struct snap_entry e = {.mode = st.st_mode & 0777, .mtime_ns = snap_time_ns(st.st_mtim)};
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode))
        return 0;
    if (depth > SNAP_DEPTH)
        return too_deep(w, err);
    e.path = arena_str(&w->tree->arena, buf_view(&w->path));
    if (!str_some(e.path))
        return check_bounds(w, err);
    if (S_ISREG(st.st_mode)) {
        rc = take_file(w, at, name, &st, &e, &gone, err);
    } else if (S_ISLNK(st.st_mode)) {
        take_symlink(w, at, name, &e, &gone);
    } else {
        dir = snap_open_entry(at, name, O_DIRECTORY, S_IRUSR | S_IXUSR);
        e.kind = SNAP_DIR;
        gone = dir < 0;
    }
    if (rc || gone)
        return rc;
    *snap_entries_add(&w->now) = e;
    rc = check_bounds(w, err);
    return rc || dir < 0 ? rc : walk_dir(w, dir, depth + 1, err);
}

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* Their names, sorted, `max` at most; one allocation each. */
static size_t read_names(int fd, size_t max, char ***out)
{
    size_t n = 0, cap = 0;
    char **names = NULL;
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    if (!d)
        fd_close(copy);
    for (struct dirent *e; d && n < max && (e = readdir(d)) != NULL;) {
        if (str_eqz(str_z(e->d_name), ".") || str_eqz(str_z(e->d_name), ".."))
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 64;
            names = mem_realloc(names, cap * sizeof *names);
        }
        names[n++] = mem_dupz(e->d_name, strlen(e->d_name));
    }
    if (d)
        closedir(d);
    if (n)
        qsort(names, n, sizeof *names, by_name);
    *out = names;
    return n;
}

static int walk_dir(struct snap_walk *w, int fd, unsigned depth, struct err *err)
{
    char **names;
    int64_t max = w->how->max_files;
    size_t n = read_names(fd, max ? (size_t)max + 1 : SIZE_MAX, &names), len = w->path.len;
    w->looked += (int64_t)n;
    int rc = check_bounds(w, err);
    for (size_t i = 0; i < n; i++) {
        if (rc == 0) {
            buf_ch(&w->path, '/');
            buf_z(&w->path, names[i]);
            rc = take_entry(w, fd, names[i], depth, err);
            w->path.len = len;
        }
        mem_free(names[i]);
    }
    mem_free(names);
    return rc;
}

int snap_walk(struct snap_walk *w, struct err *err)
{
    AUTO_FD int dir = open(w->how->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return err_sys(err, errno, "%s", w->how->dir);
    w->data = mem_alloc(SNAP_WHOLE + 1);
    w->path = BUF_INIT(WALK_PATHS);
    int rc = 0;
    for (size_t i = 0; i < SNAPSHOT_ROOTS && rc == 0; i++) {
        struct stat st;
        if (fstatat(dir, snapshot_roots[i], &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
            continue;
        buf_clear(&w->path);
        buf_z(&w->path, snapshot_roots[i]);
        rc = take_entry(w, dir, snapshot_roots[i], 1, err);
    }
    buf_fini(&w->path);
    mem_free(w->data);
    return rc;
}

/* A name that came or went has changed the time of its directory. Links may have been put in the
 * way: nothing but a time is seen through them. */
bool snap_walk_moved(const struct snap_walk *w)
{
    AUTO_FD int dir = open(w->how->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return true;
    for (size_t i = 0; i < w->now.n; i++) {
        const struct snap_entry *e = &w->now.v[i];
        struct stat st;
        if (e->kind != SNAP_DIR)
            continue;
        if (fstatat(dir, e->path.ptr, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            if (errno == ENAMETOOLONG)
                continue;
            return true;
        }
        if (snap_time_ns(st.st_mtim) != e->mtime_ns)
            return true;
    }
    return false;
}
