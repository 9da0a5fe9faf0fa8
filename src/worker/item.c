/* One item of the queue, from its acknowledgement to its end (diagram in impl.h). */
#include "worker/impl.h"

#include "base/log.h"

#include <sodium.h>
#include <stdio.h>

enum { SESSION_ARENA = 64 * 1024 * 1024, STOP_MS = 5 * 1000 };

static const struct sm_state states[] = {
    [ITEM_ACKING] = {"acking", SM_BIT(ITEM_OPENING) | SM_BIT(ITEM_STOPPING) | SM_BIT(ITEM_GONE),
                     SM_INITIAL},
    [ITEM_OPENING] = {"opening", SM_BIT(ITEM_SERVING) | SM_BIT(ITEM_STOPPING) | SM_BIT(ITEM_GONE),
                      0},
    [ITEM_SERVING] = {"serving", SM_BIT(ITEM_STOPPING) | SM_BIT(ITEM_GONE), 0},
    [ITEM_STOPPING] = {"stopping", SM_BIT(ITEM_GONE), 0},
    [ITEM_GONE] = {"gone", 0, SM_FINAL},
};

static void fetch_session(struct item *it);
static void stop(struct item *it);

/* ---- the end ---- */

static void handle_closed(struct item *it)
{
    if (--it->open || sm_state(&it->sm) != ITEM_GONE)
        return;
    struct worker *w = it->w;
    list_remove(&it->node);
    plan_fini(&it->plan);
    wire_call_fini(&it->call);
    if (it->noted)
        keep_fini(&it->notes);
    if (it->token) {
        sodium_memzero(it->token, strlen(it->token));
        mem_free(it->token);
    }
    mem_free(it);
    worker_item_gone(w);
}

static void timer_closed(struct loop_timer *t)
{
    handle_closed(CONTAINER_OF(t, struct item, timer));
}

static void lease_closed(struct lease *l)
{
    handle_closed(CONTAINER_OF(l, struct item, lease));
}

static void feed_closed(struct feed *f)
{
    handle_closed(CONTAINER_OF(f, struct item, feed));
}

static void skills_closed(struct worker_skills *s)
{
    handle_closed(CONTAINER_OF(s, struct item, skills));
}

static void notes_idle(struct keep_notes *n)
{
    struct item *it = CONTAINER_OF(n, struct item, notes);
    if (it->plan.deleted)
        keep_forget(it->w->dir, it->session.z);
    handle_closed(it);
}

static void drop_runs(struct item *it, bool stop_them)
{
    while (!list_empty(&it->runs))
        run_orphan(LIST_ENTRY(it->runs.next, struct run, node), stop_them);
}

/* Nothing is heard or said about the session any more. */
static void quiet(struct item *it, bool stop_them)
{
    it->kept = it->kept || plan_works(&it->plan);
    drop_runs(it, stop_them);
    loop_timer_stop(&it->timer);
    wire_cancel(&it->call);
    if (it->fed) {
        it->fed = false;
        it->open++;
        feed_close(&it->feed, feed_closed);
    }
}

static void gone(struct item *it)
{
    struct sandbox_port *port = &it->w->port;
    if (sm_state(&it->sm) == ITEM_GONE)
        return;
    sm_move(&it->sm, ITEM_GONE);
    it->open++;
    quiet(it, false);
    if (it->skilled && !it->w->closing) {
        if (it->plan.over)
            port->destroy(port->self, id_str(&it->session), it->plan.deleted);
        else if (!it->kept)
            port->idle(port->self, id_str(&it->session));
    }
    if (it->leased) {
        it->open++;
        lease_close(&it->lease, lease_closed);
    }
    if (it->skilled) {
        it->open++;
        worker_skills_close(&it->skills, skills_closed);
    }
    if (it->noted) {
        it->open++;
        it->notes.idle = notes_idle;
        keep_end(&it->notes, it->skilled && !it->kept);
    }
    loop_timer_close(&it->timer, timer_closed);
}

