#include "api/environments_config.h"

#include "api/compact.h"
#include "json/decode.h"

#include <stdio.h>

enum {
    PACKAGES_MAX = 500, /* of one manager */
    PACKAGE_CHARS = 256,
    SETUP_MAX = 100,
    SETUP_BYTES = 64 * 1024,
    VARIABLES_MAX = 256,
    VARIABLE_NAME = 128,
    VARIABLE_BYTES = 32 * 1024,
    VARIABLES_BYTES = 256 * 1024,
    PATH_BYTES = 1024,
};

static bool given(const struct json *v)
{
    return v && v->type != JSON_NULL;
}

static bool letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* ---- packages: as each manager writes them; no option and nothing that a shell would read ---- */

static size_t span(struct str s, const char *more)
{
    size_t n = 0;
    while (n < s.len &&
           (letter(s.ptr[n]) || digit(s.ptr[n]) || (s.ptr[n] && strchr(more, s.ptr[n]))))
        n++;
    return n;
}

/* NAME, or NAME SEPARATOR VERSION. */
static bool name_version(struct str s, const char *name, char separator, const char *version)
{
    size_t n = span(s, name);
    if (n == 0 || (!letter(s.ptr[0]) && !digit(s.ptr[0])))
        return false;
    if (n == s.len)
        return true;
    if (s.ptr[n] != separator || n + 1 == s.len || s.ptr[n + 1] == '-')
        return false;
    return span(str_skip(s, n + 1), version) == s.len - n - 1;
}

static bool apt_package(struct str s)
{
    /* "name:architecture" is left out: a layer holds the host's architecture only. */
    for (size_t i = 0; i < s.len && s.ptr[i] != '='; i++)
        if (s.ptr[i] >= 'A' && s.ptr[i] <= 'Z')
            return false;
    bool plain = str_find_ch(s, '=') < 0;
    /* apt reads "name-" as the wish to remove it, "name+" as the wish to install it. */
    if (plain && s.len && (s.ptr[s.len - 1] == '-' || s.ptr[s.len - 1] == '+') &&
        !str_ends(s, STR("++")))
        return false;
    return name_version(s, "+.-", '=', "+.:~-");
}

static bool cargo_package(struct str s)
{
    return name_version(s, "_-", '@', ".+-");
}

static bool gem_package(struct str s)
{
    return name_version(s, "._-", ':', ".-");
}

static bool go_package(struct str s)
{
    return name_version(s, "._~/-", '@', "._/+-") && str_find(s, STR("..")) < 0;
}

static bool npm_package(struct str s)
{
    if (str_starts(s, STR("@"))) {
        ptrdiff_t slash = str_find_ch(s, '/');
        if (slash < 2 || span(str_n(s.ptr + 1, (size_t)slash - 1), "._~-") != (size_t)slash - 1)
            return false;
        s = str_skip(s, (size_t)slash + 1);
    }
    return name_version(s, "._-", '@', ".^~*+-");
}

/* PEP 508 without markers and addresses: name[extra,extra]==1.0,<2 */
static bool pip_package(struct str s)
{
    size_t n = span(s, "._-");
    if (n == 0 || (!letter(s.ptr[0]) && !digit(s.ptr[0])))
        return false;
    struct str rest = str_skip(s, n);
    if (str_starts(rest, STR("["))) {
        ptrdiff_t end = str_find_ch(rest, ']');
        if (end < 2 || span(str_n(rest.ptr + 1, (size_t)end - 1), "._,-") != (size_t)end - 1)
            return false;
        rest = str_skip(rest, (size_t)end + 1);
    }
    while (rest.len) {
        struct str one = str_split(&rest, ',');
        size_t op = 0;
        while (op < one.len && strchr("=<>!~", one.ptr[op]) && one.ptr[op])
            op++;
        static const char *const ops[] = {"==", "===", "<=", ">=", "<", ">", "!=", "~="};
        bool known = false;
        for (size_t i = 0; i < COUNT_OF(ops); i++)
            known = known || str_eqz(str_take(one, op), ops[i]);
        if (!known || op == one.len || span(str_skip(one, op), ".*+!_-") != one.len - op)
            return false;
        if (str_some(rest) && rest.len == 0)
            return false; /* a comma at the end */
    }
    return true;
}

static const struct {
    const char *name;
    bool (*fits)(struct str s);
    const char *form;
} managers[] = {
    {"apt", apt_package, "name or name=version"},
    {"cargo", cargo_package, "name or name@version"},
    {"gem", gem_package, "name or name:version"},
    {"go", go_package, "module/path or module/path@version"},
    {"npm", npm_package, "name, @scope/name, either with @version"},
    {"pip", pip_package, "name, name==version, with extras in [ ] and other comparisons"},
};

