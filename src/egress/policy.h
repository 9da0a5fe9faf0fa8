/* policy: what is decided before anything is looked up: the operator's settings and a sandbox's
 * policy, compiled from JSON, and the check of a host and port against them. Pure; one thread.
 */
#ifndef OSTLER_EGRESS_POLICY_H
#define OSTLER_EGRESS_POLICY_H

#include "base/arena.h"
#include "egress/authority.h"
#include "egress/reason.h"
#include "json/json.h"

struct host_rule {
    struct str name; /* canonical; of a wildcard what follows "*" and its dot */
    bool wildcard;
    uint16_t port; /* 0: those of the settings */
};

struct host_rules {
    struct host_rule *rules;
    size_t n;
};

struct host_override {
    struct str name;
    struct ip ip;
};

struct proxy_settings {
    struct arena arena;
    struct ip_range *allow;
    size_t nallow;
    struct host_override *hosts;
    size_t nhosts;
    uint16_t *ports;
    size_t nports;
    struct host_rules packages;
    int64_t connect_ms, idle_ms, connections;
};

struct policy {
    struct arena arena;
    bool unrestricted, package_managers;
    struct host_rules allowed, mcp;
};

/* Both leave something that must be ended with _fini even when they fail. `at` points into the
 * JSON. */
int proxy_settings_read(struct proxy_settings *s, struct str json, struct err *err) MUST_USE;
void proxy_settings_fini(struct proxy_settings *s);
/* {"networking":"limited","allowed_hosts":[...],"mcp_hosts":[...],"package_managers":false} or
 * {"networking":"unrestricted"}. */
int policy_read(struct policy *p, const struct json *json, struct err *err) MUST_USE;
void policy_fini(struct policy *p);

/* ALLOWED, HOST_NOT_ALLOWED or PORT_NOT_ALLOWED; then `why` says so with the remedy. */
enum egress_reason policy_check(const struct policy *p, const struct proxy_settings *s,
                                const struct authority *to, char *why, size_t why_len);
/* The address that the operator set for this name, or NULL. */
const struct ip *proxy_settings_host(const struct proxy_settings *s, const char *name);

#endif
