#include "sandbox/layers.h"

#include "base/fd.h"
#include "sandbox/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <sodium.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEAL_DEPTH = 256, HOME_ENTRIES = 10000, STATUS_MAX = 64 << 20, VERSION = 1 };
#define LAYER_HOME_BYTES ((uint64_t)64 << 20)

/* ---- content ---- */

static void hash_text(crypto_hash_sha256_state *h, struct str s)
{
    unsigned char len[8];
    for (size_t i = 0; i < sizeof len; i++)
        len[i] = (unsigned char)((uint64_t)s.len >> (8 * i));
    crypto_hash_sha256_update(h, len, sizeof len);
    crypto_hash_sha256_update(h, (const unsigned char *)(s.ptr ? s.ptr : ""), s.len);
}

static void hash_end(crypto_hash_sha256_state *h, char out[CONTENT_HEX + 1])
{
    unsigned char sum[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(h, sum);
    sodium_bin2hex(out, CONTENT_HEX + 1, sum, sizeof sum);
}

/* Installed packages and their versions, without what else dpkg writes into its file. */
void layer_base_id(const char *root, char out[CONTENT_HEX + 1])
{
    static const char *const files[] = {"var/lib/dpkg/status", "etc/os-release",
                                        "usr/lib/os-release"};
    crypto_hash_sha256_state h;
    crypto_hash_sha256_init(&h);
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        char path[PATH_MAX];
        AUTO_BUF struct buf text = BUF_INIT(STATUS_MAX);
        snprintf(path, sizeof path, "%s/%s", root, files[i]);
        if (fd_read_file(path, &text, NULL) != 0)
            continue;
        struct str rest = buf_view(&text);
        while (str_some(rest)) {
            struct str line = str_split(&rest, '\n');
            if (i > 0 || str_starts(line, STR("Package: ")) || str_starts(line, STR("Version: ")) ||
                str_starts(line, STR("Status: ")))
                hash_text(&h, line);
        }
    }
    hash_end(&h, out);
}

static bool some(const struct json *v)
{
    return v && v->count > 0;
}

static void hash_image(crypto_hash_sha256_state *h, struct str path)
{
    char root[PATH_MAX], file[PATH_MAX + 32], text[128];
    struct stat st;
    hash_text(h, path);
    if (!str_copyz(root, sizeof root, path))
        return;
    static const char *const files[] = {"var/lib/dpkg/status", "usr", "index.json"};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        snprintf(file, sizeof file, "%s/%s", root, files[i]);
        if (stat(file, &st) < 0)
            continue;
        int n =
            snprintf(text, sizeof text, "%" PRId64 ".%09ld %" PRId64, (int64_t)st.st_mtim.tv_sec,
                     st.st_mtim.tv_nsec, S_ISDIR(st.st_mode) ? 0 : (int64_t)st.st_size);
        hash_text(h, str_n(text, (size_t)n));
    }
}

bool layer_content(const struct json *config, struct str base_id, char out[CONTENT_HEX + 1])
{
    static const char *const managers[] = {"apt", "cargo", "gem", "go", "npm", "pip"};
    const struct json *packages = json_get(config, "packages"), *setup = json_get(config, "setup");
    struct str image = json_get_str(json_get(config, "image"), "path");
    bool any = some(setup) || image.len;
    crypto_hash_sha256_state h;
    crypto_hash_sha256_init(&h);
    crypto_hash_sha256_update(&h, (const unsigned char[]){VERSION}, 1);
    hash_text(&h, base_id);
    for (size_t i = 0; i < COUNT_OF(managers); i++) {
        hash_text(&h, str_z(managers[i]));
        json_for_each (it, json_get(packages, managers[i])) {
            any = true;
            hash_text(&h, it->str);
        }
    }
    hash_text(&h, STR("setup"));
    json_for_each (it, setup)
        hash_text(&h, it->str);
    /* Commands see the variables and what the network gives them; packages come out the same. */
    if (some(setup)) {
        const struct json *variables = json_get(config, "variables");
        const struct json *net = json_get(config, "networking");
        hash_text(&h, variables ? variables->raw : STR(""));
        hash_text(&h, net ? net->raw : STR(""));
    }
    hash_text(&h, STR("image"));
    if (image.len)
        hash_image(&h, image);
    hash_end(&h, out);
    return any;
}

/* ---- what a sandbox is given ---- */

