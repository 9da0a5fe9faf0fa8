/* text: making tool output fit for a model: escapes out, valid UTF-8, bounded, the rest in a file.
 *
 * Used by the hand's one thread and by its short-lived children; everything is the caller's.
 */
#ifndef OSTLER_HAND_TEXT_H
#define OSTLER_HAND_TEXT_H

#include "base/buf.h"

/* Appends `in` as valid UTF-8 without NUL (both become U+FFFD); with `strip` also without terminal
 * escape sequences. */
void text_clean(struct buf *out, struct str in, bool strip);
/* The longest suffix of at most `max` bytes that does not begin inside a code point. */
struct str text_tail(struct str s, size_t max);
struct str text_trim_newlines(struct str s); /* at the end */

/* A file that takes what does not fit a result. Opened when first needed; gives up for good on the
 * first error (a full disk must not turn a result into a failure). */
struct spill {
    int fd; /* -1: none yet */
    bool failed;
    uint64_t len;
    char path[512];
};

void spill_init(struct spill *s, const char *dir, const char *id);
void spill_put(struct spill *s, struct str data);
void spill_close(struct spill *s);

/* Replaces a text of more than LIMIT_SPILL_CHARS by its beginning, how long it was and the path of
 * the whole, which is written to dir/id.txt. `text` is valid UTF-8. */
void text_preview(struct buf *text, const char *dir, const char *id);

enum { TEXT_PREVIEW = 16000 }; /* bytes of a text that are shown when it went to a file */

#endif
