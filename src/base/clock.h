/* clock: wall and monotonic time, and RFC 3339 text. Any thread. Core never calls the readers: time
 * reaches core by its port. Wall times are microseconds since 1970 UTC.
 */
#ifndef OSTLER_BASE_CLOCK_H
#define OSTLER_BASE_CLOCK_H

#include "base/str.h"

int64_t clock_unix_us(void);
int64_t clock_mono_us(void);

#define CLOCK_TEXT_MAX 32
/* "2026-11-20T21:20:21.123456Z"; returns its length (27). Years 1970 to 9999. */
size_t clock_format(char out[CLOCK_TEXT_MAX], int64_t unix_us);
/* Accepts any RFC 3339 time with 'Z' or an offset, 0 to 9 fraction digits (cut to microseconds). */
bool clock_parse(struct str text, int64_t *unix_us);

#endif
