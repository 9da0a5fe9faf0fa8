/* Checkpoints: which snapshot holds a session's files as of an event, and that no content of one is
 * swept before its session is deleted, and every one after. */
#include "store_rig.h"

#include "store/checkpoints.h"

static int64_t number(const char *sql, int64_t fallback)
{
    int64_t n = fallback;
    OK(db_number(t.db, sql, NULL, 0, fallback, &n, &t.err));
    return n;
}

static int64_t refs(const char *blob)
{
    static const char sql[] = "SELECT refs FROM blob WHERE name = ?1";
    int64_t n = -1;
    OK(db_number(t.db, sql, DB_ARGS(db_text(str_z(blob))), -1, &n, &t.err));
    return n;
}

static size_t unused(void)
{
    struct blob_row *rows;
    size_t n;
    OK(tx_blob_unused(&t.tx, 100, &t.a, &rows, &n, &t.err));
    return n;
}

/* `pack` NULL: no content was new. */
static int put(const struct session_row *s, int64_t seq, const char *manifest, const char *pack)
{
    struct checkpoint_blob blobs[2];
    size_t n = 0;
    if (pack)
        blobs[n++] = (struct checkpoint_blob){str_z(pack), 70};
    blobs[n++] = (struct checkpoint_blob){str_z(manifest), 7};
    const struct checkpoint_row row = {.seq = seq,
                                       .turn_end = seq % 2 == 0,
                                       .manifest = str_z(manifest),
                                       .at_us = seq * 1000,
                                       .files = 3,
                                       .size_bytes = 300,
                                       .stored_bytes = 77};
    return tx_checkpoint_put(&t.tx, id_str(&s->id), &row, blobs, n, &t.err);
}

static const char *at(const struct session_row *s, int64_t seq)
{
    struct checkpoint_row row;
    int rc = tx_checkpoint_at(&t.tx, id_str(&s->id), seq, &t.a, &row, &t.err);
    if (rc == ERR_NOT_FOUND)
        return "none";
    OK(rc);
    return arena_strz(&t.a, row.manifest);
}

static int64_t due(const struct session_row *s)
{
    struct session_row row;
    OK(tx_session_get(&t.tx, WS, id_str(&s->id), &t.a, &row, &t.err));
    return row.checkpoint_due;
}

