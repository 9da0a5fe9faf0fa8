/* Caps and reservations: what may be spent, and the worst case of a request before it is sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "core/budget.h"

/* 5 and 25 dollars per million tokens. */
static const struct model_facts priced = {.context_tokens = 200000,
                                          .max_output_tokens = 64000,
                                          .input_price = 5000000,
                                          .output_price = 25000000,
                                          .priced = true,
                                          .counts_tokens = true};
static const struct model_facts free_of_charge = {.priced = true};
static const struct model_facts unknown = {0};

static const struct session_usage fresh = {0};

static struct str limits(const char *json)
{
    return str_z(json);
}

/* ---- caps ---- */

static void absent_caps_cap_nothing(void **state)
{
    (void)state;
    struct caps c;
    caps_read(&c, 0, STR_NONE);
    struct session_usage u = {.cost_microusd = INT64_MAX / 2,
                              .input_tokens = INT64_MAX / 2,
                              .turns = 1000,
                              .active_us = INT64_MAX / 2};
    assert_null(caps_reached(&c, &u, true, 0));
}

static void caps_are_read_from_what_was_stored(void **state)
{
    (void)state;
    struct caps c;
    caps_read(&c, 250000, limits("{\"max_turns\":3,\"max_tokens\":9007199254740991}"));
    assert_int_equal(c.budget_microusd, 250000);
    assert_int_equal(c.max_turns, 3);
    assert_int_equal(c.max_tokens, INT64_C(9007199254740991));
    assert_int_equal(c.max_seconds, 0);
    assert_int_equal(c.max_cost_microusd, 0);
    caps_read(&c, 0, limits("{\"max_seconds\":60,\"max_cost_microusd\":17,\"max_turns\":null}"));
    assert_int_equal(c.budget_microusd, 0);
    assert_int_equal(c.max_turns, 0);
    assert_int_equal(c.max_seconds, 60);
    assert_int_equal(c.max_cost_microusd, 17);
}

