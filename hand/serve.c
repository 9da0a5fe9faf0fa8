/* The hand's loop: connections, the shell, the children, signals, time. */
#include "hand/hand.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READ_CHUNK = 65536, READ_MAX = 1 << 20, KEEP_BUFFER = 1 << 20, ALONE_MS = 5000 };

/* ---- connections ---- */

static struct buf conn_buf(void)
{
    return BUF_INIT((size_t)LIMIT_HAND_FRAME + PROTO_HEAD + READ_MAX + READ_CHUNK);
}

static void conn_close(struct hand *h, struct conn *c)
{
    fd_close(TAKE_FD(c->fd));
    buf_fini(&c->in);
    buf_fini(&c->out);
    for (size_t i = 0; i < HAND_CONNS; i++)
        if (h->conns[i].fd >= 0)
            return;
    h->alone_since_us = clock_mono_us();
}

/* Gives big buffers back: most frames are small. */
static void shrink(struct buf *b)
{
    if (b->len == 0 && b->cap > KEEP_BUFFER) {
        buf_fini(b);
        *b = conn_buf();
    }
}

static void conn_flush(struct hand *h, struct conn *c)
{
    if (!buf_ok(&c->out)) { /* it does not read: it will ask again on a new connection */
        conn_close(h, c);
        return;
    }
    while (c->fd >= 0 && c->out.len) {
        ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            conn_close(h, c);
            return;
        }
        buf_consume(&c->out, (size_t)n);
    }
    shrink(&c->out);
    /* A descriptor travels with bytes of its own, so behind what was queued. */
    if (c->fd >= 0 && c->wants_network && network_send(c->fd, h->proxy_fd))
        c->wants_network = false;
}

void hand_send_state(struct conn *to, const char *op, struct str id, const char *state)
{
    size_t at = proto_begin(&to->out);
    proto_write_state(&to->out, op, id, state);
    proto_end(&to->out, at);
}

static void send_result(struct conn *to, const struct call *c)
{
    struct proto_result r = {.id = str_z(c->id),
                             .content = str_n(c->content, c->content_len),
                             .reason = c->reason[0] ? str_z(c->reason) : STR_NONE,
                             .is_error = c->is_error};
    size_t at = proto_begin(&to->out);
    proto_write_result(&to->out, &r);
    proto_end(&to->out, at);
}

void hand_broadcast_result(struct hand *h, const struct call *c)
{
    for (size_t i = 0; i < HAND_CONNS; i++)
        if (h->conns[i].fd >= 0)
            send_result(&h->conns[i], c);
}

static void send_started(struct conn *to, const struct call *c)
{
    size_t at = proto_begin(&to->out);
    struct jw w = jw_to(&to->out);
    jw_obj(&w);
    jw_kz(&w, "op", "started");
    jw_kz(&w, "id", c->id);
    jw_ki64(&w, "timeout_ms", c->timeout_ms);
    jw_obj_end(&w);
    proto_end(&to->out, at);
}

void hand_broadcast_started(struct hand *h, const struct call *c)
{
    for (size_t i = 0; i < HAND_CONNS; i++)
        if (h->conns[i].fd >= 0)
            send_started(&h->conns[i], c);
}

static void send_refused(struct conn *to, struct str id, const char *why)
{
    size_t at = proto_begin(&to->out);
    struct jw w = jw_to(&to->out);
    jw_obj(&w);
    jw_kz(&w, "op", "refused");
    jw_kstr(&w, "id", id);
    jw_kz(&w, "message", why);
    jw_obj_end(&w);
    proto_end(&to->out, at);
}

