/* bytes: immutable, counted bytes: an event encoded once and handed to every stream.
 *
 * Loop thread only: the count is not atomic. The last unref frees.
 */
#ifndef OSTLER_BASE_BYTES_H
#define OSTLER_BASE_BYTES_H

#include "base/buf.h"

struct bytes {
    unsigned refs;
    size_t len;
    char data[];
};

struct bytes *bytes_new(struct str s); /* one reference, the caller's */
struct bytes *bytes_ref(struct bytes *b);
void bytes_unref(struct bytes *b); /* NULL is fine */

static inline struct str bytes_view(const struct bytes *b)
{
    return str_n(b->data, b->len);
}

#endif
