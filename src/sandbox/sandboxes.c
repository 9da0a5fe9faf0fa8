/* Opening and closing the module, and the port that the engine sees. */
#include "sandbox/box.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "sandbox/build.h"
#include "sandbox/copy.h"
#include "sandbox/harvest.h"
#include "sandbox/restore.h"
#include "sandbox/spare.h"
#include "sandbox/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- open ---- */

static int64_t or_default(int64_t n, int64_t fallback)
{
    return n > 0 ? n : fallback;
}

static void fill_limits(struct sandbox_limits *to, const struct sandbox_limits *from)
{
    to->pids = or_default(from->pids, LIMIT_SANDBOX_PIDS);
    to->memory_mb = or_default(from->memory_mb, LIMIT_SANDBOX_MEMORY_MB);
    to->cpus = or_default(from->cpus, LIMIT_SANDBOX_CPUS);
    to->file_mb = or_default(from->file_mb, LIMIT_SANDBOX_FILE_MB);
    to->disk_mb = or_default(from->disk_mb, LIMIT_SANDBOX_DISK_MB);
    to->wall_seconds = or_default(from->wall_seconds, 0);
}

/* Beside the executable in a build tree; below libexec when installed. */
static int find_hand(const char *given, char out[PATH_MAX], struct err *err)
{
    static const char *const places[] = {"hand", "../libexec/ostler/hand"};
    char self[PATH_MAX];
    ssize_t n = given ? 0 : readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return err_sys(err, errno, "/proc/self/exe");
    self[n] = '\0';
    const char *dir = dirname(self);
    int len = given ? snprintf(out, PATH_MAX, "%s", given) : 0;
    for (size_t i = COUNT_OF(places); !given && i-- > 0;) {
        len = snprintf(out, PATH_MAX, "%s/%s", dir, places[i]);
        if (len < PATH_MAX && access(out, X_OK) == 0)
            break;
    }
    return len < PATH_MAX ? 0 : err_set(err, ERR_INVALID, "the path of the hand is too long");
}

/* Paths go to programs that run elsewhere: absolute ones. */
static int absolute(const char *path, char *out, size_t cap, struct err *err)
{
    char here[PATH_MAX];
    if (path[0] != '/' && !getcwd(here, sizeof here))
        return err_sys(err, errno, "the working directory");
    int n =
        path[0] == '/' ? snprintf(out, cap, "%s", path) : snprintf(out, cap, "%s/%s", here, path);
    return n >= 0 && (size_t)n < cap
               ? 0
               : err_set(err, ERR_INVALID, "the data directory's path is too long");
}

static int fill_data(struct host *h, const struct sandbox_config *cfg, struct err *err)
{
    int rc = absolute(cfg->data, h->data, sizeof h->data, err);
    if (rc == 0)
        rc = blobs_open(&h->blobs, h->data, err);
    h->allow = mem_zalloc((cfg->nallow_addresses + 1) * sizeof *h->allow);
    for (size_t i = 0; i < cfg->nallow_addresses && rc == 0; i++) {
        rc = ip_range_parse(str_z(cfg->allow_addresses[i]), &h->allow[i], err);
        h->nallow += rc == 0;
    }
    return rc;
}

static void host_fini(struct host *h)
{
    if (h->blobs.dir >= 0)
        blobs_close(&h->blobs);
    cgroups_close(&h->cg);
    mem_free(h->allow);
}

static int fill_host(struct host *h, const struct sandbox_config *cfg, struct err *err)
{
    char hand[PATH_MAX];
    h->seccomp = h->blobs.dir = -1;
    h->root = geteuid() == 0;
    h->unsafe = cfg->unsafe;
    h->no_cgroups = cfg->no_cgroups;
    h->network = cfg->egress && !cfg->unsafe;
    h->grace_ms = or_default(cfg->grace_ms, LIMIT_HAND_GRACE_MS);
    h->mirrors_mb = or_default(cfg->mirrors_mb, LIMIT_MIRRORS_MB);
    fill_limits(&h->limits, &cfg->limits);
    int rc = oci_configure(&h->oci, cfg->oci, err);
    if (rc == 0)
        rc = absolute(cfg->dir, h->dir, sizeof h->dir, err);
    if (rc == 0)
        rc = find_hand(cfg->hand, hand, err);
    if (rc == 0)
        rc = absolute(hand, h->hand, sizeof h->hand, err);
    if (rc == 0 && cfg->data)
        rc = fill_data(h, cfg, err);
    if (rc == 0 && cfg->run_dir)
        rc = absolute(cfg->run_dir, h->run_dir, sizeof h->run_dir, err);
    return rc;
}

