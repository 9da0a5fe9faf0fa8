/* Forms taken apart: bodies, whole and cut into every two pieces and into single bytes, and what
 * the parser makes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "http/multipart.h"

#include <stdio.h>

#define B "multipart/form-data; boundary=xyz"
#define CD "Content-Disposition: form-data; "
#define PART(head, body) "--xyz\r\n" head "\r\n\r\n" body "\r\n"
#define LAST "--xyz--\r\n"
#define FILE_PART(params) PART(CD "name=\"file\"; " params, "data")

/* What was seen, as text: "name|filename|type|data;". */
static struct buf seen;

static int on_begin(void *arg, const struct multipart_part *p, struct err *err)
{
    (void)arg;
    (void)err;
    buf_str(&seen, p->name);
    buf_ch(&seen, '|');
    buf_str(&seen, str_some(p->filename) ? p->filename : STR("-"));
    buf_ch(&seen, '|');
    buf_str(&seen, str_some(p->type) ? p->type : STR("-"));
    buf_ch(&seen, '|');
    return 0;
}

static int on_data(void *arg, struct str piece, struct err *err)
{
    (void)arg;
    (void)err;
    assert_true(piece.len > 0);
    buf_str(&seen, piece);
    return 0;
}

static int on_end(void *arg, struct err *err)
{
    (void)arg;
    (void)err;
    buf_ch(&seen, ';');
    return 0;
}

static const struct multipart_sink sink = {on_begin, on_data, on_end};

/* Feeds pieces of `step` bytes, the first of `first`. */
static int parse(const char *type, struct str body, size_t first, size_t step, struct err *err)
{
    struct multipart m;
    buf_clear(&seen);
    *err = (struct err){0};
    int rc = multipart_init(&m, str_z(type), &sink, NULL, err);
    if (rc)
        return rc;
    for (size_t n = first; rc == 0 && body.len > 0; n = step) {
        AUTO_FREE char *copy = mem_dupz(body.ptr, str_take(body, n).len);
        rc = multipart_feed(&m, str_n(copy, str_take(body, n).len), err);
        body = str_skip(body, n);
    }
    if (rc == 0)
        rc = multipart_finish(&m, err);
    else
        assert_int_not_equal(multipart_finish(&m, &(struct err){0}), 0);
    multipart_fini(&m);
    return rc;
}

static void check(int rc, const struct err *err, const char *want, const char *why)
{
    if (why) {
        assert_int_equal(rc, ERR_INVALID);
        if (!strstr(err->msg, why))
            fail_msg("'%s' does not say '%s'", err->msg, why);
        return;
    }
    if (rc)
        fail_msg("%s", err->msg);
    assert_true(str_eqz(buf_view(&seen), want));
}

/* `why` set: refused so. */
static void each_way(const char *type, struct str body, const char *want, const char *why)
{
    struct err err;
    check(parse(type, body, SIZE_MAX, SIZE_MAX, &err), &err, want, why);
    check(parse(type, body, 1, 1, &err), &err, want, why);
    for (size_t cut = 1; cut < body.len; cut++)
        check(parse(type, body, cut, SIZE_MAX, &err), &err, want, why);
}

static const struct {
    const char *body, *want;
} good[] = {
    {LAST, ""},
    {"--xyz--", ""},
    {PART(CD "name=\"a\"", "1") LAST, "a|-|-|1;"},
    {PART(CD "name=a", "1") PART(CD "name=b", "") LAST, "a|-|-|1;b|-|-|;"},
    {FILE_PART("filename=\"x.txt\"\r\nContent-Type: text/plain; charset=utf-8") LAST,
     "file|x.txt|text/plain; charset=utf-8|data;"},
    {"--xyz\r\nContent-Type: a/b\r\ncontent-DISPOSITION:form-data;name=f;\r\n\r\n1\r\n" LAST,
     "f|-|a/b|1;"},
    /* data that looks like the delimiter */
    {PART(CD "name=a", "\r\n--xy") LAST, "a|-|-|\r\n--xy;"},
    {PART(CD "name=a", "\r\r\n\r\n--\r\r\n--xy\r\n-") LAST, "a|-|-|\r\r\n\r\n--\r\r\n--xy\r\n-;"},
    {PART(CD "name=a", "--xyz\n--xyz\r\r") LAST, "a|-|-|--xyz\n--xyz\r\r;"},
    {PART(CD "name=a", "\r\n") LAST, "a|-|-|\r\n;"},
    /* names of files */
    {FILE_PART("filename=\"\"") LAST, "file||-|data;"},
    {FILE_PART("filename=plain.txt") LAST, "file|plain.txt|-|data;"},
    {FILE_PART("filename=\"a \\\"b\\\" c\"") LAST, "file|a \"b\" c|-|data;"},
    {FILE_PART("filename=\"a%22b%0d%0Ac%20%zz%2\"") LAST, "file|a\"b\r\nc%20%zz%2|-|data;"},
    {FILE_PART("filename=\"C:\\dir\\x.txt\"") LAST, "file|C:\\dir\\x.txt|-|data;"},
    {FILE_PART("filename=\"h\xc3\xb6he; x=y.txt\"") LAST, "file|h\xc3\xb6he; x=y.txt|-|data;"},
    {FILE_PART("filename*=UTF-8''h%C3%B6he%20a.txt") LAST, "file|h\xc3\xb6he a.txt|-|data;"},
    {FILE_PART("filename=\"old\"; filename*=utf-8'en'new") LAST, "file|new|-|data;"},
    {FILE_PART("filename*=utf-8''new; filename=\"old\"") LAST, "file|new|-|data;"},
    {FILE_PART("filename*=iso-8859-1''h%f6he") LAST, "file|h\xc3\xb6he|-|data;"},
    {PART(CD "name=a\r\nContent-Transfer-Encoding: binary", "1") LAST, "a|-|-|1;"},
};

