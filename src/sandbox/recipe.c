#include "sandbox/recipe.h"

#include "base/buf.h"
#include "base/fd.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECIPE_ARENA = 4 << 20, SHM_MB = 256 };

/* ---- the launcher's part: an ordinary argv ---- */

void recipe_add(struct recipe *r, const char *a)
{
    if (r->n < RECIPE_ARGV - 1)
        r->argv[r->n++] = arena_strz(&r->arena, str_z(a));
    else
        r->arena.failed = true;
}

void recipe_add_number(struct recipe *r, const char *name, int64_t n)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, n);
    recipe_add(r, name);
    recipe_add(r, text);
}

static void add_limit(struct recipe *r, const char *name, int64_t n)
{
    recipe_add(r, "--rlimit");
    recipe_add_number(r, name, n);
}

/* A directory that every host has, over which the launcher puts what the user must reach. */
const char *recipe_stage(void)
{
    static const char *const places[] = {"/mnt", "/srv", "/media"};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        struct stat st;
        if (lstat(places[i], &st) == 0 && S_ISDIR(st.st_mode))
            return places[i];
    }
    return "/tmp";
}

static void put(struct recipe *r, const char *name, const char *path)
{
    recipe_add(r, "--put");
    recipe_add(r, name);
    recipe_add(r, path);
}

static const char *const roots[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};

static bool is_merged(const struct recipe_how *how)
{
    return how->root.usr || how->root.etc;
}

/* Shown by way of the launcher's private file system: what only root can reach, and what is merged.
 */
static bool is_staged(const struct recipe_how *how)
{
    return how->uid || is_merged(how);
}

static void merge(struct recipe *r, const char *name, const char *top, const char *bottom)
{
    recipe_add(r, "--merge");
    recipe_add(r, name);
    recipe_add(r, top);
    recipe_add(r, bottom);
}

/* Laid out by the launcher, as root, and only bound by bubblewrap. */
static bool is_whole(const struct recipe_how *how)
{
    return how->flat && how->uid && !is_merged(how) && !how->root.base;
}

static void three(struct recipe *r, const char *option, const char *a, const char *b)
{
    recipe_add(r, option);
    recipe_add(r, a);
    recipe_add(r, b);
}

static void whole_part(struct recipe *r, const struct recipe_how *how)
{
    static const char *const dirs[] = {"proc", "dev", "run", "home", "mnt/session"};
    recipe_add_number(r, "--uid", how->uid);
    recipe_add(r, "--stage");
    recipe_add(r, recipe_stage());
    recipe_add(r, "--whole");
    three(r, "--show", "usr", "/usr");
    for (size_t i = 0; i < COUNT_OF(roots); i++) {
        char from[32], target[PATH_MAX];
        snprintf(from, sizeof from, "/%s", roots[i]);
        ssize_t n = readlink(from, target, sizeof target - 1);
        if (n > 0) {
            target[n] = '\0';
            three(r, "--link", target, roots[i]);
        } else if (access(from, F_OK) == 0) {
            three(r, "--show", roots[i], from);
        }
    }
    three(r, "--show", "etc", how->etc);
    for (size_t i = 0; i < how->nmounts; i++)
        three(r, how->mounts[i].writable ? "--put" : "--show", how->mounts[i].inside + 1,
              how->mounts[i].host);
    for (size_t i = 0; i < COUNT_OF(dirs); i++) {
        recipe_add(r, "--dir");
        recipe_add(r, dirs[i]);
    }
    recipe_add(r, "--dir");
    recipe_add(r, "var");
    three(r, "--link", "../tmp", "var/tmp");
    three(r, "--link", "../run", "var/run");
}

