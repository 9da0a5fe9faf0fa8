#include "cli/job.h"

#include "base/clock.h"
#include "base/fd.h"
#include "core/rubric.h"
#include "json/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    INTERRUPT_GRACE_MS = 20 * 1000, /* a turn told to stop has so long to say that it has */
    GIVE_UP_MS = 10 * 60 * 1000,    /* a server of somebody else's may be away for so long */
};

static const char default_system[] =
    "You work in /workspace, a copy of the user's directory. Change files there; the difference is "
    "handed back to the user as a patch. Put any other result into /mnt/session/outputs. There is "
    "no network. Check your work before you finish, and end with a short summary.";

void job_flush(struct job *j)
{
    struct err err;
    if (j->transcript.out.len && !j->mute &&
        fd_write_all(STDOUT_FILENO, buf_view(&j->transcript.out), &err))
        j->mute = true; /* nobody reads: the work goes on, and its results are files */
    buf_clear(&j->transcript.out);
}

/* ---- signals and time ---- */

static void interrupt_done(void *arg, const struct err *err)
{
    struct job *j = arg;
    (void)err; /* the stream tells whether it had an effect; the second Ctrl-C is always there */
    j->interrupt_call = NULL;
}

/* From a call-back of the loop: not waited for. */
static void send_interrupt(struct job *j)
{
    static const struct str body = STR("{\"events\":[{\"type\":\"user.interrupt\"}]}");
    char url[1024];
    struct http_header headers[CLIENT_HEADERS + 1];
    size_t n = client_headers(&j->client, headers);
    headers[n++] = (struct http_header){STR("content-type"), STR("application/json")};
    snprintf(url, sizeof url, "%s/v1/sessions/%s/events", j->client.base, j->session);
    struct http_call_params p = {.method = "POST",
                                 .url = url,
                                 .headers = headers,
                                 .nheaders = n,
                                 .body = body,
                                 .connect_ms = 5000,
                                 .on_done = interrupt_done,
                                 .arg = j};
    struct err err;
    if (!j->interrupt_call)
        j->interrupt_call = http_call_start(j->client.http, &p, &err);
}

static void leave(struct job *j, enum job_end end)
{
    if (j->end != JOB_RUNNING)
        return;
    j->end = end;
    follow_end(&j->follow);
    loop_stop(j->loop);
}

static void grace_over(struct loop_timer *t)
{
    leave(CONTAINER_OF(t, struct job, timer), JOB_LEFT);
}

static void note(struct job *j, const char *text)
{
    if (!j->opt.json)
        transcript_note(&j->transcript, TERM_YELLOW, "%s", text);
    job_flush(j);
}

static void on_signal(void *arg, int signum)
{
    struct job *j = arg;
    (void)signum;
    j->signals++;
    if (!j->following) {
        j->client.interrupted = true;
        loop_stop(j->loop);
    } else if (j->signals == 1) {
        note(j, j->opt.own_only ? "! stopping"
                                : "! interrupting the agent; once more to leave it running");
        send_interrupt(j);
        if (j->opt.own_only)
            loop_timer_start(&j->timer, INTERRUPT_GRACE_MS, grace_over);
    } else if (!j->opt.own_only) {
        leave(j, JOB_LEFT);
    }
}

static void time_over(struct loop_timer *t)
{
    struct job *j = CONTAINER_OF(t, struct job, timer);
    if (j->end != JOB_RUNNING)
        return;
    j->timed_out = true;
    note(j, "! the time limit is reached: interrupting the agent");
    send_interrupt(j);
    loop_timer_start(&j->timer, INTERRUPT_GRACE_MS, grace_over);
}

/* ---- opening ---- */

int job_open(struct job *j, const struct job_options *opt, struct err *err)
{
    *j = (struct job){.opt = *opt, .loop = loop_new(), .open_timers = 2};
    loop_timer_init(j->loop, &j->timer);
    loop_timer_init(j->loop, &j->pause);
    transcript_init(&j->transcript, term_for(STDOUT_FILENO));
    j->started_ms = clock_mono_us() / 1000;
    if (opt->model && !str_copyz(j->model, sizeof j->model, str_z(opt->model)))
        return err_at(err, ERR_INVALID, "--model", "--model: the name is too long");
    int rc = loop_on_signal(j->loop, SIGINT, on_signal, j);
    rc = rc ? rc : loop_on_signal(j->loop, SIGTERM, on_signal, j);
    if (rc)
        return err_set(err, rc, "cannot watch for signals");
    return job_connect(j, err);
}

/* ---- preparing ---- */

