/* recipe: a sandbox as data: what it sees, what it may write, what it starts; turned into the
 * command line of the launcher and the arguments of bubblewrap.
 *
 * Built by one thread, used once, freed by recipe_fini(). Bubblewrap's arguments travel in a memfd,
 * so that variables do not show in the host's process list.
 */
#ifndef OSTLER_SANDBOX_RECIPE_H
#define OSTLER_SANDBOX_RECIPE_H

#include "base/arena.h"

#include <sys/types.h>

enum { RECIPE_ARGV = 128, RECIPE_MOUNTS = 20 };

struct recipe_mount {
    const char *host, *inside;
    bool writable;
};

/* What programs and libraries it sees; all NULL: the host's, as they are. */
struct recipe_root {
    const char *base; /* unpacked root instead of the host's */
    /* Directories of a layer, merged over /usr and under /etc by the kernel (overlay). */
    const char *usr, *etc;
};

struct recipe_how {
    struct recipe_root root;
    bool host_network;    /* only for what the operator's own sources need (build.h) */
    const char *launcher; /* the hand's executable */
    const char *etc;      /* directory that is shown as /etc */
    uid_t uid;            /* run as; 0: as ourselves */
    struct recipe_mount mounts[RECIPE_MOUNTS];
    size_t nmounts;
    const char *const *joins; /* cgroup.procs files */
    size_t njoins;
    const char *const *variables; /* name, value, ..., NULL */
    const char *const *command;   /* NULL-terminated */
    const char *chdir;
    int64_t file_mb, cpu_seconds, memory_mb; /* rlimits; 0: none */
    int64_t shm_mb;                          /* of /dev/shm; 0: as much as there ever is */
    int args_fd, seccomp_fd, info_fd;        /* numbers in the child; info_fd -1: none */
    int args_into; /* a memfd of the caller's, for what the child gets as args_fd; 0: one is made */
    /* Mounts nest in nothing but directories that are made for them: the launcher, where it is
     * root, lays out the whole root, which costs bubblewrap much less than one mount after the
     * other. */
    bool flat;
    bool pid1; /* the command is pid 1 itself */
    bool die_with_server;
    bool read_only; /* the root, where it could be written to otherwise */
    bool unsafe;    /* no bubblewrap: the command as it is, with the mounts' paths on the host */
};

struct recipe {
    struct arena arena;
    const char *argv[RECIPE_ARGV];
    size_t n;
    int args; /* memfd: what the child gets as args_fd; -1: it is the caller's */
};

/* An argument more of the launcher or of what it starts; kept, with arena.failed when it does not
 * fit. */
void recipe_add(struct recipe *r, const char *arg);
void recipe_add_number(struct recipe *r, const char *name, int64_t n);
/* The directory over which the launcher puts what it shows to a sandbox. */
const char *recipe_stage(void);
/* Copies everything it needs of `how`. */
int recipe_build(struct recipe *r, const struct recipe_how *how, struct err *err) MUST_USE;
/* The launcher's arguments, for one that was started with --args and reads them from a pipe. */
int recipe_tell(const struct recipe *r, int to, struct err *err) MUST_USE;
void recipe_fini(struct recipe *r);

#endif
