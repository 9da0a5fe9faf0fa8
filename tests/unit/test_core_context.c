/* The conversation and its size: what the fold makes of events, clearing, compaction. The last test
 * folds random logs and checks that whatever comes out of them is a valid conversation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/limits.h"
#include "core/prompt.h"
#include "json/writer.h"

#include <stdio.h>
#include <stdlib.h>

struct rig {
    struct arena arena;
    struct prompt prompt;
    int64_t seq;
};

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    arena_init(&r->arena, 512 << 20);
    prompt_init(&r->prompt, 64 << 20);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    prompt_fini(&r->prompt);
    arena_fini(&r->arena);
    free(r);
    return 0;
}

/* ---- making events ---- */

static int fold(struct rig *r, enum event_type type, const char *id, struct str body,
                struct str transcript)
{
    struct err err;
    struct event e = {.seq = ++r->seq, .type = type, .body = body, .transcript = transcript};
    e.id = id_from(str_z(id));
    return prompt_fold(&r->prompt, &e, &err);
}

static struct str text_body(struct rig *r, struct str text)
{
    AUTO_BUF struct buf b = BUF_INIT(64 << 20);
    buf_z(&b, "{\"content\":[{\"type\":\"text\",\"text\":");
    json_quote(&b, text);
    buf_z(&b, "}]}");
    return arena_str(&r->arena, buf_view(&b));
}

static void says(struct rig *r, enum event_type type, const char *text)
{
    assert_int_equal(fold(r, type, "sevt_x", text_body(r, str_z(text)), STR_NONE), 0);
}

static void user(struct rig *r, const char *text)
{
    says(r, EVENT_USER_MESSAGE, text);
}

static void agent(struct rig *r, const char *text)
{
    says(r, EVENT_AGENT_MESSAGE, text);
}

static void system_says(struct rig *r, const char *text)
{
    says(r, EVENT_SYSTEM_MESSAGE, text);
}

static void thinks(struct rig *r, const char *text)
{
    struct str t = arena_printf(
        &r->arena, "{\"type\":\"thinking\",\"thinking\":\"%s\",\"signature\":\"s\"}", text);
    assert_int_equal(fold(r, EVENT_AGENT_THINKING, "sevt_t", STR("{}"), t), 0);
}

static void calls(struct rig *r, const char *id)
{
    struct str b = STR("{\"name\":\"bash\",\"input\":{\"command\":\"ls\"}}");
    assert_int_equal(fold(r, EVENT_AGENT_TOOL_USE, id, b, STR_NONE), 0);
}

static struct str repeat(struct rig *r, char c, size_t n)
{
    char *p = arena_bytes(&r->arena, n + 1);
    memset(p, c, n);
    p[n] = '\0';
    return str_n(p, n);
}

static void results(struct rig *r, const char *id, size_t bytes, bool is_error)
{
    struct str b = arena_printf(&r->arena,
                                "{\"tool_use_id\":\"%s\",\"content\":[{\"type\":\"text\",\"text\":"
                                "\"%s\"}],\"is_error\":%s}",
                                id, repeat(r, 'r', bytes).ptr, is_error ? "true" : "false");
    assert_int_equal(fold(r, EVENT_AGENT_TOOL_RESULT, "sevt_r", b, STR_NONE), 0);
}

static void round_of(struct rig *r, int n, size_t bytes)
{
    char id[32];
    snprintf(id, sizeof id, "sevt_call%d", n);
    calls(r, id);
    results(r, id, bytes, false);
}

static struct str messages(struct prompt *p)
{
    struct str out;
    struct err err;
    if (prompt_messages(p, &out, &err))
        fail_msg("%s", err.msg);
    return out;
}

static void expect(struct rig *r, const char *json)
{
    struct str m = messages(&r->prompt);
    char *z = mem_dupz(m.ptr, m.len);
    assert_string_equal(z, json);
    mem_free(z);
}

static bool holds(struct str s, const char *needle)
{
    return str_find(s, str_z(needle)) >= 0;
}

/* ---- what a valid conversation is ---- */

static bool is(const struct json *block, const char *type)
{
    return str_eqz(json_get_str(block, "type"), type);
}

static bool has(const struct json *message, const char *type, const char *key, struct str id)
{
    json_for_each (block, json_get(message, "content"))
        if (is(block, type) && str_eq(json_get_str(block, key), id))
            return true;
    return false;
}

