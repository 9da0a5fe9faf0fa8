/* Clock, randomness and the model's provider. */
#include "sim.h"

#include "json/writer.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- clock ---- */

struct port_timer {
    struct list link;
    struct node *node;
    struct task *task;
    void (*fn)(void *arg);
    void *arg;
    bool of_actor, late;
};

static int64_t unix_us(void *self)
{
    struct node *n = self;
    return n->sim->now_us + n->skew_us;
}

static void ring(struct sim *s, void *arg)
{
    struct port_timer *t = arg;
    (void)s;
    t->task = NULL;
    list_remove(&t->link);
    /* With the bug an actor may have lost sight of a timer and be gone. */
    bool stray = sim_bug == BUG_LATE_TIMER && t->of_actor && !node_actor_waits(t->node, t->arg);
    if (t->node->dead || stray || !boundary(t->node, AT_TIMER))
        return;
    t->fn(t->arg);
    boundary_after(t->node, AT_TIMER);
}

static struct port_timer *timer_start(void *self, int64_t delay_ms, void (*fn)(void *arg),
                                      void *arg)
{
    struct node *n = self;
    struct port_timer *t = sim_alloc(n->sim, sizeof *t);
    *t = (struct port_timer){.node = n, .fn = fn, .arg = arg};
    t->of_actor = n->engine && node_has_actor(n, arg);
    list_push(&n->timers, &t->link);
    if (!n->dead)
        t->task = sim_after(n->sim, delay_ms * SIM_MS, ring, t);
    return t;
}

static void timer_cancel(void *self, struct port_timer *t)
{
    struct node *n = self;
    if (sim_bug == BUG_LATE_TIMER && !n->dead && t->of_actor) {
        t->late = true;
        return;
    }
    task_cancel(&t->task);
    list_remove(&t->link);
}

void timers_die(struct node *n)
{
    list_for_each (it, &n->timers)
        task_cancel(&LIST_ENTRY(it, struct port_timer, link)->task);
}

struct clock_port clock_of(struct node *n)
{
    return (struct clock_port){n, unix_us, timer_start, timer_cancel};
}

/* ---- random ---- */

static void fill(void *self, void *p, size_t len)
{
    struct node *n = self;
    unsigned char *to = p;
    while (len--)
        *to++ = (unsigned char)rng_next(&n->rng);
}

struct rand_port rand_of(struct node *n)
{
    return (struct rand_port){n, fill};
}

/* ---- model ---- */

struct model_call {
    struct list link;
    struct node *node;
    struct session *session;
    struct task *task;
    const struct model_callbacks *cb;
    void (*counted)(void *arg, int64_t tokens);
    void *arg;
    struct rng rng;
    struct model_block blocks[12];
    struct model_result result;
    struct model_failure failure;
    enum model_purpose purpose;
    bool fails;
    size_t at; /* the next block to stream */
    int64_t input_tokens, output_tokens, context_tokens;
};

enum { INPUT_PRICE = 3, OUTPUT_PRICE = 15, SMALL_CONTEXT = 4000 }; /* micro-dollars a token */

struct model_facts model_facts_of(struct str model)
{
    struct model_facts f = {.context_tokens = 200000,
                            .max_output_tokens = 4000,
                            .input_price = INPUT_PRICE * INT64_C(1000000),
                            .output_price = OUTPUT_PRICE * INT64_C(1000000),
                            .priced = true,
                            .system_messages = true,
                            .counts_tokens = true};
    if (str_eqz(model, "sim-small")) {
        f.context_tokens = SMALL_CONTEXT;
        f.max_output_tokens = 300;
    }
    if (str_eqz(model, "sim-unpriced"))
        f.priced = false;
    return f;
}

static struct model_facts facts(void *self, struct str model, struct str speed)
{
    (void)self;
    (void)speed;
    return model_facts_of(model);
}

static struct model_usage bill(struct model_call *c, int64_t output_tokens)
{
    struct model_usage u = {.input_tokens = c->input_tokens, .output_tokens = output_tokens};
    u.cost_microusd = u.input_tokens * INPUT_PRICE + u.output_tokens * OUTPUT_PRICE;
    return u;
}

