#include "cli/demo.h"

#include "base/clock.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/proc.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATCH_LINES = 60, LOG_LINES = 15, PROBE_TRIES = 200, PROBE_WAIT_MS = 50 };

static const char task[] = "Find a helper that the string functions of src/base lack, add it, "
                           "test it, and report";

/* ---- talking ---- */

static void say(struct demo *d, enum term_style style, const char *text)
{
    transcript_note(&d->job.transcript, style, "%s", text);
    job_flush(&d->job);
}

static void introduce(const struct demo *d, const char *from)
{
    struct term t = term_for(STDOUT_FILENO);
    AUTO_BUF struct buf b = BUF_INIT(8192);
    term_style(&t, &b, TERM_BOLD);
    buf_z(&b, "ostler demo: an agent works, its server is killed, the work goes on\n");
    term_style(&t, &b, TERM_PLAIN);
    buf_z(&b,
          "  The model is script/demo: a script that stands in for an AI, so that no key and no\n"
          "  network are needed. Everything else is real: server, log, sandbox, tools, patch.\n"
          "  repository  a copy of ");
    term_safe_line(&b, str_z(from));
    buf_printf(&b, "\n  everything  below %s, removed at the end\n\n", d->dir);
    struct err err;
    if (fd_write_all(STDOUT_FILENO, buf_view(&b), &err))
        return;
}

/* ---- the kill ---- */

static void kill_now(struct loop_timer *t)
{
    struct demo *d = CONTAINER_OF(t, struct demo, kill_timer);
    struct job *j = &d->job;
    if (d->killed_pid || d->answered_before || !j->child.running)
        return;
    d->killed_pid = j->child.pid;
    char line[160];
    snprintf(line, sizeof line,
             "! demo: the command above is still running. kill -9 %d: the server, now",
             d->killed_pid);
    say(d, TERM_RED, line);
    if (child_kill(&j->child, SIGKILL))
        d->killed_pid = 0;
}

/* The one long command is recognised by the script's own words. */
static bool is_long_call(const struct follow_event *ev)
{
    struct str command = json_get_str(json_get(ev->doc, "input"), "command");
    return str_eqz(ev->type, "agent.tool_use") && str_find(command, STR("all levels passed")) >= 0;
}

static void watch(struct job *j, const struct follow_event *ev)
{
    struct demo *d = j->watch_arg;
    d->shown += str_some(ev->id);
    if (!d->call[0] && is_long_call(ev)) {
        str_copyz(d->call, sizeof d->call, ev->id);
        loop_timer_start(&d->kill_timer, d->fast ? 1000 : 2000, kill_now);
    } else if (str_eqz(ev->type, "agent.tool_result") && !d->killed_pid && d->call[0] &&
               str_eqz(json_get_str(ev->doc, "tool_use_id"), d->call)) {
        d->answered_before = true;
    }
}

/* ---- the result ---- */

static void show_patch(struct demo *d)
{
    AUTO_BUF struct buf text = BUF_INIT(16 * 1024 * 1024);
    struct transcript *t = &d->job.transcript;
    struct err err;
    if (fd_read_file(d->patch, &text, &err))
        return;
    transcript_note(t, TERM_BOLD, "%s", "The patch:");
    struct str rest = buf_view(&text);
    for (size_t n = 0; str_some(rest) && rest.len && n < PATCH_LINES; n++) {
        struct str line = str_split(&rest, '\n');
        char first = line.len ? line.ptr[0] : ' ';
        enum term_style style = first == '+'   ? TERM_GREEN
                                : first == '-' ? TERM_RED
                                : first == '@' ? TERM_CYAN
                                               : TERM_PLAIN;
        transcript_note(t, style, "  " STR_FMT, STR_ARG(str_utf8_take(line, 400)));
    }
    job_flush(&d->job);
}

static void conclude(struct demo *d)
{
    struct transcript *t = &d->job.transcript;
    transcript_note(t, TERM_PLAIN, "%s", "");
    transcript_note(t, TERM_GREEN, "Checked in the session's log, not on the screen:");
    transcript_note(t, TERM_PLAIN,
                    "  The server died in the middle of a tool call (kill -9 %d) and was started "
                    "again.",
                    d->killed_pid);
    transcript_note(t, TERM_PLAIN,
                    "  The turn went on: %zu tool calls, %zu results, each ran exactly once.",
                    d->calls, d->answers);
    transcript_note(t, TERM_PLAIN, "  %zu events were logged, and each was shown exactly once.",
                    d->logged);
    transcript_note(t, TERM_PLAIN, "  `git apply` took the patch.");
    transcript_note(t, TERM_PLAIN, "%s", "");
    transcript_note(t, TERM_BOLD,
                    "The model was a script. With a real one, on a directory of yours:");
    transcript_note(t, TERM_PLAIN,
                    "  ANTHROPIC_API_KEY=... ostler run \"fix the failing test\" --dir .");
    job_flush(&d->job);
}

