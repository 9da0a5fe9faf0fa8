#include "model_peer.h"

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

static struct err router_refuses(const struct model_config *cfg)
{
    struct err err;
    struct model_router *r;
    struct loop *l = loop_new();
    assert_int_equal(model_router_new(l, NULL, cfg, &r, &err), ERR_INVALID);
    loop_free(l);
    return err;
}

static void with_openai_configured_its_ids_are_known(void **state)
{
    (void)state;
    static const char *const ids[] = {
        "gpt-5",   "gpt-", "chatgpt-4o",        "o1", "o3-mini", "o4-mini", "openai/any:thing",
        "openai/", "o2",   "anthropic/claude-x"};
    static const bool with[] = {true, false, true, true, true, true, true, false, false, true};
    static const struct model_config configs[] = {{0},
                                                  {.openai_api_key = "k"},
                                                  {.openai_base_url = "http://127.0.0.1:1"},
                                                  {.openai_api_key = "", .openai_base_url = ""}};
    for (size_t c = 0; c < COUNT_OF(configs); c++) {
        struct fixture f;
        fixture_init(&f, &configs[c]);
        for (size_t i = 0; i < COUNT_OF(ids); i++) {
            struct err err;
            bool want = with[i] && (c == 1 || c == 2 || str_starts(str_z(ids[i]), STR("anth")));
            int rc = model_router_check(f.router, str_z(ids[i]), &err);
            if ((rc == 0) != want)
                fail_msg("%s with configuration %zu gave %d", ids[i], c, rc);
        }
        fixture_fini(&f);
    }
}

static void the_first_route_that_matches_wins(void **state)
{
    (void)state;
    static const struct model_route_config routes[] = {
        {"claude-special-*", "lab", false}, {"local/*", "lab", true}, {"*-q?", "lab", false}};
    static const struct {
        const char *id, *model; /* NULL: not the lab's */
    } rows[] = {{"claude-special-1", "claude-special-1"},
                {"local/a/b", "a/b"},
                {"local/", NULL},
                {"lab/x", "x"},
                {"m-q4", "m-q4"},
                {"m-q4-q5", "m-q4-q5"},
                {"m-q", NULL},
                {"m-q45", NULL},
                {"claude-other", NULL}};
    static const struct reply reply = {500, NULL, .body = ""};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct fixture f;
        peer_open(&f, &reply, "");
        const struct model_provider_config lab = {
            .name = "lab", .type = "openai", .base_url = peer.url};
        peer_configure(&f, &(struct model_config){
                               .providers = &lab, .nproviders = 1, .routes = routes, .nroutes = 3});
        fixture_ask(&f, rows[i].id);
        if (str_eqz(str_trim(buf_view(&peer.models)), rows[i].model ? rows[i].model : "") == false)
            fail_msg("%s: '%s'", rows[i].id, peer.models.data);
        peer_fini(&f);
    }
}

static void addresses_get_the_path_of_their_protocol(void **state)
{
    (void)state;
    static const struct {
        const char *suffix, *want;
    } rows[] = {{"", "POST /v1/chat/completions\n"},
                {"/", "POST /v1/chat/completions\n"},
                {"/v1", "POST /v1/chat/completions\n"},
                {"/v1//", "POST /v1/chat/completions\n"},
                {"/api/v3", "POST /api/v3/chat/completions\n"}};
    static const struct reply reply = {500, NULL, .body = ""};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct fixture f;
        peer_open(&f, &reply, rows[i].suffix);
        peer_configure(&f, &(struct model_config){.openai_base_url = peer.url});
        fixture_ask(&f, "gpt-x");
        assert_true(str_starts(buf_view(&peer.seen), str_z(rows[i].want)));
        /* An address of one's own may need no key. */
        assert_true(str_find(buf_view(&peer.seen), STR("authorization")) < 0);
        peer_fini(&f);
    }
}

