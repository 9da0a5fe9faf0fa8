/* Listening, accepting, closing. */
#include "http/conn.h"

#include "base/fd.h"
#include "base/limits.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

enum { BACKLOG = 512, PORT_TEXT = 8 };

/* ---- closing ---- */

static void on_all_closed(struct http_server *s)
{
    void (*closed)(void *) = s->closed;
    void *arg = s->closed_arg;
    buf_fini(&s->head);
    mem_free(s);
    if (closed)
        closed(arg);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct http_server *s = h->data;
    if (--s->nhandles == 0)
        on_all_closed(s);
}

static void on_grace_closed(struct loop_timer *t)
{
    struct http_server *s = CONTAINER_OF(t, struct http_server, grace);
    if (--s->nhandles == 0)
        on_all_closed(s);
}

static void finish_close(struct http_server *s)
{
    if (!s->closing || s->nconns || s->nreads || uv_is_closing((uv_handle_t *)&s->idle))
        return;
    uv_close((uv_handle_t *)&s->idle, on_handle_closed);
    loop_timer_close(&s->grace, on_grace_closed);
}

void server_conn_closed(struct http_server *s)
{
    finish_close(s);
}

static void kick_all(struct http_server *s)
{
    list_for_each (n, &s->conns)
        conn_kick(LIST_ENTRY(n, struct conn, node));
}

static void on_grace_over(struct loop_timer *t)
{
    struct http_server *s = CONTAINER_OF(t, struct http_server, grace);
    s->forced = true;
    kick_all(s);
}

void http_server_close(struct http_server *s, int64_t grace_ms, void (*closed)(void *arg),
                       void *arg)
{
    if (s->closing)
        return;
    s->closing = true;
    s->closed = closed;
    s->closed_arg = arg;
    uv_close((uv_handle_t *)&s->listener, on_handle_closed);
    loop_timer_start(&s->grace, grace_ms, on_grace_over);
    kick_all(s);
    finish_close(s);
}

/* ---- opening ---- */

void server_on_idle(uv_idle_t *idle)
{
    struct http_server *s = idle->data;
    struct list now;
    list_init(&now); /* what is kicked meanwhile waits for the next turn */
    while (!list_empty(&s->kicked))
        list_push(&now, list_pop(&s->kicked));
    uv_idle_stop(idle);
    for (struct list *n; (n = list_pop(&now)) != NULL;)
        conn_tick(LIST_ENTRY(n, struct conn, kick));
}

static void on_connection(uv_stream_t *listener, int status)
{
    if (status == 0)
        conn_open(listener->data);
}

static int64_t or_limit(int64_t v, int64_t limit)
{
    return v > 0 ? v : limit;
}

static void fill_defaults(struct http_server_config *cfg)
{
    cfg->head_ms = or_limit(cfg->head_ms, LIMIT_HTTP_HEAD_MS);
    cfg->body_idle_ms = or_limit(cfg->body_idle_ms, LIMIT_HTTP_BODY_IDLE_MS);
    cfg->keepalive_ms = or_limit(cfg->keepalive_ms, LIMIT_HTTP_KEEPALIVE_MS);
    cfg->half_close_ms = or_limit(cfg->half_close_ms, CONN_HALF_CLOSE_MS);
    if (!cfg->max_connections)
        cfg->max_connections = LIMIT_HTTP_CONNECTIONS;
}

static struct http_server *server_new(struct loop *l, const struct http_server_config *cfg)
{
    struct http_server *s = mem_alloc(sizeof *s);
    memset(s, 0, offsetof(struct http_server, in)); /* the read buffer stays untouched pages */
    s->loop = l;
    s->cfg = *cfg;
    fill_defaults(&s->cfg);
    list_init(&s->conns);
    list_init(&s->kicked);
    uv_tcp_init(loop_uv(l), &s->listener);
    uv_idle_init(loop_uv(l), &s->idle);
    loop_timer_init(l, &s->grace);
    s->listener.data = s->idle.data = s;
    s->nhandles = 3;
    return s;
}

static int resolve(const struct http_server_config *cfg, struct addrinfo **out, struct err *err)
{
    char port[PORT_TEXT];
    snprintf(port, sizeof port, "%d", cfg->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    if (cfg->port < 0 || cfg->port > UINT16_MAX)
        return err_set(err, ERR_INVALID, "the port %d is not between 0 and 65535", cfg->port);
    int rc = getaddrinfo(cfg->host, port, &hints, out);
    if (rc)
        return err_set(err, ERR_CONNECT, "cannot listen on %s:%d: %s", cfg->host, cfg->port,
                       rc == EAI_SYSTEM ? "the name lookup failed" : gai_strerror(rc));
    return 0;
}

static int listen_failed(const struct http_server_config *cfg, int rc, struct err *err)
{
    const char *why = rc == UV_EADDRINUSE ? "the port is in use: stop the other program or choose "
                                            "another port"
                      : rc == UV_EACCES   ? "this port needs privileges: choose one above 1023"
                      : rc == UV_EADDRNOTAVAIL ? "no interface has this address"
                                               : uv_strerror(rc);
    err_set(err, ERR_IO, "cannot listen on %s:%d: %s", cfg->host, cfg->port, why);
    if (err)
        err->sys = -rc;
    return ERR_IO;
}

int http_server_open(struct loop *l, const struct http_server_config *cfg, struct http_server **out,
                     struct err *err)
{
    struct addrinfo *ai = NULL;
    int rc = cfg->listen_fd ? 0 : resolve(cfg, &ai, err);
    if (rc)
        return rc;
    struct http_server *s = server_new(l, cfg);
    if (ai) {
        rc = uv_tcp_bind(&s->listener, ai->ai_addr, 0);
        freeaddrinfo(ai);
    } else {
        rc = uv_tcp_open(&s->listener, *cfg->listen_fd);
    }
    s->cfg.listen_fd = NULL; /* the listener's from here on */
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&s->listener, BACKLOG, on_connection);
    if (rc) {
        rc = listen_failed(cfg, rc, err);
        http_server_close(s, 0, NULL, NULL);
        return rc;
    }
    *out = s;
    return 0;
}

int http_listen(const char *host, int port, int *ret_fd, struct err *err)
{
    const struct http_server_config cfg = {.host = host, .port = port};
    const int on = 1;
    struct addrinfo *ai = NULL;
    int rc = resolve(&cfg, &ai, err);
    if (rc)
        return rc;
    AUTO_FD int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int sys = 0;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        sys = errno;
    freeaddrinfo(ai);
    if (sys)
        return listen_failed(&cfg, -sys, err);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int http_server_port(const struct http_server *s)
{
    struct sockaddr_storage sa;
    int len = sizeof sa;
    if (uv_tcp_getsockname(&s->listener, (struct sockaddr *)&sa, &len) != 0)
        return 0;
    char port[PORT_TEXT];
    if (getnameinfo((struct sockaddr *)&sa, (socklen_t)len, NULL, 0, port, sizeof port,
                    NI_NUMERICSERV) != 0)
        return 0;
    int64_t n;
    return str_i64(str_z(port), &n) ? (int)n : 0;
}

size_t http_server_connections(const struct http_server *s)
{
    return s->nconns;
}
