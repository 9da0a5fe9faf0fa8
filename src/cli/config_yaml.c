/* The configuration file: every key is listed in one table; what is not there is refused with its
 * line, so that a misspelt limit is never silently the default.
 */
#include "cli/config_yaml.h"

#include "base/fd.h"
#include "base/limits.h"
#include "cli/cli.h"
#include "egress/authority.h"
#include "http/link.h"

#include <stdio.h>

#define TEXT(nm, member)                                                                           \
    {                                                                                              \
        .name = nm, .kind = KEY_TEXT, .offset = offsetof(struct config, member)                    \
    }
#define NUMBER(nm, member)                                                                         \
    {                                                                                              \
        .name = nm, .kind = KEY_NUMBER, .offset = offsetof(struct config, member)                  \
    }
#define MAP(nm, keys)                                                                              \
    {                                                                                              \
        .name = nm, .kind = KEY_MAP, .sub = keys                                                   \
    }
#define OWN(nm, fn, ...)                                                                           \
    {                                                                                              \
        .name = nm, .kind = KEY_OWN, .read = fn, __VA_ARGS__                                       \
    }

static int read_listen(struct config_file *f, struct fy_node *key, struct fy_node *value,
                       struct err *err);
static int read_level(struct config_file *f, struct fy_node *key, struct fy_node *value,
                      struct err *err);
static int read_format(struct config_file *f, struct fy_node *key, struct fy_node *value,
                       struct err *err);
static int read_search_url(struct config_file *f, struct fy_node *key, struct fy_node *value,
                           struct err *err);
static int read_addresses(struct config_file *f, struct fy_node *key, struct fy_node *value,
                          struct err *err);
static int read_repository_addresses(struct config_file *f, struct fy_node *key,
                                     struct fy_node *value, struct err *err);
int config_host(struct config_file *f, struct fy_node *key, struct fy_node_pair *p,
                const char **name, const char **address, struct err *err)
{
    const char *said = config_scalar(f, fy_node_pair_key(p));
    const char *to = config_scalar(f, fy_node_pair_value(p));
    char canonical[HOST_MAX];
    struct ip ip;
    if (!said || !host_canonical(str_z(said), canonical))
        return config_fail(f, key, "must map host names to addresses; no name is ",
                           said ? said : "empty", err);
    if (!to || !ip_parse(str_z(to), &ip))
        return config_fail(f, key, "must map names to IP addresses; none is given for ", said, err);
    *name = arena_strz(f->arena, str_z(canonical));
    *address = to;
    return 0;
}

static int read_hosts(struct config_file *f, struct fy_node *key, struct fy_node *value,
                      struct err *err);
static int read_fetch_mb(struct config_file *f, struct fy_node *key, struct fy_node *value,
                         struct err *err);
static int read_fetch_seconds(struct config_file *f, struct fy_node *key, struct fy_node *value,
                              struct err *err);
static int read_warm(struct config_file *f, struct fy_node *key, struct fy_node *value,
                     struct err *err);

static int read_checkpoints(struct config_file *f, struct fy_node *key, struct fy_node *value,
                            struct err *err);
static int read_lease_seconds(struct config_file *f, struct fy_node *key, struct fy_node *value,
                              struct err *err);

static const struct config_key log_keys[] = {
    OWN("level", read_level), OWN("format", read_format), {0}};
static const struct config_key checkpoint_keys[] = {OWN("enabled", read_checkpoints),
                                                    NUMBER("max_files", checkpoints.max_files),
                                                    NUMBER("max_mb", checkpoints.max_mb),
                                                    {0}};
static int read_driver(struct config_file *f, struct fy_node *key, struct fy_node *value,
                       struct err *err);
static int read_runtime_args(struct config_file *f, struct fy_node *key, struct fy_node *value,
                             struct err *err);
static int read_capabilities(struct config_file *f, struct fy_node *key, struct fy_node *value,
                             struct err *err);
static const struct config_key oci_keys[] = {TEXT("runtime", oci.runtime),
                                             OWN("runtime_args", read_runtime_args),
                                             OWN("capabilities", read_capabilities),
                                             {0}};
