/* The fold: what the events of the log make of a turn's state. */
#include "core/turn_request.h"

#include "core/compact.h"

static const struct sm_state states[] = {
    [TURN_IDLE] = {"idle", SM_BIT(TURN_TOOLS) | SM_BIT(TURN_IDLE) | SM_BIT(TURN_DEAD), SM_INITIAL},
    [TURN_MODEL] = {"model", SM_BIT(TURN_TOOLS), 0},
    [TURN_TOOLS] = {"tools",
                    SM_BIT(TURN_MODEL) | SM_BIT(TURN_BACKOFF) | SM_BIT(TURN_IDLE) |
                        SM_BIT(TURN_TOOLS) | SM_BIT(TURN_GRADING),
                    0},
    [TURN_GRADING] = {"grading", SM_BIT(TURN_TOOLS), 0},
    [TURN_BACKOFF] = {"backoff", SM_BIT(TURN_TOOLS) | SM_BIT(TURN_IDLE), 0},
    [TURN_DEAD] = {"dead", 0, SM_FINAL},
};

void turn_init(struct turn *t, const struct agent *agent, struct id session_id, struct id thread_id)
{
    *t = (struct turn){.session_id = session_id, .thread_id = thread_id, .agent = agent};
    sm_init(&t->sm, "turn", states, NULL, TURN_IDLE);
    prompt_init(&t->prompt, LIMIT_PROMPT);
    buf_init(&t->system, LIMIT_PROMPT);
    buf_init(&t->tools, LIMIT_PROMPT);
    buf_init(&t->summary, LIMIT_PROMPT);
    outcome_init(&t->outcome, LIMIT_PROMPT);
    digest_init(&t->messages_digest);
    turn_set_agent(t, agent);
    arena_init(&t->calls_arena, LIMIT_MODEL_RESPONSE * 2ul);
}

void turn_fini(struct turn *t)
{
    prompt_fini(&t->prompt);
    buf_fini(&t->system);
    buf_fini(&t->tools);
    buf_fini(&t->summary);
    outcome_fini(&t->outcome);
    arena_fini(&t->calls_arena);
    mem_free(t->blocks);
    t->blocks = NULL;
}

void turn_set_agent(struct turn *t, const struct agent *agent)
{
    t->agent = agent;
    buf_clear(&t->system);
    buf_clear(&t->tools);
    agent_write_system(agent, &t->system);
    agent_write_tools(agent, &t->tools);
}

/* A stored log that breaks the table is damaged data, not a defect of this process. */
static int move(struct turn *t, enum turn_phase next, struct err *err)
{
    if (!sm_may(&t->sm, (int)next))
        return err_set(err, ERR_CORRUPT, "log of %s: no move from %s to %s", t->session_id.z,
                       sm_name(&t->sm), states[next].name);
    sm_move(&t->sm, (int)next);
    return 0;
}

enum turn_phase turn_phase(const struct turn *t)
{
    return (enum turn_phase)sm_state(&t->sm);
}

struct turn_call *turn_find_call(struct turn *t, struct str id)
{
    for (size_t i = 0; i < t->ncalls; i++)
        if (str_eq(id_str(&t->calls[i].id), id))
            return &t->calls[i];
    return NULL;
}

static int add_call(struct turn *t, const struct event *e, const struct json *body,
                    enum call_state state, struct err *err)
{
    if (t->ncalls == COUNT_OF(t->calls))
        return err_set(err, ERR_LIMIT, "more than %zu tool calls in one response", t->ncalls);
    const struct json *input = json_get(body, "input");
    struct turn_call *c = &t->calls[t->ncalls];
    *c = (struct turn_call){
        .id = e->id,
        .state = state,
        .name = arena_str(&t->calls_arena, json_get_str(body, "name")),
        .input = arena_str(&t->calls_arena, input ? input->raw : STR("{}")),
    };
    if (t->calls_arena.failed)
        return err_set(err, ERR_LIMIT, "tool inputs too large");
    t->ncalls++;
    return 0;
}

/* True when the answer is the first one to a call of this round: only then the model sees it. */
static bool answer_call(struct turn *t, struct str id)
{
    struct turn_call *c = turn_find_call(t, id);
    if (!c || c->state == CALL_DONE)
        return false;
    c->state = CALL_DONE;
    t->stirred = true;
    return true;
}

static bool fold_result(struct turn *t, const struct json *body)
{
    struct str id = json_get_str(body, "tool_use_id");
    if (!answer_call(t, id))
        return false;
    bool search = tool_of(turn_find_call(t, id)->name) == TOOL_WEB_SEARCH;
    t->usage.web_searches += search && !json_is_true(json_get(body, "is_error"));
    return true;
}

