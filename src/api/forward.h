/* forward: requests that only the process can answer that the session belongs to. Internal to api/.
 *
 * Loop thread. Another process's session is changed, archived and deleted there, and its workspace
 * is read and written there: that is where its log is extended and its sandbox is connected. The
 * request goes over that process's unix socket with the client's own headers, and its answer comes
 * back as it is.
 */
#ifndef OSTLER_API_FORWARD_H
#define OSTLER_API_FORWARD_H

#include "api/api_impl.h"

/* Calls the route's handler, or forwards the call. The body of a JSON route was read before. */
void forward_or_handle(struct call *c);

#endif
