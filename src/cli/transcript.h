/* transcript: a session's events as text that a person reads while they come.
 *
 * Pure but for the buffer it appends to; one thread. Whoever owns it writes `out` away and clears
 * it. Nothing that an agent says reaches the terminal unfiltered (term.h).
 */
#ifndef OSTLER_CLI_TRANSCRIPT_H
#define OSTLER_CLI_TRANSCRIPT_H

#include "base/map.h"
#include "cli/follow.h"
#include "cli/term.h"

struct transcript {
    struct term term;
    struct buf out;
    bool show_user; /* print user messages too */

    /* totals, as far as the events tell them */
    int64_t input_tokens, output_tokens, cache_tokens, model_requests, tool_calls;
    int64_t cost_microusd; /* -1: not told yet */
    bool cost_in_cents;    /* rounded to cents by the server */

    /* private */
    char preview_id[64];
    size_t preview_shown; /* bytes of its text that were printed */
    bool mid_line;
    bool gap;         /* a tool's result was the last thing: what the agent says stands apart */
    struct map calls; /* tool use id: struct transcript_call */
};

void transcript_init(struct transcript *t, struct term term);
void transcript_fini(struct transcript *t);
void transcript_event(struct transcript *t, const struct follow_event *ev);
/* A line of the program's own between the events, in a style. */
void transcript_note(struct transcript *t, enum term_style style, const char *fmt, ...)
    PRINTF(3, 4);
/* The connection broke: a preview that was cut off is finished by the final event or starts again.
 */
void transcript_break(struct transcript *t);

#endif
