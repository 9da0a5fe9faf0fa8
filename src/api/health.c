/* GET /healthz and GET /metrics */
#include "api/handlers.h"
#include "api/api_impl.h"
#include "api/session_json.h"

#include "base/clock.h"

static void write_tier(struct jw *w, const struct sandbox_tier *t)
{
    jw_key(w, "sandbox");
    jw_obj(w);
    jw_kbool(w, "ok", t && t->ok);
    jw_kz(w, "tier", t ? t->name : "probing");
    if (t) {
        jw_kz(w, "limits", t->limits);
        jw_kbool(w, "seccomp", t->seccomp);
        jw_kbool(w, "landlock", t->landlock);
        jw_ki64(w, "landlock_abi", t->landlock_abi);
        jw_kz(w, "reason", t->reason[0] ? t->reason : NULL);
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
    write_tier(&w, sandboxes_tier(c->api->cfg.sandboxes));
    jw_obj_end(&w);
    call_reply(c, &b);
}

struct metrics_call {
    int64_t sessions[4];
};

static int count_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct metrics_call *s = c->state;
    return tx_session_counts(tx, s->sessions, err);
}

static void help(struct buf *b, const char *name, const char *type, const char *text)
{
    buf_printf(b, "# HELP ostler_%s %s\n# TYPE ostler_%s %s\n", name, text, name, type);
}

static void metric(struct buf *b, const char *name, const char *type, const char *text, int64_t v)
{
    help(b, name, type, text);
    buf_printf(b, "ostler_%s %lld\n", name, (long long)v);
}

static void put_http(struct buf *b, const struct api *api)
{
    help(b, "http_requests_total", "counter", "Requests answered, by class of status.");
    for (int i = 1; i < API_STATUS_CLASSES; i++)
        buf_printf(b, "ostler_http_requests_total{status=\"%dxx\"} %lld\n", i,
                   (long long)api->requests[i]);
    metric(b, "http_connections", "gauge", "Open client connections.",
           (int64_t)http_server_connections(api->http));
    metric(b, "streams_open", "gauge", "Event streams being served.", (int64_t)api->streams_open);
    metric(b, "streams_total", "counter", "Event streams opened.", api->streams_opened);
    metric(b, "streams_dropped_total", "counter", "Event streams cut because nobody read them.",
           api->streams_dropped);
}

static void put_engine(struct buf *b, const struct api *api)
{
    struct engine_stats e = engine_stats(api->cfg.engine);
    metric(b, "actors", "gauge", "Sessions held in memory because they have work.", e.actors);
    metric(b, "turns_total", "counter", "Turns begun.", e.turns);
    metric(b, "turns_resumed_total", "counter", "Sessions taken up again after a start.",
           e.resumed);
    metric(b, "model_requests_total", "counter", "Requests to model providers.", e.model_requests);
    metric(b, "model_failures_total", "counter", "Requests to model providers that failed.",
           e.model_failures);
    metric(b, "tool_calls_total", "counter", "Tool calls dispatched.", e.tool_calls);
}

static void put_store(struct buf *b, const struct api *api)
{
    if (!api->cfg.stats)
        return;
    int64_t commits = 0, writes = 0, queued = 0;
    store_stats(api->cfg.stats, &commits, &writes, &queued);
    metric(b, "store_commits_total", "counter", "Durable commits, each of one or many writes.",
           commits);
    metric(b, "store_writes_total", "counter", "Write transactions.", writes);
    metric(b, "store_queue", "gauge", "Write transactions waiting for a commit.", queued);
}

static void reply_metrics(struct call *c)
{
    struct metrics_call *s = c->state;
    struct buf b = BUF_INIT(64 * 1024);
    help(&b, "build_info", "gauge", "The version, as a label.");
    buf_z(&b, "ostler_build_info{version=\"" OSTLER_VERSION "\"} 1\n");
    metric(&b, "start_time_seconds", "gauge", "Unix time of the server's start.",
           c->api->started_us / 1000000);
    help(&b, "sessions", "gauge", "Sessions stored, by status.");
    for (int i = 0; session_status_names[i]; i++)
        buf_printf(&b, "ostler_sessions{status=\"%s\"} %lld\n", session_status_names[i],
                   (long long)s->sessions[i]);
    put_http(&b, c->api);
    put_engine(&b, c->api);
    put_store(&b, c->api);
    call_reply_text(c, "text/plain; version=0.0.4; charset=utf-8", &b);
}

void metrics_get(struct call *c)
{
    if (call_state(c, sizeof(struct metrics_call)))
        call_read(c, count_step, reply_metrics);
}
