#include "engine/hub.h"

#include "base/limits.h"
#include "base/map.h"
#include "http/sse.h"
#include "json/writer.h"

struct hub_topic {
    struct id session_id; /* the map's key */
    struct list subs;
    bool busy; /* frames are being handed out: keep the topic */
};

struct hub {
    struct map topics;
    size_t count;
};

struct hub *hub_new(void)
{
    return mem_zalloc(sizeof(struct hub));
}

void hub_free(struct hub *h)
{
    if (!h)
        return;
    map_fini(&h->topics);
    mem_free(h);
}

void hub_subscribe(struct hub *h, struct str session_id, struct hub_sub *sub)
{
    struct hub_topic *t = map_get(&h->topics, session_id);
    if (!t) {
        t = mem_zalloc(sizeof *t);
        t->session_id = id_from(session_id);
        list_init(&t->subs);
        map_put(&h->topics, id_str(&t->session_id), t);
    }
    sub->topic = t;
    list_push(&t->subs, &sub->link);
    h->count++;
}

static void drop_if_empty(struct hub *h, struct hub_topic *t)
{
    if (t->busy || !list_empty(&t->subs))
        return;
    map_remove(&h->topics, id_str(&t->session_id));
    mem_free(t);
}

void hub_unsubscribe(struct hub *h, struct hub_sub *sub)
{
    struct hub_topic *t = sub->topic;
    if (!t)
        return;
    list_remove(&sub->link);
    sub->topic = NULL;
    h->count--;
    drop_if_empty(h, t);
}

size_t hub_subscribers(const struct hub *h)
{
    return h->count;
}

/* Raw JSON may hold line breaks between its tokens (never inside its strings); in a stream's data
 * line they become blanks. */
static struct str one_line(struct buf *copy, struct str body)
{
    if (str_find_ch(body, '\n') < 0 && str_find_ch(body, '\r') < 0)
        return body;
    buf_str(copy, body);
    for (size_t i = 0; i < copy->len; i++)
        if (copy->data[i] == '\n' || copy->data[i] == '\r')
            copy->data[i] = ' ';
    return buf_view(copy);
}

void hub_frame(struct buf *out, const struct event *e)
{
    AUTO_BUF struct buf copy = BUF_INIT(SIZE_MAX / 4);
    sse_write(out, str_z(event_name(e->type)), id_str(&e->id), one_line(&copy, e->body));
}

/* Hands one frame to every subscriber that wants it. A subscriber may leave while it is called; the
 * list is walked by a marker of our own, so that any of them may. */
static void fan_out(struct hub_topic *t, int64_t seq, struct bytes *frame, unsigned deltas,
                    bool last)
{
    struct list mark;
    list_push_front(&t->subs, &mark);
    while (mark.next != &t->subs) {
        struct hub_sub *sub = LIST_ENTRY(mark.next, struct hub_sub, link);
        struct list *after = mark.next;
        list_remove(&mark);
        list_push_front(after, &mark); /* behind the one being called */
        if (deltas == 0 || (sub->deltas & deltas))
            sub->frame(sub, seq, frame, last);
    }
    list_remove(&mark);
}

void hub_publish(struct hub *h, struct str session_id, const struct event *events, size_t n)
{
    struct hub_topic *t = map_get(&h->topics, session_id);
    if (!t)
        return;
    t->busy = true;
    for (size_t i = 0; i < n; i++) {
        AUTO_BUF struct buf b = BUF_INIT(SIZE_MAX / 4);
        hub_frame(&b, &events[i]);
        struct bytes *frame = bytes_new(buf_view(&b));
        fan_out(t, events[i].seq, frame, 0, events[i].type == EVENT_SESSION_DELETED);
        bytes_unref(frame);
    }
    t->busy = false;
    drop_if_empty(h, t);
}

static void poke(struct hub *h, struct hub_topic *t, int64_t seq)
{
    t->busy = true;
    fan_out(t, seq, NULL, 0, false);
    t->busy = false;
    drop_if_empty(h, t);
}

void hub_poke(struct hub *h, struct str session_id, int64_t seq)
{
    if (str_some(session_id)) {
        struct hub_topic *t = map_get(&h->topics, session_id);
        if (t)
            poke(h, t, seq);
        return;
    }
    /* A topic may go meanwhile, and with it the walk's place: by their names. */
    size_t n = 0, at = 0;
    struct id *ids = mem_alloc((h->topics.count + 1) * sizeof *ids);
    for (const struct hub_topic *t; (t = map_next(&h->topics, &at, NULL));)
        ids[n++] = t->session_id;
    for (size_t i = 0; i < n; i++)
        hub_poke(h, id_str(&ids[i]), seq);
    mem_free(ids);
}

static unsigned delta_bit(enum event_type type)
{
    return type == EVENT_AGENT_MESSAGE ? HUB_DELTA_MESSAGE : HUB_DELTA_THINKING;
}

static bool anyone_wants(const struct hub_topic *t, unsigned deltas)
{
    if (!t)
        return false;
    list_for_each (it, &t->subs) {
        if (LIST_ENTRY(it, struct hub_sub, link)->deltas & deltas)
            return true;
    }
    return false;
}

static void send_preview(struct hub *h, struct hub_topic *t, const char *type,
                         const struct buf *json, unsigned deltas)
{
    AUTO_BUF struct buf b = BUF_INIT(SIZE_MAX / 4);
    sse_write(&b, str_z(type), STR_NONE, buf_view(json));
    struct bytes *frame = bytes_new(buf_view(&b));
    t->busy = true;
    fan_out(t, 0, frame, deltas, false);
    t->busy = false;
    bytes_unref(frame);
    drop_if_empty(h, t);
}

void hub_preview_start(struct hub *h, struct str session_id, enum event_type type, struct str id)
{
    struct hub_topic *t = map_get(&h->topics, session_id);
    if (!anyone_wants(t, delta_bit(type)))
        return;
    AUTO_BUF struct buf b = BUF_INIT(1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "type", "event_start");
    jw_key(&w, "event");
    jw_obj(&w);
    jw_kz(&w, "type", event_name(type));
    jw_kstr(&w, "id", id);
    jw_obj_end(&w);
    jw_obj_end(&w);
    send_preview(h, t, "event_start", &b, delta_bit(type));
}

void hub_preview_text(struct hub *h, struct str session_id, struct str event_id, size_t index,
                      struct str text)
{
    struct hub_topic *t = map_get(&h->topics, session_id);
    if (!anyone_wants(t, HUB_DELTA_MESSAGE))
        return;
    AUTO_BUF struct buf b = BUF_INIT(SIZE_MAX / 4);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "type", "event_delta");
    jw_kstr(&w, "event_id", event_id);
    jw_key(&w, "delta");
    jw_obj(&w);
    jw_kz(&w, "type", "content_delta");
    jw_ki64(&w, "index", (int64_t)index);
    jw_key(&w, "content");
    jw_obj(&w);
    jw_kz(&w, "type", "text");
    jw_kstr(&w, "text", text);
    jw_obj_end(&w);
    jw_obj_end(&w);
    jw_obj_end(&w);
    send_preview(h, t, "event_delta", &b, HUB_DELTA_MESSAGE);
}
