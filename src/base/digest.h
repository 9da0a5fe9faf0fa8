/* digest: a streaming 128-bit digest, to recognise bytes that were seen before.
 *
 * Not a secret and no defence: whoever wants two texts with one digest can make them. For that
 * there is SHA-256 (store/blob). A plain value without memory of its own: assignment copies the
 * state, so that a text that only grows is read once. The same bytes give the same digest whatever
 * the pieces, the machine and the version: it is stored.
 */
#ifndef OSTLER_BASE_DIGEST_H
#define OSTLER_BASE_DIGEST_H

#include "base/str.h"

enum { DIGEST_HEX_LEN = 32 };

struct digest {
    uint64_t state[2][11]; /* the library's, seen by digest.c only */
};

void digest_init(struct digest *d);
void digest_update(struct digest *d, const void *p, size_t n);
/* The text and a NUL byte after it: ("ab","c") and ("a","bc") differ. An absent text is an empty
 * one. */
void digest_field(struct digest *d, struct str text);
/* Of all so far; the digest can go on. */
void digest_hex(const struct digest *d, char out[DIGEST_HEX_LEN + 1]);

#endif
