/* Manifests: a tree as bytes, whole or as what changed since another one. */
#include "sandbox/snapshot_code.h"
#include "sandbox/snapshot_impl.h"

#include "base/fd.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <zstd.h>

enum { BODY_MAX = 512 << 20, BLOB_MAX = BODY_MAX, LEVEL = 1 };

static const char magic[SNAP_MAGIC] = {'o', 's', 't', 'l', 'e', 'r', 'M', '1'};

static int corrupt(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "a manifest of files is damaged: %s", what);
}

/* ---- reading ---- */

int snap_manifest_open(struct str bytes, struct buf *body, struct blob_id *base, struct err *err)
{
    if (bytes.len < SNAP_HEAD || memcmp(bytes.ptr, magic, SNAP_MAGIC) != 0)
        return corrupt(err, "it does not begin like one");
    uint64_t len = 0;
    for (size_t i = SNAP_HEAD; i-- > SNAP_MAGIC;)
        len = len << 8 | (unsigned char)bytes.ptr[i];
    struct str packed = str_skip(bytes, SNAP_HEAD);
    buf_clear(body);
    /* What zstd cannot possibly have made so small gets no memory. */
    char *to = len > BODY_MAX || len / 100000 > packed.len ? NULL : buf_reserve(body, len + 1);
    if (!to || ZSTD_decompress(to, len, packed.ptr, packed.len) != len)
        return corrupt(err, "its body cannot be unpacked");
    buf_commit(body, len);
    struct snap_reader r = snap_reader(buf_view(body));
    const unsigned char *name = snap_get_max(&r, 1) ? snap_get_bytes(&r, SNAP_HASH) : NULL;
    if (r.bad)
        return corrupt(err, "its base");
    base->z[0] = '\0';
    if (name)
        sodium_bin2hex(base->z, sizeof base->z, name, SNAP_HASH);
    return 0;
}

static void get_packs(struct snap_tree *t, struct snap_reader *r)
{
    size_t n = snap_get_max(r, snap_left(r) / SNAP_HASH);
    for (size_t i = 0; i < n && !r->bad; i++) {
        const unsigned char *name = snap_get_bytes(r, SNAP_HASH);
        if (name)
            snap_pack_add(t, name);
    }
    r->bad |= t->npacks > UINT32_MAX;
}

static void get_contents(struct snap_tree *t, struct snap_reader *r)
{
    size_t n = snap_get_max(r, snap_left(r) / SNAP_HASH);
    for (size_t i = 0; i < n && !r->bad; i++) {
        const unsigned char *hash = snap_get_bytes(r, SNAP_HASH);
        uint64_t pack = snap_get(r), offset = snap_get_max(r, INT64_MAX / 2);
        uint64_t len = snap_get_max(r, SNAP_WHOLE), stored = snap_get_max(r, len);
        struct snap_content *c = NULL;
        if (!r->bad && len && stored && pack < t->npacks)
            c = snap_content_add(t, hash);
        if (!c) {
            r->bad = true;
            return;
        }
        c->pack = (uint32_t)pack;
        c->offset = offset;
        c->len = (uint32_t)len;
        c->stored = (uint32_t)stored;
    }
}

/* The pieces are as long as the file says. */
static bool runs_fit(const struct snap_entry *e)
{
    uint64_t at = 0, size = (uint64_t)e->size;
    if (e->kind == SNAP_FILE && (e->size > SNAP_WHOLE || e->nruns > 1))
        return false;
    for (size_t i = 0; i < e->nruns; i++) {
        const struct snap_run *run = &e->runs[i];
        uint64_t piece = e->kind == SNAP_FILE ? SNAP_WHOLE : SNAP_PIECE;
        if (run->count == 0 || at >= size || run->count - 1 > (size - at - 1) / piece)
            return false;
        uint64_t last = at + (run->count - 1) * piece;
        if (run->content && ((run->count > 1 && run->content->len != piece) ||
                             run->content->len != snap_piece_len(e, last)))
            return false;
        at = last + snap_piece_len(e, last);
    }
    return at == size;
}

