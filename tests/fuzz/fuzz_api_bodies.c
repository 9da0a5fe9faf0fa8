/* Bodies of the API through their decoders and into the form that is stored and served. The first
 * byte says which; byte 0xFF, which no JSON text holds, parts the first body from what follows it.
 *
 * What must hold: a refusal says why, in UTF-8; what was accepted becomes strict JSON that is read
 * back as the same; the same patch once more changes nothing. */
#include "api/agent_decode.h"
#include "api/compact.h"
#include "api/environment_decode.h"
#include "api/event_decode.h"
#include "api/metadata.h"
#include "api/outcome_decode.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct arena arena;

static void must(bool ok)
{
    if (!ok)
        abort();
}

static bool said(int rc, const struct err *err)
{
    must(rc == 0 || rc == ERR_INVALID || rc == ERR_LIMIT);
    must(rc == 0 || (err->code == rc && err->msg[0] && str_utf8(str_z(err->msg))));
    return rc == 0;
}

static int check_model(void *self, struct str id, struct err *err)
{
    (void)self;
    if (id.len > 0 && id.ptr[0] != '!')
        return 0;
    return err_set(err, ERR_INVALID, "no provider takes the model '" STR_FMT "'",
                   STR_ARG(str_utf8_take(id, 64)));
}

static const char *default_effort(void *self, struct str id)
{
    (void)self;
    return id.len % 2 ? "high" : "medium";
}

static const struct model_rules rules = {NULL, check_model, default_effort};

static const struct json *parse(struct str text)
{
    const struct json *doc;
    struct err err;
    return json_parse(&arena, text, 0, &doc, &err) == 0 ? doc : NULL;
}

/* What is stored is an object, strict, and has no blanks that compacting would take out. */
static const struct json *require_stored(struct str text)
{
    const struct json *doc = parse(text);
    must(json_is(doc, JSON_OBJECT) && str_utf8(text));
    AUTO_BUF struct buf b = BUF_INIT(text.len * 2 + 64);
    compact_put(&b, text);
    must(str_eq(buf_view(&b), text));
    return doc;
}

static struct str def_text(const struct agent_def *def)
{
    struct str out = STR_NONE;
    struct err err;
    struct buf b = BUF_INIT(1 << 24);
    agent_def_write(def, &b);
    must(compact_keep(&arena, &b, &out, &err) == 0);
    require_stored(out);
    return out;
}

static bool apply(const struct json *body, enum agent_patch_kind kind, struct agent_def *def)
{
    struct agent_patch p;
    struct err err = {0};
    return said(agent_patch_decode(&arena, body, kind, "", &rules, &p, &err), &err) &&
           said(agent_patch_apply(&arena, &p, def, &err), &err);
}

static void check_snapshot(const struct agent_def *def)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 24);
    struct err err;
    struct str thread;
    agent_snapshot_write(def, STR("agent_01abc"), 7, &b);
    require_stored(buf_view(&b));
    must(agent_thread_snapshot(&arena, buf_view(&b), &thread, &err) == 0);
    must(!json_get(require_stored(thread), "multiagent"));
}

static void check_agent(struct str first, struct str rest, enum agent_patch_kind kind)
{
    struct agent_def def = {0}, again;
    struct err err;
    const struct json *doc = parse(first);
    if (!doc || !apply(doc, AGENT_CREATE, &def))
        return;
    struct str text = def_text(&def);
    must(agent_def_read(&arena, text, &again, &err) == 0);
    must(str_eq(def_text(&again), text));
    doc = str_some(rest) ? parse(rest) : NULL;
    if (doc && apply(doc, kind, &again)) {
        text = def_text(&again);
        must(apply(doc, kind, &again) && str_eq(def_text(&again), text));
    }
    check_snapshot(&again);
}

