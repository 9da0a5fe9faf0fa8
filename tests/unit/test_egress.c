/* egress/: addresses, authorities, TLS hellos and policies, without sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "egress/hello.h"
#include "egress/policy.h"
#include "egress/registries.h"

#include <stdio.h>

/* ---- addresses ---- */

static void only_public_addresses_are_reachable(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool refused;
    } cases[] = {
        {"1.1.1.1", false},
        {"9.255.255.255", false},
        {"10.0.0.0", true},
        {"10.255.255.255", true},
        {"11.0.0.0", false},
        {"0.0.0.0", true},
        {"0.1.2.3", true},
        {"100.63.255.255", false},
        {"100.64.0.1", true},
        {"100.100.100.200", true},
        {"100.128.0.0", false},
        {"127.0.0.1", true},
        {"127.255.255.254", true},
        {"128.0.0.1", false},
        {"168.63.129.16", true},
        {"168.63.129.17", false},
        {"169.254.169.254", true},
        {"172.15.255.255", false},
        {"172.16.0.1", true},
        {"172.31.255.255", true},
        {"172.32.0.0", false},
        {"192.0.0.192", true},
        {"192.0.2.1", false}, /* documentation */
        {"192.88.99.1", true},
        {"192.168.0.1", true},
        {"192.169.0.1", false},
        {"198.18.0.1", true},
        {"198.51.100.1", false},
        {"203.0.113.1", false},
        {"223.255.255.255", false},
        {"224.0.0.1", true},
        {"240.0.0.1", true},
        {"255.255.255.255", true},
        {"::", true},
        {"::1", true},
        {"::ffff:1.1.1.1", true},
        {"::ffff:127.0.0.1", true},
        {"::127.0.0.1", true},
        {"64:ff9b::1.1.1.1", true},
        {"64:ff9b:1::1", true},
        {"100::1", true},
        {"2001::1", true}, /* Teredo */
        {"2001:db8::1", false},
        {"2001:4860:4860::8888", false},
        {"2002:7f00:1::", true},
        {"2606:4700:4700::1111", false},
        {"3fff:ffff::1", false},
        {"4000::1", true},
        {"fc00::1", true},
        {"fd00:ec2::254", true},
        {"fe80::1", true},
        {"fec0::1", true},
        {"ff02::1", true},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct ip ip;
        assert_true(ip_parse(str_z(cases[i].text), &ip));
        bool refused = ip_refused(&ip, NULL, 0) != NULL;
        if (refused != cases[i].refused)
            fail_msg("%s: %s", cases[i].text, refused ? "refused" : "let through");
    }
}

static void the_operator_opens_a_range_and_no_more(void **state)
{
    (void)state;
    struct ip_range allowed[2];
    struct err err;
    assert_int_equal(ip_range_parse(STR("10.1.0.0/16"), &allowed[0], &err), 0);
    assert_int_equal(ip_range_parse(STR("64:ff9b::/96"), &allowed[1], &err), 0);
    static const struct {
        const char *text;
        bool refused;
    } cases[] = {
        {"10.1.255.255", false},      {"10.2.0.0", true},          {"10.0.255.255", true},
        {"64:ff9b::1.1.1.1", false},  {"64:ff9b::10.0.0.1", true}, {"64:ff9b::127.0.0.1", true},
        {"64:ff9b::10.1.0.1", false}, {"::ffff:10.1.0.1", true},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct ip ip;
        assert_true(ip_parse(str_z(cases[i].text), &ip));
        if ((ip_refused(&ip, allowed, 2) != NULL) != cases[i].refused)
            fail_msg("%s", cases[i].text);
    }
}

static void a_range_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",       "10.0.0.0/33",  "10.0.0.1/8",  "10.0.0/8",
                                      "::/129", "10.0.0.0/",    "10.0.0.0/-1", "10.0.0.0/8x",
                                      "x",      "fe80::1%1/64", "fd00::1/8"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct ip_range r;
        struct err err = {.code = 0};
        assert_int_equal(ip_range_parse(str_z(bad[i]), &r, &err), ERR_INVALID);
        assert_true(strlen(err.msg) > 10);
    }
    struct ip_range r;
    struct ip ip;
    assert_int_equal(ip_range_parse(STR("0.0.0.0/0"), &r, NULL), 0);
    assert_true(ip_parse(STR("255.1.2.3"), &ip) && ip_in_range(&ip, &r));
}

/* ---- authorities ---- */

