/* The typed operations, on a connection of the test's own: no threads. */
#include "store_rig.h"

#include "base/limits.h"

static int64_t count(const char *table)
{
    char sql[64];
    int64_t n = -1;
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    /* Statements are cached by address, so each text needs one that lives on. */
    const char *kept = arena_str(&t.a, str_z(sql)).ptr;
    OK(db_number(t.db, kept, NULL, 0, -1, &n, &t.err));
    return n;
}

/* ---- workspaces, keys, meta ---- */

static void a_workspace_is_created_once_by_name(void **state)
{
    (void)state;
    struct id again;
    OK(tx_workspace_ensure(&t.tx, STR("default"), 9, &again, &t.err));
    assert_string_equal(again.z, t.ws.z);
    assert_true(id_valid(id_str(&again), "wrkspc"));
    assert_string_not_equal(t.ws.z, t.other.z);
}

static struct key_row make_key(const char *name, struct id ws)
{
    return (struct key_row){
        .id = id_new("apikey"), .workspace_id = ws, .name = str_z(name), .created_us = 5};
}

static void a_key_is_found_by_its_hash_until_it_is_revoked(void **state)
{
    (void)state;
    unsigned char hash[32] = {1, 2, 0, 3}, unknown[32] = {9};
    struct key_row key = make_key("ci", t.ws), got;
    OK(tx_key_add(&t.tx, &key, hash, &t.err));
    OK(tx_key_find(&t.tx, hash, &t.a, &got, &t.err));
    assert_string_equal(got.id.z, key.id.z);
    assert_string_equal(got.workspace_id.z, t.ws.z);
    assert_str(got.workspace_name, "default");
    assert_str(got.name, "ci");
    assert_int_equal(got.created_us, 5);
    assert_int_equal(tx_key_find(&t.tx, unknown, &t.a, &got, &t.err), ERR_NOT_FOUND);

    OK(tx_key_revoke(&t.tx, id_str(&key.id), 77, &t.err));
    assert_int_equal(tx_key_find(&t.tx, hash, &t.a, &got, &t.err), ERR_NOT_FOUND);
    OK(tx_key_revoke(&t.tx, id_str(&key.id), 99, &t.err));
    struct key_row *rows;
    size_t n;
    OK(tx_key_list(&t.tx, &t.a, &rows, &n, &t.err));
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].revoked_us, 77);
    assert_int_equal(tx_key_revoke(&t.tx, STR("apikey_none"), 1, &t.err), ERR_NOT_FOUND);
}

static void a_key_cannot_be_added_twice_or_to_no_workspace(void **state)
{
    (void)state;
    unsigned char hash[32] = {7}, hash2[32] = {8};
    struct key_row one = make_key("a", t.ws), two = make_key("b", t.other);
    OK(tx_key_add(&t.tx, &one, hash, &t.err));
    assert_int_equal(tx_key_add(&t.tx, &two, hash, &t.err), ERR_EXISTS);
    struct key_row lost = make_key("c", id_new("wrkspc"));
    assert_int_equal(tx_key_add(&t.tx, &lost, hash2, &t.err), ERR_NOT_FOUND);
}

static void a_meta_value_is_replaced_and_dropped(void **state)
{
    (void)state;
    struct str v;
    OK(tx_meta_get(&t.tx, "k", &t.a, &v, &t.err));
    assert_false(str_some(v));
    OK(tx_meta_put(&t.tx, "k", str_n("a\0b", 3), &t.err));
    OK(tx_meta_put(&t.tx, "k", str_n("\0\xff", 2), &t.err));
    OK(tx_meta_get(&t.tx, "k", &t.a, &v, &t.err));
    assert_int_equal(v.len, 2);
    assert_memory_equal(v.ptr, "\0\xff", 2);
    OK(tx_meta_put(&t.tx, "k", STR(""), &t.err));
    OK(tx_meta_get(&t.tx, "k", &t.a, &v, &t.err));
    assert_true(str_some(v) && v.len == 0);
    OK(tx_meta_put(&t.tx, "k", STR_NONE, &t.err));
    OK(tx_meta_get(&t.tx, "k", &t.a, &v, &t.err));
    assert_false(str_some(v));
}

/* ---- agents ---- */

static struct agent_row make_agent(int64_t created_us)
{
    return (struct agent_row){.id = id_new("agent"),
                              .version = 1,
                              .body = STR("{\"name\":\"a\"}"),
                              .created_us = created_us,
                              .updated_us = created_us};
}

