/* The persistent shell behind the tool bash.
 *
 * Commands go to the shell's standard input as `eval '...'`, so that an open quote or a
 * here-document is an error of that command and does not swallow what follows. The end of a command
 * is reported on a descriptor of its own, which the command does not have: output cannot be taken
 * for the report.
 */
#include "hand/hand.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum {
    OUT_FD = 250, /* in the shell: where a command's output goes */
    REPORT_FD = 251,
    SHELL_FDS = 252,
    DRAIN_MAX = 4 << 20, /* read after a report: a job in the background may write for ever */
};

#define SCRIPT_MAX ((size_t)LIMIT_HAND_FRAME * 4)

void shell_init(struct shell *sh)
{
    *sh = (struct shell){.in = -1, .out = -1, .status = -1, .spill = {.fd = -1}};
    sh->script = BUF_INIT(SCRIPT_MAX);
    sh->output = BUF_INIT(4 * LIMIT_BASH_OUTPUT + DRAIN_MAX);
    /* For every shell. */
    setenv("PS1", "", 1);
    setenv("PS2", "", 1);
    setenv("TERM", "dumb", 1);
}

/* ---- starting a shell ---- */

/* By posix_spawn: a fork would first copy what the hand and the shell then both write to. All that
 * the hand has open is closed on exec. */
static int run_shell(const char *workdir, int in, int out, int report, pid_t *pid)
{
    static char *const argv[] = {"/bin/bash", "--noprofile", "--norc", NULL};
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    sigset_t none, back;
    sigemptyset(&none);
    proc_default_signals(&back);
    int rc = posix_spawn_file_actions_init(&fa);
    if (rc)
        return rc;
    rc = posix_spawnattr_init(&attr);
    if (rc) {
        posix_spawn_file_actions_destroy(&fa);
        return rc;
    }
    /* First out of the way of the targets, whatever numbers they have. */
    const int dups[][2] = {{in, SHELL_FDS}, {out, SHELL_FDS + 1},    {report, SHELL_FDS + 2},
                           {SHELL_FDS, 0},  {SHELL_FDS + 1, OUT_FD}, {SHELL_FDS + 2, REPORT_FD}};
    rc = posix_spawn_file_actions_addchdir_np(&fa, workdir);
    for (size_t i = 0; i < COUNT_OF(dups) && rc == 0; i++)
        rc = posix_spawn_file_actions_adddup2(&fa, dups[i][0], dups[i][1]);
    for (int i = 1; i < 3 && rc == 0; i++)
        rc = posix_spawn_file_actions_addopen(&fa, i, "/dev/null", O_RDWR, 0);
    rc = rc ? rc : posix_spawn_file_actions_addclosefrom_np(&fa, SHELL_FDS);
    rc = rc ? rc : posix_spawnattr_setsigmask(&attr, &none);
    rc = rc ? rc : posix_spawnattr_setsigdefault(&attr, &back);
    rc = rc ? rc
            : posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                  POSIX_SPAWN_SETSID);
    rc = rc ? rc : posix_spawn(pid, argv[0], &fa, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&fa);
    return rc;
}

static int open_pipes(int fds[6])
{
    for (int i = 0; i < 6; i++)
        fds[i] = -1;
    for (int i = 0; i < 6; i += 2)
        if (pipe2(fds + i, O_CLOEXEC) < 0)
            return errno;
    return 0;
}

static void close_all(const int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fd_close(fds[i]);
}

