/* The adapter against a small server in the same process: what goes out, what comes back. */
#include "model_peer.h"

#define KEY "sk-ant-secret-1234"

/* A fixture whose base URL is a provider that gives `reply` to everything. */
static void open_pair(struct fixture *f, const struct reply *reply, const char *suffix)
{
    peer_open(f, reply, suffix);
    peer_configure(f, &(struct model_config){.anthropic_base_url = peer.url,
                                             .anthropic_api_key = KEY,
                                             .first_byte_ms = 5000,
                                             .silence_ms = 5000});
}

#define EV(type, rest) "event: " type "\ndata: {\"type\":\"" type "\"" rest "}\n\n"
#define START                                                                                      \
    EV("message_start", ",\"message\":{\"usage\":{\"input_tokens\":1000,\"output_tokens\":1}}")
#define SAY(text)                                                                                  \
    EV("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}")  \
    EV("content_block_delta",                                                                      \
       ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"" text "\"}")
#define END                                                                                        \
    EV("content_block_stop", ",\"index\":0")                                                       \
    EV("message_delta",                                                                            \
       ",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":200}")              \
    EV("message_stop", "")
#define SSE "text/event-stream; charset=utf-8"

static void a_streamed_answer_is_decoded_and_priced(void **state)
{
    (void)state;
    static const char *const suffixes[] = {"", "/", "//"};
    for (size_t i = 0; i < COUNT_OF(suffixes); i++) {
        struct fixture f;
        open_pair(&f, &(struct reply){200, SSE, .body = START SAY("hello") END}, suffixes[i]);
        f.req.system = STR("[{\"type\":\"text\",  \"text\":\"be kind\"}]");
        f.req.tools = STR("[ {\"name\":\"bash\"} ]");
        f.req.messages = STR("[{\"role\":\"user\", \"content\":\"1.0e0\"}]");
        assert_string_equal(fixture_ask(&f, "claude-opus-5"), "[0:0]0=hello; stop 0 |hello");
        assert_string_equal(
            peer.seen.data,
            "POST /v1/messages\nx-api-key: " KEY "\nanthropic-version: 2023-06-01\n"
            "content-type: application/json\naccept: text/event-stream\n"
            "{\"model\":\"claude-opus-5\",\"max_tokens\":128000,\"stream\":true,"
            "\"cache_control\":{\"type\":\"ephemeral\"},\"thinking\":{\"type\":\"adaptive\"},"
            "\"output_config\":{\"effort\":\"high\"},\"system\":[{\"type\":\"text\",  "
            "\"text\":\"be kind\"}],\"tools\":[ {\"name\":\"bash\"} ],"
            "\"messages\":[{\"role\":\"user\", \"content\":\"1.0e0\"}]}");
        assert_int_equal(f.usage.input_tokens, 1000);
        assert_int_equal(f.usage.cost_microusd, 1000 * 5 + 200 * 25);
        assert_false(f.usage.unpriced);
        peer_fini(&f);
    }
}

