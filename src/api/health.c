/* GET /healthz and GET /metrics */
#include "api/handlers.h"
#include "api/session_json.h"
#include "api/work_impl.h"

#include "base/clock.h"
#include "base/fd.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

static void write_tier(struct jw *w, const struct sandboxes *s)
{
    const struct sandbox_tier *t = sandboxes_tier(s);
    jw_key(w, "sandbox");
    jw_obj(w);
    jw_kbool(w, "ok", t && t->ok);
    jw_kz(w, "tier", t ? t->name : "probing");
    if (t) {
        jw_kbool(w, "container", t->container);
        jw_kz(w, "limits", t->limits);
        jw_kbool(w, "seccomp", t->seccomp);
        jw_kbool(w, "landlock", t->landlock);
        jw_ki64(w, "landlock_abi", t->landlock_abi);
        jw_kz(w, "reason", t->reason[0] ? t->reason : NULL);
        jw_ki64(w, "warm", sandboxes_stats(s).spares);
    }
    jw_obj_end(w);
}

void health_get(struct call *c)
{
    struct buf b = BUF_INIT(8192);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kz(&w, "status", c->api->closing ? "closing" : "ok");
    jw_kz(&w, "version", OSTLER_VERSION);
    jw_ktime(&w, "started_at", c->api->started_us);
    write_tier(&w, c->api->cfg.sandboxes);
    jw_obj_end(&w);
    call_reply(c, &b);
}

struct metrics_call {
    int64_t work[WORK_STOPPED];
    int64_t sessions[4];
    int64_t resident_bytes, open_fds, max_fds, cpu_us; /* -1: not known */
};

/* ---- the process ---- */

static int64_t resident_bytes(void)
{
    AUTO_BUF struct buf text = BUF_INIT(1024);
    if (fd_read_file("/proc/self/statm", &text, NULL))
        return -1;
    struct str rest = buf_view(&text);
    str_split(&rest, ' ');
    int64_t pages;
    return str_i64(str_split(&rest, ' '), &pages) ? pages * sysconf(_SC_PAGESIZE) : -1;
}

static int64_t open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int64_t n = -1; /* the directory itself is one of them */
    if (!d)
        return -1;
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2; /* "." and ".." */
}

static void measure(struct metrics_call *m)
{
    struct rlimit files;
    struct rusage used;
    m->resident_bytes = resident_bytes();
    m->open_fds = open_fds();
    m->max_fds = getrlimit(RLIMIT_NOFILE, &files) == 0 ? (int64_t)files.rlim_cur : -1;
    m->cpu_us = -1;
    if (getrusage(RUSAGE_SELF, &used) == 0)
        m->cpu_us = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * INT64_C(1000000) +
                    used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

/* On a store thread: the files of /proc are read there, too. */
static int count_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct metrics_call *m = c->state;
    measure(m);
    int rc = tx_work_counts(tx, m->work, err);
    return rc ? rc : tx_session_counts(tx, m->sessions, err);
}

/* ---- the text; docs/metrics.md is the list ---- */

static void help(struct buf *b, const char *name, const char *type, const char *text)
{
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, text, name, type);
}

static void metric(struct buf *b, const char *name, const char *type, const char *text, int64_t v)
{
    help(b, name, type, text);
    buf_printf(b, "%s %lld\n", name, (long long)v);
}

static void put_process(struct buf *b, const struct metrics_call *m)
{
    metric(b, "process_resident_memory_bytes", "gauge", "Resident memory.", m->resident_bytes);
    metric(b, "process_open_fds", "gauge", "Open file descriptors.", m->open_fds);
    metric(b, "process_max_fds", "gauge", "How many there may be.", m->max_fds);
    help(b, "process_cpu_seconds_total", "counter", "CPU time, user and system.");
    buf_printf(b, "process_cpu_seconds_total %.6f\n", (double)m->cpu_us / 1e6);
}

