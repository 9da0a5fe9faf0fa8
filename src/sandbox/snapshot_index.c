/* The index of a directory: which files were seen with which contents, so that those that nobody
 * touched are not read again. A file is the same when its size, times and inode are. A file that
 * was changed in the very moment in which it was read may have been changed again within one tick
 * of the clock, without a trace: it is left out, and read the next time (as git does). After
 * another boot nothing is believed: a crash may have left older contents under newer times.
 *
 *   "ostlerI1", BLAKE2b of the rest, boot id, number of files and of runs, files */
#include "sandbox/snapshot_code.h"
#include "sandbox/snapshot_impl.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    INDEX_MAX = 512 << 20,
    INDEX_ARENA = 1 << 30,
    BOOT_ID = 36,
};
/* For a clock that ticks every 10 ms at least, and for file systems that know (even) seconds only.
 */
static const int64_t race_ns = 50 * 1000000, coarse_ns = 2050 * (int64_t)1000000;

static const char magic[SNAP_MAGIC] = {'o', 's', 't', 'l', 'e', 'r', 'I', '1'};

int64_t snap_time_ns(struct timespec t)
{
    int64_t ns;
    if (__builtin_mul_overflow((int64_t)t.tv_sec, 1000000000, &ns) ||
        __builtin_add_overflow(ns, t.tv_nsec, &ns))
        return t.tv_sec < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

static void boot_id(char out[BOOT_ID])
{
    AUTO_BUF struct buf b = BUF_INIT(256);
    memset(out, '-', BOOT_ID);
    if (fd_read_file("/proc/sys/kernel/random/boot_id", &b, NULL) == 0 && b.len >= BOOT_ID)
        memcpy(out, b.data, BOOT_ID);
}

/* ---- reading ---- */

static void get_runs(struct snap_index *x, struct snap_reader *r, struct snap_seen *s, size_t cap)
{
    s->first = x->nruns;
    s->nruns = snap_get_max(r, cap - x->nruns);
    for (size_t i = 0; i < s->nruns && !r->bad; i++) {
        struct snap_seen_run *run = &x->runs[x->nruns++];
        run->count = snap_get(r);
        run->hash = snap_get_max(r, 1) ? snap_get_bytes(r, SNAP_HASH) : NULL;
    }
}

static void get_files(struct snap_index *x, struct snap_reader *r)
{
    size_t n = snap_get_max(r, snap_left(r) / 8), nruns = snap_get_max(r, snap_left(r) / 2);
    x->seen = ARENA_ARRAY(&x->arena, struct snap_seen, n + 1);
    x->runs = ARENA_ARRAY(&x->arena, struct snap_seen_run, nruns + 1);
    if (!x->seen || !x->runs)
        r->bad = true;
    struct str before = STR("");
    for (size_t i = 0; i < n && !r->bad; i++) {
        struct snap_seen *s = &x->seen[i];
        s->path = before = snap_get_path(r, before, &x->arena);
        s->cut = snap_get_max(r, 1);
        s->inode = snap_get(r);
        s->size = snap_get_signed(r);
        s->mtime_ns = snap_get_signed(r);
        s->ctime_ns = snap_get_signed(r);
        get_runs(x, r, s, nruns);
        x->n++;
    }
}

void snap_index_read(struct snap_index *x, const char *path)
{
    char boot[BOOT_ID];
    unsigned char sum[SNAP_HASH];
    *x = (struct snap_index){.bytes = BUF_INIT(INDEX_MAX)};
    arena_init(&x->arena, INDEX_ARENA);
    if (!path || fd_read_file(path, &x->bytes, NULL) != 0)
        return;
    struct snap_reader r = snap_reader(buf_view(&x->bytes));
    const unsigned char *head = snap_get_bytes(&r, SNAP_MAGIC);
    const unsigned char *want = snap_get_bytes(&r, SNAP_HASH);
    if (r.bad || memcmp(head, magic, SNAP_MAGIC) != 0)
        return;
    crypto_generichash(sum, sizeof sum, r.at, snap_left(&r), NULL, 0);
    const unsigned char *of = snap_get_bytes(&r, BOOT_ID);
    boot_id(boot);
    if (r.bad || memcmp(sum, want, sizeof sum) != 0 || memcmp(of, boot, BOOT_ID) != 0)
        return;
    get_files(x, &r);
    if (r.bad)
        x->n = 0;
}

void snap_index_fini(struct snap_index *x)
{
    buf_fini(&x->bytes);
    arena_fini(&x->arena);
}

const struct snap_seen *snap_index_next(struct snap_index *x, struct str path)
{
    int c = 1;
    while (x->at < x->n && (c = snap_path_cmp(x->seen[x->at].path, path)) < 0)
        x->at++;
    return x->at < x->n && c == 0 ? &x->seen[x->at++] : NULL;
}

bool snap_index_same(const struct snap_seen *s, const struct stat *st)
{
    return s->size == st->st_size && s->inode == st->st_ino &&
           s->mtime_ns == snap_time_ns(st->st_mtim) && s->ctime_ns == snap_time_ns(st->st_ctim);
}

/* ---- writing ---- */

bool snap_index_racy(const struct stat *st)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    int64_t slack = st->st_ctim.tv_nsec == 0 ? coarse_ns : race_ns;
    return snap_time_ns(st->st_ctim) > snap_time_ns(now) - slack;
}

