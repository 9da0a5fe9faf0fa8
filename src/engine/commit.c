#include "engine/actor.h"

#include "engine/grader.h"
#include "engine/outcomes.h"

void commit_begin(struct actor *a)
{
    struct commit *c = &a->commit;
    struct engine *e = a->engine;
    c->actor = a;
    c->step = (struct turn_step){.arena = &c->arena,
                                 .now_us = e->cfg.clock.unix_us(e->cfg.clock.self),
                                 .rand = &e->cfg.rand,
                                 .inbox = &a->inbox,
                                 .taken = &c->taken};
    c->update_row = c->delete_row = c->mark_sandbox = false;
    c->op = NULL;
    c->closing = STR_NONE;
    c->step.graded = grader_used(a);
    c->purpose = a->turn.request.purpose;
    c->nacks = 0;
    if (a->call && e->cfg.model.partial)
        e->cfg.model.partial(e->cfg.model.self, a->call, &c->step.partial);
}

/* Tool results that are durable, or that nobody waits for any more: the hand may forget them. */
static void acknowledge(struct actor *a)
{
    struct sandbox_port *sandbox = &a->engine->cfg.sandbox;
    for (size_t i = 0; i < a->commit.nacks; i++)
        sandbox->ack(sandbox->self, id_str(&a->session_id), id_str(&a->commit.acks[i]));
    a->commit.nacks = 0;
}

void commit_drop(struct actor *a)
{
    acknowledge(a);
    list_for_each_safe (it, &a->commit.taken) {
        struct turn_input *in = LIST_ENTRY(it, struct turn_input, link);
        list_remove(&in->link);
        mem_free((char *)in->event.body.ptr);
        mem_free((char *)in->event.transcript.ptr);
        mem_free(in);
    }
    arena_reset(&a->commit.arena);
}

static int commit_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct commit *c = CONTAINER_OF(job, struct commit, job);
    if (c->delete_row)
        return tx_session_delete(tx, c->append.key, err);
    int rc = outcomes_commit(tx, c, err);
    if (rc == 0)
        rc = tx_session_append(tx, &c->append, err);
    if (rc == 0 && c->update_row)
        rc = tx_session_update(tx, &c->row, err);
    return rc;
}

/* The disk was full, say. Nothing of the step has left this process: it is tried again, as it is.
 */
static void send_again(void *arg)
{
    struct actor *a = arg;
    a->again = NULL;
    a->engine->jobs++;
    a->engine->cfg.store.write(a->engine->cfg.store.self, &a->commit.job);
}

static void remember(struct actor *a)
{
    struct commit *c = &a->commit;
    a->row.last_seq = a->turn.last_seq;
    a->row.last_processed_us = a->turn.last_us;
    if (c->append.set_status) {
        a->row.status = c->append.status;
        a->row.usage = c->append.usage;
        a->row.updated_us = c->append.updated_us;
        a->row.stop_reason = a->turn.stop_reason[0] ? str_z(a->turn.stop_reason) : STR_NONE;
    }
    if (c->append.set_sandbox)
        a->row.has_sandbox = true;
    if (str_some(c->append.outcomes))
        a->row.outcomes = arena_str(&a->row_arena, c->append.outcomes);
    if (c->update_row) {
        /* The views of the new row live in the step's arena. */
        a->row.title = str_some(c->row.title) ? arena_str(&a->row_arena, c->row.title) : STR_NONE;
        a->row.metadata = arena_str(&a->row_arena, c->row.metadata);
        a->row.limits =
            str_some(c->row.limits) ? arena_str(&a->row_arena, c->row.limits) : STR_NONE;
        a->row.budget_microusd = c->row.budget_microusd;
        a->row.agent = c->row.agent; /* in the row's arena already */
        a->row.archived_us = c->row.archived_us;
    }
}

bool commit_wants_sandbox(const struct actor *a)
{
    if (a->row.has_sandbox || turn_phase(&a->turn) != TURN_TOOLS)
        return false;
    for (size_t i = 0; i < a->turn.ncalls; i++)
        if (a->turn.calls[i].state == CALL_READY && tool_is_sandboxed(a->turn.calls[i].name))
            return true;
    return false;
}

static void count_turns(struct engine *e, const struct turn_step *s)
{
    for (size_t i = 0; i < s->nevents; i++)
        e->stats.turns += s->events[i].type == EVENT_SESSION_STATUS_IDLE;
}

/* The newest event of the step after which nothing of a turn is under way; 0: there is none. */
static int64_t turn_end(const struct turn_step *s)
{
    for (size_t i = s->nevents; i-- > 0;)
        if (s->events[i].type == EVENT_SESSION_STATUS_IDLE)
            return s->events[i].seq;
    return 0;
}

/* Before the effects: whatever runs next must find what was there now already kept. A round of
 * tools has ended when the model is asked again. */
