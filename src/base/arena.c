#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>

enum { CHUNK_MIN = 4096, CHUNK_STEP_MAX = 1 << 20, ALIGN = _Alignof(max_align_t) };

struct arena_chunk {
    struct arena_chunk *next;
    size_t len;
    _Alignas(max_align_t) char data[];
};

void arena_init(struct arena *a, size_t max_bytes)
{
    *a = (struct arena){.max_bytes = max_bytes};
}

void arena_fini(struct arena *a)
{
    arena_reset(a);
}

void arena_reset(struct arena *a)
{
    while (a->head) {
        struct arena_chunk *c = a->head;
        a->head = c->next;
        mem_free(c);
    }
    arena_init(a, a->max_bytes);
}

/* Chunks double up to a step, so that small arenas stay small and large ones cost few mallocs. */
static void grow(struct arena *a, size_t need)
{
    size_t len = a->head ? a->head->len * 2 : CHUNK_MIN;
    if (len > CHUNK_STEP_MAX)
        len = CHUNK_STEP_MAX;
    if (len < need)
        len = need;
    struct arena_chunk *c = mem_alloc(sizeof *c + len);
    c->len = len;
    c->next = a->head;
    a->head = c;
    a->at = c->data;
    a->end = c->data + len;
}

static char *cut(struct arena *a, size_t len, size_t align)
{
    size_t pad = a->at ? (size_t)(-(uintptr_t)a->at & (align - 1)) : 0;
    if (a->failed || len > a->max_bytes - a->used_bytes || len > SIZE_MAX / 2) {
        a->failed = true;
        return NULL;
    }
    if (!a->at || (size_t)(a->end - a->at) < len + pad) {
        grow(a, len);
        pad = 0;
    }
    char *p = a->at + pad;
    a->at = p + len;
    a->used_bytes += len;
    return p;
}

void *arena_alloc(struct arena *a, size_t len)
{
    void *p = cut(a, len, ALIGN);
    return p ? memset(p, 0, len) : NULL;
}

char *arena_bytes(struct arena *a, size_t len)
{
    return cut(a, len, 1);
}

char *arena_strz(struct arena *a, struct str s)
{
    char *p = cut(a, s.len + 1, 1);
    if (!p)
        return NULL;
    if (s.len)
        memcpy(p, s.ptr, s.len);
    p[s.len] = '\0';
    return p;
}

struct str arena_str(struct arena *a, struct str s)
{
    char *p = arena_strz(a, s);
    return p ? str_n(p, s.len) : STR_NONE;
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap, ap2;
    va_start(ap, fmt);
    va_copy(ap2, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : cut(a, (size_t)n + 1, 1);
    if (p)
        vsnprintf(p, (size_t)n + 1, fmt, ap2);
    va_end(ap2);
    return p ? str_n(p, (size_t)n) : STR_NONE;
}