static const struct config_key sandbox_keys[] = {NUMBER("pids", limits.pids),
                                                 NUMBER("memory_mb", limits.memory_mb),
                                                 NUMBER("cpus", limits.cpus),
                                                 NUMBER("file_mb", limits.file_mb),
                                                 NUMBER("disk_mb", limits.disk_mb),
                                                 NUMBER("mirrors_mb", mirrors_mb),
                                                 OWN("warm", read_warm),
                                                 TEXT("images", images),
                                                 MAP("checkpoints", checkpoint_keys),
                                                 OWN("driver", read_driver),
                                                 MAP("oci", oci_keys),
                                                 {0}};
static const struct config_key request_keys[] = {NUMBER("connect_ms", connect_ms),
                                                 NUMBER("first_byte_ms", first_byte_ms),
                                                 NUMBER("silence_ms", silence_ms),
                                                 {0}};
static const struct config_key fetch_keys[] = {
    OWN("max_mb", read_fetch_mb), OWN("timeout_seconds", read_fetch_seconds), {0}};
static const struct config_key web_keys[] = {
    OWN("search_url", read_search_url), TEXT("search_key_env", search_key_env),
    MAP("fetch", fetch_keys),           OWN("allow_addresses", read_addresses),
    OWN("hosts", read_hosts),           {0}};
static const struct config_key repository_keys[] = {
    {.name = "allow_http", .kind = KEY_FLAG, .offset = offsetof(struct config, repository_http)},
    OWN("allow_addresses", read_repository_addresses),
    {0}};
static const struct config_key work_keys[] = {OWN("lease_seconds", read_lease_seconds), {0}};
static const struct config_key judge_keys[] = {TEXT("model", judge_model), {0}};
static const struct config_key grader_keys[] = {TEXT("model", grader_model), {0}};
static const struct config_key top_keys[] = {
    OWN("listen", read_listen),
    TEXT("data", data),
    MAP("log", log_keys),
    OWN("models", config_read_models, .sub = config_models_keys),
    TEXT("script_dir", script_dir),
    MAP("judge", judge_keys),
    MAP("grader", grader_keys),
    MAP("sandbox", sandbox_keys),
    MAP("egress", config_egress_keys),
    MAP("web", web_keys),
    MAP("work", work_keys),
    MAP("repositories", repository_keys),
    MAP("model_requests", request_keys),
    OWN("providers", config_read_providers, .sub = config_provider_keys, .entries = "*"),
    {0}};

int config_fail(const struct config_file *f, struct fy_node *key, const char *msg, const char *what,
                struct err *err)
{
    char at[ERR_AT_MAX];
    str_copyz(at, sizeof at, str_take(yaml_name(key), sizeof at - 1));
    return err_at(err, ERR_INVALID, at, "%s:%d: %s: %s%s", f->path, yaml_line(key), at, msg, what);
}

static int fail_unknown(const struct config_file *f, struct fy_node *key,
                        const struct config_key *keys, struct err *err)
{
    AUTO_BUF struct buf words = BUF_INIT(2048);
    const char *names[32];
    size_t n = 0;
    for (const struct config_key *k = keys; k->name && n < COUNT_OF(names); k++)
        names[n++] = k->name;
    yaml_unknown_key(&words, key, names, n);
    return config_fail(f, key, words.data, "", err);
}

const char *config_scalar(struct config_file *f, struct fy_node *value)
{
    size_t len = 0;
    const char *text = fy_node_is_scalar(value) ? fy_node_get_scalar(value, &len) : NULL;
    return text && len ? arena_strz(f->arena, str_n(text, len)) : NULL;
}

