/* db: a thin SQL driver: one connection, its prepared statements, its transactions.
 *
 * Internal to store/. A connection belongs to one thread at a time. The typed operations are
 * written once above this; a driver (store/sqlite/) supplies the vtable. Queries are string
 * constants with ?1, ?2, ... parameters: the driver keeps the prepared statement by the constant's
 * address.
 */
#ifndef OSTLER_STORE_DB_H
#define OSTLER_STORE_DB_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

enum db_kind { DB_NULL, DB_INT, DB_TEXT, DB_BLOB };

struct db_value {
    enum db_kind kind;
    int64_t i;
    struct str s; /* must stay valid until db_end() */
};

static inline struct db_value db_i64(int64_t i)
{
    return (struct db_value){.kind = DB_INT, .i = i};
}

/* An absent view is NULL. */
static inline struct db_value db_text(struct str s)
{
    return (struct db_value){.kind = str_some(s) ? DB_TEXT : DB_NULL, .s = s};
}

static inline struct db_value db_blob(struct str s)
{
    return (struct db_value){.kind = str_some(s) ? DB_BLOB : DB_NULL, .s = s};
}

/* The values of a query and their number, as two arguments. */
#define DB_ARGS(...)                                                                               \
    (const struct db_value[]){__VA_ARGS__},                                                        \
        (sizeof((const struct db_value[]){__VA_ARGS__}) / sizeof(struct db_value))

struct db;

/* A query that was started; views of its columns are valid until the next db_next() or db_end(). */
struct db_rows {
    struct db *db;
    void *stmt;
};

struct db_ops {
    void (*close)(struct db *db);
    /* Several statements without parameters or results: migrations. */
    int (*script)(struct db *db, const char *sql, struct err *err) MUST_USE;
    int (*query)(struct db *db, const char *sql, const struct db_value *v, size_t n,
                 struct db_rows *out, struct err *err) MUST_USE;
    int (*next)(struct db_rows *r, bool *row, struct err *err) MUST_USE;
    int64_t (*col_i64)(const struct db_rows *r, int col);
    struct str (*col_str)(const struct db_rows *r, int col); /* text or blob; NULL is absent */
    void (*end)(struct db_rows *r);
    int64_t (*changes)(struct db *db); /* rows changed by the last statement that ended */

    int (*begin)(struct db *db, bool write, struct err *err) MUST_USE;
    int (*commit)(struct db *db, struct err *err) MUST_USE;
    void (*rollback)(struct db *db);                           /* fine without a transaction */
    int (*savepoint)(struct db *db, struct err *err) MUST_USE; /* one level */
    int (*release)(struct db *db, struct err *err) MUST_USE;
    int (*rollback_to)(struct db *db, struct err *err) MUST_USE; /* and ends the savepoint */
    /* False when an error ended the transaction by itself. */
    bool (*in_tx)(struct db *db);

    int (*version)(struct db *db, int64_t *version, struct err *err) MUST_USE; /* 0: empty */
    int (*set_version)(struct db *db, int64_t version, struct err *err) MUST_USE;
    /* House-keeping between transactions; cheap when there is nothing to do. `idle`: nobody waits.
     */
    void (*tidy)(struct db *db, bool idle);
};

/* First member of a driver's connection. */
struct db {
    const struct db_ops *ops;
};

enum db_mode {
    DB_OWNER,  /* creates the file when missing, sets it up: the writer */
    DB_READER, /* the file exists and is set up */
};

/* ---- what the typed operations use ---- */

/* A statement without result rows. `changes` may be NULL. */
int db_exec(struct db *db, const char *sql, const struct db_value *v, size_t n, int64_t *changes,
            struct err *err) MUST_USE;
int db_query(struct db *db, const char *sql, const struct db_value *v, size_t n,
             struct db_rows *out, struct err *err) MUST_USE;
int db_next(struct db_rows *r, bool *row, struct err *err) MUST_USE;
void db_end(struct db_rows *r); /* harmless when ended or never started */
int64_t db_col_i64(const struct db_rows *r, int col);
struct str db_col_str(const struct db_rows *r, int col);
/* db_query() and the first db_next(): *row tells whether there is one; db_end() afterwards. */
int db_first(struct db *db, const char *sql, const struct db_value *v, size_t n,
             struct db_rows *out, bool *row, struct err *err) MUST_USE;
/* First column of the first row as a number; `fallback` when there is no row. */
int db_number(struct db *db, const char *sql, const struct db_value *v, size_t n, int64_t fallback,
              int64_t *out, struct err *err) MUST_USE;

#define AUTO_ROWS CLEANUP(db_end)

#endif
