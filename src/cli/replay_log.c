/* The log of a session, read at once and folded from its beginning. */
#include "cli/replay.h"

#include "json/writer.h"
#include "store/inspect.h"

#define LOG_MAX ((size_t)8 << 30) /* bytes; a command's own memory, of one session */

/* ---- reading ---- */

struct reading {
    struct replay_log *log;
    struct str session;
    int64_t version;
};

static int read_all(struct store_tx *tx, void *arg, struct err *err)
{
    struct reading *r = arg;
    struct replay_log *l = r->log;
    const struct event_filter all = {.transcript = true};
    bool more;
    int rc = tx_session_get(tx, STR_NONE, r->session, &l->arena, &l->row, err);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, rc, "there is no session %.*s in this data directory",
                       STR_ARG(r->session));
    rc = rc ? rc
            : tx_event_list(tx, l->row.key, &all, &l->arena, &l->events, &l->nevents, &more, err);
    if (rc || r->version == 0)
        return rc;
    rc = tx_agent_get(tx, id_str(&l->row.workspace_id), id_str(&l->row.agent_id), r->version,
                      &l->arena, &l->other, err);
    if (rc == ERR_NOT_FOUND)
        return err_set(err, rc, "agent %s has no version %lld", l->row.agent_id.z,
                       (long long)r->version);
    return rc;
}

int replay_open(struct replay_log *l, const char *data, struct str session, int64_t version,
                struct err *err)
{
    struct reading r = {.log = l, .session = session, .version = version};
    *l = (struct replay_log){0};
    arena_init(&l->arena, LOG_MAX);
    return store_look(data, read_all, &r, err);
}

void replay_close(struct replay_log *l)
{
    arena_fini(&l->arena);
}

/* ---- folding ---- */

struct fold {
    struct replay_log *log;
    struct turn turn;
    struct agent agent;
    struct arena agent_arena;
    int64_t requests, equal_seq;
    struct id session_id;
};

/* Which agent is in force behind event `at`: what the next change found, or else the last. */
static struct str snapshot_after(const struct replay_log *l, size_t at)
{
    for (size_t i = at; i < l->nevents; i++)
        if (l->events[i].type == EVENT_SESSION_UPDATED && l->events[i].transcript.len)
            return l->events[i].transcript;
    return l->row.agent;
}

static int take_agent(struct fold *f, size_t at, struct err *err)
{
    arena_reset(&f->agent_arena);
    int rc = agent_read(&f->agent_arena, snapshot_after(f->log, at), &f->agent, err);
    if (rc == 0)
        rc = agent_provide(&f->agent_arena, f->log->row.provision, &f->agent, err);
    if (rc)
        return err_wrap(err, "agent of %s", f->session_id.z);
    agent_offer_web(&f->agent); /* as `ostler serve` does */
    return 0;
}

/* The digest is four, of the head, the system prompt, the tools and the messages, joined by '-'. */
static const char *first_difference(const char *recorded, const char *built)
{
    static const char *const parts[] = {"model", "system", "tools", "messages"};
    struct str x = str_z(recorded), y = str_z(built);
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (!str_eq(str_split(&x, '-'), str_split(&y, '-')))
            return parts[i];
    return parts[COUNT_OF(parts) - 1];
}

static void compare(struct fold *f, struct replay_request *q)
{
    char digest[RECORD_DIGEST_MAX];
    if (turn_request(&f->turn, &q->built, &q->why)) {
        q->state = q->record.digest[0] ? REPLAY_NOT_BUILT : REPLAY_NOT_RECORDED;
        return;
    }
    q->bytes = (int64_t)(q->built.system.len + q->built.tools.len + q->built.messages.len);
    turn_request_digest(&f->turn, &q->built, digest);
    if (!q->record.digest[0]) {
        q->state = REPLAY_NOT_RECORDED;
    } else if (strcmp(digest, q->record.digest) == 0) {
        q->state = REPLAY_EQUAL;
        f->equal_seq = q->from->seq;
    } else {
        q->state = REPLAY_DIFFERS;
        q->part = first_difference(q->record.digest, digest);
    }
}

static int find_end(const struct replay_log *l, size_t at, struct replay_request *q,
                    struct err *err)
{
    for (size_t i = at + 1; i < l->nevents; i++) {
        const struct event *e = &l->events[i];
        if (e->type != EVENT_SPAN_MODEL_REQUEST_END)
            continue;
        AUTO_ARENA struct arena a;
        arena_init(&a, LIMIT_JSON_ARENA);
        const struct json *body;
        int rc = json_parse(&a, e->body, JSON_ALLOW_DUPLICATES, &body, err);
        if (rc)
            return err_wrap(err, "event %s", e->id.z);
        q->to = e;
        q->is_error = json_is_true(json_get(body, "is_error"));
        (void)end_record_read(e->transcript, &q->ended);
        return 0;
    }
    return 0;
}

static int meet_request(struct fold *f, size_t at,
                        int (*fn)(void *arg, struct replay_request *q, struct err *err), void *arg,
                        struct err *err)
{
    struct replay_request q = {
        .number = ++f->requests,
        .from = &f->log->events[at],
        .record = f->turn.request,
        .since_seq = f->equal_seq,
    };
    int rc = find_end(f->log, at, &q, err);
    if (rc)
        return rc;
    compare(f, &q);
    return fn(arg, &q, err);
}

static int fold_all(struct fold *f, int (*fn)(void *arg, struct replay_request *q, struct err *err),
                    void *arg, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; i < f->log->nevents && rc == 0; i++) {
        const struct event *e = &f->log->events[i];
        rc = turn_fold(&f->turn, e, err);
        if (rc)
            return strstr(err->msg, e->id.z) ? rc : err_wrap(err, "event %s", e->id.z);
        if (e->type == EVENT_SESSION_UPDATED && e->transcript.len) {
            rc = take_agent(f, i + 1, err);
            if (rc == 0)
                turn_set_agent(&f->turn, &f->agent);
        } else if (e->type == EVENT_SPAN_MODEL_REQUEST_START) {
            rc = meet_request(f, i, fn, arg, err);
        }
    }
    return rc;
}

int replay_each(struct replay_log *l,
                int (*fn)(void *arg, struct replay_request *q, struct err *err), void *arg,
                struct err *err)
{
    struct fold *f = mem_zalloc(sizeof *f); /* a turn is too large for a stack */
    f->log = l;
    f->session_id = l->row.id;
    arena_init(&f->agent_arena, LIMIT_JSON_ARENA);
    int rc = take_agent(f, 0, err);
    if (rc == 0) {
        turn_init(&f->turn, &f->agent, l->row.id, l->row.thread_id);
        rc = fold_all(f, fn, arg, err);
        turn_fini(&f->turn);
    }
    arena_fini(&f->agent_arena);
    mem_free(f);
    return rc;
}

/* ---- writing ---- */

void replay_write_request(const struct model_request *r, struct buf *out)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kstr(&w, "model", r->model);
    if (r->max_tokens)
        jw_ki64(&w, "max_tokens", r->max_tokens);
    if (r->effort.len)
        jw_kstr(&w, "effort", r->effort);
    if (r->speed.len)
        jw_kstr(&w, "speed", r->speed);
    if (str_some(r->system))
        jw_kraw(&w, "system", r->system);
    if (str_some(r->tools))
        jw_kraw(&w, "tools", r->tools);
    jw_kraw(&w, "messages", r->messages);
    jw_obj_end(&w);
}
