/* One session's sandbox as a state machine.
 *
 *            first call            a record             hello
 *   ABSENT ------------> FINDING ----------> DIALING ----------> UP
 *     ^  |                  |                   |               | ^
 *     |  | a call           | none              | nobody there  | | hello
 *     |  v                  v                   v               | |
 *     |  PREPARING -----------------------------|--> STARTING --|-+
 *     |                                         v        |      |
 *     +----------------------------------- CLEANING <----+------+  the hand is gone, or is to go
 *
 * Before PREPARING, where the session's directory is gone, comes RESTORING, and where it has files,
 * skills or repositories, PROVISIONING; both lead back to ABSENT. In UP what has changed of the
 * latter is put in place before the next call is given.
 *
 * Calls wait in any state but UP, and while a checkpoint is taken. A call that was sent and not
 * answered when the hand goes has an unknown outcome, and that is what its result says. Blocking
 * steps run as jobs; while one runs the state does not change. */
#include "sandbox/box.h"

#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "sandbox/copy.h"
#include "sandbox/provision.h"
#include "sandbox/restore.h"
#include "sandbox/spare.h"
#include "sandbox/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct sm_state states[] = {
    [BOX_ABSENT] = {"absent",
                    SM_BIT(BOX_FINDING) | SM_BIT(BOX_RESTORING) | SM_BIT(BOX_PROVISIONING) |
                        SM_BIT(BOX_PREPARING) | SM_BIT(BOX_CLEANING),
                    SM_INITIAL},
    [BOX_RESTORING] = {"restoring", SM_BIT(BOX_ABSENT), 0},
    [BOX_PROVISIONING] = {"provisioning", SM_BIT(BOX_ABSENT), 0},
    [BOX_FINDING] = {"finding", SM_BIT(BOX_ABSENT) | SM_BIT(BOX_DIALING), 0},
    [BOX_DIALING] = {"dialing", SM_BIT(BOX_UP) | SM_BIT(BOX_CLEANING), 0},
    [BOX_PREPARING] = {"preparing",
                       SM_BIT(BOX_ABSENT) | SM_BIT(BOX_STARTING) | SM_BIT(BOX_CLEANING), 0},
    [BOX_STARTING] = {"starting", SM_BIT(BOX_UP) | SM_BIT(BOX_CLEANING), 0},
    [BOX_UP] = {"up", SM_BIT(BOX_DIALING) | SM_BIT(BOX_CLEANING), 0},
    [BOX_CLEANING] = {"cleaning", SM_BIT(BOX_ABSENT), 0},
};

static void tick(struct box *b);

/* ---- life ---- */

struct box *box_find(struct sandboxes *s, struct str session_id)
{
    return map_get(&s->by_session, session_id);
}

/* The build that it waits for has ended. */
static void layer_moved(struct build_waiter *w)
{
    box_kick(CONTAINER_OF(w, struct box, layer_wait));
}

static struct box *box_new(struct sandboxes *s, struct str id)
{
    struct box *b = mem_zalloc(sizeof *b);
    b->s = s;
    b->id = id_from(id);
    struct session_paths p;
    session_paths(&s->host, b->id.z, &p);
    memcpy(b->unit, p.unit, sizeof b->unit);
    b->info = b->errors = -1;
    b->note = BUF_INIT(LIMIT_TOOL_NOTE);
    checkpoint_init(b);
    list_init(&b->layer_wait.node);
    b->layer_wait.fn = layer_moved;
    sm_init(&b->sm, "sandbox", states, NULL, BOX_ABSENT);
    list_init(&b->calls);
    loop_timer_init(s->loop, &b->timer);
    loop_timer_init(s->loop, &b->ticker);
    list_push(&s->boxes, &b->node);
    return b;
}

struct box *box_get(struct sandboxes *s, struct str session_id)
{
    struct box *b = box_find(s, session_id);
    if (!b) {
        b = box_new(s, session_id);
        map_put(&s->by_session, id_str(&b->id), b);
    }
    return b;
}

static void box_freed(struct box *b)
{
    struct sandboxes *s = b->s;
    mem_free(b->environment);
    mem_free(b->provision);
    buf_fini(&b->note);
    checkpoint_fini(b);
    mem_free(b);
    sandboxes_job_ended(s);
}

