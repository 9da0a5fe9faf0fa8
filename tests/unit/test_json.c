#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/limits.h"
#include "json/json.h"
#include "json/writer.h"
#include "json_reference.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- helpers ---- */

/* Parses a copy of exactly that size, so that ASan sees a read past the text. */
static int parse_n(struct arena *a, struct str text, unsigned flags, const struct json **out,
                   struct err *err)
{
    char *copy = arena_bytes(a, text.len);
    assert_non_null(copy);
    memcpy(copy, text.ptr, text.len);
    *err = (struct err){0};
    return json_parse(a, str_n(copy, text.len), flags, out, err);
}

static const struct json *parse_ok(struct arena *a, const char *text)
{
    const struct json *v = NULL;
    struct err err;
    int rc = parse_n(a, str_z(text), 0, &v, &err);
    if (rc)
        fail_msg("%s: %s", text, err.msg);
    return v;
}

static void assert_str(struct str s, const char *want)
{
    if (!str_eqz(s, want))
        fail_msg("got \"" STR_FMT "\", want \"%s\"", STR_ARG(s), want);
}

static void copy(struct jw *w, const struct json *v)
{
    switch (v->type) {
    case JSON_NULL: jw_null(w); return;
    case JSON_BOOL: jw_bool(w, v->boolean); return;
    case JSON_NUMBER: jw_raw(w, v->raw); return;
    case JSON_STRING: jw_str(w, v->str); return;
    case JSON_ARRAY:
        jw_arr(w);
        json_for_each (it, v)
            copy(w, it);
        jw_arr_end(w);
        return;
    case JSON_OBJECT:
        jw_obj(w);
        json_for_each (it, v) {
            jw_key_str(w, it->key);
            copy(w, it);
        }
        jw_obj_end(w);
        return;
    }
}

static void assert_same(const struct json *a, const struct json *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->count, b->count);
    assert_true(a->boolean == b->boolean);
    assert_true(str_eq(a->str, b->str));
    assert_true(str_eq(a->key, b->key));
    if (a->type == JSON_NUMBER)
        assert_true(str_eq(a->raw, b->raw));
    const struct json *y = b->child;
    json_for_each (x, a) {
        assert_non_null(y);
        assert_same(x, y);
        y = y->next;
    }
    assert_null(y);
}

/* ---- the grammar ---- */

#define T(lit)                                                                                     \
    {                                                                                              \
        lit, sizeof(lit) - 1                                                                       \
    }

/* clang-format off */
static const struct {
    const char *text;
    size_t len;
} good[] = {
    T("0"), T("-0"), T("1"), T("-1"), T("10"), T("0.0"), T("-0.5"), T("123.456"), T("1e5"),
    T("1E5"), T("1e+5"), T("1e-5"), T("1.5E+05"), T("0e0"), T("0E-10"), T("20e1"),
    T("-123123123123123123123123"), T("1e99999"), T("123e-10000000"),
    T("0.100000000000000000000000000000000000001"), T("true"), T("false"), T("null"), T(" true "),
    T("\t\r\n null\n\r\t "), T("\"\""), T("\"a\""), T("\"abcdefg\""), T("\"abcdefgh\""),
    T("\"abcdefghi\""), T("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), T("\"\\u0000\""),
    T("\"\\u0041\\u00e9\\u20AC\\ud83d\\uDE00\""), T("\"\\ufffe\\uffff\""), T("\"\\u2028\\u2029\""),
    T("\"\xe2\x80\xa8\""), T("\"\x7f\""), T("\"\xc2\x80\xdf\xbf\""),
    T("\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\""),
    T("\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\""), T("\"/* not a comment */\""), T("\"\\\\u0000\""),
    T("\"\\udbff\\udfff\""), T("[]"), T("[ ]"), T("[1]"), T("[1,2]"), T("[ 1 , 2 ]"), T("[[]]"),
    T("[[],[[]]]"), T("[null,1,\"1\",{}]"), T("[\"a\",\n4\n,1]"), T("{}"), T("{ }"), T("{\"a\":1}"),
    T("{\"\":0}"), T("{\"a\":{\"a\":{\"a\":[]}}}"), T("{ \"a\" : 1 , \"b\" : [ ] }"),
    T("{\"a\\u0000b\":1}"), T("{\"a\":1,\"A\":2}"), T("{\"a\":1,\"b\":{\"a\":1}}"),
};
/* clang-format on */