static void write_agent(const struct job *j, struct buf *out)
{
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kz(&w, "name", "ostler run");
    jw_kz(&w, "model", j->model);
    jw_kz(&w, "system", j->opt.system ? j->opt.system : default_system);
    jw_key(&w, "tools");
    jw_raw(&w, STR("[{\"type\":\"agent_toolset_20260401\",\"configs\":["
                   "{\"name\":\"web_fetch\",\"enabled\":false},"
                   "{\"name\":\"web_search\",\"enabled\":false}]}]"));
    jw_obj_end(&w);
    jw_done(&w);
}

static void write_environment(const struct job *j, struct buf *out)
{
    struct id unique = id_new("run");
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kz(&w, "name", unique.z);
    jw_kz(&w, "description", "made by ostler run");
    jw_key(&w, "config");
    jw_obj(&w);
    jw_kz(&w, "type", "cloud");
    jw_key(&w, "networking");
    jw_obj(&w);
    jw_kz(&w, "type", "limited");
    jw_key(&w, "allowed_hosts");
    jw_arr(&w);
    for (struct str rest = str_z(j->opt.allow); str_some(rest);) {
        struct str host = str_trim(str_split(&rest, ','));
        if (host.len)
            jw_str(&w, host);
    }
    jw_arr_end(&w);
    jw_obj_end(&w);
    jw_obj_end(&w);
    jw_obj_end(&w);
    jw_done(&w);
}

static void write_session(const struct job *j, struct buf *out)
{
    struct str title = str_utf8_take(str_z(j->opt.task), 120);
    struct jw w = jw_to(out);
    jw_obj(&w);
    jw_kz(&w, "agent", j->agent);
    jw_kz(&w, "environment_id", j->environment);
    jw_kstr(&w, "title", str_take(title, strcspn(j->opt.task, "\n")));
    if (j->opt.budget_cents) {
        char cents[24];
        snprintf(cents, sizeof cents, "%" PRId64, j->opt.budget_cents);
        jw_key(&w, "budget");
        jw_obj(&w);
        jw_kz(&w, "type", "limit");
        jw_key(&w, "max_list_cost");
        jw_obj(&w);
        jw_kz(&w, "amount", cents);
        jw_kz(&w, "currency", "USD");
        jw_obj_end(&w);
        jw_obj_end(&w);
    }
    jw_obj_end(&w);
    jw_done(&w);
}

static int create(struct job *j, const char *path, const struct buf *body, char id[64],
                  struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 16 * 1024 * 1024);
    const struct json *doc;
    int rc = job_json(j, "POST", path, buf_view(body), &a, &doc, err);
    if (rc)
        return rc;
    struct str got = json_get_str(doc, "id");
    if (!got.len || !str_copyz(id, 64, got))
        return err_set(err, ERR_PROTOCOL, "%s%s answered without an id", j->client.base, path);
    return 0;
}

static int upload(struct job *j, int fd, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "the packed directory");
    size_t len = (size_t)st.st_size;
    void *bytes = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return err_sys(err, errno, "the packed directory");
    char path[256];
    snprintf(path, sizeof path, "/v1/sessions/%s/workspace", j->session);
    AUTO_BUF struct buf answer = BUF_INIT(1024 * 1024);
    struct client_request r = {.method = "PUT",
                               .path = path,
                               .body = str_n(bytes, len),
                               .content_type = "application/x-tar"};
    int rc = job_send(j, &r, &answer, err);
    munmap(bytes, len);
    return rc;
}

