#include "engine/actor.h"

#include "base/log.h"
#include "engine/grader.h"
#include "engine/outcomes.h"

#include <assert.h>

struct mail *mail_new(enum mail_kind kind)
{
    struct mail *m = mem_zalloc(sizeof *m);
    m->kind = kind;
    list_init(&m->link);
    arena_init(&m->arena, LIMIT_MODEL_RESPONSE * 4ul);
    return m;
}

void mail_free(struct mail *m)
{
    list_remove(&m->link);
    arena_fini(&m->arena);
    mem_free(m);
}

static void input_free(struct turn_input *in)
{
    list_remove(&in->link);
    mem_free((char *)in->event.body.ptr);
    mem_free((char *)in->event.transcript.ptr);
    mem_free(in);
}

void actor_free(struct actor *a)
{
    effects_stop(a);
    map_remove(&a->engine->actors, id_str(&a->session_id));
    list_for_each_safe (it, &a->mail)
        mail_free(LIST_ENTRY(it, struct mail, link));
    list_for_each_safe (it, &a->inbox)
        input_free(LIST_ENTRY(it, struct turn_input, link));
    list_for_each_safe (it, &a->commit.taken)
        input_free(LIST_ENTRY(it, struct turn_input, link));
    arena_fini(&a->commit.arena);
    if (a->turn_live)
        turn_fini(&a->turn);
    arena_fini(&a->load.arena);
    arena_fini(&a->row_arena);
    mem_free(a->provision);
    mem_free(a);
}

/* ---- loading ---- */

static int load_inbox(struct store_tx *tx, struct load *l, int64_t key, struct err *err)
{
    return tx_inbox_list(tx, key, l->inbox_after, &l->arena, &l->inbox, &l->ninbox, err);
}

/* The session is ours, or becomes so now, or is `foreign`. */
static int load_owned(struct store_tx *tx, struct load *l, struct err *err)
{
    const struct id *me = &l->actor->engine->cfg.peers.me;
    l->foreign = !str_eq(id_str(&l->row.owner), id_str(me));
    if (!l->take)
        return 0;
    int rc = tx_session_own(tx, l->row.key, id_str(me), id_str(&l->dead), &l->row.epoch, err);
    l->foreign = rc == ERR_CONFLICT;
    if (rc == 0)
        l->row.owner = *me;
    return l->foreign ? 0 : rc;
}

/* From the last compaction on: what lies before it means nothing any more to the loop, so that
 * going on costs the same however old a session is. */
static int load_log(struct store_tx *tx, struct load *l, struct err *err)
{
    struct event_filter log = {.transcript = true};
    int64_t compacted = 0;
    bool more;
    int rc = tx_event_last_compaction(tx, l->row.key, &compacted, err);
    if (rc)
        return rc;
    if (compacted)
        log.after_seq = compacted - 1;
    return tx_event_list(tx, l->row.key, &log, &l->arena, &l->events, &l->nevents, &more, err);
}

static int load_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct load *l = CONTAINER_OF(job, struct load, job);
    struct actor *a = l->actor;
    arena_reset(&l->arena);
    if (!l->whole)
        return load_inbox(tx, l, a->row.key, err);
    arena_reset(&a->row_arena);
    l->foreign = false;
    int rc = tx_session_get(tx, STR_NONE, id_str(&a->session_id), &a->row_arena, &l->row, err);
    if (rc == 0 && engine_has_peers(a->engine))
        rc = load_owned(tx, l, err);
    else if (rc == 0 && l->take)
        rc = tx_session_take(tx, l->row.key, &l->row.epoch, err);
    if (rc || l->foreign)
        return rc;
    rc = load_log(tx, l, err);
    return rc ? rc : load_inbox(tx, l, l->row.key, err);
}

static void receive_inbox(struct actor *a)
{
    struct load *l = &a->load;
    size_t bytes = 0;
    for (size_t i = 0; i < l->ninbox; i++) {
        const struct inbox_row *row = &l->inbox[i];
        bytes += row->event.body.len + row->event.transcript.len;
        if (row->number <= a->inbox_seen)
            continue;
        struct turn_input *in = mem_zalloc(sizeof *in);
        in->number = row->number;
        in->event = row->event;
        in->event.body =
            str_n(mem_dupz(row->event.body.ptr, row->event.body.len), row->event.body.len);
        if (str_some(row->event.transcript))
            in->event.transcript =
                str_n(mem_dupz(row->event.transcript.ptr, row->event.transcript.len),
                      row->event.transcript.len);
        list_push(&a->inbox, &in->link);
        a->inbox_seen = row->number;
    }
    a->woken = a->woken || bytes >= LIMIT_INBOX_READ; /* there may be more */
}

