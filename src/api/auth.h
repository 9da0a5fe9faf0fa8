/* auth: who is calling: API keys by their hash, found in the store, remembered for a short while.
 *
 * Loop thread. Keys themselves are never kept; only keys that were found are remembered, so that a
 * guesser fills nothing, and a revoked key works for at most AUTH_AGE_US longer.
 */
#ifndef OSTLER_API_AUTH_H
#define OSTLER_API_AUTH_H

#include "base/err.h"
#include "base/id.h"

enum { AUTH_CACHE = 256, AUTH_AGE_US = 5 * 1000 * 1000 };

struct auth_entry {
    unsigned char hash[32];
    struct id workspace_id;
    int64_t until_us; /* monotonic; 0: free */
};

struct auth_cache {
    struct auth_entry entry[AUTH_CACHE]; /* direct-mapped by the hash */
};

/* Of one request; in its call. */
struct auth_lookup {
    unsigned char hash[32];
    struct id workspace_id;
};

struct call;

/* Finds the credential of the request, then calls `then` with c->workspace_id set; otherwise
 * answers 401. */
void auth_check(struct call *c, void (*then)(struct call *c));

#endif
