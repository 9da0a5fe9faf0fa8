/* What an environment's config says about a sandbox: limits and variables. */
#include "sandbox/impl.h"

#include "json/json.h"

static void take_limit(const struct json *limits, const char *key, int64_t max, int64_t *to)
{
    int64_t n;
    if (json_i64(json_get(limits, key), &n) && n > 0 && n <= max)
        *to = n;
}

static bool plain_name(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i && c >= '0' && c <= '9'))
            return false;
    }
    return s.len > 0;
}

static void take_variables(struct settings *out, const struct json *variables)
{
    size_t n = 0;
    if (!json_is(variables, JSON_OBJECT))
        return;
    json_for_each (v, variables) {
        if (n == SETTINGS_VARIABLES)
            break;
        if (v->type != JSON_STRING || !plain_name(v->key) ||
            (v->str.len && memchr(v->str.ptr, '\0', v->str.len)))
            continue;
        char *name = arena_strz(&out->arena, v->key), *value = arena_strz(&out->arena, v->str);
        if (!name || !value)
            break;
        out->variables[n * 2] = name;
        out->variables[n * 2 + 1] = value;
        n++;
    }
    out->variables[n * 2] = NULL;
}

void settings_parse(struct settings *out, const struct sandbox_limits *defaults, struct str json)
{
    *out = (struct settings){.limits = *defaults};
    arena_init(&out->arena, (size_t)16 << 20);
    const struct json *doc;
    struct str text = arena_str(&out->arena, json);
    if (!text.len || json_parse(&out->arena, text, JSON_ALLOW_DUPLICATES, &doc, NULL) != 0)
        return;
    /* The whole environment object, or its config. */
    const struct json *config = json_get(doc, "config") ? json_get(doc, "config") : doc;
    const struct json *limits = json_get(config, "limits");
    take_limit(limits, "memory_mb", 1 << 20, &out->limits.memory_mb);
    take_limit(limits, "cpus", 1024, &out->limits.cpus);
    take_limit(limits, "pids", 1 << 20, &out->limits.pids);
    take_limit(limits, "disk_mb", 1 << 30, &out->limits.disk_mb);
    take_limit(limits, "file_mb", 1 << 30, &out->limits.file_mb);
    take_limit(limits, "wall_seconds", 86400, &out->limits.wall_seconds);
    take_variables(out, json_get(config, "variables"));
}

void settings_fini(struct settings *s)
{
    arena_fini(&s->arena);
}
