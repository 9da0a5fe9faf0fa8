#include "api/query.h"

#include "base/clock.h"

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

static struct query query_of(const char *text)
{
    struct query q;
    struct http_param *params;
    struct err err;
    assert_int_equal(http_query(&arena, str_z(text), &params, &q.n, &err), 0);
    q.params = params;
    return q;
}

static void integers_are_checked_against_their_bounds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int rc;
        int64_t value;
    } cases[] = {
        {"", 0, 20},
        {"limit=5", 0, 5},
        {"limit=", 0, 20},
        {"limit=0", ERR_INVALID, 0},
        {"limit=100", 0, 100},
        {"limit=101", ERR_INVALID, 0},
        {"limit=x", ERR_INVALID, 0},
        {"limit=1.5", ERR_INVALID, 0},
        {"limit=-1", ERR_INVALID, 0},
        {"limit=1&limit=2", 0, 2},
        {"limit=99999999999999999999", ERR_INVALID, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct query q = query_of(cases[i].text);
        struct err err;
        int64_t n = 20;
        assert_int_equal(query_i64(&q, "limit", 1, 100, &n, &err), cases[i].rc);
        if (cases[i].rc)
            assert_string_equal(err.at, "limit");
        else
            assert_int_equal(n, cases[i].value);
    }
}

static void booleans_are_true_or_false(void **state)
{
    (void)state;
    struct query q = query_of("a=true&b=False&c=1&d=yes");
    struct err err;
    bool a = false, b = true, c = false, d = false;
    assert_int_equal(query_bool(&q, "a", &a, &err), 0);
    assert_int_equal(query_bool(&q, "b", &b, &err), 0);
    assert_int_equal(query_bool(&q, "c", &c, &err), 0);
    assert_true(a && !b && c);
    assert_int_equal(query_bool(&q, "d", &d, &err), ERR_INVALID);
    assert_string_equal(err.at, "d");
}

static void arrays_come_bracketed_repeated_and_encoded(void **state)
{
    (void)state;
    static const char *const names[] = {"idle", "running", "terminated", NULL};
    struct query q =
        query_of("statuses[]=idle&statuses%5B%5D=terminated&statuses=idle&statusesx=q");
    struct err err;
    unsigned bits = 0;
    assert_int_equal(query_set(&q, "statuses", names, &bits, &err), 0);
    assert_int_equal(bits, 5);
    q = query_of("statuses[]=asleep");
    assert_int_equal(query_set(&q, "statuses", names, &bits, &err), ERR_INVALID);
    assert_string_equal(err.at, "statuses");
    assert_non_null(strstr(err.msg, "'idle', 'running' or 'terminated'"));
}

static void an_enum_names_its_choices(void **state)
{
    (void)state;
    static const char *const orders[] = {"asc", "desc", NULL};
    struct query q = query_of("order=sideways");
    struct err err;
    int order = 0;
    assert_int_equal(query_enum(&q, "order", orders, &order, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "order: Input should be 'asc' or 'desc'"));
}

static void times_may_carry_offsets_microseconds_and_a_bare_plus(void **state)
{
    (void)state;
    static const char *const same[] = {
        "created_at[gte]=2026-11-20T21:20:00.000001Z",
        "created_at%5Bgte%5D=2026-11-20T21%3A20%3A00.000001%2B00%3A00",
        "created_at[gte]=2026-11-20T23:20:00.000001+02:00",
    };
    int64_t want;
    assert_true(clock_parse(STR("2026-11-20T21:20:00.000001Z"), &want));
    for (size_t i = 0; i < COUNT_OF(same); i++) {
        struct query q = query_of(same[i]);
        struct time_range r;
        struct err err;
        assert_int_equal(query_range(&q, "created_at", &r, &err), 0);
        assert_int_equal(r.gte, want);
        assert_int_equal(r.lte, 0);
    }
    struct query q = query_of("created_at[lt]=yesterday");
    struct time_range r;
    struct err err;
    assert_int_equal(query_range(&q, "created_at", &r, &err), ERR_INVALID);
    assert_string_equal(err.at, "created_at[lt]");
}

static void bounds_before_1970_keep_their_meaning(void **state)
{
    (void)state;
    struct query q = query_of("t[gte]=1970-01-01T00:00:00Z&t[lte]=1970-01-01T00:00:00Z");
    struct time_range r;
    struct err err;
    assert_int_equal(query_range(&q, "t", &r, &err), 0);
    assert_int_equal(r.gte, 0);
    assert_int_equal(r.lte, 1);
}

static void a_cursor_outside_the_range_is_refused(void **state)
{
    (void)state;
    struct err err;
    const struct time_range r = {.gt = 10, .lte = 20};
    assert_int_equal(time_range_check(&r, 10, &err), ERR_INVALID);
    assert_int_equal(time_range_check(&r, 21, &err), ERR_INVALID);
    assert_int_equal(time_range_check(&r, 11, &err), 0);
    assert_int_equal(time_range_check(&r, 20, &err), 0);
    assert_int_equal(time_range_check(&r, 0, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_checked_against_their_bounds),
        cmocka_unit_test(booleans_are_true_or_false),
        cmocka_unit_test(arrays_come_bracketed_repeated_and_encoded),
        cmocka_unit_test(an_enum_names_its_choices),
        cmocka_unit_test(times_may_carry_offsets_microseconds_and_a_bare_plus),
        cmocka_unit_test(bounds_before_1970_keep_their_meaning),
        cmocka_unit_test(a_cursor_outside_the_range_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
