/* socket: framed messages over a connected AF_UNIX stream: a 4-byte big-endian length, then that
 * many bytes, in both directions. The wire between the server and a hand.
 *
 * Loop thread. A frame_conn is made by frame_connect() or frame_dial() and frees itself: after
 * on_close has returned or after frame_close(), whichever comes first; the owner then drops its
 * pointer. No call-back runs inside frame_connect(), frame_dial() or frame_send().
 */
#ifndef OSTLER_IO_SOCKET_H
#define OSTLER_IO_SOCKET_H

#include "base/err.h"
#include "base/str.h"
#include "io/loop.h"

struct frame_conn;

struct frame_events {
    /* One whole frame, at most LIMIT_HAND_FRAME bytes; the view is valid during the call.
     * frame_send() and frame_close() may be called from inside. */
    void (*on_frame)(void *arg, struct str payload);
    /* Once, last, not after frame_close(): err->code is 0 when the peer closed between two frames;
     * else IO (with sys), PROTOCOL (closed inside a frame) or TOO_LARGE (a frame over the bound).
     */
    void (*on_close)(void *arg, const struct err *err);
    void *arg;
};

/* Takes `fd`, a connected stream socket, on success and on failure. */
int frame_connect(struct loop *l, int fd, const struct frame_events *ev, struct frame_conn **out,
                  struct err *err) MUST_USE;
/* Connects to a listening socket. A path of any length works. CONNECT when nobody listens there
 * (sys tells ENOENT from ECONNREFUSED). */
int frame_dial(struct loop *l, const char *path, const struct frame_events *ev,
               struct frame_conn **out, struct err *err) MUST_USE;

/* Queues one frame (the bytes are copied). TOO_LARGE over LIMIT_HAND_FRAME; UNAVAILABLE while more
 * than two such frames wait unsent (the peer does not read). A broken connection is reported by
 * on_close, not here. */
int frame_send(struct frame_conn *c, struct str payload, struct err *err) MUST_USE;
size_t frame_queued(const struct frame_conn *c); /* bytes the kernel has not taken yet */
/* Stops and goes on reading: frames wait in the socket's buffer. */
void frame_pause(struct frame_conn *c, bool paused);
/* Drops the connection, what is unsent too. No further call-back. Allowed inside on_frame; inside
 * on_close it does nothing. */
void frame_close(struct frame_conn *c);

#endif
