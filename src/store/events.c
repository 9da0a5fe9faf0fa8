/* The inbox and the log. */
#include "store/tx.h"
#include "store/work.h"

#include "base/limits.h"

#include <assert.h>
#include <inttypes.h>

enum { FLAG_TRANSCRIPT = 1 }; /* event.flags: a transcript row goes with it */

static int read_type(const struct db_rows *r, int col, enum event_type *out, struct err *err)
{
    int64_t t = db_col_i64(r, col);
    if (t <= EVENT_NONE || t >= EVENT_TYPE_COUNT)
        return err_set(err, ERR_CORRUPT, "the log holds an event of unknown type %" PRId64, t);
    *out = (enum event_type)t;
    return 0;
}

/* ---- inbox ---- */

int tx_inbox_add(struct store_tx *tx, int64_t session_key, struct inbox_row *row, struct err *err)
{
    static const char count[] = "UPDATE session SET inbox = inbox + 1 WHERE key = ?1";
    static const char add[] = "INSERT INTO inbox(session, id, type, body, transcript, bytes)"
                              " VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING number";
    int64_t changes = 0, number = 0;
    int rc = db_exec(tx->db, count, DB_ARGS(db_i64(session_key)), &changes, err);
    if (rc)
        return rc;
    if (changes == 0)
        return err_set(err, ERR_NOT_FOUND, "the session does not exist any more");
    const struct event *ev = &row->event;
    rc = db_number(tx->db, add,
                   DB_ARGS(db_i64(session_key), db_text(id_str(&ev->id)), db_i64(ev->type),
                           db_text(ev->body), db_text(ev->transcript),
                           db_i64((int64_t)(ev->body.len + ev->transcript.len))),
                   0, &number, err);
    if (rc == 0)
        row->number = number;
    return rc;
}

int tx_inbox_size(struct store_tx *tx, int64_t session_key, int64_t *events, int64_t *bytes,
                  struct err *err)
{
    static const char sql[] =
        "SELECT count(*), coalesce(sum(bytes), 0) FROM inbox WHERE session = ?1";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_i64(session_key)), &rows, &row, err);
    *events = rc == 0 && row ? db_col_i64(&rows, 0) : 0;
    *bytes = rc == 0 && row ? db_col_i64(&rows, 1) : 0;
    return rc;
}

int tx_inbox_list(struct store_tx *tx, int64_t session_key, int64_t after, struct arena *a,
                  struct inbox_row **out, size_t *n, struct err *err)
{
    static const char sql[] = "SELECT number, id, type, body, transcript FROM inbox"
                              " WHERE session = ?1 AND number > ?2 ORDER BY number";
    AUTO_ROW_LIST struct row_list list = {.size = sizeof(struct inbox_row)};
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    size_t bytes = 0;
    int rc = db_first(tx->db, sql, DB_ARGS(db_i64(session_key), db_i64(after)), &rows, &row, err);
    while (rc == 0 && row && bytes < LIMIT_INBOX_READ) {
        struct inbox_row *in = row_list_push(&list);
        bytes += db_col_str(&rows, 3).len + db_col_str(&rows, 4).len;
        in->number = db_col_i64(&rows, 0);
        in->event.id = id_from(db_col_str(&rows, 1));
        in->event.body = arena_str(a, db_col_str(&rows, 3));
        if (str_some(db_col_str(&rows, 4)))
            in->event.transcript = arena_str(a, db_col_str(&rows, 4));
        rc = read_type(&rows, 2, &in->event.type, err);
        if (rc == 0)
            rc = db_next(&rows, &row, err);
    }
    return rc ? rc : row_list_take(&list, a, (void **)out, n, err);
}

/* ---- appending ---- */

static int add_event(struct store_tx *tx, int64_t session, const struct event *ev, struct err *err)
{
    static const char sql[] = "INSERT INTO event(session, seq, id, type, flags, processed_us, body)"
                              " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    static const char private[] = "INSERT INTO transcript(session, seq, body) VALUES (?1, ?2, ?3)";
    bool has = str_some(ev->transcript);
    int rc = db_exec(tx->db, sql,
                     DB_ARGS(db_i64(session), db_i64(ev->seq), db_text(id_str(&ev->id)),
                             db_i64(ev->type), db_i64(has ? FLAG_TRANSCRIPT : 0),
                             db_i64(ev->processed_us), db_text(ev->body)),
                     NULL, err);
    if (rc || !has)
        return rc;
    return db_exec(tx->db, private,
                   DB_ARGS(db_i64(session), db_i64(ev->seq), db_text(ev->transcript)), NULL, err);
}

static int drop_inbox(struct store_tx *tx, const struct session_append *ap, struct err *err)
{
    static const char sql[] = "DELETE FROM inbox WHERE number = ?1 AND session = ?2";
    for (size_t i = 0; i < ap->ninbox_done; i++) {
        int64_t changes = 0;
        int rc = db_exec(tx->db, sql, DB_ARGS(db_i64(ap->inbox_done[i]), db_i64(ap->key)), &changes,
                         err);
        if (rc)
            return rc;
        if (changes != 1)
            return err_set(err, ERR_CONFLICT,
                           "inbox entry %" PRId64 " does not wait in this session any more",
                           ap->inbox_done[i]);
    }
    return 0;
}