static void part_closed(struct box *b)
{
    if (--b->open == 0)
        box_freed(b);
}

static void timer_closed(struct loop_timer *t)
{
    part_closed(CONTAINER_OF(t, struct box, timer));
}

static void ticker_closed(struct loop_timer *t)
{
    part_closed(CONTAINER_OF(t, struct box, ticker));
}

static void child_closed(struct loop_child *c)
{
    part_closed(CONTAINER_OF(c, struct box, child));
}

static void drop_child_files(struct box *b)
{
    fd_close(TAKE_FD(b->info));
    fd_close(TAKE_FD(b->errors));
}

/* Forgets the box; whatever runs in the sandbox goes on. */
static void box_release(struct box *b)
{
    b->released = true;
    list_remove(&b->layer_wait.node);
    list_remove(&b->node);
    if (map_get(&b->s->by_session, id_str(&b->id)) == b)
        map_remove(&b->s->by_session, id_str(&b->id));
    frame_close(TAKE_PTR(b->conn));
    drop_child_files(b);
    net_orphan(b);
    sandboxes_job_began(b->s);
    if (b->spare)
        spares_released(b);
    b->open = 2U + b->child_open + b->kicked;
    loop_timer_close(&b->timer, timer_closed);
    loop_timer_close(&b->ticker, ticker_closed);
    if (b->child_open && !b->child_closing)
        loop_child_close(&b->child, child_closed);
    watch_orphan(b);
    checkpoint_orphan(b);
    copy_forget(b);
}

/* ---- calls ---- */

void box_finish(struct box *b, struct box_call *c, struct str content, bool is_error,
                const char *reason)
{
    list_remove(&c->node);
    struct tool_outcome o = {.content = content, .is_error = is_error, .failure_reason = reason};
    void (*done)(void *, const struct tool_outcome *) = c->done;
    void *arg = c->arg;
    b->last_used_ms = loop_now_ms(b->s->loop);
    net_call_ended(b, &c->id);
    mem_free(c);
    done(arg, &o);
}

void box_finish_lost(struct box *b, struct box_call *c, const char *reason)
{
    char text[BOX_TEXT_MAX];
    snprintf(
        text, sizeof text,
        "%sThe sandbox was lost while this call was running, so its outcome is unknown: it may "
        "have run completely, partly or not at all. The files in /workspace are %s; processes, "
        "the shell's state and anything in memory are gone. Check what has happened before "
        "repeating the call. The next call starts a fresh sandbox.",
        str_eqz(str_z(reason), "out_of_memory") ? "The sandbox ran out of memory and was ended. "
                                                : "",
        files_are_gone(b) ? "lost with it; the next call finds those that were kept last" : "kept");
    box_finish(b, c, str_z(text), true, reason);
}

/* Every waiting call fails for the same reason: nothing of it has run. */
static void fail_waiting(struct box *b, const char *why)
{
    char text[BOX_TEXT_MAX + BUILD_TAIL * 2];
    snprintf(text, sizeof text,
             "The sandbox cannot be started, so the tool was not run: %s. Nothing runs outside a "
             "sandbox; 'ostler doctor' says what this host lacks.",
             why);
    struct list all;
    list_init(&all);
    struct list *n;
    while ((n = list_pop(&b->calls)))
        list_push(&all, n);
    while ((n = list_pop(&all)))
        box_finish(b, LIST_ENTRY(n, struct box_call, node), str_z(text), true,
                   "sandbox_unavailable");
}

/* Calls that an earlier server may have dispatched to a hand that is gone now. */
static void fail_dispatched_earlier(struct box *b)
{
    list_for_each_safe (it, &b->calls) {
        struct box_call *c = LIST_ENTRY(it, struct box_call, node);
        if (!c->first && c->existed)
            box_finish_lost(b, c, "sandbox_lost");
    }
}

