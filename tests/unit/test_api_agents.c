#include "api/agent_decode.h"
#include "api/compact.h"
#include "api/metadata.h"

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

static int check(void *self, struct str id, struct err *err)
{
    (void)self;
    if (str_starts(id, STR("script/")))
        return 0;
    return err_set(err, ERR_INVALID, "no provider takes the model '" STR_FMT "'", STR_ARG(id));
}

static const char *effort(void *self, struct str id)
{
    (void)self;
    return str_eqz(id, "script/calm") ? "medium" : "high";
}

static const struct model_rules rules = {NULL, check, effort};

static const struct json *parse(const char *text)
{
    const struct json *doc;
    struct err err;
    struct str kept = arena_str(&arena, str_z(text));
    assert_int_equal(json_parse(&arena, kept, 0, &doc, &err), 0);
    return doc;
}

/* The definition that `text` makes of `def`, as JSON. */
static struct str patched(struct agent_def *def, enum agent_patch_kind kind, const char *text)
{
    struct agent_patch p;
    struct err err = {0};
    if (agent_patch_decode(&arena, parse(text), kind, "", &rules, &p, &err) ||
        agent_patch_apply(&arena, &p, def, &err))
        fail_msg("%s", err.msg);
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    agent_def_write(def, &b);
    return arena_str(&arena, buf_view(&b));
}

static void a_definition_comes_back_with_every_default(void **state)
{
    (void)state;
    struct agent_def def = {0};
    struct str got = patched(&def, AGENT_CREATE, "{\"name\":\"n\",\"model\":\"script/calm\"}");
    assert_true(str_eqz(
        got, "{\"name\":\"n\",\"description\":null,\"model\":{\"id\":\"script/calm\",\"effort\":{"
             "\"type\":\"medium\"},\"speed\":\"standard\"},\"system\":null,\"tools\":[],"
             "\"mcp_servers\":[],\"skills\":[],\"multiagent\":null,\"execution_identity\":{"
             "\"type\":\"service_account\"},\"metadata\":{}}"));
    struct agent_def back;
    struct err err;
    assert_int_equal(agent_def_read(&arena, got, &back, &err), 0);
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    agent_def_write(&back, &b);
    assert_true(str_eq(buf_view(&b), got));
}

static void an_update_that_changes_nothing_gives_the_same_text(void **state)
{
    (void)state;
    struct agent_def def = {0};
    struct str first = patched(&def, AGENT_CREATE,
                               "{\"name\":\"n\",\"model\":{\"id\":\"script/x\",\"effort\":\"low\"},"
                               "\"metadata\":{\"a\":\"1\"},\"system\":\"s\"}");
    static const char *const same[] = {
        "{}",
        "{\"name\":\"n\"}",
        "{\"model\":\"script/x\"}", /* the stored effort is kept */
        "{\"metadata\":{\"a\":\"1\",\"b\":null}}",
        "{\"tools\":null,\"skills\":[],\"mcp_servers\":null,\"multiagent\":null}",
        "{\"description\":\"\"}",
    };
    for (size_t i = 0; i < COUNT_OF(same); i++)
        assert_true(str_eq(patched(&def, AGENT_UPDATE, same[i]), first));
}

static void another_model_takes_its_own_effort(void **state)
{
    (void)state;
    struct agent_def def = {0};
    patched(&def, AGENT_CREATE,
            "{\"name\":\"n\",\"model\":{\"id\":\"script/x\",\"effort\":{\"type\":\"max\"}}}");
    patched(&def, AGENT_UPDATE, "{\"model\":\"script/calm\"}");
    assert_true(str_find(def.model, STR("\"medium\"")) > 0);
    patched(&def, AGENT_OVERRIDE,
            "{\"type\":\"agent_with_overrides\",\"id\":\"agent_1\",\"model\":{\"id\":\"script/x\","
            "\"effort\":\"low\"}}");
    assert_true(str_find(def.model, STR("\"high\"")) > 0); /* an override's effort is ignored */
}

static void metadata_merges_and_null_deletes(void **state)
{
    (void)state;
    struct agent_def def = {0};
    patched(&def, AGENT_CREATE,
            "{\"name\":\"n\",\"model\":\"script/x\",\"metadata\":{\"a\":\"1\",\"b\":\"2\"}}");
    patched(&def, AGENT_UPDATE, "{\"metadata\":{\"b\":null,\"a\":\"3\",\"c\":\"\"}}");
    assert_true(str_eqz(def.metadata, "{\"a\":\"3\",\"c\":\"\"}"));
}

