/* POST /v1/files: a form with one file, of up to half a gigabyte, in two megabytes of memory.
 *
 *     socket ─▶ multipart ─▶ next ──PIECE──▶ writing ─▶ worker pool: hash, write
 *        ▲                    │ full: the socket is not read
 *        └────── resumed ◀────┴──────────── written
 *
 * At the body's end the worker pool makes the bytes durable; then one transaction writes the row.
 * Whatever ends the call, the upload's temporary is dropped on the pool: freeing a large file takes
 * time. */
#include "api/file_name.h"
#include "api/files_impl.h"
#include "api/handlers.h"

#include "base/clock.h"
#include "base/limits.h"
#include "http/multipart.h"

enum {
    PIECE = 1 << 20,
    FORM_EXTRA = 1 << 20, /* what the form may have besides the file */
    VALUE_MAX = 256,      /* of a small field */
};

enum field { FIELD_FILE, FIELD_EXPIRES, FIELD_PURPOSE, FIELDS };

static const char *const field_names[FIELDS] = {"file", "expires_in_seconds", "purpose"};

struct upload_call {
    struct call *call;
    struct file_dialect dialect;
    struct file_row row;
    struct str given_name, given_type; /* of the file's part; absent: none */
    struct multipart form;
    enum field field; /* of the part under way */
    bool seen[FIELDS];
    struct buf value; /* of a small field */
    int64_t size, expires_in_s;
    struct blob_upload *blob;
    struct blob_id blob_id;
    struct buf next, writing;
    bool busy;             /* the pool is at work */
    bool ended, finishing; /* the body is complete; its bytes are being made durable */
    bool failed;           /* answered with an error */
    struct err err;        /* of the pool's work */
    struct loop_work work;
};

static void pump(struct upload_call *s);

static void fail(struct upload_call *s, const struct err *err)
{
    s->failed = true;
    call_fail(s->call, err);
}

/* ---- the form ---- */

static int refuse_field(struct str name, struct err *err)
{
    char shown[ERR_AT_MAX];
    str_copyz(shown, sizeof shown, str_utf8_take(name, sizeof shown - 1));
    return err_at(err, ERR_INVALID, shown, "%s: Extra inputs are not permitted", shown);
}

static int part_begin(void *arg, const struct multipart_part *p, struct err *err)
{
    struct upload_call *s = arg;
    struct arena *a = &s->call->arena;
    int field = 0;
    while (field < FIELDS && !str_eqz(p->name, field_names[field]))
        field++;
    if (field == FIELDS)
        return refuse_field(p->name, err);
    if (s->seen[field])
        return err_at(err, ERR_INVALID, field_names[field], "%s: It should be given once",
                      field_names[field]);
    s->seen[field] = true;
    s->field = (enum field)field;
    buf_clear(&s->value);
    if (s->field != FIELD_FILE)
        return 0;
    s->given_name = str_some(p->filename) ? arena_str(a, p->filename) : STR_NONE;
    s->given_type = str_some(p->type) ? arena_str(a, p->type) : STR_NONE;
    /* Now, so that a bad name is not told after half a gigabyte. */
    int rc = file_type_decide(a, s->given_type, s->given_name, &s->row.mime_type, err);
    return rc ? rc : file_name_decide(a, s->given_name, s->row.mime_type, &s->row.filename, err);
}

static int part_data(void *arg, struct str piece, struct err *err)
{
    struct upload_call *s = arg;
    const char *name = field_names[s->field];
    if (s->field != FIELD_FILE) {
        buf_str(&s->value, piece);
        if (!buf_ok(&s->value))
            return err_at(err, ERR_INVALID, name, "%s: It should have at most %d bytes", name,
                          VALUE_MAX);
        return 0;
    }
    s->size += (int64_t)piece.len;
    if (s->size > LIMIT_FILE)
        return err_at(err, ERR_TOO_LARGE, name, "%s: The file is over %d bytes (500 MB)", name,
                      LIMIT_FILE);
    buf_str(&s->next, piece);
    return 0;
}

static int part_end(void *arg, struct err *err)
{
    struct upload_call *s = arg;
    if (s->field != FIELD_EXPIRES)
        return 0;
    if (!str_i64(str_trim(buf_view(&s->value)), &s->expires_in_s) ||
        s->expires_in_s < LIMIT_FILE_EXPIRES_MIN_S || s->expires_in_s > LIMIT_FILE_EXPIRES_MAX_S)
        return err_at(err, ERR_INVALID, "expires_in_seconds",
                      "expires_in_seconds: Input should be a whole number from %d to %d",
                      LIMIT_FILE_EXPIRES_MIN_S, LIMIT_FILE_EXPIRES_MAX_S);
    return 0;
}

