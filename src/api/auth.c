#include "api/api_impl.h"
#include "api/header.h"

#include "base/clock.h"

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

static int find_key(struct store_tx *tx, struct call *c, struct err *err)
{
    struct key_row row;
    int rc = tx_key_find(tx, c->auth.hash, &c->arena, &row, err);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, ERR_AUTH, "invalid API key; see 'ostler keys' for the valid ones");
    if (rc == 0)
        c->auth.workspace_id = row.workspace_id;
    return rc;
}

/* The continuation waits in `state`, which no handler has claimed yet. */
struct after_auth {
    void (*then)(struct call *c);
};

static void found(struct call *c)
{
    struct auth_entry *e = slot_of(&c->api->keys, c->auth.hash);
    memcpy(e->hash, c->auth.hash, sizeof e->hash);
    e->workspace_id = c->auth.workspace_id;
    e->until_us = clock_mono_us() + AUTH_AGE_US;
    c->workspace_id = c->auth.workspace_id;
    struct after_auth *after = c->state;
    c->state = NULL;
    if (c->req)
        after->then(c);
}

void auth_check(struct call *c, void (*then)(struct call *c))
{
    struct str key = header_api_key(http_req_header(c->req, "x-api-key"),
                                    http_req_header(c->req, "authorization"));
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
        c->workspace_id = e->workspace_id;
        then(c);
        return;
    }
    struct after_auth *after = call_state(c, sizeof *after);
    if (!after)
        return;
    after->then = then;
    call_read(c, find_key, found);
}
