#include "cli/cli.h"
#include "cli/config.h"
#include "cli/job.h"
#include "cli/options.h"
#include "core/outcome.h"

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
    "With --rubric an independent grader examines the files after each turn, in a copy of them, "
    "and\n"
    "the agent revises its work until all criteria are met or no iteration is left. What a rubric\n"
    "file looks like and what in it cannot be judged: `ostler rubric --help`.\n"
    "\n"
    "Ctrl-C interrupts the agent; a second one leaves the session running.\n"
    "\n"
    "Examples:\n"
    "  ostler run \"find and fix the failing test\" --dir . --model claude-sonnet-5-5\n"
    "  ostler run \"say hello\" --dir /tmp/project --model script/demo --out /tmp/change.patch\n"
    "\n"
    "  ostler run \"port it to C17\" --dir . --rubric rubric.yaml --max-iterations 5\n"
    "\n"
    "Exit codes: 0 done, and the rubric is satisfied where there is one; 1 the job failed, 2 "
    "usage,\n"
    "3 cannot reach or start the server, 4 done, but the rubric is not satisfied\n";

int cmd_run(int argc, char **argv)
{
    struct job_options o = {.dir = NULL};
    const char *rubric_path = NULL;
    struct rubric_file rubric;
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
        {"rubric", 0, OPTION_TEXT, &rubric_path, "FILE",
         "what the result is graded by (Markdown or YAML)", 0, 0},
        {"max-iterations", 0, OPTION_I64, &o.max_iterations, "N",
         "gradings at most (the rubric's, else 3)", 1, OUTCOME_ITERATIONS_MAX},
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
        .max_words = 1, /* a rubric may describe the task */
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
    if (o.max_iterations && !rubric_path)
        return cli_fail(CLI_USAGE, "run", "--max-iterations goes with --rubric FILE");
    AUTO_ARENA struct arena a;
    arena_init(&a, 64 * 1024 * 1024);
    struct err err;
    if (rubric_path && rubric_file_read(&a, rubric_path, &rubric, &err))
        return cli_fail(CLI_USAGE, "run", "--rubric: %s", err.msg);
    o.rubric = rubric_path ? &rubric : NULL;
    o.task = words.n ? words.word[0] : o.rubric ? arena_strz(&a, rubric.description) : NULL;
    if (!o.task || (!words.n && !str_some(rubric.description)))
        return cli_fail(CLI_USAGE, "run", "TASK is missing; usage: %s", spec.usage);
    if (!str_trim(str_z(o.task)).len || !str_utf8(str_z(o.task)))
        return cli_fail(CLI_USAGE, "run", "TASK must be text in UTF-8, and not empty");
    if (!o.data && config_default_data(&a, &o.data, &err))
        return cli_fail(CLI_USAGE, "run", "%s", err.msg);
    return job_run(&o, "run");
}
