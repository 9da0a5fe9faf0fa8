/* Packs: the contents of files one behind the other, compressed one by one. */
#include "sandbox/snapshot_impl.h"

#include "base/fd.h"

#include <errno.h>
#include <sodium.h>
#include <unistd.h>
#include <zstd.h>

enum { WAITING_MAX = 256 << 10, LEVEL = 1 };

static void hash_of(unsigned char out[SNAP_HASH], struct str bytes)
{
    crypto_generichash(out, SNAP_HASH, (const unsigned char *)bytes.ptr, bytes.len, NULL, 0);
}

/* ---- writing ---- */

void snap_packer_init(struct snap_packer *p, const struct blobs *b, struct snap_tree *t)
{
    *p = (struct snap_packer){.blobs = b,
                              .tree = t,
                              .waiting = BUF_INIT(WAITING_MAX + 2 * SNAP_WHOLE),
                              .scratch = BUF_INIT(2 * SNAP_WHOLE),
                              .zstd = ZSTD_createCCtx()};
}

void snap_packer_fini(struct snap_packer *p)
{
    blob_upload_close(p->upload);
    ZSTD_freeCCtx(p->zstd);
    buf_fini(&p->waiting);
    buf_fini(&p->scratch);
}

static int flush(struct snap_packer *p, struct err *err)
{
    int rc = blob_upload_add(p->upload, buf_view(&p->waiting), err);
    buf_clear(&p->waiting);
    return rc;
}

/* Its name is known when it is complete. */
static int begin(struct snap_packer *p, struct err *err)
{
    static const unsigned char unnamed[SNAP_HASH];
    static const char magic[] = "ostlerP1";
    int rc = blob_upload_open(p->blobs, &p->upload, err);
    if (rc)
        return rc;
    p->pack = snap_pack_add(p->tree, unnamed);
    buf_put(&p->waiting, magic, sizeof magic - 1);
    p->offset = sizeof magic - 1;
    return 0;
}

/* Compressed where that saves something. */
static struct str pack(struct snap_packer *p, struct str bytes)
{
    size_t cap = bytes.len - bytes.len / 16;
    buf_clear(&p->scratch);
    char *to = buf_reserve(&p->scratch, cap + 1);
    size_t n =
        !to || !p->zstd ? 0 : ZSTD_compressCCtx(p->zstd, to, cap, bytes.ptr, bytes.len, LEVEL);
    return n == 0 || ZSTD_isError(n) || n >= bytes.len ? bytes : str_n(to, n);
}

int snap_packer_put(struct snap_packer *p, struct str bytes, const struct snap_content **out,
                    struct err *err)
{
    unsigned char hash[SNAP_HASH];
    hash_of(hash, bytes);
    struct snap_content *c = snap_content_get(p->tree, hash);
    if (c) {
        *out = c;
        return 0;
    }
    int rc = p->upload ? 0 : begin(p, err);
    if (rc)
        return rc;
    c = snap_content_add(p->tree, hash);
    if (!c)
        return err_set(err, ERR_LIMIT, "there are too many files to keep");
    struct str stored = pack(p, bytes);
    c->pack = p->pack;
    c->offset = p->offset;
    c->len = (uint32_t)bytes.len;
    c->stored = (uint32_t)stored.len;
    p->offset += stored.len;
    buf_str(&p->waiting, stored);
    *out = c;
    return p->waiting.len >= WAITING_MAX ? flush(p, err) : 0;
}

int snap_packer_finish(struct snap_packer *p, struct snapshot_blob *out, struct err *err)
{
    int rc = flush(p, err);
    if (rc == 0)
        rc = blob_upload_finish(p->upload, &out->id, err);
    if (rc)
        return rc;
    sodium_hex2bin(p->tree->packs[p->pack].v, SNAP_HASH, out->id.z, BLOB_NAME_LEN, NULL, NULL,
                   NULL);
    out->size_bytes = blob_upload_size(p->upload);
    out->upload = TAKE_PTR(p->upload);
    return 0;
}

/* ---- reading ---- */

void snap_unpacker_init(struct snap_unpacker *u, const struct blobs *b, const struct snap_tree *t)
{
    *u = (struct snap_unpacker){
        .blobs = b, .tree = t, .stored = BUF_INIT(SNAP_WHOLE + 1), .zstd = ZSTD_createDCtx()};
    for (size_t i = 0; i < SNAP_OPEN_PACKS; i++)
        u->open[i].fd = -1;
}

void snap_unpacker_fini(struct snap_unpacker *u)
{
    for (size_t i = 0; i < SNAP_OPEN_PACKS; i++)
        fd_close(u->open[i].fd);
    ZSTD_freeDCtx(u->zstd);
    buf_fini(&u->stored);
}

static int corrupt(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "a pack of files is damaged: %s", what);
}

static int open_pack(struct snap_unpacker *u, uint32_t pack, int *fd, struct err *err)
{
    size_t slot = u->blobs ? pack % SNAP_OPEN_PACKS : 0;
    if (u->blobs && (u->open[slot].fd < 0 || u->open[slot].pack != pack)) {
        struct blob_id id;
        int64_t size;
        fd_close(u->open[slot].fd);
        u->open[slot].fd = -1;
        snap_pack_blob(&u->tree->packs[pack], &id);
        int rc = blob_open(u->blobs, str_z(id.z), &u->open[slot].fd, &size, err);
        if (rc)
            return rc == ERR_NOT_FOUND ? corrupt(err, "it is missing") : rc;
        u->open[slot].pack = pack;
    }
    *fd = u->open[slot].fd;
    return 0;
}

static int read_at(int fd, char *to, size_t n, uint64_t offset, struct err *err)
{
    for (size_t got = 0; got < n;) {
        ssize_t r = pread(fd, to + got, n - got, (off_t)(offset + got));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_sys(err, errno, "read a pack of files");
        if (r == 0)
            return corrupt(err, "it ends too early");
        got += (size_t)r;
    }
    return 0;
}

int snap_unpack(struct snap_unpacker *u, const struct snap_content *c, char *out, struct err *err)
{
    unsigned char hash[SNAP_HASH];
    bool packed = c->stored < c->len;
    int fd = -1;
    int rc = open_pack(u, c->pack, &fd, err);
    if (rc)
        return rc;
    buf_clear(&u->stored);
    char *to = packed ? buf_reserve(&u->stored, c->stored) : out;
    if (!to || (packed && !u->zstd))
        return err_set(err, ERR_LIMIT, "no memory to unpack a file");
    rc = read_at(fd, to, c->stored, c->offset, err);
    if (rc)
        return rc;
    if (packed && ZSTD_decompressDCtx(u->zstd, out, c->len, to, c->stored) != c->len)
        return corrupt(err, "a content cannot be unpacked");
    hash_of(hash, str_n(out, c->len));
    return memcmp(hash, c->hash, SNAP_HASH) == 0 ? 0 : corrupt(err, "a content has changed");
}
