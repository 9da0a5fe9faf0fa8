/* Taking a snapshot: the walk, a pack of what is new, a manifest. */
#include "sandbox/snapshot_impl.h"

#include "base/fd.h"

struct taking {
    const struct snapshot_how *how;
    struct snap_tree tree; /* of the one before, with what is new */
    struct snap_packer packer;
    struct snap_walk walk;
    const char *base; /* what `tree` was read from; NULL: it was empty */
    size_t old_packs, old_contents;
};

static bool packs_are_there(const struct blobs *b, const struct snap_tree *t)
{
    for (size_t i = 0; i < t->npacks; i++) {
        AUTO_FD int fd = -1;
        struct blob_id id;
        int64_t size;
        snap_pack_blob(&t->packs[i], &id);
        if (blob_open(b, str_z(id.z), &fd, &size, NULL) != 0)
            return false;
    }
    return true;
}

/* What is damaged is no base: then everything is read and kept anew. */
static int load_previous(struct taking *t, struct err *err)
{
    if (!t->how->previous)
        return 0;
    int rc = snap_manifest_load(t->how->blobs, str_z(t->how->previous), &t->tree, err);
    if (rc && rc != ERR_CORRUPT)
        return rc;
    if (rc == 0 && packs_are_there(t->how->blobs, &t->tree)) {
        t->base = t->how->previous;
        t->old_packs = t->tree.npacks;
        t->old_contents = t->tree.ncontents;
        return 0;
    }
    snap_tree_fini(&t->tree);
    snap_tree_init(&t->tree);
    return 0;
}

/* Changes of the manifest before, as long as they are few beside what they change. */
static bool worth_a_change(const struct taking *t, size_t len)
{
    return t->tree.chain < SNAP_CHAIN && (t->tree.delta_bytes + len) * 2 <= t->tree.full_bytes;
}

static int write_blob(struct taking *t, struct str bytes, struct snapshot *out, struct err *err)
{
    struct blob_upload *u;
    int rc = blob_upload_open(t->how->blobs, &u, err);
    if (rc)
        return rc;
    rc = blob_upload_add(u, bytes, err);
    if (rc == 0)
        rc = blob_upload_finish(u, &out->manifest, err);
    if (rc) {
        blob_upload_close(u);
        return rc;
    }
    out->blobs[out->nblobs++] =
        (struct snapshot_blob){.id = out->manifest, .size_bytes = blob_upload_size(u), .upload = u};
    return 0;
}

static void unchanged(struct taking *t, struct snapshot *out)
{
    snapshot_fini(out);
    (void)str_copyz(out->manifest.z, sizeof out->manifest.z, str_z(t->base));
}

static int write_manifest(struct taking *t, struct snapshot *out, struct err *err)
{
    AUTO_BUF struct buf body = BUF_INIT(SIZE_MAX / 4);
    AUTO_BUF struct buf bytes = BUF_INIT(SIZE_MAX / 4);
    struct snap_change c = {.old_packs = t->old_packs,
                            .old_contents = t->old_contents,
                            .base = t->base,
                            .now = &t->walk.now};
    snap_manifest_write(&t->tree, &c, &body);
    out->changed_files = c.changed_files;
    out->changed_bytes = c.changed_bytes;
    if (t->base && c.changes == 0) {
        unchanged(t, out);
        return 0;
    }
    if (t->base && !worth_a_change(t, body.len)) {
        struct snap_change all = {.now = &t->walk.now};
        snap_manifest_compact(&t->tree, &t->walk.now);
        buf_clear(&body);
        snap_manifest_write(&t->tree, &all, &body);
    }
    if (!buf_ok(&body))
        return err_set(err, ERR_LIMIT, "there are too many files to keep");
    int rc = snap_manifest_close(buf_view(&body), &bytes, err);
    return rc ? rc : write_blob(t, buf_view(&bytes), out, err);
}

static int take(struct taking *t, struct snapshot *out, struct err *err)
{
    int rc = load_previous(t, err);
    if (rc == 0)
        rc = snap_walk(&t->walk, err);
    if (rc)
        return rc;
    out->files = t->walk.files;
    out->size_bytes = t->walk.size_bytes;
    if (t->packer.upload) {
        rc = snap_packer_finish(&t->packer, &out->blobs[0], err);
        out->nblobs += rc == 0;
    }
    if (rc == 0)
        rc = write_manifest(t, out, err);
    for (size_t i = 0; i < out->nblobs; i++)
        out->stored_bytes += out->blobs[i].size_bytes;
    out->moved = rc == 0 && snap_walk_moved(&t->walk);
    return rc;
}

int snapshot_take(const struct snapshot_how *how, struct snapshot *out, struct err *err)
{
    struct taking t = {.how = how};
    *out = (struct snapshot){0};
    snap_tree_init(&t.tree);
    snap_packer_init(&t.packer, how->blobs, &t.tree);
    t.walk = (struct snap_walk){.how = how, .tree = &t.tree, .packer = &t.packer};
    t.walk.index.body = BUF_INIT((size_t)512 << 20);
    snap_index_read(&t.walk.seen, how->index);
    int rc = take(&t, out, err);
    if (rc == 0)
        snap_index_write(&t.walk.index, how->index);
    else
        snapshot_fini(out);
    mem_free(t.walk.now.v);
    buf_fini(&t.walk.index.body);
    snap_index_fini(&t.walk.seen);
    snap_packer_fini(&t.packer);
    snap_tree_fini(&t.tree);
    return rc;
}

void snapshot_fini(struct snapshot *s)
{
    for (size_t i = 0; i < s->nblobs; i++)
        blob_upload_close(s->blobs[i].upload);
    s->nblobs = 0;
}
