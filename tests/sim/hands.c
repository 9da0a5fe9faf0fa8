/* Sandboxes: a hand for each session that outlives the server, runs calls, can be lost. */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>

struct tool_wait {
    struct list link;
    struct node *node;
    struct tool *tool;
    struct session *session;
    bool first, existed;
    void (*done)(void *arg, const struct tool_outcome *o);
    void *arg;
    /* on its way back */
    struct tool_outcome outcome;
};

struct tool *find_tool(struct session *ss, struct str id)
{
    list_for_each (it, &ss->tools) {
        struct tool *t = LIST_ENTRY(it, struct tool, link);
        if (str_eq(id_str(&t->id), id))
            return t;
    }
    return NULL;
}

/* ---- answers ---- */

static void deliver(struct sim *s, void *arg)
{
    struct tool_wait *w = arg;
    if (!w->node || w->node->dead || !boundary(w->node, AT_TOOL_DONE))
        return;
    SIM_TRACE(s, "n%d s%d result of %s: " STR_FMT, w->node->index, w->session->index, w->tool->id.z,
              STR_ARG(w->outcome.content));
    if (sim_bug == BUG_EARLY_HAND_ACK)
        w->tool->forgotten = true;
    w->done(w->arg, &w->outcome);
    boundary_after(w->node, AT_TOOL_DONE);
}

static void answer(struct tool_wait *w, struct tool_outcome o)
{
    struct sim *s = w->session->sim;
    list_remove(&w->link);
    w->outcome = o;
    sim_after(s, rng_delay(&s->rng, 2 * SIM_MS, 20 * SIM_SECOND), deliver, w);
}

static struct tool_outcome lost(void)
{
    return (struct tool_outcome){.content = STR("The outcome of the call is unknown."),
                                 .is_error = true,
                                 .failure_reason = "sandbox_lost"};
}

static void answer_all(struct tool *t, struct tool_outcome o)
{
    list_for_each_safe (it, &t->waiters)
        answer(LIST_ENTRY(it, struct tool_wait, link), o);
}

static void tool_ends(struct sim *s, void *arg)
{
    struct tool *t = arg;
    (void)s;
    t->ends = NULL;
    t->state = TOOL_FINISHED;
    answer_all(t, (struct tool_outcome){.content = t->result, .is_error = t->is_error});
}

/* ---- the hand ---- */

static void execute(struct session *ss, struct tool *t)
{
    struct sim *s = ss->sim;
    char text[80];
    if (++t->executions > 1)
        sim_fail(s, "tool call %s of session %d was executed %d times", t->id.z, ss->index,
                 t->executions);
    int n = snprintf(text, sizeof text, "result of %s", t->id.z);
    t->result = arena_str(&s->arena, str_n(text, (size_t)n));
    t->is_error = rng_chance(&s->rng, 1, 10);
    t->state = TOOL_RUNNING;
    t->generation = ss->generation;
    t->forgotten = false;
    s->tool_runs++;
    disk_write(ss, t);
    SIM_TRACE(s, "   s%d hand %d executes %s", ss->index, ss->generation, t->id.z);
    t->ends = sim_after(s, rng_delay(&s->rng, s->knobs.tool_us, 120 * SIM_SECOND), tool_ends, t);
}

void hand_crash(struct session *ss, const char *why)
{
    if (!ss->hand_alive)
        return;
    SIM_TRACE(ss->sim, "   s%d hand %d dies: %s", ss->index, ss->generation, why);
    ss->hand_alive = false;
    list_for_each (it, &ss->tools) {
        struct tool *t = LIST_ENTRY(it, struct tool, link);
        task_cancel(&t->ends);
        if (t->generation == ss->generation)
            answer_all(t, lost());
    }
}

