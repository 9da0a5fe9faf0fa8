/* One build at work.
 *
 *   PREPARING -> (found: ready) -> a sandbox for each phase that has something to do -> SEALING
 *        |                                  |                                             |
 *        +--> another process builds: again |  exit, limit, time                          |
 *                                           v                                             v
 *                                        CLEANING <---------------------------------------+
 *
 * Everything below DATA/environments/.build-CONTENT until it is complete; then one rename makes it
 * the layer. A build whose server dies is killed with it and its directory is removed by the next.
 */
#include "sandbox/build_impl.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/oci_image.h"
#include "sandbox/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SCRIPT_MAX = 1 << 20, BUSY_MS = 1000 };

struct build_run {
    struct builds *b;
    struct build *build;
    struct loop_work work;
    struct loop_child child;
    struct loop_timer timer; /* looks; or waits for another process */
    struct recipe recipe;
    struct sandbox_limits limits;
    char dir[PATH_MAX - 640], unit[96];
    uid_t uid;
    enum build_phase phase;
    int lock, log;
    struct err err;
    bool found, busy, has_phase, merge; /* what a worker found out */
    bool child_open, working, looking, cancelled, ended;
    int64_t deadline_ms, size_bytes, due_ms;
    const char *stopped; /* why we ended it */
    char why[160];
    /* The way out: through the egress proxy, for as long as a phase runs. */
    struct loop_work fetch;
    struct arena arena;
    struct egress_policy policy;
    int pair[2], socket;
    struct err net_err;
    bool fetching, lent;
};

static void next_phase(struct build_run *r);
static void finish(struct build_run *r);

static void job(struct build_run *r, void (*work)(struct loop_work *),
                void (*done)(struct loop_work *))
{
    r->working = true;
    sandboxes_job_began(r->b->s);
    loop_work(r->b->s->loop, &r->work, work, done);
}

static void path_in(const struct build_run *r, const char *name, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s", r->dir, name);
}

static void say(struct build_run *r, const char *text)
{
    char line[ERR_MSG_MAX + 64];
    int n = snprintf(line, sizeof line, "== %s\n", text);
    struct err err;
    if (r->log >= 0 && n > 0 && fd_write_all(r->log, str_n(line, (size_t)n), &err))
        return; /* the state says the same */
}

/* ---- preparing (worker) ---- */

static int take_lock(struct build_run *r, struct err *err)
{
    char path[PATH_MAX];
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int rc = fd_mkdirs(r->b->dir, 0700, err);
    if (rc)
        return rc;
    snprintf(path, sizeof path, "%s/.lock", r->b->dir);
    r->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (r->lock < 0)
        return err_sys(err, errno, "%s", path);
    if (fcntl(r->lock, F_OFD_SETLK, &fl) == 0)
        return 0;
    r->busy = errno == EAGAIN || errno == EACCES;
    return r->busy ? 0 : err_sys(err, errno, "%s", path);
}

static int own_dir(const struct build_run *r, const char *name, struct err *err)
{
    char path[PATH_MAX];
    path_in(r, name, path);
    if (mkdir(path, 0755) < 0 || (r->uid && lchown(path, r->uid, r->uid) < 0))
        return err_sys(err, errno, "%s", path);
    return 0;
}

static int check_image(const struct builds *b, const struct build *build, struct err *err)
{
    char real[PATH_MAX], allowed[PATH_MAX], usr[PATH_MAX];
    struct stat st;
    size_t n = 0;
    const char *image = build->layout[0] ? build->layout : build->base;
    if (!image[0])
        return 0;
    if (!b->images[0])
        return err_set(err, ERR_INVALID,
                       "images need the configuration's sandbox.images: the directory that they "
                       "are below");
    bool ok = realpath(b->images, allowed) && realpath(image, real);
    n = ok ? strlen(allowed) : 0;
    if (!ok || strncmp(real, allowed, n) != 0 || real[n] != '/')
        return err_set(err, ERR_INVALID,
                       "the image is not below the configuration's sandbox.images");
    if (build->layout[0])
        return 0;
    snprintf(usr, sizeof usr, "%s/usr", build->base);
    if (lstat(usr, &st) < 0 || !S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "the image is no unpacked root: it has no directory usr");
    return 0;
}

