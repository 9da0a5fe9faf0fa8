#include "core/turn_emit.h"

#include "base/clock.h"
#include "json/writer.h"

#include <stdio.h>

struct id turn_new_id(const char *prefix, int64_t now_us, const struct rand_port *rand)
{
    /* The microseconds lead the random part, so that a session's ids sort as its events do. */
    unsigned char entropy[10];
    rand->fill(rand->self, entropy, sizeof entropy);
    entropy[0] = (unsigned char)(now_us % 1000 >> 8);
    entropy[1] = (unsigned char)(now_us % 1000);
    return id_make(prefix, now_us / 1000, entropy);
}

static void fail(struct turn_step *s, int code, const char *what)
{
    if (s->err_code == 0)
        s->err_code = err_set(&s->err, code, "%s", what);
}

static struct event *grow(struct turn_step *s)
{
    if (s->nevents == s->events_cap) {
        size_t cap = s->events_cap ? s->events_cap * 2 : 16;
        struct event *more = ARENA_ARRAY(s->arena, struct event, cap);
        if (!more) {
            fail(s, ERR_LIMIT, "step too large");
            return NULL;
        }
        if (s->nevents)
            memcpy(more, s->events, s->nevents * sizeof *more);
        s->events = more;
        s->events_cap = cap;
    }
    return &s->events[s->nevents];
}

/* Appends and folds. The body and transcript must live in the step's arena. */
static void append(struct turn *t, struct turn_step *s, const struct event *e)
{
    if (s->err_code)
        return;
    struct event *slot = grow(s);
    if (!slot)
        return;
    *slot = *e;
    s->nevents++;
    struct err err;
    if (turn_fold(t, slot, &err))
        fail(s, err.code, err.msg);
}

/* processed_at is strictly increasing within a session. */
static int64_t stamp(const struct turn *t, const struct turn_step *s)
{
    return s->now_us > t->last_us ? s->now_us : t->last_us + 1;
}

struct emission {
    struct turn *t;
    struct turn_step *s;
    struct event event;
    struct buf buf;
    struct jw w;
};

static void begin(struct emission *m, struct turn *t, struct turn_step *s, enum event_type type,
                  struct id id)
{
    *m = (struct emission){.t = t, .s = s, .buf = BUF_INIT(LIMIT_MODEL_RESPONSE * 2ul)};
    int64_t us = stamp(t, s);
    m->event = (struct event){.seq = t->last_seq + 1,
                              .type = type,
                              .id = id.z[0] ? id : turn_new_id("sevt", us, s->rand),
                              .processed_us = us};
    m->w = jw_to(&m->buf);
    jw_obj(&m->w);
    jw_kstr(&m->w, "id", id_str(&m->event.id));
    jw_kz(&m->w, "type", event_name(type));
    jw_ktime(&m->w, "processed_at", m->event.processed_us);
}

static struct id end(struct emission *m)
{
    jw_obj_end(&m->w);
    m->event.body = arena_str(m->s->arena, buf_view(&m->buf));
    if (!buf_ok(&m->buf) || !str_some(m->event.body))
        fail(m->s, ERR_LIMIT, "event too large");
    buf_fini(&m->buf);
    append(m->t, m->s, &m->event);
    return m->event.id;
}

static const struct id new_id = {""};

void emit_simple(struct turn *t, struct turn_step *s, enum event_type type)
{
    struct emission m;
    begin(&m, t, s, type, new_id);
    end(&m);
}

static void put_thread(struct emission *m)
{
    jw_kstr(&m->w, "agent_name", m->t->agent->name);
    jw_kstr(&m->w, "session_thread_id", id_str(&m->t->thread_id));
}

void emit_thread_status(struct turn *t, struct turn_step *s, enum event_type type)
{
    struct emission m;
    begin(&m, t, s, type, new_id);
    put_thread(&m);
    end(&m);
}

static void put_budget(struct emission *m)
{
    jw_key(&m->w, "budget");
    usage_budget_write(&m->w, m->t->caps.budget_microusd);
}

/* A turn that ends with the money says so of itself; the session has nothing left. What waits for a
 * client outranks that. */
static struct str session_reason(const struct turn *t, struct turn_step *s, struct str reason)
{
    const char *cap = caps_reached(&t->caps, &t->usage, false, s->now_us);
    if (!cap || !str_eq(reason, REASON_END_TURN))
        return reason;
    return emit_cap_reason(s, cap);
}

struct str emit_cap_reason(struct turn_step *s, const char *cap)
{
    if (strcmp(cap, "budget") == 0)
        return STR("{\"type\":\"budget_reached\"}");
    return arena_printf(s->arena, "{\"type\":\"budget_reached\",\"limit\":\"%s\"}", cap);
}

