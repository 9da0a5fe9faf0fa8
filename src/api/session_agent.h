/* session_agent: the `agent` of a request that makes a session: an id, a reference with a version,
 * or an agent with overrides; and the snapshot that the session keeps of it. Internal to api/.
 */
#ifndef OSTLER_API_SESSION_AGENT_H
#define OSTLER_API_SESSION_AGENT_H

#include "api/agent_decode.h"
#include "api/api_impl.h"
#include "api/skill_refs.h"

struct session_agent {
    /* as asked for */
    struct str id;
    int64_t version; /* 0: the latest */
    bool overrides;
    struct agent_patch patch;
    /* as found */
    struct skill_refs skills;
    struct str limits; /* the default of its sessions; absent: none */
};

/* INVALID below "/agent". Loop thread: the model router is asked. */
int session_agent_decode(struct call *c, const struct json *v, struct session_agent *out,
                         struct err *err) MUST_USE;
/* Looks it up, on a store thread: sets the row's agent_id, agent_version and agent. The versions of
 * its skills are those of now: the session is to hold them (skill_refs_hold()). */
int session_agent_resolve(struct store_tx *tx, struct call *c, struct session_agent *s,
                          struct session_row *row, struct err *err) MUST_USE;
/* The row's caps need a model with prices. */
int session_agent_check_caps(struct call *c, const struct session_row *row,
                             struct err *err) MUST_USE;

#endif