/* Who runs an allowed call. */
static enum call_state allowed(const struct turn *t, struct str tool)
{
    return t->agent->self_hosted && tool_is_sandboxed(tool) ? CALL_CLIENT : CALL_READY;
}

static int fold_tool_use(struct turn *t, const struct event *e, const struct json *body,
                         struct err *err)
{
    struct str permission = json_get_str(body, "evaluated_permission");
    enum call_state state = CALL_READY; /* a denied one is answered at once */
    if (str_eqz(permission, "ask"))
        state = CALL_ASK;
    else if (str_eqz(permission, "allow"))
        state = allowed(t, json_get_str(body, "name"));
    return add_call(t, e, body, state, err);
}

static void fold_confirmation(struct turn *t, const struct json *body)
{
    struct turn_call *c = turn_find_call(t, json_get_str(body, "tool_use_id"));
    if (!c || c->state != CALL_ASK)
        return;
    t->stirred = true;
    if (str_eqz(json_get_str(body, "result"), "allow"))
        c->state = allowed(t, c->name);
}

/* Only who was asked to run the call can say what came of it. */
static bool fold_user_result(struct turn *t, const struct json *body)
{
    struct str id = json_get_str(body, "tool_use_id");
    const struct turn_call *c = turn_find_call(t, id);
    return c && c->state == CALL_CLIENT && answer_call(t, id);
}

static int fold_idle(struct turn *t, const struct json *body, struct err *err)
{
    const struct json *reason = json_get(body, "stop_reason");
    if (!reason || !str_copyz(t->stop_reason, sizeof t->stop_reason, reason->raw))
        t->stop_reason[0] = '\0';
    t->stirred = false;
    return move(t, TURN_IDLE, err);
}

/* A turn that waits for its client or for money is not over. */
static void fold_thread_idle(struct turn *t, const struct event *e, const struct json *body)
{
    struct str reason = json_get_str(json_get(body, "stop_reason"), "type");
    struct end_record closing;
    if (end_record_read(e->transcript, &closing))
        usage_add(&t->usage, &closing.usage);
    t->paused = str_eqz(reason, "budget_reached");
    t->attempts = 0;
    t->compactions = 0;
    if (t->paused || str_eqz(reason, "requires_action"))
        return;
    t->usage.turns += t->rounds > 0;
    t->rounds = 0;
    if (t->outcome.state == OUTCOME_LAST_TURN && str_eqz(reason, "end_turn"))
        t->outcome.state = OUTCOME_NONE;
}

/* What was hashed of the conversation is no prefix of it any more. */
void turn_forget_digest(struct turn *t)
{
    digest_init(&t->messages_digest);
    t->digested = 0;
}

static int fold_request_start(struct turn *t, const struct event *e, struct err *err)
{
    t->request_start = e->id;
    (void)request_record_read(e->transcript, &t->request);
    if (t->request.clear_below) {
        prompt_clear(&t->prompt, t->request.clear_below);
        turn_forget_digest(t);
    }
    t->ncalls = 0;
    arena_reset(&t->calls_arena);
    t->nblocks = 0;
    return move(t, TURN_MODEL, err);
}

static int fold_request_end(struct turn *t, const struct event *e, const struct json *body,
                            struct err *err)
{
    struct end_record end;
    (void)end_record_read(e->transcript, &end);
    usage_add(&t->usage, &end.usage);
    usage_add(&t->usage, &end.judge);
    t->usage.held_microusd += end.held_microusd;
    buf_clear(&t->summary);
    if (!json_is_true(json_get(body, "is_error"))) {
        t->attempts = 0;
        t->requests++;
        t->usage.model_requests++;
        if (t->request.purpose == MODEL_FOR_TURN) {
            t->rounds++;
            if (usage_tokens(&end.usage) > 0)
                prompt_measured(&t->prompt, usage_tokens(&end.usage));
        }
    }
    return move(t, TURN_TOOLS, err);
}

static int64_t budget_of(const struct json *budget)
{
    int64_t cents = 0;
    const struct json *cost = json_get(budget, "max_list_cost");
    if (!str_i64(json_get_str(cost, "amount"), &cents) || cents <= 0 || cents > INT64_MAX / 10000)
        return 0;
    return cents * 10000;
}

static void fold_updated(struct turn *t, const struct json *body)
{
    const struct json *budget = json_get(body, "budget"), *limits = json_get(body, "limits");
    struct caps now = t->caps;
    if (limits)
        caps_read(&now, now.budget_microusd, json_is(limits, JSON_OBJECT) ? limits->raw : STR_NONE);
    if (budget)
        now.budget_microusd = budget_of(budget);
    t->caps = now;
}