static void the_newest_that_is_not_after_the_event_is_found(void **state)
{
    (void)state;
    struct session_row s = a_session(), other = a_session();
    struct checkpoint_row row;
    assert_string_equal(at(&s, 0), "none");
    OK(put(&s, 0, "m0", "p0"));
    OK(put(&s, 10, "m10", "p10"));
    OK(put(&s, 25, "m25", NULL));
    OK(put(&other, 20, "x20", NULL));
    static const struct {
        int64_t seq;
        const char *manifest;
    } cases[] = {{0, "m25"},  {1, "m0"},   {9, "m0"},  {10, "m10"},
                 {24, "m10"}, {25, "m25"}, {99, "m25"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(at(&s, cases[i].seq), cases[i].manifest);
    OK(tx_checkpoint_at(&t.tx, id_str(&s.id), 12, &t.a, &row, &t.err));
    assert_int_equal(row.seq, 10);
    assert_true(row.turn_end);
    assert_int_equal(row.at_us, 10000);
    assert_int_equal(row.files, 3);
    assert_int_equal(row.size_bytes, 300);
    assert_int_equal(row.stored_bytes, 77);
    OK(tx_checkpoint_at(&t.tx, id_str(&s.id), 30, &t.a, &row, &t.err));
    assert_false(row.turn_end);
}

static void contents_stay_until_the_session_is_deleted(void **state)
{
    (void)state;
    struct session_row s = a_session();
    OK(put(&s, 2, "m1", "p1"));
    OK(put(&s, 4, "m2", "p2"));
    OK(put(&s, 6, "m2", NULL)); /* nothing had changed */
    assert_int_equal(unused(), 0);
    assert_int_equal(refs("m1") + refs("p1") + refs("m2") + refs("p2"), 4);
    OK(tx_session_delete(&t.tx, s.key, &t.err));
    assert_int_equal(unused(), 4);
    assert_int_equal(number("SELECT count(*) FROM checkpoint", -1), 0);
    /* The sweep may take them: no row refers to them any more. */
    struct blob_row *rows;
    size_t n;
    bool gone = false;
    OK(tx_blob_unused(&t.tx, 100, &t.a, &rows, &n, &t.err));
    for (size_t i = 0; i < n; i++) {
        OK(tx_blob_forget(&t.tx, &rows[i], &gone, &t.err));
        assert_true(gone);
    }
    assert_int_equal(number("SELECT count(*) FROM blob", -1), 0);
}

static void the_same_content_of_two_sessions_stays_for_the_second(void **state)
{
    (void)state;
    struct session_row one = a_session(), two = a_session();
    OK(put(&one, 2, "m", "p"));
    OK(put(&two, 8, "m", "p"));
    assert_int_equal(refs("p"), 2);
    OK(tx_session_delete(&t.tx, one.key, &t.err));
    assert_int_equal(refs("m"), 1);
    assert_int_equal(unused(), 0);
    assert_string_equal(at(&two, 0), "m");
}

static void a_row_of_the_same_event_is_replaced_and_its_contents_stay(void **state)
{
    (void)state;
    struct session_row s = a_session();
    OK(put(&s, 0, "m1", "p1"));
    OK(put(&s, 0, "m2", "p2"));
    assert_string_equal(at(&s, 0), "m2");
    assert_int_equal(number("SELECT count(*) FROM checkpoint", -1), 1);
    /* The second may be no more than what changed since the first. */
    assert_int_equal(refs("m1") + refs("p1"), 2);
    /* The same again, as after a crash. */
    OK(put(&s, 0, "m2", "p2"));
    assert_int_equal(refs("m2") + refs("p2"), 2);
    assert_int_equal(unused(), 0);
    OK(tx_session_delete(&t.tx, s.key, &t.err));
    assert_int_equal(unused(), 4);
}

static void a_manifest_that_nobody_counts_is_refused(void **state)
{
    (void)state;
    struct session_row s = a_session(), other = a_session();
    OK(put(&other, 2, "m", NULL));
    const struct checkpoint_row row = {.seq = 4, .manifest = STR("m")};
    assert_int_equal(tx_checkpoint_put(&t.tx, id_str(&s.id), &row, NULL, 0, &t.err), ERR_INTERNAL);
    assert_string_equal(at(&s, 0), "none");
}

static void the_checkpoint_of_a_deleted_session_says_so(void **state)
{
    (void)state;
    struct session_row s = a_session();
    OK(tx_session_delete(&t.tx, s.key, &t.err));
    assert_int_equal(put(&s, 2, "m", "p"), ERR_NOT_FOUND);
    assert_int_equal(number("SELECT count(*) FROM blob", -1), 0);
    OK(tx_checkpoint_give_up(&t.tx, id_str(&s.id), 2, &t.err));
}

static void what_is_due_is_done_with_a_checkpoint_of_it_or_a_later_one(void **state)
{
    (void)state;
    struct session_row s = a_session();
    static const char owe[] = "UPDATE session SET checkpoint_due = 20";
    static const struct {
        int64_t seq;
        bool give_up;
        int64_t left;
    } cases[] = {{19, false, 20}, {19, true, 20}, {20, false, 0},
                 {20, true, 0},   {31, false, 0}, {31, true, 0}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        OK(db_exec(t.db, owe, NULL, 0, NULL, &t.err));
        if (cases[i].give_up)
            OK(tx_checkpoint_give_up(&t.tx, id_str(&s.id), cases[i].seq, &t.err));
        else
            OK(put(&s, cases[i].seq, "m", NULL));
        assert_int_equal(due(&s), cases[i].left);
    }
}

static void a_branch_takes_what_its_checkpoints_need_and_no_more(void **state)
{
    (void)state;
    struct session_row s = a_session(), branch = a_session();
    OK(put(&s, 0, "m0", "p0"));
    OK(put(&s, 10, "m10", "p10"));
    OK(put(&s, 20, "m20", "p20"));
    /* It may have got one of them already, by what it is made with. */
    OK(tx_session_blob_add(&t.tx, branch.key, STR("p0"), &t.err));
    OK(tx_checkpoint_copy(&t.tx, s.key, branch.key, 15, &t.err));
    assert_string_equal(at(&branch, 0), "m10");
    assert_string_equal(at(&branch, 9), "m0");
    assert_int_equal(refs("m0"), 2);
    assert_int_equal(refs("p0"), 2);
    assert_int_equal(refs("p10"), 2);
    assert_int_equal(refs("m20"), 1);
    assert_int_equal(refs("p20"), 1);
    /* A branch of the branch, and the trunk goes. */
    struct session_row twig = a_session();
    OK(tx_checkpoint_copy(&t.tx, branch.key, twig.key, 9, &t.err));
    OK(tx_session_delete(&t.tx, s.key, &t.err));
    assert_int_equal(unused(), 2); /* m20, p20 */
    assert_string_equal(at(&branch, 0), "m10");
    OK(tx_session_delete(&t.tx, branch.key, &t.err));
    assert_int_equal(unused(), 4); /* m10, p10 */
    assert_string_equal(at(&twig, 0), "m0");
    OK(tx_session_delete(&t.tx, twig.key, &t.err));
    assert_int_equal(unused(), 6);
}

/* ---- plans ---- */

static void a_branch_from_what_was_kept_out_of_order_keeps_what_it_needs(void **state)
{
    (void)state;
    struct session_row s = a_session(), fork = a_session();
    OK(put(&s, 10, "o10", "op10"));
    OK(put(&s, 20, "o20", "op20"));
    /* Behind the later one: nothing had changed since, so that it is the same manifest. */
    const struct checkpoint_row row = {.seq = 15, .turn_end = true, .manifest = STR("o20")};
    OK(tx_checkpoint_put(&t.tx, id_str(&s.id), &row, NULL, 0, &t.err));
    OK(tx_checkpoint_copy(&t.tx, s.key, fork.key, 17, &t.err));
    assert_string_equal(at(&fork, 0), "o20");
    OK(tx_session_delete(&t.tx, s.key, &t.err));
    assert_int_equal(refs("o20"), 1);
    assert_int_equal(refs("op20"), 1);
}

static void plan(const char *sql, char out[1024])
{
    AUTO_ROWS struct db_rows rows = {0};
    bool row;
    out[0] = '\0';
    OK(db_first(t.db, sql, NULL, 0, &rows, &row, &t.err));
    while (row) {
        struct str detail = db_col_str(&rows, 3);
        snprintf(out + strlen(out), 1024 - strlen(out), STR_FMT "\n", STR_ARG(detail));
        OK(db_next(&rows, &row, &t.err));
    }
}

static void no_query_walks_the_checkpoints_of_other_sessions(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *index;
    } cases[] = {
        {"EXPLAIN QUERY PLAN SELECT c.seq, c.manifest FROM checkpoint c"
         " JOIN session s ON s.key = c.session WHERE s.id = 'x' AND c.seq <= 5"
         " ORDER BY c.seq DESC LIMIT 1",
         "INDEX checkpoint_seq (session=? AND seq<?)"},
        {"EXPLAIN QUERY PLAN UPDATE blob SET refs = refs + 1 WHERE name IN"
         " (SELECT blob FROM session_blob WHERE session = 1 AND seq <= 3) AND name NOT IN"
         " (SELECT blob FROM session_blob WHERE session = 2)",
         "INDEX session_blob_use (session=?)"},
        {"EXPLAIN QUERY PLAN INSERT INTO checkpoint(session, seq, turn_end, manifest, at_us,"
         " files, size_bytes, stored_bytes) SELECT 2, seq, turn_end, manifest, at_us, files,"
         " size_bytes, stored_bytes FROM checkpoint WHERE session = 1 AND seq <= 3",
         "INDEX checkpoint_seq (session=? AND seq<?)"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[1024];
        plan(cases[i].sql, text);
        if (!strstr(text, cases[i].index) || strstr(text, "SCAN") || strstr(text, "ORDER BY"))
            fail_msg("expected %s, got:\n%s", cases[i].index, text);
    }
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_newest_that_is_not_after_the_event_is_found),
        T(contents_stay_until_the_session_is_deleted),
        T(the_same_content_of_two_sessions_stays_for_the_second),
        T(a_row_of_the_same_event_is_replaced_and_its_contents_stay),
        T(a_manifest_that_nobody_counts_is_refused),
        T(the_checkpoint_of_a_deleted_session_says_so),
        T(what_is_due_is_done_with_a_checkpoint_of_it_or_a_later_one),
        T(a_branch_takes_what_its_checkpoints_need_and_no_more),
        T(a_branch_from_what_was_kept_out_of_order_keeps_what_it_needs),
        T(no_query_walks_the_checkpoints_of_other_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
