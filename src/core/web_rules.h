/* web_rules: what an agent's settings let web_fetch and web_search reach: domains, and the sources
 * that a URL must have come from. Pure; values.
 */
#ifndef OSTLER_CORE_WEB_RULES_H
#define OSTLER_CORE_WEB_RULES_H

#include "core/agent.h"
#include "core/prompt.h"

enum { WEB_DOMAINS_MAX = 64, WEB_DOMAIN_CHARS = 255, WEB_SOURCE_TOOLS_MAX = 128 };

/* NULL when the entry may stand in allowed_domains or blocked_domains; else what is wrong with it,
 * with the remedy. `path_allowed`: web_search's entries may go on with a path. */
const char *web_domain_refused(struct str entry, bool path_allowed);

/* NULL when a tool with this config (NULL: none of its own) may reach the host, else the name of
 * the list that keeps it from doing so. `host` is canonical, `path` starts with a slash. */
const char *web_host_refused(const struct json *config, struct str host, struct str path);

/* A URL that is looked for in texts. `same` says whether one that was found there is it; it is not
 * asked about what does not hold `host`. */
struct web_url {
    struct str host;
    bool (*same)(void *arg, struct str found);
    void *arg;
};
/* True when the config's url_sources let web_fetch fetch this URL: they are not set, or it appeared
 * in the conversation in one of the sources that they allow. Looks at what the model still sees. */
bool web_url_known(const struct agent *ag, const struct prompt *p, const struct web_url *url);

#endif
