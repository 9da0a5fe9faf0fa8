/* web: web_fetch and web_search, the tools that run on the server itself.
 *
 * Loop thread; parsing happens on the worker pool. One per process. A call ends in exactly one
 * `done` unless web_close() comes first. Names are looked up here, every address is checked after
 * the lookup, and the connection goes to the address that was checked: what a page or a model makes
 * of a name later changes nothing. docs/internals/web.md.
 */
#ifndef OSTLER_WEB_WEB_H
#define OSTLER_WEB_WEB_H

#include "core/ports.h"
#include "io/loop.h"

#include <sys/socket.h>

struct web;

struct web_host {
    const char *name, *address;
};

/* Starts a lookup as lookup_start() of io/stream.h does; the name ends in a dot. */
typedef int web_lookup(struct loop *l, const char *name,
                       void (*done)(void *arg, const struct err *err,
                                    const struct sockaddr_storage *addresses, size_t n),
                       void *arg, struct err *err);

/* All of it is copied. Zeros are the defaults of base/limits.h. */
struct web_config {
    const char *search_url;             /* NULL: web_search says that it is not configured */
    const char *search_key;             /* sent as a bearer token; or NULL */
    int64_t fetch_bytes, timeout_ms;    /* of one call */
    const char *const *allow_addresses; /* ranges besides the public ones */
    size_t nallow_addresses;
    const struct web_host *hosts; /* instead of a lookup; their addresses are checked, too */
    size_t nhosts;
    const char *pdftotext; /* the program; NULL: looked for in /usr/bin */
    web_lookup *lookup;    /* tests; NULL: the system's */
};

/* INVALID naming what is wrong with the configuration. */
int web_open(struct loop *l, const struct web_config *cfg, struct web **out,
             struct err *err) MUST_USE;
struct web_port web_port(struct web *w);
/* Ends every call without its `done`; `closed` when nothing is left. */
void web_close(struct web *w, void (*closed)(void *arg), void *arg);

#endif
