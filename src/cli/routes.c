#include "api/routes.h"

#include "base/fd.h"
#include "cli/cli.h"
#include "cli/options.h"

#include <unistd.h>

static int print(struct buf *out)
{
    struct err err;
    return fd_write_all(STDOUT_FILENO, buf_view(out), &err) ? CLI_FAILED : CLI_OK;
}

int cmd_routes(int argc, char **argv)
{
    bool extensions = false;
    const struct option_spec options[] = {
        {"extensions", 0, OPTION_FLAG, &extensions, NULL, "only those the published API lacks", 0,
         0},
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {
        .name = "routes",
        .usage = "ostler routes [--extensions]",
        .summary = "Prints the HTTP routes that this build serves, \"METHOD /path\" a line; {}\n"
                   "stands for an id.",
        .notes = "Examples:\n  ostler routes | sort\n\nExit codes: 0 done, 2 usage\n",
        .options = options};
    struct option_words words;
    int code;
    if (!options_begin(&spec, argc, argv, &words, &code))
        return code;
    AUTO_BUF struct buf out = BUF_INIT(1024 * 1024);
    for (size_t i = 0; i < route_count; i++)
        if (!extensions || route_table[i].extension)
            buf_printf(&out, "%s %s\n", route_table[i].method, route_table[i].pattern);
    return print(&out);
}

int cmd_version(int argc, char **argv)
{
    const struct option_spec options[] = {{.kind = OPTION_END}};
    const struct command_spec spec = {.name = "version",
                                      .usage = "ostler version",
                                      .summary = "Prints the version.",
                                      .notes = "Exit codes: 0 done, 2 usage\n",
                                      .options = options};
    struct option_words words;
    int code;
    if (!options_begin(&spec, argc, argv, &words, &code))
        return code;
    AUTO_BUF struct buf out = BUF_INIT(256);
    buf_z(&out, "ostler " OSTLER_VERSION "\n");
    return print(&out);
}
