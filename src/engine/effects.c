/* What a durable step sets off: the model, the tools, the timer. */
#include "engine/actor.h"

#include "base/log.h"
#include "core/web_rules.h"
#include "engine/grader.h"

#include <stdio.h>

/* ---- model ---- */

static int64_t now_us(const struct actor *a)
{
    return a->engine->cfg.clock.unix_us(a->engine->cfg.clock.self);
}

static const struct turn_block *preview(struct actor *a, size_t index, enum model_block_type type)
{
    bool fresh;
    const struct turn_block *b =
        turn_preview(&a->turn, index, type, now_us(a), &a->engine->cfg.rand, &fresh);
    if (b && fresh)
        hub_preview_start(a->engine->hub, id_str(&a->session_id),
                          type == MODEL_TEXT ? EVENT_AGENT_MESSAGE : EVENT_AGENT_THINKING,
                          id_str(&b->event_id));
    return b;
}

static void on_block_start(void *arg, size_t index, enum model_block_type type)
{
    if (type == MODEL_THINKING)
        preview(arg, index, type); /* a text block is announced with its first text */
}

static void on_text(void *arg, size_t index, struct str text)
{
    struct actor *a = arg;
    if (text.len == 0)
        return;
    const struct turn_block *b = preview(a, index, MODEL_TEXT);
    if (b)
        hub_preview_text(a->engine->hub, id_str(&a->session_id), id_str(&b->event_id),
                         b->content_index, text);
}

void effects_ignore_block(void *arg, size_t index, enum model_block_type type)
{
    (void)arg, (void)index, (void)type;
}

void effects_ignore_text(void *arg, size_t index, struct str text)
{
    (void)arg, (void)index, (void)text;
}

static void copy_block(struct arena *to, struct model_block *b)
{
    b->text = arena_str(to, b->text);
    b->raw = arena_str(to, b->raw);
    b->name = arena_str(to, b->name);
    b->input = arena_str(to, b->input);
}

void effects_count_usage(struct engine *e, const struct model_usage *u)
{
    struct model_usage *sum = &e->stats.usage;
    sum->input_tokens += u->input_tokens;
    sum->output_tokens += u->output_tokens;
    sum->cache_read_tokens += u->cache_read_tokens;
    sum->cache_write_5m_tokens += u->cache_write_5m_tokens;
    sum->cache_write_1h_tokens += u->cache_write_1h_tokens;
    sum->cost_microusd += u->cost_microusd;
}

void effects_copy_result(struct mail *m, const struct model_result *r)
{
    m->result = *r;
    struct model_block *blocks = ARENA_ARRAY(&m->arena, struct model_block, r->nblocks + 1);
    for (size_t i = 0; blocks && i < r->nblocks; i++) {
        blocks[i] = r->blocks[i];
        copy_block(&m->arena, &blocks[i]);
    }
    m->result.blocks = blocks;
    if (str_some(r->refusal_category))
        m->result.refusal_category = arena_str(&m->arena, r->refusal_category);
    if (str_some(r->refusal_explanation))
        m->result.refusal_explanation = arena_str(&m->arena, r->refusal_explanation);
    if (m->arena.failed) {
        m->kind = MAIL_MODEL_FAILED;
        m->failure = (struct model_failure){.kind = MODEL_ERR_FAILED, .usage = r->usage};
        snprintf(m->failure.message, sizeof m->failure.message, "The model's answer is too large.");
    }
}

static void on_done(void *arg, const struct model_result *r)
{
    struct actor *a = arg;
    a->call = NULL;
    effects_count_usage(a->engine, &r->usage);
    struct mail *m = mail_new(MAIL_MODEL_DONE);
    effects_copy_result(m, r);
    actor_post(a, m);
}

static void on_failed(void *arg, const struct model_failure *f)
{
    struct actor *a = arg;
    a->call = NULL;
    a->engine->stats.model_failures++;
    effects_count_usage(a->engine, &f->usage);
    log_line(LOG_WARN, "model request failed", "session", a->session_id.z, "error", f->message,
             NULL);
    struct mail *m = mail_new(MAIL_MODEL_FAILED);
    m->failure = *f;
    actor_post(a, m);
}

static void start_model(struct actor *a)
{
    static const struct model_callbacks callbacks = {
        .block_start = on_block_start, .text_delta = on_text, .done = on_done, .failed = on_failed};
    struct engine *e = a->engine;
    struct err err;
    if (turn_request(&a->turn, &a->request, &err)) {
        struct mail *m = mail_new(MAIL_MODEL_FAILED);
        m->failure.kind = MODEL_ERR_CONTEXT;
        snprintf(m->failure.message, sizeof m->failure.message, "%.*s",
                 (int)sizeof m->failure.message - 1, err.msg);
        list_push(&a->mail, &m->link); /* the tick that follows finds it */
        return;
    }
    e->stats.model_requests++;
    a->call = e->cfg.model.start(e->cfg.model.self, &a->request, &callbacks, a);
}

