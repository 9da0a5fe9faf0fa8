/* cli/: addresses, the configuration file, what wins over what, the lock on the data directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/fd.h"
#include "cli/config.h"
#include "cli/lock.h"
#include "cli/proc.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    str_copyz(dir, sizeof dir, STR("/tmp/ostler-test-XXXXXX"));
    static const char *const names[] = {"OSTLER_DATA",       "OSTLER_LISTEN",      "OSTLER_CONFIG",
                                        "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY",
                                        "OPENAI_BASE_URL"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        unsetenv(names[i]);
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char all[80];
    snprintf(all, sizeof all, "%s-copy", dir);
    const char *argv[] = {"rm", "-rf", "--", dir, all, NULL};
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

static void addresses_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host; /* NULL: refused */
        int port;
        bool loopback;
    } rows[] = {
        {"127.0.0.1:8787", "127.0.0.1", 8787, true},
        {"127.9.9.9:1", "127.9.9.9", 1, true},
        {"0.0.0.0:80", "0.0.0.0", 80, false},
        {"192.168.1.4:65535", "192.168.1.4", 65535, false},
        {"[::1]:0", "::1", 0, true},
        {"[::]:1", "::", 1, false},
        {"localhost:2", "localhost", 2, true},
        {"localhost.example.com:2", "localhost.example.com", 2, false},
        {"8787", "127.0.0.1", 8787, true},
        {":8787", NULL, 0, false},
        {"127.0.0.1:", NULL, 0, false},
        {"127.0.0.1:65536", NULL, 0, false},
        {"127.0.0.1:-1", NULL, 0, false},
        {"127.0.0.1", NULL, 0, false},
        {"::1:8787", NULL, 0, false},
        {"[::1]", NULL, 0, false},
        {"", NULL, 0, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct config c = {0};
        struct err err;
        int rc = config_listen(&c, rows[i].text, "--listen", &err);
        if ((rc == 0) != (rows[i].host != NULL))
            fail_msg("'%s' gave %d", rows[i].text, rc);
        if (rc) {
            assert_non_null(strstr(err.msg, "HOST:PORT"));
            continue;
        }
        assert_string_equal(c.host, rows[i].host);
        assert_int_equal(c.port, rows[i].port);
        assert_int_equal(c.loopback, rows[i].loopback);
    }
}

static void a_complete_file_is_read(void **state)
{
    (void)state;
    setenv("TEST_PROVIDER_KEY", "secret", 1);
    const char *path =
        file("full.yaml", "# everything\n"
                          "listen: 127.0.0.1:9000\n"
                          "data: /var/lib/ostler\n"
                          "log: {level: debug, format: json}\n"
                          "models: /etc/ostler/models.yaml\n"
                          "script_dir: \"/etc/ostler/scripts\"\n"
                          "judge: {model: script/echo}\n"
                          "grader: {model: script/bash}\n"
                          "sandbox:\n"
                          "  pids: 100\n"
                          "  memory_mb: 512\n"
                          "  cpus: 1\n"
                          "  file_mb: 64\n"
                          "  disk_mb: 1024\n"
                          "  mirrors_mb: 77\n"
                          "  checkpoints: {enabled: false, max_files: 5, max_mb: 6}\n"
                          "  warm: 3\n"
                          "model_requests: {connect_ms: 1, first_byte_ms: 2, silence_ms: 3}\n"
                          "providers:\n"
                          "  anthropic:\n"
                          "    base_url: http://127.0.0.1:1\n"
                          "    api_key_env: TEST_PROVIDER_KEY\n");
    struct config c;
    struct config_flags flags = {.file = path};
    struct err err;
    assert_int_equal(config_load(&c, &flags, &err), 0);
    assert_int_equal(c.port, 9000);
    assert_string_equal(c.data, "/var/lib/ostler");
    assert_int_equal(c.log_level, LOG_DEBUG);
    assert_true(c.log_json);
    assert_string_equal(c.models, "/etc/ostler/models.yaml");
    assert_string_equal(c.script_dir, "/etc/ostler/scripts");
    assert_string_equal(c.judge_model, "script/echo");
    assert_string_equal(c.grader_model, "script/bash");
    assert_int_equal(c.limits.pids, 100);
    assert_int_equal(c.limits.disk_mb, 1024);
    assert_int_equal(c.mirrors_mb, 77);
    assert_true(c.checkpoints.off);
    assert_int_equal(c.checkpoints.max_files, 5);
    assert_int_equal(c.checkpoints.max_mb, 6);
    assert_int_equal(c.warm, 3);
    assert_int_equal(c.connect_ms, 1);
    assert_int_equal(c.first_byte_ms, 2);
    assert_int_equal(c.silence_ms, 3);
    assert_string_equal(c.anthropic_base_url, "http://127.0.0.1:1");
    assert_string_equal(c.anthropic_api_key, "secret");
    config_fini(&c);
    unsetenv("TEST_PROVIDER_KEY");
}

