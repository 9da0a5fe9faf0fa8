/* blob: content-addressed files under DATA/blobs/ab/cdef..., named by the SHA-256 of their bytes.
 *
 * Blocking calls: worker threads, not the loop. Any number of threads may use one directory: a blob
 * appears whole and never changes. What refers to a blob is written after it is durable. A blob
 * that nobody refers to loses its name by blob_retire(), inside the write transaction that has
 * found so; whoever refers to one in a transaction of his own calls blob_upload_settle() there, so
 * that the two cannot miss each other.
 */
#ifndef OSTLER_STORE_BLOB_H
#define OSTLER_STORE_BLOB_H

#include "base/arena.h"

#include <stdatomic.h>

enum { BLOB_NAME_LEN = 64, BLOB_SHARDS = 256 };

struct blob_id {
    char z[BLOB_NAME_LEN + 1]; /* lower-case hex */
};

struct blobs {
    int dir; /* descriptor of DATA/blobs; -1: closed */
    /* By shard: its own directory entry is known to be durable; behind them: that of blobs/. Synced
     * once by each process. Any thread. */
    atomic_bool *shard_durable;
};

/* Creates DATA/blobs when missing and removes the temporaries of a crash: call it once at start. */
int blobs_open(struct blobs *b, const char *data_dir, struct err *err) MUST_USE;
void blobs_close(struct blobs *b);

/* Both return after the blob is durable; the same bytes are kept once. NO_SPACE, READ_ONLY, IO. */
int blob_put(const struct blobs *b, struct str data, struct blob_id *out, struct err *err) MUST_USE;
/* From the descriptor's position to its end. TOO_LARGE past max_bytes. `size` may be NULL. */
int blob_put_fd(const struct blobs *b, int fd, int64_t max_bytes, struct blob_id *out,
                int64_t *size, struct err *err) MUST_USE;

/* ---- in pieces: one thread at a time ---- */
struct blob_upload;
int blob_upload_open(const struct blobs *b, struct blob_upload **out, struct err *err) MUST_USE;
int blob_upload_add(struct blob_upload *u, struct str data, struct err *err) MUST_USE;
int64_t blob_upload_size(const struct blob_upload *u);
/* The bytes are durable under their name after it. They keep their temporary name as well. */
int blob_upload_finish(struct blob_upload *u, struct blob_id *out, struct err *err) MUST_USE;
/* Inside the transaction that refers to the blob: gives it its name again in the rare case that it
 * was retired since; else it costs one system call. */
int blob_upload_settle(struct blob_upload *u, struct err *err) MUST_USE;
/* Drops the temporary name, and the bytes if they have no other. NULL is fine. */
void blob_upload_close(struct blob_upload *u);

/* ---- reading and removing ---- */
/* For reading; the caller closes *fd. NOT_FOUND; INVALID for what is no blob name. */
int blob_open(const struct blobs *b, struct str id, int *fd, int64_t *size,
              struct err *err) MUST_USE;
/* Whoever holds it open keeps reading. NOT_FOUND. */
int blob_unlink(const struct blobs *b, struct str id, struct err *err) MUST_USE;
/* The same in two steps: takes the name away, which is quick; then frees the bytes, which is not.
 * What is retired and not discarded goes at the next blobs_open(). */
int blob_retire(const struct blobs *b, struct str id, struct err *err) MUST_USE;
void blob_discard(const struct blobs *b, struct str id);
/* The blobs of one of the BLOB_SHARDS directories. LIMIT. */
int blob_list(const struct blobs *b, unsigned shard, struct arena *a, struct blob_id **out,
              size_t *n, struct err *err) MUST_USE;

#endif