/* Why the head row did not match. */
static int refuse(struct store_tx *tx, const struct session_append *ap, struct err *err)
{
    static const char sql[] = "SELECT epoch, last_seq FROM session WHERE key = ?1";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_i64(ap->key)), &rows, &row, err);
    if (rc)
        return rc;
    if (!row)
        return err_set(err, ERR_NOT_FOUND, "the session does not exist any more");
    return err_set(err, ERR_FENCED,
                   "the session is at epoch %" PRId64 ", event %" PRId64
                   "; this writer holds epoch %" PRId64 ", event %" PRId64,
                   db_col_i64(&rows, 0), db_col_i64(&rows, 1), ap->epoch, ap->base_seq);
}

static int check_events(const struct session_append *ap, int64_t *last_processed_us,
                        struct err *err)
{
    int64_t last = 0;
    for (size_t i = 0; i < ap->nevents; i++) {
        const struct event *ev = &ap->events[i];
        if (ev->seq != ap->base_seq + 1 + (int64_t)i || ev->processed_us < last ||
            ev->processed_us <= 0)
            return err_set(err, ERR_INTERNAL, "events to append are out of order at seq %" PRId64,
                           ev->seq);
        last = ev->processed_us;
    }
    *last_processed_us = last;
    return 0;
}

/* The head row first: its conditions are the fence, and nothing was written when they fail. */
static int move_head(struct store_tx *tx, const struct session_append *ap, int64_t processed_us,
                     struct err *err)
{
#define HEAD                                                                                       \
    "UPDATE session SET last_seq = ?4, inbox = inbox - ?6,"                                        \
    " last_processed_us = CASE WHEN ?5 > last_processed_us THEN ?5 ELSE last_processed_us END,"    \
    " has_sandbox = CASE ?7 WHEN 1 THEN 1 ELSE has_sandbox END,"                                   \
    " checkpoint_due = CASE ?8 WHEN 0 THEN checkpoint_due ELSE ?8 END"
#define FENCE " WHERE key = ?1 AND epoch = ?2 AND last_seq = ?3"
    static const char head[] = HEAD FENCE;
    static const char status[] =
        HEAD ", status = ?9, stop_reason = ?10, updated_us = ?11, input_tokens = ?12,"
             " output_tokens = ?13, cache_read_tokens = ?14, cache_write_5m_tokens = ?15,"
             " cache_write_1h_tokens = ?16, cost_microusd = ?17, active_us = ?18,"
             " running_since_us = ?19, model_requests = ?20, turns = ?21, held_microusd = ?22,"
             " web_searches = ?23" FENCE;
    const struct session_usage *u = &ap->usage;
    const struct db_value v[] = {
        db_i64(ap->key),
        db_i64(ap->epoch),
        db_i64(ap->base_seq),
        db_i64(ap->base_seq + (int64_t)ap->nevents),
        db_i64(processed_us),
        db_i64((int64_t)ap->ninbox_done),
        db_i64(ap->set_sandbox),
        db_i64(ap->checkpoint_due),
        db_i64(ap->status),
        db_text(ap->stop_reason),
        db_i64(ap->updated_us),
        db_i64(u->input_tokens),
        db_i64(u->output_tokens),
        db_i64(u->cache_read_tokens),
        db_i64(u->cache_write_5m_tokens),
        db_i64(u->cache_write_1h_tokens),
        db_i64(u->cost_microusd),
        db_i64(u->active_us),
        db_i64(u->running_since_us),
        db_i64(u->model_requests),
        db_i64(u->turns),
        db_i64(u->held_microusd),
        db_i64(u->web_searches),
    };
#undef HEAD
#undef FENCE
    enum { HEAD_VALUES = 8 };
    int64_t changes = 0;
    int rc = db_exec(tx->db, ap->set_status ? status : head, v,
                     ap->set_status ? COUNT_OF(v) : HEAD_VALUES, &changes, err);
    return rc == 0 && changes == 0 ? refuse(tx, ap, err) : rc;
}

int tx_session_append(struct store_tx *tx, const struct session_append *ap, struct err *err)
{
    int64_t processed_us = 0;
    int rc = check_events(ap, &processed_us, err);
    if (rc == 0)
        rc = move_head(tx, ap, processed_us, err);
    for (size_t i = 0; rc == 0 && i < ap->nevents; i++)
        rc = add_event(tx, ap->key, &ap->events[i], err);
    for (size_t i = 0; rc == 0 && i < ap->nledger; i++)
        rc = tx_ledger_add(tx, &ap->ledger[i], err);
    if (rc == 0 && str_some(ap->outcomes))
        rc = tx_session_outcomes(tx, ap->key, ap->outcomes, err);
    if (rc == 0 && ap->work)
        rc = tx_work_want(tx, ap->key, ap->updated_us, err);
    if (rc == 0 && ap->set_status && ap->status == SESSION_TERMINATED)
        rc = tx_work_end(tx, ap->key, ap->updated_us, err);
    return rc ? rc : drop_inbox(tx, ap, err);
}

