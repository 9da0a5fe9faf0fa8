/* The OCI driver: directories, the command line of the launcher and the runtime, the end. */
#include "sandbox/oci.h"

#include "base/fd.h"
#include "sandbox/oci_image.h"
#include "sandbox/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { DELETE_TRIES = 500, DELETE_PAUSE_MS = 20 };

/* ---- the configuration ---- */

int oci_configure(struct oci *o, const struct oci_config *cfg, struct err *err)
{
    *o = (struct oci){.runtime = cfg && cfg->runtime ? cfg->runtime : "runc"};
    if (!cfg)
        return 0;
    o->on = true;
    o->no_capabilities = cfg->no_capabilities;
    if (cfg->nruntime_args > OCI_ARGS)
        return err_at(err, ERR_INVALID, "sandbox.oci.runtime_args", "more than %d arguments",
                      OCI_ARGS);
    for (size_t i = 0; i < cfg->nruntime_args; i++)
        o->args[o->nargs++] = cfg->runtime_args[i];
    return 0;
}

static bool is_program(const char *name)
{
    const char *path = getenv("PATH");
    struct str rest = str_z(path ? path : "/usr/bin:/bin");
    if (strchr(name, '/'))
        return access(name, X_OK) == 0;
    while (str_some(rest)) {
        struct str dir = str_split(&rest, ':');
        char file[PATH_MAX];
        snprintf(file, sizeof file, STR_FMT "/%s", STR_ARG(dir), name);
        if (dir.len && access(file, X_OK) == 0)
            return true;
    }
    return false;
}

int oci_check(struct oci *o, struct err *err)
{
    const char *slash = strrchr(o->runtime, '/');
    snprintf(o->tier, sizeof o->tier, "oci-%s", slash ? slash + 1 : o->runtime);
    if (geteuid() != 0)
        return err_set(err, ERR_UNAVAILABLE,
                       "the oci driver gives each sandbox users of its own, which only root can; "
                       "run the server as root, or set sandbox.driver to bwrap");
    if (!is_program(o->runtime))
        return err_set(err, ERR_UNAVAILABLE,
                       "the OCI runtime %s is not installed; install it (Debian: apt-get install "
                       "runc), or name another one in sandbox.oci.runtime",
                       o->runtime);
    return 0;
}

/* What installing packages takes: files of other users, becoming one of them, ending their
 * processes. By number: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID. */
uint64_t oci_capabilities(const struct oci *o)
{
    return o->no_capabilities ? 0
                              : 1u << 0 | 1u << 1 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 7;
}

/* ---- directories ---- */

static int own_dir(const char *dir, const char *name, uid_t uid, mode_t mode, struct err *err)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (mkdir(path, mode) < 0 && errno != EEXIST)
        return err_sys(err, errno, "%s", path);
    if (lstat(path, &st) < 0 || (uid && st.st_uid != uid && lchown(path, uid, uid) < 0))
        return err_sys(err, errno, "cannot give %s to user %u", path, (unsigned)uid);
    return S_ISDIR(st.st_mode) ? 0 : err_set(err, ERR_IO, "%s is not a directory", path);
}

int oci_prepare(const struct oci_dirs *d, uid_t ids, struct err *err)
{
    int rc = own_dir(d->bundle, "", 0, 0700, err);
    rc = rc ? rc : own_dir(d->root, "", 0, 0700, err);
    rc = rc ? rc : own_dir(d->root, "upper", ids, 0755, err);
    rc = rc ? rc : own_dir(d->root, "work", 0, 0700, err);
    rc = rc ? rc : own_dir(d->root, "usr", ids, 0755, err);
    return rc ? rc : own_dir(d->root, "usr-work", 0, 0700, err);
}

uint64_t oci_usage(const char *root)
{
    return tree_usage(root);
}

/* ---- the command line ---- */

static void lower(struct recipe *r, const char *path)
{
    char real[PATH_MAX];
    recipe_add(r, "--lower");
    recipe_add(r, realpath(path, real) ? real : path);
}

static void writable(struct recipe *r, const struct oci_how *how, const char *name,
                     const char *upper, const char *work)
{
    char path[PATH_MAX];
    recipe_add(r, "--writable");
    recipe_add(r, name);
    snprintf(path, sizeof path, "%s/%s", how->dirs.root, upper);
    recipe_add(r, path);
    snprintf(path, sizeof path, "%s/%s", how->dirs.root, work);
    recipe_add(r, path);
}

/* The environment's apt layer as a whole: the recipe names what is in it. */
static bool layer_dir(const struct recipe_root *root, char out[PATH_MAX])
{
    const char *part = root->usr ? root->usr : root->etc;
    if (!part || !str_copyz(out, PATH_MAX, str_z(part)))
        return false;
    char *slash = strrchr(out, '/');
    *(slash ? slash : out) = '\0';
    return slash != NULL;
}

static void root_part(struct recipe *r, const struct oci_how *how)
{
    const struct recipe_root *root = &how->all->root;
    char layer[PATH_MAX];
    bool has = layer_dir(root, layer);
    recipe_add_number(r, "--ids", how->all->uid);
    if (has)
        lower(r, layer);
    lower(r, root->base ? root->base : how->oci->base);
    writable(r, how, "root", "upper", "work");
    if (root->base)
        return;
    if (has && root->usr)
        lower(r, root->usr);
    lower(r, "/usr");
    writable(r, how, "root/usr", "usr", "usr-work");
}

