/* The rules: what may be durable in which order, and what everything else must agree with. */
#include "sim.h"

#include "engine/actor.h"
#include "json/json.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- the watch over one log ---- */

static void read_agent(struct session *ss)
{
    struct watch *w = &ss->watch;
    struct err err;
    arena_fini(&w->agent_arena);
    arena_init(&w->agent_arena, 16 << 20);
    if (agent_read(&w->agent_arena, arena_str(&w->agent_arena, ss->row->row.agent), &w->agent,
                   &err))
        sim_fail(ss->sim, "the agent cannot be read: %s", err.msg);
}

/* Once the agent is known: what the fold needs besides the log. */
static void use_agent(struct session *ss)
{
    struct watch *w = &ss->watch;
    turn_set_agent(&w->shadow, &w->agent);
    w->shadow.facts = model_facts_of(w->agent.model);
}

void watch_fini(struct watch *w)
{
    if (!w->live)
        return;
    turn_fini(&w->shadow);
    arena_fini(&w->agent_arena);
}

struct pending_call *watch_call(struct watch *w, struct str id)
{
    for (size_t i = 0; i < w->ncalls; i++)
        if (str_eq(id_str(&w->calls[i].id), id))
            return &w->calls[i];
    return NULL;
}

static size_t unresolved(const struct watch *w)
{
    size_t n = 0;
    for (size_t i = 0; i < w->ncalls; i++)
        n += w->calls[i].state != CALL_DONE;
    return n;
}

static void inserted(void *arg, struct db_session *row)
{
    struct session *ss = sim_session(arg, id_str(&row->row.id));
    struct watch *w = &ss->watch;
    ss->row = row;
    row->watch = ss;
    arena_init(&w->agent_arena, 16 << 20);
    read_agent(ss);
    turn_init(&w->shadow, &w->agent, ss->id, row->row.thread_id);
    use_agent(ss);
    caps_read(&w->shadow.caps, row->row.budget_microusd, row->row.limits);
    w->live = true;
    ss->budget_microusd = row->row.budget_microusd;
}

/* ---- the order of events ---- */

static void broken(struct session *ss, const struct event *e, const char *rule)
{
    sim_fail(ss->sim, "session %d, seq %" PRId64 ", %s: %s", ss->index, e->seq, event_name(e->type),
             rule);
}

#define RULE(cond, text)                                                                           \
    do {                                                                                           \
        if (!(cond))                                                                               \
            broken(ss, e, text);                                                                   \
    } while (0)

static bool is_input(enum event_type t)
{
    return t >= EVENT_USER_MESSAGE && t <= EVENT_SYSTEM_MESSAGE;
}

static void check_input(struct session *ss, const struct event *e)
{
    struct sent *in = map_get(&ss->sim->sent_by_id, id_str(&e->id));
    RULE(in, "nobody sent it");
    if (!in)
        return;
    RULE(in->session == ss, "it was sent to another session");
    RULE(in->durable, "it was never accepted");
    RULE(!in->done, "it was processed before");
    in->done = true;
}

static void add_call(struct session *ss, const struct event *e, const struct json *body)
{
    struct watch *w = &ss->watch;
    RULE(w->phase == LOG_SPAN, "a tool use outside a model request");
    RULE(w->ncalls < COUNT_OF(w->calls), "too many calls");
    bool ask = str_eqz(json_get_str(body, "evaluated_permission"), "ask");
    enum call_state state = e->type == EVENT_AGENT_CUSTOM_TOOL_USE ? CALL_CLIENT
                            : ask                                  ? CALL_ASK
                                                                   : CALL_READY;
    if (w->ncalls < COUNT_OF(w->calls))
        w->calls[w->ncalls++] = (struct pending_call){.id = e->id, .state = state, .type = e->type};
}

static void check_result(struct session *ss, const struct event *e, const struct json *body)
{
    struct watch *w = &ss->watch;
    struct pending_call *c = watch_call(w, json_get_str(body, "tool_use_id"));
    RULE(w->phase != LOG_SPAN, "a tool result inside a model request");
    RULE(c, "no such call in this round");
    RULE(!c || c->state != CALL_DONE, "the call has a result already");
    ptrdiff_t at = str_find(e->body, STR("result of "));
    RULE(at < 0 || !c ||
             str_starts(str_skip(e->body, (size_t)at + sizeof "result of " - 1), id_str(&c->id)),
         "the result of another call");
    if (c)
        c->state = CALL_DONE;
}

