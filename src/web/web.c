#include "web/impl.h"

#include "base/limits.h"
#include "web/charset.h"

#include <libxml/parser.h>
#include <stdarg.h>
#include <stdio.h>

enum { CONFIG_ARENA = 4 * 1024 * 1024, RUN_ARENA = 64 * 1024 * 1024 };

/* ---- a run ---- */

static void maybe_closed(struct web *w)
{
    if (!w->closing || !w->http_closed || !list_empty(&w->runs))
        return;
    void (*closed)(void *) = w->closed;
    void *arg = w->closed_arg;
    arena_fini(&w->arena);
    mem_free(w->allow);
    mem_free(w->names);
    mem_free(w);
    if (closed)
        closed(arg);
}

void web_run_release(struct web_run *r)
{
    struct web *w = r->web;
    if (--r->pending > 0)
        return;
    list_remove(&r->node);
    buf_fini(&r->body);
    arena_fini(&r->arena);
    mem_free(r);
    maybe_closed(w);
}

static void on_timer_closed(struct loop_timer *t)
{
    web_run_release(CONTAINER_OF(t, struct web_run, timer));
}

void web_drop_http(struct web_run *r)
{
    if (r->http)
        http_call_cancel(TAKE_PTR(r->http));
}

static void finish(struct web_run *r)
{
    r->over = true;
    web_drop_http(r);
    pdf_cancel(r);
    loop_timer_stop(&r->timer);
    loop_timer_close(&r->timer, on_timer_closed);
}

void web_end(struct web_run *r, struct str text, bool is_error)
{
    if (r->over)
        return;
    const struct tool_outcome outcome = {.content = text, .is_error = is_error};
    r->pending++; /* `done` may close the whole */
    finish(r);
    r->done(r->arg, &outcome);
    web_run_release(r);
}

void web_fail(struct web_run *r, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    /* Some of it may be a header's, and cut. */
    AUTO_BUF struct buf clean = BUF_INIT(4 * sizeof text);
    charset_to_utf8(str_z(text), STR("utf-8"), false, &clean);
    web_end(r, buf_view(&clean), true);
}

/* ---- the port ---- */

static void on_deadline(struct loop_timer *t)
{
    struct web_run *r = CONTAINER_OF(t, struct web_run, timer);
    web_fail(r, "The call took longer than %lld seconds and was given up.",
             (long long)(r->web->timeout_ms + 999) / 1000);
}

static void on_begin(struct loop_timer *t)
{
    struct web_run *r = CONTAINER_OF(t, struct web_run, timer);
    r->until_ms = loop_now_ms(r->web->loop) + r->web->timeout_ms;
    loop_timer_start(&r->timer, r->web->timeout_ms, on_deadline);
    r->begin(r);
}

static void refuse_input(struct web_run *r)
{
    web_fail(r, "%s", r->mistake);
}

/* Reads what is needed of the call while its views are valid; mistakes are told when it begins. */
static void prepare(struct web_run *r, const struct web_call *call)
{
    struct err err;
    struct http_link link;
    bool fetch = str_eqz(call->name, "web_fetch");
    const char *field = fetch ? "url" : "query";
    r->begin = fetch ? fetch_begin : search_begin;
    struct str input = arena_str(&r->arena, call->input);
    struct str config = arena_str(&r->arena, call->config);
    if (r->arena.failed || json_parse(&r->arena, input, JSON_ALLOW_DUPLICATES, &r->input, &err) ||
        !str_trim(json_get_str(r->input, field)).len) {
        snprintf(r->mistake, sizeof r->mistake,
                 "The input needs \"%s\", a string that is not empty.", field);
        r->begin = refuse_input;
        return;
    }
    if (str_some(call->config) && json_parse(&r->arena, config, 0, &r->config, &err)) {
        snprintf(r->mistake, sizeof r->mistake, "The tool's settings cannot be read: %s.", err.msg);
        r->begin = refuse_input;
        return;
    }
    if (!fetch || !call->url_known)
        return;
    if (http_link_parse(json_get_str(r->input, "url"), NULL, &link, &err) == 0)
        r->refused_source = !call->url_known(call->arg, str_z(link.url), str_z(link.host));
}

