#include "client.h"

#include "samples.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { BODY_MAX = 64 * 1024 * 1024, READ_SIZE = 256 * 1024, EVENTS = 256 };

static struct sockaddr_in server;
static const char *key;
static int epfd;
static bool stopped;
static llhttp_settings_t settings;
static struct conn *dead[EVENTS * 4];
static size_t ndead;

/* ---- answers ---- */

static struct conn *of(llhttp_t *l)
{
    return l->data;
}

static int on_headers(llhttp_t *l)
{
    struct conn *c = of(l);
    buf_clear(&c->body);
    if (l->status_code < 200 || l->status_code > 299)
        c->keep_body = true; /* for the message */
    else if (c->on_head)
        c->on_head(c);
    return 0;
}

static void end_line(struct conn *c)
{
    struct str line = str_n(c->line, c->nline);
    if (line.len == 0 && c->type[0]) {
        char type[sizeof c->type];
        memcpy(type, c->type, sizeof type);
        c->type[0] = '\0';
        c->on_event(c, str_z(type));
    } else if (str_starts(line, STR("event: "))) {
        str_copyz(c->type, sizeof c->type, str_skip(line, 7));
    }
    c->nline = 0;
}

static void feed_events(struct conn *c, struct str piece)
{
    while (piece.len > 0) {
        const char *nl = memchr(piece.ptr, '\n', piece.len);
        size_t n = nl ? (size_t)(nl - piece.ptr) : piece.len;
        size_t room = sizeof c->line - c->nline, take = n < room ? n : room;
        memcpy(c->line + c->nline, piece.ptr, take);
        c->nline += take;
        piece = str_skip(piece, nl ? n + 1 : n);
        if (nl)
            end_line(c);
    }
}

static int on_body(llhttp_t *l, const char *at, size_t n)
{
    struct conn *c = of(l);
    if (c->on_event)
        feed_events(c, str_n(at, n));
    if (c->keep_body)
        buf_put(&c->body, at, n);
    return 0;
}

static int on_complete(llhttp_t *l)
{
    struct conn *c = of(l);
    if (l->status_code < 200 || l->status_code > 299)
        die("the server answered %d: " STR_FMT, l->status_code, STR_ARG(buf_view(&c->body)));
    if (c->on_done)
        c->on_done(c);
    return 0;
}

/* ---- sockets ---- */

void client_init(int port)
{
    key = getenv("OSTLER_API_KEY");
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    raise_files();
    epfd = epoll_create1(EPOLL_CLOEXEC);
    llhttp_settings_init(&settings);
    settings.on_headers_complete = on_headers;
    settings.on_body = on_body;
    settings.on_message_complete = on_complete;
}

int client_connect(int receive_bytes)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0)
        die("socket: %s", strerror(errno));
    if (receive_bytes)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    if (connect(fd, (struct sockaddr *)&server, sizeof server) < 0)
        die("connect to port %d: %s", ntohs(server.sin_port), strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void watch(struct conn *c, int op, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(epfd, op, c->fd, &e) < 0)
        die("epoll: %s", strerror(errno));
}

struct conn *conn_open(void *arg)
{
    struct conn *c = mem_zalloc(sizeof *c);
    c->fd = client_connect(0);
    c->arg = arg;
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    buf_init(&c->out, BODY_MAX);
    buf_init(&c->body, BODY_MAX);
    llhttp_init(&c->parser, HTTP_RESPONSE, &settings);
    c->parser.data = c;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    return c;
}

void conn_close(struct conn *c)
{
    if (c->closing)
        return;
    c->closing = true;
    close(c->fd);
    if (ndead == COUNT_OF(dead))
        die("too many connections closed at once");
    dead[ndead++] = c;
}

static void bury(void)
{
    while (ndead > 0) {
        struct conn *c = dead[--ndead];
        buf_fini(&c->out);
        buf_fini(&c->body);
        mem_free(c);
    }
}

static void flush_out(struct conn *c)
{
    ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN)
        die("send: %s", strerror(errno));
    if (n > 0)
        buf_consume(&c->out, (size_t)n);
}

void client_request(struct buf *out, const char *method, struct str path, struct str body)
{
    buf_printf(out, "%s " STR_FMT " HTTP/1.1\r\nHost: 127.0.0.1\r\n", method, STR_ARG(path));
    if (key)
        buf_printf(out,
                   "x-api-key: %s\r\nanthropic-version: 2023-06-01\r\n"
                   "anthropic-beta: managed-agents-2026-04-01\r\n",
                   key);
    if (str_some(body))
        buf_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.len);
    buf_z(out, "\r\n");
    buf_str(out, body);
}

void conn_send(struct conn *c, const char *method, struct str path, struct str body)
{
    client_request(&c->out, method, path, body);
    c->sent_ns = now_ns();
    flush_out(c);
    if (c->out.len > 0)
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
}

static void serve(struct conn *c, uint32_t events)
{
    static char in[READ_SIZE];
    if (c->closing)
        return;
    if (events & EPOLLOUT) {
        flush_out(c);
        if (c->out.len == 0)
            watch(c, EPOLL_CTL_MOD, EPOLLIN);
    }
    if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
        return;
    ssize_t n = recv(c->fd, in, sizeof in, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        die("the server closed a connection: %s", n < 0 ? strerror(errno) : "end of file");
    if (llhttp_execute(&c->parser, in, (size_t)n) != HPE_OK)
        die("an answer that is not HTTP: %s", llhttp_get_error_reason(&c->parser));
}

static int until(int64_t until_ns)
{
    if (until_ns == 0)
        return -1;
    int64_t left = until_ns - now_ns();
    return left > 0 ? (int)(left / 1000000 + 1) : 0;
}

void client_run(int64_t until_ns)
{
    struct epoll_event events[EVENTS];
    stopped = false;
    while (!stopped && (until_ns == 0 || now_ns() < until_ns)) {
        int n = epoll_wait(epfd, events, EVENTS, until(until_ns));
        for (int i = 0; i < n && !stopped; i++)
            serve(events[i].data.ptr, events[i].events);
        bury();
    }
}

void client_stop(void)
{
    stopped = true;
}
