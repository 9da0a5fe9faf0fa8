/* Skills, their versions, and the contents that a session was given. */
#include "store_rig.h"

#include "store/checkpoints.h"

#include "base/limits.h"

static struct skill_row a_skill(int64_t now_us)
{
    struct skill_row row = {.id = id_new(SKILL_PREFIX),
                            .name = STR("sort"),
                            .created_us = now_us,
                            .updated_us = now_us};
    OK(tx_skill_insert(&t.tx, WS, &row, &t.err));
    return row;
}

static struct skill_version_row a_version(const struct skill_row *skill, const char *blob,
                                          int64_t now_us)
{
    struct skill_version_row row = {.id = id_new(SKILL_VERSION_PREFIX),
                                    .skill_id = skill->id,
                                    .name = skill->name,
                                    .description = STR("Sorts."),
                                    .directory = skill->name,
                                    .blob = str_z(blob),
                                    .created_us = now_us};
    OK(tx_skill_version_insert(&t.tx, &row, 10, &t.a, &t.err));
    return row;
}

static struct skill_row look(const struct skill_row *skill)
{
    struct skill_row row = {0};
    OK(tx_skill_get(&t.tx, WS, id_str(&skill->id), &t.a, &row, &t.err));
    return row;
}

static int64_t refs(const char *blob)
{
    static const char sql[] = "SELECT refs FROM blob WHERE name = ?1";
    int64_t n = -1;
    OK(db_number(t.db, sql, DB_ARGS(db_text(str_z(blob))), -1, &n, &t.err));
    return n;
}

static struct str find(const struct skill_row *skill, struct str which)
{
    struct skill_version_row row = {0};
    OK(tx_skill_version_get(&t.tx, WS, id_str(&skill->id), which, &t.a, &row, &t.err));
    return arena_str(&t.a, id_str(&row.id));
}

static void the_latest_version_is_the_newest_there_is(void **state)
{
    (void)state;
    struct skill_row skill = a_skill(1000);
    assert_string_equal(look(&skill).latest_id.z, "");
    assert_false(str_some(look(&skill).latest_version));
    struct skill_version_row one = a_version(&skill, "b1", 2000),
                             two = a_version(&skill, "b2", 3000);
    assert_string_equal(look(&skill).latest_id.z, two.id.z);
    assert_int_equal(look(&skill).updated_us, 3000);
    assert_true(str_eq(find(&skill, STR("latest")), id_str(&two.id)));
    assert_true(str_eq(find(&skill, one.version), id_str(&one.id)));
    assert_true(str_eq(find(&skill, id_str(&one.id)), id_str(&one.id)));
    OK(tx_skill_version_delete(&t.tx, &two, 4000, &t.err));
    assert_string_equal(look(&skill).latest_id.z, one.id.z);
    assert_int_equal(look(&skill).updated_us, 4000);
    assert_int_equal(tx_skill_delete(&t.tx, WS, id_str(&skill.id), &t.err), ERR_INVALID);
    assert_string_equal(t.err.msg, "Cannot delete skill with existing versions");
    OK(tx_skill_version_delete(&t.tx, &one, 5000, &t.err));
    assert_int_equal(tx_skill_version_delete(&t.tx, &one, 5000, &t.err), ERR_NOT_FOUND);
    struct skill_version_row gone;
    assert_int_equal(
        tx_skill_version_get(&t.tx, WS, id_str(&skill.id), STR("latest"), &t.a, &gone, &t.err),
        ERR_NOT_FOUND);
    OK(tx_skill_delete(&t.tx, WS, id_str(&skill.id), &t.err));
    assert_int_equal(tx_skill_delete(&t.tx, WS, id_str(&skill.id), &t.err), ERR_NOT_FOUND);
    assert_int_equal(refs("b1") + refs("b2"), 0);
}

static void version_numbers_grow_when_the_clock_goes_back(void **state)
{
    (void)state;
    struct skill_row skill = a_skill(1000);
    struct skill_version_row rows[] = {a_version(&skill, "b1", 5000), a_version(&skill, "b2", 5000),
                                       a_version(&skill, "b3", 100)};
    struct skill_version_row *page;
    size_t n;
    bool more;
    assert_true(str_eqz(rows[0].version, "0000000000005000"));
    assert_true(str_eqz(rows[2].version, "0000000000005002"));
    OK(tx_skill_version_list(&t.tx, WS, id_str(&skill.id), STR_NONE, 2, &t.a, &page, &n, &more,
                             &t.err));
    assert_int_equal(n, 2);
    assert_true(more);
    assert_string_equal(page[0].id.z, rows[2].id.z);
    OK(tx_skill_version_list(&t.tx, WS, id_str(&skill.id), page[1].version, 2, &t.a, &page, &n,
                             &more, &t.err));
    assert_int_equal(n, 1);
    assert_false(more);
    assert_string_equal(page[0].id.z, rows[0].id.z);
}