static void port_run(void *self, const struct web_call *call,
                     void (*done)(void *arg, const struct tool_outcome *outcome), void *arg)
{
    struct web *w = self;
    struct web_run *r = mem_zalloc(sizeof *r);
    r->web = w;
    r->done = done;
    r->arg = arg;
    r->pending = 1; /* the timer */
    str_copyz(r->id, sizeof r->id, call->tool_use_id);
    arena_init(&r->arena, RUN_ARENA);
    list_push(&w->runs, &r->node);
    loop_timer_init(w->loop, &r->timer);
    prepare(r, call);
    loop_timer_start(&r->timer, 0, on_begin);
}

static void refuse_cancelled(struct loop_timer *t)
{
    web_fail(CONTAINER_OF(t, struct web_run, timer), "The call was cancelled.");
}

static void port_cancel(void *self, struct str tool_use_id)
{
    struct web *w = self;
    list_for_each (it, &w->runs) {
        struct web_run *r = LIST_ENTRY(it, struct web_run, node);
        if (!r->over && str_eqz(tool_use_id, r->id))
            loop_timer_start(&r->timer, 0, refuse_cancelled);
    }
}

static bool port_same_url(void *self, struct str url, struct str found)
{
    (void)self;
    struct http_link link;
    struct err err;
    return http_link_parse(found, NULL, &link, &err) == 0 && str_eqz(url, link.url);
}

struct web_port web_port(struct web *w)
{
    return (struct web_port){
        .self = w, .run = port_run, .cancel = port_cancel, .same_url = port_same_url};
}

/* ---- opening and closing ---- */

static int64_t or_default(int64_t n, int64_t otherwise)
{
    return n > 0 ? n : otherwise;
}

static int read_addresses(struct web *w, const struct web_config *cfg, struct err *err)
{
    w->allow = mem_zalloc((cfg->nallow_addresses + 1) * sizeof *w->allow);
    w->names = mem_zalloc((cfg->nhosts + 1) * sizeof *w->names);
    for (size_t i = 0; i < cfg->nallow_addresses; i++)
        if (ip_range_parse(str_z(cfg->allow_addresses[i]), &w->allow[w->nallow++], err))
            return err_wrap(err, "web.allow_addresses");
    for (size_t i = 0; i < cfg->nhosts; i++) {
        struct web_name *n = &w->names[w->nnames++];
        n->name = arena_strz(&w->arena, str_z(cfg->hosts[i].name));
        if (!ip_parse(str_z(cfg->hosts[i].address), &n->ip))
            return err_set(err, ERR_INVALID, "web.hosts: \"%s\" is no IP address",
                           cfg->hosts[i].address);
    }
    return 0;
}

static int check_search_url(const struct web_config *cfg, struct err *err)
{
    struct http_link link;
    if (!cfg->search_url || http_link_parse(str_z(cfg->search_url), NULL, &link, err) == 0)
        return 0;
    return err_wrap(err, "web.search_url");
}

int web_open(struct loop *l, const struct web_config *cfg, struct web **out, struct err *err)
{
    struct web *w = mem_zalloc(sizeof *w);
    arena_init(&w->arena, CONFIG_ARENA);
    int rc = read_addresses(w, cfg, err);
    rc = rc ? rc : check_search_url(cfg, err);
    if (rc) {
        arena_fini(&w->arena);
        mem_free(w->allow);
        mem_free(w->names);
        mem_free(w);
        return rc;
    }
    w->loop = l;
    w->fetch_bytes = or_default(cfg->fetch_bytes, LIMIT_WEB_FETCH);
    w->timeout_ms = or_default(cfg->timeout_ms, LIMIT_WEB_MS);
    w->search_url = cfg->search_url ? arena_strz(&w->arena, str_z(cfg->search_url)) : NULL;
    w->search_key = cfg->search_key ? arena_strz(&w->arena, str_z(cfg->search_key)) : NULL;
    w->pdftotext = cfg->pdftotext ? arena_strz(&w->arena, str_z(cfg->pdftotext)) : NULL;
    w->lookup = cfg->lookup ? cfg->lookup : lookup_start;
    list_init(&w->runs);
    w->http = http_client_new(l);
    xmlInitParser(); /* before a worker does */
    *out = w;
    return 0;
}

static void on_http_closed(void *arg)
{
    struct web *w = arg;
    w->http_closed = true;
    maybe_closed(w);
}

void web_close(struct web *w, void (*closed)(void *arg), void *arg)
{
    w->closing = true;
    w->closed = closed;
    w->closed_arg = arg;
    list_for_each (it, &w->runs) {
        struct web_run *r = LIST_ENTRY(it, struct web_run, node);
        if (!r->over)
            finish(r);
    }
    http_client_close(w->http, on_http_closed, w);
}
