#include "worker/plan.h"

static const char *const tools[] = {"bash", "read", "write", "edit", "glob", "grep"};

bool plan_names(struct str s, size_t max)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || (c == '-' && i)))
            return false;
    }
    return s.len > 0 && s.len < max;
}

void plan_init(struct plan *p)
{
    *p = (struct plan){0};
    list_init(&p->open);
}

static void forget_text(struct plan_call *c)
{
    mem_free(TAKE_PTR(c->name));
    mem_free(TAKE_PTR(c->input));
}

void plan_fini(struct plan *p)
{
    size_t at = 0;
    struct str key;
    for (struct plan_call *c; (c = map_next(&p->ids, &at, &key));) {
        forget_text(c);
        mem_free(c);
    }
    map_fini(&p->ids);
    at = 0;
    for (char *id; (id = map_next(&p->threads, &at, &key));)
        mem_free(id);
    map_fini(&p->threads);
}

static bool usable(struct str id)
{
    return plan_names(id, ID_MAX);
}

static struct plan_call *call_of(struct plan *p, struct str id)
{
    struct plan_call *c = map_get(&p->ids, id);
    if (c)
        return c;
    c = mem_zalloc(sizeof *c);
    c->id = id_from(id);
    list_init(&c->node);
    map_put(&p->ids, id_str(&c->id), c);
    return c;
}

static void settle(struct plan_call *c)
{
    c->answered = true;
    if (!c->started) { /* whoever runs it still reads it */
        list_remove(&c->node);
        forget_text(c);
    }
}

void plan_answered(struct plan *p, struct str id)
{
    struct plan_call *c = map_get(&p->ids, id);
    if (!c)
        return;
    c->answered = c->stopped = true;
    list_remove(&c->node);
    forget_text(c);
}

/* ---- events ---- */

static void on_tool_use(struct plan *p, const struct json *ev)
{
    struct str id = json_get_str(ev, "id"), name = json_get_str(ev, "name");
    struct str permission = json_get_str(ev, "evaluated_permission");
    const struct json *input = json_get(ev, "input");
    bool ours = false;
    for (size_t i = 0; i < COUNT_OF(tools); i++)
        ours = ours || str_eqz(name, tools[i]);
    if (!ours || !usable(id))
        return;
    struct plan_call *c = call_of(p, id);
    if (c->answered || c->name)
        return;
    if (str_eqz(permission, "deny") || c->verdict == PLAN_DENY) {
        settle(c); /* the server answers it */
        return;
    }
    struct str raw = json_is(input, JSON_OBJECT) ? input->raw : STR("{}");
    c->name = mem_dupz(name.ptr, name.len);
    c->input = mem_dupz(raw.ptr, raw.len);
    c->input_len = raw.len;
    c->thread = id_from(json_get_str(ev, "session_thread_id"));
    /* A permission that is not known is none. */
    c->asks = json_get(ev, "evaluated_permission") && !str_eqz(permission, "allow") &&
              !json_is(json_get(ev, "evaluated_permission"), JSON_NULL);
    list_push(&p->open, &c->node);
}

static void on_result(struct plan *p, const struct json *ev)
{
    struct str id = json_get_str(ev, "tool_use_id");
    if (usable(id))
        settle(call_of(p, id));
}

static void on_confirmation(struct plan *p, const struct json *ev)
{
    struct str id = json_get_str(ev, "tool_use_id");
    if (!usable(id))
        return;
    struct plan_call *c = call_of(p, id);
    if (c->verdict)
        return; /* the first one counts */
    c->verdict = str_eqz(json_get_str(ev, "result"), "allow") ? PLAN_ALLOW : PLAN_DENY;
    if (c->verdict == PLAN_DENY && c->name && !c->started)
        settle(c);
}

static void on_interrupt(struct plan *p, const struct json *ev)
{
    struct str id = json_get_str(ev, "id"), thread = json_get_str(ev, "session_thread_id");
    if (usable(id)) {
        struct plan_call *seen = call_of(p, id);
        if (seen->answered)
            return;
        seen->answered = true;
    }
    list_for_each (it, &p->open) {
        struct plan_call *c = LIST_ENTRY(it, struct plan_call, node);
        if (!str_some(thread) || str_eq(thread, id_str(&c->thread)))
            c->interrupted = true;
    }
}

