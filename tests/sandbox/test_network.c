/* The way out of a sandbox, by the module itself: the proxy is this very program, started again.
 * Attacks on the network of a sandbox stand in the probes; policies and the whole server in
 * tests/e2e/network.test.mjs. */
#include "fixture.h"

#include "egress/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct fixture f;
static char self[PATH_MAX];
static pid_t site;
static int site_port;

enum { DECISIONS = 64 };
static struct {
    enum egress_reason reason;
    char session[64], tool_use[64], host[128];
} seen[DECISIONS];
static size_t nseen;

static void on_egress(void *arg, const struct sandbox_egress *e)
{
    (void)arg;
    if (nseen == DECISIONS)
        return;
    seen[nseen].reason = e->decision->reason;
    (void)str_copyz(seen[nseen].session, sizeof seen->session, e->decision->session);
    (void)str_copyz(seen[nseen].host, sizeof seen->host, e->decision->host);
    seen[nseen].tool_use[0] = '\0';
    if (str_some(e->tool_use_id))
        (void)str_copyz(seen[nseen].tool_use, sizeof seen->tool_use, e->tool_use_id);
    nseen++;
}

static const char *const allowed_ranges[] = {"127.0.0.1/32"};
static const struct egress_host names[] = {{"ok.test", "127.0.0.1"}, {"off.test", "127.0.0.1"}};
static uint16_t ports[1];
static struct egress_settings settings = {.allow_addresses = allowed_ranges,
                                          .nallow_addresses = 1,
                                          .hosts = names,
                                          .nhosts = 2,
                                          .ports = ports,
                                          .nports = 1};

/* Answers every connection with "site". */
static void serve_site(int fd)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsite";
    for (;;) {
        char request[4096];
        int c = accept(fd, NULL, NULL);
        if (c < 0)
            _exit(0);
        ssize_t n = read(c, request, sizeof request);
        if (n > 0)
            n = write(c, answer, sizeof answer - 1);
        close(c);
    }
}

static int setup(void **state)
{
    (void)state;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, 16) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        return -1;
    site_port = ntohs(a.sin_port);
    ports[0] = (uint16_t)site_port;
    site = fork();
    if (site == 0)
        serve_site(fd);
    close(fd);
    nseen = 0;
    fixture_open(&f, NULL);
    f.cfg.egress = &settings;
    f.cfg.egress_program = self;
    f.cfg.on_egress = on_egress;
    fixture_restart(&f);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close(&f);
    kill(site, SIGKILL);
    waitpid(site, NULL, 0);
    return 0;
}

static bool ready(void)
{
    if (fixture_lacks(&f)[0])
        print_message("skipped: %s\n", fixture_lacks(&f));
    return !fixture_lacks(&f)[0];
}

static const char only_ok[] =
    "{\"networking\":{\"type\":\"limited\",\"allowed_hosts\":[\"ok.test\"]}}";

/* One bash call of a session in this environment. */
static void run(struct answer *a, const char *session, const char *environment, const char *command)
{
    f.environment = environment;
    bash(&f, a, session, command);
    f.environment = NULL;
}

/* Bash alone: sandboxes need not have curl. */
static void get(struct answer *a, const char *session, const char *environment, const char *host,
                const char *behind)
{
    char command[1024];
    snprintf(
        command, sizeof command,
        "exec 3<>/dev/tcp/127.0.0.1/3128 && printf 'GET http://%s:%d/ HTTP/1.1\\r\\nHost: %s:%d"
        "\\r\\nConnection: close\\r\\n\\r\\n' >&3 && cat <&3 | tail -n 1; exec 3<&-; %s",
        host, site_port, host, site_port, behind);
    run(a, session, environment, command);
}

static void wait_decisions(size_t n)
{
    for (int i = 0; nseen < n; i++) {
        assert_true(i < 1000);
        turn(&f, 10);
    }
}

static void an_allowed_host_answers_and_the_call_is_named_in_the_record(void **state)
{
    (void)state;
    if (!ready())
        return;
    struct answer a;
    get(&a, "sesn_one", only_ok, "ok.test", "true");
    assert_string_equal(a.text.data, "site");
    assert_false(a.is_error);
    answer_fini(&a);
    wait_decisions(1);
    assert_int_equal(seen[0].reason, EGRESS_ALLOWED);
    assert_string_equal(seen[0].session, "sesn_one");
    assert_string_equal(seen[0].tool_use, "sevt_1");
}

