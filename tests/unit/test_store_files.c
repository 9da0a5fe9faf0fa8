/* Files: their rows, how often a content is used, and the sweep that keeps both and the blobs in
 * step. */
#include "store_rig.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "store/blob.h"
#include "store/file_sweep.h"

#define HOUR (INT64_C(3600) * 1000000)
#define KEPT (LIMIT_FILE_METADATA_DAYS * 24 * HOUR)

static struct file_row a_file(const char *name, const char *blob)
{
    return (struct file_row){.id = id_new("file"),
                             .filename = str_z(name),
                             .mime_type = STR("text/plain"),
                             .size_bytes = 3,
                             .created_us = 1000,
                             .blob = str_z(blob)};
}

static struct file_row insert(const char *name, const char *blob)
{
    struct file_row row = a_file(name, blob);
    OK(tx_file_insert(&t.tx, WS, &row, &t.err));
    return row;
}

static int64_t refs(const char *blob)
{
    static const char sql[] = "SELECT refs FROM blob WHERE name = ?1";
    int64_t n = 0;
    OK(db_number(t.db, sql, DB_ARGS(db_text(str_z(blob))), -1, &n, &t.err));
    return n;
}

static void a_file_is_stored_and_read_back_whole(void **state)
{
    (void)state;
    struct file_row row = a_file("h\xc3\xb6he \"1\".txt", "b1"), got;
    row.scope_id = id_new("sesn");
    row.downloadable = true;
    row.expires_us = 5000;
    OK(tx_file_insert(&t.tx, WS, &row, &t.err));
    OK(tx_file_get(&t.tx, WS, id_str(&row.id), 1, &t.a, &got, &t.err));
    assert_string_equal(got.id.z, row.id.z);
    assert_string_equal(got.scope_id.z, row.scope_id.z);
    assert_true(str_eq(got.filename, row.filename));
    assert_str(got.mime_type, "text/plain");
    assert_int_equal(got.size_bytes, 3);
    assert_true(got.downloadable);
    assert_int_equal(got.created_us, 1000);
    assert_int_equal(got.expires_us, 5000);
    assert_str(got.blob, "b1");
    struct file_row plain = insert("a", "b1");
    OK(tx_file_get(&t.tx, WS, id_str(&plain.id), 1, &t.a, &got, &t.err));
    assert_string_equal(got.scope_id.z, "");
    assert_false(got.downloadable);
    assert_int_equal(tx_file_insert(&t.tx, WS, &plain, &t.err), ERR_EXISTS);
}

static void a_database_from_before_files_is_migrated(void **state)
{
    (void)state;
    static const char old[] =
        "DROP TABLE checkpoint; DROP TABLE work_token; DROP TABLE work_item;"
        "DROP TABLE environment_key;"
        "DROP INDEX inbox_bytes; ALTER TABLE inbox DROP COLUMN bytes;"
        "DROP INDEX session_active; ALTER TABLE session DROP COLUMN checkpoint_due;"
        "CREATE INDEX session_active ON session(status, id)"
        " WHERE status IN (1, 2) OR inbox > 0;"
        "ALTER TABLE session_config DROP COLUMN forked_from;"
        "ALTER TABLE session_config DROP COLUMN outcomes;"
        "DROP TABLE skill_version; DROP TABLE skill; DROP TABLE session_resource;"
        "DROP TABLE environment_build; DROP TABLE egress;"
        "DROP INDEX event_compacted;"
        "DROP TABLE session_blob; ALTER TABLE session_config DROP COLUMN provision;"
        "DROP TABLE file; DROP TABLE blob; DROP TABLE ledger; DROP TABLE owner;"
        "ALTER TABLE session DROP COLUMN turns; ALTER TABLE session DROP COLUMN web_searches;"
        "ALTER TABLE session DROP COLUMN held_microusd;"
        "ALTER TABLE session DROP COLUMN budget_microusd;"
        "ALTER TABLE session DROP COLUMN owner;"
        "ALTER TABLE session_config DROP COLUMN limits;";
    int64_t version = 0;
    OK(t.db->ops->script(t.db, old, &t.err));
    OK(t.db->ops->set_version(t.db, 1, &t.err));
    OK(t.db->ops->commit(t.db, &t.err));
    OK(migrate_run(t.db, t.path, &t.err));
    OK(t.db->ops->version(t.db, &version, &t.err));
    assert_int_equal(version, migrate_known());
    OK(t.db->ops->begin(t.db, true, &t.err));
    insert("a", "b1");
    assert_int_equal(refs("b1"), 1);
}

