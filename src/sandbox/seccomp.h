/* seccomp: the filter of system calls that every process of a sandbox runs under.
 *
 * Made once, on a worker; the descriptor (a memfd with the BPF program) belongs to the caller.
 */
#ifndef OSTLER_SANDBOX_SECCOMP_H
#define OSTLER_SANDBOX_SECCOMP_H

#include "base/err.h"
#include "json/writer.h"

/* `memory_counted`: by a cgroup; else files of memory (memfd) are refused as well. */
int seccomp_make(bool memory_counted, int *fd, struct err *err) MUST_USE;
/* The same rules as `linux.seccomp` of an OCI runtime's configuration. */
void seccomp_write(struct jw *w, bool memory_counted);

#endif
