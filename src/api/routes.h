/* routes: the route table and the match of a path against it. Immutable; loop thread. */
#ifndef OSTLER_API_ROUTES_H
#define OSTLER_API_ROUTES_H

#include "base/str.h"

struct call;

enum { ROUTE_IDS_MAX = 2 };

enum route_beta {
    BETA_NONE,    /* no header needed */
    BETA_AGENTS,  /* managed-agents-2026-04-01, else 400 */
    BETA_THREADS, /* the same, else 404: as if the route did not exist */
};

enum route_body {
    BODY_NONE,   /* not looked at */
    BODY_JSON,   /* a JSON object is required */
    BODY_MAYBE,  /* nothing to decode: empty, or JSON that is ignored */
    BODY_STREAM, /* the handler takes it itself */
};

/* The credentials that a route takes, as bits. */
enum {
    TAKES_API = 1,   /* an API key */
    TAKES_ENV = 2,   /* the key of the environment, that of the path or of the session */
    TAKES_TOKEN = 4, /* the token of a work item, of this item or its session */
    TAKES_STALE = 8, /* such a token also when the item is over, or another's by now */
    TAKES_WORKER = TAKES_ENV | TAKES_TOKEN,
    TAKES_ANY = TAKES_API | TAKES_WORKER,
};

struct route {
    const char *method;
    const char *pattern; /* "{}" stands for an id */
    enum route_beta beta;
    enum route_body body;
    void (*handle)(struct call *c);
    bool open;      /* needs no credential */
    bool extension; /* ours, not in the published API */
    bool at_owner;  /* answered by the process that the session belongs to (forward.h) */
    unsigned takes; /* TAKES_...; without `open` */
};

extern const struct route route_table[];
extern const size_t route_count;

enum route_match { ROUTE_FOUND, ROUTE_NO_PATH, ROUTE_NO_METHOD };

/* `path` is raw; ids come back raw too (still percent-encoded). On NO_METHOD `allow` is the list of
 * methods that the path has. */
enum route_match route_find(struct str method, struct str path, const struct route **out,
                            struct str ids[ROUTE_IDS_MAX], char allow[64]);

#endif