static void check_answer(struct session *ss, const struct event *e, const struct json *body)
{
    bool confirms = e->type == EVENT_USER_TOOL_CONFIRMATION;
    struct pending_call *c =
        watch_call(&ss->watch, json_get_str(body, confirms ? "tool_use_id" : "custom_tool_use_id"));
    if (confirms && c && c->state == CALL_ASK && str_eqz(json_get_str(body, "result"), "allow"))
        c->state = CALL_READY;
    if (!confirms && c && c->state == CALL_CLIENT)
        c->state = CALL_DONE;
}

static void check_idle(struct session *ss, const struct event *e, const struct json *body)
{
    struct watch *w = &ss->watch;
    const struct json *reason = json_get(body, "stop_reason");
    bool waits = str_eqz(json_get_str(reason, "type"), "requires_action");
    size_t named = 0;
    json_for_each (id, json_get(reason, "event_ids")) {
        const struct pending_call *c = watch_call(w, id->str);
        RULE(c && (c->state == CALL_ASK || c->state == CALL_CLIENT),
             "it names a call that does not wait for a client");
        named++;
    }
    RULE(named == unresolved(w), waits ? "it does not name all calls that wait"
                                       : "a turn ended with calls that have no result");
    /* Its turn may end well while the session has reached a cap. */
    RULE(reason && (str_eqz(reason->raw, w->reason) ||
                    (strcmp(w->reason, "{\"type\":\"end_turn\"}") == 0 &&
                     str_eqz(json_get_str(reason, "type"), "budget_reached"))),
         "thread and session stop for other reasons");
    w->phase = LOG_IDLE;
    w->attempts = 0;
    w->idles++;
}

static void check_error(struct session *ss, const struct event *e, const struct json *body)
{
    struct watch *w = &ss->watch;
    const struct json *error = json_get(body, "error");
    struct str retry = json_get_str(json_get(error, "retry_status"), "type");
    RULE(w->phase == LOG_RUNNING, "an error outside a turn");
    if (!str_eqz(retry, "retrying"))
        return;
    w->attempts++;
    RULE(w->attempts < LIMIT_MODEL_ATTEMPTS, "more attempts than the policy allows");
    w->expect = EVENT_SESSION_THREAD_STATUS_RESCHEDULED;
}

static void check_status(struct session *ss, const struct event *e, const struct json *body)
{
    struct watch *w = &ss->watch;
    const struct json *reason = json_get(body, "stop_reason");
    switch ((int)e->type) {
    case EVENT_SESSION_STATUS_RUNNING:
        RULE(w->phase == LOG_IDLE || w->phase == LOG_WAITING, "it was running already");
        w->phase = LOG_RUNNING;
        w->expect = EVENT_SESSION_THREAD_STATUS_RUNNING;
        break;
    case EVENT_SESSION_THREAD_STATUS_IDLE:
        RULE(w->phase != LOG_SPAN, "idle inside a model request");
        RULE(w->phase != LOG_GRADING, "idle inside an evaluation");
        RULE(w->phase != LOG_DEAD, "idle after its end");
        RULE(reason && str_copyz(w->reason, sizeof w->reason, reason->raw), "no stop reason");
        w->expect = EVENT_SESSION_USAGE;
        break;
    case EVENT_SESSION_USAGE: w->expect = EVENT_SESSION_STATUS_IDLE; break;
    case EVENT_SESSION_STATUS_IDLE: check_idle(ss, e, body); break;
    case EVENT_SESSION_THREAD_STATUS_RESCHEDULED:
        w->expect = EVENT_SESSION_STATUS_RESCHEDULED;
        break;
    case EVENT_SESSION_STATUS_RESCHEDULED:
        RULE(w->phase == LOG_RUNNING, "rescheduled while it does not run");
        w->phase = LOG_WAITING;
        break;
    case EVENT_SESSION_THREAD_STATUS_TERMINATED:
        RULE(w->phase == LOG_IDLE, "terminated while it runs");
        w->expect = EVENT_SESSION_STATUS_TERMINATED;
        break;
    case EVENT_SESSION_STATUS_TERMINATED: w->phase = LOG_DEAD; break;
    default: break;
    }
}

