#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *or_abort(void *p, size_t len)
{
    if (!p && len) {
        fprintf(stderr, "ostler: out of memory (%zu bytes)\n", len);
        abort();
    }
    return p;
}

void *mem_alloc(size_t len)
{
    return or_abort(malloc(len ? len : 1), len);
}

void *mem_zalloc(size_t len)
{
    return or_abort(calloc(1, len ? len : 1), len);
}

void *mem_realloc(void *p, size_t len)
{
    return or_abort(realloc(p, len ? len : 1), len);
}

char *mem_dupz(const char *s, size_t len)
{
    char *copy = mem_alloc(len + 1);
    if (len)
        memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

void mem_free(void *p)
{
    free(p);
}
