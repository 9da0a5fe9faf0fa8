/* The world's clock: what happens next; chance; the course of a run. */
#include "sim.h"

#include "base/log.h"
#include "base/rand.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { RUN_BYTES = 512 << 20, STEPS_MAX = 2 * 1000 * 1000 };
static const int64_t start_us = INT64_C(1780000000000000);

/* ---- chance ---- */

uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

struct rng rng_of(uint64_t a, uint64_t b)
{
    struct rng r = {a};
    r.state = rng_next(&r) ^ (b * UINT64_C(0xd1342543de82ef95));
    (void)rng_next(&r);
    return r;
}

int64_t rng_below(struct rng *r, int64_t n)
{
    return n > 0 ? (int64_t)(rng_next(r) % (uint64_t)n) : 0;
}

int64_t rng_between(struct rng *r, int64_t lo, int64_t hi)
{
    return lo + rng_below(r, hi - lo + 1);
}

bool rng_chance(struct rng *r, int64_t num, int64_t den)
{
    return den > 0 && rng_below(r, den) < num;
}

int64_t rng_delay(struct rng *r, int64_t typical_us, int64_t most_us)
{
    int64_t us = rng_below(r, typical_us * 2) + 1;
    if (rng_chance(r, 1, 20))
        us = rng_below(r, most_us) + 1;
    return us < most_us ? us : most_us;
}

/* Map keys and the like must be the same in every run: these stand before the kernel's. */
void rand_fill(void *p, size_t n)
{
    static struct rng r = {0x5eed};
    unsigned char *to = p;
    while (n--)
        *to++ = (unsigned char)rng_next(&r);
}

uint64_t rand_u64(void)
{
    uint64_t v;
    rand_fill(&v, sizeof v);
    return v;
}

/* ---- words ---- */

void sim_fail(struct sim *s, const char *fmt, ...)
{
    if (s->failure[0])
        return;
    va_list ap;
    va_start(ap, fmt);
    int n = snprintf(s->failure, sizeof s->failure,
                     "at %.6f s: ", (double)(s->now_us - start_us) / 1e6);
    vsnprintf(s->failure + n, sizeof s->failure - (size_t)n, fmt, ap);
    va_end(ap);
    SIM_TRACE(s, "VIOLATION %s", s->failure);
}

void sim_trace(struct sim *s, const char *fmt, ...)
{
    if (!s->verbose)
        return;
    va_list ap;
    va_start(ap, fmt);
    printf("%12.6f ", (double)(s->now_us - start_us) / 1e6);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
}

static struct sim *tracing; /* the engine's log lines go into the trace */

/* An engine may let go of a session that is another's now; for any other reason it must not. */
static void check_giving_up(const char *msg, const char *why)
{
    if (strcmp(msg, "cannot work on a session") == 0 && tracing && tracing->chaos &&
        strstr(why, "is at epoch") == NULL)
        sim_fail(tracing, "%s: %s", msg, why);
}

void log_line(enum log_level level, const char *msg, ...)
{
    (void)level;
    char line[1024];
    int n = snprintf(line, sizeof line, "%s", msg);
    va_list ap;
    va_start(ap, msg);
    const char *key;
    while ((key = va_arg(ap, const char *)) && n < (int)sizeof line) {
        const char *value = va_arg(ap, const char *);
        n += snprintf(line + n, sizeof line - (size_t)n, " %s=%s", key, value);
        if (strcmp(key, "error") == 0)
            check_giving_up(msg, value);
    }
    va_end(ap);
    if (!tracing || !tracing->verbose)
        return;
    sim_trace(tracing, "  log: %s", line);
}

bool log_wants(enum log_level level)
{
    (void)level;
    return tracing && tracing->verbose;
}

void log_err(enum log_level level, const char *msg, const struct err *err)
{
    log_line(level, msg, "error", err->msg, NULL);
}

void log_setup(enum log_level min, bool json)
{
    (void)min;
    (void)json;
}

/* ---- tasks ---- */

void *sim_alloc(struct sim *s, size_t len)
{
    void *p = arena_alloc(&s->arena, len);
    if (!p) {
        fprintf(stderr, "sim: a run needs more than its memory\n");
        abort();
    }
    return p;
}

static bool before(const struct task *a, const struct task *b)
{
    return a->at_us < b->at_us || (a->at_us == b->at_us && a->order < b->order);
}

