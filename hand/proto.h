/* proto: the frames between the server and a hand: a 4-byte big-endian length, then one JSON
 * object.
 *
 * Shared by the hand, the sandbox module and the fuzz target; pure, any thread. A decoded request
 * borrows the frame and the arena.
 *
 * To the hand:
 *   {"op":"run","id":I,"tool":T,"input":{...},"timeout_ms":N}  run once; a known id is never run
 * again
 *   {"op":"query","id":I}     state or result of a call      {"op":"ack","id":I}  forget the result
 *   {"op":"ack_all"}          forget every finished result   {"op":"cancel","id":I}
 *   {"op":"limit","reason":R,"message":M}  end everything that runs: a limit was hit
 *   {"op":"ping"}             {"op":"shutdown"}
 *   {"op":"network"}          the socket on the sandbox's loopback that the egress proxy serves
 * From the hand:
 *   {"op":"hello","version":1,"pid":P,...}    once per connection
 *   {"op":"started","id":I,"timeout_ms":N}    it runs now
 *   {"op":"result","id":I,"content":C,"is_error":B,"reason":R|null}  also to later connections, if
 * asked
 *   {"op":"state","id":I,"state":"queued"|"running"|"acknowledged"|"unknown"}
 *   {"op":"refused","id":I,"message":M}       not run: too much is unacknowledged, or a bad request
 *   {"op":"pong"}
 *   {"op":"network"}          with that socket's descriptor; without one: there is none
 */
#ifndef OSTLER_HAND_PROTO_H
#define OSTLER_HAND_PROTO_H

#include "json/writer.h"

enum { PROTO_VERSION = 1, PROTO_HEAD = 4, PROTO_ID_MAX = 96, PROTO_REASON_MAX = 32 };

enum proto_op {
    PROTO_RUN,
    PROTO_QUERY,
    PROTO_ACK,
    PROTO_ACK_ALL,
    PROTO_CANCEL,
    PROTO_LIMIT,
    PROTO_PING,
    PROTO_SHUTDOWN,
    PROTO_NETWORK,
};

struct proto_request {
    enum proto_op op;
    struct str id, tool;
    const struct json *input; /* PROTO_RUN: an object */
    int64_t timeout_ms;
    struct str reason, message;
};

struct proto_result {
    struct str id, content, reason; /* reason absent: none */
    bool is_error;
};

/* Cuts the first whole frame off the front of `in`: 1 and its payload (valid until `in` changes;
 * *used is what to consume), 0 when more bytes are needed, TOO_LARGE for a length over `max`. */
int proto_cut(const struct buf *in, size_t max, struct str *payload, size_t *used,
              struct err *err) MUST_USE;

/* INVALID or PARSE for anything that is not a request. */
int proto_decode(struct arena *a, struct str payload, struct proto_request *out,
                 struct err *err) MUST_USE;

/* Frames are begun and ended around what is written between, so that nothing is copied. */
size_t proto_begin(struct buf *out);
void proto_end(struct buf *out, size_t begun);

/* Payloads, without the head: proto_begin() and proto_end() add it. */
void proto_write_state(struct buf *out, const char *op, struct str id, const char *state);
void proto_write_result(struct buf *out, const struct proto_result *r);
void proto_write_run(struct buf *out, struct str id, struct str tool, struct str input,
                     int64_t timeout_ms);

#endif
