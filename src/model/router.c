#include "model/provider.h"
#include "model/script.h"

#include <stdarg.h>
#include <stdio.h>

struct route {
    char *match;
    struct provider *provider;
    bool strip_prefix;
};

struct model_router {
    struct loop *loop;
    struct model_table table;
    struct provider **providers;
    size_t nproviders;
    struct route *routes;
    size_t nroutes;
    char *default_model;
    struct script_provider script;
};

static const struct str script_prefix = {"script/", 7};

/* ---- a call that only fails ---- */

struct failing_call {
    struct model_call base;
    struct loop_timer timer;
    const struct model_callbacks *cb;
    void *arg;
    bool over;
    struct model_failure failure;
};

static void failing_closed(struct loop_timer *timer)
{
    mem_free(CONTAINER_OF(timer, struct failing_call, timer));
}

static void failing_end(struct failing_call *c)
{
    if (c->over)
        return;
    c->over = true;
    loop_timer_close(&c->timer, failing_closed);
}

static void failing_cancel(struct model_call *base)
{
    failing_end(CONTAINER_OF(base, struct failing_call, base));
}

static void failing_report(struct loop_timer *timer)
{
    struct failing_call *c = CONTAINER_OF(timer, struct failing_call, timer);
    failing_end(c);
    c->cb->failed(c->arg, &c->failure);
}

struct model_call *model_call_failing(struct loop *l, const struct model_callbacks *cb, void *arg,
                                      enum model_error_kind kind, const char *fmt, ...)
{
    struct failing_call *c = mem_zalloc(sizeof *c);
    c->base.cancel = failing_cancel;
    c->cb = cb;
    c->arg = arg;
    c->failure.kind = kind;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->failure.message, sizeof c->failure.message, fmt, ap);
    va_end(ap);
    loop_timer_init(l, &c->timer);
    loop_timer_start(&c->timer, 0, failing_report);
    return &c->base;
}

/* ---- routing ---- */

/* * stands for any number of characters, ? for one. */
static bool matches(struct str pattern, struct str id)
{
    struct str after = STR_NONE, rest = STR_NONE; /* of the last *, to try a longer stretch */
    while (id.len) {
        if (pattern.len && pattern.ptr[0] == '*') {
            after = pattern = str_skip(pattern, 1);
            rest = id;
        } else if (pattern.len && (pattern.ptr[0] == '?' || pattern.ptr[0] == id.ptr[0])) {
            pattern = str_skip(pattern, 1);
            id = str_skip(id, 1);
        } else if (str_some(after)) {
            pattern = after;
            id = rest = str_skip(rest, 1);
        } else {
            return false;
        }
    }
    while (pattern.len && pattern.ptr[0] == '*')
        pattern = str_skip(pattern, 1);
    return pattern.len == 0;
}

struct target {
    struct provider *provider; /* NULL: none takes it */
    struct str model;          /* as the provider knows it */
};

static struct target route_of(const struct model_router *r, struct str id)
{
    for (size_t i = 0; i < r->nroutes; i++) {
        const struct route *route = &r->routes[i];
        if (!matches(str_z(route->match), id))
            continue;
        size_t strip = route->strip_prefix ? strcspn(route->match, "*?") : 0;
        if (id.len > strip)
            return (struct target){route->provider, str_skip(id, strip)};
    }
    return (struct target){.provider = NULL, .model = id};
}

static const struct model_info *info_of(const struct model_router *r, struct str id)
{
    const struct model_info *info = model_table_find(&r->table, id);
    return info ? info : model_table_find(&r->table, route_of(r, id).model);
}

int model_router_check(struct model_router *r, struct str model_id, struct err *err)
{
    if (str_starts(model_id, script_prefix))
        return script_check(&r->script, str_skip(model_id, script_prefix.len), err);
    if (route_of(r, model_id).provider)
        return 0;
    AUTO_BUF struct buf known = BUF_INIT(160);
    for (size_t i = 0; i < r->nroutes; i++) {
        struct str pattern = str_z(r->routes[i].match);
        if (known.len + pattern.len + 2 < 100)
            buf_printf(&known, STR_FMT ", ", STR_ARG(pattern));
    }
    return err_set(err, ERR_INVALID,
                   "model " STR_FMT " is not known to any provider; configured are " STR_FMT
                   "and script/NAME",
                   STR_ARG(str_utf8_take(model_id, 100)), STR_ARG(buf_view(&known)));
}

