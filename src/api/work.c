/* /v1/environments/{id}/work: the queue of a self-hosted environment, and what a worker says about
 * an item that it has taken. Taking one: work_poll.c */
#include "api/work_impl.h"

#include "api/cursor.h"
#include "api/environment_decode.h"
#include "api/handlers.h"
#include "api/metadata.h"

#include "base/clock.h"
#include "base/limits.h"
#include "json/decode.h"

struct work_call {
    struct work_row row, *rows;
    size_t n;
    bool more;
    struct listing list;
    struct work_stats stats;
    const struct json *metadata; /* the patch */
    bool force, queued;          /* queued: another item, or this one again */
    /* of a heartbeat */
    struct str expected;     /* absent: unconditional */
    int64_t desired_ttl_s;   /* 0: not said */
    bool extended, mismatch; /* mismatch: 412 */
};

/* ---- shapes ---- */

void work_write(struct jw *w, const struct work_row *row, struct str secret)
{
    jw_obj(w);
    jw_kstr(w, "id", id_str(&row->id));
    jw_kz(w, "type", "work");
    jw_kstr(w, "environment_id", id_str(&row->environment_id));
    jw_kz(w, "state", work_state_name(row->state));
    jw_key(w, "data");
    jw_obj(w);
    jw_kz(w, "type", "session");
    jw_kstr(w, "id", id_str(&row->session_id));
    jw_obj_end(w);
    jw_kraw(w, "metadata", row->metadata);
    jw_kstr(w, "secret", secret);
    jw_ktime(w, "created_at", row->created_us);
    jw_ktime(w, "acknowledged_at", row->acknowledged_us);
    jw_ktime(w, "started_at", row->started_us);
    jw_ktime(w, "latest_heartbeat_at", row->heartbeat_us);
    jw_ktime(w, "stop_requested_at", row->stop_requested_us);
    jw_ktime(w, "stopped_at", row->stopped_us);
    jw_obj_end(w);
}

static void reply_item(struct call *c)
{
    const struct work_call *s = c->state;
    struct buf b = BUF_INIT(64 * 1024);
    struct jw w = jw_to(&b);
    work_write(&w, &s->row, STR_NONE);
    call_reply(c, &b);
}

/* ---- finding ---- */

static int no_environment(struct call *c, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "Environment '" STR_FMT "' not found",
                   STR_ARG(str_utf8_take(c->id[0], 64)));
}

/* A worker's credential knows no other environment, whoever's that is. */
int work_environment(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_row row;
    if (c->who.kind != TAKES_API)
        return str_eq(c->id[0], id_str(&c->who.environment_id)) ? 0 : no_environment(c, err);
    int rc = ERR_NOT_FOUND;
    if (id_valid(c->id[0], "env"))
        rc = tx_environment_get(tx, call_workspace(c), c->id[0], &c->arena, &row, err);
    return rc == ERR_NOT_FOUND ? no_environment(c, err) : rc;
}

static int find_item(struct store_tx *tx, struct call *c, struct err *err)
{
    struct work_call *s = c->state;
    int rc = work_environment(tx, c, err);
    if (rc)
        return rc;
    rc = ERR_NOT_FOUND;
    bool mine = c->who.kind != TAKES_TOKEN || str_eq(c->id[1], id_str(&c->who.work_id));
    if (mine && id_valid(c->id[1], "work"))
        rc = tx_work_get(tx, c->id[0], c->id[1], &c->arena, &s->row, err);
    return rc == ERR_NOT_FOUND ? err_set(err, rc, "Work item '" STR_FMT "' not found",
                                         STR_ARG(str_utf8_take(c->id[1], 64)))
                               : rc;
}

/* The caller is a worker who had the item once: it was taken back since. */
static bool was_taken_back(const struct call *c)
{
    return c->who.kind == TAKES_TOKEN && !c->who.current;
}

static int not_yours(const struct work_row *row, struct err *err)
{
    return err_set(err, ERR_CONFLICT,
                   "Work item '%s' went back to the queue, or to another worker, since you took it",
                   row->id.z);
}

/* ---- acknowledging ---- */

static int64_t default_ttl_us(const struct call *c)
{
    int64_t s = c->api->cfg.work_lease_s;
    return (s ? s : LIMIT_WORK_LEASE_S) * 1000000;
}

/* Said again, after an answer that got lost, it is true again. Two workers may both hear yes when
 * one came late: the first heartbeat decides. */
