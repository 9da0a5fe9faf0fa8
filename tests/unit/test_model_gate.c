#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "io/loop.h"
#include "model/gate.h"

struct visitor {
    struct gate_wait wait;
    char name;
};

static struct {
    struct loop *loop;
    struct gate *gate;
    struct buf order; /* names of those let in, in order */
    size_t wanted;    /* stops the loop at so many */
} t;

static void let_in(struct gate_wait *w)
{
    buf_ch(&t.order, CONTAINER_OF(w, struct visitor, wait)->name);
    if (t.order.len == t.wanted)
        loop_stop(t.loop);
}

static void open_gate(const struct gate_limits *limits)
{
    t.loop = loop_new();
    t.gate = gate_new(t.loop, limits);
    t.order = BUF_INIT(1000);
    buf_z(&t.order, "");
    t.wanted = 0;
}

static void close_gate(void)
{
    gate_free(t.gate);
    loop_run(t.loop);
    loop_free(t.loop);
    buf_fini(&t.order);
}

static void enter(struct visitor *v, char name, const char *session, int64_t tokens)
{
    v->name = name;
    if (gate_enter(t.gate, &v->wait, str_z(session), tokens, let_in))
        buf_ch(&t.order, name);
}

static void without_limits_everybody_goes_on_at_once(void **state)
{
    (void)state;
    open_gate(&(struct gate_limits){0});
    struct visitor v[50];
    for (size_t i = 0; i < COUNT_OF(v); i++)
        enter(&v[i], 'x', "s", 1000000);
    assert_int_equal(t.order.len, COUNT_OF(v));
    for (size_t i = 0; i < COUNT_OF(v); i++)
        gate_leave(t.gate, &v[i].wait, -1);
    close_gate();
}

static void sessions_are_served_in_turns(void **state)
{
    (void)state;
    open_gate(&(struct gate_limits){.max_concurrent = 1});
    struct visitor v[7];
    enter(&v[0], 'a', "A", 0);
    enter(&v[1], 'b', "A", 0);
    enter(&v[2], 'c', "A", 0);
    enter(&v[3], 'd', "A", 0);
    enter(&v[4], 'X', "B", 0);
    enter(&v[5], 'Y', "C", 0);
    enter(&v[6], 'Z', "C", 0);
    assert_string_equal(t.order.data, "a");
    assert_int_equal(gate_waiting(t.gate), 6);
    struct visitor *in_order[] = {&v[0], &v[1], &v[4], &v[5], &v[2], &v[6], &v[3]};
    for (size_t i = 0; i < COUNT_OF(in_order); i++)
        gate_leave(t.gate, &in_order[i]->wait, -1);
    assert_string_equal(t.order.data, "abXYcZd");
    assert_int_equal(gate_waiting(t.gate), 0);
    close_gate();
}

static void so_many_run_at_a_time_and_no_more(void **state)
{
    (void)state;
    open_gate(&(struct gate_limits){.max_concurrent = 3});
    struct visitor v[5];
    for (size_t i = 0; i < COUNT_OF(v); i++)
        enter(&v[i], (char)('a' + i), "s", 0);
    assert_string_equal(t.order.data, "abc");
    gate_leave(t.gate, &v[1].wait, -1);
    assert_string_equal(t.order.data, "abcd");
    gate_leave(t.gate, &v[1].wait, -1); /* harmless */
    assert_string_equal(t.order.data, "abcd");
    gate_leave(t.gate, &v[0].wait, -1);
    assert_string_equal(t.order.data, "abcde");
    gate_leave(t.gate, &v[2].wait, -1);
    gate_leave(t.gate, &v[3].wait, -1);
    gate_leave(t.gate, &v[4].wait, -1);
    close_gate();
}

static void who_gives_up_waiting_is_not_let_in(void **state)
{
    (void)state;
    open_gate(&(struct gate_limits){.max_concurrent = 1});
    struct visitor v[4];
    enter(&v[0], 'a', "A", 0);
    enter(&v[1], 'b', "A", 0);
    enter(&v[2], 'c', "B", 0);
    enter(&v[3], 'd', "A", 0);
    gate_leave(t.gate, &v[2].wait, -1);
    gate_leave(t.gate, &v[1].wait, -1);
    assert_int_equal(gate_waiting(t.gate), 1);
    gate_leave(t.gate, &v[0].wait, -1);
    assert_string_equal(t.order.data, "ad");
    gate_leave(t.gate, &v[3].wait, -1);
    close_gate();
}

