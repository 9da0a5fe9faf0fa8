/* serve: wires store, clock, models, sandboxes, engine and api together and runs until told to
 * stop.
 *
 * Start is in the order of the layers, stop in the opposite one; both are plain sequences on the
 * main thread that run the loop where something has to be waited for.
 */
#include "api/api.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "cli/apikey.h"
#include "cli/cli.h"
#include "cli/config.h"
#include "cli/egress_log.h"
#include "cli/lock.h"
#include "cli/options.h"
#include "cli/ports.h"
#include "cli/sweep.h"
#include "cli/workers.h"
#include "engine/peers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { GRACE_MS = 2000, FILES_MAX = 65536 };

struct serve {
    struct config config;
    struct lock lock;
    struct loop *loop;
    struct store *store;
    struct http_client *http;
    struct model_router *models;
    struct egress_settings egress;
    struct egress_log egress_log;
    struct sandboxes *sandboxes;
    struct web *web;
    struct peers *peers;
    struct engine *engine;
    struct api *api;
    struct sweep sweep;
    struct loop_timer deadline;
    int64_t ready_fd, listen_fd, workers, started_us;
    bool locked, waiting, stopping, unsafe;
    struct err waited;
};

/* ---- waiting for something that answers on the loop ---- */

static void wait_begin(struct serve *s)
{
    s->waiting = true;
    s->waited = (struct err){0};
}

static void wait_over(void *arg)
{
    struct serve *s = arg;
    s->waiting = false;
    loop_stop(s->loop);
}

static void wait_over_err(void *arg, const struct err *err)
{
    struct serve *s = arg;
    s->waited = *err;
    wait_over(s);
}

static void wait_end(struct serve *s)
{
    while (s->waiting)
        loop_run(s->loop);
}

/* ---- stopping ---- */

static void too_slow(struct loop_timer *t)
{
    (void)t;
    /* What is unfinished goes on at the next start, as after a crash. */
    log_line(LOG_WARN, "shutting down took too long; leaving the rest to the next start", NULL);
    _exit(CLI_OK);
}

static void on_signal(void *arg, int signum)
{
    struct serve *s = arg;
    (void)signum;
    if (s->stopping)
        _exit(CLI_FAILED); /* the second one: at once, as safe as a crash */
    s->stopping = true;
    loop_stop(s->loop);
}

static void deadline_closed(struct loop_timer *t)
{
    wait_over(CONTAINER_OF(t, struct serve, deadline));
}

static void close_upper(struct serve *s)
{
    if (s->api) {
        wait_begin(s);
        api_close(TAKE_PTR(s->api), GRACE_MS, wait_over, s);
        wait_end(s);
    }
    peers_stop(s->peers);
    if (s->engine) {
        wait_begin(s);
        engine_close(s->engine, wait_over, s);
        wait_end(s);
    }
    sweep_cancel(&s->sweep);
    if (s->web) {
        wait_begin(s);
        web_close(s->web, wait_over, s);
        wait_end(s);
    }
    if (s->sandboxes) {
        wait_begin(s);
        sandboxes_close(s->sandboxes, wait_over, s);
        wait_end(s);
    }
}

static void serve_close(struct serve *s)
{
    if (!s->loop) {
        config_fini(&s->config);
        if (s->locked)
            lock_release(&s->lock);
        return;
    }
    s->stopping = true;
    loop_timer_start(&s->deadline, LIMIT_SHUTDOWN_MS, too_slow);
    struct err err;
    if (s->locked && lock_announce(&s->lock, "", "", &err)) /* commands find another, or wait */
        log_err(LOG_WARN, "cannot say in the owner's file that this is the end", &err);
    close_upper(s);
    engine_free(s->engine);
    if (s->http) {
        wait_begin(s);
        http_client_close(s->http, wait_over, s);
        wait_end(s);
    }
    if (s->models)
        model_router_free(s->models);
    if (s->store)
        store_close(s->store);
    egress_log_fini(&s->egress_log);
    /* Last: the others take over our sessions as soon as the lock is gone. */
    wait_begin(s);
    peers_close(s->peers, wait_over, s);
    wait_end(s);
    wait_begin(s);
    loop_timer_close(&s->deadline, deadline_closed);
    wait_end(s);
    loop_free(s->loop);
    if (s->locked)
        lock_release(&s->lock);
    config_fini(&s->config);
}

/* ---- starting ---- */

/* Every connection and every sandbox takes a descriptor; the usual soft limit is 1024. */
static void raise_file_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0)
        return;
    rlim_t want = r.rlim_max < FILES_MAX ? r.rlim_max : FILES_MAX;
    if (r.rlim_cur >= want)
        return;
    r.rlim_cur = want;
    if (setrlimit(RLIMIT_NOFILE, &r) < 0)
        log_line(LOG_WARN, "cannot raise the limit of open files", "error", strerror(errno), NULL);
}

