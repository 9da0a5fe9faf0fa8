#include "cli/config.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>

enum { CONFIG_ARENA = 4 * 1024 * 1024 };

const char *config_env(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

int config_default_data(struct arena *a, const char **out, struct err *err)
{
    const char *data = config_env("OSTLER_DATA");
    const char *xdg = config_env("XDG_DATA_HOME"), *home = config_env("HOME");
    if (data)
        *out = data;
    else if (xdg && xdg[0] == '/') /* the specification: relative ones are to be ignored */
        *out = arena_printf(a, "%s/ostler", xdg).ptr;
    else if (home)
        *out = arena_printf(a, "%s/.local/share/ostler", home).ptr;
    else
        return err_at(err, ERR_INVALID, "--data",
                      "no data directory: HOME is not set; name one with --data DIR");
    return *out ? 0 : err_at(err, ERR_LIMIT, "HOME", "HOME is too long");
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcmp(host, "localhost") == 0;
}

/* "HOST:PORT", "[V6]:PORT" or "PORT" (then the host is 127.0.0.1). */
int config_listen(struct config *c, const char *text, const char *at, struct err *err)
{
    struct str s = str_z(text), host = STR("127.0.0.1"), port = s;
    if (s.len && s.ptr[0] == '[') {
        ptrdiff_t close = str_find(s, STR("]:"));
        if (close < 0)
            goto bad;
        host = str_n(s.ptr + 1, (size_t)close - 1);
        port = str_skip(s, (size_t)close + 2);
    } else {
        ptrdiff_t colon = str_find_ch(s, ':');
        if (colon >= 0) {
            host = str_take(s, (size_t)colon);
            port = str_skip(s, (size_t)colon + 1);
        }
    }
    int64_t number;
    if (!host.len || !str_i64(port, &number) || number < 0 || number > 65535)
        goto bad;
    if (!str_copyz(c->host, sizeof c->host, host))
        goto bad;
    c->port = (int)number;
    c->loopback = is_loopback(c->host);
    return 0;
bad:
    return err_at(err, ERR_INVALID, at,
                  "%s: '%s' is not an address; write HOST:PORT, for example %s", at, text,
                  CONFIG_DEFAULT_LISTEN);
}

int config_level(struct config *c, const char *text, const char *at, struct err *err)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            c->log_level = (enum log_level)i;
            return 0;
        }
    }
    return err_at(err, ERR_INVALID, at, "%s: '%s' is not one of debug, info, warn, error", at,
                  text);
}

static const char *first(const char *a, const char *b, const char *c)
{
    return a ? a : b ? b : c;
}

bool config_excuse(struct config *c, const struct err *err)
{
    if (c->mistakes && c->mistakes->n < CONFIG_MISTAKES_MAX)
        c->mistakes->at[c->mistakes->n++] = *err;
    return c->mistakes != NULL;
}

static int load(struct config *c, const struct config_flags *flags, struct err *err)
{
    arena_init(&c->arena, CONFIG_ARENA);
    const char *file = first(flags->file, config_env("OSTLER_CONFIG"), NULL);
    const char *file_listen = NULL;
    int rc = file ? config_yaml(c, file, &file_listen, err) : 0;
    if (rc && !config_excuse(c, err))
        return rc;
    const char *env_listen = config_env("OSTLER_LISTEN");
    const char *listen = first(flags->listen, env_listen, file_listen);
    const char *listen_at = flags->listen ? "--listen" : env_listen ? "OSTLER_LISTEN" : "listen";
    rc = config_listen(c, listen ? listen : CONFIG_DEFAULT_LISTEN, listen_at, err);
    if (rc == 0 && flags->log_level)
        rc = config_level(c, flags->log_level, "--log-level", err);
    if (rc && !config_excuse(c, err))
        return rc;
    c->log_json = c->log_json || flags->log_json;
    c->data = first(flags->data, config_env("OSTLER_DATA"), c->data);
    /* The environment wins over the file here too: a key for one run needs no edited file. */
    c->anthropic_base_url = first(config_env("ANTHROPIC_BASE_URL"), c->anthropic_base_url, NULL);
    c->anthropic_api_key = first(config_env("ANTHROPIC_API_KEY"), c->anthropic_api_key, NULL);
    c->openai_base_url = first(config_env("OPENAI_BASE_URL"), c->openai_base_url, NULL);
    c->openai_api_key = first(config_env("OPENAI_API_KEY"), c->openai_api_key, NULL);
    return c->data ? 0 : config_default_data(&c->arena, &c->data, err);
}

int config_load(struct config *c, const struct config_flags *flags, struct err *err)
{
    *c = (struct config){.log_level = LOG_INFO};
    return load(c, flags, err);
}

void config_check(struct config *c, const struct config_flags *flags, struct config_mistakes *out)
{
    struct err err = {0};
    *out = (struct config_mistakes){.n = 0};
    *c = (struct config){.log_level = LOG_INFO, .mistakes = out};
    if (load(c, flags, &err))
        config_excuse(c, &err);
}

struct model_config config_model(const struct config *c)
{
    return (struct model_config){
        .anthropic_base_url = c->anthropic_base_url,
        .anthropic_api_key = c->anthropic_api_key,
        .openai_base_url = c->openai_base_url,
        .openai_api_key = c->openai_api_key,
        .providers = c->providers,
        .nproviders = c->nproviders,
        .routes = c->routes,
        .nroutes = c->nroutes,
        .script_dir = c->script_dir,
        .models_yaml = c->models,
        .connect_ms = c->connect_ms,
        .first_byte_ms = c->first_byte_ms,
        .silence_ms = c->silence_ms,
    };
}

int config_web(const struct config *c, struct web_config *out, struct err *err)
{
    const char *key = c->search_key_env ? config_env(c->search_key_env) : NULL;
    if (c->search_key_env && !key)
        return err_at(err, ERR_INVALID, "search_key_env",
                      "web.search_key_env: the environment has no %s", c->search_key_env);
    *out = (struct web_config){
        .search_url = c->search_url,
        .search_key = key,
        .fetch_bytes = c->fetch_max_mb * 1024 * 1024,
        .timeout_ms = c->fetch_timeout_seconds * 1000,
        .allow_addresses = c->web_allow,
        .nallow_addresses = c->nweb_allow,
        .hosts = c->web_hosts,
        .nhosts = c->nweb_hosts,
    };
    return 0;
}

int config_model_ids(const struct config *c, struct model_router *router, struct err *err)
{
    const struct {
        const char *key, *id;
    } models[] = {{"judge.model", c->judge_model}, {"grader.model", c->grader_model}};
    for (size_t i = 0; i < COUNT_OF(models); i++) {
        struct err why;
        if (models[i].id && model_router_check(router, str_z(models[i].id), &why))
            return err_at(err, ERR_INVALID, models[i].key, "%s: %s", models[i].key, why.msg);
    }
    return 0;
}

void config_fini(struct config *c)
{
    arena_fini(&c->arena);
}
