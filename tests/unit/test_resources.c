/* What is attached to sessions: rows, the provision, sealed secrets. */
#include "store_rig.h"

#include "store/resources.h"
#include "store/secret.h"

#include <sys/stat.h>
#include <unistd.h>

static struct session_row session;

static int setup_session(void **state)
{
    setup(state);
    session = (struct session_row){.id = id_new("sesn"),
                                   .workspace_id = t.ws,
                                   .thread_id = id_new("sthr"),
                                   .agent_id = id_new("agent"),
                                   .environment_id = id_new("env"),
                                   .provision = STR("{\"files\":[]}"),
                                   .created_us = 1};
    OK(tx_session_insert(&t.tx, &session, &t.err));
    return 0;
}

static struct resource_row insert(int64_t created_us, struct str secret)
{
    struct resource_row row = {.id = id_new("sesrsc"),
                               .kind = STR("github_repository"),
                               .body = STR("{\"id\":\"x\"}"),
                               .secret = secret,
                               .created_us = created_us,
                               .updated_us = created_us};
    OK(tx_resource_insert(&t.tx, session.key, &row, &t.err));
    return row;
}

static void a_resource_is_stored_and_read_back_whole(void **state)
{
    (void)state;
    struct resource_row row = insert(5, str_n("a\0b", 3)), got;
    OK(tx_resource_get(&t.tx, session.key, id_str(&row.id), &t.a, &got, &t.err));
    assert_string_equal(got.id.z, row.id.z);
    assert_true(str_eqz(got.kind, "github_repository"));
    assert_true(str_eq(got.body, row.body));
    assert_true(str_eq(got.secret, row.secret));
    assert_string_equal(got.file_id.z, "");
    got.body = STR("{}");
    got.secret = STR_NONE;
    got.updated_us = 9;
    OK(tx_resource_update(&t.tx, session.key, &got, &t.err));
    OK(tx_resource_get(&t.tx, session.key, id_str(&row.id), &t.a, &got, &t.err));
    assert_true(str_eqz(got.body, "{}"));
    assert_false(str_some(got.secret));
    assert_int_equal(got.updated_us, 9);
    assert_int_equal(tx_resource_get(&t.tx, session.key + 1, id_str(&row.id), &t.a, &got, &t.err),
                     ERR_NOT_FOUND);
    OK(tx_resource_delete(&t.tx, session.key, id_str(&row.id), &t.err));
    assert_int_equal(tx_resource_delete(&t.tx, session.key, id_str(&row.id), &t.err),
                     ERR_NOT_FOUND);
    assert_int_equal(tx_resource_update(&t.tx, session.key, &row, &t.err), ERR_NOT_FOUND);
}

static void the_list_pages_in_the_order_of_creation(void **state)
{
    (void)state;
    struct resource_row made[5], *rows;
    struct page page = {.limit = 2};
    size_t n, seen = 0;
    bool more = true;
    for (int i = 0; i < 5; i++)
        made[i] = insert(10 + i / 2, STR_NONE);
    while (more) {
        OK(tx_resource_list(&t.tx, session.key, &page, &t.a, &rows, &n, &more, &t.err));
        for (size_t i = 0; i < n; i++)
            assert_string_equal(rows[i].id.z, made[seen++].id.z);
        page.after = page_position(&t.a, rows[n - 1].created_us, &rows[n - 1].id);
    }
    assert_int_equal(seen, 5);
}

static void the_provision_is_the_sessions_and_goes_with_it(void **state)
{
    (void)state;
    struct session_row got;
    struct resource_row row = insert(5, STR_NONE);
    OK(tx_session_get(&t.tx, STR_NONE, id_str(&session.id), &t.a, &got, &t.err));
    assert_true(str_eqz(got.provision, "{\"files\":[]}"));
    OK(tx_session_provision(&t.tx, session.key, STR("{}"), 77, &t.err));
    OK(tx_session_get(&t.tx, STR_NONE, id_str(&session.id), &t.a, &got, &t.err));
    assert_true(str_eqz(got.provision, "{}"));
    assert_int_equal(got.updated_us, 77);
    OK(tx_session_delete(&t.tx, session.key, &t.err));
    assert_int_equal(tx_resource_get(&t.tx, session.key, id_str(&row.id), &t.a, &row, &t.err),
                     ERR_NOT_FOUND);
    assert_int_equal(tx_session_provision(&t.tx, session.key, STR("{}"), 78, &t.err),
                     ERR_NOT_FOUND);
}

/* ---- secrets ---- */

static void a_secret_is_sealed_and_opened_again(void **state)
{
    (void)state;
    struct str sealed, again, opened;
    struct stat st;
    char key[128];
    OK(secret_seal(t.dir, STR("sesrsc_1"), STR("the token"), &t.a, &sealed, &t.err));
    OK(secret_seal(t.dir, STR("sesrsc_1"), STR("the token"), &t.a, &again, &t.err));
    assert_false(str_eq(sealed, again)); /* a nonce of its own each time */
    assert_true(str_find(sealed, STR("token")) < 0);
    OK(secret_open(t.dir, STR("sesrsc_1"), sealed, &t.a, &opened, &t.err));
    assert_true(str_eqz(opened, "the token"));
    OK(secret_seal(t.dir, STR("sesrsc_1"), STR(""), &t.a, &sealed, &t.err));
    OK(secret_open(t.dir, STR("sesrsc_1"), sealed, &t.a, &opened, &t.err));
    assert_int_equal(opened.len, 0);
    snprintf(key, sizeof key, "%s/secret-key", t.dir);
    assert_int_equal(stat(key, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_sealed_secret_that_is_not_the_one_is_refused(void **state)
{
    (void)state;
    struct str sealed, opened;
    char key[128], copy[512];
    OK(secret_seal(t.dir, STR("sesrsc_1"), STR("the token"), &t.a, &sealed, &t.err));
    assert_int_equal(secret_open(t.dir, STR("sesrsc_2"), sealed, &t.a, &opened, &t.err),
                     ERR_CORRUPT);
    assert_int_equal(
        secret_open(t.dir, STR("sesrsc_1"), str_take(sealed, 20), &t.a, &opened, &t.err),
        ERR_CORRUPT);
    for (size_t i = 0; i < sealed.len; i++) {
        memcpy(copy, sealed.ptr, sealed.len);
        copy[i] ^= 1;
        assert_int_equal(
            secret_open(t.dir, STR("sesrsc_1"), str_n(copy, sealed.len), &t.a, &opened, &t.err),
            ERR_CORRUPT);
    }
    snprintf(key, sizeof key, "%s/secret-key", t.dir);
    assert_int_equal(chmod(key, 0644), 0);
    assert_int_equal(secret_open(t.dir, STR("sesrsc_1"), sealed, &t.a, &opened, &t.err),
                     ERR_CORRUPT);
    assert_int_equal(unlink(key), 0); /* without the key it is lost, and no other is made */
    assert_int_not_equal(secret_open(t.dir, STR("sesrsc_1"), sealed, &t.a, &opened, &t.err), 0);
    assert_int_not_equal(access(key, F_OK), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_session, teardown)
    const struct CMUnitTest tests[] = {
        T(a_resource_is_stored_and_read_back_whole),
        T(the_list_pages_in_the_order_of_creation),
        T(the_provision_is_the_sessions_and_goes_with_it),
        T(a_secret_is_sealed_and_opened_again),
        T(a_sealed_secret_that_is_not_the_one_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
