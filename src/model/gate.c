#include "model/gate.h"

#include "base/map.h"
#include "io/loop.h"

enum { MINUTE_MS = 60 * 1000 };
#define TOKENS_MOST                                                                                \
    INT64_C(1000000000) /* times 60000, times a month of milliseconds, still fits                  \
                         */

struct gate_session {
    struct list link; /* of the ring; in it while somebody waits */
    struct list queue;
    size_t id_len;
    char id[];
};

struct gate {
    struct loop *loop;
    struct gate_limits limits;
    struct bucket requests, tokens;
    struct list ring;    /* the sessions that wait, the next one first */
    struct map sessions; /* the same by id */
    size_t waiting;
    int64_t inside;
    struct loop_timer timer;
    bool has_timer;
};

/* ---- buckets ---- */

static int64_t bounded(int64_t tokens)
{
    return tokens > TOKENS_MOST ? TOKENS_MOST : tokens < -TOKENS_MOST ? -TOKENS_MOST : tokens;
}

struct bucket bucket_full(int64_t per_minute, int64_t now_ms)
{
    per_minute = bounded(per_minute);
    return (struct bucket){per_minute, per_minute * MINUTE_MS, now_ms};
}

int64_t bucket_wait_ms(struct bucket *b, int64_t now_ms, int64_t least)
{
    if (b->per_minute <= 0)
        return 0;
    int64_t most = b->per_minute * MINUTE_MS, passed = now_ms - b->at_ms;
    b->at_ms = now_ms;
    /* A token a minute is one unit a millisecond. */
    if (passed >= MINUTE_MS && b->level >= 0)
        b->level = most;
    else if (passed > 0)
        b->level += (passed < INT32_MAX ? passed : INT32_MAX) * b->per_minute;
    if (b->level > most)
        b->level = most;
    int64_t lacking = least * MINUTE_MS - b->level;
    return lacking <= 0 ? 0 : (lacking + b->per_minute - 1) / b->per_minute;
}

void bucket_take(struct bucket *b, int64_t tokens)
{
    if (b->per_minute <= 0)
        return;
    int64_t most = b->per_minute * MINUTE_MS;
    b->level -= bounded(tokens) * MINUTE_MS;
    /* No debt of more than an hour, whatever was counted. */
    if (b->level < -60 * most)
        b->level = -60 * most;
    if (b->level > most)
        b->level = most;
}

/* ---- the gate ---- */

struct gate *gate_new(struct loop *l, const struct gate_limits *limits)
{
    struct gate *g = mem_zalloc(sizeof *g);
    g->loop = l;
    g->limits = *limits;
    int64_t now = loop_now_ms(l);
    g->requests = bucket_full(limits->requests_per_minute, now);
    g->tokens = bucket_full(limits->tokens_per_minute, now);
    list_init(&g->ring);
    return g;
}

static void timer_closed(struct loop_timer *timer)
{
    mem_free(CONTAINER_OF(timer, struct gate, timer));
}

void gate_free(struct gate *g)
{
    if (!g)
        return;
    map_fini(&g->sessions);
    if (g->has_timer)
        loop_timer_close(&g->timer, timer_closed);
    else
        mem_free(g);
}

size_t gate_waiting(const struct gate *g)
{
    return g->waiting;
}

static bool has_room(const struct gate *g)
{
    return g->limits.max_concurrent <= 0 || g->inside < g->limits.max_concurrent;
}

/* Milliseconds until the rates let one more begin. A call larger than the bucket passes when there
 * is anything in it, and the next ones wait the debt out: else it would never pass. */
static int64_t rates_wait_ms(struct gate *g)
{
    int64_t now = loop_now_ms(g->loop);
    int64_t requests = bucket_wait_ms(&g->requests, now, 1);
    int64_t tokens = bucket_wait_ms(&g->tokens, now, 1);
    return requests > tokens ? requests : tokens;
}

static void let_in(struct gate *g, struct gate_wait *w)
{
    w->inside = true;
    g->inside++;
    bucket_take(&g->requests, 1);
    bucket_take(&g->tokens, w->tokens);
}

static void dequeue(struct gate *g, struct gate_wait *w)
{
    struct gate_session *s = w->session;
    list_remove(&w->link);
    w->waiting = false;
    w->session = NULL;
    g->waiting--;
    if (!list_empty(&s->queue))
        return;
    list_remove(&s->link);
    (void)map_remove(&g->sessions, str_n(s->id, s->id_len));
    mem_free(s);
}

static struct gate_wait *next_in_turn(struct gate *g)
{
    struct gate_session *s = LIST_ENTRY(list_pop(&g->ring), struct gate_session, link);
    list_push(&g->ring, &s->link); /* behind all others, should more of it wait */
    return LIST_ENTRY(s->queue.next, struct gate_wait, link);
}

static void on_timer(struct loop_timer *timer);

static void wait_for_rates(struct gate *g, int64_t ms)
{
    if (!g->has_timer) {
        g->has_timer = true;
        loop_timer_init(g->loop, &g->timer);
    }
    loop_timer_start(&g->timer, ms, on_timer);
}

static void serve(struct gate *g)
{
    while (!list_empty(&g->ring) && has_room(g)) {
        int64_t ms = rates_wait_ms(g);
        if (ms) {
            wait_for_rates(g, ms);
            return;
        }
        struct gate_wait *w = next_in_turn(g);
        dequeue(g, w);
        let_in(g, w);
        w->go(w);
    }
    if (g->has_timer)
        loop_timer_stop(&g->timer);
}

static void on_timer(struct loop_timer *timer)
{
    serve(CONTAINER_OF(timer, struct gate, timer));
}

static struct gate_session *session_of(struct gate *g, struct str id)
{
    struct gate_session *s = map_get(&g->sessions, id);
    if (s)
        return s;
    s = mem_zalloc(sizeof *s + id.len);
    if (id.len)
        memcpy(s->id, id.ptr, id.len);
    s->id_len = id.len;
    list_init(&s->queue);
    list_push(&g->ring, &s->link);
    (void)map_put(&g->sessions, str_n(s->id, s->id_len), s);
    return s;
}

bool gate_enter(struct gate *g, struct gate_wait *w, struct str session_id, int64_t tokens,
                void (*go)(struct gate_wait *w))
{
    *w = (struct gate_wait){.go = go, .tokens = bounded(tokens)};
    list_init(&w->link);
    bool first = list_empty(&g->ring) && has_room(g);
    int64_t ms = first ? rates_wait_ms(g) : 0;
    if (first && ms == 0) {
        let_in(g, w);
        return true;
    }
    w->waiting = true;
    w->session = session_of(g, session_id);
    list_push(&w->session->queue, &w->link);
    g->waiting++;
    if (ms)
        wait_for_rates(g, ms);
    return false;
}

void gate_leave(struct gate *g, struct gate_wait *w, int64_t used_tokens)
{
    if (w->waiting)
        dequeue(g, w);
    if (!w->inside)
        return;
    w->inside = false;
    g->inside--;
    if (used_tokens >= 0)
        bucket_take(&g->tokens, used_tokens - w->tokens);
    serve(g);
}
