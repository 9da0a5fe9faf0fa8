/* Percent-coding and query strings. */
#include "http/http.h"

enum { QUERY_PAIRS_MAX = 256, QUOTED_MAX = 32 };

/* Writes at most in.len bytes. Returns their number, or -1 on a bad escape or an encoded NUL. */
static ptrdiff_t decode(struct str in, bool plus, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (c == '%') {
            int hi = i + 2 < in.len ? str_hex(in.ptr[i + 1]) : -1;
            int lo = i + 2 < in.len ? str_hex(in.ptr[i + 2]) : -1;
            if (hi < 0 || lo < 0 || (hi == 0 && lo == 0))
                return -1;
            c = (char)(hi << 4 | lo);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        out[n++] = c;
    }
    return (ptrdiff_t)n;
}

/* A message must not carry the bytes it complains of, only a printable piece of them. */
static void quote(char out[QUOTED_MAX], struct str in)
{
    size_t n = 0;
    for (; n < in.len && n < QUOTED_MAX - 1; n++)
        out[n] = in.ptr[n] >= 0x20 && in.ptr[n] < 0x7f ? in.ptr[n] : '?';
    out[n] = '\0';
}

int http_decode(struct arena *a, struct str in, bool plus, struct str *out, struct err *err)
{
    char *to = arena_bytes(a, in.len + 1);
    if (!to)
        return err_set(err, ERR_TOO_LARGE, "the URL is too long");
    ptrdiff_t n = decode(in, plus, to);
    struct str s = str_n(to, n < 0 ? 0 : (size_t)n);
    if (n < 0 || !str_utf8(s)) {
        char piece[QUOTED_MAX];
        quote(piece, in);
        return err_set(err, ERR_INVALID,
                       "the URL has a malformed percent-encoding in \"%s\": write %%XX with two "
                       "hexadecimal digits, of UTF-8 text",
                       piece);
    }
    to[n] = '\0';
    *out = s;
    return 0;
}

void http_encode(struct buf *b, struct str s)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '.' || c == '_' || c == '~';
        if (plain) {
            buf_ch(b, (char)c);
        } else {
            char esc[3] = {'%', digits[c >> 4], digits[c & 15]};
            buf_put(b, esc, sizeof esc);
        }
    }
}

static size_t count_pairs(struct str query)
{
    size_t n = 0;
    for (struct str rest = query; str_some(rest);)
        n += str_split(&rest, '&').len > 0;
    return n;
}

int http_query(struct arena *a, struct str query, struct http_param **out, size_t *n,
               struct err *err)
{
    size_t count = count_pairs(query), at = 0;
    if (count > QUERY_PAIRS_MAX)
        return err_set(err, ERR_INVALID, "the query string has more than %d parameters",
                       QUERY_PAIRS_MAX);
    struct http_param *params = ARENA_ARRAY(a, struct http_param, count ? count : 1);
    if (!params)
        return err_set(err, ERR_TOO_LARGE, "the URL is too long");
    for (struct str rest = query; str_some(rest);) {
        struct str pair = str_split(&rest, '&');
        if (pair.len == 0)
            continue; /* "a=1&&b=2" */
        struct str value = pair, name = str_split(&value, '=');
        int rc = http_decode(a, name, true, &params[at].name, err);
        if (rc == 0)
            rc = http_decode(a, value, true, &params[at].value, err);
        if (rc)
            return rc;
        at++;
    }
    *out = params;
    *n = at;
    return 0;
}
