#include "json/decode.h"
#include "json/utf8.h"

#include <stdio.h>

/* Room for a pointer's text; DOTS mark one that was cut. */
enum { POINTER_MAX = ERR_AT_MAX - 1 };
#define DOTS "..."

/* Where the last whole unit (code point or ~ escape) at or before `max` ends. */
static size_t unit_end(const char *p, size_t len, size_t max)
{
    size_t end = 0;
    while (end < len) {
        bool ok;
        size_t step = p[end] == '~' && end + 1 < len
                          ? 2
                          : utf8_step((const unsigned char *)p + end, len - end, &ok);
        if (end + step > max)
            break;
        end += step;
    }
    return end;
}

/* A cut pointer is filled to the last byte, so that whoever appends next cuts it again. */
static void cut(char out[ERR_AT_MAX], size_t len)
{
    size_t end = unit_end(out, len, POINTER_MAX - (sizeof DOTS - 1));
    memset(out + end, '.', POINTER_MAX - end);
    out[POINTER_MAX] = '\0';
}

/* One unit of a key in its escaped form; returns the bytes taken from the key. */
static size_t unit(struct str key, size_t i, char text[8], size_t *len)
{
    const unsigned char *p = (const unsigned char *)key.ptr + i;
    bool ok;
    size_t step = utf8_step(p, key.len - i, &ok);
    if (*p == '~' || *p == '/')
        *len = (size_t)snprintf(text, 8, "~%c", *p == '~' ? '0' : '1');
    else if (*p < 0x20 || *p == 0x7F)
        *len = (size_t)snprintf(text, 8, "\\u%04x", *p);
    else if (!ok)
        *len = (size_t)snprintf(text, 8, "\xEF\xBF\xBD");
    else
        memcpy(text, p, *len = step);
    return step;
}

void json_pointer_key(char out[ERR_AT_MAX], const char *at, struct str key)
{
    size_t len = strnlen(at, ERR_AT_MAX);
    memmove(out, at, len < ERR_AT_MAX ? len : POINTER_MAX);
    if (len >= POINTER_MAX) {
        cut(out, POINTER_MAX);
        return;
    }
    out[len++] = '/';
    for (size_t i = 0; i < key.len;) {
        char text[8];
        size_t n;
        i += unit(key, i, text, &n);
        if (len + n > POINTER_MAX) {
            cut(out, len);
            return;
        }
        memcpy(out + len, text, n);
        len += n;
    }
    out[len] = '\0';
}

void json_pointer_index(char out[ERR_AT_MAX], const char *at, size_t index)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%zu", index);
    json_pointer_key(out, at, str_n(text, (size_t)n));
}