/* ---- reading ---- */

/* Half-open bounds on processed_us: [lo, hi). */
static void time_bounds(const struct event_filter *f, int64_t *lo, int64_t *hi)
{
    *lo = f->gte_us ? f->gte_us : INT64_MIN;
    *hi = f->lt_us ? f->lt_us : INT64_MAX;
    if (f->gt_us && f->gt_us < INT64_MAX && f->gt_us + 1 > *lo)
        *lo = f->gt_us + 1;
    if (f->lte_us && f->lte_us < INT64_MAX && f->lte_us + 1 < *hi)
        *hi = f->lte_us + 1;
}

#define EVENT_SELECT(private, join)                                                                \
    "SELECT e.seq, e.type, e.id, e.processed_us, e.body, " private " FROM event e" join            \
                                                                   " WHERE e.session = ?1 AND "    \
                                                                   "e.seq > ?2 AND e.seq < ?3"     \
                                                                   " AND (?4 = 0 OR (?4 >> "       \
                                                                   "e.type) & 1) AND "             \
                                                                   "e.processed_us >= ?5 AND "     \
                                                                   "e.processed_us < ?6"           \
                                                                   " ORDER BY e.session, e.seq"
#define EVENT_PUBLIC EVENT_SELECT("NULL", "")
#define EVENT_PRIVATE                                                                              \
    EVENT_SELECT("t.body", " LEFT JOIN transcript t ON (e.flags & 1) != 0"                         \
                           " AND t.session = e.session AND t.seq = e.seq")

static const char *event_sql(const struct event_filter *f)
{
    static const char asc[] = EVENT_PUBLIC " LIMIT ?7";
    static const char desc[] = EVENT_PUBLIC " DESC LIMIT ?7";
    static const char asc_private[] = EVENT_PRIVATE " LIMIT ?7";
    static const char desc_private[] = EVENT_PRIVATE " DESC LIMIT ?7";
    if (f->transcript)
        return f->desc ? desc_private : asc_private;
    return f->desc ? desc : asc;
}

static int read_event(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct event *out = row;
    out->seq = db_col_i64(r, 0);
    out->id = id_from(db_col_str(r, 2));
    out->processed_us = db_col_i64(r, 3);
    out->body = arena_str(a, db_col_str(r, 4));
    struct str private = db_col_str(r, 5);
    if (str_some(private))
        out->transcript = arena_str(a, private);
    int rc = read_type(r, 1, &out->type, err);
    return rc ? rc : tx_arena_ok(a, err);
}

int tx_event_list(struct store_tx *tx, int64_t session_key, const struct event_filter *f,
                  struct arena *a, struct event **out, size_t *n, bool *more, struct err *err)
{
    int64_t lo, hi, before = f->before_seq ? f->before_seq : INT64_MAX;
    int64_t fetch = f->limit > 0 && f->limit < INT64_MAX ? f->limit + 1 : INT64_MAX;
    time_bounds(f, &lo, &hi);
    const struct db_value v[] = {
        db_i64(session_key), db_i64(f->after_seq), db_i64(before), db_i64((int64_t)f->types),
        db_i64(lo),          db_i64(hi),           db_i64(fetch)};
    const struct row_query q = {.sql = event_sql(f),
                                .v = v,
                                .nv = COUNT_OF(v),
                                .size = sizeof(struct event),
                                .limit = f->limit,
                                .read = read_event};
    return row_query_list(tx, &q, a, out, n, more, err);
}

int tx_event_last_compaction(struct store_tx *tx, int64_t session_key, int64_t *seq,
                             struct err *err)
{
    /* The number stands in the partial index's condition: only then is it used. */
    static const char sql[] = "SELECT coalesce(max(seq), 0) FROM event WHERE session = ?1 AND"
                              " type = 15";
    static_assert(EVENT_AGENT_THREAD_CONTEXT_COMPACTED == 15, "stored numbers never change");
    return db_number(tx->db, sql, DB_ARGS(db_i64(session_key)), 0, seq, err);
}

int tx_event_seq(struct store_tx *tx, int64_t session_key, struct str event_id, int64_t *seq,
                 struct err *err)
{
    /* Resuming streams name a recent event: walking back from the end is short, and an index on the
     * id would cost every append a page. */
    static const char sql[] =
        "SELECT seq FROM event WHERE session = ?1 AND id = ?2 ORDER BY session DESC, seq DESC"
        " LIMIT 1";
    int64_t found = 0;
    int rc =
        db_number(tx->db, sql, DB_ARGS(db_i64(session_key), db_text(event_id)), 0, &found, err);
    if (rc)
        return rc;
    if (found == 0)
        return err_set(err, ERR_NOT_FOUND, "no event '" STR_FMT "' in this session",
                       STR_ARG(str_take(event_id, ID_MAX)));
    *seq = found;
    return 0;
}
