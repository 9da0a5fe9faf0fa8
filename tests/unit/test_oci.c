/* Layers of images that mean harm, and the rules as an OCI runtime reads them. */
#include "base/fd.h"
#include "json/json.h"
#include "sandbox/oci_layer.h"
#include "sandbox/seccomp.h"
#include "sandbox/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], root[80], outside[80];

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ostler-oci-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(root, sizeof root, "%s/root", dir);
    snprintf(outside, sizeof outside, "%s/outside", dir);
    return mkdir(root, 0755) || mkdir(outside, 0755);
}

static int tear_down(void **state)
{
    (void)state;
    struct err err;
    return tree_remove(dir, &err);
}

struct entry {
    const char *path;
    mode_t type;
    mode_t mode;
    const char *link; /* of a symbolic link, or (type 0) a hard one */
    int64_t uid;
};

static int make_layer(const struct entry *entries, size_t n, char hex[65])
{
    char path[128];
    unsigned char sum[crypto_hash_sha256_BYTES];
    snprintf(path, sizeof path, "%s/layer", dir);
    struct archive *a = archive_write_new();
    archive_write_set_format_pax_restricted(a);
    assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
    for (size_t i = 0; i < n; i++) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, entries[i].path);
        archive_entry_set_filetype(e, entries[i].type ? entries[i].type : AE_IFREG);
        archive_entry_set_perm(e, entries[i].mode ? entries[i].mode : 0644);
        archive_entry_set_uid(e, entries[i].uid);
        if (entries[i].type == AE_IFLNK)
            archive_entry_set_symlink(e, entries[i].link);
        else if (entries[i].link)
            archive_entry_set_hardlink(e, entries[i].link);
        else if (!entries[i].type || entries[i].type == AE_IFREG)
            archive_entry_set_size(e, 4);
        assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
        if (!entries[i].link && (!entries[i].type || entries[i].type == AE_IFREG))
            assert_int_equal(archive_write_data(a, "data", 4), 4);
        archive_entry_free(e);
    }
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    AUTO_BUF struct buf text = BUF_INIT(1 << 24);
    struct err err;
    assert_int_equal(fd_read_file(path, &text, &err), 0);
    crypto_hash_sha256(sum, (const unsigned char *)text.data, text.len);
    sodium_bin2hex(hex, 65, sum, sizeof sum);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int unpack(const struct entry *entries, size_t n, struct err *err)
{
    char hex[65];
    struct oci_unpacked sum = {.bytes = 0};
    *err = (struct err){.code = 0};
    AUTO_FD int fd = make_layer(entries, n, hex);
    return oci_layer_unpack(fd, hex, root, &sum, err);
}

static bool is_there(const char *base, const char *name, struct stat *st)
{
    char path[256];
    struct stat own;
    snprintf(path, sizeof path, "%s/%s", base, name);
    return lstat(path, st ? st : &own) == 0;
}

static bool nothing_outside(void)
{
    return rmdir(outside) == 0 && mkdir(outside, 0755) == 0 && !is_there(dir, "evil", NULL);
}

static void what_a_layer_says_is_applied(void **state)
{
    (void)state;
    struct err err;
    struct stat st;
    const struct entry one[] = {
        {"./", AE_IFDIR, 0755, NULL, 0},       {"usr/bin/", AE_IFDIR, 0755, NULL, 0},
        {"bin", AE_IFLNK, 0777, "usr/bin", 0}, {"bin/through", 0, 06755, NULL, 70000},
        {"/etc/absolute", 0, 0600, NULL, 100}, {"etc/same", 0, 0600, "etc/absolute", 0},
        {"dev/sda", AE_IFBLK, 0600, NULL, 0},  {"run/pipe", AE_IFIFO, 0600, NULL, 0}};
    assert_int_equal(unpack(one, sizeof one / sizeof *one, &err), 0);
    assert_true(is_there(root, "usr/bin/through", &st));
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(st.st_uid, 65534);
    assert_true(is_there(root, "etc/same", &st));
    assert_int_equal(st.st_nlink, 2);
    assert_int_equal(st.st_uid, 100);
    assert_false(is_there(root, "dev/sda", NULL));
    assert_false(is_there(root, "run/pipe", NULL));
    const struct entry two[] = {{"etc/.wh.same", 0, 0, NULL, 0},
                                {"usr/bin/new", 0, 0, NULL, 0},
                                {"usr/bin/.wh..wh..opq", 0, 0, NULL, 0},
                                {"nowhere/.wh.x", 0, 0, NULL, 0}};
    assert_int_equal(unpack(two, sizeof two / sizeof *two, &err), 0);
    assert_false(is_there(root, "etc/same", NULL));
    assert_true(is_there(root, "etc/absolute", NULL));
    assert_false(is_there(root, "usr/bin/through", NULL));
    assert_true(is_there(root, "usr/bin/new", NULL));
    assert_false(is_there(root, "usr/bin/.wh..wh..opq", NULL));
}

