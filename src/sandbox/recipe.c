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

enum { RECIPE_ARENA = 4 << 20, SHM_BYTES = 256 << 20 };

/* ---- the launcher's part: an ordinary argv ---- */

static void add(struct recipe *r, const char *a)
{
    if (r->n < RECIPE_ARGV - 1)
        r->argv[r->n++] = arena_strz(&r->arena, str_z(a));
    else
        r->arena.failed = true;
}

static void add_number(struct recipe *r, const char *name, int64_t n)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, n);
    add(r, name);
    add(r, text);
}

static void add_limit(struct recipe *r, const char *name, int64_t n)
{
    add(r, "--rlimit");
    add_number(r, name, n);
}

/* A directory that every host has, over which the launcher puts what the user must reach. */
static const char *stage_dir(void)
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
    add(r, "--put");
    add(r, name);
    add(r, path);
}

static void launcher_part(struct recipe *r, const struct recipe_how *how)
{
    add(r, how->launcher);
    add(r, "--launch");
    for (size_t i = 0; i < how->njoins; i++) {
        add(r, "--cgroup");
        add(r, how->joins[i]);
    }
    add_limit(r, "core", 0);
    add_limit(r, "nofile", 65536);
    if (how->file_mb)
        add_limit(r, "fsize", how->file_mb << 20);
    if (how->cpu_seconds)
        add_limit(r, "cpu", how->cpu_seconds);
    if (how->memory_mb)
        add_limit(r, "as", how->memory_mb << 20);
    if (how->uid) {
        add_number(r, "--uid", how->uid);
        add(r, "--stage");
        add(r, stage_dir());
        put(r, "etc", how->etc);
        for (size_t i = 0; i < how->nmounts; i++) {
            char name[32];
            snprintf(name, sizeof name, "%zu", i);
            put(r, name, how->mounts[i].host);
        }
    }
    add(r, "--");
    add(r, "bwrap");
    add_number(r, "--args", how->args_fd);
    add(r, "--");
    for (size_t i = 0; how->command[i]; i++)
        add(r, how->command[i]);
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

/* The host's programs and libraries, in the layout that the host has. */
static void system_part(struct buf *b)
{
    static const char *const roots[] = {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"};
    bind(b, "--ro-bind", "/usr", "/usr");
    for (size_t i = 0; i < COUNT_OF(roots); i++) {
        char target[PATH_MAX];
        ssize_t n = readlink(roots[i], target, sizeof target - 1);
        if (n > 0) {
            target[n] = '\0';
            bind(b, "--symlink", target, roots[i]);
        } else if (access(roots[i], F_OK) == 0) {
            bind(b, "--ro-bind", roots[i], roots[i]);
        }
    }
}

static void mounts_part(struct buf *b, const struct recipe_how *how)
{
    for (size_t i = 0; i < how->nmounts; i++) {
        const struct recipe_mount *m = &how->mounts[i];
        char staged[64];
        snprintf(staged, sizeof staged, "%s/%zu", stage_dir(), i);
        bind(b, m->writable ? "--bind" : "--ro-bind", how->uid ? staged : m->host, m->inside);
    }
}

static void bwrap_part(struct buf *b, const struct recipe_how *how)
{
    static const char *const isolation[] = {"--unshare-user",
                                            "--uid",
                                            "1000",
                                            "--gid",
                                            "1000",
                                            "--unshare-pid",
                                            "--unshare-net",
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
    static const char *const rest[] = {"--dir",     "/run",     "--dir",    "/var",
                                       "--symlink", "../tmp",   "/var/tmp", "--symlink",
                                       "../run",    "/var/run", NULL};
    args(b, isolation);
    args(b, variables);
    for (size_t i = 0; how->variables && how->variables[i]; i += 2)
        bind(b, "--setenv", how->variables[i], how->variables[i + 1]);
    if (how->pid1)
        arg(b, "--as-pid-1");
    if (how->die_with_server)
        arg(b, "--die-with-parent");
    system_part(b);
    args(b, kernel);
    char size[32], etc[64];
    snprintf(size, sizeof size, "%d", SHM_BYTES);
    bind(b, size, "--tmpfs", "/dev/shm");
    snprintf(etc, sizeof etc, "%s/etc", stage_dir());
    /* Made here with their modes: bubblewrap would make them for its user alone. */
    static const char *const dirs[] = {"/home", "/mnt", "/mnt/session"};
    for (size_t i = 0; i < COUNT_OF(dirs); i++) {
        bind(b, "--perms", "0755", "--dir");
        arg(b, dirs[i]);
    }
    bind(b, "--ro-bind", how->uid ? etc : how->etc, "/etc");
    args(b, rest);
    mounts_part(b, how);
    arg(b, "--chdir");
    arg(b, how->chdir ? how->chdir : "/");
    arg_number(b, "--seccomp", how->seccomp_fd);
    if (how->info_fd >= 0)
        arg_number(b, "--info-fd", how->info_fd);
    /* bubblewrap's own file systems belong to the sandbox's user until they are sealed. */
    static const char *const seal[] = {"--remount-ro", "/dev", "--remount-ro", "/", NULL};
    args(b, seal);
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
    if (rc == 0 && (r->args = memfd_create("bwrap-args", MFD_CLOEXEC)) < 0)
        rc = err_sys(err, errno, "memfd");
    if (rc == 0)
        rc = fd_write_all(r->args, buf_view(&b), err);
    if (rc == 0 && lseek(r->args, 0, SEEK_SET) < 0)
        rc = err_sys(err, errno, "memfd");
    if (rc)
        recipe_fini(r);
    return rc;
}

void recipe_fini(struct recipe *r)
{
    fd_close(TAKE_FD(r->args));
    arena_fini(&r->arena);
}
