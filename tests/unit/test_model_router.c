#include "model_fixture.h"

#include "base/fd.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void ids_go_to_their_provider_or_are_refused_by_name(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &(struct model_config){0});
    static const char *const good[] = {"claude-opus-5", "claude-anything-new", "script/demo",
                                       "script/echo",   "script/instant",      "script/tool"};
    static const char *const bad[] = {
        "gpt-4",          "",           "claude-",      "script/", "script/none",
        "script/../demo", "script/a/b", "Claude-opus-5"};
    struct err err;
    for (size_t i = 0; i < COUNT_OF(good); i++)
        assert_int_equal(model_router_check(f.router, str_z(good[i]), &err), 0);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(model_router_check(f.router, str_z(bad[i]), &err), ERR_INVALID);
        assert_non_null(strstr(err.msg, bad[i]));
        assert_string_equal(fixture_ask(&f, bad[i]), " failed 3");
        assert_non_null(strstr(f.failure.message, bad[i]));
    }
    fixture_fini(&f);
}

static void the_default_is_a_real_model_only_with_a_key(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &(struct model_config){0});
    assert_string_equal(model_router_default(f.router), "script/demo");
    fixture_fini(&f);
    fixture_init(&f, &(struct model_config){.anthropic_api_key = "sk-x\n"});
    assert_true(str_starts(str_z(model_router_default(f.router)), STR("claude-")));
    assert_non_null(model_router_info(f.router, str_z(model_router_default(f.router))));
    fixture_fini(&f);
    fixture_init(&f, &(struct model_config){.anthropic_api_key = ""});
    assert_string_equal(model_router_default(f.router), "script/demo");
    fixture_fini(&f);
}

static void without_a_key_a_call_fails_and_names_the_remedy(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &(struct model_config){0});
    assert_string_equal(fixture_ask(&f, "claude-opus-5"), " failed 4");
    assert_non_null(strstr(f.failure.message, "ANTHROPIC_API_KEY"));
    fixture_fini(&f);
}

static void scripts_cost_nothing_and_unknown_models_have_no_price(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &(struct model_config){0});
    struct model_usage u = {.input_tokens = 10, .unpriced = true};
    model_price(f.router, STR("script/demo"), &u);
    assert_false(u.unpriced);
    model_price(f.router, STR("claude-unknown-9"), &u);
    assert_true(u.unpriced);
    model_price(f.router, STR("claude-opus-5"), &u);
    assert_int_equal(u.cost_microusd, 50);
    const struct model_info *infos;
    assert_true(model_router_table(f.router, &infos) >= 15);
    fixture_fini(&f);
}

static void a_wrong_table_of_models_stops_the_start(void **state)
{
    (void)state;
    struct err err;
    struct model_router *r;
    struct loop *l = loop_new();
    const struct model_config cfg = {.models_yaml = "/nonexistent.yaml"};
    assert_int_not_equal(model_router_new(l, NULL, &cfg, &r, &err), 0);
    assert_non_null(strstr(err.msg, "/nonexistent.yaml"));
    loop_free(l);
}

/* ---- scripted calls on the loop ---- */

static char dir[] = "/tmp/ostler-scripts-XXXXXX";

static void script_file(const char *name, const char *source)
{
    char path[128];
    struct err err;
    snprintf(path, sizeof path, "%s/%s.lua", dir, name);
    assert_int_equal(fd_write_file_atomic(path, str_z(source), 0600, &err), 0);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    static const char *const names[] = {"echo", "long", "slow", "fail", "loop"};
    char path[128];
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(path, sizeof path, "%s/%s.lua", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

static void a_file_of_the_script_directory_hides_a_built_in_one(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &(struct model_config){.script_dir = dir});
    assert_string_equal(fixture_ask(&f, "script/instant"), "[0:0]0=ok; stop 0 |ok");
    f.req.messages = STR("[{\"role\":\"user\",\"content\":\"hi\"}]");
    assert_string_equal(fixture_ask(&f, "script/echo"), "[0:0]0=hi; stop 0 |hi");
    script_file("echo", "return function(r) return 'mine' end");
    assert_string_equal(fixture_ask(&f, "script/echo"), "[0:0]0=mine; stop 0 |mine");
    script_file("loop", "while true do end");
    assert_string_equal(fixture_ask(&f, "script/loop"), " failed 3");
    assert_non_null(strstr(f.failure.message, "script/loop"));
    fixture_fini(&f);
}

static void text_comes_in_pieces_that_keep_characters_whole(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &(struct model_config){.script_dir = dir});
    script_file("long", "return function() return {text = ('\\u{fc}'):rep(4), chunks = 3} end");
    assert_string_equal(fixture_ask(&f, "script/long"),
                        "[0:0]0=\xc3\xbc;0=\xc3\xbc;0=\xc3\xbc;0=\xc3\xbc; stop 0 "
                        "|\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc");
    script_file("long", "return function() return {text = 'abcdef', chunks = 1000} end");
    assert_string_equal(fixture_ask(&f, "script/long"), "[0:0]0=a;0=b;0=c;0=d;0=e;0=f; stop 0 "
                                                        "|abcdef");
    fixture_fini(&f);
}

