/* From a decoded resource to its rows, and to what the sandbox is made with. */
#include "api/resources.h"
#include "api/session_call.h"

#include "api/compact.h"
#include "api/cursor.h"
#include "base/clock.h"
#include "json/decode.h"
#include "store/secret.h"

static const char uploads[] = "/mnt/session/uploads";

/* ---- one ---- */

static int find_file(struct store_tx *tx, struct call *c, const struct resource_in *in,
                     int64_t now_us, struct file_row *row, struct err *err)
{
    int rc = ERR_NOT_FOUND;
    char at[ERR_AT_MAX];
    json_pointer_key(at, in->at, STR("file_id"));
    if (id_valid(in->file_id, "file"))
        rc = tx_file_get(tx, call_workspace(c), in->file_id, now_us, &c->arena, row, err);
    if (rc == ERR_NOT_FOUND)
        return err_at(err, ERR_NOT_FOUND, at, "%s: File '" STR_FMT "' not found",
                      at[0] ? at + 1 : at, STR_ARG(str_utf8_take(in->file_id, 64)));
    if (rc == 0 && (!str_some(row->blob) || (row->expires_us && row->expires_us <= now_us))) {
        err_at(err, ERR_NOT_FOUND, at, "%s: File '%s' has expired; its content is gone",
               at[0] ? at + 1 : at, row->id.z);
        err->detail = "file_expired";
        return ERR_NOT_FOUND;
    }
    return rc;
}

static void begin_body(struct jw *w, const struct resource_row *row)
{
    jw_obj(w);
    jw_kstr(w, "id", id_str(&row->id));
    jw_kstr(w, "type", row->kind);
    jw_ktime(w, "created_at", row->created_us);
    jw_ktime(w, "updated_at", row->updated_us);
}

static int make_file(struct store_tx *tx, struct call *c, const struct session_row *session,
                     const struct resource_in *in, struct resource_made *m, struct err *err)
{
    struct arena *a = &c->arena;
    struct buf body = BUF_INIT(16384), entry = BUF_INIT(16384);
    struct jw w = jw_to(&body), e = jw_to(&entry);
    int rc = find_file(tx, c, in, m->row.created_us, &m->copy, err);
    if (rc)
        return rc;
    m->row.kind = STR("file");
    m->copy.id = m->row.file_id = id_new("file");
    m->copy.scope_id = session->id;
    m->copy.downloadable = false;
    m->copy.created_us = m->row.created_us;
    m->copy.expires_us = 0;
    struct str standard = arena_printf(a, "%s/%s", uploads, m->copy.id.z);
    begin_body(&w, &m->row);
    jw_kstr(&w, "file_id", id_str(&m->copy.id));
    jw_kstr(&w, "mount_path", str_some(in->mount_path) ? in->mount_path : standard);
    jw_obj_end(&w);
    jw_obj(&e);
    jw_kstr(&e, "id", id_str(&m->row.id));
    jw_kstr(&e, "blob", m->copy.blob);
    jw_kstr(&e, "path", str_some(in->path) ? in->path : standard);
    jw_obj_end(&e);
    rc = compact_keep(a, &body, &m->row.body, err);
    int rc2 = compact_keep(a, &entry, &m->entry, err);
    return rc ? rc : rc2;
}

static void put_checkout(struct jw *w, const struct resource_in *in)
{
    bool branch = str_some(in->branch);
    jw_key(w, "checkout");
    if (!branch && !str_some(in->commit)) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    jw_kz(w, "type", branch ? "branch" : "commit");
    jw_kstr(w, branch ? "name" : "sha", branch ? in->branch : in->commit);
    jw_obj_end(w);
}

/* The sealed token goes to the sandbox module this way; it is opened only when a clone needs it. */
static int make_repository(struct call *c, const struct session_row *session,
                           const struct resource_in *in, struct resource_made *m, struct err *err)
{
    struct arena *a = &c->arena;
    struct buf body = BUF_INIT(32768), entry = BUF_INIT(65536);
    struct jw w = jw_to(&body), e = jw_to(&entry);
    m->row.kind = STR("github_repository");
    m->repository = true;
    if (str_some(in->token)) {
        int rc = secret_seal(c->api->cfg.data_dir, id_str(&m->row.id), in->token, a, &m->row.secret,
                             err);
        if (rc)
            return rc;
    }
    begin_body(&w, &m->row);
    jw_kstr(&w, "url", in->url);
    jw_kstr(&w, "mount_path", in->mount_path);
    put_checkout(&w, in);
    jw_obj_end(&w);
    jw_obj(&e);
    jw_kstr(&e, "id", id_str(&m->row.id));
    jw_kstr(&e, "workspace", id_str(&session->workspace_id));
    jw_kstr(&e, "url", in->url);
    jw_kstr(&e, "path", in->path);
    if (str_some(in->branch))
        jw_kstr(&e, "branch", in->branch);
    if (str_some(in->commit))
        jw_kstr(&e, "commit", in->commit);
    if (str_some(m->row.secret)) {
        AUTO_BUF struct buf text = BUF_INIT(65536);
        base64url_write(&text, m->row.secret);
        jw_kstr(&e, "secret", buf_view(&text));
    }
    jw_ki64(&e, "updated", m->row.updated_us);
    jw_obj_end(&e);
    int rc = compact_keep(a, &body, &m->row.body, err);
    int rc2 = compact_keep(a, &entry, &m->entry, err);
    return rc ? rc : rc2;
}

