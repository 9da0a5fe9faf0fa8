/* rubric_lint: which criteria of a rubric cannot be judged as they are written, and why.
 *
 * Pure. A look at words, for English: it says too little rather than too much. What it finds is
 * advice for whoever writes the rubric; nothing is graded by it.
 */
#ifndef OSTLER_CORE_RUBRIC_LINT_H
#define OSTLER_CORE_RUBRIC_LINT_H

#include "base/arena.h"

enum rubric_problem {
    RUBRIC_VAGUE,         /* a word that everybody measures differently */
    RUBRIC_NO_OBSERVABLE, /* nothing that one could look at or run */
    RUBRIC_TWO_IN_ONE,    /* one verdict for two demands */
    RUBRIC_EMPTY,
    RUBRIC_DUPLICATE,
};
extern const char *const rubric_problems[5]; /* vague, no_observable, two_in_one, ... */

enum { RUBRIC_FINDINGS_MAX = 1000 };

struct rubric_finding {
    enum rubric_problem problem;
    size_t criterion;   /* counted from 0; RUBRIC_NO_CRITERION: a mark without text */
    size_t other;       /* RUBRIC_DUPLICATE: of which one */
    struct str words;   /* at fault: a view into the text */
    const char *advice; /* what to write instead */
};
#define RUBRIC_NO_CRITERION ((size_t)-1)

/* `criteria`: of rubric_criteria(), views into `text`. In their order, at most RUBRIC_FINDINGS_MAX.
 * LIMIT: the arena is full. */
int rubric_lint(struct arena *a, struct str text, const struct str *criteria, size_t n,
                struct rubric_finding **out, size_t *nout, struct err *err) MUST_USE;

#endif
