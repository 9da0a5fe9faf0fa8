/* outcome_decode: user.define_outcome as clients send it, with the extensions of its rubric.
 *
 * Pure but for the ids and the clock; loop thread, the second function store threads too.
 */
#ifndef OSTLER_API_OUTCOME_DECODE_H
#define OSTLER_API_OUTCOME_DECODE_H

#include "api/event_decode.h"

/* Sets outcome.rubric_file where the text is that of a file: then the body names the file, until
 * outcome_put_rubric(). */
int outcome_decode(struct arena *a, const struct json *v, const char *at, struct sent_event *out,
                   struct err *err) MUST_USE;
/* The text that was in the file. INVALID below `at`, the event's pointer, when it is none, or too
 * long. */
int outcome_put_rubric(struct arena *a, struct sent_event *e, struct str text, const char *at,
                       struct err *err) MUST_USE;

#endif
