/* `ostler outcome`: what was asked for, and what a grader found, iteration by iteration. */
#include "base/clock.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/options.h"
#include "cli/verdict.h"
#include "json/writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { EVENT_BYTES = 512 * 1024 * 1024, EVIDENCE_LINES = 10 };

static const char notes[] =
    "For each iteration: how long the agent worked and what it used, what "
    "the grader used and came\n"
    "to, and its verdict on each criterion with the evidence. `closing` is "
    "what the last turn left,\n"
    "where the rubric asks for that. --full shows all of the evidence. "
    "--json prints an object per\n"
    "outcome and line.\n"
    "\n"
    "Examples:\n"
    "  ostler outcome sesn_01ABC\n"
    "  ostler outcome sesn_01ABC --json | jq '.iterations[].result'\n"
    "\n"
    "Exit codes: 0 the last outcome is satisfied, 1 it failed to show "
    "them, 2 usage, 3 cannot reach\n"
    "the server, 4 the last outcome is not satisfied, or not yet, or there is none\n";

/* What the agent used up to an evaluation. */
struct work {
    int64_t input, output, cache, since_us;
};

struct iteration {
    struct iteration *next;
    int64_t number, started_us, ended_us;
    struct work work;
    int64_t worked_us;
    const struct json *end; /* NULL: not over */
};

struct outcome_view {
    struct outcome_view *next;
    struct str id;
    const struct json *definition, *shown; /* the event; the session's entry, or NULL */
    struct iteration *first, *last;
};

struct view {
    struct connect connect;
    struct term term;
    struct arena arena; /* of all that was received */
    const char *session;
    bool as_json, full;
    struct work work; /* since the last evaluation */
    struct outcome_view *first, *last;
};

/* ---- from the log ---- */

static int64_t time_of(const struct json *event)
{
    int64_t us = 0;
    struct str text = json_get_str(event, "processed_at");
    return str_some(text) && clock_parse(text, &us) ? us : 0;
}

static int64_t number(const struct json *obj, const char *key)
{
    int64_t v = 0;
    return json_i64(json_get(obj, key), &v) ? v : 0;
}

static struct outcome_view *find(struct view *v, struct str id)
{
    struct outcome_view *o = v->first;
    while (o && !str_eq(o->id, id))
        o = o->next;
    return o;
}

static void on_define(struct view *v, const struct json *e)
{
    struct outcome_view *o = ARENA_NEW(&v->arena, struct outcome_view);
    if (!o)
        return;
    o->id = json_get_str(e, "outcome_id");
    o->definition = e;
    *(v->last ? &v->last->next : &v->first) = o;
    v->last = o;
    v->work = (struct work){.since_us = time_of(e)};
}

static struct iteration *add_iteration(struct view *v, struct outcome_view *o, const struct json *e)
{
    struct iteration *i = ARENA_NEW(&v->arena, struct iteration);
    if (!i)
        return NULL;
    i->number = number(e, "iteration");
    i->started_us = time_of(e);
    i->work = v->work;
    if (v->work.since_us && i->started_us > v->work.since_us)
        i->worked_us = i->started_us - v->work.since_us;
    *(o->last ? &o->last->next : &o->first) = i;
    o->last = i;
    return i;
}

static void on_start(struct view *v, const struct json *e)
{
    struct outcome_view *o = find(v, json_get_str(e, "outcome_id"));
    if (o)
        (void)add_iteration(v, o, e);
}

/* An interrupt may end an outcome that no evaluation began for. */
static void on_end(struct view *v, const struct json *e)
{
    struct outcome_view *o = find(v, json_get_str(e, "outcome_id"));
    struct iteration *i = o && o->last && !o->last->end ? o->last : NULL;
    if (o && !i)
        i = add_iteration(v, o, e);
    if (!i)
        return;
    i->end = e;
    i->ended_us = time_of(e);
    v->work = (struct work){.since_us = i->ended_us};
}

static void on_request(struct view *v, const struct json *e)
{
    const struct json *u = json_get(e, "model_usage");
    v->work.input += number(u, "input_tokens");
    v->work.output += number(u, "output_tokens");
    v->work.cache +=
        number(u, "cache_read_input_tokens") + number(u, "cache_creation_input_tokens");
}

static void on_event(struct view *v, const struct json *e)
{
    static const struct {
        const char *type;
        void (*fn)(struct view *v, const struct json *e);
    } table[] = {{"user.define_outcome", on_define},
                 {"span.outcome_evaluation_start", on_start},
                 {"span.outcome_evaluation_end", on_end},
                 {"span.model_request_end", on_request}};
    for (size_t i = 0; i < COUNT_OF(table); i++)
        if (str_eqz(json_get_str(e, "type"), table[i].type))
            table[i].fn(v, e);
}