static void a_toolset_shows_each_config_in_full(void **state)
{
    (void)state;
    struct agent_def def = {0};
    patched(
        &def, AGENT_CREATE,
        "{\"name\":\"n\",\"model\":\"script/x\",\"tools\":[{\"type\":\"agent_toolset_20260401\","
        "\"default_config\":{\"enabled\":false},\"configs\":[{\"name\":\"bash\",\"enabled\":"
        "true},{\"name\":\"web_fetch\"}]}]}");
    assert_true(str_eqz(
        def.tools,
        "[{\"type\":\"agent_toolset_20260401\",\"default_config\":{\"enabled\":false,"
        "\"permission_policy\":{\"type\":\"always_allow\"}},\"configs\":[{\"name\":\"bash\","
        "\"type\":\"bash\",\"enabled\":true,\"permission_policy\":{\"type\":\"always_allow\"}},{"
        "\"name\":\"web_fetch\",\"type\":\"web_fetch\",\"enabled\":false,\"permission_policy\":{"
        "\"type\":\"always_allow\"},\"url_sources\":null}]}]"));
}

static void a_schema_keeps_its_text_but_for_blanks(void **state)
{
    (void)state;
    struct agent_def def = {0};
    patched(&def, AGENT_CREATE,
            "{\"name\":\"n\",\"model\":\"script/x\",\"tools\":[{\"type\":\"custom\",\"name\":\"t\","
            "\"description\":\"d\",\"input_schema\":{ \"type\" :\n\"object\", \"x\": [1.50,\t\" "
            "\\\" \"] }}]}");
    assert_true(str_find(def.tools, STR("{\"type\":\"object\",\"x\":[1.50,\" \\\" \"]}")) > 0);
}

static void a_snapshot_has_no_metadata_and_a_thread_no_multiagent(void **state)
{
    (void)state;
    struct agent_def def = {0};
    patched(&def, AGENT_CREATE, "{\"name\":\"n\",\"model\":\"script/x\"}");
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    agent_snapshot_write(&def, STR("agent_1"), 3, &b);
    assert_true(
        str_starts(buf_view(&b), STR("{\"id\":\"agent_1\",\"type\":\"agent\",\"version\":3,")));
    assert_true(str_find(buf_view(&b), STR("metadata")) < 0);
    struct str thread;
    struct err err;
    assert_int_equal(agent_thread_snapshot(&arena, buf_view(&b), &thread, &err), 0);
    assert_true(str_find(buf_view(&b), STR("multiagent")) > 0);
    assert_true(str_find(thread, STR("multiagent")) < 0);
}

#define TOOL(x) "{\"name\":\"n\",\"model\":\"script/x\",\"tools\":[" x "]}"
#define CUSTOM(name, schema)                                                                       \
    TOOL("{\"type\":\"custom\",\"name\":\"" name                                                   \
         "\",\"description\":\"d\",\"input_schema\":" schema "}")
#define WITH(x) "{\"name\":\"n\",\"model\":\"script/x\"," x "}"

