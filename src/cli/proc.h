/* proc: a short-lived helper program, run to its end (git, for the most part).
 *
 * Main thread, blocking: before and after the loop has work, not during it. Its output goes through
 * an unlinked file, so that neither side can wait for the other.
 */
#ifndef OSTLER_CLI_PROC_H
#define OSTLER_CLI_PROC_H

#include "base/buf.h"

struct proc {
    const char *const *argv; /* argv[0] searched on PATH; NULL at the end */
    const char *cwd;         /* NULL: this one */
    struct buf *out;         /* its stdout is appended; NULL: thrown away */
    struct buf *log;         /* its stderr is appended; NULL: thrown away */
};

/* Returns its exit status (128 + signal when killed), or a negative error when it cannot be run. */
int proc_run(const struct proc *p, struct err *err) MUST_USE;

/* git -C dir ARGS...; 0 on success, INVALID with the first line git said otherwise. `args` ends
 * with NULL, at most 16. NOT_FOUND when git is not installed. */
int git_run(const char *dir, const char *const *args, struct buf *out, struct err *err) MUST_USE;

/* Absolute path of this program. */
int proc_self(char out[4096], struct err *err) MUST_USE;

#endif
