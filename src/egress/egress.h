/* egress: the server's side of the egress proxy: starts `ostler egress`, starts it again when it
 * dies, gives it a listening socket and a policy for each sandbox, and hears of each decision.
 *
 * Loop thread. One struct egress for each server, made by egress_start(), gone when the call-back
 * of egress_close() is called. No call-back runs inside a call of the owner's. While the process is
 * being started again, connections wait in the backlog of their sandbox's socket.
 */
#ifndef OSTLER_EGRESS_EGRESS_H
#define OSTLER_EGRESS_EGRESS_H

#include "base/err.h"
#include "base/str.h"
#include "egress/reason.h"
#include "io/loop.h"

struct egress;

struct egress_host {
    const char *name, *address;
};

/* The operator's settings, the same for every sandbox. Arrays may be NULL. All is copied. */
struct egress_settings {
    const char *const *allow_addresses; /* CIDR: reachable although not public */
    size_t nallow_addresses;
    const struct egress_host *hosts; /* resolved to this address instead of asking; the address is
                                        checked like any other */
    size_t nhosts;
    const uint16_t *ports; /* what limited sandboxes may connect to; none: 443 and 80 */
    size_t nports;
    /* "npm", "registry.example.com": replaces the public hosts of that manager (registries.h). */
    const struct egress_host *package_hosts;
    size_t npackage_hosts;
    int64_t connect_ms, idle_ms, connections; /* 0: LIMIT_EGRESS_*; for tests */
};

/* What one sandbox may reach. Copied. */
struct egress_policy {
    bool unrestricted; /* any public address on any port; nothing below is looked at */
    const char *const
        *allowed_hosts; /* "example.com" or "*.example.com" (below it, at any depth) */
    size_t nallowed_hosts;
    const char *const *mcp_hosts; /* with allow_mcp_servers: names, or "name:port" */
    size_t nmcp_hosts;
    bool package_managers;
};

/* Views are valid during the call. */
struct egress_decision {
    struct str session;
    enum egress_reason reason;
    bool connect;       /* a CONNECT; else a plain HTTP request */
    struct str host;    /* canonical; empty when the request did not say (not_http) */
    uint16_t port;      /* 0: likewise */
    struct str address; /* that was connected to, or refused; else empty */
    struct str detail;  /* why not, one line; empty when allowed */
    int64_t started_us; /* wall clock: belongs to the tool call that ran then */
    int64_t duration_us;
    uint64_t bytes_up, bytes_down; /* of the tunnel, or of the messages' bodies */
};

struct egress_events {
    /* When the tunnel or the exchange has ended; a denial at once. */
    void (*on_decision)(void *arg, const struct egress_decision *d);
    /* The process could not be started, or ended, and is started again in `retry_ms`; 0: it goes
     * on, but a message between it and us went wrong. May be NULL. */
    void (*on_trouble)(void *arg, const struct err *err, int64_t retry_ms);
    void *arg;
};

/* `program`: the ostler to run as the proxy. INVALID for a bad setting. The process is started at
 * once; a later death is on_trouble's. */
int egress_start(struct loop *l, const char *program, const struct egress_settings *settings,
                 const struct egress_events *ev, struct egress **out, struct err *err) MUST_USE;
/* Listens at `path` (any length; replaces what is there; reachable for whoever can enter its
 * directory) until egress_remove(). The socket stays the same while the proxy is started again; a
 * new server makes a new one: show a sandbox its directory, not the socket. EXISTS for a session
 * that is there; INVALID for a bad name in the policy. */
int egress_add(struct egress *e, struct str session, const struct egress_policy *policy,
               const char *path, struct err *err) MUST_USE;
/* The same with a listening stream socket of the caller's, for example one on a sandbox's own
 * loopback: connections wait there while the proxy is started again, and whoever holds another
 * descriptor of it can give it to the next server. Takes `fd`, on failure, too. */
int egress_add_socket(struct egress *e, struct str session, const struct egress_policy *policy,
                      int fd, struct err *err) MUST_USE;
/* Closes its connections and removes the socket. Decisions of the connections that this cuts still
 * come. Harmless when there is no such session. */
void egress_remove(struct egress *e, struct str session);
int egress_pid(const struct egress *e); /* 0 while there is no process */
/* Ends the process: connections are cut, their decisions come, sockets are removed; then `closed`
 * is called. */
void egress_close(struct egress *e, void (*closed)(void *arg), void *arg);

#endif
