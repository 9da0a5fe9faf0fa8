/* The web tools in the loop: when they are offered, what their settings let through, what of them
 * is counted. */
#include "core_rig.h"

#include "core/web_rules.h"

static char snapshot[4096];

static void use_agent(struct rig *r, const char *web_config)
{
    struct err err;
    snprintf(snapshot, sizeof snapshot,
             "{\"model\":{\"id\":\"script/echo\"},\"tools\":[{\"type\":\"agent_toolset_20260401\","
             "\"default_config\":{\"enabled\":true,\"permission_policy\":{\"type\":"
             "\"always_allow\"}},\"configs\":[{\"name\":\"web_fetch\",\"enabled\":true%s}]},"
             "{\"type\":\"custom\",\"name\":\"lookup\",\"description\":\"d\",\"input_schema\":{"
             "\"type\":\"object\"}},{\"type\":\"custom\",\"name\":\"other\",\"description\":\"d\","
             "\"input_schema\":{\"type\":\"object\"}}]}",
             web_config);
    assert_int_equal(agent_read(&r->arena, str_z(snapshot), &r->agent, &err), 0);
    agent_offer_web(&r->agent);
    turn_set_agent(&r->turn, &r->agent);
}

static void they_are_offered_where_the_server_has_them_and_they_are_enabled(void **state)
{
    struct rig *r = *state;
    use_agent(r, "");
    assert_true(r->agent.tools[TOOL_WEB_FETCH].offered);
    assert_non_null(r->agent.tools[TOOL_WEB_FETCH].config);
    AUTO_BUF struct buf tools = BUF_INIT(1 << 20);
    agent_write_tools(&r->agent, &tools);
    assert_non_null(strstr(tools.data, "\"name\":\"web_fetch\""));
    assert_non_null(strstr(tools.data, "\"name\":\"web_search\""));
    struct err err;
    struct agent ag;
    static const char off[] =
        "{\"tools\":[{\"type\":\"agent_toolset_20260401\",\"default_config\":{\"enabled\":false},"
        "\"configs\":[{\"name\":\"web_search\",\"enabled\":true}]}]}";
    assert_int_equal(agent_read(&r->arena, str_z(off), &ag, &err), 0);
    assert_false(ag.tools[TOOL_WEB_SEARCH].offered);
    agent_offer_web(&ag);
    assert_false(ag.tools[TOOL_WEB_FETCH].offered);
    assert_true(ag.tools[TOOL_WEB_SEARCH].offered);
    /* Nothing is said of a sandbox that the agent has no tool for. */
    AUTO_BUF struct buf system = BUF_INIT(1 << 20);
    agent_write_system(&ag, &system);
    assert_true(!system.data || !strstr(system.data, "sandbox"));
}

static void a_search_that_was_answered_is_counted_and_a_fetch_is_not(void **state)
{
    struct rig *r = *state;
    use_agent(r, "");
    say(r, "go");
    take_inbox(r);
    call_tool(r, "web_search", "{\"query\":\"q\"}");
    result(r, "1. x");
    call_tool(r, "web_fetch", "{\"url\":\"https://a.example/\"}");
    result(r, "x");
    call_tool(r, "web_search", "{\"query\":\"q\"}");
    struct tool_outcome failed = {.content = STR("no"), .is_error = true};
    struct id id = r->turn.calls[0].id;
    turn_tool_done(&r->turn, begin(r), id_str(&id), &failed);
    commit(r);
    answer_text(r, "done");
    assert_int_equal(r->turn.usage.web_searches, 1);
    AUTO_BUF struct buf b = BUF_INIT(4096);
    struct jw w = jw_to(&b);
    usage_write(&w, &r->turn.usage, 0);
    assert_non_null(
        strstr(b.data, "\"server_tool_use\":{\"web_search_requests\":1,\"web_fetch_requests\":0}"));
}

/* ---- sources ---- */

static bool is_equal(void *arg, struct str found)
{
    return str_eqz(found, arg);
}

