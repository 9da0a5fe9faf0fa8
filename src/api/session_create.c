/* POST /v1/sessions */
#include "api/budget_decode.h"
#include "api/compact.h"
#include "api/event_decode.h"
#include "api/handlers.h"
#include "api/inbox.h"
#include "api/metadata.h"
#include "api/outcomes.h"
#include "api/resources.h"
#include "api/session_agent.h"
#include "api/session_call.h"
#include "api/session_json.h"
#include "api/sources.h"
#include "api/work_impl.h"

#include "base/clock.h"
#include "base/limits.h"
#include "json/decode.h"

#include <stdio.h>

struct create_in {
    const struct json *agent, *environment, *title, *metadata, *events, *resources, *vaults,
        *budget, *limits;
};

#define IN(member, name, ...) JSON_FIELD_ANY(struct create_in, member, name, __VA_ARGS__)
static const struct json_field create_fields[] = {
    IN(agent, "agent", .required = true),
    IN(environment, "environment_id", .type = JSON_STRING, .required = true, .min = 1, .max = 64),
    IN(title, "title", .type = JSON_STRING, .nullable = true, .max = LIMIT_TITLE_CHARS),
    IN(metadata, "metadata", .type = JSON_OBJECT, .nullable = true),
    IN(events, "initial_events", .type = JSON_ARRAY, .nullable = true, .max = LIMIT_INITIAL_EVENTS),
    IN(resources, "resources", .type = JSON_ARRAY, .nullable = true),
    IN(vaults, "vault_ids", .type = JSON_ARRAY, .nullable = true),
    IN(budget, "budget"),
    IN(limits, "limits"),
    JSON_FIELD_END};

struct create_call {
    struct session_agent agent;
    struct str environment_id;
    bool own_limits; /* the body says something of them: the agent's do not count */
    struct sent_event *events;
    size_t nevents;
    struct resource_in *resources;
    size_t nresources;
    struct err refusal; /* of the events' files; code 0: none */
    struct session_row row;
};

/* ---- decoding ---- */

static int refuse_unsupported(const struct create_in *in, struct err *err)
{
    static const char say[] = "Not supported by this version; leave it out or empty";
    if (in->vaults && in->vaults->count > 0)
        return json_fail(err, "", "vault_ids", "%s", say);
    return 0;
}

static int decode(struct call *c, struct create_call *s, struct err *err)
{
    struct create_in in;
    int rc = json_decode(c->doc, create_fields, &in, sizeof in, "", err);
    if (!rc)
        rc = session_agent_decode(c, in.agent, &s->agent, err);
    if (!rc)
        rc = metadata_check(in.metadata, false, "/metadata", err);
    if (!rc)
        rc = refuse_unsupported(&in, err);
    if (!rc)
        rc = resources_decode(&c->arena, in.resources, c->api->cfg.repositories_http, &s->resources,
                              &s->nresources, err);
    if (!rc)
        rc = budget_decode(in.budget, &s->row.budget_microusd, err);
    if (!rc)
        rc = limits_decode(&c->arena, in.limits, "/limits", &s->row.limits, err);
    if (!rc)
        rc = metadata_merge(&c->arena, STR_NONE, in.metadata, false, "/metadata", &s->row.metadata,
                            err);
    if (!rc && json_is(in.events, JSON_ARRAY)) {
        s->nevents = in.events->count;
        rc = events_decode(&c->arena, in.events, true, "/initial_events", &s->events, err);
    }
    if (rc)
        return rc;
    s->own_limits = in.limits != NULL;
    s->environment_id = in.environment->str;
    if (json_is(in.title, JSON_STRING))
        s->row.title = in.title->str;
    return 0;
}

/* ---- the transaction ---- */

