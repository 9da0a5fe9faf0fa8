#include "api/api_impl.h"
#include "api/forward.h"
#include "api/header.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"

#include <assert.h>
#include <stdio.h>

enum { CALL_ARENA = LIMIT_JSON_ARENA + 64 * 1024 * 1024 };

/* ---- lifetime ---- */

struct call *call_ref(struct call *c)
{
    c->refs++;
    return c;
}

void call_unref(struct call *c)
{
    assert(c->refs > 0);
    if (--c->refs > 0)
        return;
    struct api *api = c->api;
    list_remove(&c->link);
    if (c->fini)
        c->fini(c);
    buf_fini(&c->body);
    arena_fini(&c->arena);
    mem_free(c);
    api_check_closed(api);
}

static void request_closed(struct http_req *req, bool gone)
{
    struct call *c = http_req_data(req);
    (void)gone;
    c->req = NULL;
    if (c->gone)
        c->gone(c);
    call_unref(c);
}

static struct call *call_new(struct api *api, struct http_req *req)
{
    struct call *c = mem_zalloc(sizeof *c);
    c->api = api;
    c->req = req;
    c->refs = 1; /* the request's */
    c->started_us = clock_mono_us();
    c->request_id = id_new("req");
    c->body = BUF_INIT(LIMIT_HTTP_BODY);
    arena_init(&c->arena, CALL_ARENA);
    list_init(&c->link);
    list_push(&api->calls, &c->link);
    http_req_set_data(req, c);
    http_req_on_closed(req, request_closed);
    return c;
}

void *call_state(struct call *c, size_t size)
{
    void *p = arena_alloc(&c->arena, size);
    struct err err;
    if (p) {
        c->state = p;
    } else {
        err_set(&err, ERR_LIMIT, "the request is too large");
        call_fail(c, &err);
    }
    return p;
}

/* ---- store steps ---- */

static int run_step(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct call *c = CONTAINER_OF(job, struct call, job);
    return c->step(tx, c, err);
}

static void step_done(struct store_job *job, const struct err *err)
{
    struct call *c = CONTAINER_OF(job, struct call, job);
    if (err->code)
        call_fail(c, err);
    else
        c->then(c);
    call_unref(c);
}

static void start_step(struct call *c, void (*port)(void *, struct store_job *),
                       int (*step)(struct store_tx *, struct call *, struct err *),
                       void (*then)(struct call *))
{
    call_ref(c);
    c->step = step;
    c->then = then;
    c->job = (struct store_job){.fn = run_step, .done = step_done};
    port(c->api->cfg.store.self, &c->job);
}

void call_read(struct call *c, int (*step)(struct store_tx *, struct call *, struct err *),
               void (*then)(struct call *))
{
    start_step(c, c->api->cfg.store.read, step, then);
}

void call_write(struct call *c, int (*step)(struct store_tx *, struct call *, struct err *),
                void (*then)(struct call *))
{
    start_step(c, c->api->cfg.store.write, step, then);
}

/* ---- from the head to the handler ---- */

bool call_has_beta(const struct call *c, const char *name)
{
    return header_lists(http_req_header(c->req, "anthropic-beta"), name);
}

static int check_beta(struct call *c, struct err *err)
{
    if (c->route->beta == BETA_NONE || call_has_beta(c, API_BETA))
        return 0;
    if (c->route->beta == BETA_THREADS)
        return err_set(err, ERR_NOT_FOUND, "Not found");
    return err_at(err, ERR_INVALID, "anthropic-beta",
                  "anthropic-beta: this endpoint is in beta; send the header 'anthropic-beta: %s'",
                  API_BETA);
}

static int check_workspace(struct call *c, struct err *err)
{
    struct str want = http_req_header(c->req, "anthropic-workspace-id");
    if (want.len == 0 || str_eq(want, call_workspace(c)))
        return 0;
    return err_at(err, ERR_PERMISSION, "anthropic-workspace-id",
                  "anthropic-workspace-id: the API key belongs to another workspace");
}

