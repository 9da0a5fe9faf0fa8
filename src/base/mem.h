/* mem: allocation that aborts with a message, and ownership helpers.
 *
 * Any thread. Exceeding a bound is an error value elsewhere (arena, buf); real exhaustion of memory
 * cannot be handled usefully on an overcommitting kernel and ends the process.
 */
#ifndef OSTLER_BASE_MEM_H
#define OSTLER_BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t len);  /* never NULL; free with mem_free */
void *mem_zalloc(size_t len); /* zeroed */
void *mem_realloc(void *p, size_t len);
char *mem_dupz(const char *s, size_t len); /* copy with a terminating NUL */
void mem_free(void *p);

/* Reads a pointer or descriptor variable and leaves its empty value behind. */
#define TAKE_PTR(p)                                                                                \
    ({                                                                                             \
        __typeof__(p) take_ = (p);                                                                 \
        (p) = NULL;                                                                                \
        take_;                                                                                     \
    })
#define TAKE_FD(fd)                                                                                \
    ({                                                                                             \
        int take_ = (fd);                                                                          \
        (fd) = -1;                                                                                 \
        take_;                                                                                     \
    })

#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static inline void mem_cleanup(void *pp)
{
    mem_free(*(void **)pp);
}
#define AUTO_FREE CLEANUP(mem_cleanup)

#endif
