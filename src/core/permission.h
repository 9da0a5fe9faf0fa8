/* permission: what the policy `auto` decides about a tool call: rules first, then a judge.
 *
 * Pure. The judge is a model of the operator's choice. It sees the user's words, the operator's
 * (what the agent is for, and its system messages) and the calls; it never sees tool output, web
 * pages or messages of other agents, so that those cannot talk it into anything. Whatever is not a
 * clear verdict asks or denies, never allows.
 *
 * It is asked with one user message whose text is a JSON object {purpose, operator, user, calls:
 * [{call, tool, input (JSON text), input_is_cut}]}, and answers {"verdicts": [{"call": 1,
 * "verdict": "allow" | "ask" | "deny"}]}.
 */
#ifndef OSTLER_CORE_PERMISSION_H
#define OSTLER_CORE_PERMISSION_H

#include "core/agent.h"
#include "core/ports.h"
#include "core/prompt.h"

enum verdict { VERDICT_NONE, VERDICT_ALLOW, VERDICT_ASK, VERDICT_DENY };

/* About one block of a response; VERDICT_NONE for blocks that no `auto` policy concerns. */
struct judgement {
    enum verdict verdict;
    const char *reason_code; /* "high_risk", "indeterminate", ...; NULL: none */
};

/* One judgement for each block of `r` (array of r->nblocks from `a`), as far as rules decide; the
 * others become VERDICT_ASK, indeterminate: these are the open ones, *open of them. NULL past the
 * arena's bound. */
struct judgement *permission_rules(struct arena *a, const struct agent *ag,
                                   const struct model_result *r, size_t *open);
/* The request to the judge about the open ones, but for session_id and request_number. Everything
 * in it but `model` lives in `a`. LIMIT past the arena's bound. */
int permission_request(struct arena *a, const struct agent *ag, const struct prompt *p,
                       const struct model_result *r, const struct judgement *j, struct str model,
                       struct model_request *out, struct err *err) MUST_USE;
/* Takes the judge's answer into `j`; what it leaves unclear stays as the rules left it. `j` as it
 * was for the request. */
void permission_answer(const struct model_result *r, const struct model_result *answer,
                       struct judgement *j);
/* There was no judge to ask for want of money: the open ones are denied. */
void permission_unaffordable(const struct model_result *r, struct judgement *j);

#endif
