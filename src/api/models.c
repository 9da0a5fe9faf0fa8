/* /v1/models: the table of models, then the scripts that stand in for one. The answer satisfies the
 * types of both dialects: what only one of them knows, the other ignores. */
#include "api/api_impl.h"
#include "api/handlers.h"

#include "json/writer.h"

/* One entry of the list: of the table, or a script. */
struct listed_model {
    struct str id;
    const struct model_info *info; /* NULL: a script */
};

struct model_list {
    struct listed_model *all;
    size_t n;
};

static const struct str script_prefix = {"script/", 7};

/* ---- names ---- */

static bool is_number(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
    return s.len > 0;
}

/* "claude-opus-4-5" is called "Claude Opus 4.5"; other makers' ids are names by themselves. */
static void write_name(struct buf *out, struct str id)
{
    bool number = false;
    if (!str_starts(id, STR("claude-"))) {
        buf_str(out, id);
        return;
    }
    for (struct str rest = id; str_some(rest);) {
        struct str word = str_split(&rest, '-');
        if (out->len > 0)
            buf_ch(out, number && is_number(word) ? '.' : ' ');
        number = is_number(word);
        char first = word.len ? word.ptr[0] : '-';
        buf_ch(out, first >= 'a' && first <= 'z' ? (char)(first - 'a' + 'A') : first);
        buf_str(out, str_skip(word, 1));
    }
}

static void write_display_name(struct jw *w, const struct listed_model *m)
{
    AUTO_BUF struct buf b = BUF_INIT(1024);
    if (!m->info) {
        buf_str(&b, str_skip(m->id, script_prefix.len));
        buf_z(&b, " (scripted: a program answers, not a model)");
    } else {
        write_name(&b, m->id);
        if (m->info->unverified)
            buf_z(&b, " (limits and price unverified)");
    }
    jw_kstr(w, "display_name", buf_view(&b));
}

static const char *line_of(struct str id)
{
    static const char *const lines[] = {"haiku", "sonnet", "opus", "fable", "mythos"};
    if (!str_starts(id, STR("claude-")))
        return NULL;
    for (struct str rest = id; str_some(rest);) {
        struct str word = str_split(&rest, '-');
        for (size_t i = 0; i < COUNT_OF(lines); i++)
            if (str_eqz(word, lines[i]))
                return lines[i];
    }
    return NULL;
}

/* ---- capabilities: what a client of this server gets of the model ---- */

static void support(struct jw *w, const char *key, bool yes)
{
    jw_key(w, key);
    jw_obj(w);
    jw_kbool(w, "supported", yes);
    jw_obj_end(w);
}

static void begin_group(struct jw *w, const char *key, bool yes)
{
    jw_key(w, key);
    jw_obj(w);
    jw_kbool(w, "supported", yes);
}

static void write_thinking(struct jw *w, const struct model_info *info)
{
    bool adaptive = info && strcmp(info->thinking, "adaptive") == 0;
    bool budget = info && strcmp(info->thinking, "budget") == 0;
    begin_group(w, "thinking", adaptive || budget);
    jw_key(w, "types");
    jw_obj(w);
    support(w, "adaptive", adaptive);
    support(w, "between_tools", false);
    support(w, "disabled", true);
    support(w, "enabled", budget);
    jw_obj_end(w);
    jw_obj_end(w);
}

static void write_effort(struct jw *w, const struct model_info *info)
{
    static const char *const levels[] = {"low", "medium", "high", "xhigh", "max"};
    bool yes = info && strcmp(info->thinking, "none") != 0;
    begin_group(w, "effort", yes);
    for (size_t i = 0; i < COUNT_OF(levels); i++)
        support(w, levels[i], yes);
    jw_obj_end(w);
}

static void write_server_side(struct jw *w)
{
    begin_group(w, "context_management", false);
    jw_knull(w, "clear_thinking_20251015");
    jw_knull(w, "clear_tool_uses_20250919");
    jw_knull(w, "compact_20260112");
    jw_obj_end(w);
    jw_knull(w, "compaction");
    begin_group(w, "server_tools", false);
    support(w, "code_execution", false);
    support(w, "web_search", false);
    jw_obj_end(w);
}

static void write_capabilities(struct jw *w, const struct listed_model *m)
{
    jw_key(w, "capabilities");
    jw_obj(w);
    support(w, "batch", false);
    support(w, "citations", false);
    support(w, "code_execution", false);
    write_effort(w, m->info);
    support(w, "image_input", m->info != NULL);
    support(w, "pdf_input", str_starts(m->id, STR("claude-")));
    support(w, "structured_outputs", false);
    write_thinking(w, m->info);
    write_server_side(w);
    jw_obj_end(w);
}

static void write_limit(struct jw *w, const char *key, int64_t tokens)
{
    if (tokens > 0)
        jw_ki64(w, key, tokens);
    else
        jw_knull(w, key);
}

