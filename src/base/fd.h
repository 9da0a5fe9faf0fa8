/* fd: file descriptors. Every descriptor is CLOEXEC from birth. Blocking calls: not for the loop
 * thread, except on small local files at start.
 */
#ifndef OSTLER_BASE_FD_H
#define OSTLER_BASE_FD_H

#include "base/buf.h"

void fd_close(int fd); /* ignores -1; keeps errno */
static inline void fd_cleanup(const int *fd)
{
    fd_close(*fd);
}
#define AUTO_FD CLEANUP(fd_cleanup)

int fd_write_all(int fd, struct str data, struct err *err) MUST_USE;
/* Appends to `out` until end of file; TOO_LARGE past out->max. */
int fd_read_all(int fd, struct buf *out, struct err *err) MUST_USE;
int fd_read_file(const char *path, struct buf *out, struct err *err) MUST_USE;
/* Writes a temporary beside `path`, fsyncs, renames over it, fsyncs the directory. */
int fd_write_file_atomic(const char *path, struct str data, unsigned mode,
                         struct err *err) MUST_USE;
int fd_mkdirs(const char *path, unsigned mode, struct err *err) MUST_USE; /* like mkdir -p */

#endif
