/* Server-sent events after the WHATWG grammar: lines end in LF, CR or CRLF, a blank line ends an
 * event, a byte order mark may stand at the very start. */
#include "http/sse.h"

void sse_reader_init(struct sse_reader *r, size_t max,
                     void (*on_event)(void *arg, const struct sse_event *ev), void *arg)
{
    *r = (struct sse_reader){.line = BUF_INIT(max),
                             .data = BUF_INIT(max),
                             .type = BUF_INIT(max),
                             .id = BUF_INIT(max),
                             .on_event = on_event,
                             .arg = arg};
}

void sse_reader_fini(struct sse_reader *r)
{
    buf_fini(&r->line);
    buf_fini(&r->data);
    buf_fini(&r->type);
    buf_fini(&r->id);
}

static void dispatch(struct sse_reader *r)
{
    if (r->data.len) {
        struct sse_event ev = {
            .type = r->type.len ? buf_view(&r->type) : STR("message"),
            .id = r->id.len ? buf_view(&r->id) : STR(""),
            .data = str_n(r->data.data, r->data.len - 1), /* without the last line's '\n' */
        };
        r->on_event(r->arg, &ev);
    }
    buf_clear(&r->data);
    buf_clear(&r->type);
}

static void set(struct buf *b, struct str value)
{
    buf_clear(b);
    buf_str(b, value);
}

static void take_line(struct sse_reader *r, struct str line)
{
    if (!r->started) {
        r->started = true;
        if (str_starts(line, STR("\xEF\xBB\xBF")))
            line = str_skip(line, 3);
    }
    if (line.len == 0) {
        dispatch(r);
        return;
    }
    struct str value = line, name = str_split(&value, ':');
    if (value.len && value.ptr[0] == ' ')
        value = str_skip(value, 1);
    if (str_eq(name, STR("data"))) {
        buf_str(&r->data, value);
        buf_ch(&r->data, '\n');
    } else if (str_eq(name, STR("event"))) {
        set(&r->type, value);
    } else if (str_eq(name, STR("id")) && (!value.len || !memchr(value.ptr, '\0', value.len))) {
        set(&r->id, value);
    } /* "retry", comments (an empty name) and unknown fields mean nothing here */
}

/* Length of the line at the front, or s.len when its end has not come. */
static size_t line_len(struct str s)
{
    const char *lf = memchr(s.ptr, '\n', s.len);
    size_t n = lf ? (size_t)(lf - s.ptr) : s.len;
    const char *cr = memchr(s.ptr, '\r', n);
    return cr ? (size_t)(cr - s.ptr) : n;
}

static bool sound(const struct sse_reader *r)
{
    return buf_ok(&r->line) && buf_ok(&r->data) && buf_ok(&r->type) && buf_ok(&r->id) &&
           r->line.len + r->data.len <= r->line.max;
}

int sse_reader_feed(struct sse_reader *r, struct str bytes, struct err *err)
{
    while (bytes.len && sound(r)) {
        if (r->cr && bytes.ptr[0] == '\n')
            bytes = str_skip(bytes, 1);
        r->cr = false;
        if (!bytes.len)
            break;
        size_t n = line_len(bytes);
        if (n == bytes.len) {
            buf_str(&r->line, bytes);
            break;
        }
        r->cr = bytes.ptr[n] == '\r';
        if (r->line.len) { /* its beginning came in an earlier call */
            buf_str(&r->line, str_take(bytes, n));
            if (!buf_ok(&r->line))
                break;
            take_line(r, buf_view(&r->line));
            buf_clear(&r->line);
        } else {
            take_line(r, str_take(bytes, n));
        }
        bytes = str_skip(bytes, n + 1);
    }
    if (!sound(r))
        return err_set(err, ERR_TOO_LARGE, "an event of the stream is longer than %zu bytes",
                       r->line.max);
    return 0;
}

void sse_write(struct buf *b, struct str type, struct str id, struct str data)
{
    buf_put(b, "event: ", 7);
    buf_str(b, type);
    if (str_some(id)) {
        buf_put(b, "\nid: ", 5);
        buf_str(b, id);
    }
    buf_put(b, "\ndata: ", 7);
    buf_str(b, data);
    buf_put(b, "\n\n", 2);
}