static void conn_accept(struct hand *h)
{
    int fd = accept4(h->cfg.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    for (size_t i = 0; i < HAND_CONNS; i++) {
        struct conn *c = &h->conns[i];
        if (c->fd >= 0)
            continue;
        *c = (struct conn){.fd = fd, .in = conn_buf(), .out = conn_buf()};
        h->alone_since_us = 0;
        size_t at = proto_begin(&c->out);
        struct jw w = jw_to(&c->out);
        jw_obj(&w);
        jw_kz(&w, "op", "hello");
        jw_ki64(&w, "version", PROTO_VERSION);
        jw_ki64(&w, "pid", getpid());
        jw_ki64(&w, "calls", (int64_t)h->ncalls);
        jw_obj_end(&w);
        proto_end(&c->out, at);
        return;
    }
    close(fd);
}

/* ---- requests ---- */

static void tell(struct hand *h, struct conn *from, struct str id, const struct call *c)
{
    if (!c)
        hand_send_state(from, "state", id, call_forgotten(h, id) ? "acknowledged" : "unknown");
    else if (c->state == CALL_DONE)
        send_result(from, c);
    else if (c->state == CALL_RUNNING)
        send_started(from, c);
    else
        hand_send_state(from, "state", id, "queued");
}

static void on_run(struct hand *h, struct conn *from, const struct proto_request *r)
{
    struct call *c = call_find(h, r->id);
    char why[128];
    if (c || call_forgotten(h, r->id))
        tell(h, from, r->id, c);
    else if (!call_add(h, r, why))
        send_refused(from, r->id, why);
}

static void ack_all(struct hand *h)
{
    list_for_each_safe (it, &h->calls) {
        struct call *c = LIST_ENTRY(it, struct call, node);
        if (c->state == CALL_DONE)
            call_forget(h, c);
    }
}

static void on_request(struct hand *h, struct conn *from, const struct proto_request *r)
{
    struct call *c = r->id.len ? call_find(h, r->id) : NULL;
    switch (r->op) {
    case PROTO_RUN: on_run(h, from, r); break;
    case PROTO_QUERY: tell(h, from, r->id, c); break;
    case PROTO_ACK:
        if (c && c->state == CALL_DONE)
            call_forget(h, c);
        break;
    case PROTO_ACK_ALL: ack_all(h); break;
    case PROTO_CANCEL:
        if (c)
            call_cancel(h, c);
        break;
    case PROTO_LIMIT: {
        char reason[PROTO_REASON_MAX];
        if (str_copyz(reason, sizeof reason, r->reason))
            calls_limit(h, reason, r->message);
        break;
    }
    case PROTO_PING: hand_send_state(from, "pong", STR_NONE, NULL); break;
    case PROTO_SHUTDOWN: h->quit = true; break;
    case PROTO_NETWORK: from->wants_network = true; break;
    }
}

static void on_payload(struct hand *h, struct conn *from, struct str payload)
{
    struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    struct proto_request r;
    struct err err = {.code = 0};
    if (proto_decode(&a, payload, &r, &err) == 0) {
        on_request(h, from, &r);
    } else {
        /* The id, if it can be made out: a call must not wait for ever for a frame gone bad. */
        const struct json *doc;
        struct str id = STR_NONE;
        if (json_parse(&a, payload, JSON_ALLOW_DUPLICATES, &doc, NULL) == 0)
            id = json_get_str(doc, "id");
        send_refused(from, id, err.msg);
    }
    arena_fini(&a);
}

static void conn_readable(struct hand *h, struct conn *c)
{
    for (size_t total = 0; total < READ_MAX;) {
        char *to = buf_reserve(&c->in, READ_CHUNK);
        ssize_t n = to ? recv(c->fd, to, READ_CHUNK, MSG_DONTWAIT) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            conn_close(h, c);
            return;
        }
        buf_commit(&c->in, (size_t)n);
        total += (size_t)n;
    }
    struct str payload;
    size_t used;
    struct err err;
    int rc;
    while ((rc = proto_cut(&c->in, LIMIT_HAND_FRAME, &payload, &used, &err)) > 0) {
        on_payload(h, c, payload);
        buf_consume(&c->in, used);
    }
    if (rc < 0)
        conn_close(h, c);
    else
        shrink(&c->in);
}

/* ---- children ---- */

static void reap(struct hand *h)
{
    struct signalfd_siginfo info;
    while (read(h->signal_fd, &info, sizeof info) == sizeof info)
        if (info.ssi_signo == SIGTERM)
            h->quit = true;
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == h->shell.pid)
            shell_exited(h, status);
        list_for_each (it, &h->calls) {
            struct call *c = LIST_ENTRY(it, struct call, node);
            if (c->pid == pid)
                c->pid = 0; /* its pipe says the rest */
        }
    }
}

/* ---- the loop ---- */

enum role { ROLE_SIGNAL, ROLE_LISTEN, ROLE_CONN, ROLE_OUT, ROLE_STATUS, ROLE_IN, ROLE_CHILD };

struct polls {
    struct pollfd fds[HAND_POLLS];
    enum role role[HAND_POLLS];
    void *who[HAND_POLLS];
    size_t n;
};

static void add(struct polls *p, int fd, short events, enum role role, void *who)
{
    if (fd < 0 || p->n == HAND_POLLS)
        return;
    p->fds[p->n] = (struct pollfd){.fd = fd, .events = events};
    p->role[p->n] = role;
    p->who[p->n++] = who;
}

static void collect(struct hand *h, struct polls *p)
{
    p->n = 0;
    add(p, h->signal_fd, POLLIN, ROLE_SIGNAL, NULL);
    add(p, h->cfg.listen_fd, POLLIN, ROLE_LISTEN, NULL);
    for (size_t i = 0; i < HAND_CONNS; i++) {
        struct conn *c = &h->conns[i];
        add(p, c->fd, (short)(c->out.len ? POLLIN | POLLOUT : POLLIN), ROLE_CONN, c);
    }
    /* Output before the report that the command has ended. */
    add(p, h->shell.out, POLLIN, ROLE_OUT, NULL);
    add(p, h->shell.status, POLLIN, ROLE_STATUS, NULL);
    if (h->shell.script.len)
        add(p, h->shell.in, POLLOUT, ROLE_IN, NULL);
    list_for_each (it, &h->calls) {
        struct call *c = LIST_ENTRY(it, struct call, node);
        add(p, c->pipe, POLLIN, ROLE_CHILD, c);
    }
}

