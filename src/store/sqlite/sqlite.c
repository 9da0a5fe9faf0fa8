#include "store/sqlite/sqlite.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>

enum {
    APPLICATION_ID = 0x6f73746c, /* "ostl" */
    PAGE_SIZE = 8192,
    OWNER_CACHE_KB = 2048,
    READER_CACHE_KB = 1024,
    BUSY_MS = 5000,
    STMT_SLOTS = 256, /* a power of two, well above the number of query constants */
    /* WAL pages after which an idle writer checkpoints, and after which a busy one does too. */
    WAL_IDLE_PAGES = 512,
    WAL_BUSY_PAGES = 4096,
};

struct slot {
    const char *sql; /* the constant's address is the key */
    sqlite3_stmt *stmt;
};

struct sqlite_db {
    struct db db;
    sqlite3 *h;
    int wal_pages; /* as of the last commit of this connection */
    int64_t changes;
    char path[512]; /* for messages */
    struct slot slots[STMT_SLOTS];
};

static struct sqlite_db *self(struct db *db)
{
    return CONTAINER_OF(db, struct sqlite_db, db);
}

/* Before the library is first used. Statistics cost a mutex per allocation; statement journals stay
 * in memory so that a savepoint never needs a temporary file. */
static void library_setup(void)
{
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    sqlite3_config(SQLITE_CONFIG_STMTJRNL_SPILL, -1);
    sqlite3_initialize();
}

/* ---- errors ---- */

static int constraint_code(int xrc)
{
    switch (xrc) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID: return ERR_EXISTS;
    case SQLITE_CONSTRAINT_FOREIGNKEY: return ERR_NOT_FOUND;
    default: return ERR_INTERNAL;
    }
}

static int io_error(struct sqlite_db *d, const char *text, struct err *err)
{
    int sys = sqlite3_system_errno(d->h);
    if (sys == 0)
        return err_set(err, ERR_IO, "%s: %s", d->path, text);
    if (sys == EACCES || sys == EPERM) {
        err_set(err, ERR_READ_ONLY, "%s: no permission to write; check the owner of the directory",
                d->path);
        if (err)
            err->sys = sys;
        return ERR_READ_ONLY;
    }
    return err_sys(err, sys, "%s", d->path);
}

