/* What lives in an arena or a buffer, with every small bound until it fits: below that each says
 * that a bound was reached, and what it says it did is whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fault.h"

#include "api/agent_decode.h"
#include "api/compact.h"
#include "api/cursor.h"
#include "api/environment_decode.h"
#include "api/event_decode.h"
#include "api/query.h"
#include "core/turn.h"

#include <stdio.h>
#include <stdlib.h>

static struct arena kept; /* what a test needs for all of its runs */

static int set_up(void **state)
{
    (void)state;
    arena_init(&kept, 64u << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&kept);
    return 0;
}

static const struct json *parse(const char *text)
{
    const struct json *doc;
    struct err err;
    assert_int_equal(json_parse(&kept, arena_str(&kept, str_z(text)), 0, &doc, &err), 0);
    return doc;
}

/* ---- json ---- */

static const char document[] =
    "{\"a\":[1,2.50,-3e4,true,false,null,\"\"],\"b\\n\":{\"\\u00e9\\ud83d\\ude00\":\"x\\ty\","
    "\"deep\":[[[[[[[[{}]]]]]]]]},\"long\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\\\\\"}";

static int read_document(size_t max_bytes, void *arg, struct err *err)
{
    (void)arg;
    AUTO_ARENA struct arena a;
    arena_init(&a, max_bytes);
    const struct json *doc = NULL;
    int rc = json_parse(&a, str_z(document), 0, &doc, err);
    assert_true((rc == 0) == (doc != NULL));
    if (rc == 0)
        assert_int_equal(doc->count, 3);
    return rc;
}

static void the_json_reader_says_when_its_arena_is_full(void **state)
{
    (void)state;
    assert_true(fault_bounds(read_document, NULL, 1, 1 << 16) > 0);
}

static int write_document(size_t max_bytes, void *arg, struct err *err)
{
    const struct json *doc = arg;
    AUTO_BUF struct buf b = BUF_INIT(max_bytes);
    struct jw w = jw_to(&b);
    jw_arr(&w);
    jw_raw(&w, doc->raw);
    jw_str(&w, STR("\"\\\n\x01 text"));
    jw_i64(&w, INT64_MIN);
    jw_arr_end(&w);
    assert_true(b.len <= max_bytes);
    return buf_ok(&b) ? 0 : err_set(err, ERR_LIMIT, "full");
}

static void the_json_writer_stays_within_its_buffer(void **state)
{
    (void)state;
    size_t enough = fault_bounds(write_document, (void *)(uintptr_t)parse(document), 1, 1 << 16);
    assert_true(enough >= sizeof document);
}

/* ---- bodies of the API ---- */

static int any_model(void *self, struct str id, struct err *err)
{
    (void)self;
    (void)id;
    (void)err;
    return 0;
}

static const char *effort(void *self, struct str id)
{
    (void)self;
    (void)id;
    return "high";
}

static const struct model_rules rules = {NULL, any_model, effort};

static int make_agent(size_t max_bytes, void *arg, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, max_bytes);
    struct agent_patch p;
    struct agent_def def = {0};
    struct str text;
    int rc = agent_patch_decode(&a, arg, AGENT_CREATE, "", &rules, &p, err);
    if (rc == 0)
        rc = agent_patch_apply(&a, &p, &def, err);
    if (rc)
        return rc;
    struct buf b = BUF_INIT(1 << 20);
    agent_def_write(&def, &b);
    rc = compact_keep(&a, &b, &text, err);
    if (rc == 0)
        parse(text.ptr);
    return rc;
}

static void an_agent_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    const struct json *body =
        parse("{\"name\":\"n\\n\",\"model\":{\"id\":\"m\",\"effort\":\"low\"},\"system\":\"be "
              "brief\",\"description\":\"d\",\"tools\":[{\"type\":\"agent_toolset_20260401\"},{"
              "\"type\":\"custom\",\"name\":\"ask\",\"description\":\"d\",\"input_schema\":{"
              "\"type\":\"object\"}}],\"metadata\":{\"k\":\"v\"}}");
    assert_true(fault_bounds(make_agent, (void *)(uintptr_t)body, 1, 1 << 16) > 0);
}

