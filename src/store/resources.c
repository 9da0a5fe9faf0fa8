/* Resources of a session. */
#include "store/resources.h"

#include "store/tx.h"

static int not_found(struct str id, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no resource '" STR_FMT "'", STR_ARG(str_take(id, ID_MAX)));
}

static struct str id_or_none(const struct id *id)
{
    return id->z[0] ? id_str(id) : STR_NONE;
}

int tx_resource_insert(struct store_tx *tx, int64_t session_key, const struct resource_row *row,
                       struct err *err)
{
    static const char sql[] =
        "INSERT INTO session_resource(id, session, kind, body, secret, file, created_us,"
        " updated_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    int rc = db_exec(tx->db, sql,
                     DB_ARGS(db_text(id_str(&row->id)), db_i64(session_key), db_text(row->kind),
                             db_text(row->body), db_blob(row->secret),
                             db_text(id_or_none(&row->file_id)), db_i64(row->created_us),
                             db_i64(row->updated_us)),
                     NULL, err);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "the session does not exist any more");
    return rc;
}

#define RESOURCE_SELECT                                                                            \
    "SELECT r.id, r.kind, r.body, r.secret, r.file, r.created_us, r.updated_us"                    \
    " FROM session_resource r WHERE r.session = ?1"

static int read_resource(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct resource_row *out = row;
    struct str secret = db_col_str(r, 3), file = db_col_str(r, 4);
    *out = (struct resource_row){
        .id = id_from(db_col_str(r, 0)),
        .kind = arena_str(a, db_col_str(r, 1)),
        .body = arena_str(a, db_col_str(r, 2)),
        .secret = str_some(secret) ? arena_str(a, secret) : STR_NONE,
        .created_us = db_col_i64(r, 5),
        .updated_us = db_col_i64(r, 6),
    };
    if (str_some(file))
        out->file_id = id_from(file);
    return tx_arena_ok(a, err);
}

int tx_resource_get(struct store_tx *tx, int64_t session_key, struct str id, struct arena *a,
                    struct resource_row *out, struct err *err)
{
    static const char sql[] = RESOURCE_SELECT " AND r.id = ?2";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_i64(session_key), db_text(id)), &rows, &row, err);
    if (rc)
        return rc;
    if (!row)
        return not_found(id, err);
    struct resource_row resource;
    rc = read_resource(&rows, a, &resource, err);
    if (rc == 0)
        *out = resource;
    return rc;
}

int tx_resource_update(struct store_tx *tx, int64_t session_key, const struct resource_row *row,
                       struct err *err)
{
    static const char sql[] = "UPDATE session_resource SET body = ?3, secret = ?4, updated_us = ?5"
                              " WHERE session = ?1 AND id = ?2";
    int64_t changes = 0;
    int rc = db_exec(tx->db, sql,
                     DB_ARGS(db_i64(session_key), db_text(id_str(&row->id)), db_text(row->body),
                             db_blob(row->secret), db_i64(row->updated_us)),
                     &changes, err);
    return rc == 0 && changes == 0 ? not_found(id_str(&row->id), err) : rc;
}

int tx_resource_delete(struct store_tx *tx, int64_t session_key, struct str id, struct err *err)
{
    static const char sql[] = "DELETE FROM session_resource WHERE session = ?1 AND id = ?2";
    int64_t changes = 0;
    int rc = db_exec(tx->db, sql, DB_ARGS(db_i64(session_key), db_text(id)), &changes, err);
    return rc == 0 && changes == 0 ? not_found(id, err) : rc;
}

int tx_resource_list(struct store_tx *tx, int64_t session_key, const struct page *page,
                     struct arena *a, struct resource_row **out, size_t *n, bool *more,
                     struct err *err)
{
    static const char asc[] = RESOURCE_SELECT " AND " WINDOW_PAGE_ASC("r.");
    const struct window_query q = {.asc = asc,
                                   .owner = db_i64(session_key),
                                   .size = sizeof(struct resource_row),
                                   .read = read_resource};
    return window_query_list(tx, &q, page, a, out, n, more, err);
}

int tx_session_provision(struct store_tx *tx, int64_t session_key, struct str provision,
                         int64_t updated_us, struct err *err)
{
    static const char config[] = "UPDATE session_config SET provision = ?2 WHERE session = ?1";
    static const char head[] = "UPDATE session SET updated_us = ?2 WHERE key = ?1";
    int64_t changes = 0;
    int rc =
        db_exec(tx->db, config, DB_ARGS(db_i64(session_key), db_text(provision)), &changes, err);
    if (rc == 0 && changes == 0)
        return err_set(err, ERR_NOT_FOUND, "the session does not exist any more");
    return rc ? rc
              : db_exec(tx->db, head, DB_ARGS(db_i64(session_key), db_i64(updated_us)), NULL, err);
}
