/* The other server processes: who lives, what they tell each other, what gets lost on the way. */
#include "sim.h"

struct letter {
    struct node *to;
    struct peer_news news;
};

static struct node *node_of(struct sim *s, struct str owner)
{
    for (size_t i = 0; i < COUNT_OF(s->nodes); i++)
        if (s->nodes[i] && str_eq(id_str(&s->nodes[i]->owner), owner))
            return s->nodes[i];
    return NULL;
}

static struct node *other(struct node *n)
{
    struct node *o = n->sim->nodes[1 - n->index];
    return o && !o->dead ? o : NULL;
}

static size_t others(void *self)
{
    return other(self) != NULL;
}

static bool alive(void *self, struct str owner)
{
    struct node *n = self, *o = node_of(n->sim, owner);
    return o && !o->dead;
}

static void deliver(struct sim *s, void *arg)
{
    struct letter *l = arg;
    (void)s;
    if (!l->to->dead)
        engine_peer_told(l->to->engine, &l->news);
}

static void look_again(struct sim *s, void *arg)
{
    struct node *n = arg;
    (void)s;
    if (!n->dead)
        engine_peers_changed(n->engine, true);
}

static void tell(void *self, struct str owner, const struct peer_news *news)
{
    struct node *n = self, *to = str_some(owner) ? node_of(n->sim, owner) : other(n);
    struct sim *s = n->sim;
    if (n->dead || !to || to->dead || to == n)
        return;
    if (s->chaos && rng_chance(&s->rng, 1, 30)) { /* the connection breaks; both notice */
        sim_after(s, rng_delay(&s->rng, 100 * SIM_MS, 2 * SIM_SECOND), look_again, n);
        sim_after(s, rng_delay(&s->rng, 100 * SIM_MS, 2 * SIM_SECOND), look_again, to);
        return;
    }
    struct letter *l = sim_alloc(s, sizeof *l);
    *l = (struct letter){to, *news};
    l->news.session_id = arena_str(&s->arena, news->session_id);
    l->news.event_id = arena_str(&s->arena, news->event_id);
    l->news.event_body = arena_str(&s->arena, news->event_body);
    /* One connection: nothing overtakes. */
    int64_t at = s->now_us + rng_delay(&s->rng, 500, 500 * SIM_MS);
    if (at <= to->mail_us)
        at = to->mail_us + 1;
    to->mail_us = at;
    sim_after(s, at - s->now_us, deliver, l);
}

static void tick(struct sim *s, void *arg)
{
    struct node *n = arg;
    if (n->dead)
        return;
    if (other(n))
        engine_peers_changed(n->engine, false);
    sim_after(s, SIM_SECOND, tick, n);
}

void peers_born(struct node *n)
{
    struct sim *s = n->sim;
    if (s->knobs.nodes < 2)
        return;
    struct node *o = other(n);
    sim_after(s, SIM_SECOND, tick, n);
    if (o)
        sim_after(s, rng_delay(&s->rng, 200 * SIM_MS, 2 * SIM_SECOND), look_again, o);
}

void peers_died(struct node *n)
{
    struct sim *s = n->sim;
    struct node *o = other(n);
    if (s->knobs.nodes > 1 && o)
        sim_after(s, rng_delay(&s->rng, 50 * SIM_MS, 2 * SIM_SECOND), look_again, o);
}

struct peer_port peers_of(struct node *n)
{
    if (n->sim->knobs.nodes < 2)
        return (struct peer_port){0};
    return (struct peer_port){
        .self = n, .me = n->owner, .others = others, .alive = alive, .tell = tell};
}

struct node *owner_of(struct session *ss)
{
    return ss->row ? node_of(ss->sim, id_str(&ss->row->row.owner)) : NULL;
}