static void an_authority_has_one_canonical_form(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint16_t usual;
        const char *host; /* NULL: refused */
        uint16_t port;
    } cases[] = {
        {"example.com:443", 0, "example.com", 443},
        {"EXAMPLE.Com.:443", 0, "example.com", 443},
        {"xn--bcher-kva.example:443", 0, "xn--bcher-kva.example", 443},
        {"a_b.example", 80, "a_b.example", 80},
        {"example.com", 0, NULL, 0},
        {"example.com:", 80, NULL, 0},
        {"example.com:0", 80, NULL, 0},
        {"example.com:65536", 80, NULL, 0},
        {"example.com:0443", 80, "example.com", 443},
        {"example.com:000443", 80, NULL, 0},
        {"user@example.com", 80, NULL, 0},
        {"user:443", 80, "user", 443},
        {"user:pw@example.com:443", 80, NULL, 0},
        {"example..com", 80, NULL, 0},
        {".example.com", 80, NULL, 0},
        {"example.com..", 80, NULL, 0},
        {"", 80, NULL, 0},
        {".", 80, NULL, 0},
        {"exa mple.com", 80, NULL, 0},
        {"example.com%00.evil.com", 80, NULL, 0},
        {"b\xc3\xbc"
         "cher.example",
         80, NULL, 0},
        {"127.0.0.1", 80, "127.0.0.1", 80},
        {"127.1", 80, NULL, 0},
        {"2130706433", 80, NULL, 0},
        {"0x7f000001", 80, NULL, 0},
        {"0x7f.1", 80, NULL, 0},
        {"017700000001", 80, NULL, 0},
        {"1.2.3.4.", 80, NULL, 0},
        {"127.0.0.0x1", 80, NULL, 0},
        {"[::1]:443", 0, "::1", 443},
        {"[0:0::1]", 80, "::1", 80},
        {"::1", 80, NULL, 0},
        {"[::1", 80, NULL, 0},
        {"[127.0.0.1]", 80, NULL, 0},
        {"[fe80::1%eth0]", 80, NULL, 0},
        {"[example.com]", 80, NULL, 0},
        {"*.example.com", 80, NULL, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct authority a;
        struct err err;
        int rc = authority_parse(str_z(cases[i].text), cases[i].usual, &a, &err);
        if ((rc == 0) != (cases[i].host != NULL))
            fail_msg("%s: %d", cases[i].text, rc);
        if (rc)
            continue;
        assert_string_equal(a.host, cases[i].host);
        assert_int_equal(a.port, cases[i].port);
    }
    char label[70];
    memset(label, 'a', 64);
    label[64] = '\0';
    char name[HOST_MAX];
    assert_false(host_canonical(str_z(label), name));
    label[63] = '\0';
    assert_true(host_canonical(str_z(label), name));
}

/* ---- hellos ---- */

struct hello {
    unsigned char bytes[1024];
    size_t n;
};

static void put(struct hello *h, size_t bytes, size_t value)
{
    for (size_t i = bytes; i > 0; i--)
        h->bytes[h->n++] = (unsigned char)(value >> 8 * (i - 1));
}

static void put_sni(struct hello *h, const char *name)
{
    size_t n = strlen(name);
    put(h, 2, 0);
    put(h, 2, n + 5);
    put(h, 2, n + 3);
    put(h, 1, 0);
    put(h, 2, n);
    memcpy(h->bytes + h->n, name, n);
    h->n += n;
}

/* A hello with these names in an extension each, in one record. */
static struct hello make_hello(const char *const *names, size_t n)
{
    struct hello ext = {.n = 0}, h = {.n = 0};
    put(&ext, 4, 0x002b0003); /* supported_versions */
    put(&ext, 3, 0x020304);
    for (size_t i = 0; i < n; i++)
        put_sni(&ext, names[i]);
    size_t body = 2 + 32 + 1 + 4 + 2 + 2 + ext.n;
    put(&h, 3, 0x160301);
    put(&h, 2, body + 4);
    put(&h, 1, 1);
    put(&h, 3, body);
    put(&h, 2, 0x0303);
    h.n += 32;
    put(&h, 1, 0);
    put(&h, 4, 0x00021301);
    put(&h, 2, 0x0100);
    put(&h, 2, ext.n);
    memcpy(h.bytes + h.n, ext.bytes, ext.n);
    h.n += ext.n;
    return h;
}

static struct str hello_str(const struct hello *h)
{
    return str_n((const char *)h->bytes, h->n);
}

static void the_name_of_a_hello_is_read(void **state)
{
    (void)state;
    const char *names[] = {"Example.COM"};
    struct hello h = make_hello(names, 1);
    char name[HOST_MAX];
    for (size_t i = 0; i < h.n; i++)
        assert_int_equal(hello_parse(str_take(hello_str(&h), i), name), HELLO_MORE);
    assert_int_equal(hello_parse(hello_str(&h), name), HELLO_NAME);
    assert_string_equal(name, "example.com");
    put(&h, 6, 0x140303000101); /* early data's beginning */
    assert_int_equal(hello_parse(hello_str(&h), name), HELLO_NAME);
}

