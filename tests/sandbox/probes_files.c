/* Files as a way out: links and races under what the server reads and the file tools write, and
 * archives that are made to be unpacked somewhere else. */
#include "probes.h"

#include "base/fd.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SESSION "sesn_files"

static void inside(struct fixture *f, const char *command)
{
    struct answer a;
    bash(f, &a, SESSION, command);
    if (a.is_error)
        fail_msg("%s: %s", command, a.text.data);
    answer_fini(&a);
}

static bool has_secret(const struct buf *b)
{
    return str_find(buf_view(b), STR("HOST-SECRET")) >= 0;
}

/* Reads on the server what the sandbox keeps exchanging for a link out. */
static void read_while(struct fixture *f, const char *swap, enum workspace_what what,
                       const char *path, int rounds)
{
    struct answer a;
    char command[1024];
    snprintf(command, sizeof command,
             "rm -rf r && mkdir -p r/a && echo mine > r/a/secret && ln -s %s r/b && rm -f stop && "
             "touch ready && n=0; while [ ! -e stop ] && [ $((n+=1)) -lt 200000 ]; do %s; done",
             f->dir, swap);
    AUTO_BUF struct buf input = BUF_INIT(8192);
    buf_printf(&input, "{\"timeout_ms\":20000,\"command\":\"");
    for (const char *p = command; *p; p++)
        buf_printf(&input, "%s%c", *p == '"' || *p == '\\' ? "\\" : "", *p);
    buf_z(&input, "\"}");
    char id[32], ready[256], stop[256];
    snprintf(id, sizeof id, "sevt_race_%d", f->next++);
    snprintf(ready, sizeof ready, "%s/" SESSION "/workspace/ready", f->data);
    snprintf(stop, sizeof stop, "%s/" SESSION "/workspace/stop", f->data);
    unlink(ready);
    call_start(f, &a, SESSION, id, "bash", input.data, (struct call_flags){.existed = true});
    wait_for_file(f, ready);
    for (int i = 0; i < rounds; i++) {
        AUTO_BUF struct buf out = BUF_INIT(16 << 20);
        struct err err;
        (void)read_workspace(f, SESSION, what, path, &out, &err);
        assert_false(has_secret(&out));
    }
    struct err err;
    assert_int_equal(fd_write_file_atomic(stop, STR("x"), 0644, &err), 0);
    answer_wait(&a);
    answer_fini(&a);
    f->port.ack(f->port.self, STR(SESSION), str_z(id));
}

#define EXCHANGE "mv -T r/a r/c; mv -T r/b r/a; mv -T r/a r/b; mv -T r/c r/a"

static void race_of_a_read(struct fixture *f)
{
    read_while(f, EXCHANGE, WORKSPACE_FILE, "r/a/secret", 400);
}

static void race_of_a_listing(struct fixture *f)
{
    read_while(f, EXCHANGE, WORKSPACE_LIST, "r/a", 400);
}

static void race_of_an_export(struct fixture *f)
{
    read_while(f, EXCHANGE, WORKSPACE_TAR, NULL, 2);
}

static void links_out(struct fixture *f)
{
    char command[512];
    snprintf(command, sizeof command,
             "rm -rf l && mkdir l && ln -s %s/secret l/abs && ln -s ../../../../../..%s/secret "
             "l/up && ln -s %s l/dir && ln -s /proc/self/root l/root && ln -s /proc/self/cwd l/cwd "
             "&& ln -s abs l/chain",
             f->dir, f->dir, f->dir);
    inside(f, command);
    static const char *const paths[] = {"l/abs", "l/up", "l/dir/secret", "l/chain"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        AUTO_BUF struct buf out = BUF_INIT(1 << 20);
        struct err err;
        assert_int_not_equal(read_workspace(f, SESSION, WORKSPACE_FILE, paths[i], &out, &err), 0);
        assert_false(has_secret(&out));
    }
    char through[256];
    static const char *const magic[] = {"l/root", "l/cwd"};
    for (size_t i = 0; i < 2; i++) {
        AUTO_BUF struct buf out = BUF_INIT(1 << 20);
        struct err err;
        snprintf(through, sizeof through, "%s%s/secret", magic[i], f->dir);
        assert_int_not_equal(read_workspace(f, SESSION, WORKSPACE_FILE, through, &out, &err), 0);
        assert_false(has_secret(&out));
    }
}

