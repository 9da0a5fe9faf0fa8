/* feed: a session's events: the stream first, the history behind it, and both again whenever the
 * stream breaks.
 *
 * Loop thread; embedded by the item. No call-back after feed_close().
 */
#ifndef OSTLER_WORKER_FEED_H
#define OSTLER_WORKER_FEED_H

#include "http/sse_json.h"
#include "worker/wire.h"

struct feed {
    struct wire *wire;
    const char *session, *bearer; /* live as long as the feed */
    void (*list_begins)(struct feed *f);
    void (*event)(struct feed *f, const struct json *ev);
    void (*list_ends)(struct feed *f);
    /* There will be no more: the server refuses for good. */
    void (*dead)(struct feed *f, const struct err *err);

    /* private */
    struct http_call *stream;
    struct wire_call list;
    struct sse_json sse;
    struct loop_timer timer;
    struct buf held, error_body;
    char cursor[2048];
    unsigned failures;
    int status;
    bool listing, closing, told;
    void (*closed)(struct feed *f);
};

/* The call-backs are set; the rest is zero. */
void feed_start(struct feed *f);
void feed_close(struct feed *f, void (*closed)(struct feed *f));

#endif