static void stage_part(struct recipe *r, const struct recipe_how *how)
{
    const char *base = how->root.base ? how->root.base : "";
    char path[PATH_MAX];
    if (how->uid)
        recipe_add_number(r, "--uid", how->uid);
    else
        recipe_add(r, "--userns");
    recipe_add(r, "--stage");
    recipe_add(r, recipe_stage());
    snprintf(path, sizeof path, "%s/usr", base);
    if (how->root.usr)
        merge(r, "usr", how->root.usr, path);
    else if (how->root.base)
        put(r, "usr", path);
    for (size_t i = 0; how->root.base && i < COUNT_OF(roots); i++) {
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", base, roots[i]);
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
            put(r, roots[i], path);
    }
    if (how->root.etc) /* what is made up for sandboxes stays on top */
        merge(r, "etc", how->etc, how->root.etc);
    else
        put(r, "etc", how->etc);
    for (size_t i = 0; i < how->nmounts; i++) {
        char name[32];
        snprintf(name, sizeof name, "%zu", i);
        put(r, name, how->mounts[i].host);
    }
}

/* ---- without a sandbox ---- */

static bool is_path_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           strchr("._-/", c);
}

/* The mount whose path inside begins here, as a whole or with more behind a slash. */
static const struct recipe_mount *mount_at(const struct recipe_how *how, const char *at)
{
    for (size_t i = 0; i < how->nmounts; i++) {
        size_t len = strlen(how->mounts[i].inside);
        if (strncmp(at, how->mounts[i].inside, len) == 0 &&
            (at[len] == '/' || !at[len] || !is_path_char(at[len])))
            return &how->mounts[i];
    }
    return NULL;
}

/* The same text with the host's paths. */
static const char *outside(struct recipe *r, const struct recipe_how *how, const char *text)
{
    AUTO_BUF struct buf b = BUF_INIT(RECIPE_ARENA);
    for (const char *p = text; *p;) {
        bool begins = *p == '/' && (p == text || !is_path_char(p[-1]));
        const struct recipe_mount *m = begins ? mount_at(how, p) : NULL;
        buf_z(&b, m ? m->host : (char[]){*p, '\0'});
        p += m ? strlen(m->inside) : 1;
    }
    return arena_strz(&r->arena, buf_view(&b));
}

static void plain_part(struct recipe *r, const struct recipe_how *how)
{
    char text[PATH_MAX];
    recipe_add(r, "/usr/bin/env");
    snprintf(text, sizeof text, "HOME=%s", outside(r, how, "/home/agent"));
    recipe_add(r, text);
    recipe_add(r, "LANG=C.UTF-8");
    recipe_add(r, "TERM=dumb");
    for (size_t i = 0; how->variables && how->variables[i]; i += 2)
        recipe_add(r,
                   arena_printf(&r->arena, "%s=%s", how->variables[i], how->variables[i + 1]).ptr);
    for (size_t i = 0; how->command[i]; i++)
        recipe_add(r, outside(r, how, how->command[i]));
    r->argv[r->n] = NULL;
}

static void launcher_part(struct recipe *r, const struct recipe_how *how)
{
    recipe_add(r, how->launcher);
    recipe_add(r, "--launch");
    for (size_t i = 0; i < how->njoins; i++) {
        recipe_add(r, "--cgroup");
        recipe_add(r, how->joins[i]);
    }
    add_limit(r, "core", 0);
    add_limit(r, "nofile", 65536);
    if (how->file_mb)
        add_limit(r, "fsize", how->file_mb << 20);
    if (how->cpu_seconds)
        add_limit(r, "cpu", how->cpu_seconds);
    if (how->memory_mb)
        add_limit(r, "as", how->memory_mb << 20);
    if (is_whole(how) && !how->unsafe)
        whole_part(r, how);
    else if (is_staged(how) && !how->unsafe)
        stage_part(r, how);
    recipe_add(r, "--");
    if (how->unsafe) {
        plain_part(r, how);
        return;
    }
    recipe_add(r, "bwrap");
    recipe_add_number(r, "--args", how->args_fd);
    recipe_add(r, "--");
    for (size_t i = 0; how->command[i]; i++)
        recipe_add(r, how->command[i]);
    r->argv[r->n] = NULL;
}