void emit_idle(struct turn *t, struct turn_step *s, struct str reason, struct str details)
{
    struct emission m;
    begin(&m, t, s, EVENT_SESSION_THREAD_STATUS_IDLE, new_id);
    put_thread(&m);
    jw_kraw(&m.w, "stop_reason", reason);
    jw_kraw(&m.w, "stop_details", details);
    if (s->closed && usage_some(&s->closing.usage)) {
        /* Nothing else of the log says what that has cost; another turn may end in this step. */
        m.event.transcript =
            end_record_write(s->arena, &(struct end_record){.usage = s->closing.usage});
        s->closing.usage = (struct model_usage){0};
    }
    end(&m);

    begin(&m, t, s, EVENT_SESSION_USAGE, new_id);
    jw_key(&m.w, "usage");
    usage_write(&m.w, &t->usage, m.event.processed_us);
    put_budget(&m);
    end(&m);

    begin(&m, t, s, EVENT_SESSION_STATUS_IDLE, new_id);
    jw_kraw(&m.w, "stop_reason", session_reason(t, s, reason));
    jw_kraw(&m.w, "stop_details", details);
    end(&m);
}

void emit_span_start(struct turn *t, struct turn_step *s, const struct request_record *r)
{
    struct emission m;
    begin(&m, t, s, EVENT_SPAN_MODEL_REQUEST_START, new_id);
    m.event.transcript = request_record_write(s->arena, r);
    end(&m);
}

void emit_compacted(struct turn *t, struct turn_step *s, struct str transcript)
{
    struct emission m;
    begin(&m, t, s, EVENT_AGENT_THREAD_CONTEXT_COMPACTED, new_id);
    m.event.transcript = transcript;
    end(&m);
}

void emit_span_end(struct turn *t, struct turn_step *s, const struct end_record *r, bool is_error)
{
    struct emission m;
    struct str speed = t->agent->speed;
    begin(&m, t, s, EVENT_SPAN_MODEL_REQUEST_END, new_id);
    jw_kstr(&m.w, "model_request_start_id", id_str(&t->request_start));
    jw_kbool(&m.w, "is_error", is_error);
    jw_key(&m.w, "model_usage");
    usage_span_write(&m.w, &r->usage, speed.len ? speed : STR_NONE);
    m.event.transcript = end_record_write(s->arena, r);
    end(&m);
}

static void put_error(struct turn *t, struct turn_step *s, const struct sandbox_notice *n,
                      const char *retry)
{
    struct emission m;
    begin(&m, t, s, EVENT_SESSION_ERROR, new_id);
    jw_key(&m.w, "error");
    jw_obj(&m.w);
    jw_kz(&m.w, "type", n->type);
    jw_kstr(&m.w, "message", n->message);
    if (str_some(n->repository_url))
        jw_kstr(&m.w, "repository_url", n->repository_url);
    jw_key(&m.w, "retry_status");
    jw_obj(&m.w);
    jw_kz(&m.w, "type", retry);
    jw_obj_end(&m.w);
    jw_obj_end(&m.w);
    end(&m);
}

void emit_error(struct turn *t, struct turn_step *s, const char *type, const char *message,
                const char *retry)
{
    const struct sandbox_notice n = {
        .type = type, .message = str_z(message), .repository_url = STR_NONE};
    put_error(t, s, &n, retry);
}

void emit_notice(struct turn *t, struct turn_step *s, const struct sandbox_notice *n)
{
    put_error(t, s, n, n->retry ? n->retry : "retrying");
}

void emit_message(struct turn *t, struct turn_step *s, struct id id,
                  const struct model_block *blocks, size_t n)
{
    struct emission m;
    begin(&m, t, s, EVENT_AGENT_MESSAGE, id);
    jw_key(&m.w, "content");
    jw_arr(&m.w);
    for (size_t i = 0; i < n; i++) {
        if (blocks[i].type != MODEL_TEXT || blocks[i].text.len == 0)
            continue;
        jw_obj(&m.w);
        jw_kz(&m.w, "type", "text");
        jw_kstr(&m.w, "text", blocks[i].text);
        jw_obj_end(&m.w);
    }
    jw_arr_end(&m.w);
    end(&m);
}

void emit_thinking(struct turn *t, struct turn_step *s, struct id id, struct str raw)
{
    struct emission m;
    begin(&m, t, s, EVENT_AGENT_THINKING, id);
    m.event.transcript = arena_str(s->arena, raw);
    end(&m);
}

static void put_call(struct emission *m, const struct model_block *b)
{
    jw_kstr(&m->w, "name", b->name);
    jw_kraw(&m->w, "input", b->input_malformed ? STR("{}") : b->input);
}

struct id emit_tool_use(struct turn *t, struct turn_step *s, const struct model_block *b,
                        const char *permission, const char *evaluation)
{
    struct emission m;
    begin(&m, t, s, EVENT_AGENT_TOOL_USE, new_id);
    put_call(&m, b);
    jw_kz(&m.w, "evaluated_permission", permission);
    if (evaluation)
        jw_kraw(&m.w, "evaluation", str_z(evaluation));
    return end(&m);
}

struct id emit_custom_tool_use(struct turn *t, struct turn_step *s, const struct model_block *b)
{
    struct emission m;
    begin(&m, t, s, EVENT_AGENT_CUSTOM_TOOL_USE, new_id);
    put_call(&m, b);
    return end(&m);
}

