/* One suite for both protocols: the same answers, errors and accidents, played by a provider that
 * speaks either, must lead to the same results. */
#include "model_peer.h"

#include "json/writer.h"

#define KEY "sk-secret-0123456789"

enum wire_id { MESSAGES, COMPLETIONS, WIRES };

/* Both ids mean the same entry of the table, so prices are compared too. */
static const char *const models[] = {"a/claude-opus-5", "o/claude-opus-5"};
static const char *const types[] = {"anthropic", "openai"};

/* ---- what a model says, in neither protocol ---- */

struct part {
    enum { END, SAY, THINK, CALL, CUT, GARBAGE } kind;
    const char *text; /* of SAY and THINK; the input of CALL */
    const char *name;
};

struct scenario {
    const char *name;
    struct part parts[8];
    enum model_stop stop;
    const char *want;
};

enum { PIECE = 7, LONG_TEXT = 300 * 1000 };

static void event(struct buf *b, const char *type, const struct buf *json)
{
    if (type)
        buf_printf(b, "event: %s\n", type);
    buf_z(b, "data: ");
    buf_str(b, buf_view(json));
    buf_z(b, "\n\n");
}

static struct str next_piece(struct str *rest)
{
    /* Long texts in long pieces: the test is not about patience. */
    struct str piece = str_utf8_take(*rest, rest->len > 1000 ? 5000 : PIECE);
    *rest = str_skip(*rest, piece.len);
    return piece;
}

/* ---- the Messages API ---- */

static void a_delta(struct buf *b, int index, const char *type, const char *key, struct str text)
{
    AUTO_BUF struct buf json = BUF_INIT(1 << 20);
    struct jw w = jw_to(&json);
    jw_obj(&w);
    jw_kz(&w, "type", "content_block_delta");
    jw_ki64(&w, "index", index);
    jw_key(&w, "delta");
    jw_obj(&w);
    jw_kz(&w, "type", type);
    jw_kstr(&w, key, text);
    jw_obj_end(&w);
    jw_obj_end(&w);
    event(b, "content_block_delta", &json);
}

static void a_part(struct buf *b, int index, const struct part *p)
{
    static const char *const deltas[][2] = {[SAY] = {"text_delta", "text"},
                                            [THINK] = {"thinking_delta", "thinking"},
                                            [CALL] = {"input_json_delta", "partial_json"}};
    buf_printf(b,
               "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":%d,"
               "\"content_block\":",
               index);
    if (p->kind == CALL)
        buf_printf(b,
                   "{\"type\":\"tool_use\",\"id\":\"toolu_%d\",\"name\":\"%s\",\"input\":{}}}\n\n",
                   index, p->name);
    else if (p->kind == THINK)
        buf_z(b, "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n");
    else
        buf_z(b, "{\"type\":\"text\",\"text\":\"\"}}\n\n");
    for (struct str rest = str_z(p->text); rest.len;)
        a_delta(b, index, deltas[p->kind][0], deltas[p->kind][1], next_piece(&rest));
    buf_printf(
        b, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":%d}\n\n",
        index);
}

