/* model_fixture: a loop, an HTTP client and a router, and what a call of the model port brought.
 * Header of two tests; one fixture per test, on its stack. */
#ifndef OSTLER_TESTS_MODEL_FIXTURE_H
#define OSTLER_TESTS_MODEL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/provider.h"

struct fixture {
    struct loop *loop;
    struct http_client *http;
    struct model_router *router;
    struct model_port port;
    struct model_call *call;
    struct model_request req;
    struct buf log; /* call-backs as text */
    struct model_usage usage;
    struct model_failure failure;
    bool in_start;
    int outcomes;
    int cancel_after; /* call-backs, then cancel from inside; 0: never */
    bool cancelled;
    void (*over)(struct fixture *f); /* called once; NULL: loop_stop */
};

static void fixture_called(struct fixture *f)
{
    assert_false(f->in_start);
    assert_false(f->cancelled);
    if (f->cancel_after && --f->cancel_after == 0) {
        f->cancelled = true;
        f->port.cancel(f->port.self, f->call);
        if (f->over)
            f->over(f);
        else
            loop_stop(f->loop);
    }
}

static void fixture_block(void *arg, size_t index, enum model_block_type type)
{
    struct fixture *f = arg;
    buf_printf(&f->log, "[%zu:%d]", index, (int)type);
    fixture_called(f);
}

static void fixture_text(void *arg, size_t index, struct str text)
{
    struct fixture *f = arg;
    buf_printf(&f->log, "%zu=" STR_FMT ";", index, STR_ARG(text));
    fixture_called(f);
}

static void fixture_outcome(struct fixture *f)
{
    fixture_called(f);
    f->outcomes++;
    if (f->over)
        f->over(f);
    else
        loop_stop(f->loop);
}

static void fixture_done(void *arg, const struct model_result *r)
{
    struct fixture *f = arg;
    buf_printf(&f->log, " stop %d", (int)r->stop);
    for (size_t i = 0; i < r->nblocks; i++)
        buf_printf(&f->log, " |" STR_FMT STR_FMT STR_FMT STR_FMT, STR_ARG(r->blocks[i].text),
                   STR_ARG(r->blocks[i].raw), STR_ARG(r->blocks[i].name),
                   STR_ARG(r->blocks[i].input));
    f->usage = r->usage;
    fixture_outcome(f);
}

static void fixture_failed(void *arg, const struct model_failure *failure)
{
    struct fixture *f = arg;
    buf_printf(&f->log, " failed %d", (int)failure->kind);
    f->failure = *failure;
    f->usage = failure->usage;
    fixture_outcome(f);
}

static const struct model_callbacks fixture_callbacks = {fixture_block, fixture_text, fixture_done,
                                                         fixture_failed};

static inline void fixture_init(struct fixture *f, const struct model_config *cfg)
{
    struct err err;
    *f = (struct fixture){.log = BUF_INIT(1 << 20)};
    f->loop = loop_new();
    f->http = http_client_new(f->loop);
    assert_int_equal(model_router_new(f->loop, f->http, cfg, &f->router, &err), 0);
    f->port = model_router_port(f->router);
    f->req = (struct model_request){.model = STR("script/instant"),
                                    .messages = STR("[]"),
                                    .session_id = STR("sesn_1"),
                                    .request_number = 1};
}

static inline void fixture_start(struct fixture *f)
{
    f->in_start = true;
    f->call = f->port.start(f->port.self, &f->req, &fixture_callbacks, f);
    f->in_start = false;
    assert_non_null(f->call);
}

/* Starts a call to `model` and runs the loop until it is over. The log ends with the outcome. */
static inline const char *fixture_ask(struct fixture *f, const char *model)
{
    buf_clear(&f->log);
    buf_z(&f->log, "");
    f->req.model = str_z(model);
    fixture_start(f);
    loop_run(f->loop);
    return f->log.len ? f->log.data : "";
}

static inline void fixture_fini(struct fixture *f)
{
    http_client_close(f->http, NULL, NULL);
    model_router_free(f->router);
    loop_run(f->loop);
    loop_free(f->loop);
    buf_fini(&f->log);
}

#endif
