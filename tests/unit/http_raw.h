/* http_raw: a raw byte client on the test's own loop, for tests of http/. One thread, test only. */
#ifndef OSTLER_TESTS_HTTP_RAW_H
#define OSTLER_TESTS_HTTP_RAW_H

#include "base/buf.h"
#include "io/loop.h"

#include <stdio.h>
#include <stdlib.h>

/* Turns the loop until `cond` holds; the watchdog of the test ends a wait in vain. */
#define WAIT(loop, cond)                                                                           \
    do {                                                                                           \
        while (!(cond))                                                                            \
            uv_run(loop_uv(loop), UV_RUN_ONCE);                                                    \
    } while (0)

struct raw {
    uv_tcp_t tcp;
    uv_connect_t connect;
    struct buf got;
    bool connected, eof, closed;
    int failed; /* a libuv code */
};

struct raw_write {
    uv_write_t uv;
    char data[];
};

static inline void raw_written(uv_write_t *uv, int status)
{
    (void)status; /* the server may have closed: what came back tells */
    mem_free(CONTAINER_OF(uv, struct raw_write, uv));
}

static inline void raw_send(struct raw *r, struct str s)
{
    struct raw_write *w = mem_alloc(sizeof *w + s.len);
    memcpy(w->data, s.ptr, s.len);
    uv_buf_t buf = uv_buf_init(w->data, (unsigned)s.len);
    if (uv_write(&w->uv, (uv_stream_t *)&r->tcp, &buf, 1, raw_written) != 0)
        mem_free(w);
}

static inline void raw_alloc(uv_handle_t *h, size_t hint, uv_buf_t *buf)
{
    (void)hint;
    struct raw *r = (struct raw *)(void *)h;
    *buf = uv_buf_init(buf_reserve(&r->got, 65536), 65536);
}

static inline void raw_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    (void)buf;
    struct raw *r = (struct raw *)(void *)s;
    if (n > 0) {
        buf_commit(&r->got, (size_t)n);
        return;
    }
    if (n == 0)
        return;
    r->eof = true;
    r->failed = n == UV_EOF ? 0 : (int)n;
    uv_read_stop(s);
}

static inline void raw_connected(uv_connect_t *c, int status)
{
    struct raw *r = CONTAINER_OF(c, struct raw, connect);
    r->connected = true;
    r->failed = status;
    if (status == 0)
        uv_read_start((uv_stream_t *)&r->tcp, raw_alloc, raw_read);
}

static inline void raw_open(struct loop *l, struct raw *r, int port)
{
    *r = (struct raw){.got = BUF_INIT(256u << 20)};
    uv_tcp_init(loop_uv(l), &r->tcp);
    struct sockaddr_in sa;
    uv_ip4_addr("127.0.0.1", port, &sa);
    uv_tcp_connect(&r->connect, &r->tcp, (struct sockaddr *)&sa, raw_connected);
    WAIT(l, r->connected);
}

static inline void raw_pause(struct raw *r, bool paused)
{
    if (paused)
        uv_read_stop((uv_stream_t *)&r->tcp);
    else
        uv_read_start((uv_stream_t *)&r->tcp, raw_alloc, raw_read);
}

static inline void raw_on_shutdown(uv_shutdown_t *s, int status)
{
    (void)status;
    mem_free(s);
}

/* Ends our side only. */
static inline void raw_end(struct raw *r)
{
    uv_shutdown_t *s = mem_zalloc(sizeof *s);
    uv_shutdown(s, (uv_stream_t *)&r->tcp, raw_on_shutdown);
}

static inline void raw_on_closed(uv_handle_t *h)
{
    ((struct raw *)(void *)h)->closed = true;
}

static inline void raw_close(struct loop *l, struct raw *r)
{
    uv_close((uv_handle_t *)&r->tcp, raw_on_closed);
    WAIT(l, r->closed);
    buf_fini(&r->got);
}

struct raw_response {
    int status;
    struct str head, body; /* body: undecoded */
    size_t end;            /* where the next response starts */
};

/* The response that starts at `from`, its body by Content-Length; false while it is not whole. */
static inline bool raw_response(const struct raw *r, size_t from, bool head_only,
                                struct raw_response *out)
{
    *out = (struct raw_response){.status = 0};
    struct str s = str_skip(buf_view(&r->got), from);
    ptrdiff_t end = str_find(s, STR("\r\n\r\n"));
    if (end < 0)
        return false;
    out->head = str_take(s, (size_t)end + 2);
    out->status = (int)strtol(s.ptr + 9, NULL, 10);
    size_t len = 0;
    ptrdiff_t cl = str_find(out->head, STR("Content-Length: "));
    if (cl >= 0 && !head_only)
        len = strtoul(s.ptr + cl + 16, NULL, 10);
    out->body = str_take(str_skip(s, (size_t)end + 4), len);
    out->end = from + (size_t)end + 4 + len;
    return out->body.len == len;
}

#endif