static void put(struct recipe *r, const char *name, const char *path)
{
    recipe_add(r, "--put");
    recipe_add(r, name);
    recipe_add(r, path);
}

static void command_line(struct recipe *r, const struct oci_how *how)
{
    const struct recipe_how *all = how->all;
    char path[PATH_MAX], name[32];
    recipe_add(r, all->launcher);
    recipe_add(r, "--launch");
    recipe_add(r, "--stage");
    recipe_add(r, recipe_stage());
    root_part(r, how);
    for (size_t i = 0; i < all->nmounts; i++) {
        snprintf(name, sizeof name, "%zu", i);
        put(r, name, all->mounts[i].host);
    }
    if (all->root.base)
        put(r, "etc", how->oci->made);
    /* Standard descriptors and the hand's socket; nothing else leads into a container. */
    recipe_add(r, "--inherit");
    recipe_add(r, "3");
    recipe_add(r, "--");
    recipe_add(r, how->oci->runtime);
    for (size_t i = 0; i < how->oci->nargs; i++)
        recipe_add(r, how->oci->args[i]);
    recipe_add(r, "--root");
    recipe_add(r, how->oci->state);
    recipe_add(r, "run");
    if (!how->attached) {
        snprintf(path, sizeof path, "%s/pid", how->dirs.bundle);
        recipe_add(r, "--detach");
        recipe_add(r, "--pid-file");
        recipe_add(r, path);
    }
    recipe_add(r, "--preserve-fds");
    recipe_add(r, "1");
    recipe_add(r, "--bundle");
    recipe_add(r, how->dirs.bundle);
    recipe_add(r, how->unit);
    r->argv[r->n] = NULL;
}

int oci_recipe(const struct oci_how *how, struct recipe *out, struct err *err)
{
    char path[PATH_MAX + 256], root[64], group[CGROUP_PATH + 128];
    const char *image[OCI_IMAGE_VARIABLES + 1];
    *out = (struct recipe){.args = -1};
    arena_init(&out->arena, 4 << 20);
    snprintf(path, sizeof path, "%s/pid", how->dirs.bundle);
    unlink(path);
    snprintf(path, sizeof path, "%s/%s", how->oci->state, how->unit);
    if (access(path, F_OK) == 0) /* a server that was killed left it */
        oci_delete(how->oci, how->unit, NULL);
    oci_image_variables(&out->arena, how->all->root.base, image);
    snprintf(root, sizeof root, "%s/root", recipe_stage());
    const struct oci_spec spec = {
        .how = how,
        .root = root,
        .stage = recipe_stage(),
        .image = image,
        .cgroup = cgroup_path(how->cg, how->unit, group) ? group : NULL,
        .etc = how->all->root.base ? "etc" : NULL,
        .capabilities = oci_capabilities(how->oci),
    };
    snprintf(path, sizeof path, "%s/config.json", how->dirs.bundle);
    command_line(out, how);
    int rc = out->arena.failed ? err_set(err, ERR_LIMIT, "the sandbox's arguments are too long")
                               : oci_spec_write(&spec, path, err);
    if (rc)
        recipe_fini(out);
    return rc;
}

struct str oci_said(struct str text)
{
    ptrdiff_t at = str_find(text, STR("msg=\""));
    struct str said = at < 0 ? text : str_skip(text, (size_t)at + 5);
    while (str_ends(said, STR("\"")) || str_ends(said, STR("\n")))
        said.len--;
    return said;
}

/* ---- the end ---- */

int64_t oci_pid(const char *bundle)
{
    char path[PATH_MAX], text[32];
    int64_t pid;
    snprintf(path, sizeof path, "%s/pid", bundle);
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    return n > 0 && str_i64(str_trim(str_n(text, (size_t)n)), &pid) ? pid : 0;
}

static void wait_for(pid_t pid)
{
    int status;
    for (int i = 0; i < DELETE_TRIES; i++) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid || (got < 0 && errno != EINTR))
            return;
        nanosleep(&(struct timespec){.tv_nsec = DELETE_PAUSE_MS * 1000000}, NULL);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
}

void oci_delete(const struct oci *o, const char *unit, const char *bundle)
{
    const char *argv[OCI_ARGS + 8] = {o->runtime};
    size_t n = 1;
    char path[PATH_MAX];
    pid_t pid;
    for (size_t i = 0; i < o->nargs; i++)
        argv[n++] = o->args[i];
    const char *const rest[] = {"--root", o->state, "delete", "--force", unit};
    for (size_t i = 0; i < COUNT_OF(rest); i++)
        argv[n++] = rest[i];
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    for (int fd = 0; fd < 3; fd++)
        posix_spawn_file_actions_addopen(&files, fd, "/dev/null", fd ? O_WRONLY : O_RDONLY, 0);
    int rc = posix_spawnp(&pid, argv[0], &files, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&files);
    if (rc == 0)
        wait_for(pid);
    if (bundle) {
        snprintf(path, sizeof path, "%s/pid", bundle);
        unlink(path);
    }
}
