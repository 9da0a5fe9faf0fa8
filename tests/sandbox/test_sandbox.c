/* Real sandboxes on this host: what works inside, what ends them, what outlives a server. What an
 * attacker would try is in the probes. argv[1]: the hand. Skipped, with the reason, where no
 * sandbox can be had. */
#include "fixture.h"

#include "base/fd.h"
#include "sandbox/impl.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct fixture shared; /* one sandbox for all probes that leave nothing behind */
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
    fixture_open(&shared, NULL);
    snprintf(missing, sizeof missing, "%s", fixture_lacks(&shared));
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    fixture_close(&shared);
    return 0;
}

/* ---- probes: a command inside and what it must say ---- */

struct probe_row {
    const char *what, *command, *says; /* "*x": x is somewhere in it */
};

static bool says(const struct answer *a, const char *want)
{
    struct str got = buf_view(&a->text);
    return want[0] == '*' ? str_find(got, str_z(want + 1)) >= 0 : str_eqz(got, want);
}

static void check_rows(const struct probe_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct answer a;
        bash(&shared, &a, "sesn_probe", rows[i].command);
        if (!says(&a, rows[i].says))
            fail_msg("%s\n said: %s\n not:  %s", rows[i].what, a.text.data, rows[i].says);
        answer_fini(&a);
    }
}

#define PY "python3 -c '"

static void landlock_bounds_files_a_second_time(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    if (!sandboxes_tier(shared.s)->landlock)
        skip();
    static const struct probe_row rows[] = {
        /* /proc is mounted writable; making things in it is not allowed by the rules either way */
        {"no directory outside of ours", "mkdir /dev/pts/x 2>&1", "*denied"},
        {"links across our directories work",
         "cd /workspace; mkdir -p a b; echo x > a/f; ln a/f b/f; "
         "mv a/f b/g; cat b/g; rm -r a b",
         "x"},
    };
    check_rows(rows, COUNT_OF(rows));
}

static void ordinary_work_works(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    static const struct probe_row rows[] = {
        {"a compiler",
         "echo 'int main(void){return 42;}' > /tmp/m.c; gcc -o /tmp/m /tmp/m.c && /tmp/m; "
         "echo $?",
         "42"},
        {"threads",
         PY "import threading; t=threading.Thread(target=print,args=(7,)); t.start(); t.join()'",
         "7"},
        {"git",
         "cd /tmp && rm -rf r && git init -q r && cd r && git -c user.name=a -c user.email=b "
         "commit "
         "-q --allow-empty -m m && git log --oneline | wc -l; cd /workspace",
         "1"},
        {"a pipe through a named pipe", "mkfifo /tmp/p; echo hi > /tmp/p & cat /tmp/p; rm /tmp/p",
         "hi"},
        {"the variables", "echo $HOME $USER $LANG $TERM", "/home/agent agent C.UTF-8 dumb"},
        {"names resolve without a network", "getent hosts localhost | awk '{print $NF}'; whoami",
         "*agent"},
        {"a server on loopback",
         PY "import socket,threading; s=socket.socket(); s.bind((\"127.0.0.1\",0)); s.listen(1)\n"
            "t=threading.Thread(target=lambda: s.accept()[0].send(b\"ok\")); t.start()\n"
            "c=socket.create_connection(s.getsockname()); print(c.recv(2).decode())'",
         "ok"},
        {"a terminal", "script -qc 'tty | grep -c /dev/pts' /dev/null | tr -d '\\r'", "1"},
    };
    check_rows(rows, COUNT_OF(rows));
}

static void two_sandboxes_do_not_see_each_other(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct answer a, b;
    bash(&shared, &a, "sesn_one",
         "echo mine > /tmp/f; echo mine > f; sleep 100 & ls /proc | grep -c '^[0-9]'");
    bash(&shared, &b, "sesn_two", "cat /tmp/f f 2>&1 | grep -c 'No such'; pgrep sleep | wc -l");
    assert_string_equal(b.text.data, "2\n0");
    answer_fini(&a);
    answer_fini(&b);
    if (!sandboxes_tier(shared.s)->ok || geteuid() != 0)
        return;
    struct session_paths p1, p2;
    struct host h = {.root = true};
    session_paths(&h, "sesn_one", &p1);
    session_paths(&h, "sesn_two", &p2);
    assert_int_not_equal(p1.uid, p2.uid);
}

