/* query: typed reading of decoded query parameters. Pure; any thread.
 *
 * Unknown parameters are ignored by not being asked for. An empty value counts as absent. Of a
 * scalar given twice the last counts. Errors are INVALID with the parameter's name in `at`.
 */
#ifndef OSTLER_API_QUERY_H
#define OSTLER_API_QUERY_H

#include "http/http.h"

struct query {
    const struct http_param *params;
    size_t n;
};

struct str query_get(const struct query *q, const char *name); /* absent view if none */
/* `*out` is left alone when the parameter is absent. */
int query_i64(const struct query *q, const char *name, int64_t min, int64_t max, int64_t *out,
              struct err *err) MUST_USE;
int query_bool(const struct query *q, const char *name, bool *out, struct err *err) MUST_USE;
int query_enum(const struct query *q, const char *name, const char *const *names, int *out,
               struct err *err) MUST_USE;
int query_time(const struct query *q, const char *name, int64_t *out_us, struct err *err) MUST_USE;

/* The values of an array parameter in order, as "name[]" or repeated "name"; start with *at = 0. */
bool query_next(const struct query *q, const char *name, size_t *at, struct str *out);
/* A set of names as bits, bit i for names[i]. */
int query_set(const struct query *q, const char *name, const char *const *names, unsigned *out,
              struct err *err) MUST_USE;

/* created_at[gt], [gte], [lt], [lte] in unix microseconds; 0: not given. */
struct time_range {
    int64_t gt, gte, lt, lte;
};
int query_range(const struct query *q, const char *name, struct time_range *out,
                struct err *err) MUST_USE;
static inline bool time_range_any(const struct time_range *r)
{
    return r->gt || r->gte || r->lt || r->lte;
}
/* INVALID at "page" when a cursor made at `at_us` lies outside the range. */
int time_range_check(const struct time_range *r, int64_t at_us, struct err *err) MUST_USE;

#endif