static void an_agent_keeps_every_version(void **state)
{
    (void)state;
    struct agent_row ag = make_agent(100), got;
    OK(tx_agent_insert(&t.tx, WS, &ag, &t.err));
    struct agent_row v2 = ag;
    v2.version = 2;
    v2.body = STR("{\"name\":\"b\"}");
    v2.updated_us = 200;
    OK(tx_agent_add_version(&t.tx, WS, &v2, &t.err));

    OK(tx_agent_get(&t.tx, WS, id_str(&ag.id), 0, &t.a, &got, &t.err));
    assert_int_equal(got.version, 2);
    assert_str(got.body, "{\"name\":\"b\"}");
    assert_int_equal(got.created_us, 100);
    assert_int_equal(got.updated_us, 200);
    OK(tx_agent_get(&t.tx, WS, id_str(&ag.id), 1, &t.a, &got, &t.err));
    assert_int_equal(got.version, 1);
    assert_str(got.body, "{\"name\":\"a\"}");
    assert_int_equal(got.updated_us, 100);
    assert_int_equal(tx_agent_get(&t.tx, WS, id_str(&ag.id), 3, &t.a, &got, &t.err), ERR_NOT_FOUND);
    assert_non_null(strstr(t.err.msg, "version 3"));
}

static void a_version_that_does_not_follow_the_latest_is_a_conflict(void **state)
{
    (void)state;
    struct agent_row ag = make_agent(100);
    OK(tx_agent_insert(&t.tx, WS, &ag, &t.err));
    for (int64_t v = 0; v < 5; v++) {
        struct agent_row next = ag;
        next.version = v;
        if (v != 2)
            assert_int_equal(tx_agent_add_version(&t.tx, WS, &next, &t.err), ERR_CONFLICT);
    }
    assert_int_equal(count("agent_version"), 1);
    assert_int_equal(tx_agent_insert(&t.tx, WS, &ag, &t.err), ERR_EXISTS);
}

static void an_agent_of_another_workspace_is_not_found(void **state)
{
    (void)state;
    struct agent_row ag = make_agent(100), got, *rows;
    size_t n;
    bool more;
    OK(tx_agent_insert(&t.tx, WS, &ag, &t.err));
    struct agent_row v2 = ag;
    v2.version = 2;
    struct str id = id_str(&ag.id);
    struct page page = {.limit = 10};
    assert_int_equal(tx_agent_get(&t.tx, OTHER, id, 0, &t.a, &got, &t.err), ERR_NOT_FOUND);
    assert_int_equal(tx_agent_get(&t.tx, OTHER, id, 1, &t.a, &got, &t.err), ERR_NOT_FOUND);
    assert_int_equal(tx_agent_add_version(&t.tx, OTHER, &v2, &t.err), ERR_NOT_FOUND);
    assert_int_equal(tx_agent_archive(&t.tx, OTHER, id, 5, &t.err), ERR_NOT_FOUND);
    assert_int_equal(tx_agent_versions(&t.tx, OTHER, id, &page, &t.a, &rows, &n, &more, &t.err),
                     ERR_NOT_FOUND);
    OK(tx_agent_list(&t.tx, OTHER, &(struct agent_filter){0}, &page, &t.a, &rows, &n, &more,
                     &t.err));
    assert_int_equal(n, 0);
    assert_false(more);
    OK(tx_agent_get(&t.tx, WS, id, 0, &t.a, &got, &t.err));
    assert_int_equal(got.version, 1);
    assert_int_equal(got.archived_us, 0);
}

static void archiving_twice_keeps_the_first_time(void **state)
{
    (void)state;
    struct agent_row ag = make_agent(100), got;
    OK(tx_agent_insert(&t.tx, WS, &ag, &t.err));
    OK(tx_agent_archive(&t.tx, WS, id_str(&ag.id), 500, &t.err));
    OK(tx_agent_archive(&t.tx, WS, id_str(&ag.id), 900, &t.err));
    OK(tx_agent_get(&t.tx, WS, id_str(&ag.id), 0, &t.a, &got, &t.err));
    assert_int_equal(got.archived_us, 500);
}

/* ---- environments ---- */

static struct environment_row make_environment(int64_t created_us)
{
    return (struct environment_row){.id = id_new("env"),
                                    .name = STR("e"),
                                    .body = STR("{\"config\":{}}"),
                                    .created_us = created_us,
                                    .updated_us = created_us};
}

