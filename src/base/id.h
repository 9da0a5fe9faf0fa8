/* id: object ids, `prefix_01` and 22 base58 characters, sortable by creation time.
 *
 * The 22 characters are a 128-bit number: 48 bits of milliseconds, 80 random bits. Ids of one
 * process made in one millisecond are made increasing by counting the random part up. Any thread.
 */
#ifndef OSTLER_BASE_ID_H
#define OSTLER_BASE_ID_H

#include "base/str.h"

#define ID_MAX 40

struct id {
    char z[ID_MAX]; /* NUL-terminated; empty string: none */
};

/* From a time and 10 random bytes: pure, for core and the simulator. */
struct id id_make(const char *prefix, int64_t unix_ms, const unsigned char entropy[10]);
/* From the wall clock and the kernel's randomness. */
struct id id_new(const char *prefix);
/* True when `s` is `prefix_` followed by 1 to 32 of [A-Za-z0-9_-]: what a route may look up. */
bool id_valid(struct str s, const char *prefix);
/* Copies; an empty id when it does not fit. */
struct id id_from(struct str s);

static inline struct str id_str(const struct id *id)
{
    return str_z(id->z);
}

#endif
