#include "json/reader.h"
#include "json/utf8.h"

#include <endian.h>

static uint64_t repeat(unsigned char c)
{
    return c * UINT64_C(0x0101010101010101);
}

/* The first byte that is not plain: a quote, a backslash, a control character or not ASCII. Eight
 * bytes at a time: a byte's top bit in `special` is set when it is one of those. A borrow can set
 * the bits of later bytes wrongly, never of an earlier one, and only the first is used. */
static const char *skip_plain(const char *p, const char *end)
{
    while (end - p >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        w = le64toh(w);
        uint64_t special = (w - repeat(0x20)) | ((w ^ repeat('"')) - repeat(1)) |
                           ((w ^ repeat('\\')) - repeat(1)) | w;
        special &= repeat(0x80);
        if (special)
            return p + __builtin_ctzll(special) / 8;
        p += 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
           *p != '\\')
        p++;
    return p;
}

/* Four digits at p, or -1. */
static int32_t hex4(const char *p, const char *end)
{
    if (end - p < 4)
        return -1;
    int32_t v = 0;
    for (int i = 0; i < 4; i++) {
        int d = str_hex(p[i]);
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* The "\uXXXX" or pair at *pp (behind the 'u'): NULL, or what is wrong with it. */
static const char *read_unicode(const char **pp, const char *end, uint32_t *cp)
{
    static const char lone[] =
        "a surrogate must be one of a pair, \\uD800-\\uDBFF then \\uDC00-\\uDFFF";
    const char *p = *pp;
    int32_t high = hex4(p, end);
    if (high < 0)
        return "\\u needs four hexadecimal digits";
    *pp = p + 4;
    *cp = (uint32_t)high;
    if (high < 0xD800 || high > 0xDFFF)
        return NULL;
    if (high >= 0xDC00 || end - p < 6 || p[4] != '\\' || p[5] != 'u')
        return lone;
    int32_t low = hex4(p + 6, end);
    if (low < 0xDC00 || low > 0xDFFF)
        return lone;
    *pp = p + 10;
    *cp = 0x10000 + (((uint32_t)high - 0xD800) << 10) + ((uint32_t)low - 0xDC00);
    return NULL;
}

/* The escape at *pp (on its backslash): NULL, or what is wrong with it. */
static const char *read_escape(const char **pp, const char *end, uint32_t *cp)
{
    const char *p = *pp + 1;
    if (p == end)
        return "the text ends inside a string";
    *pp = p + 1;
    switch (*p) {
    case '"':
    case '\\':
    case '/': *cp = (unsigned char)*p; return NULL;
    case 'b': *cp = '\b'; return NULL;
    case 'f': *cp = '\f'; return NULL;
    case 'n': *cp = '\n'; return NULL;
    case 'r': *cp = '\r'; return NULL;
    case 't': *cp = '\t'; return NULL;
    case 'u': return read_unicode(pp, end, cp);
    default: return "unknown escape: use \\\" \\\\ \\/ \\b \\f \\n \\r \\t or \\uXXXX";
    }
}

static size_t utf8_size(uint32_t cp)
{
    return cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
}

static char *utf8_put(char *to, uint32_t cp)
{
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t n = utf8_size(cp);
    for (size_t i = n; i > 1; i--, cp >>= 6)
        to[i - 1] = (char)(0x80 | (cp & 0x3F));
    to[0] = (char)(lead[n] | cp);
    return to + n;
}

/* Copies checked text, escapes resolved. */
static void decode(char *to, const char *p, const char *end)
{
    while (p < end) {
        const char *run = memchr(p, '\\', (size_t)(end - p));
        size_t n = (size_t)((run ? run : end) - p);
        memcpy(to, p, n);
        to += n;
        p += n;
        /* A sequence of escapes is common ("\n\n", non-Latin text escaped as a whole). */
        while (p < end && *p == '\\') {
            uint32_t cp = 0;
            if (read_escape(&p, end, &cp))
                return; /* cannot happen: the text was checked */
            to = utf8_put(to, cp);
        }
    }
}

/* Everything is checked and measured first; a string without escapes is then done. */
int reader_string(struct reader *r, struct str *out)
{
    const char *start = r->at + 1, *p = start;
    size_t saved = 0; /* bytes by which the decoded form is shorter */
    for (;;) {
        p = skip_plain(p, r->end);
        if (p == r->end)
            return reader_fail(r, p, "the text ends inside a string");
        unsigned char c = (unsigned char)*p;
        if (c == '"')
            break;
        if (c == '\\') {
            const char *escape = p;
            uint32_t cp = 0;
            const char *wrong = read_escape(&p, r->end, &cp);
            if (wrong)
                return reader_fail(r, escape, "%s", wrong);
            saved += (size_t)(p - escape) - utf8_size(cp);
        } else if (c < 0x20) {
            return reader_fail(r, p, "control character 0x%02x in a string: escape it as \\u%04x",
                               c, c);
        } else {
            bool ok;
            size_t n = utf8_step((const unsigned char *)p, (size_t)(r->end - p), &ok);
            if (!ok)
                return reader_fail(r, p, "the string is not valid UTF-8 (byte 0x%02x)", c);
            p += n;
        }
    }
    r->at = p + 1;
    *out = str_n(start, (size_t)(p - start));
    if (saved == 0)
        return 0;
    char *to = arena_bytes(r->arena, out->len - saved);
    if (!to)
        return reader_fail_arena(r);
    decode(to, start, p);
    *out = str_n(to, out->len - saved);
    return 0;
}
