/* Operations that a client asks for on a whole session: update, archive, delete. */
#include "engine/actor.h"

#include "json/writer.h"

void op_answer(struct mail *m, const struct session_row *row, const struct err *err)
{
    m->op->done(m->op, row, err);
    mail_free(m);
}

static bool refuse(struct mail *m, int code, const char *why)
{
    struct err err;
    err_set(&err, code, "%s", why);
    op_answer(m, NULL, &err);
    return false;
}

/* ---- update ---- */

/* The stored metadata with the patch laid over it; false when it says the same as before. */
static bool merge_metadata(struct arena *a, struct str stored, const struct json *patch,
                           struct str *out)
{
    const struct json *old;
    struct err err;
    if (!patch || json_parse(a, stored, 0, &old, &err))
        return false;
    bool changed = false;
    AUTO_BUF struct buf b = BUF_INIT(1 << 20);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    json_for_each (m, old) {
        const struct json *now = NULL;
        json_for_each (p, patch)
            now = str_eq(p->key, m->key) ? p : now;
        if (!now || json_is(now, JSON_STRING)) {
            jw_key_str(&w, m->key);
            jw_str(&w, now ? now->str : m->str);
        }
        changed = changed || (now && (!json_is(now, JSON_STRING) || !str_eq(now->str, m->str)));
    }
    json_for_each (p, patch) {
        bool known = false;
        json_for_each (m, old)
            known = known || str_eq(p->key, m->key);
        if (known || !json_is(p, JSON_STRING))
            continue;
        jw_key_str(&w, p->key);
        jw_str(&w, p->str);
        changed = true;
    }
    jw_obj_end(&w);
    *out = arena_str(a, buf_view(&b));
    return changed && buf_ok(&b);
}

static bool refuse_detail(struct mail *m, const char *at, const char *detail, const char *why)
{
    struct err err;
    err_at(&err, ERR_INVALID, at, "%s: %s", at + 1, why);
    err.detail = detail;
    op_answer(m, NULL, &err);
    return false;
}

static void change_title(struct actor *a, const struct engine_change *ch, struct turn_update *u)
{
    struct commit *c = &a->commit;
    if (!ch->title)
        return;
    struct str now = json_is(ch->title, JSON_STRING) ? ch->title->str : STR_NONE;
    if (str_some(now) == str_some(a->row.title) && str_eq(now, a->row.title))
        return;
    c->row.title = str_some(now) ? arena_str(&c->arena, now) : STR_NONE;
    u->title = arena_str(&c->arena, ch->title->raw);
}

static void change_metadata(struct actor *a, const struct engine_change *ch, struct turn_update *u)
{
    struct commit *c = &a->commit;
    struct str merged;
    if (json_is(ch->metadata, JSON_OBJECT) &&
        merge_metadata(&c->arena, a->row.metadata, ch->metadata, &merged))
        c->row.metadata = u->metadata = merged;
}

static bool same_or_both_absent(struct str a, struct str b)
{
    return str_some(a) == str_some(b) && str_eq(a, b);
}

static void change_caps(struct actor *a, const struct engine_change *ch, struct turn_update *u)
{
    struct commit *c = &a->commit;
    if (ch->set_budget && ch->budget_microusd != a->row.budget_microusd) {
        AUTO_BUF struct buf b = BUF_INIT(256);
        struct jw w = jw_to(&b);
        usage_budget_write(&w, ch->budget_microusd);
        u->budget = arena_str(&c->arena, buf_view(&b));
        c->row.budget_microusd = ch->budget_microusd;
    }
    if (ch->set_limits && !same_or_both_absent(ch->limits, a->row.limits)) {
        c->row.limits = str_some(ch->limits) ? arena_str(&c->arena, ch->limits) : STR_NONE;
        u->limits = str_some(ch->limits) ? c->row.limits : STR("null");
    }
}

/* Before anything is changed: why the budget cannot be what is asked for. */
static const char *budget_refused(const struct actor *a, const struct engine_change *ch)
{
    const struct turn *t = &a->turn;
    if (!ch->set_budget || ch->budget_microusd == t->caps.budget_microusd)
        return NULL;
    return budget_change_refused(&t->caps, &t->usage, &t->facts, ch->budget_microusd);
}

