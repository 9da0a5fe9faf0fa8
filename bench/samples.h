/* samples: durations that were measured, their percentiles, results as one line of JSON.
 *
 * One thread. Times are CLOCK_MONOTONIC in nanoseconds, so that they compare between processes;
 * reported in microseconds.
 */
#ifndef OSTLER_BENCH_SAMPLES_H
#define OSTLER_BENCH_SAMPLES_H

#include "base/mem.h"

#include <stdint.h>
#include <stdio.h>

struct samples {
    int64_t *ns;
    size_t n, cap;
};

int64_t now_ns(void);

void samples_add(struct samples *s, int64_t ns);
void samples_fini(struct samples *s);
/* `q` from 0 to 1; sorts. 0 without samples. */
int64_t samples_at(struct samples *s, double q);
/* "NAME":{"n":..,"p50":..,"p90":..,"p99":..,"max":..,"mean":..}, microseconds with a fraction. */
void samples_print(FILE *out, const char *name, struct samples *s);

/* Prints "bench: ..." to stderr and exits with 1. */
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A whole number from the command line; anything else ends the program. */
int64_t number(const char *text, int64_t min, int64_t max);
/* Raises the soft limit of open files to the hard one. */
void raise_files(void);
/* Prints {"port":N} as the one line that the driver waits for. */
void announce_port(int port);

#endif
