#include "answer_fixture.h"

#include "model/anthropic_stream.h"

#include <time.h>

#define EV(type, rest) "event: " type "\ndata: {\"type\":\"" type "\"" rest "}\n\n"
#define START                                                                                      \
    EV("message_start", ",\"message\":{\"usage\":{\"input_tokens\":10,\"output_tokens\":1,"        \
                        "\"cache_read_input_tokens\":5,\"cache_creation_input_tokens\":7,"         \
                        "\"cache_creation\":{\"ephemeral_5m_input_tokens\":4,"                     \
                        "\"ephemeral_1h_input_tokens\":3}}}")
#define BLOCK(i, block) EV("content_block_start", ",\"index\":" i ",\"content_block\":" block)
#define DELTA(i, delta) EV("content_block_delta", ",\"index\":" i ",\"delta\":" delta)
#define STOP(i) EV("content_block_stop", ",\"index\":" i)
#define TEXT(i) BLOCK(i, "{\"type\":\"text\",\"text\":\"\"}")
#define SAY(i, text) DELTA(i, "{\"type\":\"text_delta\",\"text\":\"" text "\"}")
#define TOOL(i, name)                                                                              \
    BLOCK(i, "{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"" name "\",\"input\":{}}")
#define INPUT(i, json) DELTA(i, "{\"type\":\"input_json_delta\",\"partial_json\":\"" json "\"}")
#define END(reason)                                                                                \
    EV("message_delta", ",\"delta\":{\"stop_reason\":\"" reason "\"},"                             \
                        "\"usage\":{\"output_tokens\":42}")                                        \
    EV("message_stop", "")
#define USAGE " usage 10/42/5/4/3"

