/* Copies of sessions' files with real sandboxes: what is in them, what they can and cannot reach,
 * and that nothing of them stays. argv[1]: the hand; argv[2]: "oci" or "unsafe", another driver;
 * argv[2], argv[3]: "die" and a directory to die in. */
#include "fixture.h"

#include "base/fd.h"
#include "sandbox/box.h"
#include "sandbox/copy.h"
#include "sandbox/impl.h"
#include "store/checkpoints.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SESSION "sesn_worker"
#define COPY "grade_one"

static const char *self;
static struct fixture f;

/* ---- helpers ---- */

struct copied {
    bool done;
    struct err err;
};

static void on_copied(void *arg, const struct err *err)
{
    struct copied *c = arg;
    assert_false(c->done);
    c->done = true;
    c->err = *err;
}

static void begin_copy(const char *session, const char *copy, bool read_only, struct copied *c)
{
    *c = (struct copied){.done = false};
    f.port.copy(f.port.self, str_z(session), str_z(copy), read_only, on_copied, c);
    assert_false(c->done);
}

static void wait_copied(struct copied *c)
{
    for (int i = 0; !c->done; i++) {
        assert_true(i < 6000);
        turn(&f, 5);
    }
}

static void copy(const char *session, const char *id, bool read_only)
{
    struct copied c;
    begin_copy(session, id, read_only, &c);
    wait_copied(&c);
    if (c.err.code)
        fail_msg("%s", c.err.msg);
}

static bool in_data(const char *name)
{
    char path[256];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", f.data, name);
    return lstat(path, &st) == 0;
}

static void destroy(const char *id)
{
    f.port.destroy(f.port.self, str_z(id), true);
    for (int i = 0; in_data(id) || box_find(f.s, str_z(id)); i++) {
        assert_true(i < 3000);
        turn(&f, 5);
    }
}

static void says(const char *session, const char *command, const char *want)
{
    bash_says(&f, session, command, want);
}

static void does(const char *session, const char *command)
{
    says(session, command, "");
}

static void same(const char *a, const char *b, const char *command)
{
    struct answer x, y;
    bash(&f, &x, a, command);
    bash(&f, &y, b, command);
    if (strcmp(x.text.data, y.text.data) != 0)
        fail_msg("%s\n here:  %s\n there: %s", command, x.text.data, y.text.data);
    assert_true(x.text.len > 0);
    answer_fini(&x);
    answer_fini(&y);
}

static int open_fixture(void **state)
{
    (void)state;
    fixture_open_stored(&f);
    return 0;
}

static int close_fixture(void **state)
{
    (void)state;
    fixture_close(&f);
    return 0;
}

/* ---- what is in it ---- */

static void a_copy_has_the_files_of_the_session(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    does(SESSION,
         "mkdir -p a/b 'sp ace'; echo one > a/b/f; chmod 640 a/b/f; chmod 700 a; ln -s b/f a/l; "
         "ln -s /nowhere dangling; printf x > \"$(printf 'new\\nline')\"; : > empty; "
         "head -c 300000 /dev/urandom > 'sp ace/r'; truncate -s 64M sparse; printf end >> sparse; "
         "ln a/b/f hard; echo out > /mnt/session/outputs/o; echo rc > ~/.rc; echo t > /tmp/t; "
         "touch -d 2001-02-03T04:05:06 a/b/f a");
    copy(SESSION, COPY, true);
    static const char *const looks[] = {
        "find /workspace /mnt/session/outputs /home/agent -type f -print0 | sort -z | "
        "xargs -0 sha256sum",
        "find /workspace /mnt/session/outputs /home/agent -printf '%P %y %m %l %Ts %U\\n' | sort | "
        "grep -v '^ '",
    };
    for (size_t i = 0; i < COUNT_OF(looks); i++)
        same(SESSION, COPY, looks[i]);
    says(COPY, "cat a/l; ls /tmp; du -k sparse | cut -f1 | grep -c '^[0-9]\\{1,3\\}$'", "one\n1");
    destroy(COPY);
}

static void what_a_copy_is_not_told_of_stays_out(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    does(SESSION,
         "mkfifo pipe; echo kept > kept; export SECRET=1; cd /tmp; "
         "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/workspace/s\")' "
         "|| true");
    copy(SESSION, COPY, true);
    says(COPY, "ls; echo ${SECRET:-unset}; pwd", "kept\nunset\n/workspace");
    destroy(COPY);
}