static void a_play(struct buf *b, const struct scenario *s)
{
    static const char *const stops[] = {"end_turn", "tool_use", "max_tokens", "pause_turn",
                                        "refusal"};
    buf_z(b, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{"
             "\"input_tokens\":70,\"cache_read_input_tokens\":30,\"output_tokens\":1}}}\n\n");
    for (int i = 0; s->parts[i].kind != END; i++) {
        if (s->parts[i].kind == CUT)
            return;
        if (s->parts[i].kind == GARBAGE)
            buf_z(b, "data: <html>\n\n");
        else
            a_part(b, i, &s->parts[i]);
    }
    buf_printf(b,
               "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":"
               "\"%s\"%s},\"usage\":{\"output_tokens\":9}}\n\n",
               stops[s->stop],
               s->stop == MODEL_STOP_REFUSAL
                   ? ",\"stop_details\":{\"explanation\":\"The provider's content filter stopped "
                     "the answer.\"}"
                   : "");
    buf_z(b, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

/* ---- chat completions ---- */

static void o_delta(struct buf *b, const char *key, struct str text)
{
    AUTO_BUF struct buf json = BUF_INIT(1 << 20);
    struct jw w = jw_to(&json);
    jw_obj(&w);
    jw_kstr(&w, key, text);
    jw_obj_end(&w);
    buf_printf(
        b, "data: {\"choices\":[{\"index\":0,\"delta\":" STR_FMT ",\"finish_reason\":null}]}\n\n",
        STR_ARG(buf_view(&json)));
}

static void o_call(struct buf *b, int index, const struct part *p)
{
    buf_printf(b,
               "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":%d,\"id\":"
               "\"call_%d\",\"type\":\"function\",\"function\":{\"name\":\"%s\",\"arguments\":\"\"}"
               "}]}}]}\n\n",
               index, index, p->name);
    for (struct str rest = str_z(p->text); rest.len;) {
        AUTO_BUF struct buf piece = BUF_INIT(10000);
        json_quote(&piece, next_piece(&rest));
        buf_printf(b,
                   "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":%d,"
                   "\"function\":{\"arguments\":" STR_FMT "}}]}}]}\n\n",
                   index, STR_ARG(buf_view(&piece)));
    }
}

static void o_play(struct buf *b, const struct scenario *s)
{
    static const char *const stops[] = {"stop", "tool_calls", "length", "", "content_filter"};
    buf_z(b, "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
             "\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":1,"
             "\"prompt_tokens_details\":{\"cached_tokens\":30}}}\n\n");
    for (int i = 0, calls = 0; s->parts[i].kind != END; i++) {
        const struct part *p = &s->parts[i];
        if (p->kind == CUT)
            return;
        if (p->kind == GARBAGE)
            buf_z(b, "data: <html>\n\n");
        else if (p->kind == CALL)
            o_call(b, calls++, p);
        else
            for (struct str rest = str_z(p->text); rest.len;)
                o_delta(b, p->kind == SAY ? "content" : "reasoning_content", next_piece(&rest));
    }
    buf_printf(b, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"%s\"}]}\n\n",
               stops[s->stop]);
    buf_z(b, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":9,"
             "\"prompt_tokens_details\":{\"cached_tokens\":30}}}\n\ndata: [DONE]\n\n");
}

static void play(enum wire_id wire, const struct scenario *s, struct buf *b)
{
    buf_clear(b);
    (wire == MESSAGES ? a_play : o_play)(b, s);
}

/* ---- asking on either wire ---- */

static struct model_provider_config providers[WIRES];

/* A fixture with a provider of each protocol, "a" and "o", both at the peer. */
static void open_both(struct fixture *f, const struct reply *reply,
                      const struct model_provider_config *limits)
{
    peer_open(f, reply, "");
    for (int i = 0; i < WIRES; i++) {
        providers[i] = *limits;
        providers[i].name = i == MESSAGES ? "a" : "o";
        providers[i].type = types[i];
        providers[i].base_url = peer.url;
        providers[i].api_key = KEY;
    }
    peer_configure(f, &(struct model_config){.providers = providers, .nproviders = WIRES});
    f->req.messages = STR("[{\"role\":\"user\",\"content\":\"hi\"}]");
}

static const struct model_provider_config patient = {.first_byte_ms = 5000, .silence_ms = 5000};

static void usage_text(const struct model_usage *u, struct buf *out)
{
    buf_printf(out, " usage %d+%d/%d cost %d%s%s", (int)u->input_tokens, (int)u->cache_read_tokens,
               (int)u->output_tokens, (int)u->cost_microusd, u->unpriced ? " unpriced" : "",
               u->estimated ? " estimated" : "");
}

/* Everything that a caller sees of it: call-backs, result or failure, usage. */
static void ask(struct fixture *f, enum wire_id wire, struct buf *out)
{
    buf_clear(out);
    f->outcomes = 0;
    f->failure = (struct model_failure){0};
    const char *log = fixture_ask(f, models[wire]);
    buf_z(out, log);
    if (!f->cancelled) {
        assert_int_equal(f->outcomes, 1);
        usage_text(&f->usage, out);
    }
    if (f->failure.http_status)
        buf_printf(out, " status %d after %d", f->failure.http_status,
                   (int)f->failure.retry_after_ms);
}

#define USAGE " usage 70+30/9 cost 590"

static const struct scenario scenarios[] = {
    {"text",
     {{SAY, "Hello, world", NULL}},
     MODEL_STOP_END,
     "[0:0]0=Hello, ;0=world; stop 0 |Hello, world" USAGE},
    {"thinking",
     {{THINK, "a \"b\" \n c \\ d", NULL}, {SAY, "x", NULL}},
     MODEL_STOP_END,
     "[0:1][1:0]1=x; stop 0 |{\"type\":\"thinking\",\"thinking\":\"a \\\"b\\\" \\n c \\\\ d\","
     "\"signature\":\"\"} |x" USAGE},
    {"parallel tools",
     {{SAY, "I run", NULL},
      {CALL, "{\"command\": \"ls -l\"}", "bash"},
      {CALL, "{\"path\":\"\\u00fc\", \"n\": 1.0e0}", "read"},
      {CALL, "", "glob"}},
     MODEL_STOP_TOOL_USE,
     "[0:0]0=I run;[1:2][2:2][3:2] stop 1 |I run |bash{\"command\": \"ls -l\"} "
     "|read{\"path\":\"\\u00fc\", \"n\": 1.0e0} |glob{}" USAGE},
    {"tools that the stop reason forgets",
     {{CALL, "{}", "bash"}},
     MODEL_STOP_END,
     "[0:2] stop 1 |bash{}" USAGE},
    {"input that is no JSON",
     {{CALL, "{\"a\": ", "bash"}},
     MODEL_STOP_MAX_TOKENS,
     "[0:2] stop 2 |bash{\"a\": " USAGE},
    {"unicode",
     {{SAY, "\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80\xe2\x80\xa8", NULL}},
     MODEL_STOP_END,
     "[0:0]0=\xc3\xbc\xe2\x82\xac;0=\xf0\x9f\x98\x80\xe2\x80\xa8; stop 0 "
     "|\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80\xe2\x80\xa8" USAGE},
    {"nothing", {{END, NULL, NULL}}, MODEL_STOP_END, " stop 0" USAGE},
    {"too little room",
     {{SAY, "half", NULL}},
     MODEL_STOP_MAX_TOKENS,
     "[0:0]0=half; stop 2 |half" USAGE},
    {"a refusal", {{SAY, "no", NULL}}, MODEL_STOP_REFUSAL, "[0:0]0=no; stop 4 |no" USAGE},
    {"a cut stream",
     {{SAY, "half", NULL}, {CUT, NULL, NULL}},
     MODEL_STOP_END,
     "[0:0]0=half; failed 2 usage 70+30/1 cost 390"},
    {"a stream that is cut at once",
     {{CUT, NULL, NULL}},
     MODEL_STOP_END,
     " failed 2 usage 70+30/1 cost 390"},
    {"garbage in between",
     {{SAY, "half", NULL}, {GARBAGE, NULL, NULL}},
     MODEL_STOP_END,
     "[0:0]0=half; failed 2 usage 70+30/1 cost 390"},
};

static void the_same_answer_gives_the_same_result(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(scenarios); i++) {
        for (enum wire_id wire = MESSAGES; wire < WIRES; wire++) {
            AUTO_BUF struct buf body = BUF_INIT(1 << 22), got = BUF_INIT(1 << 22);
            struct fixture f;
            play(wire, &scenarios[i], &body);
            const struct reply reply = {200, "text/event-stream", .body = body.data};
            open_both(&f, &reply, &patient);
            ask(&f, wire, &got);
            if (strcmp(got.data, scenarios[i].want) != 0)
                print_error("%s on %s\n", scenarios[i].name, types[wire]);
            assert_string_equal(got.data, scenarios[i].want);
            peer_fini(&f);
        }
    }
}

static void a_long_text_comes_whole_on_either_wire(void **state)
{
    (void)state;
    AUTO_BUF struct buf text = BUF_INIT(1 << 20), first = BUF_INIT(1 << 20);
    while (text.len < LONG_TEXT)
        buf_printf(&text, "%zu \xc3\xbc\xf0\x9f\x98\x80\n\"", text.len);
    const struct scenario s = {
        "long", {{SAY, text.data, NULL}, {CALL, "{}", "x"}}, MODEL_STOP_TOOL_USE, NULL};
    for (enum wire_id wire = MESSAGES; wire < WIRES; wire++) {
        AUTO_BUF struct buf body = BUF_INIT(1 << 22), got = BUF_INIT(1 << 22);
        struct fixture f;
        play(wire, &s, &body);
        open_both(&f, &(struct reply){200, "text/event-stream", .body = body.data}, &patient);
        ask(&f, wire, &got);
        assert_true(str_find(buf_view(&got), buf_view(&text)) > 0);
        if (wire == MESSAGES)
            buf_str(&first, buf_view(&got));
        else
            assert_true(str_eq(buf_view(&first), buf_view(&got)));
        peer_fini(&f);
    }
}

/* ---- errors ---- */

#define A_ERROR(type, text)                                                                        \
    "{\"type\":\"error\",\"error\":{\"type\":\"" type "\",\"message\":\"" text "\"}}"
#define O_ERROR(type, code, text)                                                                  \
    "{\"error\":{\"message\":\"" text "\",\"type\":\"" type "\",\"code\":" code "}}"

static const struct {
    int status;
    const char *header, *value;
    const char *body[WIRES];
    const char *want, *has;
} errors[] = {
    {429,
     "retry-after",
     "7",
     {A_ERROR("rate_limit_error", "slow down"),
      O_ERROR("requests", "\"rate_limit_exceeded\"", "slow down")},
     " failed 1 usage 0+0/0 cost 0 status 429 after 7000",
     "slow down"},
    {429,
     "retry-after-ms",
     "250",
     {"{}", "{}"},
     " failed 1 usage 0+0/0 cost 0 status 429 after 250",
     "429"},
    {529,
     NULL,
     NULL,
     {A_ERROR("overloaded_error", "Overloaded"), "{\"error\":\"Overloaded\"}"},
     " failed 0 usage 0+0/0 cost 0 status 529 after 0",
     "Overloaded"},
    {503,
     "Retry-After",
     "1",
     {"loading", O_ERROR("unavailable_error", "503", "loading")},
     " failed 0 usage 0+0/0 cost 0 status 503 after 1000",
     "loading"},
    {500,
     NULL,
     NULL,
     {A_ERROR("api_error", "Internal"), O_ERROR("server_error", "null", "Internal")},
     " failed 2 usage 0+0/0 cost 0 status 500 after 0",
     "Internal"},
    {502,
     NULL,
     NULL,
     {"<html>", "<html>"},
     " failed 2 usage 0+0/0 cost 0 status 502 after 0",
     "502"},
    {401,
     NULL,
     NULL,
     {A_ERROR("authentication_error", "invalid key " KEY),
      O_ERROR("invalid_request_error", "\"invalid_api_key\"", "invalid key " KEY)},
     " failed 4 usage 0+0/0 cost 0 status 401 after 0",
     "invalid key ****"},
    {402,
     NULL,
     NULL,
     {A_ERROR("billing_error", "pay"), O_ERROR("billing", "null", "pay")},
     " failed 5 usage 0+0/0 cost 0 status 402 after 0",
     "add credit"},
    {400,
     NULL,
     NULL,
     {A_ERROR("invalid_request_error", "Your credit balance is too low"),
      O_ERROR("insufficient_quota", "\"insufficient_quota\"", "You exceeded your quota")},
     " failed 5 usage 0+0/0 cost 0 status 400 after 0",
     "add credit"},
    {400,
     NULL,
     NULL,
     {A_ERROR("invalid_request_error", "prompt is too long: 300 tokens > 200 maximum"),
      O_ERROR("invalid_request_error", "\"context_length_exceeded\"", "too long")},
     " failed 6 usage 0+0/0 cost 0 status 400 after 0",
     "shorter"},
    {400,
     NULL,
     NULL,
     {A_ERROR("invalid_request_error", "tools.0: bad"),
      O_ERROR("invalid_request_error", "null", "tools.0: bad")},
     " failed 3 usage 0+0/0 cost 0 status 400 after 0",
     "tools.0: bad"},
    {404,
     NULL,
     NULL,
     {A_ERROR("not_found_error", "model"),
      O_ERROR("invalid_request_error", "\"model_not_found\"", "model")},
     " failed 3 usage 0+0/0 cost 0 status 404 after 0",
     "check the model id and providers."},
    {302,
     "Location",
     "http://elsewhere.invalid/",
     {"", ""},
     " failed 3 usage 0+0/0 cost 0 status 302 after 0",
     "302"},
    /* Errors that come in a 200. */
    {200,
     NULL,
     NULL,
     {"event: error\ndata: " A_ERROR("overloaded_error", "busy") "\n\n",
      "data: " O_ERROR("overloaded_error", "null", "busy") "\n\n"},
     " failed 0 usage 0+0/0 cost 0",
     "busy"},
    {200,
     NULL,
     NULL,
     {A_ERROR("rate_limit_error", "slow " KEY), O_ERROR("x", "429", "slow " KEY)},
     " failed 1 usage 0+0/0 cost 0",
     "slow ***"},
    {200, NULL, NULL, {"<html>", "<html>"}, " failed 2 usage 0+0/0 cost 0", ""},
    {200, NULL, NULL, {"", ""}, " failed 2 usage 0+0/0 cost 0", "cut"},
    {200, NULL, NULL, {"{}", "{}"}, " failed 2 usage 0+0/0 cost 0", "garbled"},
};

static void the_same_error_is_the_same_failure_and_shows_no_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        for (enum wire_id wire = MESSAGES; wire < WIRES; wire++) {
            AUTO_BUF struct buf got = BUF_INIT(1 << 20);
            struct fixture f;
            const struct reply reply = {errors[i].status, NULL, errors[i].header, errors[i].value,
                                        .body = errors[i].body[wire]};
            open_both(&f, &reply, &patient);
            ask(&f, wire, &got);
            if (strcmp(got.data, errors[i].want) != 0 || !strstr(f.failure.message, errors[i].has))
                print_error("error %zu on %s: %s\n", i, types[wire], f.failure.message);
            assert_string_equal(got.data, errors[i].want);
            assert_non_null(strstr(f.failure.message, errors[i].has));
            assert_null(strstr(f.failure.message, KEY));
            assert_null(strstr(f.failure.message, "0123456789"));
            peer_fini(&f);
        }
    }
}