static void put_http(struct buf *b, const struct api *api)
{
    help(b, "ostler_http_requests_total", "counter", "Requests answered, by class of status.");
    for (int i = 1; i < API_STATUS_CLASSES; i++)
        buf_printf(b, "ostler_http_requests_total{status=\"%dxx\"} %lld\n", i,
                   (long long)api->requests[i]);
    metric(b, "ostler_http_connections", "gauge", "Open client connections.",
           (int64_t)http_server_connections(api->http));
    metric(b, "ostler_streams_open", "gauge", "Event streams being served.",
           (int64_t)api->streams_open);
    metric(b, "ostler_streams_total", "counter", "Event streams opened.", api->streams_opened);
    metric(b, "ostler_streams_dropped_total", "counter",
           "Event streams cut because nobody read them.", api->streams_dropped);
}

static void put_tokens(struct buf *b, const struct model_usage *u)
{
    const struct {
        const char *kind;
        int64_t n;
    } rows[] = {{"input", u->input_tokens},
                {"output", u->output_tokens},
                {"cache_read", u->cache_read_tokens},
                {"cache_write", u->cache_write_5m_tokens + u->cache_write_1h_tokens}};
    help(b, "ostler_model_tokens_total", "counter", "Tokens of model requests, by kind.");
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        buf_printf(b, "ostler_model_tokens_total{kind=\"%s\"} %lld\n", rows[i].kind,
                   (long long)rows[i].n);
    metric(b, "ostler_model_cost_microdollars_total", "counter",
           "Cost of model requests with a known price.", u->cost_microusd);
}

static void put_engine(struct buf *b, const struct api *api)
{
    struct engine_stats e = engine_stats(api->cfg.engine);
    metric(b, "ostler_actors", "gauge", "Sessions held in memory because they have work.",
           e.actors);
    metric(b, "ostler_turns_total", "counter", "Turns that ended: sessions going idle.", e.turns);
    metric(b, "ostler_turns_resumed_total", "counter", "Sessions taken up again after a start.",
           e.resumed);
    metric(b, "ostler_model_requests_total", "counter", "Requests to model providers.",
           e.model_requests);
    metric(b, "ostler_model_failures_total", "counter", "Requests to model providers that failed.",
           e.model_failures);
    put_tokens(b, &e.usage);
    metric(b, "ostler_tool_calls_total", "counter", "Tool calls dispatched.", e.tool_calls);
    help(b, "ostler_tool_failures_total", "counter",
         "Tool calls that their sandbox did not run to the end, by reason.");
    for (size_t i = 0; i < ENGINE_TOOL_REASONS; i++)
        buf_printf(b, "ostler_tool_failures_total{reason=\"%s\"} %lld\n", engine_tool_reasons[i],
                   (long long)e.tool_failures[i]);
    help(b, "ostler_outcome_evaluations_total", "counter",
         "Evaluations of outcomes that ended, by result.");
    for (size_t i = 0; i < COUNT_OF(outcome_results); i++)
        buf_printf(b, "ostler_outcome_evaluations_total{result=\"%s\"} %lld\n", outcome_results[i],
                   (long long)e.evaluations[i]);
}

static void put_sandboxes(struct buf *b, const struct api *api)
{
    const struct sandbox_tier *t = sandboxes_tier(api->cfg.sandboxes);
    struct sandboxes_stats s = sandboxes_stats(api->cfg.sandboxes);
    metric(b, "ostler_sandbox_ok", "gauge", "1 when sandboxes work on this host.", t && t->ok);
    metric(b, "ostler_sandboxes", "gauge", "Sandboxes that the server is connected to.", s.up);
    metric(b, "ostler_sandbox_starts_total", "counter", "Sandboxes started.", s.starts);
    metric(b, "ostler_sandbox_start_failures_total", "counter",
           "Sandboxes that could not be started.", s.start_failures);
    metric(b, "ostler_checkpoints_total", "counter", "Times that the files of a session were kept.",
           s.checkpoints);
    metric(b, "ostler_checkpoint_failures_total", "counter", "Times that they could not be kept.",
           s.checkpoint_failures);
    metric(b, "ostler_checkpoint_bytes_total", "counter", "Bytes stored for them.",
           s.checkpoint_bytes);
    metric(b, "ostler_restores_total", "counter",
           "Times that the files of a session were brought back.", s.restores);
    metric(b, "ostler_restore_failures_total", "counter",
           "Times that a checkpoint could not be restored.", s.restore_failures);
    metric(b, "ostler_sandbox_spares", "gauge", "Sandboxes that wait for a session.", s.spares);
    metric(b, "ostler_sandbox_adoptions_total", "counter",
           "Sandboxes that waited and became a session's.", s.adoptions);
    help(b, "ostler_egress_connections_total", "counter",
         "Connections of sandboxes that the egress proxy let through or refused, by reason.");
    for (size_t i = 0; i < EGRESS_REASON_COUNT; i++)
        buf_printf(b, "ostler_egress_connections_total{reason=\"%s\"} %lld\n",
                   egress_reason_name((enum egress_reason)i), (long long)s.egress[i]);
    metric(b, "ostler_egress_restarts_total", "counter",
           "Times that the egress proxy had to be started again.", s.egress_troubles);
}

