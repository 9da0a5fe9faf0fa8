/* floor_fork: what copying the rows of a log costs without us: raw SQLite, WAL, synchronous=FULL.
 *
 *   floor_fork DIR OSTLER_DB SESSION_ID N
 *
 * The session's events and transcripts are read once from the server's database into one of our own
 * with the same tables and indexes; then N transactions copy them under another number, each timed.
 */
#include "floor_sqlite.h"

#include <string.h>

static void open_db(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/fork.db", dir);
    if (sqlite3_open(path, &db) != SQLITE_OK)
        die("cannot open %s", path);
    exec("PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
         "PRAGMA cache_size = -2048; PRAGMA wal_autocheckpoint = 0;"
         "DROP TABLE IF EXISTS event; DROP TABLE IF EXISTS transcript;"
         "CREATE TABLE event (key INTEGER PRIMARY KEY, session INTEGER NOT NULL,"
         " seq INTEGER NOT NULL, id TEXT NOT NULL, type INTEGER NOT NULL, flags INTEGER NOT NULL,"
         " processed_us INTEGER NOT NULL, actor TEXT, body TEXT NOT NULL);"
         "CREATE UNIQUE INDEX event_seq ON event(session, seq);"
         "CREATE TABLE transcript (session INTEGER NOT NULL, seq INTEGER NOT NULL,"
         " body TEXT NOT NULL);"
         "CREATE UNIQUE INDEX transcript_seq ON transcript(session, seq);");
}

static void load(const char *from, const char *session)
{
    sqlite3_stmt *attach = prepare("ATTACH ?1 AS ostler");
    check(sqlite3_bind_text(attach, 1, from, -1, SQLITE_STATIC));
    check(sqlite3_step(attach));
    check(sqlite3_finalize(attach));
    static const char *const sql[] = {
        "INSERT INTO main.event(session, seq, id, type, flags, processed_us, actor, body)"
        " SELECT 0, seq, e.id, type, flags, processed_us, actor, body FROM ostler.event e"
        " JOIN ostler.session s ON s.key = e.session WHERE s.id = ?1 ORDER BY seq",
        "INSERT INTO main.transcript(session, seq, body) SELECT 0, t.seq, t.body"
        " FROM ostler.transcript t JOIN ostler.session s ON s.key = t.session WHERE s.id = ?1"};
    for (size_t i = 0; i < 2; i++) {
        sqlite3_stmt *st = prepare(sql[i]);
        check(sqlite3_bind_text(st, 1, session, -1, SQLITE_STATIC));
        check(sqlite3_step(st));
        check(sqlite3_finalize(st));
    }
    exec("DETACH ostler");
}

static int64_t events(void)
{
    sqlite3_stmt *st = prepare("SELECT count(*) FROM event WHERE session = 0");
    check(sqlite3_step(st));
    int64_t n = sqlite3_column_int64(st, 0);
    check(sqlite3_finalize(st));
    return n;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        die("usage: floor_fork DIR OSTLER_DB SESSION_ID N");
    struct samples copies = {0};
    open_db(argv[1]);
    load(argv[2], argv[3]);
    sqlite3_stmt *begin = prepare("BEGIN IMMEDIATE"), *commit = prepare("COMMIT");
    sqlite3_stmt *copy[] = {
        prepare("INSERT INTO event(session, seq, id, type, flags, processed_us, actor, body)"
                " SELECT ?1, seq, id, type, flags, processed_us, actor, body FROM event"
                " WHERE session = 0 ORDER BY seq"),
        prepare("INSERT INTO transcript(session, seq, body) SELECT ?1, seq, body FROM transcript"
                " WHERE session = 0 ORDER BY seq")};
    int64_t n = number(argv[4], 1, 100000), found = events();
    for (int64_t i = 1; i <= n; i++) {
        int64_t from = now_ns();
        check(sqlite3_step(begin));
        for (size_t k = 0; k < 2; k++) {
            check(sqlite3_bind_int64(copy[k], 1, i));
            check(sqlite3_step(copy[k]));
            check(sqlite3_reset(copy[k]));
        }
        check(sqlite3_step(commit));
        samples_add(&copies, now_ns() - from);
        check(sqlite3_reset(begin));
        check(sqlite3_reset(commit));
        check(sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL));
    }
    printf("{\"events\":%lld,", (long long)found);
    samples_print(stdout, "copy", &copies);
    printf("}\n");
    samples_fini(&copies);
    for (size_t k = 0; k < 2; k++)
        sqlite3_finalize(copy[k]);
    sqlite3_finalize(begin);
    sqlite3_finalize(commit);
    sqlite3_close(db);
    return 0;
}
