/* stream: bytes over a connected stream socket (unix or TCP), listeners, and name resolution: what
 * a relay needs.
 *
 * Loop thread. A stream, a listener and a lookup are on the heap and free themselves: a stream
 * after on_close has returned or after stream_close(), whichever comes first. No call-back runs
 * inside a call of its owner's.
 */
#ifndef OSTLER_IO_STREAM_H
#define OSTLER_IO_STREAM_H

#include "base/err.h"
#include "base/str.h"
#include "io/loop.h"

#include <netinet/in.h>

struct stream;

/* Above STREAM_HIGH unsent bytes the other side should be paused; on_drain says when to go on. */
enum { STREAM_READ = 64 * 1024, STREAM_HIGH = 64 * 1024 };

struct stream_events {
    /* Of stream_dial() only, once: from then on bytes come. err->code is 0, or CONNECT (and the
     * stream is gone). */
    void (*on_connect)(void *arg, const struct err *err);
    void (*on_data)(void *arg, struct str bytes); /* at most STREAM_READ; valid during the call */
    void (*on_eof)(void *arg);                    /* the peer sends no more */
    void (*on_drain)(void *arg);                  /* nothing is queued any more; after a queue */
    void (*on_close)(void *arg, const struct err *err); /* it broke; not after stream_close() */
    void *arg;
};

/* Takes `fd`, a connected stream socket, on success and on failure. Reads at once. */
int stream_open(struct loop *l, int fd, const struct stream_events *ev, struct stream **out,
                struct err *err) MUST_USE;
/* Connects to exactly this address. */
int stream_dial(struct loop *l, const struct sockaddr *to, const struct stream_events *ev,
                struct stream **out, struct err *err) MUST_USE;
/* To the kernel as far as it takes them, the rest copied and queued. The caller bounds the queue.
 */
void stream_send(struct stream *s, struct str bytes);
size_t stream_queued(const struct stream *s);
void stream_pause(struct stream *s, bool paused); /* stops and goes on reading */
void stream_shutdown(struct stream *s);           /* ends our side behind what is queued; once */
void stream_close(
    struct stream *s); /* drops it and what is unsent; no further call-back; NULL ok */

struct listener;

/* Takes `fd`, a listening stream socket. `on_accept` gets descriptors that are its own. A lack of
 * descriptors lets connections wait. */
int listener_open(struct loop *l, int fd, void (*on_accept)(void *arg, int fd), void *arg,
                  struct listener **out, struct err *err) MUST_USE;
void listener_pause(struct listener *ls, bool paused); /* connections wait in the backlog */
void listener_close(struct listener *ls);              /* NULL ok */

/* A listening unix socket at `path`, of any length, mode 0600; what lies there is replaced. The
 * path stays when the descriptor is closed. Returns the descriptor or a negative code. */
int socket_listen(const char *path, int backlog, struct err *err) MUST_USE;

enum { LOOKUP_ADDRESSES = 16 };

/* Resolves `name` on the worker pool; cannot be taken back. `done` gets at least one address, or
 * err: NOT_FOUND (no such name), UNAVAILABLE (the resolver does not answer) or IO. */
int lookup_start(struct loop *l, const char *name,
                 void (*done)(void *arg, const struct err *err,
                              const struct sockaddr_storage *addresses, size_t n),
                 void *arg, struct err *err) MUST_USE;

#endif
