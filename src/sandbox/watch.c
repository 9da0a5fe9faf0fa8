/* While calls run: limits that were hit, hands that do not answer, calls that do not end.
 *
 * Every 250 ms a job reads the cgroup's counters and how full the disk is. A counter that rose ends
 * the calls that run, with the reason; so does the directories' size. */
#include "sandbox/box.h"

#include "base/clock.h"
#include "sandbox/tree.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/statvfs.h>

#define DISK_SLACK ((uint64_t)16 << 20)
enum { DISK_MS = 1000, DISK_SHARE = 20 }; /* at most a twentieth of the time is spent measuring */

/* A sample outlives its box if need be. */
struct watch {
    struct loop_work work;
    struct sandboxes *s;
    struct box *box; /* NULL: gone */
    struct id id;
    char unit[ID_MAX + 40];
    struct cgroup_counters counters;
    uint64_t limit, used, free_then, free_now;
    int64_t took_us; /* measuring */
    bool due, measured;
};

static uint64_t free_bytes(const char *dir)
{
    struct statvfs v;
    return statvfs(dir, &v) == 0 ? (uint64_t)v.f_bfree * v.f_frsize : 0;
}

void disk_measure(const struct session_paths *p, uint64_t *used, uint64_t *left)
{
    *left = free_bytes(p->workspace);
    *used = tree_usage(p->workspace) + tree_usage(p->tmp) + tree_usage(p->home) +
            tree_usage(p->outputs) + (p->oci ? oci_usage(p->root) : 0);
}

/* Walking the directories four times a second would cost too much: they are measured when the file
 * system has lost enough for the limit to be passed, and, as others may free what this sandbox
 * takes, also from time to time: the quicker it is, the more often. */
static void sample_work(struct loop_work *w)
{
    struct watch *m = CONTAINER_OF(w, struct watch, work);
    struct session_paths p;
    session_paths(&m->s->host, m->id.z, &p);
    cgroup_read(&m->s->host.cg, m->unit, &m->counters);
    m->free_now = free_bytes(p.workspace);
    uint64_t lost = m->free_then > m->free_now ? m->free_then - m->free_now : 0;
    m->measured = m->due || m->used + lost > m->limit;
    if (!m->measured)
        return;
    int64_t began_us = clock_mono_us();
    disk_measure(&p, &m->used, &m->free_now);
    m->took_us = clock_mono_us() - began_us;
}

static void hit(struct box *b, const char *reason, const char *message)
{
    if (b->limit_sent)
        return;
    b->limit_sent = true;
    box_send_op(b, "limit", NULL, reason, message);
}

static const char *oom_text(const struct box *b, char text[160])
{
    snprintf(text, 160,
             "the sandbox ran out of memory and a process was killed; the limit is %" PRId64 " MB",
             b->limits.memory_mb);
    return text;
}

static const char *pids_text(const struct box *b, char text[160])
{
    snprintf(text, 160, "the sandbox reached its limit of %" PRId64 " processes", b->limits.pids);
    return text;
}

static void check_counters(struct box *b, const struct cgroup_counters *now)
{
    char text[160];
    bool oom = now->oom_kills > b->seen.oom_kills, pids = now->pids_hits > b->seen.pids_hits;
    b->seen = *now;
    if (oom)
        hit(b, "out_of_memory", oom_text(b, text));
    else if (pids)
        hit(b, "pids", pids_text(b, text));
}

static void check_disk(struct box *b, const struct watch *m)
{
    uint64_t limit = (uint64_t)b->limits.disk_mb << 20;
    if (!m->measured)
        return;
    b->disk_used = m->used;
    b->disk_free = m->free_now;
    /* It had grown on after the look that ended the calls before. */
    if (b->disk_start > m->used || b->disk_was_full)
        b->disk_start = m->used;
    b->disk_was_full = false;
    int64_t pause_ms = m->took_us / 1000 * DISK_SHARE;
    b->disk_due_ms = loop_now_ms(b->s->loop) + (pause_ms > DISK_MS ? pause_ms : DISK_MS);
    if (!b->busy)
        return;
    /* A sandbox that was full before may still be cleaned up. */
    if (m->used <= limit || m->used <= b->disk_start + DISK_SLACK)
        return;
    char text[160];
    snprintf(text, sizeof text,
             "the sandbox's files take %" PRIu64 " MB; the limit is %" PRId64
             " MB. Delete what is not needed",
             m->used >> 20, b->limits.disk_mb);
    hit(b, "disk", text);
}