static int make_environment(size_t max_bytes, void *arg, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, max_bytes);
    struct environment_patch p;
    struct str text = STR_NONE;
    int rc = environment_patch_decode(arg, true, &p, err);
    if (rc == 0)
        rc = environment_patch_apply(&a, &p, STR_NONE, &text, err);
    if (rc == 0)
        parse(text.ptr);
    return rc;
}

static void an_environment_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    const struct json *body =
        parse("{\"name\":\"e\",\"config\":{\"type\":\"cloud\",\"networking\":{\"type\":\"limited\","
              "\"allowed_hosts\":[\"example.com\"]}},\"metadata\":{\"k\":\"v\",\"l\":\"w\"}}");
    assert_true(fault_bounds(make_environment, (void *)(uintptr_t)body, 1, 1 << 16) > 0);
}

static int send_events(size_t max_bytes, void *arg, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, max_bytes);
    struct sent_event *events;
    int rc = events_decode(&a, arg, false, "/events", &events, err);
    for (size_t i = 0; rc == 0 && i < 3; i++)
        parse(events[i].event.body.ptr);
    return rc;
}

static void events_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    const struct json *list =
        parse("[{\"type\":\"user.message\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]},"
              "{\"type\":\"user.interrupt\"},{\"type\":\"user.custom_tool_result\","
              "\"custom_tool_use_id\":\"sevt_1\",\"content\":[]}]");
    assert_true(fault_bounds(send_events, (void *)(uintptr_t)list, 1, 1 << 16) > 0);
}

static int read_query(size_t max_bytes, void *arg, struct err *err)
{
    (void)arg;
    AUTO_ARENA struct arena a;
    arena_init(&a, max_bytes);
    struct http_param *params;
    size_t n = 0;
    int rc =
        http_query(&a, STR("limit=20&types%5B%5D=user.message&page=abc+d&x"), &params, &n, err);
    if (rc == 0)
        assert_int_equal(n, 4);
    return rc;
}

static void a_query_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    assert_true(fault_bounds(read_query, NULL, 1, 1 << 16) > 0);
}

/* ---- the prompt ---- */

static const struct event log_of_turn[] = {
    {.type = EVENT_USER_MESSAGE,
     .body = STR("{\"content\":[{\"type\":\"text\",\"text\":\"hello\"},{\"type\":\"text\","
                 "\"text\":\"\"}]}")},
    {.type = EVENT_AGENT_THINKING,
     .body = STR("{}"),
     .transcript = STR("{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"s\"}")},
    {.type = EVENT_AGENT_TOOL_USE,
     .id = {"sevt_1"},
     .body = STR("{\"name\":\"bash\",\"input\":{}}")},
    {.type = EVENT_AGENT_TOOL_RESULT,
     .body = STR("{\"tool_use_id\":\"sevt_1\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}],"
                 "\"is_error\":true}")},
    {.type = EVENT_AGENT_MESSAGE,
     .body = STR("{\"content\":[{\"type\":\"text\",\"text\":\"y\"}]}")},
};

static int build_prompt(size_t max_bytes, void *arg, struct err *err)
{
    (void)arg;
    struct prompt p;
    struct str text;
    int rc = 0;
    prompt_init(&p, max_bytes);
    for (size_t i = 0; rc == 0 && i < COUNT_OF(log_of_turn); i++)
        rc = prompt_fold(&p, &log_of_turn[i], err);
    if (rc == 0)
        rc = prompt_messages(&p, &text, err);
    if (rc == 0)
        parse(text.ptr);
    prompt_fini(&p);
    return rc;
}

