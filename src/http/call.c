#include "http/call.h"

#include "base/mem.h"

#include <stdio.h>

enum { RESPONSE_HEAD_MAX = 256 * 1024, RESPONSE_HEADERS_MAX = 512, REQUEST_HEADER_MAX = 64 * 1024 };

static const struct sm_state states[] = {
    [CALL_FRESH] = {"fresh", SM_BIT(CALL_WAIT) | SM_BIT(CALL_DONE), SM_INITIAL},
    [CALL_WAIT] = {"wait", SM_BIT(CALL_BODY) | SM_BIT(CALL_DONE), 0},
    [CALL_BODY] = {"body", SM_BIT(CALL_DONE), 0},
    [CALL_DONE] = {"done", 0, SM_FINAL},
};

/* ---- the end ---- */

static void on_timer_closed(struct loop_timer *t)
{
    struct http_call *call = CONTAINER_OF(t, struct http_call, timer);
    struct http_client *c = call->client;
    mem_free(call);
    client_call_gone(c);
}

void call_free(struct http_call *call)
{
    struct http_client *c = call->client;
    if (sm_state(&call->sm) == CALL_WAIT || sm_state(&call->sm) == CALL_BODY)
        curl_multi_remove_handle(c->multi, call->easy);
    if (sm_state(&call->sm) != CALL_DONE)
        sm_move(&call->sm, CALL_DONE);
    curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    curl_slist_free_all(call->connect_to);
    mem_free(call->body);
    mem_free(call->host);
    arena_fini(&call->arena);
    list_remove(&call->node);
    c->ntimers++;
    loop_timer_close(&call->timer, on_timer_closed);
}

/* curl's own text, or its general one where it has none. */
static const char *detail(const struct http_call *call, CURLcode code)
{
    return call->curl_says[0] ? call->curl_says : curl_easy_strerror(code);
}

