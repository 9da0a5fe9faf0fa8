/* Idempotency keys: the answers that requests with such a key were given. */
#include "store/tx.h"

int tx_idempotency_get(struct store_tx *tx, struct str ws, struct str name, int64_t since_us,
                       struct arena *a, struct idempotency_row *out, struct err *err)
{
    static const char sql[] = "SELECT request, response, created_us FROM idempotency"
                              " WHERE workspace = ?1 AND name = ?2 AND created_us >= ?3";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_text(ws), db_text(name), db_i64(since_us)), &rows,
                      &row, err);
    if (rc)
        return rc;
    struct str request = row ? db_col_str(&rows, 0) : STR_NONE;
    if (request.len != sizeof out->request)
        return err_set(err, ERR_NOT_FOUND, "no answer is kept under this idempotency key");
    struct idempotency_row got = {.created_us = db_col_i64(&rows, 2)};
    memcpy(got.request, request.ptr, sizeof got.request);
    got.response = arena_str(a, db_col_str(&rows, 1));
    rc = tx_arena_ok(a, err);
    if (rc == 0)
        *out = got;
    return rc;
}

int tx_idempotency_put(struct store_tx *tx, struct str ws, struct str name, int64_t since_us,
                       const struct idempotency_row *row, struct err *err)
{
    /* Two for each one that comes: old ones go faster than new ones come, and no write is long. */
    static const char expire[] = "DELETE FROM idempotency WHERE rowid IN (SELECT rowid FROM"
                                 " idempotency WHERE created_us < ?1 ORDER BY created_us LIMIT 2)";
    static const char drop[] = "DELETE FROM idempotency WHERE workspace = ?1 AND name = ?2";
    static const char put[] = "INSERT INTO idempotency(workspace, name, request, response,"
                              " created_us) VALUES (?1, ?2, ?3, ?4, ?5)";
    struct str request = str_n((const char *)row->request, sizeof row->request);
    int rc = db_exec(tx->db, expire, DB_ARGS(db_i64(since_us)), NULL, err);
    if (rc == 0)
        rc = db_exec(tx->db, drop, DB_ARGS(db_text(ws), db_text(name)), NULL, err);
    if (rc == 0)
        rc = db_exec(tx->db, put,
                     DB_ARGS(db_text(ws), db_text(name), db_blob(request), db_text(row->response),
                             db_i64(row->created_us)),
                     NULL, err);
    return rc;
}