static void a_key_that_an_error_quotes_is_hidden_wherever_it_stands(void **state)
{
    (void)state;
    for (int before = 60; before < 130; before++) {
        AUTO_BUF struct buf body = BUF_INIT(1000), got = BUF_INIT(10000);
        buf_z(&body, "{\"error\":{\"message\":\"");
        for (int i = 0; i < before; i++)
            buf_ch(&body, 'x');
        buf_z(&body, KEY "\"}}");
        for (enum wire_id wire = MESSAGES; wire < WIRES; wire++) {
            struct fixture f;
            open_both(&f, &(struct reply){401, NULL, .body = body.data}, &patient);
            ask(&f, wire, &got);
            /* Neither the key nor the begin of it, where the message was cut. */
            assert_null(strstr(f.failure.message, "sk-"));
            peer_fini(&f);
        }
    }
}

static void the_key_goes_into_its_header_only(void **state)
{
    (void)state;
    static const char *const want[] = {"x-api-key: " KEY "\n", "authorization: Bearer " KEY "\n"};
    static const char *const paths[] = {"POST /v1/messages\n", "POST /v1/chat/completions\n"};
    for (enum wire_id wire = MESSAGES; wire < WIRES; wire++) {
        AUTO_BUF struct buf got = BUF_INIT(10000);
        struct fixture f;
        open_both(&f, &(struct reply){500, NULL, .body = ""}, &patient);
        ask(&f, wire, &got);
        struct str seen = buf_view(&peer.seen);
        ptrdiff_t at = str_find(seen, STR(KEY));
        assert_true(str_starts(seen, str_z(paths[wire])));
        assert_true(str_find(seen, str_z(want[wire])) > 0);
        assert_true(str_find(str_skip(seen, (size_t)at + 1), STR(KEY)) < 0);
        peer_fini(&f);
    }
}

