/* The frame of a multipart body: boundaries, heads, data. What stands in a head: multipart_head.c.
 */
#include "http/multipart_head.h"

/* A boundary holds no CR, so a partly matched delimiter can begin again only at its own start: no
 * table of failures is needed, and every byte is looked at once or twice. */

static int broken(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "The multipart body is malformed: %s", what);
}

int multipart_init(struct multipart *m, struct str content_type, const struct multipart_sink *sink,
                   void *arg, struct err *err)
{
    char boundary[MULTIPART_BOUNDARY_MAX];
    size_t len;
    int rc = multipart_boundary(content_type, boundary, &len, err);
    if (rc)
        return rc;
    *m = (struct multipart){
        .sink = sink, .arg = arg, .delimiter_len = 4 + len, .parts_max = MULTIPART_PARTS_MAX};
    memcpy(m->delimiter, "\r\n--", 4);
    memcpy(m->delimiter + 4, boundary, len);
    m->matched = 2; /* the first one needs no line end before it */
    m->head = BUF_INIT(MULTIPART_HEAD_MAX);
    m->text = BUF_INIT(2 * MULTIPART_HEAD_MAX);
    return 0;
}

void multipart_fini(struct multipart *m)
{
    buf_fini(&m->head);
    buf_fini(&m->text);
}

static int start(struct multipart *m, struct str *in, struct err *err)
{
    while (in->len > 0 && m->matched < m->delimiter_len) {
        if (in->ptr[0] != m->delimiter[m->matched])
            return broken(err, "it does not begin with the boundary that content-type names");
        m->matched++;
        *in = str_skip(*in, 1);
    }
    if (m->matched == m->delimiter_len)
        m->state = MULTIPART_BOUNDARY;
    return 0;
}

static int boundary(struct multipart *m, struct str *in, struct err *err)
{
    char c = in->ptr[0];
    *in = str_skip(*in, 1);
    if (!m->tail) {
        if (c != '\r' && c != '-')
            return broken(err, "a boundary is followed by something else than a line end");
        m->tail = c;
        return 0;
    }
    char first = m->tail;
    m->tail = '\0';
    m->matched = 0;
    if (first == '-' && c == '-') {
        m->state = MULTIPART_EPILOGUE;
        return 0;
    }
    if (first != '\r' || c != '\n')
        return broken(err, "a boundary is followed by something else than a line end");
    if (++m->parts > m->parts_max)
        return broken(err, "it has too many parts");
    m->state = MULTIPART_HEAD;
    m->matched = 2; /* the boundary's line end begins the blank line of an empty head */
    buf_clear(&m->head);
    buf_clear(&m->text);
    return 0;
}

static int head(struct multipart *m, struct str *in, struct err *err)
{
    static const char blank[] = "\r\n\r\n";
    size_t n = 0;
    while (n < in->len && m->matched < 4) {
        char c = in->ptr[n++];
        m->matched = c == blank[m->matched] ? m->matched + 1 : c == '\r';
    }
    buf_put(&m->head, in->ptr, n);
    *in = str_skip(*in, n);
    if (!buf_ok(&m->head))
        return broken(err, "the headers of a part are over 8 KiB");
    if (m->matched < 4)
        return 0;
    struct multipart_part part;
    int rc = multipart_head(buf_view(&m->head), &m->text, &part, err);
    if (rc)
        return rc;
    m->state = MULTIPART_DATA;
    m->matched = 0;
    return m->sink->begin(m->arg, &part, err);
}

/* How far `in` goes on with the delimiter, of which `m->matched` bytes came before. */
static size_t match(const struct multipart *m, struct str in)
{
    size_t n = 0;
    while (n < in.len && m->matched + n < m->delimiter_len &&
           in.ptr[n] == m->delimiter[m->matched + n])
        n++;
    return n;
}

static int part_over(struct multipart *m, struct err *err)
{
    m->state = MULTIPART_BOUNDARY;
    return m->sink->end(m->arg, err);
}

/* The delimiter's begin came with earlier bytes: it goes on here, or it was data. */
static int data_pending(struct multipart *m, struct str *in, struct err *err)
{
    size_t n = match(m, *in);
    m->matched += n;
    *in = str_skip(*in, n);
    if (m->matched == m->delimiter_len)
        return part_over(m, err);
    if (in->len == 0)
        return 0;
    struct str was_data = str_n(m->delimiter, m->matched);
    m->matched = 0;
    return m->sink->data(m->arg, was_data, err);
}

static int data(struct multipart *m, struct str *in, struct err *err)
{
    if (m->matched > 0)
        return data_pending(m, in, err);
    size_t at = 0, found = 0;
    while (at < in->len) {
        const char *cr = memchr(in->ptr + at, '\r', in->len - at);
        at = cr ? (size_t)(cr - in->ptr) : in->len;
        found = cr ? match(m, str_skip(*in, at)) : 0;
        if (found == m->delimiter_len || at + found == in->len)
            break;
        at += found;
    }
    struct str piece = str_take(*in, at);
    *in = str_skip(*in, at + found);
    m->matched = found;
    int rc = piece.len ? m->sink->data(m->arg, piece, err) : 0;
    return rc == 0 && found == m->delimiter_len ? part_over(m, err) : rc;
}

static int epilogue(struct multipart *m, struct str *in, struct err *err)
{
    while (in->len > 0) {
        if (m->matched >= 2 || in->ptr[0] != "\r\n"[m->matched])
            return broken(err, "something follows its last boundary");
        m->matched++;
        *in = str_skip(*in, 1);
    }
    return 0;
}

int multipart_feed(struct multipart *m, struct str bytes, struct err *err)
{
    int rc = 0;
    while (rc == 0 && bytes.len > 0) {
        switch (m->state) {
        case MULTIPART_START: rc = start(m, &bytes, err); break;
        case MULTIPART_BOUNDARY: rc = boundary(m, &bytes, err); break;
        case MULTIPART_HEAD: rc = head(m, &bytes, err); break;
        case MULTIPART_DATA: rc = data(m, &bytes, err); break;
        case MULTIPART_EPILOGUE: rc = epilogue(m, &bytes, err); break;
        case MULTIPART_BROKEN: rc = broken(err, "it broke off before"); break;
        }
    }
    if (rc)
        m->state = MULTIPART_BROKEN;
    return rc;
}

int multipart_finish(struct multipart *m, struct err *err)
{
    if (m->state == MULTIPART_EPILOGUE && m->matched != 1)
        return 0;
    m->state = MULTIPART_BROKEN;
    return broken(err, "it ends before its last boundary");
}
