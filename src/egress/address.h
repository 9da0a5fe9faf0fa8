/* address: IP addresses, and which of them the egress proxy may connect to. Values; any thread. */
#ifndef OSTLER_EGRESS_ADDRESS_H
#define OSTLER_EGRESS_ADDRESS_H

#include "base/err.h"
#include "base/str.h"

#include <netinet/in.h>

/* Network byte order; an IPv4 address takes the first 4 bytes. */
struct ip {
    bool v6;
    unsigned char bytes[16];
};

struct ip_range {
    struct ip base;
    unsigned bits;
};

#define IP_TEXT_MAX 48

/* Strict dotted quad or RFC 4291 text, no brackets, no zone. */
bool ip_parse(struct str text, struct ip *out);
void ip_text(const struct ip *ip, char out[IP_TEXT_MAX]);
bool ip_from(const struct sockaddr_storage *sa, struct ip *out);
socklen_t ip_to(const struct ip *ip, uint16_t port, struct sockaddr_storage *out);

/* "10.0.0.0/8", or a single address. INVALID when it is neither, or has bits behind the prefix. */
int ip_range_parse(struct str text, struct ip_range *out, struct err *err) MUST_USE;
bool ip_in_range(const struct ip *ip, const struct ip_range *range);

/* NULL when the address is public or in one of the `allowed` ranges; else what it is: "private",
 * "loopback", ... */
const char *ip_refused(const struct ip *ip, const struct ip_range *allowed, size_t n);

#endif