static int make_dirs(struct build_run *r, struct err *err)
{
    char path[PATH_MAX];
    int rc = fd_mkdirs(r->dir, 0711, err);
    path_in(r, "layer", path);
    if (rc == 0)
        rc = fd_mkdirs(path, 0755, err);
    static const char *const dirs[] = {"layer/apt", "layer/env", "layer/home", "tmp", "home"};
    for (size_t i = 0; i < COUNT_OF(dirs) && rc == 0; i++)
        rc = own_dir(r, dirs[i], err);
    path_in(r, "etc", path);
    if (rc == 0)
        rc = fd_mkdirs(path, 0755, err);
    if (rc == 0)
        rc = build_etc(r->b->s->host.etc, r->build->base, path, err);
    path_in(r, "log", path);
    if (rc == 0 && (r->log = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0)
        rc = err_sys(err, errno, "%s", path);
    return rc;
}

/* A layout becomes an unpacked root, which the layer names. Nobody else looks at `base` before the
 * build is ready. */
static int take_layout(struct build_run *r, struct err *err)
{
    struct build *build = r->build;
    char cache[PATH_MAX], root[PATH_MAX], link[PATH_MAX];
    if (!build->layout[0])
        return 0;
    if (!r->b->s->host.oci.on)
        return err_set(
            err, ERR_INVALID,
            "images of the type oci_layout need the OCI driver; set sandbox.driver to oci");
    snprintf(cache, sizeof cache, "%s/.images", r->b->dir);
    int rc = oci_image_unpack(build->layout, cache, root, err);
    if (rc == 0 && !str_copyz(build->base, sizeof build->base, str_z(root)))
        rc = err_set(err, ERR_INVALID, "the data directory's path is too long");
    path_in(r, "layer", link);
    rc = rc ? rc : fd_mkdirs(link, 0755, err);
    path_in(r, "layer/image", link);
    if (rc == 0 && symlink(root, link) < 0)
        rc = err_sys(err, errno, "%s", link);
    return rc;
}

static int prepare(struct build_run *r, struct err *err)
{
    const struct host *h = &r->b->s->host;
    struct stat st;
    char path[PATH_MAX];
    int rc = take_lock(r, err);
    snprintf(path, sizeof path, "%s/%s", r->b->dir, r->build->content);
    if (rc || r->busy)
        return rc;
    r->merge = layer_can_merge(h->hand, r->b->dir, h->root);
    r->found = lstat(path, &st) == 0;
    if (r->found)
        return 0;
    struct settings settings;
    settings_parse(&settings, &h->limits, str_z(r->build->config));
    r->limits = settings.limits;
    settings_fini(&settings);
    rc = check_image(r->b, r->build, err);
    rc = rc ? rc : tree_remove(r->dir, err);
    rc = rc ? rc : take_layout(r, err);
    rc = rc ? rc : make_dirs(r, err);
    struct cgroup_limits l = {r->limits.memory_mb, r->limits.pids + 2, r->limits.cpus};
    if (rc == 0 && h->cg.kind != CGROUP_NONE)
        rc = cgroup_make(&h->cg, r->unit, &l, err);
    return rc;
}

static void prepare_work(struct loop_work *w)
{
    struct build_run *r = CONTAINER_OF(w, struct build_run, work);
    prepare(r, &r->err);
}

/* ---- one phase (worker) ---- */

static void layer_being_built(const struct build_run *r, struct layer *l)
{
    *l = (struct layer){.merge = r->merge};
    snprintf(l->dir, sizeof l->dir, "%s/layer", r->dir);
    memcpy(l->base, r->build->base, sizeof l->base);
}

static int write_script(struct build_run *r, struct err *err)
{
    AUTO_ARENA struct arena a;
    AUTO_BUF struct buf script = BUF_INIT(SCRIPT_MAX);
    const struct json *config;
    char path[PATH_MAX];
    arena_init(&a, (size_t)16 << 20);
    int rc = json_parse(&a, str_z(r->build->config), 0, &config, err);
    if (rc)
        return rc;
    r->has_phase = false;
    while (!r->has_phase && r->phase < BUILD_PHASES) {
        buf_clear(&script);
        r->has_phase = build_script(config, r->phase, &script);
        r->phase += !r->has_phase;
    }
    if (!r->has_phase)
        return 0;
    if (!buf_ok(&script))
        return err_set(err, ERR_TOO_LARGE, "the build's script is too long");
    path_in(r, "script", path);
    rc = fd_write_file_atomic(path, buf_view(&script), 0644, err);
    if (rc == 0 && chmod(path, 0644) < 0)
        rc = err_sys(err, errno, "%s", path);
    return rc;
}

struct phase_paths {
    char etc[PATH_MAX], script[PATH_MAX], tmp[PATH_MAX], home[PATH_MAX], env[PATH_MAX];
    char apt[PATH_MAX], status[PATH_MAX];
};

static int add_mounts(const struct build_run *r, struct phase_paths *p, struct recipe_how *how,
                      struct err *err)
{
    path_in(r, "etc", p->etc);
    path_in(r, "script", p->script);
    path_in(r, "tmp", p->tmp);
    path_in(r, r->phase == BUILD_SETUP ? "layer/home" : "home", p->home);
    path_in(r, "layer/env", p->env);
    path_in(r, "layer/apt", p->apt);
    snprintf(p->status, sizeof p->status, "%s/var/lib/dpkg/status", r->build->base);
    struct recipe_mount *m = how->mounts;
    size_t n = how->nmounts;
    m[n++] = (struct recipe_mount){p->script, "/run/build.sh", false};
    m[n++] = (struct recipe_mount){p->tmp, "/tmp", true};
    m[n++] = (struct recipe_mount){p->home, "/home/agent", true};
    if (r->phase == BUILD_APT) {
        struct stat st;
        if (stat(p->status, &st) < 0)
            return err_set(err, ERR_INVALID, "apt packages need a Debian root: %s is not there",
                           p->status);
        m[n++] = (struct recipe_mount){p->status, "/run/dpkg-status", false};
        if (!r->build->base[0] && stat("/var/lib/apt/lists", &st) == 0)
            m[n++] = (struct recipe_mount){"/var/lib/apt/lists", "/run/apt-lists", false};
        m[n++] = (struct recipe_mount){p->apt, "/layer", true};
    }
    how->nmounts = n;
    return 0;
}

/* Package sources of the host are added to what the environment allows, but not for setup. */
static int phase_policy(struct build_run *r, const char *const *variables, struct err *err)
{
    const struct json *config;
    char etc[PATH_MAX];
    arena_fini(&r->arena);
    arena_init(&r->arena, (size_t)16 << 20);
    int rc = json_parse(&r->arena, str_z(r->build->config), 0, &config, err);
    if (rc == 0)
        rc = net_policy(&r->arena, config, NULL, 0, &r->policy, err);
    if (rc || r->policy.unrestricted || r->phase == BUILD_SETUP)
        return rc;
    r->policy.package_managers = true;
    path_in(r, "etc", etc);
    const char **hosts;
    rc = build_hosts(&r->arena, etc, variables, &hosts, &r->policy.nmcp_hosts, err);
    if (rc == 0)
        r->policy.mcp_hosts = hosts; /* rules that may name a port */
    return rc;
}

static int open_pair(struct build_run *r, struct err *err)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, r->pair) < 0)
        return err_sys(err, errno, "socketpair");
    /* The build begins when the socket was given, at once or never. */
    const struct timeval patience = {.tv_sec = 15};
    if (setsockopt(r->pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0)
        return err_sys(err, errno, "socketpair");
    return 0;
}

