/* Where the host gets its packages from, for builds: its configuration files, without credentials.
 */
#include "sandbox/build.h"

#include "base/fd.h"
#include "sandbox/tree.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SOURCE_MAX = 4 << 20 };

/* ---- text without credentials ---- */

static bool ends_authority(char c)
{
    return c == '/' || c == ',' || c == ' ' || c == '\t' || c == '"' || c == '\'' || c == ']' ||
           c == '?' || c == '#';
}

/* GOPROXY's alternatives: http://one|http://two. A bar in a password ends nothing. */
static bool begins_alternative(struct str s)
{
    size_t i = 1;
    while (i < s.len && s.ptr[i] >= 'a' && s.ptr[i] <= 'z')
        i++;
    return s.ptr[0] == '|' && i > 1 && str_starts(str_skip(s, i), STR("://"));
}

static void clean_line(struct str line, struct buf *out)
{
    ptrdiff_t at;
    while ((at = str_find(line, STR("://"))) >= 0) {
        size_t begin = (size_t)at + 3, end = begin, from = begin;
        while (end < line.len && !ends_authority(line.ptr[end]) &&
               !begins_alternative(str_skip(line, end)))
            end++;
        for (size_t i = begin; i < end; i++)
            if (line.ptr[i] == '@')
                from = i + 1;
        buf_str(out, str_take(line, begin));
        buf_str(out, str_n(line.ptr + from, end - from));
        line = str_skip(line, end);
    }
    buf_str(out, line);
}

static bool contains(struct str s, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= s.len; i++)
        if (str_eq_nocase(str_n(s.ptr + i, n), str_n(word, n)))
            return true;
    return false;
}

/* By the name of what the line sets. */
static bool is_secret(struct str line)
{
    static const char *const words[] = {"_auth",   "password",    "passwd",    "token",
                                        "secret",  "proxy-auth",  "username",  "api_key",
                                        "keyfile", "client_cert", "ssl_client"};
    struct str name = line;
    for (size_t i = 0; i < line.len; i++)
        if (line.ptr[i] == '=' || line.ptr[i] == ' ' || line.ptr[i] == '"') {
            /* npm writes //host/:_authToken=... */
            name = str_take(line, i);
            break;
        }
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (contains(name, words[i]))
            return true;
    return false;
}

void build_clean_text(struct str text, struct buf *out)
{
    while (str_some(text) && text.len) {
        struct str line = str_split(&text, '\n');
        if (is_secret(str_trim(line)))
            continue;
        clean_line(line, out);
        buf_ch(out, '\n');
    }
}

/* ---- files ---- */

static int write_file(const char *path, struct str text, struct err *err)
{
    int rc = fd_write_file_atomic(path, text, 0644, err);
    if (rc == 0 && chmod(path, 0644) < 0)
        rc = err_sys(err, errno, "%s", path);
    return rc;
}

/* Appends the host's file, if there is one. */
static void add_clean(const char *path, struct buf *out)
{
    AUTO_BUF struct buf text = BUF_INIT(SOURCE_MAX);
    if (fd_read_file(path, &text, NULL) == 0)
        build_clean_text(buf_view(&text), out);
}

static int copy_clean(const char *from, const char *to, struct err *err)
{
    AUTO_BUF struct buf out = BUF_INIT(SOURCE_MAX);
    add_clean(from, &out);
    return out.len ? write_file(to, buf_view(&out), err) : 0;
}

static int copy_clean_dir(const char *from, const char *to, struct err *err)
{
    DIR *d = opendir(from);
    struct dirent *e;
    int rc = d ? fd_mkdirs(to, 0755, err) : 0;
    while (rc == 0 && d && (e = readdir(d))) {
        char a[PATH_MAX + 256], b[PATH_MAX + 256];
        snprintf(a, sizeof a, "%s/%s", from, e->d_name);
        snprintf(b, sizeof b, "%s/%s", to, e->d_name);
        struct stat st;
        if (e->d_name[0] != '.' && stat(a, &st) == 0 && S_ISREG(st.st_mode))
            rc = copy_clean(a, b, err);
    }
    if (d)
        closedir(d);
    return rc;
}

/* auth.conf and auth.conf.d stay where they are. */
static int copy_apt(const char *etc, struct err *err)
{
    static const char *const dirs[] = {"sources.list.d", "apt.conf.d", "preferences.d"};
    static const char *const files[] = {"sources.list", "apt.conf", "preferences"};
    static const char *const keys[] = {"trusted.gpg", "trusted.gpg.d", "keyrings"};
    char from[PATH_MAX], to[PATH_MAX];
    snprintf(to, sizeof to, "%s/apt", etc);
    int rc = fd_mkdirs(to, 0755, err);
    for (size_t i = 0; i < COUNT_OF(dirs) && rc == 0; i++) {
        snprintf(from, sizeof from, "/etc/apt/%s", dirs[i]);
        snprintf(to, sizeof to, "%s/apt/%s", etc, dirs[i]);
        rc = copy_clean_dir(from, to, err);
    }
    for (size_t i = 0; i < COUNT_OF(files) && rc == 0; i++) {
        snprintf(from, sizeof from, "/etc/apt/%s", files[i]);
        snprintf(to, sizeof to, "%s/apt/%s", etc, files[i]);
        rc = copy_clean(from, to, err);
    }
    for (size_t i = 0; i < COUNT_OF(keys) && rc == 0; i++) {
        snprintf(from, sizeof from, "/etc/apt/%s", keys[i]);
        snprintf(to, sizeof to, "%s/apt/%s", etc, keys[i]);
        rc = tree_copy(from, to, err);
    }
    return rc;
}

