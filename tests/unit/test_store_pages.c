/* Lists: keyset paging forwards and backwards, filters, and that the queries use their indexes. */
#include "store_rig.h"

enum { ROWS = 23 };

static struct session_row sessions[ROWS]; /* in ascending list order */

/* Three sessions share each creation time, so that the id decides among them. */
static int setup_sessions(void **state)
{
    setup(state);
    struct id stranger;
    OK(tx_workspace_ensure(&t.tx, STR("stranger"), 1, &stranger, &t.err));
    for (int i = 0; i < ROWS; i++) {
        struct session_row s = {.id = id_new("sesn"),
                                .workspace_id = t.ws,
                                .thread_id = id_new("sthr"),
                                .agent_version = 1 + i % 2,
                                .status = (enum session_status)(i % 4),
                                .created_us = 1000 + i / 3,
                                .archived_us = i % 5 == 4 ? 9 : 0};
        s.agent_id = id_from(i % 2 ? STR("agent_odd") : STR("agent_even"));
        OK(tx_session_insert(&t.tx, &s, &t.err));
        sessions[i] = s;
        s.id = id_new("sesn");
        s.thread_id = id_new("sthr");
        s.workspace_id = stranger;
        OK(tx_session_insert(&t.tx, &s, &t.err));
    }
    return 0;
}

struct walk {
    struct session_filter f;
    struct page page;
    struct session_row *rows;
    size_t n;
    bool prev, next;
};

static void list(struct walk *w)
{
    OK(tx_session_list(&t.tx, WS, &w->f, &w->page, &t.a, &w->rows, &w->n, &w->prev, &w->next,
                       &t.err));
}

/* Indexes into sessions that the filter lets through, in list order. */
static size_t expected(const struct session_filter *f, bool desc, int out[ROWS])
{
    size_t n = 0;
    for (int k = 0; k < ROWS; k++) {
        int i = desc ? ROWS - 1 - k : k;
        const struct session_row *s = &sessions[i];
        if ((!f->include_archived && s->archived_us) ||
            (f->statuses && !(f->statuses >> s->status & 1)) ||
            (str_some(f->agent_id) && !str_eq(f->agent_id, id_str(&s->agent_id))) ||
            (f->agent_version && f->agent_version != s->agent_version) ||
            (f->created_gt_us && s->created_us <= f->created_gt_us) ||
            (f->created_gte_us && s->created_us < f->created_gte_us) ||
            (f->created_lt_us && s->created_us >= f->created_lt_us) ||
            (f->created_lte_us && s->created_us > f->created_lte_us))
            continue;
        out[n++] = i;
    }
    return n;
}

