#include "server.h"

#include "samples.h"

#include <arpa/inet.h>
#include <signal.h>

enum { BODY_MAX = 64 * 1024 * 1024, READ_SIZE = 64 * 1024, BACKLOG = 4096 };

static llhttp_settings_t settings;
static peer_handler handle;
static char read_buf[READ_SIZE]; /* one read is parsed before the next begins */

/* ---- life ---- */

static void free_peer(struct peer *p)
{
    buf_fini(&p->path);
    buf_fini(&p->body);
    mem_free(p);
}

static void on_timer_closed(uv_handle_t *h)
{
    free_peer(CONTAINER_OF((uv_timer_t *)(void *)h, struct peer, timer));
}

static void on_closed(uv_handle_t *h)
{
    struct peer *p = CONTAINER_OF((uv_tcp_t *)(void *)h, struct peer, tcp);
    uv_close((uv_handle_t *)&p->timer, on_timer_closed);
}

static void drop(struct peer *p)
{
    if (p->closing)
        return;
    p->closing = true;
    list_remove(&p->link);
    uv_close((uv_handle_t *)&p->tcp, on_closed);
}

/* ---- answers ---- */

struct write {
    uv_write_t req;
    char bytes[];
};

static void on_written(uv_write_t *req, int status)
{
    if (status < 0 && status != UV_ECANCELED)
        drop(CONTAINER_OF((uv_tcp_t *)(void *)req->handle, struct peer, tcp));
    mem_free(CONTAINER_OF(req, struct write, req));
}

void peer_send(struct peer *p, struct str bytes)
{
    if (p->closing)
        return;
    uv_buf_t b = uv_buf_init((char *)bytes.ptr, (unsigned)bytes.len);
    int n = uv_try_write((uv_stream_t *)&p->tcp, &b, 1);
    if (n == (int)bytes.len)
        return;
    if (n < 0 && n != UV_EAGAIN) {
        drop(p);
        return;
    }
    struct str rest = str_skip(bytes, n > 0 ? (size_t)n : 0);
    struct write *w = mem_alloc(sizeof *w + rest.len);
    memcpy(w->bytes, rest.ptr, rest.len);
    b = uv_buf_init(w->bytes, (unsigned)rest.len);
    if (uv_write(&w->req, (uv_stream_t *)&p->tcp, &b, 1, on_written) < 0) {
        mem_free(w);
        drop(p);
    }
}

void peer_reply(struct peer *p, const char *type, struct str body)
{
    static struct buf out = BUF_INIT(BODY_MAX);
    buf_clear(&out);
    buf_printf(&out, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", type,
               body.len);
    buf_str(&out, body);
    peer_send(p, buf_view(&out));
}

/* ---- requests ---- */

static int on_url(llhttp_t *l, const char *at, size_t n)
{
    buf_put(&((struct peer *)l->data)->path, at, n);
    return 0;
}

static int on_body(llhttp_t *l, const char *at, size_t n)
{
    buf_put(&((struct peer *)l->data)->body, at, n);
    return 0;
}

static int on_begin(llhttp_t *l)
{
    struct peer *p = l->data;
    buf_clear(&p->path);
    buf_clear(&p->body);
    return 0;
}

static int on_complete(llhttp_t *l)
{
    handle(l->data);
    return 0;
}

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *out)
{
    (void)h;
    (void)size;
    *out = uv_buf_init(read_buf, sizeof read_buf);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
    struct peer *p = CONTAINER_OF((uv_tcp_t *)(void *)s, struct peer, tcp);
    if (n < 0 || (n > 0 && llhttp_execute(&p->parser, b->base, (size_t)n) != HPE_OK))
        drop(p);
}

static void on_connection(uv_stream_t *listener, int status)
{
    if (status < 0)
        return;
    struct peer *p = mem_zalloc(sizeof *p);
    list_init(&p->link);
    buf_init(&p->path, 64 * 1024);
    buf_init(&p->body, BODY_MAX);
    llhttp_init(&p->parser, HTTP_REQUEST, &settings);
    p->parser.data = p;
    uv_tcp_init(listener->loop, &p->tcp);
    uv_timer_init(listener->loop, &p->timer);
    if (uv_accept(listener, (uv_stream_t *)&p->tcp) < 0) {
        drop(p);
        return;
    }
    uv_tcp_nodelay(&p->tcp, 1);
    uv_read_start((uv_stream_t *)&p->tcp, on_alloc, on_read);
}

/* ---- running ---- */

static void on_stdin(uv_poll_t *poll, int status, int events)
{
    char c[64];
    (void)events;
    if (status < 0 || read(0, c, sizeof c) <= 0)
        uv_stop(poll->loop);
}

void server_run(peer_handler handler)
{
    static uv_tcp_t listener;
    static uv_poll_t input;
    struct sockaddr_in addr;
    int len = sizeof addr;
    uv_loop_t *loop = uv_default_loop();
    raise_files();
    signal(SIGPIPE, SIG_IGN);
    handle = handler;
    llhttp_settings_init(&settings);
    settings.on_message_begin = on_begin;
    settings.on_url = on_url;
    settings.on_body = on_body;
    settings.on_message_complete = on_complete;
    uv_ip4_addr("127.0.0.1", 0, &addr);
    uv_tcp_init(loop, &listener);
    if (uv_tcp_bind(&listener, (const struct sockaddr *)&addr, 0) < 0 ||
        uv_listen((uv_stream_t *)&listener, BACKLOG, on_connection) < 0 ||
        uv_tcp_getsockname(&listener, (struct sockaddr *)&addr, &len) < 0)
        die("cannot listen on 127.0.0.1");
    if (uv_poll_init(loop, &input, 0) == 0)
        uv_poll_start(&input, UV_READABLE, on_stdin);
    announce_port(ntohs(addr.sin_port));
    uv_run(loop, UV_RUN_DEFAULT);
}
