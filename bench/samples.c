#include "samples.h"

#include "base/str.h"

#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void samples_add(struct samples *s, int64_t ns)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 1024;
        s->ns = mem_realloc(s->ns, s->cap * sizeof *s->ns);
    }
    s->ns[s->n++] = ns;
}

void samples_fini(struct samples *s)
{
    mem_free(s->ns);
    *s = (struct samples){0};
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

int64_t samples_at(struct samples *s, double q)
{
    if (s->n == 0)
        return 0;
    qsort(s->ns, s->n, sizeof *s->ns, compare);
    return s->ns[(size_t)(q * (double)(s->n - 1) + 0.5)];
}

void samples_print(FILE *out, const char *name, struct samples *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->n; i++)
        sum += (double)s->ns[i] / 1e3;
    fprintf(out,
            "\"%s\":{\"n\":%zu,\"p50\":%.2f,\"p90\":%.2f,\"p99\":%.2f,\"max\":%.2f,"
            "\"mean\":%.2f}",
            name, s->n, (double)samples_at(s, 0.5) / 1e3, (double)samples_at(s, 0.9) / 1e3,
            (double)samples_at(s, 0.99) / 1e3, (double)samples_at(s, 1) / 1e3,
            s->n ? sum / (double)s->n : 0.0);
}

void die(const char *fmt, ...)
{
    va_list ap;
    fputs("bench: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

int64_t number(const char *text, int64_t min, int64_t max)
{
    int64_t v;
    if (!text || !str_i64(str_z(text), &v) || v < min || v > max)
        die("'%s' is not a number from %lld to %lld", text ? text : "", (long long)min,
            (long long)max);
    return v;
}

void raise_files(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}

void announce_port(int port)
{
    printf("{\"port\":%d}\n", port);
    fflush(stdout);
}