static void check_span(struct session *ss, const struct event *e, const struct json *body)
{
    struct watch *w = &ss->watch;
    if (e->type == EVENT_SPAN_MODEL_REQUEST_START) {
        RULE(w->phase == LOG_RUNNING, "a request outside a turn");
        RULE(unresolved(w) == 0, "a request while calls have no result");
        w->phase = LOG_SPAN;
        w->span = e->id;
        w->ncalls = 0;
        w->requests++;
        return;
    }
    RULE(w->phase == LOG_SPAN, "no request is open");
    RULE(str_eq(json_get_str(body, "model_request_start_id"), id_str(&w->span)),
         "it ends another request");
    if (!json_is_true(json_get(body, "is_error")))
        w->attempts = 0;
    w->phase = LOG_RUNNING;
}

static void check_outcome(struct session *ss, const struct event *e, const struct json *body)
{
    struct watch *w = &ss->watch;
    struct str id = json_get_str(body, "outcome_id"), result = json_get_str(body, "result");
    int64_t iteration = -1;
    (void)json_i64(json_get(body, "iteration"), &iteration);
    if (e->type == EVENT_USER_DEFINE_OUTCOME) {
        RULE(!w->outcome.open, "an outcome before the end of another");
        w->outcome.id = id_from(id);
        w->outcome.open = true;
        w->outcome.iteration = 0;
        return;
    }
    RULE(str_eq(id, id_str(&w->outcome.id)), "of another outcome");
    if (e->type == EVENT_SPAN_OUTCOME_EVALUATION_ONGOING) {
        RULE(w->phase == LOG_GRADING || w->phase == LOG_RUNNING, "a grader at work for nothing");
        return;
    }
    RULE(w->outcome.open, "the outcome has ended");
    RULE(iteration == w->outcome.iteration, "another iteration");
    if (e->type == EVENT_SPAN_OUTCOME_EVALUATION_START) {
        RULE(w->phase == LOG_RUNNING, "an evaluation outside a turn");
        RULE(unresolved(w) == 0, "an evaluation while calls have no result");
        w->phase = LOG_GRADING;
        w->outcome.start = e->id;
        ss->sim->evaluations++;
        return;
    }
    struct str start = json_get_str(body, "outcome_evaluation_start_id");
    bool interrupted = str_eqz(result, "interrupted");
    RULE(w->phase == LOG_GRADING ? str_eq(start, id_str(&w->outcome.start))
                                 : interrupted && start.len == 0,
         "the end of no evaluation");
    RULE(!str_eqz(result, "satisfied") || str_find(e->body, STR("not_met")) < 0,
         "satisfied with a criterion that is not met");
    RULE(!str_eqz(result, "satisfied") || str_find(e->body, STR("\"verdict\":\"met\"")) >= 0,
         "satisfied without a verdict");
    if (w->phase == LOG_GRADING)
        w->phase = LOG_RUNNING;
    w->outcome.open = str_eqz(result, "needs_revision");
    w->outcome.iteration += w->outcome.open;
}

/* The second of two events that always come together. */
static bool follows(enum event_type t)
{
    return t == EVENT_SESSION_THREAD_STATUS_RUNNING || t == EVENT_SESSION_USAGE ||
           t == EVENT_SESSION_STATUS_IDLE || t == EVENT_SESSION_THREAD_STATUS_RESCHEDULED ||
           t == EVENT_SESSION_STATUS_RESCHEDULED || t == EVENT_SESSION_STATUS_TERMINATED;
}