static struct model_call *router_start(void *self, const struct model_request *req,
                                       const struct model_callbacks *cb, void *arg)
{
    struct model_router *r = self;
    struct err err;
    if (model_router_check(r, req->model, &err))
        return model_call_failing(r->loop, cb, arg, MODEL_ERR_REQUEST, "%.250s", err.msg);
    if (str_starts(req->model, script_prefix))
        return script_start(&r->script, req, cb, arg);
    struct target to = route_of(r, req->model);
    const struct wire_request wire = {.req = req,
                                      .info = info_of(r, req->model),
                                      .model = to.model,
                                      .published = to.provider->published};
    return wire_start(to.provider, &wire, cb, arg);
}

static void router_cancel(void *self, struct model_call *call)
{
    (void)self;
    call->cancel(call);
}

static void router_partial(void *self, struct model_call *call, struct model_usage *out)
{
    (void)self;
    if (call->partial)
        call->partial(call, out);
}

static struct model_facts router_facts(void *self, struct str model, struct str speed)
{
    const struct model_router *r = self;
    struct model_facts f = {0};
    if (str_starts(model, script_prefix)) {
        script_facts(&r->script, str_skip(model, script_prefix.len), &f);
        return f;
    }
    const struct model_info *info = info_of(r, model);
    const struct provider *p = route_of(r, model).provider;
    if (info)
        model_facts_of(info, &f);
    /* Fast mode has a list of its own that nobody has stated. */
    if (p && p->wire->knows_fast && str_eqz(speed, "fast"))
        f.priced = false;
    f.system_messages = f.system_messages || (p && p->wire->system_messages);
    f.counts_tokens = p && p->wire->count_path;
    return f;
}

static struct model_call *router_count(void *self, const struct model_request *req,
                                       void (*done)(void *arg, int64_t tokens), void *arg)
{
    struct model_router *r = self;
    if (str_starts(req->model, script_prefix)) {
        struct model_facts f = router_facts(r, req->model, req->speed);
        int64_t tokens = f.counts_tokens ? script_prompt_tokens(req) : -1;
        return count_known(r->loop, tokens, done, arg);
    }
    struct target to = route_of(r, req->model);
    if (!to.provider)
        return count_known(r->loop, -1, done, arg);
    const struct wire_request wire = {.req = req,
                                      .info = info_of(r, req->model),
                                      .model = to.model,
                                      .published = to.provider->published};
    return count_start(to.provider, &wire, done, arg);
}

struct model_port model_router_port(struct model_router *r)
{
    return (struct model_port){.self = r,
                               .start = router_start,
                               .cancel = router_cancel,
                               .partial = router_partial,
                               .facts = router_facts,
                               .count = router_count};
}

/* ---- life ---- */

static struct provider *provider_by_name(const struct model_router *r, const char *name)
{
    for (size_t i = 0; i < r->nproviders; i++) {
        if (strcmp(r->providers[i]->name, name) == 0)
            return r->providers[i];
    }
    return NULL;
}

static bool good_name(const char *name)
{
    size_t len = name ? strlen(name) : 0;
    return len > 0 && len <= 60 && strcmp(name, "script") != 0 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == len;
}

static int64_t either(int64_t a, int64_t b)
{
    return a ? a : b;
}