static void forms_are_taken_apart_however_they_are_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++)
        each_way(B, str_z(good[i].body), good[i].want, NULL);
}

static const struct {
    const char *body, *why;
} bad[] = {
    {"", "ends before its last boundary"},
    {"--xy", "ends before its last boundary"},
    {"--xyz", "ends before its last boundary"},
    {"--xyz\r\n", "ends before its last boundary"},
    {PART(CD "name=a", "1"), "ends before its last boundary"},
    {PART(CD "name=a", "1") "--xyz-", "ends before its last boundary"},
    {LAST "\r", "something follows"},
    {"--xyz--\r", "ends before its last boundary"},
    {"--xyz--x", "something follows"},
    {"\r\n" LAST, "does not begin with the boundary"},
    {"preamble\r\n" LAST, "does not begin with the boundary"},
    {"--xyzz\r\n", "followed by something else"},
    {"--xyz \r\n", "followed by something else"},
    {"--xyz\n" CD "name=a\n\n1\n--xyz--", "followed by something else"},
    {PART(CD "name=a", "1\r\n--xyzzy") LAST, "followed by something else"},
    {PART(CD "name=a", "1") "--xyz-\r\n", "followed by something else"},
    {"--xyz\r\n\r\n1\r\n" LAST, "no Content-Disposition"},
    {PART("Content-Type: a/b", "1") LAST, "no Content-Disposition"},
    {PART("Content-Disposition: attachment; name=a", "1") LAST, "is not form-data"},
    {PART("Content-Disposition: form-data", "1") LAST, "has no name"},
    {PART(CD "name=\"\"", "1") LAST, "has no name"},
    {PART(CD "name=\"a", "1") LAST, "cannot be read"},
    {PART(CD "name=\"a\" x", "1") LAST, "cannot be read"},
    {PART(CD "name =a", "1") LAST, "cannot be read"},
    {PART(CD "name=a; name=b", "1") LAST, "given twice"},
    {FILE_PART("filename=a; filename=b") LAST, "given twice"},
    {PART(CD "name=a\r\n" CD "name=b", "1") LAST, "two Content-Dispositions"},
    {PART(CD "name=a\r\nContent-Type: a/b\r\nContent-Type: a/b", "1") LAST, "two Content-Types"},
    {PART(CD "name=a\r\n folded", "1") LAST, "cannot be read"},
    {PART(CD "name=a\r\nno colon", "1") LAST, "cannot be read"},
    {PART(CD "name=a\r\nX : 1", "1") LAST, "cannot be read"},
    {PART(CD "name=a\nX: 1", "1") LAST, "control characters"},
    {PART(CD "name=\"a\x01\"", "1") LAST, "control characters"},
    {PART(CD "name=\"\xff\"", "1") LAST, "not UTF-8"},
    {FILE_PART("filename=\"\xc3\"") LAST, "not UTF-8"},
    {FILE_PART("filename*=UTF-8''%C3") LAST, "wrongly encoded"},
    {FILE_PART("filename*=UTF-8''%zz") LAST, "wrongly encoded"},
    {FILE_PART("filename*=UTF-8''a%0") LAST, "wrongly encoded"},
    {FILE_PART("filename*=UTF-8''a%00b") LAST, "wrongly encoded"},
    {FILE_PART("filename*=UTF-8'a") LAST, "wrongly encoded"},
    {FILE_PART("filename*=koi8-r''a") LAST, "wrongly encoded"},
    {FILE_PART("filename*=\"UTF-8''a b\"") LAST, "wrongly encoded"},
    {PART(CD "name=a\r\nContent-Transfer-Encoding: base64", "1") LAST, "Transfer-Encoding"},
};