/* A request that runs, or was lost with its process, may cost what was set aside for it: a budget
 * below that could be passed. */
static bool below_promised(const struct actor *a, const struct engine_change *ch)
{
    const struct turn *t = &a->turn;
    int64_t promised = t->usage.cost_microusd + t->usage.held_microusd;
    if (turn_phase(t) == TURN_MODEL)
        promised += t->request.reserved_microusd;
    return ch->set_budget && ch->budget_microusd && ch->budget_microusd < t->caps.budget_microusd &&
           ch->budget_microusd < promised;
}

static const char *say_budget(const char *reason)
{
    if (strcmp(reason, "budget_create_only") == 0)
        return "a budget can only be set when the session is created; `limits` can be set at any "
               "time";
    if (strcmp(reason, "budget_not_raised") == 0)
        return "the new budget must be more than what the session has cost so far";
    return "the session's model has no list price, so that no budget can be kept";
}

/* The new snapshot goes into force at once: if its commit fails, the session is let go of. */
static int change_agent(struct actor *a, const struct engine_change *ch, struct turn_update *u,
                        struct err *err)
{
    struct commit *c = &a->commit;
    struct str next;
    int rc = ch->agent(ch, &c->arena, a->row.agent, &next, err);
    if (rc || str_eq(next, a->row.agent))
        return rc;
    struct str kept = arena_str(&a->row_arena, next);
    struct agent agent;
    rc = actor_read_agent(a, kept, &agent, err);
    if (rc)
        return rc;
    u->agent = c->row.agent = kept;
    u->agent_before = a->row.agent;
    a->agent = agent;
    turn_set_agent(&a->turn, &a->agent);
    actor_learn_facts(a);
    return 0;
}

static bool apply_update(struct actor *a, struct mail *m)
{
    struct commit *c = &a->commit;
    const struct engine_change *ch = m->change;
    struct turn_update u = {0};
    struct err err;
    if (turn_phase(&a->turn) == TURN_DEAD)
        return refuse(m, ERR_INVALID, "The session is archived and can no longer be changed.");
    if (ch->agent && turn_phase(&a->turn) != TURN_IDLE)
        return refuse_detail(m, "/agent", NULL,
                             "tools and MCP servers can be changed only while the session is idle: "
                             "send user.interrupt, or wait");
    const char *reason = budget_refused(a, ch);
    if (reason)
        return refuse_detail(m, "/budget", reason, say_budget(reason));
    if (below_promised(a, ch))
        return refuse_detail(m, "/budget", "budget_not_raised",
                             "requests that run, or whose end was not seen, may cost more than "
                             "that; try again when the session is idle, or choose a higher one");
    c->row = a->row;
    if (ch->agent && change_agent(a, ch, &u, &err)) {
        op_answer(m, NULL, &err);
        return false;
    }
    change_title(a, ch, &u);
    change_metadata(a, ch, &u);
    change_caps(a, ch, &u);
    if (!str_some(u.title) && !str_some(u.metadata) && !str_some(u.agent) && !str_some(u.budget) &&
        !str_some(u.limits)) {
        op_answer(m, &a->row, &(struct err){0});
        return false;
    }
    turn_session_updated(&a->turn, &c->step, &u);
    c->row.updated_us = c->step.now_us;
    c->update_row = true;
    c->op = m;
    return true;
}

/* ---- archive and delete ---- */

static bool apply_archive(struct actor *a, struct mail *m)
{
    struct commit *c = &a->commit;
    if (a->row.archived_us) {
        op_answer(m, &a->row, &(struct err){0});
        return false;
    }
    enum turn_phase p = turn_phase(&a->turn);
    if (p != TURN_IDLE && p != TURN_DEAD)
        return refuse(m, ERR_INVALID,
                      "The session is running. Send a user.interrupt event, wait until it is idle, "
                      "then archive it.");
    if (p == TURN_IDLE)
        turn_terminate(&a->turn, &c->step);
    c->row = a->row;
    c->row.archived_us = c->row.updated_us = c->step.now_us;
    c->update_row = true;
    c->op = m;
    return true;
}