/* The call has reached the hand. */
static void receive(struct tool_wait *w)
{
    struct session *ss = w->session;
    struct tool *t = w->tool;
    bool known = t->executions > 0 && t->generation == ss->generation && !t->forgotten;
    if (sim_bug == BUG_RERUN && !w->first)
        known = false;
    if (t->cancelled && t->executions == 0) {
        answer(w, (struct tool_outcome){.content = STR("cancelled"),
                                        .is_error = true,
                                        .failure_reason = "cancelled"});
    } else if (known) {
        if (t->state == TOOL_FINISHED)
            answer(w, (struct tool_outcome){.content = t->result, .is_error = t->is_error});
    } else if (!w->first && w->existed && ss->generation > 1) {
        answer(w, lost()); /* an earlier hand may have run it */
    } else {
        execute(ss, t);
    }
}

static void provisioned(struct sim *s, void *arg)
{
    struct session *ss = arg;
    if (disk_busy(ss)) {
        sim_after(s, 5 * SIM_MS, provisioned, ss);
        return;
    }
    ss->hand_starting = false;
    bool fails = s->chaos && rng_chance(&s->rng, s->knobs.hand_pct, 100);
    if (!fails) {
        disk_restore(ss);
        ss->generation++;
        ss->hand_alive = true;
        SIM_TRACE(s, "   s%d hand %d is there", ss->index, ss->generation);
    }
    list_for_each (it, &ss->tools) {
        struct tool *t = LIST_ENTRY(it, struct tool, link);
        list_for_each_safe (wit, &t->waiters) {
            struct tool_wait *w = LIST_ENTRY(wit, struct tool_wait, link);
            if (!fails)
                receive(w);
            else
                answer(w, (struct tool_outcome){.content = STR("There is no sandbox."),
                                                .is_error = true,
                                                .failure_reason = "sandbox_unavailable"});
        }
    }
}

static void arrive(struct sim *s, void *arg)
{
    struct tool_wait *w = arg;
    struct session *ss = w->session;
    if (list_empty(&w->link))
        return; /* answered or forgotten on its way */
    if (disk_busy(ss)) {
        sim_after(s, 5 * SIM_MS, arrive, w);
    } else if (ss->hand_alive) {
        receive(w);
    } else if (!w->first && w->existed && ss->generation > 0) {
        answer(w, lost());
    } else if (!ss->hand_starting) {
        ss->hand_starting = true;
        sim_after(s, rng_delay(&s->rng, 200 * SIM_MS, 10 * SIM_SECOND), provisioned, ss);
    }
}

/* ---- the port ---- */

static void check_dispatch(struct node *n, struct session *ss, const struct tool_call *call,
                           struct tool *t)
{
    struct sim *s = n->sim;
    struct pending_call *c = watch_call(&ss->watch, call->tool_use_id);
    const struct session_row *row = &ss->row->row;
    if (!c)
        sim_fail(s, "call %s was dispatched before its event was durable", t->id.z);
    else if (c->state != CALL_READY || c->type != EVENT_AGENT_TOOL_USE)
        sim_fail(s, "call %s was dispatched though the log does not let it run", t->id.z);
    if (!row->has_sandbox && sim_bug != BUG_NO_SANDBOX_MARK)
        sim_fail(s, "call %s was dispatched before the mark of its sandbox was durable", t->id.z);
    if (call->first_dispatch && t->first_dispatches++ > 0)
        sim_fail(s, "call %s was dispatched as new a second time", t->id.z);
}

static void run(void *self, const struct tool_call *call,
                void (*done)(void *arg, const struct tool_outcome *o), void *arg)
{
    struct node *n = self;
    struct sim *s = n->sim;
    if (!boundary(n, AT_TOOL_RUN) || copy_run(n, call, done, arg))
        return;
    struct session *ss = sim_session(s, call->session_id);
    struct tool *t = find_tool(ss, call->tool_use_id);
    if (!t) {
        t = sim_alloc(s, sizeof *t);
        *t = (struct tool){.id = id_from(call->tool_use_id)};
        list_init(&t->waiters);
        list_push(&ss->tools, &t->link);
    }
    check_dispatch(n, ss, call, t);
    struct tool_wait *w = sim_alloc(s, sizeof *w);
    *w = (struct tool_wait){.node = n,
                            .tool = t,
                            .session = ss,
                            .first = call->first_dispatch,
                            .existed = call->sandbox_existed,
                            .done = done,
                            .arg = arg};
    list_push(&t->waiters, &w->link);
    SIM_TRACE(s, "n%d s%d %s %s", n->index, ss->index, w->first ? "runs" : "asks for", t->id.z);
    sim_after(s, rng_delay(&s->rng, SIM_MS, 2 * SIM_SECOND), arrive, w);
    boundary_after(n, AT_TOOL_RUN);
}

