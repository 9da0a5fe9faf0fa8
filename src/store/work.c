/* The queues of self-hosted environments: items, offers, leases. */
#include "store/work_impl.h"

const char *work_state_name(enum work_state state)
{
    static const char *const names[] = {"queued", "starting", "active", "stopping", "stopped"};
    return names[state];
}

/* ---- sessions ---- */

int work_insert(struct store_tx *tx, int64_t session_key, int64_t now_us, int64_t failures,
                bool *added, struct err *err)
{
    static const char sql[] =
        "INSERT INTO work_item(id, workspace, environment, session, session_id, state, metadata,"
        " generation, failures, trouble, offered_us, ttl_us, created_us, queued_us,"
        " acknowledged_us, started_us, heartbeat_us, heartbeat_before_us, lease_until_us,"
        " stop_requested_us, stopped_us)"
        " SELECT ?1, workspace, environment_id, key, id, 0, '{}', 0, ?4, 0, 0, 0, ?3, ?3, 0, 0, 0,"
        " 0, 0, 0, 0"
        " FROM session WHERE key = ?2"
        " ON CONFLICT (session) WHERE state <> 4 DO NOTHING";
    struct id id = id_new("work");
    int64_t changes = 0;
    int rc = db_exec(
        tx->db, sql,
        DB_ARGS(db_text(id_str(&id)), db_i64(session_key), db_i64(now_us), db_i64(failures)),
        &changes, err);
    if (rc == 0 && added)
        *added = changes > 0;
    return rc;
}

int tx_work_ensure(struct store_tx *tx, int64_t session_key, int64_t now_us, bool *added,
                   struct err *err)
{
    static const char forget[] =
        "UPDATE work_item SET failures = 0 WHERE session = ?1 AND failures > 0";
    int rc = db_exec(tx->db, forget, DB_ARGS(db_i64(session_key)), NULL, err);
    return rc ? rc : work_insert(tx, session_key, now_us, 0, added, err);
}

int tx_work_want(struct store_tx *tx, int64_t session_key, int64_t now_us, struct err *err)
{
    static const char given_up[] =
        "SELECT count(*) FROM work_item WHERE session = ?1 AND state = 4 AND failures >= ?2";
    int64_t n = 0;
    int rc = db_number(tx->db, given_up, DB_ARGS(db_i64(session_key), db_i64(WORK_FAILURES_MAX)), 0,
                       &n, err);
    return rc || n ? rc : work_insert(tx, session_key, now_us, 0, NULL, err);
}

/* Whoever has only been offered it learns by the answer to his acknowledgement. */
int tx_work_end(struct store_tx *tx, int64_t session_key, int64_t now_us, struct err *err)
{
    static const char queued[] =
        "UPDATE work_item SET state = 4, stop_requested_us = ?2, stopped_us = ?2"
        " WHERE session = ?1 AND state = 0";
    static const char held[] = "UPDATE work_item SET state = 3, stop_requested_us = ?2"
                               " WHERE session = ?1 AND state IN (1, 2)";
    int rc = db_exec(tx->db, queued, DB_ARGS(db_i64(session_key), db_i64(now_us)), NULL, err);
    return rc ? rc : db_exec(tx->db, held, DB_ARGS(db_i64(session_key), db_i64(now_us)), NULL, err);
}

/* ---- rows ---- */

#define WORK_SELECT                                                                                \
    "SELECT w.key, w.id, w.environment, w.session_id, w.session, w.state, w.metadata,"             \
    " w.generation, w.failures, w.offered_us, w.ttl_us, w.created_us, w.queued_us,"                \
    " w.acknowledged_us, w.started_us, w.heartbeat_us, w.heartbeat_before_us, w.lease_until_us,"   \
    " w.stop_requested_us, w.stopped_us FROM work_item w"