static void a_conversation_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    assert_true(fault_bounds(build_prompt, NULL, 1, 1 << 16) > 0);
}

/* ---- a step of the turn ---- */

static void fill(void *self, void *p, size_t n)
{
    (void)self;
    memset(p, 7, n);
}

static const struct rand_port constant = {.fill = fill};

enum act { SAY, ANSWER_CALL, RESULT, INTERRUPT, ANSWER_TEXT, FAIL, UPDATE, ACTS };

/* Where a bound applies: to the memory of one step, or to what the turn itself keeps. */
enum bounded { STEP, PROMPT, CALLS };

struct scene {
    enum act last; /* the act under the bound; those before it have room */
    enum bounded what;
};

struct play {
    struct turn turn;
    struct list inbox, taken;
    struct turn_input input;
    int64_t now_us;
};

static void queue(struct play *p, enum event_type type, const char *body)
{
    p->input = (struct turn_input){.number = 1, .event = {.type = type, .body = str_z(body)}};
    p->input.event.id = id_from(STR("sevt_in"));
    list_init(&p->inbox);
    list_init(&p->taken);
    list_init(&p->input.link);
    list_push(&p->inbox, &p->input.link);
}

static void do_act(struct play *p, struct turn_step *s, enum act act)
{
    struct turn *t = &p->turn;
    static const struct model_block call[] = {
        {.type = MODEL_THINKING, .raw = STR("{\"type\":\"thinking\",\"thinking\":\"hm\"}")},
        {.type = MODEL_TOOL_USE, .name = STR("bash"), .input = STR("{\"command\":\"true\"}")},
        {.type = MODEL_TOOL_USE, .name = STR("nonsense"), .input = STR("{}")}};
    static const struct model_block text = {.type = MODEL_TEXT, .text = STR("done")};
    struct model_result r = {.blocks = act == ANSWER_CALL ? call : &text,
                             .nblocks = act == ANSWER_CALL ? COUNT_OF(call) : 1,
                             .stop = act == ANSWER_CALL ? MODEL_STOP_TOOL_USE : MODEL_STOP_END};
    struct model_failure f = {.kind = MODEL_ERR_OVERLOADED, .message = "no"};
    struct tool_outcome o = {.content = STR("output")};
    struct turn_update update = {.title = STR("\"title\""), .metadata = STR("{\"k\":\"v\"}")};
    struct id id = t->ncalls ? t->calls[0].id : (struct id){""};
    switch (act) {
    case SAY:
        queue(p, EVENT_USER_MESSAGE,
              "{\"id\":\"sevt_in\",\"type\":\"user.message\",\"processed_at\":null,\"content\":[{"
              "\"type\":\"text\",\"text\":\"go\"}]}");
        turn_inbox(t, s);
        break;
    case INTERRUPT:
        queue(p, EVENT_USER_INTERRUPT,
              "{\"id\":\"sevt_in\",\"type\":\"user.interrupt\",\"processed_at\":null}");
        if (t->ncalls)
            t->calls[0].sent = true;
        turn_inbox(t, s);
        break;
    case ANSWER_CALL:
    case ANSWER_TEXT: turn_model_done(t, s, &r, NULL, NULL); break;
    case RESULT: turn_tool_done(t, s, id_str(&id), &o); break;
    case FAIL: turn_model_failed(t, s, &f); break;
    case UPDATE: turn_session_updated(t, s, &update); break;
    case ACTS: break;
    }
}

/* The acts that lead to one. */
static const enum act paths[ACTS][5] = {
    [SAY] = {SAY, ACTS},
    [ANSWER_CALL] = {SAY, ANSWER_CALL, ACTS},
    [RESULT] = {SAY, ANSWER_CALL, RESULT, ACTS},
    [INTERRUPT] = {SAY, ANSWER_CALL, INTERRUPT, ACTS},
    [ANSWER_TEXT] = {SAY, ANSWER_TEXT, ACTS},
    [FAIL] = {SAY, FAIL, ACTS},
    [UPDATE] = {UPDATE, ACTS},
};

