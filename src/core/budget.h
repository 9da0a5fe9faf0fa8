/* budget: what a session may spend: its budget and its limits, and the reservation before a
 * request.
 *
 * Pure values. Money is micro-dollars. A request is only sent when its worst case fits into what is
 * left (promise P7): the prompt is bounded by its bytes (a token is at least one byte) or by the
 * provider's own count, the answer by max_tokens, which is lowered to fit. What the request really
 * cost takes the reservation's place; of a request whose end nobody saw, the reservation stays
 * (session_usage.held_microusd).
 */
#ifndef OSTLER_CORE_BUDGET_H
#define OSTLER_CORE_BUDGET_H

#include "core/ports.h"
#include "core/usage.h"
#include "json/json.h"

/* 0: no such cap. */
struct caps {
    int64_t budget_microusd;                                       /* the published budget */
    int64_t max_turns, max_tokens, max_seconds, max_cost_microusd; /* our `limits` */
};

/* `limits`: the stored JSON object, or absent. */
void caps_read(struct caps *c, int64_t budget_microusd, struct str limits);
/* "budget", "max_turns", "max_tokens", "max_seconds", "max_cost_microusd": what lets no further
 * request start now; NULL: one may. max_turns counts turns that ended: it stops new turns only
 * (`new_turn`). */
const char *caps_reached(const struct caps *c, const struct session_usage *u, bool new_turn,
                         int64_t now_us);

/* The money that is left under the tightest cap; -1: none is capped. */
int64_t caps_money_left(const struct caps *c, const struct session_usage *u);

/* How large a request may be. */
struct request_size {
    int64_t bytes;   /* of system, tools and messages as JSON */
    int64_t media;   /* images and documents among them: they may be more tokens than bytes */
    int64_t counted; /* the provider's count of the prompt; 0: not asked yet; -1: it cannot say */
};

enum reserve {
    RESERVE_OK,
    RESERVE_COUNT, /* the bytes do not fit: ask the provider for the exact number, then again */
    RESERVE_STOP,  /* it does not fit */
};

struct reservation {
    int64_t microusd;   /* 0 where no money is capped */
    int64_t max_tokens; /* of the answer; 0: the model's own maximum */
    const char *limit;  /* RESERVE_STOP: which cap, named as by caps_reached() */
};

enum { BUDGET_MIN_ANSWER_TOKENS = 256 };

enum reserve budget_reserve(const struct caps *c, const struct session_usage *u,
                            const struct model_facts *f, const struct request_size *size,
                            struct reservation *out);

/* Why the budget must not become `new_budget_microusd` (0: removed, which is always fine): the
 * published reason "budget_create_only", "model_not_budgetable" or "budget_not_raised"; NULL: it
 * may. It is measured against the known cost, which clients see as list_cost: what is held for lost
 * requests only makes a low one be reached at once. */
const char *budget_change_refused(const struct caps *c, const struct session_usage *u,
                                  const struct model_facts *f, int64_t new_budget_microusd);

#endif