static void keep_files(struct actor *a)
{
    const struct commit *c = &a->commit;
    struct engine *e = a->engine;
    int64_t due = c->append.checkpoint_due;
    bool round = c->nacks > 0 && turn_phase(&a->turn) == TURN_MODEL &&
                 c->step.now_us - a->checkpoint_us >= e->cfg.checkpoint_interval_ms * 1000;
    if (!e->cfg.sandbox.checkpoint || !a->row.has_sandbox || (!due && !round))
        return;
    a->checkpoint_us = c->step.now_us;
    e->cfg.sandbox.checkpoint(e->cfg.sandbox.self, id_str(&a->session_id),
                              due ? due : a->row.last_seq, due > 0);
}

/* Calls that clients run wait for them. */
static bool wants_hands(const struct actor *a)
{
    if (!a->agent.self_hosted || turn_phase(&a->turn) != TURN_IDLE)
        return false;
    for (size_t i = 0; i < a->turn.ncalls; i++) {
        const struct turn_call *c = &a->turn.calls[i];
        if ((c->state == CALL_CLIENT || c->state == CALL_ASK) && tool_is_sandboxed(c->name))
            return true;
    }
    return false;
}

static void finish(struct actor *a)
{
    struct commit *c = &a->commit;
    struct engine *e = a->engine;
    if (!c->delete_row)
        keep_files(a);
    if (c->append.work && e->cfg.on_work)
        e->cfg.on_work(e->cfg.on_work_arg, id_str(&a->row.environment_id));
    if (c->delete_row)
        e->cfg.sandbox.destroy(e->cfg.sandbox.self, id_str(&a->session_id), true);
    else if (a->row.archived_us && c->update_row)
        e->cfg.sandbox.destroy(e->cfg.sandbox.self, id_str(&a->session_id), false);
    if (c->op)
        op_answer(TAKE_PTR(c->op), c->delete_row ? NULL : &a->row, &(struct err){0});
    if (c->delete_row) {
        commit_drop(a);
        actor_give_up(a, &(struct err){.code = ERR_NOT_FOUND, .msg = "session not found"});
        return;
    }
    effects_start(a);
    commit_drop(a);
    a->state = ACTOR_READY;
    actor_tick(a);
}

static void commit_done(struct store_job *job, const struct err *err)
{
    struct commit *c = CONTAINER_OF(job, struct commit, job);
    struct actor *a = c->actor;
    struct engine *e = a->engine;
    if (e->closing) {
        if (err->code == 0 && !c->mark_sandbox && !c->delete_row)
            remember(a); /* what the operation's answer shows */
        if (c->op) {
            struct err closing = {.code = ERR_UNAVAILABLE, .msg = "the server is shutting down"};
            op_answer(TAKE_PTR(c->op), err->code == 0 && !c->delete_row ? &a->row : NULL,
                      err->code == 0 ? err : &closing);
        }
        engine_job_done(e);
        return;
    }
    if (err->code && !actor_retry(a, err, send_again)) {
        if (c->op)
            op_answer(TAKE_PTR(c->op), NULL, err);
        actor_give_up(a, err);
    } else if (err->code == 0) {
        a->store_failures = 0;
        if (!c->mark_sandbox) {
            remember(a);
            hub_publish(e->hub, id_str(&a->session_id), c->step.events, c->step.nevents);
            engine_tell_committed(a);
            count_turns(e, &c->step);
            outcomes_count(&e->stats, &c->step);
        } else {
            a->row.has_sandbox = true;
        }
        if (!c->mark_sandbox && commit_wants_sandbox(a))
            commit_mark_sandbox(a);
        else
            finish(a);
    }
    engine_job_done(e);
}

static void submit(struct actor *a)
{
    a->state = ACTOR_COMMITTING;
    a->commit.job.fn = commit_fn;
    a->commit.job.done = commit_done;
    a->engine->jobs++;
    a->engine->cfg.store.write(a->engine->cfg.store.self, &a->commit.job);
}

/* Before the first call of a session is dispatched, the log's head says that a sandbox may exist:
 * after a crash, "no hand" then means "unknown outcome" instead of "never ran". Once per session.
 */
void commit_mark_sandbox(struct actor *a)
{
    struct commit *c = &a->commit;
    c->mark_sandbox = true;
    c->update_row = false;
    c->append = (struct session_append){.key = a->row.key,
                                        .epoch = a->row.epoch,
                                        .base_seq = a->turn.last_seq,
                                        .set_sandbox = true};
    submit(a);
}

static enum session_status status_of(enum turn_phase p)
{
    switch (p) {
    case TURN_MODEL:
    case TURN_GRADING:
    case TURN_TOOLS: return SESSION_RUNNING;
    case TURN_BACKOFF: return SESSION_RESCHEDULING;
    case TURN_DEAD: return SESSION_TERMINATED;
    case TURN_IDLE: break;
    }
    return SESSION_IDLE;
}