static void skills_of_another_workspace_do_not_exist(void **state)
{
    (void)state;
    struct skill_row skill = a_skill(1000), got, *rows;
    struct skill_version_row version = a_version(&skill, "b1", 2000), *versions;
    struct str other = id_str(&t.other), id = id_str(&skill.id);
    struct page page = {.limit = 10};
    size_t n;
    bool more;
    assert_int_equal(tx_skill_get(&t.tx, other, id, &t.a, &got, &t.err), ERR_NOT_FOUND);
    assert_int_equal(tx_skill_delete(&t.tx, other, id, &t.err), ERR_NOT_FOUND);
    assert_int_equal(
        tx_skill_version_get(&t.tx, other, id, id_str(&version.id), &t.a, &version, &t.err),
        ERR_NOT_FOUND);
    OK(tx_skill_list(&t.tx, other, &page, &t.a, &rows, &n, &more, &t.err));
    assert_int_equal(n, 0);
    OK(tx_skill_version_list(&t.tx, other, id, STR_NONE, 10, &t.a, &versions, &n, &more, &t.err));
    assert_int_equal(n, 0);
    OK(tx_skill_list(&t.tx, WS, &page, &t.a, &rows, &n, &more, &t.err));
    assert_int_equal(n, 1);
}

static void a_session_keeps_its_contents_until_it_is_deleted(void **state)
{
    (void)state;
    struct skill_row skill = a_skill(1000);
    struct skill_version_row version = a_version(&skill, "b1", 2000);
    struct session_row sessions[2] = {0};
    for (size_t i = 0; i < COUNT_OF(sessions); i++) {
        sessions[i] = (struct session_row){.id = id_new("sesn"),
                                           .workspace_id = t.ws,
                                           .thread_id = id_new("sthr"),
                                           .agent_id = id_new("agent"),
                                           .environment_id = id_new("env"),
                                           .created_us = 1};
        OK(tx_session_insert(&t.tx, &sessions[i], &t.err));
        OK(tx_session_blob_add(&t.tx, sessions[i].key, version.blob, &t.err));
        OK(tx_session_blob_add(&t.tx, sessions[i].key, version.blob, &t.err));
    }
    assert_int_equal(refs("b1"), 3);
    OK(tx_skill_version_delete(&t.tx, &version, 3000, &t.err));
    OK(tx_session_delete(&t.tx, sessions[0].key, &t.err));
    assert_int_equal(refs("b1"), 1);
    OK(tx_session_delete(&t.tx, sessions[1].key, &t.err));
    assert_int_equal(refs("b1"), 0);
}

static void a_content_that_is_named_no_more_is_the_sessions_no_more(void **state)
{
    (void)state;
    struct skill_row skill = a_skill(1000);
    struct skill_version_row one = a_version(&skill, "b1", 2000);
    struct skill_version_row two = a_version(&skill, "b2", 2001);
    struct session_row session = {.id = id_new("sesn"),
                                  .workspace_id = t.ws,
                                  .thread_id = id_new("sthr"),
                                  .agent_id = id_new("agent"),
                                  .environment_id = id_new("env"),
                                  .created_us = 1};
    OK(tx_session_insert(&t.tx, &session, &t.err));
    OK(tx_session_blob_add(&t.tx, session.key, one.blob, &t.err));
    OK(tx_session_blob_drop(&t.tx, session.key, one.blob, &t.err));
    OK(tx_session_blob_drop(&t.tx, session.key, one.blob, &t.err));
    OK(tx_session_blob_drop(&t.tx, session.key, two.blob, &t.err));
    assert_int_equal(refs("b1"), 1);
    assert_int_equal(refs("b2"), 1);
    /* What a checkpoint is made of stays, whatever else it is. */
    const struct checkpoint_row row = {.seq = 3, .manifest = two.blob, .at_us = 1};
    const struct checkpoint_blob blobs[] = {{two.blob, 1}, {one.blob, 1}};
    OK(tx_session_blob_add(&t.tx, session.key, two.blob, &t.err));
    OK(tx_checkpoint_put(&t.tx, id_str(&session.id), &row, blobs, 2, &t.err));
    OK(tx_session_blob_drop(&t.tx, session.key, two.blob, &t.err));
    OK(tx_session_blob_drop(&t.tx, session.key, one.blob, &t.err));
    assert_int_equal(refs("b1"), 2);
    assert_int_equal(refs("b2"), 2);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_latest_version_is_the_newest_there_is),
        T(version_numbers_grow_when_the_clock_goes_back),
        T(skills_of_another_workspace_do_not_exist),
        T(a_session_keeps_its_contents_until_it_is_deleted),
        T(a_content_that_is_named_no_more_is_the_sessions_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
