#include "api/query.h"

#include "base/clock.h"

#include <stdio.h>

struct str query_get(const struct query *q, const char *name)
{
    for (size_t i = q->n; i-- > 0;)
        if (str_eqz(q->params[i].name, name) && q->params[i].value.len > 0)
            return q->params[i].value;
    return STR_NONE;
}

int query_i64(const struct query *q, const char *name, int64_t min, int64_t max, int64_t *out,
              struct err *err)
{
    struct str v = query_get(q, name);
    if (!str_some(v))
        return 0;
    int64_t n;
    if (!str_i64(v, &n))
        return err_at(err, ERR_INVALID, name, "%s: Input should be a valid integer", name);
    if (n < min)
        return err_at(err, ERR_INVALID, name, "%s: Input should be greater than or equal to %lld",
                      name, (long long)min);
    if (n > max)
        return err_at(err, ERR_INVALID, name, "%s: Input should be less than or equal to %lld",
                      name, (long long)max);
    *out = n;
    return 0;
}

int query_bool(const struct query *q, const char *name, bool *out, struct err *err)
{
    struct str v = query_get(q, name);
    if (!str_some(v))
        return 0;
    bool yes = str_eq_nocase(v, STR("true")) || str_eqz(v, "1");
    if (!yes && !str_eq_nocase(v, STR("false")) && !str_eqz(v, "0"))
        return err_at(err, ERR_INVALID, name, "%s: Input should be 'true' or 'false'", name);
    *out = yes;
    return 0;
}

static int refuse_name(const char *name, const char *const *names, struct err *err)
{
    char list[224];
    size_t n = 0;
    list[0] = '\0';
    for (size_t i = 0; names[i] && n < sizeof list - 1; i++) {
        const char *glue = i == 0 ? "" : names[i + 1] ? ", " : " or ";
        int w = snprintf(list + n, sizeof list - n, "%s'%s'", glue, names[i]);
        if (w < 0)
            break;
        n += (size_t)w;
    }
    return err_at(err, ERR_INVALID, name, "%s: Input should be %s", name, list);
}

static int name_index(struct str v, const char *const *names)
{
    for (int i = 0; names[i]; i++)
        if (str_eqz(v, names[i]))
            return i;
    return -1;
}

int query_enum(const struct query *q, const char *name, const char *const *names, int *out,
               struct err *err)
{
    struct str v = query_get(q, name);
    if (!str_some(v))
        return 0;
    int i = name_index(v, names);
    if (i < 0)
        return refuse_name(name, names, err);
    *out = i;
    return 0;
}

/* A '+' that the client did not encode arrives as a blank: "...T00:00:00 00:00" means "+00:00". */
static bool parse_time(struct str v, int64_t *out)
{
    if (clock_parse(v, out))
        return true;
    char fixed[64];
    if (v.len < 6 || v.len >= sizeof fixed || v.ptr[v.len - 6] != ' ')
        return false;
    memcpy(fixed, v.ptr, v.len);
    fixed[v.len - 6] = '+';
    return clock_parse(str_n(fixed, v.len), out);
}

int query_time(const struct query *q, const char *name, int64_t *out_us, struct err *err)
{
    struct str v = query_get(q, name);
    if (!str_some(v))
        return 0;
    int64_t us;
    if (!parse_time(v, &us))
        return err_at(err, ERR_INVALID, name,
                      "%s: Input should be an RFC 3339 time such as 2026-11-20T21:20:00Z", name);
    *out_us = us;
    return 0;
}

bool query_next(const struct query *q, const char *name, size_t *at, struct str *out)
{
    struct str plain = str_z(name);
    while (*at < q->n) {
        const struct http_param *p = &q->params[(*at)++];
        if (str_starts(p->name, plain) && p->value.len > 0 &&
            (p->name.len == plain.len || str_eqz(str_skip(p->name, plain.len), "[]"))) {
            *out = p->value;
            return true;
        }
    }
    return false;
}

int query_set(const struct query *q, const char *name, const char *const *names, unsigned *out,
              struct err *err)
{
    struct str v;
    for (size_t at = 0; query_next(q, name, &at, &v);) {
        int i = name_index(v, names);
        if (i < 0)
            return refuse_name(name, names, err);
        *out |= 1u << i;
    }
    return 0;
}

int query_range(const struct query *q, const char *name, struct time_range *out, struct err *err)
{
    static const char *const ops[] = {"gt", "gte", "lt", "lte"};
    int64_t *const to[] = {&out->gt, &out->gte, &out->lt, &out->lte};
    *out = (struct time_range){0};
    for (size_t i = 0; i < COUNT_OF(ops); i++) {
        char key[48];
        snprintf(key, sizeof key, "%s[%s]", name, ops[i]);
        int64_t us = INT64_MIN;
        int rc = query_time(q, key, &us, err);
        if (rc)
            return rc;
        /* 0 means "not given" further down: a lower bound before 1970 bounds nothing, an upper
         * one excludes everything, which the first microsecond of 1970 does as well. */
        if (us != INT64_MIN)
            *to[i] = us > 0 ? us : i < 2 ? 0 : 1;
    }
    return 0;
}

int time_range_check(const struct time_range *r, int64_t at_us, struct err *err)
{
    if (at_us && ((r->gt && at_us <= r->gt) || (r->gte && at_us < r->gte) ||
                  (r->lt && at_us >= r->lt) || (r->lte && at_us > r->lte)))
        return err_at(err, ERR_INVALID, "page",
                      "page: The cursor's position lies outside created_at; keep the range while "
                      "paging, or start without a cursor");
    return 0;
}
