/* Environments. */
#include "store/tx.h"

static int not_found(struct str id, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no environment '" STR_FMT "'",
                   STR_ARG(str_take(id, ID_MAX)));
}

int tx_environment_insert(struct store_tx *tx, struct str ws, const struct environment_row *row,
                          struct err *err)
{
    static const char sql[] =
        "INSERT INTO environment(id, workspace, name, body, created_us, updated_us, archived_us)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    int rc = db_exec(tx->db, sql,
                     DB_ARGS(db_text(id_str(&row->id)), db_text(ws), db_text(row->name),
                             db_text(row->body), db_i64(row->created_us), db_i64(row->updated_us),
                             db_i64(row->archived_us)),
                     NULL, err);
    if (rc == ERR_EXISTS)
        return err_set(err, ERR_EXISTS, "environment '%s' exists already", row->id.z);
    return rc;
}

#define ENVIRONMENT_SELECT                                                                         \
    "SELECT e.id, e.name, e.body, e.created_us, e.updated_us, e.archived_us FROM environment e"

static int read_environment(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct environment_row *out = row;
    out->id = id_from(db_col_str(r, 0));
    out->name = arena_str(a, db_col_str(r, 1));
    out->body = arena_str(a, db_col_str(r, 2));
    out->created_us = db_col_i64(r, 3);
    out->updated_us = db_col_i64(r, 4);
    out->archived_us = db_col_i64(r, 5);
    return tx_arena_ok(a, err);
}

int tx_environment_get(struct store_tx *tx, struct str ws, struct str id, struct arena *a,
                       struct environment_row *out, struct err *err)
{
    static const char sql[] = ENVIRONMENT_SELECT " WHERE e.id = ?1 AND e.workspace = ?2";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_text(id), db_text(ws)), &rows, &row, err);
    if (rc)
        return rc;
    if (!row)
        return not_found(id, err);
    struct environment_row environment = {0};
    rc = read_environment(&rows, a, &environment, err);
    if (rc == 0)
        *out = environment;
    return rc;
}

int tx_environment_update(struct store_tx *tx, struct str ws, const struct environment_row *row,
                          struct err *err)
{
    static const char sql[] =
        "UPDATE environment SET name = ?3, body = ?4, updated_us = ?5, archived_us = ?6"
        " WHERE id = ?1 AND workspace = ?2";
    int64_t changes = 0;
    int rc = db_exec(tx->db, sql,
                     DB_ARGS(db_text(id_str(&row->id)), db_text(ws), db_text(row->name),
                             db_text(row->body), db_i64(row->updated_us), db_i64(row->archived_us)),
                     &changes, err);
    return rc == 0 && changes == 0 ? not_found(id_str(&row->id), err) : rc;
}

int tx_environment_delete(struct store_tx *tx, struct str ws, struct str id, struct err *err)
{
    static const char used[] =
        "SELECT 1 FROM session WHERE environment_id = ?1 AND workspace = ?2 AND archived_us = 0"
        " LIMIT 1";
    static const char sql[] = "DELETE FROM environment WHERE id = ?1 AND workspace = ?2";
    int64_t in_use = 0, changes = 0;
    int rc = db_number(tx->db, used, DB_ARGS(db_text(id), db_text(ws)), 0, &in_use, err);
    if (rc)
        return rc;
    if (in_use)
        return err_set(err, ERR_CONFLICT,
                       "a session uses environment '" STR_FMT "'; archive or delete its sessions "
                       "first, or archive the environment",
                       STR_ARG(str_take(id, ID_MAX)));
    rc = db_exec(tx->db, sql, DB_ARGS(db_text(id), db_text(ws)), &changes, err);
    return rc == 0 && changes == 0 ? not_found(id, err) : rc;
}

#define ENVIRONMENT_PAGE                                                                           \
    ENVIRONMENT_SELECT " WHERE e.workspace = ?1 AND " WINDOW_SQL(                                  \
        "e.", "2", "3", "4", "5") " AND (?6 = 1 OR e.archived_us = 0)"

int tx_environment_list(struct store_tx *tx, struct str ws, bool include_archived,
                        const struct page *page, struct arena *a, struct environment_row **out,
                        size_t *n, bool *more, struct err *err)
{
    static const char asc[] = ENVIRONMENT_PAGE WINDOW_ASC("e.") " LIMIT ?7";
    static const char desc[] = ENVIRONMENT_PAGE WINDOW_DESC("e.") " LIMIT ?7";
    struct window w;
    int rc = window_init(&w, page, &(struct range){0}, err);
    if (rc)
        return rc;
    const struct db_value v[] = {db_text(ws), WINDOW_ARGS(&w), db_i64(include_archived),
                                 db_i64(w.limit + 1)};
    const struct row_query q = {.sql = w.desc ? desc : asc,
                                .v = v,
                                .nv = COUNT_OF(v),
                                .size = sizeof(struct environment_row),
                                .limit = w.limit,
                                .turn = page->backward,
                                .read = read_environment};
    return row_query_list(tx, &q, a, out, n, more, err);
}
