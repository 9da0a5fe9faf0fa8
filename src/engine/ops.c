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

static bool apply_update(struct actor *a, struct mail *m)
{
    struct commit *c = &a->commit;
    if (turn_phase(&a->turn) == TURN_DEAD)
        return refuse(m, ERR_INVALID, "The session is archived and can no longer be changed.");
    c->row = a->row;
    struct str title = STR_NONE, metadata = STR_NONE;
    if (m->change->title) {
        struct str now = json_is(m->change->title, JSON_STRING) ? m->change->title->str : STR_NONE;
        bool same = str_some(now) == str_some(a->row.title) && str_eq(now, a->row.title);
        if (!same) {
            c->row.title = str_some(now) ? arena_str(&c->arena, now) : STR_NONE;
            title = arena_str(&c->arena, m->change->title->raw);
        }
    }
    if (json_is(m->change->metadata, JSON_OBJECT) &&
        merge_metadata(&c->arena, a->row.metadata, m->change->metadata, &metadata))
        c->row.metadata = metadata;
    else
        metadata = STR_NONE;
    if (!str_some(title) && !str_some(metadata)) {
        op_answer(m, &a->row, &(struct err){0});
        return false;
    }
    turn_session_updated(&a->turn, &c->step, title, metadata);
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

bool op_apply(struct actor *a, struct mail *m)
{
    if (!str_eq(id_str(&m->workspace_id), id_str(&a->row.workspace_id)))
        return refuse(m, ERR_NOT_FOUND, "Session not found.");
    switch (m->op_kind) {
    case OP_UPDATE: return apply_update(a, m);
    case OP_ARCHIVE: return apply_archive(a, m);
    case OP_DELETE: return apply_delete(a, m);
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

void engine_session_archive(struct engine *e, struct str ws, struct str id, struct engine_op *op)
{
    post_op(e, ws, id, new_op(OP_ARCHIVE, op));
}

void engine_session_delete(struct engine *e, struct str ws, struct str id, struct engine_op *op)
{
    post_op(e, ws, id, new_op(OP_DELETE, op));
}
