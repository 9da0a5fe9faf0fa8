/* rubric: what an outcome is graded by, read as a list of criteria.
 *
 * Pure. Each list item is a criterion, a nested one too; what stands in front of a nested list as
 * its heading is none, nor are Markdown headings. A text without lists has one criterion in each
 * paragraph.
 */
#ifndef OSTLER_CORE_RUBRIC_H
#define OSTLER_CORE_RUBRIC_H

#include "base/arena.h"

enum { RUBRIC_CRITERIA_MAX = 200 };

/* Views into `text`, without list marks and blanks around. At least one; what is past the bound
 * belongs to the last one. LIMIT: the arena is full. */
int rubric_criteria(struct arena *a, struct str text, struct str **out, size_t *n,
                    struct err *err) MUST_USE;
/* The opening words of a criterion: its first line, shortened at a word's end. */
struct str rubric_opening(struct str criterion);

#endif