/* ---- limits ---- */

static void a_file_can_only_grow_so_far(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    fixture_open(&f, &(struct sandbox_limits){.file_mb = 8});
    bash(&f, &a, "sesn_file", "head -c 20000000 /dev/zero > big; stat -c %s big");
    assert_true(str_ends(buf_view(&a.text), STR("8388608")));
    answer_fini(&a);
    fixture_close(&f);
}

static void a_hand_that_hangs_is_ended(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    /* From inside nobody can stop pid 1; from outside the test does, and the time is the server's.
     */
    struct fixture f;
    struct answer a;
    fixture_open(&f, NULL);
    bash(&f, &a, "sesn_hang", "echo up");
    answer_fini(&a);
    turn(&f, 50);
    struct session_paths p;
    struct host h = {.root = geteuid() == 0};
    snprintf(h.dir, sizeof h.dir, "%s", f.data);
    session_paths(&h, "sesn_hang", &p);
    struct sandbox_record r;
    assert_true(record_read(p.meta, &r));
    assert_true(r.pid > 1);
    assert_int_equal(kill((pid_t)r.pid, SIGSTOP), 0);
    bash(&f, &a, "sesn_hang", "echo never");
    assert_true(a.is_error);
    assert_string_equal(a.reason, "sandbox_lost");
    answer_fini(&a);
    bash(&f, &a, "sesn_hang", "echo fresh");
    assert_string_equal(a.text.data, "fresh");
    answer_fini(&a);
    fixture_close(&f);
}

/* ---- servers come and go ---- */

static void session_file(const struct fixture *f, const char *session, const char *name,
                         char out[256])
{
    snprintf(out, 256, "%s/%s/workspace/%s", f->data, session, name);
}

static void a_call_finishes_without_a_server_and_the_next_one_gets_the_result(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a, b;
    char path[256];
    fixture_open(&f, NULL);
    call_start(&f, &a, "sesn_r", "sevt_slow", "bash",
               "{\"command\":\"echo x >> runs; touch begun; until [ -e go ]; do sleep 0.02; done; "
               "echo y >> runs; cat runs\"}",
               (struct call_flags){0});
    session_file(&f, "sesn_r", "begun", path);
    wait_for_file(&f, path);
    fixture_restart(&f); /* the first server never heard the end of it */
    session_file(&f, "sesn_r", "go", path);
    struct err err;
    assert_int_equal(fd_write_file_atomic(path, STR(""), 0644, &err), 0);
    call_start(&f, &b, "sesn_r", "sevt_slow", "bash", "{\"command\":\"echo z >> runs; cat runs\"}",
               (struct call_flags){.again = true, .existed = true});
    answer_wait(&b);
    assert_string_equal(b.text.data, "x\ny");
    assert_false(b.is_error);
    answer_fini(&a);
    answer_fini(&b);
    fixture_close(&f);
}

static void a_call_that_was_never_dispatched_runs_after_a_restart(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    fixture_open(&f, NULL);
    call_start(&f, &a, "sesn_n", "sevt_1", "bash", "{\"command\":\"echo ran\"}",
               (struct call_flags){.again = true, .existed = false});
    answer_wait(&a);
    assert_string_equal(a.text.data, "ran");
    answer_fini(&a);
    /* The hand lives and is the session's first: it knows that it never had this one. */
    fixture_restart(&f);
    call_start(&f, &a, "sesn_n", "sevt_2", "bash", "{\"command\":\"echo ran too\"}",
               (struct call_flags){.again = true, .existed = true});
    answer_wait(&a);
    assert_string_equal(a.text.data, "ran too");
    answer_fini(&a);
    fixture_close(&f);
}