static const struct transcript transcripts[] = {
    {"text in pieces",
     START TEXT("0") "event: ping\ndata: {\"type\":\"ping\"}\n\n" SAY("0", "gr\\u00fc")
         SAY("0", "\xc3\x9f"
                  "e") STOP("0") END("end_turn"),
     "[0:0]0=gr\xc3\xbc;0=\xc3\x9f"
     "e; stop 0 |0 gr\xc3\xbc\xc3\x9f"
     "e" USAGE},
    {"a block that starts with text",
     START BLOCK("0", "{\"type\":\"text\",\"text\":\"a\"}") SAY("0", "b") STOP("0")
         END("stop_sequence"),
     "[0:0]0=a;0=b; stop 0 |0 ab" USAGE},
    {"thinking keeps its escapes",
     START BLOCK("0", "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}")
         DELTA("0", "{\"type\":\"thinking_delta\",\"thinking\":\"a \\u00fc\\n\"}")
             DELTA("0", "{\"type\":\"thinking_delta\",\"thinking\":\"b\\/\"}")
                 DELTA("0", "{\"type\":\"signature_delta\",\"signature\":\"Sig+/=\"}") STOP("0")
                     TEXT("1") SAY("1", "x") STOP("1") END("end_turn"),
     "[0:1][1:0]1=x; stop 0 |1 {\"type\":\"thinking\",\"thinking\":\"a \\u00fc\\nb\\/\","
     "\"signature\":\"Sig+/=\"} |0 x" USAGE},
    {"redacted thinking is kept as it is",
     START BLOCK("0", "{\"type\": \"redacted_thinking\", \"data\": \"Em\\/w\"}") STOP("0")
         END("end_turn"),
     "[0:1] stop 0 |1 {\"type\": \"redacted_thinking\", \"data\": \"Em\\/w\"}" USAGE},
    {"tool input byte for byte, duplicate keys allowed",
     START TOOL("0", "bash") INPUT("0", "") INPUT("0", "{\\\"a\\\": 1.50,")
         INPUT("0", " \\\"a\\\":2}") STOP("0") END("tool_use"),
     "[0:2] stop 1 |2 bash {\"a\": 1.50, \"a\":2}" USAGE},
    {"input of several lines becomes one of the same length",
     START TOOL("0", "x") INPUT("0", "{\\n \\\"k\\\":\\r\\n\\\"a\\\\nb\\\"}") STOP("0")
         END("tool_use"),
     "[0:2] stop 1 |2 x {  \"k\":  \"a\\nb\"}" USAGE},
    {"a tool without input", START TOOL("0", "list") STOP("0") END("tool_use"),
     "[0:2] stop 1 |2 list {}" USAGE},
    {"input that came with the block",
     START BLOCK("0", "{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"x\",\"input\":{\"k\": [1]}}")
         STOP("0") END("tool_use"),
     "[0:2] stop 1 |2 x {\"k\": [1]}" USAGE},
    {"malformed input", START TOOL("0", "x") INPUT("0", "{\\\"k\\\": ") STOP("0") END("max_tokens"),
     "[0:2] stop 2 |2 x {\"k\":  MALFORMED" USAGE},
    {"input that is no object", START TOOL("0", "x") INPUT("0", "[1]") STOP("0") END("tool_use"),
     "[0:2] stop 1 |2 x [1] MALFORMED" USAGE},
    {"interleaved blocks and an unknown one",
     START BLOCK("0", "{\"type\":\"server_tool_use\",\"id\":\"s\",\"name\":\"web_search\"}")
         INPUT("0", "{}") TEXT("1") TOOL("2", "t") SAY("1", "a") INPUT("2", "{}") SAY("1", "b")
             STOP("0") STOP("2") STOP("1") END("tool_use"),
     "[0:0][1:2]0=a;0=b; stop 1 |0 ab |2 t {}" USAGE},
    {"unknown events and deltas are skipped",
     START EV("brand_new", ",\"x\":1") TEXT("0")
         DELTA("0", "{\"type\":\"citations_delta\",\"citation\":{}}") SAY("0", "a") STOP("0")
             END("end_turn"),
     "[0:0]0=a; stop 0 |0 a" USAGE},
    {"an empty answer", START END("end_turn"), " stop 0" USAGE},
    {"a stop that names no tool though there is one",
     START TOOL("0", "t") STOP("0") END("end_turn"), "[0:2] stop 1 |2 t {}" USAGE},
    {"a tool stop without a tool", START TEXT("0") STOP("0") END("tool_use"),
     "[0:0] stop 0 |0 " USAGE},
    {"pause", START END("pause_turn"), " stop 3" USAGE},
    {"context full", START END("model_context_window_exceeded"), " stop 5" USAGE},
    {"refusal with details",
     START EV("message_delta",
              ",\"delta\":{\"stop_reason\":\"refusal\",\"stop_details\":{\"type\":\"refusal\","
              "\"category\":\"cyber\",\"explanation\":\"No.\"}},\"usage\":{\"output_tokens\":0}")
         EV("message_stop", ""),
     " stop 4 refusal cyber:No. usage 10/0/5/4/3"},
    {"usage of the end replaces that of the start",
     START EV("message_delta",
              ",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"input_tokens\":null,"
              "\"cache_creation_input_tokens\":9,\"cache_read_input_tokens\":0,"
              "\"output_tokens\":2}") EV("message_stop", ""),
     " stop 0 usage 10/2/0/6/3"},
    {"overloaded inside the stream",
     START TEXT("0") SAY("0", "a") EV("error", ",\"error\":{\"type\":\"overloaded_error\","
                                               "\"message\":\"Overloaded\"}"),
     "[0:0]0=a; failed 0 the model provider reported an error overloaded_error: Overloaded"},
    {"an error before anything",
     EV("error", ",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"prompt is too "
                 "long: 9 > 8\"}"),
     " failed 6 the model provider reported an error invalid_request_error: prompt is too long: 9 "
     "> 8; the conversation must become shorter"},
    {"not JSON", START "data: nonsense\n\n",
     " failed 2 the model's answer is garbled: an event that is not a JSON object"},
    {"a delta without its block", START SAY("4", "x"),
     " failed 2 the model's answer is garbled: a delta for a content block that was not started"},
    {"a delta of the wrong kind", START TEXT("0") INPUT("0", "{}"),
     "[0:0] failed 2 the model's answer is garbled: a delta that does not fit its content block"},
    {"a delta after the end of its block", START TEXT("0") STOP("0") SAY("0", "x"),
     "[0:0] failed 2 the model's answer is garbled: a delta that does not fit its content block"},
    {"two blocks with one index", START TEXT("0") TEXT("0"),
     "[0:0] failed 2 the model's answer is garbled: two content blocks with one index"},
    {"no start", TEXT("0"),
     " failed 2 the model's answer is garbled: it does not begin with message_start"},
    {"two starts", START START, " failed 2 the model's answer is garbled: a second message_start"},
    {"a tool without a name", START TOOL("0", ""),
     " failed 2 the model's answer is garbled: a tool call without a name"},
    {"nothing at all", "", " failed 2 the model's answer was cut before its end"},
    {"cut in the middle", START TEXT("0") SAY("0", "abc"),
     "[0:0]0=abc; failed 2 the model's answer was cut before its end"},
};

