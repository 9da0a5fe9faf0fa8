/* egress: the egress proxy's process (started by the server), and the same by hand for a look at
 * it. */
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "egress/egress.h"
#include "egress/proxy.h"
#include "json/writer.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { LIST_MAX = 32, TEXT_BYTES = 64 * 1024 };

struct trial {
    const char *listen, *allow_hosts, *allow_addresses, *hosts, *ports;
    bool unrestricted, package_managers;
    struct loop *loop;
    struct egress *egress;
    int exit_code;
};

static void print(struct buf *line)
{
    struct err ignored;
    buf_ch(line, '\n');
    if (fd_write_all(STDOUT_FILENO, buf_view(line), &ignored))
        return; /* nobody looks any more */
}

static void on_decision(void *arg, const struct egress_decision *d)
{
    (void)arg;
    AUTO_BUF struct buf out = BUF_INIT(TEXT_BYTES);
    struct jw w = jw_to(&out);
    jw_obj(&w);
    jw_kstr(&w, "session", d->session);
    jw_kz(&w, "reason", egress_reason_name(d->reason));
    jw_kbool(&w, "denied", egress_reason_denied(d->reason));
    jw_kz(&w, "protocol", d->connect ? "connect" : "http");
    jw_kstr(&w, "host", d->host);
    jw_ki64(&w, "port", d->port);
    jw_kstr(&w, "address", d->address);
    jw_kstr(&w, "detail", d->detail);
    jw_ktime(&w, "started_at", d->started_us);
    jw_ki64(&w, "duration_us", d->duration_us);
    jw_ki64(&w, "bytes_up", (int64_t)d->bytes_up);
    jw_ki64(&w, "bytes_down", (int64_t)d->bytes_down);
    jw_obj_end(&w);
    print(&out);
}

static void on_trouble(void *arg, const struct err *err, int64_t retry_ms)
{
    (void)arg;
    (void)retry_ms;
    cli_fail(CLI_FAILED, "egress", "%s", err->msg);
}

static void on_closed(void *arg)
{
    struct trial *t = arg;
    loop_stop(t->loop);
}

static void on_signal(void *arg, int signum)
{
    struct trial *t = arg;
    (void)signum;
    if (t->egress)
        egress_close(TAKE_PTR(t->egress), on_closed, t);
}

/* "a,b,c", cut in place. */
static size_t split(char *text, const char *out[LIST_MAX])
{
    size_t n = 0;
    for (char *at = text; at && *at && n < LIST_MAX;) {
        char *comma = strchr(at, ',');
        out[n++] = at;
        if (comma)
            *comma++ = '\0';
        at = comma;
    }
    return n;
}

static int open_trial(struct trial *t, struct err *err)
{
    AUTO_FREE char *allow =
        t->allow_hosts ? mem_dupz(t->allow_hosts, strlen(t->allow_hosts)) : NULL;
    AUTO_FREE char *ranges =
        t->allow_addresses ? mem_dupz(t->allow_addresses, strlen(t->allow_addresses)) : NULL;
    AUTO_FREE char *names = t->hosts ? mem_dupz(t->hosts, strlen(t->hosts)) : NULL;
    AUTO_FREE char *numbers = t->ports ? mem_dupz(t->ports, strlen(t->ports)) : NULL;
    const char *allowed[LIST_MAX], *addresses[LIST_MAX], *pairs[LIST_MAX], *texts[LIST_MAX];
    struct egress_host hosts[LIST_MAX];
    uint16_t ports[LIST_MAX];
    size_t nhosts = split(names, pairs), nports = split(numbers, texts);
    for (size_t i = 0; i < nhosts; i++) {
        char *equals = strchr(pairs[i], '=');
        if (!equals)
            return err_set(err, ERR_INVALID, "--hosts: write NAME=ADDRESS");
        *equals = '\0';
        hosts[i] = (struct egress_host){pairs[i], equals + 1};
    }
    for (size_t i = 0; i < nports; i++) {
        int64_t port = 0;
        if (!str_i64(str_z(texts[i]), &port) || port < 1 || port > 65535)
            return err_set(err, ERR_INVALID, "--ports: write numbers from 1 to 65535");
        ports[i] = (uint16_t)port;
    }
    const struct egress_settings settings = {.allow_addresses = addresses,
                                             .nallow_addresses = split(ranges, addresses),
                                             .hosts = hosts,
                                             .nhosts = nhosts,
                                             .ports = ports,
                                             .nports = nports};
    const struct egress_policy policy = {.unrestricted = t->unrestricted,
                                         .allowed_hosts = allowed,
                                         .nallowed_hosts = split(allow, allowed),
                                         .package_managers = t->package_managers};
    const struct egress_events ev = {on_decision, on_trouble, t};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    int rc = egress_start(t->loop, self, &settings, &ev, &t->egress, err);
    return rc ? rc : egress_add(t->egress, STR("by hand"), &policy, t->listen, err);
}

