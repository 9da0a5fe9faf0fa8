/* The inputs: what a message, an answer, a result or a timer makes of a turn. */
#include "core/turn_request.h"

#include <stdio.h>

static const char interrupted[] = "Tool execution was interrupted before completion. Please retry.";

static struct turn_input *first_of(const struct turn_step *s, enum event_type type)
{
    list_for_each (it, s->inbox) {
        struct turn_input *in = LIST_ENTRY(it, struct turn_input, link);
        if (in->event.type == type)
            return in;
    }
    return NULL;
}

/* What the session is to do next: it starts a turn. */
static bool is_task(enum event_type type)
{
    return type == EVENT_USER_MESSAGE || type == EVENT_USER_DEFINE_OUTCOME;
}

static bool has_task(const struct turn_step *s)
{
    return first_of(s, EVENT_USER_MESSAGE) || first_of(s, EVENT_USER_DEFINE_OUTCOME);
}

/* What is past the bound waits for the next request: a step must have an end. */
void turn_take_messages(struct turn *t, struct turn_step *s)
{
    size_t bytes = 0;
    list_for_each_safe (it, s->inbox) {
        struct turn_input *in = LIST_ENTRY(it, struct turn_input, link);
        bool message = is_task(in->event.type) || in->event.type == EVENT_SYSTEM_MESSAGE;
        if (!message || s->err_code || bytes >= LIMIT_INBOX_TAKE)
            continue;
        bytes += in->event.body.len + in->event.transcript.len;
        emit_input(t, s, in);
    }
}

static size_t count_calls(const struct turn *t, enum call_state state)
{
    size_t n = 0;
    for (size_t i = 0; i < t->ncalls; i++)
        n += t->calls[i].state == state;
    return n;
}

static size_t waiting_for_client(const struct turn *t)
{
    return count_calls(t, CALL_ASK) + count_calls(t, CALL_CLIENT);
}

static size_t unresolved(const struct turn *t)
{
    return t->ncalls - count_calls(t, CALL_DONE);
}

static void idle_requires_action(struct turn *t, struct turn_step *s)
{
    AUTO_BUF struct buf b = BUF_INIT(64 * 1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "type", "requires_action");
    jw_key(&w, "event_ids");
    jw_arr(&w);
    for (size_t i = 0; i < t->ncalls; i++)
        if (t->calls[i].state == CALL_ASK || t->calls[i].state == CALL_CLIENT)
            jw_str(&w, id_str(&t->calls[i].id));
    jw_arr_end(&w);
    jw_obj_end(&w);
    emit_idle(t, s, buf_view(&b), STR_NONE);
}

static void run(struct turn *t, struct turn_step *s)
{
    emit_simple(t, s, EVENT_SESSION_STATUS_RUNNING);
    emit_thread_status(t, s, EVENT_SESSION_THREAD_STATUS_RUNNING);
}

/* Between requests: wait for tools, ask the client, or go on with the model. */
static void settle_tools(struct turn *t, struct turn_step *s)
{
    if (count_calls(t, CALL_READY) || t->counting)
        return;
    if (waiting_for_client(t)) {
        idle_requires_action(t, s);
        return;
    }
    if (t->rounds >= LIMIT_TOOL_ROUNDS) {
        emit_error(t, s, "tool_use_limit_reached_error",
                   "The turn reached its limit of tool rounds. Send a message to start a new turn.",
                   "exhausted");
        request_exhausted(t, s);
        return;
    }
    request_start(t, s);
}

/* Idle: answers that came may let the turn go on; messages start a new one. */
static void settle_idle(struct turn *t, struct turn_step *s, bool answered)
{
    if (unresolved(t)) {
        if (!answered)
            return;
        if (count_calls(t, CALL_READY) == 0) {
            idle_requires_action(t, s);
            return;
        }
        run(t, s);
        return;
    }
    if (!answered && !has_task(s)) {
        turn_take_messages(t, s); /* the operator's word alone starts nothing */
        return;
    }
    const char *cap = caps_reached(&t->caps, &t->usage, !answered, s->now_us);
    run(t, s);
    if (!cap) {
        request_start(t, s);
        return;
    }
    turn_take_messages(t, s);
    if (s->err_code == 0)
        request_stop_at_cap(t, s, cap);
}

