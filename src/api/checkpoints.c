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
    struct str page = query_get(&c->query, "page");
    struct cursor cursor;
    s->limit = CHECKPOINTS_PAGE;
    int rc = query_i64(&c->query, "limit", 1, CHECKPOINTS_PAGE_MAX, &s->limit, err);
    if (rc || !str_some(page))
        return rc;
    rc = cursor_read(&c->arena, page, CURSOR_CHECKPOINTS, true, &cursor, err);
    if (!rc)
        s->before = cursor.number;
    return rc;
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
    struct buf b = BUF_INIT(SIZE_MAX / 4);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_key(&w, "data");
    jw_arr(&w);
    for (size_t i = 0; i < s->n; i++)
        write_row(&w, &s->rows[i], &s->events[i]);
    jw_arr_end(&w);
    struct cursor next = {.list = CURSOR_CHECKPOINTS, .desc = true};
    if (s->n > 0)
        next.number = s->rows[s->n - 1].seq;
    listing_cursor(&w, "next_page", s->more && s->n > 0 ? &next : NULL);
    jw_obj_end(&w);
    call_reply(c, &b);
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
