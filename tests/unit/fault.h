/* fault: the loops of tests that let the n-th chance to fail be taken, for n = 1, 2, 3, ... until
 * what is tested came through without meeting it. Include behind cmocka.h.
 */
#ifndef OSTLER_TESTS_FAULT_H
#define OSTLER_TESTS_FAULT_H

#include "base/err.h"

#include <stdatomic.h>
#include <stddef.h>

/* One kind of call that can be made to fail. Any thread. */
struct fault {
    atomic_long at;     /* the call that fails, counted from 1; 0: none */
    atomic_long calls;  /* so far */
    atomic_bool sticky; /* all later ones fail as well */
};

static inline void fault_arm(struct fault *f, long at, bool sticky)
{
    atomic_store(&f->calls, 0);
    atomic_store(&f->sticky, sticky);
    atomic_store(&f->at, at);
}

static inline bool fault_now(struct fault *f)
{
    long n = atomic_fetch_add(&f->calls, 1) + 1, at = atomic_load(&f->at);
    return at && (n == at || (n > at && atomic_load(&f->sticky)));
}

static inline bool fault_met(const struct fault *f)
{
    return atomic_load(&f->at) && atomic_load(&f->calls) >= atomic_load(&f->at);
}

/* Runs `run` with one call after the other failing, until none was met; returns how many were. */
static inline long fault_each(struct fault *f, bool sticky, void (*run)(void *arg), void *arg,
                              long max)
{
    for (long n = 1; n <= max; n++) {
        fault_arm(f, n, sticky);
        run(arg);
        bool met = fault_met(f);
        fault_arm(f, 0, false);
        if (!met)
            return n - 1;
    }
    fail_msg("still failing after %ld calls", max);
    return max;
}

/* Runs `run` with the bounds 0, step, 2 * step, ... until it succeeds; before that it must say that
 * a bound was reached. Returns the bound that was enough. */
static inline size_t fault_bounds(int (*run)(size_t max_bytes, void *arg, struct err *err),
                                  void *arg, size_t step, size_t max)
{
    for (size_t bound = 0; bound <= max; bound += step) {
        struct err err = {0};
        int rc = run(bound, arg, &err);
        if (rc == 0)
            return bound;
        if ((rc != ERR_LIMIT && rc != ERR_TOO_LARGE) || err.code != rc || !err.msg[0])
            fail_msg("with %zu bytes: %s (%d), '%s'", bound, err_name(rc), err.code, err.msg);
    }
    fail_msg("%zu bytes are not enough", max);
    return max;
}

#endif
