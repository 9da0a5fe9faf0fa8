/* snapshot: the files of a session as content: taken, restored, listed, read.
 *
 * A snapshot is a manifest (a blob) and the packs it refers to (blobs): a pack holds, compressed,
 * the contents that no earlier pack of the session has, so that a snapshot costs what changed. A
 * large file is cut into pieces. What is in it: the directories named in `snapshot_roots` below the
 * session's directory with their files, directories and symbolic links, modes and times; sockets,
 * pipes and devices are left out, hard links become files of their own, caches below home/.cache
 * are left out. Blocking; for the worker pool. Everything below the directory was written by a
 * sandbox that may still be running: no link is followed, what vanishes meanwhile is left out.
 */
#ifndef OSTLER_SANDBOX_SNAPSHOT_H
#define OSTLER_SANDBOX_SNAPSHOT_H

#include "base/arena.h"
#include "store/blob.h"

#include <sys/types.h>

enum { SNAPSHOT_ROOTS = 4 };
/* Names below the session's directory: workspace, outputs, home and the baseline of the patch. */
extern const char *const snapshot_roots[SNAPSHOT_ROOTS];

/* A content that is new, to be referred to in a transaction: settle, refer, close. */
struct snapshot_blob {
    struct blob_id id;
    int64_t size_bytes;
    struct blob_upload *upload;
};

struct snapshot {
    struct blob_id manifest;
    /* What the manifest needs and `previous` did not have; the manifest itself is among them unless
     * nothing changed. Freed by snapshot_fini(). */
    struct snapshot_blob blobs[2];
    size_t nblobs;
    int64_t files, size_bytes;            /* of everything in it */
    int64_t changed_files, changed_bytes; /* since `previous` */
    int64_t stored_bytes;                 /* what the new blobs take */
    bool moved; /* names came or went meanwhile: it may be a moment that never was */
};

struct snapshot_how {
    const struct blobs *blobs;
    const char *dir;   /* the session's directory */
    const char *index; /* file that remembers what was seen; rewritten; may be missing or stale */
    const char *previous;         /* manifest of the one before; NULL: there is none */
    int64_t max_files, max_bytes; /* 0: no bound */
};

/* LIMIT beyond the bounds (with what and how much), NO_SPACE, IO. Nothing is left behind then. */
int snapshot_take(const struct snapshot_how *how, struct snapshot *out, struct err *err) MUST_USE;
void snapshot_fini(struct snapshot *s);

/* Makes the roots below `dir`, which exists and has none of them, owned by `uid` (0: ours). CORRUPT
 * for a manifest or pack that does not fit together: then `dir` is to be thrown away. */
int snapshot_restore(const struct blobs *b, struct str manifest, const char *dir, uid_t uid,
                     struct err *err) MUST_USE;

/* Like path_list() and path_read() (impl.h), with `path` below `root` ("workspace"): NOT_FOUND,
 * INVALID for a directory asked for as a file. Symbolic links are followed within the root. */
int snapshot_list(const struct blobs *b, struct str manifest, const char *root, struct str path,
                  int out, struct err *err) MUST_USE;
int snapshot_read(const struct blobs *b, struct str manifest, const char *root, struct str path,
                  int out, struct err *err) MUST_USE;
/* What is below `root` as a tar with the names "./a/b"; empty where there is no such root.
 * TOO_LARGE past max_bytes: holes come out as zeros. */
int snapshot_tar(const struct blobs *b, struct str manifest, const char *root, int out,
                 int64_t max_bytes, struct err *err) MUST_USE;

#endif