int sandboxes_open(struct loop *l, const struct sandbox_config *cfg, struct sandboxes **out,
                   struct err *err)
{
    struct sandboxes *s = mem_zalloc(sizeof *s);
    s->loop = l;
    s->opened_us = clock_unix_us();
    s->store = cfg->store;
    s->keep = cfg->checkpoints;
    s->keep.max_files = or_default(s->keep.max_files, LIMIT_CHECKPOINT_FILES);
    s->keep.max_mb = or_default(s->keep.max_mb, LIMIT_CHECKPOINT_MB);
    list_init(&s->on_probed);
    list_init(&s->boxes);
    list_init(&s->files);
    list_init(&s->harvests);
    list_init(&s->restores);
    list_init(&s->copies);
    int rc = fill_host(&s->host, cfg, err);
    if (rc == 0)
        rc = net_init(&s->net, cfg, err);
    if (rc) {
        host_fini(&s->host);
        mem_free(s);
        return rc;
    }
    s->builds = builds_new(s, cfg);
    s->spares = spares_new(s, s->host.oci.on ? 0 : cfg->warm);
    *out = s;
    probe_start(s);
    harvest_sweep(s);
    return 0;
}

const struct sandbox_tier *sandboxes_tier(const struct sandboxes *s)
{
    return s->probed ? &s->tier : NULL;
}

const char *sandboxes_tier_name(const struct sandboxes *s)
{
    return s->probed ? s->tier.name : "probing";
}

bool sandboxes_has_layouts(const struct sandboxes *s)
{
    return s->host.oci.on;
}

struct str sandboxes_base_id(const struct sandboxes *s)
{
    return builds_base_id(s->builds);
}

struct sandboxes_stats sandboxes_stats(const struct sandboxes *s)
{
    struct sandboxes_stats stats = s->stats;
    stats.spares = (int64_t)spares_ready(s->spares);
    list_for_each (it, &s->boxes) {
        const struct box *b = LIST_ENTRY(it, struct box, node);
        stats.up += !b->spare && sm_state(&b->sm) == BOX_UP;
    }
    return stats;
}

void sandboxes_on_notice(struct sandboxes *s,
                         void (*fn)(void *arg, struct str session_id,
                                    const struct sandbox_notice *notice),
                         void *arg)
{
    s->on_notice = fn;
    s->notice_arg = arg;
}

/* ---- close ---- */

void sandboxes_job_began(struct sandboxes *s)
{
    s->pending++;
}

void sandboxes_job_ended(struct sandboxes *s)
{
    if (--s->pending || !s->closing)
        return;
    void (*closed)(void *) = s->closed;
    void *arg = s->closed_arg;
    map_fini(&s->by_session);
    builds_free(s->builds);
    spares_free(s->spares);
    fd_close(s->host.seccomp);
    host_fini(&s->host);
    mem_free(s);
    if (closed)
        closed(arg);
}

struct closing {
    struct loop_post post;
    struct sandboxes *s;
};

static void net_closed(void *arg)
{
    sandboxes_job_ended(arg);
}

static void close_posted(struct loop_post *post)
{
    struct closing *c = CONTAINER_OF(post, struct closing, post);
    struct sandboxes *s = c->s;
    mem_free(c);
    sandboxes_job_ended(s);
}

void sandboxes_close(struct sandboxes *s, void (*closed)(void *arg), void *arg)
{
    s->closing = true;
    s->closed = closed;
    s->closed_arg = arg;
    probe_cancel(s);
    files_close(s);
    builds_close(s->builds);
    spares_close(s->spares);
    copies_close(s);
    list_for_each_safe (it, &s->boxes)
        box_close(LIST_ENTRY(it, struct box, node));
    /* Never inside this call, even when there is nothing to wait for. */
    struct closing *c = mem_zalloc(sizeof *c);
    c->s = s;
    sandboxes_job_began(s);
    loop_post(s->loop, &c->post, close_posted);
    sandboxes_job_began(s);
    net_close(&s->net, net_closed, s);
}

/* ---- the port ---- */

static void port_run(void *self, const struct tool_call *call,
                     void (*done)(void *arg, const struct tool_outcome *outcome), void *arg)
{
    struct sandboxes *s = self;
    if (!s->closing) /* nobody waits for an answer any more */
        box_run(box_get(s, call->session_id), call, done, arg);
}

