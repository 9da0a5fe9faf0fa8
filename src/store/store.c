#include "store/store.h"

#include "base/fd.h"
#include "base/limits.h"
#include "store/db.h"
#include "store/migrate.h"
#include "store/queue.h"
#include "store/sqlite/sqlite.h"
#include "store/tx.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* The writer owns the connection that store_open() made; each reader opens its own on its first
 * job. A write batch is one transaction:
 *
 *   take up to LIMIT_STORE_BATCH jobs -> BEGIN IMMEDIATE -> each: SAVEPOINT, fn, RELEASE | ROLLBACK
 * TO
 *     -> COMMIT (the one fsync) -> post all `done` at once -> checkpoint if it is time
 *
 * Invariants: a job whose `done` says success is on disk; a job whose fn failed left nothing; when
 * the transaction itself is lost, every job of the batch fails with the cause and the next batch
 * starts clean. */

enum { READERS_DEFAULT = 2, READERS_MAX = 16, THREAD_STACK = 256 * 1024 };

struct store {
    struct loop *loop;
    struct outbox *outbox;
    struct queue writes, reads;
    struct db *db; /* the writer's; before it starts and after it ended the opener's */
    pthread_t writer, readers[READERS_MAX];
    int nreaders, max_readers; /* nreaders: loop thread only */
    bool fsync;
    atomic_int_fast64_t commits, written;
    char path[PATH_MAX];
};

/* ---- the writer ---- */

static int run_job(struct db *db, struct store_job *job)
{
    struct store_tx tx = {.db = db};
    job->err = (struct err){0};
    int rc = job->fn(&tx, job, &job->err);
    if (rc == 0)
        job->err = (struct err){0};
    else if (job->err.code == 0)
        err_set(&job->err, rc, "the store job failed without saying why");
    return rc;
}

/* One of several jobs: its failure is undone alone. Not 0 when the whole transaction is lost. */
static int run_in_savepoint(struct db *db, struct store_job *job, struct err *err)
{
    int rc = db->ops->savepoint(db, err);
    if (rc)
        return rc;
    rc = run_job(db, job);
    /* A full disk may have rolled back everything, also behind the back of a job that went on. */
    if (!db->ops->in_tx(db)) {
        if (job->err.code)
            *err = job->err;
        else
            err_set(err, ERR_IO, "the database gave up the transaction");
        return err->code;
    }
    return rc ? db->ops->rollback_to(db, err) : db->ops->release(db, err);
}

static int run_alone(struct db *db, struct store_job *job, struct err *err)
{
    int rc = run_job(db, job);
    if (rc)
        *err = job->err;
    else if (!db->ops->in_tx(db))
        rc = err_set(err, ERR_IO, "the database gave up the transaction");
    return rc;
}

static int run_batch(struct db *db, struct job_list *batch, struct err *err)
{
    int rc = db->ops->begin(db, true, err);
    for (struct store_job *job = batch->head; rc == 0 && job; job = job->next)
        rc = batch->n == 1 ? run_alone(db, job, err) : run_in_savepoint(db, job, err);
    if (rc == 0)
        rc = db->ops->commit(db, err);
    if (rc)
        db->ops->rollback(db);
    return rc;
}

static void write_batch(struct store *s, struct job_list *batch)
{
    struct err err = {0};
    int64_t good = 0;
    int rc = run_batch(s->db, batch, &err);
    for (struct store_job *job = batch->head; job; job = job->next) {
        if (rc)
            job->err = err;
        good += job->err.code == 0;
    }
    if (good) {
        atomic_fetch_add_explicit(&s->commits, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&s->written, good, memory_order_relaxed);
    }
    outbox_push(s->outbox, batch);
}

static void *writer_main(void *arg)
{
    struct store *s = arg;
    struct job_list batch = {0};
    while (queue_take(&s->writes, LIMIT_STORE_BATCH, &batch)) {
        write_batch(s, &batch);
        s->db->ops->tidy(s->db, queue_len(&s->writes) == 0);
    }
    return NULL;
}

/* ---- readers ---- */

static void read_one(struct db *db, struct store_job *job)
{
    struct err err = {0};
    int rc = db->ops->begin(db, false, &err);
    if (rc) {
        job->err = err;
        return;
    }
    run_job(db, job);
    db->ops->rollback(db); /* ends the snapshot; there is nothing to keep */
}

static void *reader_main(void *arg)
{
    struct store *s = arg;
    struct db *db = NULL;
    struct job_list jobs = {0};
    while (queue_take(&s->reads, 1, &jobs)) {
        struct store_job *job = jobs.head;
        struct err err = {0};
        /* Tried again for each job, so that a passing cause does not disable the thread. */
        if (!db && sqlite_open(s->path, DB_READER, s->fsync, &db, &err) != 0)
            job->err = err;
        else
            read_one(db, job);
        outbox_push(s->outbox, &jobs);
    }
    if (db)
        db->ops->close(db);
    return NULL;
}

/* ---- submitting ---- */

static void refuse(struct store *s, struct store_job *job, enum queue_push why)
{
    struct job_list one = {0};
    if (why == QUEUE_FULL)
        err_set(&job->err, ERR_OVERLOADED, "the store is overloaded: %d jobs are waiting",
                LIMIT_STORE_QUEUE);
    else
        err_set(&job->err, ERR_CANCELED, "the store is closing");
    job_list_push(&one, job);
    outbox_push(s->outbox, &one);
}

