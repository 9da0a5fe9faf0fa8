/* server: the barest HTTP/1.1 server on libuv and llhttp, which the fake model and the floor share.
 *
 * One thread, the default loop. It keeps connections alive and believes its clients: it checks
 * nothing, because it is what a checking server is compared with.
 */
#ifndef OSTLER_BENCH_SERVER_H
#define OSTLER_BENCH_SERVER_H

#include "base/buf.h"
#include "base/list.h"

#include <llhttp.h>
#include <uv.h>

struct peer {
    uv_tcp_t tcp;
    llhttp_t parser;
    struct buf path, body;
    struct list link; /* for the handler: where it waits */
    uv_timer_t timer; /* for the handler */
    bool closing;
};

/* Called with a whole request; answers now or later with peer_send(). */
typedef void (*peer_handler)(struct peer *p);

/* Listens on 127.0.0.1 and a free port, prints it and serves until stdin ends. */
void server_run(peer_handler handler);
/* Copies only what the kernel does not take at once. */
void peer_send(struct peer *p, struct str bytes);
void peer_reply(struct peer *p, const char *type, struct str body);

#endif
