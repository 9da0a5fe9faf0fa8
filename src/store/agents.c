/* Agents and their versions: an agent is its head row and one immutable row a version. */
#include "store/tx.h"

static int not_found(struct str id, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no agent '" STR_FMT "'", STR_ARG(str_take(id, ID_MAX)));
}

static int add_version(struct store_tx *tx, struct str ws, const struct agent_row *row,
                       struct err *err)
{
    static const char sql[] = "INSERT INTO agent_version(agent, version, created_us, body)"
                              " SELECT key, ?3, ?4, ?5 FROM agent WHERE id = ?1 AND workspace = ?2";
    return db_exec(tx->db, sql,
                   DB_ARGS(db_text(id_str(&row->id)), db_text(ws), db_i64(row->version),
                           db_i64(row->updated_us), db_text(row->body)),
                   NULL, err);
}

int tx_agent_insert(struct store_tx *tx, struct str ws, const struct agent_row *row,
                    struct err *err)
{
    static const char sql[] =
        "INSERT INTO agent(id, workspace, version, created_us, updated_us, archived_us)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    int rc =
        db_exec(tx->db, sql,
                DB_ARGS(db_text(id_str(&row->id)), db_text(ws), db_i64(row->version),
                        db_i64(row->created_us), db_i64(row->updated_us), db_i64(row->archived_us)),
                NULL, err);
    if (rc == ERR_EXISTS)
        return err_set(err, ERR_EXISTS, "agent '%s' exists already", row->id.z);
    return rc ? rc : add_version(tx, ws, row, err);
}

#define AGENT_SELECT                                                                               \
    "SELECT a.id, v.version, v.body, a.created_us, v.created_us, a.archived_us"                    \
    " FROM agent a JOIN agent_version v ON v.agent = a.key"

static int read_agent(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct agent_row *out = row;
    out->id = id_from(db_col_str(r, 0));
    out->version = db_col_i64(r, 1);
    out->body = arena_str(a, db_col_str(r, 2));
    out->created_us = db_col_i64(r, 3);
    out->updated_us = db_col_i64(r, 4);
    out->archived_us = db_col_i64(r, 5);
    return tx_arena_ok(a, err);
}

/* Whether it is the agent or only the version that is missing. */
static int missing(struct store_tx *tx, struct str ws, struct str id, int64_t version,
                   struct err *err)
{
    static const char sql[] = "SELECT 1 FROM agent WHERE id = ?1 AND workspace = ?2";
    int64_t there = 0;
    int rc = db_number(tx->db, sql, DB_ARGS(db_text(id), db_text(ws)), 0, &there, err);
    if (rc)
        return rc;
    if (!there)
        return not_found(id, err);
    return err_set(err, ERR_NOT_FOUND, "agent '" STR_FMT "' has no version %lld", STR_ARG(id),
                   (long long)version);
}

int tx_agent_get(struct store_tx *tx, struct str ws, struct str id, int64_t version,
                 struct arena *a, struct agent_row *out, struct err *err)
{
    static const char sql[] =
        AGENT_SELECT " AND v.version = CASE ?3 WHEN 0 THEN a.version ELSE ?3 END"
                     " WHERE a.id = ?1 AND a.workspace = ?2";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc =
        db_first(tx->db, sql, DB_ARGS(db_text(id), db_text(ws), db_i64(version)), &rows, &row, err);
    if (rc)
        return rc;
    if (!row)
        return missing(tx, ws, id, version, err);
    struct agent_row agent = {0};
    rc = read_agent(&rows, a, &agent, err);
    if (rc == 0)
        *out = agent;
    return rc;
}