static void explain(struct http_call *call, CURLcode code, struct err *err)
{
    const char *host = call->host, *why = detail(call, code);
    /* Codes beyond these are all failures of the exchange itself. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wswitch-enum"
    switch (code) {
    case CURLE_OK: *err = (struct err){.code = 0}; break;
    case CURLE_OPERATION_TIMEDOUT:
        err_set(err, ERR_CONNECT, "connecting to %s took longer than %lld ms", host,
                (long long)call->p.connect_ms);
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_PROXY: err_set(err, ERR_CONNECT, "cannot connect to %s: %s", host, why); break;
    case CURLE_PARTIAL_FILE:
        err_set(err, ERR_PROTOCOL, "%s broke off its response: %s", host, why);
        break;
    case CURLE_GOT_NOTHING:
        err_set(err, ERR_PROTOCOL, "%s closed the connection without a response", host);
        break;
    default: err_set(err, ERR_PROTOCOL, "the exchange with %s failed: %s", host, why); break;
    }
#pragma GCC diagnostic pop
}

void call_finish(struct http_call *call, CURLcode code)
{
    struct err err = call->err;
    if (!call->failed)
        explain(call, code, &err);
    if (err.code == 0 && sm_state(&call->sm) == CALL_WAIT)
        err_set(&err, ERR_PROTOCOL, "%s sent no response head", call->host);
    if (sm_state(&call->sm) == CALL_WAIT || sm_state(&call->sm) == CALL_BODY)
        curl_multi_remove_handle(call->client->multi, call->easy);
    sm_move(&call->sm, CALL_DONE);
    call->p.on_done(call->p.arg, &err);
    call_free(call);
}

/* Ends the call from within: curl's call-back aborts, or the sweep takes it out. */
static void fail(struct http_call *call)
{
    call->failed = true;
    client_touch(call->client);
}

/* ---- deadlines ---- */

static void on_timer(struct loop_timer *t);

static int64_t due(const struct http_call *call)
{
    int s = sm_state(&call->sm);
    if ((s == CALL_FRESH || s == CALL_WAIT) && call->p.first_byte_ms > 0)
        return call->start_ms + call->p.first_byte_ms;
    if (s == CALL_BODY && call->p.silence_ms > 0 && !call->paused && !call->held)
        return call->mark_ms + call->p.silence_ms;
    return INT64_MAX;
}

static void set_deadline(struct http_call *call)
{
    int64_t at = due(call);
    if (at != INT64_MAX)
        loop_timer_start(&call->timer, at - loop_now_ms(call->client->loop), on_timer);
}

static void on_timer(struct loop_timer *t)
{
    struct http_call *call = CONTAINER_OF(t, struct http_call, timer);
    if (call->cancelled || call->failed)
        return;
    if (loop_now_ms(call->client->loop) < due(call)) {
        set_deadline(call); /* bytes came since it was set */
        return;
    }
    bool body = sm_state(&call->sm) == CALL_BODY;
    err_set(&call->err, ERR_TIMEOUT,
            body ? "%s fell silent for %lld ms inside its response"
                 : "%s sent no response within %lld ms",
            call->host, (long long)(body ? call->p.silence_ms : call->p.first_byte_ms));
    fail(call);
}

/* ---- the response ---- */

static void head_reset(struct http_call *call)
{
    arena_reset(&call->arena);
    call->heads = NULL;
    call->nheads = 0;
    call->status = 0;
}

static int head_status(struct str line)
{
    struct str rest = line;
    str_split(&rest, ' ');
    int64_t n;
    return str_some(rest) && str_i64(str_take(rest, 3), &n) && n >= 100 && n <= 999 ? (int)n : 0;
}

static void head_line(struct http_call *call, struct str line)
{
    struct str value = line, name = str_split(&value, ':');
    if (!str_some(value) || name.len == 0 || call->nheads == RESPONSE_HEADERS_MAX)
        return;
    if (!call->heads)
        call->heads = ARENA_ARRAY(&call->arena, struct http_header, RESPONSE_HEADERS_MAX);
    struct http_header h = {arena_str(&call->arena, name),
                            arena_str(&call->arena, str_trim(value))};
    if (call->heads && h.name.ptr && h.value.ptr)
        call->heads[call->nheads++] = h;
}

static void head_end(struct http_call *call)
{
    if (call->status < 200)
        return; /* 100 and 103: the real one follows */
    sm_move(&call->sm, CALL_BODY);
    call->mark_ms = loop_now_ms(call->client->loop);
    set_deadline(call);
    if (call->p.on_head)
        call->p.on_head(call->p.arg, call->status, call->heads, call->nheads);
}

static bool dead(const struct http_call *call)
{
    return call->cancelled || call->failed;
}

static size_t on_curl_header(char *at, size_t size, size_t n, void *arg)
{
    struct http_call *call = arg;
    struct str line = str_trim(str_n(at, size * n));
    if (dead(call))
        return 0;
    if (sm_state(&call->sm) != CALL_WAIT)
        return size * n; /* a trailer */
    if (str_starts(line, STR("HTTP/"))) {
        head_reset(call);
        call->status = head_status(line);
    } else if (line.len) {
        head_line(call, line);
    } else {
        head_end(call);
    }
    return dead(call) ? 0 : size * n;
}

static size_t on_curl_data(char *at, size_t size, size_t n, void *arg)
{
    struct http_call *call = arg;
    size_t len = size * n;
    if (dead(call))
        return 0;
    if (call->paused) {
        call->held = true; /* curl keeps the piece and gives it again */
        return CURL_WRITEFUNC_PAUSE;
    }
    call->mark_ms = loop_now_ms(call->client->loop);
    call->got += len;
    if (call->p.max_response && call->got > call->p.max_response) {
        err_set(&call->err, ERR_TOO_LARGE, "the response of %s is larger than %llu bytes",
                call->host, (unsigned long long)call->p.max_response);
        fail(call);
        return 0;
    }
    if (call->p.on_data)
        call->p.on_data(call->p.arg, str_n(at, len));
    return dead(call) ? 0 : len;
}

void call_unhold(struct http_call *call)
{
    call->held = false;
    call->mark_ms = loop_now_ms(call->client->loop);
    set_deadline(call);
    curl_easy_pause(call->easy, CURLPAUSE_CONT);
}

void http_call_pause(struct http_call *call, bool paused)
{
    if (dead(call) || call->paused == paused)
        return;
    call->paused = paused;
    call->mark_ms = loop_now_ms(call->client->loop);
    if (!paused) {
        set_deadline(call);
        client_touch(call->client);
    }
}

void http_call_cancel(struct http_call *call)
{
    if (sm_state(&call->sm) == CALL_DONE)
        return; /* inside its on_done */
    call->cancelled = true;
    client_touch(call->client);
}

/* ---- the request ---- */

static bool has_control(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
            return true;
    return false;
}

static int check_url(const char *url, char **host, struct err *err)
{
    CURLU *u = curl_url();
    char *scheme = NULL, *name = NULL;
    CURLUcode rc = curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME);
    if (rc == CURLUE_OK)
        rc = curl_url_get(u, CURLUPART_SCHEME, &scheme, 0);
    if (rc == CURLUE_OK)
        rc = curl_url_get(u, CURLUPART_HOST, &name, 0);
    bool http =
        rc == CURLUE_OK && (str_eqz(str_z(scheme), "http") || str_eqz(str_z(scheme), "https"));
    if (http)
        *host = mem_dupz(name, strlen(name));
    curl_free(scheme);
    curl_free(name);
    curl_url_cleanup(u);
    if (rc != CURLUE_OK)
        return err_set(err, ERR_INVALID, "the URL is malformed: %s", curl_url_strerror(rc));
    return http ? 0 : err_set(err, ERR_INVALID, "the URL must start with http:// or https://");
}

