/* Credentials of workers: the keys of environments, the tokens of work items. */
#include "store/tx.h"
#include "store/work.h"

static struct db_value hash_value(const unsigned char hash[32])
{
    return db_blob(str_n((const char *)hash, 32));
}

/* ---- keys ---- */

int tx_environment_key_add(struct store_tx *tx, const struct environment_key_row *row,
                           const unsigned char hash[32], struct err *err)
{
    static const char sql[] =
        "INSERT INTO environment_key(id, workspace, environment, name, hash, created_us)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    return db_exec(tx->db, sql,
                   DB_ARGS(db_text(id_str(&row->id)), db_text(id_str(&row->workspace_id)),
                           db_text(id_str(&row->environment_id)), db_text(row->name),
                           hash_value(hash), db_i64(row->created_us)),
                   NULL, err);
}

#define KEY_SELECT                                                                                 \
    "SELECT k.id, k.workspace, k.environment, k.name, k.created_us"                                \
    " FROM environment_key k"

static int read_key(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct environment_key_row *out = row;
    out->id = id_from(db_col_str(r, 0));
    out->workspace_id = id_from(db_col_str(r, 1));
    out->environment_id = id_from(db_col_str(r, 2));
    out->name = arena_str(a, db_col_str(r, 3));
    out->created_us = db_col_i64(r, 4);
    return tx_arena_ok(a, err);
}

int tx_environment_key_find(struct store_tx *tx, const unsigned char hash[32], struct arena *a,
                            struct environment_key_row *out, struct err *err)
{
    static const char sql[] = KEY_SELECT " WHERE k.hash = ?1";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(hash_value(hash)), &rows, &row, err);
    if (rc)
        return rc;
    return row ? read_key(&rows, a, out, err)
               : err_set(err, ERR_NOT_FOUND, "no such environment key");
}

int tx_environment_key_list(struct store_tx *tx, struct str environment, const struct page *page,
                            struct arena *a, struct environment_key_row **out, size_t *n,
                            bool *more, struct err *err)
{
    static const char desc[] = KEY_SELECT " WHERE k.environment = ?1 AND " WINDOW_PAGE_DESC("k.");
    const struct window_query q = {.desc = desc,
                                   .owner = db_text(environment),
                                   .size = sizeof(struct environment_key_row),
                                   .read = read_key};
    return window_query_list(tx, &q, page, a, out, n, more, err);
}

int tx_environment_key_delete(struct store_tx *tx, struct str environment, struct str id,
                              struct err *err)
{
    static const char sql[] = "DELETE FROM environment_key WHERE id = ?1 AND environment = ?2";
    int64_t changes = 0;
    int rc = db_exec(tx->db, sql, DB_ARGS(db_text(id), db_text(environment)), &changes, err);
    return rc || changes ? rc : err_set(err, ERR_NOT_FOUND, "no such environment key");
}

/* ---- tokens ---- */

int tx_work_token(struct store_tx *tx, const unsigned char hash[32], struct work_token *out,
                  struct err *err)
{
    static const char sql[] =
        "SELECT w.workspace, w.environment, w.id, w.session_id,"
        " w.generation = t.generation, w.state <> 4 AND w.session IS NOT NULL"
        " FROM work_token t JOIN work_item w ON w.key = t.item WHERE t.hash = ?1";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(hash_value(hash)), &rows, &row, err);
    if (rc)
        return rc;
    if (!row)
        return err_set(err, ERR_NOT_FOUND, "no such token");
    out->workspace_id = id_from(db_col_str(&rows, 0));
    out->environment_id = id_from(db_col_str(&rows, 1));
    out->work_id = id_from(db_col_str(&rows, 2));
    out->session_id = id_from(db_col_str(&rows, 3));
    out->current = db_col_i64(&rows, 4) != 0;
    out->live = out->current && db_col_i64(&rows, 5) != 0;
    return 0;
}

int tx_work_skill(struct store_tx *tx, struct str environment, struct str session, struct str skill,
                  bool *out, struct err *err)
{
    static const char sql[] =
        "SELECT 1 FROM skill_version v JOIN session_blob b ON b.blob = v.blob"
        " JOIN session s ON s.key = b.session WHERE v.skill = ?1 AND s.environment_id = ?2"
        " AND s.archived_us = 0 AND (?3 IS NULL OR s.id = ?3) LIMIT 1";
    AUTO_ROWS struct db_rows rows = {0};
    return db_first(tx->db, sql, DB_ARGS(db_text(skill), db_text(environment), db_text(session)),
                    &rows, out, err);
}