static void a_hello_in_many_records_is_put_together(void **state)
{
    (void)state;
    const char *names[] = {"example.com"};
    struct hello h = make_hello(names, 1), cut = {.n = 0};
    char name[HOST_MAX];
    for (size_t i = 5; i < h.n; i += 40) {
        size_t n = h.n - i < 40 ? h.n - i : 40;
        put(&cut, 3, 0x160301);
        put(&cut, 2, n);
        memcpy(cut.bytes + cut.n, h.bytes + i, n);
        cut.n += n;
    }
    for (size_t i = 0; i < cut.n; i++)
        assert_int_equal(hello_parse(str_take(hello_str(&cut), i), name), HELLO_MORE);
    assert_int_equal(hello_parse(hello_str(&cut), name), HELLO_NAME);
    assert_string_equal(name, "example.com");
}

static void what_is_no_hello_with_one_name_is_told_apart(void **state)
{
    (void)state;
    const char *two[] = {"good.example", "evil.example"}, *address[] = {"10.0.0.1"}, *zero[] = {""};
    char name[HOST_MAX];
    struct hello h = make_hello(NULL, 0);
    assert_int_equal(hello_parse(hello_str(&h), name), HELLO_NO_NAME);
    h = make_hello(two, 2);
    assert_int_equal(hello_parse(hello_str(&h), name), HELLO_BAD);
    h = make_hello(address, 1);
    assert_int_equal(hello_parse(hello_str(&h), name), HELLO_BAD);
    h = make_hello(zero, 1);
    assert_int_equal(hello_parse(hello_str(&h), name), HELLO_BAD);
    assert_int_equal(hello_parse(STR("GET / HTTP/1.1\r\n\r\n"), name), HELLO_BAD);
    assert_int_equal(hello_parse(STR("CONNECT evil:443 HTTP/1.1\r\n\r\n"), name), HELLO_BAD);
    assert_int_equal(hello_parse(STR("SSH-2.0-x\r\n"), name), HELLO_BAD);
    assert_int_equal(hello_parse(STR("\x80\x2e\x01\x03\x01"), name), HELLO_BAD); /* SSL 2 */
    assert_int_equal(hello_parse(STR("\x16\x03\x01\x00\x00"), name), HELLO_BAD);
    assert_int_equal(hello_parse(STR("\x16\x03\x01\x00\x04\x02\x00\x00\x00"), name), HELLO_BAD);
}

static void any_broken_byte_leaves_a_hello_without_another_name(void **state)
{
    (void)state;
    const char *names[] = {"example.com"};
    const struct hello good = make_hello(names, 1);
    for (size_t at = 0; at < good.n; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            struct hello h = good;
            char name[HOST_MAX] = "";
            h.bytes[at] ^= (unsigned char)(1u << bit);
            /* Inside the name it is another name; elsewhere the same one or none. */
            if (hello_parse(hello_str(&h), name) == HELLO_NAME && at < good.n - 11)
                assert_string_equal(name, "example.com");
        }
}

/* ---- policies ---- */

static const char settings_text[] =
    "{\"ports\":[],\"hosts\":{\"Inner.example\":\"10.0.0.7\"},"
    "\"package_hosts\":{\"npm\":[\"npm.corp.example:4873\"]},\"allow_addresses\":[\"10.0.0.0/8\"]}";

