/* The settings of web_fetch and web_search in an agent's toolset. */
#include "api/tools_decode.h"
#include "base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 64u << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

/* An agent's tools: a custom tool and a toolset with one config, `tool` with `settings`. */
static int decode(const char *tool, const char *settings, struct str *out, struct err *err)
{
    struct str text = arena_printf(
        &arena,
        "[{\"type\":\"custom\",\"name\":\"lookup\",\"description\":\"d\",\"input_schema\":{"
        "\"type\":\"object\"}},{\"type\":\"agent_toolset_20260401\",\"configs\":[{\"name\":"
        "\"%s\"%s%s}]}]",
        tool, settings[0] ? "," : "", settings);
    const struct json *doc;
    assert_int_equal(json_parse(&arena, text, 0, &doc, err), 0);
    return tools_decode(&arena, doc, "/tools", out, err);
}

#define CONFIG "/tools/1/configs/0"
#define HOSTNAME "; provide a plain hostname like \"example.com\""
#define ALLOWED(entry) "\"allowed_domains\":[" entry "]"

static void settings_that_make_no_sense_are_refused_with_the_published_messages(void **state)
{
    (void)state;
    static const struct {
        const char *tool, *settings, *at, *msg;
    } cases[] = {
        {"web_fetch", "\"allowed_domains\":[\"a.com\"],\"blocked_domains\":[\"b.com\"]", CONFIG,
         "Only one of allowed_domains or blocked_domains may be set."},
        {"web_fetch", "\"allowed_domains\":[]", CONFIG "/allowed_domains",
         "allowed_domains: Empty list of domains is ambiguous. Provide at least one domain or "
         "null."},
        {"web_search", "\"blocked_domains\":[]", CONFIG "/blocked_domains",
         "blocked_domains: Empty list of domains is ambiguous. Provide at least one domain or "
         "null."},
        {"web_fetch", ALLOWED("\"127.0.0.1\""), CONFIG "/allowed_domains/0",
         "allowed_domains.0: IP addresses are not supported" HOSTNAME},
        {"web_fetch", ALLOWED("\"a.com\",\"[::1]\""), CONFIG "/allowed_domains/1",
         "allowed_domains.1: IP addresses are not supported" HOSTNAME},
        {"web_fetch", ALLOWED("\"::1\""), NULL,
         "allowed_domains.0: IP addresses are not supported" HOSTNAME},
        {"web_search", ALLOWED("\"10.0.0.1/x\""), NULL,
         "allowed_domains.0: IP addresses are not supported" HOSTNAME},
        {"web_fetch", ALLOWED("\"0x7f.1\""), NULL,
         "allowed_domains.0: IP addresses are not supported" HOSTNAME},
        {"web_fetch", ALLOWED("\"2130706433\""), NULL,
         "allowed_domains.0: IP addresses are not supported" HOSTNAME},
        {"web_fetch", ALLOWED("\"https://a.com\""), NULL,
         "allowed_domains.0: URLs are not supported" HOSTNAME},
        {"web_fetch", ALLOWED("\"a.com:80\""), NULL,
         "allowed_domains.0: Ports are not supported" HOSTNAME},
        {"web_fetch", ALLOWED("\"a.com/docs\""), NULL,
         "allowed_domains.0: Paths are not supported" HOSTNAME},
        {"web_search", ALLOWED("\"a.com/docs?x\""), NULL,
         "allowed_domains.0: Queries and fragments are not supported; a path suffix like "
         "\"example.com/docs\" is"},
        {"web_fetch", ALLOWED("\"*.a.com\""), NULL,
         "allowed_domains.0: Wildcards are not supported; a hostname like \"example.com\" covers "
         "its subdomains"},
        {"web_fetch", ALLOWED("\"b\\u00fccher.example\""), NULL,
         "allowed_domains.0: Only ASCII is supported; write an international name as punycode "
         "(xn--...)"},
        {"web_fetch", ALLOWED("\"com\""), NULL,
         "allowed_domains.0: Top-level domains and single labels are not supported" HOSTNAME},
        {"web_fetch", ALLOWED("\"localhost\""), NULL,
         "allowed_domains.0: Local names are not supported" HOSTNAME},
        {"web_fetch", ALLOWED("\"db.Internal\""), NULL,
         "allowed_domains.0: Local names are not supported" HOSTNAME},
        {"web_fetch", ALLOWED("\"printer.local\""), NULL,
         "allowed_domains.0: Local names are not supported" HOSTNAME},
        {"web_fetch", ALLOWED("\"\""), NULL,
         "allowed_domains.0: A domain has 1 to 255 characters" HOSTNAME},
        {"web_fetch", ALLOWED("\"a..com\""), NULL,
         "allowed_domains.0: This is not a hostname" HOSTNAME},
        {"web_fetch", ALLOWED("\"a.com.\""), NULL,
         "allowed_domains.0: This is not a hostname" HOSTNAME},
        {"web_fetch", ALLOWED("1"), NULL, "allowed_domains.0: Input should be a valid string"},
        {"web_fetch", "\"user_location\":{\"type\":\"approximate\"}", CONFIG "/user_location",
         NULL},
        {"web_search", "\"max_content_tokens\":10", CONFIG "/max_content_tokens", NULL},
        {"web_search", "\"url_sources\":{}", CONFIG "/url_sources", NULL},
        {"bash", ALLOWED("\"a.com\""), CONFIG "/allowed_domains", NULL},
        {"web_fetch", "\"max_content_tokens\":0", CONFIG "/max_content_tokens", NULL},
        {"web_fetch", "\"max_content_tokens\":1.5", CONFIG "/max_content_tokens", NULL},
        {"web_search", "\"user_location\":{}", CONFIG "/user_location/type", NULL},
        {"web_search", "\"user_location\":{\"type\":\"exact\"}", CONFIG "/user_location/type",
         NULL},
        {"web_search", "\"user_location\":{\"type\":\"approximate\",\"country\":\"de\"}",
         CONFIG "/user_location/country", NULL},
        {"web_fetch", "\"url_sources\":{\"user_input\":\"some\"}", CONFIG "/url_sources/user_input",
         NULL},
        {"web_fetch", "\"url_sources\":{\"user_input\":{\"type\":\"only\",\"tools\":[]}}",
         CONFIG "/url_sources/user_input/type", NULL},
        {"web_fetch",
         "\"url_sources\":{\"user_input\":\"none\",\"client_tool_results\":{\"type\":\"none\"},"
         "\"server_tool_results\":\"none\"}",
         CONFIG "/url_sources", NULL},
        {"web_fetch", "\"url_sources\":{\"client_tool_results\":{\"type\":\"only\",\"tools\":[]}}",
         NULL, NULL},
        {"web_fetch", "\"url_sources\":{\"client_tool_results\":{\"type\":\"only\"}}", NULL, NULL},
        {"web_fetch",
         "\"url_sources\":{\"client_tool_results\":{\"type\":\"only\",\"tools\":[{\"type\":"
         "\"tool_reference\",\"name\":\"nobody\"}]}}",
         NULL, NULL},
        {"web_fetch",
         "\"url_sources\":{\"server_tool_results\":{\"type\":\"except\",\"tools\":[{\"type\":"
         "\"tool_reference\",\"name\":\"lookup\"}]}}",
         NULL, NULL},
        {"web_fetch",
         "\"url_sources\":{\"server_tool_results\":{\"type\":\"except\",\"tools\":[{\"type\":"
         "\"tool_reference\",\"name\":\"web_fetch\"},{\"type\":\"tool_reference\",\"name\":"
         "\"web_fetch\"}]}}",
         NULL, NULL},
        {"web_fetch", "\"url_sources\":{\"elsewhere\":\"all\"}", CONFIG "/url_sources/elsewhere",
         NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct str out;
        struct err err = {0};
        if (decode(cases[i].tool, cases[i].settings, &out, &err) != ERR_INVALID)
            fail_msg("case %zu was accepted: %s", i, cases[i].settings);
        if (cases[i].msg)
            assert_string_equal(err.msg, cases[i].msg);
        if (cases[i].at)
            assert_string_equal(err.at, cases[i].at);
        arena_reset(&arena);
    }
}

static void more_than_64_domains_are_refused(void **state)
{
    (void)state;
    for (int n = 64; n <= 65; n++) {
        AUTO_BUF struct buf b = BUF_INIT(65536);
        struct str out;
        struct err err = {0};
        buf_z(&b, "\"allowed_domains\":[");
        for (int i = 0; i < n; i++)
            buf_printf(&b, "%s\"d%d.example\"", i ? "," : "", i);
        buf_ch(&b, ']');
        int rc = decode("web_fetch", b.data, &out, &err);
        assert_int_equal(rc, n == 64 ? 0 : ERR_INVALID);
    }
}

static void settings_come_back_in_the_form_of_responses_and_stay_so(void **state)
{
    (void)state;
    static const struct {
        const char *tool, *in, *out;
    } cases[] = {
        {"web_fetch", "", "\"url_sources\":null"},
        {"web_fetch", "\"allowed_domains\":null,\"max_content_tokens\":500",
         "\"max_content_tokens\":500,\"url_sources\":null"},
        {"web_fetch", "\"blocked_domains\":[\"Ads.example.com\"]",
         "\"blocked_domains\":[\"Ads.example.com\"],\"url_sources\":null"},
        {"web_fetch", "\"url_sources\":{}",
         "\"url_sources\":{\"client_tool_results\":null,\"server_tool_results\":null,"
         "\"user_input\":null}"},
        {"web_fetch",
         "\"url_sources\":{\"user_input\":\"all\",\"client_tool_results\":{\"type\":\"only\","
         "\"tools\":[{\"name\":\"lookup\",\"type\":\"tool_reference\"}]},"
         "\"server_tool_results\":{\"type\":\"none\"}}",
         "\"url_sources\":{\"client_tool_results\":{\"type\":\"only\",\"tools\":[{\"type\":"
         "\"tool_reference\",\"name\":\"lookup\"}]},\"server_tool_results\":{\"type\":\"none\"},"
         "\"user_input\":{\"type\":\"all\"}}"},
        {"web_search", "\"allowed_domains\":[\"example.com/docs\"]",
         "\"allowed_domains\":[\"example.com/docs\"]"},
        {"web_search", "\"user_location\":{\"type\":\"approximate\",\"country\":\"DE\"}",
         "\"user_location\":{\"type\":\"approximate\",\"city\":null,\"country\":\"DE\",\"region\":"
         "null,\"timezone\":null}"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct str out, again;
        struct err err = {0};
        const struct json *doc;
        if (decode(cases[i].tool, cases[i].in, &out, &err))
            fail_msg("case %zu: %s", i, err.msg);
        AUTO_BUF struct buf end = BUF_INIT(4096);
        buf_printf(&end, "\"permission_policy\":{\"type\":\"always_allow\"},%s}]}]", cases[i].out);
        if (!str_ends(out, buf_view(&end)))
            fail_msg("case %zu: %.*s", i, (int)out.len, out.ptr);
        assert_int_equal(json_parse(&arena, out, 0, &doc, &err), 0);
        assert_int_equal(tools_decode(&arena, doc, "/tools", &again, &err), 0);
        assert_true(str_eq(out, again));
        arena_reset(&arena);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(settings_that_make_no_sense_are_refused_with_the_published_messages),
        T(more_than_64_domains_are_refused),
        T(settings_come_back_in_the_form_of_responses_and_stay_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
