/* POST and GET /v1/sessions/{id}/events */
#include "api/budget_decode.h"
#include "api/cursor.h"
#include "api/event_decode.h"
#include "api/handlers.h"
#include "api/inbox.h"
#include "api/outcomes.h"
#include "api/session_call.h"
#include "api/session_json.h"
#include "api/sources.h"
#include "api/work_impl.h"

#include "base/clock.h"
#include "base/limits.h"
#include "core/agent.h"
#include "json/decode.h"

#include <stdio.h>

/* ---- send ---- */

struct send_in {
    const struct json *events;
};
static const struct json_field send_fields[] = {
    JSON_FIELD_ANY(struct send_in, events, "events", .type = JSON_ARRAY, .required = true, .min = 1,
                   .max = LIMIT_EVENTS_PER_SEND),
    JSON_FIELD_END};

struct send_call {
    struct session_row row;
    struct sent_event *events;
    size_t n;
    int64_t received_us;
    struct str model, speed; /* of the session's agent, for a system.message */
    struct err refusal;      /* of what was looked at before the transaction; code 0: none */
};

/* An event may name a thread of the session; there is only the primary one. */
static int check_threads(const struct send_call *s, struct err *err)
{
    for (size_t i = 0; i < s->n; i++) {
        struct str id = s->events[i].thread_id;
        if (!str_some(id) || str_eq(id, id_str(&s->row.thread_id)))
            continue;
        char where[ERR_AT_MAX];
        json_pointer_index(where, "/events", i);
        json_fail(err, where, "session_thread_id", "No thread '" STR_FMT "' in this session",
                  STR_ARG(str_utf8_take(id, 64)));
        err->code = ERR_NOT_FOUND;
        return ERR_NOT_FOUND;
    }
    return 0;
}

static bool is_result(enum event_type type)
{
    return type == EVENT_USER_TOOL_RESULT || type == EVENT_USER_CUSTOM_TOOL_RESULT;
}

/* A worker is the hands of a session, not its user: it may not allow its own calls, nor have files
 * of the workspace read to it by the model. */
static int check_sender(const struct call *c, const struct send_call *s, struct err *err)
{
    char where[ERR_AT_MAX];
    if (c->who.kind == TAKES_API)
        return 0;
    for (size_t i = 0; i < s->n; i++) {
        json_pointer_index(where, "/events", i);
        if (!is_result(s->events[i].event.type))
            return err_at(err, ERR_PERMISSION, where,
                          "a worker sends 'user.tool_result' and 'user.custom_tool_result' only; "
                          "use an API key");
        if (s->events[i].nfiles)
            return err_at(err, ERR_PERMISSION, where,
                          "a worker sends what a result holds, not a file_id");
    }
    return 0;
}

static bool has_system(const struct send_call *s)
{
    return s->events[s->n - 1].event.type == EVENT_SYSTEM_MESSAGE;
}

/* A system.message goes with what it follows. Alone it needs a session that has ended its turn, and
 * while calls wait for the client it can only go with an answer to them. */
static int check_system(const struct send_call *s, struct arena *a, struct err *err)
{
    if (!has_system(s))
        return 0;
    const struct json *reason = NULL;
    char where[ERR_AT_MAX];
    json_pointer_index(where, "/events", s->n - 1);
    if (str_some(s->row.stop_reason) && json_parse(a, s->row.stop_reason, 0, &reason, err))
        return err_set(err, ERR_CORRUPT, "the stop reason of %s cannot be read", s->row.id.z);
    struct str why = json_get_str(reason, "type");
    bool idle = session_status_shown(&s->row) == SESSION_IDLE;
    if (idle && str_eqz(why, "requires_action")) {
        if (s->n > 1 && is_result(s->events[s->n - 2].event.type))
            return 0;
        return json_fail(err, where, NULL,
                         "While the session waits for answers (requires_action) a system.message "
                         "can only follow a tool result in the same request");
    }
    if (s->n > 1 || (idle && (why.len == 0 || str_eqz(why, "end_turn"))))
        return 0;
    return json_fail(err, where, NULL,
                     "A system.message without the message or tool result it accompanies needs a "
                     "session that is idle after end_turn; this one is %s" STR_FMT,
                     idle ? "idle after " : "running", STR_ARG(idle ? why : STR("")));
}

/* The tool use that an answer names, out of the session's log. */
static int find_use(struct store_tx *tx, const struct send_call *s, struct arena *a,
                    struct str use_id, struct event *out, struct err *err)
{
    int64_t seq;
    int rc = tx_event_seq(tx, s->row.key, use_id, &seq, err);
    if (rc)
        return rc;
    struct event_filter one = {.after_seq = seq - 1, .limit = 1};
    struct event *events;
    size_t n;
    bool more;
    rc = tx_event_list(tx, s->row.key, &one, a, &events, &n, &more, err);
    if (rc == 0 && n == 1)
        *out = events[0];
    return rc || n == 1 ? rc : err_set(err, ERR_NOT_FOUND, "no event");
}

