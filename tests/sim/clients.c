/* The clients of the API: what they send, when, how often, and what they listen to. */
#include "sim.h"

#include "json/writer.h"

#include <inttypes.h>
#include <stdio.h>

enum { POST_MAX = 6 };

struct post {
    struct store_job job;
    struct node *node;
    struct session *session;
    struct event events[POST_MAX];
    struct sent *sent[POST_MAX];
    int n;
    bool creates, defines;
    struct session_row row;
};

/* ---- events ---- */

static void begin(struct sim *s, struct rng *r, struct event *e, struct buf *b, struct jw *w,
                  enum event_type type)
{
    unsigned char entropy[10];
    for (size_t i = 0; i < sizeof entropy; i++)
        entropy[i] = (unsigned char)rng_next(r);
    *e = (struct event){.type = type, .id = id_make("sevt", s->now_us / 1000, entropy)};
    *b = BUF_INIT(1 << 20);
    *w = jw_to(b);
    jw_obj(w);
    jw_kstr(w, "id", id_str(&e->id));
    jw_kz(w, "type", event_name(type));
    jw_knull(w, "processed_at");
}

static void end(struct post *p, struct event *e, struct buf *b, struct jw *w)
{
    struct sim *s = p->session->sim;
    jw_obj_end(w);
    e->body = arena_str(&s->arena, buf_view(b));
    buf_fini(b);
    struct sent *in = sim_alloc(s, sizeof *in);
    *in = (struct sent){.id = e->id, .session = p->session};
    list_push(&s->sent, &in->link);
    map_put(&s->sent_by_id, id_str(&in->id), in);
    p->sent[p->n] = in;
    p->events[p->n++] = *e;
}

static void put_content(struct jw *w, const char *text)
{
    jw_key(w, "content");
    jw_arr(w);
    jw_obj(w);
    jw_kz(w, "type", "text");
    jw_kz(w, "text", text);
    jw_obj_end(w);
    jw_arr_end(w);
}

static void add_message(struct post *p, struct rng *r)
{
    struct event e;
    struct buf b;
    struct jw w;
    char text[2000];
    if (p->n == POST_MAX)
        return;
    int n = snprintf(text, sizeof text, "message %d", p->session->messages++);
    if (rng_chance(r, 1, strcmp(p->session->model, "sim-small") == 0 ? 2 : 6)) {
        memset(text + n, '.', sizeof text - 1 - (size_t)n);
        text[rng_between(r, n, (int64_t)sizeof text - 1)] = '\0';
    }
    begin(p->session->sim, r, &e, &b, &w, EVENT_USER_MESSAGE);
    put_content(&w, text);
    end(p, &e, &b, &w);
}

static void add_outcome(struct post *p, struct rng *r)
{
    struct event e;
    struct buf b;
    struct jw w;
    struct session *ss = p->session;
    if (p->n == POST_MAX || !ss->row)
        return;
    begin(ss->sim, r, &e, &b, &w, EVENT_USER_DEFINE_OUTCOME);
    buf_printf(&b,
               ",\"outcome_id\":\"outc_%d_%d\",\"description\":\"a task\",\"rubric\":{\"type\":"
               "\"text\",\"content\":\"- one\\n- two\"%s%s},\"max_iterations\":%d",
               ss->index, ss->outcomes++,
               rng_chance(r, 1, 3)
                   ? ",\"checks\":[{\"name\":\"a\",\"run\":\"true\"},{\"name\":\"b\",\"run\":"
                     "\"false\"}]"
                   : "",
               rng_chance(r, 1, 4) ? ",\"closing\":true" : "", (int)rng_between(r, 1, 3));
    end(p, &e, &b, &w);
    p->defines = true;
}

static void add_system(struct post *p, struct rng *r)
{
    struct event e;
    struct buf b;
    struct jw w;
    if (p->n == POST_MAX)
        return;
    begin(p->session->sim, r, &e, &b, &w, EVENT_SYSTEM_MESSAGE);
    put_content(&w, "The operator says so.");
    end(p, &e, &b, &w);
}