static int seed_key(struct serve *s, struct err *err)
{
    enum apikey_seed seed;
    int rc = apikey_seed(s->loop, s->store, s->config.data, &seed, err);
    if (rc)
        return err_wrap(err, "API key");
    char path[4096];
    snprintf(path, sizeof path, "%s/api-key", s->config.data);
    if (seed == APIKEY_MADE)
        log_line(LOG_INFO, "made the first API key; commands on this host find it there", "file",
                 path, NULL);
    else if (seed == APIKEY_FROM_ENV)
        log_line(LOG_INFO, "stored OSTLER_API_KEY as the first key of the default workspace", NULL);
    else if (seed == APIKEY_UNKNOWN_ENV)
        log_line(LOG_WARN,
                 "OSTLER_API_KEY is not a key of this data directory: it is stored at the first "
                 "start only; `ostler keys create` makes more keys",
                 NULL);
    return 0;
}

static int open_models(struct serve *s, struct err *err)
{
    const struct model_config cfg = config_model(&s->config);
    s->http = http_client_new(s->loop);
    int rc = model_router_new(s->loop, s->http, &cfg, &s->models, err);
    return rc ? rc : config_model_ids(&s->config, s->models, err);
}

/* Once, at start: an operator must not learn from the first failed call. */
static void on_probed(void *arg)
{
    const struct serve *s = arg;
    const struct sandbox_tier *t = sandboxes_tier(s->sandboxes);
    if (s->unsafe)
        log_line(LOG_WARN,
                 "--unsafe-no-sandbox: tools run WITHOUT A SANDBOX, with this server's rights to "
                 "files, processes and the network; never use it with what others wrote",
                 "tier", t->name, NULL);
    else if (!t->ok)
        log_line(LOG_WARN, "no sandbox works here: tool calls will fail; see `ostler doctor`",
                 "reason", t->reason, NULL);
    else
        log_line(LOG_INFO, "sandboxes work here", "tier", t->name, "limits", t->limits, "reason",
                 t->reason, NULL);
}

static int open_sandboxes(struct serve *s, struct err *err)
{
    const char *dir = arena_printf(&s->config.arena, "%s/sandboxes", s->config.data).ptr;
    s->egress = config_egress(&s->config);
    egress_log_init(&s->egress_log, store_port(s->store));
    const struct sandbox_config cfg = {.dir = dir,
                                       .data = s->config.data,
                                       .store = store_port(s->store),
                                       .allow_addresses = s->config.repository_allow,
                                       .nallow_addresses = s->config.nrepository_allow,
                                       .mirrors_mb = s->config.mirrors_mb,
                                       .warm = s->config.warm,
                                       .limits = s->config.limits,
                                       .checkpoints = s->config.checkpoints,
                                       .images = s->config.images,
                                       .oci = s->config.oci_driver ? &s->config.oci : NULL,
                                       .unsafe = s->unsafe,
                                       .egress = &s->egress,
                                       .on_egress = egress_log_add,
                                       .egress_arg = &s->egress_log};
    int rc = sandboxes_open(s->loop, &cfg, &s->sandboxes, err);
    if (rc)
        return rc;
    sandboxes_on_probed(s->sandboxes, on_probed, s);
    sweep_start(&s->sweep, store_port(s->store), s->sandboxes, dir);
    return 0;
}

static int open_web(struct serve *s, struct err *err)
{
    struct web_config cfg;
    int rc = config_web(&s->config, &cfg, err);
    return rc ? rc : web_open(s->loop, &cfg, &s->web, err);
}

static void on_notice(void *arg, struct str session_id, const struct sandbox_notice *notice)
{
    const struct serve *s = arg;
    engine_sandbox_notice(s->engine, session_id, notice);
}

static void on_work(void *arg, struct str environment_id)
{
    const struct serve *s = arg;
    if (s->api) /* else nobody polls yet, or any more */
        api_work_wake(s->api, environment_id);
}

static int open_engine(struct serve *s, struct err *err)
{
    const struct engine_config cfg = {
        .store = store_port(s->store),
        .clock = ports_clock(s->loop),
        .rand = ports_rand(),
        .model = model_router_port(s->models),
        .sandbox = sandboxes_port(s->sandboxes),
        .web = web_port(s->web),
        .on_work = on_work,
        .on_work_arg = s,
        .judge_model = str_z(s->config.judge_model),
        .grader_model = str_z(s->config.grader_model),
        .peers = peers_port(s->peers),
    };
    s->engine = engine_new(&cfg);
    sandboxes_on_notice(s->sandboxes, on_notice, s);
    wait_begin(s);
    engine_start(s->engine, wait_over_err, s);
    wait_end(s);
    if (s->waited.code)
        *err = s->waited;
    return s->waited.code ? s->waited.code : peers_start(s->peers, s->engine, err);
}

