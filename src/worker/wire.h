/* wire: a worker's requests, with a bearer token and the whole answer at once.
 *
 * Loop thread. A wire_call is embedded by its owner and makes one request at a time. Its call-back
 * never comes from inside wire_send(), but for a malformed URL, which the callers have
 * checked for; and not after wire_cancel().
 */
#ifndef OSTLER_WORKER_WIRE_H
#define OSTLER_WORKER_WIRE_H

#include "http/client.h"
#include "json/json.h"

enum {
    WIRE_CONNECT_MS = 10 * 1000,
    WIRE_SILENCE_MS = 30 * 1000,
    WIRE_HEADERS = 7,
};

struct wire {
    struct loop *loop;
    struct http_client *http;
    char base[512];        /* without a slash at the end */
    char environment[128]; /* its id */
    char key[512];         /* of the environment; never logged */
    char name[128];        /* of this worker */
};

struct wire_call {
    struct wire *wire;
    const char *bearer; /* lives as long as the call; NULL: the environment's key */
    struct http_call *http;
    struct buf body; /* of the answer */
    int status;      /* 0: there was none */
    void (*done)(struct wire_call *c, const struct err *err);
};

struct wire_request {
    const char *method;
    struct str path; /* behind the base URL */
    struct str body; /* JSON; absent: none */
    const char *idempotency_key;
    int64_t first_byte_ms; /* 0: WIRE_SILENCE_MS */
    uint64_t max_response; /* 0: 16 MB */
};

void wire_call_init(struct wire_call *c, struct wire *w, const char *bearer);
void wire_call_fini(struct wire_call *c); /* cancels */
/* `err` of the call-back: 0 with an answer of 2xx, whose body is c->body until it returns; else why
 * not, with the server's own words. */
void wire_send(struct wire_call *c, const struct wire_request *r,
               void (*done)(struct wire_call *c, const struct err *err));
void wire_cancel(struct wire_call *c);
static inline bool wire_busy(const struct wire_call *c)
{
    return c->http;
}
/* The answer will not be another one by asking again. */
static inline bool wire_is_final(const struct wire_call *c)
{
    return c->status / 100 == 4 && c->status != 408 && c->status != 409 && c->status != 429;
}

/* "/v1/environments/ENV/work/ID/VERB" */
void wire_work_path(struct buf *b, const struct wire *w, const char *work_id, const char *verb);
size_t wire_headers(const struct wire *w, const char *bearer, struct buf *authorization,
                    struct http_header h[WIRE_HEADERS]);
/* The error of an answer that is none of 2xx. */
int wire_error(int status, struct str body, struct err *err);
/* 2^attempt times `min_ms`, at most `max_ms`, less up to a half. */
int64_t wire_backoff(unsigned attempt, int64_t min_ms, int64_t max_ms);

#endif
