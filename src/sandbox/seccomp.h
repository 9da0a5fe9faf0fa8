/* seccomp: the filter of system calls that every process of a sandbox runs under.
 *
 * Made once, on a worker; the descriptor (a memfd with the BPF program) belongs to the caller.
 */
#ifndef OSTLER_SANDBOX_SECCOMP_H
#define OSTLER_SANDBOX_SECCOMP_H

#include "base/err.h"

int seccomp_make(int *fd, struct err *err) MUST_USE;

#endif
