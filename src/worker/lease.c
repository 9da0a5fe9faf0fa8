#include "worker/lease.h"

#include "base/log.h"

enum {
    TTL_MS = 90 * 1000, /* until the server has said one */
    INTERVAL_MIN_MS = 1000,
    INTERVAL_MAX_MS = 30 * 1000,
    TTL_MAX_S = 24 * 3600,
    ANSWER_ARENA = 1024 * 1024,
};

static void beat(struct loop_timer *t);

const char *lease_state_name(enum lease_state s)
{
    static const char *const names[] = {"held", "ending", "lost", "rejected"};
    return names[s];
}

static int64_t now_ms(const struct lease *l)
{
    return loop_now_ms(l->call.wire->loop);
}

bool lease_holds(const struct lease *l)
{
    return l->state == LEASE_HELD && now_ms(l) - l->ok_ms < l->ttl_ms;
}

static void end(struct lease *l, enum lease_state state)
{
    if (l->stopped || l->state != LEASE_HELD)
        return;
    l->state = state;
    loop_timer_stop(&l->timer);
    l->changed(l);
}

static void again_in(struct lease *l, int64_t ms)
{
    if (!l->stopped && l->state == LEASE_HELD)
        loop_timer_start(&l->timer, ms, beat);
}

/* The chain goes on from here. PROTOCOL for an answer that cannot be read. */
static int take_answer(struct lease *l, struct err *err)
{
    AUTO_ARENA struct arena a;
    const struct json *doc;
    int64_t ttl_s = 0;
    arena_init(&a, ANSWER_ARENA);
    int rc = json_parse(&a, buf_view(&l->call.body), JSON_ALLOW_DUPLICATES, &doc, err);
    struct str last = rc ? STR_NONE : json_get_str(doc, "last_heartbeat");
    if (rc || !last.len || last.len >= sizeof l->last)
        return err_set(err, ERR_PROTOCOL, "the answer to a heartbeat cannot be read");
    (void)str_copyz(l->last, sizeof l->last, last);
    l->ok_ms = l->sent_ms; /* the server may have counted from then on */
    if (json_i64(json_get(doc, "ttl_seconds"), &ttl_s) && ttl_s > 0 && ttl_s <= TTL_MAX_S) {
        l->ttl_ms = ttl_s * 1000;
        l->interval_ms = l->ttl_ms / 2;
        if (l->interval_ms > INTERVAL_MAX_MS)
            l->interval_ms = INTERVAL_MAX_MS;
        if (l->interval_ms < INTERVAL_MIN_MS)
            l->interval_ms = INTERVAL_MIN_MS;
    }
    struct str state = json_get_str(doc, "state");
    const struct json *extended = json_get(doc, "lease_extended");
    if (str_eqz(state, "stopping") || str_eqz(state, "stopped") ||
        (extended && !json_is_true(extended)))
        end(l, LEASE_ENDING);
    return 0;
}

static void beaten(struct wire_call *c, const struct err *err)
{
    struct lease *l = CONTAINER_OF(c, struct lease, call);
    struct err why = *err;
    if (!why.code && take_answer(l, &why) == 0) {
        int64_t wait_ms = l->sent_ms + l->interval_ms - now_ms(l);
        l->failures = 0;
        again_in(l, wait_ms > 0 ? wait_ms : 0);
        return;
    }
    if (c->status == 412) {
        end(l, LEASE_LOST);
        return;
    }
    if (wire_is_final(c)) {
        log_line(LOG_ERROR, "heartbeats are refused", "work", l->work_id, "error", why.msg, NULL);
        end(l, LEASE_REJECTED);
        return;
    }
    int64_t left_ms = l->ok_ms + l->ttl_ms - now_ms(l);
    if (left_ms <= 0) {
        end(l, LEASE_LOST);
        return;
    }
    log_line(LOG_WARN, "a heartbeat failed; trying again", "work", l->work_id, "error", why.msg,
             NULL);
    /* Sooner than the next one would be: a server that was restarted is there again. */
    int64_t wait_ms = wire_backoff(l->failures++, INTERVAL_MIN_MS, l->interval_ms);
    again_in(l, wait_ms < left_ms ? wait_ms : left_ms);
}

static void beat(struct loop_timer *t)
{
    struct lease *l = CONTAINER_OF(t, struct lease, timer);
    if (now_ms(l) - l->ok_ms >= l->ttl_ms) { /* also after a time in which this process stood */
        end(l, LEASE_LOST);
        return;
    }
    AUTO_BUF struct buf path = BUF_INIT(4096);
    wire_work_path(&path, l->call.wire, l->work_id, "heartbeat?expected_last_heartbeat=");
    http_encode(&path, str_z(l->last));
    if (l->desired_ttl_s)
        buf_printf(&path, "&desired_ttl_seconds=%lld", (long long)l->desired_ttl_s);
    int64_t left_ms = l->ok_ms + l->ttl_ms - now_ms(l);
    const struct wire_request r = {
        .method = "POST",
        .path = buf_view(&path),
        .first_byte_ms = l->interval_ms < left_ms ? l->interval_ms : left_ms,
    };
    l->sent_ms = now_ms(l);
    wire_send(&l->call, &r, beaten);
}

void lease_start(struct lease *l, struct wire *w, const char *work_id, const char *bearer,
                 int64_t desired_ttl_s, void (*changed)(struct lease *l))
{
    *l = (struct lease){.work_id = work_id,
                        .ttl_ms = TTL_MS,
                        .interval_ms = INTERVAL_MAX_MS,
                        .last = "NO_HEARTBEAT",
                        .desired_ttl_s = desired_ttl_s,
                        .changed = changed};
    wire_call_init(&l->call, w, bearer);
    loop_timer_init(w->loop, &l->timer);
    l->ok_ms = now_ms(l);
    loop_timer_start(&l->timer, 0, beat);
}

static void timer_closed(struct loop_timer *t)
{
    struct lease *l = CONTAINER_OF(t, struct lease, timer);
    l->closed(l);
}

void lease_close(struct lease *l, void (*closed)(struct lease *l))
{
    l->stopped = true;
    l->closed = closed;
    wire_call_fini(&l->call);
    loop_timer_close(&l->timer, timer_closed);
}