void actor_learn_facts(struct actor *a)
{
    const struct model_port *model = &a->engine->cfg.model;
    a->turn.facts = (struct model_facts){0};
    if (model->facts)
        a->turn.facts = model->facts(model->self, a->agent.model, a->agent.speed);
    a->turn.judge_microusd = judge_reserve(a);
}

int actor_read_agent(struct actor *a, struct str snapshot, struct agent *out, struct err *err)
{
    int rc = agent_read(&a->row_arena, snapshot, out, err);
    if (rc == 0)
        rc = agent_provide(&a->row_arena, a->row.provision, out, err);
    if (rc == 0)
        rc = agent_place(&a->row_arena, a->row.environment, out, err);
    if (rc == 0 && a->engine->cfg.web.run)
        agent_offer_web(out);
    return rc;
}

static int receive_session(struct actor *a, struct err *err)
{
    struct load *l = &a->load;
    a->row = l->row;
    int rc = actor_read_agent(a, a->row.agent, &a->agent, err);
    if (rc)
        return rc;
    turn_init(&a->turn, &a->agent, a->session_id, a->row.thread_id);
    actor_learn_facts(a);
    caps_read(&a->turn.caps, a->row.budget_microusd, a->row.limits);
    a->turn_live = true;
    if (l->nevents && l->events[0].type == EVENT_AGENT_THREAD_CONTEXT_COMPACTED)
        rc = turn_resume(&a->turn, &l->events[0], err);
    for (size_t i = 0; i < l->nevents && rc == 0; i++)
        rc = turn_fold(&a->turn, &l->events[i], err);
    a->turn.usage = a->row.usage;
    for (size_t i = 0; i < a->turn.ncalls; i++)
        a->turn.calls[i].recovered = a->turn.calls[i].state == CALL_READY;
    a->sandbox_at_load = a->row.has_sandbox;
    if (rc == 0 && a->turn.last_seq != a->row.last_seq)
        rc = err_set(err, ERR_CORRUPT, "log ends at %lld, its head says %lld",
                     (long long)a->turn.last_seq, (long long)a->row.last_seq);
    a->fresh = true;
    return rc;
}

static void load_submit(struct actor *a)
{
    struct engine *e = a->engine;
    struct load *l = &a->load;
    e->jobs++;
    (l->take ? e->cfg.store.write : e->cfg.store.read)(e->cfg.store.self, &l->job);
}

static void load_again(void *arg)
{
    struct actor *a = arg;
    a->again = NULL;
    load_submit(a);
}

static void refuse_ops(struct actor *a, const struct err *err)
{
    list_for_each_safe (it, &a->mail) {
        struct mail *m = LIST_ENTRY(it, struct mail, link);
        if (m->kind == MAIL_OP)
            op_answer(m, NULL, err);
    }
}

static void load_start(struct actor *a, bool whole, bool take);

/* Nobody's, or a dead process's: taken. A live one's: that one is told, if there is work. */
static void load_elsewhere(struct actor *a)
{
    static const struct err elsewhere = {
        .code = ERR_UNAVAILABLE, .msg = "another server process works on this session; try again"};
    const struct peer_port *p = &a->engine->cfg.peers;
    struct id owner = a->load.row.owner;
    bool work = a->load.row.inbox;
    if (!owner.z[0] || !p->alive(p->self, id_str(&owner))) {
        a->load.dead = owner;
        load_start(a, true, true);
        return;
    }
    refuse_ops(a, &elsewhere);
    struct id id = a->session_id;
    actor_free(a);
    if (work)
        p->tell(p->self, id_str(&owner),
                &(struct peer_news){.kind = PEER_WAKE, .session_id = id_str(&id)});
}

/* The process that was to keep the session's files, when its turn ended, may be gone; or it is on
 * its way to it, and asking again changes nothing. */
static void keep_files_due(struct actor *a)
{
    const struct sandbox_port *sandbox = &a->engine->cfg.sandbox;
    a->checkpoint_us = a->engine->cfg.clock.unix_us(a->engine->cfg.clock.self);
    if (a->row.checkpoint_due && sandbox->checkpoint)
        sandbox->checkpoint(sandbox->self, id_str(&a->session_id), a->row.checkpoint_due, true);
}