static void list_taken(struct commit *c)
{
    size_t n = 0;
    list_for_each (it, &c->taken)
        n++;
    int64_t *numbers = n ? ARENA_ARRAY(&c->arena, int64_t, n) : NULL;
    size_t i = 0;
    if (numbers)
        list_for_each (it, &c->taken)
            numbers[i++] = LIST_ENTRY(it, struct turn_input, link)->number;
    c->append.inbox_done = numbers;
    c->append.ninbox_done = i;
}

static void put_ledger(struct actor *a, const struct event *e, enum model_purpose purpose,
                       struct str model, const struct model_usage *u, int64_t held)
{
    struct commit *c = &a->commit;
    c->ledger[c->append.nledger++] = (struct ledger_row){
        .workspace_id = a->row.workspace_id,
        .session_id = a->session_id,
        .thread_id = a->row.thread_id,
        .seq = e->seq,
        .purpose = purpose,
        .model = model,
        .usage = *u,
        .held_microusd = held,
        .at_us = e->processed_us,
    };
}

/* Events that say what a grader has used. */
static bool is_of_grader(const struct event *e)
{
    return e->type == EVENT_SPAN_OUTCOME_EVALUATION_ONGOING ||
           e->type == EVENT_SPAN_OUTCOME_EVALUATION_END ||
           (e->type == EVENT_SESSION_THREAD_STATUS_IDLE && str_some(e->transcript));
}

static void put_grader(struct actor *a, const struct event *e)
{
    struct evaluation_record ongoing;
    struct end_record end;
    if (e->type == EVENT_SPAN_OUTCOME_EVALUATION_ONGOING) {
        (void)evaluation_record_read(e->transcript, &ongoing);
        end = (struct end_record){.usage = ongoing.lost, .held_microusd = ongoing.held_microusd};
    } else {
        (void)end_record_read(e->transcript, &end);
    }
    if (usage_some(&end.usage) || end.held_microusd)
        put_ledger(a, e, MODEL_FOR_GRADER, grader_model(a), &end.usage, end.held_microusd);
}

/* What the requests that end in this step were and cost. Purposes: a step may end one request and
 * begin the next, so that of the one that was open before the step is the first one's. */
static void list_ledger(struct actor *a)
{
    struct commit *c = &a->commit;
    enum model_purpose purpose = c->purpose;
    size_t ends = 0;
    for (size_t i = 0; i < c->step.nevents; i++)
        ends += c->step.events[i].type == EVENT_SPAN_MODEL_REQUEST_END ||
                is_of_grader(&c->step.events[i]);
    if (ends == 0 || !(c->ledger = ARENA_ARRAY(&c->arena, struct ledger_row, ends * 2)))
        return;
    c->append.ledger = c->ledger;
    for (size_t i = 0; i < c->step.nevents; i++) {
        const struct event *e = &c->step.events[i];
        struct request_record start;
        struct end_record end;
        if (e->type == EVENT_SPAN_MODEL_REQUEST_START && request_record_read(e->transcript, &start))
            purpose = start.purpose;
        if (is_of_grader(e))
            put_grader(a, e);
        if (e->type != EVENT_SPAN_MODEL_REQUEST_END || !end_record_read(e->transcript, &end))
            continue;
        if (usage_some(&end.usage) || end.held_microusd)
            put_ledger(a, e, purpose, a->agent.model, &end.usage, end.held_microusd);
        if (usage_some(&end.judge))
            put_ledger(a, e, MODEL_FOR_JUDGE, a->engine->cfg.judge_model, &end.judge, 0);
    }
}

void commit_submit(struct actor *a)
{
    struct commit *c = &a->commit;
    c->append = (struct session_append){
        .key = a->row.key,
        .epoch = a->row.epoch,
        .base_seq = a->row.last_seq,
        .events = c->step.events,
        .nevents = c->step.nevents,
        .set_status = true,
        .status = status_of(turn_phase(&a->turn)),
        .stop_reason =
            a->turn.stop_reason[0] ? arena_str(&c->arena, str_z(a->turn.stop_reason)) : STR_NONE,
        .usage = a->turn.usage,
        .updated_us = c->step.now_us,
        .checkpoint_due = a->row.has_sandbox ? turn_end(&c->step) : 0,
        .work = wants_hands(a),
    };
    list_taken(c);
    list_ledger(a);
    /* Before its interrupt is durable: an answer that came meanwhile would be taken for that of the
     * next request, and the conversation that the request reads has moved on already. */
    if (c->step.cancel_model)
        effects_cancel_model(a);
    if (c->step.cancel_grade)
        grader_stop(a);
    /* So would the count of a request that was given up for another. */
    if (c->step.count_tokens || !a->turn.counting)
        effects_stop_count(a);
    submit(a);
}
