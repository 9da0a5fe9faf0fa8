#include "api/agent_decode.h"

#include "api/budget_decode.h"
#include "api/compact.h"
#include "api/metadata.h"
#include "api/skills_decode.h"
#include "api/tools_decode.h"
#include "base/limits.h"
#include "json/decode.h"

#include <stdio.h>

struct agent_in {
    const struct json *type, *id, *version, *name, *description, *model, *system, *tools,
        *mcp_servers, *skills, *multiagent, *identity, *metadata, *limits;
};

#define IN(member, name, ...) JSON_FIELD_ANY(struct agent_in, member, name, __VA_ARGS__)
#define DEFINITION_FIELDS                                                                          \
    IN(system, "system", .type = JSON_STRING, .nullable = true, .max = LIMIT_SYSTEM_CHARS),        \
        IN(tools, "tools", .type = JSON_ARRAY, .nullable = true),                                  \
        IN(mcp_servers, "mcp_servers", .type = JSON_ARRAY, .nullable = true),                      \
        IN(skills, "skills", .type = JSON_ARRAY, .nullable = true)
#define SAVED_FIELDS                                                                               \
    IN(description, "description", .type = JSON_STRING, .nullable = true,                          \
       .max = LIMIT_DESCRIPTION_CHARS),                                                            \
        IN(multiagent, "multiagent", .type = JSON_OBJECT, .nullable = true),                       \
        IN(identity, "execution_identity", .type = JSON_OBJECT, .nullable = true),                 \
        IN(limits, "limits"), IN(metadata, "metadata", .type = JSON_OBJECT, .nullable = true)

static const struct json_field create_fields[] = {
    IN(name, "name", .type = JSON_STRING, .required = true, .min = 1, .max = LIMIT_NAME_CHARS),
    IN(model, "model", .required = true), DEFINITION_FIELDS, SAVED_FIELDS, JSON_FIELD_END};

static const struct json_field update_fields[] = {
    IN(name, "name", .type = JSON_STRING, .min = 1, .max = LIMIT_NAME_CHARS),
    IN(model, "model"),
    IN(version, "version", .type = JSON_NUMBER),
    DEFINITION_FIELDS,
    SAVED_FIELDS,
    JSON_FIELD_END};

static const struct json_field override_fields[] = {
    IN(type, "type", .type = JSON_STRING, .required = true),
    IN(id, "id", .type = JSON_STRING, .required = true, .min = 1, .max = 64),
    IN(version, "version", .type = JSON_NUMBER),
    IN(model, "model"),
    DEFINITION_FIELDS,
    JSON_FIELD_END};

static const struct json_field session_fields[] = {
    IN(tools, "tools", .type = JSON_ARRAY, .nullable = true),
    IN(mcp_servers, "mcp_servers", .type = JSON_ARRAY, .nullable = true), JSON_FIELD_END};

static const struct json_field *const fields_of[] = {
    [AGENT_CREATE] = create_fields,
    [AGENT_UPDATE] = update_fields,
    [AGENT_OVERRIDE] = override_fields,
    [AGENT_SESSION] = session_fields,
};

static const char *const efforts[] = {"low", "medium", "high", "xhigh", "max", NULL};
static const char *const speeds[] = {"standard", "fast", NULL};

static bool given(const struct json *v)
{
    return v && v->type != JSON_NULL;
}

/* ---- model ---- */

struct model_object {
    struct str id;
    const struct json *effort, *geo;
    int speed;
};

static const struct json_field model_fields[] = {
    JSON_FIELD_STR(struct model_object, id, "id", .required = true, .min = 1, .max = 256),
    JSON_FIELD_ANY(struct model_object, effort, "effort"),
    JSON_FIELD_ANY(struct model_object, geo, "inference_geo"),
    JSON_FIELD_ENUM(struct model_object, speed, "speed", .names = speeds, .nullable = true),
    JSON_FIELD_END};

