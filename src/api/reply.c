#include "api/agent_decode.h"
#include "api/api_impl.h"
#include "api/inbox.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/fd.h"
#include "json/writer.h"

#include <assert.h>
#include <stdio.h>

static void write_error(struct buf *out, const struct err *err, struct str request_id,
                        const char *key, struct str json)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kz(&w, "type", "error");
    jw_key(&w, "error");
    jw_obj(&w);
    jw_kz(&w, "type", err_api_type(err->code));
    jw_kz(&w, "message", err->msg);
    if (err->detail || err->at[0] || key) {
        jw_key(&w, "details");
        jw_obj(&w);
        if (err->detail)
            jw_kz(&w, "error_code", err->detail);
        if (err->at[0])
            jw_kz(&w, "pointer", err->at);
        if (key)
            jw_kraw(&w, key, json);
        jw_obj_end(&w);
    }
    jw_obj_end(&w);
    jw_kstr(&w, "request_id", request_id);
    jw_obj_end(&w);
    jw_done(&w);
}

void reply_error_json(struct buf *out, const struct err *err, struct str request_id)
{
    write_error(out, err, request_id, NULL, STR_NONE);
}

size_t reply_headers(struct call *c, struct http_header out[REPLY_HEADERS_MAX])
{
    size_t n = 0;
    out[n++] = (struct http_header){STR("request-id"), id_str(&c->request_id)};
    if (c->workspace_id.z[0])
        out[n++] = (struct http_header){STR("anthropic-workspace-id"), call_workspace(c)};
    return n;
}

/* The path without the query: what it holds is the client's. */
static void log_request(const struct http_req *req, int status, int64_t took_us,
                        const struct id *request_id)
{
    char path[128], method[16], code[8], ms[24];
    if (!log_wants(LOG_DEBUG))
        return;
    str_copyz(method, sizeof method, str_take(http_req_method(req), sizeof method - 1));
    str_copyz(path, sizeof path, str_utf8_take(http_req_path(req), sizeof path - 1));
    snprintf(code, sizeof code, "%d", status);
    snprintf(ms, sizeof ms, "%.3f", (double)took_us / 1e3);
    log_line(LOG_DEBUG, "request", "method", method, "path", path, "status", code, "ms", ms,
             "request_id", request_id->z, NULL);
}

void call_answered(struct call *c, int status)
{
    assert(!c->replied);
    c->replied = true;
    c->status = status;
    c->api->requests[status / 100 % API_STATUS_CLASSES]++;
    log_request(c->req, status, clock_mono_us() - c->started_us, &c->request_id);
}

/* A failure of ours; which request it was says its own line, at debug. */
static void log_failure(const char *what, const struct call *c, const struct err *err)
{
    log_line(LOG_WARN, what, "error", err->msg, "code", err_name(err->code), "request_id",
             c->request_id.z, NULL);
}

static bool retry_is_useless(const struct err *err)
{
    return err->code == ERR_CONFLICT || err->code == ERR_EXISTS ||
           (err->detail && strcmp(err->detail, INBOX_FULL) == 0);
}

void call_fail(struct call *c, const struct err *err)
{
    call_fail_with(c, err, NULL, STR_NONE);
}

void call_fail_with(struct call *c, const struct err *err, const char *key, struct str json)
{
    int status = err_http_status(err->code);
    if (!c->req)
        return;
    if (c->streaming) {
        log_failure("stream failed", c, err);
        http_stream_abort(c->req);
        return;
    }
    if (c->replied)
        return;
    if (status >= 500)
        log_failure("request failed", c, err);
    struct http_header h[REPLY_HEADERS_MAX];
    size_t n = reply_headers(c, h);
    h[n++] = (struct http_header){STR("content-type"), STR("application/json")};
    if (err->code == ERR_METHOD && c->state)
        h[n++] = (struct http_header){STR("allow"), str_z(c->state)};
    if (retry_is_useless(err))
        h[n++] = (struct http_header){STR("x-should-retry"), STR("false")};
    AUTO_BUF struct buf b = BUF_INIT(16 * 1024);
    write_error(&b, err, id_str(&c->request_id), key, json);
    call_answered(c, status);
    http_reply(c->req, status, h, n, buf_view(&b));
}

/* Errors of the HTTP layer itself. A request that had come as far as a call keeps its id. */
void reply_refuse(struct http_req *req, int status, const struct err *err, void *arg)
{
    struct api *api = arg;
    struct call *c = http_req_data(req);
    struct id id = c ? c->request_id : id_new("req");
    struct http_header h[REPLY_HEADERS_MAX];
    size_t n = 0;
    if (c) {
        n = reply_headers(c, h);
        call_answered(c, status);
    } else {
        h[n++] = (struct http_header){STR("request-id"), id_str(&id)};
        api->requests[status / 100 % API_STATUS_CLASSES]++;
        log_request(req, status, 0, &id);
    }
    h[n++] = (struct http_header){STR("content-type"), STR("application/json")};
    AUTO_BUF struct buf b = BUF_INIT(16 * 1024);
    reply_error_json(&b, err, id_str(&id));
    http_reply(req, status, h, n, buf_view(&b));
}

void call_reply(struct call *c, struct buf *json)
{
    call_reply_text(c, "application/json", json);
}

void call_reply_text(struct call *c, const char *type, struct buf *text)
{
    struct err err;
    if (!buf_ok(text)) {
        err_set(&err, ERR_LIMIT, "the response is too large; ask for fewer rows with limit=");
        call_fail(c, &err);
    } else if (c->req && !c->replied) {
        struct http_header h[REPLY_HEADERS_MAX];
        size_t n = reply_headers(c, h);
        h[n++] = (struct http_header){STR("content-type"), str_z(type)};
        call_answered(c, 200);
        http_reply(c->req, 200, h, n, buf_view(text));
    }
    buf_fini(text);
}

void call_reply_deleted(struct call *c, const char *type)
{
    struct buf b = BUF_INIT(1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kstr(&w, "id", c->id[0]);
    jw_kz(&w, "type", type);
    jw_obj_end(&w);
    call_reply(c, &b);
}

void call_reply_file_with(struct call *c, const char *type, int fd, uint64_t len,
                          const struct http_header *more, size_t nmore)
{
    if (!c->req || c->replied) {
        fd_close(fd);
        return;
    }
    struct http_header h[REPLY_HEADERS_MAX];
    size_t n = reply_headers(c, h);
    h[n++] = (struct http_header){STR("content-type"), str_z(type)};
    for (size_t i = 0; i < nmore && n < REPLY_HEADERS_MAX; i++)
        h[n++] = more[i];
    call_answered(c, 200);
    http_reply_file(c->req, 200, h, n, fd, len);
}

void call_reply_file(struct call *c, const char *type, int fd, uint64_t len)
{
    call_reply_file_with(c, type, fd, len, NULL, 0);
}

/* ---- the model rules of the decoders ---- */

static int check_model(void *self, struct str id, struct err *err)
{
    return model_router_check(self, id, err);
}

static const char *default_effort(void *self, struct str id)
{
    const struct model_info *info = model_router_info(self, id);
    return info && info->default_effort ? info->default_effort : "high";
}

const struct model_rules *call_model_rules(struct call *c, struct model_rules *rules)
{
    *rules = (struct model_rules){c->api->cfg.models, check_model, default_effort};
    return rules;
}
