#include "api/cursor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static const struct cursor sample = {
    .list = CURSOR_SESSIONS,
    .desc = true,
    .backward = true,
    .at_us = INT64_C(1795213012123456),
    .number = 42,
    .inbox = 7,
    .id = {"sesn_01abc", 10},
};

static struct str written(const struct cursor *c)
{
    AUTO_BUF struct buf b = BUF_INIT(1024);
    cursor_write(&b, c);
    return arena_str(&arena, buf_view(&b));
}

static void a_cursor_comes_back_as_it_was_made(void **state)
{
    (void)state;
    struct cursor got;
    struct err err;
    assert_int_equal(cursor_read(&arena, written(&sample), CURSOR_SESSIONS, true, &got, &err), 0);
    assert_true(got.backward && got.desc);
    assert_int_equal(got.at_us, sample.at_us);
    assert_int_equal(got.number, 42);
    assert_int_equal(got.inbox, 7);
    assert_true(str_eq(got.id, sample.id));
}

static void a_cursor_without_an_id_is_fine(void **state)
{
    (void)state;
    struct cursor c = {.list = CURSOR_EVENTS, .number = 5}, got;
    struct err err;
    assert_int_equal(cursor_read(&arena, written(&c), CURSOR_EVENTS, false, &got, &err), 0);
    assert_int_equal(got.number, 5);
    assert_int_equal(got.id.len, 0);
}

static void a_cursor_of_another_order_is_refused_and_says_which(void **state)
{
    (void)state;
    struct cursor got;
    struct err err;
    assert_int_equal(cursor_read(&arena, written(&sample), CURSOR_SESSIONS, false, &got, &err),
                     ERR_INVALID);
    assert_string_equal(err.at, "page");
    assert_non_null(strstr(err.msg, "order=desc"));
}

static void a_cursor_of_another_list_is_refused(void **state)
{
    (void)state;
    struct cursor got;
    struct err err;
    assert_int_equal(cursor_read(&arena, written(&sample), CURSOR_EVENTS, true, &got, &err),
                     ERR_INVALID);
    assert_string_equal(err.at, "page");
}

static void whatever_is_no_cursor_is_refused(void **state)
{
    (void)state;
    static const char *const rubbish[] = {
        "",
        "x",
        "....",
        "rubbish",
        "cw",
        "czFkbiA",
        "czFkbiAx",
        "c2Fkbg==",
        "a b",
        "\xff\xfe",
        "====",
        "czFkbiAxIDIgMw",
        "czFkbiA5OTk5OTk5OTk5OTk5OTk5OTk5OTk5IDIgMyA",
    };
    for (size_t i = 0; i < COUNT_OF(rubbish); i++) {
        struct cursor got;
        struct err err;
        assert_int_equal(cursor_read(&arena, str_z(rubbish[i]), CURSOR_SESSIONS, true, &got, &err),
                         ERR_INVALID);
        assert_string_equal(err.at, "page");
    }
    char *endless = mem_zalloc(100001);
    memset(endless, 'A', 100000);
    struct cursor got;
    struct err err;
    assert_int_equal(cursor_read(&arena, str_z(endless), CURSOR_SESSIONS, true, &got, &err),
                     ERR_INVALID);
    mem_free(endless);
}

static void base64url_follows_its_test_vectors(void **state)
{
    (void)state;
    static const struct {
        const char *plain, *text;
    } cases[] = {
        {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff", "-_8"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_BUF struct buf b = BUF_INIT(64);
        base64url_write(&b, str_z(cases[i].plain));
        assert_true(str_eqz(buf_view(&b), cases[i].text));
        struct str back;
        assert_true(base64url_read(&arena, str_z(cases[i].text), &back));
        assert_true(str_eqz(back, cases[i].plain));
    }
    struct str out;
    assert_false(base64url_read(&arena, STR("Zh"), &out)); /* leftover bits */
    assert_false(base64url_read(&arena, STR("Zg=="), &out));
    assert_false(base64url_read(&arena, STR("Z"), &out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cursor_comes_back_as_it_was_made),
        cmocka_unit_test(a_cursor_without_an_id_is_fine),
        cmocka_unit_test(a_cursor_of_another_order_is_refused_and_says_which),
        cmocka_unit_test(a_cursor_of_another_list_is_refused),
        cmocka_unit_test(whatever_is_no_cursor_is_refused),
        cmocka_unit_test(base64url_follows_its_test_vectors),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
