/* /v1/sessions: reading, listing, updating, archiving, deleting; the primary thread. */
#include "api/agent_decode.h"
#include "api/budget_decode.h"
#include "api/cursor.h"
#include "api/handlers.h"
#include "api/metadata.h"
#include "api/session_call.h"
#include "api/session_json.h"

#include "base/clock.h"
#include "base/limits.h"
#include "json/decode.h"

#include <stdio.h>

struct session_call {
    struct session_row row;
    struct listing list;
    struct session_filter filter;
    struct session_row *rows;
    size_t n;
    bool has_prev, has_next;
    struct engine_change change;
    struct agent_patch agent; /* for change */
    struct str thread_agent;
    struct engine_op op;
    struct call *call; /* for op */
};

/* ---- shared ---- */

void session_begin(struct call *c, struct session_row *row)
{
    row->id = id_new("sesn");
    row->workspace_id = c->workspace_id;
    row->thread_id = id_new("sthr");
    row->owner = engine_peers(c->api->cfg.engine)->me;
    row->created_us = row->updated_us = clock_unix_us();
}

int session_find(struct store_tx *tx, struct call *c, struct session_row *row, struct err *err)
{
    int rc = ERR_NOT_FOUND;
    if (id_valid(c->id[0], "sesn"))
        rc = tx_session_get(tx, call_workspace(c), c->id[0], &c->arena, row, err);
    if (rc == 0 && !auth_sees_session(&c->who, &row->id, &row->environment_id))
        rc = ERR_NOT_FOUND;
    if (rc == ERR_NOT_FOUND)
        return err_set(err, rc, "Session '" STR_FMT "' not found",
                       STR_ARG(str_utf8_take(c->id[0], 64)));
    return rc;
}

int session_open_check(const struct session_row *row, struct err *err)
{
    if (row->archived_us)
        return err_set(err, ERR_INVALID, "Session '%s' is archived and read-only", row->id.z);
    if (row->status == SESSION_TERMINATED)
        return err_set(err, ERR_INVALID, "Session '%s' is terminated", row->id.z);
    return 0;
}

int session_rest_check(const struct session_row *row, const char *what, struct err *err)
{
    if (session_status_shown(row) == SESSION_IDLE || row->status == SESSION_TERMINATED)
        return 0;
    return err_set(err, ERR_INVALID,
                   "Session '%s' is running; %s while it is idle: send user.interrupt, or wait",
                   row->id.z, what);
}

void session_reply(struct call *c, const struct session_row *row)
{
    struct buf b = BUF_INIT(SIZE_MAX / 4);
    struct jw w = jw_to(&b);
    session_write(&w, row, clock_unix_us());
    call_reply(c, &b);
}

/* ---- one ---- */

static int get_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct session_call *s = c->state;
    return session_find(tx, c, &s->row, err);
}

static void reply_session(struct call *c)
{
    struct session_call *s = c->state;
    session_reply(c, &s->row);
}

void sessions_get(struct call *c)
{
    if (call_state(c, sizeof(struct session_call)))
        call_read(c, get_step, reply_session);
}

/* ---- operations of the engine ---- */

/* The engine's call-back does not know the call: the state does. */
static void op_done(struct engine_op *op, const struct session_row *row, const struct err *err)
{
    struct session_call *s = CONTAINER_OF(op, struct session_call, op);
    struct call *c = s->call;
    if (err->code) {
        call_fail(c, err);
    } else if (row) {
        session_reply(c, row);
    } else {
        call_reply_deleted(c, "session_deleted");
    }
    call_unref(c);
}

static struct engine_op *begin_op(struct call *c)
{
    struct session_call *s = c->state;
    s->call = call_ref(c);
    s->op = (struct engine_op){.done = op_done};
    return &s->op;
}

/* Each of them reads the session first: a foreign id is 404 before the engine hears of it. */
static void start_archive(struct call *c)
{
    engine_session_archive(c->api->cfg.engine, call_workspace(c), c->id[0], begin_op(c));
}

static void start_delete(struct call *c)
{
    engine_session_delete(c->api->cfg.engine, call_workspace(c), c->id[0], begin_op(c));
}

static void start_update(struct call *c)
{
    struct session_call *s = c->state;
    engine_session_update(c->api->cfg.engine, call_workspace(c), c->id[0], &s->change, begin_op(c));
}

void sessions_archive(struct call *c)
{
    if (call_state(c, sizeof(struct session_call)))
        call_read(c, get_step, start_archive);
}

