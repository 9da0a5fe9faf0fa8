#include "cli/follow.h"

#include "base/limits.h"

#include <stdio.h>

enum {
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 2000,
    CONNECT_MS = 5000,
    FIRST_BYTE_MS = 15 * 1000,
    PAGE_MAX = 256 * 1024 * 1024,
};

static void connect_now(struct follow *f);

/* ---- events ---- */

static bool is_preview(struct str type)
{
    return str_eqz(type, "event_start") || str_eqz(type, "event_delta");
}

/* True the first time an id is seen; remembers it. */
static bool is_new(struct follow *f, struct str id)
{
    if (map_get(&f->seen, id))
        return false;
    char *kept = mem_dupz(id.ptr, id.len);
    map_put(&f->seen, str_n(kept, id.len), kept);
    str_copyz(f->last_id, sizeof f->last_id, id);
    return true;
}

static void deliver(void *arg, const struct json *doc)
{
    struct follow *f = arg;
    struct follow_event ev = {.type = json_get_str(doc, "type"), .text = doc->raw, .doc = doc};
    if (!str_some(ev.type) || f->ended)
        return;
    if (!is_preview(ev.type)) {
        ev.id = json_get_str(doc, "id");
        /* An event still waiting in the inbox comes again, processed: only that one counts. */
        if (json_is(json_get(doc, "processed_at"), JSON_NULL))
            return;
        if (str_some(ev.id) && ev.id.len && !is_new(f, ev.id))
            return;
    }
    f->on_event(f, &ev);
}

static void broken(struct loop_timer *t);

static void feed(struct follow *f, struct str bytes)
{
    /* Not from here: the client may be in the middle of handing over these bytes. */
    if (!sse_json_feed(&f->sse, bytes) && !f->ended)
        loop_timer_start(&f->timer, 0, broken);
}

/* ---- connection lost and found ---- */

static void retry_fired(struct loop_timer *t)
{
    struct follow *f = CONTAINER_OF(t, struct follow, timer);
    if (!f->ended)
        connect_now(f);
}

static void die(struct follow *f, const struct err *err)
{
    f->ended = true;
    f->on_state(f, FOLLOW_DEAD, err);
}

static void lose(struct follow *f, const struct err *err)
{
    int64_t now_ms = loop_now_ms(f->client->loop);
    if (!f->lost_at_ms) {
        f->lost_at_ms = now_ms;
        f->on_state(f, FOLLOW_LOST, err);
        if (f->ended)
            return;
    }
    if (f->give_up_ms && now_ms - f->lost_at_ms >= f->give_up_ms) {
        struct err dead;
        err_set(&dead, ERR_CONNECT, "cannot reach the server at %s: %s", f->client->base, err->msg);
        die(f, &dead);
        return;
    }
    loop_timer_start(&f->timer, f->backoff_ms, retry_fired);
    f->backoff_ms = f->backoff_ms * 2 < BACKOFF_MAX_MS ? f->backoff_ms * 2 : BACKOFF_MAX_MS;
}

/* Both requests are over or were cancelled: start again from the last event seen. */
static void restart(struct follow *f, const struct err *err)
{
    if (f->list)
        http_call_cancel(TAKE_PTR(f->list));
    if (f->call)
        http_call_cancel(TAKE_PTR(f->call));
    f->listing = false;
    lose(f, err);
}

static void broken(struct loop_timer *t)
{
    struct follow *f = CONTAINER_OF(t, struct follow, timer);
    struct err why = f->sse.broken;
    if (!f->ended)
        restart(f, &why);
}

/* ---- the history, once, behind an open stream ---- */

static void list_page(struct follow *f);

static void list_done(void *arg, const struct err *err)
{
    struct follow *f = arg;
    f->list = NULL;
    if (f->ended)
        return;
    const struct json *doc = NULL;
    struct err bad = *err;
    arena_reset(&f->sse.arena);
    if (!bad.code && f->status / 100 != 2)
        client_error(f->status, buf_view(&f->page), &bad);
    if (!bad.code &&
        json_parse(&f->sse.arena, buf_view(&f->page), JSON_ALLOW_DUPLICATES, &doc, &bad))
        doc = NULL;
    if (bad.code) {
        restart(f, &bad);
        return;
    }
    json_for_each (ev, json_get(doc, "data"))
        deliver(f, ev);
    struct str next = json_get_str(doc, "next_page");
    if (!f->ended && next.len && str_copyz(f->cursor, sizeof f->cursor, next)) {
        list_page(f);
        return;
    }
    f->listing = false;
    if (!f->ended)
        feed(f, buf_view(&f->held));
    buf_clear(&f->held);
}

static void list_head(void *arg, int status, const struct http_header *headers, size_t n)
{
    struct follow *f = arg;
    (void)headers;
    (void)n;
    f->status = status;
}

static void list_data(void *arg, struct str piece)
{
    struct follow *f = arg;
    buf_str(&f->page, piece);
}

