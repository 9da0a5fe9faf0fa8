#include "api/tools_decode.h"

#include "api/compact.h"
#include "api/web_decode.h"
#include "base/limits.h"
#include "core/agent.h"
#include "json/decode.h"

#include <stdio.h>

struct toolset_in {
    const struct json *type, *configs, *default_config;
};

static const struct json_field toolset_fields[] = {
    JSON_FIELD_ANY(struct toolset_in, type, "type", .required = true),
    JSON_FIELD_ANY(struct toolset_in, configs, "configs", .type = JSON_ARRAY, .nullable = true),
    JSON_FIELD_ANY(struct toolset_in, default_config, "default_config", .type = JSON_OBJECT,
                   .nullable = true),
    JSON_FIELD_END};

struct config_in {
    const struct json *name, *type, *enabled, *policy;
    struct web_settings web;
};

static const struct json_field default_fields[] = {
    JSON_FIELD_ANY(struct config_in, enabled, "enabled", .type = JSON_BOOL, .nullable = true),
    JSON_FIELD_ANY(struct config_in, policy, "permission_policy", .type = JSON_OBJECT,
                   .nullable = true),
    JSON_FIELD_END};

static const struct json_field config_fields[] = {
    JSON_FIELD_ANY(struct config_in, name, "name", .type = JSON_STRING, .required = true),
    JSON_FIELD_ANY(struct config_in, type, "type", .type = JSON_STRING),
    JSON_FIELD_ANY(struct config_in, enabled, "enabled", .type = JSON_BOOL, .nullable = true),
    JSON_FIELD_ANY(struct config_in, policy, "permission_policy", .type = JSON_OBJECT,
                   .nullable = true),
    JSON_FIELD_ANY(struct config_in, web.allowed_domains, "allowed_domains"),
    JSON_FIELD_ANY(struct config_in, web.blocked_domains, "blocked_domains"),
    JSON_FIELD_ANY(struct config_in, web.max_content_tokens, "max_content_tokens"),
    JSON_FIELD_ANY(struct config_in, web.url_sources, "url_sources"),
    JSON_FIELD_ANY(struct config_in, web.user_location, "user_location"),
    JSON_FIELD_END};

struct custom_in {
    const struct json *type, *name, *description, *schema;
};

static const struct json_field custom_fields[] = {
    JSON_FIELD_ANY(struct custom_in, type, "type", .required = true),
    JSON_FIELD_ANY(struct custom_in, name, "name", .type = JSON_STRING, .required = true),
    JSON_FIELD_ANY(struct custom_in, description, "description", .type = JSON_STRING,
                   .required = true, .min = 1, .max = -1),
    JSON_FIELD_ANY(struct custom_in, schema, "input_schema", .type = JSON_OBJECT, .required = true),
    JSON_FIELD_END};

struct policy_in {
    struct str type;
};

static const struct json_field policy_fields[] = {
    JSON_FIELD_STR(struct policy_in, type, "type", .required = true), JSON_FIELD_END};

struct decoder {
    struct arena *arena;
    struct err *err;
    struct jw *w;
    const struct json *tools; /* the whole array, for uniqueness of names */
    bool toolset;             /* one was seen */
    size_t offered;           /* tools counted over all entries */
};

/* `*out` is left alone when no policy is given. */
static int read_policy(struct decoder *d, const struct json *policy, const char *at,
                       struct str *out)
{
    if (!policy || policy->type == JSON_NULL)
        return 0;
    char where[ERR_AT_MAX];
    json_pointer_key(where, at, STR("permission_policy"));
    struct policy_in in;
    int rc = json_decode(policy, policy_fields, &in, sizeof in, where, d->err);
    if (rc)
        return rc;
    if (!str_eqz(in.type, "always_allow") && !str_eqz(in.type, "always_ask") &&
        !str_eqz(in.type, "auto"))
        return json_fail(d->err, where, "type",
                         "Input should be 'always_allow', 'always_ask' or 'auto'");
    *out = in.type;
    return 0;
}

static bool flag(const struct json *v, bool otherwise)
{
    return json_is(v, JSON_BOOL) ? v->boolean : otherwise;
}

static void write_common(struct jw *w, bool enabled, struct str policy)
{
    jw_kbool(w, "enabled", enabled);
    jw_key(w, "permission_policy");
    jw_obj(w);
    jw_kstr(w, "type", policy);
    jw_obj_end(w);
}

