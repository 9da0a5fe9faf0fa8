/* sse: server-sent events, read and written. Pure; any thread. */
#ifndef OSTLER_HTTP_SSE_H
#define OSTLER_HTTP_SSE_H

#include "base/buf.h"

struct sse_event {
    struct str type; /* "message" when the stream names none */
    struct str id;   /* last id seen, may be empty */
    struct str data; /* lines joined by '\n' */
};

struct sse_reader {
    struct buf line, data, type, id;
    bool cr; /* the last byte was CR: a following LF belongs to it */
    bool started;
    void (*on_event)(void *arg, const struct sse_event *ev);
    void *arg;
};

/* `max` bounds one event. */
void sse_reader_init(struct sse_reader *r, size_t max,
                     void (*on_event)(void *arg, const struct sse_event *ev), void *arg);
void sse_reader_fini(struct sse_reader *r);
/* Feeds bytes in any cut; calls on_event for each complete event (its views are valid during the
 * call, in which the reader must not be ended). TOO_LARGE past the bound, and from then on. */
int sse_reader_feed(struct sse_reader *r, struct str bytes, struct err *err) MUST_USE;

/* "event: TYPE\nid: ID\ndata: ...\n\n"; an absent id leaves its line out. Data must hold no CR or
 * LF (JSON text never does). */
void sse_write(struct buf *b, struct str type, struct str id, struct str data);

#endif
