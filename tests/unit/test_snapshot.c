/* The files of a session, kept and restored: sandbox/snapshot.h. Trees are compared by a text with
 * everything in it that is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/fd.h"
#include "sandbox/snapshot_impl.h"
#include "sandbox/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static char root[64], dir[128], back[128], index_path[128];
static struct blobs blobs;
static struct err err;
static struct snapshot last;
static char previous[BLOB_NAME_LEN + 1];
static int64_t max_files, max_bytes;
static unsigned restored;

static char *in(const char *name)
{
    static char path[8][PATH_MAX];
    static unsigned at;
    char *out = path[at++ % COUNT_OF(path)];
    snprintf(out, PATH_MAX, "%s/%s", dir, name);
    return out;
}

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/ostler-test-XXXXXX");
    assert_non_null(mkdtemp(root));
    snprintf(dir, sizeof dir, "%s/session", root);
    snprintf(index_path, sizeof index_path, "%s/index", root);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(mkdir(in("workspace"), 0755), 0);
    assert_int_equal(blobs_open(&blobs, root, &err), 0);
    previous[0] = '\0';
    max_files = max_bytes = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    snapshot_fini(&last);
    blobs_close(&blobs);
    return tree_remove(root, &err);
}

static void put(const char *name, struct str text)
{
    AUTO_FD int fd = open(in(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, &err), 0);
}

static void put_z(const char *name, const char *text)
{
    put(name, str_z(text));
}

static void put_link(const char *target, const char *path)
{
    assert_int_equal(symlink(target, path), 0);
}

/* Bytes that do not repeat. */
static void put_much(const char *name, size_t len, uint64_t seed)
{
    AUTO_FREE char *data = mem_alloc(len);
    for (size_t i = 0; i < len; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        data[i] = (char)(seed >> 56);
    }
    put(name, str_n(data, len));
}

/* As if it had been so for long: what was changed just now is read again in any case. */
static void let_time_pass(void)
{
    struct timespec now, then;
    clock_gettime(CLOCK_REALTIME_COARSE, &then);
    do
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
    while (snap_time_ns(now) - snap_time_ns(then) < 60 * 1000000);
}

static int take_now(void)
{
    struct snapshot_how how = {.blobs = &blobs,
                               .dir = dir,
                               .index = index_path,
                               .previous = previous[0] ? previous : NULL,
                               .max_files = max_files,
                               .max_bytes = max_bytes};
    snapshot_fini(&last);
    return snapshot_take(&how, &last, &err);
}

static void take(void)
{
    if (take_now() != 0)
        fail_msg("%s", err.msg);
    memcpy(previous, last.manifest.z, sizeof previous);
    assert_true(last.nblobs <= 2);
}

/* ---- what a tree is ---- */

static int no_dots(const struct dirent *e)
{
    return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void describe(struct buf *b, const char *path, const char *name, bool top)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    if (!top)
        buf_printf(b, "%s %o %" PRId64 " ", name, st.st_mode, snap_time_ns(st.st_mtim));
    if (S_ISREG(st.st_mode)) {
        AUTO_BUF struct buf text = BUF_INIT(64 << 20);
        bool closed = (st.st_mode & 0400) == 0; /* whoever is not root must open it first */
        if (closed)
            assert_int_equal(chmod(path, 0600), 0);
        assert_int_equal(fd_read_file(path, &text, &err), 0);
        if (closed)
            assert_int_equal(chmod(path, st.st_mode), 0);
        buf_printf(b, "%zu %" PRIx64 "\n", text.len, map_hash(buf_view(&text)));
    } else if (S_ISLNK(st.st_mode)) {
        char target[PATH_MAX];
        ssize_t n = readlink(path, target, sizeof target);
        buf_printf(b, "-> %.*s\n", (int)n, target);
    } else if (S_ISDIR(st.st_mode)) {
        struct dirent **names = NULL;
        int n = scandir(path, &names, no_dots, by_bytes);
        assert_true(n >= 0);
        buf_z(b, "{\n");
        for (int i = 0; i < n; i++) {
            char sub[PATH_MAX];
            snprintf(sub, sizeof sub, "%s/%s", path, names[i]->d_name);
            describe(b, sub, names[i]->d_name, false);
            free(names[i]);
        }
        free(names);
        buf_z(b, "}\n");
    }
}

