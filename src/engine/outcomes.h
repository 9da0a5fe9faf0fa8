/* outcomes: how the outcomes of a session stand, as clients see them. Private to engine/.
 *
 * Loop thread. Kept beside the session's head (session_row.outcomes), changed in the commit whose
 * events change it.
 */
#ifndef OSTLER_ENGINE_OUTCOMES_H
#define OSTLER_ENGINE_OUTCOMES_H

#include "engine/actor.h"

/* What the step's events make of them, for its commit. */
void outcomes_commit(struct actor *a);
/* The step ends the last turn of the newest one: no event says what was left. */
void outcomes_closed(struct actor *a, const struct grade *g);

#endif
