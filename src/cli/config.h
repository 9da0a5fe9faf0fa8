/* config: what `ostler serve` runs with: flags over environment over ostler.yaml over defaults.
 *
 * Main thread, read once at start; strings live in the config's arena (or are the program's own
 * arguments and environment) until config_fini(). Documented in docs/operations.md.
 */
#ifndef OSTLER_CLI_CONFIG_H
#define OSTLER_CLI_CONFIG_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "model/model.h"
#include "sandbox/sandbox.h"
#include "web/web.h"

enum {
    CONFIG_PROVIDERS_MAX = 32,
    CONFIG_ROUTES_MAX = 128,
    CONFIG_WEB_MAX = 64,
    CONFIG_MISTAKES_MAX = 64
};

/* Everything that is wrong, where the first mistake is not to be the end. */
struct config_mistakes {
    struct err at[CONFIG_MISTAKES_MAX];
    size_t n; /* more than fit are not told */
};

enum { CONFIG_EGRESS_MAX = 256 };

/* What every sandbox may or may not reach, whatever its environment says. */
struct config_egress {
    const char *allow[CONFIG_EGRESS_MAX];
    struct egress_host hosts[CONFIG_EGRESS_MAX], packages[CONFIG_EGRESS_MAX];
    uint16_t ports[CONFIG_EGRESS_MAX];
    size_t nallow, nhosts, npackages, nports;
};

struct config {
    const char *data; /* data directory */
    char host[256];
    int port;
    bool loopback; /* host is this machine only */
    enum log_level log_level;
    bool log_json;
    const char *models;       /* price table, or NULL */
    const char *script_dir;   /* or NULL */
    const char *judge_model;  /* of the policy `auto`; or NULL */
    const char *grader_model; /* of outcomes; NULL: the agent's own */
    struct sandbox_limits limits;
    int64_t work_lease_s; /* of self-hosted workers; 0: the default */
    int64_t mirrors_mb;   /* of cached clones; 0: the default */
    struct sandbox_checkpoints checkpoints;
    int64_t warm;       /* sandboxes kept ready for sessions to come */
    const char *images; /* unpacked roots of environments are below it; or NULL */
    bool oci_driver;    /* sandboxes are containers of an OCI runtime */
    struct oci_config oci;
    int64_t connect_ms, first_byte_ms, silence_ms; /* of model requests; 0: the defaults */
    const char *anthropic_base_url;                /* or NULL */
    const char *anthropic_api_key;                 /* or NULL; never logged */
    const char *openai_base_url, *openai_api_key;  /* the same */
    struct model_provider_config providers[CONFIG_PROVIDERS_MAX];
    struct model_route_config routes[CONFIG_ROUTES_MAX];
    size_t nproviders, nroutes;
    const char *search_url, *search_key_env; /* or NULL */
    int64_t fetch_max_mb, fetch_timeout_seconds;
    const char *repository_allow[CONFIG_WEB_MAX]; /* CIDR */
    size_t nrepository_allow;
    bool repository_http; /* http URLs as well */
    const char *web_allow[CONFIG_WEB_MAX];
    struct web_host web_hosts[CONFIG_WEB_MAX];
    size_t nweb_allow, nweb_hosts;
    struct config_egress egress;
    struct config_mistakes *mistakes; /* NULL: the first one is the end */
    struct arena arena;
};

/* What the command line says; NULL where it says nothing. */
struct config_flags {
    const char *data, *listen, *file, *log_level;
    bool log_json;
};

/* INVALID naming the option, variable or file and line; NOT_FOUND-like system errors for files that
 * were named and cannot be read. A file is looked at only if one was named. */
int config_load(struct config *c, const struct config_flags *flags, struct err *err) MUST_USE;
/* The same, but reads on after a mistake, and also looks at what the model layer makes of it. */
void config_check(struct config *c, const struct config_flags *flags, struct config_mistakes *out);
/* True when the mistake was put down and reading goes on. */
bool config_excuse(struct config *c, const struct err *err);
void config_fini(struct config *c);

/* The parts, for tests. */
int config_listen(struct config *c, const char *text, const char *at, struct err *err) MUST_USE;
int config_level(struct config *c, const char *text, const char *at, struct err *err) MUST_USE;
int config_yaml(struct config *c, const char *path, const char **listen, struct err *err) MUST_USE;

/* "providers.*.type", one call for each value that the file may have. */
void config_each_key(void (*fn)(void *arg, const char *path), void *arg);
/* A commented file with every key (config_example.c). */
extern const char config_example[];
/* The configuration in force, as YAML; keys are "set" or "not set". */
void config_show(const struct config *c, const struct model_router *router, struct buf *out);

/* What the model layer is told; the views are the config's. */
struct model_config config_model(const struct config *c);

/* The same for the egress proxy. */
struct egress_settings config_egress(const struct config *c);
/* The same for the web tools. INVALID when the search engine's key is named and not there. */
int config_web(const struct config *c, struct web_config *out, struct err *err) MUST_USE;

/* INVALID when a model that the configuration names leads nowhere. */
int config_model_ids(const struct config *c, struct model_router *router, struct err *err) MUST_USE;

/* $OSTLER_DATA, else $XDG_DATA_HOME/ostler, else ~/.local/share/ostler. INVALID when the
 * environment names no home. */
int config_default_data(struct arena *a, const char **out, struct err *err) MUST_USE;
/* A non-empty environment variable, or NULL. */
const char *config_env(const char *name);

#define CONFIG_DEFAULT_LISTEN "127.0.0.1:8787"

#endif
