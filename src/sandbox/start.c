/* Provisioning: everything a new sandbox needs, prepared on the worker pool. */
#include "sandbox/box.h"

#include "base/fd.h"
#include "json/json.h"
#include "sandbox/copy.h"
#include "sandbox/layers.h"
#include "sandbox/spare.h"
#include "sandbox/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int start_listen(const char *path, int fd, struct err *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (!str_copyz(a.sun_path, sizeof a.sun_path, str_z(path)))
        return err_set(err, ERR_INVALID, "the socket's path is too long: %s", path);
    unlink(path);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || chmod(path, 0600) < 0 || listen(fd, 4) < 0)
        return err_sys(err, errno, "%s", path);
    return 0;
}

/* Where files are judged that somebody else made (copy.h): git starts none of the programs that a
 * repository or a home directory names for every command. */
static const char *const judged_variables[] = {"GIT_CONFIG_COUNT",
                                               "3",
                                               "GIT_CONFIG_KEY_0",
                                               "core.fsmonitor",
                                               "GIT_CONFIG_VALUE_0",
                                               "false",
                                               "GIT_CONFIG_KEY_1",
                                               "core.hooksPath",
                                               "GIT_CONFIG_VALUE_1",
                                               "/dev/null",
                                               "GIT_CONFIG_KEY_2",
                                               "core.pager",
                                               "GIT_CONFIG_VALUE_2",
                                               "cat",
                                               NULL};
_Static_assert(COUNT_OF(judged_variables) <= NET_VARIABLES * 2 + 1, "they take the others' place");

/* Later ones win: an environment may set its own. */
static void list_variables(const struct layer_view *v, bool network, bool judged,
                           const char *const *own, const char **out)
{
    size_t n = 0;
    for (size_t i = 0; v->variables[i]; i++)
        out[n++] = v->variables[i];
    for (size_t i = 0; network && net_variables[i]; i++)
        out[n++] = net_variables[i];
    for (size_t i = 0; judged && judged_variables[i]; i++)
        out[n++] = judged_variables[i];
    for (size_t i = 0; own && own[i] && i < SETTINGS_VARIABLES * 2; i++)
        out[n++] = own[i];
    out[n] = NULL;
}

static void add_layer(struct recipe_how *recipe, const struct layer_view *v)
{
    recipe->root = v->root;
    if (v->etc)
        recipe->etc = v->etc;
    for (size_t i = 0; i < v->nmounts; i++)
        recipe->mounts[recipe->nmounts++] = v->mounts[i];
}

/* The hand itself and bubblewrap's watcher are not the agent's processes. */
static struct cgroup_limits cgroup_limits(const struct sandbox_limits *l)
{
    return (struct cgroup_limits){l->memory_mb, l->pids + 2, l->cpus};
}

int start_recipe(const struct host *h, const struct start_how *how, struct recipe *out,
                 struct err *err)
{
    const struct session_paths *p = how->paths;
    char procs[CGROUP_DIRS][CGROUP_PATH + 128], fd[16], grace[32], pids[32], memory[32], wall[32],
        port[16];
    const char *joins[CGROUP_DIRS];
    size_t njoins = cgroup_procs(&h->cg, p->unit, procs);
    for (size_t i = 0; i < njoins; i++)
        joins[i] = procs[i];
    snprintf(fd, sizeof fd, "%d", START_FD_LISTEN);
    snprintf(grace, sizeof grace, "%" PRId64, h->grace_ms);
    snprintf(pids, sizeof pids, "%" PRId64, how->limits->pids);
    snprintf(memory, sizeof memory, "%" PRId64, how->limits->memory_mb);
    snprintf(wall, sizeof wall, "%" PRId64, how->limits->wall_seconds * 1000);
    snprintf(port, sizeof port, "%d", NET_PORT);
    /* Where no cgroup counts, the hand does. */
    bool counts = h->cg.kind == CGROUP_NONE, network = h->network && !how->offline;
    bool writable = !how->read_only;
    const struct {
        bool wanted;
        const char *name, *value;
    } options[] = {
        {how->selftest, "--selftest", NULL},
        {true, "--fd", fd},
        {true, "--grace-ms", grace},
        {how->limits->wall_seconds > 0, "--wall-ms", wall},
        {!h->unsafe && !p->oci, "--landlock", NULL}, /* the root is there to be written to */
        {network, "--proxy-port", port},
        {counts && !h->unsafe, "--pids", pids},
        {counts && !h->unsafe, "--memory-mb", memory},
        {h->unsafe, "--workdir", "/workspace"},
        {h->unsafe, "--spill", "/tmp/ostler-output"},
    };
    const char *command[2 * COUNT_OF(options) + 2] = {"/run/hand"};
    for (size_t i = 0, n = 1; i < COUNT_OF(options); i++) {
        if (!options[i].wanted)
            continue;
        command[n++] = options[i].name;
        if (options[i].value)
            command[n++] = options[i].value;
    }
    struct layer_view view = {.nmounts = 0};
    const char *variables[(LAYER_VARIABLES + NET_VARIABLES + SETTINGS_VARIABLES) * 2 + 1];
    int rc = how->layer && how->layer->content[0] ? layer_view(how->layer, &view, err) : 0;
    if (rc)
        return rc;
    list_variables(&view, network, how->offline, how->variables, variables);
    struct recipe_how recipe = {
        .launcher = h->hand,
        .etc = h->etc,
        .uid = p->uid,
        .mounts = {{h->hand, "/run/hand", false},
                   {p->workspace, "/workspace", writable},
                   {p->tmp, "/tmp", true},
                   {p->home, "/home/agent", writable},
                   {p->outputs, "/mnt/session/outputs", writable},
                   {p->uploads, "/mnt/session/uploads", false},
                   {p->skills, "/workspace/skills", false}},
        .nmounts = access(p->skills, F_OK) == 0 ? 7 : 6,
        .joins = joins,
        .njoins = njoins,
        .variables = variables,
        .command = command,
        .chdir = "/workspace",
        .file_mb = how->limits->file_mb,
        .shm_mb = how->limits->memory_mb / 4, /* full, it must leave room to empty it */
        .args_fd = START_FD_ARGS,
        .args_into = how->args_into,
        .seccomp_fd = START_FD_SECCOMP,
        .info_fd = how->selftest ? -1 : START_FD_INFO,
        .flat = access(p->skills, F_OK) != 0 && view.nmounts == 0,
        .pid1 = true,
        .die_with_server = how->selftest,
        .unsafe = h->unsafe,
        .read_only = how->read_only,
    };
    add_layer(&recipe, &view);
    if (!p->oci)
        return recipe_build(out, &recipe, err);
    const struct oci_how oci = {
        .oci = &h->oci,
        .dirs = {p->root, p->bundle},
        .unit = p->unit,
        .cg = &h->cg,
        .limits = cgroup_limits(how->limits),
        .all = &recipe,
        .attached = how->selftest,
    };
    return oci_recipe(&oci, out, err);
}