/* NULL, or what a provider would refuse. */
static const char *refusal(struct str text, bool awaits_answer)
{
    static struct arena a;
    struct err err;
    const struct json *doc, *before = NULL;
    struct str role = STR_NONE;
    arena_fini(&a);
    arena_init(&a, LIMIT_JSON_ARENA);
    if (json_parse(&a, text, 0, &doc, &err))
        return "not JSON";
    json_for_each (m, doc) {
        const struct json *content = json_get(m, "content");
        if (!before && !str_eqz(json_get_str(m, "role"), "user"))
            return "begins with another role";
        if (str_eq(role, json_get_str(m, "role")))
            return "two messages of a role";
        role = json_get_str(m, "role");
        if (!content || content->count == 0)
            return "empty content";
        bool others = false, thought = true;
        json_for_each (block, content) {
            thought = thought && is(block, "thinking");
            if (is(block, "text") && json_get_str(block, "text").len == 0)
                return "empty text";
            if (is(block, "tool_use") &&
                (!m->next || !str_eqz(json_get_str(m->next, "role"), "user") ||
                 !has(m->next, "tool_result", "tool_use_id", json_get_str(block, "id"))))
                return "a tool use without its result";
            bool result = is(block, "tool_result");
            if (result &&
                (!before || !has(before, "tool_use", "id", json_get_str(block, "tool_use_id"))))
                return "a result without its tool use";
            if (result && others)
                return "a result behind other content";
            others = others || !result;
        }
        if (thought)
            return "an answer that only thought";
        before = m;
    }
    const char *last = awaits_answer && str_eqz(role, "assistant") ? "ends with an answer" : NULL;
    arena_fini(&a);
    return last;
}

static void assert_valid(struct str text, bool awaits_answer)
{
    const char *why = refusal(text, awaits_answer);
    if (why)
        fail_msg("%s in %.*s", why, (int)(text.len > 4000 ? 4000 : text.len), text.ptr);
}

static struct str summary_request(struct rig *r, size_t max)
{
    AUTO_BUF struct buf b = BUF_INIT(64 << 20);
    struct err err;
    if (prompt_summary_request(&r->prompt, max, &b, &err))
        fail_msg("%s", err.msg);
    assert_true(b.len <= max);
    assert_valid(buf_view(&b), true);
    return arena_str(&r->arena, buf_view(&b));
}

static struct str compact(struct rig *r, const char *summary)
{
    struct str t;
    struct err err;
    assert_int_equal(prompt_compacted(&r->prompt, &r->arena, str_z(summary), &t, &err), 0);
    assert_int_equal(fold(r, EVENT_AGENT_THREAD_CONTEXT_COMPACTED, "sevt_c", STR("{}"), t), 0);
    return t;
}

/* ---- the fold ---- */

static void operators_messages_stand_at_their_place_in_a_role_of_their_own(void **state)
{
    struct rig *r = *state;
    user(r, "hi");
    system_says(r, "be brief");
    agent(r, "ok");
    expect(r, "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]},"
              "{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"be brief\"}]},"
              "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"ok\"}]}]");
}

static void resolved_content_stands_in_the_place_of_the_body(void **state)
{
    struct rig *r = *state;
    struct str body = STR("{\"content\":[{\"type\":\"image\",\"source\":{\"type\":\"file\","
                          "\"file_id\":\"f\"}}],\"custom_tool_use_id\":\"sevt_1\"}");
    struct str resolved = STR("[{\"type\":\"image\",\"source\":{\"type\":\"base64\","
                              "\"media_type\":\"image/png\",\"data\":\"AA==\"}}]");
    assert_int_equal(fold(r, EVENT_USER_MESSAGE, "sevt_u", body, resolved), 0);
    assert_false(holds(messages(&r->prompt), "file_id"));
    assert_true(holds(messages(&r->prompt), "AA=="));
    assert_int_equal(fold(r, EVENT_USER_CUSTOM_TOOL_RESULT, "sevt_u", body, resolved), 0);
    assert_false(holds(messages(&r->prompt), "file_id"));
    assert_true(holds(messages(&r->prompt), "\"tool_use_id\":\"sevt_1\",\"content\":[{\"type\":"
                                            "\"image\""));
    int64_t bytes, media;
    prompt_size(&r->prompt, &bytes, &media);
    assert_int_equal(media, 2);
    assert_true(bytes > 100);
}