static const struct multipart_sink form_sink = {part_begin, part_data, part_end};

/* ---- the row ---- */

static int create_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct upload_call *s = c->state;
    int rc = blob_upload_settle(s->blob, err);
    return rc ? rc : tx_file_insert(tx, call_workspace(c), &s->row, err);
}

static void write_answer(struct call *c, struct buf *out)
{
    const struct upload_call *s = c->state;
    struct jw w = jw_to(out);
    file_write(&w, &s->row, &s->dialect);
}

/* The form as it came is never twice the same, for its boundary: what it says is. */
static void digest(struct call *c, struct buf *out)
{
    const struct upload_call *s = c->state;
    buf_printf(out, "%s %lld\n", s->blob_id.z, (long long)s->expires_in_s);
    buf_str(out, s->row.mime_type);
    buf_ch(out, '\n');
    buf_str(out, s->row.filename);
}

static void create(struct upload_call *s)
{
    static const struct call_creation how = {
        .step = create_step, .write = write_answer, .digest = digest};
    struct file_row *row = &s->row;
    row->id = id_new("file");
    row->size_bytes = s->size;
    row->blob = str_z(s->blob_id.z);
    row->created_us = clock_unix_us();
    if (s->expires_in_s)
        row->expires_us = row->created_us + s->expires_in_s * 1000000;
    call_create(s->call, &how);
}

/* ---- bytes to disk ---- */

static void write_piece(struct loop_work *w)
{
    struct upload_call *s = CONTAINER_OF(w, struct upload_call, work);
    int rc = s->blob ? 0 : blob_upload_open(&s->call->api->blobs, &s->blob, &s->err);
    if (rc == 0)
        rc = blob_upload_add(s->blob, buf_view(&s->writing), &s->err);
    if (rc == 0 && s->finishing)
        (void)!blob_upload_finish(s->blob, &s->blob_id, &s->err);
}

static void piece_written(struct loop_work *w)
{
    struct upload_call *s = CONTAINER_OF(w, struct upload_call, work);
    struct call *c = s->call;
    s->busy = false;
    buf_clear(&s->writing);
    if (s->err.code)
        fail(s, &s->err);
    else if (s->finishing && c->req)
        create(s);
    else if (c->req)
        pump(s);
    call_unref(c);
}

/* Gives the pool what has come, if that is worth it, and goes on reading. */
static void pump(struct upload_call *s)
{
    if (s->busy || s->failed)
        return;
    if (s->next.len >= PIECE || s->ended) {
        struct buf full = s->next;
        s->next = s->writing;
        s->writing = full;
        s->finishing = s->ended;
        s->busy = true;
        call_ref(s->call);
        loop_work(s->call->api->cfg.loop, &s->work, write_piece, piece_written);
    }
    if (s->next.len < PIECE && !s->ended)
        http_req_resume(s->call->req);
}

static void body_piece(struct http_req *req, struct str piece)
{
    struct call *c = http_req_data(req);
    struct upload_call *s = c->state;
    struct err err;
    if (s->failed)
        return;
    if (multipart_feed(&s->form, piece, &err)) {
        fail(s, &err);
    } else if (!buf_ok(&s->next)) {
        err_set(&err, ERR_LIMIT, "the upload came faster than it could be stored");
        fail(s, &err);
    } else if (s->next.len >= PIECE) {
        http_req_pause(req);
        pump(s);
    }
}

static void body_end(struct http_req *req)
{
    struct call *c = http_req_data(req);
    struct upload_call *s = c->state;
    struct err err;
    int rc = s->failed ? 0 : multipart_finish(&s->form, &err);
    if (rc == 0 && !s->failed && !s->seen[FIELD_FILE])
        rc = err_at(&err, ERR_INVALID, "file", "file: Field required");
    if (rc)
        fail(s, &err);
    s->ended = true;
    pump(s);
}

/* ---- begin and end ---- */

static void upload_fini(struct call *c)
{
    struct upload_call *s = c->state;
    multipart_fini(&s->form);
    buf_fini(&s->value);
    buf_fini(&s->next);
    buf_fini(&s->writing);
    api_drop_upload(c->api, TAKE_PTR(s->blob));
}

void files_upload(struct call *c)
{
    struct upload_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    s->call = c;
    s->dialect = file_dialect_of(c);
    s->value = BUF_INIT(VALUE_MAX);
    s->next = s->writing = BUF_INIT(2 * PIECE);
    if (multipart_init(&s->form, http_req_header(c->req, "content-type"), &form_sink, s, &err)) {
        call_fail(c, &err);
        return;
    }
    c->fini = upload_fini;
    http_req_body_stream(c->req, (uint64_t)LIMIT_FILE + FORM_EXTRA, body_piece, body_end);
}
