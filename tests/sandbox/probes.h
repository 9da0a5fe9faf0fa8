/* probes: what an attacker inside a sandbox would try, as tables: each row is a test of its own,
 * reported by its name.
 *
 * Rows run in one sandbox after the other, in the order of the tables; a row leaves nothing behind
 * that the next one would see. Placeholders in a command: {dir} the fixture's directory on the
 * host, {data} and {run} the server's directories in it, {pid} the server's process.
 */
#ifndef OSTLER_TESTS_SANDBOX_PROBES_H
#define OSTLER_TESTS_SANDBOX_PROBES_H

#include "fixture.h"

struct probe {
    const char *name;   /* what is reported */
    const char *attack; /* what somebody would try, or what must hold */
    /* A command for bash, and what it must say: all of it, or "*x": x is in it, "!x": it is not. */
    const char *command, *says;
    void (*run)(struct fixture *f); /* instead of a command */
};

struct probe_table {
    const struct probe *rows;
    size_t n;
};

/* Of the mode "oci": rows that stand for those of the same name elsewhere (neither command nor
 * `run`: there is nothing to hold), and rows of its own. */
extern const struct probe_table probes_oci;

extern const struct probe_table probes_host, probes_system, probes_privilege, probes_calls,
    probes_network, probes_files, probes_limits;

#define PROBE_TABLE(name) const struct probe_table name = {rows, sizeof rows / sizeof rows[0]}

#define PY "python3 -c '"
/* libc's syscall() by number: seccomp is asked, not a wrapper. x86-64 numbers. */
#define CALL(number, args)                                                                         \
    PY "import ctypes,os; l=ctypes.CDLL(None,use_errno=True); r=l.syscall(" number args            \
       "); print(r, os.strerror(ctypes.get_errno()))'"

#define EPERM_SAID "-1 Operation not permitted"
#define ENOSYS_SAID "-1 Function not implemented"

/* ---- modes.c: where the server of the probes runs ---- */

enum mode {
    MODE_ROOT,             /* as root on the host */
    MODE_ROOTLESS,         /* as an ordinary user, who is made up when started as root */
    MODE_OCI,              /* as root on the host, with the OCI driver and the host's own root */
    MODE_CONTAINER_ROOT,   /* in a container as the host's root */
    MODE_CONTAINER,        /* in one as a root that is nobody outside and has one user id */
    MODE_CONTAINER_LOCKED, /* the same, and may make no user namespaces */
    MODE_CONTAINER_MASKED, /* the same, but parts of /proc are hidden instead */
    MODES
};

extern const char *const mode_names[MODES];
/* -1: there is no mode of that name. */
int mode_find(const char *name);
/* Runs this program again in the mode, as `PROGRAM HAND --in MODE`, and returns its exit code, 77
 * where this host cannot do it (the reason is printed). */
int mode_run(enum mode m, const char *hand);

#endif