static void port_ack(void *self, struct str session_id, struct str tool_use_id)
{
    struct box *b = box_find(self, session_id);
    if (b)
        box_ack(b, tool_use_id);
}

static void port_cancel(void *self, struct str session_id, struct str tool_use_id)
{
    struct box *b = box_find(self, session_id);
    if (b)
        box_cancel(b, tool_use_id);
}

static void port_checkpoint(void *self, struct str session_id, int64_t seq, bool turn_end)
{
    struct sandboxes *s = self;
    if (!s->closing && restore_possible(s))
        box_checkpoint(s, session_id, seq, turn_end, NULL, NULL);
}

static void port_copy(void *self, struct str session_id, struct str copy_id, bool read_only,
                      void (*done)(void *arg, const struct err *err), void *arg)
{
    struct sandboxes *s = self;
    if (!s->closing)
        copy_start(s, session_id, copy_id, read_only, done, arg);
}

static void port_idle(void *self, struct str session_id)
{
    struct sandboxes *s = self;
    struct box *b = box_find(s, session_id);
    if (b)
        box_idle(b);
    if (!s->closing)
        harvest_start(s, session_id);
}

static void port_destroy(void *self, struct str session_id, bool wipe)
{
    struct sandboxes *s = self;
    if (!s->closing)
        box_destroy(box_get(s, session_id), wipe);
}

struct sandbox_port sandboxes_port(struct sandboxes *s)
{
    return (struct sandbox_port){.self = s,
                                 .run = port_run,
                                 .ack = port_ack,
                                 .cancel = port_cancel,
                                 .checkpoint = port_checkpoint,
                                 .copy = port_copy,
                                 .idle = port_idle,
                                 .destroy = port_destroy};
}

/* ---- sweep ---- */

struct sweep {
    struct loop_work work;
    struct sandboxes *s;
    struct id *keep;
    size_t nkeep;
    struct id *gone;
    size_t ngone;
};

static bool is_kept(const struct sweep *w, const char *name)
{
    for (size_t i = 0; i < w->nkeep; i++)
        if (str_eq(id_str(&w->keep[i]), str_z(name)))
            return true;
    return false;
}

static void sweep_work(struct loop_work *work)
{
    struct sweep *w = CONTAINER_OF(work, struct sweep, work);
    restore_sweep(&w->s->host);
    DIR *d = opendir(w->s->host.dir);
    struct dirent *e;
    size_t cap = 0;
    while (d && (e = readdir(d))) {
        struct stat st;
        if (e->d_name[0] == '.' || strlen(e->d_name) >= ID_MAX || is_kept(w, e->d_name))
            continue;
        /* One that came after the list was made belongs to a session that is not in it. */
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            (int64_t)st.st_ctim.tv_sec * 1000000 + st.st_ctim.tv_nsec / 1000 >= w->s->opened_us ||
            copy_is_locked(dirfd(d), e->d_name))
            continue;
        if (w->ngone == cap) {
            cap = cap ? cap * 2 : 64;
            w->gone = mem_realloc(w->gone, cap * sizeof *w->gone);
        }
        w->gone[w->ngone++] = id_from(str_z(e->d_name));
    }
    if (d)
        closedir(d);
}

static void swept(struct loop_work *work)
{
    struct sweep *w = CONTAINER_OF(work, struct sweep, work);
    struct sandboxes *s = w->s;
    for (size_t i = 0; i < w->ngone && !s->closing; i++) {
        if (box_find(s, id_str(&w->gone[i])))
            continue;
        log_line(LOG_INFO, "removing what a deleted session left", "session", w->gone[i].z, NULL);
        box_destroy(box_get(s, id_str(&w->gone[i])), true);
    }
    mem_free(w->keep);
    mem_free(w->gone);
    mem_free(w);
    sandboxes_job_ended(s);
}

void sandboxes_sweep(struct sandboxes *s, const struct id *sessions, size_t n)
{
    struct sweep *w = mem_zalloc(sizeof *w);
    w->s = s;
    w->nkeep = n;
    w->keep = mem_alloc((n + 1) * sizeof *w->keep);
    if (n)
        memcpy(w->keep, sessions, n * sizeof *w->keep);
    sandboxes_job_began(s);
    loop_work(s->loop, &w->work, sweep_work, swept);
}
