#include "api/api_impl.h"

#include "base/clock.h"
#include "base/limits.h"

static void tick(struct loop_timer *t)
{
    struct api *api = CONTAINER_OF(t, struct api, ticker);
    streams_tick(api);
    loop_timer_start(t, LIMIT_STREAM_TICK_MS, tick);
}

int api_open(const struct api_config *cfg, struct api **out, struct err *err)
{
    struct api *api = mem_zalloc(sizeof *api);
    api->cfg = *cfg;
    api->started_us = clock_unix_us();
    list_init(&api->calls);
    list_init(&api->streams);
    const struct http_server_config http = {
        .host = cfg->host,
        .port = cfg->port,
        .handler = call_begin,
        .refuse = reply_refuse,
        .arg = api,
    };
    int rc = http_server_open(cfg->loop, &http, &api->http, err);
    if (rc) {
        mem_free(api);
        return rc;
    }
    loop_timer_init(cfg->loop, &api->ticker);
    loop_timer_start(&api->ticker, LIMIT_STREAM_TICK_MS, tick);
    *out = api;
    return 0;
}

int api_port(const struct api *api)
{
    return http_server_port(api->http);
}

/* A call may outlive the server by its last store job. */
void api_check_closed(struct api *api)
{
    if (!api->closing || !api->http_closed || !api->ticker_closed || !list_empty(&api->calls))
        return;
    void (*closed)(void *) = api->closed;
    void *arg = api->closed_arg;
    mem_free(api);
    closed(arg);
}

static void on_http_closed(void *arg)
{
    struct api *api = arg;
    api->http_closed = true;
    api_check_closed(api);
}

static void on_ticker_closed(struct loop_timer *t)
{
    struct api *api = CONTAINER_OF(t, struct api, ticker);
    api->ticker_closed = true;
    api_check_closed(api);
}

void api_close(struct api *api, int64_t grace_ms, void (*closed)(void *arg), void *arg)
{
    api->closing = true;
    api->closed = closed;
    api->closed_arg = arg;
    loop_timer_close(&api->ticker, on_ticker_closed);
    http_server_close(api->http, grace_ms, on_http_closed, api);
}
