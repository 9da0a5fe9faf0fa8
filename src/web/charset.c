#include "web/charset.h"

#include <errno.h>
#include <iconv.h>

enum { PRESCAN = 2048 };

static const char replacement[] = "\xEF\xBF\xBD";

/* Names as they are used on the web, and what iconv is asked for. No other name gets there: it
 * loads a module for each, and some of those have been broken by hostile input before. As browsers
 * do, Latin-1 is read as windows-1252. */
static const struct {
    const char *label, *iconv;
} known[] = {
    {"utf-8", "UTF-8"},
    {"utf8", "UTF-8"},
    {"us-ascii", "WINDOWS-1252"},
    {"ascii", "WINDOWS-1252"},
    {"iso-8859-1", "WINDOWS-1252"},
    {"iso8859-1", "WINDOWS-1252"},
    {"latin1", "WINDOWS-1252"},
    {"latin-1", "WINDOWS-1252"},
    {"windows-1252", "WINDOWS-1252"},
    {"cp1252", "WINDOWS-1252"},
    {"iso-8859-2", "ISO-8859-2"},
    {"iso-8859-3", "ISO-8859-3"},
    {"iso-8859-4", "ISO-8859-4"},
    {"iso-8859-5", "ISO-8859-5"},
    {"iso-8859-6", "ISO-8859-6"},
    {"iso-8859-7", "ISO-8859-7"},
    {"iso-8859-8", "ISO-8859-8"},
    {"iso-8859-9", "WINDOWS-1254"},
    {"iso-8859-10", "ISO-8859-10"},
    {"iso-8859-13", "ISO-8859-13"},
    {"iso-8859-14", "ISO-8859-14"},
    {"iso-8859-15", "ISO-8859-15"},
    {"iso-8859-16", "ISO-8859-16"},
    {"windows-1250", "WINDOWS-1250"},
    {"windows-1251", "WINDOWS-1251"},
    {"windows-1253", "WINDOWS-1253"},
    {"windows-1254", "WINDOWS-1254"},
    {"windows-1255", "WINDOWS-1255"},
    {"windows-1256", "WINDOWS-1256"},
    {"windows-1257", "WINDOWS-1257"},
    {"windows-1258", "WINDOWS-1258"},
    {"koi8-r", "KOI8-R"},
    {"koi8-u", "KOI8-U"},
    {"gb2312", "GBK"},
    {"gbk", "GBK"},
    {"gb18030", "GB18030"},
    {"big5", "BIG5"},
    {"euc-jp", "EUC-JP"},
    {"shift_jis", "SHIFT_JIS"},
    {"shift-jis", "SHIFT_JIS"},
    {"euc-kr", "EUC-KR"},
    {"utf-16", "UTF-16LE"},
    {"utf-16le", "UTF-16LE"},
    {"utf-16be", "UTF-16BE"},
};

static const char *lookup(struct str label)
{
    label = str_trim(label);
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (str_eq_nocase(label, str_z(known[i].label)))
            return known[i].iconv;
    return NULL;
}

/* ---- what the document says ---- */

static ptrdiff_t find_nocase(struct str s, struct str needle)
{
    for (size_t i = 0; i + needle.len <= s.len; i++)
        if (str_eq_nocase(str_n(s.ptr + i, needle.len), needle))
            return (ptrdiff_t)i;
    return -1;
}

/* charset=x, charset = "x", encoding='x' */
static struct str value_after(struct str s, struct str name)
{
    ptrdiff_t at = find_nocase(s, name);
    if (at < 0)
        return STR_NONE;
    s = str_trim(str_skip(s, (size_t)at + name.len));
    if (s.len == 0 || s.ptr[0] != '=')
        return STR_NONE;
    s = str_trim(str_skip(s, 1));
    if (s.len && (s.ptr[0] == '"' || s.ptr[0] == '\''))
        s = str_skip(s, 1);
    size_t n = 0;
    while (n < s.len && !strchr(" \t\r\n\"';>/?", s.ptr[n]))
        n++;
    return str_take(s, n);
}

struct str charset_param(struct str content_type)
{
    return value_after(content_type, STR("charset"));
}

static const char *from_markup(struct str in)
{
    struct str head = str_take(in, PRESCAN);
    const char *found = NULL;
    if (str_starts(head, STR("<?xml")))
        found = lookup(value_after(head, STR("encoding")));
    for (ptrdiff_t at; !found && (at = find_nocase(head, STR("<meta"))) >= 0;) {
        head = str_skip(head, (size_t)at + 5);
        ptrdiff_t end = str_find_ch(head, '>');
        found = lookup(value_after(end < 0 ? head : str_take(head, (size_t)end), STR("charset")));
    }
    /* It was read byte by byte, so it is no UTF-16 whatever it says. */
    return found && str_starts(str_z(found), STR("UTF-16")) ? "UTF-8" : found;
}

/* Takes the byte order mark off. */
static const char *from_mark(struct str *in)
{
    static const struct {
        struct str mark;
        const char *iconv;
    } marks[] = {{{"\xEF\xBB\xBF", 3}, "UTF-8"},
                 {{"\xFF\xFE", 2}, "UTF-16LE"},
                 {{"\xFE\xFF", 2}, "UTF-16BE"}};
    for (size_t i = 0; i < COUNT_OF(marks); i++)
        if (str_starts(*in, marks[i].mark)) {
            *in = str_skip(*in, marks[i].mark.len);
            return marks[i].iconv;
        }
    return NULL;
}

/* ---- converting ---- */

static size_t sequence_len(unsigned char c)
{
    return c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
}

static void put_char(struct buf *out, struct str c)
{
    unsigned char b = (unsigned char)c.ptr[0];
    bool control = (b < 0x20 && b != '\t' && b != '\n' && b != '\r') || b == 0x7f ||
                   (c.len == 2 && b == 0xc2 && (unsigned char)c.ptr[1] < 0xa0);
    if (!control)
        buf_str(out, c);
}

static void sanitize(struct str in, struct buf *out)
{
    while (in.len && buf_ok(out)) {
        struct str c = str_take(in, sequence_len((unsigned char)in.ptr[0]));
        if (str_utf8(c)) {
            put_char(out, c);
            in = str_skip(in, c.len);
        } else {
            buf_z(out, replacement);
            in = str_skip(in, 1);
        }
    }
}

static bool convert(struct str in, const char *from, struct buf *out)
{
    iconv_t cd = iconv_open("UTF-8", from);
    if (cd == (iconv_t)-1)
        return false;
    char *at = (char *)(uintptr_t)in.ptr;
    size_t left = in.len;
    while (left && buf_ok(out)) {
        char piece[4096], *to = piece;
        size_t room = sizeof piece;
        errno = 0;
        size_t rc = iconv(cd, &at, &left, &to, &room);
        int why = errno;
        sanitize(str_n(piece, sizeof piece - room), out);
        if (rc != (size_t)-1 || why == E2BIG)
            continue;
        buf_z(out, replacement);
        if (why != EILSEQ)
            break; /* cut in the middle of a character */
        at++;
        left--;
    }
    iconv_close(cd);
    return true;
}

void charset_to_utf8(struct str in, struct str declared, bool markup, struct buf *out)
{
    const char *from = from_mark(&in);
    if (!from && str_some(declared))
        from = lookup(declared);
    if (!from && markup)
        from = from_markup(in);
    if (!from)
        from = str_utf8(in) ? "UTF-8" : "WINDOWS-1252";
    if (strcmp(from, "UTF-8") == 0 || !convert(in, from, out))
        sanitize(in, out);
}
