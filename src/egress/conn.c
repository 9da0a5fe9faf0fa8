#include "egress/conn.h"

#include "base/clock.h"
#include "base/limits.h"

#include <stdio.h>

enum { LINGER_MS = 1000, IN_MAX = 512 * 1024, ARENA_BYTES = LIMIT_HTTP_HEAD * 8 };

#define ENDS (SM_BIT(CONN_END) | SM_BIT(CONN_LINGER))
static const struct sm_state states[] = {
    [CONN_HEAD] = {"head", ENDS | SM_BIT(CONN_LOOKUP), SM_INITIAL},
    [CONN_LOOKUP] = {"lookup", ENDS | SM_BIT(CONN_DIAL), 0},
    [CONN_DIAL] = {"dial", ENDS | SM_BIT(CONN_HELLO) | SM_BIT(CONN_TUNNEL) | SM_BIT(CONN_RELAY), 0},
    [CONN_HELLO] = {"hello", ENDS | SM_BIT(CONN_TUNNEL), 0},
    [CONN_TUNNEL] = {"tunnel", ENDS, 0},
    [CONN_RELAY] = {"relay", ENDS | SM_BIT(CONN_HEAD), 0},
    [CONN_LINGER] = {"linger", SM_BIT(CONN_END), 0},
    [CONN_END] = {"end", 0, SM_FINAL},
};

static void next_lookup(struct box *b);
static void dial_next(struct conn *c, const char *failure);

static bool in(const struct conn *c, enum conn_state s)
{
    return sm_state(&c->sm) == (int)s;
}

static const struct proxy_settings *settings(const struct conn *c)
{
    return &c->box->proxy->settings;
}

/* ---- the end ---- */

static void on_timer_closed(struct loop_timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, timer);
    buf_fini(&c->in);
    buf_fini(&c->from);
    relay_fini(c);
    mem_free(c);
}

/* What is still to be told when a connection ends without a refusal. */
static void settle(struct conn *c)
{
    if (in(c, CONN_TUNNEL) || in(c, CONN_RELAY))
        conn_decide(c, EGRESS_ALLOWED, "");
    else
        conn_decide(c, EGRESS_CONNECT_FAILED, "The client left before it was connected.");
}

void conn_end(struct conn *c)
{
    if (in(c, CONN_END))
        return;
    settle(c);
    sm_move(&c->sm, CONN_END);
    stream_close(TAKE_PTR(c->client));
    stream_close(TAKE_PTR(c->upstream));
    if (c->query)
        c->query->conn = NULL;
    list_remove(&c->queue);
    list_remove(&c->node);
    c->box->nconns--;
    box_update(c->box);
    c->box = NULL;
    loop_timer_close(&c->timer, on_timer_closed);
}

void conn_linger(struct conn *c)
{
    if (in(c, CONN_END) || in(c, CONN_LINGER))
        return;
    settle(c);
    sm_move(&c->sm, CONN_LINGER);
    stream_close(TAKE_PTR(c->upstream));
    list_remove(&c->queue);
    buf_clear(&c->in);
    if (c->client_ended && stream_queued(c->client) == 0) {
        conn_end(c);
        return;
    }
    stream_shutdown(c->client);
    stream_pause(c->client, false);
    conn_arm(c, LINGER_MS);
}

void conn_decide(struct conn *c, enum egress_reason reason, const char *detail)
{
    if (!c->pending)
        return;
    c->pending = false;
    proxy_tell(c->box->proxy, c, reason, detail);
}

static const char *proxy_status(enum egress_reason r)
{
    switch (r) {
    case EGRESS_ADDRESS_NOT_ALLOWED: return "destination_ip_prohibited";
    case EGRESS_NAME_NOT_FOUND: return "dns_error";
    case EGRESS_CONNECT_FAILED: return "destination_unavailable";
    case EGRESS_NOT_HTTP: return "http_request_error";
    case EGRESS_ALLOWED:
    case EGRESS_HOST_NOT_ALLOWED:
    case EGRESS_PORT_NOT_ALLOWED:
    case EGRESS_SNI_MISMATCH:
    case EGRESS_REASON_COUNT: break;
    }
    return "http_request_denied";
}