static void write_model(struct jw *w, const struct listed_model *m)
{
    jw_obj(w);
    jw_kz(w, "type", "model");
    jw_kstr(w, "id", m->id);
    write_display_name(w, m);
    jw_kz(w, "created_at", "1970-01-01T00:00:00Z"); /* as published for "unknown" */
    jw_kz(w, "lifecycle", "active");
    jw_knull(w, "deprecated_at");
    jw_knull(w, "retires_at");
    jw_kz(w, "line", line_of(m->id));
    write_limit(w, "max_input_tokens", m->info ? m->info->context_tokens : 0);
    write_limit(w, "max_tokens", m->info ? m->info->max_output_tokens : 0);
    jw_key(w, "allowed_fallback_models");
    jw_arr(w);
    jw_arr_end(w);
    write_capabilities(w, m);
    jw_obj_end(w);
}

/* ---- one ---- */

void models_get(struct call *c)
{
    struct model_router *r = c->api->cfg.models;
    struct listed_model m = {.id = c->id[0]};
    struct err err;
    bool found;
    if (str_starts(m.id, script_prefix)) {
        found = model_router_check(r, m.id, &err) == 0;
    } else {
        m.info = model_router_info(r, m.id);
        found = m.info != NULL;
        if (found)
            m.id = m.info->id; /* of an alias: what it stands for */
    }
    if (!found) {
        err_set(&err, ERR_NOT_FOUND,
                "Model '" STR_FMT "' not found: the table of models does not name it",
                STR_ARG(str_utf8_take(c->id[0], 100)));
        call_fail(c, &err);
        return;
    }
    struct buf b = BUF_INIT(64 * 1024);
    struct jw w = jw_to(&b);
    write_model(&w, &m);
    call_reply(c, &b);
}

/* ---- all ---- */

static int gather(struct call *c, struct model_list *out, struct err *err)
{
    const struct model_info *infos;
    struct str *scripts;
    struct model_router *r = c->api->cfg.models;
    size_t ninfos = model_router_table(r, &infos);
    size_t nscripts = model_router_scripts(r, &c->arena, &scripts);
    out->all = ARENA_ARRAY(&c->arena, struct listed_model, ninfos + nscripts);
    if (!out->all)
        return err_set(err, ERR_LIMIT, "the table of models is too large");
    for (size_t i = 0; i < ninfos; i++)
        out->all[out->n++] = (struct listed_model){infos[i].id, &infos[i]};
    for (size_t i = 0; i < nscripts; i++)
        out->all[out->n++] = (struct listed_model){scripts[i], NULL};
    return 0;
}

/* The place of the model that a parameter names. */
static int find_id(struct call *c, const struct model_list *list, const char *name, size_t *out,
                   struct err *err)
{
    struct str id = query_get(&c->query, name);
    for (size_t i = 0; i < list->n; i++) {
        if (str_eq(list->all[i].id, id)) {
            *out = i;
            return 0;
        }
    }
    return err_at(err, ERR_INVALID, name, "%s: Input should be the id of a listed model", name);
}

/* The part of the list that is asked for: [*from, *to). */
static int window(struct call *c, const struct model_list *list, size_t *from, size_t *to,
                  bool *more, struct err *err)
{
    size_t at = 0, lo = 0, hi = list->n;
    int64_t limit = 20;
    bool after = str_some(query_get(&c->query, "after_id"));
    bool before = str_some(query_get(&c->query, "before_id"));
    int rc = query_i64(&c->query, "limit", 1, 1000, &limit, err);
    if (rc == 0 && after && before)
        return err_at(err, ERR_INVALID, "before_id",
                      "before_id: It cannot be combined with after_id; send one of them");
    if (rc == 0 && (after || before)) {
        rc = find_id(c, list, after ? "after_id" : "before_id", &at, err);
        if (rc == 0 && after)
            lo = at + 1;
        else if (rc == 0)
            hi = at;
    }
    if (rc)
        return rc;
    *more = hi - lo > (size_t)limit;
    *from = before && *more ? hi - (size_t)limit : lo;
    *to = !before && *more ? lo + (size_t)limit : hi;
    return 0;
}

static void reply_page(struct call *c, const struct model_list *list, size_t from, size_t to,
                       bool more)
{
    struct buf b = BUF_INIT(8 * 1024 * 1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_key(&w, "data");
    jw_arr(&w);
    for (size_t i = from; i < to; i++)
        write_model(&w, &list->all[i]);
    jw_arr_end(&w);
    jw_kbool(&w, "has_more", more);
    jw_kstr(&w, "first_id", from < to ? list->all[from].id : STR_NONE);
    jw_kstr(&w, "last_id", from < to ? list->all[to - 1].id : STR_NONE);
    jw_obj_end(&w);
    call_reply(c, &b);
}

void models_list(struct call *c)
{
    static const char *const stages[] = {"active", "deprecated", "retired", NULL};
    struct model_list list = {0};
    struct err err;
    unsigned wanted = 0;
    size_t from = 0, to = 0;
    bool more = false;
    int rc = query_set(&c->query, "lifecycle", stages, &wanted, &err);
    if (rc == 0)
        rc = gather(c, &list, &err);
    if (rc == 0 && wanted && !(wanted & 1))
        list.n = 0; /* every model here is active */
    if (rc == 0)
        rc = window(c, &list, &from, &to, &more, &err);
    if (rc)
        call_fail(c, &err);
    else
        reply_page(c, &list, from, to, more);
}
