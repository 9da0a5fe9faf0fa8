/* conn: one client connection of the server and the request it carries. Internal to http/.
 *
 * Loop thread. A conn belongs to its server and is freed when its handles are closed; a request
 * belongs to its conn and lies in its own arena.
 *
 *     HEAD ──head complete──▶ BUSY ──answered, kept alive──▶ HEAD
 *      │                       │ answered, not kept
 *      │ idle, client gone     ▼
 *      │                     LINGER   our side is shut; what still comes is dropped, so that the
 *      ▼                       │      client can read the answer before it sees a reset
 *    CLOSED ◀──────────────────┘
 *
 * conn_tick() drives it and is called after every event. User code never runs it: it changes fields
 * and calls conn_kick(), so that no call-back runs inside a call of the user's.
 */
#ifndef OSTLER_HTTP_CONN_H
#define OSTLER_HTTP_CONN_H

#include "base/list.h"
#include "base/sm.h"
#include "http/parse.h"
#include "http/server.h"

enum {
    CONN_READ = 64 * 1024,  /* the server's one read buffer */
    CONN_AHEAD = 32 * 1024, /* unparsed input beyond this stops reading */
    CONN_DRAIN = 64 * 1024, /* a body this long is skipped to keep the connection */
    CONN_LINGER_MS = 1000,
    CONN_HALF_CLOSE_MS = 2000,
    CONN_DATE = 48,
};

enum conn_state { CONN_HEAD, CONN_BUSY, CONN_LINGER, CONN_CLOSED };

struct http_server {
    struct loop *loop;
    struct http_server_config cfg; /* defaults filled in */
    uv_tcp_t listener;
    uv_idle_t idle; /* runs while `kicked` is not empty */
    struct loop_timer grace;
    struct list conns, kicked;
    size_t nconns;
    size_t nreads;     /* file reads on the pool whose connection is gone */
    unsigned nhandles; /* open, of the three above */
    bool closing, forced;
    void (*closed)(void *arg);
    void *closed_arg;
    struct buf head; /* of the response being written: scratch */
    char date[CONN_DATE];
    int64_t date_s;
    char in[CONN_READ]; /* of the read being handled: scratch */
};

struct conn {
    struct list node, kick;
    struct http_server *server;
    struct sm sm;
    uv_tcp_t tcp;
    struct loop_timer timer;
    int64_t armed_ms;   /* when the timer fires, perhaps too early; INT64_MAX: not armed */
    int64_t mark_ms;    /* the last event that the current deadline counts from */
    size_t queued_then; /* write queue when last looked at for a stall */
    size_t head_at;     /* how far the head was looked through */
    struct str in;      /* unparsed input, during a tick */
    struct buf ahead;   /* the same between ticks; no memory when empty */
    struct http_req *req;
    unsigned nhandles;
    bool reading, ticking;
    bool eof;     /* the client ended its side */
    bool broken;  /* a write or read failed, or the response was aborted */
    bool drained; /* the write queue became empty */
};

struct file_send;

struct http_req {
    struct arena arena; /* holds this struct as well */
    struct conn *conn;
    struct http_parser p;
    void *data;
    void (*closed)(struct http_req *, bool gone);
    void (*on_drain)(struct http_req *);
    /* body */
    void (*body_done)(struct http_req *, struct str body);
    void (*body_data)(struct http_req *, struct str piece);
    void (*body_end)(struct http_req *);
    struct buf body;
    uint64_t body_max, body_got;
    bool body_wanted, body_told, paused, too_large;
    /* response */
    struct file_send *file;
    bool responded; /* its head is written */
    bool stream;    /* of unknown length; pieces follow */
    bool bare;      /* has no body on the wire: HEAD, 204, 304 */
    bool ended;     /* nothing more will be queued */
    bool keep;      /* the connection goes on behind it */
};

/* ---- conn.c ---- */
void conn_open(struct http_server *s);
void conn_tick(struct conn *c);
void conn_kick(struct conn *c); /* a tick soon, from the loop */
void conn_break(struct conn *c);
void conn_mark(struct conn *c); /* the current deadline counts from now */
/* Writes now what the kernel takes and queues the rest: pieces inside `ref` by reference, others
 * copied. */
void conn_write(struct conn *c, uv_buf_t *bufs, unsigned n, struct bytes *ref);
size_t conn_queued(const struct conn *c);
size_t conn_input(const struct conn *c); /* bytes that wait to be parsed */

/* ---- request.c ---- */
struct http_req *req_new(struct conn *c);
void req_free(struct http_req *r, bool gone);
/* True when something was done and the state must be looked at again. */
bool req_step(struct http_req *r);
bool req_awaits_body(const struct http_req *r); /* bytes of it are wanted, or skipped, now */
/* The server's own answer to a bad request; breaks the connection when the answer has begun. */
void req_refuse(struct http_req *r, int status, const struct err *err);

/* ---- response.c ---- */
/* Writes status line and headers into server->head. `len` as the framing says. */
enum resp_framing { RESP_LENGTH, RESP_CHUNKED };
void resp_begin(struct http_req *r, int status, const struct http_header *h, size_t n,
                enum resp_framing framing, uint64_t len);

/* ---- send_file.c ---- */
bool file_step(struct http_req *r); /* starts the next read when the last piece is written */
void file_drop(struct http_req *r);

/* ---- server.c ---- */
void server_on_idle(uv_idle_t *idle); /* ticks what was kicked */
void server_conn_closed(struct http_server *s);

#endif