static int restore_to(const char *manifest)
{
    snprintf(back, sizeof back, "%s/back%u", root, restored++);
    assert_int_equal(mkdir(back, 0700), 0);
    return snapshot_restore(&blobs, str_z(manifest), back, 0, &err);
}

static void assert_restores_as(const char *manifest, const struct buf *want)
{
    AUTO_BUF struct buf got = BUF_INIT(16 << 20);
    if (restore_to(manifest) != 0)
        fail_msg("%s", err.msg);
    describe(&got, back, "", true);
    assert_string_equal(want->data, got.data);
    assert_int_equal(tree_remove(back, &err), 0);
}

/* Takes a snapshot and restores it. */
static void assert_round_trip(void)
{
    AUTO_BUF struct buf want = BUF_INIT(16 << 20);
    take();
    describe(&want, dir, "", true);
    assert_restores_as(previous, &want);
}

/* ---- what is kept ---- */

static void a_tree_of_every_kind_comes_back_as_it_was(void **state)
{
    (void)state;
    char long_target[3000], unicode[] = "workspace/\xc3\xa9\xf0\x9f\xa6\x86 \"x\"\\";
    memset(long_target, 'x', sizeof long_target);
    for (size_t i = 200; i < sizeof long_target; i += 200)
        long_target[i] = '/';
    long_target[sizeof long_target - 1] = '\0';
    mkdir(in("home"), 0755);
    mkdir(in("outputs"), 0700);
    mkdir(in("base.git"), 0755);
    put_z("base.git/HEAD", "ref: refs/heads/main\n");
    put_z("workspace/a", "text\n");
    put_z("workspace/empty", "");
    put_z("workspace/new\nline", "1");
    put_z("workspace/\xff\xfe not utf-8", "2");
    put_z(unicode, "3");
    mkdir(in("workspace/d"), 0755);
    mkdir(in("workspace/d/empty"), 0711);
    mkdir(in("workspace/d-e"), 0755);
    put_z("workspace/d/x", "x");
    put_z("workspace/d-e/x", "x");
    put_z("workspace/d/script", "#!/bin/sh\n");
    chmod(in("workspace/d/script"), 0755);
    put_z("workspace/d/closed", "secret");
    chmod(in("workspace/d/closed"), 0);
    put_link("a", in("workspace/link"));
    put_link("nowhere", in("workspace/dangling"));
    put_link("/etc/passwd", in("workspace/absolute"));
    put_link(long_target, in("workspace/long"));
    assert_int_equal(link(in("workspace/a"), in("workspace/hard")), 0);
    struct timespec old[2] = {{.tv_sec = 1000000001, .tv_nsec = 123456789},
                              {.tv_sec = 1000000001, .tv_nsec = 123456789}};
    struct timespec before[2] = {{.tv_sec = -5, .tv_nsec = 7}, {.tv_sec = -5, .tv_nsec = 7}};
    utimensat(AT_FDCWD, in("workspace/a"), old, 0);
    utimensat(AT_FDCWD, in("workspace/link"), old, AT_SYMLINK_NOFOLLOW);
    utimensat(AT_FDCWD, in("workspace/d/x"), before, 0);
    utimensat(AT_FDCWD, in("workspace/d"), old, 0);
    assert_round_trip();
    assert_int_equal(last.files, 15);
    assert_int_equal(last.nblobs, 2);
}

static void large_files_come_back_and_cost_what_changed(void **state)
{
    (void)state;
    put_much("workspace/whole", SNAP_WHOLE, 1);
    put_much("workspace/cut", SNAP_WHOLE + 1, 2);
    put_much("workspace/large", 9 * SNAP_PIECE + 77, 3);
    assert_round_trip();
    AUTO_FD int fd = open(in("workspace/large"), O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "changed", 7, 5 * SNAP_PIECE + 10), 7);
    assert_round_trip();
    assert_int_equal(last.changed_files, 1);
    assert_true(last.stored_bytes < SNAP_PIECE + SNAP_PIECE / 2);
}

