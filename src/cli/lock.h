/* lock: which server processes run on a data directory.
 *
 * Main thread. DATA/lock is held while one starts: migrations, the first key and what is tidied up
 * at start are done by one at a time. DATA/owners/ID (engine/owner.h) is held while one lives, and
 * says where it listens, for commands on the same host.
 */
#ifndef OSTLER_CLI_LOCK_H
#define OSTLER_CLI_LOCK_H

#include "engine/owner.h"

#define LOCK_PATH_MAX 4096

struct lock {
    int fd; /* of DATA/lock; -1: not held */
    struct owner owner;
};

/* Creates the directory (mode 0700); waits while another process starts on it, CONFLICT when that
 * takes too long. READ_ONLY, NO_SPACE or IO. Removes what dead owners left. */
int lock_take(struct lock *l, const char *data, struct err *err) MUST_USE;
void lock_started(struct lock *l); /* the next may start */
/* Where it listens (empty: no longer, or not yet) and the model that `ostler run` takes when none
 * is named. */
int lock_announce(const struct lock *l, const char *url, const char *model,
                  struct err *err) MUST_USE;
void lock_release(struct lock *l);

struct lock_owner {
    int pid;         /* 0: no server runs; of several the first that listens */
    char url[256];   /* empty: not listening yet */
    char model[256]; /* its default model; empty: not told */
};
void lock_look(const char *data, struct lock_owner *out);
/* True for URLs of this host: only those may be given the data directory's own key. */
bool lock_url_is_local(const char *url);

#endif