static void check_kind(struct session *ss, const struct event *e, const struct json *body)
{
    struct watch *w = &ss->watch;
    switch ((int)e->type) {
    case EVENT_USER_TOOL_CONFIRMATION:
    case EVENT_USER_CUSTOM_TOOL_RESULT: check_answer(ss, e, body); break;
    case EVENT_USER_MESSAGE: RULE(w->phase != LOG_SPAN, "a message inside a request"); break;
    case EVENT_AGENT_MESSAGE:
    case EVENT_AGENT_THINKING: RULE(w->phase == LOG_SPAN, "an answer without a request"); break;
    case EVENT_AGENT_TOOL_USE:
    case EVENT_AGENT_CUSTOM_TOOL_USE: add_call(ss, e, body); break;
    case EVENT_AGENT_TOOL_RESULT: check_result(ss, e, body); break;
    case EVENT_SPAN_MODEL_REQUEST_START:
    case EVENT_SPAN_MODEL_REQUEST_END: check_span(ss, e, body); break;
    case EVENT_USER_DEFINE_OUTCOME:
    case EVENT_SPAN_OUTCOME_EVALUATION_START:
    case EVENT_SPAN_OUTCOME_EVALUATION_ONGOING:
    case EVENT_SPAN_OUTCOME_EVALUATION_END: check_outcome(ss, e, body); break;
    case EVENT_SESSION_ERROR: check_error(ss, e, body); break;
    case EVENT_AGENT_THREAD_CONTEXT_COMPACTED:
        RULE(w->phase == LOG_RUNNING, "compacted inside a request or outside a turn");
        w->attempts = 0; /* another request than the one that failed */
        break;
    default: check_status(ss, e, body);
    }
}

static void check_event(struct session *ss, const struct event *e)
{
    struct sim *s = ss->sim;
    struct watch *w = &ss->watch;
    AUTO_ARENA struct arena a;
    arena_init(&a, 16 << 20);
    const struct json *body = NULL;
    struct err err;
    SIM_TRACE(s, "   s%d #%" PRId64 " %s", ss->index, e->seq, event_name(e->type));
    RULE(e->processed_us > w->last_us, "processed_at does not grow");
    w->last_us = e->processed_us;
    RULE(w->phase != LOG_DEAD, "an event after the end");
    if (map_get(&s->event_ids, id_str(&e->id)))
        broken(ss, e, "its id is not unique");
    struct id *id = sim_alloc(s, sizeof *id);
    *id = e->id;
    map_put(&s->event_ids, id_str(id), ss);
    if (json_parse(&a, e->body, 0, &body, &err))
        broken(ss, e, err.msg);
    RULE(str_eq(json_get_str(body, "id"), id_str(&e->id)), "its body has another id");
    RULE(str_eqz(json_get_str(body, "type"), event_name(e->type)), "its body has another type");
    RULE(json_is(json_get(body, "processed_at"), JSON_STRING), "its body has no processed_at");
    RULE(w->expect == EVENT_NONE ? !follows(e->type) : e->type == w->expect,
         "out of order with its neighbour");
    w->expect = EVENT_NONE;
    if (is_input(e->type))
        check_input(ss, e);
    check_kind(ss, e, body);
    if (turn_fold(&w->shadow, e, &err))
        broken(ss, e, err.msg);
}

/* ---- what commits ---- */

static void received(void *arg, struct db_session *row, const struct inbox_row *in)
{
    struct sim *s = arg;
    struct sent *sent = map_get(&s->sent_by_id, id_str(&in->event.id));
    (void)row;
    s->changed_us = s->now_us;
    if (sent)
        sent->durable = true;
}

static void check_inbox(struct session *ss, const struct session_append *ap,
                        const struct db_session *before)
{
    size_t inputs = 0;
    for (size_t i = 0; i < ap->nevents; i++)
        inputs += is_input(ap->events[i].type);
    if (inputs != ap->ninbox_done)
        sim_fail(ss->sim, "session %d: a commit processes %zu inputs and removes %zu", ss->index,
                 inputs, ap->ninbox_done);
    for (size_t i = 0; i < ap->ninbox_done; i++) {
        const struct inbox_row *row = NULL;
        size_t found = 0;
        for (size_t k = 0; k < before->ninbox; k++)
            row = before->inbox[k].number == ap->inbox_done[i] ? &before->inbox[k] : row;
        for (size_t k = 0; row && k < ap->nevents; k++)
            found += str_eq(id_str(&ap->events[k].id), id_str(&row->event.id));
        if (found != 1)
            sim_fail(ss->sim, "session %d: an input left the inbox and came into the log %zu times",
                     ss->index, found);
    }
}

