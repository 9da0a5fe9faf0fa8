#include "engine/peers.h"

#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "io/socket.h"
#include "io/stream.h"

#include <stdio.h>

/* HURRY: a connection ended; the kernel is about to drop the lock, or the process lives on. */
enum { TICK_MS = 1000, HURRY_TICK_MS = 10, HURRY_MS = 1000, BACKLOG = 64 };

struct peer {
    struct list link;
    struct peers *peers;
    struct id id;
    int watch_fd;          /* its lock */
    struct frame_conn *to; /* NULL: to be dialled at the next tick */
    int64_t hurry_until_ms;
};

/* A connection that another made to us. */
struct hearing {
    struct list link;
    struct peers *peers;
    struct frame_conn *from;
    struct id id; /* empty: it has not said hello */
};

struct peers {
    struct loop *loop;
    const char *data;
    const struct owner *me;
    struct engine *engine;
    struct list peers, hearings;
    size_t npeers;
    struct listener *listener;
    struct loop_timer timer;
    int64_t changed_ms; /* when the engine was last told to look */
    void (*closed)(void *arg);
    void *closed_arg;
};

static void schedule(struct peers *p);

static void tell_engine(struct peers *p, bool lost)
{
    p->changed_ms = loop_now_ms(p->loop);
    if (p->engine)
        engine_peers_changed(p->engine, lost);
}

/* ---- knowing others ---- */

static struct peer *find(struct peers *p, struct str id)
{
    list_for_each (it, &p->peers) {
        struct peer *peer = LIST_ENTRY(it, struct peer, link);
        if (str_eq(id_str(&peer->id), id))
            return peer;
    }
    return NULL;
}

static void peer_free(struct peer *peer)
{
    peer->peers->npeers--;
    list_remove(&peer->link);
    frame_close(TAKE_PTR(peer->to));
    fd_close(peer->watch_fd);
    mem_free(peer);
}

static void died(struct peer *peer)
{
    struct peers *p = peer->peers;
    struct id id = peer->id;
    peer_free(peer);
    owner_forget(p->data, id.z);
    log_line(LOG_INFO, "another server process on this data directory has ended", "owner", id.z,
             NULL);
    tell_engine(p, true);
}

static void hurry(struct peer *peer)
{
    peer->hurry_until_ms = loop_now_ms(peer->peers->loop) + HURRY_MS;
    schedule(peer->peers);
}

static void ignore_frame(void *arg, struct str payload)
{
    (void)arg;
    (void)payload;
}

static void on_deaf(void *arg, const struct err *err)
{
    struct peer *peer = arg;
    (void)err;
    peer->to = NULL;
    hurry(peer);
}

static void say(struct peer *peer, struct str text)
{
    struct err err;
    if (!peer->to || frame_send(peer->to, text, &err) == 0)
        return;
    /* It does not read. What it misses it will look for when it is connected again. */
    frame_close(TAKE_PTR(peer->to));
    schedule(peer->peers);
}

static void dial(struct peer *peer)
{
    struct peers *p = peer->peers;
    const struct frame_events ev = {.on_frame = ignore_frame, .on_close = on_deaf, .arg = peer};
    char path[OWNER_PATH_MAX], hello[ID_MAX + 8];
    struct err err;
    int n = snprintf(path, sizeof path, "%s/owners/%s.peer", p->data, peer->id.z);
    if (n < 0 || n >= (int)sizeof path || frame_dial(p->loop, path, &ev, &peer->to, &err))
        return; /* it does not listen yet, or it ends: the next tick tries again */
    snprintf(hello, sizeof hello, "hello %s", p->me->id.z);
    say(peer, str_z(hello));
}