static int decode_effort(const struct json *v, const char *at, const char **out, struct err *err)
{
    if (!given(v))
        return 0;
    struct str name = v->type == JSON_OBJECT ? json_get_str(v, "type") : v->str;
    for (size_t i = 0; efforts[i]; i++)
        if (str_eqz(name, efforts[i])) {
            *out = efforts[i];
            return 0;
        }
    return json_fail(err, at, "effort",
                     "Input should be 'low', 'medium', 'high', 'xhigh' or 'max', or an object with "
                     "that as its type");
}

static int decode_model_object(const struct json *v, const char *at, struct model_in *out,
                               struct err *err)
{
    struct model_object in;
    int rc = json_decode(v, model_fields, &in, sizeof in, at, err);
    if (!rc)
        rc = decode_effort(in.effort, at, &out->effort, err);
    if (!rc && given(in.geo))
        rc = json_fail(err, at, "inference_geo",
                       "Not supported by this version; the region is the provider's");
    if (rc)
        return rc;
    out->id = in.id;
    out->speed = speeds[in.speed];
    return 0;
}

static int decode_model(const struct json *v, const char *at, const struct model_rules *rules,
                        struct model_in *out, struct err *err)
{
    char where[ERR_AT_MAX];
    json_pointer_key(where, at, STR("model"));
    *out = (struct model_in){.speed = speeds[0]};
    if (v->type == JSON_STRING) {
        out->id = v->str;
        if (v->str.len == 0 || str_utf8_len(v->str) > 256)
            return json_fail(err, where, NULL, "A model id has 1 to 256 characters");
    } else {
        if (v->type != JSON_OBJECT)
            return json_fail(err, where, NULL, "Input should be a model id or an object with one");
        int rc = decode_model_object(v, where, out, err);
        if (rc)
            return rc;
    }
    struct err why = {0};
    if (rules->check(rules->self, out->id, &why))
        return json_fail(err, where, v->type == JSON_OBJECT ? "id" : NULL, "%s", why.msg);
    out->default_effort = rules->default_effort(rules->self, out->id);
    return 0;
}

/* An update that names the same model keeps the stored effort; a per-session override never takes
 * one along: the model's default applies. */
static int write_model(struct arena *a, const struct model_in *m, enum agent_patch_kind kind,
                       struct str stored, struct str *out, struct err *err)
{
    struct str effort = str_z(m->effort ? m->effort : m->default_effort);
    if (kind == AGENT_OVERRIDE)
        effort = str_z(m->default_effort);
    if (kind == AGENT_UPDATE && !m->effort && str_some(stored)) {
        const struct json *old;
        int rc = json_parse(a, stored, 0, &old, err);
        if (rc)
            return rc;
        struct str kept = json_get_str(json_get(old, "effort"), "type");
        if (str_eq(json_get_str(old, "id"), m->id) && str_some(kept))
            effort = kept;
    }
    struct buf b = BUF_INIT(4096);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kstr(&w, "id", m->id);
    jw_key(&w, "effort");
    jw_obj(&w);
    jw_kstr(&w, "type", effort);
    jw_obj_end(&w);
    jw_kz(&w, "speed", m->speed);
    jw_obj_end(&w);
    return compact_keep(a, &b, out, err);
}

/* ---- decoding a body ---- */

static int refuse_unsupported(const struct agent_in *in, const char *at, struct err *err)
{
    static const char say[] = "Not supported by this version; leave it out or empty";
    if (given(in->mcp_servers) && in->mcp_servers->count > 0)
        return json_fail(err, at, "mcp_servers", "%s", say);
    if (given(in->multiagent))
        return json_fail(err, at, "multiagent", "%s", say);
    if (given(in->identity) && !str_eqz(json_get_str(in->identity, "type"), "service_account"))
        return json_fail(err, at, "execution_identity",
                         "Only {\"type\":\"service_account\"} is supported by this version");
    return 0;
}

/* null and, where the contract says so, an empty string clear. */
static int text_or_null(struct arena *a, const struct json *v, struct str *out, struct err *err)
{
    if (!v)
        return 0;
    if (v->type == JSON_NULL || v->str.len == 0) {
        *out = STR("null");
        return 0;
    }
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY * 2);
    json_quote(&b, v->str);
    return compact_keep(a, &b, out, err);
}

