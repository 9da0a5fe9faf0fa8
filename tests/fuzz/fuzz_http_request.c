/* Requests of any bytes through the server's parser, cut in any way, as the connection feeds it. */
#include "base/limits.h"
#include "http/parse.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint64_t body_bytes;

static bool on_body(void *arg, struct str piece)
{
    (void)arg;
    body_bytes += piece.len;
    return piece.len % 3 != 0; /* stop sometimes: the rest must then be given again */
}

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* Looks for the head in growing prefixes, as bytes come in; 0 when there is none. */
static size_t find_head(struct str in, size_t cut)
{
    size_t at = 0;
    for (size_t have = cut < in.len ? cut : in.len;;
         have = have + cut < in.len ? have + cut : in.len) {
        enum http_head_state s = http_head_end(str_take(in, have), &at);
        if (s == HTTP_HEAD_WHOLE) {
            must(at <= have && at >= 4 && memcmp(in.ptr + at - 4, "\r\n\r\n", 4) == 0);
            return at;
        }
        if (s == HTTP_HEAD_BAD || have == in.len)
            return 0;
    }
}

/* Returns what is left behind the body, absent after an error or an unfinished body. */
static struct str eat_body(struct http_parser *p, struct str in, size_t cut)
{
    body_bytes = 0;
    while (!p->complete) {
        size_t used;
        if (in.len == 0 || http_parse_body(p, str_take(in, cut), &used, NULL) != 0)
            return STR_NONE;
        must(used <= cut && (used > 0 || p->complete));
        in = str_skip(in, used);
    }
    must(p->chunked || body_bytes == p->content_length);
    return in.ptr ? in : STR("");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    size_t cut = data[0] ? data[0] : SIZE_MAX / 2; /* the first byte says how the rest is cut */
    struct str in = str_n((const char *)data + 1, len - 1);
    for (int i = 0; i < 8 && in.len; i++) {
        size_t n = find_head(in, cut);
        if (!n)
            break;
        AUTO_ARENA struct arena a;
        arena_init(&a, LIMIT_HTTP_HEAD * 4);
        struct str head = arena_str(&a, str_take(in, n));
        if (!head.ptr)
            break;
        struct http_parser p = {.on_body = on_body};
        if (http_parse_head(&p, &a, head, NULL) != 0) {
            must(p.status >= 400 && p.status <= 505);
            break;
        }
        must(p.path.len > 0 && p.method.len > 0);
        must(p.minor == 0 || str_some(http_header_get(p.headers, p.nheaders, "Host")));
        in = eat_body(&p, str_skip(in, n), cut);
    }
    return 0;
}
