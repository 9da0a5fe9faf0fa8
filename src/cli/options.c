#include "cli/options.h"

#include "cli/cli.h"

#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"

static const struct option_spec *find(const struct command_spec *spec, struct str name)
{
    for (const struct option_spec *o = spec->options; o && o->kind != OPTION_END; o++)
        if (str_eqz(name, o->name))
            return o;
    return NULL;
}

static const struct option_spec *find_letter(const struct command_spec *spec, char letter)
{
    for (const struct option_spec *o = spec->options; o && o->kind != OPTION_END; o++)
        if (letter && o->letter == letter)
            return o;
    return NULL;
}

static int fail_unknown(const struct command_spec *spec, const char *typed, struct err *err)
{
    const char *names[64] = {"help"};
    size_t n = 1;
    for (const struct option_spec *o = spec->options; o && o->kind != OPTION_END; o++)
        if (o->help && n < COUNT_OF(names))
            names[n++] = o->name;
    const char *bare = typed + strspn(typed, "-");
    char cut[64];
    bool fits = str_copyz(cut, sizeof cut, str_n(bare, strcspn(bare, "=")));
    const char *near = fits ? cli_nearest(cut, names, n) : NULL;
    if (near)
        return err_at(err, ERR_INVALID, typed,
                      "unknown option %s; did you mean --%s? `ostler %s --help` lists them", typed,
                      near, spec->name);
    return err_at(err, ERR_INVALID, typed, "unknown option %s; `ostler %s --help` lists them",
                  typed, spec->name);
}

static int store_value(const struct option_spec *o, const char *value, struct err *err)
{
    if (o->kind == OPTION_TEXT) {
        *(const char **)o->target = value;
        return 0;
    }
    int64_t n;
    if (!str_i64(str_z(value), &n) || n < o->min || n > o->max)
        return err_at(err, ERR_INVALID, o->name, "--%s takes a number from %lld to %lld, not '%s'",
                      o->name, (long long)o->min, (long long)o->max, value);
    *(int64_t *)o->target = n;
    return 0;
}

/* One argument that starts with a dash. *i is moved over a value that stands on its own. */
static int parse_option(const struct command_spec *spec, int argc, char **argv, int *i,
                        struct err *err)
{
    const char *arg = argv[*i], *value = NULL;
    const struct option_spec *o;
    if (arg[1] == '-') {
        size_t len = strcspn(arg + 2, "=");
        o = find(spec, str_n(arg + 2, len));
        value = arg[2 + len] == '=' ? arg + 2 + len + 1 : NULL;
    } else {
        o = find_letter(spec, arg[1]);
        value = o && arg[2] ? arg + 2 : NULL;
    }
    if (!o)
        return fail_unknown(spec, arg, err);
    if (o->kind == OPTION_FLAG) {
        if (value)
            return err_at(err, ERR_INVALID, o->name, "--%s takes no value", o->name);
        *(bool *)o->target = true;
        return 0;
    }
    if (!value && *i + 1 < argc)
        value = argv[++*i];
    if (!value)
        return err_at(err, ERR_INVALID, o->name, "--%s needs a value: --%s %s", o->name, o->name,
                      o->value);
    return store_value(o, value, err);
}

static int check_words(const struct command_spec *spec, const struct option_words *w,
                       struct err *err)
{
    if (w->n < spec->min_words)
        return err_at(err, ERR_INVALID, spec->word_name, "%s is missing; usage: %.*s",
                      spec->word_name, (int)strcspn(spec->usage, "\n"), spec->usage);
    if (w->n > spec->max_words)
        return err_at(err, ERR_INVALID, w->word[spec->max_words],
                      "unexpected argument '%s'; quote text that holds blanks. Usage: %.*s",
                      w->word[spec->max_words], (int)strcspn(spec->usage, "\n"), spec->usage);
    return 0;
}

int options_parse(const struct command_spec *spec, int argc, char **argv, struct option_words *out,
                  struct err *err)
{
    *out = (struct option_words){0};
    bool only_words = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (!only_words && strcmp(arg, "--") == 0) {
            only_words = true;
        } else if (!only_words && arg[0] == '-' && arg[1]) {
            if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
                out->help = true;
                return 0;
            }
            int rc = parse_option(spec, argc, argv, &i, err);
            if (rc)
                return rc;
        } else if (out->n < OPTION_WORDS_MAX) {
            out->word[out->n++] = arg;
        }
    }
    return check_words(spec, out, err);
}

static void help_option(struct buf *out, const struct option_spec *o)
{
    char left[64];
    snprintf(left, sizeof left, "  %c%c%s --%s%s%s", o->letter ? '-' : ' ',
             o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name, o->value ? " " : "",
             o->value ? o->value : "");
    buf_printf(out, "%-30s %s\n", left, o->help);
}

void options_help(const struct command_spec *spec, struct buf *out)
{
    struct str lines = str_z(spec->usage);
    for (const char *lead = "Usage: "; str_some(lines); lead = "       ") {
        struct str line = str_split(&lines, '\n');
        buf_printf(out, "%s" STR_FMT "\n", lead, STR_ARG(line));
    }
    buf_printf(out, "\n%s\n\nOptions:\n", spec->summary);
    for (const struct option_spec *o = spec->options; o && o->kind != OPTION_END; o++)
        if (o->help)
            help_option(out, o);
    help_option(out, &(struct option_spec){.name = "help", .letter = 'h', .help = "this text"});
    if (spec->notes)
        buf_printf(out, "\n%s", spec->notes);
}

/* Set while a command is asked for its description. The table stands on the command's stack, so it
 * cannot be had in any other way. */
static struct {
    void (*fn)(void *arg, const struct command_spec *spec);
    void *arg;
} listener;

void options_describe(const struct cli_command *command,
                      void (*fn)(void *arg, const struct command_spec *spec), void *arg)
{
    char name[64], help[] = "--help";
    (void)str_copyz(name, sizeof name, str_z(command->name));
    listener.fn = fn;
    listener.arg = arg;
    (void)command->run(2, (char *[]){name, help, NULL});
    listener.fn = NULL;
}

bool options_begin(const struct command_spec *spec, int argc, char **argv, struct option_words *out,
                   int *exit_code)
{
    struct err err;
    if (listener.fn) {
        listener.fn(listener.arg, spec);
        *exit_code = CLI_OK;
        return false;
    }
    if (options_parse(spec, argc, argv, out, &err)) {
        *exit_code = cli_fail(CLI_USAGE, spec->name, "%s", err.msg);
        return false;
    }
    if (!out->help)
        return true;
    AUTO_BUF struct buf text = BUF_INIT(64 * 1024);
    options_help(spec, &text);
    *exit_code = fd_write_all(STDOUT_FILENO, buf_view(&text), &err) ? CLI_FAILED : CLI_OK;
    return false;
}
