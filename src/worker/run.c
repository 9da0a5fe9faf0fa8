/* One call of a tool: noted on disk, run in the session's sandbox, its result sent until the server
 * has it. */
#include "worker/impl.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/rand.h"
#include "json/writer.h"

#include <inttypes.h>
#include <stdio.h>

enum { BODY_MAX = LIMIT_HAND_FRAME * 2 };

static void post(struct run *r);

struct run *run_find(struct item *it, struct str id)
{
    list_for_each (n, &it->runs) {
        struct run *r = LIST_ENTRY(n, struct run, node);
        if (str_eq(id_str(&r->id), id))
            return r;
    }
    return NULL;
}

/* ---- life ---- */

static void timer_closed(struct loop_timer *t)
{
    struct run *r = CONTAINER_OF(t, struct run, timer);
    struct worker *w = r->w;
    mem_free(r->name);
    mem_free(r->input);
    buf_fini(&r->body);
    mem_free(r);
    worker_handle_closed(w);
}

void run_free(struct run *r)
{
    list_remove(&r->node);
    wire_call_fini(&r->post);
    r->w->open++;
    loop_timer_close(&r->timer, timer_closed);
}

void run_orphan(struct run *r, bool stop)
{
    struct worker *w = r->w;
    r->item = NULL;
    wire_cancel(&r->post);
    loop_timer_stop(&r->timer);
    if (!r->given) {
        run_free(r);
        return;
    }
    list_remove(&r->node);
    list_push(&w->orphans, &r->node);
    if (stop)
        w->port.cancel(w->port.self, id_str(&r->session), id_str(&r->id));
}

/* Somebody has its result: the hand may forget it. */
static void settle(struct run *r)
{
    struct item *it = r->item;
    struct worker *w = r->w;
    w->port.ack(w->port.self, id_str(&r->session), id_str(&r->id));
    plan_answered(&it->plan, id_str(&r->id));
    run_free(r);
    item_look(it);
}

/* ---- the result ---- */

static void compose(struct run *r, const struct tool_outcome *o)
{
    AUTO_BUF struct buf text = BUF_INIT(BODY_MAX);
    buf_str(&text, o->content);
    if (o->failure_reason)
        buf_printf(&text, "%s[failure: %s]", text.len ? "\n" : "", o->failure_reason);
    if (!text.len)
        buf_z(&text, "(no output)");
    struct jw w = jw_to(&r->body);
    buf_clear(&r->body);
    jw_obj(&w);
    jw_key(&w, "events");
    jw_arr(&w);
    jw_obj(&w);
    jw_kz(&w, "type", "user.tool_result");
    jw_kz(&w, "tool_use_id", r->id.z);
    jw_kbool(&w, "is_error", o->is_error);
    jw_key(&w, "content");
    jw_arr(&w);
    jw_obj(&w);
    jw_kz(&w, "type", "text");
    jw_kstr(&w, "text", buf_view(&text));
    jw_obj_end(&w);
    jw_arr_end(&w);
    jw_obj_end(&w);
    jw_arr_end(&w);
    jw_obj_end(&w);
}

static void log_ran(const struct run *r, const struct tool_outcome *o)
{
    char ms[32];
    snprintf(ms, sizeof ms, "%" PRId64, loop_now_ms(r->w->loop) - r->began_ms);
    log_line(LOG_INFO, "a call ran", "session", r->session.z, "call", r->id.z, "tool", r->name,
             "ms", ms, "outcome",
             o->failure_reason ? o->failure_reason
             : o->is_error     ? "error"
                               : "ok",
             NULL);
}

static void try_post(struct loop_timer *t)
{
    post(CONTAINER_OF(t, struct run, timer));
}

static void posted(struct wire_call *c, const struct err *err)
{
    struct run *r = CONTAINER_OF(c, struct run, post);
    if (!err->code) {
        settle(r);
        return;
    }
    /* Its token is over, and no heartbeat has said so yet: who gets the session next may be this
     * worker, which then has the result without running the call again. */
    if (c->status == 401) {
        item_disowned(r->item, err->msg);
        return;
    }
    /* Refused: somebody else has answered, or the session is over. A conflict may be one in time.
     */
    if (wire_is_final(c) || (c->status == 409 && ++r->conflicts == CONFLICT_TRIES)) {
        log_line(LOG_WARN, "a result was refused", "session", r->session.z, "call", r->id.z,
                 "error", err->msg, NULL);
        settle(r);
        return;
    }
    if (!r->tries)
        log_line(LOG_WARN, "a result could not be sent; trying again", "session", r->session.z,
                 "call", r->id.z, "error", err->msg, NULL);
    loop_timer_start(&r->timer, wire_backoff(r->tries++, TRY_MIN_MS, TRY_MAX_MS), try_post);
}

