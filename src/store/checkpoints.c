/* Checkpoints of sessions and the contents that they need. */
#include "store/checkpoints.h"

#include "store/tx.h"

static int no_session(struct str id, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no session '" STR_FMT "'", STR_ARG(str_take(id, ID_MAX)));
}

/* ---- writing ---- */

/* The content is the session's from this checkpoint on, if it was not before. */
static int add_blob(struct store_tx *tx, int64_t session, int64_t seq,
                    const struct checkpoint_blob *blob, struct err *err)
{
    static const char know[] = "INSERT INTO blob(name, size_bytes, refs, changes)"
                               " VALUES (?1, ?2, 0, 1) ON CONFLICT (name) DO NOTHING";
    static const char add[] = "INSERT INTO session_blob(session, blob, seq) VALUES (?1, ?2, ?3)"
                              " ON CONFLICT (session, blob) DO NOTHING";
    static const char use[] =
        "UPDATE blob SET refs = refs + 1, changes = changes + 1 WHERE name = ?1";
    /* One that was taken again after a crash may come before its first. */
    static const char earlier[] =
        "UPDATE session_blob SET seq = ?3 WHERE session = ?1 AND blob = ?2 AND seq > ?3";
    int64_t changes = 0;
    int rc =
        db_exec(tx->db, know, DB_ARGS(db_text(blob->name), db_i64(blob->size_bytes)), NULL, err);
    if (rc == 0)
        rc = db_exec(tx->db, add, DB_ARGS(db_i64(session), db_text(blob->name), db_i64(seq)),
                     &changes, err);
    if (rc)
        return rc;
    if (changes)
        return db_exec(tx->db, use, DB_ARGS(db_text(blob->name)), NULL, err);
    return db_exec(tx->db, earlier, DB_ARGS(db_i64(session), db_text(blob->name), db_i64(seq)),
                   NULL, err);
}

/* The contents of a row that is replaced stay: the one that takes its place was made after it, and
 * may be no more than what changed since. */
static int put_row(struct store_tx *tx, int64_t session, const struct checkpoint_row *row,
                   struct err *err)
{
    static const char sql[] =
        "INSERT INTO checkpoint(session, seq, turn_end, manifest, at_us, files, size_bytes,"
        " stored_bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        " ON CONFLICT (session, seq) DO UPDATE SET turn_end = excluded.turn_end,"
        " manifest = excluded.manifest, at_us = excluded.at_us, files = excluded.files,"
        " size_bytes = excluded.size_bytes, stored_bytes = excluded.stored_bytes";
    return db_exec(tx->db, sql,
                   DB_ARGS(db_i64(session), db_i64(row->seq), db_i64(row->turn_end),
                           db_text(row->manifest), db_i64(row->at_us), db_i64(row->files),
                           db_i64(row->size_bytes), db_i64(row->stored_bytes)),
                   NULL, err);
}

/* One that comes behind a later event's (of another process, say) may be a change of that one, and
 * then needs its contents: a branch from here on takes them as well. */
static int hold_later(struct store_tx *tx, int64_t session, int64_t seq, struct err *err)
{
    static const char later[] = "SELECT 1 FROM checkpoint WHERE session = ?1 AND seq > ?2 LIMIT 1";
    static const char sql[] = "UPDATE session_blob SET seq = ?2 WHERE session = ?1 AND seq > ?2";
    int64_t found = 0;
    int rc = db_number(tx->db, later, DB_ARGS(db_i64(session), db_i64(seq)), 0, &found, err);
    if (rc || !found)
        return rc;
    return db_exec(tx->db, sql, DB_ARGS(db_i64(session), db_i64(seq)), NULL, err);
}

int tx_checkpoint_put(struct store_tx *tx, struct str session_id, const struct checkpoint_row *row,
                      const struct checkpoint_blob *blobs, size_t nblobs, struct err *err)
{
    static const char find[] = "SELECT key FROM session WHERE id = ?1";
    static const char has[] = "SELECT 1 FROM session_blob WHERE session = ?1 AND blob = ?2";
    int64_t session = 0, found = 0;
    int rc = db_number(tx->db, find, DB_ARGS(db_text(session_id)), 0, &session, err);
    if (rc)
        return rc;
    if (session == 0)
        return no_session(session_id, err);
    for (size_t i = 0; i < nblobs && rc == 0; i++)
        rc = add_blob(tx, session, row->seq, &blobs[i], err);
    if (rc == 0)
        rc = hold_later(tx, session, row->seq, err);
    /* One that nobody counts would be swept away under it. */
    if (rc == 0)
        rc = db_number(tx->db, has, DB_ARGS(db_i64(session), db_text(row->manifest)), 0, &found,
                       err);
    if (rc == 0 && !found)
        return err_set(err, ERR_INTERNAL, "the manifest is not among the session's contents");
    if (rc == 0)
        rc = put_row(tx, session, row, err);
    return rc ? rc : tx_checkpoint_give_up(tx, session_id, row->seq, err);
}

