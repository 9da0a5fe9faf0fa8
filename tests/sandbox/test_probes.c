/* Every probe as a test of its own, in each mode that a server may run in.
 *
 *   test_probes HAND MODE       runs itself again in the mode (probes.h)
 *   test_probes HAND --in MODE  the probes, here and now
 *
 * Where a container allows no sandbox nothing may run: that is what is tested there. */
#include "probes.h"

#include "base/fd.h"
#include "sandbox/oci.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TESTS_MAX = 256 };

static struct fixture shared;
static char missing[512];
static enum mode mode;

/* Which tiers a mode may come out with. */
static const char *const tiers[MODES] = {
    [MODE_ROOT] = "bwrap-root",
    [MODE_ROOTLESS] = "bwrap-rootless",
    [MODE_OCI] = "oci-runc",
    [MODE_CONTAINER_ROOT] = "bwrap-root",
    [MODE_CONTAINER] = "bwrap-container",
    [MODE_CONTAINER_LOCKED] = "none",
    [MODE_CONTAINER_MASKED] = "none",
};

static int open_shared(void **state)
{
    (void)state;
    struct err err;
    char path[128];
    umask(022);
    static const struct oci_config oci = {.runtime = "runc"};
    fixture_oci = mode == MODE_OCI ? &oci : NULL;
    fixture_open(&shared,
                 &(struct sandbox_limits){
                     .pids = 96, .memory_mb = 256, .cpus = 1, .file_mb = 32, .disk_mb = 96});
    snprintf(missing, sizeof missing, "%s", fixture_lacks(&shared));
    snprintf(path, sizeof path, "%s/secret", shared.dir);
    assert_int_equal(fd_write_file_atomic(path, STR("HOST-SECRET\n"), 0644, &err), 0);
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    fixture_close(&shared);
    return 0;
}

/* ---- the probes ---- */

static void fill_in(struct buf *out, const char *command)
{
    const struct {
        const char *name, *value;
    } known[] = {{"{dir}", shared.dir}, {"{data}", shared.data}, {"{run}", shared.run}};
    for (const char *p = command; *p;) {
        size_t i = 0;
        while (i < COUNT_OF(known) && strncmp(p, known[i].name, strlen(known[i].name)) != 0)
            i++;
        if (i < COUNT_OF(known)) {
            buf_z(out, known[i].value);
            p += strlen(known[i].name);
        } else if (strncmp(p, "{pid}", 5) == 0) {
            buf_printf(out, "%d", (int)getpid());
            p += 5;
        } else {
            buf_ch(out, *p++);
        }
    }
}

static bool agrees(struct str got, const char *want)
{
    if (want[0] == '*')
        return str_find(got, str_z(want + 1)) >= 0;
    if (want[0] == '!')
        return str_find(got, str_z(want + 1)) < 0;
    return str_eqz(got, want);
}

static void run_probe(void **state)
{
    const struct probe *p = *state;
    if (missing[0])
        fail_msg("no sandbox: %s", missing);
    if (p->run) {
        p->run(&shared);
        return;
    }
    AUTO_BUF struct buf command = BUF_INIT(65536);
    struct answer a;
    fill_in(&command, p->command);
    bash(&shared, &a, "sesn_probe", command.data);
    if (!agrees(buf_view(&a.text), p->says))
        fail_msg("%s (%s)\n said: %s\n not:  %s", p->name, p->attack, a.text.data, p->says);
    answer_fini(&a);
}

/* ---- the tier ---- */

static void the_tier_is_the_strongest_that_can_be(void **state)
{
    (void)state;
    const struct sandbox_tier *t = sandboxes_tier(shared.s);
    if (!str_eqz(str_z(t->name), tiers[mode]))
        fail_msg("%s: the tier is %s: %s", mode_names[mode], t->name, t->reason);
    if (mode >= MODE_CONTAINER_ROOT)
        assert_true(t->container);
    print_message("%s: %s, limits by %s%s%s\n", mode_names[mode], t->name, t->limits,
                  t->reason[0] ? ": " : "", t->reason);
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    const char *remedy =
        mode == MODE_CONTAINER_LOCKED ? "user.max_user_namespaces" : "systempaths=unconfined";
    if (str_find(str_z(missing), str_z(remedy)) < 0)
        fail_msg("%s does not name %s", missing, remedy);
    assert_true(str_find(str_z(missing), STR("; ")) > 0);
}