static void a_session_without_files_has_an_empty_copy(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    copy("sesn_none", COPY, true);
    says(COPY, "find /workspace /mnt/session/outputs -mindepth 1", "");
    assert_false(in_data("sesn_none"));
    destroy(COPY);
}

/* ---- what it can write ---- */

static void a_read_only_copy_can_be_written_to_nowhere_but_in_tmp(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    if (fixture_unsafe)
        skip();
    does(SESSION, "echo one > f; echo out > /mnt/session/outputs/o");
    copy(SESSION, COPY, true);
    says(COPY, "echo a > /tmp/a && echo b > /dev/shm/b && cat /tmp/a /dev/shm/b", "a\nb");
    /* Every directory that there is, and every file by its user. */
    says(
        COPY,
        "for d in $(find / -xdev -type d 2>/dev/null; echo /workspace /home/agent /run /var /etc "
        "/mnt/session /mnt/session/outputs /mnt/session/uploads /dev /opt /root /usr/local/bin); "
        "do case $d in /tmp*|/dev/shm*|/proc*|/var/tmp*) continue;; esac; "
        "(: > $d/.probe) 2>/dev/null && echo $d; done; "
        "echo x 2>/dev/null > f; rm -f f 2>/dev/null; chmod 777 f 2>/dev/null; mv f g 2>/dev/null; "
        "echo y 2>/dev/null >> /mnt/session/outputs/o; cat f /mnt/session/outputs/o",
        "one\nout");
    says(COPY, "mount -o remount,rw /workspace 2>/dev/null || echo no", "no");
    destroy(COPY);
}

static void what_either_writes_the_other_never_sees(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    does(SESSION, "echo one > f; ln f h; mkdir d");
    copy(SESSION, COPY, false);
    does(COPY, "echo two > f; echo x > d/x; echo y > /mnt/session/outputs/y; echo z > ~/z");
    says(SESSION, "cat f h; ls d /mnt/session/outputs; ls ~/z 2>/dev/null",
         "one\none\n/mnt/session/outputs:\n\nd:");
    does(SESSION, "echo three > f; rm -r d");
    says(COPY, "cat f h d/x", "two\none\nx");
    destroy(COPY);
    says(SESSION, "cat f", "three");
}

static void two_copies_at_once_are_each_their_own(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct copied a, b;
    does(SESSION, "for i in $(seq 200); do echo $i > f$i; done");
    begin_copy(SESSION, "grade_a", false, &a);
    begin_copy(SESSION, "grade_b", false, &b);
    wait_copied(&a);
    wait_copied(&b);
    assert_int_equal(a.err.code, 0);
    assert_int_equal(b.err.code, 0);
    does("grade_a", "rm f*; echo a > f1");
    says("grade_b", "cat f1 f200; ls | wc -l", "1\n200\n200");
    if (!fixture_unsafe && geteuid() == 0)
        assert_int_equal(on_host(&f, "test \"$(stat -c %u data/grade_a/workspace)\" != "
                                     "\"$(stat -c %u data/grade_b/workspace)\""),
                         0);
    destroy("grade_a");
    destroy("grade_b");
}

static void a_copy_under_an_id_that_is_taken_fails(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct copied c;
    does(SESSION, "echo one > f");
    begin_copy("sesn_other", SESSION, false, &c);
    wait_copied(&c);
    assert_int_equal(c.err.code, ERR_EXISTS);
    says(SESSION, "cat f", "one");
}

/* ---- hostile trees ---- */

