/* The configuration file: every key is listed in one table; what is not there is refused with its
 * line, so that a misspelt limit is never silently the default.
 */
#include "cli/config.h"

#include "base/fd.h"

#include <libfyaml.h>

struct file {
    struct config *config;
    struct arena *arena;
    const char *path;
    const char *listen, *log_level, *log_format, *api_key_env, *api_key_file;
};

enum kind { KEY_TEXT, KEY_NUMBER, KEY_MAP };

struct key {
    const char *name;
    enum kind kind;
    const struct key *sub;
    size_t offset;  /* of a const char * in struct file, or an int64_t in struct config */
    bool in_config; /* the offset is of a const char * in struct config */
};

#define TEXT(nm, member)                                                                           \
    {                                                                                              \
        .name = nm, .kind = KEY_TEXT, .offset = offsetof(struct file, member)                      \
    }
#define CONFIG_TEXT(nm, member)                                                                    \
    {                                                                                              \
        .name = nm, .kind = KEY_TEXT, .offset = offsetof(struct config, member), .in_config = true \
    }
#define NUMBER(nm, member)                                                                         \
    {                                                                                              \
        .name = nm, .kind = KEY_NUMBER, .offset = offsetof(struct config, member)                  \
    }
#define MAP(nm, keys)                                                                              \
    {                                                                                              \
        .name = nm, .kind = KEY_MAP, .sub = keys                                                   \
    }

static const struct key log_keys[] = {TEXT("level", log_level), TEXT("format", log_format), {0}};
static const struct key sandbox_keys[] = {
    NUMBER("pids", limits.pids),       NUMBER("memory_mb", limits.memory_mb),
    NUMBER("cpus", limits.cpus),       NUMBER("file_mb", limits.file_mb),
    NUMBER("disk_mb", limits.disk_mb), {0}};
static const struct key request_keys[] = {NUMBER("connect_ms", connect_ms),
                                          NUMBER("first_byte_ms", first_byte_ms),
                                          NUMBER("silence_ms", silence_ms),
                                          {0}};
static const struct key anthropic_keys[] = {CONFIG_TEXT("base_url", anthropic_base_url),
                                            TEXT("api_key_env", api_key_env),
                                            TEXT("api_key_file", api_key_file),
                                            {0}};
static const struct key provider_keys[] = {MAP("anthropic", anthropic_keys), {0}};
static const struct key top_keys[] = {TEXT("listen", listen),
                                      CONFIG_TEXT("data", data),
                                      MAP("log", log_keys),
                                      CONFIG_TEXT("models", models),
                                      CONFIG_TEXT("script_dir", script_dir),
                                      MAP("sandbox", sandbox_keys),
                                      MAP("model_requests", request_keys),
                                      MAP("providers", provider_keys),
                                      {0}};

static int line_of(struct fy_node *n)
{
    struct fy_token *t = n && fy_node_is_scalar(n) ? fy_node_get_scalar_token(n) : NULL;
    const struct fy_mark *m = t ? fy_token_start_mark(t) : NULL;
    return m ? m->line + 1 : 0;
}

static int fail(const struct file *f, struct fy_node *key, const char *msg, const char *what,
                struct err *err)
{
    size_t len = 0;
    const char *name = fy_node_get_scalar(key, &len);
    char at[ERR_AT_MAX];
    str_copyz(at, sizeof at, str_take(str_n(name, len), sizeof at - 1));
    return err_at(err, ERR_INVALID, at, "%s:%d: %s: %s%s", f->path, line_of(key), at, msg, what);
}

static int fail_unknown(const struct file *f, struct fy_node *key, const struct key *keys,
                        struct err *err)
{
    AUTO_BUF struct buf known = BUF_INIT(1024);
    for (const struct key *k = keys; k->name; k++)
        buf_printf(&known, "%s%s", known.len ? ", " : "", k->name);
    return fail(f, key, "unknown key; known here: ", known.data, err);
}

static int read_map(struct file *f, struct fy_node *map, const struct key *keys, struct err *err);

static int read_value(struct file *f, const struct key *k, struct fy_node *key,
                      struct fy_node *value, struct err *err)
{
    if (k->kind == KEY_MAP) {
        if (!fy_node_is_mapping(value))
            return fail(f, key, "must be a mapping of keys", "", err);
        return read_map(f, value, k->sub, err);
    }
    size_t len = 0;
    const char *text = fy_node_is_scalar(value) ? fy_node_get_scalar(value, &len) : NULL;
    if (!text || !len)
        return fail(f, key, "must be a plain value", "", err);
    if (k->kind == KEY_NUMBER) {
        int64_t *slot = (int64_t *)(void *)((char *)f->config + k->offset);
        if (!str_i64(str_n(text, len), slot) || *slot < 1 || *slot > 1024 * 1024 * 1024)
            return fail(f, key, "must be a whole number, 1 or more", "", err);
        return 0;
    }
    char *base = k->in_config ? (char *)f->config : (char *)f;
    const char **slot = (const char **)(void *)(base + k->offset);
    *slot = arena_strz(f->arena, str_n(text, len));
    return *slot ? 0 : fail(f, key, "is too long", "", err);
}

