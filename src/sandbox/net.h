/* net: a sandbox's way out. It has none of its own: no route, no resolver. Its hand listens on the
 * sandbox's loopback and gives that socket to the server, which gives it to the egress proxy (a
 * process of its own, egress/) with the policy of the session's environment. What the proxy lets
 * through and refuses comes back here and is told to the owner of the module, with the tool call
 * that ran then.
 *
 * Loop thread. Internal to sandbox/. The proxy is started with the first sandbox that is up, and
 * ends with the module; each server process has its own. The hand keeps the socket, so that the
 * next server gets the same one, and connections wait in it meanwhile.
 */
#ifndef OSTLER_SANDBOX_NET_H
#define OSTLER_SANDBOX_NET_H

#include "base/buf.h"
#include "base/id.h"
#include "egress/egress.h"
#include "sandbox/sandbox.h"

#include <limits.h>

struct box;
struct box_call;
struct json;
struct net_fetch;

enum {
    NET_PORT = 3128,
    NET_CALLS = 4,   /* of a sandbox that are remembered: what began in one may be told later */
    NET_DENIALS = 3, /* told in a call's result; the record has all */
    NET_LOGGED = 16, /* hosts of a sandbox that are logged once only */
    NET_VARIABLES = 10,
};
#define NET_PROXY_URL "http://127.0.0.1:3128"

/* Of the module; in struct sandboxes. */
struct net {
    const struct egress_settings *settings; /* NULL: sandboxes have no way out at all */
    char program[PATH_MAX];
    struct egress *egress; /* NULL: not needed yet */
    void (*on_egress)(void *arg, const struct sandbox_egress *e);
    void *arg;
};

struct net_denial {
    char host[128];
    uint16_t port;
    char detail[256];
};

struct net_call {
    struct id id;
    int64_t began_us, ended_us; /* ended_us 0: it runs */
    size_t ndenied;             /* more than are kept are counted */
    struct net_denial denied[NET_DENIALS];
};

/* Of one sandbox; in struct box. */
struct box_net {
    bool added;              /* the proxy has its socket */
    struct net_fetch *fetch; /* the socket is being asked for */
    struct net_call calls[NET_CALLS];
    size_t ncalls; /* so far: the latest is calls[(ncalls - 1) % NET_CALLS] */
    uint64_t logged[NET_LOGGED];
    size_t nlogged;
};

int net_init(struct net *n, const struct sandbox_config *cfg, struct err *err) MUST_USE;
/* `closed` may be called at once, when there is no proxy. Decisions come until then. */
void net_close(struct net *n, void (*closed)(void *arg), void *arg);

void net_up(struct box *b);     /* its hand can be asked; harmless when it was */
void net_down(struct box *b);   /* the sandbox ends */
void net_orphan(struct box *b); /* the box goes, the sandbox stays */

/* For what is no session: a listening socket (taken) of a sandbox, with a policy of its own. */
int net_lend(struct sandboxes *s, struct str name, const struct egress_policy *policy, int fd,
             struct err *err) MUST_USE;
void net_unlend(struct sandboxes *s, struct str name);
/* The socket that `from` gives over the connection, waited for. Worker. */
int net_receive(int from, int *ret_fd, struct err *err) MUST_USE;

void net_call_began(struct box *b, const struct id *id);
void net_call_ended(struct box *b, const struct id *id);
/* "egress_denied" and a sentence more in `text` when a connection was refused during the call. */
const char *net_explain(const struct box *b, const struct id *id, struct buf *text);
/* A failed call's result may be quicker than the word that the proxy refused it something. True:
 * `then` is called in a moment, with a copy of `content`, if the call is still there. */
bool net_settle(struct box *b, const struct box_call *c, struct str content,
                void (*then)(struct box *b, struct box_call *c, struct str content));

/* ---- net_policy.c ---- */

/* What an environment's config says about networking; nothing is allowed where it cannot be read.
 * The arrays are the arena's, the texts the JSON's. */
int net_policy(struct arena *a, const struct json *config, const char *const *mcp_hosts,
               size_t nmcp_hosts, struct egress_policy *out, struct err *err) MUST_USE;
/* Name, value, ..., NULL: what programs need to find the proxy. */
extern const char *const net_variables[NET_VARIABLES * 2 + 1];

#endif
