/* lock: who owns a data directory: an open-file-description lock on DATA/lock and DATA/owners/<id>.
 *
 * Main thread. The kernel drops the locks when the process ends in any way, so a dead owner is
 * known at once. DATA/lock also says where its owner listens, for commands on the same host.
 */
#ifndef OSTLER_CLI_LOCK_H
#define OSTLER_CLI_LOCK_H

#include "base/err.h"
#include "base/id.h"

#define LOCK_PATH_MAX 4096

struct lock {
    int fd, owner_fd; /* -1: not held */
    struct id owner;
    char owner_path[LOCK_PATH_MAX];
};

/* Creates the directory (mode 0700) and takes it. CONFLICT naming the other process; READ_ONLY,
 * NO_SPACE or IO. Removes what dead owners left. */
int lock_take(struct lock *l, const char *data, struct err *err) MUST_USE;
/* Where it listens (empty: no longer, or not yet) and the model that `ostler run` takes when none
 * is named. */
int lock_announce(const struct lock *l, const char *url, const char *model,
                  struct err *err) MUST_USE;
void lock_release(struct lock *l);

struct lock_owner {
    int pid;         /* 0: nobody holds the directory */
    char url[256];   /* empty: not listening yet */
    char model[256]; /* its default model; empty: not told */
};
void lock_look(const char *data, struct lock_owner *out);
/* True for URLs of this host: only those may be given the data directory's own key. */
bool lock_url_is_local(const char *url);

#endif
