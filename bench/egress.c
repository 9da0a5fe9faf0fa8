/* egress: what the egress proxy adds: a CONNECT through `ostler egress` on loopback, a TLS hello
 * and its echo, beside the same on a direct connection, in turn.
 *
 *   egress OSTLER N
 */
#include "samples.h"

#include "base/str.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static char dir[] = "/tmp/ostler-bench-egress-XXXXXX", path[64];
static int port;

/* The smallest hello with a name. */
static const char hello[] =
    "\x16\x03\x01\x00\x45\x01\x00\x00\x41\x03\x03"
    "01234567890123456789012345678901"
    "\x00\x00\x02\x13\x01\x01\x00\x00\x16\x00\x00\x00\x12\x00\x10\x00\x00\x0d"
    "hello.example";
enum { HELLO = sizeof hello - 1 };

static void read_all(int fd, char *to, size_t n)
{
    for (size_t got = 0; got < n;) {
        ssize_t r = recv(fd, to + got, n - got, 0);
        if (r <= 0)
            die("the connection ended");
        got += (size_t)r;
    }
}

static void write_all(int fd, const char *p, size_t n)
{
    if (send(fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
        die("cannot send");
}

static void *echo(void *arg)
{
    int fd = *(int *)arg;
    for (;;) {
        char text[HELLO];
        int one = 1, c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (c < 0)
            return NULL;
        setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        read_all(c, text, sizeof text);
        write_all(c, text, sizeof text);
        while (recv(c, text, sizeof text, 0) > 0)
            ;
        close(c);
    }
}

static int listen_tcp(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) || listen(fd, 128) ||
        getsockname(fd, (struct sockaddr *)&sa, &len))
        die("cannot listen");
    port = ntohs(sa.sin_port);
    return fd;
}

static pid_t start_proxy(char *ostler)
{
    char ports[8], line[128];
    int fds[2];
    pid_t pid;
    snprintf(ports, sizeof ports, "%d", port);
    char *argv[] = {ostler,        "egress",        "--listen", path,
                    "--allow",     "hello.example", "--hosts",  "hello.example=127.0.0.1",
                    "--addresses", "127.0.0.0/8",   "--ports",  ports,
                    NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (pipe2(fds, 02000000 /* O_CLOEXEC */))
        die("no pipe");
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    if (posix_spawn(&pid, ostler, &actions, NULL, argv, environ))
        die("%s cannot be started", ostler);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    if (read(fds[0], line, sizeof line) <= 0)
        die("the proxy did not start");
    close(fds[0]); /* nobody reads its records; a full pipe would stop it */
    return pid;
}

static int dial(int domain, const struct sockaddr *to, socklen_t len)
{
    int fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || connect(fd, to, len))
        die("cannot connect");
    if (domain == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void exchange(int fd)
{
    char back[HELLO];
    write_all(fd, hello, HELLO);
    read_all(fd, back, HELLO);
    close(fd);
}

static int64_t direct(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int64_t from = now_ns();
    exchange(dial(AF_INET, (struct sockaddr *)&sa, sizeof sa));
    return now_ns() - from;
}

static int64_t tunnel(void)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char request[128], answer[sizeof "HTTP/1.1 200 Connection established\r\n\r\n" - 1];
    str_copyz(sa.sun_path, sizeof sa.sun_path, str_z(path));
    int n = snprintf(request, sizeof request,
                     "CONNECT hello.example:%d HTTP/1.1\r\nHost: x\r\n\r\n", port);
    int64_t from = now_ns();
    int fd = dial(AF_UNIX, (struct sockaddr *)&sa, sizeof sa);
    write_all(fd, request, (size_t)n);
    read_all(fd, answer, sizeof answer);
    if (memcmp(answer, "HTTP/1.1 200", 12) != 0)
        die("refused");
    exchange(fd);
    return now_ns() - from;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        die("usage: egress OSTLER N");
    struct samples plain = {0}, proxied = {0};
    pthread_t thread;
    int64_t n = number(argv[2], 1, 20000);
    int fd = listen_tcp();
    if (!mkdtemp(dir))
        die("no temporary directory");
    snprintf(path, sizeof path, "%s/s", dir);
    pthread_create(&thread, NULL, echo, &fd);
    pid_t pid = start_proxy(argv[1]);
    for (int64_t i = 0; i < n + 20; i++) {
        int64_t a = direct(), b = tunnel();
        if (i < 20)
            continue; /* warm by then */
        samples_add(&plain, a);
        samples_add(&proxied, b);
    }
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    rmdir(dir);
    printf("{");
    samples_print(stdout, "direct", &plain);
    printf(",");
    samples_print(stdout, "tunnel", &proxied);
    printf("}\n");
    return 0;
}