void box_run(struct box *b, const struct tool_call *call,
             void (*done)(void *arg, const struct tool_outcome *outcome), void *arg)
{
    struct box_call *c = mem_zalloc(sizeof *c + call->input.len + call->name.len + 2);
    c->id = id_from(call->tool_use_id);
    c->input = c->text;
    c->input_len = call->input.len;
    memcpy(c->input, call->input.ptr ? call->input.ptr : "", call->input.len);
    c->name = c->text + call->input.len + 1;
    memcpy(c->name, call->name.ptr ? call->name.ptr : "", call->name.len);
    c->first = call->first_dispatch;
    c->existed = call->sandbox_existed;
    c->had = call->had_sandbox;
    c->done = done;
    c->arg = arg;
    list_push(&b->calls, &c->node);
    b->parked = false;
    if (sm_state(&b->sm) == BOX_UP) {
        loop_timer_stop(&b->timer); /* it was idle */
        net_up(b);                  /* if it has none yet */
    }
    if (call->provision.len && !b->copy &&
        !(b->provision && str_eqz(call->provision, b->provision))) {
        mem_free(b->provision);
        b->provision = mem_dupz(call->provision.ptr, call->provision.len);
        b->provisioned = false;
    }
    if (call->environment.len && !b->environment)
        b->environment = mem_dupz(call->environment.ptr, call->environment.len);
    box_kick(b);
}

static struct box_call *call_of(struct box *b, struct str id)
{
    list_for_each (it, &b->calls) {
        struct box_call *c = LIST_ENTRY(it, struct box_call, node);
        if (str_eq(id_str(&c->id), id))
            return c;
    }
    return NULL;
}

/* ---- jobs on the worker pool ---- */

static void job_done(struct loop_work *w)
{
    struct box *b = CONTAINER_OF(w, struct box, work);
    struct sandboxes *s = b->s;
    b->working = false;
    if (s->closing) {
        start_fini(&b->start);
        if (b->copy && !b->wipe)
            box_close(b);
        else if (!b->provisioning)
            box_release(b);
    } else {
        b->then(b);
    }
    sandboxes_job_ended(s);
}

void box_job(struct box *b, void (*work)(struct loop_work *), void (*then)(struct box *))
{
    b->working = true;
    b->then = then;
    b->job_err = (struct err){.code = 0};
    sandboxes_job_began(b->s);
    loop_work(b->s->loop, &b->work, work, job_done);
}

/* Told once: until the session rests it stays, for a server that comes after this one. */
static void read_note(struct box *b, const struct session_paths *p)
{
    int64_t which = restore_note(p);
    if (which == b->files.told)
        return;
    b->files.noted = which;
    restore_read_note(p, &b->files.note);
}

/* FINDING: is there a record of a hand of this boot? */
static void find_work(struct loop_work *w)
{
    struct box *b = CONTAINER_OF(w, struct box, work);
    struct session_paths p;
    session_paths(&b->s->host, b->id.z, &p);
    struct settings settings;
    settings_parse(&settings, &b->s->host.limits, str_z(b->environment));
    b->limits = settings.limits;
    settings_fini(&settings);
    b->found = record_read(p.meta, &b->record);
    read_note(b, &p);
    if (!b->found)
        b->found = record_of_lost(&b->s->host, &p, &b->record);
    else
        disk_measure(&p, &b->disk_used, &b->disk_free);
    /* Of another boot nothing can be left; of another directory, copied here, nothing is ours. */
    if (b->found && (!str_eqz(str_z(b->record.boot_id), b->s->host.boot_id) ||
                     !unit_is_ours(&p, b->record.unit)))
        b->record.pid = b->record.socket[0] = b->record.unit[0] = 0;
}

static void find_done(struct box *b)
{
    struct err err;
    b->looked = true;
    if (b->found && b->record.unit[0]) /* that of a spare, perhaps */
        memcpy(b->unit, b->record.unit, sizeof b->unit);
    if (b->found && b->record.socket[0]) {
        sm_move(&b->sm, BOX_DIALING);
        b->adopted = true;
        if (box_dial(b, &err) != 0)
            box_lost(b, NULL); /* its leftovers */
        return;
    }
    sm_move(&b->sm, BOX_ABSENT);
    tick(b);
}

