/* config_yaml: what the two halves of the configuration file's reader share. Internal to
 * config_*.c.
 *
 * Main thread; on the stack of one config_yaml().
 */
#ifndef OSTLER_CLI_CONFIG_YAML_H
#define OSTLER_CLI_CONFIG_YAML_H

#include "cli/config.h"
#include "cli/yaml.h"

/* One provider or route while it is read. */
struct config_entry {
    struct model_provider_config provider;
    struct model_route_config route;
    const char *api_key_env, *api_key_file;
};

struct config_file {
    struct config *config;
    struct arena *arena;
    const char *path;
    const char *listen;
    struct config_entry entry;
};

struct config_key {
    const char *name;
    enum { KEY_TEXT, KEY_NUMBER, KEY_FLAG, KEY_MAP, KEY_OWN } kind;
    enum { IN_CONFIG, IN_FILE, IN_ENTRY } base; /* what the offset counts from */
    size_t offset;
    const struct config_key *sub; /* KEY_MAP; KEY_OWN: what stands in it, for config_each_key() */
    const char *entries;          /* KEY_OWN with several of those: "*" by name, "-" a list */
    /* KEY_OWN: reads a value of its own form. */
    int (*read)(struct config_file *f, struct fy_node *key, struct fy_node *value, struct err *err);
};

/* The keys of a mapping, by their table. */
int config_read_map(struct config_file *f, struct fy_node *map, const struct config_key *keys,
                    struct err *err) MUST_USE;
/* config_read_map() and the loops over providers and routes go on after a mistake that
 * config_excuse() takes. */
/* "PATH:LINE: KEY: msg what" */
int config_fail(const struct config_file *f, struct fy_node *key, const char *msg, const char *what,
                struct err *err);
/* A scalar as text of the arena; NULL: it is none, or empty. */
const char *config_scalar(struct config_file *f, struct fy_node *value);
/* One NAME: ADDRESS of a map of hosts: the canonical name and an IP address. */
int config_host(struct config_file *f, struct fy_node *key, struct fy_node_pair *p,
                const char **name, const char **address, struct err *err);
/* A list of address ranges (CIDR), added to the `n` there are of at most `max`. */
int config_ranges(struct config_file *f, struct fy_node *key, struct fy_node *value,
                  const char **ranges, size_t *n, size_t max, struct err *err);

/* config_egress.c: `egress` */
extern const struct config_key config_egress_keys[];
/* config_models.c: `models` and `providers` */
extern const struct config_key config_models_keys[], config_provider_keys[];
int config_read_models(struct config_file *f, struct fy_node *key, struct fy_node *value,
                       struct err *err);
int config_read_providers(struct config_file *f, struct fy_node *key, struct fy_node *value,
                          struct err *err);

#endif
