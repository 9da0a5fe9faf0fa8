/* doctor: the sandbox. The module itself is opened on a directory of our own and one session's
 * calls are run, so that whatever keeps the server's calls from working shows here as well.
 */
#include "cli/doctor.h"

#include "base/clock.h"
#include "base/limits.h"
#include "io/loop.h"
#include "sandbox/sandbox.h"
#include "sandbox/tree.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

enum { PATIENCE_MS = 60 * 1000, GONE_MS = 10 * 1000, LOOK_MS = 10, GRACE_MS = 20 * 1000 };

struct trial {
    struct doctor *d;
    struct loop *loop;
    struct loop_timer deadline, look;
    struct sandboxes *s;
    struct sandbox_port port;
    char dir[DOCTOR_PATH + 16];
    struct id session;
    bool waiting, late;
    struct buf text; /* what the last call answered */
    bool is_error;
    const char *reason;
};

/* ---- waiting ---- */

static void over(void *arg)
{
    struct trial *t = arg;
    t->waiting = false;
    loop_stop(t->loop);
}

static void too_late(struct loop_timer *timer)
{
    struct trial *t = CONTAINER_OF(timer, struct trial, deadline);
    t->late = true;
    loop_stop(t->loop);
}

static void wait_for(struct trial *t, int64_t ms)
{
    t->late = false;
    loop_timer_start(&t->deadline, ms, too_late);
    while (t->waiting && !t->late)
        loop_run(t->loop);
}

static void answered(void *arg, const struct tool_outcome *o)
{
    struct trial *t = arg;
    buf_clear(&t->text);
    buf_str(&t->text, o->content);
    t->is_error = o->is_error;
    t->reason = o->failure_reason;
    over(t);
}

/* Runs a command as the server would run an agent's; how long it took, or -1: no answer came. */
static int64_t bash(struct trial *t, const char *command)
{
    AUTO_BUF struct buf input = BUF_INIT(16 * 1024);
    struct jw w = jw_to(&input);
    jw_obj(&w);
    jw_kz(&w, "command", command);
    jw_obj_end(&w);
    jw_done(&w);
    struct id call_id = id_new("sevt");
    const struct tool_call call = {.session_id = id_str(&t->session),
                                   .tool_use_id = id_str(&call_id),
                                   .name = STR("bash"),
                                   .input = buf_view(&input),
                                   .environment = STR("{}"),
                                   .first_dispatch = true,
                                   .sandbox_existed = true};
    int64_t began_us = clock_mono_us();
    t->waiting = true;
    t->port.run(t->port.self, &call, answered, t);
    wait_for(t, PATIENCE_MS);
    if (t->late)
        return -1;
    t->port.ack(t->port.self, id_str(&t->session), id_str(&call_id));
    return clock_mono_us() - began_us;
}

/* ---- what was found ---- */

static const char *const no_remedy =
    "docs/operations.md, \"Sandboxes\", says what is needed of the host";

/* The module's reasons end with the remedy, behind a semicolon. */
static void split_reason(const char *reason, struct str *what, struct str *remedy)
{
    struct str all = str_z(reason);
    ptrdiff_t at = str_find(all, STR("; "));
    *what = at < 0 ? all : str_take(all, (size_t)at);
    *remedy = at < 0 ? str_z(no_remedy) : str_skip(all, (size_t)at + 2);
}

static void add_tier(struct doctor *d, const struct sandbox_tier *t)
{
    struct str what, remedy;
    split_reason(t->reason, &what, &remedy);
    struct doctor_check *c;
    if (t->ok) {
        c = doctor_add(d, "sandbox.tier", DOCTOR_OK, "%s%s%s" STR_FMT, t->name,
                       t->container ? ", in a container" : "", what.len ? ": " : "", STR_ARG(what));
    } else {
        c = doctor_add(d, "sandbox.tier", DOCTOR_FAIL, STR_FMT, STR_ARG(what));
        doctor_remedy(c, STR_FMT, STR_ARG(remedy));
    }
    doctor_fact_str(c, "tier", t->name);
    doctor_fact_bool(c, "container", t->container);
    doctor_fact_i64(c, "uid", geteuid());
}

static int64_t or_default(int64_t n, int64_t otherwise)
{
    return n > 0 ? n : otherwise;
}

