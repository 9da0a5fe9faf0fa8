/* Content-addressed files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/fd.h"
#include "store/blob.h"

#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static struct blobs blobs;
static struct err err;
static int files; /* regular files below the directory, counted by walk() */

static int visit(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)path;
    (void)st;
    (void)ftw;
    files += type == FTW_F;
    return 0;
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int count_files(void)
{
    files = 0;
    nftw(dir, visit, 16, FTW_PHYS);
    return files;
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ostler-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(blobs_open(&blobs, dir, &err), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    blobs_close(&blobs);
    nftw(dir, drop, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}

static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

static void assert_content(struct str id, struct str want)
{
    int fd = -1;
    int64_t size = -1;
    AUTO_BUF struct buf got = BUF_INIT(1 << 20);
    assert_int_equal(blob_open(&blobs, id, &fd, &size, &err), 0);
    assert_int_equal(fd_read_all(fd, &got, &err), 0);
    fd_close(fd);
    assert_int_equal(size, want.len);
    assert_true(str_eq(buf_view(&got), want));
}

static void a_blob_is_named_by_its_sha256_and_kept_in_a_shard(void **state)
{
    (void)state;
    struct blob_id id;
    char path[256];
    assert_int_equal(blob_put(&blobs, STR("abc"), &id, &err), 0);
    assert_string_equal(id.z, abc);
    snprintf(path, sizeof path, "%s/blobs/ba/%s", dir, abc + 2);
    assert_int_equal(access(path, R_OK), 0);
    assert_content(str_z(id.z), STR("abc"));
}

static void the_same_bytes_are_kept_once(void **state)
{
    (void)state;
    struct blob_id a, b, c;
    assert_int_equal(blob_put(&blobs, STR("abc"), &a, &err), 0);
    assert_int_equal(blob_put(&blobs, STR("abc"), &b, &err), 0);
    assert_string_equal(a.z, b.z);
    assert_int_equal(count_files(), 1);
    assert_int_equal(blob_put(&blobs, STR(""), &c, &err), 0);
    assert_int_equal(count_files(), 2);
    assert_content(str_z(c.z), STR(""));
}

static int temp_file(size_t len)
{
    char path[96];
    snprintf(path, sizeof path, "%s/source-XXXXXX", dir);
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    AUTO_FREE char *bytes = mem_alloc(len + 1);
    memset(bytes, 'z', len);
    assert_int_equal(fd_write_all(fd, str_n(bytes, len), &err), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void a_descriptor_is_read_to_its_end(void **state)
{
    (void)state;
    struct blob_id id, same;
    int64_t size = 0;
    AUTO_FD int fd = temp_file(200000);
    assert_int_equal(blob_put_fd(&blobs, fd, 200000, &id, &size, &err), 0);
    assert_int_equal(size, 200000);
    AUTO_FREE char *bytes = mem_alloc(200000);
    memset(bytes, 'z', 200000);
    assert_int_equal(blob_put(&blobs, str_n(bytes, 200000), &same, &err), 0);
    assert_string_equal(id.z, same.z);
    assert_content(str_z(id.z), str_n(bytes, 200000));
}

static void too_many_bytes_leave_nothing_behind(void **state)
{
    (void)state;
    struct blob_id id;
    AUTO_FD int fd = temp_file(200000);
    assert_int_equal(blob_put_fd(&blobs, fd, 199999, &id, NULL, &err), ERR_TOO_LARGE);
    assert_int_equal(count_files(), 0);
}

static void a_source_that_cannot_be_read_leaves_nothing_behind(void **state)
{
    (void)state;
    struct blob_id id;
    AUTO_FD int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(blob_put_fd(&blobs, fd, 100, &id, NULL, &err), ERR_IO);
    assert_int_equal(count_files(), 0);
}

static void an_unlinked_blob_is_gone_for_those_who_come_later(void **state)
{
    (void)state;
    struct blob_id id;
    int64_t size;
    assert_int_equal(blob_put(&blobs, STR("abc"), &id, &err), 0);
    int held = -1, late = -1;
    assert_int_equal(blob_open(&blobs, str_z(id.z), &held, &size, &err), 0);
    assert_int_equal(blob_unlink(&blobs, str_z(id.z), &err), 0);
    assert_int_equal(blob_unlink(&blobs, str_z(id.z), &err), ERR_NOT_FOUND);
    assert_int_equal(blob_open(&blobs, str_z(id.z), &late, &size, &err), ERR_NOT_FOUND);
    assert_int_equal(late, -1);
    char c;
    assert_int_equal(read(held, &c, 1), 1);
    fd_close(held);
}

static void what_is_no_blob_name_never_becomes_a_path(void **state)
{
    (void)state;
    char upper[] = "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    char dots[] = "../../../../../../../../../../../../../../../../../../etc/passwd";
    struct str bad[] = {STR(""),     STR("ba"),      str_z(upper),    str_take(str_z(dots), 64),
                        str_z(dots), str_n(abc, 63), str_n("ba\0", 3)};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        int fd = -1;
        int64_t size;
        assert_int_equal(blob_open(&blobs, bad[i], &fd, &size, &err), ERR_INVALID);
        assert_int_equal(blob_unlink(&blobs, bad[i], &err), ERR_INVALID);
    }
}

static void opening_removes_the_temporaries_of_a_crash(void **state)
{
    (void)state;
    struct blob_id id;
    char path[128];
    assert_int_equal(blob_put(&blobs, STR("abc"), &id, &err), 0);
    snprintf(path, sizeof path, "%s/blobs/tmp.0123456789abcdef", dir);
    assert_int_equal(fd_write_file_atomic(path, STR("half"), 0600, &err), 0);
    assert_int_equal(count_files(), 2);
    blobs_close(&blobs);
    assert_int_equal(blobs_open(&blobs, dir, &err), 0);
    assert_int_equal(count_files(), 1);
    assert_content(str_z(abc), STR("abc"));
}

static struct blob_upload *pieces(const char *const *text, struct blob_id *id)
{
    struct blob_upload *u;
    assert_int_equal(blob_upload_open(&blobs, &u, &err), 0);
    for (size_t i = 0; text[i]; i++)
        assert_int_equal(blob_upload_add(u, str_z(text[i]), &err), 0);
    assert_int_equal(blob_upload_size(u), 3);
    assert_int_equal(blob_upload_finish(u, id, &err), 0);
    return u;
}

static void pieces_become_the_same_blob_as_the_whole(void **state)
{
    (void)state;
    static const char *const text[] = {"a", "", "bc", NULL};
    struct blob_id one, two;
    struct blob_upload *u = pieces(text, &one), *v = pieces(text, &two);
    assert_string_equal(one.z, abc);
    assert_string_equal(two.z, abc);
    assert_content(str_z(abc), STR("abc"));
    blob_upload_close(u);
    blob_upload_close(v);
    blob_upload_close(NULL);
    assert_int_equal(count_files(), 1);
    assert_content(str_z(abc), STR("abc"));
}

static void an_upload_that_is_given_up_leaves_nothing(void **state)
{
    (void)state;
    struct blob_upload *u;
    assert_int_equal(blob_upload_open(&blobs, &u, &err), 0);
    assert_int_equal(blob_upload_add(u, STR("half"), &err), 0);
    assert_int_equal(count_files(), 1);
    blob_upload_close(u);
    assert_int_equal(count_files(), 0);
}

static void settling_gives_a_retired_blob_its_name_again(void **state)
{
    (void)state;
    static const char *const text[] = {"abc", NULL};
    struct blob_id id;
    struct blob_upload *u = pieces(text, &id);
    assert_int_equal(blob_upload_settle(u, &err), 0);
    assert_int_equal(blob_retire(&blobs, str_z(abc), &err), 0);
    blob_discard(&blobs, str_z(abc));
    assert_int_equal(blob_upload_settle(u, &err), 0);
    assert_content(str_z(abc), STR("abc"));
    blob_upload_close(u);
    assert_int_equal(count_files(), 1);
    assert_content(str_z(abc), STR("abc"));
}

static void a_retired_blob_is_gone_at_once_and_its_bytes_after(void **state)
{
    (void)state;
    struct blob_id id;
    int fd = -1;
    int64_t size;
    assert_int_equal(blob_put(&blobs, STR("abc"), &id, &err), 0);
    assert_int_equal(blob_retire(&blobs, STR("no name"), &err), ERR_INVALID);
    assert_int_equal(blob_retire(&blobs, str_z(abc), &err), 0);
    assert_int_equal(blob_retire(&blobs, str_z(abc), &err), ERR_NOT_FOUND);
    assert_int_equal(blob_open(&blobs, str_z(abc), &fd, &size, &err), ERR_NOT_FOUND);
    assert_int_equal(count_files(), 1);
    blob_discard(&blobs, str_z(abc));
    blob_discard(&blobs, STR("../../x"));
    assert_int_equal(count_files(), 0);

    assert_int_equal(blob_put(&blobs, STR("abc"), &id, &err), 0);
    assert_int_equal(blob_retire(&blobs, str_z(abc), &err), 0);
    blobs_close(&blobs); /* a crash before the bytes were freed */
    assert_int_equal(blobs_open(&blobs, dir, &err), 0);
    assert_int_equal(count_files(), 0);
}

static void directories_list_their_blobs_and_nothing_else(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    struct blob_id id, *list;
    char path[128];
    size_t n = 9;
    arena_init(&a, 4096);
    assert_int_equal(blob_list(&blobs, 0xba, &a, &list, &n, &err), 0);
    assert_int_equal(n, 0);
    assert_int_equal(blob_put(&blobs, STR("abc"), &id, &err), 0);
    snprintf(path, sizeof path, "%s/blobs/ba/a stranger", dir);
    assert_int_equal(fd_write_file_atomic(path, STR("x"), 0600, &err), 0);
    size_t seen = 0;
    for (unsigned shard = 0; shard < BLOB_SHARDS; shard++) {
        assert_int_equal(blob_list(&blobs, shard, &a, &list, &n, &err), 0);
        seen += n;
        if (n)
            assert_string_equal(list[0].z, abc);
    }
    assert_int_equal(seen, 1);
}

/* Wherever the disk becomes full, an upload fails as a whole and takes its bytes with it. */
static void a_full_disk_leaves_no_half_blob(void **state)
{
    (void)state;
    struct blob_upload *u;
    struct blob_id id;
    char data[64 * 1024];
    memset(data, 'x', sizeof data);
    blobs_close(&blobs);
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", dir, "tmpfs", 0, "size=256k") < 0) {
        assert_int_equal(blobs_open(&blobs, dir, &err), 0);
        skip();
    }
    assert_int_equal(blobs_open(&blobs, dir, &err), 0);
    assert_int_equal(blob_upload_open(&blobs, &u, &err), 0);
    int rc = 0;
    for (int i = 0; rc == 0 && i < 8; i++)
        rc = blob_upload_add(u, str_n(data, sizeof data), &err);
    assert_int_equal(rc, ERR_NO_SPACE);
    blob_upload_close(u);
    assert_int_equal(count_files(), 0);
    assert_int_equal(blob_put(&blobs, str_n(data, sizeof data), &id, &err), 0);
    blobs_close(&blobs);
    assert_int_equal(umount2(dir, MNT_DETACH), 0);
    assert_int_equal(blobs_open(&blobs, dir, &err), 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_blob_is_named_by_its_sha256_and_kept_in_a_shard),
        T(the_same_bytes_are_kept_once),
        T(a_descriptor_is_read_to_its_end),
        T(too_many_bytes_leave_nothing_behind),
        T(a_source_that_cannot_be_read_leaves_nothing_behind),
        T(an_unlinked_blob_is_gone_for_those_who_come_later),
        T(what_is_no_blob_name_never_becomes_a_path),
        T(opening_removes_the_temporaries_of_a_crash),
        T(pieces_become_the_same_blob_as_the_whole),
        T(an_upload_that_is_given_up_leaves_nothing),
        T(settling_gives_a_retired_blob_its_name_again),
        T(a_retired_blob_is_gone_at_once_and_its_bytes_after),
        T(directories_list_their_blobs_and_nothing_else),
        T(a_full_disk_leaves_no_half_blob),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