static void links_in_an_export(struct fixture *f)
{
    char command[256];
    snprintf(command, sizeof command,
             "ln -sf %s/secret /mnt/session/outputs/leak; ln -sfn %s /mnt/session/outputs/dir",
             f->dir, f->dir);
    inside(f, command);
    AUTO_BUF struct buf out = BUF_INIT(16 << 20);
    struct err err;
    assert_int_equal(read_workspace(f, SESSION, WORKSPACE_OUTPUTS, NULL, &out, &err), 0);
    assert_false(has_secret(&out));
    inside(f, "rm -f /mnt/session/outputs/*");
}

/* The file tools run inside, so a link leads to what the sandbox sees. */
static void tools_through_links(struct fixture *f)
{
    char command[256], input[512];
    struct answer a;
    snprintf(command, sizeof command,
             "rm -rf t && mkdir t && ln -s %s/secret t/out && ln -s "
             "/etc/passwd t/passwd && ln -s /proc/1/mem t/mem",
             f->dir);
    inside(f, command);
    call_tool(f, &a, SESSION, "read", "{\"file_path\":\"/workspace/t/out\"}");
    assert_true(a.is_error);
    assert_false(has_secret(&a.text));
    answer_fini(&a);
    static const char *const targets[] = {"/workspace/t/passwd", "/workspace/t/mem", "/usr/bin/x",
                                          "/proc/sys/kernel/core_pattern"};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        snprintf(input, sizeof input, "{\"file_path\":\"%s\",\"content\":\"root::0:0\"}",
                 targets[i]);
        call_tool(f, &a, SESSION, "write", input);
        assert_true(a.is_error);
        answer_fini(&a);
    }
    inside(f, "! grep root::0:0 /etc/passwd");
}

/* ---- archives ---- */

#define TAR(body)                                                                                  \
    "python3 -c 'import tarfile,io\nt=tarfile.open(\"bad.tar\",\"w\")\ndef f(n,**k):\n"            \
    " i=tarfile.TarInfo(n)\n for a,b in k.items(): setattr(i,a,b)\n"                               \
    " t.addfile(i,io.BytesIO(b\"x\"*i.size))\nf(\"good\",size=1)\n" body "\nt.close()'"

static int import_made(struct fixture *f, const char *make)
{
    char path[128];
    struct err err;
    assert_int_equal(on_host(f, make), 0);
    snprintf(path, sizeof path, "%s/bad.tar", f->dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    return import_workspace(f, "sesn_import", fd, &err);
}

/* What keeps attacks out must let work through. */
static void every_tool_works(struct fixture *f)
{
    static const char *const calls[][3] = {
        {"write", "{\"file_path\":\"tools/a.txt\",\"content\":\"one needle\\n\"}", "wrote"},
        {"read", "{\"file_path\":\"tools/a.txt\"}", "needle"},
        {"grep", "{\"pattern\":\"need[l]e\",\"path\":\"/workspace/tools\"}", "a.txt:1:one needle"},
        {"edit", "{\"file_path\":\"tools/a.txt\",\"old_string\":\"one\",\"new_string\":\"two\"}",
         "edited"},
        {"glob", "{\"pattern\":\"tools/*.txt\"}", "a.txt"},
        {"bash", "{\"command\":\"cat tools/a.txt\"}", "two needle"},
    };
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        struct answer a;
        call_tool(f, &a, "sesn_probe", calls[i][0], calls[i][1]);
        if (a.is_error || str_find(buf_view(&a.text), str_z(calls[i][2])) < 0)
            fail_msg("%s said: %s", calls[i][0], a.text.data);
        answer_fini(&a);
    }
}

static void absolute(struct fixture *f)
{
    assert_int_equal(import_made(f, TAR("f(\"/tmp/ostler-planted\",size=1)")), ERR_INVALID);
    assert_int_not_equal(access("/tmp/ostler-planted", F_OK), 0);
}

