/* Restoring: a fresh directory, entry by entry, with a descriptor for each directory above. First
 * come directories and links, then files, by as many threads as there are processors and each its
 * part of them, then the modes and times of the directories, which have everything in them now. */
#include "sandbox/snapshot_impl.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* A thread for so many bytes: it takes about as long to start as to write a few files. */
enum { RESTORE_THREADS = 4, RESTORE_SHARE = 4 << 20 };

struct level {
    int fd;
    const struct snap_entry *e; /* NULL: the session's directory */
};

enum step { STEP_MAKE, STEP_FILL, STEP_SEAL };

/* One walk over the entries. */
struct restoring {
    const struct snap_tree *tree;
    enum step step;
    size_t from, to; /* entries that it is about */
    struct snap_unpacker *u;
    const char *dir;
    uid_t uid;
    char *data; /* SNAP_WHOLE bytes */
    struct level above[SNAP_DEPTH + 1];
    size_t depth;
    struct err err;
};

static struct timespec time_of(int64_t ns)
{
    int64_t rest = ns % 1000000000;
    rest += rest < 0 ? 1000000000 : 0;
    return (struct timespec){.tv_sec = (time_t)((ns - rest) / 1000000000), .tv_nsec = rest};
}

static int failed(const struct snap_entry *e, struct err *err)
{
    return err_sys(err, errno, "restore '%.*s'", (int)(e->path.len < 200 ? e->path.len : 200),
                   e->path.ptr);
}

/* ---- files ---- */

static int write_at(int fd, const char *p, size_t n, int64_t offset)
{
    while (n) {
        ssize_t k = pwrite(fd, p, n, offset);
        if (k < 0 && errno != EINTR)
            return -1;
        if (k > 0) {
            p += k;
            n -= (size_t)k;
            offset += k;
        }
    }
    return 0;
}

int snap_write_file(struct snap_unpacker *u, const struct snap_entry *e, int fd, char *data,
                    struct err *err)
{
    int64_t at = 0, end = 0; /* end: behind the last byte that was written */
    for (size_t i = 0; i < e->nruns; i++) {
        const struct snap_run *run = &e->runs[i];
        if (!run->content) {
            uint64_t len = run->count * SNAP_PIECE, left = (uint64_t)(e->size - at);
            at += (int64_t)(len < left && e->kind == SNAP_CUT_FILE ? len : left);
            continue;
        }
        int rc = snap_unpack(u, run->content, data, err);
        for (uint64_t k = 0; rc == 0 && k < run->count; k++) {
            if (write_at(fd, data, run->content->len, at) < 0)
                return failed(e, err);
            at += run->content->len;
        }
        if (rc)
            return rc;
        end = at;
    }
    return end < e->size && ftruncate(fd, e->size) < 0 ? failed(e, err) : 0;
}

static int restore_file(struct restoring *r, int at, const char *name, const struct snap_entry *e,
                        struct err *err)
{
    AUTO_FD int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(e, err);
    int rc = snap_write_file(r->u, e, fd, r->data, err);
    if (rc)
        return rc;
    struct timespec t = time_of(e->mtime_ns);
    if ((r->uid && fchown(fd, r->uid, r->uid) < 0) ||
        (e->mode != 0600 && fchmod(fd, e->mode) < 0) || futimens(fd, (struct timespec[]){t, t}) < 0)
        return failed(e, err);
    return 0;
}

static int restore_symlink(struct restoring *r, int at, const char *name,
                           const struct snap_entry *e, struct err *err)
{
    struct timespec t = time_of(e->mtime_ns);
    if (symlinkat(e->target.ptr, at, name) < 0 ||
        (r->uid && fchownat(at, name, r->uid, r->uid, AT_SYMLINK_NOFOLLOW) < 0) ||
        utimensat(at, name, (struct timespec[]){t, t}, AT_SYMLINK_NOFOLLOW) < 0)
        return failed(e, err);
    return 0;
}

/* ---- directories ---- */

static int close_level(struct restoring *r, struct err *err)
{
    struct level *l = &r->above[--r->depth];
    AUTO_FD int fd = l->fd;
    if (!l->e || r->step != STEP_SEAL)
        return 0;
    struct timespec t = time_of(l->e->mtime_ns);
    if (fchmod(fd, l->e->mode) < 0 || futimens(fd, (struct timespec[]){t, t}) < 0)
        return failed(l->e, err);
    return 0;
}

static int open_level(struct restoring *r, int at, const char *name, const struct snap_entry *e,
                      struct err *err)
{
    bool make = r->step == STEP_MAKE;
    if (make && mkdirat(at, name, 0700) < 0)
        return failed(e, err);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return failed(e, err);
    r->above[r->depth++] = (struct level){.fd = fd, .e = e};
    return make && r->uid && fchown(fd, r->uid, r->uid) < 0 ? failed(e, err) : 0;
}

/* The directory of the entry on top; its name. The tree is known to fit. */
static int go_to(struct restoring *r, const struct snap_entry *e, const char **name,
                 struct err *err)
{
    size_t slash = e->path.len;
    while (slash > 0 && e->path.ptr[slash - 1] != '/')
        slash--;
    *name = e->path.ptr + slash;
    struct str parent = str_take(e->path, slash ? slash - 1 : 0);
    int rc = 0;
    while (rc == 0 && r->above[r->depth - 1].e && !str_eq(r->above[r->depth - 1].e->path, parent))
        rc = close_level(r, err);
    return rc;
}

