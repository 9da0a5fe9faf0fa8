/* worker: the command that serves sessions of self-hosted environments on this host: options,
 * signals, the end. What it does is in worker/. */
#include "worker/worker.h"

#include "base/limits.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/options.h"
#include "json/writer.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SESSIONS = 4,
    SESSIONS_MAX = 256,
    IDLE_SECONDS = 60,
    KEEP_DAYS = 7,
    HOSTS_MAX = 64 * 1024,
    ALLOWED_HOSTS = 1000,
};

struct worker_flags {
    const char *environment, *key, *url, *dir, *name, *network, *hosts;
    int64_t sessions, idle_seconds, keep_days, lease_seconds;
    bool once, packages;
    struct config_flags config;
};

struct worker_command {
    struct loop *loop;
    struct worker *worker;
    struct loop_timer alive; /* posts alone do not keep a loop running; and the last deadline */
    struct err ended;
    bool over;
    int signals;
};

static const char notes[] =
    "The environment key is read from OSTLER_ENVIRONMENT_KEY or ANTHROPIC_ENVIRONMENT_KEY; --key "
    "is\n"
    "for trying things out, as other users of the host can see it. Works with any server that\n"
    "speaks the worker protocol of self-hosted environments; only connections to it are made.\n"
    "\n"
    "Each session gets a sandbox of its own, with its files in DIR. From inside nothing can be\n"
    "reached but the hosts of --allow-hosts; --network unrestricted lifts that. Limits of "
    "sandboxes\n"
    "and settings of the egress proxy are those of the configuration file.\n"
    "\n"
    "SIGTERM and SIGINT: takes no more work, lets running calls end for up to 30 seconds, gives "
    "the\n"
    "sessions back. A second signal does not wait for calls.\n"
    "\n"
    "Examples:\n"
    "  ostler worker --environment env_... --url https://agents.example.com\n"
    "  ostler worker --environment env_... --allow-hosts '*.example.com,pypi.org' --sessions 8\n"
    "\n"
    "Exit codes: 0 stopped by a signal, or (--once) nothing left to do; 1 the server refuses,\n"
    "2 usage, 3 cannot start: no sandbox works here, or the directory is in use\n";

/* ---- options ---- */

static const char *first_of(const char *a, const char *b, const char *c)
{
    return a ? a : b ? b : c;
}

/* ~/.local/share/ostler-worker/ENVIRONMENT: another environment's worker gets another one. */
static int default_dir(struct arena *a, const char *environment, const char **out, struct err *err)
{
    const char *data;
    const char *named = config_env("OSTLER_WORKER_DIR");
    if (named) {
        *out = named;
        return 0;
    }
    const char *xdg = config_env("XDG_DATA_HOME"), *home = config_env("HOME");
    if (xdg && xdg[0] == '/')
        data = arena_printf(a, "%s/ostler-worker", xdg).ptr;
    else if (home && home[0] == '/')
        data = arena_printf(a, "%s/.local/share/ostler-worker", home).ptr;
    else
        return err_at(err, ERR_INVALID, "--dir", "HOME is not set; say where with --dir DIR");
    *out = arena_printf(a, "%s/%s", data, environment).ptr;
    return 0;
}

static bool is_host(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c && strchr(".-*:_", c))))
            return false;
    }
    return s.len > 0 && s.len < 256;
}

/* What the sandboxes are made with, in the form of an environment's config. */
static int environment_config(const struct worker_flags *f, struct buf *out, struct err *err)
{
    const char *network = f->network ? f->network : "limited";
    bool unrestricted = str_eqz(str_z(network), "unrestricted");
    size_t n = 0;
    if (!unrestricted && !str_eqz(str_z(network), "limited"))
        return err_at(err, ERR_INVALID, "--network",
                      "--network is limited or unrestricted, not '%s'", network);
    if (unrestricted && (f->hosts || f->packages))
        return err_at(err, ERR_INVALID, "--network",
                      "--network unrestricted reaches every public host; leave out --allow-hosts "
                      "and --package-managers");
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kz(&w, "type", "self_hosted");
    jw_key(&w, "networking");
    jw_obj(&w);
    jw_kz(&w, "type", network);
    if (!unrestricted) {
        jw_kbool(&w, "allow_package_managers", f->packages);
        jw_key(&w, "allowed_hosts");
        jw_arr(&w);
        for (struct str rest = str_z(f->hosts); str_some(rest);) {
            struct str host = str_trim(str_split(&rest, ','));
            if (!is_host(host) || ++n > ALLOWED_HOSTS)
                return err_at(err, ERR_INVALID, "--allow-hosts",
                              "--allow-hosts is a list such as 'example.com,*.example.org', not "
                              "'" STR_FMT "'",
                              STR_ARG(str_take(host, 100)));
            jw_str(&w, host);
        }
        jw_arr_end(&w);
    }
    jw_obj_end(&w);
    jw_obj_end(&w);
    return buf_ok(out) ? 0 : err_at(err, ERR_INVALID, "--allow-hosts", "too many hosts");
}

