/* The ledger: one row for each model request that ended or was lost. */
#include "store/tx.h"

int tx_ledger_add(struct store_tx *tx, const struct ledger_row *row, struct err *err)
{
    static const char sql[] =
        "INSERT INTO ledger(workspace, session, thread, seq, purpose, model, input_tokens,"
        " output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,"
        " cost_microusd, held_microusd, at_us)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    const struct model_usage *u = &row->usage;
    return db_exec(tx->db, sql,
                   DB_ARGS(db_text(id_str(&row->workspace_id)), db_text(id_str(&row->session_id)),
                           db_text(id_str(&row->thread_id)), db_i64(row->seq), db_i64(row->purpose),
                           db_text(row->model), db_i64(u->input_tokens), db_i64(u->output_tokens),
                           db_i64(u->cache_read_tokens), db_i64(u->cache_write_5m_tokens),
                           db_i64(u->cache_write_1h_tokens), db_i64(u->cost_microusd),
                           db_i64(row->held_microusd), db_i64(row->at_us)),
                   NULL, err);
}

int tx_ledger_session(struct store_tx *tx, struct str session_id, int64_t *cost_microusd,
                      int64_t *held_microusd, int64_t *requests, struct err *err)
{
    static const char sql[] = "SELECT coalesce(sum(cost_microusd), 0),"
                              " coalesce(sum(held_microusd), 0), count(*)"
                              " FROM ledger WHERE session = ?1";
    AUTO_ROWS struct db_rows rows = {0};
    bool row = false;
    int rc = db_first(tx->db, sql, DB_ARGS(db_text(session_id)), &rows, &row, err);
    if (rc || !row)
        return rc;
    *cost_microusd = db_col_i64(&rows, 0);
    *held_microusd = db_col_i64(&rows, 1);
    *requests = db_col_i64(&rows, 2);
    return 0;
}