/* PROVISIONING, and in UP: files, skills, repositories. Calls wait. */
static void provision_done(void *arg, struct str note)
{
    struct box *b = arg;
    b->provisioning = NULL;
    buf_clear(&b->note);
    buf_str(&b->note, note);
    if (b->s->closing) {
        if (!b->working)
            box_release(b);
        return;
    }
    if (sm_state(&b->sm) == BOX_PROVISIONING)
        sm_move(&b->sm, BOX_ABSENT);
    tick(b);
}

static void provision_begin(struct box *b, bool fresh)
{
    b->provisioned = true; /* a call may bring another one meanwhile */
    b->provision_anew = false;
    b->provisioning = provision_start(b->s, b->id.z, str_z(b->provision), fresh, provision_done, b);
}

static bool wants_provision(const struct box *b)
{
    return b->provision && !b->provisioned && b->s->host.data[0];
}

/* PREPARING: directories, cgroup, socket, record, recipe. */
static void prepare_work(struct loop_work *w)
{
    struct box *b = CONTAINER_OF(w, struct box, work);
    struct session_paths p;
    struct stat st;
    session_paths(&b->s->host, b->id.z, &p);
    if (start_prepare(b, &b->start, &b->job_err) == 0 && lstat(p.workspace, &st) == 0)
        b->start.record.inode = (int64_t)st.st_ino;
    record_hint(&b->s->host, &p, b->unit);
    read_note(b, &p);
}

static void starting_failed(struct box *b, const char *why);
static void child_failed(struct box *b, int status);

/* An OCI runtime is done when the container runs. */
static bool has_left(const struct box *b, int status)
{
    return b->s->host.oci.on && !b->s->host.unsafe && status == 0;
}

static void on_child_exit(struct loop_child *c, int status)
{
    struct box *b = CONTAINER_OF(c, struct box, child);
    if (sm_state(&b->sm) == BOX_PREPARING) {
        b->child_ended = true; /* told when the worker is done */
        b->child_status = status;
    }
    if (sm_state(&b->sm) == BOX_UP && has_left(b, status))
        box_kick(b); /* it has said by now which process is the hand */
    if (sm_state(&b->sm) != BOX_STARTING || b->working)
        return; /* the connection's end says the same */
    b->left = has_left(b, status);
    if (!b->left || !b->conn)
        child_failed(b, status);
}

static void child_failed(struct box *b, int status)
{
    char text[BOX_TEXT_MAX], said[512];
    ssize_t n = pread(b->errors, said, sizeof said, 0);
    struct str line = oci_said(str_trim(str_n(said, n > 0 ? (size_t)n : 0)));
    if (line.len)
        snprintf(text, sizeof text, STR_FMT, STR_ARG(line));
    else
        snprintf(text, sizeof text, "%s ended with status %#x",
                 b->s->host.oci.on ? "the container" : "bubblewrap", (unsigned)status);
    starting_failed(b, text);
}

static void prepare_done(struct box *b)
{
    struct start *st = &b->start;
    struct err err = st->spawn_err.code ? st->spawn_err : b->job_err;
    b->record = st->record;
    b->limits = st->limits;
    b->adopted = b->files.tried = false;
    b->disk_used = st->disk_used;
    b->disk_free = st->disk_free;
    start_fini(st);
    if (err.code == ERR_NOT_FOUND && b->layer.content[0]) { /* swept by another process */
        builds_forget(b->s->builds, b->layer.content);
        sm_move(&b->sm, BOX_ABSENT);
        tick(b);
        return;
    }
    b->left = b->child_ended && has_left(b, b->child_status);
    if (b->child_ended && !b->left && (err.code == 0 || err.sys == EPIPE))
        child_failed(b, b->child_status);
    else if (err.code == 0 && box_dial(b, &err) == 0)
        sm_move(&b->sm, BOX_STARTING);
    else
        starting_failed(b, err.msg);
}

static void prepare(struct box *b)
{
    sm_move(&b->sm, BOX_PREPARING);
    drop_child_files(b);
    start_begin(b, &b->start, on_child_exit);
    box_job(b, prepare_work, prepare_done);
}

/* UP: the pid, for whoever has to end this hand one day. */
static void record_work(struct loop_work *w)
{
    struct box *b = CONTAINER_OF(w, struct box, work);
    struct session_paths p;
    session_paths(&b->s->host, b->id.z, &p);
    record_write(p.meta, &b->record, &b->job_err);
}