static void every_transcript_decodes_at_every_split(void **state)
{
    (void)state;
    decode_at_every_split(&anthropic_decoder, transcripts, COUNT_OF(transcripts));
}

static void every_transcript_decodes_byte_by_byte(void **state)
{
    (void)state;
    decode_byte_by_byte(&anthropic_decoder, transcripts, COUNT_OF(transcripts));
}

static void a_stream_cut_anywhere_fails_and_never_ends_well(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(transcripts); i++) {
        struct str all = str_z(transcripts[i].sse);
        for (size_t cut = 0; cut + 1 < all.len; cut++) {
            struct seen seen;
            seen_init(&seen, &anthropic_decoder);
            answer_feed(&seen.s, str_take(all, cut));
            answer_end(&seen.s, "reset");
            assert_int_equal(seen.s.state, ANSWER_FAILED);
            seen_fini(&seen);
        }
    }
}

static void a_stopped_decoder_calls_nobody_back(void **state)
{
    (void)state;
    struct seen seen;
    seen_init(&seen, &anthropic_decoder);
    seen.stop_after = 2;
    answer_feed(&seen.s, STR(START TEXT("0") SAY("0", "a") SAY("0", "b") END("end_turn")));
    assert_string_equal(seen.log.data, "[0:0]0=a;");
    assert_int_equal(seen.s.state, ANSWER_STOPPED);
    seen_fini(&seen);
}

static void a_whole_message_instead_of_a_stream_is_decoded(void **state)
{
    (void)state;
    static const struct transcript messages[] = {
        {"message",
         "{\"type\":\"message\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\","
         "\"signature\":\"s\"},{\"type\":\"text\",\"text\":\"hi\"},{\"type\":\"tool_use\","
         "\"id\":\"1\",\"name\":\"bash\",\"input\":{\"command\": \"ls\"}}],"
         "\"stop_reason\":\"tool_use\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}",
         "[0:1][1:0]1=hi;[2:2] stop 1 |1 "
         "{\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"s\"} |0 hi |2 bash "
         "{\"command\": \"ls\"} usage 3/4/0/0/0"},
        {"error",
         "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\"}}",
         " failed 1 the model provider reported an error rate_limit_error: slow"},
        {"other", "{\"choices\":[]}",
         " failed 2 the model's answer is garbled: a message without content"},
        {"html", "<html>", " failed 2 the model's answer is garbled: neither a stream nor JSON"},
        {"scalar content", "{\"content\":[1,null,\"x\"]}", " stop 0 usage 0/0/0/0/0"},
    };
    decode_messages(&anthropic_decoder, messages, COUNT_OF(messages));
}

static const struct failure_names names = {"ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", NULL};