static int read_work(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct work_row *out = row;
    out->key = db_col_i64(r, 0);
    out->id = id_from(db_col_str(r, 1));
    out->environment_id = id_from(db_col_str(r, 2));
    out->session_id = id_from(db_col_str(r, 3));
    out->session_key = db_col_i64(r, 4);
    int64_t state = db_col_i64(r, 5);
    if (state < WORK_QUEUED || state > WORK_STOPPED)
        return err_set(err, ERR_CORRUPT, "work item %s has an unknown state", out->id.z);
    out->state = (enum work_state)state;
    out->metadata = arena_str(a, db_col_str(r, 6));
    int64_t *const times[] = {&out->generation,      &out->failures,
                              &out->offered_us,      &out->ttl_us,
                              &out->created_us,      &out->queued_us,
                              &out->acknowledged_us, &out->started_us,
                              &out->heartbeat_us,    &out->heartbeat_before_us,
                              &out->lease_until_us,  &out->stop_requested_us,
                              &out->stopped_us};
    for (size_t i = 0; i < COUNT_OF(times); i++)
        *times[i] = db_col_i64(r, 7 + (int)i);
    return tx_arena_ok(a, err);
}

static int read_one(struct store_tx *tx, const char *sql, const struct db_value *v, size_t nv,
                    struct arena *a, struct work_row *out, struct err *err)
{
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, v, nv, &rows, &row, err);
    if (rc)
        return rc;
    if (!row)
        return err_set(err, ERR_NOT_FOUND, "no such work item");
    struct work_row found = {0};
    rc = read_work(&rows, a, &found, err);
    if (rc == 0)
        *out = found;
    return rc;
}

int tx_work_get(struct store_tx *tx, struct str environment, struct str id, struct arena *a,
                struct work_row *out, struct err *err)
{
    static const char sql[] = WORK_SELECT " WHERE w.id = ?1 AND w.environment = ?2";
    return read_one(tx, sql, DB_ARGS(db_text(id), db_text(environment)), a, out, err);
}

int tx_work_list(struct store_tx *tx, struct str environment, const struct page *page,
                 struct arena *a, struct work_row **out, size_t *n, bool *more, struct err *err)
{
    static const char desc[] = WORK_SELECT " WHERE w.environment = ?1 AND " WINDOW_PAGE_DESC("w.");
    const struct window_query q = {.desc = desc,
                                   .owner = db_text(environment),
                                   .size = sizeof(struct work_row),
                                   .read = read_work};
    return window_query_list(tx, &q, page, a, out, n, more, err);
}

int tx_work_metadata(struct store_tx *tx, int64_t key, struct str metadata, struct err *err)
{
    static const char sql[] = "UPDATE work_item SET metadata = ?2 WHERE key = ?1";
    return db_exec(tx->db, sql, DB_ARGS(db_i64(key), db_text(metadata)), NULL, err);
}

int tx_work_stats(struct store_tx *tx, struct str environment, struct work_stats *out,
                  struct err *err)
{
    static const char sql[] =
        "SELECT coalesce(sum(offered_us = 0), 0), coalesce(sum(offered_us > 0), 0),"
        " coalesce(min(queued_us), 0) FROM work_item WHERE environment = ?1 AND state = 0";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_text(environment)), &rows, &row, err);
    if (rc == 0 && row)
        *out =
            (struct work_stats){db_col_i64(&rows, 0), db_col_i64(&rows, 1), db_col_i64(&rows, 2)};
    return rc;
}

int tx_work_counts(struct store_tx *tx, int64_t counts[WORK_STOPPED], struct err *err)
{
    static const char sql[] =
        "SELECT state, count(*) FROM work_item WHERE state <> 4 GROUP BY state";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    memset(counts, 0, WORK_STOPPED * sizeof counts[0]);
    int rc = db_first(tx->db, sql, NULL, 0, &rows, &row, err);
    while (rc == 0 && row) {
        int64_t state = db_col_i64(&rows, 0);
        if (state >= 0 && state < WORK_STOPPED)
            counts[state] = db_col_i64(&rows, 1);
        rc = db_next(&rows, &row, err);
    }
    return rc;
}