static void add_limits(struct doctor *d, const struct sandbox_tier *t)
{
    const struct sandbox_limits *l = &d->config.limits;
    bool cgroup = strcmp(t->limits, "rlimits") != 0;
    int64_t pids = or_default(l->pids, LIMIT_SANDBOX_PIDS),
            memory_mb = or_default(l->memory_mb, LIMIT_SANDBOX_MEMORY_MB),
            cpus = or_default(l->cpus, LIMIT_SANDBOX_CPUS);
    struct doctor_check *c = doctor_add(
        d, "sandbox.limits", cgroup ? DOCTOR_OK : DOCTOR_WARN,
        "%s: %" PRId64 " processes, %" PRId64 " MiB, %" PRId64 " CPUs%s", t->limits, pids,
        memory_mb, cpus,
        cgroup ? "" : "; kept by resource limits and a watchdog, which a burst can outrun");
    doctor_fact_str(c, "kind", t->limits);
    doctor_fact_i64(c, "pids", pids);
    doctor_fact_i64(c, "memory_mb", memory_mb);
    doctor_fact_i64(c, "cpus", cpus);
    doctor_fact_i64(c, "file_mb", or_default(l->file_mb, LIMIT_SANDBOX_FILE_MB));
    doctor_fact_i64(c, "disk_mb", or_default(l->disk_mb, LIMIT_SANDBOX_DISK_MB));
    doctor_fact_i64(c, "warm", d->config.warm);
    if (!cgroup)
        doctor_remedy(c, "%s",
                      t->reason[0] ? t->reason
                                   : "let the server make cgroups (Delegate=yes in "
                                     "systemd)");
}

static void add_isolation(struct doctor *d, const struct sandbox_tier *t)
{
    struct doctor_check *c = doctor_add(d, "sandbox.seccomp", t->seccomp ? DOCTOR_OK : DOCTOR_FAIL,
                                        t->seccomp ? "the filter is in force" : "no filter");
    doctor_fact_bool(c, "seccomp", t->seccomp);
    if (!t->seccomp)
        doctor_remedy(c, "the kernel must have CONFIG_SECCOMP_FILTER");
    if (d->config.oci_driver) /* there the whole root is the sandbox's own */
        return;
    c = t->landlock ? doctor_add(d, "sandbox.landlock", DOCTOR_OK, "ABI %d", t->landlock_abi)
                    : doctor_add(d, "sandbox.landlock", DOCTOR_WARN,
                                 "the kernel has none: the mounts alone bound files");
    doctor_fact_i64(c, "abi", t->landlock_abi);
    if (!t->landlock)
        doctor_remedy(c, "boot with landlock among lsm=..., kernel 5.13 or later");
}

/* ---- the call ---- */

static const char script[] =
    "echo uid=$(id -u)\n"
    "echo files=$(ulimit -n)\n"
    "echo doctor > /workspace/doctor && echo workspace=$(cat /workspace/doctor)\n"
    "echo interfaces=$(awk -F: 'NR > 2 {gsub(/ /, \"\", $1); print $1}' /proc/net/dev)\n"
    "if touch /usr/doctor 2>/dev/null; then echo usr=writable; else echo usr=sealed; fi\n"
    "for p in bash git tar rg python3 cc make; do\n"
    "    command -v $p >/dev/null && echo has=$p || echo lacks=$p\n"
    "done\n";

/* A request that is refused before anything is looked up. */
static const char ask_proxy[] =
    "timeout 10 bash -c 'exec 3<>/dev/tcp/127.0.0.1/3128; "
    "printf \"GET http://doctor.invalid/ HTTP/1.1\\r\\nHost: doctor.invalid\\r\\n\\r\\n\" >&3; "
    "head -c 12 <&3'; true";

static struct str value_of(struct str text, const char *key)
{
    while (str_some(text)) {
        struct str line = str_split(&text, '\n');
        if (str_eqz(str_split(&line, '='), key))
            return str_trim(line);
    }
    return STR_NONE;
}

/* The sandbox module's sentences around the cause are for the model. */
static struct str cause(struct str text)
{
    struct str lead = STR("The sandbox cannot be started, so the tool was not run: ");
    if (str_starts(text, lead))
        text = str_skip(text, lead.len);
    ptrdiff_t end = str_find(text, STR(". Nothing runs outside"));
    text = end < 0 ? text : str_take(text, (size_t)end);
    return str_split(&text, '\n');
}