static void another_workspace_sees_nothing_of_it(void **state)
{
    (void)state;
    struct file_row row = insert("a", "b1"), got;
    struct str other = id_str(&t.other);
    size_t n = 9;
    bool more = true;
    struct file_row *rows;
    assert_int_equal(tx_file_get(&t.tx, other, id_str(&row.id), 1, &t.a, &got, &t.err),
                     ERR_NOT_FOUND);
    assert_int_equal(tx_file_delete(&t.tx, other, id_str(&row.id), 1, &t.err), ERR_NOT_FOUND);
    struct file_filter f = {.limit = 10};
    OK(tx_file_list(&t.tx, other, &f, &t.a, &rows, &n, &more, &t.err));
    assert_int_equal(n, 0);
    assert_false(more);
    assert_int_equal(refs("b1"), 1);
    struct file_row lost = a_file("b", "b2");
    struct id nowhere = id_new("wrkspc");
    assert_int_equal(tx_file_insert(&t.tx, id_str(&nowhere), &lost, &t.err), ERR_NOT_FOUND);
}

static size_t unused(struct blob_row **rows)
{
    size_t n;
    OK(tx_blob_unused(&t.tx, 100, &t.a, rows, &n, &t.err));
    return n;
}

static void a_content_is_unused_when_its_last_file_went(void **state)
{
    (void)state;
    struct file_row a = insert("a", "b1"), b = insert("b", "b1");
    struct blob_row *rows;
    bool gone = false;
    assert_int_equal(refs("b1"), 2);
    OK(tx_file_delete(&t.tx, WS, id_str(&a.id), 1, &t.err));
    assert_int_equal(refs("b1"), 1);
    assert_int_equal(unused(&rows), 0);
    assert_int_equal(tx_file_delete(&t.tx, WS, id_str(&a.id), 1, &t.err), ERR_NOT_FOUND);
    OK(tx_file_delete(&t.tx, WS, id_str(&b.id), 1, &t.err));
    assert_int_equal(unused(&rows), 1);
    assert_string_equal(rows[0].name, "b1");
    OK(tx_blob_forget(&t.tx, &rows[0], &gone, &t.err));
    assert_true(gone);
    assert_int_equal(refs("b1"), -1);
}

static void a_content_that_was_used_again_meanwhile_is_not_forgotten(void **state)
{
    (void)state;
    struct blob_row *rows;
    bool gone = true, known = false;
    struct file_row a = insert("a", "b1");
    OK(tx_file_delete(&t.tx, WS, id_str(&a.id), 1, &t.err));
    assert_int_equal(unused(&rows), 1);
    struct file_row b = insert("b", "b1");
    OK(tx_blob_forget(&t.tx, &rows[0], &gone, &t.err));
    assert_false(gone);
    OK(tx_file_delete(&t.tx, WS, id_str(&b.id), 1, &t.err));
    OK(tx_blob_forget(&t.tx, &rows[0], &gone,
                      &t.err)); /* at 0 again, but not the 0 that was seen */
    assert_false(gone);
    OK(tx_blob_known(&t.tx, STR("b1"), &known, &t.err));
    assert_true(known);
    OK(tx_blob_known(&t.tx, STR("b2"), &known, &t.err));
    assert_false(known);
}

static void an_expired_file_loses_its_content_and_later_its_row(void **state)
{
    (void)state;
    struct file_row row = a_file("a", "b1"), got;
    const int64_t at = 1000 * HOUR;
    int64_t n = -1;
    bool due = true;
    row.expires_us = at;
    OK(tx_file_insert(&t.tx, WS, &row, &t.err));
    insert("never", "b1");
    OK(tx_file_due(&t.tx, at - 1, &due, &t.err));
    assert_false(due);
    OK(tx_file_expire(&t.tx, at - 1, 10, &n, &t.err));
    assert_int_equal(n, 0);

    OK(tx_file_due(&t.tx, at, &due, &t.err));
    assert_true(due);
    OK(tx_file_expire(&t.tx, at, 10, &n, &t.err));
    assert_int_equal(n, 1);
    assert_int_equal(refs("b1"), 1);
    OK(tx_file_due(&t.tx, at + KEPT - 1, &due, &t.err));
    assert_false(due);
    OK(tx_file_get(&t.tx, WS, id_str(&row.id), at + KEPT - 1, &t.a, &got, &t.err));
    assert_false(str_some(got.blob));
    assert_str(got.filename, "a");

    assert_int_equal(tx_file_get(&t.tx, WS, id_str(&row.id), at + KEPT, &t.a, &got, &t.err),
                     ERR_NOT_FOUND);
    OK(tx_file_due(&t.tx, at + KEPT, &due, &t.err));
    assert_true(due);
    OK(tx_file_expire(&t.tx, at + KEPT, 10, &n, &t.err));
    assert_int_equal(n, 1);
    OK(tx_file_due(&t.tx, at + 9 * KEPT, &due, &t.err));
    assert_false(due);
    assert_int_equal(refs("b1"), 1);
}

