/* GET /v1/sessions/{id}/egress: what the session's sandbox reached and was refused. */
#include "api/cursor.h"
#include "api/handlers.h"
#include "api/session_call.h"
#include "json/writer.h"
#include "store/egress.h"

enum { EGRESS_PAGE = 100, EGRESS_PAGE_MAX = 1000 };

struct egress_call {
    struct session_row session;
    int outcome; /* -1: all */
    int64_t limit, after;
    struct egress_row *rows;
    size_t n;
    bool more;
};

static int read_query(struct call *c, struct egress_call *s, struct err *err)
{
    s->outcome = -1;
    int rc = listing_read_number(c, CURSOR_EGRESS, EGRESS_PAGE, EGRESS_PAGE_MAX, false, &s->limit,
                                 &s->after, err);
    return rc ? rc : query_enum(&c->query, "decision", egress_outcome_names, &s->outcome, err);
}

static int list_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct egress_call *s = c->state;
    int rc = session_find(tx, c, &s->session, err);
    return rc ? rc
              : tx_egress_list(tx, s->session.key, s->outcome, s->after, s->limit, &c->arena,
                               &s->rows, &s->n, &s->more, err);
}

static void write_row(struct jw *w, const struct egress_row *r)
{
    jw_obj(w);
    jw_kz(w, "type", "egress");
    jw_ktime(w, "started_at", r->at_us);
    jw_ki64(w, "duration_ms", r->duration_us / 1000);
    jw_key(w, "tool_use_id");
    if (str_some(r->tool_use))
        jw_str(w, r->tool_use);
    else
        jw_null(w);
    jw_kz(w, "protocol", r->connect ? "connect" : "http");
    jw_kstr(w, "host", r->host);
    jw_ki64(w, "port", r->port);
    jw_key(w, "address");
    if (str_some(r->address))
        jw_str(w, r->address);
    else
        jw_null(w);
    jw_kz(w, "decision", egress_outcome_names[r->outcome]);
    jw_key(w, "reason");
    if (str_some(r->reason))
        jw_str(w, r->reason);
    else
        jw_null(w);
    jw_ki64(w, "bytes_up", r->bytes_up);
    jw_ki64(w, "bytes_down", r->bytes_down);
    jw_obj_end(w);
}

static void reply_list(struct call *c)
{
    const struct egress_call *s = c->state;
    struct listing_out out;
    struct jw *w = listing_begin(&out);
    for (size_t i = 0; i < s->n; i++)
        write_row(w, &s->rows[i]);
    const struct egress_row *last = s->n && s->more ? &s->rows[s->n - 1] : NULL;
    struct cursor next = {.list = CURSOR_EGRESS};
    if (last)
        next.number = last->number;
    listing_end(c, &out, last ? &next : NULL);
}

void egress_list(struct call *c)
{
    struct egress_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    if (read_query(c, s, &err))
        call_fail(c, &err);
    else
        call_read(c, list_step, reply_list);
}