/* ---- time ---- */

static const struct scenario hello = {"hello", {{SAY, "hello", NULL}}, MODEL_STOP_END, NULL};

static void slowness_is_borne_up_to_the_limit(void **state)
{
    (void)state;
    for (enum wire_id wire = MESSAGES; wire < WIRES; wire++) {
        AUTO_BUF struct buf body = BUF_INIT(10000), got = BUF_INIT(10000);
        struct fixture f;
        play(wire, &hello, &body);
        struct reply reply = {200, "text/event-stream", .body = body.data, .delay_ms = 30};
        open_both(&f, &reply, &(struct model_provider_config){.first_byte_ms = 400});
        ask(&f, wire, &got);
        assert_string_equal(got.data, "[0:0]0=hello; stop 0 |hello" USAGE);
        reply.delay_ms = 60 * 1000;
        ask(&f, wire, &got);
        assert_string_equal(got.data, " failed 2 usage 0+0/0 cost 0");
        assert_non_null(strstr(f.failure.message, "400 ms"));
        assert_true(f.failure.timed_out);
        peer_fini(&f);
    }
}

static void silence_inside_an_answer_is_a_failure(void **state)
{
    (void)state;
    static const struct scenario half = {
        "half", {{SAY, "half", NULL}, {CUT, NULL, NULL}}, MODEL_STOP_END, NULL};
    for (enum wire_id wire = MESSAGES; wire < WIRES; wire++) {
        AUTO_BUF struct buf body = BUF_INIT(10000), got = BUF_INIT(10000);
        struct fixture f;
        play(wire, &half, &body);
        open_both(&f, &(struct reply){200, NULL, .body = body.data, .stays = true},
                  &(struct model_provider_config){.silence_ms = 60});
        ask(&f, wire, &got);
        assert_string_equal(got.data, "[0:0]0=half; failed 2 usage 70+30/1 cost 390");
        assert_true(f.failure.timed_out);
        peer_fini(&f);
    }
}