static int add_header(struct http_call *call, struct str name, struct str value, struct err *err)
{
    if (name.len == 0 || has_control(name) || has_control(value))
        return err_set(err, ERR_INVALID, "a request header holds a control character");
    AUTO_BUF struct buf line = BUF_INIT(REQUEST_HEADER_MAX);
    buf_str(&line, name);
    buf_z(&line, value.len ? ": " : ";"); /* curl's notation for an empty value */
    buf_str(&line, value);
    if (!buf_ok(&line))
        return err_set(err, ERR_INVALID, "a request header is longer than %d bytes",
                       REQUEST_HEADER_MAX);
    call->headers = curl_slist_append(call->headers, line.data);
    return 0;
}

static int set_headers(struct http_call *call, const struct http_call_params *p, struct err *err)
{
    for (size_t i = 0; i < p->nheaders; i++) {
        int rc = add_header(call, p->headers[i].name, p->headers[i].value, err);
        if (rc)
            return rc;
    }
    /* What curl would add by itself: neither its guess of a type nor a round trip before a body. */
    if (!str_some(http_header_get(p->headers, p->nheaders, "Content-Type")))
        call->headers = curl_slist_append(call->headers, "Content-Type:");
    if (!str_some(http_header_get(p->headers, p->nheaders, "Expect")))
        call->headers = curl_slist_append(call->headers, "Expect:");
    curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers);
    return 0;
}

static int set_method(struct http_call *call, const struct http_call_params *p, struct err *err)
{
    struct str m = str_z(p->method);
    if (m.len == 0 || has_control(m) || str_find_ch(m, ' ') >= 0)
        return err_set(err, ERR_INVALID, "the request method is malformed");
    bool post = str_eqz(m, "POST");
    if (p->body.len || str_some(p->body) || post) {
        call->body = mem_dupz(p->body.ptr ? p->body.ptr : "", p->body.len);
        curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)p->body.len);
        curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, call->body);
    }
    if (str_eqz(m, "HEAD"))
        curl_easy_setopt(call->easy, CURLOPT_NOBODY, 1L);
    else if (!post && !(str_eqz(m, "GET") && !call->body))
        curl_easy_setopt(call->easy, CURLOPT_CUSTOMREQUEST, p->method);
    return 0;
}

static void set_route(struct http_call *call, const struct http_call_params *p)
{
    CURL *e = call->easy;
    if (p->unix_socket || p->connect_to)
        curl_easy_setopt(e, CURLOPT_PROXY, "");
    if (p->unix_socket)
        curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, p->unix_socket);
    if (!p->connect_to)
        return;
    char rule[128]; /* for every host and port */
    snprintf(rule, sizeof rule, "::%s", p->connect_to);
    call->connect_to = curl_slist_append(NULL, rule);
    curl_easy_setopt(e, CURLOPT_CONNECT_TO, call->connect_to);
    curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
}

static void set_options(struct http_call *call, const struct http_call_params *p)
{
    CURL *e = call->easy;
    curl_easy_setopt(e, CURLOPT_PRIVATE, call);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, call->curl_says);
    curl_easy_setopt(e, CURLOPT_URL, p->url);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "ostler/" OSTLER_VERSION);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_curl_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_curl_data);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, call);
    if (p->connect_ms > 0)
        curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)p->connect_ms);
    /* A lookup under way is left to its thread: joining it would block the loop. */
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
    if (p->decompress)
        curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING, ""); /* all that curl knows */
    set_route(call, p);
}

struct http_call *http_call_start(struct http_client *c, const struct http_call_params *p,
                                  struct err *err)
{
    char *host = NULL;
    if (check_url(p->url, &host, err) != 0)
        return NULL;
    client_need_curl(c);
    struct http_call *call = mem_zalloc(sizeof *call);
    call->client = c;
    call->host = host;
    call->p = *p;
    call->easy = curl_easy_init();
    call->start_ms = call->mark_ms = loop_now_ms(c->loop);
    arena_init(&call->arena, RESPONSE_HEAD_MAX);
    sm_init(&call->sm, "call", states, NULL, CALL_FRESH);
    loop_timer_init(c->loop, &call->timer);
    list_push(&c->calls, &call->node);
    set_options(call, p);
    int rc = set_method(call, p, err);
    if (rc == 0)
        rc = set_headers(call, p, err);
    if (rc) {
        call_free(call);
        return NULL;
    }
    if (p->first_byte_ms > 0)
        loop_timer_start(&call->timer, p->first_byte_ms, on_timer);
    client_touch(c);
    return call;
}
