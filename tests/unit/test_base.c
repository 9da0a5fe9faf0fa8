#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/list.h"
#include "base/map.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void err_keeps_code_place_and_message(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(err_at(&e, ERR_INVALID, "/name", "name: %s", "Field required"), ERR_INVALID);
    assert_string_equal(e.at, "/name");
    assert_string_equal(e.msg, "name: Field required");
    assert_int_equal(err_http_status(e.code), 400);
    assert_string_equal(err_api_type(e.code), "invalid_request_error");
    assert_int_equal(err_sys(&e, ENOSPC, "write"), ERR_NO_SPACE);
    assert_int_equal(err_wrap(&e, "commit"), ERR_NO_SPACE);
    assert_string_equal(e.msg, "commit: write: No space left on device");
}

static void arena_stops_at_its_bound_and_stays_failed(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    arena_init(&a, 10000);
    assert_non_null(arena_alloc(&a, 6000));
    assert_non_null(arena_alloc(&a, 100));
    assert_null(arena_alloc(&a, 6000));
    assert_null(arena_alloc(&a, 1));
    assert_true(a.failed);
    arena_reset(&a);
    assert_string_equal(arena_printf(&a, "%d-%s", 7, "x").ptr, "7-x");
}

static void buf_fails_sticky_and_never_passes_its_maximum(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(300);
    for (int i = 0; i < 29; i++)
        buf_z(&b, "0123456789");
    assert_true(buf_ok(&b));
    buf_put(&b, "0123456789x", 11);
    assert_false(buf_ok(&b));
    buf_ch(&b, 'y');
    assert_int_equal(b.len, 290);
    buf_consume(&b, 285);
    assert_string_equal(b.data, "56789");
}

static void map_finds_what_was_put_after_growth_and_removal(void **state)
{
    (void)state;
    static char keys[2000][8];
    struct map m = {0};
    for (int i = 0; i < 2000; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        assert_null(map_put(&m, str_z(keys[i]), keys[i]));
    }
    for (int i = 0; i < 2000; i += 2)
        assert_ptr_equal(map_remove(&m, str_z(keys[i])), keys[i]);
    for (int i = 0; i < 2000; i++)
        assert_ptr_equal(map_get(&m, str_z(keys[i])), i % 2 ? keys[i] : NULL);
    size_t at = 0, n = 0;
    while (map_next(&m, &at, NULL))
        n++;
    assert_int_equal(n, 1000);
    map_fini(&m);
}

static void ids_sort_by_creation_and_never_repeat(void **state)
{
    (void)state;
    struct id last = id_new("sevt");
    for (int i = 0; i < 5000; i++) {
        struct id next = id_new("sevt");
        assert_true(str_cmp(id_str(&last), id_str(&next)) < 0);
        last = next;
    }
    assert_int_equal(strlen(last.z), strlen("sevt_01") + 22);
    assert_true(id_valid(id_str(&last), "sevt"));
    assert_false(id_valid(STR("sevt_../../x"), "sevt"));
    assert_false(id_valid(STR("agent_01abc"), "sevt"));
}

static void times_round_trip_and_bad_ones_are_refused(void **state)
{
    (void)state;
    char out[CLOCK_TEXT_MAX];
    int64_t t;
    assert_true(clock_parse(STR("2026-11-20T21:20:21.123456Z"), &t));
    clock_format(out, t);
    assert_string_equal(out, "2026-11-20T21:20:21.123456Z");
    int64_t u;
    assert_true(clock_parse(STR("2026-11-20T23:20:21.123456+02:00"), &u));
    assert_int_equal(t, u);
    static const char *const bad[] = {
        "2026-11-20",          "2026-13-01T00:00:00Z",  "2026-04-31T00:00:00Z",
        "2026-11-20T21:20:21", "2026-11-20T21:20:21.Z", ""};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(clock_parse(str_z(bad[i]), &t));
}

static void utf8_is_checked_and_cut_on_code_points(void **state)
{
    (void)state;
    assert_true(str_utf8(STR("gr\xc3\xbc\xc3\x9f")));
    assert_false(str_utf8(STR("\xc0\x80")));
    assert_false(str_utf8(STR("\xed\xa0\x80")));
    assert_false(str_utf8(STR("\xc3")));
    assert_int_equal(str_utf8_take(STR("a\xc3\xbc"), 2).len, 1);
    assert_int_equal(str_utf8_len(STR("a\xc3\xbc")), 2);
}

static void numbers_are_whole_or_refused(void **state)
{
    (void)state;
    int64_t v;
    assert_true(str_i64(STR("-9223372036854775808"), &v));
    assert_true(v == INT64_MIN);
    assert_false(str_i64(STR("9223372036854775808"), &v));
    assert_false(str_i64(STR("12x"), &v));
    assert_false(str_i64(STR(""), &v));
}

static void files_are_replaced_whole(void **state)
{
    (void)state;
    char dir[] = "/tmp/ostler-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char path[64];
    snprintf(path, sizeof path, "%s/a/b", dir);
    struct err e;
    assert_int_equal(fd_mkdirs(path, 0700, &e), 0);
    snprintf(path, sizeof path, "%s/a/b/file", dir);
    assert_int_equal(fd_write_file_atomic(path, STR("one"), 0600, &e), 0);
    assert_int_equal(fd_write_file_atomic(path, STR("two"), 0600, &e), 0);
    AUTO_BUF struct buf b = BUF_INIT(100);
    assert_int_equal(fd_read_file(path, &b, &e), 0);
    assert_string_equal(b.data, "two");
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_keeps_code_place_and_message),
        cmocka_unit_test(arena_stops_at_its_bound_and_stays_failed),
        cmocka_unit_test(buf_fails_sticky_and_never_passes_its_maximum),
        cmocka_unit_test(map_finds_what_was_put_after_growth_and_removal),
        cmocka_unit_test(ids_sort_by_creation_and_never_repeat),
        cmocka_unit_test(times_round_trip_and_bad_ones_are_refused),
        cmocka_unit_test(utf8_is_checked_and_cut_on_code_points),
        cmocka_unit_test(numbers_are_whole_or_refused),
        cmocka_unit_test(files_are_replaced_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