static void what_is_wrong_is_refused_with_its_pointer(void **state)
{
    (void)state;
    static const struct {
        const char *body, *at;
    } cases[] = {
        {"{\"model\":\"script/x\"}", "/name"},
        {"{\"name\":\"\",\"model\":\"script/x\"}", "/name"},
        {"{\"name\":\"n\"}", "/model"},
        {"{\"name\":\"n\",\"model\":\"gpt\"}", "/model"},
        {"{\"name\":\"n\",\"model\":{\"id\":\"gpt\"}}", "/model/id"},
        {"{\"name\":\"n\",\"model\":{\"id\":\"script/x\",\"effort\":\"heroic\"}}", "/model/effort"},
        {"{\"name\":\"n\",\"model\":{\"id\":\"script/x\",\"effort\":5}}", "/model/effort"},
        {"{\"name\":\"n\",\"model\":{\"id\":\"script/x\",\"speed\":\"warp\"}}", "/model/speed"},
        {"{\"name\":\"n\",\"model\":{\"id\":\"script/x\",\"inference_geo\":\"us\"}}",
         "/model/inference_geo"},
        {"{\"name\":\"n\",\"model\":{\"id\":\"script/x\",\"mind\":1}}", "/model/mind"},
        {WITH("\"metadata\":{\"a\":1}"), "/metadata/a"},
        {WITH("\"metadata\":{\"a\":null}"), "/metadata/a"},
        {WITH("\"metadata\":{\"\":\"x\"}"), "/metadata/"},
        {WITH("\"mcp_servers\":[{}]"), "/mcp_servers"},
        {WITH("\"skills\":[{}]"), "/skills/0/type"},
        {WITH("\"multiagent\":{\"type\":\"coordinator\"}"), "/multiagent"},
        {WITH("\"execution_identity\":{\"type\":\"aws_role\"}"), "/execution_identity"},
        {WITH("\"version\":1"), "/version"},
        {TOOL("5"), "/tools/0"},
        {TOOL("{}"), "/tools/0/type"},
        {TOOL("{\"type\":\"mcp_toolset\",\"mcp_server_name\":\"m\"}"), "/tools/0/type"},
        {TOOL("{\"type\":\"agent_toolset_20260401\"},{\"type\":\"agent_toolset_20260401\"}"),
         "/tools/1/type"},
        {TOOL("{\"type\":\"agent_toolset_20260401\",\"configs\":[{\"name\":\"fly\"}]}"),
         "/tools/0/configs/0/name"},
        {TOOL("{\"type\":\"agent_toolset_20260401\",\"configs\":[{\"name\":\"bash\"},{\"name\":"
              "\"bash\"}]}"),
         "/tools/0/configs/1/name"},
        {TOOL("{\"type\":\"agent_toolset_20260401\",\"configs\":[{\"name\":\"bash\",\"type\":"
              "\"read\"}]}"),
         "/tools/0/configs/0/type"},
        {TOOL("{\"type\":\"agent_toolset_20260401\",\"default_config\":{\"permission_policy\":{"
              "\"type\":\"sometimes\"}}}"),
         "/tools/0/default_config/permission_policy/type"},
        {TOOL("{\"type\":\"agent_toolset_20260401\",\"configs\":[{\"name\":\"bash\","
              "\"allowed_domains\":[\"a.com\"]}]}"),
         "/tools/0/configs/0/allowed_domains"},
        {CUSTOM("a b", "{\"type\":\"object\"}"), "/tools/0/name"},
        {CUSTOM("bash", "{\"type\":\"object\"}"), "/tools/0/name"},
        {CUSTOM("mcp__x", "{\"type\":\"object\"}"), "/tools/0/name"},
        {CUSTOM("ant__x", "{\"type\":\"object\"}"), "/tools/0/name"},
        {CUSTOM("t", "{\"type\":\"array\"}"), "/tools/0/input_schema/type"},
        {CUSTOM("t", "{\"type\":\"object\",\"anyOf\":[]}"), "/tools/0/input_schema/anyOf"},
        {CUSTOM("t", "{\"type\":\"object\",\"properties\":{\"a\":[{\"$ref\":\"#\"}]}}"),
         "/tools/0/input_schema"},
        {CUSTOM("t", "{\"type\":\"object\",\"properties\":{\"a b\":{}}}"),
         "/tools/0/input_schema/properties/a b"},
        {CUSTOM("t", "{\"type\":\"object\",\"required\":[1]}"), "/tools/0/input_schema/required"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct agent_patch p;
        struct err err = {0};
        int rc =
            agent_patch_decode(&arena, parse(cases[i].body), AGENT_CREATE, "", &rules, &p, &err);
        if (rc != ERR_INVALID)
            fail_msg("accepted: %s", cases[i].body);
        assert_string_equal(err.at, cases[i].at);
        assert_true(err.msg[0] != '\0');
    }
}

static void too_much_of_anything_is_refused(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    buf_z(&b, "{\"name\":\"n\",\"model\":\"script/x\",\"metadata\":{");
    for (int i = 0; i < 17; i++)
        buf_printf(&b, "%s\"k%d\":\"v\"", i ? "," : "", i);
    buf_z(&b, "}}");
    struct agent_patch p;
    struct err err = {0};
    assert_int_equal(agent_patch_decode(&arena, parse(b.data), AGENT_CREATE, "", &rules, &p, &err),
                     ERR_INVALID);
    assert_string_equal(err.at, "/metadata");
    assert_string_equal(err.detail, "invalid_metadata");
    buf_clear(&b);
    buf_z(&b, "{\"name\":\"n\",\"model\":\"script/x\",\"tools\":[");
    for (int i = 0; i < 257; i++)
        buf_printf(&b,
                   "%s{\"type\":\"custom\",\"name\":\"t%d\",\"description\":\"d\","
                   "\"input_schema\":{\"type\":\"object\"}}",
                   i ? "," : "", i);
    buf_z(&b, "]}");
    assert_int_equal(agent_patch_decode(&arena, parse(b.data), AGENT_CREATE, "", &rules, &p, &err),
                     ERR_INVALID);
    assert_string_equal(err.at, "/tools");
}

static void a_session_changes_its_tools_and_nothing_else(void **state)
{
    (void)state;
    struct str snapshot = STR("{\"id\":\"agent_1\",\"name\":\"n\",\"tools\":[1],\"skills\":[]}");
    static const struct {
        const char *patch, *want;
    } cases[] = {
        {"{}", "{\"id\":\"agent_1\",\"name\":\"n\",\"tools\":[1],\"skills\":[]}"},
        {"{\"mcp_servers\":null}",
         "{\"id\":\"agent_1\",\"name\":\"n\",\"tools\":[1],\"skills\":[]}"},
        {"{\"tools\":null}", "{\"id\":\"agent_1\",\"name\":\"n\",\"tools\":[],\"skills\":[]}"},
        {"{\"tools\":[]}", "{\"id\":\"agent_1\",\"name\":\"n\",\"tools\":[],\"skills\":[]}"},
    };
    struct agent_patch p;
    struct err err = {0};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct str got;
        if (agent_patch_decode(&arena, parse(cases[i].patch), AGENT_SESSION, "/agent", &rules, &p,
                               &err) ||
            agent_snapshot_patch(&arena, &p, snapshot, &got, &err))
            fail_msg("%s: %s", cases[i].patch, err.msg);
        assert_true(str_eqz(got, cases[i].want));
    }
    assert_int_equal(agent_patch_decode(&arena, parse("{\"system\":\"x\"}"), AGENT_SESSION,
                                        "/agent", &rules, &p, &err),
                     ERR_INVALID);
    assert_string_equal(err.at, "/agent/system");
}

