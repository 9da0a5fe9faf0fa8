/* The planted bugs: their table, and those that stand between the core's own functions (by the
 * linker's --wrap, in the simulator only). */
#include "core/grader.h"
#include "core/turn_emit.h"
#include "sim.h"

enum sim_bug sim_bug;

const char *bug_name(enum sim_bug b)
{
    static const char *const names[] = {[BUG_NONE] = "none",
#define X(name, what, seeds) [BUG_##name] = #name,
                                        SIM_BUG_MAP(X)
#undef X
    };
    return names[b];
}

const char *bug_text(enum sim_bug b)
{
    static const char *const texts[] = {[BUG_NONE] = "",
#define X(name, what, seeds) [BUG_##name] = what,
                                        SIM_BUG_MAP(X)
#undef X
    };
    return texts[b];
}

int bug_seeds(enum sim_bug b)
{
    static const int seeds[] = {[BUG_NONE] = 0,
#define X(name, what, seeds) [BUG_##name] = seeds,
                                SIM_BUG_MAP(X)
#undef X
    };
    return seeds[b];
}

void __real_emit_tool_result(struct turn *t, struct turn_step *s, struct str tool_use_id,
                             const struct tool_outcome *o);
void __wrap_emit_tool_result(struct turn *t, struct turn_step *s, struct str tool_use_id,
                             const struct tool_outcome *o);
void __wrap_emit_tool_result(struct turn *t, struct turn_step *s, struct str tool_use_id,
                             const struct tool_outcome *o)
{
    size_t open = 0;
    for (size_t i = 0; i < t->ncalls; i++)
        open += t->calls[i].state != CALL_DONE;
    if (sim_bug == BUG_FORGOTTEN_CALL && open == 1 &&
        str_starts(o->content, STR("Tool execution was interrupted")))
        return;
    __real_emit_tool_result(t, s, tool_use_id, o);
}

int __real_turn_fold(struct turn *t, const struct event *e, struct err *err);
int __wrap_turn_fold(struct turn *t, const struct event *e, struct err *err);
int __wrap_turn_fold(struct turn *t, const struct event *e, struct err *err)
{
    int rc = __real_turn_fold(t, e, err);
    if (sim_bug == BUG_FREE_RETRY && e->type == EVENT_SESSION_ERROR)
        t->attempts = 0;
    return rc;
}

void __real_emit_idle(struct turn *t, struct turn_step *s, struct str reason, struct str details);
void __wrap_emit_idle(struct turn *t, struct turn_step *s, struct str reason, struct str details);
void __wrap_emit_idle(struct turn *t, struct turn_step *s, struct str reason, struct str details)
{
    __real_emit_idle(t, s, reason, details);
    if (sim_bug != BUG_NO_USAGE || s->err_code)
        return;
    s->events[s->nevents - 2] = s->events[s->nevents - 1];
    s->events[s->nevents - 2].seq--;
    s->nevents--;
    t->last_seq--;
}

void __real_emit_span_end(struct turn *t, struct turn_step *s, const struct end_record *r,
                          bool is_error);
void __wrap_emit_span_end(struct turn *t, struct turn_step *s, const struct end_record *r,
                          bool is_error);
void __wrap_emit_span_end(struct turn *t, struct turn_step *s, const struct end_record *r,
                          bool is_error)
{
    struct end_record end = *r;
    if (sim_bug == BUG_HELD_LOST)
        end.held_microusd = 0;
    __real_emit_span_end(t, s, &end, is_error);
}

void __real_turn_timer(struct turn *t, struct turn_step *s);
void __wrap_turn_timer(struct turn *t, struct turn_step *s);
void __wrap_turn_timer(struct turn *t, struct turn_step *s)
{
    if (sim_bug == BUG_LATE_TIMER && turn_phase(t) == TURN_TOOLS) {
        emit_simple(t, s, EVENT_SESSION_STATUS_RUNNING);
        emit_thread_status(t, s, EVENT_SESSION_THREAD_STATUS_RUNNING);
        return;
    }
    __real_turn_timer(t, s);
}

int __real_grader_verdict(struct arena *a, const struct json *input, const struct str *criteria,
                          size_t n, struct grade *out, struct err *err);
int __wrap_grader_verdict(struct arena *a, const struct json *input, const struct str *criteria,
                          size_t n, struct grade *out, struct err *err);
int __wrap_grader_verdict(struct arena *a, const struct json *input, const struct str *criteria,
                          size_t n, struct grade *out, struct err *err)
{
    int rc = __real_grader_verdict(a, input, criteria, n, out, err);
    if (rc == 0 || sim_bug != BUG_EASY_GRADER)
        return rc;
    *out = (struct grade){.result = OUTCOME_SATISFIED};
    return 0;
}

void __real_turn_grading(struct turn *t, struct turn_step *s, const struct model_usage *spent,
                         int64_t reserved_microusd);
void __wrap_turn_grading(struct turn *t, struct turn_step *s, const struct model_usage *spent,
                         int64_t reserved_microusd);
void __wrap_turn_grading(struct turn *t, struct turn_step *s, const struct model_usage *spent,
                         int64_t reserved_microusd)
{
    if (sim_bug == BUG_FREE_GRADER && turn_phase(t) == TURN_GRADING)
        s->grader_may_ask = true;
    else
        __real_turn_grading(t, s, spent, reserved_microusd);
}