/* What the provider asks for, whether or not anybody hears the answer. */
static void charge(struct model_call *c, const struct model_usage *u)
{
    struct session *ss = c->session;
    ss->billed_microusd += u->cost_microusd;
    SIM_TRACE(ss->sim,
              "   s%d bill %" PRId64 " for %" PRId64 " + %" PRId64 " tokens, %" PRId64 " in all",
              ss->index, u->cost_microusd, u->input_tokens, u->output_tokens, ss->billed_microusd);
    check_bill(c->session);
}

static void plan_call(struct model_call *c, struct model_block *b, size_t i)
{
    static const char *const names[] = {"bash",   "bash", "read",   "write",  "glob",
                                        "lookup", "grep", "lookup", "no_such"};
    static const char *const odd[] = {"[1]", "{\"a\":", "17"};
    struct sim *s = c->session->sim;
    b->type = MODEL_TOOL_USE;
    b->name = str_z(names[rng_below(&c->rng, COUNT_OF(names))]);
    b->input =
        arena_printf(&s->arena, "{\"command\":\"%" PRIu64 ".%zu\"}", c->session->requests, i);
    b->input_malformed = rng_chance(&c->rng, 1, 25);
    if (b->input_malformed)
        b->input = str_z(odd[rng_below(&c->rng, COUNT_OF(odd))]);
}

static void plan_answer(struct model_call *c)
{
    struct sim *s = c->session->sim;
    static const enum model_stop odd[] = {MODEL_STOP_MAX_TOKENS, MODEL_STOP_PAUSE,
                                          MODEL_STOP_REFUSAL, MODEL_STOP_CONTEXT};
    size_t n = 0, calls = 0;
    struct model_block *b = c->blocks;
    if (rng_chance(&c->rng, 1, 4))
        b[n++] = (struct model_block){
            .type = MODEL_THINKING,
            .raw = arena_printf(
                &s->arena,
                "{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"s%" PRIu64 "\"}",
                c->session->requests)};
    for (int64_t texts = rng_below(&c->rng, 3); texts > 0; texts--)
        b[n++] = (struct model_block){.type = MODEL_TEXT,
                                      .text = rng_chance(&c->rng, 1, 10)
                                                  ? STR("")
                                                  : arena_printf(&s->arena,
                                                                 "An answer %" PRIu64 ".%" PRId64,
                                                                 c->session->requests, texts)};
    if (rng_chance(&c->rng, s->chaos ? 60 : 20, 100))
        calls = (size_t)rng_between(&c->rng, 1, rng_chance(&c->rng, 1, 3) ? 4 : 1);
    for (size_t i = 0; i < calls; i++)
        plan_call(c, &b[n++], i);
    c->result.blocks = b;
    c->result.nblocks = n;
    c->result.stop = calls ? MODEL_STOP_TOOL_USE : MODEL_STOP_END;
    if (rng_chance(&c->rng, 1, 15))
        c->result.stop = odd[rng_below(&c->rng, COUNT_OF(odd))];
    if (c->result.stop == MODEL_STOP_PAUSE && !s->chaos)
        c->result.stop = MODEL_STOP_END;
    if (c->result.stop == MODEL_STOP_REFUSAL && rng_chance(&c->rng, 1, 2)) {
        c->result.refusal_category = STR("cyber");
        c->result.refusal_explanation = STR("no");
    }
}

/* A summary, or a verdict; or neither. */
static void plan_words(struct model_call *c, enum model_purpose purpose)
{
    static const char *const verdicts[] = {"allow", "ask", "deny"};
    struct sim *s = c->session->sim;
    struct str text = STR("What was said so far.");
    if (purpose == MODEL_FOR_JUDGE)
        text = arena_printf(&s->arena, "{\"verdicts\":[{\"call\":1,\"verdict\":\"%s\"}]}",
                            verdicts[rng_below(&c->rng, 3)]);
    c->blocks[0] = (struct model_block){.type = MODEL_TEXT, .text = text};
    c->result.blocks = c->blocks;
    c->result.nblocks = rng_chance(&c->rng, 1, 8) ? 0 : 1;
    c->result.stop = rng_chance(&c->rng, 1, 10) ? MODEL_STOP_REFUSAL : MODEL_STOP_END;
}

