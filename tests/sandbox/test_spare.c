/* Sandboxes that are ready before there is a session. */
#include "fixture.h"

#include "base/fd.h"
#include "json/json.h"
#include "json/writer.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int64_t stat_starts(struct fixture *f)
{
    return sandboxes_stats(f->s).starts;
}

static int64_t stat_adoptions(struct fixture *f)
{
    return sandboxes_stats(f->s).adoptions;
}

static void wait_for_spares(struct fixture *f, int64_t n)
{
    for (int i = 0; sandboxes_stats(f->s).spares != n; i++) {
        assert_true(i < 6000);
        turn(f, 5);
    }
    turn(f, 100); /* its record is written */
}

static void open_with(struct fixture *f, int64_t warm)
{
    fixture_warm = warm;
    fixture_open(f, NULL);
    fixture_warm = 0;
    if (fixture_lacks(f)[0])
        skip();
}

/* A call of a session that has had no sandbox. */
static void first_bash(struct fixture *f, struct answer *a, const char *session,
                       const char *command)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct jw w = jw_to(&b);
    char id[32];
    snprintf(id, sizeof id, "sevt_%d", f->next++);
    jw_obj(&w);
    jw_kz(&w, "command", command);
    jw_obj_end(&w);
    call_start(f, a, session, id, "bash", b.data, (struct call_flags){.existed = false});
    answer_wait(a);
    f->port.ack(f->port.self, str_z(session), str_z(id));
}

static void assert_says(struct fixture *f, const char *session, const char *command,
                        const char *text)
{
    struct answer a;
    first_bash(f, &a, session, command);
    assert_false(a.is_error);
    assert_string_equal(a.text.data, text);
    answer_fini(&a);
}

/* Names in the sandboxes' directory that begin so. */
static size_t count_names(const struct fixture *f, const char *prefix, char last[256])
{
    DIR *d = opendir(f->data);
    struct dirent *e;
    size_t n = 0;
    assert_non_null(d);
    while ((e = readdir(d))) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) != 0)
            continue;
        snprintf(last, 256, "%s", e->d_name);
        n++;
    }
    closedir(d);
    return n;
}

static pid_t hand_pid(const struct fixture *f, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s/sandbox.json", f->data, name);
    AUTO_BUF struct buf text = BUF_INIT(65536);
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    const struct json *doc;
    int64_t pid = 0;
    if (fd_read_file(path, &text, NULL) == 0 && json_parse(&a, buf_view(&text), 0, &doc, NULL) == 0)
        (void)json_i64(json_get(doc, "pid"), &pid);
    return (pid_t)pid;
}

static pid_t warm_pid(const struct fixture *f, char name[256])
{
    DIR *d = opendir(f->data);
    struct dirent *e;
    pid_t pid = 0;
    assert_non_null(d);
    while ((e = readdir(d)) && !pid) {
        if (strncmp(e->d_name, ".spare-", 7) != 0)
            continue;
        pid = hand_pid(f, e->d_name);
        snprintf(name, 256, "%s", e->d_name);
    }
    closedir(d);
    return pid;
}

static void a_session_takes_over_a_warm_sandbox(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 1);
    wait_for_spares(&f, 1);
    assert_says(&f, "sesn_a", "echo made > /workspace/x; cat x", "made");
    assert_int_equal(stat_adoptions(&f), 1);
    assert_int_equal(stat_starts(&f), 0);
    assert_int_equal(on_host(&f, "grep -q made data/sesn_a/workspace/x"), 0);
    /* It is replaced. */
    wait_for_spares(&f, 1);
    fixture_close(&f);
}

static void sessions_that_took_one_over_see_nothing_of_each_other(void **state)
{
    struct fixture f;
    struct stat a, b;
    char path[256];
    (void)state;
    open_with(&f, 2);
    wait_for_spares(&f, 2);
    assert_says(&f, "sesn_a", "cd; touch /workspace/w /tmp/t h /mnt/session/outputs/o; SECRET=1",
                "");
    assert_says(&f, "sesn_b",
                "cd /; ls -A /workspace /home/agent /mnt/session/outputs; ls /tmp | grep -v "
                "ostler-output; echo \"[$SECRET]\"",
                "/home/agent:\n\n/mnt/session/outputs:\n\n/workspace:\n[]");
    assert_int_equal(stat_adoptions(&f), 2);
    snprintf(path, sizeof path, "%s/sesn_a/workspace", f.data);
    assert_int_equal(stat(path, &a), 0);
    snprintf(path, sizeof path, "%s/sesn_b/workspace", f.data);
    assert_int_equal(stat(path, &b), 0);
    if (geteuid() == 0) {
        assert_true(a.st_uid >= 700000 && b.st_uid >= 700000);
        assert_int_not_equal(a.st_uid, b.st_uid);
    }
    fixture_close(&f);
}

