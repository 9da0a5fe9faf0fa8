/* compact: what prompt.c, compact.c and summary.c share; nobody else includes this.
 *
 * prompt.c keeps the text and its table of blocks, compact.c makes and folds the transcript of a
 * compaction, summary.c asks for a summary. All pure, all on the prompt's thread.
 */
#ifndef OSTLER_CORE_COMPACT_H
#define OSTLER_CORE_COMPACT_H

#include "core/prompt.h"
#include "json/json.h"

/* A view of a constant array of char. */
#define LITERAL(a) ((struct str){(a), sizeof(a) - 1})

/* ---- prompt.c ---- */
/* Drops everything that was folded; the bound stays. */
void prompt_reset(struct prompt *p);
/* Appends a text block of the user's role that no event holds as it is. */
void prompt_put_words(struct prompt *p, enum prompt_kind kind, int64_t seq, struct str text);
/* Appends a block that a transcript holds. */
void prompt_put_kept(struct prompt *p, enum prompt_role role, int64_t seq,
                     const struct json *block);
/* An array with nothing but objects in it. */
bool prompt_is_content(const struct json *v);
const char *prompt_role_name(enum prompt_role role);

static inline struct str prompt_raw(const struct prompt *p, const struct prompt_block *b)
{
    return str_n(p->messages.data + b->at, b->len);
}

/* ---- compact.c ---- */
/* Replaces the prompt by what the event's transcript says. PARSE: it is damaged, nothing changed.
 */
int context_fold(struct prompt *p, const struct event *e, struct err *err) MUST_USE;
/* Which of the blocks from `from` on a provider takes as a conversation of their own: tool uses
 * with their results directly behind them, no answer that only thought. One flag for each block of
 * the prompt, in `a`; NULL past its bound. */
bool *context_keep(const struct prompt *p, size_t from, struct arena *a);
/* The decoded text of a text block; borrows the prompt and `a`. */
struct str context_text(const struct prompt *p, const struct prompt_block *b, struct arena *a);

/* Messages written block by block, closed by context_close(). */
struct context_writer {
    struct buf *buf;
    enum prompt_role open;
};
void context_put(struct context_writer *w, enum prompt_role role, struct str raw);
void context_put_words(struct context_writer *w, struct str text);
void context_close(struct context_writer *w);

#endif
