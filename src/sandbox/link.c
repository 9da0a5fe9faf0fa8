/* The conversation with a hand: hello, runs, results, acknowledgements. */
#include "sandbox/box.h"

#include "hand/proto.h"

#include <stdio.h>

/* ---- out ---- */

static int send_buf(struct box *b, const struct buf *out, struct err *err)
{
    if (!b->conn)
        return err_set(err, ERR_UNAVAILABLE, "no connection");
    if (!buf_ok(out))
        return err_set(err, ERR_TOO_LARGE, "the call does not fit a frame");
    return frame_send(b->conn, buf_view(out), err);
}

void box_send_op(struct box *b, const char *op, const char *id, const char *reason,
                 const char *message)
{
    AUTO_BUF struct buf out = BUF_INIT(16384);
    struct jw w = jw_to(&out);
    jw_obj(&w);
    jw_kz(&w, "op", op);
    if (id)
        jw_kz(&w, "id", id);
    if (reason)
        jw_kz(&w, "reason", reason);
    if (message)
        jw_kz(&w, "message", message);
    jw_obj_end(&w);
    jw_done(&w);
    struct err err;
    /* What these say is not needed where it cannot be sent: the connection's end comes next. */
    if (send_buf(b, &out, &err) != 0)
        return;
}

/* May a call that an earlier server had dispatched be given to this hand? Giving is safe: the hand
 * runs no id twice. But where the session has had another hand before, that one may have run it. */
static bool hand_would_know(const struct box *b, const struct box_call *c)
{
    return c->first || !c->existed || c->sent || (b->adopted && b->record.generation == 1);
}

static void send_call(struct box *b, struct box_call *c)
{
    AUTO_BUF struct buf out = BUF_INIT(LIMIT_HAND_FRAME);
    struct err err;
    c->asked = true;
    if (!hand_would_know(b, c)) {
        box_send_op(b, "query", c->id.z, NULL, NULL);
        return;
    }
    proto_write_run(&out, id_str(&c->id), str_z(c->name), str_n(c->input, c->input_len),
                    LIMIT_TOOL_MS);
    if (send_buf(b, &out, &err) == 0) {
        c->sent = true;
    } else if (!c->sent) {
        char text[BOX_TEXT_MAX];
        snprintf(text, sizeof text, "%s: the call was not run: %s", c->name, err.msg);
        box_finish(b, c, str_z(text), true, NULL);
    }
}

void box_send_waiting(struct box *b)
{
    list_for_each_safe (it, &b->calls) {
        struct box_call *c = LIST_ENTRY(it, struct box_call, node);
        if (!c->asked && b->conn)
            send_call(b, c);
    }
    watch_update(b);
}

/* ---- in ---- */

static struct box_call *asked_call(struct box *b, struct str id)
{
    list_for_each (it, &b->calls) {
        struct box_call *c = LIST_ENTRY(it, struct box_call, node);
        if (c->asked && str_eq(id_str(&c->id), id))
            return c;
    }
    return NULL;
}

/* Reasons are constants for whoever gets them. */
static const char *known_reason(struct str s)
{
    static const char *const all[] = {"timeout", "pids", "out_of_memory", "disk", "cancelled"};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        if (str_eqz(s, all[i]))
            return all[i];
    return NULL;
}

/* What was restored, and what provisioning had to say, goes before the first result. */
static void finish_noted(struct box *b, struct box_call *c, struct str content, bool is_error,
                         const char *reason)
{
    if (!b->note.len && !b->files.note.len) {
        box_finish(b, c, content, is_error, reason);
        return;
    }
    /* Once; a result that cannot take it goes as it is. */
    AUTO_BUF struct buf both = BUF_INIT(LIMIT_HAND_FRAME);
    buf_str(&both, buf_view(&b->files.note));
    buf_str(&both, buf_view(&b->note));
    buf_str(&both, content);
    b->files.told = b->files.noted;
    buf_clear(&b->files.note);
    buf_clear(&b->note);
    box_finish(b, c, buf_ok(&both) ? buf_view(&both) : content, is_error, reason);
}

/* After a call has ended: what it wrote into a directory that is gone is gone as well, and so would
 * be what the next one writes. */
static void look_after(struct box *b)
{
    if (sm_state(&b->sm) == BOX_UP && files_are_gone(b))
        box_lost(b, "sandbox_lost");
}

