#include "cli/transcript.h"

#include "base/clock.h"
#include "cli/verdict.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    OUT_MAX = 64 * 1024 * 1024,
    SUMMARY_CHARS = 110,
    RESULT_LINES = 6,
    EDIT_LINES = 4,
    LINE_CHARS = 140,
    REFUSAL_CHARS = 400,
};

struct call {
    char name[64];
    int64_t at_us;
    char id[]; /* the map's key */
};

void transcript_init(struct transcript *t, struct term term)
{
    *t = (struct transcript){.term = term, .cost_microusd = -1};
    buf_init(&t->out, OUT_MAX);
}

void transcript_fini(struct transcript *t)
{
    size_t at = 0;
    struct str key;
    for (void *call; (call = map_next(&t->calls, &at, &key));)
        mem_free(call);
    map_fini(&t->calls);
    buf_fini(&t->out);
}

/* ---- pieces ---- */

static void fresh_line(struct transcript *t)
{
    if (t->mid_line)
        buf_ch(&t->out, '\n');
    t->mid_line = false;
}

static void styled(struct transcript *t, enum term_style style, const char *z)
{
    term_style(&t->term, &t->out, style);
    buf_z(&t->out, z);
    term_style(&t->term, &t->out, TERM_PLAIN);
}

/* One line of foreign text, cut to `max` characters. */
static void cut_line(struct transcript *t, struct str line, size_t max)
{
    AUTO_BUF struct buf safe = BUF_INIT(OUT_MAX);
    term_safe_line(&safe, str_utf8_take(line, max * 4));
    struct str shown = buf_view(&safe);
    size_t chars = 0, end = 0;
    while (end < shown.len && chars < max) {
        end++;
        while (end < shown.len && ((unsigned char)shown.ptr[end] & 0xc0) == 0x80)
            end++;
        chars++;
    }
    buf_str(&t->out, str_take(shown, end));
    if (end < shown.len || line.len > max * 4)
        buf_z(&t->out, "...");
}

void transcript_note(struct transcript *t, enum term_style style, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fresh_line(t);
    term_style(&t->term, &t->out, style);
    term_safe_line(&t->out, str_z(text));
    term_style(&t->term, &t->out, TERM_PLAIN);
    buf_ch(&t->out, '\n');
}

void transcript_break(struct transcript *t)
{
    fresh_line(t);
}

static size_t count_lines(struct str s)
{
    size_t n = s.len > 0;
    for (size_t i = 0; i + 1 < s.len; i++)
        n += s.ptr[i] == '\n';
    return n;
}

/* The first lines of a text, each behind `lead`; says how many more there were. */
static void block(struct transcript *t, struct str text, const char *lead, enum term_style style,
                  size_t max_lines)
{
    size_t total = count_lines(text), shown = 0;
    /* One line more costs no more room than the remark that there is one. */
    size_t limit = total == max_lines + 1 ? total : max_lines;
    while (str_some(text) && text.len && shown < limit) {
        struct str line = str_split(&text, '\n');
        term_style(&t->term, &t->out, style);
        buf_z(&t->out, lead);
        cut_line(t, line, LINE_CHARS);
        term_style(&t->term, &t->out, TERM_PLAIN);
        buf_ch(&t->out, '\n');
        shown++;
    }
    if (shown < total) {
        term_style(&t->term, &t->out, TERM_DIM);
        buf_printf(&t->out, "%s(%zu more lines)", lead, total - shown);
        term_style(&t->term, &t->out, TERM_PLAIN);
        buf_ch(&t->out, '\n');
    }
}

/* ---- messages and previews ---- */

static void agent_text(struct transcript *t, struct str text)
{
    if (t->gap && text.len) {
        buf_ch(&t->out, '\n');
        t->gap = false;
    }
    term_safe(&t->out, text);
    if (text.len)
        t->mid_line = text.ptr[text.len - 1] != '\n';
}

