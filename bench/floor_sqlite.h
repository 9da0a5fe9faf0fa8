/* floor_sqlite: one raw connection, for the floors of what the store does. Any failure ends the
 * program. One thread at a time. */
#ifndef OSTLER_BENCH_FLOOR_SQLITE_H
#define OSTLER_BENCH_FLOOR_SQLITE_H

#include "samples.h"

#include <sqlite3.h>

static sqlite3 *db;

static inline void check(int rc)
{
    if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW)
        die("sqlite: %s", sqlite3_errmsg(db));
}

static inline void exec(const char *sql)
{
    check(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

static inline sqlite3_stmt *prepare(const char *sql)
{
    sqlite3_stmt *st = NULL;
    check(sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL));
    return st;
}

#endif
