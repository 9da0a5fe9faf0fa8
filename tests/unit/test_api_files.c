/* What a file is called and which type it has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/file_name.h"
#include "base/limits.h"

static struct arena a;
static struct err err;

static const struct {
    const char *given, *filename, *want; /* want NULL: refused */
} types[] = {
    {"text/plain", "a.pdf", "text/plain"},
    {"Text/HTML; charset=UTF-8", "a", "text/html"},
    {"image/svg+xml", "a", "image/svg+xml"},
    {" application/vnd.x-y.z ;a=b", "a", "application/vnd.x-y.z"},
    {NULL, "a.pdf", "application/pdf"},
    {"", "A.PDF", "application/pdf"},
    {"application/octet-stream", "b.tar.gz", "application/gzip"},
    {"Application/Octet-Stream", "b", "application/octet-stream"},
    {NULL, "b.", "application/octet-stream"},
    {NULL, "b.unheard", "application/octet-stream"},
    {NULL, ".md", "text/markdown"},
    {NULL, "", "application/octet-stream"},
    {"text", "a", NULL},
    {"/", "a", NULL},
    {"text/", "a", NULL},
    {"text/a/b", "a", NULL},
    {"text/pl ain", "a", NULL},
    {"text/\"x\"", "a", NULL},
    {"t\xc3\xa9/a", "a", NULL},
};

static void the_type_is_what_was_said_or_what_the_name_tells(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        struct str got = STR_NONE;
        int rc = file_type_decide(&a, str_z(types[i].given), str_z(types[i].filename), &got, &err);
        assert_int_equal(rc, types[i].want ? 0 : ERR_INVALID);
        if (types[i].want)
            assert_true(str_eqz(got, types[i].want));
        else
            assert_string_equal(err.at, "file");
    }
    char longest[LIMIT_MIME_TYPE + 2];
    struct str got;
    memset(longest, 'a', sizeof longest);
    longest[1] = '/';
    assert_int_equal(file_type_decide(&a, str_n(longest, LIMIT_MIME_TYPE), STR("x"), &got, &err),
                     0);
    assert_int_equal(
        file_type_decide(&a, str_n(longest, LIMIT_MIME_TYPE + 1), STR("x"), &got, &err),
        ERR_INVALID);
}

static const struct {
    const char *given, *type, *want;
} names[] = {
    {"a.txt", "text/plain", "a.txt"},
    {"h\xc3\xb6he \xf0\x9f\x90\x8e.txt", "text/plain", "h\xc3\xb6he \xf0\x9f\x90\x8e.txt"},
    {"/etc/passwd", "text/plain", "passwd"},
    {"C:\\dir\\a.txt", "text/plain", "a.txt"},
    {"../../a", "text/plain", "a"},
    {"a/b\\c", "text/plain", "c"},
    {".hidden", "text/plain", ".hidden"},
    {"...", "text/plain", "..."},
    {NULL, "application/pdf", "unnamed.pdf"},
    {"", "text/html", "unnamed.html"},
    {"dir/", "image/jpeg", "unnamed.jpg"},
    {"", "application/octet-stream", "unnamed"},
    {"", "x/y", "unnamed"},
    {".", "text/plain", NULL},
    {"a/..", "text/plain", NULL},
    {"a:b", "text/plain", NULL},
    {"a<b", "text/plain", NULL},
    {"a>b", "text/plain", NULL},
    {"a\"b", "text/plain", NULL},
    {"a|b", "text/plain", NULL},
    {"a?b", "text/plain", NULL},
    {"a*b", "text/plain", NULL},
    {"a\nb", "text/plain", NULL},
    {"a\x7f", "text/plain", NULL},
};

static void the_name_is_the_last_component_without_forbidden_characters(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct str got = STR_NONE;
        int rc = file_name_decide(&a, str_z(names[i].given), str_z(names[i].type), &got, &err);
        assert_int_equal(rc, names[i].want ? 0 : ERR_INVALID);
        if (names[i].want)
            assert_true(str_eqz(got, names[i].want));
        else
            assert_string_equal(err.at, "file");
    }
}

static void a_name_has_at_most_255_characters_however_many_bytes(void **state)
{
    (void)state;
    char text[2 * (LIMIT_FILENAME_CHARS + 1)];
    struct str got;
    for (size_t i = 0; i < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xb6", 2);
    assert_int_equal(
        file_name_decide(&a, str_n(text, sizeof text - 2), STR("text/plain"), &got, &err), 0);
    assert_int_equal(got.len, sizeof text - 2);
    assert_int_equal(file_name_decide(&a, str_n(text, sizeof text), STR("text/plain"), &got, &err),
                     ERR_INVALID);
    assert_non_null(strstr(err.msg, "255"));
}

static int setup(void **state)
{
    (void)state;
    arena_init(&a, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_fini(&a);
    return 0;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_type_is_what_was_said_or_what_the_name_tells),
        T(the_name_is_the_last_component_without_forbidden_characters),
        T(a_name_has_at_most_255_characters_however_many_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
