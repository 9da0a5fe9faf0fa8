#include "cli/replay_show.h"

#include <inttypes.h>
#include <stdio.h>

enum { SHOWN_BYTES = 4000 }; /* of one text or input; JSON has all of it */

static const char *purpose(const struct replay_request *q)
{
    return q->record.purpose == MODEL_FOR_COMPACTION ? "compaction" : "turn";
}

static int64_t tokens_in(const struct model_usage *u)
{
    return u->input_tokens + u->cache_read_tokens + u->cache_write_5m_tokens +
           u->cache_write_1h_tokens;
}

static const char *state_name(enum replay_state state)
{
    switch (state) {
    case REPLAY_EQUAL: return "equal";
    case REPLAY_DIFFERS: return "differs";
    case REPLAY_NOT_RECORDED: return "not_recorded";
    case REPLAY_NOT_BUILT: return "not_built";
    }
    return "";
}

void replay_show_init(struct replay_show *s, bool as_json, struct term term)
{
    *s = (struct replay_show){.as_json = as_json, .term = term};
    buf_init(&s->out, (size_t)1 << 30);
    s->w = jw_to(&s->out);
}

void replay_show_fini(struct replay_show *s)
{
    buf_fini(&s->out);
}

void replay_show_begin(struct replay_show *s, const struct replay_log *l, const char *model)
{
    s->asking = model != NULL;
    if (s->as_json) {
        jw_obj(&s->w);
        jw_kstr(&s->w, "session_id", id_str(&l->row.id));
        jw_kstr(&s->w, "agent_id", id_str(&l->row.agent_id));
        if (str_some(l->other.body))
            jw_ki64(&s->w, "agent_version", l->other.version);
        if (model)
            jw_kz(&s->w, "model", model);
        jw_key(&s->w, model ? "comparisons" : "requests");
        jw_arr(&s->w);
        return;
    }
    term_style(&s->term, &s->out, TERM_DIM);
    buf_printf(&s->out, "%s: %zu events", l->row.id.z, l->nevents);
    if (str_some(l->other.body))
        buf_printf(&s->out, "; version %" PRId64 " of its agent is asked", l->other.version);
    if (model) {
        buf_z(&s->out, str_some(l->other.body) ? ", with " : "; asked is ");
        term_safe_line(&s->out, str_z(model));
    }
    term_style(&s->term, &s->out, TERM_PLAIN);
    buf_ch(&s->out, '\n');
}

/* ---- requests ---- */

static void json_request(struct replay_show *s, const struct replay_request *q)
{
    struct jw *w = &s->w;
    jw_obj(w);
    jw_ki64(w, "number", q->number);
    jw_kstr(w, "event_id", id_str(&q->from->id));
    jw_ki64(w, "seq", q->from->seq);
    jw_kz(w, "purpose", purpose(q));
    jw_kstr(w, "model", q->built.model);
    jw_ki64(w, "bytes", q->bytes);
    jw_ki64(w, "input_tokens", tokens_in(&q->ended.usage));
    jw_ki64(w, "output_tokens", q->ended.usage.output_tokens);
    jw_ki64(w, "cost_microusd", q->ended.usage.cost_microusd + q->ended.judge.cost_microusd);
    jw_kbool(w, "answered", q->to && !q->is_error);
    jw_kz(w, "state", state_name(q->state));
    if (q->state == REPLAY_DIFFERS) {
        jw_kz(w, "part", q->part);
        jw_ki64(w, "equal_up_to_seq", q->since_seq);
    }
    if (q->state == REPLAY_NOT_BUILT)
        jw_kz(w, "reason", q->why.msg);
    jw_obj_end(w);
}