static void an_environment_is_changed_in_place(void **state)
{
    (void)state;
    struct environment_row e = make_environment(10), got;
    OK(tx_environment_insert(&t.tx, WS, &e, &t.err));
    assert_int_equal(tx_environment_insert(&t.tx, WS, &e, &t.err), ERR_EXISTS);
    e.name = STR("f");
    e.body = STR("{}");
    e.updated_us = 20;
    e.archived_us = 30;
    e.created_us = 999; /* not written */
    OK(tx_environment_update(&t.tx, WS, &e, &t.err));
    OK(tx_environment_get(&t.tx, WS, id_str(&e.id), &t.a, &got, &t.err));
    assert_str(got.name, "f");
    assert_str(got.body, "{}");
    assert_int_equal(got.created_us, 10);
    assert_int_equal(got.updated_us, 20);
    assert_int_equal(got.archived_us, 30);
}

static void an_environment_of_another_workspace_is_not_found(void **state)
{
    (void)state;
    struct environment_row e = make_environment(10), got;
    struct str id = id_str(&e.id);
    OK(tx_environment_insert(&t.tx, WS, &e, &t.err));
    assert_int_equal(tx_environment_get(&t.tx, OTHER, id, &t.a, &got, &t.err), ERR_NOT_FOUND);
    assert_int_equal(tx_environment_update(&t.tx, OTHER, &e, &t.err), ERR_NOT_FOUND);
    assert_int_equal(tx_environment_delete(&t.tx, OTHER, id, &t.err), ERR_NOT_FOUND);
    OK(tx_environment_get(&t.tx, WS, id, &t.a, &got, &t.err));
}

/* ---- sessions ---- */

static struct session_row make_session(struct id environment, int64_t created_us)
{
    return (struct session_row){.id = id_new("sesn"),
                                .workspace_id = t.ws,
                                .thread_id = id_new("sthr"),
                                .agent_id = id_new("agent"),
                                .agent_version = 3,
                                .environment_id = environment,
                                .agent = STR("{\"snapshot\":1.50}"),
                                .environment = STR("{\"type\":\"cloud\"}"),
                                .title = STR("title"),
                                .metadata = STR("{\"k\":\"v\"}"),
                                .status = SESSION_IDLE,
                                .created_us = created_us,
                                .updated_us = created_us,
                                .epoch = 1};
}

static struct session_row add_session(void)
{
    struct session_row s = make_session(id_new("env"), 1000);
    OK(tx_session_insert(&t.tx, &s, &t.err));
    return s;
}

static struct session_row get_session(const struct id *id)
{
    struct session_row s;
    OK(tx_session_get(&t.tx, WS, id_str(id), &t.a, &s, &t.err));
    return s;
}

