/* The judge of the policy `auto`: asked between a model's answer and its way into the log.
 *
 * The answer waits in memory. If the process dies meanwhile, the request is sent again like any
 * other whose answer was lost; its reservation covers what the judge may have cost.
 */
#include "engine/actor.h"

#include "base/log.h"

static void finish(struct actor *a, const struct model_result *answer,
                   const struct model_usage *usage)
{
    struct mail *m = TAKE_PTR(a->judging);
    a->call = NULL;
    a->turn.answered = false;
    effects_count_usage(a->engine, usage);
    m->judge = *usage;
    if (answer)
        permission_answer(&m->result, answer, m->judged);
    actor_post(a, m);
}

static void on_done(void *arg, const struct model_result *r)
{
    finish(arg, r, &r->usage);
}

static void on_failed(void *arg, const struct model_failure *f)
{
    struct actor *a = arg;
    a->engine->stats.model_failures++;
    log_line(LOG_WARN, "the judge of a tool call could not be asked", "session", a->session_id.z,
             "error", f->message, NULL);
    finish(a, NULL, &f->usage);
}

static struct model_facts facts_of(const struct engine *e, struct str model)
{
    const struct model_port *port = &e->cfg.model;
    return port->facts ? port->facts(port->self, model, STR_NONE) : (struct model_facts){0};
}

int64_t judge_reserve(const struct actor *a)
{
    enum { PROMPT_TOKENS = 19 * 1024, ANSWER_TOKENS = 1024 };
    const struct engine *e = a->engine;
    bool wanted = false;
    for (int t = 0; t < TOOL_COUNT; t++)
        wanted = wanted || (a->agent.tools[t].offered && a->agent.tools[t].policy == POLICY_AUTO);
    if (!wanted || !e->cfg.judge_model.len)
        return 0;
    struct model_facts f = facts_of(e, e->cfg.judge_model);
    return (PROMPT_TOKENS * f.input_price + ANSWER_TOKENS * f.output_price) / 1000000;
}

/* Under a cap of money the judge is paid out of what the answer left of its own reservation: that
 * is what stays held should the process die now. */
static bool affordable(struct actor *a, const struct mail *m, struct model_request *request)
{
    const struct turn *t = &a->turn;
    struct session_usage u = t->usage;
    struct model_facts facts = facts_of(a->engine, request->model);
    struct request_size size = {.bytes = (int64_t)(request->system.len + request->messages.len)};
    struct reservation got;
    usage_add(&u, &m->result.usage);
    if (budget_reserve(&t->caps, &u, &facts, &size, &got) != RESERVE_OK)
        return false;
    if (got.max_tokens && got.max_tokens < request->max_tokens)
        request->max_tokens = got.max_tokens;
    int64_t left = t->request.reserved_microusd - m->result.usage.cost_microusd;
    return got.microusd == 0 || got.microusd <= left;
}

bool judge_start(struct actor *a, struct mail *m)
{
    static const struct model_callbacks callbacks = {.block_start = effects_ignore_block,
                                                     .text_delta = effects_ignore_text,
                                                     .done = on_done,
                                                     .failed = on_failed};
    struct engine *e = a->engine;
    size_t open = 0;
    struct err err;
    if (m->judged || a->turn.request.purpose != MODEL_FOR_TURN)
        return false;
    m->judged = permission_rules(&m->arena, &a->agent, &m->result, &open);
    if (!m->judged || open == 0 || !e->cfg.judge_model.len)
        return false;
    if (permission_request(&m->arena, &a->agent, &a->turn.prompt, &m->result, m->judged,
                           e->cfg.judge_model, &a->request, &err)) {
        log_err(LOG_WARN, "cannot ask the judge of a tool call", &err);
        return false;
    }
    a->request.session_id = id_str(&a->session_id);
    if (!affordable(a, m, &a->request)) {
        permission_unaffordable(&m->result, m->judged);
        return false;
    }
    a->judging = m;
    a->turn.answered = true;
    a->turn.unlogged = m->result.usage;
    e->stats.model_requests++;
    a->call = e->cfg.model.start(e->cfg.model.self, &a->request, &callbacks, a);
    return true;
}

void judge_stop(struct actor *a)
{
    if (a->judging)
        mail_free(TAKE_PTR(a->judging));
    a->turn.answered = false;
}
