/* cli/: a directory into a tar and back: what goes in, what stays out, what never gets out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/fd.h"
#include "cli/pack.h"
#include "cli/proc.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    str_copyz(dir, sizeof dir, STR("/tmp/ostler-test-XXXXXX"));
    setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char all[80];
    snprintf(all, sizeof all, "%s-copy", dir);
    const char *argv[] = {"rm", "-rf", "--", dir, all, NULL};
    struct proc p = {.argv = argv};
    struct err err;
    return proc_run(&p, &err);
}

static void put(const char *path, const char *text)
{
    char full[512], parent[512];
    struct err err;
    snprintf(full, sizeof full, "%s/%s", dir, path);
    str_copyz(parent, sizeof parent, str_z(full));
    *strrchr(parent, '/') = '\0';
    assert_int_equal(fd_mkdirs(parent, 0755, &err), 0);
    assert_int_equal(fd_write_file_atomic(full, str_z(text), 0644, &err), 0);
}

static void git(const char *a, const char *b, const char *c)
{
    const char *args[] = {"-c", "user.name=t", "-c", "user.email=t@t", a, b, c, NULL};
    struct err err;
    if (git_run(dir, args, NULL, &err))
        fail_msg("%s", err.msg);
}

/* "path=content\n" of every file in the tar, "path@target\n" of links, "path/\n" of directories. */
static void list(int fd, struct buf *out)
{
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    struct archive *tar = archive_read_new();
    archive_read_support_format_tar(tar);
    archive_read_support_filter_all(tar);
    assert_int_equal(archive_read_open_fd(tar, fd, 4096), ARCHIVE_OK);
    struct archive_entry *e;
    while (archive_read_next_header(tar, &e) == ARCHIVE_OK) {
        buf_printf(out, "%s", archive_entry_pathname(e));
        if (archive_entry_filetype(e) == AE_IFLNK)
            buf_printf(out, "@%s", archive_entry_symlink(e));
        if (archive_entry_filetype(e) == AE_IFREG) {
            char text[4096];
            la_ssize_t n = archive_read_data(tar, text, sizeof text);
            buf_ch(out, '=');
            buf_put(out, text, n > 0 ? (size_t)n : 0);
        }
        buf_ch(out, '\n');
    }
    archive_read_free(tar);
}

static void pack(bool include_ignored, struct pack_stats *stats, struct buf *out)
{
    AUTO_FD int fd = memfd_create("tar", MFD_CLOEXEC);
    struct err err;
    if (pack_directory(dir, include_ignored, fd, stats, &err))
        fail_msg("%s", err.msg);
    list(fd, out);
}

static bool has(const struct buf *b, const char *text)
{
    return str_find(buf_view(b), str_z(text)) >= 0; /* objects of git hold NUL bytes */
}

static void a_plain_directory_goes_in_whole(void **state)
{
    (void)state;
    put("a.txt", "one");
    put("sub/b.txt", "two");
    char path[512], pipe_path[512];
    snprintf(path, sizeof path, "%s/link", dir);
    snprintf(pipe_path, sizeof pipe_path, "%s/fifo", dir);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    AUTO_BUF struct buf out = BUF_INIT(1 << 20);
    struct pack_stats stats;
    pack(false, &stats, &out);
    assert_true(has(&out, "a.txt=one\n"));
    assert_true(has(&out, "sub/b.txt=two\n"));
    assert_true(has(&out, "link@/etc/passwd\n")); /* as a link: what it points to is not read */
    assert_false(has(&out, "fifo"));
    assert_int_equal(stats.skipped, 1);
    assert_false(stats.git);
}

static void a_repository_goes_in_without_what_it_ignores(void **state)
{
    (void)state;
    git("init", "--quiet", NULL);
    put(".gitignore", "*.o\nbuild/\n");
    put("tracked.c", "int x;");
    put("gone.c", "int y;");
    git("add", "--all", NULL);
    git("commit", "--quiet", "-mfirst");
    put("new.c", "int z;");
    put("junk.o", "binary");
    put("build/out", "binary");
    char gone[512];
    snprintf(gone, sizeof gone, "%s/gone.c", dir);
    unlink(gone);
    AUTO_BUF struct buf out = BUF_INIT(1 << 20), all = BUF_INIT(1 << 20);
    struct pack_stats stats;
    pack(false, &stats, &out);
    assert_true(stats.git);
    assert_true(has(&out, "tracked.c=int x;\n"));
    assert_true(has(&out, "new.c=int z;\n"));
    assert_false(has(&out, "junk.o"));
    assert_false(has(&out, "build/out"));
    assert_false(has(&out, "gone.c=")); /* deleted, not committed: not there */
    assert_true(has(&out, ".git/HEAD=ref: refs/heads/"));
    pack(true, &stats, &all);
    assert_true(has(&all, "junk.o=binary\n"));
}

static void credentials_and_hooks_of_a_repository_stay_behind(void **state)
{
    (void)state;
    git("init", "--quiet", NULL);
    put("a", "a");
    git("config", "remote.origin.url", "https://user:token-in-url@example.com/x");
    git("config", "http.extraheader", "Authorization: token-in-header");
    git("config", "user.name", "A \"quoted\" \\ name");
    put(".git/hooks/post-checkout", "token-in-hook");
    put(".git/modules/m/config", "token-in-module");
    put("vendored/.git/config", "token-in-nested");
    for (int ignored = 0; ignored < 2; ignored++) {
        AUTO_BUF struct buf out = BUF_INIT(1 << 20);
        struct pack_stats stats;
        pack(ignored, &stats, &out);
        assert_false(has(&out, "token-in"));
        assert_true(has(&out, ".git/config=[core]"));
        assert_true(has(&out, "name = \"A \\\"quoted\\\" \\\\ name\""));
    }
}

