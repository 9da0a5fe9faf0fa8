/* The store when things go wrong: full disk, read-only directory, a damaged, foreign or newer file,
 * a lock held by somebody else, SIGKILL in the middle of writing. */
#include "store_fixture.h"

#include "base/fd.h"
#include "store/migrate.h"
#include "store/sqlite/sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

static char dir[64];
static struct fixture fx;
static bool can_mount; /* this process has a mount namespace of its own */

static int setup(void **state)
{
    (void)state;
    fixture_mkdtemp(dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (fx.loop)
        fixture_close(&fx);
    fixture_rmtree(dir);
    return 0;
}

static int refused(const char *what, struct err *err)
{
    *err = (struct err){0};
    fixture_loop(&fx);
    int rc = fixture_try_open(&fx, dir, err);
    fixture_close(&fx);
    if (rc != 0 && !strstr(err->msg, what))
        fail_msg("the message does not say '%s': %s", what, err->msg);
    return rc;
}

static void path_of_db(char out[96])
{
    snprintf(out, 96, "%s/ostler.db", dir);
}

/* ---- files that are not ours to open ---- */

static void write_db(struct str bytes)
{
    char path[96];
    struct err err = {0};
    path_of_db(path);
    assert_int_equal(fd_write_file_atomic(path, bytes, 0600, &err), 0);
}

static void a_file_that_is_no_database_is_refused_and_left_alone(void **state)
{
    (void)state;
    struct err err;
    char path[96];
    AUTO_FREE char *junk = mem_alloc(20000);
    memset(junk, 'j', 20000);
    write_db(str_n(junk, 20000));
    assert_int_equal(refused("restore a backup", &err), ERR_CORRUPT);
    assert_non_null(strstr(err.msg, "ostler.db"));
    AUTO_BUF struct buf now = BUF_INIT(1 << 20);
    path_of_db(path);
    assert_int_equal(fd_read_file(path, &now, &err), 0);
    assert_true(str_eq(buf_view(&now), str_n(junk, 20000)));
}

static void script(const char *sql)
{
    char path[96];
    struct db *db;
    struct err err = {0};
    path_of_db(path);
    if (sqlite_open(path, DB_OWNER, true, &db, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(db->ops->script(db, sql, &err), 0);
    db->ops->close(db);
}

static void a_database_of_another_program_is_refused(void **state)
{
    (void)state;
    struct err err;
    script("CREATE TABLE songs(name); PRAGMA application_id = 0");
    assert_int_equal(refused("another program", &err), ERR_CORRUPT);
}

static void a_database_of_a_newer_version_is_refused(void **state)
{
    (void)state;
    struct err err = {0};
    fixture_open(&fx, dir);
    fixture_close(&fx);
    script("PRAGMA user_version = 4711");
    assert_int_equal(refused("newer ostler (schema 4711", &err), ERR_PRECONDITION);
    char back[64];
    snprintf(back, sizeof back, "PRAGMA user_version = %lld", (long long)migrate_known());
    script(back);
    fixture_open(&fx, dir);
}

static void a_damaged_page_is_an_error_of_the_job_that_meets_it(void **state)
{
    (void)state;
    char path[96];
    struct meta_job m = {.key = "k", .value = "v"};
    fixture_open(&fx, dir);
    assert_int_equal(fixture_write(&fx, meta_put, &m).code, 0);
    fixture_close(&fx);
    path_of_db(path);
    AUTO_FD int fd = open(path, O_RDWR | O_CLOEXEC);
    char page[8192];
    memset(page, 0xee, sizeof page);
    for (int i = 1; i < 4; i++) /* the schema's page stays, the first tables go */
        assert_int_equal(pwrite(fd, page, sizeof page, i * (off_t)sizeof page), sizeof page);
    fixture_open(&fx, dir);
    struct err err = fixture_read(&fx, meta_get, &m);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_non_null(strstr(err.msg, "restore a backup"));
    assert_int_equal(fixture_write(&fx, meta_put, &m).code, ERR_CORRUPT);
}

static void a_data_path_that_is_a_file_is_an_error(void **state)
{
    (void)state;
    struct err err = {0};
    char file[96];
    path_of_db(file);
    write_db(STR("x"));
    fixture_loop(&fx);
    assert_int_not_equal(fixture_try_open(&fx, file, &err), 0);
    assert_true(err.msg[0] != '\0');
}

/* ---- disks ---- */

static bool mount_tmpfs(const char *size)
{
    if (!can_mount)
        return false;
    return mount("tmpfs", dir, "tmpfs", 0, size) == 0;
}

static void eat_space(int fd)
{
    char block[4096];
    memset(block, 'b', sizeof block);
    while (write(fd, block, sizeof block) > 0)
        ;
    while (write(fd, block, 1) > 0)
        ;
}

static int put_much(struct store_tx *tx, void *arg, struct err *err)
{
    AUTO_FREE char *big = mem_zalloc(*(size_t *)arg);
    return tx_meta_put(tx, "big", str_n(big, *(size_t *)arg), err);
}

static void a_full_disk_fails_the_write_and_is_survived(void **state)
{
    (void)state;
    if (!mount_tmpfs("size=4m"))
        skip();
    struct meta_job kept = {.key = "kept", .value = "yes"};
    fixture_open(&fx, dir);
    assert_int_equal(fixture_write(&fx, meta_put, &kept).code, 0);
    char ballast[96];
    snprintf(ballast, sizeof ballast, "%s/ballast", dir);
    int fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    eat_space(fd);

    /* One that spills before its commit, alone; then a batch whose commit itself finds no room. */
    size_t large = 3u << 20, small = 200;
    struct err err = fixture_write(&fx, put_much, &large);
    assert_int_equal(err.code, ERR_NO_SPACE);
    enum { N = 20 };
    struct call calls[N];
    int failed = 0;
    for (int round = 0; round < 50 && !failed; round++) {
        for (int i = 0; i < N; i++) {
            call_init(&calls[i], &fx, put_much, i == 7 ? &large : &small);
            call_write(&calls[i]);
        }
        fixture_wait(&fx);
        for (int i = 0; i < N; i++) {
            failed += calls[i].err.code != 0;
            assert_true(calls[i].err.code == 0 || calls[i].err.code == ERR_NO_SPACE);
        }
    }
    assert_true(failed > 0);
    assert_int_equal(fixture_read(&fx, meta_get, &kept).code, 0);
    assert_true(kept.found);

    assert_int_equal(ftruncate(fd, 0), 0);
    fd_close(fd);
    struct meta_job after = {.key = "after", .value = "yes"};
    assert_int_equal(fixture_write(&fx, meta_put, &after).code, 0);
    fixture_close(&fx);
    fixture_open(&fx, dir);
    after.found = kept.found = false;
    assert_int_equal(fixture_read(&fx, meta_get, &after).code, 0);
    assert_int_equal(fixture_read(&fx, meta_get, &kept).code, 0);
    assert_true(after.found && kept.found);
    fixture_close(&fx);
    umount2(dir, MNT_DETACH);
}

static void a_disk_without_room_for_a_database_is_said_to_be_full(void **state)
{
    (void)state;
    if (!mount_tmpfs("size=16k"))
        skip();
    struct err err;
    assert_int_equal(refused("", &err), ERR_NO_SPACE);
    umount2(dir, MNT_DETACH);
}

static void a_read_only_directory_is_refused_with_its_name(void **state)
{
    (void)state;
    if (!mount_tmpfs("size=4m"))
        skip();
    struct err err;
    assert_int_equal(mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    assert_int_equal(refused(dir, &err), ERR_READ_ONLY);
    /* The same with a database in it. */
    assert_int_equal(mount(NULL, dir, NULL, MS_REMOUNT, NULL), 0);
    fixture_open(&fx, dir);
    fixture_close(&fx);
    assert_int_equal(mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    assert_int_equal(refused(dir, &err), ERR_READ_ONLY);
    umount2(dir, MNT_DETACH);
}

/* ---- another process ---- */

static void a_lock_held_by_another_process_is_a_conflict_at_open(void **state)
{
    (void)state;
    int ready[2];
    char c;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        /* A transaction before the schema exists: the opener's migration has to wait for it. */
        char path[96];
        struct db *db;
        struct err err = {0};
        path_of_db(path);
        if (sqlite_open(path, DB_OWNER, true, &db, &err) != 0 ||
            db->ops->begin(db, true, &err) != 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    struct err err;
    assert_int_equal(refused("another process", &err), ERR_CONFLICT);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    fd_close(ready[0]);
    fd_close(ready[1]);
    fixture_open(&fx, dir);
}

/* ---- SIGKILL ---- */

static int ack_fd;

struct stream_job {
    struct call call;
    int number;
};

static int put_number(struct store_tx *tx, void *arg, struct err *err)
{
    struct stream_job *s = arg;
    char key[32];
    snprintf(key, sizeof key, "n%d", s->number);
    return tx_meta_put(tx, key, STR("x"), err);
}

static int next_number;

static void acknowledged(struct store_job *job, const struct err *err)
{
    struct stream_job *s = CONTAINER_OF(job, struct stream_job, call.job);
    if (err->code || write(ack_fd, &s->number, sizeof s->number) != sizeof s->number)
        _exit(3);
    s->number = next_number++;
    s->call.fx->port.write(s->call.fx->port.self, job);
}

/* Writes as fast as it can, many in flight, and tells each acknowledged number to the parent. */
static void write_until_killed(void)
{
    enum { IN_FLIGHT = 40 };
    static struct stream_job jobs[IN_FLIGHT];
    fixture_open(&fx, dir);
    for (int i = 0; i < IN_FLIGHT; i++) {
        call_init(&jobs[i].call, &fx, put_number, &jobs[i]);
        jobs[i].call.job.done = acknowledged;
        jobs[i].number = next_number++;
        fx.port.write(fx.port.self, &jobs[i].call.job);
    }
    loop_run(fx.loop);
    _exit(4);
}

static int check_number(struct store_tx *tx, void *arg, struct err *err)
{
    struct meta_job m = {.found = false};
    snprintf(m.key, sizeof m.key, "n%d", *(int *)arg);
    int rc = meta_get(tx, &m, err);
    if (rc)
        return rc;
    return m.found ? 0 : err_set(err, ERR_NOT_FOUND, "number %d is lost", *(int *)arg);
}

static void nothing_acknowledged_is_lost_by_a_kill(void **state)
{
    (void)state;
    enum { ROUNDS = 4, ACKS = 400 };
    static int seen[ROUNDS * ACKS * 64];
    size_t nseen = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int acks[2], number;
        assert_int_equal(pipe2(acks, O_CLOEXEC), 0);
        next_number = round * 1000000;
        pid_t pid = fork();
        if (pid == 0) {
            ack_fd = acks[1];
            write_until_killed();
        }
        fd_close(acks[1]);
        for (int i = 0; i < ACKS + 37 * round; i++) {
            assert_int_equal(read(acks[0], &number, sizeof number), sizeof number);
            seen[nseen++] = number;
        }
        kill(pid, SIGKILL);
        /* What it acknowledged before it died is still in the pipe. */
        while (read(acks[0], &number, sizeof number) == sizeof number)
            if (nseen < COUNT_OF(seen))
                seen[nseen++] = number;
        fd_close(acks[0]);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    fixture_open(&fx, dir);
    for (size_t i = 0; i < nseen; i++) {
        struct err err = fixture_read(&fx, check_number, &seen[i]);
        if (err.code)
            fail_msg("%s", err.msg);
    }
}

/* A mount namespace of our own, as root or by a user namespace. Before any thread exists. */
static bool private_mounts(void)
{
    char map[64];
    struct err err = {0};
    unsigned uid = getuid(), gid = getgid();
    if (unshare(CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
            return false;
        const struct {
            const char *path;
            unsigned id;
        } maps[] = {{"/proc/self/uid_map", uid}, {"/proc/self/gid_map", gid}};
        int fd = open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC);
        if (fd >= 0 && fd_write_all(fd, STR("deny"), &err) != 0) {
            fd_close(fd);
            return false;
        }
        fd_close(fd);
        for (size_t i = 0; i < COUNT_OF(maps); i++) {
            snprintf(map, sizeof map, "%u %u 1", maps[i].id, maps[i].id);
            fd = open(maps[i].path, O_WRONLY | O_CLOEXEC);
            int rc = fd < 0 ? -1 : fd_write_all(fd, str_z(map), &err);
            fd_close(fd);
            if (rc != 0)
                return false;
        }
    }
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

int main(void)
{
    can_mount = private_mounts();
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_file_that_is_no_database_is_refused_and_left_alone),
        T(a_database_of_another_program_is_refused),
        T(a_database_of_a_newer_version_is_refused),
        T(a_damaged_page_is_an_error_of_the_job_that_meets_it),
        T(a_data_path_that_is_a_file_is_an_error),
        T(a_full_disk_fails_the_write_and_is_survived),
        T(a_disk_without_room_for_a_database_is_said_to_be_full),
        T(a_read_only_directory_is_refused_with_its_name),
        T(a_lock_held_by_another_process_is_a_conflict_at_open),
        T(nothing_acknowledged_is_lost_by_a_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