static void settle(struct turn *t, struct turn_step *s, bool answered)
{
    if (s->err_code || t->closing)
        return;
    if (turn_phase(t) == TURN_TOOLS)
        settle_tools(t, s);
    else if (turn_phase(t) == TURN_IDLE)
        settle_idle(t, s, answered);
}

static void fail_call(struct turn *t, struct turn_step *s, struct id id, const char *text)
{
    struct tool_outcome o = {.content = str_z(text), .is_error = true};
    emit_tool_result(t, s, id_str(&id), &o);
}

void turn_close_calls(struct turn *t, struct turn_step *s)
{
    if (t->ncalls && !s->cancel_calls)
        s->cancel_calls = ARENA_ARRAY(s->arena, struct id, LIMIT_TOOL_CALLS_PER_RESPONSE);
    for (size_t i = 0; i < t->ncalls && s->err_code == 0; i++) {
        if (t->calls[i].state == CALL_DONE)
            continue;
        if (t->calls[i].sent && s->cancel_calls)
            s->cancel_calls[s->ncancel_calls++] = t->calls[i].id;
        fail_call(t, s, t->calls[i].id, interrupted);
    }
}

/* What the interrupted request has cost so far. */
static struct end_record used_so_far(const struct turn *t, const struct turn_step *s)
{
    struct end_record end = {0};
    if (s->start_model)
        return end; /* it was to be sent by this very step */
    end.usage = t->answered ? t->unlogged : s->partial;
    if (t->answered)
        end.judge = s->partial;
    return end;
}

/* An outcome ends with the interrupt, whether or not it is being graded now. */
static void interrupt_outcome(struct turn *t, struct turn_step *s)
{
    bool grading = turn_phase(t) == TURN_GRADING || t->closing;
    s->cancel_grade = s->cancel_grade || (grading && !s->grade);
    s->grade = t->closing = false;
    if (t->outcome.state == OUTCOME_WORKING || t->outcome.state == OUTCOME_EVALUATING)
        emit_evaluation_end(t, s, OUTCOME_INTERRUPTED, NULL);
}

static void interrupt(struct turn *t, struct turn_step *s, struct turn_input *in)
{
    bool was_open =
        turn_phase(t) != TURN_IDLE || unresolved(t) > 0 || t->outcome.state != OUTCOME_NONE;
    if (turn_phase(t) == TURN_MODEL) {
        struct end_record end = used_so_far(t, s);
        s->cancel_model = !s->start_model;
        s->start_model = false;
        emit_span_end(t, s, &end, false);
    }
    interrupt_outcome(t, s);
    s->sleep_ms = 0;
    t->counting = s->count_tokens = false;
    turn_close_calls(t, s);
    emit_input(t, s, in);
    if (was_open && s->err_code == 0)
        emit_idle(t, s, REASON_END_TURN, STR_NONE);
}

/* A denied call is answered at once; the confirmation's own fold covers the allowed ones. */
static void confirm(struct turn *t, struct turn_step *s, struct turn_input *in)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *body;
    struct err err;
    if (json_parse(&a, in->event.body, 0, &body, &err))
        body = NULL;
    const struct turn_call *c = turn_find_call(t, json_get_str(body, "tool_use_id"));
    bool deny = c && c->state == CALL_ASK && str_eqz(json_get_str(body, "result"), "deny");
    struct id id = c ? c->id : (struct id){""};
    struct str why = json_get_str(body, "deny_message");
    emit_input(t, s, in);
    if (!deny)
        return;
    char text[1200];
    snprintf(text, sizeof text, "The user denied this tool call.%s%.*s", why.len ? " " : "",
             STR_ARG(str_utf8_take(why, 1024)));
    fail_call(t, s, id, text);
}

