/* A restore:
 *
 *   find the newest checkpoint (store) --> make its files beside (worker) --> they take the place
 *               ^                                    |
 *               +------ the one before, where it cannot be read */
#include "sandbox/restore.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "json/json.h"
#include "sandbox/git.h"
#include "sandbox/snapshot.h"
#include "sandbox/tree.h"
#include "store/checkpoints.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RESTORE_ARENA = 256 << 20, RESTORE_TRIES = 4 };
#define STAGING ".restore-"

struct waiter {
    struct list node;
    void (*done)(void *arg, const struct err *err);
    void *arg;
};

struct restore {
    struct list node; /* in sandboxes.restores */
    struct sandboxes *s;
    struct id id;
    struct list waiters;
    bool had_sandbox;
    bool found;     /* a checkpoint */
    bool last;      /* none before it is tried */
    bool damaged;   /* one that came after what is looked for now */
    int64_t before; /* what is looked for is not after it; 0: the newest */
    unsigned tries;
    struct checkpoint_row row;
    struct id event; /* of the row; empty: it is of before the first */
    struct str provision;
    struct arena arena;
    struct store_job job;
    struct loop_work work;
    struct err err;
};

bool restore_possible(const struct sandboxes *s)
{
    return s->store.read && s->store.write && s->host.data[0];
}

/* ---- the note ---- */

static void note_path(const char *dir, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/restored", dir);
}

static void write_note(const struct restore *r, const char *dir)
{
    char path[PATH_MAX], at[CLOCK_TEXT_MAX];
    AUTO_BUF struct buf text = BUF_INIT(LIMIT_TOOL_NOTE);
    clock_format(at, r->row.at_us);
    if (r->found)
        buf_printf(&text,
                   "This is a fresh sandbox. The files in /workspace, /mnt/session/outputs and "
                   "/home/agent are those of %s (%s%s). ",
                   at, r->event.z[0] ? "after event " : "before the first event", r->event.z);
    else
        buf_z(&text,
              "This is a fresh sandbox. The one that this session had before is lost, and its "
              "files could not be restored: what is not part of the session's resources is gone. ");
    buf_z(&text, r->found ? "Later changes to them, files in /tmp, processes and the shell's state "
                            "are gone. Look before you rely on any of it.\n"
                          : "So are processes and the shell's state.\n");
    note_path(dir, path);
    /* Without it the model is told nothing, but has its files. */
    if (buf_ok(&text))
        (void)!fd_write_file_atomic(path, buf_view(&text), 0600, NULL);
}

/* The inode alone may be that of the one before, which is gone. */
int64_t restore_note(const struct session_paths *p)
{
    char path[PATH_MAX];
    struct stat st;
    note_path(p->dir, path);
    if (lstat(path, &st) < 0)
        return 0;
    uint64_t ns = (uint64_t)st.st_ctim.tv_sec * 1000000000 + (uint64_t)st.st_ctim.tv_nsec;
    return (int64_t)((ns ^ (uint64_t)st.st_ino << 40) | 1);
}

void restore_read_note(const struct session_paths *p, struct buf *out)
{
    char path[PATH_MAX];
    note_path(p->dir, path);
    buf_clear(out);
    if (access(path, F_OK) == 0 && fd_read_file(path, out, NULL) != 0)
        buf_clear(out);
}

void restore_forget_note(const struct session_paths *p)
{
    char path[PATH_MAX];
    note_path(p->dir, path);
    unlink(path);
}

/* ---- that the newest one is damaged ---- */

static void earlier_path(const char *dir, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%.4000s/checkpoint.anew", dir);
}

bool restore_from_earlier(const struct session_paths *p)
{
    char path[PATH_MAX];
    earlier_path(p->dir, path);
    return access(path, F_OK) == 0;
}

void restore_forget_earlier(const struct session_paths *p)
{
    char path[PATH_MAX];
    earlier_path(p->dir, path);
    unlink(path);
}

static int note_damage(const struct restore *r, const char *dir, struct err *err)
{
    char path[PATH_MAX];
    earlier_path(dir, path);
    return r->damaged ? fd_write_file_atomic(path, STR(""), 0600, err) : 0;
}

/* ---- the files, on a worker ---- */

