/* Web pages as text, and bytes as UTF-8. */
#include "base/clock.h"
#include "web/charset.h"
#include "web/html.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct buf out;
static struct html_text text;

static const char *read_page(struct str page)
{
    buf_fini(&out);
    buf_init(&out, 1024 * 1024);
    text = (struct html_text){
        .out = &out, .limit = 400000, .base = "https://example.com/docs/page.html?q"};
    html_to_text(page, &text);
    return out.data ? out.data : "";
}

static int tear_down(void **state)
{
    (void)state;
    buf_fini(&out);
    return 0;
}

static void pages_become_readable_text(void **state)
{
    (void)state;
    static const struct {
        const char *page, *text;
    } cases[] = {
        {"<p>one\n  two</p><p>three", "one two\n\nthree"},
        {"a<br>b<br><br>c", "a\nb\n\nc"},
        {"<h1>A</h1><h3>B <i>c</i></h3>d", "# A\n\n### B c\n\nd"},
        {"<ul><li>a<li>b<ul><li>c</ul></ul>d", "- a\n- b\n  - c\n\nd"},
        {"<ol><li>a</li><li>b</li></ol>", "1. a\n2. b"},
        {"<a href=\"x.html\">x</a>, <a href='/y?a=1&amp;b=2#z'>y</a>",
         "[x](https://example.com/docs/x.html), [y](https://example.com/y?a=1&b=2)"},
        {"<a href='//other.example/'>o</a>", "[o](https://other.example/)"},
        {"<a href='javascript:x()'>j</a> <a href='mailto:a@b'>m</a> <a href='#t'>t</a>", "j m t"},
        {"<a href=/x></a>a<a href=/y> </a>b", "a b"},
        {"<a href=/x><div>in</div><div>side</div></a>", "[in side](https://example.com/x)"},
        {"<li><a href=/x>item</a>", "- [item](https://example.com/x)"},
        {"<pre>a\n  b\n\nc</pre>d", "```\na\n  b\n\nc\n```\n\nd"},
        {"use <code>rm  -r</code> now", "use `rm -r` now"},
        {"<table><tr><th>a<th>b</tr><tr><td>1<td>2</tr></table>e", "a | b\n1 | 2\n\ne"},
        {"<img alt='a picture' src=x> <img src=y>", "[image: a picture]"},
        {"a&nbsp;b &lt;i&gt; &#233; &copy;", "a b <i> \xc3\xa9 \xc2\xa9"},
        {"caf\xc3\xa9<meta charset=iso-8859-1>", "caf\xc3\xa9"},
        {"<blockquote>q</blockquote>r", "q\n\nr"},
        {"<dl><dt>t<dd>d</dl>", "t\nd"},
        {"", ""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(read_page(str_z(cases[i].page)), cases[i].text);
}

static void what_is_no_content_is_left_out(void **state)
{
    (void)state;
    static const char words[] =
        "These words are long enough that nobody has to look for more of them elsewhere.";
    static const char *const extras[] = {
        "<script>var s = '<p>evil</p>'</script>",
        "<style>p:before{content:'evil'}</style>",
        "<nav><a href=/>evil</a></nav>",
        "<footer>evil</footer>",
        "<aside>evil</aside>",
        "<div role=navigation>evil</div>",
        "<p hidden>evil</p>",
        "<p aria-hidden=true>evil</p>",
        "<p style='color:red; Display : NONE'>evil</p>",
        "<span style='visibility:hidden'>evil</span>",
        "<!-- evil -->",
        "<template>evil</template>",
        "<svg><text>evil</text></svg>",
        "<button>evil</button>",
        "<select><option>evil</select>",
        "<iframe>evil</iframe>",
        "<noscript>evil</noscript>",
        "<nav><div><p hidden>evil</p></div>evil</nav>",
    };
    for (size_t i = 0; i < COUNT_OF(extras); i++) {
        char page[1024];
        snprintf(page, sizeof page, "<body><main>%s%s%s</main></body>", words, extras[i], words);
        read_page(str_z(page));
        if (strstr(out.data, "evil"))
            fail_msg("%s: %s", extras[i], out.data);
    }
    /* Hidden stays hidden where the rest is all that there is. */
    assert_string_equal(read_page(STR("<nav><a href=/a>A</a><i hidden>evil</i></nav>")),
                        "[A](https://example.com/a)");
}

static void a_title_is_one_line(void **state)
{
    (void)state;
    read_page(STR("<title>\n a \t b&amp;c\n</title><svg><title>no</title></svg><p>x"));
    assert_string_equal(text.title, "a b&c");
    assert_string_equal(out.data, "x");
}

static void long_pages_are_cut_and_deep_ones_are_left(void **state)
{
    (void)state;
    AUTO_BUF struct buf page = BUF_INIT(64u << 20);
    for (int i = 0; i < 100000; i++)
        buf_z(&page, "<p>words and ");
    read_page(buf_view(&page));
    assert_true(text.cut);
    assert_true(out.len >= 400000 && out.len < 401000);
    buf_clear(&page);
    buf_z(&page, "<p>seen</p>");
    for (int i = 0; i < 1000000; i++)
        buf_z(&page, "<div>");
    for (int i = 0; i < 1000000; i++)
        buf_z(&page, "</b>");
    int64_t start = clock_mono_us();
    read_page(buf_view(&page));
    assert_true(text.cut);
    assert_string_equal(out.data, "seen");
    assert_true(clock_mono_us() - start < 5000000);
}

static void reading_stops_in_time(void **state)
{
    (void)state;
    AUTO_BUF struct buf page = BUF_INIT(64u << 20);
    for (int i = 0; i < 1000000; i++)
        buf_z(&page, "<i></i>");
    buf_fini(&out);
    buf_init(&out, 1024);
    text = (struct html_text){
        .out = &out, .limit = 1000, .base = "https://a.example/", .until_us = clock_mono_us() - 1};
    html_to_text(buf_view(&page), &text);
    assert_true(text.cut);
}

static void bytes_become_utf8(void **state)
{
    (void)state;
    static const struct {
        struct str in, declared;
        bool markup;
        const char *out;
    } cases[] = {
        {STR("plain \xc3\xa9"), STR_NONE, false, "plain \xc3\xa9"},
        {STR("\xe9"), STR_NONE, false, "\xc3\xa9"},
        {STR("\x80\x9d"), STR("latin1"), false, "\xe2\x82\xac\xef\xbf\xbd"},
        {STR("\xa4"), STR(" ISO-8859-15 "), false, "\xe2\x82\xac"},
        {STR("\x93\xfa\x96{"), STR("Shift_JIS"), false, "\xe6\x97\xa5\xe6\x9c\xac"},
        {STR("\xc4\xe3"), STR("gb2312"), false, "\xe4\xbd\xa0"},
        {STR("\xff\xfeh\0i\0"), STR("utf-8"), false, "hi"},
        {STR("\xfe\xff\0h\0i"), STR_NONE, false, "hi"},
        {STR("\xef\xbb\xbfhi"), STR("windows-1251"), false, "hi"},
        {STR("a\xf0\x9f\x98\x80z"), STR("utf-8"), false, "a\xf0\x9f\x98\x80z"},
        {STR("a\xed\xa0\x80z"), STR("utf-8"), false, "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz"},
        {STR("\xe2\x82"), STR("utf-8"), false, "\xef\xbf\xbd\xef\xbf\xbd"},
        {STR("a\0\x07\x1b\x7f\tb\n"), STR("utf-8"), false, "a\tb\n"},
        {STR("a\xc2\x85"), STR("utf-8"), false, "a"},
        {STR("<?xml version='1.0' encoding='koi8-r'?>\xc1"), STR_NONE, true,
         "<?xml version='1.0' encoding='koi8-r'?>\xd0\xb0"},
        {STR("<META content='text/html; charset = koi8-r'>\xc1"), STR_NONE, true,
         "<META content='text/html; charset = koi8-r'>\xd0\xb0"},
        {STR("<meta charset=utf-16>\xc3\xa9"), STR_NONE, true, "<meta charset=utf-16>\xc3\xa9"},
        {STR("<meta charset=koi8-r>\xc1"), STR("iso-8859-1"), true,
         "<meta charset=koi8-r>\xc3\x81"},
        {STR("\xe9"), STR("ISO-2022-CN-EXT"), false, "\xc3\xa9"},
        {STR("\xe9"), STR("UTF-7//IGNORE"), false, "\xc3\xa9"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_BUF struct buf b = BUF_INIT(4096);
        charset_to_utf8(cases[i].in, cases[i].declared, cases[i].markup, &b);
        assert_true(buf_ok(&b) && str_utf8(buf_view(&b)));
        if (strcmp(b.data ? b.data : "", cases[i].out) != 0)
            fail_msg("case %zu: %s", i, b.data);
    }
}

static void the_charset_of_a_type_is_found(void **state)
{
    (void)state;
    assert_true(str_eqz(charset_param(STR("text/html; charset=UTF-8")), "UTF-8"));
    assert_true(str_eqz(charset_param(STR("text/html;Charset=\"x y\";a")), "x"));
    assert_false(str_some(charset_param(STR("text/html"))));
}

#define T(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(pages_become_readable_text),
        T(what_is_no_content_is_left_out),
        T(a_title_is_one_line),
        T(long_pages_are_cut_and_deep_ones_are_left),
        T(reading_stops_in_time),
        T(bytes_become_utf8),
        T(the_charset_of_a_type_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
