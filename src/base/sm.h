/* sm: state machines as tables: each state with its name, flags, allowed next states and an
 * invariant that is checked on every move. After dqlite's lib/sm.h.
 *
 * Embedded in the object it describes; one thread. A move that the table does not allow is a defect
 * and aborts with both names.
 */
#ifndef OSTLER_BASE_SM_H
#define OSTLER_BASE_SM_H

#include <stdbool.h>
#include <stdint.h>

#define SM_BIT(s) (UINT64_C(1) << (s))

enum { SM_INITIAL = 1, SM_FINAL = 2 };

struct sm_state {
    const char *name;
    uint64_t allowed; /* SM_BIT of each next state */
    unsigned flags;
};

struct sm {
    const struct sm_state *states;
    const char *what;                               /* name of the machine */
    bool (*invariant)(const struct sm *, int prev); /* may be NULL */
    int state;
};

void sm_init(struct sm *m, const char *what, const struct sm_state *states,
             bool (*invariant)(const struct sm *, int prev), int state);
void sm_move(struct sm *m, int next);

static inline bool sm_may(const struct sm *m, int next)
{
    return m->states[m->state].allowed & SM_BIT(next);
}

static inline int sm_state(const struct sm *m)
{
    return m->state;
}

static inline const char *sm_name(const struct sm *m)
{
    return m->states[m->state].name;
}

#endif