static void a_rate_lets_the_next_in_when_its_time_has_come(void **state)
{
    (void)state;
    /* A hundred tokens a millisecond. */
    open_gate(&(struct gate_limits){.tokens_per_minute = 6000000});
    struct visitor v[3];
    int64_t begin = loop_now_ms(t.loop);
    enter(&v[0], 'a', "A", 6000000 + 4000); /* more than there is: passes, leaves a debt */
    enter(&v[1], 'b', "B", 1000);
    enter(&v[2], 'c', "B", 1);
    assert_string_equal(t.order.data, "a");
    t.wanted = 3;
    loop_run(t.loop);
    assert_string_equal(t.order.data, "abc");
    assert_true(loop_now_ms(t.loop) - begin >= 50);
    for (size_t i = 0; i < COUNT_OF(v); i++)
        gate_leave(t.gate, &v[i].wait, -1);
    close_gate();
}

static void an_estimate_is_corrected_by_what_was_used(void **state)
{
    (void)state;
    open_gate(&(struct gate_limits){.tokens_per_minute = 60});
    struct visitor v[3];
    enter(&v[0], 'a', "A", 100000);
    enter(&v[1], 'b', "B", 60);
    assert_string_equal(t.order.data, "a");
    gate_leave(t.gate, &v[0].wait, 10);
    assert_string_equal(t.order.data, "ab");
    gate_leave(t.gate, &v[1].wait, 100000);
    enter(&v[2], 'c', "A", 1);
    assert_string_equal(t.order.data, "ab");
    gate_leave(t.gate, &v[2].wait, -1);
    close_gate();
}

static void a_bucket_fills_by_the_minute_and_not_beyond(void **state)
{
    (void)state;
    struct bucket b = bucket_full(60, 1000);
    assert_int_equal(bucket_wait_ms(&b, 1000, 60), 0);
    bucket_take(&b, 60);
    assert_int_equal(bucket_wait_ms(&b, 1000, 1), 1000);
    assert_int_equal(bucket_wait_ms(&b, 1400, 1), 600);
    assert_int_equal(bucket_wait_ms(&b, 2000, 1), 0);
    bucket_take(&b, 31);
    assert_int_equal(bucket_wait_ms(&b, 2000, 1), 31000);
    assert_int_equal(bucket_wait_ms(&b, 33000, 1), 0);
    assert_int_equal(bucket_wait_ms(&b, 90000000, 60), 0);
    assert_int_equal(bucket_wait_ms(&b, 90000000, 61), 1000);
    bucket_take(&b, -1000); /* given back, but it holds no more */
    assert_int_equal(bucket_wait_ms(&b, 90000000, 61), 1000);
    bucket_take(&b, INT64_MAX);
    assert_true(bucket_wait_ms(&b, 90000000, 1) <= 61 * 60 * 1000);
    struct bucket none = bucket_full(0, 0), huge = bucket_full(INT64_MAX, 0);
    bucket_take(&none, INT64_MAX);
    assert_int_equal(bucket_wait_ms(&none, 0, 1), 0);
    bucket_take(&huge, INT64_MAX);
    bucket_take(&huge, INT64_MAX);
    assert_int_equal(bucket_wait_ms(&huge, INT64_MAX, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_limits_everybody_goes_on_at_once),
        cmocka_unit_test(sessions_are_served_in_turns),
        cmocka_unit_test(so_many_run_at_a_time_and_no_more),
        cmocka_unit_test(who_gives_up_waiting_is_not_let_in),
        cmocka_unit_test(a_rate_lets_the_next_in_when_its_time_has_come),
        cmocka_unit_test(an_estimate_is_corrected_by_what_was_used),
        cmocka_unit_test(a_bucket_fills_by_the_minute_and_not_beyond),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
