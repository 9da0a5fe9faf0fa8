/* rand: bytes from the kernel. Any thread. Core never calls it: randomness reaches core by its
 * port. */
#ifndef OSTLER_BASE_RAND_H
#define OSTLER_BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

void rand_fill(void *p, size_t n); /* aborts if the kernel has none */
uint64_t rand_u64(void);

#endif
