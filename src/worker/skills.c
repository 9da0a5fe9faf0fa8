#include "worker/skills.h"

#include "api/skill_pack.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "json/writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SKILLS_ARENA = 16 * 1024 * 1024,
    PACK_ARENA = 64 * 1024 * 1024,
    LINE_MAX_BYTES = 4096,
    PROVISION_MAX = 256 * 1024,
    TAR_MAX = 2 * LIMIT_SKILL,
    TRIES = 3,
};

static void next(struct worker_skills *s);

/* ---- worker pool ---- */

static void cache_path(const struct worker_skills *s, char out[4096])
{
    snprintf(out, 4096, "%s/skills/%s", s->dir, s->key);
}

/* A line of the cache, whose content is there. */
static bool is_usable(const struct worker_skills *s, struct str line)
{
    AUTO_ARENA struct arena a;
    AUTO_FD int fd = -1;
    const struct json *doc;
    int64_t size;
    arena_init(&a, 64 * 1024);
    return json_parse(&a, line, 0, &doc, NULL) == 0 &&
           blob_open(s->blobs, json_get_str(doc, "blob"), &fd, &size, NULL) == 0;
}

static void look_work(struct loop_work *work)
{
    struct worker_skills *s = CONTAINER_OF(work, struct worker_skills, work);
    char path[4096];
    cache_path(s, path);
    s->cached = fd_read_file(path, &s->line, NULL) == 0 && is_usable(s, buf_view(&s->line));
    if (s->cached)
        (void)utimensat(AT_FDCWD, path, NULL, 0);
}

static int to_buf(void *arg, struct str piece, struct err *err)
{
    struct buf *b = arg;
    buf_str(b, piece);
    return buf_ok(b) ? 0 : err_set(err, ERR_TOO_LARGE, "the skill is too large");
}

static int unpack(struct worker_skills *s, struct err *err)
{
    AUTO_ARENA struct arena a;
    AUTO_BUF struct buf tar = BUF_INIT(TAR_MAX);
    struct skill_pack pack = {0};
    struct blob_id blob;
    char path[4096], dir[4096];
    arena_init(&a, PACK_ARENA);
    const struct skill_file file = {.path = STR("skill"), .bytes = buf_view(&s->call.body)};
    int rc = skill_pack_read(&a, &file, 1, &pack, err);
    rc = rc ? rc : skill_pack_tar(&pack, to_buf, &tar, err);
    rc = rc ? rc : blob_put(s->blobs, buf_view(&tar), &blob, err);
    if (rc == 0) {
        struct jw w = jw_to(&s->line);
        buf_clear(&s->line);
        jw_obj(&w);
        jw_kstr(&w, "id", s->id);
        jw_kstr(&w, "version", s->version);
        jw_kstr(&w, "name", pack.directory);
        jw_kz(&w, "blob", blob.z);
        jw_obj_end(&w);
        cache_path(s, path);
        snprintf(dir, sizeof dir, "%s/skills", s->dir);
        rc = fd_mkdirs(dir, 0700, err);
        rc = rc ? rc : fd_write_file_atomic(path, buf_view(&s->line), 0600, err);
    }
    skill_pack_fini(&pack);
    return rc;
}

static void unpack_work(struct loop_work *work)
{
    struct worker_skills *s = CONTAINER_OF(work, struct worker_skills, work);
    (void)unpack(s, &s->err);
}

/* ---- on the loop ---- */

static void finish_close(struct worker_skills *s)
{
    wire_call_fini(&s->call);
    buf_fini(&s->line);
    buf_fini(&s->provision);
    arena_fini(&s->arena);
    s->closed(s);
}

static void timer_closed(struct loop_timer *t)
{
    struct worker_skills *s = CONTAINER_OF(t, struct worker_skills, timer);
    if (!s->working)
        finish_close(s);
    else
        s->timer_gone = true; /* the job's end closes */
}