static int try_out(struct trial *t)
{
    struct err err = {.code = 0};
    t->loop = loop_new();
    loop_on_signal(t->loop, SIGTERM, on_signal, t);
    loop_on_signal(t->loop, SIGINT, on_signal, t);
    if (open_trial(t, &err)) {
        t->exit_code = cli_fail_err("egress", &err);
        on_signal(t, 0);
    } else {
        AUTO_BUF struct buf out = BUF_INIT(TEXT_BYTES);
        buf_printf(&out, "{\"ready\":true,\"pid\":%d}", egress_pid(t->egress));
        print(&out);
    }
    loop_run(t->loop);
    loop_free(t->loop);
    return t->exit_code;
}

int cmd_egress(int argc, char **argv)
{
    struct trial t = {.exit_code = CLI_OK};
    int64_t socket_fd = -1, config_fd = -1;
    const struct option_spec options[] = {
        {"socket-fd", 0, OPTION_I64, &socket_fd, "N", "the server's control socket", 0, INT_MAX},
        {"config-fd", 0, OPTION_I64, &config_fd, "N", "the settings, as JSON", 0, INT_MAX},
        {"listen", 0, OPTION_TEXT, &t.listen, "PATH", "by hand: serve one sandbox at this socket",
         0, 0},
        {"allow", 0, OPTION_TEXT, &t.allow_hosts, "HOST,...", "its allowed hosts", 0, 0},
        {"unrestricted", 0, OPTION_FLAG, &t.unrestricted, NULL, "any public host", 0, 0},
        {"package-managers", 0, OPTION_FLAG, &t.package_managers, NULL,
         "the package managers' hosts, too", 0, 0},
        {"addresses", 0, OPTION_TEXT, &t.allow_addresses, "CIDR,...",
         "reachable although not public", 0, 0},
        {"hosts", 0, OPTION_TEXT, &t.hosts, "NAME=ADDRESS,...", "names that are not looked up", 0,
         0},
        {"ports", 0, OPTION_TEXT, &t.ports, "N,...", "instead of 443 and 80", 0, 0},
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {
        .name = "egress",
        .usage = "ostler egress --socket-fd N --config-fd N\n"
                 "ostler egress --listen PATH [--allow HOST,...] [OPTIONS]",
        .summary =
            "The egress proxy. The server starts it; by hand it serves one socket and prints\n"
            "a line of JSON for each decision.",
        .notes = "Exit codes: 0 done, 1 failed, 2 usage\n",
        .options = options};
    struct option_words words;
    int code;
    if (!options_begin(&spec, argc, argv, &words, &code))
        return code;
    if (socket_fd >= 0 && config_fd >= 0)
        return proxy_main((int)socket_fd, (int)config_fd) ? CLI_FAILED : CLI_OK;
    if (!t.listen)
        return cli_fail(CLI_USAGE, "egress",
                        "--listen PATH is missing (the server gives "
                        "--socket-fd and --config-fd)");
    return try_out(&t);
}