static void a_connection_that_stays_open_does_not_hold_the_answer(void **state)
{
    (void)state;
    for (enum wire_id wire = MESSAGES; wire < WIRES; wire++) {
        AUTO_BUF struct buf body = BUF_INIT(10000), got = BUF_INIT(10000);
        struct fixture f;
        play(wire, &hello, &body);
        open_both(&f, &(struct reply){200, NULL, .body = body.data, .stays = true}, &patient);
        ask(&f, wire, &got);
        assert_string_equal(got.data, "[0:0]0=hello; stop 0 |hello" USAGE);
        peer_fini(&f);
    }
}

static void a_call_can_be_cancelled_at_any_call_back(void **state)
{
    (void)state;
    for (enum wire_id wire = MESSAGES; wire < WIRES; wire++) {
        for (int after = 1; after <= 3; after++) {
            AUTO_BUF struct buf body = BUF_INIT(10000), got = BUF_INIT(10000);
            struct fixture f;
            play(wire, &hello, &body);
            open_both(&f, &(struct reply){200, NULL, .body = body.data},
                      &(struct model_provider_config){.max_concurrent = 1});
            f.cancel_after = after;
            ask(&f, wire, &got);
            assert_true(f.cancelled);
            f.cancelled = false;
            ask(&f, wire, &got); /* its place is free again */
            assert_string_equal(got.data, "[0:0]0=hello; stop 0 |hello" USAGE);
            peer_fini(&f);
        }
    }
}