/* clang-format off */
static const struct {
    const char *text;
    size_t len;
} bad[] = {
    /* nothing, or more than one value */
    T(""), T(" "), T("\n"), T("1 2"), T("{}{}"), T("[]]"), T("{}}"), T("[] x"), T("\"a\"b"),
    T("1,"), T(","), T("{}#"), T("[1]\0"), T("\0"), T("]"), T("}"), T(":"), T("<.>"),
    T("\xef\xbb\xbf{}"), T("\xef\xbb\xbf"), T("\xff\xfe[\0]\0"), T("\xe2\x81\xa0"), T("\x0c[]"),
    /* literals */
    T("t"), T("tru"), T("truee"), T("True"), T("TRUE"), T("fals"), T("nul"), T("nulll"),
    T("undefined"), T("NaN"), T("nan"), T("Infinity"), T("-Infinity"), T("inf"), T("[True]"),
    T("[nul]"), T("[tru,1]"),
    /* numbers */
    T("-"), T("+1"), T("+0"), T("01"), T("-01"), T("00"), T("-00"), T("1."), T("1.e1"), T(".5"),
    T("-.5"), T("0.e1"), T("1e"), T("1e+"), T("1E-"), T("1ee5"), T("1e5.5"), T("1.2.3"), T("0x1F"),
    T("1_000"), T("1 000"), T("--1"), T("- 1"), T("1-"), T("1+2"), T("[1.]"), T("[-]"), T("[-a]"),
    T("[1e]"), T("[0.3e]"), T("[012]"), T("\xef\xbc\x91"), T("1a"), T("[\x0b" "1]"),
    T("\xc2\xa0" "1"), T("[1\0]"), T("2.e+3"), T("0e+-1"), T("[-NaN]"),
    /* strings */
    T("\""), T("\"a"), T("\"\\\""), T("\"\\"), T("'a'"), T("a"), T("\"\\a\""), T("\"\\x00\""),
    T("\"\\0\""), T("\"\\'\""), T("\"\\U0041\""), T("\"\\u\""), T("\"\\u0\""), T("\"\\u00\""),
    T("\"\\u004\""), T("\"\\u004g\""), T("\"\\u 041\""), T("\"\\u-041\""), T("\"\\u"), T("\"\\u00"),
    T("\"\\u0041"), T("\"\n\""), T("\"\t\""), T("\"\0\""), T("\"\x1f\""), T("\"\r\""),
    T("[\"a\0a\"]"), T("\"\\ud800\""), T("\"\\udc00\""), T("\"\\ud800\\n\""), T("\"\\ud800a\""),
    T("\"\\ud800\\u0041\""), T("\"\\ud800\\ud800\""), T("\"\\udc00\\ud800\""),
    T("\"\\udc00\\udc00\""), T("\"\\ud800\\ue000\""), T("\"\\ud800\\udbff\""), T("\"\\ud800\\u\""),
    T("\"\\ud800\\"), T("\"\\ud800\\u"), T("\"\\ud800\\udc0\""), T("\"\\ud83d\\uDE0"),
    T("\"\\uD834\\uDd\""), T("\"\\\xc3\xa9\""), T("\"\\ \""),
    /* UTF-8 */
    T("\"\x80\""), T("\"\xbf\""), T("\"\xc0\x80\""), T("\"\xc1\xbf\""), T("\"\xc3\""), T("\"\xc3("),
    T("\"\xe0\x80\x80\""), T("\"\xe0\x9f\xbf\""), T("\"\xe2\x82\""), T("\"\xe2\x82"), T("\"\xe2"),
    T("\"\xed\xa0\x80\""), T("\"\xed\xbf\xbf\""), T("\"\xed\xa0\xbd\xed\xb8\x80\""),
    T("\"\xf0\x80\x80\x80\""), T("\"\xf0\x8f\xbf\xbf\""), T("\"\xf4\x90\x80\x80\""),
    T("\"\xf5\x80\x80\x80\""), T("\"\xf8\x88\x80\x80\x80\""), T("\"\xfe\""), T("\"\xff\""),
    T("\"abcdefgh\xff\""), T("\"abcdefghabcdefgh\x01\""), T("\xff"), T("[\xff]"), T("{\"\xff\":0}"),
    T("\"\xf0\x9f\x98\""), T("\xe5"),
    /* arrays */
    T("["), T("[1"), T("[1,"), T("[1,]"), T("[,]"), T("[,1]"), T("[1,,2]"), T("[1 2]"), T("[1:2]"),
    T("[1}"), T("[\"\""), T("[\"\","), T("[[]"), T("[{}"), T("[*]"), T("[1;2]"), T("[a]"),
    T("[\"a\" 1]"), T("[1\n,1\n,1"), T("[1],"), T("[\n\n\n"), T("(1)"), T("[][]"), T("[ , ]"),
    /* objects */
    T("{"), T("{\"a\""), T("{\"a\":"), T("{\"a\":1"), T("{\"a\":1,"), T("{\"a\":1,}"), T("{,}"),
    T("{:1}"), T("{1:1}"), T("{a:1}"), T("{'a':1}"), T("{\"a\" 1}"), T("{\"a\":}"), T("{\"a\"::1}"),
    T("{\"a\",1}"), T("{\"a\":1 \"b\":2}"), T("{\"a\":1,,\"b\":2}"), T("{\"a\":1]"), T("{null:1}"),
    T("{[]:1}"), T("{\"a\":1;}"), T("{\"a\":1,1}"), T("{\"a\":\"b\",,}"), T("{\"a\":1}}"),
    T("{\"a\":1}/**/"), T("{\"a\":1}//"), T("{\"a\":1}#"), T("/**/{}"), T("{/**/}"),
    T("{\"a\":/**/1}"), T("{\"a\":1,\"a\":2}"), T("{\"a\":1,\"\\u0061\":2}"), T("{\"\":1,\"\":1}"),
    T("[{\"x\":1,\"x\":1}]"), T("{\"a\":1=2}"), T("{]"), T("[}"), T("{\"a\\ud800\":1}"),
    T("{\"x\", null}"), T("{\"x\"::\"b\"}"), T("{9999E9999:1}"),
};
/* clang-format on */

