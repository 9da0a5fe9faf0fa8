/* Counting the tokens of a request before it is sent. */
#include "model_peer.h"

#define KEY "sk-secret-0123456789"

static struct {
    struct fixture *f;
    int64_t tokens;
    int calls;
    bool starting;
} counted;

static void on_counted(void *arg, int64_t tokens)
{
    assert_false(counted.starting);
    assert_ptr_equal(arg, &counted);
    counted.tokens = tokens;
    counted.calls++;
    loop_stop(counted.f->loop);
}

static struct model_call *start(struct fixture *f, const char *model)
{
    counted.f = f;
    counted.calls = 0;
    counted.tokens = -7;
    f->req.model = str_z(model);
    counted.starting = true;
    struct model_call *call = f->port.count(f->port.self, &f->req, on_counted, &counted);
    counted.starting = false;
    assert_non_null(call);
    return call;
}

static int64_t count(struct fixture *f, const char *model)
{
    start(f, model);
    loop_run(f->loop);
    assert_int_equal(counted.calls, 1);
    return counted.tokens;
}

static void open_provider(struct fixture *f, const struct reply *reply)
{
    static struct model_provider_config providers[2];
    peer_open(f, reply, "");
    for (int i = 0; i < 2; i++)
        providers[i] = (struct model_provider_config){.name = i ? "o" : "a",
                                                      .type = i ? "openai" : "anthropic",
                                                      .base_url = peer.url,
                                                      .api_key = KEY,
                                                      .first_byte_ms = 300,
                                                      .silence_ms = 60,
                                                      .max_concurrent = 1};
    peer_configure(f, &(struct model_config){.providers = providers, .nproviders = 2});
    f->req.messages = STR("[{\"role\":\"user\",\"content\":\"hi\"}]");
    f->req.system = STR("[{\"type\":\"text\",\"text\":\"Be brief.\"}]");
}

static void the_provider_is_asked_as_it_would_be_for_an_answer(void **state)
{
    (void)state;
    struct fixture f;
    open_provider(&f, &(struct reply){200, "application/json", .body = "{\"input_tokens\": 1234}"});
    f.req.speed = STR("fast");
    assert_int_equal(count(&f, "a/claude-opus-4-5"), 1234);
    assert_string_equal(
        peer.seen.data,
        "POST /v1/messages/count_tokens\nx-api-key: " KEY "\nanthropic-version: 2023-06-01\n"
        "anthropic-beta: fast-mode-2026-02-01\ncontent-type: application/json\naccept: */*\n"
        "{\"model\":\"claude-opus-4-5\",\"cache_control\":{\"type\":\"ephemeral\"},\"thinking\":"
        "{\"type\":\"enabled\",\"budget_tokens\":16384},\"speed\":\"fast\",\"system\":[{\"type\":"
        "\"text\",\"text\":\"Be brief.\"}],\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    peer_fini(&f);
}

static void whatever_goes_wrong_it_cannot_say(void **state)
{
    (void)state;
    static const struct reply replies[] = {
        {404, "application/json", .body = "{\"input_tokens\":5}"},
        {529, NULL, .body = ""},
        {200, NULL, .body = "nothing"},
        {200, NULL, .body = "{\"tokens\":5}"},
        {200, NULL, .body = "{\"input_tokens\":-5}"},
        {200, NULL, .body = "{\"input_tokens\":\"5\"}"},
        {200, NULL, .body = "{\"input_tok", .cut = true},
        {200, NULL, .body = "{\"input_tokens\":5}", .stays = true},
        {200, NULL, .body = "{\"input_tokens\":5}", .delay_ms = 60 * 1000},
    };
    for (size_t i = 0; i < COUNT_OF(replies); i++) {
        struct fixture f;
        open_provider(&f, &replies[i]);
        assert_int_equal(count(&f, "a/claude-opus-5"), -1);
        assert_int_equal(count(&f, "a/claude-opus-5"), -1); /* its place at the gate is free */
        assert_int_equal(peer.requests, 2);
        peer_fini(&f);
    }
}

static void who_cannot_count_is_not_asked(void **state)
{
    (void)state;
    struct fixture f;
    open_provider(&f, &(struct reply){200, NULL, .body = "{\"input_tokens\":5}"});
    assert_int_equal(count(&f, "o/gpt-5"), -1);
    assert_int_equal(count(&f, "nobody"), -1);
    assert_int_equal(count(&f, "claude-opus-5"), -1); /* no key for the published address */
    assert_int_equal(peer.requests, 0);
    /* a token for four bytes */
    f.req.system = STR_NONE;
    f.req.messages = STR("[1,2,3]");
    assert_int_equal(count(&f, "script/echo"), 2);
    assert_int_equal(count(&f, "script/none"), -1);
    peer_fini(&f);
}

static void counting_can_be_cancelled(void **state)
{
    (void)state;
    static const char *const ids[] = {"a/claude-opus-5", "script/echo", "o/gpt-5"};
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        struct fixture f;
        open_provider(&f, &(struct reply){200, NULL, .body = "{\"input_tokens\":5}"});
        struct model_call *call = start(&f, ids[i]);
        f.port.cancel(f.port.self, call);
        assert_int_equal(counted.calls, 0);
        assert_int_equal(count(&f, "a/claude-opus-5"), 5);
        peer_fini(&f);
    }
}

static void who_is_cancelled_at_the_gate_is_never_sent(void **state)
{
    (void)state;
    struct fixture f;
    open_provider(&f, &(struct reply){200, NULL, .body = "{\"input_tokens\":5}", .delay_ms = 30});
    start(&f, "a/claude-opus-5");
    struct model_call *second = start(&f, "a/claude-opus-5");
    f.port.cancel(f.port.self, second);
    loop_run(f.loop);
    assert_int_equal(counted.tokens, 5);
    assert_int_equal(peer.requests, 1);
    peer_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_provider_is_asked_as_it_would_be_for_an_answer),
        cmocka_unit_test(whatever_goes_wrong_it_cannot_say),
        cmocka_unit_test(who_cannot_count_is_not_asked),
        cmocka_unit_test(counting_can_be_cancelled),
        cmocka_unit_test(who_is_cancelled_at_the_gate_is_never_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