void turn_inbox(struct turn *t, struct turn_step *s)
{
    struct turn_input *in;
    if (turn_phase(t) == TURN_DEAD)
        return; /* archived between its acceptance and now */
    while (s->err_code == 0 && (in = first_of(s, EVENT_USER_INTERRUPT)))
        interrupt(t, s, in);
    size_t waiting = waiting_for_client(t);
    while (s->err_code == 0 && (in = first_of(s, EVENT_USER_TOOL_CONFIRMATION)))
        confirm(t, s, in);
    while (s->err_code == 0 && (in = first_of(s, EVENT_USER_TOOL_RESULT)))
        emit_input(t, s, in);
    while (s->err_code == 0 && (in = first_of(s, EVENT_USER_CUSTOM_TOOL_RESULT)))
        emit_input(t, s, in);
    /* Late and repeated answers change nothing and must not start anything. */
    settle(t, s, waiting_for_client(t) < waiting);
}

/* ---- outcomes ---- */

/* Whether the end of a turn is to be graded. */
static bool is_graded(const struct turn *t)
{
    const struct outcome *o = &t->outcome;
    return o->state == OUTCOME_WORKING || (o->state == OUTCOME_LAST_TURN && o->closing);
}

static void grade(struct turn *t, struct turn_step *s)
{
    const char *cap = caps_reached(&t->caps, &t->usage, false, s->now_us);
    if (cap) {
        request_stop_at_cap(t, s, cap);
        return;
    }
    if (t->outcome.state == OUTCOME_LAST_TURN)
        t->closing = true;
    else
        emit_evaluation_start(t, s);
    s->grade = s->err_code == 0;
}

/* The agent has said its last word and nothing came of it yet: a cap was in the way, or a crash. */
static bool grade_is_due(const struct turn *t, const struct turn_step *s)
{
    return is_graded(t) && unresolved(t) == 0 && t->prompt.open == PROMPT_ASSISTANT && !has_task(s);
}

void turn_grading(struct turn *t, struct turn_step *s, const struct model_usage *spent,
                  int64_t reserved_microusd)
{
    struct session_usage now = t->usage;
    if (turn_phase(t) != TURN_GRADING && !t->closing)
        return;
    usage_add(&now, spent);
    int64_t left = caps_money_left(&t->caps, &now);
    if (left >= 0 && left < reserved_microusd) {
        s->grader_refused = true;
        return;
    }
    /* After the last turn no events are wanted, but under a cap the money must be set aside. */
    if (!t->closing || left >= 0)
        emit_evaluation_ongoing(
            t, s,
            &(struct evaluation_record){.spent = *spent, .reserved_microusd = reserved_microusd});
    s->grader_may_ask = s->err_code == 0;
}

void turn_graded(struct turn *t, struct turn_step *s, const struct grade *g)
{
    if (t->closing) {
        t->closing = false;
        s->closing = *g;
        s->closed = true;
        emit_idle(t, s, REASON_END_TURN, STR_NONE);
        return;
    }
    if (turn_phase(t) != TURN_GRADING)
        return;
    enum outcome_result result = g->result;
    if (result == OUTCOME_NEEDS_REVISION && t->outcome.iteration + 1 >= t->outcome.max_iterations)
        result = OUTCOME_MAX_ITERATIONS;
    emit_evaluation_end(t, s, result, g);
    if (s->err_code)
        return;
    if (result == OUTCOME_NEEDS_REVISION || result == OUTCOME_MAX_ITERATIONS)
        request_start(t, s);
    else
        emit_idle(t, s, REASON_END_TURN, STR_NONE);
}

/* The grader died with its process. */
static void attempt_lost(struct turn *t, struct turn_step *s)
{
    const struct outcome *o = &t->outcome;
    emit_evaluation_ongoing(
        t, s, &(struct evaluation_record){.lost = o->spent, .held_microusd = o->reserved_microusd});
}