/* A look at the files, a verdict, or nonsense; in the end always a verdict. */
static void plan_grade(struct model_call *c)
{
    static const char *const verdicts[] = {"met", "met", "met", "partially_met", "not_met"};
    struct sim *s = c->session->sim;
    struct model_block *b = c->blocks;
    int64_t dice = rng_below(&c->rng, s->chaos ? 10 : 5);
    *b = (struct model_block){.type = MODEL_TOOL_USE, .name = STR("submit_verdict")};
    b->input = arena_printf(
        &s->arena,
        "{\"rubric_applies\":%s,\"criteria\":[{\"number\":1,\"verdict\":\"%s\",\"comment\":"
        "\"c\",\"evidence\":\"f:1\"},{\"number\":2,\"verdict\":\"%s\",\"comment\":\"c\","
        "\"evidence\":\"f:2\"}]}",
        rng_chance(&c->rng, 1, 10) ? "false" : "true", verdicts[rng_below(&c->rng, 5)],
        verdicts[rng_below(&c->rng, 5)]);
    if (dice >= 7) {
        b->name = STR("bash");
        b->input = STR("{\"command\":\"ls\"}");
    } else if (dice == 6) {
        b->input = STR("{\"criteria\":[]}");
    } else if (dice == 5) {
        *b = (struct model_block){.type = MODEL_TEXT, .text = STR("All is well: satisfied.")};
    }
    c->result.blocks = b;
    c->result.nblocks = 1;
    c->result.stop = b->type == MODEL_TEXT ? MODEL_STOP_END : MODEL_STOP_TOOL_USE;
}

static void plan_failure(struct model_call *c)
{
    struct sim *s = c->session->sim;
    bool outage = s->now_us < s->outage_until_us;
    if (c->input_tokens > c->context_tokens) {
        c->fails = true; /* refused at once, which costs nothing */
        c->failure.kind = MODEL_ERR_CONTEXT;
        c->result.nblocks = 0;
        c->input_tokens = c->output_tokens = 0;
        return;
    }
    c->fails = outage || (s->chaos && rng_chance(&c->rng, s->knobs.fail_pct, 100));
    if (!c->fails)
        return;
    c->failure.kind = (enum model_error_kind)rng_below(
        &c->rng, rng_chance(&c->rng, 1, 5) ? MODEL_ERR_CONTEXT + 1 : MODEL_ERR_FAILED + 1);
    if (outage)
        c->failure.kind = MODEL_ERR_OVERLOADED;
    c->failure.timed_out = c->failure.kind == MODEL_ERR_FAILED && rng_chance(&c->rng, 1, 3);
    if (rng_chance(&c->rng, 1, 4))
        c->failure.retry_after_ms = rng_below(&c->rng, 90000);
    snprintf(c->failure.message, sizeof c->failure.message, "The provider failed.");
}

static void finish(struct sim *s, struct model_call *c)
{
    list_remove(&c->link);
    c->task = NULL;
    struct model_usage u = bill(c, c->fails ? c->output_tokens / 2 : c->output_tokens);
    bool billed = !c->fails || c->at > 0;
    if (!billed)
        u = (struct model_usage){0};
    charge(c, &u);
    if (!boundary(c->node, AT_MODEL_DONE))
        return;
    SIM_TRACE(s, "n%d s%d model %s", c->node->index, c->session->index,
              c->fails ? "fails" : "answers");
    if (c->fails) {
        c->failure.usage = u;
        c->cb->failed(c->arg, &c->failure);
    } else {
        c->result.usage = u;
        c->cb->done(c->arg, &c->result);
    }
    boundary_after(c->node, AT_MODEL_DONE);
}

static void stream(struct sim *s, void *arg)
{
    struct model_call *c = arg;
    if (c->node->dead || (sim_bug == BUG_LATE_ANSWER && !node_has_actor(c->node, c->arg)))
        return;
    bool cut = c->fails && rng_chance(&c->rng, 1, 2);
    if (c->at == c->result.nblocks || cut) {
        finish(s, c);
        return;
    }
    const struct model_block *b = &c->result.blocks[c->at];
    c->task = sim_after(s, rng_delay(&c->rng, s->knobs.model_us / 4, 60 * SIM_SECOND), stream, c);
    size_t i = c->at++;
    c->cb->block_start(c->arg, i, b->type);
    if (b->type != MODEL_TEXT || c->node->dead || !c->task)
        return;
    size_t half = b->text.len / 2;
    c->cb->text_delta(c->arg, i, str_take(b->text, half));
    if (c->task && !c->node->dead)
        c->cb->text_delta(c->arg, i, str_skip(b->text, half));
}

