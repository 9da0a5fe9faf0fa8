/* utf8: one step over UTF-8 text, shared by reader and writer; internal to json/. Any thread. */
#ifndef OSTLER_JSON_UTF8_H
#define OSTLER_JSON_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes to step over at p (n >= 1 left): a well-formed sequence, or with *ok false the longest
 * prefix that could have begun one, so that cut text costs one replacement character, not several.
 */
static inline size_t utf8_step(const unsigned char *p, size_t n, bool *ok)
{
    unsigned lead = p[0], low = 0x80, high = 0xBF;
    *ok = lead < 0x80;
    if (lead < 0xC2 || lead > 0xF4)
        return 1;
    size_t len = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    /* The second byte alone rules out overlong forms, surrogates and what lies past U+10FFFF. */
    if (lead == 0xE0)
        low = 0xA0;
    else if (lead == 0xED)
        high = 0x9F;
    else if (lead == 0xF0)
        low = 0x90;
    else if (lead == 0xF4)
        high = 0x8F;
    for (size_t i = 1; i < len; i++) {
        if (i >= n || p[i] < low || p[i] > high)
            return i;
        low = 0x80;
        high = 0xBF;
    }
    *ok = true;
    return len;
}

#endif