static bool parse(struct worker_flags *f, int argc, char **argv, int *code)
{
    const struct option_spec options[] = {
        {"environment", 0, OPTION_TEXT, &f->environment, "ENV_ID",
         "whose sessions are served [OSTLER_ENVIRONMENT_ID, ANTHROPIC_ENVIRONMENT_ID]", 0, 0},
        {"url", 0, OPTION_TEXT, &f->url, "URL",
         "the server [OSTLER_BASE_URL, ANTHROPIC_BASE_URL, http://" CONFIG_DEFAULT_LISTEN "]", 0,
         0},
        {"key", 0, OPTION_TEXT, &f->key, "KEY", "environment key [OSTLER_ENVIRONMENT_KEY]", 0, 0},
        {"dir", 0, OPTION_TEXT, &f->dir, "DIR",
         "files of the sessions [OSTLER_WORKER_DIR, ~/.local/share/ostler-worker/ENV_ID]", 0, 0},
        {"sessions", 0, OPTION_I64, &f->sessions, "N", "that many at the same time [4]", 1,
         SESSIONS_MAX},
        {"name", 0, OPTION_TEXT, &f->name, "WORKER_ID", "what it calls itself [made up]", 0, 0},
        {"network", 0, OPTION_TEXT, &f->network, "KIND", "limited or unrestricted [limited]", 0, 0},
        {"allow-hosts", 0, OPTION_TEXT, &f->hosts, "HOSTS",
         "what limited sandboxes may reach: 'a.example,*.b.example' [nothing]", 0, 0},
        {"package-managers", 0, OPTION_FLAG, &f->packages, NULL,
         "and the public package registries", 0, 0},
        {"config", 0, OPTION_TEXT, &f->config.file, "FILE",
         "ostler.yaml: limits of sandboxes, egress [OSTLER_CONFIG]", 0, 0},
        {"idle-seconds", 0, OPTION_I64, &f->idle_seconds, "N",
         "a session is given back so long after its turn [60]", 1, 86400},
        {"keep-days", 0, OPTION_I64, &f->keep_days, "N",
         "files of sessions not seen for so long go [7]", 1, 3650},
        {"lease-seconds", 0, OPTION_I64, &f->lease_seconds, "N",
         "how soon others take over when this worker is gone [the server's choice]", 1, 3600},
        {"once", 0, OPTION_FLAG, &f->once, NULL, "end when the queue is empty", 0, 0},
        {"log-level", 0, OPTION_TEXT, &f->config.log_level, "LEVEL", "debug, info, warn or error",
         0, 0},
        {"log-json", 0, OPTION_FLAG, &f->config.log_json, NULL, "log lines as JSON", 0, 0},
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {
        .name = "worker",
        .usage = "ostler worker --environment ENV_ID [--url URL] [--dir DIR] [OPTIONS]",
        .summary = "Runs the tools of a self-hosted environment's sessions in sandboxes here.",
        .notes = notes,
        .options = options,
    };
    struct option_words words;
    return options_begin(&spec, argc, argv, &words, code);
}

/* ---- running ---- */

static void on_ended(void *arg, const struct err *err)
{
    struct worker_command *c = arg;
    c->ended = *err;
    c->over = true;
    loop_stop(c->loop);
}

static void on_signal(void *arg, int signum)
{
    struct worker_command *c = arg;
    (void)signum;
    if (++c->signals > 2)
        _exit(CLI_FAILED); /* as safe as a crash */
    log_line(LOG_INFO, c->signals == 1 ? "stopping: no more work is taken" : "stopping at once",
             NULL);
    worker_drain(c->worker);
}

static void too_slow(struct loop_timer *t)
{
    (void)t;
    _exit(CLI_FAILED);
}

static void alive_closed(struct loop_timer *t)
{
    loop_stop(CONTAINER_OF(t, struct worker_command, alive)->loop);
}

static void on_closed(void *arg)
{
    struct worker_command *c = arg;
    c->worker = NULL;
    loop_stop(c->loop);
}

static void close_all(struct worker_command *c)
{
    loop_timer_start(&c->alive, LIMIT_SHUTDOWN_MS, too_slow);
    if (c->worker)
        worker_close(c->worker, on_closed, c);
    while (c->worker)
        loop_run(c->loop);
    loop_timer_close(&c->alive, alive_closed);
    loop_run(c->loop);
    loop_free(c->loop);
}

static int serve(struct worker_command *c)
{
    if (loop_on_signal(c->loop, SIGTERM, on_signal, c) ||
        loop_on_signal(c->loop, SIGINT, on_signal, c))
        return cli_fail(CLI_SERVER, "worker", "cannot watch for signals");
    worker_start(c->worker, on_ended, c);
    while (!c->over)
        loop_run(c->loop);
    if (!c->ended.code) {
        log_line(LOG_INFO, "stopped", NULL);
        return CLI_OK;
    }
    const char *remedy =
        c->ended.code == ERR_AUTH || c->ended.code == ERR_PERMISSION ? "; check the environment key"
        : c->ended.code == ERR_NOT_FOUND   ? "; check --environment and --url"
        : c->ended.code == ERR_UNAVAILABLE ? "; 'ostler doctor' says more about this host"
                                           : "";
    return cli_fail(c->ended.code == ERR_UNAVAILABLE ? CLI_SERVER : CLI_FAILED, "worker", "%s%s",
                    c->ended.msg, remedy);
}

static int run(const struct worker_flags *f, const struct config *config, const char *environment,
               const char *key)
{
    AUTO_BUF struct buf sandboxes = BUF_INIT(HOSTS_MAX);
    AUTO_ARENA struct arena a;
    struct worker_command c = {0};
    struct err err = {0};
    const char *dir = f->dir;
    arena_init(&a, 64 * 1024);
    int rc = environment_config(f, &sandboxes, &err);
    if (rc == 0 && !dir)
        rc = default_dir(&a, environment, &dir, &err);
    if (rc)
        return cli_fail(CLI_USAGE, "worker", "%s", err.msg);
    const struct egress_settings egress = config_egress(config);
    const struct worker_config cfg = {
        .url = first_of(
            f->url, config_env("OSTLER_BASE_URL"),
            first_of(config_env("ANTHROPIC_BASE_URL"), NULL, "http://" CONFIG_DEFAULT_LISTEN)),
        .environment = environment,
        .key = key,
        .name = f->name,
        .dir = dir,
        .sessions = f->sessions,
        .idle_ms = f->idle_seconds * 1000,
        .keep_days = f->keep_days,
        .lease_seconds = f->lease_seconds,
        .once = f->once,
        .environment_config = buf_view(&sandboxes),
        .limits = config->limits,
        .egress = &egress,
    };
    c.loop = loop_new();
    loop_timer_init(c.loop, &c.alive);
    loop_timer_start(&c.alive, INT32_MAX, too_slow);
    int code = worker_open(c.loop, &cfg, &c.worker, &err)
                   ? cli_fail(err.code == ERR_INVALID ? CLI_USAGE : CLI_SERVER, "worker", "%s%s",
                              err.msg, cli_remedy(&err))
                   : serve(&c);
    close_all(&c);
    return code;
}

int cmd_worker(int argc, char **argv)
{
    struct worker_flags f = {
        .sessions = SESSIONS, .idle_seconds = IDLE_SECONDS, .keep_days = KEEP_DAYS};
    struct config config;
    struct err err;
    int code;
    if (!parse(&f, argc, argv, &code))
        return code;
    const char *environment = first_of(f.environment, config_env("OSTLER_ENVIRONMENT_ID"),
                                       config_env("ANTHROPIC_ENVIRONMENT_ID"));
    const char *key = first_of(f.key, config_env("OSTLER_ENVIRONMENT_KEY"),
                               config_env("ANTHROPIC_ENVIRONMENT_KEY"));
    if (!environment)
        return cli_fail(CLI_USAGE, "worker",
                        "say whose sessions are served: --environment ENV_ID (see --help)");
    if (!key)
        return cli_fail(CLI_USAGE, "worker",
                        "there is no environment key; set OSTLER_ENVIRONMENT_KEY");
    if (config_load(&config, &f.config, &err)) {
        code = cli_fail(CLI_USAGE, "worker", "%s", err.msg);
        config_fini(&config);
        return code;
    }
    log_setup(config.log_level, config.log_json);
    code = run(&f, &config, environment, key);
    config_fini(&config);
    return code;
}