/* Held while it is filled; other servers' sweeps keep out. */
static int make_staging(const struct host *h, char path[PATH_MAX], struct err *err)
{
    snprintf(path, PATH_MAX, "%s/" STAGING "XXXXXX", h->dir);
    if (!mkdtemp(path)) {
        (void)err_sys(err, errno, "cannot make %s", path);
        return -1;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    (void)err_sys(err, errno, "cannot lock %s", path);
    fd_close(fd);
    return -1;
}

void restore_sweep(const struct host *h)
{
    DIR *d = opendir(h->dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[PATH_MAX];
        if (!str_starts(str_z(e->d_name), STR(STAGING)))
            continue;
        AUTO_FD int fd =
            openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", h->dir, e->d_name);
        tree_remove(path, NULL);
    }
    if (d)
        closedir(d);
}

/* Repositories that came back with the files are not cloned over them. */
static void settle_repositories(struct restore *r, const char *dir)
{
    const struct json *doc;
    if (!str_some(r->provision) ||
        json_parse(&r->arena, r->provision, JSON_ALLOW_DUPLICATES, &doc, NULL) != 0 ||
        !json_is(json_get(doc, "repositories"), JSON_ARRAY))
        return;
    json_for_each (v, json_get(doc, "repositories")) {
        char path[PATH_MAX];
        struct stat st;
        struct str id = json_get_str(v, "id"), at = json_get_str(v, "path");
        int n = snprintf(path, sizeof path, "%s" STR_FMT "/.git", dir, STR_ARG(at));
        if (id_valid(id, "sesrsc") && str_starts(at, STR("/workspace/")) && n > 0 &&
            n < (int)sizeof path && lstat(path, &st) == 0)
            git_settle(dir, arena_strz(&r->arena, id));
    }
}

static bool has_files(const char *dir)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%.4000s/workspace", dir);
    return lstat(path, &st) == 0;
}

/* The place may be taken by what an rm left half done: that goes. Or by what another server has put
 * there meanwhile, which a sandbox may be using: that stays. */
