/* Restoring: a fresh directory, entry by entry, with a descriptor for each directory above. A
 * directory gets its mode and time when everything in it is there. */
#include "sandbox/snapshot_impl.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct level {
    int fd;
    const struct snap_entry *e; /* NULL: the session's directory */
};

struct restoring {
    struct snap_unpacker *u;
    uid_t uid;
    char *data; /* SNAP_WHOLE bytes */
    struct level above[SNAP_DEPTH + 1];
    size_t depth;
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
    if (!l->e)
        return 0;
    struct timespec t = time_of(l->e->mtime_ns);
    if (fchmod(fd, l->e->mode) < 0 || futimens(fd, (struct timespec[]){t, t}) < 0)
        return failed(l->e, err);
    return 0;
}

static int open_level(struct restoring *r, int at, const char *name, const struct snap_entry *e,
                      struct err *err)
{
    if (mkdirat(at, name, 0700) < 0)
        return failed(e, err);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return failed(e, err);
    r->above[r->depth++] = (struct level){.fd = fd, .e = e};
    return r->uid && fchown(fd, r->uid, r->uid) < 0 ? failed(e, err) : 0;
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

int snap_restore_tree(const struct snap_tree *t, struct snap_unpacker *u, const char *dir,
                      uid_t uid, struct err *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "%s", dir);
    struct restoring *r = mem_zalloc(sizeof *r);
    *r = (struct restoring){.u = u, .uid = uid, .data = mem_alloc(SNAP_WHOLE)};
    r->above[r->depth++].fd = fd;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < t->entries.n; i++)
        rc = restore_entry(r, &t->entries.v[i], err);
    while (r->depth) {
        int closed = close_level(r, rc ? NULL : err);
        rc = rc ? rc : closed;
    }
    mem_free(r->data);
    mem_free(r);
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