static int build_recipe(struct build_run *r, struct err *err)
{
    const struct host *h = &r->b->s->host;
    char procs[CGROUP_DIRS][CGROUP_PATH + 128];
    const char *joins[CGROUP_DIRS], *variables[128];
    struct phase_paths p;
    struct layer layer;
    struct layer_view view;
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    size_t njoins = cgroup_procs(&h->cg, r->unit, procs), n = 0;
    for (size_t i = 0; i < njoins; i++)
        joins[i] = procs[i];
    layer_being_built(r, &layer);
    layer_view_of(&layer, &view);
    for (; view.variables[n]; n++)
        variables[n] = view.variables[n];
    size_t sources = n;
    n += build_variables(&a, variables + n, COUNT_OF(variables) - n - 1 - NET_VARIABLES * 2);
    int rc = h->network ? phase_policy(r, variables + sources, err) : 0;
    if (rc == 0 && h->network)
        rc = open_pair(r, err);
    if (rc)
        return rc;
    for (size_t i = 0; h->network && net_variables[i]; i++)
        variables[n++] = net_variables[i];
    variables[n] = NULL;
    char port[16], fd[16];
    snprintf(port, sizeof port, "%d", h->network ? NET_PORT : 0);
    snprintf(fd, sizeof fd, "%d", START_FD_LISTEN);
    const char *const command[] = {"/run/hand", "--build",       port, fd, "--",
                                   "/bin/bash", "/run/build.sh", NULL};
    struct recipe_how how = {
        .root = view.root,
        .mounts = {{h->hand, "/run/hand", false}},
        .nmounts = 1,
        .host_network = !h->network && r->phase != BUILD_SETUP,
        .launcher = h->hand,
        .etc = p.etc,
        .uid = r->uid,
        .joins = joins,
        .njoins = njoins,
        .variables = variables,
        .command = command,
        .chdir = "/home/agent",
        .file_mb = r->limits.file_mb,
        .args_fd = START_FD_ARGS,
        .seccomp_fd = START_FD_SECCOMP,
        .info_fd = -1,
        .die_with_server = true,
    };
    if (r->phase == BUILD_APT)
        how.root.usr = how.root.etc = NULL;
    for (size_t i = 0; i < view.nmounts && r->phase != BUILD_APT; i++) {
        how.mounts[how.nmounts] = view.mounts[i];
        how.mounts[how.nmounts++].writable = str_eqz(str_z(view.mounts[i].inside), "/opt/env");
    }
    rc = add_mounts(r, &p, &how, err);
    return rc ? rc : recipe_build(&r->recipe, &how, err);
}

