/* File tools run in short-lived children of the hand: a fifo or a slow disk blocks only them. */
#include "hand/hand.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RESULT_FD = 3, RESULT_FDS = 4, CHUNK = 65536 };

/* The first byte of what a child sends. */
#define VERDICT_OK 'o'
#define VERDICT_ERROR 'e'

static _Noreturn void run_child(const struct hand *h, const struct call *c)
{
    struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *input;
    struct err err = {.code = 0};
    struct buf out = BUF_INIT(HAND_RESULT_MAX);
    bool ok = false;
    if (json_parse(&a, str_n(c->input, c->input_len), JSON_ALLOW_DUPLICATES, &input, &err) == 0)
        ok = c->tool->run(&h->env, input, &out);
    else
        buf_z(&out, err.msg);
    struct buf clean = BUF_INIT(HAND_RESULT_MAX);
    text_clean(&clean, buf_view(&out), false);
    /* Here and not in the hand: writing the file may block. */
    text_preview(&clean, h->cfg.spill_dir, c->id);
    char verdict = ok ? VERDICT_OK : VERDICT_ERROR;
    int rc = fd_write_all(RESULT_FD, str_n(&verdict, 1), &err);
    if (rc == 0)
        rc = fd_write_all(RESULT_FD, buf_view(&clean), &err);
    _exit(rc ? 1 : 0);
}

bool child_start(struct hand *h, struct call *c, char why[128])
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0) {
        snprintf(why, 128, "%s: cannot start: errno %d", c->tool->name, errno);
        return false;
    }
    pid_t pid = fork();
    if (pid == 0) {
        if (fds[1] != RESULT_FD)
            dup3(fds[1], RESULT_FD, O_CLOEXEC);
        proc_child(RESULT_FDS);
        run_child(h, c);
    }
    int sys = errno;
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        snprintf(why, 128, "%s: cannot start a process: %s", c->tool->name,
                 sys == EAGAIN ? "too many processes run in the sandbox" : strerror(sys));
        return false;
    }
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    c->pid = pid;
    c->pipe = fds[0];
    c->raw = BUF_INIT(HAND_RESULT_MAX + 2 * CHUNK);
    return true;
}

static void close_child(struct call *c)
{
    /* Its process group is its own session's: ripgrep goes with it. Reaped by the SIGCHLD. */
    if (c->pid > 0 && kill(-c->pid, SIGKILL) < 0)
        kill(c->pid, SIGKILL); /* it has not made its session yet */
    c->pid = 0;
    fd_close(TAKE_FD(c->pipe));
    buf_fini(&c->raw);
}

static void finish(struct hand *h, struct call *c)
{
    struct str got = buf_view(&c->raw);
    char text[128];
    if (got.len && (got.ptr[0] == VERDICT_OK || got.ptr[0] == VERDICT_ERROR)) {
        call_done(h, c, str_skip(got, 1), got.ptr[0] == VERDICT_ERROR, NULL);
    } else {
        snprintf(text, sizeof text, "%s: the tool was ended before it could answer", c->tool->name);
        call_done(h, c, str_z(text), true, NULL);
    }
    close_child(c);
}

void child_readable(struct hand *h, struct call *c)
{
    for (;;) {
        char *to = buf_reserve(&c->raw, CHUNK);
        if (!to)
            break;
        ssize_t n = read(c->pipe, to, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            break;
        buf_commit(&c->raw, (size_t)n);
    }
    finish(h, c);
}

void child_end(struct hand *h, struct call *c, const char *text, const char *reason)
{
    call_done(h, c, str_z(text), true, reason);
    close_child(c);
}

size_t children_running(const struct hand *h, bool writers)
{
    size_t n = 0;
    list_for_each (it, &h->calls) {
        struct call *c = LIST_ENTRY(it, struct call, node);
        n += c->state == CALL_RUNNING && c->tool && (!writers || c->tool->writes);
    }
    return n;
}