static void holes_cost_nothing_and_stay_holes(void **state)
{
    (void)state;
    put_z("workspace/sparse", "begin");
    put_z("workspace/small", "x");
    assert_int_equal(truncate(in("workspace/sparse"), (int64_t)40 << 20), 0);
    assert_int_equal(truncate(in("workspace/small"), 100000), 0);
    AUTO_FD int fd = open(in("workspace/sparse"), O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "middle", 6, (20 << 20) + 5), 6);
    assert_round_trip();
    assert_true(last.stored_bytes < 100000);
    assert_true(last.size_bytes < 3 << 20);
    assert_int_equal(truncate(in("workspace/sparse"), (int64_t)1 << 40), 0);
    take();
    assert_int_equal(restore_to(previous), 0);
    struct stat st;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/workspace/sparse", back);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, (int64_t)1 << 40);
    assert_true(st.st_blocks * 512 < 4 << 20);
}

static void equal_contents_are_kept_once(void **state)
{
    (void)state;
    put_much("workspace/a", 1 << 20, 1);
    put_much("workspace/b", 1 << 20, 1);
    take();
    assert_true(last.stored_bytes < (1 << 20) + 4096);
    put_much("workspace/c", 1 << 20, 1);
    assert_round_trip();
    assert_int_equal(last.nblobs, 1);
    assert_int_equal(last.changed_bytes, 1 << 20);
}

static void what_text_is_made_of_is_compressed(void **state)
{
    (void)state;
    AUTO_BUF struct buf text = BUF_INIT(1 << 20);
    for (int i = 0; i < 10000; i++)
        buf_printf(&text, "line %d of a file that says little\n", i % 100);
    put("workspace/text", buf_view(&text));
    assert_round_trip();
    assert_true(last.stored_bytes < (int64_t)text.len / 10);
}

static void setuid_and_sticky_bits_do_not_come_back(void **state)
{
    (void)state;
    struct stat st;
    char path[PATH_MAX];
    put_z("workspace/x", "x");
    assert_int_equal(chmod(in("workspace/x"), 06755), 0);
    mkdir(in("workspace/d"), 0755);
    assert_int_equal(chmod(in("workspace/d"), 03777), 0);
    take();
    assert_int_equal(restore_to(previous), 0);
    snprintf(path, sizeof path, "%s/workspace/x", back);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    snprintf(path, sizeof path, "%s/workspace/d", back);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0777);
}

static void caches_and_what_is_no_file_are_left_out(void **state)
{
    (void)state;
    mkdir(in("home"), 0755);
    mkdir(in("home/.cache"), 0755);
    mkdir(in("tmp"), 0755);
    put_z("home/.cache/x", "x");
    put_z("tmp/x", "x");
    put_z("home/.bashrc", "x");
    mkdir(in("workspace/.cache"), 0755);
    assert_int_equal(mkfifo(in("workspace/pipe"), 0644), 0);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    assert_true(str_copyz(un.sun_path, sizeof un.sun_path, str_z(in("workspace/socket"))));
    assert_int_equal(bind(s, (struct sockaddr *)&un, sizeof un), 0);
    close(s);
    take();
    assert_int_equal(last.files, 1);
    AUTO_BUF struct buf got = BUF_INIT(1 << 20);
    assert_int_equal(restore_to(previous), 0);
    describe(&got, back, "", true);
    assert_null(strstr(got.data, "pipe"));
    assert_null(strstr(got.data, "socket"));
    assert_null(strstr(got.data, "tmp"));
    assert_non_null(strstr(got.data, ".bashrc"));
    assert_non_null(strstr(got.data, ".cache 4")); /* the one of the workspace, a directory */
}

/* ---- what changed ---- */

static void nothing_changed_is_the_same_manifest_and_no_content(void **state)
{
    (void)state;
    char was[sizeof previous];
    put_z("workspace/a", "a");
    take();
    memcpy(was, previous, sizeof was);
    take();
    assert_string_equal(was, previous);
    assert_int_equal(last.nblobs, 0);
    assert_int_equal(last.files, 1);
    assert_int_equal(last.changed_files, 0);
    assert_int_equal(unlink(index_path), 0);
    take();
    assert_string_equal(was, previous);
    assert_int_equal(last.nblobs, 0);
}

