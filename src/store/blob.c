#include "store/blob.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/rand.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 64 * 1024, TMP_MAX_LEN = 32 };
#define TMP_PREFIX "tmp."

/* ---- opening ---- */

static int sync_dir(int at, const char *name, struct err *err)
{
    AUTO_FD int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return err_sys(err, errno, "fsync the directory '%s'", name);
    return 0;
}

static int upload_lock(int fd, int how)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, how, &fl) == 0 ? fl.l_type : -1;
}

/* Another process may be uploading. */
static bool is_abandoned(int dir, const char *name)
{
    AUTO_FD int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return fd < 0 || upload_lock(fd, F_OFD_GETLK) == F_UNLCK;
}

static void remove_temporaries(int dir)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    if (!d) {
        fd_close(copy);
        return;
    }
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (str_starts(str_z(e->d_name), STR(TMP_PREFIX)) && is_abandoned(dir, e->d_name))
            unlinkat(dir, e->d_name, 0);
    closedir(d);
}

int blobs_open(struct blobs *b, const char *data_dir, struct err *err)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/blobs", data_dir);
    if (n < 0 || n >= (int)sizeof path)
        return err_set(err, ERR_INVALID, "the path of the data directory is too long");
    if (sodium_init() < 0)
        return err_set(err, ERR_INTERNAL, "libsodium cannot be initialised");
    int rc = fd_mkdirs(path, 0700, err);
    if (rc)
        return rc;
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(err, errno, "%s", path);
    remove_temporaries(dir);
    b->dir = dir;
    b->shard_durable = mem_zalloc((BLOB_SHARDS + 1) * sizeof *b->shard_durable);
    return 0;
}

void blobs_close(struct blobs *b)
{
    fd_close(b->dir);
    b->dir = -1;
    mem_free(b->shard_durable);
    b->shard_durable = NULL;
}

/* ---- writing ---- */

/* A blob on its way in: hashed while it is written to a temporary. */
struct blob_upload {
    const struct blobs *blobs;
    int fd;
    char tmp[TMP_MAX_LEN]; /* empty: it has no temporary name any more */
    crypto_hash_sha256_state hash;
    int64_t size;
    struct blob_id id; /* when finished */
};

int blob_upload_open(const struct blobs *b, struct blob_upload **out, struct err *err)
{
    char tmp[TMP_MAX_LEN];
    snprintf(tmp, sizeof tmp, TMP_PREFIX "%016" PRIx64, rand_u64());
    int fd = openat(b->dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, errno, "create a blob");
    (void)upload_lock(fd, F_OFD_SETLK); /* a file system without locks has no second process */
    struct blob_upload *u = mem_zalloc(sizeof *u);
    u->blobs = b;
    u->fd = fd;
    memcpy(u->tmp, tmp, sizeof tmp);
    crypto_hash_sha256_init(&u->hash);
    *out = u;
    return 0;
}

int blob_upload_add(struct blob_upload *u, struct str data, struct err *err)
{
    if (data.len == 0)
        return 0;
    crypto_hash_sha256_update(&u->hash, (const unsigned char *)data.ptr, data.len);
    u->size += (int64_t)data.len;
    int rc = fd_write_all(u->fd, data, err);
    return rc ? err_wrap(err, "write a blob") : 0;
}

int64_t blob_upload_size(const struct blob_upload *u)
{
    return u->size;
}

static int add_from_fd(struct blob_upload *u, int fd, int64_t max_bytes, struct err *err)
{
    char chunk[CHUNK];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "read what becomes a blob");
        if (n == 0)
            return 0;
        if (n > max_bytes - u->size)
            return err_set(err, ERR_TOO_LARGE, "more than %" PRId64 " bytes", max_bytes);
        int rc = blob_upload_add(u, str_n(chunk, (size_t)n), err);
        if (rc)
            return rc;
    }
}

/* "ab" and "ab/cdef...": both relative to the blob directory. */
static void blob_path(const char *id, char shard[3], char path[BLOB_NAME_LEN + 2])
{
    snprintf(shard, 3, "%.2s", id);
    snprintf(path, BLOB_NAME_LEN + 2, "%.2s/%s", id, id + 2);
}

