#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "json/decode.h"

#include <stdio.h>

enum kind { KIND_A, KIND_B, KIND_C };

struct inner {
    struct str id;
    int64_t n;
    bool has_n;
};

struct outer {
    struct str name;
    struct str note;
    bool note_given;
    int64_t limit;
    int64_t offset;
    int64_t any;
    bool flag;
    int kind;
    int pair;
    const struct json *tools;
    const struct json *meta;
    const struct json *free_form;
    const struct json *text;
    struct inner inner;
    bool inner_given;
};

static const char *const kinds[] = {"a", "b", "c", NULL};
static const char *const pairs[] = {"on", "off", NULL};
static const struct json_field inner_fields[] = {
    JSON_FIELD_STR(struct inner, id, "id", .required = true),
    JSON_FIELD_I64(struct inner, n, "n", .nullable = true,
                   .present_offset = offsetof(struct inner, has_n)),
    JSON_FIELD_END};
static const struct json_field fields[] = {
    JSON_FIELD_STR(struct outer, name, "name", .required = true, .min = 1, .max = 4),
    JSON_FIELD_STR(struct outer, note, "note", .nullable = true, .max = 3,
                   .present_offset = offsetof(struct outer, note_given)),
    JSON_FIELD_I64(struct outer, limit, "limit", .min = 1, .max = 100),
    JSON_FIELD_I64(struct outer, offset, "offset", .min = -5),
    JSON_FIELD_I64(struct outer, any, "any"),
    JSON_FIELD_BOOL(struct outer, flag, "flag"),
    JSON_FIELD_ENUM(struct outer, kind, "kind", .names = kinds),
    JSON_FIELD_ENUM(struct outer, pair, "pair", .names = pairs, .nullable = true),
    JSON_FIELD_ANY(struct outer, tools, "tools", .type = JSON_ARRAY, .max = 2),
    JSON_FIELD_ANY(struct outer, meta, "meta", .type = JSON_OBJECT, .max = 1, .nullable = true),
    JSON_FIELD_ANY(struct outer, free_form, "free"),
    JSON_FIELD_ANY(struct outer, text, "text", .min = 2),
    JSON_FIELD_OBJ(struct outer, inner, "inner", .sub = inner_fields, .nullable = true,
                   .present_offset = offsetof(struct outer, inner_given)),
    JSON_FIELD_IGNORE("ignored"),
    JSON_FIELD_END};

static int decode(struct arena *a, const char *text, unsigned flags, struct outer *out,
                  struct err *err)
{
    const struct json *v;
    arena_init(a, 1 << 20);
    *err = (struct err){0};
    if (json_parse(a, str_z(text), flags, &v, err))
        fail_msg("%s: %s", text, err->msg);
    return json_decode(v, fields, out, sizeof *out, "", err);
}

static void every_kind_of_field_lands_in_its_member(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    struct outer o;
    struct err err;
    assert_int_equal(
        decode(&a,
               "{\"name\":\"\xf0\x9f\x98\x80\xe2\x82\xac\xc3\xa9z\",\"note\":\"n\",\"limit\":100,"
               "\"offset\":-5,\"any\":-9223372036854775808,\"flag\":true,\"kind\":\"c\","
               "\"pair\":\"off\",\"tools\":[1,2],\"meta\":{\"k\":1},\"free\":null,"
               "\"text\":\"\xc3\xa9\xc3\xa9\",\"inner\":{\"id\":\"i\",\"n\":7},\"ignored\":[{}]}",
               0, &o, &err),
        0);
    assert_int_equal(str_utf8_len(o.name), 4);
    assert_true(str_eqz(o.note, "n") && o.note_given);
    assert_int_equal(o.limit, 100);
    assert_int_equal(o.offset, -5);
    assert_true(o.any == INT64_MIN);
    assert_true(o.flag);
    assert_int_equal(o.kind, KIND_C);
    assert_int_equal(o.pair, 1);
    assert_int_equal(o.tools->count, 2);
    assert_int_equal(o.meta->count, 1);
    assert_true(json_is(o.free_form, JSON_NULL));
    assert_true(str_eqz(o.inner.id, "i") && o.inner.n == 7 && o.inner.has_n && o.inner_given);
}