static void load_done(struct store_job *job, const struct err *err)
{
    struct load *l = CONTAINER_OF(job, struct load, job);
    struct actor *a = l->actor;
    struct engine *e = a->engine;
    struct err why = *err;
    if (e->closing) {
        engine_job_done(e);
        return;
    }
    if (why.code && actor_retry(a, &why, load_again)) {
        refuse_ops(a, &why);
        engine_job_done(e);
        return;
    }
    a->store_failures = 0;
    if (why.code == 0 && l->whole && l->foreign) {
        load_elsewhere(a);
        engine_job_done(e);
        return;
    }
    if (why.code == 0 && l->whole)
        (void)receive_session(a, &why);
    if (why.code == 0)
        receive_inbox(a);
    /* What another process committed last, its streams here may not have been told: it died. */
    if (why.code == 0 && l->whole && engine_has_peers(e) && a->row.last_seq > 0)
        hub_poke(e->hub, id_str(&a->session_id), a->row.last_seq);
    arena_reset(&l->arena);
    a->state = ACTOR_READY;
    if (why.code == 0 && l->whole)
        keep_files_due(a);
    if (why.code)
        actor_give_up(a, &why);
    else
        actor_tick(a);
    engine_job_done(e);
}

static void load_start(struct actor *a, bool whole, bool take)
{
    struct load *l = &a->load;
    l->actor = a;
    l->whole = whole;
    l->take = take;
    l->inbox_after = a->inbox_seen;
    l->job.fn = load_fn;
    l->job.done = load_done;
    a->state = whole ? ACTOR_LOADING : ACTOR_READING;
    a->woken = false;
    load_submit(a);
}

static struct actor *actor_new(struct engine *e, struct str session_id)
{
    struct actor *a = mem_zalloc(sizeof *a);
    a->engine = e;
    a->session_id = id_from(session_id);
    arena_init(&a->row_arena, LIMIT_JSON_ARENA);
    arena_init(&a->load.arena, LIMIT_PROMPT * 4ul);
    arena_init(&a->commit.arena, LIMIT_PROMPT * 4ul);
    list_init(&a->inbox);
    list_init(&a->mail);
    list_init(&a->commit.taken);
    map_put(&e->actors, id_str(&a->session_id), a);
    return a;
}

struct actor *actor_get(struct engine *e, struct str session_id, bool take)
{
    struct actor *a = map_get(&e->actors, session_id);
    if (a)
        return a;
    a = actor_new(e, session_id);
    load_start(a, true, take);
    return a;
}

struct actor *actor_take(struct engine *e, struct str session_id, struct str dead)
{
    struct actor *a = map_get(&e->actors, session_id);
    if (a)
        return a;
    a = actor_new(e, session_id);
    a->load.dead = id_from(dead);
    load_start(a, true, true);
    return a;
}

bool actor_retry(struct actor *a, const struct err *err, void (*again)(void *arg))
{
    enum { MIN_MS = 200, MAX_MS = 5000, DOUBLINGS = 5 };
    struct engine *e = a->engine;
    if (err->code != ERR_IO && err->code != ERR_NO_SPACE && err->code != ERR_READ_ONLY &&
        err->code != ERR_OVERLOADED && err->code != ERR_UNAVAILABLE)
        return false;
    if (a->store_failures == 0)
        log_line(LOG_ERROR, "the store fails; trying again until it works", "session",
                 a->session_id.z, "error", err->msg, NULL);
    int64_t delay_ms = (int64_t)MIN_MS
                       << (a->store_failures < DOUBLINGS ? a->store_failures : DOUBLINGS);
    a->store_failures++;
    a->again =
        e->cfg.clock.start(e->cfg.clock.self, delay_ms < MAX_MS ? delay_ms : MAX_MS, again, a);
    return true;
}

void actor_give_up(struct actor *a, const struct err *err)
{
    if (err->code != ERR_NOT_FOUND)
        log_line(LOG_ERROR, "cannot work on a session", "session", a->session_id.z, "error",
                 err->msg, NULL);
    refuse_ops(a, err);
    struct engine *e = a->engine;
    struct id id = a->session_id;
    int code = err->code; /* it may be the actor's own */
    actor_free(a);
    engine_gave_up(e, &id, code);
}

/* ---- working ---- */

void actor_post(struct actor *a, struct mail *m)
{
    list_push(&a->mail, &m->link);
    actor_tick(a);
}

static void apply_tool_done(struct actor *a, struct mail *m)
{
    struct commit *c = &a->commit;
    struct turn_call *call = turn_find_call(&a->turn, id_str(&m->tool_use_id));
    if (call)
        call->sent = false;
    turn_tool_done(&a->turn, &c->step, id_str(&m->tool_use_id), &m->outcome);
    if (c->nacks < COUNT_OF(c->acks))
        c->acks[c->nacks++] = m->tool_use_id;
}

static void apply_model_done(struct actor *a, struct mail *m)
{
    if (judge_start(a, m))
        return;
    turn_model_done(&a->turn, &a->commit.step, &m->result, m->judged, &m->judge);
    mail_free(m);
}

