#include "egress/policy.h"

#include "base/limits.h"
#include "egress/registries.h"
#include "json/decode.h"

#include <stdio.h>

enum { SETTINGS_BYTES = 1024 * 1024 };

/* ---- reading ---- */

static int read_rule(struct arena *a, struct str text, bool with_port, struct host_rule *out,
                     struct err *err)
{
    char name[HOST_MAX];
    struct host_rule r = {.port = 0};
    struct str host = text;
    if (with_port && str_find_ch(text, ':') >= 0) {
        struct authority to;
        int rc = authority_parse(text, 443, &to, err);
        if (rc)
            return rc;
        r.port = to.port;
        host = str_take(text, (size_t)str_find_ch(text, ':'));
    }
    r.wildcard = str_starts(host, STR("*."));
    if (r.wildcard)
        host = str_skip(host, 2);
    /* An address is no mistake worth a failed session, but it allows nothing: policy_check() wants
     * names. */
    struct ip ip;
    if (!r.wildcard && ip_parse(host, &ip)) {
        ip_text(&ip, name);
    } else if (!host_canonical(host, name))
        return err_set(err, ERR_INVALID,
                       "\"" STR_FMT "\" is no host name such as example.com or *.example.com",
                       STR_ARG(str_take(text, 80)));
    r.name = arena_str(a, str_z(name));
    *out = r;
    return 0;
}

static int read_rules(struct arena *a, const struct json *list, const char *at, bool with_port,
                      struct host_rules *out, struct err *err)
{
    if (!list)
        return 0;
    if (list->type != JSON_ARRAY)
        return json_fail(err, at, NULL, "Input should be a list of host names");
    out->rules = ARENA_ARRAY(a, struct host_rule, list->count + 1);
    if (!out->rules)
        return err_set(err, ERR_LIMIT, "too many hosts");
    json_for_each (it, list) {
        char where[ERR_AT_MAX];
        struct err why = {.code = 0};
        json_pointer_index(where, at, out->n);
        if (it->type != JSON_STRING)
            return json_fail(err, where, NULL, "Input should be a host name");
        if (read_rule(a, it->str, with_port, &out->rules[out->n], &why))
            return json_fail(err, where, NULL, "%s", why.msg);
        out->n++;
    }
    return a->failed ? err_set(err, ERR_LIMIT, "too many hosts") : 0;
}

int policy_read(struct policy *p, const struct json *json, struct err *err)
{
    *p = (struct policy){.unrestricted = false};
    arena_init(&p->arena, SETTINGS_BYTES);
    struct str mode = json_get_str(json, "networking");
    if (!str_eqz(mode, "limited") && !str_eqz(mode, "unrestricted"))
        return json_fail(err, "", "networking", "Input should be 'unrestricted' or 'limited'");
    p->unrestricted = str_eqz(mode, "unrestricted");
    p->package_managers = json_is_true(json_get(json, "package_managers"));
    int rc = read_rules(&p->arena, json_get(json, "allowed_hosts"), "/allowed_hosts", false,
                        &p->allowed, err);
    if (rc == 0)
        rc = read_rules(&p->arena, json_get(json, "mcp_hosts"), "/mcp_hosts", true, &p->mcp, err);
    return rc;
}

void policy_fini(struct policy *p)
{
    arena_fini(&p->arena);
}

static int read_ranges(struct proxy_settings *s, const struct json *list, struct err *err)
{
    s->allow = ARENA_ARRAY(&s->arena, struct ip_range, list ? list->count + 1 : 1);
    json_for_each (it, list) {
        struct err why = {.code = 0};
        char where[ERR_AT_MAX];
        json_pointer_index(where, "/allow_addresses", s->nallow);
        if (!s->allow || ip_range_parse(it->str, &s->allow[s->nallow], &why))
            return json_fail(err, where, NULL, "%s", why.msg);
        s->nallow++;
    }
    return 0;
}

static int read_hosts(struct proxy_settings *s, const struct json *object, struct err *err)
{
    s->hosts = ARENA_ARRAY(&s->arena, struct host_override, object ? object->count + 1 : 1);
    json_for_each (it, object) {
        char name[HOST_MAX], where[ERR_AT_MAX];
        json_pointer_key(where, "/hosts", it->key);
        if (!s->hosts || !host_canonical(it->key, name))
            return json_fail(err, where, NULL, "The name should be a host name");
        struct host_override *h = &s->hosts[s->nhosts];
        if (it->type != JSON_STRING || !ip_parse(it->str, &h->ip))
            return json_fail(err, where, NULL, "Input should be an IP address");
        h->name = arena_str(&s->arena, str_z(name));
        s->nhosts++;
    }
    return 0;
}

static int read_ports(struct proxy_settings *s, const struct json *list, struct err *err)
{
    static const uint16_t usual[] = {443, 80};
    bool given = list && list->count;
    s->ports = ARENA_ARRAY(&s->arena, uint16_t, given ? list->count : COUNT_OF(usual));
    if (!s->ports)
        return err_set(err, ERR_LIMIT, "too many ports");
    for (; !given && s->nports < COUNT_OF(usual); s->nports++)
        s->ports[s->nports] = usual[s->nports];
    json_for_each (it, list) {
        int64_t port = 0;
        if (!json_i64(it, &port) || port < 1 || port > 65535)
            return json_fail(err, "/ports", NULL, "Ports should be numbers from 1 to 65535");
        s->ports[s->nports++] = (uint16_t)port;
    }
    return 0;
}

