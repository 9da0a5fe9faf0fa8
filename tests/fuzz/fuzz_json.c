/* fuzz_json: any bytes through reader, accessors, writer and decoder.
 *
 * What must hold: a document that parses is written and parsed again to the same tree; strict mode
 * accepts nothing that the lenient one refuses; a quoted string of any bytes parses; a decoder
 * error has a pointer and a message that are valid UTF-8. */
#include "json/decode.h"
#include "json/writer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        if (!(cond))                                                                               \
            abort();                                                                               \
    } while (0)

static void copy(struct jw *w, const struct json *v)
{
    if (v->type == JSON_OBJECT)
        jw_obj(w);
    else if (v->type == JSON_ARRAY)
        jw_arr(w);
    else if (v->type == JSON_STRING)
        jw_str(w, v->str);
    else
        jw_raw(w, v->raw);
    json_for_each (it, v) {
        if (v->type == JSON_OBJECT)
            jw_key_str(w, it->key);
        copy(w, it);
    }
    if (v->type == JSON_OBJECT)
        jw_obj_end(w);
    else if (v->type == JSON_ARRAY)
        jw_arr_end(w);
}

static void require_same(const struct json *a, const struct json *b)
{
    REQUIRE(a->type == b->type && a->count == b->count && a->boolean == b->boolean);
    REQUIRE(str_eq(a->str, b->str) && str_eq(a->key, b->key));
    REQUIRE(str_utf8(a->str) && str_utf8(a->key));
    int64_t n;
    double d;
    if (a->type == JSON_NUMBER)
        REQUIRE(str_eq(a->raw, b->raw) && json_f64(a, &d) >= json_i64(a, &n));
    const struct json *y = b->child;
    json_for_each (x, a) {
        REQUIRE(y);
        require_same(x, y);
        y = y->next;
    }
    REQUIRE(!y);
}

struct target {
    struct str name;
    int64_t n;
    bool flag;
    int kind;
    const struct json *any;
    struct {
        struct str id;
        bool given;
    } sub;
};

static const char *const kinds[] = {"a", "b", NULL};
static const struct json_field sub_fields[] = {
    JSON_FIELD_STR(struct target, sub.id, "id", .required = true), JSON_FIELD_END};
static const struct json_field fields[] = {
    JSON_FIELD_STR(struct target, name, "name", .min = 1, .max = 8, .nullable = true),
    JSON_FIELD_I64(struct target, n, "n", .min = -3, .max = 1000),
    JSON_FIELD_BOOL(struct target, flag, "flag"),
    JSON_FIELD_ENUM(struct target, kind, "kind", .names = kinds),
    JSON_FIELD_ANY(struct target, any, "any", .max = 3),
    {.name = "sub",
     .kind = JSON_K_OBJ,
     .sub = sub_fields,
     .present_offset = offsetof(struct target, sub.given)},
    JSON_FIELD_IGNORE("x"),
    JSON_FIELD_END};

static void require_err(const struct err *err)
{
    REQUIRE(strnlen(err->at, sizeof err->at) < sizeof err->at && str_utf8(str_z(err->at)));
    REQUIRE(err->msg[0] && strnlen(err->msg, sizeof err->msg) < sizeof err->msg);
}

static void try_decode(const struct json *v)
{
    struct target t;
    struct err err = {0};
    int rc = json_decode(v, fields, &t, sizeof t, "", &err);
    if (rc) {
        REQUIRE(rc == ERR_INVALID && err.code == rc);
        require_err(&err);
    } else {
        REQUIRE(t.n >= -3 && t.n <= 1000 && str_utf8_len(t.name) <= 8);
    }
}

static void try_parse(struct str text)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 16 << 20);
    const struct json *strict = NULL, *v = NULL, *again = NULL;
    struct err err = {0};
    int rc_strict = json_parse(&a, text, 0, &strict, &err);
    if (rc_strict)
        require_err(&err);
    int rc = json_parse(&a, text, JSON_ALLOW_DUPLICATES, &v, &err);
    if (rc == ERR_LIMIT)
        return;
    REQUIRE(rc == 0 || rc_strict);
    if (rc)
        return;
    if (!rc_strict)
        require_same(strict, v);
    REQUIRE(str_eq(v->raw, str_trim(text)));
    AUTO_BUF struct buf b = BUF_INIT(64 << 20);
    struct jw w = jw_to(&b);
    copy(&w, v);
    jw_done(&w);
    REQUIRE(buf_ok(&b));
    rc = json_parse(&a, buf_view(&b), JSON_ALLOW_DUPLICATES, &again, &err);
    if (rc == 0)
        require_same(v, again);
    REQUIRE(rc == 0 || rc == ERR_LIMIT);
    try_decode(v);
}

static void try_quote(struct str bytes)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 16 << 20);
    AUTO_BUF struct buf b = BUF_INIT(64 << 20);
    json_quote(&b, bytes);
    const struct json *v = NULL;
    REQUIRE(json_parse(&a, buf_view(&b), 0, &v, NULL) == 0 && v->type == JSON_STRING);
    if (str_utf8(bytes))
        REQUIRE(str_eq(v->str, bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    try_parse(text);
    try_quote(text);
    char at[ERR_AT_MAX];
    json_pointer_key(at, "/lead", text);
    REQUIRE(strnlen(at, sizeof at) < sizeof at && str_utf8(str_z(at)));
    return 0;
}