static void skills_stay_readable_whatever_is_changed(void **state)
{
    (void)state;
    static const char skill[] = "\"skills\":[{\"type\":\"custom\",\"skill_id\":\"skill_1\"}]";
    static const char set[] = "\"tools\":[{\"type\":\"agent_toolset_20260401\"}]";
    struct agent_def def = {0};
    struct agent_patch p;
    struct err err = {0};
    struct str text =
        arena_printf(&arena, "{\"name\":\"n\",\"model\":\"script/calm\",%s,%s}", set, skill);
    struct str got = patched(&def, AGENT_CREATE, text.ptr);
    assert_true(str_find(got, STR("\"skills\":[{\"type\":\"custom\",\"skill_id\":\"skill_1\","
                                  "\"version\":\"latest\"}]")) > 0);
    assert_int_equal(
        agent_patch_decode(&arena, parse("{\"tools\":[]}"), AGENT_UPDATE, "", &rules, &p, &err), 0);
    assert_int_equal(agent_patch_apply(&arena, &p, &def, &err), ERR_INVALID);
    assert_string_equal(err.at, "/tools");
    struct str snapshot = got, out;
    assert_int_equal(agent_patch_decode(&arena, parse("{\"tools\":null}"), AGENT_SESSION, "/agent",
                                        &rules, &p, &err),
                     0);
    assert_int_equal(agent_snapshot_patch(&arena, &p, snapshot, &out, &err), ERR_INVALID);
    assert_string_equal(err.at, "/agent/tools");
    def = (struct agent_def){0};
    text = arena_printf(&arena, "{\"name\":\"n\",\"model\":\"script/calm\",%s}", skill);
    assert_int_equal(
        agent_patch_decode(&arena, parse(text.ptr), AGENT_CREATE, "", &rules, &p, &err), 0);
    assert_int_equal(agent_patch_apply(&arena, &p, &def, &err), ERR_INVALID);
    assert_string_equal(err.at, "/skills");
}

static void a_model_cannot_be_cleared(void **state)
{
    (void)state;
    struct agent_patch p;
    struct err err = {0};
    assert_int_equal(
        agent_patch_decode(&arena, parse("{\"model\":null}"), AGENT_UPDATE, "", &rules, &p, &err),
        ERR_INVALID);
    assert_string_equal(err.at, "/model");
    const char *override = "{\"type\":\"agent_with_overrides\",\"id\":\"agent_1\",\"model\":null}";
    assert_int_equal(
        agent_patch_decode(&arena, parse(override), AGENT_OVERRIDE, "/agent", &rules, &p, &err),
        ERR_INVALID);
    assert_string_equal(err.at, "/agent/model");
    assert_string_equal(err.detail, "agent_model_required");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_definition_comes_back_with_every_default),
        cmocka_unit_test(an_update_that_changes_nothing_gives_the_same_text),
        cmocka_unit_test(another_model_takes_its_own_effort),
        cmocka_unit_test(metadata_merges_and_null_deletes),
        cmocka_unit_test(a_toolset_shows_each_config_in_full),
        cmocka_unit_test(a_schema_keeps_its_text_but_for_blanks),
        cmocka_unit_test(a_snapshot_has_no_metadata_and_a_thread_no_multiagent),
        cmocka_unit_test(what_is_wrong_is_refused_with_its_pointer),
        cmocka_unit_test(too_much_of_anything_is_refused),
        cmocka_unit_test(a_session_changes_its_tools_and_nothing_else),
        cmocka_unit_test(skills_stay_readable_whatever_is_changed),
        cmocka_unit_test(a_model_cannot_be_cleared),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
