/* tree: whole directories on the host: measured and removed. Blocking; for the worker pool. What
 * lies in them was written by sandboxes, so no symbolic link is followed.
 */
#ifndef OSTLER_SANDBOX_TREE_H
#define OSTLER_SANDBOX_TREE_H

#include "base/err.h"

#include <stdint.h>

/* Blocks in use below `path`, in bytes; hard links count once each. */
uint64_t tree_usage(const char *path);
/* Like rm -rf; a path that is not there is fine. */
int tree_remove(const char *path, struct err *err);

#endif