static void show_log(const struct demo *d)
{
    char path[700];
    AUTO_BUF struct buf text = BUF_INIT(64 * 1024 * 1024);
    snprintf(path, sizeof path, "%s/server.log", d->data);
    struct err err;
    if (fd_read_file(path, &text, &err))
        return;
    struct str all = str_trim(buf_view(&text));
    size_t at = all.len;
    for (int lines = 0; at && lines < LOG_LINES; at--)
        lines += all.ptr[at - 1] == '\n';
    AUTO_BUF struct buf safe = BUF_INIT(1024 * 1024);
    buf_z(&safe, "the server's last words:\n");
    term_safe(&safe, str_skip(all, at));
    buf_ch(&safe, '\n');
    if (fd_write_all(STDERR_FILENO, buf_view(&safe), &err))
        return;
}

/* ---- the course of it ---- */

static int make_dirs(struct demo *d, struct err *err)
{
    const char *tmp = getenv("TMPDIR");
    if (snprintf(d->dir, sizeof d->dir, "%s/ostler-demo-XXXXXX", tmp && *tmp ? tmp : "/tmp") >=
        (int)sizeof d->dir)
        return err_set(err, ERR_INVALID, "TMPDIR is too long");
    if (!mkdtemp(d->dir))
        return err_sys(err, errno, "cannot make a directory below %s", tmp && *tmp ? tmp : "/tmp");
    snprintf(d->repo, sizeof d->repo, "%s/repo", d->dir);
    snprintf(d->data, sizeof d->data, "%s/data", d->dir);
    snprintf(d->patch, sizeof d->patch, "%s/change.patch", d->dir);
    snprintf(d->outputs, sizeof d->outputs, "%s/outputs", d->dir);
    return 0;
}

/* Without a sandbox every tool call fails, and there is nothing to show. */
static int need_sandbox(struct job *j, struct err *err)
{
    for (int tries = 0;; tries++) {
        AUTO_ARENA struct arena a;
        arena_init(&a, 1024 * 1024);
        const struct json *doc;
        int rc = job_json(j, "GET", "/healthz", STR_NONE, &a, &doc, err);
        if (rc)
            return rc;
        const struct json *box = json_get(doc, "sandbox");
        if (json_is_true(json_get(box, "ok")))
            return 0;
        bool probing = str_eqz(json_get_str(box, "tier"), "probing");
        if (!probing || tries >= PROBE_TRIES)
            return err_set(err, ERR_INVALID, "no sandbox can be had on this host: " STR_FMT,
                           STR_ARG(json_get_str(box, "reason")));
        if (poll(NULL, 0, PROBE_WAIT_MS) < 0)
            return err_sys(err, errno, "poll");
    }
}

static int perform(struct demo *d, struct err *err)
{
    struct job *j = &d->job;
    const struct job_options opt = {
        .task = task,
        .dir = d->repo,
        .model = "script/demo",
        .data = d->data,
        .out = d->patch,
        .outputs = d->outputs,
        .own_only = true,
    };
    int rc = job_open(j, &opt, err);
    loop_timer_init(j->loop, &d->kill_timer);
    d->kill_timer_open = true;
    j->watch = watch;
    j->watch_arg = d;
    j->restart_delay_ms = d->fast ? 200 : 1200;
    rc = rc ? rc : need_sandbox(j, err);
    rc = rc ? rc : job_prepare(j, err);
    rc = rc ? rc : job_follow(j, err);
    rc = rc ? rc : job_collect(j, err);
    if (rc)
        return rc;
    job_summary(j);
    show_patch(d);
    rc = demo_check(d, err);
    if (rc == 0)
        conclude(d);
    return rc;
}

static void finish(struct demo *d)
{
    if (!d->kill_timer_open)
        return;
    loop_timer_close(&d->kill_timer, NULL);
    /* Nothing is left behind, whatever happened. */
    if (d->job.end == JOB_LEFT)
        d->job.end = JOB_INTERRUPTED;
    job_close(&d->job);
}

static int run(struct demo *d)
{
    struct err err = {0};
    char from[4096] = "";
    int rc = make_dirs(d, &err);
    if (rc)
        return cli_fail(CLI_FAILED, "demo", "%s", err.msg);
    rc = demo_clone(d->repo, from, &err);
    if (rc == 0) {
        introduce(d, from);
        rc = perform(d, &err);
    }
    if (rc && err.code != ERR_CANCELED)
        show_log(d);
    finish(d);
    demo_remove_tree(d->dir);
    if (!rc)
        return CLI_OK;
    return cli_fail(err.code == ERR_CONNECT ? CLI_SERVER : CLI_FAILED, "demo", "%s", err.msg);
}

int cmd_demo(int argc, char **argv)
{
    struct demo d = {.fast = false};
    const struct option_spec options[] = {
        {"fast", 0, OPTION_FLAG, &d.fast, NULL, "shorter pauses", 0, 0},
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {
        .name = "demo",
        .usage = "ostler demo [--fast]",
        .summary =
            "Runs a scripted agent with real tools on a copy of ostler's sources, kills the "
            "server\n"
            "with SIGKILL in the middle of a tool call, starts it again, and checks that the turn\n"
            "went on, that no tool ran twice, and that the patch applies. Takes about 20 seconds,\n"
            "needs no key and no network, and leaves nothing behind.",
        .notes = "Examples:\n  ostler demo\n  ostler demo --fast\n\n"
                 "Exit codes: 0 all of it happened and was checked, 1 not, 2 usage, 3 the server "
                 "cannot be started\n",
        .options = options};
    struct option_words words;
    int code;
    if (!options_begin(&spec, argc, argv, &words, &code))
        return code;
    return run(&d);
}