static void add_interrupt(struct post *p, struct rng *r)
{
    struct event e;
    struct buf b;
    struct jw w;
    if (p->n == POST_MAX)
        return;
    begin(p->session->sim, r, &e, &b, &w, EVENT_USER_INTERRUPT);
    end(p, &e, &b, &w);
}

static void add_answer(struct post *p, struct rng *r, const struct pending_call *c)
{
    struct event e;
    struct buf b;
    struct jw w;
    bool custom = c->type == EVENT_AGENT_CUSTOM_TOOL_USE;
    if (p->n == POST_MAX)
        return;
    begin(p->session->sim, r, &e, &b, &w,
          custom ? EVENT_USER_CUSTOM_TOOL_RESULT : EVENT_USER_TOOL_CONFIRMATION);
    jw_kz(&w, custom ? "custom_tool_use_id" : "tool_use_id", c->id.z);
    if (custom) {
        put_content(&w, "a client's result");
    } else {
        bool deny = rng_chance(r, 1, 3);
        jw_kz(&w, "result", deny ? "deny" : "allow");
        if (deny && rng_chance(r, 1, 2))
            jw_kz(&w, "deny_message", "not now");
    }
    end(p, &e, &b, &w);
}

/* ---- posting ---- */

/* As the API does: one outcome at a time. */
static int may_define(const struct session *ss, struct err *err)
{
    bool open = ss->watch.outcome.open;
    for (size_t i = 0; i < ss->row->ninbox; i++)
        open = open || ss->row->inbox[i].event.type == EVENT_USER_DEFINE_OUTCOME;
    return open ? err_set(err, ERR_INVALID, "there is an outcome already") : 0;
}

static int post_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct post *p = CONTAINER_OF(job, struct post, job);
    AUTO_ARENA struct arena a;
    arena_init(&a, 16 << 20);
    struct session_row row;
    int rc = 0;
    if (p->creates) {
        struct id ws;
        rc = tx_workspace_ensure(tx, STR("default"), 1, &ws, err);
        p->row.workspace_id = ws;
        if (rc == 0)
            rc = tx_session_insert(tx, &p->row, err);
    }
    if (rc == 0)
        rc = tx_session_get(tx, STR_NONE, id_str(&p->session->id), &a, &row, err);
    if (rc == 0 && row.archived_us)
        rc = err_set(err, ERR_INVALID, "the session is archived");
    if (rc == 0 && p->defines)
        rc = may_define(p->session, err);
    for (int i = 0; i < p->n && rc == 0; i++) {
        struct inbox_row in = {.event = p->events[i]};
        rc = tx_inbox_add(tx, row.key, &in, err);
    }
    return rc;
}

static void post_done(struct store_job *job, const struct err *err)
{
    struct post *p = CONTAINER_OF(job, struct post, job);
    if (err->code || p->node->dead)
        return;
    for (int i = 0; i < p->n; i++)
        p->sent[i]->acked = true;
    p->session->acked = true;
    if (p->n)
        engine_wake(p->node->engine, id_str(&p->session->id));
}

static struct post *new_post(struct session *ss, struct node *n)
{
    struct post *p = sim_alloc(ss->sim, sizeof *p);
    *p = (struct post){.job = {.fn = post_fn, .done = post_done}, .node = n, .session = ss};
    return p;
}

static void post(struct post *p)
{
    for (int i = 0; i < p->n; i++)
        SIM_TRACE(p->session->sim, "c  s%d sends %s %s", p->session->index,
                  event_name(p->events[i].type), p->events[i].id.z);
    p->node->store.write(p->node->store.self, &p->job);
}

/* ---- sessions ---- */

