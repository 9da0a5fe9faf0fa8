#include "api/work_impl.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "io/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

enum { FORWARD_BACKLOG = 128 };

static void tick(struct loop_timer *t)
{
    struct api *api = CONTAINER_OF(t, struct api, ticker);
    streams_tick(api);
    loop_timer_start(t, LIMIT_STREAM_TICK_MS, tick);
}

static void sweep_trouble(void *arg, const struct err *err)
{
    (void)arg;
    log_err(LOG_WARN, "files could not be swept", err);
}

static void start_sweep(struct api *api)
{
    const struct file_sweep_config sweep = {
        .loop = api->cfg.loop,
        .store = api->cfg.store,
        .blobs = &api->blobs,
        .trouble = sweep_trouble,
    };
    api->sweep = file_sweep_start(&sweep);
}

/* The same requests by the same rules, on a socket that only processes of our user reach. */
static int open_forwarded(struct api *api, struct http_server_config http, struct err *err)
{
    const char *path = api->cfg.forward_path;
    char dir[PATH_MAX];
    if (!path)
        return 0;
    struct str parent = str_take(str_z(path), (size_t)(strrchr(path, '/') - path));
    if (!str_copyz(dir, sizeof dir, parent))
        return err_set(err, ERR_INVALID, "the path of the data directory is too long");
    api->owners_dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (api->owners_dir < 0)
        return err_sys(err, errno, "%s", dir);
    int fd = socket_listen(path, FORWARD_BACKLOG, err);
    if (fd < 0)
        return fd;
    http.listen_fd = &fd;
    int rc = http_server_open(api->cfg.loop, &http, &api->forwarded, err);
    if (rc)
        fd_close(fd);
    return rc;
}

static void open_failed(struct api *api)
{
    fd_close(api->owners_dir);
    blobs_close(&api->blobs);
    mem_free(api);
}

int api_open(const struct api_config *cfg, struct api **out, struct err *err)
{
    struct api *api = mem_zalloc(sizeof *api);
    api->cfg = *cfg;
    api->owners_dir = -1;
    api->started_us = clock_unix_us();
    list_init(&api->calls);
    list_init(&api->streams);
    const struct http_server_config http = {
        .host = cfg->host,
        .port = cfg->port,
        .listen_fd = cfg->listen_fd,
        .handler = call_begin,
        .refuse = reply_refuse,
        .arg = api,
    };
    int rc = blobs_open(&api->blobs, cfg->data_dir, err);
    if (rc) {
        mem_free(api);
        return rc;
    }
    rc = http_server_open(cfg->loop, &http, &api->http, err);
    rc = rc ? rc : open_forwarded(api, http, err);
    if (rc) {
        if (api->http)
            http_server_close(api->http, 0, NULL, NULL);
        open_failed(api);
        return rc;
    }
    start_sweep(api);
    work_open(api);
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
    if (!api->closing || !api->http_closed || !api->forwarded_closed || !api->ticker_closed ||
        !api->sweep_closed || !api->work_closed || api->drops || !list_empty(&api->calls))
        return;
    blobs_close(&api->blobs);
    fd_close(api->owners_dir);
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

static void on_forwarded_closed(void *arg)
{
    struct api *api = arg;
    api->forwarded_closed = true;
    api_check_closed(api);
}

static void on_sweep_closed(void *arg)
{
    struct api *api = arg;
    api->sweep_closed = true;
    api_check_closed(api);
}

static void on_work_closed(struct api *api)
{
    api->work_closed = true;
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
    work_close(api, on_work_closed);
    file_sweep_close(api->sweep, on_sweep_closed, api);
    api->forwarded_closed = api->forwarded == NULL;
    if (api->forwarded)
        http_server_close(api->forwarded, grace_ms, on_forwarded_closed, api);
    http_server_close(api->http, grace_ms, on_http_closed, api);
}

struct drop {
    struct loop_work work;
    struct api *api;
    struct blob_upload *upload;
};

static void drop(struct loop_work *w)
{
    struct drop *d = CONTAINER_OF(w, struct drop, work);
    blob_upload_close(d->upload);
}

static void dropped(struct loop_work *w)
{
    struct drop *d = CONTAINER_OF(w, struct drop, work);
    struct api *api = d->api;
    mem_free(d);
    api->drops--;
    api_check_closed(api);
}

void api_drop_upload(struct api *api, struct blob_upload *upload)
{
    if (!upload)
        return;
    struct drop *d = mem_zalloc(sizeof *d);
    d->api = api;
    d->upload = upload;
    api->drops++;
    loop_work(api->cfg.loop, &d->work, drop, dropped);
}