static void on_preview_start(struct transcript *t, const struct follow_event *ev)
{
    const struct json *event = json_get(ev->doc, "event");
    if (!str_eqz(json_get_str(event, "type"), "agent.message"))
        return;
    fresh_line(t);
    str_copyz(t->preview_id, sizeof t->preview_id, json_get_str(event, "id"));
    t->preview_shown = 0;
}

static void on_preview_delta(struct transcript *t, const struct follow_event *ev)
{
    if (!t->preview_id[0] || !str_eqz(json_get_str(ev->doc, "event_id"), t->preview_id))
        return;
    const struct json *content = json_get(json_get(ev->doc, "delta"), "content");
    struct str text = json_get_str(content, "text");
    agent_text(t, text);
    t->preview_shown += text.len;
}

static void join_text(const struct json *content, struct buf *out)
{
    if (json_is(content, JSON_STRING))
        buf_str(out, content->str);
    json_for_each (part, content) {
        struct str type = json_get_str(part, "type");
        if (str_eqz(type, "text"))
            buf_str(out, json_get_str(part, "text"));
        else if (str_some(type))
            buf_printf(out, "[" STR_FMT "]", STR_ARG(type));
    }
}

static void on_agent_message(struct transcript *t, const struct follow_event *ev)
{
    AUTO_BUF struct buf text = BUF_INIT(OUT_MAX);
    join_text(json_get(ev->doc, "content"), &text);
    bool previewed = t->preview_id[0] && str_eqz(ev->id, t->preview_id);
    if (!previewed)
        fresh_line(t);
    agent_text(t, str_skip(buf_view(&text), previewed ? t->preview_shown : 0));
    fresh_line(t);
    t->preview_id[0] = '\0';
}

static void on_user_message(struct transcript *t, const struct follow_event *ev)
{
    if (!t->show_user)
        return;
    AUTO_BUF struct buf text = BUF_INIT(OUT_MAX);
    join_text(json_get(ev->doc, "content"), &text);
    fresh_line(t);
    block(t, buf_view(&text), "> ", TERM_BOLD, 40);
}

/* ---- tools ---- */

static struct str input_summary(const struct json *ev)
{
    static const char *const keys[] = {"command", "file_path", "pattern", "url", "query"};
    const struct json *input = json_get(ev, "input");
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        struct str v = json_get_str(input, keys[i]);
        if (str_some(v))
            return v;
    }
    return input ? input->raw : STR_NONE;
}

/* The first line, and how many follow. */
static void put_summary(struct transcript *t, struct str text)
{
    text = str_trim(text);
    size_t more = count_lines(text);
    cut_line(t, str_split(&text, '\n'), SUMMARY_CHARS);
    if (more > 1)
        buf_printf(&t->out, " (and %zu more line%s)", more - 1, more == 2 ? "" : "s");
}

static int64_t event_us(const struct json *doc)
{
    int64_t at_us = 0;
    struct str text = json_get_str(doc, "processed_at");
    return str_some(text) && clock_parse(text, &at_us) ? at_us : 0;
}

static void remember_call(struct transcript *t, const struct follow_event *ev)
{
    struct call *c = mem_zalloc(sizeof *c + ev->id.len + 1);
    str_copyz(c->name, sizeof c->name, json_get_str(ev->doc, "name"));
    str_copyz(c->id, ev->id.len + 1, ev->id);
    c->at_us = event_us(ev->doc);
    mem_free(map_put(&t->calls, str_n(c->id, ev->id.len), c));
}

static void on_tool_use(struct transcript *t, const struct follow_event *ev)
{
    struct str name = json_get_str(ev->doc, "name");
    const struct json *input = json_get(ev->doc, "input");
    struct str path = json_get_str(input, "path");
    t->tool_calls++;
    t->gap = false;
    remember_call(t, ev);
    fresh_line(t);
    term_style(&t->term, &t->out, TERM_CYAN);
    buf_z(&t->out, t->term.utf8 ? "\xe2\x97\x8f " : "* ");
    cut_line(t, name, 40);
    term_style(&t->term, &t->out, TERM_PLAIN);
    buf_z(&t->out, "  ");
    put_summary(t, input_summary(ev->doc));
    if (str_some(path) && path.len) {
        buf_z(&t->out, " in ");
        cut_line(t, path, SUMMARY_CHARS);
    }
    buf_ch(&t->out, '\n');
    if (str_some(json_get_str(input, "old_string"))) {
        block(t, json_get_str(input, "old_string"), "    - ", TERM_RED, EDIT_LINES);
        block(t, json_get_str(input, "new_string"), "    + ", TERM_GREEN, EDIT_LINES);
    } else if (str_eqz(name, "write")) {
        block(t, json_get_str(input, "content"), "    + ", TERM_GREEN, EDIT_LINES);
    }
}

