/* How outcomes stand: what becomes of the text that a session shows. */
#include "core/outcome_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>

static struct buf list;
static struct err err;

static int set_up(void **state)
{
    (void)state;
    buf_init(&list, OUTCOME_LIST_ROOM);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buf_fini(&list);
    return 0;
}

static int define(const char *id)
{
    char body[256];
    snprintf(body, sizeof body, "{\"outcome_id\":\"%s\",\"description\":\"d\"}", id);
    return outcome_list_define(&list, str_z(body), &err);
}

static void apply(enum event_type type, const char *body)
{
    const struct event e = {.type = type, .body = str_z(body)};
    assert_int_equal(outcome_list_apply(&list, &e, 1, &err), 0);
}

#define END(id, result)                                                                            \
    "{\"outcome_id\":\"" id "\",\"result\":\"" result "\",\"explanation\":\"why\","                \
    "\"processed_at\":\"then\"}"

static bool has(const char *text)
{
    return str_find(buf_view(&list), str_z(text)) >= 0;
}

static void one_goes_from_pending_to_its_end(void **state)
{
    (void)state;
    assert_int_equal(define("outc_1"), 0);
    assert_true(str_eqz(buf_view(&list),
                        "[{\"type\":\"outcome_evaluation\",\"outcome_id\":\"outc_1\","
                        "\"description\":\"d\",\"result\":\"pending\",\"explanation\":null,"
                        "\"iteration\":0,\"completed_at\":null}]"));
    apply(EVENT_USER_DEFINE_OUTCOME, "{\"outcome_id\":\"outc_1\",\"description\":\"d\"}");
    assert_true(has("\"result\":\"running\""));
    apply(EVENT_SPAN_OUTCOME_EVALUATION_START, "{\"outcome_id\":\"outc_1\",\"iteration\":0}");
    assert_true(has("\"result\":\"evaluating\""));
    apply(EVENT_SPAN_OUTCOME_EVALUATION_END, END("outc_1", "needs_revision"));
    assert_true(has("\"result\":\"running\",\"explanation\":\"why\",\"iteration\":1,"
                    "\"completed_at\":null"));
    apply(EVENT_SPAN_OUTCOME_EVALUATION_END, END("outc_1", "satisfied"));
    assert_true(has("\"result\":\"satisfied\",\"explanation\":\"why\",\"iteration\":1,"
                    "\"completed_at\":\"then\""));
}

static void there_is_one_at_a_time(void **state)
{
    (void)state;
    assert_int_equal(define("outc_1"), 0);
    assert_int_equal(define("outc_2"), ERR_INVALID);
    assert_non_null(strstr(err.msg, "outc_1"));
    apply(EVENT_USER_DEFINE_OUTCOME, "{\"outcome_id\":\"outc_1\"}");
    assert_int_equal(define("outc_2"), ERR_INVALID);
    apply(EVENT_SPAN_OUTCOME_EVALUATION_END, END("outc_1", "max_iterations_reached"));
    assert_int_equal(define("outc_2"), 0);
}

static void what_the_last_turn_left_is_noted_for_its_own_outcome(void **state)
{
    (void)state;
    assert_int_equal(define("outc_1"), 0);
    apply(EVENT_SPAN_OUTCOME_EVALUATION_END, END("outc_1", "max_iterations_reached"));
    AUTO_BUF struct buf other = BUF_INIT(OUTCOME_LIST_ROOM);
    buf_str(&other, buf_view(&list));
    assert_int_equal(define("outc_2"), 0);
    assert_int_equal(outcome_list_close(&list, STR("outc_1"), STR("{\"result\":\"x\"}"), &err), 0);
    assert_true(has("\"closing\":{\"result\":\"x\"}},{"));
    assert_int_equal(outcome_list_close_as(&other, buf_view(&list), &err), 0);
    assert_true(str_find(buf_view(&other), STR("\"closing\":{\"result\":\"x\"}}]")) > 0);
}

static void the_oldest_say_less_when_there_is_too_much(void **state)
{
    (void)state;
    enum { SIZE = OUTCOME_LIST_BYTES / 2 };
    AUTO_BUF struct buf body = BUF_INIT(OUTCOME_LIST_BYTES);
    for (int i = 0; i < 3; i++) {
        buf_clear(&body);
        buf_printf(&body, "{\"outcome_id\":\"outc_%d\",\"result\":\"failed\",\"explanation\":\"%d",
                   i, i);
        for (int n = 0; n < SIZE; n++)
            buf_ch(&body, 'x');
        buf_z(&body, "\",\"processed_at\":\"then\"}");
        const struct event e = {.type = EVENT_SPAN_OUTCOME_EVALUATION_END, .body = buf_view(&body)};
        assert_int_equal(outcome_list_apply(&list, &e, 1, &err), 0);
        assert_true(list.len <= OUTCOME_LIST_BYTES);
    }
    assert_true(has("\"outcome_id\":\"outc_0\",\"description\":\"\",\"result\":\"failed\","
                    "\"explanation\":null"));
    assert_true(has("\"explanation\":\"2xxx"));
}

static void a_text_that_cannot_be_read_is_said(void **state)
{
    (void)state;
    buf_z(&list, "[{");
    assert_int_equal(define("outc_1"), ERR_CORRUPT);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(one_goes_from_pending_to_its_end),
        T(there_is_one_at_a_time),
        T(what_the_last_turn_left_is_noted_for_its_own_outcome),
        T(the_oldest_say_less_when_there_is_too_much),
        T(a_text_that_cannot_be_read_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
