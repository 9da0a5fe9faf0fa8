#include "cli/lock.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

static int path_of(char out[LOCK_PATH_MAX], const char *data, const char *name, struct err *err)
{
    if (snprintf(out, LOCK_PATH_MAX, "%s/%s", data, name) >= LOCK_PATH_MAX)
        return err_at(err, ERR_INVALID, "--data", "the data directory's path is too long");
    return 0;
}

/* Open-file-description locks belong to the open file, not to the process: closing another
 * descriptor of the same file does not drop them, and threads need no care. */
static int try_lock(int fd)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &fl);
}

/* The one that listens, or else one that is about to. */
static void look_at(void *arg, const char *id, int fd)
{
    struct lock_owner *best = arg;
    struct owner_facts facts;
    (void)id;
    owner_facts(fd, &facts);
    if (best->url[0] || (best->pid && !facts.url[0]))
        return;
    best->pid = facts.pid ? facts.pid : -1; /* it lives, but who it is is not written yet */
    str_copyz(best->url, sizeof best->url, str_z(facts.url));
    str_copyz(best->model, sizeof best->model, str_z(facts.model));
}

void lock_look(const char *data, struct lock_owner *out)
{
    *out = (struct lock_owner){0};
    owner_each(data, look_at, out);
}

bool lock_url_is_local(const char *url)
{
    struct str s = str_z(url), http = STR("http://");
    if (!str_starts(s, http))
        return false;
    s = str_skip(s, http.len);
    struct str host = str_take(s, strcspn(s.ptr, "/?#"));
    if (str_find_ch(host, '@') >= 0) /* "http://127.0.0.1@elsewhere/" */
        return false;
    if (str_starts(host, STR("[::1]")))
        return host.len == 5 || host.ptr[5] == ':';
    host = str_split(&host, ':');
    if (str_eqz(host, "localhost"))
        return true;
    char name[64];
    struct in_addr v4;
    return str_copyz(name, sizeof name, host) && inet_pton(AF_INET, name, &v4) == 1 &&
           (ntohl(v4.s_addr) >> 24) == 127;
}

/* Others start, too: a migration or a slow disk may keep them for a while. */
static int wait_for_start(int fd, const char *path, struct err *err)
{
    enum { WAIT_MS = 10 * 1000, POLL_MS = 20 };
    for (int waited = 0; try_lock(fd) < 0; waited += POLL_MS) {
        if (errno != EAGAIN && errno != EACCES)
            return err_sys(err, errno, "lock %s", path);
        if (waited >= WAIT_MS)
            return err_set(err, ERR_CONFLICT,
                           "another server process has been starting on this data directory for "
                           "%d seconds; look at its log, or choose another with --data DIR",
                           WAIT_MS / 1000);
        if (poll(NULL, 0, POLL_MS) < 0 && errno != EINTR)
            return err_sys(err, errno, "poll");
    }
    return 0;
}

static int take(struct lock *l, const char *data, struct err *err)
{
    char path[LOCK_PATH_MAX];
    int rc = path_of(path, data, "lock", err);
    rc = rc ? rc : fd_mkdirs(data, 0700, err);
    if (rc)
        return rc;
    l->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (l->fd < 0)
        return err_sys(err, errno, "%s", path);
    rc = wait_for_start(l->fd, path, err);
    return rc ? rc : owner_open(&l->owner, data, err);
}

int lock_take(struct lock *l, const char *data, struct err *err)
{
    *l = (struct lock){.fd = -1, .owner.fd = -1};
    int rc = take(l, data, err);
    if (rc == 0)
        return 0;
    lock_release(l);
    /* What one may not write needs the same remedy as what nobody can. */
    if (err && rc == ERR_IO && (err->sys == EACCES || err->sys == EPERM))
        err->code = rc = ERR_READ_ONLY;
    return rc == ERR_CONFLICT || rc == ERR_INVALID ? rc : err_wrap(err, "data directory %s", data);
}

void lock_started(struct lock *l)
{
    fd_close(TAKE_FD(l->fd));
}

int lock_announce(const struct lock *l, const char *url, const char *model, struct err *err)
{
    return owner_say(&l->owner, url, model, err);
}

void lock_release(struct lock *l)
{
    owner_close(&l->owner);
    fd_close(TAKE_FD(l->fd));
}
