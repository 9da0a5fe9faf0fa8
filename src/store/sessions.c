/* Sessions: the head row, its snapshots, its primary thread. */
#include "store/tx.h"
#include "store/work.h"

#include "base/clock.h"

#include <assert.h>

static int not_found(struct str id, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no session '" STR_FMT "'", STR_ARG(str_take(id, ID_MAX)));
}

/* ---- writing ---- */

static int insert_head(struct store_tx *tx, const struct session_row *r, int64_t *key,
                       struct err *err)
{
    static const char sql[] =
        "INSERT INTO session(id, workspace, thread, agent_id, agent_version, environment_id,"
        " status, inbox, epoch, last_seq, last_processed_us, has_sandbox, created_us, updated_us,"
        " archived_us, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens,"
        " cache_write_1h_tokens, cost_microusd, active_us, running_since_us, model_requests,"
        " stop_reason, turns, held_microusd, budget_microusd, owner, web_searches,"
        " checkpoint_due)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,"
        " ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30)"
        " RETURNING key";
    const struct session_usage *u = &r->usage;
    return db_number(
        tx->db, sql,
        DB_ARGS(db_text(id_str(&r->id)), db_text(id_str(&r->workspace_id)),
                db_text(id_str(&r->thread_id)), db_text(id_str(&r->agent_id)),
                db_i64(r->agent_version), db_text(id_str(&r->environment_id)), db_i64(r->status),
                db_i64(r->epoch), db_i64(r->last_seq), db_i64(r->last_processed_us),
                db_i64(r->has_sandbox), db_i64(r->created_us), db_i64(r->updated_us),
                db_i64(r->archived_us), db_i64(u->input_tokens), db_i64(u->output_tokens),
                db_i64(u->cache_read_tokens), db_i64(u->cache_write_5m_tokens),
                db_i64(u->cache_write_1h_tokens), db_i64(u->cost_microusd), db_i64(u->active_us),
                db_i64(u->running_since_us), db_i64(u->model_requests), db_text(r->stop_reason),
                db_i64(u->turns), db_i64(u->held_microusd), db_i64(r->budget_microusd),
                db_text(id_str(&r->owner)), db_i64(u->web_searches), db_i64(r->checkpoint_due)),
        0, key, err);
}

static struct str or_else(struct str s, struct str fallback)
{
    return str_some(s) ? s : fallback;
}

int tx_session_insert(struct store_tx *tx, struct session_row *row, struct err *err)
{
    static const char config[] =
        "INSERT INTO session_config(session, title, metadata, agent, environment, limits,"
        " provision, forked_from, outcomes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    static const char thread[] = "INSERT INTO thread(id, session, parent, status, created_us)"
                                 " VALUES (?1, ?2, NULL, ?3, ?4)";
    int64_t key = 0;
    int rc = insert_head(tx, row, &key, err);
    if (rc == ERR_EXISTS)
        return err_set(err, ERR_EXISTS, "session '%s' exists already", row->id.z);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "no workspace '%s'", row->workspace_id.z);
    if (rc)
        return rc;
    rc = db_exec(
        tx->db, config,
        DB_ARGS(db_i64(key), db_text(row->title), db_text(or_else(row->metadata, STR("{}"))),
                db_text(or_else(row->agent, STR("{}"))),
                db_text(or_else(row->environment, STR("{}"))), db_text(row->limits),
                db_text(row->provision), db_text(row->forked_from), db_text(row->outcomes)),
        NULL, err);
    if (rc == 0)
        rc = db_exec(tx->db, thread,
                     DB_ARGS(db_text(id_str(&row->thread_id)), db_i64(key), db_i64(row->status),
                             db_i64(row->created_us)),
                     NULL, err);
    if (rc == 0)
        row->key = key;
    return rc;
}

int tx_session_take(struct store_tx *tx, int64_t key, int64_t *epoch, struct err *err)
{
    static const char sql[] = "UPDATE session SET epoch = epoch + 1 WHERE key = ?1 RETURNING epoch";
    int64_t now = 0;
    int rc = db_number(tx->db, sql, DB_ARGS(db_i64(key)), 0, &now, err);
    if (rc)
        return rc;
    if (now == 0)
        return err_set(err, ERR_NOT_FOUND, "the session does not exist any more");
    *epoch = now;
    return 0;
}

