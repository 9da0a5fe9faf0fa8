/* gate: how many calls of one provider run at a time, and how fast new ones begin. Those that must
 * wait are served in turns, one session after the other, so that a session with many calls does not
 * starve the rest. Waiting is no error and has no end of its own.
 *
 * Loop thread. Owned by its provider; a waiter is embedded in the call that waits. No `go` runs
 * inside gate_enter(); it may run inside gate_leave() of another waiter.
 */
#ifndef OSTLER_MODEL_GATE_H
#define OSTLER_MODEL_GATE_H

#include "base/err.h"
#include "base/list.h"
#include "base/str.h"

struct loop;
struct gate;
struct gate_session;

struct gate_limits { /* 0: none */
    int64_t max_concurrent, requests_per_minute, tokens_per_minute;
};

struct gate_wait {
    struct list link; /* of its session's queue */
    struct gate_session *session;
    void (*go)(struct gate_wait *w);
    int64_t tokens; /* taken, or to be taken */
    bool waiting, inside;
};

struct gate *gate_new(struct loop *l, const struct gate_limits *limits);
void gate_free(struct gate *g); /* nobody may be in it; its timer closes on the loop */
/* True: it is inside and may go on at once. False: `go` is called when it is. `tokens` is an
 * estimate of what the call will use. */
bool gate_enter(struct gate *g, struct gate_wait *w, struct str session_id, int64_t tokens,
                void (*go)(struct gate_wait *w)) MUST_USE;
/* Inside: makes room, and corrects the estimate by what was used (negative: unknown, it stands).
 * Waiting: gives up the place. Neither: harmless. */
void gate_leave(struct gate *g, struct gate_wait *w, int64_t used_tokens);
size_t gate_waiting(const struct gate *g);

/* ---- a token bucket; a value, pure ---- */

struct bucket {
    int64_t per_minute; /* 0: no limit */
    int64_t level;      /* in 1/60000 of a token; negative: a debt */
    int64_t at_ms;
};
/* Full: it holds what a minute allows. */
struct bucket bucket_full(int64_t per_minute, int64_t now_ms);
/* Milliseconds until `least` tokens are there; 0: they are. */
int64_t bucket_wait_ms(struct bucket *b, int64_t now_ms, int64_t least);
/* Takes (or, negative, gives back) tokens; may leave a debt, which later takers wait out. */
void bucket_take(struct bucket *b, int64_t tokens);

#endif
