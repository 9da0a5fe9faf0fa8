/* Skills and their versions; the contents that a session was given. */
#include "store/tx.h"

static int no_skill(struct str id, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no skill '" STR_FMT "'", STR_ARG(str_take(id, ID_MAX)));
}

static int no_version(struct str id, struct str which, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "skill '" STR_FMT "' has no version '" STR_FMT "'",
                   STR_ARG(str_take(id, ID_MAX)), STR_ARG(str_utf8_take(which, ID_MAX)));
}

/* ---- skills ---- */

int tx_skill_insert(struct store_tx *tx, struct str ws, const struct skill_row *row,
                    struct err *err)
{
    static const char sql[] =
        "INSERT INTO skill(id, workspace, name, display_name, latest, created_us, updated_us)"
        " VALUES (?1, ?2, ?3, ?4, '', ?5, ?6)";
    struct str shown = str_some(row->display_name) ? row->display_name : STR("");
    int rc = db_exec(tx->db, sql,
                     DB_ARGS(db_text(id_str(&row->id)), db_text(ws), db_text(row->name),
                             db_text(shown), db_i64(row->created_us), db_i64(row->updated_us)),
                     NULL, err);
    if (rc == ERR_EXISTS)
        return err_set(err, ERR_EXISTS, "skill '%s' exists already", row->id.z);
    return rc;
}

#define SKILL_SELECT                                                                               \
    "SELECT s.id, s.name, s.display_name, s.created_us, s.updated_us, v.id, v.version"             \
    " FROM skill s LEFT JOIN skill_version v ON v.id = s.latest"

static int read_skill(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct skill_row *out = row;
    struct str shown = db_col_str(r, 2), latest = db_col_str(r, 5), version = db_col_str(r, 6);
    out->id = id_from(db_col_str(r, 0));
    out->name = arena_str(a, db_col_str(r, 1));
    out->display_name = shown.len ? arena_str(a, shown) : STR_NONE;
    out->created_us = db_col_i64(r, 3);
    out->updated_us = db_col_i64(r, 4);
    if (str_some(latest))
        out->latest_id = id_from(latest);
    out->latest_version = str_some(version) ? arena_str(a, version) : STR_NONE;
    return tx_arena_ok(a, err);
}

int tx_skill_get(struct store_tx *tx, struct str ws, struct str id, struct arena *a,
                 struct skill_row *out, struct err *err)
{
    static const char sql[] = SKILL_SELECT " WHERE s.id = ?1 AND s.workspace = ?2";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_text(id), db_text(ws)), &rows, &row, err);
    if (rc)
        return rc;
    if (!row)
        return no_skill(id, err);
    struct skill_row skill = {0};
    rc = read_skill(&rows, a, &skill, err);
    if (rc == 0)
        *out = skill;
    return rc;
}

int tx_skill_list(struct store_tx *tx, struct str ws, const struct page *page, struct arena *a,
                  struct skill_row **out, size_t *n, bool *more, struct err *err)
{
    static const char asc[] = SKILL_SELECT " WHERE s.workspace = ?1 AND " WINDOW_PAGE_ASC("s.");
    static const char desc[] = SKILL_SELECT " WHERE s.workspace = ?1 AND " WINDOW_PAGE_DESC("s.");
    const struct window_query q = {.asc = asc,
                                   .desc = desc,
                                   .owner = db_text(ws),
                                   .size = sizeof(struct skill_row),
                                   .read = read_skill};
    return window_query_list(tx, &q, page, a, out, n, more, err);
}

int tx_skill_delete(struct store_tx *tx, struct str ws, struct str id, struct err *err)
{
    static const char used[] = "SELECT 1 FROM skill_version v JOIN skill s ON s.id = v.skill"
                               " WHERE s.id = ?1 AND s.workspace = ?2 LIMIT 1";
    static const char sql[] = "DELETE FROM skill WHERE id = ?1 AND workspace = ?2";
    int64_t versions = 0, changes = 0;
    int rc = db_number(tx->db, used, DB_ARGS(db_text(id), db_text(ws)), 0, &versions, err);
    if (rc)
        return rc;
    if (versions)
        return err_set(err, ERR_INVALID, "Cannot delete skill with existing versions");
    rc = db_exec(tx->db, sql, DB_ARGS(db_text(id), db_text(ws)), &changes, err);
    return rc == 0 && changes == 0 ? no_skill(id, err) : rc;
}

/* ---- versions ---- */