static bool shell_start(struct hand *h, char why[128])
{
    struct shell *sh = &h->shell;
    int fds[6];
    int sys = open_pipes(fds);
    pid_t pid = -1;
    sys = sys ? sys : run_shell(h->cfg.workdir, fds[0], fds[3], fds[5], &pid);
    if (sys == ENOENT || sys == ENOTDIR || sys == EACCES) /* it may be the directory */
        sys = run_shell("/", fds[0], fds[3], fds[5], &pid);
    if (sys) {
        close_all(fds, 6);
        snprintf(why, 128, "bash: cannot start a shell: %s",
                 sys == EAGAIN ? "too many processes run in the sandbox" : strerror(sys));
        return false;
    }
    close_all((int[]){fds[0], fds[3], fds[5]}, 3);
    sh->pid = pid;
    sh->oom_first = false;
    sh->in = fds[1];
    sh->out = fds[2];
    sh->status = fds[4];
    for (int i = 0; i < 3; i++)
        fcntl((int[]){sh->in, sh->out, sh->status}[i], F_SETFL, O_NONBLOCK);
    buf_clear(&sh->script);
    sh->report_len = 0;
    return true;
}

void shell_prepare(struct hand *h)
{
    char why[128];
    (void)shell_start(h, why);
}

/* What is left of a shell that is gone, or about to be. */
static void shell_forget(struct shell *sh)
{
    sh->pid = 0;
    fd_close(TAKE_FD(sh->in));
    fd_close(TAKE_FD(sh->out));
    fd_close(TAKE_FD(sh->status));
    buf_clear(&sh->script);
    sh->report_len = 0;
}

/* ---- one call ---- */

static void quote(struct buf *b, struct str s)
{
    buf_ch(b, '\'');
    while (str_some(s)) {
        buf_str(b, str_split(&s, '\''));
        if (str_some(s))
            buf_z(b, "'\\''");
    }
    buf_ch(b, '\'');
}

static bool parse_timeout(const struct hand *h, const struct json *input, int64_t *timeout_ms)
{
    const struct json *v = json_get(input, "timeout_ms");
    if (!v || v->type == JSON_NULL)
        return true;
    if (!json_i64(v, timeout_ms) || *timeout_ms < 1)
        return false;
    if (*timeout_ms > LIMIT_TOOL_MAX_MS)
        *timeout_ms = LIMIT_TOOL_MAX_MS;
    if (h->cfg.wall_ms && *timeout_ms > h->cfg.wall_ms)
        *timeout_ms = h->cfg.wall_ms;
    return true;
}

static void fail_call(struct hand *h, struct call *c, const char *text)
{
    call_done(h, c, str_z(text), true, NULL);
}

static void begin(struct hand *h, struct call *c, struct str command)
{
    struct shell *sh = &h->shell;
    char why[128];
    if (sh->pid == 0 && !shell_start(h, why)) {
        call_done(h, c, str_z(why), true, "pids");
        return;
    }
    if (!sh->oom_first) /* what the shell starts inherits it: it would only be a preference */
        sh->oom_first = proc_oom_first(sh->pid);
    sh->call = c;
    sh->seq++;
    sh->report_len = 0;
    sh->dropped = 0;
    buf_clear(&sh->output);
    spill_init(&sh->spill, h->cfg.spill_dir, c->id);
    buf_z(&sh->script, "eval ");
    quote(&sh->script, command);
    buf_printf(&sh->script,
               " </dev/null >&%d 2>&%d %d>&- %d>&-; builtin printf '%%d %%d\\n' %" PRIu64
               " $? >&%d\n",
               OUT_FD, OUT_FD, OUT_FD, REPORT_FD, sh->seq, REPORT_FD);
    c->deadline_us = clock_mono_us() + c->timeout_ms * 1000;
    hand_broadcast_started(h, c);
    shell_writable(h);
}

static void start_parsed(struct hand *h, struct call *c, const struct json *input)
{
    const struct json *command = json_get(input, "command");
    if (command && command->type == JSON_NULL)
        command = NULL;
    if (!parse_timeout(h, input, &c->timeout_ms)) {
        fail_call(h, c, "bash: timeout_ms must be a whole number of milliseconds, at least 1");
        return;
    }
    if (command && command->type != JSON_STRING) {
        fail_call(h, c, "bash: command must be a string");
        return;
    }
    struct str text = command ? command->str : STR_NONE;
    if (text.len && memchr(text.ptr, '\0', text.len)) {
        fail_call(h, c, "bash: the command contains a NUL character");
        return;
    }
    bool restart = json_is_true(json_get(input, "restart"));
    if (restart)
        shell_end(h, NULL, NULL, false);
    if (text.len)
        begin(h, c, text);
    else if (restart)
        call_done(h, c, STR("bash session restarted"), false, NULL);
    else
        fail_call(h, c, "bash: command is required");
}