static void many_expired_files_go_in_bounded_steps(void **state)
{
    (void)state;
    int64_t n = 0;
    for (int i = 0; i < 5; i++) {
        struct file_row row = a_file("a", i % 2 ? "b1" : "b2");
        row.expires_us = 10 + i;
        OK(tx_file_insert(&t.tx, WS, &row, &t.err));
    }
    const int64_t want[] = {2, 2, 1, 0};
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        OK(tx_file_expire(&t.tx, 100, 2, &n, &t.err));
        assert_int_equal(n, want[i]);
    }
    assert_int_equal(refs("b1"), 0);
    assert_int_equal(refs("b2"), 0);
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        OK(tx_file_expire(&t.tx, 100 + KEPT, 2, &n, &t.err));
        assert_int_equal(n, want[i]);
    }
}

static void the_files_of_a_session_go_with_it(void **state)
{
    (void)state;
    struct session_row s = {.id = id_new("sesn"),
                            .workspace_id = t.ws,
                            .thread_id = id_new("sthr"),
                            .agent_id = id_new("agent"),
                            .environment_id = id_new("env")};
    OK(tx_session_insert(&t.tx, &s, &t.err));
    struct file_row kept = insert("kept", "b1"), got;
    for (int i = 0; i < 3; i++) {
        struct file_row row = a_file("made", i ? "b1" : "b2");
        row.scope_id = s.id;
        OK(tx_file_insert(&t.tx, WS, &row, &t.err));
    }
    assert_int_equal(refs("b1"), 3);
    OK(tx_session_delete(&t.tx, s.key, &t.err));
    assert_int_equal(refs("b1"), 1);
    assert_int_equal(refs("b2"), 0);
    OK(tx_file_get(&t.tx, WS, id_str(&kept.id), 1, &t.a, &got, &t.err));
    struct file_filter f = {.limit = 10};
    struct file_row *rows;
    size_t n;
    bool more;
    OK(tx_file_list(&t.tx, WS, &f, &t.a, &rows, &n, &more, &t.err));
    assert_int_equal(n, 1);
}

static void lists_go_both_ways_from_any_id(void **state)
{
    (void)state;
    enum { N = 7 };
    struct id ids[N], scope = id_new("sesn");
    for (int i = 0; i < N; i++) {
        struct file_row row = a_file("a", "b1");
        if (i % 2)
            row.scope_id = scope;
        row.expires_us = i == 3 ? HOUR : 0;
        OK(tx_file_insert(&t.tx, WS, &row, &t.err));
        ids[i] = row.id;
    }
    const int64_t now = HOUR + KEPT; /* number 3 is gone, though its row is there */
    const struct {
        int after, before, scope, limit;
        const char *want;
        bool more;
    } cases[] = {
        {-1, -1, 0, 3, "654", true}, {4, -1, 0, 3, "210", false}, {4, -1, 0, 2, "21", true},
        {3, -1, 0, 2, "21", true},   {0, -1, 0, 2, "", false},    {-1, 2, 0, 3, "654", false},
        {-1, 0, 0, 2, "21", true},   {-1, 6, 0, 2, "", false},    {5, 1, 0, 9, "42", false},
        {-1, -1, 1, 9, "51", false}, {-1, 0, 1, 1, "1", true},    {5, -1, 1, 9, "1", false},
    };
    for (size_t c = 0; c < COUNT_OF(cases); c++) {
        struct file_filter f = {.limit = cases[c].limit, .now_us = now};
        if (cases[c].after >= 0)
            f.after = id_str(&ids[cases[c].after]);
        if (cases[c].before >= 0)
            f.before = id_str(&ids[cases[c].before]);
        if (cases[c].scope)
            f.scope_id = id_str(&scope);
        struct file_row *rows;
        size_t n;
        bool more;
        char got[N + 1] = "";
        OK(tx_file_list(&t.tx, WS, &f, &t.a, &rows, &n, &more, &t.err));
        for (size_t i = 0; i < n; i++)
            for (int j = 0; j < N; j++)
                if (strcmp(ids[j].z, rows[i].id.z) == 0)
                    got[i] = (char)('0' + j), got[i + 1] = '\0';
        assert_string_equal(got, cases[c].want);
        assert_int_equal(more, cases[c].more);
    }
    struct file_filter none = {.limit = 0};
    assert_int_equal(tx_file_list(&t.tx, WS, &none, &t.a, NULL, NULL, NULL, &t.err), ERR_INVALID);
}

