#include "http/sse_json.h"

#include "base/limits.h"

static void on_sse(void *arg, const struct sse_event *sse)
{
    struct sse_json *s = arg;
    const struct json *doc;
    if (s->broken.code || str_eqz(sse->type, "ping") || !sse->data.len)
        return;
    arena_reset(&s->arena);
    if (json_parse(&s->arena, sse->data, JSON_ALLOW_DUPLICATES, &doc, &s->broken))
        return;
    if (str_eqz(sse->type, "error"))
        err_set(&s->broken, ERR_INTERNAL, STR_FMT,
                STR_ARG(json_get_str(json_get(doc, "error"), "message")));
    else
        s->event(s->arg, doc);
}

void sse_json_init(struct sse_json *s, void (*event)(void *arg, const struct json *ev), void *arg)
{
    *s = (struct sse_json){.event = event, .arg = arg};
    sse_reader_init(&s->reader, LIMIT_SSE_EVENT, on_sse, s);
    arena_init(&s->arena, LIMIT_JSON_ARENA);
}

void sse_json_fini(struct sse_json *s)
{
    sse_reader_fini(&s->reader);
    arena_fini(&s->arena);
}

void sse_json_restart(struct sse_json *s)
{
    sse_reader_fini(&s->reader);
    sse_reader_init(&s->reader, LIMIT_SSE_EVENT, on_sse, s);
    s->broken = (struct err){0};
}

bool sse_json_feed(struct sse_json *s, struct str bytes)
{
    struct err err;
    if (!s->broken.code && sse_reader_feed(&s->reader, bytes, &err) && !s->broken.code)
        s->broken = err;
    return !s->broken.code;
}
