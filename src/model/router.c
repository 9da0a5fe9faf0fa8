#include "model/provider.h"
#include "model/script.h"

#include <stdarg.h>
#include <stdio.h>

struct model_router {
    struct loop *loop;
    struct model_table table;
    struct anthropic anthropic;
    struct script_provider script;
};

static const struct str script_prefix = {"script/", 7};
static const struct str claude_prefix = {"claude-", 7};

int model_router_new(struct loop *l, struct http_client *http, const struct model_config *cfg,
                     struct model_router **out, struct err *err)
{
    struct model_table table = model_table_builtin;
    int rc = cfg->models_yaml ? model_table_load(cfg->models_yaml, &table, err) : 0;
    if (rc)
        return rc;
    struct model_router *r = mem_zalloc(sizeof *r);
    r->loop = l;
    r->table = table;
    r->anthropic.loop = l;
    r->anthropic.http = http;
    r->anthropic.table = &r->table;
    anthropic_init(&r->anthropic, cfg);
    r->script.loop = l;
    if (cfg->script_dir)
        r->script.dir = mem_dupz(cfg->script_dir, strlen(cfg->script_dir));
    *out = r;
    return 0;
}

void model_router_free(struct model_router *r)
{
    if (!r)
        return;
    anthropic_fini(&r->anthropic);
    mem_free(r->script.dir);
    model_table_fini(&r->table);
    mem_free(r);
}

/* ---- a call that only fails ---- */

struct failing_call {
    struct model_call base;
    struct loop_timer timer;
    const struct model_callbacks *cb;
    void *arg;
    bool over;
    struct model_failure failure;
};

static void failing_closed(struct loop_timer *timer)
{
    mem_free(CONTAINER_OF(timer, struct failing_call, timer));
}

static void failing_end(struct failing_call *c)
{
    if (c->over)
        return;
    c->over = true;
    loop_timer_close(&c->timer, failing_closed);
}

static void failing_cancel(struct model_call *base)
{
    failing_end(CONTAINER_OF(base, struct failing_call, base));
}

static void failing_report(struct loop_timer *timer)
{
    struct failing_call *c = CONTAINER_OF(timer, struct failing_call, timer);
    failing_end(c);
    c->cb->failed(c->arg, &c->failure);
}

struct model_call *model_call_failing(struct loop *l, const struct model_callbacks *cb, void *arg,
                                      enum model_error_kind kind, const char *fmt, ...)
{
    struct failing_call *c = mem_zalloc(sizeof *c);
    c->base.cancel = failing_cancel;
    c->cb = cb;
    c->arg = arg;
    c->failure.kind = kind;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->failure.message, sizeof c->failure.message, fmt, ap);
    va_end(ap);
    loop_timer_init(l, &c->timer);
    loop_timer_start(&c->timer, 0, failing_report);
    return &c->base;
}

/* ---- routing ---- */

int model_router_check(struct model_router *r, struct str model_id, struct err *err)
{
    if (str_starts(model_id, claude_prefix) && model_id.len > claude_prefix.len)
        return 0;
    if (str_starts(model_id, script_prefix))
        return script_check(&r->script, str_skip(model_id, script_prefix.len), err);
    return err_set(err, ERR_INVALID,
                   "model " STR_FMT " is not known to any provider; use a claude-* id or "
                   "script/NAME",
                   STR_ARG(str_utf8_take(model_id, 100)));
}

static struct model_call *router_start(void *self, const struct model_request *req,
                                       const struct model_callbacks *cb, void *arg)
{
    struct model_router *r = self;
    struct err err;
    if (model_router_check(r, req->model, &err))
        return model_call_failing(r->loop, cb, arg, MODEL_ERR_REQUEST, "%.250s", err.msg);
    if (str_starts(req->model, script_prefix))
        return script_start(&r->script, req, cb, arg);
    return anthropic_start(&r->anthropic, req, cb, arg);
}

static void router_cancel(void *self, struct model_call *call)
{
    (void)self;
    call->cancel(call);
}

struct model_port model_router_port(struct model_router *r)
{
    return (struct model_port){.self = r, .start = router_start, .cancel = router_cancel};
}

/* ---- the table ---- */

const char *model_router_default(const struct model_router *r)
{
    return r->anthropic.key ? r->table.default_id : "script/demo";
}

const struct model_info *model_router_info(const struct model_router *r, struct str model_id)
{
    return model_table_find(&r->table, model_id);
}

size_t model_router_table(const struct model_router *r, const struct model_info **out)
{
    *out = r->table.infos;
    return r->table.ninfos;
}

void model_price(const struct model_router *r, struct str model_id, struct model_usage *usage)
{
    if (str_starts(model_id, script_prefix)) {
        usage->cost_microusd = 0;
        usage->unpriced = false;
        return;
    }
    model_price_of(model_table_find(&r->table, model_id), usage);
}
