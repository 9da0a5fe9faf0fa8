/* load: what the modes of the load generator share. */
#ifndef OSTLER_BENCH_LOAD_H
#define OSTLER_BENCH_LOAD_H

#include "base/buf.h"

struct lines {
    char **line;
    size_t n;
};

/* All lines of stdin; at least one. */
void lines_read(struct lines *l);
void lines_fini(struct lines *l);

/* argv[0] is the mode's name. */
int load_rate(int argc, char **argv);
int load_turns(int argc, char **argv);
int load_first(int argc, char **argv);
int load_fan(int argc, char **argv);
int load_stall(int argc, char **argv);

/* {"events":[a user.message that says `text`]} */
void put_message(struct buf *out, const char *text);

#endif
