/* What a client sends is accepted into the session's inbox, within its bounds. */
#include "api/inbox.h"

#include "api/budget_decode.h"

#include "base/limits.h"
#include "json/decode.h"

/* What a session may be waiting for, or stopped by. */
static bool goes_on(enum event_type type)
{
    return type == EVENT_USER_TOOL_RESULT || type == EVENT_USER_CUSTOM_TOOL_RESULT ||
           type == EVENT_USER_TOOL_CONFIRMATION || type == EVENT_USER_INTERRUPT;
}

static int full(const struct session_row *row, int64_t waiting, const char *at, struct err *err)
{
    json_fail(err, at, NULL,
              "Session '%s' has %lld events waiting, and no room for these: at most %d wait, of %d "
              "MB together; send them when some are processed, or interrupt the session",
              row->id.z, (long long)waiting, LIMIT_INBOX_EVENTS, LIMIT_INBOX_BYTES >> 20);
    err->detail = INBOX_FULL;
    return err->code;
}

/* Where nothing waits, one request always has room. What the session needs to go on has as much
 * again: behind a full inbox it would wait for ever. */
static int check_room(struct store_tx *tx, const struct session_row *row,
                      const struct sent_event *events, size_t n, const char *at, struct err *err)
{
    int64_t waiting, bytes;
    bool urgent = true;
    int rc = tx_inbox_size(tx, row->key, &waiting, &bytes, err);
    if (rc || waiting == 0)
        return rc;
    for (size_t i = 0; i < n; i++) {
        const struct event *ev = &events[i].event;
        bytes += (int64_t)(ev->body.len + ev->transcript.len);
        urgent = urgent && goes_on(ev->type);
    }
    int64_t times = urgent ? 2 : 1;
    bool fits =
        waiting + (int64_t)n <= times * LIMIT_INBOX_EVENTS && bytes <= times * LIMIT_INBOX_BYTES;
    return fits ? 0 : full(row, waiting, at, err);
}

int inbox_accept(struct store_tx *tx, const struct session_row *row,
                 const struct sent_event *events, size_t n, const char *at, struct err *err)
{
    bool deaf = budget_ignores_interrupt(row);
    int rc = check_room(tx, row, events, n, at, err);
    for (size_t i = 0; !rc && i < n; i++) {
        struct inbox_row in = {.event = events[i].event};
        if (deaf && in.event.type == EVENT_USER_INTERRUPT)
            continue;
        rc = tx_inbox_add(tx, row->key, &in, err);
    }
    return rc;
}
