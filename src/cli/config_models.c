/* The parts of the configuration file that say which model is asked where. */
#include "cli/config_yaml.h"

#include "base/fd.h"

#include <stdarg.h>
#include <stdio.h>

#define TEXT(nm, member)                                                                           \
    {                                                                                              \
        .name = nm, .kind = KEY_TEXT, .base = IN_ENTRY,                                            \
        .offset = offsetof(struct config_entry, member)                                            \
    }
#define NUMBER(nm)                                                                                 \
    {                                                                                              \
        .name = #nm, .kind = KEY_NUMBER, .base = IN_ENTRY,                                         \
        .offset = offsetof(struct config_entry, provider.nm)                                       \
    }

const struct config_key config_provider_keys[] = {TEXT("type", provider.type),
                                                  TEXT("base_url", provider.base_url),
                                                  TEXT("api_key_env", api_key_env),
                                                  TEXT("api_key_file", api_key_file),
                                                  TEXT("default_model", provider.default_model),
                                                  NUMBER(max_concurrent),
                                                  NUMBER(requests_per_minute),
                                                  NUMBER(tokens_per_minute),
                                                  NUMBER(connect_ms),
                                                  NUMBER(first_byte_ms),
                                                  NUMBER(silence_ms),
                                                  {0}};
static const struct config_key route_keys[] = {
    TEXT("match", route.match),
    TEXT("provider", route.provider),
    {.name = "strip_prefix",
     .kind = KEY_FLAG,
     .base = IN_ENTRY,
     .offset = offsetof(struct config_entry, route.strip_prefix)},
    {0}};

/* ---- providers ---- */

static int fail_key(const struct config_file *f, struct fy_node *key, struct err *err,
                    const char *fmt, ...) PRINTF(4, 5);
static int fail_key(const struct config_file *f, struct fy_node *key, struct err *err,
                    const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return config_fail(f, key, text, "", err);
}

/* The key itself never stands in the configuration: a variable or a file names it. */
static int read_api_key(struct config_file *f, struct fy_node *key, struct err *err)
{
    struct config_entry *e = &f->entry;
    struct model_provider_config *p = &e->provider;
    if (e->api_key_env && e->api_key_file)
        return config_fail(f, key, "api_key_env and api_key_file exclude each other", "", err);
    if (e->api_key_env) {
        p->key_name = e->api_key_env;
        p->api_key = config_env(e->api_key_env);
        if (!p->api_key)
            return fail_key(f, key, err,
                            "api_key_env: the environment variable %.100s is not set; export it, "
                            "or use api_key_file",
                            e->api_key_env);
    }
    if (!e->api_key_file)
        return 0;
    AUTO_BUF struct buf text = BUF_INIT(16 * 1024);
    struct err why;
    if (fd_read_file(e->api_key_file, &text, &why))
        return fail_key(f, key, err, "api_key_file: %s", why.msg);
    struct str secret = str_trim(buf_view(&text));
    p->key_name = e->api_key_file;
    p->api_key = secret.len ? arena_strz(f->arena, secret) : NULL;
    if (text.len)
        explicit_bzero(text.data, text.len);
    return p->api_key ? 0
                      : fail_key(f, key, err, "api_key_file: %s is empty; put the key in it",
                                 e->api_key_file);
}

static bool is_type(const char *type)
{
    return strcmp(type, "anthropic") == 0 || strcmp(type, "openai") == 0;
}

/* The two that the environment speaks of too: there it wins. */
static void share_with_environment(struct config *c, struct model_provider_config *p)
{
    bool anthropic = strcmp(p->name, "anthropic") == 0;
    if (!is_type(p->name) || strcmp(p->type, p->name) != 0)
        return;
    *(anthropic ? &c->anthropic_base_url : &c->openai_base_url) = p->base_url;
    *(anthropic ? &c->anthropic_api_key : &c->openai_api_key) = p->api_key;
    p->base_url = p->api_key = NULL;
}

static int read_provider(struct config_file *f, struct fy_node *key, struct fy_node *value,
                         struct err *err)
{
    struct config *c = f->config;
    struct model_provider_config *p = &f->entry.provider;
    f->entry = (struct config_entry){.provider = {.name = config_scalar(f, key)}};
    if (!p->name)
        return config_fail(f, key, "a provider needs a name", "", err);
    if (!fy_node_is_mapping(value))
        return config_fail(f, key, "must be a mapping of keys", "", err);
    if (c->nproviders == CONFIG_PROVIDERS_MAX)
        return config_fail(f, key, "too many providers", "", err);
    int rc = config_read_map(f, value, config_provider_keys, err);
    if (rc)
        return rc;
    if (!p->type)
        p->type = p->name;
    if (!is_type(p->type))
        return config_fail(f, key, "type must be anthropic or openai, not ", p->type, err);
    rc = read_api_key(f, key, err);
    if (rc)
        return rc;
    share_with_environment(c, p);
    c->providers[c->nproviders++] = *p;
    return 0;
}

int config_read_providers(struct config_file *f, struct fy_node *key, struct fy_node *value,
                          struct err *err)
{
    if (!fy_node_is_mapping(value))
        return config_fail(f, key, "must be a mapping of names to providers", "", err);
    void *at = NULL;
    for (struct fy_node_pair *p; (p = fy_node_mapping_iterate(value, &at));) {
        int rc = read_provider(f, fy_node_pair_key(p), fy_node_pair_value(p), err);
        if (rc && !config_excuse(f->config, err))
            return rc;
    }
    return 0;
}

/* ---- models ---- */

static int read_route(struct config_file *f, struct fy_node *key, struct fy_node *n,
                      struct err *err)
{
    struct config *c = f->config;
    f->entry = (struct config_entry){.route = {.match = NULL}};
    if (!fy_node_is_mapping(n))
        return config_fail(f, key, "must be a list of {match, provider, strip_prefix}", "", err);
    if (c->nroutes == CONFIG_ROUTES_MAX)
        return config_fail(f, key, "too many routes", "", err);
    int rc = config_read_map(f, n, route_keys, err);
    if (rc)
        return rc;
    if (!f->entry.route.match || !f->entry.route.provider)
        return config_fail(f, key, "each route needs match and provider", "", err);
    c->routes[c->nroutes++] = f->entry.route;
    return 0;
}

static int read_routes(struct config_file *f, struct fy_node *key, struct fy_node *value,
                       struct err *err)
{
    struct config *c = f->config;
    if (!fy_node_is_sequence(value))
        return config_fail(f, key, "must be a list of {match, provider, strip_prefix}", "", err);
    void *at = NULL;
    for (struct fy_node *n; (n = fy_node_sequence_iterate(value, &at));) {
        int rc = read_route(f, key, n, err);
        if (rc && !config_excuse(c, err))
            return rc;
    }
    return 0;
}

const struct config_key config_models_keys[] = {
    {.name = "table", .kind = KEY_TEXT, .offset = offsetof(struct config, models)},
    {.name = "routes", .kind = KEY_OWN, .read = read_routes, .sub = route_keys, .entries = "-"},
    {0}};

int config_read_models(struct config_file *f, struct fy_node *key, struct fy_node *value,
                       struct err *err)
{
    if (fy_node_is_mapping(value))
        return config_read_map(f, value, config_models_keys, err);
    f->config->models = config_scalar(f, value); /* the table alone */
    return f->config->models
               ? 0
               : config_fail(f, key,
                             "must be the path of a table, or a mapping of table and routes", "",
                             err);
}