static void the_next_server_finds_a_sandbox_that_was_taken_over(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 1);
    wait_for_spares(&f, 1);
    assert_says(&f, "sesn_a", "KEPT=yes", "");
    assert_int_equal(stat_adoptions(&f), 1);
    turn(&f, 100);
    fixture_restart(&f);
    assert_says(&f, "sesn_a", "echo $KEPT", "yes");
    assert_int_equal(stat_starts(&f), 0);
    /* And what it starts later is the same user's, whose files they are. */
    char name[16] = "sesn_a";
    pid_t pid = hand_pid(&f, name);
    assert_true(pid > 1);
    assert_says(&f, "sesn_a", "echo mine > /workspace/f", "");
    kill(pid, SIGKILL);
    struct answer a;
    for (int i = 0; i < 100 && stat_starts(&f) == 0; i++) {
        bash(&f, &a, "sesn_a", "cat /workspace/f && echo more >> /workspace/f");
        answer_fini(&a);
    }
    assert_int_equal(stat_starts(&f), 1);
    assert_says(&f, "sesn_a", "head -1 /workspace/f", "mine");
    fixture_close(&f);
}

static void more_sessions_than_warm_sandboxes_start_their_own(void **state)
{
    struct fixture f;
    struct answer a, b;
    (void)state;
    open_with(&f, 1);
    wait_for_spares(&f, 1);
    const char *input = "{\"command\":\"echo hi\"}";
    call_start(&f, &a, "sesn_a", "sevt_1", "bash", input, (struct call_flags){0});
    call_start(&f, &b, "sesn_b", "sevt_2", "bash", input, (struct call_flags){0});
    answer_wait(&a);
    answer_wait(&b);
    assert_string_equal(a.text.data, "hi");
    assert_string_equal(b.text.data, "hi");
    assert_int_equal(stat_adoptions(&f), 1);
    assert_int_equal(stat_starts(&f), 1);
    answer_fini(&a);
    answer_fini(&b);
    fixture_close(&f);
}

static void another_environment_gets_warm_sandboxes_of_its_own(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 2);
    wait_for_spares(&f, 2);
    f.environment = "{\"variables\":{\"COLOUR\":\"blue\"}}";
    assert_says(&f, "sesn_a", "echo $COLOUR", "blue");
    assert_int_equal(stat_adoptions(&f), 0);
    /* One of each kind. */
    for (int i = 0; i < 400; i++)
        turn(&f, 5);
    wait_for_spares(&f, 2);
    assert_says(&f, "sesn_b", "echo $COLOUR", "blue");
    f.environment = NULL;
    assert_says(&f, "sesn_c", "echo [$COLOUR]", "[]");
    assert_int_equal(stat_adoptions(&f), 2);
    assert_int_equal(stat_starts(&f), 1);
    fixture_close(&f);
}

static void a_session_that_has_files_starts_its_own(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 1);
    wait_for_spares(&f, 1);
    assert_int_equal(
        on_host(&f, "mkdir -p data/sesn_a/workspace && echo old > data/sesn_a/workspace/f"), 0);
    assert_says(&f, "sesn_a", "cat f", "old");
    assert_int_equal(stat_adoptions(&f), 0);
    assert_int_equal(stat_starts(&f), 1);
    fixture_close(&f);
}

static void a_warm_sandbox_that_died_is_replaced(void **state)
{
    struct fixture f;
    char name[256], other[256];
    (void)state;
    open_with(&f, 1);
    wait_for_spares(&f, 1);
    pid_t pid = warm_pid(&f, name);
    assert_true(pid > 1);
    kill(pid, SIGKILL);
    wait_for_spares(&f, 0);
    wait_for_spares(&f, 1);
    assert_true(warm_pid(&f, other) > 1);
    assert_string_not_equal(name, other);
    assert_says(&f, "sesn_a", "echo hi", "hi");
    assert_int_equal(stat_adoptions(&f), 1);
    fixture_close(&f);
}

