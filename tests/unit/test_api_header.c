/* Values of request headers. */
#include "api/header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void a_list_of_betas_is_searched_value_by_value(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        bool there;
    } cases[] = {
        {"b", true},   {"a,b", true}, {"a, b ,c", true}, {"b,", true},   {",,b", true},
        {"bb", false}, {"", false},   {"a b", false},    {"a;b", false}, {"B", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(header_lists(str_z(cases[i].list), "b"), cases[i].there);
    assert_false(header_lists(STR_NONE, "b"));
}

static void json_is_told_by_its_media_type(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        bool json;
    } cases[] = {
        {"application/json", true},
        {" Application/JSON ; charset=utf-8", true},
        {"application/vnd.x+json", true},
        {"application/problem+json;a=b", true},
        {"application/+json", false},
        {"application/jsonl", false},
        {"text/json", false},
        {"", false},
        {";application/json", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(header_is_json(str_z(cases[i].type)), cases[i].json);
    assert_false(header_is_json(STR_NONE));
}

static void an_idempotency_key_has_at_most_255_bytes_of_text(void **state)
{
    (void)state;
    char longest[IDEMPOTENCY_KEY_MAX + 1];
    struct str key = STR("untouched");
    struct err err;
    memset(longest, 'k', sizeof longest);
    assert_int_equal(header_idempotency_key(STR(" retry-1\t"), &key, &err), 0);
    assert_true(str_eqz(key, "retry-1"));
    assert_int_equal(header_idempotency_key(str_n(longest, IDEMPOTENCY_KEY_MAX), &key, &err), 0);
    assert_int_equal(key.len, IDEMPOTENCY_KEY_MAX);
    assert_int_equal(header_idempotency_key(str_n(longest, sizeof longest), &key, &err),
                     ERR_INVALID);
    assert_string_equal(err.at, "idempotency-key");
    assert_int_equal(header_idempotency_key(STR("\xff"), &key, &err), ERR_INVALID);
    assert_int_equal(header_idempotency_key(STR("  "), &key, &err), 0);
    assert_false(str_some(key));
}

static void the_api_key_comes_from_either_header(void **state)
{
    (void)state;
    assert_true(str_eqz(header_api_key(STR(" a "), STR("Bearer b")), "a"));
    assert_true(str_eqz(header_api_key(STR(" "), STR("bearer  b ")), "b"));
    assert_true(str_eqz(header_api_key(STR_NONE, STR("BEARER b")), "b"));
    assert_false(str_some(header_api_key(STR_NONE, STR("Basic b"))));
    assert_false(str_some(header_api_key(STR_NONE, STR("Bearer "))));
    assert_false(str_some(header_api_key(STR_NONE, STR_NONE)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_of_betas_is_searched_value_by_value),
        cmocka_unit_test(json_is_told_by_its_media_type),
        cmocka_unit_test(an_idempotency_key_has_at_most_255_bytes_of_text),
        cmocka_unit_test(the_api_key_comes_from_either_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
