/* prompt: the conversation as the provider sees it, grown by folding the log.
 *
 * Pure. Owned by a session's actor. Deterministic: the same events give the same bytes, so a
 * request after a resume has the same prefix as before (promise P9). Blocks are copied from event
 * bodies and transcripts as they stand; consecutive blocks of one role share a message.
 */
#ifndef OSTLER_CORE_PROMPT_H
#define OSTLER_CORE_PROMPT_H

#include "base/buf.h"
#include "core/event.h"

enum prompt_role { PROMPT_NONE, PROMPT_USER, PROMPT_ASSISTANT };

struct prompt {
    struct buf messages; /* "[{...},{...},{"role":"user","content":[...": the last one is open */
    enum prompt_role open;
    bool comma; /* the open content array has an element */
};

void prompt_init(struct prompt *p, size_t max_bytes);
void prompt_fini(struct prompt *p);
/* Adds what the event means to the model; most types mean nothing. PARSE for a body that is
 * damaged. What does not fit is told by prompt_messages(): the log goes on. */
int prompt_fold(struct prompt *p, const struct event *e, struct err *err) MUST_USE;
/* The complete JSON array. Valid until the next call on the prompt. TOO_LARGE past the bound. */
int prompt_messages(struct prompt *p, struct str *out, struct err *err) MUST_USE;

#endif