static void a_script_may_fail_in_the_middle_of_its_text(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &(struct model_config){.script_dir = dir});
    script_file("fail", "return function() return {text='half', "
                        "error={kind='overloaded', http_status=529}} end");
    assert_string_equal(fixture_ask(&f, "script/fail"), "[0:0]0=half; failed 0");
    assert_int_equal(f.failure.http_status, 529);
    assert_int_equal(f.usage.output_tokens, 1);
    fixture_fini(&f);
}

static void delays_pass_between_pieces_and_before_a_silent_answer(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &(struct model_config){.script_dir = dir});
    script_file("slow", "return function() return {text='ab', chunks=2, delay_ms=20} end");
    int64_t begin = loop_now_ms(f.loop);
    assert_string_equal(fixture_ask(&f, "script/slow"), "[0:0]0=a;0=b; stop 0 |ab");
    assert_true(loop_now_ms(f.loop) - begin >= 38);
    script_file("slow", "return function() return {tools={{name='x'}}, delay_ms=20} end");
    begin = loop_now_ms(f.loop);
    assert_string_equal(fixture_ask(&f, "script/slow"), "[0:2] stop 1 |x{}");
    assert_true(loop_now_ms(f.loop) - begin >= 19);
    fixture_fini(&f);
}

static void a_scripted_call_can_be_cancelled_at_any_call_back(void **state)
{
    (void)state;
    for (int after = 1; after <= 6; after++) {
        struct fixture f;
        fixture_init(&f, &(struct model_config){.script_dir = dir});
        script_file("slow", "return function() return {text='abcd', chunks=4, delay_ms=1} end");
        f.cancel_after = after;
        fixture_ask(&f, "script/slow");
        assert_true(f.cancelled);
        fixture_fini(&f);
    }
}

static void a_call_cancelled_before_it_ran_is_silent(void **state)
{
    (void)state;
    static const char *const models[] = {"script/instant", "claude-opus-5", "nonsense"};
    for (size_t i = 0; i < COUNT_OF(models); i++) {
        struct fixture f;
        fixture_init(&f, &(struct model_config){0});
        f.req.model = str_z(models[i]);
        fixture_start(&f);
        f.port.cancel(f.port.self, f.call);
        loop_run(f.loop);
        assert_int_equal(f.outcomes, 0);
        fixture_fini(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_go_to_their_provider_or_are_refused_by_name),
        cmocka_unit_test(the_default_is_a_real_model_only_with_a_key),
        cmocka_unit_test(without_a_key_a_call_fails_and_names_the_remedy),
        cmocka_unit_test(scripts_cost_nothing_and_unknown_models_have_no_price),
        cmocka_unit_test(a_wrong_table_of_models_stops_the_start),
        cmocka_unit_test(a_file_of_the_script_directory_hides_a_built_in_one),
        cmocka_unit_test(text_comes_in_pieces_that_keep_characters_whole),
        cmocka_unit_test(a_script_may_fail_in_the_middle_of_its_text),
        cmocka_unit_test(delays_pass_between_pieces_and_before_a_silent_answer),
        cmocka_unit_test(a_scripted_call_can_be_cancelled_at_any_call_back),
        cmocka_unit_test(a_call_cancelled_before_it_ran_is_silent),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
