#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "json/json.h"
#include "model/script.h"
#include "model/script_run.h"

/* ---- running one script text against one request ---- */

struct ran {
    struct arena arena;
    struct script_reply reply;
    struct err err;
    int rc;
};

static const struct model_request nothing = {.model = {"script/test", 11}, .messages = {"[]", 2}};

static void run(struct ran *t, const char *source, const struct model_request *req)
{
    *t = (struct ran){0};
    arena_init(&t->arena, 1 << 28);
    t->rc = script_run(STR("test"), str_z(source), req, &t->arena, &t->reply, &t->err);
}

static void ran_fini(struct ran *t)
{
    arena_fini(&t->arena);
}

static struct str builtin(const char *name)
{
    for (size_t i = 0; i < script_nbuiltins; i++) {
        if (str_eqz(script_builtins[i].name, name))
            return script_builtins[i].text;
    }
    fail_msg("no script %s", name);
    return STR_NONE;
}

/* ---- answers ---- */

static void a_string_is_a_text(void **state)
{
    (void)state;
    struct ran t;
    run(&t, "return function() return 'hello' end", &nothing);
    assert_int_equal(t.rc, 0);
    assert_int_equal(t.reply.nblocks, 1);
    assert_true(str_eqz(t.reply.blocks[0].text, "hello"));
    assert_int_equal(t.reply.stop, MODEL_STOP_END);
    assert_int_equal(t.reply.usage.input_tokens, 1);
    assert_int_equal(t.reply.usage.output_tokens, 2);
    ran_fini(&t);
}

static void a_table_says_everything_there_is(void **state)
{
    (void)state;
    struct ran t;
    run(&t,
        "return function() return {thinking='hm \"x\"', text='t', delay_ms=5, chunks=3,"
        " tools={{name='bash', input={command='ls', b={1,2.5,json.null}, a=json.array{}, c={}}},"
        "        {name='raw', input='{\"k\": 1.0'}, {name='none'}},"
        " usage={input_tokens=1, output_tokens=2, cache_read_input_tokens=3,"
        "        cache_creation_input_tokens=4}} end",
        &nothing);
    assert_int_equal(t.rc, 0);
    const struct model_block *b = t.reply.blocks;
    assert_int_equal(t.reply.nblocks, 5);
    assert_true(str_eqz(b[0].raw,
                        "{\"type\":\"thinking\",\"thinking\":\"hm \\\"x\\\"\",\"signature\":"
                        "\"script\"}"));
    assert_true(str_eqz(b[1].text, "t"));
    assert_true(str_eqz(b[2].input, "{\"a\":[],\"b\":[1,2.5,null],\"c\":{},\"command\":\"ls\"}"));
    assert_false(b[2].input_malformed);
    assert_true(str_eqz(b[3].input, "{\"k\": 1.0"));
    assert_true(b[3].input_malformed);
    assert_true(str_eqz(b[4].input, "{}"));
    assert_int_equal(t.reply.stop, MODEL_STOP_TOOL_USE);
    assert_int_equal(t.reply.usage.cache_write_5m_tokens, 4);
    assert_int_equal(t.reply.usage.cost_microusd, 0);
    assert_int_equal(t.reply.delay_ms, 5);
    ran_fini(&t);
}

static void errors_refusals_and_stops_can_be_played(void **state)
{
    (void)state;
    struct ran t;
    run(&t,
        "return function() return {text='a', error={kind='rate_limited', message='slow down',"
        " http_status=429, retry_after_ms=1500}} end",
        &nothing);
    assert_int_equal(t.rc, 0);
    assert_true(t.reply.failing);
    assert_int_equal(t.reply.failure.kind, MODEL_ERR_RATE_LIMITED);
    assert_int_equal(t.reply.failure.http_status, 429);
    assert_int_equal(t.reply.failure.retry_after_ms, 1500);
    assert_string_equal(t.reply.failure.message, "slow down");
    ran_fini(&t);
    run(&t, "return function() return {refusal={category='cyber'}} end", &nothing);
    assert_int_equal(t.reply.stop, MODEL_STOP_REFUSAL);
    assert_true(str_eqz(t.reply.refusal_category, "cyber"));
    assert_false(str_some(t.reply.refusal_explanation));
    ran_fini(&t);
    run(&t, "return function() return {stop='max_tokens', text=('\\xc3\\xbc'):sub(1,1)} end",
        &nothing);
    assert_int_equal(t.reply.stop, MODEL_STOP_MAX_TOKENS);
    assert_true(str_eqz(t.reply.blocks[0].text, "\xef\xbf\xbd"));
    ran_fini(&t);
}