static int check_list(const struct json *list, const char *at, size_t manager, struct err *err)
{
    size_t i = 0;
    if (list->count > PACKAGES_MAX)
        return json_fail(err, at, NULL, "At most %d packages are allowed", PACKAGES_MAX);
    json_for_each (it, list) {
        char where[ERR_AT_MAX];
        json_pointer_index(where, at, i++);
        if (it->type != JSON_STRING)
            return json_fail(err, where, NULL, "Input should be a valid string");
        if (it->str.len > PACKAGE_CHARS || !managers[manager].fits(it->str))
            return json_fail(err, where, NULL, "Input should be a package as %s names it: %s",
                             managers[manager].name, managers[manager].form);
    }
    return 0;
}

static int check_packages(const struct json *v, struct err *err)
{
    json_for_each (it, v) {
        char where[ERR_AT_MAX];
        json_pointer_key(where, "/config/packages", it->key);
        if (str_eqz(it->key, "type")) {
            if (!str_eqz(it->str, "packages"))
                return json_fail(err, where, NULL, "Input should be 'packages'");
            continue;
        }
        size_t m = 0;
        while (m < COUNT_OF(managers) && !str_eqz(it->key, managers[m].name))
            m++;
        if (m == COUNT_OF(managers))
            return json_fail(err, where, NULL, "Extra inputs are not permitted");
        if (it->type == JSON_NULL)
            continue;
        if (it->type != JSON_ARRAY)
            return json_fail(err, where, NULL, "Input should be a valid array");
        int rc = check_list(it, where, m, err);
        if (rc)
            return rc;
    }
    return 0;
}

int contents_check_reach(const struct json *config, struct err *err)
{
    const struct json *net = json_get(config, "networking");
    if (!str_eqz(json_get_str(net, "type"), "limited") ||
        json_is_true(json_get(net, "allow_package_managers")))
        return 0;
    const struct json *packages = json_get(config, "packages");
    for (size_t i = 0; i < COUNT_OF(managers); i++) {
        const struct json *list = json_get(packages, managers[i].name);
        if (list && list->count)
            return json_fail(err, "/config/networking", "allow_package_managers",
                             "Must be true under 'limited' networking when packages are given");
    }
    return 0;
}

/* ---- setup, variables, limits, image ---- */

static int check_setup(const struct json *v, struct err *err)
{
    size_t i = 0, total = 0;
    if (v->type != JSON_ARRAY)
        return json_fail(err, "/config", "setup", "Input should be an array of shell commands");
    if (v->count > SETUP_MAX)
        return json_fail(err, "/config", "setup", "At most %d commands are allowed", SETUP_MAX);
    json_for_each (it, v) {
        char where[ERR_AT_MAX];
        json_pointer_index(where, "/config/setup", i++);
        if (it->type != JSON_STRING || str_trim(it->str).len == 0)
            return json_fail(err, where, NULL, "Input should be a shell command");
        if (memchr(it->str.ptr, '\0', it->str.len))
            return json_fail(err, where, NULL, "A command cannot hold a NUL character");
        total += it->str.len;
    }
    if (total > SETUP_BYTES)
        return json_fail(err, "/config", "setup", "All commands together have at most %d bytes",
                         SETUP_BYTES);
    return 0;
}

static bool variable_name(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!letter(s.ptr[i]) && s.ptr[i] != '_' && !(i && digit(s.ptr[i])))
            return false;
    return s.len > 0 && s.len <= VARIABLE_NAME;
}

/* What the sandbox sets itself: to find programs and packages, to reach the proxy. */
static bool reserved(struct str name)
{
    static const char *const names[] = {
        "PATH",        "HOME",       "USER",
        "LOGNAME",     "SHELL",      "PWD",
        "OLDPWD",      "SHLVL",      "LD_PRELOAD",
        "LD_AUDIT",    "BASH_ENV",   "ENV",
        "NODE_PATH",   "GEM_PATH",   "PYTHONPATH",
        "http_proxy",  "no_proxy",   "https_proxy",
        "HTTPS_PROXY", "ALL_PROXY",  "LD_LIBRARY_PATH",
        "all_proxy",   "HTTP_PROXY", "NO_PROXY",
        "BASHOPTS",    "SHELLOPTS",  "IFS",
        "UID",         "EUID",       "PPID",
    };
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eqz(name, names[i]))
            return true;
    return str_starts(name, STR("OSTLER_")) || str_starts(name, STR("BASH_FUNC_"));
}

static int check_variables(const struct json *v, struct err *err)
{
    size_t total = 0;
    if (v->type != JSON_OBJECT)
        return json_fail(err, "/config", "variables", "Input should be an object of strings");
    if (v->count > VARIABLES_MAX)
        return json_fail(err, "/config", "variables", "At most %d variables are allowed",
                         VARIABLES_MAX);
    json_for_each (it, v) {
        char where[ERR_AT_MAX];
        json_pointer_key(where, "/config/variables", it->key);
        if (!variable_name(it->key))
            return json_fail(err, where, NULL,
                             "A name has letters, digits and _, does not begin with a digit and "
                             "has at most %d characters",
                             VARIABLE_NAME);
        if (reserved(it->key))
            return json_fail(err, where, NULL, "The sandbox sets this variable itself");
        if (it->type != JSON_STRING)
            return json_fail(err, where, NULL, "Input should be a valid string");
        if (it->str.len > VARIABLE_BYTES || (it->str.len && memchr(it->str.ptr, '\0', it->str.len)))
            return json_fail(err, where, NULL, "A value has at most %d bytes and no NUL character",
                             VARIABLE_BYTES);
        total += it->key.len + it->str.len;
    }
    if (total > VARIABLES_BYTES)
        return json_fail(err, "/config", "variables",
                         "All variables together have at most %d bytes", VARIABLES_BYTES);
    return 0;
}