static enum session_status status_of(const struct watch *w)
{
    switch (w->phase) {
    case LOG_RUNNING:
    case LOG_GRADING:
    case LOG_SPAN: return SESSION_RUNNING;
    case LOG_WAITING: return SESSION_RESCHEDULING;
    case LOG_DEAD: return SESSION_TERMINATED;
    case LOG_IDLE: break;
    }
    return SESSION_IDLE;
}

static void appended(void *arg, struct db_session *row, const struct session_append *ap,
                     const struct db_session *before)
{
    struct sim *s = arg;
    struct session *ss = row->watch;
    struct watch *w = &ss->watch;
    if (ap->base_seq != w->shadow.last_seq)
        sim_fail(s, "session %d: its log ended at %" PRId64 ", this commit builds on %" PRId64,
                 ss->index, w->shadow.last_seq, ap->base_seq);
    if (ap->epoch != before->row.epoch)
        sim_fail(s, "session %d: a writer of epoch %" PRId64 " wrote at epoch %" PRId64, ss->index,
                 ap->epoch, before->row.epoch);
    s->changed_us = s->now_us;
    check_inbox(ss, ap, before);
    for (size_t i = 0; i < ap->nevents && !s->failure[0]; i++)
        check_event(ss, &ap->events[i]);
    if (s->failure[0])
        return;
    if (w->expect != EVENT_NONE)
        sim_fail(s, "session %d: a commit ends before %s", ss->index, event_name(w->expect));
    SIM_TRACE(s, "   s%d cost %" PRId64 " held %" PRId64 " budget %" PRId64, ss->index,
              row->row.usage.cost_microusd, row->row.usage.held_microusd, row->row.budget_microusd);
    for (size_t i = 0; i < ap->nevents && row->row.has_sandbox; i++)
        if (ap->events[i].type == EVENT_SESSION_STATUS_IDLE)
            disk_turn_ended(ss, ap->events[i].seq);
    if (row->row.status != status_of(w))
        sim_fail(s, "session %d: its head says status %d, its log %d", ss->index,
                 (int)row->row.status, (int)status_of(w));
    if (row->row.usage.cost_microusd > ss->billed_microusd)
        sim_fail(s, "session %d: %" PRId64 " micro-dollars were counted, %" PRId64 " were billed",
                 ss->index, row->row.usage.cost_microusd, ss->billed_microusd);
}

static void kept(void *arg, struct db_session *row, const struct checkpoint_row *checkpoint)
{
    struct sim *s = arg;
    s->changed_us = s->now_us;
    disk_kept(row->watch, checkpoint);
}

static void updated(void *arg, struct db_session *row)
{
    struct session *ss = row->watch;
    (void)arg;
    read_agent(ss);
    use_agent(ss);
    ss->budget_microusd = row->row.budget_microusd;
}

static void deleted(void *arg, struct db_session *row)
{
    struct session *ss = row->watch;
    (void)arg;
    if (ss->watch.phase != LOG_IDLE && ss->watch.phase != LOG_DEAD)
        sim_fail(ss->sim, "session %d was deleted while it runs", ss->index);
}

const struct simdb_hooks check_hooks = {.inserted = inserted,
                                        .received = received,
                                        .appended = appended,
                                        .updated = updated,
                                        .kept = kept,
                                        .deleted = deleted};

/* ---- what leaves the process ---- */

static void same(struct sim *s, struct session *ss, const char *what, struct str a, struct str b)
{
    if (!str_eq(a, b))
        sim_fail(s, "session %d: %s of the request (%zu bytes) are not those of its log (%zu)",
                 ss->index, what, a.len, b.len);
}

