/* model_peer: a small provider in the same process, which plays one prepared reply to every
 * request. Header of the tests of both protocols; one at a time. */
#ifndef OSTLER_TESTS_MODEL_PEER_H
#define OSTLER_TESTS_MODEL_PEER_H

#include "model_fixture.h"

#include "http/server.h"

#include <stdio.h>

struct reply {
    int status;
    const char *type;           /* content type; NULL: none */
    const char *header, *value; /* one more; or NULL */
    const char *body;
    bool cut;         /* the connection is closed without an end */
    bool stays;       /* the response is never ended */
    int64_t delay_ms; /* before the response begins */
};

static struct {
    struct http_server *server;
    const struct reply *reply;
    struct buf seen;   /* head lines and body of the last request */
    struct buf models; /* the ids asked for, in order */
    char url[64];
    int requests, running, most; /* most: running at the same time */
} peer;

struct peer_wait {
    struct loop_timer timer;
    struct http_req *req;
};

static void peer_wait_closed(struct loop_timer *timer)
{
    mem_free(CONTAINER_OF(timer, struct peer_wait, timer));
}

static void peer_over(struct http_req *r, bool gone)
{
    (void)gone;
    struct peer_wait *w = http_req_data(r);
    peer.running--;
    if (w)
        loop_timer_close(&w->timer, peer_wait_closed);
}

static void peer_answer(struct http_req *r)
{
    const struct reply *a = peer.reply;
    struct http_header headers[2];
    size_t n = 0;
    if (a->type)
        headers[n++] = (struct http_header){STR("Content-Type"), str_z(a->type)};
    if (a->header)
        headers[n++] = (struct http_header){str_z(a->header), str_z(a->value)};
    if (!a->cut && !a->stays && a->status != 200) {
        http_reply(r, a->status, headers, n, str_z(a->body));
        return;
    }
    http_stream(r, a->status, headers, n);
    if (a->body[0]) {
        struct bytes *b = bytes_new(str_z(a->body));
        http_stream_write(r, b);
        bytes_unref(b);
    }
    if (a->cut)
        http_stream_abort(r);
    else if (!a->stays)
        http_stream_end(r);
}

static void peer_waited(struct loop_timer *timer)
{
    struct peer_wait *w = CONTAINER_OF(timer, struct peer_wait, timer);
    http_req_set_data(w->req, NULL);
    peer_answer(w->req);
    loop_timer_close(timer, peer_wait_closed);
}

static struct loop *peer_loop;

static void peer_body(struct http_req *r, struct str body)
{
    buf_str(&peer.seen, body);
    struct str key = STR("\"model\":\""), model = body;
    model = str_skip(body, (size_t)str_find(body, key) + key.len);
    buf_str(&peer.models, str_split(&model, '"'));
    buf_ch(&peer.models, ' ');
    if (!peer.reply->delay_ms) {
        peer_answer(r);
        return;
    }
    struct peer_wait *w = mem_zalloc(sizeof *w);
    w->req = r;
    http_req_set_data(r, w);
    loop_timer_init(peer_loop, &w->timer);
    loop_timer_start(&w->timer, peer.reply->delay_ms, peer_waited);
}

static void peer_handler(struct http_req *r, void *arg)
{
    (void)arg;
    static const char *const names[] = {"x-api-key",      "authorization", "anthropic-version",
                                        "anthropic-beta", "content-type",  "accept"};
    peer.requests++;
    peer.running++;
    if (peer.running > peer.most)
        peer.most = peer.running;
    buf_clear(&peer.seen);
    buf_printf(&peer.seen, STR_FMT " " STR_FMT "\n", STR_ARG(http_req_method(r)),
               STR_ARG(http_req_path(r)));
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct str v = http_req_header(r, names[i]);
        if (str_some(v))
            buf_printf(&peer.seen, "%s: " STR_FMT "\n", names[i], STR_ARG(v));
    }
    http_req_set_data(r, NULL);
    http_req_on_closed(r, peer_over);
    http_req_body(r, 1 << 20, peer_body);
}

static void peer_closed(void *arg)
{
    (void)arg;
}

/* A fixture beside a provider that gives `reply` to everything; its address is in peer.url. */
static inline void peer_open(struct fixture *f, const struct reply *reply, const char *suffix)
{
    struct err err;
    fixture_init(f, &(struct model_config){0});
    peer_loop = f->loop;
    const struct http_server_config cfg = {.host = "127.0.0.1", .handler = peer_handler};
    assert_int_equal(http_server_open(f->loop, &cfg, &peer.server, &err), 0);
    snprintf(peer.url, sizeof peer.url, "http://127.0.0.1:%d%s", http_server_port(peer.server),
             suffix);
    peer.reply = reply;
    peer.requests = peer.running = peer.most = 0;
    buf_init(&peer.seen, 1 << 20);
    buf_init(&peer.models, 1 << 20);
    buf_z(&peer.models, "");
}

/* The fixture's router becomes one of this configuration. */
static inline void peer_configure(struct fixture *f, const struct model_config *cfg)
{
    struct err err;
    model_router_free(f->router);
    assert_int_equal(model_router_new(f->loop, f->http, cfg, &f->router, &err), 0);
    f->port = model_router_port(f->router);
}

static inline void peer_fini(struct fixture *f)
{
    http_server_close(peer.server, 0, peer_closed, NULL);
    fixture_fini(f);
    buf_fini(&peer.seen);
    buf_fini(&peer.models);
}

#endif
