#include "store/fork.h"

#include "store/tx.h"

#include <stdio.h>

/* Events that say of which thread they are, in a member of their own. Inside of a JSON string every
 * quote has a backslash before it, and no other value of these events comes from outside: the text
 * of the member is found nowhere else in them. */
static const uint64_t of_a_thread =
    1ull << EVENT_USER_INTERRUPT | 1ull << EVENT_USER_TOOL_CONFIRMATION |
    1ull << EVENT_USER_CUSTOM_TOOL_RESULT | 1ull << EVENT_USER_TOOL_RESULT |
    1ull << EVENT_SESSION_THREAD_STATUS_RUNNING | 1ull << EVENT_SESSION_THREAD_STATUS_IDLE |
    1ull << EVENT_SESSION_THREAD_STATUS_RESCHEDULED;

static struct str thread_member(char out[96], const struct id *thread)
{
    snprintf(out, 96, "\"session_thread_id\":\"%s\"", thread->z);
    return str_z(out);
}

int tx_fork_log(struct store_tx *tx, const struct fork_copy *f, struct err *err)
{
    static const char events[] =
        "INSERT INTO event(session, seq, id, type, flags, processed_us, actor, body)"
        " SELECT ?2, seq, id, type, flags, processed_us, actor,"
        " CASE WHEN (?4 >> type) & 1 THEN replace(body, ?5, ?6) ELSE body END"
        " FROM event WHERE session = ?1 AND seq <= ?3 ORDER BY seq";
    static const char private[] = "INSERT INTO transcript(session, seq, body)"
                                  " SELECT ?2, seq, body FROM transcript"
                                  " WHERE session = ?1 AND seq <= ?3 ORDER BY seq";
    char from[96], to[96];
    int64_t copied = 0;
    int rc =
        db_exec(tx->db, events,
                DB_ARGS(db_i64(f->from_key), db_i64(f->to_key), db_i64(f->seq),
                        db_i64((int64_t)of_a_thread), db_text(thread_member(from, &f->from_thread)),
                        db_text(thread_member(to, &f->to_thread))),
                &copied, err);
    if (rc)
        return rc;
    if (copied != f->seq)
        return err_set(err, ERR_NOT_FOUND, "the session does not exist any more");
    return db_exec(tx->db, private, DB_ARGS(db_i64(f->from_key), db_i64(f->to_key), db_i64(f->seq)),
                   NULL, err);
}

int tx_fork_origin(struct store_tx *tx, int64_t key, struct str origin, struct err *err)
{
    static const char sql[] = "UPDATE session_config SET forked_from = ?2 WHERE session = ?1";
    return db_exec(tx->db, sql, DB_ARGS(db_i64(key), db_text(origin)), NULL, err);
}

int tx_fork_event(struct store_tx *tx, int64_t key, int64_t seq, struct id *out, struct err *err)
{
    static const char sql[] = "SELECT id FROM event WHERE session = ?1 AND seq = ?2";
    AUTO_ROWS struct db_rows rows = {0};
    bool found = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_i64(key), db_i64(seq)), &rows, &found, err);
    if (rc == 0)
        *out = found ? id_from(db_col_str(&rows, 0)) : (struct id){""};
    return rc;
}
