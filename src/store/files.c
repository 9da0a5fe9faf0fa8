/* Files, and how many of them have the same content. */
#include "store/tx.h"

#include "base/limits.h"

static const int64_t kept_us = LIMIT_FILE_METADATA_DAYS * INT64_C(24) * 3600 * 1000000;

static int not_found(struct str id, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no file '" STR_FMT "'", STR_ARG(str_take(id, ID_MAX)));
}

static struct str id_or_none(const struct id *id)
{
    return id->z[0] ? id_str(id) : STR_NONE;
}

/* ---- one file ---- */

int tx_file_insert(struct store_tx *tx, struct str ws, const struct file_row *row, struct err *err)
{
    static const char use[] =
        "INSERT INTO blob(name, size_bytes, refs, changes) VALUES (?1, ?2, 1, 1)"
        " ON CONFLICT (name) DO UPDATE SET refs = blob.refs + 1, changes = blob.changes + 1";
    static const char sql[] =
        "INSERT INTO file(id, workspace, scope, filename, mime_type, size_bytes, downloadable,"
        " created_us, expires_us, blob) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    int rc = db_exec(tx->db, use, DB_ARGS(db_text(row->blob), db_i64(row->size_bytes)), NULL, err);
    if (rc == 0)
        rc = db_exec(tx->db, sql,
                     DB_ARGS(db_text(id_str(&row->id)), db_text(ws),
                             db_text(id_or_none(&row->scope_id)), db_text(row->filename),
                             db_text(row->mime_type), db_i64(row->size_bytes),
                             db_i64(row->downloadable), db_i64(row->created_us),
                             db_i64(row->expires_us), db_text(row->blob)),
                     NULL, err);
    if (rc == ERR_EXISTS)
        return err_set(err, ERR_EXISTS, "file '%s' exists already", row->id.z);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "no workspace '" STR_FMT "'",
                       STR_ARG(str_take(ws, ID_MAX)));
    return rc;
}

#define FILE_SELECT                                                                                \
    "SELECT id, scope, filename, mime_type, size_bytes, downloadable, created_us, expires_us,"     \
    " blob FROM file"
/* Expired at or before the parameter: nobody sees it any more. */
#define FILE_VISIBLE(gone_us) "(expires_us = 0 OR expires_us > ?" gone_us ")"

static int read_file(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct file_row *out = row;
    struct str scope = db_col_str(r, 1), blob = db_col_str(r, 8);
    out->id = id_from(db_col_str(r, 0));
    if (str_some(scope))
        out->scope_id = id_from(scope);
    out->filename = arena_str(a, db_col_str(r, 2));
    out->mime_type = arena_str(a, db_col_str(r, 3));
    out->size_bytes = db_col_i64(r, 4);
    out->downloadable = db_col_i64(r, 5) != 0;
    out->created_us = db_col_i64(r, 6);
    out->expires_us = db_col_i64(r, 7);
    out->blob = str_some(blob) ? arena_str(a, blob) : STR_NONE;
    return tx_arena_ok(a, err);
}

int tx_file_get(struct store_tx *tx, struct str ws, struct str id, int64_t now_us, struct arena *a,
                struct file_row *out, struct err *err)
{
    static const char sql[] =
        FILE_SELECT " WHERE id = ?1 AND workspace = ?2 AND " FILE_VISIBLE("3");
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_text(id), db_text(ws), db_i64(now_us - kept_us)),
                      &rows, &row, err);
    if (rc)
        return rc;
    if (!row)
        return not_found(id, err);
    struct file_row file = {0};
    rc = read_file(&rows, a, &file, err);
    if (rc == 0)
        *out = file;
    return rc;
}

static int release(struct store_tx *tx, struct str blob, struct err *err)
{
    static const char sql[] =
        "UPDATE blob SET refs = refs - 1, changes = changes + 1 WHERE name = ?1";
    return db_exec(tx->db, sql, DB_ARGS(db_text(blob)), NULL, err);
}

