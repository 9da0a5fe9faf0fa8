/* egress/: the proxy's process with real sockets on loopback. Behind every test stands a canary, a
 * server that nothing may ever reach. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "egress_fixture.h"

#include "base/fd.h"
#include "base/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct fx_options limited = {.closed = false};

/* Opens a tunnel to ok.test; the client's end, with the server's in *server. */
static int tunnel(int *server)
{
    int c = fx_dial();
    fx_send(c, "CONNECT ok.test:%u HTTP/1.1\r\nHost: ok.test:%u\r\n\r\n", fx_port, fx_port);
    fx_read(c, "200 Connection established\r\n\r\n");
    *server = fx_accept();
    return c;
}

static void a_tunnel_to_a_listed_host_carries_bytes(void **state)
{
    (void)state;
    int s, c;
    fx_start(&limited);
    c = tunnel(&s);
    struct str hello = fx_hello("OK.test");
    fx_send_bytes(c, hello);
    char got[512];
    assert_int_equal(recv(s, got, hello.len, MSG_WAITALL), (ssize_t)hello.len);
    assert_memory_equal(got, hello.ptr, hello.len);
    fx_send(s, "down");
    assert_string_equal(fx_read(c, "down"), "down");
    shutdown(c, SHUT_WR);
    assert_string_equal(fx_read(s, NULL), "");
    fx_send(s, "last words");
    close(s);
    assert_string_equal(fx_read(c, NULL), "last words");
    close(c);
    const struct seen *d = fx_decision(0);
    assert_int_equal(d->reason, EGRESS_ALLOWED);
    assert_true(d->connect);
    assert_string_equal(d->session, "sesn_test");
    assert_string_equal(d->host, "ok.test");
    assert_string_equal(d->address, "127.0.0.1");
    assert_int_equal(d->port, fx_port);
    assert_int_equal(d->up, hello.len);
    assert_int_equal(d->down, 14);
    assert_true(d->started_us > 0 && d->duration_us > 0);
}

static void a_hello_may_come_byte_by_byte(void **state)
{
    (void)state;
    int s, c;
    fx_start(&limited);
    c = tunnel(&s);
    struct str hello = fx_hello("ok.test");
    for (size_t i = 0; i < hello.len; i++)
        fx_send_bytes(c, str_n(hello.ptr + i, 1));
    char got[512];
    assert_int_equal(recv(s, got, hello.len, MSG_WAITALL), (ssize_t)hello.len);
    close(c);
    close(s);
}

/* Sends `bytes` into a tunnel to ok.test and expects that its server gets nothing. */
static void expect_mismatch(struct str bytes, size_t n)
{
    int s, c = tunnel(&s);
    fx_send_bytes(c, bytes);
    char alert[7];
    assert_int_equal(recv(c, alert, sizeof alert, MSG_WAITALL), 7);
    assert_memory_equal(alert, "\x15\x03\x01\x00\x02\x02\x70", 7);
    assert_string_equal(fx_read(s, NULL), "");
    assert_int_equal(fx_decision(n)->reason, EGRESS_SNI_MISMATCH);
    assert_int_equal(fx_decision(n)->up, 0);
    close(c);
    close(s);
}

static void another_name_in_the_hello_is_refused(void **state)
{
    (void)state;
    fx_start(&limited);
    expect_mismatch(fx_hello("other.test"), 0);
    assert_non_null(strstr(fx_seen[0].detail, "other.test"));
    expect_mismatch(fx_hello("off.test"), 1);
    expect_mismatch(fx_hello("ok.test.off.test"), 2);
    expect_mismatch(fx_hello("127.0.0.1"), 3);
    expect_mismatch(fx_hello(""), 4);
}

static void a_relayed_connect_in_a_tunnel_is_refused(void **state)
{
    (void)state;
    fx_start(&limited);
    char inner[128];
    snprintf(inner, sizeof inner, "CONNECT off.test:%u HTTP/1.1\r\nHost: off.test\r\n\r\n",
             fx_canary_port);
    expect_mismatch(str_z(inner), 0);
    expect_mismatch(STR("SSH-2.0-OpenSSH\r\n"), 1);
}

static void a_server_that_speaks_first_waits_for_the_hello(void **state)
{
    (void)state;
    int s, c;
    fx_start(&limited);
    c = tunnel(&s);
    fx_send(s, "220 hello");
    fx_send(c, "EHLO x\r\n");
    assert_string_equal(fx_read(c, NULL), "\x15\x03\x01"); /* the alert's bytes before its NUL */
    close(c);
    close(s);
}