/* It is told nothing of what the worker said, and only while its turn is graded. */
static void check_grader(struct session *ss, const struct model_request *req)
{
    const struct turn *t = &ss->watch.shadow;
    bool closing = turn_phase(t) == TURN_TOOLS && t->outcome.state == OUTCOME_LAST_TURN;
    if (turn_phase(t) != TURN_GRADING && !closing)
        sim_fail(ss->sim, "session %d: a grader asks while nothing is graded", ss->index);
    if (str_find(req->messages, STR("An answer ")) >= 0 ||
        str_find(req->messages, STR("message ")) >= 0)
        sim_fail(ss->sim, "session %d: the grader is told what was said", ss->index);
}

void check_request(struct node *n, struct session *ss, const struct model_request *req)
{
    struct sim *s = n->sim;
    struct watch *w = &ss->watch;
    struct model_request want;
    struct err err;
    if (req->purpose == MODEL_FOR_GRADER || turn_phase(&w->shadow) == TURN_GRADING) {
        check_grader(ss, req);
        return;
    }
    if (turn_phase(&w->shadow) != TURN_MODEL) {
        sim_fail(s, "session %d: a request was sent before its start was durable", ss->index);
        return;
    }
    if (req->purpose == MODEL_FOR_JUDGE)
        return;
    if (turn_request(&w->shadow, &want, &err)) {
        sim_fail(s, "session %d: %s", ss->index, err.msg);
        return;
    }
    same(s, ss, "the messages", req->messages, want.messages);
    same(s, ss, "the system prompt", req->system, want.system);
    same(s, ss, "the tools", req->tools, want.tools);
    same(s, ss, "the model", req->model, want.model);
    if (req->max_tokens != want.max_tokens)
        sim_fail(s, "session %d: an answer of %" PRId64 " tokens, not %" PRId64, ss->index,
                 req->max_tokens, want.max_tokens);
    if (req->request_number != want.request_number)
        sim_fail(s, "session %d: request number %" PRIu64 ", not %" PRIu64, ss->index,
                 req->request_number, want.request_number);
}

void check_bill(struct session *ss)
{
    int64_t budget = ss->row->row.budget_microusd;
    if (budget > 0 && ss->billed_microusd > budget)
        sim_fail(ss->sim,
                 "session %d: %" PRId64 " micro-dollars were billed, its budget is %" PRId64,
                 ss->index, ss->billed_microusd, budget);
}

/* ---- live state and folded state ---- */

static const char *difference(struct turn *a, struct turn *b)
{
    struct str x, y;
    struct err err;
    if (turn_phase(a) != turn_phase(b))
        return "phase";
    if (a->ncalls != b->ncalls)
        return "number of calls";
    for (size_t i = 0; i < a->ncalls; i++)
        if (a->calls[i].state != b->calls[i].state ||
            !str_eq(id_str(&a->calls[i].id), id_str(&b->calls[i].id)) ||
            !str_eq(a->calls[i].input, b->calls[i].input))
            return "calls";
    if (a->attempts != b->attempts)
        return "attempts";
    if (a->rounds != b->rounds)
        return "rounds";
    if (a->requests != b->requests)
        return "requests";
    if (a->last_us != b->last_us)
        return "time";
    if (strcmp(a->stop_reason, b->stop_reason) != 0)
        return "stop reason";
    if (prompt_messages(&a->prompt, &x, &err) || prompt_messages(&b->prompt, &y, &err))
        return "prompt that cannot be read";
    return str_eq(x, y) ? NULL : "prompt";
}

void check_live(struct sim *s, struct node *n, bool deep)
{
    size_t at = 0;
    struct actor *a;
    (void)deep;
    while ((a = map_next(&n->engine->actors, &at, NULL))) {
        struct session *ss = sim_session(s, id_str(&a->session_id));
        if (!ss || a->state != ACTOR_READY || !a->turn_live || a->fresh || !ss->watch.live ||
            a->turn.last_seq != ss->watch.shadow.last_seq ||
            ss->watch.compared_seq == a->turn.last_seq)
            continue;
        ss->watch.compared_seq = a->turn.last_seq;
        const char *what = difference(&a->turn, &ss->watch.shadow);
        if (what)
            sim_fail(s, "session %d: live and folded state differ in their %s", ss->index, what);
        if (a->row.epoch == ss->row->row.epoch &&
            memcmp(&a->turn.usage, &ss->row->row.usage, sizeof a->turn.usage) != 0)
            sim_fail(s, "session %d: the usage that is known differs from the durable one",
                     ss->index);
    }
}

