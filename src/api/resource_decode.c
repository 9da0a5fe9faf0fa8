/* Resources in requests. */
#include "api/resources.h"

#include "base/limits.h"
#include "http/http.h"
#include "json/decode.h"

#define UPLOADS "/mnt/session/uploads"
#define WORKSPACE "/workspace"

enum {
    PATH_BYTES = 1024,
    PATH_DEPTH = 32,
    NAME_BYTES = 255,
    URL_BYTES = 2048,
    TOKEN_BYTES = 8192,
    REF_BYTES = 255
};

struct file_in {
    const struct json *type, *file_id, *mount_path;
};
static const struct json_field file_fields[] = {
    JSON_FIELD_ANY(struct file_in, type, "type", .type = JSON_STRING, .required = true),
    JSON_FIELD_ANY(struct file_in, file_id, "file_id", .type = JSON_STRING, .required = true,
                   .min = 1, .max = 64),
    JSON_FIELD_ANY(struct file_in, mount_path, "mount_path", .type = JSON_STRING, .nullable = true,
                   .min = 1, .max = PATH_BYTES),
    JSON_FIELD_END};

struct repository_in {
    const struct json *type, *url, *token, *checkout, *mount_path;
};
static const struct json_field repository_fields[] = {
    JSON_FIELD_ANY(struct repository_in, type, "type", .type = JSON_STRING, .required = true),
    JSON_FIELD_ANY(struct repository_in, url, "url", .type = JSON_STRING, .required = true,
                   .min = 1, .max = URL_BYTES),
    JSON_FIELD_ANY(struct repository_in, token, "authorization_token", .type = JSON_STRING,
                   .nullable = true, .max = TOKEN_BYTES),
    JSON_FIELD_ANY(struct repository_in, checkout, "checkout", .type = JSON_OBJECT,
                   .nullable = true),
    JSON_FIELD_ANY(struct repository_in, mount_path, "mount_path", .type = JSON_STRING,
                   .nullable = true, .min = 1, .max = PATH_BYTES),
    JSON_FIELD_END};

struct checkout_in {
    const struct json *type, *name, *sha;
};
static const struct json_field checkout_fields[] = {
    JSON_FIELD_ANY(struct checkout_in, type, "type", .type = JSON_STRING, .required = true),
    JSON_FIELD_ANY(struct checkout_in, name, "name", .type = JSON_STRING, .min = 1,
                   .max = REF_BYTES),
    JSON_FIELD_ANY(struct checkout_in, sha, "sha", .type = JSON_STRING, .min = 1, .max = 64),
    JSON_FIELD_END};

/* ---- paths ---- */

static bool has_control(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
            return true;
    return false;
}

/* An absolute path without tricks. */
static int check_path(struct str path, const char *at, struct err *err)
{
    struct str rest = str_skip(path, 1);
    unsigned depth = 0;
    if (path.len < 2 || path.ptr[0] != '/')
        return json_fail(err, at, "mount_path", "Input should be an absolute path");
    if (has_control(path) || path.len > PATH_BYTES)
        return json_fail(err, at, "mount_path",
                         "Input should have at most %d bytes and no control characters",
                         PATH_BYTES);
    while (str_some(rest)) {
        struct str name = str_split(&rest, '/');
        if (name.len == 0 || str_eqz(name, ".") || str_eqz(name, ".."))
            return json_fail(err, at, "mount_path",
                             "Input should be a path without empty parts, '.' and '..'");
        if (name.len > NAME_BYTES || ++depth > PATH_DEPTH)
            return json_fail(err, at, "mount_path",
                             "Input should have at most %d parts of at most %d bytes", PATH_DEPTH,
                             NAME_BYTES);
    }
    return 0;
}

static bool is_below(struct str path, struct str dir)
{
    return path.len > dir.len && str_starts(path, dir) && path.ptr[dir.len] == '/';
}

static bool collide(struct str a, struct str b)
{
    return str_eq(a, b) || is_below(a, b) || is_below(b, a);
}

/* What a client names is mounted below the uploads, wherever it wants it. */
static int place_file(struct arena *a, const struct json *given, struct resource_in *in,
                      struct err *err)
{
    if (!json_is(given, JSON_STRING))
        return 0;
    int rc = check_path(given->str, in->at, err);
    if (rc)
        return rc;
    if (str_eqz(given->str, UPLOADS))
        return json_fail(err, in->at, "mount_path", "Input should name a file below " UPLOADS);
    in->mount_path = given->str;
    in->path = is_below(given->str, STR(UPLOADS))
                   ? given->str
                   : arena_printf(a, UPLOADS STR_FMT, STR_ARG(given->str));
    return 0;
}

