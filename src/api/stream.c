/* GET /v1/sessions/{id}/events/stream
 *
 * A stream is live (frames come from the hub as they are committed) or behind (frames are read from
 * the store, page by page, as fast as the client takes them). It begins behind when it resumes from
 * an event, and falls behind when more than LIMIT_STREAM_QUEUE bytes wait for the client; it is
 * live again when everything that the hub has announced was sent. So nothing is buffered but what
 * is in the queue and one page, and each event is sent once, in the order of its sequence number.
 *
 *     OPENING --> READING <--> WAITING
 *        |           |  ^         ^
 *        |           v  |         |
 *        +--------> LIVE ---------+        any --> OVER
 */
#include "api/handlers.h"
#include "api/session_call.h"

#include "base/limits.h"
#include "base/sm.h"

enum { PAGE_FIRST = 16, PAGE_MAX = 256, PAGE_SMALL = 64 * 1024, PAGE_LARGE = 1024 * 1024 };

enum stream_state {
    STREAM_OPENING, /* the session is being looked up */
    STREAM_READING, /* behind: a page is being read, or sent */
    STREAM_WAITING, /* behind: for the client to take what is queued */
    STREAM_LIVE,
    STREAM_OVER,
};

#define TO(s) SM_BIT(STREAM_##s)
static const struct sm_state stream_states[] = {
    [STREAM_OPENING] = {"opening", TO(READING) | TO(LIVE) | TO(OVER), SM_INITIAL},
    [STREAM_READING] = {"reading", TO(WAITING) | TO(LIVE) | TO(OVER), 0},
    [STREAM_WAITING] = {"waiting", TO(READING) | TO(LIVE) | TO(OVER), 0},
    [STREAM_LIVE] = {"live", TO(WAITING) | TO(OVER), 0},
    [STREAM_OVER] = {"over", 0, SM_FINAL},
};

struct stream {
    struct list link; /* api->streams */
    struct call *call;
    struct sm sm;
    struct hub_sub sub;
    struct str from;    /* id of the event to resume after; absent: only what comes */
    int64_t key;        /* of the session */
    int64_t sent_seq;   /* the last event sent, or given as seen */
    int64_t told_seq;   /* the last one that the hub announced */
    struct bytes *last; /* session.deleted, which the store no longer has */
    bool look;          /* there may be more in the store than was announced */
    bool preview;       /* the start of a preview was sent: its deltas may follow */
    struct arena arena; /* of the page */
    struct event *page;
    size_t page_at, page_n;
    int64_t page_limit;
    int64_t asked_seq;          /* what was announced when the page was asked for */
    bool page_more, page_short; /* short: it lacks what had been announced by then */
    size_t queued_before;
    int64_t stalled_ms;
};

static void pump(struct stream *s);

static bool over(const struct stream *s)
{
    return sm_state(&s->sm) == STREAM_OVER;
}

static void finish(struct stream *s, bool abort)
{
    struct http_req *req = s->call->req;
    sm_move(&s->sm, STREAM_OVER);
    if (req && abort)
        http_stream_abort(req);
    else if (req)
        http_stream_end(req);
}

static bool queue_full(const struct stream *s)
{
    return http_stream_queued(s->call->req) > LIMIT_STREAM_QUEUE;
}

/* ---- behind: reading the store ---- */

static int page_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct stream *s = c->state;
    arena_reset(&s->arena);
    struct event_filter f = {.after_seq = s->sent_seq, .limit = s->page_limit};
    int rc = tx_event_list(tx, s->key, &f, &s->arena, &s->page, &s->page_n, &s->page_more, err);
    if (rc != ERR_LIMIT || s->page_limit == 1)
        return rc;
    s->page_limit = f.limit = 1; /* huge events: one by one */
    arena_reset(&s->arena);
    return tx_event_list(tx, s->key, &f, &s->arena, &s->page, &s->page_n, &s->page_more, err);
}

static void page_done(struct call *c)
{
    struct stream *s = c->state;
    s->page_at = 0;
    s->page_short = s->page_n == 0 && s->asked_seq > s->sent_seq;
    if (s->arena.used_bytes > PAGE_LARGE && s->page_limit > 1)
        s->page_limit /= 2;
    else if (s->arena.used_bytes < PAGE_SMALL && s->page_limit < PAGE_MAX)
        s->page_limit *= 2;
    if (!over(s))
        pump(s);
}

