/* migrate: brings a database to this program's schema.
 *
 * Internal to store/; runs once in store_open(), before the threads start.
 */
#ifndef OSTLER_STORE_MIGRATE_H
#define OSTLER_STORE_MIGRATE_H

#include "store/db.h"

/* Each step in a transaction of its own. PRECONDITION when the database is newer than the program.
 */
int migrate_run(struct db *db, const char *path, struct err *err) MUST_USE;
/* The schema of this program: the number of steps. */
int64_t migrate_known(void);

#endif