/* Sends a request and expects to be refused with this status and reason. */
static void expect_refusal(size_t n, int status, enum egress_reason reason, const char *request)
{
    int c = fx_dial();
    char line[32];
    fx_send_bytes(c, str_z(request));
    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    const char *got = fx_read(c, NULL);
    if (strncmp(got, line, strlen(line)) != 0)
        fail_msg("%s\nis answered by\n%s", request, got);
    assert_non_null(strstr(got, egress_reason_name(reason)));
    const struct seen *d = fx_decision(n);
    if (d->reason != reason)
        fail_msg("%s\nis %s", request, egress_reason_name(d->reason));
    assert_non_null(strstr(got, d->detail));
    assert_true(d->detail[0]);
    close(c);
}

static void a_host_off_the_list_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const hosts[] = {"off.test",  "ok.test.off.test", "notok.test",
                                        "wild.test", "localhost",        "ip6-localhost"};
    fx_start(&limited);
    size_t n = 0;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        char request[512];
        snprintf(request, sizeof request, "CONNECT %s:%u HTTP/1.1\r\nHost: x\r\n\r\n", hosts[i],
                 fx_canary_port);
        expect_refusal(n, 403, EGRESS_HOST_NOT_ALLOWED, request);
        assert_string_equal(fx_seen[n].host, hosts[i]);
        assert_non_null(strstr(fx_seen[n].detail, hosts[i]));
        assert_non_null(strstr(fx_seen[n++].detail, "networking.allowed_hosts"));
        snprintf(request, sizeof request, "GET http://%s:%u/ HTTP/1.1\r\nHost: %s:%u\r\n\r\n",
                 hosts[i], fx_canary_port, hosts[i], fx_canary_port);
        expect_refusal(n++, 403, EGRESS_HOST_NOT_ALLOWED, request);
    }
}

static void an_address_is_refused_in_every_spelling(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        int status;
    } cases[] = {
        {"127.0.0.1", 403},  {"[::1]", 403},      {"[::ffff:127.0.0.1]", 403}, {"127.1", 400},
        {"2130706433", 400}, {"0x7f000001", 400}, {"017700000001", 400},       {"127.0.0.1.", 400},
    };
    fx_start(&limited);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char request[512];
        snprintf(request, sizeof request, "CONNECT %s:%u HTTP/1.1\r\nHost: x\r\n\r\n",
                 cases[i].host, fx_canary_port);
        expect_refusal(i, cases[i].status,
                       cases[i].status == 403 ? EGRESS_HOST_NOT_ALLOWED : EGRESS_NOT_HTTP, request);
    }
}

static void a_listed_name_that_leads_inside_is_refused(void **state)
{
    (void)state;
    fx_start(&(struct fx_options){.closed = true});
    char request[256];
    snprintf(request, sizeof request, "CONNECT ok.test:%u HTTP/1.1\r\nHost: x\r\n\r\n",
             fx_canary_port);
    expect_refusal(0, 403, EGRESS_ADDRESS_NOT_ALLOWED, request);
    assert_string_equal(fx_seen[0].address, "127.0.0.1");
    snprintf(request, sizeof request, "GET http://ok.test:%u/ HTTP/1.1\r\nHost: ok.test:%u\r\n\r\n",
             fx_canary_port, fx_canary_port);
    expect_refusal(1, 403, EGRESS_ADDRESS_NOT_ALLOWED, request);
    expect_refusal(2, 403, EGRESS_ADDRESS_NOT_ALLOWED,
                   "CONNECT v6.test:443 HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_refusal(3, 403, EGRESS_ADDRESS_NOT_ALLOWED,
                   "CONNECT inner.test:443 HTTP/1.1\r\nHost: x\r\n\r\n");
}

static void unrestricted_is_not_the_inside(void **state)
{
    (void)state;
    static const char *const hosts[] = {"127.0.0.1",
                                        "[::1]",
                                        "10.0.0.1",
                                        "169.254.169.254",
                                        "[::ffff:127.0.0.1]",
                                        "[64:ff9b::7f00:1]",
                                        "ok.test",
                                        "0.0.0.0",
                                        "[::]",
                                        "100.100.100.200"};
    fx_start(&(struct fx_options){.closed = true, .unrestricted = true});
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        char request[512];
        snprintf(request, sizeof request, "CONNECT %s:%u HTTP/1.1\r\nHost: x\r\n\r\n", hosts[i],
                 fx_canary_port);
        expect_refusal(i, 403, EGRESS_ADDRESS_NOT_ALLOWED, request);
    }
}