static void a_session_comes_back_as_it_was_stored(void **state)
{
    (void)state;
    struct session_row s = make_session(id_new("env"), 1000), got;
    s.usage = (struct session_usage){1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    s.status = SESSION_RUNNING;
    s.stop_reason = STR("{\"type\":\"end_turn\"}");
    s.has_sandbox = true;
    OK(tx_session_insert(&t.tx, &s, &t.err));
    assert_true(s.key > 0);
    got = get_session(&s.id);
    assert_int_equal(got.key, s.key);
    assert_string_equal(got.id.z, s.id.z);
    assert_string_equal(got.workspace_id.z, t.ws.z);
    assert_string_equal(got.thread_id.z, s.thread_id.z);
    assert_string_equal(got.agent_id.z, s.agent_id.z);
    assert_string_equal(got.environment_id.z, s.environment_id.z);
    assert_int_equal(got.agent_version, 3);
    assert_str(got.agent, "{\"snapshot\":1.50}");
    assert_str(got.environment, "{\"type\":\"cloud\"}");
    assert_str(got.title, "title");
    assert_str(got.metadata, "{\"k\":\"v\"}");
    assert_str(got.stop_reason, "{\"type\":\"end_turn\"}");
    assert_int_equal(got.status, SESSION_RUNNING);
    assert_int_equal(got.created_us, 1000);
    assert_int_equal(got.epoch, 1);
    assert_true(got.has_sandbox);
    assert_false(got.inbox);
    assert_memory_equal(&got.usage, &s.usage, sizeof got.usage);
    assert_int_equal(count("thread"), 1);
    assert_int_equal(tx_session_insert(&t.tx, &s, &t.err), ERR_EXISTS);
}

static void a_session_of_another_workspace_is_not_found(void **state)
{
    (void)state;
    struct session_row s = add_session(), got;
    assert_int_equal(tx_session_get(&t.tx, OTHER, id_str(&s.id), &t.a, &got, &t.err),
                     ERR_NOT_FOUND);
    assert_int_equal(tx_session_get(&t.tx, WS, STR("sesn_x"), &t.a, &got, &t.err), ERR_NOT_FOUND);
    OK(tx_session_get(&t.tx, STR_NONE, id_str(&s.id), &t.a, &got, &t.err));
    struct session_row stray = make_session(id_new("env"), 1);
    stray.workspace_id = id_new("wrkspc");
    assert_int_equal(tx_session_insert(&t.tx, &stray, &t.err), ERR_NOT_FOUND);
}

static void an_update_writes_what_clients_may_change_and_nothing_else(void **state)
{
    (void)state;
    struct session_row s = add_session();
    struct session_row u = s;
    u.title = STR_NONE;
    u.metadata = STR("{}");
    u.agent = STR("{\"snapshot\":2}");
    u.archived_us = 50;
    u.updated_us = 60;
    u.status = SESSION_TERMINATED;
    u.epoch = 99;
    OK(tx_session_update(&t.tx, &u, &t.err));
    struct session_row got = get_session(&s.id);
    assert_false(str_some(got.title));
    assert_str(got.metadata, "{}");
    assert_str(got.agent, "{\"snapshot\":2}");
    assert_int_equal(got.archived_us, 50);
    assert_int_equal(got.updated_us, 60);
    assert_int_equal(got.status, SESSION_IDLE);
    assert_int_equal(got.epoch, 1);
    u.key = 12345;
    assert_int_equal(tx_session_update(&t.tx, &u, &t.err), ERR_NOT_FOUND);
}

static void an_environment_in_use_cannot_be_deleted_until_its_sessions_are_archived(void **state)
{
    (void)state;
    struct environment_row e = make_environment(10);
    OK(tx_environment_insert(&t.tx, WS, &e, &t.err));
    struct session_row s = make_session(e.id, 1000);
    OK(tx_session_insert(&t.tx, &s, &t.err));
    assert_int_equal(tx_environment_delete(&t.tx, WS, id_str(&e.id), &t.err), ERR_CONFLICT);
    s.archived_us = 5;
    OK(tx_session_update(&t.tx, &s, &t.err));
    OK(tx_environment_delete(&t.tx, WS, id_str(&e.id), &t.err));
    assert_int_equal(tx_environment_delete(&t.tx, WS, id_str(&e.id), &t.err), ERR_NOT_FOUND);
}

/* ---- inbox and log ---- */

static struct event make_event(int64_t seq, enum event_type type, const char *body)
{
    return (struct event){.seq = seq,
                          .type = type,
                          .id = id_new("sevt"),
                          .processed_us = 1000 + seq,
                          .body = str_z(body)};
}

static int64_t add_inbox(const struct session_row *s, const char *body)
{
    struct inbox_row in = {.event = make_event(0, EVENT_USER_MESSAGE, body)};
    OK(tx_inbox_add(&t.tx, s->key, &in, &t.err));
    return in.number;
}

static bool active(const struct id *id)
{
    struct id *ids;
    size_t n;
    OK(tx_session_active(&t.tx, &t.a, &ids, &n, &t.err));
    for (size_t i = 0; i < n; i++)
        if (strcmp(ids[i].z, id->z) == 0)
            return true;
    return false;
}

static void append_ok(const struct session_row *s, int64_t base, struct event *ev, size_t n)
{
    struct session_append ap = {
        .key = s->key, .epoch = 1, .base_seq = base, .events = ev, .nevents = n};
    OK(tx_session_append(&t.tx, &ap, &t.err));
}

static void a_large_inbox_is_read_in_parts(void **state)
{
    (void)state;
    struct session_row s = add_session();
    char *large = malloc(LIMIT_INBOX_READ / 2 + 2);
    memset(large, 'x', LIMIT_INBOX_READ / 2 + 1);
    large[LIMIT_INBOX_READ / 2 + 1] = '\0';
    int64_t last = 0;
    for (int i = 0; i < 3; i++)
        last = add_inbox(&s, large);
    free(large);
    AUTO_ARENA struct arena arena;
    arena_init(&arena, 4ul * LIMIT_INBOX_READ);
    struct inbox_row *rows;
    size_t n;
    OK(tx_inbox_list(&t.tx, s.key, 0, &arena, &rows, &n, &t.err));
    assert_int_equal(n, 2);
    OK(tx_inbox_list(&t.tx, s.key, rows[1].number, &arena, &rows, &n, &t.err));
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].number, last);
    OK(tx_inbox_list(&t.tx, s.key, last, &arena, &rows, &n, &t.err));
    assert_int_equal(n, 0);
}