/* A call that failed for no reason that is known yet: was it kept from the network? */
static void finish_failed(struct box *b, struct box_call *c, struct str content)
{
    AUTO_BUF struct buf text = BUF_INIT(LIMIT_HAND_FRAME);
    buf_str(&text, content);
    const char *reason = net_explain(b, &c->id, &text);
    finish_noted(b, c, reason && buf_ok(&text) ? buf_view(&text) : content, true, reason);
    look_after(b);
    if (sm_state(&b->sm) == BOX_UP)
        watch_update(b);
}

static void on_result(struct box *b, struct box_call *c, const struct json *doc)
{
    struct str content = json_get_str(doc, "content");
    bool is_error = json_is_true(json_get(doc, "is_error"));
    const char *reason = known_reason(json_get_str(doc, "reason"));
    AUTO_BUF struct buf text = BUF_INIT(LIMIT_HAND_FRAME);
    b->redials = 0;
    if (is_error && !reason) {
        buf_str(&text, content);
        reason = watch_explain(b, &text);
        if (reason && buf_ok(&text))
            content = buf_view(&text);
    }
    if (!is_error || reason) {
        finish_noted(b, c, content, is_error, reason);
        look_after(b);
    } else if (!net_settle(b, c, content, finish_failed))
        finish_failed(b, c, content);
}

static void on_state(struct box *b, struct box_call *c, struct str state)
{
    if (str_eqz(state, "queued"))
        c->sent = true;
    else /* unknown to this hand, or acknowledged by somebody who did not wait for it */
        box_finish_lost(b, c, "sandbox_lost");
}

static void on_started(struct box *b, struct box_call *c, const struct json *doc)
{
    int64_t timeout_ms = LIMIT_TOOL_MS;
    (void)json_i64(json_get(doc, "timeout_ms"), &timeout_ms);
    c->sent = true;
    if (str_eqz(str_z(c->name), "bash")) /* the file tools have no business with the network */
        net_call_began(b, &c->id);
    c->deadline_ms = loop_now_ms(b->s->loop) + timeout_ms + BOX_GRACE_MS;
}

static void on_refused(struct box *b, struct box_call *c, struct str message)
{
    char text[BOX_TEXT_MAX];
    snprintf(text, sizeof text, "%s: the sandbox did not run the call: " STR_FMT, c->name,
             STR_ARG(str_utf8_take(message, 512)));
    box_finish(b, c, str_z(text), true, NULL);
}

static void on_message(struct box *b, const struct json *doc)
{
    struct str op = json_get_str(doc, "op");
    struct box_call *c = asked_call(b, json_get_str(doc, "id"));
    b->last_pong_ms = loop_now_ms(b->s->loop);
    if (str_eqz(op, "hello")) {
        if (sm_state(&b->sm) == BOX_STARTING || sm_state(&b->sm) == BOX_DIALING)
            box_up(b);
    } else if (!c) {
        return; /* pong, or about a call that nobody waits for */
    } else if (str_eqz(op, "result")) {
        on_result(b, c, doc);
    } else if (str_eqz(op, "started")) {
        on_started(b, c, doc);
    } else if (str_eqz(op, "state")) {
        on_state(b, c, json_get_str(doc, "state"));
    } else if (str_eqz(op, "refused")) {
        on_refused(b, c, json_get_str(doc, "message"));
    }
}

static void on_frame(void *arg, struct str payload)
{
    struct box *b = arg;
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *doc;
    struct err err;
    /* What is in the sandbox may have got hold of the hand: its words are checked like anybody's.
     */
    if (json_parse(&a, payload, 0, &doc, &err) != 0 || doc->type != JSON_OBJECT) {
        box_lost(b, "sandbox_lost");
        return;
    }
    on_message(b, doc);
    if (sm_state(&b->sm) == BOX_UP)
        watch_update(b);
}

static void on_close(void *arg, const struct err *err)
{
    struct box *b = arg;
    (void)err;
    b->conn = NULL;
    box_redial(b);
}

int box_dial(struct box *b, struct err *err)
{
    struct frame_events ev = {.on_frame = on_frame, .on_close = on_close, .arg = b};
    list_for_each (it, &b->calls) {
        struct box_call *c = LIST_ENTRY(it, struct box_call, node);
        c->asked = false;
        c->deadline_ms = 0;
    }
    b->last_pong_ms = loop_now_ms(b->s->loop);
    int rc = frame_dial(b->s->loop, b->record.socket, &ev, &b->conn, err);
    if (rc == 0)
        loop_timer_start(&b->timer, BOX_START_MS, box_start_timeout);
    return rc;
}
