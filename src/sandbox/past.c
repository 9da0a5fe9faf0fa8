/* Files as they were at a checkpoint, for files.c: listings, files and archives come straight from
 * the snapshot; what git has to look at is restored first, to a directory of its own below the
 * sandboxes'. It is locked while it is needed, so that whoever starts can tell what a server that
 * was killed left behind. */
#include "sandbox/impl.h"

#include "base/fd.h"
#include "sandbox/snapshot.h"
#include "sandbox/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAST_PREFIX ".at-"

static char *copy(struct str s)
{
    return s.len ? mem_dupz(s.ptr, s.len) : NULL;
}

void past_init(struct past *p, const struct workspace_moment *m)
{
    *p = (struct past){.lock = -1};
    if (!m)
        return;
    p->manifest = copy(m->manifest);
    p->from = copy(m->from);
    p->note = copy(m->note);
    p->when_gone = m->when_gone;
}

void past_fini(struct past *p)
{
    fd_close(p->lock);
    mem_free(p->manifest);
    mem_free(p->from);
    mem_free(p->note);
}

bool past_holds(struct past *p, const struct session_paths *paths)
{
    p->used = p->manifest && (!p->when_gone || access(paths->workspace, F_OK) < 0);
    return p->used;
}

/* ---- straight from the snapshot ---- */

/* {"data":[..]} with what the note says in front. */
static int list(const struct past *p, const struct host *h, struct str path, int out,
                struct err *err)
{
    AUTO_FD int tmp = host_tmpfile(h, err);
    if (tmp < 0)
        return err->code;
    AUTO_BUF struct buf b = BUF_INIT((size_t)512 << 20);
    int rc = snapshot_list(&h->blobs, str_z(p->manifest), "workspace", path, tmp, err);
    if (rc == 0 && lseek(tmp, 0, SEEK_SET) < 0)
        rc = err_sys(err, errno, "the listing");
    if (rc == 0)
        rc = fd_read_all(tmp, &b, err);
    if (rc == 0)
        rc = fd_write_all(out, STR("{"), err);
    if (rc == 0)
        rc = fd_write_all(out, str_z(p->note ? p->note : ""), err);
    return rc ? rc : fd_write_all(out, str_skip(buf_view(&b), 1), err);
}

int past_answer(const struct past *p, const struct host *h, enum workspace_what what,
                struct str path, int out, int64_t max_bytes, struct err *err)
{
    struct str m = str_z(p->manifest);
    switch (what) {
    case WORKSPACE_LIST: return list(p, h, path, out, err);
    case WORKSPACE_FILE: return snapshot_read(&h->blobs, m, "workspace", path, out, err);
    case WORKSPACE_TAR: return snapshot_tar(&h->blobs, m, "workspace", out, max_bytes, err);
    case WORKSPACE_OUTPUTS: return snapshot_tar(&h->blobs, m, "outputs", out, max_bytes, err);
    case WORKSPACE_PATCH: break;
    }
    return err_set(err, ERR_INTERNAL, "a patch needs the files themselves");
}

/* ---- restored ---- */

static int make_dir(const char *path, uid_t uid, struct err *err)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_sys(err, errno, "%s", path);
    return uid && lchown(path, uid, uid) < 0 ? err_sys(err, errno, "%s", path) : 0;
}

static int restore(const struct past *p, const struct host *h, const char *name,
                   const char *manifest, uid_t uid, struct err *err)
{
    char path[PATH_MAX], workspace[PATH_MAX];
    past_path(p, name, path);
    snprintf(workspace, sizeof workspace, "%.4000s/workspace", path);
    int rc = make_dir(path, 0, err);
    if (rc == 0)
        rc = snapshot_restore(&h->blobs, str_z(manifest), path, uid, err);
    return rc ? rc : make_dir(workspace, uid, err); /* where there was none yet */
}

void past_path(const struct past *p, const char *name, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s", p->dir, name);
}

int past_restore(struct past *p, const struct host *h, uid_t uid, struct err *err)
{
    char scratch[PATH_MAX];
    snprintf(p->dir, sizeof p->dir, "%s/" PAST_PREFIX "XXXXXX", h->dir);
    if (!mkdtemp(p->dir)) {
        err_sys(err, errno, "%s", p->dir);
        p->dir[0] = '\0';
        return err->code;
    }
    p->lock = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->lock < 0 || flock(p->lock, LOCK_EX | LOCK_NB) < 0)
        return err_sys(err, errno, "%s", p->dir);
    past_path(p, "scratch", scratch);
    int rc = make_dir(scratch, uid, err);
    if (rc == 0 && p->used)
        rc = restore(p, h, "at", p->manifest, uid, err);
    if (rc == 0 && p->from)
        rc = restore(p, h, "from", p->from, uid, err);
    return rc;
}

void past_clear(struct past *p)
{
    if (p->dir[0])
        tree_remove(p->dir, NULL);
}

void past_sweep(const struct host *h)
{
    DIR *d = opendir(h->dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char path[PATH_MAX];
        if (!str_starts(str_z(e->d_name), STR(PAST_PREFIX)) ||
            snprintf(path, sizeof path, "%s/%s", h->dir, e->d_name) >= (int)sizeof path)
            continue;
        AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            tree_remove(path, NULL);
    }
    if (d)
        closedir(d);
}