static int add_provider(struct model_router *r, struct http_client *http,
                        const struct model_config *cfg, const struct model_provider_config *mine,
                        struct err *err)
{
    struct model_provider_config full = *mine;
    if (!good_name(full.name))
        return err_at(err, ERR_INVALID, "providers",
                      "providers: '%.60s' cannot be a provider's name; use letters, digits, - and "
                      "_, and not script",
                      full.name ? full.name : "");
    if (provider_by_name(r, full.name))
        return err_at(err, ERR_INVALID, "providers", "providers.%s: there are two of this name",
                      full.name);
    const struct wire *wire = wire_by_type(full.type ? full.type : full.name);
    if (!wire)
        return err_at(err, ERR_INVALID, "providers",
                      "providers.%s: type must be anthropic or openai", full.name);
    bool usual = strcmp(full.name, wire->type) == 0, anthropic = wire == &anthropic_wire;
    if (usual && !full.base_url)
        full.base_url = anthropic ? cfg->anthropic_base_url : cfg->openai_base_url;
    if (usual && !full.api_key)
        full.api_key = anthropic ? cfg->anthropic_api_key : cfg->openai_api_key;
    full.connect_ms = either(full.connect_ms, cfg->connect_ms);
    full.first_byte_ms = either(full.first_byte_ms, cfg->first_byte_ms);
    full.silence_ms = either(full.silence_ms, cfg->silence_ms);
    struct provider *p = mem_alloc(sizeof *p);
    provider_init(p, r->loop, http, wire, &full);
    r->providers = mem_realloc(r->providers, (r->nproviders + 1) * sizeof(struct provider *));
    r->providers[r->nproviders++] = p;
    return 0;
}

static int add_providers(struct model_router *r, struct http_client *http,
                         const struct model_config *cfg, struct err *err)
{
    for (size_t i = 0; i < cfg->nproviders; i++) {
        int rc = add_provider(r, http, cfg, &cfg->providers[i], err);
        if (rc)
            return rc;
    }
    int rc = 0;
    if (!provider_by_name(r, "anthropic"))
        rc = add_provider(r, http, cfg, &(struct model_provider_config){.name = "anthropic"}, err);
    bool openai = (cfg->openai_base_url && cfg->openai_base_url[0]) ||
                  (cfg->openai_api_key && cfg->openai_api_key[0]);
    if (rc == 0 && openai && !provider_by_name(r, "openai"))
        rc = add_provider(r, http, cfg, &(struct model_provider_config){.name = "openai"}, err);
    return rc;
}

static void add_route(struct model_router *r, struct str match, struct provider *p, bool strip)
{
    r->routes = mem_realloc(r->routes, (r->nroutes + 1) * sizeof(struct route));
    r->routes[r->nroutes++] = (struct route){mem_dupz(match.ptr, match.len), p, strip};
}

static int add_routes(struct model_router *r, const struct model_config *cfg, struct err *err)
{
    for (size_t i = 0; i < cfg->nroutes; i++) {
        const struct model_route_config *mine = &cfg->routes[i];
        const char *match = mine->match ? mine->match : "";
        struct provider *p = mine->provider ? provider_by_name(r, mine->provider) : NULL;
        if (!match[0] || str_starts(str_z(match), script_prefix))
            return err_at(err, ERR_INVALID, "models.routes",
                          "models.routes: match '%.80s' must be a pattern of model ids, for "
                          "example gpt-*, and not of script/",
                          match);
        if (!p)
            return err_at(err, ERR_INVALID, "models.routes",
                          "models.routes: %.80s: there is no provider '%.60s'", match,
                          mine->provider ? mine->provider : "");
        if (mine->strip_prefix && !strpbrk(match, "*?"))
            return err_at(err, ERR_INVALID, "models.routes",
                          "models.routes: %.80s: strip_prefix would leave nothing; end the "
                          "pattern with *",
                          match);
        add_route(r, str_z(match), p, mine->strip_prefix);
    }
    static const char *const openai_ids[] = {"gpt-?*", "chatgpt-?*", "o1*", "o3*", "o4*"};
    add_route(r, STR("claude-?*"), provider_by_name(r, "anthropic"), false);
    struct provider *openai = provider_by_name(r, "openai");
    for (size_t i = 0; openai && i < COUNT_OF(openai_ids); i++)
        add_route(r, str_z(openai_ids[i]), openai, false);
    for (size_t i = 0; i < r->nproviders; i++) {
        char match[80];
        snprintf(match, sizeof match, "%s/?*", r->providers[i]->name);
        add_route(r, str_z(match), r->providers[i], true);
    }
    return 0;
}

