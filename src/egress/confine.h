/* confine: gives up what the proxy does not need, before it reads a byte from a sandbox. */
#ifndef OSTLER_EGRESS_CONFINE_H
#define OSTLER_EGRESS_CONFINE_H

/* No new privileges, no tracing, no core, no files but those that names are resolved with, no other
 * user's rights. What the kernel does not offer is left out. */
void confine_self(void);

#endif