/* ---- the sweep, on a store and blobs ---- */

static struct sweeping {
    struct fixture fx;
    char dir[64];
    struct blobs blobs;
    struct file_sweep *sweep;
    struct id ws;
    int rounds;
    bool closed;
    struct err trouble;
} w;

static void rested(void *arg)
{
    (void)arg;
    w.rounds++;
    loop_stop(w.fx.loop);
}

static void trouble(void *arg, const struct err *err)
{
    (void)arg;
    w.trouble = *err;
}

static void closed(void *arg)
{
    (void)arg;
    w.closed = true;
    loop_stop(w.fx.loop);
}

static int make_workspace(struct store_tx *tx, void *arg, struct err *err)
{
    (void)arg;
    return tx_workspace_ensure(tx, STR("default"), 1, &w.ws, err);
}

static int sweep_setup(void **state)
{
    struct err err;
    (void)state;
    memset(&w, 0, sizeof w);
    fixture_mkdtemp(w.dir);
    fixture_open(&w.fx, w.dir);
    assert_int_equal(fixture_write(&w.fx, make_workspace, NULL).code, 0);
    assert_int_equal(blobs_open(&w.blobs, w.dir, &err), 0);
    return 0;
}

static void start_sweep(void)
{
    const struct file_sweep_config cfg = {.loop = w.fx.loop,
                                          .store = w.fx.port,
                                          .blobs = &w.blobs,
                                          .trouble = trouble,
                                          .rested = rested};
    w.sweep = file_sweep_start(&cfg);
}

static void a_round(void)
{
    int before = w.rounds;
    if (w.sweep)
        file_sweep_kick(w.sweep);
    else
        start_sweep();
    while (w.rounds == before)
        loop_run(w.fx.loop);
}

static int sweep_teardown(void **state)
{
    (void)state;
    if (w.sweep) {
        file_sweep_close(w.sweep, closed, NULL);
        while (!w.closed)
            loop_run(w.fx.loop);
    }
    fixture_close(&w.fx);
    blobs_close(&w.blobs);
    fixture_rmtree(w.dir);
    return 0;
}

static struct blob_id put(const char *text)
{
    struct blob_id id;
    struct err err;
    assert_int_equal(blob_put(&w.blobs, str_z(text), &id, &err), 0);
    return id;
}

static bool there(const struct blob_id *id)
{
    int fd = -1;
    int64_t size;
    struct err err;
    int rc = blob_open(&w.blobs, str_z(id->z), &fd, &size, &err);
    fd_close(fd);
    assert_true(rc == 0 || rc == ERR_NOT_FOUND);
    return rc == 0;
}

static int insert_job(struct store_tx *tx, void *arg, struct err *err)
{
    return tx_file_insert(tx, id_str(&w.ws), arg, err);
}

static int delete_job(struct store_tx *tx, void *arg, struct err *err)
{
    const struct file_row *row = arg;
    return tx_file_delete(tx, id_str(&w.ws), id_str(&row->id), clock_unix_us(), err);
}

static void blobs_without_a_row_are_swept_at_the_start(void **state)
{
    (void)state;
    struct blob_id used = put("used"), stray = put("stray"), other = put("other stray");
    struct file_row row = a_file("a", used.z);
    assert_int_equal(fixture_write(&w.fx, insert_job, &row).code, 0);
    a_round();
    assert_true(there(&used));
    assert_false(there(&stray));
    assert_false(there(&other));
    assert_int_equal(w.trouble.code, 0);
    stray = put("stray"); /* later on nobody looks for them: they may be on their way in */
    a_round();
    assert_true(there(&stray));
}