static bool no_links(int sys)
{
    return sys == EPERM || sys == EOPNOTSUPP || sys == EMLINK || sys == ENOSYS;
}

/* Also a directory that was there already: whoever made it may have failed to sync it. Not at
 * start, which it would hold up. */
static int sync_once(int at, const char *name, atomic_bool *durable, struct err *err)
{
    if (atomic_load(durable))
        return 0;
    int rc = sync_dir(at, name, err);
    if (rc == 0)
        atomic_store(durable, true);
    return rc;
}

/* A second name beside the temporary one. An equal blob that is there already is as good. */
static int give_name(struct blob_upload *u, struct err *err)
{
    char shard[3], path[BLOB_NAME_LEN + 2];
    int dir = u->blobs->dir;
    blob_path(u->id.z, shard, path);
    atomic_bool *durable = &u->blobs->shard_durable[strtoul(shard, NULL, 16)];
    if (mkdirat(dir, shard, 0700) < 0 && errno != EEXIST)
        return err_sys(err, errno, "create the blob directory '%s'", shard);
    int rc = sync_once(dir, "..", &u->blobs->shard_durable[BLOB_SHARDS], err);
    if (rc == 0)
        rc = sync_once(dir, ".", durable, err);
    if (rc)
        return rc;
    if (linkat(dir, u->tmp, dir, path, 0) < 0 && errno != EEXIST) {
        if (!no_links(errno) || renameat(dir, u->tmp, dir, path) < 0)
            return err_sys(err, errno, "name a blob");
        u->tmp[0] = '\0';
    }
    return sync_dir(dir, shard, err); /* also for a name that another thread gave just now */
}

