/* answer: one answer of a model being collected: its blocks, usage and end, whatever protocol
 * carries them, and in the end core's result or failure. No I/O, so that it can be fuzzed.
 *
 * Embedded in the call it belongs to; loop thread. Bytes may come in any cut. A decoder
 * (anthropic_stream.c, openai_stream.c) says what the events mean. The call-backs block_start and
 * text_delta run inside feed; done and failed are never called: the owner asks for the outcome. A
 * call-back may stop the answer, but must not finish (free) it.
 */
#ifndef OSTLER_MODEL_ANSWER_H
#define OSTLER_MODEL_ANSWER_H

#include "core/ports.h"
#include "http/sse.h"
#include "json/json.h"
#include "model/failure.h"

enum answer_state {
    ANSWER_WAITING, /* nothing of it has come */
    ANSWER_OPEN,
    ANSWER_DONE,    /* result is valid */
    ANSWER_FAILED,  /* failure is valid */
    ANSWER_STOPPED, /* by its owner: everything is ignored */
};

enum answer_kind {
    ANSWER_TEXT,
    ANSWER_THINKING,
    ANSWER_REDACTED,
    ANSWER_TOOL,
    ANSWER_SKIPPED, /* not in the result */
};

struct answer_block {
    int64_t wire_index; /* the decoder's own */
    enum answer_kind kind;
    bool stopped;
    /* TEXT: text. THINKING: the inside of its JSON string, escapes untouched. REDACTED: the whole
     * block. TOOL: the input's JSON. */
    struct buf body;
    struct buf signature; /* THINKING: the inside of its JSON string; TOOL: the name */
    struct buf first;     /* TOOL: the input that came with the start of the call, or its wire id */
    bool input_malformed;
    size_t index; /* in the result */
};

struct answer;

/* A protocol's decoder. */
struct answer_decoder {
    /* One server-sent event. */
    void (*event)(struct answer *s, struct str type, struct str data);
    /* The answer as one JSON document instead of a stream. */
    void (*message)(struct answer *s, const struct json *doc);
    /* Not NULL where the mark behind the stream is optional: once `stop_known` is set, an answer
     * that ends is complete, and this makes the result. */
    void (*finish)(struct answer *s);
};

struct answer {
    const struct answer_decoder *decoder;
    const struct failure_names *names; /* for remedies; or NULL */
    enum answer_state state;
    struct sse_reader sse;
    const struct model_callbacks *cb;
    void *arg;
    uint64_t fed_bytes, said_bytes; /* said: of text, thinking and inputs */
    struct answer_block *blocks;
    size_t nblocks, cap_blocks, nresult; /* nresult: those that the result will hold */
    bool stop_known, usage_known;
    bool fast; /* the provider says that it served the request in fast mode */
    enum model_stop stop;
    struct buf category, explanation;
    bool has_category, has_explanation;
    struct model_block *out;
    struct model_usage usage; /* so far; unpriced until the owner prices it */
    struct model_result result;
    struct model_failure failure;
};

void answer_init(struct answer *s, const struct answer_decoder *decoder,
                 const struct model_callbacks *cb, void *arg);
void answer_fini(struct answer *s); /* the result's views end here */

void answer_feed(struct answer *s, struct str bytes);
/* The answer as one JSON document instead of a stream; it is all there. */
void answer_message(struct answer *s, struct str json);
/* No more bytes come: what is not complete by now was cut. `why` (may be NULL) goes into the
 * message. */
void answer_end(struct answer *s, const char *why);
void answer_stop(struct answer *s);

static inline bool answer_over(const struct answer *s)
{
    return s->state >= ANSWER_DONE;
}

/* Complete, but more may come (the count of tokens): the owner should not wait for long. */
static inline bool answer_settled(const struct answer *s)
{
    return s->state == ANSWER_OPEN && s->stop_known && s->decoder->finish;
}

/* ---- for decoders ---- */

/* The event's data as an object in `a`; NULL and garbled when it is none. */
const struct json *answer_json(struct answer *s, struct arena *a, struct str data);
void answer_garbled(struct answer *s, const char *what);
/* NULL and garbled when there are too many. May move the blocks. Announce it once it is filled. */
struct answer_block *answer_open(struct answer *s, enum answer_kind kind, int64_t wire_index);
void answer_announce(struct answer *s, const struct answer_block *b);
void answer_text(struct answer *s, struct answer_block *b, struct str text);
/* Appends the inside of a JSON string as it was sent: pieces can be joined without decoding. */
void answer_inside(struct answer *s, struct buf *to, const struct json *string);
void answer_input(struct answer *s, struct answer_block *b, struct str json);
void answer_close(struct answer_block *b);
void answer_explain(struct answer *s, struct str category, struct str explanation);
/* Reads a count of tokens; false when there is no credible one. */
bool answer_count(const struct json *usage, const char *name, int64_t *out);
/* Everything is there: makes the result. */
void answer_finish(struct answer *s);
/* True for the text of one JSON object. */
bool answer_is_object(struct str json);
void answer_one_line(struct buf *json);

#endif