static void the_default_is_that_of_the_first_provider_that_names_one(void **state)
{
    (void)state;
    static const struct model_provider_config lab = {
        .name = "lab", .type = "openai", .base_url = "http://127.0.0.1:1"};
    static const struct model_provider_config named = {
        .name = "lab", .type = "openai", .base_url = "http://127.0.0.1:1", .default_model = "qwen"};
    static const struct model_provider_config openai = {.name = "openai", .default_model = "gpt-x"};
    static const struct model_route_config route = {"qw*", "lab", false};
    const struct {
        struct model_config cfg;
        const char *want;
    } rows[] = {
        {{.openai_api_key = "k"}, ""},
        {{.openai_api_key = "k", .anthropic_api_key = "k"}, "claude-opus-5-5"},
        {{.providers = &lab, .nproviders = 1}, ""},
        {{.providers = &lab, .nproviders = 1, .anthropic_api_key = "k"}, "claude-opus-5-5"},
        {{.providers = &named, .nproviders = 1, .anthropic_api_key = "k"}, "lab/qwen"},
        {{.providers = &named, .nproviders = 1, .routes = &route, .nroutes = 1}, "qwen"},
        {{.providers = &openai, .nproviders = 1, .openai_api_key = "k"}, "gpt-x"},
        {{.providers = &openai, .nproviders = 1}, "script/demo"}, /* no key */
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct fixture f;
        fixture_init(&f, &rows[i].cfg);
        assert_string_equal(model_router_default(f.router), rows[i].want);
        fixture_fini(&f);
    }
}

