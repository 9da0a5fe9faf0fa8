/* store/: a database seen from outside: none, ours, in use, newer, somebody else's, damaged. */
#include "store_fixture.h"

#include "base/fd.h"
#include "store/inspect.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

static char dir[64];

static int setup(void **state)
{
    (void)state;
    fixture_mkdtemp(dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_rmtree(dir);
    return 0;
}

static const char *database(void)
{
    static char path[96];
    snprintf(path, sizeof path, "%s/ostler.db", dir);
    return path;
}

static void make_store(void)
{
    struct loop *loop = loop_new();
    const struct store_config cfg = {.dir = dir};
    struct store *s;
    struct err err;
    assert_int_equal(store_open(loop, &cfg, &s, &err), 0);
    store_close(s);
    loop_free(loop);
}

static void sql(const char *text)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(database(), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void no_database_is_no_error_and_none_is_made(void **state)
{
    (void)state;
    struct store_report r;
    struct err err;
    assert_int_equal(store_inspect(dir, true, &r, &err), 0);
    assert_false(r.exists);
    assert_true(r.known_schema > 0);
    assert_int_equal(access(database(), F_OK), -1);
    assert_int_equal(store_inspect("/nonexistent/below", false, &r, &err), 0);
    assert_false(r.exists);
}

static void a_database_of_ours_is_whole_beside_its_server_too(void **state)
{
    (void)state;
    struct store_report r;
    struct err err;
    struct loop *loop = loop_new();
    const struct store_config cfg = {.dir = dir};
    struct store *s;
    assert_int_equal(store_open(loop, &cfg, &s, &err), 0);
    assert_int_equal(store_inspect(dir, true, &r, &err), 0);
    assert_true(r.exists);
    assert_int_equal(r.schema, r.known_schema);
    assert_int_equal(r.sessions, 0);
    assert_true(r.size_bytes > 0);
    assert_string_equal(r.damage, "");
    store_close(s);
    loop_free(loop);
    assert_int_equal(store_inspect(dir, false, &r, &err), 0);
    assert_int_equal(r.wal_bytes, 0);
}

static void a_newer_schema_is_told_and_not_touched(void **state)
{
    (void)state;
    struct store_report r;
    struct err err;
    make_store();
    sql("PRAGMA user_version = 999");
    assert_int_equal(store_inspect(dir, false, &r, &err), 0);
    assert_int_equal(r.schema, 999);
    assert_true(r.known_schema < 999);
    assert_int_equal(r.sessions, -1);
}

static void what_is_no_database_of_ours_is_corrupt(void **state)
{
    (void)state;
    struct store_report r;
    struct err err;
    sql("CREATE TABLE theirs (x); PRAGMA user_version = 1");
    assert_int_equal(store_inspect(dir, false, &r, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.msg, "another program"));
    unlink(database());
    char junk[4096];
    memset(junk, 'x', sizeof junk);
    assert_int_equal(fd_write_file_atomic(database(), str_n(junk, sizeof junk), 0600, &err), 0);
    assert_int_equal(store_inspect(dir, false, &r, &err), ERR_CORRUPT);
    struct stat st;
    assert_int_equal(stat(database(), &st), 0);
    assert_int_equal(st.st_size, sizeof junk);
}

static void damage_inside_is_found_by_the_deep_look(void **state)
{
    (void)state;
    struct store_report r;
    struct err err = {0};
    make_store();
    sql("PRAGMA journal_mode = DELETE;"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
        "INSERT INTO meta (key, value) SELECT 'k' || i, hex(zeroblob(100)) FROM n");
    struct stat st;
    assert_int_equal(stat(database(), &st), 0);
    char zeros[512];
    memset(zeros, 0xee, sizeof zeros);
    int fd = open(database(), O_WRONLY | O_CLOEXEC);
    /* The heads of the last pages: leaves of that table. */
    for (int i = 1; i <= 8; i++)
        assert_int_equal(pwrite(fd, zeros, sizeof zeros, st.st_size - (off_t)i * 8192), 512);
    close(fd);
    int rc = store_inspect(dir, true, &r, &err);
    if (rc)
        assert_int_equal(rc, ERR_CORRUPT);
    else
        assert_true(r.damage[0] != '\0');
}

static int look_and_write(struct store_tx *tx, void *arg, struct err *err)
{
    struct id ws;
    int *looked = arg;
    ++*looked;
    return tx_workspace_ensure(tx, STR("new"), 1, &ws, err);
}

static int look_only(struct store_tx *tx, void *arg, struct err *err)
{
    int64_t *counts = arg;
    return tx_session_counts(tx, counts, err);
}

static void a_look_reads_one_snapshot_and_cannot_write(void **state)
{
    (void)state;
    struct err err;
    int looked = 0;
    int64_t counts[4] = {-1, -1, -1, -1};
    assert_int_equal(store_look(dir, look_and_write, &looked, &err), ERR_NOT_FOUND);
    make_store();
    assert_int_equal(store_look(dir, look_only, counts, &err), 0);
    assert_int_equal(counts[0], 0);
    assert_int_equal(looked, 0);
    assert_int_equal(store_look(dir, look_and_write, &looked, &err), ERR_READ_ONLY);
    assert_int_equal(looked, 1);
    sql("PRAGMA user_version = 1");
    assert_int_equal(store_look(dir, look_only, counts, &err), ERR_PRECONDITION);
    assert_non_null(strstr(err.msg, "migrates"));
    sql("PRAGMA user_version = 999");
    assert_int_equal(store_look(dir, look_only, counts, &err), ERR_PRECONDITION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_database_is_no_error_and_none_is_made, setup, teardown),
        cmocka_unit_test_setup_teardown(a_database_of_ours_is_whole_beside_its_server_too, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_newer_schema_is_told_and_not_touched, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_database_of_ours_is_corrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_inside_is_found_by_the_deep_look, setup, teardown),
        cmocka_unit_test_setup_teardown(a_look_reads_one_snapshot_and_cannot_write, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