int tx_session_update(struct store_tx *tx, const struct session_row *row, struct err *err)
{
    static const char head[] =
        "UPDATE session SET archived_us = ?2, updated_us = ?3, budget_microusd = ?4"
        " WHERE key = ?1";
    static const char config[] =
        "UPDATE session_config SET title = ?2, metadata = ?3, agent = ?4, limits = ?5"
        " WHERE session = ?1";
    int64_t changes = 0;
    int rc = db_exec(tx->db, head,
                     DB_ARGS(db_i64(row->key), db_i64(row->archived_us), db_i64(row->updated_us),
                             db_i64(row->budget_microusd)),
                     &changes, err);
    if (rc)
        return rc;
    if (changes == 0)
        return not_found(id_str(&row->id), err);
    return db_exec(tx->db, config,
                   DB_ARGS(db_i64(row->key), db_text(row->title),
                           db_text(or_else(row->metadata, STR("{}"))),
                           db_text(or_else(row->agent, STR("{}"))), db_text(row->limits)),
                   NULL, err);
}

int tx_session_outcomes(struct store_tx *tx, int64_t key, struct str outcomes, struct err *err)
{
    static const char sql[] = "UPDATE session_config SET outcomes = ?2 WHERE session = ?1";
    return db_exec(tx->db, sql, DB_ARGS(db_i64(key), db_text(outcomes)), NULL, err);
}

int tx_session_outcomes_read(struct store_tx *tx, int64_t key, struct buf *out, struct err *err)
{
    static const char sql[] = "SELECT outcomes FROM session_config WHERE session = ?1";
    AUTO_ROWS struct db_rows rows = {0};
    bool found = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_i64(key)), &rows, &found, err);
    if (rc == 0 && found)
        buf_str(out, db_col_str(&rows, 0));
    return rc;
}

int tx_session_delete(struct store_tx *tx, int64_t key, struct err *err)
{
    /* The other tables follow by ON DELETE CASCADE. */
    static const char sql[] = "DELETE FROM session WHERE key = ?1";
    int64_t changes = 0;
    int rc = tx_work_end(tx, key, clock_unix_us(), err);
    if (rc == 0)
        rc = tx_file_delete_scope(tx, key, err);
    if (rc == 0)
        rc = tx_session_blobs_release(tx, key, err);
    if (rc == 0)
        rc = db_exec(tx->db, sql, DB_ARGS(db_i64(key)), &changes, err);
    if (rc == 0 && changes == 0)
        return err_set(err, ERR_NOT_FOUND, "the session does not exist any more");
    return rc;
}

/* ---- reading ---- */

#define SESSION_SELECT                                                                             \
    "SELECT s.key, s.id, s.workspace, s.thread, s.agent_id, s.agent_version, s.environment_id,"    \
    " s.status, s.created_us, s.updated_us, s.archived_us, s.input_tokens, s.output_tokens,"       \
    " s.cache_read_tokens, s.cache_write_5m_tokens, s.cache_write_1h_tokens, s.cost_microusd,"     \
    " s.active_us, s.running_since_us, s.model_requests, s.last_seq, s.last_processed_us,"         \
    " s.epoch, s.has_sandbox, s.inbox, s.stop_reason, c.title, c.metadata, c.agent,"               \
    " c.environment, s.turns, s.held_microusd, s.budget_microusd, s.owner, c.limits,"              \
    " c.provision, s.web_searches, s.checkpoint_due, c.forked_from, c.outcomes"

static struct str copy(struct arena *a, const struct db_rows *r, int col)
{
    struct str s = db_col_str(r, col);
    return str_some(s) ? arena_str(a, s) : STR_NONE;
}

static void read_usage(const struct db_rows *r, int col, struct session_usage *u)
{
    int64_t *const fields[] = {&u->input_tokens,
                               &u->output_tokens,
                               &u->cache_read_tokens,
                               &u->cache_write_5m_tokens,
                               &u->cache_write_1h_tokens,
                               &u->cost_microusd,
                               &u->active_us,
                               &u->running_since_us,
                               &u->model_requests};
    for (size_t i = 0; i < COUNT_OF(fields); i++)
        *fields[i] = db_col_i64(r, col + (int)i);
}

