/* budget_decode: `budget` and `limits` as clients set them, on sessions and as an agent's default,
 * and what may be sent to a session that has reached one of them.
 *
 * Pure but for the clock, which limits of time ask; any thread.
 */
#ifndef OSTLER_API_BUDGET_DECODE_H
#define OSTLER_API_BUDGET_DECODE_H

#include "engine/engine.h"
#include "model/model.h"
#include "store/store.h"

/* {"type":"limit","max_list_cost":{"amount":"2500","currency":"USD"}}: cents. Absent and null: 0.
 * INVALID below "/budget". */
int budget_decode(const struct json *v, int64_t *microusd, struct err *err) MUST_USE;
/* {"max_turns","max_tokens","max_seconds","max_cost_microusd"}: positive integers or null. *out:
 * compact JSON of those that are set; absent when none is. INVALID below `at`. */
int limits_decode(struct arena *a, const struct json *v, const char *at, struct str *out,
                  struct err *err) MUST_USE;

/* What is known of the model that an agent's snapshot names. */
struct model_facts budget_model_facts(const struct model_port *models, struct str agent);
/* INVALID with error_code model_not_budgetable when money is capped and the model has no price. */
int budget_check_create(const struct session_row *row, const struct model_facts *facts,
                        struct err *err) MUST_USE;

/* Of the change only budget and limits. INVALID with error_code budget_create_only,
 * budget_not_raised or model_not_budgetable. */
int budget_check_update(const struct session_row *row, const struct model_facts *facts,
                        const struct engine_change *change, struct err *err) MUST_USE;

/* INVALID when the session is at its budget or a limit and one of the events is none of those that
 * it takes there. */
int budget_check_events(const struct session_row *row, const enum event_type *types, size_t n,
                        struct err *err) MUST_USE;
/* At its budget or a limit the session rests already: an interrupt is answered, but not kept. */
bool budget_ignores_interrupt(const struct session_row *row);

#endif
