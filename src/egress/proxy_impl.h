/* proxy_impl: what the files of the proxy's process share. Internal to egress/; its loop's thread.
 */
#ifndef OSTLER_EGRESS_PROXY_IMPL_H
#define OSTLER_EGRESS_PROXY_IMPL_H

#include "base/list.h"
#include "base/map.h"
#include "egress/policy.h"
#include "io/packet.h"
#include "io/stream.h"

struct conn;

struct proxy {
    struct loop *loop;
    struct proxy_settings settings;
    struct packet_conn *control;
    struct map boxes; /* session -> struct box */
    bool stopping;    /* as soon as everything is said */
    bool choked;      /* the server does not take records: nothing new is served */
};

/* A sandbox. */
struct box {
    struct proxy *proxy;
    char *session;
    struct policy policy;
    struct listener *listener;
    struct list conns;
    struct list lookups; /* struct conn: wait for their turn */
    int64_t nconns;
    unsigned nlookups; /* running; the box stays until they are done */
    bool removed;
};

/* A lookup that runs. It outlives its connection: only its end frees the place of the next one. */
struct query {
    struct box *box;
    struct conn *conn; /* NULL: gone */
};

void proxy_tell(struct proxy *p, const struct conn *c, enum egress_reason reason,
                const char *detail);
/* Pauses and resumes accepting, as the bounds demand. */
void box_update(struct box *b);
void box_unref(struct box *b); /* frees one that was removed, when nothing runs for it */

#endif