void conn_refuse(struct conn *c, int status, enum egress_reason reason, const char *detail)
{
    conn_decide(c, reason, detail);
    AUTO_BUF struct buf out = BUF_INIT(16 * 1024);
    buf_printf(&out,
               "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "
               "%zu\r\nConnection: close\r\nProxy-Status: ostler; error=%s; details=\"%s\"\r\n\r\n",
               status, http_status_text(status), strlen(detail) + 1, proxy_status(reason),
               egress_reason_name(reason));
    if (!str_eq(c->relay.request.method, STR("HEAD")))
        buf_printf(&out, "%s\n", detail);
    stream_send(c->client, buf_view(&out));
    conn_linger(c);
}

/* ---- deadlines ---- */

static void on_timer(struct loop_timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, timer);
    int64_t now = loop_now_ms(c->box->proxy->loop);
    bool idles = in(c, CONN_TUNNEL) || in(c, CONN_RELAY);
    int64_t due = idles ? c->active_ms + settings(c)->idle_ms : c->deadline_ms;
    if (now < due) {
        loop_timer_start(&c->timer, due - now, on_timer);
        return;
    }
    char detail[HOST_MAX + 64];
    if (in(c, CONN_LOOKUP)) {
        snprintf(detail, sizeof detail, "The name %s could not be resolved in time.", c->to.host);
        conn_refuse(c, 504, EGRESS_NAME_NOT_FOUND, detail);
    } else if (in(c, CONN_DIAL)) {
        stream_close(TAKE_PTR(c->upstream));
        dial_next(c, "no answer in time");
    } else if (in(c, CONN_HELLO)) {
        conn_decide(c, EGRESS_SNI_MISMATCH, "no TLS hello came in time");
        conn_end(c);
    } else {
        conn_end(c);
    }
}

void conn_arm(struct conn *c, int64_t ms)
{
    c->active_ms = loop_now_ms(c->box->proxy->loop);
    c->deadline_ms = c->active_ms + ms;
    loop_timer_start(&c->timer, ms, on_timer);
}

/* ---- connecting ---- */

static void on_upstream_connect(void *arg, const struct err *err);

static void on_upstream_data(void *arg, struct str bytes)
{
    struct conn *c = arg;
    c->active_ms = loop_now_ms(c->box->proxy->loop);
    if (in(c, CONN_TUNNEL))
        tunnel_down(c, bytes);
    else if (in(c, CONN_RELAY))
        relay_down(c, bytes);
}

static void on_upstream_eof(void *arg)
{
    struct conn *c = arg;
    c->upstream_ended = true;
    if (in(c, CONN_TUNNEL))
        tunnel_ended(c);
    else if (in(c, CONN_RELAY))
        relay_upstream_ended(c);
}

static void on_upstream_drain(void *arg)
{
    struct conn *c = arg;
    if (in(c, CONN_TUNNEL) || (in(c, CONN_RELAY) && c->in.len <= STREAM_HIGH))
        stream_pause(c->client, false);
    if (in(c, CONN_TUNNEL))
        tunnel_ended(c);
}

static void on_upstream_close(void *arg, const struct err *err)
{
    struct conn *c = arg;
    (void)err;
    c->upstream = NULL;
    if (in(c, CONN_RELAY) && !c->relay.head_sent)
        conn_refuse(c, 502, EGRESS_CONNECT_FAILED, "The server broke the connection off.");
    else
        conn_end(c);
}

static void refuse_unreachable(struct conn *c, const char *failure)
{
    char detail[HOST_MAX + ERR_MSG_MAX + 64];
    snprintf(detail, sizeof detail, "%s, port %u, cannot be reached: %s", c->to.host, c->to.port,
             failure);
    conn_refuse(c, 502, EGRESS_CONNECT_FAILED, detail);
}