/* The newest version there is becomes the latest one. */
static int renew_latest(struct store_tx *tx, struct str skill, int64_t now_us, struct err *err)
{
    static const char sql[] =
        "UPDATE skill SET updated_us = ?2, latest = coalesce((SELECT v.id FROM skill_version v"
        " WHERE v.skill = ?1 ORDER BY v.version DESC LIMIT 1), '') WHERE id = ?1";
    return db_exec(tx->db, sql, DB_ARGS(db_text(skill), db_i64(now_us)), NULL, err);
}

/* A version is called by its time in microseconds. Two of one skill never have the same, also when
 * the clock went back; what was deleted may give its name to a later one only then. */
static int next_version(struct store_tx *tx, const struct skill_version_row *row, int64_t *out,
                        struct err *err)
{
    static const char sql[] = "SELECT version FROM skill_version WHERE skill = ?1"
                              " ORDER BY version DESC LIMIT 1";
    AUTO_ROWS struct db_rows rows = {0};
    bool found = false;
    int64_t newest = 0;
    int rc = db_first(tx->db, sql, DB_ARGS(db_text(id_str(&row->skill_id))), &rows, &found, err);
    if (rc)
        return rc;
    if (found && !str_i64(db_col_str(&rows, 0), &newest))
        return err_set(err, ERR_CORRUPT, "skill '%s' has a version that cannot be read",
                       row->skill_id.z);
    *out = row->created_us > newest ? row->created_us : newest + 1;
    return 0;
}

int tx_skill_version_insert(struct store_tx *tx, struct skill_version_row *row, int64_t size_bytes,
                            struct arena *a, struct err *err)
{
    static const char use[] =
        "INSERT INTO blob(name, size_bytes, refs, changes) VALUES (?1, ?2, 1, 1)"
        " ON CONFLICT (name) DO UPDATE SET refs = blob.refs + 1, changes = blob.changes + 1";
    static const char sql[] =
        "INSERT INTO skill_version(id, skill, version, name, description, directory, blob,"
        " created_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    int64_t number = 0;
    int rc = next_version(tx, row, &number, err);
    if (rc)
        return rc;
    row->version = arena_printf(a, "%016lld", (long long)number);
    rc = tx_arena_ok(a, err);
    if (rc == 0)
        rc = db_exec(tx->db, use, DB_ARGS(db_text(row->blob), db_i64(size_bytes)), NULL, err);
    if (rc == 0)
        rc = db_exec(tx->db, sql,
                     DB_ARGS(db_text(id_str(&row->id)), db_text(id_str(&row->skill_id)),
                             db_text(row->version), db_text(row->name), db_text(row->description),
                             db_text(row->directory), db_text(row->blob), db_i64(row->created_us)),
                     NULL, err);
    return rc ? rc : renew_latest(tx, id_str(&row->skill_id), row->created_us, err);
}

#define VERSION_SELECT                                                                             \
    "SELECT v.id, v.skill, v.version, v.name, v.description, v.directory, v.blob, v.created_us"    \
    " FROM skill_version v JOIN skill s ON s.id = v.skill"

static int read_version(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct skill_version_row *out = row;
    out->id = id_from(db_col_str(r, 0));
    out->skill_id = id_from(db_col_str(r, 1));
    out->version = arena_str(a, db_col_str(r, 2));
    out->name = arena_str(a, db_col_str(r, 3));
    out->description = arena_str(a, db_col_str(r, 4));
    out->directory = arena_str(a, db_col_str(r, 5));
    out->blob = arena_str(a, db_col_str(r, 6));
    out->created_us = db_col_i64(r, 7);
    return tx_arena_ok(a, err);
}

int tx_skill_version_get(struct store_tx *tx, struct str ws, struct str skill, struct str which,
                         struct arena *a, struct skill_version_row *out, struct err *err)
{
    static const char by_id[] =
        VERSION_SELECT " WHERE v.skill = ?1 AND s.workspace = ?2 AND v.id = ?3";
    static const char by_number[] =
        VERSION_SELECT " WHERE v.skill = ?1 AND s.workspace = ?2 AND v.version = ?3";
    static const char latest[] =
        VERSION_SELECT " WHERE v.skill = ?1 AND s.workspace = ?2 AND v.id = s.latest AND ?3 <> ''";
    const char *sql = str_eqz(which, SKILL_LATEST)            ? latest
                      : id_valid(which, SKILL_VERSION_PREFIX) ? by_id
                                                              : by_number;
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_text(skill), db_text(ws), db_text(which)), &rows,
                      &row, err);
    if (rc)
        return rc;
    if (!row)
        return no_version(skill, which, err);
    struct skill_version_row version = {0};
    rc = read_version(&rows, a, &version, err);
    if (rc == 0)
        *out = version;
    return rc;
}

