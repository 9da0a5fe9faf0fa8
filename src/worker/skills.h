/* skills: those of a session's agent, fetched once by version and kept as the sandbox module wants
 * them.
 *
 * Loop thread; embedded by the item. A skill that cannot be had is left out and told in the log.
 */
#ifndef OSTLER_WORKER_SKILLS_H
#define OSTLER_WORKER_SKILLS_H

#include "store/blob.h"
#include "worker/wire.h"

struct worker_skills {
    const char *dir; /* of the worker */
    const struct blobs *blobs;
    const char *session;                   /* for the log */
    void (*done)(struct worker_skills *s); /* once; s->provision is complete */

    /* private */
    struct wire_call call;
    struct loop_timer timer;
    struct loop_work work;
    struct arena arena;
    const struct json *list, *at; /* of the session's agent */
    struct str id, version;
    char key[256]; /* the file's name in the cache */
    struct buf line, provision;
    struct err err;
    unsigned tries;
    bool working, closing, cached, timer_gone;
    void (*closed)(struct worker_skills *s);
};

/* `session` is the answer that describes it; copied. */
void worker_skills_start(struct worker_skills *s, struct wire *w, const char *bearer,
                         struct str session);
/* {"skills":[..]} for struct tool_call; absent: there are none. */
struct str worker_skills_json(const struct worker_skills *s);
void worker_skills_close(struct worker_skills *s, void (*closed)(struct worker_skills *s));

/* Worker pool: forgets skills that were not used for so long. */
void worker_skills_sweep(const char *dir, const struct blobs *blobs, int64_t age_s);

#endif
