/* sources: blocks of a message whose source is a file of the workspace. They are resolved when the
 * message is accepted: the model sees the bytes of that moment, whatever becomes of the file.
 *
 * Store thread, in a read transaction: it reads the files' contents, which takes time.
 */
#ifndef OSTLER_API_SOURCES_H
#define OSTLER_API_SOURCES_H

#include "api/api_impl.h"
#include "api/event_decode.h"

bool sources_any(const struct sent_event *events, size_t n);
/* Sets event.transcript of those that have file sources: the array of their blocks, with base64
 * (images, PDF) or text in the place of the file. NOT_FOUND, INVALID for a type that does not fit
 * the block, TOO_LARGE; all point below `at`, the list's pointer, and name the file. In the call's
 * arena. */
int sources_resolve(struct store_tx *tx, struct call *c, struct sent_event *events, size_t n,
                    const char *at, struct err *err) MUST_USE;

/* The content of a file with at most `max` bytes, appended. NOT_FOUND, INVALID at `at`, the pointer
 * of its id. */
int source_text(struct store_tx *tx, struct call *c, struct str file_id, int64_t max,
                const char *at, struct buf *out, struct err *err) MUST_USE;

#endif
