/* The manual page, in man(7). What it says of commands and options comes from their tables. */
#include "base/buf.h"
#include "cli/cli.h"
#include "cli/options.h"

static const struct {
    const char *name, *text;
} environment[] = {
    {"OSTLER_DATA", "the data directory"},
    {"OSTLER_LISTEN", "the address that the server listens on"},
    {"OSTLER_CONFIG", "the configuration file"},
    {"OSTLER_API_KEY", "the server's first key at its first start; the key that commands send"},
    {"OSTLER_BASE_URL", "the server that commands talk to"},
    {"ANTHROPIC_API_KEY", "the key of the anthropic provider"},
    {"ANTHROPIC_BASE_URL", "its address"},
    {"OPENAI_API_KEY", "the key of the openai provider"},
    {"OPENAI_BASE_URL", "its address"},
    {"NO_COLOR", "no colours, also when the output is a terminal"},
};

static const struct {
    const char *name, *text;
} files[] = {
    {"~/.local/share/ostler/", "the data directory, where none is named"},
    {"DATA/api-key", "the first API key, if the first start had to make one"},
    {"DATA/lock", "who runs on the data directory, and where it listens"},
};

static const char *const exits[] = {"done", "the job, or what was asked for, failed",
                                    "the command line or the configuration is wrong",
                                    "the server cannot be reached or started",
                                    "the job was done, and does not satisfy its rubric"};

/* roff takes a line's first dot or quote for a request, and a backslash for an escape. */
static void put(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool first = i == 0 || text.ptr[i - 1] == '\n';
        if (first && (c == '.' || c == '\''))
            buf_z(out, "\\&");
        if (c == '\\')
            buf_z(out, "\\e");
        else if (c == '-')
            buf_z(out, "\\-");
        else if (c == '`')
            buf_z(out, "\\(ga");
        else
            buf_ch(out, c);
    }
}

static void put_z(struct buf *out, const char *z)
{
    put(out, str_z(z));
}

static void put_literal(struct buf *out, const char *text)
{
    buf_z(out, ".PP\n.nf\n");
    put_z(out, text);
    if (!str_ends(str_z(text), STR("\n")))
        buf_ch(out, '\n');
    buf_z(out, ".fi\n");
}

static void put_option(struct buf *out, const struct option_spec *o)
{
    buf_z(out, ".TP\n.B ");
    if (o->letter)
        buf_printf(out, "\\-%c, ", o->letter);
    put_z(out, "--");
    put_z(out, o->name);
    if (o->value) {
        buf_ch(out, ' ');
        put_z(out, o->value);
    }
    buf_ch(out, '\n');
    put_z(out, o->help);
    buf_ch(out, '\n');
}

static void put_usage(void *arg, const struct command_spec *spec)
{
    struct str lines = str_z(spec->usage);
    while (str_some(lines)) {
        buf_z(arg, ".br\n");
        put(arg, str_split(&lines, '\n'));
        buf_ch(arg, '\n');
    }
}

static void put_command(void *arg, const struct command_spec *spec)
{
    struct buf *out = arg;
    buf_z(out, ".SS ");
    put_z(out, spec->name);
    buf_ch(out, '\n');
    put_z(out, spec->summary);
    buf_ch(out, '\n');
    for (const struct option_spec *o = spec->options; o->kind != OPTION_END; o++)
        if (o->help)
            put_option(out, o);
    if (spec->notes)
        put_literal(out, spec->notes);
}

static void put_entry(struct buf *out, const char *name, const char *text)
{
    buf_z(out, ".TP\n.B ");
    put_z(out, name);
    buf_ch(out, '\n');
    put_z(out, text);
    buf_ch(out, '\n');
}

void man_page(struct buf *out)
{
    buf_z(out, ".TH OSTLER 1 \"\" \"ostler " OSTLER_VERSION "\" \"User Commands\"\n"
               ".SH NAME\nostler \\- a self\\-hosted operating layer for AI agents\n"
               ".SH SYNOPSIS\n.B ostler\n.I COMMAND\n[\\fIOPTIONS\\fR]\n");
    for (const struct cli_command *c = cli_commands; c->name; c++)
        options_describe(c, put_usage, out);
    buf_z(out, ".SH DESCRIPTION\n"
               "One program that keeps agent sessions in a durable log, calls the model, runs the\n"
               "tools in sandboxes, and goes on where it was when it is killed. It speaks the\n"
               "Claude Managed Agents HTTP API.\n"
               ".SH COMMANDS\n"
               "Each command also takes \\fB\\-\\-help\\fR; \\fBostler \\-\\-version\\fR prints "
               "the version.\n");
    for (const struct cli_command *c = cli_commands; c->name; c++)
        options_describe(c, put_command, out);
    buf_z(out, ".SH ENVIRONMENT\n");
    for (size_t i = 0; i < COUNT_OF(environment); i++)
        put_entry(out, environment[i].name, environment[i].text);
    buf_z(out, ".SH FILES\n");
    for (size_t i = 0; i < COUNT_OF(files); i++)
        put_entry(out, files[i].name, files[i].text);
    buf_z(out, ".SH EXIT STATUS\n");
    for (size_t i = 0; i < COUNT_OF(exits); i++)
        put_entry(out, (const char[]){(char)('0' + i), '\0'}, exits[i]);
    buf_z(out, ".SH SEE ALSO\n.BR bwrap (1)\n");
}
