/* Forms of any bytes, taken apart whole and in pieces: both must see the same. The first byte says
 * how the body is cut, the first line is the Content-Type. */
#include "http/multipart.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* What a sink was told, as a running hash that does not depend on how data was cut. */
struct seen {
    uint64_t hash, bytes;
    unsigned begun, ended;
};

static void note(struct seen *s, struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        s->hash = (s->hash ^ (unsigned char)text.ptr[i]) * UINT64_C(0x100000001b3);
}

static int on_begin(void *arg, const struct multipart_part *p, struct err *err)
{
    struct seen *s = arg;
    (void)err;
    must(s->begun++ == s->ended);
    must(p->name.len > 0 && str_utf8(p->name));
    must(!str_some(p->filename) || str_utf8(p->filename));
    note(s, p->name);
    note(s, str_some(p->filename) ? p->filename : STR("\1"));
    note(s, str_some(p->type) ? p->type : STR("\2"));
    return 0;
}

static int on_data(void *arg, struct str piece, struct err *err)
{
    struct seen *s = arg;
    (void)err;
    must(s->begun == s->ended + 1 && piece.len > 0);
    s->bytes += piece.len;
    note(s, piece);
    return 0;
}

static int on_end(void *arg, struct err *err)
{
    struct seen *s = arg;
    (void)err;
    must(++s->ended == s->begun);
    note(s, STR("\3"));
    return 0;
}

static int run(struct str type, struct str body, size_t cut, struct seen *s)
{
    static const struct multipart_sink sink = {on_begin, on_data, on_end};
    struct multipart m;
    struct err err;
    *s = (struct seen){.hash = 1};
    if (multipart_init(&m, type, &sink, s, &err))
        return -1;
    int rc = 0;
    while (rc == 0 && body.len > 0) {
        rc = multipart_feed(&m, str_take(body, cut), &err);
        body = str_skip(body, cut);
    }
    if (rc == 0)
        rc = multipart_finish(&m, &err);
    must(rc == 0 || (rc == ERR_INVALID && err.code == rc && err.msg[0]));
    must(rc != 0 || s->begun == s->ended);
    multipart_fini(&m);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    size_t cut = data[0] ? data[0] : 1;
    struct str body = str_n((const char *)data + 1, len - 1), type = str_split(&body, '\n');
    struct seen whole, pieces;
    int a = run(type, body, SIZE_MAX / 2, &whole), b = run(type, body, cut, &pieces);
    must(a == b && whole.bytes <= body.len);
    /* What came before an error depends on the cuts; what was understood does not. */
    must(a != 0 || (whole.hash == pieces.hash && whole.bytes == pieces.bytes));
    return 0;
}
