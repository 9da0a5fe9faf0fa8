/* /v1/skills: skills and their versions: lists, one of them, contents, deletion. Uploads:
 * skill_upload.c */
#include "api/cursor.h"
#include "api/handlers.h"
#include "api/skill_pack.h"
#include "api/skills_impl.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static const char old_beta[] = "skills-2025-10-02";

/* Of the published sources this server has the first. */
static const char *const sources[] = {"custom", "anthropic", "anthropic_example", "plugin", NULL};

struct skill_call {
    bool old;
    struct listing list;
    struct skill_row row, *rows;
    struct skill_version_row version, *versions;
    size_t n;
    bool more;
    struct call *call; /* for work */
    int tar, zip;      /* -1: none */
    int64_t zip_bytes;
    struct err err; /* of the work */
    struct loop_work work;
};

/* ---- shapes ---- */

bool skill_dialect_old(const struct call *c)
{
    return call_has_beta(c, old_beta);
}

void skill_write(struct jw *w, const struct skill_row *row, bool old)
{
    jw_obj(w);
    jw_kstr(w, "id", id_str(&row->id));
    jw_kz(w, "type", "skill");
    if (old) {
        jw_kstr(w, "display_title", row->display_name);
        jw_kstr(w, "latest_version", row->latest_version);
        jw_kz(w, "source", "custom");
    } else {
        jw_kstr(w, "display_name", str_some(row->display_name) ? row->display_name : row->name);
        jw_kstr(w, "latest_version_id", id_str(&row->latest_id));
        jw_key(w, "source");
        jw_obj(w);
        jw_kz(w, "type", "custom");
        jw_obj_end(w);
    }
    jw_ktime(w, "created_at", row->created_us);
    jw_ktime(w, "updated_at", row->updated_us);
    jw_obj_end(w);
}

void skill_version_write(struct jw *w, const struct skill_version_row *row, bool old)
{
    jw_obj(w);
    jw_kstr(w, "id", id_str(&row->id));
    jw_kz(w, "type", "skill_version");
    jw_kstr(w, "skill_id", id_str(&row->skill_id));
    if (old) {
        jw_kstr(w, "version", row->version);
        jw_kstr(w, "directory", row->directory);
    }
    jw_kstr(w, "name", row->name);
    jw_kstr(w, "description", row->description);
    jw_ktime(w, "created_at", row->created_us);
    jw_obj_end(w);
}

/* ---- finding one ---- */

static struct skill_call *begin(struct call *c)
{
    struct skill_call *s = call_state(c, sizeof *s);
    if (!s)
        return NULL;
    s->call = c;
    s->tar = s->zip = -1;
    s->old = skill_dialect_old(c);
    return s;
}

static int no_skill(struct call *c, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "Skill '" STR_FMT "' not found",
                   STR_ARG(str_utf8_take(c->id[0], 64)));
}

/* NOT_FOUND for what no skill of the caller's can be; whether it is one is still to be read. */
static int may_see(struct store_tx *tx, struct call *c, struct err *err)
{
    bool seen = false;
    int rc = auth_sees_skill(tx, &c->who, c->id[0], &seen, err);
    return rc || (seen && id_valid(c->id[0], SKILL_PREFIX)) ? rc : ERR_NOT_FOUND;
}

int skill_find(struct store_tx *tx, struct call *c, struct skill_row *row, struct err *err)
{
    int rc = may_see(tx, c, err);
    if (rc == 0)
        rc = tx_skill_get(tx, call_workspace(c), c->id[0], &c->arena, row, err);
    return rc == ERR_NOT_FOUND ? no_skill(c, err) : rc;
}

static int find_version(struct store_tx *tx, struct call *c, struct err *err)
{
    struct skill_call *s = c->state;
    int rc = may_see(tx, c, err);
    if (rc == 0)
        rc = tx_skill_version_get(tx, call_workspace(c), c->id[0], c->id[1], &c->arena, &s->version,
                                  err);
    if (rc != ERR_NOT_FOUND)
        return rc;
    return err_set(err, rc, "Skill '" STR_FMT "' has no version '" STR_FMT "', or does not exist",
                   STR_ARG(str_utf8_take(c->id[0], 64)), STR_ARG(str_utf8_take(c->id[1], 64)));
}

