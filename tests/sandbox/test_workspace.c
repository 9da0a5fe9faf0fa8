/* Workspaces as files: what is imported, listed and read, and that the patch of what an agent
 * changed applies to the original. argv[1]: the hand. */
#include "fixture.h"

#include "base/fd.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct fixture f;
static char missing[256];

#define NEEDS_SANDBOX()                                                                            \
    do {                                                                                           \
        if (missing[0]) {                                                                          \
            print_message("skipped: %s\n", missing);                                               \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

static int open_shared(void **state)
{
    (void)state;
    fixture_open(&f, &(struct sandbox_limits){.disk_mb = 64});
    snprintf(missing, sizeof missing, "%s", fixture_lacks(&f));
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    fixture_close(&f);
    return 0;
}

/* A shell command on the host, in the fixture's directory. */
static int sh(const char *command)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (chdir(f.dir) < 0)
            _exit(126);
        setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
        execl("/bin/sh", "sh", "-ec", command, (char *)NULL);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int open_file(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", f.dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void import(const char *session, const char *tar)
{
    struct err err;
    if (import_workspace(&f, session, open_file(tar), &err) != 0)
        fail_msg("%s: %s", tar, err.msg);
}

static void inside(const char *session, const char *command)
{
    struct answer a;
    bash(&f, &a, session, command);
    if (a.is_error)
        fail_msg("%s: %s", command, a.text.data);
    answer_fini(&a);
}

static void fetch(const char *session, enum workspace_what what, const char *path, struct buf *out)
{
    struct err err;
    *out = BUF_INIT(256 << 20);
    if (read_workspace(&f, session, what, path, out, &err) != 0)
        fail_msg("%s: %s", path, err.msg);
}

static void save(const char *name, const struct buf *data)
{
    char path[160];
    struct err err;
    snprintf(path, sizeof path, "%s/%s", f.dir, name);
    assert_int_equal(fd_write_file_atomic(path, buf_view(data), 0644, &err), 0);
}

/* A tree with everything that makes patches go wrong. */
static const char make_tree[] =
    "rm -rf tree && mkdir -p tree/src tree/sub/vendored tree/odd && cd tree\n"
    "git init -q . && printf 'build/\\n*.log\\n' > .gitignore\n"
    "printf '* text=auto\\n*.secret filter=steal\\n' > .gitattributes\n"
    "seq 1 50 > src/a.c; printf 'one\\r\\ntwo\\r\\n' > src/crlf.txt; printf 'no newline' > "
    "src/end\n"
    "head -c 3000 /dev/urandom > src/binary; printf '#!/bin/sh\\n' > run.sh; chmod 755 run.sh\n"
    "ln -s src/a.c link; ln -s /etc/passwd outside; touch 'odd/a b' 'odd/q\"uote' 'odd/n\nl'\n"
    "printf x > \"odd/$(printf 'caf\\303\\251')\"; printf kept > kept.log\n"
    "(cd sub/vendored && git init -q . && echo v > v.c)\n"
    "git add -A . ':!sub' && git -c user.name=a -c user.email=b commit -qm base\n";

static void the_patch_applies_to_the_original(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    assert_int_equal(sh(make_tree), 0);
    assert_int_equal(sh("tar -czf tree.tgz -C tree ."), 0);
    import("sesn_p", "tree.tgz");
    struct buf none, patch;
    fetch("sesn_p", WORKSPACE_PATCH, NULL, &none);
    assert_int_equal(none.len, 0);
    buf_fini(&none);
    inside(
        "sesn_p",
        "sed -i 's/^25$/twenty-five/' src/a.c && printf 'one\\r\\nTWO\\r\\n' > src/crlf.txt && "
        "printf 'no newline at all' > src/end && printf 'b\\0c' >> src/binary && chmod 644 run.sh "
        "&& "
        "mkdir build && echo out > build/out && echo l > new.log && echo changed > kept.log && "
        "rm link && ln -s src/end link && rm 'odd/a b' && echo new > src/new.c && mkdir fresh && "
        "touch fresh/empty && echo w >> sub/vendored/v.c && echo x > sub/vendored/new.c && "
        "rm -r odd/caf* && git config user.name x && git -c user.email=y commit -qam mine && "
        "echo after > src/after-commit && printf 'ignored\\n' > .git/hooks/evil");
    fetch("sesn_p", WORKSPACE_PATCH, NULL, &patch);
    save("p.patch", &patch);
    struct str text = buf_view(&patch);
    assert_true(str_find(text, STR("+twenty-five")) >= 0);
    assert_true(str_find(text, STR("b/src/after-commit")) >= 0);
    assert_true(str_find(text, STR("b/kept.log")) >= 0);
    assert_true(str_find(text, STR("b/sub/vendored/v.c")) >= 0);
    assert_true(str_find(text, STR("b/sub/vendored/new.c")) >= 0);
    assert_true(str_find(text, STR("b/new.log")) < 0);
    assert_true(str_find(text, STR("build/out")) < 0);
    assert_true(str_find(text, STR("hooks")) < 0);
    buf_fini(&patch);
    assert_int_equal(sh("cd tree && git apply --check ../p.patch && git apply ../p.patch"), 0);
    assert_int_equal(
        sh("cd tree && [ \"$(sed -n 25p src/a.c)\" = twenty-five ] && [ ! -x run.sh ] && "
           "[ \"$(readlink link)\" = src/end ] && [ -e fresh/empty ] && "
           "[ \"$(cat kept.log)\" = changed ] && "
           "[ \"$(printf 'one\\r\\nTWO\\r\\n' | cksum)\" = \"$(cksum < src/crlf.txt)\" ]"),
        0);
}

static void a_workspace_without_an_import_is_all_new(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct buf patch;
    inside("sesn_e", "echo hello > hello.txt");
    fetch("sesn_e", WORKSPACE_PATCH, NULL, &patch);
    save("e.patch", &patch);
    buf_fini(&patch);
    assert_int_equal(
        sh("rm -rf e && mkdir e && cd e && git init -q . && git apply --check ../e.patch && "
           "git apply ../e.patch && [ \"$(cat hello.txt)\" = hello ]"),
        0);
}

static void types_of_files_may_change(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    assert_int_equal(sh("rm -rf t && mkdir -p t/dir && echo 1 > t/dir/f && echo 2 > t/file && "
                        "ln -s file t/link && tar -cf t.tar -C t ."),
                     0);
    import("sesn_t", "t.tar");
    inside("sesn_t",
           "rm -r dir && echo now > dir && rm file && mkdir file && echo in > file/x && rm link && "
           "echo plain > link && mkfifo pipe && python3 -c 'import socket; "
           "socket.socket(socket.AF_UNIX).bind(\"sock\")'");
    struct buf patch;
    fetch("sesn_t", WORKSPACE_PATCH, NULL, &patch);
    save("t.patch", &patch);
    buf_fini(&patch);
    assert_int_equal(
        sh("cd t && git init -q . && git apply --check ../t.patch && git apply ../t.patch && "
           "[ \"$(cat dir)\" = now ] && [ \"$(cat file/x)\" = in ] && [ ! -L link ]"),
        0);
}

static void the_tree_cannot_trick_git(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    assert_int_equal(sh("rm -rf g && mkdir g && echo 1 > g/f && tar -cf g.tar -C g ."), 0);
    import("sesn_i", "g.tar");
    inside("sesn_i", "git init -q . && git config core.fsmonitor 'touch /workspace/pwned' && "
                     "git config filter.x.clean 'touch /workspace/pwned; cat' && "
                     "git config diff.external 'touch /workspace/pwned' && echo '* filter=x "
                     "diff=x' > .gitattributes "
                     "&& ln -s /etc/passwd .gitignore && ln -s / root && mkdir d && echo 2 > f");
    struct buf patch;
    fetch("sesn_i", WORKSPACE_PATCH, NULL, &patch);
    assert_true(str_find(buf_view(&patch), STR("+2")) >= 0);
    assert_true(str_find(buf_view(&patch), STR("agent:x:")) < 0);
    buf_fini(&patch);
    inside("sesn_i", "[ ! -e pwned ]");
}

struct bad_tar {
    const char *name, *make;
    int code;
};

static void bad_archives_are_refused_and_change_nothing(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
#define TAR(body)                                                                                  \
    "python3 -c 'import tarfile,io\nt=tarfile.open(\"bad.tar\",\"w\")\ndef f(n,**k):\n"            \
    " i=tarfile.TarInfo(n)\n for a,b in k.items(): setattr(i,a,b)\n"                               \
    " t.addfile(i,io.BytesIO(b\"x\"*i.size))\nf(\"good\",size=1)\n" body "\nt.close()'"
    static const struct bad_tar rows[] = {
        {"absolute path", TAR("f(\"/tmp/x\",size=1)"), ERR_INVALID},
        {"dots", TAR("f(\"a/../../x\",size=1)"), ERR_INVALID},
        {"only dots", TAR("f(\"..\",size=1)"), ERR_INVALID},
        {"character device", TAR("f(\"d\",type=tarfile.CHRTYPE,devmajor=1,devminor=3)"),
         ERR_INVALID},
        {"block device", TAR("f(\"d\",type=tarfile.BLKTYPE,devmajor=8)"), ERR_INVALID},
        {"fifo", TAR("f(\"p\",type=tarfile.FIFOTYPE)"), ERR_INVALID},
        {"hard link out", TAR("f(\"h\",type=tarfile.LNKTYPE,linkname=\"../../etc/passwd\")"),
         ERR_INVALID},
        {"hard link to an absolute path",
         TAR("f(\"h\",type=tarfile.LNKTYPE,linkname=\"/etc/passwd\")"), ERR_INVALID},
        {"too much", TAR("f(\"big\",size=70<<20)"), ERR_TOO_LARGE},
        {"garbage", "head -c 5000 /dev/urandom > bad.tar", ERR_INVALID},
        {"text", "seq 1 2000 > bad.tar", ERR_INVALID},
        {"cut", "tar -cf - /usr/bin/env | head -c 3000 > bad.tar", ERR_INVALID},
        {"a bomb", "head -c 100000000 /dev/zero > z && tar -czf bad.tar z && rm z", ERR_TOO_LARGE},
        {"a zip",
         "python3 -c 'import zipfile; zipfile.ZipFile(\"bad.tar\",\"w\").writestr(\"a\",\"b\")'",
         ERR_INVALID},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct err err;
        assert_int_equal(sh(rows[i].make), 0);
        int rc = import_workspace(&f, "sesn_b", open_file("bad.tar"), &err);
        if (rc != rows[i].code)
            fail_msg("%s: %s: %s", rows[i].name, err_name(rc), err.msg);
    }
    struct buf list;
    fetch("sesn_b", WORKSPACE_LIST, "", &list);
    assert_string_equal(list.data, "{\"data\":[]}");
    buf_fini(&list);
}

static void links_in_an_archive_lead_nowhere_outside(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    assert_int_equal(
        sh("python3 -c 'import tarfile,io\nt=tarfile.open(\"l.tar\",\"w\")\n"
           "i=tarfile.TarInfo(\"out\"); i.type=tarfile.SYMTYPE; i.linkname=\"/tmp\"; t.addfile(i)\n"
           "i=tarfile.TarInfo(\"out/ostler-planted\"); i.size=1; t.addfile(i,io.BytesIO(b\"x\"))\n"
           "t.close()'; rm -f /tmp/ostler-planted"),
        0);
    struct err err;
    (void)import_workspace(&f, "sesn_l", open_file("l.tar"), &err);
    assert_int_not_equal(access("/tmp/ostler-planted", F_OK), 0);
}

static void names_survive_import_and_export(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    assert_int_equal(
        sh("rm -rf n && mkdir n && cd n && touch \"$(printf 'caf\\303\\251')\" "
           "\"$(printf 'latin\\351')\" \"$(printf '%0200d' 7)\" 'a\nb' && mkdir -m 755 d && "
           "echo deep > d/f && ln d/f d/hard && ln -s ../x d/sym && chmod 755 d/f && "
           "tar --zstd -cf ../n.tar.zst ."),
        0);
    import("sesn_n", "n.tar.zst");
    struct buf tar;
    fetch("sesn_n", WORKSPACE_TAR, NULL, &tar);
    save("back.tar", &tar);
    buf_fini(&tar);
    assert_int_equal(
        sh("rm -rf back && mkdir back && tar -xf back.tar -C back && diff -r --no-dereference n "
           "back && [ -x back/d/f ]"),
        0);
}

static void directories_and_files_are_listed_and_read(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    inside("sesn_f", "mkdir -p d/e; printf hello > d/f; ln -s f d/good; ln -s /etc/passwd d/bad; "
                     "ln -s ../../../../../../etc/passwd d/worse; mkfifo d/pipe; chmod 700 d/e");
    struct buf b;
    fetch("sesn_f", WORKSPACE_LIST, "d", &b);
    assert_true(str_find(buf_view(&b), STR("{\"path\":\"d/e\",\"type\":\"directory\"")) > 0);
    assert_true(str_find(buf_view(&b), STR("{\"path\":\"d/f\",\"type\":\"file\",\"size_bytes\":5,"
                                           "\"mode\":\"0644\"}")) > 0);
    assert_true(str_find(buf_view(&b), STR("\"type\":\"symlink\"")) > 0);
    buf_fini(&b);
    static const char *const good[] = {"d/f", "/d/f", "/workspace/d/f", "d/good", "d/./e/../f"};
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        fetch("sesn_f", WORKSPACE_FILE, good[i], &b);
        assert_string_equal(b.data, "hello");
        buf_fini(&b);
    }
    static const struct {
        enum workspace_what what;
        const char *path;
        int code;
    } bad[] = {
        {WORKSPACE_FILE, "d/bad", ERR_INVALID},   {WORKSPACE_FILE, "d/worse", ERR_INVALID},
        {WORKSPACE_FILE, "../home", ERR_INVALID}, {WORKSPACE_FILE, "d", ERR_INVALID},
        {WORKSPACE_FILE, "d/pipe", ERR_INVALID},  {WORKSPACE_FILE, "nope", ERR_NOT_FOUND},
        {WORKSPACE_LIST, "nope", ERR_NOT_FOUND},  {WORKSPACE_LIST, "d/f", ERR_INVALID},
        {WORKSPACE_LIST, "..", ERR_INVALID},      {WORKSPACE_LIST, "../../..", ERR_INVALID},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct err err;
        b = BUF_INIT(1 << 20);
        if (read_workspace(&f, "sesn_f", bad[i].what, bad[i].path, &b, &err) != bad[i].code)
            fail_msg("%s: %s: %s", bad[i].path, err_name(err.code), err.msg);
        buf_fini(&b);
    }
}

static void outputs_come_out(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    inside("sesn_o", "mkdir /mnt/session/outputs/r; echo report > /mnt/session/outputs/r/x.md");
    struct buf tar;
    fetch("sesn_o", WORKSPACE_OUTPUTS, NULL, &tar);
    save("o.tar", &tar);
    buf_fini(&tar);
    assert_int_equal(sh("tar -xOf o.tar ./r/x.md | grep -qx report"), 0);
}

static void jobs_of_one_session_wait_for_each_other(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    assert_int_equal(sh("rm -rf q && mkdir q && echo 1 > q/f && tar -cf q.tar -C q ."), 0);
    for (int i = 0; i < 3; i++)
        import("sesn_q", "q.tar");
    struct buf list;
    fetch("sesn_q", WORKSPACE_LIST, "/", &list);
    assert_string_equal(
        list.data,
        "{\"data\":[{\"path\":\"f\",\"type\":\"file\",\"size_bytes\":2,\"mode\":\"0644\"}]}");
    buf_fini(&list);
}

static void holes_do_not_fill_the_servers_disk(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    inside("sesn_h", "cd /mnt/session/outputs; truncate -s 40M fits; cd; cd /workspace; "
                     "truncate -s 1G hole");
    AUTO_BUF struct buf out = BUF_INIT(256 << 20);
    struct err err;
    assert_int_equal(read_workspace(&f, "sesn_h", WORKSPACE_TAR, "", &out, &err), ERR_UNAVAILABLE);
    assert_true(str_find(str_z(err.msg), STR("larger than 128 MB")) > 0);
    buf_clear(&out);
    assert_int_equal(read_workspace(&f, "sesn_h", WORKSPACE_OUTPUTS, "", &out, &err), 0);
    assert_true(out.len > 40 << 20);
}

static void what_starts_sandboxes_hands_on_no_environment(void **state)
{
    (void)state;
    char command[PATH_MAX + 640], hand[PATH_MAX];
    assert_non_null(realpath(f.cfg.hand, hand));
    snprintf(command, sizeof command,
             "OSTLER_TEST_SECRET=hidden '%s' --launch -- env >'%s/env' && "
             "grep -q '^PATH=' '%s/env' && [ $(wc -l <'%s/env') = 1 ]",
             hand, f.dir, f.dir, f.dir);
    assert_int_equal(sh(command), 0);
}

int main(int argc, char **argv)
{
    fixture_hand = argc > 1 ? argv[1] : "hand";
    signal(SIGPIPE, SIG_IGN);
    umask(022);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_patch_applies_to_the_original),
        cmocka_unit_test(a_workspace_without_an_import_is_all_new),
        cmocka_unit_test(types_of_files_may_change),
        cmocka_unit_test(the_tree_cannot_trick_git),
        cmocka_unit_test(bad_archives_are_refused_and_change_nothing),
        cmocka_unit_test(links_in_an_archive_lead_nowhere_outside),
        cmocka_unit_test(names_survive_import_and_export),
        cmocka_unit_test(directories_and_files_are_listed_and_read),
        cmocka_unit_test(outputs_come_out),
        cmocka_unit_test(jobs_of_one_session_wait_for_each_other),
        cmocka_unit_test(holes_do_not_fill_the_servers_disk),
        cmocka_unit_test(what_starts_sandboxes_hands_on_no_environment),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