static void leave_out(struct worker_skills *s, const char *why)
{
    char id[128];
    (void)str_copyz(id, sizeof id, str_take(s->id, sizeof id - 1));
    log_line(LOG_WARN, "a skill cannot be had; the session goes on without it", "session",
             s->session, "skill", id, "error", why, NULL);
    s->at = s->at->next;
    next(s);
}

static void take(struct worker_skills *s)
{
    if (s->provision.len)
        buf_ch(&s->provision, ',');
    buf_str(&s->provision, buf_view(&s->line));
    s->at = s->at->next;
    next(s);
}

static bool job_over(struct worker_skills *s)
{
    s->working = false;
    if (s->closing && s->timer_gone)
        finish_close(s);
    return s->closing;
}

static void fetch_version(struct worker_skills *s);
static void fetch_content(struct worker_skills *s);

static void try_version(struct loop_timer *t)
{
    fetch_version(CONTAINER_OF(t, struct worker_skills, timer));
}

static void try_content(struct loop_timer *t)
{
    fetch_content(CONTAINER_OF(t, struct worker_skills, timer));
}

/* True: it will be tried again. */
static bool try_again(struct worker_skills *s, void (*fn)(struct loop_timer *))
{
    if (wire_is_final(&s->call) || ++s->tries >= TRIES)
        return false;
    loop_timer_start(&s->timer, wire_backoff(s->tries, 500, 5000), fn);
    return true;
}

static void unpacked(struct loop_work *work)
{
    struct worker_skills *s = CONTAINER_OF(work, struct worker_skills, work);
    struct err err = s->err;
    if (job_over(s))
        return;
    if (err.code)
        leave_out(s, err.msg);
    else
        take(s);
}

static void on_content(struct wire_call *c, const struct err *err)
{
    struct worker_skills *s = CONTAINER_OF(c, struct worker_skills, call);
    if (err->code) {
        if (!try_again(s, try_content))
            leave_out(s, err->msg);
        return;
    }
    s->working = true;
    s->err = (struct err){0};
    loop_work(c->wire->loop, &s->work, unpack_work, unpacked);
}

static void skill_path(const struct worker_skills *s, struct buf *b, struct str version)
{
    buf_z(b, "/v1/skills/");
    http_encode(b, s->id);
    buf_z(b, "/versions/");
    http_encode(b, version);
}

static void fetch_content(struct worker_skills *s)
{
    AUTO_BUF struct buf path = BUF_INIT(4096);
    skill_path(s, &path, s->version);
    buf_z(&path, "/content");
    const struct wire_request r = {
        .method = "GET", .path = buf_view(&path), .max_response = LIMIT_SKILL + (1 << 20)};
    wire_send(&s->call, &r, on_content);
}

static void looked(struct loop_work *work)
{
    struct worker_skills *s = CONTAINER_OF(work, struct worker_skills, work);
    if (job_over(s))
        return;
    s->tries = 0;
    if (s->cached)
        take(s);
    else
        fetch_content(s);
}

/* What a file's name and a URL are made of. */
static bool is_plain(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-'))
            return false;
    }
    return s.len > 0 && s.len <= 100;
}

static void on_version(struct wire_call *c, const struct err *err)
{
    struct worker_skills *s = CONTAINER_OF(c, struct worker_skills, call);
    const struct json *doc = NULL;
    struct err bad = *err;
    if (bad.code) {
        if (!try_again(s, try_version))
            leave_out(s, bad.msg);
        return;
    }
    struct str text = arena_str(&s->arena, buf_view(&c->body));
    if (json_parse(&s->arena, text, JSON_ALLOW_DUPLICATES, &doc, &bad) != 0) {
        leave_out(s, bad.msg);
        return;
    }
    /* "latest" becomes a version that never changes. */
    s->version = json_get_str(doc, "version");
    if (!is_plain(s->version))
        s->version = json_get_str(doc, "id");
    if (!is_plain(s->version)) {
        leave_out(s, "the server names no version of it");
        return;
    }
    snprintf(s->key, sizeof s->key, STR_FMT "@" STR_FMT, STR_ARG(s->id), STR_ARG(s->version));
    buf_clear(&s->line);
    s->working = true;
    loop_work(c->wire->loop, &s->work, look_work, looked);
}

