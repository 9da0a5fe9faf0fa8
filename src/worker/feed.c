#include "worker/feed.h"

#include "base/limits.h"
#include "base/log.h"

enum {
    BACKOFF_MIN_MS = 500,
    BACKOFF_MAX_MS = 10 * 1000,
    STREAM_SILENCE_MS = 90 * 1000,
    PAGE_MAX = 256 * 1024 * 1024,
    ERROR_MAX = 64 * 1024,
};

static void connect_now(struct feed *f);

/* ---- broken, and again ---- */

static void retry(struct loop_timer *t)
{
    connect_now(CONTAINER_OF(t, struct feed, timer));
}

static void drop(struct feed *f)
{
    wire_cancel(&f->list);
    if (f->stream)
        http_call_cancel(TAKE_PTR(f->stream));
    f->listing = false;
    buf_clear(&f->held);
}

/* `final`: asking again does not help. */
static void lose(struct feed *f, const struct err *why, bool final)
{
    drop(f);
    if (final) {
        f->dead(f, why);
        return;
    }
    if (!f->told)
        log_line(LOG_INFO, "the stream of events broke; connecting again", "session", f->session,
                 "error", why->msg, NULL);
    f->told = true;
    loop_timer_start(&f->timer, wire_backoff(f->failures++, BACKOFF_MIN_MS, BACKOFF_MAX_MS), retry);
}

static void break_now(struct loop_timer *t)
{
    struct feed *f = CONTAINER_OF(t, struct feed, timer);
    struct err why = f->sse.broken;
    lose(f, &why, false);
}

/* Not from here: whoever feeds us may be in the middle of its bytes. */
static void break_soon(struct feed *f)
{
    if (!f->closing)
        loop_timer_start(&f->timer, 0, break_now);
}

/* ---- events ---- */

static void on_event(void *arg, const struct json *ev)
{
    struct feed *f = arg;
    if (f->closing)
        return;
    f->failures = 0;
    f->event(f, ev);
}

static void take(struct feed *f, struct str bytes)
{
    if (!f->closing && !sse_json_feed(&f->sse, bytes))
        break_soon(f);
}

/* ---- the history ---- */

static void list_page(struct feed *f);

static void list_over(struct feed *f)
{
    f->listing = f->told = false;
    f->list_ends(f);
    if (!f->closing)
        take(f, buf_view(&f->held));
    buf_fini(&f->held);
    buf_init(&f->held, PAGE_MAX);
}

static void on_page(struct wire_call *c, const struct err *err)
{
    struct feed *f = CONTAINER_OF(c, struct feed, list);
    const struct json *doc = NULL;
    struct err bad = *err;
    bool final = bad.code && wire_is_final(c);
    arena_reset(&f->sse.arena);
    if (!bad.code &&
        json_parse(&f->sse.arena, buf_view(&c->body), JSON_ALLOW_DUPLICATES, &doc, &bad) == 0 &&
        !json_is(json_get(doc, "data"), JSON_ARRAY))
        err_set(&bad, ERR_PROTOCOL, "the list of events cannot be read");
    if (!bad.code && !buf_ok(&f->held))
        err_set(&bad, ERR_TOO_LARGE, "too many events came while the history was read");
    if (bad.code) {
        lose(f, &bad, final);
        return;
    }
    json_for_each (ev, json_get(doc, "data")) {
        f->event(f, ev);
        if (f->closing)
            return;
    }
    struct str next = json_get_str(doc, "next_page");
    if (!next.len) {
        list_over(f);
    } else if (str_eqz(next, f->cursor) || !str_copyz(f->cursor, sizeof f->cursor, next)) {
        err_set(&bad, ERR_PROTOCOL, "the list of events does not end");
        lose(f, &bad, false);
    } else {
        list_page(f);
    }
}

static void list_page(struct feed *f)
{
    AUTO_BUF struct buf path = BUF_INIT(8192);
    buf_z(&path, "/v1/sessions/");
    http_encode(&path, str_z(f->session));
    buf_z(&path, "/events?limit=1000&order=asc");
    if (f->cursor[0]) {
        buf_z(&path, "&page=");
        http_encode(&path, str_z(f->cursor));
    }
    const struct wire_request r = {
        .method = "GET", .path = buf_view(&path), .max_response = PAGE_MAX};
    wire_send(&f->list, &r, on_page);
}