static struct str make_agent(struct session *ss, struct rng *r)
{
    struct sim *s = ss->sim;
    static const char *const policies[] = {"always_allow", "always_allow", "always_ask", "auto"};
    AUTO_BUF struct buf b = BUF_INIT(1 << 16);
    buf_printf(&b,
               "{\"name\":\"tester\",\"model\":{\"id\":\"%s\",\"speed\":\"standard\"},"
               "\"system\":%s,\"tools\":[{\"type\":\"agent_toolset_20260401\",\"configs\":["
               "{\"name\":\"read\",\"enabled\":true,\"permission_policy\":{\"type\":\"%s\"}},"
               "{\"name\":\"glob\",\"enabled\":false,\"permission_policy\":{\"type\":"
               "\"always_allow\"}}],\"default_config\":{\"enabled\":true,"
               "\"permission_policy\":{\"type\":\"%s\"}}}",
               ss->model, rng_chance(r, 1, 2) ? "\"Be brief.\"" : "null",
               policies[rng_below(r, COUNT_OF(policies))],
               policies[rng_below(r, COUNT_OF(policies))]);
    if (rng_chance(r, 2, 3))
        buf_z(&b, ",{\"type\":\"custom\",\"name\":\"lookup\",\"description\":\"d\","
                  "\"input_schema\":{\"type\":\"object\"}}");
    buf_z(&b, "]}");
    return arena_str(&s->arena, buf_view(&b));
}

static struct str make_limits(struct sim *s, struct rng *r, bool priced)
{
    switch (rng_below(r, priced ? 4 : 3)) {
    case 0: return arena_printf(&s->arena, "{\"max_turns\":%" PRId64 "}", rng_between(r, 1, 9));
    case 1:
        return arena_printf(&s->arena, "{\"max_tokens\":%" PRId64 "}", rng_between(r, 1000, 60000));
    case 2: return arena_printf(&s->arena, "{\"max_seconds\":%" PRId64 "}", rng_between(r, 5, 400));
    default:
        return arena_printf(&s->arena, "{\"max_cost_microusd\":%" PRId64 "}",
                            rng_between(r, 2000, 300000));
    }
}

void client_create(struct sim *s, struct session *ss, struct rng *r)
{
    static const char *const models[] = {"sim-large", "sim-large", "sim-small", "sim-unpriced"};
    struct node *n = some_node(s);
    struct post *p = new_post(ss, n);
    unsigned char entropy[10] = {(unsigned char)ss->index};
    ss->model = models[rng_below(r, COUNT_OF(models))];
    p->creates = true;
    p->row = (struct session_row){.id = ss->id,
                                  .workspace_id = s->workspace,
                                  .thread_id = id_make("sthr", s->now_us / 1000, entropy),
                                  .agent_id = id_from(STR("agent_sim")),
                                  .agent_version = 1,
                                  .environment_id = id_from(STR("env_sim")),
                                  .agent = make_agent(ss, r),
                                  .environment = STR("{}"),
                                  .metadata = STR("{\"a\":\"1\"}"),
                                  .created_us = s->now_us,
                                  .updated_us = s->now_us};
    bool priced = strcmp(ss->model, "sim-unpriced") != 0;
    if (priced && rng_chance(r, 1, 3)) /* whole cents */
        p->row.budget_microusd = rng_between(r, 2, 40) * 10000;
    if (rng_chance(r, 1, 4))
        p->row.limits = make_limits(s, r, priced);
    for (int64_t i = rng_below(r, 3); i > 0; i--)
        add_message(p, r);
    post(p);
}

/* ---- operations ---- */

struct client_op {
    struct engine_op op;
    struct node *node;
    struct session *session;
    struct engine_change change;
    enum { UPDATES, ARCHIVES, DELETES } what;
    char title[40];
    struct str agent;
    bool refuses;
};