void emit_tool_result(struct turn *t, struct turn_step *s, struct str tool_use_id,
                      const struct tool_outcome *o)
{
    struct emission m;
    begin(&m, t, s, EVENT_AGENT_TOOL_RESULT, new_id);
    jw_kstr(&m.w, "tool_use_id", tool_use_id);
    jw_key(&m.w, "content");
    jw_arr(&m.w);
    if (o->content.len) {
        jw_obj(&m.w);
        jw_kz(&m.w, "type", "text");
        jw_kstr(&m.w, "text", o->content);
        jw_obj_end(&m.w);
    }
    jw_arr_end(&m.w);
    jw_kbool(&m.w, "is_error", o->is_error);
    if (o->failure_reason) {
        jw_key(&m.w, "failure");
        jw_obj(&m.w);
        jw_kz(&m.w, "reason", o->failure_reason);
        jw_obj_end(&m.w);
    }
    end(&m);
}

static void begin_evaluation(struct emission *m, struct turn *t, struct turn_step *s,
                             enum event_type type)
{
    begin(m, t, s, type, new_id);
    jw_kstr(&m->w, "outcome_id", id_str(&t->outcome.id));
    jw_ki64(&m->w, "iteration", t->outcome.iteration);
}

void emit_evaluation_start(struct turn *t, struct turn_step *s)
{
    struct emission m;
    begin_evaluation(&m, t, s, EVENT_SPAN_OUTCOME_EVALUATION_START);
    end(&m);
}

void emit_evaluation_ongoing(struct turn *t, struct turn_step *s, const struct evaluation_record *r)
{
    struct emission m;
    begin_evaluation(&m, t, s, EVENT_SPAN_OUTCOME_EVALUATION_ONGOING);
    m.event.transcript = evaluation_record_write(s->arena, r);
    end(&m);
}

void emit_evaluation_end(struct turn *t, struct turn_step *s, enum outcome_result result,
                         const struct grade *g)
{
    AUTO_BUF struct buf words = BUF_INIT(LIMIT_MODEL_RESPONSE);
    struct emission m;
    struct end_record used = {.usage = g ? g->usage : s->graded};
    struct model_usage all = t->outcome.lost;
    model_usage_add(&all, &used.usage);
    outcome_explain(result, g, t->outcome.iteration + 1, &words);
    begin_evaluation(&m, t, s, EVENT_SPAN_OUTCOME_EVALUATION_END);
    jw_kstr(&m.w, "outcome_evaluation_start_id", id_str(&t->outcome.start));
    jw_kz(&m.w, "result", outcome_results[result]);
    jw_kstr(&m.w, "explanation", buf_view(&words));
    jw_key(&m.w, "usage");
    usage_span_write(&m.w, &all, STR_NONE);
    if (!all.unpriced)
        jw_ki64(&m.w, "cost_microusd", all.cost_microusd);
    if (g) {
        jw_key(&m.w, "criteria");
        outcome_criteria_write(&m.w, g);
    }
    m.event.transcript = end_record_write(s->arena, &used);
    end(&m);
}

void emit_updated(struct turn *t, struct turn_step *s, const struct turn_update *u)
{
    const struct {
        const char *key;
        struct str value;
    } fields[] = {{"title", u->title},
                  {"metadata", u->metadata},
                  {"agent", u->agent},
                  {"budget", u->budget},
                  {"limits", u->limits}};
    struct emission m;
    begin(&m, t, s, EVENT_SESSION_UPDATED, new_id);
    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (str_some(fields[i].value))
            jw_kraw(&m.w, fields[i].key, fields[i].value);
    m.event.transcript = u->agent_before;
    end(&m);
}

/* The body was written with a processed_at at a fixed place, null or the time of its receipt:
 * {"id":..,"type":..,"processed_at":null,...; everything behind it is copied. */
static struct str fill_processed_at(struct arena *a, struct str body, int64_t us)
{
    static const char mark[] = "\"processed_at\":";
    ptrdiff_t at = str_find(str_take(body, 200), str_z(mark));
    if (at < 0)
        return STR_NONE;
    size_t begin = (size_t)at + sizeof mark - 1, end = begin;
    while (end < body.len && body.ptr[end] != ',' && body.ptr[end] != '}')
        end++;
    char text[CLOCK_TEXT_MAX];
    clock_format(text, us);
    return arena_printf(a, "%.*s\"%s\"%.*s", (int)begin, body.ptr, text,
                        STR_ARG(str_skip(body, end)));
}

void emit_input(struct turn *t, struct turn_step *s, struct turn_input *in)
{
    struct event e = in->event;
    e.seq = t->last_seq + 1;
    e.processed_us = stamp(t, s);
    e.body = fill_processed_at(s->arena, in->event.body, e.processed_us);
    if (s->arena->failed)
        fail(s, ERR_LIMIT, "event too large");
    else if (!str_some(e.body))
        fail(s, ERR_CORRUPT, "inbox event without its processed_at");
    list_remove(&in->link);
    list_push(s->taken, &in->link);
    append(t, s, &e);
}
