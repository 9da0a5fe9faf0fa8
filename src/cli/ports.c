#include "cli/ports.h"

#include "base/clock.h"
#include "base/rand.h"

struct port_timer {
    struct loop_timer timer;
    void (*fn)(void *arg);
    void *arg;
};

static int64_t now_us(void *self)
{
    (void)self;
    return clock_unix_us();
}

static void closed(struct loop_timer *t)
{
    mem_free(CONTAINER_OF(t, struct port_timer, timer));
}

static void fired(struct loop_timer *t)
{
    struct port_timer *p = CONTAINER_OF(t, struct port_timer, timer);
    void (*fn)(void *) = p->fn;
    void *arg = p->arg;
    loop_timer_close(t, closed); /* the memory goes later; the timer is gone for its owner now */
    fn(arg);
}

static struct port_timer *start(void *self, int64_t delay_ms, void (*fn)(void *arg), void *arg)
{
    struct port_timer *p = mem_zalloc(sizeof *p);
    p->fn = fn;
    p->arg = arg;
    loop_timer_init(self, &p->timer);
    loop_timer_start(&p->timer, delay_ms > 0 ? delay_ms : 0, fired);
    return p;
}

static void cancel(void *self, struct port_timer *t)
{
    (void)self;
    loop_timer_close(&t->timer, closed);
}

static void fill(void *self, void *p, size_t n)
{
    (void)self;
    rand_fill(p, n);
}

struct clock_port ports_clock(struct loop *l)
{
    return (struct clock_port){.self = l, .unix_us = now_us, .start = start, .cancel = cancel};
}

struct rand_port ports_rand(void)
{
    return (struct rand_port){.fill = fill};
}