void turn_recover(struct turn *t, struct turn_step *s)
{
    /* Its answer died with the process. The span is closed, the same request goes out again; the
     * provider may have billed the first one. */
    struct end_record lost = {.held_microusd = t->request.reserved_microusd};
    switch (turn_phase(t)) {
    case TURN_MODEL:
        emit_span_end(t, s, &lost, true);
        turn_inbox(t, s);
        break;
    case TURN_BACKOFF:
        s->sleep_ms = LIMIT_MODEL_BACKOFF_MIN_MS;
        turn_inbox(t, s);
        break;
    case TURN_GRADING:
        attempt_lost(t, s);
        s->grade = s->err_code == 0;
        turn_inbox(t, s);
        break;
    case TURN_TOOLS:
        if (grade_is_due(t, s)) {
            if (t->outcome.state == OUTCOME_LAST_TURN && t->outcome.reserved_microusd)
                attempt_lost(t, s);
            grade(t, s);
        }
        turn_inbox(t, s);
        break;
    case TURN_IDLE: turn_inbox(t, s); break;
    case TURN_DEAD: break;
    }
}

static void end_turn(struct turn *t, struct turn_step *s, struct str reason, struct str details)
{
    if (s->err_code)
        return;
    bool done = str_eq(reason, REASON_END_TURN);
    if (done && has_task(s))
        request_start(t, s); /* what was said meanwhile belongs to this turn */
    else if (done && is_graded(t))
        grade(t, s);
    else
        emit_idle(t, s, reason, details);
}

/* How deep containers nest in a valid JSON text. */
static unsigned nesting(struct str json)
{
    unsigned depth = 0, most = 0;
    bool quoted = false;
    for (size_t i = 0; i < json.len; i++) {
        char c = json.ptr[i];
        if (quoted)
            i += c == '\\'; /* whatever it escapes */
        else if (c == '{' || c == '[')
            most = ++depth > most ? depth : most;
        else if (c == '}' || c == ']')
            depth--;
        if (c == '"')
            quoted = !quoted;
    }
    return most;
}

static const char *unusable(const struct model_block *b)
{
    enum { AROUND = 8 }; /* levels that an event, and a request with it, put around an input */
    if (b->input_malformed)
        return "The tool input was not a JSON object. Call the tool again with valid JSON.";
    if (nesting(b->input) > LIMIT_JSON_DEPTH - AROUND)
        return "The tool input was nested too deeply. Call the tool again with flatter JSON.";
    return NULL;
}

/* A call that the policy `auto` decided about. No judgement means asking. */
static struct id take_judged(struct turn *t, struct turn_step *s, const struct model_block *b,
                             const struct judgement *judged, const char **why)
{
    static const struct judgement none = {VERDICT_ASK, "indeterminate"};
    static const char *const names[] = {
        [VERDICT_ALLOW] = "allow", [VERDICT_ASK] = "ask", [VERDICT_DENY] = "deny"};
    const struct judgement *j = judged && judged->verdict != VERDICT_NONE ? judged : &none;
    char evaluation[160];
    snprintf(evaluation, sizeof evaluation,
             "{\"type\":\"auto\",\"evaluated_permission\":{\"type\":\"%s\"%s%s%s}}",
             names[j->verdict], j->reason_code ? ",\"reason_code\":\"" : "",
             j->reason_code ? j->reason_code : "", j->reason_code ? "\"" : "");
    if (j->verdict == VERDICT_DENY)
        *why = "This tool call was not permitted. Find another way, or ask the user.";
    return emit_tool_use(t, s, b, names[j->verdict], evaluation);
}

