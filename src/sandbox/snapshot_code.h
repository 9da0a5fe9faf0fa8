/* snapshot_code: numbers and paths as bytes, for manifests and indexes. Values; a reader that meets
 * something wrong stays `bad` and gives zeros. */
#ifndef OSTLER_SANDBOX_SNAPSHOT_CODE_H
#define OSTLER_SANDBOX_SNAPSHOT_CODE_H

#include "base/arena.h"
#include "base/buf.h"

struct snap_reader {
    const unsigned char *at, *end;
    bool bad;
};

static inline struct snap_reader snap_reader(struct str s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    return (struct snap_reader){.at = p, .end = p + s.len};
}

static inline size_t snap_left(const struct snap_reader *r)
{
    return (size_t)(r->end - r->at);
}

/* NULL: there are not so many. */
static inline const unsigned char *snap_get_bytes(struct snap_reader *r, size_t n)
{
    if (r->bad || snap_left(r) < n) {
        r->bad = true;
        return NULL;
    }
    const unsigned char *p = r->at;
    r->at += n;
    return p;
}

/* Seven bits a byte, low ones first. */
static inline uint64_t snap_get(struct snap_reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const unsigned char *p = snap_get_bytes(r, 1);
        if (!p || (shift == 63 && *p > 1))
            break;
        v |= (uint64_t)(*p & 0x7f) << shift;
        if (!(*p & 0x80))
            return v;
    }
    r->bad = true;
    return 0;
}

/* At most `max`. */
static inline uint64_t snap_get_max(struct snap_reader *r, uint64_t max)
{
    uint64_t v = snap_get(r);
    if (v <= max)
        return v;
    r->bad = true;
    return 0;
}

static inline int64_t snap_get_signed(struct snap_reader *r)
{
    uint64_t v = snap_get(r);
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static inline void snap_put(struct buf *b, uint64_t v)
{
    char out[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        out[n++] = (char)(v | 0x80);
    out[n++] = (char)v;
    buf_put(b, out, n);
}

static inline void snap_put_signed(struct buf *b, int64_t v)
{
    snap_put(b, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
}

/* A path: how much of the one before it begins with, and the rest. */
static inline void snap_put_path(struct buf *b, struct str before, struct str path)
{
    size_t same = 0;
    while (same < before.len && same < path.len && before.ptr[same] == path.ptr[same])
        same++;
    snap_put(b, same);
    snap_put(b, path.len - same);
    buf_str(b, str_skip(path, same));
}

static inline struct str snap_get_path(struct snap_reader *r, struct str before, struct arena *a)
{
    size_t same = snap_get_max(r, before.len), rest = snap_get_max(r, snap_left(r));
    const unsigned char *p = snap_get_bytes(r, rest);
    char *path = p ? arena_bytes(a, same + rest + 1) : NULL;
    if (!path) {
        r->bad = true;
        return STR_NONE;
    }
    if (same)
        memcpy(path, before.ptr, same);
    memcpy(path + same, p, rest);
    path[same + rest] = '\0';
    return str_n(path, same + rest);
}

/* "ostlerX1", the length of the body, the body by zstd. */
enum { SNAP_MAGIC = 8, SNAP_HEAD = SNAP_MAGIC + 8 };

#endif
