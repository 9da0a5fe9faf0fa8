/* client: many HTTP/1.1 connections to one server on this host, on one epoll.
 *
 * One thread, one server, one epoll: everything else is a global of client.c. Any answer that is
 * not a 2xx, and any connection that breaks, ends the program with a message: a benchmark that
 * fails is no measurement.
 */
#ifndef OSTLER_BENCH_CLIENT_H
#define OSTLER_BENCH_CLIENT_H

#include "base/buf.h"

#include <llhttp.h>

struct conn {
    int fd;
    llhttp_t parser;
    struct buf out; /* what the kernel has not taken yet */
    struct buf body;
    bool keep_body;  /* collect the answer's body */
    bool closing;    /* freed when the event loop is back from it */
    int64_t sent_ns; /* when conn_send() was called */
    void *arg;
    void (*on_head)(struct conn *c);
    void (*on_done)(struct conn *c);
    /* An event of a stream, when its last byte is here. */
    void (*on_event)(struct conn *c, struct str type);
    char line[128], type[64]; /* of the stream: the line so far, the event's type */
    size_t nline;
};

/* The key comes from OSTLER_API_KEY. */
void client_init(int port);
struct conn *conn_open(void *arg);
/* One request at a time for a connection. */
void conn_send(struct conn *c, const char *method, struct str path, struct str body);
void conn_close(struct conn *c);
/* Until client_stop(), or until the clock says `until_ns` (0: never). */
void client_run(int64_t until_ns);
void client_stop(void);

/* The request's bytes, for those who send it themselves. */
void client_request(struct buf *out, const char *method, struct str path, struct str body);
/* A connected, blocking socket; `receive_bytes` limits its receive buffer (0: the default). */
int client_connect(int receive_bytes);

#endif