static void submit_write(void *self, struct store_job *job)
{
    struct store *s = self;
    bool busy = false;
    job->err = (struct err){0};
    enum queue_push rc = queue_push(&s->writes, job, LIMIT_STORE_QUEUE, &busy);
    if (rc != QUEUE_TAKEN)
        refuse(s, job, rc);
}

/* All signals stay with the loop's thread. */
static int start_thread(pthread_t *t, void *(*fn)(void *), struct store *s)
{
    sigset_t all, old;
    pthread_attr_t attr;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    int rc = pthread_create(t, &attr, fn, s);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

static void submit_read(void *self, struct store_job *job)
{
    struct store *s = self;
    bool busy = false;
    job->err = (struct err){0};
    /* Readers start on demand: one that nobody needed costs no stack, cache or descriptors. */
    if (s->nreaders == 0 && start_thread(&s->readers[0], reader_main, s) == 0)
        s->nreaders = 1;
    if (s->nreaders == 0) {
        struct job_list one = {0};
        err_set(&job->err, ERR_OVERLOADED, "no thread could be started to read the store");
        job_list_push(&one, job);
        outbox_push(s->outbox, &one);
        return;
    }
    enum queue_push rc = queue_push(&s->reads, job, LIMIT_STORE_QUEUE, &busy);
    if (rc != QUEUE_TAKEN)
        refuse(s, job, rc);
    else if (busy && s->nreaders < s->max_readers &&
             start_thread(&s->readers[s->nreaders], reader_main, s) == 0)
        s->nreaders++;
}

struct store_port store_port(struct store *s)
{
    return (struct store_port){.self = s, .read = submit_read, .write = submit_write};
}

void store_stats(const struct store *s, int64_t *commits, int64_t *writes, int64_t *queued)
{
    struct store *w = (struct store *)(uintptr_t)s; /* the locks are not part of its value */
    *commits = atomic_load_explicit(&w->commits, memory_order_relaxed);
    *writes = atomic_load_explicit(&w->written, memory_order_relaxed);
    *queued = (int64_t)(queue_len(&w->writes) + queue_len(&w->reads));
}

/* ---- opening and closing ---- */

/* The data directory may be one that others can enter: the log is nobody else's to read. SQLite
 * gives its -wal and -shm files the mode of the database. A failure here is SQLite's to report. */
static void keep_private(const char *path)
{
    AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 && fchmod(fd, 0600) < 0)
        return;
}

static int open_db(struct store *s, const struct store_config *cfg, struct err *err)
{
    int rc = fd_mkdirs(cfg->dir, 0700, err);
    if (rc)
        return err_wrap(err, "data directory");
    /* SQLite would fall back to reading and then miss the file: say what is really wrong. */
    if (faccessat(AT_FDCWD, cfg->dir, W_OK | X_OK, AT_EACCESS) < 0) {
        int sys = errno;
        err_sys(err, sys, "data directory %s is not writable", cfg->dir);
        if (err)
            err->code = ERR_READ_ONLY;
        return ERR_READ_ONLY;
    }
    int n = snprintf(s->path, sizeof s->path, "%s/ostler.db", cfg->dir);
    if (n < 0 || n >= (int)sizeof s->path)
        return err_set(err, ERR_INVALID, "the path of the data directory is too long");
    keep_private(s->path);
    rc = sqlite_open(s->path, DB_OWNER, s->fsync, &s->db, err);
    if (rc)
        return rc;
    return migrate_run(s->db, s->path, err);
}

static void free_store(struct store *s)
{
    if (s->db)
        s->db->ops->close(s->db);
    outbox_close(s->outbox);
    queue_fini(&s->writes);
    queue_fini(&s->reads);
    mem_free(s);
}

int store_open(struct loop *l, const struct store_config *cfg, struct store **out, struct err *err)
{
    struct store *s = mem_zalloc(sizeof *s);
    s->loop = l;
    s->outbox = outbox_new(l);
    queue_init(&s->writes);
    queue_init(&s->reads);
    s->fsync = !cfg->no_fsync;
    s->max_readers = cfg->readers <= 0            ? READERS_DEFAULT
                     : cfg->readers > READERS_MAX ? READERS_MAX
                                                  : cfg->readers;
    int rc = open_db(s, cfg, err);
    if (rc == ERR_UNAVAILABLE)
        rc = err_set(err, ERR_CONFLICT, "%s: another process keeps the database locked; stop it",
                     s->path);
    if (rc == 0) {
        int sys = start_thread(&s->writer, writer_main, s);
        if (sys)
            rc = err_sys(err, sys, "start the store's writer");
    }
    if (rc) {
        free_store(s);
        return rc;
    }
    *out = s;
    return 0;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    assert(loop_is_thread(s->loop));
    queue_stop(&s->writes);
    queue_stop(&s->reads);
    pthread_join(s->writer, NULL);
    for (int i = 0; i < s->nreaders; i++)
        pthread_join(s->readers[i], NULL);
    /* A `done` may submit again; that job ends with CANCELED and comes round here too. */
    while (outbox_deliver(s->outbox))
        ;
    free_store(s);
}