static int one_act(struct play *p, enum act act, size_t step_max, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, step_max);
    list_init(&p->inbox);
    list_init(&p->taken);
    p->now_us += 1000;
    struct turn_step s = {.arena = &a,
                          .now_us = p->now_us,
                          .rand = &constant,
                          .inbox = &p->inbox,
                          .taken = &p->taken};
    do_act(p, &s, act);
    if (s.err_code)
        *err = s.err;
    else
        for (size_t i = 0; i < s.nevents; i++)
            parse(s.events[i].body.ptr);
    return s.err_code;
}

static int play(size_t max_bytes, void *arg, struct err *err)
{
    const struct scene *scene = arg;
    static const struct agent nobody;
    struct agent agent = nobody;
    struct play p = {.now_us = 1700000000000000};
    assert_int_equal(
        agent_read(&kept,
                   STR("{\"name\":\"t\",\"model\":{\"id\":\"script/echo\",\"speed\":\"standard\"},"
                       "\"system\":null,\"tools\":[{\"type\":\"agent_toolset_20260401\","
                       "\"default_config\":{\"enabled\":true,\"permission_policy\":{\"type\":"
                       "\"always_allow\"}},\"configs\":[]}]}"),
                   &agent, err),
        0);
    turn_init(&p.turn, &agent, id_from(STR("sesn_1")), id_from(STR("sthr_1")));
    int rc = 0;
    for (const enum act *act = paths[scene->last]; rc == 0 && *act != ACTS; act++) {
        bool bound = *act == scene->last;
        if (bound && scene->what == PROMPT)
            p.turn.prompt.messages.max = p.turn.prompt.messages.len + max_bytes;
        if (bound && scene->what == CALLS)
            p.turn.calls_arena.max_bytes = p.turn.calls_arena.used_bytes + max_bytes;
        rc = one_act(&p, *act, bound && scene->what == STEP ? max_bytes : 1 << 20, err);
        if (!bound)
            assert_int_equal(rc, 0);
    }
    struct str messages;
    if (rc == 0)
        rc = prompt_messages(&p.turn.prompt, &messages, err);
    turn_fini(&p.turn);
    arena_reset(&kept);
    return rc;
}

static void a_step_that_does_not_fit_fails_as_a_whole(void **state)
{
    (void)state;
    for (enum act last = SAY; last < ACTS; last++) {
        struct scene scene = {last, STEP};
        assert_true(fault_bounds(play, &scene, 1, 1 << 16) > 0);
    }
}

static void a_turn_whose_conversation_is_full_says_so(void **state)
{
    (void)state;
    static const enum act growing[] = {SAY, ANSWER_CALL, RESULT, ANSWER_TEXT};
    for (size_t i = 0; i < COUNT_OF(growing); i++) {
        struct scene scene = {growing[i], PROMPT};
        assert_true(fault_bounds(play, &scene, 1, 1 << 16) > 0);
    }
}

static void tool_inputs_that_do_not_fit_fail_the_step(void **state)
{
    (void)state;
    struct scene scene = {ANSWER_CALL, CALLS};
    assert_true(fault_bounds(play, &scene, 1, 1 << 16) > 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(the_json_reader_says_when_its_arena_is_full),
        T(the_json_writer_stays_within_its_buffer),
        T(an_agent_that_does_not_fit_is_refused),
        T(an_environment_that_does_not_fit_is_refused),
        T(events_that_do_not_fit_are_refused),
        T(a_query_that_does_not_fit_is_refused),
        T(a_conversation_that_does_not_fit_is_refused),
        T(a_step_that_does_not_fit_fails_as_a_whole),
        T(a_turn_whose_conversation_is_full_says_so),
        T(tool_inputs_that_do_not_fit_fail_the_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
