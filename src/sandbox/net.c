#include "sandbox/net.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "egress/authority.h"
#include "hand/proto.h"
#include "json/json.h"
#include "sandbox/box.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { FETCH_MS = 2000, SLACK_US = 200 * 1000 };

/* ---- the proxy ---- */

static const struct net_call *net_call_find(const struct box *b, const struct id *id)
{
    for (size_t i = 0; i < NET_CALLS && i < b->net.ncalls; i++)
        if (strcmp(b->net.calls[i].id.z, id->z) == 0)
            return &b->net.calls[i];
    return NULL;
}

static struct net_call *call_at(struct box *b, int64_t us, int64_t slack_us)
{
    size_t n = b->net.ncalls < NET_CALLS ? b->net.ncalls : NET_CALLS;
    for (size_t i = 0; i < n; i++) {
        struct net_call *c = &b->net.calls[(b->net.ncalls - 1 - i) % NET_CALLS];
        if (us >= c->began_us - slack_us && (!c->ended_us || us <= c->ended_us + slack_us))
            return c;
    }
    return NULL;
}

/* One call runs at a time, and what the proxy saw then is its doing: that of the processes that it,
 * or an earlier one, left running, too. The clocks are one; the word that a call began takes a
 * moment. */
static struct net_call *call_during(struct box *b, int64_t us)
{
    struct net_call *c = call_at(b, us, 0);
    if (c)
        return c;
    /* The word that a call began comes on another socket: it may be read after the decision. */
    list_for_each (it, &b->calls) {
        const struct box_call *one = LIST_ENTRY(it, struct box_call, node);
        if (!one->asked || net_call_find(b, &one->id))
            continue;
        net_call_began(b, &one->id);
        return &b->net.calls[(b->net.ncalls - 1) % NET_CALLS];
    }
    return call_at(b, us, SLACK_US);
}

/* Once for each host of a sandbox: an agent must not fill the log. */
static bool first_refusal(struct box *b, const struct egress_decision *d)
{
    char key[512];
    snprintf(key, sizeof key, STR_FMT ":%u %s", STR_ARG(str_take(d->host, HOST_MAX)),
             (unsigned)d->port, egress_reason_name(d->reason));
    uint64_t hash = map_hash(str_z(key));
    size_t n = b->net.nlogged < NET_LOGGED ? b->net.nlogged : NET_LOGGED;
    for (size_t i = 0; i < n; i++)
        if (b->net.logged[i] == hash)
            return false;
    b->net.logged[b->net.nlogged++ % NET_LOGGED] = hash;
    return true;
}

static void log_refusal(struct box *b, const struct egress_decision *d, const char *call)
{
    char host[HOST_MAX], port[16], session[ID_MAX];
    if (!b->s->net.on_egress || !first_refusal(b, d) || !str_copyz(host, sizeof host, d->host) ||
        !str_copyz(session, sizeof session, d->session))
        return;
    snprintf(port, sizeof port, "%u", (unsigned)d->port);
    log_line(LOG_WARN, "a sandbox was refused a connection", "session", session, "host", host,
             "port", port, "reason", egress_reason_name(d->reason), "tool_use", call, NULL);
}

static void remember_refusal(struct net_call *c, const struct egress_decision *d)
{
    if (c->ndenied < NET_DENIALS) {
        struct net_denial *to = &c->denied[c->ndenied];
        (void)str_copyz(to->host, sizeof to->host, str_take(d->host, sizeof to->host - 1));
        (void)str_copyz(to->detail, sizeof to->detail,
                        str_utf8_take(d->detail, sizeof to->detail - 1));
        to->port = d->port;
        for (size_t i = 0; i < c->ndenied; i++)
            if (strcmp(c->denied[i].host, to->host) == 0 && c->denied[i].port == to->port)
                return; /* tried again */
    }
    c->ndenied++;
}

static void on_decision(void *arg, const struct egress_decision *d)
{
    struct sandboxes *s = arg;
    struct box *b = s->closing ? NULL : box_find(s, d->session);
    struct net_call *c = b ? call_during(b, d->started_us) : NULL;
    s->stats.egress[d->reason]++;
    if (b && egress_reason_denied(d->reason)) {
        log_refusal(b, d, c ? c->id.z : NULL);
        if (c)
            remember_refusal(c, d);
    }
    const struct sandbox_egress e = {.decision = d, .tool_use_id = c ? id_str(&c->id) : STR_NONE};
    if (s->net.on_egress)
        s->net.on_egress(s->net.arg, &e);
}

static void on_trouble(void *arg, const struct err *err, int64_t retry_ms)
{
    struct sandboxes *s = arg;
    s->stats.egress_troubles += retry_ms > 0;
    log_err(LOG_WARN, "the egress proxy", err);
}

