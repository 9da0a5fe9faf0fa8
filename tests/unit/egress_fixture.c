#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "egress_fixture.h"

#include "base/fd.h"
#include "egress/proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000, TEXT_MAX = 4 << 20 };

struct loop *fx_loop;
struct egress *fx_egress;
int fx_server = -1, fx_canary = -1;
uint16_t fx_port, fx_canary_port;
struct seen fx_seen[FIXTURE_DECISIONS];
size_t fx_nseen;
unsigned fx_troubles;

static char dir[64], path[96], text[TEXT_MAX + 1];
static struct loop_timer watchdog;
static bool (*wanted)(void);

bool fx_is_proxy(int argc, char **argv, int *exit_code)
{
    if (argc != 6 || strcmp(argv[1], "egress") != 0)
        return false;
    *exit_code = proxy_main((int)strtol(argv[3], NULL, 10), (int)strtol(argv[5], NULL, 10));
    return true;
}

static int listen_tcp(uint16_t *port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0 && listen(fd, 64) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    *port = ntohs(sa.sin_port);
    return fd;
}

static void too_late(struct loop_timer *t)
{
    (void)t;
    fprintf(stderr, "the test hangs\n");
    abort();
}

int fx_setup(void **state)
{
    (void)state;
    str_copyz(dir, sizeof dir, STR("/tmp/test-egress-XXXXXX"));
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/s", dir);
    fx_loop = loop_new();
    loop_timer_init(fx_loop, &watchdog);
    loop_timer_start(&watchdog, 3 * PATIENCE_MS, too_late);
    fx_server = listen_tcp(&fx_port);
    fx_canary = listen_tcp(&fx_canary_port);
    fx_nseen = 0;
    fx_troubles = 0;
    return 0;
}

static void on_closed(void *arg)
{
    (void)arg;
    loop_stop(fx_loop);
}

int fx_teardown(void **state)
{
    (void)state;
    if (fx_egress) {
        egress_close(TAKE_PTR(fx_egress), on_closed, NULL);
        loop_run(fx_loop);
    }
    int reached = accept4(fx_canary, NULL, NULL, SOCK_CLOEXEC);
    bool quiet = reached < 0 && errno == EAGAIN;
    fd_close(reached);
    fd_close(TAKE_FD(fx_server));
    fd_close(TAKE_FD(fx_canary));
    loop_timer_close(&watchdog, NULL);
    loop_free(fx_loop);
    rmdir(dir);
    if (!quiet)
        fprintf(stderr, "the canary was reached\n");
    return quiet ? 0 : -1;
}

static void on_decision(void *arg, const struct egress_decision *d)
{
    (void)arg;
    assert_true(fx_nseen < FIXTURE_DECISIONS);
    struct seen *s = &fx_seen[fx_nseen++];
    *s = (struct seen){.reason = d->reason,
                       .connect = d->connect,
                       .port = d->port,
                       .up = d->bytes_up,
                       .down = d->bytes_down,
                       .started_us = d->started_us,
                       .duration_us = d->duration_us};
    str_copyz(s->session, sizeof s->session, d->session);
    str_copyz(s->host, sizeof s->host, d->host);
    str_copyz(s->address, sizeof s->address, d->address);
    str_copyz(s->detail, sizeof s->detail, d->detail);
    if (wanted && wanted())
        loop_stop(fx_loop);
}

static void on_trouble(void *arg, const struct err *err, int64_t retry_ms)
{
    (void)arg;
    (void)err;
    (void)retry_ms;
    fx_troubles++;
    if (wanted && wanted())
        loop_stop(fx_loop);
}

void fx_run_until(bool (*done)(void))
{
    wanted = done;
    if (!done())
        loop_run(fx_loop);
    wanted = NULL;
}

static size_t decisions_wanted;

static bool enough(void)
{
    return fx_nseen >= decisions_wanted;
}

const struct seen *fx_decision(size_t n)
{
    decisions_wanted = n + 1;
    fx_run_until(enough);
    return &fx_seen[n];
}