static int read_scalar(struct config_file *f, const struct config_key *k, struct fy_node *key,
                       struct fy_node *value, struct err *err)
{
    const char *text = config_scalar(f, value);
    if (!text)
        return config_fail(f, key, "must be a plain value", "", err);
    char *base = k->base == IN_FILE    ? (char *)f
                 : k->base == IN_ENTRY ? (char *)&f->entry
                                       : (char *)f->config;
    void *slot = base + k->offset;
    if (k->kind == KEY_NUMBER) {
        int64_t *number = slot;
        if (!str_i64(str_z(text), number) || *number < 1 || *number > 1024 * 1024 * 1024)
            return config_fail(f, key, "must be a whole number, 1 or more", "", err);
    } else if (k->kind == KEY_FLAG) {
        bool *flag = slot;
        *flag = strcmp(text, "true") == 0;
        if (!*flag && strcmp(text, "false") != 0)
            return config_fail(f, key, "must be true or false", "", err);
    } else {
        const char **z = slot;
        *z = text;
    }
    return 0;
}

static int read_value(struct config_file *f, const struct config_key *k, struct fy_node *key,
                      struct fy_node *value, struct err *err)
{
    if (k->kind == KEY_OWN)
        return k->read(f, key, value, err);
    if (k->kind != KEY_MAP)
        return read_scalar(f, k, key, value, err);
    if (!fy_node_is_mapping(value))
        return config_fail(f, key, "must be a mapping of keys", "", err);
    return config_read_map(f, value, k->sub, err);
}

int config_read_map(struct config_file *f, struct fy_node *map, const struct config_key *keys,
                    struct err *err)
{
    void *at = NULL;
    for (struct fy_node_pair *p; (p = fy_node_mapping_iterate(map, &at));) {
        struct fy_node *key = fy_node_pair_key(p), *value = fy_node_pair_value(p);
        struct str name = yaml_name(key);
        const struct config_key *k = keys;
        while (k->name && !str_eqz(name, k->name))
            k++;
        int rc = k->name ? read_value(f, k, key, value, err) : fail_unknown(f, key, keys, err);
        if (rc && !config_excuse(f->config, err))
            return rc;
    }
    return 0;
}

/* ---- values with a form of their own ---- */

/* The rest of the message of a value's own check, behind the line. */
static int fail_value(const struct config_file *f, struct fy_node *key, const struct err *why,
                      struct err *err)
{
    const char *msg = strstr(why->msg, ": ");
    return config_fail(f, key, msg ? msg + 2 : why->msg, "", err);
}

static int read_listen(struct config_file *f, struct fy_node *key, struct fy_node *value,
                       struct err *err)
{
    struct err why;
    f->listen = config_scalar(f, value);
    if (!f->listen)
        return config_fail(f, key, "must be a plain value", "", err);
    /* Checked also when something else wins over it. */
    char host[sizeof f->config->host];
    memcpy(host, f->config->host, sizeof host);
    int port = f->config->port, rc = config_listen(f->config, f->listen, "listen", &why);
    memcpy(f->config->host, host, sizeof host);
    f->config->port = port;
    if (rc == 0)
        return 0;
    f->listen = NULL;
    return fail_value(f, key, &why, err);
}

static int read_level(struct config_file *f, struct fy_node *key, struct fy_node *value,
                      struct err *err)
{
    struct err why;
    const char *text = config_scalar(f, value);
    if (!text)
        return config_fail(f, key, "must be a plain value", "", err);
    return config_level(f->config, text, "level", &why) ? fail_value(f, key, &why, err) : 0;
}

static int read_format(struct config_file *f, struct fy_node *key, struct fy_node *value,
                       struct err *err)
{
    const char *text = config_scalar(f, value);
    f->config->log_json = text && strcmp(text, "json") == 0;
    if (text && (f->config->log_json || strcmp(text, "text") == 0))
        return 0;
    return config_fail(f, key, "is not one of text, json", "", err);
}

/* ---- the sandboxes' driver ---- */

static int read_driver(struct config_file *f, struct fy_node *key, struct fy_node *value,
                       struct err *err)
{
    const char *text = config_scalar(f, value);
    f->config->oci_driver = text && strcmp(text, "oci") == 0;
    if (text && (f->config->oci_driver || strcmp(text, "bwrap") == 0))
        return 0;
    return config_fail(f, key, "is not one of bwrap, oci", "", err);
}

