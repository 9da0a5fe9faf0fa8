/* The store over files whose n-th call fails, for every n until the whole sequence gets through.
 *
 * What must hold each time: a job or an opening either succeeds or says why; when the cause is gone
 * the store works; what was acknowledged is there, in the files as they are and in what a power
 * cut at the end would have left of them; a job that writes two values has written both or none. */
#include "store_fixture.h"

#include "fault_vfs.h"

#include "base/fd.h"
#include "store/sqlite/sqlite.h"

#include <fcntl.h>
#include <sys/stat.h>

enum { BURST = 2, ROUNDS = 2, KEYS = ROUNDS * (BURST + 1), CALLS_MAX = 2000 };

static char dir[64], durable_dir[64];
static struct fixture fx;

/* By key: what was acknowledged last and what was tried last; 0: nothing. */
static int acknowledged[KEYS], tried[KEYS];
static int value, refused;

/* ---- jobs ---- */

enum { FILLER = 3000 }; /* some jobs need more than one page */

struct pair {
    int key, value;
    int found[2];
};

static int put_pair(struct store_tx *tx, void *arg, struct err *err)
{
    struct pair *p = arg;
    static const char dots[FILLER + 1] = {[0 ... FILLER - 1] = '.'};
    char key[32], text[FILLER + 32];
    int rc = 0;
    snprintf(text, sizeof text, "%d %s", p->value, dots);
    for (int half = 0; rc == 0 && half < 2; half++) {
        snprintf(key, sizeof key, "key%d.%d", p->key, half);
        rc = tx_meta_put(tx, key, str_z(text), err);
    }
    return rc;
}

static int get_pair(struct store_tx *tx, void *arg, struct err *err)
{
    struct pair *p = arg;
    char key[32];
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 16);
    int rc = 0;
    for (int half = 0; rc == 0 && half < 2; half++) {
        struct str v = STR_NONE;
        snprintf(key, sizeof key, "key%d.%d", p->key, half);
        rc = tx_meta_get(tx, key, &a, &v, err);
        p->found[half] = rc == 0 && str_some(v) ? (int)strtol(v.ptr, NULL, 10) : 0;
    }
    return rc;
}

/* ---- one run ---- */

static void must_say(const struct err *err)
{
    assert_true(err->code == ERR_IO || err->code == ERR_NO_SPACE || err->code == ERR_READ_ONLY ||
                err->code == ERR_UNAVAILABLE || err->code == ERR_CONFLICT);
    assert_true(err->msg[0] != '\0');
    refused++;
}

static void write_pairs(int first, int n)
{
    struct call calls[BURST];
    struct pair pairs[BURST];
    for (int i = 0; i < n; i++) {
        pairs[i] = (struct pair){.key = first + i, .value = ++value};
        tried[first + i] = value;
        call_init(&calls[i], &fx, put_pair, &pairs[i]);
    }
    for (int i = 0; i < n; i++)
        call_write(&calls[i]);
    fixture_wait(&fx);
    for (int i = 0; i < n; i++) {
        assert_int_equal(calls[i].calls, 1);
        if (calls[i].err.code)
            must_say(&calls[i].err);
        else
            acknowledged[first + i] = pairs[i].value;
    }
}

/* A read that works shows what was acknowledged, whatever else went wrong. */
static void check_pairs(bool may_fail)
{
    for (int k = 0; k < KEYS; k++) {
        struct pair p = {.key = k};
        struct err err = fixture_read(&fx, get_pair, &p);
        if (err.code) {
            assert_true(may_fail);
            must_say(&err);
            continue;
        }
        assert_int_equal(p.found[0], p.found[1]);
        assert_true(p.found[0] >= acknowledged[k] && p.found[0] <= tried[k]);
    }
}

static bool open_store(const char *path, bool may_fail)
{
    struct err err = {0};
    fixture_loop(&fx);
    if (fixture_try_open(&fx, path, &err) == 0)
        return true;
    fixture_close(&fx);
    if (!may_fail)
        fail_msg("%s", err.msg);
    must_say(&err);
    return false;
}

/* Each round opens, writes one by one and many at once, over older values, reads, closes (which
 * moves everything from the log into the database). */
static void sequence(const char *path, int rounds)
{
    for (int round = 0; round < rounds; round++) {
        if (!open_store(path, true))
            continue;
        write_pairs(0, 1);
        write_pairs(1 + round * BURST, BURST);
        write_pairs(0, 1);
        check_pairs(true);
        fixture_close(&fx);
    }
}

