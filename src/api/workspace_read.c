/* GET /v1/sessions/{id}/workspace, .tar, .patch, outputs.tar (all ours): the files of a session, as
 * they are or as they were (`at`, `from`).
 *
 *     read: the session, the moments    a checkpoint is due there: wait, read again
 *     workspace_read_at()               a path of unknown kind: as a file, then as a directory
 *
 * The newest checkpoint also stands in for a directory that was lost. */
#include "api/handlers.h"
#include "api/session_call.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "json/writer.h"
#include "store/checkpoints.h"
#include "store/fork.h"

struct get_call {
    struct call *call;
    struct session_row row;
    enum workspace_what what;
    struct str path, at, from; /* at, from: ids of events; absent: not asked for */
    bool maybe_directory;      /* a path of unknown kind: asked for as a file first */
    struct workspace_moment moment;
    struct id as_of; /* the event of the checkpoint; empty: there is none */
    bool exact;      /* ... and nothing happened to the files until `at` */
    bool due;        /* what was asked for is being kept right now */
    int64_t wait_until_us;
    struct loop_timer timer;
};

/* ---- moments ---- */

static int find_event(struct store_tx *tx, struct get_call *s, const char *name, struct str id,
                      int64_t *seq, struct err *err)
{
    int rc = ERR_NOT_FOUND;
    if (id_valid(id, "sevt"))
        rc = tx_event_seq(tx, s->row.key, id, seq, err);
    if (rc == ERR_NOT_FOUND)
        return err_at(err, ERR_INVALID, name,
                      "%s: No event '" STR_FMT "' in this session's log; events that are still "
                      "queued are not part of it",
                      name, STR_ARG(str_utf8_take(id, 64)));
    s->due |= rc == 0 && s->row.checkpoint_due && s->row.checkpoint_due <= *seq &&
              clock_mono_us() < s->wait_until_us; /* then an earlier one, which is named */
    return rc;
}

static int find_checkpoint(struct store_tx *tx, struct call *c, const char *name, int64_t seq,
                           struct checkpoint_row *out, struct err *err)
{
    struct get_call *s = c->state;
    int rc = tx_checkpoint_at(tx, id_str(&s->row.id), seq, &c->arena, out, err);
    if (rc != ERR_NOT_FOUND)
        return rc;
    return err_at(err, ERR_NOT_FOUND, name,
                  "%s: No files of this session were kept at or before that event", name);
}

/* No tool was used since: what there was to see of the files at the event is what was kept. */
static int find_exact(struct store_tx *tx, struct call *c, const struct checkpoint_row *kept,
                      int64_t seq, struct err *err)
{
    struct get_call *s = c->state;
    struct event_filter f = {.after_seq = kept->seq,
                             .limit = 1,
                             .types = (uint64_t)1 << EVENT_AGENT_TOOL_USE |
                                      (uint64_t)1 << EVENT_AGENT_TOOL_RESULT};
    struct event *events;
    size_t n = 0;
    bool more;
    int rc = tx_event_list(tx, s->row.key, &f, &c->arena, &events, &n, &more, err);
    s->exact = rc == 0 && kept->turn_end && (n == 0 || events[0].seq > seq);
    return rc;
}

static void write_note(struct call *c)
{
    struct get_call *s = c->state;
    AUTO_BUF struct buf b = BUF_INIT(1024);
    struct jw w = jw_to(&b);
    jw_obj(&w);
    jw_kstr(&w, "files_as_of", s->as_of.z[0] ? id_str(&s->as_of) : STR_NONE);
    jw_kbool(&w, "exact", s->exact);
    jw_obj_end(&w);
    struct str members = str_skip(str_take(buf_view(&b), b.len - 1), 1);
    s->moment.note = arena_printf(&c->arena, STR_FMT ",", STR_ARG(members));
}

static int at_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct get_call *s = c->state;
    struct checkpoint_row kept;
    int64_t seq = 0;
    int rc = find_event(tx, s, "at", s->at, &seq, err);
    if (rc || s->due)
        return rc;
    rc = find_checkpoint(tx, c, "at", seq, &kept, err);
    if (rc == 0)
        rc = find_exact(tx, c, &kept, seq, err);
    if (rc == 0)
        rc = tx_fork_event(tx, s->row.key, kept.seq, &s->as_of, err);
    s->moment.manifest = rc ? STR_NONE : kept.manifest;
    return rc;
}

/* The newest one, should the directory be lost. */
static int present_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct get_call *s = c->state;
    struct checkpoint_row kept;
    int rc = tx_checkpoint_at(tx, id_str(&s->row.id), 0, &c->arena, &kept, err);
    if (rc == ERR_NOT_FOUND)
        return 0;
    if (rc == 0)
        rc = find_exact(tx, c, &kept, INT64_MAX, err);
    if (rc == 0)
        rc = tx_fork_event(tx, s->row.key, kept.seq, &s->as_of, err);
    s->moment.manifest = rc ? STR_NONE : kept.manifest;
    s->moment.when_gone = true;
    return rc;
}