/* ---- skills ---- */

static int get_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct skill_call *s = c->state;
    return skill_find(tx, c, &s->row, err);
}

static void reply_skill(struct call *c)
{
    const struct skill_call *s = c->state;
    struct buf b = BUF_INIT(64 * 1024);
    struct jw w = jw_to(&b);
    skill_write(&w, &s->row, s->old);
    call_reply(c, &b);
}

void skills_get(struct call *c)
{
    if (begin(c))
        call_read(c, get_step, reply_skill);
}

static int delete_step(struct store_tx *tx, struct call *c, struct err *err)
{
    int rc = ERR_NOT_FOUND;
    if (id_valid(c->id[0], SKILL_PREFIX))
        rc = tx_skill_delete(tx, call_workspace(c), c->id[0], err);
    return rc == ERR_NOT_FOUND ? no_skill(c, err) : rc;
}

static void reply_deleted(struct call *c)
{
    call_reply_deleted(c, "skill_deleted");
}

void skills_delete(struct call *c)
{
    if (begin(c))
        call_write(c, delete_step, reply_deleted);
}

static int list_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct skill_call *s = c->state;
    return tx_skill_list(tx, call_workspace(c), &s->list.page, &c->arena, &s->rows, &s->n, &s->more,
                         err);
}

static void reply_list(struct call *c)
{
    const struct skill_call *s = c->state;
    struct listing_out out;
    struct jw *w = listing_begin(&out);
    for (size_t i = 0; i < s->n; i++)
        skill_write(w, &s->rows[i], s->old);
    const struct skill_row *last = s->n && s->more ? &s->rows[s->n - 1] : NULL;
    struct cursor next = {.list = CURSOR_SKILLS, .desc = true};
    if (last) {
        next.at_us = last->created_us;
        next.id = id_str(&last->id);
    }
    listing_end(c, &out, last ? &next : NULL);
}

void skills_list(struct call *c)
{
    struct skill_call *s = begin(c);
    int source = 0;
    struct err err;
    if (!s)
        return;
    int rc = query_enum(&c->query, "source", sources, &source, &err);
    if (rc == 0)
        rc = listing_read(c, CURSOR_SKILLS, 20, 100, true, &s->list, &err);
    if (rc)
        call_fail(c, &err);
    else if (source > 0)
        reply_list(c); /* there are none of the others */
    else
        call_read(c, list_step, reply_list);
}

/* ---- versions ---- */

static void reply_version(struct call *c)
{
    const struct skill_call *s = c->state;
    struct buf b = BUF_INIT(64 * 1024);
    struct jw w = jw_to(&b);
    skill_version_write(&w, &s->version, s->old);
    call_reply(c, &b);
}

void skill_versions_get(struct call *c)
{
    if (begin(c))
        call_read(c, find_version, reply_version);
}

/* By its own name only: what 'latest' is may have changed since the client looked. */
static int delete_version_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct skill_call *s = c->state;
    int rc = find_version(tx, c, err);
    if (rc == 0 && str_eqz(c->id[1], SKILL_LATEST))
        return err_set(err, ERR_INVALID, "A version is deleted by its id, here '%s'",
                       s->version.id.z);
    return rc ? rc : tx_skill_version_delete(tx, &s->version, clock_unix_us(), err);
}

static void reply_version_deleted(struct call *c)
{
    call_reply_deleted(c, "skill_version_deleted");
    file_sweep_kick(c->api->sweep);
}

/* The answer names the version as the path did. */
static void version_deleted(struct call *c)
{
    const struct skill_call *s = c->state;
    c->id[0] = s->old ? s->version.version : id_str(&s->version.id);
    reply_version_deleted(c);
}