static void check_sound(const char *path)
{
    char file[96];
    struct db *db;
    struct err err = {0};
    struct db_rows rows;
    bool row;
    snprintf(file, sizeof file, "%s/ostler.db", path);
    if (sqlite_open(file, DB_OWNER, true, &db, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(db_first(db, "PRAGMA integrity_check", NULL, 0, &rows, &row, &err), 0);
    assert_true(row && str_eqz(db_col_str(&rows, 0), "ok"));
    db_end(&rows);
    db->ops->close(db);
}

static void check_after(const char *path)
{
    int before = refused;
    assert_true(open_store(path, false));
    check_pairs(false);
    write_pairs(0, BURST);
    assert_int_equal(refused, before);
    fixture_close(&fx);
}

/* ---- directories ---- */

static struct buf template_bytes = BUF_INIT(1 << 24);

static void put_template(const char *to)
{
    char path[96];
    struct err err = {0};
    snprintf(path, sizeof path, "%s/ostler.db", to);
    AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(fd_write_all(fd, buf_view(&template_bytes), &err), 0);
}

static void fresh(char path[64])
{
    fixture_rmtree(path);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void run(void *arg)
{
    const bool *made = arg; /* the database exists already */
    fresh(dir);
    fresh(durable_dir);
    if (*made) {
        put_template(dir);
        put_template(durable_dir);
    }
    memset(acknowledged, 0, sizeof acknowledged);
    memset(tried, 0, sizeof tried);
    fault_vfs_durable(durable_dir);
    sequence(dir, *made ? ROUNDS : 1);
}

/* The files are looked at when nothing fails any more. */
static void run_and_look(void *arg)
{
    struct fault *f = NULL;
    int acked_before[KEYS], tried_before[KEYS];
    run(arg);
    memcpy(acked_before, acknowledged, sizeof acknowledged);
    memcpy(tried_before, tried, sizeof tried);
    for (int k = 0; k < FAULT_KINDS; k++)
        if (atomic_load(&fault_vfs[k].at))
            f = &fault_vfs[k];
    long at = atomic_load(&f->at), calls = atomic_load(&f->calls);
    fault_arm(f, 0, false);
    fault_vfs_durable(NULL);
    if (calls < at) /* nothing failed: then everything was acknowledged */
        for (int k = 0; k < KEYS; k++)
            assert_int_equal(acknowledged[k], tried[k]);
    check_after(durable_dir);
    memcpy(acknowledged, acked_before, sizeof acknowledged);
    memcpy(tried, tried_before, sizeof tried);
    check_after(dir);
    check_sound(dir);
    atomic_store(&f->calls, calls);
    atomic_store(&f->at, at);
}

static void fail_each(enum fault_kind kind, bool made, bool sticky)
{
    refused = 0;
    long met = fault_each(&fault_vfs[kind], sticky, run_and_look, &made, CALLS_MAX);
    printf("           %ld calls failed in turn, %d refusals\n", met, refused);
    assert_true(met > 0);
    /* A log that cannot be removed or cut stays and is used on: nobody needs to hear of it. */
    assert_true(refused > 0 || kind == FAULT_DELETE || kind == FAULT_TRUNCATE);
}

/* ---- tests ---- */

/* In memory where there is a place for it: what is durable is our own affair here. */
static void make_dir(char out[64])
{
    snprintf(out, 64, "/dev/shm/ostler-test-XXXXXX");
    if (!mkdtemp(out))
        fixture_mkdtemp(out);
}

static int setup(void **state)
{
    (void)state;
    make_dir(dir);
    make_dir(durable_dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int k = 0; k < FAULT_KINDS; k++)
        fault_arm(&fault_vfs[k], 0, false);
    fault_vfs_durable(NULL);
    if (fx.loop)
        fixture_close(&fx);
    fixture_rmtree(dir);
    fixture_rmtree(durable_dir);
    return 0;
}

static void any_open_may_fail(void **state)
{
    (void)state;
    fail_each(FAULT_OPEN, false, false);
}

static void any_sync_may_fail(void **state)
{
    (void)state;
    fail_each(FAULT_SYNC, false, false);
}

static void any_sync_and_all_later_ones_may_fail(void **state)
{
    (void)state;
    fail_each(FAULT_SYNC, true, true);
}

static void any_write_may_fail_half_way(void **state)
{
    (void)state;
    fail_each(FAULT_WRITE, true, false);
}

static void any_write_and_all_later_ones_may_fail(void **state)
{
    (void)state;
    fail_each(FAULT_WRITE, true, true);
}

static void any_write_may_fail_while_the_database_is_made(void **state)
{
    (void)state;
    fail_each(FAULT_WRITE, false, false);
}

static void any_read_may_fail(void **state)
{
    (void)state;
    fail_each(FAULT_READ, true, false);
}

static void any_part_of_the_shared_index_may_be_missing(void **state)
{
    (void)state;
    fail_each(FAULT_SHM, true, false);
}

static void any_removal_may_fail(void **state)
{
    (void)state;
    fail_each(FAULT_DELETE, false, false);
    fail_each(FAULT_DELETE, true, true);
}

static void any_truncation_may_fail(void **state)
{
    (void)state;
    fail_each(FAULT_TRUNCATE, true, false);
}

static int make_template(void **state)
{
    (void)state;
    char path[96];
    struct err err = {0};
    fault_vfs_register();
    fixture_mkdtemp(dir);
    fixture_open(&fx, dir);
    fixture_close(&fx);
    snprintf(path, sizeof path, "%s/ostler.db", dir);
    assert_int_equal(fd_read_file(path, &template_bytes, &err), 0);
    fixture_rmtree(dir);
    return 0;
}

static int drop_template(void **state)
{
    (void)state;
    buf_fini(&template_bytes);
    return 0;
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(any_open_may_fail),
        T(any_sync_may_fail),
        T(any_sync_and_all_later_ones_may_fail),
        T(any_write_may_fail_half_way),
        T(any_write_and_all_later_ones_may_fail),
        T(any_write_may_fail_while_the_database_is_made),
        T(any_read_may_fail),
        T(any_part_of_the_shared_index_may_be_missing),
        T(any_removal_may_fail),
        T(any_truncation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_template, drop_template);
}