static int get_step(struct store_tx *tx, struct call *c, struct err *err)
{
    struct get_call *s = c->state;
    struct checkpoint_row kept;
    int64_t seq = 0;
    s->due = false;
    s->moment = (struct workspace_moment){.used = false};
    int rc = session_find(tx, c, &s->row, err);
    if (rc == 0)
        rc = str_some(s->at) ? at_step(tx, c, err) : present_step(tx, c, err);
    if (rc == 0 && str_some(s->from)) {
        rc = find_event(tx, s, "from", s->from, &seq, err);
        if (rc == 0 && !s->due)
            rc = find_checkpoint(tx, c, "from", seq, &kept, err);
        s->moment.from = rc || s->due ? STR_NONE : kept.manifest;
    }
    if (rc == 0 && !s->due)
        write_note(c);
    return rc;
}

/* ---- the answer ---- */

static const char *type_of(enum workspace_what what)
{
    switch (what) {
    case WORKSPACE_LIST: return "application/json";
    case WORKSPACE_PATCH: return "text/x-diff; charset=utf-8";
    case WORKSPACE_TAR:
    case WORKSPACE_OUTPUTS: return "application/x-tar";
    case WORKSPACE_FILE: break;
    }
    return "application/octet-stream";
}

static void start_read(struct call *c);

static void read_done(void *arg, int fd, uint64_t len, const struct err *err)
{
    struct call *c = arg;
    struct get_call *s = c->state;
    if (err->code == ERR_INVALID && s->maybe_directory) {
        s->maybe_directory = false;
        s->what = WORKSPACE_LIST;
        if (c->req)
            start_read(c);
    } else if (err->code) {
        call_fail(c, err);
    } else {
        struct http_header as_of = {STR("ostler-files-as-of"), id_str(&s->as_of)};
        call_reply_file_with(c, type_of(s->what), fd, len, &as_of,
                             s->moment.used && s->as_of.z[0] ? 1 : 0);
    }
    call_unref(c);
}

static void start_read(struct call *c)
{
    struct get_call *s = c->state;
    workspace_read_at(c->api->cfg.sandboxes, c->id[0], s->what, &s->moment, s->path, read_done,
                      call_ref(c));
}

/* ---- waiting for a checkpoint ---- */

static void found(struct call *c);

static void timer_closed(struct loop_timer *t)
{
    struct call *c = CONTAINER_OF(t, struct get_call, timer)->call;
    if (c->req)
        call_read(c, get_step, found);
    call_unref(c);
}

static void look_again(struct loop_timer *t)
{
    loop_timer_close(t, timer_closed);
}

static void found(struct call *c)
{
    struct get_call *s = c->state;
    if (!c->req)
        return;
    if (!s->due) {
        start_read(c);
        return;
    }
    call_ref(c);
    loop_timer_init(c->api->cfg.loop, &s->timer);
    loop_timer_start(&s->timer, LIMIT_FORK_LOOK_MS, look_again);
}

/* ---- handlers ---- */

static struct get_call *begin_get(struct call *c, enum workspace_what what)
{
    struct get_call *s = call_state(c, sizeof *s);
    if (!s)
        return NULL;
    s->call = c;
    s->what = what;
    s->path = STR("");
    s->at = query_get(&c->query, "at");
    s->wait_until_us = clock_mono_us() + LIMIT_FORK_WAIT_MS * 1000;
    return s;
}

static void get_whole(struct call *c, enum workspace_what what)
{
    if (begin_get(c, what))
        call_read(c, get_step, found);
}

void workspace_get(struct call *c)
{
    struct get_call *s = begin_get(c, WORKSPACE_LIST);
    if (!s)
        return;
    struct str path = query_get(&c->query, "path");
    if (str_some(path) && !str_eqz(path, ".") && !str_eqz(path, "/")) {
        s->path = path;
        if (!str_ends(path, STR("/"))) {
            s->what = WORKSPACE_FILE;
            s->maybe_directory = true;
        }
    }
    call_read(c, get_step, found);
}

void workspace_tar(struct call *c)
{
    get_whole(c, WORKSPACE_TAR);
}

void workspace_patch(struct call *c)
{
    struct get_call *s = begin_get(c, WORKSPACE_PATCH);
    if (!s)
        return;
    s->from = query_get(&c->query, "from");
    call_read(c, get_step, found);
}

void outputs_tar(struct call *c)
{
    get_whole(c, WORKSPACE_OUTPUTS);
}