/* To exactly an address that was checked; never to a name. Each attempt gets its share of what is
 * left of the time. */
static void dial_next(struct conn *c, const char *failure)
{
    const struct stream_events ev = {.on_connect = on_upstream_connect,
                                     .on_data = on_upstream_data,
                                     .on_eof = on_upstream_eof,
                                     .on_drain = on_upstream_drain,
                                     .on_close = on_upstream_close,
                                     .arg = c};
    struct err err = {.code = 0};
    int64_t left = c->started_mono_us / 1000 + settings(c)->connect_ms - clock_mono_us() / 1000;
    while (c->next < c->naddresses && left > 0) {
        int64_t share = left / (int64_t)(c->naddresses - c->next);
        struct sockaddr_storage sa;
        c->ip = c->addresses[c->next++];
        c->has_ip = true;
        (void)ip_to(&c->ip, c->to.port, &sa);
        if (stream_dial(c->box->proxy->loop, (struct sockaddr *)&sa, &ev, &c->upstream, &err) ==
            0) {
            conn_arm(c, share > 0 ? share : 1);
            return;
        }
        failure = err.msg;
    }
    refuse_unreachable(c, failure);
}

static void on_upstream_connect(void *arg, const struct err *err)
{
    struct conn *c = arg;
    if (err->code) {
        c->upstream = NULL;
        dial_next(c, err->msg);
        return;
    }
    stream_pause(c->client, false);
    if (c->connect)
        tunnel_open(c);
    else
        relay_open(c);
}

/* Every address that the name has must be fit to be connected to: a name that mixes public and
 * private ones is somebody's trick. */
static void check_addresses(struct conn *c)
{
    const struct proxy_settings *s = settings(c);
    for (size_t i = 0; i < c->naddresses; i++) {
        const char *what = ip_refused(&c->addresses[i], s->allow, s->nallow);
        if (!what)
            continue;
        char text[IP_TEXT_MAX], detail[2 * HOST_MAX];
        c->ip = c->addresses[i];
        c->has_ip = true;
        ip_text(&c->ip, text);
        snprintf(detail, sizeof detail,
                 "%s leads to the address %s (%s), which sandboxes may not reach. The operator can "
                 "allow it with egress.allow_addresses.",
                 c->to.host, text, what);
        conn_refuse(c, 403, EGRESS_ADDRESS_NOT_ALLOWED, detail);
        return;
    }
    sm_move(&c->sm, CONN_DIAL);
    dial_next(c, "it has no address");
}

/* ---- lookups ---- */

static void on_looked_up(void *arg, const struct err *err, const struct sockaddr_storage *addresses,
                         size_t n)
{
    struct query *q = arg;
    struct conn *c = q->conn;
    struct box *b = q->box;
    mem_free(q);
    b->nlookups--;
    if (c)
        c->query = NULL;
    if (c && in(c, CONN_LOOKUP) && err->code) {
        char detail[2 * HOST_MAX];
        snprintf(detail, sizeof detail, "The name %s cannot be resolved: %s.", c->to.host,
                 err->code == ERR_NOT_FOUND ? "it has no address" : "the resolver failed");
        conn_refuse(c, 502, EGRESS_NAME_NOT_FOUND, detail);
    } else if (c && in(c, CONN_LOOKUP)) {
        for (size_t i = 0; i < n; i++)
            c->naddresses += ip_from(&addresses[i], &c->addresses[c->naddresses]);
        check_addresses(c);
    }
    next_lookup(b);
    box_unref(b);
}

static void start_lookup(struct conn *c)
{
    char name[HOST_MAX + 1];
    struct err err = {.code = 0};
    struct query *q = mem_zalloc(sizeof *q);
    *q = (struct query){.box = c->box, .conn = c};
    /* The dot keeps the host's search domains out of it: the name means what it says. */
    snprintf(name, sizeof name, "%s.", c->to.host);
    if (lookup_start(c->box->proxy->loop, name, on_looked_up, q, &err)) {
        mem_free(q);
        conn_refuse(c, 502, EGRESS_NAME_NOT_FOUND, err.msg);
        return;
    }
    c->query = q;
    c->box->nlookups++;
}