static bool known(struct rig *r, const char *url)
{
    char kept[256];
    snprintf(kept, sizeof kept, "%s", url);
    struct str host = str_skip(str_z(kept), strlen("https://"));
    ptrdiff_t slash = str_find_ch(host, '/');
    const struct web_url wanted = {
        .host = slash < 0 ? host : str_take(host, (size_t)slash), .same = is_equal, .arg = kept};
    return web_url_known(&r->agent, &r->turn.prompt, &wanted);
}

static void custom_result(struct rig *r, const char *text)
{
    char rest[512];
    snprintf(rest, sizeof rest,
             ",\"custom_tool_use_id\":\"%s\",\"content\":[{\"type\":\"text\",\"text\":\"%s\"}]",
             r->turn.calls[0].id.z, text);
    queue(r, EVENT_USER_CUSTOM_TOOL_RESULT, rest);
    take_inbox(r);
}

/* Each source names a URL of its own. */
static void converse(struct rig *r)
{
    say(r, "see https://user.example/a, (https://user.example/b). HTTPS://user.example/c");
    take_inbox(r);
    call_tool(r, "lookup", "{\"q\":\"https://input.example/\"}");
    custom_result(r, "at https:\\/\\/client.example/x\\u0026y");
    call_tool(r, "other", "{}");
    custom_result(r, "[md](https://client.example/other)");
    call_tool(r, "web_search", "{\"query\":\"q\"}");
    result(r, "1. T\n   https://found.example/s\n");
    call_tool(r, "web_fetch", "{\"url\":\"https://user.example/a\"}");
    result(r, "a [link](https://found.example/f) here");
    call_tool(r, "bash", "{\"command\":\"cat\"}");
    result(r, "https://file.example/");
    answer_text(r, "I would like https://model.example/");
}

static void a_url_must_have_come_from_an_allowed_source(void **state)
{
    (void)state;
#define SOURCES(text) ",\"url_sources\":{" text "}"
#define ONLY(name)                                                                                 \
    "{\"type\":\"only\",\"tools\":[{\"type\":\"tool_reference\",\"name\":\"" name "\"}]}"
#define EXCEPT(name)                                                                               \
    "{\"type\":\"except\",\"tools\":[{\"type\":\"tool_reference\",\"name\":\"" name "\"}]}"
    static const char *const urls[] = {
        "https://user.example/a",       "https://user.example/b",  "https://client.example/x&y",
        "https://client.example/other", "https://found.example/s", "https://found.example/f",
        "https://file.example/",        "https://model.example/",  "https://input.example/",
        "https://user.example/",        "https://user.example/ab", "https://never.example/"};
    static const struct {
        const char *config, *allowed; /* one sign for each URL */
    } cases[] = {
        {"", "++++++++++++"},
        {",\"url_sources\":null", "++++++++++++"},
        {SOURCES(""), "++++++------"},
        {SOURCES("\"user_input\":{\"type\":\"none\"}"), "--++++------"},
        {SOURCES("\"client_tool_results\":{\"type\":\"none\"}"), "++--++------"},
        {SOURCES("\"server_tool_results\":{\"type\":\"none\"}"), "++++--------"},
        {SOURCES("\"client_tool_results\":" ONLY("lookup")), "+++-++------"},
        {SOURCES("\"client_tool_results\":" EXCEPT("lookup")), "++-+++------"},
        {SOURCES("\"server_tool_results\":" ONLY("web_search")), "+++++-------"},
        {SOURCES("\"server_tool_results\":" EXCEPT("web_search")), "++++-+------"},
        {SOURCES("\"user_input\":{\"type\":\"all\"},\"client_tool_results\":{\"type\":\"none\"},"
                 "\"server_tool_results\":{\"type\":\"none\"}"),
         "++----------"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        void *fresh;
        char got[COUNT_OF(urls) + 1] = "";
        assert_int_equal(setup(&fresh), 0);
        use_agent(fresh, cases[i].config);
        converse(fresh);
        for (size_t u = 0; u < COUNT_OF(urls); u++)
            got[u] = known(fresh, urls[u]) ? '+' : '-';
        assert_string_equal(got, cases[i].allowed);
        teardown(&fresh);
    }
}

static void a_url_is_found_as_texts_hold_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool found;
    } cases[] = {
        {"https://a.example/x", true},
        {"(https://a.example/x)", true},
        {"<https://a.example/x>", true},
        {"see https://a.example/x.", true},
        {"[a](https://a.example/x) b", true},
        {"'https://a.example/x'?!", true},
        {"https://a.example/x)https://b.example", true},
        {"https://a.example/xy", false},
        {"https://a.example/x/y", false},
        {"https://a.example/", false},
        {"https://b.a.example/x", false},
        {"http://a.example/x", false},
        {"a.example/x", false},
        {"xhttps://a.example/x", true},
        {"https://b.example/?u=https://a.example/x", true},
        {"https:// a.example/x", false},
        {"h", false},
        {"", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        void *fresh;
        assert_int_equal(setup(&fresh), 0);
        use_agent(fresh, ",\"url_sources\":{}");
        say(fresh, cases[i].text[0] ? cases[i].text : "x");
        take_inbox(fresh);
        if (known(fresh, "https://a.example/x") != cases[i].found)
            fail_msg("case %zu: %s", i, cases[i].text);
        teardown(&fresh);
    }
}

