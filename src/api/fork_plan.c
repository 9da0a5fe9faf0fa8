/* The log of another session up to a point: folded, and brought to rest. */
#include "api/fork.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/rand.h"
#include "core/outcome_list.h"
#include "core/turn_fork.h"
#include "json/json.h"

enum { PAGE_EVENTS = 256 };

static void fill(void *self, void *p, size_t n)
{
    (void)self;
    rand_fill(p, n);
}

/* The first update after the point that changed the agent says what it was before. */
static int agent_at(struct store_tx *tx, struct call *c, struct fork_plan *p, struct err *err)
{
    struct event_filter f = {.after_seq = p->point,
                             .types = 1ull << EVENT_SESSION_UPDATED,
                             .transcript = true,
                             .limit = 16};
    bool more = true;
    p->agent = p->from.agent;
    while (more) {
        struct event *events;
        size_t n;
        int rc = tx_event_list(tx, p->from.key, &f, &c->arena, &events, &n, &more, err);
        if (rc)
            return rc;
        for (size_t i = 0; i < n; i++) {
            if (str_some(events[i].transcript)) {
                p->agent = events[i].transcript;
                return 0;
            }
            f.after_seq = events[i].seq;
        }
    }
    return 0;
}

/* The limits' text is not the turn's to keep. */
static int note_limits(struct call *c, struct fork_plan *p, const struct event *e, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *body;
    int rc = json_parse(&a, e->body, JSON_ALLOW_DUPLICATES, &body, err);
    const struct json *limits = rc ? NULL : json_get(body, "limits");
    if (limits)
        p->limits = json_is(limits, JSON_OBJECT) ? arena_str(&c->arena, limits->raw) : STR_NONE;
    return rc;
}

static bool ends_session(enum event_type type)
{
    return type == EVENT_SESSION_THREAD_STATUS_TERMINATED ||
           type == EVENT_SESSION_STATUS_TERMINATED;
}

static int take(struct call *c, struct fork_plan *p, struct turn *t, const struct event *e,
                struct err *err)
{
    if (e->type == EVENT_SESSION_UPDATED) {
        int rc = note_limits(c, p, e, err);
        if (rc)
            return rc;
    }
    p->tools_used = p->tools_used || e->type == EVENT_AGENT_TOOL_USE;
    p->cut = e->seq;
    p->cut_us = e->processed_us;
    return turn_fold(t, e, err);
}

/* From the beginning, because what was used is nowhere else; in pages, because a log may be long.
 */
static int fold(struct store_tx *tx, struct call *c, struct fork_plan *p, struct turn *t,
                struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_PROMPT * 4ul);
    struct event_filter f = {.transcript = true, .limit = PAGE_EVENTS};
    bool more = p->point > 0;
    while (more) {
        struct event *events;
        size_t n;
        int rc = tx_event_list(tx, p->from.key, &f, &a, &events, &n, &more, err);
        for (size_t i = 0; rc == 0 && i < n; i++) {
            if (events[i].seq > p->point || ends_session(events[i].type))
                return 0;
            rc = take(c, p, t, &events[i], err);
        }
        if (rc)
            return rc;
        f.after_seq = p->cut;
        arena_reset(&a);
    }
    return 0;
}

static int rest(struct call *c, struct fork_plan *p, struct turn *t, struct err *err)
{
    const struct rand_port rand = {.fill = fill};
    struct list inbox, taken;
    list_init(&inbox);
    list_init(&taken);
    struct turn_step s = {.arena = &c->arena,
                          .now_us = clock_unix_us(),
                          .rand = &rand,
                          .inbox = &inbox,
                          .taken = &taken};
    turn_cut(t, &s);
    if (s.err_code) {
        *err = s.err;
        return s.err_code;
    }
    p->closing = s.events;
    p->nclosing = s.nevents;
    p->last_us = t->last_us;
    p->usage = t->usage;
    p->budget_microusd = t->caps.budget_microusd;
    if (t->stop_reason[0])
        p->stop_reason = arena_str(&c->arena, str_z(t->stop_reason));
    return c->arena.failed ? err_set(err, ERR_LIMIT, "the session is too large") : 0;
}

/* How the outcomes stood: out of the events that are copied. What a last turn left has no event but
 * the one that ends it, which says what its grading has cost: that is taken from the original. */
static int add_outcomes(struct fork_plan *p, const struct event *events, size_t n, struct buf *list,
                        struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (events[i].type != EVENT_SESSION_THREAD_STATUS_IDLE)
            rc = outcome_list_apply(list, &events[i], 1, err);
        else if (str_some(events[i].transcript))
            rc = outcome_list_close_as(list, p->from.outcomes, err);
    }
    return rc;
}

static int outcomes_at(struct store_tx *tx, struct call *c, struct fork_plan *p, struct err *err)
{
    AUTO_ARENA struct arena a;
    AUTO_BUF struct buf list = BUF_INIT(OUTCOME_LIST_ROOM);
    arena_init(&a, LIMIT_PROMPT * 4ul);
    struct event_filter f = {.before_seq = p->cut + 1,
                             .types = 1ull << EVENT_USER_DEFINE_OUTCOME |
                                      1ull << EVENT_SPAN_OUTCOME_EVALUATION_START |
                                      1ull << EVENT_SPAN_OUTCOME_EVALUATION_END |
                                      1ull << EVENT_SESSION_THREAD_STATUS_IDLE,
                             .transcript = true,
                             .limit = PAGE_EVENTS};
    bool more = str_some(p->from.outcomes) && p->cut > 0;
    int rc = 0;
    while (rc == 0 && more) {
        struct event *events;
        size_t n;
        rc = tx_event_list(tx, p->from.key, &f, &a, &events, &n, &more, err);
        if (rc == 0)
            rc = add_outcomes(p, events, n, &list, err);
        if (rc == 0 && n)
            f.after_seq = events[n - 1].seq;
        arena_reset(&a);
    }
    if (rc == 0 && list.len)
        rc = outcome_list_apply(&list, p->closing, p->nclosing, err);
    p->outcomes = list.len ? arena_str(&c->arena, buf_view(&list)) : STR_NONE;
    return rc;
}

int fork_plan_make(struct store_tx *tx, struct call *c, struct fork_plan *p,
                   const struct session_row *fork, struct err *err)
{
    struct agent agent;
    int rc = agent_at(tx, c, p, err);
    if (rc == 0)
        rc = agent_read(&c->arena, p->agent, &agent, err);
    if (rc == 0)
        rc = agent_place(&c->arena, p->from.environment, &agent, err);
    if (rc)
        return rc;
    struct turn *t = mem_zalloc(sizeof *t); /* too large for a store thread's stack */
    turn_init(t, &agent, fork->id, fork->thread_id);
    caps_read(&t->caps, p->from.budget_microusd, p->from.limits);
    p->limits = p->from.limits;
    rc = fold(tx, c, p, t, err);
    if (rc == 0)
        rc = rest(c, p, t, err);
    if (rc == 0)
        rc = outcomes_at(tx, c, p, err);
    turn_fini(t);
    mem_free(t);
    return rc;
}
