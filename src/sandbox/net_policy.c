/* What a sandbox may reach, from its environment's config, and how its programs learn of the proxy.
 */
#include "json/json.h"
#include "sandbox/impl.h"

/* curl, git, apt, pip and gem read the small letters, go and npm the others, cargo both; node only
 * when it is told to. */
const char *const net_variables[NET_VARIABLES * 2 + 1] = {
    "http_proxy",
    NET_PROXY_URL,
    "https_proxy",
    NET_PROXY_URL,
    "all_proxy",
    NET_PROXY_URL,
    "no_proxy",
    "localhost,127.0.0.1,::1",
    "HTTP_PROXY",
    NET_PROXY_URL,
    "HTTPS_PROXY",
    NET_PROXY_URL,
    "ALL_PROXY",
    NET_PROXY_URL,
    "NO_PROXY",
    "localhost,127.0.0.1,::1",
    "NODE_USE_ENV_PROXY",
    "1",
    "GIT_TERMINAL_PROMPT",
    "0", /* a clone that needs a password fails instead of waiting for one */
    NULL};

int net_policy(struct arena *a, const struct json *config, const char *const *mcp_hosts,
               size_t nmcp_hosts, struct egress_policy *out, struct err *err)
{
    const struct json *net = json_get(config, "networking");
    const struct json *hosts = json_get(net, "allowed_hosts");
    *out = (struct egress_policy){
        .unrestricted = str_eqz(json_get_str(net, "type"), "unrestricted"),
        .package_managers = json_is_true(json_get(net, "allow_package_managers"))};
    if (out->unrestricted)
        return 0;
    if (json_is_true(json_get(net, "allow_mcp_servers"))) {
        out->mcp_hosts = mcp_hosts;
        out->nmcp_hosts = nmcp_hosts;
    }
    if (!json_is(hosts, JSON_ARRAY) || hosts->count == 0)
        return 0;
    const char **names = ARENA_ARRAY(a, const char *, hosts->count);
    json_for_each (h, hosts) {
        if (names && h->type == JSON_STRING)
            names[out->nallowed_hosts++] = arena_strz(a, h->str);
    }
    if (a->failed)
        return err_set(err, ERR_LIMIT, "the environment's list of hosts is too long");
    out->allowed_hosts = names;
    return 0;
}