static void what_waits_is_counted_without_what_was_processed(void **state)
{
    (void)state;
    struct session_row s = add_session(), other = add_session();
    int64_t events = -1, bytes = -1;
    OK(tx_inbox_size(&t.tx, s.key, &events, &bytes, &t.err));
    assert_true(events == 0 && bytes == 0);
    int64_t first = add_inbox(&s, "four");
    struct inbox_row in = {.event = make_event(0, EVENT_USER_MESSAGE, "\xc3\xa9")};
    in.event.transcript = STR("[1]");
    OK(tx_inbox_add(&t.tx, s.key, &in, &t.err));
    add_inbox(&other, "another's");
    OK(tx_inbox_size(&t.tx, s.key, &events, &bytes, &t.err));
    assert_true(events == 2 && bytes == 9);
    struct event done = make_event(1, EVENT_USER_MESSAGE, "four");
    const struct session_append ap = {.key = s.key,
                                      .epoch = 1,
                                      .events = &done,
                                      .nevents = 1,
                                      .inbox_done = &first,
                                      .ninbox_done = 1};
    OK(tx_session_append(&t.tx, &ap, &t.err));
    OK(tx_inbox_size(&t.tx, s.key, &events, &bytes, &t.err));
    assert_true(events == 1 && bytes == 5);
}

static void the_inbox_keeps_the_order_of_arrival_across_sessions(void **state)
{
    (void)state;
    struct session_row a = add_session(), b = add_session();
    int64_t n1 = add_inbox(&a, "1"), n2 = add_inbox(&b, "2"), n3 = add_inbox(&a, "3");
    assert_true(n1 < n2 && n2 < n3);
    struct inbox_row *rows;
    size_t n;
    OK(tx_inbox_list(&t.tx, a.key, 0, &t.a, &rows, &n, &t.err));
    assert_int_equal(n, 2);
    assert_int_equal(rows[0].number, n1);
    assert_int_equal(rows[1].number, n3);
    assert_str(rows[1].event.body, "3");
    assert_int_equal(rows[1].event.type, EVENT_USER_MESSAGE);
    assert_int_equal(rows[1].event.seq, 0);
    assert_int_equal(rows[1].event.processed_us, 0);
    assert_false(str_some(rows[1].event.transcript));
    OK(tx_inbox_list(&t.tx, a.key, n1, &t.a, &rows, &n, &t.err));
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].number, n3);
    assert_true(get_session(&a.id).inbox);
    struct inbox_row lost = {.event = make_event(0, EVENT_USER_MESSAGE, "x")};
    assert_int_equal(tx_inbox_add(&t.tx, 999, &lost, &t.err), ERR_NOT_FOUND);
}

static void a_session_is_active_while_it_runs_or_its_inbox_waits(void **state)
{
    (void)state;
    struct session_row s = add_session();
    assert_false(active(&s.id));
    int64_t number = add_inbox(&s, "{}");
    assert_true(active(&s.id));

    struct event ev = make_event(1, EVENT_USER_MESSAGE, "{}");
    struct session_append ap = {.key = s.key,
                                .epoch = 1,
                                .events = &ev,
                                .nevents = 1,
                                .inbox_done = &number,
                                .ninbox_done = 1,
                                .set_status = true,
                                .status = SESSION_RUNNING,
                                .updated_us = 7};
    OK(tx_session_append(&t.tx, &ap, &t.err));
    assert_false(get_session(&s.id).inbox);
    assert_true(active(&s.id));
    ap = (struct session_append){.key = s.key,
                                 .epoch = 1,
                                 .base_seq = 1,
                                 .set_status = true,
                                 .status = SESSION_RESCHEDULING};
    OK(tx_session_append(&t.tx, &ap, &t.err));
    assert_true(active(&s.id));
    ap.status = SESSION_IDLE;
    OK(tx_session_append(&t.tx, &ap, &t.err));
    assert_false(active(&s.id));
    /* A number is never used again, even when it was the last one. */
    assert_true(add_inbox(&s, "{}") > number);
}

static void sessions_are_counted_by_status(void **state)
{
    (void)state;
    const enum session_status all[] = {SESSION_IDLE,         SESSION_IDLE,       SESSION_RUNNING,
                                       SESSION_RESCHEDULING, SESSION_TERMINATED, SESSION_IDLE};
    struct session_row last = {0};
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        last = make_session(id_new("env"), 1);
        last.status = all[i];
        OK(tx_session_insert(&t.tx, &last, &t.err));
    }
    add_inbox(&last, "{}"); /* idle with a waiting inbox is still idle */
    int64_t c[4];
    OK(tx_session_counts(&t.tx, c, &t.err));
    assert_int_equal(c[SESSION_IDLE], 3);
    assert_int_equal(c[SESSION_RUNNING], 1);
    assert_int_equal(c[SESSION_RESCHEDULING], 1);
    assert_int_equal(c[SESSION_TERMINATED], 1);
}