static void add_failed(struct trial *t, bool silent)
{
    struct str why = silent ? STR("no answer came") : cause(buf_view(&t->text));
    struct doctor_check *c =
        doctor_add(t->d, "sandbox.call", DOCTOR_FAIL, "a bash call failed: " STR_FMT,
                   STR_ARG(str_utf8_take(why, 400)));
    doctor_fact_str(c, "failure_reason", silent ? "timeout" : t->reason);
    if (str_find(why, STR("bad argument")) >= 0)
        doctor_remedy(c,
                      "ostler and the hand beside it are of different versions: build or install "
                      "both together");
    else
        doctor_remedy(c, "%s", no_remedy);
}

static const char *broken(const struct doctor *d, struct str said)
{
    if (!str_eqz(value_of(said, "workspace"), "doctor"))
        return "/workspace cannot be written";
    if (!str_eqz(value_of(said, "usr"), d->config.oci_driver ? "writable" : "sealed"))
        return d->config.oci_driver ? "its root cannot be written" : "/usr can be written";
    if (!str_eqz(value_of(said, "interfaces"), "lo"))
        return "there is a network";
    return NULL;
}

static void add_programs(struct doctor *d, struct str said)
{
    AUTO_BUF struct buf has = BUF_INIT(1024), lacks = BUF_INIT(1024);
    bool bash_there = false, tools_there = true;
    while (str_some(said)) {
        struct str line = str_split(&said, '\n'), key = str_split(&line, '=');
        struct buf *to = str_eqz(key, "has") ? &has : str_eqz(key, "lacks") ? &lacks : NULL;
        if (!to)
            continue;
        buf_printf(to, "%s" STR_FMT, to->len ? " " : "", STR_ARG(line));
        bash_there = bash_there || (to == &has && str_eqz(line, "bash"));
        if (to == &lacks && (str_eqz(line, "git") || str_eqz(line, "rg") || str_eqz(line, "tar")))
            tools_there = false;
    }
    buf_ch(&has, '\0');
    buf_ch(&lacks, '\0');
    struct doctor_check *c =
        doctor_add(d, "sandbox.programs",
                   !bash_there   ? DOCTOR_FAIL
                   : tools_there ? DOCTOR_OK
                                 : DOCTOR_WARN,
                   "%s%s%s", has.data, lacks.len > 1 ? "; not there: " : "", lacks.data);
    doctor_fact_str(c, "has", has.data);
    doctor_fact_str(c, "lacks", lacks.data);
    if (!bash_there || !tools_there)
        doctor_remedy(c,
                      "install them on the host: sandboxes see its /usr (Debian: apt-get install "
                      "bash git tar ripgrep)");
}

static void try_calls(struct trial *t)
{
    int64_t cold_us = bash(t, script);
    if (cold_us < 0 || t->is_error) {
        add_failed(t, cold_us < 0);
        return;
    }
    AUTO_BUF struct buf said = BUF_INIT(64 * 1024);
    buf_str(&said, buf_view(&t->text));
    int64_t warm_us = bash(t, "true");
    if (warm_us < 0 || t->is_error) {
        add_failed(t, warm_us < 0);
        return;
    }
    const char *wrong = broken(t->d, buf_view(&said));
    struct doctor_check *c =
        wrong ? doctor_add(t->d, "sandbox.call", DOCTOR_FAIL, "a bash call ran, but %s", wrong)
              : doctor_add(t->d, "sandbox.call", DOCTOR_OK,
                           "a bash call was answered in %.1f ms, the start of the sandbox "
                           "included; a second one in %.1f ms",
                           (double)cold_us / 1e3, (double)warm_us / 1e3);
    doctor_fact_i64(c, "cold_us", cold_us);
    doctor_fact_i64(c, "warm_us", warm_us);
    if (wrong)
        doctor_remedy(c, "%s", no_remedy);
    add_programs(t->d, buf_view(&said));
}

static void try_network(struct trial *t)
{
    bool answered = bash(t, ask_proxy) >= 0 && !t->is_error &&
                    str_find(buf_view(&t->text), STR("HTTP/1.1 403")) >= 0;
    struct doctor_check *c =
        answered ? doctor_add(t->d, "sandbox.network", DOCTOR_OK,
                              "limited and unrestricted, both by the egress proxy, which answers")
                 : doctor_add(t->d, "sandbox.network", DOCTOR_FAIL,
                              "none: the egress proxy does not answer in a sandbox");
    doctor_fact_str(c, "modes", answered ? "limited unrestricted" : "none");
    doctor_fact_bool(c, "answered", answered);
    if (!answered)
        doctor_remedy(c,
                      "look for lines of `ostler egress` above; ostler and the hand beside it must "
                      "be of one version");
}