static struct str name_of_repository(struct str url)
{
    struct str name = url;
    while (name.len && name.ptr[name.len - 1] == '/')
        name.len--;
    size_t start = name.len;
    while (start > 0 && name.ptr[start - 1] != '/')
        start--;
    name = str_skip(name, start);
    if (str_ends(name, STR(".git")))
        name.len -= 4;
    return name;
}

static int place_repository(struct arena *a, const struct json *given, struct resource_in *in,
                            struct err *err)
{
    if (json_is(given, JSON_STRING)) {
        int rc = check_path(given->str, in->at, err);
        if (rc)
            return rc;
        in->path = in->mount_path = given->str;
    } else {
        in->path = in->mount_path =
            arena_printf(a, WORKSPACE "/" STR_FMT, STR_ARG(name_of_repository(in->url)));
        if (check_path(in->path, in->at, err))
            return json_fail(err, in->at, "mount_path",
                             "The repository's URL names no directory; give a mount_path");
    }
    if (!is_below(in->path, STR(WORKSPACE)) || collide(in->path, STR(WORKSPACE "/skills")))
        return json_fail(err, in->at, "mount_path",
                         "Input should be a path below " WORKSPACE ", outside of " WORKSPACE
                         "/skills");
    return 0;
}

static int check_distinct(const struct resource_in *in, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            if (str_some(in[i].path) && str_some(in[k].path) && collide(in[i].path, in[k].path))
                return json_fail(
                    err, in[i].at, "mount_path",
                    "Two resources have the same mount_path, or one lies in the other");
    return 0;
}

/* ---- repositories ---- */

static bool host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr(".-_:[]", c));
}

static int check_url(struct resource_in *in, bool allow_http, struct err *err)
{
    struct str rest = in->url;
    bool http = str_starts(rest, STR("http://"));
    if (!str_starts(rest, STR("https://")) && !(http && allow_http))
        return json_fail(err, in->at, "url", "Input should be an https URL of a git repository");
    rest = str_skip(rest, http ? 7 : 8);
    ptrdiff_t slash = str_find_ch(rest, '/');
    struct str host = slash < 0 ? rest : str_take(rest, (size_t)slash);
    struct str path = slash < 0 ? STR("") : str_skip(rest, (size_t)slash);
    if (str_find_ch(host, '@') >= 0)
        return json_fail(err, in->at, "url",
                         "Input should hold no credentials; send them as authorization_token");
    for (size_t i = 0; i < host.len; i++)
        if (!host_char(host.ptr[i]))
            return json_fail(err, in->at, "url", "Input should be a URL with a plain host name");
    for (size_t i = 0; i < path.len; i++)
        if ((unsigned char)path.ptr[i] <= 0x20 || (unsigned char)path.ptr[i] >= 0x7f ||
            strchr("?#\\\"'`$", path.ptr[i]))
            return json_fail(err, in->at, "url",
                             "Input should be a URL without query, fragment and blanks");
    if (host.len == 0 || path.len < 2)
        return json_fail(err, in->at, "url", "Input should name a host and a repository");
    return 0;
}

/* A subset of what git allows: nothing that could be taken for an option or a revision. */
static bool branch_ok(struct str name)
{
    if (name.len == 0 || name.ptr[0] == '-' || name.ptr[0] == '/' || name.ptr[0] == '.' ||
        str_ends(name, STR("/")) || str_ends(name, STR(".")) || str_ends(name, STR(".lock")) ||
        str_find(name, STR("..")) >= 0 || str_find(name, STR("//")) >= 0 ||
        str_find(name, STR("@{")) >= 0 || str_find(name, STR("/.")) >= 0)
        return false;
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.ptr[i] <= 0x20 || strchr("~^:?*[\\\x7f", name.ptr[i]))
            return false;
    return true;
}

static bool sha_ok(struct str sha)
{
    for (size_t i = 0; i < sha.len; i++)
        if (str_hex(sha.ptr[i]) < 0)
            return false;
    return sha.len == 40 || sha.len == 64;
}

static int decode_checkout(const struct json *v, struct resource_in *in, struct err *err)
{
    struct checkout_in c;
    char at[ERR_AT_MAX];
    if (!json_is(v, JSON_OBJECT))
        return 0;
    json_pointer_key(at, in->at, STR("checkout"));
    int rc = json_decode(v, checkout_fields, &c, sizeof c, at, err);
    if (rc)
        return rc;
    bool branch = str_eqz(c.type->str, "branch");
    if (!branch && !str_eqz(c.type->str, "commit"))
        return json_fail(err, at, "type", "Input should be 'branch' or 'commit'");
    if (branch ? c.sha != NULL : c.name != NULL)
        return json_fail(err, at, branch ? "sha" : "name", "Extra inputs are not permitted");
    if (branch && (!c.name || !branch_ok(c.name->str)))
        return json_fail(err, at, "name", "Input should be the name of a branch");
    if (!branch && (!c.sha || !sha_ok(c.sha->str)))
        return json_fail(err, at, "sha", "Input should be a full commit id: 40 or 64 hex digits");
    if (branch)
        in->branch = c.name->str;
    else
        in->commit = c.sha->str;
    return 0;
}