static void a_deleted_file_s_content_goes_unless_another_has_it(void **state)
{
    (void)state;
    struct blob_id id = put("shared");
    struct file_row one = a_file("a", id.z), two = a_file("b", id.z);
    assert_int_equal(fixture_write(&w.fx, insert_job, &one).code, 0);
    assert_int_equal(fixture_write(&w.fx, insert_job, &two).code, 0);
    assert_int_equal(fixture_write(&w.fx, delete_job, &one).code, 0);
    a_round();
    assert_true(there(&id));
    assert_int_equal(fixture_write(&w.fx, delete_job, &two).code, 0);
    a_round();
    assert_false(there(&id));
    assert_int_equal(w.trouble.code, 0);
}

static void more_unused_contents_than_one_step_takes_go_in_one_round(void **state)
{
    (void)state;
    enum { N = 150 };
    struct blob_id ids[N];
    for (int i = 0; i < N; i++) {
        char text[32];
        snprintf(text, sizeof text, "content %d", i);
        ids[i] = put(text);
        struct file_row row = a_file("a", ids[i].z);
        row.expires_us = 1 + i; /* long ago: the row goes as well */
        assert_int_equal(fixture_write(&w.fx, insert_job, &row).code, 0);
    }
    a_round();
    for (int i = 0; i < N; i++)
        assert_false(there(&ids[i]));
}

/* The bytes are finished, then swept as unused, then referred to: the name must come back. */
struct settle_job {
    struct blob_upload *upload;
    struct file_row row;
};

static int settle(struct store_tx *tx, void *arg, struct err *err)
{
    struct settle_job *j = arg;
    int rc = blob_upload_settle(j->upload, err);
    return rc ? rc : tx_file_insert(tx, id_str(&w.ws), &j->row, err);
}

static void content_swept_between_upload_and_row_comes_back(void **state)
{
    (void)state;
    struct blob_id id;
    struct err err;
    struct settle_job j = {0};
    assert_int_equal(blob_upload_open(&w.blobs, &j.upload, &err), 0);
    assert_int_equal(blob_upload_add(j.upload, STR("slow"), &err), 0);
    assert_int_equal(blob_upload_finish(j.upload, &id, &err), 0);
    a_round();
    assert_false(there(&id));
    j.row = a_file("a", id.z);
    assert_int_equal(fixture_write(&w.fx, settle, &j).code, 0);
    assert_true(there(&id));
    blob_upload_close(j.upload);
    a_round();
    assert_true(there(&id));
}

static void a_sweep_can_be_closed_at_any_step(void **state)
{
    (void)state;
    struct blob_id id = put("stray");
    start_sweep();
    file_sweep_kick(w.sweep);
    (void)id; /* sweep_teardown() closes it before its first round is over */
}

static void trouble_is_reported_and_the_next_round_tries_again(void **state)
{
    (void)state;
    struct blob_id id = put("stray");
    struct blobs good = w.blobs;
    w.blobs.dir = -1;
    a_round();
    assert_int_not_equal(w.trouble.code, 0);
    w.blobs = good;
    w.trouble = (struct err){0};
    a_round();
    assert_int_equal(w.trouble.code, 0);
    assert_false(there(&id));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define S(name) cmocka_unit_test_setup_teardown(name, sweep_setup, sweep_teardown)
    const struct CMUnitTest tests[] = {
        T(a_file_is_stored_and_read_back_whole),
        T(a_database_from_before_files_is_migrated),
        T(another_workspace_sees_nothing_of_it),
        T(a_content_is_unused_when_its_last_file_went),
        T(a_content_that_was_used_again_meanwhile_is_not_forgotten),
        T(an_expired_file_loses_its_content_and_later_its_row),
        T(many_expired_files_go_in_bounded_steps),
        T(the_files_of_a_session_go_with_it),
        T(lists_go_both_ways_from_any_id),
        S(blobs_without_a_row_are_swept_at_the_start),
        S(a_deleted_file_s_content_goes_unless_another_has_it),
        S(more_unused_contents_than_one_step_takes_go_in_one_round),
        S(content_swept_between_upload_and_row_comes_back),
        S(a_sweep_can_be_closed_at_any_step),
        S(trouble_is_reported_and_the_next_round_tries_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