static int restore_entry(struct restoring *r, const struct snap_entry *e, struct err *err)
{
    const char *name;
    int rc = go_to(r, e, &name, err);
    if (rc)
        return rc;
    int at = r->above[r->depth - 1].fd;
    if (e->kind == SNAP_DIR)
        return open_level(r, at, name, e, err);
    return e->kind == SNAP_SYMLINK ? restore_symlink(r, at, name, e, err)
                                   : restore_file(r, at, name, e, err);
}

static bool is_above(const struct snap_entry *dir, const struct snap_entry *e)
{
    return dir->path.len < e->path.len && e->path.ptr[dir->path.len] == '/' &&
           str_starts(e->path, dir->path);
}

/* Directories are walked through in every step, before its part only those above the first one. */
static bool concerns(const struct restoring *r, size_t i)
{
    const struct snap_entry *e = &r->tree->entries.v[i];
    if (e->kind == SNAP_DIR)
        return i >= r->from || is_above(e, &r->tree->entries.v[r->from]);
    return i >= r->from && r->step == (e->kind == SNAP_SYMLINK ? STEP_MAKE : STEP_FILL);
}

static int walk(struct restoring *r, struct err *err)
{
    int fd = open(r->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "%s", r->dir);
    r->depth = 0;
    r->above[r->depth++] = (struct level){.fd = fd};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->to; i++)
        if (concerns(r, i))
            rc = restore_entry(r, &r->tree->entries.v[i], err);
    while (r->depth) {
        int closed = close_level(r, rc ? NULL : err);
        rc = rc ? rc : closed;
    }
    return rc;
}

static void *fill(void *arg)
{
    struct restoring *r = arg;
    r->data = mem_alloc(SNAP_WHOLE);
    (void)!walk(r, &r->err);
    mem_free(r->data);
    return NULL;
}

/* ---- threads ---- */

/* About how much there is to write, in pages. */
static int64_t weight(const struct snap_entry *e)
{
    int64_t pages = e->kind == SNAP_FILE ? e->size / 4096 : (int64_t)e->nruns * 256;
    return snap_is_file(e) ? pages + 1 : 0;
}

/* Where the part ends that begins at `from`: it has `share` pages, or is the rest. */
static size_t part_end(const struct snap_entries *v, size_t from, int64_t share)
{
    for (int64_t pages = 0; from < v->n && pages < share; from++)
        pages += weight(&v->v[from]);
    return from;
}

static size_t parts_of(const struct snap_entries *v, struct restoring *parts, size_t max)
{
    int64_t pages = 0;
    size_t n = 0;
    for (size_t i = 0; i < v->n; i++)
        pages += weight(&v->v[i]);
    int64_t share = pages / (int64_t)max + 1;
    if (share < RESTORE_SHARE / 4096)
        share = RESTORE_SHARE / 4096;
    for (size_t at = 0; at < v->n && n < max; n++) {
        parts[n].from = at;
        at = parts[n].to = n + 1 == max ? v->n : part_end(v, at, share);
    }
    return n;
}

static size_t thread_count(const struct snap_unpacker *u)
{
    long n = u->blobs ? sysconf(_SC_NPROCESSORS_ONLN) : 1;
    return n < 1 ? 1 : n > RESTORE_THREADS ? RESTORE_THREADS : (size_t)n;
}

/* The first part is done by the caller, with the unpacker that it has. */
static int fill_all(const struct restoring *how, struct err *err)
{
    struct restoring *parts = mem_zalloc(RESTORE_THREADS * sizeof *parts);
    struct snap_unpacker unpackers[RESTORE_THREADS];
    pthread_t threads[RESTORE_THREADS];
    bool started[RESTORE_THREADS] = {false};
    size_t n = parts_of(&how->tree->entries, parts, thread_count(how->u));
    for (size_t i = 0; i < n; i++) {
        struct restoring *r = &parts[i];
        r->tree = how->tree;
        r->step = STEP_FILL;
        r->dir = how->dir;
        r->uid = how->uid;
        r->u = how->u;
        if (i == 0)
            continue;
        r->u = &unpackers[i];
        snap_unpacker_init(r->u, how->u->blobs, how->tree);
        started[i] = pthread_create(&threads[i], NULL, fill, r) == 0;
    }
    for (size_t i = 0; i < n; i++)
        if (!started[i])
            fill(&parts[i]);
    for (size_t i = 0; i < n; i++) {
        if (started[i])
            pthread_join(threads[i], NULL);
        if (i)
            snap_unpacker_fini(parts[i].u);
        if (parts[i].err.code && !err->code)
            *err = parts[i].err;
    }
    mem_free(parts);
    return err->code;
}

int snap_restore_tree(const struct snap_tree *t, struct snap_unpacker *u, const char *dir,
                      uid_t uid, struct err *err)
{
    struct restoring *r = mem_zalloc(sizeof *r);
    struct err own = {0};
    *r = (struct restoring){
        .tree = t, .step = STEP_MAKE, .to = t->entries.n, .u = u, .dir = dir, .uid = uid};
    int rc = walk(r, &own);
    if (rc == 0)
        rc = fill_all(r, &own);
    r->step = STEP_SEAL;
    if (rc == 0)
        rc = walk(r, &own);
    mem_free(r);
    if (rc && err)
        *err = own;
    return rc;
}

int snapshot_restore(const struct blobs *b, struct str manifest, const char *dir, uid_t uid,
                     struct err *err)
{
    struct snap_tree t;
    struct snap_unpacker u;
    snap_tree_init(&t);
    snap_unpacker_init(&u, b, &t);
    int rc = snap_manifest_load(b, manifest, &t, err);
    if (rc == 0)
        rc = snap_restore_tree(&t, &u, dir, uid, err);
    snap_unpacker_fini(&u);
    snap_tree_fini(&t);
    return rc;
}