/* ---- bubblewrap's part: NUL-terminated strings ---- */

static void arg(struct buf *b, const char *z)
{
    buf_put(b, z, strlen(z) + 1);
}

static void args(struct buf *b, const char *const *list)
{
    for (size_t i = 0; list[i]; i++)
        arg(b, list[i]);
}

static void arg_number(struct buf *b, const char *name, int64_t n)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, n);
    arg(b, name);
    arg(b, text);
}

static void bind(struct buf *b, const char *how, const char *from, const char *to)
{
    arg(b, how);
    arg(b, from);
    arg(b, to);
}

/* The root's programs and libraries, in the layout that it has. */
static void system_part(struct buf *b, const struct recipe_how *how)
{
    const char *base = how->root.base ? how->root.base : "";
    bool staged_base = how->root.base && is_staged(how);
    char from[PATH_MAX], to[32];
    if (how->root.usr || staged_base)
        snprintf(from, sizeof from, "%s/usr", recipe_stage());
    else
        snprintf(from, sizeof from, "%s/usr", base);
    bind(b, "--ro-bind", from, "/usr");
    for (size_t i = 0; i < COUNT_OF(roots); i++) {
        char target[PATH_MAX];
        snprintf(from, sizeof from, "%s/%s", base, roots[i]);
        snprintf(to, sizeof to, "/%s", roots[i]);
        ssize_t n = readlink(from, target, sizeof target - 1);
        if (n > 0) {
            target[n] = '\0';
            bind(b, "--symlink", target, to);
        } else if (access(from, F_OK) == 0) {
            if (staged_base)
                snprintf(from, sizeof from, "%s/%s", recipe_stage(), roots[i]);
            bind(b, "--ro-bind", from, to);
        }
    }
}

static void mounts_part(struct buf *b, const struct recipe_how *how)
{
    for (size_t i = 0; i < how->nmounts; i++) {
        const struct recipe_mount *m = &how->mounts[i];
        char staged[64];
        snprintf(staged, sizeof staged, "%s/%zu", recipe_stage(), i);
        bind(b, m->writable ? "--bind" : "--ro-bind", is_staged(how) ? staged : m->host, m->inside);
    }
}

/* What is not the system's: /etc, mounts, and the directories that they are in. */
static void own_part(struct buf *b, const struct recipe_how *how)
{
    static const char *const rest[] = {"--dir",     "/run",     "--dir",    "/var",
                                       "--symlink", "../tmp",   "/var/tmp", "--symlink",
                                       "../run",    "/var/run", NULL};
    /* Made here with their modes: bubblewrap would make them for its user alone. */
    static const char *const dirs[] = {"/home", "/mnt", "/mnt/session", "/opt"};
    char etc[64];
    bool opt = false;
    snprintf(etc, sizeof etc, "%s/etc", recipe_stage());
    for (size_t i = 0; i < how->nmounts; i++)
        opt = opt || str_starts(str_z(how->mounts[i].inside), STR("/opt/"));
    for (size_t i = 0; i < COUNT_OF(dirs) - !opt; i++) {
        bind(b, "--perms", "0755", "--dir");
        arg(b, dirs[i]);
    }
    bind(b, "--ro-bind", is_staged(how) ? etc : how->etc, "/etc");
    args(b, rest);
    mounts_part(b, how);
}

