/* store_rig: the typed operations on a connection of the test's own, inside one transaction that is
 * rolled back: no threads. Each test has its own database with the workspaces "default" and
 * "other". */
#ifndef OSTLER_TESTS_STORE_RIG_H
#define OSTLER_TESTS_STORE_RIG_H

#include "store_fixture.h"

#include "store/migrate.h"
#include "store/sqlite/sqlite.h"
#include "store/tx.h"

static struct env {
    char dir[64], path[96];
    struct db *db;
    struct store_tx tx;
    struct arena a;
    struct err err;
    struct id ws, other;
} t;

#define WS id_str(&t.ws)
#define OTHER id_str(&t.other)
#define OK(call) ok((call), #call)

static inline void ok(int rc, const char *what)
{
    if (rc != 0)
        fail_msg("%s: %s: %s", what, err_name(rc), t.err.msg);
}

static inline int setup(void **state)
{
    (void)state;
    memset(&t, 0, sizeof t);
    fixture_mkdtemp(t.dir);
    snprintf(t.path, sizeof t.path, "%s/ostler.db", t.dir);
    arena_init(&t.a, 16 << 20);
    OK(sqlite_open(t.path, DB_OWNER, false, &t.db, &t.err));
    OK(migrate_run(t.db, t.path, &t.err));
    t.tx.db = t.db;
    OK(t.db->ops->begin(t.db, true, &t.err));
    OK(tx_workspace_ensure(&t.tx, STR("default"), 1, &t.ws, &t.err));
    OK(tx_workspace_ensure(&t.tx, STR("other"), 2, &t.other, &t.err));
    return 0;
}

/* A session of the default workspace. */
static inline struct session_row a_session(void)
{
    struct session_row row = {.id = id_new("sesn"),
                              .workspace_id = t.ws,
                              .thread_id = id_new("sthr"),
                              .agent_id = id_new("agent"),
                              .environment_id = id_new("env"),
                              .created_us = 1};
    OK(tx_session_insert(&t.tx, &row, &t.err));
    return row;
}

static inline int teardown(void **state)
{
    (void)state;
    t.db->ops->rollback(t.db);
    t.db->ops->close(t.db);
    arena_fini(&t.a);
    fixture_rmtree(t.dir);
    return 0;
}

#endif
