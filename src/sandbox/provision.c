/* The order: files and skills by one job, then the repositories one after the other. */
#include "sandbox/provision.h"

#include "base/fd.h"
#include "base/log.h"
#include "json/json.h"
#include "sandbox/git.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

enum { PROVISION_ARENA = 256 << 20, NOTE_MAX = 64 * 1024 };

struct provision {
    struct sandboxes *s;
    struct id id;
    struct arena arena;
    struct str json;
    bool fresh, cancelled;
    struct loop_work work;
    struct git_repository *repositories;
    size_t n, at;
    struct git_clone *clone;
    struct buf note;
    void (*done)(void *arg, struct str note);
    void *arg;
};

/* ---- on a worker ---- */

static const char *text_of(struct arena *a, const struct json *v, const char *key)
{
    struct str s = json_get_str(v, key);
    return str_some(s) ? arena_strz(a, s) : "";
}

static void read_secret(struct arena *a, struct str text, struct str *out)
{
    size_t len = 0;
    char *bytes = text.len ? arena_bytes(a, text.len) : NULL;
    if (bytes && sodium_base642bin((unsigned char *)bytes, text.len, text.ptr, text.len, NULL, &len,
                                   NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0)
        *out = str_n(bytes, len);
}

/* Those that are not there yet. */
static void list_repositories(struct provision *p, const struct session_paths *paths,
                              const struct json *list)
{
    if (!json_is(list, JSON_ARRAY) || list->count == 0)
        return;
    p->repositories = ARENA_ARRAY(&p->arena, struct git_repository, list->count);
    if (!p->repositories)
        return;
    json_for_each (v, list) {
        struct git_repository *r = &p->repositories[p->n];
        *r = (struct git_repository){
            .id = text_of(&p->arena, v, "id"),
            .workspace = text_of(&p->arena, v, "workspace"),
            .url = text_of(&p->arena, v, "url"),
            .path = text_of(&p->arena, v, "path"),
            .branch = text_of(&p->arena, v, "branch"),
            .commit = text_of(&p->arena, v, "commit"),
        };
        (void)json_i64(json_get(v, "updated"), &r->updated_us);
        read_secret(&p->arena, json_get_str(v, "secret"), &r->secret);
        if (id_valid(str_z(r->id), "sesrsc") && !git_is_settled(paths, r, p->fresh))
            p->n++;
    }
}

static void note_path(const struct session_paths *p, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/repository-skills", p->dir);
}

void provision_forget_note(const struct session_paths *p)
{
    char path[PATH_MAX];
    note_path(p, path);
    unlink(path);
}

static void warn(const struct provision *p, const char *what, const struct err *err)
{
    log_line(LOG_WARN, what, "session", p->id.z, "error", err->msg, NULL);
}

static void prepare_work(struct loop_work *w)
{
    struct provision *p = CONTAINER_OF(w, struct provision, work);
    const struct host *h = &p->s->host;
    struct session_paths paths;
    const struct json *doc;
    struct err err;
    session_paths(h, p->id.z, &paths);
    int rc = session_prepare(&paths, &err);
    rc = rc ? rc : json_parse(&p->arena, p->json, JSON_ALLOW_DUPLICATES, &doc, &err);
    if (rc) {
        warn(p, "a sandbox could not be provisioned", &err);
        return;
    }
    if (provision_uploads(h, &paths, json_get(doc, "files"), &err))
        warn(p, "not all files of a session could be provided", &err);
    if (p->fresh && provision_skills(h, &paths, json_get(doc, "skills"), &err))
        warn(p, "not all skills of a session could be provided", &err);
    list_repositories(p, &paths, json_get(doc, "repositories"));
}

/* What the model is told with the first result: the skills that came with the repositories. */
static void note_work(struct loop_work *w)
{
    struct provision *p = CONTAINER_OF(w, struct provision, work);
    struct session_paths paths;
    char path[PATH_MAX];
    AUTO_BUF struct buf lines = BUF_INIT(NOTE_MAX);
    session_paths(&p->s->host, p->id.z, &paths);
    note_path(&paths, path);
    if (fd_read_file(path, &lines, NULL) != 0 || lines.len == 0)
        return;
    buf_z(&p->note, "The repositories of this session bring skills. Read a skill's SKILL.md before "
                    "work that it covers:\n");
    buf_str(&p->note, buf_view(&lines));
    buf_ch(&p->note, '\n');
}

/* ---- on the loop ---- */

static void noted(struct loop_work *w)
{
    struct provision *p = CONTAINER_OF(w, struct provision, work);
    struct sandboxes *s = p->s;
    p->done(p->arg, buf_ok(&p->note) ? buf_view(&p->note) : STR_NONE);
    buf_fini(&p->note);
    arena_fini(&p->arena);
    mem_free(p);
    sandboxes_job_ended(s);
}

static void next(struct provision *p);

static void cloned(void *arg, const struct git_result *result)
{
    struct provision *p = arg;
    const struct git_repository *r = &p->repositories[p->at++];
    p->clone = NULL;
    if (result->error && !p->cancelled && !p->s->closing && p->s->on_notice) {
        const struct sandbox_notice notice = {.type = result->error,
                                              .message = str_z(result->message),
                                              .repository_url = str_z(r->url)};
        p->s->on_notice(p->s->notice_arg, id_str(&p->id), &notice);
    }
    next(p);
}

static void next(struct provision *p)
{
    if (p->at < p->n && !p->cancelled && !p->s->closing)
        p->clone = git_clone_start(p->s, p->id.z, &p->repositories[p->at], cloned, p);
    else
        loop_work(p->s->loop, &p->work, note_work, noted);
}

static void prepared(struct loop_work *w)
{
    next(CONTAINER_OF(w, struct provision, work));
}

struct provision *provision_start(struct sandboxes *s, const char *session_id, struct str json,
                                  bool fresh, void (*done)(void *arg, struct str note), void *arg)
{
    struct provision *p = mem_zalloc(sizeof *p);
    p->s = s;
    p->id = id_from(str_z(session_id));
    arena_init(&p->arena, PROVISION_ARENA);
    p->json = arena_str(&p->arena, json);
    p->fresh = fresh;
    p->note = BUF_INIT(NOTE_MAX * 2);
    p->done = done;
    p->arg = arg;
    sandboxes_job_began(s);
    loop_work(s->loop, &p->work, prepare_work, prepared);
    return p;
}

void provision_cancel(struct provision *p)
{
    p->cancelled = true;
    if (p->clone)
        git_clone_cancel(p->clone);
}
