/* main: picks the command. Everything else is in one file per command. */
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"

#include <stdio.h>
#include <unistd.h>

static void general_help(struct buf *out)
{
    buf_z(out, "Usage: ostler COMMAND [OPTIONS]\n\n"
               "A self-hosted operating layer for AI agents.\n\nCommands:\n");
    for (const struct cli_command *c = cli_commands; c->name; c++)
        buf_printf(out, "  %-13s %s\n", c->name, c->summary);
    buf_z(out,
          "\n`ostler COMMAND --help` has the options and examples of each, `ostler --version` the "
          "version.\n\n"
          "Examples:\n"
          "  ostler demo\n"
          "  ostler serve --data ./data --listen 127.0.0.1:8787\n"
          "  ostler run \"fix the failing test\" --dir . --model claude-sonnet-5-5\n\n"
          "Exit codes: 0 done, 1 the job failed, 2 usage, 3 cannot reach or start the server\n");
}

static int print(void (*make)(struct buf *out), int fd, int code)
{
    AUTO_BUF struct buf text = BUF_INIT(256 * 1024);
    make(&text);
    struct err err;
    return fd_write_all(fd, buf_view(&text), &err) ? CLI_FAILED : code;
}

static int unknown_command(const char *typed)
{
    const char *names[32];
    size_t n = 0;
    for (const struct cli_command *c = cli_commands; c->name && n < COUNT_OF(names); c++)
        names[n++] = c->name;
    const char *near = cli_nearest(typed, names, n);
    if (near)
        return cli_fail(CLI_USAGE, NULL, "unknown command '%s'; did you mean `ostler %s`?", typed,
                        near);
    return cli_fail(CLI_USAGE, NULL, "unknown command '%s'; `ostler --help` lists them", typed);
}

static const struct cli_command *find(const char *name)
{
    for (const struct cli_command *c = cli_commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return print(general_help, STDERR_FILENO, CLI_USAGE);
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        if (argc > 2 && strcmp(argv[2], "--man") == 0)
            return print(man_page, STDOUT_FILENO, CLI_OK);
        const struct cli_command *c = argc > 2 ? find(argv[2]) : NULL;
        if (argc > 2 && !c)
            return unknown_command(argv[2]);
        char help[] = "--help";
        return c ? c->run(2, (char *[]){argv[2], help, NULL})
                 : print(general_help, STDOUT_FILENO, CLI_OK);
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        name = "version";
    if (strcmp(name, "egress") == 0)
        return cmd_egress(argc - 1, argv + 1);
    const struct cli_command *c = find(name);
    return c ? c->run(argc - 1, argv + 1) : unknown_command(name);
}