int tx_agent_add_version(struct store_tx *tx, struct str ws, const struct agent_row *row,
                         struct err *err)
{
    static const char sql[] = "UPDATE agent SET version = ?3, updated_us = ?4"
                              " WHERE id = ?1 AND workspace = ?2 AND version = ?3 - 1";
    static const char latest[] = "SELECT version FROM agent WHERE id = ?1 AND workspace = ?2";
    struct str id = id_str(&row->id);
    int64_t changes = 0, version = 0;
    int rc =
        db_exec(tx->db, sql,
                DB_ARGS(db_text(id), db_text(ws), db_i64(row->version), db_i64(row->updated_us)),
                &changes, err);
    if (rc == 0 && changes == 1)
        return add_version(tx, ws, row, err);
    if (rc == 0)
        rc = db_number(tx->db, latest, DB_ARGS(db_text(id), db_text(ws)), 0, &version, err);
    if (rc)
        return rc;
    if (version == 0)
        return not_found(id, err);
    return err_set(err, ERR_CONFLICT, "agent '%s' is at version %lld; %lld cannot follow it",
                   row->id.z, (long long)version, (long long)row->version);
}

int tx_agent_archive(struct store_tx *tx, struct str ws, struct str id, int64_t now_us,
                     struct err *err)
{
    static const char sql[] =
        "UPDATE agent SET archived_us = CASE archived_us WHEN 0 THEN ?3 ELSE archived_us END"
        " WHERE id = ?1 AND workspace = ?2";
    int64_t changes = 0;
    int rc = db_exec(tx->db, sql, DB_ARGS(db_text(id), db_text(ws), db_i64(now_us)), &changes, err);
    return rc == 0 && changes == 0 ? not_found(id, err) : rc;
}

#define AGENT_PAGE                                                                                 \
    AGENT_SELECT " AND v.version = a.version"                                                      \
                 " WHERE a.workspace = ?1 AND " WINDOW_SQL(                                        \
                     "a.", "2", "3", "4", "5") " AND (?6 = 1 OR a.archived_us = 0)"

int tx_agent_list(struct store_tx *tx, struct str ws, const struct agent_filter *f,
                  const struct page *page, struct arena *a, struct agent_row **out, size_t *n,
                  bool *more, struct err *err)
{
    static const char asc[] = AGENT_PAGE WINDOW_ASC("a.") " LIMIT ?7";
    static const char desc[] = AGENT_PAGE WINDOW_DESC("a.") " LIMIT ?7";
    struct range range = {.gte_us = f->created_gte_us, .lte_us = f->created_lte_us};
    struct window w;
    int rc = window_init(&w, page, &range, err);
    if (rc)
        return rc;
    const struct db_value v[] = {db_text(ws), WINDOW_ARGS(&w), db_i64(f->include_archived),
                                 db_i64(w.limit + 1)};
    const struct row_query q = {.sql = w.desc ? desc : asc,
                                .v = v,
                                .nv = COUNT_OF(v),
                                .size = sizeof(struct agent_row),
                                .limit = w.limit,
                                .turn = page->backward,
                                .read = read_agent};
    return row_query_list(tx, &q, a, out, n, more, err);
}

int tx_agent_versions(struct store_tx *tx, struct str ws, struct str id, const struct page *page,
                      struct arena *a, struct agent_row **out, size_t *n, bool *more,
                      struct err *err)
{
    static const char sql[] =
        AGENT_SELECT " WHERE a.id = ?1 AND a.workspace = ?2 AND v.version < ?3"
                     " ORDER BY v.version DESC LIMIT ?4";
    static const char exists[] = "SELECT 1 FROM agent WHERE id = ?1 AND workspace = ?2";
    int64_t below = INT64_MAX, there = 0;
    if (page->limit < 1)
        return err_at(err, ERR_INVALID, "limit", "limit must be at least 1");
    if (str_some(page->after) && (!str_i64(page->after, &below) || below < 1))
        return err_at(err, ERR_INVALID, "page", "not a page position of this list");
    int rc = db_number(tx->db, exists, DB_ARGS(db_text(id), db_text(ws)), 0, &there, err);
    if (rc)
        return rc;
    if (!there)
        return not_found(id, err);
    int64_t limit = page->limit < PAGE_ROWS_MAX ? page->limit : PAGE_ROWS_MAX;
    const struct db_value v[] = {db_text(id), db_text(ws), db_i64(below), db_i64(limit + 1)};
    const struct row_query q = {.sql = sql,
                                .v = v,
                                .nv = COUNT_OF(v),
                                .size = sizeof(struct agent_row),
                                .limit = limit,
                                .read = read_agent};
    return row_query_list(tx, &q, a, out, n, more, err);
}
