/* The table's grammar, read with libfyaml. Also linked into the generator of the built-in table, so
 * that there is one reader. */
#include "model/table.h"

#include <libfyaml.h>
#include <stdio.h>

struct parse {
    struct arena *arena;
    struct err *err;
    struct model_info *infos;
    size_t ninfos;
    struct model_alias *aliases;
    size_t naliases;
    const char *default_id;
};

/* One key of a mapping: `read` gets its value; `at` is the pointer of that value. */
struct key {
    const char *name;
    bool required;
    int (*read)(struct parse *p, struct fy_node *v, const char *at, void *target);
    size_t offset;
};

static int bad(struct parse *p, const char *at, const char *what)
{
    return err_at(p->err, ERR_INVALID, at, "%s: %s", at, what);
}

static struct str scalar(struct fy_node *v)
{
    size_t len = 0;
    const char *text = v && fy_node_is_scalar(v) ? fy_node_get_scalar(v, &len) : NULL;
    return text ? str_n(text, len) : STR_NONE;
}

static const struct key *key_of(const struct key *keys, struct str name)
{
    for (; keys->name; keys++) {
        if (str_eqz(name, keys->name))
            return keys;
    }
    return NULL;
}

static int mapping(struct parse *p, struct fy_node *n, const char *at, const struct key *keys,
                   void *target)
{
    if (!n || !fy_node_is_mapping(n))
        return bad(p, at, "must be a mapping");
    char sub[ERR_AT_MAX];
    uint64_t seen = 0;
    void *iter = NULL;
    for (struct fy_node_pair *kv; (kv = fy_node_mapping_iterate(n, &iter));) {
        struct str name = scalar(fy_node_pair_key(kv));
        snprintf(sub, sizeof sub, "%s/" STR_FMT, at, STR_ARG(str_utf8_take(name, 32)));
        const struct key *k = key_of(keys, name);
        if (!k)
            return bad(p, sub, "unknown key");
        seen |= UINT64_C(1) << (k - keys);
        int rc = k->read(p, fy_node_pair_value(kv), sub, (char *)target + k->offset);
        if (rc)
            return rc;
    }
    for (const struct key *k = keys; k->name; k++) {
        snprintf(sub, sizeof sub, "%s/%s", at, k->name);
        if (k->required && !(seen >> (k - keys) & 1))
            return bad(p, sub, "is missing");
    }
    return 0;
}

static int read_dollars(struct parse *p, struct fy_node *v, const char *at, void *target)
{
    if (!model_dollars(scalar(v), target))
        return bad(p, at, "must be dollars per million tokens, such as 12.5");
    return 0;
}

static int read_tokens(struct parse *p, struct fy_node *v, const char *at, void *target)
{
    int64_t n;
    if (!str_i64(scalar(v), &n) || n < 1 || n > INT64_C(1000000000))
        return bad(p, at, "must be a whole number of tokens, 1 to 1000000000");
    *(int64_t *)target = n;
    return 0;
}

static int read_bool(struct parse *p, struct fy_node *v, const char *at, void *target)
{
    struct str s = scalar(v);
    if (!str_eqz(s, "true") && !str_eqz(s, "false"))
        return bad(p, at, "must be true or false");
    *(bool *)target = str_eqz(s, "true");
    return 0;
}

static int one_of(struct parse *p, struct fy_node *v, const char *at, const char *const *words,
                  const char **out)
{
    struct str s = scalar(v);
    for (; *words; words++) {
        if (str_eqz(s, *words)) {
            *out = *words;
            return 0;
        }
    }
    return bad(p, at, "is none of the known words");
}

static int read_effort(struct parse *p, struct fy_node *v, const char *at, void *target)
{
    static const char *const words[] = {"low", "medium", "high", "xhigh", "max", NULL};
    return one_of(p, v, at, words, target);
}

static int read_thinking(struct parse *p, struct fy_node *v, const char *at, void *target)
{
    static const char *const words[] = {"adaptive", "budget", "none", NULL};
    return one_of(p, v, at, words, target);
}

