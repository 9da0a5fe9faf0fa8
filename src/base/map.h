/* map: hash map from a byte string to a pointer. Open addressing, SipHash with a random key per
 * process, so that outside names cannot aim at collisions.
 *
 * One thread. The map borrows the key bytes: they must live as long as the entry (keep them in the
 * value). Values are never NULL.
 */
#ifndef OSTLER_BASE_MAP_H
#define OSTLER_BASE_MAP_H

#include "base/str.h"

struct map_slot {
    struct str key;
    void *value; /* NULL: free; a private marker: deleted */
    uint64_t hash;
};

struct map {
    struct map_slot *slots;
    size_t cap, count, used;
};

void map_fini(struct map *m);                              /* frees the table, not the values */
void *map_get(const struct map *m, struct str key);        /* NULL when absent */
void *map_put(struct map *m, struct str key, void *value); /* the value replaced, or NULL */
void *map_remove(struct map *m, struct str key);           /* the value removed, or NULL */
/* Iteration in no order: start with *at = 0; NULL at the end. Do not put while iterating; removing
 * the entry just returned is fine. */
void *map_next(const struct map *m, size_t *at, struct str *key);

uint64_t map_hash(struct str key);

#endif