static int decode_version(const struct json *v, const char *at, int64_t *out, struct err *err)
{
    if (v && (!json_i64(v, out) || *out < 1))
        return json_fail(err, at, "version", "Input should be an integer of at least 1");
    return 0;
}

static int decode_texts(struct arena *a, const struct agent_in *in, struct agent_patch *p,
                        struct err *err)
{
    int rc = text_or_null(a, in->name, &p->name, err);
    if (!rc)
        rc = text_or_null(a, in->description, &p->description, err);
    return rc ? rc : text_or_null(a, in->system, &p->system, err);
}

int agent_patch_decode(struct arena *a, const struct json *body, enum agent_patch_kind kind,
                       const char *at, const struct model_rules *rules, struct agent_patch *out,
                       struct err *err)
{
    struct agent_in in;
    int rc = json_decode(body, fields_of[kind], &in, sizeof in, at, err);
    if (rc)
        return rc;
    *out = (struct agent_patch){.kind = kind, .metadata = given(in.metadata) ? in.metadata : NULL};
    if (in.id)
        out->id = in.id->str;
    if (kind == AGENT_OVERRIDE && json_is(in.model, JSON_NULL)) {
        json_fail(err, at, "model",
                  "agent_model_required: an agent needs a model; omit the field "
                  "to inherit the agent's");
        err->detail = "agent_model_required";
        return ERR_INVALID;
    }
    if (in.model) {
        out->has_model = true;
        rc = decode_model(in.model, at, rules, &out->model, err);
    }
    char where[ERR_AT_MAX];
    json_pointer_key(where, at, STR("metadata"));
    if (!rc)
        rc = decode_texts(a, &in, out, err);
    if (!rc)
        rc = decode_version(in.version, at, &out->version, err);
    if (!rc)
        rc = refuse_unsupported(&in, at, err);
    if (!rc)
        rc = metadata_check(in.metadata, kind == AGENT_UPDATE, where, err);
    out->set_limits = in.limits != NULL;
    json_pointer_key(where, at, STR("limits"));
    if (!rc)
        rc = limits_decode(a, in.limits, where, &out->limits, err);
    json_pointer_key(where, at, STR("tools"));
    if (!rc && in.tools)
        rc = tools_decode(a, in.tools, where, &out->tools, err);
    json_pointer_key(where, at, STR("skills"));
    if (!rc && in.skills)
        rc = skills_decode(a, in.skills, where, &out->skills, err);
    return rc;
}

/* ---- applying ---- */

static void replace(struct str *to, struct str value)
{
    if (str_some(value))
        *to = value;
}

/* What is at fault when skills cannot be read: the skills, or the tools taken from under them. */
static const char *skills_pointer(const struct agent_patch *p)
{
    if (p->kind == AGENT_CREATE || p->kind == AGENT_UPDATE)
        return str_some(p->skills) ? "/skills" : "/tools";
    return str_some(p->skills) ? "/agent/skills" : "/agent/tools";
}

int agent_patch_apply(struct arena *a, const struct agent_patch *p, struct agent_def *def,
                      struct err *err)
{
    if (p->kind == AGENT_CREATE)
        *def = (struct agent_def){.description = STR("null"),
                                  .system = STR("null"),
                                  .tools = STR("[]"),
                                  .mcp_servers = STR("[]"),
                                  .skills = STR("[]"),
                                  .multiagent = STR("null"),
                                  .execution_identity = STR("{\"type\":\"service_account\"}")};
    replace(&def->name, p->name);
    replace(&def->description, p->description);
    replace(&def->system, p->system);
    replace(&def->tools, p->tools);
    replace(&def->skills, p->skills);
    if (p->set_limits)
        def->limits = p->limits;
    int rc = 0;
    if (p->has_model)
        rc = write_model(a, &p->model, p->kind, def->model, &def->model, err);
    if (!rc && (p->metadata || p->kind == AGENT_CREATE))
        rc = metadata_merge(a, def->metadata, p->metadata, false, "/metadata", &def->metadata, err);
    if (!rc && (str_some(p->skills) || str_some(p->tools)))
        rc = skills_check_tools(a, def->skills, def->tools, skills_pointer(p), err);
    return rc;
}

