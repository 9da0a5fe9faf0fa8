#include "engine/grader.h"

#include "base/log.h"
#include "core/grader.h"
#include "core/rubric.h"
#include "engine/check.h"
#include "json/writer.h"

#include <stdio.h>

enum { NUDGES = 3, GRADER_ARENA = 64 << 20 };

enum grader_state { GRADER_COPYING, GRADER_CHECKING, GRADER_GRADING };

struct grader {
    struct actor *actor;
    enum grader_state state;
    struct arena arena; /* lives as long as the grader */
    const struct json *definition, *checks;
    struct id copy;           /* the sandbox that is there or being made; empty: none */
    const struct json *check; /* that runs */
    struct criterion results[LIMIT_CHECKS];
    size_t nresults;
    char mark[CHECK_MARK];
    /* the model */
    struct agent agent;
    struct turn turn;
    bool turn_live;
    struct str *criteria;
    size_t ncriteria;
    struct list inbox, taken, runs;
    struct arena step_arena;
    struct turn_step step;
    struct model_request request;
    struct model_call *call;
    struct model_usage used;
    unsigned nudges;
    struct port_timer *backoff, *beat;
    int64_t deadline_us;
};

/* A call or a copy that is under way; outlives its grader. */
struct grader_run {
    struct list link;
    struct grader *grader; /* NULL: nobody waits for it */
    struct id call;
};

static struct engine *engine_of(const struct grader *g)
{
    return g->actor->engine;
}

static const struct sandbox_port *sandbox_of(const struct grader *g)
{
    return &engine_of(g)->cfg.sandbox;
}

static int64_t now_us(const struct grader *g)
{
    const struct clock_port *clock = &engine_of(g)->cfg.clock;
    return clock->unix_us(clock->self);
}

static struct grader_run *run_new(struct grader *g, struct id call)
{
    struct grader_run *run = mem_zalloc(sizeof *run);
    run->grader = g;
    run->call = call;
    list_push(&g->runs, &run->link);
    return run;
}

/* Frees the run. NULL: its grader is gone. */
static struct grader *run_over(struct grader_run *run, struct id *call)
{
    struct grader *g = run->grader;
    *call = run->call;
    list_remove(&run->link);
    mem_free(run);
    return g;
}

/* ---- the end ---- */

static void stop_timer(struct grader *g, struct port_timer **t)
{
    const struct clock_port *clock = &engine_of(g)->cfg.clock;
    if (*t)
        clock->cancel(clock->self, TAKE_PTR(*t));
}

static void drop_copy(struct grader *g)
{
    if (g->copy.z[0])
        sandbox_of(g)->destroy(sandbox_of(g)->self, id_str(&g->copy), true);
    g->copy = (struct id){""};
}

static void drop_inputs(struct list *l)
{
    struct list *it;
    while ((it = list_pop(l)))
        mem_free(LIST_ENTRY(it, struct turn_input, link));
}

void grader_stop(struct actor *a)
{
    struct grader *g = TAKE_PTR(a->grader);
    if (!g)
        return;
    const struct model_port *model = &engine_of(g)->cfg.model;
    if (g->call)
        model->cancel(model->self, TAKE_PTR(g->call));
    stop_timer(g, &g->backoff);
    stop_timer(g, &g->beat);
    struct list *it;
    while ((it = list_pop(&g->runs)))
        LIST_ENTRY(it, struct grader_run, link)->grader = NULL;
    drop_copy(g);
    drop_inputs(&g->inbox);
    drop_inputs(&g->taken);
    if (g->turn_live)
        turn_fini(&g->turn);
    arena_fini(&g->step_arena);
    arena_fini(&g->arena);
    mem_free(g);
}

struct str grader_model(const struct actor *a)
{
    const struct engine *e = a->engine;
    return e->cfg.grader_model.len ? e->cfg.grader_model : a->agent.model;
}