static void every_good_document_is_accepted_and_survives_the_writer(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        AUTO_ARENA struct arena a;
        arena_init(&a, 1 << 20);
        const struct json *v = NULL, *again = NULL;
        struct err err;
        if (parse_n(&a, str_n(good[i].text, good[i].len), 0, &v, &err))
            fail_msg("%s: %s", good[i].text, err.msg);
        assert_true(str_eq(v->raw, str_trim(str_n(good[i].text, good[i].len))));
        AUTO_BUF struct buf b = BUF_INIT(1 << 20);
        struct jw w = jw_to(&b);
        copy(&w, v);
        jw_done(&w);
        assert_int_equal(parse_n(&a, buf_view(&b), 0, &again, &err), 0);
        assert_same(v, again);
    }
}

static void every_bad_document_is_refused_with_line_and_column(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        AUTO_ARENA struct arena a;
        arena_init(&a, 1 << 20);
        const struct json *v = NULL;
        struct err err;
        if (parse_n(&a, str_n(bad[i].text, bad[i].len), 0, &v, &err) != ERR_PARSE)
            fail_msg("case %zu was accepted: %s", i, bad[i].text);
        assert_null(v);
        assert_int_equal(err.code, ERR_PARSE);
        assert_int_equal(strncmp(err.msg, "Invalid JSON at line ", 21), 0);
        assert_non_null(strstr(err.msg, ", column "));
    }
}

static void every_prefix_of_a_document_is_refused(void **state)
{
    (void)state;
    static const char text[] = "{\"k\\u00e9y\":[1.5e+3,-2,true,false,null,\"\\ud83d\\ude00 "
                               "\xe2\x82\xac\"],\"o\":{\"\":{}}}";
    for (size_t n = 0; n < sizeof text - 1; n++) {
        AUTO_ARENA struct arena a;
        arena_init(&a, 1 << 20);
        const struct json *v;
        struct err err;
        assert_int_equal(parse_n(&a, str_n(text, n), 0, &v, &err), ERR_PARSE);
    }
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    parse_ok(&a, text);
}