static int take_place(const char *staging, const char *dir, struct err *err)
{
    if (renameat2(AT_FDCWD, staging, AT_FDCWD, dir, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EEXIST)
        return err_sys(err, errno, "cannot rename %s to %s", staging, dir);
    /* Twice, and all is as it was: what is there came between the look and the first time. */
    bool swap = !has_files(dir);
    for (int i = 0; swap && i < 2; i++) {
        if (renameat2(AT_FDCWD, staging, AT_FDCWD, dir, RENAME_EXCHANGE) < 0)
            return err_sys(err, errno, "cannot rename %s to %s", staging, dir);
        swap = has_files(staging);
    }
    tree_remove(staging, NULL);
    return 0;
}

static int restore_files(struct restore *r, const struct session_paths *p, struct err *err)
{
    const struct host *h = &r->s->host;
    char staging[PATH_MAX];
    AUTO_FD int lock = make_staging(h, staging, err);
    if (lock < 0)
        return err->code;
    int rc = snapshot_restore(&h->blobs, r->row.manifest, staging, p->uid, err);
    if (rc == 0)
        rc = note_damage(r, staging, err);
    if (rc == 0) {
        settle_repositories(r, staging);
        write_note(r, staging);
        rc = take_place(staging, p->dir, err);
    }
    if (rc)
        tree_remove(staging, NULL);
    return rc;
}

/* Without a record in it the session counts as having had a hand, which may have run anything. */
static int begin_again(struct restore *r, const struct session_paths *p, struct err *err)
{
    int rc = fd_mkdirs(p->dir, 0700, err);
    if (rc == 0)
        rc = note_damage(r, p->dir, err);
    if (rc == 0)
        write_note(r, p->dir);
    return rc ? rc : session_prepare(p, err);
}

static void restore_work(struct loop_work *w)
{
    struct restore *r = CONTAINER_OF(w, struct restore, work);
    struct session_paths p;
    struct stat st;
    session_paths(&r->s->host, r->id.z, &p);
    r->err = (struct err){.code = 0};
    if (lstat(p.workspace, &st) == 0) /* it is back */
        return;
    if (r->found)
        (void)!restore_files(r, &p, &r->err);
    else
        (void)!begin_again(r, &p, &r->err);
}

/* ---- on the loop ---- */

static void ended(struct restore *r, const struct err *err)
{
    struct sandboxes *s = r->s;
    struct list all;
    list_init(&all);
    struct list *n;
    while ((n = list_pop(&r->waiters)))
        list_push(&all, n);
    list_remove(&r->node); /* whoever asks from now on begins again */
    while ((n = list_pop(&all))) {
        struct waiter *w = LIST_ENTRY(n, struct waiter, node);
        w->done(w->arg, err);
        mem_free(w);
    }
    arena_fini(&r->arena);
    mem_free(r);
    sandboxes_job_ended(s);
}

static void find(struct restore *r);

static void restored(struct loop_work *w)
{
    struct restore *r = CONTAINER_OF(w, struct restore, work);
    int code = r->err.code;
    if (r->found && (code == ERR_CORRUPT || code == ERR_NOT_FOUND)) {
        log_line(LOG_ERROR, "a checkpoint cannot be restored; trying the one before it", "session",
                 r->id.z, "error", r->err.msg, NULL);
        r->s->stats.restore_failures++;
        /* Before the first one 0 would mean the newest again. */
        r->last = r->row.seq <= 1 || ++r->tries == RESTORE_TRIES;
        r->before = r->row.seq - 1;
        r->had_sandbox = r->damaged = true;
        find(r);
        return;
    }
    if (code) {
        r->s->stats.restore_failures++;
        log_line(LOG_WARN, "a session's files could not be restored", "session", r->id.z, "error",
                 r->err.msg, NULL);
    } else if (r->found) {
        r->s->stats.restores++;
        log_line(LOG_INFO, "a session's files were restored from its checkpoint", "session",
                 r->id.z, "event", r->event.z, NULL);
    } else {
        log_line(LOG_WARN, "a session's files are lost: it has no checkpoint", "session", r->id.z,
                 NULL);
    }
    ended(r, &r->err);
}

static int name_event(struct store_tx *tx, struct restore *r, struct err *err)
{
    AUTO_ARENA struct arena a;
    struct session_row session;
    struct event *events;
    size_t n;
    bool more;
    arena_init(&a, RESTORE_ARENA);
    int rc = tx_session_get(tx, STR_NONE, id_str(&r->id), &a, &session, err);
    if (rc)
        return rc;
    r->provision = str_some(session.provision) ? arena_str(&r->arena, session.provision) : STR_NONE;
    const struct event_filter filter = {
        .after_seq = r->row.seq - 1, .before_seq = r->row.seq + 1, .limit = 1};
    r->event = (struct id){.z = ""};
    rc = r->row.seq ? tx_event_list(tx, session.key, &filter, &a, &events, &n, &more, err) : 0;
    if (rc == 0 && r->row.seq && n)
        r->event = events[0].id;
    return rc;
}

static int find_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct restore *r = CONTAINER_OF(job, struct restore, job);
    arena_reset(&r->arena);
    r->found = false;
    if (r->last)
        return 0;
    int rc = tx_checkpoint_at(tx, id_str(&r->id), r->before, &r->arena, &r->row, err);
    r->found = rc == 0;
    if (rc)
        return rc == ERR_NOT_FOUND ? 0 : rc;
    return name_event(tx, r, err);
}

static void found(struct store_job *job, const struct err *err)
{
    struct restore *r = CONTAINER_OF(job, struct restore, job);
    if (err->code || (!r->found && !r->had_sandbox) || r->s->closing)
        ended(r, err);
    else
        loop_work(r->s->loop, &r->work, restore_work, restored);
}

static void find(struct restore *r)
{
    r->job = (struct store_job){.fn = find_fn, .done = found};
    r->s->store.read(r->s->store.self, &r->job);
}

static struct restore *restore_of(struct sandboxes *s, struct str session_id)
{
    list_for_each (it, &s->restores) {
        struct restore *r = LIST_ENTRY(it, struct restore, node);
        if (str_eq(id_str(&r->id), session_id))
            return r;
    }
    return NULL;
}

void restore_start(struct sandboxes *s, struct str session_id, bool had_sandbox,
                   void (*done)(void *arg, const struct err *err), void *arg)
{
    struct restore *r = restore_of(s, session_id);
    struct waiter *w = mem_zalloc(sizeof *w);
    w->done = done;
    w->arg = arg;
    if (r) {
        r->had_sandbox = r->had_sandbox || had_sandbox;
        list_push(&r->waiters, &w->node);
        return;
    }
    r = mem_zalloc(sizeof *r);
    r->s = s;
    r->id = id_from(session_id);
    r->had_sandbox = had_sandbox;
    arena_init(&r->arena, RESTORE_ARENA);
    list_init(&r->waiters);
    list_push(&r->waiters, &w->node);
    list_push(&s->restores, &r->node);
    sandboxes_job_began(s);
    find(r);
}