static void post(struct run *r)
{
    /* Not ours any more, as far as can be known: the lease's own timer ends it. */
    if (!lease_holds(&r->item->lease)) {
        loop_timer_start(&r->timer, TRY_MIN_MS, try_post);
        return;
    }
    AUTO_BUF struct buf path = BUF_INIT(4096);
    buf_z(&path, "/v1/sessions/");
    http_encode(&path, id_str(&r->session));
    buf_z(&path, "/events");
    const struct wire_request req = {
        .method = "POST",
        .path = buf_view(&path),
        .body = buf_view(&r->body),
        .idempotency_key = r->nonce,
    };
    wire_send(&r->post, &req, posted);
}

static void deliver(struct run *r, const struct tool_outcome *o)
{
    compose(r, o);
    if (!buf_ok(&r->body)) {
        const struct tool_outcome short_one = {
            .content = STR("The result is too large to be sent."), .is_error = true};
        buf_fini(&r->body);
        buf_init(&r->body, BODY_MAX);
        compose(r, &short_one);
    }
    post(r);
}

static void ran(void *arg, const struct tool_outcome *o)
{
    struct run *r = arg;
    r->given = false;
    if (!r->item) {
        struct worker *w = r->w;
        run_free(r);
        worker_poll_soon(w); /* its session may be served again */
        return;
    }
    log_ran(r, o);
    if (r->unasked)
        settle(r);
    else
        deliver(r, o);
}

/* ---- running ---- */

static void give(struct run *r)
{
    struct worker *w = r->w;
    const struct tool_call call = {
        .session_id = id_str(&r->session),
        .tool_use_id = id_str(&r->id),
        .name = str_z(r->name),
        .input = str_n(r->input, r->input_len),
        .environment = str_z(w->environment_config),
        .provision = worker_skills_json(&r->item->skills),
        .first_dispatch = !r->again,
        .sandbox_existed = r->again,
    };
    r->given = true;
    r->began_ms = loop_now_ms(w->loop);
    w->port.run(w->port.self, &call, ran, r);
}

void run_noted(struct run *r, const struct err *err)
{
    r->noted = true;
    if (r->unasked) {
        settle(r);
    } else if (err->code) {
        char text[ERR_MSG_MAX + 200];
        snprintf(text, sizeof text,
                 "The worker could not write to its disk (%s), so the tool was not run.", err->msg);
        const struct tool_outcome o = {.content = str_z(text), .is_error = true};
        log_line(LOG_ERROR, "a call cannot be noted and is not run", "session", r->session.z,
                 "error", err->msg, NULL);
        deliver(r, &o);
    } else {
        give(r);
    }
}

void run_new(struct item *it, const struct plan_call *call)
{
    struct run *r = mem_zalloc(sizeof *r);
    struct worker *w = it->w;
    r->w = w;
    r->item = it;
    r->session = it->session;
    r->id = call->id;
    r->name = mem_dupz(call->name, strlen(call->name));
    r->input = mem_dupz(call->input, call->input_len);
    r->input_len = call->input_len;
    snprintf(r->nonce, sizeof r->nonce, "worker-%016" PRIx64 "%016" PRIx64, rand_u64(), rand_u64());
    buf_init(&r->body, BODY_MAX);
    wire_call_init(&r->post, &w->wire, it->token);
    loop_timer_init(w->loop, &r->timer);
    list_push(&it->runs, &r->node);
    r->again = keep_knows(&it->notes, id_str(&r->id));
    if (r->again) {
        r->noted = true;
        give(r);
    } else {
        r->note = keep_add(&it->notes, id_str(&r->id));
    }
}

void run_cancel(struct run *r)
{
    if (r->given)
        r->w->port.cancel(r->w->port.self, id_str(&r->session), id_str(&r->id));
}

void run_unask(struct run *r)
{
    r->unasked = true;
    run_cancel(r);
    if (r->given || !r->noted)
        return;
    wire_cancel(&r->post); /* it was being sent */
    settle(r);
}
