/* /v1/environments */
#include "api/api_impl.h"
#include "api/compact.h"
#include "api/cursor.h"
#include "api/environment_decode.h"
#include "api/handlers.h"

#include "base/clock.h"
#include "json/decode.h"
#include "json/writer.h"
#include "sandbox/layers.h"

struct environment_call {
    struct environment_patch patch;
    struct environment_row row;
    struct listing list;
    struct environment_row *rows;
    size_t n;
    bool more;
    /* What sandboxes/ said when the request came: steps run on another thread. */
    const char *tier;
    char base_id[CONTENT_HEX + 1];
    struct build_row *builds; /* one for each row; content absent: there is none */
};

static struct environment_call *begin(struct call *c)
{
    struct environment_call *s = call_state(c, sizeof *s);
    if (!s)
        return NULL;
    struct sandboxes *boxes = c->api->cfg.sandboxes;
    s->tier = sandboxes_tier_name(boxes);
    if (!str_copyz(s->base_id, sizeof s->base_id, sandboxes_base_id(boxes)))
        s->base_id[0] = '\0';
    return s;
}

/* ---- builds ---- */

/* False: nothing is built for it. */
static bool content_of(struct call *c, struct str body, char out[CONTENT_HEX + 1])
{
    const struct environment_call *s = c->state;
    const struct json *doc;
    return json_parse(&c->arena, body, 0, &doc, NULL) == 0 &&
           layer_content(json_get(doc, "config"), str_z(s->base_id), out);
}

static int read_builds(struct store_tx *tx, struct call *c, const struct environment_row *rows,
                       size_t n, struct err *err)
{
    struct environment_call *s = c->state;
    s->builds = ARENA_ARRAY(&c->arena, struct build_row, n + 1);
    if (!s->builds)
        return err_set(err, ERR_LIMIT, "The list is too long");
    for (size_t i = 0; i < n; i++) {
        char content[CONTENT_HEX + 1];
        if (!content_of(c, rows[i].body, content))
            continue;
        int rc = tx_build_get(tx, str_z(content), &c->arena, &s->builds[i], err);
        if (rc == ERR_NOT_FOUND) /* of an older system: built when a session needs it */
            s->builds[i] = (struct build_row){.content = arena_str(&c->arena, str_z(content)),
                                              .state = BUILD_PENDING};
        else if (rc)
            return rc;
    }
    return 0;
}

/* After a change: its build is pending in the same commit. */
static int want_build(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_call *s = c->state;
    char content[CONTENT_HEX + 1];
    int rc = content_of(c, s->row.body, content) ? tx_build_want(tx, str_z(content), err) : 0;
    return rc ? rc : read_builds(tx, c, &s->row, 1, err);
}

static void start_build(struct call *c)
{
    const struct environment_call *s = c->state;
    if (str_some(s->builds[0].content) && !s->row.archived_us)
        sandboxes_build(c->api->cfg.sandboxes, s->row.body);
}

static void write_build(struct jw *w, const struct build_row *build)
{
    jw_key(w, "build");
    if (!build || !str_some(build->content)) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    jw_kz(w, "state", build_state_name(build->state));
    jw_kstr(w, "log_tail", build->log_tail.ptr ? build->log_tail : STR(""));
    jw_ktime(w, "built_at", build->built_us);
    jw_obj_end(w);
}

/* ---- answers ---- */

/* The body as stored, with the tier in its config. False: there are no sandboxes of ours in it. */
static bool write_body(struct jw *w, struct call *c, const struct environment_row *row)
{
    const struct environment_call *s = c->state;
    const struct json *doc;
    if (json_parse(&c->arena, row->body, 0, &doc, NULL) != 0) {
        compact_members(w, row->body);
        return true;
    }
    bool ours = !str_eqz(json_get_str(json_get(doc, "config"), "type"), "self_hosted");
    json_for_each (it, doc) {
        jw_key_str(w, it->key);
        if (!ours || !str_eqz(it->key, "config")) {
            jw_raw(w, it->raw);
            continue;
        }
        jw_obj(w);
        compact_members(w, it->raw);
        jw_kz(w, "tier", s->tier);
        jw_obj_end(w);
    }
    return ours;
}

static void write_environment(struct jw *w, struct call *c, const struct environment_row *row,
                              const struct build_row *build)
{
    jw_obj(w);
    jw_kstr(w, "id", id_str(&row->id));
    jw_kz(w, "type", "environment");
    if (write_body(w, c, row))
        write_build(w, build);
    jw_ktime(w, "created_at", row->created_us);
    jw_ktime(w, "updated_at", row->updated_us);
    jw_ktime(w, "archived_at", row->archived_us);
    jw_obj_end(w);
}

static void write_answer(struct call *c, struct buf *out)
{
    const struct environment_call *s = c->state;
    struct jw w = jw_to(out);
    write_environment(&w, c, &s->row, s->builds);
}

static void reply_environment(struct call *c)
{
    struct buf b = BUF_INIT(SIZE_MAX / 4);
    write_answer(c, &b);
    call_reply(c, &b);
}

static int get_row(struct store_tx *tx, struct call *c, struct environment_row *row,
                   struct err *err)
{
    int rc = ERR_NOT_FOUND;
    if (id_valid(c->id[0], "env"))
        rc = tx_environment_get(tx, call_workspace(c), c->id[0], &c->arena, row, err);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "Environment '" STR_FMT "' not found",
                       STR_ARG(str_utf8_take(c->id[0], 64)));
    return rc;
}

