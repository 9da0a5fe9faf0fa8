#include "engine/owner.h"

#include "base/fd.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int path_of(char out[OWNER_PATH_MAX], const char *data, const char *name, struct err *err)
{
    int n = snprintf(out, OWNER_PATH_MAX, "%s/owners%s%s", data, name[0] ? "/" : "", name);
    if (n < 0 || n >= OWNER_PATH_MAX)
        return err_at(err, ERR_INVALID, "--data", "the data directory's path is too long");
    return 0;
}

/* ---- others ---- */

bool owner_locked(int fd)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_GETLK, &fl) != 0 || fl.l_type != F_UNLCK; /* in doubt it lives */
}

bool owner_watch(const char *data, const char *id, int *ret_fd)
{
    char path[OWNER_PATH_MAX];
    *ret_fd = -1;
    if (path_of(path, data, id, NULL))
        return false;
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno != ENOENT && errno != ENOTDIR;
    if (!owner_locked(fd))
        return false;
    *ret_fd = TAKE_FD(fd);
    return true;
}

/* "PID URL MODEL\n", as owner_say() writes it. */
void owner_facts(int fd, struct owner_facts *out)
{
    *out = (struct owner_facts){0};
    char text[OWNER_TEXT_MAX * 2 + 32];
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

/* The file and the sockets beside it. */
static void remove_files(const char *path)
{
    static const char *const suffixes[] = {".peer", ".http", ""};
    char name[OWNER_PATH_MAX];
    for (size_t i = 0; i < COUNT_OF(suffixes); i++)
        if (snprintf(name, sizeof name, "%s%s", path, suffixes[i]) < (int)sizeof name)
            unlink(name);
}

void owner_forget(const char *data, const char *id)
{
    char path[OWNER_PATH_MAX];
    if (path_of(path, data, id, NULL) == 0)
        remove_files(path);
}

void owner_each(const char *data, void (*fn)(void *arg, const char *id, int fd), void *arg)
{
    char path[OWNER_PATH_MAX];
    DIR *d = path_of(path, data, "", NULL) == 0 ? opendir(path) : NULL;
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.' || strchr(e->d_name, '.'))
            continue; /* not named yet, or a socket */
        AUTO_FD int fd = -1;
        if (!owner_watch(data, e->d_name, &fd))
            owner_forget(data, e->d_name);
        else if (fd >= 0)
            fn(arg, e->d_name, fd);
    }
    if (d)
        closedir(d);
}

/* ---- this process ---- */

static int lock_file(int fd)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &fl);
}

static void ignore(void *arg, const char *id, int fd)
{
    (void)arg;
    (void)id;
    (void)fd;
}

int owner_open(struct owner *o, const char *data, struct err *err)
{
    char dir[OWNER_PATH_MAX], unnamed[OWNER_PATH_MAX];
    *o = (struct owner){.fd = -1, .id = id_new("own")};
    int rc = path_of(dir, data, "", err);
    rc = rc ? rc : path_of(o->path, data, o->id.z, err);
    rc = rc ? rc : fd_mkdirs(dir, 0700, err);
    if (rc)
        return rc;
    owner_each(data, ignore, NULL);
    if (snprintf(unnamed, sizeof unnamed, "%s/.%s", dir, o->id.z) >= (int)sizeof unnamed)
        return err_at(err, ERR_INVALID, "--data", "the data directory's path is too long");
    AUTO_FD int fd = open(unnamed, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, errno, "%s", unnamed);
    /* Nobody may see it without its lock. */
    if (lock_file(fd) < 0 || rename(unnamed, o->path) < 0) {
        rc = err_sys(err, errno, "%s", o->path);
        unlink(unnamed);
        return rc;
    }
    o->fd = TAKE_FD(fd);
    return owner_say(o, "", "", err);
}

int owner_say(const struct owner *o, const char *url, const char *model, struct err *err)
{
    char text[OWNER_TEXT_MAX * 2 + 16];
    int n = snprintf(text, sizeof text, "%d %s %s\n", (int)getpid(), url, model);
    if (n < 0 || n >= (int)sizeof text || strlen(url) >= OWNER_TEXT_MAX)
        return err_set(err, ERR_INVALID, "the server's URL is too long");
    if (pwrite(o->fd, text, (size_t)n, 0) != n || ftruncate(o->fd, n) < 0)
        return err_sys(err, errno ? errno : ENOSPC, "%s", o->path);
    return 0;
}

void owner_close(struct owner *o)
{
    if (o->fd < 0)
        return;
    remove_files(o->path);
    fd_close(TAKE_FD(o->fd));
}
