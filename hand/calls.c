/* The table of calls: at most one run per id, results kept until acknowledged. */
#include "hand/hand.h"

#include "base/clock.h"

#include <stdio.h>

struct call *call_find(struct hand *h, struct str id)
{
    list_for_each (it, &h->calls) {
        struct call *c = LIST_ENTRY(it, struct call, node);
        if (str_eqz(id, c->id))
            return c;
    }
    return NULL;
}

bool call_forgotten(const struct hand *h, struct str id)
{
    for (size_t i = 0; h->forgotten && i < HAND_FORGOTTEN; i++)
        if (str_eqz(id, h->forgotten[i]))
            return true;
    return false;
}

struct call *call_add(struct hand *h, const struct proto_request *r, char why[128])
{
    if (h->ncalls >= HAND_CALLS || h->bytes + r->input->raw.len > HAND_BYTES) {
        snprintf(why, 128, "%zu calls (%zu bytes) wait for their acknowledgement", h->ncalls,
                 h->bytes);
        return NULL;
    }
    struct call *c = mem_zalloc(sizeof *c);
    str_copyz(c->id, sizeof c->id, r->id);
    c->tool = tool_find(r->tool);
    c->input = mem_dupz(r->input->raw.ptr, r->input->raw.len);
    c->input_len = r->input->raw.len;
    c->timeout_ms =
        h->cfg.wall_ms && h->cfg.wall_ms < r->timeout_ms ? h->cfg.wall_ms : r->timeout_ms;
    c->pipe = -1;
    list_push(&h->calls, &c->node);
    h->ncalls++;
    h->bytes += c->input_len;
    if (!c->tool && !str_eqz(r->tool, "bash")) {
        char text[160];
        snprintf(text, sizeof text, "unknown tool: " STR_FMT, STR_ARG(str_take(r->tool, 64)));
        call_done(h, c, str_z(text), true, NULL);
    }
    return c;
}

static void drop_input(struct hand *h, struct call *c)
{
    h->bytes -= c->input_len;
    mem_free(TAKE_PTR(c->input));
    c->input_len = 0;
}

void call_forget(struct hand *h, struct call *c)
{
    if (!h->forgotten)
        h->forgotten = mem_zalloc(sizeof *h->forgotten * HAND_FORGOTTEN);
    memcpy(h->forgotten[h->forgotten_at], c->id, sizeof c->id);
    h->forgotten_at = (h->forgotten_at + 1) % HAND_FORGOTTEN;
    list_remove(&c->node);
    h->ncalls--;
    h->bytes -= c->content_len;
    mem_free(c->content);
    mem_free(c);
}

void call_done(struct hand *h, struct call *c, struct str text, bool is_error, const char *reason)
{
    drop_input(h, c);
    c->state = CALL_DONE;
    c->content = mem_dupz(text.ptr ? text.ptr : "", text.len);
    c->content_len = text.len;
    c->is_error = is_error;
    h->bytes += text.len;
    snprintf(c->reason, sizeof c->reason, "%s", reason ? reason : "");
    hand_broadcast_result(h, c);
}

/* ---- starting ---- */

static void start_bash(struct hand *h, struct call *c)
{
    c->state = CALL_RUNNING;
    shell_start_call(h, c); /* sets the deadline; may finish at once */
    drop_input(h, c);
}

static void start_file_tool(struct hand *h, struct call *c)
{
    char why[128];
    c->state = CALL_RUNNING;
    c->deadline_us = clock_mono_us() + c->timeout_ms * 1000;
    bool ok = child_start(h, c, why);
    drop_input(h, c);
    if (ok)
        hand_broadcast_started(h, c);
    else
        call_done(h, c, str_z(why), true, "pids");
}

static bool may_start(const struct hand *h, const struct call *c, bool bash_waits,
                      bool writer_waits)
{
    if (!c->tool)
        return !h->shell.call && !bash_waits;
    if (c->tool->writes && (writer_waits || children_running(h, true) > 0))
        return false;
    return children_running(h, false) < HAND_CHILDREN;
}

void calls_schedule(struct hand *h)
{
    bool bash_waits = false, writer_waits = false;
    list_for_each (it, &h->calls) {
        struct call *c = LIST_ENTRY(it, struct call, node);
        if (c->state != CALL_QUEUED)
            continue;
        if (!may_start(h, c, bash_waits, writer_waits)) {
            bash_waits = bash_waits || !c->tool;
            writer_waits = writer_waits || (c->tool && c->tool->writes);
        } else if (c->tool) {
            start_file_tool(h, c);
        } else {
            start_bash(h, c);
        }
    }
}

/* ---- ending ---- */

static void end_running(struct hand *h, struct call *c, const char *text, const char *reason,
                        bool with_output)
{
    if (c->tool)
        child_end(h, c, text, reason);
    else
        shell_end(h, text, reason, with_output);
}

void calls_timers(struct hand *h, int64_t now_us)
{
    list_for_each_safe (it, &h->calls) {
        struct call *c = LIST_ENTRY(it, struct call, node);
        if (c->state != CALL_RUNNING || c->deadline_us > now_us)
            continue;
        char text[128];
        if (c->tool)
            snprintf(text, sizeof text, "%s: timed out after %lldms", c->tool->name,
                     (long long)c->timeout_ms);
        else
            snprintf(text, sizeof text, "bash: bash command timed out after %lldms",
                     (long long)c->timeout_ms);
        end_running(h, c, text, "timeout", true);
    }
}

int64_t calls_next_deadline_us(const struct hand *h)
{
    int64_t next = INT64_MAX;
    list_for_each (it, &h->calls) {
        struct call *c = LIST_ENTRY(it, struct call, node);
        if (c->state == CALL_RUNNING && c->deadline_us < next)
            next = c->deadline_us;
    }
    return next;
}

void call_cancel(struct hand *h, struct call *c)
{
    char text[64];
    snprintf(text, sizeof text, "%s: the call was cancelled", c->tool ? c->tool->name : "bash");
    if (c->state == CALL_RUNNING)
        end_running(h, c, text, "cancelled", true);
    else if (c->state == CALL_QUEUED)
        call_done(h, c, str_z(text), true, "cancelled");
}

void calls_limit(struct hand *h, const char *reason, struct str message)
{
    char text[1024];
    /* The shell goes even when it is idle: what it left in the background is what hit the limit. */
    bool shell_ended = false;
    list_for_each_safe (it, &h->calls) {
        struct call *c = LIST_ENTRY(it, struct call, node);
        if (c->state != CALL_RUNNING)
            continue;
        snprintf(text, sizeof text, "%s: " STR_FMT, c->tool ? c->tool->name : "bash",
                 STR_ARG(str_take(message, 900)));
        shell_ended = shell_ended || !c->tool;
        end_running(h, c, text, reason, true);
    }
    if (!shell_ended)
        shell_end(h, NULL, NULL, false);
    if (str_eqz(str_z(reason), "out_of_memory"))
        proc_free_memory();
}
