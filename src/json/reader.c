#include "json/reader.h"

#include "base/map.h"
#include "json/decode.h"

#include <stdarg.h>
#include <stdio.h>

/* Up to here a linear look over the siblings is cheaper than hashing every key. */
enum { LINEAR_KEYS_MAX = 16 };

static void pointer(const struct reader *r, char out[ERR_AT_MAX])
{
    out[0] = '\0';
    for (unsigned d = 1; d <= r->depth && r->path[d]; d++) {
        if (r->path[d - 1]->type == JSON_OBJECT)
            json_pointer_key(out, out, r->path[d]->key);
        else
            json_pointer_index(out, out, r->path[d - 1]->count);
    }
}

int reader_fail(struct reader *r, const char *where, const char *fmt, ...)
{
    /* Counted only now: a reader that never fails never looks for line ends. */
    size_t line = 1, column = 1;
    for (const char *p = r->begin; p < where; p++) {
        if (*p == '\n') {
            line++;
            column = 1;
        } else {
            column += ((unsigned char)*p & 0xC0) != 0x80;
        }
    }
    char msg[ERR_MSG_MAX], at[ERR_AT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    pointer(r, at);
    return err_at(r->err, ERR_PARSE, at, "Invalid JSON at line %zu, column %zu: %s", line, column,
                  msg);
}

int reader_fail_arena(struct reader *r)
{
    char at[ERR_AT_MAX];
    pointer(r, at);
    return err_at(r->err, ERR_LIMIT, at,
                  "JSON needs more than %zu bytes of memory: send fewer or shorter values",
                  r->arena->max_bytes);
}

/* "expected WHAT, found ..." for the byte at r->at. */
static int fail_expected(struct reader *r, const char *what)
{
    if (r->at == r->end)
        return reader_fail(r, r->at, "expected %s, found the end of the text", what);
    unsigned char c = (unsigned char)*r->at;
    if (c > 0x20 && c < 0x7F)
        return reader_fail(r, r->at, "expected %s, found '%c'", what, c);
    return reader_fail(r, r->at, "expected %s, found byte 0x%02x", what, c);
}

/* The next byte that is not blank, or -1 at the end. */
static int skip_blanks(struct reader *r)
{
    const char *p = r->at, *end = r->end;
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    r->at = p;
    return p < end ? (unsigned char)*p : -1;
}

static bool is_digit(const char *p, const char *end)
{
    return p < end && *p >= '0' && *p <= '9';
}

static const char *skip_digits(const char *p, const char *end)
{
    while (is_digit(p, end))
        p++;
    return p;
}

static int read_number(struct reader *r)
{
    const char *end = r->end;
    r->at += *r->at == '-';
    if (!is_digit(r->at, end))
        return fail_expected(r, "a digit after '-'");
    if (*r->at == '0' && is_digit(r->at + 1, end))
        return reader_fail(r, r->at, "a number has no leading zeros");
    r->at = skip_digits(r->at, end);
    if (r->at < end && *r->at == '.') {
        r->at++;
        if (!is_digit(r->at, end))
            return fail_expected(r, "a digit after '.'");
        r->at = skip_digits(r->at, end);
    }
    if (r->at < end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        if (r->at < end && (*r->at == '+' || *r->at == '-'))
            r->at++;
        if (!is_digit(r->at, end))
            return fail_expected(r, "a digit in the exponent");
        r->at = skip_digits(r->at, end);
    }
    return 0;
}

static int read_literal(struct reader *r, struct str word)
{
    if (!str_starts(str_n(r->at, (size_t)(r->end - r->at)), word))
        return fail_expected(r, "a value (true, false and null are in lower case)");
    r->at += word.len;
    return 0;
}

static int read_value(struct reader *r, struct json *v) MUST_USE;

static int enter(struct reader *r)
{
    if (r->depth == LIMIT_JSON_DEPTH) {
        char at[ERR_AT_MAX];
        pointer(r, at);
        return err_at(r->err, ERR_LIMIT, at, "JSON is nested deeper than %d levels",
                      LIMIT_JSON_DEPTH);
    }
    r->at++;
    r->path[++r->depth] = NULL;
    return 0;
}

static void leave(struct reader *r)
{
    r->at++;
    r->depth--;
}

static int read_array(struct reader *r, struct json *v)
{
    v->type = JSON_ARRAY;
    int rc = enter(r);
    if (rc)
        return rc;
    const struct json **tail = &v->child;
    int c = skip_blanks(r);
    while (c != ']' || v->count) {
        struct json *e = ARENA_NEW(r->arena, struct json);
        if (!e)
            return reader_fail_arena(r);
        rc = read_value(r, e);
        if (rc)
            return rc;
        *tail = e;
        tail = &e->next;
        v->count++;
        r->path[r->depth] = NULL;
        c = skip_blanks(r);
        if (c == ']')
            break;
        if (c != ',')
            return fail_expected(r, "',' or ']' after an array element");
        r->at++;
        if (skip_blanks(r) == ']')
            return reader_fail(r, r->at, "no comma is allowed before ']'");
    }
    leave(r);
    return 0;
}

/* Whether `key` is new among the members so far; `seen` takes over when they become many. */
static bool key_is_new(const struct json *object, struct map *seen, struct json *member)
{
    if (object->count < LINEAR_KEYS_MAX) {
        json_for_each (it, object) {
            if (str_eq(it->key, member->key))
                return false;
        }
        return true;
    }
    if (object->count == LINEAR_KEYS_MAX)
        json_for_each (it, object)
            map_put(seen, it->key, (void *)(uintptr_t)it);
    return map_put(seen, member->key, member) == NULL;
}

/* Key, colon and value. */
static int read_member(struct reader *r, struct json *object, struct map *seen, struct json *m)
{
    int rc = reader_string(r, &m->key);
    if (rc)
        return rc;
    r->path[r->depth] = m;
    if (!(r->flags & JSON_ALLOW_DUPLICATES) && !key_is_new(object, seen, m))
        return reader_fail(r, r->at, "this member occurs twice in its object: send it once");
    if (skip_blanks(r) != ':')
        return fail_expected(r, "':' after a member's name");
    r->at++;
    skip_blanks(r);
    return read_value(r, m);
}

static int read_object(struct reader *r, struct json *v)
{
    v->type = JSON_OBJECT;
    int rc = enter(r);
    if (rc)
        return rc;
    CLEANUP(map_fini)
    struct map seen = {0};
    const struct json **tail = &v->child;
    int c = skip_blanks(r);
    while (c != '}' || v->count) {
        if (c != '"')
            return fail_expected(r, "a member's name in double quotes");
        struct json *m = ARENA_NEW(r->arena, struct json);
        if (!m)
            return reader_fail_arena(r);
        rc = read_member(r, v, &seen, m);
        if (rc)
            return rc;
        *tail = m;
        tail = &m->next;
        v->count++;
        r->path[r->depth] = NULL;
        c = skip_blanks(r);
        if (c == '}')
            break;
        if (c != ',')
            return fail_expected(r, "',' or '}' after an object member");
        r->at++;
        c = skip_blanks(r);
        if (c == '}')
            return reader_fail(r, r->at, "no comma is allowed before '}'");
    }
    leave(r);
    return 0;
}

static int read_content(struct reader *r, struct json *v)
{
    switch (*r->at) {
    case '{': return read_object(r, v);
    case '[': return read_array(r, v);
    case '"': v->type = JSON_STRING; return reader_string(r, &v->str);
    case 't':
        v->type = JSON_BOOL;
        v->boolean = true;
        return read_literal(r, STR("true"));
    case 'f': v->type = JSON_BOOL; return read_literal(r, STR("false"));
    case 'n': return read_literal(r, STR("null"));
    default: break;
    }
    if (*r->at != '-' && !is_digit(r->at, r->end))
        return fail_expected(r, "a value");
    v->type = JSON_NUMBER;
    return read_number(r);
}

/* The value at r->at into a zeroed node. Recursion is bounded by enter(). */
static int read_value(struct reader *r, struct json *v)
{
    r->path[r->depth] = v;
    if (r->at == r->end)
        return fail_expected(r, "a value");
    const char *start = r->at;
    int rc = read_content(r, v);
    if (rc == 0)
        v->raw = str_n(start, (size_t)(r->at - start));
    return rc;
}

int json_parse(struct arena *a, struct str text, unsigned flags, const struct json **out,
               struct err *err)
{
    if (!str_some(text))
        text = STR("");
    /* Keeps every count within 32 bits. */
    if (text.len > UINT32_MAX)
        return err_set(err, ERR_LIMIT, "JSON text of %zu bytes is too long", text.len);
    struct reader r = {.begin = text.ptr,
                       .at = text.ptr,
                       .end = text.ptr + text.len,
                       .arena = a,
                       .err = err,
                       .flags = flags};
    struct json *root = ARENA_NEW(a, struct json);
    if (!root)
        return reader_fail_arena(&r);
    if (str_starts(text, STR("\xEF\xBB\xBF")))
        return reader_fail(&r, r.at, "no byte order mark is allowed before the value");
    skip_blanks(&r);
    int rc = read_value(&r, root);
    if (rc)
        return rc;
    skip_blanks(&r);
    if (r.at != r.end)
        return fail_expected(&r, "the end of the text after the value");
    *out = root;
    return 0;
}