int tx_checkpoint_give_up(struct store_tx *tx, struct str session_id, int64_t seq, struct err *err)
{
    static const char sql[] = "UPDATE session SET checkpoint_due = 0 WHERE id = ?1"
                              " AND checkpoint_due > 0 AND checkpoint_due <= ?2";
    return db_exec(tx->db, sql, DB_ARGS(db_text(session_id), db_i64(seq)), NULL, err);
}

int tx_checkpoint_copy(struct store_tx *tx, int64_t from_key, int64_t to_key, int64_t seq,
                       struct err *err)
{
    /* Those of seq 0 too: what was imported before the first event is among them. */
    static const char use[] =
        "UPDATE blob SET refs = refs + 1, changes = changes + 1 WHERE name IN"
        " (SELECT blob FROM session_blob WHERE session = ?1 AND seq <= ?3) AND name NOT IN"
        " (SELECT blob FROM session_blob WHERE session = ?2)";
    static const char add[] = "INSERT INTO session_blob(session, blob, seq)"
                              " SELECT ?2, blob, seq FROM session_blob"
                              " WHERE session = ?1 AND seq <= ?3"
                              " ON CONFLICT (session, blob) DO NOTHING";
    static const char rows[] =
        "INSERT INTO checkpoint(session, seq, turn_end, manifest, at_us, files, size_bytes,"
        " stored_bytes) SELECT ?2, seq, turn_end, manifest, at_us, files, size_bytes, stored_bytes"
        " FROM checkpoint WHERE session = ?1 AND seq <= ?3";
    const struct db_value v[] = {db_i64(from_key), db_i64(to_key), db_i64(seq)};
    int rc = db_exec(tx->db, use, v, COUNT_OF(v), NULL, err);
    if (rc == 0)
        rc = db_exec(tx->db, add, v, COUNT_OF(v), NULL, err);
    return rc ? rc : db_exec(tx->db, rows, v, COUNT_OF(v), NULL, err);
}

/* ---- reading ---- */

static void read_columns(const struct db_rows *r, struct arena *a, struct checkpoint_row *out)
{
    *out = (struct checkpoint_row){.seq = db_col_i64(r, 0),
                                   .turn_end = db_col_i64(r, 1) != 0,
                                   .manifest = arena_str(a, db_col_str(r, 2)),
                                   .at_us = db_col_i64(r, 3),
                                   .files = db_col_i64(r, 4),
                                   .size_bytes = db_col_i64(r, 5),
                                   .stored_bytes = db_col_i64(r, 6)};
}

int tx_checkpoint_at(struct store_tx *tx, struct str session_id, int64_t seq, struct arena *a,
                     struct checkpoint_row *out, struct err *err)
{
    static const char sql[] =
        "SELECT c.seq, c.turn_end, c.manifest, c.at_us, c.files, c.size_bytes, c.stored_bytes"
        " FROM checkpoint c JOIN session s ON s.key = c.session WHERE s.id = ?1 AND c.seq <= ?2"
        " ORDER BY c.seq DESC LIMIT 1";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_text(session_id), db_i64(seq ? seq : INT64_MAX)),
                      &rows, &row, err);
    if (rc)
        return rc;
    if (!row)
        return err_set(err, ERR_NOT_FOUND, "session '" STR_FMT "' has no checkpoint",
                       STR_ARG(str_take(session_id, ID_MAX)));
    struct checkpoint_row got;
    read_columns(&rows, a, &got);
    rc = tx_arena_ok(a, err);
    if (rc == 0)
        *out = got;
    return rc;
}

struct listed {
    struct checkpoint_row row;
    struct id event;
};

static int read_listed(const struct db_rows *r, struct arena *a, void *row, struct err *err)
{
    struct listed *l = row;
    read_columns(r, a, &l->row);
    l->event = id_from(db_col_str(r, 7));
    return tx_arena_ok(a, err);
}

int tx_checkpoint_list(struct store_tx *tx, int64_t session_key, int64_t before, int64_t limit,
                       struct arena *a, struct checkpoint_row **out, struct id **events, size_t *n,
                       bool *more, struct err *err)
{
    static const char sql[] =
        "SELECT c.seq, c.turn_end, c.manifest, c.at_us, c.files, c.size_bytes, c.stored_bytes,"
        " coalesce(e.id, '') FROM checkpoint c"
        " LEFT JOIN event e ON e.session = c.session AND e.seq = c.seq"
        " WHERE c.session = ?1 AND c.seq < ?2 ORDER BY c.seq DESC LIMIT ?3";
    const struct db_value v[] = {db_i64(session_key), db_i64(before ? before : INT64_MAX),
                                 db_i64(limit + 1)};
    const struct row_query q = {.sql = sql,
                                .v = v,
                                .nv = COUNT_OF(v),
                                .size = sizeof(struct listed),
                                .limit = limit,
                                .read = read_listed};
    struct listed *rows = NULL;
    int rc = row_query_list(tx, &q, a, &rows, n, more, err);
    if (rc)
        return rc;
    *out = ARENA_ARRAY(a, struct checkpoint_row, *n + 1);
    *events = ARENA_ARRAY(a, struct id, *n + 1);
    for (size_t i = 0; *out && *events && i < *n; i++) {
        (*out)[i] = rows[i].row;
        (*events)[i] = rows[i].event;
    }
    return tx_arena_ok(a, err);
}