static void list_page(struct follow *f)
{
    AUTO_BUF struct buf url = BUF_INIT(4096);
    buf_printf(&url, "%s/v1/sessions/%s/events?limit=1000&order=asc", f->client->base, f->session);
    if (f->cursor[0]) {
        buf_z(&url, "&page=");
        http_encode(&url, str_z(f->cursor));
    }
    struct http_header headers[CLIENT_HEADERS];
    struct http_call_params p = {
        .method = "GET",
        .url = url.data,
        .headers = headers,
        .nheaders = client_headers(f->client, headers),
        .connect_ms = CONNECT_MS,
        .silence_ms = FIRST_BYTE_MS,
        .max_response = PAGE_MAX,
        .on_head = list_head,
        .on_data = list_data,
        .on_done = list_done,
        .arg = f,
    };
    buf_clear(&f->page);
    struct err err;
    f->list = http_call_start(f->client->http, &p, &err);
    if (!f->list)
        die(f, &err);
}

static void begin_list(struct loop_timer *t)
{
    struct follow *f = CONTAINER_OF(t, struct follow, timer);
    if (!f->ended && f->listing)
        list_page(f);
}

/* ---- the stream ---- */

static void stream_head(void *arg, int status, const struct http_header *headers, size_t n)
{
    struct follow *f = arg;
    (void)headers;
    (void)n;
    f->status = status;
    if (status != 200 || f->ended)
        return;
    f->backoff_ms = BACKOFF_MIN_MS;
    f->lost_at_ms = 0;
    if (!f->last_id[0]) {
        f->listing = true;
        f->cursor[0] = '\0';
        loop_timer_start(&f->timer, 0, begin_list);
    }
    f->on_state(f, FOLLOW_OPEN, NULL);
}

static void stream_data(void *arg, struct str piece)
{
    struct follow *f = arg;
    if (f->ended)
        return;
    if (f->status != 200)
        buf_str(&f->error_body, piece);
    else if (f->listing)
        buf_str(&f->held, piece);
    else
        feed(f, piece);
}

/* A clean end is a lost connection too: only the session's own last event ends a stream. */
static void stream_done(void *arg, const struct err *err)
{
    struct follow *f = arg;
    f->call = NULL;
    if (f->ended)
        return;
    struct err why = *err;
    if (!why.code && f->status != 200) {
        client_error(f->status, buf_view(&f->error_body), &why);
        if (f->status / 100 == 4 && f->status != 408 && f->status != 429) {
            die(f, &why);
            return;
        }
    }
    if (!why.code)
        err_set(&why, ERR_CONNECT, "the server closed the stream");
    restart(f, &why);
}

static void connect_now(struct follow *f)
{
    AUTO_BUF struct buf url = BUF_INIT(4096);
    buf_printf(&url, "%s/v1/sessions/%s/events/stream", f->client->base, f->session);
    if (f->previews)
        buf_z(&url, "?event_deltas%5B%5D=agent.message&event_deltas%5B%5D=agent.thinking");
    struct http_header headers[CLIENT_HEADERS + 2];
    size_t n = client_headers(f->client, headers);
    headers[n++] = (struct http_header){STR("accept"), STR("text/event-stream")};
    if (f->last_id[0])
        headers[n++] = (struct http_header){STR("last-event-id"), str_z(f->last_id)};
    struct http_call_params p = {
        .method = "GET",
        .url = url.data,
        .headers = headers,
        .nheaders = n,
        .connect_ms = CONNECT_MS,
        .first_byte_ms = FIRST_BYTE_MS,
        .silence_ms = 3 * (int64_t)LIMIT_STREAM_PING_MS,
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
    f->call = http_call_start(f->client->http, &p, &err);
    if (!f->call)
        die(f, &err);
}

/* ---- life ---- */

void follow_init(struct follow *f, struct client *c, const char *session)
{
    *f = (struct follow){.client = c, .backoff_ms = BACKOFF_MIN_MS};
    str_copyz(f->session, sizeof f->session, str_z(session));
    sse_json_init(&f->sse, deliver, f);
    buf_init(&f->page, PAGE_MAX);
    buf_init(&f->held, PAGE_MAX);
    buf_init(&f->error_body, 64 * 1024);
    loop_timer_init(c->loop, &f->timer);
}

void follow_start(struct follow *f)
{
    connect_now(f);
}

void follow_poke(struct follow *f)
{
    if (f->ended || f->call || !f->lost_at_ms)
        return;
    f->backoff_ms = BACKOFF_MIN_MS;
    loop_timer_start(&f->timer, 0, retry_fired);
}

void follow_end(struct follow *f)
{
    f->ended = true;
}

static void timer_closed(struct loop_timer *t)
{
    struct follow *f = CONTAINER_OF(t, struct follow, timer);
    f->closed = true;
    loop_stop(f->client->loop);
}

void follow_fini(struct follow *f)
{
    f->ended = true;
    if (f->list)
        http_call_cancel(TAKE_PTR(f->list));
    if (f->call)
        http_call_cancel(TAKE_PTR(f->call));
    loop_timer_close(&f->timer, timer_closed);
    while (!f->closed)
        loop_run(f->client->loop);
    size_t at = 0;
    struct str key;
    for (char *id; (id = map_next(&f->seen, &at, &key));)
        mem_free(id);
    map_fini(&f->seen);
    sse_json_fini(&f->sse);
    buf_fini(&f->page);
    buf_fini(&f->held);
    buf_fini(&f->error_body);
}