static void put_work(struct buf *b, const struct api *api, const struct metrics_call *m)
{
    const struct work_service *w = api->work;
    help(b, "ostler_work_items", "gauge",
         "Work items of self-hosted environments that are not stopped, by state.");
    for (int i = 0; i < WORK_STOPPED; i++)
        buf_printf(b, "ostler_work_items{state=\"%s\"} %lld\n", work_state_name((enum work_state)i),
                   (long long)m->work[i]);
    if (!w)
        return;
    metric(b, "ostler_workers_polling", "gauge",
           "Self-hosted workers that asked this process for work in the last 30 seconds.",
           work_pollers(w, STR("")));
    help(b, "ostler_work_failures_total", "counter",
         "Workers that left calls unanswered: lease lost, stopped, given up.");
    buf_printf(b, "ostler_work_failures_total{kind=\"lost\"} %lld\n", (long long)w->lost);
    buf_printf(b, "ostler_work_failures_total{kind=\"dropped\"} %lld\n", (long long)w->dropped);
    buf_printf(b, "ostler_work_failures_total{kind=\"given_up\"} %lld\n", (long long)w->given_up);
}

static void put_store(struct buf *b, const struct api *api)
{
    if (!api->cfg.stats)
        return;
    int64_t commits = 0, writes = 0, queued = 0;
    store_stats(api->cfg.stats, &commits, &writes, &queued);
    metric(b, "ostler_store_commits_total", "counter",
           "Durable commits, each of one or many writes.", commits);
    metric(b, "ostler_store_writes_total", "counter", "Write transactions.", writes);
    metric(b, "ostler_store_queue", "gauge", "Write transactions waiting for a commit.", queued);
}

static void reply_metrics(struct call *c)
{
    struct metrics_call *s = c->state;
    struct buf b = BUF_INIT(64 * 1024);
    help(&b, "ostler_build_info", "gauge", "The version, as a label.");
    buf_z(&b, "ostler_build_info{version=\"" OSTLER_VERSION "\"} 1\n");
    metric(&b, "ostler_start_time_seconds", "gauge", "Unix time of the server's start.",
           c->api->started_us / 1000000);
    metric(&b, "ostler_uptime_seconds", "gauge", "Time since then.",
           (clock_unix_us() - c->api->started_us) / 1000000);
    help(&b, "ostler_sessions", "gauge", "Sessions stored, by status.");
    for (int i = 0; session_status_names[i]; i++)
        buf_printf(&b, "ostler_sessions{status=\"%s\"} %lld\n", session_status_names[i],
                   (long long)s->sessions[i]);
    put_http(&b, c->api);
    put_engine(&b, c->api);
    put_sandboxes(&b, c->api);
    put_work(&b, c->api, s);
    put_store(&b, c->api);
    put_process(&b, s);
    call_reply_text(c, "text/plain; version=0.0.4; charset=utf-8", &b);
}

void metrics_get(struct call *c)
{
    if (call_state(c, sizeof(struct metrics_call)))
        call_read(c, count_step, reply_metrics);
}