int tx_file_delete(struct store_tx *tx, struct str ws, struct str id, int64_t now_us,
                   struct err *err)
{
    static const char sql[] = "DELETE FROM file WHERE id = ?1";
    AUTO_ARENA struct arena a;
    struct file_row row;
    arena_init(&a, 64 * 1024);
    int rc = tx_file_get(tx, ws, id, now_us, &a, &row, err);
    if (rc == 0)
        rc = db_exec(tx->db, sql, DB_ARGS(db_text(id)), NULL, err);
    return rc == 0 && str_some(row.blob) ? release(tx, row.blob, err) : rc;
}

int tx_file_delete_scope(struct store_tx *tx, int64_t session_key, struct err *err)
{
#define SCOPE "(SELECT id FROM session WHERE key = ?1)"
    static const char unused[] =
        "UPDATE blob SET changes = changes + 1, refs = refs -"
        " (SELECT count(*) FROM file f WHERE f.blob = blob.name AND f.scope = " SCOPE ")"
        " WHERE name IN (SELECT f.blob FROM file f WHERE f.scope = " SCOPE ")";
    static const char sql[] = "DELETE FROM file WHERE scope = " SCOPE;
    int rc = db_exec(tx->db, unused, DB_ARGS(db_i64(session_key)), NULL, err);
    return rc ? rc : db_exec(tx->db, sql, DB_ARGS(db_i64(session_key)), NULL, err);
#undef SCOPE
}

/* ---- the list ---- */

#define FILE_PAGE FILE_SELECT " WHERE workspace = ?1 AND id > ?2 AND id < ?3 AND " FILE_VISIBLE("4")

static const char *page_sql(bool scoped, bool desc)
{
    static const char all_asc[] = FILE_PAGE " ORDER BY id LIMIT ?5";
    static const char all_desc[] = FILE_PAGE " ORDER BY id DESC LIMIT ?5";
    static const char scope_asc[] = FILE_PAGE " AND scope = ?6 ORDER BY id LIMIT ?5";
    static const char scope_desc[] = FILE_PAGE " AND scope = ?6 ORDER BY id DESC LIMIT ?5";
    return scoped ? (desc ? scope_desc : scope_asc) : (desc ? all_desc : all_asc);
}

int tx_file_list(struct store_tx *tx, struct str ws, const struct file_filter *f, struct arena *a,
                 struct file_row **out, size_t *n, bool *more, struct err *err)
{
    bool desc = !str_some(f->before), scoped = str_some(f->scope_id);
    if (f->limit < 1)
        return err_at(err, ERR_INVALID, "limit", "limit must be at least 1");
    /* '~' sorts behind every character of an id. */
    const struct db_value v[] = {db_text(ws),
                                 db_text(desc ? STR("") : f->before),
                                 db_text(str_some(f->after) ? f->after : STR("~")),
                                 db_i64(f->now_us - kept_us),
                                 db_i64(f->limit + 1),
                                 db_text(f->scope_id)};
    const struct row_query q = {.sql = page_sql(scoped, desc),
                                .v = v,
                                .nv = COUNT_OF(v) - !scoped,
                                .size = sizeof(struct file_row),
                                .limit = f->limit,
                                .turn = !desc,
                                .read = read_file};
    return row_query_list(tx, &q, a, out, n, more, err);
}

/* ---- the sweep ---- */

int tx_file_due(struct store_tx *tx, int64_t now_us, bool *due, struct err *err)
{
    static const char sql[] =
        "SELECT EXISTS (SELECT 1 FROM file WHERE expires_us > 0 AND blob IS NOT NULL"
        " AND expires_us <= ?1) OR EXISTS (SELECT 1 FROM file WHERE expires_us > 0"
        " AND blob IS NULL AND expires_us <= ?2)";
    int64_t found = 0;
    int rc =
        db_number(tx->db, sql, DB_ARGS(db_i64(now_us), db_i64(now_us - kept_us)), 0, &found, err);
    if (rc == 0)
        *due = found != 0;
    return rc;
}