static void on_ready(struct hand *h, struct polls *p, size_t i)
{
    int fd = p->fds[i].fd;
    struct conn *conn = p->who[i];
    switch (p->role[i]) {
    case ROLE_SIGNAL: reap(h); break;
    case ROLE_LISTEN: conn_accept(h); break;
    case ROLE_CONN:
        if (conn->fd == fd && p->fds[i].revents & POLLOUT)
            conn_flush(h, conn);
        if (conn->fd == fd && p->fds[i].revents & (POLLIN | POLLHUP | POLLERR))
            conn_readable(h, conn);
        break;
    /* What came earlier in this round may have closed a descriptor, or another has its number. */
    case ROLE_OUT:
        if (h->shell.out == fd)
            shell_readable(h);
        break;
    case ROLE_STATUS:
        if (h->shell.status == fd)
            shell_reported(h);
        break;
    case ROLE_IN:
        if (h->shell.in == fd)
            shell_writable(h);
        break;
    case ROLE_CHILD:
        list_for_each (it, &h->calls) {
            struct call *c = LIST_ENTRY(it, struct call, node);
            if (c == p->who[i] && c->pipe == fd) {
                child_readable(h, c);
                break;
            }
        }
        break;
    }
}

static bool watching(const struct hand *h)
{
    if (!h->cfg.watch_pids && !h->cfg.watch_memory_mb)
        return false;
    return h->shell.call || children_running(h, false);
}

static int wait_ms(const struct hand *h, int64_t now_us)
{
    int64_t until = calls_next_deadline_us(h);
    if (h->alone_since_us && h->alone_since_us + h->cfg.grace_ms * 1000 < until)
        until = h->alone_since_us + h->cfg.grace_ms * 1000;
    if (h->alone_since_us && now_us + ALONE_MS * 1000 < until)
        until = now_us + ALONE_MS * 1000;
    if (watching(h) && now_us + HAND_WATCH_MS * 1000 < until)
        until = now_us + HAND_WATCH_MS * 1000;
    if (until == INT64_MAX)
        return -1;
    int64_t ms = (until - now_us + 999) / 1000;
    return ms < 0 ? 0 : ms > 60000 ? 60000 : (int)ms;
}

static void watch(struct hand *h, int64_t now_us, int64_t *next_us)
{
    if (!watching(h) || now_us < *next_us)
        return;
    *next_us = now_us + HAND_WATCH_MS * 1000;
    const char *reason;
    char message[160];
    if (proc_over_limit(h, &reason, message))
        calls_limit(h, reason, str_z(message));
}

/* Without a server, is there anything left to wait for? Not after the grace, and not when the
 * session's files were removed: whoever did that will not come back. */
static bool abandoned(const struct hand *h, int64_t now_us)
{
    struct stat st;
    if (!h->alone_since_us)
        return false;
    if (now_us - h->alone_since_us >= h->cfg.grace_ms * 1000)
        return true;
    return now_us - h->alone_since_us >= ALONE_MS * 1000 &&
           (stat(h->cfg.workdir, &st) < 0 || st.st_nlink == 0);
}

static void loop(struct hand *h)
{
    static struct polls p;
    int64_t next_watch_us = 0;
    while (!h->quit) {
        calls_schedule(h);
        for (size_t i = 0; i < HAND_CONNS; i++)
            if (h->conns[i].fd >= 0)
                conn_flush(h, &h->conns[i]);
        collect(h, &p);
        int n = poll(p.fds, p.n, wait_ms(h, clock_mono_us()));
        if (n < 0 && errno != EINTR)
            break;
        for (size_t i = 0; n > 0 && i < p.n; i++)
            if (p.fds[i].revents)
                on_ready(h, &p, i);
        int64_t now_us = clock_mono_us();
        calls_timers(h, now_us);
        watch(h, now_us, &next_watch_us);
        if (abandoned(h, now_us))
            h->quit = true;
    }
}

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a spill file over the limit is an error, not the end */
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int hand_serve(const struct hand_config *cfg)
{
    struct hand *h = mem_zalloc(sizeof *h);
    h->cfg = *cfg;
    h->env = (struct tool_env){.workdir = cfg->workdir, .no_rg = cfg->no_rg};
    list_init(&h->calls);
    shell_init(&h->shell);
    for (size_t i = 0; i < HAND_CONNS; i++)
        h->conns[i].fd = -1;
    h->signal_fd = open_signals();
    if (h->signal_fd < 0)
        return 1;
    /* Orphans come to us even where we are not pid 1. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (getpid() == 1)
        shell_prepare(h); /* it starts while the rest is done */
    h->proxy_fd = cfg->proxy_port ? network_listen(cfg->proxy_port) : -1;
    if (cfg->proxy_port && h->proxy_fd < 0)
        return 1;
    h->alone_since_us = clock_mono_us();
    loop(h);
    /* As pid 1 our end is everybody's; elsewhere the shell's family must be ended. */
    shell_end(h, NULL, NULL, false);
    return 0;
}
