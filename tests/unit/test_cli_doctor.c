/* cli/: what the commands' tables give (manual page), doctor's report, every mistake of a
 * configuration, the example file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/fd.h"
#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/options.h"
#include "cli/proc.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    static const char *const names[] = {"OSTLER_DATA",       "OSTLER_LISTEN",      "OSTLER_CONFIG",
                                        "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY",
                                        "OPENAI_BASE_URL"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        unsetenv(names[i]);
    str_copyz(dir, sizeof dir, STR("/tmp/ostler-test-XXXXXX"));
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    const char *argv[] = {"rm", "-rf", "--", dir, NULL};
    struct proc p = {.argv = argv};
    struct err err;
    return proc_run(&p, &err);
}

static const char *file(const char *name, const char *text)
{
    static char path[256];
    struct err err;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(fd_write_file_atomic(path, str_z(text), 0600, &err), 0);
    return path;
}

/* ---- the tables ---- */

static void look_at_table(void *arg, const struct command_spec *spec)
{
    const char **name = arg;
    assert_string_equal(spec->name, *name);
    assert_non_null(spec->summary);
    assert_non_null(strstr(spec->notes, "Exit codes: 0 "));
    assert_true(str_starts(str_z(spec->usage), STR("ostler ")));
    for (const struct option_spec *o = spec->options; o->kind != OPTION_END; o++) {
        assert_true((o->value != NULL) == (o->kind != OPTION_FLAG));
        assert_null(o->help ? strchr(o->help, '\n') : NULL);
        for (const struct option_spec *p = spec->options; p != o; p++)
            if (strcmp(p->name, o->name) == 0 || (o->letter && p->letter == o->letter))
                fail_msg("%s: --%s is there twice", spec->name, o->name);
    }
    *name = NULL;
}

static void every_command_describes_itself_without_doing_anything(void **state)
{
    (void)state;
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        const char *name = c->name;
        options_describe(c, look_at_table, &name);
        assert_null(name);
    }
}

static void look_for_options(void *arg, const struct command_spec *spec)
{
    struct buf *man = arg;
    for (const struct option_spec *o = spec->options; o->kind != OPTION_END; o++) {
        char want[80] = "\\-\\-";
        for (const char *p = o->name; *p && o->help; p++) {
            size_t len = strlen(want);
            snprintf(want + len, sizeof want - len, "%s%c", *p == '-' ? "\\" : "", *p);
        }
        if (o->help && !strstr(man->data, want))
            fail_msg("the manual page lacks %s of %s", want, spec->name);
    }
}

static void the_manual_page_has_every_option_and_no_stray_request(void **state)
{
    (void)state;
    AUTO_BUF struct buf man = BUF_INIT(1024 * 1024);
    static const char *const requests[] = {".TH ", ".SH ", ".SS ", ".TP", ".B ", ".I ",
                                           ".BR ", ".br",  ".PP",  ".nf", ".fi"};
    man_page(&man);
    assert_true(buf_ok(&man));
    for (const struct cli_command *c = cli_commands; c->name; c++)
        options_describe(c, look_for_options, &man);
    struct str rest = buf_view(&man);
    while (str_some(rest)) {
        struct str line = str_split(&rest, '\n');
        bool known = line.len == 0 || (line.ptr[0] != '.' && line.ptr[0] != '\'');
        for (size_t i = 0; i < COUNT_OF(requests) && !known; i++)
            known = str_starts(line, str_z(requests[i]));
        if (!known)
            fail_msg("a line roff would take for a request: " STR_FMT, STR_ARG(line));
    }
}

/* ---- the report ---- */

