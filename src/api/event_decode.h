/* event_decode: events that clients send, checked and turned into the text that is stored and
 * served: {"id":...,"type":...,"processed_at":null, the rest}. Pure but for the ids; loop thread.
 */
#ifndef OSTLER_API_EVENT_DECODE_H
#define OSTLER_API_EVENT_DECODE_H

#include "core/event.h"
#include "json/writer.h"

struct sent_event {
    struct event event;   /* id, type and body; seq and processed_us 0 */
    struct str thread_id; /* an interrupt of one thread; else absent */
    struct str answers;   /* the tool use that it answers or confirms; else absent */
};

/* `list` has been checked to be an array within its bounds. All or nothing. `initial`: only what
 * a session may be created with. */
int events_decode(struct arena *a, const struct json *list, bool initial, const char *at,
                  struct sent_event **out, struct err *err) MUST_USE;

#endif