static void absent_and_null_fields_leave_zero_values(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    struct outer o;
    struct err err;
    memset(&o, 0xAA, sizeof o);
    assert_int_equal(decode(&a, "{\"name\":\"x\"}", 0, &o, &err), 0);
    assert_false(str_some(o.note) || o.note_given || o.flag || o.inner_given || o.inner.has_n);
    assert_true(o.limit == 0 && o.kind == KIND_A);
    assert_null(o.tools);
    arena_fini(&a);
    assert_int_equal(
        decode(&a, "{\"name\":\"x\",\"note\":null,\"pair\":null,\"meta\":null,\"inner\":null}", 0,
               &o, &err),
        0);
    assert_false(str_some(o.note) || o.note_given || o.inner_given);
    assert_true(json_is(o.meta, JSON_NULL));
    arena_fini(&a);
    assert_int_equal(decode(&a, "{\"name\":\"x\",\"inner\":{\"id\":\"\",\"n\":null}}", 0, &o, &err),
                     0);
    assert_true(o.inner_given && !o.inner.has_n);
}

static void of_duplicate_members_the_last_counts_whole(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    struct outer o;
    struct err err;
    assert_int_equal(
        decode(
            &a,
            "{\"name\":1,\"name\":\"x\",\"inner\":{\"id\":\"1\",\"n\":1},\"inner\":{\"id\":\"2\"}}",
            JSON_ALLOW_DUPLICATES, &o, &err),
        0);
    assert_true(str_eqz(o.inner.id, "2") && o.inner.n == 0 && !o.inner.has_n);
}