static void an_append_moves_the_head_and_the_log_together(void **state)
{
    (void)state;
    struct session_row s = add_session();
    struct event ev[2] = {make_event(1, EVENT_USER_MESSAGE, "{\"a\":1}"),
                          make_event(2, EVENT_AGENT_MESSAGE, "{\"b\":2}")};
    ev[1].transcript = STR("[{\"thinking\":1}]");
    struct session_append ap = {.key = s.key,
                                .epoch = 1,
                                .events = ev,
                                .nevents = 2,
                                .set_status = true,
                                .status = SESSION_RUNNING,
                                .stop_reason = STR("{}"),
                                .updated_us = 70,
                                .usage = {11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1},
                                .set_sandbox = true};
    OK(tx_session_append(&t.tx, &ap, &t.err));
    struct session_row got = get_session(&s.id);
    assert_int_equal(got.last_seq, 2);
    assert_int_equal(got.last_processed_us, 1002);
    assert_int_equal(got.status, SESSION_RUNNING);
    assert_int_equal(got.updated_us, 70);
    assert_true(got.has_sandbox);
    assert_str(got.stop_reason, "{}");
    assert_memory_equal(&got.usage, &ap.usage, sizeof got.usage);

    /* Without set_status the head's other fields stay. */
    struct event third = make_event(3, EVENT_AGENT_MESSAGE, "{}");
    append_ok(&s, 2, &third, 1);
    got = get_session(&s.id);
    assert_int_equal(got.last_seq, 3);
    assert_int_equal(got.status, SESSION_RUNNING);
    assert_true(got.has_sandbox);
    assert_int_equal(got.usage.input_tokens, 11);

    struct event *rows;
    size_t n;
    bool more;
    struct event_filter f = {.transcript = true};
    OK(tx_event_list(&t.tx, s.key, &f, &t.a, &rows, &n, &more, &t.err));
    assert_int_equal(n, 3);
    assert_false(more);
    assert_int_equal(rows[0].seq, 1);
    assert_string_equal(rows[0].id.z, ev[0].id.z);
    assert_str(rows[0].body, "{\"a\":1}");
    assert_false(str_some(rows[0].transcript));
    assert_str(rows[1].transcript, "[{\"thinking\":1}]");
    assert_int_equal(rows[1].type, EVENT_AGENT_MESSAGE);
    assert_int_equal(rows[1].processed_us, 1002);
    f.transcript = false;
    OK(tx_event_list(&t.tx, s.key, &f, &t.a, &rows, &n, &more, &t.err));
    assert_false(str_some(rows[1].transcript));
}

static void the_newest_compaction_of_a_session_is_found(void **state)
{
    (void)state;
    struct session_row s = add_session(), noise = add_session();
    int64_t seq = -1;
    OK(tx_event_last_compaction(&t.tx, s.key, &seq, &t.err));
    assert_int_equal(seq, 0);
    struct event ev[5];
    for (int i = 0; i < 5; i++)
        ev[i] = make_event(
            i + 1, i % 2 ? EVENT_AGENT_THREAD_CONTEXT_COMPACTED : EVENT_AGENT_MESSAGE, "{}");
    append_ok(&s, 0, ev, 5);
    append_ok(&noise, 0, ev, 2);
    OK(tx_event_last_compaction(&t.tx, s.key, &seq, &t.err));
    assert_int_equal(seq, 4);
    OK(tx_event_last_compaction(&t.tx, noise.key, &seq, &t.err));
    assert_int_equal(seq, 2);
}

