#include "store/inspect.h"

#include "base/str.h"
#include "store/migrate.h"
#include "store/sqlite/sqlite.h"
#include "store/tx.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

static int64_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : 0;
}

static int is_ours(struct db *db, const char *path, struct err *err)
{
    static const char sql[] =
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('session', 'event')";
    int64_t n = 0;
    int rc = db_number(db, sql, NULL, 0, 0, &n, err);
    if (rc == 0 && n != 2)
        rc = err_set(err, ERR_CORRUPT, "%s is a database of another program", path);
    return rc;
}

static int check_pages(struct db *db, struct store_report *out, struct err *err)
{
    static const char sql[] = "PRAGMA quick_check(1)";
    struct db_rows rows AUTO_ROWS = {.db = NULL};
    bool row = false;
    int rc = db_first(db, sql, NULL, 0, &rows, &row, err);
    if (rc || !row)
        return rc;
    struct str said = db_col_str(&rows, 0);
    if (!str_eqz(said, "ok"))
        (void)str_copyz(out->damage, sizeof out->damage,
                        str_utf8_take(said, sizeof out->damage - 1));
    return 0;
}

static int look(struct db *db, const char *path, bool deep, struct store_report *out,
                struct err *err)
{
    static const char count[] = "SELECT count(*) FROM session";
    int rc = db->ops->version(db, &out->schema, err);
    /* Version 0 is a file that a start has made and not filled. */
    if (rc || out->schema == 0)
        return rc;
    rc = is_ours(db, path, err);
    if (rc == 0 && out->schema == out->known_schema)
        rc = db_number(db, count, NULL, 0, 0, &out->sessions, err);
    return rc || !deep ? rc : check_pages(db, out, err);
}

int store_inspect(const char *dir, bool deep, struct store_report *out, struct err *err)
{
    char path[PATH_MAX - 8], wal[PATH_MAX];
    *out = (struct store_report){.known_schema = migrate_known(), .sessions = -1};
    int n = snprintf(path, sizeof path, "%s/ostler.db", dir);
    if (n < 0 || n >= (int)sizeof path)
        return err_set(err, ERR_INVALID, "the path of the data directory is too long");
    struct stat st;
    if (stat(path, &st) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys(err, errno, "%s", path);
    snprintf(wal, sizeof wal, "%s-wal", path);
    out->exists = true;
    out->size_bytes = (int64_t)st.st_size;
    out->wal_bytes = size_of(wal);
    struct db *db;
    int rc = sqlite_open(path, DB_READER, true, &db, err);
    if (rc)
        return rc;
    rc = look(db, path, deep, out, err);
    db->ops->close(db);
    return rc;
}

static int look_at(struct db *db, int (*fn)(struct store_tx *tx, void *arg, struct err *err),
                   void *arg, struct err *err)
{
    int rc = db->ops->begin(db, false, err);
    if (rc)
        return rc;
    struct store_tx tx = {.db = db};
    rc = fn(&tx, arg, err);
    db->ops->rollback(db); /* ends the snapshot; there is nothing to keep */
    return rc;
}

int store_look(const char *dir, int (*fn)(struct store_tx *tx, void *arg, struct err *err),
               void *arg, struct err *err)
{
    char path[PATH_MAX];
    struct store_report report;
    int rc = store_inspect(dir, false, &report, err);
    if (rc)
        return rc;
    if (!report.exists || report.schema == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no database in %s", dir);
    if (report.schema != report.known_schema)
        return err_set(err, ERR_PRECONDITION,
                       "the database has schema %lld, this program reads %lld%s",
                       (long long)report.schema, (long long)report.known_schema,
                       report.schema < report.known_schema ? "; the next start migrates it" : "");
    snprintf(path, sizeof path, "%s/ostler.db", dir);
    struct db *db;
    rc = sqlite_open(path, DB_READER, true, &db, err);
    if (rc)
        return rc;
    rc = look_at(db, fn, arg, err);
    db->ops->close(db);
    return rc;
}
