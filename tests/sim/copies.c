/* What graders look at: copies of a session's files, in sandboxes that end with them. */
#include "sim.h"

#include <stdio.h>

struct copy {
    struct list link;
    struct node *node;
    struct session *session;
    struct id id;
    bool there, gone;
    void (*done)(void *arg, const struct err *err);
    void *arg;
};

struct look {
    struct copy *copy;
    struct str content;
    void (*done)(void *arg, const struct tool_outcome *o);
    void *arg;
};

static struct copy *find(struct sim *s, struct str id)
{
    for (int i = 0; i < s->knobs.sessions; i++)
        list_for_each (it, &s->sessions[i].copies) {
            struct copy *c = LIST_ENTRY(it, struct copy, link);
            if (str_eq(id_str(&c->id), id))
                return c;
        }
    return NULL;
}

static void made(struct sim *s, void *arg)
{
    struct copy *c = arg;
    struct err err = {0};
    if (c->node->dead)
        return;
    c->there = !c->gone && !(s->chaos && rng_chance(&s->rng, s->knobs.hand_pct, 100));
    if (!c->there)
        err_set(&err, ERR_IO, "there is no room for a copy");
    c->done(c->arg, &err);
}

void copy_start(void *self, struct str session_id, struct str copy_id, bool read_only,
                void (*done)(void *arg, const struct err *err), void *arg)
{
    struct node *n = self;
    struct sim *s = n->sim;
    struct copy *c = sim_alloc(s, sizeof *c);
    (void)read_only;
    if (!boundary(n, AT_COPY))
        return;
    *c = (struct copy){.node = n,
                       .session = sim_session(s, session_id),
                       .id = id_from(copy_id),
                       .done = done,
                       .arg = arg};
    list_push(&c->session->copies, &c->link);
    sim_after(s, rng_delay(&s->rng, 50 * SIM_MS, 5 * SIM_SECOND), made, c);
    boundary_after(n, AT_COPY);
}

static void looked(struct sim *s, void *arg)
{
    struct look *l = arg;
    (void)s;
    if (l->copy->node->dead)
        return;
    l->done(l->arg, &(struct tool_outcome){.content = l->content});
}

/* The output of a check has its mark, which is in the command. */
static struct str output_of(struct sim *s, struct str input)
{
    ptrdiff_t at = str_find(input, STR(">/tmp/"));
    if (at < 0)
        return STR("some files");
    struct str mark = str_take(str_skip(input, (size_t)at + 6), 32);
    return arena_printf(&s->arena, STR_FMT ":%d\nout\n" STR_FMT "\n", STR_ARG(mark),
                        str_find(input, STR("'false'")) >= 0 && rng_chance(&s->rng, 1, 2),
                        STR_ARG(mark));
}

bool copy_run(struct node *n, const struct tool_call *call,
              void (*done)(void *arg, const struct tool_outcome *o), void *arg)
{
    struct sim *s = n->sim;
    struct copy *c = find(s, call->session_id);
    if (!c)
        return false;
    if (!c->there || c->gone || c->node != n)
        sim_fail(s, "a call for a copy that is not there");
    struct look *l = sim_alloc(s, sizeof *l);
    *l = (struct look){.copy = c, .content = output_of(s, call->input), .done = done, .arg = arg};
    sim_after(s, rng_delay(&s->rng, 100 * SIM_MS, 20 * SIM_SECOND), looked, l);
    return true;
}

bool copy_end(struct node *n, struct str copy_id)
{
    struct copy *c = find(n->sim, copy_id);
    if (!c)
        return false;
    if (c->gone)
        sim_fail(n->sim, "a copy was ended twice");
    c->gone = true;
    c->there = false;
    return true;
}