static void next_lookup(struct box *b)
{
    while (b->nlookups < LIMIT_EGRESS_LOOKUPS && !list_empty(&b->lookups))
        start_lookup(LIST_ENTRY(list_pop(&b->lookups), struct conn, queue));
}

static void look_up(struct conn *c)
{
    const struct ip *known =
        c->to.literal ? &c->to.ip : proxy_settings_host(settings(c), c->to.host);
    sm_move(&c->sm, CONN_LOOKUP);
    conn_arm(c, settings(c)->connect_ms);
    stream_pause(c->client, true);
    c->naddresses = c->next = 0;
    if (known) {
        c->addresses[c->naddresses++] = *known;
        check_addresses(c);
    } else {
        list_push(&c->box->lookups, &c->queue);
        next_lookup(c->box);
    }
}

/* ---- requests ---- */

/* The URL says where the request goes, and its Host must not say anything else. */
static bool host_agrees(struct conn *c)
{
    const struct http_parser *r = &c->relay.request;
    struct str host = http_header_get(r->headers, r->nheaders, "Host");
    struct authority named;
    return !str_some(host) ||
           (authority_parse(host, 80, &named, NULL) == 0 && authority_eq(&named, &c->to));
}

static void check_request(struct conn *c)
{
    const struct http_parser *r = &c->relay.request;
    char why[2 * HOST_MAX] = "";
    struct err err = {.code = 0};
    c->connect = str_eq(r->method, STR("CONNECT"));
    if (authority_parse(r->authority, c->connect ? 0 : 80, &c->to, &err)) {
        snprintf(why, sizeof why, "The request's target is wrong: %s.", err.msg);
        conn_refuse(c, 400, EGRESS_NOT_HTTP, why);
        return;
    }
    if (!c->connect && r->https) {
        conn_refuse(c, 400, EGRESS_NOT_HTTP, "https URLs go through this proxy with CONNECT.");
        return;
    }
    if (!c->connect && !host_agrees(c)) {
        conn_refuse(c, 403, EGRESS_HOST_NOT_ALLOWED,
                    "The Host header names another host than the request's URL.");
        return;
    }
    enum egress_reason reason = policy_check(&c->box->policy, settings(c), &c->to, why, sizeof why);
    if (reason)
        conn_refuse(c, 403, reason, why);
    else
        look_up(c);
}

static void begin(struct conn *c)
{
    c->pending = true;
    c->connect = c->has_ip = false;
    c->to = (struct authority){.port = 0};
    c->up = c->down = 0;
    c->started_us = clock_unix_us();
    c->started_mono_us = clock_mono_us();
    relay_fini(c);
    relay_init(c);
}

static void take_head(struct conn *c)
{
    struct http_parser *r = &c->relay.request;
    struct err err = {.code = 0};
    begin(c);
    struct str head = arena_str(&c->relay.arena, str_take(buf_view(&c->in), c->scanned));
    buf_consume(&c->in, c->scanned);
    c->scanned = 0;
    r->proxy = true;
    if (http_parse_head(r, &c->relay.arena, head, &err)) {
        char why[ERR_MSG_MAX + 32];
        snprintf(why, sizeof why, "The request is wrong: %s.", err.msg);
        conn_refuse(c, r->status, EGRESS_NOT_HTTP, why);
        return;
    }
    check_request(c);
}

static void not_http(struct conn *c, int status, const char *why)
{
    begin(c);
    conn_refuse(c, status, EGRESS_NOT_HTTP, why);
}