int job_temporary_file(struct err *err)
{
    const char *dir = getenv("TMPDIR");
    int fd = open(dir && *dir ? dir : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        fd = memfd_create("ostler", MFD_CLOEXEC);
    return fd >= 0 ? fd : err_sys(err, errno, "temporary file");
}

static int bring_directory(struct job *j, struct err *err)
{
    AUTO_FD int fd = job_temporary_file(err);
    if (fd < 0)
        return fd;
    int rc = pack_directory(j->opt.dir, j->opt.include_ignored, fd, &j->packed, err);
    rc = rc ? rc : upload(j, fd, err);
    return rc;
}

static void introduce_rubric(struct job *j)
{
    const struct rubric_file *f = j->opt.rubric;
    int64_t most = j->opt.max_iterations ? j->opt.max_iterations : f->max_iterations;
    struct str *criteria;
    size_t n = 0;
    char iterations[64] = "";
    struct err ignored; /* it was read before */
    if (rubric_criteria(f->arena, f->content, &criteria, &n, &ignored))
        return;
    if (most)
        snprintf(iterations, sizeof iterations, ", at most %" PRId64 " iteration%s", most,
                 most == 1 ? "" : "s");
    transcript_note(&j->transcript, TERM_DIM, "graded by %s: %zu criteri%s, %zu check%s%s", f->path,
                    n, n == 1 ? "on" : "a", f->nchecks, f->nchecks == 1 ? "" : "s", iterations);
}

static void introduce(struct job *j)
{
    struct transcript *t = &j->transcript;
    if (j->opt.json)
        return;
    AUTO_BUF struct buf size = BUF_INIT(64);
    term_count(&size, j->packed.bytes);
    transcript_note(t, TERM_DIM, "session %s on %s%s", j->session, j->client.base,
                    j->own ? " (a server of its own)" : "");
    bool scripted = strncmp(j->model, "script/", 7) == 0;
    transcript_note(t, TERM_DIM, "model %s%s%s", j->model,
                    j->opt.model ? "" : ", because --model names none",
                    scripted ? ": a script, not an AI" : "");
    transcript_note(t, TERM_DIM, "brought in %lld files (%s bytes)%s from %s",
                    (long long)j->packed.files, size.data ? size.data : "0",
                    j->packed.git ? " with the git history" : "", j->opt.dir);
    if (j->packed.skipped)
        transcript_note(t, TERM_DIM, "left out %lld that are no files, links or directories",
                        (long long)j->packed.skipped);
    transcript_note(t, TERM_BOLD, "> %s", j->opt.task);
    if (j->opt.rubric)
        introduce_rubric(j);
    job_flush(j);
}

int job_prepare(struct job *j, struct err *err)
{
    AUTO_BUF struct buf agent = BUF_INIT(1024 * 1024), environment = BUF_INIT(128 * 1024),
                        session = BUF_INIT(64 * 1024);
    if (!j->model[0])
        return err_at(err, ERR_INVALID, "--model",
                      "name the model with --model: the server at %s does not tell its default",
                      j->client.base);
    write_agent(j, &agent);
    int rc = create(j, "/v1/agents", &agent, j->agent, err);
    if (rc)
        return rc;
    write_environment(j, &environment);
    rc = create(j, "/v1/environments", &environment, j->environment, err);
    if (rc)
        return rc;
    write_session(j, &session);
    rc = create(j, "/v1/sessions", &session, j->session, err);
    rc = rc ? rc : bring_directory(j, err);
    if (rc == 0)
        introduce(j);
    return rc;
}

/* ---- following ---- */

static void turn_ended(struct job *j, const struct follow_event *ev)
{
    struct str reason = json_get_str(json_get(ev->doc, "stop_reason"), "type");
    str_copyz(j->stop_reason, sizeof j->stop_reason, reason);
    enum job_end end = JOB_STOPPED;
    if (str_eqz(reason, "end_turn"))
        end = j->signals || j->timed_out ? JOB_INTERRUPTED : JOB_DONE;
    leave(j, end);
}

/* The session is new: there is one outcome in it. */
static void note_outcome(struct job *j, const struct follow_event *ev)
{
    if (!str_eqz(ev->type, "span.outcome_evaluation_end"))
        return;
    (void)str_copyz(j->outcome, sizeof j->outcome, json_get_str(ev->doc, "outcome_id"));
    (void)str_copyz(j->result, sizeof j->result, json_get_str(ev->doc, "result"));
    j->evaluations += json_get_str(ev->doc, "outcome_evaluation_start_id").len > 0;
}

static void on_event(struct follow *f, const struct follow_event *ev)
{
    struct job *j = f->arg;
    note_outcome(j, ev);
    if (j->watch)
        j->watch(j, ev);
    /* Totals are kept in both forms of output. */
    transcript_event(&j->transcript, ev);
    if (j->opt.json) {
        buf_clear(&j->transcript.out);
        if (str_some(ev->id))
            buf_str(&j->transcript.out, ev->text);
        if (str_some(ev->id))
            buf_ch(&j->transcript.out, '\n');
    }
    job_flush(j);
    if (str_eqz(ev->type, "session.status_idle")) {
        turn_ended(j, ev);
    } else if (str_eqz(ev->type, "session.status_terminated") ||
               str_eqz(ev->type, "session.deleted")) {
        str_copyz(j->stop_reason, sizeof j->stop_reason, ev->type);
        leave(j, JOB_STOPPED);
    }
}

static void on_state(struct follow *f, enum follow_state state, const struct err *err)
{
    struct job *j = f->arg;
    if (state == FOLLOW_OPEN) {
        if (j->stream_open)
            note(j, "! connected again; nothing is lost");
        j->stream_open = true;
        loop_stop(j->loop);
    } else if (state == FOLLOW_LOST) {
        transcript_break(&j->transcript);
        if (!j->own)
            note(j, "! lost the connection to the server; trying to get it back");
    } else {
        j->err = *err;
        leave(j, JOB_LOST);
    }
}

static void write_message(const struct job *j, struct jw *w)
{
    jw_obj(w);
    jw_kz(w, "type", "user.message");
    jw_key(w, "content");
    jw_arr(w);
    jw_obj(w);
    jw_kz(w, "type", "text");
    jw_kz(w, "text", j->opt.task);
    jw_obj_end(w);
    jw_arr_end(w);
    jw_obj_end(w);
}

static void write_outcome(const struct job *j, struct jw *w)
{
    const struct rubric_file *f = j->opt.rubric;
    int64_t most = j->opt.max_iterations ? j->opt.max_iterations : f->max_iterations;
    jw_obj(w);
    jw_kz(w, "type", "user.define_outcome");
    jw_kz(w, "description", j->opt.task);
    jw_key(w, "rubric");
    rubric_file_write(w, f);
    if (most)
        jw_ki64(w, "max_iterations", most);
    jw_obj_end(w);
}

static int send_task(struct job *j, struct err *err)
{
    AUTO_BUF struct buf body = BUF_INIT(32 * 1024 * 1024);
    struct jw w = jw_to(&body);
    jw_obj(&w);
    jw_key(&w, "events");
    jw_arr(&w);
    if (j->opt.rubric)
        write_outcome(j, &w);
    else
        write_message(j, &w);
    jw_arr_end(&w);
    jw_obj_end(&w);
    jw_done(&w);
    char path[256];
    snprintf(path, sizeof path, "/v1/sessions/%s/events", j->session);
    AUTO_ARENA struct arena a;
    arena_init(&a, 64 * 1024 * 1024);
    const struct json *doc;
    return job_json(j, "POST", path, buf_view(&body), &a, &doc, err);
}

/* Runs the loop until `*flag` or the end, starting a dead server of our own again. */
static int run_until(struct job *j, const bool *flag, struct err *err)
{
    while (j->end == JOB_RUNNING && !(flag && *flag)) {
        int rc = job_revive(j, err);
        if (rc) {
            leave(j, JOB_LOST);
            return rc;
        }
        if (j->client.interrupted)
            return err_set(err, ERR_CANCELED, "interrupted");
        if (!j->child_died)
            loop_run(j->loop);
    }
    return 0;
}

int job_follow(struct job *j, struct err *err)
{
    follow_init(&j->follow, &j->client, j->session);
    j->follow.previews = true;
    j->follow.give_up_ms = GIVE_UP_MS;
    j->follow.on_event = on_event;
    j->follow.on_state = on_state;
    j->follow.arg = j;
    follow_start(&j->follow);
    int rc = run_until(j, &j->stream_open, err);
    if (rc == 0 && j->end == JOB_RUNNING)
        rc = send_task(j, err);
    if (rc == 0) {
        j->following = true;
        if (j->opt.timeout_s)
            loop_timer_start(&j->timer, j->opt.timeout_s * 1000, time_over);
        rc = run_until(j, NULL, err);
    }
    j->following = false;
    j->ended_ms = clock_mono_us() / 1000;
    loop_timer_stop(&j->timer);
    follow_fini(&j->follow);
    if (j->interrupt_call)
        http_call_cancel(TAKE_PTR(j->interrupt_call));
    transcript_break(&j->transcript);
    job_flush(j);
    if (rc == 0 && j->end == JOB_LOST) {
        *err = j->err;
        return err->code;
    }
    return rc;
}

/* ---- closing ---- */

static void discard(struct job *j, const char *kind, const char *id)
{
    if (!id[0])
        return;
    char path[256];
    snprintf(path, sizeof path, "/v1/%s/%s/archive", kind, id);
    AUTO_BUF struct buf answer = BUF_INIT(1024 * 1024);
    struct client_request r = {.method = "POST", .path = path, .body = STR("{}")};
    struct err err;
    /* Tidying up is best effort: what stays behind costs a row. */
    if (client_send(&j->client, &r, &answer, &err))
        return;
}

static void timer_closed(struct loop_timer *t)
{
    (void)t;
}

void job_close(struct job *j)
{
    bool leave_it = j->end == JOB_LEFT || j->end == JOB_LOST;
    j->client.interrupted = false;
    j->client.patience_ms = 0;
    if (j->client.http && !j->opt.keep && !leave_it) {
        discard(j, "sessions", j->session);
        discard(j, "environments", j->environment);
        discard(j, "agents", j->agent);
    }
    client_close(&j->client);
    if (j->own && j->end != JOB_LEFT)
        child_stop(&j->child);
    transcript_fini(&j->transcript);
    if (j->end == JOB_LEFT)
        return; /* the process ends now; the loop still watches a server that is to live on */
    loop_timer_close(&j->timer, timer_closed);
    loop_timer_close(&j->pause, timer_closed);
    loop_free(j->loop);
}