void snap_index_add(struct snap_index_writer *w, const struct snap_entry *e, const struct stat *st)
{
    snap_put_path(&w->body, w->last, e->path);
    w->last = e->path;
    snap_put(&w->body, e->kind == SNAP_CUT_FILE);
    snap_put(&w->body, st->st_ino);
    snap_put_signed(&w->body, st->st_size);
    snap_put_signed(&w->body, snap_time_ns(st->st_mtim));
    snap_put_signed(&w->body, snap_time_ns(st->st_ctim));
    snap_put(&w->body, e->nruns);
    for (size_t i = 0; i < e->nruns; i++) {
        const struct snap_content *c = e->runs[i].content;
        snap_put(&w->body, e->runs[i].count);
        snap_put(&w->body, c != NULL);
        if (c)
            buf_put(&w->body, c->hash, SNAP_HASH);
    }
    w->n++;
    w->nruns += e->nruns;
}

static bool write_parts(int fd, const struct snap_index_writer *w)
{
    char boot[BOOT_ID];
    unsigned char sum[SNAP_HASH];
    AUTO_BUF struct buf head = BUF_INIT(256);
    crypto_generichash_state state;
    boot_id(boot);
    buf_put(&head, boot, BOOT_ID);
    snap_put(&head, w->n);
    snap_put(&head, w->nruns);
    crypto_generichash_init(&state, NULL, 0, SNAP_HASH);
    crypto_generichash_update(&state, (const unsigned char *)head.data, head.len);
    crypto_generichash_update(&state, (const unsigned char *)w->body.data, w->body.len);
    crypto_generichash_final(&state, sum, sizeof sum);
    return fd_write_all(fd, str_n(magic, SNAP_MAGIC), NULL) == 0 &&
           fd_write_all(fd, str_n((const char *)sum, sizeof sum), NULL) == 0 &&
           fd_write_all(fd, buf_view(&head), NULL) == 0 &&
           fd_write_all(fd, buf_view(&w->body), NULL) == 0;
}

void snap_index_write(const struct snap_index_writer *w, const char *path)
{
    char tmp[PATH_MAX];
    if (!path || !buf_ok(&w->body) || snprintf(tmp, sizeof tmp, "%s.new", path) >= (int)sizeof tmp)
        return;
    unlink(tmp);
    AUTO_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (!write_parts(fd, w) || rename(tmp, path) < 0)
        unlink(tmp);
}
