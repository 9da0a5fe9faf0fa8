/* The record of connections. */
#include "store_rig.h"

#include "base/limits.h"
#include "store/egress.h"

static struct session_row add_session(int64_t budget_microusd, struct str limits)
{
    struct session_row s = {.id = id_new("sesn"),
                            .workspace_id = t.ws,
                            .thread_id = id_new("sthr"),
                            .agent_id = id_new("agent"),
                            .agent_version = 1,
                            .environment_id = id_new("env"),
                            .agent = STR("{}"),
                            .environment = STR("{}"),
                            .metadata = STR("{}"),
                            .budget_microusd = budget_microusd,
                            .limits = limits,
                            .status = SESSION_IDLE,
                            .created_us = 1,
                            .updated_us = 1};
    OK(tx_session_insert(&t.tx, &s, &t.err));
    return s;
}

static void insert(const struct session_row *s, int64_t at_us, enum egress_outcome outcome)
{
    const struct egress_row row = {.at_us = at_us,
                                   .connect = true,
                                   .host = STR("ok.test"),
                                   .port = 443,
                                   .outcome = outcome,
                                   .reason = outcome ? STR("host_not_allowed") : STR_NONE};
    OK(tx_egress_insert(&t.tx, id_str(&s->id), &row, &t.err));
}

static struct egress_row *list(const struct session_row *s, int outcome, int64_t after,
                               int64_t limit, size_t *n, bool *more)
{
    struct egress_row *rows = NULL;
    OK(tx_egress_list(&t.tx, s->key, outcome, after, limit, &t.a, &rows, n, more, &t.err));
    return rows;
}

static void records_come_back_as_they_were_by_session_and_decision(void **state)
{
    (void)state;
    struct session_row one = add_session(0, STR_NONE), two = add_session(0, STR_NONE);
    size_t n = 0;
    bool more = false;
    insert(&one, 10, EGRESS_OUT_ALLOWED);
    insert(&two, 20, EGRESS_OUT_DENIED);
    insert(&one, 30, EGRESS_OUT_DENIED);
    insert(&one, 40, EGRESS_OUT_FAILED);
    struct egress_row *rows = list(&one, -1, 0, 2, &n, &more);
    assert_int_equal(n, 2);
    assert_true(more);
    assert_int_equal(rows[0].at_us, 10);
    assert_int_equal(rows[1].outcome, EGRESS_OUT_DENIED);
    assert_true(str_eqz(rows[1].reason, "host_not_allowed"));
    assert_false(str_some(rows[0].reason) || str_some(rows[0].tool_use) ||
                 str_some(rows[0].address));
    rows = list(&one, -1, rows[1].number, 2, &n, &more);
    assert_int_equal(n, 1);
    assert_false(more);
    assert_int_equal(rows[0].outcome, EGRESS_OUT_FAILED);
    rows = list(&two, EGRESS_OUT_DENIED, 0, 10, &n, &more);
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].at_us, 20);
}

static void a_session_that_is_gone_takes_no_record_and_leaves_none(void **state)
{
    (void)state;
    struct session_row s = add_session(0, STR_NONE);
    int64_t left = -1;
    insert(&s, 10, EGRESS_OUT_ALLOWED);
    OK(tx_session_delete(&t.tx, s.key, &t.err));
    insert(&s, 20, EGRESS_OUT_ALLOWED);
    OK(db_number(t.db, "SELECT count(*) FROM egress", NULL, 0, -1, &left, &t.err));
    assert_int_equal(left, 0);
}

static void the_oldest_records_give_way(void **state)
{
    (void)state;
    struct session_row s = add_session(0, STR_NONE), other = add_session(0, STR_NONE);
    int64_t left = 0, oldest = 0;
    insert(&other, 5, EGRESS_OUT_ALLOWED);
    for (int i = 0; i < LIMIT_EGRESS_RECORDS + 1000; i++)
        insert(&s, 100 + i, EGRESS_OUT_DENIED);
    OK(db_number(t.db, "SELECT count(*) FROM egress WHERE at_us >= 100", NULL, 0, -1, &left,
                 &t.err));
    OK(db_number(t.db, "SELECT min(at_us) FROM egress WHERE at_us >= 100", NULL, 0, -1, &oldest,
                 &t.err));
    assert_in_range(left, LIMIT_EGRESS_RECORDS, LIMIT_EGRESS_RECORDS + 256);
    assert_int_equal(oldest, 100 + LIMIT_EGRESS_RECORDS + 1000 - left);
    size_t n = 0;
    bool more = false;
    list(&other, -1, 0, 10, &n, &more);
    assert_int_equal(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(records_come_back_as_they_were_by_session_and_decision,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_session_that_is_gone_takes_no_record_and_leaves_none,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(the_oldest_records_give_way, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
