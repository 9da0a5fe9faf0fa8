#include "egress/egress.h"

#include "base/fd.h"
#include "base/limits.h"
#include "base/map.h"
#include "egress/policy.h"
#include "io/packet.h"
#include "io/stream.h"
#include "json/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    RETRY_MIN_MS = 50,
    RETRY_MAX_MS = 5000,
    STEADY_MS = 10 * 1000, /* who lived so long did not die of its start */
    STOP_MS = 2000,
    BACKLOG = 128,
    CONFIG_BYTES = 1024 * 1024,
    SOCKET_FD = 3,
    CONFIG_FD = 4,
};

struct member {
    char *session, *path; /* path NULL: the socket was given */
    int fd;
    struct buf message; /* what adds it, for a new process, too */
};

struct egress {
    struct loop *loop;
    char *program;
    struct buf config;
    struct egress_events ev;
    struct map members; /* session -> struct member */
    struct packet_conn *control;
    struct loop_child child;
    struct loop_timer timer; /* until the next start; while closing until the kill */
    bool running, reaped;
    bool winding_up; /* the child's handle is being closed */
    bool closing;
    int64_t started_ms, delay_ms;
    void (*closed)(void *arg);
    void *closed_arg;
};

static void start(struct egress *e);

/* ---- JSON ---- */

static void put_list(struct jw *w, const char *key, const char *const *items, size_t n)
{
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < n; i++)
        jw_z(w, items[i]);
    jw_arr_end(w);
}

static void put_package_hosts(struct jw *w, const struct egress_host *hosts, size_t n)
{
    jw_key(w, "package_hosts");
    jw_obj(w);
    for (size_t i = 0; i < n; i++) {
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = strcmp(hosts[j].name, hosts[i].name) == 0;
        if (seen)
            continue;
        jw_key(w, hosts[i].name);
        jw_arr(w);
        for (size_t j = i; j < n; j++)
            if (strcmp(hosts[j].name, hosts[i].name) == 0)
                jw_z(w, hosts[j].address);
        jw_arr_end(w);
    }
    jw_obj_end(w);
}

static void put_settings(struct buf *out, const struct egress_settings *s)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    put_list(&w, "allow_addresses", s->allow_addresses, s->nallow_addresses);
    jw_key(&w, "hosts");
    jw_obj(&w);
    for (size_t i = 0; i < s->nhosts; i++)
        jw_kz(&w, s->hosts[i].name, s->hosts[i].address);
    jw_obj_end(&w);
    jw_key(&w, "ports");
    jw_arr(&w);
    for (size_t i = 0; i < s->nports; i++)
        jw_i64(&w, s->ports[i]);
    jw_arr_end(&w);
    put_package_hosts(&w, s->package_hosts, s->npackage_hosts);
    jw_ki64(&w, "connect_ms", s->connect_ms);
    jw_ki64(&w, "idle_ms", s->idle_ms);
    jw_ki64(&w, "connections", s->connections);
    jw_obj_end(&w);
}

static void put_policy(struct buf *out, const struct egress_policy *p)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kz(&w, "networking", p->unrestricted ? "unrestricted" : "limited");
    if (!p->unrestricted) {
        put_list(&w, "allowed_hosts", p->allowed_hosts, p->nallowed_hosts);
        put_list(&w, "mcp_hosts", p->mcp_hosts, p->nmcp_hosts);
        jw_kbool(&w, "package_managers", p->package_managers);
    }
    jw_obj_end(&w);
}

static void put_message(struct buf *out, const char *type, struct str session, struct str policy)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kz(&w, "type", type);
    if (session.len)
        jw_kstr(&w, "session", session);
    if (policy.len)
        jw_kraw(&w, "policy", policy);
    jw_obj_end(&w);
}

/* ---- the process ---- */

static void trouble(struct egress *e, const struct err *err, int64_t retry_ms)
{
    if (e->ev.on_trouble)
        e->ev.on_trouble(e->ev.arg, err, retry_ms);
}

static int64_t next_delay(const struct egress *e)
{
    int64_t ms = e->delay_ms ? e->delay_ms * 2 : RETRY_MIN_MS;
    return ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS;
}

