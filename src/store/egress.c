/* The record of what sandboxes reached and were refused. */
#include "store/egress.h"

#include "base/limits.h"
#include "store/tx.h"

enum { PRUNE_EVERY = 256 };

const char *const egress_outcome_names[] = {"allowed", "denied", "failed", NULL};

/* An agent can make connections as fast as it likes: the oldest records give way. */
static int prune(struct store_tx *tx, struct str session_id, struct err *err)
{
    static const char sql[] =
        "DELETE FROM egress WHERE session = (SELECT key FROM session WHERE id = ?1) AND number <="
        " (SELECT number FROM egress WHERE session = (SELECT key FROM session WHERE id = ?1)"
        "  ORDER BY number DESC LIMIT 1 OFFSET ?2)";
    return db_exec(tx->db, sql, DB_ARGS(db_text(session_id), db_i64(LIMIT_EGRESS_RECORDS)), NULL,
                   err);
}

int tx_egress_insert(struct store_tx *tx, struct str session_id, const struct egress_row *row,
                     struct err *err)
{
    static const char sql[] =
        "INSERT INTO egress(session, tool_use, at_us, duration_us, protocol, host, port, address,"
        " decision, reason, bytes_up, bytes_down)"
        " SELECT key, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12 FROM session WHERE id = ?1";
    static const char last[] = "SELECT last_insert_rowid()";
    int64_t changes = 0, number = 0;
    int rc = db_exec(
        tx->db, sql,
        DB_ARGS(db_text(session_id), db_text(row->tool_use), db_i64(row->at_us),
                db_i64(row->duration_us), db_text(row->connect ? STR("connect") : STR("http")),
                db_text(str_some(row->host) ? row->host : STR("")), db_i64(row->port),
                db_text(row->address), db_text(str_z(egress_outcome_names[row->outcome])),
                db_text(row->reason), db_i64(row->bytes_up), db_i64(row->bytes_down)),
        &changes, err);
    if (rc || changes == 0)
        return rc;
    rc = db_number(tx->db, last, NULL, 0, 0, &number, err);
    return rc || number % PRUNE_EVERY ? rc : prune(tx, session_id, err);
}

static struct str copy(struct arena *a, const struct db_rows *r, int col)
{
    struct str s = db_col_str(r, col);
    return str_some(s) ? arena_str(a, s) : STR_NONE;
}

static int read_row(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct egress_row *out = row;
    struct str decision = db_col_str(r, 8);
    *out = (struct egress_row){
        .number = db_col_i64(r, 0),
        .tool_use = copy(a, r, 1),
        .at_us = db_col_i64(r, 2),
        .duration_us = db_col_i64(r, 3),
        .connect = str_eqz(db_col_str(r, 4), "connect"),
        .host = copy(a, r, 5),
        .port = db_col_i64(r, 6),
        .address = copy(a, r, 7),
        .reason = copy(a, r, 9),
        .bytes_up = db_col_i64(r, 10),
        .bytes_down = db_col_i64(r, 11),
    };
    while (egress_outcome_names[out->outcome + 1] &&
           !str_eqz(decision, egress_outcome_names[out->outcome]))
        out->outcome++;
    return tx_arena_ok(a, err);
}

int tx_egress_list(struct store_tx *tx, int64_t session_key, int outcome, int64_t after,
                   int64_t limit, struct arena *a, struct egress_row **out, size_t *n, bool *more,
                   struct err *err)
{
    static const char sql[] =
        "SELECT number, tool_use, at_us, duration_us, protocol, host, port, address, decision,"
        " reason, bytes_up, bytes_down FROM egress WHERE session = ?1 AND number > ?2"
        " AND (?3 IS NULL OR decision = ?3) ORDER BY number LIMIT ?4";
    struct str only = outcome < 0 ? STR_NONE : str_z(egress_outcome_names[outcome]);
    const struct db_value v[] = {db_i64(session_key), db_i64(after), db_text(only),
                                 db_i64(limit + 1)};
    const struct row_query q = {.sql = sql,
                                .v = v,
                                .nv = COUNT_OF(v),
                                .size = sizeof(struct egress_row),
                                .limit = limit,
                                .read = read_row};
    return row_query_list(tx, &q, a, out, n, more, err);
}