static void damaged_bytes_are_an_error_and_change_nothing(void **state)
{
    struct rig *r = *state;
    static const struct {
        enum event_type type;
        const char *body, *transcript;
    } bad[] = {
        {EVENT_USER_MESSAGE, "{\"content\":[", NULL},
        {EVENT_USER_MESSAGE, "{\"content\":\"x\"}", NULL},
        {EVENT_USER_MESSAGE, "{\"content\":[1]}", NULL},
        {EVENT_USER_MESSAGE, "{}", "{\"type\":\"text\"}"},
        {EVENT_USER_MESSAGE, "{}", "[\"x\"]"},
        {EVENT_USER_MESSAGE, "{}", "["},
        {EVENT_USER_CUSTOM_TOOL_RESULT, "{}", "nonsense"},
        {EVENT_AGENT_THINKING, "{}", "{\"type\":"},
        {EVENT_AGENT_THINKING, "{}", "[]"},
#define COMPACTED(t) {EVENT_AGENT_THREAD_CONTEXT_COMPACTED, "{}", t}
        COMPACTED(NULL),
        COMPACTED("[]"),
        COMPACTED("{\"v\":2,\"user\":[],\"system\":[],\"summary\":null,\"tail\":[]}"),
        COMPACTED("{\"v\":1,\"user\":{},\"system\":[],\"summary\":null,\"tail\":[]}"),
        COMPACTED("{\"v\":1,\"user\":[1],\"system\":[],\"summary\":null,\"tail\":[]}"),
        COMPACTED("{\"v\":1,\"user\":[],\"system\":[1],\"summary\":null,\"tail\":[]}"),
        COMPACTED("{\"v\":1,\"user\":[],\"system\":[],\"summary\":1,\"tail\":[]}"),
        COMPACTED("{\"v\":1,\"user\":[],\"system\":[],\"summary\":null,\"tail\":[1]}"),
        COMPACTED("{\"v\":1,\"user\":[],\"system\":[],\"summary\":null,\"tail\":[{\"role\":\"x\","
                  "\"content\":[]}]}"),
        COMPACTED("{\"v\":1,\"user\":[],\"system\":[],\"summary\":null,\"tail\":[{\"role\":"
                  "\"user\",\"content\":\"x\"}]}"),
        COMPACTED("{\"v\":1,\"user\":[],\"system\":[],\"summary\":null}"),
    };
    user(r, "hello");
    struct str before = arena_str(&r->arena, messages(&r->prompt));
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        int rc = fold(r, bad[i].type, "sevt_b", str_z(bad[i].body), str_z(bad[i].transcript));
        if (rc != ERR_PARSE)
            fail_msg("case %zu: %d", i, rc);
        assert_true(str_eq(messages(&r->prompt), before));
    }
}

/* ---- size ---- */

static void tokens_are_what_was_measured_and_a_guess_for_the_rest(void **state)
{
    struct rig *r = *state;
    assert_int_equal(prompt_tokens(&r->prompt), 0);
    user(r, "0123456789"); /* {"type":"text","text":"0123456789"}: 35 bytes */
    assert_int_equal(prompt_tokens(&r->prompt), 12);
    prompt_measured(&r->prompt, 5000);
    assert_int_equal(prompt_tokens(&r->prompt), 5000);
    user(r, "01234567890"); /* 36 bytes */
    assert_int_equal(prompt_tokens(&r->prompt), 5012);
    struct str image = STR("{\"content\":[{\"type\":\"image\",\"source\":{\"type\":\"base64\","
                           "\"media_type\":\"image/png\",\"data\":\"AAAAAAAAAAAAAAAAAAAAAA\"}}]}");
    assert_int_equal(fold(r, EVENT_USER_MESSAGE, "sevt_i", image, STR_NONE), 0);
    assert_int_equal(prompt_tokens(&r->prompt), 6612);
    struct str data = repeat(r, 'A', 20000);
    struct str block = arena_printf(&r->arena,
                                    "{\"type\":\"document\",\"source\":{\"type\":\"base64\","
                                    "\"media_type\":\"application/pdf\",\"data\":\"%s\"}}",
                                    data.ptr);
    struct str doc = arena_printf(&r->arena, "{\"content\":[%s]}", block.ptr);
    assert_int_equal(fold(r, EVENT_USER_MESSAGE, "sevt_d", doc, STR_NONE), 0);
    assert_int_equal(prompt_tokens(&r->prompt), 9612 + (int64_t)block.len / 20);
}

static void a_document_of_text_counts_as_text(void **state)
{
    struct rig *r = *state;
    struct str doc = STR("{\"type\":\"document\",\"source\":{\"type\":\"text\",\"data\":\"abc\"}}");
    struct str body = arena_printf(&r->arena, "{\"content\":[%s]}", doc.ptr);
    assert_int_equal(fold(r, EVENT_USER_MESSAGE, "sevt_d", body, STR_NONE), 0);
    assert_int_equal(prompt_tokens(&r->prompt), ((int64_t)doc.len + 2) / 3);
}