static void apply_graded(struct actor *a, struct mail *m)
{
    turn_graded(&a->turn, &a->commit.step, &m->grade);
    if (a->commit.step.closed)
        outcomes_closed(a, &m->grade);
    mail_free(m);
}

static void apply_mail(struct actor *a, struct mail *m)
{
    struct turn_step *s = &a->commit.step;
    list_remove(&m->link);
    switch (m->kind) {
    case MAIL_MODEL_DONE: apply_model_done(a, m); return; /* it may be kept for a while */
    case MAIL_MODEL_FAILED: turn_model_failed(&a->turn, s, &m->failure); break;
    case MAIL_COUNTED: turn_counted(&a->turn, s, m->tokens); break;
    case MAIL_TOOL_DONE: apply_tool_done(a, m); break;
    case MAIL_TIMER: turn_timer(&a->turn, s); break;
    case MAIL_NOTICE: turn_notice(&a->turn, s, &m->notice); break;
    case MAIL_GRADER_ASKS:
        a->grader_asked = true;
        turn_grading(&a->turn, s, &m->spent, m->reserved_microusd);
        break;
    case MAIL_GRADER_BEAT: turn_grading(&a->turn, s, &m->spent, m->reserved_microusd); break;
    case MAIL_GRADED: apply_graded(a, m); return; /* the step shows it until it is committed */
    case MAIL_OP: break;
    }
    mail_free(m);
}

/* What happened, in the order it happened; operations wait for a quiet moment. */
static void apply_inputs(struct actor *a)
{
    struct turn_step *s = &a->commit.step;
    if (a->fresh) {
        a->fresh = false;
        turn_recover(&a->turn, s);
    }
    list_for_each_safe (it, &a->mail) {
        struct mail *m = LIST_ENTRY(it, struct mail, link);
        if (m->kind == MAIL_OP)
            continue;
        if (s->err_code == 0)
            apply_mail(a, m);
        else
            mail_free(m);
    }
    if (s->err_code == 0 && !list_empty(&a->inbox))
        turn_inbox(&a->turn, s);
}

static struct mail *first_op(struct actor *a)
{
    return list_empty(&a->mail) ? NULL : LIST_ENTRY(a->mail.next, struct mail, link);
}

static bool has_effects(const struct turn_step *s)
{
    return s->nevents || s->start_model || s->count_tokens || s->sleep_ms > 0 || s->grade ||
           s->cancel_grade || s->grader_may_ask || s->grader_refused;
}

static bool at_rest(const struct actor *a)
{
    enum turn_phase p = turn_phase(&a->turn);
    return (p == TURN_IDLE || p == TURN_DEAD) && list_empty(&a->mail) && !a->woken;
}

/* Calls that the log holds open and this process has not dispatched: after a crash. */
static bool has_unsent_calls(const struct actor *a)
{
    if (turn_phase(&a->turn) != TURN_TOOLS)
        return false;
    for (size_t i = 0; i < a->turn.ncalls; i++)
        if (a->turn.calls[i].state == CALL_READY && !a->turn.calls[i].sent)
            return true;
    return false;
}

static void rest(struct actor *a)
{
    struct engine *e = a->engine;
    if (a->row.has_sandbox)
        e->cfg.sandbox.idle(e->cfg.sandbox.self, id_str(&a->session_id));
    actor_free(a);
}

/* One round in READY. Returns false when the actor is gone or has to wait. */
static bool step(struct actor *a)
{
    if (a->woken) {
        load_start(a, false, false);
        return false;
    }
    commit_begin(a);
    bool was_fresh = a->fresh;
    /* Their hand may be running them: only who has asked for them can cancel them, should the inbox
     * hold an interrupt. */
    if (was_fresh && a->row.has_sandbox && has_unsent_calls(a))
        effects_start(a);
    apply_inputs(a);
    struct turn_step *s = &a->commit.step;
    struct mail *op;
    while (s->err_code == 0 && !has_effects(s) && (op = first_op(a))) {
        list_remove(&op->link);
        if (op_apply(a, op))
            break;
    }
    if (s->err_code) {
        struct err why = s->err;
        actor_give_up(a, &why);
        return false;
    }
    if (has_effects(s) || a->commit.delete_row) {
        commit_submit(a);
        return false;
    }
    if (was_fresh && has_unsent_calls(a)) {
        if (commit_wants_sandbox(a)) {
            commit_mark_sandbox(a);
            return false;
        }
        effects_start(a);
    }
    commit_drop(a);
    if (at_rest(a)) {
        rest(a);
        return false;
    }
    return !list_empty(&a->mail) || a->woken;
}

void actor_tick(struct actor *a)
{
    if (a->engine->closing)
        return;
    while (a->state == ACTOR_READY && step(a))
        ;
}
