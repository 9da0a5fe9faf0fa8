/* doctor: the providers, the model that is used when none is named, and, when asked to, whether the
 * providers' addresses answer. No key is sent and none is shown. */
#include "cli/doctor.h"

#include "io/loop.h"

#include <stdio.h>

enum { CONNECT_MS = 3000, ANSWER_MS = 5000, PROVIDERS = 64 };

struct models {
    struct doctor *d;
    struct loop *loop;
    struct http_client *http;
    struct model_router *router;
    struct loop_timer alive; /* a client that is closing does not keep the loop running */
    bool waiting;
    int status; /* of the answer; 0: none */
    struct err err;
    size_t usable, asked, reached;
};

static void over(void *arg)
{
    struct models *m = arg;
    m->waiting = false;
    loop_stop(m->loop);
}

static void still_alive(struct loop_timer *t)
{
    loop_timer_start(t, ANSWER_MS, still_alive);
}

static void wait_for(struct models *m)
{
    while (m->waiting)
        loop_run(m->loop);
}

/* ---- asking an address ---- */

static void on_head(void *arg, int status, const struct http_header *headers, size_t n)
{
    struct models *m = arg;
    (void)headers;
    (void)n;
    m->status = status;
}

static void on_done(void *arg, const struct err *err)
{
    struct models *m = arg;
    m->err = *err;
    over(m);
}

/* Any answer says that the address can be reached. */
static void ask(struct models *m, const char *url)
{
    const struct http_call_params p = {
        .method = "GET",
        .url = url,
        .connect_ms = CONNECT_MS,
        .first_byte_ms = ANSWER_MS,
        .silence_ms = ANSWER_MS,
        .max_response = 1024 * 1024,
        .on_head = on_head,
        .on_done = on_done,
        .arg = m,
    };
    m->status = 0;
    m->err = (struct err){0};
    m->waiting = http_call_start(m->http, &p, &m->err) != NULL;
    wait_for(m);
}

/* ---- what was found ---- */

static const char *key_says(const struct model_provider_info *p)
{
    return p->has_key ? "key set" : p->usable ? "no key, for an address of its own" : "no key";
}

static void add_provider(struct models *m, const struct model_provider_info *p)
{
    char name[80], url[256], reach[ERR_MSG_MAX + 32] = "";
    doctor_url(url, sizeof url, p->url);
    snprintf(name, sizeof name, "provider.%.60s", p->name);
    bool asked = m->d->probe && p->usable;
    if (asked) {
        ask(m, p->url);
        m->asked++;
        m->reached += m->status != 0;
        if (m->status)
            snprintf(reach, sizeof reach, "; it answers (%d)", m->status);
        else
            snprintf(reach, sizeof reach, "; not reached: %s", m->err.msg);
    }
    m->usable += p->usable;
    bool lost = asked && !m->status;
    struct doctor_check *c =
        doctor_add(m->d, name, lost ? DOCTOR_WARN : DOCTOR_OK, "%s, %s%s", url, key_says(p), reach);
    doctor_fact_str(c, "type", p->type);
    doctor_fact_str(c, "url", url);
    doctor_fact_bool(c, "key", p->has_key);
    doctor_fact_bool(c, "configured", p->usable);
    if (asked)
        doctor_fact_bool(c, "reached", m->status != 0);
    else
        doctor_fact_str(c, "reached", NULL);
    if (asked)
        doctor_fact_i64(c, "http_status", m->status);
    if (lost)
        doctor_remedy(c,
                      "check the address (providers.%.60s.base_url), the name service, the proxy "
                      "variables and the firewall",
                      p->name);
    else if (!p->usable)
        doctor_remedy(c, "to use it set %s", p->key_name);
}

static void add_default(struct models *m)
{
    const char *model = model_router_default(m->router);
    struct doctor_check *c;
    if (m->asked && !m->reached) {
        c = doctor_add(m->d, "model", DOCTOR_FAIL, "no provider can be reached");
        doctor_remedy(c, "let this host reach one of them");
    } else if (!m->usable) {
        c = doctor_add(m->d, "model", DOCTOR_WARN,
                       "no provider is configured; %s, a script, stands in for a model", model);
        doctor_remedy(c, "set ANTHROPIC_API_KEY, or configure a provider (docs/operations.md)");
    } else if (!model[0]) {
        c = doctor_add(m->d, "model", DOCTOR_WARN,
                       "no default: `ostler run` needs --model each time");
        doctor_remedy(c, "set default_model of the provider in ostler.yaml");
    } else {
        c = doctor_add(m->d, "model", DOCTOR_OK, "%s is taken when none is named", model);
    }
    doctor_fact_str(c, "default", model);
}

static void try_models(struct models *m)
{
    struct doctor *d = m->d;
    const struct model_config cfg = config_model(&d->config);
    struct err err = {0};
    if (model_router_new(m->loop, m->http, &cfg, &m->router, &err)) {
        struct doctor_check *c = doctor_add(d, "model", DOCTOR_FAIL, "%s", err.msg);
        doctor_remedy(c, "`ostler config check` looks at the configuration alone");
        return;
    }
    struct model_provider_info p;
    for (size_t i = 0; i < PROVIDERS && model_router_provider(m->router, i, &p); i++)
        add_provider(m, &p);
    add_default(m);
    model_router_free(m->router);
}

static void alive_closed(struct loop_timer *t)
{
    over(CONTAINER_OF(t, struct models, alive));
}

void doctor_model(struct doctor *d)
{
    struct models m = {.d = d, .loop = loop_new()};
    m.http = http_client_new(m.loop);
    loop_timer_init(m.loop, &m.alive);
    still_alive(&m.alive);
    try_models(&m);
    m.waiting = true;
    http_client_close(m.http, over, &m);
    wait_for(&m);
    m.waiting = true;
    loop_timer_close(&m.alive, alive_closed);
    wait_for(&m);
    loop_free(m.loop);
}
