/* The ledger, and what a session's row says of its caps and of what was spent. */
#include "store_rig.h"

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

static struct session_row get_session(const struct session_row *s)
{
    struct session_row got;
    OK(tx_session_get(&t.tx, id_str(&t.ws), id_str(&s->id), &t.a, &got, &t.err));
    return got;
}

static struct ledger_row entry(const struct session_row *s, int64_t seq, int64_t cost, int64_t held)
{
    return (struct ledger_row){.workspace_id = t.ws,
                               .session_id = s->id,
                               .thread_id = s->thread_id,
                               .seq = seq,
                               .purpose = MODEL_FOR_TURN,
                               .model = STR("script/echo"),
                               .usage = {.input_tokens = 1, .cost_microusd = cost},
                               .held_microusd = held,
                               .at_us = 7};
}

static void sums_are(const struct session_row *s, int64_t cost, int64_t held, int64_t requests)
{
    int64_t c = -1, h = -1, n = -1;
    OK(tx_ledger_session(&t.tx, id_str(&s->id), &c, &h, &n, &t.err));
    assert_int_equal(c, cost);
    assert_int_equal(h, held);
    assert_int_equal(n, requests);
}

static void a_session_without_requests_sums_to_nothing(void **state)
{
    (void)state;
    struct session_row s = add_session(0, STR_NONE);
    sums_are(&s, 0, 0, 0);
}

static void requests_are_summed_by_session(void **state)
{
    (void)state;
    struct session_row one = add_session(0, STR_NONE), other = add_session(0, STR_NONE);
    struct ledger_row rows[] = {entry(&one, 3, 100, 0), entry(&one, 9, 0, 50),
                                entry(&other, 3, 1000, 0)};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        OK(tx_ledger_add(&t.tx, &rows[i], &t.err));
    sums_are(&one, 100, 50, 2);
    sums_are(&other, 1000, 0, 1);
}

static void every_field_is_kept(void **state)
{
    (void)state;
    struct session_row s = add_session(0, STR_NONE);
    struct ledger_row row = entry(&s, 3, 9, 10);
    row.purpose = MODEL_FOR_JUDGE;
    row.usage = (struct model_usage){1, 2, 3, 4, 5, 9, false, false};
    OK(tx_ledger_add(&t.tx, &row, &t.err));
    static const char *const columns[] = {"workspace = ?1", "session = ?1", "thread = ?1",
                                          "model = ?1"};
    const struct str texts[] = {id_str(&t.ws), id_str(&s.id), id_str(&s.thread_id),
                                STR("script/echo")};
    for (size_t i = 0; i < COUNT_OF(columns); i++) {
        struct str sql = arena_printf(&t.a, "SELECT count(*) FROM ledger WHERE %s", columns[i]);
        int64_t n = 0;
        OK(db_number(t.db, sql.ptr, DB_ARGS(db_text(texts[i])), -1, &n, &t.err));
        assert_int_equal(n, 1);
    }
    static const char numbers[] =
        "SELECT count(*) FROM ledger WHERE seq = 3 AND purpose = 2 AND input_tokens = 1"
        " AND output_tokens = 2 AND cache_read_tokens = 3 AND cache_write_5m_tokens = 4"
        " AND cache_write_1h_tokens = 5 AND cost_microusd = 9 AND held_microusd = 10 AND at_us = 7";
    int64_t n = 0;
    OK(db_number(t.db, numbers, NULL, 0, -1, &n, &t.err));
    assert_int_equal(n, 1);
}

static void what_was_spent_outlives_its_session(void **state)
{
    (void)state;
    struct session_row s = add_session(0, STR_NONE);
    struct ledger_row row = entry(&s, 3, 100, 0);
    OK(tx_ledger_add(&t.tx, &row, &t.err));
    OK(tx_session_delete(&t.tx, s.key, &t.err));
    sums_are(&s, 100, 0, 1);
}

static struct session_append append_of(const struct session_row *s, const struct event *e,
                                       const struct ledger_row *row)
{
    return (struct session_append){.key = s->key,
                                   .epoch = s->epoch,
                                   .base_seq = s->last_seq,
                                   .events = e,
                                   .nevents = 1,
                                   .set_status = true,
                                   .status = SESSION_IDLE,
                                   .usage = {.cost_microusd = row->usage.cost_microusd,
                                             .turns = 4,
                                             .held_microusd = row->held_microusd},
                                   .updated_us = 9,
                                   .ledger = row,
                                   .nledger = 1};
}

static void the_log_and_the_ledger_move_together(void **state)
{
    (void)state;
    struct session_row s = add_session(500, STR_NONE);
    struct event e = {.seq = 1,
                      .type = EVENT_SPAN_MODEL_REQUEST_END,
                      .id = id_new("sevt"),
                      .processed_us = 8,
                      .body = STR("{}")};
    struct ledger_row row = entry(&s, 1, 100, 25);
    struct session_append ap = append_of(&s, &e, &row);
    OK(tx_session_append(&t.tx, &ap, &t.err));
    sums_are(&s, 100, 25, 1);
    struct session_row got = get_session(&s);
    assert_int_equal(got.usage.cost_microusd, 100);
    assert_int_equal(got.usage.held_microusd, 25);
    assert_int_equal(got.usage.turns, 4);
    assert_int_equal(got.budget_microusd, 500);
}

static void a_fenced_writer_leaves_nothing_in_the_ledger(void **state)
{
    (void)state;
    struct session_row s = add_session(0, STR_NONE);
    struct event e = {.seq = 1,
                      .type = EVENT_SPAN_MODEL_REQUEST_END,
                      .id = id_new("sevt"),
                      .processed_us = 8,
                      .body = STR("{}")};
    struct ledger_row row = entry(&s, 1, 100, 0);
    struct session_append ap = append_of(&s, &e, &row);
    ap.epoch++;
    assert_int_equal(tx_session_append(&t.tx, &ap, &t.err), ERR_FENCED);
    sums_are(&s, 0, 0, 0);
}

static void caps_are_kept_and_can_be_changed(void **state)
{
    (void)state;
    struct session_row s = add_session(INT64_C(9999999999990000), STR("{\"max_turns\":3}")), got;
    got = get_session(&s);
    assert_int_equal(got.budget_microusd, INT64_C(9999999999990000));
    assert_str(got.limits, "{\"max_turns\":3}");
    got.budget_microusd = 0;
    got.limits = STR_NONE;
    OK(tx_session_update(&t.tx, &got, &t.err));
    got = get_session(&s);
    assert_int_equal(got.budget_microusd, 0);
    assert_int_equal(got.limits.len, 0);
    got.limits = STR("{\"max_tokens\":1}");
    OK(tx_session_update(&t.tx, &got, &t.err));
    assert_str(get_session(&s).limits, "{\"max_tokens\":1}");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_session_without_requests_sums_to_nothing),
        TEST(requests_are_summed_by_session),
        TEST(every_field_is_kept),
        TEST(what_was_spent_outlives_its_session),
        TEST(the_log_and_the_ledger_move_together),
        TEST(a_fenced_writer_leaves_nothing_in_the_ledger),
        TEST(caps_are_kept_and_can_be_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