static void get_file(struct snap_tree *t, struct snap_reader *r, struct snap_entry *e)
{
    e->size = (int64_t)snap_get_max(r, INT64_MAX);
    size_t n = snap_get_max(r, snap_left(r) / 2);
    struct snap_run *runs = n ? ARENA_ARRAY(&t->arena, struct snap_run, n) : NULL;
    if (n && !runs)
        r->bad = true;
    for (size_t i = 0; i < n && !r->bad; i++) {
        uint64_t number = snap_get_max(r, t->ncontents);
        runs[i].content = number ? t->contents[number - 1] : NULL;
        runs[i].count = snap_get(r);
    }
    e->runs = runs;
    e->nruns = r->bad ? 0 : n;
    r->bad |= !runs_fit(e);
}

static bool path_fits(struct str path)
{
    struct str rest = path;
    size_t depth = 0;
    while (str_some(rest)) {
        struct str name = str_split(&rest, '/');
        if (name.len == 0 || name.len > 255 || str_eqz(name, ".") || str_eqz(name, "..") ||
            memchr(name.ptr, '\0', name.len) || ++depth > SNAP_DEPTH)
            return false;
    }
    return true;
}

static void get_symlink(struct snap_tree *t, struct snap_reader *r, struct snap_entry *e)
{
    size_t n = snap_get_max(r, SNAP_LINK);
    const unsigned char *p = snap_get_bytes(r, n);
    if (p)
        e->target = arena_str(&t->arena, str_n((const char *)p, n));
    e->size = (int64_t)n;
    r->bad |= !str_some(e->target) || n == 0 || memchr(e->target.ptr, '\0', n);
}

static void get_entry(struct snap_tree *t, struct snap_reader *r, struct str before,
                      struct snap_entry *e)
{
    *e = (struct snap_entry){.path = snap_get_path(r, before, &t->arena)};
    e->kind = (enum snap_kind)snap_get_max(r, SNAP_KINDS - 1);
    if (r->bad || !path_fits(e->path) || (before.len && snap_path_cmp(before, e->path) >= 0)) {
        r->bad = true;
        return;
    }
    if (e->kind == SNAP_REMOVED)
        return;
    e->mode = (unsigned)snap_get_max(r, 0777);
    e->mtime_ns = snap_get_signed(r);
    if (snap_is_file(e))
        get_file(t, r, e);
    else if (e->kind == SNAP_SYMLINK)
        get_symlink(t, r, e);
}

/* The changes merged into the tree's entries. */
static void get_changes(struct snap_tree *t, struct snap_reader *r, struct snap_entries *out)
{
    size_t n = snap_get_max(r, snap_left(r) / 3), at = 0;
    struct str before = STR("");
    for (size_t i = 0; i < n && !r->bad; i++) {
        struct snap_entry e;
        get_entry(t, r, before, &e);
        if (r->bad)
            return;
        before = e.path;
        int c = 1;
        while (at < t->entries.n && (c = snap_path_cmp(t->entries.v[at].path, e.path)) < 0)
            *snap_entries_add(out) = t->entries.v[at++];
        bool had = at < t->entries.n && c == 0;
        at += had;
        if (e.kind != SNAP_REMOVED)
            *snap_entries_add(out) = e;
        else if (!had)
            r->bad = true;
    }
    while (at < t->entries.n)
        *snap_entries_add(out) = t->entries.v[at++];
}