/* ---- stored text ---- */

struct def_field {
    const char *name;
    size_t offset;
};

static const struct def_field def_fields[] = {
    {"name", offsetof(struct agent_def, name)},
    {"description", offsetof(struct agent_def, description)},
    {"model", offsetof(struct agent_def, model)},
    {"system", offsetof(struct agent_def, system)},
    {"tools", offsetof(struct agent_def, tools)},
    {"mcp_servers", offsetof(struct agent_def, mcp_servers)},
    {"skills", offsetof(struct agent_def, skills)},
    {"multiagent", offsetof(struct agent_def, multiagent)},
    {"execution_identity", offsetof(struct agent_def, execution_identity)},
    {"metadata", offsetof(struct agent_def, metadata)},
};

int agent_def_read(struct arena *a, struct str body, struct agent_def *out, struct err *err)
{
    const struct json *doc;
    int rc = json_parse(a, body, 0, &doc, err);
    if (rc)
        return err_set(err, ERR_CORRUPT, "A stored agent definition cannot be read");
    for (size_t i = 0; i < COUNT_OF(def_fields); i++) {
        const struct json *v = json_get(doc, def_fields[i].name);
        if (!v)
            return err_set(err, ERR_CORRUPT, "A stored agent definition lacks %s",
                           def_fields[i].name);
        *(struct str *)(void *)((char *)out + def_fields[i].offset) = v->raw;
    }
    const struct json *limits = json_get(doc, "limits");
    out->limits = limits ? limits->raw : STR_NONE;
    return 0;
}

static void write_fields(struct jw *w, const struct agent_def *def, size_t n)
{
    for (size_t i = 0; i < n; i++)
        jw_kraw(w, def_fields[i].name,
                *(const struct str *)(const void *)((const char *)def + def_fields[i].offset));
}

void agent_def_write(const struct agent_def *def, struct buf *out)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    write_fields(&w, def, COUNT_OF(def_fields));
    if (def->limits.len)
        jw_kraw(&w, "limits", def->limits);
    jw_obj_end(&w);
}

void agent_snapshot_write(const struct agent_def *def, struct str id, int64_t version,
                          struct buf *out)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kstr(&w, "id", id);
    jw_kz(&w, "type", "agent");
    jw_ki64(&w, "version", version);
    write_fields(&w, def, COUNT_OF(def_fields) - 1); /* all but the metadata, which is last */
    jw_obj_end(&w);
}

int agent_thread_snapshot(struct arena *a, struct str snapshot, struct str *out, struct err *err)
{
    const struct json *doc;
    int rc = json_parse(a, snapshot, 0, &doc, err);
    if (rc)
        return err_set(err, ERR_CORRUPT, "A stored agent snapshot cannot be read");
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY * 4);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    json_for_each (it, doc) {
        if (str_eqz(it->key, "multiagent"))
            continue;
        jw_key_str(&w, it->key);
        jw_raw(&w, it->raw);
    }
    jw_obj_end(&w);
    return compact_keep(a, &b, out, err);
}

/* There are no MCP servers to replace yet: the patch has been checked to name none. */
int agent_snapshot_patch(struct arena *a, const struct agent_patch *p, struct str snapshot,
                         struct str *out, struct err *err)
{
    const struct json *doc;
    int rc = json_parse(a, snapshot, 0, &doc, err);
    if (rc)
        return err_set(err, ERR_CORRUPT, "A stored agent snapshot cannot be read");
    const struct json *skills = json_get(doc, "skills");
    if (skills && str_some(p->tools))
        rc = skills_check_tools(a, skills->raw, p->tools, skills_pointer(p), err);
    if (rc)
        return rc;
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY * 4);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    json_for_each (it, doc) {
        jw_key_str(&w, it->key);
        jw_raw(&w, str_eqz(it->key, "tools") && str_some(p->tools) ? p->tools : it->raw);
    }
    jw_obj_end(&w);
    return compact_keep(a, &b, out, err);
}
