#include "engine/outcomes.h"

#include "core/outcome_list.h"
#include "json/writer.h"

#include <stdio.h>

void outcomes_closed(struct actor *a, const struct grade *g)
{
    AUTO_BUF struct buf b = BUF_INIT(LIMIT_MODEL_RESPONSE);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "result", outcome_results[g->result]);
    jw_key(&w, "criteria");
    outcome_criteria_write(&w, g);
    jw_obj_end(&w);
    a->commit.closed = a->turn.outcome.id;
    if (buf_ok(&b))
        a->commit.closing = arena_str(&a->commit.arena, buf_view(&b));
}

int outcomes_commit(struct store_tx *tx, struct commit *c, struct err *err)
{
    const struct turn_step *s = &c->step;
    AUTO_BUF struct buf b = BUF_INIT(OUTCOME_LIST_ROOM);
    bool touched = str_some(c->closing);
    for (size_t i = 0; i < s->nevents; i++)
        touched = touched || outcome_list_reads(s->events[i].type);
    if (!touched || c->append.nevents == 0)
        return 0;
    int rc = tx_session_outcomes_read(tx, c->append.key, &b, err);
    if (rc == 0)
        rc = outcome_list_apply(&b, s->events, s->nevents, err);
    if (rc == 0 && str_some(c->closing))
        rc = outcome_list_close(&b, id_str(&c->closed), c->closing, err);
    if (rc == 0)
        c->append.outcomes = arena_str(&c->arena, buf_view(&b));
    return rc;
}

void outcomes_count(struct engine_stats *stats, const struct turn_step *s)
{
    for (size_t i = 0; i < s->nevents; i++) {
        char mark[64];
        if (s->events[i].type != EVENT_SPAN_OUTCOME_EVALUATION_END)
            continue;
        for (size_t r = 0; r < COUNT_OF(outcome_results); r++) {
            snprintf(mark, sizeof mark, "\"result\":\"%s\"", outcome_results[r]);
            stats->evaluations[r] += str_find(s->events[i].body, str_z(mark)) >= 0;
        }
    }
}
