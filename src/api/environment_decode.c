#include "api/environment_decode.h"

#include "api/compact.h"
#include "api/environments_config.h"
#include "api/metadata.h"
#include "base/limits.h"
#include "json/decode.h"

#include <stdio.h>

struct environment_in {
    const struct json *name, *description, *metadata, *config, *scope;
};

#define IN(member, nm, ...) JSON_FIELD_ANY(struct environment_in, member, nm, __VA_ARGS__)
#define COMMON_FIELDS                                                                              \
    IN(description, "description", .type = JSON_STRING, .nullable = true,                          \
       .max = LIMIT_DESCRIPTION_CHARS),                                                            \
        IN(metadata, "metadata", .type = JSON_OBJECT, .nullable = true),                           \
        IN(config, "config", .type = JSON_OBJECT, .nullable = true), IN(scope, "scope")

static const struct json_field create_fields[] = {
    IN(name, "name", .type = JSON_STRING, .required = true, .min = 1, .max = LIMIT_NAME_CHARS),
    COMMON_FIELDS, JSON_FIELD_END};
static const struct json_field update_fields[] = {
    IN(name, "name", .type = JSON_STRING, .nullable = true, .min = 1, .max = LIMIT_NAME_CHARS),
    COMMON_FIELDS, JSON_FIELD_END};

struct config_in {
    const struct json *type, *networking;
    struct contents_patch contents;
};

#define IN_CONFIG(member, nm, ...) JSON_FIELD_ANY(struct config_in, member, nm, __VA_ARGS__)

static const struct json_field config_fields[] = {
    IN_CONFIG(type, "type", .type = JSON_STRING, .required = true),
    IN_CONFIG(networking, "networking", .type = JSON_OBJECT, .nullable = true),
    IN_CONFIG(contents.packages, "packages", .type = JSON_OBJECT, .nullable = true),
    IN_CONFIG(contents.setup, "setup", .nullable = true),
    IN_CONFIG(contents.variables, "variables", .nullable = true),
    IN_CONFIG(contents.limits, "limits", .nullable = true),
    IN_CONFIG(contents.image, "image", .nullable = true),
    JSON_FIELD_IGNORE("tier"), /* of a config as it was served */
    JSON_FIELD_END};

static const struct json_field self_hosted_fields[] = {
    IN_CONFIG(type, "type", .type = JSON_STRING, .required = true), JSON_FIELD_END};

struct networking_in {
    const struct json *type, *hosts, *mcp, *managers;
};

static const struct json_field networking_fields[] = {
    JSON_FIELD_ANY(struct networking_in, type, "type", .type = JSON_STRING, .required = true),
    JSON_FIELD_ANY(struct networking_in, hosts, "allowed_hosts", .type = JSON_ARRAY,
                   .nullable = true),
    JSON_FIELD_ANY(struct networking_in, mcp, "allow_mcp_servers", .type = JSON_BOOL,
                   .nullable = true),
    JSON_FIELD_ANY(struct networking_in, managers, "allow_package_managers", .type = JSON_BOOL,
                   .nullable = true),
    JSON_FIELD_END};

static bool given(const struct json *v)
{
    return v && v->type != JSON_NULL;
}

/* ---- checks ---- */

static bool label_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

/* A bare name or "*.name": no scheme, port, path or blank. */
static bool host_name(struct str h)
{
    if (str_starts(h, STR("*.")))
        h = str_skip(h, 2);
    if (h.len == 0 || h.len > 253)
        return false;
    size_t label = 0;
    for (size_t i = 0; i < h.len; i++) {
        if (h.ptr[i] == '.' ? label == 0 : !label_char(h.ptr[i]))
            return false;
        label = h.ptr[i] == '.' ? 0 : label + 1;
        if (label > 63)
            return false;
    }
    return label > 0;
}

static int check_hosts(const struct json *hosts, const char *at, struct err *err)
{
    size_t i = 0;
    json_for_each (it, hosts) {
        char where[ERR_AT_MAX];
        json_pointer_key(where, at, STR("allowed_hosts"));
        json_pointer_index(where, where, i++);
        if (it->type != JSON_STRING || !host_name(it->str))
            return json_fail(err, where, NULL,
                             "Input should be a host name such as example.com or *.example.com, "
                             "without scheme, port or path");
        if (i > 1000)
            return json_fail(err, at, "allowed_hosts", "At most 1000 hosts are allowed");
    }
    return 0;
}

static int check_networking(const struct json *v, const char *at, struct networking_in *in,
                            struct err *err)
{
    int rc = json_decode(v, networking_fields, in, sizeof *in, at, err);
    if (rc)
        return rc;
    bool limited = str_eqz(in->type->str, "limited");
    if (!limited && !str_eqz(in->type->str, "unrestricted"))
        return json_fail(err, at, "type", "Input should be 'unrestricted' or 'limited'");
    if (!limited && (given(in->hosts) || given(in->mcp) || given(in->managers)))
        return json_fail(err, at,
                         given(in->hosts) ? "allowed_hosts"
                         : given(in->mcp) ? "allow_mcp_servers"
                                          : "allow_package_managers",
                         "Only allowed with 'limited' networking");
    return given(in->hosts) ? check_hosts(in->hosts, at, err) : 0;
}

static bool is_self_hosted(const struct json *config)
{
    return str_eqz(json_get_str(config, "type"), "self_hosted");
}