static void on_counted(void *arg, int64_t tokens)
{
    struct actor *a = arg;
    a->count = NULL;
    struct mail *m = mail_new(MAIL_COUNTED);
    m->tokens = tokens;
    actor_post(a, m);
}

void effects_stop_count(struct actor *a)
{
    struct engine *e = a->engine;
    if (a->count)
        e->cfg.model.cancel(e->cfg.model.self, TAKE_PTR(a->count));
}

static void start_count(struct actor *a)
{
    struct engine *e = a->engine;
    struct err err;
    effects_stop_count(a);
    if (e->cfg.model.count && turn_request(&a->turn, &a->request, &err) == 0) {
        a->count = e->cfg.model.count(e->cfg.model.self, &a->request, on_counted, a);
        return;
    }
    struct mail *m = mail_new(MAIL_COUNTED);
    m->tokens = -1;
    list_push(&a->mail, &m->link); /* the tick that follows finds it */
}

/* ---- tools ---- */

const char *const engine_tool_reasons[ENGINE_TOOL_REASONS] = {
    "timeout",      "cancelled",           "pids",          "out_of_memory", "disk",
    "sandbox_lost", "sandbox_unavailable", "egress_denied", "other",
};

/* Outlives the actor: a call may end after its session was given up. */
struct tool_run {
    struct list link;
    struct engine *engine;
    struct id session_id, tool_use_id;
    bool web;    /* it runs on the server: nothing is kept of it anywhere */
    bool closed; /* the log says that the call was interrupted: nobody waits for its result */
};

static struct tool_run *find_run(struct engine *e, struct str tool_use_id)
{
    list_for_each (it, &e->runs) {
        struct tool_run *run = LIST_ENTRY(it, struct tool_run, link);
        if (str_eq(id_str(&run->tool_use_id), tool_use_id))
            return run;
    }
    return NULL;
}

/* Once for each call that its sandbox did not run to the end. What the agent or its client wanted
 * so is no trouble of the operator's. */
static void count_failure(struct tool_run *run, const char *reason)
{
    size_t i = 0;
    while (i < ENGINE_TOOL_REASONS - 1 && strcmp(engine_tool_reasons[i], reason) != 0)
        i++;
    run->engine->stats.tool_failures[i]++;
    bool wanted = strcmp(reason, "cancelled") == 0 || strcmp(reason, "timeout") == 0;
    log_line(wanted ? LOG_DEBUG : LOG_WARN, "tool call failed in its sandbox", "session",
             run->session_id.z, "tool_use", run->tool_use_id.z, "reason", reason, NULL);
}

static void on_tool_done(void *arg, const struct tool_outcome *o)
{
    struct tool_run *run = arg;
    struct engine *e = run->engine;
    struct actor *a = map_get(&e->actors, id_str(&run->session_id));
    if (o->failure_reason)
        count_failure(run, o->failure_reason);
    /* Of a session that was given up the log still holds the call open: whoever takes it up asks
     * the hand for the result, which must be there then. */
    if (!a && run->closed && !run->web && !e->closing)
        e->cfg.sandbox.ack(e->cfg.sandbox.self, id_str(&run->session_id),
                           id_str(&run->tool_use_id));
    if (a && !e->closing) {
        struct mail *m = mail_new(MAIL_TOOL_DONE);
        m->tool_use_id = run->tool_use_id;
        m->outcome = *o;
        m->outcome.content = arena_str(&m->arena, o->content);
        actor_post(a, m);
    }
    list_remove(&run->link);
    mem_free(run);
}

void effects_free_runs(struct engine *e)
{
    struct list *it;
    while ((it = list_pop(&e->runs)))
        mem_free(LIST_ENTRY(it, struct tool_run, link));
}

struct asked_url {
    const struct actor *actor;
    struct str url;
};

static bool is_asked_url(void *arg, struct str found)
{
    const struct asked_url *asked = arg;
    const struct web_port *web = &asked->actor->engine->cfg.web;
    return web->same_url(web->self, asked->url, found);
}

static bool url_known(void *arg, struct str url, struct str host)
{
    struct actor *a = arg;
    struct asked_url asked = {.actor = a, .url = url};
    const struct web_url wanted = {.host = host, .same = is_asked_url, .arg = &asked};
    return web_url_known(&a->agent, &a->turn.prompt, &wanted);
}

