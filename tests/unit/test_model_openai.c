/* What a request looks like as a chat completion. */
#include "model_fixture.h"

#include "model/openai.h"

static void translate(const struct wire_request *r, struct buf *out)
{
    struct err err;
    buf_clear(out);
    assert_int_equal(openai_body(r, out, &err), 0);
    assert_true(buf_ok(out));
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 24);
    const struct json *doc;
    assert_int_equal(json_parse(&a, buf_view(out), 0, &doc, &err), 0);
}

/* The messages of the translated request, without the brackets. */
static const char *messages_of(const char *messages, const char *system, struct buf *out)
{
    AUTO_BUF struct buf body = BUF_INIT(1 << 20);
    const struct model_request req = {.messages = str_z(messages), .system = str_z(system)};
    translate(&(struct wire_request){.req = &req, .model = STR("m")}, &body);
    struct str all = buf_view(&body), key = STR("\"messages\":[");
    ptrdiff_t at = str_find(all, key);
    assert_true(at > 0);
    buf_clear(out);
    buf_str(out, str_n(all.ptr + at + key.len, all.len - (size_t)at - key.len - 2));
    return out->len ? out->data : "";
}

#define USER(blocks) "{\"role\":\"user\",\"content\":[" blocks "]}"
#define AGENT(blocks) "{\"role\":\"assistant\",\"content\":[" blocks "]}"
#define TEXT(t) "{\"type\":\"text\",\"text\":\"" t "\"}"
#define CALL(id, input)                                                                            \
    "{\"type\":\"tool_use\",\"id\":\"" id "\",\"name\":\"bash\",\"input\":" input "}"
#define RESULT(id, rest) "{\"type\":\"tool_result\",\"tool_use_id\":\"" id "\"" rest "}"
#define PNG                                                                                        \
    "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":"   \
    "\"iVBO/w==\"}}"
#define PNG_PART                                                                                   \
    "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,iVBO/w==\"}}"