static int read_session(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct session_row *out = row;
    out->key = db_col_i64(r, 0);
    out->id = id_from(db_col_str(r, 1));
    out->workspace_id = id_from(db_col_str(r, 2));
    out->thread_id = id_from(db_col_str(r, 3));
    out->agent_id = id_from(db_col_str(r, 4));
    out->agent_version = db_col_i64(r, 5);
    out->environment_id = id_from(db_col_str(r, 6));
    int64_t status = db_col_i64(r, 7);
    if (status < SESSION_IDLE || status > SESSION_TERMINATED)
        return err_set(err, ERR_CORRUPT, "session %s has an unknown status", out->id.z);
    out->status = (enum session_status)status;
    out->created_us = db_col_i64(r, 8);
    out->updated_us = db_col_i64(r, 9);
    out->archived_us = db_col_i64(r, 10);
    read_usage(r, 11, &out->usage);
    out->last_seq = db_col_i64(r, 20);
    out->last_processed_us = db_col_i64(r, 21);
    out->epoch = db_col_i64(r, 22);
    out->has_sandbox = db_col_i64(r, 23) != 0;
    out->inbox = db_col_i64(r, 24) > 0;
    out->stop_reason = copy(a, r, 25);
    out->title = copy(a, r, 26);
    out->metadata = copy(a, r, 27);
    out->agent = copy(a, r, 28);
    out->environment = copy(a, r, 29);
    out->usage.turns = db_col_i64(r, 30);
    out->usage.held_microusd = db_col_i64(r, 31);
    out->budget_microusd = db_col_i64(r, 32);
    out->owner = id_from(db_col_str(r, 33));
    out->limits = copy(a, r, 34);
    out->provision = copy(a, r, 35);
    out->usage.web_searches = db_col_i64(r, 36);
    out->checkpoint_due = db_col_i64(r, 37);
    out->forked_from = copy(a, r, 38);
    out->outcomes = copy(a, r, 39);
    return tx_arena_ok(a, err);
}

#define SESSION_FROM " FROM session s JOIN session_config c ON c.session = s.key"

int tx_session_get(struct store_tx *tx, struct str ws, struct str id, struct arena *a,
                   struct session_row *out, struct err *err)
{
    static const char sql[] =
        SESSION_SELECT SESSION_FROM " WHERE s.id = ?1 AND (?2 IS NULL OR s.workspace = ?2)";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_text(id), db_text(ws)), &rows, &row, err);
    if (rc)
        return rc;
    if (!row)
        return not_found(id, err);
    struct session_row session = {0};
    rc = read_session(&rows, a, &session, err);
    if (rc == 0)
        *out = session;
    return rc;
}

/* With an agent the list walks that agent's index instead of the workspace's. */
#define SESSION_WHERE                                                                              \
    " WHERE s.workspace = ?1 AND " WINDOW_SQL(                                                     \
        "s.", "2", "3", "4",                                                                       \
        "5") " AND (?6 = 1 OR s.archived_us = 0) AND (?7 = 0 OR (?7 >> s.status) & 1)"
#define AGENT_WHERE " AND s.agent_id = ?9 AND (?10 = 0 OR s.agent_version = ?10)"

enum list_columns { LIST_ROWS, LIST_PROBE };

static const char *list_sql(bool by_agent, bool desc, enum list_columns columns)
{
#define LIST(select, where, order) select SESSION_FROM SESSION_WHERE where order " LIMIT ?8"
#define VARIANTS(select)                                                                           \
    {                                                                                              \
        {LIST(select, "", WINDOW_ASC("s.")), LIST(select, "", WINDOW_DESC("s."))},                 \
        {                                                                                          \
            LIST(select, AGENT_WHERE, WINDOW_ASC("s.")),                                           \
                LIST(select, AGENT_WHERE, WINDOW_DESC("s."))                                       \
        }                                                                                          \
    }
    static const char *const sql[2][2][2] = {VARIANTS(SESSION_SELECT), VARIANTS("SELECT 1")};
#undef VARIANTS
#undef LIST
    return sql[columns == LIST_PROBE][by_agent][desc];
}

enum { LIST_VALUES = 10 };

/* The values of list_sql(), in `v`; how many there are. */
static size_t list_values(struct db_value v[LIST_VALUES], struct str ws,
                          const struct session_filter *f, const struct window *w, int64_t limit)
{
    const struct db_value all[] = {
        db_text(ws),   WINDOW_ARGS(w),       db_i64(f->include_archived), db_i64(f->statuses),
        db_i64(limit), db_text(f->agent_id), db_i64(f->agent_version),
    };
    static_assert(COUNT_OF(all) == LIST_VALUES, "as many as the statement has places");
    memcpy(v, all, sizeof all);
    return str_some(f->agent_id) ? LIST_VALUES : LIST_VALUES - 2;
}

