/* Which server process a session belongs to. */
#include "store/tx.h"

int tx_session_own(struct store_tx *tx, int64_t key, struct str me, struct str dead, int64_t *epoch,
                   struct err *err)
{
    static const char sql[] =
        "UPDATE session SET epoch = epoch + 1, owner = ?2"
        " WHERE key = ?1 AND (owner = '' OR owner = ?2 OR owner = ?3) RETURNING epoch";
    int64_t now = 0;
    int rc = db_number(tx->db, sql, DB_ARGS(db_i64(key), db_text(me), db_text(dead)), 0, &now, err);
    if (rc)
        return rc;
    if (now == 0)
        return err_set(err, ERR_CONFLICT, "another server process has the session, or it is gone");
    *epoch = now;
    return 0;
}

int tx_session_owner(struct store_tx *tx, struct str ws, struct str id, struct id *owner,
                     struct err *err)
{
    static const char sql[] =
        "SELECT owner FROM session WHERE id = ?1 AND (?2 IS NULL OR workspace = ?2)";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_text(id), db_text(ws)), &rows, &row, err);
    if (rc)
        return rc;
    if (!row)
        return err_set(err, ERR_NOT_FOUND, "no session '" STR_FMT "'",
                       STR_ARG(str_take(id, ID_MAX)));
    *owner = id_from(db_col_str(&rows, 0));
    return 0;
}

static int read_work(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    *(struct session_work *)row = (struct session_work){
        .id = id_from(db_col_str(r, 0)),
        .owner = id_from(db_col_str(r, 1)),
        .inbox = db_col_i64(r, 2) > 0,
    };
    return tx_arena_ok(a, err);
}

int tx_session_work(struct store_tx *tx, struct arena *a, struct session_work **out, size_t *n,
                    struct err *err)
{
    /* The condition in brackets is word for word that of the partial index: only then is it used.
     * What was accepted just before the end stays in the inbox of a terminated session. */
    static const char sql[] = "SELECT id, owner, inbox FROM session"
                              " WHERE (status IN (1, 2) OR inbox > 0 OR checkpoint_due > 0)"
                              " AND (status <> 3 OR checkpoint_due > 0)";
    const struct row_query q = {.sql = sql, .size = sizeof(struct session_work), .read = read_work};
    return row_query_list(tx, &q, a, out, n, NULL, err);
}