static void wrong_providers_and_routes_are_named(void **state)
{
    (void)state;
    static const struct {
        struct model_provider_config provider;
        struct model_route_config route;
        const char *has;
    } rows[] = {
        {{.name = "script", .type = "openai"}, {0}, "'script' cannot be"},
        {{.name = "a/b", .type = "openai"}, {0}, "'a/b' cannot be"},
        {{.name = "", .type = "openai"}, {0}, "cannot be"},
        {{.name = "x", .type = "y"}, {0}, "providers.x: type must be anthropic or openai"},
        {{.name = "x"}, {0}, "providers.x: type must be"},
        {{.name = "x", .type = "openai"}, {.match = "a*", .provider = "z"}, "no provider 'z'"},
        {{.name = "x", .type = "openai"}, {.match = "", .provider = "x"}, "must be a pattern"},
        {{.name = "x", .type = "openai"},
         {.match = "script/*", .provider = "x"},
         "must be a pattern"},
        {{.name = "x", .type = "openai"},
         {.match = "a", .provider = "x", .strip_prefix = true},
         "would leave nothing"},
        {{.name = "x", .type = "openai", .default_model = "m"},
         {.match = "*", .provider = "anthropic"},
         "no route leads m to this provider"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct err err =
            router_refuses(&(struct model_config){.providers = &rows[i].provider,
                                                  .nproviders = 1,
                                                  .routes = &rows[i].route,
                                                  .nroutes = rows[i].route.match != NULL});
        if (!strstr(err.msg, rows[i].has))
            fail_msg("row %zu: %s", i, err.msg);
    }
    static const struct model_provider_config twice[] = {{.name = "x", .type = "openai"},
                                                         {.name = "x", .type = "openai"}};
    struct err err = router_refuses(&(struct model_config){.providers = twice, .nproviders = 2});
    assert_non_null(strstr(err.msg, "two of this name"));
}

static void a_model_is_known_by_its_providers_id_too(void **state)
{
    (void)state;
    static const struct model_provider_config lab = {
        .name = "lab", .type = "anthropic", .base_url = "http://127.0.0.1:1"};
    struct fixture f;
    fixture_init(&f, &(struct model_config){.providers = &lab, .nproviders = 1});
    assert_non_null(model_router_info(f.router, STR("lab/claude-opus-5")));
    assert_null(model_router_info(f.router, STR("lab/none")));
    struct model_usage u = {.input_tokens = 10};
    model_price(f.router, STR("lab/claude-opus-5"), &u);
    assert_int_equal(u.cost_microusd, 50);
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
    const struct model_provider_config bare[] = {{.name = "openai"},
                                                 {.name = "mine", .type = "openai"}};
    fixture_init(&f, &(struct model_config){.providers = bare, .nproviders = 2});
    assert_string_equal(fixture_ask(&f, "gpt-x"), " failed 4");
    assert_non_null(strstr(f.failure.message, "OPENAI_API_KEY"));
    assert_string_equal(fixture_ask(&f, "mine/x"), " failed 4");
    assert_non_null(strstr(f.failure.message, "providers.mine.api_key_env"));
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

static struct model_facts facts_of(const struct fixture *f, const char *id, const char *speed)
{
    struct model_port port = model_router_port(f->router);
    return port.facts(port.self, str_z(id), str_z(speed));
}

static void the_facts_of_a_model_are_its_limits_and_its_dearest_prices(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &(struct model_config){.openai_api_key = "k"});
    static const struct {
        const char *id, *speed;
        struct model_facts want;
    } rows[] = {
        {"claude-opus-5", "standard", {1000000, 128000, 6250000, 25000000, true, true, true}},
        {"anthropic/claude-opus-5", NULL, {1000000, 128000, 6250000, 25000000, true, true, true}},
        {"claude-opus-5", "fast", {1000000, 128000, 6250000, 25000000, false, true, true}},
        {"claude-sonnet-5", NULL, {1000000, 128000, 2500000, 10000000, true, false, true}},
        /* the prices of long prompts */
        {"claude-haiku-5-5", NULL, {1000000, 128000, 625000, 2500000, true, true, true}},
        {"claude-next", NULL, {.counts_tokens = true}},
        {"gpt-5", NULL, {.system_messages = true}},
        /* the protocol takes the role whatever the table says; it has no fast mode */
        {"openai/claude-sonnet-5", "fast", {1000000, 128000, 2500000, 10000000, true, true, false}},
        {"nothing", NULL, {0}},
        {"script/echo", "fast", {200000, 32000, 0, 0, true, true, true}},
        {"script/none", NULL, {0}},
        {"script/../x", NULL, {0}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct model_facts got = facts_of(&f, rows[i].id, rows[i].speed), want = rows[i].want;
        if (got.context_tokens != want.context_tokens ||
            got.max_output_tokens != want.max_output_tokens ||
            got.input_price != want.input_price || got.output_price != want.output_price ||
            got.priced != want.priced || got.system_messages != want.system_messages ||
            got.counts_tokens != want.counts_tokens)
            fail_msg("%s: %lld %lld %lld %lld %d %d %d", rows[i].id, (long long)got.context_tokens,
                     (long long)got.max_output_tokens, (long long)got.input_price,
                     (long long)got.output_price, got.priced, got.system_messages,
                     got.counts_tokens);
    }
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
    static const char *const names[] = {"echo", "long", "slow", "fail", "loop", "small"};
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

static void a_script_states_what_its_model_is(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &(struct model_config){.script_dir = dir});
    script_file("small",
                "--model: context=4000  max_output=500 input=3 output=15.5 system_messages=no "
                "counts_tokens=no\nreturn function() return {text='a', usage={input_tokens=10, "
                "output_tokens=2}} end");
    struct model_facts got = facts_of(&f, "script/small", NULL);
    assert_int_equal(got.context_tokens, 4000);
    assert_int_equal(got.max_output_tokens, 500);
    assert_int_equal(got.input_price, 3000000);
    assert_int_equal(got.output_price, 15500000);
    assert_true(got.priced && !got.system_messages && !got.counts_tokens);
    assert_string_equal(fixture_ask(&f, "script/small"), "[0:0]0=a; stop 0 |a");
    assert_int_equal(f.usage.cost_microusd, 30 + 31);
    static const char *const bad[] = {"context=0",           "context=", "context", "input=-1",
                                      "system_messages=yes", "size=3"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        char text[200];
        snprintf(text, sizeof text, "--model: %s\nreturn function() return 'a' end", bad[i]);
        script_file("small", text);
        assert_int_equal(facts_of(&f, "script/small", NULL).context_tokens, 0);
        assert_string_equal(fixture_ask(&f, "script/small"), " failed 3");
        assert_non_null(strstr(f.failure.message, bad[i]));
    }
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
        cmocka_unit_test(with_openai_configured_its_ids_are_known),
        cmocka_unit_test(the_first_route_that_matches_wins),
        cmocka_unit_test(addresses_get_the_path_of_their_protocol),
        cmocka_unit_test(the_default_is_that_of_the_first_provider_that_names_one),
        cmocka_unit_test(wrong_providers_and_routes_are_named),
        cmocka_unit_test(a_model_is_known_by_its_providers_id_too),
        cmocka_unit_test(without_a_key_a_call_fails_and_names_the_remedy),
        cmocka_unit_test(scripts_cost_nothing_and_unknown_models_have_no_price),
        cmocka_unit_test(the_facts_of_a_model_are_its_limits_and_its_dearest_prices),
        cmocka_unit_test(a_wrong_table_of_models_stops_the_start),
        cmocka_unit_test(a_file_of_the_script_directory_hides_a_built_in_one),
        cmocka_unit_test(a_script_states_what_its_model_is),
        cmocka_unit_test(text_comes_in_pieces_that_keep_characters_whole),
        cmocka_unit_test(a_script_may_fail_in_the_middle_of_its_text),
        cmocka_unit_test(delays_pass_between_pieces_and_before_a_silent_answer),
        cmocka_unit_test(a_scripted_call_can_be_cancelled_at_any_call_back),
        cmocka_unit_test(a_call_cancelled_before_it_ran_is_silent),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