static void sampled(struct loop_work *w)
{
    struct watch *m = CONTAINER_OF(w, struct watch, work);
    struct sandboxes *s = m->s;
    struct box *b = m->box;
    if (b) {
        b->watch = NULL;
        if (sm_state(&b->sm) == BOX_UP && b->busy)
            check_counters(b, &m->counters);
        if (sm_state(&b->sm) == BOX_UP)
            check_disk(b, m);
    }
    mem_free(m);
    sandboxes_job_ended(s);
}

static void sample(struct box *b)
{
    if (b->watch)
        return;
    struct watch *m = mem_zalloc(sizeof *m);
    m->s = b->s;
    m->box = b;
    m->id = b->id;
    memcpy(m->unit, b->unit, sizeof m->unit);
    m->limit = (uint64_t)b->limits.disk_mb << 20;
    m->used = b->disk_used;
    m->free_then = b->disk_free;
    m->due = loop_now_ms(b->s->loop) >= b->disk_due_ms;
    b->watch = m;
    sandboxes_job_began(b->s);
    loop_work(b->s->loop, &m->work, sample_work, sampled);
}

void watch_orphan(struct box *b)
{
    if (b->watch)
        b->watch->box = NULL;
    b->watch = NULL;
}

/* ---- time ---- */

static bool overdue(struct box *b, int64_t now_ms)
{
    list_for_each (it, &b->calls) {
        struct box_call *c = LIST_ENTRY(it, struct box_call, node);
        if (c->asked && c->deadline_ms && now_ms > c->deadline_ms)
            return true;
    }
    return now_ms - b->last_pong_ms > BOX_PONG_MS;
}

static void on_tick(struct loop_timer *t)
{
    struct box *b = CONTAINER_OF(t, struct box, ticker);
    int64_t now_ms = loop_now_ms(b->s->loop);
    if (sm_state(&b->sm) != BOX_UP || !b->busy)
        return;
    if (overdue(b, now_ms)) {
        box_lost(b, "sandbox_lost");
        return;
    }
    if (now_ms - b->last_ping_ms > BOX_PING_MS) {
        b->last_ping_ms = now_ms;
        box_send_op(b, "ping", NULL, NULL, NULL);
    }
    sample(b);
    loop_timer_start(&b->ticker, BOX_TICK_MS, on_tick);
}

void watch_update(struct box *b)
{
    bool busy = !list_empty(&b->calls);
    if (list_empty(&b->calls))
        b->limit_sent = false;
    if (busy == b->busy)
        return;
    b->busy = busy;
    if (!busy) {
        loop_timer_stop(&b->ticker);
        box_unused(b);
        /* What the next call finds is not what the last look saw, if this one cleaned up. */
        if (b->disk_used > (uint64_t)b->limits.disk_mb << 20) {
            b->disk_due_ms = 0;
            sample(b);
        }
        return;
    }
    /* Two small reads of kernel memory, here and not in a job: what rose while nothing ran is not
     * this call's doing, and what rises from now on is. */
    cgroup_read(&b->s->host.cg, b->unit, &b->seen);
    b->disk_start = b->disk_used;
    b->disk_was_full = b->disk_used > (uint64_t)b->limits.disk_mb << 20;
    b->last_pong_ms = b->last_ping_ms = loop_now_ms(b->s->loop);
    loop_timer_start(&b->ticker, BOX_TICK_MS, on_tick);
}

const char *watch_explain(struct box *b, struct buf *text)
{
    struct cgroup_counters now;
    char said[160];
    cgroup_read(&b->s->host.cg, b->unit, &now);
    const char *reason = now.oom_kills > b->seen.oom_kills   ? "out_of_memory"
                         : now.pids_hits > b->seen.pids_hits ? "pids"
                                                             : NULL;
    b->seen = now;
    if (reason)
        buf_printf(text, "%s[%s]", text->len ? "\n" : "",
                   reason[0] == 'o' ? oom_text(b, said) : pids_text(b, said));
    return reason;
}