static void record_done(struct box *b)
{
    tick(b);
}

/* CLEANING: nothing of the old sandbox is left afterwards. */
static void clean_work(struct loop_work *w)
{
    struct box *b = CONTAINER_OF(w, struct box, work);
    const struct host *h = &b->s->host;
    struct session_paths p;
    session_paths(h, b->id.z, &p);
    if (b->record.start_time == 0 && b->record.pid)
        b->record.start_time = process_start_time(b->record.pid);
    process_kill(b->record.pid, b->record.start_time);
    if (!b->record.pid && b->record.socket[0])
        hand_shutdown(b->record.socket);
    cgroup_read(&h->cg, b->unit, &b->last);
    if (p.oci || access(p.bundle, F_OK) == 0)
        oci_delete(&h->oci, b->unit, p.bundle);
    cgroup_remove(&h->cg, b->unit);
    if (b->record.socket[0])
        unlink(b->record.socket);
    record_hint(h, &p, NULL);
    if (b->wipe) {
        tree_remove(p.dir, &b->job_err);
    }
}

static void clean_done(struct box *b)
{
    if (b->wipe && b->job_err.code)
        log_err(LOG_WARN, "a session's files could not be removed", &b->job_err);
    const char *reason = b->end_reason;
    if (!reason)
        reason = b->last.oom_kills > b->seen.oom_kills ? "out_of_memory" : "sandbox_lost";
    list_for_each_safe (it, &b->calls) {
        struct box_call *c = LIST_ENTRY(it, struct box_call, node);
        if (c->sent)
            box_finish_lost(b, c, reason);
    }
    b->wipe = false;
    b->end_reason = NULL;
    b->record.pid = b->record.start_time = 0;
    b->seen = (struct cgroup_counters){.oom_kills = 0};
    b->looked = true;
    b->provisioned = b->files.tried = false;
    sm_move(&b->sm, BOX_ABSENT);
    if (b->start_failed[0]) {
        if (b->spare)
            spares_changed(b);
        char why[sizeof b->start_failed];
        memcpy(why, b->start_failed, sizeof why);
        b->start_failed[0] = '\0';
        fail_waiting(b, why);
    }
    tick(b);
}

/* ---- ends ---- */

/* Ends whatever runs and cleans up. What was sent has an unknown outcome; `reason` NULL: found out.
 */
static void end_soon(struct box *b, const char *reason)
{
    if (sm_state(&b->sm) == BOX_CLEANING)
        return;
    frame_close(TAKE_PTR(b->conn));
    net_down(b);
    loop_timer_stop(&b->timer);
    loop_timer_stop(&b->ticker);
    b->busy = false;
    b->end_reason = reason;
    b->wipe = b->wipe || b->spare;
    b->spent = b->spare;
    b->record.pid = b->record.pid ? b->record.pid : box_child_pid(b);
    if (b->child_open)
        (void)loop_child_kill(&b->child, SIGKILL);
    sm_move(&b->sm, BOX_CLEANING);
    if (!b->working)
        box_job(b, clean_work, clean_done);
}

void box_lost(struct box *b, const char *reason)
{
    end_soon(b, reason);
}

static void starting_failed(struct box *b, const char *why)
{
    b->s->stats.start_failures++;
    (void)str_copyz(b->start_failed, sizeof b->start_failed,
                    str_utf8_take(str_z(why), sizeof b->start_failed - 1));
    end_soon(b, NULL);
}

void box_redial(struct box *b)
{
    enum { REDIALS = 3 };
    struct err err;
    if (sm_state(&b->sm) == BOX_STARTING) {
        if (b->left) /* and its container has ended as well */
            child_failed(b, 0);
        return; /* bubblewrap's exit says why; or else the time runs out */
    }
    if (sm_state(&b->sm) != BOX_UP || b->redials++ >= REDIALS) {
        box_lost(b, NULL);
        return;
    }
    sm_move(&b->sm, BOX_DIALING);
    if (box_dial(b, &err) != 0)
        box_lost(b, NULL);
}