struct model_usage grader_used(const struct actor *a)
{
    const struct grader *g = a->grader;
    struct model_usage used = {0}, partial = {0};
    if (!g)
        return used;
    const struct model_port *model = &engine_of(g)->cfg.model;
    used = g->used;
    if (g->call && model->partial)
        model->partial(model->self, g->call, &partial);
    model_usage_add(&used, &partial);
    return used;
}

static struct str keep(struct mail *m, struct str s)
{
    return str_some(s) ? arena_str(&m->arena, s) : STR_NONE;
}

/* Hands the grade to the turn and is gone. */
static void finish(struct grader *g, const struct grade *grade)
{
    struct actor *a = g->actor;
    struct mail *m = mail_new(MAIL_GRADED);
    size_t n = g->nresults + grade->ncriteria;
    struct criterion *all = ARENA_ARRAY(&m->arena, struct criterion, n + 1);
    m->grade = *grade;
    m->grade.usage = g->used;
    m->grade.why = keep(m, grade->why);
    for (size_t i = 0; all && i < n; i++) {
        all[i] = i < g->nresults ? g->results[i] : grade->criteria[i - g->nresults];
        all[i].name = keep(m, all[i].name);
        all[i].comment = keep(m, all[i].comment);
        all[i].evidence = keep(m, all[i].evidence);
    }
    m->grade.criteria = all;
    m->grade.ncriteria = all ? n : 0;
    grader_stop(a);
    actor_post(a, m);
}

/* Whatever goes wrong, nothing is satisfied by it. */
static void give_up(struct grader *g, const char *why)
{
    char text[512];
    log_line(LOG_WARN, "an outcome could not be graded", "session", g->actor->session_id.z, "error",
             why, NULL);
    snprintf(text, sizeof text, "The grader could not come to a verdict: %s", why);
    const struct grade failed = {.result = OUTCOME_FAILED, .why = str_z(text)};
    finish(g, &failed);
}

/* ---- copies ---- */

static void begin_copy(struct grader *g, bool read_only);
static void begin_grading(struct grader *g);
static void next_check(struct grader *g);
static void checks_over(struct grader *g);

static void copied(void *arg, const struct err *err)
{
    struct id none;
    struct grader *g = run_over(arg, &none);
    if (!g)
        return;
    if (err->code)
        give_up(g, err->msg);
    else if (g->state == GRADER_CHECKING)
        next_check(g);
    else
        begin_grading(g);
}

static void begin_copy(struct grader *g, bool read_only)
{
    const struct sandbox_port *sandbox = sandbox_of(g);
    struct rand_port *rand = &engine_of(g)->cfg.rand;
    drop_copy(g);
    g->copy = turn_new_id("grade", now_us(g), rand);
    sandbox->copy(sandbox->self, id_str(&g->actor->session_id), id_str(&g->copy), read_only, copied,
                  run_new(g, (struct id){""}));
}

static void run_tool(struct grader *g, struct id call, struct str name, struct str input,
                     void (*done)(void *arg, const struct tool_outcome *o))
{
    const struct sandbox_port *sandbox = sandbox_of(g);
    const struct tool_call what = {.session_id = id_str(&g->copy),
                                   .tool_use_id = id_str(&call),
                                   .name = name,
                                   .input = input,
                                   .environment = g->actor->row.environment,
                                   .first_dispatch = true};
    sandbox->run(sandbox->self, &what, done, run_new(g, call));
}

/* ---- checks ---- */

static void checked(void *arg, const struct tool_outcome *o)
{
    struct id call;
    struct grader *g = run_over(arg, &call);
    if (!g)
        return;
    g->results[g->nresults++] = check_judge(&g->arena, g->check, g->mark, o);
    sandbox_of(g)->ack(sandbox_of(g)->self, id_str(&g->copy), id_str(&call));
    g->check = g->check->next;
    /* What one check has run could have been told to help the next one: each has files of its own.
     */
    if (g->check && g->nresults < LIMIT_CHECKS)
        begin_copy(g, false);
    else
        checks_over(g);
}