static bool apply_delete(struct actor *a, struct mail *m)
{
    struct commit *c = &a->commit;
    enum turn_phase p = turn_phase(&a->turn);
    if (p != TURN_IDLE && p != TURN_DEAD)
        return refuse(m, ERR_INVALID,
                      "The session is running. Send a user.interrupt event, wait until it is idle, "
                      "then delete it.");
    turn_deleted(&a->turn, &c->step);
    c->delete_row = true;
    c->op = m;
    return true;
}

/* Nobody reads the log of one that is over. */
static bool apply_notice(struct actor *a, struct mail *m)
{
    struct commit *c = &a->commit;
    if (turn_phase(&a->turn) == TURN_DEAD) {
        op_answer(m, &a->row, &(struct err){0});
        return false;
    }
    turn_notice(&a->turn, &c->step, &m->notice);
    c->op = m;
    return true;
}

bool op_apply(struct actor *a, struct mail *m)
{
    if (m->op_kind == OP_NOTICE)
        return apply_notice(a, m);
    if (!str_eq(id_str(&m->workspace_id), id_str(&a->row.workspace_id)))
        return refuse(m, ERR_NOT_FOUND, "Session not found.");
    switch (m->op_kind) {
    case OP_UPDATE: return apply_update(a, m);
    case OP_ARCHIVE: return apply_archive(a, m);
    case OP_DELETE: return apply_delete(a, m);
    case OP_NOTICE: break;
    }
    return false;
}

/* ---- entry points ---- */

static void post_op(struct engine *e, struct str ws, struct str id, struct mail *m)
{
    static const struct err closing = {.code = ERR_UNAVAILABLE,
                                       .msg = "the server is shutting down"};
    m->workspace_id = id_from(ws);
    if (e->closing)
        op_answer(m, NULL, &closing);
    else
        actor_post(actor_get(e, id, false), m);
}

static struct mail *new_op(enum op_kind kind, struct engine_op *op)
{
    struct mail *m = mail_new(MAIL_OP);
    m->op_kind = kind;
    m->op = op;
    return m;
}

void engine_session_update(struct engine *e, struct str ws, struct str id,
                           const struct engine_change *change, struct engine_op *op)
{
    struct mail *m = new_op(OP_UPDATE, op);
    m->change = change;
    post_op(e, ws, id, m);
}

/* Whoever is loading may have read the row as it was before. */
void engine_session_provisioned(struct engine *e, struct str id, struct str provision)
{
    struct actor *a = map_get(&e->actors, id);
    if (!a)
        return; /* read when it is loaded */
    mem_free(a->provision);
    a->provision = str_some(provision) ? mem_dupz(provision.ptr, provision.len) : NULL;
}

static void keep_notice(struct mail *m, const struct sandbox_notice *notice)
{
    m->notice = *notice;
    m->notice.message = arena_str(&m->arena, notice->message);
    if (str_some(notice->repository_url))
        m->notice.repository_url = arena_str(&m->arena, notice->repository_url);
}

void engine_session_notice(struct engine *e, struct str id, const struct sandbox_notice *notice,
                           struct engine_op *op)
{
    struct mail *m = new_op(OP_NOTICE, op);
    keep_notice(m, notice);
    post_op(e, STR(""), id, m);
}

void engine_sandbox_notice(struct engine *e, struct str id, const struct sandbox_notice *notice)
{
    if (e->closing)
        return;
    struct mail *m = mail_new(MAIL_NOTICE);
    keep_notice(m, notice);
    actor_post(actor_get(e, id, false), m);
}

void engine_session_archive(struct engine *e, struct str ws, struct str id, struct engine_op *op)
{
    post_op(e, ws, id, new_op(OP_ARCHIVE, op));
}

void engine_session_delete(struct engine *e, struct str ws, struct str id, struct engine_op *op)
{
    post_op(e, ws, id, new_op(OP_DELETE, op));
}