static bool is_dir(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void show(struct layer_view *v, const char *inside, const char *dir, const char *name)
{
    size_t i = v->nmounts;
    snprintf(v->paths[i], sizeof v->paths[i], "%s/%s", dir, name);
    if (is_dir(v->paths[i]))
        v->mounts[v->nmounts++] = (struct recipe_mount){v->paths[i], inside, false};
}

static void set(struct layer_view *v, const char *name, const char *value)
{
    size_t n = 0;
    while (v->variables[n])
        n += 2;
    if (n / 2 >= LAYER_VARIABLES)
        return;
    v->variables[n] = name;
    v->variables[n + 1] = value;
}

/* Where nothing can be merged programs and libraries of apt packages are looked for beside. */
static void set_libraries(struct layer_view *v, const char *apt)
{
    char pattern[PATH_MAX];
    glob_t g;
    size_t skip = strlen(apt);
    snprintf(pattern, sizeof pattern, "%s/usr/lib/*-linux-*", apt);
    if (glob(pattern, GLOB_ONLYDIR | GLOB_NOSORT, NULL, &g) == 0 && g.gl_pathc > 0)
        snprintf(v->libraries, sizeof v->libraries, "/opt/env/apt%.400s:/opt/env/apt/usr/lib",
                 g.gl_pathv[0] + skip);
    else
        snprintf(v->libraries, sizeof v->libraries, "/opt/env/apt/usr/lib");
    globfree(&g);
    set(v, "LD_LIBRARY_PATH", v->libraries);
}

static void set_variables(struct layer_view *v, bool beside)
{
    snprintf(v->path_variable, sizeof v->path_variable,
             "/opt/env/bin:/opt/env/npm/bin:/opt/env/pip/bin:/opt/env/cargo/bin:/opt/env/gem/bin:"
             "/opt/env/go/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin%s",
             beside ? ":/opt/env/apt/usr/bin:/opt/env/apt/usr/games:/opt/env/apt/usr/sbin" : "");
    set(v, "PATH", v->path_variable);
    set(v, "NODE_PATH", "/opt/env/npm/lib/node_modules");
    set(v, "PYTHONPATH", "/opt/env/pip");
    set(v, "GEM_PATH", "/opt/env/gem:"); /* the colon: and the usual places */
}

void layer_view_of(const struct layer *l, struct layer_view *v)
{
    *v = (struct layer_view){.nmounts = 0};
    v->root.base = l->base[0] ? l->base : NULL;
    snprintf(v->own_etc, sizeof v->own_etc, "%s/etc", l->dir);
    v->etc = is_dir(v->own_etc) ? v->own_etc : NULL;
    char apt[LAYER_PATH + 8];
    snprintf(apt, sizeof apt, "%s/apt", l->dir);
    snprintf(v->usr, sizeof v->usr, "%s/usr", apt);
    snprintf(v->apt_etc, sizeof v->apt_etc, "%s/etc", apt);
    bool has = is_dir(v->usr), beside = has && !l->merge;
    if (l->merge) {
        v->root.usr = has ? v->usr : NULL;
        v->root.etc = is_dir(v->apt_etc) ? v->apt_etc : NULL;
        show(v, "/opt", apt, "opt");
    }
    show(v, "/opt/env", l->dir, "env");
    if (beside)
        show(v, "/opt/env/apt", l->dir, "apt");
    set_variables(v, beside);
    if (beside)
        set_libraries(v, apt);
}

int layer_view(const struct layer *l, struct layer_view *out, struct err *err)
{
    if (!is_dir(l->dir))
        return err_set(err, ERR_NOT_FOUND, "the environment's layer is not there");
    (void)utimensat(AT_FDCWD, l->dir, NULL, 0);
    layer_view_of(l, out);
    return 0;
}

/* ---- sealing ---- */

struct seal {
    bool own;
    int sys;
};

static void seal_dir(struct seal *s, int fd, unsigned depth);

static void seal_entry(struct seal *s, int at, const char *name, unsigned depth)
{
    struct stat st;
    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        s->sys = errno;
        return;
    }
    /* A pipe would let two sessions talk; nothing else has a meaning in a layer. */
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode)) {
        s->sys = unlinkat(at, name, 0) < 0 ? errno : s->sys;
        return;
    }
    if (s->own && fchownat(at, name, 0, 0, AT_SYMLINK_NOFOLLOW) < 0)
        s->sys = errno;
    if (S_ISLNK(st.st_mode))
        return;
    mode_t mode = (st.st_mode & 0755) | 0444;
    if (S_ISDIR(st.st_mode) || (mode & 0111))
        mode |= 0111;
    if (S_ISDIR(st.st_mode))
        mode |= 0700;
    if (mode != (st.st_mode & 07777) && fchmodat(at, name, mode, 0) < 0)
        s->sys = errno;
    if (!S_ISDIR(st.st_mode))
        return;
    int sub = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (sub < 0 || depth > SEAL_DEPTH) {
        s->sys = sub < 0 ? errno : ELOOP;
        fd_close(sub);
        return;
    }
    seal_dir(s, sub, depth + 1);
}