static void each_cap_is_reached_at_its_value_and_not_before(void **state)
{
    (void)state;
    static const struct {
        struct caps caps;
        struct session_usage below, at;
        const char *name;
    } rows[] = {
        {{.budget_microusd = 100}, {.cost_microusd = 99}, {.cost_microusd = 100}, "budget"},
        {{.budget_microusd = 100},
         {.cost_microusd = 60, .held_microusd = 39},
         {.cost_microusd = 60, .held_microusd = 40},
         "budget"},
        {{.max_turns = 2}, {.turns = 1}, {.turns = 2}, "max_turns"},
        {{.max_tokens = 10},
         {.input_tokens = 5, .output_tokens = 4},
         {.input_tokens = 2,
          .output_tokens = 2,
          .cache_read_tokens = 2,
          .cache_write_5m_tokens = 2,
          .cache_write_1h_tokens = 2},
         "max_tokens"},
        {{.max_seconds = 2}, {.active_us = 1999999}, {.active_us = 2000000}, "max_seconds"},
        {{.max_cost_microusd = 7}, {.held_microusd = 6}, {.cost_microusd = 7}, "max_cost_microusd"},
        {{.budget_microusd = 7, .max_cost_microusd = 7},
         {.cost_microusd = 6},
         {.cost_microusd = 7},
         "budget"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_null(caps_reached(&rows[i].caps, &rows[i].below, true, 0));
        const char *reached = caps_reached(&rows[i].caps, &rows[i].at, true, 0);
        assert_non_null(reached);
        assert_string_equal(reached, rows[i].name);
    }
}

static void turns_that_ended_stop_new_turns_only(void **state)
{
    (void)state;
    struct caps c = {.max_turns = 1};
    struct session_usage u = {.turns = 1};
    assert_string_equal(caps_reached(&c, &u, true, 0), "max_turns");
    assert_null(caps_reached(&c, &u, false, 0));
}

static void the_open_stretch_of_running_counts(void **state)
{
    (void)state;
    struct caps c = {.max_seconds = 10};
    struct session_usage u = {.active_us = 4000000, .running_since_us = 100000000};
    assert_null(caps_reached(&c, &u, false, 105000000));
    assert_string_equal(caps_reached(&c, &u, false, 106000000), "max_seconds");
}

/* ---- reservations ---- */

static enum reserve reserve(struct caps c, struct session_usage u, const struct model_facts *f,
                            struct request_size size, struct reservation *out)
{
    return budget_reserve(&c, &u, f, &size, out);
}

static void without_caps_nothing_is_reserved(void **state)
{
    (void)state;
    struct reservation r;
    struct caps c = {.max_turns = 1, .max_seconds = 1};
    assert_int_equal(reserve(c, fresh, &unknown, (struct request_size){.bytes = 1 << 30}, &r),
                     RESERVE_OK);
    assert_int_equal(r.microusd, 0);
    assert_int_equal(r.max_tokens, 0);
    assert_null(r.limit);
}

static void a_request_that_fits_reserves_its_worst_case(void **state)
{
    (void)state;
    struct reservation r;
    /* 10,000 bytes at 5 and 64,000 tokens at 25 dollars per million: 0.05 + 1.6 dollars */
    assert_int_equal(reserve((struct caps){.budget_microusd = 1650000}, fresh, &priced,
                             (struct request_size){.bytes = 10000}, &r),
                     RESERVE_OK);
    assert_int_equal(r.max_tokens, 64000);
    assert_int_equal(r.microusd, 1650000);
    /* one micro-dollar less: one token less */
    assert_int_equal(reserve((struct caps){.budget_microusd = 1649999}, fresh, &priced,
                             (struct request_size){.bytes = 10000}, &r),
                     RESERVE_OK);
    assert_int_equal(r.max_tokens, 63999);
    assert_int_equal(r.microusd, 1649975);
}

static void costs_are_rounded_up_to_a_micro_dollar(void **state)
{
    (void)state;
    struct model_facts f = {.priced = true, .max_output_tokens = 300, .input_price = 1};
    struct reservation r;
    assert_int_equal(reserve((struct caps){.budget_microusd = 1}, fresh, &f,
                             (struct request_size){.bytes = 1}, &r),
                     RESERVE_OK);
    assert_int_equal(r.microusd, 1);
    assert_int_equal(reserve((struct caps){.budget_microusd = 1}, fresh, &f,
                             (struct request_size){.bytes = 1000000}, &r),
                     RESERVE_OK);
    assert_int_equal(r.microusd, 1);
    assert_int_equal(reserve((struct caps){.budget_microusd = 1}, fresh, &f,
                             (struct request_size){.bytes = 1000001, .counted = 1000001}, &r),
                     RESERVE_STOP);
}

static void what_is_held_for_lost_requests_is_gone(void **state)
{
    (void)state;
    struct reservation r;
    struct session_usage u = {.cost_microusd = 100000, .held_microusd = 200000};
    struct request_size exact = {.bytes = 9, .counted = 1000};
    /* 1,000,000 - 300,000 - 5,000 = 695,000 at 25 each */
    assert_int_equal(reserve((struct caps){.budget_microusd = 1000000}, u, &priced, exact, &r),
                     RESERVE_OK);
    assert_int_equal(r.max_tokens, 27800);
    assert_int_equal(r.microusd, 700000);
}

static void bytes_that_do_not_fit_ask_for_the_count(void **state)
{
    (void)state;
    struct reservation r;
    struct caps c = {.budget_microusd = 100000};
    /* 20,000 tokens at 5: all of it */
    struct request_size size = {.bytes = 20000};
    assert_int_equal(reserve(c, fresh, &priced, size, &r), RESERVE_COUNT);
    size.counted = 5000;
    assert_int_equal(reserve(c, fresh, &priced, size, &r), RESERVE_OK);
    assert_int_equal(r.max_tokens, 3000);
    assert_int_equal(r.microusd, 100000);
    size.counted = 19000;
    assert_int_equal(reserve(c, fresh, &priced, size, &r), RESERVE_STOP);
    assert_string_equal(r.limit, "budget");
    assert_int_equal(r.microusd, 0);
}

static void where_nobody_counts_half_the_bytes_are_taken(void **state)
{
    (void)state;
    struct reservation r;
    struct caps c = {.budget_microusd = 100000};
    struct model_facts f = priced;
    struct request_size size = {.bytes = 20001};
    size.counted = -1; /* it was asked in vain: 10,001 tokens */
    assert_int_equal(reserve(c, fresh, &f, size, &r), RESERVE_OK);
    assert_int_equal(r.max_tokens, 1999);
    f.counts_tokens = false; /* it cannot be asked */
    size.counted = 0;
    assert_int_equal(reserve(c, fresh, &f, size, &r), RESERVE_OK);
    assert_int_equal(r.max_tokens, 1999);
    size.bytes = 40000;
    assert_int_equal(reserve(c, fresh, &f, size, &r), RESERVE_STOP);
    /* bytes that fit as they are need no halving */
    size.bytes = 10000;
    assert_int_equal(reserve(c, fresh, &f, size, &r), RESERVE_OK);
    assert_int_equal(r.max_tokens, 2000);
}

static void media_may_be_more_tokens_than_bytes(void **state)
{
    (void)state;
    struct reservation r;
    struct caps c = {.budget_microusd = 100000};
    struct request_size size = {.bytes = 1000, .media = 2}; /* 17,000 tokens: 85,000 */
    assert_int_equal(reserve(c, fresh, &priced, size, &r), RESERVE_OK);
    assert_int_equal(r.max_tokens, 600);
    size.media = 3;
    size.counted = -1; /* they are not halved */
    assert_int_equal(reserve(c, fresh, &priced, size, &r), RESERVE_STOP);
}

static void a_prompt_is_never_longer_than_the_context(void **state)
{
    (void)state;
    struct reservation r;
    /* 200,000 at 5, 64,000 at 25 */
    struct request_size size = {.bytes = 30 << 20, .media = 100};
    assert_int_equal(reserve((struct caps){.budget_microusd = 2600000}, fresh, &priced, size, &r),
                     RESERVE_OK);
    assert_int_equal(r.microusd, 2600000);
    struct model_facts f = priced;
    f.context_tokens = 0;
    assert_int_equal(reserve((struct caps){.budget_microusd = 2600000}, fresh, &f, size, &r),
                     RESERVE_COUNT);
}

static void an_answer_below_the_minimum_stops(void **state)
{
    (void)state;
    struct reservation r;
    struct request_size size = {.bytes = 100, .counted = 100};
    int64_t enough = 100 * 5 + BUDGET_MIN_ANSWER_TOKENS * 25;
    assert_int_equal(reserve((struct caps){.budget_microusd = enough}, fresh, &priced, size, &r),
                     RESERVE_OK);
    assert_int_equal(r.max_tokens, BUDGET_MIN_ANSWER_TOKENS);
    assert_int_equal(
        reserve((struct caps){.budget_microusd = enough - 1}, fresh, &priced, size, &r),
        RESERVE_STOP);
    /* a model that never says more than 100 tokens is not held to 256 */
    struct model_facts f = priced;
    f.max_output_tokens = 100;
    assert_int_equal(reserve((struct caps){.budget_microusd = 3000}, fresh, &f, size, &r),
                     RESERVE_OK);
    assert_int_equal(r.max_tokens, 100);
}

static void an_unknown_answer_length_is_bounded(void **state)
{
    (void)state;
    struct reservation r;
    struct model_facts f = priced;
    f.max_output_tokens = 0;
    assert_int_equal(reserve((struct caps){.budget_microusd = INT64_MAX}, fresh, &f,
                             (struct request_size){.bytes = 1}, &r),
                     RESERVE_OK);
    assert_int_equal(r.max_tokens, 32000);
}

static void a_spent_budget_stops_without_asking_for_a_count(void **state)
{
    (void)state;
    struct reservation r;
    struct session_usage u = {.cost_microusd = 500};
    struct request_size size = {.bytes = 1};
    assert_int_equal(reserve((struct caps){.budget_microusd = 500}, u, &priced, size, &r),
                     RESERVE_STOP);
    assert_string_equal(r.limit, "budget");
    /* what costs nothing does not run on a spent budget either */
    assert_int_equal(reserve((struct caps){.budget_microusd = 500}, u, &free_of_charge, size, &r),
                     RESERVE_STOP);
    assert_int_equal(reserve((struct caps){.budget_microusd = 501}, u, &free_of_charge, size, &r),
                     RESERVE_OK);
    assert_int_equal(r.microusd, 0);
}

static void no_money_can_be_held_for_an_unpriced_model(void **state)
{
    (void)state;
    struct reservation r;
    struct model_facts f = {.counts_tokens = true};
    struct request_size size = {.bytes = 1};
    assert_int_equal(reserve((struct caps){.budget_microusd = 1 << 30}, fresh, &f, size, &r),
                     RESERVE_STOP);
    assert_string_equal(r.limit, "budget");
    assert_int_equal(reserve((struct caps){.max_cost_microusd = 1 << 30}, fresh, &f, size, &r),
                     RESERVE_STOP);
    assert_string_equal(r.limit, "max_cost_microusd");
}

static void the_tightest_cap_is_the_one_that_is_named(void **state)
{
    (void)state;
    static const struct {
        struct caps caps;
        const char *limit;
    } rows[] = {
        {{.budget_microusd = 10, .max_cost_microusd = 20}, "budget"},
        {{.budget_microusd = 20, .max_cost_microusd = 10}, "max_cost_microusd"},
        {{.budget_microusd = 10, .max_cost_microusd = 10}, "budget"},
        {{.max_cost_microusd = 10, .max_tokens = 1 << 30}, "max_cost_microusd"},
        {{.budget_microusd = 1 << 30, .max_tokens = 300}, "max_tokens"},
        {{.max_tokens = 300}, "max_tokens"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reservation r;
        assert_int_equal(
            reserve(rows[i].caps, fresh, &priced, (struct request_size){9, 0, 100}, &r),
            RESERVE_STOP);
        assert_string_equal(r.limit, rows[i].limit);
    }
}

static void tokens_left_bound_prompt_and_answer(void **state)
{
    (void)state;
    struct reservation r;
    struct caps c = {.max_tokens = 10000};
    struct session_usage u = {.input_tokens = 3000, .output_tokens = 1000, .cache_read_tokens = 1};
    struct request_size size = {.bytes = 4000};
    assert_int_equal(reserve(c, u, &priced, size, &r), RESERVE_OK);
    assert_int_equal(r.max_tokens, 1999);
    assert_int_equal(r.microusd, 0);
    size.bytes = 6000;
    assert_int_equal(reserve(c, u, &priced, size, &r), RESERVE_COUNT);
    size.counted = 1500;
    assert_int_equal(reserve(c, u, &priced, size, &r), RESERVE_OK);
    assert_int_equal(r.max_tokens, 4499);
    /* an unpriced model is none the worse for it */
    assert_int_equal(reserve(c, u, &unknown, size, &r), RESERVE_OK);
    u.output_tokens = 7000;
    size.counted = 0;
    assert_int_equal(reserve(c, u, &priced, size, &r), RESERVE_STOP);
}

static void absurd_numbers_do_not_overflow(void **state)
{
    (void)state;
    struct reservation r;
    struct model_facts f = {.priced = true,
                            .max_output_tokens = INT64_MAX,
                            .input_price = INT64_C(1000000000000),
                            .output_price = INT64_C(1000000000000)};
    struct session_usage u = {.cost_microusd = INT64_MAX, .held_microusd = INT64_MAX};
    struct caps c = {.budget_microusd = INT64_MAX, .max_tokens = INT64_MAX};
    struct request_size huge = {.bytes = INT64_MAX, .media = INT64_MAX / 8000};
    assert_int_equal(reserve(c, u, &f, huge, &r), RESERVE_STOP);
    assert_int_equal(reserve(c, fresh, &f, huge, &r), RESERVE_STOP);
    assert_int_equal(reserve(c, fresh, &f, (struct request_size){.bytes = 1}, &r), RESERVE_OK);
    assert_true(r.microusd > 0 && r.max_tokens > 0);
}

/* Whatever the numbers are, what is reserved fits, and one more token of answer would not. */
static void a_reservation_is_the_largest_that_fits(void **state)
{
    (void)state;
    uint64_t x = 88172645463325252u;
    int fitted = 0;
    for (int i = 0; i < 20000; i++) {
        int64_t n[6];
        for (size_t k = 0; k < 6; k++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            n[k] = (int64_t)(x >> 40);
        }
        struct model_facts f = {.priced = true,
                                .max_output_tokens = 1 + n[0] % 100000,
                                .input_price = n[1] % 30000000,
                                .output_price = 1 + n[2] % 100000000};
        struct caps c = {.budget_microusd = 1 + n[3]};
        struct session_usage u = {.cost_microusd = n[4] % (2 * c.budget_microusd)};
        struct request_size size = {.bytes = n[5], .counted = 1 + n[5] % 400000};
        struct reservation r;
        if (budget_reserve(&c, &u, &f, &size, &r) != RESERVE_OK)
            continue;
        fitted++;
        assert_true(u.cost_microusd + r.microusd <= c.budget_microusd);
        __int128 more =
            (__int128)size.counted * f.input_price + (__int128)(r.max_tokens + 1) * f.output_price;
        assert_true(r.max_tokens == f.max_output_tokens ||
                    more > (__int128)(c.budget_microusd - u.cost_microusd) * 1000000);
    }
    assert_true(fitted > 1000);
}

/* ---- changing a budget ---- */

static void the_reasons_against_a_new_budget(void **state)
{
    (void)state;
    static const struct {
        int64_t budget, cost, now;
        bool priced;
        const char *reason;
    } rows[] = {
        {0, 0, 100, true, "budget_create_only"},
        {0, 0, 100, false, "budget_create_only"},
        {0, 0, 0, true, NULL}, /* removing what is not there */
        {100, 50, 0, false, NULL},
        {100, 50, 0, true, NULL},
        {100, 50, 200, true, NULL},
        {100, 50, 51, true, NULL}, /* lower, but above what was spent */
        {100, 50, 50, true, "budget_not_raised"},
        {100, 50, 49, true, "budget_not_raised"},
        {100, 100, 100, true, "budget_not_raised"},
        {100, 0, 100, true, NULL},
        {100, 50, 200, false, "model_not_budgetable"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct caps c = {.budget_microusd = rows[i].budget};
        struct session_usage u = {.cost_microusd = rows[i].cost, .held_microusd = 7};
        const char *reason =
            budget_change_refused(&c, &u, rows[i].priced ? &priced : &unknown, rows[i].now);
        if (rows[i].reason)
            assert_string_equal(reason, rows[i].reason);
        else
            assert_null(reason);
    }
}

/* ---- usage ---- */

static void a_request_that_only_filled_the_cache_is_worth_a_line_in_the_ledger(void **state)
{
    (void)state;
    const struct model_usage rows[] = {{.input_tokens = 1},          {.output_tokens = 1},
                                       {.cache_read_tokens = 1},     {.cache_write_5m_tokens = 1},
                                       {.cache_write_1h_tokens = 1}, {.cost_microusd = 1}};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_true(usage_some(&rows[i]));
    assert_false(usage_some(&(struct model_usage){.unpriced = true}));
}

static void money_is_shown_in_whole_cents(void **state)
{
    (void)state;
    static const struct {
        int64_t microusd;
        const char *text;
    } rows[] = {
        {0, "{\"amount\":\"0\",\"currency\":\"USD\"}"},
        {4999, "{\"amount\":\"0\",\"currency\":\"USD\"}"},
        {5000, "{\"amount\":\"1\",\"currency\":\"USD\"}"},
        {10000, "{\"amount\":\"1\",\"currency\":\"USD\"}"},
        {25000000, "{\"amount\":\"2500\",\"currency\":\"USD\"}"},
        {INT64_C(9999999999990000), "{\"amount\":\"999999999999\",\"currency\":\"USD\"}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        AUTO_BUF struct buf b = BUF_INIT(256);
        struct jw w = jw_to(&b);
        usage_money_write(&w, rows[i].microusd);
        assert_true(str_eqz(buf_view(&b), rows[i].text));
    }
}

static void a_budget_is_written_as_published(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(256);
    struct jw w = jw_to(&b);
    jw_arr(&w);
    usage_budget_write(&w, 250000);
    usage_budget_write(&w, 0);
    jw_arr_end(&w);
    assert_true(str_eqz(buf_view(&b),
                        "[{\"type\":\"limit\",\"max_list_cost\":{\"amount\":\"25\",\"currency\":"
                        "\"USD\"}},null]"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_caps_cap_nothing),
        cmocka_unit_test(caps_are_read_from_what_was_stored),
        cmocka_unit_test(each_cap_is_reached_at_its_value_and_not_before),
        cmocka_unit_test(turns_that_ended_stop_new_turns_only),
        cmocka_unit_test(the_open_stretch_of_running_counts),
        cmocka_unit_test(without_caps_nothing_is_reserved),
        cmocka_unit_test(a_request_that_fits_reserves_its_worst_case),
        cmocka_unit_test(costs_are_rounded_up_to_a_micro_dollar),
        cmocka_unit_test(what_is_held_for_lost_requests_is_gone),
        cmocka_unit_test(bytes_that_do_not_fit_ask_for_the_count),
        cmocka_unit_test(where_nobody_counts_half_the_bytes_are_taken),
        cmocka_unit_test(media_may_be_more_tokens_than_bytes),
        cmocka_unit_test(a_prompt_is_never_longer_than_the_context),
        cmocka_unit_test(an_answer_below_the_minimum_stops),
        cmocka_unit_test(an_unknown_answer_length_is_bounded),
        cmocka_unit_test(a_spent_budget_stops_without_asking_for_a_count),
        cmocka_unit_test(no_money_can_be_held_for_an_unpriced_model),
        cmocka_unit_test(the_tightest_cap_is_the_one_that_is_named),
        cmocka_unit_test(tokens_left_bound_prompt_and_answer),
        cmocka_unit_test(absurd_numbers_do_not_overflow),
        cmocka_unit_test(a_reservation_is_the_largest_that_fits),
        cmocka_unit_test(the_reasons_against_a_new_budget),
        cmocka_unit_test(a_request_that_only_filled_the_cache_is_worth_a_line_in_the_ledger),
        cmocka_unit_test(money_is_shown_in_whole_cents),
        cmocka_unit_test(a_budget_is_written_as_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