static void each_model_is_asked_to_think_in_its_way(void **state)
{
    (void)state;
    static const struct {
        const char *model, *effort, *speed;
        int64_t max_tokens;
        const char *want; /* what stands between model and messages */
    } cases[] = {
        {"claude-opus-5-5", NULL, NULL, 0,
         "\"max_tokens\":128000,\"thinking\":{\"type\":\"adaptive\"},\"output_config\":{"
         "\"effort\":\"medium\"},"},
        {"claude-opus-5-5", "max", "fast", 900000,
         "\"max_tokens\":128000,\"thinking\":{\"type\":\"adaptive\"},\"output_config\":{"
         "\"effort\":\"max\"},\"speed\":\"fast\","},
        {"claude-haiku-4-5-20251001", "low", "standard", 0,
         "\"max_tokens\":64000,\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":2048},"},
        {"claude-haiku-4-5", "max", NULL, 10000,
         "\"max_tokens\":10000,\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":5000},"},
        {"claude-haiku-4-5", "max", NULL, 256, "\"max_tokens\":256,"},
        {"claude-of-tomorrow", "max", NULL, 0, "\"max_tokens\":32000,"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_BUF struct buf got = BUF_INIT(10000), want = BUF_INIT(10000);
        const struct model_request req = {.model = str_z(cases[i].model),
                                          .effort = str_z(cases[i].effort),
                                          .speed = str_z(cases[i].speed),
                                          .max_tokens = cases[i].max_tokens,
                                          .messages = STR("[]")};
        const struct wire_request r = {&req, model_table_find(&model_table_builtin, req.model),
                                       req.model, true, false};
        struct err err;
        assert_int_equal(anthropic_wire.body(&r, &got, &err), 0);
        struct str w = str_z(cases[i].want);
        ptrdiff_t comma = str_find_ch(w, ',');
        buf_printf(&want,
                   "{\"model\":\"%s\"," STR_FMT ",\"stream\":true,\"cache_control\":{\"type\":"
                   "\"ephemeral\"}," STR_FMT "\"messages\":[]}",
                   cases[i].model, (int)comma, w.ptr, STR_ARG(str_skip(w, (size_t)comma + 1)));
        assert_string_equal(got.data, want.data);
    }
}

static void answers_of_every_kind_lead_to_the_right_outcome(void **state)
{
    (void)state;
    static const struct {
        struct reply answer;
        const char *log, *has;
        int status;
        int64_t retry_after_ms;
    } cases[] = {
        {{200, NULL, .body = START SAY("x") END}, "[0:0]0=x; stop 0 |x", "", 0, 0},
        {{200, "application/json",
          .body = "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"whole\"}],"
                  "\"stop_reason\":\"end_turn\"}"},
         "[0:0]0=whole; stop 0 |whole",
         "",
         0,
         0},
        {{200, NULL, .body = "  {\"content\":[]}"}, " stop 0", "", 0, 0},
        {{200, SSE, .body = START SAY("half"), .cut = true}, "[0:0]0=half; failed 2", "cut", 0, 0},
        {{200, SSE, .body = START SAY("half")}, "[0:0]0=half; failed 2", "cut", 0, 0},
        {{200, SSE, .body = ""}, " failed 2", "cut", 0, 0},
        {{200, "text/html", .body = "<html>"}, " failed 2", "cut", 0, 0},
        {{200, "application/json", .body = "<html>"}, " failed 2", "garbled", 0, 0},
        {{200, SSE, .body = START SAY("x") END, .stays = true}, "[0:0]0=x; stop 0 |x", "", 0, 0},
        {{200, SSE, .body = START "data: what\n\n", .stays = true}, " failed 2", "garbled", 0, 0},
        {{200, SSE, .body = EV("error", ",\"error\":{\"type\":\"overloaded_error\"}")},
         " failed 0",
         "overloaded_error",
         0,
         0},
        {{529, "application/json",
          .body = "{\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}"},
         " failed 0",
         "Overloaded",
         529,
         0},
        {{429, "application/json", "Retry-After", "7",
          .body = "{\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\"}}"},
         " failed 1",
         "slow",
         429,
         7000},
        {{429, "application/json", "retry-after-ms", "250", .body = "{}"},
         " failed 1",
         "429",
         429,
         250},
        {{503, NULL, "Retry-After", "100000", .body = "down"}, " failed 0", "down", 503, 60000},
        {{401, "application/json",
          .body = "{\"error\":{\"type\":\"authentication_error\",\"message\":\"bad " KEY "\"}}"},
         " failed 4",
         "bad ******************; check ANTHROPIC_API_KEY",
         401,
         0},
        {{404, "text/plain", .body = "nothing here"}, " failed 3", "ANTHROPIC_BASE_URL", 404, 0},
        {{302, NULL, "Location", "http://elsewhere.invalid/", .body = ""},
         " failed 3",
         "302",
         302,
         0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct fixture f;
        open_pair(&f, &cases[i].answer, "");
        const char *log = fixture_ask(&f, "claude-sonnet-5");
        if (strcmp(log, cases[i].log) != 0 || !strstr(f.failure.message, cases[i].has))
            print_error("case %zu: %s: %s\n", i, log, f.failure.message);
        assert_string_equal(log, cases[i].log);
        assert_non_null(strstr(f.failure.message, cases[i].has));
        assert_null(strstr(f.failure.message, KEY));
        assert_int_equal(f.failure.http_status, cases[i].status);
        assert_int_equal(f.failure.retry_after_ms, cases[i].retry_after_ms);
        assert_int_equal(f.outcomes, 1);
        peer_fini(&f);
    }
}

static void what_a_failed_answer_used_is_counted(void **state)
{
    (void)state;
    struct fixture f;
    open_pair(&f, &(struct reply){200, SSE, .body = START SAY("half"), .cut = true}, "");
    fixture_ask(&f, "claude-opus-5");
    assert_int_equal(f.usage.input_tokens, 1000);
    assert_int_equal(f.usage.cost_microusd, 5000 + 25);
    peer_fini(&f);
}

static void fast_mode_says_so_and_has_no_price(void **state)
{
    (void)state;
    struct fixture f;
    open_pair(&f, &(struct reply){200, SSE, .body = START SAY("x") END}, "");
    f.req.speed = STR("fast");
    fixture_ask(&f, "claude-opus-5");
    assert_non_null(strstr(peer.seen.data, "anthropic-beta: fast-mode-2026-02-01\n"));
    assert_true(f.usage.unpriced);
    assert_int_equal(f.usage.cost_microusd, 0);
    peer_fini(&f);
}

static void a_provider_that_is_down_or_misnamed_is_a_failure_with_a_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *url, *log;
    } cases[] = {{"http://127.0.0.1:1", " failed 2"}, {"nonsense://x", " failed 3"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct fixture f;
        fixture_init(&f, &(struct model_config){.anthropic_base_url = cases[i].url,
                                                .anthropic_api_key = KEY});
        assert_string_equal(fixture_ask(&f, "claude-opus-5"), cases[i].log);
        assert_non_null(strstr(f.failure.message, "ANTHROPIC_BASE_URL"));
        fixture_fini(&f);
    }
}

static void silence_in_the_middle_of_a_stream_is_a_failure(void **state)
{
    (void)state;
    struct fixture f;
    open_pair(&f, &(struct reply){200, SSE, .body = START SAY("x"), .stays = true}, "");
    peer_configure(&f, &(struct model_config){.anthropic_base_url = peer.url,
                                              .anthropic_api_key = KEY,
                                              .silence_ms = 60});
    assert_string_equal(fixture_ask(&f, "claude-opus-5"), "[0:0]0=x; failed 2");
    peer_fini(&f);
}

static void a_call_can_be_cancelled_at_any_call_back(void **state)
{
    (void)state;
    for (int after = 1; after <= 3; after++) {
        struct fixture f;
        open_pair(&f, &(struct reply){200, SSE, .body = START SAY("x") END}, "");
        f.cancel_after = after;
        fixture_ask(&f, "claude-opus-5");
        assert_true(f.cancelled);
        peer_fini(&f);
    }
}

static void a_call_can_be_cancelled_while_it_connects(void **state)
{
    (void)state;
    struct fixture f;
    open_pair(&f, &(struct reply){200, SSE, .body = START SAY("x") END}, "");
    f.req.model = STR("claude-opus-5");
    fixture_start(&f);
    f.port.cancel(f.port.self, f.call);
    assert_string_equal(fixture_ask(&f, "claude-opus-5"), "[0:0]0=x; stop 0 |x");
    assert_int_equal(f.outcomes, 1);
    peer_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_streamed_answer_is_decoded_and_priced),
        cmocka_unit_test(each_model_is_asked_to_think_in_its_way),
        cmocka_unit_test(answers_of_every_kind_lead_to_the_right_outcome),
        cmocka_unit_test(what_a_failed_answer_used_is_counted),
        cmocka_unit_test(fast_mode_says_so_and_has_no_price),
        cmocka_unit_test(a_provider_that_is_down_or_misnamed_is_a_failure_with_a_remedy),
        cmocka_unit_test(silence_in_the_middle_of_a_stream_is_a_failure),
        cmocka_unit_test(a_call_can_be_cancelled_at_any_call_back),
        cmocka_unit_test(a_call_can_be_cancelled_while_it_connects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
