/* registries: the public hosts of package managers, allowed with allow_package_managers. Any
 * thread. */
#ifndef OSTLER_EGRESS_REGISTRIES_H
#define OSTLER_EGRESS_REGISTRIES_H

struct registry_host {
    const char *manager; /* "apt", "cargo", "gem", "go", "npm" or "pip" */
    const char *host;    /* as in allowed_hosts */
};

extern const struct registry_host registry_hosts[]; /* closed by NULL */

#endif
