/* The queues of self-hosted environments. */
#include "store_rig.h"

#include "store/work.h"

enum { TTL = 10 * 1000 * 1000, SECOND = 1000 * 1000 };

static struct id env;

static struct session_row add_session(void)
{
    if (!env.z[0] || t.err.code) {
        env = id_new("env");
        const struct environment_row row = {
            .id = env, .name = STR("e"), .body = STR("{}"), .created_us = 1, .updated_us = 1};
        OK(tx_environment_insert(&t.tx, WS, &row, &t.err));
    }
    struct session_row s = {.id = id_new("sesn"),
                            .workspace_id = t.ws,
                            .thread_id = id_new("sthr"),
                            .agent_id = id_new("agent"),
                            .agent_version = 1,
                            .environment_id = env,
                            .agent = STR("{}"),
                            .environment = STR("{\"type\":\"self_hosted\"}"),
                            .metadata = STR("{}"),
                            .status = SESSION_IDLE,
                            .created_us = 1,
                            .updated_us = 1};
    OK(tx_session_insert(&t.tx, &s, &t.err));
    OK(tx_work_ensure(&t.tx, s.key, 1, NULL, &t.err));
    return s;
}

static int begin(void **state)
{
    env = (struct id){0};
    return setup(state);
}

static int offer(int64_t now_us, unsigned char tag, struct work_row *out)
{
    struct work_offer how = {.environment = id_str(&env),
                             .now_us = now_us,
                             .reclaim_us = now_us - 5 * SECOND,
                             .worker = STR("w")};
    memset(how.hash, tag, sizeof how.hash);
    return tx_work_offer(&t.tx, &how, &t.a, out, &t.err);
}

static struct work_token token(unsigned char tag)
{
    struct work_token out = {0};
    unsigned char hash[32];
    memset(hash, tag, sizeof hash);
    OK(tx_work_token(&t.tx, hash, &out, &t.err));
    return out;
}

static struct work_row only_item(void)
{
    struct work_row *rows;
    size_t n;
    bool more;
    OK(tx_work_list(&t.tx, id_str(&env), &(struct page){.limit = 10, .desc = true}, &t.a, &rows, &n,
                    &more, &t.err));
    assert_int_equal(n, 1);
    return rows[0];
}

/* The session's log: one call of bash that this permission lets wait, and the idle after it. */
static struct id wait_for_call(struct session_row *s, const char *permission)
{
    struct id use = id_new("sevt"), idle = id_new("sevt");
    AUTO_BUF struct buf body = BUF_INIT(1024), reason = BUF_INIT(1024);
    buf_printf(&body, "{\"id\":\"%s\",\"name\":\"bash\",\"evaluated_permission\":\"%s\"}", use.z,
               permission);
    buf_printf(&reason, "{\"type\":\"requires_action\",\"event_ids\":[\"%s\"]}", use.z);
    const struct event events[] = {
        {.seq = s->last_seq + 1,
         .id = use,
         .type = EVENT_AGENT_TOOL_USE,
         .processed_us = 10,
         .body = buf_view(&body)},
        {.seq = s->last_seq + 2,
         .id = idle,
         .type = EVENT_SESSION_STATUS_IDLE,
         .processed_us = 11,
         .body = STR("{}")},
    };
    const struct session_append ap = {.key = s->key,
                                      .base_seq = s->last_seq,
                                      .events = events,
                                      .nevents = 2,
                                      .set_status = true,
                                      .status = SESSION_IDLE,
                                      .stop_reason = buf_view(&reason),
                                      .updated_us = 11};
    OK(tx_session_append(&t.tx, &ap, &t.err));
    s->last_seq += 2;
    return use;
}

static struct work_row take(int64_t now_us, unsigned char tag)
{
    struct work_row row;
    OK(offer(now_us, tag, &row));
    OK(tx_work_ack(&t.tx, &row, now_us, TTL, &t.err));
    OK(tx_work_beat(&t.tx, &row, now_us, TTL, &t.err));
    return row;
}

static enum work_trouble trouble(void)
{
    struct work_trouble_row *rows;
    size_t n;
    OK(tx_work_troubles(&t.tx, 10, &t.a, &rows, &n, &t.err));
    for (size_t i = 0; i < n; i++)
        OK(tx_work_told(&t.tx, &rows[i], &t.err));
    return n ? rows[n - 1].trouble : WORK_FINE;
}

static size_t sweep(int64_t now_us)
{
    struct id envs[8];
    size_t n;
    OK(tx_work_sweep(&t.tx, now_us, 0, envs, COUNT_OF(envs), &n, &t.err));
    return n;
}

