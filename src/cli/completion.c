#include "base/fd.h"
#include "cli/cli.h"
#include "cli/options.h"

#include <unistd.h>

/* Everything below comes from the commands' own tables (options_describe()). */

static const char head[] =
    "# bash completion for ostler; printed by `ostler completion bash`.\n"
    "_ostler()\n"
    "{\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
    "    local options='' dirs='' files='' texts='' choices='' levels='' more=''\n"
    "    COMPREPLY=()\n"
    "    # readline cuts --data=x into three words\n"
    "    if [[ $cur == '=' ]]; then\n"
    "        cur=''\n"
    "    elif [[ $prev == '=' && $COMP_CWORD -ge 2 ]]; then\n"
    "        prev=${COMP_WORDS[COMP_CWORD-2]}\n"
    "    fi\n";

static const char tail[] =
    "    if [[ \" $dirs \" == *\" $prev \"* ]]; then\n"
    "        compopt -o filenames 2>/dev/null\n"
    "        mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")\n"
    "    elif [[ \" $files \" == *\" $prev \"* ]]; then\n"
    "        compopt -o filenames 2>/dev/null\n"
    "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
    "    elif [[ \" $levels \" == *\" $prev \"* ]]; then\n"
    "        mapfile -t COMPREPLY < <(compgen -W 'debug info warn error' -- \"$cur\")\n"
    "    elif [[ \" $texts \" == *\" $prev \"* ]]; then\n"
    "        return\n"
    "    elif [[ $cur == -* ]]; then\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n"
    "    elif [[ -n $choices && $COMP_CWORD -eq 2 ]]; then\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$choices\" -- \"$cur\")\n"
    "    elif [[ -n $more ]]; then\n"
    "        compopt -o filenames 2>/dev/null\n"
    "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
    "    fi\n"
    "}\n"
    "complete -F _ostler ostler\n";

/* How an option's value is completed follows from what the help calls it. */
static bool takes(const struct option_spec *o, const char *variable)
{
    static const struct {
        const char *value, *variable;
    } known[] = {{"DIR", "dirs"}, {"FILE", "files"}, {"LEVEL", "levels"}};
    if (o->kind == OPTION_FLAG)
        return false;
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (strcmp(o->value, known[i].value) == 0)
            return strcmp(variable, known[i].variable) == 0;
    return strcmp(variable, "texts") == 0;
}

static void put_options(struct buf *out, const struct command_spec *spec, const char *variable)
{
    const char *lead = "";
    bool all = strcmp(variable, "options") == 0;
    buf_printf(out, " %s='", variable);
    for (const struct option_spec *o = spec->options; o->kind != OPTION_END; o++) {
        if (!o->help || !(all || takes(o, variable)))
            continue;
        buf_printf(out, "%s--%s", lead, o->name);
        lead = " ";
        if (o->letter && !all)
            buf_printf(out, " -%c", o->letter);
    }
    buf_printf(out, "%s'", all ? " --help" : "");
}

static void put_command(void *arg, const struct command_spec *spec)
{
    struct buf *out = arg;
    static const char *const variables[] = {"options", "dirs", "files", "levels", "texts"};
    buf_printf(out, "    %s)\n       ", spec->name);
    for (size_t i = 0; i < COUNT_OF(variables); i++)
        put_options(out, spec, variables[i]);
    buf_z(out, " choices='");
    for (size_t i = 0; spec->choices && spec->choices[i]; i++)
        buf_printf(out, "%s%s", i ? " " : "", spec->choices[i]);
    buf_printf(out, "' more='%s' ;;\n", spec->files ? "files" : "");
}

static void put_names(struct buf *out)
{
    for (const struct cli_command *c = cli_commands; c->name; c++)
        buf_printf(out, "%s ", c->name);
}

static void bash(struct buf *out)
{
    buf_z(out, head);
    buf_z(out, "    if [[ $COMP_CWORD -eq 1 ]]; then\n"
               "        mapfile -t COMPREPLY < <(compgen -W '");
    put_names(out);
    buf_z(out, "help --help --version' -- \"$cur\")\n"
               "        return\n"
               "    fi\n"
               "    case ${COMP_WORDS[1]} in\n"
               "    help) choices='");
    put_names(out);
    buf_z(out, "' ;;\n");
    for (const struct cli_command *c = cli_commands; c->name; c++)
        options_describe(c, put_command, out);
    buf_z(out, "    esac\n");
    buf_z(out, tail);
}

int cmd_completion(int argc, char **argv)
{
    const struct option_spec options[] = {{.kind = OPTION_END}};
    const struct command_spec spec = {
        .name = "completion",
        .usage = "ostler completion bash",
        .summary = "Prints the completion for a shell: commands, options, files.",
        .notes = "Examples:\n"
                 "  source <(ostler completion bash)\n"
                 "  ostler completion bash > ~/.local/share/bash-completion/completions/ostler\n"
                 "\n"
                 "Exit codes: 0 done, 2 usage\n",
        .options = options,
        .min_words = 1,
        .max_words = 1,
        .word_name = "the shell (bash)",
        .choices = (const char *const[]){"bash", NULL}};
    struct option_words words;
    int code;
    if (!options_begin(&spec, argc, argv, &words, &code))
        return code;
    if (strcmp(words.word[0], "bash") != 0)
        return cli_fail(CLI_USAGE, "completion", "'%s' is not a shell known here; there is bash",
                        words.word[0]);
    AUTO_BUF struct buf out = BUF_INIT(256 * 1024);
    bash(&out);
    struct err err;
    return fd_write_all(STDOUT_FILENO, buf_view(&out), &err) ? CLI_FAILED : CLI_OK;
}
