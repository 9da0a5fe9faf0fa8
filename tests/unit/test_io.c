/* io/: the loop, children by pidfd, framed sockets. Every wait is for an event; a watchdog timer
 * fails a test that would hang. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/loop.h"
#include "io/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

enum { WATCHDOG_MS = 60000 };

static struct loop *loop;
static struct loop_timer watchdog;

static void too_late(struct loop_timer *t)
{
    (void)t;
    fprintf(stderr, "the test hangs\n");
    abort();
}

static int setup(void **state)
{
    (void)state;
    loop = loop_new();
    loop_timer_init(loop, &watchdog);
    loop_timer_start(&watchdog, WATCHDOG_MS, too_late);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_timer_close(&watchdog, NULL);
    loop_free(loop);
    return 0;
}

/* ---- posting ---- */

enum { POSTERS = 4, POSTS = 500 };

struct posted {
    struct loop_post post;
    int thread, number;
};

static struct posted posts[POSTERS][POSTS];
static int next_number[POSTERS];
static int posts_seen;

static void on_post(struct loop_post *p)
{
    struct posted *x = CONTAINER_OF(p, struct posted, post);
    assert_true(loop_is_thread(loop));
    assert_int_equal(x->number, next_number[x->thread]++);
    if (++posts_seen == POSTERS * POSTS)
        loop_stop(loop);
}

static void *post_all(void *arg)
{
    struct posted *mine = arg;
    for (int i = 0; i < POSTS; i++)
        loop_post(loop, &mine[i].post, on_post);
    return loop_is_thread(loop) ? arg : NULL;
}

static void posts_of_each_thread_run_on_the_loop_in_order(void **state)
{
    (void)state;
    pthread_t threads[POSTERS];
    for (int t = 0; t < POSTERS; t++) {
        for (int i = 0; i < POSTS; i++)
            posts[t][i] = (struct posted){.thread = t, .number = i};
        pthread_create(&threads[t], NULL, post_all, posts[t]);
    }
    loop_run(loop);
    for (int t = 0; t < POSTERS; t++) {
        void *wrong;
        pthread_join(threads[t], &wrong);
        assert_null(wrong);
    }
    assert_int_equal(posts_seen, POSTERS * POSTS);
}

static int late_posts;

static void on_late(struct loop_post *p)
{
    (void)p;
    late_posts++;
}

static void a_post_before_the_free_still_runs(void **state)
{
    (void)state;
    struct loop *l = loop_new();
    struct loop_post p;
    loop_post(l, &p, on_late);
    loop_free(l);
    assert_int_equal(late_posts, 1);
}

/* ---- timers and work ---- */

static char order[8];

static void first_fired(struct loop_timer *t)
{
    (void)t;
    strncat(order, "1", sizeof order - strlen(order) - 1);
}

static void second_fired(struct loop_timer *t)
{
    (void)t;
    strncat(order, "2", sizeof order - strlen(order) - 1);
    loop_stop(loop);
}

static int timers_closed;

static void on_timer_closed(struct loop_timer *t)
{
    (void)t;
    timers_closed++;
}

static void timers_fire_once_in_the_order_of_their_delays(void **state)
{
    (void)state;
    struct loop_timer a, b, never;
    loop_timer_init(loop, &a);
    loop_timer_init(loop, &b);
    loop_timer_init(loop, &never);
    int64_t start = loop_now_ms(loop);
    loop_timer_start(&b, 10, second_fired);
    loop_timer_start(&a, -5, first_fired);
    loop_timer_start(&never, 1, first_fired);
    loop_timer_stop(&never);
    loop_run(loop);
    assert_string_equal(order, "12");
    assert_true(loop_now_ms(loop) - start >= 10);
    loop_timer_close(&a, on_timer_closed);
    loop_timer_close(&b, on_timer_closed);
    loop_timer_close(&never, NULL);
    loop_timer_stop(&watchdog);
    loop_run(loop);
    assert_int_equal(timers_closed, 2);
}

struct job {
    struct loop_work work;
    bool off_the_loop, done;
};

static void job_work(struct loop_work *w)
{
    CONTAINER_OF(w, struct job, work)->off_the_loop = !loop_is_thread(loop);
}

static void job_done(struct loop_work *w)
{
    CONTAINER_OF(w, struct job, work)->done = loop_is_thread(loop);
    loop_stop(loop);
}

