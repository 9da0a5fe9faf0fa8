/* The configuration in force, for `ostler config check`. */
#include "cli/config.h"

#include "base/limits.h"
#include "cli/doctor.h"
#include "json/json.h"
#include "json/writer.h"

#include <inttypes.h>

static void put_text(struct buf *out, const char *lead, const char *value)
{
    buf_z(out, lead);
    if (value)
        json_quote(out, str_z(value)); /* JSON strings are YAML */
    else
        buf_z(out, "null");
    buf_ch(out, '\n');
}

static int64_t or_default(int64_t n, int64_t otherwise)
{
    return n > 0 ? n : otherwise;
}

static void put_driver(struct buf *out, const struct config *c)
{
    buf_printf(out, ", driver: %s, oci: {runtime: ", c->oci_driver ? "oci" : "bwrap");
    json_quote(out, str_z(c->oci.runtime ? c->oci.runtime : "runc"));
    buf_z(out, ", runtime_args: [");
    for (size_t i = 0; i < c->oci.nruntime_args; i++) {
        buf_z(out, i ? ", " : "");
        json_quote(out, str_z(c->oci.runtime_args[i]));
    }
    buf_printf(out, "], capabilities: %s}}\n", c->oci.no_capabilities ? "none" : "packages");
}

static void put_limits(struct buf *out, const struct config *c)
{
    const struct sandbox_limits *l = &c->limits;
    buf_printf(
        out,
        "sandbox: {pids: %" PRId64 ", memory_mb: %" PRId64 ", cpus: %" PRId64 ", file_mb: %" PRId64
        ", disk_mb: %" PRId64 ", mirrors_mb: %" PRId64 ", warm: %" PRId64,
        or_default(l->pids, LIMIT_SANDBOX_PIDS), or_default(l->memory_mb, LIMIT_SANDBOX_MEMORY_MB),
        or_default(l->cpus, LIMIT_SANDBOX_CPUS), or_default(l->file_mb, LIMIT_SANDBOX_FILE_MB),
        or_default(l->disk_mb, LIMIT_SANDBOX_DISK_MB), or_default(c->mirrors_mb, LIMIT_MIRRORS_MB),
        c->warm);
    if (c->images) {
        buf_z(out, ", images: ");
        json_quote(out, str_z(c->images));
    }
    const struct sandbox_checkpoints *k = &c->checkpoints;
    buf_printf(out, ", checkpoints: {enabled: %s, max_files: %" PRId64 ", max_mb: %" PRId64 "}",
               k->off ? "false" : "true", or_default(k->max_files, LIMIT_CHECKPOINT_FILES),
               or_default(k->max_mb, LIMIT_CHECKPOINT_MB));
    put_driver(out, c);
    buf_printf(out, "work: {lease_seconds: %" PRId64 "}\n",
               or_default(c->work_lease_s, LIMIT_WORK_LEASE_S));
    buf_printf(out,
               "model_requests: {connect_ms: %" PRId64 ", first_byte_ms: %" PRId64
               ", silence_ms: %" PRId64 "}\n",
               or_default(c->connect_ms, LIMIT_MODEL_CONNECT_MS),
               or_default(c->first_byte_ms, LIMIT_MODEL_FIRST_BYTE_MS),
               or_default(c->silence_ms, LIMIT_MODEL_SILENCE_MS));
}

static void put_egress(struct buf *out, const struct config *c)
{
    const struct config_egress *e = &c->egress;
    buf_z(out, "egress:\n  allow_addresses: [");
    for (size_t i = 0; i < e->nallow; i++)
        buf_printf(out, "%s\"%s\"", i ? ", " : "", e->allow[i]);
    buf_z(out, "]\n  hosts: {");
    for (size_t i = 0; i < e->nhosts; i++)
        buf_printf(out, "%s\"%s\": \"%s\"", i ? ", " : "", e->hosts[i].name, e->hosts[i].address);
    buf_z(out, "}\n  ports: [");
    for (size_t i = 0; i < e->nports; i++)
        buf_printf(out, "%s%u", i ? ", " : "", (unsigned)e->ports[i]);
    buf_z(out, e->nports ? "]\n  package_hosts: {" : "443, 80]\n  package_hosts: {");
    for (size_t i = 0; i < e->npackages; i++) {
        bool first = i == 0 || strcmp(e->packages[i].name, e->packages[i - 1].name) != 0;
        if (first)
            buf_printf(out, "%s%s: [", i ? "], " : "", e->packages[i].name);
        buf_printf(out, "%s\"%s\"", first ? "" : ", ", e->packages[i].address);
    }
    buf_z(out, e->npackages ? "]}\n" : "}\n");
}