static void seal_dir(struct seal *s, int fd, unsigned depth)
{
    DIR *d = fdopendir(fd);
    struct dirent *e;
    if (!d) {
        s->sys = errno;
        fd_close(fd);
        return;
    }
    while (!s->sys && (e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            seal_entry(s, dirfd(d), e->d_name, depth);
    closedir(d);
}

static int make_dir(const char *dir, const char *name, struct err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return err_sys(err, errno, "%s", path);
    return 0;
}

int layer_seal(const char *dir, bool own, struct err *err)
{
    char path[PATH_MAX];
    struct seal s = {.own = own};
    snprintf(path, sizeof path, "%s/home", dir);
    if (tree_usage(path) > LAYER_HOME_BYTES)
        return err_set(err, ERR_TOO_LARGE,
                       "setup left more than %d MB in /home/agent, which every session gets a copy "
                       "of; put it below /opt/env",
                       (int)(LAYER_HOME_BYTES >> 20));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "%s", dir);
    seal_dir(&s, fd, 0);
    if (s.sys)
        return err_sys(err, s.sys, "cannot seal what was built");
    /* Where mounts go that are made inside others. */
    int rc = make_dir(dir, "env", err);
    rc = rc ? rc : make_dir(dir, "env/apt", err);
    snprintf(path, sizeof path, "%s/apt/opt", dir);
    if (rc == 0 && is_dir(path))
        rc = make_dir(path, "env", err);
    AUTO_FD int whole = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (rc == 0 && (whole < 0 || chmod(dir, 0755) < 0 || syncfs(whole) < 0))
        rc = err_sys(err, errno, "%s", dir);
    return rc;
}

/* ---- homes ---- */

struct home {
    uid_t uid;
    unsigned entries;
    int sys;
};

static void copy_bytes(struct home *h, int from_at, int to_at, const char *name, mode_t mode)
{
    AUTO_FD int from = openat(from_at, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    AUTO_FD int to =
        openat(to_at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode | 0200);
    ssize_t n = 1;
    if (from < 0 || to < 0)
        h->sys = errno;
    while (!h->sys && n > 0 && (n = copy_file_range(from, NULL, to, NULL, 1 << 30, 0)) < 0)
        h->sys = errno;
    if (!h->sys && h->uid && fchown(to, h->uid, h->uid) < 0)
        h->sys = errno;
}

static void copy_home(struct home *h, int from, int to, unsigned depth);

static void copy_entry(struct home *h, int from, int to, const char *name, unsigned depth)
{
    struct stat st;
    char target[PATH_MAX];
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || ++h->entries > HOME_ENTRIES)
        return;
    if (S_ISREG(st.st_mode)) {
        copy_bytes(h, from, to, name, st.st_mode & 0777);
    } else if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(from, name, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        if (symlinkat(target, to, name) < 0)
            h->sys = errno;
    } else if (S_ISDIR(st.st_mode) && depth < SEAL_DEPTH) {
        const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
        if (mkdirat(to, name, 0755) < 0)
            h->sys = errno;
        AUTO_FD int a = openat(from, name, flags);
        AUTO_FD int b = openat(to, name, flags);
        if (a < 0 || b < 0)
            h->sys = errno;
        else
            copy_home(h, a, b, depth + 1);
    }
    if (!h->sys && h->uid && fchownat(to, name, h->uid, h->uid, AT_SYMLINK_NOFOLLOW) < 0)
        h->sys = errno;
}

static void copy_home(struct home *h, int from, int to, unsigned depth)
{
    int again = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    struct dirent *e;
    if (!d) {
        h->sys = errno;
        fd_close(again);
        return;
    }
    while (!h->sys && (e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            copy_entry(h, from, to, e->d_name, depth);
    closedir(d);
}

static bool is_empty(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    size_t n = 0;
    while (d && (e = readdir(d)))
        n++;
    if (d)
        closedir(d);
    return n == 2;
}

int layer_fill_home(const struct layer *l, const char *home, uid_t uid, struct err *err)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    char path[PATH_MAX];
    struct home h = {.uid = uid};
    snprintf(path, sizeof path, "%s/home", l->dir);
    if (!l->content[0] || !is_dir(path) || !is_empty(home))
        return 0;
    AUTO_FD int from = open(path, flags);
    AUTO_FD int to = open(home, flags);
    if (from < 0 || to < 0)
        return err_sys(err, errno, "%s", home);
    copy_home(&h, from, to, 0);
    return h.sys ? err_sys(err, h.sys, "cannot fill %s", home) : 0;
}

/* ---- the trial ---- */

bool layer_can_merge(const char *launcher, const char *dir, bool root)
{
    char top[PATH_MAX], bottom[PATH_MAX], at[PATH_MAX];
    struct err err;
    snprintf(at, sizeof at, "%s/.try/at", dir);
    snprintf(top, sizeof top, "%s/.try/top", dir);
    snprintf(bottom, sizeof bottom, "%s/.try/bottom", dir);
    if (fd_mkdirs(top, 0755, &err) || fd_mkdirs(bottom, 0755, &err) || fd_mkdirs(at, 0755, &err))
        return false;
    const char *const argv[] = {launcher,
                                "--launch",
                                "--stage",
                                at,
                                "--merge",
                                "t",
                                top,
                                bottom,
                                root ? "--" : "--userns",
                                root ? "true" : "--",
                                root ? NULL : "true",
                                NULL};
    posix_spawn_file_actions_t files;
    pid_t pid;
    int status = -1;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    int rc = posix_spawn(&pid, launcher, &files, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&files);
    while (rc == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return rc == 0 && status == 0;
}
