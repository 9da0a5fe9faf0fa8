/* sim_twin: the operations of one store as a table, so that a test can hold two side by side.
 * Tests only. The double's names are changed by the preprocessor where it is compiled.
 */
#ifndef OSTLER_TESTS_SIM_TWIN_H
#define OSTLER_TESTS_SIM_TWIN_H

#include "simdb.h"

struct twin {
    __typeof__(tx_workspace_ensure) *workspace_ensure;
    __typeof__(tx_session_insert) *session_insert;
    __typeof__(tx_session_get) *session_get;
    __typeof__(tx_session_take) *session_take;
    __typeof__(tx_session_own) *session_own;
    __typeof__(tx_session_update) *session_update;
    __typeof__(tx_session_delete) *session_delete;
    __typeof__(tx_session_append) *session_append;
    __typeof__(tx_session_work) *session_work;
    __typeof__(tx_inbox_add) *inbox_add;
    __typeof__(tx_inbox_list) *inbox_list;
    __typeof__(tx_event_list) *event_list;
    __typeof__(tx_ledger_session) *ledger_session;
};

#define TWIN_TABLE                                                                                 \
    {                                                                                              \
        tx_workspace_ensure, tx_session_insert, tx_session_get, tx_session_take, tx_session_own,   \
            tx_session_update, tx_session_delete, tx_session_append, tx_session_work,              \
            tx_inbox_add, tx_inbox_list, tx_event_list, tx_ledger_session                          \
    }

extern const struct twin twin_real, twin_double;

#endif
