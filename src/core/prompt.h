/* prompt: the conversation as the provider sees it, grown by folding the log.
 *
 * Pure. Owned by a session's actor. Deterministic: the same events give the same bytes, so a
 * request after a resume has the same prefix as before (promise P9). Blocks are copied from event
 * bodies and transcripts as they stand; consecutive blocks of one role share a message.
 *
 * The context is kept small in two ways, both of them recorded in the log so that they come out the
 * same at the next fold: old tool results are cleared (the event that starts a request says below
 * which seq), and the whole conversation is compacted (agent.thread_context_compacted; its private
 * transcript is what stands in its place).
 */
#ifndef OSTLER_CORE_PROMPT_H
#define OSTLER_CORE_PROMPT_H

#include "base/arena.h"
#include "base/buf.h"
#include "core/event.h"
#include "core/ports.h"

enum prompt_role { PROMPT_NONE, PROMPT_USER, PROMPT_ASSISTANT, PROMPT_SYSTEM };

enum prompt_kind {
    PROMPT_TEXT,
    PROMPT_MEDIA, /* images, documents, whatever else has no text of its own */
    PROMPT_THINKING,
    PROMPT_TOOL_USE,
    PROMPT_TOOL_RESULT,
    PROMPT_LABEL,   /* our own words around what a compaction left */
    PROMPT_GAP,     /* a label that says that words of the user were left out here */
    PROMPT_SUMMARY, /* what the model wrote of the part that was compacted */
};

/* One content block: where it stands in the text and what is known of it. */
struct prompt_block {
    size_t at, len;
    int64_t seq;          /* of the event it came with */
    size_t id_end;        /* tool use and result: the bytes up to the end of the call's id */
    size_t media_bytes;   /* of `len`: what is not read as text */
    int64_t media_tokens; /* a guess for those */
    int64_t media;        /* images and documents in it */
    enum prompt_role role;
    enum prompt_kind kind;
    bool own;      /* text of a user.message */
    bool is_error; /* of a tool result */
    bool pre;      /* stands before the part that a compaction kept */
};

struct prompt {
    struct buf early;    /* system blocks from before the first user message */
    struct buf messages; /* "[{...},{...},{"role":"user","content":[...": the last one is open */
    size_t max_bytes;
    enum prompt_role open;
    bool comma; /* the open content array has an element */
    bool lost;  /* something was left out for want of room */
    struct prompt_block *blocks;
    size_t nblocks, blocks_cap;
    int64_t text_bytes, media, media_tokens;                /* sums over the blocks */
    int64_t measured_tokens, measured_text, measured_media; /* and how they were when measured */
};

void prompt_init(struct prompt *p, size_t max_bytes);
void prompt_fini(struct prompt *p);
/* Adds what the event means to the model; most types mean nothing. PARSE for a body or transcript
 * that is damaged: the prompt is as it was. What does not fit is told by prompt_messages(): the log
 * goes on. */
int prompt_fold(struct prompt *p, const struct event *e, struct err *err) MUST_USE;
/* The complete JSON array. Valid until the next call on the prompt. TOO_LARGE past the bound. */
int prompt_messages(struct prompt *p, struct str *out, struct err *err) MUST_USE;

/* ---- size ---- */
/* Of the conversation as it stands: bytes of JSON, and images and documents in it. */
void prompt_size(const struct prompt *p, int64_t *bytes, int64_t *media);
/* The last request and its answer, which is in the prompt by now, were so many tokens (system and
 * tools included). */
void prompt_measured(struct prompt *p, int64_t tokens);
/* About how many tokens a request would be now: what was measured, and a guess for the rest. */
int64_t prompt_tokens(const struct prompt *p);

/* ---- clearing old tool results ---- */
/* The seq below which results should be cleared before the next request; 0: leave them. In large
 * steps, because each one costs the provider's cache. */
int64_t prompt_clearable(const struct prompt *p, const struct model_facts *f);
void prompt_clear(struct prompt *p, int64_t below_seq);

/* ---- compaction ---- */
/* The next request comes too close to the model's context. */
bool prompt_should_compact(const struct prompt *p, const struct model_facts *f);
/* There is enough in it that compacting would make it smaller. */
bool prompt_can_compact(const struct prompt *p);
/* The same for a conversation that is known to be too long: then what nobody has answered yet may
 * go as well, but for the user's words in the bounds that hold for older ones. */
bool prompt_can_cut(const struct prompt *p);
/* The messages of a request that asks the model for a summary, in at most `max_bytes`: where that
 * is too little, tool results are cut first, then the middle is left out. Appends to `out`.
 * TOO_LARGE when not even the question fits. */
int prompt_summary_request(const struct prompt *p, size_t max_bytes, struct buf *out,
                           struct err *err) MUST_USE;
/* What stands for the conversation from now on, as the private transcript of
 * agent.thread_context_compacted: the user's and the operator's own words as they were (the newest
 * and the first, within bounds), the summary, and the newest exchange if it is small. `summary`
 * absent: none could be had, and the conversation is cut by rule. Where only the user's words are
 * left, half of them go: the context is smaller than their bounds. Lives in `a`. */
int prompt_compacted(const struct prompt *p, struct arena *a, struct str summary, struct str *out,
                     struct err *err) MUST_USE;

/* The user's own words, the first and the newest, in at most `max_bytes`: no tool results, nothing
 * that other agents wrote. Appends plain text to `out`. */
void prompt_user_text(const struct prompt *p, size_t max_bytes, struct buf *out);
/* The same of what the operator said in the conversation (system.message). */
void prompt_operator_text(const struct prompt *p, size_t max_bytes, struct buf *out);

#endif
