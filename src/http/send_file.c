/* A file as a response body: read on the worker pool, a piece at a time, the next one only when the
 * kernel has taken the last: a slow reader costs one piece of memory. */
#include "http/conn.h"

#include "base/fd.h"

enum { PIECE = 64 * 1024 };

struct file_send {
    uv_fs_t fs;
    struct http_server *server;
    struct http_req *req; /* NULL once the connection is gone */
    int fd;
    bool reading;
    uint64_t left;
    char piece[PIECE];
};

static void release(struct file_send *f)
{
    fd_close(f->fd);
    mem_free(f);
}

void file_drop(struct http_req *r)
{
    struct file_send *f = TAKE_PTR(r->file);
    if (!f)
        return;
    f->req = NULL;
    if (f->reading)
        f->server->nreads++; /* the pool still writes into it */
    else
        release(f);
}

static void on_read(uv_fs_t *fs)
{
    struct file_send *f = CONTAINER_OF(fs, struct file_send, fs);
    ssize_t n = fs->result;
    uv_fs_req_cleanup(fs);
    f->reading = false;
    struct http_req *r = f->req;
    if (!r) {
        struct http_server *s = f->server;
        release(f);
        s->nreads--;
        server_conn_closed(s);
        return;
    }
    if (n <= 0) {
        conn_break(r->conn);
        return;
    }
    f->left -= (uint64_t)n;
    uv_buf_t buf = uv_buf_init(f->piece, (unsigned)n);
    conn_write(r->conn, &buf, 1, NULL);
    conn_kick(r->conn);
}

bool file_step(struct http_req *r)
{
    struct file_send *f = r->file;
    if (!f || f->reading || conn_queued(r->conn))
        return false;
    if (f->left == 0) {
        file_drop(r);
        r->ended = true;
        return true;
    }
    uv_buf_t buf = uv_buf_init(f->piece, f->left < PIECE ? (unsigned)f->left : PIECE);
    f->reading = uv_fs_read(loop_uv(f->server->loop), &f->fs, f->fd, &buf, 1, -1, on_read) == 0;
    if (!f->reading)
        conn_break(r->conn);
    return false;
}

void http_reply_file(struct http_req *r, int status, const struct http_header *headers,
                     size_t nheaders, int fd, uint64_t len)
{
    if (r->responded) {
        fd_close(fd);
        return;
    }
    resp_begin(r, status, headers, nheaders, RESP_LENGTH, len);
    struct buf *head = &r->conn->server->head;
    uv_buf_t buf = uv_buf_init(head->data, (unsigned)head->len);
    conn_write(r->conn, &buf, 1, NULL);
    struct file_send *f = mem_zalloc(sizeof *f);
    f->server = r->conn->server;
    f->req = r;
    f->fd = fd;
    f->left = r->bare ? 0 : len;
    r->file = f;
    conn_kick(r->conn);
}