static void unrestricted_carries_any_bytes_to_any_port(void **state)
{
    (void)state;
    fx_start(&(struct fx_options){.unrestricted = true});
    int s, c = tunnel(&s);
    fx_send(s, "220 I speak first");
    fx_read(c, "first");
    fx_send(c, "EHLO");
    fx_read(s, "EHLO");
    close(c);
    close(s);
    assert_int_equal(fx_decision(0)->reason, EGRESS_ALLOWED);
}

static void what_is_no_proxy_request_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        int status;
        enum egress_reason reason;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n", 400, EGRESS_NOT_HTTP},
        {"GET https://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n", 400, EGRESS_NOT_HTTP},
        {"GET ftp://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n", 400, EGRESS_NOT_HTTP},
        {"GET http://a@ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n", 400, EGRESS_NOT_HTTP},
        {"CONNECT ok.test HTTP/1.1\r\nHost: ok.test\r\n\r\n", 400, EGRESS_NOT_HTTP},
        {"CONNECT / HTTP/1.1\r\nHost: ok.test\r\n\r\n", 400, EGRESS_NOT_HTTP},
        {"\x16\x03\x01\x02", 400, EGRESS_NOT_HTTP},
        {"GET http://ok.test/ HTTP/1.1\nHost: ok.test\n\n", 400, EGRESS_NOT_HTTP},
        {"GET http://ok.test/ HTTP/1.1\r\nHost: off.test\r\n\r\n", 403, EGRESS_HOST_NOT_ALLOWED},
        {"GET http://ok.test/ HTTP/1.1\r\nHost: ok.test:81\r\n\r\n", 403, EGRESS_HOST_NOT_ALLOWED},
        {"GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\nHost: off.test\r\n\r\n", 400,
         EGRESS_NOT_HTTP},
        {"POST http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 1\r\n"
         "Transfer-Encoding: chunked\r\n\r\n",
         400, EGRESS_NOT_HTTP},
        {"CONNECT ok.test:22 HTTP/1.1\r\nHost: x\r\n\r\n", 403, EGRESS_PORT_NOT_ALLOWED},
        {"CONNECT ok.test:443 HTTP/1.0\r\n\r\n", 502, EGRESS_CONNECT_FAILED},
    };
    fx_start(&limited);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_refusal(i, cases[i].status, cases[i].reason, cases[i].request);
}

static void a_head_beyond_its_bound_is_refused(void **state)
{
    (void)state;
    fx_start(&limited);
    int c = fx_dial();
    fx_send(c, "GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n");
    for (int i = 0; i < 40; i++)
        fx_send(c, "X-%d: %01000d\r\n", i, 0);
    assert_non_null(strstr(fx_read(c, NULL), "HTTP/1.1 431 "));
    close(c);
    assert_int_equal(fx_decision(0)->reason, EGRESS_NOT_HTTP);
}

/* ---- plain HTTP ---- */

static void a_request_is_written_anew_without_what_is_for_the_hop(void **state)
{
    (void)state;
    fx_start(&limited);
    int c = fx_dial();
    fx_send(c,
            "GET http://OK.test:%u/a/b?c=d HTTP/1.1\r\nhost: ok.test:%u\r\nAccept: */*\r\n"
            "Proxy-Authorization: Basic x\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n"
            "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nUpgrade: h2c\r\nX-Other: 2\r\n\r\n",
            fx_port, fx_port);
    int s = fx_accept();
    char want[256];
    snprintf(want, sizeof want,
             "GET /a/b?c=d HTTP/1.1\r\nHost: ok.test:%u\r\nAccept: */*\r\nX-Other: 2\r\n"
             "Connection: close\r\n\r\n",
             fx_port);
    assert_string_equal(fx_read(s, "\r\n\r\n"), want);
    fx_send(s,
            "HTTP/1.1 302 Found\r\nLocation: http://off.test:%u/\r\nConnection: close\r\n"
            "Content-Length: 2\r\nKeep-Alive: 5\r\n\r\nhi",
            fx_canary_port);
    snprintf(want, sizeof want,
             "HTTP/1.1 302 Found\r\nLocation: http://off.test:%u/\r\nContent-Length: 2\r\n\r\nhi",
             fx_canary_port);
    assert_string_equal(fx_read(c, "hi"), want);
    assert_true(fx_at_end(s));
    /* The client follows the redirect on the same connection, and is checked again. */
    fx_send(c, "GET http://off.test:%u/ HTTP/1.1\r\nHost: off.test:%u\r\n\r\n", fx_canary_port,
            fx_canary_port);
    assert_non_null(strstr(fx_read(c, NULL), "HTTP/1.1 403 "));
    assert_int_equal(fx_decision(0)->reason, EGRESS_ALLOWED);
    assert_int_equal(fx_decision(0)->down, 2);
    assert_int_equal(fx_decision(1)->reason, EGRESS_HOST_NOT_ALLOWED);
    close(c);
    close(s);
}

