#include "core/record.h"

#include "base/limits.h"
#include "core/usage.h"
#include "json/json.h"
#include "json/writer.h"

static const char *const purposes[] = {
    [MODEL_FOR_TURN] = "turn",
    [MODEL_FOR_COMPACTION] = "compaction",
    [MODEL_FOR_JUDGE] = "judge",
    [MODEL_FOR_GRADER] = "grader",
};

static void put(struct jw *w, const char *key, int64_t v)
{
    if (v)
        jw_ki64(w, key, v);
}

struct str request_record_write(struct arena *a, const struct request_record *r)
{
    AUTO_BUF struct buf b = BUF_INIT(1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "purpose", purposes[r->purpose]);
    put(&w, "max_tokens", r->max_tokens);
    put(&w, "reserved", r->reserved_microusd);
    put(&w, "clear_below", r->clear_below);
    put(&w, "fit", r->fit);
    if (r->digest[0])
        jw_kz(&w, "digest", r->digest);
    jw_obj_end(&w);
    return buf_ok(&b) ? arena_str(a, buf_view(&b)) : STR_NONE;
}

static void put_usage(struct jw *w, const char *key, const struct model_usage *u)
{
    jw_key(w, key);
    jw_obj(w);
    put(w, "in", u->input_tokens);
    put(w, "out", u->output_tokens);
    put(w, "read", u->cache_read_tokens);
    put(w, "write_5m", u->cache_write_5m_tokens);
    put(w, "write_1h", u->cache_write_1h_tokens);
    put(w, "cost", u->cost_microusd);
    if (u->unpriced)
        jw_kbool(w, "unpriced", true);
    jw_obj_end(w);
}

struct str end_record_write(struct arena *a, const struct end_record *r)
{
    AUTO_BUF struct buf b = BUF_INIT(1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    put_usage(&w, "usage", &r->usage);
    if (usage_some(&r->judge))
        put_usage(&w, "judge", &r->judge);
    put(&w, "held", r->held_microusd);
    jw_obj_end(&w);
    return buf_ok(&b) ? arena_str(a, buf_view(&b)) : STR_NONE;
}

static const struct json *parse(struct arena *a, struct str text)
{
    const struct json *doc;
    struct err err;
    if (!str_some(text) || json_parse(a, text, 0, &doc, &err) || !json_is(doc, JSON_OBJECT))
        return NULL;
    return doc;
}

static int64_t number(const struct json *doc, const char *key)
{
    int64_t v = 0;
    const struct json *n = json_get(doc, key);
    return n && json_i64(n, &v) && v > 0 ? v : 0;
}

bool request_record_read(struct str text, struct request_record *out)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    *out = (struct request_record){0};
    const struct json *doc = parse(&a, text);
    if (!doc)
        return false;
    if (str_eqz(json_get_str(doc, "purpose"), "compaction"))
        out->purpose = MODEL_FOR_COMPACTION;
    out->max_tokens = number(doc, "max_tokens");
    out->reserved_microusd = number(doc, "reserved");
    out->clear_below = number(doc, "clear_below");
    out->fit = number(doc, "fit");
    str_copyz(out->digest, sizeof out->digest, json_get_str(doc, "digest"));
    return true;
}

static void read_usage(const struct json *doc, struct model_usage *u)
{
    u->input_tokens = number(doc, "in");
    u->output_tokens = number(doc, "out");
    u->cache_read_tokens = number(doc, "read");
    u->cache_write_5m_tokens = number(doc, "write_5m");
    u->cache_write_1h_tokens = number(doc, "write_1h");
    u->cost_microusd = number(doc, "cost");
    u->unpriced = json_is_true(json_get(doc, "unpriced"));
}

bool end_record_read(struct str text, struct end_record *out)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    *out = (struct end_record){0};
    const struct json *doc = parse(&a, text);
    if (!doc)
        return false;
    read_usage(json_get(doc, "usage"), &out->usage);
    read_usage(json_get(doc, "judge"), &out->judge);
    out->held_microusd = number(doc, "held");
    return true;
}

struct str evaluation_record_write(struct arena *a, const struct evaluation_record *r)
{
    AUTO_BUF struct buf b = BUF_INIT(1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    put_usage(&w, "usage", &r->spent);
    put(&w, "reserved", r->reserved_microusd);
    if (usage_some(&r->lost))
        put_usage(&w, "lost", &r->lost);
    put(&w, "held", r->held_microusd);
    jw_obj_end(&w);
    return buf_ok(&b) ? arena_str(a, buf_view(&b)) : STR_NONE;
}

bool evaluation_record_read(struct str text, struct evaluation_record *out)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    *out = (struct evaluation_record){0};
    const struct json *doc = parse(&a, text);
    if (!doc)
        return false;
    read_usage(json_get(doc, "usage"), &out->spent);
    out->reserved_microusd = number(doc, "reserved");
    read_usage(json_get(doc, "lost"), &out->lost);
    out->held_microusd = number(doc, "held");
    return true;
}
