#include "sandbox/spare.h"

#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/rand.h"
#include "json/json.h"
#include "sandbox/box.h"
#include "sandbox/orphans.h"
#include "sandbox/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAUSE_MS = 20, RETRY_MS = 30 * 1000 };

struct blank {
    struct list node; /* in spares.blanks */
    struct loop_work work;
    struct spares *sp;
    struct id name;
    int listen;
    struct err err;
};

/* An environment that sessions had lately, as far as it shows in a sandbox. */
struct recent {
    char key[SPARE_KEY];
    char *environment;
    struct layer layer;
};

struct spares {
    struct sandboxes *s;
    int64_t warm;
    struct loop_timer timer;
    struct loop_work sweep;
    struct list blanks;
    size_t nblanks, nrecent;
    bool making, closed;
    int64_t retry_ms; /* after a failure: not before */
    struct recent recent[SPARE_RECENT];
};

static void kick(struct spares *sp);

/* ---- names ---- */

/* Says whose it is: a server removes what one that is gone has left, and nobody else's. */
static struct id new_name(void)
{
    char name[ID_MAX];
    uint32_t random;
    rand_fill(&random, sizeof random);
    snprintf(name, sizeof name, SPARE_PREFIX "%x-%" PRIx64 "-%08" PRIx32, (unsigned)getpid(),
             (uint64_t)process_start_time(getpid()), random);
    return id_from(str_z(name));
}

static bool is_orphan(const char *name)
{
    char *end;
    if (!str_starts(str_z(name), STR(SPARE_PREFIX)) || strlen(name) >= ID_MAX)
        return false;
    unsigned long pid = strtoul(name + strlen(SPARE_PREFIX), &end, 16);
    if (*end != '-')
        return false;
    unsigned long long start = strtoull(end + 1, &end, 16);
    return *end == '-' && (unsigned long long)process_start_time((int64_t)pid) != start;
}

int spare_rename(const struct session_paths *from, const struct session_paths *to, struct err *err)
{
    if (renameat2(AT_FDCWD, from->dir, AT_FDCWD, to->dir, RENAME_NOREPLACE) == 0)
        return 0;
    return errno == EEXIST ? err_set(err, ERR_EXISTS, "%s is there already", to->dir)
                           : err_sys(err, errno, "%s", to->dir);
}

/* Nothing of it is left. Worker. */
static void remove_spare(const struct host *h, const char *name)
{
    struct session_paths p;
    struct sandbox_record r;
    char path[sizeof h->run_dir + sizeof p.unit + 2];
    session_paths(h, name, &p);
    if (record_read(p.meta, &r) && str_eqz(str_z(r.boot_id), h->boot_id))
        process_kill(r.pid, r.start_time);
    cgroup_remove(&h->cg, p.unit);
    snprintf(path, sizeof path, "%s/%s", h->run_dir, p.unit);
    unlink(path);
    tree_remove(p.dir, NULL);
}

/* ---- blanks ---- */