static int ack_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct work_call *s = c->state;
    int rc = find_item(tx, c, err);
    if (rc)
        return rc;
    if (was_taken_back(c) && s->row.state != WORK_STOPPED)
        return not_yours(&s->row, err);
    switch (s->row.state) {
    case WORK_QUEUED:
        if (!s->row.offered_us)
            return err_set(err, ERR_CONFLICT, "Work item '%s' is offered to nobody; poll for it",
                           s->row.id.z);
        return tx_work_ack(tx, &s->row, clock_unix_us(), default_ttl_us(c), err);
    case WORK_STARTING: return 0;
    case WORK_ACTIVE:
        if (c->who.kind == TAKES_TOKEN)
            return 0;
        /* fall through */
    case WORK_STOPPING:
    case WORK_STOPPED: break;
    }
    return err_set(err, ERR_CONFLICT, "Work item '%s' is %s", s->row.id.z,
                   work_state_name(s->row.state));
}

void work_ack(struct call *c)
{
    if (call_state(c, sizeof(struct work_call)))
        call_write(c, ack_step, reply_item);
}

/* ---- heartbeats ---- */

static bool is_time(struct str expected, int64_t us)
{
    int64_t at;
    if (us == 0)
        return str_eqz(expected, "NO_HEARTBEAT");
    return clock_parse(expected, &at) && at == us;
}

/* What a repeated request expects was true before it: only the token's own holder can send it. */
static bool expected_holds(const struct call *c)
{
    const struct work_call *s = c->state;
    if (was_taken_back(c) || s->row.state == WORK_QUEUED)
        return false;
    if (!str_some(s->expected) || is_time(s->expected, s->row.heartbeat_us))
        return true;
    return c->who.kind == TAKES_TOKEN && s->row.heartbeat_us &&
           is_time(s->expected, s->row.heartbeat_before_us);
}

static int beat_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct work_call *s = c->state;
    int rc = find_item(tx, c, err);
    s->extended = s->mismatch = false;
    if (rc || s->row.state >= WORK_STOPPING)
        return rc;
    if (!expected_holds(c)) {
        s->mismatch = true;
        return 0;
    }
    int64_t ttl_us = s->desired_ttl_s ? s->desired_ttl_s * 1000000
                     : s->row.ttl_us  ? s->row.ttl_us
                                      : default_ttl_us(c);
    s->extended = true;
    return tx_work_beat(tx, &s->row, clock_unix_us(), ttl_us, err);
}

static int64_t ttl_s(const struct call *c)
{
    const struct work_call *s = c->state;
    return (s->row.ttl_us ? s->row.ttl_us : default_ttl_us(c)) / 1000000;
}

static void refuse_beat(struct call *c)
{
    const struct work_call *s = c->state;
    struct err err;
    AUTO_BUF struct buf b = BUF_INIT(1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "state", work_state_name(s->row.state));
    jw_ktime(&w, "last_heartbeat", s->row.heartbeat_us);
    jw_kbool(&w, "lease_extended", false);
    jw_ki64(&w, "ttl_seconds", ttl_s(c));
    jw_obj_end(&w);
    err_set(&err, ERR_PRECONDITION,
            "expected_last_heartbeat is not the last heartbeat of '%s': another worker may have it",
            s->row.id.z);
    err.detail = "heartbeat_precondition_failed";
    call_fail_with(c, &err, "current_state", buf_view(&b));
}

static void reply_beat(struct call *c)
{
    const struct work_call *s = c->state;
    if (s->mismatch) {
        refuse_beat(c);
        return;
    }
    char last[CLOCK_TEXT_MAX] = "";
    if (s->row.heartbeat_us)
        clock_format(last, s->row.heartbeat_us);
    struct buf b = BUF_INIT(1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "type", "work_heartbeat");
    jw_kz(&w, "last_heartbeat", last);
    jw_kbool(&w, "lease_extended", s->extended);
    jw_kz(&w, "state", work_state_name(s->row.state));
    jw_ki64(&w, "ttl_seconds", ttl_s(c));
    jw_obj_end(&w);
    call_reply(c, &b);
}

void work_heartbeat(struct call *c)
{
    struct work_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    if (query_i64(&c->query, "desired_ttl_seconds", 0, INT32_MAX, &s->desired_ttl_s, &err)) {
        call_fail(c, &err);
        return;
    }
    if (s->desired_ttl_s && s->desired_ttl_s < WORK_TTL_MIN_S)
        s->desired_ttl_s = WORK_TTL_MIN_S;
    if (s->desired_ttl_s > WORK_TTL_MAX_S)
        s->desired_ttl_s = WORK_TTL_MAX_S;
    s->expected = query_get(&c->query, "expected_last_heartbeat");
    call_write(c, beat_step, reply_beat);
}

