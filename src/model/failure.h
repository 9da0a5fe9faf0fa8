/* failure: what a provider's statuses and error bodies mean, in either protocol, and what to do
 * about it. Pure; any thread.
 */
#ifndef OSTLER_MODEL_FAILURE_H
#define OSTLER_MODEL_FAILURE_H

#include "core/ports.h"

/* What remedies call the settings of the provider that failed. */
struct failure_names {
    const char *key, *url; /* "ANTHROPIC_API_KEY", "providers.lab.base_url", ... */
    const char *secret;    /* the key itself, never shown should a provider quote it; or NULL */
};

/* What a status (0: none) and the error's type, code and message mean, with the remedy. Fills kind,
 * http_status and message; leaves the rest. `names` NULL: remedies name no settings. */
struct failure_said {
    int status;
    struct str type, code, message; /* any may be absent */
};
void failure_set(struct model_failure *f, const struct failure_names *names,
                 const struct failure_said *said);
/* From an error object or a document that holds one: {"error": {...}}, {"error": "text"},
 * {"object": "error", ...}. A code that is a status counts as one where `status` is 0. */
struct json;
void failure_json(struct model_failure *f, const struct failure_names *names, int status,
                  const struct json *doc);
/* From a response body, which may be anything. */
void failure_body(struct model_failure *f, const struct failure_names *names, int status,
                  struct str body);
/* Formats into f->message as printable text, cut on a code point. */
void failure_text(struct model_failure *f, const char *fmt, ...) PRINTF(2, 3);
/* Milliseconds from `retry-after-ms`, or `retry-after` (seconds or an HTTP date), both may be
 * absent; 0 when neither says anything; at most LIMIT_RETRY_AFTER_MS. */
int64_t failure_retry_after(struct str ms, struct str after, int64_t now_unix_us);

#endif
