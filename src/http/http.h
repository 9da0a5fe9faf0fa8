/* http: what server and client share: header views, status texts, URL pieces. Any thread. */
#ifndef OSTLER_HTTP_HTTP_H
#define OSTLER_HTTP_HTTP_H

#include "base/arena.h"
#include "base/buf.h"

struct http_header {
    struct str name, value;
};

/* May stand in a token (RFC 9110): a header's name, a method, a parameter's name. */
static inline bool http_is_token(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

const char *http_status_text(int status);
/* Value of `name` (any case), or an absent view. */
struct str http_header_get(const struct http_header *h, size_t n, const char *name);

/* Percent-decoding of a path segment or query piece ('+' is a blank only with `plus`). INVALID on a
 * bad escape, an encoded NUL, or invalid UTF-8. */
int http_decode(struct arena *a, struct str in, bool plus, struct str *out,
                struct err *err) MUST_USE;
void http_encode(struct buf *b, struct str s); /* percent-encodes all but unreserved characters */

struct http_param {
    struct str name, value; /* decoded; "types[]" keeps its brackets */
};
/* Splits and decodes a query string. INVALID on a bad escape; at most 256 pairs. */
int http_query(struct arena *a, struct str query, struct http_param **out, size_t *n,
               struct err *err) MUST_USE;

#endif