int net_init(struct net *n, const struct sandbox_config *cfg, struct err *err)
{
    *n = (struct net){.settings = cfg->egress, .on_egress = cfg->on_egress, .arg = cfg->egress_arg};
    if (!n->settings)
        return 0;
    if (cfg->egress_program) {
        if (!str_copyz(n->program, sizeof n->program, str_z(cfg->egress_program)))
            return err_set(err, ERR_INVALID, "the path of the egress proxy is too long");
        return 0;
    }
    ssize_t len = readlink("/proc/self/exe", n->program, sizeof n->program - 1);
    if (len < 0)
        return err_sys(err, errno, "/proc/self/exe");
    n->program[len] = '\0';
    return 0;
}

static int need_proxy(struct sandboxes *s, struct err *err)
{
    const struct egress_events ev = {on_decision, on_trouble, s};
    if (s->net.egress)
        return 0;
    return egress_start(s->loop, s->net.program, s->net.settings, &ev, &s->net.egress, err);
}

void net_close(struct net *n, void (*closed)(void *arg), void *arg)
{
    if (n->egress)
        egress_close(TAKE_PTR(n->egress), closed, arg);
    else
        closed(arg);
}

/* ---- the socket ---- */

struct net_fetch {
    struct loop_work work;
    struct sandboxes *s;
    struct box *box; /* NULL: gone */
    char socket[BOX_SOCKET_MAX];
    int fd;
    struct err err;
};

/* The hand may be in the wrong hands: only a socket that listens is passed on. It is one of the
 * sandbox's own network, whatever it is: nothing inside can make another. */
static bool listens(int fd)
{
    int domain = 0, type = 0, accepts = 0;
    socklen_t len = sizeof(int);
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_INET &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) == 0 && accepts;
}

static int ask(const char *path, struct err *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = FETCH_MS / 1000};
    if (!str_copyz(a.sun_path, sizeof a.sun_path, str_z(path)))
        return err_set(err, ERR_INVALID, "the socket's path is too long");
    AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0 ||
        connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        return err_sys(err, errno, "%s", path);
    AUTO_BUF struct buf out = BUF_INIT(256);
    size_t at = proto_begin(&out);
    proto_write_state(&out, "network", STR_NONE, NULL);
    proto_end(&out, at);
    int rc = fd_write_all(fd, buf_view(&out), err);
    return rc ? rc : TAKE_FD(fd);
}

/* A descriptor comes with bytes of its own, behind the hello. */
int net_receive(int from, int *ret_fd, struct err *err)
{
    int64_t until_us = clock_mono_us() + FETCH_MS * 1000;
    while (clock_mono_us() < until_us) {
        char bytes[4096];
        union {
            struct cmsghdr head;
            char bytes[CMSG_SPACE(4 * sizeof(int))];
        } control;
        struct iovec iov = {bytes, sizeof bytes};
        struct msghdr m = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
        ssize_t n = recvmsg(from, &m, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        int got = -1;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
            size_t count =
                c->cmsg_type == SCM_RIGHTS ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
            for (size_t i = 0; i < count; i++) {
                int fd;
                memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                fd_close(got);
                got = fd;
            }
        }
        if (got < 0)
            continue;
        if (listens(got)) {
            *ret_fd = got;
            return 0;
        }
        fd_close(got);
        break;
    }
    return err_set(err, ERR_UNAVAILABLE, "the sandbox's hand gave no socket for the egress proxy");
}

static void fetch_work(struct loop_work *w)
{
    struct net_fetch *f = CONTAINER_OF(w, struct net_fetch, work);
    AUTO_FD int fd = ask(f->socket, &f->err);
    if (fd >= 0 && net_receive(fd, &f->fd, &f->err))
        f->fd = -1;
}

static int add(struct box *b, int fd, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, (size_t)16 << 20);
    const struct json *doc = NULL;
    struct egress_policy policy = {.unrestricted = false};
    struct str text = str_z(b->environment);
    /* One that cannot be read allows nothing, and says so to whoever tries. */
    if (text.len && json_parse(&a, text, JSON_ALLOW_DUPLICATES, &doc, NULL) != 0)
        doc = NULL;
    const struct json *config = json_get(doc, "config") ? json_get(doc, "config") : doc;
    int rc = net_policy(&a, config, NULL, 0, &policy, err);
    if (rc == 0)
        rc = need_proxy(b->s, err);
    if (rc) {
        fd_close(fd);
        return rc;
    }
    return egress_add_socket(b->s->net.egress, id_str(&b->id), &policy, fd, err);
}

static void fetched(struct loop_work *w)
{
    struct net_fetch *f = CONTAINER_OF(w, struct net_fetch, work);
    struct sandboxes *s = f->s;
    struct box *b = f->box;
    struct err err = f->err;
    if (!b || s->closing) {
        fd_close(f->fd);
    } else {
        b->net.fetch = NULL;
        int rc = f->fd < 0 ? err.code : add(b, f->fd, &err);
        b->net.added = rc == 0;
        if (rc) {
            err_wrap(&err, "%s", b->id.z);
            log_err(LOG_WARN, "a sandbox stays without its network", &err);
        }
    }
    mem_free(f);
    sandboxes_job_ended(s);
}

