/* /v1/files: list, metadata, content, delete. Uploads: file_upload.c */
#include "api/cursor.h"
#include "api/files_impl.h"
#include "api/handlers.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"

#include <stdlib.h>

static const char old_beta[] = "files-api-2025-04-14";

struct file_call {
    struct file_dialect dialect;
    struct file_filter filter;
    struct str *ids; /* of the ids parameter, newest first */
    size_t nids;
    struct file_row row, *rows;
    size_t n;
    bool more;
    int fd; /* of the content; -1: none */
};

/* ---- shapes ---- */

struct file_dialect file_dialect_of(struct call *c)
{
    bool old = call_has_beta(c, old_beta);
    return (struct file_dialect){.old = old, .scope = old || call_has_beta(c, API_BETA)};
}

void file_write(struct jw *w, const struct file_row *row, const struct file_dialect *d)
{
    jw_obj(w);
    jw_kstr(w, "id", id_str(&row->id));
    jw_kz(w, "type", "file");
    jw_kstr(w, "filename", row->filename);
    jw_kstr(w, "mime_type", row->mime_type);
    jw_ki64(w, "size_bytes", row->size_bytes);
    jw_ktime(w, "created_at", row->created_us);
    jw_kbool(w, "downloadable", row->downloadable);
    if (!d->old)
        jw_ktime(w, "expires_at", row->expires_us);
    if (d->scope && row->scope_id.z[0]) {
        jw_key(w, "scope");
        jw_obj(w);
        jw_kz(w, "type", "session");
        jw_kstr(w, "id", id_str(&row->scope_id));
        jw_obj_end(w);
    } else if (d->scope) {
        jw_knull(w, "scope");
    }
    jw_obj_end(w);
}

/* ---- one file ---- */

static struct file_call *begin(struct call *c)
{
    struct file_call *s = call_state(c, sizeof *s);
    if (!s)
        return NULL;
    s->fd = -1;
    s->dialect = file_dialect_of(c);
    return s;
}

static int not_found(struct call *c, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "File '" STR_FMT "' not found",
                   STR_ARG(str_utf8_take(c->id[0], 64)));
}

static int get_row(struct store_tx *tx, struct call *c, int64_t now_us, struct file_row *row,
                   struct err *err)
{
    int rc = ERR_NOT_FOUND;
    if (id_valid(c->id[0], "file"))
        rc = tx_file_get(tx, call_workspace(c), c->id[0], now_us, &c->arena, row, err);
    return rc == ERR_NOT_FOUND ? not_found(c, err) : rc;
}

static int get_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct file_call *s = c->state;
    return get_row(tx, c, clock_unix_us(), &s->row, err);
}

static void reply_file(struct call *c)
{
    const struct file_call *s = c->state;
    struct buf b = BUF_INIT(64 * 1024);
    struct jw w = jw_to(&b);
    file_write(&w, &s->row, &s->dialect);
    call_reply(c, &b);
}

void files_get(struct call *c)
{
    if (begin(c))
        call_read(c, get_step, reply_file);
}

static int delete_step(struct store_tx *tx, struct call *c, struct err *err)
{
    int rc = ERR_NOT_FOUND;
    if (id_valid(c->id[0], "file"))
        rc = tx_file_delete(tx, call_workspace(c), c->id[0], clock_unix_us(), err);
    return rc == ERR_NOT_FOUND ? not_found(c, err) : rc;
}

static void reply_deleted(struct call *c)
{
    call_reply_deleted(c, "file_deleted");
    file_sweep_kick(c->api->sweep);
}

void files_delete(struct call *c)
{
    if (begin(c))
        call_write(c, delete_step, reply_deleted);
}

/* ---- content ---- */