/* The public hosts of each manager that the operator has not set others for, then those. */
static int read_packages(struct proxy_settings *s, const struct json *object, struct err *err)
{
    size_t max = 0;
    for (const struct registry_host *r = registry_hosts; r->manager; r++)
        max++;
    json_for_each (it, object)
        max += it->count;
    s->packages.rules = ARENA_ARRAY(&s->arena, struct host_rule, max);
    if (!s->packages.rules)
        return err_set(err, ERR_LIMIT, "too many package hosts");
    for (const struct registry_host *r = registry_hosts; r->manager; r++) {
        if (json_get(object, r->manager))
            continue;
        int rc =
            read_rule(&s->arena, str_z(r->host), false, &s->packages.rules[s->packages.n++], err);
        if (rc)
            return rc;
    }
    json_for_each (manager, object) {
        char at[ERR_AT_MAX];
        struct host_rules rules = {.n = 0};
        json_pointer_key(at, "/package_hosts", manager->key);
        int rc = read_rules(&s->arena, manager, at, true, &rules, err);
        if (rc)
            return rc;
        for (size_t i = 0; i < rules.n; i++)
            s->packages.rules[s->packages.n++] = rules.rules[i];
    }
    return 0;
}

static int64_t number_or(const struct json *object, const char *key, int64_t usual)
{
    int64_t n = 0;
    return json_i64(json_get(object, key), &n) && n > 0 ? n : usual;
}

int proxy_settings_read(struct proxy_settings *s, struct str text, struct err *err)
{
    *s = (struct proxy_settings){.nallow = 0};
    arena_init(&s->arena, 4 * SETTINGS_BYTES);
    struct str own = arena_str(&s->arena, text);
    const struct json *json = NULL;
    int rc = json_parse(&s->arena, own, 0, &json, err);
    if (rc)
        return rc;
    s->connect_ms = number_or(json, "connect_ms", LIMIT_EGRESS_CONNECT_MS);
    s->idle_ms = number_or(json, "idle_ms", LIMIT_EGRESS_IDLE_MS);
    s->connections = number_or(json, "connections", LIMIT_EGRESS_CONNECTIONS);
    rc = read_ranges(s, json_get(json, "allow_addresses"), err);
    if (rc == 0)
        rc = read_hosts(s, json_get(json, "hosts"), err);
    if (rc == 0)
        rc = read_ports(s, json_get(json, "ports"), err);
    if (rc == 0)
        rc = read_packages(s, json_get(json, "package_hosts"), err);
    return rc;
}

void proxy_settings_fini(struct proxy_settings *s)
{
    arena_fini(&s->arena);
}

/* ---- checking ---- */

static bool port_listed(const struct proxy_settings *s, uint16_t port)
{
    for (size_t i = 0; i < s->nports; i++)
        if (s->ports[i] == port)
            return true;
    return false;
}

static bool name_matches(const struct host_rule *r, struct str host)
{
    if (!r->wildcard)
        return str_eq(host, r->name);
    return host.len > r->name.len + 1 && str_ends(host, r->name) &&
           host.ptr[host.len - r->name.len - 1] == '.';
}

/* Whether the host is in the list; *port also with this port. */
static bool listed(const struct host_rules *list, const struct proxy_settings *s,
                   const struct authority *to, bool *port)
{
    bool found = false;
    for (size_t i = 0; i < list->n; i++) {
        const struct host_rule *r = &list->rules[i];
        if (!name_matches(r, str_z(to->host)))
            continue;
        found = true;
        *port |= r->port == to->port || port_listed(s, to->port);
    }
    return found;
}

enum egress_reason policy_check(const struct policy *p, const struct proxy_settings *s,
                                const struct authority *to, char *why, size_t why_len)
{
    bool port = false;
    if (p->unrestricted)
        return EGRESS_ALLOWED;
    if (to->literal) {
        snprintf(why, why_len,
                 "%s is an IP address: this environment's networking is limited to named hosts. "
                 "Use the name of a host in its networking.allowed_hosts.",
                 to->host);
        return EGRESS_HOST_NOT_ALLOWED;
    }
    bool found = listed(&p->allowed, s, to, &port);
    found |= listed(&p->mcp, s, to, &port);
    found |= p->package_managers && listed(&s->packages, s, to, &port);
    if (!found) {
        snprintf(why, why_len,
                 "The host %s is not allowed in this environment. Add it to the environment's "
                 "networking.allowed_hosts.",
                 to->host);
        return EGRESS_HOST_NOT_ALLOWED;
    }
    if (!port) {
        snprintf(why, why_len,
                 "The port %u of %s is not allowed. The operator can add it to egress.ports.",
                 to->port, to->host);
        return EGRESS_PORT_NOT_ALLOWED;
    }
    return EGRESS_ALLOWED;
}

const struct ip *proxy_settings_host(const struct proxy_settings *s, const char *name)
{
    for (size_t i = 0; i < s->nhosts; i++)
        if (str_eqz(s->hosts[i].name, name))
            return &s->hosts[i].ip;
    return NULL;
}