static void the_web_tools_are_configured(void **state)
{
    (void)state;
    const char *path = file("web.yaml", "web:\n"
                                        "  search_url: https://s.example/search\n"
                                        "  search_key_env: TEST_SEARCH_KEY\n"
                                        "  fetch: {max_mb: 3, timeout_seconds: 7}\n"
                                        "  allow_addresses: [10.0.0.0/8, \"fd00::/8\"]\n"
                                        "  hosts: {Docs.Example.com: 10.0.0.7}\n");
    struct config c;
    struct web_config web;
    struct err err;
    struct config_flags flags = {.file = path, .data = "/d"};
    assert_int_equal(config_load(&c, &flags, &err), 0);
    assert_int_equal(config_web(&c, &web, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "TEST_SEARCH_KEY"));
    setenv("TEST_SEARCH_KEY", "secret", 1);
    assert_int_equal(config_web(&c, &web, &err), 0);
    unsetenv("TEST_SEARCH_KEY");
    assert_string_equal(web.search_url, "https://s.example/search");
    assert_string_equal(web.search_key, "secret");
    assert_int_equal(web.fetch_bytes, 3 * 1024 * 1024);
    assert_int_equal(web.timeout_ms, 7000);
    assert_int_equal(web.nallow_addresses, 2);
    assert_string_equal(web.allow_addresses[1], "fd00::/8");
    assert_int_equal(web.nhosts, 1);
    assert_string_equal(web.hosts[0].name, "docs.example.com");
    assert_string_equal(web.hosts[0].address, "10.0.0.7");
    config_fini(&c);
}

static void a_judge_or_grader_that_no_provider_knows_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        bool good;
    } rows[] = {{NULL, true},
                {"script/echo", true},
                {"claude-haiku-5-5", true},
                {"script/none", false},
                {"gpt-9", false}};
    struct err err;
    struct config c = {.port = 0};
    const struct model_config cfg = config_model(&c);
    struct model_router *router;
    struct loop *loop = loop_new();
    assert_int_equal(model_router_new(loop, NULL, &cfg, &router, &err), 0);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        c.judge_model = rows[i].model;
        assert_int_equal(config_model_ids(&c, router, &err), rows[i].good ? 0 : ERR_INVALID);
        if (rows[i].good)
            continue;
        assert_non_null(strstr(err.msg, "judge.model: "));
        assert_non_null(strstr(err.msg, rows[i].model));
    }
    c.judge_model = NULL;
    c.grader_model = "script/none";
    assert_int_equal(config_model_ids(&c, router, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "grader.model: "));
    model_router_free(router);
    loop_run(loop);
    loop_free(loop);
}

