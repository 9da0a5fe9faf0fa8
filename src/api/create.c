/* Requests that create, with or without an Idempotency-Key: with one, the answer is stored in the
 * same transaction as the object, so that a client that lost it gets the same one again. */
#include "api/api_impl.h"
#include "api/header.h"

#include "base/clock.h"

static const int64_t keep_us = INT64_C(24) * 3600 * 1000000;

static struct str write_answer(struct call *c, struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT(SIZE_MAX / 4);
    (c->creation->keep ? c->creation->keep : c->creation->write)(c, &b);
    struct str kept = buf_ok(&b) ? arena_str(&c->arena, buf_view(&b)) : STR_NONE;
    if (!str_some(kept))
        err_set(err, ERR_LIMIT, "the answer is too large to be kept under an idempotency-key");
    return kept;
}

/* The route counts as well: a key belongs to one request, not to one body. */
static void hash_request(struct call *c, unsigned char out[32])
{
    unsigned char body[32];
    AUTO_BUF struct buf b = BUF_INIT(64 * 1024);
    buf_z(&b, c->route->pattern);
    for (size_t i = 0; i < ROUTE_IDS_MAX; i++) {
        buf_ch(&b, '\n');
        buf_str(&b, c->id[i]);
    }
    if (c->creation->digest) {
        c->creation->digest(c, &b);
    } else {
        api_hash_key(buf_view(&c->body), body);
        buf_put(&b, body, sizeof body);
    }
    api_hash_key(buf_view(&b), out);
}

static int create_step(struct store_tx *tx, struct call *c, struct err *err)
{
    if (!str_some(c->idempotency_key))
        return c->creation->step(tx, c, err);
    struct idempotency_row row, now = {.created_us = clock_unix_us()};
    int64_t since = now.created_us - keep_us;
    hash_request(c, now.request);
    int rc =
        tx_idempotency_get(tx, call_workspace(c), c->idempotency_key, since, &c->arena, &row, err);
    if (rc == 0 && memcmp(row.request, now.request, sizeof row.request) != 0)
        return err_at(err, ERR_CONFLICT, "idempotency-key",
                      "idempotency-key: It was used for another request in the last 24 hours; use "
                      "a new key");
    if (rc == 0) {
        c->answer = row.response;
        c->repeated = true;
    }
    if (rc != ERR_NOT_FOUND)
        return rc;
    rc = c->creation->step(tx, c, err);
    if (rc)
        return rc;
    now.response = write_answer(c, err);
    if (!str_some(now.response))
        return ERR_LIMIT;
    c->answer = now.response;
    return tx_idempotency_put(tx, call_workspace(c), c->idempotency_key, since, &now, err);
}

/* The answer first: the consequences start work that would take the processor from it. They follow
 * also when the client is gone. */
static void create_done(struct call *c)
{
    struct buf b = BUF_INIT(SIZE_MAX / 4);
    if (str_some(c->answer) && (c->repeated || !c->creation->keep))
        buf_str(&b, c->answer);
    else
        c->creation->write(c, &b);
    call_reply(c, &b);
    if (c->creation->created && !c->repeated)
        c->creation->created(c);
}

void call_create(struct call *c, const struct call_creation *how)
{
    struct str key;
    struct err err;
    c->creation = how;
    if (header_idempotency_key(http_req_header(c->req, "idempotency-key"), &key, &err)) {
        call_fail(c, &err);
        return;
    }
    /* Workers have names of their own, so that they can take none from the workspace's clients. */
    if (str_some(key))
        c->idempotency_key =
            c->who.kind == TAKES_API
                ? arena_str(&c->arena, key)
                : arena_printf(&c->arena, "%s " STR_FMT, c->who.environment_id.z, STR_ARG(key));
    call_write(c, create_step, create_done);
}