static void nothing_leads_out_of_the_root(void **state)
{
    (void)state;
    char absolute[128];
    struct err err;
    snprintf(absolute, sizeof absolute, "%s", outside);
    const struct entry attacks[][3] = {
        {{"../evil", 0, 0, NULL, 0}},
        {{"a/../../evil", 0, 0, NULL, 0}},
        {{"l", AE_IFLNK, 0777, absolute, 0}, {"l/evil", 0, 0, NULL, 0}},
        {{"up", AE_IFLNK, 0777, "../outside", 0}, {"up/evil", 0, 0, NULL, 0}},
        {{"m", AE_IFLNK, 0777, "/proc/self/cwd", 0}, {"m/evil", 0, 0, NULL, 0}},
        {{"hard", 0, 0, "../layer", 0}},
        {{"s", AE_IFLNK, 0777, "../layer", 0}, {"t", 0, 0, "s", 0}, {"t", 0, 0, NULL, 0}},
        {{"w", AE_IFLNK, 0777, "..", 0}, {"w/.wh.outside", 0, 0, NULL, 0}},
        {{".wh...", 0, 0, NULL, 0}},
        {{".wh.", 0, 0, NULL, 0}},
    };
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) {
        size_t n = 1;
        while (n < 3 && attacks[i][n].path)
            n++;
        (void)unpack(attacks[i], n, &err);
        if (n > 1) /* and again, on what the first one left */
            (void)unpack(attacks[i], n, &err);
        assert_true(nothing_outside());
        assert_true(is_there(dir, "layer", NULL));
    }
}

static void a_layer_of_another_digest_is_not_unpacked(void **state)
{
    (void)state;
    char hex[65];
    struct err err;
    struct oci_unpacked sum = {.bytes = 0};
    const struct entry one[] = {{"other", 0, 0, NULL, 0}};
    AUTO_FD int fd = make_layer(one, 1, hex);
    hex[0] = hex[0] == 'a' ? 'b' : 'a';
    assert_int_equal(oci_layer_unpack(fd, hex, root, &sum, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "another digest"));
    assert_false(is_there(root, "other", NULL));
}

static void the_rules_are_the_same_for_a_runtime(void **state)
{
    (void)state;
    AUTO_BUF struct buf text = BUF_INIT(1 << 20);
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 22);
    const struct json *doc;
    struct err err;
    struct jw w = jw_to(&text);
    seccomp_write(&w, true);
    jw_done(&w);
    assert_int_equal(json_parse(&a, buf_view(&text), 0, &doc, &err), 0);
    size_t mounts = 0, clones = 0, memory = 0;
    json_for_each (rule, json_get(doc, "syscalls")) {
        struct str name = json_at(json_get(rule, "names"), 0)->str;
        mounts += str_eqz(name, "mount");
        clones += str_eqz(name, "clone");
        memory += str_eqz(name, "memfd_create");
        assert_true(str_eqz(json_get_str(rule, "action"), "SCMP_ACT_ERRNO"));
    }
    assert_int_equal(mounts, 1);
    assert_int_equal(clones, 7); /* one for each namespace */
    assert_int_equal(memory, 0);
}

int main(void)
{
    const struct CMUnitTest layers[] = {
        cmocka_unit_test_setup_teardown(what_a_layer_says_is_applied, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_leads_out_of_the_root, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_layer_of_another_digest_is_not_unpacked, set_up,
                                        tear_down),
    };
    const struct CMUnitTest rules[] = {cmocka_unit_test(the_rules_are_the_same_for_a_runtime)};
    int failed = cmocka_run_group_tests_name("rules", rules, NULL, NULL);
    if (geteuid() != 0) { /* owners can only be set by root */
        print_message("layers: skipped: not started as root\n");
        return failed;
    }
    return failed + cmocka_run_group_tests_name("layers", layers, NULL, NULL);
}