void item_close(struct item *it)
{
    gone(it);
}

static void finish(struct item *it, bool stop_them, bool give_back)
{
    if (sm_state(&it->sm) >= ITEM_STOPPING)
        return;
    quiet(it, stop_them);
    if (!give_back) {
        gone(it);
        return;
    }
    sm_move(&it->sm, ITEM_STOPPING);
    it->tries = 0;
    stop(it);
}

/* ---- giving it back ---- */

static void try_stop(struct loop_timer *t)
{
    stop(CONTAINER_OF(t, struct item, timer));
}

static void stopped(struct wire_call *c, const struct err *err)
{
    struct item *it = CONTAINER_OF(c, struct item, call);
    bool over = !err->code || c->status / 100 == 4; /* a conflict: it is stopped already */
    if (!over && ++it->tries < STOP_TRIES && !it->w->drains) {
        loop_timer_start(&it->timer, wire_backoff(it->tries, TRY_MIN_MS, TRY_MAX_MS), try_stop);
        return;
    }
    if (err->code && c->status != 409)
        log_line(LOG_WARN, "an item could not be stopped; its lease runs out", "work", it->work_id,
                 "error", err->msg, NULL);
    else
        log_line(LOG_INFO, "gave a session back", "session", it->session.z, "work", it->work_id,
                 NULL);
    gone(it);
}

static void stop(struct item *it)
{
    AUTO_BUF struct buf path = BUF_INIT(4096);
    wire_work_path(&path, &it->w->wire, it->work_id, "stop");
    const struct wire_request r = {
        .method = "POST",
        .path = buf_view(&path),
        .body = STR("{\"force\":true}"),
        .first_byte_ms = STOP_MS,
    };
    wire_send(&it->call, &r, stopped);
}

/* ---- the lease ---- */

static void lease_changed(struct lease *l)
{
    struct item *it = CONTAINER_OF(l, struct item, lease);
    if (sm_state(&it->sm) >= ITEM_STOPPING)
        return;
    bool lost = l->state == LEASE_LOST;
    if (lost)
        log_line(LOG_WARN, "lease lost: the session is another worker's; its calls here end",
                 "session", it->session.z, "work", it->work_id, NULL);
    else
        log_line(LOG_INFO, "the session is to be given up", "session", it->session.z, "work",
                 it->work_id, "lease", lease_state_name(l->state), NULL);
    finish(it, true, !lost);
}

void item_disowned(struct item *it, const char *why)
{
    if (sm_state(&it->sm) >= ITEM_STOPPING)
        return;
    log_line(LOG_WARN, "the session is not ours any more; its calls here end", "session",
             it->session.z, "work", it->work_id, "error", why, NULL);
    finish(it, true, false);
}

/* ---- serving ---- */

bool item_waits(const struct item *it)
{
    return sm_state(&it->sm) == ITEM_SERVING && it->plan.resting && !it->plan.listing &&
           !plan_works(&it->plan) && list_empty(&it->runs);
}

static void idle_over(struct loop_timer *t)
{
    struct item *it = CONTAINER_OF(t, struct item, timer);
    finish(it, true, true);
}

static void count_idle(struct item *it)
{
    bool idle = plan_idle(&it->plan) && list_empty(&it->runs);
    if (idle && it->counting && it->moves == it->plan.moves)
        return;
    loop_timer_stop(&it->timer);
    it->counting = idle;
    it->moves = it->plan.moves;
    if (idle)
        loop_timer_start(&it->timer, it->w->idle_ms, idle_over);
}

static void cancel_some(struct item *it)
{
    for (struct plan_call *c; (c = plan_cancel(&it->plan));) {
        struct run *r = run_find(it, id_str(&c->id));
        if (!r)
            plan_answered(&it->plan, id_str(&c->id));
        else if (c->answered || it->plan.over)
            run_unask(r);
        else
            run_cancel(r);
    }
}