static void a_conversation_past_the_bound_is_an_error_that_compaction_cures(void **state)
{
    struct rig *r = *state;
    struct str out;
    struct err err;
    prompt_fini(&r->prompt);
    prompt_init(&r->prompt, 20000);
    user(r, "keep this");
    for (int i = 0; i < 20; i++)
        round_of(r, i, 4000);
    assert_int_equal(prompt_messages(&r->prompt, &out, &err), ERR_TOO_LARGE);
    assert_true(prompt_can_compact(&r->prompt));
    (void)summary_request(r, 10000);
    compact(r, NULL);
    assert_true(holds(messages(&r->prompt), "keep this"));
    assert_valid(messages(&r->prompt), true);
}

/* ---- clearing ---- */

static const struct model_facts small = {.context_tokens = 10000};

static void old_results_are_cleared_in_whole_rounds(void **state)
{
    struct rig *r = *state;
    user(r, "go");
    for (int i = 0; i < 5; i++)
        round_of(r, i, 3000);
    assert_int_equal(prompt_clearable(&r->prompt, &small), 0); /* under 60 percent */
    calls(r, "sevt_a");
    calls(r, "sevt_b");
    calls(r, "sevt_c");
    int64_t first = r->seq + 1;
    results(r, "sevt_a", 1000, false);
    results(r, "sevt_b", 1000, false);
    results(r, "sevt_c", 1000, false);
    for (int i = 10; i < 15; i++)
        round_of(r, i, 1000);
    /* The sixth from the end is c; a and b stand with it. */
    assert_int_equal(prompt_clearable(&r->prompt, &small), first);
    assert_int_equal(prompt_clearable(&r->prompt, &small), first);
    int64_t before = prompt_tokens(&r->prompt);
    prompt_clear(&r->prompt, first);
    assert_true(prompt_tokens(&r->prompt) < before - 4000);
    assert_int_equal(prompt_clearable(&r->prompt, &small), 0);
    assert_valid(messages(&r->prompt), true);
    assert_true(holds(messages(&r->prompt),
                      "{\"type\":\"tool_result\",\"tool_use_id\":\"sevt_call4\",\"content\":[{"
                      "\"type\":\"text\",\"text\":\"[Old tool result cleared to save context. Call "
                      "the tool again if you need it.]\"}]}"));
    assert_true(holds(messages(&r->prompt), "\"sevt_a\",\"content\":[{\"type\":\"text\",\"text\":"
                                            "\"rrr"));
}

static void clearing_keeps_errors_and_short_results_and_can_be_done_again(void **state)
{
    struct rig *r = *state;
    user(r, "go");
    calls(r, "sevt_1");
    results(r, "sevt_1", 2000, true);
    round_of(r, 2, 200);
    round_of(r, 3, 2000);
    prompt_clear(&r->prompt, r->seq);
    struct str once = arena_str(&r->arena, messages(&r->prompt));
    assert_true(holds(once, "if you need it.]\"}],\"is_error\":true}"));
    assert_true(holds(once, "\"sevt_call2\",\"content\":[{\"type\":\"text\",\"text\":\"rrr"));
    assert_true(holds(once, "\"sevt_call3\",\"content\":[{\"type\":\"text\",\"text\":\"rrr"));
    prompt_clear(&r->prompt, r->seq);
    assert_true(str_eq(messages(&r->prompt), once));
    agent(r, "done");
    assert_valid(messages(&r->prompt), false);
}

static void nothing_is_cleared_for_a_small_gain(void **state)
{
    struct rig *r = *state;
    user(r, repeat(r, 'u', 30000).ptr);
    for (int i = 0; i < 8; i++)
        round_of(r, i, 400);
    assert_int_equal(prompt_clearable(&r->prompt, &small), 0);
    prompt_clear(&r->prompt, 0);
    struct prompt empty;
    prompt_init(&empty, 100);
    prompt_clear(&empty, 5);
    assert_int_equal(prompt_clearable(&empty, &small), 0);
    prompt_fini(&empty);
}

static void a_model_without_facts_has_two_hundred_thousand_tokens(void **state)
{
    struct rig *r = *state;
    struct model_facts none = {0};
    user(r, "x");
    prompt_measured(&r->prompt, 159999);
    assert_false(prompt_should_compact(&r->prompt, &none));
    prompt_measured(&r->prompt, 160000);
    assert_true(prompt_should_compact(&r->prompt, &none));
    assert_true(prompt_should_compact(&r->prompt, &small));
}

/* ---- compaction ---- */

