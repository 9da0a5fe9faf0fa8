/* build: what an environment's config asks for is built once for each content, in a sandbox of its
 * own, and kept below DATA/environments for all sessions (layers.h).
 *
 * Loop thread, but for the functions marked "worker". One struct builds belongs to one struct
 * sandboxes. Builds run one at a time on a data directory, whichever process asks; what one process
 * has built the others find.
 */
#ifndef OSTLER_SANDBOX_BUILD_H
#define OSTLER_SANDBOX_BUILD_H

#include "base/list.h"
#include "sandbox/impl.h"
#include "sandbox/layers.h"

struct builds;

enum {
    BUILD_MS = 30 * 60 * 1000,       /* one build */
    BUILD_RETRY_MS = 10 * 60 * 1000, /* a failed one is tried again by a session after this */
    BUILD_LOOK_MS = 250,             /* how often a running one is looked at */
    BUILD_TAIL = 8 * 1024,
    BUILD_LOG_MAX = 32 << 20,
    BUILD_KEEP_S = 60 * 60, /* an unused layer that no environment names goes after this */
    BUILD_SWEEP_MS = 60 * 60 * 1000,
};

struct builds *builds_new(struct sandboxes *s, const struct sandbox_config *cfg);
/* A sandbox can be started now, or never: what waited goes on. */
void builds_probed(struct builds *b);
/* Ends what runs; what is pending stays so. Freed when the jobs of the module have ended. */
void builds_close(struct builds *b);
void builds_free(struct builds *b);
/* What stands for the host in layer_content(). */
struct str builds_base_id(const struct builds *b);

struct build_waiter {
    struct list node; /* list_init() before the first use; list_remove() to stop waiting */
    void (*fn)(struct build_waiter *);
};

enum layer_state {
    LAYER_NONE,   /* the environment needs none */
    LAYER_READY,  /* `out` is it */
    LAYER_WAIT,   /* the waiter is called when it is worth asking again */
    LAYER_FAILED, /* `why` says so, with the end of the log */
};
/* For a session's start: begins the build where there is none. */
enum layer_state builds_layer(struct builds *b, struct str environment, struct build_waiter *w,
                              struct layer *out, struct buf *why);
/* It was ready and is not there any more. */
void builds_forget(struct builds *b, const char *content);

/* ---- build_script.c ---- */

enum build_phase { BUILD_APT, BUILD_PACKAGES, BUILD_SETUP, BUILD_PHASES };

/* The phase's shell script; false: it has nothing to do. */
bool build_script(const struct json *config, enum build_phase phase, struct buf *out);

/* ---- build_sources.c ---- */

/* Makes `etc` what a build sees as /etc: `from`, and where the host gets its packages from, without
 * credentials. Worker. */
int build_etc(const char *from, const char *root, const char *etc, struct err *err) MUST_USE;
/* "scheme://user:password@host" loses what stands before the host; lines that set a password or a
 * token are left out. */
void build_clean_text(struct str text, struct buf *out);
/* "name" or "name:port" of every address in a build's /etc and in its variables: what the host's
 * packages come from. */
int build_hosts(struct arena *a, const char *etc, const char *const *variables, const char ***out,
                size_t *n, struct err *err) MUST_USE;
/* name, value, ..., NULL: variables of this process that say where packages come from. */
size_t build_variables(struct arena *a, const char **out, size_t max);

#endif