/* After a crash simply once more: it has no effect anywhere. */
static void run_web(struct actor *a, const struct turn_call *c, struct tool_run *run)
{
    const struct web_port *web = &a->engine->cfg.web;
    const struct json *config = a->agent.tools[tool_of(c->name)].config;
    const struct web_call call = {
        .tool_use_id = id_str(&c->id),
        .name = c->name,
        .input = c->input,
        .config = config ? config->raw : STR_NONE,
        .url_known = url_known,
        .arg = a,
    };
    run->web = true;
    web->run(web->self, &call, on_tool_done, run);
}

static void run_call(struct actor *a, struct turn_call *c)
{
    struct engine *e = a->engine;
    c->sent = true;
    if (find_run(e, id_str(&c->id)))
        return; /* started before this process let go of the session: its result is on the way */
    struct tool_run *run = mem_zalloc(sizeof *run);
    *run = (struct tool_run){.engine = e, .session_id = a->session_id, .tool_use_id = c->id};
    list_push(&e->runs, &run->link);
    struct tool_call call = {
        .session_id = id_str(&a->session_id),
        .tool_use_id = id_str(&c->id),
        .name = c->name,
        .input = c->input,
        .environment = a->row.environment,
        .provision = a->provision ? str_z(a->provision) : a->row.provision,
        .first_dispatch = !c->recovered,
        .sandbox_existed = c->recovered ? a->sandbox_at_load : a->row.has_sandbox,
        .had_sandbox = a->sandbox_at_load,
    };
    e->stats.tool_calls += !c->recovered;
    if (e->cfg.web.run && !tool_is_sandboxed(c->name)) {
        run_web(a, c, run);
        return;
    }
    e->cfg.sandbox.run(e->cfg.sandbox.self, &call, on_tool_done, run);
}

static void run_calls(struct actor *a)
{
    if (turn_phase(&a->turn) != TURN_TOOLS)
        return;
    for (size_t i = 0; i < a->turn.ncalls; i++)
        if (a->turn.calls[i].state == CALL_READY && !a->turn.calls[i].sent)
            run_call(a, &a->turn.calls[i]);
}

/* ---- timer ---- */

static void on_timer(void *arg)
{
    struct actor *a = arg;
    a->timer = NULL;
    actor_post(a, mail_new(MAIL_TIMER));
}

static void stop_timer(struct actor *a, struct port_timer **timer)
{
    struct engine *e = a->engine;
    if (*timer)
        e->cfg.clock.cancel(e->cfg.clock.self, TAKE_PTR(*timer));
}

static void cancel_call(struct actor *a, const struct id *id)
{
    struct engine *e = a->engine;
    struct tool_run *run = find_run(e, id_str(id));
    if (run)
        run->closed = true;
    if (run && run->web) {
        e->cfg.web.cancel(e->cfg.web.self, id_str(id));
        return;
    }
    e->cfg.sandbox.cancel(e->cfg.sandbox.self, id_str(&a->session_id), id_str(id));
}

static void answer_grader(struct actor *a, bool may_ask)
{
    a->grader_asked = false;
    if (may_ask)
        grader_go(a);
    else
        grader_deny(a);
}

void effects_start(struct actor *a)
{
    struct engine *e = a->engine;
    struct turn_step *s = &a->commit.step;
    for (size_t i = 0; i < s->ncancel_calls; i++)
        cancel_call(a, &s->cancel_calls[i]);
    if (turn_phase(&a->turn) != TURN_BACKOFF)
        stop_timer(a, &a->timer);
    if (s->sleep_ms > 0 && turn_phase(&a->turn) == TURN_BACKOFF)
        a->timer = e->cfg.clock.start(e->cfg.clock.self, s->sleep_ms, on_timer, a);
    if (!a->turn.counting)
        effects_stop_count(a);
    if (s->start_model && turn_phase(&a->turn) == TURN_MODEL)
        start_model(a);
    else if (s->count_tokens && a->turn.counting)
        start_count(a);
    if (s->grade) {
        a->grader_asked = false; /* that was another */
        grader_start(a);
    } else if (a->grader_asked) {
        answer_grader(a, s->grader_may_ask);
    }
    run_calls(a);
}

void effects_cancel_model(struct actor *a)
{
    struct engine *e = a->engine;
    if (a->call)
        e->cfg.model.cancel(e->cfg.model.self, TAKE_PTR(a->call));
    judge_stop(a);
}

void effects_stop(struct actor *a)
{
    effects_cancel_model(a);
    grader_stop(a);
    effects_stop_count(a);
    stop_timer(a, &a->timer);
    stop_timer(a, &a->again);
}
