/* What is said where no sandbox works, and limits by each kind of cgroup: the real ones of this
 * host, and version 2 on a directory that only looks like one. */
#include "base/fd.h"
#include "base/mem.h"
#include "sandbox/impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void each_failure_has_its_remedy_by_name(void **state)
{
    (void)state;
    static const struct host_facts
        host = {.userns_clone = -1, .max_userns = 1000, .apparmor_userns = -1},
        off = {.userns_clone = -1, .apparmor_userns = -1},
        debian = {.max_userns = 1000, .apparmor_userns = -1},
        ubuntu = {.userns_clone = -1, .max_userns = 1000, .apparmor_userns = 1},
        container = {
            .container = true, .userns_clone = -1, .max_userns = 1000, .apparmor_userns = -1};
    static const struct {
        const char *said;
        const struct host_facts *facts;
        const char *names;
    } rows[] = {
        {"bubblewrap is not installed", &host, "apt-get install bubblewrap"},
        {"bwrap: Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces "
         "exceeded (ENOSPC)",
         &off, "user.max_user_namespaces"},
        {"bwrap: No permissions to creating new namespace, likely because the kernel does not "
         "allow non-privileged user namespaces.",
         &debian, "kernel.unprivileged_userns_clone=1"},
        {"bwrap: setting up uid map: Permission denied", &ubuntu,
         "kernel.apparmor_restrict_unprivileged_userns=0"},
        {"bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", &ubuntu, "AppArmor"},
        {"bwrap: No permissions to create new namespace", &container, "seccomp=unconfined"},
        {"bwrap: Can't mount proc on /newroot/proc: Operation not permitted", &container,
         "systempaths=unconfined"},
        {"bwrap: Failed to make / slave: Permission denied", &container, "AppArmor: unconfined"},
        {"launch: cannot become user 700001: Invalid argument", &container, "CAP_SETUID"},
        {"launch: cannot make a mount namespace: Operation not permitted", &host, "CAP_SYS_ADMIN"},
        {"bwrap: Unknown option --disable-userns", &host, "0.8"},
        {"hand: bad argument '--wall-ms'", &host, "install both together"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const char *got = host_remedy(str_z(rows[i].said), rows[i].facts);
        if (str_find(str_z(got), str_z(rows[i].names)) < 0 ||
            (got[0] && !str_starts(str_z(got), STR("; "))))
            fail_msg("%s\n said: %s\n not:  %s", rows[i].said, got, rows[i].names);
    }
    assert_string_equal(host_remedy(STR("something else"), &host), "");
}

/* ---- cgroups ---- */

static void read_number(const char *dir, const char *file, char out[64])
{
    char path[CGROUP_PATH + 192];
    AUTO_BUF struct buf text = BUF_INIT(4096);
    struct err err;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    if (fd_read_file(path, &text, &err) != 0)
        fail_msg("%s", err.msg);
    assert_true(str_copyz(out, 64, str_trim(buf_view(&text))));
}

static const struct cgroup_limits limits = {.memory_mb = 64, .pids = 32, .cpus = 2};

/* A directory with the files that a group of version 2 has. */
static void version_2_gets_its_files(void **state)
{
    (void)state;
    static const char *const files[][2] = {
        {"memory.max", "max"},
        {"memory.swap.max", "max"},
        {"pids.max", "max"},
        {"cpu.max", "max"},
        {"memory.events", "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\n"},
        {"pids.events", "max 5\n"},
        {"cgroup.kill", "0"}};
    char base[] = "/tmp/ostler-cgroup-XXXXXX", dir[CGROUP_PATH], path[CGROUP_PATH + 64], got[64];
    struct err err;
    assert_non_null(mkdtemp(base));
    snprintf(dir, sizeof dir, "%s/one", base);
    assert_int_equal(mkdir(dir, 0755), 0);
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i][0]);
        assert_int_equal(fd_write_file_atomic(path, str_z(files[i][1]), 0644, &err), 0);
    }
    struct cgroups cg = {.kind = CGROUP_V2};
    snprintf(cg.base[0], sizeof cg.base[0], "%s", base);
    assert_int_equal(cgroup_make(&cg, "one", &limits, &err), 0);
    static const char *const want[][2] = {{"memory.max", "67108864"},
                                          {"memory.swap.max", "0"},
                                          {"pids.max", "32"},
                                          {"cpu.max", "200000 100000"}};
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        read_number(dir, want[i][0], got);
        assert_int_equal(strncmp(got, want[i][1], strlen(want[i][1])), 0);
    }
    struct cgroup_counters c;
    cgroup_read(&cg, "one", &c);
    assert_int_equal(c.oom_kills, 3);
    assert_int_equal(c.pids_hits, 5);
    char procs[CGROUP_DIRS][CGROUP_PATH + 128];
    assert_int_equal(cgroup_procs(&cg, "one", procs), 1);
    cgroup_kill(&cg, "one");
    read_number(dir, "cgroup.kill", got);
    assert_int_equal(got[0], '1');
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i][0]);
        unlink(path);
    }
    rmdir(dir);
    rmdir(base);
}

