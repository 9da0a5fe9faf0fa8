#include "api/session_agent.h"

#include "api/budget_decode.h"
#include "api/compact.h"

#include "base/limits.h"
#include "json/decode.h"

struct reference_in {
    const struct json *type, *id, *version;
};
static const struct json_field reference_fields[] = {
    JSON_FIELD_ANY(struct reference_in, type, "type", .type = JSON_STRING, .required = true),
    JSON_FIELD_ANY(struct reference_in, id, "id", .type = JSON_STRING, .required = true, .min = 1,
                   .max = 64),
    JSON_FIELD_ANY(struct reference_in, version, "version", .type = JSON_NUMBER), JSON_FIELD_END};

int session_agent_decode(struct call *c, const struct json *v, struct session_agent *out,
                         struct err *err)
{
    struct model_rules rules;
    if (v->type == JSON_STRING) {
        out->id = v->str;
        return 0;
    }
    if (v->type != JSON_OBJECT)
        return json_fail(err, "/agent", NULL, "Input should be an agent's id or an object");
    struct str type = json_get_str(v, "type");
    if (str_eqz(type, "agent_with_overrides")) {
        out->overrides = true;
        int rc = agent_patch_decode(&c->arena, v, AGENT_OVERRIDE, "/agent",
                                    call_model_rules(c, &rules), &out->patch, err);
        out->id = out->patch.id;
        out->version = out->patch.version;
        return rc;
    }
    struct reference_in in;
    int rc = json_decode(v, reference_fields, &in, sizeof in, "/agent", err);
    if (rc)
        return rc;
    if (!str_eqz(type, "agent"))
        return json_fail(err, "/agent", "type",
                         "Input should be 'agent' or 'agent_with_overrides'");
    out->id = in.id->str;
    if (in.version && (!json_i64(in.version, &out->version) || out->version < 1))
        return json_fail(err, "/agent", "version", "Input should be an integer of at least 1");
    return 0;
}

static int find(struct store_tx *tx, struct call *c, const struct session_agent *s,
                struct agent_row *row, struct err *err)
{
    int rc = ERR_NOT_FOUND;
    if (id_valid(s->id, "agent"))
        rc = tx_agent_get(tx, call_workspace(c), s->id, s->version, &c->arena, row, err);
    if (rc == ERR_NOT_FOUND && s->version)
        return err_at(err, rc, "/agent",
                      "agent: Agent '" STR_FMT "' has no version %lld, or does "
                      "not exist",
                      STR_ARG(str_utf8_take(s->id, 64)), (long long)s->version);
    if (rc == ERR_NOT_FOUND)
        return err_at(err, rc, "/agent", "agent: Agent '" STR_FMT "' not found",
                      STR_ARG(str_utf8_take(s->id, 64)));
    if (rc == 0 && row->archived_us)
        return json_fail(err, "", "agent", "Agent '%s' is archived; new sessions cannot use it",
                         row->id.z);
    return rc;
}

int session_agent_resolve(struct store_tx *tx, struct call *c, struct session_agent *s,
                          struct session_row *row, struct err *err)
{
    struct agent_row agent;
    struct agent_def def;
    int rc = find(tx, c, s, &agent, err);
    if (!rc)
        rc = agent_def_read(&c->arena, agent.body, &def, err);
    if (!rc && s->overrides)
        rc = agent_patch_apply(&c->arena, &s->patch, &def, err);
    if (!rc)
        rc = skill_refs_find(tx, call_workspace(c), def.skills, "/agent/skills", &c->arena,
                             &s->skills, err);
    /* The versions that the session keeps, whatever becomes of the skills. */
    if (!rc && s->skills.n)
        rc = skill_refs_snapshot(&s->skills, &c->arena, &def.skills, err);
    if (rc)
        return rc;
    row->agent_id = agent.id;
    row->agent_version = agent.version;
    s->limits = def.limits;
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY * 4ul);
    agent_snapshot_write(&def, id_str(&agent.id), agent.version, &b);
    return compact_keep(&c->arena, &b, &row->agent, err);
}

int session_agent_check_caps(struct call *c, const struct session_row *row, struct err *err)
{
    if (!row->budget_microusd && !row->limits.len)
        return 0;
    struct model_port models = model_router_port(c->api->cfg.models);
    struct model_facts facts = budget_model_facts(&models, row->agent);
    return budget_check_create(row, &facts, err);
}