static void a_report_is_text_and_json_and_its_worst_finding_counts(void **state)
{
    (void)state;
    AUTO_FREE struct doctor *d = mem_zalloc(sizeof *d);
    AUTO_BUF struct buf text = BUF_INIT(1 << 20), json = BUF_INIT(1 << 20);
    doctor_init(d);
    assert_int_equal(doctor_worst(d), DOCTOR_OK);
    struct doctor_check *c = doctor_add(d, "one.two", DOCTOR_OK, "all \x1b[31mwell");
    doctor_fact_i64(c, "n", 7);
    doctor_fact_str(c, "s", NULL);
    c = doctor_add(d, "three", DOCTOR_WARN, "so so");
    doctor_remedy(c, "do %s", "that");
    assert_int_equal(doctor_worst(d), DOCTOR_WARN);
    doctor_add(d, "four", DOCTOR_FAIL, "broken");
    assert_int_equal(doctor_worst(d), DOCTOR_FAIL);
    doctor_text(d, false, &text);
    assert_null(strchr(text.data, '\x1b'));
    assert_non_null(strstr(text.data, "ok    one.two"));
    assert_non_null(strstr(text.data, "-> do that\n"));
    assert_non_null(strstr(text.data, "FAIL  four"));
    assert_non_null(strstr(text.data, "1 ok, 1 warn, 1 FAIL."));
    doctor_json(d, &json);
    AUTO_ARENA struct arena a;
    arena_init(&a, 1 << 20);
    const struct json *doc;
    struct err err;
    assert_int_equal(json_parse(&a, buf_view(&json), 0, &doc, &err), 0);
    assert_true(str_eqz(json_get_str(doc, "status"), "fail"));
    size_t n = 0;
    json_for_each (check, json_get(doc, "checks")) {
        static const char *const states[] = {"ok", "warn", "fail"};
        assert_true(str_eqz(json_get_str(check, "status"), states[n]));
        assert_true(json_is(json_get(check, "facts"), JSON_OBJECT));
        assert_true(json_is(json_get(check, "remedy"), n == 1 ? JSON_STRING : JSON_NULL));
        n++;
    }
    assert_int_equal(n, 3);
    doctor_fini(d);
}

static void more_findings_than_there_is_room_for_are_no_accident(void **state)
{
    (void)state;
    AUTO_FREE struct doctor *d = mem_zalloc(sizeof *d);
    doctor_init(d);
    for (int i = 0; i < DOCTOR_CHECKS * 2; i++)
        doctor_fact_i64(doctor_add(d, "x", DOCTOR_OK, "%d", i), "n", i);
    assert_int_equal(d->n, DOCTOR_CHECKS);
    doctor_fini(d);
}

