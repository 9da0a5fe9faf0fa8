/* verdict: what a grader found, as text for people: one line a criterion, its evidence below.
 *
 * Pure; any thread. Shared by the transcript and `ostler outcome`.
 */
#ifndef OSTLER_CLI_VERDICT_H
#define OSTLER_CLI_VERDICT_H

#include "cli/term.h"
#include "json/json.h"

/* An outcome's result in words: "needs revision", in the style that suits it. */
void verdict_result(const struct term *t, struct buf *out, struct str result);
/* `criteria`: [{name, verdict, comment?, evidence?}]; where a server tells none, the explanation.
 * Each line behind `lead`; `lines` of evidence at most, 0: all. */
void verdict_criteria(const struct term *t, struct buf *out, const struct json *criteria,
                      struct str explanation, const char *lead, size_t lines);
/* "1.2k tokens, $0.0123" of a span.outcome_evaluation_end; the money only where it is told. */
void verdict_spent(struct buf *out, const struct json *end);
int64_t verdict_cost(const struct json *end); /* in micro-dollars; -1: not told */
int64_t verdict_tokens(const struct json *usage);

#endif