/* An attempt at the model that failed; what a sandbox lacks is none. */
static void fold_error(struct turn *t, const struct json *error)
{
    if (str_eqz(json_get_str(json_get(error, "retry_status"), "type"), "retrying") &&
        !str_starts(json_get_str(error, "type"), STR("repository_")))
        t->attempts++;
}

static void fold_grading(struct turn *t, const struct event *e)
{
    struct outcome *o = &t->outcome;
    struct evaluation_record r;
    (void)evaluation_record_read(e->transcript, &r);
    usage_add(&t->usage, &r.lost);
    t->usage.held_microusd += r.held_microusd;
    model_usage_add(&o->lost, &r.lost);
    o->spent = r.spent;
    o->reserved_microusd = r.reserved_microusd;
}

static int fold_graded(struct turn *t, const struct event *e, const struct json *body,
                       struct err *err)
{
    struct end_record end;
    if (end_record_read(e->transcript, &end))
        usage_add(&t->usage, &end.usage);
    outcome_end(&t->outcome, body);
    if (t->outcome.state == OUTCOME_WORKING)
        t->rounds = 1; /* the same turn, but a new stretch of work */
    return turn_phase(t) == TURN_GRADING ? move(t, TURN_TOOLS, err) : 0;
}

/* Events whose body the fold has to look into. */
static int fold_body(struct turn *t, const struct event *e, bool *for_model, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *body;
    int rc = json_parse(&a, e->body, JSON_ALLOW_DUPLICATES, &body, err);
    if (rc)
        return err_wrap(err, "event %s", e->id.z);
    switch ((int)e->type) {
    case EVENT_AGENT_TOOL_USE: return fold_tool_use(t, e, body, err);
    case EVENT_AGENT_CUSTOM_TOOL_USE: return add_call(t, e, body, CALL_CLIENT, err);
    case EVENT_AGENT_TOOL_RESULT: *for_model = fold_result(t, body); return 0;
    case EVENT_USER_CUSTOM_TOOL_RESULT:
        *for_model = answer_call(t, json_get_str(body, "custom_tool_use_id"));
        return 0;
    case EVENT_USER_TOOL_RESULT: *for_model = fold_user_result(t, body); return 0;
    case EVENT_USER_TOOL_CONFIRMATION: fold_confirmation(t, body); return 0;
    case EVENT_SPAN_MODEL_REQUEST_END: return fold_request_end(t, e, body, err);
    case EVENT_USER_DEFINE_OUTCOME: outcome_define(&t->outcome, e, body); return 0;
    case EVENT_SPAN_OUTCOME_EVALUATION_START:
        outcome_begin(&t->outcome, e, body);
        return move(t, TURN_GRADING, err);
    case EVENT_SPAN_OUTCOME_EVALUATION_ONGOING: fold_grading(t, e); return 0;
    case EVENT_SPAN_OUTCOME_EVALUATION_END: return fold_graded(t, e, body, err);
    case EVENT_SESSION_STATUS_IDLE: return fold_idle(t, body, err);
    case EVENT_SESSION_THREAD_STATUS_IDLE: fold_thread_idle(t, e, body); return 0;
    case EVENT_SESSION_UPDATED: fold_updated(t, body); return 0;
    case EVENT_SESSION_ERROR: fold_error(t, json_get(body, "error")); return 0;
    default: return 0;
    }
}

static bool needs_body(enum event_type type)
{
#define BIT(t) (UINT64_C(1) << EVENT_##t)
    static const uint64_t read =
        BIT(AGENT_TOOL_USE) | BIT(AGENT_CUSTOM_TOOL_USE) | BIT(AGENT_TOOL_RESULT) |
        BIT(USER_CUSTOM_TOOL_RESULT) | BIT(USER_TOOL_RESULT) | BIT(USER_TOOL_CONFIRMATION) |
        BIT(USER_DEFINE_OUTCOME) | BIT(SPAN_MODEL_REQUEST_END) | BIT(SESSION_STATUS_IDLE) |
        BIT(SESSION_THREAD_STATUS_IDLE) | BIT(SESSION_UPDATED) | BIT(SESSION_ERROR) |
        BIT(SPAN_OUTCOME_EVALUATION_START) | BIT(SPAN_OUTCOME_EVALUATION_ONGOING) |
        BIT(SPAN_OUTCOME_EVALUATION_END);
#undef BIT
    return read >> type & 1;
}