static void urls_are_shown_without_what_may_be_secret(void **state)
{
    (void)state;
    static const struct {
        const char *url, *shown;
    } rows[] = {
        {"https://api.example.com/v1", "https://api.example.com/v1"},
        {"https://me:secret@host:1/v1?key=secret#secret", "https://host:1/v1"},
        {"http://a@b@host", "http://host"},
        {"host:80/x@y", "host:80/x@y"},
        {"http://h?secret", "http://h"},
        {"", ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char out[128];
        doctor_url(out, sizeof out, rows[i].url);
        assert_string_equal(out, rows[i].shown);
    }
}

/* ---- config check ---- */

static void every_mistake_is_told_with_its_line(void **state)
{
    (void)state;
    static const char yaml[] = "listen: nowhere\n"
                               "log: {level: loud, format: xml}\n"
                               "sandbox:\n"
                               "  pidz: 3\n"
                               "  cpus: many\n"
                               "models:\n"
                               "  routes:\n"
                               "    - {match: b, provdier: x}\n"
                               "providers:\n"
                               "  lab: {type: ollama}\n"
                               "  openai: {api_key_env: TEST_NOT_SET}\n";
    static const char *const says[] = {":1: listen: 'nowhere' is not an address",
                                       ":2: level: 'loud' is not one of",
                                       ":2: format: is not one of",
                                       ":4: pidz: unknown key; did you mean pids?",
                                       ":5: cpus: must be a whole number",
                                       ":8: provdier: unknown key; did you mean provider?",
                                       ":7: routes: each route needs",
                                       ":10: lab: type must be",
                                       ":11: openai: api_key_env: the environment variable "
                                       "TEST_NOT_SET is not set; export it"};
    AUTO_FREE struct config *c = mem_zalloc(sizeof *c);
    AUTO_FREE struct config_mistakes *all = mem_zalloc(sizeof *all);
    struct config_flags flags = {.file = file("bad.yaml", yaml), .data = "/d"};
    config_check(c, &flags, all);
    for (size_t i = 0; i < COUNT_OF(says) && i < all->n; i++)
        if (!strstr(all->at[i].msg, says[i]))
            fail_msg("%zu: '%s' does not say '%s'", i, all->at[i].msg, says[i]);
    assert_int_equal(all->n, COUNT_OF(says));
    config_fini(c);
}

static void mistakes_beyond_the_room_are_dropped(void **state)
{
    (void)state;
    AUTO_BUF struct buf yaml = BUF_INIT(1 << 20);
    for (int i = 0; i < CONFIG_MISTAKES_MAX * 2; i++)
        buf_printf(&yaml, "wrong%d: 1\n", i);
    AUTO_FREE struct config *c = mem_zalloc(sizeof *c);
    AUTO_FREE struct config_mistakes *all = mem_zalloc(sizeof *all);
    struct config_flags flags = {.file = file("many.yaml", yaml.data), .data = "/d"};
    config_check(c, &flags, all);
    assert_int_equal(all->n, CONFIG_MISTAKES_MAX);
    config_fini(c);
}

/* The example with everything switched on that is switched off in it. */
static void switch_on(struct buf *out)
{
    struct str rest = str_z(config_example);
    while (str_some(rest)) {
        struct str line = str_split(&rest, '\n');
        bool prose = str_starts(line, STR("# ")) && !str_starts(line, STR("#  "));
        if (!prose && str_starts(line, STR("#")))
            line = str_skip(line, 1);
        buf_str(out, line);
        buf_ch(out, '\n');
    }
}

static void look_for_key(void *arg, const char *path)
{
    const struct buf *yaml = arg;
    char name[80];
    const char *dot = strrchr(path, '.');
    snprintf(name, sizeof name, "%s: ", dot ? dot + 1 : path);
    if (!strstr(yaml->data, name))
        fail_msg("the example lacks %s", path);
}

static void count_key(void *arg, const char *path)
{
    (void)path;
    ++*(size_t *)arg;
}

static void the_example_changes_nothing_and_switched_on_it_holds_every_key(void **state)
{
    (void)state;
    AUTO_FREE struct config *c = mem_zalloc(sizeof *c);
    AUTO_FREE struct config_mistakes *all = mem_zalloc(sizeof *all);
    AUTO_BUF struct buf yaml = BUF_INIT(1 << 20);
    struct config_flags flags = {.file = file("off.yaml", config_example), .data = "/d"};
    config_check(c, &flags, all);
    assert_int_equal(all->n, 0);
    assert_int_equal(c->nproviders + c->nroutes, 0);
    config_fini(c);
    setenv("ANTHROPIC_API_KEY", "x", 1);
    switch_on(&yaml);
    config_each_key(look_for_key, &yaml);
    size_t n = 0;
    config_each_key(count_key, &n);
    assert_true(n >= 25);
    flags.file = file("on.yaml", yaml.data);
    config_check(c, &flags, all);
    /* The one file that it names and this host need not have. */
    assert_int_equal(all->n, 1);
    if (!strstr(all->at[0].msg, "/etc/ostler/lab-key"))
        fail_msg("%s", all->at[0].msg);
    assert_int_equal(c->nroutes, 2);
    config_fini(c);
    unsetenv("ANTHROPIC_API_KEY");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_describes_itself_without_doing_anything),
        cmocka_unit_test(the_manual_page_has_every_option_and_no_stray_request),
        cmocka_unit_test(a_report_is_text_and_json_and_its_worst_finding_counts),
        cmocka_unit_test(more_findings_than_there_is_room_for_are_no_accident),
        cmocka_unit_test(urls_are_shown_without_what_may_be_secret),
        cmocka_unit_test(every_mistake_is_told_with_its_line),
        cmocka_unit_test(mistakes_beyond_the_room_are_dropped),
        cmocka_unit_test(the_example_changes_nothing_and_switched_on_it_holds_every_key),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