static void op_done(struct engine_op *op, const struct session_row *row, const struct err *err)
{
    struct client_op *c = CONTAINER_OF(op, struct client_op, op);
    struct sim *s = c->node->sim;
    const struct db_session *db = c->session->row;
    if (c->node->dead)
        return;
    SIM_TRACE(s, "c  s%d operation: %s", c->session->index, err->code ? err->msg : "done");
    if (err->code)
        return;
    if (c->what == ARCHIVES && (!row->archived_us || (!db->row.archived_us && !db->gone)))
        sim_fail(s, "session %d: an archive was answered before it was durable", c->session->index);
    if (c->what == DELETES && !db->gone)
        sim_fail(s, "session %d: a deletion was answered before it was durable", c->session->index);
    if (c->what == UPDATES && c->change.title && !str_eqz(row->title, c->title))
        sim_fail(s, "session %d: an update was answered with another title", c->session->index);
}

static const struct json *parse(struct sim *s, struct str json)
{
    const struct json *out = NULL;
    struct err err;
    if (json_parse(&s->arena, json, 0, &out, &err))
        sim_fail(s, "bad JSON of a client: %s", err.msg);
    return out;
}

/* Another set of tools; every other time the old one. */
static int change_agent(const struct engine_change *ch, struct arena *a, struct str now,
                        struct str *out, struct err *err)
{
    struct client_op *c = CONTAINER_OF(ch, struct client_op, change);
    *out = c->refuses ? STR_NONE : arena_str(a, c->agent);
    (void)now;
    return c->refuses ? err_at(err, ERR_INVALID, "/agent", "these do not go together") : 0;
}

static void plan_update(struct client_op *c, struct rng *r)
{
    struct session *ss = c->session;
    struct sim *s = ss->sim;
    const struct session_row *row = &ss->row->row;
    struct engine_change *ch = &c->change;
    if (rng_chance(r, 1, 2)) {
        snprintf(c->title, sizeof c->title, "title %" PRId64, rng_below(r, 3));
        ch->title = parse(s, arena_printf(&s->arena, "\"%s\"", c->title));
    }
    if (rng_chance(r, 1, 3))
        ch->metadata = parse(
            s, arena_printf(&s->arena, "{\"b\":\"%" PRId64 "\",\"a\":null}", rng_below(r, 3)));
    if (rng_chance(r, 1, 4)) {
        c->agent = make_agent(ss, r);
        c->refuses = rng_chance(r, 1, 5);
        ch->agent = change_agent;
    }
    if (row->budget_microusd && rng_chance(r, 2, 3)) {
        ch->set_budget = true;
        ch->budget_microusd =
            rng_chance(r, 1, 10) ? 0 : row->budget_microusd + rng_between(r, -4, 30) * 10000;
    }
    if (rng_chance(r, 1, 3)) {
        ch->set_limits = true;
        ch->limits = rng_chance(r, 1, 3) ? STR_NONE : make_limits(s, r, false);
    }
}

static void operate(struct session *ss, struct node *n, struct rng *r)
{
    struct sim *s = ss->sim;
    struct client_op *c = sim_alloc(s, sizeof *c);
    int64_t dice = rng_below(r, 40);
    *c = (struct client_op){.op = {op_done}, .node = n, .session = ss};
    c->what = dice == 0 ? DELETES : dice == 1 ? ARCHIVES : UPDATES;
    struct str ws = id_str(&s->workspace), id = id_str(&ss->id);
    SIM_TRACE(s, "c  s%d asks for %s", ss->index,
              c->what == DELETES    ? "deletion"
              : c->what == ARCHIVES ? "archive"
                                    : "an update");
    if (c->what == DELETES) {
        engine_session_delete(n->engine, ws, id, &c->op);
    } else if (c->what == ARCHIVES) {
        engine_session_archive(n->engine, ws, id, &c->op);
    } else {
        plan_update(c, r);
        engine_session_update(n->engine, ws, id, &c->change, &c->op);
    }
}

