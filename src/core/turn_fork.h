/* turn_fork: how a copy of a log that ends in the middle of something comes to rest.
 *
 * Pure, like turn.h. The copy's turn was made by folding the events up to the point; what the
 * original did next is not part of it, and nothing of it is under way here.
 */
#ifndef OSTLER_CORE_TURN_FORK_H
#define OSTLER_CORE_TURN_FORK_H

#include "core/turn.h"

/* Nothing goes on from here by itself: idle, and no call was answered since. Calls that wait for
 * their client wait on. */
bool turn_rests(const struct turn *t);
/* The events that bring a turn to rest; none where it rests. A request that is in flight ends as
 * one whose answer nobody sees, without cost: whoever sent it pays. Open calls, and work towards an
 * outcome, end as interrupted ones. For a turn that is not terminated. */
void turn_cut(struct turn *t, struct turn_step *s);

#endif
