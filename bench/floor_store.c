/* floor_store: what a durable write costs without us: raw SQLite, WAL, synchronous=FULL.
 *
 *   floor_store DIR MS batch ROWS       one thread; transactions of so many rows
 *   floor_store DIR MS claims N         takes 1,000 queued rows, N to a transaction, each with a
 *                                       token; MS is not used
 *   floor_store DIR MS clients CLIENTS  so many threads, each of which waits until its row is
 *                                       durable; one writer commits whatever waits
 *
 * The page size, the pragmas, the row and its index are those of our inbox; statements are prepared
 * once. Checkpoints are taken as ours are, outside of what is timed.
 */
#include "floor_sqlite.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <string.h>

enum { WAL_IDLE_PAGES = 512 };

static int wal_pages;

static void run(sqlite3_stmt *st)
{
    check(sqlite3_step(st));
    check(sqlite3_reset(st));
}

static int on_wal(void *arg, sqlite3 *h, const char *name, int pages)
{
    (void)arg;
    (void)h;
    (void)name;
    wal_pages = pages;
    return SQLITE_OK;
}

static void open_db(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/floor.db", dir);
    if (sqlite3_open(path, &db) != SQLITE_OK)
        die("cannot open %s", path);
    exec("PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
         "PRAGMA cache_size = -2048; PRAGMA foreign_keys = ON;"
         "CREATE TABLE IF NOT EXISTS inbox("
         " number INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL, id TEXT NOT NULL,"
         " type INTEGER NOT NULL, body TEXT NOT NULL);"
         "CREATE INDEX IF NOT EXISTS inbox_session ON inbox(session, number)");
    sqlite3_wal_hook(db, on_wal, NULL);
}

static void insert(sqlite3_stmt *st, int64_t session)
{
    static const char body[] =
        "{\"id\":\"sevt_01GzHk7YcPqVmNwR2sTbXe4J\",\"type\":\"user.message\",\"content\":"
        "[{\"type\":\"text\",\"text\":\"hello\"}],\"processed_at\":null}";
    check(sqlite3_bind_int64(st, 1, session));
    check(sqlite3_bind_text(st, 2, "sevt_01GzHk7YcPqVmNwR2sTbXe4J", -1, SQLITE_STATIC));
    check(sqlite3_bind_text(st, 3, body, (int)strlen(body), SQLITE_STATIC));
    run(st);
}

static struct {
    sqlite3_stmt *begin, *commit, *add;
    struct samples commits;
    int64_t spent_ns, rows;
} w;

/* One transaction, timed; then a checkpoint when it is due, not timed. */
static void commit_rows(int64_t rows)
{
    int64_t from = now_ns();
    run(w.begin);
    for (int64_t i = 0; i < rows; i++)
        insert(w.add, i);
    run(w.commit);
    int64_t took = now_ns() - from;
    samples_add(&w.commits, took);
    w.spent_ns += took;
    w.rows += rows;
}

static void tidy(void)
{
    if (wal_pages <= WAL_IDLE_PAGES)
        return;
    wal_pages = 0;
    sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}

/* ---- clients ---- */

struct client {
    sem_t done;
    bool last; /* the writer says: no more after this */
    struct samples latency;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct client **waiting;
    size_t n;
} q = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void *client_main(void *arg)
{
    struct client *c = arg;
    while (!c->last) {
        int64_t from = now_ns();
        pthread_mutex_lock(&q.lock);
        q.waiting[q.n++] = c;
        pthread_cond_signal(&q.wake);
        pthread_mutex_unlock(&q.lock);
        sem_wait(&c->done);
        samples_add(&c->latency, now_ns() - from);
    }
    return NULL;
}

static size_t take(struct client **batch, size_t max)
{
    pthread_mutex_lock(&q.lock);
    while (q.n == 0)
        pthread_cond_wait(&q.wake, &q.lock);
    size_t n = q.n < max ? q.n : max;
    memcpy(batch, q.waiting, n * sizeof(struct client *));
    q.n = 0;
    pthread_mutex_unlock(&q.lock);
    return n;
}