static struct model_call *new_call(struct node *n, const struct model_request *req, void *arg)
{
    struct sim *s = n->sim;
    struct model_call *c = sim_alloc(s, sizeof *c);
    *c = (struct model_call){.node = n, .arg = arg, .session = sim_session(s, req->session_id)};
    list_init(&c->link);
    c->purpose = req->purpose;
    c->context_tokens = model_facts_of(req->model).context_tokens;
    c->input_tokens = (int64_t)(req->messages.len + req->system.len + req->tools.len) / 4 + 1;
    return c;
}

static struct model_call *start(void *self, const struct model_request *req,
                                const struct model_callbacks *cb, void *arg)
{
    struct node *n = self;
    struct sim *s = n->sim;
    struct model_call *c = new_call(n, req, arg);
    if (!boundary(n, AT_MODEL_START))
        return c;
    if (!c->session) {
        sim_fail(s, "a request for an unknown session");
        return c;
    }
    check_request(n, c->session, req);
    list_for_each (it, &n->calls)
        if (LIST_ENTRY(it, struct model_call, link)->session == c->session &&
            sim_bug != BUG_LATE_ANSWER)
            sim_fail(s, "two requests of one session at a time");
    c->session->requests++;
    s->requests++;
    c->cb = cb;
    c->rng = rng_of(s->seed ^ (uint64_t)c->session->index << 32, c->session->requests);
    c->output_tokens = rng_between(&c->rng, 5, 300);
    if (req->max_tokens > 0 && c->output_tokens > req->max_tokens)
        c->output_tokens = req->max_tokens;
    if (req->purpose == MODEL_FOR_TURN)
        plan_answer(c);
    else if (req->purpose == MODEL_FOR_GRADER)
        plan_grade(c);
    else
        plan_words(c, req->purpose);
    plan_failure(c);
    list_push(&n->calls, &c->link);
    SIM_TRACE(s, "n%d s%d model starts for %d, %zu bytes", n->index, c->session->index,
              (int)req->purpose, req->messages.len);
    c->task = sim_after(s, rng_delay(&c->rng, s->knobs.model_us, 100 * SIM_SECOND), stream, c);
    boundary_after(n, AT_MODEL_START);
    return c;
}

/* What the provider bills for a call that is cancelled now. */
static struct model_usage so_far(struct model_call *c)
{
    size_t n = c->result.nblocks;
    return c->at == 0 ? (struct model_usage){0}
                      : bill(c, c->output_tokens * (int64_t)c->at / (int64_t)(n ? n : 1));
}

static void partial(void *self, struct model_call *c, struct model_usage *out)
{
    (void)self;
    *out = so_far(c);
}

static void cancel(void *self, struct model_call *c)
{
    struct node *n = self;
    if (!boundary(n, AT_MODEL_CANCEL) || !c->task)
        return;
    SIM_TRACE(n->sim, "n%d s%d model cancelled", n->index, c->session->index);
    if (c->cb) {
        struct model_usage u = so_far(c);
        charge(c, &u);
    }
    if (sim_bug == BUG_LATE_ANSWER && c->cb && c->purpose == MODEL_FOR_TURN)
        return;
    task_cancel(&c->task);
    list_remove(&c->link);
    boundary_after(n, AT_MODEL_CANCEL);
}

static void tell_count(struct sim *s, void *arg)
{
    struct model_call *c = arg;
    c->task = NULL;
    if (!c->node->dead)
        c->counted(c->arg, s->chaos && rng_chance(&s->rng, 1, 4) ? -1 : c->input_tokens);
}

static struct model_call *count(void *self, const struct model_request *req,
                                void (*done)(void *arg, int64_t tokens), void *arg)
{
    struct node *n = self;
    struct model_call *c = new_call(n, req, arg);
    c->counted = done;
    if (!n->dead)
        c->task =
            sim_after(n->sim, rng_delay(&n->sim->rng, 50 * SIM_MS, 5 * SIM_SECOND), tell_count, c);
    return c;
}

void models_die(struct node *n)
{
    struct list *it;
    while ((it = list_pop(&n->calls))) {
        struct model_call *c = LIST_ENTRY(it, struct model_call, link);
        if (c->task && c->cb) { /* the provider works on and sends its bill */
            struct model_usage u = bill(c, c->output_tokens);
            charge(c, &u);
        }
        task_cancel(&c->task);
    }
}

struct model_port model_of(struct node *n)
{
    return (struct model_port){.self = n,
                               .start = start,
                               .cancel = cancel,
                               .partial = partial,
                               .facts = facts,
                               .count = count};
}