static void every_tool_is_refused(void **state)
{
    (void)state;
    static const char *const calls[][2] = {
        {"bash", "{\"command\":\"touch /tmp/ostler-must-not-exist\"}"},
        {"write", "{\"file_path\":\"/tmp/ostler-must-not-exist\",\"content\":\"x\"}"},
        {"read", "{\"file_path\":\"/etc/passwd\"}"},
        {"edit", "{\"file_path\":\"/etc/passwd\",\"old_string\":\"r\",\"new_string\":\"s\"}"},
        {"glob", "{\"pattern\":\"/etc/*\"}"},
        {"grep", "{\"pattern\":\"root\",\"path\":\"/etc/passwd\"}"},
    };
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        struct answer a;
        call_tool(&shared, &a, "sesn_none", calls[i][0], calls[i][1]);
        assert_true(a.is_error);
        assert_string_equal(a.reason, "sandbox_unavailable");
        assert_true(str_find(buf_view(&a.text), str_z(missing)) >= 0);
        assert_true(str_find(buf_view(&a.text), STR("root:x")) < 0);
        answer_fini(&a);
    }
    assert_int_not_equal(access("/tmp/ostler-must-not-exist", F_OK), 0);
}

/* ---- the list ---- */

static struct CMUnitTest tests[TESTS_MAX];
static size_t ntests;

static void add_test(const char *name, void (*fn)(void **state), const struct probe *p)
{
    if (ntests == TESTS_MAX)
        abort();
    tests[ntests++] =
        (struct CMUnitTest){.name = name, .test_func = fn, .initial_state = (void *)(uintptr_t)p};
}

static const struct probe *other_in_oci(const char *name)
{
    for (size_t i = 0; i < probes_oci.n; i++)
        if (strcmp(probes_oci.rows[i].name, name) == 0)
            return &probes_oci.rows[i];
    return NULL;
}

static void add_row(const struct probe *p, const char *only)
{
    if ((!only || strstr(p->name, only)) && (p->command || p->run))
        add_test(p->name, run_probe, p);
}

static void add_probes(const char *only)
{
    static const struct probe_table *const all[] = {
        &probes_host,    &probes_system, &probes_privilege, &probes_calls,
        &probes_network, &probes_files,  &probes_limits};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        for (size_t k = 0; k < all[i]->n; k++)
            if (mode != MODE_OCI || !other_in_oci(all[i]->rows[k].name))
                add_row(&all[i]->rows[k], only);
    for (size_t k = 0; mode == MODE_OCI && k < probes_oci.n; k++)
        add_row(&probes_oci.rows[k], only);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    bool here = argc > 3 && str_eqz(str_z(argv[2]), "--in");
    int found = argc > 2 ? mode_find(argv[here ? 3 : 2]) : -1;
    if (found < 0) {
        fprintf(stderr, "usage: test_probes HAND MODE\n");
        return 2;
    }
    mode = (enum mode)found;
    fixture_hand = argv[1];
    if (!here)
        return mode_run(mode, argv[1]);
    add_test("the_tier_is_the_strongest_that_can_be", the_tier_is_the_strongest_that_can_be, NULL);
    if (mode == MODE_CONTAINER_LOCKED || mode == MODE_CONTAINER_MASKED) {
        add_test("what_is_missing_is_named", what_is_missing_is_named, NULL);
        add_test("every_tool_is_refused", every_tool_is_refused, NULL);
    } else {
        add_probes(getenv("OSTLER_PROBE"));
    }
    return _cmocka_run_group_tests(mode_names[mode], tests, ntests, open_shared, close_shared);
}