/* ---- cleaning up ---- */

static void look_again(struct loop_timer *timer)
{
    struct trial *t = CONTAINER_OF(timer, struct trial, look);
    if (access(t->dir, F_OK) < 0)
        over(t);
    else
        loop_timer_start(&t->look, LOOK_MS, look_again);
}

/* The end of a sandbox is not reported; its directory goes last. */
static void end_sandbox(struct trial *t)
{
    size_t len = strlen(t->dir);
    snprintf(t->dir + len, sizeof t->dir - len, "/%s", t->session.z);
    t->port.destroy(t->port.self, id_str(&t->session), true);
    t->waiting = true;
    look_again(&t->look);
    wait_for(t, GONE_MS);
    t->dir[len] = '\0';
}

static void look_closed(struct loop_timer *timer)
{
    over(CONTAINER_OF(timer, struct trial, look));
}

static void try_sandbox(struct trial *t)
{
    sandboxes_on_probed(t->s, over, t);
    t->waiting = true;
    wait_for(t, PATIENCE_MS);
    const struct sandbox_tier *tier = sandboxes_tier(t->s);
    if (!tier) {
        struct doctor_check *c = doctor_add(t->d, "sandbox.tier", DOCTOR_FAIL, "no answer came");
        doctor_remedy(c, "%s", no_remedy);
        return;
    }
    add_tier(t->d, tier);
    if (!tier->ok)
        return;
    add_limits(t->d, tier);
    add_isolation(t->d, tier);
    try_calls(t);
    try_network(t);
    end_sandbox(t);
}

/* What the server was told is not what works here. */
static void add_unsafe(struct doctor *d)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/sandboxes/" SANDBOX_UNSAFE_MARK, d->config.data);
    if (access(path, F_OK) < 0)
        return;
    struct doctor_check *c =
        doctor_add(d, "sandbox.unsafe", DOCTOR_WARN,
                   "the server was last started with --unsafe-no-sandbox: its tier is none-unsafe "
                   "and tools run with its own rights");
    doctor_fact_str(c, "tier", "none-unsafe");
    doctor_remedy(c, "start it without --unsafe-no-sandbox");
}

static void run_trial(struct doctor *d)
{
    struct trial t = {.d = d, .loop = loop_new(), .session = id_new("sesn")};
    struct err err = {0};
    buf_init(&t.text, LIMIT_HAND_FRAME);
    snprintf(t.dir, sizeof t.dir, "%s/sandboxes", d->scratch);
    loop_timer_init(t.loop, &t.deadline);
    loop_timer_init(t.loop, &t.look);
    const struct egress_settings egress = config_egress(&d->config);
    const struct sandbox_config cfg = {.dir = t.dir,
                                       .limits = d->config.limits,
                                       .grace_ms = GRACE_MS,
                                       .oci = d->config.oci_driver ? &d->config.oci : NULL,
                                       .egress = &egress};
    if (sandboxes_open(t.loop, &cfg, &t.s, &err)) {
        struct doctor_check *c = doctor_add(d, "sandbox.tier", DOCTOR_FAIL, "%s", err.msg);
        doctor_remedy(c, "%s", no_remedy);
    } else {
        t.port = sandboxes_port(t.s);
        try_sandbox(&t);
        t.waiting = true;
        sandboxes_close(t.s, over, &t);
        wait_for(&t, PATIENCE_MS);
    }
    loop_timer_close(&t.deadline, NULL);
    t.waiting = true;
    loop_timer_close(&t.look, look_closed);
    while (t.waiting)
        loop_run(t.loop);
    loop_free(t.loop);
    buf_fini(&t.text);
}

void doctor_sandbox(struct doctor *d)
{
    if (!d->scratch[0]) {
        struct doctor_check *c = doctor_add(d, "sandbox.tier", DOCTOR_FAIL,
                                            "there is no directory to start a sandbox in");
        doctor_remedy(c, "make the data directory or TMPDIR writable");
        return;
    }
    run_trial(d);
    add_unsafe(d);
    tree_remove(d->scratch, NULL);
    d->scratch[0] = '\0';
}