static void a_call_whose_hand_is_gone_has_an_unknown_outcome(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    fixture_open(&f, NULL);
    call_start(&f, &a, "sesn_g", "sevt_1", "bash", "{\"command\":\"touch twice\"}",
               (struct call_flags){.again = true, .existed = true});
    answer_wait(&a);
    assert_true(a.is_error);
    assert_string_equal(a.reason, "sandbox_lost");
    assert_true(str_find(buf_view(&a.text), STR("outcome is unknown")) >= 0);
    answer_fini(&a);
    /* A later one in doubt must not be run by a hand that was not there then. */
    bash(&f, &a, "sesn_g", "ls");
    assert_string_equal(a.text.data, "");
    answer_fini(&a);
    call_start(&f, &a, "sesn_g", "sevt_2", "bash", "{\"command\":\"touch twice\"}",
               (struct call_flags){.again = true, .existed = true});
    answer_wait(&a);
    assert_string_equal(a.reason, "sandbox_lost");
    answer_fini(&a);
    fixture_close(&f);
}

static void kill_hand(struct fixture *f, const char *session)
{
    struct session_paths p;
    struct host h = {.root = geteuid() == 0};
    struct sandbox_record r;
    snprintf(h.dir, sizeof h.dir, "%s", f->data);
    session_paths(&h, session, &p);
    for (int i = 0; i < 200; i++) {
        assert_true(record_read(p.meta, &r));
        if (r.pid)
            break;
        turn(f, 10);
    }
    assert_true(r.pid > 1);
    assert_int_equal(kill((pid_t)r.pid, SIGKILL), 0);
}

static void a_hand_that_dies_is_reported_and_replaced_over_the_same_files(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    char path[256];
    fixture_open(&f, NULL);
    call_start(&f, &a, "sesn_d", "sevt_1", "bash",
               "{\"command\":\"echo kept > kept; touch begun; sleep 60\"}", (struct call_flags){0});
    session_file(&f, "sesn_d", "begun", path);
    wait_for_file(&f, path);
    kill_hand(&f, "sesn_d");
    answer_wait(&a);
    assert_true(a.is_error);
    assert_string_equal(a.reason, "sandbox_lost");
    answer_fini(&a);
    bash(&f, &a, "sesn_d", "cat kept");
    assert_string_equal(a.text.data, "kept");
    answer_fini(&a);
    fixture_close(&f);
}

static void a_cancelled_call_answers_at_once(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    char path[256];
    fixture_open(&f, NULL);
    call_start(&f, &a, "sesn_c", "sevt_1", "bash", "{\"command\":\"touch begun; sleep 600\"}",
               (struct call_flags){0});
    session_file(&f, "sesn_c", "begun", path);
    wait_for_file(&f, path);
    f.port.cancel(f.port.self, STR("sesn_c"), STR("sevt_1"));
    answer_wait(&a);
    assert_true(a.is_error);
    assert_string_equal(a.reason, "cancelled");
    answer_fini(&a);
    fixture_close(&f);
}

static void destroying_ends_everything_and_wipes(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    char path[256];
    fixture_open(&f, NULL);
    bash(&f, &a, "sesn_w", "mkdir -p d/e; touch d/e/f; chmod 000 d/e; echo up");
    assert_string_equal(a.text.data, "up");
    answer_fini(&a);
    session_file(&f, "sesn_w", "", path);
    f.port.destroy(f.port.self, STR("sesn_w"), true);
    snprintf(path, sizeof path, "%s/sesn_w", f.data);
    for (int i = 0; access(path, F_OK) == 0; i++) {
        assert_true(i < 1000);
        turn(&f, 10);
    }
    fixture_close(&f);
}

static void parallel_calls_all_answer(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    enum { CALLS = 24 };
    struct answer a[CALLS];
    char id[32], input[128];
    for (int i = 0; i < CALLS; i++) {
        snprintf(id, sizeof id, "sevt_par_%d", i);
        snprintf(input, sizeof input, "{\"%s\":\"%s%d\",\"content\":\"%d\"}",
                 i % 2 ? "file_path" : "command", i % 2 ? "p" : "echo ", i, i);
        call_start(&shared, &a[i], "sesn_par", id, i % 2 ? "write" : "bash", input,
                   (struct call_flags){0});
    }
    for (int i = 0; i < CALLS; i++) {
        answer_wait(&a[i]);
        assert_false(a[i].is_error);
        answer_fini(&a[i]);
    }
}

