/* What an environment's content led to: its build, by the content's hash. */
#include "store/tx.h"

#define BUILD_SELECT "SELECT content, state, log_tail, started_us, built_us FROM environment_build"

static const char *const state_names[] = {"pending", "building", "ready", "failed"};

const char *build_state_name(enum build_state state)
{
    return state_names[state];
}

static enum build_state state_of(struct str name)
{
    for (size_t i = 0; i < COUNT_OF(state_names); i++)
        if (str_eqz(name, state_names[i]))
            return (enum build_state)i;
    return BUILD_PENDING;
}

static void read_build(const struct db_rows *r, struct arena *a, struct build_row *out)
{
    out->content = arena_str(a, db_col_str(r, 0));
    out->state = state_of(db_col_str(r, 1));
    out->log_tail = arena_str(a, db_col_str(r, 2));
    out->started_us = db_col_i64(r, 3);
    out->built_us = db_col_i64(r, 4);
}

int tx_build_put(struct store_tx *tx, const struct build_row *row, struct err *err)
{
    static const char sql[] =
        "INSERT INTO environment_build(content, state, log_tail, started_us, built_us)"
        " VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (content) DO UPDATE SET state = excluded.state,"
        " log_tail = excluded.log_tail, started_us = excluded.started_us,"
        " built_us = excluded.built_us";
    return db_exec(tx->db, sql,
                   DB_ARGS(db_text(row->content), db_text(str_z(state_names[row->state])),
                           db_text(row->log_tail.ptr ? row->log_tail : STR("")),
                           db_i64(row->started_us), db_i64(row->built_us)),
                   NULL, err);
}

int tx_build_want(struct store_tx *tx, struct str content, struct err *err)
{
    static const char sql[] =
        "INSERT INTO environment_build(content, state, log_tail, started_us, built_us)"
        " VALUES (?1, 'pending', '', 0, 0) ON CONFLICT (content) DO UPDATE SET"
        " state = 'pending' WHERE state = 'failed'";
    return db_exec(tx->db, sql, DB_ARGS(db_text(content)), NULL, err);
}

int tx_build_get(struct store_tx *tx, struct str content, struct arena *a, struct build_row *out,
                 struct err *err)
{
    static const char sql[] = BUILD_SELECT " WHERE content = ?1";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_text(content)), &rows, &row, err);
    if (rc)
        return rc;
    if (!row)
        return err_set(err, ERR_NOT_FOUND, "no build of this content");
    struct build_row build = {.state = BUILD_PENDING};
    read_build(&rows, a, &build);
    rc = tx_arena_ok(a, err);
    if (rc == 0)
        *out = build;
    return rc;
}

int tx_build_delete(struct store_tx *tx, struct str content, struct err *err)
{
    static const char sql[] = "DELETE FROM environment_build WHERE content = ?1";
    return db_exec(tx->db, sql, DB_ARGS(db_text(content)), NULL, err);
}

static int read_body(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    *(struct str *)row = arena_str(a, db_col_str(r, 0));
    return tx_arena_ok(a, err);
}

int tx_environment_bodies(struct store_tx *tx, struct arena *a, struct str **out, size_t *n,
                          struct err *err)
{
    static const struct row_query q = {.sql = "SELECT body FROM environment WHERE archived_us = 0",
                                       .size = sizeof(struct str),
                                       .read = read_body};
    return row_query_list(tx, &q, a, out, n, NULL, err);
}
