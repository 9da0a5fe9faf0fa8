#include "api/environment_decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
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

static int patch(const char *text, bool create, struct str stored, struct str *out, struct err *err)
{
    const struct json *doc;
    struct environment_patch p;
    struct str kept = arena_str(&arena, str_z(text));
    assert_int_equal(json_parse(&arena, kept, 0, &doc, err), 0);
    int rc = environment_patch_decode(doc, create, &p, err);
    return rc ? rc : environment_patch_apply(&arena, &p, stored, out, err);
}

static struct str patched(const char *text, struct str stored)
{
    struct str out;
    struct err err = {0};
    if (patch(text, !str_some(stored), stored, &out, &err))
        fail_msg("%s", err.msg);
    return out;
}

#define PACKAGES                                                                                   \
    "\"packages\":{\"type\":\"packages\",\"apt\":[],\"cargo\":[],\"gem\":[],\"go\":[],\"npm\":[]," \
    "\"pip\":[]}"

static void a_bare_environment_is_cloud_and_unrestricted(void **state)
{
    (void)state;
    static const char *const same[] = {
        "{\"name\":\"e\"}",
        "{\"name\":\"e\",\"config\":null,\"description\":null,\"metadata\":{},\"scope\":null}",
        "{\"name\":\"e\",\"config\":{\"type\":\"cloud\",\"networking\":null,\"packages\":{\"apt\":"
        "null,\"pip\":[]}},\"scope\":\"organization\"}",
    };
    for (size_t i = 0; i < COUNT_OF(same); i++)
        assert_true(str_eqz(patched(same[i], STR_NONE),
                            "{\"name\":\"e\",\"description\":\"\",\"config\":{\"type\":\"cloud\","
                            "\"networking\":{\"type\":\"unrestricted\"}," PACKAGES
                            "},\"metadata\":{},\"scope\":\"organization\"}"));
}

static void an_update_keeps_what_it_omits(void **state)
{
    (void)state;
    struct str first =
        patched("{\"name\":\"e\",\"description\":\"d\",\"metadata\":{\"a\":\"1\",\"b\":\"2\"},"
                "\"config\":{\"type\":\"cloud\",\"networking\":{\"type\":\"limited\","
                "\"allowed_hosts\":[\"example.com\",\"*.x.org\"],\"allow_mcp_servers\":true}}}",
                STR_NONE);
    assert_true(str_eq(patched("{}", first), first));
    struct str next =
        patched("{\"metadata\":{\"a\":\"\",\"c\":\"3\"},\"config\":{\"type\":\"cloud\","
                "\"networking\":{\"type\":\"limited\",\"allow_package_managers\":"
                "true}}}",
                first);
    assert_true(str_find(next, STR("\"allowed_hosts\":[\"example.com\",\"*.x.org\"],"
                                   "\"allow_mcp_servers\":true,\"allow_package_managers\":true")) >
                0);
    assert_true(str_find(next, STR("\"metadata\":{\"b\":\"2\",\"c\":\"3\"}")) > 0);
    struct str open =
        patched("{\"config\":{\"type\":\"cloud\",\"networking\":{\"type\":\"unrestricted\"}},"
                "\"description\":null,\"name\":\"f\"}",
                next);
    assert_true(str_find(open, STR("\"networking\":{\"type\":\"unrestricted\"}")) > 0);
    assert_true(str_starts(open, STR("{\"name\":\"f\",\"description\":\"\"")));
}

#define CONFIG(x) "{\"name\":\"e\",\"config\":" x "}"
#define LIMITED(x)                                                                                 \
    CONFIG("{\"type\":\"cloud\",\"networking\":{\"type\":\"limited\",\"allowed_hosts\":[" x "]}}")

