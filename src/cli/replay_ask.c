/* Asking another agent or model: the models of `ostler serve`, without engine, store or sandbox. */
#include "cli/replay.h"

#include "io/loop.h"

#include <stdio.h>

enum { ALIVE_MS = 60 * 60 * 1000 };

struct replay_asker {
    struct loop *loop;
    struct http_client *http;
    struct model_router *router;
    struct loop_timer alive; /* a client that is closing does not keep the loop running */
    bool waiting;
    struct arena arena;
    struct agent agent;
    struct buf system, tools;
    char *model;
    bool other_model; /* than the session's: the bounds of its answers do not hold */
    /* of the request in flight */
    struct arena *into;
    struct replay_answer *answer;
    struct model_usage *used;
    struct err err;
};

static void over(void *arg)
{
    struct replay_asker *k = arg;
    k->waiting = false;
    loop_stop(k->loop);
}

static void still_alive(struct loop_timer *t)
{
    loop_timer_start(t, ALIVE_MS, still_alive);
}

static void alive_closed(struct loop_timer *t)
{
    over(CONTAINER_OF(t, struct replay_asker, alive));
}

static void wait_for(struct replay_asker *k)
{
    while (k->waiting)
        loop_run(k->loop);
}

/* ---- opening ---- */

static int choose(struct replay_asker *k, const struct replay_log *l, const char *model,
                  struct err *err)
{
    struct agent recorded;
    int rc = agent_read(&k->arena, l->row.agent, &recorded, err);
    rc = rc ? rc
            : agent_read(&k->arena, str_some(l->other.body) ? l->other.body : l->row.agent,
                         &k->agent, err);
    if (rc == 0)
        rc = agent_provide(&k->arena, l->row.provision, &k->agent, err);
    if (rc)
        return err_wrap(err, "agent of %s", l->row.id.z);
    agent_offer_web(&k->agent);
    if (model)
        k->agent.model = str_z(model);
    k->other_model = !str_eq(k->agent.model, recorded.model);
    k->model = arena_strz(&k->arena, k->agent.model);
    agent_write_system(&k->agent, &k->system);
    agent_write_tools(&k->agent, &k->tools);
    return k->model ? model_router_check(k->router, k->agent.model, err)
                    : err_set(err, ERR_LIMIT, "the agent is too large");
}

int replay_asker_open(const struct config *cfg, const struct replay_log *l, const char *model,
                      struct replay_asker **out, struct err *err)
{
    const struct model_config models = config_model(cfg);
    struct replay_asker *k = mem_zalloc(sizeof *k);
    k->loop = loop_new();
    k->http = http_client_new(k->loop);
    loop_timer_init(k->loop, &k->alive);
    still_alive(&k->alive);
    arena_init(&k->arena, LIMIT_JSON_ARENA * 4ul);
    buf_init(&k->system, LIMIT_PROMPT);
    buf_init(&k->tools, LIMIT_PROMPT);
    int rc = model_router_new(k->loop, k->http, &models, &k->router, err);
    rc = rc ? rc : choose(k, l, model, err);
    if (rc) {
        replay_asker_close(k);
        return rc;
    }
    *out = k;
    return 0;
}

void replay_asker_close(struct replay_asker *k)
{
    if (!k)
        return;
    k->waiting = true;
    http_client_close(k->http, over, k);
    wait_for(k);
    if (k->router)
        model_router_free(k->router);
    k->waiting = true;
    loop_timer_close(&k->alive, alive_closed);
    wait_for(k);
    loop_free(k->loop);
    buf_fini(&k->system);
    buf_fini(&k->tools);
    arena_fini(&k->arena);
    mem_free(k);
}

const char *replay_asker_model(const struct replay_asker *k)
{
    return k->model;
}

/* ---- asking ---- */

static void on_block(void *arg, size_t index, enum model_block_type type)
{
    (void)arg;
    (void)index;
    (void)type;
}

static void on_text(void *arg, size_t index, struct str text)
{
    (void)arg;
    (void)index;
    (void)text;
}

static void on_done(void *arg, const struct model_result *r)
{
    struct replay_asker *k = arg;
    *k->used = r->usage;
    if (replay_said(r, k->into, k->answer, &k->err))
        k->answer->n = 0;
    over(k);
}

static void on_failed(void *arg, const struct model_failure *f)
{
    struct replay_asker *k = arg;
    *k->used = f->usage;
    err_set(&k->err, ERR_CONNECT, "%s could not be asked: %s", k->model, f->message);
    over(k);
}

int replay_ask(struct replay_asker *k, const struct replay_request *q, struct arena *a,
               struct replay_answer *out, struct model_usage *used, struct err *err)
{
    static const struct model_callbacks callbacks = {
        .block_start = on_block, .text_delta = on_text, .done = on_done, .failed = on_failed};
    struct model_request r = q->built;
    r.model = k->agent.model;
    r.effort = k->agent.effort;
    r.speed = k->agent.speed;
    r.system = k->system.len ? buf_view(&k->system) : STR_NONE;
    r.tools = k->tools.len ? buf_view(&k->tools) : STR_NONE;
    if (k->other_model)
        r.max_tokens = 0;
    k->into = a;
    k->answer = out;
    k->used = used;
    k->err = (struct err){0};
    k->waiting = true;
    struct model_port port = model_router_port(k->router);
    (void)port.start(port.self, &r, &callbacks, k);
    wait_for(k);
    if (k->err.code)
        *err = k->err;
    return k->err.code;
}
