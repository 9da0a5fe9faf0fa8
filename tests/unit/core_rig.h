/* core_rig: drives the agent loop with inputs and reads the events it leaves.
 *
 * After every step the whole log is folded into a second turn, which must come out equal: replay is
 * the same code path as the first run. For test programs of core/ only. */
#ifndef OSTLER_TESTS_CORE_RIG_H
#define OSTLER_TESTS_CORE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/turn.h"
#include "json/writer.h"

#include <stdio.h>
#include <stdlib.h>

enum { LOG_MAX = 512 };

struct rig {
    struct arena arena; /* everything the rig keeps */
    struct agent agent;
    struct turn turn;
    struct list inbox, taken;
    struct event log[LOG_MAX];
    size_t nlog;
    struct turn_step step; /* the last one */
    int64_t now_us, number;
    size_t shown; /* events already compared by expect() */
};

static const char plain_agent[] =
    "{\"name\":\"tester\",\"model\":{\"id\":\"script/echo\",\"speed\":\"standard\"},"
    "\"system\":\"Be brief.\",\"tools\":[{\"type\":\"agent_toolset_20260401\",\"default_config\":"
    "{\"enabled\":true,\"permission_policy\":{\"type\":\"always_allow\"}},\"configs\":[{\"name\":"
    "\"write\",\"type\":\"write\",\"enabled\":true,\"permission_policy\":{\"type\":\"always_ask\"}}"
    ","
    "{\"name\":\"glob\",\"type\":\"glob\",\"enabled\":false,\"permission_policy\":{\"type\":"
    "\"always_allow\"}}]},{\"type\":\"custom\",\"name\":\"lookup\",\"description\":\"d\","
    "\"input_schema\":{\"type\":\"object\"}}]}";

static inline void counting_fill(void *self, void *p, size_t n)
{
    static unsigned char c;
    (void)self;
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)p)[i] = i + 1 == n ? ++c : 7;
}

static const struct rand_port counting = {.fill = counting_fill};

static inline int setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    arena_init(&r->arena, 64 << 20);
    struct err err;
    if (agent_read(&r->arena, str_z(plain_agent), &r->agent, &err))
        return -1;
    turn_init(&r->turn, &r->agent, id_from(STR("sesn_1")), id_from(STR("sthr_1")));
    list_init(&r->inbox);
    list_init(&r->taken);
    r->now_us = 1700000000000000;
    *state = r;
    return 0;
}

static inline void drain(struct list *l)
{
    struct list *it;
    while ((it = list_pop(l)))
        free(LIST_ENTRY(it, struct turn_input, link));
}

static inline int teardown(void **state)
{
    struct rig *r = *state;
    drain(&r->inbox);
    drain(&r->taken);
    turn_fini(&r->turn);
    arena_fini(&r->arena);
    free(r);
    return 0;
}

static inline struct str messages_of(struct turn *t)
{
    struct str out;
    struct err err;
    assert_int_equal(prompt_messages(&t->prompt, &out, &err), 0);
    return out;
}

/* Folds the log from its beginning and compares what matters for going on. */
static inline void check_replay_from(struct rig *r, size_t first)
{
    struct turn again;
    struct err err;
    turn_init(&again, &r->agent, r->turn.session_id, r->turn.thread_id);
    again.facts = r->turn.facts;
    again.caps = r->turn.caps;
    if (first) {
        assert_int_equal(turn_resume(&again, &r->log[first], &err), 0);
        again.usage = r->turn.usage;
    }
    for (size_t i = first; i < r->nlog; i++)
        assert_int_equal(turn_fold(&again, &r->log[i], &err), 0);
    assert_int_equal(turn_phase(&again), turn_phase(&r->turn));
    assert_int_equal(again.ncalls, r->turn.ncalls);
    for (size_t i = 0; i < again.ncalls; i++) {
        assert_int_equal(again.calls[i].state, r->turn.calls[i].state);
        assert_string_equal(again.calls[i].id.z, r->turn.calls[i].id.z);
        assert_true(str_eq(again.calls[i].input, r->turn.calls[i].input));
    }
    assert_int_equal(again.attempts, r->turn.attempts);
    assert_int_equal(again.rounds, r->turn.rounds);
    assert_int_equal(again.requests, r->turn.requests);
    assert_string_equal(again.stop_reason, r->turn.stop_reason);
    assert_int_equal(again.paused, r->turn.paused);
    assert_int_equal(again.compactions, r->turn.compactions);
    if (!first)
        assert_memory_equal(&again.usage, &r->turn.usage, sizeof again.usage);
    assert_true(str_eq(messages_of(&again), messages_of(&r->turn)));
    turn_fini(&again);
}