static void rules_and_the_users_words_survive_five_compactions(void **state)
{
    struct rig *r = *state;
    char text[64];
    user(r, "FIRST goal: build \"it\"\n");
    system_says(r, "RULE never push");
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 10; k++)
            round_of(r, i * 10 + k, 3000);
        agent(r, "report");
        snprintf(text, sizeof text, "WISH %d", i);
        user(r, text);
        assert_true(prompt_can_compact(&r->prompt));
        snprintf(text, sizeof text, "SUMMARY %d", i);
        struct str t = compact(r, i == 3 ? NULL : text);
        assert_true(holds(t, i == 3 ? "\"summary\":null" : "\"summary\":\"SUMMARY"));
        struct str m = messages(&r->prompt);
        assert_valid(m, true);
        assert_true(holds(m, "FIRST goal: build \\\"it\\\"\\n"));
        assert_true(holds(m, "{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"RULE "
                             "never push\"}]}"));
        for (int k = 0; k <= i; k++) {
            snprintf(text, sizeof text, "\"WISH %d\"", k);
            assert_true(holds(m, text));
        }
        snprintf(text, sizeof text, "SUMMARY %d", i);
        assert_int_equal(holds(m, text), i != 3);
        assert_false(prompt_can_compact(&r->prompt));
    }
    assert_false(holds(messages(&r->prompt), "SUMMARY 2"));
}

static void an_unanswered_message_stays_with_its_images(void **state)
{
    struct rig *r = *state;
    user(r, "old");
    agent(r, repeat(r, 'a', 30000).ptr);
    struct str body = STR("{\"content\":[{\"type\":\"text\",\"text\":\"see\"},{\"type\":\"image\","
                          "\"source\":{\"type\":\"url\",\"url\":\"https://x/y.png\"}}]}");
    assert_int_equal(fold(r, EVENT_USER_MESSAGE, "sevt_i", body, STR_NONE), 0);
    struct str t = compact(r, "s");
    assert_true(holds(t, "\"user\":[\"old\"]"));
    assert_true(holds(t, "\"tail\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                         "\"see\"},{\"type\":\"image\""));
    assert_false(holds(messages(&r->prompt), "aaaa"));
    assert_valid(messages(&r->prompt), true);
    /* Unless it is known to be too long as it is. */
    assert_false(prompt_can_compact(&r->prompt));
    assert_true(prompt_can_cut(&r->prompt));
    assert_true(holds(compact(r, "s"), "\"user\":[\"old\",\"see\"]"));
    assert_false(prompt_can_cut(&r->prompt));
    assert_valid(messages(&r->prompt), true);
}

static void what_nobody_could_answer_is_cut_until_it_fits(void **state)
{
    struct rig *r = *state;
    user(r, repeat(r, 'w', 200000).ptr);
    assert_false(prompt_can_compact(&r->prompt)); /* not before it was tried */
    for (size_t most = 70000; most > 10000; most /= 2) {
        assert_true(prompt_can_cut(&r->prompt));
        user(r, "sorry");
        compact(r, NULL);
        struct str m = messages(&r->prompt);
        assert_valid(m, true);
        assert_true(m.len < most);
        assert_true(holds(m, "www"));
        assert_true(holds(m, "sorry"));
    }
}

static void a_small_newest_exchange_stays_with_its_thinking(void **state)
{
    struct rig *r = *state;
    user(r, "go");
    thinks(r, "dropped");
    round_of(r, 1, 9000);
    thinks(r, "kept");
    round_of(r, 2, 9000);
    struct str t = compact(r, "s");
    assert_true(holds(t, "\"tail\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\","
                         "\"thinking\":\"kept\""));
    assert_false(holds(t, "dropped"));
    assert_valid(messages(&r->prompt), true);
    thinks(r, "more");
    round_of(r, 3, 30000); /* too large to be kept */
    t = compact(r, "s");
    assert_true(holds(t, "\"tail\":[]"));
    assert_valid(messages(&r->prompt), true);
}

static void a_half_answered_round_is_not_kept(void **state)
{
    struct rig *r = *state;
    user(r, "go");
    calls(r, "sevt_1");
    calls(r, "sevt_2");
    results(r, "sevt_2", 10, false);
    struct str t = compact(r, "s");
    assert_false(holds(t, "sevt_1"));
    assert_true(holds(t, "sevt_2"));
    assert_valid(messages(&r->prompt), true);
}