static void work_runs_off_the_loop_and_ends_on_it(void **state)
{
    (void)state;
    struct job j = {.done = false};
    loop_work(loop, &j.work, job_work, job_done);
    loop_run(loop);
    assert_true(j.off_the_loop);
    assert_true(j.done);
}

static int signal_seen;

static void on_signal(void *arg, int signum)
{
    signal_seen = signum;
    loop_stop(arg);
}

static void a_signal_arrives_on_the_loop(void **state)
{
    (void)state;
    assert_int_equal(loop_on_signal(loop, SIGUSR1, on_signal, loop), 0);
    assert_int_equal(loop_on_signal(loop, SIGKILL, on_signal, loop), ERR_INVALID);
    raise(SIGUSR1);
    loop_run(loop);
    assert_int_equal(signal_seen, SIGUSR1);
}

/* ---- children ---- */

static int child_status;

static void on_exited(struct loop_child *c, int wait_status)
{
    child_status = wait_status;
    loop_child_close(c, NULL);
    loop_stop(loop);
}

/* Runs `sh -c script` with its standard output caught; returns it. */
static char *run_shell(const char *script, const struct loop_spawn *more, int *status)
{
    static char out[4096];
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    const char *argv[] = {"sh", "-c", script, NULL};
    int fds[] = {-1, ends[1], ends[1]};
    struct loop_spawn how = more ? *more : (struct loop_spawn){.file = NULL};
    how.file = "sh";
    how.argv = argv;
    if (!how.fds) {
        how.fds = fds;
        how.nfds = 3;
    }
    struct loop_child c;
    struct err err;
    assert_int_equal(loop_spawn(loop, &c, &how, on_exited, &err), 0);
    close(ends[1]);
    loop_run(loop);
    if (status)
        *status = child_status;
    size_t n = 0;
    for (ssize_t r; (r = read(ends[0], out + n, sizeof out - 1 - n)) > 0;)
        n += (size_t)r;
    out[n] = '\0';
    close(ends[0]);
    return out;
}

static void a_child_reports_its_exit_code_or_signal(void **state)
{
    (void)state;
    int status;
    run_shell("exit 7", NULL, &status);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    run_shell("kill -TERM $$", NULL, &status);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
}

static void a_child_sees_only_the_descriptors_it_was_given(void **state)
{
    (void)state;
    int leak = dup(2); /* not CLOEXEC on purpose */
    char *out = run_shell("cd /proc/self/fd && echo *", NULL, NULL);
    /* 3 is the glob's own open directory. */
    assert_true(strcmp(out, "0 1 2\n") == 0 || strcmp(out, "0 1 2 3\n") == 0);
    close(leak);
}

static void descriptors_may_be_swapped_and_repeated(void **state)
{
    (void)state;
    int a[2], b[2];
    assert_int_equal(pipe2(a, O_CLOEXEC), 0);
    assert_int_equal(pipe2(b, O_CLOEXEC), 0);
    /* Sources that lie inside the range of targets, each in another's place. */
    int low3 = fcntl(a[1], F_DUPFD_CLOEXEC, 3), high = fcntl(b[1], F_DUPFD_CLOEXEC, 3);
    int fds[16];
    for (size_t i = 0; i < COUNT_OF(fds); i++)
        fds[i] = -1;
    assert_in_range(low3, 3, 15);
    assert_in_range(high, 3, 15);
    fds[low3] = high;
    fds[high] = low3;
    char script[128];
    snprintf(script, sizeof script, "echo swapped >/proc/self/fd/%d; echo back >/proc/self/fd/%d",
             low3, high);
    struct loop_spawn how = {.fds = fds, .nfds = COUNT_OF(fds)};
    run_shell(script, &how, NULL);
    char text[16] = "";
    assert_int_equal(read(b[0], text, sizeof text - 1), 8);
    assert_string_equal(text, "swapped\n");
    memset(text, 0, sizeof text);
    assert_int_equal(read(a[0], text, sizeof text - 1), 5);
    assert_string_equal(text, "back\n");
    int all[] = {a[0], a[1], b[0], b[1], low3, high};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        close(all[i]);
}