static void what_is_wrong_is_refused_with_its_pointer(void **state)
{
    (void)state;
    static const struct {
        const char *body, *at;
    } cases[] = {
        {"{}", "/name"},
        {"{\"name\":\"\"}", "/name"},
        {"{\"name\":\"e\",\"scope\":\"account\"}", "/scope"},
        {"{\"name\":\"e\",\"metadata\":[]}", "/metadata"},
        {CONFIG("{}"), "/config/type"},
        {CONFIG("{\"type\":\"moon\"}"), "/config/type"},
        {CONFIG("{\"type\":\"self_hosted\",\"networking\":null}"), "/config/networking"},
        {CONFIG("{\"type\":\"self_hosted\",\"setup\":[]}"), "/config/setup"},
        {CONFIG("{\"type\":\"cloud\",\"setup\":\"x\"}"), "/config/setup"},
        {CONFIG("{\"type\":\"cloud\",\"setup\":[\"x\",\" \"]}"), "/config/setup/1"},
        {CONFIG("{\"type\":\"cloud\",\"setup\":[\"x\\u0000\"]}"), "/config/setup/0"},
        {CONFIG("{\"type\":\"cloud\",\"variables\":{\"A\":1}}"), "/config/variables/A"},
        {CONFIG("{\"type\":\"cloud\",\"variables\":{\"1A\":\"\"}}"), "/config/variables/1A"},
        {CONFIG("{\"type\":\"cloud\",\"variables\":{\"PATH\":\"/x\"}}"), "/config/variables/PATH"},
        {CONFIG("{\"type\":\"cloud\",\"variables\":{\"LD_PRELOAD\":\"/x\"}}"),
         "/config/variables/LD_PRELOAD"},
        {CONFIG("{\"type\":\"cloud\",\"limits\":{\"pids\":0}}"), "/config/limits/pids"},
        {CONFIG("{\"type\":\"cloud\",\"limits\":{\"moon\":1}}"), "/config/limits/moon"},
        {CONFIG("{\"type\":\"cloud\",\"image\":{\"type\":\"docker\",\"path\":\"/x\"}}"),
         "/config/image/type"},
        {CONFIG("{\"type\":\"cloud\",\"image\":{\"type\":\"rootfs\",\"path\":\"x\"}}"),
         "/config/image/path"},
        {CONFIG("{\"type\":\"cloud\",\"image\":{\"type\":\"rootfs\",\"path\":\"/x/../y\"}}"),
         "/config/image/path"},
        {CONFIG("{\"type\":\"cloud\",\"moon\":1}"), "/config/moon"},
        {CONFIG("{\"type\":\"cloud\",\"networking\":{\"type\":\"wifi\"}}"),
         "/config/networking/type"},
        {CONFIG("{\"type\":\"cloud\",\"networking\":{\"type\":\"unrestricted\",\"allowed_hosts\":"
                "[]}}"),
         "/config/networking/allowed_hosts"},
        {CONFIG("{\"type\":\"cloud\",\"packages\":{\"apt\":\"jq\"}}"), "/config/packages/apt"},
        {CONFIG("{\"type\":\"cloud\",\"packages\":{\"apt\":[\"jq\",7]}}"),
         "/config/packages/apt/1"},
        {CONFIG("{\"type\":\"cloud\",\"networking\":{\"type\":\"limited\"},\"packages\":{\"apt\":"
                "[\"jq\"]}}"),
         "/config/networking/allow_package_managers"},
        {CONFIG("{\"type\":\"cloud\",\"packages\":{\"brew\":[]}}"), "/config/packages/brew"},
        {LIMITED("\"https://x.com\""), "/config/networking/allowed_hosts/0"},
        {LIMITED("\"x.com\",\"x.com:80\""), "/config/networking/allowed_hosts/1"},
        {LIMITED("\"x.com/a\""), "/config/networking/allowed_hosts/0"},
        {LIMITED("\"*\""), "/config/networking/allowed_hosts/0"},
        {LIMITED("\"a..b\""), "/config/networking/allowed_hosts/0"},
        {LIMITED("5"), "/config/networking/allowed_hosts/0"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct str out;
        struct err err = {0};
        if (patch(cases[i].body, true, STR_NONE, &out, &err) != ERR_INVALID)
            fail_msg("accepted: %s", cases[i].body);
        assert_string_equal(err.at, cases[i].at);
    }
}

static bool takes(const char *manager, const char *package)
{
    char body[512];
    struct str out;
    struct err err = {0};
    snprintf(body, sizeof body,
             "{\"name\":\"e\",\"config\":{\"type\":\"cloud\",\"packages\":{\"%s\":[\"%s\"]}}}",
             manager, package);
    return patch(body, true, STR_NONE, &out, &err) == 0;
}

static void packages_are_named_as_their_managers_do(void **state)
{
    (void)state;
    static const char *const good[][2] = {
        {"apt", "jq"},           {"apt", "g++"},           {"apt", "libc6=2.36-9+deb12u10"},
        {"cargo", "ripgrep"},    {"cargo", "a_b@1.2.3"},   {"gem", "rake:13.0.6"},
        {"go", "x.y/z@v1.2.3"},  {"go", "golang.org/x/t"}, {"npm", "left-pad"},
        {"npm", "@a/b@^1.0.0"},  {"npm", "tsx@latest"},    {"pip", "requests==2.31.0"},
        {"pip", "a[b,c]>=1,<2"}, {"pip", "ruamel.yaml"},
    };
    static const char *const bad[][2] = {
        {"apt", "-oX=1"},    {"apt", "jq-"},        {"apt", "jq+"},      {"apt", "a b"},
        {"apt", "Jq"},       {"apt", "./x.deb"},    {"apt", "a=-1"},     {"apt", ""},
        {"cargo", "--path"}, {"cargo", "a@"},       {"gem", "a b"},      {"gem", "-P"},
        {"go", "../x"},      {"go", "a@v1;id"},     {"npm", "--global"}, {"npm", "../x"},
        {"npm", "git+x"},    {"npm", "a@file:x"},   {"npm", "@/x"},      {"npm", "a@$(id)"},
        {"pip", "-r x"},     {"pip", "a @ x"},      {"pip", "a=1"},      {"pip", "a==1,"},
        {"pip", "a;python"}, {"pip", "/tmp/x.whl"}, {"pip", "a[]"},      {"pip", "a==`id`"},
    };
    for (size_t i = 0; i < COUNT_OF(good); i++)
        if (!takes(good[i][0], good[i][1]))
            fail_msg("refused: %s %s", good[i][0], good[i][1]);
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        if (takes(bad[i][0], bad[i][1]))
            fail_msg("accepted: %s %s", bad[i][0], bad[i][1]);
}

static void contents_are_kept_replaced_and_cleared_one_by_one(void **state)
{
    (void)state;
    struct str first = patched(
        "{\"name\":\"e\",\"config\":{\"type\":\"cloud\",\"packages\":{\"apt\":[\"jq\"],\"npm\":"
        "[\"a\"]},\"setup\":[\"true\"],\"variables\":{\"A\":\"1\"},\"limits\":{\"pids\":99}}}",
        STR_NONE);
    struct str next = patched("{\"config\":{\"type\":\"cloud\",\"packages\":{\"npm\":[]},"
                              "\"variables\":{},\"limits\":null,\"tier\":\"bwrap-root\"}}",
                              first);
    assert_true(str_find(next, STR("\"apt\":[\"jq\"]")) > 0);
    assert_true(str_find(next, STR("\"npm\":[]")) > 0);
    assert_true(str_find(next, STR("\"setup\":[\"true\"]")) > 0);
    assert_int_equal(str_find(next, STR("variables")), -1);
    assert_int_equal(str_find(next, STR("limits")), -1);
    assert_int_equal(str_find(next, STR("tier")), -1);
}

static void the_type_cannot_change(void **state)
{
    (void)state;
    struct str first = patched("{\"name\":\"e\"}", STR_NONE), out;
    struct err err = {0};
    assert_int_equal(patch("{\"config\":{\"type\":\"self_hosted\"}}", false, first, &out, &err),
                     ERR_INVALID);
    assert_string_equal(err.detail, "invalid_config_type_change");
    assert_string_equal(err.at, "/config/type");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bare_environment_is_cloud_and_unrestricted),
        cmocka_unit_test(an_update_keeps_what_it_omits),
        cmocka_unit_test(what_is_wrong_is_refused_with_its_pointer),
        cmocka_unit_test(packages_are_named_as_their_managers_do),
        cmocka_unit_test(contents_are_kept_replaced_and_cleared_one_by_one),
        cmocka_unit_test(the_type_cannot_change),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