static int get_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_call *s = c->state;
    int rc = get_row(tx, c, &s->row, err);
    return rc ? rc : read_builds(tx, c, &s->row, 1, err);
}

void environments_get(struct call *c)
{
    if (begin(c))
        call_read(c, get_step, reply_environment);
}

static int create_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_call *s = c->state;
    int rc = environment_patch_apply(&c->arena, &s->patch, STR_NONE, &s->row.body, err);
    if (rc == 0)
        rc = tx_environment_insert(tx, call_workspace(c), &s->row, err);
    return rc ? rc : want_build(tx, c, err);
}

static int check_image(const struct call *c, const struct environment_patch *patch, struct err *err)
{
    struct err why;
    const struct json *image = json_get(patch->config, "image");
    struct str path = json_get_str(image, "path");
    if (path.len && str_eqz(json_get_str(image, "type"), "oci_layout") &&
        !sandboxes_has_layouts(c->api->cfg.sandboxes))
        return json_fail(err, "/config/image", "type",
                         "oci_layout needs the OCI driver, which this server does not use: set "
                         "sandbox.driver to oci in its configuration, or use 'rootfs'");
    if (!path.len || sandboxes_check_image(c->api->cfg.sandboxes, path, &why) == 0)
        return 0;
    return json_fail(err, "/config/image", "path", "%s", why.msg);
}

void environments_create(struct call *c)
{
    struct environment_call *s = begin(c);
    struct err err;
    if (!s)
        return;
    if (environment_patch_decode(c->doc, true, &s->patch, &err) ||
        check_image(c, &s->patch, &err)) {
        call_fail(c, &err);
        return;
    }
    s->row.id = id_new("env");
    s->row.name = s->patch.name;
    s->row.created_us = s->row.updated_us = clock_unix_us();
    static const struct call_creation how = {create_step, write_answer, start_build, NULL, NULL};
    call_create(c, &how);
}

static int archived(const struct environment_row *row, struct err *err)
{
    err_set(err, ERR_INVALID, "Environment '%s' is archived and cannot be updated", row->id.z);
    err->detail = "environment_archived";
    return ERR_INVALID;
}

static int update_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_call *s = c->state;
    int rc = get_row(tx, c, &s->row, err);
    if (rc)
        return rc;
    if (s->row.archived_us)
        return archived(&s->row, err);
    struct str body;
    rc = environment_patch_apply(&c->arena, &s->patch, s->row.body, &body, err);
    if (rc)
        return rc;
    if (str_eq(body, s->row.body))
        return want_build(tx, c, err);
    s->row.body = body;
    if (str_some(s->patch.name))
        s->row.name = s->patch.name;
    s->row.updated_us = clock_unix_us();
    rc = tx_environment_update(tx, call_workspace(c), &s->row, err);
    return rc ? rc : want_build(tx, c, err);
}

/* Saving it again, as it is, tries a failed build once more. */
static void reply_updated(struct call *c)
{
    reply_environment(c);
    start_build(c);
}

void environments_update(struct call *c)
{
    struct environment_call *s = begin(c);
    struct err err;
    if (!s)
        return;
    if (environment_patch_decode(c->doc, false, &s->patch, &err) || check_image(c, &s->patch, &err))
        call_fail(c, &err);
    else
        call_write(c, update_step, reply_updated);
}

static int archive_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_call *s = c->state;
    int rc = get_row(tx, c, &s->row, err);
    if (rc == 0 && !s->row.archived_us) {
        s->row.archived_us = s->row.updated_us = clock_unix_us();
        rc = tx_environment_update(tx, call_workspace(c), &s->row, err);
    }
    return rc ? rc : read_builds(tx, c, &s->row, 1, err);
}

void environments_archive(struct call *c)
{
    if (begin(c))
        call_write(c, archive_step, reply_environment);
}

static int delete_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_call *s = c->state;
    int rc = get_row(tx, c, &s->row, err);
    if (rc == 0)
        rc = tx_environment_delete(tx, call_workspace(c), c->id[0], err);
    if (rc == ERR_CONFLICT)
        return err_set(err, ERR_CONFLICT,
                       "Environment '%s' is used by a session that is not archived; archive the "
                       "environment instead, or its sessions first",
                       s->row.id.z);
    return rc;
}

static void reply_deleted(struct call *c)
{
    call_reply_deleted(c, "environment_deleted");
}

void environments_delete(struct call *c)
{
    if (begin(c))
        call_write(c, delete_step, reply_deleted);
}

static int list_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct environment_call *s = c->state;
    int rc = tx_environment_list(tx, call_workspace(c), s->list.include_archived, &s->list.page,
                                 &c->arena, &s->rows, &s->n, &s->more, err);
    return rc ? rc : read_builds(tx, c, s->rows, s->n, err);
}

static void reply_list(struct call *c)
{
    struct environment_call *s = c->state;
    struct listing_out out;
    struct jw *w = listing_begin(&out);
    for (size_t i = 0; i < s->n; i++)
        write_environment(w, c, &s->rows[i], &s->builds[i]);
    const struct environment_row *last = s->n && s->more ? &s->rows[s->n - 1] : NULL;
    struct cursor next = {.list = CURSOR_ENVIRONMENTS, .desc = true};
    if (last) {
        next.at_us = last->created_us;
        next.id = id_str(&last->id);
    }
    listing_end(c, &out, last ? &next : NULL);
}

void environments_list(struct call *c)
{
    static const struct listing_how how = {CURSOR_ENVIRONMENTS, 20,        100, true,
                                           list_step,           reply_list};
    struct environment_call *s = begin(c);
    if (s)
        listing_serve(c, &how, &s->list);
}