static void a_child_starts_with_default_signals_and_an_empty_mask(void **state)
{
    (void)state;
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    char *out = run_shell("exec grep -E '^Sig(Blk|Ign)' /proc/self/status", NULL, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    unsigned long long blocked = 1, ignored = 1;
    assert_int_equal(sscanf(out, "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
    assert_int_equal(blocked, 0);
    /* glibc itself lets its two private signals (32, 33) be ignored in a spawned child. */
    assert_int_equal(ignored & ~0x180000000ULL, 0);
}

static void a_child_gets_its_directory_environment_and_session(void **state)
{
    (void)state;
    const char *envp[] = {"PATH=/usr/bin:/bin", "COLOUR=blue", NULL};
    struct loop_spawn how = {.cwd = "/usr", .envp = envp, .new_session = true};
    char *out =
        run_shell("pwd; echo $COLOUR; [ $(ps -o sid= -p $$) = $$ ] && echo leader", &how, NULL);
    assert_string_equal(out, "/usr\nblue\nleader\n");
}

static void a_missing_program_or_directory_is_named(void **state)
{
    (void)state;
    const char *argv[] = {"x", NULL};
    struct loop_child c;
    struct err err;
    struct loop_spawn how = {.file = "no-such-program-here", .argv = argv};
    assert_true(loop_spawn(loop, &c, &how, on_exited, &err) < 0);
    assert_int_equal(err.sys, ENOENT);
    assert_non_null(strstr(err.msg, "no-such-program-here"));
    how = (struct loop_spawn){.file = "/bin/true", .argv = argv, .cwd = "/no/such/directory"};
    assert_true(loop_spawn(loop, &c, &how, on_exited, &err) < 0);
    assert_non_null(strstr(err.msg, "/no/such/directory"));
}

static void a_group_can_be_killed_and_an_exited_child_not(void **state)
{
    (void)state;
    const char *argv[] = {"sh", "-c", "sleep 1000 & wait", NULL};
    struct loop_spawn how = {.file = "/bin/sh", .argv = argv, .new_session = true};
    struct loop_child c;
    struct err err;
    assert_int_equal(loop_spawn(loop, &c, &how, on_exited, &err), 0);
    assert_int_equal(loop_child_kill_group(&c, SIGKILL), 0);
    loop_run(loop);
    assert_int_equal(WTERMSIG(child_status), SIGKILL);
    assert_int_equal(loop_child_kill(&c, SIGKILL), ERR_NOT_FOUND);
}

static void on_exited_and_kept(struct loop_child *c, int wait_status)
{
    (void)c;
    (void)wait_status;
    loop_stop(loop);
}

/* A number that was free between a child's exit and its close must not be taken off the loop. */
static void closing_a_child_that_has_exited_leaves_the_next_one_on_the_loop(void **state)
{
    (void)state;
    const char *quick[] = {"true", NULL}, *slow[] = {"cat", NULL};
    struct loop_spawn how = {.file = "true", .argv = quick};
    struct loop_child first, second;
    struct err err;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(loop_spawn(loop, &first, &how, on_exited_and_kept, &err), 0);
    loop_run(loop);
    assert_int_equal(loop_child_kill(&first, SIGKILL), ERR_NOT_FOUND);
    int fds[] = {ends[0]};
    how = (struct loop_spawn){.file = "cat", .argv = slow, .fds = fds, .nfds = 1};
    assert_int_equal(loop_spawn(loop, &second, &how, on_exited, &err), 0);
    uv_run(loop_uv(loop), UV_RUN_NOWAIT);
    loop_child_close(&first, NULL);
    uv_run(loop_uv(loop), UV_RUN_NOWAIT);
    close(ends[0]);
    close(ends[1]);
    child_status = -1;
    loop_run(loop);
    assert_int_equal(child_status, 0);
}

static void a_child_closed_while_running_is_reaped_later(void **state)
{
    (void)state;
    const char *argv[] = {"cat", NULL};
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    int fds[] = {ends[0]};
    struct loop_spawn how = {.file = "cat", .argv = argv, .fds = fds, .nfds = 1};
    struct loop_child c, other;
    struct err err;
    assert_int_equal(loop_spawn(loop, &c, &how, on_exited, &err), 0);
    int pid = c.pid;
    loop_child_close(&c, NULL);
    close(ends[0]);
    close(ends[1]); /* its end of file: it exits now */
    /* Others come and go until it is gone: each turn of the loop may reap it. */
    const char *quick[] = {"true", NULL};
    how = (struct loop_spawn){.file = "true", .argv = quick};
    while (kill(pid, 0) == 0) {
        assert_int_equal(loop_spawn(loop, &other, &how, on_exited, &err), 0);
        loop_run(loop);
    }
    assert_int_equal(errno, ESRCH);
}

/* ---- frames ---- */

struct end {
    struct frame_conn *conn;
    struct buf got; /* payloads, each behind its length in brackets */
    int frames, stop_after;
    bool closed, echo, close_in_frame;
    struct err err;
};

static void end_frame(void *arg, struct str payload)
{
    struct end *e = arg;
    buf_printf(&e->got, "[%zu]", payload.len);
    buf_str(&e->got, str_take(payload, 64));
    struct err err;
    if (e->echo)
        assert_int_equal(frame_send(e->conn, payload, &err), 0);
    if (e->close_in_frame)
        frame_close(e->conn);
    if (++e->frames == e->stop_after)
        loop_stop(loop);
}

static void end_close(void *arg, const struct err *err)
{
    struct end *e = arg;
    e->closed = true;
    e->err = *err;
    frame_close(e->conn); /* harmless here */
    loop_stop(loop);
}

static void end_open(struct end *e, int fd)
{
    *e = (struct end){.got = BUF_INIT(1 << 20)};
    struct frame_events ev = {.on_frame = end_frame, .on_close = end_close, .arg = e};
    struct err err;
    assert_int_equal(frame_connect(loop, fd, &ev, &e->conn, &err), 0);
}

static void end_fini(struct end *e)
{
    if (!e->closed)
        frame_close(e->conn);
    buf_fini(&e->got);
}

static void frames_arrive_whole_in_order_whatever_the_cut(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct end e;
    end_open(&e, fds[0]);
    e.stop_after = 3;
    const char wire[] = "\0\0\0\3abc\0\0\0\0\0\0\0\2de";
    /* Byte by byte, the loop turning in between. */
    for (size_t i = 0; i < sizeof wire - 1; i++) {
        assert_int_equal(write(fds[1], wire + i, 1), 1);
        uv_run(loop_uv(loop), UV_RUN_NOWAIT);
    }
    assert_string_equal(e.got.data, "[3]abc[0][2]de");
    end_fini(&e);
    close(fds[1]);
}

static void large_frames_echo_through_a_full_socket(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct end a, b;
    end_open(&a, fds[0]);
    end_open(&b, fds[1]);
    b.echo = true;
    a.stop_after = 3;
    size_t len = 8 * 1024 * 1024;
    AUTO_FREE char *big = mem_alloc(len);
    memset(big, 'x', len);
    struct err err;
    for (int i = 0; i < 3; i++)
        assert_int_equal(frame_send(a.conn, str_n(big, len), &err), 0);
    assert_true(frame_queued(a.conn) > 0);
    loop_run(loop);
    assert_int_equal(a.frames, 3);
    assert_int_equal(frame_queued(a.conn), 0);
    end_fini(&a);
    end_fini(&b);
}

static void bad_ends_of_a_frame_stream_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *wire;
        size_t len;
        int code;
    } rows[] = {
        {"", 0, 0},
        {"\0\0\0\1a", 5, 0},
        {"\0\0", 2, ERR_PROTOCOL},
        {"\0\0\0\5ab", 6, ERR_PROTOCOL},
        {"\xff\xff\xff\xff", 4, ERR_TOO_LARGE},
        {"\x02\x80\0\1", 4, ERR_TOO_LARGE}, /* LIMIT_HAND_FRAME + 1 */
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        struct end e;
        end_open(&e, fds[0]);
        assert_int_equal(write(fds[1], rows[i].wire, rows[i].len), rows[i].len);
        close(fds[1]);
        loop_run(loop);
        assert_true(e.closed);
        assert_int_equal(e.err.code, rows[i].code);
        end_fini(&e);
    }
}

static void too_large_a_frame_is_refused_and_too_long_a_queue_too(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct end e;
    end_open(&e, fds[0]);
    size_t len = LIMIT_HAND_FRAME;
    AUTO_FREE char *big = mem_zalloc(len + 1);
    struct err err;
    assert_int_equal(frame_send(e.conn, str_n(big, len + 1), &err), ERR_TOO_LARGE);
    int sent = 0;
    while (sent < 10 && frame_send(e.conn, str_n(big, len), &err) == 0)
        sent++;
    assert_int_equal(sent, 3); /* the bound is looked at before a frame is queued */
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    end_fini(&e);
    close(fds[1]);
}

static void a_connection_closed_inside_a_frame_calls_no_more(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct end e;
    end_open(&e, fds[0]);
    e.close_in_frame = true;
    e.stop_after = 1;
    assert_int_equal(write(fds[1], "\0\0\0\1a\0\0\0\1b", 10), 10);
    loop_run(loop);
    uv_run(loop_uv(loop), UV_RUN_NOWAIT);
    assert_string_equal(e.got.data, "[1]a");
    assert_false(e.closed);
    buf_fini(&e.got);
    close(fds[1]);
}

static void a_paused_connection_leaves_frames_in_the_socket(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct end e;
    end_open(&e, fds[0]);
    frame_pause(e.conn, true);
    assert_int_equal(write(fds[1], "\0\0\0\1a", 5), 5);
    uv_run(loop_uv(loop), UV_RUN_NOWAIT);
    assert_int_equal(e.frames, 0);
    frame_pause(e.conn, false);
    e.stop_after = 1;
    loop_run(loop);
    assert_int_equal(e.frames, 1);
    end_fini(&e);
    close(fds[1]);
}

/* A listening socket under a path longer than sockaddr_un takes. */
static int listen_deep(char *path, size_t cap, char *dir)
{
    assert_non_null(mkdtemp(dir));
    int n = snprintf(path, cap, "%s/%0100d", dir, 0);
    mkdir(path, 0700);
    int d = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(path + n, cap - (size_t)n, "/sock");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    snprintf(sa.sun_path, sizeof sa.sun_path, "/proc/self/fd/%d/sock", d);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(fd, 1), 0);
    close(d);
    return fd;
}

