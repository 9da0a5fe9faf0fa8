/* What builds are made from, without running any: contents, scripts, sources, sealed layers. */
#include "base/fd.h"
#include "sandbox/build.h"
#include "sandbox/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct arena arena;
static char dir[64];

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 22);
    snprintf(dir, sizeof dir, "/tmp/ostler-build-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    struct err err;
    arena_fini(&arena);
    return tree_remove(dir, &err);
}

static const struct json *config(const char *text)
{
    const struct json *doc;
    struct err err;
    assert_int_equal(json_parse(&arena, arena_str(&arena, str_z(text)), 0, &doc, &err), 0);
    return doc;
}

static bool same(const char *one, const char *two)
{
    char a[CONTENT_HEX + 1], b[CONTENT_HEX + 1];
    assert_true(layer_content(config(one), STR("host"), a));
    assert_true(layer_content(config(two), STR("host"), b));
    return strcmp(a, b) == 0;
}

static void a_content_is_what_a_build_depends_on(void **state)
{
    (void)state;
    char a[CONTENT_HEX + 1], b[CONTENT_HEX + 1];
    assert_false(layer_content(config("{\"packages\":{\"apt\":[],\"npm\":[]},\"setup\":[]}"),
                               STR("host"), a));
    const char *apt = "{\"packages\":{\"apt\":[\"a\"]}}";
    assert_true(same(apt, "{\"type\":\"cloud\",\"packages\":{\"apt\":[\"a\"],\"pip\":[]}}"));
    assert_true(same(apt, "{\"packages\":{\"apt\":[\"a\"]},\"variables\":{\"A\":\"1\"}}"));
    assert_false(same(apt, "{\"packages\":{\"npm\":[\"a\"]}}"));
    assert_false(same(apt, "{\"packages\":{\"apt\":[\"a\",\"\"]}}"));
    assert_false(
        same("{\"packages\":{\"apt\":[\"ab\",\"c\"]}}", "{\"packages\":{\"apt\":[\"a\",\"bc\"]}}"));
    assert_false(same("{\"setup\":[\"x\"],\"variables\":{\"A\":\"1\"}}",
                      "{\"setup\":[\"x\"],\"variables\":{\"A\":\"2\"}}"));
    assert_true(layer_content(config(apt), STR("one"), a));
    assert_true(layer_content(config(apt), STR("two"), b));
    assert_string_not_equal(a, b);
}

static void a_script_cannot_be_left_by_quotes(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = BUF_INIT(1 << 16);
    const struct json *c = config("{\"setup\":[\"echo 'a'; $(x)\"],\"variables\":{\"V\":\"'$y\"}}");
    assert_false(build_script(c, BUILD_APT, &out));
    buf_clear(&out);
    assert_false(build_script(c, BUILD_PACKAGES, &out));
    buf_clear(&out);
    assert_true(build_script(c, BUILD_SETUP, &out));
    assert_non_null(strstr(out.data, "export V=''\\''$y'\n"));
    assert_non_null(strstr(out.data, "-c 'echo '\\''a'\\''; $(x)' </dev/null"));
}

static void managers_come_in_the_order_of_their_names(void **state)
{
    (void)state;
    AUTO_BUF struct buf out = BUF_INIT(1 << 16);
    const struct json *c =
        config("{\"packages\":{\"pip\":[\"p\"],\"npm\":[\"n\"],\"cargo\":[\"c\"],\"go\":[\"x/g\"],"
               "\"gem\":[\"r\"]}}");
    assert_true(build_script(c, BUILD_PACKAGES, &out));
    const char *at = out.data;
    static const char *const order[] = {"say cargo: 'c'", "say gem: 'r'", "say go: 'x/g'",
                                        "say npm: 'n'", "say pip: 'p'"};
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        at = strstr(at, order[i]);
        assert_non_null(at);
    }
}

static void sources_lose_their_credentials(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"deb http://user:pass@a.example/x y", "deb http://a.example/x y\n"},
        {"deb [signed-by=/k] https://a.example/x@y z",
         "deb [signed-by=/k] https://a.example/x@y z\n"},
        {"registry=https://u:p%40@r.example/", "registry=https://r.example/\n"},
        {"//r.example/:_authToken=abc", ""},
        {"_password = abc", ""},
        {"Acquire::http::Proxy \"http://u:p@px.example:3128\";",
         "Acquire::http::Proxy \"http://px.example:3128\";\n"},
        {"APT::Get::AllowUnauthenticated \"true\";", "APT::Get::AllowUnauthenticated \"true\";\n"},
        {"index-url = https://a:b@one.example/s, https://c@two.example",
         "index-url = https://one.example/s, https://two.example\n"},
        {":rubygems_api_key: abc", ""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_BUF struct buf out = BUF_INIT(4096);
        build_clean_text(str_z(cases[i][0]), &out);
        assert_string_equal(out.len ? out.data : "", cases[i][1]);
    }
}

