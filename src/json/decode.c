#include "json/decode.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

/* "/events/0/type" as "events.0.type". */
static void dotted(char out[ERR_AT_MAX], const char *pointer)
{
    size_t n = 0;
    for (const char *p = pointer + (*pointer == '/'); *p; p++) {
        if (*p == '~' && p[1])
            out[n++] = *++p == '1' ? '/' : '~';
        else
            out[n++] = *p == '/' ? '.' : *p;
    }
    out[n] = '\0';
}

static int fail_at(struct err *err, const char at[ERR_AT_MAX], const char *fmt, va_list ap)
    PRINTF(3, 0);
static int fail_at(struct err *err, const char at[ERR_AT_MAX], const char *fmt, va_list ap)
{
    char path[ERR_AT_MAX], msg[ERR_MSG_MAX];
    dotted(path, at);
    vsnprintf(msg, sizeof msg, fmt, ap);
    return err_at(err, ERR_INVALID, at, "%s%s%s", path, *path ? ": " : "", msg);
}

int json_fail(struct err *err, const char *at, const char *key, const char *fmt, ...)
{
    char where[ERR_AT_MAX];
    if (key)
        json_pointer_key(where, at, str_z(key));
    else
        snprintf(where, sizeof where, "%s", at);
    va_list ap;
    va_start(ap, fmt);
    int rc = fail_at(err, where, fmt, ap);
    va_end(ap);
    return rc;
}

static int fail_unknown(struct err *err, const char *at, struct str key)
{
    char where[ERR_AT_MAX];
    json_pointer_key(where, at, key);
    return json_fail(err, where, NULL, "Extra inputs are not permitted");
}

static int fail_type(struct err *err, const char *at, const char *key, enum json_type want)
{
    static const char *const names[] = {
        [JSON_NULL] = "null",
        [JSON_BOOL] = "a valid boolean",
        [JSON_NUMBER] = "a valid number",
        [JSON_STRING] = "a valid string",
        [JSON_ARRAY] = "a valid array",
        [JSON_OBJECT] = "a valid object",
    };
    return json_fail(err, at, key, "Input should be %s", names[want]);
}

/* "Input should be 'a', 'b' or 'c'"; a list that does not fit ends in dots. */
static int fail_enum(struct err *err, const char *at, const struct json_field *f)
{
    char list[ERR_MSG_MAX - 2 * ERR_AT_MAX];
    size_t n = 0;
    list[0] = '\0';
    for (size_t i = 0; f->names[i]; i++) {
        const char *glue = i == 0 ? "" : f->names[i + 1] ? ", " : " or ";
        size_t room = sizeof list - n;
        int w = snprintf(list + n, room, "%s'%s'", glue, f->names[i]);
        if (w < 0 || (size_t)w + sizeof ", ..." > room) {
            snprintf(list + n, room, ", ...");
            break;
        }
        n += (size_t)w;
    }
    return json_fail(err, at, f->name, "Input should be %s", list);
}

static bool bounded(const struct json_field *f)
{
    return f->min || f->max;
}

static bool below(const struct json_field *f, int64_t n)
{
    return bounded(f) && n < f->min;
}

static bool above(const struct json_field *f, int64_t n)
{
    return bounded(f) && f->max >= f->min && n > f->max;
}

/* How much of what a value holds; -1 for one that has no length. */
static int64_t length_of(const struct json *v, const char **container, const char **unit)
{
    if (v->type == JSON_STRING) {
        *container = "String";
        *unit = "character";
        return (int64_t)str_utf8_len(v->str);
    }
    *container = v->type == JSON_ARRAY ? "Array" : "Object";
    *unit = v->type == JSON_ARRAY ? "item" : "member";
    return v->type == JSON_ARRAY || v->type == JSON_OBJECT ? (int64_t)v->count : -1;
}

static int check_length(const struct json *v, const struct json_field *f, const char *at,
                        struct err *err)
{
    if (!bounded(f))
        return 0;
    const char *container, *unit;
    int64_t n = length_of(v, &container, &unit);
    if (n < 0 || (!below(f, n) && !above(f, n)))
        return 0;
    long long limit = below(f, n) ? f->min : f->max;
    return json_fail(err, at, f->name, "%s should have at %s %lld %s%s", container,
                     below(f, n) ? "least" : "most", limit, unit, limit == 1 ? "" : "s");
}

/* An integer too long for 64 bits counts as the nearest one, so that a bound can still be named. */
static bool integer_of(const struct json *v, int64_t *out, bool *fits)
{
    *fits = json_i64(v, out);
    if (*fits)
        return true;
    if (v->type != JSON_NUMBER)
        return false;
    for (size_t i = 0; i < v->raw.len; i++) {
        char c = v->raw.ptr[i];
        if (c == '.' || c == 'e' || c == 'E')
            return false;
    }
    *out = v->raw.ptr[0] == '-' ? INT64_MIN : INT64_MAX;
    return true;
}

