/* cli/: the command line by table, the nearest name, text made safe for a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/term.h"

struct values {
    bool flag;
    const char *text;
    int64_t number;
    struct option_words words;
    struct err err;
};

static int parse(struct values *v, int argc, char **argv)
{
    *v = (struct values){.number = -1};
    const struct option_spec options[] = {
        {"flag", 'f', OPTION_FLAG, &v->flag, NULL, "a flag", 0, 0},
        {"text", 't', OPTION_TEXT, &v->text, "TEXT", "a text", 0, 0},
        {"number", 'n', OPTION_I64, &v->number, "N", "a number", 1, 100},
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {.name = "test",
                                      .usage = "ostler test WORD",
                                      .summary = "For tests.",
                                      .options = options,
                                      .min_words = 1,
                                      .max_words = 2,
                                      .word_name = "WORD"};
    return options_parse(&spec, argc, argv, &v->words, &v->err);
}

#define PARSE(v, ...)                                                                              \
    parse(v, (int)(sizeof((char *[]){"test", __VA_ARGS__}) / sizeof(char *)),                      \
          (char *[]){"test", __VA_ARGS__, NULL})

static void options_are_read_in_every_form(void **state)
{
    (void)state;
    struct values v;
    assert_int_equal(PARSE(&v, "word", "--flag", "--text", "a b", "--number", "7"), 0);
    assert_true(v.flag);
    assert_string_equal(v.text, "a b");
    assert_int_equal(v.number, 7);
    assert_int_equal(v.words.n, 1);
    assert_int_equal(PARSE(&v, "--text=", "--number=100", "word"), 0);
    assert_string_equal(v.text, "");
    assert_int_equal(v.number, 100);
    assert_int_equal(PARSE(&v, "-f", "-n5", "-t", "x", "word", "second"), 0);
    assert_int_equal(v.number, 5);
    assert_string_equal(v.words.word[1], "second");
}

static void everything_behind_two_dashes_is_a_word(void **state)
{
    (void)state;
    struct values v;
    assert_int_equal(PARSE(&v, "--", "--flag", "-"), 0);
    assert_false(v.flag);
    assert_string_equal(v.words.word[0], "--flag");
    assert_string_equal(v.words.word[1], "-");
}

static void a_wrong_command_line_is_refused_with_the_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *args[4];
        const char *says;
    } rows[] = {
        {{"w", "--txt", "x"}, "did you mean --text?"},
        {{"w", "--zzzzzz"}, "`ostler test --help`"},
        {{"w", "-z"}, "unknown option -z"},
        {{"w", "--text"}, "--text needs a value"},
        {{"w", "--flag=yes"}, "takes no value"},
        {{"w", "--number", "0"}, "from 1 to 100"},
        {{"w", "--number", "1e2"}, "from 1 to 100"},
        {{"w", "--number", "99999999999999999999"}, "from 1 to 100"},
        {{"--flag"}, "WORD is missing"},
        {{"a", "b", "c"}, "unexpected argument 'c'"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *argv[6] = {(char *)(uintptr_t) "test"};
        int argc = 1;
        for (size_t k = 0; k < 4 && rows[i].args[k]; k++)
            argv[argc++] = (char *)(uintptr_t)rows[i].args[k];
        struct values v;
        assert_int_equal(parse(&v, argc, argv), ERR_INVALID);
        if (!strstr(v.err.msg, rows[i].says))
            fail_msg("row %zu: '%s' does not say '%s'", i, v.err.msg, rows[i].says);
    }
}

static void help_is_answered_before_anything_is_checked(void **state)
{
    (void)state;
    struct values v;
    assert_int_equal(PARSE(&v, "--help"), 0);
    assert_true(v.words.help);
    assert_int_equal(PARSE(&v, "a", "b", "c", "-h"), 0);
    assert_true(v.words.help);
}

static void the_nearest_name_is_suggested_only_when_it_is_near(void **state)
{
    (void)state;
    static const char *const names[] = {"serve", "run", "demo", "sessions", "events", "keys"};
    static const struct {
        const char *typed, *near;
    } rows[] = {
        {"sevre", "serve"},   {"rnu", "run"},
        {"dmeo", "demo"},     {"event", "events"},
        {"sess", "sessions"}, {"session", "sessions"},
        {"key", "keys"},      {"xyzzy", NULL},
        {"", NULL},           {"a-name-that-is-far-too-long-to-be-a-command", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const char *near = cli_nearest(rows[i].typed, names, COUNT_OF(names));
        if (rows[i].near)
            assert_string_equal(near ? near : "(none)", rows[i].near);
        else
            assert_null(near);
    }
}

#define MARK "\xef\xbf\xbd"

static void control_characters_never_reach_the_terminal(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"plain\ttext\n", "plain\ttext\n"},
        {"\033[31mred\033[0m", MARK "red" MARK},
        {"\033[2J\033[H", MARK MARK},
        {"\033]0;title\afterwards", MARK "fterwards"},
        {"\033]8;;http://x\033\\link", MARK "link"},
        {"\033]52;c;never ended", MARK},
        {"\033", MARK},
        {"\033[", MARK},
        {"\033[12", MARK},
        {"\033c", MARK},
        {"over\rwritten", "overwritten"},
        {"back\b\b", "back" MARK MARK},
        {"bell\a", "bell" MARK},
        {"del\x7f", "del" MARK},
        {"\xc2\x9b"
         "31m",
         MARK "31m"}, /* C1: control sequence introducer */
        {"a\xe2\x80\xae"
         "b",
         "a" MARK "b"}, /* right-to-left override */
        {"a\xe2\x81\xa6"
         "b",
         "a" MARK "b"}, /* isolate */
        {"a\xe2\x80\xa8"
         "b",
         "a" MARK "b"}, /* line separator */
        {"\xff\xfe", MARK MARK},
        {"\xe2\x82", MARK MARK}, /* cut off */
        {"gr\xc3\xbc\xc3\x9f"
         "e \xe2\x82\xac \xf0\x9f\x90\xb4",
         "gr\xc3\xbc\xc3\x9f"
         "e \xe2\x82\xac \xf0\x9f\x90\xb4"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        AUTO_BUF struct buf b = BUF_INIT(4096);
        buf_z(&b, "");
        term_safe(&b, str_z(rows[i].in));
        assert_string_equal(b.data ? b.data : "", rows[i].out);
    }
}

