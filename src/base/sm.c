#include "base/sm.h"

#include <stdio.h>
#include <stdlib.h>

static void check(const struct sm *m, int prev)
{
    if (m->invariant && !m->invariant(m, prev)) {
        fprintf(stderr, "ostler: %s: invariant broken in %s\n", m->what, sm_name(m));
        abort();
    }
}

void sm_init(struct sm *m, const char *what, const struct sm_state *states,
             bool (*invariant)(const struct sm *, int prev), int state)
{
    *m = (struct sm){.states = states, .what = what, .invariant = invariant, .state = state};
    check(m, state);
}

void sm_move(struct sm *m, int next)
{
    int prev = m->state;
    if (!(m->states[prev].allowed & SM_BIT(next))) {
        fprintf(stderr, "ostler: %s: no move from %s to %s\n", m->what, m->states[prev].name,
                m->states[next].name);
        abort();
    }
    m->state = next;
    check(m, prev);
}