static void the_copied_repository_is_one_that_git_reads(void **state)
{
    (void)state;
    git("init", "--quiet", NULL);
    put("a", "a");
    git("add", "--all", NULL);
    git("commit", "--quiet", "-mfirst");
    AUTO_FD int fd = memfd_create("tar", MFD_CLOEXEC);
    struct pack_stats stats;
    struct unpack_stats unpacked;
    struct err err;
    assert_int_equal(pack_directory(dir, false, fd, &stats, &err), 0);
    char copy[512];
    snprintf(copy, sizeof copy, "%s-copy", dir);
    assert_int_equal(unpack_tar(fd, copy, &unpacked, &err), 0);
    AUTO_BUF struct buf out = BUF_INIT(4096);
    const char *args[] = {"status", "--porcelain", NULL};
    assert_int_equal(git_run(copy, args, &out, &err), 0);
    assert_int_equal(out.len, 0);
}

static void a_directory_below_the_top_knows_its_prefix(void **state)
{
    (void)state;
    git("init", "--quiet", NULL);
    put("sub/dir/a", "a");
    put("other", "o");
    char sub[512];
    snprintf(sub, sizeof sub, "%s/sub/dir", dir);
    AUTO_FD int fd = memfd_create("tar", MFD_CLOEXEC);
    AUTO_BUF struct buf out = BUF_INIT(1 << 20);
    struct pack_stats stats;
    struct err err;
    assert_int_equal(pack_directory(sub, false, fd, &stats, &err), 0);
    list(fd, &out);
    assert_string_equal(out.data, "a=a\n");
    assert_true(stats.inside_git);
    assert_false(stats.git);
    assert_string_equal(stats.prefix, "sub/dir/");
}

static void what_is_no_directory_is_refused(void **state)
{
    (void)state;
    struct pack_stats stats;
    struct err err;
    assert_int_equal(pack_directory("/nonexistent", false, -1, &stats, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "--dir /nonexistent"));
}

/* ---- unpacking ---- */

static void add(struct archive *tar, const char *path, unsigned type, const char *text)
{
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, path);
    archive_entry_set_filetype(e, type);
    archive_entry_set_perm(e, 06777);
    if (type == AE_IFLNK)
        archive_entry_set_symlink(e, text);
    else if (type == AE_IFREG)
        archive_entry_set_size(e, (la_int64_t)strlen(text));
    archive_write_header(tar, e);
    if (type == AE_IFREG)
        archive_write_data(tar, text, strlen(text));
    archive_entry_free(e);
}

static void nothing_is_unpacked_outside_of_the_directory(void **state)
{
    (void)state;
    AUTO_FD int fd = memfd_create("tar", MFD_CLOEXEC);
    struct archive *tar = archive_write_new();
    archive_write_set_format_pax_restricted(tar);
    assert_int_equal(archive_write_open_fd(tar, fd), ARCHIVE_OK);
    add(tar, "./", AE_IFDIR, "");
    add(tar, "./report.md", AE_IFREG, "fine");
    add(tar, "sub/deep/file", AE_IFREG, "fine too");
    add(tar, "../escape", AE_IFREG, "bad");
    add(tar, "/tmp/ostler-absolute-escape", AE_IFREG, "bad");
    add(tar, "a/../../escape", AE_IFREG, "bad");
    add(tar, "out", AE_IFLNK, "/tmp");
    add(tar, "out/ostler-through-link", AE_IFREG, "stays inside");
    add(tar, "device", AE_IFCHR, "");
    archive_write_close(tar);
    archive_write_free(tar);
    char to[512], path[640];
    struct unpack_stats stats;
    struct err err;
    struct stat st;
    snprintf(to, sizeof to, "%s/out", dir);
    assert_int_equal(unpack_tar(fd, to, &stats, &err), 0);
    assert_int_equal(stats.files, 3);
    assert_int_equal(stats.skipped, 5);
    snprintf(path, sizeof path, "%s/report.md", to);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755 & ~0022); /* no set-uid bit */
    snprintf(path, sizeof path, "%s/escape", dir);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_not_equal(access("/tmp/ostler-absolute-escape", F_OK), 0);
    assert_int_not_equal(access("/tmp/ostler-through-link", F_OK), 0);
    /* A link that was there before is not followed, and no file is overwritten. */
    assert_int_not_equal(unpack_tar(fd, to, &stats, &err), 0);
}

static void an_empty_or_damaged_tar_makes_no_directory(void **state)
{
    (void)state;
    char to[512];
    struct unpack_stats stats;
    struct err err;
    snprintf(to, sizeof to, "%s/none", dir);
    AUTO_FD int empty = memfd_create("tar", MFD_CLOEXEC);
    assert_int_equal(unpack_tar(empty, to, &stats, &err), 0);
    AUTO_FD int bad = memfd_create("tar", MFD_CLOEXEC);
    assert_int_equal(fd_write_all(bad, STR("this is not a tar archive at all"), &err), 0);
    assert_int_not_equal(unpack_tar(bad, to, &stats, &err), 0);
    assert_int_not_equal(access(to, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_plain_directory_goes_in_whole, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_repository_goes_in_without_what_it_ignores, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(credentials_and_hooks_of_a_repository_stay_behind, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(the_copied_repository_is_one_that_git_reads, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(a_directory_below_the_top_knows_its_prefix, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(what_is_no_directory_is_refused, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(nothing_is_unpacked_outside_of_the_directory, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(an_empty_or_damaged_tar_makes_no_directory, make_dir,
                                        remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
