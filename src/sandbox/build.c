/* Which builds there are, who waits for them, which layers may go. */
#include "sandbox/build_impl.h"
#include "sandbox/oci_image.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { CONFIG_ARENA = 64 << 20 };

/* ---- the store ---- */

struct build_save {
    struct store_job job;
    struct builds *b;
    struct build *build;
    struct build_row row;
    char content[CONTENT_HEX + 1];
    char tail[BUILD_TAIL + 1];
};

static void save(struct builds *b, struct build *build);

static int save_step(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct build_save *s = CONTAINER_OF(job, struct build_save, job);
    return tx_build_put(tx, &s->row, err);
}

static void saved(struct store_job *job, const struct err *err)
{
    struct build_save *s = CONTAINER_OF(job, struct build_save, job);
    struct builds *b = s->b;
    if (err->code && !b->closing)
        log_err(LOG_WARN, "the state of a build could not be stored", err);
    s->build->saving = false;
    if (s->build->dirty && !b->closing)
        save(b, s->build);
    mem_free(s);
    sandboxes_job_ended(b->s);
}

static void save(struct builds *b, struct build *build)
{
    if (!b->store.self)
        return;
    build->dirty = build->saving;
    if (build->saving)
        return;
    struct build_save *s = mem_zalloc(sizeof *s);
    build->saving = true;
    s->b = b;
    s->build = build;
    s->job.fn = save_step;
    s->job.done = saved;
    memcpy(s->content, build->content, sizeof s->content);
    memcpy(s->tail, build->tail, sizeof s->tail);
    bool over = build->state == BUILD_READY || build->state == BUILD_FAILED;
    s->row = (struct build_row){.content = str_z(s->content),
                                .state = build->state,
                                .log_tail = str_z(s->tail),
                                .started_us = build->started_us,
                                .built_us = over ? build->ended_us : 0};
    sandboxes_job_began(b->s);
    b->store.write(b->store.self, &s->job);
}

/* ---- states ---- */

static void tell_waiters(struct build *build)
{
    struct list *n;
    while ((n = list_pop(&build->waiters))) {
        struct build_waiter *w = LIST_ENTRY(n, struct build_waiter, node);
        w->fn(w);
    }
}

void build_moved(struct builds *b, struct build *build, enum build_state state)
{
    build->state = state;
    if (state == BUILD_BUILDING) {
        build->started_us = clock_unix_us();
        build->tail[0] = '\0';
    } else {
        build->ended_us = clock_unix_us();
        build->failed_ms = loop_now_ms(b->s->loop);
    }
    save(b, build);
    if (state != BUILD_BUILDING && !b->closing)
        tell_waiters(build);
}

void build_told(struct builds *b, struct build *build)
{
    save(b, build);
}

/* ---- the queue ---- */

static void look_at_queue(struct builds *b)
{
    if (b->closing || b->run || !b->s->probed || list_empty(&b->queue))
        return;
    struct build *build = LIST_ENTRY(list_pop(&b->queue), struct build, queued);
    build_run_start(b, build);
}

static void kicked(struct loop_post *post)
{
    struct builds *b = CONTAINER_OF(post, struct builds, post);
    struct sandboxes *s = b->s;
    b->posted = false;
    look_at_queue(b);
    sandboxes_job_ended(s);
}

void builds_kick(struct builds *b)
{
    if (b->posted || b->closing)
        return;
    b->posted = true;
    sandboxes_job_began(b->s);
    loop_post(b->s->loop, &b->post, kicked);
}

static struct build *build_new(struct builds *b, const char *content, struct str config,
                               const struct json *image)
{
    struct str path = json_get_str(image, "path");
    struct build *build = mem_zalloc(sizeof *build);
    list_init(&build->queued);
    list_init(&build->waiters);
    memcpy(build->content, content, sizeof build->content);
    build->config = mem_dupz(config.ptr, config.len);
    if (str_eqz(json_get_str(image, "type"), "oci_layout"))
        (void)str_copyz(build->layout, sizeof build->layout, path);
    else
        (void)str_copyz(build->base, sizeof build->base, path);
    map_put(&b->by_content, str_z(build->content), build);
    return build;
}

