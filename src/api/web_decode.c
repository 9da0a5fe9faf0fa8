#include "api/web_decode.h"

#include "core/web_rules.h"
#include "json/decode.h"

static bool is_set(const struct json *v)
{
    return v && v->type != JSON_NULL;
}

/* ---- domains: the messages are the published ones, without the way to the tool's config ---- */

static int check_domains(const struct json *list, const char *name, bool path, const char *at,
                         struct err *err)
{
    char where[ERR_AT_MAX];
    json_pointer_key(where, at, str_z(name));
    if (!is_set(list))
        return 0;
    if (list->type != JSON_ARRAY)
        return err_at(err, ERR_INVALID, where, "%s: Input should be a valid array", name);
    if (list->count == 0)
        return err_at(
            err, ERR_INVALID, where,
            "%s: Empty list of domains is ambiguous. Provide at least one domain or null.", name);
    if (list->count > WEB_DOMAINS_MAX)
        return err_at(err, ERR_INVALID, where, "%s: At most %d domains are allowed", name,
                      WEB_DOMAINS_MAX);
    size_t i = 0;
    json_for_each (entry, list) {
        char item[ERR_AT_MAX];
        json_pointer_index(item, where, i);
        const char *why = entry->type == JSON_STRING ? web_domain_refused(entry->str, path)
                                                     : "Input should be a valid string";
        if (why)
            return err_at(err, ERR_INVALID, item, "%s.%zu: %s", name, i, why);
        i++;
    }
    return 0;
}

/* ---- where the user is ---- */

struct location_in {
    struct str type;
    const struct json *city, *country, *region, *timezone;
};

#define PLACE(member, nm)                                                                          \
    JSON_FIELD_ANY(struct location_in, member, nm, .type = JSON_STRING, .nullable = true,          \
                   .min = 1, .max = 255)
static const struct json_field location_fields[] = {
    JSON_FIELD_STR(struct location_in, type, "type", .required = true),
    PLACE(city, "city"),
    PLACE(country, "country"),
    PLACE(region, "region"),
    PLACE(timezone, "timezone"),
    JSON_FIELD_END};

static bool is_country(struct str s)
{
    return s.len == 2 && s.ptr[0] >= 'A' && s.ptr[0] <= 'Z' && s.ptr[1] >= 'A' && s.ptr[1] <= 'Z';
}

static int check_location(const struct json *v, const char *at, struct err *err)
{
    char where[ERR_AT_MAX];
    struct location_in in;
    json_pointer_key(where, at, STR("user_location"));
    if (!is_set(v))
        return 0;
    int rc = json_decode(v, location_fields, &in, sizeof in, where, err);
    if (rc)
        return rc;
    if (!str_eqz(in.type, "approximate"))
        return json_fail(err, where, "type", "Input should be 'approximate'");
    if (is_set(in.country) && !is_country(in.country->str))
        return json_fail(err, where, "country",
                         "Input should be a two-letter ISO 3166-1 code in upper case, like 'DE'");
    return 0;
}

static void write_location(struct jw *w, const struct json *v)
{
    static const char *const names[] = {"city", "country", "region", "timezone"};
    jw_key(w, "user_location");
    jw_obj(w);
    jw_kz(w, "type", "approximate");
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const struct json *place = json_get(v, names[i]);
        if (is_set(place))
            jw_kstr(w, names[i], place->str);
        else
            jw_knull(w, names[i]);
    }
    jw_obj_end(w);
}

/* ---- sources of URLs ---- */

struct sources_in {
    const struct json *user_input, *client, *server;
};

static const struct json_field sources_fields[] = {
    JSON_FIELD_ANY(struct sources_in, user_input, "user_input"),
    JSON_FIELD_ANY(struct sources_in, client, "client_tool_results"),
    JSON_FIELD_ANY(struct sources_in, server, "server_tool_results"), JSON_FIELD_END};

struct filter_in {
    struct str type;
    const struct json *tools;
};

static const struct json_field filter_fields[] = {
    JSON_FIELD_STR(struct filter_in, type, "type", .required = true),
    JSON_FIELD_ANY(struct filter_in, tools, "tools", .type = JSON_ARRAY), JSON_FIELD_END};

struct reference_in {
    struct str type, name;
};