/* The first that is there of the user's and the system's; npm's are all read. */
static int copy_others(const char *etc, struct err *err)
{
    static const struct {
        const char *to, *from[5];
        bool all;
    } files[] = {
        {"npmrc", {"/usr/etc/npmrc", "/etc/npmrc", "~/.npmrc"}, true},
        {"pip.conf", {"~/.config/pip/pip.conf", "~/.pip/pip.conf", "/etc/pip.conf"}, false},
        {"gemrc", {"~/.gemrc", "/etc/gemrc"}, false},
        {"cargo.toml", {"~/.cargo/config.toml", "~/.cargo/config"}, false},
    };
    const char *home = getenv("HOME");
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        AUTO_BUF struct buf out = BUF_INIT(SOURCE_MAX);
        char path[PATH_MAX];
        for (size_t k = 0; files[i].from[k] && (files[i].all || !out.len); k++) {
            const char *from = files[i].from[k];
            bool mine = from[0] == '~';
            if (mine && !home)
                continue;
            snprintf(path, sizeof path, "%s%s", mine ? home : "", from + mine);
            add_clean(path, &out);
        }
        snprintf(path, sizeof path, "%s/%s", etc, files[i].to);
        int rc = write_file(path, buf_view(&out), err);
        if (rc)
            return rc;
    }
    return 0;
}

enum { HOSTS_MAX = 256 };

static void add_hosts(struct arena *a, struct str text, const char **out, size_t *n)
{
    ptrdiff_t at;
    while ((at = str_find(text, STR("://"))) >= 0 && *n < HOSTS_MAX) {
        text = str_skip(text, (size_t)at + 3);
        size_t end = 0;
        while (end < text.len && !ends_authority(text.ptr[end]) && text.ptr[end] != '\n' &&
               text.ptr[end] != ';' && text.ptr[end] != '|')
            end++;
        char *host = end ? arena_strz(a, str_take(text, end)) : NULL;
        bool known = !host;
        for (size_t i = 0; i < *n && !known; i++)
            known = strcmp(out[i], host) == 0;
        if (!known)
            out[(*n)++] = host;
    }
}

static void add_hosts_of(struct arena *a, const char *etc, const char *name, const char **out,
                         size_t *n)
{
    char path[PATH_MAX];
    AUTO_BUF struct buf text = BUF_INIT(SOURCE_MAX);
    snprintf(path, sizeof path, "%s/%s", etc, name);
    if (fd_read_file(path, &text, NULL) == 0)
        add_hosts(a, buf_view(&text), out, n);
}

int build_hosts(struct arena *a, const char *etc, const char *const *variables, const char ***out,
                size_t *n, struct err *err)
{
    static const char *const files[] = {"apt/sources.list", "npmrc", "pip.conf", "gemrc",
                                        "cargo.toml"};
    const char **hosts = ARENA_ARRAY(a, const char *, HOSTS_MAX);
    char dir[PATH_MAX];
    if (!hosts)
        return err_set(err, ERR_LIMIT, "too many package sources");
    *n = 0;
    for (size_t i = 0; i < COUNT_OF(files); i++)
        add_hosts_of(a, etc, files[i], hosts, n);
    snprintf(dir, sizeof dir, "%s/apt/sources.list.d", etc);
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.')
            add_hosts_of(a, dir, e->d_name, hosts, n);
    if (d)
        closedir(d);
    for (size_t i = 0; variables[i]; i += 2)
        add_hosts(a, str_z(variables[i + 1]), hosts, n);
    *out = hosts;
    return 0;
}

int build_etc(const char *from, const char *root, const char *etc, struct err *err)
{
    char a[PATH_MAX], b[PATH_MAX];
    static const char *const names[] = {"resolv.conf", "hosts"};
    int rc = tree_copy(from, etc, err);
    (void)root;
    for (size_t i = 0; i < COUNT_OF(names) && rc == 0; i++) {
        snprintf(a, sizeof a, "/etc/%s", names[i]);
        snprintf(b, sizeof b, "%s/%s", etc, names[i]);
        rc = copy_clean(a, b, err);
    }
    snprintf(b, sizeof b, "%s/nsswitch.conf", etc);
    if (rc == 0)
        rc = write_file(b, STR("passwd: files\ngroup: files\nhosts: files dns\n"), err);
    if (rc == 0)
        rc = copy_apt(etc, err);
    return rc ? rc : copy_others(etc, err);
}

size_t build_variables(struct arena *a, const char **out, size_t max)
{
    static const char *const taken[] = {"GOPROXY",
                                        "GOSUMDB",
                                        "GONOSUMDB",
                                        "GOPRIVATE",
                                        "GONOPROXY",
                                        "GOINSECURE",
                                        "GOFLAGS",
                                        "PIP_INDEX_URL",
                                        "PIP_EXTRA_INDEX_URL",
                                        "PIP_TRUSTED_HOST",
                                        "PIP_CERT",
                                        "npm_config_registry",
                                        "NPM_CONFIG_REGISTRY",
                                        "NODE_EXTRA_CA_CERTS",
                                        "SSL_CERT_FILE",
                                        "http_proxy",
                                        "https_proxy",
                                        "no_proxy",
                                        "HTTP_PROXY",
                                        "HTTPS_PROXY",
                                        "NO_PROXY"};
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(taken) && n + 3 <= max; i++) {
        const char *value = getenv(taken[i]);
        if (!value || !value[0])
            continue;
        AUTO_BUF struct buf clean = BUF_INIT(SOURCE_MAX);
        clean_line(str_z(value), &clean);
        char *kept = arena_strz(a, buf_view(&clean));
        if (!kept)
            break;
        out[n++] = taken[i];
        out[n++] = kept;
    }
    out[n] = NULL;
    return n;
}
