#include "io/stream.h"

#include "base/fd.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

struct stream {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } uv;
    uv_connect_t connect;
    uv_shutdown_t shutdown;
    struct stream_events ev;
    bool connecting, closing, paused, ended; /* ended: the peer sends no more */
    bool shut;
};

struct chunk {
    uv_write_t uv;
    char data[];
};

/* Read into and handed on within one call-back: one for each loop's thread will do. */
static _Thread_local char scratch[STREAM_READ];

/* ---- closing ---- */

static void on_closed(uv_handle_t *h)
{
    mem_free(CONTAINER_OF(h, struct stream, uv));
}

void stream_close(struct stream *s)
{
    if (!s || s->closing)
        return;
    s->closing = true;
    uv_close(&s->uv.handle, on_closed);
}

static void broke(struct stream *s, int rc)
{
    if (s->closing)
        return;
    struct err err;
    err_sys(&err, -rc, "the connection broke");
    stream_close(s);
    s->ev.on_close(s->ev.arg, &err);
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *buf)
{
    (void)h;
    (void)hint;
    *buf = uv_buf_init(scratch, sizeof scratch);
}

static void on_read(uv_stream_t *uv, ssize_t n, const uv_buf_t *buf)
{
    struct stream *s = CONTAINER_OF(uv, struct stream, uv);
    if (n == UV_EOF) {
        s->ended = true;
        uv_read_stop(uv);
        s->ev.on_eof(s->ev.arg);
    } else if (n < 0) {
        broke(s, (int)n);
    } else if (n > 0) {
        s->ev.on_data(s->ev.arg, str_n(buf->base, (size_t)n));
    }
}

void stream_pause(struct stream *s, bool paused)
{
    if (s->closing || s->connecting || s->ended || s->paused == paused)
        return;
    s->paused = paused;
    if (paused)
        uv_read_stop(&s->uv.stream);
    else
        uv_read_start(&s->uv.stream, on_alloc, on_read);
}

/* ---- opening ---- */

static int failed(struct stream *s, int rc, struct err *err)
{
    s->closing = true;
    uv_close(&s->uv.handle, on_closed);
    err_sys(err, -rc, "cannot use the socket");
    if (err)
        err->code = ERR_CONNECT;
    return ERR_CONNECT;
}

int stream_open(struct loop *l, int fd, const struct stream_events *ev, struct stream **out,
                struct err *err)
{
    struct stream *s = mem_zalloc(sizeof *s);
    s->ev = *ev;
    int domain = 0;
    socklen_t len = sizeof domain;
    bool tcp = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain != AF_UNIX;
    int rc;
    if (tcp) {
        uv_tcp_init(loop_uv(l), &s->uv.tcp);
        rc = uv_tcp_open(&s->uv.tcp, fd);
    } else {
        uv_pipe_init(loop_uv(l), &s->uv.pipe, 0);
        rc = uv_pipe_open(&s->uv.pipe, fd);
    }
    if (rc)
        fd_close(fd);
    else
        rc = uv_read_start(&s->uv.stream, on_alloc, on_read);
    if (rc)
        return failed(s, rc, err);
    *out = s;
    return 0;
}

static void on_connected(uv_connect_t *req, int status)
{
    struct stream *s = CONTAINER_OF(req, struct stream, connect);
    if (s->closing)
        return;
    s->connecting = false;
    if (status == 0)
        status = uv_read_start(&s->uv.stream, on_alloc, on_read);
    struct err err = {.code = 0};
    if (status) {
        err_sys(&err, -status, "cannot connect");
        err.code = ERR_CONNECT;
        stream_close(s);
    }
    s->ev.on_connect(s->ev.arg, &err);
}

int stream_dial(struct loop *l, const struct sockaddr *to, const struct stream_events *ev,
                struct stream **out, struct err *err)
{
    struct stream *s = mem_zalloc(sizeof *s);
    s->ev = *ev;
    s->connecting = true;
    uv_tcp_init(loop_uv(l), &s->uv.tcp);
    int rc = uv_tcp_connect(&s->connect, &s->uv.tcp, to, on_connected);
    if (rc)
        return failed(s, rc, err);
    uv_tcp_nodelay(&s->uv.tcp, 1);
    *out = s;
    return 0;
}

/* ---- writing ---- */

static void on_written(uv_write_t *req, int status)
{
    struct stream *s = CONTAINER_OF(req->handle, struct stream, uv);
    mem_free(CONTAINER_OF(req, struct chunk, uv));
    if (status == UV_ECANCELED || s->closing)
        return;
    if (status)
        broke(s, status);
    else if (stream_queued(s) == 0 && s->ev.on_drain)
        s->ev.on_drain(s->ev.arg);
}

size_t stream_queued(const struct stream *s)
{
    return s->uv.stream.write_queue_size;
}

void stream_send(struct stream *s, struct str bytes)
{
    if (s->closing || s->shut || bytes.len == 0)
        return;
    assert(!s->connecting);
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)bytes.ptr, (unsigned)bytes.len);
    int took = uv_try_write(&s->uv.stream, &buf, 1);
    struct str rest = str_skip(bytes, took > 0 ? (size_t)took : 0);
    if (rest.len == 0)
        return;
    /* An error of the first try shows again in the queued write, outside of this call. */
    struct chunk *c = mem_alloc(sizeof *c + rest.len);
    memcpy(c->data, rest.ptr, rest.len);
    buf = uv_buf_init(c->data, (unsigned)rest.len);
    uv_write(&c->uv, &s->uv.stream, &buf, 1, on_written);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    (void)req;
    (void)status; /* a peer that is gone shows when it is read */
}

void stream_shutdown(struct stream *s)
{
    if (s->closing || s->shut || s->connecting)
        return;
    s->shut = true;
    uv_shutdown(&s->shutdown, &s->uv.stream, on_shutdown);
}