static int check_readable(const struct file_row *row, int64_t now_us, struct err *err)
{
    if (!str_some(row->blob) || (row->expires_us && row->expires_us <= now_us)) {
        err_set(err, ERR_NOT_FOUND, "File '%s' has expired; its content is gone", row->id.z);
        err->detail = "file_expired";
        return ERR_NOT_FOUND;
    }
    if (!row->downloadable) {
        err_set(err, ERR_INVALID,
                "File '%s' cannot be downloaded: only files that were made in a session can",
                row->id.z);
        err->detail = "file_not_downloadable";
        return ERR_INVALID;
    }
    return 0;
}

/* The blob is opened on the store's thread: nobody waits there for the loop. */
static int content_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct file_call *s = c->state;
    int64_t now = clock_unix_us(), size = 0;
    fd_close(s->fd);
    s->fd = -1;
    int rc = get_row(tx, c, now, &s->row, err);
    if (rc == 0)
        rc = check_readable(&s->row, now, err);
    if (rc)
        return rc;
    rc = blob_open(&c->api->blobs, s->row.blob, &s->fd, &size, err);
    if (rc == ERR_NOT_FOUND)
        return not_found(c, err); /* deleted since the snapshot */
    if (rc == 0 && size != s->row.size_bytes)
        return err_set(err, ERR_CORRUPT, "the content of file '%s' is damaged: %lld bytes",
                       s->row.id.z, (long long)size);
    return rc;
}

static void reply_content(struct call *c)
{
    struct file_call *s = c->state;
    if (!c->req)
        return;
    AUTO_BUF struct buf name = BUF_INIT(8 * 1024);
    buf_z(&name, "attachment; filename*=UTF-8''");
    http_encode(&name, s->row.filename);
    struct http_header h[REPLY_HEADERS_MAX];
    size_t n = reply_headers(c, h);
    h[n++] = (struct http_header){STR("content-type"), s->row.mime_type};
    h[n++] = (struct http_header){STR("content-disposition"), buf_view(&name)};
    /* An agent's HTML must not run as a page of this server's. */
    h[n++] = (struct http_header){STR("x-content-type-options"), STR("nosniff")};
    call_answered(c, 200);
    http_reply_file(c->req, 200, h, n, TAKE_FD(s->fd), (uint64_t)s->row.size_bytes);
}

static void content_fini(struct call *c)
{
    const struct file_call *s = c->state;
    fd_close(s->fd);
}

void files_content(struct call *c)
{
    if (!begin(c))
        return;
    c->fini = content_fini;
    call_read(c, content_step, reply_content);
}

/* ---- list ---- */

static int list_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct file_call *s = c->state;
    s->filter.now_us = clock_unix_us();
    return tx_file_list(tx, call_workspace(c), &s->filter, &c->arena, &s->rows, &s->n, &s->more,
                        err);
}

static int list_ids_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct file_call *s = c->state;
    int64_t now = clock_unix_us();
    s->n = 0;
    for (size_t i = 0; i < s->nids; i++) {
        struct file_row *row = &s->rows[s->n];
        int rc = tx_file_get(tx, call_workspace(c), s->ids[i], now, &c->arena, row, err);
        if (rc && rc != ERR_NOT_FOUND)
            return rc;
        if (rc == 0 &&
            (!str_some(s->filter.scope_id) || str_eq(id_str(&row->scope_id), s->filter.scope_id)))
            s->n++;
    }
    return 0;
}

static void write_page_end(struct jw *w, const struct file_call *s)
{
    const struct file_row *last = s->n ? &s->rows[s->n - 1] : NULL;
    if (s->dialect.old) {
        jw_kbool(w, "has_more", s->more);
        jw_kz(w, "first_id", last ? s->rows[0].id.z : NULL);
        jw_kz(w, "last_id", last ? last->id.z : NULL);
        return;
    }
    struct cursor next = {.list = CURSOR_FILES, .desc = true};
    if (last) {
        next.at_us = last->created_us;
        next.id = id_str(&last->id);
    }
    listing_cursor(w, "next_page", last && s->more ? &next : NULL);
}

