/* model: providers behind core's model port: routing by model id, the price table, the protocols.
 *
 * Loop thread. The router owns the providers. A request is in the form of the Messages API (see
 * core/ports.h); each protocol puts it on its own wire.
 */
#ifndef OSTLER_MODEL_MODEL_H
#define OSTLER_MODEL_MODEL_H

#include "base/arena.h"
#include "core/ports.h"
#include "http/client.h"

struct model_router;

/* A provider by name. "anthropic" is always there, "openai" when the configuration or
 * openai_* below names it; a configuration of one of these names adds to the fields below. */
struct model_provider_config {
    const char *name;     /* letters, digits, - and _; not "script" */
    const char *type;     /* the protocol, "anthropic" or "openai"; NULL: the name says it */
    const char *base_url; /* NULL: the published one */
    const char *api_key;  /* NULL: none, which is fine for an address of one's own */
    const char *key_name; /* what remedies call the key's setting; NULL: a good guess */
    const char
        *default_model; /* the id as the provider knows it, or as a route takes it; or NULL */
    int64_t max_concurrent, requests_per_minute, tokens_per_minute; /* 0: no limit */
    int64_t connect_ms, first_byte_ms, silence_ms;                  /* 0: those of model_config */
};

/* Ids that match go to the provider; the first route that matches wins over those built in. */
struct model_route_config {
    const char *match; /* "gpt-*": * any number of characters, ? one */
    const char *provider;
    bool strip_prefix; /* what stands before the first * or ? is not part of the provider's id */
};

struct model_config {
    const char *anthropic_base_url; /* NULL: the published one */
    const char *anthropic_api_key;  /* NULL: none configured */
    const char *openai_base_url;    /* NULL: the published one */
    const char *openai_api_key;     /* NULL: none configured */
    const struct model_provider_config *providers;
    size_t nproviders;
    const struct model_route_config *routes;
    size_t nroutes;
    const char *script_dir;  /* additional *.lua, looked up before the built-in ones; or NULL */
    const char *models_yaml; /* path of a price table; NULL: the built-in one */
    int64_t connect_ms, first_byte_ms, silence_ms; /* 0: the limits of base/limits.h */
};

int model_router_new(struct loop *l, struct http_client *http, const struct model_config *cfg,
                     struct model_router **out, struct err *err) MUST_USE;
void model_router_free(struct model_router *r); /* no call may be running */
struct model_port model_router_port(struct model_router *r);

/* INVALID naming the model when no provider takes the id: "script/NAME" is the scripted provider
 * and NAME exists; else the configured routes; NAME/... the provider NAME, without the prefix;
 * "claude-*" anthropic; and gpt-*, chatgpt-*, o1*, o3*, o4* openai when it is configured. */
int model_router_check(struct model_router *r, struct str model_id, struct err *err) MUST_USE;
/* The id `ostler run` uses when none is given: that of the first provider that is configured, else
 * script/demo. "" when that provider names no default model: the caller must ask for one. */
const char *model_router_default(const struct model_router *r);

/* What operators are told of a provider; the key itself is not among it. */
struct model_provider_info {
    const char *name, *type;
    const char *url;           /* where requests go; may hold a user and password */
    const char *key_name;      /* what the key's setting is called */
    const char *default_model; /* NULL: none is named */
    bool has_key;
    bool usable; /* it has a key, or an address of its own, which may need none */
};
/* The i-th, in the order in which a default model is looked for; false behind the last. Its strings
 * live as long as the router. */
bool model_router_provider(const struct model_router *r, size_t i, struct model_provider_info *out);

/* What the table says of a model. */
struct model_info {
    struct str id;
    int64_t context_tokens, max_output_tokens;
    const char *default_effort; /* "high", ... */
    const char *thinking;       /* "adaptive", "budget" or "none" */
    bool priced, unverified;
    bool system_messages; /* takes messages of the role "system" inside a conversation */
    /* micro-dollars per million tokens */
    int64_t input, output, cache_write_5m, cache_write_1h, cache_read;
    int64_t long_above_tokens; /* 0: no band */
    int64_t long_input, long_output, long_cache_write_5m, long_cache_write_1h, long_cache_read;
};
/* NULL when no entry (id or alias) names it, as it stands or as its provider knows it. */
const struct model_info *model_router_info(const struct model_router *r, struct str model_id);
size_t model_router_table(const struct model_router *r, const struct model_info **out);
/* The ids of all scripts, sorted; reads script_dir. */
size_t model_router_scripts(const struct model_router *r, struct arena *a, struct str **out);
/* Fills usage->cost_microusd and unpriced, rounding up to a micro-dollar. script/ costs 0. */
void model_price(const struct model_router *r, struct str model_id, struct model_usage *usage);

#endif