/* What the network refused stands at the end of a result, and is not cut with its middle. */
static struct str take_refusals(struct str *text)
{
    ptrdiff_t at = str_starts(*text, STR("[egress denied: ")) ? 0 : -1;
    if (at < 0 && (at = str_find(*text, STR("\n[egress denied: "))) >= 0)
        at++;
    struct str refusals = at < 0 ? STR_NONE : str_skip(*text, (size_t)at);
    if (at >= 0)
        *text = str_take(*text, (size_t)at);
    return refusals;
}

static void on_tool_result(struct transcript *t, const struct follow_event *ev)
{
    struct call *c = map_remove(&t->calls, json_get_str(ev->doc, "tool_use_id"));
    bool failed = json_is_true(json_get(ev->doc, "is_error"));
    AUTO_BUF struct buf text = BUF_INIT(OUT_MAX);
    join_text(json_get(ev->doc, "content"), &text);
    fresh_line(t);
    struct str output = buf_view(&text), refusals = STR_NONE;
    if (str_eqz(json_get_str(json_get(ev->doc, "failure"), "reason"), "egress_denied"))
        refusals = take_refusals(&output);
    block(t, output, "    ", failed ? TERM_RED : TERM_DIM, RESULT_LINES);
    for (int i = 0; str_some(refusals) && refusals.len && i < RESULT_LINES; i++) {
        buf_z(&t->out, "    ");
        term_style(&t->term, &t->out, TERM_YELLOW);
        cut_line(t, str_split(&refusals, '\n'), REFUSAL_CHARS);
        term_style(&t->term, &t->out, TERM_PLAIN);
        buf_ch(&t->out, '\n');
    }
    int64_t took_us = c && c->at_us ? event_us(ev->doc) - c->at_us : -1;
    buf_z(&t->out, "    ");
    styled(t, failed ? TERM_RED : TERM_GREEN, failed ? "failed" : "ok");
    term_style(&t->term, &t->out, TERM_DIM);
    if (took_us >= 0) {
        buf_z(&t->out, " in ");
        term_duration(&t->out, took_us / 1000);
    }
    buf_z(&t->out, ", so far ");
    term_count(&t->out, t->input_tokens + t->output_tokens + t->cache_tokens);
    buf_z(&t->out, " tokens");
    term_style(&t->term, &t->out, TERM_PLAIN);
    buf_ch(&t->out, '\n');
    t->gap = true;
    mem_free(c);
}

/* ---- outcomes ---- */

enum { EVIDENCE_LINES = 3 };

static int64_t number(const struct json *obj, const char *key)
{
    int64_t v = 0;
    return json_i64(json_get(obj, key), &v) ? v : 0;
}

static void count_usage(struct transcript *t, const struct json *u)
{
    t->input_tokens += number(u, "input_tokens");
    t->output_tokens += number(u, "output_tokens");
    t->cache_tokens +=
        number(u, "cache_read_input_tokens") + number(u, "cache_creation_input_tokens");
}

static void on_define_outcome(struct transcript *t, const struct follow_event *ev)
{
    if (!t->show_user)
        return;
    fresh_line(t);
    block(t, json_get_str(ev->doc, "description"), "> ", TERM_BOLD, 40);
}

static void on_evaluation_start(struct transcript *t, const struct follow_event *ev)
{
    remember_call(t, ev);
    fresh_line(t);
    term_style(&t->term, &t->out, TERM_CYAN);
    buf_z(&t->out, t->term.utf8 ? "\xe2\x97\x8f " : "* ");
    buf_z(&t->out, "grader");
    term_style(&t->term, &t->out, TERM_PLAIN);
    buf_printf(&t->out, "  iteration %lld\n", (long long)number(ev->doc, "iteration"));
    t->gap = false;
}