static void chunked_bodies_stream_both_ways(void **state)
{
    (void)state;
    fx_start(&limited);
    int c = fx_dial();
    fx_send(c,
            "POST http://ok.test:%u/ HTTP/1.1\r\nHost: ok.test:%u\r\nExpect: 100-continue\r\n"
            "Transfer-Encoding: chunked\r\n\r\n",
            fx_port, fx_port);
    int s = fx_accept();
    assert_non_null(strstr(fx_read(s, "\r\n\r\n"), "Transfer-Encoding: chunked\r\n"));
    fx_send(s, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_string_equal(fx_read(c, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    fx_send(c, "5;ext=1\r\nhel");
    assert_string_equal(fx_read(s, "hel\r\n"), "3\r\nhel\r\n");
    fx_send(c, "lo\r\n0\r\nTrailer: x\r\n\r\n");
    assert_string_equal(fx_read(s, "0\r\n\r\n"), "2\r\nlo\r\n0\r\n\r\n");
    fx_send(s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    assert_non_null(strstr(fx_read(c, "ab\r\n"), "\r\n\r\n2\r\nab\r\n"));
    fx_send(s, "0\r\n\r\n");
    assert_string_equal(fx_read(c, "0\r\n\r\n"), "0\r\n\r\n");
    assert_int_equal(fx_decision(0)->up, 5);
    assert_int_equal(fx_decision(0)->down, 2);
    close(c);
    close(s);
}

/* What a server answers to `method`, and what the client then gets: all of it, or its beginning. */
static void expect_answer(const char *method, const char *answer, const char *body, bool stays)
{
    int c = fx_dial();
    fx_send(c, "%s http://ok.test:%u/ HTTP/1.1\r\nHost: ok.test:%u\r\n\r\n", method, fx_port,
            fx_port);
    int s = fx_accept();
    fx_read(s, "\r\n\r\n");
    fx_send(s, "%s", answer);
    close(s);
    if (stays) { /* the next request is answered: it ended where it should */
        fx_send(c, "GET http://off.test/ HTTP/1.1\r\nHost: off.test\r\n\r\n");
    }
    const char *got = fx_read(c, NULL), *end = strstr(got, "\r\n\r\n");
    assert_non_null(end);
    if (strncmp(end + 4, body, strlen(body)) != 0)
        fail_msg("%s\nbecomes\n%s", answer, got);
    assert_true(!stays == !strstr(end + 4, "HTTP/1.1 403"));
    close(c);
}

static void a_body_ends_where_its_message_says(void **state)
{
    (void)state;
    fx_start(&limited);
    expect_answer("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabX", "abHTTP/1.1 403", true);
    expect_answer("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 403", true);
    expect_answer("GET", "HTTP/1.1 204 No\r\n\r\n", "HTTP/1.1 403", true);
    expect_answer("GET", "HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 403", true);
    expect_answer("GET", "HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end", false);
    expect_answer("GET", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", "cut", false);
    expect_answer("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ncut\r\n",
                  "3\r\ncut\r\n", false);
}

static void a_server_that_is_none_is_a_bad_gateway(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "", "SSH-2.0-x\r\n", "HTTP/1.1 200\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n"};
    fx_start(&limited);
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        int c = fx_dial();
        fx_send(c, "GET http://ok.test:%u/ HTTP/1.1\r\nHost: ok.test:%u\r\n\r\n", fx_port, fx_port);
        int s = fx_accept();
        fx_read(s, "\r\n\r\n");
        fx_send(s, "%s", answers[i]);
        close(s);
        assert_non_null(strstr(fx_read(c, NULL), "HTTP/1.1 502 "));
        assert_int_equal(fx_decision(i)->reason, EGRESS_CONNECT_FAILED);
        close(c);
    }
}

static void requests_sent_ahead_are_answered_in_order(void **state)
{
    (void)state;
    fx_start(&limited);
    int c = fx_dial();
    for (int i = 0; i < 3; i++)
        fx_send(c, "GET http://ok.test:%u/%d HTTP/1.1\r\nHost: ok.test:%u\r\n\r\n", fx_port, i,
                fx_port);
    for (int i = 0; i < 3; i++) {
        char want[32];
        int s = fx_accept();
        snprintf(want, sizeof want, "GET /%d ", i);
        assert_non_null(strstr(fx_read(s, "\r\n\r\n"), want));
        fx_send(s, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<%d>", i);
        snprintf(want, sizeof want, "<%d>", i);
        fx_read(c, want);
        close(s);
    }
    close(c);
}

/* ---- bounds ---- */

static size_t push_until_full(int fd)
{
    static const char block[64 * 1024];
    size_t total = 0;
    struct timeval t = {.tv_usec = 300 * 1000}; /* nothing moves for so long: it is full */
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    for (ssize_t n; total < 256u << 20 && (n = send(fd, block, sizeof block, MSG_NOSIGNAL)) > 0;)
        total += (size_t)n;
    return total;
}

static void a_reader_that_stops_stops_its_writer(void **state)
{
    (void)state;
    fx_start(&(struct fx_options){.unrestricted = true});
    int s, c = tunnel(&s);
    size_t down = push_until_full(s), up = push_until_full(c);
    /* What fits into sockets and queues, on the way down and up: a few MiB, not all there is. */
    assert_true(down > 64 * 1024 && down < 32u << 20);
    assert_true(up > 64 * 1024 && up < 32u << 20);
    static char sink[64 * 1024];
    for (size_t got = 0; got < down;) {
        ssize_t n = recv(c, sink, sizeof sink, 0);
        assert_true(n > 0);
        got += (size_t)n;
    }
    for (size_t got = 0; got < up;) {
        ssize_t n = recv(s, sink, sizeof sink, 0);
        assert_true(n > 0);
        got += (size_t)n;
    }
    close(c);
    close(s);
    assert_int_equal(fx_decision(0)->down, down);
    assert_int_equal(fx_decision(0)->up, up);
}

static void connections_beyond_the_bound_wait(void **state)
{
    (void)state;
    fx_start(&(struct fx_options){.connections = 2});
    int a = fx_dial(), b = fx_dial(), c = fx_dial();
    const char *request = "GET http://off.test/ HTTP/1.1\r\nHost: off.test\r\n\r\n";
    fx_send(c, "%s", request);
    fx_send(b, "%s", request);
    fx_read(b, "networking.allowed_hosts");
    char byte;
    assert_true(recv(c, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
    close(a);
    close(b);
    fx_read(c, "networking.allowed_hosts");
    close(c);
}

static void silence_ends_a_tunnel(void **state)
{
    (void)state;
    fx_start(&(struct fx_options){.idle_ms = 50});
    int s, c = tunnel(&s);
    fx_send_bytes(c, fx_hello("ok.test"));
    fx_read(c, NULL);
    assert_true(fx_at_end(c));
    close(c);
    close(s);
    assert_int_equal(fx_decision(0)->reason, EGRESS_ALLOWED);
}

/* ---- the process ---- */

static bool restarted(void)
{
    return fx_troubles > 0;
}

static void a_proxy_that_dies_is_started_again(void **state)
{
    (void)state;
    fx_start(&limited);
    int pid = egress_pid(fx_egress), s, c = tunnel(&s);
    assert_true(pid > 0);
    kill(pid, SIGKILL);
    assert_true(fx_at_end(c));
    close(c);
    close(s);
    fx_run_until(restarted);
    int waiting = fx_dial(); /* nobody serves it yet: the socket keeps it */
    fx_send(waiting, "GET http://off.test/ HTTP/1.1\r\nHost: off.test\r\n\r\n");
    fx_decision(0);
    fx_read(waiting, "networking.allowed_hosts");
    assert_true(egress_pid(fx_egress) > 0 && egress_pid(fx_egress) != pid);
    close(waiting);
}

static void what_is_removed_is_cut_and_told(void **state)
{
    (void)state;
    fx_start(&limited);
    int s, c = tunnel(&s);
    fx_send_bytes(c, fx_hello("ok.test"));
    char got[16];
    assert_true(recv(s, got, sizeof got, 0) > 0);
    egress_remove(fx_egress, STR("sesn_test"));
    egress_remove(fx_egress, STR("sesn_test"));
    assert_true(fx_at_end(c));
    assert_int_equal(fx_decision(0)->reason, EGRESS_ALLOWED);
    close(c);
    close(s);
}

static void the_end_tells_what_was_open(void **state)
{
    (void)state;
    fx_start(&limited);
    int s, c = tunnel(&s);
    fx_send_bytes(c, fx_hello("ok.test"));
    char got[16];
    assert_true(recv(s, got, sizeof got, 0) > 0);
    fx_teardown(NULL);
    assert_int_equal(fx_nseen, 1);
    assert_int_equal(fx_troubles, 0);
    assert_true(fx_seen[0].up > 0);
    close(c);
    close(s);
    fx_setup(NULL);
}

static void the_process_holds_no_rights(void **state)
{
    (void)state;
    fx_start(&limited);
    int c = fx_dial(); /* an answer: it has confined itself by now */
    fx_send(c, "x x x\r\n\r\n");
    fx_read(c, NULL);
    close(c);
    char path[64];
    AUTO_BUF struct buf status = BUF_INIT(64 * 1024);
    struct err err;
    snprintf(path, sizeof path, "/proc/%d/status", egress_pid(fx_egress));
    assert_int_equal(fd_read_file(path, &status, &err), 0);
    assert_non_null(strstr(status.data, "NoNewPrivs:\t1"));
    assert_non_null(strstr(status.data, "CapEff:\t0000000000000000"));
    assert_non_null(strstr(status.data, "CapPrm:\t0000000000000000"));
}

static void mistakes_are_told_at_once(void **state)
{
    (void)state;
    static const char *const bad[] = {"http://ok.test"};
    struct err err = {.code = 0};
    fx_start(&limited);
    struct egress_policy policy = {.allowed_hosts = bad, .nallowed_hosts = 1};
    assert_int_equal(egress_add(fx_egress, STR("sesn_b"), &policy, "/tmp/no", &err), ERR_INVALID);
    assert_string_equal(err.at, "/allowed_hosts/0");
    policy.nallowed_hosts = 0;
    assert_int_equal(egress_add(fx_egress, STR("sesn_test"), &policy, "/tmp/no", &err), ERR_EXISTS);
    assert_int_equal(egress_add(fx_egress, STR("sesn_b"), &policy, "/nowhere/at/all", &err),
                     ERR_IO);
    const struct egress_settings wrong = {.allow_addresses = bad, .nallow_addresses = 1};
    const struct egress_events ev = {.on_decision = NULL};
    struct egress *none;
    assert_int_equal(egress_start(fx_loop, "/bin/true", &wrong, &ev, &none, &err), ERR_INVALID);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(int argc, char **argv)
{
    int exit_code;
    if (fx_is_proxy(argc, argv, &exit_code))
        return exit_code;
    const struct CMUnitTest tests[] = {
        TEST(a_tunnel_to_a_listed_host_carries_bytes),
        TEST(a_hello_may_come_byte_by_byte),
        TEST(another_name_in_the_hello_is_refused),
        TEST(a_relayed_connect_in_a_tunnel_is_refused),
        TEST(a_server_that_speaks_first_waits_for_the_hello),
        TEST(a_host_off_the_list_is_refused_by_name),
        TEST(an_address_is_refused_in_every_spelling),
        TEST(a_listed_name_that_leads_inside_is_refused),
        TEST(unrestricted_is_not_the_inside),
        TEST(unrestricted_carries_any_bytes_to_any_port),
        TEST(what_is_no_proxy_request_is_refused),
        TEST(a_head_beyond_its_bound_is_refused),
        TEST(a_request_is_written_anew_without_what_is_for_the_hop),
        TEST(chunked_bodies_stream_both_ways),
        TEST(a_body_ends_where_its_message_says),
        TEST(a_server_that_is_none_is_a_bad_gateway),
        TEST(requests_sent_ahead_are_answered_in_order),
        TEST(a_reader_that_stops_stops_its_writer),
        TEST(connections_beyond_the_bound_wait),
        TEST(silence_ends_a_tunnel),
        TEST(a_proxy_that_dies_is_started_again),
        TEST(what_is_removed_is_cut_and_told),
        TEST(the_end_tells_what_was_open),
        TEST(the_process_holds_no_rights),
        TEST(mistakes_are_told_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