static void links_out_of_the_files_lead_nowhere(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    char command[512], secret[256], want[512];
    snprintf(secret, sizeof secret, "%s/secret", f.dir);
    assert_int_equal(on_host(&f, "echo secret > secret; chmod 644 secret"), 0);
    does("sesn_victim", "echo victim > v; chmod 755 .");
    snprintf(command, sizeof command,
             "ln -s %s s; ln -s /etc e; ln -s ../../sesn_victim/workspace v; ln -s / root; "
             "ln -s %s/data/sesn_victim/workspace/v w; mkdir d; ln -s ../.. d/up",
             secret, f.dir);
    does(SESSION, command);
    copy(SESSION, COPY, false);
    snprintf(want, sizeof want, "%s\n/etc\n../../sesn_victim/workspace", secret);
    says(COPY, "readlink s e v", want);
    if (!fixture_unsafe)
        says(COPY, "cat s v/v w 2>/dev/null; true", "");
    /* On the host only links lie there: nothing was followed. */
    assert_int_equal(on_host(&f, "test -z \"$(grep -rl 'secret\\|victim' data/" COPY
                                 "/workspace --devices=skip 2>/dev/null)\""),
                     0);
    destroy(COPY);
    destroy("sesn_victim");
    assert_int_equal(on_host(&f, "test \"$(cat secret)\" = secret"), 0);
}

static void a_tree_that_changes_while_it_is_copied_is_copied_all_the_same(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    /* A directory that is exchanged for a link out again and again, a file that grows for ever. */
    does(SESSION, "mkdir -p d keep; echo in > d/x; echo one > keep/f; ln -s /etc ln\n"
                  "(while :; do mv d d2; mv ln d; mv d ln; mv d2 d; done) >/dev/null 2>&1 &\n"
                  "(while :; do echo more >> grows; done) >/dev/null 2>&1 &\n"
                  "(while :; do : > n$RANDOM; done) >/dev/null 2>&1 &");
    for (int i = 0; i < 5; i++) {
        copy(SESSION, COPY, true);
        says(COPY,
             "cat keep/f; ls d/passwd d/shadow d2/passwd 2>/dev/null | grep -v '^d/' ; "
             "test -L d || ls d 2>/dev/null | grep -v '^x$'; find . -type f -name passwd",
             "one");
        destroy(COPY);
    }
    destroy(SESSION);
}

static void too_much_is_refused_and_leaves_nothing(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct copied c;
    f.s->keep.max_files = 100;
    f.s->keep.max_mb = 8;
    does(SESSION, "for i in $(seq 120); do : > f$i; done");
    begin_copy(SESSION, COPY, true, &c);
    wait_copied(&c);
    assert_int_equal(c.err.code, ERR_LIMIT);
    assert_false(in_data(COPY));
    destroy(COPY);
    /* One giant, and one that is only said to be: a hole costs nothing. */
    does(SESSION, "rm f*; truncate -s 900M hole; printf x >> hole");
    copy(SESSION, COPY, true);
    says(COPY, "stat -c %s hole; tail -c 1 hole", "943718401\nx");
    destroy(COPY);
    does(SESSION, "head -c 20000000 /dev/urandom > giant");
    begin_copy(SESSION, COPY, true, &c);
    wait_copied(&c);
    assert_int_equal(c.err.code, ERR_LIMIT);
    assert_false(in_data(COPY));
    destroy(COPY);
    /* A few bytes with very many names. */
    does(SESSION, "rm giant; head -c 2000000 /dev/urandom > h0; for i in $(seq 50); do ln h0 h$i; "
                  "done");
    begin_copy(SESSION, COPY, true, &c);
    wait_copied(&c);
    assert_int_equal(c.err.code, ERR_LIMIT);
    destroy(COPY);
    does(SESSION, "rm h*; for i in $(seq 90); do mkdir d; cd d; done");
    copy(SESSION, COPY, true);
    destroy(COPY);
    f.s->keep.max_files = 1000;
    does(SESSION, "for i in $(seq 200); do mkdir d; cd d; done");
    begin_copy(SESSION, COPY, true, &c);
    wait_copied(&c);
    assert_int_equal(c.err.code, ERR_LIMIT);
    destroy(COPY);
}

/* ---- network ---- */

static void a_copy_has_no_network(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    if (fixture_unsafe)
        skip();
    f.environment = "{\"config\":{\"type\":\"cloud\",\"networking\":{\"type\":\"unrestricted\"}}}";
    does(SESSION, "echo one > f");
    copy(SESSION, COPY, false);
    says(COPY,
         "cat /proc/net/dev | grep -v lo: | tail -n +3; env | grep -i _proxy; "
         "(exec 3<>/dev/tcp/127.0.0.1/3128) 2>/dev/null && echo reached; true",
         "");
    destroy(COPY);
}

/* ---- its end ---- */