static int open_api(struct serve *s, struct err *err)
{
    const char *tmp = arena_printf(&s->config.arena, "%s/tmp", s->config.data).ptr;
    const int listen_fd = (int)s->listen_fd;
    const struct api_config cfg = {
        .loop = s->loop,
        .store = store_port(s->store),
        .stats = s->store,
        .engine = s->engine,
        .sandboxes = s->sandboxes,
        .models = s->models,
        .host = s->config.host,
        .port = s->config.port,
        .listen_fd = s->listen_fd >= 0 ? &listen_fd : NULL,
        .tmp_dir = tmp,
        .data_dir = s->config.data,
        .work_lease_s = s->config.work_lease_s,
        .repositories_http = s->config.repository_http,
        .http = s->http,
        .forward_path = arena_printf(&s->config.arena, "%s.http", s->lock.owner.path).ptr,
    };
    int rc = fd_mkdirs(tmp, 0700, err);
    return rc ? rc : api_open(&cfg, &s->api, err);
}

static int serve_open(struct serve *s, struct err *err)
{
    const struct store_config store_cfg = {.dir = s->config.data};
    int rc = lock_take(&s->lock, s->config.data, err);
    if (rc)
        return rc;
    s->locked = true;
    s->loop = loop_new();
    loop_timer_init(s->loop, &s->deadline);
    loop_timer_start(&s->deadline, INT32_MAX, too_slow); /* keeps the loop alive while it waits */
    s->peers = peers_new(s->loop, s->config.data, &s->lock.owner);
    rc = store_open(s->loop, &store_cfg, &s->store, err);
    rc = rc ? rc : seed_key(s, err);
    rc = rc ? rc : open_models(s, err);
    rc = rc ? rc : open_sandboxes(s, err);
    rc = rc ? rc : open_web(s, err);
    rc = rc ? rc : open_engine(s, err);
    return rc ? rc : open_api(s, err);
}

static int announce(struct serve *s, struct err *err)
{
    char url[300], line[1024];
    bool v6 = strchr(s->config.host, ':') != NULL;
    snprintf(url, sizeof url, "http://%s%s%s:%d", v6 ? "[" : "", s->config.host, v6 ? "]" : "",
             api_port(s->api));
    int rc = lock_announce(&s->lock, url, model_router_default(s->models), err);
    if (rc)
        return rc;
    lock_started(&s->lock);
    snprintf(line, sizeof line, "ostler %s listening on %s data=%s\n", OSTLER_VERSION, url,
             s->config.data);
    /* Whoever reads JSON gets JSON only. */
    if (s->config.log_json)
        log_line(LOG_INFO, "listening", "version", OSTLER_VERSION, "url", url, "data",
                 s->config.data, NULL);
    else
        rc = fd_write_all(STDERR_FILENO, str_z(line), err);
    if (s->ready_fd >= 0) {
        snprintf(line, sizeof line, "%d\n", api_port(s->api));
        rc = rc ? rc : fd_write_all((int)s->ready_fd, str_z(line), err);
        fd_close((int)s->ready_fd);
    }
    char took[32];
    snprintf(took, sizeof took, "%lld", (long long)(clock_mono_us() - s->started_us));
    log_line(LOG_DEBUG, "started", "took_us", took, NULL);
    return rc;
}

static void warn_open_address(const struct serve *s)
{
    if (!s->config.loopback)
        log_line(LOG_WARN,
                 "listening beyond this host without TLS: keys cross the network as they are; put "
                 "a TLS proxy in front, or listen on 127.0.0.1",
                 "host", s->config.host, NULL);
}

static const char *remedy(const struct serve *s, const struct err *err)
{
    if (s->engine && !s->api && (err->code == ERR_CONNECT || err->code == ERR_IO))
        return "; choose another address with --listen HOST:PORT";
    return cli_remedy(err);
}

static int serve_run(struct serve *s)
{
    struct err err = {0};
    int rc = loop_on_signal(s->loop, SIGTERM, on_signal, s);
    rc = rc ? rc : loop_on_signal(s->loop, SIGINT, on_signal, s);
    if (rc)
        return cli_fail(CLI_SERVER, "serve", "cannot watch for signals");
    if (s->listen_fd < 0) /* else whoever opened it has said it */
        warn_open_address(s);
    if (announce(s, &err))
        return cli_fail(CLI_SERVER, "serve", "%s%s", err.msg, remedy(s, &err));
    while (!s->stopping)
        loop_run(s->loop);
    log_line(LOG_INFO, "stopping", NULL);
    return CLI_OK;
}

