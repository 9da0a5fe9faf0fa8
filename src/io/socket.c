#include "io/socket.h"

#include "base/fd.h"
#include "base/limits.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FRAME_HEAD = 4, FRAME_FIRST = 4096 };
#define FRAME_QUEUE_MAX ((size_t)LIMIT_HAND_FRAME * 2)

struct frame_conn {
    uv_pipe_t pipe;
    struct frame_events ev;
    unsigned char head[FRAME_HEAD];
    size_t got;    /* bytes of head, then of head and payload */
    size_t len;    /* of the payload, once the head is whole */
    char *payload; /* grows as bytes come: a length alone buys no memory */
    size_t cap;
    bool paused;
    bool closing;
};

struct frame_out {
    uv_write_t uv;
    size_t len;
    char data[];
};

/* ---- closing ---- */

static void on_closed(uv_handle_t *h)
{
    struct frame_conn *c = CONTAINER_OF(h, struct frame_conn, pipe);
    mem_free(c->payload);
    mem_free(c);
}

void frame_close(struct frame_conn *c)
{
    if (!c || c->closing)
        return;
    c->closing = true;
    uv_close((uv_handle_t *)&c->pipe, on_closed);
}

static void fail(struct frame_conn *c, const struct err *err)
{
    if (c->closing)
        return;
    frame_close(c);
    c->ev.on_close(c->ev.arg, err);
}

/* ---- reading ---- */

static size_t head_len(const unsigned char *h)
{
    return (size_t)h[0] << 24 | (size_t)h[1] << 16 | (size_t)h[2] << 8 | (size_t)h[3];
}

/* Room for the next read: the rest of the head, or of the payload that is known to come. One read
 * never crosses a frame's end, so no byte is moved twice. */
static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *buf)
{
    (void)hint;
    struct frame_conn *c = CONTAINER_OF(h, struct frame_conn, pipe);
    if (c->got < FRAME_HEAD) {
        *buf = uv_buf_init((char *)c->head + c->got, (unsigned)(FRAME_HEAD - c->got));
        return;
    }
    size_t have = c->got - FRAME_HEAD;
    if (have == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : FRAME_FIRST;
        c->cap = cap < c->len ? cap : c->len;
        c->payload = mem_realloc(c->payload, c->cap);
    }
    *buf = uv_buf_init(c->payload + have, (unsigned)(c->cap - have));
}

static void deliver(struct frame_conn *c)
{
    char *payload = TAKE_PTR(c->payload);
    size_t len = c->len;
    c->got = c->len = c->cap = 0;
    c->ev.on_frame(c->ev.arg, str_n(payload ? payload : "", len));
    mem_free(payload);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    (void)buf;
    struct frame_conn *c = CONTAINER_OF(s, struct frame_conn, pipe);
    struct err err = {.code = 0};
    if (n == UV_EOF) {
        if (c->got)
            err_set(&err, ERR_PROTOCOL, "the connection was closed inside a frame");
        fail(c, &err);
        return;
    }
    if (n < 0) {
        err_sys(&err, (int)-n, "the connection broke");
        fail(c, &err);
        return;
    }
    c->got += (size_t)n;
    if (c->got == FRAME_HEAD && c->cap == 0)
        c->len = head_len(c->head);
    if (c->len > LIMIT_HAND_FRAME) {
        err_set(&err, ERR_TOO_LARGE, "a frame of %zu bytes came; the limit is %d", c->len,
                LIMIT_HAND_FRAME);
        fail(c, &err);
    } else if (c->got >= FRAME_HEAD && c->got - FRAME_HEAD == c->len) {
        deliver(c);
    }
}

void frame_pause(struct frame_conn *c, bool paused)
{
    if (c->closing || c->paused == paused)
        return;
    c->paused = paused;
    if (paused)
        uv_read_stop((uv_stream_t *)&c->pipe);
    else
        uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
}

/* ---- opening ---- */

static int open_failed(int fd, int rc, struct err *err)
{
    fd_close(fd);
    return err_sys(err, -rc, "cannot use the socket");
}

static void free_unopened(uv_handle_t *h)
{
    mem_free(CONTAINER_OF(h, struct frame_conn, pipe));
}