static void long_words_of_the_user_keep_their_beginning_and_their_end(void **state)
{
    struct rig *r = *state;
    char text[6000];
    for (int i = 0; i < 40; i++) {
        snprintf(text, sizeof text, "MARK%02d %s", i, repeat(r, 'u', 3000).ptr);
        user(r, text);
        agent(r, "ok");
    }
    user(r, "now");
    for (int i = 0; i < 3; i++) {
        struct str t = compact(r, "s");
        assert_true(holds(t, "MARK00"));
        assert_true(holds(t, "MARK01"));
        assert_false(holds(t, "MARK10"));
        assert_true(holds(t, "MARK39"));
        assert_true(holds(t, "null,\"MARK2"));
        assert_true(t.len < 60 * 1024);
        assert_true(holds(messages(&r->prompt), "words of the user were left out"));
        agent(r, repeat(r, 'a', 30000).ptr);
        user(r, "and on");
    }
}

static void words_that_fill_a_small_context_are_halved_from_the_middle(void **state)
{
    struct rig *r = *state;
    char text[6000];
    for (int i = 0; i < 40; i++) {
        snprintf(text, sizeof text, "MARK%02d %s", i, repeat(r, 'u', 500).ptr);
        user(r, text);
        agent(r, repeat(r, 'a', 500).ptr);
    }
    system_says(r, "RULE");
    user(r, "now");
    size_t len = compact(r, "s").len;
    for (int i = 0; i < 2; i++) { /* 20 KB of words: 10, 5 */
        assert_true(prompt_can_compact(&r->prompt));
        size_t less = compact(r, "s").len;
        assert_true(less < len * 2 / 3);
        len = less;
        assert_true(holds(messages(&r->prompt), "MARK39"));
        assert_true(holds(messages(&r->prompt), "MARK00"));
        assert_true(holds(messages(&r->prompt), "RULE"));
        assert_true(holds(messages(&r->prompt), "\"now\""));
    }
    compact(r, "s");
    assert_false(prompt_can_compact(&r->prompt));
}

/* Nested to the limit, a call cannot stand one level deeper in a transcript. */
static void a_tail_that_could_not_be_read_again_is_dropped(void **state)
{
    struct rig *r = *state;
    char body[400];
    size_t n = LIMIT_JSON_DEPTH - 5;
    int at = snprintf(body, sizeof body, "{\"name\":\"x\",\"input\":{\"a\":");
    memset(body + at, '[', n);
    memset(body + at + n, ']', n);
    snprintf(body + at + 2 * n, sizeof body - (size_t)at - 2 * n, "}}");
    user(r, "go");
    assert_int_equal(fold(r, EVENT_AGENT_TOOL_USE, "sevt_deep", str_z(body), STR_NONE), 0);
    results(r, "sevt_deep", 10, false);
    assert_true(holds(compact(r, "s"), "\"tail\":[]"));
    assert_true(holds(messages(&r->prompt), "\"go\""));
    assert_valid(messages(&r->prompt), true);
}

static void one_endless_message_is_cut_on_both_sides_of_its_middle(void **state)
{
    struct rig *r = *state;
    char *text = (char *)(uintptr_t)repeat(r, 'm', 300001).ptr;
    memcpy(text, "BEGIN", 5);
    for (size_t i = 10; i + 1 < 299000; i += 2)
        memcpy(text + i, "\xC3\xA4", 2);
    memcpy(text + 299990, "FINISH", 6);
    user(r, text);
    agent(r, repeat(r, 'a', 30000).ptr);
    user(r, "next");
    struct str t = compact(r, NULL);
    assert_true(holds(t, "BEGIN"));
    assert_true(holds(t, "FINISH"));
    assert_true(str_utf8(t));
    assert_false(holds(t, "\xEF\xBF\xBD"));
    assert_true(t.len < 60 * 1024);
}

static void the_words_of_user_and_operator_are_found_over_compactions(void **state)
{
    struct rig *r = *state;
    user(r, "one");
    system_says(r, "operator");
    round_of(r, 1, 500);
    agent(r, "answer");
    system_says(r, "rule");
    user(r, "two");
    for (int i = 0; i < 2; i++) {
        AUTO_BUF struct buf b = BUF_INIT(10000), said = BUF_INIT(10000);
        prompt_user_text(&r->prompt, 1000, &b);
        assert_true(str_eqz(buf_view(&b), "one\n\ntwo"));
        prompt_operator_text(&r->prompt, 1000, &said);
        assert_true(str_eqz(buf_view(&said), "operator\n\nrule"));
        compact(r, "summary");
    }
    user(r, repeat(r, 'x', 5000).ptr);
    user(r, "last");
    AUTO_BUF struct buf b = BUF_INIT(10000);
    prompt_user_text(&r->prompt, 1000, &b);
    assert_true(b.len <= 1000);
    assert_true(str_starts(buf_view(&b), STR("one\n\ntwo\n\n[...]")));
    assert_true(str_ends(buf_view(&b), STR("last")));
    buf_clear(&b);
    prompt_user_text(&r->prompt, 0, &b);
    assert_int_equal(b.len, 0);
    system_says(r, repeat(r, 'y', 5000).ptr);
    system_says(r, "at last");
    prompt_operator_text(&r->prompt, 1000, &b);
    assert_true(b.len <= 1000);
    assert_true(str_starts(buf_view(&b), STR("operator\n\nrule\n\n[...]")));
    assert_true(str_ends(buf_view(&b), STR("at last")));
}

