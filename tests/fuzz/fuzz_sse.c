/* Event streams of any bytes: the events must not depend on how the bytes are cut. */
#include "http/sse.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { EVENT_MAX = 4096 };

struct sum {
    uint64_t hash, events;
};

static void add(struct sum *s, struct str v)
{
    for (size_t i = 0; i < v.len; i++)
        s->hash = (s->hash ^ (unsigned char)v.ptr[i]) * 1099511628211ULL;
    s->hash = (s->hash ^ 0x100) * 1099511628211ULL;
}

static void on_event(void *arg, const struct sse_event *ev)
{
    struct sum *s = arg;
    s->events++;
    add(s, ev->type);
    add(s, ev->id);
    add(s, ev->data);
}

static int run(struct str in, size_t cut, struct sum *out)
{
    struct sse_reader r;
    sse_reader_init(&r, EVENT_MAX, on_event, out);
    int rc = 0;
    for (; in.len && rc == 0; in = str_skip(in, cut))
        rc = sse_reader_feed(&r, str_take(in, cut), NULL);
    sse_reader_fini(&r);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    struct str in = str_n((const char *)data + 1, len - 1);
    struct sum whole = {.hash = 1}, cut = {.hash = 1};
    int a = run(in, in.len, &whole);
    int b = run(in, (size_t)data[0] + 1, &cut);
    /* The bound may strike at another place; without it the events are the same. */
    if (a == 0 && b == 0 && (whole.hash != cut.hash || whole.events != cut.events))
        abort();
    return 0;
}
