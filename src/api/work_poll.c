/* GET /v1/environments/{id}/work/poll: takes the item that waits longest, or waits for one.
 *
 *     LOOKING --> CLAIMING --> over: the item
 *      |  ^          |
 *      |  |          +--> another was faster: as if there were nothing
 *      |  |
 *      |  +-- work_wake(), or the end of the block
 *      +--> WAITING       nothing there; at the end of the block: over: null
 *
 * Looking is a read; only who sees something writes, and that transaction gives each item to one.
 * Work that other processes queue is found at the end of the block.
 */
#include "api/work_impl.h"

#include "api/cursor.h"
#include "api/handlers.h"

#include "base/clock.h"
#include "base/rand.h"

#include <stdio.h>

enum { TOKEN_RANDOM = 24, WORKER_MAX = 256 };

struct poll {
    struct list link; /* the service's pollers, while it waits */
    struct call *call;
    struct loop_timer timer;
    int64_t until_ms, reclaim_ms;
    int64_t wakes;  /* of the service when it began to look */
    bool over, any; /* any: the look found something */
    struct str worker;
    char token[sizeof WORK_TOKEN_PREFIX + 2 * TOKEN_RANDOM];
    unsigned char hash[32];
    struct work_row row; /* key 0: another was faster */
};

static void look(struct poll *p);

static struct work_service *service(const struct poll *p)
{
    return p->call->api->work;
}

/* ---- the end ---- */

static void timer_closed(struct loop_timer *t)
{
    call_unref(CONTAINER_OF(t, struct poll, timer)->call);
}

static void finish(struct poll *p)
{
    if (p->over)
        return;
    p->over = true;
    list_remove(&p->link);
    loop_timer_close(&p->timer, timer_closed);
}

static void reply_nothing(struct poll *p)
{
    struct buf b = BUF_INIT(16);
    buf_z(&b, "null");
    finish(p);
    call_reply(p->call, &b);
}

static void poll_gone(struct call *c)
{
    finish(c->state);
}

/* base64url of {"sessions_token":...}: the worker knows where it polls. */
static void write_secret(struct buf *out, const char *token)
{
    AUTO_BUF struct buf b = BUF_INIT(1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "sessions_token", token);
    jw_obj_end(&w);
    base64url_write(out, buf_view(&b));
}

static void reply_item(struct poll *p)
{
    AUTO_BUF struct buf secret = BUF_INIT(1024);
    struct buf b = BUF_INIT(64 * 1024);
    struct jw w = jw_to(&b);
    write_secret(&secret, p->token);
    work_write(&w, &p->row, buf_view(&secret));
    finish(p);
    call_reply(p->call, &b);
}

/* ---- claiming ---- */

static void make_token(struct poll *p)
{
    unsigned char raw[TOKEN_RANDOM];
    size_t n = sizeof WORK_TOKEN_PREFIX - 1;
    rand_fill(raw, sizeof raw);
    memcpy(p->token, WORK_TOKEN_PREFIX, sizeof WORK_TOKEN_PREFIX);
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(p->token + n + 2 * i, 3, "%02x", raw[i]);
    api_hash_key(str_z(p->token), p->hash);
}

static int offer_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct poll *p = c->state;
    int64_t now_us = clock_unix_us();
    struct work_offer how = {.environment = c->id[0],
                             .now_us = now_us,
                             .reclaim_us = now_us - p->reclaim_ms * 1000,
                             .worker = p->worker};
    memcpy(how.hash, p->hash, sizeof how.hash);
    p->row.key = 0;
    int rc = tx_work_offer(tx, &how, &c->arena, &p->row, err);
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int withdraw_step(struct store_tx *tx, struct call *c, struct err *err)
{
    const struct poll *p = c->state;
    return tx_work_withdraw(tx, &p->row, err);
}

static void withdrawn(struct call *c)
{
    work_wake(c->api, c->id[0]);
}

static void wait_or_end(struct poll *p);

static void offered(struct call *c)
{
    struct poll *p = c->state;
    if (!p->row.key)
        wait_or_end(p);
    else if (c->req)
        reply_item(p);
    else
        call_write(c, withdraw_step, withdrawn); /* nobody took it: the next one may at once */
}

/* ---- looking and waiting ---- */

static int look_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct poll *p = c->state;
    int rc = work_environment(tx, c, err);
    return rc ? rc
              : tx_work_waits(tx, c->id[0], clock_unix_us() - p->reclaim_ms * 1000, &p->any, err);
}

