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

static void put_json_string(struct buf *b, const char *z)
{
    buf_ch(b, '"');
    for (; *z; z++) {
        unsigned char c = (unsigned char)*z;
        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c < 0x20)
            buf_printf(b, "\\u%04x", c);
        else
            buf_ch(b, (char)c);
    }
    buf_ch(b, '"');
}

/* Text values are quoted only where they hold blanks; control characters never reach a terminal. */
static void put_text_value(struct buf *b, const char *z)
{
    bool plain = *z != '\0';
    for (const char *p = z; *p; p++)
        plain = plain && (unsigned char)*p > 0x20 && *p != '"' && *p != '=';
    if (plain)
        buf_z(b, z);
    else
        put_json_string(b, z);
}

void log_line(enum log_level level, const char *msg, ...)
{
    if (level < min_level)
        return;
    char at[CLOCK_TEXT_MAX];
    clock_format(at, clock_unix_us());
    AUTO_BUF struct buf b = BUF_INIT(16384);
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