static void what_is_not_counted_is_estimated_and_said_so(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"eleven char\"}]}",
        "{\"choices\":[{\"message\":{\"content\":\"eleven char\"}}]}"};
    for (enum wire_id wire = MESSAGES; wire < WIRES; wire++) {
        AUTO_BUF struct buf got = BUF_INIT(10000);
        struct fixture f;
        open_both(&f, &(struct reply){200, "application/json", .body = bodies[wire]}, &patient);
        ask(&f, wire, &got);
        assert_true(f.usage.estimated);
        assert_int_equal(f.usage.output_tokens, 3);
        assert_true(f.usage.input_tokens > 10 && f.usage.input_tokens < 100);
        assert_true(f.usage.cost_microusd > 0);
        peer_fini(&f);
    }
}

/* ---- the queue ---- */

enum { CALLERS = 4 };

static struct {
    struct fixture callers[CALLERS];
    int over;
} crowd;

static void crowd_over(struct fixture *f)
{
    if (++crowd.over == CALLERS)
        loop_stop(f->loop);
}

/* Callers a and b of one session, c and d of others, all at once. */
static void crowd_start(const struct fixture *f, enum wire_id wire)
{
    static const char *const sessions[CALLERS] = {"one", "one", "two", "three"};
    crowd.over = 0;
    for (int i = 0; i < CALLERS; i++) {
        struct fixture *c = &crowd.callers[i];
        *c = *f;
        c->log = BUF_INIT(10000);
        c->over = crowd_over;
        c->req.model = str_z(models[wire]);
        c->req.session_id = str_z(sessions[i]);
        fixture_start(c);
    }
}

