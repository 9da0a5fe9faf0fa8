/* arena: memory of one lifetime (a request, a turn step, a config), freed at once.
 *
 * Owned and used by one thread at a time. Bounded: past `max_bytes` an allocation returns NULL and
 * `failed` stays set, so that a builder can check once at its end.
 */
#ifndef OSTLER_BASE_ARENA_H
#define OSTLER_BASE_ARENA_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

struct arena_chunk;

struct arena {
    struct arena_chunk *head;
    char *at, *end;
    size_t used_bytes; /* handed out, alignment included */
    size_t max_bytes;
    bool failed;
};

void arena_init(struct arena *a, size_t max_bytes);
void arena_fini(struct arena *a);
void arena_reset(struct arena *a); /* frees everything, keeps the bound */

/* Zeroed, aligned for any type. NULL past the bound. */
void *arena_alloc(struct arena *a, size_t len) MUST_USE;
/* Not zeroed, not aligned: for bytes. */
char *arena_bytes(struct arena *a, size_t len) MUST_USE;
/* Copies with a terminating NUL behind the view; an absent view past the bound. */
struct str arena_str(struct arena *a, struct str s);
struct str arena_printf(struct arena *a, const char *fmt, ...) PRINTF(2, 3);
char *arena_strz(struct arena *a, struct str s); /* same, as a C string; NULL past the bound */

#define ARENA_NEW(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, n) ((type *)arena_alloc((a), sizeof(type) * (size_t)(n)))
#define AUTO_ARENA CLEANUP(arena_fini)

#endif