static void reply_list(struct call *c)
{
    const struct file_call *s = c->state;
    struct buf b = BUF_INIT(SIZE_MAX / 4);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_key(&w, "data");
    jw_arr(&w);
    for (size_t i = 0; i < s->n; i++)
        file_write(&w, &s->rows[i], &s->dialect);
    jw_arr_end(&w);
    write_page_end(&w, s);
    jw_obj_end(&w);
    call_reply(c, &b);
}

static int read_id(struct call *c, const char *name, struct str *out, struct err *err)
{
    struct str id = query_get(&c->query, name);
    if (str_some(id) && !id_valid(id, "file"))
        return err_at(err, ERR_INVALID, name, "%s: Input should be the id of a file", name);
    *out = id;
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)b, *(const struct str *)a);
}

static int read_ids(struct call *c, struct file_call *s, struct err *err)
{
    struct str id;
    s->ids = ARENA_ARRAY(&c->arena, struct str, c->query.n);
    if (!s->ids)
        return err_set(err, ERR_LIMIT, "the request is too large");
    size_t given = 0, n = 0;
    for (size_t at = 0; query_next(&c->query, "ids", &at, &id);)
        s->ids[given++] = id;
    if (given == 0)
        return 0;
    if (str_some(query_get(&c->query, "page")) || str_some(query_get(&c->query, "limit")))
        return err_at(err, ERR_INVALID, "ids",
                      "ids: It cannot be combined with page or limit; the answer is one page");
    qsort(s->ids, given, sizeof *s->ids, newest_first);
    for (size_t i = 0; i < given; i++)
        if (i == 0 || !str_eq(s->ids[i], s->ids[i - 1]))
            s->ids[n++] = s->ids[i];
    if (n > LIMIT_FILE_IDS)
        return err_at(err, ERR_INVALID, "ids", "ids: List should have at most %d items, not %zu",
                      LIMIT_FILE_IDS, n);
    s->nids = n;
    s->rows = ARENA_ARRAY(&c->arena, struct file_row, n);
    return s->rows ? 0 : err_set(err, ERR_LIMIT, "the request is too large");
}

static int read_cursor(struct call *c, struct file_call *s, struct err *err)
{
    struct str page = query_get(&c->query, "page");
    struct cursor cursor;
    if (!str_some(page))
        return 0;
    int rc = cursor_read(&c->arena, page, CURSOR_FILES, true, &cursor, err);
    if (rc == 0 && !id_valid(cursor.id, "file"))
        return err_at(err, ERR_INVALID, "page", "page: Invalid cursor");
    if (rc == 0)
        s->filter.after = cursor.id;
    return rc;
}

static int read_list(struct call *c, struct file_call *s, struct err *err)
{
    struct file_filter *f = &s->filter;
    f->limit = 20;
    f->scope_id = query_get(&c->query, "scope_id");
    if (str_some(f->scope_id) && s->dialect.old && !call_has_beta(c, API_BETA))
        return err_at(err, ERR_INVALID, "anthropic-beta",
                      "anthropic-beta: scope_id needs the header 'anthropic-beta: %s' beside %s",
                      API_BETA, old_beta);
    int rc = query_i64(&c->query, "limit", 1, 1000, &f->limit, err);
    if (rc || !s->dialect.old) {
        rc = rc ? rc : read_cursor(c, s, err);
        return rc ? rc : read_ids(c, s, err);
    }
    rc = read_id(c, "after_id", &f->after, err);
    rc = rc ? rc : read_id(c, "before_id", &f->before, err);
    if (rc == 0 && str_some(f->after) && str_some(f->before))
        return err_at(err, ERR_INVALID, "before_id",
                      "before_id: It cannot be combined with after_id; send one of them");
    return rc;
}

void files_list(struct call *c)
{
    struct file_call *s = begin(c);
    struct err err;
    if (!s)
        return;
    if (read_list(c, s, &err))
        call_fail(c, &err);
    else
        call_read(c, s->nids ? list_ids_step : list_step, reply_list);
}