int net_lend(struct sandboxes *s, struct str name, const struct egress_policy *policy, int fd,
             struct err *err)
{
    int rc = need_proxy(s, err);
    if (rc) {
        fd_close(fd);
        return rc;
    }
    return egress_add_socket(s->net.egress, name, policy, fd, err);
}

void net_unlend(struct sandboxes *s, struct str name)
{
    if (s->net.egress)
        egress_remove(s->net.egress, name);
}

void net_up(struct box *b)
{
    if (!b->s->host.network || b->copy || b->net.added || b->net.fetch || b->s->closing)
        return;
    struct net_fetch *f = mem_zalloc(sizeof *f);
    f->s = b->s;
    f->box = b;
    f->fd = -1;
    memcpy(f->socket, b->record.socket, sizeof f->socket);
    b->net.fetch = f;
    sandboxes_job_began(b->s);
    loop_work(b->s->loop, &f->work, fetch_work, fetched);
}

void net_orphan(struct box *b)
{
    if (b->net.fetch)
        b->net.fetch->box = NULL;
    b->net.fetch = NULL;
}

void net_down(struct box *b)
{
    net_orphan(b);
    if (b->net.added && b->s->net.egress)
        egress_remove(b->s->net.egress, id_str(&b->id));
    b->net.added = false;
}

/* ---- calls ---- */

void net_call_began(struct box *b, const struct id *id)
{
    struct net_call *last = b->net.ncalls ? &b->net.calls[(b->net.ncalls - 1) % NET_CALLS] : NULL;
    if (last && strcmp(last->id.z, id->z) == 0)
        return; /* told again after a reconnect */
    struct net_call *c = &b->net.calls[b->net.ncalls++ % NET_CALLS];
    *c = (struct net_call){.id = *id, .began_us = clock_unix_us()};
}

void net_call_ended(struct box *b, const struct id *id)
{
    for (size_t i = 0; i < NET_CALLS && i < b->net.ncalls; i++)
        if (strcmp(b->net.calls[i].id.z, id->z) == 0 && !b->net.calls[i].ended_us)
            b->net.calls[i].ended_us = clock_unix_us();
}

const char *net_explain(const struct box *b, const struct id *id, struct buf *text)
{
    const struct net_call *c = net_call_find(b, id);
    if (!c || !c->ndenied)
        return NULL;
    for (size_t i = 0; i < c->ndenied && i < NET_DENIALS; i++) {
        const struct net_denial *d = &c->denied[i];
        buf_printf(text, "%s[egress denied: ", text->len ? "\n" : "");
        if (d->host[0])
            buf_printf(text, "%s:%u. ", d->host, (unsigned)d->port);
        buf_printf(text, "%s]", d->detail);
    }
    if (c->ndenied > NET_DENIALS)
        buf_printf(text, "\n[egress denied: %zu more connections]", c->ndenied - NET_DENIALS);
    return "egress_denied";
}

/* Its own memory: box and call may go before it. */
struct settle {
    struct loop_post post;
    struct sandboxes *s;
    struct id session, call;
    bool again;
    void (*then)(struct box *, struct box_call *, struct str);
    size_t len;
    char content[];
};

static void settled(struct loop_post *post)
{
    struct settle *t = CONTAINER_OF(post, struct settle, post);
    struct sandboxes *s = t->s;
    if (!t->again) {
        /* Whatever was in a socket when this began has been read when the loop comes here for the
         * second time: the proxy tells the server before it tells the client. */
        t->again = true;
        loop_post(s->loop, &t->post, settled);
        return;
    }
    struct box *b = s->closing ? NULL : box_find(s, id_str(&t->session));
    struct box_call *c = NULL;
    if (b) {
        list_for_each (it, &b->calls) {
            struct box_call *one = LIST_ENTRY(it, struct box_call, node);
            if (strcmp(one->id.z, t->call.z) == 0)
                c = one;
        }
    }
    if (c)
        t->then(b, c, str_n(t->content, t->len));
    mem_free(t);
    sandboxes_job_ended(s);
}

bool net_settle(struct box *b, const struct box_call *c, struct str content,
                void (*then)(struct box *b, struct box_call *c, struct str content))
{
    const struct net_call *known = net_call_find(b, &c->id);
    if (!b->net.added || !known || known->ndenied)
        return false;
    struct settle *t = mem_zalloc(sizeof *t + content.len + 1);
    t->s = b->s;
    t->session = b->id;
    t->call = c->id;
    t->then = then;
    t->len = content.len;
    memcpy(t->content, content.ptr ? content.ptr : "", content.len);
    sandboxes_job_began(b->s);
    loop_post(b->s->loop, &t->post, settled);
    return true;
}
