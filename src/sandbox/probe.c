/* Finds out what works on this host by starting one sandbox with the hand's self-test in it. */
#include "sandbox/impl.h"

#include "base/fd.h"
#include "json/json.h"
#include "sandbox/build.h"
#include "sandbox/seccomp.h"
#include "sandbox/spare.h"
#include "sandbox/tree.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROBE_MS = 10 * 1000, PROBE_OUTPUT = 16384, PROBE_MEMORY_MB = 256, PROBE_PIDS = 64 };

struct probed_cb {
    struct list node;
    struct loop_post post;
    struct sandboxes *s;
    bool ours; /* called even while closing: it has something to give back */
    void (*fn)(void *arg);
    void *arg;
};

struct probe {
    struct sandboxes *s;
    struct loop_work work;
    struct loop_child child;
    struct loop_timer timer;
    struct recipe recipe;
    struct session_paths paths;
    struct err err;
    char name[64]; /* instead of a session's */
    int out, errors;
    bool spawned, cancelled;
    unsigned open; /* handles that have not closed */
    struct host_facts facts;
    bool second;     /* a container's root, as itself */
    char first[384]; /* why the stronger tier did not work */
};

/* ---- on a worker ---- */

static bool bwrap_is_there(void)
{
    const char *path = getenv("PATH");
    struct str rest = str_z(path ? path : "/usr/bin:/bin");
    while (str_some(rest)) {
        struct str dir = str_split(&rest, ':');
        char file[PATH_MAX];
        snprintf(file, sizeof file, STR_FMT "/bwrap", STR_ARG(dir));
        if (dir.len && access(file, X_OK) == 0)
            return true;
    }
    return false;
}

static int check_programs(const struct host *h, struct err *err)
{
    if (!bwrap_is_there())
        return err_set(err, ERR_UNAVAILABLE,
                       "bubblewrap is not installed; install it (Debian: apt-get install "
                       "bubblewrap)");
    struct stat st;
    if (stat(h->hand, &st) < 0 || !S_ISREG(st.st_mode) || access(h->hand, X_OK) < 0)
        return err_set(err, ERR_UNAVAILABLE,
                       "the hand is not at %s; make builds it beside ostler, make install puts it "
                       "below libexec",
                       h->hand);
    return 0;
}

/* For `ostler doctor`, which does not see how the server was started. */
static int mark(const struct host *h, struct err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/" SANDBOX_UNSAFE_MARK, h->dir);
    if (h->unsafe)
        return fd_write_file_atomic(path, STR("--unsafe-no-sandbox\n"), 0600, err);
    unlink(path);
    return 0;
}

/* What both attempts need. */
static int prepare_host(struct probe *p, struct err *err)
{
    struct host *h = &p->s->host;
    host_facts(&p->facts);
    int rc = h->unsafe ? 0 : check_programs(h, err);
    if (rc == 0 && h->oci.on && !h->unsafe)
        rc = oci_check(&h->oci, err);
    if (rc == 0)
        rc = host_prepare(h, err);
    if (rc)
        return rc;
    rc = mark(h, err);
    if (rc)
        return rc;
    cgroups_detect(&h->cg, h->no_cgroups);
    if (h->oci.on)
        cgroups_align(&h->cg);
    return seccomp_make(h->cg.kind != CGROUP_NONE, &h->seccomp, err);
}

static int prepare(struct probe *p, struct err *err)
{
    struct host *h = &p->s->host;
    int rc = p->second ? 0 : prepare_host(p, err);
    if (rc || h->unsafe)
        return rc;
    session_paths(h, p->name, &p->paths);
    if (p->second)
        tree_remove(p->paths.dir, NULL);
    rc = session_prepare(&p->paths, err);
    if (rc == 0 && h->cg.kind != CGROUP_NONE)
        rc = cgroup_make(&h->cg, p->paths.unit,
                         &(struct cgroup_limits){PROBE_MEMORY_MB, PROBE_PIDS, 1}, err);
    fd_close(TAKE_FD(p->out));
    fd_close(TAKE_FD(p->errors));
    p->out = memfd_create("probe-out", MFD_CLOEXEC);
    p->errors = memfd_create("probe-err", MFD_CLOEXEC);
    if (rc == 0 && (p->out < 0 || p->errors < 0))
        rc = err_sys(err, errno, "memfd");
    struct sandbox_limits limits = h->limits; /* as those of its group: a runtime sets them again */
    limits.memory_mb = PROBE_MEMORY_MB;
    limits.pids = PROBE_PIDS;
    limits.cpus = 1;
    const struct start_how how = {.paths = &p->paths, .limits = &limits, .selftest = true};
    return rc ? rc : start_recipe(h, &how, &p->recipe, err);
}

static void prepare_work(struct loop_work *w)
{
    struct probe *p = CONTAINER_OF(w, struct probe, work);
    prepare(p, &p->err);
}

static void clean_work(struct loop_work *w)
{
    struct probe *p = CONTAINER_OF(w, struct probe, work);
    if (!p->paths.dir[0])
        return;
    if (p->paths.oci)
        oci_delete(&p->s->host.oci, p->paths.unit, p->paths.bundle);
    cgroup_remove(&p->s->host.cg, p->paths.unit);
    tree_remove(p->paths.dir, NULL);
}