static enum egress_reason ask(const char *policy, const char *authority)
{
    struct arena a;
    const struct json *json = NULL;
    struct proxy_settings s;
    struct policy p;
    struct authority to;
    struct err err = {.code = 0};
    char why[512] = "";
    arena_init(&a, 1 << 20);
    assert_int_equal(proxy_settings_read(&s, str_z(settings_text), &err), 0);
    assert_int_equal(json_parse(&a, str_z(policy), 0, &json, &err), 0);
    if (policy_read(&p, json, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(authority_parse(str_z(authority), 443, &to, &err), 0);
    enum egress_reason r = policy_check(&p, &s, &to, why, sizeof why);
    assert_true((r == EGRESS_ALLOWED) == (why[0] == '\0'));
    if (r)
        assert_non_null(strstr(why, to.host));
    policy_fini(&p);
    proxy_settings_fini(&s);
    arena_fini(&a);
    return r;
}

static void a_limited_policy_lets_through_what_it_names(void **state)
{
    (void)state;
    static const char list[] = "{\"networking\":\"limited\",\"allowed_hosts\":[\"Example.com\","
                               "\"*.wild.example\",\"10.0.0.1\"],\"mcp_hosts\":"
                               "[\"mcp.example\",\"other.example:8443\"]}";
    static const struct {
        const char *authority;
        enum egress_reason reason;
    } cases[] = {
        {"example.com", EGRESS_ALLOWED},
        {"EXAMPLE.com.:80", EGRESS_ALLOWED},
        {"example.com:22", EGRESS_PORT_NOT_ALLOWED},
        {"www.example.com", EGRESS_HOST_NOT_ALLOWED},
        {"notexample.com", EGRESS_HOST_NOT_ALLOWED},
        {"example.com.evil.example", EGRESS_HOST_NOT_ALLOWED},
        {"a.wild.example", EGRESS_ALLOWED},
        {"a.b.wild.example", EGRESS_ALLOWED},
        {"wild.example", EGRESS_HOST_NOT_ALLOWED},
        {"notwild.example", EGRESS_HOST_NOT_ALLOWED},
        {"mcp.example", EGRESS_ALLOWED},
        {"other.example:8443", EGRESS_ALLOWED},
        {"other.example:443", EGRESS_ALLOWED},
        {"other.example:8444", EGRESS_PORT_NOT_ALLOWED},
        {"10.0.0.1", EGRESS_HOST_NOT_ALLOWED},
        {"[::1]", EGRESS_HOST_NOT_ALLOWED},
        {"pypi.org", EGRESS_HOST_NOT_ALLOWED},
        {"localhost", EGRESS_HOST_NOT_ALLOWED},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (ask(list, cases[i].authority) != cases[i].reason)
            fail_msg("%s", cases[i].authority);
}

static void package_managers_have_their_hosts_or_the_operators(void **state)
{
    (void)state;
    static const char list[] = "{\"networking\":\"limited\",\"package_managers\":true}";
    static const char *const managers[] = {"apt", "cargo", "gem", "go", "npm", "pip"};
    size_t known = 0;
    for (const struct registry_host *r = registry_hosts; r->manager; r++) {
        bool npm = strcmp(r->manager, "npm") == 0; /* replaced in these settings */
        assert_int_equal(ask(list, r->host), npm ? EGRESS_HOST_NOT_ALLOWED : EGRESS_ALLOWED);
        while (known < COUNT_OF(managers) && strcmp(managers[known], r->manager) < 0)
            known++;
        assert_string_equal(managers[known], r->manager);
    }
    assert_int_equal(ask(list, "npm.corp.example:4873"), EGRESS_ALLOWED);
    assert_int_equal(ask("{\"networking\":\"limited\"}", "deb.debian.org"),
                     EGRESS_HOST_NOT_ALLOWED);
}

static void an_unrestricted_policy_leaves_it_to_the_addresses(void **state)
{
    (void)state;
    assert_int_equal(ask("{\"networking\":\"unrestricted\"}", "any.example:22"), EGRESS_ALLOWED);
    assert_int_equal(ask("{\"networking\":\"unrestricted\"}", "1.1.1.1:853"), EGRESS_ALLOWED);
}

static void wrong_settings_name_their_field(void **state)
{
    (void)state;
    static const struct {
        const char *text, *at;
    } cases[] = {
        {"{\"allow_addresses\":[\"10.0.0.0/8\",\"x\"]}", "/allow_addresses/1"},
        {"{\"hosts\":{\"a.example\":\"nine\"}}", "/hosts/a.example"},
        {"{\"hosts\":{\"a b\":\"10.0.0.1\"}}", "/hosts/a b"},
        {"{\"ports\":[0]}", "/ports"},
        {"{\"package_hosts\":{\"npm\":\"x\"}}", "/package_hosts/npm"},
        {"{\"package_hosts\":{\"npm\":[\"http://x\"]}}", "/package_hosts/npm/0"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct proxy_settings s;
        struct err err = {.code = 0};
        assert_int_equal(proxy_settings_read(&s, str_z(cases[i].text), &err), ERR_INVALID);
        assert_string_equal(err.at, cases[i].at);
        proxy_settings_fini(&s);
    }
    struct proxy_settings s;
    assert_int_equal(proxy_settings_read(&s, str_z(settings_text), NULL), 0);
    assert_non_null(proxy_settings_host(&s, "inner.example"));
    assert_null(proxy_settings_host(&s, "outer.example"));
    proxy_settings_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_public_addresses_are_reachable),
        cmocka_unit_test(the_operator_opens_a_range_and_no_more),
        cmocka_unit_test(a_range_that_is_none_is_refused),
        cmocka_unit_test(an_authority_has_one_canonical_form),
        cmocka_unit_test(the_name_of_a_hello_is_read),
        cmocka_unit_test(a_hello_in_many_records_is_put_together),
        cmocka_unit_test(what_is_no_hello_with_one_name_is_told_apart),
        cmocka_unit_test(any_broken_byte_leaves_a_hello_without_another_name),
        cmocka_unit_test(a_limited_policy_lets_through_what_it_names),
        cmocka_unit_test(package_managers_have_their_hosts_or_the_operators),
        cmocka_unit_test(an_unrestricted_policy_leaves_it_to_the_addresses),
        cmocka_unit_test(wrong_settings_name_their_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