static void dialling_works_for_long_paths_and_says_why_it_fails(void **state)
{
    (void)state;
    char dir[] = "/tmp/test-io-XXXXXX", path[256];
    int listener = listen_deep(path, sizeof path, dir);
    struct end e = {.got = BUF_INIT(100)};
    struct frame_events ev = {.on_frame = end_frame, .on_close = end_close, .arg = &e};
    struct err err;
    assert_int_equal(frame_dial(loop, path, &ev, &e.conn, &err), 0);
    int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_int_equal(write(peer, "\0\0\0\1a", 5), 5);
    close(peer);
    loop_run(loop);
    assert_string_equal(e.got.data, "[1]a");
    buf_fini(&e.got);

    close(listener);
    assert_int_equal(frame_dial(loop, path, &ev, &e.conn, &err), ERR_CONNECT);
    assert_int_equal(err.sys, ECONNREFUSED);
    unlink(path);
    assert_int_equal(frame_dial(loop, path, &ev, &e.conn, &err), ERR_CONNECT);
    assert_int_equal(err.sys, ENOENT);
    *strrchr(path, '/') = '\0';
    rmdir(path);
    rmdir(dir);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(posts_of_each_thread_run_on_the_loop_in_order),
        T(a_post_before_the_free_still_runs),
        T(timers_fire_once_in_the_order_of_their_delays),
        T(work_runs_off_the_loop_and_ends_on_it),
        T(a_signal_arrives_on_the_loop),
        T(a_child_reports_its_exit_code_or_signal),
        T(a_child_sees_only_the_descriptors_it_was_given),
        T(descriptors_may_be_swapped_and_repeated),
        T(a_child_starts_with_default_signals_and_an_empty_mask),
        T(a_child_gets_its_directory_environment_and_session),
        T(a_missing_program_or_directory_is_named),
        T(a_group_can_be_killed_and_an_exited_child_not),
        T(a_child_closed_while_running_is_reaped_later),
        T(closing_a_child_that_has_exited_leaves_the_next_one_on_the_loop),
        T(frames_arrive_whole_in_order_whatever_the_cut),
        T(large_frames_echo_through_a_full_socket),
        T(bad_ends_of_a_frame_stream_are_told_apart),
        T(too_large_a_frame_is_refused_and_too_long_a_queue_too),
        T(a_connection_closed_inside_a_frame_calls_no_more),
        T(a_paused_connection_leaves_frames_in_the_socket),
        T(dialling_works_for_long_paths_and_says_why_it_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