void shell_start_call(struct hand *h, struct call *c)
{
    struct arena a;
    arena_init(&a, LIMIT_JSON_ARENA);
    const struct json *input;
    struct err err = {.code = 0};
    if (json_parse(&a, str_n(c->input, c->input_len), JSON_ALLOW_DUPLICATES, &input, &err) == 0)
        start_parsed(h, c, input);
    else
        fail_call(h, c, err.msg);
    arena_fini(&a);
}

/* ---- output ---- */

static void keep_bounded(struct shell *sh)
{
    if (sh->output.len <= 2 * (size_t)LIMIT_BASH_OUTPUT)
        return;
    size_t drop = sh->output.len - LIMIT_BASH_OUTPUT;
    if (sh->call)
        spill_put(&sh->spill, str_take(buf_view(&sh->output), drop));
    sh->dropped += drop;
    buf_consume(&sh->output, drop);
}

/* Reads what is there, at most `max` bytes. */
static void drain(struct hand *h, size_t max)
{
    struct shell *sh = &h->shell;
    size_t total = 0;
    while (sh->out >= 0 && total < max) {
        char *to = buf_reserve(&sh->output, 65536);
        ssize_t n = to ? read(sh->out, to, 65536) : -1;
        if (n == 0) /* nobody can write any more: not to be polled again */
            fd_close(TAKE_FD(sh->out));
        if (n <= 0)
            return;
        buf_commit(&sh->output, (size_t)n);
        total += (size_t)n;
        keep_bounded(sh);
    }
}

void shell_readable(struct hand *h)
{
    drain(h, 1 << 20);
    if (!h->shell.call) { /* something in the background wrote between two calls */
        buf_clear(&h->shell.output);
        h->shell.dropped = 0;
    }
}

/* The last 100 KiB, cleaned; the whole in a file where it is more than a model should see. */
static void output_text(struct hand *h, struct buf *text)
{
    struct shell *sh = &h->shell;
    uint64_t total = sh->dropped + sh->output.len;
    struct str tail = text_tail(buf_view(&sh->output), LIMIT_BASH_OUTPUT);
    bool cut = total > LIMIT_BASH_OUTPUT;
    struct buf clean = BUF_INIT(LIMIT_BASH_OUTPUT * 4);
    text_clean(&clean, tail, true);
    struct str s = text_trim_newlines(buf_view(&clean));
    bool big = s.len > LIMIT_SPILL_CHARS && str_utf8_len(s) > LIMIT_SPILL_CHARS;
    if (cut || big) {
        spill_put(&sh->spill, buf_view(&sh->output));
        buf_z(text, "[output truncated]\n");
        if (sh->spill.failed)
            buf_printf(text, "[%" PRIu64 " bytes in all; the rest could not be kept]\n", total);
        else
            buf_printf(text, "[%" PRIu64 " bytes in all; the complete output is in %s]\n", total,
                       sh->spill.path);
        if (big)
            s = text_tail(s, TEXT_PREVIEW);
    }
    buf_str(text, s);
    buf_fini(&clean);
}

/* The call is over: its own text, or `text` followed by what it had written. */
static void end_call(struct hand *h, const char *text, bool with_output, bool is_error,
                     const char *reason)
{
    struct shell *sh = &h->shell;
    struct call *c = TAKE_PTR(sh->call);
    AUTO_BUF struct buf out = BUF_INIT(LIMIT_BASH_OUTPUT * 5);
    AUTO_BUF struct buf all = BUF_INIT(LIMIT_BASH_OUTPUT * 5);
    if (with_output)
        output_text(h, &out);
    spill_close(&sh->spill);
    if (text) {
        buf_z(&all, text);
        if (out.len)
            buf_z(&all, "\noutput so far:\n");
    }
    buf_str(&all, buf_view(&out));
    buf_clear(&sh->output);
    sh->dropped = 0;
    call_done(h, c, buf_view(&all), is_error, reason);
}