int frame_connect(struct loop *l, int fd, const struct frame_events *ev, struct frame_conn **out,
                  struct err *err)
{
    struct frame_conn *c = mem_zalloc(sizeof *c);
    c->ev = *ev;
    uv_pipe_init(loop_uv(l), &c->pipe, 0);
    int rc = uv_pipe_open(&c->pipe, fd);
    if (rc == 0) {
        fd = -1; /* the handle's from here on */
        rc = uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
    }
    if (rc) {
        uv_close((uv_handle_t *)&c->pipe, free_unopened);
        return open_failed(fd, rc, err);
    }
    *out = c;
    return 0;
}

/* Writes an address that reaches `path` whatever its length: a long one goes through the open
 * directory. Returns that directory's descriptor, -1 when none was needed, -2 on failure (errno).
 */
static int socket_address(const char *path, struct sockaddr_un *sa)
{
    *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (str_copyz(sa->sun_path, sizeof sa->sun_path, str_z(path)))
        return -1;
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *dir = slash ? mem_dupz(path, (size_t)(slash - path) + 1) : NULL;
    int fd = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0) {
        errno = dir ? errno : ENAMETOOLONG;
        return -2;
    }
    int n = snprintf(sa->sun_path, sizeof sa->sun_path, "/proc/self/fd/%d/%s", fd, slash + 1);
    if (n < 0 || (size_t)n >= sizeof sa->sun_path) {
        close(fd);
        errno = ENAMETOOLONG;
        return -2;
    }
    return fd;
}

static int dial_failed(const char *path, int sys, struct err *err)
{
    err_sys(err, sys, "cannot connect to %s", path);
    if (err)
        err->code = ERR_CONNECT;
    return ERR_CONNECT;
}

int frame_dial(struct loop *l, const char *path, const struct frame_events *ev,
               struct frame_conn **out, struct err *err)
{
    struct sockaddr_un sa;
    int dir = socket_address(path, &sa);
    if (dir == -2)
        return dial_failed(path, errno, err);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int sys = fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0 ? errno : 0;
    fd_close(dir);
    if (sys) {
        fd_close(fd);
        return dial_failed(path, sys, err);
    }
    return frame_connect(l, fd, ev, out, err);
}

/* ---- writing ---- */

static void on_written(uv_write_t *uv, int status)
{
    struct frame_conn *c = CONTAINER_OF(uv->handle, struct frame_conn, pipe);
    mem_free(CONTAINER_OF(uv, struct frame_out, uv));
    if (status == 0 || status == UV_ECANCELED)
        return;
    struct err err;
    err_sys(&err, -status, "the connection broke");
    fail(c, &err);
}

size_t frame_queued(const struct frame_conn *c)
{
    return c->pipe.write_queue_size;
}

int frame_send(struct frame_conn *c, struct str payload, struct err *err)
{
    if (payload.len > LIMIT_HAND_FRAME)
        return err_set(err, ERR_TOO_LARGE, "a frame of %zu bytes; the limit is %d", payload.len,
                       LIMIT_HAND_FRAME);
    if (c->closing)
        return 0;
    if (frame_queued(c) > FRAME_QUEUE_MAX)
        return err_set(err, ERR_UNAVAILABLE, "the peer does not read: %zu bytes wait for it",
                       frame_queued(c));
    unsigned char head[FRAME_HEAD] = {
        (unsigned char)(payload.len >> 24), (unsigned char)(payload.len >> 16),
        (unsigned char)(payload.len >> 8), (unsigned char)payload.len};
    uv_buf_t bufs[2] = {uv_buf_init((char *)head, FRAME_HEAD),
                        uv_buf_init((char *)(uintptr_t)payload.ptr, (unsigned)payload.len)};
    int took = uv_try_write((uv_stream_t *)&c->pipe, bufs, 2);
    size_t done = took > 0 ? (size_t)took : 0; /* an error shows again in the queued write */
    size_t total = FRAME_HEAD + payload.len;
    if (done == total)
        return 0;
    struct frame_out *o = mem_alloc(sizeof *o + total - done);
    o->len = total - done;
    size_t head_left = done < FRAME_HEAD ? FRAME_HEAD - done : 0;
    memcpy(o->data, head + FRAME_HEAD - head_left, head_left);
    size_t skip = done > FRAME_HEAD ? done - FRAME_HEAD : 0;
    if (payload.len > skip)
        memcpy(o->data + head_left, payload.ptr + skip, payload.len - skip);
    uv_buf_t rest = uv_buf_init(o->data, (unsigned)o->len);
    uv_write(&o->uv, (uv_stream_t *)&c->pipe, &rest, 1, on_written);
    return 0;
}