/* ---- the question for a summary ---- */

static void a_summary_is_asked_of_the_whole_conversation_where_it_fits(void **state)
{
    struct rig *r = *state;
    user(r, "go");
    system_says(r, "rule");
    thinks(r, "hm");
    round_of(r, 1, 2000);
    struct str q = summary_request(r, 100000), m = messages(&r->prompt);
    /* The same prefix: the provider has it in its cache. */
    assert_true(str_starts(q, str_take(m, m.len - 3)));
    assert_true(holds(q, "Do not call a tool"));
}

static void results_are_cut_before_the_middle_is_left_out(void **state)
{
    struct rig *r = *state;
    user(r, "FIRST");
    for (int i = 0; i < 20; i++)
        round_of(r, i, 5000);
    user(r, "LAST");
    struct str q = summary_request(r, 50000);
    assert_true(holds(q, "bytes left out]"));
    assert_false(holds(q, "middle of the conversation"));
    assert_true(holds(q, "sevt_call10"));
    q = summary_request(r, 12000);
    assert_true(holds(q, "middle of the conversation"));
    assert_true(holds(q, "FIRST"));
    assert_true(holds(q, "LAST"));
    assert_true(holds(q, "sevt_call19"));
    assert_false(holds(q, "sevt_call10"));
}

static void images_count_for_what_they_cost_not_for_their_bytes(void **state)
{
    struct rig *r = *state;
    struct str body = STR("{\"content\":[{\"type\":\"text\",\"text\":\"see\"},{\"type\":\"image\","
                          "\"source\":{\"type\":\"url\",\"url\":\"https://x/y.png\"}}]}");
    for (int i = 0; i < 10; i++)
        assert_int_equal(fold(r, EVENT_USER_MESSAGE, "sevt_i", body, STR_NONE), 0);
    assert_false(holds(summary_request(r, 60000), "left out for its length"));
    struct str q = summary_request(r, 20000); /* 10 images are 48,000 bytes of tokens */
    assert_true(holds(q, "An image or a document, left out"));
    assert_true(holds(q, "y.png"));
}

static void no_room_for_the_question_is_an_error(void **state)
{
    struct rig *r = *state;
    AUTO_BUF struct buf b = BUF_INIT(100000);
    struct err err;
    user(r, "x");
    assert_int_equal(prompt_summary_request(&r->prompt, 100, &b, &err), ERR_TOO_LARGE);
}

static void a_summary_survives_into_the_next_question(void **state)
{
    struct rig *r = *state;
    user(r, repeat(r, 'u', 30000).ptr);
    agent(r, repeat(r, 'a', 30000).ptr);
    user(r, "next");
    compact(r, "OLDSUMMARY");
    for (int i = 0; i < 10; i++)
        round_of(r, i, 5000);
    assert_true(holds(summary_request(r, 8000), "OLDSUMMARY"));
    user(r, "again");
    compact(r, repeat(r, 's', 3000).ptr);
    for (int i = 0; i < 100; i++)
        round_of(r, i, 500);
    for (size_t max = 9000; max < 30000; max += 777) /* checks the bound, too */
        assert_true(holds(summary_request(r, max), "ssssssssss"));
}

/* ---- anything at all ---- */

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* One event as a log never has it in full, and as it has it mostly. */
static void random_event(struct rig *r, uint32_t *seed, int *call)
{
    char id[32];
    size_t len = next(seed) % 8 == 0 ? next(seed) % 20000 : next(seed) % 400;
    switch (next(seed) % 10) {
    case 0: user(r, repeat(r, 'u', len).ptr); break;
    case 1: agent(r, repeat(r, 'a', len).ptr); break;
    case 2: thinks(r, "t"); break;
    case 3: system_says(r, "s"); break;
    case 4: prompt_clear(&r->prompt, r->seq - 10); break;
    case 5:
        snprintf(id, sizeof id, "sevt_call%d", *call - (int)(next(seed) % 4));
        results(r, id, len, next(seed) % 2);
        break;
    case 6:
        snprintf(id, sizeof id, "sevt_call%d", ++*call);
        calls(r, id);
        break;
    default: {
        int n = 1 + (int)(next(seed) % 3), first = *call + 1;
        for (int i = 0; i < n; i++) {
            snprintf(id, sizeof id, "sevt_call%d", ++*call);
            calls(r, id);
        }
        for (int i = n; i-- > 0;) {
            snprintf(id, sizeof id, "sevt_call%d", first + i);
            results(r, id, len, false);
        }
    }
    }
}

