/* Workspaces and API keys. */
#include "store/tx.h"

int tx_workspace_ensure(struct store_tx *tx, struct str name, int64_t now_us, struct id *out,
                        struct err *err)
{
    static const char find[] = "SELECT id FROM workspace WHERE name = ?1";
    static const char add[] = "INSERT INTO workspace(id, name, created_us) VALUES (?1, ?2, ?3)";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, find, DB_ARGS(db_text(name)), &rows, &row, err);
    if (rc)
        return rc;
    if (row) {
        *out = id_from(db_col_str(&rows, 0));
        return 0;
    }
    struct id id = id_new("wrkspc");
    rc = db_exec(tx->db, add, DB_ARGS(db_text(id_str(&id)), db_text(name), db_i64(now_us)), NULL,
                 err);
    if (rc == 0)
        *out = id;
    return rc;
}

int tx_key_add(struct store_tx *tx, const struct key_row *row, const unsigned char hash[32],
               struct err *err)
{
    static const char sql[] =
        "INSERT INTO api_key(id, workspace, name, hash, created_us, revoked_us)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    struct str name = str_some(row->name) ? row->name : STR("");
    int rc = db_exec(tx->db, sql,
                     DB_ARGS(db_text(id_str(&row->id)), db_text(id_str(&row->workspace_id)),
                             db_text(name), db_blob(str_n((const char *)hash, 32)),
                             db_i64(row->created_us), db_i64(row->revoked_us)),
                     NULL, err);
    if (rc == ERR_EXISTS)
        return err_set(err, ERR_EXISTS, "this API key exists already");
    if (rc == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "no workspace '%s'", row->workspace_id.z);
    return rc;
}

#define KEY_SELECT                                                                                 \
    "SELECT k.id, k.workspace, k.name, w.name, k.created_us, k.revoked_us"                         \
    " FROM api_key k JOIN workspace w ON w.id = k.workspace"

static int read_key(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct key_row *out = row;
    out->id = id_from(db_col_str(r, 0));
    out->workspace_id = id_from(db_col_str(r, 1));
    out->name = arena_str(a, db_col_str(r, 2));
    out->workspace_name = arena_str(a, db_col_str(r, 3));
    out->created_us = db_col_i64(r, 4);
    out->revoked_us = db_col_i64(r, 5);
    return tx_arena_ok(a, err);
}

int tx_key_find(struct store_tx *tx, const unsigned char hash[32], struct arena *a,
                struct key_row *out, struct err *err)
{
    static const char sql[] = KEY_SELECT " WHERE k.hash = ?1 AND k.revoked_us = 0";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc =
        db_first(tx->db, sql, DB_ARGS(db_blob(str_n((const char *)hash, 32))), &rows, &row, err);
    if (rc)
        return rc;
    if (!row)
        return err_set(err, ERR_NOT_FOUND, "no such API key");
    struct key_row key = {0};
    rc = read_key(&rows, a, &key, err);
    if (rc == 0)
        *out = key;
    return rc;
}

int tx_key_list(struct store_tx *tx, struct arena *a, struct key_row **out, size_t *n,
                struct err *err)
{
    static const char sql[] = KEY_SELECT " ORDER BY k.created_us, k.id";
    const struct row_query q = {.sql = sql, .size = sizeof(struct key_row), .read = read_key};
    return row_query_list(tx, &q, a, out, n, NULL, err);
}

int tx_key_revoke(struct store_tx *tx, struct str id, int64_t now_us, struct err *err)
{
    static const char sql[] =
        "UPDATE api_key SET revoked_us = CASE revoked_us WHEN 0 THEN ?2 ELSE revoked_us END"
        " WHERE id = ?1";
    int64_t changes = 0;
    int rc = db_exec(tx->db, sql, DB_ARGS(db_text(id), db_i64(now_us)), &changes, err);
    if (rc == 0 && changes == 0)
        return err_set(err, ERR_NOT_FOUND, "no API key '" STR_FMT "'", STR_ARG(id));
    return rc;
}