static void finished(struct loop_timer *t)
{
    struct egress *e = CONTAINER_OF(t, struct egress, timer);
    void (*closed)(void *) = e->closed;
    void *arg = e->closed_arg;
    buf_fini(&e->config);
    mem_free(e->program);
    mem_free(e);
    if (closed)
        closed(arg);
}

static void on_retry(struct loop_timer *t)
{
    start(CONTAINER_OF(t, struct egress, timer));
}

static void retry_later(struct egress *e)
{
    e->delay_ms = next_delay(e);
    loop_timer_start(&e->timer, e->delay_ms, on_retry);
}

static void on_child_closed(struct loop_child *child)
{
    struct egress *e = CONTAINER_OF(child, struct egress, child);
    e->winding_up = false;
    if (e->closing)
        loop_timer_close(&e->timer, finished);
    else
        retry_later(e);
}

/* The process is over when it is reaped and its last words are read. */
static void both_gone(struct egress *e)
{
    if (!e->running || !e->reaped || e->control)
        return;
    e->running = false;
    e->winding_up = true;
    loop_child_close(&e->child, on_child_closed);
}

static void on_exited(struct loop_child *child, int status)
{
    struct egress *e = CONTAINER_OF(child, struct egress, child);
    e->reaped = true;
    if (loop_now_ms(e->loop) - e->started_ms > STEADY_MS)
        e->delay_ms = 0;
    if (!e->closing) {
        struct err err;
        err_set(&err, ERR_INTERNAL, "the egress proxy ended by itself (%s %d); it is started again",
                WIFSIGNALED(status) ? "signal" : "exit code",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        trouble(e, &err, next_delay(e));
    }
    both_gone(e);
}

static void on_control_close(void *arg, const struct err *err)
{
    struct egress *e = arg;
    (void)err;
    e->control = NULL;
    (void)loop_child_kill(&e->child, SIGKILL); /* deaf; mostly it is gone already */
    both_gone(e);
}

static void decide(struct egress *e, const struct json *msg)
{
    struct egress_decision d = {.session = json_get_str(msg, "session"),
                                .host = json_get_str(msg, "host"),
                                .address = json_get_str(msg, "address"),
                                .detail = json_get_str(msg, "detail"),
                                .connect = str_eqz(json_get_str(msg, "protocol"), "connect")};
    struct str reason = json_get_str(msg, "reason");
    int64_t up = 0, down = 0, port = 0;
    while (d.reason + 1 < EGRESS_REASON_COUNT && !str_eqz(reason, egress_reason_name(d.reason)))
        d.reason++;
    if (json_i64(json_get(msg, "port"), &port))
        d.port = (uint16_t)port;
    (void)json_i64(json_get(msg, "started_us"), &d.started_us);
    (void)json_i64(json_get(msg, "duration_us"), &d.duration_us);
    if (json_i64(json_get(msg, "bytes_up"), &up) && json_i64(json_get(msg, "bytes_down"), &down)) {
        d.bytes_up = (uint64_t)up;
        d.bytes_down = (uint64_t)down;
    }
    e->ev.on_decision(e->ev.arg, &d);
}

static void on_packet(void *arg, struct str payload, int fd)
{
    struct egress *e = arg;
    AUTO_ARENA struct arena a;
    arena_init(&a, CONFIG_BYTES);
    const struct json *msg = NULL;
    struct err err = {.code = 0};
    fd_close(fd); /* none is expected */
    if (json_parse(&a, payload, 0, &msg, &err)) {
        trouble(e, &err, 0);
    } else if (str_eqz(json_get_str(msg, "type"), "decision")) {
        decide(e, msg);
    } else {
        err_set(&err, ERR_INTERNAL, "the egress proxy refused the sandbox of " STR_FMT ": " STR_FMT,
                STR_ARG(json_get_str(msg, "session")), STR_ARG(json_get_str(msg, "message")));
        trouble(e, &err, 0);
    }
}

static void send_member(struct egress *e, const struct member *m)
{
    struct err err;
    if (e->control && packet_send(e->control, buf_view(&m->message), m->fd, &err))
        trouble(e, &err, 0);
}

/* Nothing of the server's environment, which may hold keys. */
static size_t environment(char *out[], size_t max, char text[][256])
{
    static const char *const passed[] = {"RES_OPTIONS", "ASAN_OPTIONS", "UBSAN_OPTIONS"};
    size_t n = 0;
    snprintf(text[n], 256, "UV_THREADPOOL_SIZE=32"); /* lookups block a worker each */
    out[n] = text[n];
    n++;
    for (size_t i = 0; i < COUNT_OF(passed) && n + 1 < max; i++) {
        const char *value = getenv(passed[i]);
        if (!value || snprintf(text[n], 256, "%s=%s", passed[i], value) >= 256)
            continue;
        out[n] = text[n];
        n++;
    }
    out[n] = NULL;
    return n;
}

static int config_file(struct egress *e, struct err *err)
{
    AUTO_FD int fd = memfd_create("egress", MFD_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "cannot make a file in memory");
    int rc = fd_write_all(fd, buf_view(&e->config), err);
    if (rc == 0 && lseek(fd, 0, SEEK_SET) < 0)
        rc = err_sys(err, errno, "cannot rewind a file in memory");
    return rc ? rc : TAKE_FD(fd);
}

static int spawn(struct egress *e, int theirs, struct err *err)
{
    AUTO_FD int config = config_file(e, err);
    if (config < 0)
        return config;
    char text[4][256], *envp[8];
    environment(envp, COUNT_OF(envp), text);
    const char *argv[] = {e->program, "egress", "--socket-fd", "3", "--config-fd", "4", NULL};
    const int fds[] = {-1, -1, STDERR_FILENO, [SOCKET_FD] = theirs, [CONFIG_FD] = config};
    const struct loop_spawn how = {.file = e->program,
                                   .argv = argv,
                                   .envp = (const char *const *)envp,
                                   .fds = fds,
                                   .nfds = COUNT_OF(fds),
                                   .cwd = "/",
                                   .new_session = true};
    return loop_spawn(e->loop, &e->child, &how, on_exited, err);
}

static int try_start(struct egress *e, struct err *err)
{
    const struct packet_events ev = {
        .on_packet = on_packet, .on_close = on_control_close, .arg = e};
    int fds[2];
    int rc = packet_pair(fds, err);
    if (rc)
        return rc;
    rc = spawn(e, fds[1], err);
    fd_close(fds[1]);
    if (rc) {
        fd_close(fds[0]);
        return rc;
    }
    e->running = true;
    e->reaped = false;
    e->started_ms = loop_now_ms(e->loop);
    rc = packet_open(e->loop, fds[0], &ev, &e->control, err);
    if (rc)
        (void)loop_child_kill(&e->child, SIGKILL); /* its end starts the next one */
    return 0;
}

static void start(struct egress *e)
{
    struct err err = {.code = 0};
    if (try_start(e, &err)) {
        retry_later(e);
        trouble(e, &err, e->delay_ms);
        return;
    }
    size_t at = 0;
    for (const struct member *m; (m = map_next(&e->members, &at, NULL)) != NULL;)
        send_member(e, m);
}

/* ---- the interface ---- */

int egress_start(struct loop *l, const char *program, const struct egress_settings *settings,
                 const struct egress_events *ev, struct egress **out, struct err *err)
{
    struct egress *e = mem_zalloc(sizeof *e);
    *e = (struct egress){.loop = l,
                         .program = mem_dupz(program, strlen(program)),
                         .config = BUF_INIT(CONFIG_BYTES),
                         .ev = *ev};
    put_settings(&e->config, settings);
    struct proxy_settings check = {.nallow = 0};
    int rc = buf_ok(&e->config) ? proxy_settings_read(&check, buf_view(&e->config), err)
                                : err_set(err, ERR_TOO_LARGE, "the egress settings are too large");
    proxy_settings_fini(&check);
    if (rc == 0)
        rc = try_start(e, err);
    if (rc) {
        buf_fini(&e->config);
        mem_free(e->program);
        mem_free(e);
        return rc;
    }
    loop_timer_init(l, &e->timer);
    *out = e;
    return 0;
}

int egress_pid(const struct egress *e)
{
    return e->running && !e->reaped ? e->child.pid : 0;
}

static void member_free(struct member *m)
{
    if (m->fd >= 0 && m->path)
        unlink(m->path);
    fd_close(m->fd);
    buf_fini(&m->message);
    mem_free(m->session);
    mem_free(m->path);
    mem_free(m);
}

static int check_policy(struct str text, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 64 * CONFIG_BYTES);
    const struct json *json = NULL;
    struct policy p = {.unrestricted = false};
    int rc = json_parse(&a, text, 0, &json, err);
    if (rc == 0)
        rc = policy_read(&p, json, err);
    policy_fini(&p);
    return rc;
}