/* NULL when it is dead. */
static struct peer *meet(struct peers *p, struct str id)
{
    struct peer *peer = find(p, id);
    int fd;
    if (peer || str_eq(id, id_str(&p->me->id)) || !id_valid(id, "own"))
        return peer;
    struct id copy = id_from(id);
    if (!owner_watch(p->data, copy.z, &fd) || fd < 0)
        return NULL;
    peer = mem_zalloc(sizeof *peer);
    peer->peers = p;
    peer->id = copy;
    peer->watch_fd = fd;
    list_push(&p->peers, &peer->link);
    p->npeers++;
    log_line(LOG_INFO, "another server process works on this data directory", "owner", copy.z,
             NULL);
    dial(peer);
    hurry(peer);
    return peer;
}

/* ---- the clock ---- */

static void on_tick(struct loop_timer *t)
{
    struct peers *p = CONTAINER_OF(t, struct peers, timer);
    list_for_each_safe (it, &p->peers) {
        struct peer *peer = LIST_ENTRY(it, struct peer, link);
        if (!owner_locked(peer->watch_fd))
            died(peer);
        else if (!peer->to)
            dial(peer);
    }
    if (p->npeers && loop_now_ms(p->loop) - p->changed_ms >= TICK_MS)
        tell_engine(p, false);
    schedule(p);
}

static void schedule(struct peers *p)
{
    int64_t now = loop_now_ms(p->loop), delay = TICK_MS;
    list_for_each (it, &p->peers) {
        const struct peer *peer = LIST_ENTRY(it, struct peer, link);
        if (!peer->to && now < peer->hurry_until_ms)
            delay = HURRY_TICK_MS;
    }
    if (p->npeers)
        loop_timer_start(&p->timer, delay, on_tick);
}

/* ---- hearing ---- */

static void hearing_free(struct hearing *h)
{
    list_remove(&h->link);
    mem_free(h);
}

static void on_hello(struct hearing *h, struct str id)
{
    struct peers *p = h->peers;
    h->id = id_from(id);
    struct peer *peer = meet(p, id);
    if (peer && !peer->to)
        dial(peer);
    tell_engine(p, true); /* it may have been told of nothing for a while */
}

static void on_frame(void *arg, struct str payload)
{
    struct hearing *h = arg;
    struct peers *p = h->peers;
    struct str rest = payload, word = str_split(&rest, ' ');
    if (str_eqz(word, "hello")) {
        on_hello(h, rest);
        return;
    }
    struct peer_news news = {.session_id = str_split(&rest, ' ')};
    if (!id_valid(news.session_id, "sesn"))
        return;
    if (str_eqz(word, "wake")) {
        news.kind = PEER_WAKE;
    } else if (str_eqz(word, "committed")) {
        news.kind = PEER_COMMITTED;
        if (!str_i64(rest, &news.seq))
            return;
    } else if (str_eqz(word, "deleted")) {
        news.kind = PEER_DELETED;
        if (!str_i64(str_split(&rest, ' '), &news.seq))
            return;
        news.event_id = str_split(&rest, ' ');
        news.event_body = rest;
    } else {
        return; /* of a later version */
    }
    if (p->engine)
        engine_peer_told(p->engine, &news);
}

static void on_silent(void *arg, const struct err *err)
{
    struct hearing *h = arg;
    (void)err;
    struct peer *peer = find(h->peers, id_str(&h->id));
    hearing_free(h);
    if (peer && !owner_locked(peer->watch_fd))
        died(peer);
    else if (peer)
        hurry(peer);
}

static void on_accepted(void *arg, int fd)
{
    struct peers *p = arg;
    struct hearing *h = mem_zalloc(sizeof *h);
    const struct frame_events ev = {.on_frame = on_frame, .on_close = on_silent, .arg = h};
    struct err err;
    h->peers = p;
    list_push(&p->hearings, &h->link);
    if (frame_connect(p->loop, fd, &ev, &h->from, &err))
        hearing_free(h);
}

/* ---- the port ---- */

static size_t port_others(void *self)
{
    const struct peers *p = self;
    return p->npeers;
}

