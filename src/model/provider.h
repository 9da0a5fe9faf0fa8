/* provider: what the router and the adapters share. Internal to model/.
 *
 * Loop thread. Each adapter embeds `struct model_call` first in its own call. A call is freed in
 * the close call-back of its timer, so a cancel from inside any call-back is safe; after a cancel
 * the call touches neither the request nor its router.
 */
#ifndef OSTLER_MODEL_PROVIDER_H
#define OSTLER_MODEL_PROVIDER_H

#include "base/limits.h"
#include "model/table.h"

struct model_call {
    void (*cancel)(struct model_call *call);
};

enum {
    MODEL_UNKNOWN_MAX_OUTPUT = 32000
}; /* tokens asked of a model that the table does not name */

/* ---- anthropic.c ---- */

struct anthropic {
    struct loop *loop;
    struct http_client *http;
    const struct model_table *table;
    char *url;
    char *key; /* NULL: none */
    int64_t connect_ms, first_byte_ms, silence_ms;
};

void anthropic_init(struct anthropic *a, const struct model_config *cfg);
void anthropic_fini(struct anthropic *a);
struct model_call *anthropic_start(struct anthropic *a, const struct model_request *req,
                                   const struct model_callbacks *cb, void *arg);
/* The body of the request: pure. */
void anthropic_body(const struct model_info *info, const struct model_request *req,
                    struct buf *out);

/* ---- a call that fails with a prepared failure (router.c) ---- */

struct model_call *model_call_failing(struct loop *l, const struct model_callbacks *cb, void *arg,
                                      enum model_error_kind kind, const char *fmt, ...)
    PRINTF(5, 6);

#endif
