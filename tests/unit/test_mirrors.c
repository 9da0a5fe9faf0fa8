/* The cache of fetched repositories: what is kept, what goes, and that nothing in use does. */
#include "base/fd.h"
#include "base/limits.h"
#include "sandbox/mirrors.h"
#include "sandbox/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KIB = 1024, CONTENT_KIB = 256, NOW_S = 2000000000 };

static char dir[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ostler-mirrors-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    struct err err;
    return tree_remove(dir, &err);
}

static const char *path_of(const char *name, const char *end)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s%s", dir, name, end);
    return path;
}

/* The mirror with something in it, taken `ago_s` before now; the descriptor that keeps it. */
static int take(const char *name, int64_t ago_s)
{
    static char content[CONTENT_KIB * KIB];
    struct err err;
    int use = -1;
    if (mirror_take(dir, name, 0, &use, &err))
        fail_msg("%s", err.msg);
    memset(content, name[0], sizeof content);
    unlink(path_of(name, ".git/pack"));
    AUTO_FD int fd = open(path_of(name, ".git/pack"), O_WRONLY | O_CREAT | O_EXCL, 0444);
    assert_int_equal(fd_write_all(fd, str_n(content, sizeof content), &err), 0);
    assert_int_equal(fsync(fd), 0); /* so that its blocks are counted */
    const struct timespec times[2] = {{.tv_sec = NOW_S - ago_s}, {.tv_sec = NOW_S - ago_s}};
    assert_int_equal(futimens(use, times), 0);
    return use;
}

static void put(const char *name, int64_t ago_s)
{
    fd_close(take(name, ago_s));
}

static bool there(const char *name)
{
    bool mirror = access(path_of(name, ".git"), F_OK) == 0;
    assert_int_equal(access(path_of(name, ".use"), F_OK) == 0, mirror);
    return mirror;
}

static void prune(int64_t max_kib)
{
    mirrors_prune(dir, (uint64_t)max_kib * KIB, NOW_S);
}

static void what_was_used_longest_ago_goes_first(void **state)
{
    (void)state;
    put("b", 200);
    put("a", 300);
    put("c", 100);
    prune(4 * CONTENT_KIB);
    assert_true(there("a") && there("b") && there("c"));
    prune(2 * CONTENT_KIB + CONTENT_KIB / 2);
    assert_false(there("a"));
    assert_true(there("b") && there("c"));
    fd_close(take("b", 0)); /* used again */
    prune(CONTENT_KIB + CONTENT_KIB / 2);
    assert_true(there("b"));
    assert_false(there("c"));
}

static void what_is_in_use_stays_whatever_the_bound(void **state)
{
    (void)state;
    int use = take("a", 90 * 86400);
    put("b", 10);
    prune(0);
    assert_true(there("a"));
    assert_false(there("b"));
    fd_close(use);
    prune(0);
    assert_false(there("a"));
}

static void several_sessions_may_use_one(void **state)
{
    (void)state;
    int one = take("a", 10), two = take("a", 10);
    fd_close(one);
    prune(0);
    assert_true(there("a"));
    fd_close(two);
    prune(0);
    assert_false(there("a"));
}

static void what_nobody_uses_goes_although_there_is_room(void **state)
{
    (void)state;
    put("old", (LIMIT_REPOSITORY_DAYS + 1) * INT64_C(86400));
    put("new", (LIMIT_REPOSITORY_DAYS - 1) * INT64_C(86400));
    prune(1 << 20);
    assert_false(there("old"));
    assert_true(there("new"));
}

static void one_that_was_removed_can_be_had_again(void **state)
{
    (void)state;
    put("a", 10);
    prune(0);
    assert_false(there("a"));
    int use = take("a", 5);
    prune(0);
    assert_true(there("a"));
    fd_close(use);
}

static void what_a_killed_server_was_removing_goes(void **state)
{
    (void)state;
    put("a", 10);
    assert_int_equal(mkdir(path_of("", ".gone-x"), 0755), 0);
    assert_int_equal(mkdir(path_of("", ".gone-x/deep"), 0755), 0);
    prune(1 << 20);
    assert_int_equal(access(path_of("", ".gone-x"), F_OK), -1);
    assert_true(there("a"));
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(what_was_used_longest_ago_goes_first),  T(what_is_in_use_stays_whatever_the_bound),
        T(several_sessions_may_use_one),          T(what_nobody_uses_goes_although_there_is_room),
        T(one_that_was_removed_can_be_had_again), T(what_a_killed_server_was_removing_goes),
    };
    return cmocka_run_group_tests_name("mirrors", tests, NULL, NULL);
}
