#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_unix_us(void)
{
    return read_us(CLOCK_REALTIME);
}

int64_t clock_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

size_t clock_format(char out[CLOCK_TEXT_MAX], int64_t unix_us)
{
    time_t s = (time_t)(unix_us / 1000000);
    int us = (int)(unix_us % 1000000);
    struct tm tm;
    gmtime_r(&s, &tm);
    int n = snprintf(out, CLOCK_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ",
                     (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
                     tm.tm_sec, us);
    return (size_t)n;
}

static bool digits(struct str s, size_t at, size_t n, int *out)
{
    int64_t v;
    if (at + n > s.len || s.ptr[at] == '-' || !str_i64(str_n(s.ptr + at, n), &v))
        return false;
    *out = (int)v;
    return true;
}

/* The fraction and the zone behind "YYYY-MM-DDTHH:MM:SS". */
static bool parse_tail(struct str t, int64_t *us, int *offset_min)
{
    int64_t frac = 0, scale = 100000;
    if (t.len && t.ptr[0] == '.') {
        t = str_skip(t, 1);
        size_t n = 0;
        for (; n < t.len && t.ptr[n] >= '0' && t.ptr[n] <= '9'; n++, scale /= 10)
            frac += (t.ptr[n] - '0') * scale;
        if (n == 0 || n > 9)
            return false;
        t = str_skip(t, n);
    }
    *us = frac;
    *offset_min = 0;
    if (t.len == 1 && (t.ptr[0] == 'Z' || t.ptr[0] == 'z'))
        return true;
    int h, m;
    if (t.len != 6 || (t.ptr[0] != '+' && t.ptr[0] != '-') || t.ptr[3] != ':' ||
        !digits(t, 1, 2, &h) || !digits(t, 4, 2, &m) || h > 23 || m > 59)
        return false;
    *offset_min = (t.ptr[0] == '-' ? -1 : 1) * (h * 60 + m);
    return true;
}

bool clock_parse(struct str s, int64_t *unix_us)
{
    struct tm tm = {0};
    if (s.len < 20 || s.ptr[4] != '-' || s.ptr[7] != '-' ||
        (s.ptr[10] != 'T' && s.ptr[10] != 't' && s.ptr[10] != ' ') || s.ptr[13] != ':' ||
        s.ptr[16] != ':')
        return false;
    if (!digits(s, 0, 4, &tm.tm_year) || !digits(s, 5, 2, &tm.tm_mon) ||
        !digits(s, 8, 2, &tm.tm_mday) || !digits(s, 11, 2, &tm.tm_hour) ||
        !digits(s, 14, 2, &tm.tm_min) || !digits(s, 17, 2, &tm.tm_sec))
        return false;
    if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 ||
        tm.tm_min > 59 || tm.tm_sec > 60)
        return false;
    int64_t us;
    int offset_min;
    if (!parse_tail(str_skip(s, 19), &us, &offset_min))
        return false;
    int mday = tm.tm_mday;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    time_t t = timegm(&tm);
    if (tm.tm_mday != mday) /* 31 April */
        return false;
    *unix_us = ((int64_t)t - offset_min * 60) * 1000000 + us;
    return true;
}