/* ---- the end ---- */

bool check_quiet(struct sim *s)
{
    for (int i = 0; i < s->knobs.nodes; i++) {
        const struct node *n = s->nodes[i];
        if (!n || n->dead || !n->started || !list_empty(&n->jobs) ||
            engine_stats(n->engine).actors > 0)
            return false;
    }
    for (int i = 0; i < s->knobs.sessions; i++)
        if (!list_empty(&s->sessions[i].disk.wanted))
            return false;
    return true;
}

static void fold_again(struct session *ss)
{
    struct turn t;
    struct err err;
    turn_init(&t, &ss->watch.agent, ss->id, ss->row->row.thread_id);
    t.facts = ss->watch.shadow.facts;
    for (size_t i = 0; i < ss->row->nevents; i++)
        if (turn_fold(&t, &ss->row->events[i], &err)) {
            sim_fail(ss->sim, "session %d: its log does not fold: %s", ss->index, err.msg);
            break;
        }
    const char *what = ss->sim->failure[0] ? NULL : difference(&t, &ss->watch.shadow);
    if (what)
        sim_fail(ss->sim, "session %d: folding again gives another %s", ss->index, what);
    turn_fini(&t);
}

static void check_rest(struct session *ss)
{
    const struct db_session *row = ss->row;
    struct sim *s = ss->sim;
    if (!row || row->gone)
        return;
    if (row->row.status != SESSION_IDLE && row->row.status != SESSION_TERMINATED)
        sim_fail(s, "session %d does not come to rest: status %d", ss->index, (int)row->row.status);
    if (row->row.status != SESSION_TERMINATED && row->ninbox > 0)
        sim_fail(s, "session %d leaves %zu inputs unprocessed, the first a %s", ss->index,
                 row->ninbox, event_name(row->inbox[0].event.type));
    if (row->row.status == SESSION_IDLE && unresolved(&ss->watch) > 0)
        sim_fail(s, "session %d: calls wait for clients that answered", ss->index);
    if (row->waiting != (int64_t)row->ninbox)
        sim_fail(s, "session %d: its head counts %" PRId64 " waiting inputs of %zu", ss->index,
                 row->waiting, row->ninbox);
    if (row->row.last_seq != (int64_t)row->nevents)
        sim_fail(s, "session %d has %zu events and says %" PRId64, ss->index, row->nevents,
                 row->row.last_seq);
    disk_check(ss);
    fold_again(ss);
}

static void check_sent(struct sim *s)
{
    list_for_each (it, &s->sent) {
        const struct sent *in = LIST_ENTRY(it, struct sent, link);
        const struct db_session *row = in->session->row;
        bool ended = !row || row->gone || row->row.status == SESSION_TERMINATED;
        if (in->acked && !in->durable)
            sim_fail(s, "an event was acknowledged and is not there");
        if (in->durable && !in->done && !ended)
            sim_fail(s, "session %d: event %s was accepted and never processed", in->session->index,
                     in->id.z);
    }
}

static void check_subs(struct node *n)
{
    list_for_each (it, &n->subs) {
        const struct sub *sub = LIST_ENTRY(it, struct sub, link);
        const struct db_session *row = sub->session->row;
        if (sub->ended || row->gone)
            continue;
        if (sub->next != row->row.last_seq + 1 &&
            !(sub->next == 0 && sub->floor == row->row.last_seq))
            sim_fail(n->sim, "session %d: a subscriber waits for %" PRId64 ", the log has %" PRId64,
                     sub->session->index, sub->next, row->row.last_seq);
    }
}

void check_end(struct sim *s)
{
    if (!check_quiet(s))
        sim_fail(s, "something is left that never ends");
    for (int i = 0; i < s->knobs.sessions && !s->failure[0]; i++)
        check_rest(&s->sessions[i]);
    if (!s->failure[0])
        check_sent(s);
    for (int i = 0; i < s->knobs.nodes && !s->failure[0]; i++)
        check_subs(s->nodes[i]);
}