void sessions_delete(struct call *c)
{
    if (call_state(c, sizeof(struct session_call)))
        call_read(c, get_step, start_delete);
}

struct update_in {
    const struct json *title, *metadata, *agent, *budget, *vaults, *limits;
};

#define IN(member, name, ...) JSON_FIELD_ANY(struct update_in, member, name, __VA_ARGS__)
static const struct json_field update_fields[] = {
    IN(title, "title", .type = JSON_STRING, .nullable = true, .max = LIMIT_TITLE_CHARS),
    IN(metadata, "metadata", .type = JSON_OBJECT, .nullable = true),
    IN(agent, "agent"),
    IN(budget, "budget"),
    IN(vaults, "vault_ids"),
    IN(limits, "limits"),
    JSON_FIELD_END};

static int refuse_update(const struct update_in *in, struct err *err)
{
    if (in->vaults)
        return json_fail(err, "", "vault_ids",
                         "A session's vaults cannot be changed; the field is reserved for future "
                         "use");
    return 0;
}

static int patch_agent(const struct engine_change *ch, struct arena *a, struct str now,
                       struct str *out, struct err *err)
{
    const struct session_call *s = CONTAINER_OF(ch, struct session_call, change);
    return agent_snapshot_patch(a, &s->agent, now, out, err);
}

/* An agent that names nothing to replace changes nothing, and may do so at any time. */
static int decode_agent(struct call *c, struct session_call *s, const struct json *v,
                        struct err *err)
{
    struct model_rules rules;
    if (!v)
        return 0;
    if (v->type == JSON_OBJECT && v->count)
        s->change.agent = patch_agent;
    return agent_patch_decode(&c->arena, v, AGENT_SESSION, "/agent", call_model_rules(c, &rules),
                              &s->agent, err);
}

static int update_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct session_call *s = c->state;
    struct str merged;
    int rc = session_find(tx, c, &s->row, err);
    if (!rc)
        rc = session_open_check(&s->row, err);
    if (!rc && s->change.agent) {
        rc = session_rest_check(&s->row, "its agent can be changed", err);
        if (rc)
            str_copyz(err->at, sizeof err->at, STR("/agent"));
    }
    /* The engine looks again in its own commit: by then more may have been spent. */
    if (!rc && (s->change.set_budget || s->change.set_limits)) {
        struct model_port models = model_router_port(c->api->cfg.models);
        struct model_facts facts = budget_model_facts(&models, s->row.agent);
        rc = budget_check_update(&s->row, &facts, &s->change, err);
    }
    /* The engine merges again in its own commit; here only the size of the outcome is checked. */
    return rc ? rc
              : metadata_merge(&c->arena, s->row.metadata, s->change.metadata, false, "/metadata",
                               &merged, err);
}

void sessions_update(struct call *c)
{
    struct session_call *s = call_state(c, sizeof *s);
    struct update_in in;
    struct err err;
    if (!s)
        return;
    int rc = json_decode(c->doc, update_fields, &in, sizeof in, "", &err);
    if (!rc)
        rc = refuse_update(&in, &err);
    if (!rc)
        rc = metadata_check(in.metadata, true, "/metadata", &err);
    if (!rc)
        rc = budget_decode(in.budget, &s->change.budget_microusd, &err);
    if (!rc)
        rc = limits_decode(&c->arena, in.limits, "/limits", &s->change.limits, &err);
    if (!rc)
        rc = decode_agent(c, s, in.agent, &err);
    if (rc) {
        call_fail(c, &err);
        return;
    }
    s->change.set_budget = in.budget != NULL;
    s->change.set_limits = in.limits != NULL;
    s->change.title = in.title;
    s->change.metadata = json_is(in.metadata, JSON_OBJECT) ? in.metadata : NULL;
    call_read(c, update_step, start_update);
}

/* ---- list ---- */

static int list_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct session_call *s = c->state;
    return tx_session_list(tx, call_workspace(c), &s->filter, &s->list.page, &c->arena, &s->rows,
                           &s->n, &s->has_prev, &s->has_next, err);
}

static void write_cursor(struct jw *w, const char *key, const struct session_call *s, bool exists,
                         bool backward)
{
    if (!exists || s->n == 0) {
        jw_knull(w, key);
        return;
    }
    const struct session_row *edge = &s->rows[backward ? 0 : s->n - 1];
    struct cursor cursor = {.list = CURSOR_SESSIONS,
                            .desc = s->list.page.desc,
                            .backward = backward,
                            .at_us = edge->created_us,
                            .id = id_str(&edge->id)};
    listing_cursor(w, key, &cursor);
}