void fx_start(const struct fx_options *o)
{
    static const char *const loopback[] = {"127.0.0.0/8"};
    static const struct egress_host hosts[] = {
        {"ok.test", "127.0.0.1"},     {"other.test", "127.0.0.1"}, {"off.test", "127.0.0.1"},
        {"a.wild.test", "127.0.0.1"}, {"v6.test", "::1"},          {"inner.test", "10.0.0.1"}};
    static const char *const allowed[] = {"ok.test",   "other.test", "*.wild.test",
                                          "gone.test", "v6.test",    "inner.test"};
    const uint16_t ports[] = {443, fx_port, fx_canary_port};
    const struct egress_settings settings = {.allow_addresses = loopback,
                                             .nallow_addresses = o->closed ? 0 : 1,
                                             .hosts = hosts,
                                             .nhosts = COUNT_OF(hosts),
                                             .ports = ports,
                                             .nports = COUNT_OF(ports),
                                             .idle_ms = o->idle_ms,
                                             .connections = o->connections};
    const struct egress_policy policy = {.unrestricted = o->unrestricted,
                                         .allowed_hosts = allowed,
                                         .nallowed_hosts = COUNT_OF(allowed)};
    const struct egress_events ev = {on_decision, on_trouble, NULL};
    struct err err = {.code = 0};
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    if (egress_start(fx_loop, self, &settings, &ev, &fx_egress, &err) ||
        egress_add(fx_egress, STR("sesn_test"), &policy, path, &err))
        fail_msg("%s", err.msg);
}

static void patient(int fd)
{
    struct timeval t = {.tv_sec = PATIENCE_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
}

int fx_dial(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    str_copyz(sa.sun_path, sizeof sa.sun_path, str_z(path));
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    patient(fd);
    return fd;
}

int fx_accept(void)
{
    struct pollfd p = {.fd = fx_server, .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    int fd = accept4(fx_server, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    patient(fd);
    return fd;
}

void fx_send_bytes(int fd, struct str bytes)
{
    struct err err;
    if (fd_write_all(fd, bytes, &err))
        fail_msg("%s", err.msg);
}

void fx_send(int fd, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char out[8192];
    int n = vsnprintf(out, sizeof out, fmt, ap);
    va_end(ap);
    fx_send_bytes(fd, str_n(out, (size_t)n));
}

const char *fx_read(int fd, const char *until)
{
    size_t len = 0;
    for (;;) {
        text[len] = '\0';
        if (until && strstr(text, until))
            return text;
        assert_true(len < TEXT_MAX);
        /* Not a byte beyond what is wanted, so that the next read finds it. */
        ssize_t n = recv(fd, text + len, until ? 1 : TEXT_MAX - len, 0);
        if (n == 0 && !until)
            return text;
        if (n <= 0)
            fail_msg("waited for \"%s\", got \"%.300s\" (%s)", until ? until : "the end", text,
                     n ? strerror(errno) : "closed");
        len += (size_t)n;
    }
}

bool fx_at_end(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

struct str fx_hello(const char *name)
{
    static char out[1024];
    size_t n = strlen(name), body = 2 + 32 + 1 + 4 + 2 + 2 + 9 + n, at = 0;
    const unsigned char head[] = {
        22, 3, 1, 0, (unsigned char)(body + 4), 1, 0, 0, (unsigned char)body, 3, 3};
    const unsigned char middle[] = {0,
                                    0,
                                    2,
                                    0x13,
                                    1,
                                    1,
                                    0,
                                    0,
                                    (unsigned char)(n + 9),
                                    0,
                                    0,
                                    0,
                                    (unsigned char)(n + 5),
                                    0,
                                    (unsigned char)(n + 3),
                                    0,
                                    0,
                                    (unsigned char)n};
    memcpy(out, head, sizeof head);
    at = sizeof head;
    memset(out + at, 7, 32);
    at += 32;
    memcpy(out + at, middle, sizeof middle);
    at += sizeof middle;
    memcpy(out + at, name, n);
    return str_n(out, at + n);
}