static int check_config(struct decoder *d, const struct config_in *in, const struct json *configs,
                        size_t index, const char *at)
{
    if (tool_of(in->name->str) == TOOL_COUNT)
        return json_fail(d->err, at, "name",
                         "Input should be one of bash, read, write, edit, glob, grep, web_fetch, "
                         "web_search");
    if (in->type && !str_eq(in->type->str, in->name->str))
        return json_fail(d->err, at, "type", "Input should be '" STR_FMT "', like name",
                         STR_ARG(in->name->str));
    const struct json *other = configs->child;
    for (size_t i = 0; i < index; i++, other = other->next)
        if (str_eq(json_get_str(other, "name"), in->name->str))
            return json_fail(d->err, at, "name", "'" STR_FMT "' is configured twice",
                             STR_ARG(in->name->str));
    return web_decode(tool_of(in->name->str), &in->web, d->tools, at, d->err);
}

/* What a toolset's default_config says, for the tools that say nothing of their own. */
struct defaults {
    bool enabled;
    struct str policy;
};

static int decode_config(struct decoder *d, const struct json *configs, const struct json *config,
                         size_t index, struct defaults def, const char *at)
{
    struct config_in in;
    int rc = json_decode(config, config_fields, &in, sizeof in, at, d->err);
    if (!rc)
        rc = check_config(d, &in, configs, index, at);
    if (!rc)
        rc = read_policy(d, in.policy, at, &def.policy);
    if (rc)
        return rc;
    jw_obj(d->w);
    jw_kstr(d->w, "name", in.name->str);
    jw_kstr(d->w, "type", in.name->str);
    write_common(d->w, flag(in.enabled, def.enabled), def.policy);
    web_write(d->w, tool_of(in.name->str), &in.web);
    jw_obj_end(d->w);
    return 0;
}

static int decode_toolset(struct decoder *d, const struct json *tool, const char *at)
{
    if (d->toolset)
        return json_fail(d->err, at, "type", "agent_toolset_20260401 may appear only once");
    d->toolset = true;
    d->offered += TOOL_COUNT;
    struct toolset_in in;
    int rc = json_decode(tool, toolset_fields, &in, sizeof in, at, d->err);
    if (rc)
        return rc;
    struct config_in given = {0};
    struct defaults def = {.policy = STR("always_allow")};
    char where[ERR_AT_MAX];
    json_pointer_key(where, at, STR("default_config"));
    if (json_is(in.default_config, JSON_OBJECT)) {
        rc = json_decode(in.default_config, default_fields, &given, sizeof given, where, d->err);
        if (!rc)
            rc = read_policy(d, given.policy, where, &def.policy);
        if (rc)
            return rc;
    }
    def.enabled = flag(given.enabled, true);
    jw_obj(d->w);
    jw_kz(d->w, "type", "agent_toolset_20260401");
    jw_key(d->w, "default_config");
    jw_obj(d->w);
    write_common(d->w, def.enabled, def.policy);
    jw_obj_end(d->w);
    jw_key(d->w, "configs");
    jw_arr(d->w);
    size_t i = 0;
    json_for_each (config, in.configs) {
        json_pointer_key(where, at, STR("configs"));
        json_pointer_index(where, where, i);
        rc = decode_config(d, in.configs, config, i++, def, where);
        if (rc)
            return rc;
    }
    jw_arr_end(d->w);
    jw_obj_end(d->w);
    return 0;
}

static bool name_of(struct str s, size_t max, const char *extra)
{
    if (s.len < 1 || s.len > max)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c && strchr(extra, c))))
            return false;
    }
    return true;
}

static int check_custom_name(struct decoder *d, const struct json *tool, struct str name,
                             const char *at)
{
    if (!name_of(name, 128, "_-"))
        return json_fail(d->err, at, "name",
                         "A tool's name is 1 to 128 letters, digits, '_' or '-'");
    if (tool_of(name) != TOOL_COUNT)
        return json_fail(d->err, at, "name", "'" STR_FMT "' is the name of a built-in tool",
                         STR_ARG(name));
    if (str_starts(name, STR("mcp__")) || str_starts(name, STR("ant__")))
        return json_fail(d->err, at, "name", "The prefixes 'mcp__' and 'ant__' are reserved");
    json_for_each (other, d->tools) {
        if (other == tool)
            break;
        if (str_eq(json_get_str(other, "name"), name))
            return json_fail(d->err, at, "name", "'" STR_FMT "' is defined twice", STR_ARG(name));
    }
    return 0;
}

