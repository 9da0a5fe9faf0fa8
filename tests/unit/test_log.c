/* base/log: a line is one line, its form holds whatever the values are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/log.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* What was written to stderr meanwhile. */
struct capture {
    int fd, stderr_fd;
};

static void capture_begin(struct capture *c)
{
    c->fd = memfd_create("log", MFD_CLOEXEC);
    c->stderr_fd = dup(STDERR_FILENO);
    assert_true(c->fd >= 0 && c->stderr_fd >= 0);
    assert_int_equal(dup2(c->fd, STDERR_FILENO), STDERR_FILENO);
}

static struct str capture_end(struct capture *c)
{
    static char text[256 * 1024];
    dup2(c->stderr_fd, STDERR_FILENO);
    ssize_t n = pread(c->fd, text, sizeof text - 1, 0);
    close(c->fd);
    close(c->stderr_fd);
    assert_true(n >= 0);
    text[n] = '\0';
    return str_n(text, (size_t)n);
}

static void levels_below_the_least_are_not_written(void **state)
{
    (void)state;
    static const enum log_level levels[] = {LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR};
    for (size_t least = 0; least < COUNT_OF(levels); least++) {
        struct capture c;
        log_setup(levels[least], false);
        capture_begin(&c);
        for (size_t i = 0; i < COUNT_OF(levels); i++) {
            log_line(levels[i], "x", NULL);
            assert_true(log_wants(levels[i]) == (i >= least));
        }
        struct str text = capture_end(&c);
        size_t lines = 0;
        for (size_t i = 0; i < text.len; i++)
            lines += text.ptr[i] == '\n';
        assert_int_equal(lines, COUNT_OF(levels) - least);
    }
}

static void values_of_others_keep_the_form_of_a_json_line(void **state)
{
    (void)state;
    static const struct {
        const char *value, *written;
    } rows[] = {
        {"plain", "\"plain\""},
        {"", "\"\""},
        {"a\"b\\c", "\"a\\\"b\\\\c\""},
        {"line\nline\t\x1b[31m\x7f", "\"line\\u000aline\\u0009\\u001b[31m\\u007f\""},
        {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xb4",
         "\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xb4\""},
        {"\xc2\x9b", "\"\\u009b\""},
        {"cut \xe2\x82", "\"cut \xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xff\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
    };
    log_setup(LOG_INFO, true);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct capture c;
        char want[256];
        capture_begin(&c);
        log_line(LOG_INFO, "m", "key", rows[i].value, NULL);
        struct str text = capture_end(&c);
        snprintf(want, sizeof want, ",\"level\":\"info\",\"msg\":\"m\",\"key\":%s}\n",
                 rows[i].written);
        if (!str_ends(text, str_z(want)))
            fail_msg("row %zu: " STR_FMT, i, STR_ARG(text));
    }
}

static void a_text_line_quotes_what_could_be_taken_for_more(void **state)
{
    (void)state;
    struct capture c;
    log_setup(LOG_INFO, false);
    capture_begin(&c);
    log_line(LOG_INFO, "m", "a", "x", "b", "two words", "c", "k=v", "d", "", "e", "\x1b]0;t\x07",
             NULL);
    struct str text = capture_end(&c);
    assert_true(str_ends(
        text, STR(" info  m a=x b=\"two words\" c=\"k=v\" d=\"\" e=\"\\u001b]0;t\\u0007\"\n")));
}

static void a_value_without_end_is_cut_and_the_line_is_not(void **state)
{
    (void)state;
    static char huge[100 * 1024];
    memset(huge, '\x01', sizeof huge - 1);
    for (int json = 0; json < 2; json++) {
        struct capture c;
        log_setup(LOG_INFO, json);
        capture_begin(&c);
        log_line(LOG_INFO, "m", "a", huge, "b", huge, "c", "end", NULL);
        struct str text = capture_end(&c);
        assert_true(text.len < 20 * 1024);
        assert_true(str_find(text, STR("...\"")) > 0);
        assert_true(str_ends(text, json ? STR("\"c\":\"end\"}\n") : STR(" c=end\n")));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_below_the_least_are_not_written),
        cmocka_unit_test(values_of_others_keep_the_form_of_a_json_line),
        cmocka_unit_test(a_text_line_quotes_what_could_be_taken_for_more),
        cmocka_unit_test(a_value_without_end_is_cut_and_the_line_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