static void dots(struct fixture *f)
{
    assert_int_equal(import_made(f, TAR("f(\"a/../../../planted\",size=1)")), ERR_INVALID);
    assert_int_equal(import_made(f, TAR("f(\"..\",size=1)")), ERR_INVALID);
}

static void devices(struct fixture *f)
{
    assert_int_equal(import_made(f, TAR("f(\"d\",type=tarfile.CHRTYPE,devmajor=1,devminor=3)")),
                     ERR_INVALID);
    assert_int_equal(import_made(f, TAR("f(\"d\",type=tarfile.BLKTYPE,devmajor=8)")), ERR_INVALID);
}

static void hard_links(struct fixture *f)
{
    assert_int_equal(import_made(f, TAR("f(\"h\",type=tarfile.LNKTYPE,linkname=\"../../secret\")")),
                     ERR_INVALID);
    assert_int_equal(import_made(f, TAR("f(\"h\",type=tarfile.LNKTYPE,linkname=\"/etc/passwd\")")),
                     ERR_INVALID);
}

static void through_a_link(struct fixture *f)
{
    (void)import_made(f, TAR("f(\"out\",type=tarfile.SYMTYPE,linkname=\"/tmp\")\n"
                             "f(\"out/ostler-planted\",size=1)"));
    assert_int_not_equal(access("/tmp/ostler-planted", F_OK), 0);
}

static void setuid_files(struct fixture *f)
{
    assert_int_equal(import_made(f, TAR("f(\"s\",size=1,mode=0o6755,uid=0,gid=0)")), 0);
    char path[256];
    struct stat st;
    snprintf(path, sizeof path, "%s/sesn_import/workspace/s", f->data);
    assert_int_equal(stat(path, &st), 0);
    assert_true(!(st.st_mode & 06000) || st.st_uid != 0 || geteuid() != 0);
}

static void bomb(struct fixture *f)
{
    assert_int_equal(import_made(f, "head -c 120000000 /dev/zero | gzip -1 > z.gz && python3 -c '"
                                    "import tarfile\nimport gzip,io\n"
                                    "t=tarfile.open(\"bad.tar\",\"w:gz\",compresslevel=1)\n"
                                    "i=tarfile.TarInfo(\"z\"); i.size=120000000\n"
                                    "t.addfile(i,gzip.open(\"z.gz\")); t.close()' && rm z.gz"),
                     ERR_TOO_LARGE);
}

static void many_entries(struct fixture *f)
{
    /* Refused or unpacked: either way what is there stays below the limit of the disk. */
    int rc = import_made(f, "python3 -c 'import tarfile\nt=tarfile.open(\"bad.tar\",\"w:gz\")\n"
                            "for n in range(3000): t.addfile(tarfile.TarInfo(\"e%d\"%n))\n"
                            "t.close()'");
    assert_true(rc == 0 || rc == ERR_TOO_LARGE);
}

static void garbage(struct fixture *f)
{
    assert_int_equal(import_made(f, "head -c 5000 /dev/urandom > bad.tar"), ERR_INVALID);
    assert_int_equal(import_made(f, "tar -cf - /usr/bin/env 2>/dev/null | head -c 3000 > bad.tar"),
                     ERR_INVALID);
}

static void holes(struct fixture *f)
{
    inside(f, "truncate -s 1G /mnt/session/outputs/hole 2>/dev/null || "
              "truncate -s 30M /mnt/session/outputs/hole");
    AUTO_BUF struct buf out = BUF_INIT((size_t)256 << 20);
    struct err err;
    int rc = read_workspace(f, SESSION, WORKSPACE_OUTPUTS, NULL, &out, &err);
    assert_true(rc == ERR_UNAVAILABLE || out.len < (size_t)200 << 20);
    inside(f, "rm -f /mnt/session/outputs/hole");
}

/* ---- copies for a grader ---- */

struct copied {
    bool done;
    int code;
};

static void on_copied(void *arg, const struct err *err)
{
    struct copied *c = arg;
    c->done = true;
    c->code = err->code;
}

