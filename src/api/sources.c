#include "api/sources.h"

#include "api/compact.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "json/decode.h"

#include <sodium.h>

struct resolver {
    struct store_tx *tx;
    struct call *c;
    struct err *err;
    int64_t now_us;
    int64_t message_bytes, request_bytes; /* of files, so far */
};

bool sources_any(const struct sent_event *events, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (events[i].nfiles)
            return true;
    return false;
}

static bool is_file(const struct json *block)
{
    return str_eqz(json_get_str(json_get(block, "source"), "type"), "file");
}

/* ---- one file ---- */

/* `at` points at the source's file_id. */
static int find_file(struct resolver *r, struct str id, const char *at, struct file_row *row)
{
    int rc = ERR_NOT_FOUND;
    if (id_valid(id, "file"))
        rc = tx_file_get(r->tx, call_workspace(r->c), id, r->now_us, &r->c->arena, row, r->err);
    if (rc == ERR_NOT_FOUND) {
        json_fail(r->err, at, NULL, "File '" STR_FMT "' not found", STR_ARG(str_utf8_take(id, 64)));
        r->err->code = ERR_NOT_FOUND;
        return ERR_NOT_FOUND;
    }
    if (rc)
        return rc;
    if (!str_some(row->blob) || (row->expires_us && row->expires_us <= r->now_us)) {
        json_fail(r->err, at, NULL, "File '%s' has expired; its content is gone", row->id.z);
        r->err->code = ERR_NOT_FOUND;
        r->err->detail = "file_expired";
        return ERR_NOT_FOUND;
    }
    return 0;
}

/* What the model is told of the file; absent: it does not fit the block. */
static struct str media_type(const struct file_row *row, bool image)
{
    static const char *const images[] = {"image/png", "image/jpeg", "image/gif", "image/webp"};
    struct str rest = row->mime_type, type = str_trim(str_split(&rest, ';'));
    for (size_t i = 0; image && i < COUNT_OF(images); i++)
        if (str_eq_nocase(type, str_z(images[i])))
            return str_z(images[i]);
    if (image)
        return STR_NONE;
    if (str_eq_nocase(type, STR("application/pdf")))
        return STR("application/pdf");
    return str_eq_nocase(str_take(type, 5), STR("text/")) ? STR("text/plain") : STR_NONE;
}

static int check_size(struct resolver *r, const struct file_row *row, const char *at)
{
    if (row->size_bytes == 0)
        return json_fail(r->err, at, NULL, "File '%s' is empty", row->id.z);
    r->message_bytes += row->size_bytes;
    r->request_bytes += row->size_bytes;
    if (r->message_bytes > LIMIT_MESSAGE_FILES)
        json_fail(r->err, at, NULL,
                  "With file '%s' (%lld bytes) the files of this message are over %d bytes",
                  row->id.z, (long long)row->size_bytes, LIMIT_MESSAGE_FILES);
    else if (r->request_bytes > LIMIT_REQUEST_FILES)
        json_fail(r->err, at, NULL,
                  "With file '%s' (%lld bytes) the files of this request are over %d bytes; send "
                  "its messages one by one",
                  row->id.z, (long long)row->size_bytes, LIMIT_REQUEST_FILES);
    else
        return 0;
    r->err->code = ERR_TOO_LARGE;
    return ERR_TOO_LARGE;
}

static int read_content(struct resolver *r, const struct file_row *row, const char *at,
                        struct buf *out)
{
    AUTO_FD int fd = -1;
    int64_t size = 0;
    int rc = blob_open(&r->c->api->blobs, row->blob, &fd, &size, r->err);
    if (rc == ERR_NOT_FOUND) { /* deleted since the snapshot */
        json_fail(r->err, at, NULL, "File '%s' not found", row->id.z);
        r->err->code = ERR_NOT_FOUND;
        return ERR_NOT_FOUND;
    }
    if (!rc)
        rc = fd_read_all(fd, out, r->err);
    if (!rc && (int64_t)out->len != row->size_bytes)
        rc = err_set(r->err, ERR_CORRUPT, "the content of file '%s' is damaged: %zu bytes",
                     row->id.z, out->len);
    return rc;
}

