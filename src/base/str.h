/* str: a borrowed view of bytes: pointer and length, not terminated, may hold NUL.
 *
 * A value; whoever made the bytes owns them. An empty view may have a NULL pointer; "absent" is
 * told apart from "empty" by str_some().
 */
#ifndef OSTLER_BASE_STR_H
#define OSTLER_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *ptr;
    size_t len;
};

#define STR(lit) ((struct str){"" lit, sizeof(lit) - 1})
#define STR_NONE ((struct str){NULL, 0})
#define STR_FMT "%.*s"
#define STR_ARG(s) ((int)(s).len), ((s).ptr ? (s).ptr : "")

static inline struct str str_n(const char *p, size_t n)
{
    return (struct str){p, n};
}

static inline struct str str_z(const char *z)
{
    return z ? (struct str){z, strlen(z)} : STR_NONE;
}

static inline bool str_some(struct str s)
{
    return s.ptr != NULL;
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool str_eqz(struct str a, const char *z)
{
    return str_eq(a, str_z(z));
}

static inline bool str_starts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && memcmp(s.ptr, prefix.ptr, prefix.len) == 0;
}

static inline bool str_ends(struct str s, struct str suffix)
{
    return s.len >= suffix.len && memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0;
}

static inline struct str str_skip(struct str s, size_t n)
{
    return n >= s.len ? (struct str){s.ptr ? s.ptr + s.len : NULL, 0}
                      : (struct str){s.ptr + n, s.len - n};
}

static inline struct str str_take(struct str s, size_t n)
{
    return (struct str){s.ptr, n < s.len ? n : s.len};
}

/* The value of a hexadecimal digit in either case, or -1. */
static inline int str_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int str_cmp(struct str a, struct str b);
bool str_eq_nocase(struct str a, struct str b); /* ASCII only */
struct str str_trim(struct str s);              /* space, tab, CR, LF at both ends */
/* Position of `needle` in `s`, or -1. */
ptrdiff_t str_find(struct str s, struct str needle);
ptrdiff_t str_find_ch(struct str s, char c);
/* Cuts `*rest` at the first `sep`: returns what stands before it and leaves what follows; the last
 * piece leaves an absent rest. Loop while str_some(rest). */
struct str str_split(struct str *rest, char sep);
/* Whole view as a decimal number; false on anything else or overflow. */
bool str_i64(struct str s, int64_t *out);
/* True when the bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool str_utf8(struct str s);
/* Number of code points; the bytes must be valid UTF-8. */
size_t str_utf8_len(struct str s);
/* Largest prefix of at most `max` bytes that does not cut a code point. */
struct str str_utf8_take(struct str s, size_t max);
/* Copies into a fixed buffer with terminating NUL; false (and an empty string) when it does not
 * fit. */
bool str_copyz(char *dst, size_t cap, struct str s);

#endif