static void assert_rows(const struct walk *w, const int *want, size_t n)
{
    assert_int_equal(w->n, n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(w->rows[i].id.z, sessions[want[i]].id.z);
}

/* To the end and back again, every page exact and every neighbour told truly. */
static void walk_both_ways(const struct session_filter *f, bool desc, int64_t limit)
{
    int want[ROWS];
    size_t total = expected(f, desc, want), at = 0;
    struct walk w = {.f = *f, .page = {.limit = limit, .desc = desc}};
    for (;;) {
        size_t n = total - at < (size_t)limit ? total - at : (size_t)limit;
        list(&w);
        assert_rows(&w, want + at, n);
        assert_int_equal(w.prev, at > 0);
        assert_int_equal(w.next, at + n < total);
        if (!w.next)
            break;
        at += n;
        w.page.after = page_position(&t.a, w.rows[n - 1].created_us, &w.rows[n - 1].id);
    }
    while (w.prev) {
        size_t n = at < (size_t)limit ? at : (size_t)limit;
        w.page.backward = true;
        w.page.after = page_position(&t.a, w.rows[0].created_us, &w.rows[0].id);
        list(&w);
        at -= n;
        assert_rows(&w, want + at, n);
        assert_int_equal(w.prev, at > 0);
        assert_true(w.next);
    }
    assert_int_equal(at, 0);
}

static void pages_of_every_size_are_exact_both_ways(void **state)
{
    (void)state;
    const struct session_filter filters[] = {
        {.include_archived = true},
        {.include_archived = false},
        {.include_archived = true, .agent_id = STR("agent_odd")},
        {.include_archived = true, .agent_id = STR("agent_odd"), .agent_version = 2},
        {.include_archived = true, .agent_id = STR("agent_odd"), .agent_version = 1},
        {.agent_id = STR("agent_nobody")},
        {.statuses = 1u << SESSION_RUNNING},
        {.include_archived = true, .statuses = 1u << SESSION_IDLE | 1u << SESSION_TERMINATED},
        {.include_archived = true, .created_gt_us = 1002, .created_lt_us = 1006},
        {.include_archived = true, .created_gte_us = 1002, .created_lte_us = 1006},
        {.include_archived = true,
         .created_gte_us = 1005,
         .created_gt_us = 1002,
         .created_lt_us = 1009,
         .created_lte_us = 1006},
        {.created_gt_us = 5000},
    };
    for (size_t i = 0; i < COUNT_OF(filters); i++)
        for (int64_t limit = 1; limit <= ROWS + 1; limit += 1 + limit / 4)
            for (int desc = 0; desc < 2; desc++)
                walk_both_ways(&filters[i], desc != 0, limit);
}

static void rows_added_while_paging_are_neither_repeated_nor_cause_a_skip(void **state)
{
    (void)state;
    struct walk w = {.f = {.include_archived = true}, .page = {.limit = 10, .desc = true}};
    list(&w);
    struct id tenth = w.rows[9].id, eleventh = sessions[ROWS - 11].id;
    struct session_row s = sessions[ROWS - 1];
    s.id = id_new("sesn");
    s.thread_id = id_new("sthr");
    OK(tx_session_insert(&t.tx, &s, &t.err));
    w.page.after = page_position(&t.a, w.rows[9].created_us, &tenth);
    list(&w);
    assert_string_equal(w.rows[0].id.z, eleventh.z);
}

static void a_page_goes_on_where_its_row_was_deleted(void **state)
{
    (void)state;
    struct walk w = {.f = {.include_archived = true}, .page = {.limit = 5}};
    list(&w);
    w.page.after = page_position(&t.a, w.rows[4].created_us, &w.rows[4].id);
    OK(tx_session_delete(&t.tx, w.rows[4].key, &t.err));
    list(&w);
    assert_string_equal(w.rows[0].id.z, sessions[5].id.z);
    assert_true(w.prev);
}

static void a_bad_position_is_refused_with_the_field_named(void **state)
{
    (void)state;
    const char *bad[] = {"",
                         "x",
                         "12",
                         ":",
                         "12:",
                         "x:sesn_1",
                         "-5:sesn_1",
                         "99999999999999999999:sesn_1",
                         "1:sesn_0123456789012345678901234567890123456789"};
    struct walk w = {.page = {.limit = 5}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        w.page.after = str_z(bad[i]);
        assert_int_equal(tx_session_list(&t.tx, WS, &w.f, &w.page, &t.a, &w.rows, &w.n, &w.prev,
                                         &w.next, &t.err),
                         ERR_INVALID);
        assert_string_equal(t.err.at, "page");
    }
    w.page.after = STR("1001:sesn_1");
    w.f.created_gt_us = 1001;
    assert_int_equal(
        tx_session_list(&t.tx, WS, &w.f, &w.page, &t.a, &w.rows, &w.n, &w.prev, &w.next, &t.err),
        ERR_INVALID);
    w = (struct walk){.page = {.limit = 0}};
    assert_int_equal(
        tx_session_list(&t.tx, WS, &w.f, &w.page, &t.a, &w.rows, &w.n, &w.prev, &w.next, &t.err),
        ERR_INVALID);
    assert_string_equal(t.err.at, "limit");
}

/* ---- agents and environments ---- */

static void agents_are_paged_at_their_latest_version(void **state)
{
    (void)state;
    struct id ids[7];
    for (int i = 0; i < 7; i++) {
        struct agent_row ag = {.id = id_new("agent"),
                               .version = 1,
                               .body = STR("{}"),
                               .created_us = 100 + i,
                               .updated_us = 100 + i};
        OK(tx_agent_insert(&t.tx, WS, &ag, &t.err));
        ag.version = 2;
        ag.body = STR("[2]");
        OK(tx_agent_add_version(&t.tx, WS, &ag, &t.err));
        ids[i] = ag.id;
    }
    OK(tx_agent_archive(&t.tx, WS, id_str(&ids[3]), 5, &t.err));
    struct agent_row *rows;
    size_t n, seen = 0;
    bool more = true;
    struct page page = {.limit = 2, .desc = true};
    const int want[] = {6, 5, 4, 2, 1, 0};
    while (more) {
        OK(tx_agent_list(&t.tx, WS, &(struct agent_filter){0}, &page, &t.a, &rows, &n, &more,
                         &t.err));
        for (size_t i = 0; i < n; i++) {
            assert_string_equal(rows[i].id.z, ids[want[seen++]].z);
            assert_int_equal(rows[i].version, 2);
            assert_str(rows[i].body, "[2]");
        }
        page.after = page_position(&t.a, rows[n - 1].created_us, &rows[n - 1].id);
    }
    assert_int_equal(seen, 6);
    struct agent_filter f = {
        .include_archived = true, .created_gte_us = 102, .created_lte_us = 104};
    OK(tx_agent_list(&t.tx, WS, &f, &(struct page){.limit = 9}, &t.a, &rows, &n, &more, &t.err));
    assert_int_equal(n, 3);
    assert_false(more);
    assert_string_equal(rows[0].id.z, ids[2].z);
}

static void versions_are_listed_newest_first(void **state)
{
    (void)state;
    struct agent_row ag = {.id = id_new("agent"),
                           .version = 1,
                           .body = STR("{}"),
                           .created_us = 1,
                           .updated_us = 1},
                     *rows;
    OK(tx_agent_insert(&t.tx, WS, &ag, &t.err));
    for (ag.version = 2; ag.version <= 5; ag.version++)
        OK(tx_agent_add_version(&t.tx, WS, &ag, &t.err));
    struct page page = {.limit = 3};
    size_t n;
    bool more;
    OK(tx_agent_versions(&t.tx, WS, id_str(&ag.id), &page, &t.a, &rows, &n, &more, &t.err));
    assert_int_equal(n, 3);
    assert_true(more);
    assert_int_equal(rows[0].version, 5);
    assert_int_equal(rows[2].version, 3);
    page.after = STR("3");
    OK(tx_agent_versions(&t.tx, WS, id_str(&ag.id), &page, &t.a, &rows, &n, &more, &t.err));
    assert_int_equal(n, 2);
    assert_false(more);
    assert_int_equal(rows[1].version, 1);
    page.after = STR("x");
    assert_int_equal(
        tx_agent_versions(&t.tx, WS, id_str(&ag.id), &page, &t.a, &rows, &n, &more, &t.err),
        ERR_INVALID);
}

static void environments_are_paged_without_the_archived_ones(void **state)
{
    (void)state;
    struct environment_row e[5], *rows;
    for (int i = 0; i < 5; i++) {
        e[i] = (struct environment_row){.id = id_new("env"),
                                        .name = STR("n"),
                                        .body = STR("{}"),
                                        .created_us = 50,
                                        .archived_us = i == 1 ? 3 : 0};
        OK(tx_environment_insert(&t.tx, WS, &e[i], &t.err));
    }
    size_t n;
    bool more;
    struct page page = {.limit = 2};
    OK(tx_environment_list(&t.tx, WS, false, &page, &t.a, &rows, &n, &more, &t.err));
    assert_int_equal(n, 2);
    assert_true(more);
    assert_string_equal(rows[1].id.z, e[2].id.z);
    page.after = page_position(&t.a, 50, &rows[1].id);
    OK(tx_environment_list(&t.tx, WS, false, &page, &t.a, &rows, &n, &more, &t.err));
    assert_int_equal(n, 2);
    assert_false(more);
    assert_string_equal(rows[1].id.z, e[4].id.z);
    page = (struct page){.limit = 9};
    OK(tx_environment_list(&t.tx, WS, true, &page, &t.a, &rows, &n, &more, &t.err));
    assert_int_equal(n, 5);
}

/* ---- plans ---- */

static void plan(const char *sql, char out[512])
{
    AUTO_ROWS struct db_rows rows = {0};
    bool row;
    out[0] = '\0';
    struct err err = {0};
    assert_int_equal(db_first(t.db, sql, NULL, 0, &rows, &row, &err), 0);
    while (row) {
        struct str detail = db_col_str(&rows, 3);
        snprintf(out + strlen(out), 512 - strlen(out), STR_FMT "\n", STR_ARG(detail));
        assert_int_equal(db_next(&rows, &row, &err), 0);
    }
}

static void start_and_lists_use_their_indexes_without_sorting(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *index;
    } cases[] = {
        {"EXPLAIN QUERY PLAN SELECT id FROM session"
         " WHERE status IN (1, 2) OR inbox > 0 OR checkpoint_due > 0",
         "INDEX session_active"},
        {"EXPLAIN QUERY PLAN SELECT count(*) FROM session WHERE status = 3",
         "INDEX session_terminated"},
        {"EXPLAIN QUERY PLAN SELECT count(*) FROM session"
         " WHERE (status IN (1, 2) OR inbox > 0 OR checkpoint_due > 0) AND status = 1",
         "INDEX session_active"},
        {"EXPLAIN QUERY PLAN SELECT s.id FROM session s JOIN session_config c ON c.session = s.key"
         " WHERE s.workspace = 'w' AND (s.created_us, s.id) >= (1, 'a') AND"
         " (s.created_us, s.id) < (9, 'b') AND (0 = 1 OR s.archived_us = 0)"
         " ORDER BY s.created_us DESC, s.id DESC LIMIT 20",
         "INDEX session_list (workspace=? AND (created_us,id)>(?,?) AND (created_us,id)<(?,?))"},
        {"EXPLAIN QUERY PLAN SELECT s.id FROM session s JOIN session_config c ON c.session = s.key"
         " WHERE s.workspace = 'w' AND (s.created_us, s.id) >= (1, 'a') AND"
         " (s.created_us, s.id) < (9, 'b') AND s.agent_id = 'x'"
         " ORDER BY s.created_us, s.id LIMIT 20",
         "INDEX session_agent (workspace=? AND agent_id=? AND"},
        {"EXPLAIN QUERY PLAN SELECT seq FROM event WHERE session = 1 AND id = 'x'"
         " ORDER BY session DESC, seq DESC LIMIT 1",
         "INDEX event_seq (session=?)"},
        {"EXPLAIN QUERY PLAN SELECT e.body, t.body FROM event e LEFT JOIN transcript t"
         " ON (e.flags & 1) != 0 AND t.session = e.session AND t.seq = e.seq"
         " WHERE e.session = 1 AND e.seq > 2 AND e.seq < 9 ORDER BY e.session, e.seq LIMIT 5",
         "INDEX transcript_seq (session=? AND seq=?)"},
        {"EXPLAIN QUERY PLAN SELECT 1 FROM session WHERE environment_id = 'e'"
         " AND workspace = 'w' AND archived_us = 0 LIMIT 1",
         "INDEX session_environment"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[512];
        plan(cases[i].sql, text);
        if (!strstr(text, cases[i].index) || strstr(text, "B-TREE"))
            fail_msg("expected %s, got:\n%s", cases[i].index, text);
    }
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define S(fn) cmocka_unit_test_setup_teardown(fn, setup_sessions, teardown)
    const struct CMUnitTest tests[] = {
        S(pages_of_every_size_are_exact_both_ways),
        S(rows_added_while_paging_are_neither_repeated_nor_cause_a_skip),
        S(a_page_goes_on_where_its_row_was_deleted),
        S(a_bad_position_is_refused_with_the_field_named),
        T(agents_are_paged_at_their_latest_version),
        T(versions_are_listed_newest_first),
        T(environments_are_paged_without_the_archived_ones),
        T(start_and_lists_use_their_indexes_without_sorting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