/* ---- the verdict ---- */

static struct str read_back(int fd, char *text, size_t cap)
{
    ssize_t n = fd < 0 ? -1 : pread(fd, text, cap, 0);
    return str_trim(str_n(text, n > 0 ? (size_t)n : 0));
}

static int64_t number(const struct json *doc, const char *key)
{
    int64_t n = -1;
    return json_i64(json_get(doc, key), &n) ? n : -1;
}

static const char *broken_promise(const struct oci *oci, const struct json *doc)
{
    if (number(doc, "pid") != 1 || number(doc, "uid") != (oci->on ? 0 : 1000))
        return "it has no process namespace of its own";
    if (number(doc, "seccomp") != 2)
        return "no seccomp filter is in force";
    int64_t may = oci->on ? (int64_t)oci_capabilities(oci) : 0;
    if ((number(doc, "capabilities") & ~may) || number(doc, "no_new_privs") != 1)
        return "it could gain privileges";
    if (oci->on && !json_is_true(json_get(doc, "own_ids")))
        return "its root is the host's";
    if (json_is_true(json_get(doc, "can_unshare")))
        return "it can make user namespaces";
    if (!oci->on && json_is_true(json_get(doc, "can_write_system")))
        return "it can write to the system's directories";
    if (!json_is_true(json_get(doc, "runs_bash")))
        return "bash cannot be run in it";
    return NULL;
}

static void set_reason(struct sandbox_tier *t, const char *text)
{
    (void)str_copyz(t->reason, sizeof t->reason, str_utf8_take(str_z(text), sizeof t->reason - 1));
}

static void judge(struct probe *p, int status)
{
    struct sandbox_tier *t = &p->s->tier;
    char text[PROBE_OUTPUT];
    struct str said = read_back(p->errors, text, sizeof text);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        struct str line = said;
        line = oci_said(str_split(&line, '\n'));
        snprintf(t->reason, sizeof t->reason, "a sandbox cannot be started: " STR_FMT "%s",
                 STR_ARG(line.len ? str_take(line, 160) : STR("it took too long")),
                 host_remedy(said, &p->facts));
        return;
    }
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    const struct json *doc;
    said = read_back(p->out, text, sizeof text);
    if (json_parse(&a, said, 0, &doc, NULL) != 0) {
        set_reason(t, "the self-test in the sandbox gave no answer");
        return;
    }
    const char *broken = broken_promise(&p->s->host.oci, doc);
    if (broken) {
        snprintf(t->reason, sizeof t->reason, "a sandbox starts, but %s", broken);
        return;
    }
    t->ok = true;
    t->name = p->s->host.oci.on ? p->s->host.oci.tier
              : p->s->host.root ? "bwrap-root"
              : p->second       ? "bwrap-container"
                                : "bwrap-rootless";
    t->reason[0] = '\0';
    t->seccomp = true;
    t->landlock_abi = (int)number(doc, "landlock_abi");
    t->landlock = t->landlock_abi > 0;
    if (p->second)
        snprintf(t->reason, sizeof t->reason, "sandboxes run as this container's root: %s",
                 p->first);
    else if (p->s->host.cg.kind == CGROUP_NONE)
        set_reason(t, p->s->host.cg.reason);
    else if (!t->landlock && !p->s->host.oci.on)
        set_reason(t,
                   "the kernel has no Landlock (lsm=...,landlock): the mounts alone bound files");
}

/* ---- on the loop ---- */

static void call_back(struct loop_post *post)
{
    struct probed_cb *cb = CONTAINER_OF(post, struct probed_cb, post);
    struct sandboxes *s = cb->s;
    if (cb->ours || !s->closing)
        cb->fn(cb->arg);
    mem_free(cb);
    sandboxes_job_ended(s);
}

static void finished(struct probe *p)
{
    struct sandboxes *s = p->s;
    s->probe = NULL;
    recipe_fini(&p->recipe);
    fd_close(p->out);
    fd_close(p->errors);
    mem_free(p);
    static const char *const limits[] = {"rlimits", "cgroup-v1", "cgroup-v2"};
    s->tier.limits = limits[s->host.cg.kind];
    s->probed = true;
    boxes_probed(s);
    builds_probed(s->builds);
    spares_probed(s->spares);
    struct list *node;
    while ((node = list_pop(&s->on_probed))) {
        struct probed_cb *cb = LIST_ENTRY(node, struct probed_cb, node);
        loop_post(s->loop, &cb->post, call_back);
    }
    sandboxes_job_ended(s);
}

static void one_closed(struct probe *p)
{
    if (--p->open == 0)
        finished(p);
}

static void cleaned(struct loop_work *w)
{
    one_closed(CONTAINER_OF(w, struct probe, work));
}

static void timer_closed(struct loop_timer *t)
{
    one_closed(CONTAINER_OF(t, struct probe, timer));
}

static void child_closed(struct loop_child *c)
{
    one_closed(CONTAINER_OF(c, struct probe, child));
}

