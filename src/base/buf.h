/* buf: a growing byte buffer, born with a maximum.
 *
 * Owned by one thread. Failure is sticky: past the maximum nothing more is appended and `failed`
 * stays set; check once with buf_ok(). `data` is always followed by a NUL byte once anything was
 * put.
 */
#ifndef OSTLER_BASE_BUF_H
#define OSTLER_BASE_BUF_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

struct buf {
    char *data;
    size_t len, cap, max;
    bool failed;
};

#define BUF_INIT(max_bytes) ((struct buf){.max = (max_bytes)})
#define AUTO_BUF CLEANUP(buf_fini)

void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory, forgets content and failure */

void buf_put(struct buf *b, const void *p, size_t n);
void buf_str(struct buf *b, struct str s);
void buf_z(struct buf *b, const char *z);
void buf_ch(struct buf *b, char c);
void buf_i64(struct buf *b, int64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
/* At least n writable bytes behind the content, or NULL past the maximum; then buf_commit(). */
char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);
/* Removes n bytes from the front. */
void buf_consume(struct buf *b, size_t n);

static inline struct str buf_view(const struct buf *b)
{
    return str_n(b->data, b->len);
}

static inline bool buf_ok(const struct buf *b)
{
    return !b->failed;
}

#endif
