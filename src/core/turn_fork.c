#include "core/turn_fork.h"

#include "core/turn_request.h"

bool turn_rests(const struct turn *t)
{
    return turn_phase(t) == TURN_IDLE && !t->stirred;
}

void turn_cut(struct turn *t, struct turn_step *s)
{
    if (turn_rests(t))
        return;
    if (turn_phase(t) == TURN_MODEL)
        emit_span_end(t, s, &(struct end_record){0}, true);
    if (s->err_code == 0 &&
        (t->outcome.state == OUTCOME_WORKING || t->outcome.state == OUTCOME_EVALUATING))
        emit_evaluation_end(t, s, OUTCOME_INTERRUPTED, NULL);
    if (s->err_code == 0)
        turn_close_calls(t, s);
    if (s->err_code == 0)
        emit_idle(t, s, REASON_END_TURN, STR_NONE);
}
