/* outcome_list: how the outcomes of a session stand, as clients see them: the text of
 * session_row.outcomes, an array with an entry for each user.define_outcome, oldest first.
 *
 * Pure. The text is written by the acceptance of a definition and by every commit whose events
 * change it, each in its transaction; a fork makes its own out of the events that it copies.
 */
#ifndef OSTLER_CORE_OUTCOME_LIST_H
#define OSTLER_CORE_OUTCOME_LIST_H

#include "base/buf.h"
#include "core/event.h"

enum {
    OUTCOME_LIST_MAX = 1000,                    /* entries */
    OUTCOME_LIST_BYTES = 8 * 1024 * 1024,       /* about: then the oldest say less */
    OUTCOME_LIST_ROOM = OUTCOME_LIST_BYTES * 4, /* bound of the buffer that holds one */
};

/* In all of them `list` is the text, empty for none, and is changed in place. CORRUPT when it
 * cannot be read. */

/* One was accepted: an entry that is pending. `definition`: body of the event. INVALID when another
 * one has not ended, or when there are too many. */
int outcome_list_define(struct buf *list, struct str definition, struct err *err) MUST_USE;
/* What these events of the log make of it. */
int outcome_list_apply(struct buf *list, const struct event *events, size_t n,
                       struct err *err) MUST_USE;
/* What the last turn of one left was graded: {"result","criteria"}. */
int outcome_list_close(struct buf *list, struct str outcome_id, struct str closing,
                       struct err *err) MUST_USE;
/* The same for the newest one, as it stands in another list that has it. */
int outcome_list_close_as(struct buf *list, struct str other, struct err *err) MUST_USE;

/* Events that change a list. */
bool outcome_list_reads(enum event_type type);

#endif
