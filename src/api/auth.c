#include "api/api_impl.h"
#include "api/header.h"

#include "base/clock.h"
#include "store/work.h"

#include <sodium.h>
#include <stdlib.h>

void api_hash_key(struct str key, unsigned char out[32])
{
    crypto_hash_sha256(out, (const unsigned char *)(key.ptr ? key.ptr : ""), key.len);
}

static struct auth_entry *slot_of(struct auth_cache *cache, const unsigned char hash[32])
{
    return &cache->entry[(hash[0] | hash[1] << 8) % AUTH_CACHE];
}

/* ---- who it is ---- */

static int find_token(struct store_tx *tx, struct call *c, struct err *err)
{
    struct work_token token = {0};
    int rc = tx_work_token(tx, c->auth.hash, &token, err);
    if (rc == 0)
        c->auth.who = (struct credential){.kind = TAKES_TOKEN,
                                          .workspace_id = token.workspace_id,
                                          .environment_id = token.environment_id,
                                          .work_id = token.work_id,
                                          .session_id = token.session_id,
                                          .current = token.current,
                                          .live = token.live};
    return rc;
}

static int find_environment_key(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_key_row row;
    int rc = tx_environment_key_find(tx, c->auth.hash, &c->arena, &row, err);
    if (rc == 0)
        c->auth.who = (struct credential){.kind = TAKES_ENV,
                                          .workspace_id = row.workspace_id,
                                          .environment_id = row.environment_id};
    return rc;
}

/* The prefix says where to look first; an API key may be called anything. */
static int find_key(struct store_tx *tx, struct call *c, struct err *err)
{
    struct key_row row;
    int rc = ERR_NOT_FOUND;
    if (str_starts(c->auth.key, STR(WORK_TOKEN_PREFIX)))
        rc = find_token(tx, c, err);
    else if (str_starts(c->auth.key, STR(ENVIRONMENT_KEY_PREFIX)))
        rc = find_environment_key(tx, c, err);
    if (rc != ERR_NOT_FOUND)
        return rc;
    rc = tx_key_find(tx, c->auth.hash, &c->arena, &row, err);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, ERR_AUTH,
                       "invalid API key; see 'ostler keys' for the valid ones, and 'ostler "
                       "environments keys' for those of workers");
    if (rc == 0)
        c->auth.who = (struct credential){.kind = TAKES_API, .workspace_id = row.workspace_id};
    return rc;
}

/* ---- what it may do ---- */

static int check_kind(const struct call *c, const struct credential *who, struct err *err)
{
    unsigned takes = c->route->takes;
    if (!(takes & who->kind) && who->kind == TAKES_API)
        return err_set(err, ERR_PERMISSION,
                       "this endpoint is for workers: send an environment key ('ostler "
                       "environments keys create') as Authorization: Bearer");
    if (!(takes & who->kind))
        return err_set(err, ERR_PERMISSION, "a worker's credential does not open this endpoint%s",
                       takes & TAKES_API ? "; use an API key" : "");
    if (who->kind == TAKES_TOKEN && !who->live && !(takes & TAKES_STALE))
        return err_set(err, ERR_AUTH, "the work item of this token is over, or another worker's");
    return 0;
}

bool auth_sees_session(const struct credential *who, const struct id *session,
                       const struct id *environment)
{
    if (who->kind == TAKES_TOKEN)
        return str_eq(id_str(&who->session_id), id_str(session));
    return who->kind == TAKES_API || str_eq(id_str(&who->environment_id), id_str(environment));
}

int auth_sees_skill(struct store_tx *tx, const struct credential *who, struct str skill, bool *out,
                    struct err *err)
{
    *out = who->kind == TAKES_API;
    if (*out)
        return 0;
    struct str session = who->kind == TAKES_TOKEN ? id_str(&who->session_id) : STR_NONE;
    return tx_work_skill(tx, id_str(&who->environment_id), session, skill, out, err);
}

/* ---- a request ---- */

/* The continuation waits in `state`, which no handler has claimed yet. */
struct after_auth {
    void (*then)(struct call *c);
};

static void admit(struct call *c, const struct credential *who, void (*then)(struct call *c))
{
    struct err err;
    c->who = *who;
    c->workspace_id = who->workspace_id;
    if (check_kind(c, who, &err))
        call_fail(c, &err);
    else
        then(c);
}

static void found(struct call *c)
{
    struct auth_entry *e = slot_of(&c->api->keys, c->auth.hash);
    if (c->auth.who.kind != TAKES_TOKEN) {
        memcpy(e->hash, c->auth.hash, sizeof e->hash);
        e->who = c->auth.who;
        e->until_us = clock_mono_us() + AUTH_AGE_US;
    }
    struct after_auth *after = c->state;
    c->state = NULL;
    if (c->req)
        admit(c, &c->auth.who, after->then);
}

/* A client that was made with an API key and given a worker's as well sends both: it means the
 * worker's. */
static struct str request_key(const struct call *c)
{
    struct str authorization = http_req_header(c->req, "authorization");
    struct str bearer = header_api_key(STR_NONE, authorization);
    if (str_starts(bearer, STR(ENVIRONMENT_KEY_PREFIX)) ||
        str_starts(bearer, STR(WORK_TOKEN_PREFIX)))
        return bearer;
    return header_api_key(http_req_header(c->req, "x-api-key"), authorization);
}

void auth_check(struct call *c, void (*then)(struct call *c))
{
    struct str key = request_key(c);
    if (!str_some(key)) {
        struct err err;
        err_at(&err, ERR_AUTH, "x-api-key",
               "no API key: send it as x-api-key or as Authorization: Bearer");
        call_fail(c, &err);
        return;
    }
    api_hash_key(key, c->auth.hash);
    struct auth_entry *e = slot_of(&c->api->keys, c->auth.hash);
    if (e->until_us > clock_mono_us() && memcmp(e->hash, c->auth.hash, sizeof e->hash) == 0) {
        admit(c, &e->who, then);
        return;
    }
    struct after_auth *after = call_state(c, sizeof *after);
    if (!after)
        return;
    after->then = then;
    c->auth.key = arena_str(&c->arena, str_take(key, sizeof ENVIRONMENT_KEY_PREFIX));
    call_read(c, find_key, found);
}
