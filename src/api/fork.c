/* POST /v1/sessions/{id}/fork: a new session with the conversation and the files of another one as
 * of an event of its log.
 *
 *     read: the session, the point      a checkpoint is due there: wait, read again
 *           fold the log up to it, close what is open
 *     write: everything in one transaction
 */
#include "api/fork.h"
#include "api/handlers.h"
#include "api/session_call.h"
#include "api/session_json.h"
#include "api/work_impl.h"

#include "base/clock.h"
#include "base/limits.h"
#include "json/decode.h"
#include "store/checkpoints.h"
#include "store/fork.h"
#include "store/work.h"

struct fork_call {
    struct call *call;
    struct str event_id; /* absent: the newest */
    bool has_title, has_agent;
    struct str title;
    struct session_agent agent; /* with has_agent */
    struct fork_plan plan;
    struct err refusal; /* said in the transaction, behind a repeated key's answer; code 0: none */
    struct session_row row;
    struct resource_made *made;
    size_t nmade;
    bool due; /* the files as of the point are being kept right now */
    int64_t wait_until_us;
    struct loop_timer timer;
};

/* ---- decoding ---- */

struct fork_in {
    const struct json *event, *title, *agent;
};

#define IN(member, name, ...) JSON_FIELD_ANY(struct fork_in, member, name, __VA_ARGS__)
static const struct json_field fork_fields[] = {
    IN(event, "event_id", .type = JSON_STRING, .nullable = true, .min = 1, .max = 64),
    IN(title, "title", .type = JSON_STRING, .nullable = true, .max = LIMIT_TITLE_CHARS),
    IN(agent, "agent"), JSON_FIELD_END};

static int decode(struct call *c, struct fork_call *s, struct err *err)
{
    struct fork_in in;
    if (!c->doc) /* an empty body asks for nothing special */
        return 0;
    int rc = json_decode(c->doc, fork_fields, &in, sizeof in, "", err);
    if (rc)
        return rc;
    if (json_is(in.event, JSON_STRING))
        s->event_id = in.event->str;
    s->has_title = in.title != NULL;
    if (json_is(in.title, JSON_STRING))
        s->title = in.title->str;
    s->has_agent = in.agent && in.agent->type != JSON_NULL;
    return s->has_agent ? session_agent_decode(c, in.agent, &s->agent, err) : 0;
}

/* ---- what the other session was ---- */

static int find_point(struct store_tx *tx, struct fork_call *s, struct err *err)
{
    struct fork_plan *p = &s->plan;
    if (!str_some(s->event_id)) {
        p->point = p->from.last_seq;
        return tx_fork_event(tx, p->from.key, p->point, &p->point_id, err);
    }
    int rc = ERR_NOT_FOUND;
    if (id_valid(s->event_id, "sevt"))
        rc = tx_event_seq(tx, p->from.key, s->event_id, &p->point, err);
    if (rc == ERR_NOT_FOUND)
        return json_fail(err, "", "event_id",
                         "No event '" STR_FMT "' in this session's log; events that are still "
                         "queued are not part of it",
                         STR_ARG(str_utf8_take(s->event_id, 64)));
    if (rc == 0)
        p->point_id = id_from(s->event_id);
    return rc;
}

static int plan(struct store_tx *tx, struct call *c, struct fork_call *s, struct err *err)
{
    struct fork_plan *p = &s->plan;
    *p = (struct fork_plan){.point = 0};
    int rc = session_find(tx, c, &p->from, err);
    if (!rc)
        rc = find_point(tx, s, err);
    if (rc)
        return rc;
    s->due = p->from.checkpoint_due && p->from.checkpoint_due <= p->point &&
             clock_mono_us() < s->wait_until_us;
    return s->due ? 0 : fork_plan_make(tx, c, p, &s->row, err);
}

static int plan_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct fork_call *s = c->state;
    s->refusal.code = 0;
    int rc = plan(tx, c, s, err);
    if (rc != ERR_NOT_FOUND && rc != ERR_INVALID)
        return rc;
    s->refusal = *err;
    return 0;
}

/* ---- the transaction ---- */

static int resolve_agent(struct store_tx *tx, struct call *c, struct fork_call *s, struct err *err)
{
    if (!s->has_agent)
        return 0;
    int rc = session_agent_resolve(tx, c, &s->agent, &s->row, err);
    if (rc)
        return rc;
    rc = session_agent_check_caps(c, &s->row, err);
    if (rc) /* it is the agent that does not go with what the session has */
        str_copyz(err->at, sizeof err->at, STR("/agent"));
    return rc;
}

static void fill_row(struct fork_call *s, const struct session_row *from)
{
    const struct fork_plan *p = &s->plan;
    struct session_row *r = &s->row;
    r->agent_id = from->agent_id;
    r->agent_version = from->agent_version;
    r->agent = p->agent;
    r->environment_id = from->environment_id;
    r->environment = from->environment;
    r->title = s->has_title ? s->title : from->title;
    r->metadata = from->metadata;
    r->limits = p->limits;
    r->budget_microusd = p->budget_microusd;
    r->stop_reason = p->stop_reason;
    r->usage = p->usage;
    r->outcomes = p->outcomes;
    r->status = SESSION_IDLE;
    r->has_sandbox = from->has_sandbox && p->tools_used;
    r->last_seq = p->cut;
    r->last_processed_us = p->cut_us;
}

