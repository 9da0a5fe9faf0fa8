/* json: a strict reader (RFC 8259) that keeps the exact source text of every value.
 *
 * A parsed document is an immutable tree in the caller's arena that borrows the source text: both
 * must outlive it. Any thread. Numbers are never converted unless asked: `raw` is their text, so
 * tool inputs survive byte for byte. No view is NUL-terminated: a string without escapes borrows
 * the source text, others live in the arena. For a C string copy with arena_strz() or str_copyz(),
 * and remember that "\u0000" is legal inside.
 */
#ifndef OSTLER_JSON_JSON_H
#define OSTLER_JSON_JSON_H

#include "base/arena.h"
#include "base/buf.h"

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_type type;
    bool boolean;             /* JSON_BOOL */
    uint32_t count;           /* elements of an array, members of an object */
    struct str raw;           /* source text of the value, without surrounding blanks */
    struct str str;           /* JSON_STRING: decoded; not NUL-terminated */
    struct str key;           /* decoded, when the value is an object's member; else absent */
    const struct json *child; /* first element or member */
    const struct json *next;  /* next sibling */
};

enum {
    /* Equal keys in one object: json_get() and json_decode() take the last, iteration sees all (for
     * provider output). Without it they are an error with a pointer. */
    JSON_ALLOW_DUPLICATES = 1,
};

/* Parses exactly one value. PARSE with `at` = the JSON pointer of the value that broke (as far as
 * it was known) and a message with line and column; LIMIT past LIMIT_JSON_DEPTH or the arena. Bad
 * UTF-8, lone surrogates, control characters, leading zeros, trailing commas, comments, NaN: all
 * errors. */
int json_parse(struct arena *a, struct str text, unsigned flags, const struct json **out,
               struct err *err) MUST_USE;

/* NULL when `obj` is NULL, is not an object or has no such member. With duplicates: the last. */
const struct json *json_get(const struct json *obj, const char *key);
const struct json *json_at(const struct json *array, size_t index);
/* A member that is a string: its text; otherwise an absent view. */
struct str json_get_str(const struct json *obj, const char *key);
bool json_i64(const struct json *v, int64_t *out); /* integers only: "1", not "1.0" or "1e3" */
bool json_f64(const struct json *v, double *out);  /* any number that a double can hold */
bool json_is_true(const struct json *v);           /* NULL is false */
static inline bool json_is(const struct json *v, enum json_type t)
{
    return v && v->type == t;
}
const char *json_type_name(enum json_type t); /* "an object", "a string", ... for messages */

#define json_for_each(it, container)                                                               \
    for (const struct json *it = (container) ? (container)->child : NULL; it; it = it->next)

#endif