static void an_error_names_the_field_and_the_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *text, *at, *msg;
    } cases[] = {
        {"[]", "", "Input should be a valid object"},
        {"{}", "/name", "name: Field required"},
        {"{\"nmae\":\"x\"}", "/nmae", "nmae: Extra inputs are not permitted"},
        {"{\"name\":\"x\",\"a/b~\":1}", "/a~1b~0", "a/b~: Extra inputs are not permitted"},
        {"{\"name\":\"x\",\"\":1}", "/", "Extra inputs are not permitted"},
        {"{\"name\":\"x\",\"name\\u0000\":1}", "/name\\u0000",
         "name\\u0000: Extra inputs are not permitted"},
        {"{\"name\":null}", "/name", "name: Input should be a valid string"},
        {"{\"name\":5}", "/name", "name: Input should be a valid string"},
        {"{\"name\":\"\"}", "/name", "name: String should have at least 1 character"},
        {"{\"name\":\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9z\"}", "/name",
         "name: String should have at most 4 characters"},
        {"{\"name\":\"x\",\"note\":\"long\"}", "/note",
         "note: String should have at most 3 characters"},
        {"{\"name\":\"x\",\"limit\":\"1\"}", "/limit", "limit: Input should be a valid integer"},
        {"{\"name\":\"x\",\"limit\":1.0}", "/limit", "limit: Input should be a valid integer"},
        {"{\"name\":\"x\",\"limit\":1e1}", "/limit", "limit: Input should be a valid integer"},
        {"{\"name\":\"x\",\"limit\":null}", "/limit", "limit: Input should be a valid integer"},
        {"{\"name\":\"x\",\"limit\":0}", "/limit",
         "limit: Input should be greater than or equal to 1"},
        {"{\"name\":\"x\",\"limit\":101}", "/limit",
         "limit: Input should be less than or equal to 100"},
        {"{\"name\":\"x\",\"limit\":99999999999999999999}", "/limit",
         "limit: Input should be less than or equal to 100"},
        {"{\"name\":\"x\",\"limit\":-99999999999999999999}", "/limit",
         "limit: Input should be greater than or equal to 1"},
        {"{\"name\":\"x\",\"offset\":-6}", "/offset",
         "offset: Input should be greater than or equal to -5"},
        {"{\"name\":\"x\",\"any\":9223372036854775808}", "/any",
         "any: Input should be an integer of at most 64 bits"},
        {"{\"name\":\"x\",\"flag\":1}", "/flag", "flag: Input should be a valid boolean"},
        {"{\"name\":\"x\",\"kind\":\"d\"}", "/kind", "kind: Input should be 'a', 'b' or 'c'"},
        {"{\"name\":\"x\",\"kind\":null}", "/kind", "kind: Input should be 'a', 'b' or 'c'"},
        {"{\"name\":\"x\",\"pair\":0}", "/pair", "pair: Input should be 'on' or 'off'"},
        {"{\"name\":\"x\",\"tools\":{}}", "/tools", "tools: Input should be a valid array"},
        {"{\"name\":\"x\",\"tools\":null}", "/tools", "tools: Input should be a valid array"},
        {"{\"name\":\"x\",\"tools\":[1,2,3]}", "/tools",
         "tools: Array should have at most 2 items"},
        {"{\"name\":\"x\",\"meta\":{\"a\":1,\"b\":2}}", "/meta",
         "meta: Object should have at most 1 member"},
        {"{\"name\":\"x\",\"text\":\"x\"}", "/text",
         "text: String should have at least 2 characters"},
        {"{\"name\":\"x\",\"text\":[1]}", "/text", "text: Array should have at least 2 items"},
        {"{\"name\":\"x\",\"inner\":[]}", "/inner", "inner: Input should be a valid object"},
        {"{\"name\":\"x\",\"inner\":{}}", "/inner/id", "inner.id: Field required"},
        {"{\"name\":\"x\",\"inner\":{\"id\":\"x\",\"y\":1}}", "/inner/y",
         "inner.y: Extra inputs are not permitted"},
        {"{\"name\":\"x\",\"inner\":{\"id\":\"x\",\"n\":\"\"}}", "/inner/n",
         "inner.n: Input should be a valid integer"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_ARENA struct arena a;
        struct outer o;
        struct err err;
        assert_int_equal(decode(&a, cases[i].text, 0, &o, &err), ERR_INVALID);
        assert_int_equal(err.code, ERR_INVALID);
        assert_string_equal(err.msg, cases[i].msg);
        assert_string_equal(err.at, cases[i].at);
    }
}

static void an_element_of_an_array_is_decoded_at_its_own_pointer(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    const struct json *v;
    struct err err;
    assert_int_equal(json_parse(&a, STR("{\"events\":[{\"id\":\"x\"},{\"id\":1}]}"), 0, &v, &err),
                     0);
    char at[ERR_AT_MAX], event_at[ERR_AT_MAX];
    json_pointer_key(at, "", STR("events"));
    json_pointer_index(event_at, at, 1);
    struct inner in;
    assert_int_equal(json_decode(json_at(json_get(v, "events"), 1), inner_fields, &in, sizeof in,
                                 event_at, &err),
                     ERR_INVALID);
    assert_string_equal(err.at, "/events/1/id");
    assert_string_equal(err.msg, "events.1.id: Input should be a valid string");
    assert_int_equal(json_decode(NULL, inner_fields, &in, sizeof in, "/events/9", &err),
                     ERR_INVALID);
    assert_string_equal(err.msg, "events.9: Input should be a valid object");
    assert_int_equal(json_decode(NULL, inner_fields, &in, sizeof in, "", NULL), ERR_INVALID);
}

