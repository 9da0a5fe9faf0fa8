/* What a job leaves behind: the patch, the outputs, the summary. */
#include "cli/job.h"

#include "base/clock.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/proc.h"
#include "json/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_SHOWN = 20 };

/* ---- the patch ---- */

static int download(struct job *j, const char *what, int fd, struct err *err)
{
    char path[256];
    snprintf(path, sizeof path, "/v1/sessions/%s/%s", j->session, what);
    struct client_request r = {.method = "GET", .path = path, .out_fd = fd, .to_file = true};
    AUTO_BUF struct buf none = BUF_INIT(0);
    return job_send(j, &r, &none, err);
}

/* git decides whether the patch fits the directory as it is now; what happened to it in the
 * meantime is the user's. */
static void check_patch(struct job *j)
{
    char directory[4200];
    snprintf(directory, sizeof directory, "--directory=%s", j->packed.prefix);
    const char *args[] = {"apply", "--check", j->patch_path, NULL, NULL};
    if (j->packed.inside_git) {
        args[2] = directory;
        args[3] = j->patch_path;
    }
    struct err err;
    int rc = git_run(j->opt.dir, args, NULL, &err);
    j->patch_checked = rc != ERR_NOT_FOUND;
    j->patch_applies = rc == 0;
    if (rc)
        str_copyz(j->patch_problem, sizeof j->patch_problem, str_z(err.msg));
}

static int write_patch(struct job *j, struct err *err)
{
    char name[256], tmp[4200];
    snprintf(name, sizeof name, "ostler-%s.patch", j->session);
    const char *wanted = j->opt.out ? j->opt.out : name;
    snprintf(tmp, sizeof tmp, "%s.part", wanted);
    AUTO_FD int fd = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_sys(err, errno, "cannot write the patch to %s", wanted);
    struct stat st;
    int rc = download(j, "workspace.patch", fd, err);
    if (rc == 0 && fstat(fd, &st) < 0)
        rc = err_sys(err, errno, "%s", tmp);
    if (rc == 0 && st.st_size > 0 && rename(tmp, wanted) < 0)
        rc = err_sys(err, errno, "cannot write the patch to %s", wanted);
    if (rc || st.st_size == 0)
        unlink(tmp);
    if (rc)
        return rc;
    j->patch_bytes = st.st_size;
    if (st.st_size == 0)
        return 0;
    /* git runs in the directory, not here: it needs the whole path. */
    char *full = realpath(wanted, NULL);
    bool fits = full && str_copyz(j->patch_path, sizeof j->patch_path, str_z(full));
    free(full);
    if (!fits)
        return err_set(err, ERR_INVALID, "the path of the patch is too long");
    check_patch(j);
    return 0;
}

static int fetch_outputs(struct job *j, struct err *err)
{
    AUTO_FD int fd = job_temporary_file(err);
    if (fd < 0)
        return fd;
    int rc = download(j, "outputs.tar", fd, err);
    if (rc)
        return rc == ERR_NOT_FOUND ? 0 : rc; /* there was no sandbox, so there are no outputs */
    if (j->opt.outputs)
        str_copyz(j->outputs_path, sizeof j->outputs_path, str_z(j->opt.outputs));
    else
        snprintf(j->outputs_path, sizeof j->outputs_path, "ostler-outputs-%s", j->session);
    return unpack_tar(fd, j->outputs_path, &j->outputs, err);
}

int job_collect(struct job *j, struct err *err)
{
    int rc = write_patch(j, err);
    rc = rc ? err_wrap(err, "the agent's changes") : 0;
    struct err second;
    if (fetch_outputs(j, &second) && rc == 0) {
        *err = second;
        rc = err_wrap(err, "the agent's outputs");
    }
    return rc;
}

/* ---- the outcome ---- */

/* What the last turn left is graded once more when the rubric asks for it: only the session tells.
 */
