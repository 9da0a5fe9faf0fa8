/* mirrors: the cache of fetched repositories, DATA/repositories/NAME.git. Blocking; for the worker
 * pool. Several server processes may share it.
 *
 * NAME.use beside a mirror is locked by whoever needs it, from before the fetch until after the
 * checkout; when it was last taken is its time. Who removes mirrors, or takes one, has `.lock`.
 */
#ifndef OSTLER_SANDBOX_MIRRORS_H
#define OSTLER_SANDBOX_MIRRORS_H

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

/* Makes the mirror `dir`/`name`.git if it is not there, of the user `uid` (0: ours); until *use is
 * closed nobody removes it. */
int mirror_take(const char *dir, const char *name, uid_t uid, int *use, struct err *err) MUST_USE;
/* Removes what nobody has taken for LIMIT_REPOSITORY_DAYS; then, until the others have no more than
 * `max_bytes`, what was taken longest ago. What is in use stays. `now_s`: the time. */
void mirrors_prune(const char *dir, uint64_t max_bytes, int64_t now_s);

#endif