int resources_make(struct store_tx *tx, struct call *c, const struct session_row *session,
                   const struct resource_in *in, size_t n, struct resource_made **out,
                   struct err *err)
{
    if (n > 0 && session_self_hosted(session))
        return err_at(err, ERR_INVALID, "/resources",
                      "Environment %s is a self-hosted environment. `resources` are not supported "
                      "with self-hosted environments.",
                      session->environment_id.z);
    struct resource_made *made = ARENA_ARRAY(&c->arena, struct resource_made, n + 1);
    int64_t now = clock_unix_us();
    int rc = made ? 0 : err_set(err, ERR_LIMIT, "the request is too large");
    for (size_t i = 0; i < n && rc == 0; i++) {
        made[i].row.id = id_new("sesrsc");
        made[i].row.created_us = made[i].row.updated_us = now;
        rc = in[i].repository ? make_repository(c, session, &in[i], &made[i], err)
                              : make_file(tx, c, session, &in[i], &made[i], err);
    }
    if (rc == 0)
        *out = made;
    return rc;
}

int resources_insert(struct store_tx *tx, struct call *c, int64_t session_key,
                     const struct resource_made *made, size_t n, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (made[i].copy.id.z[0])
            rc = tx_file_insert(tx, call_workspace(c), &made[i].copy, err);
        /* Whatever becomes of the copy: the agent has it as long as the resource is attached. */
        if (rc == 0 && !made[i].repository)
            rc = tx_session_blob_add(tx, session_key, made[i].copy.blob, err);
        if (rc == 0)
            rc = tx_resource_insert(tx, session_key, &made[i].row, err);
    }
    return rc;
}

/* ---- the provision ---- */

static void keep_others(struct jw *w, const struct json *list, struct str without)
{
    if (!json_is(list, JSON_ARRAY))
        return;
    json_for_each (v, list)
        if (!str_eq(json_get_str(v, "id"), without))
            jw_raw(w, v->raw);
}

/* A resource that is replaced keeps its place in what clients see. */
static void put_bodies(struct jw *w, const struct json *list, struct str without,
                       const struct resource_made *made, size_t n)
{
    bool placed = false;
    jw_key(w, "resources");
    jw_arr(w);
    if (json_is(list, JSON_ARRAY))
        json_for_each (v, list) {
            bool replaced = str_some(without) && str_eq(json_get_str(v, "id"), without);
            if (!replaced)
                jw_raw(w, v->raw);
            else if (n == 1 && str_eq(id_str(&made[0].row.id), without)) {
                jw_raw(w, made[0].row.body);
                placed = true;
            }
        }
    for (size_t i = 0; i < n && !placed; i++)
        jw_raw(w, made[i].row.body);
    jw_arr_end(w);
}

int resources_provision(struct arena *a, struct str old, struct str without,
                        const struct resource_made *made, size_t n, struct str *out,
                        struct err *err)
{
    const struct json *doc = NULL;
    static const char *const lists[] = {"files", "repositories"};
    if (old.len && json_parse(a, old, 0, &doc, err))
        return err_set(err, ERR_CORRUPT, "the session's resources cannot be read");
    struct buf b = BUF_INIT((size_t)64 << 20);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    put_bodies(&w, json_get(doc, "resources"), without, made, n);
    for (size_t k = 0; k < COUNT_OF(lists); k++) {
        jw_key(&w, lists[k]);
        jw_arr(&w);
        keep_others(&w, json_get(doc, lists[k]), without);
        for (size_t i = 0; i < n; i++)
            if (made[i].repository == (k == 1))
                jw_raw(&w, made[i].entry);
        jw_arr_end(&w);
    }
    if (doc)
        json_for_each (m, doc)
            if (!str_eqz(m->key, "resources") && !str_eqz(m->key, "files") &&
                !str_eqz(m->key, "repositories")) {
                jw_key_str(&w, m->key);
                jw_raw(&w, m->raw);
            }
    jw_obj_end(&w);
    return compact_keep(a, &b, out, err);
}
