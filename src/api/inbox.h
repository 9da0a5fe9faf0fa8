/* inbox: events that a client sent, checked, put where the session takes them from. Store thread,
 * in the request's transaction. Internal to api/.
 */
#ifndef OSTLER_API_INBOX_H
#define OSTLER_API_INBOX_H

#include "api/event_decode.h"
#include "store/store.h"

/* details.error_code of the refusal; a retry does not mend it. */
#define INBOX_FULL "session_inbox_full"

/* Adds all of them, but for interrupts that the session does not hear. INVALID with INBOX_FULL at
 * `at` when too much waits already. */
int inbox_accept(struct store_tx *tx, const struct session_row *row,
                 const struct sent_event *events, size_t n, const char *at,
                 struct err *err) MUST_USE;

#endif