/* ---- offers ---- */

#define OFFERABLE                                                                                  \
    " FROM work_item WHERE environment = ?1 AND state = 0"                                         \
    " AND (offered_us = 0 OR offered_us <= ?2) ORDER BY key LIMIT 1"

int tx_work_waits(struct store_tx *tx, struct str environment, int64_t reclaim_us, bool *out,
                  struct err *err)
{
    static const char sql[] = "SELECT 1" OFFERABLE;
    AUTO_ROWS struct db_rows rows = {0};
    return db_first(tx->db, sql, DB_ARGS(db_text(environment), db_i64(reclaim_us)), &rows, out,
                    err);
}

/* A few old tokens stay, so that whoever holds one learns that the item is not his any more. */
static int put_token(struct store_tx *tx, const struct work_row *row, const unsigned char hash[32],
                     struct err *err)
{
    enum { KEPT = 16 };
    static const char forget[] = "DELETE FROM work_token WHERE item = ?1 AND generation <= ?2";
    static const char add[] = "INSERT INTO work_token(hash, item, generation) VALUES (?1, ?2, ?3)";
    int rc = db_exec(tx->db, forget, DB_ARGS(db_i64(row->key), db_i64(row->generation - KEPT)),
                     NULL, err);
    return rc ? rc
              : db_exec(tx->db, add,
                        DB_ARGS(db_blob(str_n((const char *)hash, 32)), db_i64(row->key),
                                db_i64(row->generation)),
                        NULL, err);
}

int tx_work_offer(struct store_tx *tx, const struct work_offer *how, struct arena *a,
                  struct work_row *out, struct err *err)
{
    static const char find[] = "SELECT key" OFFERABLE;
    static const char take[] = "UPDATE work_item SET generation = generation + 1, offered_us = ?2,"
                               " worker = ?3 WHERE key = ?1";
    static const char read[] = WORK_SELECT " WHERE w.key = ?1";
    int64_t key = 0;
    int rc = db_number(tx->db, find, DB_ARGS(db_text(how->environment), db_i64(how->reclaim_us)), 0,
                       &key, err);
    if (rc == 0 && key == 0)
        return err_set(err, ERR_NOT_FOUND, "no work");
    if (rc == 0)
        rc = db_exec(tx->db, take, DB_ARGS(db_i64(key), db_i64(how->now_us), db_text(how->worker)),
                     NULL, err);
    struct work_row row = {0};
    if (rc == 0)
        rc = read_one(tx, read, DB_ARGS(db_i64(key)), a, &row, err);
    if (rc == 0)
        rc = put_token(tx, &row, how->hash, err);
    if (rc == 0)
        *out = row;
    return rc;
}

int tx_work_withdraw(struct store_tx *tx, const struct work_row *row, struct err *err)
{
    static const char sql[] = "UPDATE work_item SET generation = generation + 1, offered_us = 0"
                              " WHERE key = ?1 AND generation = ?2 AND state = 0";
    return db_exec(tx->db, sql, DB_ARGS(db_i64(row->key), db_i64(row->generation)), NULL, err);
}

/* ---- whoever has it ---- */

static int write_row(struct store_tx *tx, const struct work_row *row, struct err *err)
{
    static const char sql[] =
        "UPDATE work_item SET state = ?2, generation = ?3, failures = ?4, offered_us = ?5,"
        " ttl_us = ?6, queued_us = ?7, acknowledged_us = ?8, started_us = ?9, heartbeat_us = ?10,"
        " heartbeat_before_us = ?11, lease_until_us = ?12, stop_requested_us = ?13,"
        " stopped_us = ?14 WHERE key = ?1";
    return db_exec(tx->db, sql,
                   DB_ARGS(db_i64(row->key), db_i64(row->state), db_i64(row->generation),
                           db_i64(row->failures), db_i64(row->offered_us), db_i64(row->ttl_us),
                           db_i64(row->queued_us), db_i64(row->acknowledged_us),
                           db_i64(row->started_us), db_i64(row->heartbeat_us),
                           db_i64(row->heartbeat_before_us), db_i64(row->lease_until_us),
                           db_i64(row->stop_requested_us), db_i64(row->stopped_us)),
                   NULL, err);
}

