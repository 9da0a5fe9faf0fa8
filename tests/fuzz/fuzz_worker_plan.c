/* Events of any server, a line each, between what a worker does with calls: a call is begun at most
 * once, never after it was answered or while the history is read, and stopped at most once. */
#include "worker/plan.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { CALLS = 256 };

struct seen {
    struct id begun[CALLS], stopped[CALLS];
    size_t nbegun, nstopped;
};

static bool has(const struct id *ids, size_t n, const struct id *id)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(id_str(&ids[i]), id_str(id)))
            return true;
    return false;
}

static void begin_all(struct plan *p, struct seen *s)
{
    for (struct plan_call *c; (c = plan_next(p));) {
        if (p->listing || p->over || c->answered || !c->name || !c->input ||
            !plan_names(id_str(&c->id), ID_MAX) || has(s->begun, s->nbegun, &c->id))
            abort();
        if (s->nbegun < CALLS)
            s->begun[s->nbegun++] = c->id;
    }
}

static void stop_all(struct plan *p, struct seen *s)
{
    for (struct plan_call *c; (c = plan_cancel(p));) {
        if (!c->started || has(s->stopped, s->nstopped, &c->id))
            abort();
        if (s->nstopped < CALLS)
            s->stopped[s->nstopped++] = c->id;
    }
}

static void take(struct plan *p, struct str line)
{
    AUTO_ARENA struct arena a;
    const struct json *doc;
    arena_init(&a, 1 << 20);
    if (json_parse(&a, line, JSON_ALLOW_DUPLICATES, &doc, NULL) == 0)
        plan_event(p, doc);
}

/* A line is an event, or one letter: b(egins) or e(nds) the history, r(un), s(top), a(nswer). */
static void step(struct plan *p, struct seen *s, struct str line)
{
    if (str_eqz(line, "b"))
        plan_list_begins(p);
    else if (str_eqz(line, "e"))
        plan_list_ends(p);
    else if (str_eqz(line, "r"))
        begin_all(p, s);
    else if (str_eqz(line, "s"))
        stop_all(p, s);
    else if (str_eqz(line, "a") && s->nbegun)
        plan_answered(p, id_str(&s->begun[s->nbegun - 1]));
    else
        take(p, line);
    if (plan_idle(p) && (plan_works(p) || plan_holds(p)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct seen *s = mem_zalloc(sizeof *s);
    struct plan p;
    plan_init(&p);
    for (struct str rest = str_n((const char *)data, len); str_some(rest) && rest.len;)
        step(&p, s, str_split(&rest, '\n'));
    stop_all(&p, s);
    plan_fini(&p);
    mem_free(s);
    return 0;
}
