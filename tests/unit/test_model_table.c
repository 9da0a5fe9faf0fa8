#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/table.h"

static const struct model_info *builtin(const char *id)
{
    return model_table_find(&model_table_builtin, str_z(id));
}

static void the_built_in_table_holds_what_the_file_says(void **state)
{
    (void)state;
    const struct model_info *m = builtin("claude-opus-4-5-20251101");
    assert_non_null(m);
    assert_true(str_eqz(m->id, "claude-opus-4-5"));
    assert_int_equal(m->context_tokens, 200000);
    assert_int_equal(m->max_output_tokens, 64000);
    assert_int_equal(m->cache_write_5m, 6250000);
    assert_string_equal(m->thinking, "budget");
    m = builtin("claude-haiku-5-5");
    assert_int_equal(m->cache_write_5m, 125000);
    assert_int_equal(m->long_above_tokens, 100000);
    assert_int_equal(m->long_cache_read, 50000);
    assert_string_equal(m->default_effort, "medium");
    assert_true(builtin("claude-fable-5-2")->unverified);
    assert_null(builtin("claude-fable"));
    assert_non_null(builtin(model_table_builtin.default_id));
}

static void dollars_become_exact_micro_dollars_or_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t want; /* -1: refused */
    } cases[] = {{"10", 10000000}, {"0.25", 250000}, {"12.5", 12500000},
                 {"0.000001", 1},  {"0", 0},         {"1000000", INT64_C(1000000000000)},
                 {"", -1},         {"-1", -1},       {"1e3", -1},
                 {".5", -1},       {"5.", -1},       {"0.0000001", -1},
                 {"1.2.3", -1},    {"1000001", -1},  {"$5", -1}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int64_t got = -1;
        assert_int_equal(model_dollars(str_z(cases[i].text), &got), cases[i].want >= 0);
        assert_int_equal(got, cases[i].want);
    }
}

static void prices_are_exact_and_rounded_up_once(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        struct model_usage usage;
        int64_t want;
    } cases[] = {
        {"claude-opus-5", {.input_tokens = 1000000}, 5000000},
        {"claude-opus-5", {.output_tokens = 1}, 25},
        /* 0.1 $/M: a tenth of a micro-dollar costs one; ten together as well */
        {"claude-haiku-5-5", {.input_tokens = 1}, 1},
        {"claude-haiku-5-5", {.input_tokens = 10}, 1},
        {"claude-haiku-5-5", {.input_tokens = 11}, 2},
        {"claude-haiku-5-5", {.input_tokens = 5, .output_tokens = 1}, 1},
        {"claude-haiku-5-5", {0}, 0},
        /* each kind of token has its price */
        {"claude-haiku-5-5",
         {.input_tokens = 10000,
          .output_tokens = 2000,
          .cache_write_5m_tokens = 8000,
          .cache_write_1h_tokens = 5000,
          .cache_read_tokens = 10000},
         1000 + 1000 + 1000 + 1000 + 100},
        /* the band: not at the edge, past it for the whole request, output not counted */
        {"claude-haiku-5-5", {.input_tokens = 100000}, 10000},
        {"claude-haiku-5-5", {.input_tokens = 100001}, 50001},
        {"claude-haiku-5-5", {.input_tokens = 100000, .output_tokens = 100000}, 60000},
        {"claude-haiku-5-5",
         {.input_tokens = 1, .cache_read_tokens = 50000, .cache_write_1h_tokens = 50000},
         1 + 2500 + 50000},
        {"claude-fable-5",
         {.input_tokens = INT64_C(999999999999), .output_tokens = INT64_C(999999999999)},
         INT64_C(59999999999940)},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct model_usage u = cases[i].usage;
        u.unpriced = true;
        model_price_of(builtin(cases[i].model), &u);
        assert_int_equal(u.cost_microusd, cases[i].want);
        assert_false(u.unpriced);
    }
}

