/* cgroup: limits of one sandbox by the kernel's control groups: version 2, version 1 or both
 * mounted.
 *
 * Plain calls on small kernel files; any thread. struct cgroups is found out once and then only
 * read.
 */
#ifndef OSTLER_SANDBOX_CGROUP_H
#define OSTLER_SANDBOX_CGROUP_H

#include "base/err.h"
#include "base/str.h"

#include <sys/types.h>

enum cgroup_kind { CGROUP_NONE, CGROUP_V1, CGROUP_V2 };
enum { CGROUP_DIRS = 3, CGROUP_PATH = 512 };

struct cgroups {
    enum cgroup_kind kind;
    /* Where a sandbox's group is made: v2 [0]; v1 memory, pids, cpu ("" for cpu: not there). */
    char base[CGROUP_DIRS][CGROUP_PATH];
    char mount[CGROUP_DIRS][CGROUP_PATH]; /* of their hierarchies */
    char reason[160];                     /* CGROUP_NONE: why */
};

struct cgroup_limits {
    int64_t memory_mb, pids, cpus;
};

struct cgroup_counters {
    int64_t oom_kills, pids_hits;
};

/* Tries, in the groups that this process may make groups in. */
void cgroups_detect(struct cgroups *cg, bool none); /* `none`: does not try */
/* Removes the directories that groups were made in, unless one is in use, by whatever server. */
void cgroups_close(const struct cgroups *cg);
/* An empty group; one of that name that is left over is taken over. */
int cgroup_make(const struct cgroups *cg, const char *name, const struct cgroup_limits *limits,
                struct err *err) MUST_USE;
/* The same in two steps: a memory limit takes the kernel up to a millisecond. */
int cgroup_begin(const struct cgroups *cg, const char *name, struct err *err) MUST_USE;
int cgroup_limit(const struct cgroups *cg, const char *name, const struct cgroup_limits *limits,
                 struct err *err) MUST_USE;
/* Paths of the files through which a process joins it; how many. */
size_t cgroup_procs(const struct cgroups *cg, const char *name,
                    char paths[CGROUP_DIRS][CGROUP_PATH + 128]);
/* Some programs know a group by one path in all hierarchies: from now on ours have one. */
void cgroups_align(struct cgroups *cg);
/* That path of a sandbox's group; false: there is none. */
bool cgroup_path(const struct cgroups *cg, const char *name, char out[CGROUP_PATH + 128]);
void cgroup_read(const struct cgroups *cg, const char *name, struct cgroup_counters *out);
/* Kills every process in it. */
void cgroup_kill(const struct cgroups *cg, const char *name);
/* Kills, waits up to two seconds for the group to empty, removes it. Blocks. */
void cgroup_remove(const struct cgroups *cg, const char *name);

#endif
