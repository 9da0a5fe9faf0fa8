#include "base/bytes.h"

#include <assert.h>

struct bytes *bytes_new(struct str s)
{
    struct bytes *b = mem_alloc(sizeof *b + s.len + 1);
    b->refs = 1;
    b->len = s.len;
    if (s.len)
        memcpy(b->data, s.ptr, s.len);
    b->data[s.len] = '\0';
    return b;
}

struct bytes *bytes_ref(struct bytes *b)
{
    assert(b->refs > 0);
    b->refs++;
    return b;
}

void bytes_unref(struct bytes *b)
{
    if (!b)
        return;
    assert(b->refs > 0);
    if (--b->refs == 0)
        mem_free(b);
}