int tx_work_ack(struct store_tx *tx, struct work_row *row, int64_t now_us, int64_t ttl_us,
                struct err *err)
{
    row->state = WORK_STARTING;
    row->acknowledged_us = now_us;
    row->ttl_us = ttl_us;
    row->lease_until_us = now_us + ttl_us;
    return write_row(tx, row, err);
}

/* Strictly later than the last one, which may be of the same microsecond. */
int tx_work_beat(struct store_tx *tx, struct work_row *row, int64_t now_us, int64_t ttl_us,
                 struct err *err)
{
    row->state = WORK_ACTIVE;
    row->heartbeat_before_us = row->heartbeat_us;
    row->heartbeat_us = now_us > row->heartbeat_us ? now_us : row->heartbeat_us + 1;
    if (!row->started_us)
        row->started_us = row->heartbeat_us;
    row->ttl_us = ttl_us;
    row->lease_until_us = row->heartbeat_us + ttl_us;
    return write_row(tx, row, err);
}

static int set_trouble(struct store_tx *tx, int64_t key, enum work_trouble trouble, struct err *err)
{
    static const char sql[] = "UPDATE work_item SET trouble = ?2 WHERE key = ?1";
    return db_exec(tx->db, sql, DB_ARGS(db_i64(key), db_i64(trouble)), NULL, err);
}

/* It ends here. When calls wait, the next item counts on from its failures. */
int work_finish(struct store_tx *tx, struct work_row *row, int64_t now_us, bool *queued,
                struct err *err)
{
    enum work_need need;
    int rc = work_need(tx, row->session_key, &need, err);
    if (rc)
        return rc;
    int64_t failures = need == WORK_CALLS_WAIT ? row->failures + 1 : 0;
    bool give_up = failures >= WORK_FAILURES_MAX;
    row->state = WORK_STOPPED;
    row->stopped_us = now_us;
    if (!row->stop_requested_us)
        row->stop_requested_us = now_us;
    row->lease_until_us = 0;
    row->failures = give_up ? failures : 0;
    rc = write_row(tx, row, err);
    *queued = rc == 0 && failures && !give_up;
    if (*queued)
        rc = work_insert(tx, row->session_key, now_us, failures, NULL, err);
    if (rc == 0 && failures)
        rc = set_trouble(tx, row->key, give_up ? WORK_GIVEN_UP : WORK_DROPPED, err);
    return rc;
}

int tx_work_stop(struct store_tx *tx, struct work_row *row, bool force, int64_t now_us,
                 bool *queued, struct err *err)
{
    *queued = false;
    if (force || row->state == WORK_QUEUED)
        return work_finish(tx, row, now_us, queued, err);
    row->state = WORK_STOPPING;
    if (!row->stop_requested_us)
        row->stop_requested_us = now_us;
    return write_row(tx, row, err);
}

/* ---- the sweep ---- */

int tx_work_due(struct store_tx *tx, int64_t now_us, bool *due, struct err *err)
{
    static const char sql[] = "SELECT EXISTS (SELECT 1 FROM work_item"
                              "  WHERE state IN (1, 2, 3) AND lease_until_us <= ?1)"
                              " OR EXISTS (SELECT 1 FROM work_item WHERE trouble <> 0)";
    int64_t n = 0;
    int rc = db_number(tx->db, sql, DB_ARGS(db_i64(now_us)), 0, &n, err);
    if (rc == 0)
        *due = n != 0;
    return rc;
}