static void enqueue(struct builds *b, struct build *build)
{
    build->state = BUILD_PENDING;
    if (list_empty(&build->queued))
        list_push(&b->queue, &build->queued);
    builds_kick(b);
}

/* The config of an environment object, or the config itself. */
static const struct json *config_of(struct arena *a, struct str text)
{
    const struct json *doc;
    struct str kept = arena_str(a, text);
    if (!kept.len || json_parse(a, kept, JSON_ALLOW_DUPLICATES, &doc, NULL) != 0)
        return NULL;
    return json_get(doc, "config") ? json_get(doc, "config") : doc;
}

/* NULL: there is nothing to build. `fresh`: it was not known. */
static struct build *find(struct builds *b, struct str environment, bool *fresh)
{
    AUTO_ARENA struct arena a;
    char content[CONTENT_HEX + 1];
    arena_init(&a, CONFIG_ARENA);
    *fresh = false;
    const struct json *config = config_of(&a, environment);
    if (!config || !layer_content(config, str_z(b->base_id), content))
        return NULL;
    struct build *build = map_get(&b->by_content, str_z(content));
    *fresh = !build;
    if (!build)
        build = build_new(b, content, config->raw, json_get(config, "image"));
    return build;
}

static bool is_worth_another_try(const struct builds *b, const struct build *build)
{
    return build->state == BUILD_FAILED &&
           loop_now_ms(b->s->loop) - build->failed_ms > BUILD_RETRY_MS;
}

enum layer_state builds_layer(struct builds *b, struct str environment, struct build_waiter *w,
                              struct layer *out, struct buf *why)
{
    bool fresh;
    struct build *build = find(b, environment, &fresh);
    *out = (struct layer){.merge = b->merge};
    if (!build)
        return LAYER_NONE;
    if (b->s->host.unsafe) {
        buf_z(why, "packages, setup and images need a sandbox, which --unsafe-no-sandbox has not");
        return LAYER_FAILED;
    }
    if (fresh || is_worth_another_try(b, build))
        enqueue(b, build);
    switch (build->state) {
    case BUILD_READY:
        memcpy(out->content, build->content, sizeof out->content);
        memcpy(out->base, build->base, sizeof out->base);
        snprintf(out->dir, sizeof out->dir, "%s/%s", b->dir, build->content);
        if (build->layout[0])
            snprintf(out->base, sizeof out->base, "%s/%s/image", b->dir, build->content);
        return LAYER_READY;
    case BUILD_FAILED:
        buf_printf(why, "the environment could not be built. The end of its log:\n%s", build->tail);
        return LAYER_FAILED;
    case BUILD_PENDING:
    case BUILD_BUILDING: break;
    }
    list_remove(&w->node);
    list_push(&build->waiters, &w->node);
    return LAYER_WAIT;
}

/* By name; where links lead is looked at by the build. */
int sandboxes_check_image(const struct sandboxes *s, struct str path, struct err *err)
{
    struct str root = str_z(s->builds->images);
    if (!root.len)
        return err_set(err, ERR_INVALID,
                       "This server has no images; its configuration's sandbox.images names the "
                       "directory that they are below");
    if (!str_starts(path, root) || path.len <= root.len + 1 || path.ptr[root.len] != '/')
        return err_set(err, ERR_INVALID, "Images of this server are below %s", s->builds->images);
    return 0;
}

void builds_forget(struct builds *b, const char *content)
{
    struct build *build = map_get(&b->by_content, str_z(content));
    if (build && build->state == BUILD_READY)
        enqueue(b, build);
}

void sandboxes_build(struct sandboxes *s, struct str environment)
{
    bool fresh;
    struct build *build = s->closing ? NULL : find(s->builds, environment, &fresh);
    if (!build || s->host.unsafe)
        return;
    if (fresh || build->state == BUILD_FAILED || build->state == BUILD_READY)
        enqueue(s->builds, build); /* a ready one is looked for, not built again */
}

/* ---- sweeping ---- */

struct build_sweep {
    struct store_job job;
    struct loop_work work;
    struct builds *b;
    struct arena arena;
    struct str *bodies;
    size_t nbodies;
    bool *unfinished; /* of each: its build was wanted or under way */
    char (*kept)[CONTENT_HEX + 1];
    size_t nkept;
    char gone[64][CONTENT_HEX + 1];
    size_t ngone;
};