int turn_resume(struct turn *t, const struct event *compacted, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *doc;
    int64_t requests = 0, rounds = 0, compactions = 0;
    int rc = json_parse(&a, compacted->transcript, 0, &doc, err);
    if (rc)
        return err_wrap(err, "transcript of event %s", compacted->id.z);
    const struct json *turn = json_get(doc, "turn");
    if (!json_i64(json_get(turn, "requests"), &requests) ||
        !json_i64(json_get(turn, "rounds"), &rounds) ||
        !json_i64(json_get(turn, "compactions"), &compactions))
        return err_set(err, ERR_CORRUPT, "event %s does not say how its turn stood",
                       compacted->id.z);
    t->requests = requests;
    t->rounds = (unsigned)rounds;
    t->compactions = (unsigned)compactions;
    t->last_seq = compacted->seq - 1;
    outcome_read(&t->outcome, json_get(turn, "outcome"));
    return move(t, TURN_TOOLS, err); /* between two requests */
}

/* A compaction keeps the user's own words; what the work is graded by stays too. */
static void put_rubric_again(struct turn *t, int64_t seq)
{
    AUTO_ARENA struct arena a;
    AUTO_BUF struct buf words = BUF_INIT(LIMIT_PROMPT);
    const struct json *definition;
    struct err err;
    arena_init(&a, LIMIT_JSON_ARENA);
    if (t->outcome.state == OUTCOME_NONE ||
        json_parse(&a, buf_view(&t->outcome.definition), 0, &definition, &err))
        return;
    outcome_rubric_words(definition, &words);
    prompt_put_words(&t->prompt, PROMPT_LABEL, seq, buf_view(&words));
}

int turn_fold(struct turn *t, const struct event *e, struct err *err)
{
    if (e->seq != t->last_seq + 1)
        return err_set(err, ERR_CORRUPT, "log of %s jumps from %lld to %lld", t->session_id.z,
                       (long long)t->last_seq, (long long)e->seq);
    bool for_model = true;
    int rc = needs_body(e->type) ? fold_body(t, e, &for_model, err) : 0;
    if (rc == 0 && for_model)
        rc = prompt_fold(&t->prompt, e, err);
    if (rc)
        return rc;
    t->last_seq = e->seq;
    t->last_us = e->processed_us;
    switch ((int)e->type) {
    case EVENT_SESSION_THREAD_STATUS_IDLE:
    case EVENT_SESSION_THREAD_STATUS_TERMINATED: usage_rest(&t->usage, e->processed_us); return 0;
    case EVENT_AGENT_MESSAGE:
    case EVENT_AGENT_TOOL_USE:
    case EVENT_AGENT_CUSTOM_TOOL_USE: t->compactions = 0; return 0;
    case EVENT_AGENT_THREAD_CONTEXT_COMPACTED:
        t->compactions++;
        t->attempts = 0;
        turn_forget_digest(t);
        put_rubric_again(t, e->seq);
        return 0;
    case EVENT_SESSION_STATUS_RUNNING:
        usage_run(&t->usage, e->processed_us);
        t->stop_reason[0] = '\0';
        t->paused = false;
        return move(t, TURN_TOOLS, err);
    case EVENT_SESSION_STATUS_RESCHEDULED:
        usage_rest(&t->usage, e->processed_us);
        return move(t, TURN_BACKOFF, err);
    case EVENT_SPAN_MODEL_REQUEST_START: return fold_request_start(t, e, err);
    case EVENT_SESSION_STATUS_TERMINATED: return move(t, TURN_DEAD, err);
    default: return 0;
    }
}

static struct turn_block *block_at(struct turn *t, size_t index)
{
    if (index >= LIMIT_CONTENT_BLOCKS)
        return NULL;
    if (index >= t->blocks_cap) {
        t->blocks_cap = (index + 1) * 2;
        t->blocks = mem_realloc(t->blocks, t->blocks_cap * sizeof *t->blocks);
    }
    while (t->nblocks <= index)
        t->blocks[t->nblocks++] = (struct turn_block){.content_index = 0};
    return &t->blocks[index];
}

const struct turn_block *turn_preview(struct turn *t, size_t index, enum model_block_type type,
                                      int64_t now_us, const struct rand_port *rand, bool *fresh)
{
    *fresh = false;
    struct turn_block *b = block_at(t, index);
    if (!b || type == MODEL_TOOL_USE)
        return NULL;
    if (b->event_id.z[0])
        return b;
    const struct turn_block *before = index > 0 ? &t->blocks[index - 1] : NULL;
    b->text = type == MODEL_TEXT;
    if (b->text && before && before->text && before->event_id.z[0]) {
        /* Neighbouring text blocks share one message. */
        b->event_id = before->event_id;
        b->content_index = before->content_index + 1;
        return b;
    }
    b->event_id = turn_new_id("sevt", now_us, rand);
    *fresh = true;
    return b;
}
