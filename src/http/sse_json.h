/* sse_json: a stream of events whose data are JSON objects, as those of a session are.
 *
 * Pure; any thread; embedded by whoever reads the stream. Events of type "ping" and those without
 * data are passed over; one of type "error" breaks the stream, as does what cannot be read.
 */
#ifndef OSTLER_HTTP_SSE_JSON_H
#define OSTLER_HTTP_SSE_JSON_H

#include "http/sse.h"
#include "json/json.h"

struct sse_json {
    struct sse_reader reader;
    struct arena arena; /* of the event that is passed on; the caller's in between */
    struct err broken;  /* why nothing more is read; code 0: it is not broken */
    void (*event)(void *arg, const struct json *ev);
    void *arg;
};

void sse_json_init(struct sse_json *s, void (*event)(void *arg, const struct json *ev), void *arg);
void sse_json_fini(struct sse_json *s);
/* For the stream's next connection. */
void sse_json_restart(struct sse_json *s);
/* Feeds bytes in any cut. False when the stream is broken now, or was before. From inside event()
 * the reader must be neither fed nor restarted. */
bool sse_json_feed(struct sse_json *s, struct str bytes);

#endif