static void every_change_is_seen(void **state)
{
    (void)state;
    mkdir(in("workspace/d"), 0755);
    mkdir(in("workspace/moved"), 0755);
    put_z("workspace/moved/1", "1");
    put_z("workspace/moved/2", "2");
    put_z("workspace/d/changed", "old");
    put_z("workspace/d/removed", "old");
    put_z("workspace/file-to-dir", "x");
    put_z("workspace/file-to-link", "x");
    put_z("workspace/mode", "x");
    put_link("one", in("workspace/target"));
    assert_round_trip();
    let_time_pass();
    put_z("workspace/d/changed", "new");
    unlink(in("workspace/d/removed"));
    rename(in("workspace/moved"), in("workspace/elsewhere"));
    unlink(in("workspace/file-to-dir"));
    mkdir(in("workspace/file-to-dir"), 0755);
    put_z("workspace/file-to-dir/x", "y");
    unlink(in("workspace/file-to-link"));
    put_link("d", in("workspace/file-to-link"));
    chmod(in("workspace/mode"), 0600);
    unlink(in("workspace/target"));
    put_link("two", in("workspace/target"));
    assert_round_trip();
    unlink(in("workspace/file-to-dir/x"));
    rmdir(in("workspace/file-to-dir"));
    put_z("workspace/file-to-dir", "x");
    assert_round_trip();
    assert_int_equal(tree_remove(in("workspace"), &err), 0);
    assert_round_trip();
    assert_int_equal(last.files, 0);
    mkdir(in("workspace"), 0755);
    assert_round_trip();
}

/* Its size and its time of change can be kept by whoever writes; its ctime cannot. */
static void a_change_that_hides_its_time_is_seen(void **state)
{
    (void)state;
    struct stat st;
    put_z("workspace/a", "one");
    let_time_pass();
    take();
    assert_int_equal(stat(in("workspace/a"), &st), 0);
    put_z("workspace/a", "two");
    struct timespec t[2] = {st.st_mtim, st.st_mtim};
    utimensat(AT_FDCWD, in("workspace/a"), t, 0);
    assert_round_trip();
    assert_int_equal(last.changed_files, 1);
}

/* Written, kept and written again within one tick of the clock, with the time set back. */
static void a_change_in_the_moment_of_the_snapshot_is_seen(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        char text[] = "a";
        struct timespec t[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
        text[0] = (char)('a' + i);
        put_z("workspace/a", text);
        utimensat(AT_FDCWD, in("workspace/a"), t, 0);
        assert_round_trip();
    }
}