static void make_work(struct loop_work *w)
{
    struct blank *k = CONTAINER_OF(w, struct blank, work);
    const struct host *h = &k->sp->s->host;
    const struct sandbox_limits *l = &h->limits;
    struct session_paths p;
    char path[sizeof h->run_dir + sizeof p.unit + 2];
    session_paths(h, k->name.z, &p);
    snprintf(path, sizeof path, "%s/%s", h->run_dir, p.unit);
    int rc = session_prepare(&p, &k->err);
    if (rc == 0)
        rc = cgroup_begin(&h->cg, p.unit, &k->err);
    if (rc == 0)
        rc = start_limit(h, p.unit, l, &k->err);
    if (rc == 0 && (k->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        rc = err_sys(&k->err, errno, "socket");
    if (rc == 0)
        rc = start_listen(path, k->listen, &k->err);
    if (rc)
        remove_spare(h, k->name.z);
}

static void blank_free(struct blank *k)
{
    struct sandboxes *s = k->sp->s;
    fd_close(k->listen);
    mem_free(k);
    sandboxes_job_ended(s);
}

static void removed(struct loop_work *w)
{
    blank_free(CONTAINER_OF(w, struct blank, work));
}

static void remove_work(struct loop_work *w)
{
    struct blank *k = CONTAINER_OF(w, struct blank, work);
    remove_spare(&k->sp->s->host, k->name.z);
}

static void made(struct loop_work *w)
{
    struct blank *k = CONTAINER_OF(w, struct blank, work);
    struct spares *sp = k->sp;
    sp->making = false;
    if (k->err.code) {
        log_err(LOG_WARN, "no directory could be made for sessions to come", &k->err);
        sp->retry_ms = loop_now_ms(sp->s->loop) + RETRY_MS;
        blank_free(k);
    } else if (sp->closed) {
        loop_work(sp->s->loop, &k->work, remove_work, removed);
        return;
    } else {
        list_push(&sp->blanks, &k->node);
        sp->nblanks++;
    }
    kick(sp);
}

static void make_blank(struct spares *sp)
{
    struct blank *k = mem_zalloc(sizeof *k);
    k->sp = sp;
    k->name = new_name();
    k->listen = -1;
    sp->making = true;
    sandboxes_job_began(sp->s);
    loop_work(sp->s->loop, &k->work, make_work, made);
}

bool spares_take_blank(struct spares *sp, struct id *name, int *ret_listen)
{
    struct list *n = list_pop(&sp->blanks);
    kick(sp);
    if (!n)
        return false;
    struct blank *k = LIST_ENTRY(n, struct blank, node);
    sp->nblanks--;
    *name = k->name;
    *ret_listen = TAKE_FD(k->listen);
    blank_free(k);
    return true;
}

/* ---- warm ones ---- */

static void key_of(const struct sandboxes *s, struct str environment, const struct layer *layer,
                   char out[SPARE_KEY])
{
    struct settings settings;
    unsigned char hash[(SPARE_KEY - 1) / 2];
    AUTO_BUF struct buf b = BUF_INIT(16 << 20);
    settings_parse(&settings, &s->host.limits, environment);
    const struct sandbox_limits *l = &settings.limits;
    buf_printf(&b, "%s %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 "\n",
               layer->content, l->pids, l->memory_mb, l->cpus, l->file_mb, l->disk_mb,
               l->wall_seconds);
    for (size_t i = 0; settings.variables[i]; i++)
        buf_put(&b, settings.variables[i], strlen(settings.variables[i]) + 1);
    out[0] = '\0'; /* no key: fits nothing */
    if (buf_ok(&b) &&
        crypto_generichash(hash, sizeof hash, (const unsigned char *)b.data, b.len, NULL, 0) == 0)
        sodium_bin2hex(out, SPARE_KEY, hash, sizeof hash);
    settings_fini(&settings);
}

static void note_recent(struct spares *sp, const char *key, const char *environment,
                        const struct layer *layer)
{
    size_t i = 0;
    struct recent r;
    while (i < sp->nrecent && strcmp(sp->recent[i].key, key) != 0)
        i++;
    if (i < sp->nrecent) {
        r = sp->recent[i];
    } else {
        r = (struct recent){.environment = mem_dupz(environment, strlen(environment)),
                            .layer = *layer};
        memcpy(r.key, key, sizeof r.key);
        if (sp->nrecent == SPARE_RECENT)
            mem_free(sp->recent[--i].environment);
        else
            sp->nrecent++;
    }
    memmove(sp->recent + 1, sp->recent, i * sizeof r);
    sp->recent[0] = r;
}

static void forget_recent(struct spares *sp, const char *key)
{
    for (size_t i = 0; i < sp->nrecent; i++) {
        if (strcmp(sp->recent[i].key, key) != 0)
            continue;
        mem_free(sp->recent[i].environment);
        memmove(sp->recent + i, sp->recent + i + 1, (--sp->nrecent - i) * sizeof sp->recent[0]);
    }
}

static bool is_warm(const struct box *b)
{
    return sm_state(&b->sm) == BOX_UP && b->conn && !b->taken && !b->spent;
}

size_t spares_ready(const struct spares *sp)
{
    size_t n = 0;
    list_for_each (it, &sp->s->boxes) {
        const struct box *b = LIST_ENTRY(it, struct box, node);
        n += b->spare && is_warm(b);
    }
    return n;
}

static size_t count_of(const struct spares *sp, const char *key)
{
    size_t n = 0;
    list_for_each (it, &sp->s->boxes) {
        const struct box *b = LIST_ENTRY(it, struct box, node);
        n += b->spare && !b->taken && (!key || strcmp(b->key, key) == 0);
    }
    return n;
}

/* How many of the i-th latest environment there should be. */
static size_t share_of(const struct spares *sp, size_t i)
{
    size_t warm = (size_t)sp->warm, kinds = sp->nrecent < warm ? sp->nrecent : warm;
    return i >= kinds ? 0 : warm / kinds + (i < warm % kinds);
}

static size_t share_of_key(const struct spares *sp, const char *key)
{
    for (size_t i = 0; i < sp->nrecent; i++)
        if (strcmp(sp->recent[i].key, key) == 0)
            return share_of(sp, i);
    return 0;
}

/* One that is too many. */
static struct box *surplus(const struct spares *sp)
{
    list_for_each (it, &sp->s->boxes) {
        struct box *b = LIST_ENTRY(it, struct box, node);
        if (b->spare && is_warm(b) && count_of(sp, b->key) > share_of_key(sp, b->key))
            return b;
    }
    return NULL;
}

/* True when something was begun. */
static bool tend_warm(struct spares *sp)
{
    if (sp->warm == 0)
        return false;
    const struct recent *lacking = NULL;
    for (size_t i = 0; i < sp->nrecent && !lacking; i++)
        if (count_of(sp, sp->recent[i].key) < share_of(sp, i))
            lacking = &sp->recent[i];
    struct box *old = lacking ? surplus(sp) : NULL;
    if (!lacking)
        return false;
    if (count_of(sp, NULL) >= (size_t)sp->warm) {
        if (old)
            box_spend(old);
        return old;
    }
    const struct id name = new_name();
    box_spare(sp->s, &name, lacking->key, lacking->environment, &lacking->layer);
    return true;
}

/* ---- when ---- */

/* Something is being started: that goes first, and one spare at a time. */
static bool is_busy(const struct spares *sp)
{
    list_for_each (it, &sp->s->boxes) {
        const struct box *b = LIST_ENTRY(it, struct box, node);
        int state = sm_state(&b->sm);
        if (b->working || state == BOX_PREPARING || state == BOX_STARTING ||
            (b->spare && state != BOX_UP))
            return true;
    }
    return sp->making;
}

static void tend(struct loop_timer *t)
{
    struct spares *sp = CONTAINER_OF(t, struct spares, timer);
    if (sp->closed)
        return;
    int64_t wait_ms = sp->retry_ms - loop_now_ms(sp->s->loop);
    if (wait_ms > 0) {
        loop_timer_start(t, wait_ms, tend);
    } else if (is_busy(sp)) {
        loop_timer_start(t, PAUSE_MS, tend);
    } else if (sp->nblanks < SPARE_BLANKS) {
        make_blank(sp);
    } else if (tend_warm(sp)) {
        loop_timer_start(t, PAUSE_MS, tend);
    }
}

/* Containers of the OCI driver have users and roots of their own. */
static bool works_here(const struct spares *sp)
{
    return !sp->s->host.unsafe && !sp->s->host.oci.on;
}

static void kick(struct spares *sp)
{
    if (!sp->closed && sp->s->probed && sp->s->tier.ok && works_here(sp))
        loop_timer_start(&sp->timer, PAUSE_MS, tend);
}

/* ---- sessions ---- */

/* Skills are mounted at the start; everything else can be put in place afterwards. */
static bool brings_mounts(const struct box *b)
{
    AUTO_ARENA struct arena a;
    const struct json *doc;
    arena_init(&a, LIMIT_JSON_ARENA);
    if (!b->provision)
        return false;
    if (json_parse(&a, str_z(b->provision), JSON_ALLOW_DUPLICATES, &doc, NULL) != 0)
        return true;
    const struct json *skills = json_get(doc, "skills");
    return skills && skills->count > 0;
}

static void adopt_work(struct loop_work *w)
{
    struct box *b = CONTAINER_OF(w, struct box, work);
    struct session_paths from, to;
    session_paths(&b->s->host, b->adopt_name.z, &from);
    session_paths(&b->s->host, b->id.z, &to);
    if (spare_rename(&from, &to, &b->job_err) == 0) /* adopt_done() looks */
        record_hint(&b->s->host, &to, from.unit);
}

static void adopt_done(struct box *b)
{
    struct box *spare = b->adopting;
    b->adopting = NULL;
    b->adopt_tried = true;
    if (spare)
        spare->taken = false;
    if (spare && b->job_err.code == 0 && is_warm(spare)) {
        box_take_over(spare, b);
        spares_used(spare);
        return;
    }
    if (spare && b->job_err.code == 0)
        box_spend(spare); /* its directory is not its own any more */
    box_kick(b);
}

bool spares_adopt(struct box *b)
{
    struct spares *sp = b->s->spares;
    char key[SPARE_KEY];
    if (sp->warm == 0 || sp->closed || !files_are_gone(b) || b->adopt_tried || brings_mounts(b))
        return false;
    bool had = b->files.used;
    list_for_each (it, &b->calls)
        had = had || LIST_ENTRY(it, struct box_call, node)->had;
    if (had)
        return false; /* it has lost what was in it, and must not seem to find it empty */
    key_of(b->s, str_z(b->environment), &b->layer, key);
    list_for_each (it, &b->s->boxes) {
        struct box *spare = LIST_ENTRY(it, struct box, node);
        if (!spare->spare || !is_warm(spare) || !key[0] || strcmp(spare->key, key) != 0)
            continue;
        if (spare->working || !spare->recorded)
            continue;
        spare->taken = true;
        b->adopting = spare;
        b->adopt_name = spare->id;
        box_job(b, adopt_work, adopt_done);
        return true;
    }
    return false;
}

void spares_used(struct box *b)
{
    struct spares *sp = b->s->spares;
    char key[SPARE_KEY];
    if (sp->warm && !sp->closed) {
        key_of(b->s, str_z(b->environment), &b->layer, key);
        note_recent(sp, key, b->environment ? b->environment : "", &b->layer);
    }
    kick(sp);
}

void spares_changed(struct box *b)
{
    struct spares *sp = b->s->spares;
    if (b->start_failed[0]) {
        log_line(LOG_WARN, "no sandbox could be started for sessions to come", "error",
                 b->start_failed, NULL);
        sp->retry_ms = loop_now_ms(b->s->loop) + RETRY_MS;
        forget_recent(sp, b->key); /* its layer may be gone */
    }
    kick(sp);
}

void spares_released(struct box *b)
{
    list_for_each (it, &b->s->boxes) {
        struct box *other = LIST_ENTRY(it, struct box, node);
        if (other->adopting == b)
            other->adopting = NULL;
    }
    kick(b->s->spares);
}

/* ---- life ---- */

struct spares *spares_new(struct sandboxes *s, int64_t warm)
{
    struct spares *sp = mem_zalloc(sizeof *sp);
    sp->s = s;
    sp->warm = warm;
    list_init(&sp->blanks);
    loop_timer_init(s->loop, &sp->timer);
    return sp;
}

static void sweep_work(struct loop_work *w)
{
    struct spares *sp = CONTAINER_OF(w, struct spares, sweep);
    DIR *d = opendir(sp->s->host.dir);
    struct dirent *e;
    orphans_end();
    while (d && (e = readdir(d)))
        if (is_orphan(e->d_name))
            remove_spare(&sp->s->host, e->d_name);
    if (d)
        closedir(d);
}

static void swept(struct loop_work *w)
{
    struct spares *sp = CONTAINER_OF(w, struct spares, sweep);
    struct sandboxes *s = sp->s;
    kick(sp);
    sandboxes_job_ended(s);
}

void spares_probed(struct spares *sp)
{
    static const struct layer plain = {.content = ""};
    char key[SPARE_KEY];
    struct sandboxes *s = sp->s;
    if (!s->tier.ok || !works_here(sp) || sp->closed)
        return;
    key_of(s, STR_NONE, &plain, key);
    note_recent(sp, key, "", &plain);
    sandboxes_job_began(s);
    loop_work(s->loop, &sp->sweep, sweep_work, swept);
}

static void timer_closed(struct loop_timer *t)
{
    sandboxes_job_ended(CONTAINER_OF(t, struct spares, timer)->s);
}

void spares_close(struct spares *sp)
{
    struct list *n;
    sp->closed = true;
    sandboxes_job_began(sp->s);
    loop_timer_close(&sp->timer, timer_closed);
    while ((n = list_pop(&sp->blanks))) {
        struct blank *k = LIST_ENTRY(n, struct blank, node);
        loop_work(sp->s->loop, &k->work, remove_work, removed);
    }
}

void spares_free(struct spares *sp)
{
    for (size_t i = 0; i < sp->nrecent; i++)
        mem_free(sp->recent[i].environment);
    mem_free(sp);
}