static void run_clients(size_t clients, int64_t until_ns)
{
    struct client *all = mem_zalloc(clients * sizeof *all);
    struct client **batch = mem_zalloc(clients * sizeof(struct client *));
    pthread_t *threads = mem_zalloc(clients * sizeof *threads);
    struct samples latency = {0};
    q.waiting = mem_zalloc(clients * sizeof(struct client *));
    for (size_t i = 0; i < clients; i++) {
        sem_init(&all[i].done, 0, 0);
        if (pthread_create(&threads[i], NULL, client_main, &all[i]) != 0)
            die("cannot start a thread");
    }
    int64_t from = now_ns();
    for (size_t left = clients; left > 0;) {
        bool over = now_ns() >= until_ns;
        size_t n = take(batch, clients);
        commit_rows((int64_t)n);
        for (size_t i = 0; i < n; i++) {
            batch[i]->last = over;
            sem_post(&batch[i]->done);
        }
        left -= over ? n : 0;
        tidy();
    }
    w.spent_ns = now_ns() - from;
    for (size_t i = 0; i < clients; i++) {
        pthread_join(threads[i], NULL);
        for (size_t k = 0; k < all[i].latency.n; k++)
            samples_add(&latency, all[i].latency.ns[k]);
    }
    samples_print(stdout, "latency", &latency);
    printf(",");
}

/* ---- claims ---- */

enum { CLAIMS = 1000 };

static void run_claims(int64_t each)
{
    exec("DROP TABLE IF EXISTS work; DROP TABLE IF EXISTS token;"
         "CREATE TABLE work(key INTEGER PRIMARY KEY, environment TEXT NOT NULL,"
         " state INTEGER NOT NULL, offered INTEGER NOT NULL, body TEXT NOT NULL);"
         "CREATE INDEX work_queue ON work(environment, key) WHERE state = 0;"
         "CREATE TABLE token(hash BLOB NOT NULL UNIQUE, item INTEGER NOT NULL);"
         "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
         " INSERT INTO work(environment, state, offered, body)"
         " SELECT 'env_01GzHk7YcPqVmNwR2sTbXe4J', 0, 0, '{}' FROM n;");
    sqlite3_stmt *claim =
        prepare("UPDATE work SET offered = 1 WHERE key = (SELECT key FROM work"
                " WHERE environment = 'env_01GzHk7YcPqVmNwR2sTbXe4J' AND state = 0 AND offered = 0"
                " ORDER BY key LIMIT 1) RETURNING key");
    sqlite3_stmt *token = prepare("INSERT INTO token(hash, item) VALUES (randomblob(32), ?1)");
    for (int64_t left = CLAIMS; left > 0; left -= each, tidy()) {
        int64_t from = now_ns();
        run(w.begin);
        for (int64_t i = 0; i < each && i < left; i++, w.rows++) {
            if (sqlite3_step(claim) != SQLITE_ROW)
                die("nothing to claim");
            check(sqlite3_bind_int64(token, 1, sqlite3_column_int64(claim, 0)));
            check(sqlite3_step(claim));
            check(sqlite3_reset(claim));
            run(token);
        }
        run(w.commit);
        samples_add(&w.commits, now_ns() - from);
        w.spent_ns += now_ns() - from;
    }
    sqlite3_finalize(claim);
    sqlite3_finalize(token);
}

int main(int argc, char **argv)
{
    if (argc != 5)
        die("usage: floor_store DIR MS batch|clients|claims N");
    int64_t until_ns = now_ns() + number(argv[2], 1, 600000) * 1000000;
    int64_t n = number(argv[4], 1, 1000);
    open_db(argv[1]);
    w.begin = prepare("BEGIN IMMEDIATE");
    w.commit = prepare("COMMIT");
    w.add = prepare("INSERT INTO inbox(session, id, type, body) VALUES (?1, ?2, 1, ?3)");
    printf("{");
    if (strcmp(argv[3], "clients") == 0)
        run_clients((size_t)n, until_ns);
    else if (strcmp(argv[3], "claims") == 0)
        run_claims(n);
    else
        for (; now_ns() < until_ns; tidy())
            commit_rows(n);
    printf("\"rows_per_s\":%.1f,", (double)w.rows / ((double)w.spent_ns / 1e9));
    samples_print(stdout, "commit", &w.commits);
    printf("}\n");
    sqlite3_finalize(w.begin);
    sqlite3_finalize(w.commit);
    sqlite3_finalize(w.add);
    sqlite3_close(db);
    return 0;
}