static void looked(struct call *c)
{
    struct poll *p = c->state;
    if (p->over)
        return;
    if (!p->any) {
        wait_or_end(p);
        return;
    }
    make_token(p);
    call_write(c, offer_step, offered);
}

static void look(struct poll *p)
{
    p->wakes = service(p)->wakes;
    list_remove(&p->link);
    loop_timer_stop(&p->timer);
    call_read(p->call, look_step, looked);
}

static void block_over(struct loop_timer *t)
{
    look(CONTAINER_OF(t, struct poll, timer));
}

static void wait_or_end(struct poll *p)
{
    struct work_service *w = service(p);
    int64_t left_ms = p->until_ms - clock_mono_us() / 1000;
    if (p->over)
        return;
    if (left_ms <= 0 || w->closing) {
        reply_nothing(p);
    } else if (p->wakes != w->wakes) {
        look(p);
    } else {
        list_push(&w->pollers, &p->link);
        loop_timer_start(&p->timer, left_ms, block_over);
    }
}

/* One waiter for one item; who finds nothing after all waits on. */
void work_wake(struct api *api, struct str environment)
{
    struct work_service *w = api->work;
    if (!w)
        return;
    w->wakes++;
    list_for_each (it, &w->pollers) {
        struct poll *p = LIST_ENTRY(it, struct poll, link);
        if (str_eq(p->call->id[0], environment)) {
            look(p);
            return;
        }
    }
}

void api_work_wake(struct api *api, struct str environment)
{
    work_wake(api, environment);
}

void work_poll_end_all(struct work_service *w)
{
    list_for_each_safe (it, &w->pollers)
        reply_nothing(LIST_ENTRY(it, struct poll, link));
}

/* ---- who polls ---- */

static bool same_worker(const struct work_seen *a, const struct work_seen *b)
{
    return memcmp(a->worker, b->worker, sizeof a->worker) == 0 &&
           str_eq(id_str(&a->environment), id_str(&b->environment));
}

static void note_worker(struct work_service *w, struct str environment, struct str worker)
{
    unsigned char hash[32];
    struct work_seen now = {.environment = id_from(environment), .at_ms = clock_mono_us() / 1000};
    if (!worker.len)
        return;
    api_hash_key(worker, hash);
    memcpy(now.worker, hash, sizeof now.worker);
    size_t oldest = 0;
    for (size_t i = 0; i < w->nseen; i++) {
        if (same_worker(&w->seen[i], &now)) {
            w->seen[i] = now;
            return;
        }
        if (w->seen[i].at_ms < w->seen[oldest].at_ms)
            oldest = i;
    }
    bool stale = w->nseen && now.at_ms - w->seen[oldest].at_ms >= WORK_SEEN_MS;
    w->seen[stale || w->nseen == WORK_SEEN_MAX ? oldest : w->nseen++] = now;
}

int64_t work_pollers(const struct work_service *w, struct str environment)
{
    int64_t n = 0, since_ms = clock_mono_us() / 1000 - WORK_SEEN_MS;
    for (size_t i = 0; i < w->nseen; i++)
        n += w->seen[i].at_ms > since_ms &&
             (!environment.len || str_eq(id_str(&w->seen[i].environment), environment));
    return n;
}

/* ---- the request ---- */

void work_poll(struct call *c)
{
    struct poll *p = call_state(c, sizeof *p);
    int64_t block_ms = 0;
    struct err err;
    if (!p)
        return;
    p->reclaim_ms = WORK_RECLAIM_MS;
    int rc = query_i64(&c->query, "block_ms", 1, WORK_BLOCK_MAX_MS, &block_ms, &err);
    if (rc == 0)
        rc = query_i64(&c->query, "reclaim_older_than_ms", 0, INT32_MAX, &p->reclaim_ms, &err);
    if (rc) {
        call_fail(c, &err);
        return;
    }
    struct str worker = str_trim(http_req_header(c->req, "anthropic-worker-id"));
    if (worker.len)
        p->worker = arena_str(&c->arena, str_utf8_take(worker, WORKER_MAX));
    p->call = call_ref(c); /* the timer's */
    p->until_ms = clock_mono_us() / 1000 + block_ms;
    list_init(&p->link);
    loop_timer_init(c->api->cfg.loop, &p->timer);
    c->gone = poll_gone;
    if (str_eq(c->id[0], id_str(&c->who.environment_id)))
        note_worker(c->api->work, c->id[0], worker);
    look(p);
}