static void put_web(struct buf *out, const struct config *c)
{
    char url[512];
    doctor_url(url, sizeof url, c->search_url ? c->search_url : "");
    put_text(out, "web:\n  search_url: ", c->search_url ? url : NULL);
    buf_printf(out, "  search_key: %s\n",
               c->search_key_env && config_env(c->search_key_env) ? "set" : "not set");
    buf_printf(out, "  fetch: {max_mb: %" PRId64 ", timeout_seconds: %" PRId64 "}\n",
               or_default(c->fetch_max_mb, LIMIT_WEB_FETCH >> 20),
               or_default(c->fetch_timeout_seconds, LIMIT_WEB_MS / 1000));
    buf_z(out, "  allow_addresses: [");
    for (size_t i = 0; i < c->nweb_allow; i++)
        buf_printf(out, "%s\"%s\"", i ? ", " : "", c->web_allow[i]);
    buf_z(out, "]\n  hosts: {");
    for (size_t i = 0; i < c->nweb_hosts; i++)
        buf_printf(out, "%s\"%s\": \"%s\"", i ? ", " : "", c->web_hosts[i].name,
                   c->web_hosts[i].address);
    buf_z(out, "}\n");
}

static void put_repositories(struct buf *out, const struct config *c)
{
    buf_printf(out, "repositories:\n  allow_http: %s\n  allow_addresses: [",
               c->repository_http ? "true" : "false");
    for (size_t i = 0; i < c->nrepository_allow; i++)
        buf_printf(out, "%s\"%s\"", i ? ", " : "", c->repository_allow[i]);
    buf_z(out, "]\n");
}

static const struct model_provider_config *configured(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->nproviders; i++)
        if (strcmp(c->providers[i].name, name) == 0)
            return &c->providers[i];
    return NULL;
}

static void put_provider(struct buf *out, const struct config *c,
                         const struct model_provider_info *p)
{
    char url[512];
    doctor_url(url, sizeof url, p->url);
    buf_printf(out, "  %s:\n    type: %s\n", p->name, p->type);
    put_text(out, "    url: ", url);
    buf_printf(out, "    api_key: %s\n", p->has_key ? "set" : "not set");
    put_text(out, "    default_model: ", p->default_model);
    const struct model_provider_config *own = configured(c, p->name);
    const struct {
        const char *name;
        int64_t n;
    } rows[] = {{"max_concurrent", own ? own->max_concurrent : 0},
                {"requests_per_minute", own ? own->requests_per_minute : 0},
                {"tokens_per_minute", own ? own->tokens_per_minute : 0},
                {"connect_ms", own ? own->connect_ms : 0},
                {"first_byte_ms", own ? own->first_byte_ms : 0},
                {"silence_ms", own ? own->silence_ms : 0}};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (rows[i].n)
            buf_printf(out, "    %s: %" PRId64 "\n", rows[i].name, rows[i].n);
}

static void put_models(struct buf *out, const struct config *c)
{
    buf_z(out, "models:\n");
    put_text(out, "  table: ", c->models);
    buf_z(out, c->nroutes ? "  routes:\n" : "  routes: []\n");
    for (size_t i = 0; i < c->nroutes; i++) {
        const struct model_route_config *r = &c->routes[i];
        buf_z(out, "    - {match: ");
        json_quote(out, str_z(r->match));
        buf_printf(out, ", provider: %s, strip_prefix: %s}\n", r->provider,
                   r->strip_prefix ? "true" : "false");
    }
}

void config_show(const struct config *c, const struct model_router *router, struct buf *out)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    bool v6 = strchr(c->host, ':') != NULL;
    buf_printf(out, "listen: \"%s%s%s:%d\"\n", v6 ? "[" : "", c->host, v6 ? "]" : "", c->port);
    put_text(out, "data: ", c->data);
    buf_printf(out, "log: {level: %s, format: %s}\n", levels[c->log_level],
               c->log_json ? "json" : "text");
    put_text(out, "script_dir: ", c->script_dir);
    put_text(out, "judge:\n  model: ", c->judge_model);
    put_text(out, "grader:\n  model: ", c->grader_model);
    put_limits(out, c);
    put_egress(out, c);
    put_web(out, c);
    put_repositories(out, c);
    put_models(out, c);
    put_text(out, "default_model: ", model_router_default(router));
    buf_z(out, "providers:\n");
    struct model_provider_info p;
    for (size_t i = 0; model_router_provider(router, i, &p); i++)
        put_provider(out, c, &p);
}