static int read_capabilities(struct config_file *f, struct fy_node *key, struct fy_node *value,
                             struct err *err)
{
    const char *text = config_scalar(f, value);
    f->config->oci.no_capabilities = text && strcmp(text, "none") == 0;
    if (text && (f->config->oci.no_capabilities || strcmp(text, "packages") == 0))
        return 0;
    return config_fail(f, key, "is not one of packages, none", "", err);
}

static int read_runtime_args(struct config_file *f, struct fy_node *key, struct fy_node *value,
                             struct err *err)
{
    enum { ARGS_MAX = 16 };
    const char **args = ARENA_ARRAY(f->arena, const char *, ARGS_MAX);
    size_t n = 0;
    void *at = NULL;
    if (!fy_node_is_sequence(value) || !args)
        return config_fail(f, key, "must be a list of arguments", "", err);
    for (struct fy_node *it; (it = fy_node_sequence_iterate(value, &at));) {
        const char *arg = config_scalar(f, it);
        if (!arg || n == ARGS_MAX)
            return config_fail(f, key, "must be a list of at most 16 arguments", "", err);
        args[n++] = arg;
    }
    f->config->oci.runtime_args = args;
    f->config->oci.nruntime_args = n;
    return 0;
}

/* ---- bounded numbers, the web tools ---- */

static int read_between(struct config_file *f, struct fy_node *key, struct fy_node *value,
                        int64_t min, int64_t max, int64_t *out, struct err *err)
{
    const char *text = config_scalar(f, value);
    char what[64];
    snprintf(what, sizeof what, "must be a whole number from %lld to %lld", (long long)min,
             (long long)max);
    if (!text || !str_i64(str_z(text), out) || *out < min || *out > max)
        return config_fail(f, key, what, "", err);
    return 0;
}

static int read_bounded(struct config_file *f, struct fy_node *key, struct fy_node *value,
                        int64_t max, int64_t *out, struct err *err)
{
    return read_between(f, key, value, 1, max, out, err);
}

static int read_warm(struct config_file *f, struct fy_node *key, struct fy_node *value,
                     struct err *err)
{
    return read_between(f, key, value, 0, LIMIT_SANDBOX_WARM, &f->config->warm, err);
}

static int read_checkpoints(struct config_file *f, struct fy_node *key, struct fy_node *value,
                            struct err *err)
{
    const char *text = config_scalar(f, value);
    if (!text || (strcmp(text, "true") != 0 && strcmp(text, "false") != 0))
        return config_fail(f, key, "must be true or false", "", err);
    f->config->checkpoints.off = strcmp(text, "false") == 0;
    return 0;
}

static int read_fetch_mb(struct config_file *f, struct fy_node *key, struct fy_node *value,
                         struct err *err)
{
    return read_bounded(f, key, value, 512, &f->config->fetch_max_mb, err);
}

static int read_fetch_seconds(struct config_file *f, struct fy_node *key, struct fy_node *value,
                              struct err *err)
{
    return read_bounded(f, key, value, 600, &f->config->fetch_timeout_seconds, err);
}

static int read_lease_seconds(struct config_file *f, struct fy_node *key, struct fy_node *value,
                              struct err *err)
{
    return read_bounded(f, key, value, 3600, &f->config->work_lease_s, err);
}

static int read_search_url(struct config_file *f, struct fy_node *key, struct fy_node *value,
                           struct err *err)
{
    struct http_link link;
    struct err why;
    f->config->search_url = config_scalar(f, value);
    if (!f->config->search_url)
        return config_fail(f, key, "must be a plain value", "", err);
    if (http_link_parse(str_z(f->config->search_url), NULL, &link, &why))
        return config_fail(f, key, why.msg, "", err);
    return 0;
}

