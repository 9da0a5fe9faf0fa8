/* simdb: the store's typed operations (store/store.h, tx_*) in memory, with transactions.
 *
 * Linked before the real store's library, so that the engine's calls come here. What a job wrote is
 * there when simdb_run() returns 0 and was never there otherwise. One thread. tests/sim/test_twin.c
 * holds it against the real store.
 */
#ifndef OSTLER_TESTS_SIMDB_H
#define OSTLER_TESTS_SIMDB_H

#include "store/checkpoints.h"
#include "store/store.h"

struct db_session {
    struct session_row row; /* .inbox is not kept */
    bool gone;
    int64_t waiting; /* the counter on the head row */
    struct inbox_row *inbox;
    size_t ninbox;
    struct event *events;
    size_t nevents, cap;
    struct checkpoint_row *checkpoints; /* in the order of their seq */
    size_t ncheckpoints;
    void *watch; /* the checker's */
};

struct simdb;

/* Called when a job's changes became durable, in their order. */
struct simdb_hooks {
    void (*inserted)(void *arg, struct db_session *s);
    void (*received)(void *arg, struct db_session *s, const struct inbox_row *row);
    /* `before`: the inbox as it was. */
    void (*appended)(void *arg, struct db_session *s, const struct session_append *ap,
                     const struct db_session *before);
    void (*updated)(void *arg, struct db_session *s);
    void (*kept)(void *arg, struct db_session *s, const struct checkpoint_row *row);
    void (*deleted)(void *arg, struct db_session *s);
};

struct simdb *simdb_new(const struct simdb_hooks *hooks, void *arg);
void simdb_free(struct simdb *db);
/* Runs the job's function in a transaction. `again`: a first time for nothing, as after a lost
 * connection. `fail`: the commit fails with this code. */
int simdb_run(struct simdb *db, struct store_job *job, bool write, bool again, int fail,
              struct err *err);
void simdb_workspace(struct simdb *db, struct id ws); /* the one there is */
struct db_session *simdb_find(struct simdb *db, struct str id);

/* Rules that a planted bug leaves out. */
struct simdb_rules {
    bool no_fence, keep_inbox, no_mark, no_due;
};
struct simdb_rules *simdb_rules(struct simdb *db);
/* Takes the last transaction back, as if the disk had never had it. */
void simdb_lose_last(struct simdb *db);

#endif