/* One tool call of a response: the event, and where it cannot run, its answer. */
static void take_call(struct turn *t, struct turn_step *s, const struct model_block *block,
                      const struct judgement *judged, struct id *rejected, const char **why)
{
    static const char *const evaluation[] = {
        [POLICY_ALLOW] = "{\"type\":\"always_allow\"}",
        [POLICY_ASK] = "{\"type\":\"always_ask\"}",
    };
    struct model_block copy = *block, *b = &copy;
    *why = unusable(b);
    b->input_malformed = *why != NULL;
    if (agent_custom_tool(t->agent, b->name)) {
        *rejected = emit_custom_tool_use(t, s, b);
        return;
    }
    enum tool_id tool = tool_of(b->name);
    if (tool == TOOL_COUNT || !t->agent->tools[tool].offered) {
        *rejected = emit_tool_use(t, s, b, "deny", NULL);
        *why = tool == TOOL_COUNT ? "There is no tool of this name. Use one of the tools offered."
                                  : "This tool is not enabled for this agent.";
        return;
    }
    enum policy p = t->agent->tools[tool].policy;
    if (*why) {
        *rejected = emit_tool_use(t, s, b, "allow", evaluation[POLICY_ALLOW]);
        return;
    }
    if (p == POLICY_AUTO)
        *rejected = take_judged(t, s, b, judged, why);
    else
        *rejected = emit_tool_use(t, s, b, p == POLICY_ALLOW ? "allow" : "ask", evaluation[p]);
}

static size_t text_run(const struct model_result *r, size_t at)
{
    size_t n = 0;
    while (at + n < r->nblocks && r->blocks[at + n].type == MODEL_TEXT)
        n++;
    return n;
}

/* The id that was promised to subscribers for the first non-empty block of a run, if any. */
static struct id promised(const struct turn *t, size_t at, size_t n)
{
    for (size_t i = at; i < at + n && i < t->nblocks; i++)
        if (t->blocks[i].event_id.z[0])
            return t->blocks[i].event_id;
    return (struct id){""};
}

static bool any_text(const struct model_block *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (b[i].text.len)
            return true;
    return false;
}

struct rejection {
    struct id id;
    const char *why;
};

/* The blocks of a response as events, in order. Returns the number of rejected calls. */
static size_t take_blocks(struct turn *t, struct turn_step *s, const struct model_result *r,
                          const struct judgement *judged, struct rejection *rejected)
{
    size_t nrejected = 0;
    for (size_t i = 0; i < r->nblocks && s->err_code == 0;) {
        const struct model_block *b = &r->blocks[i];
        if (b->type == MODEL_TEXT) {
            size_t n = text_run(r, i);
            if (any_text(b, n))
                emit_message(t, s, promised(t, i, n), b, n);
            i += n;
            continue;
        }
        if (b->type == MODEL_THINKING) {
            emit_thinking(t, s, promised(t, i, 1), b->raw);
        } else if (r->stop != MODEL_STOP_REFUSAL && /* what was refused is not run */
                   t->ncalls < LIMIT_TOOL_CALLS_PER_RESPONSE) {
            struct rejection *rej = &rejected[nrejected];
            take_call(t, s, b, judged ? &judged[i] : NULL, &rej->id, &rej->why);
            nrejected += rej->why != NULL;
        }
        i++;
    }
    return nrejected;
}

static struct str refusal_details(struct turn_step *s, const struct model_result *r)
{
    AUTO_BUF struct buf b = BUF_INIT(64 * 1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "type", "refusal");
    jw_kstr(&w, "category", r->refusal_category);
    jw_kstr(&w, "explanation", r->refusal_explanation);
    jw_obj_end(&w);
    return buf_ok(&b) ? arena_str(s->arena, buf_view(&b)) : STR_NONE;
}

/* The context is full. A smaller one is the way on; where that was tried, the turn ends. */
static void context_full(struct turn *t, struct turn_step *s, const char *message)
{
    if (t->compactions >= LIMIT_COMPACTIONS) {
        request_compaction_limit(t, s);
    } else if (prompt_can_cut(&t->prompt)) {
        request_compact(t, s);
    } else {
        emit_error(t, s, "model_request_failed_error", message, "exhausted");
        request_exhausted(t, s);
    }
}