static void a_writer_without_the_epoch_or_the_position_is_fenced_and_leaves_nothing(void **state)
{
    (void)state;
    struct session_row s = add_session();
    int64_t number = add_inbox(&s, "{}");
    struct event ev[2] = {make_event(1, EVENT_USER_MESSAGE, "{}"),
                          make_event(2, EVENT_USER_MESSAGE, "{}")};
    append_ok(&s, 0, ev, 1);
    const struct {
        int64_t epoch, base;
    } wrong[] = {{0, 1}, {2, 1}, {1, 0}, {1, 2}, {2, 2}};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct event e = make_event(wrong[i].base + 1, EVENT_USER_MESSAGE, "{}");
        struct session_append ap = {.key = s.key,
                                    .epoch = wrong[i].epoch,
                                    .base_seq = wrong[i].base,
                                    .events = &e,
                                    .nevents = 1,
                                    .inbox_done = &number,
                                    .ninbox_done = 1,
                                    .set_status = true,
                                    .status = SESSION_TERMINATED};
        assert_int_equal(tx_session_append(&t.tx, &ap, &t.err), ERR_FENCED);
        assert_int_equal(count("event"), 1);
        assert_int_equal(count("inbox"), 1);
        assert_int_equal(get_session(&s.id).status, SESSION_IDLE);
    }
    int64_t epoch;
    OK(tx_session_take(&t.tx, s.key, &epoch, &t.err));
    assert_int_equal(epoch, 2);
    struct session_append late = {
        .key = s.key, .epoch = 1, .base_seq = 1, .events = &ev[1], .nevents = 1};
    assert_int_equal(tx_session_append(&t.tx, &late, &t.err), ERR_FENCED);
    late.epoch = 2;
    OK(tx_session_append(&t.tx, &late, &t.err));
    late.key = 4242;
    assert_int_equal(tx_session_append(&t.tx, &late, &t.err), ERR_NOT_FOUND);
    assert_int_equal(tx_session_take(&t.tx, 4242, &epoch, &t.err), ERR_NOT_FOUND);
}

static void an_append_of_a_gap_or_of_a_foreign_inbox_entry_fails(void **state)
{
    (void)state;
    struct session_row s = add_session(), other = add_session();
    struct event gap = make_event(2, EVENT_USER_MESSAGE, "{}");
    struct session_append ap = {.key = s.key, .epoch = 1, .events = &gap, .nevents = 1};
    assert_int_equal(tx_session_append(&t.tx, &ap, &t.err), ERR_INTERNAL);
    int64_t number = add_inbox(&other, "{}");
    struct event good = make_event(1, EVENT_USER_MESSAGE, "{}");
    ap.events = &good;
    ap.inbox_done = &number;
    ap.ninbox_done = 1;
    assert_int_equal(tx_session_append(&t.tx, &ap, &t.err), ERR_CONFLICT);
}

static void list_seqs(const struct session_row *s, struct event_filter f, const char *want,
                      bool want_more)
{
    struct event *rows;
    size_t n;
    bool more;
    OK(tx_event_list(&t.tx, s->key, &f, &t.a, &rows, &n, &more, &t.err));
    char got[256] = "";
    for (size_t i = 0; i < n; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%d", i ? " " : "",
                 (int)rows[i].seq);
    assert_string_equal(got, want);
    assert_int_equal(more, want_more);
}

static void events_are_filtered_by_position_type_and_time(void **state)
{
    (void)state;
    struct session_row s = add_session(), noise = add_session();
    struct event ev[9], one = make_event(1, EVENT_USER_MESSAGE, "{}");
    for (int i = 0; i < 9; i++)
        ev[i] =
            make_event(i + 1, i % 3 ? EVENT_AGENT_MESSAGE : EVENT_WORKFLOW_RUN_PHASE_ENDED, "{}");
    append_ok(&noise, 0, &one, 1);
    append_ok(&s, 0, ev, 9);
    list_seqs(&s, (struct event_filter){0}, "1 2 3 4 5 6 7 8 9", false);
    list_seqs(&s, (struct event_filter){.limit = 9}, "1 2 3 4 5 6 7 8 9", false);
    list_seqs(&s, (struct event_filter){.limit = 4}, "1 2 3 4", true);
    list_seqs(&s, (struct event_filter){.limit = 4, .after_seq = 4}, "5 6 7 8", true);
    list_seqs(&s, (struct event_filter){.limit = 4, .after_seq = 8}, "9", false);
    list_seqs(&s, (struct event_filter){.limit = 4, .after_seq = 9}, "", false);
    list_seqs(&s, (struct event_filter){.limit = 4, .desc = true}, "9 8 7 6", true);
    list_seqs(&s, (struct event_filter){.limit = 4, .desc = true, .before_seq = 4}, "3 2 1", false);
    uint64_t phase = UINT64_C(1) << EVENT_WORKFLOW_RUN_PHASE_ENDED;
    list_seqs(&s, (struct event_filter){.types = phase}, "1 4 7", false);
    list_seqs(&s, (struct event_filter){.types = phase, .limit = 2, .desc = true}, "7 4", true);
    list_seqs(&s, (struct event_filter){.gt_us = 1003, .lte_us = 1006}, "4 5 6", false);
    list_seqs(&s, (struct event_filter){.gte_us = 1003, .lt_us = 1006}, "3 4 5", false);
    list_seqs(&noise, (struct event_filter){.transcript = true}, "1", false);
}