/* Results of the tools that a sandbox runs come from clients only where there is none here. */
static int check_hands(const struct send_call *s, struct arena *a, const char *where,
                       struct err *err)
{
    struct agent hands;
    int rc = agent_place(a, s->row.environment, &hands, err);
    if (rc == 0 && !hands.self_hosted)
        rc = json_fail(err, where, "type",
                       "'user.tool_result' answers the tools of a self-hosted environment; this "
                       "session's tools run on the server");
    return rc;
}

/* An answer must belong to a call of this session, a confirmation to one that asks. That the call
 * may be answered already is no error: clients repeat their answers, and the loop ignores late
 * ones. */
static int check_answer(struct store_tx *tx, const struct send_call *s, size_t i, struct err *err)
{
    const struct sent_event *e = &s->events[i];
    if (!str_some(e->answers))
        return 0;
    bool custom = e->event.type == EVENT_USER_CUSTOM_TOOL_RESULT;
    const char *field = custom ? "custom_tool_use_id" : "tool_use_id";
    char where[ERR_AT_MAX];
    json_pointer_index(where, "/events", i);
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    struct event use = {0};
    int rc = e->event.type == EVENT_USER_TOOL_RESULT ? check_hands(s, &a, where, err) : 0;
    if (!rc)
        rc = find_use(tx, s, &a, e->answers, &use, err);
    if (rc == ERR_NOT_FOUND ||
        (!rc && use.type != (custom ? EVENT_AGENT_CUSTOM_TOOL_USE : EVENT_AGENT_TOOL_USE)))
        return json_fail(err, where, field, "No %s '" STR_FMT "' in this session",
                         custom ? "agent.custom_tool_use" : "agent.tool_use",
                         STR_ARG(str_utf8_take(e->answers, 64)));
    const struct json *body;
    if (rc || e->event.type != EVENT_USER_TOOL_CONFIRMATION)
        return rc;
    rc = json_parse(&a, use.body, JSON_ALLOW_DUPLICATES, &body, err);
    if (!rc && !str_eqz(json_get_str(body, "evaluated_permission"), "ask"))
        rc = json_fail(err, where, field, "This call does not ask for a confirmation");
    return rc;
}

static int check_caps(const struct send_call *s, struct err *err)
{
    enum event_type types[LIMIT_EVENTS_PER_SEND];
    for (size_t i = 0; i < s->n; i++)
        types[i] = s->events[i].event.type;
    return budget_check_events(&s->row, types, s->n, err);
}

static int send_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct send_call *s = c->state;
    int rc = session_find(tx, c, &s->row, err);
    if (!rc)
        rc = session_open_check(&s->row, err);
    if (!rc)
        rc = check_caps(s, err);
    if (!rc && s->refusal.code) {
        *err = s->refusal;
        rc = err->code;
    }
    if (!rc)
        rc = check_threads(s, err);
    if (!rc)
        rc = check_system(s, &c->arena, err);
    for (size_t i = 0; !rc && i < s->n; i++)
        rc = check_answer(tx, s, i, err);
    if (!rc)
        rc = outcomes_accept(tx, c, &s->row, s->events, s->n, "/events", err);
    if (!rc)
        rc = inbox_accept(tx, &s->row, s->events, s->n, "/events", err);
    if (!rc && session_self_hosted(&s->row))
        rc = tx_work_ensure(tx, s->row.key, s->received_us, NULL, err);
    return rc;
}

/* Results of tools count as processed on their receipt, and are echoed so. */
static void write_event(const struct sent_event *e, int64_t received_us, struct buf *out)
{
    static const char mark[] = "\"processed_at\":null";
    struct str body = e->event.body;
    ptrdiff_t at = is_result(e->event.type) ? str_find(body, str_z(mark)) : -1;
    if (at < 0) {
        buf_str(out, body);
        return;
    }
    char text[CLOCK_TEXT_MAX];
    clock_format(text, received_us);
    buf_str(out, str_take(body, (size_t)at));
    buf_printf(out, "\"processed_at\":\"%s\"", text);
    buf_str(out, str_skip(body, (size_t)at + sizeof mark - 1));
}

static void write_answer(struct call *c, struct buf *out)
{
    const struct send_call *s = c->state;
    buf_z(out, "{\"data\":[");
    for (size_t i = 0; i < s->n; i++) {
        if (i)
            buf_ch(out, ',');
        write_event(&s->events[i], s->received_us, out);
    }
    buf_z(out, "]}");
}