int tx_skill_version_list(struct store_tx *tx, struct str ws, struct str skill, struct str below,
                          int64_t limit, struct arena *a, struct skill_version_row **out, size_t *n,
                          bool *more, struct err *err)
{
    /* '~' sorts behind every digit. */
    static const char sql[] =
        VERSION_SELECT " WHERE v.skill = ?1 AND s.workspace = ?2 AND v.version < ?3"
                       " ORDER BY v.version DESC LIMIT ?4";
    if (limit < 1 || limit > PAGE_ROWS_MAX)
        return err_at(err, ERR_INVALID, "limit", "limit must be from 1 to %d", PAGE_ROWS_MAX);
    const struct db_value v[] = {db_text(skill), db_text(ws),
                                 db_text(str_some(below) ? below : STR("~")), db_i64(limit + 1)};
    const struct row_query q = {.sql = sql,
                                .v = v,
                                .nv = COUNT_OF(v),
                                .size = sizeof(struct skill_version_row),
                                .limit = limit,
                                .read = read_version};
    return row_query_list(tx, &q, a, out, n, more, err);
}

int tx_skill_version_delete(struct store_tx *tx, const struct skill_version_row *row,
                            int64_t now_us, struct err *err)
{
    static const char sql[] = "DELETE FROM skill_version WHERE id = ?1";
    static const char release[] =
        "UPDATE blob SET refs = refs - 1, changes = changes + 1 WHERE name = ?1";
    int64_t changes = 0;
    int rc = db_exec(tx->db, sql, DB_ARGS(db_text(id_str(&row->id))), &changes, err);
    if (rc == 0 && changes == 0)
        return no_version(id_str(&row->skill_id), id_str(&row->id), err);
    if (rc == 0)
        rc = db_exec(tx->db, release, DB_ARGS(db_text(row->blob)), NULL, err);
    return rc ? rc : renew_latest(tx, id_str(&row->skill_id), now_us, err);
}

/* ---- contents of a session ---- */

int tx_session_blob_add(struct store_tx *tx, int64_t session_key, struct str blob, struct err *err)
{
    static const char add[] = "INSERT INTO session_blob(session, blob) VALUES (?1, ?2)"
                              " ON CONFLICT (session, blob) DO NOTHING";
    static const char use[] =
        "UPDATE blob SET refs = refs + 1, changes = changes + 1 WHERE name = ?1";
    int64_t changes = 0;
    int rc = db_exec(tx->db, add, DB_ARGS(db_i64(session_key), db_text(blob)), &changes, err);
    return rc || changes == 0 ? rc : db_exec(tx->db, use, DB_ARGS(db_text(blob)), NULL, err);
}

int tx_session_blob_drop(struct store_tx *tx, int64_t session_key, struct str blob, struct err *err)
{
    static const char sql[] =
        "DELETE FROM session_blob WHERE session = ?1 AND blob = ?2 AND seq = 0 AND NOT EXISTS"
        " (SELECT 1 FROM checkpoint c WHERE c.session = ?1 AND c.manifest = ?2)";
    static const char unuse[] =
        "UPDATE blob SET refs = refs - 1, changes = changes + 1 WHERE name = ?1";
    int64_t changes = 0;
    int rc = db_exec(tx->db, sql, DB_ARGS(db_i64(session_key), db_text(blob)), &changes, err);
    return rc || changes == 0 ? rc : db_exec(tx->db, unuse, DB_ARGS(db_text(blob)), NULL, err);
}

int tx_session_blobs_release(struct store_tx *tx, int64_t session_key, struct err *err)
{
    static const char unuse[] = "UPDATE blob SET refs = refs - 1, changes = changes + 1"
                                " WHERE name IN (SELECT blob FROM session_blob WHERE session = ?1)";
    static const char sql[] = "DELETE FROM session_blob WHERE session = ?1";
    int rc = db_exec(tx->db, unuse, DB_ARGS(db_i64(session_key)), NULL, err);
    return rc ? rc : db_exec(tx->db, sql, DB_ARGS(db_i64(session_key)), NULL, err);
}
