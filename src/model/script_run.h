/* script_run: runs one Lua script for one model request. Internal to model/.
 *
 * Pure and bounded: no files, no clock, no randomness, no code but the given text; so many
 * instructions and so much memory, then an error. Any thread. docs/internals/model.md describes
 * what a script sees and returns.
 */
#ifndef OSTLER_MODEL_SCRIPT_RUN_H
#define OSTLER_MODEL_SCRIPT_RUN_H

#include "base/arena.h"
#include "core/ports.h"

enum {
    SCRIPT_INSTRUCTIONS = 5 * 1000 * 1000,
    SCRIPT_MEMORY = 128 * 1024 * 1024, /* bytes at a time */
    SCRIPT_CHURN_MB = 512,             /* allocated in all: bounds the time spent in C functions */
    SCRIPT_SOURCE = 1024 * 1024,
    SCRIPT_DELAY_MS = 60 * 60 * 1000,
};

struct script_reply {
    struct model_block *blocks;
    size_t nblocks;
    enum model_stop stop;
    struct str refusal_category, refusal_explanation;
    int64_t delay_ms; /* between two pieces of text, or before an answer without text */
    int64_t chunks;   /* pieces that a text is cut into; 0: by its length */
    bool failing;     /* `failure` ends the answer, after the blocks */
    struct model_failure failure;
    struct model_usage usage;
};

/* `name` without "script/". Everything in `out` lives in the arena. INVALID with what Lua said. */
int script_run(struct str name, struct str source, const struct model_request *req,
               struct arena *arena, struct script_reply *out, struct err *err) MUST_USE;

#endif
