/* What every list has in common: limit, page, filters. */
#include "api/api_impl.h"
#include "api/cursor.h"

static int read_cursor(struct call *c, int list, struct str text, struct listing *out,
                       struct err *err)
{
    struct cursor cursor;
    int rc = cursor_read(&c->arena, text, (enum cursor_list)list, out->page.desc, &cursor, err);
    if (!rc)
        rc = time_range_check(&out->range, cursor.at_us, err);
    if (rc)
        return rc;
    out->page.backward = cursor.backward;
    struct id id = id_from(cursor.id);
    out->page.after = list == CURSOR_VERSIONS || list == CURSOR_SKILL_VERSIONS
                          ? arena_printf(&c->arena, "%lld", (long long)cursor.number)
                          : page_position(&c->arena, cursor.at_us, &id);
    return 0;
}

int listing_read(struct call *c, int list, int64_t def, int64_t max, bool desc, struct listing *out,
                 struct err *err)
{
    *out = (struct listing){.page = {.limit = def, .desc = desc}};
    int rc = query_i64(&c->query, "limit", 1, max, &out->page.limit, err);
    if (!rc)
        rc = query_bool(&c->query, "include_archived", &out->include_archived, err);
    if (!rc)
        rc = query_range(&c->query, "created_at", &out->range, err);
    struct str page = query_get(&c->query, "page");
    if (!rc && str_some(page))
        rc = read_cursor(c, list, page, out, err);
    return rc;
}

int listing_read_number(struct call *c, int list, int64_t def, int64_t max, bool desc,
                        int64_t *limit, int64_t *number, struct err *err)
{
    struct str page = query_get(&c->query, "page");
    struct cursor cursor;
    *limit = def;
    *number = 0;
    int rc = query_i64(&c->query, "limit", 1, max, limit, err);
    if (rc || !str_some(page))
        return rc;
    rc = cursor_read(&c->arena, page, (enum cursor_list)list, desc, &cursor, err);
    if (!rc)
        *number = cursor.number;
    return rc;
}

void listing_cursor(struct jw *w, const char *key, const struct cursor *cursor)
{
    if (!cursor) {
        jw_knull(w, key);
        return;
    }
    AUTO_BUF struct buf b = BUF_INIT(1024);
    cursor_write(&b, cursor);
    jw_kstr(w, key, buf_view(&b));
}

struct jw *listing_begin(struct listing_out *out)
{
    out->b = BUF_INIT(SIZE_MAX / 4);
    out->w = jw_to(&out->b);
    jw_obj(&out->w);
    jw_key(&out->w, "data");
    jw_arr(&out->w);
    return &out->w;
}

void listing_end(struct call *c, struct listing_out *out, const struct cursor *next)
{
    jw_arr_end(&out->w);
    listing_cursor(&out->w, "next_page", next);
    jw_obj_end(&out->w);
    call_reply(c, &out->b);
}

void listing_serve(struct call *c, const struct listing_how *how, struct listing *out)
{
    struct err err;
    if (listing_read(c, how->list, how->limit, how->limit_max, how->desc, out, &err))
        call_fail(c, &err);
    else
        call_read(c, how->step, how->reply);
}