static void statuses_and_types_map_to_kinds_with_a_remedy(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        enum model_error_kind kind;
        const char *has;
    } cases[] = {
        {529, "{\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
         MODEL_ERR_OVERLOADED, "529 overloaded_error: Overloaded"},
        {503, "", MODEL_ERR_OVERLOADED, "503"},
        {429, "{\"error\":{\"type\":\"rate_limit_error\",\"message\":\"x\"}}",
         MODEL_ERR_RATE_LIMITED, "rate_limit_error"},
        {500, "{\"error\":{\"type\":\"api_error\",\"message\":\"x\"}}", MODEL_ERR_FAILED, "500"},
        {502, "<html><body>Bad gateway</body></html>", MODEL_ERR_FAILED, "502"},
        {504, "{\"error\":{\"type\":\"timeout_error\",\"message\":\"x\"}}", MODEL_ERR_FAILED, ""},
        {408, "", MODEL_ERR_FAILED, ""},
        {400, "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"tools.0: bad\"}}",
         MODEL_ERR_REQUEST, "tools.0: bad"},
        {400,
         "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"prompt is too long: "
         "208310 tokens > 200000 maximum\"}}",
         MODEL_ERR_CONTEXT, "shorter"},
        {400,
         "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"input length and "
         "`max_tokens` exceed context limit: 1\"}}",
         MODEL_ERR_CONTEXT, "shorter"},
        {413, "", MODEL_ERR_CONTEXT, "shorter"},
        {400,
         "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Your credit balance "
         "is too low\"}}",
         MODEL_ERR_BILLING, "credit"},
        {402, "", MODEL_ERR_BILLING, "add credit"},
        {403, "{\"error\":{\"type\":\"billing_error\",\"message\":\"x\"}}", MODEL_ERR_BILLING, ""},
        {401, "{\"error\":{\"type\":\"authentication_error\",\"message\":\"invalid x-api-key\"}}",
         MODEL_ERR_AUTH, "ANTHROPIC_API_KEY"},
        {403, "no", MODEL_ERR_AUTH, "403: no; check ANTHROPIC_API_KEY"},
        {404, "{\"error\":{\"type\":\"not_found_error\",\"message\":\"model: x\"}}",
         MODEL_ERR_REQUEST, "check the model id"},
        {302, "", MODEL_ERR_REQUEST, "ANTHROPIC_BASE_URL"},
        {418, "{\"message\":\"a\\nb\\u0000c\xc3\xbc\"}", MODEL_ERR_REQUEST, "a b"},
        {422, "\xff\xfe raw", MODEL_ERR_REQUEST, "422"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct model_failure f = {0};
        failure_body(&f, &names, cases[i].status, str_z(cases[i].body));
        assert_int_equal(f.kind, cases[i].kind);
        assert_int_equal(f.http_status, cases[i].status);
        assert_true(str_utf8(str_z(f.message)));
        if (!strstr(f.message, cases[i].has))
            print_error("case %zu: %s\n", i, f.message);
        assert_non_null(strstr(f.message, cases[i].has));
    }
}

static void a_long_message_is_cut_but_keeps_its_remedy(void **state)
{
    (void)state;
    AUTO_BUF struct buf body = BUF_INIT(10000);
    buf_z(&body, "{\"error\":{\"type\":\"authentication_error\",\"message\":\"");
    for (int i = 0; i < 500; i++)
        buf_z(&body, "\xc3\xbc");
    buf_z(&body, "\"}}");
    struct model_failure f = {0};
    failure_body(&f, &names, 401, buf_view(&body));
    assert_true(str_utf8(str_z(f.message)));
    assert_true(str_ends(str_z(f.message), STR("check ANTHROPIC_API_KEY")));
}

static void retry_after_is_read_in_all_its_forms_and_capped(void **state)
{
    (void)state;
    const int64_t now = INT64_C(1445412470) * 1000000; /* 07:27:50 of that day */
    static const struct {
        const char *ms, *after;
        int64_t want;
    } cases[] = {
        {NULL, NULL, 0},
        {NULL, "3", 3000},
        {NULL, "1.5", 1500},
        {"250", "3", 250},
        {"250.7", NULL, 250},
        {"junk", "2", 2000},
        {NULL, "-1", 0},
        {NULL, "soon", 0},
        {NULL, "", 0},
        {NULL, "99999999999999", 60000},
        {NULL, "Wed, 21 Oct 2015 07:28:00 GMT", 10000},
        {NULL, "Wed, 21 Oct 2015 07:00:00 GMT", 0},
        {NULL, "Wed, 21 Oct 2099 07:28:00 GMT", 60000},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(failure_retry_after(str_z(cases[i].ms), str_z(cases[i].after), now),
                         cases[i].want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_transcript_decodes_at_every_split),
        cmocka_unit_test(every_transcript_decodes_byte_by_byte),
        cmocka_unit_test(a_stream_cut_anywhere_fails_and_never_ends_well),
        cmocka_unit_test(a_stopped_decoder_calls_nobody_back),
        cmocka_unit_test(a_whole_message_instead_of_a_stream_is_decoded),
        cmocka_unit_test(statuses_and_types_map_to_kinds_with_a_remedy),
        cmocka_unit_test(a_long_message_is_cut_but_keeps_its_remedy),
        cmocka_unit_test(retry_after_is_read_in_all_its_forms_and_capped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