/* ---- streams ---- */

static void sub_leave(struct sub *sub)
{
    if (sub->ended)
        return;
    sub->ended = true;
    hub_unsubscribe(engine_hub(sub->node->engine), &sub->hub);
}

static void on_frame(struct hub_sub *hub, int64_t seq, struct bytes *frame, bool last)
{
    struct sub *sub = CONTAINER_OF(hub, struct sub, hub);
    struct session *ss = sub->session;
    struct sim *s = ss->sim;
    if (!boundary(sub->node, AT_FRAME) || sub->ended)
        return;
    if (!frame) { /* another process's: what there is to see is in the store */
        if (!ss->row->gone && ss->row->row.last_seq >= (sub->next ? sub->next : sub->floor + 1))
            sub->next = ss->row->row.last_seq + 1;
        return;
    }
    if (s->knobs.nodes > 1 && seq > 0 && seq < sub->next)
        return; /* read there already */
    if (seq > 0 && !last) {
        int64_t due = sub->next ? sub->next : seq;
        if (seq != due || (sub->next == 0 && seq > sub->floor + 1))
            sim_fail(s, "session %d: a subscriber got %" PRId64 " for %" PRId64, ss->index, seq,
                     sub->next ? sub->next : sub->floor + 1);
        sub->next = seq + 1;
        AUTO_BUF struct buf b = BUF_INIT(16 << 20);
        if (seq > (int64_t)ss->row->nevents)
            sim_fail(s, "session %d: event %" PRId64 " was published before it was durable",
                     ss->index, seq);
        else
            hub_frame(&b, &ss->row->events[seq - 1]);
        if (!s->failure[0] && !str_eq(buf_view(&b), bytes_view(frame)))
            sim_fail(s, "session %d: event %" PRId64 " was published with other bytes", ss->index,
                     seq);
    }
    if (last && !ss->row->gone)
        sim_fail(s, "session %d: its deletion was published before it was durable", ss->index);
    if (last || --sub->frames_left <= 0)
        sub_leave(sub);
    boundary_after(sub->node, AT_FRAME);
}

static void subscribe(struct session *ss, struct node *n, struct rng *r)
{
    struct sub *sub = sim_alloc(ss->sim, sizeof *sub);
    *sub = (struct sub){.hub = {.frame = on_frame, .deltas = (unsigned)rng_below(r, 4)},
                        .node = n,
                        .session = ss,
                        .floor = ss->row->row.last_seq,
                        .frames_left = rng_chance(r, 1, 3) ? 3 : 100000};
    list_push(&n->subs, &sub->link);
    hub_subscribe(engine_hub(n->engine), id_str(&ss->id), &sub->hub);
}

void subs_die(struct node *n)
{
    list_for_each (it, &n->subs)
        sub_leave(LIST_ENTRY(it, struct sub, link));
}

/* ---- what happens next ---- */

/* Operations are forwarded to the process that has the session. */
static struct node *owner_node(struct session *ss, struct node *n)
{
    struct node *o = owner_of(ss);
    return o && !o->dead ? o : n;
}

static bool answer_some(struct session *ss, struct node *n, struct rng *r, bool late, bool all)
{
    struct watch *w = &ss->watch;
    struct post *p = new_post(ss, n);
    for (size_t i = 0; i < w->ncalls; i++) {
        const struct pending_call *c = &w->calls[i];
        bool waits = c->state == CALL_ASK || c->state == CALL_CLIENT;
        if (!waits && !(late && c->type == EVENT_AGENT_CUSTOM_TOOL_USE))
            continue;
        if (all || rng_chance(r, 2, 3))
            add_answer(p, r, c);
        if (!all && rng_chance(r, 1, 8))
            add_answer(p, r, c); /* once more, perhaps otherwise */
    }
    if (p->n)
        post(p);
    return p->n > 0;
}