static void a_copy_that_is_destroyed_while_it_is_made_leaves_nothing(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct copied c;
    does(SESSION, "for i in $(seq 3000); do echo $i > f$i; done");
    for (int i = 0; i < 6; i++) {
        begin_copy(SESSION, COPY, i & 1, &c);
        turn(&f, i * 3);
        destroy(COPY);
        wait_copied(&c);
        assert_false(in_data(COPY));
    }
    says(SESSION, "ls | wc -l", "3000");
    copy(SESSION, COPY, true);
    says(COPY, "ls | wc -l", "3000");
    destroy(COPY);
}

static void calls_of_the_session_wait_while_its_files_are_copied(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct copied c;
    struct answer a;
    does(SESSION, "for i in $(seq 3000); do echo one > f$i; done");
    begin_copy(SESSION, COPY, true, &c);
    call_start(&f, &a, SESSION, "sevt_next", "bash",
               "{\"command\":\"for i in $(seq 3000); do echo two > f$i; done\"}",
               (struct call_flags){.existed = true});
    wait_copied(&c);
    assert_int_equal(c.err.code, 0);
    answer_wait(&a);
    answer_fini(&a);
    says(COPY, "cat f* | sort | uniq -c | tr -s ' '", "3000 one");
    says(SESSION, "cat f* | sort | uniq -c | tr -s ' '", "3000 two");
    destroy(COPY);
}

static void a_session_that_is_deleted_meanwhile_takes_nothing_with_it(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct copied c;
    does(SESSION, "for i in $(seq 2000); do echo one > f$i; done");
    begin_copy(SESSION, COPY, true, &c);
    destroy(SESSION);
    wait_copied(&c);
    destroy(COPY);
    assert_false(in_data(SESSION));
    assert_false(in_data(COPY));
}

static void a_server_that_ends_takes_its_copies_with_it(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct copied c;
    does(SESSION, "echo one > f");
    copy(SESSION, "grade_idle", true);
    copy(SESSION, "grade_up", true);
    does("grade_up", "sleep 271828 >/dev/null 2>&1 &");
    begin_copy(SESSION, "grade_half", true, &c);
    fixture_restart(&f);
    for (int i = 0; i < 200 && in_data("grade_up"); i++)
        turn(&f, 10);
    assert_false(in_data("grade_idle"));
    assert_false(in_data("grade_up"));
    assert_false(in_data("grade_half"));
    assert_int_equal(on_host(&f, "pgrep -f '[s]leep 271828' > /dev/null"), 1);
    says(SESSION, "cat f", "one");
}

/* As another process: makes copies and is killed. */
static noreturn void die(const char *dir)
{
    fixture_stored = true;
    fixture_open_at(&f, dir);
    copy(SESSION, "grade_dead", true);
    if (!fixture_unsafe || geteuid() == 0)
        does("grade_dead", "sleep 161803 >/dev/null 2>&1 &");
    copy(SESSION, "grade_still", true);
    kill(getpid(), SIGKILL);
    abort();
}

static void what_a_killed_server_left_is_swept_and_what_a_living_one_has_is_not(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    does(SESSION, "echo one > f");
    copy(SESSION, COPY, true);
    pid_t pid = fork();
    if (pid == 0) {
        const char *mode = fixture_oci ? "oci" : fixture_unsafe ? "unsafe" : "plain";
        execl(self, self, fixture_hand, mode, "die", f.dir, (char *)NULL);
        _exit(127);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status));
    assert_true(in_data("grade_dead"));
    turn(&f, 20);
    /* Another server beside this one, which has COPY. */
    struct fixture other;
    fixture_open_at(&other, f.dir);
    const struct id keep = id_from(STR(SESSION));
    sandboxes_sweep(other.s, &keep, 1);
    for (int i = 0; i < 1000 && (in_data("grade_dead") || in_data("grade_still")); i++)
        turn(&other, 10);
    assert_false(in_data("grade_dead"));
    assert_false(in_data("grade_still"));
    assert_true(in_data(COPY));
    assert_true(in_data(SESSION));
    /* Without a sandbox and without a cgroup nobody knows what a call has left running. */
    if (!fixture_unsafe || geteuid() == 0)
        assert_int_equal(on_host(&f, "pgrep -f '[s]leep 161803' > /dev/null"), 1);
    sandboxes_close(other.s, NULL, NULL);
    turn(&other, 300);
    says(COPY, "cat f", "one");
    destroy(COPY);
}

