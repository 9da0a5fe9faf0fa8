/* The simulator's store under other names, beside the real one. */
#define tx_workspace_ensure sim_workspace_ensure
#define tx_meta_get sim_meta_get
#define tx_meta_put sim_meta_put
#define tx_ledger_add sim_ledger_add
#define tx_ledger_session sim_ledger_session
#define tx_session_insert sim_session_insert
#define tx_session_get sim_session_get
#define tx_session_active sim_session_active
#define tx_session_take sim_session_take
#define tx_session_own sim_session_own
#define tx_session_owner sim_session_owner
#define tx_session_work sim_session_work
#define tx_session_update sim_session_update
#define tx_session_delete sim_session_delete
#define tx_session_append sim_session_append
#define tx_session_outcomes_read sim_session_outcomes_read
#define tx_inbox_add sim_inbox_add
#define tx_inbox_list sim_inbox_list
#define tx_event_list sim_event_list
#define tx_event_last_compaction sim_event_last_compaction
#define tx_event_seq sim_event_seq
#include "simdb.c" // NOLINT
#include "sim_twin.h"

const struct twin twin_double = TWIN_TABLE;
