/* POST /v1/skills and POST /v1/skills/{}/versions: a form with the files of a skill.
 *
 * The form is kept in memory, at most LIMIT_SKILL bytes of it. When it is complete the worker pool
 * checks it and writes the tar that is kept (skill_pack.h); then one transaction writes the rows.
 * Before all checks have passed nothing touches the disk. */
#include "api/handlers.h"
#include "api/skill_pack.h"
#include "api/skills_impl.h"

#include "base/clock.h"
#include "base/limits.h"
#include "http/multipart.h"

enum {
    FORM_EXTRA = 2 << 20, /* what the form may have besides the files */
    LABEL_BYTES = 4 * LIMIT_SKILL_LABEL,
    PARTS = 2 * LIMIT_SKILL_FILES, /* with litter, and the fields */
};

enum field { FIELD_FILES, FIELD_LABEL };

struct part {
    struct str path;
    size_t at, len; /* in `bytes` */
};

struct skill_upload {
    struct call *call;
    bool old, version; /* a further version of the skill that the path names */
    struct multipart form;
    enum field field; /* of the part under way */
    bool labelled;
    struct buf label, bytes;
    struct part *parts;
    size_t nparts;
    bool failed; /* answered with an error */
    struct skill_row row;
    struct skill_version_row version_row;
    struct skill_pack pack;
    struct blob_upload *blob;
    struct blob_id blob_id;
    struct err err; /* of the work */
    struct loop_work work;
};

static void fail(struct skill_upload *s, const struct err *err)
{
    s->failed = true;
    call_fail(s->call, err);
}

/* ---- the form ---- */

/* "files", "files[]", "files[7]": arrays are written in all of these ways. */
static bool is_files(struct str name)
{
    if (!str_starts(name, STR("files")))
        return false;
    name = str_skip(name, 5);
    if (name.len == 0)
        return true;
    if (name.len < 2 || name.ptr[0] != '[' || name.ptr[name.len - 1] != ']')
        return false;
    for (size_t i = 1; i + 1 < name.len; i++)
        if (name.ptr[i] < '0' || name.ptr[i] > '9')
            return false;
    return true;
}

static int begin_label(struct skill_upload *s, struct str name, struct err *err)
{
    char shown[ERR_AT_MAX];
    str_copyz(shown, sizeof shown, str_utf8_take(name, sizeof shown - 1));
    if (s->version || (!str_eqz(name, "display_name") && !str_eqz(name, "display_title")))
        return err_at(err, ERR_INVALID, shown, "%s: Extra inputs are not permitted", shown);
    if (s->labelled)
        return err_at(err, ERR_INVALID, shown, "%s: It should be given once", shown);
    s->labelled = true;
    s->field = FIELD_LABEL;
    return 0;
}

static int part_begin(void *arg, const struct multipart_part *p, struct err *err)
{
    struct skill_upload *s = arg;
    if (!is_files(p->name))
        return begin_label(s, p->name, err);
    s->field = FIELD_FILES;
    struct str path = arena_str(&s->call->arena, str_some(p->filename) ? p->filename : STR(""));
    if (s->nparts == PARTS || !str_some(path))
        return err_at(err, ERR_INVALID, "files", "files: A skill has at most %d files",
                      LIMIT_SKILL_FILES);
    s->parts[s->nparts++] = (struct part){.path = path, .at = s->bytes.len};
    return 0;
}

static int part_data(void *arg, struct str piece, struct err *err)
{
    struct skill_upload *s = arg;
    struct buf *to = s->field == FIELD_LABEL ? &s->label : &s->bytes;
    buf_str(to, piece);
    if (buf_ok(to))
        return 0;
    if (s->field == FIELD_LABEL)
        return err_at(err, ERR_INVALID, s->old ? "display_title" : "display_name",
                      "%s: It should have at most %d characters",
                      s->old ? "display_title" : "display_name", LIMIT_SKILL_LABEL);
    return err_at(err, ERR_TOO_LARGE, "files", "files: A skill's files have at most %d MB",
                  LIMIT_SKILL >> 20);
}

static int part_end(void *arg, struct err *err)
{
    struct skill_upload *s = arg;
    if (s->field == FIELD_FILES) {
        struct part *p = &s->parts[s->nparts - 1];
        p->len = s->bytes.len - p->at;
        return 0;
    }
    const char *name = s->old ? "display_title" : "display_name";
    struct str label = str_trim(buf_view(&s->label));
    bool plain = str_utf8(label);
    for (size_t i = 0; i < label.len; i++)
        plain = plain && (unsigned char)label.ptr[i] >= 0x20 && label.ptr[i] != 0x7f;
    if (!plain || str_utf8_len(label) > LIMIT_SKILL_LABEL)
        return err_at(err, ERR_INVALID, name, "%s: It should be one line of at most %d characters",
                      name, LIMIT_SKILL_LABEL);
    s->row.display_name = label.len ? label : STR_NONE;
    return 0;
}

static const struct multipart_sink form_sink = {part_begin, part_data, part_end};

/* ---- the rows ---- */

static int check_skill(struct store_tx *tx, struct call *c, struct err *err)
{
    struct skill_upload *s = c->state;
    int rc = skill_find(tx, c, &s->row, err);
    if (rc == 0 && !str_eq(s->row.name, s->version_row.name))
        return err_at(err, ERR_INVALID, "files",
                      "files: The name '" STR_FMT
                      "' in SKILL.md is not that of the skill, '" STR_FMT
                      "', which cannot be changed; upload it as a new skill",
                      STR_ARG(s->version_row.name), STR_ARG(s->row.name));
    return rc;
}