void skill_versions_delete(struct call *c)
{
    if (begin(c))
        call_write(c, delete_version_step, version_deleted);
}

static int list_versions_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct skill_call *s = c->state;
    int rc = skill_find(tx, c, &s->row, err);
    return rc ? rc
              : tx_skill_version_list(tx, call_workspace(c), c->id[0], s->list.page.after,
                                      s->list.page.limit, &c->arena, &s->versions, &s->n, &s->more,
                                      err);
}

static void reply_versions(struct call *c)
{
    const struct skill_call *s = c->state;
    struct listing_out out;
    struct jw *w = listing_begin(&out);
    struct cursor next = {.list = CURSOR_SKILL_VERSIONS, .desc = true};
    for (size_t i = 0; i < s->n; i++)
        skill_version_write(w, &s->versions[i], s->old);
    bool more = s->n && s->more && str_i64(s->versions[s->n - 1].version, &next.number);
    listing_end(c, &out, more ? &next : NULL);
}

void skill_versions_list(struct call *c)
{
    static const struct listing_how how = {
        CURSOR_SKILL_VERSIONS, 20, 1000, true, list_versions_step, reply_versions};
    struct skill_call *s = begin(c);
    if (s)
        listing_serve(c, &how, &s->list);
}

/* ---- content ---- */

static int content_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct skill_call *s = c->state;
    int64_t size;
    fd_close(s->tar);
    s->tar = -1;
    int rc = find_version(tx, c, err);
    if (rc == 0)
        rc = blob_open(&c->api->blobs, s->version.blob, &s->tar, &size, err);
    if (rc == ERR_NOT_FOUND && s->version.id.z[0])
        return err_set(err, ERR_NOT_FOUND, "Version '%s' was deleted", s->version.id.z);
    return rc;
}

static void make_zip(struct loop_work *w)
{
    struct skill_call *s = CONTAINER_OF(w, struct skill_call, work);
    s->zip = memfd_create("skill.zip", MFD_CLOEXEC);
    if (s->zip < 0) {
        err_sys(&s->err, errno, "memory for a skill's zip");
        return;
    }
    if (skill_pack_zip(s->tar, s->zip, &s->err))
        return;
    s->zip_bytes = lseek(s->zip, 0, SEEK_END);
    if (s->zip_bytes < 0 || lseek(s->zip, 0, SEEK_SET) < 0)
        err_sys(&s->err, errno, "a skill's zip");
}

static void reply_zip(struct call *c)
{
    struct skill_call *s = c->state;
    AUTO_BUF struct buf name = BUF_INIT(1024);
    struct http_header h[REPLY_HEADERS_MAX];
    buf_printf(&name, "attachment; filename=\"" STR_FMT ".zip\"", STR_ARG(s->version.name));
    size_t n = reply_headers(c, h);
    h[n++] = (struct http_header){STR("content-type"), STR("application/zip")};
    h[n++] = (struct http_header){STR("content-disposition"), buf_view(&name)};
    h[n++] = (struct http_header){STR("x-content-type-options"), STR("nosniff")};
    call_answered(c, 200);
    http_reply_file(c->req, 200, h, n, TAKE_FD(s->zip), (uint64_t)s->zip_bytes);
}

static void zip_made(struct loop_work *w)
{
    struct skill_call *s = CONTAINER_OF(w, struct skill_call, work);
    struct call *c = s->call;
    if (s->err.code)
        call_fail(c, &s->err);
    else if (c->req)
        reply_zip(c);
    call_unref(c);
}

static void pack(struct call *c)
{
    struct skill_call *s = c->state;
    if (!c->req)
        return;
    call_ref(c);
    loop_work(c->api->cfg.loop, &s->work, make_zip, zip_made);
}

static void content_fini(struct call *c)
{
    const struct skill_call *s = c->state;
    fd_close(s->tar);
    fd_close(s->zip);
}

void skill_versions_content(struct call *c)
{
    if (!begin(c))
        return;
    c->fini = content_fini;
    call_read(c, content_step, pack);
}