bool client_answer_all(struct sim *s)
{
    bool any = false;
    for (int i = 0; i < s->knobs.sessions; i++) {
        struct session *ss = &s->sessions[i];
        struct node *n = some_node(s);
        if (!ss->row || ss->row->gone || ss->row->row.archived_us || !n)
            continue;
        enum session_status status = ss->row->row.status;
        if (status == SESSION_RUNNING || status == SESSION_RESCHEDULING || ss->row->ninbox > 0) {
            engine_wake(n->engine, id_str(&ss->id)); /* its lease was lost */
            any = true;
        }
        any = answer_some(ss, n, &s->rng, false, true) || any;
    }
    return any;
}

static void send_some(struct session *ss, struct node *n, struct rng *r, int64_t dice)
{
    struct post *p = new_post(ss, n);
    if (dice < 3)
        add_interrupt(p, r);
    for (int64_t i = rng_chance(r, 1, 5) ? rng_below(r, 4) : 0; i >= 0; i--)
        add_message(p, r);
    if (rng_chance(r, 1, 5))
        add_outcome(p, r);
    else if (rng_chance(r, 1, 12))
        add_system(p, r);
    if (dice == 3)
        add_interrupt(p, r);
    if (dice == 4) {
        p = new_post(ss, n);
        add_interrupt(p, r);
    }
    post(p);
}

static int steal_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct post *p = CONTAINER_OF(job, struct post, job);
    int64_t epoch;
    return tx_session_take(tx, p->session->row->row.key, &epoch, err);
}

static void wake_again(struct sim *s, void *arg)
{
    struct session *ss = arg;
    struct node *n = some_node(s);
    if (n && s->chaos)
        engine_wake(n->engine, id_str(&ss->id));
}

/* Another server takes the session and gives it back: a lost lease. */
static void steal(struct session *ss, struct rng *r)
{
    struct sim *s = ss->sim;
    struct post *p = new_post(ss, NULL);
    struct err err;
    p->job.fn = steal_fn;
    SIM_TRACE(s, "x  s%d is taken by another server", ss->index);
    (void)simdb_run(s->db, &p->job, true, false, 0, &err);
    for (int64_t i = 1; i <= 3; i++)
        sim_after(s, i * rng_delay(r, 10 * SIM_SECOND, 60 * SIM_SECOND), wake_again, ss);
}

static void trouble(struct sim *s, struct session *ss, struct node *n, struct rng *r)
{
    switch (rng_below(r, 6)) {
    case 0:
    case 1: hand_crash(ss, "killed"); break;
    case 2:
        s->disk_full_until_us = s->now_us + rng_delay(r, 2 * SIM_SECOND, 20 * SIM_SECOND);
        SIM_TRACE(s, "x  the disk is full for a while");
        break;
    case 3:
        s->outage_until_us = s->now_us + rng_delay(r, 10 * SIM_SECOND, 100 * SIM_SECOND);
        SIM_TRACE(s, "x  the provider is down for a while");
        break;
    case 4: steal(ss, r); break;
    default:
        if (s->knobs.crash_den[AT_COMMIT])
            node_crash(n, "killed");
    }
}

void client_act(struct sim *s, int number)
{
    struct rng r = rng_of(s->seed, (uint64_t)number << 8 | 5);
    struct session *ss = &s->sessions[rng_below(&r, s->knobs.sessions)];
    struct node *n = some_node(s);
    int64_t dice = rng_below(&r, 100);
    if (!n)
        return;
    if (!ss->row)
        client_create(s, ss, &r); /* its creation was lost */
    else if (dice < 45)
        send_some(ss, n, &r, rng_below(&r, 25));
    else if (dice < 70)
        answer_some(ss, n, &r, dice < 50, false);
    else if (dice < 80)
        operate(ss, owner_node(ss, n), &r);
    else if (dice < 90)
        subscribe(ss, n, &r);
    else
        trouble(s, ss, n, &r);
}