int config_ranges(struct config_file *f, struct fy_node *key, struct fy_node *value,
                  const char **ranges, size_t *n, size_t max, struct err *err)
{
    struct ip_range range;
    struct err why;
    void *at = NULL;
    if (!fy_node_is_sequence(value))
        return config_fail(f, key, "must be a list of address ranges such as 10.1.0.0/16", "", err);
    for (struct fy_node *item; (item = fy_node_sequence_iterate(value, &at));) {
        const char *text = config_scalar(f, item);
        if (!text || *n == max)
            return config_fail(f, key, text ? "too many ranges" : "must hold plain values", "",
                               err);
        if (ip_range_parse(str_z(text), &range, &why))
            return config_fail(f, key, why.msg, "", err);
        ranges[(*n)++] = text;
    }
    return 0;
}

static int read_addresses(struct config_file *f, struct fy_node *key, struct fy_node *value,
                          struct err *err)
{
    struct config *c = f->config;
    return config_ranges(f, key, value, c->web_allow, &c->nweb_allow, CONFIG_WEB_MAX, err);
}

static int read_repository_addresses(struct config_file *f, struct fy_node *key,
                                     struct fy_node *value, struct err *err)
{
    struct config *c = f->config;
    return config_ranges(f, key, value, c->repository_allow, &c->nrepository_allow, CONFIG_WEB_MAX,
                         err);
}

static int read_hosts(struct config_file *f, struct fy_node *key, struct fy_node *value,
                      struct err *err)
{
    struct config *c = f->config;
    void *at = NULL;
    if (!fy_node_is_mapping(value))
        return config_fail(f, key, "must map names to addresses", "", err);
    for (struct fy_node_pair *p; (p = fy_node_mapping_iterate(value, &at));) {
        if (c->nweb_hosts == CONFIG_WEB_MAX)
            return config_fail(f, key, "too many names", "", err);
        struct web_host *h = &c->web_hosts[c->nweb_hosts];
        int rc = config_host(f, key, p, &h->name, &h->address, err);
        if (rc)
            return rc;
        c->nweb_hosts++;
    }
    return 0;
}

/* ---- all keys ---- */

static void each_key(const struct config_key *keys, const char *lead,
                     void (*fn)(void *arg, const char *path), void *arg)
{
    for (const struct config_key *k = keys; k->name; k++) {
        char path[256];
        snprintf(path, sizeof path, "%s%s%s%s%s", lead, lead[0] ? "." : "", k->name,
                 k->entries ? "." : "", k->entries ? k->entries : "");
        if (k->sub)
            each_key(k->sub, path, fn, arg);
        else
            fn(arg, path);
    }
}

void config_each_key(void (*fn)(void *arg, const char *path), void *arg)
{
    each_key(top_keys, "", fn, arg);
}

/* ---- the document ---- */

/* What libfyaml found wrong, as one line. */
static int fail_syntax(const struct yaml *y, const char *path, struct err *err)
{
    const struct fy_diag_error *e = yaml_why(y);
    if (e)
        return err_set(err, ERR_INVALID, "%s:%d:%d: %s", path, e->line, e->column, e->msg);
    return err_set(err, ERR_INVALID, "%s: not YAML", path);
}

static int read_document(struct config_file *f, struct str text, struct err *err)
{
    struct yaml y;
    int rc;
    yaml_open(&y, text);
    if (!y.doc)
        rc = fail_syntax(&y, f->path, err);
    else if (!y.root || fy_node_is_null(y.root))
        rc = 0; /* only comments */
    else if (!fy_node_is_mapping(y.root))
        rc = err_set(err, ERR_INVALID, "%s: must be a mapping of keys", f->path);
    else
        rc = config_read_map(f, y.root, top_keys, err);
    yaml_close(&y);
    return rc;
}

int config_yaml(struct config *c, const char *path, const char **listen, struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(1024 * 1024);
    int rc = fd_read_file(path, &text, err);
    if (rc)
        return err_wrap(err, "--config");
    struct config_file f = {.config = c, .arena = &c->arena, .path = path};
    /* Without a document it changes nothing. */
    if (!yaml_is_empty(buf_view(&text)))
        rc = read_document(&f, buf_view(&text), err);
    *listen = f.listen;
    return rc;
}