static void read_closing(struct job *j)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 16 * 1024 * 1024);
    const struct json *doc = NULL;
    char path[256];
    struct err ignored; /* without an answer the outcome's own result stands */
    if (!j->opt.rubric || !j->opt.rubric->closing || j->end != JOB_DONE)
        return;
    snprintf(path, sizeof path, "/v1/sessions/%s", j->session);
    if (job_json(j, "GET", path, STR_NONE, &a, &doc, &ignored))
        return;
    json_for_each (o, json_get(doc, "outcome_evaluations"))
        if (str_eqz(json_get_str(o, "outcome_id"), j->outcome))
            (void)str_copyz(j->closing, sizeof j->closing,
                            json_get_str(json_get(o, "closing"), "result"));
}

bool job_satisfied(const struct job *j)
{
    return strcmp(j->result, "satisfied") == 0 || strcmp(j->closing, "satisfied") == 0;
}

static void outcome_lines(struct job *j)
{
    struct transcript *t = &j->transcript;
    enum term_style style = job_satisfied(j) ? TERM_GREEN : TERM_RED;
    if (!j->opt.rubric)
        return;
    transcript_note(t, style, "  outcome   %s after %" PRId64 " evaluation%s",
                    j->result[0] ? j->result : "not graded", j->evaluations,
                    j->evaluations == 1 ? "" : "s");
    if (j->closing[0])
        transcript_note(t, style, "  closing   what the last turn left: %s", j->closing);
}

static void json_outcome(const struct job *j, struct jw *w)
{
    if (!j->opt.rubric)
        return;
    jw_key(w, "outcome");
    jw_obj(w);
    jw_kz(w, "outcome_id", j->outcome[0] ? j->outcome : NULL);
    jw_kz(w, "result", j->result[0] ? j->result : NULL);
    jw_ki64(w, "evaluations", j->evaluations);
    jw_kz(w, "closing", j->closing[0] ? j->closing : NULL);
    jw_kbool(w, "satisfied", job_satisfied(j));
    jw_obj_end(w);
}

/* ---- the summary ---- */

static const char *end_text(const struct job *j)
{
    switch (j->end) {
    case JOB_DONE: return j->opt.rubric && !job_satisfied(j) ? "Not satisfied" : "Done";
    case JOB_INTERRUPTED: return j->timed_out ? "Stopped by the time limit" : "Interrupted";
    case JOB_LEFT: return "Left running";
    case JOB_LOST: return "Lost";
    case JOB_RUNNING:
    case JOB_STOPPED: break;
    }
    return "Stopped";
}

/* "ADDED\tDELETED\tPATH" lines, as git counts them. */
static void changed_files(struct job *j)
{
    AUTO_BUF struct buf out = BUF_INIT(16 * 1024 * 1024);
    const char *args[] = {"apply", "--numstat", j->patch_path, NULL};
    struct err err;
    if (git_run("/", args, &out, &err))
        return;
    size_t n = 0;
    for (struct str rest = str_trim(buf_view(&out)); str_some(rest) && rest.len;) {
        struct str path = str_split(&rest, '\n');
        struct str added = str_split(&path, '\t'), deleted = str_split(&path, '\t');
        if (++n <= FILES_SHOWN)
            transcript_note(
                &j->transcript, TERM_PLAIN, "  %-9s " STR_FMT " (+" STR_FMT " -" STR_FMT ")",
                n == 1 ? "changed" : "", STR_ARG(path), STR_ARG(added), STR_ARG(deleted));
    }
    if (n > FILES_SHOWN)
        transcript_note(&j->transcript, TERM_PLAIN, "            and %zu more", n - FILES_SHOWN);
}

static void patch_lines(struct job *j)
{
    struct transcript *t = &j->transcript;
    if (!j->patch_bytes) {
        transcript_note(t, TERM_PLAIN, "  changed   nothing: no patch was written");
        return;
    }
    changed_files(j);
    transcript_note(t, TERM_PLAIN, "  patch     %s", j->patch_path);
    if (j->patch_applies && j->packed.inside_git)
        transcript_note(t, TERM_GREEN, "  fits      git -C '%s' apply --directory='%s' '%s'",
                        j->opt.dir, j->packed.prefix, j->patch_path);
    else if (j->patch_applies)
        transcript_note(t, TERM_GREEN, "  fits      git -C '%s' apply '%s'", j->opt.dir,
                        j->patch_path);
    else if (j->patch_checked)
        transcript_note(t, TERM_RED, "  does not fit the directory as it is now: %s",
                        j->patch_problem);
    else
        transcript_note(t, TERM_YELLOW, "  not checked: git is not installed");
}