/* Version 2, version 1, or version 1 beside an empty version 2. */
static void what_this_host_has_keeps_the_limits(void **state)
{
    (void)state;
    struct cgroups cg;
    struct err err;
    char got[64], dir[CGROUP_PATH * 2], name[64];
    cgroups_detect(&cg, false);
    if (cg.kind == CGROUP_NONE) {
        print_message("skipped: %s\n", cg.reason);
        assert_true(cg.reason[0]);
        skip();
    }
    bool v2 = cg.kind == CGROUP_V2;
    print_message("this host: cgroup version %d%s\n", v2 ? 2 : 1,
                  v2 ? "" : "; version 2 has no controllers to try here");
    snprintf(name, sizeof name, "test-%d", (int)getpid());
    assert_int_equal(cgroup_make(&cg, name, &limits, &err), 0);
    snprintf(dir, sizeof dir, "%s/%s", cg.base[0], name);
    read_number(dir, v2 ? "memory.max" : "memory.limit_in_bytes", got);
    assert_string_equal(got, "67108864");
    snprintf(dir, sizeof dir, "%s/%s", cg.base[v2 ? 0 : 1], name);
    read_number(dir, "pids.max", got);
    assert_string_equal(got, "32");
    if (!v2 && cg.base[2][0]) {
        snprintf(dir, sizeof dir, "%s/%s", cg.base[2], name);
        read_number(dir, "cpu.cfs_quota_us", got);
        assert_string_equal(got, "200000");
    }
    cgroup_remove(&cg, name);
    snprintf(dir, sizeof dir, "%s/%s", cg.base[0], name);
    assert_int_not_equal(access(dir, F_OK), 0);
    /* Another server ended meanwhile and took the directories, if they were empty, with it. */
    cgroups_close(&cg);
    assert_int_equal(cgroup_make(&cg, name, &limits, &err), 0);
    cgroup_remove(&cg, name);
    cgroups_close(&cg);
}

/* Plain directories do for what is only made and removed. */
static void a_server_that_ends_takes_its_empty_directories_with_it(void **state)
{
    (void)state;
    char base[] = "/tmp/ostler-cgroup-XXXXXX", used[CGROUP_PATH * 2];
    assert_non_null(mkdtemp(base));
    struct cgroups cg = {.kind = CGROUP_V1};
    for (size_t i = 0; i < CGROUP_DIRS - 1; i++) { /* and no third one */
        snprintf(cg.base[i], sizeof cg.base[i], "%s/%zu", base, i);
        assert_int_equal(mkdir(cg.base[i], 0755), 0);
    }
    snprintf(used, sizeof used, "%s/of-another-server", cg.base[1]);
    assert_int_equal(mkdir(used, 0755), 0);
    cgroups_close(&cg);
    assert_int_not_equal(access(cg.base[0], F_OK), 0);
    assert_int_equal(access(used, F_OK), 0);
    rmdir(used);
    cgroups_close(&cg);
    cgroups_close(&cg); /* what is gone is no trouble */
    assert_int_equal(rmdir(base), 0);
}

static void without_cgroups_the_reason_is_said(void **state)
{
    (void)state;
    struct cgroups cg;
    cgroups_detect(&cg, true);
    assert_int_equal(cg.kind, CGROUP_NONE);
    assert_true(cg.reason[0]);
    char procs[CGROUP_DIRS][CGROUP_PATH + 128];
    assert_int_equal(cgroup_procs(&cg, "one", procs), 0);
    struct cgroup_counters c;
    cgroup_read(&cg, "one", &c);
    assert_int_equal(c.oom_kills + c.pids_hits, 0);
    cgroup_kill(&cg, "one");
    cgroup_remove(&cg, "one");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_failure_has_its_remedy_by_name),
        cmocka_unit_test(version_2_gets_its_files),
        cmocka_unit_test(what_this_host_has_keeps_the_limits),
        cmocka_unit_test(a_server_that_ends_takes_its_empty_directories_with_it),
        cmocka_unit_test(without_cgroups_the_reason_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