int blob_upload_finish(struct blob_upload *u, struct blob_id *out, struct err *err)
{
    unsigned char sum[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(&u->hash, sum);
    sodium_bin2hex(u->id.z, sizeof u->id.z, sum, sizeof sum);
    if (fsync(u->fd) < 0)
        return err_sys(err, errno, "fsync a blob");
    int rc = give_name(u, err);
    if (rc == 0)
        *out = u->id;
    return rc;
}

int blob_upload_settle(struct blob_upload *u, struct err *err)
{
    char shard[3], path[BLOB_NAME_LEN + 2];
    blob_path(u->id.z, shard, path);
    if (faccessat(u->blobs->dir, path, F_OK, 0) == 0)
        return 0;
    if (errno != ENOENT)
        return err_sys(err, errno, "look for a blob");
    if (!u->tmp[0])
        return err_set(err, ERR_UNAVAILABLE, "the content was removed meanwhile; send it again");
    return give_name(u, err);
}

void blob_upload_close(struct blob_upload *u)
{
    if (!u)
        return;
    fd_close(u->fd);
    if (u->tmp[0])
        unlinkat(u->blobs->dir, u->tmp, 0);
    mem_free(u);
}

int blob_put(const struct blobs *b, struct str data, struct blob_id *out, struct err *err)
{
    struct blob_upload *u;
    int rc = blob_upload_open(b, &u, err);
    if (rc)
        return rc;
    rc = blob_upload_add(u, data, err);
    if (rc == 0)
        rc = blob_upload_finish(u, out, err);
    blob_upload_close(u);
    return rc;
}

int blob_put_fd(const struct blobs *b, int fd, int64_t max_bytes, struct blob_id *out,
                int64_t *size, struct err *err)
{
    struct blob_upload *u;
    int rc = blob_upload_open(b, &u, err);
    if (rc)
        return rc;
    rc = add_from_fd(u, fd, max_bytes, err);
    if (rc == 0)
        rc = blob_upload_finish(u, out, err);
    if (rc == 0 && size)
        *size = u->size;
    blob_upload_close(u);
    return rc;
}

/* ---- reading and removing ---- */

/* Nothing but 64 hex digits ever becomes part of a path. */
static int parse_id(struct str id, char path[BLOB_NAME_LEN + 2], struct err *err)
{
    struct blob_id copy;
    char shard[3];
    bool ok = id.len == BLOB_NAME_LEN && str_copyz(copy.z, sizeof copy.z, id) &&
              strspn(copy.z, "0123456789abcdef") == BLOB_NAME_LEN;
    if (!ok)
        return err_set(err, ERR_INVALID, "not a blob name: 64 lower-case hex digits are expected");
    blob_path(copy.z, shard, path);
    return 0;
}

int blob_open(const struct blobs *b, struct str id, int *fd, int64_t *size, struct err *err)
{
    char path[BLOB_NAME_LEN + 2];
    struct stat st;
    int rc = parse_id(id, path, err);
    if (rc)
        return rc;
    AUTO_FD int f = openat(b->dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (f < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "no blob '" STR_FMT "'", STR_ARG(id));
    if (f < 0 || fstat(f, &st) < 0)
        return err_sys(err, errno, "open blob '" STR_FMT "'", STR_ARG(id));
    *size = st.st_size;
    *fd = TAKE_FD(f);
    return 0;
}

int blob_unlink(const struct blobs *b, struct str id, struct err *err)
{
    char path[BLOB_NAME_LEN + 2];
    int rc = parse_id(id, path, err);
    if (rc)
        return rc;
    if (unlinkat(b->dir, path, 0) == 0)
        return 0;
    if (errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "no blob '" STR_FMT "'", STR_ARG(id));
    return err_sys(err, errno, "remove blob '" STR_FMT "'", STR_ARG(id));
}

/* The name of a retired blob: a temporary, which the next start removes should this one not. */
static void trash_name(struct str id, char out[sizeof TMP_PREFIX + BLOB_NAME_LEN])
{
    snprintf(out, sizeof TMP_PREFIX + BLOB_NAME_LEN, TMP_PREFIX "%.*s", BLOB_NAME_LEN, id.ptr);
}

int blob_retire(const struct blobs *b, struct str id, struct err *err)
{
    char path[BLOB_NAME_LEN + 2], trash[sizeof TMP_PREFIX + BLOB_NAME_LEN];
    int rc = parse_id(id, path, err);
    if (rc)
        return rc;
    trash_name(id, trash);
    if (renameat(b->dir, path, b->dir, trash) == 0)
        return 0;
    if (errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "no blob '" STR_FMT "'", STR_ARG(id));
    return err_sys(err, errno, "retire blob '" STR_FMT "'", STR_ARG(id));
}

void blob_discard(const struct blobs *b, struct str id)
{
    char trash[sizeof TMP_PREFIX + BLOB_NAME_LEN];
    if (id.len != BLOB_NAME_LEN)
        return;
    trash_name(id, trash);
    unlinkat(b->dir, trash, 0);
}

int blob_list(const struct blobs *b, unsigned shard, struct arena *a, struct blob_id **out,
              size_t *n, struct err *err)
{
    char name[3];
    AUTO_BUF struct buf found = BUF_INIT(SIZE_MAX / 4);
    snprintf(name, sizeof name, "%02x", shard % BLOB_SHARDS);
    AUTO_FD int fd = openat(b->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d && errno != ENOENT)
        return err_sys(err, errno, "read the blob directory '%s'", name);
    if (d)
        fd = -1; /* closed with d */
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        struct blob_id id;
        char path[BLOB_NAME_LEN + 2];
        int len = snprintf(id.z, sizeof id.z, "%s%s", name, e->d_name);
        if (len == BLOB_NAME_LEN && parse_id(str_z(id.z), path, NULL) == 0)
            buf_put(&found, &id, sizeof id);
    }
    if (d)
        closedir(d);
    void *copy = arena_alloc(a, found.len);
    if (!copy)
        return err_set(err, ERR_LIMIT, "too many blobs in directory '%s'", name);
    if (found.len)
        memcpy(copy, found.data, found.len);
    *out = copy;
    *n = found.len / sizeof(struct blob_id);
    return 0;
}