/* ---- stopping ---- */

static int stop_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct work_call *s = c->state;
    int rc = find_item(tx, c, err);
    if (rc)
        return rc;
    if (s->row.state == WORK_STOPPED)
        return err_set(err, ERR_CONFLICT, "Work item '%s' is stopped already", s->row.id.z);
    if (was_taken_back(c))
        return not_yours(&s->row, err);
    return tx_work_stop(tx, &s->row, s->force, clock_unix_us(), &s->queued, err);
}

static void stopped(struct call *c)
{
    const struct work_call *s = c->state;
    reply_item(c);
    if (s->queued)
        work_wake(c->api, id_str(&s->row.environment_id));
}

struct stop_in {
    bool force;
};
static const struct json_field stop_fields[] = {
    JSON_FIELD_BOOL(struct stop_in, force, "force", .nullable = true), JSON_FIELD_END};

void work_stop(struct call *c)
{
    struct work_call *s = call_state(c, sizeof *s);
    struct stop_in in = {0};
    struct err err;
    if (!s)
        return;
    if (c->doc && json_decode(c->doc, stop_fields, &in, sizeof in, "", &err)) {
        call_fail(c, &err);
        return;
    }
    s->force = in.force;
    call_write(c, stop_step, stopped);
}

/* ---- one item ---- */

void work_get(struct call *c)
{
    if (call_state(c, sizeof(struct work_call)))
        call_read(c, find_item, reply_item);
}

static int update_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct work_call *s = c->state;
    int rc = find_item(tx, c, err);
    if (rc == 0)
        rc = metadata_merge(&c->arena, s->row.metadata, s->metadata, false, "/metadata",
                            &s->row.metadata, err);
    return rc ? rc : tx_work_metadata(tx, s->row.key, s->row.metadata, err);
}

struct update_in {
    const struct json *metadata;
};
static const struct json_field update_fields[] = {
    JSON_FIELD_ANY(struct update_in, metadata, "metadata", .type = JSON_OBJECT, .nullable = true),
    JSON_FIELD_END};

void work_update(struct call *c)
{
    struct work_call *s = call_state(c, sizeof *s);
    struct update_in in;
    struct err err;
    if (!s)
        return;
    int rc = json_decode(c->doc, update_fields, &in, sizeof in, "", &err);
    if (rc == 0)
        rc = metadata_check(in.metadata, true, "/metadata", &err);
    if (rc) {
        call_fail(c, &err);
        return;
    }
    s->metadata = json_is(in.metadata, JSON_OBJECT) ? in.metadata : NULL;
    call_write(c, update_step, reply_item);
}

/* ---- the queue ---- */

static int list_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct work_call *s = c->state;
    int rc = work_environment(tx, c, err);
    return rc ? rc
              : tx_work_list(tx, c->id[0], &s->list.page, &c->arena, &s->rows, &s->n, &s->more,
                             err);
}

static void reply_list(struct call *c)
{
    const struct work_call *s = c->state;
    struct listing_out out;
    struct jw *w = listing_begin(&out);
    for (size_t i = 0; i < s->n; i++)
        work_write(w, &s->rows[i], STR_NONE);
    const struct work_row *last = s->n && s->more ? &s->rows[s->n - 1] : NULL;
    struct cursor next = {.list = CURSOR_WORK, .desc = true};
    if (last) {
        next.at_us = last->created_us;
        next.id = id_str(&last->id);
    }
    listing_end(c, &out, last ? &next : NULL);
}

void work_list(struct call *c)
{
    static const struct listing_how how = {CURSOR_WORK, 20, 100, true, list_step, reply_list};
    struct work_call *s = call_state(c, sizeof *s);
    if (s)
        listing_serve(c, &how, &s->list);
}

static int stats_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct work_call *s = c->state;
    int rc = work_environment(tx, c, err);
    return rc ? rc : tx_work_stats(tx, c->id[0], &s->stats, err);
}

static void reply_stats(struct call *c)
{
    const struct work_call *s = c->state;
    struct buf b = BUF_INIT(1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "type", "work_queue_stats");
    jw_ki64(&w, "depth", s->stats.depth);
    jw_ki64(&w, "pending", s->stats.pending);
    jw_ktime(&w, "oldest_queued_at", s->stats.oldest_us);
    jw_ki64(&w, "workers_polling", work_pollers(c->api->work, c->id[0]));
    jw_obj_end(&w);
    call_reply(c, &b);
}

void work_stats(struct call *c)
{
    if (call_state(c, sizeof(struct work_call)))
        call_read(c, stats_step, reply_stats);
}
