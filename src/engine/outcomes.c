#include "engine/outcomes.h"

#include "base/clock.h"
#include "json/json.h"
#include "json/writer.h"

enum { OUTCOMES_MAX = 1000 };

/* JSON values, borrowed. */
struct entry {
    struct str id, description, explanation, result, completed_at, criteria, closing;
    int64_t iteration;
};

struct entries {
    struct arena *arena;
    struct entry *list;
    size_t n;
};

static struct str raw_of(const struct json *v, const char *key)
{
    const struct json *m = json_get(v, key);
    return m && m->type != JSON_NULL ? m->raw : STR_NONE;
}

static void read_entries(struct entries *e, struct str text)
{
    const struct json *doc = NULL;
    struct err err;
    if (!str_some(text) || json_parse(e->arena, text, 0, &doc, &err))
        return;
    json_for_each (v, doc) {
        if (e->n == OUTCOMES_MAX)
            break;
        struct entry *x = &e->list[e->n++];
        *x = (struct entry){.id = json_get_str(v, "outcome_id"),
                            .description = raw_of(v, "description"),
                            .explanation = raw_of(v, "explanation"),
                            .result = json_get_str(v, "result"),
                            .completed_at = raw_of(v, "completed_at"),
                            .criteria = raw_of(v, "criteria"),
                            .closing = raw_of(v, "closing")};
        (void)json_i64(json_get(v, "iteration"), &x->iteration);
    }
}

static struct entry *find(struct entries *e, struct str id)
{
    for (size_t i = e->n; i-- > 0;)
        if (str_eq(e->list[i].id, id))
            return &e->list[i];
    return NULL;
}

static struct entry *find_or_add(struct entries *e, struct str id)
{
    struct entry *x = find(e, id);
    if (x || e->n == OUTCOMES_MAX)
        return x;
    x = &e->list[e->n++];
    *x = (struct entry){.id = id};
    return x;
}

static void ended(struct entry *x, const struct json *body)
{
    x->result = json_get_str(body, "result");
    x->explanation = raw_of(body, "explanation");
    x->criteria = raw_of(body, "criteria");
    if (str_eqz(x->result, outcome_results[OUTCOME_NEEDS_REVISION])) {
        x->result = STR("running");
        x->iteration++;
    } else {
        x->completed_at = raw_of(body, "processed_at");
    }
}

static bool is_of_outcome(enum event_type t)
{
    return t == EVENT_USER_DEFINE_OUTCOME || t == EVENT_SPAN_OUTCOME_EVALUATION_START ||
           t == EVENT_SPAN_OUTCOME_EVALUATION_END;
}

static void apply(struct entries *e, const struct event *event)
{
    const struct json *body;
    struct err err;
    if (!is_of_outcome(event->type) ||
        json_parse(e->arena, event->body, JSON_ALLOW_DUPLICATES, &body, &err))
        return;
    struct entry *x = find_or_add(e, json_get_str(body, "outcome_id"));
    if (!x)
        return;
    if (event->type == EVENT_USER_DEFINE_OUTCOME) {
        x->description = raw_of(body, "description");
        x->result = STR("running");
    } else if (event->type == EVENT_SPAN_OUTCOME_EVALUATION_START) {
        x->result = STR("evaluating");
        (void)json_i64(json_get(body, "iteration"), &x->iteration);
    } else {
        ended(x, body);
    }
}

static void write_entry(struct jw *w, const struct entry *x)
{
    jw_obj(w);
    jw_kz(w, "type", "outcome_evaluation");
    jw_kstr(w, "outcome_id", x->id);
    jw_kraw(w, "description", str_some(x->description) ? x->description : STR("\"\""));
    jw_kstr(w, "result", x->result);
    jw_kraw(w, "explanation", x->explanation);
    jw_ki64(w, "iteration", x->iteration);
    jw_kraw(w, "completed_at", x->completed_at);
    if (str_some(x->criteria))
        jw_kraw(w, "criteria", x->criteria);
    if (str_some(x->closing))
        jw_kraw(w, "closing", x->closing);
    jw_obj_end(w);
}

void outcomes_closed(struct actor *a, const struct grade *g)
{
    AUTO_BUF struct buf b = BUF_INIT(LIMIT_MODEL_RESPONSE);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "result", outcome_results[g->result]);
    jw_key(&w, "criteria");
    outcome_criteria_write(&w, g);
    jw_obj_end(&w);
    if (buf_ok(&b))
        a->commit.closing = arena_str(&a->commit.arena, buf_view(&b));
}

void outcomes_commit(struct actor *a)
{
    struct commit *c = &a->commit;
    struct entries e = {.arena = &c->arena};
    bool touched = str_some(c->closing);
    for (size_t i = 0; i < c->step.nevents; i++)
        touched = touched || is_of_outcome(c->step.events[i].type);
    if (!touched || !(e.list = ARENA_ARRAY(&c->arena, struct entry, OUTCOMES_MAX)))
        return;
    read_entries(&e, a->row.outcomes);
    for (size_t i = 0; i < c->step.nevents; i++)
        apply(&e, &c->step.events[i]);
    if (str_some(c->closing) && e.n)
        e.list[e.n - 1].closing = c->closing;
    AUTO_BUF struct buf b = BUF_INIT(LIMIT_MODEL_RESPONSE);
    struct jw w = jw_to(&b);
    jw_arr(&w);
    for (size_t i = 0; i < e.n; i++)
        write_entry(&w, &e.list[i]);
    jw_arr_end(&w);
    if (buf_ok(&b))
        c->append.outcomes = arena_str(&c->arena, buf_view(&b));
}