static const struct {
    const char *name, *messages, *want;
} conversations[] = {
    {"a string", "[{\"role\":\"user\",\"content\":\"hi \\u00fc\"}]",
     "{\"role\":\"user\",\"content\":\"hi \xc3\xbc\"}"},
    {"texts become one", "[" USER(TEXT("a") "," TEXT("b")) "]",
     "{\"role\":\"user\",\"content\":\"a\\n\\nb\"}"},
    {"an answer", "[" USER(TEXT("a")) "," AGENT(TEXT("b")) "," USER(TEXT("c")) "]",
     "{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"},"
     "{\"role\":\"user\",\"content\":\"c\"}"},
    {"thoughts are not sent back",
     "[" AGENT("{\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"s\"},"
               "{\"type\":\"redacted_thinking\",\"data\":\"d\"}," TEXT("b")) "]",
     "{\"role\":\"assistant\",\"content\":\"b\"}"},
    {"an answer of thoughts keeps its place",
     "[" AGENT("{\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"\"}") "]",
     "{\"role\":\"assistant\",\"content\":\"\"}"},
    {"calls with the text of their input, and results",
     "[" AGENT(TEXT("b") "," CALL("t1", "{ \"n\":1.0e0, \"s\":\"\\u00fc\\\"\" }") "," CALL(
         "t2",
         "{}")) "," USER(RESULT("t1",
                                ",\"content\":[" TEXT("one") "," TEXT(
                                    "two") "]") "," RESULT("t2",
                                                           ",\"content\":\"bad\",\"is_error\":"
                                                           "true") "," RESULT("t3", "")) "]",
     "{\"role\":\"assistant\",\"content\":\"b\",\"tool_calls\":[{\"id\":\"t1\",\"type\":"
     "\"function\",\"function\":{\"name\":\"bash\",\"arguments\":\"{ \\\"n\\\":1.0e0, \\\"s\\\":"
     "\\\"\\\\u00fc\\\\\\\"\\\" }\"}},{\"id\":\"t2\",\"type\":\"function\",\"function\":{\"name\":"
     "\"bash\",\"arguments\":\"{}\"}}]},"
     "{\"role\":\"tool\",\"tool_call_id\":\"t1\",\"content\":\"one\\n\\ntwo\"},"
     "{\"role\":\"tool\",\"tool_call_id\":\"t2\",\"content\":\"The tool call "
     "failed.\\n\\nbad\"},"
     "{\"role\":\"tool\",\"tool_call_id\":\"t3\",\"content\":\"\"}"},
    {"calls without a text", "[" AGENT(CALL("t1", "{}")) "]",
     "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"t1\",\"type\":"
     "\"function\",\"function\":{\"name\":\"bash\",\"arguments\":\"{}\"}}]}"},
    {"results come before what else a user says",
     "[" USER(TEXT("a") "," RESULT("t1", ",\"content\":\"r\"") "," TEXT("b")) "]",
     "{\"role\":\"tool\",\"tool_call_id\":\"t1\",\"content\":\"r\"},"
     "{\"role\":\"user\",\"content\":\"a\\n\\nb\"}"},
    {"images", "[" USER(TEXT("a") "," PNG "," TEXT("b")) "]",
     "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}," PNG_PART
     ",{\"type\":\"text\",\"text\":\"b\"}]}"},
    {"an image by its address",
     "[" USER("{\"type\":\"image\",\"source\":{\"type\":\"url\",\"url\":\"https://x/y.png\"}}") "]",
     "{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
     "\"https://x/y.png\"}}]}"},
    {"images of results follow as the user's",
     "[" USER(RESULT("t1", ",\"content\":[" TEXT("see") "," PNG "]") "," RESULT(
         "t2", ",\"content\":\"r\"") "," TEXT("c")) "]",
     "{\"role\":\"tool\",\"tool_call_id\":\"t1\",\"content\":\"see\\n\\n(it follows as a message "
     "of "
     "its own)\"},{\"role\":\"tool\",\"tool_call_id\":\"t2\",\"content\":\"r\"},"
     "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"From the result of tool call "
     "t1:\"}," PNG_PART ",{\"type\":\"text\",\"text\":\"c\"}]}"},
    {"documents of text",
     "[" USER(
         "{\"type\":\"document\",\"title\":\"T\",\"context\":\"C\",\"source\":{\"type\":"
         "\"text\",\"media_type\":\"text/plain\",\"data\":\"D\"}},"
         "{\"type\":\"document\",\"source\":{\"type\":\"url\",\"url\":\"https://x/\"}},"
         "{\"type\":\"document\",\"source\":{\"type\":\"content\",\"content\":[" TEXT(
             "E") "]}},"
                  "{\"type\":\"document\",\"source\":{\"type\":\"file\",\"file_id\":\"f\"}}") "]",
     "{\"role\":\"user\",\"content\":\"Document: T\\n\\nC\\n\\nD\\n\\nDocument at "
     "https://x/\\n\\nE\\n\\n(a document that this model cannot be shown)\"}"},
    {"a PDF",
     "[" USER("{\"type\":\"document\",\"title\":\"a.pdf\",\"source\":{\"type\":\"base64\","
              "\"media_type\":\"application/pdf\",\"data\":\"JVBE\"}}") "]",
     "{\"role\":\"user\",\"content\":[{\"type\":\"file\",\"file\":{\"filename\":\"a.pdf\","
     "\"file_data\":\"data:application/pdf;base64,JVBE\"}}]}"},
    {"search results, and what nobody knows",
     "[" USER("{\"type\":\"search_result\",\"title\":\"T\",\"source\":\"S\",\"content\":[" TEXT(
         "a") "]},{\"type\":\"new\",\"n\":1}") "]",
     "{\"role\":\"user\",\"content\":\"T\\nS\\n\\na\\n\\n{\\\"type\\\":\\\"new\\\",\\\"n\\\":1}"
     "\"}"},
    {"an operator's word in the middle",
     "[" USER(RESULT("t1", ",\"content\":\"r\"") "," TEXT(
         "a")) ",{\"role\":\"system\","
               "\"content\":[" TEXT("b") "," TEXT(
                   "c") "]},{\"role\":\"system\",\"content\":\"d\"}," AGENT(TEXT("e")) "]",
     "{\"role\":\"tool\",\"tool_call_id\":\"t1\",\"content\":\"r\"},"
     "{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"system\",\"content\":\"b\\n\\nc\"},"
     "{\"role\":\"system\",\"content\":\"d\"},{\"role\":\"assistant\",\"content\":\"e\"}"},
    {"images that no part can carry",
     "[" USER("{\"type\":\"image\",\"source\":{\"type\":\"file\",\"file_id\":\"f\"}},"
              "{\"type\":\"document\",\"source\":{\"type\":\"content\",\"content\":[" PNG
              "]}}") "]",
     "{\"role\":\"user\",\"content\":\"(an image that this model cannot be shown)\\n\\n"
     "(an image that this model cannot be shown)\"}"},
    {"an empty message", "[" USER("") "]", ""},
};

static void every_conversation_keeps_its_order_and_its_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(conversations); i++) {
        AUTO_BUF struct buf got = BUF_INIT(1 << 20);
        const char *text = messages_of(conversations[i].messages, NULL, &got);
        if (strcmp(text, conversations[i].want) != 0)
            print_error("conversation: %s\n", conversations[i].name);
        assert_string_equal(text, conversations[i].want);
    }
}

static void the_system_prompt_comes_first(void **state)
{
    (void)state;
    AUTO_BUF struct buf got = BUF_INIT(1 << 20);
    messages_of(
        "[" USER(TEXT("u")) "]",
        "[{\"type\":\"text\",\"text\":\"a\",\"cache_control\":{\"type\":\"ephemeral\"}}," TEXT(
            "b") "]",
        &got);
    assert_string_equal(got.data, "{\"role\":\"system\",\"content\":\"a\\n\\nb\"},"
                                  "{\"role\":\"user\",\"content\":\"u\"}");
    assert_string_equal(messages_of("[]", "[]", &got), "");
}