/* An id that leads to the model, as it stands or behind the provider's name. */
static int choose_default(struct model_router *r, struct err *err)
{
    AUTO_BUF struct buf id = BUF_INIT(1024);
    for (size_t i = 0; i < r->nproviders; i++) {
        const struct provider *p = r->providers[i];
        const char *model = p->default_model;
        if (!model || (route_of(r, str_z(model)).provider == p))
            continue;
        buf_clear(&id);
        buf_printf(&id, "%s/%s", p->name, model);
        if (!buf_ok(&id) || route_of(r, buf_view(&id)).provider != p)
            return err_at(err, ERR_INVALID, "providers",
                          "providers.%s.default_model: no route leads %.100s to this provider",
                          p->name, model);
    }
    const struct provider *first = NULL;
    const char *model = NULL;
    for (size_t i = 0; i < r->nproviders && !model; i++) {
        const struct provider *p = r->providers[i];
        if (!provider_usable(p))
            continue;
        first = p;
        model = p->default_model;
        if (!model && strcmp(p->name, "anthropic") == 0)
            model = r->table.default_id;
    }
    if (!first)
        model = "script/demo";
    buf_clear(&id);
    if (model && first && route_of(r, str_z(model)).provider != first)
        buf_printf(&id, "%s/", first->name);
    buf_z(&id, model ? model : "");
    r->default_model = mem_dupz(id.data, id.len);
    return 0;
}

int model_router_new(struct loop *l, struct http_client *http, const struct model_config *cfg,
                     struct model_router **out, struct err *err)
{
    struct model_table table = model_table_builtin;
    int rc = cfg->models_yaml ? model_table_load(cfg->models_yaml, &table, err) : 0;
    if (rc)
        return rc;
    struct model_router *r = mem_zalloc(sizeof *r);
    r->loop = l;
    r->table = table;
    r->script.loop = l;
    if (cfg->script_dir)
        r->script.dir = mem_dupz(cfg->script_dir, strlen(cfg->script_dir));
    rc = add_providers(r, http, cfg, err);
    rc = rc ? rc : add_routes(r, cfg, err);
    rc = rc ? rc : choose_default(r, err);
    if (rc) {
        model_router_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

void model_router_free(struct model_router *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->nproviders; i++) {
        provider_fini(r->providers[i]);
        mem_free(r->providers[i]);
    }
    for (size_t i = 0; i < r->nroutes; i++)
        mem_free(r->routes[i].match);
    mem_free(r->providers);
    mem_free(r->routes);
    mem_free(r->default_model);
    mem_free(r->script.dir);
    model_table_fini(&r->table);
    mem_free(r);
}

/* ---- what is told ---- */

bool model_router_provider(const struct model_router *r, size_t i, struct model_provider_info *out)
{
    if (i >= r->nproviders)
        return false;
    const struct provider *p = r->providers[i];
    *out = (struct model_provider_info){.name = p->name,
                                        .type = p->wire->type,
                                        .url = p->url,
                                        .key_name = p->key_name,
                                        .default_model = p->default_model,
                                        .has_key = p->key != NULL,
                                        .usable = provider_usable(p)};
    return true;
}

/* ---- the table ---- */

const char *model_router_default(const struct model_router *r)
{
    return r->default_model;
}

const struct model_info *model_router_info(const struct model_router *r, struct str model_id)
{
    return info_of(r, model_id);
}

size_t model_router_table(const struct model_router *r, const struct model_info **out)
{
    *out = r->table.infos;
    return r->table.ninfos;
}

size_t model_router_scripts(const struct model_router *r, struct arena *a, struct str **out)
{
    return script_list(&r->script, a, out);
}

void model_price(const struct model_router *r, struct str model_id, struct model_usage *usage)
{
    if (str_starts(model_id, script_prefix)) {
        usage->cost_microusd = 0;
        usage->unpriced = false;
        return;
    }
    model_price_of(info_of(r, model_id), usage);
}