/* ---- domains ---- */

static void domains_cover_their_subdomains_and_paths(void **state)
{
    (void)state;
    static const struct {
        const char *config, *host, *path, *refused;
    } cases[] = {
        {"{}", "a.example", "/", NULL},
        {"{\"allowed_domains\":[\"example.com\"]}", "example.com", "/x", NULL},
        {"{\"allowed_domains\":[\"example.com\"]}", "a.b.example.com", "/", NULL},
        {"{\"allowed_domains\":[\"example.com\"]}", "badexample.com", "/", "allowed_domains"},
        {"{\"allowed_domains\":[\"www.example.com\"]}", "example.com", "/", "allowed_domains"},
        {"{\"allowed_domains\":[\"Example.COM\"]}", "example.com", "/", NULL},
        {"{\"allowed_domains\":[\"example.com/docs\"]}", "example.com", "/docs", NULL},
        {"{\"allowed_domains\":[\"example.com/docs/\"]}", "example.com", "/docs/a", NULL},
        {"{\"allowed_domains\":[\"example.com/docs\"]}", "example.com", "/docsx",
         "allowed_domains"},
        {"{\"allowed_domains\":[\"example.com/docs\"]}", "example.com", "/", "allowed_domains"},
        {"{\"allowed_domains\":null}", "example.com", "/", NULL},
        {"{\"blocked_domains\":[\"example.com\"]}", "a.example.com", "/", "blocked_domains"},
        {"{\"blocked_domains\":[\"example.com/ads\"]}", "example.com", "/x", NULL},
        {"{\"blocked_domains\":[\"a.com\",\"b.com\"]}", "b.com", "/", "blocked_domains"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_ARENA struct arena a;
        arena_init(&a, 1 << 20);
        const struct json *config;
        struct err err;
        assert_int_equal(json_parse(&a, str_z(cases[i].config), 0, &config, &err), 0);
        const char *why = web_host_refused(config, str_z(cases[i].host), str_z(cases[i].path));
        if (!why != !cases[i].refused || (why && strcmp(why, cases[i].refused) != 0))
            fail_msg("case %zu: %s", i, why ? why : "let through");
    }
    assert_null(web_host_refused(NULL, STR("example.com"), STR("/")));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(they_are_offered_where_the_server_has_them_and_they_are_enabled),
        T(a_search_that_was_answered_is_counted_and_a_fetch_is_not),
        cmocka_unit_test(a_url_must_have_come_from_an_allowed_source),
        cmocka_unit_test(a_url_is_found_as_texts_hold_them),
        cmocka_unit_test(domains_cover_their_subdomains_and_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