static const struct json_field reference_fields[] = {
    JSON_FIELD_STR(struct reference_in, type, "type", .required = true),
    JSON_FIELD_STR(struct reference_in, name, "name", .required = true, .min = 1, .max = 128),
    JSON_FIELD_END};

enum source { SOURCE_USER, SOURCE_CLIENT, SOURCE_SERVER };

static bool is_custom(const struct json *tools, struct str name)
{
    json_for_each (tool, tools)
        if (str_eqz(json_get_str(tool, "type"), "custom") &&
            str_eq(json_get_str(tool, "name"), name))
            return true;
    return false;
}

static int check_reference(const struct json *list, size_t index, const struct json *ref,
                           enum source source, const struct json *tools, const char *at,
                           struct err *err)
{
    struct reference_in in;
    int rc = json_decode(ref, reference_fields, &in, sizeof in, at, err);
    if (rc)
        return rc;
    if (!str_eqz(in.type, "tool_reference"))
        return json_fail(err, at, "type", "Input should be 'tool_reference'");
    const struct json *other = list->child;
    for (size_t i = 0; i < index; i++, other = other->next)
        if (str_eq(json_get_str(other, "name"), in.name))
            return json_fail(err, at, "name", "'" STR_FMT "' is named twice", STR_ARG(in.name));
    enum tool_id tool = tool_of(in.name);
    if (source == SOURCE_SERVER && tool != TOOL_WEB_FETCH && tool != TOOL_WEB_SEARCH)
        return json_fail(err, at, "name", "Input should be 'web_search' or 'web_fetch'");
    if (source == SOURCE_CLIENT && !is_custom(tools, in.name))
        return json_fail(err, at, "name", "'" STR_FMT "' is no custom tool of this agent",
                         STR_ARG(in.name));
    return 0;
}

static int check_references(const struct json *list, enum source source, const struct json *tools,
                            const char *at, struct err *err)
{
    char where[ERR_AT_MAX];
    json_pointer_key(where, at, STR("tools"));
    if (!list)
        return json_fail(err, where, NULL, "Field required");
    if (list->count < 1 || list->count > WEB_SOURCE_TOOLS_MAX)
        return json_fail(err, where, NULL, "Between 1 and %d tools; use 'all' or 'none' otherwise",
                         WEB_SOURCE_TOOLS_MAX);
    size_t i = 0;
    json_for_each (ref, list) {
        char item[ERR_AT_MAX];
        json_pointer_index(item, where, i);
        int rc = check_reference(list, i++, ref, source, tools, item, err);
        if (rc)
            return rc;
    }
    return 0;
}

static bool is_all_or_none(struct str type)
{
    return str_eqz(type, "all") || str_eqz(type, "none");
}

static int check_source(const struct json *v, enum source source, const char *name,
                        const struct json *tools, const char *at, struct err *err)
{
    char where[ERR_AT_MAX];
    struct filter_in in;
    json_pointer_key(where, at, str_z(name));
    if (!is_set(v) || (v->type == JSON_STRING && is_all_or_none(v->str)))
        return 0;
    if (v->type == JSON_STRING)
        return json_fail(err, where, NULL, "Input should be 'all' or 'none'");
    int rc = json_decode(v, filter_fields, &in, sizeof in, where, err);
    if (rc)
        return rc;
    if (is_all_or_none(in.type))
        return in.tools ? json_fail(err, where, "tools", "Extra inputs are not permitted") : 0;
    if (source == SOURCE_USER)
        return json_fail(err, where, "type", "Input should be 'all' or 'none'");
    if (!str_eqz(in.type, "only") && !str_eqz(in.type, "except"))
        return json_fail(err, where, "type", "Input should be 'all', 'none', 'only' or 'except'");
    return check_references(in.tools, source, tools, where, err);
}

static bool is_none(const struct json *v)
{
    return str_eqz(json_is(v, JSON_STRING) ? v->str : json_get_str(v, "type"), "none");
}

static int check_sources(const struct json *v, const struct json *tools, const char *at,
                         struct err *err)
{
    char where[ERR_AT_MAX];
    struct sources_in in;
    json_pointer_key(where, at, STR("url_sources"));
    if (!is_set(v))
        return 0;
    int rc = json_decode(v, sources_fields, &in, sizeof in, where, err);
    rc = rc ? rc : check_source(in.user_input, SOURCE_USER, "user_input", tools, where, err);
    rc = rc ? rc : check_source(in.client, SOURCE_CLIENT, "client_tool_results", tools, where, err);
    rc = rc ? rc : check_source(in.server, SOURCE_SERVER, "server_tool_results", tools, where, err);
    if (rc == 0 && is_none(in.user_input) && is_none(in.client) && is_none(in.server))
        return json_fail(err, where, NULL,
                         "All three sources are 'none', so that nothing could be fetched; disable "
                         "web_fetch instead");
    return rc;
}