static int map_error(struct sqlite_db *d, int rc, struct err *err)
{
    int xrc = d->h ? sqlite3_extended_errcode(d->h) : rc;
    const char *text = d->h ? sqlite3_errmsg(d->h) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return err_set(err, ERR_NO_SPACE, "%s: the disk is full; free some space", d->path);
    case SQLITE_READONLY:
        return err_set(err, ERR_READ_ONLY, "%s: the database or its directory is read-only",
                       d->path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return err_set(err, ERR_CORRUPT,
                       "%s: %s; restore a backup, or move the file away to start anew", d->path,
                       text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set(err, ERR_UNAVAILABLE, "%s: another process keeps the database locked",
                       d->path);
    case SQLITE_CONSTRAINT: return err_set(err, constraint_code(xrc), "%s", text);
    case SQLITE_TOOBIG: return err_set(err, ERR_TOO_LARGE, "a value is too large for the database");
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN: return io_error(d, text, err);
    default: return err_set(err, ERR_INTERNAL, "%s: %s", d->path, text);
    }
}

/* ---- statements ---- */

static struct slot *find_slot(struct sqlite_db *d, const char *sql)
{
    uint64_t h = (uint64_t)(uintptr_t)sql * 0x9e3779b97f4a7c15u;
    for (size_t i = h >> 56;; i++) {
        struct slot *s = &d->slots[i & (STMT_SLOTS - 1)];
        if (s->sql == sql || s->sql == NULL)
            return s;
    }
}

static int prepare(struct sqlite_db *d, const char *sql, sqlite3_stmt **out, struct err *err)
{
    struct slot *s = find_slot(d, sql);
    if (s->sql == NULL) {
        int rc = sqlite3_prepare_v3(d->h, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->stmt, NULL);
        if (rc != SQLITE_OK)
            return map_error(d, rc, err);
        s->sql = sql;
    }
    assert(!sqlite3_stmt_busy(s->stmt)); /* the same query inside itself */
    *out = s->stmt;
    return 0;
}

static int bind(sqlite3_stmt *st, int i, const struct db_value *v)
{
    switch (v->kind) {
    case DB_NULL: return sqlite3_bind_null(st, i);
    case DB_INT: return sqlite3_bind_int64(st, i, v->i);
    case DB_TEXT: return sqlite3_bind_text64(st, i, v->s.ptr, v->s.len, SQLITE_STATIC, SQLITE_UTF8);
    case DB_BLOB: return sqlite3_bind_blob64(st, i, v->s.ptr, v->s.len, SQLITE_STATIC);
    }
    return SQLITE_MISUSE;
}

static int op_query(struct db *db, const char *sql, const struct db_value *v, size_t n,
                    struct db_rows *out, struct err *err)
{
    struct sqlite_db *d = self(db);
    sqlite3_stmt *st = NULL;
    int rc = prepare(d, sql, &st, err);
    if (rc)
        return rc;
    assert((size_t)sqlite3_bind_parameter_count(st) == n);
    for (size_t i = 0; i < n; i++) {
        int brc = bind(st, (int)i + 1, &v[i]);
        if (brc != SQLITE_OK) {
            rc = map_error(d, brc, err);
            sqlite3_clear_bindings(st);
            return rc;
        }
    }
    *out = (struct db_rows){.db = db, .stmt = st};
    return 0;
}

static int op_next(struct db_rows *r, bool *row, struct err *err)
{
    struct sqlite_db *d = self(r->db);
    int rc = sqlite3_step(r->stmt);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return map_error(d, rc, err);
    *row = rc == SQLITE_ROW;
    if (rc == SQLITE_DONE)
        d->changes = sqlite3_changes64(d->h);
    return 0;
}

static int64_t op_col_i64(const struct db_rows *r, int col)
{
    return sqlite3_column_int64(r->stmt, col);
}

static struct str op_col_str(const struct db_rows *r, int col)
{
    if (sqlite3_column_type(r->stmt, col) == SQLITE_NULL)
        return STR_NONE;
    const char *p = sqlite3_column_blob(r->stmt, col);
    size_t n = (size_t)sqlite3_column_bytes(r->stmt, col);
    return p ? str_n(p, n) : STR(""); /* an empty blob has no address */
}

static void op_end(struct db_rows *r)
{
    sqlite3_reset(r->stmt);
    sqlite3_clear_bindings(r->stmt);
}

static int64_t op_changes(struct db *db)
{
    return self(db)->changes;
}

static int op_script(struct db *db, const char *sql, struct err *err)
{
    struct sqlite_db *d = self(db);
    int rc = sqlite3_exec(d->h, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : map_error(d, rc, err);
}

/* ---- transactions ---- */

static int plain(struct db *db, const char *sql, struct err *err)
{
    return db_exec(db, sql, NULL, 0, NULL, err);
}

static int op_begin(struct db *db, bool write, struct err *err)
{
    static const char sql_write[] = "BEGIN IMMEDIATE", sql_read[] = "BEGIN";
    return plain(db, write ? sql_write : sql_read, err);
}

static int op_commit(struct db *db, struct err *err)
{
    static const char sql[] = "COMMIT";
    return plain(db, sql, err);
}

static void op_rollback(struct db *db)
{
    /* Not from the cache: it must work whatever happened before. Its failure leaves nothing to do;
     * in_tx() shows it to the next BEGIN. */
    if (!sqlite3_get_autocommit(self(db)->h))
        sqlite3_exec(self(db)->h, "ROLLBACK", NULL, NULL, NULL);
}

static int op_savepoint(struct db *db, struct err *err)
{
    static const char sql[] = "SAVEPOINT job";
    return plain(db, sql, err);
}

static int op_release(struct db *db, struct err *err)
{
    static const char sql[] = "RELEASE job";
    return plain(db, sql, err);
}

static int op_rollback_to(struct db *db, struct err *err)
{
    static const char sql[] = "ROLLBACK TO job";
    int rc = plain(db, sql, err);
    return rc ? rc : op_release(db, err);
}

static bool op_in_tx(struct db *db)
{
    return !sqlite3_get_autocommit(self(db)->h);
}

/* ---- version and house-keeping ---- */

static int pragma_i64(struct sqlite_db *d, const char *sql, int64_t *out, struct err *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(d->h, sql, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(st, 0);
    int ret = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : map_error(d, rc, err);
    sqlite3_finalize(st);
    return ret;
}

static int op_version(struct db *db, int64_t *version, struct err *err)
{
    return pragma_i64(self(db), "PRAGMA user_version", version, err);
}

static int op_set_version(struct db *db, int64_t version, struct err *err)
{
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA user_version = %lld", (long long)version);
    return op_script(db, sql, err);
}

/* Checkpoints are taken here, after the commit was reported, so that nobody waits for one. A failed
 * checkpoint loses nothing: the WAL keeps the pages and the next one tries again. */
static void op_tidy(struct db *db, bool idle)
{
    struct sqlite_db *d = self(db);
    if (d->wal_pages < (idle ? WAL_IDLE_PAGES : WAL_BUSY_PAGES))
        return;
    d->wal_pages = 0;
    sqlite3_wal_checkpoint_v2(d->h, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}

static int on_wal(void *arg, sqlite3 *h, const char *name, int pages)
{
    (void)h;
    (void)name;
    struct sqlite_db *d = arg;
    d->wal_pages = pages;
    return SQLITE_OK;
}

static void op_close(struct db *db)
{
    struct sqlite_db *d = self(db);
    for (size_t i = 0; i < STMT_SLOTS; i++)
        sqlite3_finalize(d->slots[i].stmt);
    sqlite3_close_v2(d->h); /* the last connection checkpoints and removes the WAL */
    mem_free(d);
}

static const struct db_ops ops = {
    .close = op_close,
    .script = op_script,
    .query = op_query,
    .next = op_next,
    .col_i64 = op_col_i64,
    .col_str = op_col_str,
    .end = op_end,
    .changes = op_changes,
    .begin = op_begin,
    .commit = op_commit,
    .rollback = op_rollback,
    .savepoint = op_savepoint,
    .release = op_release,
    .rollback_to = op_rollback_to,
    .in_tx = op_in_tx,
    .version = op_version,
    .set_version = op_set_version,
    .tidy = op_tidy,
};

/* ---- opening ---- */

/* Somebody else's database must not be changed, not even its journal mode. */
static int check_ours(struct sqlite_db *d, bool *empty, struct err *err)
{
    int64_t app = 0, schema = 0;
    int rc = pragma_i64(d, "PRAGMA schema_version", &schema, err);
    if (rc == 0)
        rc = pragma_i64(d, "PRAGMA application_id", &app, err);
    if (rc)
        return rc;
    *empty = schema == 0;
    if (schema != 0 && app != APPLICATION_ID)
        return err_set(err, ERR_CORRUPT,
                       "%s is a database of another program; choose another data directory",
                       d->path);
    return 0;
}

static int owner_setup(struct sqlite_db *d, struct err *err)
{
    bool empty;
    int rc = check_ours(d, &empty, err);
    if (rc)
        return rc;
    if (sqlite3_db_readonly(d->h, "main") == 1)
        return err_set(err, ERR_READ_ONLY, "%s: the database file is read-only", d->path);
    if (empty) {
        char sql[128];
        snprintf(sql, sizeof sql, "PRAGMA page_size = %d; PRAGMA application_id = %d", PAGE_SIZE,
                 APPLICATION_ID);
        rc = op_script(&d->db, sql, err);
        if (rc)
            return rc;
    }
    /* The size limit truncates a WAL that grew while a long reader kept it from being reused. */
    return op_script(&d->db, "PRAGMA journal_mode = WAL; PRAGMA journal_size_limit = 67108864",
                     err);
}

static int setup(struct sqlite_db *d, enum db_mode mode, bool fsync, struct err *err)
{
    sqlite3_extended_result_codes(d->h, 1);
    sqlite3_busy_timeout(d->h, BUSY_MS);
    sqlite3_db_config(d->h, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_wal_hook(d->h, on_wal, d); /* also switches automatic checkpoints off */
    int rc = mode == DB_OWNER ? owner_setup(d, err) : 0;
    if (rc)
        return rc;
    char sql[256];
    snprintf(sql, sizeof sql,
             "PRAGMA synchronous = %s; PRAGMA cache_size = -%d; PRAGMA foreign_keys = ON;"
             "PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON",
             fsync ? "FULL" : "OFF", mode == DB_OWNER ? OWNER_CACHE_KB : READER_CACHE_KB);
    rc = op_script(&d->db, sql, err);
    if (rc == 0 && mode == DB_READER)
        rc = op_script(&d->db, "PRAGMA query_only = ON", err);
    return rc;
}

int sqlite_open(const char *path, enum db_mode mode, bool fsync, struct db **out, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, library_setup);
    struct sqlite_db *d = mem_zalloc(sizeof *d);
    d->db.ops = &ops;
    if (!str_copyz(d->path, sizeof d->path, str_z(path))) {
        mem_free(d);
        return err_set(err, ERR_INVALID, "the path of the data directory is too long");
    }
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (mode == DB_OWNER)
        flags |= SQLITE_OPEN_CREATE;
    int rc = sqlite3_open_v2(path, &d->h, flags, NULL);
    rc = rc == SQLITE_OK ? setup(d, mode, fsync, err) : map_error(d, rc, err);
    if (rc) {
        op_close(&d->db);
        return rc;
    }
    *out = &d->db;
    return 0;
}
