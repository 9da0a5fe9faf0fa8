/* conn: one connection from a sandbox: reads a request, has its host checked, looked up and its
 * addresses checked, connects, then relays a tunnel (tunnel.c) or an exchange (relay.c). Internal
 * to egress/.
 *
 *   HEAD ──▶ LOOKUP ──▶ DIAL ──▶ HELLO ──▶ TUNNEL ──▶ END       HELLO: limited networking only
 *    ▲  │       │         │ │      │ ╰──────╮             ▲     (from DIAL straight to TUNNEL
 *    │  ╰───────┴─────────┴─┼──────┴──▶ LINGER ──────────╯      otherwise)
 *    ╰───── RELAY ◀─────────╯              ▲                    any state may end
 *             ╰────────────────────────────╯
 *
 * Loop thread of the proxy's process. Made by conn_new(), ends by itself or by conn_end(); its
 * memory goes when its timer is closed.
 */
#ifndef OSTLER_EGRESS_CONN_H
#define OSTLER_EGRESS_CONN_H

#include "base/buf.h"
#include "base/sm.h"
#include "egress/proxy_impl.h"
#include "http/parse.h"
#include "io/stream.h"

enum conn_state {
    CONN_HEAD,   /* waits for a request */
    CONN_LOOKUP, /* the name is resolved; or waits for its turn */
    CONN_DIAL,   /* connects */
    CONN_HELLO,  /* the tunnel is open to the client; nothing goes through before its TLS hello */
    CONN_TUNNEL, /* bytes both ways */
    CONN_RELAY,  /* one HTTP exchange */
    CONN_LINGER, /* our side has ended; the client may read what it was told */
    CONN_END,
};

/* The messages of an exchange. */
struct relay {
    struct arena arena;
    struct http_parser request, response;
    size_t scanned;   /* of the response's head */
    unsigned interim; /* 1xx responses so far */
    bool head_sent, request_sent, keep;
    uint64_t up, down;
};

struct conn {
    struct list node;  /* in box->conns */
    struct list queue; /* in box->lookups */
    struct box *box;
    struct sm sm;
    struct loop_timer timer;
    int64_t deadline_ms, active_ms; /* loop time */
    struct stream *client, *upstream;
    bool client_ended, upstream_ended;
    struct buf in, from; /* not consumed yet: of the client, of the upstream */
    size_t scanned;      /* of the request's head */
    struct query *query; /* the lookup that runs for it */

    /* of the current request */
    bool pending; /* its decision is still to be told */
    bool connect;
    struct authority to;
    struct ip addresses[LOOKUP_ADDRESSES];
    size_t naddresses, next;
    bool has_ip;
    struct ip ip;
    int64_t started_us, started_mono_us;
    uint64_t up, down;
    struct relay relay;
};

void conn_new(struct box *box, int fd);
void conn_end(struct conn *c);
void conn_read(struct conn *c); /* looks for a request in what has come */

/* Tells the decision, once for a request. */
void conn_decide(struct conn *c, enum egress_reason reason, const char *detail);
/* Tells it to the client, too, with this status, and ends the connection. */
void conn_refuse(struct conn *c, int status, enum egress_reason reason, const char *detail);
/* Ends our side of the client's connection behind what is queued, and waits for its end. */
void conn_linger(struct conn *c);
/* Back to waiting for a request. */
void conn_again(struct conn *c);
void conn_arm(struct conn *c, int64_t ms); /* the deadline of the state it is in */

/* tunnel.c */
void tunnel_open(struct conn *c);
void tunnel_hello(struct conn *c);
void tunnel_up(struct conn *c, struct str bytes);
void tunnel_down(struct conn *c, struct str bytes);
void tunnel_ended(struct conn *c); /* one side has ended, or a queue has drained */

/* relay.c */
void relay_init(struct conn *c);
void relay_fini(struct conn *c);
void relay_open(struct conn *c);
void relay_up(struct conn *c);
void relay_down(struct conn *c, struct str bytes);
void relay_upstream_ended(struct conn *c);

#endif