void conn_read(struct conn *c)
{
    while (c->scanned == 0 && str_starts(buf_view(&c->in), STR("\r\n")))
        buf_consume(&c->in, 2); /* some clients end a body with an empty line */
    if (!in(c, CONN_HEAD) || c->in.len == 0 || c->box->proxy->choked)
        return;
    bool first = c->scanned == 0;
    enum http_head_state s = http_head_end(buf_view(&c->in), &c->scanned);
    size_t size = s == HTTP_HEAD_WHOLE ? c->scanned : c->in.len;
    if (s == HTTP_HEAD_BAD)
        not_http(c, 400, "This is not an HTTP request; only HTTP and CONNECT pass here.");
    else if (size > LIMIT_HTTP_HEAD)
        not_http(c, 431, "The request's head is too large.");
    else if (s == HTTP_HEAD_WHOLE)
        take_head(c);
    else if (first) /* from its first byte on a head has its time; drops of it buy no more */
        conn_arm(c, settings(c)->connect_ms);
}

void conn_again(struct conn *c)
{
    sm_move(&c->sm, CONN_HEAD);
    c->upstream_ended = false;
    buf_clear(&c->from);
    stream_close(TAKE_PTR(c->upstream));
    conn_arm(c, settings(c)->idle_ms);
    stream_pause(c->client, false);
    conn_read(c);
}

/* ---- the client ---- */

static void on_client_data(void *arg, struct str bytes)
{
    struct conn *c = arg;
    c->active_ms = loop_now_ms(c->box->proxy->loop);
    if (in(c, CONN_LINGER))
        return;
    if (in(c, CONN_TUNNEL)) {
        tunnel_up(c, bytes);
        return;
    }
    buf_put(&c->in, bytes.ptr, bytes.len);
    if (!buf_ok(&c->in))
        conn_end(c);
    else if (in(c, CONN_HEAD))
        conn_read(c);
    else if (in(c, CONN_HELLO))
        tunnel_hello(c);
    else if (in(c, CONN_RELAY))
        relay_up(c);
    /* What waits unused is bounded: by one read more than this. */
    if (!in(c, CONN_END) && !in(c, CONN_TUNNEL) && c->in.len > STREAM_HIGH)
        stream_pause(c->client, true);
}

static void on_client_eof(void *arg)
{
    struct conn *c = arg;
    c->client_ended = true;
    if (in(c, CONN_TUNNEL)) {
        tunnel_ended(c);
    } else if (in(c, CONN_HELLO)) {
        conn_decide(c, EGRESS_SNI_MISMATCH, "the client sent no TLS hello");
        conn_end(c);
    } else if (in(c, CONN_LINGER)) {
        if (stream_queued(c->client) == 0)
            conn_end(c);
    } else if (!in(c, CONN_RELAY) || !c->relay.request.complete) {
        conn_end(c);
    } /* else it has only ended its side, and waits for the answer */
}

static void on_client_drain(void *arg)
{
    struct conn *c = arg;
    if (in(c, CONN_LINGER) && c->client_ended) {
        conn_end(c);
        return;
    }
    if (c->upstream && (in(c, CONN_TUNNEL) || in(c, CONN_RELAY)))
        stream_pause(c->upstream, false);
    if (in(c, CONN_TUNNEL))
        tunnel_ended(c);
}

static void on_client_close(void *arg, const struct err *err)
{
    struct conn *c = arg;
    (void)err;
    c->client = NULL;
    conn_end(c);
}

void conn_new(struct box *box, int fd)
{
    struct conn *c = mem_zalloc(sizeof *c);
    const struct stream_events ev = {.on_data = on_client_data,
                                     .on_eof = on_client_eof,
                                     .on_drain = on_client_drain,
                                     .on_close = on_client_close,
                                     .arg = c};
    struct err err;
    if (stream_open(box->proxy->loop, fd, &ev, &c->client, &err)) {
        mem_free(c);
        return;
    }
    c->box = box;
    c->in = BUF_INIT(IN_MAX);
    c->from = BUF_INIT(IN_MAX);
    relay_init(c);
    list_init(&c->queue);
    list_push(&box->conns, &c->node);
    box->nconns++;
    sm_init(&c->sm, "egress connection", states, NULL, CONN_HEAD);
    loop_timer_init(box->proxy->loop, &c->timer);
    conn_arm(c, box->proxy->settings.idle_ms);
    box_update(box);
}