static int put_base64(struct resolver *r, struct jw *w, struct str bytes)
{
    size_t room = sodium_base64_ENCODED_LEN(bytes.len, sodium_base64_VARIANT_ORIGINAL);
    AUTO_BUF struct buf text = BUF_INIT((size_t)LIMIT_REQUEST_FILES * 2);
    buf_ch(&text, '"');
    char *to = buf_reserve(&text, room);
    if (!to)
        return err_set(r->err, ERR_LIMIT, "a file is too large for a message");
    sodium_bin2base64(to, room, (const unsigned char *)bytes.ptr, bytes.len,
                      sodium_base64_VARIANT_ORIGINAL);
    buf_commit(&text, room - 1); /* its NUL is not counted */
    buf_ch(&text, '"');
    jw_kraw(w, "data", buf_view(&text));
    return 0;
}

static int put_source(struct resolver *r, struct jw *w, const struct json *source, bool image,
                      const char *block_at)
{
    struct file_row row;
    char at[ERR_AT_MAX];
    json_pointer_key(at, block_at, STR("source"));
    json_pointer_key(at, at, STR("file_id"));
    int rc = find_file(r, json_get_str(source, "file_id"), at, &row);
    if (rc)
        return rc;
    struct str type = media_type(&row, image);
    if (!str_some(type))
        return json_fail(r->err, at, NULL, "File '%s' is '" STR_FMT "'; %s", row.id.z,
                         STR_ARG(str_utf8_take(row.mime_type, 64)),
                         image ? "an image is a PNG, JPEG, GIF or WebP file"
                               : "a document is a PDF or a text file");
    AUTO_BUF struct buf bytes = BUF_INIT(LIMIT_MESSAGE_FILES + 1);
    rc = check_size(r, &row, at);
    if (!rc)
        rc = read_content(r, &row, at, &bytes);
    if (rc)
        return rc;
    bool text = str_eqz(type, "text/plain");
    if (text && !str_utf8(buf_view(&bytes)))
        return json_fail(r->err, at, NULL, "File '%s' is no text in UTF-8", row.id.z);
    jw_key(w, "source");
    jw_obj(w);
    jw_kz(w, "type", text ? "text" : "base64");
    jw_kstr(w, "media_type", type);
    if (text)
        jw_kstr(w, "data", buf_view(&bytes));
    else
        rc = put_base64(r, w, buf_view(&bytes));
    jw_obj_end(w);
    return rc;
}

/* ---- one message ---- */

static int put_block(struct resolver *r, struct jw *w, const struct json *block, const char *at)
{
    int rc = 0;
    jw_obj(w);
    json_for_each (it, block) {
        if (str_eqz(it->key, "source"))
            rc = put_source(r, w, it, str_eqz(json_get_str(block, "type"), "image"), at);
        else {
            jw_key_str(w, it->key);
            compact_value(w, it->raw);
        }
        if (rc)
            return rc;
    }
    jw_obj_end(w);
    return 0;
}

static int resolve_one(struct resolver *r, struct sent_event *e, const char *at)
{
    struct buf b = BUF_INIT((size_t)LIMIT_HTTP_BODY + 2ul * LIMIT_REQUEST_FILES);
    struct jw w = jw_to(&b);
    size_t i = 0;
    int rc = 0;
    jw_arr(&w);
    json_for_each (block, e->content) {
        char where[ERR_AT_MAX];
        json_pointer_key(where, at, STR("content"));
        json_pointer_index(where, where, i++);
        if (is_file(block))
            rc = put_block(r, &w, block, where);
        else
            compact_value(&w, block->raw);
        if (rc) {
            buf_fini(&b);
            return rc;
        }
    }
    jw_arr_end(&w);
    return compact_keep(&r->c->arena, &b, &e->event.transcript, r->err);
}

int sources_resolve(struct store_tx *tx, struct call *c, struct sent_event *events, size_t n,
                    const char *at, struct err *err)
{
    struct resolver r = {.tx = tx, .c = c, .err = err, .now_us = clock_unix_us()};
    for (size_t i = 0; i < n; i++) {
        char where[ERR_AT_MAX];
        if (!events[i].nfiles)
            continue;
        r.message_bytes = 0;
        json_pointer_index(where, at, i);
        int rc = resolve_one(&r, &events[i], where);
        if (rc)
            return rc;
    }
    return 0;
}

int source_text(struct store_tx *tx, struct call *c, struct str file_id, int64_t max,
                const char *at, struct buf *out, struct err *err)
{
    struct resolver r = {.tx = tx, .c = c, .err = err, .now_us = clock_unix_us()};
    struct file_row row;
    int rc = find_file(&r, file_id, at, &row);
    if (rc == 0 && row.size_bytes > max)
        return json_fail(err, at, NULL, "File '%s' has %lld bytes, which is too large for this",
                         row.id.z, (long long)row.size_bytes);
    return rc ? rc : read_content(&r, &row, at, out);
}