int snap_manifest_apply(struct snap_tree *t, struct str body, struct err *err)
{
    struct snap_reader r = snap_reader(body);
    bool based = snap_get_max(&r, 1);
    if (based)
        (void)snap_get_bytes(&r, SNAP_HASH);
    get_packs(t, &r);
    get_contents(t, &r);
    struct snap_entries merged = {0};
    if (!r.bad)
        get_changes(t, &r, &merged);
    mem_free(t->entries.v);
    t->entries = merged;
    uint64_t n = snap_get(&r);
    if (r.bad || snap_left(&r) || n != merged.n || !snap_entries_fit(&merged))
        return corrupt(err, t->arena.failed ? "it needs too much memory" : "its entries");
    t->chain++;
    if (based)
        t->delta_bytes += body.len;
    else
        t->full_bytes = body.len;
    return 0;
}

static int read_manifest(const struct blobs *b, struct str name, struct buf *body,
                         struct blob_id *base, struct err *err)
{
    AUTO_BUF struct buf bytes = BUF_INIT(BLOB_MAX);
    AUTO_FD int fd = -1;
    int64_t size;
    unsigned char sum[crypto_hash_sha256_BYTES];
    char hex[sizeof sum * 2 + 1];
    int rc = blob_open(b, name, &fd, &size, err);
    if (rc == ERR_NOT_FOUND || rc == ERR_INVALID)
        return corrupt(err, "it is missing");
    if (rc == 0)
        rc = fd_read_all(fd, &bytes, err);
    if (rc)
        return rc;
    crypto_hash_sha256(sum, (const unsigned char *)bytes.data, bytes.len);
    sodium_bin2hex(hex, sizeof hex, sum, sizeof sum);
    if (!str_eqz(name, hex))
        return corrupt(err, "its bytes are not those of its name");
    return snap_manifest_open(buf_view(&bytes), body, base, err);
}

int snap_manifest_load(const struct blobs *b, struct str name, struct snap_tree *t, struct err *err)
{
    struct buf bodies[SNAP_CHAIN];
    struct blob_id next;
    size_t n = 0;
    int rc = 0;
    if (!str_copyz(next.z, sizeof next.z, name) || !next.z[0])
        return corrupt(err, "it has no name");
    while (rc == 0 && next.z[0]) {
        struct blob_id this = next;
        if (n == SNAP_CHAIN) {
            rc = corrupt(err, "it refers to too many others");
            break;
        }
        bodies[n] = BUF_INIT(BODY_MAX + 1);
        rc = read_manifest(b, str_z(this.z), &bodies[n], &next, err);
        n++;
    }
    for (size_t i = n; rc == 0 && i-- > 0;)
        rc = snap_manifest_apply(t, buf_view(&bodies[i]), err);
    for (size_t i = 0; i < n; i++)
        buf_fini(&bodies[i]);
    return rc;
}

/* ---- writing ---- */

static void put_entry(struct buf *b, struct str before, const struct snap_entry *e)
{
    snap_put_path(b, before, e->path);
    snap_put(b, e->kind);
    if (e->kind == SNAP_REMOVED)
        return;
    snap_put(b, e->mode);
    snap_put_signed(b, e->mtime_ns);
    if (snap_is_file(e)) {
        snap_put(b, (uint64_t)e->size);
        snap_put(b, e->nruns);
        for (size_t i = 0; i < e->nruns; i++) {
            snap_put(b, e->runs[i].content ? e->runs[i].content->number + (uint64_t)1 : 0);
            snap_put(b, e->runs[i].count);
        }
    } else if (e->kind == SNAP_SYMLINK) {
        snap_put(b, e->target.len);
        buf_str(b, e->target);
    }
}

static void put_change(struct snap_change *c, struct buf *b, struct str *before,
                       const struct snap_entry *e, const struct snap_entry *old)
{
    put_entry(b, *before, e);
    *before = e->path;
    c->changes++;
    if (e->kind == SNAP_DIR || (e->kind == SNAP_REMOVED && old->kind == SNAP_DIR))
        return;
    c->changed_files++;
    c->changed_bytes += e->size;
}