static void random_mark(struct grader *g)
{
    unsigned char r[(CHECK_MARK - 1) / 2];
    const struct rand_port *rand = &engine_of(g)->cfg.rand;
    rand->fill(rand->self, r, sizeof r);
    for (size_t i = 0; i < sizeof r; i++)
        snprintf(g->mark + 2 * i, 3, "%02x", r[i]);
}

/* All of them run, so that a revision knows of all; one that fails spares the model. */
static void checks_over(struct grader *g)
{
    for (size_t i = 0; i < g->nresults; i++)
        if (g->results[i].verdict != CRITERION_MET) {
            finish(g, &(struct grade){.result = OUTCOME_NEEDS_REVISION});
            return;
        }
    g->state = GRADER_COPYING;
    begin_copy(g, true);
}

static void next_check(struct grader *g)
{
    random_mark(g);
    struct str input = check_input(&g->arena, g->check, g->mark);
    struct id call = turn_new_id("sevt", now_us(g), &engine_of(g)->cfg.rand);
    if (!str_some(input)) {
        give_up(g, "a check is too large");
        return;
    }
    run_tool(g, call, STR("bash"), input, checked);
}

/* ---- the model's turn ---- */

static void settle(struct grader *g);

static void begin_step(struct grader *g)
{
    g->step = (struct turn_step){.arena = &g->step_arena,
                                 .now_us = now_us(g),
                                 .rand = &engine_of(g)->cfg.rand,
                                 .inbox = &g->inbox,
                                 .taken = &g->taken};
}

static void queue(struct grader *g, enum event_type type, struct str rest)
{
    struct turn_input *in = mem_zalloc(sizeof *in);
    in->event.type = type;
    in->event.id = turn_new_id("sevt", now_us(g), &engine_of(g)->cfg.rand);
    in->event.body =
        arena_printf(&g->arena, "{\"id\":\"%s\",\"type\":\"%s\",\"processed_at\":null" STR_FMT "}",
                     in->event.id.z, event_name(type), STR_ARG(rest));
    list_push(&g->inbox, &in->link);
}

static void say(struct grader *g, const char *text)
{
    char rest[600];
    snprintf(rest, sizeof rest, ",\"content\":[{\"type\":\"text\",\"text\":\"%s\"}]", text);
    queue(g, EVENT_USER_MESSAGE, str_z(rest));
}

static void take_inbox(struct grader *g)
{
    begin_step(g);
    turn_inbox(&g->turn, &g->step);
    settle(g);
}

static void on_model_done(void *arg, const struct model_result *r)
{
    struct grader *g = arg;
    g->call = NULL;
    effects_count_usage(engine_of(g), &r->usage);
    model_usage_add(&g->used, &r->usage);
    begin_step(g);
    turn_model_done(&g->turn, &g->step, r, NULL, NULL);
    settle(g);
}

static void on_model_failed(void *arg, const struct model_failure *f)
{
    struct grader *g = arg;
    g->call = NULL;
    engine_of(g)->stats.model_failures++;
    effects_count_usage(engine_of(g), &f->usage);
    model_usage_add(&g->used, &f->usage);
    begin_step(g);
    turn_model_failed(&g->turn, &g->step, f);
    settle(g);
}

static void ask(struct grader *g, bool beat)
{
    struct mail *m = mail_new(beat ? MAIL_GRADER_BEAT : MAIL_GRADER_ASKS);
    m->spent = g->used;
    m->reserved_microusd = g->turn_live ? g->turn.request.reserved_microusd : 0;
    actor_post(g->actor, m);
}

void grader_go(struct actor *a)
{
    static const struct model_callbacks callbacks = {.block_start = effects_ignore_block,
                                                     .text_delta = effects_ignore_text,
                                                     .done = on_model_done,
                                                     .failed = on_model_failed};
    struct grader *g = a->grader;
    struct engine *e = a->engine;
    struct err err;
    if (!g || g->call || !g->turn_live || turn_phase(&g->turn) != TURN_MODEL)
        return;
    if (turn_request(&g->turn, &g->request, &err)) {
        give_up(g, err.msg);
        return;
    }
    if (g->request.purpose == MODEL_FOR_TURN)
        g->request.purpose = MODEL_FOR_GRADER;
    e->stats.model_requests++;
    g->call = e->cfg.model.start(e->cfg.model.self, &g->request, &callbacks, g);
}