static int expire_contents(struct store_tx *tx, int64_t now_us, int64_t limit, int64_t *n,
                           struct err *err)
{
    static const char find[] = "SELECT id, blob FROM file WHERE expires_us > 0 AND blob IS NOT NULL"
                               " AND expires_us <= ?1 ORDER BY expires_us LIMIT ?2";
    static const char drop[] = "UPDATE file SET blob = NULL WHERE id = ?1";
    struct found {
        struct id id;
        char blob[65];
    };
    AUTO_ROW_LIST struct row_list list = {.size = sizeof(struct found)};
    struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, find, DB_ARGS(db_i64(now_us), db_i64(limit)), &rows, &row, err);
    while (rc == 0 && row) {
        struct found *f = row_list_push(&list);
        f->id = id_from(db_col_str(&rows, 0));
        str_copyz(f->blob, sizeof f->blob, db_col_str(&rows, 1));
        rc = db_next(&rows, &row, err);
    }
    db_end(&rows);
    for (size_t i = 0; rc == 0 && i < list.n; i++) {
        const struct found *f = (const struct found *)(const void *)list.data + i;
        rc = db_exec(tx->db, drop, DB_ARGS(db_text(id_str(&f->id))), NULL, err);
        if (rc == 0)
            rc = release(tx, str_z(f->blob), err);
    }
    *n = (int64_t)list.n;
    return rc;
}

int tx_file_expire(struct store_tx *tx, int64_t now_us, int64_t limit, int64_t *n, struct err *err)
{
    static const char forget[] =
        "DELETE FROM file WHERE id IN (SELECT id FROM file WHERE expires_us > 0 AND blob IS NULL"
        " AND expires_us <= ?1 ORDER BY expires_us LIMIT ?2)";
    int64_t contents = 0, rows = 0;
    int rc = expire_contents(tx, now_us, limit, &contents, err);
    if (rc == 0)
        rc = db_exec(tx->db, forget, DB_ARGS(db_i64(now_us - kept_us), db_i64(limit)), &rows, err);
    if (rc == 0)
        *n = contents + rows;
    return rc;
}

static int read_blob(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct blob_row *out = row;
    str_copyz(out->name, sizeof out->name, db_col_str(r, 0));
    out->changes = db_col_i64(r, 1);
    return tx_arena_ok(a, err);
}

int tx_blob_unused(struct store_tx *tx, int64_t limit, struct arena *a, struct blob_row **out,
                   size_t *n, struct err *err)
{
    static const char sql[] = "SELECT name, changes FROM blob WHERE refs = 0 LIMIT ?1";
    const struct db_value v[] = {db_i64(limit)};
    const struct row_query q = {
        .sql = sql, .v = v, .nv = 1, .size = sizeof(struct blob_row), .read = read_blob};
    return row_query_list(tx, &q, a, out, n, NULL, err);
}

int tx_blob_forget(struct store_tx *tx, const struct blob_row *row, bool *gone, struct err *err)
{
    static const char sql[] = "DELETE FROM blob WHERE name = ?1 AND refs = 0 AND changes = ?2";
    int64_t changes = 0;
    int rc = db_exec(tx->db, sql, DB_ARGS(db_text(str_z(row->name)), db_i64(row->changes)),
                     &changes, err);
    if (rc == 0)
        *gone = changes > 0;
    return rc;
}

int tx_blob_known(struct store_tx *tx, struct str name, bool *known, struct err *err)
{
    static const char sql[] = "SELECT 1 FROM blob WHERE name = ?1";
    int64_t found = 0;
    int rc = db_number(tx->db, sql, DB_ARGS(db_text(name)), 0, &found, err);
    if (rc == 0)
        *known = found != 0;
    return rc;
}
