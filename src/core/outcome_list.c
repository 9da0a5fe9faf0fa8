#include "core/outcome_list.h"

#include "core/outcome.h"

enum { LIST_ARENA = 256 * 1024 * 1024 };

/* JSON values, borrowed. */
struct entry {
    struct str id, description, explanation, result, completed_at, criteria, closing;
    int64_t iteration;
};

struct entries {
    struct arena arena;
    struct entry *list;
    size_t n;
};

static struct str raw_of(const struct json *v, const char *key)
{
    const struct json *m = json_get(v, key);
    return m && m->type != JSON_NULL ? m->raw : STR_NONE;
}

/* Copies the text: the buffer is written anew later. */
static int read_entries(struct entries *e, struct str text, struct err *err)
{
    const struct json *doc = NULL;
    arena_init(&e->arena, LIST_ARENA);
    e->n = 0;
    e->list = ARENA_ARRAY(&e->arena, struct entry, OUTCOME_LIST_MAX);
    int rc = 0;
    if (text.len)
        rc = json_parse(&e->arena, arena_str(&e->arena, text), 0, &doc, err);
    if (rc || !e->list)
        return err_set(err, ERR_CORRUPT, "the outcomes of a session cannot be read");
    json_for_each (v, doc) {
        if (e->n == OUTCOME_LIST_MAX)
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
    return 0;
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
    if (x || e->n == OUTCOME_LIST_MAX)
        return x;
    x = &e->list[e->n++];
    *x = (struct entry){.id = id};
    return x;
}

static bool is_open(const struct entry *x)
{
    return str_eqz(x->result, "pending") || str_eqz(x->result, "running") ||
           str_eqz(x->result, "evaluating");
}

/* ---- writing ---- */

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

static void write_all(struct buf *list, const struct entries *e)
{
    struct jw w = jw_to(list);
    buf_clear(list);
    jw_arr(&w);
    for (size_t i = 0; i < e->n; i++)
        write_entry(&w, &e->list[i]);
    jw_arr_end(&w);
}

/* The log has it all; the session is served whole. */
static void shorten(struct entry *x, size_t *len)
{
    *len -= x->criteria.len + x->closing.len + x->explanation.len;
    x->criteria = x->closing = x->explanation = STR_NONE;
}

static size_t length_of(const struct entries *e)
{
    size_t len = 0;
    for (size_t i = 0; i < e->n; i++) {
        const struct entry *x = &e->list[i];
        len += 256 + x->description.len + x->criteria.len + x->closing.len + x->explanation.len;
    }
    return len;
}

static int finish(struct buf *list, struct entries *e, struct err *err)
{
    size_t len = length_of(e);
    for (size_t i = 0; i < e->n && len > OUTCOME_LIST_BYTES; i++)
        if (i + 1 < e->n || len > OUTCOME_LIST_ROOM)
            shorten(&e->list[i], &len);
    write_all(list, e);
    int rc = buf_ok(list) ? 0 : err_set(err, ERR_LIMIT, "the outcomes are too large");
    arena_fini(&e->arena);
    return rc;
}

static int give_up(struct entries *e, int rc)
{
    arena_fini(&e->arena);
    return rc;
}

/* ---- what happens to them ---- */

static size_t descriptions(const struct entries *e)
{
    size_t n = 0;
    for (size_t i = 0; i < e->n; i++)
        n += e->list[i].description.len;
    return n;
}

int outcome_list_define(struct buf *list, struct str definition, struct err *err)
{
    struct entries e;
    const struct json *body;
    int rc = read_entries(&e, buf_view(list), err);
    if (!rc)
        rc = json_parse(&e.arena, definition, 0, &body, err);
    if (rc)
        return give_up(&e, rc);
    for (size_t i = 0; i < e.n; i++)
        if (is_open(&e.list[i]))
            return give_up(&e, err_set(err, ERR_INVALID,
                                       "Outcome '" STR_FMT "' is %s: a session has one at a time; "
                                       "wait for its end, or interrupt it first",
                                       STR_ARG(str_utf8_take(e.list[i].id, 64)),
                                       str_eqz(e.list[i].result, "pending") ? "still queued"
                                                                            : "not at its end"));
    if (e.n == OUTCOME_LIST_MAX || descriptions(&e) > OUTCOME_LIST_BYTES / 2)
        return give_up(&e, err_set(err, ERR_INVALID,
                                   "The session has had %zu outcomes; more need a new session, or "
                                   "a fork of this one as it was earlier",
                                   e.n));
    struct entry *x = find_or_add(&e, json_get_str(body, "outcome_id"));
    x->description = raw_of(body, "description");
    x->result = STR("pending");
    return finish(list, &e, err);
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

bool outcome_list_reads(enum event_type type)
{
    return type == EVENT_USER_DEFINE_OUTCOME || type == EVENT_SPAN_OUTCOME_EVALUATION_START ||
           type == EVENT_SPAN_OUTCOME_EVALUATION_END;
}

static int apply(struct entries *e, const struct event *event, struct err *err)
{
    const struct json *body;
    int rc = json_parse(&e->arena, event->body, JSON_ALLOW_DUPLICATES, &body, err);
    struct entry *x = rc ? NULL : find_or_add(e, json_get_str(body, "outcome_id"));
    if (!x)
        return rc;
    if (event->type == EVENT_USER_DEFINE_OUTCOME) {
        x->description = raw_of(body, "description");
        x->result = STR("running");
    } else if (event->type == EVENT_SPAN_OUTCOME_EVALUATION_START) {
        x->result = STR("evaluating");
        (void)json_i64(json_get(body, "iteration"), &x->iteration);
    } else {
        ended(x, body);
    }
    return 0;
}

int outcome_list_apply(struct buf *list, const struct event *events, size_t n, struct err *err)
{
    struct entries e;
    int rc = read_entries(&e, buf_view(list), err);
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (outcome_list_reads(events[i].type))
            rc = apply(&e, &events[i], err);
    return rc ? give_up(&e, rc) : finish(list, &e, err);
}

int outcome_list_close(struct buf *list, struct str outcome_id, struct str closing, struct err *err)
{
    struct entries e;
    int rc = read_entries(&e, buf_view(list), err);
    struct entry *x = rc ? NULL : find(&e, outcome_id);
    if (x)
        x->closing = closing;
    return rc ? give_up(&e, rc) : finish(list, &e, err);
}

int outcome_list_close_as(struct buf *list, struct str other, struct err *err)
{
    struct entries e, from;
    int rc = read_entries(&e, buf_view(list), err);
    if (rc)
        return give_up(&e, rc);
    rc = read_entries(&from, other, err);
    const struct entry *there = rc || e.n == 0 ? NULL : find(&from, e.list[e.n - 1].id);
    if (there)
        e.list[e.n - 1].closing = there->closing;
    rc = rc ? give_up(&e, rc) : finish(list, &e, err);
    arena_fini(&from.arena);
    return rc;
}
