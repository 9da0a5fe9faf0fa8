#include "engine/actor.h"

struct engine *engine_new(const struct engine_config *cfg)
{
    struct engine *e = mem_zalloc(sizeof *e);
    e->cfg = *cfg;
    if (e->cfg.checkpoint_interval_ms <= 0)
        e->cfg.checkpoint_interval_ms = LIMIT_CHECKPOINT_INTERVAL_MS;
    e->hub = hub_new();
    list_init(&e->runs);
    return e;
}

void engine_free(struct engine *e)
{
    if (!e)
        return;
    effects_free_runs(e);
    map_fini(&e->actors);
    hub_free(e->hub);
    mem_free(e);
}

struct hub *engine_hub(struct engine *e)
{
    return e->hub;
}

struct engine_stats engine_stats(const struct engine *e)
{
    struct engine_stats s = e->stats;
    s.actors = (int64_t)e->actors.count;
    return s;
}

void engine_wake(struct engine *e, struct str session_id)
{
    if (e->closing)
        return; /* it is in the inbox: the next start finds it */
    /* A load that begins now sees what is committed; one that runs already may not. */
    bool known = map_get(&e->actors, session_id) != NULL;
    struct actor *a = actor_get(e, session_id, false);
    a->woken = a->woken || known;
    actor_tick(a);
}

/* ---- closing ---- */

static void finish_close(struct engine *e)
{
    if (!e->closing || e->jobs || !e->closed)
        return;
    size_t at = 0;
    struct actor *a;
    while ((a = map_next(&e->actors, &at, NULL)))
        actor_free(a);
    void (*closed)(void *) = TAKE_PTR(e->closed);
    closed(e->closed_arg);
}

void engine_job_done(struct engine *e)
{
    e->jobs--;
    finish_close(e);
}

void engine_close(struct engine *e, void (*done)(void *arg), void *arg)
{
    static const struct err closing = {.code = ERR_UNAVAILABLE,
                                       .msg = "the server is shutting down"};
    e->closing = true;
    e->closed = done;
    e->closed_arg = arg;
    size_t at = 0;
    struct actor *a;
    while ((a = map_next(&e->actors, &at, NULL))) {
        bool waits = a->again != NULL; /* no job in flight would answer it */
        effects_stop(a);
        if (waits && a->commit.op)
            op_answer(TAKE_PTR(a->commit.op), NULL, &closing);
        list_for_each_safe (it, &a->mail) {
            struct mail *m = LIST_ENTRY(it, struct mail, link);
            if (m->kind == MAIL_OP)
                op_answer(m, NULL, &closing);
        }
    }
    finish_close(e);
}