static int append_closing(struct store_tx *tx, struct fork_call *s, struct err *err)
{
    struct session_append ap = {.key = s->row.key,
                                .epoch = s->row.epoch,
                                .base_seq = s->plan.cut,
                                .events = s->plan.closing,
                                .nevents = s->plan.nclosing,
                                .set_sandbox = s->row.has_sandbox};
    int rc = tx_session_append(tx, &ap, err);
    s->row.last_seq = s->plan.cut + (int64_t)s->plan.nclosing;
    s->row.last_processed_us = s->plan.last_us;
    return rc;
}

/* The session, and the event whose files it begins with. */
static int note_origin(struct store_tx *tx, struct call *c, struct fork_call *s,
                       const struct id *files, struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT(1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kstr(&w, "session_id", c->id[0]);
    jw_kstr(&w, "event_id", s->plan.point_id.z[0] ? id_str(&s->plan.point_id) : STR_NONE);
    jw_kstr(&w, "files_as_of", files->z[0] ? id_str(files) : STR_NONE);
    jw_obj_end(&w);
    s->row.forked_from = arena_str(&c->arena, buf_view(&b));
    return tx_fork_origin(tx, s->row.key, s->row.forked_from, err);
}

static int copy_files(struct store_tx *tx, struct call *c, struct fork_call *s,
                      const struct session_row *from, struct id *files, struct err *err)
{
    struct checkpoint_row checkpoint;
    *files = (struct id){""};
    int rc = tx_checkpoint_copy(tx, from->key, s->row.key, s->plan.cut, err);
    if (rc)
        return rc;
    rc = tx_checkpoint_at(tx, id_str(&s->row.id), 0, &c->arena, &checkpoint, err);
    if (rc)
        return rc == ERR_NOT_FOUND ? 0 : rc;
    s->row.has_sandbox = true;
    return tx_fork_event(tx, from->key, checkpoint.seq, files, err);
}

static int insert(struct store_tx *tx, struct call *c, struct fork_call *s,
                  const struct session_row *from, struct err *err)
{
    struct id files;
    int rc = tx_session_insert(tx, &s->row, err);
    const struct fork_copy log = {.from_key = from->key,
                                  .to_key = s->row.key,
                                  .seq = s->plan.cut,
                                  .from_thread = from->thread_id,
                                  .to_thread = s->row.thread_id};
    if (!rc)
        rc = tx_fork_log(tx, &log, err);
    if (!rc)
        rc = copy_files(tx, c, s, from, &files, err);
    if (!rc)
        rc = append_closing(tx, s, err);
    if (!rc)
        rc = note_origin(tx, c, s, &files, err);
    if (!rc)
        rc = resources_insert(tx, c, s->row.key, s->made, s->nmade, err);
    if (!rc && s->has_agent)
        rc = skill_refs_hold(tx, s->row.key, &s->agent.skills, err);
    if (!rc && session_self_hosted(&s->row))
        rc = tx_work_ensure(tx, s->row.key, s->row.created_us, NULL, err);
    return rc;
}

static int fork_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct fork_call *s = c->state;
    struct session_row from; /* as it is now: what is attached to it may have changed */
    if (s->refusal.code) {
        *err = s->refusal;
        return err->code;
    }
    int rc = session_find(tx, c, &from, err);
    if (rc)
        return rc;
    fill_row(s, &from);
    rc = resolve_agent(tx, c, s, err);
    if (!rc)
        rc = fork_resources(tx, c, &from, s->has_agent ? &s->agent : NULL, &s->row, &s->made,
                            &s->nmade, err);
    return rc ? rc : insert(tx, c, s, &from, err);
}

static void write_answer(struct call *c, struct buf *out)
{
    const struct fork_call *s = c->state;
    struct jw w = jw_to(out);
    session_write(&w, &s->row, s->row.created_us);
}

/* ---- the way ---- */

static void planned(struct call *c);

static void timer_closed(struct loop_timer *t)
{
    struct fork_call *s = CONTAINER_OF(t, struct fork_call, timer);
    struct call *c = s->call;
    if (c->req) /* else the client is gone, and nothing was done yet */
        call_read(c, plan_step, planned);
    call_unref(c);
}

static void look_again(struct loop_timer *t)
{
    loop_timer_close(t, timer_closed);
}

static void forked(struct call *c)
{
    const struct fork_call *s = c->state;
    if (session_self_hosted(&s->row))
        work_wake(c->api, id_str(&s->row.environment_id));
}

static void planned(struct call *c)
{
    static const struct call_creation how = {fork_step, write_answer, forked, NULL, NULL};
    struct fork_call *s = c->state;
    if (!c->req)
        return;
    if (!s->due || s->refusal.code) {
        call_create(c, &how);
        return;
    }
    call_ref(c);
    loop_timer_init(c->api->cfg.loop, &s->timer);
    loop_timer_start(&s->timer, LIMIT_FORK_LOOK_MS, look_again);
}

void sessions_fork(struct call *c)
{
    struct fork_call *s = call_state(c, sizeof *s);
    struct err err;
    if (!s)
        return;
    if (decode(c, s, &err)) {
        call_fail(c, &err);
        return;
    }
    s->call = c;
    s->wait_until_us = clock_mono_us() + LIMIT_FORK_WAIT_MS * 1000;
    session_begin(c, &s->row);
    call_read(c, plan_step, planned);
}
