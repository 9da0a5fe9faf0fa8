/* follow: a session's events as they come, each exactly once, across any number of broken
 * connections and restarts of the server.
 *
 * Loop thread; embedded by the caller. The stream is opened with the id of the last event seen; as
 * long as there is none, the history is listed once the stream stands, so that nothing falls
 * between the two. Previews (event_start, event_delta) are passed on as they are and never
 * repeated.
 */
#ifndef OSTLER_CLI_FOLLOW_H
#define OSTLER_CLI_FOLLOW_H

#include "base/map.h"
#include "cli/client.h"
#include "http/sse_json.h"

struct follow_event {
    struct str type;
    struct str id;   /* absent for previews */
    struct str text; /* the JSON as received */
    const struct json *doc;
};

enum follow_state {
    FOLLOW_OPEN, /* the stream stands; also after a reconnect */
    FOLLOW_LOST, /* the connection broke: trying again */
    FOLLOW_DEAD, /* given up; `err` says why */
};

struct follow {
    struct client *client;
    char session[64];
    bool previews;
    int64_t give_up_ms; /* without a connection for so long; 0: never */
    void (*on_event)(struct follow *f, const struct follow_event *ev);
    void (*on_state)(struct follow *f, enum follow_state state, const struct err *err);
    void *arg;

    /* private */
    struct http_call *call, *list;
    struct sse_json sse;
    struct loop_timer timer;
    struct buf page, held, error_body;
    char cursor[1024], last_id[64];
    struct map seen; /* ids of the events passed on: the keys are the values */
    int64_t backoff_ms, lost_at_ms;
    int status;
    bool listing, ended, closed;
};

void follow_init(struct follow *f, struct client *c, const char *session);
void follow_start(struct follow *f); /* then run the loop */
void follow_poke(struct follow *f);  /* the server is said to be back: try now */
void follow_end(struct follow *f);   /* no further call-back; also from inside one */
void follow_fini(struct follow *f);  /* after follow_end; runs the loop: not from a call-back */

#endif