static void malformed_forms_are_refused_with_the_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        each_way(B, str_z(bad[i].body), NULL, bad[i].why);
}

static const struct {
    const char *type;
    bool ok;
} types[] = {
    {"multipart/form-data; boundary=xyz", true},
    {"Multipart/Form-Data;BOUNDARY=\"xyz\"", true},
    {"multipart/form-data; charset=utf-8; boundary=xyz;", true},
    {"multipart/form-data", false},
    {"multipart/form-data; boundary=", false},
    {"multipart/form-data; boundary=\"\"", false},
    {"multipart/form-data; boundary=xyz; boundary=xyz", false},
    {"multipart/form-data; boundary=\"x z \"", false},
    {"multipart/form-data; boundary=x\xc3\xb6", false},
    {"multipart/form-data; boundary=a{b", false},
    {"multipart/form-data boundary=xyz", false},
    {"multipart/form-dataX; boundary=xyz", false},
    {"multipart/mixed; boundary=xyz", false},
    {"application/json", false},
    {"", false},
    {NULL, false},
};

static void the_boundary_comes_from_the_content_type(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        struct err err;
        int rc = parse(types[i].type, STR(LAST), SIZE_MAX, SIZE_MAX, &err);
        assert_int_equal(rc, types[i].ok ? 0 : ERR_INVALID);
        if (rc)
            assert_string_equal(err.at, "content-type");
    }
    char type[128], body[128];
    struct err err;
    for (int len = 70; len <= 71; len++) {
        snprintf(type, sizeof type, "multipart/form-data; boundary=%0*d", len, 0);
        snprintf(body, sizeof body, "--%0*d--", len, 0);
        assert_int_equal(parse(type, str_z(body), 1, 1, &err), len == 70 ? 0 : ERR_INVALID);
    }
}

static void the_head_of_a_part_is_bounded(void **state)
{
    (void)state;
    struct err err;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    buf_z(&b, "--xyz\r\n" CD "name=a\r\nX: ");
    for (int i = 0; i < MULTIPART_HEAD_MAX; i++)
        buf_ch(&b, 'x');
    assert_int_equal(parse(B, buf_view(&b), SIZE_MAX, 1, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "over 8 KiB"));
    assert_int_equal(parse(B, buf_view(&b), 1, 1, &err), ERR_INVALID);

    buf_clear(&b);
    buf_z(&b, "--xyz\r\n" CD "name=a\r\n");
    for (int i = 0; i < MULTIPART_HEAD_LINES; i++)
        buf_z(&b, "X: 1\r\n");
    buf_z(&b, "\r\n1\r\n" LAST);
    assert_int_equal(parse(B, buf_view(&b), SIZE_MAX, 1, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "too many headers"));

    buf_clear(&b);
    for (int i = 0; i <= MULTIPART_PARTS_MAX; i++)
        buf_z(&b, PART(CD "name=a", "1"));
    buf_z(&b, LAST);
    assert_int_equal(parse(B, buf_view(&b), SIZE_MAX, 1, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "too many parts"));
}

static void a_name_that_fills_the_whole_head_keeps_its_place(void **state)
{
    (void)state;
    struct err err;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    buf_z(&b, "--xyz\r\n" CD "name=file; filename*=iso-8859-1''");
    for (int i = 0; i < 2600; i++)
        buf_z(&b, "%f6");
    buf_z(&b, "\r\n\r\n1\r\n" LAST);
    if (parse(B, buf_view(&b), SIZE_MAX, 1, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(seen.len, strlen("file||-|1;") + 2 * 2600);
}

static int refuse(void *arg, struct str piece, struct err *err)
{
    (void)arg;
    (void)piece;
    return err_set(err, ERR_TOO_LARGE, "enough");
}

static void what_the_sink_returns_ends_it(void **state)
{
    (void)state;
    static const struct multipart_sink strict = {on_begin, refuse, on_end};
    struct multipart m;
    struct err err;
    assert_int_equal(multipart_init(&m, STR(B), &strict, NULL, &err), 0);
    assert_int_equal(multipart_feed(&m, STR(PART(CD "name=a", "1") LAST), &err), ERR_TOO_LARGE);
    assert_int_equal(multipart_feed(&m, STR("x"), &err), ERR_INVALID);
    assert_int_equal(multipart_finish(&m, &err), ERR_INVALID);
    multipart_fini(&m);
}

static int setup(void **state)
{
    (void)state;
    seen = BUF_INIT(1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_fini(&seen);
    return 0;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(forms_are_taken_apart_however_they_are_cut),
        T(malformed_forms_are_refused_with_the_reason),
        T(the_boundary_comes_from_the_content_type),
        T(the_head_of_a_part_is_bounded),
        T(a_name_that_fills_the_whole_head_keeps_its_place),
        T(what_the_sink_returns_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
