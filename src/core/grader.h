/* grader: what an independent grader is told, and how its verdict is read.
 *
 * Pure. The grader is an agent of its own with a fresh conversation for each evaluation. It is told
 * the task and the rubric, never what the worker said, and has tools in a copy of the files. Its
 * verdict is the input of one call: nothing in the files can give it in its place.
 */
#ifndef OSTLER_CORE_GRADER_H
#define OSTLER_CORE_GRADER_H

#include "core/agent.h"
#include "core/outcome.h"

#define GRADER_VERDICT_TOOL "submit_verdict"

/* The grader as an agent's snapshot, for agent_read(). Absent when the arena is full. */
struct str grader_agent(struct arena *a, struct str model);
/* The body of its first user.message without id and time: ,"content":[...]. `definition`: body of
 * the user.define_outcome; `criteria`: of rubric_criteria(). Absent when the arena is full. */
struct str grader_task(struct arena *a, const struct json *definition, const struct str *criteria,
                       size_t n);
/* Reads the input of the verdict's call. INVALID with what is wrong with it, for the grader. The
 * grade lives in `a`; its usage is not touched. */
int grader_verdict(struct arena *a, const struct json *input, const struct str *criteria, size_t n,
                   struct grade *out, struct err *err) MUST_USE;

#endif
