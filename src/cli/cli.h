/* cli: the commands of the program and what they share: exit codes, one-line errors.
 *
 * Main thread (which is the loop thread where a command runs a loop). Nothing here outlives main().
 */
#ifndef OSTLER_CLI_CLI_H
#define OSTLER_CLI_CLI_H

#include "base/err.h"

#include <stddef.h>

/* The exit codes of every command; documented in docs/operations.md. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,      /* the job, or what was asked for, failed */
    CLI_USAGE = 2,       /* the command line or the configuration is wrong */
    CLI_SERVER = 3,      /* the server cannot be reached or started */
    CLI_UNSATISFIED = 4, /* the job was done, and does not satisfy its rubric */
};

struct cli_command {
    const char *name, *summary;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns a cli_exit */
};

extern const struct cli_command cli_commands[]; /* closed by an empty name */

int cmd_serve(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_demo(int argc, char **argv);
int cmd_sessions(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_fork(int argc, char **argv);
int cmd_rewind(int argc, char **argv);
int cmd_files(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_environments(int argc, char **argv);
int cmd_rubric(int argc, char **argv);
int cmd_outcome(int argc, char **argv);
int cmd_keys(int argc, char **argv);
int cmd_worker(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_config(int argc, char **argv);
int cmd_completion(int argc, char **argv);
int cmd_routes(int argc, char **argv);
int cmd_version(int argc, char **argv);
int cmd_egress(int argc, char **argv); /* the server starts it: not in the list */

/* The manual page, in man(7), made of the commands' tables. */
struct buf;
void man_page(struct buf *out);

/* "ostler COMMAND: message" on stderr, one line; returns `code`. */
int cli_fail(int code, const char *command, const char *fmt, ...) PRINTF(3, 4);
/* The same for an error: CLI_USAGE for a wrong option, CLI_SERVER for CONNECT, else CLI_FAILED. */
int cli_fail_err(const char *command, const struct err *err);

/* What to do about an error of the data directory, to be put behind its message; "" where there is
 * nothing to add. */
const char *cli_remedy(const struct err *err);

/* The name nearest to `typed` among `names`, or NULL when none is near enough to be meant. */
const char *cli_nearest(const char *typed, const char *const *names, size_t n);

#endif