static int decode_i64(const struct json *v, const struct json_field *f, int64_t *out,
                      const char *at, struct err *err)
{
    int64_t n;
    bool fits;
    if (!integer_of(v, &n, &fits))
        return json_fail(err, at, f->name, "Input should be a valid integer");
    if (below(f, n))
        return json_fail(err, at, f->name, "Input should be greater than or equal to %lld",
                         (long long)f->min);
    if (above(f, n))
        return json_fail(err, at, f->name, "Input should be less than or equal to %lld",
                         (long long)f->max);
    if (!fits)
        return json_fail(err, at, f->name, "Input should be an integer of at most 64 bits");
    *out = n;
    return 0;
}

static int decode_enum(const struct json *v, const struct json_field *f, int *out, const char *at,
                       struct err *err)
{
    assert(f->names);
    for (int i = 0; v->type == JSON_STRING && f->names[i]; i++) {
        if (str_eqz(v->str, f->names[i])) {
            *out = i;
            return 0;
        }
    }
    return fail_enum(err, at, f);
}

static int decode_any(const struct json *v, const struct json_field *f, const struct json **out,
                      const char *at, struct err *err)
{
    if (f->type != JSON_NULL && v->type != f->type && !(f->nullable && v->type == JSON_NULL))
        return fail_type(err, at, f->name, f->type);
    *out = v;
    return check_length(v, f, at, err);
}

static int decode_members(const struct json *v, const struct json_field *fields, char *target,
                          const char *at, struct err *err);

static int decode_object(const struct json *v, const struct json_field *f, char *target,
                         const char *at, struct err *err)
{
    assert(f->sub);
    char where[ERR_AT_MAX];
    json_pointer_key(where, at, str_z(f->name));
    return decode_members(v, f->sub, target, where, err);
}

static int decode_value(const struct json *v, const struct json_field *f, char *target,
                        const char *at, struct err *err)
{
    void *to = target + f->offset;
    switch (f->kind) {
    case JSON_K_STR:
        if (v->type != JSON_STRING)
            return fail_type(err, at, f->name, JSON_STRING);
        *(struct str *)to = v->str;
        return check_length(v, f, at, err);
    case JSON_K_BOOL:
        if (v->type != JSON_BOOL)
            return fail_type(err, at, f->name, JSON_BOOL);
        *(bool *)to = v->boolean;
        return 0;
    case JSON_K_I64: return decode_i64(v, f, to, at, err);
    case JSON_K_ENUM: return decode_enum(v, f, to, at, err);
    case JSON_K_ANY: return decode_any(v, f, to, at, err);
    case JSON_K_OBJ: return decode_object(v, f, to, at, err);
    case JSON_K_IGNORE:
    case JSON_K_END: break;
    }
    return 0;
}

static int decode_field(const struct json *v, const struct json_field *f, char *target,
                        const char *at, struct err *err)
{
    if (!v)
        return f->required ? json_fail(err, at, f->name, "Field required") : 0;
    /* JSON_K_ANY keeps a null and judges it itself. */
    bool null = v->type == JSON_NULL;
    if (!(null && f->nullable && f->kind != JSON_K_ANY)) {
        int rc = decode_value(v, f, target, at, err);
        if (rc)
            return rc;
    }
    if (f->present_offset && !null)
        *(bool *)(void *)(target + f->present_offset) = true;
    return 0;
}

static bool known(const struct json_field *fields, struct str key)
{
    for (const struct json_field *f = fields; f->kind != JSON_K_END; f++)
        if (str_eqz(key, f->name))
            return true;
    return false;
}

/* Unknown members first: a misspelt name says more than the required one that it leaves missing.
 * The fields are then looked up, not the members walked, so that of duplicates only the last
 * counts. */
static int decode_members(const struct json *v, const struct json_field *fields, char *target,
                          const char *at, struct err *err)
{
    if (!json_is(v, JSON_OBJECT))
        return fail_type(err, at, NULL, JSON_OBJECT);
    json_for_each (it, v) {
        if (!known(fields, it->key))
            return fail_unknown(err, at, it->key);
    }
    for (const struct json_field *f = fields; f->kind != JSON_K_END; f++) {
        int rc = decode_field(json_get(v, f->name), f, target, at, err);
        if (rc)
            return rc;
    }
    return 0;
}

int json_decode(const struct json *v, const struct json_field *fields, void *target,
                size_t target_size, const char *at, struct err *err)
{
    memset(target, 0, target_size);
    return decode_members(v, fields, target, at, err);
}
