/* Small durable values of the server itself. */
#include "store/tx.h"

int tx_meta_get(struct store_tx *tx, const char *key, struct arena *a, struct str *out,
                struct err *err)
{
    static const char sql[] = "SELECT value FROM meta WHERE key = ?1";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_text(str_z(key))), &rows, &row, err);
    if (rc)
        return rc;
    struct str value = row ? arena_str(a, db_col_str(&rows, 0)) : STR_NONE;
    rc = tx_arena_ok(a, err);
    if (rc == 0)
        *out = value;
    return rc;
}

int tx_meta_put(struct store_tx *tx, const char *key, struct str value, struct err *err)
{
    static const char put[] = "INSERT INTO meta(key, value) VALUES (?1, ?2)"
                              " ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    static const char drop[] = "DELETE FROM meta WHERE key = ?1";
    if (!str_some(value))
        return db_exec(tx->db, drop, DB_ARGS(db_text(str_z(key))), NULL, err);
    return db_exec(tx->db, put, DB_ARGS(db_text(str_z(key)), db_blob(value)), NULL, err);
}