void box_start_timeout(struct loop_timer *t)
{
    struct box *b = CONTAINER_OF(t, struct box, timer);
    if (sm_state(&b->sm) == BOX_STARTING)
        starting_failed(b, "the hand in it did not answer in time");
    else if (sm_state(&b->sm) == BOX_DIALING)
        end_soon(b, NULL);
}

void box_destroy(struct box *b, bool wipe)
{
    b->destroying = true;
    b->wipe_wanted = b->wipe_wanted || wipe || b->copy;
    box_kick(b);
}

void box_ack(struct box *b, struct str tool_use_id)
{
    struct id id = id_from(tool_use_id);
    if (b->conn && sm_state(&b->sm) == BOX_UP)
        box_send_op(b, "ack", id.z, NULL, NULL);
}

void box_cancel(struct box *b, struct str tool_use_id)
{
    struct box_call *c = call_of(b, tool_use_id);
    if (!c)
        return;
    c->cancelled = true;
    if (c->sent && b->conn)
        box_send_op(b, "cancel", c->id.z, NULL, NULL);
    else
        box_kick(b);
}

/* Nobody has used it for long: an idle session keeps its files and costs nothing else. */
static void park(struct loop_timer *t)
{
    struct box *b = CONTAINER_OF(t, struct box, timer);
    if (sm_state(&b->sm) != BOX_UP || !list_empty(&b->calls))
        return;
    b->parked = true;
    end_soon(b, NULL);
}

/* Everything that this session waited for is in its log: the hand may forget it all, also what an
 * earlier server did not live to acknowledge. */
void box_idle(struct box *b)
{
    if (!b->conn || sm_state(&b->sm) != BOX_UP || !list_empty(&b->calls))
        return;
    box_send_op(b, "ack_all", NULL, NULL, NULL);
    if (!b->limits.wall_seconds)
        loop_timer_start(&b->timer, b->s->host.grace_ms, park);
}

void box_unused(struct box *b)
{
    if (b->limits.wall_seconds && sm_state(&b->sm) == BOX_UP)
        loop_timer_start(&b->timer, b->limits.wall_seconds * 1000, park);
}

void box_close(struct box *b)
{
    struct list *n;
    while ((n = list_pop(&b->calls)))
        mem_free(LIST_ENTRY(n, struct box_call, node));
    if (b->copy && copy_busy(b)) /* and comes here again */
        return;
    if (b->copy && !b->working) {
        b->wipe = true;
        if (sm_state(&b->sm) == BOX_CLEANING)
            box_job(b, clean_work, clean_done);
        else
            end_soon(b, NULL);
        return;
    }
    if (b->spare && !b->taken && !b->working && sm_state(&b->sm) != BOX_ABSENT) {
        end_soon(b, NULL); /* nobody would look for it */
        return;
    }
    if (b->provisioning)
        provision_cancel(b->provisioning);
    else if (!b->working && !b->files.restoring) {
        if (sm_state(&b->sm) == BOX_ABSENT || sm_state(&b->sm) == BOX_UP)
            checkpoint_begin(b);
        box_release(b);
    }
}

/* ---- the tick ---- */

/* Calls that were cancelled before any hand had them. */
static void drop_cancelled(struct box *b)
{
    list_for_each_safe (it, &b->calls) {
        struct box_call *c = LIST_ENTRY(it, struct box_call, node);
        if (c->cancelled && !c->sent && !c->asked && (c->first || !c->existed))
            box_finish(b, c, STR("The call was cancelled before it ran."), true, "cancelled");
    }
}

static void old_child_closed(struct loop_child *c)
{
    struct box *b = CONTAINER_OF(c, struct box, child);
    b->child_open = b->child_closing = false;
    if (b->released)
        part_closed(b);
    else
        tick(b);
}

/* A new child needs the handle that the last one had. False: it is being closed. */
static bool child_is_free(struct box *b)
{
    if (!b->child_open)
        return true;
    if (!b->child_closing) {
        b->child_closing = true;
        loop_child_close(&b->child, old_child_closed);
    }
    return false;
}

static void cancel_all(struct box *b)
{
    struct list *n;
    while ((n = b->calls.next) != &b->calls)
        box_finish(b, LIST_ENTRY(n, struct box_call, node),
                   STR("The session ended while this call was running; its outcome is unknown."),
                   true, "cancelled");
}