static void what_is_wrong_with_a_script_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *source, *has;
    } cases[] = {
        {"retrun 1", "test.lua:1"},
        {"return 1", "must return a function"},
        {"return function() error('boom') end", "test.lua:1: boom"},
        {"return function() error({}) end", "without a message"},
        {"return function() end", "returned a nil"},
        {"return function() return {txet='x'} end", "unknown field 'txet'"},
        {"return function() return {'x'} end", "unknown field"},
        {"return function() return {text={}} end", "'text' must be a string"},
        {"return function() return {tools={{}}} end", "needs a 'name'"},
        {"return function() return {tools={1}} end", "each of 'tools'"},
        {"return function() return {tools={{name='x',input={[1]=1,y=2}}}} end", "strings as keys"},
        {"return function() return {tools={{name='x',input={f=print or pairs}}}} end",
         "cannot hold a function"},
        {"return function() return {tools={{name='x',input={n=0/0}}}} end", "no such number"},
        {"return function() local t={} t.t=t return {tools={{name='x',input=t}}} end", "inside "
                                                                                       "itself"},
        {"return function() return {stop='now'} end", "cannot be 'now'"},
        {"return function() return {error={kind='odd'}} end", "cannot be 'odd'"},
        {"return function() return {delay_ms=-1} end", "'delay_ms' must be"},
        {"return function(r) return r.nonsense end", "no field 'nonsense'"},
        {"\x1bLua", "attempt to load a binary chunk"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct ran t;
        run(&t, cases[i].source, &nothing);
        assert_int_equal(t.rc, ERR_INVALID);
        if (!strstr(t.err.msg, cases[i].has))
            print_error("%s: %s\n", cases[i].source, t.err.msg);
        assert_non_null(strstr(t.err.msg, cases[i].has));
        ran_fini(&t);
    }
}

/* ---- bounds ---- */

