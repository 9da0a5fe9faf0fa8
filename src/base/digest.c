/* Two XXH64 with different seeds. The library's own 128-bit hash is twice as fast, but its state is
 * 576 bytes that must lie at a multiple of 64: nothing to embed in structures from malloc(). */
#include "base/digest.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const XXH64_hash_t seeds[2] = {0, 0x9E3779B97F4A7C15ull};

_Static_assert(sizeof(XXH64_state_t) == sizeof(((struct digest *)0)->state[0]), "size of a state");

/* Copied in and out instead of cast: the library may touch its type only as its type. */
void digest_init(struct digest *d)
{
    for (size_t i = 0; i < 2; i++) {
        XXH64_state_t s;
        (void)XXH64_reset(&s, seeds[i]);
        memcpy(d->state[i], &s, sizeof s);
    }
}

void digest_update(struct digest *d, const void *p, size_t n)
{
    if (n == 0)
        return;
    for (size_t i = 0; i < 2; i++) {
        XXH64_state_t s;
        memcpy(&s, d->state[i], sizeof s);
        (void)XXH64_update(&s, p, n);
        memcpy(d->state[i], &s, sizeof s);
    }
}

void digest_field(struct digest *d, struct str text)
{
    digest_update(d, text.ptr, text.len);
    digest_update(d, "", 1);
}

void digest_hex(const struct digest *d, char out[DIGEST_HEX_LEN + 1])
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < 2; i++) {
        XXH64_state_t s;
        memcpy(&s, d->state[i], sizeof s);
        XXH64_hash_t h = XXH64_digest(&s);
        for (size_t k = 0; k < 16; k++)
            out[16 * i + k] = hex[(h >> (60 - 4 * k)) & 15];
    }
    out[DIGEST_HEX_LEN] = '\0';
}
