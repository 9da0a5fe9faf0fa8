/* agent: the resolved agent snapshot of a session, decoded for the loop.
 *
 * Pure. Made once when a session's actor is loaded; its views borrow the snapshot's text and arena.
 * The snapshot was validated when it was saved: what cannot be read here is treated as absent.
 */
#ifndef OSTLER_CORE_AGENT_H
#define OSTLER_CORE_AGENT_H

#include "base/limits.h"
#include "json/json.h"

/* X(NAME, wire name, runs in the sandbox) in the toolset's order */
#define TOOL_MAP(X)                                                                                \
    X(BASH, "bash", true)                                                                          \
    X(READ, "read", true)                                                                          \
    X(WRITE, "write", true)                                                                        \
    X(EDIT, "edit", true)                                                                          \
    X(GLOB, "glob", true)                                                                          \
    X(GREP, "grep", true)                                                                          \
    X(WEB_FETCH, "web_fetch", false)                                                               \
    X(WEB_SEARCH, "web_search", false)

enum tool_id {
#define X(name, wire, sandboxed) TOOL_##name,
    TOOL_MAP(X)
#undef X
        TOOL_COUNT
};

enum policy { POLICY_ALLOW, POLICY_ASK, POLICY_AUTO };

struct tool_policy {
    bool enabled;
    bool offered; /* and this server can run it */
    enum policy policy;
    const struct json *config; /* the tool's own entry in the toolset's configs, or NULL */
};

struct agent {
    struct str name, model, effort, speed, system; /* system: absent when null */
    struct tool_policy tools[TOOL_COUNT];
    const struct json *custom[LIMIT_TOOLS]; /* custom tool definitions */
    size_t ncustom;
    const struct json *skills; /* of the session's provision; NULL: none */
    /* Its environment is self-hosted: what runs in a sandbox elsewhere is run by a client, who
     * answers with user.tool_result. */
    bool self_hosted;
};

const char *tool_name(enum tool_id t);
/* TOOL_COUNT when no built-in tool has that name. */
enum tool_id tool_of(struct str name);
bool tool_is_sandboxed(struct str name); /* false also for what is no built-in tool */

/* PARSE only when the snapshot is not a JSON object. The tools that run in no sandbox are not
 * offered. */
int agent_read(struct arena *a, struct str snapshot, struct agent *out, struct err *err) MUST_USE;
/* The server can run web_fetch and web_search: they are offered where they are enabled. */
void agent_offer_web(struct agent *ag);
const struct json *agent_custom_tool(const struct agent *ag, struct str name); /* NULL: none */
/* What the session's sandbox is made with (session_row.provision, or absent): its skills are told
 * to the model. PARSE when it is no JSON. */
int agent_provide(struct arena *a, struct str provision, struct agent *ag,
                  struct err *err) MUST_USE;
/* The session's environment (its config as JSON): who runs the sandboxed tools. */
int agent_place(struct arena *a, struct str environment, struct agent *ag,
                struct err *err) MUST_USE;
bool agent_has_skills(const struct agent *ag); /* and can read them */
/* Their names, paths and descriptions, as text of the system prompt. */
void agent_write_skills(const struct agent *ag, struct buf *out);

/* The system prompt as the JSON array of text blocks, its cache breakpoint on the last block. */
void agent_write_system(const struct agent *ag, struct buf *out);
/* The tools as the JSON array of {name, description, input_schema}; nothing when there are none. */
void agent_write_tools(const struct agent *ag, struct buf *out);

#endif
