#include "core/outcome.h"

const char *const criterion_verdicts[3] = {"met", "partially_met", "not_met"};
const char *const outcome_results[5] = {"satisfied", "needs_revision", "max_iterations_reached",
                                        "failed", "interrupted"};

void outcome_init(struct outcome *o, size_t max_bytes)
{
    *o = (struct outcome){.state = OUTCOME_NONE};
    buf_init(&o->definition, max_bytes);
}

void outcome_fini(struct outcome *o)
{
    buf_fini(&o->definition);
}

static void read_definition(struct outcome *o, const struct json *body)
{
    int64_t most = OUTCOME_ITERATIONS;
    const struct json *rubric = json_get(body, "rubric");
    (void)json_i64(json_get(body, "max_iterations"), &most);
    o->id = id_from(json_get_str(body, "outcome_id"));
    o->max_iterations = most > 0 ? most : OUTCOME_ITERATIONS;
    o->closing = json_is_true(json_get(rubric, "closing"));
}

static void forget_attempts(struct outcome *o)
{
    o->lost = o->spent = (struct model_usage){0};
    o->reserved_microusd = 0;
}

void outcome_define(struct outcome *o, const struct event *e, const struct json *body)
{
    buf_clear(&o->definition);
    buf_str(&o->definition, e->body);
    read_definition(o, body);
    forget_attempts(o);
    o->state = OUTCOME_WORKING;
    o->iteration = 0;
}

void outcome_begin(struct outcome *o, const struct event *e, const struct json *body)
{
    o->start = e->id;
    (void)json_i64(json_get(body, "iteration"), &o->iteration);
    forget_attempts(o);
    o->state = OUTCOME_EVALUATING;
}

void outcome_end(struct outcome *o, const struct json *body)
{
    struct str result = json_get_str(body, "result");
    forget_attempts(o);
    o->start = (struct id){""};
    if (str_eqz(result, outcome_results[OUTCOME_NEEDS_REVISION])) {
        o->state = OUTCOME_WORKING;
        o->iteration++;
    } else if (str_eqz(result, outcome_results[OUTCOME_MAX_ITERATIONS])) {
        o->state = OUTCOME_LAST_TURN;
    } else {
        o->state = OUTCOME_NONE;
    }
}

void outcome_write(struct jw *w, const struct outcome *o)
{
    jw_obj(w);
    jw_ki64(w, "state", o->state);
    jw_ki64(w, "iteration", o->iteration);
    jw_kraw(w, "definition", buf_view(&o->definition));
    jw_obj_end(w);
}

void outcome_read(struct outcome *o, const struct json *v)
{
    int64_t state = OUTCOME_NONE;
    const struct json *definition = json_get(v, "definition");
    if (!json_is(definition, JSON_OBJECT) || !json_i64(json_get(v, "state"), &state) ||
        state < OUTCOME_NONE || state > OUTCOME_LAST_TURN)
        return;
    buf_clear(&o->definition);
    buf_str(&o->definition, definition->raw);
    read_definition(o, definition);
    (void)json_i64(json_get(v, "iteration"), &o->iteration);
    o->state = (enum outcome_state)state;
}

/* ---- words ---- */

struct str outcome_task(const struct json *definition)
{
    return json_get_str(definition, "description");
}

void outcome_rubric_words(const struct json *definition, struct buf *out)
{
    const struct json *rubric = json_get(definition, "rubric");
    buf_z(out, "When you end your turn, an independent grader examines the files that are there "
               "then against this rubric. It does not read what you say. Revise your work when it "
               "asks for that.\n\n<rubric>\n");
    buf_str(out, json_get_str(rubric, "content"));
    buf_z(out, "\n</rubric>");
    const struct json *checks = json_get(rubric, "checks");
    if (!json_is(checks, JSON_ARRAY) || checks->count == 0)
        return;
    buf_z(out, "\n\nBefore the grader looks, these checks are run on a copy of the files:");
    json_for_each (check, checks) {
        buf_z(out, "\n- ");
        buf_str(out, json_get_str(check, "name"));
    }
}

/* On one line: a list of criteria must not gain entries by what a criterion says. */
static void put_line(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        buf_ch(out, (unsigned char)s.ptr[i] < ' ' ? ' ' : s.ptr[i]);
}

static void put_criteria(const struct grade *g, bool all, struct buf *out)
{
    static const char *const labels[] = {"met", "partially met", "not met"};
    for (size_t i = 0; i < g->ncriteria; i++) {
        const struct criterion *c = &g->criteria[i];
        if (c->verdict == CRITERION_MET && !all)
            continue;
        buf_z(out, "\n- ");
        put_line(out, c->name);
        buf_printf(out, " (%s): ", labels[c->verdict]);
        put_line(out, str_some(c->comment) ? c->comment : STR(""));
        if (c->evidence.len) {
            buf_z(out, " [");
            put_line(out, c->evidence);
            buf_ch(out, ']');
        }
    }
}

void outcome_explain(enum outcome_result result, const struct grade *g, int64_t evaluations,
                     struct buf *out)
{
    switch (result) {
    case OUTCOME_SATISFIED:
        buf_z(out, "An independent grader found that all criteria are met:");
        put_criteria(g, true, out);
        break;
    case OUTCOME_NEEDS_REVISION:
        buf_z(out, "An independent grader found the following criteria are not fully met:");
        put_criteria(g, false, out);
        buf_z(out, "\nPlease revise your work so that it meets them; the grader looks again when "
                   "you end your turn.");
        break;
    case OUTCOME_MAX_ITERATIONS:
        buf_printf(out,
                   "Reached %lld revision cycles without satisfying the rubric. Not fully met:",
                   (long long)evaluations);
        put_criteria(g, false, out);
        buf_z(out, "\nNothing more is graded. Say briefly what is done and what is not.");
        break;
    case OUTCOME_FAILED:
        buf_str(out, str_some(g->why) ? g->why : STR("The grading failed."));
        break;
    case OUTCOME_INTERRUPTED: buf_z(out, "Interrupted by the user."); break;
    }
}

void outcome_criteria_write(struct jw *w, const struct grade *g)
{
    jw_arr(w);
    for (size_t i = 0; i < g->ncriteria; i++) {
        const struct criterion *c = &g->criteria[i];
        jw_obj(w);
        jw_kstr(w, "name", c->name);
        jw_kz(w, "verdict", criterion_verdicts[c->verdict]);
        jw_kstr(w, "comment", c->comment);
        jw_kstr(w, "evidence", c->evidence);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}
