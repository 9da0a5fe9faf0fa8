/* Chat completions as the servers in use send them. */
#include "answer_fixture.h"

#include "model/openai_stream.h"

#define DATA(json) "data: " json "\n\n"
#define CHUNK(choice)                                                                              \
    DATA("{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0," choice   \
         "}]}")
#define ROLE CHUNK("\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null")
#define SAY(text) CHUNK("\"delta\":{\"content\":\"" text "\"},\"finish_reason\":null")
#define CALLS(list) CHUNK("\"delta\":{\"tool_calls\":[" list "]}")
#define STOP(reason) CHUNK("\"delta\":{},\"finish_reason\":\"" reason "\"")
#define USAGE                                                                                      \
    DATA("{\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":4,"                \
         "\"prompt_tokens_details\":{\"cached_tokens\":3}}}")
#define DONE DATA("[DONE]")
#define COUNTED " usage 7/4/3/0/0"
#define NOT_COUNTED " usage 0/0/0/0/0"
#define LS "{\\\"command\\\": \\\"ls\\\"}"

static const struct transcript transcripts[] = {
    {"text in pieces", ROLE SAY("gr\\u00fc") SAY("\xc3\x9f") STOP("stop") USAGE DONE,
     "[0:0]0=gr\xc3\xbc;0=\xc3\x9f; stop 0 |0 gr\xc3\xbc\xc3\x9f" COUNTED},
    {"no count, no mark at the end", ROLE SAY("a") STOP("stop"),
     "[0:0]0=a; stop 0 |0 a" NOT_COUNTED},
    {"the last chunk without a blank line",
     SAY("a") "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}",
     "[0:0]0=a; stop 0 |0 a" NOT_COUNTED},
    {"the mark without a blank line", SAY("a") "data: [DONE]", "[0:0]0=a; stop 0 |0 a" NOT_COUNTED},
    {"no finish reason but the mark", ROLE SAY("a") DONE, "[0:0]0=a; stop 0 |0 a" NOT_COUNTED},
    {"empty finish reasons on the way",
     CHUNK("\"delta\":{\"content\":\"a\"},\"finish_reason\":\"\"")
         CHUNK("\"delta\":{\"content\":\"b\"},\"finish_reason\":\"\"") DONE,
     "[0:0]0=a;0=b; stop 0 |0 ab" NOT_COUNTED},
    {"an empty finish reason and no mark is a cut",
     CHUNK("\"delta\":{\"content\":\"a\"},\"finish_reason\":\"\""),
     "[0:0]0=a; failed 2 the model's answer was cut before its end"},
    {"an empty answer", ROLE STOP("stop") USAGE DONE, " stop 0" COUNTED},
    {"empty and null deltas",
     ROLE CHUNK("\"delta\":{}") CHUNK("\"delta\":null") CHUNK("\"delta\":{\"content\":null}")
         SAY("a") STOP("stop") DONE,
     "[0:0]0=a; stop 0 |0 a" NOT_COUNTED},
    {"comments and signs of life",
     ": OPENROUTER PROCESSING\n\n" DATA("{}") SAY("a") DATA("{\"object\":\"ping\"}") STOP("stop")
         DONE,
     "[0:0]0=a; stop 0 |0 a" NOT_COUNTED},
    {"length", SAY("a") STOP("length") DONE, "[0:0]0=a; stop 2 |0 a" NOT_COUNTED},
    {"content_filter", SAY("a") STOP("content_filter") DONE,
     "[0:0]0=a; stop 4 |0 a refusal :The provider's content filter stopped the "
     "answer." NOT_COUNTED},
    {"a refusal in words",
     ROLE CHUNK("\"delta\":{\"refusal\":\"I can\"}") CHUNK("\"delta\":{\"refusal\":\"not\"}")
         STOP("stop") DONE,
     " stop 4 refusal :I cannot" NOT_COUNTED},
    {"reasons of other servers", SAY("a") STOP("eos") DONE, "[0:0]0=a; stop 0 |0 a" NOT_COUNTED},
    {"an error as the reason", SAY("a") STOP("error") DONE,
     "[0:0]0=a; failed 2 the model provider broke its answer off with an error"},
    {"a tool stop without a call", SAY("a") STOP("tool_calls") DONE,
     "[0:0]0=a; stop 0 |0 a" NOT_COUNTED},
    {"reasoning_content",
     CHUNK(
         "\"delta\":{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"a \\u00fc\"}")
         CHUNK("\"delta\":{\"content\":\"\",\"reasoning_content\":\"\\nb\"}") SAY("x") STOP("stop")
             DONE,
     "[0:1][1:0]1=x; stop 0 |1 {\"type\":\"thinking\",\"thinking\":\"a \\u00fc\\nb\","
     "\"signature\":\"\"} |0 x" NOT_COUNTED},
    {"reasoning, and both names at once",
     CHUNK("\"delta\":{\"reasoning\":\"a\"}")
         CHUNK("\"delta\":{\"reasoning\":\"b\",\"reasoning_content\":\"b\"}") SAY("x")
             CHUNK("\"delta\":{\"reasoning\":\"c\"}") SAY("y") STOP("stop") DONE,
     "[0:1][1:0]1=x;1=y; stop 0 |1 {\"type\":\"thinking\",\"thinking\":\"abc\",\"signature\":\"\"} "
     "|0 xy" NOT_COUNTED},
    {"content as parts",
     CHUNK("\"delta\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\","
           "\"text\":\"t\"}]},{\"type\":\"text\",\"text\":\"x\"}]}") STOP("stop") DONE,
     "[0:1][1:0]1=x; stop 0 |1 {\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"\"} |0 "
     "x" NOT_COUNTED},
    {"a call in pieces",
     ROLE CALLS("{\"index\":0,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"bash\","
                "\"arguments\":\"\"}}")
         CALLS("{\"index\":0,\"function\":{\"arguments\":\"{\\\"command\\\"\"}}")
             CALLS("{\"index\":0,\"function\":{\"arguments\":\": \\\"ls\\\"}\"}}")
                 STOP("tool_calls") USAGE DONE,
     "[0:2] stop 1 |2 bash {\"command\": \"ls\"}" COUNTED},
    {"parallel calls, interleaved",
     CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"x\",\"arguments\":\"{\\\"n\\\":\"}}")
         CALLS("{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"y\",\"arguments\":\"{\"}}")
             CALLS("{\"index\":0,\"function\":{\"arguments\":\"1}\"}},"
                   "{\"index\":1,\"function\":{\"arguments\":\"}\"}}") STOP("tool_calls") DONE,
     "[0:2][1:2] stop 1 |2 x {\"n\":1} |2 y {}" NOT_COUNTED},
    {"text, then calls, then text",
     SAY("a") CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"x\",\"arguments\":\"{}\"}}")
         SAY("b") STOP("stop") DONE,
     "[0:0]0=a;[1:2]0=b; stop 1 |0 ab |2 x {}" NOT_COUNTED},
    {"all at once, without index and id",
     CALLS("{\"function\":{\"name\":\"x\",\"arguments\":\"{}\"}},"
           "{\"function\":{\"name\":\"x\",\"arguments\":\"{}\"}}") STOP("tool_calls") DONE,
     "[0:2][1:2] stop 1 |2 x {} |2 x {}" NOT_COUNTED},
    {"in pieces, without index and id",
     CALLS("{\"function\":{\"name\":\"x\",\"arguments\":\"\"}}")
         CALLS("{\"function\":{\"arguments\":\"{\"}}") CALLS("{\"function\":{\"arguments\":\"}\"}}")
             STOP("tool_calls") DONE,
     "[0:2] stop 1 |2 x {}" NOT_COUNTED},
    {"ids without index",
     CALLS("{\"id\":\"a\",\"function\":{\"name\":\"x\",\"arguments\":\"{\"}},"
           "{\"id\":\"b\",\"function\":{\"name\":\"y\",\"arguments\":\"{\"}}")
         CALLS("{\"id\":\"a\",\"function\":{\"arguments\":\"}\"}},"
               "{\"id\":\"b\",\"function\":{\"arguments\":\"}\"}}") STOP("tool_calls") DONE,
     "[0:2][1:2] stop 1 |2 x {} |2 y {}" NOT_COUNTED},
    {"another id for each piece",
     CALLS("{\"id\":\"a\",\"function\":{\"name\":\"x\",\"arguments\":\"{\"}}")
         CALLS("{\"id\":\"b\",\"function\":{\"arguments\":\"}\"}}") STOP("tool_calls") DONE,
     "[0:2] stop 1 |2 x {}" NOT_COUNTED},
    {"index 0 for each, told apart by ids",
     CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"x\",\"arguments\":\"{}\"}}")
         CALLS("{\"index\":0,\"id\":\"b\",\"function\":{\"name\":\"x\",\"arguments\":\"{}\"}}")
             STOP("tool_calls") DONE,
     "[0:2][1:2] stop 1 |2 x {} |2 x {}" NOT_COUNTED},
    {"index 0 for each, told apart by their ends",
     CALLS("{\"index\":0,\"function\":{\"name\":\"x\",\"arguments\":\"{}\"}}")
         CALLS("{\"index\":0,\"function\":{\"name\":\"y\",\"arguments\":\"{}\"}}")
             STOP("tool_calls") DONE,
     "[0:2][1:2] stop 1 |2 x {} |2 y {}" NOT_COUNTED},
    {"id and name with every piece",
     CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"x\",\"arguments\":\"{\"}}")
         CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"x\",\"arguments\":\"}\"}}")
             STOP("tool_calls") DONE,
     "[0:2] stop 1 |2 x {}" NOT_COUNTED},
    {"a name with every piece, without ids",
     CALLS("{\"index\":0,\"function\":{\"name\":\"x\",\"arguments\":\"{\"}}") CALLS(
         "{\"index\":0,\"function\":{\"name\":\"x\",\"arguments\":\"}\"}}") STOP("tool_calls") DONE,
     "[0:2] stop 1 |2 x {}" NOT_COUNTED},
    {"arguments as an object",
     CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"x\",\"arguments\":{\"n\": 1.0e0}}}")
         STOP("stop") DONE,
     "[0:2] stop 1 |2 x {\"n\": 1.0e0}" NOT_COUNTED},
    {"no arguments, null arguments",
     CALLS("{\"index\":0,\"function\":{\"name\":\"x\"}},"
           "{\"index\":1,\"function\":{\"name\":\"y\",\"arguments\":null}}") STOP("tool_calls")
         DONE,
     "[0:2][1:2] stop 1 |2 x {} |2 y {}" NOT_COUNTED},
    {"a name that comes late",
     CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"arguments\":\"\"}}")
         CALLS("{\"index\":0,\"function\":{\"name\":\"x\",\"arguments\":\"{}\"}}")
             STOP("tool_calls") DONE,
     "[0:2] stop 1 |2 x {}" NOT_COUNTED},
    {"arguments that are cut",
     CALLS("{\"index\":0,\"function\":{\"name\":\"x\",\"arguments\":\"{\\\"a\"}}") STOP("length")
         DONE,
     "[0:2] stop 2 |2 x {\"a MALFORMED" NOT_COUNTED},
    {"arguments over lines",
     CALLS("{\"index\":0,\"function\":{\"name\":\"x\",\"arguments\":\"{\\n}\"}}") STOP("stop") DONE,
     "[0:2] stop 1 |2 x { }" NOT_COUNTED},
    {"the older form",
     CHUNK("\"delta\":{\"function_call\":{\"name\":\"x\",\"arguments\":\"{\"}}")
         CHUNK("\"delta\":{\"function_call\":{\"arguments\":\"}\"}}") STOP("function_call") DONE,
     "[0:2] stop 1 |2 x {}" NOT_COUNTED},
    {"a call without a name", CALLS("{\"index\":0,\"id\":\"a\"}") STOP("tool_calls") DONE,
     "[0:2] failed 2 the model's answer is garbled: a tool call without a name"},
    {"calls that are none", CHUNK("\"delta\":{\"tool_calls\":[1,null,\"x\"]}") SAY("a") DONE,
     "[0:0]0=a; stop 0 |0 a" NOT_COUNTED},
    {"other choices are not ours",
     SAY("a") DATA("{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"}}]}") STOP("stop") DONE,
     "[0:0]0=a; stop 0 |0 a" NOT_COUNTED},
    {"a count with every chunk",
     DATA("{\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":10,"
          "\"completion_tokens\":1}}") USAGE STOP("stop") DONE,
     "[0:0]0=a; stop 0 |0 a" COUNTED},
    {"a count in the choice",
     SAY("a") CHUNK("\"delta\":{},\"finish_reason\":\"stop\",\"usage\":{\"prompt_tokens\":5,"
                    "\"completion_tokens\":2,\"prompt_tokens_details\":null}") DONE,
     "[0:0]0=a; stop 0 |0 a usage 5/2/0/0/0"},
    {"a count alone, without choices",
     SAY("a") STOP("stop") DATA("{\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}") DONE,
     "[0:0]0=a; stop 0 |0 a usage 5/2/0/0/0"},
    {"timings in place of a count",
     SAY("a") DATA("{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"timings\":{"
                   "\"cache_n\":9,\"prompt_n\":4,\"predicted_n\":2}}") DONE,
     "[0:0]0=a; stop 0 |0 a usage 4/2/9/0/0"},
    {"counts that cannot be",
     SAY("a") STOP("stop") DATA("{\"choices\":[],\"usage\":{\"prompt_tokens\":-5,"
                                "\"completion_tokens\":1e300,\"prompt_tokens_details\":{"
                                "\"cached_tokens\":7}}}") DONE,
     "[0:0]0=a; stop 0 |0 a" NOT_COUNTED},
    {"an error in the stream",
     SAY("a") DATA("{\"error\":{\"message\":\"slow\",\"type\":\"requests\",\"code\":"
                   "\"rate_limit_exceeded\"}}"),
     "[0:0]0=a; failed 1 the model provider reported an error requests: slow"},
    {"an error with a status for a code",
     DATA("{\"error\":{\"message\":\"loading\",\"type\":\"unavailable_error\",\"code\":503}}"),
     " failed 0 the model provider answered 503 unavailable_error: loading"},
    {"an error that is a string", DATA("{\"error\":\"out of memory\"}"),
     " failed 2 the model provider reported an error: out of memory"},
    {"an error of the older vLLM",
     DATA("{\"object\":\"error\",\"message\":\"maximum context length is 8\",\"type\":"
          "\"BadRequestError\",\"code\":400}"),
     " failed 6 the model provider answered 400 BadRequestError: maximum context length is 8; the "
     "conversation must become shorter"},
    {"an error event", "event: error\ndata: {\"message\":\"no\",\"code\":401}\n\n",
     " failed 4 the model provider answered 401: no"},
    {"a spent quota", DATA("{\"error\":{\"message\":\"x\",\"type\":\"insufficient_quota\"}}"),
     " failed 5 the model provider reported an error insufficient_quota: x"},
    {"garbage", SAY("a") DATA("what"),
     "[0:0]0=a; failed 2 the model's answer is garbled: an event that is not a JSON object"},
    {"the mark alone", DONE, " failed 2 the model's answer is garbled: it ends before it began"},
    {"nothing at all", "", " failed 2 the model's answer was cut before its end"},
    {"cut in the middle", ROLE SAY("abc"),
     "[0:0]0=abc; failed 2 the model's answer was cut before its end"},
};

