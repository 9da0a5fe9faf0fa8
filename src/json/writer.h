/* writer: JSON text into a buf, commas and nesting kept by the writer.
 *
 * Lives on the stack of one function; errors are sticky in the buf (buf_ok). Misuse (a value
 * without its key, an unclosed object) is a defect and asserts.
 */
#ifndef OSTLER_JSON_WRITER_H
#define OSTLER_JSON_WRITER_H

#include "base/limits.h"
#include "json/json.h"

struct jw {
    struct buf *buf;
    unsigned depth;
    bool comma; /* the next value or key needs one before it */
    bool after_key;
    uint64_t objects[LIMIT_JSON_DEPTH / 64]; /* one bit per open level: it is an object */
};

static inline struct jw jw_to(struct buf *b)
{
    return (struct jw){.buf = b};
}

void jw_obj(struct jw *w);
void jw_obj_end(struct jw *w);
void jw_arr(struct jw *w);
void jw_arr_end(struct jw *w);
void jw_key(struct jw *w, const char *key);
void jw_key_str(struct jw *w, struct str key);
void jw_str(struct jw *w, struct str s); /* invalid UTF-8 becomes U+FFFD; absent: "" */
void jw_z(struct jw *w, const char *z);  /* NULL writes null */
void jw_i64(struct jw *w, int64_t v);
void jw_bool(struct jw *w, bool v);
void jw_null(struct jw *w);
void jw_raw(struct jw *w, struct str json);  /* a complete value, copied as it is; absent: null */
void jw_time(struct jw *w, int64_t unix_us); /* RFC 3339; 0 writes null */

/* key and value in one call */
void jw_kstr(struct jw *w, const char *key, struct str s); /* an absent view writes null */
void jw_kz(struct jw *w, const char *key, const char *z);
void jw_ki64(struct jw *w, const char *key, int64_t v);
void jw_kbool(struct jw *w, const char *key, bool v);
void jw_knull(struct jw *w, const char *key);
void jw_kraw(struct jw *w, const char *key, struct str json);
void jw_ktime(struct jw *w, const char *key, int64_t unix_us);

/* Asserts that exactly one complete value was written. */
void jw_done(const struct jw *w);

/* The quoted, escaped form of a string; invalid UTF-8 becomes U+FFFD, so the result always parses.
 */
void json_quote(struct buf *b, struct str s);

#endif
