/* link: an absolute URL of http or https, taken apart and in one canonical form. A value; any
 * thread.
 */
#ifndef OSTLER_HTTP_LINK_H
#define OSTLER_HTTP_LINK_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

enum { HTTP_LINK_MAX = 4096, HTTP_LINK_HOST_MAX = 256 };

struct http_link {
    /* Scheme and host in lower case, an international name as punycode, no default port, no dot
     * segments, no fragment. */
    char url[HTTP_LINK_MAX];
    char host[HTTP_LINK_HOST_MAX]; /* no dot at its end; an IPv6 address without brackets */
    uint16_t port;
    bool https;
};

/* `base` NULL: `text` must be absolute; else it is taken relative to it. INVALID: malformed, too
 * long, another scheme, no host, or with credentials in it. */
int http_link_parse(struct str text, const char *base, struct http_link *out,
                    struct err *err) MUST_USE;
/* The path, from its slash on, without the query. */
struct str http_link_path(const struct http_link *link);

#endif
