/* web_decode: the settings of web_fetch and web_search in an agent's toolset, checked and put into
 * the form that responses use. Pure; any thread.
 */
#ifndef OSTLER_API_WEB_DECODE_H
#define OSTLER_API_WEB_DECODE_H

#include "core/agent.h"
#include "json/writer.h"

/* As they were sent; NULL or a JSON null: not set. */
struct web_settings {
    const struct json *allowed_domains, *blocked_domains, *max_content_tokens, *url_sources,
        *user_location;
};

/* `tools`: the agent's whole array, whose custom tools url_sources may name. INVALID with a pointer
 * below `at`, the tool's config; about domains with the published messages. */
int web_decode(enum tool_id tool, const struct web_settings *s, const struct json *tools,
               const char *at, struct err *err) MUST_USE;
/* The members of a response, into the config's open object. Of settings that were checked. */
void web_write(struct jw *w, enum tool_id tool, const struct web_settings *s);

#endif
