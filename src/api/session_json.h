/* session_json: sessions and threads as the wire shows them. Pure; loop thread. */
#ifndef OSTLER_API_SESSION_JSON_H
#define OSTLER_API_SESSION_JSON_H

#include "json/writer.h"
#include "store/store.h"

/* Idle with accepted events still waiting counts as running: whoever polls must not take the moment
 * before the engine has looked for the end of the work. */
enum session_status session_status_shown(const struct session_row *row);
const char *session_status_name(enum session_status s);
extern const char *const session_status_names[]; /* by enum, NULL-terminated */

void session_write(struct jw *w, const struct session_row *row, int64_t now_us);
/* The primary thread. `agent` is the snapshot as threads show it. */
void session_thread_write(struct jw *w, const struct session_row *row, struct str agent,
                          int64_t now_us);

#endif