static void a_touched_file_costs_no_content(void **state)
{
    (void)state;
    put_much("workspace/a", 1 << 20, 1);
    take();
    struct timespec t[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    utimensat(AT_FDCWD, in("workspace/a"), t, 0);
    assert_round_trip();
    assert_int_equal(last.nblobs, 1);
    assert_int_equal(last.changed_files, 1);
}

static void an_index_that_is_not_to_be_trusted_costs_time_only(void **state)
{
    (void)state;
    put_z("workspace/a", "a");
    put_much("workspace/b", SNAP_WHOLE * 2, 1);
    let_time_pass();
    take();
    AUTO_BUF struct buf good = BUF_INIT(1 << 20);
    assert_int_equal(fd_read_file(index_path, &good, &err), 0);
    for (size_t cut = 0; cut < good.len; cut += 7) {
        assert_int_equal(
            fd_write_file_atomic(index_path, str_take(buf_view(&good), cut), 0600, &err), 0);
        take();
        assert_int_equal(last.nblobs, 0);
    }
    for (size_t i = 0; i < good.len; i += 5) {
        AUTO_BUF struct buf bad = BUF_INIT(1 << 20);
        buf_str(&bad, buf_view(&good));
        bad.data[i] = (char)(bad.data[i] ^ 0x55);
        assert_int_equal(fd_write_file_atomic(index_path, buf_view(&bad), 0600, &err), 0);
        take();
        assert_int_equal(last.nblobs, 0);
    }
}

/* A snapshot that came to nothing leaves its index behind: its contents are nowhere. */
static void an_index_of_a_lost_snapshot_does_not_lose_contents(void **state)
{
    (void)state;
    put_z("workspace/a", "a");
    take();
    put_z("workspace/b", "only in the lost one");
    let_time_pass();
    assert_int_equal(take_now(), 0);
    for (size_t i = 0; i < last.nblobs; i++)
        assert_int_equal(blob_unlink(&blobs, str_z(last.blobs[i].id.z), &err), 0);
    assert_round_trip();
}

static void files_that_were_not_touched_are_not_read(void **state)
{
    (void)state;
    struct snap_index x;
    struct stat st;
    put_z("workspace/a", "a");
    put_much("workspace/b", SNAP_WHOLE * 2, 1);
    let_time_pass();
    take();
    snap_index_read(&x, index_path);
    assert_int_equal(stat(in("workspace/b"), &st), 0);
    const struct snap_seen *s = snap_index_next(&x, STR("workspace/b"));
    assert_non_null(s);
    assert_true(snap_index_same(s, &st));
    snap_index_fini(&x);
    assert_false(snap_index_racy(&st));
    put_z("workspace/fresh", "a");
    assert_int_equal(stat(in("workspace/fresh"), &st), 0);
    assert_true(snap_index_racy(&st)); /* too fresh to tell */
}

/* ---- chains ---- */

static void every_moment_of_a_long_history_can_be_restored(void **state)
{
    (void)state;
    enum { MOMENTS = 40 };
    static struct buf want[MOMENTS];
    static char name[MOMENTS][sizeof previous];
    int64_t longest = 0, shortest = INT64_MAX;
    for (int i = 0; i < 300; i++) {
        char path[64];
        snprintf(path, sizeof path, "workspace/file-%d", i);
        put_z(path, path);
    }
    for (int i = 0; i < MOMENTS; i++) {
        char path[64];
        snprintf(path, sizeof path, "workspace/file-%d", i * 7);
        if (i % 3 == 2)
            unlink(in(path));
        else
            put_z(path, "changed");
        snprintf(path, sizeof path, "workspace/new-%d", i);
        put_z(path, path);
        take();
        want[i] = BUF_INIT(1 << 20);
        describe(&want[i], dir, "", true);
        memcpy(name[i], previous, sizeof previous);
        int64_t size = last.blobs[last.nblobs - 1].size_bytes;
        longest = size > longest ? size : longest;
        shortest = size < shortest ? size : shortest;
    }
    for (int i = 0; i < MOMENTS; i++) {
        assert_restores_as(name[i], &want[i]);
        buf_fini(&want[i]);
    }
    assert_true(shortest * 10 < longest); /* most are changes */
}

static void the_chain_is_bounded(void **state)
{
    (void)state;
    unsigned most = 0;
    for (int i = 0; i < 300; i++) {
        char path[64];
        snprintf(path, sizeof path, "workspace/file-%d", i);
        put_z(path, path);
    }
    for (int i = 0; i < 3 * SNAP_CHAIN; i++) {
        struct snap_tree t;
        char text[2] = {(char)('a' + i), '\0'};
        put_z("workspace/one", text);
        take();
        snap_tree_init(&t);
        assert_int_equal(snap_manifest_load(&blobs, str_z(previous), &t, &err), 0);
        most = t.chain > most ? t.chain : most;
        assert_true(t.npacks <= SNAP_CHAIN + 2); /* those that nothing needs any more are gone */
        snap_tree_fini(&t);
    }
    assert_int_equal(most, SNAP_CHAIN);
}

static void a_base_that_is_damaged_costs_a_whole_snapshot(void **state)
{
    (void)state;
    put_z("workspace/a", "a");
    take();
    struct snap_tree t;
    struct blob_id pack;
    snap_tree_init(&t);
    assert_int_equal(snap_manifest_load(&blobs, str_z(previous), &t, &err), 0);
    snap_pack_blob(&t.packs[0], &pack);
    snap_tree_fini(&t);
    snapshot_fini(&last);
    assert_int_equal(blob_unlink(&blobs, str_z(pack.z), &err), 0);
    assert_round_trip();
    assert_int_equal(last.nblobs, 2);
    snapshot_fini(&last);
    assert_int_equal(blob_unlink(&blobs, str_z(previous), &err), 0);
    assert_round_trip();
    memset(previous, 'f', BLOB_NAME_LEN);
    assert_round_trip();
    assert_int_equal(last.nblobs, 2);
}

/* ---- damage ---- */

static void blob_path(const char *id, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/blobs/%.2s/%s", root, id, id + 2);
}

static void flip(const char *id, long at)
{
    char path[PATH_MAX], c;
    blob_path(id, path);
    assert_int_equal(chmod(path, 0600), 0);
    AUTO_FD int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &c, 1, at), 1);
    c = (char)(c ^ 0x20);
    assert_int_equal(pwrite(fd, &c, 1, at), 1);
}

