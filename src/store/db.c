#include "store/db.h"

int db_query(struct db *db, const char *sql, const struct db_value *v, size_t n,
             struct db_rows *out, struct err *err)
{
    return db->ops->query(db, sql, v, n, out, err);
}

int db_next(struct db_rows *r, bool *row, struct err *err)
{
    return r->db->ops->next(r, row, err);
}

void db_end(struct db_rows *r)
{
    if (r->stmt)
        r->db->ops->end(r);
    r->stmt = NULL;
}

int64_t db_col_i64(const struct db_rows *r, int col)
{
    return r->db->ops->col_i64(r, col);
}

struct str db_col_str(const struct db_rows *r, int col)
{
    return r->db->ops->col_str(r, col);
}

int db_first(struct db *db, const char *sql, const struct db_value *v, size_t n,
             struct db_rows *out, bool *row, struct err *err)
{
    int rc = db_query(db, sql, v, n, out, err);
    if (rc == 0)
        rc = db_next(out, row, err);
    if (rc)
        db_end(out);
    return rc;
}

int db_exec(struct db *db, const char *sql, const struct db_value *v, size_t n, int64_t *changes,
            struct err *err)
{
    AUTO_ROWS struct db_rows rows = {0};
    bool row;
    int rc = db_first(db, sql, v, n, &rows, &row, err);
    if (rc == 0 && changes)
        *changes = db->ops->changes(db);
    return rc;
}

int db_number(struct db *db, const char *sql, const struct db_value *v, size_t n, int64_t fallback,
              int64_t *out, struct err *err)
{
    AUTO_ROWS struct db_rows rows = {0};
    bool row;
    int rc = db_first(db, sql, v, n, &rows, &row, err);
    if (rc == 0)
        *out = row ? db_col_i64(&rows, 0) : fallback;
    return rc;
}
