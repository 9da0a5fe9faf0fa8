/* `egress` in the configuration file: what the operator opens and closes for every sandbox. */
#include "cli/config_yaml.h"

#include "egress/authority.h"
#include "egress/registries.h"

static int read_addresses(struct config_file *f, struct fy_node *key, struct fy_node *value,
                          struct err *err)
{
    struct config_egress *e = &f->config->egress;
    return config_ranges(f, key, value, e->allow, &e->nallow, CONFIG_EGRESS_MAX, err);
}

static int read_hosts(struct config_file *f, struct fy_node *key, struct fy_node *value,
                      struct err *err)
{
    struct config_egress *e = &f->config->egress;
    void *at = NULL;
    if (!fy_node_is_mapping(value))
        return config_fail(f, key, "must map names to addresses", "", err);
    for (struct fy_node_pair *p; (p = fy_node_mapping_iterate(value, &at));) {
        if (e->nhosts == CONFIG_EGRESS_MAX)
            return config_fail(f, key, "too many names", "", err);
        int rc =
            config_host(f, key, p, &e->hosts[e->nhosts].name, &e->hosts[e->nhosts].address, err);
        if (rc)
            return rc;
        e->nhosts++;
    }
    return 0;
}

static int read_ports(struct config_file *f, struct fy_node *key, struct fy_node *value,
                      struct err *err)
{
    struct config_egress *e = &f->config->egress;
    void *at = NULL;
    if (!fy_node_is_sequence(value))
        return config_fail(f, key, "must be a list of ports", "", err);
    for (struct fy_node *n; (n = fy_node_sequence_iterate(value, &at));) {
        const char *text = config_scalar(f, n);
        int64_t port = 0;
        if (!text || !str_i64(str_z(text), &port) || port < 1 || port > 65535)
            return config_fail(f, key, "must be a list of ports from 1 to 65535, not ",
                               text ? text : "empty", err);
        if (e->nports == CONFIG_EGRESS_MAX)
            return config_fail(f, key, "too many ports", "", err);
        e->ports[e->nports++] = (uint16_t)port;
    }
    return 0;
}

static bool is_manager(const char *name)
{
    for (const struct registry_host *r = registry_hosts; r->manager; r++)
        if (strcmp(r->manager, name) == 0)
            return true;
    return false;
}

/* "example.com", "*.example.com", either with a port. */
static bool is_host(const char *text)
{
    struct authority to;
    struct err ignored;
    struct str host = str_z(text);
    if (str_starts(host, STR("*.")))
        host = str_skip(host, 2);
    return authority_parse(host, 443, &to, &ignored) == 0 && !to.literal;
}

static int read_manager(struct config_file *f, struct fy_node *key, struct fy_node *value,
                        const char *manager, struct err *err)
{
    struct config_egress *e = &f->config->egress;
    void *at = NULL;
    if (!fy_node_is_sequence(value))
        return config_fail(f, key, "must be lists of hosts by package manager, not for ", manager,
                           err);
    for (struct fy_node *n; (n = fy_node_sequence_iterate(value, &at));) {
        const char *host = config_scalar(f, n);
        if (!host || !is_host(host))
            return config_fail(f, key, "must be hosts such as npm.example.com, not ",
                               host ? host : "empty", err);
        if (e->npackages == CONFIG_EGRESS_MAX)
            return config_fail(f, key, "too many hosts", "", err);
        e->packages[e->npackages++] = (struct egress_host){manager, host};
    }
    return 0;
}

static int read_packages(struct config_file *f, struct fy_node *key, struct fy_node *value,
                         struct err *err)
{
    void *at = NULL;
    if (!fy_node_is_mapping(value))
        return config_fail(f, key, "must be lists of hosts by package manager", "", err);
    for (struct fy_node_pair *p; (p = fy_node_mapping_iterate(value, &at));) {
        const char *manager = config_scalar(f, fy_node_pair_key(p));
        if (!manager || !is_manager(manager))
            return config_fail(f, key, "knows apt, cargo, gem, go, npm and pip, not ",
                               manager ? manager : "empty", err);
        int rc = read_manager(f, key, fy_node_pair_value(p), manager, err);
        if (rc)
            return rc;
    }
    return 0;
}

const struct config_key config_egress_keys[] = {
    {.name = "allow_addresses", .kind = KEY_OWN, .read = read_addresses},
    {.name = "hosts", .kind = KEY_OWN, .read = read_hosts},
    {.name = "ports", .kind = KEY_OWN, .read = read_ports},
    {.name = "package_hosts", .kind = KEY_OWN, .read = read_packages},
    {0}};

struct egress_settings config_egress(const struct config *c)
{
    const struct config_egress *e = &c->egress;
    return (struct egress_settings){
        .allow_addresses = e->allow,
        .nallow_addresses = e->nallow,
        .hosts = e->hosts,
        .nhosts = e->nhosts,
        .ports = e->ports,
        .nports = e->nports,
        .package_hosts = e->packages,
        .npackage_hosts = e->npackages,
    };
}