static int read_events(struct view *v, struct err *err)
{
    AUTO_BUF struct buf path = BUF_INIT(16 * 1024);
    struct str cursor = STR_NONE;
    do {
        const struct json *doc;
        buf_clear(&path);
        buf_printf(&path,
                   "/v1/sessions/%s/events?limit=1000&order=asc&types[]=user.define_outcome"
                   "&types[]=span.outcome_evaluation_start&types[]=span.outcome_evaluation_end"
                   "&types[]=span.model_request_end",
                   v->session);
        if (cursor.len) {
            buf_z(&path, "&page=");
            http_encode(&path, cursor);
        }
        int rc = client_json(&v->connect.client, "GET", path.data, STR_NONE, &v->arena, &doc, err);
        if (rc)
            return rc;
        json_for_each (e, json_get(doc, "data"))
            on_event(v, e);
        cursor = json_get_str(doc, "next_page");
    } while (cursor.len);
    return v->arena.failed ? err_set(err, ERR_LIMIT, "the session's log is too large") : 0;
}

static int read_session(struct view *v, struct err *err)
{
    char path[256];
    const struct json *doc;
    snprintf(path, sizeof path, "/v1/sessions/%s", v->session);
    int rc = client_json(&v->connect.client, "GET", path, STR_NONE, &v->arena, &doc, err);
    if (rc)
        return rc;
    json_for_each (entry, json_get(doc, "outcome_evaluations")) {
        struct outcome_view *o = find(v, json_get_str(entry, "outcome_id"));
        if (o)
            o->shown = entry;
    }
    return 0;
}

/* ---- what is shown ---- */

static struct str result_of(const struct outcome_view *o)
{
    struct str result = json_get_str(o->shown, "result");
    if (!result.len && o->last && o->last->end)
        result = json_get_str(o->last->end, "result");
    return result.len ? result : STR("pending");
}

static const struct json *closing_of(const struct outcome_view *o)
{
    const struct json *c = json_get(o->shown, "closing");
    return json_is(c, JSON_OBJECT) ? c : NULL;
}

static bool satisfied(const struct outcome_view *o)
{
    return o && (str_eqz(result_of(o), "satisfied") ||
                 str_eqz(json_get_str(closing_of(o), "result"), "satisfied"));
}

static size_t lines_of(const struct view *v)
{
    return v->full ? 0 : EVIDENCE_LINES;
}

static void put_iteration(const struct view *v, struct buf *out, const struct iteration *i)
{
    buf_printf(out, "\n  iteration %" PRId64 ": ", i->number);
    verdict_result(&v->term, out, i->end ? json_get_str(i->end, "result") : STR("evaluating"));
    buf_ch(out, '\n');
    term_style(&v->term, out, TERM_DIM);
    buf_z(out, "    the agent: ");
    term_duration(out, i->worked_us / 1000);
    buf_z(out, ", ");
    term_count(out, i->work.input + i->work.output + i->work.cache);
    buf_z(out, " tokens");
    if (i->end) {
        buf_z(out, "; the grader: ");
        term_duration(out, (i->ended_us - i->started_us) / 1000);
        buf_z(out, ", ");
        verdict_spent(out, i->end);
    }
    term_style(&v->term, out, TERM_PLAIN);
    buf_ch(out, '\n');
    if (i->end)
        verdict_criteria(&v->term, out, json_get(i->end, "criteria"),
                         json_get_str(i->end, "explanation"), "    ", lines_of(v));
}

static void put_outcome(const struct view *v, struct buf *out, const struct outcome_view *o)
{
    struct str task = str_trim(json_get_str(o->definition, "description"));
    int64_t tokens = 0, cost = 0;
    bool told = o->first != NULL;
    if (o != v->first)
        buf_ch(out, '\n');
    term_style(&v->term, out, TERM_BOLD);
    term_safe_line(out, str_utf8_take(str_split(&task, '\n'), 200));
    term_style(&v->term, out, TERM_PLAIN);
    buf_z(out, "\n  ");
    term_safe_line(out, o->id);
    buf_z(out, ": ");
    verdict_result(&v->term, out, result_of(o));
    buf_ch(out, '\n');
    for (const struct iteration *i = o->first; i; i = i->next) {
        put_iteration(v, out, i);
        tokens += i->end ? verdict_tokens(json_get(i->end, "usage")) : 0;
        told = told && i->end && verdict_cost(i->end) >= 0;
        cost += i->end && verdict_cost(i->end) > 0 ? verdict_cost(i->end) : 0;
    }
    const struct json *closing = closing_of(o);
    if (closing) {
        buf_z(out, "\n  closing, what the last turn left: ");
        verdict_result(&v->term, out, json_get_str(closing, "result"));
        buf_ch(out, '\n');
        verdict_criteria(&v->term, out, json_get(closing, "criteria"), STR_NONE, "    ",
                         lines_of(v));
    }
    if (!o->first)
        return;
    buf_z(out, "\n  grading used ");
    term_count(out, tokens);
    buf_z(out, " tokens");
    if (told) {
        buf_z(out, ", ");
        term_money(out, cost);
    }
    buf_ch(out, '\n');
}