static void spend_line(struct job *j)
{
    struct transcript *t = &j->transcript;
    AUTO_BUF struct buf b = BUF_INIT(1024);
    buf_printf(&b, "%" PRId64 " tool call%s, %" PRId64 " model request%s, ", t->tool_calls,
               t->tool_calls == 1 ? "" : "s", t->model_requests, t->model_requests == 1 ? "" : "s");
    term_count(&b, t->input_tokens);
    buf_z(&b, " tokens in, ");
    if (t->cache_tokens) {
        term_count(&b, t->cache_tokens);
        buf_z(&b, " cached, ");
    }
    term_count(&b, t->output_tokens);
    buf_z(&b, " out, ");
    bool free_of_charge = strncmp(j->model, "script/", 7) == 0;
    if (t->cost_microusd < 0)
        buf_z(&b, "cost not told");
    else if (free_of_charge || !t->cost_in_cents)
        term_money(&b, t->cost_microusd);
    else if (t->cost_microusd == 0)
        buf_z(&b, "less than half a cent");
    else
        buf_printf(&b, "about $%" PRId64 ".%02d", t->cost_microusd / 1000000,
                   (int)(t->cost_microusd % 1000000 / 10000));
    transcript_note(t, TERM_PLAIN, "  spent     %s", b.data);
}

enum { REFUSED_SHOWN = 10 };

/* What the network refused, by host: also where the agent coped, so that no call failed. */
static void refused_lines(struct job *j)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, 16 * 1024 * 1024);
    const struct json *doc = NULL;
    struct err ignored; /* an older server has no such list */
    char path[256];
    snprintf(path, sizeof path, "/v1/sessions/%s/egress?decision=denied&limit=1000", j->session);
    if (job_json(j, "GET", path, STR_NONE, &a, &doc, &ignored))
        return;
    const struct json *shown[REFUSED_SHOWN];
    size_t n = 0;
    json_for_each (it, json_get(doc, "data")) {
        struct str host = json_get_str(it, "host");
        bool seen = n == REFUSED_SHOWN;
        for (size_t i = 0; i < n && !seen; i++)
            seen = str_eq(json_get_str(shown[i], "host"), host);
        if (seen)
            continue;
        int64_t port = 0;
        (void)json_i64(json_get(it, "port"), &port);
        transcript_note(&j->transcript, TERM_YELLOW,
                        "  refused   " STR_FMT ":%" PRId64 " (" STR_FMT ")%s", STR_ARG(host), port,
                        STR_ARG(json_get_str(it, "reason")),
                        n ? "" : "; --allow HOST,... lets the agent's programs reach a host");
        shown[n++] = it;
    }
}

static void json_summary(struct job *j)
{
    struct transcript *t = &j->transcript;
    buf_clear(&t->out);
    struct jw w = jw_to(&t->out);
    jw_obj(&w);
    jw_kz(&w, "type", "ostler.run_result");
    jw_kz(&w, "session_id", j->session);
    jw_kz(&w, "model", j->model);
    jw_kbool(&w, "done", j->end == JOB_DONE);
    jw_kz(&w, "stop_reason", j->stop_reason[0] ? j->stop_reason : NULL);
    jw_kz(&w, "patch", j->patch_bytes ? j->patch_path : NULL);
    jw_kbool(&w, "patch_applies", j->patch_applies);
    jw_kz(&w, "outputs", j->outputs.files ? j->outputs_path : NULL);
    jw_ki64(&w, "tool_calls", t->tool_calls);
    jw_ki64(&w, "input_tokens", t->input_tokens);
    jw_ki64(&w, "cache_tokens", t->cache_tokens);
    jw_ki64(&w, "output_tokens", t->output_tokens);
    if (t->cost_microusd >= 0)
        jw_ki64(&w, "cost_microusd", t->cost_microusd);
    jw_ki64(&w, "elapsed_ms", j->ended_ms - j->started_ms);
    json_outcome(j, &w);
    jw_obj_end(&w);
    jw_done(&w);
    buf_ch(&t->out, '\n');
    job_flush(j);
}