static void a_failed_call_is_told_the_host_that_was_refused(void **state)
{
    (void)state;
    if (!ready())
        return;
    struct answer a;
    get(&a, "sesn_one", only_ok, "off.test", "false");
    assert_true(a.is_error);
    assert_string_equal(a.reason, "egress_denied");
    assert_non_null(strstr(a.text.data, "[egress denied: off.test:"));
    assert_non_null(strstr(a.text.data, "networking.allowed_hosts"));
    answer_fini(&a);
    get(&a, "sesn_one", only_ok, "off.test", "true");
    assert_false(a.is_error);
    assert_null(a.reason);
    answer_fini(&a);
    run(&a, "sesn_one", only_ok, "false"); /* the refusals were others' */
    assert_null(a.reason);
    answer_fini(&a);
}

static void an_environment_that_cannot_be_read_allows_nothing(void **state)
{
    (void)state;
    if (!ready())
        return;
    static const char *const odd[] = {"{}", "{\"networking\":7}", "not JSON",
                                      "{\"networking\":{\"type\":\"limited\"}}",
                                      "{\"networking\":{\"type\":\"open\"}}"};
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        struct answer a;
        char session[32];
        snprintf(session, sizeof session, "sesn_odd%zu", i);
        get(&a, session, odd[i], "ok.test", "false");
        assert_null(strstr(a.text.data, "site"));
        answer_fini(&a);
    }
}

static void sessions_have_policies_of_their_own(void **state)
{
    (void)state;
    if (!ready())
        return;
    struct answer a;
    get(&a, "sesn_one", only_ok, "ok.test", "true");
    assert_string_equal(a.text.data, "site");
    answer_fini(&a);
    get(&a, "sesn_two", "{\"networking\":{\"type\":\"unrestricted\"}}", "off.test", "true");
    assert_string_equal(a.text.data, "site");
    answer_fini(&a);
    get(&a, "sesn_one", only_ok, "off.test", "false");
    assert_string_equal(a.reason, "egress_denied");
    answer_fini(&a);
}

static void nothing_inside_relays_and_a_reset_shell_keeps_the_network(void **state)
{
    (void)state;
    if (!ready())
        return;
    struct answer a;
    run(&a, "sesn_one", only_ok, "ls /proc | grep -c '^[0-9]'; kill -9 -1");
    answer_fini(&a);
    get(&a, "sesn_one", only_ok, "ok.test", "true");
    assert_string_equal(a.text.data, "site");
    answer_fini(&a);
    /* The port is the hand's: nobody else can take it. */
    run(&a, "sesn_one", only_ok,
        "python3 -c 'import socket; s=socket.socket(); s.setsockopt(1,15,1); "
        "s.bind((\"127.0.0.1\",3128))' 2>&1 | tail -n 1");
    assert_null(strstr(a.text.data, "site"));
    answer_fini(&a);
}

static void the_next_server_gets_the_same_socket(void **state)
{
    (void)state;
    if (!ready())
        return;
    struct answer a;
    get(&a, "sesn_one", only_ok, "ok.test", "KEPT=yes");
    answer_fini(&a);
    fixture_restart(&f);
    get(&a, "sesn_one", only_ok, "ok.test", "echo; echo $KEPT");
    assert_string_equal(a.text.data, "site\nyes");
    answer_fini(&a);
}

static void without_settings_there_is_no_way_out(void **state)
{
    (void)state;
    if (!ready())
        return;
    struct answer a;
    f.cfg.egress = NULL;
    fixture_restart(&f);
    get(&a, "sesn_none", "{\"networking\":{\"type\":\"unrestricted\"}}", "ok.test", "false");
    assert_null(strstr(a.text.data, "site"));
    assert_null(a.reason);
    answer_fini(&a);
    run(&a, "sesn_none", NULL, "env | grep -ci proxy");
    assert_string_equal(a.text.data, "0");
    answer_fini(&a);
    assert_int_equal(nseen, 0);
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "egress") == 0)
        return proxy_main((int)strtol(argv[3], NULL, 10), (int)strtol(argv[5], NULL, 10));
    if (argc < 2 || readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return 2;
    fixture_hand = argv[1];
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(an_allowed_host_answers_and_the_call_is_named_in_the_record),
        T(a_failed_call_is_told_the_host_that_was_refused),
        T(an_environment_that_cannot_be_read_allows_nothing),
        T(sessions_have_policies_of_their_own),
        T(nothing_inside_relays_and_a_reset_shell_keeps_the_network),
        T(the_next_server_gets_the_same_socket),
        T(without_settings_there_is_no_way_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