/* Back to the queue at its old place; whoever had it finds that it is not his. */
static int queue_again(struct store_tx *tx, struct work_row *row, int64_t failures, int64_t now_us,
                       struct err *err)
{
    row->state = WORK_QUEUED;
    row->generation++;
    row->failures = failures;
    row->queued_us = now_us;
    row->offered_us = row->acknowledged_us = row->started_us = 0;
    row->heartbeat_us = row->heartbeat_before_us = row->lease_until_us = 0;
    int rc = write_row(tx, row, err);
    return rc ? rc : set_trouble(tx, row->key, WORK_LOST, err);
}

static int lapse(struct store_tx *tx, struct work_row *row, int64_t now_us, bool *queued,
                 struct err *err)
{
    enum work_need need;
    int rc = work_need(tx, row->session_key, &need, err);
    if (rc)
        return rc;
    int64_t failures = need == WORK_CALLS_WAIT ? row->failures + 1 : row->failures;
    if (row->state == WORK_STOPPING || need == WORK_REST || failures >= WORK_FAILURES_MAX)
        return work_finish(tx, row, now_us, queued, err);
    *queued = true;
    return queue_again(tx, row, failures, now_us, err);
}

int tx_work_sweep(struct store_tx *tx, int64_t now_us, int64_t forget_us, struct id *environments,
                  size_t max, size_t *n, struct err *err)
{
    static const char lapsed[] =
        WORK_SELECT " WHERE w.state IN (1, 2, 3) AND w.lease_until_us <= ?1 LIMIT ?2";
    static const char forget[] =
        "DELETE FROM work_item WHERE key IN (SELECT key FROM work_item WHERE state = 4"
        " AND stopped_us < ?1 AND trouble = 0 LIMIT ?2)";
    AUTO_ARENA struct arena a;
    arena_init(&a, 16ul << 20);
    const struct db_value v[] = {db_i64(now_us), db_i64((int64_t)max)};
    const struct row_query q = {.sql = lapsed,
                                .v = v,
                                .nv = COUNT_OF(v),
                                .size = sizeof(struct work_row),
                                .read = read_work};
    struct work_row *rows;
    size_t nrows;
    *n = 0;
    int rc = row_query_list(tx, &q, &a, &rows, &nrows, NULL, err);
    for (size_t i = 0; rc == 0 && i < nrows; i++) {
        bool queued = false;
        rc = lapse(tx, &rows[i], now_us, &queued, err);
        if (queued)
            environments[(*n)++] = rows[i].environment_id;
    }
    return rc ? rc
              : db_exec(tx->db, forget, DB_ARGS(db_i64(forget_us), db_i64((int64_t)max)), NULL,
                        err);
}

static int read_trouble(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct work_trouble_row *out = row;
    out->key = db_col_i64(r, 0);
    out->id = id_from(db_col_str(r, 1));
    out->session_id = id_from(db_col_str(r, 2));
    int64_t trouble = db_col_i64(r, 3);
    if (trouble < WORK_FINE || trouble > WORK_GIVEN_UP)
        return err_set(err, ERR_CORRUPT, "work item %s has unknown trouble", out->id.z);
    out->trouble = (enum work_trouble)trouble;
    return tx_arena_ok(a, err);
}

int tx_work_troubles(struct store_tx *tx, int64_t limit, struct arena *a,
                     struct work_trouble_row **out, size_t *n, struct err *err)
{
    static const char sql[] =
        "SELECT key, id, session_id, trouble FROM work_item WHERE trouble <> 0 LIMIT ?1";
    const struct db_value v[] = {db_i64(limit)};
    const struct row_query q = {.sql = sql,
                                .v = v,
                                .nv = COUNT_OF(v),
                                .size = sizeof(struct work_trouble_row),
                                .read = read_trouble};
    return row_query_list(tx, &q, a, out, n, NULL, err);
}

int tx_work_told(struct store_tx *tx, const struct work_trouble_row *row, struct err *err)
{
    static const char sql[] = "UPDATE work_item SET trouble = 0 WHERE key = ?1 AND trouble = ?2";
    return db_exec(tx->db, sql, DB_ARGS(db_i64(row->key), db_i64(row->trouble)), NULL, err);
}