static void every_transcript_decodes_at_every_split(void **state)
{
    (void)state;
    decode_at_every_split(&openai_decoder, transcripts, COUNT_OF(transcripts));
}

static void every_transcript_decodes_byte_by_byte(void **state)
{
    (void)state;
    decode_byte_by_byte(&openai_decoder, transcripts, COUNT_OF(transcripts));
}

static void what_comes_behind_the_end_is_not_read(void **state)
{
    (void)state;
    struct seen seen;
    seen_init(&seen, &openai_decoder);
    answer_feed(&seen.s, STR(SAY("a") DONE SAY("b") DATA("what")));
    assert_int_equal(seen.s.state, ANSWER_DONE);
    assert_int_equal(seen.s.result.nblocks, 1);
    assert_string_equal(seen.log.data, "[0:0]0=a;");
    seen_fini(&seen);
}

static void a_broken_connection_behind_the_finish_reason_loses_nothing(void **state)
{
    (void)state;
    struct seen seen;
    seen_init(&seen, &openai_decoder);
    answer_feed(&seen.s, STR(SAY("a")));
    assert_false(answer_settled(&seen.s));
    answer_feed(&seen.s, STR(STOP("stop")));
    assert_true(answer_settled(&seen.s));
    answer_end(&seen.s, "reset");
    assert_int_equal(seen.s.state, ANSWER_DONE);
    seen_fini(&seen);
}