static void a_server_that_ends_leaves_none(void **state)
{
    struct fixture f;
    char name[256];
    (void)state;
    open_with(&f, 2);
    wait_for_spares(&f, 2);
    pid_t pid = warm_pid(&f, name);
    assert_true(pid > 1);
    fixture_restart(&f); /* the last one closes, and this one's are made later */
    for (int i = 0; kill(pid, 0) == 0; i++) {
        assert_true(i < 1000);
        turn(&f, 5);
    }
    char path[512];
    snprintf(path, sizeof path, "%s/%s", f.data, name);
    assert_int_not_equal(access(path, F_OK), 0);
    fixture_close(&f);
}

/* A server of its own, killed when it has a warm sandbox; the directory it had. */
static void killed_server(char dir[64])
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct fixture f;
        open_with(&f, 1);
        wait_for_spares(&f, 1);
        if (write(ends[1], f.dir, sizeof f.dir) < 0)
            _exit(1);
        raise(SIGKILL);
    }
    close(ends[1]);
    memset(dir, 0, 64);
    ssize_t n = read(ends[0], dir, 64);
    close(ends[0]);
    waitpid(pid, NULL, 0);
    if (n != 64)
        skip();
}

static void the_next_server_ends_what_a_killed_one_had_ready(void **state)
{
    struct fixture f;
    char dir[64], name[256] = "";
    (void)state;
    killed_server(dir);
    (void)snprintf(f.data, sizeof f.data, "%.60s/data", dir);
    pid_t pid = warm_pid(&f, name);
    assert_true(pid > 1);
    assert_int_equal(kill(pid, 0), 0);
    fixture_open_at(&f, dir);
    for (int i = 0; kill(pid, 0) == 0 || count_names(&f, name, (char[256]){0}); i++) {
        assert_true(i < 2000);
        turn(&f, 5);
    }
    assert_says(&f, "sesn_a", "echo hi", "hi");
    fixture_close(&f);
}

/* A bubblewrap that was killed before its child had a word from it; the child. */
static pid_t half_made(void)
{
    int block[2], info[2];
    assert_int_equal(pipe(block), 0);
    assert_int_equal(pipe(info), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char fds[2][16];
        snprintf(fds[0], sizeof fds[0], "%d", block[0]);
        snprintf(fds[1], sizeof fds[1], "%d", info[1]);
        execlp("bwrap", "bwrap", "--unshare-user", "--unshare-pid", "--userns-block-fd", fds[0],
               "--info-fd", fds[1], "--ro-bind", "/", "/", "/bin/true", (char *)NULL);
        _exit(127);
    }
    char text[512];
    close(info[1]);
    ssize_t n = 0, got = 1;
    while (got > 0 && !memchr(text, '}', (size_t)n)) {
        got = read(info[0], text + n, sizeof text - 1 - (size_t)n);
        n += got > 0 ? got : 0;
    }
    text[n] = '\0';
    const char *at = strstr(text, "child-pid\": ");
    assert_non_null(at);
    pid_t child = (pid_t)strtol(at + strlen("child-pid\": "), NULL, 10);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(block[0]);
    close(block[1]);
    close(info[0]);
    return child;
}

static void what_a_killed_bubblewrap_left_half_made_is_ended(void **state)
{
    struct fixture f;
    (void)state;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t child = half_made();
    assert_int_equal(kill(child, 0), 0);
    open_with(&f, 0);
    int status = 0;
    for (int i = 0; waitpid(child, &status, WNOHANG) == 0; i++) {
        if (i == 2000) {
            kill(child, SIGKILL);
            fail_msg("it was left alone");
        }
        turn(&f, 5);
    }
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    fixture_close(&f);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: test_spare HAND\n");
        return 2;
    }
    fixture_hand = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_takes_over_a_warm_sandbox),
        cmocka_unit_test(sessions_that_took_one_over_see_nothing_of_each_other),
        cmocka_unit_test(the_next_server_finds_a_sandbox_that_was_taken_over),
        cmocka_unit_test(more_sessions_than_warm_sandboxes_start_their_own),
        cmocka_unit_test(another_environment_gets_warm_sandboxes_of_its_own),
        cmocka_unit_test(a_session_that_has_files_starts_its_own),
        cmocka_unit_test(a_warm_sandbox_that_died_is_replaced),
        cmocka_unit_test(a_server_that_ends_leaves_none),
        cmocka_unit_test(the_next_server_ends_what_a_killed_one_had_ready),
        cmocka_unit_test(what_a_killed_bubblewrap_left_half_made_is_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