static void a_model_without_a_price_is_unpriced_and_free(void **state)
{
    (void)state;
    struct model_usage u = {.input_tokens = 100, .cost_microusd = 7};
    model_price_of(NULL, &u);
    assert_true(u.unpriced);
    assert_int_equal(u.cost_microusd, 0);
}

#define PRICE "{input: 1, output: 2, cache_write_5m: 3, cache_write_1h: 4, cache_read: 0.5}"
#define MODEL(id, more) "{id: " id ", context: 1000, max_output: 100" more "}"

static void an_operators_table_replaces_the_built_in_one(void **state)
{
    (void)state;
    struct model_table t;
    struct err err;
    assert_int_equal(
        model_table_parse(
            STR("models:\n  - " MODEL(
                "claude-a",
                ", aliases: [a1, a2], price: " PRICE) "\n  - " MODEL("claude-b",
                                                                     ", thinking: adaptive") "\n"),
            &t, &err),
        0);
    assert_int_equal(t.ninfos, 2);
    assert_string_equal(t.default_id, "claude-a");
    assert_ptr_equal(model_table_find(&t, STR("a2")), &t.infos[0]);
    assert_int_equal(t.infos[0].cache_read, 500000);
    assert_string_equal(t.infos[0].thinking, "none");
    assert_string_equal(t.infos[0].default_effort, "high");
    assert_false(t.infos[1].priced);
    model_table_fini(&t);
}

static void a_wrong_table_is_refused_with_the_place(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *at, *has;
    } cases[] = {
        {"", "", ""},
        {"models: [", "", "line"},
        {"- 1", "", "mapping"},
        {"models: 3", "/models", "list"},
        {"models: []", "/models", "at least one"},
        {"modles: []", "/modles", "unknown key"},
        {"models: [{id: x}]", "/models/0/context", "missing"},
        {"models: [" MODEL("x", ", prise: 1") "]", "/models/0/prise", "unknown key"},
        {"models: [" MODEL("x", ", price: {input: 1}") "]", "/models/0/price/output", "missing"},
        {"models: [" MODEL("x", ", price: {input: cheap}") "]", "/models/0/price/input", "dollars"},
        {"models: [" MODEL("x", ", effort: huge") "]", "/models/0/effort", "known words"},
        {"models: [" MODEL("x", ", unverified: maybe") "]", "/models/0/unverified",
         "true or false"},
        {"models: [" MODEL("x", ", long_prompt: {above: 1, price: " PRICE "}") "]", "/models/0",
         "no price"},
        {"models: [" MODEL("x", "") ", " MODEL("y", ", aliases: [x]") "]", "/models", "twice"},
        {"models: [{id: x, context: 0, max_output: 1}]", "/models/0/context", "tokens"},
        {"default: z\nmodels: [" MODEL("x", "") "]", "/default", "not in the table"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct model_table t = {0};
        struct err err = {0};
        assert_int_equal(model_table_parse(str_z(cases[i].yaml), &t, &err), ERR_INVALID);
        assert_string_equal(err.at, cases[i].at);
        if (!strstr(err.msg, cases[i].has))
            print_error("%s: %s\n", cases[i].yaml, err.msg);
        assert_non_null(strstr(err.msg, cases[i].has));
    }
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    struct model_table t;
    struct err err;
    assert_int_not_equal(model_table_load("/nonexistent/models.yaml", &t, &err), 0);
    assert_non_null(strstr(err.msg, "/nonexistent/models.yaml"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_built_in_table_holds_what_the_file_says),
        cmocka_unit_test(dollars_become_exact_micro_dollars_or_are_refused),
        cmocka_unit_test(prices_are_exact_and_rounded_up_once),
        cmocka_unit_test(a_model_without_a_price_is_unpriced_and_free),
        cmocka_unit_test(an_operators_table_replaces_the_built_in_one),
        cmocka_unit_test(a_wrong_table_is_refused_with_the_place),
        cmocka_unit_test(a_missing_file_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
