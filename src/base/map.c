#include "base/map.h"

#include "base/mem.h"
#include "base/rand.h"

#include <pthread.h>

static char tombstone;
#define DELETED ((void *)&tombstone)

static uint64_t rotl(uint64_t x, int b)
{
    return (x << b) | (x >> (64 - b));
}

struct sip {
    uint64_t a, b, c, d;
};

static void sip_round(struct sip *v)
{
    v->a += v->b;
    v->b = rotl(v->b, 13) ^ v->a;
    v->a = rotl(v->a, 32);
    v->c += v->d;
    v->d = rotl(v->d, 16) ^ v->c;
    v->a += v->d;
    v->d = rotl(v->d, 21) ^ v->a;
    v->c += v->b;
    v->b = rotl(v->b, 17) ^ v->c;
    v->c = rotl(v->c, 32);
}

static uint64_t k[2];

static void choose_key(void)
{
    rand_fill(k, sizeof k);
}

/* SipHash-1-3. */
uint64_t map_hash(struct str key)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, choose_key);
    struct sip v = {k[0] ^ 0x736f6d6570736575, k[1] ^ 0x646f72616e646f6d, k[0] ^ 0x6c7967656e657261,
                    k[1] ^ 0x7465646279746573};
    size_t i = 0;
    for (; i + 8 <= key.len; i += 8) {
        uint64_t m;
        memcpy(&m, key.ptr + i, 8);
        v.d ^= m;
        sip_round(&v);
        v.a ^= m;
    }
    uint64_t last = (uint64_t)key.len << 56;
    for (size_t j = 0; i + j < key.len; j++)
        last |= (uint64_t)(unsigned char)key.ptr[i + j] << (8 * j);
    v.d ^= last;
    sip_round(&v);
    v.a ^= last;
    v.c ^= 0xff;
    for (int r = 0; r < 3; r++)
        sip_round(&v);
    return v.a ^ v.b ^ v.c ^ v.d;
}

void map_fini(struct map *m)
{
    mem_free(m->slots);
    *m = (struct map){0};
}

static struct map_slot *find(const struct map *m, struct str key, uint64_t hash)
{
    if (m->cap == 0)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_slot *s = &m->slots[i];
        if (!s->value)
            return NULL;
        if (s->value != DELETED && s->hash == hash && str_eq(s->key, key))
            return s;
    }
}

void *map_get(const struct map *m, struct str key)
{
    struct map_slot *s = find(m, key, map_hash(key));
    return s ? s->value : NULL;
}

static void insert(struct map *m, struct map_slot slot)
{
    size_t i = slot.hash & (m->cap - 1);
    while (m->slots[i].value && m->slots[i].value != DELETED)
        i = (i + 1) & (m->cap - 1);
    m->used += m->slots[i].value == NULL;
    m->slots[i] = slot;
    m->count++;
}

static void rehash(struct map *m)
{
    struct map old = *m;
    size_t cap = 8;
    while (cap < (m->count + 1) * 2)
        cap *= 2;
    *m = (struct map){.slots = mem_zalloc(cap * sizeof *m->slots), .cap = cap};
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].value && old.slots[i].value != DELETED)
            insert(m, old.slots[i]);
    mem_free(old.slots);
}

void *map_put(struct map *m, struct str key, void *value)
{
    uint64_t hash = map_hash(key);
    struct map_slot *s = find(m, key, hash);
    if (s) {
        void *old = s->value;
        s->key = key;
        s->value = value;
        return old;
    }
    if ((m->used + 1) * 4 > m->cap * 3)
        rehash(m);
    insert(m, (struct map_slot){key, value, hash});
    return NULL;
}

void *map_remove(struct map *m, struct str key)
{
    struct map_slot *s = find(m, key, map_hash(key));
    if (!s)
        return NULL;
    void *old = s->value;
    s->value = DELETED;
    s->key = STR_NONE;
    m->count--;
    return old;
}

void *map_next(const struct map *m, size_t *at, struct str *key)
{
    while (*at < m->cap) {
        struct map_slot *s = &m->slots[(*at)++];
        if (s->value && s->value != DELETED) {
            if (key)
                *key = s->key;
            return s->value;
        }
    }
    return NULL;
}