static void an_item_is_offered_once_until_its_offer_is_old(void **state)
{
    (void)state;
    struct work_row row, other;
    bool waits;
    add_session();
    OK(offer(10 * SECOND, 1, &row));
    assert_int_equal(row.state, WORK_QUEUED);
    assert_int_equal(offer(11 * SECOND, 2, &other), ERR_NOT_FOUND);
    OK(tx_work_waits(&t.tx, id_str(&env), 9 * SECOND, &waits, &t.err));
    assert_false(waits);
    OK(offer(16 * SECOND, 2, &other));
    assert_true(str_eq(id_str(&row.id), id_str(&other.id)));
    assert_false(token(1).current);
    assert_true(token(2).live);
}

static void the_oldest_item_is_offered_first(void **state)
{
    (void)state;
    struct session_row one = add_session(), two = add_session();
    struct work_row row;
    OK(offer(10 * SECOND, 1, &row));
    assert_string_equal(row.session_id.z, one.id.z);
    OK(offer(10 * SECOND, 2, &row));
    assert_string_equal(row.session_id.z, two.id.z);
}

static void an_offer_that_reached_nobody_goes_to_the_next_at_once(void **state)
{
    (void)state;
    struct work_row row, again;
    add_session();
    OK(offer(10 * SECOND, 1, &row));
    OK(tx_work_withdraw(&t.tx, &row, &t.err));
    OK(offer(10 * SECOND, 2, &again));
    OK(tx_work_withdraw(&t.tx, &row, &t.err)); /* late: it is another's offer by now */
    assert_int_equal(offer(10 * SECOND, 3, &row), ERR_NOT_FOUND);
}

static void a_session_has_one_item_and_a_stopped_one_is_replaced(void **state)
{
    (void)state;
    struct session_row s = add_session();
    bool added = true, queued;
    OK(tx_work_ensure(&t.tx, s.key, 2, &added, &t.err));
    assert_false(added);
    struct work_row row = take(10, 1);
    OK(tx_work_stop(&t.tx, &row, true, 20, &queued, &t.err));
    assert_int_equal(row.state, WORK_STOPPED);
    assert_false(queued);
    assert_false(token(1).live);
    OK(tx_work_ensure(&t.tx, s.key, 30, &added, &t.err));
    assert_true(added);
}

static void a_lease_that_ran_out_is_queued_again_and_told(void **state)
{
    (void)state;
    struct session_row s = add_session();
    wait_for_call(&s, "allow");
    struct work_row row = take(SECOND, 1);
    bool due;
    OK(tx_work_due(&t.tx, row.lease_until_us - 1, &due, &t.err));
    assert_false(due);
    assert_int_equal(sweep(row.lease_until_us - 1), 0);
    assert_int_equal(sweep(row.lease_until_us), 1);
    assert_int_equal(trouble(), WORK_LOST);
    row = only_item();
    assert_int_equal(row.state, WORK_QUEUED);
    assert_int_equal(row.heartbeat_us, 0);
    assert_false(token(1).current);
}

static void a_lost_worker_of_a_session_that_rests_is_no_trouble(void **state)
{
    (void)state;
    add_session();
    struct work_row row = take(SECOND, 1);
    assert_int_equal(sweep(row.lease_until_us), 0);
    assert_int_equal(trouble(), WORK_FINE);
    assert_int_equal(only_item().state, WORK_STOPPED);
}

static void after_three_stops_without_an_answer_it_waits_for_a_client(void **state)
{
    (void)state;
    struct session_row s = add_session();
    bool queued = false, added = false;
    wait_for_call(&s, "allow");
    for (int i = 1; i <= WORK_FAILURES_MAX; i++) {
        struct work_row row = take(i * SECOND, (unsigned char)i);
        OK(tx_work_stop(&t.tx, &row, true, i * SECOND, &queued, &t.err));
        assert_int_equal(queued, i < WORK_FAILURES_MAX);
        assert_int_equal(trouble(), queued ? WORK_DROPPED : WORK_GIVEN_UP);
    }
    OK(tx_work_want(&t.tx, s.key, 9 * SECOND, &t.err)); /* as the error's own commit does */
    struct work_row row;
    assert_int_equal(offer(9 * SECOND, 9, &row), ERR_NOT_FOUND);
    OK(tx_work_ensure(&t.tx, s.key, 9 * SECOND, &added, &t.err));
    assert_true(added);
    OK(offer(9 * SECOND, 9, &row));
    assert_int_equal(row.failures, 0);
}