/* ---- a directory that is gone ---- */

static int make_session(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct session_row *s = on_store_arg(job);
    struct id ws;
    int rc = tx_workspace_ensure(tx, STR("default"), 1, &ws, err);
    s->workspace_id = ws;
    s->thread_id = id_new("sthr");
    s->agent_id = id_new("agent");
    s->environment_id = id_new("env");
    s->created_us = 1;
    if (rc == 0)
        rc = tx_session_insert(tx, s, err);
    const struct event e = {.seq = 1,
                            .id = id_new("sevt"),
                            .type = EVENT_USER_MESSAGE,
                            .processed_us = 1,
                            .body = STR("{}")};
    const struct session_append ap = {.key = s->key, .epoch = s->epoch, .events = &e, .nevents = 1};
    rc = rc ? rc : tx_session_append(tx, &ap, err);
    return rc;
}

static void a_directory_that_is_gone_is_copied_from_its_checkpoint(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = {.id = id_new("sesn")};
    char command[ID_MAX + 32];
    assert_int_equal(on_store(&f, true, make_session, &s), 0);
    does(s.id.z, "mkdir d; echo kept > d/f; echo out > /mnt/session/outputs/o");
    f.port.checkpoint(f.port.self, id_str(&s.id), 1, true);
    for (int i = 0; sandboxes_stats(f.s).checkpoints == 0; i++) {
        assert_true(i < 3000);
        turn(&f, 5);
    }
    snprintf(command, sizeof command, "rm -rf data/%s", s.id.z);
    assert_int_equal(on_host(&f, command), 0);
    copy(s.id.z, COPY, true);
    says(COPY, "cat d/f /mnt/session/outputs/o", "kept\nout");
    destroy(COPY);
    says(s.id.z, "cat d/f", "*kept");
}

int main(int argc, char **argv)
{
    static const struct oci_config oci = {.runtime = "runc"};
    self = argv[0];
    fixture_hand = argc > 1 ? argv[1] : NULL;
    if (argc > 2 && strcmp(argv[2], "oci") == 0)
        fixture_oci = &oci;
    fixture_unsafe = argc > 2 && strcmp(argv[2], "unsafe") == 0;
    if (argc > 4)
        die(argv[4]);
#define T(fn) cmocka_unit_test_setup_teardown(fn, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        T(a_copy_has_the_files_of_the_session),
        T(what_a_copy_is_not_told_of_stays_out),
        T(a_session_without_files_has_an_empty_copy),
        T(a_read_only_copy_can_be_written_to_nowhere_but_in_tmp),
        T(what_either_writes_the_other_never_sees),
        T(two_copies_at_once_are_each_their_own),
        T(a_copy_under_an_id_that_is_taken_fails),
        T(links_out_of_the_files_lead_nowhere),
        T(a_tree_that_changes_while_it_is_copied_is_copied_all_the_same),
        T(too_much_is_refused_and_leaves_nothing),
        T(a_copy_has_no_network),
        T(a_copy_that_is_destroyed_while_it_is_made_leaves_nothing),
        T(calls_of_the_session_wait_while_its_files_are_copied),
        T(a_session_that_is_deleted_meanwhile_takes_nothing_with_it),
        T(a_server_that_ends_takes_its_copies_with_it),
        T(what_a_killed_server_left_is_swept_and_what_a_living_one_has_is_not),
        T(a_directory_that_is_gone_is_copied_from_its_checkpoint),
    };
    /* Without a sandbox paths are the host's: what can be said in relative ones. */
    const struct CMUnitTest plain[] = {
        T(two_copies_at_once_are_each_their_own),
        T(a_copy_under_an_id_that_is_taken_fails),
        T(links_out_of_the_files_lead_nowhere),
        T(a_copy_that_is_destroyed_while_it_is_made_leaves_nothing),
        T(calls_of_the_session_wait_while_its_files_are_copied),
        T(a_session_that_is_deleted_meanwhile_takes_nothing_with_it),
        T(what_a_killed_server_left_is_swept_and_what_a_living_one_has_is_not),
    };
    return fixture_unsafe ? cmocka_run_group_tests_name("plain", plain, NULL, NULL)
                          : cmocka_run_group_tests(tests, NULL, NULL);
}