static int check_config(const struct json *v, struct err *err)
{
    struct config_in in;
    struct networking_in net;
    if (is_self_hosted(v))
        return json_decode(v, self_hosted_fields, &in, sizeof in, "/config", err);
    int rc = json_decode(v, config_fields, &in, sizeof in, "/config", err);
    if (rc)
        return rc;
    if (!str_eqz(json_get_str(v, "type"), "cloud"))
        return json_fail(err, "/config", "type", "Input should be 'cloud' or 'self_hosted'");
    if (given(in.networking))
        rc = check_networking(in.networking, "/config/networking", &net, err);
    return rc ? rc : contents_check(&in.contents, err);
}

static int check_scope(const struct json *scope, struct err *err)
{
    if (!given(scope) || str_eqz(scope->str, "organization"))
        return 0;
    return json_fail(err, "", "scope",
                     str_eqz(scope->str, "account")
                         ? "'account' is for personal accounts; this server supports "
                           "'organization' only"
                         : "Input should be 'organization'");
}

int environment_patch_decode(const struct json *body, bool create, struct environment_patch *out,
                             struct err *err)
{
    struct environment_in in;
    int rc = json_decode(body, create ? create_fields : update_fields, &in, sizeof in, "", err);
    if (!rc)
        rc = metadata_check(in.metadata, !create, "/metadata", err);
    if (!rc)
        rc = check_scope(in.scope, err);
    if (!rc && given(in.config))
        rc = check_config(in.config, err);
    if (rc)
        return rc;
    *out = (struct environment_patch){
        .create = create,
        .name = given(in.name) ? in.name->str : STR_NONE,
        .description = in.description,
        .metadata = given(in.metadata) ? in.metadata : NULL,
        .config = given(in.config) ? in.config : NULL,
    };
    return 0;
}

/* ---- writing ---- */

static bool flag(const struct json *patch, const struct json *stored, const char *name)
{
    const struct json *v = json_get(patch, name);
    return json_is_true(given(v) ? v : json_get(stored, name));
}

static void write_hosts(struct jw *w, const struct json *hosts)
{
    jw_key(w, "allowed_hosts");
    jw_arr(w);
    json_for_each (it, hosts)
        jw_str(w, it->str);
    jw_arr_end(w);
}

/* A field that the patch omits keeps its stored value while the type stays the same. */
static void write_networking(struct jw *w, const struct json *patch, const struct json *stored)
{
    if (!given(patch))
        patch = NULL;
    struct str type = json_get_str(patch ? patch : stored, "type");
    bool limited = str_eqz(type, "limited");
    if (!str_eq(json_get_str(stored, "type"), type))
        stored = NULL;
    jw_key(w, "networking");
    jw_obj(w);
    jw_kz(w, "type", limited ? "limited" : "unrestricted");
    if (limited) {
        const struct json *hosts = json_get(patch, "allowed_hosts");
        write_hosts(w, given(hosts) ? hosts : json_get(stored, "allowed_hosts"));
        jw_kbool(w, "allow_mcp_servers", flag(patch, stored, "allow_mcp_servers"));
        jw_kbool(w, "allow_package_managers", flag(patch, stored, "allow_package_managers"));
    }
    jw_obj_end(w);
}

static void write_config(struct jw *w, const struct json *patch, const struct json *stored)
{
    jw_key(w, "config");
    jw_obj(w);
    if (is_self_hosted(patch ? patch : stored)) {
        jw_kz(w, "type", "self_hosted");
        jw_obj_end(w);
        return;
    }
    jw_kz(w, "type", "cloud");
    write_networking(w, json_get(patch, "networking"), json_get(stored, "networking"));
    const struct contents_patch contents = {
        .packages = json_get(patch, "packages"),
        .setup = json_get(patch, "setup"),
        .variables = json_get(patch, "variables"),
        .limits = json_get(patch, "limits"),
        .image = json_get(patch, "image"),
    };
    contents_write(w, &contents, stored);
    jw_obj_end(w);
}

static int check_type_change(const struct json *patch, const struct json *stored, struct err *err)
{
    struct str now = json_get_str(stored, "type"), want = json_get_str(patch, "type");
    if (!stored || !patch || str_eq(now, want))
        return 0;
    json_fail(err, "/config", "type",
              "The type of an environment cannot change; it is '" STR_FMT "'", STR_ARG(now));
    err->detail = "invalid_config_type_change";
    return ERR_INVALID;
}

/* What only the patch and what was stored together can break. */
static int check_whole(struct arena *a, struct str body, struct err *err)
{
    const struct json *doc;
    int rc = json_parse(a, body, 0, &doc, err);
    return rc ? rc : contents_check_reach(json_get(doc, "config"), err);
}

int environment_patch_apply(struct arena *a, const struct environment_patch *p, struct str stored,
                            struct str *out, struct err *err)
{
    const struct json *old = NULL;
    if (str_some(stored) && json_parse(a, stored, 0, &old, err))
        return err_set(err, ERR_CORRUPT, "A stored environment cannot be read");
    int rc = check_type_change(p->config, json_get(old, "config"), err);
    const struct json *bag = json_get(old, "metadata");
    struct str metadata;
    if (!rc)
        rc = metadata_merge(a, bag ? bag->raw : STR_NONE, p->metadata, true, "/metadata", &metadata,
                            err);
    if (rc)
        return rc;
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY * 2);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kstr(&w, "name", str_some(p->name) ? p->name : json_get_str(old, "name"));
    const struct json *description = p->description ? p->description : json_get(old, "description");
    jw_key(&w, "description");
    jw_str(&w, description ? description->str : STR_NONE); /* "" where unset, never null */
    write_config(&w, p->config, json_get(old, "config"));
    jw_kraw(&w, "metadata", metadata);
    jw_kz(&w, "scope", "organization");
    jw_obj_end(&w);
    rc = compact_keep(a, &b, out, err);
    return rc ? rc : check_whole(a, *out, err);
}
