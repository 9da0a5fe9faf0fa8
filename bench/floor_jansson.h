/* floor_jansson: jansson in a file of its own: its names and those of json/ are partly the same. */
#ifndef OSTLER_BENCH_FLOOR_JANSSON_H
#define OSTLER_BENCH_FLOOR_JANSSON_H

#include "base/str.h"

/* Nanoseconds to parse and free the text. */
int64_t jansson_parse(struct str text);

#endif
