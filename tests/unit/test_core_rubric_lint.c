/* core/: which criteria cannot be judged: what is found is a mistake, what is fine is let alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/rubric.h"
#include "core/rubric_lint.h"

static struct arena arena;

static int open_arena(void **state)
{
    (void)state;
    arena_init(&arena, 16 << 20);
    return 0;
}

static int close_arena(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static size_t lint(const char *text, struct rubric_finding **found)
{
    struct str *criteria;
    size_t n, nfound;
    struct err err;
    assert_int_equal(rubric_criteria(&arena, str_z(text), &criteria, &n, &err), 0);
    assert_int_equal(rubric_lint(&arena, str_z(text), criteria, n, found, &nfound, &err), 0);
    return nfound;
}

static void criteria_that_can_be_judged_are_let_alone(void **state)
{
    (void)state;
    static const char *const fine[] = {
        "All tests in `tests/` pass with `make test`.",
        "`make test` exits with 0",
        "The README has a section named Installation",
        "The CSV has a header row and exactly 100 data rows",
        "The script exits with 1 and prints the name of the missing file",
        "The API validates the input and returns 400 on an error",
        "Every public function in src/api has a docstring",
        "No debugging output remains in src/main.c",
        "report.md names the root cause with file and line",
        "The page loads within 200 ms",
        "The function returns -1 for an empty list",
        "The summary is at most 5 sentences long",
        "Each claim cites a source with its URL",
        "The patch applies cleanly with `git apply`",
        "The git working tree is clean after the build",
        "Sorting is stable: equal keys keep their order",
        "The output is well-formed JSON",
        "The command `ostler doctor` prints no warning",
        "Reads and writes CSV files",
        "Handles negative numbers: f(-2) returns 4",
        "The chart shows revenue by quarter, with axis labels and units",
        "The table lists name, price and currency of each product",
        "The totals in the table equal the sum of their rows",
        "A login with a wrong password is rejected with status 401",
        "The migration adds a column `email` to the table users",
        "The letter is addressed to the customer by name",
        "There is a test that fails without the fix",
        "The build prints no compiler warnings with -Wall -Wextra",
        "Sales figures for Q1 and Q2 are compared in one table",
        "Fast path and slow path give the same result for 1,000 random inputs",
        "The server answers 1,000 requests per second, so it is fast enough",
        "The error message names the file and the line",
        "The tool prints an error when the file is missing and the flag is set",
        "The file is readable by everyone (mode 0644)",
        "The service does a graceful shutdown on SIGTERM",
        "package.json declares version 2.0.0",
        "The essay answers the question why the treaty failed",
        "Dates are written as YYYY-MM-DD",
        "The button is disabled while the form is sent",
        "The diff changes no file outside src/parser",
        "The parser accepts empty input and does not crash",
        "The executive summary recommends exactly one of the three vendors",
        "The last known good version is named in CHANGELOG.md",
        "make clean removes the build directory",
        "Der Bericht nennt die Ursache und die betroffene Zeile",
        "The quick start works on a fresh Debian 12",
        "The word \"good\" does not occur in the text",
        "Links to the sources and references are listed at the end",
        "The report compares cost and speed of both databases",
        "The workbook has the sheets Summary, Data and Notes",
    };
    for (size_t i = 0; i < COUNT_OF(fine); i++) {
        struct rubric_finding *found;
        if (lint(fine[i], &found))
            fail_msg("\"%s\": %s: %.*s", fine[i], rubric_problems[found->problem],
                     STR_ARG(found->words));
    }
}

static void criteria_that_cannot_be_judged_are_named_with_the_words_at_fault(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum rubric_problem problem;
        const char *words;
    } bad[] = {
        {"The code is good", RUBRIC_VAGUE, "good"},
        {"The design is nice and modern", RUBRIC_VAGUE, "nice"},
        {"Error handling is appropriate", RUBRIC_VAGUE, "appropriate"},
        {"The solution is of high quality", RUBRIC_VAGUE, "high quality"},
        {"A high-quality report", RUBRIC_VAGUE, "high-quality"},
        {"The UI is user-friendly", RUBRIC_VAGUE, "user-friendly"},
        {"The UI is User Friendly.", RUBRIC_VAGUE, "User Friendly"},
        {"Errors are handled properly", RUBRIC_VAGUE, "properly"},
        {"The parser is robust", RUBRIC_VAGUE, "robust"},
        {"The code is clean", RUBRIC_VAGUE, "clean"},
        {"Clean code", RUBRIC_VAGUE, "Clean"},
        {"The query is fast", RUBRIC_VAGUE, "fast"},
        {"The importer runs efficiently", RUBRIC_VAGUE, "efficiently"},
        {"The code follows best practices", RUBRIC_VAGUE, "best practices"},
        {"The interface is intuitive", RUBRIC_VAGUE, "intuitive"},
        {"The documentation is clear", RUBRIC_VAGUE, "clear"},
        {"Prints a clear error message", RUBRIC_VAGUE, "clear"},
        {"There are enough tests", RUBRIC_VAGUE, "enough"},
        {"Supports CSV, JSON, etc.", RUBRIC_VAGUE, "etc"},
        {"Add tests where possible", RUBRIC_VAGUE, "where possible"},
        {"The report is well written", RUBRIC_VAGUE, "well written"},
        {"The README is comprehensive", RUBRIC_VAGUE, "comprehensive"},
        {"The application works as expected", RUBRIC_VAGUE, "as expected"},
        {"Handles edge cases", RUBRIC_VAGUE, "edge cases"},
        {"The text is easy to understand", RUBRIC_VAGUE, "easy to understand"},
        {"The system is scalable", RUBRIC_VAGUE, "scalable"},
        {"Everything works", RUBRIC_NO_OBSERVABLE, "Everything works"},
        {"The work is complete", RUBRIC_NO_OBSERVABLE, "The work is complete"},
        {"Users will love it", RUBRIC_NO_OBSERVABLE, "Users will love it"},
        {"The tone is friendly", RUBRIC_NO_OBSERVABLE, "The tone is friendly"},
        {"The solution feels simple to the team", RUBRIC_VAGUE, "simple"},
        {"The agent thought about security", RUBRIC_NO_OBSERVABLE,
         "The agent thought about security"},
        {"The bug is fixed", RUBRIC_NO_OBSERVABLE, "The bug is fixed"},
        {"All tests pass and the linter reports no warnings", RUBRIC_TWO_IN_ONE,
         "and the linter reports no"},
        {"The README lists all commands and explains how to install", RUBRIC_TWO_IN_ONE,
         "and explains how"},
        {"The page has a title and is valid HTML", RUBRIC_TWO_IN_ONE, "and is valid"},
        {"`make` exits with 0, and the binary is smaller than 1 MB", RUBRIC_TWO_IN_ONE,
         "and the binary is smaller"},
        {"Add a test and update the changelog", RUBRIC_TWO_IN_ONE, "and update the"},
        {"The server starts and the client connects", RUBRIC_TWO_IN_ONE, "and the client connects"},
        {"The function is documented; the tests cover 90 % of its lines", RUBRIC_NO_OBSERVABLE,
         NULL},
        {"The report cites 3 sources. Additionally, a table compares them.", RUBRIC_TWO_IN_ONE,
         "Additionally, a"},
        {"...", RUBRIC_EMPTY, "..."},
        {"- [ ] -", RUBRIC_EMPTY, "-"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct rubric_finding *found;
        size_t n = lint(bad[i].text, &found);
        if (!bad[i].words)
            continue;
        if (n == 0)
            fail_msg("\"%s\": nothing was found", bad[i].text);
        if (found->problem != bad[i].problem || !str_eqz(found->words, bad[i].words))
            fail_msg("\"%s\": %s: %.*s", bad[i].text, rubric_problems[found->problem],
                     STR_ARG(found->words));
        assert_true(strlen(found->advice) > 10);
        assert_int_equal(found->criterion, 0);
    }
}

static void several_mistakes_of_one_criterion_are_all_named(void **state)
{
    (void)state;
    struct rubric_finding *found;
    assert_int_equal(lint("The code is clean and the tests are good", &found), 3);
    assert_int_equal(found[0].problem, RUBRIC_VAGUE);
    assert_int_equal(found[1].problem, RUBRIC_VAGUE);
    assert_int_equal(found[2].problem, RUBRIC_TWO_IN_ONE);
}

static void a_criterion_said_twice_is_named_with_the_first(void **state)
{
    (void)state;
    struct rubric_finding *found;
    assert_int_equal(lint("- All tests pass\n- The README exists\n- all the tests pass.\n", &found),
                     1);
    assert_int_equal(found->problem, RUBRIC_DUPLICATE);
    assert_int_equal(found->criterion, 2);
    assert_int_equal(found->other, 0);
    assert_int_equal(lint("- `a` exists\n- `b` exists\n", &found), 0);
}

static void a_mark_without_text_is_named(void **state)
{
    (void)state;
    static const char text[] = "1. `make` exits with 0\n2.\n";
    struct rubric_finding *found;
    assert_int_equal(lint(text, &found), 1);
    assert_int_equal(found->problem, RUBRIC_EMPTY);
    assert_true(found->criterion == RUBRIC_NO_CRITERION);
    assert_ptr_equal(found->words.ptr, text + 23);
}

static void anything_can_be_looked_at(void **state)
{
    (void)state;
    struct rubric_finding *found;
    static const char *const odd[] = {"`",       "\"",    "and", "and and and", "\xff\xfe and \xff",
                                      "``and``", "- and", ";",   "a;",          "; is",
                                      "is; is",  "()",    "--",  "-and-",       "\xe2\x80\x9c",
                                      "a\0b"};
    for (size_t i = 0; i < COUNT_OF(odd); i++)
        lint(odd[i], &found);
    char many[4096];
    for (size_t i = 0; i + 1 < sizeof many; i++)
        many[i] = "and is good; "[i % 13];
    many[sizeof many - 1] = '\0';
    assert_true(lint(many, &found) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(criteria_that_can_be_judged_are_let_alone),
        cmocka_unit_test(criteria_that_cannot_be_judged_are_named_with_the_words_at_fault),
        cmocka_unit_test(several_mistakes_of_one_criterion_are_all_named),
        cmocka_unit_test(a_criterion_said_twice_is_named_with_the_first),
        cmocka_unit_test(a_mark_without_text_is_named),
        cmocka_unit_test(anything_can_be_looked_at),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
