#include "egress/proxy.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "egress/confine.h"
#include "egress/conn.h"
#include "json/writer.h"

#include <stdio.h>
#include <unistd.h>

enum { CONFIG_BYTES = 1024 * 1024, RECORD_BYTES = 16 * 1024 };

/* ---- what is told ---- */

static void say(struct proxy *p, struct buf *text)
{
    struct err ignored;
    if (!p->control || !buf_ok(text) || packet_send(p->control, buf_view(text), -1, &ignored))
        return; /* a record is well below the bound */
    if (packet_queued(p->control) < LIMIT_EGRESS_BACKLOG || p->choked)
        return;
    p->choked = true;
    size_t at = 0;
    for (struct box *b; (b = map_next(&p->boxes, &at, NULL)) != NULL;)
        box_update(b);
}

void proxy_tell(struct proxy *p, const struct conn *c, enum egress_reason reason,
                const char *detail)
{
    char address[IP_TEXT_MAX] = "";
    if (c->has_ip)
        ip_text(&c->ip, address);
    AUTO_BUF struct buf out = BUF_INIT(RECORD_BYTES);
    struct jw w = jw_to(&out);
    jw_obj(&w);
    jw_kz(&w, "type", "decision");
    jw_kz(&w, "session", c->box->session);
    jw_kz(&w, "decision",
          reason == EGRESS_ALLOWED       ? "allowed"
          : egress_reason_denied(reason) ? "denied"
                                         : "failed");
    jw_kz(&w, "reason", egress_reason_name(reason));
    jw_kz(&w, "detail", detail);
    jw_kz(&w, "protocol", c->connect ? "connect" : "http");
    jw_kz(&w, "host", c->to.host);
    jw_ki64(&w, "port", c->to.port);
    jw_kz(&w, "address", address);
    jw_ki64(&w, "started_us", c->started_us);
    jw_ki64(&w, "duration_us", clock_mono_us() - c->started_mono_us);
    jw_ki64(&w, "bytes_up", (int64_t)c->up);
    jw_ki64(&w, "bytes_down", (int64_t)c->down);
    jw_obj_end(&w);
    say(p, &out);
}

static void tell_refused(struct proxy *p, struct str session, const struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(RECORD_BYTES);
    struct jw w = jw_to(&out);
    jw_obj(&w);
    jw_kz(&w, "type", "refused");
    jw_kstr(&w, "session", session);
    jw_kz(&w, "message", err->msg);
    jw_obj_end(&w);
    say(p, &out);
}

/* ---- sandboxes ---- */

void box_update(struct box *b)
{
    if (b->listener)
        listener_pause(b->listener,
                       b->proxy->choked || b->nconns >= b->proxy->settings.connections);
}

void box_unref(struct box *b)
{
    if (!b->removed || b->nlookups)
        return;
    policy_fini(&b->policy);
    mem_free(b->session);
    mem_free(b);
}

static void on_accept(void *arg, int fd)
{
    conn_new(arg, fd);
}

static void box_close(struct box *b)
{
    while (!list_empty(&b->conns))
        conn_end(LIST_ENTRY(b->conns.next, struct conn, node));
    listener_close(TAKE_PTR(b->listener));
    b->removed = true;
    box_unref(b);
}

static void add(struct proxy *p, struct str session, const struct json *policy, int fd)
{
    struct box *b = mem_zalloc(sizeof *b);
    struct err err = {.code = 0};
    *b = (struct box){.proxy = p, .session = mem_dupz(session.ptr, session.len)};
    list_init(&b->conns);
    list_init(&b->lookups);
    int rc = policy_read(&b->policy, policy, &err);
    if (rc == 0 && (fd < 0 || map_get(&p->boxes, session)))
        rc = err_set(&err, ERR_INVALID, fd < 0 ? "no socket came with it" : "it is there already");
    if (rc == 0)
        rc = listener_open(p->loop, fd, on_accept, b, &b->listener, &err);
    else
        fd_close(fd);
    if (rc) {
        tell_refused(p, session, &err);
        b->removed = true;
        box_unref(b);
        return;
    }
    map_put(&p->boxes, str_z(b->session), b);
    box_update(b);
}

/* ---- the control socket ---- */

static void on_packet(void *arg, struct str payload, int fd)
{
    struct proxy *p = arg;
    AUTO_ARENA struct arena a;
    arena_init(&a, 64 * CONFIG_BYTES);
    const struct json *msg = NULL;
    struct err err;
    if (json_parse(&a, payload, 0, &msg, &err)) {
        fd_close(fd);
        tell_refused(p, STR_NONE, &err);
        return;
    }
    struct str type = json_get_str(msg, "type"), session = json_get_str(msg, "session");
    if (str_eqz(type, "add") && session.len) {
        add(p, session, json_get(msg, "policy"), fd);
        return;
    }
    fd_close(fd);
    if (str_eqz(type, "remove")) {
        struct box *b = map_remove(&p->boxes, session);
        if (b)
            box_close(b);
    } else if (str_eqz(type, "stop")) {
        size_t at = 0;
        p->stopping = true;
        for (struct box *b; (b = map_next(&p->boxes, &at, NULL)) != NULL;) {
            map_remove(&p->boxes, str_z(b->session));
            box_close(b);
        }
        if (packet_queued(p->control) == 0)
            loop_stop(p->loop);
    }
}

/* The server reads again. */
static void on_drain(void *arg)
{
    struct proxy *p = arg;
    size_t at = 0;
    if (p->stopping) {
        loop_stop(p->loop);
        return;
    }
    p->choked = false;
    for (struct box *b; (b = map_next(&p->boxes, &at, NULL)) != NULL;) {
        box_update(b);
        list_for_each_safe (it, &b->conns)
            conn_read(LIST_ENTRY(it, struct conn, node));
    }
}

static void on_control_close(void *arg, const struct err *err)
{
    struct proxy *p = arg;
    (void)err;
    p->control = NULL;
    loop_stop(p->loop);
}

static int fail(const struct err *err)
{
    fprintf(stderr, "ostler egress: %s\n", err->msg);
    return 1;
}

int proxy_main(int socket_fd, int config_fd)
{
    struct proxy p = {.control = NULL};
    const struct packet_events ev = {
        .on_packet = on_packet, .on_drain = on_drain, .on_close = on_control_close, .arg = &p};
    AUTO_BUF struct buf config = BUF_INIT(CONFIG_BYTES);
    struct err err = {.code = 0};
    if (fd_read_all(config_fd, &config, &err) ||
        proxy_settings_read(&p.settings, buf_view(&config), &err))
        return fail(&err);
    fd_close(config_fd);
    confine_self();
    p.loop = loop_new();
    if (packet_open(p.loop, socket_fd, &ev, &p.control, &err))
        return fail(&err);
    loop_run(p.loop);
    /* The kernel closes everything; a worker may still wait for a resolver. */
    _exit(0);
}