static void in_copy(struct fixture *f, const char *copy, bool read_only, const char *command,
                    const char *want)
{
    struct copied c = {.done = false};
    struct answer a;
    f->port.copy(f->port.self, STR(SESSION), str_z(copy), read_only, on_copied, &c);
    while (!c.done)
        turn(f, 10);
    assert_int_equal(c.code, 0);
    bash(f, &a, copy, command);
    if (strcmp(a.text.data, want) != 0)
        fail_msg("%s\n said: %s\n not:  %s", command, a.text.data, want);
    answer_fini(&a);
    f->port.destroy(f->port.self, str_z(copy), true);
    char gone[ID_MAX + 32];
    snprintf(gone, sizeof gone, "test ! -e data/%s", copy);
    for (int i = 0; on_host(f, gone) != 0; i++) {
        assert_true(i < 500);
        turn(f, 20);
    }
}

static void read_only_copy(struct fixture *f)
{
    inside(f, "mkdir -p c/closed; echo one > c/f; echo two > c/closed/g; chmod 0 c/closed/g; "
              "chmod 500 c/closed; ln -s {dir}/secret c/l; echo out > /mnt/session/outputs/c; "
              "echo rc > ~/c");
    in_copy(
        f, "grade_probe", true,
        "cat c/f /mnt/session/outputs/c ~/c; chmod 600 c/closed/g 2>/dev/null; for d in "
        "/workspace /home/agent /mnt/session/outputs /mnt/session/uploads /etc /usr /run /dev "
        "/ /var; do (: > $d/.p) 2>/dev/null && echo wrote $d; done; (echo x > c/f) 2>/dev/null; "
        "rm -f c/f 2>/dev/null; cat c/f; echo t > /tmp/t && cat /tmp/t",
        "one\nout\nrc\none\nt");
    in_copy(f, "grade_probe_two", false, "echo two > c/f; cat c/f; stat -c %a c/closed",
            "two\n500");
    inside(f,
           "test \"$(cat c/f)\" = one && chmod -R u+rwx c && rm -r c /mnt/session/outputs/c ~/c");
}

static const struct probe rows[] = {
    {"copy_for_a_grader", "write into what a grader looks at, or from there", NULL, NULL,
     read_only_copy},
    {"every_tool_works", "bash, read, write, edit, glob and grep as the agent uses them", NULL,
     NULL, every_tool_works},
    {"links_hard_to_the_base", "change a file of the base through a hard link",
     "ln /etc/passwd x 2>&1; ln /usr/bin/env x 2>&1; rm -f x", "*Invalid cross-device link", NULL},
    {"links_read_by_the_server", "have the server read a link that leads out", NULL, NULL,
     links_out},
    {"links_in_an_export", "have the server pack what a link points at", NULL, NULL,
     links_in_an_export},
    {"links_under_the_file_tools", "have a file tool write through a link", NULL, NULL,
     tools_through_links},
    {"race_of_a_read", "exchange a directory for a link while the server opens a file in it", NULL,
     NULL, race_of_a_read},
    {"race_of_a_listing", "the same while it lists", NULL, NULL, race_of_a_listing},
    {"race_of_an_export", "the same while it packs", NULL, NULL, race_of_an_export},
    {"archive_absolute_path", "unpack to an absolute path", NULL, NULL, absolute},
    {"archive_dots", "unpack above the workspace", NULL, NULL, dots},
    {"archive_devices", "unpack a device", NULL, NULL, devices},
    {"archive_hard_links", "unpack a hard link to a file of the host", NULL, NULL, hard_links},
    {"archive_through_a_link", "unpack a link, then a file behind it", NULL, NULL, through_a_link},
    {"archive_setuid", "unpack a setuid program of root", NULL, NULL, setuid_files},
    {"archive_bomb", "unpack more than the disk may hold", NULL, NULL, bomb},
    {"archive_many_entries", "unpack very many files", NULL, NULL, many_entries},
    {"archive_garbage", "crash the reader of archives", NULL, NULL, garbage},
    {"export_of_holes", "fill the server's disk with holes that come out as zeros", NULL, NULL,
     holes},
};
PROBE_TABLE(probes_files);