static void providers_and_routes_are_read_in_their_order(void **state)
{
    (void)state;
    setenv("TEST_PROVIDER_KEY", "from-variable", 1);
    char key_path[256], yaml[2000];
    str_copyz(key_path, sizeof key_path, str_z(file("key", "from-file\n")));
    snprintf(yaml, sizeof yaml,
             "models:\n"
             "  table: /etc/ostler/models.yaml\n"
             "  routes:\n"
             "    - {match: \"local/*\", provider: llama, strip_prefix: true}\n"
             "    - {match: \"gpt-*\", provider: openai, strip_prefix: false}\n"
             "    - match: o1*\n"
             "      provider: openai\n"
             "providers:\n"
             "  llama:\n"
             "    type: openai\n"
             "    base_url: http://127.0.0.1:8080\n"
             "    api_key_file: %s\n"
             "    default_model: qwen\n"
             "    max_concurrent: 2\n"
             "    requests_per_minute: 3\n"
             "    tokens_per_minute: 4\n"
             "    connect_ms: 5\n"
             "    first_byte_ms: 6\n"
             "    silence_ms: 7\n"
             "  openai: {api_key_env: TEST_PROVIDER_KEY, base_url: http://127.0.0.1:9/v1}\n"
             "  bare: {type: anthropic}\n",
             key_path);
    struct config c;
    struct config_flags flags = {.file = file("models.yaml", yaml), .data = "/d"};
    struct err err;
    assert_int_equal(config_load(&c, &flags, &err), 0);
    struct model_config m = config_model(&c);
    assert_string_equal(m.models_yaml, "/etc/ostler/models.yaml");
    assert_int_equal(m.nroutes, 3);
    assert_string_equal(m.routes[0].match, "local/*");
    assert_string_equal(m.routes[0].provider, "llama");
    assert_true(m.routes[0].strip_prefix);
    assert_false(m.routes[1].strip_prefix || m.routes[2].strip_prefix);
    assert_string_equal(m.routes[2].match, "o1*");
    assert_int_equal(m.nproviders, 3);
    const struct model_provider_config *p = m.providers;
    assert_string_equal(p[0].name, "llama");
    assert_string_equal(p[0].type, "openai");
    assert_string_equal(p[0].base_url, "http://127.0.0.1:8080");
    assert_string_equal(p[0].api_key, "from-file");
    assert_string_equal(p[0].key_name, key_path);
    assert_string_equal(p[0].default_model, "qwen");
    assert_int_equal(p[0].max_concurrent, 2);
    assert_int_equal(p[0].requests_per_minute, 3);
    assert_int_equal(p[0].tokens_per_minute, 4);
    assert_int_equal(p[0].connect_ms, 5);
    assert_int_equal(p[0].first_byte_ms, 6);
    assert_int_equal(p[0].silence_ms, 7);
    assert_string_equal(p[1].type, "openai");
    assert_string_equal(p[2].name, "bare");
    assert_null(p[2].api_key);
    /* Those of the usual names go where the environment can win over them. */
    assert_string_equal(m.openai_api_key, "from-variable");
    assert_string_equal(m.openai_base_url, "http://127.0.0.1:9/v1");
    config_fini(&c);
    setenv("OPENAI_API_KEY", "from-env", 1);
    setenv("OPENAI_BASE_URL", "http://127.0.0.1:10", 1);
    assert_int_equal(config_load(&c, &flags, &err), 0);
    m = config_model(&c);
    assert_string_equal(m.openai_api_key, "from-env");
    assert_string_equal(m.openai_base_url, "http://127.0.0.1:10");
    config_fini(&c);
    unsetenv("TEST_PROVIDER_KEY");
}

static void a_file_of_comments_changes_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n\n", "# nothing\n", "---\n"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct config c;
        struct config_flags flags = {.file = file("empty.yaml", texts[i]), .data = "/d"};
        struct err err;
        assert_int_equal(config_load(&c, &flags, &err), 0);
        assert_int_equal(c.port, 8787);
        config_fini(&c);
    }
}