/* Otherwise its calls wait for the build, or have failed. */
static bool layer_is_there(struct box *b)
{
    AUTO_BUF struct buf why = BUF_INIT(BUILD_TAIL * 2);
    list_remove(&b->layer_wait.node);
    switch (builds_layer(b->s->builds, str_z(b->environment), &b->layer_wait, &b->layer, &why)) {
    case LAYER_NONE:
    case LAYER_READY: return true;
    case LAYER_WAIT: break;
    case LAYER_FAILED: fail_waiting(b, why.data); break;
    }
    return false;
}

/* RESTORING. Other servers, and imports, ask for it as well. */
static void restored(void *arg, const struct err *err)
{
    struct box *b = arg;
    b->files.restoring = false;
    if (b->s->closing) {
        box_release(b);
        return;
    }
    b->files.tried = err->code == 0;
    b->provisioned = false;
    sm_move(&b->sm, BOX_ABSENT);
    if (err->code) {
        char why[BOX_TEXT_MAX];
        snprintf(why, sizeof why, "its files could not be restored: %s", err->msg);
        fail_waiting(b, why);
    }
    tick(b);
}

static void restore(struct box *b)
{
    bool had = b->files.used;
    list_for_each (it, &b->calls)
        had = had || LIST_ENTRY(it, struct box_call, node)->had;
    b->files.restoring = true;
    sm_move(&b->sm, BOX_RESTORING);
    restore_start(b->s, id_str(&b->id), had, restored, b);
}

/* A checkpoint that was asked for is finished, unless the files go. */
static bool waits_for_files(struct box *b)
{
    if (b->wipe_wanted)
        checkpoint_drop(b);
    else
        checkpoint_begin(b);
    return checkpoint_busy(b) || (copy_busy(b) && !b->wipe_wanted);
}

static void tick_spare(struct box *b)
{
    if (b->spent || b->s->closing) {
        spares_changed(b);
        box_release(b);
    } else if (child_is_free(b)) {
        prepare(b);
    }
}

static void tick_absent(struct box *b)
{
    if (b->working)
        return;
    if (b->spare) {
        if (b->s->probed)
            tick_spare(b);
        return;
    }
    if (b->provisioning) {
        if (b->destroying)
            provision_cancel(b->provisioning);
        return;
    }
    if (b->copy && copy_busy(b)) {
        if (b->destroying)
            copy_cancel(b);
        return;
    }
    if (waits_for_files(b) || !b->s->probed)
        return;
    if (b->destroying) {
        if (!b->looked) {
            sm_move(&b->sm, BOX_FINDING);
            box_job(b, find_work, find_done);
        } else if (b->wipe_wanted) {
            b->wipe_wanted = false;
            b->wipe = true;
            sm_move(&b->sm, BOX_CLEANING);
            box_job(b, clean_work, clean_done);
        } else {
            cancel_all(b);
            box_release(b);
        }
        return;
    }
    if (!b->looked) {
        if (!list_empty(&b->calls)) {
            sm_move(&b->sm, BOX_FINDING);
            box_job(b, find_work, find_done);
        } else if (b->parked) {
            box_release(b);
        }
        return;
    }
    fail_dispatched_earlier(b);
    if (list_empty(&b->calls) && b->parked)
        box_release(b);
    if (list_empty(&b->calls) || b->s->closing)
        return;
    if (!b->s->tier.ok) {
        fail_waiting(b, b->s->tier.reason);
        return;
    }
    if (!child_is_free(b) || !layer_is_there(b))
        return;
    if (!b->copy && !b->files.tried && restore_possible(b->s) && files_are_gone(b)) {
        restore(b);
        return;
    }
    if (spares_adopt(b))
        return;
    if (wants_provision(b)) {
        sm_move(&b->sm, BOX_PROVISIONING);
        provision_begin(b, true);
        return;
    }
    prepare(b);
}

