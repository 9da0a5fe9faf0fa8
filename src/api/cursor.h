/* cursor: opaque page cursors. Pure; any thread.
 *
 * A cursor is base64url text that says which list it belongs to, the order and direction it was
 * made with, and the position of the last row seen. Nothing in it is trusted: whoever forges one
 * can only start a list of his own objects elsewhere.
 */
#ifndef OSTLER_API_CURSOR_H
#define OSTLER_API_CURSOR_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum cursor_list {
    CURSOR_AGENTS = 'a',
    CURSOR_VERSIONS = 'v',
    CURSOR_ENVIRONMENTS = 'n',
    CURSOR_SESSIONS = 's',
    CURSOR_EVENTS = 'e',
    CURSOR_FILES = 'f',
    CURSOR_SKILLS = 'k',
    CURSOR_SKILL_VERSIONS = 'w',
    CURSOR_RESOURCES = 'r',
    CURSOR_EGRESS = 'g',
    CURSOR_CHECKPOINTS = 'c',
    CURSOR_WORK = 'q',
    CURSOR_ENVIRONMENT_KEYS = 'y',
};

struct cursor {
    enum cursor_list list;
    bool desc;      /* the order it was made with */
    bool backward;  /* towards the previous page */
    int64_t at_us;  /* time of the row: created_at, for events processed_at; 0: none */
    int64_t number; /* events: seq; versions: the version */
    int64_t inbox;  /* events: number of the last queued one shown; 0: none yet */
    struct str id;  /* of the row, where rows have one */
};

void cursor_write(struct buf *out, const struct cursor *c);
/* INVALID at "page" for text that is no cursor of this list, or one of another order. */
int cursor_read(struct arena *a, struct str text, enum cursor_list list, bool desc,
                struct cursor *out, struct err *err) MUST_USE;

void base64url_write(struct buf *out, struct str bytes); /* without padding */
/* False on any other character, on padding and on leftover bits. */
bool base64url_read(struct arena *a, struct str text, struct str *out);

#endif