static const struct {
    const char *name;
    int64_t min, max;
} limit_names[] = {{"memory_mb", 16, 1 << 20}, {"cpus", 1, 1024},       {"pids", 8, 1 << 20},
                   {"disk_mb", 1, 1 << 30},    {"file_mb", 1, 1 << 30}, {"wall_seconds", 1, 86400}};

static int check_limits(const struct json *v, struct err *err)
{
    if (v->type != JSON_OBJECT)
        return json_fail(err, "/config", "limits", "Input should be a valid object");
    json_for_each (it, v) {
        char where[ERR_AT_MAX];
        int64_t n;
        size_t i = 0;
        json_pointer_key(where, "/config/limits", it->key);
        while (i < COUNT_OF(limit_names) && !str_eqz(it->key, limit_names[i].name))
            i++;
        if (i == COUNT_OF(limit_names))
            return json_fail(err, where, NULL, "Extra inputs are not permitted");
        if (it->type == JSON_NULL)
            continue;
        if (!json_i64(it, &n) || n < limit_names[i].min || n > limit_names[i].max)
            return json_fail(err, where, NULL, "Input should be an integer from %lld to %lld",
                             (long long)limit_names[i].min, (long long)limit_names[i].max);
    }
    return 0;
}

struct image_in {
    const struct json *type, *path;
};

static int check_image(const struct json *v, struct err *err)
{
    static const struct json_field fields[] = {
        JSON_FIELD_ANY(struct image_in, type, "type", .type = JSON_STRING, .required = true),
        JSON_FIELD_ANY(struct image_in, path, "path", .type = JSON_STRING, .required = true,
                       .min = 1, .max = PATH_BYTES),
        JSON_FIELD_END};
    struct image_in in;
    if (v->type != JSON_OBJECT)
        return json_fail(err, "/config", "image", "Input should be a valid object");
    int rc = json_decode(v, fields, &in, sizeof in, "/config/image", err);
    if (rc)
        return rc;
    if (!str_eqz(in.type->str, "rootfs") && !str_eqz(in.type->str, "oci_layout"))
        return json_fail(err, "/config/image", "type", "Input should be 'rootfs' or 'oci_layout'");
    struct str path = in.path->str;
    if (path.ptr[0] != '/' || path.len < 2 || memchr(path.ptr, '\0', path.len) ||
        str_find(path, STR("/../")) >= 0 || str_ends(path, STR("/..")))
        return json_fail(
            err, "/config/image", "path",
            "Input should be the absolute path of an unpacked root or OCI layout on the "
            "server");
    return 0;
}

int contents_check(const struct contents_patch *in, struct err *err)
{
    int rc = given(in->packages) ? check_packages(in->packages, err) : 0;
    if (rc == 0 && given(in->setup))
        rc = check_setup(in->setup, err);
    if (rc == 0 && given(in->variables))
        rc = check_variables(in->variables, err);
    if (rc == 0 && given(in->limits))
        rc = check_limits(in->limits, err);
    if (rc == 0 && given(in->image))
        rc = check_image(in->image, err);
    return rc;
}

/* ---- writing ---- */

static void write_packages(struct jw *w, const struct json *patch, const struct json *stored)
{
    jw_key(w, "packages");
    jw_obj(w);
    jw_kz(w, "type", "packages");
    for (size_t i = 0; i < COUNT_OF(managers); i++) {
        const struct json *list = json_get(patch, managers[i].name);
        if (!given(list))
            list = json_get(stored, managers[i].name);
        jw_key(w, managers[i].name);
        jw_arr(w);
        json_for_each (it, list)
            jw_str(w, it->str);
        jw_arr_end(w);
    }
    jw_obj_end(w);
}

/* Ours stand in the config only where they say something. */
static void write_member(struct jw *w, const char *key, const struct json *patch,
                         const struct json *stored)
{
    const struct json *v = patch ? patch : json_get(stored, key);
    if (!given(v) || ((v->type == JSON_ARRAY || v->type == JSON_OBJECT) && v->count == 0))
        return;
    jw_key(w, key);
    compact_value(w, v->raw);
}

void contents_write(struct jw *w, const struct contents_patch *in, const struct json *stored)
{
    write_packages(w, in->packages, json_get(stored, "packages"));
    write_member(w, "setup", in->setup, stored);
    write_member(w, "variables", in->variables, stored);
    write_member(w, "limits", in->limits, stored);
    write_member(w, "image", in->image, stored);
}