static void write_source(struct jw *w, const struct json *sources, const char *name)
{
    const struct json *v = json_get(sources, name);
    jw_key(w, name);
    if (!is_set(v)) {
        jw_null(w);
        return;
    }
    struct str type = v->type == JSON_STRING ? v->str : json_get_str(v, "type");
    jw_obj(w);
    jw_kstr(w, "type", type);
    if (!is_all_or_none(type)) {
        jw_key(w, "tools");
        jw_arr(w);
        json_for_each (ref, json_get(v, "tools")) {
            jw_obj(w);
            jw_kz(w, "type", "tool_reference");
            jw_kstr(w, "name", json_get_str(ref, "name"));
            jw_obj_end(w);
        }
        jw_arr_end(w);
    }
    jw_obj_end(w);
}

static void write_sources(struct jw *w, const struct json *v)
{
    jw_key(w, "url_sources");
    if (!is_set(v)) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    write_source(w, v, "client_tool_results");
    write_source(w, v, "server_tool_results");
    write_source(w, v, "user_input");
    jw_obj_end(w);
}

/* ---- all of it ---- */

static int check_place(enum tool_id tool, const struct web_settings *s, const char *at,
                       struct err *err)
{
    const struct {
        const char *name;
        const struct json *value;
        bool fetch, search;
    } rows[] = {{"allowed_domains", s->allowed_domains, true, true},
                {"blocked_domains", s->blocked_domains, true, true},
                {"max_content_tokens", s->max_content_tokens, true, false},
                {"url_sources", s->url_sources, true, false},
                {"user_location", s->user_location, false, true}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        bool here = (tool == TOOL_WEB_FETCH && rows[i].fetch) ||
                    (tool == TOOL_WEB_SEARCH && rows[i].search);
        if (is_set(rows[i].value) && !here)
            return json_fail(err, at, rows[i].name, "Extra inputs are not permitted for %s",
                             tool_name(tool));
    }
    return 0;
}

int web_decode(enum tool_id tool, const struct web_settings *s, const struct json *tools,
               const char *at, struct err *err)
{
    bool path = tool == TOOL_WEB_SEARCH;
    int64_t tokens = 0;
    int rc = check_place(tool, s, at, err);
    if (rc)
        return rc;
    if (is_set(s->allowed_domains) && is_set(s->blocked_domains))
        return err_at(err, ERR_INVALID, at,
                      "Only one of allowed_domains or blocked_domains may be set.");
    rc = check_domains(s->allowed_domains, "allowed_domains", path, at, err);
    rc = rc ? rc : check_domains(s->blocked_domains, "blocked_domains", path, at, err);
    rc = rc ? rc : check_location(s->user_location, at, err);
    rc = rc ? rc : check_sources(s->url_sources, tools, at, err);
    if (rc == 0 && is_set(s->max_content_tokens) &&
        (!json_i64(s->max_content_tokens, &tokens) || tokens < 1))
        return json_fail(err, at, "max_content_tokens",
                         "Input should be a whole number, 1 or more");
    return rc;
}

static void write_domains(struct jw *w, const char *name, const struct json *list)
{
    if (!is_set(list))
        return;
    jw_key(w, name);
    jw_arr(w);
    json_for_each (entry, list)
        jw_str(w, entry->str);
    jw_arr_end(w);
}

void web_write(struct jw *w, enum tool_id tool, const struct web_settings *s)
{
    int64_t tokens = 0;
    write_domains(w, "allowed_domains", s->allowed_domains);
    write_domains(w, "blocked_domains", s->blocked_domains);
    if (is_set(s->max_content_tokens) && json_i64(s->max_content_tokens, &tokens))
        jw_ki64(w, "max_content_tokens", tokens);
    if (is_set(s->user_location))
        write_location(w, s->user_location);
    if (tool == TOOL_WEB_FETCH)
        write_sources(w, s->url_sources);
}
