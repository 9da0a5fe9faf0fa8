/* session_call: what the handlers below /v1/sessions share. Internal to api/. */
#ifndef OSTLER_API_SESSION_CALL_H
#define OSTLER_API_SESSION_CALL_H

#include "api/api_impl.h"

/* The session that the path names, of the caller's workspace. Store thread. */
int session_find(struct store_tx *tx, struct call *c, struct session_row *row,
                 struct err *err) MUST_USE;
/* INVALID when the session is archived or terminated: nothing can be sent to it any more. */
int session_open_check(const struct session_row *row, struct err *err) MUST_USE;
/* INVALID while a turn is running or events wait. */
int session_rest_check(const struct session_row *row, const char *what, struct err *err) MUST_USE;
/* Its tools are run by workers elsewhere, who find it in a queue (store/work.h). The config is text
 * that this server wrote. */
static inline bool session_self_hosted(const struct session_row *row)
{
    return str_eqz(row->environment, "{\"type\":\"self_hosted\"}");
}
/* A row for a new session of the caller: ids, owner and times. Loop thread. */
void session_begin(struct call *c, struct session_row *row);
void session_reply(struct call *c, const struct session_row *row);

#endif