static int member_new(const struct egress *e, struct str session,
                      const struct egress_policy *policy, struct member **out, struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(LIMIT_EGRESS_PACKET);
    if (map_get(&e->members, session))
        return err_set(err, ERR_EXISTS, "the session has its egress already");
    put_policy(&text, policy);
    struct member *m = mem_zalloc(sizeof *m);
    *m = (struct member){.session = mem_dupz(session.ptr, session.len),
                         .fd = -1,
                         .message = BUF_INIT(LIMIT_EGRESS_PACKET)};
    put_message(&m->message, "add", session, buf_view(&text));
    int rc = buf_ok(&text) && buf_ok(&m->message)
                 ? check_policy(buf_view(&text), err)
                 : err_set(err, ERR_TOO_LARGE, "the list of allowed hosts is too long");
    if (rc)
        member_free(m);
    else
        *out = m;
    return rc;
}

static void member_add(struct egress *e, struct member *m)
{
    map_put(&e->members, str_z(m->session), m);
    send_member(e, m);
}

int egress_add(struct egress *e, struct str session, const struct egress_policy *policy,
               const char *path, struct err *err)
{
    struct member *m;
    int rc = member_new(e, session, policy, &m, err);
    if (rc)
        return rc;
    int fd = socket_listen(path, BACKLOG, err);
    if (fd >= 0) {
        m->fd = fd;
        m->path = mem_dupz(path, strlen(path));
    }
    rc = fd < 0 ? fd : 0;
    /* The sandbox's processes may have another user's rights. */
    if (rc == 0 && chmod(path, 0666))
        rc = err_sys(err, errno, "cannot open %s to the sandbox", path);
    if (rc)
        member_free(m);
    else
        member_add(e, m);
    return rc;
}

