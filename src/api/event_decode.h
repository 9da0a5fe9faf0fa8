/* event_decode: events that clients send, checked and turned into the text that is stored and
 * served: {"id":...,"type":...,"processed_at":null, the rest}, for a user.define_outcome with the
 * time of its receipt. Pure but for the ids and that time; loop thread.
 */
#ifndef OSTLER_API_EVENT_DECODE_H
#define OSTLER_API_EVENT_DECODE_H

#include "core/event.h"
#include "json/writer.h"

struct sent_event {
    struct event event;         /* id, type and body; seq and processed_us 0 */
    struct str thread_id;       /* an interrupt of one thread; else absent */
    struct str answers;         /* the tool use that it answers or confirms; else absent */
    const struct json *content; /* its blocks; NULL: it has none */
    size_t nfiles;              /* blocks whose source is a file: event.transcript is to hold the
                                   blocks with the files' bytes in them (see sources.h) */
    size_t ndocuments;          /* those of them that are documents */
    struct {                    /* of a user.define_outcome (see outcome_decode.h) */
        const struct json *definition;
        struct id id;
        struct str rubric_file; /* whose text is to be put in; else absent */
        int64_t received_us;
    } outcome;
};

/* `list` has been checked to be an array within its bounds. All or nothing. `initial`: only what
 * a session may be created with. A system.message is in its place among the others; whether the
 * session's state and model take it is the caller's to look at. */
int events_decode(struct arena *a, const struct json *list, bool initial, const char *at,
                  struct sent_event **out, struct err *err) MUST_USE;

#endif
