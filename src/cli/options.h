/* options: the command line by table: parsing, help text and errors from one description.
 *
 * Main thread. Tables are built by the command, on its stack or static; string targets borrow argv.
 */
#ifndef OSTLER_CLI_OPTIONS_H
#define OSTLER_CLI_OPTIONS_H

#include "base/buf.h"

enum option_kind {
    OPTION_END,
    OPTION_FLAG, /* bool */
    OPTION_TEXT, /* const char * */
    OPTION_I64,  /* int64_t within min and max */
};

struct option_spec {
    const char *name; /* without the dashes */
    char letter;      /* 'h' for -h; 0: none */
    enum option_kind kind;
    void *target;
    const char *value; /* what the help calls its value: "DIR" */
    const char *help;  /* one line; NULL: not shown */
    int64_t min, max;
};

struct command_spec {
    const char *name;    /* "run" */
    const char *usage;   /* lines after "Usage: ", separated by '\n' */
    const char *summary; /* a sentence or two */
    const char *notes;   /* examples and exit codes, as they stand; or NULL */
    const struct option_spec *options;
    size_t min_words, max_words; /* positional arguments */
    const char *word_name;       /* for the message when one is missing: "TASK" */
    const char *const *choices;  /* what the first word may be, closed by NULL; or NULL */
    bool files;                  /* the words behind that one name files */
};

#define OPTION_WORDS_MAX 16
struct option_words {
    const char *word[OPTION_WORDS_MAX];
    size_t n;
    bool help; /* --help was asked for: nothing else was checked */
};

/* INVALID with `at` = the option, one line that names the remedy. "--" ends the options. */
int options_parse(const struct command_spec *spec, int argc, char **argv, struct option_words *out,
                  struct err *err) MUST_USE;
void options_help(const struct command_spec *spec, struct buf *out);
/* Parses; prints help or the error. Returns true when the command should go on; otherwise
 * *exit_code is what to return. */
bool options_begin(const struct command_spec *spec, int argc, char **argv, struct option_words *out,
                   int *exit_code) MUST_USE;
/* Has the command hand its description to `fn` instead of doing anything: what is made of the
 * tables (completion, manual page) cannot differ from them. */
struct cli_command;
void options_describe(const struct cli_command *command,
                      void (*fn)(void *arg, const struct command_spec *spec), void *arg);

#endif