/* The text of a summary; calls and refusals are none. */
static void take_summary(struct turn *t, struct turn_step *s, const struct model_result *r)
{
    AUTO_BUF struct buf b = BUF_INIT(LIMIT_MODEL_RESPONSE);
    struct end_record end = {.usage = r->usage};
    for (size_t i = 0; i < r->nblocks; i++)
        if (r->blocks[i].type == MODEL_TEXT)
            buf_str(&b, r->blocks[i].text);
    bool usable = r->stop != MODEL_STOP_REFUSAL && buf_ok(&b) && str_trim(buf_view(&b)).len > 0;
    emit_span_end(t, s, &end, false);
    if (s->err_code)
        return;
    if (r->stop == MODEL_STOP_CONTEXT && !usable)
        request_compaction_overflowed(t, s);
    else
        request_compacted(t, s, usable ? buf_view(&b) : STR_NONE);
}

void turn_model_done(struct turn *t, struct turn_step *s, const struct model_result *r,
                     const struct judgement *judged, const struct model_usage *judge)
{
    struct rejection rejected[LIMIT_TOOL_CALLS_PER_RESPONSE];
    struct end_record end = {.usage = r->usage};
    t->answered = false;
    if (t->request.purpose == MODEL_FOR_COMPACTION) {
        take_summary(t, s, r);
        return;
    }
    if (judge)
        end.judge = *judge;
    size_t n = take_blocks(t, s, r, judged, rejected);
    emit_span_end(t, s, &end, false);
    for (size_t i = 0; i < n && s->err_code == 0; i++)
        fail_call(t, s, rejected[i].id, rejected[i].why);
    if (s->err_code)
        return;
    if (t->ncalls) {
        settle(t, s, false);
    } else if (r->stop == MODEL_STOP_REFUSAL) {
        end_turn(t, s, REASON_REFUSAL, refusal_details(s, r));
    } else if (r->stop == MODEL_STOP_PAUSE) {
        settle(t, s, false);
    } else if (r->stop == MODEL_STOP_CONTEXT) {
        context_full(t, s, "The model's context window is full.");
    } else {
        end_turn(t, s, REASON_END_TURN, STR_NONE);
    }
}

static int64_t backoff_ms(const struct turn_step *s, unsigned attempt, int64_t retry_after_ms)
{
    int64_t ms = LIMIT_MODEL_BACKOFF_MIN_MS;
    for (unsigned i = 0; i < attempt && ms < LIMIT_MODEL_BACKOFF_MAX_MS; i++)
        ms *= 2;
    if (ms > LIMIT_MODEL_BACKOFF_MAX_MS)
        ms = LIMIT_MODEL_BACKOFF_MAX_MS;
    unsigned char r;
    s->rand->fill(s->rand->self, &r, 1);
    ms = ms / 2 + ms * r / 510; /* half to all of it */
    if (retry_after_ms > LIMIT_RETRY_AFTER_MS)
        retry_after_ms = LIMIT_RETRY_AFTER_MS;
    return ms > retry_after_ms ? ms : retry_after_ms;
}

static const char *error_type(enum model_error_kind kind)
{
    switch (kind) {
    case MODEL_ERR_OVERLOADED: return "model_overloaded_error";
    case MODEL_ERR_RATE_LIMITED: return "model_rate_limited_error";
    case MODEL_ERR_BILLING: return "billing_error";
    case MODEL_ERR_FAILED:
    case MODEL_ERR_REQUEST:
    case MODEL_ERR_AUTH:
    case MODEL_ERR_CONTEXT: break;
    }
    return "model_request_failed_error";
}

/* A long conversation that times out again and again may be too much for its provider. */
static bool times_out(const struct turn *t, const struct model_failure *f)
{
    int64_t context = t->facts.context_tokens;
    return f->timed_out && t->attempts > 0 && context > 0 &&
           prompt_tokens(&t->prompt) > context / 4 && request_may_compact(t);
}