static void no_script_runs_or_grows_without_end(void **state)
{
    (void)state;
    static const struct {
        const char *source, *has;
    } cases[] = {
        {"while true do end", "instructions"},
        {"return function() while true do end end", "instructions"},
        {"return function() while true do pcall(function() while true do end end) end end",
         "instructions"},
        {"local function f() return f() end return f", "instructions"},
        {"local function f() return 1 + f() end return f", "stack overflow"},
        {"return function() local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end end",
         "MiB"},
        {"return function() return ('x'):rep(1 << 40) end", "too large"},
        {"return function() return ('x'):rep(1 << 28) end", "MiB"},
        {"return function() for i = 1, 1e6 do local s = ('x'):rep(1 << 25) .. i end end", "MiB"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct ran t;
        run(&t, cases[i].source, &nothing);
        assert_int_equal(t.rc, ERR_INVALID);
        if (!strstr(t.err.msg, cases[i].has))
            print_error("%s: %s\n", cases[i].source, t.err.msg);
        assert_non_null(strstr(t.err.msg, cases[i].has));
        ran_fini(&t);
    }
}

static void nothing_outside_can_be_reached(void **state)
{
    (void)state;
    static const char *const names[] = {"io",
                                        "os",
                                        "package",
                                        "debug",
                                        "require",
                                        "dofile",
                                        "loadfile",
                                        "load",
                                        "print",
                                        "coroutine",
                                        "collectgarbage",
                                        "next",
                                        "math.random",
                                        "math.randomseed",
                                        "string.dump"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        AUTO_BUF struct buf source = BUF_INIT(1000);
        buf_printf(&source, "return function() return tostring(%s) end", names[i]);
        struct ran t;
        run(&t, source.data, &nothing);
        assert_int_equal(t.rc, 0);
        assert_true(str_eqz(t.reply.blocks[0].text, "nil"));
        ran_fini(&t);
    }
    struct ran t;
    run(&t, "return function() setmetatable({}, {__gc=function() while true do end end}) end",
        &nothing);
    assert_non_null(strstr(t.err.msg, "finalizers"));
    ran_fini(&t);
}

static void pairs_goes_in_order(void **state)
{
    (void)state;
    struct ran t;
    run(&t,
        "return function() local t, out = {z=1, a=2, [10]=3, [2]=4, m=5}, {} "
        "for k, v in pairs(t) do out[#out+1] = k .. '=' .. v end return table.concat(out, ' ') end",
        &nothing);
    assert_int_equal(t.rc, 0);
    assert_true(str_eqz(t.reply.blocks[0].text, "2=4 10=3 a=2 m=5 z=1"));
    ran_fini(&t);
}

/* ---- the request ---- */

#define USER(text) "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"" text "\"}]}"
#define USE(id, cmd)                                                                               \
    "{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"" id                     \
    "\",\"name\":\"bash\",\"input\":{\"command\":\"" cmd "\"}}]}"
#define RESULT(id, text)                                                                           \
    "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"" id              \
    "\",\"content\":[{\"type\":\"text\",\"text\":\"" text "\"}],\"is_error\":true}]}"

static const struct model_request conversation = {
    .model = {"script/test", 11},
    .system = {"[{\"type\":\"text\",\"text\":\"be\"},{\"type\":\"text\",\"text\":\"kind\"}]", 58},
    .tools = {"[{\"name\":\"bash\"},{\"name\":\"read\"}]", 34},
    .messages =
        {"[" USER("one") "," USE("t0", "old") "," RESULT("t0", "gone") "," USER("two") "," USE(
             "t1", "ls") "," RESULT("t1", "a b") "," USE("t2", "wc") "," RESULT("t2", "7") "]",
         0},
    .session_id = {"sesn_1", 6},
    .request_number = 9,
};

static void a_request_shows_the_conversation(void **state)
{
    (void)state;
    struct model_request req = conversation;
    req.messages = str_z(req.messages.ptr);
    req.system = str_z(req.system.ptr);
    req.tools = str_z(req.tools.ptr);
    struct ran t;
    run(&t,
        "return function(r) return table.concat({r.model, r.session_id, r.request_number, r.turn,"
        " r.text, r.system, table.concat(r.tools, ','), #r.messages, r.last.role, #r.calls,"
        " r.calls[1].input.command, r.calls[1].content, tostring(r.calls[2].is_error),"
        " #r.results, r.results[1].name, r.results[1].content,"
        " json.encode(r.messages[1])}, '|') end",
        &req);
    if (t.rc)
        print_error("%s\n", t.err.msg);
    assert_int_equal(t.rc, 0);
    assert_string_equal(
        t.reply.blocks[0].text.ptr,
        "script/test|sesn_1|9|2|two|be\nkind|bash,read|8|user|2|ls|a b|true|1|bash|7|"
        "{\"content\":[{\"text\":\"one\",\"type\":\"text\"}],\"role\":\"user\"}");
    ran_fini(&t);
}

static void content_may_be_a_string_or_empty_or_odd(void **state)
{
    (void)state;
    static const char *const odd[] = {
        "[]",
        "{}",
        "[1,null,\"x\"]",
        "[{\"role\":\"user\",\"content\":\"\"}]",
        "[{\"role\":\"user\",\"content\":[]}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\"}]}]",
        "[{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\"}]}]",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"x\","
        "\"content\":null}]}]",
    };
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        struct model_request req = nothing;
        req.messages = str_z(odd[i]);
        struct ran t;
        run(&t,
            "return function(r) local l = r.last return #r.calls + #r.results + r.turn .. r.text "
            "end",
            &req);
        if (t.rc)
            print_error("%s: %s\n", odd[i], t.err.msg);
        assert_int_equal(t.rc, 0);
        ran_fini(&t);
    }
    struct model_request req = nothing;
    req.messages = STR("[");
    struct ran t;
    run(&t, "return function(r) return r.text end", &req);
    assert_non_null(strstr(t.err.msg, "cannot be read"));
    ran_fini(&t);
}

static void what_the_operator_says_in_between_is_seen_but_is_no_turn(void **state)
{
    (void)state;
    struct model_request req = nothing;
    req.messages = STR("[" USER("one") ",{\"role\":\"system\",\"content\":[{\"type\":\"text\","
                                       "\"text\":\"be kind\"}]}]");
    req.max_tokens = 77;
    struct ran t;
    run(&t,
        "return function(r) return r.turn .. r.text .. r.last.role .. r.last.content[1].text .. "
        "r.purpose .. r.max_tokens .. tostring(aside(r)) end",
        &req);
    assert_int_equal(t.rc, 0);
    assert_string_equal(t.reply.blocks[0].text.ptr, "1onesystembe kindturn77nil");
    ran_fini(&t);
}

/* ---- built-in scripts ---- */

static void run_builtin_for(struct ran *t, const char *name, const char *messages,
                            enum model_purpose purpose)
{
    struct model_request req = nothing;
    req.messages = str_z(messages);
    req.purpose = purpose;
    *t = (struct ran){0};
    arena_init(&t->arena, 1 << 28);
    t->rc = script_run(str_z(name), builtin(name), &req, &t->arena, &t->reply, &t->err);
    if (t->rc)
        print_error("%s: %s\n", name, t->err.msg);
    assert_int_equal(t->rc, 0);
}

