/* decode: JSON to structs by table, with an error that points at the field and names the remedy.
 *
 * Tables are static const; targets are caller-owned structs, zeroed first by the decoder. Views in
 * the target borrow the parsed document. Any thread.
 *
 *     struct in { struct str name; int64_t n; const struct json *tools; };
 *     static const struct json_field fields[] = {
 *         JSON_FIELD_STR(struct in, name, "name", .required = true, .min = 1, .max = 256),
 *         JSON_FIELD_I64(struct in, n, "limit", .min = 1, .max = 100),
 *         JSON_FIELD_ANY(struct in, tools, "tools", .type = JSON_ARRAY),
 *         JSON_FIELD_END};
 *     rc = json_decode(doc, fields, &in, sizeof in, "", &err);   // at = "/name", msg = "name:
 * Field required"
 */
#ifndef OSTLER_JSON_DECODE_H
#define OSTLER_JSON_DECODE_H

#include "json/json.h"

enum json_kind {
    JSON_K_END,
    JSON_K_STR,  /* struct str; min/max count code points */
    JSON_K_I64,  /* int64_t; min/max bound the value */
    JSON_K_BOOL, /* bool */
    JSON_K_ENUM, /* int: index into `names` */
    JSON_K_ANY, /* const struct json *: NULL when absent (a null value is kept as a JSON_NULL node);
                   `type` if not JSON_NULL demands that type; min/max count elements, members or,
                   for strings, code points */
    JSON_K_OBJ, /* an embedded struct decoded by `sub`; `present` says whether it was there */
    JSON_K_IGNORE, /* accepted and not looked at */
};

struct json_field {
    const char *name;
    enum json_kind kind;
    size_t offset;
    bool required;
    bool nullable;            /* null is accepted and leaves the zero value */
    enum json_type type;      /* JSON_K_ANY */
    int64_t min, max;         /* both 0: unbounded; max below min: no upper bound */
    const char *const *names; /* JSON_K_ENUM, NULL-terminated */
    const struct json_field *sub;
    size_t present_offset; /* of a bool set when the field is there and not null; 0: none */
};

#define JSON_FIELD_(st, member, nm, k, ...)                                                        \
    {                                                                                              \
        .name = nm, .kind = k, .offset = offsetof(st, member), __VA_ARGS__                         \
    }
#define JSON_FIELD_STR(st, m, nm, ...) JSON_FIELD_(st, m, nm, JSON_K_STR, __VA_ARGS__)
#define JSON_FIELD_I64(st, m, nm, ...) JSON_FIELD_(st, m, nm, JSON_K_I64, __VA_ARGS__)
#define JSON_FIELD_BOOL(st, m, nm, ...) JSON_FIELD_(st, m, nm, JSON_K_BOOL, __VA_ARGS__)
#define JSON_FIELD_ENUM(st, m, nm, ...) JSON_FIELD_(st, m, nm, JSON_K_ENUM, __VA_ARGS__)
#define JSON_FIELD_ANY(st, m, nm, ...) JSON_FIELD_(st, m, nm, JSON_K_ANY, __VA_ARGS__)
#define JSON_FIELD_OBJ(st, m, nm, ...) JSON_FIELD_(st, m, nm, JSON_K_OBJ, __VA_ARGS__)
#define JSON_FIELD_IGNORE(nm)                                                                      \
    {                                                                                              \
        .name = nm, .kind = JSON_K_IGNORE                                                          \
    }
#define JSON_FIELD_END                                                                             \
    {                                                                                              \
        .kind = JSON_K_END                                                                         \
    }

/* `at` is the pointer of `v` itself ("" for a document). Unknown members are refused ("/foo": Extra
 * inputs are not permitted) before any value is looked at. NULL is refused like a wrong type.
 * Returns INVALID; the target is unspecified after a failure. */
int json_decode(const struct json *v, const struct json_field *fields, void *target,
                size_t target_size, const char *at, struct err *err) MUST_USE;

/* INVALID at `at`/`key` (at `at` itself when key is NULL), for checks that a table cannot express.
 * The dotted path is put before the message: json_fail(err, "/events/0", "type", "Field required")
 * says "events.0.type: Field required". */
int json_fail(struct err *err, const char *at, const char *key, const char *fmt, ...) PRINTF(4, 5);
/* Append "/key" (escaped per RFC 6901) or "/index" to a pointer; `out` may be `at`. Control
 * characters show as \u00XX, so that a pointer is printable. One that does not fit ends in "..."
 * and takes no more. Always NUL-terminated. */
void json_pointer_key(char out[ERR_AT_MAX], const char *at, struct str key);
void json_pointer_index(char out[ERR_AT_MAX], const char *at, size_t index);

#endif
