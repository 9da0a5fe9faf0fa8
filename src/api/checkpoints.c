/* GET /v1/sessions/{id}/checkpoints (ours): when the session's files were kept. */
#include "api/cursor.h"
#include "api/handlers.h"
#include "api/session_call.h"
#include "json/writer.h"
#include "store/checkpoints.h"

enum { CHECKPOINTS_PAGE = 100, CHECKPOINTS_PAGE_MAX = 1000 };

struct list_call {
    struct session_row session;
    int64_t limit, before;
    struct checkpoint_row *rows;
    struct id *events;
    size_t n;
    bool more;
};

static int read_query(struct call *c, struct list_call *s, struct err *err)
{
    return listing_read_number(c, CURSOR_CHECKPOINTS, CHECKPOINTS_PAGE, CHECKPOINTS_PAGE_MAX, true,
                               &s->limit, &s->before, err);
}

static int list_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct list_call *s = c->state;
    int rc = session_find(tx, c, &s->session, err);
    return rc ? rc
              : tx_checkpoint_list(tx, s->session.key, s->before, s->limit, &c->arena, &s->rows,
                                   &s->events, &s->n, &s->more, err);
}

static void write_row(struct jw *w, const struct checkpoint_row *r, const struct id *event)
{
    jw_obj(w);
    jw_kz(w, "type", "checkpoint");
    jw_kstr(w, "event_id", event->z[0] ? id_str(event) : STR_NONE);
    jw_kbool(w, "turn_end", r->turn_end);
    jw_ktime(w, "at", r->at_us);
    jw_ki64(w, "files", r->files);
    jw_ki64(w, "size_bytes", r->size_bytes);
    jw_ki64(w, "stored_bytes", r->stored_bytes);
    jw_obj_end(w);
}

static void reply_list(struct call *c)
{
    const struct list_call *s = c->state;
    struct listing_out out;
    struct jw *w = listing_begin(&out);
    for (size_t i = 0; i < s->n; i++)
        write_row(w, &s->rows[i], &s->events[i]);
    const struct checkpoint_row *last = s->n && s->more ? &s->rows[s->n - 1] : NULL;
    struct cursor next = {.list = CURSOR_CHECKPOINTS, .desc = true};
    if (last)
        next.number = last->seq;
    listing_end(c, &out, last ? &next : NULL);
}

void checkpoints_list(struct call *c)
{
    struct list_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    if (read_query(c, s, &err))
        call_fail(c, &err);
    else
        call_read(c, list_step, reply_list);
}