int egress_add_socket(struct egress *e, struct str session, const struct egress_policy *policy,
                      int fd, struct err *err)
{
    struct member *m;
    int rc = member_new(e, session, policy, &m, err);
    if (rc) {
        fd_close(fd);
        return rc;
    }
    m->fd = fd;
    member_add(e, m);
    return 0;
}

void egress_remove(struct egress *e, struct str session)
{
    struct member *m = map_remove(&e->members, session);
    if (!m)
        return;
    AUTO_BUF struct buf out = BUF_INIT(LIMIT_EGRESS_PACKET);
    struct err err;
    put_message(&out, "remove", session, STR_NONE);
    if (e->control && packet_send(e->control, buf_view(&out), -1, &err))
        trouble(e, &err, 0);
    member_free(m);
}

static void on_slow(struct loop_timer *t)
{
    struct egress *e = CONTAINER_OF(t, struct egress, timer);
    (void)loop_child_kill(&e->child, SIGKILL);
}

void egress_close(struct egress *e, void (*closed)(void *arg), void *arg)
{
    e->closing = true;
    e->closed = closed;
    e->closed_arg = arg;
    size_t at = 0;
    for (struct member *m; (m = map_next(&e->members, &at, NULL)) != NULL;)
        member_free(m);
    map_fini(&e->members);
    if (!e->running) {
        if (!e->winding_up) /* else its end closes the rest */
            loop_timer_close(&e->timer, finished);
        return;
    }
    AUTO_BUF struct buf out = BUF_INIT(256);
    struct err err;
    put_message(&out, "stop", STR_NONE, STR_NONE);
    if (!e->control || packet_send(e->control, buf_view(&out), -1, &err))
        (void)loop_child_kill(&e->child, SIGKILL);
    loop_timer_start(&e->timer, STOP_MS, on_slow);
}