static void phase_work(struct loop_work *w)
{
    struct build_run *r = CONTAINER_OF(w, struct build_run, work);
    char path[PATH_MAX];
    struct stat st;
    int rc = write_script(r, &r->err);
    if (rc || !r->has_phase)
        return;
    /* Mounts inside mounts need their directories. */
    path_in(r, "layer/apt/opt", path);
    if (r->phase != BUILD_APT && lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        path_in(r, "layer/apt/opt/env", path);
        (void)mkdir(path, 0755);
    }
    path_in(r, "layer/env/apt", path);
    (void)mkdir(path, 0755);
    build_recipe(r, &r->err);
}

/* ---- watching ---- */

static void read_tail(struct build_run *r)
{
    char text[BUILD_TAIL];
    struct stat st;
    if (r->log < 0 || fstat(r->log, &st) < 0)
        return;
    off_t from = st.st_size > BUILD_TAIL ? st.st_size - BUILD_TAIL : 0;
    ssize_t n = pread(r->log, text, sizeof text, from);
    struct str tail = str_n(text, n > 0 ? (size_t)n : 0);
    ptrdiff_t line = from ? str_find_ch(tail, '\n') : -1;
    if (line >= 0)
        tail = str_skip(tail, (size_t)line + 1);
    for (size_t i = 0; i < tail.len; i++) /* colours, progress bars */
        if ((unsigned char)text[tail.ptr - text + (ptrdiff_t)i] < ' ' && tail.ptr[i] != '\n' &&
            tail.ptr[i] != '\t')
            text[tail.ptr - text + (ptrdiff_t)i] = ' ';
    if (str_eqz(tail, r->build->tail))
        return;
    (void)str_copyz(r->build->tail, sizeof r->build->tail, tail);
    build_told(r->b, r->build);
}

