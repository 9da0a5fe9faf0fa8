/* inspect: what can be said of a database from outside, beside a running server or without one.
 *
 * Blocking, any thread, one call. Changes nothing that is stored.
 */
#ifndef OSTLER_STORE_INSPECT_H
#define OSTLER_STORE_INSPECT_H

#include "base/err.h"

#include <stdint.h>

struct store_tx;

struct store_report {
    bool exists;
    int64_t schema, known_schema; /* of the file; of this program */
    int64_t sessions;             /* -1: not counted, the schema is not this program's */
    int64_t size_bytes, wal_bytes;
    char damage[200]; /* deep: the first thing that is wrong with it; "" when nothing is */
};

/* `dir` is the data directory; one without a database is fine. `deep` reads all of it. Fails as
 * store_open() does; CORRUPT also for the database of another program. */
int store_inspect(const char *dir, bool deep, struct store_report *out, struct err *err) MUST_USE;

/* Runs `fn` on one snapshot of the database, in the caller's thread. NOT_FOUND without a database;
 * PRECONDITION for one that is not of this program's schema; else as above, or what `fn` says. */
int store_look(const char *dir, int (*fn)(struct store_tx *tx, void *arg, struct err *err),
               void *arg, struct err *err) MUST_USE;

#endif