static int create_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct skill_upload *s = c->state;
    int rc =
        s->version ? check_skill(tx, c, err) : tx_skill_insert(tx, call_workspace(c), &s->row, err);
    s->version_row.skill_id = s->row.id;
    if (rc == 0)
        rc = blob_upload_settle(s->blob, err);
    if (rc == 0)
        rc =
            tx_skill_version_insert(tx, &s->version_row, blob_upload_size(s->blob), &c->arena, err);
    s->row.latest_id = s->version_row.id;
    s->row.latest_version = s->version_row.version;
    return rc;
}

static void write_answer(struct call *c, struct buf *out)
{
    const struct skill_upload *s = c->state;
    struct jw w = jw_to(out);
    if (s->version)
        skill_version_write(&w, &s->version_row, s->old);
    else
        skill_write(&w, &s->row, s->old);
}

/* What the form says, and in which shape the answer is wanted. */
static void digest(struct call *c, struct buf *out)
{
    const struct skill_upload *s = c->state;
    buf_printf(out, "%s %d\n", s->blob_id.z, s->old);
    buf_str(out, s->row.display_name);
}

static void create(struct skill_upload *s)
{
    static const struct call_creation how = {
        .step = create_step, .write = write_answer, .digest = digest};
    struct skill_version_row *v = &s->version_row;
    if (!s->version)
        s->row.id = id_new(SKILL_PREFIX);
    s->row.name = s->pack.md.name;
    s->row.created_us = s->row.updated_us = clock_unix_us();
    v->id = id_new(SKILL_VERSION_PREFIX);
    v->name = s->pack.md.name;
    v->description = s->pack.md.description;
    v->directory = s->pack.directory;
    v->blob = str_z(s->blob_id.z);
    v->created_us = s->row.created_us;
    call_create(s->call, &how);
}

/* ---- on the pool ---- */

static int to_blob(void *arg, struct str piece, struct err *err)
{
    struct skill_upload *s = arg;
    return blob_upload_add(s->blob, piece, err);
}

static void check_and_keep(struct loop_work *w)
{
    struct skill_upload *s = CONTAINER_OF(w, struct skill_upload, work);
    struct arena *a = &s->call->arena;
    struct skill_file *files = ARENA_ARRAY(a, struct skill_file, s->nparts + 1);
    if (!files) {
        err_set(&s->err, ERR_LIMIT, "the request is too large");
        return;
    }
    for (size_t i = 0; i < s->nparts; i++)
        files[i] = (struct skill_file){
            .path = s->parts[i].path,
            .bytes = str_n(s->parts[i].len ? s->bytes.data + s->parts[i].at : "", s->parts[i].len)};
    int rc = skill_pack_read(a, files, s->nparts, &s->pack, &s->err);
    if (rc == 0)
        rc = blob_upload_open(&s->call->api->blobs, &s->blob, &s->err);
    if (rc == 0)
        rc = skill_pack_tar(&s->pack, to_blob, s, &s->err);
    if (rc == 0)
        rc = blob_upload_finish(s->blob, &s->blob_id, &s->err);
    /* The directory's name is all that is still needed of the form. */
    if (rc == 0)
        s->pack.directory = s->pack.md.name;
    skill_pack_fini(&s->pack);
    buf_fini(&s->bytes);
}

static void kept(struct loop_work *w)
{
    struct skill_upload *s = CONTAINER_OF(w, struct skill_upload, work);
    struct call *c = s->call;
    if (s->err.code)
        fail(s, &s->err);
    else if (c->req)
        create(s);
    call_unref(c);
}

/* ---- begin and end ---- */

static void body_piece(struct http_req *req, struct str piece)
{
    struct call *c = http_req_data(req);
    struct skill_upload *s = c->state;
    struct err err;
    if (!s->failed && multipart_feed(&s->form, piece, &err))
        fail(s, &err);
}

static void body_end(struct http_req *req)
{
    struct call *c = http_req_data(req);
    struct skill_upload *s = c->state;
    struct err err;
    if (s->failed)
        return;
    if (multipart_finish(&s->form, &err)) {
        fail(s, &err);
        return;
    }
    call_ref(c);
    loop_work(c->api->cfg.loop, &s->work, check_and_keep, kept);
}

static void upload_fini(struct call *c)
{
    struct skill_upload *s = c->state;
    multipart_fini(&s->form);
    buf_fini(&s->label);
    buf_fini(&s->bytes);
    skill_pack_fini(&s->pack);
    api_drop_upload(c->api, TAKE_PTR(s->blob));
}

static void upload(struct call *c, bool version)
{
    struct skill_upload *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    s->call = c;
    s->version = version;
    s->old = skill_dialect_old(c);
    s->label = BUF_INIT(LABEL_BYTES);
    s->bytes = BUF_INIT(LIMIT_SKILL);
    s->parts = ARENA_ARRAY(&c->arena, struct part, PARTS);
    if (!s->parts) {
        err_set(&err, ERR_LIMIT, "the request is too large");
        call_fail(c, &err);
        return;
    }
    if (multipart_init(&s->form, http_req_header(c->req, "content-type"), &form_sink, s, &err)) {
        call_fail(c, &err);
        return;
    }
    s->form.parts_max = PARTS + 2;
    c->fini = upload_fini;
    http_req_body_stream(c->req, (uint64_t)LIMIT_SKILL + FORM_EXTRA, body_piece, body_end);
}

void skills_create(struct call *c)
{
    upload(c, false);
}

void skill_versions_create(struct call *c)
{
    upload(c, true);
}
