/* What a model said, as values that can be compared: of the log and of an answer that has come. */
#include "cli/replay.h"

#include "json/json.h"

enum { ITEMS_MAX = LIMIT_CONTENT_BLOCKS * 2 };

/* ---- collecting ---- */

struct collector {
    struct arena *arena;
    struct replay_answer *out;
    bool full;
};

static struct replay_item *add(struct collector *c)
{
    if (!c->out->items)
        c->out->items = ARENA_ARRAY(c->arena, struct replay_item, ITEMS_MAX);
    if (!c->out->items || c->out->n == ITEMS_MAX) {
        c->full = true;
        return NULL;
    }
    return &c->out->items[c->out->n++];
}

/* How a text is cut into blocks is no difference. */
static void add_text(struct collector *c, struct str text)
{
    struct replay_answer *out = c->out;
    if (str_trim(text).len == 0)
        return;
    struct replay_item *last = out->n ? &out->items[out->n - 1] : NULL;
    if (last && !str_some(last->name)) {
        last->value = arena_printf(c->arena, "%.*s%.*s", STR_ARG(last->value), STR_ARG(text));
        return;
    }
    struct replay_item *item = add(c);
    if (item)
        *item = (struct replay_item){.value = arena_str(c->arena, text)};
}

static void add_call(struct collector *c, struct str name, struct str input)
{
    struct replay_item *item = add(c);
    if (item)
        *item = (struct replay_item){.name = arena_str(c->arena, str_some(name) ? name : STR("")),
                                     .value = arena_str(c->arena, input)};
}

static int collected(const struct collector *c, struct err *err)
{
    if (c->full || c->arena->failed)
        return err_set(err, ERR_LIMIT, "an answer is too large to be compared");
    return 0;
}

static int collect_event(struct collector *c, const struct event *e, struct err *err)
{
    bool call = e->type == EVENT_AGENT_TOOL_USE || e->type == EVENT_AGENT_CUSTOM_TOOL_USE ||
                e->type == EVENT_AGENT_MCP_TOOL_USE;
    if (!call && e->type != EVENT_AGENT_MESSAGE)
        return 0;
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *body;
    int rc = json_parse(&a, e->body, JSON_ALLOW_DUPLICATES, &body, err);
    if (rc)
        return err_wrap(err, "event %s", e->id.z);
    if (call) {
        const struct json *input = json_get(body, "input");
        add_call(c, json_get_str(body, "name"), input ? input->raw : STR("{}"));
        return 0;
    }
    json_for_each (block, json_get(body, "content"))
        add_text(c, json_get_str(block, "text"));
    return 0;
}

int replay_recorded(const struct replay_log *l, const struct replay_request *q, struct arena *a,
                    struct replay_answer *out, struct err *err)
{
    struct collector c = {.arena = a, .out = out};
    *out = (struct replay_answer){0};
    const struct event *end = q->to ? q->to : l->events + l->nevents;
    for (const struct event *e = q->from + 1; e < end; e++) {
        int rc = collect_event(&c, e, err);
        if (rc)
            return rc;
    }
    return collected(&c, err);
}

int replay_said(const struct model_result *r, struct arena *a, struct replay_answer *out,
                struct err *err)
{
    struct collector c = {.arena = a, .out = out};
    *out = (struct replay_answer){0};
    for (size_t i = 0; i < r->nblocks; i++) {
        const struct model_block *b = &r->blocks[i];
        if (b->type == MODEL_TEXT)
            add_text(&c, b->text);
        else if (b->type == MODEL_TOOL_USE)
            add_call(&c, b->name, b->input_malformed ? STR("{}") : b->input);
    }
    return collected(&c, err);
}

/* ---- comparing ---- */

static bool is_blank(char ch)
{
    return ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r';
}

/* The next character, any number of blanks being one; -1 at the end. */
static int next_char(struct str *s)
{
    if (s->len == 0)
        return -1;
    char ch = s->ptr[0];
    *s = str_skip(*s, 1);
    if (!is_blank(ch))
        return (unsigned char)ch;
    while (s->len && is_blank(s->ptr[0]))
        *s = str_skip(*s, 1);
    return ' ';
}

static bool same_text(struct str x, struct str y)
{
    x = str_trim(x);
    y = str_trim(y);
    for (;;) {
        int a = next_char(&x), b = next_char(&y);
        if (a != b)
            return false;
        if (a < 0)
            return true;
    }
}

static bool same_value(const struct json *x, const struct json *y);

static bool same_members(const struct json *x, const struct json *y)
{
    json_for_each (m, x) {
        const struct json *other = NULL;
        json_for_each (o, y)
            other = str_eq(o->key, m->key) ? o : other;
        if (!other || !same_value(m, other))
            return false;
    }
    return true;
}

static bool same_number(const struct json *x, const struct json *y)
{
    double a, b;
    if (str_eq(x->raw, y->raw))
        return true;
    int64_t i;
    if (json_i64(x, &i) && json_i64(y, &i))
        return false; /* large ones would be equal as doubles */
    return json_f64(x, &a) && json_f64(y, &b) && a >= b && a <= b;
}

static bool same_value(const struct json *x, const struct json *y)
{
    if (x->type != y->type || x->count != y->count)
        return false;
    switch (x->type) {
    case JSON_NULL: return true;
    case JSON_BOOL: return x->boolean == y->boolean;
    case JSON_NUMBER: return same_number(x, y);
    case JSON_STRING: return str_eq(x->str, y->str);
    case JSON_OBJECT: return same_members(x, y) && same_members(y, x);
    case JSON_ARRAY: break;
    }
    const struct json *b = y->child;
    json_for_each (a, x) {
        if (!same_value(a, b))
            return false;
        b = b->next;
    }
    return true;
}

static bool same_input(struct str x, struct str y)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *vx, *vy;
    struct err err;
    if (str_eq(x, y))
        return true;
    return json_parse(&a, x, JSON_ALLOW_DUPLICATES, &vx, &err) == 0 &&
           json_parse(&a, y, JSON_ALLOW_DUPLICATES, &vy, &err) == 0 && same_value(vx, vy);
}

static bool same_item(const struct replay_item *x, const struct replay_item *y)
{
    if (str_some(x->name) != str_some(y->name))
        return false;
    if (!str_some(x->name))
        return same_text(x->value, y->value);
    return str_eq(x->name, y->name) && same_input(x->value, y->value);
}

bool replay_same(const struct replay_answer *x, const struct replay_answer *y)
{
    bool same = x->n == y->n;
    for (size_t i = 0; same && i < x->n; i++)
        same = same_item(&x->items[i], &y->items[i]);
    return same;
}