static void run_builtin(struct ran *t, const char *name, const char *messages)
{
    run_builtin_for(t, name, messages, MODEL_FOR_TURN);
}

static void the_small_scripts_do_what_they_say(void **state)
{
    (void)state;
    struct ran t;
    run_builtin(&t, "instant", "[" USER("hello") "]");
    assert_string_equal(t.reply.blocks[0].text.ptr, "ok");
    ran_fini(&t);
    run_builtin(&t, "echo", "[" USER("gr\xc3\xbc\xc3\x9f dich") "]");
    assert_string_equal(t.reply.blocks[0].text.ptr, "gr\xc3\xbc\xc3\x9f dich");
    ran_fini(&t);
    run_builtin(&t, "tool", "[" USER("please run: echo hi; true") "]");
    assert_string_equal(t.reply.blocks[0].name.ptr, "bash");
    assert_string_equal(t.reply.blocks[0].input.ptr, "{\"command\":\"echo hi; true\"}");
    ran_fini(&t);
    run_builtin(&t, "tool", "[" USER("run: x") "," USE("t1", "x") "," RESULT("t1", "out") "]");
    assert_string_equal(t.reply.blocks[0].text.ptr, "error: out");
    ran_fini(&t);
    run_builtin(&t, "tool", "[" USER("hello") "]");
    assert_int_equal(t.reply.stop, MODEL_STOP_END);
    ran_fini(&t);
}

static void every_built_in_script_can_sum_up_and_judge(void **state)
{
    (void)state;
    static const char asked[] = "[" USER(
        "{\\\"calls\\\":[{\\\"call\\\":1,\\\"input\\\":\\\"ls\\\"},{\\\"call\\\":3,"
        "\\\"input\\\":\\\"a danger\\\"},{\\\"call\\\":4,\\\"input\\\":\\\"in doubt\\\"}]}") "]";
    for (size_t i = 0; i < script_nbuiltins; i++) {
        struct ran t;
        run_builtin_for(&t, script_builtins[i].name.ptr, asked, MODEL_FOR_JUDGE);
        assert_string_equal(t.reply.blocks[0].text.ptr,
                            "{\"verdicts\":[{\"call\":1,\"verdict\":\"allow\"},{\"call\":3,"
                            "\"verdict\":\"deny\"},{\"call\":4,\"verdict\":\"ask\"}]}");
        ran_fini(&t);
        run_builtin_for(&t, script_builtins[i].name.ptr, asked, MODEL_FOR_COMPACTION);
        assert_string_equal(t.reply.blocks[0].text.ptr, "A summary by a script, of 1 messages.");
        assert_int_equal(t.reply.nblocks, 1);
        ran_fini(&t);
    }
}

static void the_demo_begins_by_saying_that_it_is_a_script(void **state)
{
    (void)state;
    struct ran t;
    run_builtin(&t, "demo", "[" USER("improve it") "]");
    assert_non_null(strstr(t.reply.blocks[0].text.ptr, "not an AI"));
    assert_string_equal(t.reply.blocks[1].name.ptr, "grep");
    ran_fini(&t);
    /* elsewhere: looks around once, then ends and says why */
    run_builtin(&t, "demo", "[" USER("x") "," USE("t1", "grep") "," RESULT("t1", "no matches") "]");
    assert_string_equal(t.reply.blocks[1].name.ptr, "bash");
    ran_fini(&t);
    run_builtin(&t, "demo",
                "[" USER("x") "," USE("t1", "grep") "," RESULT("t1", "no matches") "," USE(
                    "t2", "ls") "," RESULT("t2", "a.c") "]");
    assert_int_equal(t.reply.nblocks, 1);
    assert_non_null(strstr(t.reply.blocks[0].text.ptr, "a.c"));
    ran_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_string_is_a_text),
        cmocka_unit_test(a_table_says_everything_there_is),
        cmocka_unit_test(errors_refusals_and_stops_can_be_played),
        cmocka_unit_test(what_is_wrong_with_a_script_is_said),
        cmocka_unit_test(no_script_runs_or_grows_without_end),
        cmocka_unit_test(nothing_outside_can_be_reached),
        cmocka_unit_test(pairs_goes_in_order),
        cmocka_unit_test(a_request_shows_the_conversation),
        cmocka_unit_test(content_may_be_a_string_or_empty_or_odd),
        cmocka_unit_test(the_small_scripts_do_what_they_say),
        cmocka_unit_test(what_the_operator_says_in_between_is_seen_but_is_no_turn),
        cmocka_unit_test(every_built_in_script_can_sum_up_and_judge),
        cmocka_unit_test(the_demo_begins_by_saying_that_it_is_a_script),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
