/* A log as the beginning of another session's. */
#include "store_rig.h"

#include "store/fork.h"

static struct session_row from, to;

static struct event event(int64_t seq, enum event_type type, struct str body, struct str transcript)
{
    return (struct event){.seq = seq,
                          .type = type,
                          .id = id_new("sevt"),
                          .processed_us = 100 + seq,
                          .body = body,
                          .transcript = transcript};
}

static struct str with_thread(const char *format)
{
    return arena_printf(&t.a, "{\"x\":\"%s\",\"session_thread_id\":\"%s\"}", format,
                        from.thread_id.z);
}

static struct event log_of[6];

static int setup_log(void **state)
{
    setup(state);
    from = a_session();
    to = a_session();
    const struct event events[] = {
        event(1, EVENT_SESSION_STATUS_RUNNING, STR("{}"), STR_NONE),
        event(2, EVENT_SESSION_THREAD_STATUS_RUNNING, with_thread("a"), STR_NONE),
        event(3, EVENT_AGENT_TOOL_USE, with_thread("an input that looks like it"), STR_NONE),
        event(4, EVENT_AGENT_THINKING, STR("{}"), str_n("a\0\xff", 3)),
        event(5, EVENT_USER_TOOL_CONFIRMATION,
              arena_printf(&t.a,
                           "{\"deny_message\":\"\\\"session_thread_id\\\":\\\"%s\\\"\","
                           "\"session_thread_id\":\"%s\"}",
                           from.thread_id.z, from.thread_id.z),
              STR_NONE),
        event(6, EVENT_AGENT_MESSAGE, STR("{}"), STR("later")),
    };
    memcpy(log_of, events, sizeof events);
    const struct session_append ap = {.key = from.key, .events = log_of, .nevents = 6};
    OK(tx_session_append(&t.tx, &ap, &t.err));
    return 0;
}

static struct event *list(int64_t key, size_t *n)
{
    struct event_filter all = {.transcript = true};
    struct event *events;
    bool more;
    OK(tx_event_list(&t.tx, key, &all, &t.a, &events, n, &more, &t.err));
    return events;
}

static struct fork_copy copy_up_to(int64_t seq)
{
    return (struct fork_copy){.from_key = from.key,
                              .to_key = to.key,
                              .seq = seq,
                              .from_thread = from.thread_id,
                              .to_thread = to.thread_id};
}

static void a_log_is_copied_byte_for_byte_but_for_its_thread(void **state)
{
    (void)state;
    const struct fork_copy f = copy_up_to(5);
    size_t n;
    OK(tx_fork_log(&t.tx, &f, &t.err));
    struct event *copy = list(to.key, &n);
    assert_int_equal(n, 5);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(copy[i].seq, log_of[i].seq);
        assert_int_equal(copy[i].type, log_of[i].type);
        assert_string_equal(copy[i].id.z, log_of[i].id.z);
        assert_int_equal(copy[i].processed_us, log_of[i].processed_us);
        assert_true(str_eq(copy[i].transcript, log_of[i].transcript));
        bool changed = i == 1 || i == 4;
        assert_int_equal(str_eq(copy[i].body, log_of[i].body), !changed);
        assert_int_equal(copy[i].body.len, log_of[i].body.len);
    }
    assert_true(
        str_eq(copy[1].body,
               arena_printf(&t.a, "{\"x\":\"a\",\"session_thread_id\":\"%s\"}", to.thread_id.z)));
    /* What a client wrote is not touched, whatever it looks like. */
    assert_true(str_eq(copy[4].body,
                       arena_printf(&t.a,
                                    "{\"deny_message\":\"\\\"session_thread_id\\\":\\\"%s\\\"\","
                                    "\"session_thread_id\":\"%s\"}",
                                    from.thread_id.z, to.thread_id.z)));
    struct event *original = list(from.key, &n);
    assert_int_equal(n, 6);
    for (size_t i = 0; i < n; i++)
        assert_true(str_eq(original[i].body, log_of[i].body));
}

static void what_is_copied_outlives_the_original(void **state)
{
    (void)state;
    const struct fork_copy f = copy_up_to(6);
    size_t n;
    OK(tx_fork_log(&t.tx, &f, &t.err));
    OK(tx_session_delete(&t.tx, from.key, &t.err));
    struct event *copy = list(to.key, &n);
    assert_int_equal(n, 6);
    assert_true(str_eqz(copy[5].transcript, "later"));
}

static void nothing_is_copied_of_a_session_that_is_gone(void **state)
{
    (void)state;
    const struct fork_copy f = copy_up_to(6), none = copy_up_to(0);
    OK(tx_session_delete(&t.tx, from.key, &t.err));
    assert_int_equal(tx_fork_log(&t.tx, &f, &t.err), ERR_NOT_FOUND);
    OK(tx_fork_log(&t.tx, &none, &t.err));
}

static void a_session_says_where_it_comes_from(void **state)
{
    (void)state;
    struct session_row got;
    struct id id;
    OK(tx_session_get(&t.tx, WS, id_str(&to.id), &t.a, &got, &t.err));
    assert_false(str_some(got.forked_from));
    OK(tx_fork_origin(&t.tx, to.key, STR("{\"session_id\":\"x\"}"), &t.err));
    OK(tx_session_get(&t.tx, WS, id_str(&to.id), &t.a, &got, &t.err));
    assert_true(str_eqz(got.forked_from, "{\"session_id\":\"x\"}"));
    OK(tx_fork_event(&t.tx, from.key, 3, &id, &t.err));
    assert_string_equal(id.z, log_of[2].id.z);
    OK(tx_fork_event(&t.tx, from.key, 0, &id, &t.err));
    assert_string_equal(id.z, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup_log, teardown)
        T(a_log_is_copied_byte_for_byte_but_for_its_thread),
        T(what_is_copied_outlives_the_original),
        T(nothing_is_copied_of_a_session_that_is_gone),
        T(a_session_says_where_it_comes_from),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