static void sent(struct call *c)
{
    const struct send_call *s = c->state;
    engine_wake(c->api->cfg.engine, id_str(&s->row.id));
    if (session_self_hosted(&s->row))
        work_wake(c->api, id_str(&s->row.environment_id));
}

static void submit(struct call *c)
{
    static const struct call_creation how = {send_step, write_answer, sent, NULL, NULL};
    call_create(c, &how);
}

/* What takes time, or belongs to the loop, is looked at before the transaction. What is wrong there
 * is said in it: the same request under an Idempotency-Key gets the answer it got. */
static int prepare_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct send_call *s = c->state;
    const struct json *agent;
    s->refusal.code = 0;
    int rc = session_find(tx, c, &s->row, err);
    if (rc == 0 && has_system(s)) {
        if (json_parse(&c->arena, s->row.agent, 0, &agent, err))
            return err_set(err, ERR_CORRUPT, "the agent of %s cannot be read", s->row.id.z);
        s->model = json_get_str(json_get(agent, "model"), "id");
        s->speed = json_get_str(json_get(agent, "model"), "speed");
    }
    if (rc == 0)
        rc = sources_resolve(tx, c, s->events, s->n, "/events", err);
    if (rc == 0)
        rc = outcomes_resolve(tx, c, s->events, s->n, "/events", err);
    if (rc != ERR_NOT_FOUND && rc != ERR_INVALID && rc != ERR_TOO_LARGE)
        return rc;
    s->refusal = *err;
    return 0;
}

static void check_model(struct call *c)
{
    struct send_call *s = c->state;
    struct model_port models = model_router_port(c->api->cfg.models);
    char where[ERR_AT_MAX];
    if (models.facts && models.facts(models.self, s->model, s->speed).system_messages)
        return;
    json_pointer_index(where, "/events", s->n - 1);
    json_fail(&s->refusal, where, NULL,
              "model_does_not_support_mid_conversation_system: '" STR_FMT "' takes no "
              "system.message",
              STR_ARG(str_utf8_take(s->model, 64)));
    s->refusal.detail = "model_does_not_support_mid_conversation_system";
}

static void prepared(struct call *c)
{
    struct send_call *s = c->state;
    if (!c->req)
        return; /* the client is gone, and nothing was accepted yet */
    if (s->refusal.code == 0 && has_system(s))
        check_model(c);
    submit(c);
}

void events_send(struct call *c)
{
    struct send_call *s = call_state(c, sizeof *s);
    struct send_in in;
    struct err err;
    if (!s)
        return;
    int rc = json_decode(c->doc, send_fields, &in, sizeof in, "", &err);
    if (!rc) {
        s->n = in.events->count;
        s->received_us = clock_unix_us();
        rc = events_decode(&c->arena, in.events, false, "/events", &s->events, &err);
    }
    if (!rc)
        rc = check_sender(c, s, &err);
    if (rc)
        call_fail(c, &err);
    else if (has_system(s) || sources_any(s->events, s->n) || outcomes_any_file(s->events, s->n))
        call_read(c, prepare_step, prepared);
    else
        submit(c);
}

/* ---- list ---- */

/* A page ends early when it has grown to this: clients follow next_page in any case. */
enum { PAGE_BYTES = 8 * 1024 * 1024, BATCH_FIRST = 16, BATCH_MAX = 256, BATCH_SMALL = 512 * 1024 };

struct list_call {
    bool desc, queued; /* queued: events not processed yet are wanted too */
    int64_t limit;
    struct time_range range;
    uint64_t types;
    struct cursor from; /* number and inbox 0: from the start */
    struct cursor next; /* list 0: there is none */
};

/* What one run of the step has found so far; the text grows in c->body. */
struct gather {
    struct store_tx *tx;
    struct list_call *s;
    struct buf *out;
    int64_t key, left;
    struct cursor at;
    bool more;
};

static void put_body(struct gather *g, const struct event *e)
{
    if (g->left < g->s->limit)
        buf_ch(g->out, ',');
    buf_str(g->out, e->body);
    g->left--;
}

static bool page_full(const struct gather *g)
{
    return g->left == 0 || g->out->len >= PAGE_BYTES;
}

static int gather_batch(struct gather *g, struct arena *scratch, int64_t batch, size_t *n,
                        struct err *err)
{
    const struct list_call *s = g->s;
    struct event_filter f = {
        .after_seq = s->desc ? 0 : g->at.number,
        .before_seq = s->desc ? g->at.number : 0,
        .desc = s->desc,
        .limit = batch < g->left ? batch : g->left,
        .types = s->types,
        .gt_us = s->range.gt,
        .gte_us = s->range.gte,
        .lt_us = s->range.lt,
        .lte_us = s->range.lte,
    };
    struct event *events;
    int rc = tx_event_list(g->tx, g->key, &f, scratch, &events, n, &g->more, err);
    for (size_t i = 0; rc == 0 && i < *n; i++) {
        put_body(g, &events[i]);
        g->at.number = events[i].seq;
        g->at.at_us = events[i].processed_us;
    }
    return rc;
}

