/* hello: the server name in the TLS ClientHello at the start of a byte stream. Reads untrusted
 * bytes; no allocation; any thread.
 */
#ifndef OSTLER_EGRESS_HELLO_H
#define OSTLER_EGRESS_HELLO_H

#include "base/str.h"
#include "egress/authority.h"

/* The handshake message, at most; records around it add 5 bytes each. */
enum { HELLO_MESSAGE_MAX = 16 * 1024, HELLO_BYTES_MAX = HELLO_MESSAGE_MAX + 2 * 1024 };

enum hello_result {
    HELLO_MORE,    /* a beginning of one; never for HELLO_BYTES_MAX bytes */
    HELLO_NAME,    /* `name` is set */
    HELLO_NO_NAME, /* well-formed, without a server name */
    HELLO_BAD,     /* not a ClientHello, or one that breaks its grammar */
};

/* The name is as sent but in the canonical form of host_canonical(); a name that has none (an
 * address, for one) is BAD. */
enum hello_result hello_parse(struct str in, char name[HOST_MAX]);

#endif