static void put_verdict(struct replay_show *s, const struct replay_request *q)
{
    bool bad = q->state == REPLAY_DIFFERS || q->state == REPLAY_NOT_BUILT;
    enum term_style style = bad ? TERM_RED : q->state == REPLAY_EQUAL ? TERM_GREEN : TERM_DIM;
    term_style(&s->term, &s->out, style);
    switch (q->state) {
    case REPLAY_EQUAL: buf_z(&s->out, "equal"); break;
    case REPLAY_NOT_RECORDED: buf_z(&s->out, "not recorded"); break;
    case REPLAY_NOT_BUILT:
        buf_z(&s->out, "DIFFERS: it cannot be built: ");
        term_safe_line(&s->out, str_z(q->why.msg));
        break;
    case REPLAY_DIFFERS:
        buf_printf(&s->out, "DIFFERS: %s", q->part);
        if (strcmp(q->part, "messages") == 0)
            buf_printf(&s->out, ", in the events %" PRId64 " to %" PRId64, q->since_seq + 1,
                       q->from->seq - 1);
        break;
    }
    term_style(&s->term, &s->out, TERM_PLAIN);
}

static void put_head(struct replay_show *s, const struct replay_request *q)
{
    buf_printf(&s->out, "%4" PRId64 "  %s  ", q->number, q->from->id.z);
}

void replay_show_request(struct replay_show *s, const struct replay_request *q)
{
    s->requests++;
    s->differs += q->state == REPLAY_DIFFERS || q->state == REPLAY_NOT_BUILT;
    s->unrecorded += q->state == REPLAY_NOT_RECORDED;
    s->spent.input_tokens += tokens_in(&q->ended.usage);
    s->spent.output_tokens += q->ended.usage.output_tokens;
    s->spent.cost_microusd += q->ended.usage.cost_microusd + q->ended.judge.cost_microusd;
    if (s->as_json) {
        json_request(s, q);
        return;
    }
    put_head(s, q);
    buf_printf(&s->out, "%9" PRId64 " bytes  ", q->bytes);
    if (!q->to || q->is_error) {
        buf_printf(&s->out, "%-28s", q->to ? "no answer" : "no end");
    } else {
        char tokens[48];
        snprintf(tokens, sizeof tokens, "%" PRId64 " in, %" PRId64 " out",
                 tokens_in(&q->ended.usage), q->ended.usage.output_tokens);
        buf_printf(&s->out, "%-18s  ", tokens);
        size_t at = s->out.len;
        term_money(&s->out, q->ended.usage.cost_microusd + q->ended.judge.cost_microusd);
        while (s->out.len < at + 8 && buf_ok(&s->out))
            buf_ch(&s->out, ' ');
    }
    buf_z(&s->out, "  ");
    if (q->record.purpose == MODEL_FOR_COMPACTION)
        buf_z(&s->out, "compaction, ");
    put_verdict(s, q);
    buf_ch(&s->out, '\n');
}

/* ---- answers ---- */

void replay_show_skipped(struct replay_show *s, const struct replay_request *q)
{
    (void)q;
    s->skipped++;
}

void replay_show_spent(struct replay_show *s, const struct model_usage *used)
{
    s->asked++;
    s->spent.input_tokens += tokens_in(used);
    s->spent.output_tokens += used->output_tokens;
    s->spent.cost_microusd += used->cost_microusd;
    s->spent.unpriced = s->spent.unpriced || used->unpriced;
}

