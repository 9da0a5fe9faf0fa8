/* cli/: what counts as the same answer of a model, and what as another one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/replay.h"

#include <string.h>

/* "say:TEXT", "think:TEXT" or "NAME:INPUT" for a call. */
static struct replay_answer answer(struct arena *a, const char *const *said)
{
    struct model_block blocks[8];
    struct model_result r = {.blocks = blocks};
    for (; said[r.nblocks]; r.nblocks++) {
        struct str value = str_z(said[r.nblocks]), what = str_split(&value, ':');
        struct model_block *b = &blocks[r.nblocks];
        if (str_eqz(what, "say"))
            *b = (struct model_block){.type = MODEL_TEXT, .text = value};
        else if (str_eqz(what, "think"))
            *b = (struct model_block){.type = MODEL_THINKING, .raw = value};
        else
            *b = (struct model_block){.type = MODEL_TOOL_USE, .name = what, .input = value};
    }
    struct replay_answer out;
    struct err err;
    assert_int_equal(replay_said(&r, a, &out, &err), 0);
    return out;
}

static void answers_are_compared_by_what_they_mean(void **state)
{
    (void)state;
    static const struct {
        const char *x[4], *y[4]; /* closed by NULL */
        bool same;
    } cases[] = {
        {{"say:a b"}, {"say: a \n\t b\n"}, true},
        {{"say:a b"}, {"say:ab"}, false},
        {{"say:a", "say:b"}, {"say:ab"}, true},
        {{"say:a"}, {"say:A"}, false},
        {{"think:{}", "say:a", "say: "}, {"say:a"}, true},
        {{"say: "}, {"think:{}"}, true},
        {{"say:a"}, {"say:a", "bash:{}"}, false},
        {{"say:a", "bash:{}"}, {"bash:{}", "say:a"}, false},
        {{"bash:{\"a\":1,\"b\":[true,null]}"}, {"bash:{ \"b\": [true, null], \"a\": 1.0 }"}, true},
        {{"bash:{\"a\":\"\\u0061\"}"}, {"bash:{\"a\":\"a\"}"}, true},
        {{"bash:{\"a\":1}"}, {"grep:{\"a\":1}"}, false},
        {{"bash:{\"a\":1}"}, {"bash:{\"a\":1,\"b\":2}"}, false},
        {{"bash:{\"a\":1}"}, {"bash:{\"a\":\"1\"}"}, false},
        {{"bash:{\"a\":[1,2]}"}, {"bash:{\"a\":[2,1]}"}, false},
        {{"bash:{\"a\":9007199254740993}"}, {"bash:{\"a\":9007199254740992}"}, false},
        {{"bash:{\"a\":1e400}"}, {"bash:{\"a\":1e401}"}, false},
        {{"bash:not json"}, {"bash:not json"}, true},
        {{"bash:not json"}, {"bash:{}"}, false},
        {{"bash:{}"}, {"say:{}"}, false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_ARENA struct arena a;
        arena_init(&a, 1 << 20);
        struct replay_answer x = answer(&a, cases[i].x), y = answer(&a, cases[i].y);
        if (replay_same(&x, &y) != cases[i].same || replay_same(&y, &x) != cases[i].same)
            fail_msg("case %zu", i);
    }
}

static void an_answer_that_was_no_json_is_an_empty_call(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    const struct model_block block = {
        .type = MODEL_TOOL_USE, .name = STR("bash"), .input = STR("{\"a"), .input_malformed = true};
    const struct model_result r = {.blocks = &block, .nblocks = 1};
    struct replay_answer out;
    struct err err;
    assert_int_equal(replay_said(&r, &a, &out, &err), 0);
    assert_int_equal(out.n, 1);
    assert_true(str_eqz(out.items[0].value, "{}")); /* as the log has it */
}

static void a_request_is_written_with_what_it_has(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(4096);
    struct model_request r = {.model = STR("m"), .messages = STR("[]")};
    replay_write_request(&r, &b);
    assert_string_equal(b.data, "{\"model\":\"m\",\"messages\":[]}");
    buf_clear(&b);
    r.max_tokens = 5;
    r.effort = STR("low");
    r.speed = STR("fast");
    r.system = STR("[1]");
    r.tools = STR("[2]");
    replay_write_request(&r, &b);
    assert_string_equal(b.data, "{\"model\":\"m\",\"max_tokens\":5,\"effort\":\"low\",\"speed\":"
                                "\"fast\",\"system\":[1],\"tools\":[2],\"messages\":[]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_compared_by_what_they_mean),
        cmocka_unit_test(an_answer_that_was_no_json_is_an_empty_call),
        cmocka_unit_test(a_request_is_written_with_what_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