void item_look(struct item *it)
{
    if (sm_state(&it->sm) != ITEM_SERVING || it->looking)
        return;
    it->looking = true; /* what a call's end changes is looked at below */
    cancel_some(it);
    if (!it->draining)
        for (struct plan_call *c; (c = plan_next(&it->plan));)
            run_new(it, c);
    it->looking = false;
    if (it->plan.over) {
        log_line(LOG_INFO, "the session is over", "session", it->session.z, NULL);
        finish(it, true, true);
    } else if (it->draining && list_empty(&it->runs)) {
        finish(it, false, true); /* what was not begun is for the next worker */
    } else {
        count_idle(it);
        worker_poll_soon(it->w);
    }
}

void item_drain(struct item *it, bool late)
{
    it->draining = true;
    if (sm_state(&it->sm) == ITEM_SERVING && !late)
        item_look(it);
    /* What still runs goes on, and the lease runs out: a worker that starts on this directory again
     * finds the result. */
    else if (sm_state(&it->sm) == ITEM_SERVING)
        finish(it, false, list_empty(&it->runs));
    else if (sm_state(&it->sm) < ITEM_SERVING || late)
        gone(it);
}

static void on_event(struct feed *f, const struct json *ev)
{
    struct item *it = CONTAINER_OF(f, struct item, feed);
    plan_event(&it->plan, ev);
    if (!it->plan.listing)
        item_look(it);
}

static void on_list_begins(struct feed *f)
{
    struct item *it = CONTAINER_OF(f, struct item, feed);
    plan_list_begins(&it->plan);
    item_look(it);
}

static void on_list_ends(struct feed *f)
{
    struct item *it = CONTAINER_OF(f, struct item, feed);
    plan_list_ends(&it->plan);
    item_look(it);
}

static void on_dead(struct feed *f, const struct err *err)
{
    struct item *it = CONTAINER_OF(f, struct item, feed);
    log_line(LOG_ERROR, "the session's events are refused", "session", it->session.z, "error",
             err->msg, NULL);
    finish(it, true, true);
}

static void serve(struct item *it)
{
    sm_move(&it->sm, ITEM_SERVING);
    it->feed = (struct feed){.wire = &it->w->wire,
                             .session = it->session.z,
                             .bearer = it->token,
                             .list_begins = on_list_begins,
                             .event = on_event,
                             .list_ends = on_list_ends,
                             .dead = on_dead};
    it->fed = true;
    it->plan.listing = true; /* until the first history was read */
    feed_start(&it->feed);
}

static void on_skills(struct worker_skills *s)
{
    struct item *it = CONTAINER_OF(s, struct item, skills);
    if (sm_state(&it->sm) == ITEM_OPENING)
        serve(it);
}

/* ---- opening ---- */

static void on_notes(struct keep_notes *n, const struct err *err)
{
    struct item *it = CONTAINER_OF(n, struct item, notes);
    if (sm_state(&it->sm) != ITEM_OPENING)
        return;
    if (err->code) {
        log_line(LOG_ERROR, "a session's notes cannot be read; it is left to other workers",
                 "session", it->session.z, "error", err->msg, NULL);
        finish(it, false, false);
        return;
    }
    fetch_session(it);
}

static void on_written(struct keep_notes *n, const struct err *err)
{
    struct item *it = CONTAINER_OF(n, struct item, notes);
    if (sm_state(&it->sm) != ITEM_SERVING)
        return;
    bool found;
    do { /* a call that ends at once changes the list */
        found = false;
        list_for_each (node, &it->runs) {
            struct run *r = LIST_ENTRY(node, struct run, node);
            if (!r->noted && r->note <= n->submitted) {
                found = true;
                run_noted(r, err);
                break;
            }
        }
    } while (found && sm_state(&it->sm) == ITEM_SERVING);
}

static void warn_about(const struct item *it, const struct json *session)
{
    const struct json *resources = json_get(session, "resources");
    if (!json_is(resources, JSON_ARRAY))
        return;
    json_for_each (r, resources) {
        char type[64];
        (void)str_copyz(type, sizeof type, json_get_str(r, "type"));
        log_line(LOG_WARN, "a resource of the session is not provided by this worker", "session",
                 it->session.z, "type", type, NULL);
    }
}

