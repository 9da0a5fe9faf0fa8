/* authority: "host:port" of a CONNECT, an absolute URL or a Host header, in one canonical form.
 * Values; any thread.
 */
#ifndef OSTLER_EGRESS_AUTHORITY_H
#define OSTLER_EGRESS_AUTHORITY_H

#include "base/err.h"
#include "base/str.h"
#include "egress/address.h"

#define HOST_MAX 256

struct authority {
    char host[HOST_MAX]; /* lower case, no dot at its end; an IPv6 address without brackets */
    uint16_t port;
    bool literal; /* an IP address; then `ip` is it */
    struct ip ip;
};

/* `default_port` 0: the port is required. INVALID on user information, a zone, a port outside 1 to
 * 65535, a name that is none, or a number that is no dotted quad (0x7f.1, 2130706433). */
int authority_parse(struct str text, uint16_t default_port, struct authority *out,
                    struct err *err) MUST_USE;
bool authority_eq(const struct authority *a, const struct authority *b);

/* Writes the canonical form of a host name; false when it is none. Letters, digits, '-' and '_';
 * labels of 1 to 63; an IP address or what looks like one is no name. */
bool host_canonical(struct str name, char out[HOST_MAX]);

#endif