/* In batches, so that a page of huge events needs no huge memory. */
static int gather_log(struct gather *g, struct err *err)
{
    AUTO_ARENA struct arena scratch;
    arena_init(&scratch, LIMIT_JSON_ARENA);
    int64_t batch = BATCH_FIRST;
    do {
        size_t n = 0, before = g->out->len;
        int rc = gather_batch(g, &scratch, batch, &n, err);
        if (rc == ERR_LIMIT && batch > 1)
            batch = 1; /* huge ones: one by one */
        else if (rc)
            return rc;
        else if (g->out->len - before < BATCH_SMALL && batch < BATCH_MAX)
            batch *= 2;
        if (rc)
            g->more = true;
        arena_reset(&scratch);
    } while (g->more && !page_full(g));
    return 0;
}

static void gather_waiting(struct gather *g, const struct inbox_row *rows, size_t n)
{
    for (size_t i = 0; i < n && !g->more; i++) {
        const struct event *e = &rows[i].event;
        if (g->s->types && !(g->s->types >> e->type & 1))
            continue;
        g->more = page_full(g);
        if (g->more)
            return;
        put_body(g, e);
        g->at.inbox = rows[i].number;
    }
}

static int gather_inbox(struct gather *g, struct err *err)
{
    AUTO_ARENA struct arena scratch;
    arena_init(&scratch, 2ul * LIMIT_JSON_ARENA);
    struct inbox_row *rows;
    size_t n;
    int64_t after = g->at.inbox;
    do {
        arena_reset(&scratch);
        int rc = tx_inbox_list(g->tx, g->key, after, &scratch, &rows, &n, err);
        if (rc)
            return rc;
        gather_waiting(g, rows, n);
        after = n ? rows[n - 1].number : after;
    } while (n && !g->more);
    return 0;
}

static int list_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct list_call *s = c->state;
    struct session_row row;
    int rc = session_find(tx, c, &row, err);
    if (rc)
        return rc;
    buf_clear(&c->body);
    buf_z(&c->body, "{\"data\":[");
    struct gather g = {.tx = tx, .s = s, .out = &c->body, .key = row.key, .left = s->limit};
    g.at = s->from;
    rc = gather_log(&g, err);
    if (rc == 0 && !g.more && s->queued && row.inbox)
        rc = gather_inbox(&g, err);
    s->next = g.at;
    s->next.list = g.more ? CURSOR_EVENTS : 0;
    s->next.desc = s->desc;
    return rc;
}

static void reply_list(struct call *c)
{
    struct list_call *s = c->state;
    buf_z(&c->body, "],\"next_page\":");
    if (s->next.list) {
        buf_ch(&c->body, '"');
        cursor_write(&c->body, &s->next);
        buf_ch(&c->body, '"');
    } else {
        buf_z(&c->body, "null");
    }
    buf_ch(&c->body, '}');
    call_reply(c, &c->body);
}

static int read_types(struct call *c, uint64_t *out, struct err *err)
{
    struct str name;
    for (size_t at = 0; query_next(&c->query, "types", &at, &name);) {
        enum event_type t = event_type_of(name);
        if (t == EVENT_NONE)
            return err_at(err, ERR_INVALID, "types[]", "types[]: '" STR_FMT "' is no event type",
                          STR_ARG(str_utf8_take(name, 64)));
        *out |= UINT64_C(1) << t;
    }
    return 0;
}

static int read_list(struct call *c, struct list_call *s, struct err *err)
{
    static const char *const orders[] = {"asc", "desc", NULL};
    int order = 0;
    s->limit = 1000;
    int rc = query_enum(&c->query, "order", orders, &order, err);
    if (!rc)
        rc = query_i64(&c->query, "limit", 1, 1000, &s->limit, err);
    if (!rc)
        rc = query_range(&c->query, "created_at", &s->range, err);
    if (!rc)
        rc = read_types(c, &s->types, err);
    s->desc = order == 1;
    s->queued = !time_range_any(&s->range);
    struct str page = query_get(&c->query, "page");
    if (!rc && str_some(page))
        rc = cursor_read(&c->arena, page, CURSOR_EVENTS, s->desc, &s->from, err);
    return rc ? rc : time_range_check(&s->range, s->from.at_us, err);
}

void events_list(struct call *c)
{
    struct list_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    c->body = BUF_INIT(SIZE_MAX / 4);
    if (read_list(c, s, &err))
        call_fail(c, &err);
    else
        call_read(c, list_step, reply_list);
}
