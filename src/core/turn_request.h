/* turn_request: the next request to the model. Private to core/turn*.c. */
#ifndef OSTLER_CORE_TURN_REQUEST_H
#define OSTLER_CORE_TURN_REQUEST_H

#include "core/turn_emit.h"

/* Takes what waits in the inbox into the conversation, then: sends the request, or has its tokens
 * counted, or makes the context smaller first, or stops the turn at a cap. */
void request_start(struct turn *t, struct turn_step *s);
void request_stop_at_cap(struct turn *t, struct turn_step *s, const char *cap);

/* Compacting would help, and has not been tried too often in a row. */
bool request_may_compact(const struct turn *t);
void request_compact(struct turn *t, struct turn_step *s);
/* The summary is there; absent: none can be had. The turn goes on. */
void request_compacted(struct turn *t, struct turn_step *s, struct str summary);
/* Even the request for a summary was too long: once more with half of it. */
void request_compaction_overflowed(struct turn *t, struct turn_step *s);
void request_compaction_limit(struct turn *t, struct turn_step *s);
/* The turn ends after an error; what waits is taken into the log, so that it is not lost. */
void request_exhausted(struct turn *t, struct turn_step *s);

/* turn_step.c: user and system messages of the inbox become part of the log. */
void turn_take_messages(struct turn *t, struct turn_step *s);
/* Every open call gets the result that an interrupt gives; those that run are to be cancelled. */
void turn_close_calls(struct turn *t, struct turn_step *s);
/* turn.c: what was hashed of the conversation is no prefix of it any more. */
void turn_forget_digest(struct turn *t);

#endif
