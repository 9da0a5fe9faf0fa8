#include "base/rand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

void rand_fill(void *p, size_t n)
{
    char *to = p;
    while (n) {
        ssize_t got = getrandom(to, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            perror("ostler: getrandom");
            abort();
        }
        to += got;
        n -= (size_t)got;
    }
}

uint64_t rand_u64(void)
{
    uint64_t v;
    rand_fill(&v, sizeof v);
    return v;
}
