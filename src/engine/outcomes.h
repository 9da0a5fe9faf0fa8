/* outcomes: how the outcomes of a session stand, as clients see them. Private to engine/.
 *
 * Kept beside the session's head (session_row.outcomes), changed in the commit whose events change
 * it: out of what is stored then, because one that is accepted is put there by the API.
 */
#ifndef OSTLER_ENGINE_OUTCOMES_H
#define OSTLER_ENGINE_OUTCOMES_H

#include "engine/actor.h"

/* What the step's events make of them, for its append. Store thread, in the commit's transaction.
 */
int outcomes_commit(struct store_tx *tx, struct commit *c, struct err *err) MUST_USE;
/* The step ends the last turn of the newest one: no event says what was left. Loop thread. */
void outcomes_closed(struct actor *a, const struct grade *g);
/* Evaluations that have ended, by result. Loop thread. */
void outcomes_count(struct engine_stats *stats, const struct turn_step *s);

#endif