static void clean_up(struct probe *p)
{
    p->open = 2 + p->spawned;
    loop_timer_close(&p->timer, timer_closed);
    if (p->spawned)
        loop_child_close(&p->child, child_closed);
    loop_work(p->s->loop, &p->work, clean_work, cleaned);
}

static void prepared(struct loop_work *w);

static void try_second(struct probe *p)
{
    p->err = (struct err){.code = 0};
    loop_work(p->s->loop, &p->work, prepare_work, prepared);
}

static void first_closed(struct loop_child *c)
{
    try_second(CONTAINER_OF(c, struct probe, child));
}

/* A container's root that can become nobody else still has itself; anywhere else root is too much
 * to run sandboxes as, even without a capability. */
static bool falls_back(struct probe *p)
{
    struct host *h = &p->s->host;
    if (p->second || p->cancelled || p->s->tier.ok || !h->root || !p->facts.container || h->oci.on)
        return false;
    struct str why = str_z(p->s->tier.reason), lead = STR("a sandbox cannot be started: ");
    why = str_starts(why, lead) ? str_skip(why, lead.len) : why;
    (void)str_copyz(p->first, sizeof p->first, str_utf8_take(why, sizeof p->first - 1));
    recipe_fini(&p->recipe);
    p->second = true;
    h->root = false;
    return true;
}

static void on_exit_of_probe(struct loop_child *c, int status)
{
    struct probe *p = CONTAINER_OF(c, struct probe, child);
    loop_timer_stop(&p->timer);
    judge(p, status);
    if (!falls_back(p)) {
        clean_up(p);
        return;
    }
    p->spawned = false;
    loop_child_close(c, first_closed);
}

static void on_timeout(struct loop_timer *t)
{
    struct probe *p = CONTAINER_OF(t, struct probe, timer);
    (void)loop_child_kill(&p->child, SIGKILL);
}

static void prepared(struct loop_work *w)
{
    struct probe *p = CONTAINER_OF(w, struct probe, work);
    struct sandbox_tier *t = &p->s->tier;
    t->container = p->facts.container;
    if (p->err.code || p->cancelled) {
        char text[sizeof t->reason];
        struct str said = str_z(p->cancelled ? "closed" : p->err.msg);
        snprintf(text, sizeof text, STR_FMT "%s", STR_ARG(said), host_remedy(said, &p->facts));
        set_reason(t, str_find(said, STR("; ")) < 0 ? text : p->err.msg);
        if (p->err.code && falls_back(p))
            try_second(p);
        else
            clean_up(p);
        return;
    }
    if (p->s->host.unsafe) {
        t->ok = true;
        t->name = "none-unsafe";
        set_reason(t, "tools run without a sandbox, with the server's rights; start without "
                      "--unsafe-no-sandbox");
        clean_up(p);
        return;
    }
    AUTO_FD int filter = host_seccomp(&p->s->host);
    int fds[START_FD_INFO] = {-1, p->out, p->errors, -1, p->recipe.args, filter};
    struct loop_spawn how = {
        .file = p->recipe.argv[0], .argv = p->recipe.argv, .fds = fds, .nfds = COUNT_OF(fds)};
    int rc = loop_spawn(p->s->loop, &p->child, &how, on_exit_of_probe, &p->err);
    if (rc) {
        set_reason(t, p->err.msg);
        clean_up(p);
        return;
    }
    p->spawned = true;
    loop_timer_start(&p->timer, PROBE_MS, on_timeout);
}

void probe_start(struct sandboxes *s)
{
    struct probe *p = mem_zalloc(sizeof *p);
    p->s = s;
    p->out = p->errors = -1;
    p->recipe.args = -1;
    arena_init(&p->recipe.arena, 1);
    snprintf(p->name, sizeof p->name, ".probe-%d", (int)getpid());
    s->probe = p;
    s->tier = (struct sandbox_tier){.name = "none", .limits = "rlimits"};
    loop_timer_init(s->loop, &p->timer);
    sandboxes_job_began(s);
    loop_work(s->loop, &p->work, prepare_work, prepared);
}

void probe_cancel(struct sandboxes *s)
{
    if (!s->probe)
        return;
    s->probe->cancelled = true;
    if (s->probe->spawned)
        (void)loop_child_kill(&s->probe->child, SIGKILL);
}

static void when_probed(struct sandboxes *s, bool ours, void (*fn)(void *arg), void *arg)
{
    struct probed_cb *cb = mem_zalloc(sizeof *cb);
    cb->s = s;
    cb->ours = ours;
    cb->fn = fn;
    cb->arg = arg;
    sandboxes_job_began(s);
    if (s->probed)
        loop_post(s->loop, &cb->post, call_back);
    else
        list_push(&s->on_probed, &cb->node);
}

void sandboxes_on_probed(struct sandboxes *s, void (*fn)(void *arg), void *arg)
{
    when_probed(s, false, fn, arg);
}

void probe_wait(struct sandboxes *s, void (*fn)(void *arg), void *arg)
{
    when_probed(s, true, fn, arg);
}