static void an_answer_in_between_forgives(void **state)
{
    (void)state;
    struct session_row s = add_session();
    bool queued = false;
    wait_for_call(&s, "allow");
    for (int i = 1; i <= 2 * WORK_FAILURES_MAX; i++) {
        struct work_row row = take(i * SECOND, (unsigned char)i);
        OK(tx_work_stop(&t.tx, &row, true, i * SECOND, &queued, &t.err));
        assert_true(queued);
        OK(tx_work_ensure(&t.tx, s.key, i * SECOND, NULL, &t.err));
    }
}

static void a_call_that_waits_for_its_confirmation_needs_no_hands_yet(void **state)
{
    (void)state;
    struct session_row s = add_session();
    bool queued = true;
    struct id use = wait_for_call(&s, "ask");
    struct work_row row = take(SECOND, 1);
    OK(tx_work_stop(&t.tx, &row, true, SECOND, &queued, &t.err));
    assert_false(queued);
    AUTO_BUF struct buf body = BUF_INIT(1024), reason = BUF_INIT(1024);
    buf_printf(&body, "{\"tool_use_id\":\"%s\",\"result\":\"allow\"}", use.z);
    buf_printf(&reason, "{\"type\":\"requires_action\",\"event_ids\":[\"%s\"]}", use.z);
    const struct event e = {.seq = s.last_seq + 1,
                            .id = id_new("sevt"),
                            .type = EVENT_USER_TOOL_CONFIRMATION,
                            .processed_us = 12,
                            .body = buf_view(&body)};
    const struct session_append ap = {.key = s.key,
                                      .base_seq = s.last_seq,
                                      .events = &e,
                                      .nevents = 1,
                                      .set_status = true,
                                      .status = SESSION_IDLE,
                                      .stop_reason = buf_view(&reason),
                                      .work = true,
                                      .updated_us = 12};
    OK(tx_session_append(&t.tx, &ap, &t.err));
    row = take(2 * SECOND, 2);
    OK(tx_work_stop(&t.tx, &row, true, 2 * SECOND, &queued, &t.err));
    assert_true(queued);
}

static void the_end_of_a_session_reaches_its_worker(void **state)
{
    (void)state;
    struct session_row held = add_session(), idle = add_session(), gone = add_session();
    struct work_row one = take(SECOND, 1), two, three;
    OK(tx_work_end(&t.tx, held.key, 2 * SECOND, &t.err));
    OK(tx_work_end(&t.tx, idle.key, 2 * SECOND, &t.err));
    OK(tx_work_get(&t.tx, id_str(&env), id_str(&one.id), &t.a, &one, &t.err));
    assert_int_equal(one.state, WORK_STOPPING);
    assert_true(token(1).live);
    two = take(2 * SECOND, 2); /* the second one left the queue */
    assert_string_equal(two.session_id.z, gone.id.z);
    OK(tx_session_delete(&t.tx, gone.key, &t.err));
    OK(tx_work_get(&t.tx, id_str(&env), id_str(&two.id), &t.a, &three, &t.err));
    assert_int_equal(three.state, WORK_STOPPING);
    assert_int_equal(three.session_key, 0);
    assert_true(token(2).current);
    assert_false(token(2).live);
    assert_int_equal(sweep(two.lease_until_us), 0);
    OK(tx_work_get(&t.tx, id_str(&env), id_str(&two.id), &t.a, &three, &t.err));
    assert_int_equal(three.state, WORK_STOPPED);
}

static void stats_tell_what_waits_and_what_was_offered(void **state)
{
    (void)state;
    struct work_stats st;
    struct work_row row;
    add_session();
    add_session();
    OK(offer(SECOND, 1, &row));
    OK(tx_work_stats(&t.tx, id_str(&env), &st, &t.err));
    assert_int_equal(st.depth, 1);
    assert_int_equal(st.pending, 1);
    assert_int_equal(st.oldest_us, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, teardown)
        TEST(an_item_is_offered_once_until_its_offer_is_old),
        TEST(the_oldest_item_is_offered_first),
        TEST(an_offer_that_reached_nobody_goes_to_the_next_at_once),
        TEST(a_session_has_one_item_and_a_stopped_one_is_replaced),
        TEST(a_lease_that_ran_out_is_queued_again_and_told),
        TEST(a_lost_worker_of_a_session_that_rests_is_no_trouble),
        TEST(after_three_stops_without_an_answer_it_waits_for_a_client),
        TEST(an_answer_in_between_forgives),
        TEST(a_call_that_waits_for_its_confirmation_needs_no_hands_yet),
        TEST(the_end_of_a_session_reaches_its_worker),
        TEST(stats_tell_what_waits_and_what_was_offered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
