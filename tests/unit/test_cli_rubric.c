/* cli/: rubrics out of files: what is sent, where it stands, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/rubric_file.h"
#include "core/rubric.h"

static struct arena arena;

static int open_arena(void **state)
{
    (void)state;
    arena_init(&arena, 64 << 20);
    return 0;
}

static int close_arena(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static struct rubric_file file;

static void read_as(const char *path, const char *text)
{
    struct err err;
    if (rubric_file_parse(&arena, path, str_z(text), &file, &err))
        fail_msg("%s", err.msg);
}

static const char *sent(void)
{
    static char text[8192];
    AUTO_BUF struct buf b = BUF_INIT(sizeof text - 1);
    struct jw w = jw_to(&b);
    rubric_file_write(&w, &file);
    jw_done(&w);
    assert_true(str_copyz(text, sizeof text, buf_view(&b)));
    return text;
}

static void a_list_of_criteria_becomes_the_content(void **state)
{
    (void)state;
    read_as("a.yaml", "description: Do it\n"
                      "criteria:\n"
                      "  - README.md exists\n"
                      "  - {name: tests, text: \"`make test` exits with 0\"}\n"
                      "  - name: valgrind\n"
                      "    text: |\n"
                      "      shows 0 errors\n"
                      "      and 0 leaks\n"
                      "  - name: only a name\n"
                      "max_iterations: 7\n");
    assert_string_equal(sent(), "{\"type\":\"text\",\"content\":\"- README.md exists\\n"
                                "- tests: `make test` exits with 0\\n"
                                "- valgrind: shows 0 errors\\n  and 0 leaks\\n"
                                "- only a name\\n\"}");
    assert_true(str_eqz(file.description, "Do it"));
    assert_int_equal(file.max_iterations, 7);
    struct str *criteria;
    size_t n;
    struct err err;
    assert_int_equal(rubric_criteria(&arena, file.content, &criteria, &n, &err), 0);
    assert_int_equal(n, 4);
    static const int lines[] = {3, 4, 5, 9};
    for (size_t i = 0; i < n; i++)
        assert_int_equal(rubric_file_line(&file, criteria[i]), lines[i]);
    assert_int_equal(rubric_file_line(&file, str_skip(criteria[2], 28)), 8);
}

static void checks_are_sent_as_they_are_written(void **state)
{
    (void)state;
    read_as("a.yml", "content: |\n  It builds\nclosing: true\n"
                     "checks:\n"
                     "  - name: tests\n"
                     "    run: |\n      make\n      make test\n"
                     "  - name: help\n    run: ./a --help\n    expect_exit: 2\n"
                     "    expect_stdout_matches: '^usage'\n    timeout_seconds: 9\n");
    assert_string_equal(sent(), "{\"type\":\"text\",\"content\":\"It builds\\n\",\"checks\":["
                                "{\"name\":\"tests\",\"run\":\"make\\nmake test\\n\"},"
                                "{\"name\":\"help\",\"run\":\"./a --help\",\"expect_exit\":2,"
                                "\"expect_stdout_matches\":\"^usage\",\"timeout_seconds\":9}],"
                                "\"closing\":true}");
}

static void a_markdown_file_is_the_content(void **state)
{
    (void)state;
    static const char text[] = "# Rubric\n\n- one\n- two\n";
    read_as("rubric.md", text);
    assert_true(str_eqz(file.content, text));
    assert_int_equal(file.nchecks, 0);
    assert_int_equal(file.max_iterations, 0);
    assert_int_equal(rubric_file_line(&file, str_skip(file.content, 18)), 4);
    read_as("rubric.md", "---\nno second one: it is a ruler\n");
    assert_true(str_starts(file.content, STR("---\n")));
    read_as("rubric", "\xef\xbb\xbfplain");
    assert_true(str_eqz(file.content, "plain"));
}

static void a_front_matter_carries_the_rest(void **state)
{
    (void)state;
    read_as("rubric.md", "---\n"
                         "description: Do it\n"
                         "checks:\n"
                         "- name: a\n"
                         "  run: 'true'\n"
                         "closing: false\n"
                         "max_iterations: 1\n"
                         "---\n"
                         "- one\n"
                         "---\n"
                         "- two\n");
    assert_true(str_eqz(file.content, "- one\n---\n- two\n"));
    assert_true(str_eqz(file.description, "Do it"));
    assert_int_equal(file.nchecks, 1);
    assert_int_equal(file.checks[0].line, 4);
    assert_int_equal(file.max_iterations, 1);
    assert_false(file.closing);
    assert_int_equal(rubric_file_line(&file, file.content), 9);
    read_as("rubric.md", "---\r\n# a comment\r\n---\r\n- one\r\n");
    assert_true(str_eqz(file.content, "- one\r\n"));
}

static void what_is_wrong_is_said_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *path, *text, *says;
    } bad[] = {
        {"a.yaml", "", "a.yaml: names no criterion"},
        {"a.yaml", "# nothing\n", "a.yaml: names no criterion"},
        {"a.yaml", "- a\n- b\n", "a.yaml:1: must be a mapping"},
        {"a.yaml", "checks: []\n", "a.yaml: names no criterion"},
        {"a.yaml", "content: ' '\n", "a.yaml:1: content: must not be empty"},
        {"a.yaml", "criteria: []\n", "a.yaml:1: criteria: must be a list with at least one"},
        {"a.yaml", "criteria: one\n", "a.yaml:1: criteria: must be a list"},
        {"a.yaml", "criteria: [a]\ncontent: b\n", "a.yaml:2: content: there are content and"},
        {"a.yaml", "criteria:\n- [a]\n", "a.yaml:2: criteria: each must be a text"},
        {"a.yaml", "criteria:\n- a\n- txt: b\n", "a.yaml:3: txt: unknown key; did you mean text?"},
        {"a.yaml", "criteria: [*a]\n", "a.yaml:1: criteria: each must be a text"},
        {"a.yaml", "criteria: [a]\ncheck: []\n",
         "a.yaml:2: check: unknown key; did you mean checks"},
        {"a.yaml", "criteria: [a]\nmax_iterations: 21\n",
         "a.yaml:2: max_iterations: must be a whole number from 1 to 20"},
        {"a.yaml", "criteria: [a]\nclosing: yes\n", "a.yaml:2: closing: must be true or false"},
        {"a.yaml", "criteria: [a\n", "a.yaml:"},
        {"a.yaml", "criteria: [a]\nchecks: 5\n", "a.yaml:2: checks: must be a list"},
        {"a.yaml", "criteria: [a]\nchecks: [make]\n", "a.yaml:2: checks: each must be a mapping"},
        {"a.yaml", "criteria: [a]\nchecks:\n- name: a\n", "a.yaml:3: checks: run is missing"},
        {"a.yaml", "criteria: [a]\nchecks:\n- run: a\n", "a.yaml:3: checks: name is missing"},
        {"a.yaml", "criteria: [a]\nchecks:\n- {name: a, run: b}\n- {name: a, run: c}\n",
         "a.yaml:4: checks: two have the same name"},
        {"a.yaml", "criteria: [a]\nchecks:\n- name: a\n  run: b\n  expect_exit: 256\n",
         "a.yaml:5: expect_exit: must be a whole number from 0 to 255"},
        {"a.yaml", "criteria: [a]\nchecks:\n- name: a\n  run: b\n  timeout_seconds: 601\n",
         "a.yaml:5: timeout_seconds: must be a whole number from 1 to 600"},
        {"a.yaml", "criteria: [a]\nchecks:\n- name: a\n  run: b\n  expect_stdout_matches: '('\n",
         "a.yaml:5: expect_stdout_matches: is no regular expression: "},
        {"a.md", "", "a.md: names no criterion"},
        {"a.md", "---\nchecks: []\n---\n", "a.md: names no criterion"},
        {"a.md", "---\ncriteria: [a]\n---\nb\n", "a.md:2: criteria: the text below"},
        {"a.md", "---\n- a\n---\nb\n", "a.md:2: the front matter must be a mapping"},
        {"a.md", "---\nclosing: true\nclosed: 1\n---\nb\n", "a.md:3: closed: unknown key"},
        {"a.md", "\xff", "a.md: must be a text in UTF-8"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct err err = {0};
        if (rubric_file_parse(&arena, bad[i].path, str_z(bad[i].text), &file, &err) != ERR_INVALID)
            fail_msg("taken: %s", bad[i].text);
        if (!str_starts(str_z(err.msg), str_z(bad[i].says)))
            fail_msg("%s\nsays: %s", bad[i].text, err.msg);
    }
}

static void a_rubric_of_any_size_ends(void **state)
{
    (void)state;
    struct err err;
    AUTO_BUF struct buf b = BUF_INIT(4 << 20);
    for (int i = 0; i < 140000; i++)
        buf_z(&b, "- ");
    assert_int_equal(rubric_file_parse(&arena, "a.md", buf_view(&b), &file, &err), ERR_INVALID);
    assert_true(str_find(str_z(err.msg), STR("262144")) > 0);
    buf_clear(&b);
    buf_z(&b, "criteria: [a]\nchecks:\n");
    for (int i = 0; i < 51; i++)
        buf_printf(&b, "- {name: n%d, run: x}\n", i);
    assert_int_equal(rubric_file_parse(&arena, "a.yaml", buf_view(&b), &file, &err), ERR_INVALID);
    buf_clear(&b);
    buf_z(&b, "criteria: [a]\nchecks:\n- name: a\n  run: ");
    for (int i = 0; i < 16385; i++)
        buf_ch(&b, 'x');
    assert_int_equal(rubric_file_parse(&arena, "a.yaml", buf_view(&b), &file, &err), ERR_INVALID);
    assert_string_equal(err.msg, "a.yaml:4: run: too long: at most 16384 characters");
    buf_clear(&b);
    buf_z(&b, "criteria: ");
    for (int i = 0; i < 100000; i++)
        buf_ch(&b, '[');
    assert_int_equal(rubric_file_parse(&arena, "a.yaml", buf_view(&b), &file, &err), ERR_INVALID);
    assert_int_equal(rubric_file_read(&arena, "/dev/zero", &file, &err), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_of_criteria_becomes_the_content),
        cmocka_unit_test(checks_are_sent_as_they_are_written),
        cmocka_unit_test(a_markdown_file_is_the_content),
        cmocka_unit_test(a_front_matter_carries_the_rest),
        cmocka_unit_test(what_is_wrong_is_said_with_its_line),
        cmocka_unit_test(a_rubric_of_any_size_ends),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
