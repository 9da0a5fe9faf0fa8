/* sqlite: the driver of store/db.h over SQLite 3 in WAL mode.
 *
 * A connection is used by one thread at a time. The only file that knows sqlite3.h is sqlite.c.
 */
#ifndef OSTLER_STORE_SQLITE_SQLITE_H
#define OSTLER_STORE_SQLITE_SQLITE_H

#include "store/db.h"

/* CORRUPT when the file is no database of ours, READ_ONLY, NO_SPACE, IO; UNAVAILABLE when another
 * process kept it locked for the whole waiting time. */
int sqlite_open(const char *path, enum db_mode mode, bool fsync, struct db **out,
                struct err *err) MUST_USE;

#endif
