#include "json/writer.h"

#include "base/clock.h"
#include "json/utf8.h"

#include <assert.h>

/* The letter behind the backslash; 'u' for the other control characters; 0 for a plain byte. */
static char escape_letter(unsigned char c)
{
    switch (c) {
    case '"': return '"';
    case '\\': return '\\';
    case '\b': return 'b';
    case '\f': return 'f';
    case '\n': return 'n';
    case '\r': return 'r';
    case '\t': return 't';
    default: return c < 0x20 ? 'u' : 0;
    }
}

static void put_escape(struct buf *b, unsigned char c, char letter)
{
    static const char hex[] = "0123456789abcdef";
    char t[6] = {'\\', letter, '0', '0', hex[c >> 4], hex[c & 15]};
    buf_put(b, t, letter == 'u' ? 6 : 2);
}

void json_quote(struct buf *b, struct str s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    size_t run = 0, i = 0; /* [run, i) is copied as it is */
    buf_ch(b, '"');
    while (i < s.len) {
        size_t step = 1;
        bool ok = true;
        char letter = 0;
        if (p[i] < 0x80)
            letter = escape_letter(p[i]);
        else
            step = utf8_step(p + i, s.len - i, &ok);
        if (letter || !ok) {
            buf_put(b, p + run, i - run);
            if (letter)
                put_escape(b, p[i], letter);
            else
                buf_str(b, STR("\xEF\xBF\xBD"));
            run = i + step;
        }
        i += step;
    }
    if (i > run)
        buf_put(b, p + run, i - run);
    buf_ch(b, '"');
}

static bool in_object(const struct jw *w)
{
    unsigned level = w->depth - 1;
    return w->depth && (w->objects[level / 64] >> (level % 64) & 1);
}

/* What stands before a value. */
static void lead(struct jw *w)
{
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    assert(!in_object(w) && "a value in an object needs its key");
    assert((w->depth || !w->comma) && "one document holds one value");
    if (w->comma)
        buf_ch(w->buf, ',');
}

static void open_level(struct jw *w, char c)
{
    lead(w);
    assert(w->depth < LIMIT_JSON_DEPTH && "nested too deep");
    uint64_t bit = UINT64_C(1) << (w->depth % 64);
    if (c == '{')
        w->objects[w->depth / 64] |= bit;
    else
        w->objects[w->depth / 64] &= ~bit;
    w->depth++;
    w->comma = false;
    buf_ch(w->buf, c);
}

static void close_level(struct jw *w, char c)
{
    assert(w->depth && !w->after_key && in_object(w) == (c == '}') && "closes what is not open");
    w->depth--;
    w->comma = true;
    buf_ch(w->buf, c);
}

void jw_obj(struct jw *w)
{
    open_level(w, '{');
}

void jw_obj_end(struct jw *w)
{
    close_level(w, '}');
}

void jw_arr(struct jw *w)
{
    open_level(w, '[');
}

void jw_arr_end(struct jw *w)
{
    close_level(w, ']');
}

void jw_key(struct jw *w, const char *key)
{
    jw_key_str(w, str_z(key));
}

void jw_key_str(struct jw *w, struct str key)
{
    assert(in_object(w) && !w->after_key && "a key stands in an object, once");
    if (w->comma)
        buf_ch(w->buf, ',');
    json_quote(w->buf, key);
    buf_ch(w->buf, ':');
    w->after_key = true;
}

static void put_value(struct jw *w, struct str text)
{
    lead(w);
    buf_str(w->buf, text);
    w->comma = true;
}

void jw_str(struct jw *w, struct str s)
{
    lead(w);
    json_quote(w->buf, s);
    w->comma = true;
}

void jw_z(struct jw *w, const char *z)
{
    if (z)
        jw_str(w, str_z(z));
    else
        jw_null(w);
}

void jw_i64(struct jw *w, int64_t v)
{
    lead(w);
    buf_i64(w->buf, v);
    w->comma = true;
}

void jw_bool(struct jw *w, bool v)
{
    put_value(w, v ? STR("true") : STR("false"));
}

void jw_null(struct jw *w)
{
    put_value(w, STR("null"));
}

void jw_raw(struct jw *w, struct str json)
{
    put_value(w, str_some(json) ? json : STR("null"));
}

void jw_time(struct jw *w, int64_t unix_us)
{
    if (unix_us == 0) {
        jw_null(w);
        return;
    }
    char text[CLOCK_TEXT_MAX];
    size_t n = clock_format(text, unix_us);
    jw_str(w, str_n(text, n));
}

void jw_kstr(struct jw *w, const char *key, struct str s)
{
    jw_key(w, key);
    if (str_some(s))
        jw_str(w, s);
    else
        jw_null(w);
}

void jw_kz(struct jw *w, const char *key, const char *z)
{
    jw_key(w, key);
    jw_z(w, z);
}

void jw_ki64(struct jw *w, const char *key, int64_t v)
{
    jw_key(w, key);
    jw_i64(w, v);
}

void jw_kbool(struct jw *w, const char *key, bool v)
{
    jw_key(w, key);
    jw_bool(w, v);
}

void jw_knull(struct jw *w, const char *key)
{
    jw_key(w, key);
    jw_null(w);
}

void jw_kraw(struct jw *w, const char *key, struct str json)
{
    jw_key(w, key);
    jw_raw(w, json);
}

void jw_ktime(struct jw *w, const char *key, int64_t unix_us)
{
    jw_key(w, key);
    jw_time(w, unix_us);
}

void jw_done(const struct jw *w)
{
    assert(w->depth == 0 && w->comma && !w->after_key && "the document is not complete");
}
