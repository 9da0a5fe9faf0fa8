/* pack: a directory into the tar that the workspace import takes, and tars back into a directory.
 *
 * Main thread, blocking. In a git repository the files that git knows or would know go in, with the
 * repository itself, so that the agent can ask for its history; what could carry a credential or
 * run on its own (remote URLs, hooks, submodule repositories) stays out.
 */
#ifndef OSTLER_CLI_PACK_H
#define OSTLER_CLI_PACK_H

#include "base/err.h"

#include <stdint.h>

struct pack_stats {
    int64_t files, bytes;
    int64_t skipped; /* sockets, devices, files that vanished, submodules */
    bool git;        /* `dir` is the top of a git repository */
    bool inside_git; /* `dir` lies in one, below its top: then `prefix` is where */
    char prefix[4096];
};

/* Writes a zstd-compressed tar into `fd`. INVALID when `dir` is no readable directory. */
int pack_directory(const char *dir, bool include_ignored, int fd, struct pack_stats *stats,
                   struct err *err) MUST_USE;

struct unpack_stats {
    int64_t files, bytes;
    int64_t skipped; /* links, devices, paths that would have led outside */
};

/* Unpacks regular files and directories of the tar in `fd` under `dir`, which is created when the
 * first one comes. Nothing that exists is overwritten; nothing is written outside. */
int unpack_tar(int fd, const char *dir, struct unpack_stats *stats, struct err *err) MUST_USE;

#endif