static void look_work(struct loop_work *w)
{
    struct build_run *r = CONTAINER_OF(w, struct build_run, work);
    char path[PATH_MAX];
    path_in(r, "layer", path);
    int64_t began = clock_mono_us();
    r->size_bytes = (int64_t)tree_usage(path);
    path_in(r, "tmp", path);
    r->size_bytes += (int64_t)tree_usage(path);
    r->due_ms = clock_mono_us() / 1000 + (clock_mono_us() - began) / 1000 * 20;
}

static void stop(struct build_run *r, const char *why)
{
    if (!r->stopped)
        r->stopped = why;
    if (r->child_open)
        (void)loop_child_kill(&r->child, SIGKILL);
}

static void child_ended(struct build_run *r);

static void looked(struct loop_work *w)
{
    struct build_run *r = CONTAINER_OF(w, struct build_run, work);
    struct sandboxes *s = r->b->s;
    r->working = r->looking = false;
    if (r->size_bytes > r->limits.disk_mb << 20) {
        snprintf(r->why, sizeof r->why,
                 "the build takes more than the limit of %" PRId64 " MB of disk",
                 r->limits.disk_mb);
        stop(r, r->why);
    }
    if (r->ended)
        child_ended(r);
    sandboxes_job_ended(s);
}

static void on_look(struct loop_timer *t)
{
    struct build_run *r = CONTAINER_OF(t, struct build_run, timer);
    struct stat st;
    if (!r->child_open)
        return;
    read_tail(r);
    if (loop_now_ms(r->b->s->loop) > r->deadline_ms)
        stop(r, "the build took longer than 30 minutes");
    else if (fstat(r->log, &st) == 0 && st.st_size > BUILD_LOG_MAX)
        stop(r, "the build wrote more than 32 MB of output");
    else if (!r->working && clock_mono_us() / 1000 >= r->due_ms) {
        r->looking = true;
        job(r, look_work, looked);
    }
    loop_timer_start(&r->timer, BUILD_LOOK_MS, on_look);
}

/* ---- from phase to phase ---- */

static void fetch_work(struct loop_work *w)
{
    struct build_run *r = CONTAINER_OF(w, struct build_run, fetch);
    if (net_receive(r->pair[0], &r->socket, &r->net_err))
        r->socket = -1;
}

static void phase_over(struct build_run *r);

static void fetched(struct loop_work *w)
{
    struct build_run *r = CONTAINER_OF(w, struct build_run, fetch);
    struct sandboxes *s = r->b->s;
    r->fetching = false;
    fd_close(TAKE_FD(r->pair[0]));
    if (r->socket >= 0 && !s->closing && r->child_open) {
        int rc = net_lend(s, str_z(r->unit), &r->policy, TAKE_FD(r->socket), &r->net_err);
        r->lent = rc == 0;
        if (rc)
            stop(r, r->net_err.msg);
    }
    fd_close(TAKE_FD(r->socket));
    if (!r->child_open)
        phase_over(r);
    sandboxes_job_ended(s);
}

static void fetch_socket(struct build_run *r)
{
    r->fetching = true;
    r->socket = -1;
    sandboxes_job_began(r->b->s);
    loop_work(r->b->s->loop, &r->fetch, fetch_work, fetched);
}

static void phase_over(struct build_run *r)
{
    if (r->fetching)
        return;
    if (r->lent && !r->b->s->closing)
        net_unlend(r->b->s, str_z(r->unit));
    r->lent = false;
    r->phase++;
    if (r->stopped || r->cancelled || r->err.code)
        finish(r);
    else
        next_phase(r);
}

static void child_closed(struct loop_child *c)
{
    struct build_run *r = CONTAINER_OF(c, struct build_run, child);
    struct sandboxes *s = r->b->s;
    r->child_open = false;
    phase_over(r);
    sandboxes_job_ended(s);
}

