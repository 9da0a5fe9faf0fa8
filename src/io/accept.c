/* Listeners, and unix sockets with paths of any length. */
#include "base/fd.h"
#include "base/mem.h"
#include "io/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { RETRY_MS = 100, ACCEPTS_PER_TURN = 16 };

struct listener {
    uv_poll_t poll;
    struct loop_timer retry;
    int fd;
    unsigned open_handles;
    bool paused, starved, closing;
    void (*on_accept)(void *arg, int fd);
    void *arg;
};

static void on_readable(uv_poll_t *poll, int status, int events);

static void arm(struct listener *ls)
{
    if (ls->paused || ls->starved)
        uv_poll_stop(&ls->poll);
    else
        uv_poll_start(&ls->poll, UV_READABLE, on_readable);
}

static void on_retry(struct loop_timer *t)
{
    struct listener *ls = CONTAINER_OF(t, struct listener, retry);
    ls->starved = false;
    arm(ls);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct listener *ls = CONTAINER_OF(poll, struct listener, poll);
    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN && !ls->paused && !ls->closing; i++) {
        int fd = accept4(ls->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            ls->on_accept(ls->arg, fd);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            /* No descriptors, or a socket that somebody shut down: it stays readable, and without
             * a pause we would spin. */
            ls->starved = true;
            arm(ls);
            loop_timer_start(&ls->retry, RETRY_MS, on_retry);
        }
        return;
    }
}

int listener_open(struct loop *l, int fd, void (*on_accept)(void *arg, int fd), void *arg,
                  struct listener **out, struct err *err)
{
    int flags = fcntl(fd, F_GETFL);
    struct listener *ls = mem_zalloc(sizeof *ls);
    *ls = (struct listener){.fd = fd, .on_accept = on_accept, .arg = arg};
    int rc = flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
    if (rc == 0)
        rc = uv_poll_init(loop_uv(l), &ls->poll, fd);
    if (rc) {
        fd_close(fd);
        mem_free(ls);
        return err_sys(err, -rc, "cannot listen");
    }
    loop_timer_init(l, &ls->retry);
    ls->open_handles = 2;
    arm(ls);
    *out = ls;
    return 0;
}

void listener_pause(struct listener *ls, bool paused)
{
    if (ls->closing || ls->paused == paused)
        return;
    ls->paused = paused;
    arm(ls);
}

static void one_closed(struct listener *ls)
{
    if (--ls->open_handles)
        return;
    fd_close(ls->fd);
    mem_free(ls);
}

static void on_poll_closed(uv_handle_t *h)
{
    one_closed(CONTAINER_OF(h, struct listener, poll));
}

static void on_timer_closed(struct loop_timer *t)
{
    one_closed(CONTAINER_OF(t, struct listener, retry));
}

void listener_close(struct listener *ls)
{
    if (!ls || ls->closing)
        return;
    ls->closing = true;
    uv_poll_stop(&ls->poll);
    uv_close((uv_handle_t *)&ls->poll, on_poll_closed);
    loop_timer_close(&ls->retry, on_timer_closed);
}

/* ---- unix sockets ---- */

static int bind_at(int fd, const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (str_copyz(sa.sun_path, sizeof sa.sun_path, str_z(path)))
        return bind(fd, (struct sockaddr *)&sa, sizeof sa);
    /* A long path is reached through its open directory. */
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *dir = slash ? mem_dupz(path, (size_t)(slash - path) + 1) : NULL;
    AUTO_FD int at = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (at < 0) {
        errno = dir ? errno : ENAMETOOLONG;
        return -1;
    }
    int n = snprintf(sa.sun_path, sizeof sa.sun_path, "/proc/self/fd/%d/%s", at, slash + 1);
    if (n < 0 || (size_t)n >= sizeof sa.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return bind(fd, (struct sockaddr *)&sa, sizeof sa);
}

int socket_listen(const char *path, int backlog, struct err *err)
{
    AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(err, errno, "cannot make a socket");
    if (unlink(path) && errno != ENOENT)
        return err_sys(err, errno, "cannot replace %s", path);
    if (bind_at(fd, path) || chmod(path, 0600) || listen(fd, backlog))
        return err_sys(err, errno, "cannot listen at %s", path);
    return TAKE_FD(fd);
}
