/* tree: whole directories on the host: measured and removed. Blocking; for the worker pool. What
 * lies in them was written by sandboxes, so no symbolic link is followed.
 */
#ifndef OSTLER_SANDBOX_TREE_H
#define OSTLER_SANDBOX_TREE_H

#include "base/err.h"

#include <stdint.h>

/* Blocks in use below `path`, in bytes; hard links count once each. */
uint64_t tree_usage(const char *path);
/* Brings `to` up to date with `from`: directories, symbolic links and what everybody may read of
 * the files up to 4 MB. Replaces single files atomically and removes nothing, so that `to` may be
 * in use. What is not there or cannot be read is left out. */
int tree_copy(const char *from, const char *to, struct err *err);
/* Like rm -rf; a path that is not there is fine. */
int tree_remove(const char *path, struct err *err);

#endif
