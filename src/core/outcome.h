/* outcome: what a session works towards, and how far its evaluation is.
 *
 * Pure. Part of a turn's state: made by folding user.define_outcome and the spans of evaluations.
 * One at a time. After a compaction the log is read from there on, so that event says how it stood.
 *
 *     define --> WORKING --evaluation start--> EVALUATING --needs_revision--> WORKING ...
 *                                                  |  +--max_iterations_reached--> LAST_TURN --+
 *                                                  +--satisfied, failed, interrupted--> NONE <-+
 */
#ifndef OSTLER_CORE_OUTCOME_H
#define OSTLER_CORE_OUTCOME_H

#include "base/buf.h"
#include "core/event.h"
#include "core/ports.h"
#include "json/json.h"
#include "json/writer.h"

enum outcome_state { OUTCOME_NONE, OUTCOME_WORKING, OUTCOME_EVALUATING, OUTCOME_LAST_TURN };

enum { OUTCOME_ITERATIONS = 3, OUTCOME_ITERATIONS_MAX = 20 };

struct outcome {
    enum outcome_state state;
    struct id id, start; /* outc_...; the open evaluation's event */
    int64_t iteration, max_iterations;
    bool closing; /* the rubric wants the deliverable graded once more after the last turn */
    struct buf definition; /* body of the user.define_outcome event */
    /* Of the open evaluation: what earlier attempts of it have used, which died with their process;
     * what the present one had used when that was last written down, and set aside. */
    struct model_usage lost, spent;
    int64_t reserved_microusd;
};

enum criterion_verdict { CRITERION_MET, CRITERION_PARTIAL, CRITERION_NOT_MET };
extern const char *const criterion_verdicts[3]; /* met, partially_met, not_met */

struct criterion {
    struct str name; /* its opening text in the rubric, or the name of a check */
    enum criterion_verdict verdict;
    struct str comment, evidence; /* for people; may be absent */
};

enum outcome_result {
    OUTCOME_SATISFIED,
    OUTCOME_NEEDS_REVISION,
    OUTCOME_MAX_ITERATIONS,
    OUTCOME_FAILED,
    OUTCOME_INTERRUPTED,
};
extern const char *const outcome_results[5]; /* as on the wire */

/* What a grader has come to. */
struct grade {
    enum outcome_result result; /* satisfied, needs_revision or failed */
    const struct criterion *criteria;
    size_t ncriteria;
    struct str why; /* of failed */
    struct model_usage usage;
};

void outcome_init(struct outcome *o, size_t max_bytes);
void outcome_fini(struct outcome *o);
void outcome_define(struct outcome *o, const struct event *e, const struct json *body);
void outcome_begin(struct outcome *o, const struct event *e, const struct json *body);
/* Its result was written. */
void outcome_end(struct outcome *o, const struct json *body);
/* For the private transcript of a compaction, and back. */
void outcome_write(struct jw *w, const struct outcome *o);
void outcome_read(struct outcome *o, const struct json *v);

/* What the agent is told: the task is the user's own word, the rubric stands beside it. Appends. */
struct str outcome_task(const struct json *definition);
void outcome_rubric_words(const struct json *definition, struct buf *out);
/* The explanation of a result, as published. `evaluations`: how many there were. */
void outcome_explain(enum outcome_result result, const struct grade *g, int64_t evaluations,
                     struct buf *out);
/* [{name, verdict, evidence}] */
void outcome_criteria_write(struct jw *w, const struct grade *g);

#endif
