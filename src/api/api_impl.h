/* api_impl: what the files of api/ share: the server, one request on its way ("call"), the steps a
 * handler takes. Internal to api/.
 *
 * Loop thread, but for the function of a store step, which runs on a store thread and touches only
 * the call's arena and the handler's own state in it; the loop leaves both alone meanwhile.
 *
 * A call outlives its HTTP request: it has an arena of its own and is counted, because a store job,
 * an engine operation or a workspace job may still be under way when the client goes away. Then
 * `req` is NULL, replies do nothing, and the last reference frees it.
 */
#ifndef OSTLER_API_API_IMPL_H
#define OSTLER_API_API_IMPL_H

#include "api/api.h"
#include "api/auth.h"
#include "api/query.h"
#include "api/routes.h"
#include "base/list.h"
#include "http/server.h"
#include "json/json.h"
#include "json/writer.h"
#include "store/blob.h"
#include "store/file_sweep.h"

enum { API_STATUS_CLASSES = 6 };
#define API_BETA "managed-agents-2026-04-01"

struct api {
    struct api_config cfg;
    struct http_server *http;
    struct http_server *forwarded; /* where other processes ask us; may be NULL */
    int owners_dir;                /* of their sockets, for short paths; -1: none */
    struct auth_cache keys;
    struct work_service *work;
    struct list calls;   /* all of them, for closing */
    struct list streams; /* struct stream, stream.c */
    struct loop_timer ticker;
    int ticks;
    struct blobs blobs;
    struct file_sweep *sweep;
    size_t drops; /* uploads that the pool is dropping */
    bool work_closed;
    bool closing, http_closed, forwarded_closed, ticker_closed, sweep_closed;
    void (*closed)(void *arg);
    void *closed_arg;
    /* counters for /metrics */
    int64_t requests[API_STATUS_CLASSES]; /* by first digit of the status */
    int64_t streams_opened, streams_dropped;
    size_t streams_open;
    int64_t started_us;
};

/* What a request that creates does. */
struct call_creation {
    int (*step)(struct store_tx *tx, struct call *c, struct err *err);
    void (*write)(struct call *c, struct buf *out); /* the answer; on either thread */
    void (*created)(struct call *c);                /* what follows; on the loop; may be NULL */
    /* What was asked, for Idempotency-Key; NULL: the body as it came. On the store's thread. */
    void (*digest)(struct call *c, struct buf *out);
    /* What is kept under the Idempotency-Key instead of the answer, where that holds a secret. On
     * the store's thread; NULL: the answer. */
    void (*keep)(struct call *c, struct buf *out);
};

struct call {
    struct list link;
    struct api *api;
    struct http_req *req; /* NULL once the request is over */
    const struct route *route;
    unsigned refs;
    bool replied;
    int status;
    int64_t started_us;
    struct id request_id;
    struct id workspace_id; /* of the credential; empty before */
    struct credential who;
    struct str id[ROUTE_IDS_MAX];
    struct query query;
    struct buf body;
    const struct json *doc; /* the body of a JSON route */
    struct arena arena;
    struct auth_lookup auth;

    struct store_job job; /* the step under way */
    int (*step)(struct store_tx *tx, struct call *c, struct err *err);
    void (*then)(struct call *c);

    const struct call_creation *creation; /* of call_create() */
    struct str idempotency_key;           /* absent: none */
    struct str answer;                    /* kept under that key */
    bool repeated;                        /* ... by an earlier request */

    void *state;                  /* the handler's own, in the arena */
    void (*gone)(struct call *c); /* the request is over; may be NULL */
    void (*fini)(struct call *c); /* nothing is under way any more: frees; may be NULL */
    bool streaming;               /* the head is out: a failure now cuts the connection */
};

/* ---- call.c ---- */
void call_begin(struct http_req *req, void *api); /* the server's handler */
struct call *call_ref(struct call *c);
void call_unref(struct call *c);
/* Memory for the handler's state: zeroed; NULL was answered with an error. */
void *call_state(struct call *c, size_t size);
/* One transaction, then `then` on the loop, also when the client is gone (see req). A failure is
 * answered by itself. One step at a time. */
void call_read(struct call *c, int (*step)(struct store_tx *, struct call *, struct err *),
               void (*then)(struct call *));
void call_write(struct call *c, int (*step)(struct store_tx *, struct call *, struct err *),
                void (*then)(struct call *));
static inline struct str call_workspace(const struct call *c)
{
    return id_str(&c->workspace_id);
}
/* `name` is among the request's anthropic-beta values. While the request is there. */
bool call_has_beta(const struct call *c, const char *name);
/* A write that creates something, and its answer; honours Idempotency-Key. */
void call_create(struct call *c, const struct call_creation *how);
void api_check_closed(struct api *api);
/* Closes it on the worker pool, which takes time for a large one. NULL is fine. */
void api_drop_upload(struct api *api, struct blob_upload *upload);

/* ---- reply.c ---- */
void call_fail(struct call *c, const struct err *err);
/* Takes the buffer; one that failed becomes an error. */
void call_reply(struct call *c, struct buf *json);
/* A failure with one more member of its details. */
void call_fail_with(struct call *c, const struct err *err, const char *key, struct str json);
void call_reply_text(struct call *c, const char *type, struct buf *text);
void call_reply_deleted(struct call *c, const char *type); /* of what the path names */
void call_reply_file(struct call *c, const char *type, int fd, uint64_t len); /* takes fd */
/* The same with a few headers more. */
void call_reply_file_with(struct call *c, const char *type, int fd, uint64_t len,
                          const struct http_header *more, size_t nmore);
/* The headers that every response carries and those of this one. Returns their number. */
enum { REPLY_HEADERS_MAX = 8 };
size_t reply_headers(struct call *c, struct http_header out[REPLY_HEADERS_MAX]);
void call_answered(struct call *c, int status); /* counts */
void reply_error_json(struct buf *out, const struct err *err, struct str request_id);
/* The HTTP layer's own errors. */
void reply_refuse(struct http_req *req, int status, const struct err *err, void *api);
const struct model_rules *call_model_rules(struct call *c, struct model_rules *rules);

/* ---- paging (list.c) ---- */
struct listing {
    struct page page;
    struct time_range range;
    bool include_archived;
};
struct cursor;
/* limit (1..max), page, include_archived, created_at. */
int listing_read(struct call *c, int list, int64_t def, int64_t max, bool desc, struct listing *out,
                 struct err *err) MUST_USE;
/* The same for a list whose rows have a number: where to begin, 0 without a page. */
int listing_read_number(struct call *c, int list, int64_t def, int64_t max, bool desc,
                        int64_t *limit, int64_t *number, struct err *err) MUST_USE;
/* "next_page":...: a cursor as a JSON member, null without one. */
void listing_cursor(struct jw *w, const char *key, const struct cursor *cursor);
/* {"data":[rows, which the caller writes between the two],"next_page":...}; the latter also
 * sends it. */
struct listing_out {
    struct buf b;
    struct jw w;
};
struct jw *listing_begin(struct listing_out *out);
void listing_end(struct call *c, struct listing_out *out, const struct cursor *next);
/* What a handler of a list does: reads the query into `out`, takes the step, answers. */
struct listing_how {
    int list; /* enum cursor_list */
    int64_t limit, limit_max;
    bool desc;
    int (*step)(struct store_tx *tx, struct call *c, struct err *err);
    void (*reply)(struct call *c);
};
void listing_serve(struct call *c, const struct listing_how *how, struct listing *out);

/* ---- stream.c ---- */
void streams_tick(struct api *api); /* every LIMIT_STREAM_TICK_MS */

#endif