static void json_answer(struct jw *w, const char *key, const struct replay_answer *answer)
{
    jw_key(w, key);
    jw_arr(w);
    for (size_t i = 0; i < answer->n; i++) {
        const struct replay_item *item = &answer->items[i];
        bool call = str_some(item->name);
        jw_obj(w);
        jw_kz(w, "type", call ? "tool_use" : "text");
        if (call)
            jw_kstr(w, "name", item->name);
        if (call)
            jw_kraw(w, "input", item->value);
        else
            jw_kstr(w, "text", item->value);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

static void put_indented(struct replay_show *s, struct str text)
{
    struct str rest = str_utf8_take(str_trim(text), SHOWN_BYTES);
    while (str_some(rest)) {
        struct str line = str_split(&rest, '\n');
        buf_z(&s->out, "        ");
        term_safe_line(&s->out, line);
        buf_ch(&s->out, '\n');
    }
    if (text.len > SHOWN_BYTES)
        buf_printf(&s->out, "        ... (%zu bytes; --json has all)\n", text.len);
}

static void put_answer(struct replay_show *s, const char *who, const struct replay_answer *answer)
{
    term_style(&s->term, &s->out, TERM_BOLD);
    buf_z(&s->out, "      ");
    term_safe_line(&s->out, str_z(who));
    buf_ch(&s->out, '\n');
    term_style(&s->term, &s->out, TERM_PLAIN);
    if (answer->n == 0)
        buf_z(&s->out, "        (nothing)\n");
    for (size_t i = 0; i < answer->n; i++) {
        const struct replay_item *item = &answer->items[i];
        if (str_some(item->name)) {
            buf_z(&s->out, "      - calls ");
            term_safe_line(&s->out, item->name);
            buf_ch(&s->out, '\n');
        } else {
            buf_z(&s->out, "      - says\n");
        }
        put_indented(s, item->value);
    }
}

void replay_show_answers(struct replay_show *s, const struct replay_request *q, bool same,
                         const struct replay_answer *recorded, const struct replay_answer *other)
{
    s->same += same;
    s->differs += !same;
    if (s->as_json) {
        jw_obj(&s->w);
        jw_ki64(&s->w, "number", q->number);
        jw_kstr(&s->w, "event_id", id_str(&q->from->id));
        jw_kbool(&s->w, "same", same);
        json_answer(&s->w, "recorded", recorded);
        json_answer(&s->w, "other", other);
        jw_obj_end(&s->w);
        return;
    }
    put_head(s, q);
    term_style(&s->term, &s->out, same ? TERM_GREEN : TERM_RED);
    buf_z(&s->out, same ? "same answer" : "DIVERGES");
    term_style(&s->term, &s->out, TERM_PLAIN);
    buf_ch(&s->out, '\n');
    if (same)
        return;
    put_answer(s, "recorded", recorded);
    put_answer(s, "now", other);
}

/* ---- the end ---- */

static void json_end(struct replay_show *s, const struct err *err)
{
    struct jw *w = &s->w;
    jw_arr_end(w);
    jw_key(w, "summary");
    jw_obj(w);
    if (s->asking) {
        jw_ki64(w, "asked", s->asked);
        jw_ki64(w, "same", s->same);
        jw_ki64(w, "diverged", s->differs);
        jw_ki64(w, "skipped", s->skipped);
        jw_kbool(w, "out_of_requests", s->out_of_requests);
    } else {
        jw_ki64(w, "requests", s->requests);
        jw_ki64(w, "equal", s->requests - s->differs - s->unrecorded);
        jw_ki64(w, "differ", s->differs);
        jw_ki64(w, "not_recorded", s->unrecorded);
    }
    jw_ki64(w, "input_tokens", s->spent.input_tokens);
    jw_ki64(w, "output_tokens", s->spent.output_tokens);
    jw_ki64(w, "cost_microusd", s->spent.cost_microusd);
    jw_obj_end(w);
    if (err)
        jw_kz(w, "error", err->msg);
    jw_obj_end(w);
    buf_ch(&s->out, '\n');
}

void replay_show_end(struct replay_show *s, const struct err *err)
{
    if (s->as_json) {
        json_end(s, err);
        return;
    }
    if (s->asking) {
        buf_printf(&s->out, "asked %" PRId64 ": %" PRId64 " the same, %" PRId64 " different",
                   s->asked, s->same, s->differs);
        if (s->skipped)
            buf_printf(&s->out, "; %" PRId64 " without an answer to compare", s->skipped);
        if (s->out_of_requests)
            buf_z(&s->out, "; --max-requests allows more");
        buf_z(&s->out, "; spent ");
    } else {
        buf_printf(&s->out, "%" PRId64 " requests: %" PRId64 " equal, %" PRId64 " different",
                   s->requests, s->requests - s->differs - s->unrecorded, s->differs);
        if (s->unrecorded)
            buf_printf(&s->out, ", %" PRId64 " not recorded", s->unrecorded);
        buf_z(&s->out, "; it cost ");
    }
    buf_printf(&s->out, "%" PRId64 " tokens in, %" PRId64 " out, ", s->spent.input_tokens,
               s->spent.output_tokens);
    term_money(&s->out, s->spent.cost_microusd);
    buf_z(&s->out, s->spent.unpriced ? " and what has no price\n" : "\n");
}
