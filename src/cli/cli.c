#include "cli/cli.h"

#include "base/fd.h"
#include "cli/term.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

const struct cli_command cli_commands[] = {
    {"serve", "run the server", cmd_serve},
    {"run", "give an agent a task on a directory and get a patch back", cmd_run},
    {"demo", "watch a scripted agent work and survive a killed server", cmd_demo},
    {"sessions", "list sessions", cmd_sessions},
    {"events", "show or follow a session's events", cmd_events},
    {"fork", "go on from a point of a session in a new one", cmd_fork},
    {"rewind", "the same, and archive the old session", cmd_rewind},
    {"files", "look at the files of a session, now or as of an event", cmd_files},
    {"replay", "build a session's model requests again; ask another agent or model", cmd_replay},
    {"environments", "make, list and remove the keys of self-hosted workers", cmd_environments},
    {"rubric", "show how a rubric is read, and what in it cannot be judged", cmd_rubric},
    {"outcome", "show verdicts, evidence and cost of a session's outcomes", cmd_outcome},
    {"keys", "create, list and revoke API keys", cmd_keys},
    {"worker", "run the tools of a self-hosted environment's sessions on this host", cmd_worker},
    {"doctor", "check what works on this host and say what to do about the rest", cmd_doctor},
    {"config", "check a configuration file, or print a commented one", cmd_config},
    {"completion", "print the completion for a shell", cmd_completion},
    {"routes", "print the HTTP routes this build serves", cmd_routes},
    {"version", "print the version", cmd_version},
    {NULL, NULL, NULL},
};

int cli_fail(int code, const char *command, const char *fmt, ...)
{
    char msg[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    /* The message may quote what a server or a file said: it must not drive the terminal. */
    AUTO_BUF struct buf out = BUF_INIT(8192);
    buf_printf(&out, "ostler%s%s: ", command ? " " : "", command ? command : "");
    term_safe_line(&out, str_z(msg));
    buf_ch(&out, '\n');
    struct err ignored;
    if (fd_write_all(STDERR_FILENO, buf_view(&out), &ignored))
        return code; /* stderr is gone: the exit code still says it */
    return code;
}

int cli_fail_err(const char *command, const struct err *err)
{
    int code = err->code == ERR_CONNECT ? CLI_SERVER : CLI_FAILED;
    return cli_fail(code, command, "%s%s", err->msg, cli_remedy(err));
}

const char *cli_remedy(const struct err *err)
{
    if (strstr(err->msg, "--data"))
        return "";
    if (err->code == ERR_READ_ONLY)
        return "; choose a writable data directory with --data DIR";
    if (err->code == ERR_NO_SPACE)
        return strstr(err->msg, "free some space")
                   ? ", or choose another data directory with --data DIR"
                   : "; free some space, or choose another data directory with --data DIR";
    return "";
}

enum { NAME_MAX_CHARS = 32 };

/* Damerau's distance (insert, delete, replace, swap neighbours), on short names only. */
static size_t distance(const char *a, size_t na, const char *b, size_t nb)
{
    size_t d[NAME_MAX_CHARS + 1][NAME_MAX_CHARS + 1];
    for (size_t i = 0; i <= na; i++)
        d[i][0] = i;
    for (size_t j = 0; j <= nb; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= na; i++)
        for (size_t j = 1; j <= nb; j++) {
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[na][nb];
}

const char *cli_nearest(const char *typed, const char *const *names, size_t n)
{
    const char *best = NULL;
    size_t len = strlen(typed), best_distance = len < 4 ? 2 : len / 3 + 2;
    if (len == 0 || len > NAME_MAX_CHARS)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        size_t name_len = strlen(names[i]);
        if (name_len > NAME_MAX_CHARS)
            continue;
        size_t d = distance(typed, len, names[i], name_len);
        /* "sess" means "sessions": a prefix of some length counts as near. */
        if (len >= 3 && len < name_len && strncmp(typed, names[i], len) == 0)
            d = 1;
        if (d < best_distance) {
            best_distance = d;
            best = names[i];
        }
    }
    return best;
}
