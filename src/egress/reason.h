/* reason: why something was let through or not. Any thread. */
#ifndef OSTLER_EGRESS_REASON_H
#define OSTLER_EGRESS_REASON_H

#include <stdbool.h>

/* X(name, text, is a refusal by policy) */
#define EGRESS_REASON_MAP(X)                                                                       \
    X(ALLOWED, "allowed", false)                                                                   \
    X(HOST_NOT_ALLOWED, "host_not_allowed", true)                                                  \
    X(ADDRESS_NOT_ALLOWED, "address_not_allowed", true)                                            \
    X(PORT_NOT_ALLOWED, "port_not_allowed", true)                                                  \
    X(SNI_MISMATCH, "sni_mismatch", true)                                                          \
    X(NOT_HTTP, "not_http", true)                                                                  \
    X(NAME_NOT_FOUND, "name_not_found", false)                                                     \
    X(CONNECT_FAILED, "connect_failed", false)

enum egress_reason {
#define X(name, text, denied) EGRESS_##name,
    EGRESS_REASON_MAP(X)
#undef X
        EGRESS_REASON_COUNT
};

const char *egress_reason_name(enum egress_reason r); /* "host_not_allowed" */
bool egress_reason_denied(enum egress_reason r);      /* refused, not just failed: egress_denied */

#endif