static void tick(struct box *b)
{
    if (b->released)
        return;
    drop_cancelled(b);
    switch (sm_state(&b->sm)) {
    case BOX_ABSENT: tick_absent(b); break;
    case BOX_UP:
        if (!b->provisioning)
            checkpoint_begin(b);
        if (b->destroying && (b->wipe_wanted || !checkpoint_busy(b)))
            end_soon(b, "cancelled");
        else if (!b->recorded && !b->working && !b->adopted &&
                 (b->record.pid = box_child_pid(b)) > 0) {
            b->recorded = true;
            b->record.start_time = process_start_time(b->record.pid);
            box_job(b, record_work, record_done);
        }
        if (sm_state(&b->sm) != BOX_UP)
            break;
        if (!list_empty(&b->calls) && !b->provisioning && files_are_gone(b)) {
            box_lost(b, "sandbox_lost");
            break;
        }
        if (wants_provision(b) && !b->provisioning && !checkpoint_busy(b) && !copy_busy(b))
            provision_begin(b, b->provision_anew);
        if (!b->provisioning && !checkpoint_busy(b) && !copy_busy(b))
            box_send_waiting(b);
        break;
    case BOX_PROVISIONING:
        if (b->destroying)
            provision_cancel(b->provisioning);
        break;
    case BOX_CLEANING: /* the job that was running when the end came has ended */
        if (!b->working)
            box_job(b, clean_work, clean_done);
        break;
    default: break;
    }
}

void box_up(struct box *b)
{
    loop_timer_stop(&b->timer);
    bool started = sm_state(&b->sm) == BOX_STARTING;
    b->recorded = false;
    b->s->stats.starts += started && !b->spare && !b->copy;
    sm_move(&b->sm, BOX_UP);
    b->files.used = true;
    if (b->spare)
        spares_changed(b);
    else
        net_up(b);
    if (started && !b->spare && !b->copy)
        spares_used(b);
    tick(b);
}

void box_spare(struct sandboxes *s, const struct id *name, const char *key, const char *environment,
               const struct layer *layer)
{
    struct box *b = box_new(s, id_str(name));
    b->spare = b->looked = true;
    (void)str_copyz(b->key, sizeof b->key, str_z(key));
    b->environment = mem_dupz(environment, strlen(environment));
    b->layer = *layer;
    box_kick(b);
}

void box_spend(struct box *spare)
{
    spare->spent = true;
    end_soon(spare, NULL);
}

void box_take_over(struct box *b, struct box *from)
{
    struct sandboxes *s = b->s;
    struct list *n;
    b->spare = false;
    b->id = from->id;
    b->provision_anew = b->files.used = true;
    b->provision = TAKE_PTR(from->provision);
    mem_free(b->environment);
    b->environment = TAKE_PTR(from->environment);
    b->destroying = from->destroying;
    b->wipe_wanted = from->wipe_wanted;
    while ((n = list_pop(&from->calls)))
        list_push(&b->calls, n);
    while ((n = list_pop(&from->files.wanted)))
        list_push(&b->files.wanted, n);
    b->files.noted = from->files.noted;
    b->files.told = from->files.told;
    map_remove(&s->by_session, id_str(&from->id));
    map_put(&s->by_session, id_str(&b->id), b);
    box_release(from);
    s->stats.adoptions++;
    b->last_used_ms = loop_now_ms(s->loop);
    net_up(b);
    tick(b);
}

static void kicked(struct loop_post *post)
{
    struct box *b = CONTAINER_OF(post, struct box, post);
    struct sandboxes *s = b->s;
    b->kicked = false;
    if (b->released)
        part_closed(b);
    else
        tick(b);
    sandboxes_job_ended(s);
}

void box_kick(struct box *b)
{
    if (b->kicked || b->released || b->s->closing)
        return;
    b->kicked = true;
    sandboxes_job_began(b->s);
    loop_post(b->s->loop, &b->post, kicked);
}

void box_checkpoint(struct sandboxes *s, struct str session_id, int64_t seq, bool turn_end,
                    void (*done)(void *arg), void *arg)
{
    struct box *b = box_find(s, session_id);
    if (!b) {
        b = box_get(s, session_id);
        b->parked = true; /* it is not needed for anything else */
    }
    checkpoint_ask(b, seq, turn_end, done, arg);
}

void boxes_probed(struct sandboxes *s)
{
    list_for_each (it, &s->boxes)
        box_kick(LIST_ENTRY(it, struct box, node));
}