static const char notes[] =
    "Flags win over the environment, that over the configuration file (docs/operations.md).\n"
    "At the first start OSTLER_API_KEY becomes the first API key; without it one is made and\n"
    "written to DATA/api-key. ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL configure the anthropic\n"
    "provider, OPENAI_API_KEY and OPENAI_BASE_URL the openai provider. SIGTERM and SIGINT stop it\n"
    "within 5 seconds; running sessions go on at the next start, as they do after a crash.\n"
    "\n"
    "Examples:\n"
    "  ostler serve\n"
    "  ostler serve --data ./data --listen 127.0.0.1:0 --log-level debug\n"
    "  ostler serve --workers 4\n"
    "\n"
    "Exit codes: 0 stopped by a signal, 2 usage, 3 cannot start\n";

static int parse(struct serve *s, int argc, char **argv, int *code)
{
    struct config_flags flags = {0};
    const struct option_spec options[] = {
        {"data", 0, OPTION_TEXT, &flags.data, "DIR",
         "data directory [OSTLER_DATA, ~/.local/share/ostler]", 0, 0},
        {"listen", 0, OPTION_TEXT, &flags.listen, "HOST:PORT",
         "address [OSTLER_LISTEN, " CONFIG_DEFAULT_LISTEN "]", 0, 0},
        {"config", 0, OPTION_TEXT, &flags.file, "FILE", "ostler.yaml [OSTLER_CONFIG]", 0, 0},
        {"log-level", 0, OPTION_TEXT, &flags.log_level, "LEVEL", "debug, info, warn or error", 0,
         0},
        {"log-json", 0, OPTION_FLAG, &flags.log_json, NULL, "log lines as JSON", 0, 0},
        {"workers", 0, OPTION_I64, &s->workers, "N",
         "that many processes on one data directory and address [1]", 1, WORKERS_MAX},
        {"unsafe-no-sandbox", 0, OPTION_FLAG, &s->unsafe, NULL,
         "development only: run tools without isolation, as the server", 0, 0},
        {"ready-fd", 0, OPTION_I64, &s->ready_fd, "N", NULL, 3, 1023},
        {"listen-fd", 0, OPTION_I64, &s->listen_fd, "N", NULL, 3, 1023},
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {
        .name = "serve",
        .usage = "ostler serve [--data DIR] [--listen HOST:PORT] [--config FILE] [OPTIONS]",
        .summary = "Runs the server: sessions, agents, sandboxes and the HTTP API.",
        .notes = notes,
        .options = options,
    };
    struct option_words words;
    struct err err;
    if (!options_begin(&spec, argc, argv, &words, code))
        return -1;
    if (s->ready_fd >= 0 && fcntl((int)s->ready_fd, F_SETFD, FD_CLOEXEC) < 0)
        s->ready_fd = -1;
    if (s->listen_fd >= 0 && fcntl((int)s->listen_fd, F_SETFD, FD_CLOEXEC) < 0)
        s->listen_fd = -1;
    if (config_load(&s->config, &flags, &err)) {
        *code = cli_fail(CLI_USAGE, "serve", "%s", err.msg);
        config_fini(&s->config);
        return -1;
    }
    return 0;
}

static int run_workers(const struct serve *s, int argc, char **argv)
{
    const struct workers_config cfg = {
        .n = (int)s->workers,
        .host = s->config.host,
        .port = s->config.port,
        .ready_fd = (int)s->ready_fd,
        .argc = argc,
        .argv = argv,
    };
    warn_open_address(s);
    return workers_run(&cfg);
}

int cmd_serve(int argc, char **argv)
{
    struct serve s = {.ready_fd = -1, .listen_fd = -1, .workers = 1, .started_us = clock_mono_us()};
    struct err err = {0};
    int code;
    if (parse(&s, argc, argv, &code))
        return code;
    log_setup(s.config.log_level, s.config.log_json);
    if (s.workers > 1) {
        code = run_workers(&s, argc, argv);
        config_fini(&s.config);
        return code;
    }
    if (s.listen_fd >= 0)
        workers_follow();
    raise_file_limit();
    if (serve_open(&s, &err))
        code = cli_fail(CLI_SERVER, "serve", "%s%s", err.msg, remedy(&s, &err));
    else
        code = serve_run(&s);
    serve_close(&s);
    return code;
}
