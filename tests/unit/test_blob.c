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
#include <stdio.h>
#include <stdlib.h>
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