static bool is_retried(const struct turn *t, const struct model_failure *f)
{
    return (f->kind == MODEL_ERR_OVERLOADED || f->kind == MODEL_ERR_RATE_LIMITED ||
            f->kind == MODEL_ERR_FAILED) &&
           t->attempts + 1 < LIMIT_MODEL_ATTEMPTS;
}

/* A failure that a smaller context may cure. True when that is under way. */
static bool made_smaller(struct turn *t, struct turn_step *s, const struct model_failure *f)
{
    bool compacting = t->request.purpose == MODEL_FOR_COMPACTION;
    bool money = f->kind == MODEL_ERR_AUTH || f->kind == MODEL_ERR_BILLING;
    if (s->err_code)
        return true;
    if (compacting && f->kind == MODEL_ERR_CONTEXT)
        request_compaction_overflowed(t, s);
    else if (compacting && !money && !is_retried(t, f))
        request_compacted(t, s, STR_NONE); /* by rule, without a summary */
    else if (!compacting && f->kind == MODEL_ERR_CONTEXT)
        context_full(t, s, f->message);
    else if (!compacting && times_out(t, f))
        request_compact(t, s);
    else
        return false;
    return true;
}

void turn_model_failed(struct turn *t, struct turn_step *s, const struct model_failure *f)
{
    bool retry = is_retried(t, f);
    unsigned attempt = t->attempts;
    struct end_record end = {.usage = f->usage};
    emit_span_end(t, s, &end, true);
    if (made_smaller(t, s, f))
        return;
    emit_error(t, s, error_type(f->kind), f->message, retry ? "retrying" : "exhausted");
    if (s->err_code)
        return;
    if (retry) {
        emit_thread_status(t, s, EVENT_SESSION_THREAD_STATUS_RESCHEDULED);
        emit_simple(t, s, EVENT_SESSION_STATUS_RESCHEDULED);
        s->sleep_ms = backoff_ms(s, attempt, f->retry_after_ms);
        return;
    }
    request_exhausted(t, s);
}

void turn_tool_done(struct turn *t, struct turn_step *s, struct str tool_use_id,
                    const struct tool_outcome *o)
{
    const struct turn_call *c = turn_find_call(t, tool_use_id);
    if (!c || c->state == CALL_DONE)
        return; /* closed by an interrupt meanwhile */
    emit_tool_result(t, s, tool_use_id, o);
    settle(t, s, false);
}

void turn_timer(struct turn *t, struct turn_step *s)
{
    if (turn_phase(t) != TURN_BACKOFF)
        return;
    run(t, s);
    request_start(t, s);
}

void turn_notice(struct turn *t, struct turn_step *s, const struct sandbox_notice *n)
{
    if (turn_phase(t) != TURN_DEAD)
        emit_notice(t, s, n);
}

void turn_session_updated(struct turn *t, struct turn_step *s, const struct turn_update *u)
{
    bool caps = str_some(u->budget) || str_some(u->limits);
    bool rests = str_starts(str_z(t->stop_reason), STR("{\"type\":\"budget_reached\""));
    emit_updated(t, s, u);
    if (s->err_code || !caps || !rests || turn_phase(t) != TURN_IDLE)
        return;
    if (caps_reached(&t->caps, &t->usage, t->rounds == 0, s->now_us))
        return;
    if (!t->paused) {
        /* Its last turn came to its end; now it is no more than that. */
        emit_idle(t, s, REASON_END_TURN, STR_NONE);
        return;
    }
    run(t, s);
    if (s->err_code == 0 && grade_is_due(t, s))
        grade(t, s);
    else
        request_start(t, s);
}

void turn_terminate(struct turn *t, struct turn_step *s)
{
    emit_thread_status(t, s, EVENT_SESSION_THREAD_STATUS_TERMINATED);
    emit_simple(t, s, EVENT_SESSION_STATUS_TERMINATED);
}

void turn_deleted(struct turn *t, struct turn_step *s)
{
    emit_simple(t, s, EVENT_SESSION_DELETED);
}
