/* Whose a session is: recovery at start, the work of dead processes, news of live ones.
 *
 * A session belongs to the process that took it last, for as long as that one lives, also while it
 * rests: its sandbox is connected there. So a process that is told of work in another's session
 * tells that one, and takes the session only when its owner is dead, in one transaction that nobody
 * else can have done before. */
#include "engine/actor.h"

#include "base/log.h"

bool engine_has_peers(const struct engine *e)
{
    return e->cfg.peers.me.z[0] != '\0';
}

const struct peer_port *engine_peers(const struct engine *e)
{
    return &e->cfg.peers;
}

/* ---- looking for work that nobody does ---- */

struct scan {
    struct store_job job;
    struct engine *e;
    struct arena arena;
    struct session_work *work;
    size_t n;
    void (*done)(void *arg, const struct err *err); /* NULL: not at start */
    void *arg;
};

static bool was_given_up(const struct engine *e, const struct id *id)
{
    size_t n = e->ngiven_up < ENGINE_GIVEN_UP ? e->ngiven_up : ENGINE_GIVEN_UP;
    for (size_t i = 0; i < n; i++)
        if (str_eq(id_str(&e->given_up[i]), id_str(id)))
            return true;
    return false;
}

static void take_up(struct engine *e, const struct session_work *w)
{
    const struct peer_port *p = &e->cfg.peers;
    struct str id = id_str(&w->id), owner = id_str(&w->owner);
    if (map_get(&e->actors, id))
        return;
    if (engine_has_peers(e) && str_eq(owner, id_str(&p->me))) {
        if (w->inbox && !was_given_up(e, &w->id))
            engine_wake(e, id); /* the news of it was lost */
        return;
    }
    if (engine_has_peers(e) && owner.len && p->alive(p->self, owner))
        return;
    log_line(LOG_INFO, "taking up a session again", "session", w->id.z, NULL);
    e->stats.resumed++;
    if (engine_has_peers(e))
        actor_take(e, id, owner);
    else
        actor_get(e, id, true);
}

static int scan_read(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct scan *s = CONTAINER_OF(job, struct scan, job);
    arena_reset(&s->arena);
    return tx_session_work(tx, &s->arena, &s->work, &s->n, err);
}

static void scan_begin(struct engine *e, void (*done)(void *arg, const struct err *err), void *arg);

static void scan_done(struct store_job *job, const struct err *err)
{
    struct scan *s = CONTAINER_OF(job, struct scan, job);
    struct engine *e = s->e;
    for (size_t i = 0; err->code == 0 && i < s->n && !e->closing; i++)
        take_up(e, &s->work[i]);
    e->scanning = false;
    if (s->done)
        s->done(s->arg, err);
    arena_fini(&s->arena);
    mem_free(s);
    if (e->scan_again && !e->closing)
        scan_begin(e, NULL, NULL);
    engine_job_done(e);
}

static void scan_begin(struct engine *e, void (*done)(void *arg, const struct err *err), void *arg)
{
    struct scan *s = mem_zalloc(sizeof *s);
    s->e = e;
    s->done = done;
    s->arg = arg;
    s->job.fn = scan_read;
    s->job.done = scan_done;
    arena_init(&s->arena, 64ul << 20);
    e->scanning = true;
    e->scan_again = false;
    e->jobs++;
    e->cfg.store.read(e->cfg.store.self, &s->job);
}

void engine_start(struct engine *e, void (*done)(void *arg, const struct err *err), void *arg)
{
    scan_begin(e, done, arg);
}

/* ---- news ---- */

void engine_peers_changed(struct engine *e, bool lost)
{
    if (e->closing)
        return;
    if (lost)
        hub_poke(e->hub, STR_NONE, 0);
    /* A look that began before the news may have seen too little. */
    e->scan_again = e->scanning;
    if (!e->scanning)
        scan_begin(e, NULL, NULL);
}

void engine_peer_told(struct engine *e, const struct peer_news *news)
{
    switch (news->kind) {
    case PEER_WAKE: engine_wake(e, news->session_id); break;
    case PEER_COMMITTED: hub_poke(e->hub, news->session_id, news->seq); break;
    case PEER_DELETED: {
        const struct event last = {.seq = news->seq,
                                   .id = id_from(news->event_id),
                                   .type = EVENT_SESSION_DELETED,
                                   .body = news->event_body};
        hub_publish(e->hub, news->session_id, &last, 1);
        break;
    }
    }
}

void engine_tell_committed(struct actor *a)
{
    const struct peer_port *p = &a->engine->cfg.peers;
    const struct turn_step *s = &a->commit.step;
    if (!engine_has_peers(a->engine) || s->nevents == 0 || p->others(p->self) == 0)
        return;
    const struct event *last = &s->events[s->nevents - 1];
    struct peer_news news = {
        .kind = PEER_COMMITTED, .session_id = id_str(&a->session_id), .seq = last->seq};
    if (last->type == EVENT_SESSION_DELETED) {
        news.kind = PEER_DELETED;
        news.event_id = id_str(&last->id);
        news.event_body = last->body;
    }
    p->tell(p->self, STR_NONE, &news);
}

/* ---- letting go ---- */

void engine_gave_up(struct engine *e, const struct id *session_id, int code)
{
    if (code == ERR_NOT_FOUND)
        return;
    /* Another took it, or what was loaded has grown old: whose it is now, its row says. */
    if (code == ERR_FENCED) {
        if (engine_has_peers(e) && !e->closing)
            actor_get(e, id_str(session_id), false);
        return;
    }
    e->given_up[e->ngiven_up++ % ENGINE_GIVEN_UP] = *session_id;
}