/* From the beginning, and from the last compaction, as a server loads it. */
static inline void check_replay(struct rig *r)
{
    check_replay_from(r, 0);
    for (size_t i = r->nlog; i > 1; i--)
        if (r->log[i - 1].type == EVENT_AGENT_THREAD_CONTEXT_COMPACTED) {
            check_replay_from(r, i - 1);
            break;
        }
}

static inline struct turn_step *begin(struct rig *r)
{
    r->now_us += 1000;
    r->step = (struct turn_step){.arena = &r->arena,
                                 .now_us = r->now_us,
                                 .rand = &counting,
                                 .inbox = &r->inbox,
                                 .taken = &r->taken};
    return &r->step;
}

/* A client's event got its id when it was accepted, a message or a thought when it was promised. */
static inline bool event_is_ours(enum event_type t)
{
    return strncmp(event_name(t), "user.", 5) != 0 && t != EVENT_AGENT_MESSAGE &&
           t != EVENT_AGENT_THINKING;
}

static inline void commit(struct rig *r)
{
    if (r->step.err_code)
        fail_msg("step failed: %s", r->step.err.msg);
    for (size_t i = 0; i < r->step.nevents; i++) {
        const struct event *e = &r->step.events[i];
        if (r->nlog) {
            assert_int_equal(e->seq, r->log[r->nlog - 1].seq + 1);
            assert_true(e->processed_us > r->log[r->nlog - 1].processed_us);
            if (event_is_ours(e->type) && event_is_ours(r->log[r->nlog - 1].type))
                assert_true(strcmp(e->id.z, r->log[r->nlog - 1].id.z) > 0);
        }
        assert_true(r->nlog < LOG_MAX);
        r->log[r->nlog++] = *e;
    }
    drain(&r->taken);
    check_replay(r);
}

static inline void queue(struct rig *r, enum event_type type, const char *rest)
{
    struct turn_input *in = calloc(1, sizeof *in);
    in->number = ++r->number;
    in->event.type = type;
    in->event.id = turn_new_id("sevt", r->now_us, &counting);
    in->event.body =
        arena_printf(&r->arena, "{\"id\":\"%s\",\"type\":\"%s\",\"processed_at\":null%s}",
                     in->event.id.z, event_name(type), rest);
    list_push(&r->inbox, &in->link);
}

static inline void say(struct rig *r, const char *text)
{
    char rest[256];
    snprintf(rest, sizeof rest, ",\"content\":[{\"type\":\"text\",\"text\":\"%s\"}]", text);
    queue(r, EVENT_USER_MESSAGE, rest);
}

static inline void take_inbox(struct rig *r)
{
    turn_inbox(&r->turn, begin(r));
    commit(r);
}

static inline void answer(struct rig *r, const struct model_block *blocks, size_t n)
{
    struct model_result res = {.blocks = blocks,
                               .nblocks = n,
                               .stop = MODEL_STOP_END,
                               .usage = {.input_tokens = 10, .output_tokens = 5}};
    turn_model_done(&r->turn, begin(r), &res, NULL, NULL);
    commit(r);
}

static inline void answer_text(struct rig *r, const char *text)
{
    struct model_block b = {.type = MODEL_TEXT, .text = str_z(text)};
    answer(r, &b, 1);
}

static inline void call_tool(struct rig *r, const char *name, const char *input)
{
    struct model_block b = {.type = MODEL_TOOL_USE, .name = str_z(name), .input = str_z(input)};
    answer(r, &b, 1);
}

static inline void result(struct rig *r, const char *text)
{
    struct tool_outcome o = {.content = str_z(text)};
    struct id id = r->turn.calls[0].id;
    turn_tool_done(&r->turn, begin(r), id_str(&id), &o);
    commit(r);
}

static inline void model_fails(struct rig *r, enum model_error_kind kind)
{
    struct model_failure f = {.kind = kind, .message = "no"};
    turn_model_failed(&r->turn, begin(r), &f);
    commit(r);
}

/* Compares the types of the events since the last call, as one line. */
static inline void expect(struct rig *r, const char *types)
{
    AUTO_BUF struct buf b = BUF_INIT(8192);
    for (; r->shown < r->nlog; r->shown++)
        buf_printf(&b, "%s%s", b.len ? " " : "", event_name(r->log[r->shown].type));
    assert_string_equal(b.len ? b.data : "", types);
}

static inline const char *last_body(const struct rig *r)
{
    return r->log[r->nlog - 1].body.ptr;
}

#define IDLE "session.thread_status_idle session.usage session.status_idle"
#define RUN "session.status_running session.thread_status_running"
#define START "span.model_request_start"
#define END "span.model_request_end"

#endif
