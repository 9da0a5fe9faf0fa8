/* check: the executable criteria of a rubric: what is run, and what its output means. Private to
 * engine/, but for check_pattern(). Pure, but for the regular expressions, which have a bound on
 * their work.
 */
#ifndef OSTLER_ENGINE_CHECK_H
#define OSTLER_ENGINE_CHECK_H

#include "core/outcome.h"

enum { CHECK_MARK = 33 };

/* The input of the bash tool that runs the check (an entry of the rubric's `checks`). `mark`:
 * unguessable, in hex. Absent when the arena is full. */
struct str check_input(struct arena *a, const struct json *check, const char mark[CHECK_MARK]);
/* What came of it. Lives in `a`. */
struct criterion check_judge(struct arena *a, const struct json *check, const char mark[CHECK_MARK],
                             const struct tool_outcome *o);
/* INVALID with what is wrong with a pattern of expect_stdout_matches. */
int check_pattern(struct str pattern, struct err *err) MUST_USE;

#endif
