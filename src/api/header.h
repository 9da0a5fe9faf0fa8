/* header: values of request headers, taken apart. Pure; any thread. */
#ifndef OSTLER_API_HEADER_H
#define OSTLER_API_HEADER_H

#include "base/err.h"
#include "base/str.h"

enum { IDEMPOTENCY_KEY_MAX = 255 };

/* `name` is among the values of a comma-separated list. */
bool header_lists(struct str list, const char *name);
/* application/json or application/…+json, whatever its parameters. */
bool header_is_json(struct str content_type);
/* The key without blanks around it, absent when there is none. INVALID at "idempotency-key". */
int header_idempotency_key(struct str value, struct str *out, struct err *err) MUST_USE;
/* The key in X-Api-Key or in Authorization: Bearer; an absent view if neither holds one. */
struct str header_api_key(struct str api_key, struct str authorization);

#endif