static void put(const char *name, const char *text, unsigned mode)
{
    char path[256];
    struct err err;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(fd_write_file_atomic(path, str_z(text), 0600, &err), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void make(const char *name)
{
    char path[256];
    struct err err;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(fd_mkdirs(path, 0755, &err), 0);
}

static mode_t mode_of(const char *name)
{
    char path[256];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return lstat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

static void a_sealed_layer_holds_nothing_but_plain_files(void **state)
{
    (void)state;
    char path[256];
    struct err err;
    make("l/env/deep");
    make("l/home");
    make("l/apt/opt");
    put("l/env/suid", "x", 04711);
    put("l/env/secret", "x", 0600);
    put("l/env/open", "x", 0666);
    snprintf(path, sizeof path, "%s/l/env/deep/pipe", dir);
    assert_int_equal(mkfifo(path, 0666), 0);
    snprintf(path, sizeof path, "%s/l/env/deep", dir);
    assert_int_equal(chmod(path, 0700), 0);
    snprintf(path, sizeof path, "%s/l", dir);
    assert_int_equal(layer_seal(path, geteuid() == 0, &err), 0);
    assert_int_equal(mode_of("l/env/suid"), 0755);
    assert_int_equal(mode_of("l/env/secret"), 0644);
    assert_int_equal(mode_of("l/env/open"), 0644);
    assert_int_equal(mode_of("l/env/deep"), 0755);
    assert_int_equal(mode_of("l/env/deep/pipe"), 0);
    assert_int_equal(mode_of("l/env/apt"), 0755);
    assert_int_equal(mode_of("l/apt/opt/env"), 0755);
}

static void a_home_is_filled_once_while_it_is_empty(void **state)
{
    (void)state;
    char path[256], home[256];
    struct err err;
    struct layer l = {.content = "x"};
    make("h/home/a");
    make("new");
    put("h/home/a/f", "text", 0755);
    snprintf(path, sizeof path, "%s/h/home/link", dir);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    snprintf(l.dir, sizeof l.dir, "%s/h", dir);
    snprintf(home, sizeof home, "%s/new", dir);
    assert_int_equal(layer_fill_home(&l, home, 0, &err), 0);
    assert_int_equal(mode_of("new/a/f"), 0755);
    assert_int_equal(mode_of("new/link"), 0777);
    put("h/home/later", "x", 0644);
    assert_int_equal(layer_fill_home(&l, home, 0, &err), 0);
    assert_int_equal(mode_of("new/later"), 0);
}

static void sources_name_their_hosts(void **state)
{
    (void)state;
    struct err err;
    char etc[128];
    const char *const variables[] = {"GOPROXY", "https://go.example:8443,direct", NULL};
    const char **hosts;
    size_t n;
    make("etc/apt/sources.list.d");
    put("etc/apt/sources.list", "deb http://deb.example/debian x y\n", 0644);
    put("etc/apt/sources.list.d/a.sources",
        "URIs: http://deb.example/s\nURIs: https://sec.example\n", 0644);
    snprintf(etc, sizeof etc, "%s/etc", dir);
    assert_int_equal(build_hosts(&arena, etc, variables, &hosts, &n, &err), 0);
    assert_int_equal(n, 3);
    assert_string_equal(hosts[0], "deb.example");
    assert_string_equal(hosts[1], "sec.example");
    assert_string_equal(hosts[2], "go.example:8443");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_content_is_what_a_build_depends_on),
        cmocka_unit_test(a_script_cannot_be_left_by_quotes),
        cmocka_unit_test(managers_come_in_the_order_of_their_names),
        cmocka_unit_test(sources_lose_their_credentials),
        cmocka_unit_test(sources_name_their_hosts),
        cmocka_unit_test(a_sealed_layer_holds_nothing_but_plain_files),
        cmocka_unit_test(a_home_is_filled_once_while_it_is_empty),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
