/* Whether calls of a session wait for hands that run elsewhere: read from its log, because the loop
 * holds nothing of a session that rests. */
#include "store/work_impl.h"

#include "base/limits.h"
#include "json/json.h"

/* A confirmation of this call stands behind it. */
static int confirmed(struct store_tx *tx, int64_t session, int64_t seq, struct str use_id,
                     bool *out, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 64ul << 20);
    const struct event_filter f = {.after_seq = seq,
                                   .types = UINT64_C(1) << EVENT_USER_TOOL_CONFIRMATION};
    struct event *events;
    size_t n;
    bool more;
    int rc = tx_event_list(tx, session, &f, &a, &events, &n, &more, err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json *body;
        rc = json_parse(&a, events[i].body, JSON_ALLOW_DUPLICATES, &body, err);
        if (rc == 0 && str_eq(json_get_str(body, "tool_use_id"), use_id))
            *out = *out || str_eqz(json_get_str(body, "result"), "allow");
    }
    return rc;
}

/* Who has to say something about the call: whoever runs it, or first whoever allows it. */
static int wants_hands(struct store_tx *tx, int64_t session, struct str use_id, bool *out,
                       struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_PROMPT);
    int64_t seq;
    int rc = tx_event_seq(tx, session, use_id, &seq, err);
    if (rc)
        return rc == ERR_NOT_FOUND ? 0 : rc;
    const struct event_filter f = {.after_seq = seq - 1, .limit = 1};
    struct event *e;
    size_t n;
    bool more;
    rc = tx_event_list(tx, session, &f, &a, &e, &n, &more, err);
    if (rc || n == 0)
        return rc;
    if (e->type == EVENT_AGENT_CUSTOM_TOOL_USE)
        *out = true;
    if (e->type != EVENT_AGENT_TOOL_USE)
        return 0;
    const struct json *body;
    rc = json_parse(&a, e->body, JSON_ALLOW_DUPLICATES, &body, err);
    if (rc)
        return rc;
    struct str permission = json_get_str(body, "evaluated_permission");
    if (str_eqz(permission, "ask"))
        return confirmed(tx, session, seq, use_id, out, err);
    *out = *out || str_eqz(permission, "allow");
    return 0;
}

static int calls_wait(struct store_tx *tx, int64_t session, struct str stop_reason, bool *out,
                      struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 16ul << 20);
    const struct json *reason;
    *out = false;
    if (!str_some(stop_reason))
        return 0;
    int rc = json_parse(&a, stop_reason, 0, &reason, err);
    if (rc || !str_eqz(json_get_str(reason, "type"), "requires_action"))
        return rc;
    json_for_each (id, json_get(reason, "event_ids")) {
        rc = wants_hands(tx, session, id->str, out, err);
        if (rc || *out)
            return rc;
    }
    return 0;
}

int work_need(struct store_tx *tx, int64_t session_key, enum work_need *out, struct err *err)
{
    static const char sql[] = "SELECT status, inbox, stop_reason FROM session WHERE key = ?1";
    AUTO_ROWS struct db_rows rows = {0};
    AUTO_ARENA struct arena a;
    bool row = false, wait = false;
    arena_init(&a, 16ul << 20);
    *out = WORK_REST;
    int rc = db_first(tx->db, sql, DB_ARGS(db_i64(session_key)), &rows, &row, err);
    if (rc || !row || db_col_i64(&rows, 0) == SESSION_TERMINATED)
        return rc;
    if (db_col_i64(&rows, 0) != SESSION_IDLE || db_col_i64(&rows, 1) > 0) {
        *out = WORK_TURN;
        return 0;
    }
    struct str reason = db_col_str(&rows, 2);
    if (str_some(reason))
        reason = arena_str(&a, reason);
    db_end(&rows);
    rc = calls_wait(tx, session_key, reason, &wait, err);
    if (wait)
        *out = WORK_CALLS_WAIT;
    return rc;
}