static void waiting_is_no_error_and_counts_towards_no_limit_of_time(void **state)
{
    (void)state;
    for (enum wire_id wire = MESSAGES; wire < WIRES; wire++) {
        AUTO_BUF struct buf body = BUF_INIT(10000);
        struct fixture f;
        play(wire, &hello, &body);
        const struct reply reply = {200, NULL, .body = body.data, .delay_ms = 70};
        open_both(&f, &reply,
                  &(struct model_provider_config){.max_concurrent = 1, .first_byte_ms = 200});
        crowd_start(&f, wire);
        loop_run(f.loop); /* the last is answered after 280 ms */
        for (int i = 0; i < CALLERS; i++) {
            assert_string_equal(crowd.callers[i].log.data, "[0:0]0=hello; stop 0 |hello");
            buf_fini(&crowd.callers[i].log);
        }
        assert_int_equal(peer.requests, CALLERS);
        assert_int_equal(peer.most, 1);
        peer_fini(&f);
    }
}

static void who_is_cancelled_while_waiting_is_never_sent(void **state)
{
    (void)state;
    for (enum wire_id wire = MESSAGES; wire < WIRES; wire++) {
        AUTO_BUF struct buf body = BUF_INIT(10000);
        struct fixture f;
        play(wire, &hello, &body);
        open_both(&f, &(struct reply){200, NULL, .body = body.data},
                  &(struct model_provider_config){.max_concurrent = 1});
        crowd_start(&f, wire);
        for (int i = 1; i < CALLERS - 1; i++) {
            f.port.cancel(f.port.self, crowd.callers[i].call);
            crowd.over++;
        }
        loop_run(f.loop);
        assert_int_equal(peer.requests, 2);
        for (int i = 0; i < CALLERS; i++) {
            assert_int_equal(crowd.callers[i].outcomes, i == 0 || i == CALLERS - 1);
            buf_fini(&crowd.callers[i].log);
        }
        peer_fini(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_answer_gives_the_same_result),
        cmocka_unit_test(a_long_text_comes_whole_on_either_wire),
        cmocka_unit_test(the_same_error_is_the_same_failure_and_shows_no_key),
        cmocka_unit_test(a_key_that_an_error_quotes_is_hidden_wherever_it_stands),
        cmocka_unit_test(the_key_goes_into_its_header_only),
        cmocka_unit_test(slowness_is_borne_up_to_the_limit),
        cmocka_unit_test(silence_inside_an_answer_is_a_failure),
        cmocka_unit_test(a_connection_that_stays_open_does_not_hold_the_answer),
        cmocka_unit_test(a_call_can_be_cancelled_at_any_call_back),
        cmocka_unit_test(what_is_not_counted_is_estimated_and_said_so),
        cmocka_unit_test(waiting_is_no_error_and_counts_towards_no_limit_of_time),
        cmocka_unit_test(who_is_cancelled_while_waiting_is_never_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