static void tools_and_settings_stand_before_the_conversation(void **state)
{
    (void)state;
    AUTO_BUF struct buf got = BUF_INIT(1 << 20);
    struct model_info info = {.max_output_tokens = 500, .thinking = "none"};
    struct model_request req = {
        .model = STR("lab/m"),
        .tools = STR("[{\"name\":\"bash\",\"description\":\"runs \\u00fc\",\"input_schema\":{ "
                     "\"type\":\"object\" },\"cache_control\":{}},{\"name\":\"x\"}]"),
        .messages = STR("[]"),
        .effort = STR("max"),
        .speed = STR("fast")};
    struct wire_request r = {.req = &req, .model = STR("m")};
#define HEAD "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
#define REST                                                                                       \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"bash\",\"description\":\"runs "    \
    "\\u00fc\",\"parameters\":{ \"type\":\"object\" }}},{\"type\":\"function\",\"function\":{"     \
    "\"name\":\"x\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}}],\"messages\":[]}"
    translate(&r, &got);
    assert_string_equal(got.data, HEAD REST);
    r.info = &info;
    translate(&r, &got);
    assert_string_equal(got.data, HEAD "\"max_tokens\":500," REST);
    r.published = true;
    req.max_tokens = 7;
    info.thinking = "adaptive";
    translate(&r, &got);
    assert_string_equal(got.data,
                        HEAD "\"max_completion_tokens\":7,\"reasoning_effort\":\"high\"," REST);
    req.effort = STR("low");
    req.max_tokens = 9000;
    req.tools = STR("[]");
    translate(&r, &got);
    assert_string_equal(got.data, HEAD "\"max_completion_tokens\":500,\"reasoning_effort\":"
                                       "\"low\",\"messages\":[]}");
}

/* Promise P9: what a conversation adds, it adds at the end. */
static void a_longer_conversation_begins_with_the_same_bytes(void **state)
{
    (void)state;
    static const char *const steps[] = {
        USER(TEXT("look") "," PNG),
        AGENT("{\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"s\"}," TEXT(
            "I run") "," CALL("t1", "{\"n\": 1}") "," CALL("t2", "{}")),
        USER(RESULT("t1", ",\"content\":[" PNG "]") "," RESULT("t2", ",\"is_error\":true")),
        AGENT(CALL("t3", "{}")),
        USER(RESULT("t3", ",\"content\":\"ok\"") "," TEXT("and?")),
        AGENT(TEXT("done"))};
    AUTO_BUF struct buf messages = BUF_INIT(1 << 20), before = BUF_INIT(1 << 20),
                        now = BUF_INIT(1 << 20), again = BUF_INIT(1 << 20);
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        buf_str(&messages, i ? STR(",") : STR("["));
        buf_z(&messages, steps[i]);
        AUTO_BUF struct buf closed = BUF_INIT(1 << 20);
        buf_str(&closed, buf_view(&messages));
        buf_ch(&closed, ']');
        const struct model_request req = {.messages = buf_view(&closed),
                                          .system = STR("[" TEXT("s") "]"),
                                          .tools = STR("[{\"name\":\"bash\"}]")};
        const struct wire_request r = {.req = &req, .model = STR("m")};
        translate(&r, &now);
        translate(&r, &again);
        assert_true(str_eq(buf_view(&now), buf_view(&again)));
        if (before.len)
            assert_true(str_starts(buf_view(&now), str_take(buf_view(&before), before.len - 2)));
        buf_clear(&before);
        buf_str(&before, buf_view(&now));
    }
}

static void a_damaged_conversation_is_refused_with_its_place(void **state)
{
    (void)state;
    static const struct model_request bad[] = {
        {.messages = {"[{]", 3}},
        {.messages = {"[]", 2}, .system = {"[", 1}},
        {.messages = {"[]", 2}, .tools = {"x", 1}},
    };
    static const char *const what[] = {"messages", "system prompt", "tools"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        AUTO_BUF struct buf out = BUF_INIT(1000);
        struct err err;
        assert_int_equal(openai_body(&(struct wire_request){.req = &bad[i]}, &out, &err),
                         ERR_PARSE);
        assert_non_null(strstr(err.msg, what[i]));
    }
}

static void images_do_not_count_as_the_text_that_carries_them(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(1 << 21);
    buf_z(&b, "{\"text\":\"four words of text\",\"data\":\"");
    int64_t before = wire_estimate(buf_view(&b));
    assert_true(before > 5 && before < 15);
    for (int i = 0; i < 100000; i++)
        buf_z(&b, "abcd");
    buf_z(&b, "\"}");
    int64_t after = wire_estimate(buf_view(&b));
    assert_true(after >= before + 1000 && after < before + 1010);
    assert_int_equal(wire_estimate(STR_NONE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_conversation_keeps_its_order_and_its_texts),
        cmocka_unit_test(the_system_prompt_comes_first),
        cmocka_unit_test(tools_and_settings_stand_before_the_conversation),
        cmocka_unit_test(a_longer_conversation_begins_with_the_same_bytes),
        cmocka_unit_test(a_damaged_conversation_is_refused_with_its_place),
        cmocka_unit_test(images_do_not_count_as_the_text_that_carries_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