static void child_ended(struct build_run *r)
{
    loop_timer_stop(&r->timer);
    read_tail(r);
    sandboxes_job_began(r->b->s);
    loop_child_close(&r->child, child_closed);
}

static void on_exit_of_phase(struct loop_child *c, int status)
{
    struct build_run *r = CONTAINER_OF(c, struct build_run, child);
    r->ended = true;
    if (r->stopped)
        err_set(&r->err, ERR_LIMIT, "%s", r->stopped);
    else if (!WIFEXITED(status))
        err_set(&r->err, ERR_INTERNAL, "the build was killed (signal %d); is memory short?",
                WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    else if (WEXITSTATUS(status))
        err_set(&r->err, ERR_INTERNAL, "the build ended with exit status %d", WEXITSTATUS(status));
    if (!r->working)
        child_ended(r);
}

static void phase_ready(struct loop_work *w)
{
    struct build_run *r = CONTAINER_OF(w, struct build_run, work);
    struct sandboxes *s = r->b->s;
    r->working = false;
    if (r->err.code || r->cancelled || !r->has_phase) {
        finish(r);
    } else {
        AUTO_FD int filter = host_seccomp(&s->host);
        int fds[START_FD_INFO] = {-1, r->log, r->log, r->pair[1], r->recipe.args, filter};
        struct loop_spawn how = {.file = r->recipe.argv[0],
                                 .argv = r->recipe.argv,
                                 .fds = fds,
                                 .nfds = COUNT_OF(fds),
                                 .new_session = true};
        r->ended = false;
        int rc = loop_spawn(s->loop, &r->child, &how, on_exit_of_phase, &r->err);
        recipe_fini(&r->recipe);
        fd_close(TAKE_FD(r->pair[1]));
        if (rc) {
            fd_close(TAKE_FD(r->pair[0]));
            finish(r);
        } else {
            r->child_open = true;
            loop_timer_start(&r->timer, BUILD_LOOK_MS, on_look);
            if (r->pair[0] >= 0)
                fetch_socket(r);
        }
    }
    sandboxes_job_ended(s);
}

static void next_phase(struct build_run *r)
{
    job(r, phase_work, phase_ready);
}

static void again(struct loop_timer *t);

static void prepared(struct loop_work *w)
{
    struct build_run *r = CONTAINER_OF(w, struct build_run, work);
    struct sandboxes *s = r->b->s;
    r->working = false;
    if (r->busy && !r->cancelled) {
        r->busy = false;
        fd_close(TAKE_FD(r->lock));
        loop_timer_start(&r->timer, BUSY_MS, again);
    } else if (r->err.code || r->found || r->cancelled || r->busy) {
        r->b->merge = r->merge;
        finish(r);
    } else {
        r->b->merge = r->merge;
        log_line(LOG_INFO, "building an environment", "content", r->build->content, NULL);
        build_moved(r->b, r->build, BUILD_BUILDING);
        r->deadline_ms = loop_now_ms(s->loop) + BUILD_MS;
        next_phase(r);
    }
    sandboxes_job_ended(s);
}

/* Another process builds: perhaps this very content. */
static void again(struct loop_timer *t)
{
    struct build_run *r = CONTAINER_OF(t, struct build_run, timer);
    if (r->cancelled)
        finish(r);
    else
        job(r, prepare_work, prepared);
}

/* ---- the end ---- */

/* An image's sandboxes see its own /etc below what is made up. */
static int image_etc(const struct build_run *r, struct err *err)
{
    char from[PATH_MAX], to[PATH_MAX];
    if (!r->build->base[0])
        return 0;
    path_in(r, "layer/etc", to);
    int rc = tree_copy(r->b->s->host.etc, to, err);
    static const char *const own[] = {"alternatives", "ld.so.cache", "ld.so.conf",
                                      "ld.so.conf.d", "os-release",  "debian_version"};
    for (size_t i = 0; i < COUNT_OF(own) && rc == 0; i++) {
        snprintf(from, sizeof from, "%s/etc/%s", r->build->base, own[i]);
        path_in(r, "layer/etc", to);
        snprintf(to + strlen(to), sizeof to - strlen(to), "/%s", own[i]);
        (void)tree_remove(to, NULL);
        unlink(to);
        rc = tree_copy(from, to, err);
    }
    return rc;
}

static void end_work(struct loop_work *w)
{
    struct build_run *r = CONTAINER_OF(w, struct build_run, work);
    const struct host *h = &r->b->s->host;
    char from[PATH_MAX], to[PATH_MAX];
    if (r->lock < 0)
        return;
    if (!r->found)
        cgroup_remove(&h->cg, r->unit);
    path_in(r, "layer", from);
    snprintf(to, sizeof to, "%s/%s", r->b->dir, r->build->content);
    int rc = r->err.code;
    if (rc == 0 && !r->found && !r->cancelled) {
        rc = image_etc(r, &r->err);
        rc = rc ? rc : layer_seal(from, h->root, &r->err);
        if (rc == 0 && rename(from, to) < 0)
            rc = err_sys(&r->err, errno, "%s", to);
    }
    if (r->err.code)
        say(r, r->err.msg);
    struct err ignored;
    (void)tree_remove(r->dir, &ignored);
}

static void timer_closed(struct loop_timer *t)
{
    struct build_run *r = CONTAINER_OF(t, struct build_run, timer);
    struct sandboxes *s = r->b->s;
    struct builds *b = r->b;
    b->run = NULL;
    mem_free(r);
    builds_kick(b);
    sandboxes_job_ended(s);
}

static void ended(struct loop_work *w)
{
    struct build_run *r = CONTAINER_OF(w, struct build_run, work);
    struct sandboxes *s = r->b->s;
    struct build *build = r->build;
    read_tail(r);
    fd_close(TAKE_FD(r->lock));
    fd_close(TAKE_FD(r->log));
    fd_close(TAKE_FD(r->pair[0]));
    fd_close(TAKE_FD(r->pair[1]));
    arena_fini(&r->arena);
    if (r->cancelled && r->err.code) {
        ; /* pending or building: the next server begins it again */
    } else if (r->err.code) {
        if (!build->tail[0])
            (void)str_copyz(build->tail, sizeof build->tail, str_z(r->err.msg));
        log_line(LOG_WARN, "an environment could not be built", "content", build->content, "error",
                 r->err.msg, "log", build->tail, NULL);
        build_moved(r->b, build, BUILD_FAILED);
    } else if (!r->cancelled) {
        log_line(LOG_INFO, "an environment is ready", "content", build->content, NULL);
        build_moved(r->b, build, BUILD_READY);
    }
    sandboxes_job_began(s);
    loop_timer_close(&r->timer, timer_closed);
    sandboxes_job_ended(s);
}

static void finish(struct build_run *r)
{
    if (r->cancelled && !r->err.code)
        err_set(&r->err, ERR_CANCELED, "the server ended");
    job(r, end_work, ended);
}

void build_run_start(struct builds *b, struct build *build)
{
    struct build_run *r = mem_zalloc(sizeof *r);
    const struct host *h = &b->s->host;
    r->b = b;
    r->build = build;
    r->lock = r->log = -1;
    r->pair[0] = r->pair[1] = r->socket = -1;
    arena_init(&r->arena, 1);
    r->recipe.args = -1;
    snprintf(r->dir, sizeof r->dir, "%s/.build-%.32s", b->dir, build->content);
    struct session_paths p;
    char name[64];
    snprintf(name, sizeof name, "build-%.24s", build->content);
    session_paths(h, name, &p);
    (void)str_copyz(r->unit, sizeof r->unit, str_z(p.unit));
    r->uid = p.uid;
    loop_timer_init(b->s->loop, &r->timer);
    b->run = r;
    job(r, prepare_work, prepared);
}

void build_run_cancel(struct builds *b)
{
    struct build_run *r = b->run;
    if (!r || r->cancelled)
        return;
    r->cancelled = true;
    if (r->child_open)
        stop(r, "the server ended");
    else if (!r->working) { /* waits for another process */
        loop_timer_stop(&r->timer);
        finish(r);
    }
}
