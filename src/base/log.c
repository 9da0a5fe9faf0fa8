#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"

#include <stdarg.h>
#include <unistd.h>

static enum log_level min_level = LOG_INFO;
static bool as_json;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_setup(enum log_level min, bool json)
{
    min_level = min;
    as_json = json;
}

/* A line is one write and never cut in the middle: a value is, and ends with "...". */
enum { VALUE_MAX = 1024, LINE_MAX_BYTES = 256 * 1024 };

/* The bytes of the character at `p`: 0 where it is not UTF-8. */
static size_t char_len(const char *p)
{
    unsigned char c = (unsigned char)*p;
    size_t want = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;
    for (size_t i = 1; i < want; i++)
        if (((unsigned char)p[i] & 0xc0) != 0x80)
            return 0;
    return want && str_utf8(str_n(p, want)) ? want : 0;
}

/* What others sent must neither break the form of the line nor drive a terminal. */
static void put_char(struct buf *b, const char *p, size_t len)
{
    unsigned char c = (unsigned char)*p;
    if (len == 0)
        buf_z(b, "\xef\xbf\xbd");
    else if (c == '"' || c == '\\')
        buf_printf(b, "\\%c", c);
    else if (c < 0x20 || c == 0x7f)
        buf_printf(b, "\\u%04x", c);
    else if (c == 0xc2 && (unsigned char)p[1] < 0xa0)
        buf_printf(b, "\\u%04x", (unsigned char)p[1]);
    else
        buf_put(b, p, len);
}

static void put_json_string(struct buf *b, const char *z)
{
    const char *p = z;
    buf_ch(b, '"');
    while (*p && p - z < VALUE_MAX) {
        size_t len = char_len(p);
        put_char(b, p, len);
        p += len ? len : 1;
    }
    buf_z(b, *p ? "...\"" : "\"");
}

/* Text values are quoted only where they hold blanks; control characters never reach a terminal. */
static void put_text_value(struct buf *b, const char *z)
{
    bool plain = *z != '\0';
    for (const char *p = z; *p; p++)
        plain =
            plain && (unsigned char)*p > 0x20 && (unsigned char)*p < 0x7f && *p != '"' && *p != '=';
    if (plain && strlen(z) <= VALUE_MAX)
        buf_z(b, z);
    else
        put_json_string(b, z);
}

bool log_wants(enum log_level level)
{
    return level >= min_level;
}

void log_line(enum log_level level, const char *msg, ...)
{
    if (level < min_level)
        return;
    char at[CLOCK_TEXT_MAX];
    clock_format(at, clock_unix_us());
    AUTO_BUF struct buf b = BUF_INIT(LINE_MAX_BYTES);
    if (as_json) {
        buf_printf(&b, "{\"at\":\"%s\",\"level\":\"%s\",\"msg\":", at, level_names[level]);
        put_json_string(&b, msg);
    } else {
        buf_printf(&b, "%s %-5s %s", at, level_names[level], msg);
    }
    va_list ap;
    va_start(ap, msg);
    for (const char *key; (key = va_arg(ap, const char *));) {
        const char *value = va_arg(ap, const char *);
        buf_printf(&b, as_json ? ",\"%s\":" : " %s=", key);
        (as_json ? put_json_string : put_text_value)(&b, value ? value : "");
    }
    va_end(ap);
    buf_z(&b, as_json ? "}\n" : "\n");
    if (b.len && write(STDERR_FILENO, b.data, b.len) < 0)
        return; /* nowhere left to say so */
}

void log_err(enum log_level level, const char *msg, const struct err *err)
{
    log_line(level, msg, "error", err->msg, "code", err_name(err->code), NULL);
}
