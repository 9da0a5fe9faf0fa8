/* snapshot_impl: what the parts of snapshot.h share; internal to sandbox/snapshot*.c.
 *
 * A tree in memory is a sorted list of entries, whose contents are shared. Paths are relative to
 * the session's directory ("workspace/a/b") and sorted so that a directory is followed by all that
 * is below it: '/' comes before every other byte. One thread has a tree; worker threads.
 */
#ifndef OSTLER_SANDBOX_SNAPSHOT_IMPL_H
#define OSTLER_SANDBOX_SNAPSHOT_IMPL_H

#include "base/buf.h"
#include "base/map.h"
#include "sandbox/snapshot.h"

#include <sys/stat.h>

enum {
    SNAP_HASH = 32,       /* BLAKE2b of a content; also the length of a blob's name in bytes */
    SNAP_WHOLE = 4 << 20, /* what is larger is cut ... */
    SNAP_PIECE = 1 << 20, /* ... into these */
    SNAP_DEPTH = 256,     /* names in a path; a walk has a descriptor for each */
    SNAP_LINK = 4095,
    SNAP_CHAIN = 16, /* manifests that refer to one another */
};

/* Bytes that are kept once: a whole file or a piece of one. `stored` < `len`: compressed. */
struct snap_content {
    unsigned char hash[SNAP_HASH];
    uint32_t pack, number; /* of the tree's packs; in the tree's contents */
    uint64_t offset;
    uint32_t stored, len;
};

/* Pieces of a file that follow one another and are the same. */
struct snap_run {
    const struct snap_content *content; /* NULL: zeros */
    uint64_t count;
};

enum snap_kind { SNAP_REMOVED, SNAP_FILE, SNAP_CUT_FILE, SNAP_DIR, SNAP_SYMLINK, SNAP_KINDS };

struct snap_entry {
    struct str path;
    enum snap_kind kind; /* SNAP_REMOVED: in a change only */
    unsigned mode;       /* 0777 at most */
    int64_t mtime_ns, size;
    const struct snap_run *runs; /* of files; none of an empty one */
    size_t nruns;
    struct str target; /* of symbolic links */
};

struct snap_entries {
    struct snap_entry *v;
    size_t n, cap;
};

struct snap_pack_name {
    unsigned char v[SNAP_HASH];
};

struct snap_tree {
    struct arena arena; /* paths, runs, contents */
    struct snap_entries entries;
    struct snap_content **contents; /* by number */
    size_t ncontents, contents_cap;
    struct map by_hash;
    struct snap_pack_name *packs;
    size_t npacks, packs_cap;
    /* How the manifest it was read from came about: its chain, how long the full one at its end is
     * and the ones in front of that together. */
    unsigned chain;
    uint64_t full_bytes, delta_bytes;
};

static inline bool snap_is_file(const struct snap_entry *e)
{
    return e->kind == SNAP_FILE || e->kind == SNAP_CUT_FILE;
}

/* Length of a piece that begins at `offset` of a file. */
static inline uint32_t snap_piece_len(const struct snap_entry *e, uint64_t offset)
{
    uint64_t left = (uint64_t)e->size - offset;
    return e->kind == SNAP_FILE || left < SNAP_PIECE ? (uint32_t)left : SNAP_PIECE;
}

/* ---- snapshot_tree.c ---- */

void snap_tree_init(struct snap_tree *t);
void snap_tree_fini(struct snap_tree *t);
/* '/' first. */
int snap_path_cmp(struct str a, struct str b);
/* False: the entry is not below a directory that stands before it, or not alone there. */
bool snap_entries_fit(const struct snap_entries *v);
struct snap_entry *snap_entries_add(struct snap_entries *v);
/* The entry of that path, or NULL. */
const struct snap_entry *snap_find(const struct snap_entries *v, struct str path);
bool snap_same(const struct snap_entry *a, const struct snap_entry *b);
/* A content that is new here; `hash`, `len`, ... are filled in by the caller at once, `hash`
 * before. NULL: too many. */
struct snap_content *snap_content_add(struct snap_tree *t, const unsigned char hash[SNAP_HASH]);
struct snap_content *snap_content_get(const struct snap_tree *t,
                                      const unsigned char hash[SNAP_HASH]);
uint32_t snap_pack_add(struct snap_tree *t, const unsigned char name[SNAP_HASH]);
void snap_pack_blob(const struct snap_pack_name *p, struct blob_id *out);

/* ---- snapshot_manifest.c: the tree as bytes ----
 *
 *   "ostlerM1", length of the body (8 bytes, low first), body by zstd
 *   body: the manifest it is a change of (1 and its name, or 0); packs; contents; changes; the
 *   number of entries that result. Packs and contents are numbered through the whole chain. */

/* One manifest on top of the tree that its base gave (an empty one where it has none). CORRUPT. The
 * body may go afterwards. */
int snap_manifest_apply(struct snap_tree *t, struct str body, struct err *err) MUST_USE;
/* Unpacks; `base` gets the name of the manifest it needs, or "". CORRUPT. */
int snap_manifest_open(struct str bytes, struct buf *body, struct blob_id *base,
                       struct err *err) MUST_USE;