static void try_session(struct loop_timer *t)
{
    fetch_session(CONTAINER_OF(t, struct item, timer));
}

static void on_session(struct wire_call *c, const struct err *err)
{
    struct item *it = CONTAINER_OF(c, struct item, call);
    AUTO_ARENA struct arena a;
    const struct json *doc = NULL;
    struct err bad = *err;
    arena_init(&a, SESSION_ARENA);
    if (!bad.code && json_parse(&a, buf_view(&c->body), JSON_ALLOW_DUPLICATES, &doc, &bad))
        doc = NULL;
    if (bad.code && !wire_is_final(c)) {
        log_line(LOG_WARN, "the session cannot be read; trying again", "session", it->session.z,
                 "error", bad.msg, NULL);
        loop_timer_start(&it->timer, wire_backoff(it->tries++, TRY_MIN_MS, TRY_MAX_MS),
                         try_session);
        return;
    }
    if (bad.code) {
        log_line(LOG_ERROR, "the session is refused", "session", it->session.z, "error", bad.msg,
                 NULL);
        finish(it, false, true);
        return;
    }
    if (str_eqz(json_get_str(doc, "status"), "terminated")) {
        log_line(LOG_INFO, "the session has terminated; nothing is run", "session", it->session.z,
                 NULL);
        finish(it, false, true);
        return;
    }
    warn_about(it, doc);
    it->skilled = true;
    it->skills.dir = it->w->dir;
    it->skills.blobs = &it->w->blobs;
    it->skills.session = it->session.z;
    it->skills.done = on_skills;
    worker_skills_start(&it->skills, &it->w->wire, it->token, buf_view(&c->body));
}

static void fetch_session(struct item *it)
{
    AUTO_BUF struct buf path = BUF_INIT(4096);
    buf_z(&path, "/v1/sessions/");
    http_encode(&path, id_str(&it->session));
    const struct wire_request r = {.method = "GET", .path = buf_view(&path)};
    wire_send(&it->call, &r, on_session);
}

static void acked(struct wire_call *c, const struct err *err)
{
    struct item *it = CONTAINER_OF(c, struct item, call);
    if (err->code) {
        log_line(LOG_WARN, "an item could not be acknowledged; it will be offered again", "work",
                 it->work_id, "error", err->msg, NULL);
        gone(it);
        return;
    }
    it->call.bearer = it->token;
    if (it->refused) {
        finish(it, false, true);
        return;
    }
    log_line(LOG_INFO, "got a session", "session", it->session.z, "work", it->work_id, NULL);
    sm_move(&it->sm, ITEM_OPENING);
    it->leased = it->noted = true;
    lease_start(&it->lease, &it->w->wire, it->work_id, it->token, it->w->lease_seconds,
                lease_changed);
    it->notes.ready = on_notes;
    it->notes.written = on_written;
    keep_open(&it->notes, it->w->loop, it->w->dir, it->session.z);
}

void item_new(struct worker *w, struct str work_id, struct str session, struct str token,
              bool refused)
{
    struct item *it = mem_zalloc(sizeof *it);
    it->w = w;
    it->refused = refused;
    it->session = id_from(session);
    (void)str_copyz(it->work_id, sizeof it->work_id, work_id);
    if (token.len)
        it->token = mem_dupz(token.ptr, token.len);
    sm_init(&it->sm, "work item", states, NULL, ITEM_ACKING);
    list_init(&it->runs);
    plan_init(&it->plan);
    loop_timer_init(w->loop, &it->timer);
    wire_call_init(&it->call, &w->wire, NULL);
    list_push(&w->items, &it->node);
    AUTO_BUF struct buf path = BUF_INIT(4096);
    wire_work_path(&path, &w->wire, it->work_id, "ack");
    const struct wire_request r = {.method = "POST", .path = buf_view(&path)};
    wire_send(&it->call, &r, acked);
}
