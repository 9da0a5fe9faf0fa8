/* ports: the real clock and randomness behind core's ports. Loop thread. */
#ifndef OSTLER_CLI_PORTS_H
#define OSTLER_CLI_PORTS_H

#include "core/ports.h"
#include "io/loop.h"

struct clock_port ports_clock(struct loop *l);
struct rand_port ports_rand(void);

#endif