static void fetch_version(struct worker_skills *s)
{
    AUTO_BUF struct buf path = BUF_INIT(4096);
    struct str version = json_get_str(s->at, "version");
    skill_path(s, &path, version.len ? version : STR("latest"));
    const struct wire_request r = {.method = "GET", .path = buf_view(&path)};
    wire_send(&s->call, &r, on_version);
}

static void next(struct worker_skills *s)
{
    for (; s->at; s->at = s->at->next) {
        struct str version = json_get_str(s->at, "version");
        s->id = json_get_str(s->at, "skill_id");
        s->tries = 0;
        if (is_plain(s->id) && (!version.len || is_plain(version))) {
            fetch_version(s);
            return;
        }
    }
    if (s->provision.len) {
        AUTO_BUF struct buf whole = BUF_INIT(PROVISION_MAX + 64);
        buf_z(&whole, "{\"skills\":[");
        buf_str(&whole, buf_view(&s->provision));
        buf_z(&whole, "]}");
        buf_clear(&s->provision);
        buf_str(&s->provision, buf_view(&whole));
    }
    s->done(s);
}

static void begin(struct loop_timer *t)
{
    next(CONTAINER_OF(t, struct worker_skills, timer));
}

void worker_skills_start(struct worker_skills *s, struct wire *w, const char *bearer,
                         struct str session)
{
    const struct json *doc;
    wire_call_init(&s->call, w, bearer);
    arena_init(&s->arena, SKILLS_ARENA);
    buf_init(&s->line, LINE_MAX_BYTES);
    buf_init(&s->provision, PROVISION_MAX);
    loop_timer_init(w->loop, &s->timer);
    struct str text = arena_str(&s->arena, session);
    if (json_parse(&s->arena, text, JSON_ALLOW_DUPLICATES, &doc, NULL) == 0)
        s->list = json_get(json_get(doc, "agent"), "skills");
    s->at = json_is(s->list, JSON_ARRAY) ? s->list->child : NULL;
    loop_timer_start(&s->timer, 0, begin);
}

struct str worker_skills_json(const struct worker_skills *s)
{
    return s->provision.len && buf_ok(&s->provision) ? buf_view(&s->provision) : STR_NONE;
}

void worker_skills_close(struct worker_skills *s, void (*closed)(struct worker_skills *s))
{
    s->closing = true;
    s->closed = closed;
    wire_cancel(&s->call);
    loop_timer_close(&s->timer, timer_closed);
}

/* ---- what nobody used for long ---- */

void worker_skills_sweep(const char *dir, const struct blobs *blobs, int64_t age_s)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/skills", dir);
    DIR *d = opendir(path);
    int64_t now_s = clock_unix_us() / 1000000;
    for (struct dirent *e; d && (e = readdir(d));) {
        AUTO_BUF struct buf line = BUF_INIT(LINE_MAX_BYTES);
        AUTO_ARENA struct arena a;
        const struct json *doc;
        struct stat st;
        char file[4096 + 256];
        if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            now_s - st.st_mtim.tv_sec < age_s)
            continue;
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        arena_init(&a, 64 * 1024);
        bool known = fd_read_file(file, &line, NULL) == 0 &&
                     json_parse(&a, buf_view(&line), 0, &doc, NULL) == 0;
        /* Another version with the same content is fetched again. */
        if (unlink(file) == 0 && known)
            (void)!blob_unlink(blobs, json_get_str(doc, "blob"), NULL);
    }
    if (d)
        closedir(d);
}