static void a_stopped_decoder_calls_nobody_back(void **state)
{
    (void)state;
    static const char all[] =
        CHUNK("\"delta\":{\"reasoning\":\"t\",\"content\":[{\"text\":\"a\"},{\"text\":\"b\"}],"
              "\"tool_calls\":[{\"function\":{\"name\":\"x\"}},{\"function\":{\"name\":\"y\"}}]}");
    static const char *const want[] = {"[0:1]", "[0:1][1:0]", "[0:1][1:0]1=a;",
                                       "[0:1][1:0]1=a;1=b;", "[0:1][1:0]1=a;1=b;[2:2]"};
    for (int after = 1; after <= (int)COUNT_OF(want); after++) {
        struct seen seen;
        seen_init(&seen, &openai_decoder);
        seen.stop_after = after;
        answer_feed(&seen.s, str_z(all));
        answer_feed(&seen.s, STR(STOP("stop") DONE));
        assert_string_equal(seen.log.data, want[after - 1]);
        assert_int_equal(seen.s.state, ANSWER_STOPPED);
        seen_fini(&seen);
    }
}

static void a_whole_message_instead_of_a_stream_is_decoded(void **state)
{
    (void)state;
    static const struct transcript messages[] = {
        {"message",
         "{\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
         "\"assistant\",\"content\":\"hi\",\"reasoning_content\":\"t\",\"tool_calls\":[{\"id\":"
         "\"a\",\"type\":\"function\",\"function\":{\"name\":\"bash\",\"arguments\":\"" LS
         "\"}},{\"id\":\"b\",\"type\":\"function\",\"function\":{\"name\":\"bash\",\"arguments\":{"
         "}}}]},\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":3,"
         "\"completion_tokens\":4}}",
         "[0:1][1:0]1=hi;[2:2][3:2] stop 1 |1 {\"type\":\"thinking\",\"thinking\":\"t\","
         "\"signature\":\"\"} |0 hi |2 bash {\"command\": \"ls\"} |2 bash {} usage 3/4/0/0/0"},
        {"no finish reason", "{\"choices\":[{\"message\":{\"content\":\"hi\"}}]}",
         "[0:0]0=hi; stop 0 |0 hi" NOT_COUNTED},
        {"error in a 200", "{\"error\":{\"message\":\"bad key\",\"code\":\"invalid_api_key\"}}",
         " failed 4 the model provider reported an error invalid_api_key: bad key"},
        {"no choices", "{\"choices\":[]}",
         " failed 2 the model's answer is garbled: a message without choices"},
        {"another protocol", "{\"type\":\"message\",\"content\":[]}",
         " failed 2 the model's answer is garbled: a message without choices"},
        {"html", "<html>", " failed 2 the model's answer is garbled: neither a stream nor JSON"},
        {"a number", "7", " failed 2 the model's answer is garbled: a message without choices"},
        {"scalars", "{\"choices\":[1,null]}", " stop 0" NOT_COUNTED},
    };
    decode_messages(&openai_decoder, messages, COUNT_OF(messages));
}

static void too_many_calls_are_a_garbled_answer(void **state)
{
    (void)state;
    struct seen seen;
    seen_init(&seen, &openai_decoder);
    for (int i = 0; i < 2000; i++)
        answer_feed(&seen.s, STR(CALLS("{\"function\":{\"name\":\"x\",\"arguments\":\"{}\"}}")));
    assert_int_equal(seen.s.state, ANSWER_FAILED);
    assert_non_null(strstr(seen.s.failure.message, "too many"));
    seen_fini(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_transcript_decodes_at_every_split),
        cmocka_unit_test(every_transcript_decodes_byte_by_byte),
        cmocka_unit_test(what_comes_behind_the_end_is_not_read),
        cmocka_unit_test(a_broken_connection_behind_the_finish_reason_loses_nothing),
        cmocka_unit_test(a_stopped_decoder_calls_nobody_back),
        cmocka_unit_test(a_whole_message_instead_of_a_stream_is_decoded),
        cmocka_unit_test(too_many_calls_are_a_garbled_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
