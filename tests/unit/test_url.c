/* http/: percent-coding, query strings, header lookup, status texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "http/http.h"

static void escapes_are_decoded_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        bool plus;
        const char *out; /* NULL: refused */
    } rows[] = {
        {"", false, ""},
        {"plain", false, "plain"},
        {"a%20b", false, "a b"},
        {"a+b", false, "a+b"},
        {"a+b", true, "a b"},
        {"%2B", true, "+"},
        {"%e2%82%AC", false, "\xe2\x82\xac"},
        {"%2f%2F", false, "//"},
        {"%", false, NULL},
        {"%4", false, NULL},
        {"a%4", false, NULL},
        {"%zz", false, NULL},
        {"%+1", false, NULL},
        {"%00", false, NULL},
        {"a%00b", false, NULL},
        {"%ff", false, NULL},       /* not UTF-8 */
        {"%c0%af", false, NULL},    /* overlong */
        {"%ed%a0%80", false, NULL}, /* a surrogate */
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        AUTO_ARENA struct arena a;
        arena_init(&a, 4096);
        struct str out;
        struct err err;
        int rc = http_decode(&a, str_z(rows[i].in), rows[i].plus, &out, &err);
        if (!rows[i].out) {
            assert_int_equal(rc, ERR_INVALID);
            assert_int_equal(err.code, ERR_INVALID);
            continue;
        }
        assert_int_equal(rc, 0);
        assert_true(str_eqz(out, rows[i].out));
    }
}

static void the_complaint_quotes_only_printable_bytes(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    arena_init(&a, 4096);
    struct str out;
    struct err err;
    assert_int_equal(http_decode(&a, STR("\x1b[31m%zz"), false, &out, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "?[31m%zz"));
}

static void encoding_leaves_only_unreserved_characters(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1000);
    http_encode(&b, STR("aZ09-._~ /?&=+%\xc3\xa4"));
    assert_string_equal(b.data, "aZ09-._~%20%2F%3F%26%3D%2B%25%C3%A4");
}

static void what_was_encoded_decodes_to_itself(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    arena_init(&a, 64 * 1024);
    char all[127];
    for (int i = 1; i < 128; i++)
        all[i - 1] = (char)i;
    AUTO_BUF struct buf b = BUF_INIT(4096);
    http_encode(&b, str_n(all, sizeof all));
    struct str back;
    assert_int_equal(http_decode(&a, buf_view(&b), true, &back, NULL), 0);
    assert_true(str_eq(back, str_n(all, sizeof all)));
}

static void a_query_splits_into_decoded_pairs(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    arena_init(&a, 64 * 1024);
    struct http_param *p;
    size_t n;
    struct str query = STR("limit=10&&types[]=a%20b&types%5B%5D=c+d&flag&empty=&x=1=2");
    assert_int_equal(http_query(&a, query, &p, &n, NULL), 0);
    static const char *const want[][2] = {
        {"limit", "10"}, {"types[]", "a b"}, {"types[]", "c d"},
        {"flag", ""},    {"empty", ""},      {"x", "1=2"},
    };
    assert_int_equal(n, COUNT_OF(want));
    for (size_t i = 0; i < n; i++) {
        assert_true(str_eqz(p[i].name, want[i][0]));
        assert_true(str_eqz(p[i].value, want[i][1]));
    }
    assert_int_equal(http_query(&a, STR(""), &p, &n, NULL), 0);
    assert_int_equal(n, 0);
}

static void a_query_with_too_many_pairs_or_a_bad_escape_is_refused(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    arena_init(&a, 64 * 1024);
    struct http_param *p;
    size_t n;
    AUTO_BUF struct buf b = BUF_INIT(4096);
    for (int i = 0; i < 256; i++)
        buf_z(&b, "a=1&");
    assert_int_equal(http_query(&a, buf_view(&b), &p, &n, NULL), 0);
    assert_int_equal(n, 256);
    buf_z(&b, "a=1");
    assert_int_equal(http_query(&a, buf_view(&b), &p, &n, NULL), ERR_INVALID);
    assert_int_equal(http_query(&a, STR("a=%f"), &p, &n, NULL), ERR_INVALID);
}

static void headers_are_found_in_any_case(void **state)
{
    (void)state;
    struct http_header h[] = {{STR("Content-Type"), STR("x")}, {STR("Empty"), STR("")}};
    assert_true(str_eqz(http_header_get(h, 2, "content-TYPE"), "x"));
    assert_true(str_some(http_header_get(h, 2, "empty")));
    assert_false(str_some(http_header_get(h, 2, "content")));
    assert_string_equal(http_status_text(404), "Not Found");
    assert_string_equal(http_status_text(299), "Unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_are_decoded_or_refused),
        cmocka_unit_test(the_complaint_quotes_only_printable_bytes),
        cmocka_unit_test(encoding_leaves_only_unreserved_characters),
        cmocka_unit_test(what_was_encoded_decodes_to_itself),
        cmocka_unit_test(a_query_splits_into_decoded_pairs),
        cmocka_unit_test(a_query_with_too_many_pairs_or_a_bad_escape_is_refused),
        cmocka_unit_test(headers_are_found_in_any_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
