/* packet: messages over a connected AF_UNIX SOCK_SEQPACKET socket, each with at most one
 * descriptor: how the server hands sockets to a helper process.
 *
 * Loop thread. A packet_conn frees itself after on_close has returned or after packet_close(). No
 * call-back runs inside packet_open() or packet_send().
 */
#ifndef OSTLER_IO_PACKET_H
#define OSTLER_IO_PACKET_H

#include "base/err.h"
#include "base/str.h"
#include "io/loop.h"

struct packet_conn;

struct packet_events {
    /* `fd` is -1 or the call-back's own. packet_send() and packet_close() may be called inside. */
    void (*on_packet)(void *arg, struct str payload, int fd);
    void (*on_drain)(void *arg); /* nothing is queued any more; may be NULL */
    void (*on_close)(void *arg, const struct err *err); /* once, last; code 0: the peer closed */
    void *arg;
};

/* A connected pair, CLOEXEC. */
int packet_pair(int fds[2], struct err *err) MUST_USE;
/* Takes `fd` on success and on failure. */
int packet_open(struct loop *l, int fd, const struct packet_events *ev, struct packet_conn **out,
                struct err *err) MUST_USE;
/* Copies the payload and duplicates `fd` (-1: none) when it has to wait. TOO_LARGE over
 * LIMIT_EGRESS_PACKET. The caller bounds the queue. */
int packet_send(struct packet_conn *c, struct str payload, int fd, struct err *err) MUST_USE;
size_t packet_queued(const struct packet_conn *c); /* bytes that wait */
void packet_close(struct packet_conn *c);          /* NULL ok; drops what waits */

#endif