/* The server waits for these, also if an interrupt stands before: they are to be answered. */
static void on_idle(struct plan *p, const struct json *ev)
{
    const struct json *stop = json_get(ev, "stop_reason");
    p->ended = !str_eqz(json_get_str(stop, "type"), "requires_action");
    p->resting = true;
    const struct json *ids = json_get(stop, "event_ids");
    if (!json_is(ids, JSON_ARRAY))
        return;
    json_for_each (id, ids) {
        struct plan_call *c = id->type == JSON_STRING ? map_get(&p->ids, id->str) : NULL;
        if (c && !c->started)
            c->interrupted = false;
    }
}

static void on_thread_end(struct plan *p, const struct json *ev)
{
    struct str id = json_get_str(ev, "session_thread_id");
    if (!usable(id) || map_get(&p->threads, id))
        return;
    char *kept = mem_dupz(id.ptr, id.len);
    map_put(&p->threads, str_n(kept, id.len), kept);
}

/* Events that say nothing about whether the session rests. */
static bool is_neutral(struct str type)
{
    return str_eqz(type, "user.tool_confirmation") ||
           str_eqz(type, "session.thread_status_terminated");
}

void plan_event(struct plan *p, const struct json *ev)
{
    struct str type = json_get_str(ev, "type");
    if (!type.len)
        return;
    if (!is_neutral(type)) {
        p->ended = false;
        p->moves++;
    }
    if (str_eqz(type, "agent.tool_use"))
        on_tool_use(p, ev);
    else if (str_eqz(type, "user.tool_result") || str_eqz(type, "agent.tool_result"))
        on_result(p, ev);
    else if (str_eqz(type, "user.tool_confirmation"))
        on_confirmation(p, ev);
    else if (str_eqz(type, "user.interrupt"))
        on_interrupt(p, ev);
    else if (str_eqz(type, "session.status_idle"))
        on_idle(p, ev);
    else if (str_eqz(type, "session.status_running"))
        p->resting = false;
    else if (str_eqz(type, "session.thread_status_terminated"))
        on_thread_end(p, ev);
    else if (str_eqz(type, "session.status_terminated"))
        p->over = true;
    else if (str_eqz(type, "session.deleted"))
        p->over = p->deleted = true;
}

void plan_list_begins(struct plan *p)
{
    p->listing = true;
    p->ended = p->resting = false;
    p->moves++;
}

void plan_list_ends(struct plan *p)
{
    p->listing = false;
    p->moves++;
}

/* ---- decisions ---- */

static bool thread_lives(const struct plan *p, const struct plan_call *c)
{
    return !c->thread.z[0] || !map_get(&p->threads, id_str(&c->thread));
}

static bool is_held(const struct plan *p, const struct plan_call *c)
{
    return !c->answered && !c->started && !c->interrupted && c->asks && c->verdict == PLAN_NONE &&
           thread_lives(p, c);
}

static bool is_ready(const struct plan *p, const struct plan_call *c)
{
    return !c->answered && !c->started && !c->interrupted &&
           (!c->asks || c->verdict == PLAN_ALLOW) && thread_lives(p, c);
}

struct plan_call *plan_next(struct plan *p)
{
    if (p->listing || p->over)
        return NULL;
    list_for_each (it, &p->open) {
        struct plan_call *c = LIST_ENTRY(it, struct plan_call, node);
        if (is_ready(p, c)) {
            c->started = true;
            return c;
        }
    }
    return NULL;
}

struct plan_call *plan_cancel(struct plan *p)
{
    list_for_each (it, &p->open) {
        struct plan_call *c = LIST_ENTRY(it, struct plan_call, node);
        if (c->started && !c->stopped &&
            (c->answered || c->interrupted || p->over || !thread_lives(p, c))) {
            c->stopped = true;
            return c;
        }
    }
    return NULL;
}

bool plan_holds(const struct plan *p)
{
    list_for_each (it, &p->open)
        if (is_held(p, LIST_ENTRY(it, struct plan_call, node)))
            return true;
    return false;
}

bool plan_works(const struct plan *p)
{
    list_for_each (it, &p->open) {
        const struct plan_call *c = LIST_ENTRY(it, struct plan_call, node);
        if ((c->started && !c->answered) || is_ready(p, c))
            return true;
    }
    return false;
}

bool plan_idle(const struct plan *p)
{
    return p->ended && !p->listing && !plan_works(p) && !plan_holds(p);
}