static void begin_list(struct loop_timer *t)
{
    struct feed *f = CONTAINER_OF(t, struct feed, timer);
    f->cursor[0] = '\0';
    f->list_begins(f);
    if (!f->closing)
        list_page(f);
}

/* ---- the stream ---- */

static void stream_head(void *arg, int status, const struct http_header *headers, size_t n)
{
    struct feed *f = arg;
    (void)headers;
    (void)n;
    f->status = status;
    if (status != 200 || f->closing)
        return;
    f->listing = true;
    loop_timer_start(&f->timer, 0, begin_list);
}

static void stream_data(void *arg, struct str piece)
{
    struct feed *f = arg;
    if (f->status != 200)
        buf_str(&f->error_body, piece);
    else if (f->listing)
        buf_str(&f->held, piece);
    else
        take(f, piece);
}

static void stream_done(void *arg, const struct err *err)
{
    struct feed *f = arg;
    struct err why = *err;
    f->stream = NULL;
    if (f->closing)
        return;
    bool final = !why.code && f->status / 100 == 4 && f->status != 408 && f->status != 409 &&
                 f->status != 429;
    if (!why.code && f->status != 200)
        wire_error(f->status, buf_view(&f->error_body), &why);
    if (!why.code)
        err_set(&why, ERR_CONNECT, "the server closed the stream");
    loop_timer_stop(&f->timer); /* the list that was to begin */
    lose(f, &why, final);
}

static void connect_now(struct feed *f)
{
    AUTO_BUF struct buf url = BUF_INIT(4096);
    AUTO_BUF struct buf authorization = BUF_INIT(4096);
    struct http_header headers[WIRE_HEADERS + 1];
    size_t n = wire_headers(f->wire, f->bearer, &authorization, headers);
    headers[n++] = (struct http_header){STR("anthropic-beta"), STR("managed-agents-2026-04-01")};
    headers[n++] = (struct http_header){STR("accept"), STR("text/event-stream")};
    buf_printf(&url, "%s/v1/sessions/", f->wire->base);
    http_encode(&url, str_z(f->session));
    buf_z(&url, "/events/stream");
    const struct http_call_params p = {
        .method = "GET",
        .url = url.data,
        .headers = headers,
        .nheaders = n,
        .connect_ms = WIRE_CONNECT_MS,
        .first_byte_ms = WIRE_SILENCE_MS,
        .silence_ms = STREAM_SILENCE_MS,
        .on_head = stream_head,
        .on_data = stream_data,
        .on_done = stream_done,
        .arg = f,
    };
    sse_json_restart(&f->sse);
    buf_clear(&f->held);
    buf_clear(&f->error_body);
    f->status = 0;
    struct err err;
    f->stream = http_call_start(f->wire->http, &p, &err);
    if (!f->stream)
        f->dead(f, &err);
}

/* ---- life ---- */

void feed_start(struct feed *f)
{
    wire_call_init(&f->list, f->wire, f->bearer);
    sse_json_init(&f->sse, on_event, f);
    buf_init(&f->held, PAGE_MAX);
    buf_init(&f->error_body, ERROR_MAX);
    loop_timer_init(f->wire->loop, &f->timer);
    loop_timer_start(&f->timer, 0, retry);
}

static void timer_closed(struct loop_timer *t)
{
    struct feed *f = CONTAINER_OF(t, struct feed, timer);
    sse_json_fini(&f->sse);
    buf_fini(&f->held);
    buf_fini(&f->error_body);
    wire_call_fini(&f->list);
    f->closed(f);
}

/* What is being read may be what tells us to: memory goes with the timer. */
void feed_close(struct feed *f, void (*closed)(struct feed *f))
{
    f->closing = true;
    f->closed = closed;
    wire_cancel(&f->list);
    if (f->stream)
        http_call_cancel(TAKE_PTR(f->stream));
    loop_timer_close(&f->timer, timer_closed);
}