static void reply_list(struct call *c)
{
    struct session_call *s = c->state;
    int64_t now = clock_unix_us();
    struct buf b = BUF_INIT(SIZE_MAX / 4);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_key(&w, "data");
    jw_arr(&w);
    for (size_t i = 0; i < s->n; i++)
        session_write(&w, &s->rows[i], now);
    jw_arr_end(&w);
    write_cursor(&w, "next_page", s, s->has_next, false);
    write_cursor(&w, "prev_page", s, s->has_prev, true);
    jw_obj_end(&w);
    call_reply(c, &b);
}

static void reply_empty(struct call *c)
{
    struct buf b = BUF_INIT(64);
    buf_z(&b, "{\"data\":[],\"next_page\":null,\"prev_page\":null}");
    call_reply(c, &b);
}

static int read_filter(struct call *c, struct session_call *s, struct err *err)
{
    static const char *const orders[] = {"asc", "desc", NULL};
    int order = 1;
    int rc = query_enum(&c->query, "order", orders, &order, err);
    if (!rc)
        rc = listing_read(c, CURSOR_SESSIONS, 20, 100, order == 1, &s->list, err);
    if (!rc)
        rc = query_set(&c->query, "statuses", session_status_names, &s->filter.statuses, err);
    if (!rc)
        rc = query_i64(&c->query, "agent_version", 1, INT64_MAX, &s->filter.agent_version, err);
    const struct time_range *r = &s->list.range;
    s->filter.agent_id = query_get(&c->query, "agent_id");
    if (!str_some(s->filter.agent_id))
        s->filter.agent_version = 0; /* it says nothing without its agent */
    s->filter.include_archived = s->list.include_archived;
    s->filter.created_gt_us = r->gt;
    s->filter.created_gte_us = r->gte;
    s->filter.created_lt_us = r->lt;
    s->filter.created_lte_us = r->lte;
    return rc;
}

void sessions_list(struct call *c)
{
    struct session_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    if (read_filter(c, s, &err))
        call_fail(c, &err);
    else if (str_some(query_get(&c->query, "deployment_id")) ||
             str_some(query_get(&c->query, "memory_store_id")))
        reply_empty(c); /* no session has either yet */
    else
        call_read(c, list_step, reply_list);
}

/* ---- threads: the primary one ---- */

static int thread_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct session_call *s = c->state;
    int rc = session_find(tx, c, &s->row, err);
    if (!rc && str_some(c->id[1]) && !str_eq(c->id[1], id_str(&s->row.thread_id)))
        return err_set(err, ERR_NOT_FOUND, "Thread '" STR_FMT "' not found in this session",
                       STR_ARG(str_utf8_take(c->id[1], 64)));
    return rc ? rc : agent_thread_snapshot(&c->arena, s->row.agent, &s->thread_agent, err);
}

static void reply_thread(struct call *c)
{
    struct session_call *s = c->state;
    struct buf b = BUF_INIT(SIZE_MAX / 4);
    struct jw w = jw_to(&b);
    session_thread_write(&w, &s->row, s->thread_agent, clock_unix_us());
    call_reply(c, &b);
}

static void reply_threads(struct call *c)
{
    struct session_call *s = c->state;
    struct listing_out out;
    struct jw *w = listing_begin(&out);
    unsigned wanted = s->filter.statuses;
    if (wanted == 0 || (wanted >> session_status_shown(&s->row) & 1))
        session_thread_write(w, &s->row, s->thread_agent, clock_unix_us());
    listing_end(c, &out, NULL);
}

void threads_get(struct call *c)
{
    if (call_state(c, sizeof(struct session_call)))
        call_read(c, thread_step, reply_thread);
}

void threads_list(struct call *c)
{
    struct session_call *s = call_state(c, sizeof *s);
    struct err err;
    int64_t limit = 1000;
    if (!s)
        return;
    if (str_some(query_get(&c->query, "page"))) { /* one thread, one page: nobody has a cursor */
        err_at(&err, ERR_INVALID, "page",
               "page: Invalid cursor; use the next_page of an earlier response of this list");
        call_fail(c, &err);
    } else if (query_i64(&c->query, "limit", 1, 1000, &limit, &err) ||
               query_set(&c->query, "statuses", session_status_names, &s->filter.statuses, &err))
        call_fail(c, &err);
    else
        call_read(c, thread_step, reply_threads);
}
