/* A copy:
 *
 *   (the files are gone: restore them) --> copy (worker) --> tell --> calls, destroy
 *
 * The copy's box is there from the beginning and waits, so that it can be destroyed at any time. */
#include "sandbox/copy.h"

#include "base/fd.h"
#include "sandbox/box.h"
#include "sandbox/restore.h"
#include "sandbox/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct copying {
    struct list node; /* in sandboxes.copies */
    struct sandboxes *s;
    struct id of, id;
    int lock;
    atomic_bool stop;
    struct loop_work work;
    struct err err;
    void (*done)(void *arg, const struct err *err);
    void *arg;
};

/* ---- which ---- */

static struct copying *copying_of(const struct box *b)
{
    list_for_each (it, &b->s->copies) {
        struct copying *c = LIST_ENTRY(it, struct copying, node);
        if (str_eq(id_str(&c->id), id_str(&b->id)))
            return c;
    }
    return NULL;
}

bool copy_busy(const struct box *b)
{
    list_for_each (it, &b->s->copies) {
        const struct copying *c = LIST_ENTRY(it, struct copying, node);
        if (str_eq(id_str(&c->id), id_str(&b->id)) || str_eq(id_str(&c->of), id_str(&b->id)))
            return true;
    }
    return false;
}

void copy_cancel(struct box *b)
{
    struct copying *c = copying_of(b);
    if (c)
        atomic_store(&c->stop, true);
}

void copy_forget(struct box *b)
{
    if (b->copy)
        fd_close(TAKE_FD(b->copy_lock));
}

/* ---- on a worker ---- */

bool copy_is_locked(int dir, const char *name)
{
    AUTO_FD int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

void copy_paths(const struct host *h, const struct id *of, struct session_paths *p)
{
    struct session_paths from;
    session_paths(h, of->z, &from);
    if (access(from.uploads, F_OK) == 0)
        memcpy(p->uploads, from.uploads, sizeof p->uploads);
    if (access(from.skills, F_OK) == 0)
        memcpy(p->skills, from.skills, sizeof p->skills);
}

/* A directory that nobody has, locked for as long as this server lives. */
static int make_place(struct copying *c, const struct session_paths *to, struct err *err)
{
    struct stat st;
    if (lstat(to->dir, &st) == 0)
        return err_set(err, ERR_EXISTS, "%s is there already", to->dir);
    int rc = session_prepare(to, err);
    if (rc)
        return rc;
    c->lock = open(to->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (c->lock < 0 || flock(c->lock, LOCK_EX | LOCK_NB) < 0)
        return err_sys(err, errno, "cannot lock %s", to->dir);
    return 0;
}

static int copy_files(struct copying *c, const struct session_paths *from,
                      const struct session_paths *to, struct err *err)
{
    struct copy_how how = {.uid = to->uid,
                           .max_files = c->s->keep.max_files,
                           .max_bytes = c->s->keep.max_mb << 20,
                           .stop = &c->stop};
    const char *const parts[][2] = {
        {from->workspace, to->workspace}, {from->outputs, to->outputs}, {from->home, to->home}};
    int rc = 0;
    for (size_t i = 0; i < COUNT_OF(parts) && rc == 0; i++)
        rc = copy_tree(parts[i][0], parts[i][1], &how, err);
    return rc;
}

/* Where skills are mounted: a sandbox that can write nowhere there cannot make it. */
static void make_mount_point(const struct session_paths *from, const struct session_paths *to)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/skills", to->workspace);
    if (access(from->skills, F_OK) == 0)
        (void)mkdir(path, 0755);
}

static void copy_work(struct loop_work *w)
{
    struct copying *c = CONTAINER_OF(w, struct copying, work);
    struct session_paths from, to;
    session_paths(&c->s->host, c->of.z, &from);
    session_paths(&c->s->host, c->id.z, &to);
    int rc = make_place(c, &to, &c->err);
    if (rc == ERR_EXISTS)
        return;
    rc = rc ? rc : copy_files(c, &from, &to, &c->err);
    if (rc == 0)
        make_mount_point(&from, &to);
    else
        tree_remove(to.dir, NULL);
}

/* ---- on the loop ---- */

static void kick(struct sandboxes *s, const struct id *id)
{
    struct box *b = box_find(s, id_str(id));
    if (b)
        box_kick(b);
}

static void ended(struct copying *c)
{
    struct sandboxes *s = c->s;
    struct box *b = box_find(s, id_str(&c->id));
    list_remove(&c->node);
    if (b && b->copy)
        b->copy_lock = TAKE_FD(c->lock);
    if (s->closing && b) {
        box_close(b);
    } else if (!s->closing) {
        kick(s, &c->of);
        kick(s, &c->id);
        c->done(c->arg, &c->err);
    }
    fd_close(c->lock);
    mem_free(c);
    sandboxes_job_ended(s);
}

static void copied(struct loop_work *w)
{
    ended(CONTAINER_OF(w, struct copying, work));
}

static void go(struct copying *c)
{
    if (c->s->closing || atomic_load(&c->stop)) {
        err_set(&c->err, ERR_CANCELED, "the copy was cancelled");
        ended(c);
        return;
    }
    loop_work(c->s->loop, &c->work, copy_work, copied);
}

static void restored(void *arg, const struct err *err)
{
    struct copying *c = arg;
    if (err->code) {
        c->err = *err;
        ended(c);
        return;
    }
    go(c);
}

static void probed(void *arg)
{
    struct copying *c = arg;
    struct session_paths p;
    struct stat st;
    session_paths(&c->s->host, c->of.z, &p);
    if (c->s->closing || !restore_possible(c->s) || lstat(p.workspace, &st) == 0)
        go(c);
    else
        restore_start(c->s, id_str(&c->of), false, restored, c);
}

static void refused(struct loop_work *w)
{
    (void)w;
}

void copy_start(struct sandboxes *s, struct str session_id, struct str copy_id, bool read_only,
                void (*done)(void *arg, const struct err *err), void *arg)
{
    struct copying *c = mem_zalloc(sizeof *c);
    struct box *b = box_find(s, copy_id);
    c->s = s;
    c->of = id_from(session_id);
    c->lock = -1;
    c->done = done;
    c->arg = arg;
    sandboxes_job_began(s);
    if (b) { /* never inside this call */
        list_push(&s->copies, &c->node);
        err_set(&c->err, ERR_EXISTS, "there is a sandbox of that id already");
        loop_work(s->loop, &c->work, refused, copied);
        return;
    }
    c->id = id_from(copy_id);
    b = box_get(s, copy_id);
    b->copy = b->looked = true;
    b->copy_read_only = read_only;
    b->copy_of = c->of;
    b->copy_lock = -1;
    list_push(&s->copies, &c->node);
    probe_wait(s, probed, c);
}

void copies_close(struct sandboxes *s)
{
    list_for_each (it, &s->copies)
        atomic_store(&LIST_ENTRY(it, struct copying, node)->stop, true);
}
