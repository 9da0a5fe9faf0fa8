#include "worker/keep.h"

#include "base/clock.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NOTES_MAX = 16 * 1024 * 1024 };

/* ---- on the worker pool ---- */

static void read_work(struct loop_work *work)
{
    struct keep_notes *n = CONTAINER_OF(work, struct keep_notes, work);
    AUTO_FD int fd = open(n->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_sys(&n->err, errno, "%s", n->path);
        return;
    }
    (void)futimens(fd, NULL);
    if (fd_read_all(fd, &n->adding, &n->err) == 0 && fsync(fd) < 0)
        err_sys(&n->err, errno, "%s", n->path);
}

static void write_work(struct loop_work *work)
{
    struct keep_notes *n = CONTAINER_OF(work, struct keep_notes, work);
    AUTO_FD int fd = open(n->path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_sys(&n->err, errno, "%s", n->path);
        return;
    }
    if (n->clear) {
        (void)!ftruncate(fd, 0); /* what stays is known to be answered */
        (void)futimens(fd, NULL);
        return;
    }
    if (fd_write_all(fd, buf_view(&n->adding), &n->err) == 0 && fdatasync(fd) < 0)
        err_sys(&n->err, errno, "%s", n->path);
}

/* ---- on the loop ---- */

static void done(struct loop_work *work);

static void submit(struct keep_notes *n, void (*fn)(struct loop_work *))
{
    n->busy = true;
    n->err = (struct err){0};
    loop_work(n->loop, &n->work, fn, done);
}

static void take_ids(struct keep_notes *n)
{
    struct str rest = buf_view(&n->adding);
    while (str_some(rest) && rest.len) {
        struct str id = str_split(&rest, '\n');
        if (!id.len || !str_some(rest) || map_get(&n->ids, id)) /* half a line was never acted on */
            continue;
        char *kept = mem_dupz(id.ptr, id.len);
        map_put(&n->ids, str_n(kept, id.len), kept);
    }
}

static void next(struct keep_notes *n)
{
    if (n->busy)
        return;
    if (n->text.len) {
        buf_clear(&n->adding);
        buf_str(&n->adding, buf_view(&n->text));
        buf_clear(&n->text);
        n->submitted = n->added;
        submit(n, write_work);
    } else if (n->clearing) {
        n->clearing = false;
        n->clear = true;
        submit(n, write_work);
    } else if (n->idle) {
        void (*idle)(struct keep_notes *) = n->idle;
        n->idle = NULL;
        idle(n);
    }
}

static void done(struct loop_work *work)
{
    struct keep_notes *n = CONTAINER_OF(work, struct keep_notes, work);
    const struct err err = n->err;
    n->busy = false;
    if (n->reading) {
        n->reading = false;
        take_ids(n);
        n->ready(n, &err);
    } else if (!n->clear) {
        n->written(n, &err);
    }
    next(n);
}

void keep_open(struct keep_notes *n, struct loop *l, const char *dir, const char *session)
{
    n->loop = l;
    buf_init(&n->text, NOTES_MAX);
    buf_init(&n->adding, NOTES_MAX);
    snprintf(n->path, sizeof n->path, "%s/seen/%s", dir, session);
    n->reading = true;
    submit(n, read_work);
}

bool keep_knows(const struct keep_notes *n, struct str id)
{
    return map_get(&n->ids, id);
}

uint64_t keep_add(struct keep_notes *n, struct str id)
{
    buf_str(&n->text, id);
    buf_ch(&n->text, '\n');
    uint64_t number = ++n->added;
    next(n);
    return number;
}

void keep_end(struct keep_notes *n, bool clear)
{
    n->clearing = clear;
    next(n);
}

void keep_fini(struct keep_notes *n)
{
    size_t at = 0;
    struct str key;
    for (char *id; (id = map_next(&n->ids, &at, &key));)
        mem_free(id);
    map_fini(&n->ids);
    buf_fini(&n->text);
    buf_fini(&n->adding);
}

/* ---- the directory ---- */

int keep_lock(const char *dir, int *fd, struct err *err)
{
    char path[4096], seen[4096];
    snprintf(path, sizeof path, "%s/lock", dir);
    snprintf(seen, sizeof seen, "%s/seen", dir);
    int rc = fd_mkdirs(dir, 0700, err);
    rc = rc ? rc : fd_mkdirs(seen, 0700, err);
    if (rc)
        return rc;
    int lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (lock < 0)
        return err_sys(err, errno, "%s", path);
    if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
        int sys = errno;
        fd_close(lock);
        return sys == EWOULDBLOCK
                   ? err_set(err, ERR_CONFLICT,
                             "another worker runs in %s; give each one a --dir of its own", dir)
                   : err_sys(err, sys, "%s", path);
    }
    *fd = lock;
    return 0;
}

int keep_list(const char *dir, struct keep_session **out, size_t *n, struct err *err)
{
    char path[4096];
    size_t cap = 0;
    snprintf(path, sizeof path, "%s/seen", dir);
    DIR *d = opendir(path);
    if (!d)
        return err_sys(err, errno, "%s", path);
    *out = NULL;
    *n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        struct stat st;
        if (e->d_name[0] == '.' || strlen(e->d_name) >= ID_MAX ||
            fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (*n == cap) {
            cap = cap ? cap * 2 : 64;
            *out = mem_realloc(*out, cap * sizeof **out);
        }
        (*out)[(*n)++] = (struct keep_session){
            .id = id_from(str_z(e->d_name)),
            .age_s = clock_unix_us() / 1000000 - st.st_mtim.tv_sec,
        };
    }
    closedir(d);
    return 0;
}

void keep_forget(const char *dir, const char *session)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/seen/%s", dir, session);
    (void)unlink(path);
}
