/* auth: who is calling: an API key, the key of an environment, or the token of a work item, found
 * in the store by its hash.
 *
 * Loop thread. Keys themselves are never kept. Keys that were found are remembered for a short
 * while, so that a guesser fills nothing, and a revoked key works for at most AUTH_AGE_US longer;
 * tokens are not, because they end with their item.
 */
#ifndef OSTLER_API_AUTH_H
#define OSTLER_API_AUTH_H

#include "base/err.h"
#include "base/id.h"

enum { AUTH_CACHE = 256, AUTH_AGE_US = 5 * 1000 * 1000 };

#define ENVIRONMENT_KEY_PREFIX "sk-ant-oat01-"
#define WORK_TOKEN_PREFIX "sk-ant-req-"

struct credential {
    unsigned kind; /* one of TAKES_API, TAKES_ENV, TAKES_TOKEN (routes.h) */
    struct id workspace_id;
    struct id environment_id;      /* of a worker's */
    struct id work_id, session_id; /* of a token */
    bool current, live;            /* of a token: see struct work_token */
};

struct auth_entry {
    unsigned char hash[32];
    struct credential who;
    int64_t until_us; /* monotonic; 0: free */
};

struct auth_cache {
    struct auth_entry entry[AUTH_CACHE]; /* direct-mapped by the hash */
};

/* Of one request; in its call. */
struct auth_lookup {
    unsigned char hash[32];
    struct str key; /* no more than its beginning */
    struct credential who;
};

struct call;
struct store_tx;

/* Finds the credential of the request, then calls `then` with c->who and c->workspace_id set;
 * otherwise answers 401, or 403 where the route takes another kind. */
void auth_check(struct call *c, void (*then)(struct call *c));
/* What a worker's credential may see of sessions: that of its item, those of its environment. */
bool auth_sees_session(const struct credential *who, const struct id *session,
                       const struct id *environment);
/* `out`: the credential may read that skill. In a store step. */
int auth_sees_skill(struct store_tx *tx, const struct credential *who, struct str skill, bool *out,
                    struct err *err) MUST_USE;

#endif