static void mistakes_in_the_file_are_named_with_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"listen: 127.0.0.1:1\nlisten_on: x\n", "bad.yaml:2: listen_on: unknown key"},
        {"sandbox:\n  pids: 1\n  memory: 5\n", "bad.yaml:3: memory: unknown key"},
        {"sandbox:\n  pids: many\n", "bad.yaml:2: pids: must be a whole number"},
        {"sandbox: {pids: 0}\n", "pids: must be a whole number"},
        {"sandbox: 5\n", "sandbox: must be a mapping"},
        {"sandbox: {checkpoints: {enabled: 1}}\n", "enabled: must be true or false"},
        {"sandbox: {checkpoints: {max: 1}}\n", "max: unknown key"},
        {"log: {level: loud}\n", "not one of debug, info, warn, error"},
        {"log: {format: xml}\n", "not one of text, json"},
        {"data: [a]\n", "data: must be a plain value"},
        {"- a\n- b\n", "must be a mapping of keys"},
        {"listen: nowhere\n", "HOST:PORT"},
        {"a: [\n", "bad.yaml:"},
        {"providers: {anthropic: {api_key: x}}\n", "api_key: unknown key"},
        {"providers: {anthropic: {api_key_env: TEST_NOT_SET}}\n", "TEST_NOT_SET is not set"},
        {"providers: {anthropic: {api_key_file: /nonexistent}}\n", "/nonexistent"},
        {"listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", "bad.yaml:2"},
        {"providers: 5\n", "providers: must be a mapping"},
        {"providers:\n  x: 5\n", "bad.yaml:2: x: must be a mapping"},
        {"providers:\n  x: {base_url: y}\n",
         "bad.yaml:2: x: type must be anthropic or openai, not x"},
        {"providers: {x: {type: ollama}}\n", "x: type must be anthropic or openai, not ollama"},
        {"providers: {x: {type: openai, max_concurrent: 0}}\n",
         "max_concurrent: must be a whole number"},
        {"providers: {openai: {api_key_env: HOME, api_key_file: /x}}\n",
         "openai: api_key_env and api_key_file exclude each other"},
        {"web: {search_url: searx.example}\n", "must start with http"},
        {"web: {fetch: {max_mb: 513}}\n", "max_mb: must be a whole number from 1 to 512"},
        {"web: {fetch: {timeout_seconds: 0}}\n", "from 1 to 600"},
        {"web: {allow_addresses: 10.0.0.0/8}\n", "must be a list of address ranges"},
        {"web: {allow_addresses: [10.0.0.1/8]}\n", "must start at 10.0.0.0"},
        {"egress: {allow_addresses: 10.0.0.0/8}\n", "must be a list of address ranges"},
        {"egress: {allow_addresses: [10.0.0.1/8]}\n", "must start at 10.0.0.0"},
        {"egress: {allow_addresses: [[]]}\n", "allow_addresses: must hold plain values"},
        {"repositories: {allow_addresses: [x]}\n", "is no address range"},
        {"web: {hosts: [a]}\n", "must map names to addresses"},
        {"web: {hosts: {a.example: b}}\n", "none is given for a.example"},
        {"web: {hosts: {\"a b\": 10.0.0.1}}\n", "no name is a b"},
        {"models: [a]\n", "models: must be the path of a table, or a mapping"},
        {"models: {routes: 1}\n", "routes: must be a list of"},
        {"models: {routes: [a]}\n", "routes: must be a list of"},
        {"models: {routes: [{match: a}]}\n", "each route needs match and provider"},
        {"models: {routes: [{match: a, provider: b, strip_prefix: yes}]}\n",
         "strip_prefix: must be true or false"},
        {"models: {routes: [{match: a, to: b}]}\n", "to: unknown key; known here: match"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct config c;
        struct config_flags flags = {.file = file("bad.yaml", rows[i].text), .data = "/d"};
        struct err err;
        assert_int_not_equal(config_load(&c, &flags, &err), 0);
        if (!strstr(err.msg, rows[i].says))
            fail_msg("row %zu: '%s' does not say '%s'", i, err.msg, rows[i].says);
        assert_null(strchr(err.msg, '\n'));
        config_fini(&c);
    }
}

static void flags_win_over_the_environment_and_that_over_the_file(void **state)
{
    (void)state;
    const char *path = file("order.yaml", "listen: 127.0.0.1:1001\ndata: /from-file\n");
    struct config c;
    struct config_flags flags = {.file = path};
    struct err err;
    assert_int_equal(config_load(&c, &flags, &err), 0);
    assert_int_equal(c.port, 1001);
    assert_string_equal(c.data, "/from-file");
    config_fini(&c);
    setenv("OSTLER_LISTEN", "127.0.0.1:1002", 1);
    setenv("OSTLER_DATA", "/from-env", 1);
    setenv("ANTHROPIC_API_KEY", "from-env", 1);
    assert_int_equal(config_load(&c, &flags, &err), 0);
    assert_int_equal(c.port, 1002);
    assert_string_equal(c.data, "/from-env");
    assert_string_equal(c.anthropic_api_key, "from-env");
    config_fini(&c);
    flags.listen = "127.0.0.1:1003";
    flags.data = "/from-flag";
    assert_int_equal(config_load(&c, &flags, &err), 0);
    assert_int_equal(c.port, 1003);
    assert_string_equal(c.data, "/from-flag");
    config_fini(&c);
}