static void an_error_says_where_and_what(void **state)
{
    (void)state;
    static const struct {
        const char *text, *at, *msg;
    } cases[] = {
        {"", "", "line 1, column 1: expected a value, found the end of the text"},
        {"{\"a\":1,}", "", "line 1, column 8: no comma is allowed before '}'"},
        {"{\n \"a\": [1,\n 2,]}", "/a", "line 3, column 4: no comma is allowed before ']'"},
        {"{\"a\":[{},{\"b\":tru}]}", "/a/1/b", "line 1, column 15: expected a value"},
        {"{\"\xc3\xa9\":x}", "/\xc3\xa9", "line 1, column 6: expected a value, found 'x'"},
        {"[[0,1,01]]", "/0/2", "line 1, column 7: a number has no leading zeros"},
        {"{\"a/b\":{\"c~d\":-}}", "/a~1b/c~0d", "expected a digit after '-', found '}'"},
        {"{\"events\":[{\"type\":\"a\",\"type\":\"b\"}]}", "/events/0/type",
         "line 1, column 30: this member occurs twice in its object: send it once"},
        {"[\"\\ud800\"]", "/0", "column 3: a surrogate must be one of a pair"},
        {"{\"a\":\"\\q\"}", "/a", "column 7: unknown escape"},
        {"[1 2]", "", "expected ',' or ']' after an array element, found '2'"},
        {"{\"a\" 1}", "/a", "expected ':' after a member's name, found '1'"},
        {"{a:1}", "", "expected a member's name in double quotes, found 'a'"},
        {"\"a\nb\"", "", "control character 0x0a in a string: escape it as \\u000a"},
        {"\"\xff\"", "", "not valid UTF-8 (byte 0xff)"},
        {"\xef\xbb\xbf{}", "", "byte order mark"},
        {"{} {}", "", "column 4: expected the end of the text after the value, found '{'"},
        {"{\"a\\nb\":[\x01]}", "/a\\u000ab/0", "found byte 0x01"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_ARENA struct arena a;
        arena_init(&a, 1 << 20);
        const struct json *v;
        struct err err;
        assert_int_equal(parse_n(&a, str_z(cases[i].text), 0, &v, &err), ERR_PARSE);
        assert_string_equal(err.at, cases[i].at);
        if (!strstr(err.msg, cases[i].msg))
            fail_msg("%s: got \"%s\", want \"%s\"", cases[i].text, err.msg, cases[i].msg);
    }
}

/* ---- bounds ---- */

static int parse_nested(unsigned levels, const char *open, const char *close, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 64 << 20);
    AUTO_BUF struct buf b = BUF_INIT(64 << 20);
    for (unsigned i = 0; i < levels; i++)
        buf_z(&b, open);
    buf_z(&b, "0");
    for (unsigned i = 0; i < levels && close; i++)
        buf_z(&b, close);
    const struct json *v;
    return parse_n(&a, buf_view(&b), 0, &v, err);
}

static void nesting_stops_at_the_limit(void **state)
{
    (void)state;
    struct err err;
    assert_int_equal(parse_nested(LIMIT_JSON_DEPTH, "[", "]", &err), 0);
    assert_int_equal(parse_nested(LIMIT_JSON_DEPTH, "{\"a\":", "}", &err), 0);
    assert_int_equal(parse_nested(LIMIT_JSON_DEPTH + 1, "[", "]", &err), ERR_LIMIT);
    assert_non_null(strstr(err.msg, "deeper than 128 levels"));
    assert_int_equal(strlen(err.at), ERR_AT_MAX - 1);
    assert_int_equal(parse_nested(LIMIT_JSON_DEPTH + 1, "{\"a\":", "}", &err), ERR_LIMIT);
    assert_int_equal(parse_nested(1000000, "[", NULL, &err), ERR_LIMIT);
    assert_int_equal(parse_nested(1000000, "{\"a\":[", NULL, &err), ERR_LIMIT);
}

