#include "cli/term.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

static bool env_has(const char *name, const char *part)
{
    const char *v = getenv(name);
    return v && str_find(str_z(v), str_z(part)) >= 0;
}

static bool locale_is_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const char *v = getenv(names[i]);
        if (v && *v) /* the first one set decides */
            return env_has(names[i], "UTF-8") || env_has(names[i], "utf8") ||
                   env_has(names[i], "UTF8") || env_has(names[i], "utf-8");
    }
    return false;
}

struct term term_for(int fd)
{
    const char *no_color = getenv("NO_COLOR"), *name = getenv("TERM");
    bool tty = isatty(fd) == 1;
    bool dumb = !name || !*name || strcmp(name, "dumb") == 0;
    return (struct term){
        .tty = tty, .colour = tty && !dumb && !(no_color && *no_color), .utf8 = locale_is_utf8()};
}

void term_style(const struct term *t, struct buf *out, enum term_style style)
{
    static const char *const codes[] = {
        [TERM_PLAIN] = "0", [TERM_DIM] = "2",     [TERM_BOLD] = "1",  [TERM_GREEN] = "32",
        [TERM_RED] = "31",  [TERM_YELLOW] = "33", [TERM_CYAN] = "36",
    };
    if (t->colour)
        buf_printf(out, "\033[%sm", codes[style]);
}

/* Length of the escape sequence that starts at s (s[0] is ESC), as far as it is there. */
static size_t escape_len(struct str s)
{
    if (s.len < 2)
        return 1;
    unsigned char kind = (unsigned char)s.ptr[1];
    size_t i = 2;
    if (kind == '[') { /* parameters, then a final byte */
        while (i < s.len && (unsigned char)s.ptr[i] >= 0x20 && (unsigned char)s.ptr[i] < 0x40)
            i++;
        bool final = i < s.len && (unsigned char)s.ptr[i] >= 0x40 && (unsigned char)s.ptr[i] < 0x7f;
        return final ? i + 1 : i;
    }
    if (kind == ']') { /* up to BEL or ESC \, on this line */
        while (i < s.len && s.ptr[i] != '\a' && s.ptr[i] != '\033' && s.ptr[i] != '\n')
            i++;
        if (i < s.len && s.ptr[i] == '\a')
            return i + 1;
        if (i + 1 < s.len && s.ptr[i] == '\033' && s.ptr[i + 1] == '\\')
            return i + 2;
        return i;
    }
    return kind >= 0x20 && kind < 0x7f ? 2 : 1;
}

/* Code points that no terminal should get from outside: C1 controls, bidirectional controls, line
 * and paragraph separators, invisible joiners' big brother U+FEFF. */
static bool harmful(uint32_t cp)
{
    return (cp >= 0x7f && cp < 0xa0) || cp == 0x061c || cp == 0x200e || cp == 0x200f ||
           (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069) || cp == 0xfeff;
}

/* Decodes one sequence of 2 to 4 bytes that str_utf8() has accepted; 0 when it is not one. */
static size_t sequence_len(struct str s, uint32_t *cp)
{
    unsigned char lead = (unsigned char)s.ptr[0];
    size_t len = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
    if (!len || len > s.len || !str_utf8(str_take(s, len)))
        return 0;
    *cp = lead & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++)
        *cp = *cp << 6 | ((unsigned char)s.ptr[i] & 0x3fu);
    return len;
}

static void safe(struct buf *out, struct str s, bool one_line)
{
    static const struct str mark = {"\xef\xbf\xbd", 3};
    while (s.len) {
        unsigned char c = (unsigned char)s.ptr[0];
        size_t n = 1;
        uint32_t cp = 0;
        if (c == '\n' || c == '\t') {
            buf_ch(out, one_line ? ' ' : (char)c);
        } else if (c == '\r') {
            if (one_line)
                buf_ch(out, ' ');
        } else if (c == 0x1b) {
            n = escape_len(s);
            buf_str(out, mark);
        } else if (c < 0x20 || c == 0x7f) {
            buf_str(out, mark);
        } else if (c < 0x80) {
            while (n < s.len && s.ptr[n] >= 0x20 && s.ptr[n] < 0x7f)
                n++;
            buf_put(out, s.ptr, n);
        } else if ((n = sequence_len(s, &cp)) && !harmful(cp)) {
            buf_put(out, s.ptr, n);
        } else {
            n = n ? n : 1;
            buf_str(out, mark);
        }
        s = str_skip(s, n);
    }
}

void term_safe(struct buf *out, struct str s)
{
    safe(out, s, false);
}

void term_safe_line(struct buf *out, struct str s)
{
    safe(out, s, true);
}

void term_count(struct buf *out, int64_t n)
{
    if (n < 1000)
        buf_i64(out, n);
    else if (n < 1000000)
        buf_printf(out, "%" PRId64 ".%" PRId64 "k", n / 1000, n % 1000 / 100);
    else
        buf_printf(out, "%" PRId64 ".%" PRId64 "M", n / 1000000, n % 1000000 / 100000);
}

void term_duration(struct buf *out, int64_t ms)
{
    if (ms < 0)
        ms = 0;
    if (ms < 10000)
        buf_printf(out, "%" PRId64 ".%" PRId64 " s", ms / 1000, ms % 1000 / 100);
    else if (ms < 60000)
        buf_printf(out, "%" PRId64 " s", ms / 1000);
    else
        buf_printf(out, "%" PRId64 ":%02d", ms / 60000, (int)(ms / 1000 % 60));
}

void term_money(struct buf *out, int64_t microusd)
{
    if (microusd > 0 && microusd < 100)
        buf_z(out, "less than $0.0001");
    else
        buf_printf(out, "$%" PRId64 ".%04d", microusd / 1000000, (int)(microusd % 1000000 / 100));
}
