/* The sandbox's one way out: a listening socket on its own loopback. The hand makes it and gives it
 * to every server that asks; who accepts on it is the server's egress proxy, outside. Nothing of
 * the traffic passes through here, and nothing inside has to stay alive for it. */
#include "hand/hand.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <stdlib.h>
#include <unistd.h>

enum { NETWORK_BACKLOG = 128 };

int network_listen(int64_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    /* What is accepted inherits this: tunnels carry small messages both ways. */
    if (fd >= 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        listen(fd, NETWORK_BACKLOG) < 0) {
        fprintf(stderr, "hand: cannot listen on the sandbox's loopback: %s\n", strerror(errno));
        fd_close(fd);
        return -1;
    }
    return fd;
}

bool network_send(int to, int fd)
{
    AUTO_BUF struct buf out = BUF_INIT(256);
    size_t at = proto_begin(&out);
    proto_write_state(&out, "network", STR_NONE, NULL);
    proto_end(&out, at);
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec iov = {out.data, out.len};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    return buf_ok(&out) && sendmsg(to, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)out.len;
}

/* PORT FD -- PROGRAM ARGUMENTS: gives a listening socket away over FD before anything else runs,
 * then becomes the program, which has no other descriptors. PORT 0: there is no network. */
int build_main(int argc, char **argv)
{
    int64_t port, to;
    if (argc < 4 || !str_i64(str_z(argv[0]), &port) || !str_i64(str_z(argv[1]), &to) || to < 3 ||
        to > 1023 || !str_eqz(str_z(argv[2]), "--")) {
        fprintf(stderr, "hand: --build PORT FD -- PROGRAM ARGUMENTS\n");
        return 2;
    }
    if (port) {
        int fd = network_listen(port);
        if (fd < 0 || !network_send((int)to, fd)) {
            fprintf(stderr, "hand: the build has no network\n");
            return 1;
        }
    }
    close_range(3, ~0U, 0);
    execv(argv[3], argv + 3);
    fprintf(stderr, "hand: cannot execute %s: %s\n", argv[3], strerror(errno));
    return 1;
}