static bool holds_ref(const struct json *v)
{
    json_for_each (it, v)
        if ((v->type == JSON_OBJECT && str_eqz(it->key, "$ref")) || holds_ref(it))
            return true;
    return false;
}

static int check_schema(struct decoder *d, const struct json *schema, const char *at)
{
    static const char *const combiners[] = {"oneOf", "anyOf", "allOf"};
    if (!str_eqz(json_get_str(schema, "type"), "object"))
        return json_fail(d->err, at, "type", "Input should be 'object'");
    for (size_t i = 0; i < COUNT_OF(combiners); i++)
        if (json_get(schema, combiners[i]))
            return json_fail(d->err, at, combiners[i], "Not allowed at the top of an input schema");
    if (holds_ref(schema))
        return json_fail(d->err, at, NULL, "$ref is not allowed; write the schema out in place");
    const struct json *properties = json_get(schema, "properties");
    if (properties && properties->type != JSON_OBJECT && properties->type != JSON_NULL)
        return json_fail(d->err, at, "properties", "Input should be a valid object");
    json_for_each (it, properties)
        if (!name_of(it->key, 64, "_.-")) {
            char where[ERR_AT_MAX];
            json_pointer_key(where, at, STR("properties"));
            json_pointer_key(where, where, it->key);
            return json_fail(d->err, where, NULL,
                             "A property's name is 1 to 64 letters, digits, '_', '.' or '-'");
        }
    const struct json *required = json_get(schema, "required");
    if (required && required->type != JSON_ARRAY && required->type != JSON_NULL)
        return json_fail(d->err, at, "required", "Input should be a valid array");
    json_for_each (it, required)
        if (it->type != JSON_STRING)
            return json_fail(d->err, at, "required", "Input should be an array of strings");
    return 0;
}

static int decode_custom(struct decoder *d, const struct json *tool, const char *at)
{
    struct custom_in in;
    int rc = json_decode(tool, custom_fields, &in, sizeof in, at, d->err);
    if (!rc)
        rc = check_custom_name(d, tool, in.name->str, at);
    if (!rc) {
        char where[ERR_AT_MAX];
        json_pointer_key(where, at, STR("input_schema"));
        rc = check_schema(d, in.schema, where);
    }
    if (rc)
        return rc;
    d->offered++;
    jw_obj(d->w);
    jw_kz(d->w, "type", "custom");
    jw_kstr(d->w, "name", in.name->str);
    jw_kstr(d->w, "description", in.description->str);
    jw_key(d->w, "input_schema");
    compact_value(d->w, in.schema->raw);
    jw_obj_end(d->w);
    return 0;
}

static int decode_tool(struct decoder *d, const struct json *tool, const char *at)
{
    if (tool->type != JSON_OBJECT)
        return json_fail(d->err, at, NULL, "Input should be a valid object");
    struct str type = json_get_str(tool, "type");
    if (str_eqz(type, "agent_toolset_20260401"))
        return decode_toolset(d, tool, at);
    if (str_eqz(type, "custom"))
        return decode_custom(d, tool, at);
    if (str_eqz(type, "mcp_toolset"))
        return json_fail(d->err, at, "type", "mcp_toolset is not supported by this version");
    if (!json_get(tool, "type"))
        return json_fail(d->err, at, "type", "Field required");
    return json_fail(d->err, at, "type",
                     "Input should be 'agent_toolset_20260401', 'mcp_toolset' or 'custom'");
}

static int decode_all(struct decoder *d, const char *at)
{
    size_t i = 0;
    json_for_each (tool, d->tools) {
        char where[ERR_AT_MAX];
        json_pointer_index(where, at, i++);
        int rc = decode_tool(d, tool, where);
        if (rc)
            return rc;
        if (d->offered > LIMIT_TOOLS)
            return json_fail(d->err, at, NULL, "At most %d tools are allowed over all toolsets",
                             LIMIT_TOOLS);
    }
    return 0;
}

int tools_decode(struct arena *a, const struct json *tools, const char *at, struct str *out,
                 struct err *err)
{
    if (json_is(tools, JSON_NULL))
        tools = NULL;
    if (tools && tools->type != JSON_ARRAY)
        return json_fail(err, at, NULL, "Input should be a valid array");
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY * 2);
    struct jw w = jw_to(&b);
    struct decoder d = {.arena = a, .err = err, .w = &w, .tools = tools};
    jw_arr(&w);
    int rc = decode_all(&d, at);
    if (rc) {
        buf_fini(&b);
        return rc;
    }
    jw_arr_end(&w);
    return compact_keep(a, &b, out, err);
}