static int sweep_step(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct build_sweep *w = CONTAINER_OF(job, struct build_sweep, job);
    arena_fini(&w->arena);
    arena_init(&w->arena, (size_t)1 << 30);
    int rc = tx_environment_bodies(tx, &w->arena, &w->bodies, &w->nbodies, err);
    w->unfinished = rc || w->b->resumed ? NULL : ARENA_ARRAY(&w->arena, bool, w->nbodies + 1);
    for (size_t i = 0; rc == 0 && w->unfinished && i < w->nbodies; i++) {
        AUTO_ARENA struct arena a;
        arena_init(&a, CONFIG_ARENA);
        char content[CONTENT_HEX + 1];
        struct build_row row;
        const struct json *config = config_of(&a, w->bodies[i]);
        if (!config || !layer_content(config, str_z(w->b->base_id), content))
            continue;
        rc = tx_build_get(tx, str_z(content), &a, &row, err);
        w->unfinished[i] = rc == 0 && row.state != BUILD_READY && row.state != BUILD_FAILED;
        rc = rc == ERR_NOT_FOUND ? 0 : rc;
    }
    return rc;
}

static bool is_kept(const struct build_sweep *w, const char *content)
{
    for (size_t i = 0; i < w->nkept; i++)
        if (str_eqz(str_z(w->kept[i]), content))
            return true;
    return false;
}

/* A hand that may be alive has the layer mounted: removing it would empty what it sees. */
static bool in_use(const struct build_sweep *w, const char *content)
{
    const struct host *h = &w->b->s->host;
    DIR *d = opendir(h->dir);
    struct dirent *e;
    bool used = false;
    while (d && !used && (e = readdir(d))) {
        char path[PATH_MAX];
        struct sandbox_record r;
        snprintf(path, sizeof path, "%s/%s/sandbox.json", h->dir, e->d_name);
        used = e->d_name[0] != '.' && record_read(path, &r) && str_eqz(str_z(r.layer), content) &&
               str_eqz(str_z(r.boot_id), h->boot_id) &&
               (!r.pid || process_start_time(r.pid) == r.start_time);
    }
    if (d)
        closedir(d);
    return used;
}

static bool is_old(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && st.st_mtime + BUILD_KEEP_S < clock_unix_us() / 1000000;
}

static void remove_layer(struct build_sweep *w, const char *name)
{
    char path[PATH_MAX], away[PATH_MAX];
    struct err err;
    snprintf(path, sizeof path, "%s/%s", w->b->dir, name);
    snprintf(away, sizeof away, "%s/.gone-%s", w->b->dir, name);
    if (rename(path, away) == 0 && tree_remove(away, &err) == 0)
        memcpy(w->gone[w->ngone++], name, sizeof w->gone[0]);
}

static void sweep_work(struct loop_work *work)
{
    struct build_sweep *w = CONTAINER_OF(work, struct build_sweep, work);
    struct builds *b = w->b;
    w->kept = mem_alloc((w->nbodies + 1) * sizeof *w->kept);
    for (size_t i = 0; i < w->nbodies; i++) {
        AUTO_ARENA struct arena a;
        arena_init(&a, CONFIG_ARENA);
        const struct json *config = config_of(&a, w->bodies[i]);
        if (config && layer_content(config, str_z(b->base_id), w->kept[w->nkept]))
            w->nkept++;
    }
    DIR *d = opendir(b->dir);
    struct dirent *e;
    while (d && w->ngone < COUNT_OF(w->gone) && (e = readdir(d))) {
        char path[PATH_MAX];
        struct err err;
        snprintf(path, sizeof path, "%s/%s", b->dir, e->d_name);
        if (str_starts(str_z(e->d_name), STR(".gone-")))
            (void)tree_remove(path, &err);
        if (strlen(e->d_name) == CONTENT_HEX && !is_kept(w, e->d_name) && is_old(path) &&
            !in_use(w, e->d_name))
            remove_layer(w, e->d_name);
    }
    if (d)
        closedir(d);
    char images[PATH_MAX];
    snprintf(images, sizeof images, "%s/.images", b->dir);
    oci_image_sweep(images, b->dir, BUILD_KEEP_S);
}

