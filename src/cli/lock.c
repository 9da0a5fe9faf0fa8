#include "cli/lock.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

static bool is_locked(int fd)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_GETLK, &fl) == 0 && fl.l_type != F_UNLCK;
}

/* "PID URL MODEL\n", as lock_announce() writes it. */
static void read_owner(int fd, struct lock_owner *out)
{
    char text[512];
    ssize_t n = pread(fd, text, sizeof text, 0);
    struct str rest = str_trim(str_n(text, n > 0 ? (size_t)n : 0));
    int64_t pid = 0;
    if (str_i64(str_split(&rest, ' '), &pid) && pid > 0 && pid <= INT32_MAX)
        out->pid = (int)pid;
    if (str_some(rest))
        str_copyz(out->url, sizeof out->url, str_split(&rest, ' '));
    if (str_some(rest))
        str_copyz(out->model, sizeof out->model, str_trim(rest));
}

void lock_look(const char *data, struct lock_owner *out)
{
    *out = (struct lock_owner){0};
    char path[LOCK_PATH_MAX];
    struct err err;
    if (path_of(path, data, "lock", &err))
        return;
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || !is_locked(fd))
        return;
    read_owner(fd, out);
    if (!out->pid)
        out->pid = -1; /* held, but by whom is not written yet */
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

static int write_line(int fd, const char *url, const char *model, struct err *err)
{
    char text[500];
    int n = snprintf(text, sizeof text, "%d %s %s\n", (int)getpid(), url, model);
    if (n >= (int)sizeof text)
        return err_set(err, ERR_INVALID, "the server's URL is too long");
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
        return err_sys(err, errno ? errno : ENOSPC, "lock file");
    return 0;
}

/* Each owner keeps a locked file; one whose lock can be had belonged to a process that died. */
static void sweep_owners(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        AUTO_FD int fd = openat(dirfd(d), e->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && try_lock(fd) == 0)
            unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}

static int take_owner(struct lock *l, const char *data, struct err *err)
{
    char dir[LOCK_PATH_MAX];
    int rc = path_of(dir, data, "owners", err);
    rc = rc ? rc : fd_mkdirs(dir, 0700, err);
    if (rc)
        return rc;
    sweep_owners(dir);
    l->owner = id_new("own");
    rc = path_of(l->owner_path, dir, l->owner.z, err);
    if (rc)
        return rc;
    l->owner_fd = open(l->owner_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (l->owner_fd < 0 || try_lock(l->owner_fd) < 0)
        return err_sys(err, errno, "%s", l->owner_path);
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
    if (try_lock(l->fd) < 0) {
        if (errno != EAGAIN && errno != EACCES)
            return err_sys(err, errno, "lock %s", path);
        struct lock_owner other = {0};
        read_owner(l->fd, &other);
        return err_set(err, ERR_CONFLICT,
                       "the data directory %s is in use by process %d%s%s; stop it or choose "
                       "another with --data DIR",
                       data, other.pid, other.url[0] ? ", listening on " : "", other.url);
    }
    rc = write_line(l->fd, "", "", err);
    return rc ? rc : take_owner(l, data, err);
}

int lock_take(struct lock *l, const char *data, struct err *err)
{
    *l = (struct lock){.fd = -1, .owner_fd = -1};
    int rc = take(l, data, err);
    if (rc == 0)
        return 0;
    lock_release(l);
    /* What one may not write needs the same remedy as what nobody can. */
    if (err && rc == ERR_IO && (err->sys == EACCES || err->sys == EPERM))
        err->code = rc = ERR_READ_ONLY;
    return rc == ERR_CONFLICT || rc == ERR_INVALID ? rc : err_wrap(err, "data directory %s", data);
}

int lock_announce(const struct lock *l, const char *url, const char *model, struct err *err)
{
    return write_line(l->fd, url, model, err);
}

void lock_release(struct lock *l)
{
    if (l->owner_fd >= 0)
        unlink(l->owner_path);
    fd_close(TAKE_FD(l->owner_fd));
    fd_close(TAKE_FD(l->fd));
}
