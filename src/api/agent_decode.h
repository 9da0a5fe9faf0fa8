/* agent_decode: agent definitions: bodies of create, update and per-session overrides to patches,
 * patches onto stored definitions, definitions to JSON. Pure but for the model rules, which are
 * asked while decoding (loop thread); applying a patch may run on a store thread.
 */
#ifndef OSTLER_API_AGENT_DECODE_H
#define OSTLER_API_AGENT_DECODE_H

#include "json/writer.h"

/* What the decoder must know of models; model/model.h behind it, a table in tests. */
struct model_rules {
    void *self;
    /* INVALID when no provider takes the id. */
    int (*check)(void *self, struct str model_id, struct err *err);
    const char *(*default_effort)(void *self, struct str model_id);
};

struct model_in {
    struct str id;
    const char *effort;         /* NULL: not given */
    const char *default_effort; /* of this model */
    const char *speed;
};

/* A definition: each field as compact JSON text, in the order of the response. */
struct agent_def {
    struct str name, description, model, system, tools, mcp_servers, skills, multiagent,
        execution_identity, metadata;
    struct str limits; /* of its sessions, as a default; absent: none */
};

/* AGENT_SESSION: what a session may change of its own snapshot. */
enum agent_patch_kind { AGENT_CREATE, AGENT_UPDATE, AGENT_OVERRIDE, AGENT_SESSION };

struct agent_patch {
    enum agent_patch_kind kind;
    struct str name, description, system, tools, skills; /* JSON text; absent: keep */
    bool has_model;
    struct model_in model;
    const struct json *metadata; /* NULL: keep */
    bool set_limits;
    struct str limits; /* with set_limits; absent: none */
    int64_t version;   /* update: the version it expects; override: the one it names; 0 */
    struct str id;     /* override: the agent's */
};

/* INVALID with a pointer below `at`. Fields of subsystems that do not exist in this version are
 * refused unless empty. */
int agent_patch_decode(struct arena *a, const struct json *body, enum agent_patch_kind kind,
                       const char *at, const struct model_rules *rules, struct agent_patch *out,
                       struct err *err) MUST_USE;
/* `def` is a stored definition (or all absent for AGENT_CREATE) and becomes the patched one. */
int agent_patch_apply(struct arena *a, const struct agent_patch *p, struct agent_def *def,
                      struct err *err) MUST_USE;

int agent_def_read(struct arena *a, struct str body, struct agent_def *out,
                   struct err *err) MUST_USE;
void agent_def_write(const struct agent_def *def, struct buf *out); /* {"name":...,...} */
/* The snapshot that a session carries: id, type and version, without metadata. */
void agent_snapshot_write(const struct agent_def *def, struct str id, int64_t version,
                          struct buf *out);
/* The snapshot of a session with the patch (AGENT_SESSION) applied. */
int agent_snapshot_patch(struct arena *a, const struct agent_patch *p, struct str snapshot,
                         struct str *out, struct err *err) MUST_USE;
/* The snapshot as a thread shows it: without `multiagent`. */
int agent_thread_snapshot(struct arena *a, struct str snapshot, struct str *out,
                          struct err *err) MUST_USE;

#endif
