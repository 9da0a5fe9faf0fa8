/* The queues of self-hosted environments. */
#include "store/work.h"

#include "store/tx.h"

int tx_work_ensure(struct store_tx *tx, int64_t session_key, int64_t now_us, bool *added,
                   struct err *err)
{
    static const char sql[] =
        "INSERT INTO work_item(id, workspace, environment, session, session_id, state, metadata,"
        " generation, failures, trouble, offered_us, ttl_us, created_us, queued_us,"
        " acknowledged_us, started_us, heartbeat_us, heartbeat_before_us, lease_until_us,"
        " stop_requested_us, stopped_us)"
        " SELECT ?1, workspace, environment_id, key, id, 0, '{}', 0, 0, 0, 0, 0, ?3, ?3, 0, 0, 0,"
        " 0, 0, 0, 0"
        " FROM session WHERE key = ?2"
        " ON CONFLICT (session) WHERE state <> 4 DO NOTHING";
    struct id id = id_new("work");
    int64_t changes = 0;
    int rc =
        db_exec(tx->db, sql, DB_ARGS(db_text(id_str(&id)), db_i64(session_key), db_i64(now_us)),
                &changes, err);
    if (rc == 0 && added)
        *added = changes > 0;
    return rc;
}