static int forget_step(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct build_sweep *w = CONTAINER_OF(job, struct build_sweep, job);
    int rc = 0;
    for (size_t i = 0; i < w->ngone && rc == 0; i++)
        rc = tx_build_delete(tx, str_z(w->gone[i]), err);
    return rc;
}

static void sweep_free(struct build_sweep *w)
{
    struct sandboxes *s = w->b->s;
    arena_fini(&w->arena);
    mem_free(w->kept);
    mem_free(w);
    sandboxes_job_ended(s);
}

static void forgotten(struct store_job *job, const struct err *err)
{
    (void)err; /* a row too many says that there was a build */
    sweep_free(CONTAINER_OF(job, struct build_sweep, job));
}

static void swept(struct loop_work *work)
{
    struct build_sweep *w = CONTAINER_OF(work, struct build_sweep, work);
    struct builds *b = w->b;
    for (size_t i = 0; i < w->ngone; i++) {
        struct build *build = map_get(&b->by_content, str_z(w->gone[i]));
        log_line(LOG_INFO, "removed what no environment needs any more", "content", w->gone[i],
                 NULL);
        if (build && build->state == BUILD_READY && !build->saving) {
            map_remove(&b->by_content, str_z(build->content));
            mem_free(build->config);
            mem_free(build);
        }
    }
    if (!w->ngone || b->closing) {
        sweep_free(w);
        return;
    }
    w->job.fn = forget_step;
    w->job.done = forgotten;
    b->store.write(b->store.self, &w->job);
}

static void listed(struct store_job *job, const struct err *err)
{
    struct build_sweep *w = CONTAINER_OF(job, struct build_sweep, job);
    if (err->code || w->b->closing) {
        sweep_free(w);
        return;
    }
    for (size_t i = 0; w->unfinished && i < w->nbodies; i++)
        if (w->unfinished[i])
            sandboxes_build(w->b->s, w->bodies[i]);
    w->b->resumed = true;
    loop_work(w->b->s->loop, &w->work, sweep_work, swept);
}

static void on_sweep(struct loop_timer *t)
{
    struct builds *b = CONTAINER_OF(t, struct builds, sweep_timer);
    if (b->closing || !b->store.self)
        return;
    struct build_sweep *w = mem_zalloc(sizeof *w);
    w->b = b;
    w->job.fn = sweep_step;
    w->job.done = listed;
    sandboxes_job_began(b->s);
    b->store.read(b->store.self, &w->job);
    loop_timer_start(t, BUILD_SWEEP_MS, on_sweep);
}

/* ---- life ---- */

struct builds *builds_new(struct sandboxes *s, const struct sandbox_config *cfg)
{
    struct builds *b = mem_zalloc(sizeof *b);
    b->s = s;
    b->store = cfg->store;
    /* DATA/environments, beside DATA/sandboxes */
    (void)str_copyz(b->dir, sizeof b->dir, str_z(s->host.dir));
    char *slash = strrchr(b->dir, '/');
    size_t at = slash ? (size_t)(slash - b->dir) : 0;
    snprintf(b->dir + at, sizeof b->dir - at, "/environments");
    if (cfg->images)
        (void)str_copyz(b->images, sizeof b->images, str_z(cfg->images));
    layer_base_id("", b->base_id);
    list_init(&b->queue);
    loop_timer_init(s->loop, &b->sweep_timer);
    b->timer_open = true;
    return b;
}

struct str builds_base_id(const struct builds *b)
{
    return str_z(b->base_id);
}

void builds_probed(struct builds *b)
{
    builds_kick(b);
    loop_timer_start(&b->sweep_timer, 0, on_sweep);
}

static void timer_closed(struct loop_timer *t)
{
    struct builds *b = CONTAINER_OF(t, struct builds, sweep_timer);
    sandboxes_job_ended(b->s);
}

void builds_close(struct builds *b)
{
    b->closing = true;
    build_run_cancel(b);
    sandboxes_job_began(b->s);
    loop_timer_close(&b->sweep_timer, timer_closed);
}

void builds_free(struct builds *b)
{
    size_t at = 0;
    for (struct build *build; (build = map_next(&b->by_content, &at, NULL));) {
        mem_free(build->config);
        mem_free(build);
    }
    map_fini(&b->by_content);
    mem_free(b);
}