static void a_line_of_foreign_text_stays_one_line(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(4096);
    term_safe_line(&b, STR("a\nb\r\nc\td"));
    assert_string_equal(b.data, "a b  c d");
}

static void amounts_are_short_and_true(void **state)
{
    (void)state;
    AUTO_BUF struct buf b = BUF_INIT(4096);
    const int64_t counts[] = {0, 999, 1000, 12345, 1999999};
    for (size_t i = 0; i < COUNT_OF(counts); i++, buf_ch(&b, ' '))
        term_count(&b, counts[i]);
    const int64_t times_ms[] = {0, 450, 9999, 10000, 59999, 60000, 3723000};
    for (size_t i = 0; i < COUNT_OF(times_ms); i++, buf_ch(&b, ','))
        term_duration(&b, times_ms[i]);
    const int64_t money[] = {0, 50, 12345, 1500000};
    for (size_t i = 0; i < COUNT_OF(money); i++, buf_ch(&b, ';'))
        term_money(&b, money[i]);
    assert_string_equal(b.data, "0 999 1.0k 12.3k 1.9M 0.0 s,0.4 s,9.9 s,10 s,59 s,1:00,62:03,"
                                "$0.0000;less than $0.0001;$0.0123;$1.5000;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_read_in_every_form),
        cmocka_unit_test(everything_behind_two_dashes_is_a_word),
        cmocka_unit_test(a_wrong_command_line_is_refused_with_the_remedy),
        cmocka_unit_test(help_is_answered_before_anything_is_checked),
        cmocka_unit_test(the_nearest_name_is_suggested_only_when_it_is_near),
        cmocka_unit_test(control_characters_never_reach_the_terminal),
        cmocka_unit_test(a_line_of_foreign_text_stays_one_line),
        cmocka_unit_test(amounts_are_short_and_true),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