void grader_deny(struct actor *a)
{
    if (a->grader)
        give_up(a->grader, "the session's budget does not allow another request of the grader");
}

static void tool_done(void *arg, const struct tool_outcome *o)
{
    struct id call;
    struct grader *g = run_over(arg, &call);
    if (!g)
        return;
    sandbox_of(g)->ack(sandbox_of(g)->self, id_str(&g->copy), id_str(&call));
    begin_step(g);
    turn_tool_done(&g->turn, &g->step, id_str(&call), o);
    settle(g);
}

static void backoff_over(void *arg)
{
    struct grader *g = arg;
    g->backoff = NULL;
    begin_step(g);
    turn_timer(&g->turn, &g->step);
    settle(g);
}

static void run_calls(struct grader *g)
{
    for (size_t i = 0; i < g->turn.ncalls; i++) {
        struct turn_call *c = &g->turn.calls[i];
        if (c->state != CALL_READY || c->sent)
            continue;
        c->sent = true;
        run_tool(g, c->id, c->name, c->input, tool_done);
    }
}

/* Says to the call that handed the verdict in what is wrong with it. */
static void return_verdict(struct grader *g, const struct id *call, const char *why)
{
    AUTO_BUF struct buf b = BUF_INIT(4096);
    struct jw w = jw_to(&b);
    buf_printf(&b,
               ",\"custom_tool_use_id\":\"%s\",\"is_error\":true,\"content\":[{\"type\":"
               "\"text\",\"text\":",
               call->z);
    jw_str(&w, str_z(why));
    buf_z(&b, "}]");
    queue(g, EVENT_USER_CUSTOM_TOOL_RESULT, buf_view(&b));
    take_inbox(g);
}

static void receive_verdict(struct grader *g, const struct turn_call *c)
{
    struct grade grade;
    const struct json *input;
    struct err err;
    struct id call = c->id;
    int rc =
        json_parse(&g->arena, arena_str(&g->arena, c->input), JSON_ALLOW_DUPLICATES, &input, &err);
    if (rc == 0)
        rc = grader_verdict(&g->arena, input, g->criteria, g->ncriteria, &grade, &err);
    if (rc == 0)
        finish(g, &grade);
    else if (g->nudges++ >= NUDGES)
        give_up(g, err.msg);
    else
        return_verdict(g, &call, err.msg);
}

static const struct turn_call *handed_in(const struct grader *g)
{
    for (size_t i = 0; i < g->turn.ncalls; i++)
        if (g->turn.calls[i].state == CALL_CLIENT)
            return &g->turn.calls[i];
    return NULL;
}

/* Its turn is over, and no verdict came. */
static void without_verdict(struct grader *g)
{
    struct str reason = str_z(g->turn.stop_reason);
    if (str_find(reason, STR("budget_reached")) >= 0)
        give_up(g, "the session's budget does not allow another request of the grader");
    else if (str_find(reason, STR("end_turn")) < 0)
        give_up(g, "its model failed or refused");
    else if (g->nudges++ >= NUDGES)
        give_up(g, "it handed no verdict in");
    else {
        say(g, "Hand your verdict in with the tool " GRADER_VERDICT_TOOL ".");
        take_inbox(g);
    }
}

/* What the step has left to be done. May end the grader. */
static void settle(struct grader *g)
{
    struct turn_step *s = &g->step;
    struct clock_port *clock = &engine_of(g)->cfg.clock;
    drop_inputs(&g->taken);
    if (s->err_code) {
        char why[ERR_MSG_MAX];
        snprintf(why, sizeof why, "%s", s->err.msg);
        give_up(g, why);
        return;
    }
    const struct turn_call *verdict = handed_in(g);
    if (s->count_tokens) {
        begin_step(g);
        turn_counted(&g->turn, s, -1);
        settle(g);
    } else if (s->start_model) {
        ask(g, false);
    } else if (s->sleep_ms > 0 && turn_phase(&g->turn) == TURN_BACKOFF) {
        g->backoff = clock->start(clock->self, s->sleep_ms, backoff_over, g);
    } else if (turn_phase(&g->turn) == TURN_TOOLS) {
        run_calls(g);
    } else if (verdict) {
        receive_verdict(g, verdict);
    } else if (turn_phase(&g->turn) == TURN_IDLE) {
        without_verdict(g);
    }
}