static void on_evaluation_end(struct transcript *t, const struct follow_event *ev)
{
    struct call *c = map_remove(&t->calls, json_get_str(ev->doc, "outcome_evaluation_start_id"));
    int64_t took_us = c && c->at_us ? event_us(ev->doc) - c->at_us : -1;
    count_usage(t, json_get(ev->doc, "usage"));
    fresh_line(t);
    verdict_criteria(&t->term, &t->out, json_get(ev->doc, "criteria"),
                     json_get_str(ev->doc, "explanation"), "    ", EVIDENCE_LINES);
    buf_z(&t->out, "    ");
    verdict_result(&t->term, &t->out, json_get_str(ev->doc, "result"));
    term_style(&t->term, &t->out, TERM_DIM);
    buf_z(&t->out, " (");
    if (took_us >= 0) {
        term_duration(&t->out, took_us / 1000);
        buf_z(&t->out, ", ");
    }
    verdict_spent(&t->out, ev->doc);
    buf_ch(&t->out, ')');
    term_style(&t->term, &t->out, TERM_PLAIN);
    buf_ch(&t->out, '\n');
    t->gap = true;
    mem_free(c);
}

/* ---- the session itself ---- */

static void on_error(struct transcript *t, const struct follow_event *ev)
{
    const struct json *e = json_get(ev->doc, "error");
    struct str retry = json_get_str(json_get(e, "retry_status"), "type");
    bool again = str_eqz(retry, "retrying");
    fresh_line(t);
    term_style(&t->term, &t->out, again ? TERM_YELLOW : TERM_RED);
    buf_z(&t->out, "! ");
    cut_line(t, json_get_str(e, "type"), 60);
    buf_z(&t->out, ": ");
    cut_line(t, json_get_str(e, "message"), 400);
    buf_z(&t->out, again ? " (trying again)" : "");
    term_style(&t->term, &t->out, TERM_PLAIN);
    buf_ch(&t->out, '\n');
}

static void on_request_end(struct transcript *t, const struct follow_event *ev)
{
    t->model_requests++;
    count_usage(t, json_get(ev->doc, "model_usage"));
}

/* An exact amount in micro-dollars where the server gives one, else cents. */
static void on_usage(struct transcript *t, const struct follow_event *ev)
{
    const struct json *u = json_get(ev->doc, "usage");
    const struct json *list = json_get(u, "list_cost");
    int64_t v;
    struct str cents = json_get_str(list, "amount");
    if (json_i64(json_get(u, "cost_microusd"), &v)) {
        t->cost_microusd = v;
        t->cost_in_cents = false;
    } else if (str_some(cents) && str_i64(cents, &v) && v >= 0 && v < INT64_MAX / 10000) {
        t->cost_microusd = v * 10000;
        t->cost_in_cents = true;
    }
}

void transcript_event(struct transcript *t, const struct follow_event *ev)
{
    static const struct {
        const char *type;
        void (*fn)(struct transcript *, const struct follow_event *);
    } table[] = {
        {"event_start", on_preview_start},
        {"event_delta", on_preview_delta},
        {"agent.message", on_agent_message},
        {"agent.tool_use", on_tool_use},
        {"agent.custom_tool_use", on_tool_use},
        {"agent.mcp_tool_use", on_tool_use},
        {"agent.tool_result", on_tool_result},
        {"agent.mcp_tool_result", on_tool_result},
        {"user.message", on_user_message},
        {"user.define_outcome", on_define_outcome},
        {"span.outcome_evaluation_start", on_evaluation_start},
        {"span.outcome_evaluation_end", on_evaluation_end},
        {"session.error", on_error},
        {"session.usage", on_usage},
        {"span.model_request_end", on_request_end},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++)
        if (str_eqz(ev->type, table[i].type))
            table[i].fn(t, ev);
}
