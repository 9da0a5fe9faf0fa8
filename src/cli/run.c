#include "cli/cli.h"
#include "cli/config.h"
#include "cli/job.h"
#include "cli/options.h"

#include <errno.h>
#include <unistd.h>

static const char notes[] =
    "The directory is copied into a sandbox; your files are not touched. In a git repository the\n"
    "files that git tracks or would add are taken, with the history, but without remotes and "
    "hooks.\n"
    "The agent's changes come back as a patch, and what it put under /mnt/session/outputs as "
    "files.\n"
    "\n"
    "The server is the one of --server or OSTLER_BASE_URL, else the one that runs on the data\n"
    "directory, else one of its own that is stopped at the end. The key is OSTLER_API_KEY, else\n"
    "DATA/api-key. Without --model the server's default is taken: a real model if the server has "
    "a\n"
    "provider's key (ANTHROPIC_API_KEY), else script/demo, which is a script.\n"
    "\n"
    "Ctrl-C interrupts the agent; a second one leaves the session running.\n"
    "\n"
    "Examples:\n"
    "  ostler run \"find and fix the failing test\" --dir . --model claude-sonnet-5-5\n"
    "  ostler run \"say hello\" --dir /tmp/project --model script/demo --out /tmp/change.patch\n"
    "\n"
    "Exit codes: 0 done, 1 the job failed, 2 usage, 3 cannot reach or start the server\n";

int cmd_run(int argc, char **argv)
{
    struct job_options o = {.dir = NULL};
    const struct option_spec options[] = {
        {"dir", 0, OPTION_TEXT, &o.dir, "DIR", "the directory to work on (required)", 0, 0},
        {"model", 'm', OPTION_TEXT, &o.model, "MODEL", "model id, for example claude-sonnet-5-5", 0,
         0},
        {"server", 0, OPTION_TEXT, &o.server, "URL", "server to use [OSTLER_BASE_URL]", 0, 0},
        {"data", 0, OPTION_TEXT, &o.data, "DIR", "data directory [OSTLER_DATA]", 0, 0},
        {"out", 'o', OPTION_TEXT, &o.out, "FILE", "the patch (ostler-<session>.patch)", 0, 0},
        {"outputs", 0, OPTION_TEXT, &o.outputs, "DIR",
         "the agent's files (ostler-outputs-<session>)", 0, 0},
        {"system", 0, OPTION_TEXT, &o.system, "TEXT", "system prompt instead of the short default",
         0, 0},
        {"budget", 0, OPTION_I64, &o.budget_cents, "CENTS",
         "stop before the model's list prices sum up to more", 1, 999999999999},
        {"timeout", 0, OPTION_I64, &o.timeout_s, "S", "interrupt after so many seconds", 1, 604800},
        {"allow", 0, OPTION_TEXT, &o.allow, "HOST,...",
         "hosts that the agent's programs may reach (none)", 0, 0},
        {"include-ignored", 0, OPTION_FLAG, &o.include_ignored, NULL,
         "bring in what git ignores, too", 0, 0},
        {"keep", 0, OPTION_FLAG, &o.keep, NULL, "do not archive the session at the end", 0, 0},
        {"json", 0, OPTION_FLAG, &o.json, NULL, "events as JSON lines, the result as the last", 0,
         0},
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {
        .name = "run",
        .usage = "ostler run \"TASK\" --dir DIR [OPTIONS]",
        .summary =
            "Gives an agent a task on a copy of a directory, shows what it does, and writes\n"
            "its changes as a patch.",
        .notes = notes,
        .options = options,
        .min_words = 1,
        .max_words = 1,
        .word_name = "TASK",
    };
    struct option_words words;
    int code;
    if (!options_begin(&spec, argc, argv, &words, &code))
        return code;
    if (!o.dir)
        return cli_fail(CLI_USAGE, "run", "--dir is missing: name the directory to work on");
    if (access(o.dir, R_OK | X_OK) < 0)
        return cli_fail(CLI_USAGE, "run", "--dir %s: %s", o.dir, strerror(errno));
    o.task = words.word[0];
    if (!str_trim(str_z(o.task)).len || !str_utf8(str_z(o.task)))
        return cli_fail(CLI_USAGE, "run", "TASK must be text in UTF-8, and not empty");
    AUTO_ARENA struct arena a;
    arena_init(&a, 64 * 1024);
    struct err err;
    if (!o.data && config_default_data(&a, &o.data, &err))
        return cli_fail(CLI_USAGE, "run", "%s", err.msg);
    return job_run(&o, "run");
}