static void send_event(struct stream *s, const struct event *e)
{
    AUTO_BUF struct buf b = BUF_INIT(SIZE_MAX / 4);
    hub_frame(&b, e);
    struct bytes *frame = bytes_new(buf_view(&b));
    s->sent_seq = e->seq;
    http_stream_write(s->call->req, frame);
    bytes_unref(frame);
}

/* Everything announced was sent. */
static void catch_up_ends(struct stream *s)
{
    arena_reset(&s->arena);
    s->page_n = s->page_at = 0;
    if (s->last) {
        http_stream_write(s->call->req, s->last);
        if (!over(s))
            finish(s, false);
    } else if (s->told_seq > s->sent_seq) {
        finish(s, true); /* announced, yet not in the store: let the client look again */
    } else {
        sm_move(&s->sm, STREAM_LIVE);
    }
}

/* Sends what was read; then reads on, waits for the client, or goes live. */
static void pump(struct stream *s)
{
    while (s->page_at < s->page_n) {
        if (queue_full(s)) {
            sm_move(&s->sm, STREAM_WAITING);
            return;
        }
        send_event(s, &s->page[s->page_at++]);
        if (over(s))
            return;
    }
    if (s->look || (!s->page_short && (s->page_more || s->told_seq > s->sent_seq))) {
        s->look = false;
        s->asked_seq = s->told_seq;
        call_read(s->call, page_step, page_done);
        return;
    }
    catch_up_ends(s);
}

static void start_reading(struct stream *s)
{
    sm_move(&s->sm, STREAM_READING);
    s->page_short = false;
    pump(s);
}

static void drained(struct http_req *req)
{
    struct call *c = call_ref(http_req_data(req));
    struct stream *s = c->state;
    s->stalled_ms = 0;
    if (sm_state(&s->sm) == STREAM_WAITING)
        start_reading(s);
    call_unref(c);
}

/* ---- live: frames from the hub ---- */

static void send_preview(struct stream *s, struct bytes *frame)
{
    /* A delta without its start, or behind a gap, would break the client's accumulation. */
    if (str_starts(bytes_view(frame), STR("event: event_start\n")))
        s->preview = true;
    if (sm_state(&s->sm) != STREAM_LIVE || queue_full(s))
        s->preview = false;
    if (s->preview)
        http_stream_write(s->call->req, frame);
}

static void send_live(struct stream *s, int64_t seq, struct bytes *frame)
{
    if (seq <= s->sent_seq)
        return;
    s->sent_seq = seq;
    http_stream_write(s->call->req, frame);
    if (!over(s) && queue_full(s))
        sm_move(&s->sm, STREAM_WAITING);
}

/* Another process committed: there are no frames of it here. */
static void look_in_store(struct stream *s, int64_t seq)
{
    s->told_seq = seq > s->told_seq ? seq : s->told_seq;
    s->look = s->look || seq == 0;
    if (sm_state(&s->sm) != STREAM_LIVE || (!s->look && s->told_seq <= s->sent_seq))
        return;
    s->preview = false;
    sm_move(&s->sm, STREAM_WAITING);
    start_reading(s);
}

static void on_frame(struct hub_sub *sub, int64_t seq, struct bytes *frame, bool last)
{
    struct stream *s = CONTAINER_OF(sub, struct stream, sub);
    struct call *c = call_ref(s->call);
    bool live = sm_state(&s->sm) == STREAM_LIVE;
    if (over(s) || !c->req) {
        /* nothing to send it to */
    } else if (last && live) {
        http_stream_write(c->req, frame);
        if (!over(s))
            finish(s, false);
    } else if (last) {
        bytes_unref(s->last);
        s->last = bytes_ref(frame);
    } else if (!frame) {
        look_in_store(s, seq);
    } else if (seq == 0) {
        send_preview(s, frame);
    } else {
        s->told_seq = seq > s->told_seq ? seq : s->told_seq;
        if (live)
            send_live(s, seq, frame);
    }
    call_unref(c);
}

/* ---- opening and closing ---- */

static int open_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct stream *s = c->state;
    struct session_row row;
    int rc = session_find(tx, c, &row, err);
    if (rc)
        return rc;
    s->key = row.key;
    s->sent_seq = row.last_seq;
    if (!str_some(s->from))
        return 0;
    rc = tx_event_seq(tx, row.key, s->from, &s->sent_seq, err);
    if (rc == ERR_NOT_FOUND)
        return err_at(err, ERR_INVALID, "from",
                      "from: No event '" STR_FMT "' in this session's log; resume from another, or "
                      "list the events",
                      STR_ARG(str_utf8_take(s->from, 64)));
    return rc;
}

