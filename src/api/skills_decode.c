#include "api/skills_decode.h"

#include "api/compact.h"
#include "base/id.h"
#include "base/limits.h"
#include "core/agent.h"
#include "json/decode.h"

struct skill_in {
    struct str type, id;
    const struct json *version;
};

static const struct json_field skill_fields[] = {
    JSON_FIELD_STR(struct skill_in, type, "type", .required = true),
    JSON_FIELD_STR(struct skill_in, id, "skill_id", .required = true, .min = 1, .max = 64),
    JSON_FIELD_ANY(struct skill_in, version, "version", .type = JSON_STRING, .nullable = true,
                   .min = 1, .max = 64),
    JSON_FIELD_END};

static int decode_skill(const struct json *v, const char *at, struct skill_in *out, struct err *err)
{
    if (v->type != JSON_OBJECT)
        return json_fail(err, at, NULL, "Input should be a valid object");
    int rc = json_decode(v, skill_fields, out, sizeof *out, at, err);
    if (rc)
        return rc;
    if (str_eqz(out->type, "anthropic"))
        return json_fail(err, at, "type",
                         "Pre-built skills such as '" STR_FMT "' are not available here; upload "
                         "one with POST /v1/skills and refer to it with type 'custom'",
                         STR_ARG(str_utf8_take(out->id, 64)));
    if (!str_eqz(out->type, "custom"))
        return json_fail(err, at, "type", "Input should be 'custom'");
    if (!id_valid(out->id, "skill"))
        return json_fail(err, at, "skill_id", "Input should be the id of a skill, 'skill_...'");
    return 0;
}

/* True when an earlier entry of the array has the same skill, in whichever version. */
static bool is_repeated(const struct json *skills, const struct json *v, struct str id)
{
    json_for_each (other, skills) {
        if (other == v)
            break;
        if (str_eq(json_get_str(other, "skill_id"), id))
            return true;
    }
    return false;
}

int skills_decode(struct arena *a, const struct json *skills, const char *at, struct str *out,
                  struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT(64 * 1024);
    struct jw w = jw_to(&b);
    size_t i = 0;
    if (skills && skills->type == JSON_ARRAY && skills->count > LIMIT_AGENT_SKILLS)
        return json_fail(err, at, NULL, "List should have at most %d items, not %u",
                         LIMIT_AGENT_SKILLS, skills->count);
    jw_arr(&w);
    json_for_each (v, skills) {
        char where[ERR_AT_MAX];
        struct skill_in in;
        json_pointer_index(where, at, i++);
        int rc = decode_skill(v, where, &in, err);
        if (rc)
            return rc;
        if (is_repeated(skills, v, in.id))
            return json_fail(err, where, "skill_id", "'" STR_FMT "' is there twice",
                             STR_ARG(in.id));
        jw_obj(&w);
        jw_kz(&w, "type", "custom");
        jw_kstr(&w, "skill_id", in.id);
        jw_kstr(&w, "version", json_is(in.version, JSON_STRING) ? in.version->str : STR("latest"));
        jw_obj_end(&w);
    }
    jw_arr_end(&w);
    return compact_keep(a, &b, out, err);
}

int skills_check_tools(struct arena *a, struct str skills, struct str tools, const char *at,
                       struct err *err)
{
    struct agent ag;
    if (str_eqz(skills, "[]"))
        return 0;
    struct str text = arena_printf(a, "{\"tools\":" STR_FMT "}", STR_ARG(tools));
    if (!str_some(text))
        return err_set(err, ERR_LIMIT, "the request is too large");
    int rc = agent_read(a, text, &ag, err);
    if (rc)
        return rc;
    if (ag.tools[TOOL_READ].offered)
        return 0;
    return json_fail(
        err, at, NULL,
        "Skills need the read tool: add agent_toolset_20260401 with 'read' enabled, or "
        "leave the skills out");
}