struct task *sim_after(struct sim *s, int64_t delay_us, void (*fn)(struct sim *s, void *arg),
                       void *arg)
{
    struct task *t = sim_alloc(s, sizeof *t);
    *t = (struct task){s->now_us + (delay_us > 0 ? delay_us : 0), s->order++, fn, arg};
    if (s->ntasks == s->heap_cap) {
        s->heap_cap = s->heap_cap ? s->heap_cap * 2 : 256;
        s->heap = mem_realloc(s->heap, s->heap_cap * sizeof *s->heap);
    }
    size_t i = s->ntasks++;
    for (; i > 0 && before(t, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = t;
    return t;
}

void task_cancel(struct task **t)
{
    if (*t)
        (*t)->fn = NULL;
    *t = NULL;
}

static struct task *next_task(struct sim *s)
{
    if (s->ntasks == 0)
        return NULL;
    struct task *top = s->heap[0], *last = s->heap[--s->ntasks];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->ntasks)
            break;
        if (child + 1 < s->ntasks && before(s->heap[child + 1], s->heap[child]))
            child++;
        if (!before(s->heap[child], last))
            break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    if (s->ntasks)
        s->heap[i] = last;
    return top;
}

struct session *sim_session(struct sim *s, struct str id)
{
    for (int i = 0; i < s->knobs.sessions; i++)
        if (str_eq(id_str(&s->sessions[i].id), id))
            return &s->sessions[i];
    return NULL;
}

/* ---- a run ---- */

static void choose_knobs(struct sim *s)
{
    struct rng r = rng_of(s->seed, 1);
    struct knobs *k = &s->knobs;
    static const int64_t rates[] = {0, 400, 100, 40};
    k->sessions = (int)rng_between(&r, 1, 1 + rng_below(&r, SIM_SESSIONS));
    k->actions = (int)rng_between(&r, 20, rng_chance(&r, 1, 4) ? 300 : 90);
    k->nodes = rng_chance(&r, 1, 3) ? 2 : 1;
    int64_t rate = rates[rng_below(&r, COUNT_OF(rates))];
    for (int i = 0; i < BOUNDARIES; i++) /* a run may like one boundary in particular */
        k->crash_den[i] = rng_chance(&r, 1, 10)                     ? 15
                          : i >= AT_TOOL_RUN && i <= AT_TOOL_CANCEL ? rate / 4
                                                                    : rate;
    if (rng_chance(&r, 1, 8)) /* and some see no crash at all */
        memset(k->crash_den, 0, sizeof k->crash_den);
    k->commit_us = rng_chance(&r, 1, 4) ? 200 * SIM_MS : 3 * SIM_MS;
    k->tool_us = rng_chance(&r, 1, 4) ? 10 * SIM_SECOND : 300 * SIM_MS;
    k->model_us = rng_chance(&r, 1, 4) ? 8 * SIM_SECOND : 500 * SIM_MS;
    k->fail_pct = (int)rng_below(&r, 4) * 10;
    k->hand_pct = (int)rng_below(&r, 3) * 3;
    k->disk_pct = (int)rng_below(&r, 3) * 2;
    k->keep_us = rng_chance(&r, 1, 3) ? 4 * SIM_SECOND : 30 * SIM_MS;
    k->loss_den = rng_chance(&r, 1, 2) ? 0 : rng_chance(&r, 1, 3) ? 20 : 150;
    if (s->max_actions >= 0 && s->max_actions < k->actions)
        k->actions = s->max_actions;
}

static void act(struct sim *s, void *arg)
{
    (void)arg;
    if (s->actions_done >= s->knobs.actions) {
        s->chaos = false;
        return;
    }
    int number = (int)s->actions_done++;
    client_act(s, number);
    struct rng r = rng_of(s->seed, (uint64_t)number << 8 | 7);
    sim_after(s, rng_delay(&r, 400 * SIM_MS, 20 * SIM_SECOND), act, NULL);
}

static void reap(struct sim *s)
{
    for (size_t i = 0; i < COUNT_OF(s->nodes); i++)
        if (s->nodes[i] && s->nodes[i]->dead && s->nodes[i]->engine)
            node_reap(s->nodes[i]);
}

static void look(struct sim *s)
{
    for (size_t i = 0; i < COUNT_OF(s->nodes); i++)
        if (s->nodes[i] && !s->nodes[i]->dead)
            check_live(s, s->nodes[i], false);
}

/* Until nothing is left to happen, or everything rests. */
static void run_tasks(struct sim *s, bool (*until)(struct sim *s))
{
    int64_t deadline_us = s->now_us + INT64_C(4) * 3600 * SIM_SECOND;
    while (!s->failure[0] && !until(s)) {
        struct task *t = next_task(s);
        if (!t)
            break;
        if (!t->fn)
            continue;
        if (t->at_us > s->now_us)
            s->now_us = t->at_us;
        if (++s->steps > STEPS_MAX || s->now_us > deadline_us) {
            sim_fail(s, "no end: %" PRId64 " steps", s->steps);
            break;
        }
        t->fn(s, t->arg);
        look(s);
        reap(s);
    }
}

static bool chaos_over(struct sim *s)
{
    return !s->chaos;
}

enum { SETTLE_US = 10 * SIM_SECOND }; /* without a commit, with every session at rest */

static bool settled(struct sim *s)
{
    for (int i = 0; i < s->knobs.sessions; i++) {
        const struct db_session *row = s->sessions[i].row;
        if (row && !row->gone && row->row.status != SESSION_IDLE &&
            row->row.status != SESSION_TERMINATED)
            return false;
    }
    return s->now_us >= s->changed_us + SETTLE_US && check_quiet(s);
}

static void heal(struct sim *s)
{
    SIM_TRACE(s, "---- faults stop ----");
    s->chaos = false;
    s->disk_full_until_us = s->outage_until_us = 0;
    for (int i = 0; i < s->knobs.nodes; i++)
        if (!s->nodes[i] || s->nodes[i]->dead)
            node_start(s, i);
    /* Clients answer what waits for them, until nothing does. News between processes may still be
     * on its way when nobody seems to work. */
    for (int round = 0; round < 60 && !s->failure[0]; round++) {
        s->changed_us = s->now_us;
        run_tasks(s, settled);
        if (!client_answer_all(s))
            break;
    }
}

static void create_sessions(struct sim *s)
{
    for (int i = 0; i < s->knobs.sessions; i++) {
        struct session *ss = &s->sessions[i];
        struct rng r = rng_of(s->seed, (uint64_t)i << 8 | 3);
        ss->sim = s;
        ss->index = i;
        list_init(&ss->tools);
        list_init(&ss->disk.wanted);
        list_init(&ss->copies);
        unsigned char entropy[10] = {(unsigned char)i};
        ss->id = id_make("sesn", start_us / 1000, entropy);
        client_create(s, ss, &r);
    }
}

bool sim_run(struct sim *s, uint64_t seed, int max_actions, bool verbose)
{
    *s = (struct sim){.seed = seed, .max_actions = max_actions, .verbose = verbose};
    arena_init(&s->arena, RUN_BYTES);
    s->now_us = start_us;
    s->rng = rng_of(seed, 0);
    list_init(&s->sent);
    choose_knobs(s);
    s->workspace = id_from(STR("wrkspc_sim"));
    s->db = simdb_new(&check_hooks, s);
    struct simdb_rules *rules = simdb_rules(s->db);
    rules->no_fence = sim_bug == BUG_NO_FENCE;
    rules->no_mark = sim_bug == BUG_NO_SANDBOX_MARK;
    rules->no_due = sim_bug == BUG_NO_DUE;
    tracing = s;
    s->chaos = true;
    for (int i = 0; i < s->knobs.nodes; i++)
        node_start(s, i);
    create_sessions(s);
    sim_after(s, 10 * SIM_MS, act, NULL);
    run_tasks(s, chaos_over);
    if (!s->failure[0])
        heal(s);
    if (!s->failure[0])
        check_end(s);
    return !s->failure[0];
}

void sim_free(struct sim *s)
{
    s->chaos = false;
    for (size_t i = 0; i < COUNT_OF(s->nodes); i++)
        if (s->nodes[i] && s->nodes[i]->engine) {
            s->nodes[i]->dead = true;
            node_reap(s->nodes[i]);
        }
    for (int i = 0; i < s->knobs.sessions; i++)
        watch_fini(&s->sessions[i].watch);
    tracing = NULL;
    map_fini(&s->sent_by_id);
    map_fini(&s->event_ids);
    simdb_free(s->db);
    mem_free(s->heap);
    arena_fini(&s->arena);
}