static void opened(struct call *c)
{
    struct stream *s = c->state;
    if (!c->req)
        return;
    struct http_header h[REPLY_HEADERS_MAX];
    size_t n = reply_headers(c, h);
    h[n++] = (struct http_header){STR("content-type"), STR("text/event-stream")};
    h[n++] = (struct http_header){STR("cache-control"), STR("no-cache")};
    h[n++] = (struct http_header){STR("x-accel-buffering"), STR("no")};
    call_answered(c, 200);
    c->streaming = true;
    c->api->streams_opened++;
    c->api->streams_open++;
    list_push(&c->api->streams, &s->link);
    http_stream_on_drain(c->req, drained);
    http_stream(c->req, 200, h, n);
    if (over(s))
        return;
    /* Without a resume point the session's head was read after subscribing: what the hub announced
     * beyond it is in the store. With one, the first page tells. */
    s->page_more = str_some(s->from);
    sm_move(&s->sm, STREAM_READING);
    pump(s);
}

static void stream_gone(struct call *c)
{
    struct stream *s = c->state;
    hub_unsubscribe(engine_hub(c->api->cfg.engine), &s->sub);
    if (!over(s))
        sm_move(&s->sm, STREAM_OVER);
    if (c->streaming)
        c->api->streams_open--;
    list_remove(&s->link);
}

static void stream_fini(struct call *c)
{
    struct stream *s = c->state;
    bytes_unref(s->last);
    arena_fini(&s->arena);
}

static int read_deltas(struct call *c, unsigned *out, struct err *err)
{
    static const char *const names[] = {"agent.message", "agent.thinking", NULL};
    struct str value;
    size_t n = 0;
    for (size_t at = 0; query_next(&c->query, "event_deltas", &at, &value);)
        n++;
    if (n > 100)
        return err_at(err, ERR_INVALID, "event_deltas[]", "event_deltas[]: At most 100 values");
    unsigned bits = 0;
    int rc = query_set(&c->query, "event_deltas", names, &bits, err);
    *out = (bits & 1 ? HUB_DELTA_MESSAGE : 0) | (bits & 2 ? HUB_DELTA_THINKING : 0);
    return rc;
}

void events_stream(struct call *c)
{
    struct stream *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    s->call = c;
    s->page_limit = PAGE_FIRST;
    list_init(&s->link);
    list_init(&s->sub.link);
    sm_init(&s->sm, "stream", stream_states, NULL, STREAM_OPENING);
    arena_init(&s->arena, LIMIT_JSON_ARENA);
    s->sub.frame = on_frame;
    s->from = query_get(&c->query, "from");
    if (!str_some(s->from) && http_req_header(c->req, "last-event-id").len > 0)
        s->from = arena_str(&c->arena, http_req_header(c->req, "last-event-id"));
    c->fini = stream_fini;
    if (read_deltas(c, &s->sub.deltas, &err)) {
        call_fail(c, &err);
        return;
    }
    if (!id_valid(c->id[0], "sesn")) { /* the hub takes ids only */
        err_set(&err, ERR_NOT_FOUND, "Session '" STR_FMT "' not found",
                STR_ARG(str_utf8_take(c->id[0], 64)));
        call_fail(c, &err);
        return;
    }
    c->gone = stream_gone;
    hub_subscribe(engine_hub(c->api->cfg.engine), c->id[0], &s->sub);
    call_read(c, open_step, opened);
}

/* ---- looking after all of them ---- */

/* A client that takes nothing although much waits for it is cut; it resumes by event id. */
static bool stalled(struct stream *s)
{
    size_t queued = http_stream_queued(s->call->req);
    bool moved = queued < s->queued_before || sm_state(&s->sm) != STREAM_WAITING;
    s->queued_before = queued;
    s->stalled_ms = moved ? 0 : s->stalled_ms + LIMIT_STREAM_TICK_MS;
    return s->stalled_ms >= LIMIT_STREAM_STALL_MS;
}

void streams_tick(struct api *api)
{
    bool ping = ++api->ticks % (LIMIT_STREAM_PING_MS / LIMIT_STREAM_TICK_MS) == 0;
    struct bytes *frame = bytes_new(STR("event: ping\ndata: {\"type\":\"ping\"}\n\n"));
    list_for_each_safe (it, &api->streams) {
        struct stream *s = LIST_ENTRY(it, struct stream, link);
        if (!s->call->req || over(s))
            continue;
        if (stalled(s)) {
            api->streams_dropped++;
            finish(s, true);
        } else if (ping && s->queued_before == 0) {
            http_stream_write(s->call->req, frame);
        }
    }
    bytes_unref(frame);
}