/* ---- the beginning ---- */

/* Its requests are paid out of what the session has left. */
static void set_caps(struct grader *g)
{
    const struct turn *t = &g->actor->turn;
    struct session_usage used = t->usage;
    usage_add(&used, &t->outcome.spent);
    int64_t left = caps_money_left(&t->caps, &used);
    if (left >= 0)
        caps_read(&g->turn.caps, left > 0 ? left : 1, STR_NONE);
}

static void begin_grading(struct grader *g)
{
    struct actor *a = g->actor;
    const struct model_port *model = &engine_of(g)->cfg.model;
    struct str snapshot = grader_agent(&g->arena, grader_model(a));
    struct str task = grader_task(&g->arena, g->definition, g->criteria, g->ncriteria);
    struct err err;
    g->state = GRADER_GRADING;
    if (!str_some(snapshot) || !str_some(task) ||
        agent_read(&g->arena, snapshot, &g->agent, &err)) {
        give_up(g, "the rubric is too large");
        return;
    }
    turn_init(&g->turn, &g->agent, a->session_id, a->row.thread_id);
    g->turn_live = true;
    if (model->facts)
        g->turn.facts = model->facts(model->self, g->agent.model, g->agent.speed);
    set_caps(g);
    queue(g, EVENT_USER_MESSAGE, task);
    take_inbox(g);
}

static void beat(void *arg)
{
    struct grader *g = arg;
    struct clock_port *clock = &engine_of(g)->cfg.clock;
    g->beat = NULL;
    if (now_us(g) >= g->deadline_us) {
        give_up(g, "it took too long");
        return;
    }
    g->beat = clock->start(clock->self, LIMIT_EVALUATION_BEAT_MS, beat, g);
    ask(g, true);
}

static int read_rubric(struct grader *g, struct err *err)
{
    const struct buf *text = &g->actor->turn.outcome.definition;
    struct str copy = arena_str(&g->arena, buf_view(text));
    int rc = json_parse(&g->arena, copy, JSON_ALLOW_DUPLICATES, &g->definition, err);
    if (rc)
        return rc;
    const struct json *rubric = json_get(g->definition, "rubric");
    g->checks = json_get(rubric, "checks");
    g->check = json_is(g->checks, JSON_ARRAY) ? g->checks->child : NULL;
    return rubric_criteria(&g->arena, json_get_str(rubric, "content"), &g->criteria, &g->ncriteria,
                           err);
}

void grader_start(struct actor *a)
{
    struct engine *e = a->engine;
    struct grader *g = mem_zalloc(sizeof *g);
    struct err err;
    grader_stop(a);
    a->grader = g;
    g->actor = a;
    list_init(&g->inbox);
    list_init(&g->taken);
    list_init(&g->runs);
    arena_init(&g->arena, GRADER_ARENA);
    arena_init(&g->step_arena, LIMIT_PROMPT * 4ul);
    g->deadline_us = now_us(g) + LIMIT_EVALUATION_MS * INT64_C(1000);
    g->beat = e->cfg.clock.start(e->cfg.clock.self, LIMIT_EVALUATION_BEAT_MS, beat, g);
    if (!e->cfg.sandbox.copy) {
        give_up(g, "there is no sandbox to look at the files in");
    } else if (read_rubric(g, &err)) {
        give_up(g, err.msg);
    } else {
        g->state = g->check ? GRADER_CHECKING : GRADER_COPYING;
        begin_copy(g, !g->check);
    }
}