/* What the sandbox and the prompt need of the agent's skills. */
static int provide_skills(struct call *c, struct create_call *s, struct err *err)
{
    if (s->agent.skills.n == 0)
        return 0;
    struct buf b = BUF_INIT(1024 * 1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_key(&w, "skills");
    skills_provision(&s->agent.skills, &w);
    jw_obj_end(&w);
    return compact_keep(&c->arena, &b, &s->row.provision, err);
}

static int resolve_agent(struct store_tx *tx, struct call *c, struct create_call *s,
                         struct err *err)
{
    int rc = session_agent_resolve(tx, c, &s->agent, &s->row, err);
    if (!rc)
        rc = provide_skills(c, s, err);
    if (rc)
        return rc;
    if (!s->own_limits)
        s->row.limits = s->agent.limits;
    return session_agent_check_caps(c, &s->row, err);
}

static int resolve_environment(struct store_tx *tx, struct call *c, struct create_call *s,
                               struct err *err)
{
    struct environment_row env;
    const struct json *doc;
    int rc = ERR_NOT_FOUND;
    if (id_valid(s->environment_id, "env"))
        rc = tx_environment_get(tx, call_workspace(c), s->environment_id, &c->arena, &env, err);
    if (rc == ERR_NOT_FOUND)
        return err_at(err, rc, "/environment_id",
                      "environment_id: Environment '" STR_FMT "' not found",
                      STR_ARG(str_utf8_take(s->environment_id, 64)));
    if (rc)
        return rc;
    if (env.archived_us) {
        json_fail(err, "", "environment_id",
                  "Environment '%s' is archived; new sessions cannot use it", env.id.z);
        err->detail = "environment_archived";
        return ERR_INVALID;
    }
    if (json_parse(&c->arena, env.body, 0, &doc, err) || !json_get(doc, "config"))
        return err_set(err, ERR_CORRUPT, "Environment '%s' cannot be read", env.id.z);
    s->row.environment_id = env.id;
    s->row.environment = json_get(doc, "config")->raw;
    return 0;
}

/* The session's row with its resources, and theirs. */
static int insert_session(struct store_tx *tx, struct call *c, struct create_call *s,
                          struct err *err)
{
    struct resource_made *made = NULL;
    int rc = resources_make(tx, c, &s->row, s->resources, s->nresources, &made, err);
    if (!rc && s->nresources)
        rc = resources_provision(&c->arena, s->row.provision, STR_NONE, made, s->nresources,
                                 &s->row.provision, err);
    if (!rc)
        rc = tx_session_insert(tx, &s->row, err);
    return rc ? rc : resources_insert(tx, c, s->row.key, made, s->nresources, err);
}

static int create_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct create_call *s = c->state;
    s->row.provision = s->row.outcomes = STR_NONE;
    int rc = resolve_agent(tx, c, s, err);
    if (!rc && s->refusal.code) {
        *err = s->refusal;
        rc = err->code;
    }
    if (!rc)
        rc = resolve_environment(tx, c, s, err);
    if (!rc)
        rc = insert_session(tx, c, s, err);
    if (!rc)
        rc = skill_refs_hold(tx, s->row.key, &s->agent.skills, err);
    if (!rc && session_self_hosted(&s->row))
        rc = tx_work_ensure(tx, s->row.key, s->row.created_us, NULL, err);
    if (!rc)
        rc = outcomes_accept(tx, c, &s->row, s->events, s->nevents, "/initial_events", err);
    return rc ? rc : inbox_accept(tx, &s->row, s->events, s->nevents, "/initial_events", err);
}

static void write_answer(struct call *c, struct buf *out)
{
    const struct create_call *s = c->state;
    struct session_row row = s->row;
    struct jw w = jw_to(out);
    row.inbox = s->nevents > 0;
    session_write(&w, &row, row.created_us);
}

static void created(struct call *c)
{
    const struct create_call *s = c->state;
    if (session_self_hosted(&s->row))
        work_wake(c->api, id_str(&s->row.environment_id));
    if (s->nevents > 0)
        engine_wake(c->api->cfg.engine, id_str(&s->row.id));
}

static void submit(struct call *c)
{
    static const struct call_creation how = {create_step, write_answer, created, NULL, NULL};
    call_create(c, &how);
}

/* Files are read before the transaction; what is wrong with them is said in it. */
static int prepare_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct create_call *s = c->state;
    s->refusal.code = 0;
    int rc = sources_resolve(tx, c, s->events, s->nevents, "/initial_events", err);
    if (rc == 0)
        rc = outcomes_resolve(tx, c, s->events, s->nevents, "/initial_events", err);
    if (rc != ERR_NOT_FOUND && rc != ERR_INVALID && rc != ERR_TOO_LARGE)
        return rc;
    s->refusal = *err;
    return 0;
}

static void prepared(struct call *c)
{
    if (c->req) /* else the client is gone, and nothing was accepted yet */
        submit(c);
}

void sessions_create(struct call *c)
{
    struct create_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    if (decode(c, s, &err)) {
        call_fail(c, &err);
        return;
    }
    session_begin(c, &s->row);
    if (sources_any(s->events, s->nevents) || outcomes_any_file(s->events, s->nevents))
        call_read(c, prepare_step, prepared);
    else
        submit(c);
}