static void a_damaged_manifest_is_refused(void **state)
{
    (void)state;
    put_z("workspace/a", "a");
    take();
    int64_t size = last.blobs[1].size_bytes;
    for (long i = 0; i < size; i++) {
        flip(previous, i);
        assert_int_equal(restore_to(previous), ERR_CORRUPT);
        flip(previous, i);
    }
    assert_int_equal(restore_to(previous), 0);
    assert_int_equal(restore_to("nothing"), ERR_CORRUPT);
    assert_int_equal(restore_to(""), ERR_CORRUPT);
}

static void a_damaged_pack_is_refused(void **state)
{
    (void)state;
    AUTO_BUF struct buf text = BUF_INIT(1 << 16);
    for (int i = 0; i < 300; i++)
        buf_printf(&text, "%d ", i);
    put("workspace/a", buf_view(&text));
    put_much("workspace/b", 100, 1);
    take();
    int64_t size = last.blobs[0].size_bytes;
    for (long i = 8; i < size; i++) {
        flip(last.blobs[0].id.z, i);
        assert_int_equal(restore_to(previous), ERR_CORRUPT);
        flip(last.blobs[0].id.z, i);
    }
    char path[PATH_MAX];
    blob_path(last.blobs[0].id.z, path);
    assert_int_equal(truncate(path, size - 1), 0);
    assert_int_equal(restore_to(previous), ERR_CORRUPT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(restore_to(previous), ERR_CORRUPT);
}

/* ---- hostile trees ---- */

static void no_link_is_followed(void **state)
{
    (void)state;
    char outside[128], file[PATH_MAX];
    snprintf(outside, sizeof outside, "%s/outside", root);
    mkdir(outside, 0755);
    put_link(outside, in("home"));
    put_link("/etc", in("workspace/etc"));
    snprintf(file, sizeof file, "%s/secret", outside);
    assert_int_equal(fd_write_file_atomic(file, STR("not for the agent"), 0600, &err), 0);
    take();
    assert_int_equal(last.files, 1);
    assert_int_equal(last.nblobs, 1);
}

static void a_tree_that_is_too_deep_is_refused_by_name(void **state)
{
    (void)state;
    int at = open(in("workspace"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < SNAP_DEPTH; i++) {
        assert_int_equal(mkdirat(at, "sub", 0755), 0);
        int next = openat(at, "sub", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
    }
    close(at);
    assert_int_equal(take_now(), ERR_LIMIT);
    assert_non_null(strstr(err.msg, "256"));
}

static void the_deepest_tree_comes_back(void **state)
{
    (void)state;
    struct stat st;
    int at = open(in("workspace"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    for (int i = 1; i < SNAP_DEPTH; i++) {
        assert_int_equal(mkdirat(at, name, 0755), 0);
        int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
    }
    close(at);
    take();
    assert_int_equal(restore_to(previous), 0);
    at = open(back, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < SNAP_DEPTH; i++) {
        int next = openat(at, i ? name : "workspace", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
    }
    assert_int_equal(fstat(at, &st), 0);
    close(at);
}

static void bounds_are_named(void **state)
{
    (void)state;
    put_z("workspace/a", "a");
    put_much("workspace/b", 3 << 20, 1);
    max_files = 2;
    assert_int_equal(take_now(), ERR_LIMIT);
    assert_string_equal(err.msg, "there are more than 2 files and directories");
    max_files = 3;
    max_bytes = 2 << 20;
    assert_int_equal(take_now(), ERR_LIMIT);
    assert_string_equal(err.msg, "the files have more than 2 MB");
    assert_int_equal(last.nblobs, 0);
    max_bytes = 4 << 20;
    assert_round_trip();
}

static void what_is_left_out_counts_as_well(void **state)
{
    (void)state;
    static const char *const pipes[] = {"workspace/p0", "workspace/p1", "workspace/p2"};
    put_z("workspace/a", "a");
    for (size_t i = 0; i < COUNT_OF(pipes); i++)
        assert_int_equal(mkfifo(in(pipes[i]), 0600), 0);
    max_files = 3;
    assert_int_equal(take_now(), ERR_LIMIT);
    assert_string_equal(err.msg, "there are more than 3 files and directories");
    max_files = 4;
    take();
}

static int64_t bytes_read(void)
{
    AUTO_BUF struct buf text = BUF_INIT(4096);
    assert_int_equal(fd_read_file("/proc/self/io", &text, &err), 0);
    assert_memory_equal(text.data, "rchar: ", 7);
    return strtoll(text.data + 7, NULL, 10);
}

/* A byte in each piece takes hardly any room on the disk. */
static void a_file_of_many_holes_is_refused_before_all_of_it_is_read(void **state)
{
    (void)state;
    AUTO_FD int fd = open(in("workspace/f"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    for (off_t i = 0; i < 400; i++)
        assert_int_equal(pwrite(fd, "x", 1, i << 20), 1);
    max_bytes = 16 << 20;
    int64_t before = bytes_read();
    assert_int_equal(take_now(), ERR_LIMIT);
    assert_true(bytes_read() - before < 64 << 20);
}

static void what_is_refused_leaves_nothing_behind(void **state)
{
    (void)state;
    char path[PATH_MAX];
    put_much("workspace/b", 3 << 20, 1);
    max_bytes = 1;
    assert_int_equal(take_now(), ERR_LIMIT);
    snprintf(path, sizeof path, "%s/blobs", root);
    struct dirent **names = NULL;
    int n = scandir(path, &names, no_dots, by_bytes);
    assert_int_equal(n, 0);
    free(names);
}

/* ---- looking into one ---- */

static char *output_of(int (*fn)(const struct blobs *b, struct str manifest, const char *root,
                                 struct str path, int out, struct err *err),
                       const char *path, int want)
{
    static char text[4096];
    char name[] = "/tmp/ostler-test-XXXXXX";
    AUTO_FD int fd = mkostemp(name, O_CLOEXEC);
    unlink(name);
    int rc = fn(&blobs, str_z(previous), "workspace", str_z(path), fd, &err);
    if (rc != want)
        fail_msg("%s: %d (%s)", path, rc, rc ? err.msg : "");
    ssize_t n = rc ? 0 : pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return rc ? err.msg : text;
}

static void make_tree_to_look_into(void)
{
    mkdir(in("workspace/d"), 0755);
    mkdir(in("workspace/d/e"), 0755);
    mkdir(in("workspace/d-e"), 0755);
    mkdir(in("home"), 0755);
    put_z("workspace/d/e/f", "deep");
    put_z("workspace/d/x", "text");
    put_z("home/secret", "x");
    put_link("d/e", in("workspace/down"));
    put_link("../x", in("workspace/d/e/up"));
    put_link("../../home/secret", in("workspace/d/out"));
    put_link("/etc/passwd", in("workspace/absolute"));
    put_link("loop", in("workspace/loop"));
    take();
}

static void files_are_read_as_from_the_directory(void **state)
{
    (void)state;
    make_tree_to_look_into();
    assert_string_equal(output_of(snapshot_read, "d/e/f", 0), "deep");
    assert_string_equal(output_of(snapshot_read, "/workspace//d/./x", 0), "text");
    assert_string_equal(output_of(snapshot_read, "down/f", 0), "deep");
    assert_string_equal(output_of(snapshot_read, "down/up", 0), "text");
    assert_string_equal(output_of(snapshot_read, "down/../x", 0), "text");
    assert_string_equal(output_of(snapshot_read, "d", ERR_INVALID),
                        "path: 'd' is not a regular file");
    assert_string_equal(output_of(snapshot_read, "nope", ERR_NOT_FOUND),
                        "path: there is no 'nope' in the workspace");
    output_of(snapshot_read, "d/x/y", ERR_NOT_FOUND);
    assert_string_equal(output_of(snapshot_read, "d/out", ERR_INVALID),
                        "path: 'd/out' leads out of the workspace");
    output_of(snapshot_read, "../home/secret", ERR_INVALID);
    output_of(snapshot_read, "absolute", ERR_INVALID);
    output_of(snapshot_read, "loop", ERR_INVALID);
}

static void directories_are_listed_as_from_the_directory(void **state)
{
    (void)state;
    make_tree_to_look_into();
    assert_string_equal(
        output_of(snapshot_list, "d", 0),
        "{\"data\":[{\"path\":\"d/e\",\"type\":\"directory\",\"size_bytes\":0,\"mode\":\"0755\"},"
        "{\"path\":\"d/out\",\"type\":\"symlink\",\"size_bytes\":17,\"mode\":\"0777\"},"
        "{\"path\":\"d/x\",\"type\":\"file\",\"size_bytes\":4,\"mode\":\"0644\"}]}");
    assert_non_null(strstr(output_of(snapshot_list, "", 0), "\"path\":\"d-e\""));
    assert_non_null(strstr(output_of(snapshot_list, "down", 0), "\"path\":\"down/f\""));
    output_of(snapshot_list, "d/x", ERR_INVALID);
    output_of(snapshot_list, "nope", ERR_NOT_FOUND);
    assert_int_equal(tree_remove(in("workspace"), &err), 0);
    take();
    assert_string_equal(output_of(snapshot_list, "/", 0), "{\"data\":[]}");
}

/* ---- archives ---- */

static void an_archive_unpacks_to_what_was_kept(void **state)
{
    (void)state;
    char path[PATH_MAX], un[128];
    AUTO_BUF struct buf want = BUF_INIT(1 << 20), got = BUF_INIT(1 << 20);
    make_tree_to_look_into();
    put_z("workspace/\xff not utf-8", "x");
    put_z("workspace/\xc3\xa9", "x");
    put_much("workspace/large", SNAP_WHOLE + 5, 1);
    put_z("workspace/sparse", "x");
    assert_int_equal(truncate(in("workspace/sparse"), 3 * SNAP_PIECE + 7), 0);
    take();
    snprintf(path, sizeof path, "%s/tar", root);
    AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(snapshot_tar(&blobs, str_z(previous), "workspace", fd, (int64_t)1 << 30, &err),
                     0);
    snprintf(un, sizeof un, "%s/un", root);
    assert_int_equal(mkdir(un, 0700), 0);
    char *const argv[] = {"tar", "-xpf", path, "-C", un, NULL};
    pid_t pid;
    int status = -1;
    assert_int_equal(posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    describe(&want, in("workspace"), "", true);
    describe(&got, un, "", true);
    assert_string_equal(want.data, got.data);
    assert_int_equal(snapshot_tar(&blobs, str_z(previous), "workspace", fd, 1 << 20, &err),
                     ERR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(a_tree_of_every_kind_comes_back_as_it_was),
        T(large_files_come_back_and_cost_what_changed),
        T(holes_cost_nothing_and_stay_holes),
        T(equal_contents_are_kept_once),
        T(what_text_is_made_of_is_compressed),
        T(setuid_and_sticky_bits_do_not_come_back),
        T(caches_and_what_is_no_file_are_left_out),
        T(nothing_changed_is_the_same_manifest_and_no_content),
        T(every_change_is_seen),
        T(a_change_that_hides_its_time_is_seen),
        T(a_change_in_the_moment_of_the_snapshot_is_seen),
        T(a_touched_file_costs_no_content),
        T(an_index_that_is_not_to_be_trusted_costs_time_only),
        T(an_index_of_a_lost_snapshot_does_not_lose_contents),
        T(files_that_were_not_touched_are_not_read),
        T(every_moment_of_a_long_history_can_be_restored),
        T(the_chain_is_bounded),
        T(a_base_that_is_damaged_costs_a_whole_snapshot),
        T(a_damaged_manifest_is_refused),
        T(a_damaged_pack_is_refused),
        T(no_link_is_followed),
        T(a_tree_that_is_too_deep_is_refused_by_name),
        T(the_deepest_tree_comes_back),
        T(bounds_are_named),
        T(what_is_left_out_counts_as_well),
        T(a_file_of_many_holes_is_refused_before_all_of_it_is_read),
        T(what_is_refused_leaves_nothing_behind),
        T(files_are_read_as_from_the_directory),
        T(directories_are_listed_as_from_the_directory),
        T(an_archive_unpacks_to_what_was_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
