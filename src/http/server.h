/* server: a strict HTTP/1.1 server on the loop, llhttp inside.
 *
 * Loop thread. A request's memory (arena, views) lives until its response has ended or its client
 * went away, whichever is later noticed, and `closed` (if set) was called. Exactly one Host, no
 * obs-fold, no blank before a colon, never both Content-Length and Transfer-Encoding, bounded head
 * and body (431, 413), slow heads and bodies cut (408), pipelined requests answered in order.
 */
#ifndef OSTLER_HTTP_SERVER_H
#define OSTLER_HTTP_SERVER_H

#include "base/bytes.h"
#include "http/http.h"
#include "io/loop.h"

struct http_server;
struct http_req;

/* A request whose head is complete. The handler answers now or later with http_reply() or
 * http_stream(); before that it may ask for the body. */
typedef void (*http_handler)(struct http_req *req, void *arg);

struct http_server_config {
    const char *host; /* numeric address or name */
    int port;         /* 0: any free one */
    /* NULL, or instead of an address: an open socket of any kind that listens; taken at success */
    const int *listen_fd;
    http_handler handler;
    /* Protocol errors (400, 408, 413, 417, 431, 501, 505) are answered by the server itself, with
     * the JSON body this writes (may be NULL: no body). */
    void (*error_body)(struct buf *out, const struct err *err, void *arg);
    /* Instead of error_body, for whoever sends headers of his own with every answer: must call
     * http_reply() with this status before it returns. `r` may have no method or path, and no data
     * if the handler was not called yet. NULL: error_body. */
    void (*refuse)(struct http_req *r, int status, const struct err *err, void *arg);
    void *arg;
    /* 0: the LIMIT_HTTP_* of base/limits.h */
    int64_t head_ms;       /* from a head's first byte to its last */
    int64_t body_idle_ms;  /* silence inside a body, and of a client that takes no response bytes */
    int64_t keepalive_ms;  /* silence between requests */
    int64_t half_close_ms; /* 0: 2 s. How long an answer may still come once the client ended its
                            * side: many only half-close; a stream is over at once */
    size_t max_connections; /* more are closed at once */
};

/* CONNECT (no such address) or IO, with the address in the message ("port in use" is said so).
 * Looks a host name up, so at start only. */
int http_server_open(struct loop *l, const struct http_server_config *cfg, struct http_server **out,
                     struct err *err) MUST_USE;
/* A listening socket for `listen_fd`, to be shared by several processes. Fails as the above. */
int http_listen(const char *host, int port, int *ret_fd, struct err *err) MUST_USE;
int http_server_port(const struct http_server *s);
size_t http_server_connections(const struct http_server *s);
/* Stops accepting, lets running responses finish for grace_ms, then closes the rest. Streams are
 * cut at once, without their proper end (so that no client takes a half for the whole), and are
 * told so by `closed` with gone = true. `closed` here is called when nothing is left; the server is
 * freed after it. */
void http_server_close(struct http_server *s, int64_t grace_ms, void (*closed)(void *arg),
                       void *arg);

/* ---- request ---- */
struct arena *http_req_arena(struct http_req *r);
struct str http_req_method(const struct http_req *r); /* "GET" */
struct str http_req_path(const struct http_req *r);   /* raw, without the query: "/v1/agents" */
struct str http_req_query(const struct http_req *r);  /* raw, without '?'; may be empty */
struct str http_req_header(const struct http_req *r, const char *name); /* absent view if none */
struct str http_req_peer(const struct http_req *r);                     /* "127.0.0.1" */
/* A pointer for the handler's own use. */
void http_req_set_data(struct http_req *r, void *data);
void *http_req_data(const struct http_req *r);
/* Called once when the request is over: response fully handed to the kernel (gone = false) or the
 * client gone first (gone = true). After it the request must not be touched. Without an answer yet,
 * a gone client still needs none: http_reply() afterwards is impossible. Never called inside one of
 * the functions below: until it comes they may be called, and do nothing when it is too late. */
void http_req_on_closed(struct http_req *r, void (*closed)(struct http_req *, bool gone));

/* Reads the whole body, at most `max` bytes; then `done`, with a view that lives as long as the
 * request and has a NUL behind it. Over the limit the server answers 413 itself and `done` is not
 * called (`closed` is). The same goes for a body that is malformed (400) or stalls (408). */
void http_req_body(struct http_req *r, size_t max,
                   void (*done)(struct http_req *, struct str body));
/* Streams the body: `data` per piece (the view is valid during the call), `end` at its end. Pause
 * stops reading from the socket. Over `max`: 413 by the server, `end` is not called (`closed` is).
 */
void http_req_body_stream(struct http_req *r, uint64_t max,
                          void (*data)(struct http_req *, struct str piece),
                          void (*end)(struct http_req *));
void http_req_pause(struct http_req *r);
void http_req_resume(struct http_req *r);
uint64_t http_req_content_length(const struct http_req *r); /* UINT64_MAX when chunked */

/* ---- response: one of these, once ----
 * The server writes Date, Content-Length, Transfer-Encoding and Connection itself: leave them out.
 * A response that comes before the request's body was read drops the rest of a small body and
 * closes the connection after a large one. */
void http_reply(struct http_req *r, int status, const struct http_header *headers, size_t nheaders,
                struct str body); /* body is copied */
/* Starts a response of unknown length (chunked) and flushes its head at once. */
void http_stream(struct http_req *r, int status, const struct http_header *headers,
                 size_t nheaders);
/* Queues counted bytes; takes a reference of its own. An empty one does nothing. */
void http_stream_write(struct http_req *r, struct bytes *b);
size_t http_stream_queued(const struct http_req *r); /* bytes not yet taken by the kernel */
/* Called whenever the queue has drained to zero after it was not (http_stream_queued() > 0). */
void http_stream_on_drain(struct http_req *r, void (*fn)(struct http_req *));
void http_stream_end(struct http_req *r);
void http_stream_abort(struct http_req *r); /* closes the connection without a proper end */
/* Sends a file region as the body with a known length (chunk reads on the worker pool). Takes fd.
 */
void http_reply_file(struct http_req *r, int status, const struct http_header *headers,
                     size_t nheaders, int fd, uint64_t len);

#endif
