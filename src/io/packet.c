#include "io/packet.h"

#include "base/fd.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

enum { PACKETS_PER_TURN = 32, SEND_BUFFER = 2 * LIMIT_EGRESS_PACKET };

struct packet_conn {
    uv_poll_t poll;
    struct packet_events ev;
    int fd;
    struct list waiting; /* struct packet */
    size_t queued;
    bool closing;
    char in[LIMIT_EGRESS_PACKET];
};

struct packet {
    struct list node;
    int fd;
    size_t len;
    char data[];
};

int packet_pair(int fds[2], struct err *err)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds))
        return err_sys(err, errno, "cannot make a pair of sockets");
    return 0;
}

/* ---- closing ---- */

static void packet_free(struct packet *p)
{
    fd_close(p->fd);
    mem_free(p);
}

static void on_closed(uv_handle_t *h)
{
    struct packet_conn *c = CONTAINER_OF(h, struct packet_conn, poll);
    fd_close(c->fd);
    mem_free(c);
}

void packet_close(struct packet_conn *c)
{
    if (!c || c->closing)
        return;
    c->closing = true;
    for (struct list *n; (n = list_pop(&c->waiting)) != NULL;)
        packet_free(LIST_ENTRY(n, struct packet, node));
    uv_poll_stop(&c->poll);
    uv_close((uv_handle_t *)&c->poll, on_closed);
}

static void ended(struct packet_conn *c, int sys)
{
    struct err err = {.code = 0};
    if (sys)
        err_sys(&err, sys, "the control socket broke");
    packet_close(c);
    c->ev.on_close(c->ev.arg, &err);
}

/* ---- writing ---- */

static int send_one(int to, struct str payload, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec iov = {(void *)(uintptr_t)payload.ptr, payload.len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof control.bytes;
        struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(h), &fd, sizeof fd);
    }
    ssize_t n;
    do
        n = sendmsg(to, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? errno : 0;
}

static void on_event(uv_poll_t *poll, int status, int events);

static void watch(struct packet_conn *c)
{
    int events = UV_READABLE | (list_empty(&c->waiting) ? 0 : UV_WRITABLE);
    uv_poll_start(&c->poll, events, on_event);
}

/* True when the connection is still there. */
static bool flush(struct packet_conn *c)
{
    while (!list_empty(&c->waiting)) {
        struct packet *p = LIST_ENTRY(c->waiting.next, struct packet, node);
        int sys = send_one(c->fd, str_n(p->data, p->len), p->fd);
        if (sys == EAGAIN || sys == ENOBUFS)
            return true;
        if (sys) {
            ended(c, sys);
            return false;
        }
        list_remove(&p->node);
        c->queued -= p->len;
        packet_free(p);
    }
    watch(c);
    if (c->ev.on_drain)
        c->ev.on_drain(c->ev.arg);
    return !c->closing;
}

size_t packet_queued(const struct packet_conn *c)
{
    return c->queued;
}

int packet_send(struct packet_conn *c, struct str payload, int fd, struct err *err)
{
    if (payload.len > LIMIT_EGRESS_PACKET)
        return err_set(err, ERR_TOO_LARGE, "a message of %zu bytes; the limit is %d", payload.len,
                       LIMIT_EGRESS_PACKET);
    if (c->closing)
        return 0;
    /* A broken socket is reported by on_close, outside of this call. */
    if (list_empty(&c->waiting) && send_one(c->fd, payload, fd) == 0)
        return 0;
    struct packet *p = mem_alloc(sizeof *p + payload.len);
    p->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    p->len = payload.len;
    memcpy(p->data, payload.ptr, payload.len);
    if (fd >= 0 && p->fd < 0) {
        int sys = errno;
        mem_free(p);
        return err_sys(err, sys, "cannot keep a descriptor");
    }
    list_push(&c->waiting, &p->node);
    c->queued += p->len;
    watch(c);
    return 0;
}

/* ---- reading ---- */

/* The payload's length, 0 at the end, or a negative errno. */
static ssize_t receive(struct packet_conn *c, int *fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {c->in, sizeof c->in};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    *fd = -1;
    ssize_t n = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0)
        return -errno;
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS &&
        h->cmsg_len == CMSG_LEN(sizeof *fd))
        memcpy(fd, CMSG_DATA(h), sizeof *fd);
    if (msg.msg_flags & MSG_TRUNC) {
        fd_close(*fd);
        return -EMSGSIZE;
    }
    return n;
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    struct packet_conn *c = CONTAINER_OF(poll, struct packet_conn, poll);
    if (status < 0) {
        ended(c, -status);
        return;
    }
    if ((events & UV_WRITABLE) && !flush(c))
        return;
    for (int i = 0; i < PACKETS_PER_TURN && !c->closing; i++) {
        int fd;
        ssize_t n = receive(c, &fd);
        if (n == -EAGAIN)
            return;
        if (n == -EINTR)
            continue;
        if (n <= 0) {
            ended(c, (int)(n == -ECONNRESET ? 0 : -n));
            return;
        }
        c->ev.on_packet(c->ev.arg, str_n(c->in, (size_t)n), fd);
    }
}

int packet_open(struct loop *l, int fd, const struct packet_events *ev, struct packet_conn **out,
                struct err *err)
{
    struct packet_conn *c = mem_zalloc(sizeof *c);
    c->ev = *ev;
    c->fd = fd;
    list_init(&c->waiting);
    /* A policy of a thousand hosts must fit as one packet. */
    int size = SEND_BUFFER;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    int rc = uv_poll_init(loop_uv(l), &c->poll, fd);
    if (rc) {
        fd_close(fd);
        mem_free(c);
        return err_sys(err, -rc, "cannot watch the control socket");
    }
    watch(c);
    *out = c;
    return 0;
}
