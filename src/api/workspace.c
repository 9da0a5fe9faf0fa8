/* PUT /v1/sessions/{id}/workspace (ours): a tar becomes the files of a session. */
#include "api/handlers.h"
#include "api/session_call.h"

#include "base/fd.h"
#include "base/limits.h"
#include "json/writer.h"

#include <fcntl.h>
#include <stdlib.h>
#include <stdio.h>
#include <errno.h>
#include <unistd.h>

enum { SPOOL_PIECE = 1 << 20 };

/* The body goes to an unlinked temporary file in pieces of about SPOOL_PIECE; while the worker pool
 * writes one, the client is not read. */
struct put_call {
    struct session_row row;
    struct call *call;
    int fd;
    struct buf next, writing;
    bool busy, ended;
    struct err err; /* of the last write */
    struct loop_work work;
};

static int open_spool(const char *dir, struct err *err)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    char path[512]; /* not every file system knows O_TMPFILE */
    snprintf(path, sizeof path, "%s/ostler-upload-XXXXXX", dir);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        err_sys(err, errno, "cannot spool the upload in %s", dir);
        return -1;
    }
    unlink(path);
    return fd;
}

static void imported(void *arg, const struct err *err)
{
    struct call *c = arg;
    if (err->code) {
        call_fail(c, err);
    } else {
        struct buf b = BUF_INIT(1024);
        struct jw w = jw_to(&b);
        jw_obj(&w);
        jw_kz(&w, "type", "session_workspace");
        jw_kstr(&w, "session_id", c->id[0]);
        jw_obj_end(&w);
        call_reply(c, &b);
    }
    call_unref(c);
}

static void import(struct put_call *s)
{
    struct err err;
    if (lseek(s->fd, 0, SEEK_SET) < 0) {
        err_sys(&err, errno, "cannot rewind the upload");
        call_fail(s->call, &err);
        return;
    }
    workspace_import(s->call->api->cfg.sandboxes, s->call->id[0], TAKE_FD(s->fd), imported,
                     call_ref(s->call));
}

static void spool_work(struct loop_work *w)
{
    struct put_call *s = CONTAINER_OF(w, struct put_call, work);
    s->err = (struct err){0};
    if (fd_write_all(s->fd, buf_view(&s->writing), &s->err))
        err_wrap(&s->err, "cannot spool the upload");
}

static void spool(struct put_call *s);

static void spooled(struct loop_work *w)
{
    struct put_call *s = CONTAINER_OF(w, struct put_call, work);
    struct call *c = s->call;
    s->busy = false;
    buf_clear(&s->writing);
    if (s->err.code) {
        call_fail(c, &s->err);
    } else if (c->req && s->ended) {
        spool(s);
    } else if (c->req) {
        http_req_resume(c->req);
        if (!s->busy && s->next.len >= SPOOL_PIECE)
            spool(s);
    }
    call_unref(c);
}

/* Writes what has come; at the end, with nothing left, imports. */
static void spool(struct put_call *s)
{
    if (s->next.len == 0) {
        if (s->ended)
            import(s);
        return;
    }
    struct buf full = s->next;
    s->next = s->writing;
    s->writing = full;
    s->busy = true;
    call_ref(s->call);
    loop_work(s->call->api->cfg.loop, &s->work, spool_work, spooled);
}

static void put_piece(struct http_req *req, struct str piece)
{
    struct call *c = http_req_data(req);
    struct put_call *s = c->state;
    buf_put(&s->next, piece.ptr, piece.len);
    if (s->next.len < SPOOL_PIECE)
        return;
    http_req_pause(req);
    if (!s->busy)
        spool(s);
}

static void put_end(struct http_req *req)
{
    struct call *c = call_ref(http_req_data(req));
    struct put_call *s = c->state;
    s->ended = true;
    if (!buf_ok(&s->next)) {
        struct err err;
        err_set(&err, ERR_LIMIT, "the upload came faster than it could be stored");
        call_fail(c, &err);
    } else if (!s->busy) {
        spool(s);
    }
    call_unref(c);
}

static void put_fini(struct call *c)
{
    struct put_call *s = c->state;
    fd_close(s->fd);
    buf_fini(&s->next);
    buf_fini(&s->writing);
}

static int put_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct put_call *s = c->state;
    int rc = session_find(tx, c, &s->row, err);
    if (!rc)
        rc = session_open_check(&s->row, err);
    return rc ? rc : session_rest_check(&s->row, "files can be imported", err);
}

static void put_ready(struct call *c)
{
    struct put_call *s = c->state;
    struct err err;
    if (!c->req)
        return;
    s->fd = open_spool(c->api->cfg.tmp_dir ? c->api->cfg.tmp_dir : "/tmp", &err);
    if (s->fd < 0)
        call_fail(c, &err);
    else
        http_req_body_stream(c->req, (uint64_t)LIMIT_SANDBOX_DISK_MB << 20, put_piece, put_end);
}

void workspace_put(struct call *c)
{
    struct put_call *s = call_state(c, sizeof *s);
    if (!s)
        return;
    s->call = c;
    s->fd = -1;
    s->next = s->writing = BUF_INIT(64u << 20);
    c->fini = put_fini;
    call_read(c, put_step, put_ready);
}