static int read_map(struct file *f, struct fy_node *map, const struct key *keys, struct err *err)
{
    void *at = NULL;
    for (struct fy_node_pair *p; (p = fy_node_mapping_iterate(map, &at));) {
        struct fy_node *key = fy_node_pair_key(p), *value = fy_node_pair_value(p);
        size_t len = 0;
        const char *name = fy_node_get_scalar(key, &len);
        const struct key *k = keys;
        while (k->name && !str_eqz(str_n(name, len), k->name))
            k++;
        if (!k->name)
            return fail_unknown(f, key, keys, err);
        int rc = read_value(f, k, key, value, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* The key itself never stands in the configuration: a variable or a file names it. */
static int read_api_key(struct file *f, struct err *err)
{
    struct config *c = f->config;
    if (f->api_key_env && f->api_key_file)
        return err_at(err, ERR_INVALID, "providers.anthropic",
                      "%s: providers.anthropic: api_key_env and api_key_file exclude each other",
                      f->path);
    if (f->api_key_env) {
        c->anthropic_api_key = config_env(f->api_key_env);
        if (!c->anthropic_api_key)
            return err_at(err, ERR_INVALID, "api_key_env",
                          "%s: api_key_env: the environment variable %s is not set", f->path,
                          f->api_key_env);
    }
    if (!f->api_key_file)
        return 0;
    AUTO_BUF struct buf text = BUF_INIT(16 * 1024);
    int rc = fd_read_file(f->api_key_file, &text, err);
    if (rc)
        return err_wrap(err, "%s: api_key_file", f->path);
    struct str key = str_trim(buf_view(&text));
    c->anthropic_api_key = key.len ? arena_strz(f->arena, key) : NULL;
    return c->anthropic_api_key ? 0
                                : err_at(err, ERR_INVALID, "api_key_file",
                                         "%s: api_key_file: %s is empty", f->path, f->api_key_file);
}

static int apply_log(struct file *f, struct err *err)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    struct config *c = f->config;
    if (f->log_format) {
        c->log_json = strcmp(f->log_format, "json") == 0;
        if (!c->log_json && strcmp(f->log_format, "text") != 0)
            return err_at(err, ERR_INVALID, "log.format",
                          "%s: log.format: '%s' is not one of text, json", f->path, f->log_format);
    }
    if (!f->log_level)
        return 0;
    for (size_t i = 0; i < COUNT_OF(levels); i++) {
        if (strcmp(f->log_level, levels[i]) == 0) {
            c->log_level = (enum log_level)i;
            return 0;
        }
    }
    return err_at(err, ERR_INVALID, "log.level",
                  "%s: log.level: '%s' is not one of debug, info, warn, error", f->path,
                  f->log_level);
}

/* What libfyaml found wrong, as one line. */
static int fail_syntax(struct fy_diag *diag, const char *path, struct err *err)
{
    void *at = NULL;
    const struct fy_diag_error *e = diag ? fy_diag_errors_iterate(diag, &at) : NULL;
    if (e)
        return err_set(err, ERR_INVALID, "%s:%d:%d: %s", path, e->line, e->column, e->msg);
    return err_set(err, ERR_INVALID, "%s: not YAML", path);
}

static int read_document(struct file *f, struct str text, struct err *err)
{
    struct fy_diag *diag = fy_diag_create(NULL);
    if (diag)
        fy_diag_set_collect_errors(diag, true);
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET, .diag = diag};
    struct fy_document *doc = fy_document_build_from_string(&cfg, text.ptr, text.len);
    struct fy_node *root = doc ? fy_document_root(doc) : NULL;
    int rc;
    if (!doc)
        rc = fail_syntax(diag, f->path, err);
    else if (!root || fy_node_is_null(root))
        rc = 0; /* only comments */
    else if (!fy_node_is_mapping(root))
        rc = err_set(err, ERR_INVALID, "%s: must be a mapping of keys", f->path);
    else
        rc = read_map(f, root, top_keys, err);
    fy_document_destroy(doc);
    fy_diag_destroy(diag);
    return rc;
}

/* A stream without a document is an error to libfyaml; to us it is a file that changes nothing. */
static bool only_comments(struct str text)
{
    while (str_some(text)) {
        struct str line = str_trim(str_split(&text, '\n'));
        if (line.len && line.ptr[0] != '#')
            return false;
    }
    return true;
}

int config_yaml(struct config *c, const char *path, const char **listen, struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(1024 * 1024);
    int rc = fd_read_file(path, &text, err);
    if (rc)
        return err_wrap(err, "--config");
    struct file f = {.config = c, .arena = &c->arena, .path = path};
    if (!only_comments(buf_view(&text))) {
        rc = read_document(&f, buf_view(&text), err);
        if (rc)
            return rc;
    }
    *listen = f.listen;
    rc = apply_log(&f, err);
    return rc ? rc : read_api_key(&f, err);
}
