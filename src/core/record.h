/* record: what the loop notes privately (event.transcript) beside the spans of its model requests.
 *
 * Pure. The log must tell everything that the fold needs: what a request was for, how it was
 * bounded, what it really cost. None of it is served.
 */
#ifndef OSTLER_CORE_RECORD_H
#define OSTLER_CORE_RECORD_H

#include "base/arena.h"
#include "core/ports.h"

enum { RECORD_DIGEST_MAX = 80 };

/* With span.model_request_start. */
struct request_record {
    enum model_purpose purpose; /* MODEL_FOR_TURN or MODEL_FOR_COMPACTION */
    int64_t max_tokens;         /* 0: the model's maximum */
    int64_t reserved_microusd;
    int64_t clear_below; /* tool results of events with a lower seq are cleared; 0: none are */
    int64_t fit;         /* of a compaction: bytes its messages may have */
    char digest[RECORD_DIGEST_MAX]; /* of the request as it was sent; "": not taken */
};

/* With span.model_request_end. */
struct end_record {
    struct model_usage usage;
    struct model_usage judge; /* the judge's answer about the calls of this response */
    int64_t held_microusd;    /* its end was not seen: the reservation stays */
};

/* With span.outcome_evaluation_ongoing, before each request of the grader. (The evaluation's end
 * has an end_record with what its last attempt used.) */
struct evaluation_record {
    struct model_usage spent;  /* by this attempt so far */
    int64_t reserved_microusd; /* for the request that is to be sent */
    /* Of the attempt before, which died with its process: what it had used, and what it had set
     * aside, which stays held. */
    struct model_usage lost;
    int64_t held_microusd;
};
struct str evaluation_record_write(struct arena *a, const struct evaluation_record *r);
bool evaluation_record_read(struct str text, struct evaluation_record *out);

/* Absent when the arena is full. */
struct str request_record_write(struct arena *a, const struct request_record *r);
struct str end_record_write(struct arena *a, const struct end_record *r);
/* An absent or damaged text reads as all zero. False then. */
bool request_record_read(struct str text, struct request_record *out);
bool end_record_read(struct str text, struct end_record *out);

#endif