static int check_token(const struct json *token, const char *at, struct err *err)
{
    if (has_control(token->str) || token->str.len > TOKEN_BYTES)
        return json_fail(err, at, "authorization_token",
                         "Input should have at most %d bytes and no control characters",
                         TOKEN_BYTES);
    return 0;
}

static int decode_repository(struct arena *a, const struct json *v, bool allow_http,
                             struct resource_in *in, struct err *err)
{
    struct repository_in r;
    int rc = json_decode(v, repository_fields, &r, sizeof r, in->at, err);
    if (rc)
        return rc;
    in->repository = true;
    in->url = r.url->str;
    rc = check_url(in, allow_http, err);
    if (rc == 0 && json_is(r.token, JSON_STRING) && r.token->str.len) {
        rc = check_token(r.token, in->at, err);
        in->token = r.token->str;
    }
    if (rc == 0)
        rc = decode_checkout(r.checkout, in, err);
    return rc ? rc : place_repository(a, r.mount_path, in, err);
}

/* ---- the list ---- */

static int decode_file(struct arena *a, const struct json *v, struct resource_in *in,
                       struct err *err)
{
    struct file_in f;
    int rc = json_decode(v, file_fields, &f, sizeof f, in->at, err);
    if (rc)
        return rc;
    in->file_id = f.file_id->str;
    return place_file(a, f.mount_path, in, err);
}

int resource_decode_file(struct arena *a, const struct json *body, struct resource_in *out,
                         struct err *err)
{
    struct str type = json_get_str(body, "type");
    *out = (struct resource_in){.repository = false};
    if (str_some(type) && !str_eqz(type, "file"))
        return json_fail(err, "", "type",
                         "Only a 'file' can be added to a session; repositories are attached when "
                         "it is created");
    return decode_file(a, body, out, err);
}

static int decode_one(struct arena *a, const struct json *v, bool allow_http,
                      struct resource_in *in, struct err *err)
{
    struct str type = json_get_str(v, "type");
    if (v->type != JSON_OBJECT)
        return json_fail(err, in->at, NULL, "Input should be an object");
    if (str_eqz(type, "file"))
        return decode_file(a, v, in, err);
    if (str_eqz(type, "github_repository"))
        return decode_repository(a, v, allow_http, in, err);
    if (str_eqz(type, "memory_store"))
        return json_fail(err, in->at, "type",
                         "'memory_store' is not supported by this version; leave it out");
    return json_fail(err, in->at, "type", "Input should be 'file' or 'github_repository'");
}

int resources_decode(struct arena *a, const struct json *list, bool allow_http,
                     struct resource_in **out, size_t *n, struct err *err)
{
    size_t i = 0, repositories = 0;
    int rc = 0;
    *n = 0;
    if (!json_is(list, JSON_ARRAY) || list->count == 0)
        return 0;
    if (list->count > LIMIT_RESOURCES)
        return json_fail(err, "", "resources", "List should have at most %d items, not %u",
                         LIMIT_RESOURCES, list->count);
    struct resource_in *in = ARENA_ARRAY(a, struct resource_in, list->count);
    if (!in)
        return err_set(err, ERR_LIMIT, "the request is too large");
    json_for_each (v, list) {
        if (rc)
            break;
        json_pointer_index(in[i].at, "/resources", i);
        rc = decode_one(a, v, allow_http, &in[i], err);
        repositories += in[i].repository;
        if (rc == 0 && repositories > LIMIT_REPOSITORIES)
            rc = json_fail(err, in[i].at, NULL, "A session should have at most %d repositories",
                           LIMIT_REPOSITORIES);
        i++;
    }
    if (rc == 0)
        rc = check_distinct(in, i, err);
    if (rc)
        return rc;
    *out = in;
    *n = i;
    return 0;
}

int resources_check_path(struct arena *a, struct str provision, const struct resource_in *in,
                         struct err *err)
{
    const struct json *doc;
    size_t n = 0;
    if (!provision.len)
        return 0;
    if (json_parse(a, provision, 0, &doc, err))
        return err_set(err, ERR_CORRUPT, "the session's resources cannot be read");
    const struct json *files = json_get(doc, "files");
    if (!json_is(files, JSON_ARRAY))
        return 0;
    json_for_each (f, files) {
        n++;
        if (str_some(in->path) && collide(in->path, json_get_str(f, "path")))
            return json_fail(err, in->at, "mount_path",
                             "Another resource of the session has this mount_path, or one lies in "
                             "the other");
    }
    if (n >= LIMIT_RESOURCES)
        return err_set(err, ERR_INVALID,
                       "A session has at most %d files; delete some of them first",
                       LIMIT_RESOURCES);
    return 0;
}