static void ack(void *self, struct str session_id, struct str tool_use_id)
{
    struct node *n = self;
    if (!boundary(n, AT_TOOL_ACK))
        return;
    struct session *ss = sim_session(n->sim, session_id);
    if (!ss)
        return; /* a copy's */
    struct tool *t = find_tool(ss, tool_use_id);
    const struct pending_call *c = watch_call(&ss->watch, tool_use_id);
    if (c && c->state != CALL_DONE && !ss->row->gone)
        sim_fail(n->sim, "the hand may forget the result of %s, which is not durable", c->id.z);
    if (t)
        t->forgotten = true;
    boundary_after(n, AT_TOOL_ACK);
}

static void cancel(void *self, struct str session_id, struct str tool_use_id)
{
    struct node *n = self;
    if (!boundary(n, AT_TOOL_CANCEL))
        return;
    struct tool *t = find_tool(sim_session(n->sim, session_id), tool_use_id);
    if (t && t->state != TOOL_FINISHED) {
        t->cancelled = true;
        t->is_error = true;
        t->result = STR("cancelled");
        if (t->ends) {
            task_cancel(&t->ends);
            t->ends = sim_after(n->sim, rng_delay(&n->sim->rng, SIM_MS, SIM_SECOND), tool_ends, t);
        }
    }
    boundary_after(n, AT_TOOL_CANCEL);
}

static void checkpoint(void *self, struct str session_id, int64_t seq, bool turn_end)
{
    struct node *n = self;
    if (!boundary(n, AT_CHECKPOINT))
        return;
    disk_keep(n, sim_session(n->sim, session_id), seq, turn_end);
    boundary_after(n, AT_CHECKPOINT);
}

static void idle(void *self, struct str session_id)
{
    struct node *n = self;
    struct session *ss = sim_session(n->sim, session_id);
    if (n->dead || ss->row->gone || ss->row->row.status != SESSION_RUNNING)
        return;
    /* Unless this process does not know yet that another has the session. */
    if (n->sim->knobs.nodes == 1)
        sim_fail(n->sim, "the sandbox of session %d was parked while it runs", ss->index);
}

static void destroy(void *self, struct str session_id, bool wipe)
{
    struct node *n = self;
    if (n->dead || copy_end(n, session_id))
        return;
    struct session *ss = sim_session(n->sim, session_id);
    if (wipe ? !ss->row->gone : !ss->row->row.archived_us && !ss->row->gone)
        sim_fail(n->sim, "the sandbox of session %d was removed before the log said so", ss->index);
    hand_crash(ss, wipe ? "deleted" : "archived");
}

/* The process that waits is gone; the calls are not. */
void hands_forget_node(struct node *n)
{
    for (int i = 0; i < n->sim->knobs.sessions; i++)
        list_for_each (it, &n->sim->sessions[i].tools) {
            struct tool *t = LIST_ENTRY(it, struct tool, link);
            list_for_each_safe (wit, &t->waiters) {
                struct tool_wait *w = LIST_ENTRY(wit, struct tool_wait, link);
                if (w->node != n)
                    continue;
                bool in_flight = rng_chance(&n->sim->rng, 1, 2) && !disk_busy(w->session);
                w->node = NULL;
                if (in_flight && t->executions == 0 && w->session->hand_alive)
                    receive(w); /* on its way already; not after what the next process says */
                list_remove(&w->link);
            }
        }
}

struct sandbox_port sandbox_of(struct node *n)
{
    return (struct sandbox_port){.self = n,
                                 .run = run,
                                 .ack = ack,
                                 .cancel = cancel,
                                 .checkpoint = checkpoint,
                                 .copy = copy_start,
                                 .idle = idle,
                                 .destroy = destroy};
}
