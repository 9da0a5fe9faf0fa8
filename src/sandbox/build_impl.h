/* build_impl: what build.c (which builds there are) and build_run.c (the one that runs) share. Loop
 * thread, but for the functions marked "worker".
 */
#ifndef OSTLER_SANDBOX_BUILD_IMPL_H
#define OSTLER_SANDBOX_BUILD_IMPL_H

#include "sandbox/build.h"
#include "store/store.h"

/* One content. Lives as long as the server, but for ready ones that are forgotten. */
struct build {
    struct list queued; /* in builds.queue while it is pending */
    struct list waiters;
    char content[CONTENT_HEX + 1];
    char *config;            /* JSON */
    char base[LAYER_PATH];   /* unpacked root; of a layout: known once its build has begun */
    char layout[LAYER_PATH]; /* OCI layout, or empty */
    enum build_state state;
    char tail[BUILD_TAIL + 1];
    int64_t started_us, ended_us, failed_ms;
    bool saving, dirty; /* its row is being written; is to be written again */
    unsigned jobs;
};

struct build_run;

struct builds {
    struct sandboxes *s;
    struct store_port store; /* self NULL: states are not kept */
    char dir[PATH_MAX - 768], images[PATH_MAX - 768];
    char base_id[CONTENT_HEX + 1];
    struct map by_content;
    struct list queue;
    struct build_run *run; /* the one that runs, or waits for another process */
    struct loop_timer sweep_timer;
    struct loop_post post;
    bool merge, resumed, posted, closing, timer_open;
};

/* Its state changed: written to the store, told to who waits. */
void build_moved(struct builds *b, struct build *build, enum build_state state);
void build_told(struct builds *b, struct build *build); /* the log grew */
void builds_kick(struct builds *b);                     /* looks at the queue soon */

/* ---- build_run.c ---- */

void build_run_start(struct builds *b, struct build *build);
void build_run_cancel(struct builds *b); /* the server ends */

#endif
