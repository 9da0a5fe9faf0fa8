/* hub: live fan-out of a session's committed events and previews to its subscribers.
 *
 * Loop thread. Frames are encoded once and shared (base/bytes.h). A subscriber gets every event
 * committed after it subscribed, in order, and the previews it asked for; what lies before, it
 * reads from the store. The hub holds no history and nothing for a session without subscribers.
 */
#ifndef OSTLER_ENGINE_HUB_H
#define OSTLER_ENGINE_HUB_H

#include "base/bytes.h"
#include "base/list.h"
#include "core/event.h"

struct hub;

enum { HUB_DELTA_MESSAGE = 1, HUB_DELTA_THINKING = 2 };

/* `seq` is 0 for previews. `last`: the session is deleted, this is the final frame. The frame is a
 * complete SSE frame; NULL: another process has committed events up to `seq`, or nobody knows how
 * far (0): they are in the store. */
struct hub_sub {
    struct list link;
    void (*frame)(struct hub_sub *sub, int64_t seq, struct bytes *frame, bool last);
    unsigned deltas;
    struct hub_topic *topic;
};

struct hub *hub_new(void);
void hub_free(struct hub *h);
/* `sub` is embedded by the caller, with frame and deltas set. */
void hub_subscribe(struct hub *h, struct str session_id, struct hub_sub *sub);
void hub_unsubscribe(struct hub *h, struct hub_sub *sub); /* also from inside `frame` */
size_t hub_subscribers(const struct hub *h);

/* The engine's side. */
void hub_publish(struct hub *h, struct str session_id, const struct event *events, size_t n);
/* Of a session that another process works on; an absent id: of all. */
void hub_poke(struct hub *h, struct str session_id, int64_t seq);
void hub_preview_start(struct hub *h, struct str session_id, enum event_type type, struct str id);
void hub_preview_text(struct hub *h, struct str session_id, struct str event_id, size_t index,
                      struct str text);

/* The frame of one event, as streamed and replayed: event, id and data lines. */
void hub_frame(struct buf *out, const struct event *e);

#endif
