/* rubric_words: a criterion as words, and what can be told of them. Private to rubric_lint.
 *
 * Pure; lives in the arena of one rubric_lint().
 */
#ifndef OSTLER_CORE_RUBRIC_WORDS_H
#define OSTLER_CORE_RUBRIC_WORDS_H

#include "base/arena.h"

enum { RUBRIC_WORDS_MAX = 400, RUBRIC_WORD_LEN = 24 };

struct rubric_word {
    struct str text;             /* in the criterion */
    char low[RUBRIC_WORD_LEN];   /* lower case; "" for code, quotations and long words */
    bool strong;                 /* code, a quotation, a number, a path, an identifier */
    bool named;                  /* an acronym or a proper name: README, JSON, GitHub */
    bool comma, semicolon, stop; /* stands behind it */
};

/* Words of a criterion, at most RUBRIC_WORDS_MAX. */
size_t rubric_words(struct str criterion, struct rubric_word *out);
/* Whether `word` is one of `set`, words with blanks between. */
bool rubric_in(const char *set, const char *word);

/* Something is named that one can look at or run. */
bool rubric_observable(const struct rubric_word *w, size_t n);
/* Enough of it is English to be judged by lists of English words. */
bool rubric_english(const struct rubric_word *w, size_t n);
/* There is a number. */
bool rubric_measured(const struct rubric_word *w, size_t n);
/* It says what something contains, or names something exactly. */
bool rubric_exact(const struct rubric_word *w, size_t n);

enum rubric_verb { VERB_NONE, VERB_STATE, VERB_RUNTIME };
/* Whether a finite verb stands at `i`: RUNTIME for what one run of a program shows. */
enum rubric_verb rubric_verb_at(const struct rubric_word *w, size_t n, size_t i);
bool rubric_subordinates(const struct rubric_word *w, size_t n, size_t i);
bool rubric_imperative(const struct rubric_word *w, size_t n, size_t i);

#endif
