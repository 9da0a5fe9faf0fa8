/* blob: content-addressed files under DATA/blobs/ab/cdef..., named by the SHA-256 of their bytes.
 *
 * Blocking calls: worker threads, not the loop. Any number of threads and processes may use one
 * directory: a blob appears whole, by rename, and never changes. What refers to a blob is written
 * after blob_put() returned; a blob that nobody refers to is removed by blob_unlink().
 */
#ifndef OSTLER_STORE_BLOB_H
#define OSTLER_STORE_BLOB_H

#include "base/err.h"
#include "base/str.h"

enum { BLOB_NAME_LEN = 64 };

struct blob_id {
    char z[BLOB_NAME_LEN + 1]; /* lower-case hex */
};

struct blobs {
    int dir; /* descriptor of DATA/blobs; -1: closed */
};

/* Creates DATA/blobs when missing and removes the temporaries of a crash: call it once at start. */
int blobs_open(struct blobs *b, const char *data_dir, struct err *err) MUST_USE;
void blobs_close(struct blobs *b);

/* Both return after the blob is durable; the same bytes are kept once. NO_SPACE, READ_ONLY, IO. */
int blob_put(const struct blobs *b, struct str data, struct blob_id *out, struct err *err) MUST_USE;
/* From the descriptor's position to its end. TOO_LARGE past max_bytes. `size` may be NULL. */
int blob_put_fd(const struct blobs *b, int fd, int64_t max_bytes, struct blob_id *out,
                int64_t *size, struct err *err) MUST_USE;
/* For reading; the caller closes *fd. NOT_FOUND; INVALID for what is no blob name. */
int blob_open(const struct blobs *b, struct str id, int *fd, int64_t *size,
              struct err *err) MUST_USE;
/* Whoever holds it open keeps reading. NOT_FOUND. */
int blob_unlink(const struct blobs *b, struct str id, struct err *err) MUST_USE;

#endif
