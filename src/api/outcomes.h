/* outcomes: what the acceptance of a user.define_outcome needs of the store. Internal to api/.
 * Store thread.
 */
#ifndef OSTLER_API_OUTCOMES_H
#define OSTLER_API_OUTCOMES_H

#include "api/api_impl.h"
#include "api/event_decode.h"

/* Whether one of them has a rubric that is a file. */
bool outcomes_any_file(const struct sent_event *events, size_t n);
/* Puts in the text of rubrics that are files. NOT_FOUND, INVALID below `at`, the list's pointer. In
 * a read transaction; may be repeated. */
int outcomes_resolve(struct store_tx *tx, struct call *c, struct sent_event *events, size_t n,
                     const char *at, struct err *err) MUST_USE;
/* In the transaction that accepts them for `row`, which is stored: notes the outcome that they
 * define, also in the row. INVALID when another one has not ended, or where nothing can be graded.
 */
int outcomes_accept(struct store_tx *tx, struct call *c, struct session_row *row,
                    const struct sent_event *events, size_t n, const char *at,
                    struct err *err) MUST_USE;

#endif