static void a_long_list_of_names_is_cut_with_dots(void **state)
{
    (void)state;
    enum { NAMES = 40 };
    static char text[NAMES][16];
    static const char *names[NAMES + 1];
    for (int i = 0; i < NAMES; i++) {
        snprintf(text[i], sizeof text[i], "value.number.%d", i);
        names[i] = text[i];
    }
    const struct json_field list[] = {JSON_FIELD_ENUM(struct outer, kind, "kind", .names = names),
                                      JSON_FIELD_END};
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    const struct json *v;
    struct err err;
    struct outer o;
    assert_int_equal(json_parse(&a, STR("{\"kind\":\"x\"}"), 0, &v, &err), 0);
    assert_int_equal(json_decode(v, list, &o, sizeof o, "", &err), ERR_INVALID);
    assert_int_equal(strncmp(err.msg, "kind: Input should be 'value.number.0', ", 40), 0);
    assert_string_equal(err.msg + strlen(err.msg) - 6, "', ...");
}

static void fail_puts_the_dotted_path_before_the_message(void **state)
{
    (void)state;
    struct err err;
    assert_int_equal(json_fail(&err, "/events/0", "type", "%s is new", "x"), ERR_INVALID);
    assert_string_equal(err.at, "/events/0/type");
    assert_string_equal(err.msg, "events.0.type: x is new");
    json_fail(&err, "/a~1b~0c", NULL, "wrong");
    assert_string_equal(err.at, "/a~1b~0c");
    assert_string_equal(err.msg, "a/b~c: wrong");
    json_fail(&err, "", NULL, "wrong");
    assert_string_equal(err.at, "");
    assert_string_equal(err.msg, "wrong");
    assert_int_equal(json_fail(NULL, "/x", "y", "wrong"), ERR_INVALID);
}

/* Well-formed UTF-8, and every tilde with its digit. */
static void assert_whole(const char *p)
{
    assert_true(str_utf8(str_z(p)));
    for (const char *t = p; (t = strchr(t, '~')); t++)
        assert_true(t[1] == '0' || t[1] == '1');
}

static void a_pointer_is_escaped_and_cut_at_a_whole_unit(void **state)
{
    (void)state;
    char p[ERR_AT_MAX];
    json_pointer_key(p, "", STR("a/b~c"));
    json_pointer_index(p, p, 42);
    json_pointer_key(p, p, STR(""));
    assert_string_equal(p, "/a~1b~0c/42/");
    json_pointer_key(p, "", STR("a\0\n\x7f\xff\xc3\xa9"));
    assert_string_equal(p, "/a\\u0000\\u000a\\u007f\xef\xbf\xbd\xc3\xa9");

    /* For every length of what stands before: never longer, never a torn unit, and a cut one stays
     * cut. */
    static const char *const units[] = {"~",  "/", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
                                        "\n", "x"};
    for (size_t u = 0; u < COUNT_OF(units); u++) {
        for (size_t lead = 0; lead < ERR_AT_MAX + 4; lead++) {
            char key[256] = "";
            memset(key, 'k', lead);
            for (size_t i = 0; i < 4; i++)
                snprintf(key + strlen(key), sizeof key - strlen(key), "%s", units[u]);
            json_pointer_key(p, "", str_z(key));
            assert_true(strlen(p) < ERR_AT_MAX);
            assert_whole(p);
            char again[ERR_AT_MAX];
            json_pointer_key(
                again, p,
                STR("more and more and more and more and more and more and more and more"));
            assert_int_equal(strlen(again), ERR_AT_MAX - 1);
            assert_string_equal(again + ERR_AT_MAX - 4, "...");
            assert_whole(again);
            json_pointer_index(p, again, 1);
            assert_string_equal(p, again);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_field_lands_in_its_member),
        cmocka_unit_test(absent_and_null_fields_leave_zero_values),
        cmocka_unit_test(of_duplicate_members_the_last_counts_whole),
        cmocka_unit_test(an_error_names_the_field_and_the_remedy),
        cmocka_unit_test(an_element_of_an_array_is_decoded_at_its_own_pointer),
        cmocka_unit_test(a_long_list_of_names_is_cut_with_dots),
        cmocka_unit_test(fail_puts_the_dotted_path_before_the_message),
        cmocka_unit_test(a_pointer_is_escaped_and_cut_at_a_whole_unit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