static int open_all(struct box *b, struct start *st, struct err *err)
{
    int pair[2];
    if (st->listen < 0 && (st->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        return err_sys(err, errno, "socket");
    if ((b->info = memfd_create("info", MFD_CLOEXEC)) < 0 ||
        (b->errors = memfd_create("errors", MFD_CLOEXEC)) < 0 ||
        (st->args = memfd_create("bwrap-args", MFD_CLOEXEC)) < 0)
        return err_sys(err, errno, "memfd");
    if (pipe2(pair, O_CLOEXEC) < 0)
        return err_sys(err, errno, "pipe");
    st->told = pair[0];
    st->tell = pair[1];
    return 0;
}

void start_begin(struct box *b, struct start *st,
                 void (*exited)(struct loop_child *, int wait_status))
{
    const struct host *h = &b->s->host;
    struct err *err = &st->spawn_err;
    *st = (struct start){.listen = -1, .args = -1, .told = -1, .tell = -1, .filled = true};
    if (!b->spare && files_are_gone(b) &&
        spares_take_blank(b->s->spares, &st->blank, &st->listen)) {
        struct session_paths p;
        session_paths(h, st->blank.z, &p);
        memcpy(b->unit, p.unit, sizeof b->unit);
    }
    if (open_all(b, st, err) != 0)
        return;
    char fd[16];
    snprintf(fd, sizeof fd, "%d", START_FD_TOLD);
    const char *const argv[] = {h->hand, "--launch", "--args", fd, NULL};
    AUTO_FD int filter = host_seccomp(h);
    const int fds[START_FDS] = {-1, -1, b->errors, st->listen, st->args, filter, b->info, st->told};
    struct loop_spawn how = {
        .file = h->hand, .argv = argv, .fds = fds, .nfds = START_FDS, .new_session = true};
    b->child_ended = false;
    if (loop_spawn(b->s->loop, &b->child, &how, exited, err) == 0)
        b->child_open = true;
    fd_close(TAKE_FD(st->told)); /* writing to a launcher that is gone must fail */
}

int start_limit(const struct host *h, const char *unit, const struct sandbox_limits *limits,
                struct err *err)
{
    struct cgroup_limits l = cgroup_limits(limits);
    return cgroup_limit(&h->cg, unit, &l, err);
}

static bool same_limits(const struct sandbox_limits *a, const struct sandbox_limits *b)
{
    return a->memory_mb == b->memory_mb && a->pids == b->pids && a->cpus == b->cpus;
}

/* The blank becomes the session's directory. One that has become superfluous meanwhile goes; its
 * control group and its socket are used. */
static int take_blank(const struct host *h, const struct box *b, const struct start *st,
                      struct err *err)
{
    struct session_paths from, to;
    session_paths(h, st->blank.z, &from);
    session_paths(h, b->id.z, &to);
    int rc = spare_rename(&from, &to, err);
    if (rc != ERR_EXISTS)
        return rc;
    tree_remove(from.dir, NULL);
    *err = (struct err){.code = 0};
    return session_prepare(&to, err);
}

/* Before anything can be dispatched: the next server must see that this hand was not the first. A
 * session that has a directory but no record may have had any number of hands. */
static int write_record(const struct session_paths *p, struct sandbox_record *r, struct err *err)
{
    struct sandbox_record old;
    r->generation = 1;
    if (mkdir(p->dir, 0700) < 0)
        r->generation = record_read(p->meta, &old) ? old.generation + 1 : 2;
    int rc = record_write(p->meta, r, err);
    if (rc && err->sys == ENOENT && (rc = fd_mkdirs(p->dir, 0700, err)) == 0) {
        r->generation = 1;
        rc = record_write(p->meta, r, err);
    }
    return rc;
}

static int fill_record(const struct box *b, struct sandbox_record *r, struct err *err)
{
    const struct host *h = &b->s->host;
    char socket_path[sizeof h->run_dir + sizeof b->unit + 2];
    memcpy(r->boot_id, h->boot_id, sizeof r->boot_id);
    memcpy(r->unit, b->unit, sizeof r->unit);
    memcpy(r->layer, b->layer.content, sizeof r->layer);
    snprintf(socket_path, sizeof socket_path, "%s/%s", h->run_dir, b->unit);
    if (!str_copyz(r->socket, sizeof r->socket, str_z(socket_path)))
        return err_set(err, ERR_INVALID, "the runtime directory's path is too long");
    return 0;
}

/* What the launcher needs comes first; the rest is done while it and bubblewrap work, but before
 * the server looks for the hand. */
int start_prepare(struct box *b, struct start *st, struct err *err)
{
    const struct host *h = &b->s->host;
    struct session_paths p;
    struct settings settings;
    settings_parse(&settings, &h->limits, str_z(b->environment));
    st->limits = settings.limits;
    struct recipe recipe = {.args = -1};
    arena_init(&recipe.arena, 1);
    int rc = st->blank.z[0] ? take_blank(h, b, st, err) : 0;
    session_paths(h, b->id.z, &p);
    memcpy(p.unit, b->unit, sizeof p.unit);
    if (rc == 0)
        rc = fill_record(b, &st->record, err);
    if (rc == 0)
        rc = write_record(&p, &st->record, err);
    if (rc == 0)
        rc = session_prepare(&p, err);
    if (rc == 0)
        rc = layer_fill_home(&b->layer, p.home, p.uid, err);
    if (b->copy)
        copy_paths(h, &b->copy_of, &p);
    if (rc == 0 && !st->blank.z[0])
        rc = cgroup_begin(&h->cg, b->unit, err);
    if (rc == 0 && !st->blank.z[0])
        rc = start_listen(st->record.socket, st->listen, err);
    if (rc == 0)
        rc = start_recipe(h,
                          &(struct start_how){.paths = &p,
                                              .limits = &st->limits,
                                              .variables = settings.variables,
                                              .layer = &b->layer,
                                              .read_only = b->copy_read_only,
                                              .offline = b->copy,
                                              .args_into = st->args},
                          &recipe, err);
    if (rc == 0)
        rc = recipe_tell(&recipe, st->tell, err);
    fd_close(TAKE_FD(st->tell));
    recipe_fini(&recipe);
    if (rc == 0 && !(st->blank.z[0] && same_limits(&st->limits, &h->limits)))
        rc = start_limit(h, b->unit, &st->limits, err);
    if (rc == 0)
        disk_measure(&p, &st->disk_used, &st->disk_free);
    settings_fini(&settings);
    return rc;
}

void start_fini(struct start *st)
{
    if (!st->filled)
        return;
    fd_close(TAKE_FD(st->listen));
    fd_close(TAKE_FD(st->args));
    fd_close(TAKE_FD(st->told));
    fd_close(TAKE_FD(st->tell));
    st->filled = false;
}

int64_t box_child_pid(const struct box *b)
{
    char text[512];
    if (b->s->host.unsafe) /* the launcher became the hand */
        return b->child_open ? b->child.pid : 0;
    if (b->s->host.oci.on) {
        struct session_paths p;
        session_paths(&b->s->host, b->id.z, &p);
        return oci_pid(p.bundle);
    }
    ssize_t n = b->info < 0 ? -1 : pread(b->info, text, sizeof text, 0);
    if (n <= 0)
        return 0;
    AUTO_ARENA struct arena a;
    arena_init(&a, 65536);
    const struct json *doc;
    int64_t pid = 0;
    if (json_parse(&a, str_n(text, (size_t)n), 0, &doc, NULL) != 0 ||
        !json_i64(json_get(doc, "child-pid"), &pid))
        return 0;
    return pid;
}