static int read_id(struct parse *p, struct fy_node *v, const char *at, void *target)
{
    struct str s = scalar(v);
    if (s.len == 0 || s.len > 128 || !str_utf8(s))
        return bad(p, at, "must be a model id of 1 to 128 bytes");
    *(struct str *)target = arena_str(p->arena, s);
    return 0;
}

static int read_aliases(struct parse *p, struct fy_node *v, const char *at, void *target)
{
    (void)target;
    if (!fy_node_is_sequence(v))
        return bad(p, at, "must be a list of model ids");
    void *iter = NULL;
    for (struct fy_node *item; (item = fy_node_sequence_iterate(v, &iter));) {
        if (p->naliases == MODEL_TABLE_MAX)
            return bad(p, at, "too many aliases");
        struct model_alias *alias = &p->aliases[p->naliases];
        int rc = read_id(p, item, at, &alias->id);
        if (rc)
            return rc;
        alias->index = p->ninfos;
        p->naliases++;
    }
    return 0;
}

#define INFO(name, required, read, member)                                                         \
    {                                                                                              \
        name, required, read, offsetof(struct model_info, member)                                  \
    }

static int read_price(struct parse *p, struct fy_node *v, const char *at, void *target)
{
    static const struct key keys[] = {
        INFO("input", true, read_dollars, input),
        INFO("output", true, read_dollars, output),
        INFO("cache_write_5m", true, read_dollars, cache_write_5m),
        INFO("cache_write_1h", true, read_dollars, cache_write_1h),
        INFO("cache_read", true, read_dollars, cache_read),
        {0},
    };
    struct model_info *info = target;
    info->priced = true;
    return mapping(p, v, at, keys, info);
}

static int read_long_price(struct parse *p, struct fy_node *v, const char *at, void *target)
{
    static const struct key keys[] = {
        INFO("input", true, read_dollars, long_input),
        INFO("output", true, read_dollars, long_output),
        INFO("cache_write_5m", true, read_dollars, long_cache_write_5m),
        INFO("cache_write_1h", true, read_dollars, long_cache_write_1h),
        INFO("cache_read", true, read_dollars, long_cache_read),
        {0},
    };
    return mapping(p, v, at, keys, target);
}

static int read_long_prompt(struct parse *p, struct fy_node *v, const char *at, void *target)
{
    static const struct key keys[] = {
        INFO("above", true, read_tokens, long_above_tokens),
        {"price", true, read_long_price, 0},
        {0},
    };
    return mapping(p, v, at, keys, target);
}

static int read_model(struct parse *p, struct fy_node *v, const char *at)
{
    static const struct key keys[] = {
        INFO("id", true, read_id, id),
        INFO("context", true, read_tokens, context_tokens),
        INFO("max_output", true, read_tokens, max_output_tokens),
        INFO("effort", false, read_effort, default_effort),
        INFO("thinking", false, read_thinking, thinking),
        INFO("unverified", false, read_bool, unverified),
        INFO("system_messages", false, read_bool, system_messages),
        {"aliases", false, read_aliases, 0},
        {"price", false, read_price, 0},
        {"long_prompt", false, read_long_prompt, 0},
        {0},
    };
    if (p->ninfos == MODEL_TABLE_MAX)
        return bad(p, at, "too many models");
    struct model_info *info = &p->infos[p->ninfos];
    *info = (struct model_info){.default_effort = "high", .thinking = "none"};
    int rc = mapping(p, v, at, keys, info);
    if (rc)
        return rc;
    if (info->long_above_tokens && !info->priced)
        return bad(p, at, "has a long_prompt but no price");
    p->ninfos++;
    return 0;
}

static int read_models(struct parse *p, struct fy_node *v, const char *at, void *target)
{
    (void)target;
    if (!fy_node_is_sequence(v))
        return bad(p, at, "must be a list of models");
    void *iter = NULL;
    char sub[ERR_AT_MAX];
    for (struct fy_node *item; (item = fy_node_sequence_iterate(v, &iter));) {
        snprintf(sub, sizeof sub, "%s/%zu", at, p->ninfos);
        int rc = read_model(p, item, sub);
        if (rc)
            return rc;
    }
    return p->ninfos ? 0 : bad(p, at, "must name at least one model");
}