static void an_event_is_found_by_its_id_within_its_session(void **state)
{
    (void)state;
    struct session_row s = add_session(), other = add_session();
    struct event ev[3];
    for (int i = 0; i < 3; i++)
        ev[i] = make_event(i + 1, EVENT_AGENT_MESSAGE, "{}");
    append_ok(&s, 0, ev, 3);
    int64_t seq = 0;
    OK(tx_event_seq(&t.tx, s.key, id_str(&ev[1].id), &seq, &t.err));
    assert_int_equal(seq, 2);
    assert_int_equal(tx_event_seq(&t.tx, other.key, id_str(&ev[1].id), &seq, &t.err),
                     ERR_NOT_FOUND);
    assert_int_equal(tx_event_seq(&t.tx, s.key, STR("sevt_x"), &seq, &t.err), ERR_NOT_FOUND);
    assert_int_equal(seq, 2);
}

static void deleting_a_session_leaves_nothing_of_it(void **state)
{
    (void)state;
    struct session_row s = add_session(), stays = add_session();
    struct event ev = make_event(1, EVENT_AGENT_MESSAGE, "{}");
    ev.transcript = STR("[]");
    append_ok(&s, 0, &ev, 1);
    ev.id = id_new("sevt");
    append_ok(&stays, 0, &ev, 1);
    add_inbox(&s, "{}");
    add_inbox(&stays, "{}");
    OK(tx_session_delete(&t.tx, s.key, &t.err));
    static const char *const tables[] = {"session", "session_config", "thread",
                                         "event",   "transcript",     "inbox"};
    for (size_t i = 0; i < COUNT_OF(tables); i++)
        assert_int_equal(count(tables[i]), 1);
    get_session(&stays.id);
    assert_int_equal(tx_session_delete(&t.tx, s.key, &t.err), ERR_NOT_FOUND);
}

static void a_result_beyond_the_arena_is_an_error_and_not_a_cut(void **state)
{
    (void)state;
    struct session_row s = add_session();
    AUTO_FREE char *big = mem_zalloc(3000);
    memset(big, 'x', 2999);
    struct event ev[3];
    for (int i = 0; i < 3; i++)
        ev[i] = make_event(i + 1, EVENT_AGENT_MESSAGE, big);
    append_ok(&s, 0, ev, 3);
    AUTO_ARENA struct arena small;
    arena_init(&small, 5000);
    struct event *rows = NULL;
    size_t n = 7;
    bool more;
    struct event_filter f = {0};
    assert_int_equal(tx_event_list(&t.tx, s.key, &f, &small, &rows, &n, &more, &t.err), ERR_LIMIT);
    assert_null(rows);
    assert_int_equal(n, 7);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_workspace_is_created_once_by_name),
        T(a_key_is_found_by_its_hash_until_it_is_revoked),
        T(a_key_cannot_be_added_twice_or_to_no_workspace),
        T(a_meta_value_is_replaced_and_dropped),
        T(an_agent_keeps_every_version),
        T(a_version_that_does_not_follow_the_latest_is_a_conflict),
        T(an_agent_of_another_workspace_is_not_found),
        T(archiving_twice_keeps_the_first_time),
        T(an_environment_is_changed_in_place),
        T(an_environment_of_another_workspace_is_not_found),
        T(a_session_comes_back_as_it_was_stored),
        T(a_session_of_another_workspace_is_not_found),
        T(an_update_writes_what_clients_may_change_and_nothing_else),
        T(an_environment_in_use_cannot_be_deleted_until_its_sessions_are_archived),
        T(a_large_inbox_is_read_in_parts),
        T(what_waits_is_counted_without_what_was_processed),
        T(the_inbox_keeps_the_order_of_arrival_across_sessions),
        T(a_session_is_active_while_it_runs_or_its_inbox_waits),
        T(sessions_are_counted_by_status),
        T(an_append_moves_the_head_and_the_log_together),
        T(the_newest_compaction_of_a_session_is_found),
        T(a_writer_without_the_epoch_or_the_position_is_fenced_and_leaves_nothing),
        T(an_append_of_a_gap_or_of_a_foreign_inbox_entry_fails),
        T(events_are_filtered_by_position_type_and_time),
        T(an_event_is_found_by_its_id_within_its_session),
        T(deleting_a_session_leaves_nothing_of_it),
        T(a_result_beyond_the_arena_is_an_error_and_not_a_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