static void without_a_hand_calls_fail_and_say_why(void **state)
{
    (void)state;
    struct fixture f;
    struct answer a;
    const char *hand = fixture_hand;
    fixture_hand = "/nonexistent/hand";
    fixture_open(&f, NULL);
    fixture_hand = hand;
    assert_false(sandboxes_tier(f.s)->ok);
    bash(&f, &a, "sesn_x", "touch /tmp/ostler-must-not-exist");
    assert_true(a.is_error);
    assert_string_equal(a.reason, "sandbox_unavailable");
    assert_true(access("/tmp/ostler-must-not-exist", F_OK) != 0);
    answer_fini(&a);
    fixture_close(&f);
}

/* ---- without a sandbox, because somebody said so ---- */

static void unsafe_calls_run_as_ordinary_children(void **state)
{
    (void)state;
    struct fixture f;
    struct answer a;
    char path[256];
    fixture_unsafe = true;
    fixture_open(&f, NULL);
    fixture_unsafe = false;
    assert_string_equal(sandboxes_tier(f.s)->name, "none-unsafe");
    assert_string_equal(sandboxes_tier_name(f.s), "none-unsafe");
    snprintf(path, sizeof path, "%s/" SANDBOX_UNSAFE_MARK, f.data);
    assert_int_equal(access(path, F_OK), 0);
    bash(&f, &a, "sesn_u", "pwd; echo x > f; cat f; [ $$ -gt 20 ] && echo outside; echo $HOME");
    char want[512];
    snprintf(want, sizeof want, "%s/sesn_u/workspace\nx\noutside\n%s/sesn_u/home", f.data, f.data);
    assert_string_equal(a.text.data, want);
    answer_fini(&a);
    call_tool(&f, &a, "sesn_u", "read", "{\"file_path\":\"f\"}");
    assert_true(str_find(buf_view(&a.text), STR("x")) >= 0);
    answer_fini(&a);
    /* Imports and patches of the workspace as well. */
    AUTO_BUF struct buf patch = BUF_INIT(1 << 20);
    struct err err = {.code = 0};
    if (read_workspace(&f, "sesn_u", WORKSPACE_PATCH, NULL, &patch, &err) != 0)
        fail_msg("%s", err.msg);
    assert_true(str_find(buf_view(&patch), STR("b/f")) >= 0);
    fixture_close(&f);
}

static void nothing_runs_unsafe_by_itself(void **state)
{
    (void)state;
    struct fixture f;
    const char *hand = fixture_hand;
    fixture_hand = "/nonexistent/hand";
    fixture_open(&f, NULL);
    fixture_hand = hand;
    assert_string_equal(sandboxes_tier(f.s)->name, "none");
    char path[256];
    snprintf(path, sizeof path, "%s/" SANDBOX_UNSAFE_MARK, f.data);
    assert_int_not_equal(access(path, F_OK), 0);
    fixture_close(&f);
}

int main(int argc, char **argv)
{
    fixture_hand = argc > 1 ? argv[1] : "hand";
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(landlock_bounds_files_a_second_time),
        cmocka_unit_test(ordinary_work_works),
        cmocka_unit_test(two_sandboxes_do_not_see_each_other),
        cmocka_unit_test(parallel_calls_all_answer),
        cmocka_unit_test(a_file_can_only_grow_so_far),
        cmocka_unit_test(a_hand_that_hangs_is_ended),
        cmocka_unit_test(a_call_finishes_without_a_server_and_the_next_one_gets_the_result),
        cmocka_unit_test(a_call_that_was_never_dispatched_runs_after_a_restart),
        cmocka_unit_test(a_call_whose_hand_is_gone_has_an_unknown_outcome),
        cmocka_unit_test(a_hand_that_dies_is_reported_and_replaced_over_the_same_files),
        cmocka_unit_test(a_cancelled_call_answers_at_once),
        cmocka_unit_test(destroying_ends_everything_and_wipes),
        cmocka_unit_test(without_a_hand_calls_fail_and_say_why),
        cmocka_unit_test(unsafe_calls_run_as_ordinary_children),
        cmocka_unit_test(nothing_runs_unsafe_by_itself),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