static void bwrap_part(struct buf *b, const struct recipe_how *how)
{
    static const char *const isolation[] = {"--unshare-user",
                                            "--uid",
                                            "1000",
                                            "--gid",
                                            "1000",
                                            "--unshare-pid",
                                            "--unshare-ipc",
                                            "--unshare-uts",
                                            "--unshare-cgroup-try",
                                            "--disable-userns",
                                            "--hostname",
                                            "sandbox",
                                            "--new-session",
                                            "--cap-drop",
                                            "ALL",
                                            "--clearenv",
                                            NULL};
    static const char *const variables[] = {
        "--setenv", "PATH",  "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        "--setenv", "HOME",  "/home/agent",
        "--setenv", "USER",  "agent",
        "--setenv", "LANG",  "C.UTF-8",
        "--setenv", "TERM",  "dumb",
        "--setenv", "SHELL", "/bin/bash",
        NULL};
    static const char *const kernel[] = {"--proc",  "/proc", "--dev",  "/dev",
                                         "--perms", "1777",  "--size", NULL};
    args(b, isolation);
    if (!how->host_network)
        arg(b, "--unshare-net");
    args(b, variables);
    for (size_t i = 0; how->variables && how->variables[i]; i += 2)
        bind(b, "--setenv", how->variables[i], how->variables[i + 1]);
    if (how->pid1)
        arg(b, "--as-pid-1");
    if (how->die_with_server)
        arg(b, "--die-with-parent");
    if (is_whole(how))
        bind(b, "--bind", recipe_stage(), "/");
    else
        system_part(b, how);
    args(b, kernel);
    char size[32];
    int64_t shm_mb = how->shm_mb > 0 && how->shm_mb < SHM_MB ? how->shm_mb : SHM_MB;
    snprintf(size, sizeof size, "%" PRId64, shm_mb << 20);
    bind(b, size, "--tmpfs", "/dev/shm");
    /* Names of keys that the server's user holds. Without device access, so it cannot be opened. */
    static const char *const keys[] = {"/proc/keys", "/proc/key-users"};
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (access(keys[i], F_OK) == 0)
            bind(b, "--ro-bind", "/dev/null", keys[i]);
    if (!is_whole(how))
        own_part(b, how);
    arg(b, "--chdir");
    arg(b, how->chdir ? how->chdir : "/");
    arg_number(b, "--seccomp", how->seccomp_fd);
    if (how->info_fd >= 0)
        arg_number(b, "--info-fd", how->info_fd);
    /* bubblewrap's own file systems belong to the sandbox's user until they are sealed. */
    bind(b, "--remount-ro", "/dev", "--remount-ro");
    arg(b, "/");
}

int recipe_build(struct recipe *r, const struct recipe_how *how, struct err *err)
{
    *r = (struct recipe){.args = -1};
    arena_init(&r->arena, RECIPE_ARENA);
    launcher_part(r, how);
    AUTO_BUF struct buf b = BUF_INIT(RECIPE_ARENA);
    bwrap_part(&b, how);
    int rc = 0;
    if (r->arena.failed || !buf_ok(&b))
        rc = err_set(err, ERR_LIMIT, "the sandbox's arguments are too long");
    if (rc == 0 && !how->args_into && (r->args = memfd_create("bwrap-args", MFD_CLOEXEC)) < 0)
        rc = err_sys(err, errno, "memfd");
    int to = how->args_into ? how->args_into : r->args;
    if (rc == 0)
        rc = fd_write_all(to, buf_view(&b), err);
    if (rc == 0 && lseek(to, 0, SEEK_SET) < 0)
        rc = err_sys(err, errno, "memfd");
    if (rc)
        recipe_fini(r);
    return rc;
}

int recipe_tell(const struct recipe *r, int to, struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT(RECIPE_ARENA);
    for (size_t i = 2; i < r->n; i++) /* behind the program and --launch */
        arg(&b, r->argv[i]);
    arg(&b, ""); /* the end: without it the launcher knows that its server died over it */
    if (!buf_ok(&b))
        return err_set(err, ERR_LIMIT, "the sandbox's arguments are too long");
    return fd_write_all(to, buf_view(&b), err);
}

void recipe_fini(struct recipe *r)
{
    fd_close(TAKE_FD(r->args));
    arena_fini(&r->arena);
}