static bool apply_environment(const struct json *body, bool create, struct str *stored)
{
    struct environment_patch p;
    struct err err = {0};
    return said(environment_patch_decode(body, create, &p, &err), &err) &&
           said(environment_patch_apply(&arena, &p, *stored, stored, &err), &err);
}

static void check_environment(struct str first, struct str rest)
{
    struct str stored = STR_NONE;
    const struct json *doc = parse(first);
    if (!doc || !apply_environment(doc, true, &stored))
        return;
    require_stored(stored);
    doc = parse(str_some(rest) ? rest : STR("{}"));
    if (!doc || !apply_environment(doc, false, &stored))
        return;
    struct str text = stored;
    require_stored(text);
    must(apply_environment(doc, false, &stored) && str_eq(stored, text));
}

/* A definition has its time and its id already, and the text of a rubric, or a file's name. */
static void check_outcome(struct sent_event *e, const struct json *stored)
{
    static const char text[] = "- it rhymes";
    const struct json *rubric = json_get(stored, "rubric");
    struct err err = {0};
    must(json_is(json_get(stored, "processed_at"), JSON_STRING));
    must(str_eq(json_get_str(stored, "outcome_id"), id_str(&e->outcome.id)));
    if (!str_some(e->outcome.rubric_file)) {
        must(str_eqz(json_get_str(rubric, "type"), "text"));
        return;
    }
    must(str_eq(json_get_str(rubric, "file_id"), e->outcome.rubric_file));
    must(outcome_put_rubric(&arena, e, str_z(text), "/events/0", &err) == 0);
    rubric = json_get(require_stored(e->event.body), "rubric");
    must(str_eqz(json_get_str(rubric, "content"), text));
}

static void check_events(struct str text, bool initial)
{
    const struct json *list = parse(text);
    struct sent_event *events;
    struct err err = {0};
    if (!json_is(list, JSON_ARRAY) ||
        !said(events_decode(&arena, list, initial, "/events", &events, &err), &err))
        return;
    size_t i = 0;
    json_for_each (it, list) {
        const struct event *e = &events[i++].event;
        const struct json *doc = require_stored(e->body);
        must(str_eq(json_get_str(doc, "id"), id_str(&e->id)));
        must(event_type_of(json_get_str(doc, "type")) == e->type);
        must(str_eq(json_get_str(doc, "type"), json_get_str(it, "type")));
        if (e->type == EVENT_USER_DEFINE_OUTCOME)
            check_outcome(&events[i - 1], doc);
        else
            must(json_is(json_get(doc, "processed_at"), JSON_NULL));
    }
}

static void check_metadata(struct str first, struct str rest)
{
    struct str bag, merged, again;
    struct err err = {0};
    const struct json *doc = parse(first);
    if (!doc || !said(metadata_check(doc, false, "/metadata", &err), &err) ||
        !said(metadata_merge(&arena, STR_NONE, doc, false, "/metadata", &bag, &err), &err))
        return;
    require_stored(bag);
    doc = parse(rest);
    if (!doc || !said(metadata_check(doc, true, "/metadata", &err), &err) ||
        !said(metadata_merge(&arena, bag, doc, true, "/metadata", &merged, &err), &err))
        return;
    require_stored(merged);
    must(metadata_check(parse(merged), false, "/metadata", &err) == 0);
    must(metadata_merge(&arena, merged, doc, true, "/metadata", &again, &err) == 0);
    must(str_eq(again, merged));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    arena_init(&arena, 1 << 26);
    struct str rest = str_n((const char *)data + 1, len - 1), first = str_split(&rest, '\xff');
    switch (data[0]) {
    case 'a': check_agent(first, rest, AGENT_UPDATE); break;
    case 'o': check_agent(first, rest, AGENT_OVERRIDE); break;
    case 'n': check_environment(first, rest); break;
    case 'e': check_events(first, false); break;
    case 'i': check_events(first, true); break;
    case 'm': check_metadata(first, rest); break;
    default: break;
    }
    arena_fini(&arena);
    return 0;
}
