/* provider: what the router and the protocols share. Internal to model/.
 *
 * Loop thread. Each kind of call embeds `struct model_call` first in its own. A call is freed in
 * the close call-back of its timer, so a cancel from inside any call-back is safe; after a cancel
 * the call touches neither the request nor its router.
 */
#ifndef OSTLER_MODEL_PROVIDER_H
#define OSTLER_MODEL_PROVIDER_H

#include "base/limits.h"
#include "model/answer.h"
#include "model/gate.h"
#include "model/table.h"

struct model_call {
    void (*cancel)(struct model_call *call);
    /* What it has used so far; NULL: nothing. */
    void (*partial)(const struct model_call *call, struct model_usage *out);
};

enum {
    MODEL_UNKNOWN_MAX_OUTPUT = 32000
}; /* tokens asked of a model that the table does not name */

/* ---- protocols ---- */

struct wire_request {
    const struct model_request *req;
    const struct model_info *info; /* NULL: the table does not name the model */
    struct str model;              /* the id as the provider knows it */
    bool published;                /* the provider is at the protocol's published address */
    bool counting;                 /* its tokens are to be counted, it is not to be answered */
};

enum { WIRE_HEADERS_MAX = 8 };

struct wire {
    const char *type;              /* "anthropic" */
    const char *base_url;          /* the published address */
    const char *version;           /* put behind a base URL that has no path; or "" */
    const char *path;              /* put behind the base URL */
    const char *count_path;        /* put behind `path`: counts a request's tokens; NULL: nobody */
    const char *key_env, *url_env; /* for remedies */
    bool knows_fast;               /* speed "fast" is asked for, and has no list price */
    bool system_messages;          /* of any model: the role is part of the protocol */
    bool reads_count;              /* tokens read from the cache count towards the rate */
    const struct answer_decoder *decoder;
    int (*body)(const struct wire_request *r, struct buf *out, struct err *err);
    size_t (*headers)(const char *credential, bool fast, struct http_header *out);
    const char *credential; /* format of the value that goes with the key: "Bearer %s" */
};

extern const struct wire anthropic_wire, openai_wire;
const struct wire *wire_by_type(const char *type); /* NULL: there is none */

/* ---- providers (wire.c): an address and a key for a protocol ---- */

struct provider {
    char *name;
    const struct wire *wire;
    struct loop *loop;
    struct http_client *http;
    char *url;
    char *count_url;  /* NULL: it does not count */
    char *key;        /* NULL: none */
    char *credential; /* the header's value; NULL: none */
    char *key_name, *url_name;
    struct failure_names names;
    char *default_model; /* NULL: none was named */
    bool published;
    int64_t connect_ms, first_byte_ms, silence_ms;
    struct gate *gate;
};

void provider_init(struct provider *p, struct loop *l, struct http_client *http,
                   const struct wire *wire, const struct model_provider_config *cfg);
void provider_fini(struct provider *p);
/* It has a key, or an address of its own, which may need none. */
bool provider_usable(const struct provider *p);

struct model_call *wire_start(struct provider *p, const struct wire_request *r,
                              const struct model_callbacks *cb, void *arg);
/* About how many tokens a text in JSON is: a token for four bytes, and a flat number for an image
 * or a file that stands in it. */
int64_t wire_estimate(struct str json);

/* ---- counting (count.c): as model_port.count ---- */

struct model_call *count_start(struct provider *p, const struct wire_request *r,
                               void (*done)(void *arg, int64_t tokens), void *arg);
/* The number is known already. */
struct model_call *count_known(struct loop *l, int64_t tokens,
                               void (*done)(void *arg, int64_t tokens), void *arg);

/* ---- a call that fails with a prepared failure (router.c) ---- */

struct model_call *model_call_failing(struct loop *l, const struct model_callbacks *cb, void *arg,
                                      enum model_error_kind kind, const char *fmt, ...)
    PRINTF(5, 6);

#endif