static int read_default(struct parse *p, struct fy_node *v, const char *at, void *target)
{
    (void)target;
    struct str id;
    int rc = read_id(p, v, at, &id);
    if (rc == 0)
        p->default_id = id.ptr;
    return rc;
}

static int read_ignored(struct parse *p, struct fy_node *v, const char *at, void *target)
{
    (void)p;
    (void)v;
    (void)at;
    (void)target;
    return 0;
}

/* Two entries of one name would leave it open which price counts. */
static int check_names(struct parse *p, const struct model_table *t)
{
    for (size_t i = 0; i < t->ninfos + t->naliases; i++) {
        struct str id = i < t->ninfos ? t->infos[i].id : t->aliases[i - t->ninfos].id;
        for (size_t k = 0; k < i; k++) {
            struct str other = k < t->ninfos ? t->infos[k].id : t->aliases[k - t->ninfos].id;
            if (str_eq(id, other))
                return err_at(p->err, ERR_INVALID, "/models",
                              "/models: the id " STR_FMT " is named twice", STR_ARG(id));
        }
    }
    if (!model_table_find(t, str_z(t->default_id)))
        return err_at(p->err, ERR_INVALID, "/default", "/default: %s is not in the table",
                      t->default_id);
    return 0;
}

static int read_root(struct parse *p, struct fy_node *root, struct model_table *t)
{
    static const struct key keys[] = {
        {"models", true, read_models, 0},
        {"default", false, read_default, 0},
        {"other", false, read_ignored, 0},
        {0},
    };
    int rc = mapping(p, root, "", keys, p);
    if (rc)
        return rc;
    *t = (struct model_table){p->infos,
                              p->ninfos,
                              p->aliases,
                              p->naliases,
                              p->default_id ? p->default_id : p->infos[0].id.ptr,
                              {0}};
    return check_names(p, t);
}

static int syntax(struct fy_diag *diag, struct err *err)
{
    void *iter = NULL;
    const struct fy_diag_error *e = fy_diag_errors_iterate(diag, &iter);
    if (!e)
        return err_set(err, ERR_INVALID, "not valid YAML");
    return err_set(err, ERR_INVALID, "not valid YAML: line %d, column %d: %s", e->line, e->column,
                   e->msg);
}

/* The library prints a summary of its own even when it collects errors. */
static void discard(struct fy_diag *diag, void *user, const char *text, size_t len)
{
    (void)diag;
    (void)user;
    (void)text;
    (void)len;
}

int model_table_parse(struct str yaml, struct model_table *out, struct err *err)
{
    struct fy_diag_cfg diag_cfg;
    fy_diag_cfg_default(&diag_cfg);
    diag_cfg.fp = NULL;
    diag_cfg.output_fn = discard;
    struct fy_diag *diag = fy_diag_create(&diag_cfg);
    fy_diag_set_collect_errors(diag, true);
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_RESOLVE_DOCUMENT, .diag = diag};
    struct fy_document *doc =
        fy_document_build_from_string(&cfg, yaml.ptr ? yaml.ptr : "", yaml.len);
    struct arena arena;
    arena_init(&arena, 1024 * 1024);
    struct parse p = {.arena = &arena, .err = err};
    p.infos = ARENA_ARRAY(&arena, struct model_info, MODEL_TABLE_MAX);
    p.aliases = ARENA_ARRAY(&arena, struct model_alias, MODEL_TABLE_MAX);
    struct model_table table = {0};
    int rc = doc ? read_root(&p, fy_document_root(doc), &table) : syntax(diag, err);
    fy_document_destroy(doc);
    fy_diag_destroy(diag);
    if (rc) {
        arena_fini(&arena);
        return rc;
    }
    table.arena = arena;
    *out = table;
    return 0;
}