/* Whether a row of the list lies beyond `edge`, up or down. */
static int probe(struct store_tx *tx, struct str ws, const struct session_filter *f,
                 const struct range *range, bool desc, const struct session_row *edge, bool *found,
                 struct err *err)
{
    AUTO_ROWS struct db_rows rows = {0};
    struct db_value v[LIST_VALUES];
    struct window w;
    window_beside(&w, range, desc, edge->created_us, &edge->id);
    size_t nv = list_values(v, ws, f, &w, 1);
    return db_first(tx->db, list_sql(str_some(f->agent_id), w.desc, LIST_PROBE), v, nv, &rows,
                    found, err);
}

int tx_session_list(struct store_tx *tx, struct str ws, const struct session_filter *f,
                    const struct page *page, struct arena *a, struct session_row **out, size_t *n,
                    bool *has_prev, bool *has_next, struct err *err)
{
    const struct range range = {f->created_gt_us, f->created_gte_us, f->created_lt_us,
                                f->created_lte_us};
    struct db_value v[LIST_VALUES];
    struct window w;
    bool more = false, other = false;
    int rc = window_init(&w, page, &range, err);
    if (rc)
        return rc;
    const struct row_query q = {.sql = list_sql(str_some(f->agent_id), w.desc, LIST_ROWS),
                                .v = v,
                                .nv = list_values(v, ws, f, &w, w.limit + 1),
                                .size = sizeof(struct session_row),
                                .limit = w.limit,
                                .turn = page->backward,
                                .read = read_session};
    rc = row_query_list(tx, &q, a, out, n, &more, err);
    /* The other neighbour: only a page that starts at a position can have one. An empty page lies
     * beyond the row it was asked from. */
    if (rc == 0 && str_some(page->after)) {
        other = *n == 0;
        if (*n)
            rc = probe(tx, ws, f, &range, !w.desc, &(*out)[page->backward ? *n - 1 : 0], &other,
                       err);
    }
    if (rc)
        return rc;
    *has_prev = page->backward ? more : other;
    *has_next = page->backward ? other : more;
    return 0;
}

static int read_id(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    *(struct id *)row = id_from(db_col_str(r, 0));
    return tx_arena_ok(a, err);
}

int tx_session_active(struct store_tx *tx, struct arena *a, struct id **out, size_t *n,
                      struct err *err)
{
    /* The condition is word for word that of the partial index: only then is it used. */
    static const char sql[] = "SELECT id FROM session"
                              " WHERE status IN (1, 2) OR inbox > 0 OR checkpoint_due > 0";
    const struct row_query q = {.sql = sql, .size = sizeof(struct id), .read = read_id};
    return row_query_list(tx, &q, a, out, n, NULL, err);
}

int tx_session_counts(struct store_tx *tx, int64_t counts[4], struct err *err)
{
    /* From small indexes, so that a scrape does not walk every session's row. */
    static const char all[] = "SELECT count(*) FROM session";
    static const char terminated[] = "SELECT count(*) FROM session WHERE status = 3";
    static const char active[] =
        "SELECT count(*) FROM session"
        " WHERE (status IN (1, 2) OR inbox > 0 OR checkpoint_due > 0) AND status = ?1";
    int64_t c[4] = {0}, total = 0;
    int rc = db_number(tx->db, all, NULL, 0, 0, &total, err);
    if (rc == 0)
        rc = db_number(tx->db, terminated, NULL, 0, 0, &c[SESSION_TERMINATED], err);
    if (rc == 0)
        rc = db_number(tx->db, active, DB_ARGS(db_i64(SESSION_RUNNING)), 0, &c[SESSION_RUNNING],
                       err);
    if (rc == 0)
        rc = db_number(tx->db, active, DB_ARGS(db_i64(SESSION_RESCHEDULING)), 0,
                       &c[SESSION_RESCHEDULING], err);
    if (rc)
        return rc;
    c[SESSION_IDLE] = total - c[SESSION_RUNNING] - c[SESSION_RESCHEDULING] - c[SESSION_TERMINATED];
    memcpy(counts, c, sizeof c);
    return 0;
}
