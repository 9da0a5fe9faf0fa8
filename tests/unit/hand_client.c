#include "hand_client.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 30000 };

static int listen_at(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    assert_true(str_copyz(a.sun_path, sizeof a.sun_path, str_z(path)));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 8), 0);
    return fd;
}

void hand_start(struct hand_run *h, const char *exe, const char *const *extra)
{
    snprintf(h->dir, sizeof h->dir, "/tmp/ostler-hand-XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    char work[96], spill[96];
    snprintf(work, sizeof work, "%s/work", h->dir);
    snprintf(spill, sizeof spill, "%s/spill", h->dir);
    snprintf(h->socket, sizeof h->socket, "%s/s", h->dir);
    assert_int_equal(mkdir(work, 0755), 0);
    int fd = listen_at(h->socket);
    const char *argv[32] = {exe,       "--fd", "3",          "--workdir", work,
                            "--spill", spill,  "--grace-ms", "20000"};
    size_t n = 9;
    for (size_t i = 0; extra && extra[i]; i++)
        argv[n++] = extra[i];
    argv[n] = NULL;
    h->pid = fork();
    assert_true(h->pid >= 0);
    if (h->pid == 0) {
        setenv("ANTHROPIC_API_KEY", "must not be seen", 1);
        if (fd == 3)
            fcntl(3, F_SETFD, 0);
        else
            dup2(fd, 3);
        execv(exe, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(fd);
}

int hand_wait(struct hand_run *h)
{
    int status = 0;
    if (h->pid > 0)
        assert_int_equal(waitpid(h->pid, &status, 0), h->pid);
    h->pid = 0;
    return status;
}

void hand_stop(struct hand_run *h)
{
    if (h->pid > 0)
        kill(h->pid, SIGTERM);
    hand_wait(h);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/rm", "rm", "-rf", h->dir, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

void client_open(struct client *c, const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    assert_true(str_copyz(a.sun_path, sizeof a.sun_path, str_z(path)));
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&a, sizeof a), 0);
    c->in = BUF_INIT((size_t)LIMIT_HAND_FRAME + (1 << 20));
    arena_init(&c->arena, LIMIT_JSON_ARENA);
    const struct json *hello = client_read(c);
    assert_true(str_eqz(json_get_str(hello, "op"), "hello"));
}

void client_close(struct client *c)
{
    fd_close(TAKE_FD(c->fd));
    buf_fini(&c->in);
    arena_fini(&c->arena);
}

static void send_frame(struct client *c, struct buf *frame)
{
    struct err err;
    assert_true(buf_ok(frame));
    assert_int_equal(fd_write_all(c->fd, buf_view(frame), &err), 0);
    buf_fini(frame);
}

void client_send(struct client *c, const char *json)
{
    struct buf b = BUF_INIT((size_t)LIMIT_HAND_FRAME + 4);
    size_t at = proto_begin(&b);
    buf_z(&b, json);
    proto_end(&b, at);
    send_frame(c, &b);
}

void client_run(struct client *c, const char *id, const char *tool, const char *input)
{
    struct buf b = BUF_INIT((size_t)LIMIT_HAND_FRAME + 4);
    size_t at = proto_begin(&b);
    proto_write_run(&b, str_z(id), str_z(tool), str_z(input), 20000);
    proto_end(&b, at);
    send_frame(c, &b);
}

static ssize_t receive(struct client *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    int n;
    do
        n = poll(&p, 1, PATIENCE_MS);
    while (n < 0 && errno == EINTR);
    assert_int_equal(n, 1); /* the hand did not answer in time */
    char *to = buf_reserve(&c->in, 65536);
    assert_non_null(to);
    ssize_t got = recv(c->fd, to, 65536, 0);
    if (got > 0)
        buf_commit(&c->in, (size_t)got);
    return got;
}

const struct json *client_read(struct client *c)
{
    struct str payload;
    size_t used;
    struct err err;
    while (proto_cut(&c->in, LIMIT_HAND_FRAME, &payload, &used, &err) == 0)
        assert_true(receive(c) > 0); /* the hand closed the connection */
    arena_reset(&c->arena);
    struct str copy = arena_str(&c->arena, payload);
    const struct json *doc;
    assert_int_equal(json_parse(&c->arena, copy, 0, &doc, &err), 0);
    buf_consume(&c->in, used);
    return doc;
}

const struct json *client_wait(struct client *c, const char *op, const char *id)
{
    for (;;) {
        const struct json *doc = client_read(c);
        if (str_eqz(json_get_str(doc, "op"), op) && (!id || str_eqz(json_get_str(doc, "id"), id)))
            return doc;
    }
}

bool client_closed(struct client *c)
{
    ssize_t n;
    while ((n = receive(c)) > 0)
        ;
    return n == 0 || errno == ECONNRESET;
}