static int decode_body(struct call *c, struct err *err)
{
    struct str text = str_trim(buf_view(&c->body));
    if (text.len == 0) {
        if (c->route->body == BODY_MAYBE)
            return 0;
        return err_set(err, ERR_INVALID, "The request has no body; send a JSON object");
    }
    struct str type = http_req_header(c->req, "content-type");
    if (!header_is_json(type))
        return err_at(err, ERR_INVALID, "content-type",
                      "content-type: Input should be application/json, not '" STR_FMT "'",
                      STR_ARG(str_utf8_take(type, 100)));
    const struct json *doc;
    int rc = json_parse(&c->arena, text, 0, &doc, err);
    if (rc == ERR_LIMIT && !c->arena.failed)
        err->code = ERR_INVALID; /* nested too deep, not too large */
    if (rc)
        return err->at[0] ? err_wrap(err, "%s", err->at) : err->code;
    if (doc->type != JSON_OBJECT)
        return err_set(err, ERR_INVALID, "The request body should be a JSON object");
    c->doc = doc;
    return 0;
}

static void body_end(struct http_req *req)
{
    struct call *c = call_ref(http_req_data(req));
    struct err err = {0};
    if (!buf_ok(&c->body))
        err_set(&err, ERR_TOO_LARGE, "The request body is over %d bytes", LIMIT_HTTP_BODY);
    if (err.code || decode_body(c, &err))
        call_fail(c, &err);
    else
        forward_or_handle(c);
    call_unref(c);
}

static void body_piece(struct http_req *req, struct str piece)
{
    struct call *c = http_req_data(req);
    buf_put(&c->body, piece.ptr, piece.len);
}

static void authorised(struct call *c)
{
    struct err err;
    if ((!c->route->open && check_workspace(c, &err)) || check_beta(c, &err)) {
        call_fail(c, &err);
        return;
    }
    if (c->route->body == BODY_JSON || c->route->body == BODY_MAYBE)
        http_req_body_stream(c->req, LIMIT_HTTP_BODY, body_piece, body_end);
    else
        forward_or_handle(c);
}

/* http_query() names no parameter: the first one that cannot be decoded is looked for here. */
static int refuse_query(struct call *c, struct str query, struct err *err)
{
    struct str ignored, key;
    char name[ERR_AT_MAX];
    for (struct str rest = query; str_some(rest);) {
        struct str value = str_split(&rest, '&'), raw = str_split(&value, '=');
        struct err why;
        if (http_decode(&c->arena, raw, true, &key, &why) ||
            !http_decode(&c->arena, value, true, &ignored, &why))
            continue;
        str_copyz(name, sizeof name, str_utf8_take(key, sizeof name - 1));
        return err_at(err, ERR_INVALID, name, "%s: %s", name, why.msg);
    }
    return ERR_INVALID;
}

static int decode_target(struct call *c, struct str ids[ROUTE_IDS_MAX], struct err *err)
{
    for (size_t i = 0; i < ROUTE_IDS_MAX; i++)
        if (str_some(ids[i]) && http_decode(&c->arena, ids[i], false, &c->id[i], err))
            return err_set(err, ERR_NOT_FOUND, "Not found: no id is written '" STR_FMT "'",
                           STR_ARG(str_utf8_take(ids[i], 100)));
    struct str text = arena_str(&c->arena, http_req_query(c->req));
    struct http_param *params;
    int rc = http_query(&c->arena, text, &params, &c->query.n, err);
    if (rc)
        return refuse_query(c, text, err);
    c->query.params = params;
    return 0;
}

static void refuse_route(struct call *c, enum route_match match, const char *allow)
{
    struct err err;
    struct str method = str_utf8_take(http_req_method(c->req), 32);
    struct str path = str_utf8_take(http_req_path(c->req), 160);
    if (match == ROUTE_NO_PATH) {
        err_set(&err, ERR_NOT_FOUND, "Not found: there is no " STR_FMT, STR_ARG(path));
        call_fail(c, &err);
        return;
    }
    err_at(&err, ERR_METHOD, "allow", STR_FMT " is not allowed for " STR_FMT "; allowed: %s",
           STR_ARG(method), STR_ARG(path), allow);
    struct str kept = arena_str(&c->arena, str_z(allow));
    c->state = (void *)(uintptr_t)kept.ptr; /* reply.c sends it as the Allow header */
    call_fail(c, &err);
}

void call_begin(struct http_req *req, void *arg)
{
    struct call *c = call_ref(call_new(arg, req));
    struct str ids[ROUTE_IDS_MAX] = {{0}};
    char allow[64];
    struct err err;
    enum route_match match =
        route_find(http_req_method(req), http_req_path(req), &c->route, ids, allow);
    if (match != ROUTE_FOUND)
        refuse_route(c, match, allow);
    else if (decode_target(c, ids, &err))
        call_fail(c, &err);
    else if (c->route->open)
        authorised(c);
    else
        auth_check(c, authorised);
    call_unref(c);
}