static void a_full_arena_is_a_limit_error_at_every_allocation(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[1,\"\\n\",{\"b\\t\":[]}]}";
    int rc = ERR_LIMIT;
    size_t max = 0;
    for (; rc; max++) {
        AUTO_ARENA struct arena a;
        arena_init(&a, max);
        const struct json *v = NULL;
        struct err err = {0};
        rc = json_parse(&a, str_z(text), 0, &v, &err);
        if (rc) {
            assert_int_equal(rc, ERR_LIMIT);
            assert_int_equal(err.code, ERR_LIMIT);
            assert_null(v);
        }
        assert_true(max < 10000);
    }
    assert_true(max > 4 * sizeof(struct json));
}

static void duplicate_keys_are_found_in_small_and_huge_objects(void **state)
{
    (void)state;
    static const unsigned sizes[] = {2, 15, 16, 17, 18, 40, 100000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        for (int twice = 0; twice < 2; twice++) {
            AUTO_ARENA struct arena a;
            arena_init(&a, 64 << 20);
            AUTO_BUF struct buf b = BUF_INIT(64 << 20);
            buf_ch(&b, '{');
            for (unsigned k = 0; k < sizes[i]; k++)
                buf_printf(&b, "%s\"key %u\":%u", k ? "," : "", twice && k + 1 == sizes[i] ? 0 : k,
                           k);
            buf_ch(&b, '}');
            const struct json *v = NULL;
            struct err err;
            int rc = parse_n(&a, buf_view(&b), 0, &v, &err);
            assert_int_equal(rc, twice ? ERR_PARSE : 0);
            assert_string_equal(err.at, twice ? "/key 0" : "");
            assert_int_equal(parse_n(&a, buf_view(&b), JSON_ALLOW_DUPLICATES, &v, &err), 0);
            assert_int_equal(v->count, sizes[i]);
            int64_t n;
            assert_true(json_i64(json_get(v, "key 0"), &n));
            assert_int_equal(n, twice ? sizes[i] - 1 : 0);
        }
    }
}

/* ---- values ---- */

static void strings_borrow_the_text_unless_they_hold_escapes(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    static const char text[] =
        "{\"plain\":\"as it is \xe2\x82\xac\",\"nul\":\"a\\u0000b\",\"mix\":"
        "\"\\\"x\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20ac\\ud83d\\ude00y\"}";
    const struct json *v;
    struct err err;
    assert_int_equal(json_parse(&a, str_z(text), 0, &v, &err), 0);
    struct str plain = json_get_str(v, "plain");
    assert_true(plain.ptr > text && plain.ptr < text + sizeof text);
    assert_str(plain, "as it is \xe2\x82\xac");
    assert_true(str_eq(json_get_str(v, "nul"), STR("a\0b")));
    assert_str(json_get_str(v, "mix"), "\"x\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80y");
    assert_str(json_get(v, "nul")->raw, "\"a\\u0000b\"");
}

static void numbers_keep_their_text(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    const struct json *v = parse_ok(
        &a,
        "[9223372036854775807,-9223372036854775808,9223372036854775808,0.1,1.0,1e3,-0,1e400,"
        "123456789012345678901234567890.00000000000000000000000000000000000000000000000000001]");
    int64_t n;
    double d;
    assert_true(json_i64(json_at(v, 0), &n) && n == INT64_MAX);
    assert_true(json_i64(json_at(v, 1), &n) && n == INT64_MIN);
    assert_false(json_i64(json_at(v, 2), &n));
    assert_str(json_at(v, 2)->raw, "9223372036854775808");
    assert_true(json_f64(json_at(v, 2), &d) && d == 9223372036854775808.0);
    assert_str(json_at(v, 3)->raw, "0.1");
    assert_true(json_f64(json_at(v, 3), &d) && d == 0.1);
    assert_false(json_i64(json_at(v, 4), &n));
    assert_false(json_i64(json_at(v, 5), &n));
    assert_true(json_f64(json_at(v, 5), &d) && d == 1000);
    assert_true(json_i64(json_at(v, 6), &n) && n == 0);
    assert_false(json_f64(json_at(v, 7), &d));
    assert_true(json_f64(json_at(v, 8), &d) && d == 123456789012345678901234567890.0);
    assert_null(json_at(v, 9));

    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    for (int i = 0; i < 100000; i++)
        buf_ch(&b, '7');
    assert_int_equal(json_parse(&a, buf_view(&b), 0, &v, NULL), 0);
    assert_int_equal(v->raw.len, 100000);
    assert_false(json_f64(v, &d));
}

static void a_lookup_in_the_wrong_thing_finds_nothing(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    const struct json *v =
        parse_ok(&a, "{\"n\":1,\"t\":true,\"f\":false,\"s\":\"x\",\"a\":[null]}");
    int64_t n;
    assert_null(json_get(NULL, "a"));
    assert_null(json_get(v, "absent"));
    assert_null(json_get(json_get(v, "a"), "a"));
    assert_null(json_at(v, 0));
    assert_null(json_at(NULL, 0));
    assert_false(str_some(json_get_str(v, "n")));
    assert_str(json_get_str(v, "s"), "x");
    double d;
    assert_false(json_i64(NULL, &n));
    assert_false(json_f64(NULL, &d) || json_f64(json_get(v, "s"), &d));
    assert_false(json_i64(json_get(v, "s"), &n));
    assert_true(json_is_true(json_get(v, "t")));
    assert_false(json_is_true(json_get(v, "f")));
    assert_false(json_is_true(json_get(v, "n")));
    assert_true(json_is(json_at(json_get(v, "a"), 0), JSON_NULL));
    assert_string_equal(json_type_name(JSON_OBJECT), "an object");
    assert_str(json_get(v, "a")->raw, "[null]");
    size_t members = 0;
    json_for_each (it, v)
        members++;
    assert_int_equal(members, v->count);
    assert_int_equal(json_parse(&a, STR_NONE, 0, &v, NULL), ERR_PARSE);
}

/* ---- writer ---- */

static void the_writer_keeps_commas_and_nesting(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(4096);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kstr(&w, "s", STR("a\"b\\c\n\x01\x7f\xe2\x82\xac"));
    jw_kstr(&w, "none", STR_NONE);
    jw_kz(&w, "z", NULL);
    jw_ki64(&w, "n", INT64_MIN);
    jw_kbool(&w, "b", true);
    jw_knull(&w, "nil");
    jw_kraw(&w, "raw", STR("{\"x\": 1.0}"));
    jw_kraw(&w, "no raw", STR_NONE);
    jw_ktime(&w, "t", INT64_C(1700000000123456));
    jw_ktime(&w, "no time", 0);
    jw_key(&w, "a");
    jw_arr(&w);
    jw_arr(&w);
    jw_arr_end(&w);
    jw_obj(&w);
    jw_obj_end(&w);
    jw_str(&w, STR_NONE);
    jw_z(&w, "z");
    jw_bool(&w, false);
    jw_time(&w, 0);
    jw_arr_end(&w);
    jw_key_str(&w, STR("k\0y"));
    jw_i64(&w, 7);
    jw_obj_end(&w);
    jw_done(&w);
    assert_true(buf_ok(&b));
    assert_str(buf_view(&b),
               "{\"s\":\"a\\\"b\\\\c\\n\\u0001\x7f\xe2\x82\xac\",\"none\":null,\"z\":null,"
               "\"n\":-9223372036854775808,\"b\":true,\"nil\":null,\"raw\":{\"x\": 1.0},"
               "\"no raw\":null,\"t\":\"2023-11-14T22:13:20.123456Z\",\"no time\":null,"
               "\"a\":[[],{},\"\",\"z\",false,null],\"k\\u0000y\":7}");
}

static void bad_utf8_is_written_as_replacement_characters(void **state)
{
    (void)state;
    static const struct {
        struct str in;
        const char *out;
    } cases[] = {
        {{"", 0}, "\"\""},
        {{"\xff", 1}, "\"\xef\xbf\xbd\""},
        {{"a\xe2\x82", 3}, "\"a\xef\xbf\xbd\""},
        {{"a\xe2\x82z", 4}, "\"a\xef\xbf\xbdz\""},
        {{"\xed\xa0\x80", 3}, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {{"\xf0\x9f\x98", 3}, "\"\xef\xbf\xbd\""},
        {{"\xc0\xaf", 2}, "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {{"\xf0\x9f\x98\x80\n", 5}, "\"\xf0\x9f\x98\x80\\n\""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_BUF struct buf b = BUF_INIT(256);
        json_quote(&b, cases[i].in);
        assert_str(buf_view(&b), cases[i].out);
    }
}

static void every_ascii_character_is_written_so_that_it_reads_back(void **state)
{
    (void)state;
    for (int c = 0; c < 0x80; c++) {
        AUTO_ARENA struct arena a;
        arena_init(&a, 1 << 20);
        AUTO_BUF struct buf b = BUF_INIT(256);
        char text[] = {'<', (char)c, '>'};
        const struct json *v;
        struct err err;
        json_quote(&b, str_n(text, sizeof text));
        assert_int_equal(parse_n(&a, buf_view(&b), 0, &v, &err), 0);
        assert_true(str_eq(v->str, str_n(text, sizeof text)));
    }
}

static void a_full_buffer_fails_once_and_stays_failed(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(8);
    struct jw w = jw_to(&b);
    jw_arr(&w);
    for (int i = 0; i < 10; i++)
        jw_z(&w, "text");
    jw_arr_end(&w);
    assert_false(buf_ok(&b));
    assert_true(b.len <= 8);
}

static void misuse_value_without_key(struct jw *w)
{
    jw_obj(w);
    jw_i64(w, 1);
}

static void misuse_key_in_array(struct jw *w)
{
    jw_arr(w);
    jw_key(w, "a");
}

static void misuse_two_keys(struct jw *w)
{
    jw_obj(w);
    jw_key(w, "a");
    jw_key(w, "b");
}

static void misuse_wrong_end(struct jw *w)
{
    jw_arr(w);
    jw_obj_end(w);
}

static void misuse_end_after_key(struct jw *w)
{
    jw_obj(w);
    jw_key(w, "a");
    jw_obj_end(w);
}

static void misuse_two_documents(struct jw *w)
{
    jw_null(w);
    jw_null(w);
}

static void misuse_unclosed(struct jw *w)
{
    jw_arr(w);
    jw_done(w);
}

static void misuse_too_deep(struct jw *w)
{
    for (int i = 0; i <= LIMIT_JSON_DEPTH; i++)
        jw_arr(w);
}

static void misuse_of_the_writer_ends_the_process(void **state)
{
    (void)state;
    static void (*const misuses[])(struct jw *) = {
        misuse_value_without_key, misuse_key_in_array,  misuse_two_keys, misuse_wrong_end,
        misuse_end_after_key,     misuse_two_documents, misuse_unclosed, misuse_too_deep,
    };
    for (size_t i = 0; i < COUNT_OF(misuses); i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            /* The assertion's text and a core file are of no use here. */
            signal(SIGABRT, SIG_DFL);
            setrlimit(RLIMIT_CORE, &(struct rlimit){0});
            if (!freopen("/dev/null", "w", stderr))
                _exit(1);
            AUTO_BUF struct buf b = BUF_INIT(4096);
            struct jw w = jw_to(&b);
            misuses[i](&w);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
            fail_msg("misuse %zu went unnoticed", i);
    }
}

/* ---- differential: jansson ----
 *
 * Known differences. jansson refuses what the reader accepts: integers past 64 bits and reals past
 * a double (the reader keeps the text), NUL in member names. jansson accepts what the reader
 * refuses: a NUL byte behind a value, as the end of the text. Nesting: jansson stops at 2048
 * levels, the reader at 128; generated documents stay below both. */

static uint64_t seed;

static unsigned rnd(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed >> 33) % n;
}

static void gen_blank(struct buf *b)
{
    static const char blanks[] = " \t\r\n";
    while (rnd(6) == 0)
        buf_ch(b, blanks[rnd(4)]);
}

static void gen_string(struct buf *b)
{
    static const char *const pieces[] = {
        "a",
        "key",
        "long plain text that spans words",
        "\\n",
        "\\\"",
        "\\\\",
        "\\/",
        "\\u0041",
        "\\u00E9",
        "\\u20ac",
        "\\ud83d\\ude00",
        "\\u001f",
        "\xc3\xa9",
        "\xe2\x82\xac",
        "\xf0\x9f\x98\x80",
        "\x7f",
        " ",
        "{[",
        "\\t\\b\\f\\r",
        "\xef\xbf\xbf",
        "\\u0000",
    };
    buf_ch(b, '"');
    for (unsigned n = rnd(6); n; n--)
        buf_z(b, pieces[rnd(COUNT_OF(pieces))]);
    buf_ch(b, '"');
}

static void gen_number(struct buf *b)
{
    static const char *const forms[] = {
        "0",       "-0",    "9223372036854775807", "-9223372036854775808",    "0.1",    "1e5",
        "-1.5E-7", "1E400", "9223372036854775808", "2.2250738585072014e-308", "1e-400", "0.0"};
    if (rnd(2))
        buf_z(b, forms[rnd(COUNT_OF(forms))]);
    else
        buf_printf(b, "%s%u%s", rnd(2) ? "-" : "", rnd(100000), rnd(2) ? ".25" : "");
}

static void gen_value(struct buf *b, unsigned depth)
{
    static const char *const literals[] = {"true", "false", "null"};
    gen_blank(b);
    unsigned kind = rnd(depth ? 8 : 5), n = rnd(4);
    if (kind < 2)
        gen_string(b);
    else if (kind < 4)
        gen_number(b);
    else if (kind == 4)
        buf_z(b, literals[rnd(3)]);
    else {
        bool object = kind < 7;
        buf_ch(b, object ? '{' : '[');
        gen_blank(b);
        for (unsigned i = 0; i < n; i++) {
            if (object) {
                gen_blank(b);
                gen_string(b);
                gen_blank(b);
                buf_ch(b, ':');
            }
            gen_value(b, depth - 1);
            if (i + 1 < n)
                buf_ch(b, ',');
        }
        buf_ch(b, object ? '}' : ']');
    }
    gen_blank(b);
}

static void mutate(struct buf *b)
{
    static const char bytes[] = "{}[]:,\"\\ 019-+.eEtfnu/\0\x01\n\x80\xbf\xc3\xe2\xed\xf0\xff'";
    for (unsigned n = rnd(3); n && b->len; n--) {
        size_t i = rnd((unsigned)b->len);
        switch (rnd(4)) {
        case 0: b->data[i] = bytes[rnd(sizeof bytes - 1)]; break;
        case 1:
            memmove(b->data + i, b->data + i + 1, b->len - i - 1);
            b->len--;
            break;
        case 2: b->data[i] = b->data[rnd((unsigned)b->len)]; break;
        default: b->len = i; break;
        }
    }
}

/* The same text as json_reference_read() makes, from our tree. */
static void canonical(struct buf *b, const struct json *v)
{
    int64_t n = 0;
    double d = 0;
    switch (v->type) {
    case JSON_NULL: buf_ch(b, 'n'); return;
    case JSON_BOOL: buf_ch(b, v->boolean ? 't' : 'f'); return;
    case JSON_NUMBER:
        if (json_i64(v, &n)) {
            buf_printf(b, "i%lld", (long long)n);
        } else {
            assert_true(json_f64(v, &d));
            buf_printf(b, "r%a", d);
        }
        return;
    case JSON_STRING:
        buf_printf(b, "s%zu:", v->str.len);
        buf_str(b, v->str);
        return;
    case JSON_ARRAY:
    case JSON_OBJECT:
        buf_printf(b, "%c%u(", v->type == JSON_ARRAY ? 'a' : 'o', v->count);
        json_for_each (it, v) {
            if (v->type == JSON_OBJECT) {
                buf_printf(b, "%zu:", it->key.len);
                buf_str(b, it->key);
            }
            canonical(b, it);
        }
        buf_ch(b, ')');
        return;
    }
}

/* Returns whether both accepted. */
static bool compare_with_reference(struct arena *a, struct str text, uint64_t doc)
{
    AUTO_BUF struct buf theirs = BUF_INIT(1 << 20), ours = BUF_INIT(1 << 20);
    enum json_reference verdict = json_reference_read(text, &theirs);
    const struct json *v = NULL;
    struct err err;
    int rc = parse_n(a, text, 0, &v, &err);
    if (str_find_ch(text, '\0') >= 0)
        verdict = JSON_REFERENCE_REFUSED;
    if (verdict == JSON_REFERENCE_OWN_LIMIT)
        return false;
    if ((rc == 0) != (verdict == JSON_REFERENCE_ACCEPTED))
        fail_msg("document %llu: %s: ours says %d (%s)", (unsigned long long)doc, text.ptr, rc,
                 err.msg);
    if (rc)
        return false;
    canonical(&ours, v);
    if (!str_eq(buf_view(&ours), buf_view(&theirs)))
        fail_msg("document %llu: %s: ours %s, theirs %s", (unsigned long long)doc, text.ptr,
                 ours.data, theirs.data);
    return true;
}

static void random_documents_read_as_jansson_reads_them(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    unsigned accepted = 0, documents = 20000;
    for (uint64_t doc = 1; doc <= documents; doc++) {
        seed = doc * UINT64_C(0x9E3779B97F4A7C15);
        AUTO_BUF struct buf b = BUF_INIT(1 << 20);
        gen_value(&b, 5);
        mutate(&b);
        b.data[b.len] = '\0';
        accepted += compare_with_reference(&a, buf_view(&b), doc);
        arena_reset(&a);
    }
    /* Both sides of the comparison were really exercised. */
    assert_in_range(accepted, documents / 5, documents * 4 / 5);
}

static void the_whole_grammar_table_reads_as_jansson_reads_it(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    for (size_t i = 0; i < COUNT_OF(good); i++)
        compare_with_reference(&a, str_n(good[i].text, good[i].len), i);
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(compare_with_reference(&a, str_n(bad[i].text, bad[i].len), i));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_good_document_is_accepted_and_survives_the_writer),
        cmocka_unit_test(every_bad_document_is_refused_with_line_and_column),
        cmocka_unit_test(every_prefix_of_a_document_is_refused),
        cmocka_unit_test(an_error_says_where_and_what),
        cmocka_unit_test(nesting_stops_at_the_limit),
        cmocka_unit_test(a_full_arena_is_a_limit_error_at_every_allocation),
        cmocka_unit_test(duplicate_keys_are_found_in_small_and_huge_objects),
        cmocka_unit_test(strings_borrow_the_text_unless_they_hold_escapes),
        cmocka_unit_test(numbers_keep_their_text),
        cmocka_unit_test(a_lookup_in_the_wrong_thing_finds_nothing),
        cmocka_unit_test(the_writer_keeps_commas_and_nesting),
        cmocka_unit_test(bad_utf8_is_written_as_replacement_characters),
        cmocka_unit_test(every_ascii_character_is_written_so_that_it_reads_back),
        cmocka_unit_test(a_full_buffer_fails_once_and_stays_failed),
        cmocka_unit_test(misuse_of_the_writer_ends_the_process),
        cmocka_unit_test(the_whole_grammar_table_reads_as_jansson_reads_it),
        cmocka_unit_test(random_documents_read_as_jansson_reads_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