/* With all the manifests it needs. CORRUPT also where one is missing. */
int snap_manifest_load(const struct blobs *b, struct str name, struct snap_tree *t,
                       struct err *err) MUST_USE;

struct snap_change {
    size_t old_packs, old_contents; /* of the tree: what `base` knows */
    const char *base;               /* NULL: none, everything is written */
    const struct snap_entries *now;
    int64_t changed_files, changed_bytes; /* out */
    size_t changes;                       /* out */
};
/* Writes what differs between the tree's entries and `now`. */
void snap_manifest_write(struct snap_tree *t, struct snap_change *c, struct buf *body);
/* Leaves in the tree only the packs and contents that `now` needs, renumbered. */
void snap_manifest_compact(struct snap_tree *t, const struct snap_entries *now);
int snap_manifest_close(struct str body, struct buf *out, struct err *err) MUST_USE;

/* ---- snapshot_pack.c: contents, one behind the other ---- */

struct snap_packer {
    const struct blobs *blobs;
    struct snap_tree *tree;
    struct blob_upload *upload; /* NULL: nothing new so far */
    uint32_t pack;
    uint64_t offset;
    struct buf waiting, scratch;
    struct ZSTD_CCtx_s *zstd;
};
void snap_packer_init(struct snap_packer *p, const struct blobs *b, struct snap_tree *t);
void snap_packer_fini(struct snap_packer *p);
/* The content of these bytes, added when it is new. */
int snap_packer_put(struct snap_packer *p, struct str bytes, const struct snap_content **out,
                    struct err *err) MUST_USE;
/* When something was put: durable, with its name in the tree. */
int snap_packer_finish(struct snap_packer *p, struct snapshot_blob *out, struct err *err) MUST_USE;

enum { SNAP_OPEN_PACKS = 64 };
struct snap_unpacker {
    const struct blobs *blobs; /* NULL: all packs are the first descriptor (tests) */
    const struct snap_tree *tree;
    struct {
        uint32_t pack;
        int fd; /* -1: none */
    } open[SNAP_OPEN_PACKS];
    struct buf stored;
    struct ZSTD_DCtx_s *zstd;
};
void snap_unpacker_init(struct snap_unpacker *u, const struct blobs *b, const struct snap_tree *t);
void snap_unpacker_fini(struct snap_unpacker *u);
/* Its bytes, `c->len` of them, compared with the hash. CORRUPT. */
int snap_unpack(struct snap_unpacker *u, const struct snap_content *c, char *out,
                struct err *err) MUST_USE;

/* ---- snapshot_index.c: which files were seen with which contents ---- */

/* What a file that was not touched still has. */
struct snap_seen {
    struct str path;
    uint64_t inode;
    int64_t size, mtime_ns, ctime_ns;
    size_t first, nruns; /* of the index's runs */
    bool cut;
};
struct snap_seen_run {
    const unsigned char *hash; /* NULL: zeros */
    uint64_t count;
};
struct snap_index {
    struct arena arena;
    struct buf bytes;
    struct snap_seen *seen;
    struct snap_seen_run *runs;
    size_t n, nruns, at; /* at: where a walk has come to */
};
/* Empty where there is none that can be used: from another boot, cut off, changed. */
void snap_index_read(struct snap_index *x, const char *path);
void snap_index_fini(struct snap_index *x);
/* What was seen of a path; paths are asked for in order. NULL. */
const struct snap_seen *snap_index_next(struct snap_index *x, struct str path);
bool snap_index_same(const struct snap_seen *s, const struct stat *st);

struct snap_index_writer {
    struct buf body;
    size_t n, nruns;
    struct str last; /* the path before */
};
/* Changed so shortly ago that it may change again without another time. */
bool snap_index_racy(const struct stat *st);
void snap_index_add(struct snap_index_writer *w, const struct snap_entry *e, const struct stat *st);
/* Not durable; what cannot be written costs time only. */
void snap_index_write(const struct snap_index_writer *w, const char *path);

/* ---- snapshot_walk.c: the directory as it is ---- */

struct snap_walk {
    const struct snapshot_how *how;
    struct snap_tree *tree; /* contents that are known, memory */
    struct snap_packer *packer;
    struct snap_index seen;
    struct snap_index_writer index;
    struct snap_entries now; /* out */
    int64_t files, size_bytes;
    int64_t looked; /* names, also of what is left out */
    char *data;     /* SNAP_WHOLE + 1 bytes */
    struct buf path, names;
};
int snap_walk(struct snap_walk *w, struct err *err) MUST_USE;
bool snap_walk_moved(const struct snap_walk *w); /* since: see struct snapshot */
/* What a sandbox wrote, for reading: never through a link, never waiting; where its mode closes it
 * to us, who own it, with the bits of `need` for a moment. -1: it cannot be had. */
int snap_open_entry(int at, const char *name, int flags, mode_t need);

int64_t snap_time_ns(struct timespec t);

/* ---- snapshot_restore.c ---- */

/* The tree below `dir`, its contents by `u`. */
int snap_restore_tree(const struct snap_tree *t, struct snap_unpacker *u, const char *dir,
                      uid_t uid, struct err *err) MUST_USE;
/* The bytes of a file. */
int snap_write_file(struct snap_unpacker *u, const struct snap_entry *e, int fd, char *data,
                    struct err *err) MUST_USE;

#endif