static void put_changes(const struct snap_entries *old, struct snap_change *c, struct buf *b)
{
    struct str before = STR("");
    size_t i = 0, j = 0;
    while (i < old->n || j < c->now->n) {
        const struct snap_entry *was = i < old->n ? &old->v[i] : NULL;
        const struct snap_entry *is = j < c->now->n ? &c->now->v[j] : NULL;
        int order = !was ? 1 : !is ? -1 : snap_path_cmp(was->path, is->path);
        if (order < 0)
            put_change(c, b, &before, &(struct snap_entry){.kind = SNAP_REMOVED, .path = was->path},
                       was);
        else if (order > 0 || !snap_same(was, is))
            put_change(c, b, &before, is, was);
        i += order <= 0;
        j += order >= 0;
    }
}

void snap_manifest_write(struct snap_tree *t, struct snap_change *c, struct buf *body)
{
    AUTO_BUF struct buf changes = BUF_INIT(BODY_MAX);
    unsigned char base[SNAP_HASH] = {0};
    static const struct snap_entries none = {0};
    snap_put(body, c->base != NULL);
    if (c->base) {
        sodium_hex2bin(base, sizeof base, c->base, strlen(c->base), NULL, NULL, NULL);
        buf_put(body, base, sizeof base);
    }
    snap_put(body, t->npacks - c->old_packs);
    for (size_t i = c->old_packs; i < t->npacks; i++)
        buf_put(body, t->packs[i].v, SNAP_HASH);
    snap_put(body, t->ncontents - c->old_contents);
    for (size_t i = c->old_contents; i < t->ncontents; i++) {
        const struct snap_content *x = t->contents[i];
        buf_put(body, x->hash, SNAP_HASH);
        snap_put(body, x->pack);
        snap_put(body, x->offset);
        snap_put(body, x->len);
        snap_put(body, x->stored);
    }
    put_changes(c->base ? &t->entries : &none, c, &changes);
    snap_put(body, c->changes);
    buf_str(body, buf_view(&changes));
    snap_put(body, c->now->n);
    body->failed |= changes.failed;
}

/* Packs keep their order; contents come in that of the files. */
void snap_manifest_compact(struct snap_tree *t, const struct snap_entries *now)
{
    size_t n = 0, packs = 0;
    struct snap_content **kept = mem_alloc((t->ncontents + 1) * sizeof(struct snap_content *));
    uint32_t *number = mem_zalloc((t->npacks + 1) * sizeof *number);
    for (size_t i = 0; i < t->ncontents; i++)
        t->contents[i]->number = UINT32_MAX;
    for (size_t i = 0; i < now->n; i++)
        for (size_t k = 0; k < now->v[i].nruns; k++) {
            const struct snap_content *c = now->v[i].runs[k].content;
            struct snap_content *own = c ? snap_content_get(t, c->hash) : NULL;
            if (!own || own->number != UINT32_MAX)
                continue;
            own->number = (uint32_t)n;
            kept[n++] = own;
            number[own->pack] = 1;
        }
    for (size_t i = 0; i < t->npacks; i++)
        if (number[i]) {
            t->packs[packs] = t->packs[i];
            number[i] = (uint32_t)packs++;
        }
    for (size_t i = 0; i < n; i++)
        kept[i]->pack = number[kept[i]->pack];
    mem_free(number);
    mem_free(t->contents);
    t->contents = kept;
    t->ncontents = n;
    t->contents_cap = n + 1;
    t->npacks = packs;
}

int snap_manifest_close(struct str body, struct buf *out, struct err *err)
{
    size_t bound = ZSTD_compressBound(body.len);
    buf_put(out, magic, SNAP_MAGIC);
    for (unsigned shift = 0; shift < 64; shift += 8)
        buf_ch(out, (char)((uint64_t)body.len >> shift));
    char *to = buf_reserve(out, bound);
    size_t n = to ? ZSTD_compress(to, bound, body.ptr, body.len, LEVEL) : 0;
    if (!to || ZSTD_isError(n))
        return err_set(err, ERR_LIMIT, "a list of files became too long");
    buf_commit(out, n);
    return 0;
}
