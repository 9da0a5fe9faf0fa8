/* Manifests and packs of any bytes. What is taken for a manifest is one that fits together: written
 * again and read again it is the same, and it is restored, or refused as damaged.
 *
 *   'o' and a whole manifest, as it is kept; or
 *   't', length of a body (2 bytes), the body, length of one on top of it, that body, a pack */
#include "sandbox/snapshot_code.h"
#include "sandbox/snapshot_impl.h"
#include "sandbox/tree.h"

#include "base/fd.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { RESTORE_BYTES = 256 << 10, RESTORE_ENTRIES = 100 };

static void must(bool ok)
{
    if (!ok)
        abort();
}

static bool apply(struct snap_tree *t, struct str body)
{
    struct err err = {0};
    int rc = snap_manifest_apply(t, body, &err);
    must(rc == 0 || (rc == ERR_CORRUPT && err.msg[0]));
    must(rc != 0 || snap_entries_fit(&t->entries));
    return rc == 0;
}

static void must_be_the_same_again(struct snap_tree *t)
{
    struct snap_tree again;
    AUTO_BUF struct buf body = BUF_INIT(64 << 20);
    struct snap_change all = {.now = &t->entries};
    snap_manifest_compact(t, &t->entries);
    snap_manifest_write(t, &all, &body);
    must(buf_ok(&body) && all.changes == t->entries.n);
    snap_tree_init(&again);
    must(apply(&again, buf_view(&body)));
    must(again.entries.n == t->entries.n && again.ncontents == t->ncontents);
    for (size_t i = 0; i < again.entries.n; i++) {
        const struct snap_entry *a = &again.entries.v[i], *b = &t->entries.v[i];
        must(str_eq(a->path, b->path) && a->kind == b->kind && a->mode == b->mode &&
             a->mtime_ns == b->mtime_ns && a->size == b->size && a->nruns == b->nruns);
    }
    snap_tree_fini(&again);
}

static bool is_small(const struct snap_tree *t)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < t->entries.n && bytes < RESTORE_BYTES; i++)
        bytes += t->entries.v[i].size < RESTORE_BYTES ? t->entries.v[i].size : RESTORE_BYTES;
    return t->entries.n < RESTORE_ENTRIES && bytes < RESTORE_BYTES;
}

static void restore(const struct snap_tree *t, struct str pack)
{
    char dir[] = "/tmp/ostler-fuzz-XXXXXX";
    struct snap_unpacker u;
    struct err err = {0};
    int fd = memfd_create("pack", MFD_CLOEXEC);
    must(fd >= 0 && mkdtemp(dir) && fd_write_all(fd, pack, NULL) == 0);
    snap_unpacker_init(&u, NULL, t);
    u.open[0].fd = fd;
    int rc = snap_restore_tree(t, &u, dir, 0, &err);
    must(rc == 0 || ((rc == ERR_CORRUPT || rc == ERR_IO) && err.msg[0]));
    snap_unpacker_fini(&u);
    must(tree_remove(dir, &err) == 0);
}

static struct str take(struct str *rest)
{
    size_t n = rest->len < 2
                   ? 0
                   : (size_t)(unsigned char)rest->ptr[0] | (size_t)(unsigned char)rest->ptr[1] << 8;
    *rest = str_skip(*rest, 2);
    struct str out = str_take(*rest, n);
    *rest = str_skip(*rest, n);
    return out;
}

static void try_trees(struct str rest)
{
    struct snap_tree t;
    struct str full = take(&rest), change = take(&rest);
    snap_tree_init(&t);
    if (apply(&t, full) && (change.len == 0 || apply(&t, change))) {
        must_be_the_same_again(&t);
        if (is_small(&t))
            restore(&t, rest);
    }
    snap_tree_fini(&t);
}

static void try_manifest(struct str bytes)
{
    AUTO_BUF struct buf body = BUF_INIT(64 << 20);
    struct blob_id base;
    struct snap_tree t;
    struct err err = {0};
    int rc = snap_manifest_open(bytes, &body, &base, &err);
    must(rc == 0 || (rc == ERR_CORRUPT && err.msg[0]));
    snap_tree_init(&t);
    if (rc == 0)
        (void)!apply(&t, buf_view(&body));
    snap_tree_fini(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    struct str rest = str_n((const char *)data + 1, len - 1);
    if (data[0] == 'o')
        try_manifest(rest);
    else
        try_trees(rest);
    return 0;
}