static void finish(struct hand *h, int code)
{
    drain(h, DRAIN_MAX);
    char text[128];
    struct rlimit file;
    bool silent = h->shell.output.len == 0 && h->shell.dropped == 0;
    if (code == 128 + SIGXFSZ && getrlimit(RLIMIT_FSIZE, &file) == 0) {
        snprintf(text, sizeof text, "bash: a file reached the limit of %llu MB for one file",
                 (unsigned long long)file.rlim_cur >> 20);
        end_call(h, text, true, true, "disk");
        return;
    }
    snprintf(text, sizeof text, "exit %d", code);
    end_call(h, code && silent ? text : NULL, !(code && silent), code != 0, NULL);
}

void shell_reported(struct hand *h)
{
    struct shell *sh = &h->shell;
    ssize_t n =
        read(sh->status, sh->report + sh->report_len, sizeof sh->report - 1 - sh->report_len);
    if (n <= 0) {
        /* Closed by the shell itself: its exit ends the call. Not to be polled again. */
        if (n == 0 || errno != EAGAIN)
            fd_close(TAKE_FD(sh->status));
        return;
    }
    sh->report_len += (size_t)n;
    sh->report[sh->report_len] = '\0';
    unsigned long long seq;
    int code;
    char *nl = strrchr(sh->report, '\n');
    if (!nl) {
        if (sh->report_len == sizeof sh->report - 1)
            sh->report_len = 0;
        return;
    }
    *nl = '\0';
    const char *line = strrchr(sh->report, '\n');
    line = line ? line + 1 : sh->report;
    sh->report_len = 0;
    if (sscanf(line, "%llu %d", &seq, &code) == 2 && seq == sh->seq && sh->call)
        finish(h, code);
}

void shell_writable(struct hand *h)
{
    struct shell *sh = &h->shell;
    while (sh->in >= 0 && sh->script.len) {
        ssize_t n = write(sh->in, sh->script.data, sh->script.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) { /* it is gone; SIGCHLD says how */
            buf_clear(&sh->script);
            return;
        }
        buf_consume(&sh->script, (size_t)n);
    }
    if (sh->script.cap > (1 << 20)) {
        buf_fini(&sh->script);
        sh->script = BUF_INIT(SCRIPT_MAX);
    }
}

/* ---- ends ---- */

void shell_exited(struct hand *h, int wait_status)
{
    struct shell *sh = &h->shell;
    drain(h, DRAIN_MAX);
    shell_forget(sh);
    if (!sh->call)
        return;
    AUTO_BUF struct buf text = BUF_INIT(LIMIT_BASH_OUTPUT * 5);
    output_text(h, &text);
    if (text.len)
        buf_ch(&text, '\n');
    if (WIFSIGNALED(wait_status))
        buf_printf(&text, "bash: bash session terminated by signal %d; ", WTERMSIG(wait_status));
    else
        buf_printf(&text, "bash: bash session terminated (exit %d); ", WEXITSTATUS(wait_status));
    buf_z(&text, "the next command starts a fresh shell");
    spill_close(&sh->spill);
    buf_clear(&sh->output);
    sh->dropped = 0;
    call_done(h, TAKE_PTR(sh->call), buf_view(&text), true, NULL);
}

void shell_end(struct hand *h, const char *text, const char *reason, bool with_output)
{
    struct shell *sh = &h->shell;
    proc_kill_shell(h);
    drain(h, DRAIN_MAX);
    shell_forget(sh);
    if (sh->call)
        end_call(h, text, with_output, true, reason);
}