static void left_running(struct job *j)
{
    struct transcript *t = &j->transcript;
    transcript_note(t, TERM_YELLOW, "The session goes on without this command. Follow it with:");
    transcript_note(t, TERM_PLAIN, "  ostler events %s --follow --server %s", j->session,
                    j->client.base);
    if (j->own)
        transcript_note(t, TERM_PLAIN, "Its server is process %d on %s; end it with: kill %d",
                        j->child.pid, j->opt.data, j->child.pid);
    job_flush(j);
}

void job_summary(struct job *j)
{
    struct transcript *t = &j->transcript;
    if (j->opt.json) {
        json_summary(j);
        return;
    }
    if (j->end == JOB_LEFT) {
        left_running(j);
        return;
    }
    AUTO_BUF struct buf took = BUF_INIT(64);
    term_duration(&took, j->ended_ms - j->started_ms);
    bool plain = j->end == JOB_DONE || j->end == JOB_INTERRUPTED || !j->stop_reason[0];
    transcript_note(t, TERM_PLAIN, "%s", "");
    bool well = j->end == JOB_DONE && (!j->opt.rubric || job_satisfied(j));
    transcript_note(t, well ? TERM_GREEN : TERM_RED, "%s%s%s after %s", end_text(j),
                    plain ? "" : ": ", plain ? "" : j->stop_reason, took.data);
    outcome_lines(j);
    patch_lines(j);
    if (j->outputs.files)
        transcript_note(t, TERM_PLAIN, "  outputs   %s/ (%" PRId64 " file%s)", j->outputs_path,
                        j->outputs.files, j->outputs.files == 1 ? "" : "s");
    if (j->outputs.skipped)
        transcript_note(t, TERM_YELLOW, "            left out %" PRId64 " links and special files",
                        j->outputs.skipped);
    refused_lines(j);
    spend_line(j);
    if (j->opt.keep)
        transcript_note(t, TERM_PLAIN, "  session   %s is kept", j->session);
    job_flush(j);
}

/* ---- all of it ---- */

static int exit_code(const struct job *j)
{
    if (j->end == JOB_LOST)
        return CLI_SERVER;
    bool fits = !j->patch_bytes || !j->patch_checked || j->patch_applies;
    if (j->end != JOB_DONE || !fits)
        return CLI_FAILED;
    return j->opt.rubric && !job_satisfied(j) ? CLI_UNSATISFIED : CLI_OK;
}

static int fail(const struct job *j, const char *name, const struct err *err)
{
    bool usage = err->code == ERR_INVALID && strncmp(err->at, "--", 2) == 0;
    int code = err->code == ERR_CONNECT ? CLI_SERVER : usage ? CLI_USAGE : CLI_FAILED;
    if (j->session[0] && err->code == ERR_CONNECT)
        return cli_fail(code, name,
                        "%s; the session is kept: `ostler events %s --follow` shows how "
                        "it goes on",
                        err->msg, j->session);
    return cli_fail(code, name, "%s%s", err->msg, cli_remedy(err));
}

int job_run(const struct job_options *opt, const char *name)
{
    struct job j;
    struct err err = {0};
    int rc = job_open(&j, opt, &err);
    rc = rc ? rc : job_prepare(&j, &err);
    rc = rc ? rc : job_follow(&j, &err);
    if (rc == 0 && j.end != JOB_LEFT)
        rc = job_collect(&j, &err);
    if (rc == 0)
        read_closing(&j);
    int code;
    if (rc) {
        code = fail(&j, name, &err);
    } else {
        job_summary(&j);
        code = exit_code(&j);
    }
    job_close(&j);
    return code;
}
