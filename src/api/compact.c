#include "api/compact.h"

void compact_put(struct buf *out, struct str raw)
{
    size_t run = 0;
    bool quoted = false;
    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.ptr[i];
        if (c == '"') {
            quoted = !quoted;
        } else if (c == '\\') {
            i++; /* the escaped character, a quote perhaps */
        } else if (!quoted && (c == ' ' || c == '\t' || c == '\r' || c == '\n')) {
            buf_put(out, raw.ptr + run, i - run);
            run = i + 1;
        }
    }
    if (run < raw.len)
        buf_put(out, raw.ptr + run, raw.len - run);
}

void compact_value(struct jw *w, struct str raw)
{
    /* The writer places the comma; the value itself goes past it. */
    jw_raw(w, STR(""));
    compact_put(w->buf, raw);
}

void compact_members(struct jw *w, struct str object)
{
    if (object.len <= 2)
        return;
    /* As with a value, but of several members the first key is all that the writer must see. */
    if (w->comma)
        buf_ch(w->buf, ',');
    buf_put(w->buf, object.ptr + 1, object.len - 2);
    w->comma = true;
}

int compact_keep(struct arena *a, struct buf *b, struct str *out, struct err *err)
{
    struct str kept = buf_ok(b) ? arena_str(a, buf_view(b)) : STR_NONE;
    buf_fini(b);
    if (!str_some(kept))
        return err_set(err, ERR_LIMIT, "The object is too large");
    *out = kept;
    return 0;
}