static void json_iteration(struct jw *w, const struct iteration *i)
{
    int64_t cost = i->end ? verdict_cost(i->end) : -1;
    jw_obj(w);
    jw_ki64(w, "iteration", i->number);
    jw_kstr(w, "result", i->end ? json_get_str(i->end, "result") : STR("evaluating"));
    jw_ki64(w, "worked_ms", i->worked_us / 1000);
    jw_key(w, "work");
    jw_obj(w);
    jw_ki64(w, "input_tokens", i->work.input);
    jw_ki64(w, "output_tokens", i->work.output);
    jw_ki64(w, "cache_tokens", i->work.cache);
    jw_obj_end(w);
    if (i->end) {
        const struct json *criteria = json_get(i->end, "criteria");
        const struct json *usage = json_get(i->end, "usage");
        jw_ki64(w, "graded_ms", (i->ended_us - i->started_us) / 1000);
        jw_kstr(w, "explanation", json_get_str(i->end, "explanation"));
        jw_kraw(w, "criteria", criteria ? criteria->raw : STR_NONE);
        jw_kraw(w, "usage", usage ? usage->raw : STR_NONE);
    }
    if (cost >= 0)
        jw_ki64(w, "cost_microusd", cost);
    jw_obj_end(w);
}

static void json_outcome(struct buf *out, const struct outcome_view *o)
{
    const struct json *closing = closing_of(o);
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kz(&w, "type", "ostler.outcome");
    jw_kstr(&w, "outcome_id", o->id);
    jw_kstr(&w, "description", json_get_str(o->definition, "description"));
    jw_kstr(&w, "result", result_of(o));
    jw_kbool(&w, "satisfied", satisfied(o));
    jw_key(&w, "iterations");
    jw_arr(&w);
    for (const struct iteration *i = o->first; i; i = i->next)
        json_iteration(&w, i);
    jw_arr_end(&w);
    jw_kraw(&w, "closing", closing ? closing->raw : STR_NONE);
    jw_obj_end(&w);
    buf_ch(out, '\n');
}

static int show(struct view *v, struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(EVENT_BYTES);
    int rc = read_events(v, err);
    rc = rc ? rc : read_session(v, err);
    if (rc)
        return rc;
    for (const struct outcome_view *o = v->first; o; o = o->next) {
        if (v->as_json)
            json_outcome(&out, o);
        else
            put_outcome(v, &out, o);
    }
    if (!v->first && !v->as_json)
        buf_z(&out, "no outcomes\n");
    return fd_write_all(STDOUT_FILENO, buf_view(&out), err);
}

int cmd_outcome(int argc, char **argv)
{
    struct connect_flags flags = {0};
    struct view v = {.session = NULL};
    const struct option_spec options[] = {
        {"full", 0, OPTION_FLAG, &v.full, NULL, "all of the evidence", 0, 0},
        {"json", 0, OPTION_FLAG, &v.as_json, NULL, "one JSON object a line", 0, 0},
        CONNECT_OPTIONS(flags),
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {
        .name = "outcome",
        .usage = "ostler outcome SESSION [--full] [--json]",
        .summary = "Shows the outcomes of a session: result, verdicts, evidence, time and cost of\n"
                   "each iteration.",
        .notes = notes,
        .options = options,
        .min_words = 1,
        .max_words = 1,
        .word_name = "SESSION"};
    struct option_words words;
    struct err err;
    int code;
    if (!connect_begin(&spec, argc, argv, &words, &code))
        return code;
    v.session = words.word[0];
    v.term = term_for(STDOUT_FILENO);
    arena_init(&v.arena, EVENT_BYTES);
    int rc = connect_open(&v.connect, &flags, &err);
    rc = rc ? rc : show(&v, &err);
    code = rc ? cli_fail_err("outcome", &err) : satisfied(v.last) ? CLI_OK : CLI_UNSATISFIED;
    connect_close(&v.connect);
    arena_fini(&v.arena);
    return code;
}