static void a_named_file_that_is_missing_is_an_error(void **state)
{
    (void)state;
    struct config c;
    struct config_flags flags = {.file = "/nonexistent/ostler.yaml"};
    struct err err;
    assert_int_not_equal(config_load(&c, &flags, &err), 0);
    assert_non_null(strstr(err.msg, "/nonexistent/ostler.yaml"));
    config_fini(&c);
}

static void a_data_directory_tells_who_listens(void **state)
{
    (void)state;
    char data[128];
    snprintf(data, sizeof data, "%s/data", dir);
    struct lock first, second;
    struct lock_owner owner;
    struct err err;
    assert_int_equal(lock_take(&first, data, &err), 0);
    lock_look(data, &owner);
    assert_int_equal(owner.pid, getpid());
    assert_string_equal(owner.url, "");
    assert_int_equal(lock_announce(&first, "http://127.0.0.1:5", "script/demo", &err), 0);
    lock_look(data, &owner);
    assert_string_equal(owner.url, "http://127.0.0.1:5");
    assert_string_equal(owner.model, "script/demo");
    lock_started(&first);
    assert_int_equal(lock_take(&second, data, &err), 0);
    lock_look(data, &owner);
    assert_string_equal(owner.url, "http://127.0.0.1:5");
    lock_release(&first);
    lock_look(data, &owner);
    assert_int_equal(owner.pid, getpid());
    assert_string_equal(owner.url, "");
    lock_release(&second);
    lock_look(data, &owner);
    assert_int_equal(owner.pid, 0);
}

static void what_dead_owners_left_is_swept(void **state)
{
    (void)state;
    char data[128], stale[256];
    struct err err;
    struct lock l;
    snprintf(data, sizeof data, "%s/swept", dir);
    snprintf(stale, sizeof stale, "%s/owners", data);
    assert_int_equal(fd_mkdirs(stale, 0700, &err), 0);
    snprintf(stale, sizeof stale, "%s/owners/own_01dead", data);
    assert_int_equal(fd_write_file_atomic(stale, STR(""), 0600, &err), 0);
    assert_int_equal(lock_take(&l, data, &err), 0);
    assert_int_not_equal(access(stale, F_OK), 0);
    assert_int_equal(access(l.owner.path, F_OK), 0);
    lock_release(&l);
    assert_int_not_equal(access(l.owner.path, F_OK), 0);
}

static void a_data_directory_that_cannot_be_made_is_explained(void **state)
{
    (void)state;
    struct lock l;
    struct err err;
    char data[256];
    snprintf(data, sizeof data, "%s/below", file("a-file", "x"));
    assert_int_not_equal(lock_take(&l, data, &err), 0);
    assert_non_null(strstr(err.msg, data));
}

static void the_key_of_this_host_goes_to_this_host_only(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        bool local;
    } rows[] = {
        {"http://127.0.0.1:8787", true},
        {"http://127.1.2.3", true},
        {"http://localhost:1/", true},
        {"http://[::1]:8787", true},
        {"http://10.0.0.1:1", false},
        {"https://127.0.0.1", false},
        {"http://127.0.0.1.example", false},
        {"http://localhost.example", false},
        {"http://127.0.0.1@example/", false},
        {"http://[::1]x", false},
        {"http://[::2]", false},
        {"", false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (lock_url_is_local(rows[i].url) != rows[i].local)
            fail_msg("%s", rows[i].url);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_told_apart),
        cmocka_unit_test_setup_teardown(a_complete_file_is_read, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(the_web_tools_are_configured, make_dir, remove_dir),
        cmocka_unit_test(a_judge_or_grader_that_no_provider_knows_is_refused_by_name),
        cmocka_unit_test_setup_teardown(providers_and_routes_are_read_in_their_order, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(a_file_of_comments_changes_nothing, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(mistakes_in_the_file_are_named_with_their_line, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(flags_win_over_the_environment_and_that_over_the_file,
                                        make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_named_file_that_is_missing_is_an_error, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(a_data_directory_tells_who_listens, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(what_dead_owners_left_is_swept, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_data_directory_that_cannot_be_made_is_explained, make_dir,
                                        remove_dir),
        cmocka_unit_test(the_key_of_this_host_goes_to_this_host_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