static bool port_alive(void *self, struct str owner)
{
    struct peers *p = self;
    if (str_eq(owner, id_str(&p->me->id)))
        return true;
    const struct peer *peer = find(p, owner);
    if (peer)
        return owner_locked(peer->watch_fd);
    struct id id = id_from(owner);
    int fd;
    if (!id_valid(owner, "own") || !owner_watch(p->data, id.z, &fd))
        return false;
    fd_close(fd);
    return true;
}

static void write_news(struct buf *b, const struct peer_news *news)
{
    struct str id = news->session_id;
    switch (news->kind) {
    case PEER_WAKE: buf_printf(b, "wake " STR_FMT, STR_ARG(id)); break;
    case PEER_COMMITTED:
        buf_printf(b, "committed " STR_FMT " %lld", STR_ARG(id), (long long)news->seq);
        break;
    case PEER_DELETED:
        buf_printf(b, "deleted " STR_FMT " %lld " STR_FMT " ", STR_ARG(id), (long long)news->seq,
                   STR_ARG(news->event_id));
        buf_str(b, news->event_body);
        break;
    }
}

static void port_tell(void *self, struct str owner, const struct peer_news *news)
{
    struct peers *p = self;
    AUTO_BUF struct buf b = BUF_INIT(LIMIT_HAND_FRAME);
    write_news(&b, news);
    if (!buf_ok(&b) || p->closed)
        return;
    if (str_some(owner)) {
        struct peer *peer = meet(p, owner);
        if (peer)
            say(peer, buf_view(&b));
        return;
    }
    list_for_each (it, &p->peers)
        say(LIST_ENTRY(it, struct peer, link), buf_view(&b));
}

struct peer_port peers_port(struct peers *p)
{
    return (struct peer_port){
        .self = p, .me = p->me->id, .others = port_others, .alive = port_alive, .tell = port_tell};
}

/* ---- opening and closing ---- */

struct peers *peers_new(struct loop *l, const char *data, const struct owner *me)
{
    struct peers *p = mem_zalloc(sizeof *p);
    p->loop = l;
    p->data = data;
    p->me = me;
    list_init(&p->peers);
    list_init(&p->hearings);
    loop_timer_init(l, &p->timer);
    return p;
}

static void on_other(void *arg, const char *id, int fd)
{
    (void)fd;
    (void)meet(arg, str_z(id));
}

int peers_start(struct peers *p, struct engine *e, struct err *err)
{
    char path[OWNER_PATH_MAX];
    p->engine = e;
    int n = snprintf(path, sizeof path, "%s.peer", p->me->path);
    if (n < 0 || n >= (int)sizeof path)
        return err_at(err, ERR_INVALID, "--data", "the data directory's path is too long");
    int fd = socket_listen(path, BACKLOG, err);
    int rc = fd < 0 ? fd : listener_open(p->loop, fd, on_accepted, p, &p->listener, err);
    if (rc)
        return rc;
    /* Listening first: whoever starts at the same time finds either us, or is found by us. */
    owner_each(p->data, on_other, p);
    return 0;
}

void peers_stop(struct peers *p)
{
    p->engine = NULL;
}

static void on_closed(struct loop_timer *t)
{
    struct peers *p = CONTAINER_OF(t, struct peers, timer);
    void (*closed)(void *) = p->closed;
    void *arg = p->closed_arg;
    mem_free(p);
    closed(arg);
}

static void nobody(void *arg)
{
    (void)arg;
}

void peers_close(struct peers *p, void (*closed)(void *arg), void *arg)
{
    p->closed = closed ? closed : nobody;
    p->closed_arg = arg;
    listener_close(TAKE_PTR(p->listener));
    list_for_each_safe (it, &p->hearings) {
        struct hearing *h = LIST_ENTRY(it, struct hearing, link);
        frame_close(h->from);
        hearing_free(h);
    }
    list_for_each_safe (it, &p->peers)
        peer_free(LIST_ENTRY(it, struct peer, link));
    loop_timer_close(&p->timer, on_closed);
}
