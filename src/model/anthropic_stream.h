/* anthropic_stream: decodes one answer of the Messages API, as a stream of server-sent events or as
 * one JSON message, into core's result or failure. No I/O, so that it can be fuzzed.
 *
 * Embedded in the call it belongs to; loop thread. Bytes may come in any cut. The call-backs
 * block_start and text_delta run inside feed; done and failed are never called: the owner asks for
 * the outcome. A call-back may stop the decoder, but must not finish (free) it.
 */
#ifndef OSTLER_MODEL_ANTHROPIC_STREAM_H
#define OSTLER_MODEL_ANTHROPIC_STREAM_H

#include "core/ports.h"
#include "http/sse.h"
#include "json/json.h"

enum anthropic_state {
    ANTHROPIC_WAITING, /* message_start has not come */
    ANTHROPIC_OPEN,
    ANTHROPIC_DONE,    /* result is valid */
    ANTHROPIC_FAILED,  /* failure is valid */
    ANTHROPIC_STOPPED, /* by its owner: everything is ignored */
};

struct anthropic_block; /* being collected */

struct anthropic_stream {
    enum anthropic_state state;
    struct sse_reader sse;
    const struct model_callbacks *cb;
    void *arg;
    uint64_t fed_bytes;
    struct anthropic_block *blocks;
    size_t nblocks, cap_blocks, nresult; /* nresult: those that the result will hold */
    bool stop_known;
    bool fast; /* usage.speed says so */
    enum model_stop stop;
    struct buf category, explanation;
    bool has_category, has_explanation;
    struct model_block *out;
    struct model_usage usage; /* so far; unpriced until the owner prices it */
    struct model_result result;
    struct model_failure failure;
};

void anthropic_stream_init(struct anthropic_stream *s, const struct model_callbacks *cb, void *arg);
void anthropic_stream_fini(struct anthropic_stream *s); /* the result's views end here */

void anthropic_stream_feed(struct anthropic_stream *s, struct str bytes);
/* The answer as one JSON message instead of a stream; it is all there. */
void anthropic_stream_message(struct anthropic_stream *s, struct str json);
/* No more bytes come: what is not done by now was cut. `why` (may be NULL) goes into the message.
 */
void anthropic_stream_end(struct anthropic_stream *s, const char *why);
void anthropic_stream_stop(struct anthropic_stream *s);

static inline bool anthropic_stream_over(const struct anthropic_stream *s)
{
    return s->state >= ANTHROPIC_DONE;
}

/* ---- errors of the Messages API (anthropic_error.c) ---- */

/* What a status (0: none) and the API's error type and message mean, with the remedy. Fills kind,
 * http_status and message; leaves the rest. */
void anthropic_error_set(struct model_failure *f, int status, struct str type, struct str message);
/* From a response body, which may be anything. */
void anthropic_error_body(struct model_failure *f, int status, struct str body);
/* Formats into f->message as printable text, cut on a code point. */
void anthropic_error_text(struct model_failure *f, const char *fmt, ...) PRINTF(2, 3);
/* Milliseconds from `retry-after-ms`, or `retry-after` (seconds or an HTTP date), both may be
 * absent; 0 when neither says anything; at most LIMIT_RETRY_AFTER_MS. */
int64_t anthropic_retry_after(struct str ms, struct str after, int64_t now_unix_us);

#endif