static void random_log(struct rig *r, uint32_t seed, bool check)
{
    int call = 0;
    unsigned n = 1 + next(&seed) % 60;
    for (unsigned i = 0; i < n; i++) {
        random_event(r, &seed, &call);
        bool compacts = next(&seed) % 12 == 0;
        size_t max = 4000 + next(&seed) % 60000;
        if (check)
            (void)summary_request(r, max);
        if (!compacts)
            continue;
        compact(r, next(&seed) % 3 ? repeat(r, 's', next(&seed) % 3000).ptr : NULL);
        if (check)
            assert_valid(messages(&r->prompt), true);
    }
    AUTO_ARENA struct arena tmp;
    arena_init(&tmp, LIMIT_JSON_ARENA);
    const struct json *v;
    struct err err;
    assert_int_equal(json_parse(&tmp, messages(&r->prompt), 0, &v, &err), 0);
}

static void any_log_folds_to_the_same_bytes_and_can_be_summed_up(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 300; seed++) {
        void *a, *b;
        setup(&a);
        setup(&b);
        struct rig *x = a, *y = b;
        random_log(x, seed, true);
        random_log(y, seed, false);
        if (!str_eq(messages(&x->prompt), messages(&y->prompt)))
            fail_msg("seed %u folds to other bytes", seed);
        int64_t text = 0;
        for (size_t i = 0; i < x->prompt.nblocks; i++)
            text += (int64_t)(x->prompt.blocks[i].len - x->prompt.blocks[i].media_bytes);
        assert_int_equal(text, x->prompt.text_bytes);
        teardown(&a);
        teardown(&b);
    }
}

/* What a loop writes after a compaction is a valid conversation with what the compaction left. */
static void a_conversation_goes_on_after_any_compaction(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 100; seed++) {
        void *a;
        setup(&a);
        struct rig *r = a;
        uint32_t s = seed;
        int call = 0;
        for (unsigned i = 0, n = next(&s) % 40; i < n; i++)
            random_event(r, &s, &call);
        compact(r, "s");
        for (int i = 0; i < 8; i++) {
            thinks(r, "t");
            round_of(r, 1000 + i, 700);
            assert_valid(messages(&r->prompt), true);
        }
        prompt_clear(&r->prompt, r->seq - 5);
        assert_valid(messages(&r->prompt), true);
        compact(r, NULL);
        assert_valid(messages(&r->prompt), true);
        teardown(&a);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(operators_messages_stand_at_their_place_in_a_role_of_their_own),
        T(resolved_content_stands_in_the_place_of_the_body),
        T(damaged_bytes_are_an_error_and_change_nothing),
        T(tokens_are_what_was_measured_and_a_guess_for_the_rest),
        T(a_document_of_text_counts_as_text),
        T(a_conversation_past_the_bound_is_an_error_that_compaction_cures),
        T(old_results_are_cleared_in_whole_rounds),
        T(clearing_keeps_errors_and_short_results_and_can_be_done_again),
        T(nothing_is_cleared_for_a_small_gain),
        T(a_model_without_facts_has_two_hundred_thousand_tokens),
        T(rules_and_the_users_words_survive_five_compactions),
        T(an_unanswered_message_stays_with_its_images),
        T(what_nobody_could_answer_is_cut_until_it_fits),
        T(a_small_newest_exchange_stays_with_its_thinking),
        T(a_half_answered_round_is_not_kept),
        T(long_words_of_the_user_keep_their_beginning_and_their_end),
        T(words_that_fill_a_small_context_are_halved_from_the_middle),
        T(a_tail_that_could_not_be_read_again_is_dropped),
        T(one_endless_message_is_cut_on_both_sides_of_its_middle),
        T(the_words_of_user_and_operator_are_found_over_compactions),
        T(a_summary_is_asked_of_the_whole_conversation_where_it_fits),
        T(results_are_cut_before_the_middle_is_left_out),
        T(images_count_for_what_they_cost_not_for_their_bytes),
        T(no_room_for_the_question_is_an_error),
        T(a_summary_survives_into_the_next_question),
        cmocka_unit_test(any_log_folds_to_the_same_bytes_and_can_be_summed_up),
        cmocka_unit_test(a_conversation_goes_on_after_any_compaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
